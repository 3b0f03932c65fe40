//! The next segment, prepared before it is needed.
//!
//! Zeroing and flushing a file takes as long as the disk takes, so a helper thread does it: the log hands out a
//! [`SpareJob`], any thread runs it, and the [`Spare`] that comes back is installed. The job also takes down the
//! mapping of the segment that was sealed last, which is slow for the same thread.

use std::sync::Arc;

use crate::StorageError;
use crate::format::header::HEADER_BYTES;
use crate::lock::DirLock;
use crate::region::Region;
use crate::segment::{Segment, SegmentPlan};

/// The preparation of a log's next segment.
#[derive(Debug)]
#[must_use = "the log waits for the spare, or for the word that it failed"]
pub struct SpareJob {
    pub(crate) plan: SegmentPlan,
    /// The mapping of the segment sealed last, if any; nobody uses it any more.
    pub(crate) retired: Option<Region>,
    /// Keeps the directory from being opened again while this may still write to it.
    pub(crate) lock: Arc<DirLock>,
}

/// A segment that is whole, durable and mapped, and holds no record yet.
#[derive(Debug)]
pub struct Spare {
    pub(crate) segment: Segment,
}

impl SpareJob {
    /// Bytes of the file that this makes.
    pub fn segment_bytes(&self) -> u64 {
        self.plan.capacity
    }

    /// Makes the segment. Blocks for as long as the disk takes to write it.
    ///
    /// # Errors
    ///
    /// `OutOfSpace`, `ReadOnly` or `Io`; what was written is removed again. Tell the log
    /// (`Log::spare_failed`), and ask it for another job when it is time to try again.
    pub fn run(self) -> Result<Spare, StorageError> {
        let Self {
            plan,
            retired,
            lock: _lock,
        } = self;
        drop(retired);
        let (entry, file) = plan.create(None)?;
        Ok(Spare {
            segment: Segment::map(entry, file, HEADER_BYTES)?,
        })
    }
}
