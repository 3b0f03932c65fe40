//! Entities that come to their end by themselves: found by the clock of deadlines, and deleted by a
//! tombstone like any other.

use super::{Engine, PublishError, StateDamaged, note_damage};
use crate::log::{AppendRejection, Log};
use crate::model::{EndCause, Timestamp};
use crate::state::{NextEnd, Promoted};
use flux_storage::Sequence;

/// The time of an event and the clock of deadlines are the same if they differ by less: they are
/// read one after the other, and an end may be late by more.
const SAME_MICROS: i64 = 100_000;

impl Engine {
    /// What the clock of deadlines says now. It begins to run with the first call.
    pub fn set_deadline_now(&mut self, now: Timestamp) {
        if self.deadline_now.replace(now).is_none() {
            self.state.begin_run(now);
        }
    }

    /// What that clock said last.
    pub fn deadline_now(&self) -> Timestamp {
        self.deadline_now.unwrap_or_default()
    }

    /// True if an entity may have come to its end, by the clock of deadlines.
    pub fn may_have_ended(&self) -> bool {
        let next = self.state.next_end();
        next.is_some_and(|next| self.deadline_now.is_some_and(|now| next <= now))
    }

    /// Writes the id of an entity that has come to its end to `id`. `looks`: so many records may be
    /// looked at and passed.
    ///
    /// # Errors
    /// [`AppendRejection::StateDamaged`].
    pub fn find_end(
        &mut self,
        looks: &mut usize,
        id: &mut String,
    ) -> Result<NextEnd, AppendRejection> {
        let Some(now) = self.deadline_now else {
            return Ok(NextEnd::None);
        };
        let found = self.state.find_end(now, looks, id);
        found.map_err(|error| self.damaged(error))
    }

    /// Deletes an entity that has come to its end. `Ok(None)` if there is none.
    ///
    /// # Errors
    /// [`PublishError`], if nothing changed.
    pub fn end(
        &mut self,
        log: &mut impl Log,
        now: Timestamp,
        (entity_id, event_id, cause): (&str, uuid::Uuid, EndCause),
    ) -> Result<Option<Sequence>, PublishError> {
        if !self.has(entity_id)? {
            return Ok(None);
        }
        let of = (entity_id, event_id, cause.stream());
        self.store_tombstone(log, now, of).map(Some)
    }

    /// The ids of all entities that are bound to a connection: for a start. None if a layer is
    /// damaged, which is noted: the state is made anew then.
    pub fn bound_entities(&mut self) -> Vec<Box<str>> {
        match self.state.bound() {
            Ok(ids) => ids,
            Err(error) => {
                let StateDamaged = note_damage(&mut self.damage, error);
                Vec::new()
            }
        }
    }

    /// For how long an entity lingers that is bound to a connection, milliseconds; `None` if it is
    /// not bound.
    ///
    /// # Errors
    /// [`AppendRejection::StateDamaged`].
    pub fn linger_ms(&mut self, entity_id: &str) -> Result<Option<u32>, AppendRejection> {
        match self.state.get(entity_id) {
            Ok(entity) => Ok(entity.and_then(|entity| entity.lifetime().linger_ms)),
            Err(error) => Err(self.damaged(error)),
        }
    }

    /// True if [`Engine::next_unbound`] has something to say.
    pub fn has_unbound(&self) -> bool {
        !self.unbound.is_empty()
    }

    /// The id of an entity that was bound to a connection and was deleted since, each once.
    pub fn next_unbound(&mut self) -> Option<Box<str>> {
        self.unbound.pop()
    }

    /// True if an entity is bound to a connection.
    pub(super) fn is_bound(&self, promoted: Promoted) -> bool {
        let entity = self.state.entity(promoted);
        entity.is_some_and(|entity| entity.lifetime().linger_ms.is_some())
    }

    /// An event that is about to be stored says how long its entity stays from `accepted` on: the
    /// clock of deadlines may be elsewhere.
    pub(super) fn note_ahead(&mut self, accepted: Timestamp) {
        let now = self.deadline_now.unwrap_or(accepted);
        let ahead = accepted.as_micros().saturating_sub(now.as_micros());
        let is_same = ahead.saturating_abs() < SAME_MICROS;
        self.state.set_ahead(if is_same { 0 } else { ahead });
    }
}
