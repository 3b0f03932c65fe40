//! A shard's checkpoints: when one is due, what its helper thread does, and what comes of it.
//!
//! ```text
//! Idle ──due──▶ write ──▶ Written ──the log is durable that far──▶ publish ──▶ clear ──▶ Idle
//!                └─failed: again after a while, with what was frozen then ──────────────────┘
//! ```
//!
//! The reactor does nothing that grows with the state: it freezes what changed, and in the end puts
//! the new layers in the place of the old. What was frozen is freed, and old layers are unmapped,
//! on the helper thread too.
//!
//! It gives way to events, unless it is behind them: beside a core that is never idle it has a
//! tenth of the processor then, and what a start has to replay would grow without bound. One that
//! is begun late does not give way, but for the rests that every helper takes
//! ([`super::throttle`]).
//!
//! A checkpoint that fails costs nothing but the room that the next one will save: the log has
//! everything. A layer that turns out to be damaged is another matter: see
//! [`Checkpointer::on_result`].

use super::Moment;
use super::job::{Jobs, Lane, WorkerResult};
use super::throttle::Throttle;
use crate::engine::Snapshot;
use crate::limits::{
    CHECKPOINT_BEHIND_FACTOR, CHECKPOINT_FAST_BYTES_PER_SECOND, CHECKPOINT_FIRST_RETRY_SECONDS,
    CHECKPOINT_RETRY_SECONDS,
};
use crate::log::Log;
use crate::report::{self, LogEvent};
use crate::settings::StorageHousekeeping;
use crate::shard::Shard;
use flux_storage::{
    CheckpointDir, CheckpointError, LayerError, LayerStack, PendingCheckpoint, Sequence,
    StorageError,
};
use std::sync::Arc;

/// What a helper thread has done for a checkpoint.
pub(crate) enum CheckpointResult {
    /// The layers are written.
    Written(CheckpointDir, Result<PendingCheckpoint, CheckpointError>),
    /// They are named.
    Published(CheckpointDir, Result<LayerStack, CheckpointError>),
    /// What they replaced is freed.
    Cleared(CheckpointDir),
}

/// See the module.
pub(crate) struct Checkpointer {
    core: u16,
    phase: Phase,
    /// What is being written, until its layers are in place.
    snapshot: Option<Snapshot>,
    /// When that was frozen, monotonic milliseconds.
    frozen_ms: u64,
    /// The last checkpoint covers the log through this.
    through: Sequence,
    /// When it was taken, or the shard opened, monotonic milliseconds.
    covered_ms: u64,
    /// The same of the last attempt.
    taken_ms: u64,
    /// How far the log went then.
    taken_at: Sequence,
    /// When a failed one is tried again, monotonic milliseconds.
    retry_ms: Option<u64>,
    /// Why the last attempt failed, until one succeeds.
    failure: Option<Failure>,
    /// Room was made on the disk after the attempt that is under way had begun.
    room_was_made: bool,
    /// The last one began late, and does not give way to events.
    is_behind: bool,
    throttle: Arc<Throttle>,
}

enum Phase {
    /// The shard is not open yet.
    Closed,
    Idle(CheckpointDir),
    /// A helper thread has the directory.
    Working,
    /// Waits until the log is durable as far as the checkpoint goes.
    Written(CheckpointDir, PendingCheckpoint),
}

/// What a failed checkpoint is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The disk is full.
    NoRoom,
    Other,
}

impl Checkpointer {
    /// For a shard that is not open yet.
    pub(crate) fn new(core: u16, throttle: Arc<Throttle>) -> Self {
        Self {
            core,
            phase: Phase::Closed,
            snapshot: None,
            through: Sequence::ZERO,
            covered_ms: 0,
            frozen_ms: 0,
            taken_ms: 0,
            taken_at: Sequence::ZERO,
            retry_ms: None,
            failure: None,
            room_was_made: false,
            is_behind: false,
            throttle,
        }
    }

    /// The shard is open, and its log goes as far as `appended`: its checkpoints lie in `dir`, and
    /// the newest covers the log through `through`.
    pub(crate) fn open(
        &mut self,
        dir: CheckpointDir,
        (through, appended): (Sequence, Sequence),
        now: Moment,
    ) {
        self.phase = Phase::Idle(dir);
        self.through = through;
        (self.taken_ms, self.covered_ms) = (now.ms, now.ms);
        self.taken_at = appended;
    }

    /// Milliseconds since the newest checkpoint was taken, or the shard opened; 0 while it covers
    /// the whole log.
    pub(crate) fn age_ms<L: Log>(&self, shard: &Shard<L>, now_ms: u64) -> u64 {
        if shard.log().appended() > self.through {
            now_ms.saturating_sub(self.covered_ms)
        } else {
            0
        }
    }

    /// The newest checkpoint covers the log through this.
    pub(crate) fn through(&self) -> Sequence {
        self.through
    }

    /// True while the helper thread has something to do.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Working)
    }

    /// True if the last attempt failed because the disk is full.
    pub(crate) fn lacks_room(&self) -> bool {
        self.failure == Some(Failure::NoRoom)
    }

    /// Begins what is due.
    pub(crate) fn start_due<L: Log>(
        &mut self,
        shard: &mut Shard<L>,
        (now, housekeeping): (Moment, StorageHousekeeping),
        jobs: &mut Jobs<L>,
    ) {
        match &self.phase {
            Phase::Idle(_) => {
                let retry = self.retry_ms.is_none_or(|at| now.ms >= at);
                let changed = shard.log().appended() > self.through;
                // Retention makes room only if a checkpoint covers what goes.
                let late = (housekeeping.has_retention() && shard.is_refusing())
                    || now.ms >= self.taken_ms + housekeeping.checkpoint_seconds * 1000
                    || self.is_long(shard, housekeeping.checkpoint_bytes, now);
                let due = (changed && late) || self.snapshot.is_some();
                if retry && due && !shard.failed() {
                    self.write(shard, (now, housekeeping.checkpoint_bytes), jobs);
                }
            }
            Phase::Written(..) => {
                self.publish(shard, jobs);
            }
            Phase::Closed | Phase::Working => {}
        }
    }

    /// Freezes the state, unless an earlier attempt did, and lets the helper thread write it.
    fn write<L: Log>(
        &mut self,
        shard: &mut Shard<L>,
        (now, checkpoint_bytes): (Moment, u64),
        jobs: &mut Jobs<L>,
    ) {
        let Phase::Idle(mut dir) = std::mem::replace(&mut self.phase, Phase::Working) else {
            return;
        };
        self.is_behind = is_behind(shard.log().bytes_since(self.through), checkpoint_bytes);
        self.retry_ms = None;
        self.taken_ms = now.ms;
        self.taken_at = shard.log().appended();
        if self.snapshot.is_none() {
            self.frozen_ms = now.ms;
        }
        let snapshot = self.snapshot.get_or_insert_with(|| shard.freeze()).clone();
        let throttle = Arc::clone(&self.throttle);
        jobs.push(self.lane(), move || {
            let mut throttled = throttle.job();
            let written = snapshot.write(&mut dir, &mut |_| throttled.pause());
            result(CheckpointResult::Written(dir, written))
        });
    }

    /// True if a checkpoint is due because of the bytes that a start would have to replay.
    fn is_long<L: Log>(&self, shard: &Shard<L>, checkpoint_bytes: u64, now: Moment) -> bool {
        let tail_bytes = shard.log().bytes_since(self.through);
        let grows_fast = || {
            let grown_bytes = shard.log().bytes_since(self.taken_at);
            is_fast(grown_bytes, now.ms.saturating_sub(self.taken_ms))
        };
        // Each checkpoint makes the next events bring the same entities into memory again: if none
        // could keep up while it gives way, fewer of them cost less.
        tail_bytes >= checkpoint_bytes && (is_behind(tail_bytes, checkpoint_bytes) || !grows_fast())
    }

    /// The thread for the steps of this checkpoint.
    const fn lane(&self) -> Lane {
        if self.is_behind {
            Lane::LateCheckpoint
        } else {
            Lane::Checkpoint
        }
    }

    /// Names the checkpoint that was written, if the log is durable as far as it goes: a checkpoint
    /// must never know what the log has lost.
    fn publish<L: Log>(&mut self, shard: &Shard<L>, jobs: &mut Jobs<L>) {
        let durable = shard.log().durable();
        let covered = |snapshot: &Snapshot| snapshot.meta.through <= durable;
        if !self.snapshot.as_ref().is_some_and(covered) {
            return;
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Working);
        let Phase::Written(mut dir, pending) = phase else {
            self.phase = phase;
            return;
        };
        jobs.push(self.lane(), move || {
            let layers = pending.stack().clone();
            let published = dir.publish(pending).map(|()| layers);
            result(CheckpointResult::Published(dir, published))
        });
    }

    /// Takes what a helper thread has done.
    ///
    /// # Errors
    /// A layer can't be read: the state has to be made anew.
    pub(crate) fn on_result<L: Log>(
        &mut self,
        shard: &mut Shard<L>,
        (result, now): (CheckpointResult, Moment),
        jobs: &mut Jobs<L>,
    ) -> Result<(), LayerError> {
        match result {
            CheckpointResult::Written(dir, Ok(pending)) => {
                self.phase = Phase::Written(dir, pending);
                Ok(())
            }
            CheckpointResult::Published(dir, Ok(layers)) => {
                self.install(shard, (dir, layers), jobs);
                Ok(())
            }
            CheckpointResult::Cleared(dir) => {
                self.phase = Phase::Idle(dir);
                Ok(())
            }
            CheckpointResult::Written(dir, Err(error))
            | CheckpointResult::Published(dir, Err(error)) => self.failed(dir, error, now),
        }
    }

    /// Puts the new layers in place.
    fn install<L: Log>(
        &mut self,
        shard: &mut Shard<L>,
        (mut dir, layers): (CheckpointDir, LayerStack),
        jobs: &mut Jobs<L>,
    ) {
        let Some(snapshot) = self.snapshot.take() else {
            self.phase = Phase::Idle(dir);
            return;
        };
        self.through = snapshot.meta.through;
        self.covered_ms = self.frozen_ms;
        self.failure = None;
        report::say_with(
            LogEvent::CheckpointWritten,
            &[("shard", self.core.into())],
            &format!(
                "shard {}: a checkpoint through event {} is written",
                self.core,
                self.through.get()
            ),
        );
        self.room_was_made = false;
        let replaced = shard.engine_mut().install_checkpoint(layers);
        let (core, throttle) = (self.core, Arc::clone(&self.throttle));
        jobs.push(self.lane(), move || {
            drop(snapshot);
            let mut throttled = throttle.job();
            replaced.give_back(&mut || throttled.pause_and_go_on());
            if let Err(error) = dir.remove_unreferenced() {
                report::say_with(
                    LogEvent::CheckpointNotRemoved,
                    &[("shard", core.into())],
                    &format!("shard {core}: old checkpoint not removed: {error}"),
                );
            }
            result(CheckpointResult::Cleared(dir))
        });
    }

    fn failed(
        &mut self,
        dir: CheckpointDir,
        error: CheckpointError,
        now: Moment,
    ) -> Result<(), LayerError> {
        self.phase = Phase::Idle(dir);
        let mut retry_seconds = CHECKPOINT_RETRY_SECONDS;
        if let CheckpointError::Layer(damage) = error {
            self.retry_ms = Some(now.ms + retry_seconds * 1000);
            return Err(damage);
        }
        if !matches!(error, CheckpointError::Cancelled) {
            let failure = match error {
                CheckpointError::Storage(StorageError::OutOfSpace { .. }) => Failure::NoRoom,
                _ => Failure::Other,
            };
            let is_news = self.failure.replace(failure) != Some(failure);
            let room_was_made = std::mem::replace(&mut self.room_was_made, false);
            if is_news || room_was_made {
                retry_seconds = CHECKPOINT_FIRST_RETRY_SECONDS;
            }
            if is_news {
                report::say_with(
                    LogEvent::CheckpointFailed,
                    &[("shard", self.core.into())],
                    &format!(
                        "shard {}: could not write a checkpoint: {error}; a start would replay more of the log, and it \
                     is tried again every {CHECKPOINT_RETRY_SECONDS} s",
                        self.core
                    ),
                );
            }
        }
        self.retry_ms = Some(now.ms + retry_seconds * 1000);
        Ok(())
    }

    /// The ballast was released: a checkpoint that failed for want of room is tried again, however
    /// long the release took. One that is under way may not have found the room.
    pub(crate) fn on_room_made(&mut self) {
        self.room_was_made = self.is_waiting();
        if self.lacks_room() {
            self.retry_ms = None;
        }
    }

    /// The server stops: a checkpoint that failed earlier is tried once more.
    pub(crate) fn retry_at_once(&mut self) {
        self.retry_ms = None;
    }

    /// The server stops, and everything that was appended is durable: begins the next step towards
    /// a last checkpoint, so that the next start has nothing to replay. False if it is written, or
    /// given up after a failure.
    pub(crate) fn finish_due<L: Log>(
        &mut self,
        shard: &mut Shard<L>,
        (now, checkpoint_bytes): (Moment, u64),
        jobs: &mut Jobs<L>,
    ) -> bool {
        match self.phase {
            Phase::Idle(_) => {
                let behind = shard.log().appended() > self.through;
                if behind && self.retry_ms.is_none() && !shard.failed() {
                    self.write(shard, (now, checkpoint_bytes), jobs);
                }
            }
            Phase::Written(..) => self.publish(shard, jobs),
            Phase::Closed | Phase::Working => {}
        }
        self.is_waiting()
    }
}

fn result<L: Log>(result: CheckpointResult) -> WorkerResult<L> {
    WorkerResult::Checkpoint(Box::new(result))
}

/// True if a checkpoint that is begun is not to give way, of a log that is so far beyond the last
/// one.
const fn is_behind(tail_bytes: u64, checkpoint_bytes: u64) -> bool {
    tail_bytes / CHECKPOINT_BEHIND_FACTOR >= checkpoint_bytes
}

/// True if a checkpoint that gives way might not keep up with a log that has grown by so much in
/// this time.
const fn is_fast(grown_bytes: u64, grown_ms: u64) -> bool {
    grown_bytes / (CHECKPOINT_FAST_BYTES_PER_SECOND / 1000) > grown_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// Lets an attempt that began earlier fail for want of room.
    fn fail(checkpointer: &mut Checkpointer, seconds: u64) {
        let phase = std::mem::replace(&mut checkpointer.phase, Phase::Working);
        let Phase::Idle(dir) = phase else {
            panic!("an attempt is under way");
        };
        fail_under_way(checkpointer, dir, seconds);
    }

    fn fail_under_way(checkpointer: &mut Checkpointer, dir: CheckpointDir, seconds: u64) {
        let full = StorageError::OutOfSpace {
            op: "write",
            path: std::path::Path::new("layer").into(),
            source: std::io::ErrorKind::StorageFull.into(),
        };
        let now = Moment {
            ms: seconds * 1000,
            ..Moment::default()
        };
        let failed = checkpointer.failed(dir, CheckpointError::Storage(full), now);
        failed.unwrap();
    }

    #[test]
    fn a_checkpoint_without_room_is_tried_again_when_room_was_made_however_late() {
        let root = tempfile::tempdir().unwrap();
        let options = flux_storage::LogOptions::default();
        let mut data = flux_storage::DataDir::open(root.path(), 1, options).unwrap();
        let opened =
            flux_storage::Log::open(data.take_log(0), |_| Ok::<(), std::convert::Infallible>(()));
        let owner = opened.unwrap().0.owner();
        let path = root.path().join("checkpoints");
        let kind = flux_storage::CheckpointKind::Cache;
        let dir = CheckpointDir::new(&path, owner, kind, |_| true);
        let mut checkpointer = Checkpointer::new(0, Arc::new(Throttle::new()));
        checkpointer.open(dir, (Sequence::ZERO, Sequence::ZERO), Moment::default());
        fail(&mut checkpointer, 1);
        assert_eq!(checkpointer.retry_ms, Some(2000));
        // The release takes longer than the first pause.
        fail(&mut checkpointer, 3);
        assert_eq!(checkpointer.retry_ms, Some(13_000));
        checkpointer.on_room_made();
        assert_eq!(checkpointer.retry_ms, None, "at once");
        // It ends while an attempt is under way, which may have failed before it.
        let phase = std::mem::replace(&mut checkpointer.phase, Phase::Working);
        let Phase::Idle(dir) = phase else {
            panic!("nothing is under way");
        };
        checkpointer.on_room_made();
        fail_under_way(&mut checkpointer, dir, 4);
        assert_eq!(checkpointer.retry_ms, Some(5000));
        fail(&mut checkpointer, 6);
        assert_eq!(checkpointer.retry_ms, Some(16_000));
    }

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
