//! Entities that the server keeps itself: derived from everything else, so they are in no log and
//! no checkpoint.
//!
//! They are read, listed and watched like all others. What they say is durable before they say it,
//! so that they need none.

use super::changes::{ChangeCollector, CollectedChanges};
use crate::model::{EventDraft, EventId, EventView, Property, Timestamp, is_reserved};
use crate::state::{Entity, Listing, Query, State};
use crate::subscribe::Registry;
use flux_storage::{LayerError, Sequence};
use std::iter::Peekable;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SystemEntities {
    state: State,
    /// Changes so far: what their entity tags are made of.
    changes: Sequence,
    collector: ChangeCollector,
    event: Vec<u8>,
}

impl SystemEntities {
    /// Gives an entity these properties, ascending by name; its others stay as they are.
    #[expect(clippy::unwrap_in_result, reason = "a bug of ours, not an outcome")]
    pub(super) fn set(
        &mut self,
        (id, properties): (&str, &[Property<'_>]),
        time: Timestamp,
        subscribers: &mut Registry<u16>,
    ) -> Result<(), LayerError> {
        debug_assert!(is_reserved(id), "nobody else may write it");
        self.event.clear();
        let draft = EventDraft {
            entity_id: id,
            event_id: EventId::Text(""),
            stream: "",
            source: "",
            timestamp_ms: None,
            key: None,
            schema: None,
            extra: "",
            tombstone: false,
            properties,
        };
        draft.encode(&mut self.event);
        let event = EventView::decode(&self.event).expect("EventDraft::encode wrote these bytes");
        self.changes = self.changes.next();
        let promoted = self.state.promote(id)?;
        self.state.apply(promoted, (self.changes, time), &event);
        let mut cores = Vec::new();
        subscribers.matches(id, &mut cores);
        if !cores.is_empty() {
            self.collector.updated(&event, time, &cores);
        }
        Ok(())
    }

    /// One of them.
    pub(super) fn get(&self, id: &str) -> Result<Option<Entity<'_>>, LayerError> {
        self.state.get(id)
    }

    /// The ones that match, merged with `others`, ascending.
    pub(super) fn merged<'s, 'q>(
        &'s self,
        query: &Query<'q>,
        others: Listing<'s, 'q>,
    ) -> Merged<'s, 'q> {
        Merged {
            system_entities: self.state.list(query).peekable(),
            others: others.peekable(),
        }
    }

    /// The changes since the last call that anybody subscribed to.
    pub(super) fn take_changes(&mut self) -> Option<CollectedChanges> {
        self.collector.take()
    }
}

/// See [`SystemEntities::merged`].
pub(super) struct Merged<'s, 'q> {
    system_entities: Peekable<Listing<'s, 'q>>,
    others: Peekable<Listing<'s, 'q>>,
}

impl<'s> Iterator for Merged<'s, '_> {
    type Item = Result<Entity<'s>, LayerError>;

    fn next(&mut self) -> Option<Self::Item> {
        // Mostly there are none, or they are passed: the others are then handed on without a look
        // at them.
        let Some(own) = self.system_entities.peek() else {
            return self.others.next();
        };
        let comes_first = match (own, self.others.peek()) {
            (Ok(own), Some(Ok(other))) => own.id() < other.id(),
            (_, None) => true,
            (Err(_), _) | (_, Some(Err(_))) => false,
        };
        if comes_first {
            self.system_entities.next()
        } else {
            self.others.next()
        }
    }
}
