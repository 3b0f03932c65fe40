//! How much of something scarce each owner has: polls in flight, look-ups, large answers.
//!
//! An owner takes no more than its own bound, and only if it has less than is free. So the more
//! owners there are that take all they can, the less each of them has: `n` owners that take turns
//! have about `total / (n + 1)` each, and as much is left for an owner that has none.

use std::collections::HashMap;
use std::sync::Arc;

/// Whose connectors they are: a namespace, or nobody's without tokens.
pub(super) type Owner = Arc<str>;

/// See the module.
#[derive(Debug)]
pub(super) struct Shares {
    free: usize,
    per_owner_max: usize,
    /// What the owners have that have any.
    taken: HashMap<Owner, usize>,
}

impl Shares {
    /// `total` of it, of which one owner takes at most `per_owner_max`.
    pub(super) fn new(total: usize, per_owner_max: usize) -> Self {
        Self {
            free: total,
            per_owner_max,
            taken: HashMap::new(),
        }
    }

    /// True if the owner may take one more.
    pub(super) fn may_take(&self, owner: &str) -> bool {
        let own = self.of(owner);
        own < self.per_owner_max && own < self.free
    }

    /// True if nobody may take one more.
    pub(super) fn is_used_up(&self) -> bool {
        self.free == 0
    }

    /// What the owner has.
    pub(super) fn of(&self, owner: &str) -> usize {
        self.taken.get(owner).copied().unwrap_or(0)
    }

    /// The owner has one more.
    pub(super) fn take(&mut self, owner: &Owner) {
        self.free = self.free.saturating_sub(1);
        let own = self.taken.entry(Arc::clone(owner)).or_default();
        *own = own.saturating_add(1);
    }

    /// The owner has one less.
    pub(super) fn give_back(&mut self, owner: &str) {
        let Some(own) = self.taken.get_mut(owner) else {
            return;
        };
        *own = own.saturating_sub(1);
        if *own == 0 {
            self.taken.remove(owner);
        }
        self.free = self.free.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_if_allowed(shares: &mut Shares, owner: &Owner) {
        if shares.may_take(owner) {
            shares.take(owner);
        }
    }

    #[test]
    fn however_many_owners_are_greedy_there_is_something_left_for_another() {
        for greedy in 1..=63_usize {
            let mut shares = Shares::new(64, 16);
            let owners: Vec<Owner> = (0..greedy).map(|it| it.to_string().into()).collect();
            // More rounds than any of them may take.
            for owner in owners.iter().cycle().take(64 * greedy) {
                take_if_allowed(&mut shares, owner);
            }
            let most = owners.iter().map(|owner| shares.of(owner)).max();
            assert_eq!(
                most,
                Some(16.min(64 / (greedy + 1) + usize::from(64 % (greedy + 1) > 0))),
                "{greedy}"
            );
            assert!(shares.may_take("another"), "{greedy} left nothing");
        }
    }

    #[test]
    fn what_is_given_back_may_be_taken_again() {
        let mut shares = Shares::new(2, 2);
        let owner: Owner = "a".into();
        shares.take(&owner);
        assert!(!shares.may_take(&owner) && shares.may_take("b"));
        shares.take(&"b".into());
        assert!(shares.is_used_up());
        shares.give_back("nobody");
        assert!(shares.is_used_up());
        shares.give_back(&owner);
        assert!(shares.may_take(&owner) && !shares.may_take("b"));
    }
}
