//! What a checkpoint writes: the entities of a memory that no longer changes.

use flux_storage::{LayerEntity, MergedRuns};

use super::ahead::Ahead;
use super::memory::Memory;

/// Lifted slots that are sorted at a time: about half a millisecond's work, most of it cache
/// misses.
const RUN_SLOTS: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Frozen(pub(super) Memory);

impl Frozen {
    /// Number of entities and markers.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if nothing changed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All entities, ascending by id, in the form that a layer keeps. Promoted entities are in no
    /// order, so this sorts them; it calls `rest` after each fraction of a millisecond of that.
    pub fn entities(&self, rest: &mut dyn FnMut()) -> FrozenEntities<'_> {
        let memory = &self.0;
        let mut runs = vec![Run {
            memory,
            slots: RunSlots::Ordered(Ahead::new(memory, memory.in_order())),
        }];
        let mut promoted = memory.promoted().peekable();
        while promoted.peek().is_some() {
            let mut slots: Vec<u32> = promoted.by_ref().take(RUN_SLOTS).collect();
            slots.sort_unstable_by_key(|&slot| memory.get(slot).block.id());
            runs.push(Run {
                memory,
                slots: RunSlots::Promoted(slots.into_iter()),
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
    Promoted(std::vec::IntoIter<u32>),
}

impl<'s> Iterator for Run<'s> {
    type Item = (&'s str, u32);

    fn next(&mut self) -> Option<Self::Item> {
        let slot = match &mut self.slots {
            RunSlots::Ordered(slots) => slots.next(),
            RunSlots::Promoted(slots) => slots.next(),
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
