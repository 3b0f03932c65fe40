//! Memory that a query of the past works in, on a helper thread: drawn from the budget while it
//! grows, and given back at the query's end.

use super::memory_budget::{MemoryBudget, MemoryClient, Size};
use crate::history::WorkingMemory;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct MemoryLoan {
    budget: Arc<MemoryBudget>,
    /// Whose query it is.
    client: Option<MemoryClient>,
    bytes: usize,
}

impl MemoryLoan {
    /// Of nothing yet.
    pub(crate) fn new(budget: &Arc<MemoryBudget>, client: Option<MemoryClient>) -> Self {
        Self {
            budget: Arc::clone(budget),
            client,
            bytes: 0,
        }
    }
}

impl WorkingMemory for MemoryLoan {
    fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if !self.budget.draw(more, Size::Large) {
            return false;
        }
        if let Some(client) = self.client
            && !self.budget.draw_for(client, more, Size::Large)
        {
            self.budget.give_back(more);
            return false;
        }
        self.budget.lend(more);
        self.bytes += more;
        true
    }
}

impl Drop for MemoryLoan {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
        if let Some(client) = self.client {
            self.budget.give_back_for(client, self.bytes);
        }
        self.budget.take_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn a_query_has_the_share_of_its_client_and_gives_it_back() {
        let budget = Arc::new(MemoryBudget::new(64 * MIB, 1));
        let client = |last| MemoryClient::at(std::net::Ipv4Addr::new(10, 0, 0, last).into());
        let mut loan = MemoryLoan::new(&budget, Some(client(1)));
        assert!(loan.grow_to(10 * MIB));
        assert!(loan.grow_to(5 * MIB), "it has more already");
        assert!(!loan.grow_to(17 * MIB), "beyond a quarter");
        let usage = budget.usage();
        assert_eq!(usage.used(), 10 * MIB);
        assert!(usage.named().contains(&("queries", 10 * MIB)));
        let mut another = MemoryLoan::new(&budget, Some(client(1)));
        assert!(!another.grow_to(5 * MIB), "they share it");
        let mut others = MemoryLoan::new(&budget, Some(client(2)));
        assert!(others.grow_to(14 * MIB));
        drop((loan, another, others));
        assert_eq!(budget.usage().used(), 0);
        assert_eq!(budget.drawn(), 0);
        assert!(budget.has_no_clients());
    }

    #[test]
    fn queries_together_stay_within_the_budget() {
        let budget = Arc::new(MemoryBudget::new(64 * MIB, 1));
        let mut loans: Vec<MemoryLoan> = (0..20)
            .map(|last| {
                let client = MemoryClient::at(std::net::Ipv4Addr::new(10, 0, 0, last).into());
                MemoryLoan::new(&budget, Some(client))
            })
            .collect();
        let grown = loans.iter_mut().filter_map(|loan| {
            let has_grown = loan.grow_to(10 * MIB);
            has_grown.then_some(10)
        });
        let sum: usize = grown.sum();
        assert_eq!(sum, 50, "an eighth is left to small holdings");
    }
}
