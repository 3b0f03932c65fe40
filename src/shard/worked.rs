//! How far a shard came with a request, and what it has stored.

use super::Shard;
use super::message::{Envelope, Origin, Reply};
use crate::api::ApiError;
use crate::api::metrics::Front;

/// How far a request came.
pub(super) enum Worked {
    /// Its reply is held, if it has one.
    Done,
    /// It waits for the log's next segment.
    Waits(Envelope),
    /// The slice is over before it is.
    Unfinished(Envelope),
}

impl Worked {
    /// Not done. `waits`: for the log.
    pub(super) fn pause(waits: bool, envelope: Envelope) -> Self {
        if waits {
            Self::Waits(envelope)
        } else {
            Self::Unfinished(envelope)
        }
    }
}

impl<L> Shard<L> {
    /// Counts the events that a reply says are stored.
    pub(super) fn count_stored(&mut self, origin: Origin, reply: &Reply) {
        let stored = if let Reply::Published(outcome) = reply {
            outcome.fresh()
        } else if let Reply::DeletedMany(done, _) = reply {
            done.iter().filter(|deleted| **deleted).count()
        } else {
            usize::from(matches!(reply, Reply::Deleted(Ok(Some(_)))))
        };
        self.accepted[origin.request_id.front().index()] += stored as u64;
    }

    /// Counts an event that the server itself has stored.
    pub(super) fn count_own(&mut self) {
        self.accepted[Front::Server.index()] += 1;
    }

    /// Events stored since the shard was opened, by what they came in by.
    pub fn accepted(&self) -> &[u64; Front::COUNT] {
        &self.accepted
    }

    /// True while writes wait for the log's next segment.
    pub fn has_deferred(&self) -> bool {
        !self.deferred_writes.is_empty()
    }

    /// Why events are refused, if they are.
    pub fn refuses(&self) -> Option<&ApiError> {
        self.rejection.as_ref()
    }
}
