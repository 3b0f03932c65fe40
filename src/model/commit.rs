//! Commit points: what must be durable before something may be seen.
//!
//! "Durable before visible" (DESIGN §3) is decided here and nowhere else. Whoever makes something
//! that others will see (an answer, a push, a part of a listing, the directory) names its
//! [`CommitPoint`], and holds it in a [`CommitQueue`] until the shard says that its visible
//! position has reached it.

use flux_storage::Sequence;
use std::collections::VecDeque;

/// A place in a shard's log. What depends on it may be seen once the log is visible that far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitPoint(Sequence);

impl CommitPoint {
    /// Depends on nothing: visible at once.
    pub const NONE: Self = Self(Sequence::ZERO);

    /// Everything through this event must be durable.
    pub const fn at(sequence: Sequence) -> Self {
        Self(sequence)
    }

    /// The sequence through which the log must be durable.
    pub const fn sequence(self) -> Sequence {
        self.0
    }

    /// True if a log that is visible through `visible` may show what depends on this.
    pub fn is_reached(self, visible: Sequence) -> bool {
        self.0 <= visible
    }

    /// This, or [`CommitPoint::NONE`] if `visible` has reached it already.
    #[must_use]
    pub fn unless_reached(self, visible: Sequence) -> Self {
        if self.is_reached(visible) {
            Self::NONE
        } else {
            self
        }
    }
}

/// What waits for commit points, in order: an entry leaves only after all before it have left.
#[derive(Debug, Clone)]
pub struct CommitQueue<T> {
    entries: VecDeque<(CommitPoint, T)>,
}

impl<T> Default for CommitQueue<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
        }
    }
}

impl<T> CommitQueue<T> {
    /// Appends what may be seen when `point` is reached, and after all that was appended before.
    pub fn push(&mut self, point: CommitPoint, value: T) {
        self.entries.push_back((point, value));
    }

    /// The oldest entry.
    pub fn front(&self) -> Option<&T> {
        self.entries.front().map(|(_, value)| value)
    }

    /// True if the oldest entry may be seen.
    pub fn is_due(&self, visible: Sequence) -> bool {
        self.entries
            .front()
            .is_some_and(|(point, _)| point.is_reached(visible))
    }

    /// Takes the oldest entry if it may be seen.
    pub fn pop_due(&mut self, visible: Sequence) -> Option<T> {
        if self.is_due(visible) {
            self.entries.pop_front().map(|(_, value)| value)
        } else {
            None
        }
    }

    /// Takes the oldest entry, whatever it waits for: the log has failed, and it will never be
    /// visible.
    pub fn pop_failed(&mut self) -> Option<T> {
        self.entries.pop_front().map(|(_, value)| value)
    }

    /// Every entry with its commit point, oldest first.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&mut CommitPoint, &mut T)> {
        self.entries.iter_mut().map(|(point, value)| (point, value))
    }

    /// Drops all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Heap that it holds.
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(CommitPoint, T)>()
    }

    /// Gives back heap beyond `capacity` entries.
    pub fn shrink_to(&mut self, capacity: usize) {
        self.entries.shrink_to(capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_leaves_when_its_commit_point_is_reached_and_not_before_its_elders() {
        let mut queue = CommitQueue::default();
        queue.push(CommitPoint::at(Sequence::new(5)), "a");
        queue.push(CommitPoint::NONE, "b");
        assert_eq!(queue.pop_due(Sequence::new(4)), None);
        assert_eq!(queue.pop_due(Sequence::new(5)), Some("a"));
        assert_eq!(queue.pop_due(Sequence::ZERO), Some("b"));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_point_that_is_reached_is_none() {
        let point = CommitPoint::at(Sequence::new(7));
        assert_eq!(point.unless_reached(Sequence::new(6)), point);
        assert_eq!(point.unless_reached(Sequence::new(7)), CommitPoint::NONE);
    }
}
