//! What a shard's log leaves behind: the history indexes of closed segments are written, old
//! segments are removed.
//!
//! Both on helper threads, one job of each kind at a time. Segments go only when a durable
//! checkpoint covers them and their events are worked into the log's base; see
//! `shard::advance_base`. The generations before the newest belong to core 0, and go first if bytes
//! have to be saved.

use super::Moment;
use super::ballast::BallastUse;
use super::job::{Jobs, Lane, WorkerResult};
use super::throttle::Throttle;
use crate::limits::{
    RETENTION_INTERVAL_SECONDS, RETENTION_SEGMENTS_MAX, SEALED_RETENTION_INTERVAL_SECONDS,
};
use crate::log::{Log, Removal, RetentionPlan};
use crate::report::{self, LogEvent};
use crate::settings::StorageHousekeeping;
use crate::shard::{RecoverError, Shard, advance_base};
use crate::state::is_packed_body;
use flux_storage::{
    CheckpointDir, CheckpointError, CheckpointKind, DataDir, LogReader, RetirePlan,
    SealedGeneration, SealedLog, Sequence, StorageError,
};
use std::sync::Arc;

/// What a helper thread has done for retention.
pub(crate) enum RetentionResult<L: Log> {
    /// A history index was written.
    Indexed(Result<(), StorageError>),
    /// What goes was chosen and worked into the base, which comes back whatever happens.
    Chosen(
        CheckpointDir,
        Result<Option<L::RetentionPlan>, RecoverError>,
    ),
    /// Segments were removed.
    Removed(Result<(), StorageError>),
    /// Segments of earlier generations were removed: the bytes that this freed.
    SealedRemoved(Result<u64, RecoverError>),
}

/// See the module.
#[expect(
    clippy::struct_excessive_bools,
    reason = "three kinds of jobs, each in flight or not"
)]
pub(crate) struct Retention {
    core: u16,
    shards: u16,
    data_dir: Arc<DataDir>,
    /// `None` until the shard is open, and while a job has it.
    base: Option<CheckpointDir>,
    /// Jobs in flight.
    indexes: bool,
    removes: bool,
    removes_sealed: bool,
    /// When retention is looked at next, monotonic milliseconds.
    look_ms: u64,
    /// The same for earlier generations.
    look_sealed_ms: u64,
    ballast: BallastUse,
    /// Why retention failed the last time, until it succeeds.
    failure: Option<Failure>,
    throttle: Arc<Throttle>,
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

/// What retention has to know beside its shard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetentionFacts {
    /// The settings.
    pub(crate) housekeeping: StorageHousekeeping,
    /// A durable checkpoint covers the log through this.
    pub(crate) covered: Sequence,
    /// The next checkpoint could not be written because the disk is full.
    pub(crate) lacks_room: bool,
    /// Bytes of all shards' logs, if retention is due and all shards are open.
    pub(crate) all_log_bytes: Option<u64>,
}

impl Retention {
    /// For a shard that is not open yet, one of so many. `ballast`: what is held back on the disk.
    pub(crate) fn new(
        (core, shards): (u16, u16),
        data_dir: Arc<DataDir>,
        ballast: BallastUse,
        throttle: Arc<Throttle>,
    ) -> Self {
        Self {
            core,
            shards,
            data_dir,
            base: None,
            indexes: false,
            removes: false,
            removes_sealed: false,
            look_ms: 0,
            look_sealed_ms: 0,
            ballast,
            failure: None,
            throttle,
        }
    }

    /// The shard is open.
    pub(crate) fn open(&mut self, base: CheckpointDir) {
        self.base = Some(base);
    }

    /// What is held back on the disk.
    pub(crate) fn ballast(&self) -> &BallastUse {
        &self.ballast
    }

    /// The same.
    pub(crate) fn ballast_mut(&mut self) -> &mut BallastUse {
        &mut self.ballast
    }

    /// True if it is time to look at what may be removed.
    pub(crate) fn is_due(&self, housekeeping: StorageHousekeeping, now: Moment) -> bool {
        let is_removing = self.removes || self.removes_sealed;
        housekeeping.has_retention() && now.ms >= self.look_ms && !is_removing
    }

    /// Begins what is due. Says how many bytes the log takes if it looked.
    pub(crate) fn start_due<L: Log>(
        &mut self,
        shard: &mut Shard<L>,
        (now, facts): (Moment, RetentionFacts),
        jobs: &mut Jobs<L>,
    ) -> Option<u64> {
        self.start_index(shard, jobs);
        let wanted = facts.housekeeping.has_retention();
        let lacks_room = facts.lacks_room || self.failure == Some(Failure::NoRoom);
        self.ballast.start_due(wanted && lacks_room, now, jobs);
        if !self.is_due(facts.housekeeping, now) {
            return None;
        }
        self.look_ms = now.ms + RETENTION_INTERVAL_SECONDS * 1000;
        let bytes = shard.log().bytes_stored();
        self.choose(shard, (now, facts, bytes), jobs);
        self.start_sealed((now, facts), jobs);
        Some(bytes)
    }

    fn start_index<L: Log>(&mut self, shard: &mut Shard<L>, jobs: &mut Jobs<L>) {
        if self.indexes {
            return;
        }
        let Some(job) = shard.log_mut().index_job() else {
            return;
        };
        self.indexes = true;
        let throttle = Arc::clone(&self.throttle);
        jobs.push(Lane::Index, move || {
            let mut throttled = throttle.job();
            let written = job.run(&mut || throttled.pause_and_go_on());
            result(RetentionResult::Indexed(written))
        });
    }

    /// Looks for segments that may go, and works them into the base.
    fn choose<L: Log>(
        &mut self,
        shard: &mut Shard<L>,
        (now, facts, bytes): (Moment, RetentionFacts, u64),
        jobs: &mut Jobs<L>,
    ) {
        let log = shard.log_mut();
        let count_max = match self.failure {
            // The less goes at a time, the less room it takes to work it into the base.
            Some(Failure::NoRoom) => 1,
            Some(Failure::Other) | None => RETENTION_SEGMENTS_MAX,
        };
        let durable = log.durable();
        let removable = log.removable(facts.covered.next(), count_max);
        let Some((choice, reader)) = removable.zip(log.reader(durable)) else {
            return;
        };
        let shards = u64::from(self.shards);
        let quota = facts
            .housekeeping
            .retention_bytes
            .map(|bytes| bytes / shards);
        let excess = quota.map(|quota| bytes.saturating_sub(quota));
        let removal = removal(facts.housekeeping, now.now.as_micros(), excess);
        let Some(base) = self.base.take() else {
            return;
        };
        self.removes = true;
        let throttle = Arc::clone(&self.throttle);
        jobs.push(Lane::Retention, move || {
            let (base, chosen) =
                choose_and_fold(base, &reader, || choice.choose(removal), &throttle);
            result(RetentionResult::Chosen(base, chosen))
        });
    }

    /// The same for earlier generations, which have no owner of their own.
    fn start_sealed<L: Log>(&mut self, (now, facts): (Moment, RetentionFacts), jobs: &mut Jobs<L>) {
        let Some(live_bytes) = facts.all_log_bytes else {
            return;
        };
        if self.core != 0
            || now.ms < self.look_sealed_ms
            || self.data_dir.sealed_generations().is_empty()
        {
            return;
        }
        self.look_sealed_ms = now.ms + SEALED_RETENTION_INTERVAL_SECONDS * 1000;
        self.removes_sealed = true;
        let wanted = (facts.housekeeping, now.now.as_micros());
        let (data_dir, throttle) = (Arc::clone(&self.data_dir), Arc::clone(&self.throttle));
        jobs.push(Lane::SealedRetention, move || {
            let freed = remove_sealed(&data_dir, wanted, live_bytes, &throttle);
            result(RetentionResult::SealedRemoved(freed))
        });
    }

    /// Takes what a helper thread has done.
    pub(crate) fn on_result<L: Log>(
        &mut self,
        shard: &mut Shard<L>,
        (done, now): (RetentionResult<L>, Moment),
        jobs: &mut Jobs<L>,
    ) {
        match done {
            RetentionResult::Indexed(written) => {
                self.indexes = false;
                if let Err(error) = written {
                    report::say_with(
                        LogEvent::IndexNotWritten,
                        &[("shard", self.core.into())],
                        &format!(
                            "shard {}: history index not written, the first look-up will make it: {error}",
                            self.core
                        ),
                    );
                }
            }
            RetentionResult::Chosen(base, chosen) => {
                self.base = Some(base);
                self.removes = false;
                match chosen {
                    Ok(Some(plan)) => {
                        let job = shard.log_mut().retire(plan);
                        self.removes = true;
                        jobs.push(Lane::Retention, move || {
                            result(RetentionResult::Removed(job.run()))
                        });
                        // There may be more than one job takes.
                        self.look_ms = now.ms;
                    }
                    Ok(None) => {}
                    Err(error) => self.note(Err(error)),
                }
            }
            RetentionResult::Removed(removed) => {
                self.removes = false;
                self.note(removed.map_err(RecoverError::from));
            }
            RetentionResult::SealedRemoved(freed) => {
                self.removes_sealed = false;
                if freed.as_ref().is_ok_and(|freed| *freed > 0) {
                    // There may be more than one pass takes.
                    self.look_sealed_ms = now.ms;
                }
                self.note(freed.map(|_| ()));
            }
        }
    }

    /// Takes note of how retention went, and says so if it is news.
    fn note(&mut self, result: Result<(), RecoverError>) {
        // The server stops.
        if matches!(
            result,
            Err(RecoverError::Checkpoint(CheckpointError::Cancelled))
        ) {
            return;
        }
        let core = self.core;
        let failure = result.as_ref().err().map(Failure::from);
        let before = std::mem::replace(&mut self.failure, failure);
        if let Err(error) = result
            && before != failure
        {
            report::say_with(
                LogEvent::HistoryNotRemoved,
                &[("shard", core.into())],
                &format!(
                    "shard {core}: could not remove old history: {error}; it is tried again every \
                 {RETENTION_INTERVAL_SECONDS} s"
                ),
            );
        }
    }
}

fn result<L: Log>(result: RetentionResult<L>) -> WorkerResult<L> {
    WorkerResult::Retention(Box::new(result))
}

/// What the settings say is to go.
fn removal(
    housekeeping: StorageHousekeeping,
    now_micros: i64,
    excess_bytes: Option<u64>,
) -> Removal {
    let before = housekeeping.retention_seconds.map(|seconds| {
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
    throttle: &Throttle,
) -> (CheckpointDir, Result<Option<P>, RecoverError>) {
    let mut throttled = throttle.job();
    let chosen = choose().map_err(RecoverError::from).and_then(|plan| {
        if let Some(plan) = &plan {
            let through = plan.first_kept().previous();
            advance_base(&mut base, reader, through, &mut |_| throttled.pause())?;
        }
        Ok(plan)
    });
    (base, chosen)
}

/// Removes from earlier generations what has to go, oldest first. Returns the bytes that it freed.
fn remove_sealed(
    data_dir: &DataDir,
    (housekeeping, now_micros): (StorageHousekeeping, i64),
    live_bytes: u64,
    throttle: &Throttle,
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
        let excess = housekeeping
            .retention_bytes
            .map(|most| bytes.saturating_sub(most));
        let removal = removal(housekeeping, now_micros, excess);
        bytes -= remove_from(log, removal, throttle)?;
    }
    Ok(before - bytes)
}

/// Removes a part of a log of an earlier generation. Returns the bytes that it freed.
fn remove_from(
    log: &SealedLog,
    removal: Removal,
    throttle: &Throttle,
) -> Result<u64, RecoverError> {
    let mut segments = log.closed_segments()?;
    segments.truncate(RETENTION_SEGMENTS_MAX);
    if segments.is_empty() {
        return Ok(0);
    }
    let owner = log.origin()?.owner;
    let base = CheckpointDir::new(log.base_path(), owner, CheckpointKind::Base, is_packed_body);
    let choose = || RetirePlan::choose(&segments, removal);
    let (_, chosen) = choose_and_fold(base, &log.reader()?, choose, throttle);
    let Some(plan) = chosen? else {
        return Ok(0);
    };
    let freed = plan.bytes();
    log.retire(plan).run()?;
    Ok(freed)
}
