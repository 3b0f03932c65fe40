//! What one watcher must see, and what it saw.
//!
//! A publisher's event `n` concerns entity `n mod E`, in namespace `n mod K` (E is a multiple of
//! K); publishers start at numbers of their own, spread over the entities, and so are watched
//! entities. A watcher of everything expects the numbers `k, k+K, k+2K, …` of each publisher and
//! namespace. A watcher of a single namespace or entity expects one such row. Within a row numbers
//! must grow by the stride: a jump leaves missing numbers behind, and a number that comes later
//! than one behind it is out of order if it was missing, else repeated.

use crate::entities::Entities;
use crate::options::Filter;
use std::collections::HashSet;

/// Missing numbers that one watcher remembers one by one. Beyond that they count as lost even if
/// they come late.
const MISSING_MAX: usize = 1_000_000;

/// What a watcher subscribes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interest {
    /// Text of the subscription's `entity_id`.
    pub(super) pattern: String,
    /// Distance of the numbers of one row.
    stride: u64,
    /// Remainder of the only row of each publisher; `None`: all remainders have one.
    only: Option<u64>,
}

impl Interest {
    /// What watcher number `watcher` of `watchers` subscribes to.
    pub(super) fn new(
        filter: Filter,
        entities: &Entities,
        (watcher, watchers): (u64, u64),
    ) -> Self {
        // Without namespaces order is promised for each entity only.
        let groups = if entities.namespaces > 0 {
            entities.namespaces
        } else {
            entities.count
        };
        match filter {
            Filter::All => Self {
                pattern: "*".to_owned(),
                stride: groups,
                only: None,
            },
            Filter::PerEntity => {
                let apart = (entities.count / watchers.max(1)).max(1);
                let entity = watcher * apart % entities.count;
                Self {
                    pattern: entities.id(entity),
                    stride: entities.count,
                    only: Some(entity),
                }
            }
            Filter::PerNamespace => {
                let group = watcher % groups;
                let id = entities.id(group);
                let pattern = match id.split_once('/') {
                    Some((namespace, _)) => format!("{namespace}/*"),
                    None => id,
                };
                Self {
                    pattern,
                    stride: groups,
                    only: Some(group),
                }
            }
        }
    }

    fn rows_per_publisher(&self) -> usize {
        if self.only.is_some() {
            1
        } else {
            crate::numbers::index(self.stride)
        }
    }

    /// The row of `number` and its first number, if this watcher is to see it.
    fn row(&self, number: u64) -> Option<usize> {
        let remainder = number % self.stride;
        match self.only {
            Some(only) => (only == remainder).then_some(0),
            None => Some(crate::numbers::index(remainder)),
        }
    }

    /// The first number of a row that is not below `start`.
    fn first_of_row(&self, row: usize, start: u64) -> u64 {
        let remainder = self.only.unwrap_or(row as u64);
        let passed = start.saturating_sub(remainder).div_ceil(self.stride);
        remainder + passed * self.stride
    }
}

/// Counts of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// What publishers sent and this watcher should see.
    pub(super) expected: u64,
    /// Different events seen.
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) out_of_order: u64,
    /// Events that the subscription does not cover.
    pub(super) unexpected: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.received += other.received;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.out_of_order += other.out_of_order;
        self.unexpected += other.unexpected;
    }
}

#[derive(Debug)]
pub(super) struct Ledger {
    interest: Interest,
    /// The first number of each row, publisher by publisher.
    first: Vec<u64>,
    /// The next number of each row.
    next: Vec<u64>,
    missing: HashSet<(usize, u64)>,
    tally: Tally,
}

impl Ledger {
    /// `starts`: each publisher's first number.
    pub(super) fn new(interest: Interest, starts: impl IntoIterator<Item = u64>) -> Self {
        let rows = interest.rows_per_publisher();
        let mut first = Vec::new();
        for start in starts {
            first.extend((0..rows).map(|row| interest.first_of_row(row, start)));
        }
        Self {
            interest,
            next: first.clone(),
            first,
            missing: HashSet::new(),
            tally: Tally::default(),
        }
    }

    /// Records an event that was seen.
    pub(super) fn see(&mut self, publisher: usize, number: u64) {
        let rows = self.interest.rows_per_publisher();
        let row = self
            .interest
            .row(number)
            .map(|row| publisher.saturating_mul(rows) + row);
        let Some((row, next)) = row.and_then(|row| Some((row, self.next.get_mut(row)?))) else {
            self.tally.unexpected += 1;
            return;
        };
        if number < *next {
            if self.missing.remove(&(row, number)) {
                self.tally.out_of_order += 1;
                self.tally.received += 1;
            } else {
                self.tally.repeated += 1;
            }
            return;
        }
        let mut skipped = *next;
        *next = number + self.interest.stride;
        self.tally.received += 1;
        while skipped < number && self.missing.len() < MISSING_MAX {
            self.missing.insert((row, skipped));
            skipped += self.interest.stride;
        }
    }

    /// Whether all of what publishers sent has been seen. `ends`: the number behind the last, by
    /// publisher.
    pub(super) fn is_complete(&self, ends: &[u64]) -> bool {
        self.tally.received >= self.expected(ends)
    }

    /// The counts, given the number behind each publisher's last.
    pub(super) fn close(&self, ends: &[u64]) -> Tally {
        let expected = self.expected(ends);
        let lost = expected.saturating_sub(self.tally.received);
        Tally {
            expected,
            lost,
            ..self.tally
        }
    }

    fn expected(&self, ends: &[u64]) -> u64 {
        let rows = self.interest.rows_per_publisher();
        let of_row =
            |end: u64, first: &u64| end.saturating_sub(*first).div_ceil(self.interest.stride);
        ends.iter()
            .zip(self.first.chunks_exact(rows))
            .map(|(&end, first)| first.iter().map(|first| of_row(end, first)).sum::<u64>())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::event::tests::test_options;

    /// Ten entities in two namespaces.
    fn interest(filter: Filter, watcher: u64) -> Interest {
        Interest::new(
            filter,
            &Entities::new(&test_options()).unwrap(),
            (watcher, 10),
        )
    }

    fn tally(interest: &Interest, seen: &[u64], sent: u64) -> Tally {
        let mut ledger = Ledger::new(interest.clone(), [0]);
        for &number in seen {
            ledger.see(0, number);
        }
        ledger.close(&[sent])
    }

    #[test]
    fn interests_name_what_they_cover() {
        let check = |filter, watcher, pattern: &str, covered: &[u64]| {
            let interest = interest(filter, watcher);
            assert_eq!(interest.pattern, pattern);
            let all = Tally {
                expected: covered.len() as u64,
                received: covered.len() as u64,
                ..Tally::default()
            };
            assert_eq!(tally(&interest, covered, 20), all);
        };
        check(Filter::All, 3, "*", &(0..20).collect::<Vec<_>>());
        check(Filter::PerEntity, 13, "load-0001/e-00000003", &[3, 13]);
        check(
            Filter::PerNamespace,
            3,
            "load-0001/*",
            &[1, 3, 5, 7, 9, 11, 13, 15, 17, 19],
        );
    }

    #[test]
    fn faults_are_told_apart() {
        let all = interest(Filter::All, 0);
        let one = interest(Filter::PerEntity, 3);
        // Expected, received, lost, repeated, out of order, unexpected.
        let check = |interest: &Interest, seen: &[u64], sent, counts: [u64; 6]| {
            let [expected, received, lost, repeated, out_of_order, unexpected] = counts;
            let tallied = Tally {
                expected,
                received,
                lost,
                repeated,
                out_of_order,
                unexpected,
            };
            assert_eq!(tally(interest, seen, sent), tallied, "{seen:?}");
        };
        // The two namespaces may overtake each other.
        check(&all, &[1, 3, 0, 2], 4, [4, 4, 0, 0, 0, 0]);
        check(&all, &[0, 1, 3, 4], 5, [5, 4, 1, 0, 0, 0]);
        check(&all, &[0, 1], 4, [4, 2, 2, 0, 0, 0]);
        check(&all, &[0, 1, 1], 2, [2, 2, 0, 1, 0, 0]);
        check(&all, &[2, 0, 1], 3, [3, 3, 0, 0, 1, 0]);
        check(&one, &[3, 4], 10, [1, 1, 0, 0, 0, 1]);
    }

    #[test]
    fn publishers_are_followed_apart() {
        let mut ledger = Ledger::new(interest(Filter::PerNamespace, 0), [0, 0]);
        for (publisher, number) in [(0, 0), (2, 0), (1, 0), (1, 2), (0, 2)] {
            assert!(!ledger.is_complete(&[3, 3]));
            ledger.see(publisher, number);
        }
        let expected = Tally {
            expected: 4,
            received: 4,
            unexpected: 1,
            ..Tally::default()
        };
        assert!(ledger.is_complete(&[3, 3]));
        assert_eq!(ledger.close(&[3, 3]), expected);
    }

    #[test]
    fn publishers_start_anywhere() {
        let seen = |filter, numbers: &[u64], ends: &[u64]| {
            let mut ledger = Ledger::new(interest(filter, 3), [5, 12]);
            for &number in numbers {
                ledger.see(1, number);
            }
            ledger.close(ends)
        };
        let faultless = |expected, received| Tally {
            expected,
            received,
            lost: expected - received,
            ..Tally::default()
        };
        // The first publisher sent 5 to 24, the second 12 to 13.
        assert_eq!(seen(Filter::All, &[12, 13], &[25, 14]), faultless(22, 2));
        assert_eq!(seen(Filter::PerEntity, &[13], &[25, 14]), faultless(3, 1));
        assert_eq!(seen(Filter::PerNamespace, &[], &[5, 12]), faultless(0, 0));
    }

    #[test]
    fn watched_entities_are_spread() {
        let entities = Entities::new(&test_options()).unwrap();
        let pattern = |watcher| Interest::new(Filter::PerEntity, &entities, (watcher, 3)).pattern;
        assert_eq!(
            [0, 1, 2].map(pattern),
            [0, 3, 6].map(|number| entities.id(number))
        );
    }
}
