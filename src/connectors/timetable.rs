//! Who is due, and how many polls are in flight. Time is milliseconds of any clock that does not
//! step back.
//!
//! Owners take turns, not connectors: of the owners that have a connector which is due and may
//! poll, the one goes first whose last turn is longest ago, with the connector that is due longest.
//! What an owner has in flight is bounded by [`Shares`], so that its slow sources keep nobody
//! else's from being polled in time.
//!
//! ```text
//! set ─▶ waiting (by due time) ─▶ ready (by turn) ─▶ in flight ─▶ end
//! ```

use super::shares::{Owner, Shares};
use crate::limits::{POLLS_IN_FLIGHT_MAX, POLLS_IN_FLIGHT_PER_OWNER_MAX};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The due times of connectors, which are numbers here.
#[derive(Debug)]
pub(super) struct Timetable {
    shares: Shares,
    owners: HashMap<Owner, Queue>,
    /// Owners that have a connector which waits, by the time when their first is due.
    waiting: BTreeSet<(u64, Owner)>,
    /// Owners whose first connector is due, by their last turn.
    ready: BTreeSet<(u64, Owner)>,
    /// The connectors that wait, with their owners and times.
    due: HashMap<u64, (Owner, u64)>,
    in_flight: HashMap<u64, Owner>,
    turn: u64,
}

/// The connectors of an owner that wait.
#[derive(Debug, Default)]
struct Queue {
    /// By time, then by number.
    connectors: BTreeSet<(u64, u64)>,
    last_turn: u64,
    /// It is in `ready`, not in `waiting`.
    is_ready: bool,
}

impl Default for Timetable {
    fn default() -> Self {
        Self {
            shares: Shares::new(POLLS_IN_FLIGHT_MAX, POLLS_IN_FLIGHT_PER_OWNER_MAX),
            owners: HashMap::new(),
            waiting: BTreeSet::new(),
            ready: BTreeSet::new(),
            due: HashMap::new(),
            in_flight: HashMap::new(),
            turn: 0,
        }
    }
}

impl Timetable {
    /// A connector is to be polled then, and not at another time it may have had.
    pub(super) fn set(&mut self, connector: u64, owner: &Owner, due_ms: u64) {
        self.remove(connector);
        self.due.insert(connector, (Arc::clone(owner), due_ms));
        self.change(owner, |connectors| {
            connectors.insert((due_ms, connector));
        });
    }

    /// A connector is not to be polled.
    pub(super) fn remove(&mut self, connector: u64) {
        if let Some((owner, due_ms)) = self.due.remove(&connector) {
            self.change(&owner, |connectors| {
                connectors.remove(&(due_ms, connector));
            });
        }
    }

    /// Changes an owner's queue, and its place among the others.
    fn change(&mut self, owner: &Owner, change: impl FnOnce(&mut BTreeSet<(u64, u64)>)) {
        // A new owner goes behind the owners that wait, and before all that have had a turn since.
        let queue = self
            .owners
            .entry(Arc::clone(owner))
            .or_insert_with(|| Queue {
                last_turn: self.turn,
                ..Queue::default()
            });
        if queue.is_ready {
            self.ready.remove(&(queue.last_turn, Arc::clone(owner)));
        } else if let Some((due_ms, _)) = queue.connectors.first() {
            self.waiting.remove(&(*due_ms, Arc::clone(owner)));
        }
        queue.is_ready = false;
        change(&mut queue.connectors);
        match queue.connectors.first() {
            Some((due_ms, _)) => {
                self.waiting.insert((*due_ms, Arc::clone(owner)));
            }
            // While it has polls in flight, its last turn counts.
            None if self.shares.of(owner) == 0 => {
                self.owners.remove(owner);
            }
            None => {}
        }
    }

    /// When to look again; `None` if that does not help before a poll has ended.
    pub(super) fn next_ms(&self) -> Option<u64> {
        if self.shares.is_used_up() {
            return None;
        }
        if self
            .ready
            .iter()
            .any(|(_, owner)| self.shares.may_take(owner))
        {
            return Some(0);
        }
        self.waiting.first().map(|(due_ms, _)| *due_ms)
    }

    /// The next connector that is due; its poll counts as in flight from now on.
    pub(super) fn start(&mut self, now_ms: u64) -> Option<u64> {
        while let Some((due_ms, _)) = self.waiting.first()
            && *due_ms <= now_ms
            && let Some((_, owner)) = self.waiting.pop_first()
        {
            if let Some(queue) = self.owners.get_mut(&owner) {
                queue.is_ready = true;
                self.ready.insert((queue.last_turn, owner));
            }
        }
        let mut ready = self.ready.iter();
        let (_, owner) = ready.find(|(_, owner)| self.shares.may_take(owner))?;
        let owner = Arc::clone(owner);
        let (_, connector) = *self.owners.get(&owner)?.connectors.first()?;
        self.shares.take(&owner);
        self.in_flight.insert(connector, Arc::clone(&owner));
        self.remove(connector);
        self.turn = self.turn.saturating_add(1);
        if let Some(queue) = self.owners.get_mut(&owner) {
            queue.last_turn = self.turn;
        }
        Some(connector)
    }

    /// The poll of a connector has ended.
    pub(super) fn end(&mut self, connector: u64) {
        if let Some(owner) = self.in_flight.remove(&connector) {
            self.shares.give_back(&owner);
            // It may have nothing left.
            self.change(&owner, |_| {});
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::schedule::{Ended, Pace};
    use super::*;

    fn owner(name: &str) -> Owner {
        name.into()
    }

    #[test]
    fn the_earliest_goes_first_and_a_new_time_replaces_the_old() {
        let mut table = Timetable::default();
        let own = owner("a");
        table.set(1, &own, 30);
        table.set(2, &own, 20);
        table.set(3, &own, 10);
        table.set(3, &own, 40);
        table.remove(9);
        assert_eq!(table.next_ms(), Some(20));
        assert_eq!(table.start(19), None);
        assert_eq!(table.start(50), Some(2));
        table.remove(1);
        assert_eq!(table.start(50), Some(3));
        assert_eq!((table.start(50), table.next_ms()), (None, None));
    }

    #[test]
    fn only_so_many_are_in_flight_of_an_owner_and_in_all() {
        let mut table = Timetable::default();
        let owners: Vec<Owner> = (0..100).map(|it| it.to_string().into()).collect();
        for connector in 0..100 {
            table.set(connector, &owners[0], 0);
        }
        let started = std::iter::from_fn(|| table.start(0)).count();
        assert_eq!(started, POLLS_IN_FLIGHT_PER_OWNER_MAX);
        assert_eq!(
            table.next_ms(),
            None,
            "nobody is woken for what can't begin"
        );
        table.set(1_000, &owners[1], 7);
        assert_eq!(table.next_ms(), Some(7));
        table.end(3);
        assert_eq!(table.next_ms(), Some(0));
        assert_eq!(table.start(0), Some(32));
        for (own, connector) in owners.iter().zip(2_000..) {
            table.set(connector, own, 0);
        }
        let started = std::iter::from_fn(|| table.start(10)).count();
        assert_eq!(started, POLLS_IN_FLIGHT_MAX - POLLS_IN_FLIGHT_PER_OWNER_MAX);
        assert_eq!(table.next_ms(), None);
    }

    #[test]
    fn owners_take_turns_and_not_connectors() {
        let mut table = Timetable::default();
        let (greedy, modest) = (owner("greedy"), owner("modest"));
        for connector in 0..400 {
            table.set(connector, &greedy, 0);
        }
        table.set(1_000, &modest, 5);
        table.set(1_001, &modest, 5);
        assert_eq!(table.start(1), Some(0), "nobody else is due");
        let order = [5; 4].map(|now| table.start(now).unwrap());
        assert_eq!(order, [1_000, 1, 1_001, 2]);
        for connector in order {
            table.end(connector);
        }
        table.set(1_000, &modest, 6);
        let order = [6; 2].map(|now| table.start(now).unwrap());
        assert!(order.contains(&1_000), "{order:?}");
    }

    /// Four hundred sources of one owner that take their whole time, and one of another that
    /// answers at once.
    #[test]
    fn slow_sources_of_one_owner_do_not_hold_up_those_of_another() {
        let mut table = Timetable::default();
        let (greedy, modest) = (owner("greedy"), owner("modest"));
        (0..400).for_each(|connector| table.set(connector, &greedy, 0));
        table.set(1_000, &modest, 0);
        let mut ends: BTreeSet<(u64, u64)> = BTreeSet::new();
        let (mut polls, mut late_ms) = (0, 0);
        for now in (0..60_000).step_by(10) {
            while let Some((_, connector)) = ends.first().filter(|(at, _)| *at <= now).copied() {
                ends.pop_first();
                table.end(connector);
                let (own, pause) = if connector == 1_000 {
                    (&modest, 5_000)
                } else {
                    (&greedy, 1)
                };
                table.set(connector, own, now + pause);
            }
            while let Some(connector) = table.start(now) {
                let takes = if connector == 1_000 { 10 } else { 10_000 };
                ends.insert((now + takes, connector));
                if connector == 1_000 {
                    late_ms = late_ms.max(now.saturating_sub(polls * 5_010));
                    polls += 1;
                }
            }
        }
        assert_eq!(polls, 12);
        assert!(late_ms <= 10, "{late_ms} ms late");
    }

    /// Six hours of a thousand connectors, of which some fail always and some at times, under a
    /// clock of the test's own.
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
        let owners: Vec<Owner> = (0..10).map(|it| it.to_string().into()).collect();
        let own = |connector: u64| &owners[usize::try_from(connector % 10).unwrap()];
        (0..1000).for_each(|connector| table.set(connector, own(connector), 0));
        let mut ends: BTreeSet<(u64, u64)> = BTreeSet::new();
        let mut now = 0;
        while now < 21_600_000 {
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
                table.end(connector);
                let ended = match connector {
                    ..100 => Ended::Badly(None),
                    _ if random() % 10 == 0 => Ended::Badly(None),
                    _ => Ended::Well,
                };
                let pace = paces.get_mut(&connector).unwrap();
                table.set(
                    connector,
                    own(connector),
                    now + pace.next_ms(ended, random()),
                );
            }
        }
        for (connector, times) in polls {
            let count = times.len();
            if connector < 100 {
                assert!(
                    (10..=20).contains(&count),
                    "{connector} failed {count} times in six hours"
                );
            } else {
                assert!(count > 250, "{connector} was polled {count} times");
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
