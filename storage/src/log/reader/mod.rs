//! Reading a log's history on any thread: newest first by key, oldest first from a sequence, all or
//! by key, and by time.
//!
//! ```text
//! Log::reader, SealedLog::reader ──→ LogReader: the segments, and where the last one ends
//!
//! read_backward   segment by segment from the newest: index → places of the keys → records
//! read_forward    segment by segment from the one with the sequence, record by record
//! read_forward_by_key    the same: index → places of the keys → records
//! after_time      segment by segment from the newest: index → the last record that is early enough
//! ```
//!
//! | file | |
//! | --- | --- |
//! | `part` | one segment of a reader: its index and its records |
//!
//! A reader is a snapshot: it shows neither what is appended later nor what comes after its
//! `through`. It goes on reading while the log is appended to, rotated and closed. Segments are
//! opened and mapped when they are needed, one at a time.
//!
//! Invariants: every record that is shown passed its checksum, has a sequence of its segment and,
//! for a look-up by key, a key that was asked for. Gaps are skipped. If an index leads to anything
//! else, the reader builds the index again from the segment once; what does not fit then is damage.

mod part;

use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use crate::disk::lock::DirLock;
use crate::disk::segment_file::SegmentEntry;
use crate::index::{IndexBuilder, IndexKey};
use crate::log::log_files::SealedSegment;
use crate::sequence::Span;
use crate::{LogStart, Record, ReplayError, Sequence, StorageError};
use part::{Part, Wanted, whole};

/// A snapshot of a log for reading. `Send`: it is made by the log's owner and used on a helper
/// thread.
#[derive(Debug, Clone)]
pub struct LogReader {
    /// What retention had removed then.
    pub(crate) removed: Option<LogStart>,
    /// Segments that are not appended to, oldest first.
    #[expect(clippy::rc_buffer, reason = "the log's own list, shared")]
    pub(crate) closed: Arc<Vec<SealedSegment>>,
    /// The sequence after the last of them.
    pub(crate) closed_next: Sequence,
    pub(crate) active: Option<ActiveSnapshot>,
    /// The last sequence that is shown.
    pub(crate) through: Sequence,
    /// Up to here nothing can be cut any more, so that an index of it stays right.
    pub(crate) durable: Sequence,
    pub(crate) key: IndexKey,
    /// Keeps the directory from being opened by another while its files may be mapped.
    pub(crate) _lock: Arc<DirLock>,
}

/// The active segment as it is now.
#[derive(Debug, Clone)]
pub(crate) struct ActiveSnapshot {
    pub(crate) entry: SegmentEntry,
    pub(crate) span: Span,
    /// Offset after its last record: what is before it does not change any more.
    pub(crate) end: usize,
    pub(crate) index_builder: IndexBuilder,
}

impl LogReader {
    /// The first record that is still there, or the sequence that the first will have.
    pub fn first_sequence(&self) -> Sequence {
        self.part(0).map_or(self.closed_next, |part| part.span.base)
    }

    /// What retention had removed when the reader was made, if anything.
    pub fn removed(&self) -> Option<LogStart> {
        self.removed
    }

    /// The last sequence that is shown; the one before [`LogReader::first_sequence`] if there is
    /// none.
    pub fn end(&self) -> Sequence {
        self.through
    }

    /// Visits the records whose key is in `keys` and whose sequence is lower than `before`, newest
    /// first, until the visitor breaks. Blocks.
    ///
    /// Cost: for each segment from the newest on, a look into its index; for each record that is
    /// visited, a read of its page. A range of keys takes four bytes of memory for each record that
    /// it has in one segment.
    ///
    /// # Errors
    ///
    /// `Storage` if a segment can't be read or a record in it is damaged, `Missing` if retention
    /// has removed it since the reader was made; `Visit` with the visitor's error, which ends the
    /// reading.
    pub fn read_backward<E>(
        &self,
        keys: RangeInclusive<u64>,
        before: Sequence,
        visit: impl FnMut(Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), ReplayError<E>> {
        let mut visit = passing_over_gaps(visit);
        let before = before.min(self.through.next());
        let wanted = Wanted { keys, before };
        if wanted.keys.is_empty() {
            return Ok(());
        }
        let parts = (0..self.part_count()).rev();
        for part in parts.filter_map(|index| self.part(index)) {
            if part.span.base >= before {
                continue;
            }
            if part.visit_newest(&wanted, &mut visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Visits the records from `from` on, in order, until the visitor breaks. Blocks.
    ///
    /// # Errors
    ///
    /// As of [`LogReader::read_backward`].
    pub fn read_forward<E>(
        &self,
        from: Sequence,
        visit: impl FnMut(Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), ReplayError<E>> {
        let mut visit = passing_over_gaps(visit);
        let shown = self.shown_from(from);
        for part in self.parts_from(from) {
            if part.visit_forward(shown, &mut visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Visits the records from `from` on whose key is in `keys`, in order, until the visitor
    /// breaks. Blocks.
    ///
    /// Cost: for each segment from the one with `from` on, a look into its index; for each record
    /// that is visited, a read of its page. A segment most of whose records are looked for is read
    /// whole.
    ///
    /// # Errors
    ///
    /// As of [`LogReader::read_backward`].
    pub fn read_forward_by_key<E>(
        &self,
        keys: &RangeInclusive<u64>,
        from: Sequence,
        visit: impl FnMut(Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), ReplayError<E>> {
        let mut visit = passing_over_gaps(visit);
        if keys.is_empty() {
            return Ok(());
        }
        let shown = self.shown_from(from);
        for part in self.parts_from(from) {
            if part.visit_by_key((keys, shown), &mut visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The sequence after the last record that is not later than a time: all from there on are
    /// later. Records before it may be later too, since the times of a log may fall. The first
    /// sequence if all records are later. Blocks; reads a part of the index of each segment from
    /// the newest on, until one has such a record.
    ///
    /// # Errors
    ///
    /// What is wrong with a segment that had to be read.
    pub fn after_time(&self, time_micros: i64) -> Result<Sequence, StorageError> {
        let before = self.through.next();
        let shown = |part: &Part<'_>| !part.span.is_empty() && part.span.base < before;
        let parts = (0..self.part_count()).rev();
        for part in parts.filter_map(|index| self.part(index)).filter(shown) {
            if let Some(last) = part.last_until(time_micros, before)? {
                return Ok(last.next());
            }
        }
        Ok(self.first_sequence().min(before))
    }

    /// The segments that have records from `from` on which the reader shows, oldest first.
    fn parts_from(&self, from: Sequence) -> impl Iterator<Item = Part<'_>> {
        let parts = (0..self.part_count()).filter_map(|index| self.part(index));
        parts
            .filter(move |part| part.span.next > from && !part.span.is_empty())
            .take_while(|part| part.span.base <= self.through)
    }

    fn shown_from(&self, from: Sequence) -> Span {
        Span {
            base: from,
            next: self.through.next(),
        }
    }

    fn part_count(&self) -> usize {
        self.closed.len() + usize::from(self.active.is_some())
    }

    /// A segment, by its place among those of the reader.
    fn part(&self, index: usize) -> Option<Part<'_>> {
        let Some(closed) = self.closed.get(index) else {
            let active = self.active.as_ref()?;
            return (index == self.closed.len()).then_some(Part {
                entry: &active.entry,
                span: active.span,
                len: active.end,
                index_builder: Some(&active.index_builder),
                key: self.key,
                durable: self.durable,
            });
        };
        let after = self.closed.get(index + 1);
        Some(Part {
            entry: &closed.entry,
            span: Span {
                base: closed.base,
                next: after.map_or(self.closed_next, |after| after.base),
            },
            len: whole(&closed.entry),
            index_builder: None,
            key: self.key,
            durable: self.durable,
        })
    }
}

fn passing_over_gaps<E>(
    mut visit: impl FnMut(Record<'_>) -> Result<ControlFlow<()>, E>,
) -> impl FnMut(Record<'_>) -> Result<ControlFlow<()>, E> {
    move |record| match record.gap() {
        Some(_) => Ok(ControlFlow::Continue(())),
        None => visit(record),
    }
}
