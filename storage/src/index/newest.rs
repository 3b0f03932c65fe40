//! Places from the newest on, sorted only as far as they are asked for.
//!
//! A namespace's records are many and come from the index by key, while a page of history wants the
//! newest hundred. Selecting those costs one pass; each further batch is four times as large, so
//! that even who takes everything pays for no more than a sort and a few passes.

use crate::format::index::Place;

/// The first batch: somewhat more than the usual page of a hundred.
const FIRST_BATCH: usize = 128;
const BATCH_GROWTH: usize = 4;

/// Yields places in descending order.
#[derive(Debug)]
pub(crate) struct Newest {
    places: Vec<Place>,
    /// From here on they are sorted, and none before is greater.
    sorted_from: usize,
    batch: usize,
}

impl Newest {
    pub(crate) fn new(places: Vec<Place>) -> Self {
        let sorted_from = places.len();
        Self {
            places,
            sorted_from,
            batch: FIRST_BATCH,
        }
    }

    fn sort_batch(&mut self) {
        let start = self.places.len().saturating_sub(self.batch);
        if start > 0 {
            self.places.select_nth_unstable(start);
        }
        if let Some(batch) = self.places.get_mut(start..) {
            batch.sort_unstable();
        }
        self.sorted_from = start;
        self.batch = self.batch.saturating_mul(BATCH_GROWTH);
    }
}

impl Iterator for Newest {
    type Item = Place;

    fn next(&mut self) -> Option<Place> {
        if self.places.len() == self.sorted_from {
            self.sort_batch();
        }
        self.places.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_newest_first_whatever_their_number_and_order() {
        for count in [0, 1, 127, 128, 129, 640, 641, 5000] {
            // A step that is coprime to the count visits every place once.
            let scrambled = (0..count).map(|number| Place::of(number * 7919 % count * 8));
            let found: Vec<_> = Newest::new(scrambled.collect()).collect();
            let expected: Vec<_> = (0..count)
                .rev()
                .map(|number| Place::of(number * 8))
                .collect();
            assert_eq!(found, expected, "{count} places");
        }
    }
}
