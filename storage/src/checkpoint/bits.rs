//! A fixed set of bits that several threads may set.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits by index, all clear at first.
#[derive(Debug)]
pub(super) struct AtomicBits {
    words: Box<[AtomicU64]>,
}

impl AtomicBits {
    pub(super) fn new(count: usize) -> Self {
        let words = (0..count.div_ceil(64)).map(|_| AtomicU64::new(0));
        Self {
            words: words.collect(),
        }
    }

    /// False also of an index that is out of range.
    pub(super) fn get(&self, index: usize) -> bool {
        let word = self.words.get(index / 64);
        // Nothing is published with a bit: what it speaks of was there before and never changes.
        word.is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (index % 64)) != 0)
    }

    pub(super) fn set(&self, index: usize) {
        if let Some(word) = self.words.get(index / 64) {
            word.fetch_or(1 << (index % 64), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_is_set_alone() {
        let bits = AtomicBits::new(130);
        for index in [0, 63, 64, 129] {
            bits.set(index);
        }
        let set: Vec<usize> = (0..300).filter(|&index| bits.get(index)).collect();
        assert_eq!(set, [0, 63, 64, 129]);
    }
}
