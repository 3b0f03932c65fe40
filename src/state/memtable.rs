//! Entities in memory: what changed since the layers below were written.
//!
//! ```text
//!            hash of the id                    ordered by id
//!   find ──▶ table of slots       range ─────▶ ordered list of slots
//!                     └────────▶ slab ◀────────┘
//!                                 │ sequence, time, version
//!                                 └▶ block: id and properties, one text on the heap
//! ```
//!
//! Each entity is held once, in the slab; both indexes hold slot numbers. An update touches the
//! slab alone, so the ordered list costs nothing until an entity joins or leaves. An ordered map by
//! itself would be simpler, but would pay a dozen cache misses for each event, and the table pays
//! three.
//!
//! An entity that was *promoted* from a layer below is not in the ordered list: whoever lists meets
//! its id in that layer, and looks here for what counts. To keep those in order too cost a quarter
//! of each first event after a checkpoint.
//!
//! An entity that was deleted but still lies in a layer below stays as a *tombstone*, which hides
//! that older form.
//!
//! Invariants: the table holds exactly the slots in use, each once, and the list those of them that
//! were not promoted; what was promoted is in a layer below, as long as there is this memtable.

use super::PREFETCH_IDS_MAX;
use super::ordered::{Ordered, Position, Range};
use super::query::Scope;
use super::slab::{Slab, Slot};
use super::table::{IdHash, Table};
use flux_storage::PREFETCH_GROUP_IDS_MAX;
use std::collections::VecDeque;

/// Entities of a memtable from which on their order is looked up ahead: that of fewer is in the
/// processor's cache.
const PREFETCH_POSITIONS_MIN: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Memtable {
    slab: Slab,
    table: Table,
    /// The slots that were not promoted.
    ordered: Ordered,
    /// How many slots were promoted.
    promoted: usize,
    /// Where entities that may be added next belonged when that was looked up; at most
    /// [`PREFETCH_IDS_MAX`].
    prefetched: VecDeque<(IdHash, Position)>,
    /// Entities from which on their order is looked up ahead.
    positions_min: usize,
}

impl Default for Memtable {
    fn default() -> Self {
        Self {
            slab: Slab::default(),
            table: Table::default(),
            ordered: Ordered::default(),
            promoted: 0,
            prefetched: VecDeque::new(),
            positions_min: PREFETCH_POSITIONS_MIN,
        }
    }
}

impl Memtable {
    /// Empty, and hashing as `self` does: a hash of the one finds in the other.
    pub(super) fn sibling(&self) -> Self {
        Self {
            table: self.table.sibling(),
            positions_min: self.positions_min,
            ..Self::default()
        }
    }

    /// Drops it bit by bit, with a call of `rest` after each.
    pub(super) fn give_back(self, rest: &mut dyn FnMut()) {
        self.slab.give_back(rest);
    }

    pub(super) fn hash(&self, id: &str) -> IdHash {
        self.table.hash(id.as_bytes())
    }

    /// The slot of this id, be it a tombstone.
    pub(super) fn find(&self, hash: IdHash, id: &str) -> Option<u32> {
        self.table
            .find(hash, |slot| self.slab.get(slot).block.id() == id)
    }

    /// Reads what is going to be needed for these ids, at most [`PREFETCH_GROUP_IDS_MAX`], one kind
    /// of memory after the other: the processor waits for many cache misses at once instead of one
    /// after the other. Cost: a look-up for each id. Moves the ids that are not here to
    /// the front and returns them. A few of them may be missing, since only hashes are compared.
    pub(super) fn prefetch<'a, 'i>(&self, ids: &'a mut [&'i [u8]]) -> &'a mut [&'i [u8]] {
        // All hashes first: the less there is to do between two look-ups, the more of them are
        // under way.
        let mut hashes = [IdHash::default(); PREFETCH_GROUP_IDS_MAX];
        for (hash, id) in hashes.iter_mut().zip(&*ids) {
            *hash = self.table.hash(id);
        }
        let mut slots = [0; PREFETCH_GROUP_IDS_MAX];
        let (mut found, mut missing) = (0, 0);
        for (number, hash) in hashes.iter().enumerate().take(ids.len()) {
            if let Some(slot) = self.table.find(*hash, |_| true) {
                slots[found] = slot;
                found += 1;
            } else {
                ids.swap(missing, number);
                missing += 1;
            }
        }
        self.touch(slots[..found].iter().copied());
        &mut ids[..missing]
    }

    /// The order of so many entities is looked up ahead.
    #[cfg(test)]
    pub(super) fn prefetch_positions_from(&mut self, entities: usize) {
        self.positions_min = entities;
    }

    /// Looks up side by side where new entities with these ids, at most [`PREFETCH_GROUP_IDS_MAX`],
    /// belong.
    pub(super) fn prefetch_positions(&mut self, ids: &[&[u8]]) {
        if self.ordered.len() < self.positions_min {
            return;
        }
        if self.prefetched.len() + ids.len() > PREFETCH_IDS_MAX {
            self.prefetched.clear();
        }
        let mut places = [Position::default(); PREFETCH_GROUP_IDS_MAX];
        let places = &mut places[..ids.len()];
        let touch = |slots: &[u32]| {
            let texts = slots.iter().map(|&slot| &self.slab.get(slot).block);
            let seen = texts.clone().fold(0, |seen, block| seen ^ block.len());
            std::hint::black_box(texts.fold(seen, |seen, block| seen ^ block.touch_start()));
        };
        let before = |number: usize, slot| self.slab.get(slot).block.id().as_bytes() < ids[number];
        self.ordered.seek_all(places, touch, before);
        let hashes = ids.iter().map(|id| self.table.hash(id));
        self.prefetched.extend(hashes.zip(places.iter().copied()));
    }

    /// Reads these entities' slots, and then their blocks' beginnings.
    pub(super) fn touch(&self, slots: impl Iterator<Item = u32> + Clone) {
        let blocks = slots.map(|slot| &self.slab.get(slot).block);
        let mut seen = blocks.clone().fold(0, |seen, block| seen ^ block.len());
        seen ^= blocks.fold(0, |seen, block| seen ^ block.touch());
        // Without a use of what was read, nothing would be.
        std::hint::black_box(seen);
    }

    pub(super) fn get(&self, slot: u32) -> &Slot {
        self.slab.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Slot {
        self.slab.get_mut(slot)
    }

    /// Adds an entity whose id is not here, and returns its slot.
    pub(super) fn insert(&mut self, hash: IdHash, entity: Slot) -> u32 {
        let is_promoted = entity.is_below();
        let slot = self.slab.insert(entity);
        self.table.insert(hash, slot);
        if is_promoted {
            self.promoted += 1;
            return slot;
        }
        let slab = &self.slab;
        let id = slab.get(slot).block.id();
        let before = |other| slab.get(other).block.id() < id;
        let expected = self.prefetched.iter().position(|(of, _)| *of == hash);
        let place = expected.and_then(|number| {
            // Entities are added in the order in which they were expected: those before are not to
            // come any more.
            let (_, place) = self.prefetched.drain(..=number).next_back()?;
            self.ordered.near(place, before)
        });
        let place = place.unwrap_or_else(|| self.ordered.seek(before));
        self.ordered.insert(place, slot);
        slot
    }

    /// Takes out the entity of a slot in use, which was not promoted.
    pub(super) fn remove(&mut self, hash: IdHash, slot: u32) {
        let slab = &self.slab;
        let id = slab.get(slot).block.id();
        self.ordered
            .remove(slot, |other| slab.get(other).block.id() < id);
        self.table.remove(hash, slot);
        self.slab.remove(slot);
    }

    /// The slots in `scope` whose ids come after `after`, ascending, without the
    /// promoted ones. Cost: logarithmic, then constant for each slot.
    pub(super) fn range(&self, scope: &Scope<'_>, after: Option<&str>) -> Range<'_> {
        let id = |slot| self.slab.get(slot).block.id();
        let mut start = self.ordered.seek(|slot| scope.is_after(id(slot)));
        let end = self.ordered.seek(|slot| !scope.is_before(id(slot)));
        if let Some(after) = after {
            start = start.max(self.ordered.seek(|slot| id(slot) <= after));
        }
        self.ordered.range(start, end)
    }

    /// All slots that were not promoted, ascending by id.
    pub(super) fn in_order(&self) -> Range<'_> {
        self.ordered.all()
    }

    /// All slots that were promoted, in no order.
    pub(super) fn promoted(&self) -> impl Iterator<Item = u32> {
        let slots = self.slab.iter();
        slots.filter_map(|(number, slot)| slot.is_below().then_some(number))
    }

    /// All slots in use with their numbers, in no order.
    pub(super) fn slots(&self) -> impl Iterator<Item = (u32, &Slot)> {
        let slots = self.slab.iter();
        slots.filter(|(_, slot)| slot.block.len() > 0)
    }

    /// True if some were promoted: if a layer below has an id, what counts may be here.
    pub(super) const fn has_promoted(&self) -> bool {
        self.promoted > 0
    }

    /// Slots in use, tombstones among them.
    pub(super) const fn len(&self) -> usize {
        self.ordered.len() + self.promoted
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.slab.heap_bytes() + self.table.heap_bytes() + self.ordered.heap_bytes()
    }
}
