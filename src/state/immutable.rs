//! What a checkpoint writes: the entities of a memtable that does not change any more.

use flux_storage::{LayerEntity, MergedRuns};

use super::lifetimes::FrozenLifetimes;
use super::memtable::Memtable;
use super::prefetched::PrefetchedSlots;

/// Promoted slots that are sorted at a time: about half a millisecond's work, most of it cache
/// misses.
const RUN_SLOTS: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct ImmutableMemtable {
    pub(super) memtable: Memtable,
    pub(super) lifetimes: FrozenLifetimes,
}

impl ImmutableMemtable {
    /// Number of entities and tombstones.
    pub fn len(&self) -> usize {
        self.memtable.len()
    }

    /// True if nothing changed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, ascending by id, in the form that a layer keeps. Sorts the
    /// promoted ones, which are in no order, and calls `rest` after each fraction of a millisecond
    /// of that.
    pub fn entities(&self, rest: &mut dyn FnMut()) -> ImmutableEntities<'_> {
        let memtable = &self.memtable;
        let mut runs = vec![Run {
            memtable,
            slots: RunSlots::Ordered(PrefetchedSlots::new(memtable, memtable.in_order())),
        }];
        let mut promoted = memtable.promoted().peekable();
        while promoted.peek().is_some() {
            let mut slots: Vec<u32> = promoted.by_ref().take(RUN_SLOTS).collect();
            slots.sort_unstable_by_key(|&slot| memtable.get(slot).block.id());
            runs.push(Run {
                memtable,
                slots: RunSlots::Promoted(slots.into_iter()),
            });
            rest();
        }
        ImmutableEntities {
            memtable,
            slots: MergedRuns::new(runs),
            left: self.len(),
        }
    }
}

/// The entities of an immutable memtable, ascending by id.
#[derive(Debug)]
pub struct ImmutableEntities<'s> {
    memtable: &'s Memtable,
    slots: MergedRuns<Run<'s>>,
    left: usize,
}

/// Slots ascending by id, each with it.
#[derive(Debug)]
struct Run<'s> {
    memtable: &'s Memtable,
    slots: RunSlots<'s>,
}

#[derive(Debug)]
enum RunSlots<'s> {
    Ordered(PrefetchedSlots<'s>),
    Promoted(std::vec::IntoIter<u32>),
}

impl<'s> Iterator for Run<'s> {
    type Item = (&'s str, u32);

    fn next(&mut self) -> Option<Self::Item> {
        let slot = match &mut self.slots {
            RunSlots::Ordered(slots) => slots.next(),
            RunSlots::Promoted(slots) => slots.next(),
        }?;
        Some((self.memtable.get(slot).block.id(), slot))
    }
}

impl<'s> Iterator for ImmutableEntities<'s> {
    type Item = LayerEntity<'s>;

    fn next(&mut self) -> Option<Self::Item> {
        let (id, slot) = self.slots.next()?;
        let slot = self.memtable.get(slot);
        self.left -= 1;
        Some(LayerEntity {
            id,
            version: slot.version(),
            time_micros: slot.last_updated.as_micros(),
            sequence: slot.sequence,
            body: slot.is_live().then(|| slot.block.body()),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ImmutableEntities<'_> {}
