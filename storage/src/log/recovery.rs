//! Opening a log that was left in any state: find its end, tell a torn tail from damage, cut a torn
//! tail.
//!
//! ```text
//! start     the segment that holds the first record asked for; a checkpoint covers the segments
//!   ↓         before it, so they are durable, and only their headers are read
//! walk      records in order, each the expected sequence, handed to the visitor
//!   ↓       the first position without one: expected sequence s
//! examine   everything after it, for the highest sequence d that was surely durable once
//!   ↓         by DURABLE, the checkpoint, valid records and activated headers
//!   ↓       d ≥ s: damage, refused, nothing modified
//! cut       d < s: s and everything after it were never acknowledged, so all of that is cut
//! ```
//!
//! A cut goes from the end to the front: later segments first, newest first, each removal durable;
//! then the rest of the last segment is zeroed and flushed. A crash in between leaves the same `s`
//! and the same verdict. Nothing is appended before the cut is durable, so that no stale record
//! ever follows a new one.
//!
//! Bytes after the end that are no valid record are a torn tail even if the disk changed them: they
//! were never acknowledged. In a sealed log, whose tail was cut, they are damage.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use crate::disk::files;
use crate::disk::layout;
use crate::disk::segment_file::SegmentEntry;
use crate::disk::segment_file::map;
use crate::format::header::{Activation, HEADER_BYTES, LogId, activation_bytes};
use crate::format::walk::{Position, first_missing, goes_on, record_count_max, scan, walk_segment};
use crate::log::log_dir::LogDir;
use crate::log::log_files::LogFiles;
use crate::log::watermark;
use crate::{Record, ReplayError, Sequence, StorageError};

/// Segments at the end of a log that may be appended to or activated: the active one, the next
/// segment, and one more for a crash between them. Their bytes are cached in single pages, see
/// [`files::read_single_pages`].
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

/// Where a log's whole records end.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) position: Position,
    /// The first sequence of each segment up to the one with the end, which is the last of these.
    pub(crate) bases: Vec<Sequence>,
    /// Records that were visited.
    records: u64,
    /// Bytes of those on disk.
    bytes: u64,
}

/// What was durable once, by what lies beside the records or by who asks for them.
#[derive(Debug, Clone, Copy)]
struct Evidence {
    /// What the log's own files say.
    stored: Sequence,
    /// What a checkpoint covers.
    covered: Sequence,
}

/// What follows the end.
#[derive(Debug)]
struct Tail {
    /// Bytes to cut in the segment with the end.
    rest_bytes: usize,
    /// Bytes to cut in later segments.
    later_bytes: usize,
    /// Whether the segment after the end was never written to.
    next_segment: bool,
}

/// A log that is whole and durable up to its end.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// Segments up to the end's, and the next segment.
    pub(crate) files: LogFiles,
    pub(crate) end: End,
    pub(crate) next_segment: bool,
    pub(crate) recovery: Recovery,
}

impl Evidence {
    fn surely_durable(self) -> Sequence {
        self.stored.max(self.covered)
    }
}

impl End {
    /// The end of a log without a segment.
    fn at(next: Sequence) -> Self {
        Self {
            position: Position { offset: 0, next },
            bases: Vec::new(),
            records: 0,
            bytes: 0,
        }
    }

    /// The index of the segment with the end.
    pub(crate) fn index(&self) -> usize {
        self.bases.len().saturating_sub(1)
    }
}

/// Recovers a log in one pass: visits every record from `from` on in order, cuts a torn tail, and
/// makes durable what it visited. `None` is the first record that is still there. Blocks.
///
/// What is before `from` is known to be durable, and the segments before the one that holds it are
/// not read.
pub(crate) fn recover<E>(
    log: &LogDir,
    from: Option<Sequence>,
    visit: impl FnMut(Record<'_>) -> Result<(), E>,
) -> Result<Recovered, ReplayError<E>> {
    layout::remove_unfinished(&log.dir)?;
    // A killed process may have left names that are not durable: see `layout::sync_names`.
    files::sync_dir(&log.dir)?;
    let mut files = LogFiles::list(&log.dir, log.id)?;
    if files.segments.is_empty() {
        let active = files.removed.map_or(1, |log_start| log_start.first_ordinal);
        return Err(layout::missing(files.dir.join(layout::segment_name(active))).into());
    }
    let evidence = files.evidence(from);
    let from = files.checked_from(from)?;
    let bases = files.bases_through(from)?;
    files.prefetch_live(bases.len())?;
    let end = files.walk(from, bases, visit)?;
    let tail = files.examine(&end, evidence)?;
    let kept = end
        .bases
        .len()
        .saturating_add(usize::from(tail.next_segment));
    files.remove_leftovers()?;
    files.cut(&end, &tail, kept)?;
    files.segments.truncate(kept);
    files.make_durable(&end, evidence.surely_durable())?;
    let recovery = Recovery {
        records: end.records,
        bytes: end.bytes,
        cut: files.torn_tail(&end, &tail),
    };
    Ok(Recovered {
        files,
        next_segment: tail.next_segment,
        end,
        recovery,
    })
}

/// Replays a log that was sealed, from `from` on, or from the first record that is still there.
/// Such a log must end cleanly. Blocks; modifies nothing.
pub(crate) fn replay_sealed<E>(
    (dir, id): (&Arc<Path>, LogId),
    from: Option<Sequence>,
    visit: impl FnMut(Record<'_>) -> Result<(), E>,
) -> Result<(), ReplayError<E>> {
    let files = LogFiles::list(dir, id)?;
    let first = files.checked_from(from)?;
    files.walk_sealed((first, files.evidence(from)), visit)?;
    Ok(())
}

/// The files of a log that was sealed, and where it ends. Reads the headers and the last segment
/// with records. Blocks; modifies nothing.
pub(crate) fn sealed_end(dir: &Arc<Path>, id: LogId) -> Result<(LogFiles, End), StorageError> {
    let files = LogFiles::list(dir, id)?;
    let beyond = Sequence::new(u64::MAX);
    let walked = files.walk_sealed((beyond, files.evidence(None)), |_| Ok(()));
    match walked {
        Ok(end) => Ok((files, end)),
        Err(ReplayError::Storage(error)) => Err(error),
        Err(ReplayError::Visit(never)) => {
            let never: Infallible = never;
            match never {}
        }
    }
}

impl LogFiles {
    /// What is known to have been durable before any record is read, if the caller knows it of
    /// everything before `from`.
    fn evidence(&self, from: Option<Sequence>) -> Evidence {
        Evidence {
            stored: watermark::read_hint(&self.dir, self.owner),
            covered: from.map_or(Sequence::ZERO, Sequence::previous),
        }
    }

    /// The first record to visit.
    ///
    /// # Errors
    ///
    /// `HistoryRemoved` if retention removed it.
    fn checked_from(&self, from: Option<Sequence>) -> Result<Sequence, StorageError> {
        let first = self.first_kept();
        match from {
            Some(from) if from < first && self.removed.is_some() => {
                let path = self.dir.as_ref().into();
                Err(StorageError::HistoryRemoved { path, from, first })
            }
            from => Ok(from.map_or(first, |from| from.max(first))),
        }
    }

    /// Walks from the last segment of which `bases` knows the first sequence, and visits every
    /// record from `from` on; returns where they end.
    fn walk<E>(
        &self,
        from: Sequence,
        mut bases: Vec<Sequence>,
        mut visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<End, ReplayError<E>> {
        let start = bases.len().saturating_sub(1);
        let mut position = Position {
            offset: HEADER_BYTES,
            next: bases.last().copied().unwrap_or_default(),
        };
        let (mut records, mut bytes) = (0_u64, 0_u64);
        let mut visit = |record: Record<'_>| {
            if record.sequence < from {
                return Ok(());
            }
            records = records.saturating_add(1);
            bytes = bytes.saturating_add(record.bytes_on_disk());
            visit(record)
        };
        let mut end = position;
        for (index, entry) in self.segments.iter().enumerate().skip(start) {
            let region = map(entry)?;
            let seed = entry.header.salt.seed();
            position.offset = HEADER_BYTES;
            if index > start {
                if !goes_on(region.bytes(), seed, position) {
                    break;
                }
                bases.push(position.next);
            }
            position = walk_segment(region.bytes(), seed, position, &mut visit)
                .map_err(ReplayError::Visit)?;
            end = position;
        }
        Ok(End {
            position: end,
            bases,
            records,
            bytes,
        })
    }

    /// Walks a log that was sealed, of which nothing may follow the end.
    fn walk_sealed<E>(
        &self,
        (from, evidence): (Sequence, Evidence),
        visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<End, ReplayError<E>> {
        if let (true, Some(log_start)) = (self.segments.is_empty(), self.removed) {
            if evidence.surely_durable() >= log_start.first_sequence {
                let gone = layout::segment_name(log_start.first_ordinal);
                return Err(layout::missing(self.dir.join(gone)).into());
            }
            return Ok(End::at(log_start.first_sequence));
        }
        let end = self.walk(from, self.bases_through(from)?, visit)?;
        let tail = self.examine(&end, evidence)?;
        match self.torn_tail(&end, &tail) {
            None => Ok(end),
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

    /// Caches the segments that may be written to in single pages, except the segments
    /// before the last of the first `known`, which a walk does not read.
    fn prefetch_live(&self, known: usize) -> Result<(), StorageError> {
        let first_live = self.segments.len().saturating_sub(LIVE_SEGMENTS_MAX);
        let start = known.saturating_sub(1);
        for entry in self.segments.iter().skip(start.max(first_live)) {
            files::prefetch(&files::open_read(&entry.path)?, &entry.path)?;
        }
        Ok(())
    }

    /// Looks at everything after the end.
    ///
    /// # Errors
    ///
    /// `DamagedRecord` if the record that should be at the end was durable once, `BehindCheckpoint`
    /// if only the caller knows that it was.
    fn examine(&self, end: &End, evidence: Evidence) -> Result<Tail, StorageError> {
        let from = end.position.next;
        let mut durable = evidence.stored;
        let mut place = (end.index(), end.position.offset);
        let mut tail = Tail {
            rest_bytes: 0,
            later_bytes: 0,
            next_segment: false,
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
                tail.next_segment = !touched && scan.used == 0;
                if activation.is_some_and(|part| part.base == from) {
                    place = (index, HEADER_BYTES);
                }
            }
            if durable >= from {
                break;
            }
        }
        if durable < from && evidence.covered < from {
            return Ok(tail);
        }
        let (index, offset) = place;
        let entry = self.entry(index);
        // Of a group of which a record is missing, that one is named.
        let start = Position { offset, next: from };
        let missing = first_missing(map(entry)?.bytes(), entry.header.salt.seed(), start);
        let (path, offset) = (entry.path.as_ref().into(), missing.offset as u64);
        let sequence = missing.next;
        Err(if durable >= from {
            StorageError::DamagedRecord {
                path,
                offset,
                sequence,
                durable,
            }
        } else {
            StorageError::BehindCheckpoint {
                path,
                offset,
                sequence,
                covered: evidence.covered,
            }
        })
    }

    /// Removes what follows the end, from the back: all segments but the first `kept`, then the
    /// torn bytes.
    fn cut(&self, end: &End, tail: &Tail, kept: usize) -> Result<(), StorageError> {
        for entry in self.segments.iter().skip(kept).rev() {
            files::remove(&entry.path, &self.dir)?;
        }
        if tail.rest_bytes == 0 {
            return Ok(());
        }
        let entry = self.entry(end.index());
        let file = files::open_write(&entry.path)?;
        files::zero_from((&file, &entry.path), end.position.offset as u64)?;
        files::sync_data(&file, &entry.path)
    }

    /// Flushes the segments whose records may be in the page cache only, as after a killed process:
    /// a record that was replayed is a record that readers see.
    fn make_durable(&self, end: &End, durable: Sequence) -> Result<(), StorageError> {
        let nexts = end
            .bases
            .iter()
            .skip(1)
            .chain(std::iter::once(&end.position.next));
        for (entry, next) in self.segments.iter().zip(nexts) {
            if next.previous() > durable {
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
