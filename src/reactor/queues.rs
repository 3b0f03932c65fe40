//! Connections that wait to be worked on, in lists.
//!
//! Those whose last slices were small (`turns`) go first. Otherwise a small request would wait
//! behind each neighbour that asks for mebibytes, and its answer behind theirs. New connections
//! come next, until their first request is worked on: thousands may connect at once, and what they
//! are going to ask for is not known.
//! Pushed updates come after answers: each update would delay them, and one answer delays the
//! updates of all but little.
//!
//! Each list is worked off in slices. A flush may answer ten thousand clients, and one change may
//! concern as many subscribers; a send to each in one go would keep the core for 50 ms. What a
//! connection is given while it waits in a list goes with the same send.

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Indexes of connections, in the order in which they joined: what they ask for is small.
    pub(super) small: Vec<u32>,
    /// They have asked for nothing yet. Only in a queue of connections to read from.
    pub(super) fresh: Vec<u32>,
    /// They are pushed updates. Only in a queue of connections to write to.
    pub(super) pushes: Vec<u32>,
    /// What they ask for is large.
    pub(super) heavy: Vec<u32>,
}

impl Queue {
    /// True if no connection is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.each().next().is_none()
    }

    /// All connections.
    pub(super) fn each(&self) -> impl Iterator<Item = u32> + '_ {
        let lists = [&self.small, &self.fresh, &self.pushes, &self.heavy];
        lists.into_iter().flatten().copied()
    }

    /// Puts in front what is left of the lists after a slice of each. They keep their memory.
    pub(super) fn put_back(&mut self, mut left: Self) {
        left.small.append(&mut self.small);
        left.fresh.append(&mut self.fresh);
        left.pushes.append(&mut self.pushes);
        left.heavy.append(&mut self.heavy);
        *self = left;
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
        let mut queue = Queue {
            small: vec![1, 2, 3],
            fresh: vec![6],
            pushes: vec![7],
            heavy: vec![8, 9],
        };
        let mut taken = Vec::new();
        let mut left = std::mem::take(&mut queue);
        slice(&mut left.small, |index| {
            taken.push(index);
            queue.small.push(10 + index);
            taken.len() == 2
        });
        queue.put_back(left);
        assert_eq!(taken, [1, 2]);
        assert_eq!(queue.each().collect::<Vec<_>>(), [3, 11, 12, 6, 7, 8, 9]);
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
