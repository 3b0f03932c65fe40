//! Makes a shard's log durable: issues flushes to their thread, and has the next segment prepared.
//!
//! One flush is in flight at a time and covers all that was appended before it was issued; what
//! comes meanwhile rides on the next. That is group commit: its size adjusts itself to the load.

use super::Moment;
use super::job::{Jobs, Lane, WorkerResult};
use super::throttle::Throttle;
use crate::api::ApiError;
use crate::limits::SPARE_RETRY_SECONDS;
use crate::log::{Flusher as _, Log, NextSegmentJob};
use crate::report::{self, LogEvent};
use crate::shard::Shard;
use flux_storage::StorageError;
use std::fmt::Display;
use std::io;
use std::sync::Arc;

/// See the module.
pub(crate) struct Flusher<L: Log> {
    core: u16,
    /// What runs flushes; `None` while one is in flight.
    idle: Option<L::Flusher>,
    /// When the last flush was issued, monotonic milliseconds.
    issued_ms: u64,
    /// The same in microseconds.
    issued_micros: u64,
    /// A helper thread prepares the next segment.
    prepares: bool,
    /// When a failed preparation is tried again, monotonic milliseconds.
    retry_ms: Option<u64>,
    throttle: Arc<Throttle>,
}

impl<L: Log> Flusher<L> {
    /// Nothing in flight.
    pub(crate) fn new(core: u16, throttle: Arc<Throttle>) -> Self {
        Self {
            core,
            idle: Some(L::Flusher::default()),
            issued_ms: 0,
            issued_micros: 0,
            prepares: false,
            retry_ms: None,
            throttle,
        }
    }

    /// True while a flush is in flight.
    pub(crate) fn is_flushing(&self) -> bool {
        self.idle.is_none()
    }

    /// When the last flush was issued, monotonic milliseconds.
    pub(crate) fn issued_ms(&self) -> u64 {
        self.issued_ms
    }

    /// The same in microseconds.
    pub(crate) fn issued_micros(&self) -> u64 {
        self.issued_micros
    }

    /// Issues a flush of all that was appended. True if the log has failed at that, and waiting
    /// clients must hear of it.
    pub(crate) fn flush(&mut self, shard: &mut Shard<L>, now: Moment, jobs: &mut Jobs<L>) -> bool {
        if shard.failed() {
            return false;
        }
        let Some(mut flusher) = self.idle.take() else {
            return false;
        };
        match shard.log_mut().begin_flush() {
            Ok(Some(flush)) => {
                shard.flush_begins();
                (self.issued_ms, self.issued_micros) = (now.ms, now.micros);
                jobs.push(Lane::Flush, move || {
                    let flushed = flusher.flush(&flush).map(|()| flush);
                    WorkerResult::Flushed(flusher, flushed)
                });
                false
            }
            Ok(None) => {
                self.idle = Some(flusher);
                false
            }
            Err(error) => {
                self.idle = Some(flusher);
                stop(self.core, shard, &error);
                true
            }
        }
    }

    /// Has the next segment prepared if the log wants one. It leaves `leave_bytes` of the disk
    /// free.
    pub(crate) fn prepare_segment(
        &mut self,
        shard: &mut Shard<L>,
        (now, leave_bytes): (Moment, u64),
        jobs: &mut Jobs<L>,
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
        shard: &mut Shard<L>,
        (flusher, result): (L::Flusher, io::Result<L::Flush>),
    ) -> u64 {
        self.idle = Some(flusher);
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
        shard: &mut Shard<L>,
        result: Result<Box<L::NextSegment>, StorageError>,
        now: Moment,
    ) {
        self.prepares = false;
        let core = self.core;
        match result {
            Ok(segment) => {
                shard.log_mut().install_next_segment(*segment);
                if shard.is_refusing() {
                    report::say_with(
                        LogEvent::LogWritable,
                        &[("shard", core.into())],
                        &format!(
                            "shard {core}: the next segment is ready, events are accepted again"
                        ),
                    );
                }
                shard.resume(now.now);
            }
            Err(error) => {
                let rejection = rejection(&error);
                if !shard.refuses_with(&rejection) {
                    report::say_with(
                        LogEvent::LogNotWritable,
                        &[("shard", core.into())],
                        &format!(
                            "shard {core}: can't prepare the next segment: {error}; events are refused when this one \
                         is full, and it is tried again every {SPARE_RETRY_SECONDS} s"
                        ),
                    );
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
pub(crate) fn stop<L: Log>(core: u16, shard: &mut Shard<L>, error: &dyn Display) {
    if !shard.failed() {
        report::say_with(
            LogEvent::ShardFailed,
            &[("shard", core.into())],
            &format!("shard {core}: {error}"),
        );
    }
    shard.fail();
}

/// The helper thread's part.
fn prepare<S>(job: NextSegmentJob<S>, throttle: &Throttle) -> Result<S, StorageError> {
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
