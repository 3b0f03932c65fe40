//! What a checkpoint writes: the entities of a memory that no longer changes.

use flux_storage::{LayerEntity, MergedRuns, WARM_IDS_MAX};

use super::memory::Memory;
use super::ordered::Range;

/// Lifted slots that are sorted at a time: about half a millisecond's work, most of it cache misses.
const RUN_SLOTS: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Frozen(pub(super) Memory);

impl Frozen {
    /// Number of entities and markers.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True where nothing changed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, ascending by id, in the form that a layer keeps. Sorts those that were lifted, which are in no order,
    /// and calls `rest` after each fraction of a millisecond of that.
    pub fn entities(&self, rest: &mut dyn FnMut()) -> FrozenEntities<'_> {
        let memory = &self.0;
        let mut runs = vec![Run {
            memory,
            slots: RunSlots::Ordered(Ahead::new(memory.in_order())),
        }];
        let mut lifted = memory.lifted().peekable();
        while lifted.peek().is_some() {
            let mut slots: Vec<u32> = lifted.by_ref().take(RUN_SLOTS).collect();
            slots.sort_unstable_by_key(|&slot| memory.get(slot).block.id());
            runs.push(Run {
                memory,
                slots: RunSlots::Lifted(slots.into_iter()),
            });
            rest();
        }
        FrozenEntities {
            memory,
            slots: MergedRuns::new(runs),
            left: self.len(),
        }
    }
}

/// The entities of a frozen memory, ascending by id.
#[derive(Debug)]
pub struct FrozenEntities<'s> {
    memory: &'s Memory,
    slots: MergedRuns<Run<'s>>,
    left: usize,
}

/// Slots ascending by id, each with it.
#[derive(Debug)]
struct Run<'s> {
    memory: &'s Memory,
    slots: RunSlots<'s>,
}

#[derive(Debug)]
enum RunSlots<'s> {
    Ordered(Ahead<'s>),
    Lifted(std::vec::IntoIter<u32>),
}

/// Slots in order, whose entities are read some ahead: they lie anywhere, and so their cache misses overlap.
#[derive(Debug)]
struct Ahead<'s> {
    slots: Range<'s>,
    /// Those that were read, of which the first `taken` were taken.
    read: Vec<u32>,
    taken: usize,
}

impl<'s> Ahead<'s> {
    fn new(slots: Range<'s>) -> Self {
        Self {
            slots,
            read: Vec::with_capacity(WARM_IDS_MAX),
            taken: 0,
        }
    }

    fn next(&mut self, memory: &Memory) -> Option<u32> {
        if self.taken == self.read.len() {
            self.read.clear();
            self.read.extend(self.slots.by_ref().take(WARM_IDS_MAX));
            self.taken = 0;
            memory.touch(self.read.iter().copied());
        }
        let slot = self.read.get(self.taken).copied();
        self.taken += usize::from(slot.is_some());
        slot
    }
}

impl<'s> Iterator for Run<'s> {
    type Item = (&'s str, u32);

    fn next(&mut self) -> Option<Self::Item> {
        let slot = match &mut self.slots {
            RunSlots::Ordered(slots) => slots.next(self.memory),
            RunSlots::Lifted(slots) => slots.next(),
        }?;
        Some((self.memory.get(slot).block.id(), slot))
    }
}

impl<'s> Iterator for FrozenEntities<'s> {
    type Item = LayerEntity<'s>;

    fn next(&mut self) -> Option<Self::Item> {
        let (id, slot) = self.slots.next()?;
        let slot = self.memory.get(slot);
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

impl ExactSizeIterator for FrozenEntities<'_> {}
