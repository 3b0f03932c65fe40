//! When entities of a memtable expire: a heap by time, which knows the place of each slot in it.
//!
//! ```text
//!   heap        | due, slot | due, slot | ...        the earliest first, four children to a node
//!   positions   slot ──▶ where in the heap it is     in chunks, only where slots expire
//! ```
//!
//! A lease that is renewed moves within the heap: there is one node for each slot and nothing
//! stale, however often it is renewed. 20 bytes for each slot, and a fraction in reserve.
//!
//! Slots that do not expire cost nothing, unless they share a chunk with one that does.

use super::allocation_bytes;
use crate::model::Timestamp;

/// Slots whose positions lie together.
const CHUNK_SLOTS: usize = 256;
/// The position of a slot that is not in the heap.
const NOWHERE: u32 = u32::MAX;
/// A node's children lie side by side: half as many cache misses as with two.
const CHILDREN: usize = 4;
/// The heap grows by this part of itself: doubling would leave half of it empty.
const GROWTH: usize = 8;
const NODES_MIN: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Node {
    due: Timestamp,
    slot: u32,
}

/// See the module.
#[derive(Debug, Default, Clone)]
pub(super) struct Deadlines {
    heap: Vec<Node>,
    positions: Vec<Option<Box<[u32; CHUNK_SLOTS]>>>,
}

impl Deadlines {
    /// The earliest time, and its slot.
    pub(super) fn first(&self) -> Option<(Timestamp, u32)> {
        self.heap.first().map(|node| (node.due, node.slot))
    }

    /// The deadline of a slot, if it has one.
    pub(super) fn get(&self, slot: u32) -> Option<Timestamp> {
        self.position(slot).map(|at| self.heap[at].due)
    }

    /// How many slots have one.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.heap.len()
    }

    /// A slot has this deadline from now on. Cost: logarithmic.
    pub(super) fn set(&mut self, slot: u32, due: Timestamp) {
        let at = match self.position(slot) {
            Some(at) => at,
            None => self.add(slot),
        };
        self.heap[at].due = due;
        let at = self.rise(at);
        self.sink(at);
    }

    /// A slot has none from now on. Cost: logarithmic.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(at) = self.position(slot) else {
            return;
        };
        self.set_position(slot, NOWHERE);
        self.heap.swap_remove(at);
        if let Some(moved) = self.heap.get(at) {
            self.set_position(moved.slot, index_u32(at));
            let at = self.rise(at);
            self.sink(at);
        }
        if self.heap.is_empty() {
            *self = Self::default();
        }
    }

    fn add(&mut self, slot: u32) -> usize {
        let at = self.heap.len();
        if at == self.heap.capacity() {
            self.heap.reserve_exact((at / GROWTH).max(NODES_MIN));
        }
        let due = Timestamp::default();
        self.heap.push(Node { due, slot });
        self.set_position(slot, index_u32(at));
        at
    }

    /// Moves a node towards the root, past later ones. Returns where it is then.
    fn rise(&mut self, mut at: usize) -> usize {
        let node = self.heap[at];
        while at > 0 {
            let parent = (at - 1) / CHILDREN;
            if self.heap[parent].due <= node.due {
                break;
            }
            self.put(at, self.heap[parent]);
            at = parent;
        }
        self.put(at, node);
        at
    }

    /// Moves a node away from the root, past earlier ones.
    fn sink(&mut self, mut at: usize) {
        let node = self.heap[at];
        loop {
            let first = at * CHILDREN + 1;
            let children = first..(first + CHILDREN).min(self.heap.len());
            let earliest = children.min_by_key(|&child| self.heap[child].due);
            match earliest {
                Some(child) if self.heap[child].due < node.due => {
                    self.put(at, self.heap[child]);
                    at = child;
                }
                _ => break,
            }
        }
        self.put(at, node);
    }

    fn put(&mut self, at: usize, node: Node) {
        self.heap[at] = node;
        self.set_position(node.slot, index_u32(at));
    }

    fn position(&self, slot: u32) -> Option<usize> {
        let (chunk, index) = split(slot);
        let at = self.positions.get(chunk)?.as_ref()?[index];
        (at != NOWHERE).then_some(at as usize)
    }

    fn set_position(&mut self, slot: u32, at: u32) {
        let (chunk, index) = split(slot);
        if chunk >= self.positions.len() {
            self.positions.resize_with(chunk + 1, || None);
        }
        let chunk = &mut self.positions[chunk];
        chunk.get_or_insert_with(|| Box::new([NOWHERE; CHUNK_SLOTS]))[index] = at;
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let chunks = self.positions.iter().flatten().count();
        allocation_bytes(self.heap.capacity() * size_of::<Node>())
            + allocation_bytes(self.positions.capacity() * size_of::<usize>())
            + chunks * allocation_bytes(CHUNK_SLOTS * size_of::<u32>())
    }
}

fn split(slot: u32) -> (usize, usize) {
    let slot = slot as usize;
    (slot / CHUNK_SLOTS, slot % CHUNK_SLOTS)
}

fn index_u32(at: usize) -> u32 {
    u32::try_from(at).expect("there are fewer deadlines than slots, which are numbered by u32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;
    use std::collections::BTreeMap;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn the_earliest_comes_first_however_deadlines_are_set_moved_and_removed() {
        for seed in 0..20 {
            let mut random = Rng::with_seed(seed);
            let mut deadlines = Deadlines::default();
            let mut model = BTreeMap::new();
            let slots = random.u32(1..2000);
            for _ in 0..10_000 {
                let slot = random.u32(..slots);
                if random.u8(..4) == 0 {
                    deadlines.remove(slot);
                    model.remove(&slot);
                } else {
                    let due = at(random.i64(..1000));
                    deadlines.set(slot, due);
                    model.insert(slot, due);
                }
                assert_eq!(deadlines.len(), model.len(), "seed {seed}");
                let first = model.values().min();
                assert_eq!(deadlines.first().map(|(due, _)| due), first.copied());
            }
            while let Some((due, slot)) = deadlines.first() {
                assert_eq!(model.remove(&slot), Some(due), "seed {seed}");
                assert!(model.values().all(|other| *other >= due), "seed {seed}");
                deadlines.remove(slot);
            }
            assert!(model.is_empty(), "seed {seed}");
            assert_eq!(deadlines.heap_bytes(), 0, "an empty heap keeps nothing");
        }
    }

    #[test]
    fn a_million_deadlines_take_less_than_32_bytes_each_also_after_renewals() {
        let mut deadlines = Deadlines::default();
        for round in 0..3_i64 {
            for slot in 0..1_000_000_u32 {
                deadlines.set(
                    slot,
                    at(round + i64::from(slot.wrapping_mul(2_654_435_761))),
                );
                if slot % 100_000 == 0 && slot > 0 {
                    let bytes = deadlines.heap_bytes() / deadlines.len();
                    assert!(bytes < 32, "{bytes} of {slot}");
                }
            }
        }
        assert_eq!(deadlines.len(), 1_000_000);
    }
}
