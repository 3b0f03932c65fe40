//! One segment of a reader: its index, and the records that the index leads to.
//!
//! ```text
//! the index in memory or on disk     ─→ places ─→ records, each checked
//!    wrong or missing ↓                              │ not what the index says
//! the index built again from         ←───────────────╯
//! the segment, and written to disk   ─→ places ─→ records; what does not fit is damage
//! if it is final
//! ```

use std::borrow::Cow;
use std::io;
use std::ops::{ControlFlow, RangeInclusive};

use crate::disk::files::{self, at};
use crate::disk::region::ReadRegion;
use crate::disk::segment_file::SegmentEntry;
use crate::format::CrcSeed;
use crate::format::header::HEADER_BYTES;
use crate::format::index::Place;
use crate::format::record::decode;
use crate::format::walk::{Position, Walk};
use crate::index::{
    self, IndexBuilder, IndexFile, IndexKey, IndexedSegment, Mismatch, Newest, SegmentIndex,
};
use crate::sequence::Span;
use crate::{Record, ReplayError, Sequence, StorageError};

/// A segment as a reader knows it.
#[derive(Debug, Clone)]
pub(super) struct Part<'a> {
    pub(super) entry: &'a SegmentEntry,
    /// Its records.
    pub(super) span: Span,
    /// Bytes that may be mapped.
    pub(super) len: usize,
    /// Of the active segment.
    pub(super) index_builder: Option<&'a IndexBuilder>,
    pub(super) key: IndexKey,
    /// Up to here nothing can be cut any more.
    pub(super) durable: Sequence,
}

/// What is looked for backward.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) keys: RangeInclusive<u64>,
    pub(super) before: Sequence,
}

/// A segment of whose records at least one in so many is looked for is walked through.
const DENSE_SHARE: u64 = 8;

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
    NotShown,
}

impl Part<'_> {
    /// Visits what is wanted of this segment, newest first.
    pub(super) fn visit_newest<E>(
        &self,
        wanted: &Wanted,
        visit: &mut impl FnMut(Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<ControlFlow<()>, ReplayError<E>> {
        let mut below = Place::END;
        if let Some(index) = self.index_at_hand() {
            match self.follow(&index, (wanted, &mut below), visit)? {
                Led::ToTheEnd => return Ok(ControlFlow::Continue(())),
                Led::ToAStop => return Ok(ControlFlow::Break(())),
                Led::Astray(_) => {}
            }
        }
        // What was visited before the index led astray lies at `below` and after it.
        let index = self.index_anew()?;
        match self.follow(&index, (wanted, &mut below), visit)? {
            Led::ToTheEnd => Ok(ControlFlow::Continue(())),
            Led::ToAStop => Ok(ControlFlow::Break(())),
            Led::Astray(offset) => Err(self.damaged(offset, self.span.base).into()),
        }
    }

    /// Visits the records that an index leads to below a place, which goes along.
    fn follow<E>(
        &self,
        index: &SegmentIndex<'_>,
        (wanted, below): (&Wanted, &mut Place),
        visit: &mut impl FnMut(Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<Led, ReplayError<E>> {
        let Ok(places) = index.gather(&wanted.keys, *below) else {
            return Ok(Led::Astray(HEADER_BYTES));
        };
        if places.is_empty() {
            return Ok(Led::ToTheEnd);
        }
        let region = self.map()?;
        let bytes = region.bytes();
        let mut bound = *below;
        if wanted.before < self.span.next {
            let is_before = |record: &Record<'_>| record.sequence < wanted.before;
            match index.seek(bytes, (self.seed(), self.span), is_before) {
                Ok(Some(sought)) => bound = bound.min(sought.place),
                Ok(None) | Err(Mismatch) => return Ok(Led::Astray(HEADER_BYTES)),
            }
        }
        let places = places.into_iter().filter(|&place| place < bound);
        for place in Newest::new(places.collect()) {
            let record = self.record_at(bytes, place.offset());
            let Some(record) = record.filter(|record| self.is_wanted(record, wanted)) else {
                return Ok(Led::Astray(place.offset()));
            };
            *below = place;
            if visit(record).map_err(ReplayError::Visit)?.is_break() {
                return Ok(Led::ToAStop);
            }
        }
        Ok(Led::ToTheEnd)
    }

    fn is_wanted(&self, record: &Record<'_>, wanted: &Wanted) -> bool {
        self.span.contains(record.sequence)
            && record.sequence < wanted.before
            && wanted.keys.contains(&self.key.of_record(record))
    }

    /// Visits the records of this segment that are in `shown`, in order.
    pub(super) fn visit_forward<E>(
        &self,
        shown: Span,
        visit: &mut impl FnMut(Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<ControlFlow<()>, ReplayError<E>> {
        let region = self.map()?;
        let start = self.start(region.bytes(), shown.base);
        let mut visit_shown = |record: Record<'_>| {
            if record.sequence >= shown.next {
                return Err(Stop::NotShown);
            }
            if record.sequence < shown.base {
                return Ok(());
            }
            match visit(record) {
                Ok(ControlFlow::Continue(())) => Ok(()),
                Ok(ControlFlow::Break(())) => Err(Stop::Visitor),
                Err(refusal) => Err(Stop::Refused(refusal)),
            }
        };
        // It may begin inside of a group.
        let mut walk = Walk::from_any(region.bytes(), self.seed(), start);
        while let Some((_, stored)) = walk.next() {
            match visit_shown(stored.record) {
                Ok(()) => {}
                Err(Stop::Visitor | Stop::NotShown) => return Ok(ControlFlow::Break(())),
                Err(Stop::Refused(refusal)) => return Err(ReplayError::Visit(refusal)),
            }
        }
        let end = walk.position();
        if end.next == self.span.next {
            Ok(ControlFlow::Continue(()))
        } else {
            Err(self.damaged(end.offset, end.next).into())
        }
    }

    /// Visits the records of this segment whose key is in `keys` and that are in `shown`, in order.
    pub(super) fn visit_by_key<E>(
        &self,
        (keys, shown): (&RangeInclusive<u64>, Span),
        visit: &mut impl FnMut(Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<ControlFlow<()>, ReplayError<E>> {
        let mut rest = shown;
        if let Some(index) = self.index_at_hand() {
            match self.follow_forward(&index, (keys, &mut rest), visit)? {
                Led::ToTheEnd => return Ok(ControlFlow::Continue(())),
                Led::ToAStop => return Ok(ControlFlow::Break(())),
                Led::Astray(_) => {}
            }
        }
        // `rest` begins after what was visited before the index led astray.
        let index = self.index_anew()?;
        match self.follow_forward(&index, (keys, &mut rest), visit)? {
            Led::ToTheEnd => Ok(ControlFlow::Continue(())),
            Led::ToAStop => Ok(ControlFlow::Break(())),
            Led::Astray(offset) => Err(self.damaged(offset, self.span.base).into()),
        }
    }

    /// Visits the records of `shown` that an index leads to; `shown` then begins after the last of
    /// them.
    fn follow_forward<E>(
        &self,
        index: &SegmentIndex<'_>,
        (keys, shown): (&RangeInclusive<u64>, &mut Span),
        visit: &mut impl FnMut(Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<Led, ReplayError<E>> {
        let Ok(mut places) = index.gather(keys, Place::END) else {
            return Ok(Led::Astray(HEADER_BYTES));
        };
        if places.is_empty() {
            return Ok(Led::ToTheEnd);
        }
        let records = self.span.next.get() - self.span.base.get();
        if places.len() as u64 >= records / DENSE_SHARE {
            // To sort most of the segment's places costs more than to pass over the others.
            let key = self.key;
            let mut visit_wanted = |record: Record<'_>| {
                if keys.contains(&key.of_record(&record)) {
                    visit(record)
                } else {
                    Ok(ControlFlow::Continue(()))
                }
            };
            let visited = self.visit_forward(*shown, &mut visit_wanted)?;
            return Ok(match visited {
                ControlFlow::Continue(()) => Led::ToTheEnd,
                ControlFlow::Break(()) => Led::ToAStop,
            });
        }
        let region = self.map()?;
        let bytes = region.bytes();
        if shown.base > self.span.base {
            let is_before = |record: &Record<'_>| record.sequence < shown.base;
            match index.seek(bytes, (self.seed(), self.span), is_before) {
                Ok(Some(sought)) => places.retain(|place| *place >= sought.place),
                Ok(None) => return Ok(Led::ToTheEnd),
                Err(Mismatch) => return Ok(Led::Astray(HEADER_BYTES)),
            }
        }
        places.sort_unstable();
        for place in places {
            let record = self.record_at(bytes, place.offset());
            let is_own = |record: &Record<'_>| {
                self.span.contains(record.sequence)
                    && record.sequence >= shown.base
                    && keys.contains(&self.key.of_record(record))
            };
            let Some(record) = record.filter(is_own) else {
                return Ok(Led::Astray(place.offset()));
            };
            if record.sequence >= shown.next {
                return Ok(Led::ToTheEnd);
            }
            shown.base = record.sequence.next();
            if visit(record).map_err(ReplayError::Visit)?.is_break() {
                return Ok(Led::ToAStop);
            }
        }
        Ok(Led::ToTheEnd)
    }

    /// Where a walk to `from` starts: there, if an index knows the place; else at the segment's
    /// start.
    fn start(&self, bytes: &[u8], from: Sequence) -> Position {
        let index = if from > self.span.base {
            self.index_at_hand()
        } else {
            None
        };
        let sought = index.and_then(|index| {
            let is_before = |record: &Record<'_>| record.sequence < from;
            let sought = index.seek(bytes, (self.seed(), self.span), is_before);
            sought.ok().flatten()
        });
        sought.map_or_else(
            || self.beginning(),
            |sought| Position {
                offset: sought.place.offset(),
                next: sought.expected,
            },
        )
    }

    fn beginning(&self) -> Position {
        Position {
            offset: HEADER_BYTES,
            next: self.span.base,
        }
    }

    /// The last record before `before` that is not later than a time.
    pub(super) fn last_until(
        &self,
        time_micros: i64,
        before: Sequence,
    ) -> Result<Option<Sequence>, StorageError> {
        // What is known of a closed segment saves opening its index.
        let known = self
            .entry
            .times
            .get()
            .filter(|_| self.index_builder.is_none());
        if known.is_some_and(|times| times.earliest_micros > time_micros) {
            return Ok(None);
        }
        let region = self.map()?;
        let seek = |index: &SegmentIndex<'_>| {
            let place = (self.seed(), self.span);
            index.last_until(region.bytes(), place, (time_micros, before))
        };
        let index = match self.index_at_hand() {
            Some(index) => index,
            None => self.index_anew()?,
        };
        self.note_times(&index);
        if let Ok(found) = seek(&index) {
            return Ok(found);
        }
        seek(&self.index_anew()?).map_err(|Mismatch| self.damaged(HEADER_BYTES, self.span.base))
    }

    /// Keeps what an index says of a closed segment's times.
    fn note_times(&self, index: &SegmentIndex<'_>) {
        if self.index_builder.is_none() {
            self.entry.times.get_or_init(|| index.times());
        }
    }

    /// The index that is in memory or on disk.
    fn index_at_hand(&self) -> Option<SegmentIndex<'_>> {
        if let Some(index_builder) = self.index_builder {
            return Some(SegmentIndex::Memory(Cow::Borrowed(index_builder)));
        }
        IndexFile::open(self.entry, self.key)
            .filter(|file| file.span() == self.span)
            .map(SegmentIndex::File)
    }

    /// The index made from the segment, and written where that lasts.
    fn index_anew(&self) -> Result<SegmentIndex<'static>, StorageError> {
        let region = self.map()?;
        let (builder, end) =
            IndexBuilder::walk(region.bytes(), self.seed(), self.beginning(), self.key);
        if end.next != self.span.next {
            return Err(self.damaged(end.offset, end.next));
        }
        let is_closed = self.index_builder.is_none();
        if is_closed && self.key.is_kept() && self.span.next.previous() <= self.durable {
            let segment = IndexedSegment {
                entry: self.entry,
                span: self.span,
            };
            // A directory that can't be written to costs the next reader the same walk.
            files::hint(index::write(&segment, &builder, self.key, &mut || {}));
        }
        Ok(SegmentIndex::Memory(Cow::Owned(builder)))
    }

    fn seed(&self) -> CrcSeed {
        self.entry.header.salt.seed()
    }

    /// The record at an offset, whatever its sequence.
    fn record_at<'b>(&self, bytes: &'b [u8], offset: usize) -> Option<Record<'b>> {
        let stored = decode(bytes.get(offset..)?, self.seed())?;
        Some(stored.record)
    }

    /// Maps what may be read of it.
    fn map(&self) -> Result<ReadRegion, StorageError> {
        let path = &self.entry.path;
        let file = match files::open_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let path = path.as_ref().into();
                return Err(StorageError::Missing { path });
            }
            opened => at("open", path, opened)?,
        };
        let found = at("read size of", path, file.metadata())?.len();
        let expected = self.entry.header.capacity;
        if found != expected {
            return Err(StorageError::WrongSize {
                path: path.as_ref().into(),
                expected,
                found,
            });
        }
        at("map", path, ReadRegion::map_prefix(&file, self.len))
    }

    /// This segment without the record that should be at an offset.
    fn damaged(&self, offset: usize, sequence: Sequence) -> StorageError {
        StorageError::DamagedRecord {
            path: self.entry.path.as_ref().into(),
            offset: offset as u64,
            sequence,
            durable: self.durable,
        }
    }
}

/// Bytes of a whole segment.
pub(super) fn whole(entry: &SegmentEntry) -> usize {
    usize::try_from(entry.header.capacity).expect("an offset of a file that is mapped fits")
}
