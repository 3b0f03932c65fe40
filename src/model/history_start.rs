//! Where the history of a namespace begins for its readers: at its registration. What its name held
//! before belonged to somebody else.

use super::{Timestamp, namespace_of, place_key};
use flux_storage::Sequence;
use std::array;
use std::collections::HashMap;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryStart {
    /// After this event of its log. Sequences never change and rise across generations, so this
    /// holds whatever the clock did and however many shards there are.
    After(Sequence),
    /// With the events of this time: for a registration that did not record the place.
    At(Timestamp),
}

impl HistoryStart {
    /// True if an event with this sequence and time came before. Also of an entity, by its last
    /// event: nothing was left in the namespace when it was registered.
    pub fn hides(self, sequence: Sequence, time: Timestamp) -> bool {
        match self {
            Self::After(last) => sequence <= last,
            Self::At(first) => time < first,
        }
    }
}

/// Parts of a [`HistoryStarts`]: a change copies one of them if a reader has the starts.
const PARTS: u16 = 64;

type Part = HashMap<Box<str>, HistoryStart>;

/// The starts of all namespaces. A clone shares its parts, so a helper thread can have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryStarts {
    parts: Box<[Arc<Part>; PARTS as usize]>,
}

impl Default for HistoryStarts {
    fn default() -> Self {
        Self {
            parts: Box::new(array::from_fn(|_| Arc::default())),
        }
    }
}

impl HistoryStarts {
    /// A namespace is registered.
    pub fn insert(&mut self, namespace: &str, start: HistoryStart) {
        self.part_mut(namespace).insert(namespace.into(), start);
    }

    /// A namespace is deleted: nobody's history begins anew under its name.
    pub fn remove(&mut self, namespace: &str) {
        self.part_mut(namespace).remove(namespace);
    }

    /// Where the history of a namespace begins; `None` if it is not registered.
    pub fn get(&self, namespace: &str) -> Option<HistoryStart> {
        let part = &self.parts[part_of(namespace)];
        part.get(namespace).copied()
    }

    fn part_mut(&mut self, namespace: &str) -> &mut Part {
        Arc::make_mut(&mut self.parts[part_of(namespace)])
    }
}

fn part_of(namespace: &str) -> usize {
    usize::from(place_key(namespace, PARTS))
}

/// What one reader of the past may see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Shown {
    /// Everything.
    #[default]
    All,
    /// Of the one namespace that is read, what came after its start.
    After(HistoryStart),
    /// Of each namespace what came after its start.
    AfterEach(HistoryStarts),
}

impl Shown {
    /// Where the history of the one namespace that is read begins, if anything of it is hidden.
    pub const fn start(&self) -> Option<HistoryStart> {
        match self {
            Self::After(start) => Some(*start),
            Self::All | Self::AfterEach(_) => None,
        }
    }

    /// True if the event of an id is hidden, or the entity by its last event.
    pub fn hides(&self, id: &str, sequence: Sequence, time: Timestamp) -> bool {
        let start = match self {
            Self::All => None,
            Self::After(start) => Some(*start),
            Self::AfterEach(starts) => namespace_of(id).and_then(|name| starts.get(name)),
        };
        start.is_some_and(|start| start.hides(sequence, time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_hides_what_came_before_it() {
        let time = Timestamp::from_micros;
        let after = HistoryStart::After(Sequence::new(7));
        assert!(after.hides(Sequence::new(7), time(100)));
        assert!(!after.hides(Sequence::new(8), time(0)), "whatever its time");
        let at = HistoryStart::At(time(100));
        assert!(at.hides(Sequence::new(8), time(99)));
        assert!(!at.hides(Sequence::new(1), time(100)));
    }

    #[test]
    fn what_a_reader_has_does_not_change_with_the_registry() {
        let mut starts = HistoryStarts::default();
        let start = |sequence| HistoryStart::After(Sequence::new(sequence));
        for number in 0..1_000 {
            starts.insert(&number.to_string(), start(number));
        }
        let held = Shown::AfterEach(starts.clone());
        starts.remove("7");
        starts.insert("8", start(9_999));
        assert_eq!(
            (starts.get("7"), starts.get("8")),
            (None, Some(start(9_999)))
        );
        let hides = |id, sequence| held.hides(id, Sequence::new(sequence), Timestamp::default());
        assert!(hides("7/a", 7) && !hides("7/a", 8));
        assert!(hides("8/a", 8) && !hides("8/a", 9));
        assert!(
            !hides("7", 0) && !hides("none/a", 0),
            "not of a registered namespace"
        );
    }
}
