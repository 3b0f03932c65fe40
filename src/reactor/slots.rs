//! Values under small numbers that are reused: a core's connections.

/// Values by index. A value can be taken out, worked with beside the others, and put back.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    entries: Vec<Slot<T>>,
    free: Vec<u32>,
    count: usize,
}

#[derive(Debug)]
struct Slot<T> {
    value: Option<Box<T>>,
    generation: u32,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            count: 0,
        }
    }
}

impl<T> Slots<T> {
    /// Takes an index for a value that [`Slots::put_back`] brings, and says how often it was taken
    /// before. `None` at 2³² values.
    pub(crate) fn reserve(&mut self) -> Option<(u32, u32)> {
        let index = if let Some(index) = self.free.pop() {
            index
        } else {
            let index = u32::try_from(self.entries.len()).ok()?;
            self.entries.push(Slot {
                value: None,
                generation: 0,
            });
            index
        };
        self.count += 1;
        Some((index, self.entries.get(index as usize)?.generation))
    }

    /// Takes the value out; the index stays its own.
    pub(crate) fn take(&mut self, index: u32) -> Option<Box<T>> {
        self.entries.get_mut(index as usize)?.value.take()
    }

    /// Puts a value under an index that is reserved for it.
    pub(crate) fn put_back(&mut self, index: u32, value: Box<T>) {
        if let Some(slot) = self.entries.get_mut(index as usize) {
            slot.value = Some(value);
        }
    }

    /// Frees an index.
    pub(crate) fn release(&mut self, index: u32) {
        if let Some(slot) = self.entries.get_mut(index as usize) {
            slot.value = None;
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(index);
            self.count -= 1;
        }
    }

    /// The value under an index.
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.entries.get(index as usize)?.value.as_deref()
    }

    /// The value under an index.
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.entries.get_mut(index as usize)?.value.as_deref_mut()
    }

    /// Every index that may hold a value.
    pub(crate) fn indexes(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    /// True if no index is taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_reused_under_another_generation() {
        let mut slots = Slots::default();
        let (index, first) = slots.reserve().unwrap();
        slots.put_back(index, Box::new("a"));
        assert_eq!(slots.get_mut(index).copied(), Some("a"));
        let value = slots.take(index).unwrap();
        assert!(slots.get_mut(index).is_none());
        slots.put_back(index, value);
        slots.release(index);
        assert!(slots.is_empty());
        let (again, second) = slots.reserve().unwrap();
        assert_eq!(again, index);
        assert_ne!(second, first);
    }
}
