//! A log on the disk with the states stored of it, as [`HistoryLog`] asks for them.

use super::{Base, Budget, HistoryError, HistoryLog, Visit};
use crate::model::Timestamp;
use crate::state::{State, TimeScope, last_event_in, latest_in};
use crate::subscribe::Filter;
use flux_storage::{Checkpoint, CheckpointError, CheckpointView, LogReader, Record, Sequence};
use std::ops::{ControlFlow, RangeInclusive};
use std::rc::Rc;

/// What a shard hands out of its own log, for another thread to read.
#[derive(Debug, Clone)]
pub struct LiveLog {
    /// The log as it is now.
    pub reader: LogReader,
    /// The states stored of it.
    pub states: StoredStates,
    /// The newest of its checkpoints, opened.
    pub checkpoint: Option<Checkpoint>,
}

/// Where the states stored of a log are.
#[derive(Debug, Clone)]
pub struct StoredStates {
    /// The state that it begins with, once there is one.
    pub base: CheckpointView,
    /// Its checkpoints.
    pub checkpoints: CheckpointView,
}

/// The base of a log, if it has one. One that is damaged is done without if the log tells
/// everything itself.
///
/// # Errors
/// If it can't be read, or is needed and damaged.
pub(super) fn base_of(
    reader: &LogReader,
    view: &CheckpointView,
) -> Result<Option<Checkpoint>, HistoryError> {
    match view.newest() {
        Err(CheckpointError::Layer(error)) if reader.removed().is_none() && error.is_damage() => {
            Ok(None)
        }
        newest => Ok(newest?),
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct FileLog {
    reader: LogReader,
    /// Ascending, as `bases`.
    stored: Vec<Checkpoint>,
    bases: Vec<Base>,
    budget: Rc<Budget>,
}

impl FileLog {
    /// A log with the states stored of it.
    pub(super) fn new(reader: LogReader, mut stored: Vec<Checkpoint>, budget: &Rc<Budget>) -> Self {
        stored.sort_by_key(|checkpoint| checkpoint.meta.through);
        let base = |checkpoint: &Checkpoint| Base {
            through: checkpoint.meta.through,
            time: Timestamp::from_micros(checkpoint.meta.time_micros),
        };
        Self {
            reader,
            bases: stored.iter().map(base).collect(),
            stored,
            budget: Rc::clone(budget),
        }
    }

    fn stored(&self, base: Base) -> Option<&Checkpoint> {
        let mut stored = self.stored.iter();
        stored.find(|checkpoint| checkpoint.meta.through == base.through)
    }

    /// `visit`, as far as the budget goes.
    fn watched<'v>(
        &self,
        visit: Visit<'v>,
    ) -> impl FnMut(Record<'_>) -> Result<ControlFlow<()>, HistoryError> + use<'v> {
        let budget = Rc::clone(&self.budget);
        move |record| {
            budget.spend(1)?;
            if record.gap().is_some() {
                // What a repair gave up on: there is nothing to show, and the state went on without
                // it.
                Ok(ControlFlow::Continue(()))
            } else {
                visit(record)
            }
        }
    }
}

impl HistoryLog for FileLog {
    fn first_sequence(&self) -> Sequence {
        self.reader.first_sequence()
    }

    fn last_sequence(&self) -> Sequence {
        self.reader.end()
    }

    fn removed(&self) -> Option<Base> {
        let log_start = self.reader.removed()?;
        (log_start.time_micros > i64::MIN).then_some(Base {
            through: log_start.first_sequence.previous(),
            time: Timestamp::from_micros(log_start.time_micros),
        })
    }

    fn bases(&self) -> &[Base] {
        &self.bases
    }

    fn state(&self, base: Base) -> Result<State, HistoryError> {
        Ok(self.stored(base).map_or_else(State::default, |checkpoint| {
            let len = usize::try_from(checkpoint.meta.entities).unwrap_or(usize::MAX);
            State::from_layers(checkpoint.stack.clone(), len)
        }))
    }

    fn latest_in(&self, base: Base, scope: TimeScope<'_>) -> Result<Timestamp, HistoryError> {
        let found = self.stored(base);
        let latest = found.map(|checkpoint| latest_in(&checkpoint.stack, scope));
        Ok(latest
            .transpose()?
            .flatten()
            .map_or(base.time, |latest| latest.min(base.time)))
    }

    fn last_event_in(
        &self,
        base: Base,
        pattern: &Filter,
    ) -> Result<Option<Sequence>, HistoryError> {
        let (scope, id) = match pattern {
            Filter::Exact(id) => (TimeScope::of(id), Some(&**id)),
            Filter::Prefix(_) | Filter::All => match pattern.concerns_single_placement() {
                Some(namespace) => (TimeScope::Namespace(namespace), None),
                None => return Ok(None),
            },
        };
        match self.stored(base) {
            None => Ok(None),
            Some(checkpoint) => Ok(last_event_in(&checkpoint.stack, scope, id)?),
        }
    }

    fn spend(&self, steps: u64) -> Result<(), HistoryError> {
        self.budget.spend(steps)
    }

    fn hold(&self, bytes: usize) -> Result<(), HistoryError> {
        self.budget.hold(bytes)
    }

    fn after_time(&self, time: Timestamp) -> Result<Sequence, HistoryError> {
        Ok(self.reader.after_time(time.as_micros())?)
    }

    fn read_backward(
        &self,
        keys: RangeInclusive<u64>,
        before: Sequence,
        visit: Visit<'_>,
    ) -> Result<(), HistoryError> {
        Ok(self
            .reader
            .read_backward(keys, before, self.watched(visit))?)
    }

    fn read_forward(&self, from: Sequence, visit: Visit<'_>) -> Result<(), HistoryError> {
        Ok(self.reader.read_forward(from, self.watched(visit))?)
    }

    fn read_forward_by_key(
        &self,
        keys: RangeInclusive<u64>,
        from: Sequence,
        visit: Visit<'_>,
    ) -> Result<(), HistoryError> {
        let visit = self.watched(visit);
        Ok(self.reader.read_forward_by_key(&keys, from, visit)?)
    }
}
