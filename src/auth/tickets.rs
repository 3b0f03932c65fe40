//! Tickets: each stands for a token once, for a client that can't send it in a field of its own
//! (API contract §16).
//!
//! A ticket is kept as its hash, beside the hash of the token that it was made with, until it is
//! used or its time is over. Whoever uses one has to look whether the token is alive.
//!
//! If there are as many as there may be, a namespace that has fewer than another takes one from it:
//! whoever registers many namespaces keeps no other from having tickets.

use super::access::OwnedNamespace;
use super::rate::RateLimited;
use super::token::TokenHash;
use crate::limits::{TICKET_SECONDS, TICKETS_MAX, TICKETS_PER_NAMESPACE_MAX};
use crate::model::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};

const MICROS: i64 = TICKET_SECONDS.saturating_mul(1_000_000);

/// Why no ticket is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTicket {
    /// The tokens of the namespace have as many as they may have.
    OfNamespace(RateLimited),
    /// All tokens together have.
    OfAll,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Tickets {
    /// In the order in which they were made.
    made: BTreeMap<u64, Made>,
    /// By what is kept of them, their place in that order.
    known: HashMap<TokenHash, u64>,
    /// By namespace, the places of its tickets; the operator's are under none.
    of_namespace: HashMap<Option<OwnedNamespace>, BTreeSet<u64>>,
    /// Namespaces that have any, by how many those are.
    by_count: BTreeSet<(usize, Option<OwnedNamespace>)>,
    next: u64,
}

#[derive(Debug)]
struct Made {
    ticket: TokenHash,
    token: TokenHash,
    namespace: Option<OwnedNamespace>,
    at: Timestamp,
}

impl Made {
    /// Cores read the clock one after the other, so `now` may be a little earlier. If it was set
    /// back by more than a ticket lives, the ticket is over too.
    fn is_over(&self, now: Timestamp) -> bool {
        now.as_micros().abs_diff(self.at.as_micros()) >= MICROS.unsigned_abs()
    }

    fn rest(&self, now: Timestamp) -> RateLimited {
        let ends = self.at.as_micros().saturating_add(MICROS);
        let micros = ends.saturating_sub(now.as_micros()).clamp(1, MICROS);
        let seconds = micros.unsigned_abs().div_ceil(1_000_000);
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        RateLimited { seconds }
    }
}

impl Tickets {
    /// Keeps a ticket that was made with a token of a namespace.
    ///
    /// # Errors
    /// [`NoTicket`].
    pub fn add(
        &mut self,
        (ticket, token): (TokenHash, TokenHash),
        namespace: Option<OwnedNamespace>,
        now: Timestamp,
    ) -> Result<(), NoTicket> {
        self.forget_over(now);
        if let Some(own) = self.of_namespace.get(&namespace)
            && own.len() >= TICKETS_PER_NAMESPACE_MAX
            && let Some(oldest) = own.first().and_then(|place| self.made.get(place))
        {
            return Err(NoTicket::OfNamespace(oldest.rest(now)));
        }
        if self.made.len() >= TICKETS_MAX && !self.take_from_largest(namespace) {
            return Err(NoTicket::OfAll);
        }
        let place = self.next;
        self.next = self.next.wrapping_add(1);
        self.known.insert(ticket, place);
        let own = self.of_namespace.entry(namespace).or_default();
        self.by_count.remove(&(own.len(), namespace));
        own.insert(place);
        self.by_count.insert((own.len(), namespace));
        let made = Made {
            ticket,
            token,
            namespace,
            at: now,
        };
        self.made.insert(place, made);
        Ok(())
    }

    /// The token that a ticket stands for, which stays as it is.
    pub fn look(&self, ticket: &TokenHash, now: Timestamp) -> Option<TokenHash> {
        let made = self.made.get(self.known.get(ticket)?)?;
        (!made.is_over(now)).then_some(made.token)
    }

    /// Uses a ticket. Returns the token that it stood for.
    pub fn take(&mut self, ticket: &TokenHash, now: Timestamp) -> Option<TokenHash> {
        let place = *self.known.get(ticket)?;
        let made = self.remove(place)?;
        (!made.is_over(now)).then_some(made.token)
    }

    fn remove(&mut self, place: u64) -> Option<Made> {
        let made = self.made.remove(&place)?;
        self.known.remove(&made.ticket);
        if let Some(own) = self.of_namespace.get_mut(&made.namespace) {
            self.by_count.remove(&(own.len(), made.namespace));
            own.remove(&place);
            if own.is_empty() {
                self.of_namespace.remove(&made.namespace);
            } else {
                self.by_count.insert((own.len(), made.namespace));
            }
        }
        Some(made)
    }

    /// Drops the oldest ticket of the namespace that has most. False if `namespace` would have as
    /// many.
    fn take_from_largest(&mut self, namespace: Option<OwnedNamespace>) -> bool {
        let own = self.of_namespace.get(&namespace).map_or(0, BTreeSet::len);
        let Some((count, largest)) = self.by_count.last().copied() else {
            return false;
        };
        if count <= own.saturating_add(1) {
            return false;
        }
        let oldest = self.of_namespace.get(&largest).and_then(BTreeSet::first);
        let Some(oldest) = oldest.copied() else {
            return false;
        };
        self.remove(oldest).is_some()
    }

    /// Tickets end in the order in which they were made.
    fn forget_over(&mut self, now: Timestamp) {
        while let Some((place, made)) = self.made.first_key_value()
            && made.is_over(now)
        {
            self.remove(*place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: usize) -> TokenHash {
        TokenHash::of(number.to_string().as_bytes())
    }

    fn at_ms(ms: i64) -> Timestamp {
        let ms = ms.checked_add(1_000_000_000).unwrap();
        Timestamp::from_micros(ms.checked_mul(1000).unwrap())
    }

    #[test]
    fn a_ticket_is_good_once_and_for_its_time() {
        let mut tickets = Tickets::default();
        for ticket in 1..=3 {
            let made = (hash(ticket), hash(0));
            tickets.add(made, None, at_ms(0)).unwrap();
        }
        assert_eq!(tickets.look(&hash(1), at_ms(29_999)), Some(hash(0)));
        assert_eq!(tickets.take(&hash(1), at_ms(29_999)), Some(hash(0)));
        assert_eq!(tickets.take(&hash(1), at_ms(29_999)), None, "used");
        assert_eq!(tickets.look(&hash(1), at_ms(29_999)), None, "used");
        assert_eq!(tickets.look(&hash(2), at_ms(30_000)), None, "over");
        assert_eq!(tickets.take(&hash(2), at_ms(30_000)), None, "over");
        assert_eq!(
            tickets.take(&hash(3), at_ms(-1)),
            Some(hash(0)),
            "another core"
        );
        assert_eq!(tickets.take(&hash(4), at_ms(0)), None, "unknown");
        assert!(tickets.made.is_empty() && tickets.known.is_empty());
        assert!(tickets.of_namespace.is_empty() && tickets.by_count.is_empty());
    }

    #[test]
    fn a_namespace_has_so_many_and_all_together_have() {
        let mut tickets = Tickets::default();
        let mut number = 1000;
        let mut add = |namespace: usize, ms| {
            number += 1;
            let ticket = hash(number);
            // Each with a token of its own.
            let made = (ticket, hash(number + 1_000_000));
            let namespace = OwnedNamespace::new(&namespace.to_string());
            tickets.add(made, namespace, at_ms(ms)).map(|()| ticket)
        };
        let first = add(0, 0).unwrap();
        for _ in 1..TICKETS_PER_NAMESPACE_MAX {
            add(0, 5000).unwrap();
        }
        let refused = NoTicket::OfNamespace(RateLimited { seconds: 25 });
        assert_eq!(add(0, 5000), Err(refused));
        assert!(add(0, 30_000).is_ok(), "the first is over");
        for namespace in 1..TICKETS_MAX / TICKETS_PER_NAMESPACE_MAX {
            for _ in 0..TICKETS_PER_NAMESPACE_MAX {
                add(namespace, 30_000).unwrap();
            }
        }
        // All are in use: others take from the largest, down to as many each.
        let namespaces = 50;
        let each = TICKETS_MAX / namespaces;
        for namespace in 20..namespaces {
            for number in 0..each {
                assert!(add(namespace, 30_000).is_ok(), "{namespace}: {number}");
            }
        }
        assert_eq!(add(20, 30_000), Err(NoTicket::OfAll));
        assert!(add(20, 60_000).is_ok(), "all the others are over");
        assert_eq!(tickets.take(&first, at_ms(0)), None, "it is forgotten");
    }
}
