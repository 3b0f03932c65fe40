//! The state of one shard: what its events, applied in order, have made of its entities.
//!
//! ```text
//!   memtable              memory   changed since the last checkpoint, with tombstones
//!   immutable memtable    memory   what a checkpoint in progress writes
//!   layers                files    everything older, mapped and read where it lies
//! ```
//!
//! | file | job |
//! | --- | --- |
//! | `block` | the id and the properties of one entity, packed into one text |
//! | `deadlines` | when entities of a memtable expire |
//! | `entity` | an entity as its readers see it |
//! | `floors` | the last times of namespaces and ids that hold nothing any more |
//! | `immutable` | a memtable that does not change any more, as a checkpoint writes it |
//! | `lifetimes` | which entities end by themselves, in memory and in layers |
//! | `listing` | the entities of a listing, merged from memtables and layers |
//! | `memtable` | entities in memory: `slab`, `table` and `ordered` are its parts |
//! | `namespaces` | namespace statistics, and the time that an event must not fall below |
//! | `ordered` | slots in the order of their ids |
//! | `prefetched` | slots in order, with their entities prefetched |
//! | `query` | which entities a listing asks for |
//! | `slab` | the entities themselves, in numbered slots |
//! | `table` | the hash of an id to its slot |
//!
//! The newest form of an id counts. A read asks from the top down, and an event *promotes* its
//! entity to the memtable before it changes it. A checkpoint *freezes* the memtable, which costs
//! nothing. A helper thread writes it as a new layer. Then the layers of the new checkpoint replace
//! both. So memory follows what changes, and a start reads only what changed since the last
//! checkpoint.
//!
//! Invariants:
//! - `apply` is total and deterministic: `replay(log) == live state` for every history, wherever
//!   checkpoints fell. Time and sequence are arguments. No answer depends on the order of a table,
//!   which differs in each process.
//! - if a layer or the immutable memtable holds an entity that was deleted since, a tombstone above
//!   hides it.
//!
//! This folder must not know JSON (values are texts), the log, or files: it decides nothing, since
//! an event that is here was accepted, and it hands a damaged layer to its caller as an error.

#![deny(clippy::wildcard_enum_match_arm)]

mod block;
mod deadlines;
mod entity;
mod floors;
mod immutable;
mod lifetimes;
mod listing;
mod memtable;
mod namespaces;
mod ordered;
mod prefetched;
mod query;
mod slab;
mod table;

#[cfg(test)]
mod layers_test;
#[cfg(test)]
mod lifetimes_test;
#[cfg(test)]
mod model_test;

use std::sync::Arc;

pub use flux_storage::PREFETCH_GROUP_IDS_MAX;
use flux_storage::{LayerEntity, LayerError, LayerStack, Sequence};

use crate::model::{EntityView, EventView, ExpiryChange, Lifetime, LifetimeChange, Timestamp};

pub use block::is_packed_body;
pub use entity::{Entity, EntityProperties};
pub use immutable::{ImmutableEntities, ImmutableMemtable};
pub use lifetimes::{LifetimeRecords, NextEnd};
pub use listing::Listing;
pub use namespaces::{
    Bookkeeping, BookkeepingChanges, BookkeepingView, NamespaceEntry, NamespaceStatistics,
    NamespaceStatisticsView, TimeScope, last_event_in, latest_in,
};
pub use query::Query;

use block::Block;
use lifetimes::Lifetimes;
use listing::Sources;
use memtable::Memtable;
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
    /// Its slot in the memtable, if there is one.
    slot: Option<u32>,
}

/// What a new checkpoint has replaced. Dropping it may take long (memory to free, files to unmap):
/// not for a reactor.
#[derive(Debug)]
pub struct Replaced {
    immutable: Option<Arc<ImmutableMemtable>>,
    _layers: LayerStack,
}

impl Replaced {
    /// Gives its memory back, if nobody else holds it, and calls `rest` after each fraction of a
    /// millisecond of work.
    pub fn give_back(self, rest: &mut dyn FnMut()) {
        if let Some(immutable) = self.immutable.and_then(Arc::into_inner) {
            immutable.memtable.give_back(rest);
        }
    }
}

/// The entities of one shard.
#[derive(Debug, Default)]
pub struct State {
    memtable: Memtable,
    immutable: Option<Arc<ImmutableMemtable>>,
    layers: LayerStack,
    /// Entities that exist.
    len: usize,
    scratch: String,
    /// Which of them end by themselves.
    lifetimes: Box<Lifetimes>,
}

impl State {
    /// The state that a checkpoint holds, `len` entities.
    pub fn from_layers(layers: LayerStack, len: usize) -> Self {
        let mut lifetimes = Box::<Lifetimes>::default();
        lifetimes.set_layers(&layers);
        Self {
            layers,
            len,
            lifetimes,
            ..Self::default()
        }
    }

    /// Looks at entities that are about to be changed or read, at most [`PREFETCH_GROUP_IDS_MAX`]
    /// of them, so that their cache misses overlap, and keeps the places of new
    /// ones. No answer depends on it.
    pub fn prefetch(&mut self, ids: &[&[u8]]) {
        let mut missing = [&[][..]; PREFETCH_GROUP_IDS_MAX];
        let count = ids.len().min(PREFETCH_GROUP_IDS_MAX);
        missing[..count].copy_from_slice(&ids[..count]);
        let mut missing = self.memtable.prefetch(&mut missing[..count]);
        if let Some(frozen) = &self.immutable {
            missing = frozen.memtable.prefetch(missing);
        }
        missing = self.layers.prefetch_ids(missing);
        self.memtable.prefetch_positions(missing);
    }

    /// The order of so many entities in memory is looked up ahead.
    #[cfg(test)]
    fn prefetch_positions_from(&mut self, entities: usize) {
        self.memtable.prefetch_positions_from(entities);
    }

    /// Brings the entity of an event that is about to be applied into the memtable. What is
    /// answered does not change.
    ///
    /// Cost: constant; if the entity was not touched since the last checkpoint, a look-up in each
    /// layer and a copy.
    ///
    /// # Errors
    /// If the layer that may hold it is damaged.
    pub fn promote(&mut self, id: &str) -> Result<Promoted, LayerError> {
        let hash = self.memtable.hash(id);
        if let Some(slot) = self.memtable.find(hash, id) {
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
        let slot = promoted?.map(|entity| self.memtable.insert(hash, entity));
        Ok(Promoted { hash, slot })
    }

    /// The time of the entity's last event, if it exists.
    pub fn last_updated(&self, promoted: Promoted) -> Option<Timestamp> {
        let slot = self.memtable.get(promoted.slot?);
        slot.is_live().then_some(slot.last_updated)
    }

    /// Bytes that the entity takes.
    pub fn bytes(&self, promoted: Promoted) -> usize {
        promoted
            .slot
            .map_or(0, |slot| self.memtable.get(slot).block.len())
    }

    /// The entity's version; 0 if there is none.
    pub fn version(&self, promoted: Promoted) -> u64 {
        promoted
            .slot
            .map_or(0, |slot| self.memtable.get(slot).version())
    }

    /// The entity, if it exists.
    pub fn entity(&self, promoted: Promoted) -> Option<Entity<'_>> {
        Entity::from_slot(self.memtable.get(promoted.slot?))
    }

    /// Whether an event would make its entity larger than one may be (`limits`). Cost: a
    /// comparison, unless they are large.
    #[inline]
    pub fn would_exceed(&self, promoted: Promoted, event: &EventView<'_>) -> bool {
        if event.tombstone {
            return false;
        }
        let slot = promoted.slot.map(|slot| self.memtable.get(slot));
        match slot.filter(|slot| slot.is_live()) {
            Some(slot) => {
                let removed = event.decided.removed();
                slot.block.would_exceed(event.properties(), removed)
            }
            None => block::would_exceed_new(event.properties()),
        }
    }

    /// Applies the next event of the log: `sequence` is its number there, `time` the server's time
    /// that the log gave it, `promoted` where its entity lies. Never fails, and depends on nothing
    /// but its arguments and the events before.
    ///
    /// Cost: constant in the number of entities for an update, logarithmic for a creation or
    /// deletion; linear in the bytes of the entity, without an allocation if every value keeps its
    /// length.
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
                let slot = Slot::created(sequence, time, block);
                let slot = self.memtable.insert(hash, slot);
                if !event.decided.lifetime.is_none() {
                    self.change_lifetime(slot, event.decided.lifetime);
                }
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
        let entity = self.memtable.get_mut(slot);
        let applied = match (entity.is_live(), event.tombstone) {
            (true, false) => {
                entity.renew(sequence, time);
                entity.block.merge(event.properties(), &mut self.scratch);
                let removed = event.decided.removed();
                if !removed.is_empty() {
                    entity.block.remove(removed, &mut self.scratch);
                }
                Applied::Updated
            }
            (false, false) => {
                entity.renew(sequence, time);
                entity.block = Block::new(event.entity_id, event.properties(), &mut self.scratch);
                Applied::Created
            }
            (true, true) => {
                self.end_lifetime(slot);
                let entity = self.memtable.get_mut(slot);
                if entity.is_below() {
                    entity.become_tombstone(sequence, time);
                } else {
                    self.memtable.remove(hash, slot);
                }
                Applied::Deleted
            }
            (false, true) => Applied::Absent,
        };
        if !event.tombstone && !event.decided.lifetime.is_none() {
            self.change_lifetime(slot, event.decided.lifetime);
        }
        applied
    }

    /// The entity of a slot goes, or is about to become another one.
    fn end_lifetime(&mut self, slot: u32) {
        let entity = self.memtable.get_mut(slot);
        let lifetime = entity.block.lifetime();
        if lifetime.is_endless() {
            return;
        }
        if entity.is_listed() {
            entity.unlist();
            self.lifetimes.note_obsolete(slot, lifetime);
        }
        self.lifetimes.memtable.remove(slot);
    }

    fn change_lifetime(&mut self, slot: u32, change: LifetimeChange) {
        let before = self.memtable.get(slot).block.lifetime();
        let lifetime = before.changed(change);
        // If the dates of events lie ahead, the same date may be said anew, and is due later.
        let is_anew = self.lifetimes.ahead != 0 && matches!(change.expires, ExpiryChange::At(_));
        if lifetime == before && !is_anew {
            return;
        }
        let due = self.lifetimes.memtable.get(slot);
        let is_kept = before.expires == lifetime.expires && !is_anew;
        let is_bound_now = is_kept && before.linger_ms.is_none();
        if is_bound_now && self.memtable.get(slot).is_listed() {
            self.lifetimes.note_bound(slot);
            let block = &mut self.memtable.get_mut(slot).block;
            block.set_lifetime(lifetime, &mut self.scratch);
            return;
        }
        self.end_lifetime(slot);
        let block = &mut self.memtable.get_mut(slot).block;
        block.set_lifetime(lifetime, &mut self.scratch);
        self.note_lifetime(slot, lifetime);
        if let Some(due) = due
            && is_kept
        {
            self.lifetimes.memtable.set(slot, due);
        }
    }

    /// A slot whose lifetime no layer lists has this one.
    fn note_lifetime(&mut self, slot: u32, lifetime: Lifetime) {
        if lifetime.is_endless() {
            return;
        }
        self.lifetimes.has_any = true;
        if let Some(expires) = lifetime.expires {
            self.lifetimes.set(slot, expires);
        }
    }

    /// Adds an entity whose id is not here, as another state had it.
    ///
    /// # Errors
    /// If the layer that may hold it is damaged.
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
        let lifetime = slot.block.lifetime();
        let slot = self.memtable.insert(hash, slot);
        self.note_lifetime(slot, lifetime);
        self.len += 1;
        Ok(())
    }

    /// Puts an entity in the place of whatever is there under its id, as the record `sequence` of
    /// the log says; `promoted`: where that lies.
    pub fn replace(
        &mut self,
        promoted: Promoted,
        sequence: Sequence,
        entity: &EntityView<'_>,
    ) -> Applied {
        let mut block = Block::new(entity.id, entity.properties(), &mut self.scratch);
        if !entity.lifetime.is_endless() {
            block.set_lifetime(entity.lifetime, &mut self.scratch);
        }
        let slot = Slot::installed(sequence, entity.last_updated, entity.version, block);
        let (number, was_live) = match promoted.slot {
            Some(number) => {
                self.end_lifetime(number);
                let found = self.memtable.get_mut(number);
                let was_live = found.is_live();
                found.become_installed(slot);
                (number, was_live)
            }
            None => (self.memtable.insert(promoted.hash, slot), false),
        };
        self.note_lifetime(number, entity.lifetime);
        if was_live {
            return Applied::Updated;
        }
        self.len += 1;
        Applied::Created
    }

    /// The entity with this id. Cost: constant.
    ///
    /// # Errors
    /// If the layer that may hold it is damaged.
    pub fn get(&self, id: &str) -> Result<Option<Entity<'_>>, LayerError> {
        let hash = self.memtable.hash(id);
        match self.memtable.find(hash, id) {
            Some(slot) => Ok(Entity::from_slot(self.memtable.get(slot))),
            None => self.below(hash, id),
        }
    }

    /// The entity as the immutable memtable and the layers have it.
    fn below(&self, hash: IdHash, id: &str) -> Result<Option<Entity<'_>>, LayerError> {
        if let Some(frozen) = &self.immutable
            && let Some(slot) = frozen.memtable.find(hash, id)
        {
            return Ok(Entity::from_slot(frozen.memtable.get(slot)));
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

    /// The entities that match all of `query`, ascending by the bytes of their ids. If a layer
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
            memtable: &self.memtable,
            immutable: self.immutable.as_deref().map(|frozen| &frozen.memtable),
            layers,
        };
        Listing::new(sources, scope, after)
    }

    /// Freezes what changed since the last checkpoint, for a helper thread to write on top of the
    /// layers that are returned with it. Cost: constant.
    ///
    /// # Panics
    /// If something is frozen already: one checkpoint at a time.
    pub fn freeze(&mut self) -> (Arc<ImmutableMemtable>, LayerStack) {
        assert!(self.immutable.is_none(), "one checkpoint at a time");
        let fresh = self.memtable.sibling();
        let frozen = Arc::new(ImmutableMemtable {
            memtable: std::mem::replace(&mut self.memtable, fresh),
            lifetimes: self.lifetimes.freeze(),
        });
        self.immutable = Some(Arc::clone(&frozen));
        (frozen, self.layers.clone())
    }

    /// The layers under what is in memory.
    pub const fn layers(&self) -> &LayerStack {
        &self.layers
    }

    /// True while what was frozen is not installed.
    pub const fn is_frozen(&self) -> bool {
        self.immutable.is_some()
    }

    /// Puts the layers of a checkpoint that was written in the place of what was frozen and of the
    /// layers before.
    pub fn install_checkpoint(&mut self, layers: LayerStack) -> Replaced {
        self.lifetimes.set_layers(&layers);
        Replaced {
            immutable: self.immutable.take(),
            _layers: std::mem::replace(&mut self.layers, layers),
        }
    }

    /// Bytes on the heap, as an allocator of 16-byte steps with an 8-byte header would count them.
    /// Cost: linear in the number of entities in memory.
    pub fn heap_bytes(&self) -> usize {
        let frozen = self
            .immutable
            .as_ref()
            .map_or(0, |frozen| frozen.memtable.heap_bytes());
        self.memtable.heap_bytes()
            + frozen
            + allocation_bytes(self.scratch.capacity())
            + self.lifetimes.heap_bytes()
    }
}

/// The entity of a layer, if it is not a tombstone.
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
