//! The few things an engine asks of its log. A file system, a distributed log or a vector can stand behind it.

use crate::model::RECORD_KIND_EVENT;
use flux_storage::{LogReader, Sequence};

/// Why an append was refused. Nothing was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendRejection {
    /// The active segment is full and the next is not ready yet.
    #[error("the next segment is not ready")]
    NotReady,
    /// A write or flush failed, now or earlier.
    #[error("the log is closed after a failure")]
    Closed,
    /// The record is larger than the log can hold.
    #[error("the record is too large")]
    TooLarge,
    /// The entity can't be read: a layer of the state is damaged.
    #[error("the state is damaged")]
    StateDamaged,
    /// The namespace has used up its rate.
    #[error("the namespace has used up its rate")]
    RateLimited {
        /// Seconds until it may go on.
        seconds: u32,
    },
}

/// An append-only sequence of records.
pub trait EventLog {
    /// Appends one event. It is not durable yet.
    ///
    /// # Errors
    /// [`AppendRejection`].
    fn append(&mut self, time_micros: i64, event: &[u8]) -> Result<Sequence, AppendRejection>;

    /// The last sequence appended.
    fn appended(&self) -> Sequence;

    /// The last sequence that a killed process does not lose.
    fn written(&self) -> Sequence;

    /// The last sequence that is durable.
    fn durable(&self) -> Sequence;

    /// What another thread can read of it, up to `through`; `None` of a log that keeps no history.
    fn reader(&mut self, through: Sequence) -> Option<LogReader>;
}

impl EventLog for flux_storage::Log {
    fn append(&mut self, time_micros: i64, event: &[u8]) -> Result<Sequence, AppendRejection> {
        use flux_storage::AppendError;
        Self::append(self, RECORD_KIND_EVENT, time_micros, event).map_err(|error| match error {
            AppendError::SegmentNeeded { .. } => AppendRejection::NotReady,
            AppendError::TooLarge { .. } => AppendRejection::TooLarge,
            AppendError::Poisoned => AppendRejection::Closed,
        })
    }

    fn appended(&self) -> Sequence {
        Self::appended(self)
    }

    fn written(&self) -> Sequence {
        Self::written(self)
    }

    fn durable(&self) -> Sequence {
        Self::durable(self)
    }

    fn reader(&mut self, through: Sequence) -> Option<LogReader> {
        Some(Self::reader(self, through))
    }
}
