//! Entities that the server keeps itself: derived from everything else, so they are in no log and
//! no checkpoint.
//!
//! They are read, listed and watched like all others, but their watchers are told at most once in
//! ten seconds: they change whenever anything does. What they say is durable before they say it, so
//! that they need none.

use super::changes::{AppliedEvent, ChangeCollector, CollectedChanges};
use super::directory::DirectoryRows;
use super::watchers::Watchers;
use crate::limits::SYSTEM_PUSH_SECONDS;
use crate::model::{EventDraft, EventId, EventView, Property, Timestamp, is_reserved};
use crate::state::{Applied, Entity, Listing, Query, State};
use flux_storage::{LayerError, Sequence};
use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SystemEntities {
    state: State,
    /// What the directory is made of.
    pub(super) directory: DirectoryRows,
    /// Changes so far: what their entity tags are made of.
    changes: Sequence,
    collector: ChangeCollector,
    event: Vec<u8>,
    /// What subscribers are not told yet, by id.
    unpushed: BTreeMap<Box<str>, Unpushed>,
}

/// What has changed in an entity since its subscribers were told last.
#[derive(Debug, Default)]
struct Unpushed {
    /// The properties, ascending.
    names: BTreeSet<Box<str>>,
    /// When they were told last.
    pushed: Option<Timestamp>,
}

impl Unpushed {
    fn is_due(&self, now: Timestamp) -> bool {
        let since = |pushed: Timestamp| now.as_micros().checked_sub(pushed.as_micros());
        let interval = SYSTEM_PUSH_SECONDS * 1_000_000;
        // A clock that was set back must not keep them waiting.
        !self.names.is_empty()
            && self
                .pushed
                .and_then(since)
                .is_none_or(|since| !(0..interval).contains(&since))
    }
}

impl SystemEntities {
    /// Gives an entity these properties, ascending by name; its others stay as they are.
    #[expect(clippy::unwrap_in_result, reason = "a bug of ours, not an outcome")]
    pub(super) fn set(
        &mut self,
        id: &str,
        properties: &[Property<'_>],
        time: Timestamp,
    ) -> Result<(), LayerError> {
        debug_assert!(is_reserved(id), "nobody else may write it");
        encode_event(id, properties, &mut self.event);
        let event = EventView::decode(&self.event).expect("EventDraft::encode wrote these bytes");
        self.changes = self.changes.next();
        let promoted = self.state.promote(id)?;
        self.state.apply(promoted, (self.changes, time), &event);
        let unpushed = self.unpushed.entry(id.into()).or_default();
        let names = properties.iter().map(|property| property.name.into());
        unpushed.names.extend(names);
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

    /// The changes that anybody subscribed to and may be told of now.
    pub(super) fn take_changes(
        &mut self,
        watchers: &mut Watchers,
        now: Timestamp,
    ) -> Option<CollectedChanges> {
        for (id, unpushed) in &mut self.unpushed {
            if !unpushed.is_due(now) {
                continue;
            }
            // What is kept lies in memory.
            let Ok(Some(entity)) = self.state.get(id) else {
                continue;
            };
            watchers.ask_before(id, Some(entity));
            let wanted = watchers.ask_after(id, Some(entity));
            if wanted.frames.is_empty() && wanted.events.is_empty() {
                // Whoever subscribes is told of the next change.
                unpushed.names.clear();
                continue;
            }
            let changed = entity.properties();
            let properties: Vec<Property<'_>> = changed
                .filter(|(name, _)| unpushed.names.contains(*name))
                .map(|(name, value)| Property { name, value })
                .collect();
            encode_event(id, &properties, &mut self.event);
            let Ok(event) = EventView::decode(&self.event) else {
                continue;
            };
            let change = AppliedEvent {
                event: &event,
                bytes: &self.event,
                sequence: Sequence::ZERO,
                time: entity.last_updated(),
                applied: Applied::Updated,
                entity: Some(entity),
                version: entity.version(),
            };
            self.collector.add(&change, wanted);
            unpushed.names.clear();
            unpushed.pushed = Some(now);
        }
        self.collector.take()
    }
}

/// Writes an event that sets these properties over `out`.
fn encode_event(id: &str, properties: &[Property<'_>], out: &mut Vec<u8>) {
    out.clear();
    let draft = EventDraft {
        entity_id: id,
        event_id: EventId::Text(""),
        stream: "",
        source: "",
        timestamp_ms: None,
        key: None,
        schema: None,
        traceparent: None,
        extra: "",
        tombstone: false,
        properties,
    };
    draft.encode(out);
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
