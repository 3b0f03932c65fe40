//! Opening a log that was left in any state: find its end, tell a torn tail from damage, cut the former.
//!
//! ```text
//! walk      records in order, each the expected sequence, handed to the visitor
//!   ↓       the first position without one: expected sequence s
//! examine   everything after it, for the highest sequence d that was surely durable once
//!   ↓         the DURABLE file; valid records, which state it; activated headers, which state it
//!   ↓       d ≥ s: damage, refused, nothing modified
//! cut       d < s: nobody was ever told of s or anything after it, so all of that goes
//! ```
//!
//! A cut goes from the end to the front: later segments first, newest first, each removal durable; then the
//! rest of the last segment is zeroed and flushed. A crash in between leaves the same `s` and the same verdict.
//! Only then may anything be appended, so that no stale record ever follows a new one.
//!
//! Bytes after the end that hold no evidence are a torn tail even where a disk changed them: they were never
//! acknowledged. In a sealed log, whose tail was cut, they are damage.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::path::Path;
use std::sync::Arc;

use crate::files::{self, PAGE_BYTES, at};
use crate::format::CrcSeed;
use crate::format::header::{Activation, HEADER_BYTES, LogId, activation_bytes};
use crate::format::record::{self, RECORD_ALIGN, RECORD_BYTES_MIN, decode, peek_sequence};
use crate::format::slot::Owner;
use crate::log_dir::LogDir;
use crate::region::{ReadRegion, Region};
use crate::segment::SegmentEntry;
use crate::watermark;
use crate::{Record, ReplayError, Sequence, StorageError, layout};

/// Segments at the end of a log that may be appended to or activated: the active one, the spare, and one more
/// for a crash between them.
const LIVE_SEGMENTS_MAX: usize = 3;

/// What opening a log found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records that were visited.
    pub records: u64,
    /// Bytes of those records on disk.
    pub bytes: u64,
    /// What was cut, if anything.
    pub cut: Option<TornTail>,
}

/// Bytes after the last whole record that were never acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment in which the log ends now.
    pub path: Arc<Path>,
    /// Where it ends.
    pub offset: u64,
    /// Bytes that were cut, later segments included.
    pub bytes: u64,
}

/// A log's segments, headers checked.
#[derive(Debug)]
pub(crate) struct LogFiles {
    pub(crate) dir: Arc<Path>,
    pub(crate) owner: Owner,
    pub(crate) first_sequence: Sequence,
    /// Never empty; the ordinal is the index plus one.
    pub(crate) segments: Vec<SegmentEntry>,
}

/// A position in a segment, and the sequence of the record that belongs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) offset: usize,
    pub(crate) next: Sequence,
}

/// Where a log's whole records end.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) position: Position,
    /// The first sequence of each segment up to the one with the end, which is the last of these.
    pub(crate) bases: Vec<Sequence>,
    /// Bytes of all whole records.
    pub(crate) bytes: u64,
}

/// What follows the end.
#[derive(Debug)]
struct Tail {
    /// Bytes to cut in the segment with the end.
    rest_bytes: usize,
    /// Bytes to cut in later segments.
    later_bytes: usize,
    /// Whether the segment after the end was never written to.
    spare: bool,
}

/// A log that is whole and durable up to its end.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Segments up to the end's, and the spare.
    pub(crate) files: LogFiles,
    pub(crate) end: End,
    pub(crate) spare: bool,
    pub(crate) recovery: Recovery,
}

impl End {
    /// The index of the segment with the end.
    pub(crate) fn index(&self) -> usize {
        self.bases.len().saturating_sub(1)
    }
}

/// Recovers a log in one pass: visits every record in order, cuts a torn tail, and makes durable what it
/// visited. Blocks.
pub(crate) fn recover<E>(
    log: &LogDir,
    visit: impl FnMut(Record<'_>) -> Result<(), E>,
) -> Result<Recovered, ReplayError<E>> {
    layout::remove_unfinished_segments(&log.dir)?;
    let mut files = LogFiles::list(&log.dir, log.id)?;
    let first_live = files.segments.len().saturating_sub(LIVE_SEGMENTS_MAX);
    for entry in files.segments.iter().skip(first_live) {
        files::prefetch(&files::open_read(&entry.path)?, &entry.path)?;
    }
    let hint = watermark::read_hint(&files.dir, files.owner);
    let end = files.walk(visit)?;
    let tail = files.examine(&end, hint)?;
    let kept = end.bases.len().saturating_add(usize::from(tail.spare));
    files.cut(&end, &tail, kept)?;
    files.segments.truncate(kept);
    files.make_durable(&end, hint)?;
    let recovery = Recovery {
        records: end
            .position
            .next
            .get()
            .saturating_sub(files.first_sequence.get()),
        bytes: end.bytes,
        cut: files.torn_tail(&end, &tail),
    };
    Ok(Recovered {
        files,
        spare: tail.spare,
        end,
        recovery,
    })
}

/// Replays a log that was sealed, and so must end cleanly. Blocks; modifies nothing.
pub(crate) fn replay_sealed<E>(
    dir: &Arc<Path>,
    id: LogId,
    visit: impl FnMut(Record<'_>) -> Result<(), E>,
) -> Result<(), ReplayError<E>> {
    let files = LogFiles::list(dir, id)?;
    let hint = watermark::read_hint(&files.dir, files.owner);
    let end = files.walk(visit)?;
    let tail = files.examine(&end, hint)?;
    match files.torn_tail(&end, &tail) {
        None => Ok(()),
        Some(torn) => {
            let path = torn.path.as_ref().into();
            Err(StorageError::DamagedTail {
                path,
                offset: torn.offset,
            }
            .into())
        }
    }
}

/// Visits the records of one segment from a position on; returns the first position without the expected one.
pub(crate) fn walk_segment<E>(
    bytes: &[u8],
    seed: CrcSeed,
    mut position: Position,
    visit: &mut impl FnMut(Record<'_>) -> Result<(), E>,
) -> Result<Position, E> {
    while let Some(stored) = expected_record(bytes, seed, position) {
        visit(stored.record)?;
        position.offset = position.offset.saturating_add(stored.bytes);
        position.next = position.next.next();
    }
    Ok(position)
}

/// The record at a position, where it is the one that belongs there.
pub(crate) fn expected_record(
    bytes: &[u8],
    seed: CrcSeed,
    position: Position,
) -> Option<record::StoredRecord<'_>> {
    let stored = decode(bytes.get(position.offset..)?, seed)?;
    (stored.record.sequence == position.next).then_some(stored)
}

impl LogFiles {
    /// Reads and checks every segment's header.
    pub(crate) fn list(dir: &Arc<Path>, log: LogId) -> Result<Self, StorageError> {
        let count = layout::segment_count(dir)?;
        let first = SegmentEntry::read(dir, log, 1)?;
        let owner = Owner {
            log,
            identity: first.header.identity,
        };
        let first_sequence = first.header.first_sequence;
        let mut segments = vec![first];
        for ordinal in 2..=count {
            let entry = SegmentEntry::read(dir, log, ordinal)?;
            let same_identity = entry.header.identity == owner.identity;
            if !same_identity || entry.header.first_sequence != first_sequence {
                let path = entry.path.as_ref().into();
                let field = if same_identity {
                    "first sequence"
                } else {
                    "identity"
                };
                return Err(StorageError::WrongPlace { path, field });
            }
            segments.push(entry);
        }
        Ok(Self {
            dir: Arc::clone(dir),
            owner,
            first_sequence,
            segments,
        })
    }

    /// Visits every record from the first on; returns where they end.
    fn walk<E>(
        &self,
        mut visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<End, ReplayError<E>> {
        let mut position = Position {
            offset: HEADER_BYTES,
            next: self.first_sequence,
        };
        let mut end = End {
            position,
            bases: Vec::new(),
            bytes: 0,
        };
        for entry in &self.segments {
            let region = map(entry)?;
            let seed = entry.header.salt.seed();
            position.offset = HEADER_BYTES;
            let is_first = end.bases.is_empty();
            if !is_first && expected_record(region.bytes(), seed, position).is_none() {
                break;
            }
            end.bases.push(position.next);
            position = walk_segment(region.bytes(), seed, position, &mut visit)
                .map_err(ReplayError::Visit)?;
            end.position = position;
            end.bytes = end.bytes.saturating_add(record_area(position.offset));
        }
        Ok(end)
    }

    /// Looks at everything after the end.
    ///
    /// # Errors
    ///
    /// `DamagedRecord` where the record that should be at the end was durable once.
    fn examine(&self, end: &End, hint: Sequence) -> Result<Tail, StorageError> {
        let from = end.position.next;
        let mut durable = hint;
        let mut place = (end.index(), end.position.offset);
        let mut tail = Tail {
            rest_bytes: 0,
            later_bytes: 0,
            spare: false,
        };
        // No more records than fit into the segments from the end on.
        let mut ahead_max = 0_u64;
        for (index, entry) in self.segments.iter().enumerate().skip(end.index()) {
            let region = map(entry)?;
            let bytes = region.bytes();
            let seed = entry.header.salt.seed();
            ahead_max = ahead_max.saturating_add(record_count_max(bytes.len()));
            if index == end.index() {
                let scan = scan(bytes, seed, end.position, ahead_max);
                durable = durable.max(scan.durable);
                tail.rest_bytes = scan.used;
                continue;
            }
            let start = Position {
                offset: HEADER_BYTES,
                next: from,
            };
            let scan = scan(bytes, seed, start, ahead_max);
            let activation = Activation::decode(bytes, seed);
            let touched =
                activation_bytes(bytes).is_some_and(|part| part.iter().any(|&byte| byte != 0));
            durable = durable
                .max(scan.durable)
                .max(activation.map_or(Sequence::ZERO, |part| part.durable));
            tail.later_bytes = tail.later_bytes.saturating_add(scan.used);
            if index == end.bases.len() {
                tail.spare = !touched && scan.used == 0;
                if activation.is_some_and(|part| part.base == from) {
                    place = (index, HEADER_BYTES);
                }
            }
            if durable >= from {
                break;
            }
        }
        if durable < from {
            return Ok(tail);
        }
        let (index, offset) = place;
        let path = self.entry(index).path.as_ref().into();
        Err(StorageError::DamagedRecord {
            path,
            offset: offset as u64,
            sequence: from,
            durable,
        })
    }

    /// Removes what follows the end, from the back: all segments but the first `kept`, then the torn bytes.
    fn cut(&self, end: &End, tail: &Tail, kept: usize) -> Result<(), StorageError> {
        for entry in self.segments.iter().skip(kept).rev() {
            files::remove(&entry.path, &self.dir)?;
        }
        if tail.rest_bytes == 0 {
            return Ok(());
        }
        let entry = self.entry(end.index());
        let file = files::open_write(&entry.path)?;
        let mut region = at("map", &entry.path, Region::map(&file))?;
        if let Some(rest) = region.bytes_mut().get_mut(end.position.offset..) {
            zero(rest);
        }
        files::sync_data(&file, &entry.path)
    }

    /// Flushes the segments whose records may be in the page cache only, as after a killed process: a record
    /// that was replayed is a record that readers see.
    fn make_durable(&self, end: &End, hint: Sequence) -> Result<(), StorageError> {
        let nexts = end
            .bases
            .iter()
            .skip(1)
            .chain(std::iter::once(&end.position.next));
        for (entry, next) in self.segments.iter().zip(nexts) {
            if next.previous() > hint {
                files::sync_data(&files::open_read(&entry.path)?, &entry.path)?;
            }
        }
        Ok(())
    }

    fn torn_tail(&self, end: &End, tail: &Tail) -> Option<TornTail> {
        let bytes = tail.rest_bytes.saturating_add(tail.later_bytes) as u64;
        let path = Arc::clone(&self.entry(end.index()).path);
        (bytes > 0).then_some(TornTail {
            path,
            offset: end.position.offset as u64,
            bytes,
        })
    }

    fn entry(&self, index: usize) -> &SegmentEntry {
        self.segments
            .get(index)
            .expect("an end lies in a segment of the log")
    }
}

fn map(entry: &SegmentEntry) -> Result<ReadRegion, StorageError> {
    let file = files::open_read(&entry.path)?;
    at("map", &entry.path, ReadRegion::map(&file))
}

/// Bytes of records before an offset.
fn record_area(offset: usize) -> u64 {
    offset.saturating_sub(HEADER_BYTES) as u64
}

/// The most records that a segment of so many bytes holds.
fn record_count_max(segment_bytes: usize) -> u64 {
    (segment_bytes / RECORD_BYTES_MIN) as u64
}

/// What a scan found after a position.
struct Scan {
    /// The highest sequence that a valid record says was durable.
    durable: Sequence,
    /// Bytes up to the last that is not zero.
    used: usize,
}

/// Looks for records at every aligned offset from a position on, wherever they are.
///
/// Only sequences that could be here are looked at closer, so that the cost stays linear whatever the payloads
/// are: at least the expected one, and at most `ahead_max` after it.
fn scan(bytes: &[u8], seed: CrcSeed, position: Position, ahead_max: u64) -> Scan {
    let tail = bytes.get(position.offset..).unwrap_or_default();
    let ahead = |sequence: Sequence| sequence.get().checked_sub(position.next.get());
    let mut found = Scan {
        durable: Sequence::ZERO,
        used: 0,
    };
    let mut rest = tail;
    while let Some((word, after)) = rest.split_first_chunk::<RECORD_ALIGN>() {
        if *word == [0; RECORD_ALIGN] {
            rest = after;
            continue;
        }
        let plausible = peek_sequence(rest)
            .and_then(ahead)
            .is_some_and(|distance| distance <= ahead_max);
        let stored = if plausible { decode(rest, seed) } else { None };
        rest = match stored {
            Some(stored) => {
                found.durable = found.durable.max(stored.durable);
                rest.get(stored.bytes..).unwrap_or_default()
            }
            None => after,
        };
        found.used = tail.len().saturating_sub(rest.len());
    }
    found
}

/// Zeroes what is not zero, page by page, so that untouched pages are not written.
fn zero(bytes: &mut [u8]) {
    for page in bytes.chunks_mut(PAGE_BYTES) {
        if page.iter().any(|&byte| byte != 0) {
            page.fill(0);
        }
    }
}
