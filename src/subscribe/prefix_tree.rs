//! Prefix filters and their subscribers: a radix tree over the bytes of the prefix.
//!
//! ```text
//! (root: "*") ── "house/" ──┬── "kitchen/"        "house/*", "house/kitchen/*", "house/kids"
//!                           └── "kids"
//! ```
//!
//! Finding all prefixes of an id walks one path down, at most as many steps as the id has bytes,
//! however many filters there are. Asking a hash table for every length of the id would hash it
//! once per length; a sorted list would have to step over unrelated neighbours.
//!
//! Invariants: every node but the root has subscribers or at least two children; siblings differ in
//! their first byte and are ordered by it. So there are fewer than two nodes per filter, none
//! without filters, and the depth is at most the length of the longest prefix. Labels may split a
//! character: only whole texts go in and are compared.

use super::subscribers::Subscribers;

/// Subscribers by prefix. Each node owns its children, so what is removed is freed at once.
#[derive(Debug)]
pub(super) struct PrefixTree<K> {
    root: Node<K>,
}

#[derive(Debug)]
struct Node<K> {
    /// The bytes between the parent's prefix and this one; empty only in the root.
    label: Box<[u8]>,
    subscribers: Subscribers<K>,
    /// Ascending by the first byte of the label, which is unique among them.
    children: Vec<Self>,
}

impl<K> Default for PrefixTree<K> {
    fn default() -> Self {
        Self {
            root: Node::new(&[]),
        }
    }
}

impl<K: Copy + Ord> PrefixTree<K> {
    pub(super) fn subscribe(&mut self, key: K, prefix: &str) {
        let mut node = &mut self.root;
        let mut rest = prefix.as_bytes();
        while !rest.is_empty() {
            let index = match node.child_position(rest[0]) {
                Ok(index) => {
                    let child = &mut node.children[index];
                    let shared = shared_len(&child.label, rest);
                    if shared < child.label.len() {
                        child.split(shared);
                    }
                    rest = &rest[shared..];
                    index
                }
                Err(index) => {
                    node.children.insert(index, Node::new(rest));
                    rest = &[];
                    index
                }
            };
            node = &mut node.children[index];
        }
        node.subscribers.add(key);
    }

    /// Takes one subscription back; false if there was none.
    pub(super) fn unsubscribe(&mut self, key: K, prefix: &str) -> bool {
        self.root.unsubscribe(key, prefix.as_bytes())
    }

    /// Calls `visit` with the subscribers of every prefix of `entity_id`, shortest first.
    pub(super) fn visit_prefixes_of(
        &self,
        entity_id: &str,
        mut visit: impl FnMut(&Subscribers<K>),
    ) {
        let mut node = &self.root;
        let mut rest = entity_id.as_bytes();
        loop {
            if !node.subscribers.is_empty() {
                visit(&node.subscribers);
            }
            let Some(&first) = rest.first() else {
                return;
            };
            let Ok(index) = node.child_position(first) else {
                return;
            };
            node = &node.children[index];
            let Some(after) = rest.strip_prefix(&*node.label) else {
                return;
            };
            rest = after;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.root.subscribers.is_empty() && self.root.children.is_empty()
    }
}

impl<K> Node<K> {
    fn new(label: &[u8]) -> Self {
        Self {
            label: label.into(),
            subscribers: Subscribers::default(),
            children: Vec::new(),
        }
    }

    /// Where the child whose label begins with `first` is, or would have to be inserted.
    fn child_position(&self, first: u8) -> Result<usize, usize> {
        self.children
            .binary_search_by_key(&first, |child| child.label[0])
    }

    /// Cuts the label after `at` bytes; what this node was becomes its only child.
    fn split(&mut self, at: usize) {
        let lower = Self {
            label: self.label[at..].into(),
            subscribers: std::mem::take(&mut self.subscribers),
            children: std::mem::take(&mut self.children),
        };
        self.label = self.label[..at].into();
        self.children.push(lower);
    }

    /// Merges with an only child: undoes [`Node::split`] when its reason is gone.
    fn absorb_only_child(&mut self) {
        if let Some(child) = self.children.pop() {
            self.label = [&*self.label, &*child.label].concat().into();
            self.subscribers = child.subscribers;
            self.children = child.children;
        }
    }
}

impl<K: Copy + Ord> Node<K> {
    /// Recursion is as deep as the tree: at most the bytes of an id.
    fn unsubscribe(&mut self, key: K, rest: &[u8]) -> bool {
        let Some(&first) = rest.first() else {
            return self.subscribers.remove(key);
        };
        let Ok(index) = self.child_position(first) else {
            return false;
        };
        let child = &mut self.children[index];
        let Some(rest) = rest.strip_prefix(&*child.label) else {
            return false;
        };
        if !child.unsubscribe(key, rest) {
            return false;
        }
        if child.subscribers.is_empty() {
            match child.children.len() {
                0 => self.remove_child(index),
                1 => child.absorb_only_child(),
                _ => {}
            }
        }
        true
    }

    fn remove_child(&mut self, index: usize) {
        self.children.remove(index);
        if self.children.len() < self.children.capacity() / 4 {
            self.children.shrink_to(self.children.len() * 2);
        }
    }
}

fn shared_len(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
impl<K> PrefixTree<K> {
    /// Nodes below the root.
    pub(super) fn node_count(&self) -> usize {
        fn below<K>(node: &Node<K>) -> usize {
            node.children.iter().map(|child| 1 + below(child)).sum()
        }
        below(&self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes_of(tree: &PrefixTree<u32>, id: &str) -> Vec<u32> {
        let mut found = Vec::new();
        tree.visit_prefixes_of(id, |subscribers| found.extend(subscribers.keys()));
        found
    }

    #[test]
    fn prefixes_are_found_shortest_first() {
        let mut tree = PrefixTree::default();
        for (key, prefix) in [(3, "house/ki"), (1, "ho"), (4, "house/kü"), (2, "house/")] {
            tree.subscribe(key, prefix);
        }
        let check = |id, expected: &[u32]| assert_eq!(prefixes_of(&tree, id), expected, "{id}");
        check("h", &[]);
        check("ho", &[1]);
        check("house", &[1]);
        check("house/", &[1, 2]);
        check("house/kitchen", &[1, 2, 3]);
        check("house/küche", &[1, 2, 4]);
        check("house/kö", &[1, 2]);
        check("hat", &[]);
    }

    #[test]
    fn removal_undoes_every_split() {
        let prefixes = ["a", "ab", "abcd", "abce", "abcdf", "b", "ä", "ö"];
        for first_removed in 0..prefixes.len() {
            let mut tree = PrefixTree::default();
            for prefix in prefixes {
                tree.subscribe(1, prefix);
            }
            for index in 0..prefixes.len() {
                let prefix = prefixes[(first_removed + index) % prefixes.len()];
                assert!(tree.unsubscribe(1, prefix), "{prefix}");
                assert!(!tree.unsubscribe(1, prefix), "{prefix}");
                assert!(tree.node_count() < 2 * (prefixes.len() - index));
            }
            assert_eq!(tree.node_count(), 0);
            assert!(tree.is_empty());
        }
    }
}
