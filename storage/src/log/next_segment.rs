//! The next segment, prepared before it is needed.
//!
//! Zeroing and flushing a file takes as long as the disk takes, so a helper thread does it: the log
//! hands out a [`NextSegmentJob`], any thread runs it, and the [`NextSegment`] that comes back is
//! installed.

use std::sync::Arc;

use crate::StorageError;
use crate::disk::lock::DirLock;
use crate::format::header::HEADER_BYTES;
use crate::log::segment::{Segment, SegmentPlan, WriteSpeed};

/// The preparation of a log's next segment.
#[derive(Debug)]
#[must_use = "the log waits for the spare, or for the word that it failed"]
pub struct NextSegmentJob {
    pub(crate) plan: SegmentPlan,
    /// Keeps the directory from being opened again while this may still write to it.
    pub(crate) lock: Arc<DirLock>,
}

/// A segment that is whole and durable, and holds no record yet.
#[derive(Debug)]
pub struct NextSegment {
    pub(crate) segment: Segment,
}

impl NextSegmentJob {
    /// Bytes of the file that this makes.
    pub fn segment_bytes(&self) -> u64 {
        self.plan.capacity
    }

    /// Makes it only if so many bytes of the disk are left then, whatever for.
    pub fn leaving(mut self, bytes: u64) -> Self {
        self.plan.leave_bytes = bytes;
        self
    }

    /// Makes the segment. Blocks for as long as the disk takes to write it.
    ///
    /// # Errors
    ///
    /// Those of [`NextSegmentJob::run_throttled`].
    pub fn run(self) -> Result<NextSegment, StorageError> {
        self.run_throttled(&mut |_| WriteSpeed::Full)
    }

    /// Makes the segment, and calls `rest` after every part that has reached the disk, with the
    /// bytes made so far: who waits there leaves the disk to others. Blocks.
    ///
    /// # Errors
    ///
    /// `OutOfSpace`, `ReadOnly` or `Io`; what was written is removed again. Tell the log
    /// (`Log::next_segment_failed`), and ask it for another job when it is time to try again.
    pub fn run_throttled(
        self,
        throttle: &mut dyn FnMut(u64) -> WriteSpeed,
    ) -> Result<NextSegment, StorageError> {
        let Self { plan, lock: _lock } = self;
        let (entry, file) = plan.create(None, throttle)?;
        Ok(NextSegment {
            segment: Segment::new(entry, file, HEADER_BYTES),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use crate::{DataDir, IndexKey, Log, LogOptions, WriteSpeed};

    const OPTIONS: LogOptions = LogOptions {
        segment_bytes_initial: 8192,
        segment_bytes_max: 8192,
        index_key: IndexKey::NONE,
    };

    #[test]
    fn a_segment_that_would_leave_too_little_of_the_disk_is_not_made() {
        let root = tempfile::tempdir().unwrap();
        let mut data = DataDir::open(root.path(), 1, OPTIONS).unwrap();
        let (mut log, _) = Log::open::<Infallible>(data.take_log(0), |_| Ok(())).unwrap();
        let job = log.next_segment_job().unwrap().leaving(1 << 62);
        let error = job.run().unwrap_err();
        assert!(error.is_recoverable(), "{error}");
        log.next_segment_failed();
        let job = log.next_segment_job().unwrap().leaving(4096);
        log.install_next_segment(job.run().unwrap());
    }

    #[test]
    fn a_segment_is_made_in_parts_with_rests_until_its_maker_hurries() {
        let root = tempfile::tempdir().unwrap();
        let megabyte = LogOptions {
            segment_bytes_initial: 1 << 20,
            segment_bytes_max: 1 << 20,
            index_key: IndexKey::NONE,
        };
        let mut data = DataDir::open(root.path(), 1, megabyte).unwrap();
        let (mut log, _) = Log::open::<Infallible>(data.take_log(0), |_| Ok(())).unwrap();
        for (speed, parts) in [(WriteSpeed::Throttled, 3), (WriteSpeed::Full, 1)] {
            let mut rests = 0;
            let job = log.next_segment_job().unwrap();
            let next_segment = job.run_throttled(&mut |_| {
                rests += 1;
                speed
            });
            assert_eq!(rests, parts, "{speed:?}");
            drop(next_segment.unwrap());
            log.next_segment_failed();
        }
    }
}
