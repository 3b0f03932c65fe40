//! The history index: which records of a segment have which key, so that reading one entity's
//! events does not read all others.
//!
//! ```text
//! append ─→ IndexBuilder, in memory: key and place of each record of the active segment
//!              │ rotation                         readers have a snapshot: full chunks are shared
//!              ↓
//!           IndexJob, on a helper thread: sorts, writes <ordinal>.idx
//!              ↓
//!           IndexFile: read by blocks, each checked
//!              │ missing, damaged, foreign
//!              ↓
//!           IndexBuilder, filled again by a walk through the segment
//! ```
//!
//! | file | |
//! | --- | --- |
//! | `builder` | the index of the active segment, in memory |
//! | `file` | the index file of a closed segment: reading and writing |
//! | `job` | writing an index file on a helper thread |
//! | `merged_runs` | several sorted runs as one |
//! | `newest` | places in descending order, sorted only as far as they are taken |
//! | `times` | the earliest and the latest time of a closed segment |
//!
//! Invariants:
//! - an index file is a cache: it is never flushed and may be deleted. A reader checks its
//!   checksums and every record that it leads to;
//! - it is written only if every record of its segment is durable, so that no torn tail is ever cut
//!   out of an indexed segment and replaced by other records with the same sequences;
//! - a key is the result of [`IndexKey::of`]. Different ids may have the same key, so readers
//!   compare ids.
//!
//! This folder must not know an open log.

mod builder;
mod file;
mod job;
mod merged_runs;
mod newest;
mod times;

pub(crate) use builder::IndexBuilder;
pub(crate) use file::{IndexFile, write};
pub use job::IndexJob;
pub use merged_runs::MergedRuns;
pub(crate) use newest::Newest;
pub(crate) use times::time_range;

use std::borrow::Cow;
use std::ops::RangeInclusive;

use crate::disk::segment_file::{SegmentEntry, TimeRange};
use crate::format::CrcSeed;
use crate::format::index::{BLOCK_ENTRIES, Place};
use crate::format::record::{StoredRecord, decode};
use crate::sequence::Span;
use crate::{Record, Sequence};

/// By which keys the history of a log is looked up.
#[derive(Debug, Clone, Copy)]
pub struct IndexKey {
    /// The number that stands in the index files for this function: another function, another
    /// number. 0 is that of [`IndexKey::NONE`].
    pub scheme: u32,
    /// The key of a record of this kind with this payload. Total: it is asked for every record.
    pub of: fn(u8, &[u8]) -> u64,
}

impl IndexKey {
    /// Every record has key 0, and no index file is written.
    pub const NONE: Self = Self {
        scheme: 0,
        of: |_, _| 0,
    };

    /// Whether index files are written with these keys.
    pub(crate) fn is_kept(self) -> bool {
        self.scheme != Self::NONE.scheme
    }

    pub(crate) fn of_record(self, record: &Record<'_>) -> u64 {
        (self.of)(record.kind, record.payload)
    }
}

impl PartialEq for IndexKey {
    /// By the number, which is what the functions are told apart by on disk.
    fn eq(&self, other: &Self) -> bool {
        self.scheme == other.scheme
    }
}

impl Eq for IndexKey {}

/// An index and its segment do not fit each other, or the index can't be read: it has to be made
/// anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mismatch;

/// A segment whose records are known by number.
#[derive(Debug, Clone)]
pub(crate) struct IndexedSegment<'a> {
    pub(crate) entry: &'a SegmentEntry,
    /// Its records.
    pub(crate) span: Span,
}

/// What knows the places of a segment's records.
#[derive(Debug)]
pub(crate) enum SegmentIndex<'a> {
    File(IndexFile),
    Memory(Cow<'a, IndexBuilder>),
}

/// A record that was looked for by its sequence.
#[derive(Debug)]
pub(crate) struct Sought {
    pub(crate) place: Place,
    /// The sequence that follows the record before it.
    pub(crate) expected: Sequence,
}

impl SegmentIndex<'_> {
    /// The last record in a segment's `bytes` that is not later than a time and comes before
    /// `before`. Times may fall, so that the blocks are asked from the last one on. Cost: a
    /// comparison for each block, and a walk through each that may have such a record.
    pub(crate) fn last_until(
        &self,
        bytes: &[u8],
        (seed, span): (CrcSeed, Span),
        (time_micros, before): (i64, Sequence),
    ) -> Result<Option<Sequence>, Mismatch> {
        for block in (0..self.block_count()).rev() {
            if self.earliest_micros(block) > time_micros {
                continue;
            }
            let mut offset = self.block_place(block).offset();
            let mut last = None;
            for _ in 0..BLOCK_ENTRIES {
                let stored = bytes.get(offset..).and_then(|rest| decode(rest, seed));
                let stored = stored.filter(|stored| span.contains(stored.record.sequence));
                let StoredRecord { record, bytes, .. } = stored.ok_or(Mismatch)?;
                if record.sequence >= before {
                    break;
                }
                if record.time_micros <= time_micros {
                    last = Some(record.sequence);
                }
                if record.sequence.next() == span.next {
                    break;
                }
                offset += bytes;
            }
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    fn block_count(&self) -> usize {
        match self {
            Self::File(file) => file.mark_count(),
            Self::Memory(builder) => builder.len().div_ceil(BLOCK_ENTRIES),
        }
    }

    fn block_place(&self, block: usize) -> Place {
        match self {
            Self::File(file) => file.mark(block),
            Self::Memory(builder) => builder.place(block * BLOCK_ENTRIES),
        }
    }

    /// The times of all records lie in this.
    pub(crate) fn times(&self) -> TimeRange {
        match self {
            Self::File(file) => file.times(),
            Self::Memory(builder) => builder.times(),
        }
    }

    fn earliest_micros(&self, block: usize) -> i64 {
        match self {
            Self::File(file) => file.earliest_micros(block),
            Self::Memory(builder) => builder.earliest_micros(block),
        }
    }

    /// The places before `below` of the records whose key is in `keys`, in no order.
    pub(crate) fn gather(
        &self,
        keys: &RangeInclusive<u64>,
        below: Place,
    ) -> Result<Vec<Place>, Mismatch> {
        match self {
            Self::File(file) => file.gather(keys, below),
            Self::Memory(builder) => Ok(builder.gather(keys, below)),
        }
    }

    fn mark_count(&self) -> usize {
        match self {
            Self::File(file) => file.mark_count(),
            Self::Memory(builder) => builder.len(),
        }
    }

    fn mark(&self, index: usize) -> Place {
        match self {
            Self::File(file) => file.mark(index),
            Self::Memory(builder) => builder.place(index),
        }
    }

    /// The first record in a segment's `bytes` that is not `before` what is looked for; `None` if
    /// all are. `before` holds for the records up to some point and for none after it. Cost: a
    /// binary search over the marks, and a walk from one to the next.
    pub(crate) fn seek(
        &self,
        bytes: &[u8],
        (seed, span): (CrcSeed, Span),
        before: impl Fn(&Record<'_>) -> bool,
    ) -> Result<Option<Sought>, Mismatch> {
        let read = |place: Place| -> Result<StoredRecord<'_>, Mismatch> {
            let stored = bytes
                .get(place.offset()..)
                .and_then(|rest| decode(rest, seed));
            stored
                .filter(|stored| span.contains(stored.record.sequence))
                .ok_or(Mismatch)
        };
        let passed = try_partition(self.mark_count(), |index| {
            read(self.mark(index)).map(|stored| before(&stored.record))
        })?;
        if span.is_empty() || self.mark_count() == 0 {
            return Ok(None);
        }
        // The record before the mark that is not passed, so that what follows it is known.
        let mut place = self.mark(passed.saturating_sub(1));
        let mut expected = span.base;
        loop {
            let StoredRecord {
                record,
                bytes: record_len,
                ..
            } = read(place)?;
            if !before(&record) {
                return Ok(Some(Sought { place, expected }));
            }
            expected = record.sequence.next();
            if expected == span.next {
                return Ok(None);
            }
            place = Place::of(place.offset() + record_len);
        }
    }
}

/// How many of `count` things come before the first for which `is_before` is false: a binary search
/// that may fail.
pub(crate) fn try_partition<E>(
    count: usize,
    mut is_before: impl FnMut(usize) -> Result<bool, E>,
) -> Result<usize, E> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if is_before(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_found_wherever_it_is() {
        for count in 0..20 {
            for point in 0..=count {
                let found = try_partition(count, |index| {
                    Ok::<_, std::convert::Infallible>(index < point)
                });
                assert_eq!(found, Ok(point), "of {count}");
            }
        }
        assert_eq!(
            try_partition(3, |_| Err::<bool, _>(Mismatch)),
            Err(Mismatch)
        );
    }
}
