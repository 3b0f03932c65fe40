//! The times below which events must not fall, for names and ids that hold nothing any more.
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
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Floors {
    by_name: [HashMap<Arc<str>, Timestamp>; 2],
    by_time: BTreeSet<(Timestamp, Kind, Arc<str>)>,
    common: Timestamp,
}

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
        known.map_or(self.common, |known| self.common.max(*known))
    }

    /// True if this has a floor of its own.
    pub(super) fn is_known(&self, kind: Kind, name: &str) -> bool {
        self.by_name[kind as usize].contains_key(name)
    }

    /// The floor of what is unknown.
    pub(super) const fn common(&self) -> Timestamp {
        self.common
    }

    /// Something has ceased to exist, or was not there, and its last event had this time.
    pub(super) fn raise(&mut self, kind: Kind, name: &str, time: Timestamp) {
        if time <= self.get(kind, name) {
            return;
        }
        let name = self.remove(kind, name).unwrap_or_else(|| name.into());
        self.by_name[kind as usize].insert(Arc::clone(&name), time);
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
        let (name, time) = self.by_name[kind as usize].remove_entry(name)?;
        self.by_time.remove(&(time, kind, Arc::clone(&name)));
        Some(name)
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Kind, &Arc<str>, Timestamp)> {
        let floors = self.by_time.iter();
        floors.map(|(time, kind, name)| (*kind, name, *time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn a_floor_rises_and_goes_when_its_name_exists_again() {
        let mut floors = Floors::default();
        floors.raise(Kind::Namespace, "a", at(5));
        floors.raise(Kind::Namespace, "a", at(3));
        floors.raise(Kind::Id, "a", at(7));
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
        floors.raise(Kind::Namespace, "wrong", at(1_000_000_000));
        let count = i64::try_from(TIME_FLOORS_MAX).unwrap() + 10;
        for time in 1..=count {
            floors.raise(Kind::Id, &time.to_string(), at(time));
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
