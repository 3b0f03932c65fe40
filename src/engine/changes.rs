//! A change of an entity → the WebSocket frames that its subscribers get, each encoded once.

use super::watchers::Wanted;
use crate::api::encode::{self, StateUpdate};
use crate::api::stream_encode;
use crate::model::{EntityDraft, EventView, Property, Timestamp};
use crate::state::{Applied, Entity};
use crate::subscribe::{ChangeBatch, ChangeBatchBuilder, ChangeKind, Detail, EventFacts};
use crate::wire::ws::write_text;
use flux_storage::Sequence;
use std::sync::Arc;

/// Gathers the changes of one flush, and which cores want any of them.
#[derive(Debug, Default)]
pub(super) struct ChangeCollector {
    builder: ChangeBatchBuilder,
    full: Vec<Arc<ChangeBatch>>,
    cores: Vec<u16>,
    text: Vec<u8>,
}

/// The changes of one flush, and the cores they go to.
#[derive(Debug)]
pub struct CollectedChanges {
    /// The changes, in order; more than one batch only if they are large.
    pub batches: Vec<Arc<ChangeBatch>>,
    /// Ascending, each once.
    pub cores: Vec<u16>,
}

/// An event that was applied.
#[derive(Debug, Clone, Copy)]
pub(super) struct AppliedEvent<'e> {
    /// It.
    pub(super) event: &'e EventView<'e>,
    /// Its stored form.
    pub(super) bytes: &'e [u8],
    /// Its place in the log; [`Sequence::ZERO`] if it is in none.
    pub(super) sequence: Sequence,
    /// When it was accepted.
    pub(super) time: Timestamp,
    /// What it did.
    pub(super) applied: Applied,
    /// The entity after it, as far as it was looked up.
    pub(super) entity: Option<Entity<'e>>,
    /// The entity's version after it; 0 if there is none.
    pub(super) version: u64,
}

impl ChangeCollector {
    /// Adds an event that somebody wants to be told of.
    pub(super) fn add(&mut self, change: &AppliedEvent<'_>, wanted: &Wanted) {
        if self.builder.is_full() {
            self.full.push(self.builder.finish());
        }
        self.builder.change(change.event.entity_id, change.sequence);
        if !wanted.events.is_empty() {
            self.want(&wanted.events);
            self.add_detail(change, wanted);
        }
        if wanted.frames.is_empty() {
            return;
        }
        match change.applied {
            Applied::Absent => {}
            Applied::Deleted => {
                self.want(&wanted.frames);
                let text = &mut self.text;
                text.clear();
                encode::entity_deleted(text, change.event.entity_id, change.time);
                self.builder.deleted(|out| write_text(out, text));
            }
            Applied::Created | Applied::Updated => self.add_updates(change, wanted),
        }
    }

    fn add_detail(&mut self, change: &AppliedEvent<'_>, wanted: &Wanted) {
        self.builder.detail(Detail {
            event: change.bytes,
            facts: EventFacts {
                version: change.version,
                time: change.time,
                kind: match change.applied {
                    Applied::Created => ChangeKind::Created,
                    Applied::Updated => ChangeKind::Updated,
                    Applied::Deleted => ChangeKind::Deleted,
                    Applied::Absent => ChangeKind::Absent,
                },
            },
        });
        self.builder.verdicts(&wanted.verdicts);
        if wanted.begins()
            && let Some(entity) = change.entity
        {
            self.builder.whole(|out| encode_whole(out, entity));
        }
    }

    /// Adds one frame for each property of an event, and for each that it removed.
    fn add_updates(&mut self, change: &AppliedEvent<'_>, wanted: &Wanted) {
        let (event, time) = (change.event, change.time);
        let mut removed = event.decided.removed();
        if event.properties().len() == 0 && removed.is_empty() {
            return;
        }
        self.want(&wanted.frames);
        for property in event.properties() {
            self.make_room(wanted);
            let text = &mut self.text;
            text.clear();
            let update = StateUpdate {
                entity_id: event.entity_id,
                property: property.name,
                value: property.value,
                time,
            };
            stream_encode::property(text, update);
            self.builder
                .update(property.name, |out| write_text(out, text));
        }
        for name in &mut removed {
            self.make_room(wanted);
            let text = &mut self.text;
            text.clear();
            encode::state_removed(text, (event.entity_id, name), time);
            self.builder.update(name, |out| write_text(out, text));
        }
    }

    /// Goes on in the next batch if this one is full.
    fn make_room(&mut self, wanted: &Wanted) {
        if self.builder.is_full() {
            self.full.push(self.builder.finish_within_change());
            self.builder.verdicts(&wanted.verdicts);
        }
    }

    fn want(&mut self, cores: &[u16]) {
        for core in cores {
            if let Err(position) = self.cores.binary_search(core) {
                self.cores.insert(position, *core);
            }
        }
    }

    /// What was gathered since the last call; `None` if that is nothing.
    pub(super) fn take(&mut self) -> Option<CollectedChanges> {
        let mut batches = std::mem::take(&mut self.full);
        if !self.builder.is_empty() {
            batches.push(self.builder.finish());
        }
        if batches.is_empty() {
            return None;
        }
        Some(CollectedChanges {
            batches,
            cores: std::mem::take(&mut self.cores),
        })
    }
}

/// Appends the stored form of an entity.
fn encode_whole(out: &mut Vec<u8>, entity: Entity<'_>) {
    let properties: Vec<Property<'_>> = entity
        .properties()
        .map(|(name, value)| Property { name, value })
        .collect();
    let draft = EntityDraft {
        id: entity.id(),
        version: entity.version(),
        last_updated: entity.last_updated(),
        lifetime: entity.lifetime(),
        properties: &properties,
    };
    draft.encode(out);
}
