//! The part of a shard's life that waits: flushes on their thread, and segments prepared on a helper thread.
//!
//! One flush is in flight at a time and covers all that was appended before it was issued; what comes meanwhile
//! rides on the next. That is group commit: its size adjusts itself to the load.

use super::Turn;
use super::flush_thread::{FlushThread, PendingFlush};
use super::segment_throttle::SegmentThrottle;
use crate::api::ApiError;
use crate::limits::{SPARE_RETRY_SECONDS, TICK_MS};
use crate::log::{LocalLog, Log, NextSegmentJob};
use crate::model::Durability;
use crate::reactor::group_commit_delay::GroupCommitDelay;
use crate::reactor::runtime::spawn_blocking;
use crate::shard::Shard;
use flux_storage::StorageError;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

type Task<T> = Pin<Box<dyn Future<Output = T>>>;
type NextSegment = <LocalLog as Log>::NextSegment;

/// See the module.
pub(crate) struct Flusher {
    thread: FlushThread<LocalLog>,
    flush: Option<PendingFlush<LocalLog>>,
    /// Whom the next flush is put off for.
    group_commit_delay: GroupCommitDelay,
    spare: Option<Task<Result<NextSegment, StorageError>>>,
    /// How fast the helper thread prepares it.
    pace: Arc<SegmentThrottle>,
    /// When a failed preparation is tried again, monotonic milliseconds.
    spare_retry_ms: Option<u64>,
    /// When the last flush was issued, monotonic milliseconds.
    issued_ms: u64,
}

impl Flusher {
    /// Nothing in flight.
    ///
    /// # Errors
    /// Where the system has no thread left.
    pub(crate) fn start(core: u16) -> io::Result<Self> {
        Ok(Self {
            thread: FlushThread::start(core)?,
            flush: None,
            group_commit_delay: GroupCommitDelay::default(),
            spare: None,
            pace: Arc::default(),
            spare_retry_ms: None,
            issued_ms: 0,
        })
    }

    /// How long the core may sleep for those whom a flush is put off for; `None` where none is.
    pub(crate) fn timeout_micros(&self) -> Option<u64> {
        self.group_commit_delay.timeout_micros()
    }

    /// The core had nothing to do and waited from then on; whether it found something.
    pub(crate) fn note_wait(&mut self, since_micros: u64, now_micros: u64, found: bool) {
        self.group_commit_delay
            .note_wait(since_micros, now_micros, found);
    }

    /// Those whom the last flush answered come back, and not by the shortest way.
    pub(crate) fn be_patient(&mut self) {
        self.group_commit_delay.be_patient();
    }

    /// The core had something to do.
    pub(crate) fn note_work(&mut self) {
        self.group_commit_delay.note_work();
    }

    /// True while a flush or a preparation is in flight.
    pub(crate) fn is_waiting(&self) -> bool {
        self.flush.is_some() || self.spare.is_some()
    }

    /// Issues a flush where one is due, and asks for a segment where one is wanted. True where the log has failed just now,
    /// and those who wait are to be told.
    pub(crate) fn start_due(&mut self, turn: &mut Turn<'_>) -> bool {
        let (now_ms, interval_ms) = (turn.now_ms, turn.config.flush_interval_ms);
        let Some(shard) = turn.shard else {
            return false;
        };
        let due = match shard.durability() {
            Durability::Sync => !self
                .group_commit_delay
                .goes_on(shard.appended(), turn.now_micros),
            // A tick early, since only ticks look at the clock when nothing else happens.
            Durability::Async => now_ms >= self.issued_ms + interval_ms.saturating_sub(TICK_MS),
        };
        let had_failed = shard.failed();
        if self.flush.is_none() && due && !had_failed {
            match shard.log_mut().begin_flush() {
                Ok(Some(flush)) => {
                    shard.flush_begins();
                    self.issued_ms = now_ms;
                    self.flush = Some(self.thread.flush(flush));
                }
                Ok(None) => {}
                Err(error) => stop(turn.core, shard, &error),
            }
        }
        if self.spare.is_some() {
            self.pace.note_used(shard.log().segment_used_permille());
        }
        let retry = self.spare_retry_ms.is_none_or(|at| now_ms >= at);
        if self.spare.is_none()
            && retry
            && let Some(job) = shard
                .log_mut()
                .next_segment_job(turn.counters.bytes_for_retention())
        {
            self.spare_retry_ms = None;
            self.pace = Arc::default();
            let pace = Arc::clone(&self.pace);
            self.spare = Some(spawn_blocking(move || prepare(job, &pace)));
        }
        shard.failed() && !had_failed
    }

    /// Takes what is finished. True where the shard can go on: something became durable, or there is room again.
    pub(crate) fn poll(&mut self, turn: &mut Turn<'_>, context: &mut Context<'_>) -> bool {
        let flushed = self.poll_flush(turn, context);
        let prepared = self.poll_spare(turn, context);
        flushed || prepared
    }

    fn poll_flush(&mut self, turn: &mut Turn<'_>, context: &mut Context<'_>) -> bool {
        let Some(flushed) = &mut self.flush else {
            return false;
        };
        let Poll::Ready(result) = pin!(flushed).poll(context) else {
            return false;
        };
        self.flush = None;
        let Some(shard) = turn.shard else {
            return false;
        };
        let ended = |_| Err(io::Error::other("the thread that flushes has ended"));
        match result.unwrap_or_else(ended) {
            Ok(flush) => {
                let before = shard.log().durable();
                shard.log_mut().finish_flush(flush);
                if shard.durability() == Durability::Sync {
                    let flushed = shard.log().durable().get() - before.get();
                    self.group_commit_delay
                        .begin(flushed, shard.appended(), turn.now_micros);
                }
            }
            Err(error) => {
                shard.log_mut().fail(&error);
                stop(turn.core, shard, &format_args!("flush failed: {error}"));
            }
        }
        true
    }

    fn poll_spare(&mut self, turn: &mut Turn<'_>, context: &mut Context<'_>) -> bool {
        let Some(task) = &mut self.spare else {
            return false;
        };
        let Poll::Ready(result) = task.as_mut().poll(context) else {
            return false;
        };
        self.spare = None;
        let (now, now_ms, core) = (turn.now, turn.now_ms, turn.core);
        let Some(shard) = turn.shard else {
            return false;
        };
        match result {
            Ok(spare) => {
                shard.log_mut().install_next_segment(spare);
                if shard.is_refusing() {
                    crate::report::info(&format!(
                        "shard {core}: the next segment is ready, events are accepted again"
                    ));
                }
                shard.resume(now);
            }
            Err(error) => {
                let refusal = refusal(&error);
                if !shard.refuses_with(&refusal) {
                    crate::report::error(&format!(
                        "shard {core}: can't prepare the next segment: {error}; events are refused when this one \
                         is full, and it is tried again every {SPARE_RETRY_SECONDS} s"
                    ));
                }
                shard.log_mut().next_segment_failed();
                shard.refuse(&refusal);
                self.spare_retry_ms = Some(now_ms + SPARE_RETRY_SECONDS * 1000);
            }
        }
        true
    }

    /// Waits for a flush in flight, so that the log may be closed.
    pub(crate) async fn settle(&mut self, turn: &mut Turn<'_>) {
        // The thread ends before the process does.
        self.pace.hurry();
        while self.flush.is_some() {
            std::future::poll_fn(|context| {
                if self.poll_flush(turn, context) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
    }
}

/// The log has failed. What the kernel could not write it may have dropped: trying again could succeed and mean nothing. So
/// the shard stops, and says so once: a flush that was out when a write failed fails of the same cause.
pub(crate) fn stop(core: u16, shard: &mut Shard<LocalLog>, error: &dyn Display) {
    if !shard.failed() {
        crate::report::error(&format!("shard {core}: {error}"));
    }
    shard.fail();
}

/// The helper thread's part.
fn prepare(
    job: NextSegmentJob<NextSegment>,
    pace: &SegmentThrottle,
) -> Result<NextSegment, StorageError> {
    let all = job.bytes();
    job.run(&mut |made| pace.rest(made, all))
}

/// What clients are told while there is no room for what they want stored.
pub(crate) fn refusal(error: &StorageError) -> ApiError {
    match error {
        StorageError::OutOfSpace { .. } => ApiError::StorageFull,
        StorageError::ReadOnly { .. } => ApiError::StorageReadOnly,
        _ => ApiError::StorageUnavailable,
    }
}
