//! What one subscription is to: a pattern, or several.
//!
//! Several are in order of their ids, and none of them covers another. So an id belongs to one of
//! them at most, and a walk through them one after the other meets ids in their order.

use std::sync::Arc;

use super::filter::Filter;
use crate::model::{CursorScope, namespace_of, place_key};

/// What the allocator adds to a text, bytes, rounded up.
const PATTERN_OVERHEAD_BYTES: usize = 32;

/// See the module. Never none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Patterns {
    /// One.
    One(Filter),
    /// Two or more.
    Several(Arc<[Filter]>),
}

impl Patterns {
    /// These patterns, without any that another of them covers. Of none: everything.
    pub fn of(mut filters: Vec<Filter>) -> Self {
        filters.sort_unstable_by(|one, other| (text(one), one).cmp(&(text(other), other)));
        let mut kept: Vec<Filter> = Vec::with_capacity(filters.len());
        for filter in filters {
            // What covers it begins before it, and all between the two is covered as well.
            if !kept.last().is_some_and(|last| covers(last, &filter)) {
                kept.push(filter);
            }
        }
        match kept.len() {
            0 => Self::One(Filter::All),
            1 => kept.pop().map_or(Self::One(Filter::All), Self::One),
            _ => Self::Several(kept.into()),
        }
    }

    /// Each of them, in order.
    pub fn each(&self) -> &[Filter] {
        match self {
            Self::One(filter) => std::slice::from_ref(filter),
            Self::Several(filters) => filters,
        }
    }

    /// True if the id belongs to one of them.
    pub fn matches(&self, entity_id: &str) -> bool {
        self.each().iter().any(|filter| filter.matches(entity_id))
    }

    /// The placement key that all their ids share, or `None` if they may lie on several shards.
    pub fn concerns_single_placement(&self) -> Option<&str> {
        self.shared(Filter::concerns_single_placement)
    }

    /// The one namespace, or the one id without a namespace, that all their ids belong to.
    pub fn scope(&self) -> Option<CursorScope<'_>> {
        self.shared(|filter| match filter {
            Filter::All => None,
            Filter::Prefix(prefix) => namespace_of(prefix).map(CursorScope::Namespace),
            Filter::Exact(id) => Some(CursorScope::of(id)),
        })
    }

    /// True if ids of theirs may lie on this shard, one of `count`.
    pub fn concern(&self, shard: u16, count: u16) -> bool {
        self.each().iter().any(|filter| {
            let key = filter.concerns_single_placement();
            key.is_none_or(|key| place_key(key, count) == shard)
        })
    }

    /// Heap that they hold.
    pub fn heap_bytes(&self) -> usize {
        let texts = self.each().iter().map(|filter| text(filter).len());
        let own = match self {
            Self::One(_) => 0,
            Self::Several(filters) => size_of_val::<[Filter]>(filters) + PATTERN_OVERHEAD_BYTES,
        };
        own + texts.map(|len| len + PATTERN_OVERHEAD_BYTES).sum::<usize>()
    }

    /// What all of them have, if it is the same.
    fn shared<'p, T: PartialEq>(&'p self, of: impl Fn(&'p Filter) -> Option<T>) -> Option<T> {
        let (first, others) = self.each().split_first()?;
        let shared = of(first)?;
        let is_same = |filter| of(filter).as_ref() == Some(&shared);
        others.iter().all(is_same).then_some(shared)
    }
}

impl From<Filter> for Patterns {
    fn from(filter: Filter) -> Self {
        Self::One(filter)
    }
}

/// Where its ids begin.
fn text(filter: &Filter) -> &str {
    match filter {
        Filter::All => "",
        Filter::Prefix(text) | Filter::Exact(text) => text,
    }
}

/// True if every id of `other` belongs to `filter`.
fn covers(filter: &Filter, other: &Filter) -> bool {
    match (filter, other) {
        (Filter::All, _) => true,
        (Filter::Prefix(prefix), Filter::Prefix(text) | Filter::Exact(text)) => {
            text.starts_with(&**prefix)
        }
        (Filter::Exact(id), Filter::Exact(text)) => id == text,
        (Filter::Prefix(_) | Filter::Exact(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Patterns {
        Patterns::of(
            texts
                .iter()
                .map(|text| Filter::parse(text).unwrap())
                .collect(),
        )
    }

    #[test]
    fn none_of_several_covers_another_and_they_are_in_order() {
        let check = |texts: &[&str], expected: &[&str]| {
            let found = patterns(texts);
            let found: Vec<String> = found.each().iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{texts:?}");
        };
        check(&[], &["*"]);
        check(&["b", "*", "a/*"], &["*"]);
        check(&["b", "a", "b"], &["a", "b"]);
        check(&["ab", "a*", "a", "a/*", "b"], &["a*", "b"]);
        check(&["a", "ab*", "a"], &["a", "ab*"]);
        check(
            &["n/b*", "n/a", "n/b", "n/c", "n/bx*"],
            &["n/a", "n/b*", "n/c"],
        );
    }

    #[test]
    fn an_id_belongs_to_at_most_one_of_several() {
        let several = patterns(&["a/*", "ab", "b*", "a", "b/x"]);
        for id in ["a", "a/", "a/x", "ab", "abc", "b", "b/x", "bb", "c"] {
            let of_each = several.each().iter().filter(|filter| filter.matches(id));
            let count = of_each.count();
            assert!(count <= 1, "{id}");
            assert_eq!(several.matches(id), count == 1, "{id}");
        }
    }

    #[test]
    fn they_share_a_namespace_or_an_id_if_each_has_the_same() {
        let check = |texts: &[&str], scope: Option<CursorScope<'_>>, key: Option<&str>| {
            let patterns = patterns(texts);
            assert_eq!(patterns.scope(), scope, "{texts:?}");
            assert_eq!(patterns.concerns_single_placement(), key, "{texts:?}");
        };
        check(
            &["n/a", "n/b*"],
            Some(CursorScope::Namespace("n")),
            Some("n"),
        );
        check(&["n"], Some(CursorScope::Id("n")), Some("n"));
        // They lie on one shard, and are two things to a cursor.
        check(&["n", "n/*"], None, Some("n"));
        check(&["n/a", "m/a"], None, None);
        check(&["n*"], None, None);
        let some = patterns(&["n/a", "m/a"]);
        let shards = |count| (0..count).filter(move |shard| some.concern(*shard, count));
        let mut placed = vec![place_key("n", 16), place_key("m", 16)];
        placed.sort_unstable();
        placed.dedup();
        assert_eq!(shards(16).collect::<Vec<_>>(), placed);
    }
}
