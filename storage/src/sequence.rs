//! The number of a record, and a record as its reader sees it.

use std::fmt;

/// The number of a record in its log: contiguous, from 1 in a new data directory.
/// [`Sequence::ZERO`] is before every record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u64);

impl Sequence {
    /// Before every record: nothing appended, nothing durable.
    pub const ZERO: Self = Self(0);

    /// The sequence with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sequence after this one.
    ///
    /// # Panics
    ///
    /// At `u64::MAX`, which a log reaches after half a million years of a million records a second.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(
            self.0
                .checked_add(1)
                .expect("a log holds fewer than 2^64 records"),
        )
    }

    /// The sequence before this one; [`Sequence::ZERO`] stays.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// The sequences of a segment's records: from `base` up to `next`, which is not one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) base: Sequence,
    pub(crate) next: Sequence,
}

impl Span {
    pub(crate) fn contains(self, sequence: Sequence) -> bool {
        self.base <= sequence && sequence < self.next
    }

    pub(crate) fn is_empty(self) -> bool {
        self.base == self.next
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A record's place in its group: the records of a group are in a log all or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupPlace {
    /// How many records of the group come before it.
    pub index: u16,
    /// Records of the group, at least two.
    pub count: u16,
}

impl GroupPlace {
    /// Whether the group ends with it.
    pub const fn is_last(self) -> bool {
        self.index.saturating_add(1) == self.count
    }

    /// Whether the record after it can be at this place.
    pub(crate) fn precedes(self, next: Option<Self>) -> bool {
        !self.is_last()
            && next.is_some_and(|next| {
                next.count == self.count && next.index == self.index.saturating_add(1)
            })
    }
}

/// One record, borrowed from a mapped segment for the length of a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number in the log.
    pub sequence: Sequence,
    /// The time that the appender gave it, Unix microseconds.
    pub time_micros: i64,
    /// What the payload is, in the appender's terms.
    pub kind: u8,
    /// Its place in its group, if it is one of several that were appended together.
    pub group: Option<GroupPlace>,
    /// The appender's bytes, never empty.
    pub payload: &'a [u8],
}
