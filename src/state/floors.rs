//! The times below which events must not fall, for names and ids that hold nothing any more, each
//! with its last event.
//!
//! The times of a namespace never fall, and those of an id without a namespace neither, even if the
//! server's clock steps back (API contract §3). What exists knows its last time: a namespace by its
//! statistics, an id by its entity. After the last deletion that time is kept here.
//!
//! Bounded by [`TIME_FLOORS_MAX`]. Beyond it the lowest time goes, and raises the *common* floor of
//! everything that is unknown here. So no time ever falls. A clock that was wrong for a moment
//! leaves the highest times, which go last, so it does not raise the common floor either, unless
//! more names than the bound were emptied meanwhile.

use crate::limits::TIME_FLOORS_MAX;
use crate::model::Timestamp;
use flux_storage::Sequence;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Floors {
    by_name: [HashMap<Arc<str>, Last>; 2],
    by_time: BTreeSet<(Timestamp, Kind, Arc<str>)>,
    common: Timestamp,
}

/// The last event of a name or id: its time, and its sequence; [`Sequence::ZERO`] if that is not
/// known.
pub(super) type Last = (Timestamp, Sequence);

/// What a floor is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Namespace,
    /// An id without a namespace.
    Id,
}

impl Floors {
    /// The floor of what does not exist now, and may never have.
    pub(super) fn get(&self, kind: Kind, name: &str) -> Timestamp {
        let known = self.by_name[kind as usize].get(name);
        known.map_or(self.common, |(known, _)| self.common.max(*known))
    }

    /// The last event of what does not exist now, as far as it is known.
    pub(super) fn last(&self, kind: Kind, name: &str) -> Sequence {
        let known = self.by_name[kind as usize].get(name);
        known.map_or(Sequence::ZERO, |(_, sequence)| *sequence)
    }

    /// True if [`Floors::raise`] changes something.
    pub(super) fn is_raised_by(&self, kind: Kind, name: &str, (time, sequence): Last) -> bool {
        match self.by_name[kind as usize].get(name) {
            Some((known, last)) => time > self.common.max(*known) || sequence > *last,
            None => time > self.common,
        }
    }

    /// True if this has a floor of its own.
    pub(super) fn is_known(&self, kind: Kind, name: &str) -> bool {
        self.by_name[kind as usize].contains_key(name)
    }

    /// The floor of what is unknown.
    pub(super) const fn common(&self) -> Timestamp {
        self.common
    }

    /// Something has ceased to exist, or was not there, and this was its last event.
    pub(super) fn raise(&mut self, kind: Kind, name: &str, (time, sequence): Last) {
        let last = self.last(kind, name).max(sequence);
        if time <= self.get(kind, name) {
            if let Some(known) = self.by_name[kind as usize].get_mut(name) {
                known.1 = last;
            }
            return;
        }
        let name = self.remove(kind, name).unwrap_or_else(|| name.into());
        self.by_name[kind as usize].insert(Arc::clone(&name), (time, last));
        self.by_time.insert((time, kind, name));
        while self.by_time.len() > TIME_FLOORS_MAX {
            let Some((time, kind, name)) = self.by_time.pop_first() else {
                return;
            };
            self.by_name[kind as usize].remove(&name);
            self.common = self.common.max(time);
        }
    }

    /// Raises the floor of everything that is unknown.
    pub(super) fn raise_common(&mut self, time: Timestamp) {
        self.common = self.common.max(time);
    }

    /// Something exists again, and knows its own time.
    pub(super) fn remove(&mut self, kind: Kind, name: &str) -> Option<Arc<str>> {
        let (name, (time, _)) = self.by_name[kind as usize].remove_entry(name)?;
        self.by_time.remove(&(time, kind, Arc::clone(&name)));
        Some(name)
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Kind, &Arc<str>, Last)> {
        let floors = self.by_time.iter();
        floors.map(|(time, kind, name)| (*kind, name, (*time, self.last(*kind, name))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn last(micros: i64, sequence: u64) -> Last {
        (at(micros), Sequence::new(sequence))
    }

    #[test]
    fn a_floor_rises_and_goes_when_its_name_exists_again() {
        let mut floors = Floors::default();
        floors.raise(Kind::Namespace, "a", last(5, 1));
        assert!(!floors.is_raised_by(Kind::Namespace, "a", last(3, 1)));
        assert!(floors.is_raised_by(Kind::Namespace, "a", last(3, 2)));
        floors.raise(Kind::Namespace, "a", last(3, 2));
        floors.raise(Kind::Id, "a", last(7, 3));
        assert_eq!(floors.last(Kind::Namespace, "a"), Sequence::new(2));
        assert_eq!(floors.get(Kind::Namespace, "a"), at(5));
        assert_eq!(floors.get(Kind::Id, "a"), at(7));
        assert_eq!(floors.get(Kind::Id, "b"), at(0));
        assert!(floors.remove(Kind::Id, "a").is_some());
        assert_eq!(floors.get(Kind::Id, "a"), at(0));
        assert_eq!(floors.iter().count(), 1);
    }

    #[test]
    fn beyond_the_bound_the_lowest_time_goes_and_no_floor_falls() {
        let mut floors = Floors::default();
        // While the clock was wrong one name was emptied.
        floors.raise(Kind::Namespace, "wrong", last(1_000_000_000, 1));
        let count = i64::try_from(TIME_FLOORS_MAX).unwrap() + 10;
        for time in 1..=count {
            floors.raise(Kind::Id, &time.to_string(), last(time, 2));
        }
        assert_eq!(floors.iter().count(), TIME_FLOORS_MAX);
        assert_eq!(floors.common(), at(11), "the clock's error is not in it");
        for time in 1..=count {
            assert!(floors.get(Kind::Id, &time.to_string()) >= at(time));
        }
        assert_eq!(floors.get(Kind::Namespace, "wrong"), at(1_000_000_000));
        assert_eq!(floors.get(Kind::Namespace, "new"), at(11));
    }
}
