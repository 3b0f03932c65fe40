//! Events for the tests of the engine.

use super::{Engine, PublishError, Write};
use crate::log::MemoryLog;
use crate::model::{
    EventDraft, EventId, PackedEvent, Property, Published, Term, TermKind, Timestamp,
};

/// The time of all events that these functions publish.
pub(super) const NOW: Timestamp = Timestamp::from_micros(1);

/// Names and JSON texts.
pub(super) type Properties<'a> = &'a [(&'a str, &'a str)];
/// Kinds, names and JSON texts.
pub(super) type Terms<'a> = &'a [(TermKind, &'a str, &'a str)];

/// An event, encoded.
pub(super) struct TestEvent {
    event: Vec<u8>,
    terms: Vec<u8>,
}

impl TestEvent {
    /// It sets these properties of an entity, or deletes it if it is a tombstone, under these
    /// terms.
    pub(super) fn new(
        entity_id: &str,
        (properties, tombstone): (Properties<'_>, bool),
        terms: Terms<'_>,
    ) -> Self {
        let properties: Vec<Property<'_>> = properties
            .iter()
            .map(|(name, value)| Property { name, value })
            .collect();
        let draft = EventDraft {
            entity_id,
            event_id: EventId::Text("e"),
            stream: "s",
            source: "a",
            timestamp_ms: None,
            key: None,
            schema: None,
            traceparent: None,
            extra: "",
            tombstone,
            properties: &properties,
        };
        let mut encoded = Self {
            event: Vec::new(),
            terms: Vec::new(),
        };
        draft.encode(&mut encoded.event);
        for (kind, name, value) in terms.iter().copied() {
            Term { kind, name, value }.encode(&mut encoded.terms);
        }
        encoded
    }

    /// As the engine takes it. Nobody sends it again.
    pub(super) fn write(&self) -> Write<'_> {
        let packed = PackedEvent {
            terms: &self.terms,
            ..PackedEvent::plain(&self.event)
        };
        Write { packed, sent: None }
    }

    /// Publishes it.
    pub(super) fn publish(
        &self,
        (engine, log): (&mut Engine, &mut MemoryLog),
    ) -> Result<Published, PublishError> {
        engine.publish(log, NOW, self.write())
    }
}
