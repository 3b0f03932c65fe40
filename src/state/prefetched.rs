//! Slots in order, whose entities are read some ahead: neighbours by id lie anywhere in memory, and
//! the cache misses of several overlap.

use flux_storage::PREFETCH_GROUP_IDS_MAX;

use super::memtable::Memtable;
use super::ordered::Range;

/// See the module.
#[derive(Debug)]
pub(super) struct PrefetchedSlots<'s> {
    memtable: &'s Memtable,
    slots: Range<'s>,
    /// Slots whose entities were read, `len` of them, of which the first `taken` were taken.
    read: [u32; PREFETCH_GROUP_IDS_MAX],
    len: usize,
    taken: usize,
}

impl<'s> PrefetchedSlots<'s> {
    /// Of this memtable.
    pub(super) const fn new(memtable: &'s Memtable, slots: Range<'s>) -> Self {
        Self {
            memtable,
            slots,
            read: [0; PREFETCH_GROUP_IDS_MAX],
            len: 0,
            taken: 0,
        }
    }

    /// Reads the next ones: few at first, since a page may be short.
    fn read_on(&mut self) {
        let count = (2 * self.len).clamp(2, PREFETCH_GROUP_IDS_MAX);
        (self.len, self.taken) = (0, 0);
        for (place, slot) in self.read.iter_mut().zip(self.slots.by_ref().take(count)) {
            *place = slot;
            self.len += 1;
        }
        self.memtable.touch(self.read[..self.len].iter().copied());
    }
}

impl Iterator for PrefetchedSlots<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.taken == self.len {
            self.read_on();
        }
        let slot = self.read[..self.len].get(self.taken).copied();
        self.taken += usize::from(slot.is_some());
        slot
    }
}
