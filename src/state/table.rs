//! Point access: the hash of an id to its slot.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::allocation_bytes;

/// The hash of an id, in the width that is stored.
///
/// Stored beside each slot so that growing the table, which moves every entry while events wait, reads none of
/// the entities: at a million of them growing takes 17 ms, and a cache miss for each would be added to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdHash(u32);

impl IdHash {
    /// The table takes a bucket from the low bits and a tag from the high ones.
    const fn spread(self) -> u64 {
        (self.0 as u64) << 32 | self.0 as u64
    }
}

#[derive(Debug, Clone, Copy)]
struct Pointer {
    hash: IdHash,
    slot: u32,
}

/// Slots by the hash of their ids. Knows no ids: whoever asks compares them.
#[derive(Debug, Default)]
pub(super) struct Table {
    pointers: HashTable<Pointer>,
    /// Seeded per process, so that ids can't be chosen to collide.
    builder: DefaultHashBuilder,
}

impl Table {
    /// Empty, with the same hashes.
    pub(super) fn sibling(&self) -> Self {
        Self {
            pointers: HashTable::new(),
            builder: self.builder.clone(),
        }
    }

    pub(super) fn hash(&self, id: &str) -> IdHash {
        IdHash((self.builder.hash_one(id) >> 32) as u32)
    }

    /// The slot of this hash for which `is_it` holds.
    pub(super) fn find(&self, hash: IdHash, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.pointers
            .find(hash.spread(), |pointer| {
                pointer.hash == hash && is_it(pointer.slot)
            })
            .map(|pointer| pointer.slot)
    }

    /// Adds a slot that is not in the table.
    pub(super) fn insert(&mut self, hash: IdHash, slot: u32) {
        self.pointers
            .insert_unique(hash.spread(), Pointer { hash, slot }, |pointer| {
                pointer.hash.spread()
            });
    }

    /// Removes a slot that is in the table.
    ///
    /// # Panics
    /// Where it is not.
    pub(super) fn remove(&mut self, hash: IdHash, slot: u32) {
        self.pointers
            .find_entry(hash.spread(), |pointer| pointer.slot == slot)
            .expect("every slot in use is in the table")
            .remove();
    }

    pub(super) fn heap_bytes(&self) -> usize {
        allocation_bytes(self.pointers.allocation_size())
    }
}
