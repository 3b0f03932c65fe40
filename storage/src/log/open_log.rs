//! One shard's log: append to memory, write and flush in groups, rotate into the next segment.
//!
//! ```text
//! append ──→ active segment ──→ write_out      begin_flush ──→ Flush ──→ the caller's fdatasync
//!    │ full: rotate into the next segment      finish_flush: durable advances, then the watermark
//!    └ not ready: SegmentNeeded                fail: the log accepts nothing any more
//!
//! next_segment_job ──→ NextSegmentJob, run by a helper thread ──→ install_next_segment
//! index_job ──→ IndexJob, run by a helper thread        reader ──→ LogReader, for any thread
//! ```
//!
//! Invariants:
//! - `durable ≤ written ≤ appended`, and sequences are contiguous;
//! - at most one flush and one next-segment job are out at a time;
//! - the file of a next segment in preparation is never the file of an installed one: a next
//!   segment that is too small is discarded before a larger one of the same ordinal is asked for.
//!
//! A log has one owner and is used from one thread. The shard decides when to flush, and so how
//! many bytes may wait for the disk. What may wait in memory is bounded here.

use std::collections::VecDeque;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use super::log_files::SealedSegment;
use crate::disk::files;
use crate::disk::layout;
use crate::disk::segment_file::{SegmentEntry, map};
use crate::format::header::{Activation, HEADER_BYTES};
use crate::format::log_start::LogStart;
use crate::format::record::{PAYLOAD_BYTES_MAX, record_bytes};
use crate::format::slot::Owner;
use crate::format::walk::{Position, walk_segment};
use crate::index::{IndexBuilder, IndexJob};
use crate::log::flush::{Flush, FlushSegment};
use crate::log::group::{GroupBuffer, is_own_kind};
use crate::log::log_dir::LogDir;
use crate::log::next_segment::{NextSegment, NextSegmentJob};
use crate::log::reader::{ActiveSnapshot, LogReader};
use crate::log::recovery::{Recovered, Recovery, recover};
use crate::log::segment::{BUFFER_BYTES, Segment, SegmentPlan};
use crate::log::watermark::Watermark;
use crate::sequence::Span;
use crate::{AppendError, Record, ReplayError, Sequence, StorageError};

/// Closed segments whose index may wait to be written. Each waits for its last flush and for the
/// helper thread that asks; what does not fit is made by the first reader that needs it.
const INDEX_JOBS_MAX: usize = 4;

/// An open log.
#[derive(Debug)]
pub struct Log {
    pub(super) place: LogDir,
    /// The first sequence that the log ever had: what new segments repeat.
    first_sequence: Sequence,
    /// What retention removed, if anything.
    pub(super) removed: Option<LogStart>,
    /// Shared with a job: a retirement that may still be at work.
    pub(super) retirement: Arc<()>,
    /// Segments before the active one, oldest first. Shared with readers; changed at a rotation.
    #[expect(
        clippy::rc_buffer,
        reason = "a rotation appends in place where no reader holds the list"
    )]
    pub(super) sealed: Arc<Vec<SealedSegment>>,
    /// Those of them that hold records which are not durable, oldest first.
    pub(super) undurable: VecDeque<UndurableSegment>,
    pub(super) active: Segment,
    pub(super) active_base: Sequence,
    /// Keys and places of the active segment's records.
    pub(super) index_builder: IndexBuilder,
    /// Those of closed segments without an index file yet, oldest first, at most
    /// [`INDEX_JOBS_MAX`].
    pub(super) unindexed: VecDeque<IndexJob>,
    pub(super) next_segment: NextSegmentState,
    /// The largest record that an append has asked a segment for since the last rotation.
    record_bytes_wanted: usize,
    pub(super) group: GroupBuffer,
    pub(super) appended: Sequence,
    /// What the kernel has: a killed process does not lose it.
    pub(super) written: Sequence,
    pub(super) durable: Sequence,
    pub(super) is_flushing: bool,
    watermark: Watermark,
    /// What failed, once something did.
    failure: Option<Box<str>>,
}

#[derive(Debug)]
pub(super) struct UndurableSegment {
    pub(super) flush: FlushSegment,
    last: Sequence,
}

#[derive(Debug)]
pub(super) enum NextSegmentState {
    None,
    InPreparation,
    Ready(Box<Segment>),
}

/// What a log takes on disk, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogStats {
    /// Segments with records or the active one; the next segment is not counted.
    pub segment_count: usize,
    /// Bytes of all segment files, the next segment's included.
    pub bytes_on_disk: u64,
    /// Bytes left in the active segment.
    pub active_bytes_free: u64,
    /// Whether a next segment is installed.
    pub has_next_segment: bool,
}

impl Log {
    /// Opens a log: visits every record that is still there in order, cuts a torn tail, and makes
    /// durable what it visited. If retention removed records (`LogDir::origin`) the visits begin
    /// after them. Blocks.
    ///
    /// # Errors
    ///
    /// `Storage` if the log is damaged, which may show only after many visits, or cannot be read or
    /// written; `Visit` with the visitor's error, which ends the replay.
    pub fn open<E>(
        place: LogDir,
        visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(Self, Recovery), ReplayError<E>> {
        let recovered = recover(&place, None, visit)?;
        Ok(Self::from_recovered(place, recovered)?)
    }

    /// Opens a log as [`Log::open`] does, but visits only the records from `from` on. Everything
    /// before `from` is known to be durable, because a checkpoint covers it; segments before the
    /// one that holds `from` are not read beyond their headers. Blocks.
    ///
    /// # Errors
    ///
    /// As for [`Log::open`]; `BehindCheckpoint` if the log ends before `from - 1`, and
    /// `HistoryRemoved` if retention removed `from`.
    pub fn open_from<E>(
        place: LogDir,
        from: Sequence,
        visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(Self, Recovery), ReplayError<E>> {
        let recovered = recover(&place, Some(from), visit)?;
        Ok(Self::from_recovered(place, recovered)?)
    }

    fn from_recovered(
        place: LogDir,
        recovered: Recovered,
    ) -> Result<(Self, Recovery), StorageError> {
        let Recovered {
            files,
            end,
            next_segment,
            recovery,
        } = recovered;
        let last = end.position.next.previous();
        let watermark = Watermark::open(&place.dir, files.owner, last)?;
        let mut entries = files.segments;
        let next_segment = match if next_segment { entries.pop() } else { None } {
            Some(entry) => NextSegmentState::Ready(Box::new(reopen(entry, HEADER_BYTES)?)),
            None => NextSegmentState::None,
        };
        let mut sealed: Vec<SealedSegment> = entries
            .into_iter()
            .zip(end.bases)
            .map(|(entry, base)| SealedSegment { entry, base })
            .collect();
        let newest = sealed.pop().expect("a recovered log has a segment");
        let mut active = reopen(newest.entry, end.position.offset)?;
        let first_kept = files.removed.map_or(1, |log_start| log_start.first_ordinal);
        let closed = first_kept..active.entry.header.ordinal;
        layout::remove_stale_indexes(&place.dir, &closed)?;
        let start = Position {
            offset: HEADER_BYTES,
            next: newest.base,
        };
        let index_key = place.options.index_key;
        active.gather_in(Vec::with_capacity(BUFFER_BYTES));
        let (index_builder, walked) = {
            let region = active.map_written()?;
            IndexBuilder::walk(region.bytes(), active.seed(), start, index_key)
        };
        assert!(walked == end.position, "recovery found the same end");
        if active.entry.activation.is_none() {
            active.activate(Activation {
                base: newest.base,
                durable: last,
            });
            // Before anybody reads what is behind it.
            active.write_out()?;
        }
        let log = Self {
            place,
            first_sequence: files.first_sequence,
            removed: files.removed,
            retirement: Arc::new(()),
            sealed: Arc::new(sealed),
            undurable: VecDeque::new(),
            active,
            active_base: newest.base,
            index_builder,
            unindexed: VecDeque::new(),
            next_segment,
            record_bytes_wanted: 0,
            group: GroupBuffer::default(),
            appended: last,
            written: last,
            durable: last,
            is_flushing: false,
            watermark,
            failure: None,
        };
        Ok((log, recovery))
    }

    /// Appends a record to memory, or to the open group ([`Log::begin_group`]): gone with the
    /// process until [`Log::write_out`], and not durable until a flush that covers it is finished.
    /// If many bytes are pending, writes them first.
    ///
    /// # Errors
    ///
    /// `SegmentNeeded` if the record has to wait for a next segment; `TooLarge`; `Poisoned`, also
    /// if writing fails now ([`Log::failure`]). The record is not appended.
    ///
    /// # Panics
    ///
    /// If the payload is empty, or the kind is 254 or 255: those are the storage's own.
    pub fn append(
        &mut self,
        kind: u8,
        time_micros: i64,
        payload: &[u8],
    ) -> Result<Sequence, AppendError> {
        assert!(!payload.is_empty(), "a record has a payload");
        assert!(is_own_kind(kind), "gaps and groups have kinds of their own");
        if self.failure.is_some() {
            return Err(AppendError::Poisoned);
        }
        if self.group.is_open() {
            return self.append_to_group(kind, time_micros, payload);
        }
        if payload.len() > PAYLOAD_BYTES_MAX {
            let (payload_bytes, payload_bytes_max) = (payload.len(), PAYLOAD_BYTES_MAX);
            return Err(AppendError::TooLarge {
                payload_bytes,
                payload_bytes_max,
            });
        }
        if self.active.is_full_of_pending() {
            self.write_out_or_fail()?;
        }
        let record_bytes = record_bytes(payload.len());
        if record_bytes > self.active.room() {
            self.rotate(record_bytes)?;
        }
        let sequence = self.appended.next();
        self.push(Record {
            sequence,
            time_micros,
            kind,
            group: None,
            payload,
        });
        Ok(sequence)
    }

    /// Adds the next record to the active segment, which has room for it.
    #[inline]
    pub(super) fn push(&mut self, record: Record<'_>) {
        let key = self.place.options.index_key.of_record(&record);
        let end = self.active.end();
        self.index_builder.push(key, end, record.time_micros);
        self.active.append(record, self.durable);
        self.appended = record.sequence;
    }

    /// The first record that is still there, or the first to come where there is none.
    pub fn first_sequence(&self) -> Sequence {
        self.removed
            .map_or(self.first_sequence, |log_start| log_start.first_sequence)
    }

    /// What retention removed, if anything.
    pub fn removed(&self) -> Option<LogStart> {
        self.removed
    }

    /// Whose log it is, as its checkpoints name it.
    pub fn owner(&self) -> Owner {
        self.watermark.owner()
    }

    /// The last record's sequence, durable or not.
    pub fn appended(&self) -> Sequence {
        self.appended
    }

    /// The last durable record's sequence.
    pub fn durable(&self) -> Sequence {
        self.durable
    }

    /// The last sequence that a killed process does not lose.
    pub fn written(&self) -> Sequence {
        self.written
    }

    /// Hands all that was appended to the kernel, so that a killed process does not lose it. What
    /// was written before is not written again. Waits for the disk only if the kernel wants less
    /// memory to wait for it.
    ///
    /// # Errors
    ///
    /// What writing said, after which the log accepts nothing; `Poisoned` if that was so before.
    pub fn write_out(&mut self) -> Result<(), StorageError> {
        if let Some(reason) = &self.failure {
            return Err(StorageError::Poisoned {
                reason: reason.clone(),
            });
        }
        if self.written < self.appended {
            if let Err(error) = self.active.write_out() {
                // A flush that is out was begun before: what it covers is in the file.
                self.failure = Some(error.to_string().into());
                return Err(error);
            }
            self.written = self.appended;
        }
        Ok(())
    }

    /// For an append that needs it first.
    fn write_out_or_fail(&mut self) -> Result<(), AppendError> {
        self.write_out()
            .map_err(|_told_by_failure| AppendError::Poisoned)
    }

    /// What failed, if the log accepts nothing any more.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Writes all that was appended, and begins to flush it; `None` if all of it is durable.
    ///
    /// # Errors
    ///
    /// Those of [`Log::write_out`].
    ///
    /// # Panics
    ///
    /// If a flush is in progress: one at a time.
    pub fn begin_flush(&mut self) -> Result<Option<Flush>, StorageError> {
        assert!(!self.is_flushing, "one flush at a time");
        self.write_out()?;
        if self.durable == self.appended {
            return Ok(None);
        }
        self.is_flushing = true;
        let sealed = self.undurable.iter().map(|segment| segment.flush.clone());
        // An active segment without a record has nothing to flush: rotation is followed by an
        // append.
        let segments = sealed
            .chain(std::iter::once(flush_segment(&self.active)))
            .collect();
        Ok(Some(Flush {
            through: self.appended,
            segments,
        }))
    }

    /// Every segment of this flush was flushed: what it covers is durable, also if writing
    /// something else has failed meanwhile. Does not block. After [`Log::fail`] nothing happens.
    ///
    /// # Panics
    ///
    /// If no flush is in progress: it is another log's.
    pub fn finish_flush(&mut self, flush: Flush) {
        if self.failure.is_some() && !self.is_flushing {
            return;
        }
        assert!(
            self.is_flushing,
            "a flush is finished by the log that began it"
        );
        let Flush {
            through,
            segments: _flushed,
        } = flush;
        assert!(self.durable < through && through <= self.appended);
        self.is_flushing = false;
        self.durable = through;
        while self
            .undurable
            .front()
            .is_some_and(|segment| segment.last <= self.durable)
        {
            self.undurable.pop_front();
        }
        self.watermark.set(self.durable);
    }

    /// A write or flush failed: what is on the disk is unknown from here on, so nothing more is
    /// accepted until the data directory is opened again. The first reason stays.
    pub fn fail(&mut self, reason: &(impl Display + ?Sized)) {
        self.is_flushing = false;
        self.failure
            .get_or_insert_with(|| reason.to_string().into());
    }

    /// Flushes all that was appended, with plain `fdatasync`. Blocks: for tests, tools and the end.
    ///
    /// # Errors
    ///
    /// What writing or the flush said, after which the log accepts nothing; `Poisoned` if that was
    /// so before.
    ///
    /// # Panics
    ///
    /// If a flush is in progress.
    pub fn flush_blocking(&mut self) -> Result<(), StorageError> {
        let Some(flush) = self.begin_flush()? else {
            return Ok(());
        };
        let flushed = flush.sync_blocking();
        match &flushed {
            Ok(()) => self.finish_flush(flush),
            Err(error) => self.fail(error),
        }
        flushed
    }

    /// The preparation of the next segment, if one is wanted: exactly once until
    /// [`Log::install_next_segment`] or [`Log::next_segment_failed`]. Ask after opening, after
    /// every append and after either of those; it costs a comparison.
    pub fn next_segment_job(&mut self) -> Option<NextSegmentJob> {
        if !matches!(self.next_segment, NextSegmentState::None) || self.failure.is_some() {
            return None;
        }
        self.next_segment = NextSegmentState::InPreparation;
        let active = &self.active.entry.header;
        let capacity = self
            .place
            .options
            .next_capacity(active.capacity, self.record_bytes_wanted);
        let plan = SegmentPlan {
            dir: Arc::clone(&self.place.dir),
            owner: self.watermark.owner(),
            world: self.place.world,
            ordinal: active.ordinal + 1,
            capacity,
            first_sequence: self.first_sequence,
            leave_bytes: 0,
        };
        let lock = Arc::clone(&self.place.lock);
        Some(NextSegmentJob { plan, lock })
    }

    /// Takes the segment that a job made. A segment that has become too small meanwhile is
    /// discarded, and the next [`Log::next_segment_job`] is for a larger one. Does not block.
    ///
    /// # Panics
    ///
    /// If no job was out, or the next segment is of another log.
    pub fn install_next_segment(&mut self, next_segment: NextSegment) {
        assert!(
            matches!(self.next_segment, NextSegmentState::InPreparation),
            "a spare follows its job"
        );
        let NextSegment { segment } = next_segment;
        let (header, active) = (&segment.entry.header, &self.active.entry.header);
        assert!(header.log == active.log && header.ordinal == active.ordinal + 1);
        let is_large_enough = segment.room_when_empty() >= self.record_bytes_wanted;
        self.next_segment = if is_large_enough {
            NextSegmentState::Ready(Box::new(segment))
        } else {
            NextSegmentState::None
        };
    }

    /// How much of the active segment is used, in thousandths: when the next one will be wanted.
    pub fn active_used_permille(&self) -> u32 {
        let capacity = self.active.capacity();
        let used = (capacity - self.active.room()) as u128 * 1000 / capacity as u128;
        u32::try_from(used).unwrap_or(1000)
    }

    /// A job failed, for example because the disk is full: [`Log::next_segment_job`] may be asked
    /// again. The log goes on while the active segment has room.
    ///
    /// # Panics
    ///
    /// If no job was out.
    pub fn next_segment_failed(&mut self) {
        assert!(
            matches!(self.next_segment, NextSegmentState::InPreparation),
            "a job fails once"
        );
        self.next_segment = NextSegmentState::None;
    }

    /// A job that writes the index of a closed segment, if one is to be written. Ask as for
    /// [`Log::next_segment_job`], and after a flush: a segment's index is written when all of it is
    /// durable.
    pub fn index_job(&mut self) -> Option<IndexJob> {
        let oldest = self.unindexed.front()?;
        let is_durable = oldest.span.next.previous() <= self.durable;
        if is_durable {
            self.unindexed.pop_front()
        } else {
            None
        }
    }

    /// A reader of what is in the log now, up to `through`: whoever shows only what is durable says
    /// [`Log::durable`]. Writes what was appended, since readers read the file; if that fails they
    /// are shown less, and the log accepts nothing any more. Copies at most 48 KiB.
    pub fn reader(&mut self, through: Sequence) -> LogReader {
        // Told by `failure`.
        files::hint(self.write_out());
        let end = self.active.written();
        let mut index_builder = self.index_builder.clone();
        index_builder.cut(end);
        let active = ActiveSnapshot {
            entry: self.active.entry.clone(),
            span: Span {
                base: self.active_base,
                next: self.written.next(),
            },
            end,
            index_builder,
        };
        LogReader {
            closed: Arc::clone(&self.sealed),
            closed_next: self.active_base,
            active: Some(active),
            through: through.min(self.written),
            durable: self.durable,
            removed: self.removed,
            key: self.place.options.index_key,
            _lock: Arc::clone(&self.place.lock),
        }
    }

    /// Visits the records from `from` on, in order, up to the last appended; those after
    /// [`Log::durable`] are not durable yet. Blocks while cold segments are read.
    ///
    /// # Errors
    ///
    /// `Storage` if what was appended can't be written, a segment cannot be read or a record in it
    /// is damaged; `Visit` with the visitor's error, which ends the replay.
    pub fn replay_from<E>(
        &mut self,
        from: Sequence,
        mut visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), ReplayError<E>> {
        self.write_out()?;
        let mut visit_from = |record: Record<'_>| {
            if record.sequence < from {
                Ok(())
            } else {
                visit(record)
            }
        };
        let skipped = self
            .sealed
            .partition_point(|segment| segment.base <= from)
            .saturating_sub(1);
        let nexts = self
            .sealed
            .iter()
            .map(|segment| segment.base)
            .skip(1)
            .chain([self.active_base]);
        for (segment, next) in self.sealed.iter().zip(nexts).skip(skipped) {
            if next <= from {
                continue;
            }
            let region = map(&segment.entry)?;
            let seed = segment.entry.header.salt.seed();
            let start = Position {
                offset: HEADER_BYTES,
                next: segment.base,
            };
            let end = walk_segment(region.bytes(), seed, start, &mut visit_from)
                .map_err(ReplayError::Visit)?;
            self.check_end(&segment.entry.path, end, next)?;
        }
        let start = Position {
            offset: HEADER_BYTES,
            next: self.active_base,
        };
        let region = self.active.map_written()?;
        let end = walk_segment(region.bytes(), self.active.seed(), start, &mut visit_from)
            .map_err(ReplayError::Visit)?;
        Ok(self.check_end(&self.active.entry.path, end, self.appended.next())?)
    }

    /// About how many bytes the records after `sequence` take. Does not block; linear in the number
    /// of segments after it.
    pub fn bytes_since(&self, sequence: Sequence) -> u64 {
        let active_bytes = (self.active.capacity() - self.active.room() - HEADER_BYTES) as u64;
        let next = self.appended.next();
        let mut bytes = share(active_bytes, (self.active_base, next), sequence);
        let mut next = self.active_base;
        for segment in self.sealed.iter().rev() {
            if next <= sequence.next() {
                break;
            }
            let room = segment.entry.header.capacity - HEADER_BYTES as u64;
            bytes += share(room, (segment.base, next), sequence);
            next = segment.base;
        }
        bytes
    }

    /// Flushes what is left and leaves the watermark durable. Blocks.
    ///
    /// # Errors
    ///
    /// What writing or the flush said; `Poisoned` if the log had failed.
    ///
    /// # Panics
    ///
    /// If a flush is in progress.
    pub fn close(mut self) -> Result<(), StorageError> {
        self.flush_blocking()?;
        self.watermark.record(self.durable)
    }

    /// What the log takes on disk. Cost: linear in the number of segments.
    pub fn stats(&self) -> LogStats {
        let next_segment_bytes = match &self.next_segment {
            NextSegmentState::Ready(segment) => segment.entry.header.capacity,
            NextSegmentState::None | NextSegmentState::InPreparation => 0,
        };
        let sealed: u64 = self
            .sealed
            .iter()
            .map(|segment| segment.entry.header.capacity)
            .sum();
        LogStats {
            segment_count: self.sealed.len() + 1,
            bytes_on_disk: sealed + self.active.entry.header.capacity + next_segment_bytes,
            active_bytes_free: self.active.room() as u64,
            has_next_segment: next_segment_bytes != 0,
        }
    }

    /// Makes the next segment the active segment, for a record of so many bytes.
    #[cold]
    pub(super) fn rotate(&mut self, record_bytes: usize) -> Result<(), AppendError> {
        if !self.next_segment_holds(record_bytes) {
            return Err(self.want_segment(record_bytes));
        }
        let before = std::mem::replace(&mut self.next_segment, NextSegmentState::None);
        let NextSegmentState::Ready(next_segment) = before else {
            return Err(self.want_segment(record_bytes));
        };
        self.write_out_or_fail()?;
        let full = std::mem::replace(&mut self.active, *next_segment);
        if self.durable < self.appended {
            let flush = flush_segment(&full);
            self.undurable.push_back(UndurableSegment {
                flush,
                last: self.appended,
            });
        }
        let job = IndexJob {
            entry: full.entry.clone(),
            span: Span {
                base: self.active_base,
                next: self.appended.next(),
            },
            index_builder: std::mem::take(&mut self.index_builder),
            key: self.place.options.index_key,
            lock: Arc::clone(&self.place.lock),
        };
        if job.key.is_kept() && self.unindexed.len() < INDEX_JOBS_MAX {
            self.unindexed.push_back(job);
        }
        Arc::make_mut(&mut self.sealed).push(SealedSegment {
            entry: full.entry.clone(),
            base: self.active_base,
        });
        self.active.gather_in(full.into_buffer());
        self.active_base = self.appended.next();
        self.active.activate(Activation {
            base: self.active_base,
            durable: self.durable,
        });
        self.record_bytes_wanted = 0;
        Ok(())
    }

    /// Whether the next segment is ready and has room for so many bytes.
    pub(super) fn next_segment_holds(&self, record_bytes: usize) -> bool {
        matches!(&self.next_segment, NextSegmentState::Ready(next_segment)
            if next_segment.room_when_empty() >= record_bytes)
    }

    /// Lets the next segment be one that has room for so many bytes. One that is ready is given up:
    /// it is too small.
    pub(super) fn want_segment(&mut self, record_bytes: usize) -> AppendError {
        self.record_bytes_wanted = self.record_bytes_wanted.max(record_bytes);
        if matches!(self.next_segment, NextSegmentState::Ready(_)) {
            self.next_segment = NextSegmentState::None;
        }
        AppendError::SegmentNeeded { record_bytes }
    }

    fn check_end(&self, path: &Path, end: Position, next: Sequence) -> Result<(), StorageError> {
        if end.next == next {
            return Ok(());
        }
        let (offset, durable) = (end.offset as u64, self.durable);
        Err(StorageError::DamagedRecord {
            path: path.into(),
            offset,
            sequence: end.next,
            durable,
        })
    }
}

/// The part of `bytes` that the records after `sequence` take, were all records from `first` to
/// before `next` of one size.
fn share(bytes: u64, (first, next): (Sequence, Sequence), sequence: Sequence) -> u64 {
    let count = next.get().saturating_sub(first.get());
    let after = next.get().saturating_sub(sequence.next().get()).min(count);
    let part = u128::from(bytes) * u128::from(after) / u128::from(count.max(1));
    u64::try_from(part).expect("a part is no larger than the whole")
}

fn flush_segment(segment: &Segment) -> FlushSegment {
    FlushSegment {
        ordinal: segment.entry.header.ordinal,
        path: Arc::clone(&segment.entry.path),
        file: Arc::clone(&segment.file),
    }
}

pub(super) fn reopen(entry: SegmentEntry, end: usize) -> Result<Segment, StorageError> {
    let file = files::open_write(&entry.path)?;
    Ok(Segment::new(entry, file, end))
}
