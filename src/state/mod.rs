//! The state of one shard: what its events, applied in order, have made of its entities.
//!
//! ```text
//!            hash of the id                    ordered by id
//!   get ───▶ table of slots       list ──────▶ ordered list of slots
//!                     └────────▶ slab ◀────────┘
//!                                 │ sequence, time, version
//!                                 └▶ block: id and properties, one text on the heap
//! ```
//!
//! Each entity is held once, in the slab; both indexes hold slot numbers. An update touches the slab alone, so
//! the ordered list costs nothing until an entity is created or deleted. An ordered map by itself would be
//! simpler, but would pay a dozen cache misses for each event where the table pays three.
//!
//! Invariants:
//! - `apply` is total and deterministic: `replay(log) == live state` for every history. Time and sequence are
//!   arguments, and nothing that is answered comes from the order of the table, which differs in each process.
//! - the table and the list hold exactly the slots in use, each once.
//!
//! It decides nothing (an event that is here was accepted) and knows no JSON: values are texts.

#![deny(clippy::wildcard_enum_match_arm)]

mod block;
mod entity;
mod ordered;
mod query;
mod slab;
mod table;

#[cfg(test)]
mod model_test;
#[cfg(test)]
mod random;

use flux_storage::Sequence;

use crate::model::{EventView, Timestamp};

pub use entity::{Entity, EntityProperties};
pub use query::Query;

use block::Block;
use ordered::Ordered;
use slab::{Slab, Slot};
use table::Table;

/// Room for building a block that is kept between events, bytes. A larger one is given back: a single huge
/// entity should not be paid for twice for ever.
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

/// The entities of one shard.
#[derive(Debug, Default)]
pub struct State {
    slab: Slab,
    table: Table,
    ordered: Ordered,
    scratch: String,
}

impl State {
    /// Applies the next event of the log: `sequence` is its number there, `time` the server's time that the log
    /// gave it. Never fails, and depends on nothing but its arguments and the events before.
    ///
    /// Cost: constant in the number of entities for an update, logarithmic for a creation or deletion; linear in
    /// the bytes of the entity, without an allocation where every value keeps its length.
    pub fn apply(&mut self, sequence: Sequence, time: Timestamp, event: &EventView<'_>) -> Applied {
        let hash = self.table.hash(event.entity_id);
        let found = self.table.find(hash, |slot| {
            self.slab.get(slot).block.id() == event.entity_id
        });
        let applied = match (found, event.tombstone) {
            (None, true) => return Applied::Absent,
            (None, false) => {
                let slot = self.slab.insert(Slot {
                    sequence,
                    last_updated: time,
                    version: 1,
                    block: Block::new(event.entity_id, event.properties(), &mut self.scratch),
                });
                self.table.insert(hash, slot);
                let slab = &self.slab;
                self.ordered
                    .insert(slot, |other| slab.get(other).block.id() < event.entity_id);
                Applied::Created
            }
            (Some(slot), true) => {
                let slab = &self.slab;
                self.ordered
                    .remove(slot, |other| slab.get(other).block.id() < event.entity_id);
                self.table.remove(hash, slot);
                self.slab.remove(slot);
                return Applied::Deleted;
            }
            (Some(slot), false) => {
                let entity = self.slab.get_mut(slot);
                entity.sequence = sequence;
                entity.last_updated = time;
                entity.version += 1;
                entity.block.merge(event.properties(), &mut self.scratch);
                Applied::Updated
            }
        };
        if self.scratch.capacity() > SCRATCH_BYTES_KEPT {
            self.scratch = String::new();
        }
        applied
    }

    /// The entity with this id. Cost: constant.
    pub fn get(&self, id: &str) -> Option<Entity<'_>> {
        self.table
            .find(self.table.hash(id), |slot| {
                self.slab.get(slot).block.id() == id
            })
            .map(|slot| Entity::new(self.slab.get(slot)))
    }

    /// Number of entities.
    pub fn len(&self) -> usize {
        self.ordered.len()
    }

    /// True where there is no entity.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entities that match all of `query`, ascending by the bytes of their ids. Cost: logarithmic in the
    /// number of entities to begin with, then constant for each entity taken, however many do not match.
    pub fn list<'s>(&'s self, query: &Query<'_>) -> impl Iterator<Item = Entity<'s>> + use<'s> {
        let id = |slot| self.slab.get(slot).block.id();
        let range = query.scope().map(|scope| {
            let mut start = self.ordered.seek(|slot| scope.is_after(id(slot)));
            let end = self.ordered.seek(|slot| !scope.is_before(id(slot)));
            if let Some(after) = query.after {
                start = start.max(self.ordered.seek(|slot| id(slot) <= after));
            }
            self.ordered.range(start, end)
        });
        range
            .into_iter()
            .flatten()
            .map(|slot| Entity::new(self.slab.get(slot)))
    }

    /// Bytes on the heap, as an allocator of 16-byte steps with an 8-byte header would count them. Cost: linear
    /// in the number of entities.
    pub fn heap_bytes(&self) -> usize {
        self.slab.heap_bytes()
            + self.table.heap_bytes()
            + self.ordered.heap_bytes()
            + allocation_bytes(self.scratch.capacity())
    }
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
