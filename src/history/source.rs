//! What history is read from: the logs of all generations, and the states stored beside them.
//!
//! ```text
//! generation 2   shard 0 of 3   [base]─events──────▶   [checkpoint]─events─▶ now
//!                shard 1 of 3   [base]─events──────▶
//!                shard 2 of 3   [base]─events──────▶
//! generation 1   shard 0 of 2   ─────────events─▶│   a namespace's events lie in one log of each
//!                shard 1 of 2   [base]───events─▶│   generation; a newer one's are all later
//! ```
//!
//! A *base* is any stored state of a log: that at its beginning, that at the log start, where
//! retention removed what was before, or a checkpoint. It saves reading what is before it. A log
//! without a base goes on in the older generation, where its entities lie in one log or several.
//!
//! Times never fall within a namespace, nor within an id that has none ([`TimeScope`]). Across them
//! they may: a clock that was set back writes earlier times behind later ones. So whoever reads a
//! log up to a time looks at the time of each record.

use super::HistoryError;
use crate::model::{HistoryStart, Timestamp, place, place_key, placement_key};
use crate::state::{State, TimeScope};
use crate::subscribe::Filter;
use flux_storage::{Record, Sequence};
use std::ops::{ControlFlow, RangeInclusive};

/// What is called for each record; a break ends the reading.
pub type Visit<'v> = &'v mut dyn FnMut(Record<'_>) -> Result<ControlFlow<()>, HistoryError>;

/// A stored state of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// The last event that it holds.
    pub through: Sequence,
    /// The latest time of an event that it holds.
    pub time: Timestamp,
}

impl Base {
    /// True if all that it holds of what is read came before the history's start.
    pub(super) fn is_hidden(&self, start: Option<HistoryStart>) -> bool {
        start.is_some_and(|start| start.hides(self.through, self.time))
    }
}

/// A log as it was at a moment. It may be appended to meanwhile; a reader sees none of that.
pub trait HistoryLog {
    /// The first event that is there, or would be.
    fn first_sequence(&self) -> Sequence;

    /// The last event that is there; if there is none, that before
    /// [`HistoryLog::first_sequence`].
    fn last_sequence(&self) -> Sequence;

    /// The last event that retention removed, and the latest time of all that it removed; `None` if
    /// it removed nothing.
    fn removed(&self) -> Option<Base>;

    /// The states stored of this log, ascending.
    fn bases(&self) -> &[Base];

    /// The state that one of [`HistoryLog::bases`] is, to apply events to.
    ///
    /// # Errors
    /// [`HistoryError::Storage`].
    fn state(&self, base: Base) -> Result<State, HistoryError>;

    /// The latest time that an event of a scope may have in one of [`HistoryLog::bases`].
    ///
    /// # Errors
    /// [`HistoryError::Layer`].
    fn latest_in(&self, base: Base, scope: TimeScope<'_>) -> Result<Timestamp, HistoryError>;

    /// The last event of what a pattern covers in one of [`HistoryLog::bases`], or a later one of
    /// its namespace; `None` if that is not known.
    ///
    /// # Errors
    /// [`HistoryError::Layer`].
    fn last_event_in(&self, base: Base, pattern: &Filter)
    -> Result<Option<Sequence>, HistoryError>;

    /// Takes note of work that follows from what was read: so many events to apply, or entities to
    /// list. Reading itself is taken note of by the log.
    ///
    /// # Errors
    /// [`HistoryError::Cancelled`], [`HistoryError::OverBudget`].
    fn spend(&self, _steps: u64) -> Result<(), HistoryError> {
        Ok(())
    }

    /// Takes note that the query works in so many bytes.
    ///
    /// # Errors
    /// [`HistoryError::OutOfMemory`].
    fn hold(&self, _bytes: usize) -> Result<(), HistoryError> {
        Ok(())
    }

    /// The sequence after the last event that was accepted at `time` or before: all from there on
    /// are later, and some before it may be.
    ///
    /// # Errors
    /// [`HistoryError::Storage`].
    fn after_time(&self, time: Timestamp) -> Result<Sequence, HistoryError>;

    /// Visits the events with a key in `keys` before `before`, newest first.
    ///
    /// # Errors
    /// [`HistoryError::Storage`], or the visitor's.
    fn read_backward(
        &self,
        keys: RangeInclusive<u64>,
        before: Sequence,
        visit: Visit<'_>,
    ) -> Result<(), HistoryError>;

    /// Visits all events from `from` on, in order.
    ///
    /// # Errors
    /// As [`HistoryLog::read_backward`].
    fn read_forward(&self, from: Sequence, visit: Visit<'_>) -> Result<(), HistoryError>;

    /// Visits the events with a key in `keys` from `from` on, in order, and maybe others.
    ///
    /// # Errors
    /// As [`HistoryLog::read_backward`].
    fn read_forward_by_key(
        &self,
        _keys: RangeInclusive<u64>,
        from: Sequence,
        visit: Visit<'_>,
    ) -> Result<(), HistoryError> {
        self.read_forward(from, visit)
    }
}

/// The logs that were written with one number of shards. Logs that a request does not concern may
/// be absent.
#[derive(Debug)]
pub struct Generation<L> {
    logs: Box<[Option<L>]>,
}

impl<L> Generation<L> {
    /// By shard, one for each that the generation has.
    ///
    /// # Panics
    /// If there is none, or more than a `u16` counts.
    pub fn new(logs: impl IntoIterator<Item = Option<L>>) -> Self {
        let logs: Box<[Option<L>]> = logs.into_iter().collect();
        let count = u16::try_from(logs.len()).expect("shards are counted by a u16");
        assert!(count > 0, "a generation has shards");
        Self { logs }
    }

    /// How many shards it has.
    pub(super) fn shards(&self) -> u16 {
        u16::try_from(self.logs.len()).expect("asserted when it was made")
    }

    /// The log of a shard.
    ///
    /// # Panics
    /// If it was left out, though the request concerns it.
    pub(super) fn log(&self, shard: u16) -> &L {
        self.logs[usize::from(shard)]
            .as_ref()
            .expect("every log that a request concerns is there")
    }

    /// The log that holds a placement key's events.
    ///
    /// # Panics
    /// As [`Generation::log`].
    pub(super) fn log_of(&self, key: &str) -> &L {
        self.log(place_key(key, self.shards()))
    }

    /// The log that holds an entity's events.
    ///
    /// # Panics
    /// As [`Generation::log`].
    pub(super) fn log_of_entity(&self, id: &str) -> &L {
        self.log_of(placement_key(id))
    }
}

/// Some shards of a generation, to tell which ids are theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shards {
    count: u16,
    chosen: Box<[bool]>,
}

impl Shards {
    /// `chosen` of `count` shards.
    pub(super) fn new(count: u16, chosen: &[u16]) -> Self {
        let is_chosen = |shard: u16| chosen.contains(&shard);
        Self {
            count,
            chosen: (0..count).map(is_chosen).collect(),
        }
    }

    /// True if the id is placed on one of them.
    pub(super) fn hold(&self, id: &str) -> bool {
        self.chosen[usize::from(place(id, self.count))]
    }
}

/// The newest stored state of `log` that holds nothing later than `at`; of a scope, if one is
/// given, whatever else it holds.
pub(super) fn base_at(
    log: &impl HistoryLog,
    scope: Option<TimeScope<'_>>,
    at: Timestamp,
) -> Result<Option<Base>, HistoryError> {
    for base in log.bases().iter().rev() {
        if base.time <= at {
            return Ok(Some(*base));
        }
        if let Some(scope) = scope
            && log.latest_in(*base, scope)? <= at
        {
            return Ok(Some(*base));
        }
    }
    Ok(None)
}

/// The rejection of a query for a state that retention took away with its events. `start`: where
/// the history begins for the reader.
///
/// # Errors
/// [`HistoryError::Removed`] if anything was removed of `log` that the reader may see.
pub(super) fn reject_removed(
    log: &impl HistoryLog,
    scope: Option<TimeScope<'_>>,
    start: Option<HistoryStart>,
) -> Result<(), HistoryError> {
    let Some(removed) = log.removed().filter(|removed| !removed.is_hidden(start)) else {
        return Ok(());
    };
    let from = match (log.bases().first(), scope) {
        (None, _) => after(removed.time),
        (Some(base), None) => base.time,
        (Some(base), Some(scope)) => log.latest_in(*base, scope)?,
    };
    Err(HistoryError::Removed { from })
}

/// What retention may have removed of a scope, here and in older generations: the last event of the
/// log that it removed, and the latest time that an event of the scope before it may have. `None`
/// if there was none.
pub(super) fn removed_of(
    log: &impl HistoryLog,
    scope: TimeScope<'_>,
) -> Result<Option<Base>, HistoryError> {
    let Some(mut removed) = log.removed() else {
        return Ok(None);
    };
    // Retention works what it removes into the base first, which so holds all that is gone.
    let holds_it = |base: &&Base| base.through >= removed.through;
    if let Some(base) = log.bases().iter().find(holds_it) {
        removed.time = log.latest_in(*base, scope)?;
    }
    Ok(Some(removed).filter(|removed| removed.time > Timestamp::default()))
}

/// The moment after a time.
pub(super) fn after(time: Timestamp) -> Timestamp {
    Timestamp::from_micros(time.as_micros().saturating_add(1))
}

#[cfg(test)]
impl<L> Generation<L> {
    /// Its logs, to change them.
    pub(super) fn logs_mut(&mut self) -> impl Iterator<Item = &mut L> {
        self.logs.iter_mut().flatten()
    }
}
