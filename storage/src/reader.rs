//! Reading a log's history on any thread: newest first by key, oldest first from a sequence, and by time.
//!
//! ```text
//! Log::reader, SealedLog::reader ──→ LogReader: which segments there are and where the last one ends
//!
//! read_backward   segment by segment from the newest: index → places of the keys → records
//! read_forward    segment by segment from the one with the sequence, record by record
//! after_time      binary search over the first records of the segments, then within one
//! ```
//!
//! A reader is a snapshot: it shows neither what is appended later nor what comes after its `through`, and it
//! goes on reading while the log is appended to, rotated and closed. Segments are opened and mapped when they are
//! needed, one at a time.
//!
//! Invariants: every record that is shown was decoded with its checksum, has a sequence of its segment and, where
//! it was looked up, a key that was asked for. An index that leads elsewhere is made anew once, from the segment;
//! what does not fit then is damage.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use crate::files::{self, at};
use crate::format::CrcSeed;
use crate::format::header::HEADER_BYTES;
use crate::format::horizon::Horizon;
use crate::format::index::Place;
use crate::format::record::decode;
use crate::index::{
    self, IndexFile, IndexKey, IndexedSegment, Mismatch, Newest, Notes, SegmentIndex, try_partition,
};
use crate::lock::DirLock;
use crate::log::SealedSegment;
use crate::log_files::LogFiles;
use crate::recovery::{Position, walk_segment};
use crate::region::ReadRegion;
use crate::sealed::SealedLog;
use crate::segment::SegmentEntry;
use crate::sequence::Span;
use crate::{Record, ReplayError, Sequence, StorageError, watermark};

/// A snapshot of a log for reading. `Send`: it is made by the log's owner and used on a helper thread.
#[derive(Debug, Clone)]
pub struct LogReader {
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
    /// What retention had removed when the reader was made.
    pub(crate) removed: Option<Horizon>,
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
    pub(crate) notes: Notes,
}

/// One segment of a reader.
#[derive(Debug, Clone)]
struct Part<'a> {
    segment: IndexedSegment<'a>,
    /// Bytes that may be mapped.
    len: usize,
    /// Of the active segment.
    notes: Option<&'a Notes>,
}

/// What a reader looks for.
struct Wanted {
    keys: RangeInclusive<u64>,
    before: Sequence,
}

/// How far the places of one index led.
enum Led {
    /// Through all of them.
    ToTheEnd,
    /// To a record that the visitor stopped at.
    ToAStop,
    /// To something that is not what the index says, at this offset.
    Astray(usize),
}

/// Why a walk through a segment ended before its end.
enum Stop<E> {
    Visitor,
    Refused(E),
    Through,
}

impl LogReader {
    /// The first record that is still there, or the sequence that the first will have.
    pub fn first_sequence(&self) -> Sequence {
        self.part(0)
            .map_or(self.closed_next, |part| part.segment.span.base)
    }

    /// What retention had removed when the reader was made, if anything.
    pub fn removed(&self) -> Option<Horizon> {
        self.removed
    }

    /// The last sequence that is shown; the one before [`LogReader::first_sequence`] where none is.
    pub fn end(&self) -> Sequence {
        self.through
    }

    /// Visits the records whose key is in `keys` and whose sequence is lower than `before`, newest first, until
    /// the visitor breaks. Blocks.
    ///
    /// Cost: for each segment from the newest on, a look into its index; for each record that is visited, a read
    /// of its page. A range of keys takes four bytes of memory for each record that it has in one segment.
    ///
    /// # Errors
    ///
    /// `Storage` where a segment can't be read or a record in it is damaged, `Missing` where retention has removed
    /// it since the reader was made; `Visit` with the visitor's error, which ends the reading.
    pub fn read_backward<E>(
        &self,
        keys: RangeInclusive<u64>,
        before: Sequence,
        mut visit: impl FnMut(Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), ReplayError<E>> {
        let before = before.min(self.through.next());
        let wanted = Wanted { keys, before };
        if wanted.keys.is_empty() {
            return Ok(());
        }
        for part in (0..self.part_count())
            .rev()
            .filter_map(|index| self.part(index))
        {
            if part.segment.span.base >= before {
                continue;
            }
            if self.visit_newest(&part, &wanted, &mut visit)?.is_break() {
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
        mut visit: impl FnMut(Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), ReplayError<E>> {
        for part in (0..self.part_count()).filter_map(|index| self.part(index)) {
            let span = part.segment.span;
            if span.next <= from || span.base == span.next {
                continue;
            }
            if span.base > self.through {
                break;
            }
            if self.visit_from(&part, from, &mut visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The first sequence whose record is later than a time, or the one after [`LogReader::end`] where none is.
    /// Times must not fall within the log. Blocks; reads a few pages of a few segments.
    ///
    /// # Errors
    ///
    /// What is wrong with a segment that had to be read.
    pub fn after_time(&self, time_micros: i64) -> Result<Sequence, StorageError> {
        let none = self.through.next();
        let shown = |part: &Part<'_>| {
            let span = part.segment.span;
            span.base < span.next && span.base <= self.through
        };
        let parts: Vec<Part<'_>> = (0..self.part_count())
            .filter_map(|index| self.part(index))
            .filter(shown)
            .collect();
        let early = try_partition(parts.len(), |index| {
            self.first_time(&parts[index])
                .map(|first| first <= time_micros)
        })?;
        let Some(part) = early.checked_sub(1).and_then(|last| parts.get(last)) else {
            return Ok(parts.first().map_or(none, |part| part.segment.span.base));
        };
        let region = part.map()?;
        let later = self.seek(part, &region, |record| record.time_micros <= time_micros)?;
        // The next segment, if there is one, begins later than the time.
        let sequence = later.map_or(part.segment.span.next, |(_, sequence)| sequence);
        Ok(sequence.min(none))
    }

    /// The reader of a log that is not written to any more. Blocks.
    pub(crate) fn of_sealed(log: &SealedLog) -> Result<Self, StorageError> {
        let files = LogFiles::list(&log.dir, log.id)?;
        let durable = watermark::read_hint(&files.dir, files.owner);
        let (first_kept, removed) = (files.first_kept(), files.removed);
        let count = files.segments.len();
        let mut closed: Vec<SealedSegment> = Vec::new();
        for entry in files.segments {
            let region = map_prefix(&entry, whole(&entry))?;
            let seed = entry.header.salt.seed();
            let Some(first) = record_at(region.bytes(), seed, HEADER_BYTES) else {
                // A log that never had a record has one segment, without any.
                if count == 1 {
                    break;
                }
                let expected = match closed.last() {
                    Some(last) => last.next(log.index_key)?,
                    None => first_kept,
                };
                return Err(damaged(&entry, (HEADER_BYTES, expected), durable));
            };
            let base = first.sequence;
            closed.push(SealedSegment { entry, base });
        }
        let closed_next = match closed.last() {
            Some(last) => last.next(log.index_key)?,
            None => first_kept,
        };
        let through = closed_next.previous();
        Ok(Self {
            closed: Arc::new(closed),
            closed_next,
            active: None,
            through,
            durable: through,
            removed,
            key: log.index_key,
            _lock: Arc::clone(&log.lock),
        })
    }

    fn part_count(&self) -> usize {
        self.closed.len() + usize::from(self.active.is_some())
    }

    fn part(&self, index: usize) -> Option<Part<'_>> {
        let Some(closed) = self.closed.get(index) else {
            let active = self.active.as_ref()?;
            return (index == self.closed.len()).then_some(Part {
                segment: IndexedSegment {
                    entry: &active.entry,
                    span: active.span,
                },
                len: active.end,
                notes: Some(&active.notes),
            });
        };
        let next = self
            .closed
            .get(index + 1)
            .map_or(self.closed_next, |after| after.base);
        let base = closed.base;
        Some(Part {
            segment: IndexedSegment {
                entry: &closed.entry,
                span: Span { base, next },
            },
            len: whole(&closed.entry),
            notes: None,
        })
    }

    /// Visits a segment's part of what is wanted, newest first.
    fn visit_newest<E>(
        &self,
        part: &Part<'_>,
        wanted: &Wanted,
        visit: &mut impl FnMut(Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<ControlFlow<()>, ReplayError<E>> {
        let mut below = Place::END;
        let indexed = |index: &SegmentIndex, below: &mut Place, visit: &mut _| {
            self.follow(part, index, (wanted, below), visit)
        };
        if let Some(index) = self.index_at_hand(part) {
            match indexed(&index, &mut below, visit)? {
                Led::ToTheEnd => return Ok(ControlFlow::Continue(())),
                Led::ToAStop => return Ok(ControlFlow::Break(())),
                Led::Astray(_) => {}
            }
        }
        // What was visited before the index led astray lies at `below` and after it.
        let index = self.made_anew(part)?;
        match indexed(&index, &mut below, visit)? {
            Led::ToTheEnd => Ok(ControlFlow::Continue(())),
            Led::ToAStop => Ok(ControlFlow::Break(())),
            Led::Astray(offset) => Err(self.damaged(part, offset).into()),
        }
    }

    /// Visits the records that an index leads to, below a place, which goes along.
    fn follow<E>(
        &self,
        part: &Part<'_>,
        index: &SegmentIndex,
        (wanted, below): (&Wanted, &mut Place),
        visit: &mut impl FnMut(Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<Led, ReplayError<E>> {
        let Ok(places) = index.gather(&wanted.keys, *below) else {
            return Ok(Led::Astray(HEADER_BYTES));
        };
        if places.is_empty() {
            return Ok(Led::ToTheEnd);
        }
        let region = part.map()?;
        let (bytes, seed, span) = (region.bytes(), part.seed(), part.segment.span);
        let mut bound = *below;
        if wanted.before < span.next {
            match index.seek(bytes, (seed, span), |record| {
                record.sequence < wanted.before
            }) {
                Ok(Some((place, _))) => bound = bound.min(place),
                Ok(None) | Err(Mismatch) => return Ok(Led::Astray(HEADER_BYTES)),
            }
        }
        let places = places.into_iter().filter(|&place| place < bound);
        for place in Newest::new(places.collect()) {
            let record = record_at(bytes, seed, place.offset());
            let is_wanted = |record: &Record<'_>| {
                span.contains(record.sequence)
                    && record.sequence < wanted.before
                    && wanted.keys.contains(&self.key.of_record(record))
            };
            let Some(record) = record.filter(is_wanted) else {
                return Ok(Led::Astray(place.offset()));
            };
            *below = place;
            if visit(record).map_err(ReplayError::Visit)?.is_break() {
                return Ok(Led::ToAStop);
            }
        }
        Ok(Led::ToTheEnd)
    }

    /// Visits a segment's records from a sequence on, as far as they are shown.
    fn visit_from<E>(
        &self,
        part: &Part<'_>,
        from: Sequence,
        visit: &mut impl FnMut(Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<ControlFlow<()>, ReplayError<E>> {
        let span = part.segment.span;
        let region = part.map()?;
        let start = self.start(part, &region, from);
        let mut visit_shown = |record: Record<'_>| {
            if record.sequence > self.through {
                return Err(Stop::Through);
            }
            if record.sequence < from {
                return Ok(());
            }
            match visit(record) {
                Ok(ControlFlow::Continue(())) => Ok(()),
                Ok(ControlFlow::Break(())) => Err(Stop::Visitor),
                Err(refusal) => Err(Stop::Refused(refusal)),
            }
        };
        match walk_segment(region.bytes(), part.seed(), start, &mut visit_shown) {
            Ok(end) if end.next == span.next => Ok(ControlFlow::Continue(())),
            Ok(end) => Err(self.ends_early(part, end).into()),
            Err(Stop::Visitor | Stop::Through) => Ok(ControlFlow::Break(())),
            Err(Stop::Refused(refusal)) => Err(ReplayError::Visit(refusal)),
        }
    }

    /// Where a walk to `from` starts: as near as an index that is there says, else with the segment.
    fn start(&self, part: &Part<'_>, region: &ReadRegion, from: Sequence) -> Position {
        let span = part.segment.span;
        let beginning = Position {
            offset: HEADER_BYTES,
            next: span.base,
        };
        if from <= span.base {
            return beginning;
        }
        let found = self.index_at_hand(part).and_then(|index| {
            let found = index.seek(region.bytes(), (part.seed(), span), |record| {
                record.sequence < from
            });
            found.ok().flatten()
        });
        found.map_or(beginning, |(place, record)| Position {
            offset: place.offset(),
            next: record.sequence,
        })
    }

    /// The first record of a segment that is not `before` what is looked for.
    fn seek(
        &self,
        part: &Part<'_>,
        region: &ReadRegion,
        before: impl Fn(&Record<'_>) -> bool,
    ) -> Result<Option<(Place, Sequence)>, StorageError> {
        let seek = |index: &SegmentIndex| {
            let place = (part.seed(), part.segment.span);
            let found = index.seek(region.bytes(), place, &before)?;
            Ok::<_, Mismatch>(found.map(|(place, record)| (place, record.sequence)))
        };
        if let Some(index) = self.index_at_hand(part)
            && let Ok(found) = seek(&index)
        {
            return Ok(found);
        }
        let index = self.made_anew(part)?;
        seek(&index).map_err(|Mismatch| self.damaged(part, HEADER_BYTES))
    }

    /// The time of a segment's first record.
    fn first_time(&self, part: &Part<'_>) -> Result<i64, StorageError> {
        let region = part.map()?;
        let first = record_at(region.bytes(), part.seed(), HEADER_BYTES);
        first
            .map(|record| record.time_micros)
            .ok_or_else(|| self.damaged(part, HEADER_BYTES))
    }

    /// A segment without the record that should be at an offset.
    fn damaged(&self, part: &Part<'_>, offset: usize) -> StorageError {
        let place = (offset, part.segment.span.base);
        damaged(part.segment.entry, place, self.durable)
    }

    fn ends_early(&self, part: &Part<'_>, end: Position) -> StorageError {
        damaged(part.segment.entry, (end.offset, end.next), self.durable)
    }

    /// The index that is in memory or on disk.
    fn index_at_hand(&self, part: &Part<'_>) -> Option<SegmentIndex> {
        if let Some(notes) = part.notes {
            return Some(SegmentIndex::Notes(notes.clone()));
        }
        IndexFile::open(part.segment.entry, self.key)
            .filter(|file| file.span() == part.segment.span)
            .map(SegmentIndex::File)
    }

    /// The index made from the segment, and written where that lasts.
    fn made_anew(&self, part: &Part<'_>) -> Result<SegmentIndex, StorageError> {
        let region = part.map()?;
        let span = part.segment.span;
        let start = Position {
            offset: HEADER_BYTES,
            next: span.base,
        };
        let (notes, end) = Notes::walk(region.bytes(), part.seed(), start, self.key);
        if end.next != span.next {
            return Err(self.ends_early(part, end));
        }
        let is_closed = part.notes.is_none();
        if is_closed && self.key.is_kept() && span.next.previous() <= self.durable {
            // A directory that can't be written to costs the next reader the same walk.
            files::hint(index::write(&part.segment, &notes, self.key));
        }
        Ok(SegmentIndex::Notes(notes))
    }
}

impl Part<'_> {
    fn map(&self) -> Result<ReadRegion, StorageError> {
        map_prefix(self.segment.entry, self.len)
    }

    fn seed(&self) -> CrcSeed {
        self.segment.entry.header.salt.seed()
    }
}

impl SealedSegment {
    /// The sequence after its last record, where nothing else tells: its index knows, or a walk. Blocks.
    fn next(&self, key: IndexKey) -> Result<Sequence, StorageError> {
        let region = map_prefix(&self.entry, whole(&self.entry))?;
        let seed = self.entry.header.salt.seed();
        if let Some(file) = IndexFile::open(&self.entry, key) {
            let span = file.span();
            let index = SegmentIndex::File(file);
            let last = index.seek(region.bytes(), (seed, span), |_| true);
            if span.base == self.base && matches!(last, Ok(None)) {
                return Ok(span.next);
            }
        }
        let start = Position {
            offset: HEADER_BYTES,
            next: self.base,
        };
        let Ok(end) = walk_segment(
            region.bytes(),
            seed,
            start,
            &mut |_| Ok::<_, Infallible>(()),
        );
        Ok(end.next)
    }
}

/// The record at an offset, whatever its sequence.
fn record_at(bytes: &[u8], seed: CrcSeed, offset: usize) -> Option<Record<'_>> {
    let stored = decode(bytes.get(offset..)?, seed)?;
    Some(stored.record)
}

/// Bytes of a whole segment.
fn whole(entry: &SegmentEntry) -> usize {
    usize::try_from(entry.header.capacity).expect("a header is read of a file of its size")
}

/// Maps the first bytes of a segment.
fn map_prefix(entry: &SegmentEntry, len: usize) -> Result<ReadRegion, StorageError> {
    let path = &entry.path;
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = path.as_ref().into();
            return Err(StorageError::Missing { path });
        }
        opened => at("open", path, opened)?,
    };
    let found = at("read size of", path, file.metadata())?.len();
    if found != entry.header.capacity {
        return Err(StorageError::WrongSize {
            path: path.as_ref().into(),
            expected: entry.header.capacity,
            found,
        });
    }
    at("map", path, ReadRegion::map_prefix(&file, len))
}

fn damaged(
    entry: &SegmentEntry,
    (offset, sequence): (usize, Sequence),
    durable: Sequence,
) -> StorageError {
    StorageError::DamagedRecord {
        path: entry.path.as_ref().into(),
        offset: offset as u64,
        sequence,
        durable,
    }
}
