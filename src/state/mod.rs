//! The state of one shard: what its events, applied in order, have made of its entities.
//!
//! ```text
//!   active   memory   entities changed since the last checkpoint, and markers of deleted ones
//!   frozen   memory   while a checkpoint is written: what changed since the one before it
//!   layers   files    everything older, mapped and read where it lies
//! ```
//!
//! | file | job |
//! | --- | --- |
//! | `memory` | entities in memory: what changed since the layers below were written |
//! | `slab`, `table`, `ordered` | its entities: in numbered slots, by hash, in order of ids |
//! | `block` | the id and the properties of one entity, packed into one text |
//! | `frozen` | what a checkpoint writes |
//! | `entity` | an entity as its readers see it |
//! | `query`, `listing` | which entities a listing asks for, and the merge of its sources |
//! | `ahead` | reads the entities of a listing some slots ahead |
//! | `names` | namespace statistics |
//! | `floors` | times below which events of deleted names must not fall |
//!
//! The newest form of an id counts. A read asks from the top down; an event promotes its entity to
//! the top before it changes it. A checkpoint *freezes* the active memory, which costs nothing, and
//! a helper thread writes it as a new layer. Then the layers of the new checkpoint replace both. So
//! memory follows what changes, and a start reads only what changed since the last checkpoint.
//!
//! Invariants:
//! - `apply` is total and deterministic: `replay(log) == live state` for every history, wherever
//!   checkpoints fell. Time and sequence are arguments, and nothing that is answered comes from the
//!   order of a table, which differs in each process.
//! - an entity that a layer or the frozen memory holds and that was deleted since has a marker
//!   above it.
//!
//! It decides nothing (an event that is here was accepted) and knows no JSON: values are texts. It
//! knows nothing of files: a layer that turns out to be damaged is an error that its caller has to
//! deal with.

#![deny(clippy::wildcard_enum_match_arm)]

mod ahead;
mod block;
mod entity;
mod floors;
mod frozen;
mod listing;
mod memory;
mod names;
mod ordered;
mod query;
mod slab;
mod table;

#[cfg(test)]
mod layers_test;
#[cfg(test)]
mod model_test;
#[cfg(test)]
mod random;

use std::sync::Arc;

pub use flux_storage::PREFETCH_GROUP_IDS_MAX;
use flux_storage::{LayerEntity, LayerError, LayerStack, Sequence};

use crate::model::{EntityView, EventView, Timestamp};

pub use block::is_packed_body;
pub use entity::{Entity, EntityProperties};
pub use frozen::{Frozen, FrozenEntities};
pub use listing::Listing;
pub use names::{
    Bookkeeping, BookkeepingChanges, BookkeepingView, NameEntry, NamespaceStatistics,
    NamespaceStatisticsView, TimeScope, latest_in,
};
pub use query::Query;

use block::Block;
use listing::Sources;
use memory::Memory;
use slab::Slot;
use table::IdHash;

/// Ids that it pays to look at ahead of the work on them, in groups of [`PREFETCH_GROUP_IDS_MAX`]:
/// what belongs to more would have left the processor's cache before it is used.
pub const PREFETCH_IDS_MAX: usize = 16 * PREFETCH_GROUP_IDS_MAX;

/// Room for building a block that is kept between events, bytes. A larger one is given back: a
/// single huge entity should not be paid for twice for ever.
const SCRATCH_BYTES_KEPT: usize = 64 * 1024;

/// What an event did to its entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// There was none: it exists from now on, at version 1.
    Created,
    /// It was there and has changed, if only in version and time.
    Updated,
    /// A tombstone removed it.
    Deleted,
    /// A tombstone found nothing to remove.
    Absent,
}

/// Where the entity of the next event lies: made by [`State::promote`], used up by
/// [`State::apply`].
#[derive(Debug, Clone, Copy)]
#[must_use = "an event is lifted to be applied"]
pub struct Promoted {
    hash: IdHash,
    /// Its slot in the active memory, where there is one.
    slot: Option<u32>,
}

/// What a new checkpoint has replaced. Dropping it may take long (memory to free, files to unmap):
/// not for a reactor.
#[derive(Debug)]
pub struct Replaced {
    frozen: Option<Arc<Frozen>>,
    _layers: LayerStack,
}

impl Replaced {
    /// Gives its memory back, where nobody else holds it, and calls `rest` after each fraction of a
    /// millisecond of work.
    pub fn give_back(self, rest: &mut dyn FnMut()) {
        if let Some(Frozen(memory)) = self.frozen.and_then(Arc::into_inner) {
            memory.give_back(rest);
        }
    }
}

/// The entities of one shard.
#[derive(Debug, Default)]
pub struct State {
    active: Memory,
    frozen: Option<Arc<Frozen>>,
    layers: LayerStack,
    /// Entities that exist.
    len: usize,
    scratch: String,
}

impl State {
    /// The state that a checkpoint holds, `len` entities.
    pub fn from_layers(layers: LayerStack, len: usize) -> Self {
        Self {
            layers,
            len,
            ..Self::default()
        }
    }

    /// Reads the memory of entities that are about to be changed or read, at most
    /// [`PREFETCH_GROUP_IDS_MAX`], so that their cache misses overlap. For ids that do not exist it
    /// finds and keeps the place of insertion. No answer depends on it.
    pub fn prefetch(&mut self, ids: &[&[u8]]) {
        let mut missing = [&[][..]; PREFETCH_GROUP_IDS_MAX];
        let count = ids.len().min(PREFETCH_GROUP_IDS_MAX);
        missing[..count].copy_from_slice(&ids[..count]);
        let mut missing = self.active.prefetch(&mut missing[..count]);
        if let Some(frozen) = &self.frozen {
            missing = frozen.0.prefetch(missing);
        }
        missing = self.layers.prefetch_ids(missing);
        self.active.expect(missing);
    }

    /// Brings the entity of an event that is about to be applied into the active memory. What is
    /// answered does not change.
    ///
    /// Cost: constant; where the entity was not touched since the last checkpoint, a look-up in
    /// each layer and a copy.
    ///
    /// # Errors
    /// Where the layer that may hold it is damaged.
    pub fn promote(&mut self, id: &str) -> Result<Promoted, LayerError> {
        let hash = self.active.hash(id);
        if let Some(slot) = self.active.find(hash, id) {
            return Ok(Promoted {
                hash,
                slot: Some(slot),
            });
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let promoted = self.below(hash, id).map(|found| {
            found.map(|entity| {
                let block = Block::from_body(id, entity.body(), &mut scratch);
                let (last_updated, version) = (entity.last_updated(), entity.version());
                Slot::promoted(entity.sequence(), last_updated, version, block)
            })
        });
        self.scratch = scratch;
        let slot = promoted?.map(|entity| self.active.insert(hash, entity));
        Ok(Promoted { hash, slot })
    }

    /// The time of the entity's last event, if it exists.
    pub fn last_updated(&self, promoted: Promoted) -> Option<Timestamp> {
        let slot = self.active.get(promoted.slot?);
        slot.is_live().then_some(slot.last_updated)
    }

    /// Applies the next event of the log: `sequence` is its number there, `time` the server's time
    /// that the log gave it, `lifted` where its entity lies. Never fails, and depends on nothing
    /// but its arguments and the events before.
    ///
    /// Cost: constant in the number of entities for an update, logarithmic for a creation or
    /// deletion; linear in the bytes of the entity, without an allocation where every value keeps
    /// its length.
    pub fn apply(
        &mut self,
        promoted: Promoted,
        (sequence, time): (Sequence, Timestamp),
        event: &EventView<'_>,
    ) -> Applied {
        let Promoted { hash, slot } = promoted;
        let applied = match slot {
            None if event.tombstone => Applied::Absent,
            None => {
                let block = Block::new(event.entity_id, event.properties(), &mut self.scratch);
                self.active
                    .insert(hash, Slot::created(sequence, time, block));
                Applied::Created
            }
            Some(slot) => self.apply_to(hash, slot, (sequence, time), event),
        };
        match applied {
            Applied::Created => self.len += 1,
            Applied::Deleted => self.len -= 1,
            Applied::Updated | Applied::Absent => {}
        }
        if self.scratch.capacity() > SCRATCH_BYTES_KEPT {
            self.scratch = String::new();
        }
        applied
    }

    fn apply_to(
        &mut self,
        hash: IdHash,
        slot: u32,
        (sequence, time): (Sequence, Timestamp),
        event: &EventView<'_>,
    ) -> Applied {
        let entity = self.active.get_mut(slot);
        match (entity.is_live(), event.tombstone) {
            (true, false) => {
                entity.renew(sequence, time);
                entity.block.merge(event.properties(), &mut self.scratch);
                Applied::Updated
            }
            (false, false) => {
                entity.renew(sequence, time);
                entity.block = Block::new(event.entity_id, event.properties(), &mut self.scratch);
                Applied::Created
            }
            (true, true) => {
                if entity.is_below() {
                    entity.become_marker(sequence, time);
                } else {
                    self.active.remove(hash, slot);
                }
                Applied::Deleted
            }
            (false, true) => Applied::Absent,
        }
    }

    /// Puts an entity where there is none, as another state had it.
    ///
    /// # Errors
    /// Where the layer that may hold it is damaged.
    pub fn install(&mut self, entity: Entity<'_>) -> Result<(), LayerError> {
        let Promoted { hash, slot } = self.promote(entity.id())?;
        assert!(slot.is_none(), "an entity is installed once");
        let block = Block::from_body(entity.id(), entity.body(), &mut self.scratch);
        let slot = Slot::installed(
            entity.sequence(),
            entity.last_updated(),
            entity.version(),
            block,
        );
        self.active.insert(hash, slot);
        self.len += 1;
        Ok(())
    }

    /// Puts an entity in the place of whatever is there under its id, as the record `sequence` of
    /// the log says; `lifted`: where that lies.
    pub fn replace(
        &mut self,
        promoted: Promoted,
        sequence: Sequence,
        entity: &EntityView<'_>,
    ) -> Applied {
        let block = Block::new(entity.id, entity.properties(), &mut self.scratch);
        let slot = Slot::installed(sequence, entity.last_updated, entity.version, block);
        match promoted.slot {
            Some(found) => {
                let found = self.active.get_mut(found);
                let was_live = found.is_live();
                found.become_installed(slot);
                if was_live {
                    return Applied::Updated;
                }
            }
            None => {
                self.active.insert(promoted.hash, slot);
            }
        }
        self.len += 1;
        Applied::Created
    }

    /// The entity with this id. Cost: constant.
    ///
    /// # Errors
    /// Where the layer that may hold it is damaged.
    pub fn get(&self, id: &str) -> Result<Option<Entity<'_>>, LayerError> {
        let hash = self.active.hash(id);
        match self.active.find(hash, id) {
            Some(slot) => Ok(Entity::from_slot(self.active.get(slot))),
            None => self.below(hash, id),
        }
    }

    /// The entity as the frozen memory and the layers have it.
    fn below(&self, hash: IdHash, id: &str) -> Result<Option<Entity<'_>>, LayerError> {
        if let Some(frozen) = &self.frozen
            && let Some(slot) = frozen.0.find(hash, id)
        {
            return Ok(Entity::from_slot(frozen.0.get(slot)));
        }
        if self.layers.is_empty() {
            return Ok(None);
        }
        Ok(self.layers.find(id)?.and_then(Entity::from_layer))
    }

    /// Number of entities.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if there is no entity.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entities that match all of `query`, ascending by the bytes of their ids. Where a layer
    /// turns out to be damaged, that is the last item. Cost: logarithmic in the number of entities
    /// to begin with, then constant for each entity taken, however many do not match.
    pub fn list<'s, 'q>(&'s self, query: &Query<'q>) -> Listing<'s, 'q> {
        let Some(scope) = query.scope() else {
            return Listing::empty();
        };
        let after = query.after;
        let layers = (!self.layers.is_empty()).then(|| {
            self.layers.list(|id| {
                Bookkeeping::of(id).is_some()
                    || scope.is_after(id)
                    || after.is_some_and(|after| id <= after)
            })
        });
        let sources = Sources {
            active: &self.active,
            frozen: self.frozen.as_deref().map(|frozen| &frozen.0),
            layers,
        };
        Listing::new(sources, scope, after)
    }

    /// Freezes what changed since the last checkpoint, for a helper thread to write on top of the
    /// layers that are returned with it. Cost: constant.
    ///
    /// # Panics
    /// Where something is frozen already: one checkpoint at a time.
    pub fn freeze(&mut self) -> (Arc<Frozen>, LayerStack) {
        assert!(self.frozen.is_none(), "one checkpoint at a time");
        let fresh = self.active.sibling();
        let frozen = Arc::new(Frozen(std::mem::replace(&mut self.active, fresh)));
        self.frozen = Some(Arc::clone(&frozen));
        (frozen, self.layers.clone())
    }

    /// The layers under what is in memory.
    pub const fn layers(&self) -> &LayerStack {
        &self.layers
    }

    /// True while what was frozen is not settled.
    pub const fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Puts the layers of a checkpoint that was written in the place of what was frozen and of the
    /// layers before.
    pub fn settle(&mut self, layers: LayerStack) -> Replaced {
        Replaced {
            frozen: self.frozen.take(),
            _layers: std::mem::replace(&mut self.layers, layers),
        }
    }

    /// Bytes on the heap, as an allocator of 16-byte steps with an 8-byte header would count them.
    /// Cost: linear in the number of entities in memory.
    pub fn heap_bytes(&self) -> usize {
        let frozen = self
            .frozen
            .as_ref()
            .map_or(0, |frozen| frozen.0.heap_bytes());
        self.active.heap_bytes() + frozen + allocation_bytes(self.scratch.capacity())
    }
}

/// The entity of a layer, where it is not a marker.
pub fn entity_of(entity: LayerEntity<'_>) -> Option<Entity<'_>> {
    Entity::from_layer(entity)
}

/// What an allocation of `bytes` takes from the heap.
const fn allocation_bytes(bytes: usize) -> usize {
    const HEADER: usize = 8;
    const STEP: usize = 16;
    const SMALLEST: usize = 32;
    if bytes == 0 {
        return 0;
    }
    let taken = (bytes + HEADER).next_multiple_of(STEP);
    if taken < SMALLEST { SMALLEST } else { taken }
}
