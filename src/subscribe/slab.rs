//! Values at stable small indices, in one allocation, with vacant places reused.

/// An index that no value has: the end of a list.
pub(super) const NONE: u32 = u32::MAX;

/// See the module.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    /// The first of the chain of vacant slots.
    vacant: u32,
}

#[derive(Debug)]
enum Slot<T> {
    Occupied(T),
    Vacant { next: u32 },
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            vacant: NONE,
        }
    }

    /// # Panics
    /// At 2^32 - 1 values; callers hold far fewer.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if self.vacant == NONE {
            let index = u32::try_from(self.slots.len()).expect("fewer than 2^32 values");
            assert!(index != NONE, "fewer than 2^32 - 1 values");
            self.slots.push(Slot::Occupied(value));
            return index;
        }
        let index = self.vacant;
        let slot = &mut self.slots[index as usize];
        let Slot::Vacant { next } = *slot else {
            unreachable!("the chain of vacant slots holds vacant ones only")
        };
        *slot = Slot::Occupied(value);
        self.vacant = next;
        index
    }

    /// # Panics
    /// If no value has that index, as do the two below.
    pub(super) fn remove(&mut self, index: u32) -> T {
        let vacated = Slot::Vacant { next: self.vacant };
        match std::mem::replace(&mut self.slots[index as usize], vacated) {
            Slot::Occupied(value) => {
                self.vacant = index;
                value
            }
            Slot::Vacant { .. } => unreachable!("indices name occupied slots"),
        }
    }

    pub(super) fn get(&self, index: u32) -> &T {
        match &self.slots[index as usize] {
            Slot::Occupied(value) => value,
            Slot::Vacant { .. } => unreachable!("indices name occupied slots"),
        }
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut T {
        match &mut self.slots[index as usize] {
            Slot::Occupied(value) => value,
            Slot::Vacant { .. } => unreachable!("indices name occupied slots"),
        }
    }

    pub(super) const fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<T>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vacant_places_are_reused_and_others_stay() {
        let mut slab = Slab::new();
        let indices = ["a", "b", "c"].map(|value| slab.insert(value));
        assert_eq!(slab.remove(indices[0]), "a");
        assert_eq!(slab.remove(indices[2]), "c");
        let heap_bytes = slab.heap_bytes();
        assert_eq!(slab.insert("d"), indices[2]);
        assert_eq!(slab.insert("e"), indices[0]);
        assert_eq!(slab.heap_bytes(), heap_bytes);
        *slab.get_mut(indices[1]) = "f";
        assert_eq!(indices.map(|index| *slab.get(index)), ["e", "f", "d"]);
    }
}
