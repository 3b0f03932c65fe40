//! A change of an entity → the WebSocket frames that its subscribers get, each encoded once.

use crate::api::encode::{self, StateUpdate};
use crate::model::{EventView, Timestamp};
use crate::subscribe::{ChangeBatch, ChangeBatchBuilder};
use crate::wire::ws::write_text;
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

impl ChangeCollector {
    /// Adds an event that did not delete: one frame for each of its properties, and for each that
    /// it removed.
    pub(super) fn updated(&mut self, event: &EventView<'_>, time: Timestamp, cores: &[u16]) {
        let mut removed = event.decided.removed();
        if event.properties().len() == 0 && removed.is_empty() {
            return;
        }
        self.want(cores);
        self.builder.change(event.entity_id);
        for property in event.properties() {
            if self.builder.is_full() {
                self.full.push(self.builder.finish());
                self.builder.change(event.entity_id);
            }
            let text = &mut self.text;
            text.clear();
            let update = StateUpdate {
                entity_id: event.entity_id,
                property: property.name,
                value: property.value,
                time,
            };
            encode::state_update(text, update);
            self.builder
                .update(property.name, |out| write_text(out, text));
        }
        for name in &mut removed {
            if self.builder.is_full() {
                self.full.push(self.builder.finish());
                self.builder.change(event.entity_id);
            }
            let text = &mut self.text;
            text.clear();
            encode::state_removed(text, (event.entity_id, name), time);
            self.builder.update(name, |out| write_text(out, text));
        }
    }

    /// Adds the deletion of an entity that existed.
    pub(super) fn deleted(&mut self, entity_id: &str, time: Timestamp, cores: &[u16]) {
        self.want(cores);
        if self.builder.is_full() {
            self.full.push(self.builder.finish());
        }
        let text = &mut self.text;
        text.clear();
        encode::entity_deleted(text, entity_id, time);
        self.builder.deleted(entity_id, |out| write_text(out, text));
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
