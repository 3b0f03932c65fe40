//! What a shard's log leaves behind: the history indexes of closed segments are written, old segments are removed.
//!
//! Both on helper threads, one job of each kind at a time. Segments go only when a durable checkpoint covers them and
//! their events are worked into the log's base; see `shard::advance_base`. The generations before the newest belong to
//! core 0, and go first where bytes have to be saved.

use super::Turn;
use super::ballast::Ballast;
use super::pace::Pace;
use crate::limits::{
    RETENTION_INTERVAL_SECONDS, RETENTION_SEGMENTS_MAX, SEALED_RETENTION_INTERVAL_SECONDS,
};
use crate::log::{LocalLog, Log, Removal, RetentionPlan};
use crate::reactor::runtime::spawn_background;
use crate::report;
use crate::settings::StorageUpkeep;
use crate::shard::{RecoverError, advance_base};
use crate::state::is_packed_body;
use flux_storage::{
    CheckpointDir, CheckpointError, CheckpointKind, DataDir, LogReader, RetirePlan,
    SealedGeneration, SealedLog, Sequence, StorageError,
};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

type Task<T> = Pin<Box<dyn Future<Output = T>>>;

/// The base, and what it was advanced for.
type Choice<P> = (CheckpointDir, Result<Option<P>, RecoverError>);

/// See the module.
pub(crate) struct Retention {
    data_dir: Arc<DataDir>,
    /// `None` until the shard is open, and while a job has it.
    base: Option<CheckpointDir>,
    index: Option<Task<Result<(), StorageError>>>,
    choice: Option<Task<Choice<<LocalLog as Log>::RetentionPlan>>>,
    removal: Option<Task<Result<(), StorageError>>>,
    /// What it freed, bytes.
    sealed: Option<Task<Result<u64, RecoverError>>>,
    /// When retention is looked at next, monotonic milliseconds.
    look_ms: u64,
    /// The same for earlier generations.
    look_sealed_ms: u64,
    ballast: Ballast,
    /// Why retention failed the last time, until it succeeds.
    failure: Option<Failure>,
    pace: Arc<Pace>,
}

/// What failed retention is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// The disk is full.
    NoRoom,
    Other,
}

impl From<&RecoverError> for Failure {
    fn from(error: &RecoverError) -> Self {
        match error {
            RecoverError::Storage(StorageError::OutOfSpace { .. })
            | RecoverError::Checkpoint(CheckpointError::Storage(StorageError::OutOfSpace {
                ..
            })) => Self::NoRoom,
            _ => Self::Other,
        }
    }
}

/// What a janitor has to know of its shard's checkpoints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Covered {
    /// A durable checkpoint covers the log through this.
    pub(crate) through: Sequence,
    /// The next one could not be written because the disk is full.
    pub(crate) lacks_room: bool,
}

impl Retention {
    /// For a shard that is not open yet. `headroom`: what is held back on the disk.
    pub(crate) fn new(data_dir: Arc<DataDir>, ballast: Ballast) -> Self {
        Self {
            data_dir,
            ballast,
            failure: None,
            base: None,
            index: None,
            choice: None,
            removal: None,
            sealed: None,
            look_ms: 0,
            look_sealed_ms: 0,
            pace: Arc::new(Pace::new()),
        }
    }

    /// The shard is open.
    pub(crate) fn open(&mut self, base: CheckpointDir) {
        self.base = Some(base);
    }

    /// The disk is full and the server stops: what it has to write for that gets the room that was held back.
    pub(crate) fn release_reserve(&self) {
        self.ballast.give_back_blocking();
    }

    /// True while a helper thread has something to do.
    pub(crate) fn is_waiting(&self) -> bool {
        self.index.is_some()
            || self.choice.is_some()
            || self.removal.is_some()
            || self.sealed.is_some()
            || self.ballast.is_waiting()
    }

    /// Begins what is due.
    pub(crate) fn start_due(&mut self, turn: &mut Turn<'_>, covered: Covered) {
        let Some(shard) = turn.shard else {
            return;
        };
        if self.index.is_none()
            && let Some(job) = shard.log_mut().index_job()
        {
            let pace = Arc::clone(&self.pace);
            self.index = Some(spawn_background(move || {
                let mut throttled = pace.throttled();
                job.run(&mut || throttled.rest_and_go_on())
            }));
        }
        let wanted = turn.config.upkeep.has_retention();
        let lacks_room = covered.lacks_room || self.failure == Some(Failure::NoRoom);
        self.ballast.start_due(wanted && lacks_room, turn);
        if wanted && turn.now_ms >= self.look_ms && !self.is_removing() {
            self.look_ms = turn.now_ms + RETENTION_INTERVAL_SECONDS * 1000;
            self.choose(turn, covered.through);
            self.choose_sealed(turn);
        }
    }

    fn is_removing(&self) -> bool {
        self.choice.is_some() || self.removal.is_some() || self.sealed.is_some()
    }

    /// Looks for segments that may go, and works them into the base.
    fn choose(&mut self, turn: &mut Turn<'_>, covered: Sequence) {
        let upkeep = turn.config.upkeep;
        let (now_micros, shards) = (turn.now.as_micros(), u64::from(turn.shards));
        let counters = turn.counters.of(turn.core);
        let Some(shard) = turn.shard else {
            return;
        };
        let log = shard.log_mut();
        let bytes = log.bytes_stored();
        counters.log_bytes.store(bytes, Relaxed);
        let count_max = match self.failure {
            // The less goes at a time, the less room it takes to work it into the base.
            Some(Failure::NoRoom) => 1,
            Some(Failure::Other) | None => RETENTION_SEGMENTS_MAX,
        };
        let durable = log.durable();
        let removable = log.removable(covered.next(), count_max);
        let Some((choice, reader)) = removable.zip(log.reader(durable)) else {
            return;
        };
        let quota = upkeep.retention_bytes.map(|bytes| bytes / shards);
        let removal = removal(
            upkeep,
            now_micros,
            quota.map(|quota| bytes.saturating_sub(quota)),
        );
        let Some(base) = self.base.take() else {
            return;
        };
        let pace = Arc::clone(&self.pace);
        self.choice = Some(spawn_background(move || {
            choose_and_fold(base, &reader, || choice.choose(removal), &pace)
        }));
    }

    /// The same for earlier generations, which have no owner of their own.
    fn choose_sealed(&mut self, turn: &Turn<'_>) {
        if turn.core != 0
            || turn.now_ms < self.look_sealed_ms
            || self.data_dir.sealed_generations().is_empty()
            || !turn.counters.is_ready()
        {
            return;
        }
        self.look_sealed_ms = turn.now_ms + SEALED_RETENTION_INTERVAL_SECONDS * 1000;
        let (upkeep, now_micros) = (turn.config.upkeep, turn.now.as_micros());
        let live_bytes = turn.counters.log_bytes();
        let (data_dir, pace) = (Arc::clone(&self.data_dir), Arc::clone(&self.pace));
        self.sealed = Some(spawn_background(move || {
            remove_sealed(&data_dir, (upkeep, now_micros), live_bytes, &pace)
        }));
    }

    /// Takes what is finished. True where there was anything.
    pub(crate) fn poll(&mut self, turn: &mut Turn<'_>, context: &mut Context<'_>) -> bool {
        let core = turn.core;
        let mut finished = self.ballast.poll(turn, context);
        if let Some(result) = take_ready(&mut self.index, context) {
            finished = true;
            if let Err(error) = result {
                report::warning(&format!(
                    "shard {core}: history index not written, the first look-up will make it: {error}"
                ));
            }
        }
        if let Some((base, chosen)) = take_ready(&mut self.choice, context) {
            finished = true;
            self.base = Some(base);
            match (chosen, turn.shard.as_mut()) {
                (Ok(Some(plan)), Some(shard)) => {
                    let job = shard.log_mut().retire(plan);
                    self.removal = Some(spawn_background(move || job.run()));
                    // There may be more than one job takes.
                    self.look_ms = turn.now_ms;
                }
                (Ok(_), _) => {}
                (Err(error), _) => self.note(core, Err(error)),
            }
        }
        if let Some(result) = take_ready(&mut self.removal, context) {
            finished = true;
            self.note(core, result.map_err(RecoverError::from));
        }
        if let Some(result) = take_ready(&mut self.sealed, context) {
            finished = true;
            if result.as_ref().is_ok_and(|freed| *freed > 0) {
                // There may be more than one pass takes.
                self.look_sealed_ms = turn.now_ms;
            }
            self.note(core, result.map(|_| ()));
        }
        finished
    }

    /// Takes note of how retention went, and says so where it is news.
    fn note(&mut self, core: u16, result: Result<(), RecoverError>) {
        let failure = result.as_ref().err().map(Failure::from);
        let before = std::mem::replace(&mut self.failure, failure);
        if let Err(error) = result
            && before != failure
        {
            report::warning(&format!(
                "shard {core}: could not remove old history: {error}; it is tried again every \
                 {RETENTION_INTERVAL_SECONDS} s"
            ));
        }
    }
}

/// The result of a task that is finished, which is gone then.
fn take_ready<T>(task: &mut Option<Task<T>>, context: &mut Context<'_>) -> Option<T> {
    match task.as_mut()?.as_mut().poll(context) {
        Poll::Pending => None,
        Poll::Ready(result) => {
            *task = None;
            Some(result)
        }
    }
}

/// What the settings say is to go.
fn removal(upkeep: StorageUpkeep, now_micros: i64, excess_bytes: Option<u64>) -> Removal {
    let before = upkeep.retention_seconds.map(|seconds| {
        let micros = i64::try_from(seconds.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        now_micros.saturating_sub(micros)
    });
    Removal {
        excess_bytes: excess_bytes.unwrap_or(0),
        before_micros: before.unwrap_or(i64::MIN),
    }
}

/// Chooses segments and works them into the base. The base comes back whatever happens.
fn choose_and_fold<P: RetentionPlan>(
    mut base: CheckpointDir,
    reader: &LogReader,
    choose: impl FnOnce() -> Result<Option<P>, StorageError>,
    pace: &Pace,
) -> Choice<P> {
    let mut throttled = pace.throttled();
    let chosen = choose().map_err(RecoverError::from).and_then(|plan| {
        if let Some(plan) = &plan {
            let through = plan.first_kept().previous();
            advance_base(&mut base, reader, through, &mut |_| throttled.rest())?;
        }
        Ok(plan)
    });
    (base, chosen)
}

/// Removes from earlier generations what has to go, oldest first. Returns the bytes that it freed.
fn remove_sealed(
    data_dir: &DataDir,
    (upkeep, now_micros): (StorageUpkeep, i64),
    live_bytes: u64,
    pace: &Pace,
) -> Result<u64, RecoverError> {
    let logs = || {
        let generations = data_dir.sealed_generations().iter();
        generations.flat_map(SealedGeneration::logs)
    };
    let mut bytes = live_bytes;
    for log in logs() {
        let segments = log.closed_segments()?;
        bytes += segments.iter().map(|segment| segment.bytes).sum::<u64>();
    }
    let before = bytes;
    for log in logs() {
        let excess = upkeep
            .retention_bytes
            .map(|most| bytes.saturating_sub(most));
        let removal = removal(upkeep, now_micros, excess);
        bytes -= remove_from(log, removal, pace)?;
    }
    Ok(before - bytes)
}

/// Removes a part of a log of an earlier generation. Returns the bytes that it freed.
fn remove_from(log: &SealedLog, removal: Removal, pace: &Pace) -> Result<u64, RecoverError> {
    let mut segments = log.closed_segments()?;
    segments.truncate(RETENTION_SEGMENTS_MAX);
    if segments.is_empty() {
        return Ok(0);
    }
    let owner = log.origin()?.owner;
    let base = CheckpointDir::new(log.base_path(), owner, CheckpointKind::Base, is_packed_body);
    let choose = || RetirePlan::choose(&segments, removal);
    let (_, chosen) = choose_and_fold(base, &log.reader()?, choose, pace);
    let Some(plan) = chosen? else {
        return Ok(0);
    };
    let freed = plan.bytes();
    log.retire(plan).run()?;
    Ok(freed)
}
