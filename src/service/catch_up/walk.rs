//! A snapshot: an ordered walk through the entities of each shard beside the live changes.
//!
//! ```text
//! shard 0   ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒   walked: its changes are pushed
//! shard 1   ▒▒▒▒▒▒▒▒▒▒│             behind the walk they are pushed, ahead of it they are dropped:
//! shard 2                           what is still to come is current when it comes
//! ```
//!
//! A page shows its entities as they were when the shard's log ended with event R. A change up to R
//! that comes after the page is in it already, and is dropped.

use flux_storage::Sequence;
use std::ops::Range;

/// See the module.
#[derive(Debug)]
pub(crate) struct Walk {
    shards: Range<u16>,
    /// The shard that is walked through.
    current: u16,
    /// A page is on its way.
    is_asked: bool,
    /// By shard.
    marks: Box<[Mark]>,
}

/// How far the walk through one shard came.
#[derive(Debug, Default)]
struct Mark {
    /// The place before the last page.
    before: Place,
    /// The place after it.
    passed: Place,
    /// The end of the log when it was read.
    read: Sequence,
}

/// A place among the ids of a shard.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Before all of them.
    #[default]
    Start,
    /// After this one.
    After(Box<str>),
    /// After all of them.
    End,
}

impl Place {
    fn is_behind(&self, id: &str) -> bool {
        match self {
            Self::Start => true,
            Self::After(last) => id > &**last,
            Self::End => false,
        }
    }
}

impl Walk {
    /// A walk through these shards.
    pub(crate) fn new(shards: Range<u16>) -> Self {
        Self {
            current: shards.start,
            is_asked: false,
            marks: shards.clone().map(|_| Mark::default()).collect(),
            shards,
        }
    }

    /// The next page: its shard, and the id that it begins after. `None` while one is on its way,
    /// and at the end.
    pub(crate) fn ask(&mut self) -> Option<(u16, Option<Box<str>>)> {
        if self.is_asked || self.is_done() {
            return None;
        }
        let after = match &self.mark(self.current)?.passed {
            Place::Start => None,
            Place::After(id) => Some(id.clone()),
            Place::End => return None,
        };
        self.is_asked = true;
        Some((self.current, after))
    }

    /// The page that is on its way does not come: it is asked for again.
    pub(crate) fn ask_again(&mut self) {
        self.is_asked = false;
    }

    /// A page has come. `last`: the last id that it covers, shown or not; `None` if it covers all
    /// that is left of the shard. `read`: the end of the log when it was read.
    pub(crate) fn take(&mut self, last: Option<Box<str>>, read: Sequence) {
        self.is_asked = false;
        let current = self.current;
        let Some(mark) = self.mark_mut(current) else {
            return;
        };
        let is_over = last.is_none();
        let passed = last.map_or(Place::End, Place::After);
        mark.before = std::mem::replace(&mut mark.passed, passed);
        mark.read = read;
        if is_over {
            self.current += 1;
        }
    }

    /// True if a change has to be pushed: the client has what was before it. `sequence`: `None` for
    /// what has none.
    pub(crate) fn takes(&self, shard: u16, id: &str, sequence: Option<Sequence>) -> bool {
        let Some(mark) = self.mark(shard) else {
            return false;
        };
        if mark.passed.is_behind(id) {
            return false;
        }
        // The changes that an earlier page holds have come before the last page did.
        let is_on_last = mark.before.is_behind(id);
        !is_on_last || sequence.is_none_or(|sequence| sequence > mark.read)
    }

    /// True once the last page has come.
    pub(crate) fn is_done(&self) -> bool {
        self.current >= self.shards.end
    }

    /// Bytes that it holds.
    pub(crate) fn heap_bytes(&self) -> usize {
        let bytes = |place: &Place| match place {
            Place::After(id) => id.len(),
            Place::Start | Place::End => 0,
        };
        let marks = self.marks.iter();
        size_of_val(&*self.marks)
            + marks
                .map(|mark| bytes(&mark.before) + bytes(&mark.passed))
                .sum::<usize>()
    }

    fn mark(&self, shard: u16) -> Option<&Mark> {
        let index = shard.checked_sub(self.shards.start)?;
        self.marks.get(usize::from(index))
    }

    fn mark_mut(&mut self, shard: u16) -> Option<&mut Mark> {
        let index = shard.checked_sub(self.shards.start)?;
        self.marks.get_mut(usize::from(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_ahead_of_the_walk_are_dropped_and_those_behind_it_pushed() {
        let mut walk = Walk::new(1..3);
        let at = |number| Some(Sequence::new(number));
        assert!(!walk.takes(1, "a", at(9)));
        assert_eq!(walk.ask(), Some((1, None)));
        assert_eq!(walk.ask(), None, "one page at a time");
        walk.ask_again();
        assert_eq!(walk.ask(), Some((1, None)));
        walk.take(Some("m".into()), Sequence::new(5));
        assert!(!walk.takes(1, "a", at(5)), "the page has it");
        assert!(walk.takes(1, "m", at(6)));
        assert!(walk.takes(1, "a", None));
        assert!(!walk.takes(1, "n", at(6)));
        assert!(!walk.takes(2, "a", at(6)));
        assert_eq!(walk.ask(), Some((1, Some("m".into()))));
        walk.take(None, Sequence::new(8));
        assert!(walk.takes(1, "a", at(7)), "it came after its page");
        assert!(!walk.takes(1, "n", at(7)));
        assert!(walk.takes(1, "z", at(9)));
        assert_eq!(walk.ask(), Some((2, None)));
        assert!(!walk.is_done());
        walk.take(None, Sequence::new(1));
        assert!(walk.is_done());
        assert_eq!(walk.ask(), None);
    }
}
