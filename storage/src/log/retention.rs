//! Removing whole old segments of a log: chosen by age and bytes, announced, then removed.
//!
//! ```text
//! Log::removable / SealedLog::closed_segments ──→ [ClosedSegment]
//!    ↓ helper thread: RetirePlan::choose, which may read a record of each
//! Log::retire: the log forgets them ──→ RetireJob
//!    ↓ helper thread: HORIZON durable → files removed, oldest first
//! ```
//!
//! `HORIZON` is durable before the first file is removed, so that every missing file is explained.
//! If a crash interrupts the removal, opening the log removes the rest. A job that failed may be
//! run again; the next job also removes what a dropped one left.
//!
//! This module does not know what a checkpoint covers: its caller has stored the state through the
//! last removed segment durably in a base.

use std::path::Path;
use std::sync::Arc;

use crate::disk::layout;
use crate::disk::lock::DirLock;
use crate::disk::segment_file::SegmentEntry;
use crate::format::header::LogId;
use crate::format::log_start::LogStart;
use crate::format::slot::Owner;
use crate::index::time_range;
use crate::log::log_files::{LogFiles, SealedSegment};
use crate::log::log_start_file::{LogStartFile, read_log_start, write_log_start};
use crate::log::open_log::Log;
use crate::sequence::Span;
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
    /// The first record after it. The segment is empty if that is `first`.
    pub next: Sequence,
    entry: SegmentEntry,
    /// The time of what retention removed before, `i64::MIN` if nothing was.
    floor_micros: i64,
}

/// What is to go: a segment that is old enough, or one of as many as it takes to free so many
/// bytes.
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
        entry: &SegmentEntry,
        (first, next): (Sequence, Sequence),
        floor_micros: i64,
    ) -> Self {
        Self {
            ordinal: entry.header.ordinal,
            bytes: entry.header.capacity,
            first,
            next,
            entry: entry.clone(),
            floor_micros,
        }
    }

    /// The latest time of its records, Unix microseconds. If it has none that is the time of what
    /// retention removed before, or `i64::MIN`. Blocks: it is read from the segment's index, and if
    /// there is none from the whole segment.
    ///
    /// # Errors
    ///
    /// `DamagedRecord` if the segment had to be read and a record is missing; what reading it says.
    pub fn latest_micros(&self) -> Result<i64, StorageError> {
        if self.is_empty() {
            return Ok(self.floor_micros);
        }
        let span = Span {
            base: self.first,
            next: self.next,
        };
        Ok(time_range(&self.entry, span)?.latest_micros)
    }

    fn is_empty(&self) -> bool {
        self.first == self.next
    }
}

impl RetirePlan {
    /// Which of a log's segments go, from the first on; `None` if all stay. A segment with one
    /// record that is too late stays, and all after it: nothing is removed before its time. Blocks:
    /// see [`ClosedSegment::latest_micros`]. Reads at most one segment more than go.
    ///
    /// # Errors
    ///
    /// What [`ClosedSegment::latest_micros`] says.
    pub fn choose(
        segments: &[ClosedSegment],
        removal: Removal,
    ) -> Result<Option<Self>, StorageError> {
        let mut freed = 0;
        let mut last = None;
        let mut latest_micros = i64::MIN;
        for segment in segments {
            let exceeds = freed < removal.excess_bytes;
            let segment_latest = segment.latest_micros()?;
            if !exceeds && segment_latest >= removal.before_micros {
                break;
            }
            freed += segment.bytes;
            latest_micros = latest_micros.max(segment_latest).max(segment.floor_micros);
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
        Ok(Some(Self {
            dir: dir.expect("a segment lies in a directory").into(),
            owner,
            log_start: LogStart {
                first_ordinal: last.ordinal + 1,
                first_sequence: last.next,
                time_micros: latest_micros,
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

    /// Says durably what goes, then removes it and whatever an earlier crash left. Blocks. After an
    /// error it may be run again: nothing was removed without being announced.
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
            // A log start never goes back, or what a later job removed would look like loss.
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

impl Log {
    /// The segments that may go when a checkpoint covers everything before `below`: closed, durable
    /// and wholly before it, oldest first. None while a [`RetireJob`] is out. Does not block;
    /// linear in their number.
    pub fn removable(&self, below: Sequence) -> Vec<ClosedSegment> {
        if Arc::strong_count(&self.retirement) > 1 {
            return Vec::new();
        }
        let below = below.min(self.durable.next());
        let floor = self
            .removed
            .map_or(i64::MIN, |log_start| log_start.time_micros);
        let following = self.sealed.iter().skip(1).map(|segment| segment.base);
        let pairs = self.sealed.iter().zip(following.chain([self.active_base]));
        pairs
            .take_while(|(_, next)| *next <= below)
            .map(|(segment, next)| ClosedSegment::new(&segment.entry, (segment.base, next), floor))
            .collect()
    }

    /// Forgets the segments of a plan that was made of [`Log::removable`]. Their files go when the
    /// job is run; readers that have mapped one go on with it. Does not block.
    ///
    /// # Panics
    ///
    /// If the plan is of another log or an earlier job is still out.
    pub fn retire(&mut self, plan: RetirePlan) -> RetireJob {
        let log_start = plan.log_start;
        assert!(plan.owner == self.owner(), "a plan is for its own log");
        assert!(
            Arc::strong_count(&self.retirement) == 1,
            "one retirement at a time"
        );
        let is_retired =
            |segment: &SealedSegment| segment.entry.header.ordinal < log_start.first_ordinal;
        let count = self.sealed.partition_point(is_retired);
        let first_kept = self.sealed.get(count).map(|segment| segment.base);
        let first_kept = first_kept.unwrap_or(self.active_base);
        assert!(
            first_kept == log_start.first_sequence && first_kept <= self.durable.next(),
            "only closed, durable segments are retired"
        );
        Arc::make_mut(&mut self.sealed).drain(..count);
        self.unindexed
            .retain(|job| job.entry.header.ordinal >= log_start.first_ordinal);
        self.removed = Some(log_start);
        RetireJob {
            plan,
            _retirement: Some(Arc::clone(&self.retirement)),
            _lock: Arc::clone(&self.place.lock),
        }
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
    let nexts = bases.iter().skip(1).chain([&end]);
    let segments = files.segments.iter().zip(bases.iter().zip(nexts));
    segments
        .map(|(entry, (&first, &next))| ClosedSegment::new(entry, (first, next), floor))
        .collect()
}

/// Removes what a crash left below the log start of a log that was sealed, which no recovery will
/// see. Blocks.
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
