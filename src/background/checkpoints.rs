//! A shard's checkpoints: when one is due, what its helper thread does, and what comes of it.
//!
//! ```text
//! Idle ──due──▶ Writing ──▶ Written ──the log is durable that far──▶ Publishing ──▶ Clearing ──▶ Idle
//!                  └─failed: again after a while, with what was frozen then ──────────────────────┘
//! ```
//!
//! The reactor does nothing that grows with the state: it freezes what changed, and in the end puts the new layers
//! in the place of the old. What was frozen is freed, and old layers are unmapped, on the helper thread too.
//!
//! It gives way to events, unless it is behind them: beside a core that is never idle it has a tenth of the processor
//! then, and what a start has to replay would grow without bound. One that is begun late does not give way, but for the rests
//! that every helper takes ([`super::pace`]).
//!
//! A checkpoint that fails costs nothing but the room that the next one will save: the log has everything. A layer
//! that turns out to be damaged is another matter: see [`Finding::Damaged`].

use super::Turn;
use super::pace::Pace;
use crate::engine::Snapshot;
use crate::limits::{
    CHECKPOINT_BEHIND_FACTOR, CHECKPOINT_FAST_BYTES_PER_SECOND, CHECKPOINT_FIRST_RETRY_SECONDS,
    CHECKPOINT_RETRY_SECONDS, CHECKPOINT_STOP_SECONDS_MAX,
};
use crate::log::Log;
use crate::reactor::runtime::{spawn_background, spawn_blocking};
use crate::report;
use crate::shard::LocalShard;
use flux_storage::{
    CheckpointDir, CheckpointError, LayerError, LayerStack, PendingCheckpoint, Sequence,
    StorageError,
};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

type Task<T> = Pin<Box<dyn Future<Output = T>>>;
type Written = Result<PendingCheckpoint, CheckpointError>;
type Published = Result<LayerStack, CheckpointError>;

/// See the module.
pub(crate) struct Checkpointer {
    phase: Phase,
    /// What is being written, until its layers are in place.
    snapshot: Option<Snapshot>,
    /// The last checkpoint covers the log through this.
    through: Sequence,
    /// When it was taken, or the shard opened, monotonic milliseconds.
    taken_ms: u64,
    /// How far the log went then.
    taken_at: Sequence,
    /// When a failed one is tried again, monotonic milliseconds.
    retry_ms: Option<u64>,
    /// Why the last attempt failed, until one succeeds.
    failure: Option<Failure>,
    /// The last one began late, and does not give way to events.
    is_behind: bool,
    pace: Arc<Pace>,
}

enum Phase {
    /// The shard is not open yet.
    Closed,
    Idle(CheckpointDir),
    Writing(Task<(CheckpointDir, Written)>),
    /// Waits until the log is durable as far as the checkpoint goes.
    Written(CheckpointDir, PendingCheckpoint),
    Publishing(Task<(CheckpointDir, Published)>),
    /// Frees what the checkpoint has replaced.
    Clearing(Task<CheckpointDir>),
}

/// What a failed checkpoint is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The disk is full.
    NoRoom,
    Other,
}

/// What a look at the helper thread found.
pub(crate) enum Finding {
    /// Nothing new.
    Nothing,
    /// A step is finished.
    Progress,
    /// A layer can't be read: the state has to be made anew.
    Damaged(LayerError),
}

impl Checkpointer {
    /// For a shard that is not open yet.
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Closed,
            snapshot: None,
            through: Sequence::ZERO,
            taken_ms: 0,
            taken_at: Sequence::ZERO,
            retry_ms: None,
            failure: None,
            is_behind: false,
            pace: Arc::new(Pace::new()),
        }
    }

    /// The shard is open, and its log goes as far as `appended`: its checkpoints lie in `dir`, and the newest covers the log
    /// through `through`.
    pub(crate) fn open(
        &mut self,
        dir: CheckpointDir,
        (through, appended): (Sequence, Sequence),
        now_ms: u64,
    ) {
        self.phase = Phase::Idle(dir);
        self.through = through;
        self.taken_ms = now_ms;
        self.taken_at = appended;
    }

    /// The newest checkpoint covers the log through this.
    pub(crate) fn through(&self) -> Sequence {
        self.through
    }

    /// True while the helper thread has something to do.
    pub(crate) fn is_waiting(&self) -> bool {
        match self.phase {
            Phase::Closed | Phase::Idle(_) | Phase::Written(..) => false,
            Phase::Writing(_) | Phase::Publishing(_) | Phase::Clearing(_) => true,
        }
    }

    /// True where the last attempt failed because the disk is full.
    pub(crate) fn lacks_room(&self) -> bool {
        self.failure == Some(Failure::NoRoom)
    }

    /// Begins what is due.
    pub(crate) fn start_due(&mut self, turn: &mut Turn<'_>) {
        let upkeep = turn.config.upkeep;
        let has_retention = upkeep.has_retention();
        let now_ms = turn.now_ms;
        let Some(shard) = turn.shard else {
            return;
        };
        match &self.phase {
            Phase::Idle(_) => {
                let retry = self.retry_ms.is_none_or(|at| now_ms >= at);
                let changed = shard.log().appended() > self.through;
                // Retention makes room only where a checkpoint covers what goes.
                let late = (has_retention && shard.is_refusing())
                    || now_ms >= self.taken_ms + upkeep.checkpoint_seconds * 1000
                    || self.is_long(shard, upkeep.checkpoint_bytes, now_ms);
                let due = (changed && late) || self.snapshot.is_some();
                if retry && due && !shard.failed() {
                    self.write(shard, upkeep.checkpoint_bytes, now_ms);
                }
            }
            Phase::Written(..) => {
                self.publish(shard);
            }
            Phase::Closed | Phase::Writing(_) | Phase::Publishing(_) | Phase::Clearing(_) => {}
        }
    }

    /// Freezes the state, unless an earlier attempt did, and lets the helper thread write it.
    fn write(&mut self, shard: &mut LocalShard, checkpoint_bytes: u64, now_ms: u64) {
        let Phase::Idle(mut dir) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            return;
        };
        self.is_behind = is_behind(shard.log().bytes_since(self.through), checkpoint_bytes);
        self.retry_ms = None;
        self.taken_ms = now_ms;
        self.taken_at = shard.log().appended();
        let snapshot = self.snapshot.get_or_insert_with(|| shard.freeze()).clone();
        let pace = Arc::clone(&self.pace);
        self.phase = Phase::Writing(self.spawn(move || {
            let mut throttled = pace.throttled();
            let written = snapshot.write(&mut dir, &mut |_| throttled.rest());
            (dir, written)
        }));
    }

    /// True where a checkpoint is due because of the bytes that a start would have to replay.
    fn is_long(&self, shard: &LocalShard, checkpoint_bytes: u64, now_ms: u64) -> bool {
        let tail_bytes = shard.log().bytes_since(self.through);
        let grows_fast = || {
            let grown_bytes = shard.log().bytes_since(self.taken_at);
            is_fast(grown_bytes, now_ms.saturating_sub(self.taken_ms))
        };
        // Each checkpoint makes the next events bring the same entities into memory again: where none could keep up while it
        // gives way, fewer of them cost less.
        tail_bytes >= checkpoint_bytes && (is_behind(tail_bytes, checkpoint_bytes) || !grows_fast())
    }

    /// Runs a step of a checkpoint.
    fn spawn<R: Send + 'static>(&self, job: impl FnOnce() -> R + Send + 'static) -> Task<R> {
        if self.is_behind {
            spawn_blocking(job)
        } else {
            spawn_background(job)
        }
    }

    /// Names the checkpoint that was written, where the log is durable as far as it goes: a checkpoint must never
    /// know what the log has lost.
    fn publish(&mut self, shard: &LocalShard) -> bool {
        let durable = shard.log().durable();
        let covered = |snapshot: &Snapshot| snapshot.meta.through <= durable;
        if !self.snapshot.as_ref().is_some_and(covered) {
            return false;
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        let Phase::Written(mut dir, pending) = phase else {
            self.phase = phase;
            return false;
        };
        self.phase = Phase::Publishing(self.spawn(move || {
            let layers = pending.stack().clone();
            let published = dir.publish(pending).map(|()| layers);
            (dir, published)
        }));
        true
    }

    /// Takes what is finished.
    pub(crate) fn poll(&mut self, turn: &mut Turn<'_>, context: &mut Context<'_>) -> Finding {
        match &mut self.phase {
            Phase::Closed | Phase::Idle(_) | Phase::Written(..) => Finding::Nothing,
            Phase::Writing(task) => match task.as_mut().poll(context) {
                Poll::Pending => Finding::Nothing,
                Poll::Ready((dir, Ok(pending))) => {
                    self.phase = Phase::Written(dir, pending);
                    Finding::Progress
                }
                Poll::Ready((dir, Err(error))) => self.failed(turn, dir, error),
            },
            Phase::Publishing(task) => match task.as_mut().poll(context) {
                Poll::Pending => Finding::Nothing,
                Poll::Ready((dir, Ok(layers))) => {
                    self.settle(turn, dir, layers);
                    Finding::Progress
                }
                Poll::Ready((dir, Err(error))) => self.failed(turn, dir, error),
            },
            Phase::Clearing(task) => match task.as_mut().poll(context) {
                Poll::Pending => Finding::Nothing,
                Poll::Ready(dir) => {
                    self.phase = Phase::Idle(dir);
                    Finding::Progress
                }
            },
        }
    }

    /// Puts the new layers in place.
    fn settle(&mut self, turn: &mut Turn<'_>, dir: CheckpointDir, layers: LayerStack) {
        let (Some(shard), Some(snapshot)) = (turn.shard.as_mut(), self.snapshot.take()) else {
            self.phase = Phase::Idle(dir);
            return;
        };
        self.through = snapshot.meta.through;
        self.failure = None;
        let replaced = shard.engine_mut().settle(layers);
        let (core, pace) = (turn.core, Arc::clone(&self.pace));
        self.phase = Phase::Clearing(self.spawn(move || {
            drop(snapshot);
            let mut throttled = pace.throttled();
            replaced.give_back(&mut || throttled.rest_and_go_on());
            let mut dir = dir;
            if let Err(error) = dir.remove_unreferenced() {
                report::warning(&format!(
                    "shard {core}: old checkpoint not removed: {error}"
                ));
            }
            dir
        }));
    }

    fn failed(&mut self, turn: &Turn<'_>, dir: CheckpointDir, error: CheckpointError) -> Finding {
        self.phase = Phase::Idle(dir);
        if let CheckpointError::Layer(damage) = error {
            return Finding::Damaged(damage);
        }
        let mut retry_seconds = CHECKPOINT_RETRY_SECONDS;
        if !matches!(error, CheckpointError::Cancelled) {
            let failure = match error {
                CheckpointError::Storage(StorageError::OutOfSpace { .. }) => Failure::NoRoom,
                _ => Failure::Other,
            };
            let is_news = self.failure.replace(failure) != Some(failure);
            if is_news {
                // Where retention may follow, the disk's reserve is given to it by then.
                retry_seconds = CHECKPOINT_FIRST_RETRY_SECONDS;
                report::warning(&format!(
                    "shard {}: could not write a checkpoint: {error}; a start would replay more of the log, and it \
                     is tried again every {CHECKPOINT_RETRY_SECONDS} s",
                    turn.core
                ));
            }
        }
        self.retry_ms = Some(turn.now_ms + retry_seconds * 1000);
        Finding::Progress
    }

    /// Writes a last checkpoint, so that the next start has nothing to replay, unless it takes too long. Everything
    /// that was appended is durable.
    pub(crate) async fn finish(&mut self, turn: &mut Turn<'_>) {
        self.pace
            .hurry_for(Duration::from_secs(CHECKPOINT_STOP_SECONDS_MAX));
        loop {
            while self.is_waiting() {
                let finding = std::future::poll_fn(|context| match self.poll(turn, context) {
                    Finding::Nothing => Poll::Pending,
                    finding => Poll::Ready(finding),
                });
                if matches!(finding.await, Finding::Damaged(_)) || self.retry_ms.is_some() {
                    return;
                }
            }
            let Some(shard) = turn.shard else {
                return;
            };
            let is_idle = matches!(self.phase, Phase::Idle(_));
            if is_idle && shard.log().appended() > self.through && !shard.failed() {
                self.write(shard, turn.config.upkeep.checkpoint_bytes, 0);
            } else if !self.publish(shard) {
                return;
            }
        }
    }
}

/// True where a checkpoint that is begun is not to give way, of a log that is so far beyond the last one.
const fn is_behind(tail_bytes: u64, checkpoint_bytes: u64) -> bool {
    tail_bytes / CHECKPOINT_BEHIND_FACTOR >= checkpoint_bytes
}

/// True where a checkpoint that gives way might not keep up with a log that has grown by so much in this time.
const fn is_fast(grown_bytes: u64, grown_ms: u64) -> bool {
    grown_bytes / (CHECKPOINT_FAST_BYTES_PER_SECOND / 1000) > grown_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_checkpoint_gives_way_unless_it_is_begun_late() {
        assert!(!is_behind(511 * MIB, 256 * MIB));
        assert!(is_behind(512 * MIB, 256 * MIB));
        assert!(is_behind(u64::MAX, 256 * MIB));
    }

    #[test]
    fn a_log_grows_fast_by_more_than_its_bytes_a_second() {
        assert!(!is_fast(256 * MIB, 13_000));
        assert!(is_fast(256 * MIB, 12_000));
        // A shard that has just opened has not grown, however much it replayed.
        assert!(!is_fast(0, 0));
    }
}
