//! Makes a shard's log durable: issues flushes to their thread, and has the next segment prepared.
//!
//! One flush is in flight at a time and covers all that was appended before it was issued; what
//! comes meanwhile rides on the next. That is group commit: its size adjusts itself to the load.

use super::Moment;
use super::flush_thread::FlushThread;
use super::job::{Jobs, Lane, ResultSender, WorkerResult};
use super::throttle::Throttle;
use crate::api::ApiError;
use crate::limits::SPARE_RETRY_SECONDS;
use crate::log::{LocalLog, Log, NextSegmentJob};
use crate::report;
use crate::shard::LocalShard;
use flux_storage::StorageError;
use std::fmt::Display;
use std::io;
use std::sync::Arc;

/// A flush of this machine's log.
pub(crate) type LocalFlush = <LocalLog as Log>::Flush;
/// The next segment of such a log.
pub(crate) type NextSegment = <LocalLog as Log>::NextSegment;

/// See the module.
#[derive(Debug)]
pub(crate) struct Flusher {
    core: u16,
    thread: FlushThread,
    /// One is in flight.
    flushes: bool,
    /// When the last flush was issued, monotonic milliseconds.
    issued_ms: u64,
    /// A helper thread prepares the next segment.
    prepares: bool,
    /// When a failed preparation is tried again, monotonic milliseconds.
    retry_ms: Option<u64>,
    throttle: Arc<Throttle>,
}

impl Flusher {
    /// Nothing in flight.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn start(
        core: u16,
        results: ResultSender,
        throttle: Arc<Throttle>,
    ) -> io::Result<Self> {
        Ok(Self {
            core,
            thread: FlushThread::start(core, results)?,
            flushes: false,
            issued_ms: 0,
            prepares: false,
            retry_ms: None,
            throttle,
        })
    }

    /// True while a flush is in flight.
    pub(crate) fn is_flushing(&self) -> bool {
        self.flushes
    }

    /// When the last flush was issued, monotonic milliseconds.
    pub(crate) fn issued_ms(&self) -> u64 {
        self.issued_ms
    }

    /// Issues a flush of all that was appended. True if the log has failed at that, and waiting
    /// clients must hear of it.
    pub(crate) fn flush(&mut self, shard: &mut LocalShard, now: Moment) -> bool {
        if self.flushes || shard.failed() {
            return false;
        }
        match shard.log_mut().begin_flush() {
            Ok(Some(flush)) => {
                shard.flush_begins();
                self.issued_ms = now.ms;
                self.flushes = true;
                self.thread.flush(flush);
                false
            }
            Ok(None) => false,
            Err(error) => {
                stop(self.core, shard, &error);
                true
            }
        }
    }

    /// Has the next segment prepared if the log wants one. It leaves `leave_bytes` of the disk
    /// free.
    pub(crate) fn prepare_segment(
        &mut self,
        shard: &mut LocalShard,
        (now, leave_bytes): (Moment, u64),
        jobs: &mut Jobs,
    ) {
        if self.prepares {
            self.throttle.note_used(shard.log().segment_used_permille());
            return;
        }
        if self.retry_ms.is_some_and(|at| now.ms < at) {
            return;
        }
        let Some(job) = shard.log_mut().next_segment_job(leave_bytes) else {
            return;
        };
        self.retry_ms = None;
        self.prepares = true;
        self.throttle.note_used(shard.log().segment_used_permille());
        let throttle = Arc::clone(&self.throttle);
        jobs.push(Lane::Segment, move || {
            WorkerResult::SegmentPrepared(prepare(job, &throttle).map(Box::new))
        });
    }

    /// A flush has returned. Says how many events it has made durable.
    pub(crate) fn on_flushed(
        &mut self,
        shard: &mut LocalShard,
        result: io::Result<LocalFlush>,
    ) -> u64 {
        self.flushes = false;
        let before = shard.log().durable();
        match result {
            Ok(flush) => shard.log_mut().finish_flush(flush),
            Err(error) => {
                shard.log_mut().fail(&error);
                stop(self.core, shard, &format_args!("flush failed: {error}"));
            }
        }
        shard.log().durable().get() - before.get()
    }

    /// The preparation of a segment has ended.
    pub(crate) fn on_prepared(
        &mut self,
        shard: &mut LocalShard,
        result: Result<Box<NextSegment>, StorageError>,
        now: Moment,
    ) {
        self.prepares = false;
        let core = self.core;
        match result {
            Ok(segment) => {
                shard.log_mut().install_next_segment(*segment);
                if shard.is_refusing() {
                    report::info(&format!(
                        "shard {core}: the next segment is ready, events are accepted again"
                    ));
                }
                shard.resume(now.now);
            }
            Err(error) => {
                let rejection = rejection(&error);
                if !shard.refuses_with(&rejection) {
                    report::error(&format!(
                        "shard {core}: can't prepare the next segment: {error}; events are refused when this one \
                         is full, and it is tried again every {SPARE_RETRY_SECONDS} s"
                    ));
                }
                shard.log_mut().next_segment_failed();
                shard.refuse(&rejection);
                self.retry_ms = Some(now.ms + SPARE_RETRY_SECONDS * 1000);
            }
        }
    }
}

/// The log has failed. What the kernel could not write it may have dropped: trying again could
/// succeed and mean nothing. So the shard stops, and says so once: a flush that was out when a
/// write failed fails of the same cause.
pub(crate) fn stop(core: u16, shard: &mut LocalShard, error: &dyn Display) {
    if !shard.failed() {
        report::error(&format!("shard {core}: {error}"));
    }
    shard.fail();
}

/// The helper thread's part.
fn prepare(
    job: NextSegmentJob<NextSegment>,
    throttle: &Throttle,
) -> Result<NextSegment, StorageError> {
    let (all, throttled) = (job.bytes(), throttle.job());
    job.run(&mut |made| throttled.pause_until_due(made, all))
}

/// What clients are told while there is no room for what they want stored.
pub(crate) fn rejection(error: &StorageError) -> ApiError {
    match error {
        StorageError::OutOfSpace { .. } => ApiError::StorageFull,
        StorageError::ReadOnly { .. } => ApiError::StorageReadOnly,
        _ => ApiError::StorageUnavailable,
    }
}
