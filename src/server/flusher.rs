//! The part of a shard's life that waits: flushes through `io_uring`, and segments prepared on the helper thread.
//!
//! One flush is in flight at a time and covers all that was appended before it was issued; what comes meanwhile
//! rides on the next. That is group commit: its size adjusts itself to the load.

use super::gathering::Gathering;
use super::hub::Hub;
use super::runtime::{FlushFile, pause, spawn_blocking, when_woken};
use super::spare_pace::SparePace;
use crate::api::ApiError;
use crate::limits::{SPARE_RETRY_SECONDS, TICK_MS};
use crate::model::Durability;
use flux_storage::{Flush, FlushSegment, Spare, SpareJob, StorageError};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

type Task<T> = Pin<Box<dyn Future<Output = T>>>;
type Files = BTreeMap<u64, Rc<FlushFile>>;

/// See the module.
pub(super) struct Flusher {
    /// The open files of segments that may still be flushed, by ordinal.
    files: Files,
    flush: Option<(Flush, Task<io::Result<Files>>)>,
    /// Whom the next flush is put off for.
    gathering: Gathering,
    spare: Option<Task<Result<Spare, StorageError>>>,
    /// How fast the helper thread prepares it.
    pace: Arc<SparePace>,
    /// When a failed preparation is tried again, monotonic milliseconds.
    spare_retry_ms: Option<u64>,
    /// When the last flush was issued, monotonic milliseconds.
    issued_ms: u64,
}

impl Flusher {
    /// Nothing in flight.
    pub(super) fn new() -> Self {
        Self {
            files: Files::new(),
            flush: None,
            gathering: Gathering::default(),
            spare: None,
            pace: Arc::default(),
            spare_retry_ms: None,
            issued_ms: 0,
        }
    }

    /// True while a flush is in flight.
    pub(super) fn is_flushing(&self) -> bool {
        self.flush.is_some()
    }

    /// True while a flush is put off: the core is not to sleep.
    pub(super) fn is_gathering(&self) -> bool {
        self.gathering.is_on()
    }

    /// Notes whether the turn that began then found anything to do: a flush is put off only while others come.
    pub(super) fn note_turn(&mut self, found_any: bool, now_micros: u64) {
        self.gathering.note_turn(found_any, now_micros);
    }

    /// True while a flush or a preparation is in flight: the executor has to look at its rings.
    pub(super) fn is_waiting(&self) -> bool {
        self.flush.is_some() || self.spare.is_some()
    }

    /// Issues a flush where one is due, and asks for a segment where one is wanted. True where it did either.
    pub(super) fn start_due(&mut self, hub: &mut Hub) -> bool {
        let mut issued = false;
        let (now_ms, interval_ms) = (hub.now_ms, hub.config.flush_interval_ms);
        let Some(shard) = &mut hub.shard else {
            return false;
        };
        let due = match shard.durability() {
            Durability::Sync => !self.gathering.goes_on(shard.appended(), hub.now_micros),
            // A tick early, since only ticks look at the clock when nothing else happens.
            Durability::Async => now_ms >= self.issued_ms + interval_ms.saturating_sub(TICK_MS),
        };
        if self.flush.is_none()
            && due
            && let Some(flush) = shard.log_mut().begin_flush()
        {
            shard.flush_begins();
            self.issued_ms = now_ms;
            let task = when_woken(sync_files(
                flush.segments().to_vec(),
                std::mem::take(&mut self.files),
            ));
            self.flush = Some((flush, task));
            issued = true;
        }
        if self.spare.is_some() {
            self.pace.note_used(shard.log().active_used_permille());
        }
        let retry = self.spare_retry_ms.is_none_or(|at| now_ms >= at);
        if self.spare.is_none()
            && retry
            && let Some(job) = shard.log_mut().spare_job()
        {
            self.spare_retry_ms = None;
            let job = job.leaving(hub.shared.bytes_for_retention());
            self.pace = Arc::default();
            let pace = Arc::clone(&self.pace);
            self.spare = Some(spawn_blocking(move || prepare(job, &pace)));
            issued = true;
        }
        issued
    }

    /// Takes what is finished. True where the shard can go on: something became durable, or there is room again.
    pub(super) fn poll(&mut self, hub: &mut Hub, context: &mut Context<'_>) -> bool {
        let flushed = self.poll_flush(hub, context);
        let prepared = self.poll_spare(hub, context);
        flushed || prepared
    }

    fn poll_flush(&mut self, hub: &mut Hub, context: &mut Context<'_>) -> bool {
        let Some((_, task)) = &mut self.flush else {
            return false;
        };
        let Poll::Ready(result) = task.as_mut().poll(context) else {
            return false;
        };
        let Some((flush, _)) = self.flush.take() else {
            return false;
        };
        let Some(shard) = &mut hub.shard else {
            return false;
        };
        match result {
            Ok(files) => {
                self.files = files;
                let before = shard.log().durable();
                shard.log_mut().finish_flush(flush);
                if shard.durability() == Durability::Sync {
                    let flushed = shard.log().durable().get() - before.get();
                    self.gathering
                        .begin(flushed, shard.appended(), hub.now_micros);
                }
            }
            Err(error) => {
                // What the kernel could not write it may have dropped: trying again could succeed and mean
                // nothing. The shard stops, and says so.
                crate::report::error(&format!("shard {}: flush failed: {error}", hub.core));
                shard.log_mut().fail(&error);
                shard.fail();
            }
        }
        true
    }

    fn poll_spare(&mut self, hub: &mut Hub, context: &mut Context<'_>) -> bool {
        let Some(task) = &mut self.spare else {
            return false;
        };
        let Poll::Ready(result) = task.as_mut().poll(context) else {
            return false;
        };
        self.spare = None;
        let (now, now_ms, core) = (hub.now, hub.now_ms, hub.core);
        let Some(shard) = &mut hub.shard else {
            return false;
        };
        match result {
            Ok(spare) => {
                shard.log_mut().install_spare(spare);
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
                shard.log_mut().spare_failed();
                shard.refuse(&refusal);
                self.spare_retry_ms = Some(now_ms + SPARE_RETRY_SECONDS * 1000);
            }
        }
        true
    }

    /// Waits for a flush in flight, so that the log may be closed.
    pub(super) async fn settle(&mut self, hub: &mut Hub) {
        // The thread ends before the process does.
        self.pace.hurry();
        while self.flush.is_some() {
            std::future::poll_fn(|context| {
                if self.poll_flush(hub, context) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
    }
}

/// The helper thread's part.
fn prepare(job: SpareJob, pace: &SparePace) -> Result<Spare, StorageError> {
    let all = job.segment_bytes();
    job.run_with_rests(&mut |made| pace.rest(made, all))
}

/// What clients are told while there is no room for what they want stored.
pub(super) fn refusal(error: &StorageError) -> ApiError {
    match error {
        StorageError::OutOfSpace { .. } => ApiError::StorageFull,
        StorageError::ReadOnly { .. } => ApiError::StorageReadOnly,
        _ => ApiError::StorageUnavailable,
    }
}

/// Opens a segment's file. Being out of descriptors or memory passes: what waits for the flush waits a little longer.
async fn open(path: &Path) -> io::Result<FlushFile> {
    loop {
        match FlushFile::open(path).await {
            Err(error) if is_passing(&error) => pause(OPEN_RETRY_MS).await,
            opened => return opened,
        }
    }
}

/// Milliseconds between two attempts to open a file.
const OPEN_RETRY_MS: u64 = 10;

fn is_passing(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

/// Flushes the segments in order and returns the files that stay open: those of segments older than the last are
/// sealed by now, and with this flush they need no other.
async fn sync_files(segments: Vec<FlushSegment>, mut files: Files) -> io::Result<Files> {
    for segment in &segments {
        let file = if let Some(file) = files.get(&segment.ordinal) {
            Rc::clone(file)
        } else {
            let file = Rc::new(open(&segment.path).await?);
            files.insert(segment.ordinal, Rc::clone(&file));
            file
        };
        file.flush().await?;
    }
    if let Some(last) = segments.last() {
        files.retain(|ordinal, _| *ordinal >= last.ordinal);
    }
    Ok(files)
}
