//! The records of one log, read while its server may be appending to it.
//!
//! ```text
//! | header | record | record | half a record | zero ...       the view ends before the half record
//! ```
//!
//! After the last whole record of a segment there are three cases. A later segment goes on with the
//! expected sequence. Or the log ends there. Or the next record is missing although it was durable
//! once, which is damage, unless the record was written between two reads. So before the walk
//! reports damage, it reads the segment again: whatever was durable at the first read is whole at
//! the second.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::disk::files::{self, at};
use crate::disk::segment_file::SegmentEntry;
use crate::format::header::HEADER_BYTES;
use crate::format::record::{RECORD_HEAD_BYTES, record_len};
use crate::format::walk::{
    Position, expected_record, first_missing, record_count_max, scan, walk_segment,
};
use crate::log::log_files::LogFiles;
use crate::{ReplayError, Sequence, StorageError};

/// How often a segment is looked at before a missing record is called damage.
const LOOKS: usize = 2;

/// A segment that was read.
#[derive(Debug)]
pub(crate) struct ReadSegment<'a> {
    pub(crate) entry: &'a SegmentEntry,
    /// All of the file, as it was read.
    pub(crate) bytes: &'a mut [u8],
    /// Where its whole records end.
    pub(crate) end: Position,
    /// No segment follows it.
    pub(crate) is_last: bool,
}

/// Where the view of a log ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogEnd {
    /// The sequence after the last record.
    pub(crate) next: Sequence,
    /// The time of the last record, `None` if there is none any more.
    pub(crate) time_micros: Option<i64>,
}

/// Reads a log segment by segment. `durable` is what is known to have been durable before the
/// reading began. Takes memory for the largest segment. Blocks.
///
/// # Errors
///
/// `DamagedRecord` if a record is missing that was durable; what is wrong with a header or can't be
/// read; `Visit` with the visitor's error.
pub(crate) fn walk<E>(
    files: &LogFiles,
    durable: Sequence,
    mut visit: impl FnMut(&mut ReadSegment<'_>) -> Result<(), ReplayError<E>>,
) -> Result<LogEnd, ReplayError<E>> {
    let mut end = LogEnd {
        next: files.first_kept(),
        time_micros: None,
    };
    let mut bytes = Vec::new();
    let mut ordinals = files.segments.iter().map(|it| it.header.ordinal);
    let Some(mut ordinal) = ordinals.next() else {
        return Ok(end);
    };
    loop {
        let start = Position {
            offset: HEADER_BYTES,
            next: end.next,
        };
        let entry = read_entry(files, ordinal)?;
        bytes.clear();
        bytes.resize(capacity(&entry), 0);
        read_at(&entry.path, &mut bytes, 0)?;
        let mut look = Look::begin(entry, start, &mut bytes);
        let following: Vec<u64> = ordinals.clone().collect();
        let is_last = look.find_end(files, &following, durable)?;
        let mut segment = ReadSegment {
            entry: &look.entry,
            end: look.end,
            bytes: look.bytes,
            is_last,
        };
        visit(&mut segment)?;
        end.next = look.end.next;
        end.time_micros = look.last_micros.or(end.time_micros);
        match ordinals.next() {
            Some(next) if !is_last => ordinal = next,
            _ => return Ok(end),
        }
    }
}

/// A segment that is being looked at.
pub(super) struct Look<'a> {
    entry: SegmentEntry,
    /// All of the file, of which only what is after the position that it began with is looked at.
    bytes: &'a mut [u8],
    pub(super) end: Position,
    last_micros: Option<i64>,
}

impl<'a> Look<'a> {
    /// Walks as far as records are whole.
    pub(super) fn begin(entry: SegmentEntry, start: Position, bytes: &'a mut [u8]) -> Self {
        let mut look = Self {
            entry,
            bytes,
            end: start,
            last_micros: None,
        };
        look.walk();
        look
    }

    /// Walks on from where the whole records ended.
    fn walk(&mut self) {
        let mut last = self.last_micros;
        let seed = self.entry.header.salt.seed();
        let walked = walk_segment(self.bytes, seed, self.end, &mut |record| {
            last = Some(record.time_micros);
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(end) = walked;
        self.end = end;
        self.last_micros = last;
    }

    /// Finds out what the end of the records is; true if it is the log's. `following` are the later
    /// segments.
    pub(super) fn find_end(
        &mut self,
        files: &LogFiles,
        following: &[u64],
        durable: Sequence,
    ) -> Result<bool, StorageError> {
        let mut known = durable;
        for look in 1..=LOOKS {
            if look > 1 {
                let offset = self.end.offset;
                let rest = self.bytes.get_mut(offset..).unwrap_or_default();
                read_at(&self.entry.path, rest, offset as u64)?;
                self.walk();
            }
            if let Some(&next) = following.first()
                && begins_with(files, next, self.end.next)?
            {
                return Ok(false);
            }
            known = known.max(self.evidence(files, following)?);
            if known < self.end.next {
                return Ok(true);
            }
        }
        let (path, missing) = match following.first() {
            // The next segment says that the record was its first.
            Some(&next) if activated_with(files, next)? == Some(self.end.next) => {
                let first = Position {
                    offset: HEADER_BYTES,
                    ..self.end
                };
                (read_entry(files, next)?.path, first)
            }
            // Of a group of which a record is missing, that one is named.
            _ => {
                let seed = self.entry.header.salt.seed();
                let missing = first_missing(self.bytes, seed, self.end);
                (Arc::clone(&self.entry.path), missing)
            }
        };
        Err(StorageError::DamagedRecord {
            path: path.as_ref().into(),
            offset: missing.offset as u64,
            sequence: missing.next,
            durable: known,
        })
    }

    /// The highest sequence that what follows the end says was durable.
    fn evidence(&self, files: &LogFiles, following: &[u64]) -> Result<Sequence, StorageError> {
        let mut ahead_max = record_count_max(self.bytes.len());
        let seed = self.entry.header.salt.seed();
        let mut durable = scan(self.bytes, seed, self.end, ahead_max).durable;
        for &ordinal in following {
            let entry = read_entry(files, ordinal)?;
            let mut bytes = vec![0; capacity(&entry)];
            read_at(&entry.path, &mut bytes, 0)?;
            ahead_max = ahead_max.saturating_add(record_count_max(bytes.len()));
            let start = Position {
                offset: HEADER_BYTES,
                next: self.end.next,
            };
            let found = scan(&bytes, entry.header.salt.seed(), start, ahead_max);
            let activated = entry.activation.map(|activation| activation.durable);
            durable = durable
                .max(found.durable)
                .max(activated.unwrap_or_default());
        }
        Ok(durable)
    }
}

/// Reads the header of a segment as it is now: a next segment may have been replaced since it was
/// listed.
pub(super) fn read_entry(files: &LogFiles, ordinal: u64) -> Result<SegmentEntry, StorageError> {
    let entry = SegmentEntry::read(&files.dir, files.owner.log, ordinal)?;
    if entry.header.identity == files.owner.identity {
        return Ok(entry);
    }
    Err(StorageError::WrongPlace {
        path: entry.path.as_ref().into(),
        field: "identity",
    })
}

/// The sequence that a segment was activated with, if it says so.
fn activated_with(files: &LogFiles, ordinal: u64) -> Result<Option<Sequence>, StorageError> {
    let activation = read_entry(files, ordinal)?.activation;
    Ok(activation.map(|activation| activation.base))
}

/// Whether the first record of a segment is the one that is expected next. If not all of its group
/// is there, the walk ends in that segment.
fn begins_with(files: &LogFiles, ordinal: u64, next: Sequence) -> Result<bool, StorageError> {
    let entry = read_entry(files, ordinal)?;
    let offset = HEADER_BYTES as u64;
    let mut head = [0; RECORD_HEAD_BYTES];
    read_at(&entry.path, &mut head, offset)?;
    let room = entry.header.capacity.saturating_sub(offset);
    let Some(len) = record_len(&head).filter(|&len| len as u64 <= room) else {
        return Ok(false);
    };
    let mut bytes = vec![0; len];
    read_at(&entry.path, &mut bytes, offset)?;
    let start = Position { offset: 0, next };
    Ok(expected_record(&bytes, entry.header.salt.seed(), start).is_some())
}

pub(super) fn read_at(path: &Path, bytes: &mut [u8], offset: u64) -> Result<(), StorageError> {
    let file = files::open_read(path)?;
    files::read_single_pages(&file);
    at("read", path, file.read_exact_at(bytes, offset))
}

/// Bytes of the file, which the header's reader has held to the file's size.
pub(super) fn capacity(entry: &SegmentEntry) -> usize {
    usize::try_from(entry.header.capacity).expect("a file of the system fits its addresses")
}
