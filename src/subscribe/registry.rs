//! Who wants which entities: filters in, subscribers of an id out.
//!
//! Used twice on an event's way: a shard asks which cores want it (`K` is the core's index), and
//! each of those cores asks which of its connections do (`K` is the connection's number).
//!
//! Cost of [`Registry::matches`]: one hash of the id, one walk down the prefix tree of at most the
//! id's length, and the subscribers that it hits. The number of other filters does not matter.

use std::hash::Hash;

use hashbrown::HashMap;

use super::filter::Filter;
use super::prefix_tree::PrefixTree;
use super::subscribers::Subscribers;

/// Counted subscriptions of keys to filters.
#[derive(Debug)]
pub struct Registry<K> {
    exact: HashMap<Box<str>, Subscribers<K>>,
    /// Also holds [`Filter::All`], as the empty prefix.
    prefixes: PrefixTree<K>,
}

impl<K> Default for Registry<K> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            prefixes: PrefixTree::default(),
        }
    }
}

impl<K: Copy + Ord + Hash> Registry<K> {
    /// A registry without subscriptions; it holds no heap.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a subscription. The same key may hold several to the same filter; each must be taken
    /// back.
    pub fn subscribe(&mut self, key: K, filter: &Filter) {
        match filter {
            Filter::All => self.prefixes.subscribe(key, ""),
            Filter::Prefix(prefix) => self.prefixes.subscribe(key, prefix),
            // The text is copied only for the first subscription to it.
            Filter::Exact(id) => match self.exact.get_mut(&**id) {
                Some(keys) => keys.add(key),
                None => self.exact.entry(id.clone()).or_default().add(key),
            },
        }
    }

    /// Takes one subscription back; false if `key` holds none to that filter.
    pub fn unsubscribe(&mut self, key: K, filter: &Filter) -> bool {
        match filter {
            Filter::All => self.prefixes.unsubscribe(key, ""),
            Filter::Prefix(prefix) => self.prefixes.unsubscribe(key, prefix),
            Filter::Exact(id) => self.unsubscribe_exact(key, id),
        }
    }

    /// Replaces `hits` with the keys that have a matching subscription, ascending, each once.
    /// Allocates only if `hits` is too small.
    pub fn matches(&self, entity_id: &str, hits: &mut Vec<K>) {
        hits.clear();
        let mut lists = 0;
        let mut collect = |subscribers: &Subscribers<K>| {
            hits.extend(subscribers.keys());
            lists += 1;
        };
        self.prefixes.visit_prefixes_of(entity_id, &mut collect);
        if let Some(subscribers) = self.exact.get(entity_id) {
            collect(subscribers);
        }
        // Each list is ordered and free of repeats already.
        if lists > 1 {
            hits.sort_unstable();
            hits.dedup();
        }
    }

    /// True if nobody subscribes to anything.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    fn unsubscribe_exact(&mut self, key: K, id: &str) -> bool {
        let Some(subscribers) = self.exact.get_mut(id) else {
            return false;
        };
        let removed = subscribers.remove(key);
        if subscribers.is_empty() {
            self.exact.remove(id);
            if self.exact.is_empty() {
                self.exact = HashMap::new();
            }
            // A quarter, so that a table near its size does not grow and shrink by turns.
            if self.exact.len() < self.exact.capacity() / 4 {
                self.exact.shrink_to(self.exact.len() * 2);
            }
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    fn hits(registry: &Registry<u32>, id: &str) -> Vec<u32> {
        // What was in the vector before must not show.
        let mut hits = vec![99];
        registry.matches(id, &mut hits);
        hits
    }

    fn filter(pattern: &str) -> Filter {
        Filter::parse(pattern).unwrap()
    }

    #[test]
    fn a_key_with_several_matching_filters_is_hit_once() {
        let mut registry = Registry::new();
        for pattern in ["*", "house/*", "house/r*", "house/room", "house/room"] {
            registry.subscribe(2, &filter(pattern));
        }
        registry.subscribe(1, &filter("house/room"));
        assert_eq!(hits(&registry, "house/room"), [1, 2]);
        assert_eq!(hits(&registry, "garden"), [2]);
    }

    #[test]
    fn a_prefix_and_an_id_of_the_same_text_are_two_filters() {
        let mut registry = Registry::new();
        registry.subscribe(1, &filter("room*"));
        registry.subscribe(2, &filter("room"));
        assert_eq!(hits(&registry, "room"), [1, 2]);
        assert!(!registry.unsubscribe(1, &filter("room")));
        assert!(!registry.unsubscribe(2, &filter("*")));
        assert_eq!(hits(&registry, "rooms"), [1]);
    }

    #[test]
    fn matching_agrees_with_asking_every_filter() {
        for seed in 1..=20 {
            let mut random = Rng::with_seed(seed);
            let mut registry = Registry::new();
            let mut model: Vec<(u32, Filter)> = Vec::new();
            for step in 0..600 {
                let (key, filter) = (random.u32(..6), filter(&random_pattern(&mut random)));
                if random.u32(..100) < 60 {
                    registry.subscribe(key, &filter);
                    model.push((key, filter));
                } else {
                    let held = model
                        .iter()
                        .position(|entry| *entry == (key, filter.clone()));
                    let removed = registry.unsubscribe(key, &filter);
                    assert_eq!(removed, held.is_some(), "seed {seed} step {step} {filter}");
                    held.map(|index| model.swap_remove(index));
                }
                let id = random_id(&mut random);
                let mut expected: Vec<u32> = model
                    .iter()
                    .filter(|(_, filter)| filter.matches(&id))
                    .map(|(key, _)| *key)
                    .collect();
                expected.sort_unstable();
                expected.dedup();
                assert_eq!(
                    hits(&registry, &id),
                    expected,
                    "seed {seed} step {step} {id}"
                );
                assert_eq!(registry.is_empty(), model.is_empty());
            }
            for (key, filter) in model {
                assert!(registry.unsubscribe(key, &filter), "seed {seed} {filter}");
            }
            assert_holds_nothing(&registry);
        }
    }

    #[test]
    fn ten_thousand_filters_come_and_go_without_a_trace() {
        let mut registry = Registry::new();
        let patterns = |index: u32| [format!("ns-{index}/*"), format!("ns-{index}/room")];
        for index in 0..5_000 {
            for pattern in patterns(index) {
                registry.subscribe(index, &filter(&pattern));
            }
        }
        assert_eq!(hits(&registry, "ns-777/room"), [777]);
        assert!(registry.prefixes.node_count() < 10_000);
        for index in (0..5_000).rev() {
            for pattern in patterns(index) {
                assert!(registry.unsubscribe(index, &filter(&pattern)));
            }
        }
        assert_holds_nothing(&registry);
    }

    fn assert_holds_nothing(registry: &Registry<u32>) {
        assert!(registry.is_empty());
        assert_eq!(registry.prefixes.node_count(), 0);
        assert_eq!(registry.exact.capacity(), 0);
    }

    /// Few letters, so that ids and prefixes meet; of two bytes too, so that labels split within a
    /// character.
    fn random_id(random: &mut Rng) -> String {
        let len = 1 + random.u32(..6);
        (0..len)
            .map(|_| ['a', 'b', '/', 'ä', 'ö'][random.usize(..5)])
            .collect()
    }

    fn random_pattern(random: &mut Rng) -> String {
        match random.u32(..10) {
            0 => "*".to_owned(),
            1..=5 => random_id(random) + "*",
            _ => random_id(random),
        }
    }
}
