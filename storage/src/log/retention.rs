//! Taking whole old segments from a log: chosen by age and bytes, announced, then removed.
//!
//! ```text
//! Log::removable / SealedLog::closed_segments ──→ [ClosedSegment]
//!    ↓ helper thread: RetirePlan::choose, which may read a record of each
//! Log::retire: the log forgets them ──→ RetireJob ──→ helper thread: HORIZON durable → remove, oldest first
//! ```
//!
//! `HORIZON` is durable before the first file goes, so that at every moment either the files are there or their
//! absence is explained. What a crash leaves below it is removed when the log is opened. A job that fails may be
//! run again, and one that is dropped is made up for by the next.
//!
//! This module does not know what a checkpoint covers: whoever retires segments holds the state through the last
//! of them somewhere else, durably.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::disk::files::{self, at};
use crate::disk::layout;
use crate::disk::lock::DirLock;
use crate::disk::segment_file::SegmentEntry;
use crate::disk::segment_file::map;
use crate::format::header::{HEADER_BYTES, LogId};
use crate::format::log_start::LogStart;
use crate::format::record::{RECORD_HEAD_BYTES, decode, record_len};
use crate::format::slot::Owner;
use crate::format::walk::{Position, walk_segment};
use crate::log::log_files::LogFiles;
use crate::log::log_start_file::{LogStartFile, read_log_start, write_log_start};
use crate::{Sequence, StorageError};

/// A segment that nothing is appended to any more.
#[derive(Debug, Clone)]
pub struct ClosedSegment {
    /// Its place in its log, from 1.
    pub ordinal: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// Its first record.
    pub first: Sequence,
    /// The first record after it. The segment is empty where that is `first`.
    pub next: Sequence,
    entry: SegmentEntry,
    /// The segment after it, where there is one.
    following: Option<SegmentEntry>,
    /// The time of what retention removed before, `i64::MIN` where nothing was.
    floor_micros: i64,
}

/// What is to go: a segment that is old enough, or one of as many as it takes to free so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// Segments go while fewer bytes than this were freed.
    pub excess_bytes: u64,
    /// Segments go whose records are all earlier than this, Unix microseconds; `i64::MIN` for none.
    pub before_micros: i64,
}

/// Which segments of one log go: all up to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetirePlan {
    pub(crate) dir: Arc<Path>,
    pub(crate) owner: Owner,
    pub(crate) log_start: LogStart,
    bytes: u64,
}

/// The removal of segments that their log has forgotten.
#[derive(Debug)]
#[must_use = "the files stay until the job is run"]
pub struct RetireJob {
    pub(crate) plan: RetirePlan,
    /// Tells the log that the job is still out.
    pub(crate) _retirement: Option<Arc<()>>,
    /// Keeps the directory from being opened again while this may still write to it.
    pub(crate) _lock: Arc<DirLock>,
}

impl ClosedSegment {
    pub(crate) fn new(
        (entry, first): (&SegmentEntry, Sequence),
        (following, next): (Option<&SegmentEntry>, Sequence),
        floor_micros: i64,
    ) -> Self {
        Self {
            ordinal: entry.header.ordinal,
            bytes: entry.header.capacity,
            first,
            next,
            entry: entry.clone(),
            following: following.cloned(),
            floor_micros,
        }
    }

    /// A time that no record up to the end of this segment is later than, and none after it earlier: Unix
    /// microseconds. Where it has no records that is the time of what retention removed before, or `i64::MIN`.
    /// Blocks: it is read from the record that follows, or where none does from the whole segment.
    ///
    /// # Errors
    ///
    /// `DamagedRecord` where the segment had to be read and a record is missing; what reading it says.
    pub fn time_micros(&self) -> Result<i64, StorageError> {
        if self.is_empty() {
            return Ok(self.floor_micros);
        }
        let following = self.following.as_ref().map(first_record_time);
        match following.transpose()?.flatten() {
            Some(time_micros) => Ok(time_micros),
            None => self.last_record_time(),
        }
    }

    fn is_empty(&self) -> bool {
        self.first == self.next
    }

    fn last_record_time(&self) -> Result<i64, StorageError> {
        let region = map(&self.entry)?;
        let start = Position {
            offset: HEADER_BYTES,
            next: self.first,
        };
        let mut last = i64::MIN;
        let seed = self.entry.header.salt.seed();
        let walked = walk_segment(region.bytes(), seed, start, &mut |record| {
            last = record.time_micros;
            Ok::<(), std::convert::Infallible>(())
        });
        let end = match walked {
            Ok(end) => end,
            Err(never) => match never {},
        };
        if end.next < self.next {
            return Err(StorageError::DamagedRecord {
                path: self.entry.path.as_ref().into(),
                offset: end.offset as u64,
                sequence: end.next,
                durable: self.next.previous(),
            });
        }
        Ok(last)
    }
}

/// The time of a segment's first record, `None` where it has none. By plain reads, because the segment may be
/// the active one, which its log goes on writing.
fn first_record_time(entry: &SegmentEntry) -> Result<Option<i64>, StorageError> {
    let file = files::open_read(&entry.path)?;
    files::read_single_pages(&file);
    let mut head = [0; RECORD_HEAD_BYTES];
    let offset = HEADER_BYTES as u64;
    at("read", &entry.path, file.read_exact_at(&mut head, offset))?;
    let room = entry.header.capacity - offset;
    let Some(record_bytes) = record_len(&head).filter(|&len| len as u64 <= room) else {
        return Ok(None);
    };
    let mut bytes = vec![0; record_bytes];
    at("read", &entry.path, file.read_exact_at(&mut bytes, offset))?;
    let stored = decode(&bytes, entry.header.salt.seed());
    Ok(stored.map(|stored| stored.record.time_micros))
}

impl RetirePlan {
    /// Which of a log's segments go, from the first on; `None` where all stay. Blocks: see
    /// [`ClosedSegment::time_micros`]. Reads at most two segments more than go.
    ///
    /// # Errors
    ///
    /// What [`ClosedSegment::time_micros`] says.
    pub fn choose(
        segments: &[ClosedSegment],
        removal: Removal,
    ) -> Result<Option<Self>, StorageError> {
        let mut freed = 0;
        let mut last = None;
        for segment in segments {
            let exceeds = freed < removal.excess_bytes;
            if !exceeds && segment.time_micros()? >= removal.before_micros {
                break;
            }
            freed += segment.bytes;
            last = Some(segment);
        }
        let Some(last) = last else {
            return Ok(None);
        };
        let owner = Owner {
            log: last.entry.header.log,
            identity: last.entry.header.identity,
        };
        let dir = last.entry.path.parent();
        // A log's last segments may be empty; then the time is that of what goes before them.
        let mut going = segments.iter().rev();
        let newest = going.find(|it| it.ordinal <= last.ordinal && !it.is_empty());
        Ok(Some(Self {
            dir: dir.expect("a segment lies in a directory").into(),
            owner,
            log_start: LogStart {
                first_ordinal: last.ordinal + 1,
                first_sequence: last.next,
                time_micros: newest.unwrap_or(last).time_micros()?,
            },
            bytes: freed,
        }))
    }

    /// What the log will begin with.
    pub fn log_start(&self) -> LogStart {
        self.log_start
    }

    /// Bytes of the files that go.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl RetireJob {
    /// What the log begins with once this is done.
    pub fn log_start(&self) -> LogStart {
        self.plan.log_start
    }

    /// Says durably what goes, then removes it and whatever an earlier crash left. Blocks. After an error it may
    /// be run again: nothing was removed without being announced.
    ///
    /// # Errors
    ///
    /// `OutOfSpace`, `ReadOnly` or `Io`.
    pub fn run(&self) -> Result<(), StorageError> {
        let RetirePlan {
            dir,
            owner,
            log_start,
            ..
        } = &self.plan;
        let announced = match read_log_start(dir)? {
            // A horizon never goes back, or what a later job removed would look like loss.
            LogStartFile::Valid(found, before) if found == *owner => {
                before.first_ordinal >= log_start.first_ordinal
            }
            LogStartFile::Valid(..) | LogStartFile::Absent | LogStartFile::Damaged => false,
        };
        if !announced {
            write_log_start(dir, *owner, *log_start)?;
        }
        layout::remove_before(dir, log_start.first_ordinal)?;
        Ok(())
    }
}

/// The segments that begin with `bases`, as retention sees them.
pub(crate) fn closed_segments(
    files: &LogFiles,
    bases: &[Sequence],
    end: Sequence,
) -> Vec<ClosedSegment> {
    let floor = files
        .removed
        .map_or(i64::MIN, |log_start| log_start.time_micros);
    let following = files.segments.iter().skip(1).map(Some).chain([None]);
    let nexts = bases.iter().skip(1).chain([&end]);
    let entries = files.segments.iter().zip(following);
    entries
        .zip(bases.iter().zip(nexts))
        .map(|((entry, following), (&first, &next))| {
            ClosedSegment::new((entry, first), (following, next), floor)
        })
        .collect()
}

/// Removes what a crash left below the horizon of a log that was sealed, which no recovery will see. Blocks.
pub(crate) fn finish(dir: &Arc<Path>, log: LogId) -> Result<(), StorageError> {
    let LogStartFile::Valid(_, log_start) = read_log_start(dir)? else {
        return Ok(());
    };
    let lowest = layout::segment_ordinals(dir)?.first().copied();
    if lowest.is_none_or(|lowest| lowest >= log_start.first_ordinal) {
        return Ok(());
    }
    match LogFiles::list(dir, log) {
        Ok(files) => files.remove_leftovers(),
        // Whoever reads the log is told what is wrong with it.
        Err(_) => Ok(()),
    }
}
