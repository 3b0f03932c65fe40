//! Who is due, and how many polls are in flight. Time is milliseconds of any clock that does not
//! step back.

use crate::limits::POLLS_IN_FLIGHT_MAX;
use std::collections::{BTreeSet, HashMap};

/// The due times of connectors, which are numbers here.
#[derive(Debug, Default)]
pub(super) struct Timetable {
    /// By time, then by number.
    queue: BTreeSet<(u64, u64)>,
    due: HashMap<u64, u64>,
    in_flight: usize,
}

impl Timetable {
    /// A connector is to be polled then, and not at another time it may have had.
    pub(super) fn set(&mut self, connector: u64, due_ms: u64) {
        self.remove(connector);
        self.queue.insert((due_ms, connector));
        self.due.insert(connector, due_ms);
    }

    /// A connector is not to be polled.
    pub(super) fn remove(&mut self, connector: u64) {
        if let Some(due_ms) = self.due.remove(&connector) {
            self.queue.remove(&(due_ms, connector));
        }
    }

    /// When to look again; `None` if no connector waits, or the most polls are in flight.
    pub(super) fn next_ms(&self) -> Option<u64> {
        if self.in_flight >= POLLS_IN_FLIGHT_MAX {
            return None;
        }
        self.queue.first().map(|(due_ms, _)| *due_ms)
    }

    /// The next connector that is due; its poll counts as in flight from now on.
    pub(super) fn start(&mut self, now_ms: u64) -> Option<u64> {
        self.next_ms().filter(|due_ms| *due_ms <= now_ms)?;
        let (_, connector) = self.queue.pop_first()?;
        self.due.remove(&connector);
        self.in_flight = self.in_flight.saturating_add(1);
        Some(connector)
    }

    /// A poll in flight has ended.
    pub(super) fn end(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::schedule::{Ended, Pace};
    use super::*;

    #[test]
    fn the_earliest_goes_first_and_a_new_time_replaces_the_old() {
        let mut table = Timetable::default();
        table.set(1, 30);
        table.set(2, 20);
        table.set(3, 10);
        table.set(3, 40);
        table.remove(9);
        assert_eq!(table.next_ms(), Some(20));
        assert_eq!(table.start(19), None);
        assert_eq!(table.start(50), Some(2));
        table.remove(1);
        assert_eq!(table.start(50), Some(3));
        assert_eq!((table.start(50), table.next_ms()), (None, None));
    }

    #[test]
    fn only_so_many_are_in_flight() {
        let mut table = Timetable::default();
        for connector in 0..100 {
            table.set(connector, 0);
        }
        let started: Vec<u64> = std::iter::from_fn(|| table.start(0)).collect();
        assert_eq!(started.len(), POLLS_IN_FLIGHT_MAX);
        assert_eq!(
            table.next_ms(),
            None,
            "nobody is woken for what can't begin"
        );
        table.end();
        assert_eq!(table.start(0), Some(64));
        assert_eq!(table.start(0), None);
    }

    /// A day of a thousand connectors, of which some fail always and some at times, under a clock
    /// of the test's own.
    #[test]
    fn every_connector_is_polled_in_its_pace_and_failures_do_not_hold_up_others() {
        let mut seed = 11_u64;
        let mut random = move || {
            seed = seed
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            seed >> 33
        };
        let mut table = Timetable::default();
        let mut paces: HashMap<u64, Pace> = (0..1000).map(|it| (it, Pace::new(60))).collect();
        let mut polls: HashMap<u64, Vec<u64>> = HashMap::new();
        (0..1000).for_each(|connector| table.set(connector, 0));
        let mut ends: BTreeSet<(u64, u64)> = BTreeSet::new();
        let mut now = 0;
        while now < 86_400_000 {
            while let Some(connector) = table.start(now) {
                polls.entry(connector).or_default().push(now);
                // A failing one takes its whole time out.
                let takes = if connector < 100 {
                    10_000
                } else {
                    1 + random() % 50
                };
                ends.insert((now + takes, connector));
            }
            let soonest = ends.first().map(|(at, _)| *at);
            now = soonest
                .into_iter()
                .chain(table.next_ms())
                .min()
                .unwrap()
                .max(now);
            while let Some((_, connector)) = ends.first().filter(|(at, _)| *at <= now).copied() {
                ends.pop_first();
                table.end();
                let ended = match connector {
                    ..100 => Ended::Badly(None),
                    _ if random() % 10 == 0 => Ended::Badly(None),
                    _ => Ended::Well,
                };
                let pace = paces.get_mut(&connector).unwrap();
                table.set(connector, now + pace.next_ms(ended, random()));
            }
        }
        for (connector, times) in polls {
            let count = times.len();
            if connector < 100 {
                assert!(
                    (20..=40).contains(&count),
                    "{connector} failed {count} times in a day"
                );
            } else {
                assert!(count > 1000, "{connector} was polled {count} times");
                // An hour and its jitter, after many failures in a row.
                let longest = times
                    .windows(2)
                    .map(|pair| pair[1] - pair[0])
                    .max()
                    .unwrap();
                assert!(longest < 4_000_000, "{connector} waited {longest} ms");
            }
        }
    }
}
