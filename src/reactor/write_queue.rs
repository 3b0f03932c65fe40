//! The connections that something waits for, in two lists: answers go first, since each pushed
//! update would delay them and one answer delays the updates of all but little.
//!
//! Each list is worked off in slices. A flush may answer ten thousand clients, and one change may
//! concern as many subscribers; a send to each in one go would keep the core for 50 ms. What a
//! connection is given while it waits in a list goes with the same send.

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    /// HTTP connections, in the order in which they joined.
    pub(super) answers: Vec<u32>,
    /// WebSocket connections.
    pub(super) pushes: Vec<u32>,
}

impl WriteQueue {
    /// True if no connection is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.pushes.is_empty()
    }

    /// All connections.
    pub(super) fn each(&self) -> impl Iterator<Item = u32> + '_ {
        self.answers.iter().chain(&self.pushes).copied()
    }

    /// Puts in front what is left of the two lists after a slice of each. `answers` and `pushes`
    /// keep their memory.
    pub(super) fn put_back(&mut self, mut answers: Vec<u32>, mut pushes: Vec<u32>) {
        answers.append(&mut self.answers);
        pushes.append(&mut self.pushes);
        (self.answers, self.pushes) = (answers, pushes);
    }
}

/// Works on the front of a list until `work` says that its slice is over, and takes off what was
/// worked on.
pub(super) fn slice(list: &mut Vec<u32>, mut work: impl FnMut(u32) -> bool) {
    let mut done = 0;
    for &index in &*list {
        done += 1;
        if work(index) {
            break;
        }
    }
    list.drain(..done);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_takes_the_front_and_what_joins_goes_behind_the_rest() {
        let mut queue = WriteQueue {
            answers: vec![1, 2, 3],
            pushes: vec![7],
        };
        let mut taken = Vec::new();
        let (mut answers, pushes) = (
            std::mem::take(&mut queue.answers),
            std::mem::take(&mut queue.pushes),
        );
        slice(&mut answers, |index| {
            taken.push(index);
            queue.answers.push(10 + index);
            taken.len() == 2
        });
        queue.put_back(answers, pushes);
        assert_eq!(taken, [1, 2]);
        assert_eq!(queue.each().collect::<Vec<_>>(), [3, 11, 12, 7]);
    }

    #[test]
    fn a_slice_takes_one_at_least_and_all_if_it_may() {
        let mut list = vec![1, 2, 3];
        slice(&mut list, |_| true);
        assert_eq!(list, [2, 3]);
        slice(&mut list, |_| false);
        assert!(list.is_empty());
        slice(&mut list, |_| unreachable!("there is nothing"));
    }
}
