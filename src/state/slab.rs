//! The entities themselves, in numbered slots.

use flux_storage::Sequence;

use crate::model::Timestamp;

use super::allocation_bytes;
use super::block::Block;

/// Slots that are allocated together. One growing vector would, each time it is full, copy every
/// slot while events wait, and stand half empty afterwards.
const SLOTS_PER_CHUNK: usize = 1024;

/// Set in a slot's `version` if an older form of the entity lies in a layer below.
const BELOW: u64 = 1 << 63;

/// Set there too if the layers below list the lifetime that the entity has.
const LISTED: u64 = 1 << 62;
const FLAGS: u64 = BELOW | LISTED;

/// One entity, or the tombstone of one that was deleted.
#[derive(Debug)]
pub(super) struct Slot {
    /// The number of its last event.
    pub(super) sequence: Sequence,
    /// The time of its last event.
    pub(super) last_updated: Timestamp,
    /// Events since it was created, 0 in a tombstone; with [`BELOW`] and [`LISTED`].
    version: u64,
    /// Its id and properties. Empty in a slot that is free.
    pub(super) block: Block,
}

impl Slot {
    /// A new entity at version 1 that no layer below knows.
    pub(super) const fn created(sequence: Sequence, last_updated: Timestamp, block: Block) -> Self {
        Self {
            sequence,
            last_updated,
            version: 1,
            block,
        }
    }

    /// An entity with a past that no layer below knows.
    pub(super) const fn installed(
        sequence: Sequence,
        last_updated: Timestamp,
        version: u64,
        block: Block,
    ) -> Self {
        Self {
            sequence,
            last_updated,
            version,
            block,
        }
    }

    /// An entity as a layer below has it.
    pub(super) fn promoted(
        sequence: Sequence,
        last_updated: Timestamp,
        version: u64,
        block: Block,
    ) -> Self {
        let is_listed = !block.lifetime().is_endless();
        Self {
            sequence,
            last_updated,
            version: version | BELOW | if is_listed { LISTED } else { 0 },
            block,
        }
    }

    /// Events since it was created; 0 in a tombstone.
    pub(super) const fn version(&self) -> u64 {
        self.version & !FLAGS
    }

    /// False for a tombstone.
    pub(super) const fn is_live(&self) -> bool {
        self.version() != 0
    }

    /// True if an older form lies in a layer below.
    pub(super) const fn is_below(&self) -> bool {
        self.version & BELOW != 0
    }

    /// True if the layers below list the lifetime that it has.
    pub(super) const fn is_listed(&self) -> bool {
        self.version & LISTED != 0
    }

    /// What the layers below list of it does not hold any more.
    pub(super) const fn unlist(&mut self) {
        self.version &= !LISTED;
    }

    /// The entity is as another state had it.
    pub(super) fn become_installed(&mut self, other: Self) {
        let below = self.version & FLAGS;
        *self = other;
        self.version |= below;
    }

    /// One more event.
    pub(super) const fn renew(&mut self, sequence: Sequence, last_updated: Timestamp) {
        self.sequence = sequence;
        self.last_updated = last_updated;
        self.version += 1;
    }

    /// The entity is deleted; its id stays to hide what lies below.
    pub(super) fn become_tombstone(&mut self, sequence: Sequence, last_updated: Timestamp) {
        self.sequence = sequence;
        self.last_updated = last_updated;
        self.version = BELOW;
        self.block = self.block.id_only();
    }
}

/// Slots by number. A number stays an entity's own until it is removed, and is used again
/// afterwards.
#[derive(Debug, Default)]
pub(super) struct Slab {
    chunks: Vec<Vec<Slot>>,
    free: Vec<u32>,
}

impl Slab {
    /// Stores `entity` and returns the number of its slot.
    ///
    /// # Panics
    /// At 2^32 entities, which would fill 400 GB.
    pub(super) fn insert(&mut self, entity: Slot) -> u32 {
        if let Some(slot) = self.free.pop() {
            *self.get_mut(slot) = entity;
            return slot;
        }
        if self
            .chunks
            .last()
            .is_none_or(|chunk| chunk.len() == SLOTS_PER_CHUNK)
        {
            self.chunks.push(Vec::with_capacity(SLOTS_PER_CHUNK));
        }
        let full = (self.chunks.len() - 1) * SLOTS_PER_CHUNK;
        let chunk = self.chunks.last_mut().expect("pushed above");
        let slot = u32::try_from(full + chunk.len()).expect("memory ends before 2^32 entities");
        chunk.push(entity);
        slot
    }

    /// Frees a slot that is in use.
    pub(super) fn remove(&mut self, slot: u32) {
        self.get_mut(slot).block = Block::default();
        self.free.push(slot);
    }

    /// All slots with their numbers, free ones among them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        (0..).zip(self.chunks.iter().flatten())
    }

    /// Drops the entities a chunk at a time, with a call of `rest` after each.
    pub(super) fn give_back(self, rest: &mut dyn FnMut()) {
        for chunk in self.chunks {
            drop(chunk);
            rest();
        }
    }

    /// The entity in a slot that is in use.
    pub(super) fn get(&self, slot: u32) -> &Slot {
        &self.chunks[slot as usize / SLOTS_PER_CHUNK][slot as usize % SLOTS_PER_CHUNK]
    }

    /// The entity in a slot that is in use.
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.chunks[slot as usize / SLOTS_PER_CHUNK][slot as usize % SLOTS_PER_CHUNK]
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let chunks: usize = self
            .chunks
            .iter()
            .map(|chunk| {
                let blocks: usize = chunk.iter().map(|slot| slot.block.heap_bytes()).sum();
                allocation_bytes(chunk.capacity() * size_of::<Slot>()) + blocks
            })
            .sum();
        chunks
            + allocation_bytes(self.chunks.capacity() * size_of::<Vec<Slot>>())
            + allocation_bytes(self.free.capacity() * size_of::<u32>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(version: u64) -> Slot {
        Slot {
            sequence: Sequence::ZERO,
            last_updated: Timestamp::default(),
            version,
            block: Block::default(),
        }
    }

    #[test]
    fn slots_keep_their_numbers_and_freed_ones_are_used_again() {
        let mut slab = Slab::default();
        let count = 3 * u32::try_from(SLOTS_PER_CHUNK).unwrap();
        for number in 0..count {
            assert_eq!(slab.insert(entity(u64::from(number))), number);
        }
        for number in (0..count).step_by(3) {
            slab.remove(number);
        }
        let heap_bytes = slab.heap_bytes();
        for _ in (0..count).step_by(3) {
            let slot = slab.insert(entity(u64::MAX));
            assert_eq!(slot % 3, 0);
        }
        assert_eq!(slab.heap_bytes(), heap_bytes);
        assert_eq!(slab.insert(entity(7)), count);
        for number in 0..count {
            let expected = if number % 3 == 0 {
                u64::MAX
            } else {
                u64::from(number)
            };
            assert_eq!(slab.get(number).version, expected);
        }
    }
}
