//! Point access: the hash of an id to its slot.

use std::hash::{BuildHasher, Hasher as _};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::allocation_bytes;

/// The hash of an id, in the width that is stored.
///
/// Stored beside each slot so that growing a part of the table, which moves its entries while
/// events wait, reads none of the entities: a cache miss for each would be added to it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdHash(u32);

impl IdHash {
    /// The table takes a bucket from the low bits and a tag from the high ones.
    const fn spread(self) -> u64 {
        (self.0 as u64) << 32 | self.0 as u64
    }

    /// The part of the table, by bits that neither takes: those above the buckets of 65,536
    /// entries, below the tag.
    const fn part(self) -> usize {
        (self.0 >> 16) as usize % PARTS
    }
}

/// Parts of a table, each of which grows by itself. Growing one table of a million entries took 17
/// ms, in which events waited; growing a part of as many entities takes a tenth of one.
const PARTS: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Pointer {
    hash: IdHash,
    slot: u32,
}

/// Slots by the hash of their ids. Knows no ids: whoever asks compares them.
#[derive(Debug)]
pub(super) struct Table {
    /// [`PARTS`] of them.
    parts: Box<[HashTable<Pointer>]>,
    /// Seeded per process, so that ids can't be chosen to collide.
    builder: DefaultHashBuilder,
}

impl Default for Table {
    fn default() -> Self {
        Self::new(DefaultHashBuilder::default())
    }
}

impl Table {
    fn new(builder: DefaultHashBuilder) -> Self {
        Self {
            parts: (0..PARTS).map(|_| HashTable::new()).collect(),
            builder,
        }
    }

    /// Empty, with the same hashes.
    pub(super) fn sibling(&self) -> Self {
        Self::new(self.builder.clone())
    }

    pub(super) fn hash(&self, id: &[u8]) -> IdHash {
        // Without the length or the end that `Hash` adds, which keep apart what is hashed one after
        // the other.
        let mut hasher = self.builder.build_hasher();
        hasher.write(id);
        IdHash((hasher.finish() >> 32) as u32)
    }

    /// The slot of this hash for which `is_it` holds.
    pub(super) fn find(&self, hash: IdHash, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.parts[hash.part()]
            .find(hash.spread(), |pointer| {
                pointer.hash == hash && is_it(pointer.slot)
            })
            .map(|pointer| pointer.slot)
    }

    /// Adds a slot that is not in the table.
    pub(super) fn insert(&mut self, hash: IdHash, slot: u32) {
        self.parts[hash.part()].insert_unique(hash.spread(), Pointer { hash, slot }, |pointer| {
            pointer.hash.spread()
        });
    }

    /// Removes a slot that is in the table.
    ///
    /// # Panics
    /// If it is not.
    pub(super) fn remove(&mut self, hash: IdHash, slot: u32) {
        self.parts[hash.part()]
            .find_entry(hash.spread(), |pointer| pointer.slot == slot)
            .expect("every slot in use is in the table")
            .remove();
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let parts: usize = self
            .parts
            .iter()
            .map(|part| allocation_bytes(part.allocation_size()))
            .sum();
        parts + allocation_bytes(PARTS * size_of::<HashTable<Pointer>>())
    }
}
