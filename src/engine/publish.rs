//! Publishing and deleting: decide → append → apply → match subscribers.

use super::Engine;
use crate::log::{AppendRejection, Log};
use crate::model::{EventDraft, EventId, EventView, Stored, Timestamp};
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
    ) -> Result<Stored, AppendRejection> {
        let event = EventView::decode_encoded(bytes).expect("EventDraft::encode wrote these bytes");
        let (promoted, time) = self.decide(&event, now)?;
        let sequence = log.append(time.as_micros(), bytes)?;
        let applied = self.apply(promoted, (sequence, time), &event);
        let version = match applied {
            Applied::Created => 1,
            Applied::Updated => self.state.version(promoted),
            Applied::Deleted | Applied::Absent => 0,
        };
        if event.stream != DELETE_STREAM {
            self.sources.note(event.source);
        }
        self.match_subscribers(&event, time, applied);
        Ok(Stored { sequence, version })
    }

    /// Where the entity of an event lies, and the event's time: not before that of the last event
    /// of its namespace, or of its id if it has none.
    fn decide(
        &mut self,
        event: &EventView<'_>,
        now: Timestamp,
    ) -> Result<(Promoted, Timestamp), AppendRejection> {
        let promoted = match self.state.promote(event.entity_id) {
            Ok(promoted) => promoted,
            Err(error) => return Err(self.damaged(error)),
        };
        if self.state.would_exceed(promoted, event) {
            return Err(AppendRejection::EntityTooLarge);
        }
        let last_updated = self.state.last_updated(promoted);
        let floor = self.namespaces.floor(event.entity_id, last_updated);
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
        appended.map(|stored| Some(stored.sequence))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::MemoryLog;
    use crate::model::Property;

    const NOW: Timestamp = Timestamp::from_micros(1);

    /// An event that sets these properties of `x`.
    fn event(properties: &[(String, String)], tombstone: bool) -> Vec<u8> {
        let properties: Vec<Property<'_>> = properties
            .iter()
            .map(|(name, value)| Property { name, value })
            .collect();
        let draft = EventDraft {
            entity_id: "x",
            event_id: EventId::Text("e"),
            stream: "s",
            source: "a",
            timestamp_ms: None,
            key: None,
            schema: None,
            extra: "",
            tombstone,
            properties: &properties,
        };
        let mut bytes = Vec::new();
        draft.encode(&mut bytes);
        bytes
    }

    fn numbered(numbers: std::ops::Range<usize>) -> Vec<(String, String)> {
        numbers
            .map(|number| (format!("p{number:06}"), "1".to_owned()))
            .collect()
    }

    fn large(name: &str, len: usize) -> Vec<(String, String)> {
        vec![(name.to_owned(), format!("\"{}\"", "v".repeat(len - 2)))]
    }

    const TOO_LARGE: Result<u64, AppendRejection> = Err(AppendRejection::EntityTooLarge);

    #[test]
    fn an_entity_grows_to_its_bounds_and_no_further() {
        let (mut engine, mut log) = (Engine::default(), MemoryLog::new());
        let mut publish = |properties: &[(String, String)]| {
            let stored = engine.publish(&mut log, NOW, &event(properties, false));
            stored.map(|stored| stored.version)
        };
        assert_eq!(publish(&numbered(0..9_000)), Ok(1));
        assert_eq!(publish(&numbered(8_000..10_000)), Ok(2));
        assert_eq!(publish(&numbered(9_999..10_001)), TOO_LARGE);
        assert_eq!(publish(&numbered(0..1)), Ok(3));
        // 10,000 names of 7 bytes with values of one.
        let room = 4 * 1024 * 1024 - 80_000 + 1;
        assert_eq!(publish(&large("p000000", room + 1)), TOO_LARGE);
        assert_eq!(publish(&large("p000000", room)), Ok(4));
        assert_eq!(publish(&large("p000001", 3)), TOO_LARGE);
        assert_eq!(publish(&large("p000000", room - 1)), Ok(5));
    }

    #[test]
    fn an_entity_of_an_older_log_that_is_larger_is_read_may_shrink_and_be_deleted() {
        let mut engine = Engine::default();
        let old = [numbered(0..20_000), large("q", 5 * 1024 * 1024)].concat();
        let record = (Sequence::new(1), NOW, &*event(&old, false));
        engine.replay(record, 0, 1).unwrap();
        let mut json = Vec::new();
        engine.read("x", None, &mut json).unwrap();
        assert!(json.len() > 5 * 1024 * 1024);
        let mut log = MemoryLog::new();
        let mut publish = |properties: &[(String, String)], tombstone| {
            let stored = engine.publish(&mut log, NOW, &event(properties, tombstone));
            stored.map(|stored| stored.version)
        };
        assert_eq!(publish(&[], false), Ok(2));
        assert_eq!(publish(&numbered(20_000..20_001), false), TOO_LARGE);
        assert_eq!(publish(&large("q", 5 * 1024 * 1024), false), Ok(3));
        assert_eq!(publish(&large("q", 5 * 1024 * 1024 + 1), false), TOO_LARGE);
        assert_eq!(publish(&large("q", 100), false), Ok(4));
        assert_eq!(publish(&large("q", 101), false), Ok(5));
        assert_eq!(publish(&[], true), Ok(0));
        assert_eq!(publish(&numbered(0..10_000), false), Ok(1));
    }
}
