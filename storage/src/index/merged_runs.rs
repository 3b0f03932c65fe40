//! Several ascending runs as one.
//!
//! What is sorted run by run and then merged can be sorted bit by bit, with pauses between, by a
//! thread that shares its processor.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// The items of all runs, ascending; of equal ones that of the earlier run first. Cost of each:
/// logarithmic in the number of runs.
#[derive(Debug)]
pub struct MergedRuns<I: Iterator> {
    /// The next item of each run that has one, with the run's number.
    heads: BinaryHeap<Reverse<(I::Item, usize)>>,
    runs: Vec<I>,
}

impl<I: Iterator<Item: Ord>> MergedRuns<I> {
    /// Takes the first item of each run.
    pub fn new(mut runs: Vec<I>) -> Self {
        let numbered = runs.iter_mut().enumerate();
        let heads = numbered.filter_map(|(number, run)| Some(Reverse((run.next()?, number))));
        Self {
            heads: heads.collect(),
            runs,
        }
    }
}

impl<I: Iterator<Item: Ord>> Iterator for MergedRuns<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let mut head = self.heads.peek_mut()?;
        let number = head.0.1;
        match self.runs.get_mut(number).and_then(Iterator::next) {
            Some(following) => Some(std::mem::replace(&mut head.0.0, following)),
            None => Some(PeekMut::pop(head).0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_runs_are_all_their_items_ascending() {
        let run = |step: usize, count: usize| {
            let mut run: Vec<_> = (1..=count).map(|number| number * step % 97).collect();
            run.sort_unstable();
            run
        };
        let runs = vec![run(3, 100), Vec::new(), run(5, 1), run(7, 300)];
        let mut expected = runs.concat();
        expected.sort_unstable();
        let merged = MergedRuns::new(runs.into_iter().map(Vec::into_iter).collect());
        assert_eq!(merged.collect::<Vec<_>>(), expected);
    }
}
