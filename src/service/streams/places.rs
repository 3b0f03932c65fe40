//! How far a connection's streams are, as cursors.
//!
//! A cursor that is sent says: whoever resumes there gets everything that is not yet sent. So of
//! each shard it names the lowest place that any stream of the connection has come to.

use crate::model::{Cursor, CursorScope, namespace_of};
use crate::subscribe::Filter;
use flux_storage::Sequence;

/// What a pattern's changes belong to, if that is one namespace or one id without.
fn scope_of(pattern: &Filter) -> Option<CursorScope<'_>> {
    match pattern {
        Filter::All => None,
        Filter::Prefix(prefix) => namespace_of(prefix).map(CursorScope::Namespace),
        Filter::Exact(id) => Some(CursorScope::of(id)),
    }
}

/// The cursor of a connection with subscriptions to these patterns. `place`: how far they all are
/// on a shard; `shard_of`: the shards of a pattern.
pub(crate) fn cursor_text<'f>(
    mut patterns: impl Iterator<Item = &'f Filter>,
    (shards, shard_of): (u16, impl Fn(&Filter) -> u16),
    place: impl Fn(u16) -> Sequence,
) -> Option<String> {
    let first = patterns.next()?;
    let scope = scope_of(first);
    let is_narrow = scope.is_some() && patterns.all(|pattern| scope_of(pattern) == scope);
    let cursor = if let Some(scope) = scope.filter(|_| is_narrow) {
        Cursor::of(scope, place(shard_of(first)))
    } else {
        let places: Vec<Sequence> = (0..shards).map(place).collect();
        Cursor::of_everything(&places)
    };
    Some(cursor.encode())
}

/// The cursor of one subscription: the places at which its shards put it in force, from `first`
/// on. `visible`: what may be seen of the others.
pub(crate) fn ack_cursor(
    pattern: &Filter,
    (shards, first): (u16, u16),
    in_force: &[Sequence],
    visible: impl Fn(u16) -> Sequence,
) -> String {
    let place = |shard: u16| {
        let index = shard.checked_sub(first).map(usize::from);
        let place = index.and_then(|index| in_force.get(index));
        place.copied().unwrap_or_else(|| visible(shard))
    };
    cursor_text(std::iter::once(pattern), (shards, |_| first), place).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice;

    #[test]
    fn a_cursor_is_of_one_namespace_or_of_everything() {
        let filter = |pattern: &str| Filter::parse(pattern).unwrap();
        let place = |shard: u16| Sequence::new(100 + u64::from(shard));
        let text = |patterns: &[Filter]| {
            let cursor = cursor_text(patterns.iter(), (3, |_| 1), place).unwrap();
            Cursor::parse(&cursor).unwrap()
        };
        let namespace = Cursor::of(CursorScope::Namespace("n"), place(1));
        assert_eq!(
            text(&[filter("n/*"), filter("n/a"), filter("n/a*")]),
            namespace
        );
        let id = Cursor::of(CursorScope::Id("n"), place(1));
        assert_eq!(text(&[filter("n")]), id);
        let all = Cursor::of_everything(&[place(0), place(1), place(2)]);
        for patterns in [["n/*", "m/*"], ["n", "n/*"], ["*", "n/*"], ["n*", "n*"]] {
            assert_eq!(text(&patterns.map(filter)), all, "{patterns:?}");
        }
        let pattern = filter("*");
        let in_force = [7, 8].map(Sequence::new);
        let ack = ack_cursor(&pattern, (2, 0), &in_force, place);
        assert_eq!(Cursor::parse(&ack), Ok(Cursor::of_everything(&in_force)));
        let none = cursor_text(slice::Iter::default(), (1, |_| 0), place);
        assert_eq!(none, None);
    }
}
