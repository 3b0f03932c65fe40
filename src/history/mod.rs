//! History: stored events, and the state as it was, read from logs on a helper thread.
//!
//! ```text
//!   events      backward by key ────────────────────────────────▶ a page of events, newest first
//!   entity_at   backward by key to the entity's beginning ─┐
//!   list_at     the events since a stored state          ─┴─▶ State::apply, oldest first ─▶ JSON
//! ```
//!
//! | file | job |
//! | --- | --- |
//! | `source` | what is read: logs of all generations, and the states stored beside them |
//! | `files` | the same, on the disk |
//! | `reader_cache` | a data directory, opened for one query after another |
//! | `budget` | how far a query may go |
//! | `key` | under which key a log's index finds an event |
//! | `events` | a page of events |
//! | `forward` | events after a place, oldest first |
//! | `entity` | one entity at an earlier time |
//! | `list` | the entities at an earlier time |
//! | `event_buffer` | events read newest first, to be applied oldest first |
//! | `entities_builder` | a page of the first entities of several listings |
//! | `sight` | what of the past one reader may see |
//! | `support` | for tests: random histories, and logs of them in memory |
//!
//! The state at a time is what `State::apply`, the engine's own, makes of the events up to and
//! including that time: there is no second set of rules. Times are those at which the server
//! accepted the events. They never fall within a namespace, but they may across namespaces.
//!
//! Everything here is plain and synchronous. It blocks on cold files, so it never runs on a core.
//! What one query may cost is bounded in `limits`.
//!
//! This folder must not know the engine, shards or cores, and reads no clock.
#![deny(clippy::wildcard_enum_match_arm)]

#[cfg(test)]
mod bounds_test;
mod budget;
mod entities_builder;
mod entity;
mod event_buffer;
mod events;
mod files;
mod forward;
#[cfg(test)]
mod forward_test;
mod key;
mod list;
#[cfg(test)]
mod model_test;
mod reader_cache;
mod sight;
mod source;
#[cfg(test)]
mod support;

pub use budget::{Budget, WorkingMemory};
pub use entity::{EntityAt, entity_at};
pub use events::{EventsPage, events};
pub use files::{LiveLog, StoredStates};
pub use forward::{
    AfterPlace, ForwardEvent, ForwardId, ForwardPart, ForwardPlace, ForwardQuery, Wanted, forward,
};
pub use key::{KEY_SCHEME, record_key};
pub use list::{EntitiesPage, list_at};
pub use reader_cache::{HistoryQuery, HistoryRead, HistoryResult, ReaderCache};
pub use sight::Sight;
pub use source::{Base, Generation, HistoryLog, Visit};

use crate::api::ApiError;
use crate::model::{EventDecodeError, StoredChange, Timestamp};
use crate::state::State;
use flux_storage::{CheckpointError, LayerError, Record, ReplayError, Sequence, StorageError};

/// Why the past can't be told.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The storage failed or is damaged.
    #[error("{0}")]
    Storage(#[source] Box<StorageError>),
    /// The state that a log begins with can't be opened.
    #[error("{0}")]
    Base(#[source] Box<CheckpointError>),
    /// A part of a stored state can't be read.
    #[error("{0}")]
    Layer(#[source] Box<LayerError>),
    /// A record holds no event that this version can read.
    #[error("record {sequence} holds no event that this version can read: {source}")]
    Event {
        /// The record.
        sequence: Sequence,
        /// What is wrong with it.
        #[source]
        source: EventDecodeError,
    },
    /// A record is of a kind that this version does not know.
    #[error("record {sequence} is of kind {kind}, which this version does not know")]
    Kind {
        /// The record.
        sequence: Sequence,
        /// Its kind.
        kind: u8,
    },
    /// Retention has removed what would have to be read.
    #[error("history before {} was removed by retention", from.rfc3339())]
    Removed {
        /// The earliest time that there is history of.
        from: Timestamp,
    },
    /// It asks for what is before an event that the log does not have yet.
    #[error("the cursor lies beyond the end of the log")]
    BeyondEnd,
    /// Nobody waits for the answer any more.
    #[error("nobody waits for it any more")]
    Cancelled,
    /// It takes more steps than its [`Budget`] has; with a larger one there may be an answer.
    #[error("it takes more steps than a short read may")]
    OverBudget,
    /// There is no memory to work in.
    #[error("there is no memory for it")]
    OutOfMemory,
    /// It takes more work than one request may cause.
    #[error("it takes more than {limit} {unit}")]
    TooLong {
        /// The bound.
        limit: u64,
        /// What it counts.
        unit: &'static str,
        /// What to ask for instead.
        advice: &'static str,
    },
}

impl From<StorageError> for HistoryError {
    fn from(error: StorageError) -> Self {
        Self::Storage(Box::new(error))
    }
}

impl From<LayerError> for HistoryError {
    fn from(error: LayerError) -> Self {
        Self::Layer(Box::new(error))
    }
}

impl From<CheckpointError> for HistoryError {
    fn from(error: CheckpointError) -> Self {
        Self::Base(Box::new(error))
    }
}

impl From<ReplayError<Self>> for HistoryError {
    fn from(error: ReplayError<Self>) -> Self {
        match error {
            ReplayError::Storage(error) => error.into(),
            ReplayError::Visit(error) => error,
        }
    }
}

impl HistoryError {
    /// What the client is told. A fault of ours is told in general terms; it belongs into the
    /// server's own messages.
    pub fn answer(&self) -> ApiError {
        match *self {
            Self::Removed { from } => ApiError::HistoryRemoved { from },
            Self::BeyondEnd => ApiError::CursorBeyondEnd,
            Self::TooLong {
                limit,
                unit,
                advice,
            } => ApiError::HistoryTooLong {
                limit,
                unit,
                advice,
            },
            Self::Cancelled | Self::OverBudget => ApiError::ShuttingDown,
            Self::OutOfMemory => ApiError::OutOfMemory,
            Self::Storage(_)
            | Self::Base(_)
            | Self::Layer(_)
            | Self::Event { .. }
            | Self::Kind { .. } => ApiError::HistoryUnreadable,
        }
    }

    /// True if retention removed a file after it was looked for: with new readers there may be an
    /// answer.
    pub fn is_moved(&self) -> bool {
        matches!(self, Self::Storage(error) if matches!(**error, StorageError::Missing { .. }))
    }

    /// True if the fault is in the server's storage and not in the request.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Storage(_)
            | Self::Base(_)
            | Self::Layer(_)
            | Self::Event { .. }
            | Self::Kind { .. } => true,
            Self::Removed { .. }
            | Self::BeyondEnd
            | Self::TooLong { .. }
            | Self::Cancelled
            | Self::OverBudget
            | Self::OutOfMemory => false,
        }
    }
}

/// What a record did to the state; `None` for a gap, which a repair left where records are lost.
fn decode<'r>(record: &Record<'r>) -> Result<Option<StoredChange<'r>>, HistoryError> {
    let (sequence, kind) = (record.sequence, record.kind);
    if record.gap().is_some() {
        return Ok(None);
    }
    match StoredChange::decode(kind, record.payload) {
        Ok(Some(change)) => Ok(Some(change)),
        Ok(None) => Err(HistoryError::Kind { sequence, kind }),
        Err(source) => Err(HistoryError::Event { sequence, source }),
    }
}

/// Applies the next change to a state.
fn apply(
    state: &mut State,
    (sequence, time): (Sequence, Timestamp),
    change: &StoredChange<'_>,
) -> Result<(), HistoryError> {
    let promoted = state.promote(change.entity_id())?;
    match change {
        StoredChange::Event(event) => state.apply(promoted, (sequence, time), event),
        StoredChange::Entity(entity) => state.replace(promoted, sequence, entity),
    };
    Ok(())
}
