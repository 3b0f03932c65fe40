//! Publishing and deleting: decide → append → apply → match subscribers.

use super::Engine;
use crate::log::{AppendRejection, Log};
use crate::model::{EventDraft, EventId, EventView, Timestamp};
use crate::state::{Applied, Entity, Promoted};
use flux_storage::{LayerError, Sequence};

/// Stream and source of the tombstones that the delete calls make.
const DELETE_STREAM: &str = "flux.delete";
const DELETE_SOURCE: &str = "flux";

impl Engine {
    /// Stores one event (encoded by [`EventDraft::encode`]) and applies it.
    ///
    /// # Errors
    /// [`AppendRejection`], if nothing changed.
    ///
    /// # Panics
    /// If `bytes` are no event.
    #[expect(clippy::unwrap_in_result, reason = "a caller's bug, not an outcome")]
    pub fn publish(
        &mut self,
        log: &mut impl Log,
        now: Timestamp,
        bytes: &[u8],
    ) -> Result<Sequence, AppendRejection> {
        let event = EventView::decode_encoded(bytes).expect("EventDraft::encode wrote these bytes");
        let (promoted, time) = self.decide(event.entity_id, now)?;
        let sequence = log.append(time.as_micros(), bytes)?;
        let applied = self.apply(promoted, (sequence, time), &event);
        if event.stream != DELETE_STREAM {
            self.sources.note(event.source);
        }
        self.match_subscribers(&event, time, applied);
        Ok(sequence)
    }

    /// Where the entity of an event lies, and the event's time: not before that of the last event
    /// of its namespace, or of its id if it has none.
    fn decide(
        &mut self,
        entity_id: &str,
        now: Timestamp,
    ) -> Result<(Promoted, Timestamp), AppendRejection> {
        let promoted = match self.state.promote(entity_id) {
            Ok(promoted) => promoted,
            Err(error) => return Err(self.damaged(error)),
        };
        let last_updated = self.state.last_updated(promoted);
        let floor = self.namespaces.floor(entity_id, last_updated);
        Ok((promoted, now.max(floor)))
    }

    /// Applies an event that is in the log: one that was published now, or one that is replayed.
    pub(super) fn apply(
        &mut self,
        promoted: Promoted,
        (sequence, time): (Sequence, Timestamp),
        event: &EventView<'_>,
    ) -> Applied {
        self.latest_time = self.latest_time.max(time);
        self.events += 1;
        let applied = self.state.apply(promoted, (sequence, time), event);
        self.namespaces.count(event.entity_id, applied, time);
        if applied == Applied::Deleted {
            self.last_delete = sequence;
        }
        applied
    }

    /// Encodes the change for the cores that want it.
    fn match_subscribers(&mut self, event: &EventView<'_>, time: Timestamp, applied: Applied) {
        if self.subscribers.is_empty() || applied == Applied::Absent {
            return;
        }
        self.hits.clear();
        self.subscribers.matches(event.entity_id, &mut self.hits);
        if self.hits.is_empty() {
            return;
        }
        if applied == Applied::Deleted {
            self.changes.deleted(event.entity_id, time, &self.hits);
        } else {
            self.changes.updated(event, time, &self.hits);
        }
    }

    /// Whether there is such an entity.
    ///
    /// # Errors
    /// [`AppendRejection::StateDamaged`].
    pub fn has(&mut self, entity_id: &str) -> Result<bool, AppendRejection> {
        match self.state.get(entity_id) {
            Ok(found) => Ok(found.is_some()),
            Err(error) => Err(self.damaged(error)),
        }
    }

    /// Deletes an entity by a tombstone event with this id. `Ok(None)` if there is nothing to
    /// delete.
    ///
    /// # Errors
    /// [`AppendRejection`], if nothing changed.
    pub fn delete(
        &mut self,
        log: &mut impl Log,
        now: Timestamp,
        (entity_id, event_id): (&str, uuid::Uuid),
    ) -> Result<Option<Sequence>, AppendRejection> {
        if !self.has(entity_id)? {
            return Ok(None);
        }
        let mut bytes = std::mem::take(&mut self.tombstone);
        bytes.clear();
        let draft = EventDraft {
            entity_id,
            event_id: EventId::Uuid(event_id),
            stream: DELETE_STREAM,
            source: DELETE_SOURCE,
            timestamp_ms: None,
            key: None,
            schema: None,
            extra: "",
            tombstone: true,
            properties: &[],
        };
        draft.encode(&mut bytes);
        let appended = self.publish(log, now, &bytes);
        self.tombstone = bytes;
        appended.map(Some)
    }

    /// The time that the next event of an id must not fall below.
    ///
    /// # Errors
    /// If the layer that may hold its entity is damaged.
    pub fn floor(&mut self, entity_id: &str) -> Result<Timestamp, LayerError> {
        let entity = self.state.get(entity_id)?;
        let last_updated = entity.map(Entity::last_updated);
        Ok(self.namespaces.floor(entity_id, last_updated))
    }

    /// Looks at entities that are about to be changed or read, for speed alone.
    pub fn prefetch(&mut self, ids: &[&[u8]]) {
        self.state.prefetch(ids);
    }
}
