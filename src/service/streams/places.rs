//! How far a connection's streams are, as cursors.
//!
//! A cursor that is sent says: whoever resumes there gets everything that is not yet sent. So of
//! each shard it names the lowest place that any stream of the connection has come to.

use crate::model::{Cursor, place_key};
use crate::subscribe::Patterns;
use flux_storage::Sequence;

/// The cursor of a connection with subscriptions to these patterns, on a server of so many
/// shards. `place`: how far they all are on a shard.
pub(crate) fn cursor_text<'p>(
    patterns: impl IntoIterator<Item = &'p Patterns>,
    shards: u16,
    place: impl Fn(u16) -> Sequence,
) -> Option<String> {
    let mut patterns = patterns.into_iter();
    let scope = patterns.next()?.scope();
    let is_narrow = scope.is_some() && patterns.all(|patterns| patterns.scope() == scope);
    let cursor = if let Some(scope) = scope.filter(|_| is_narrow) {
        Cursor::of(scope, place(place_key(scope.key(), shards)))
    } else {
        let places: Vec<Sequence> = (0..shards).map(place).collect();
        Cursor::of_everything(&places)
    };
    Some(cursor.encode())
}

/// The cursor of one subscription: the places at which its shards put it in force, from `first`
/// on. `visible`: what may be seen of the others.
pub(crate) fn ack_cursor(
    patterns: &Patterns,
    (shards, first): (u16, u16),
    in_force: &[Sequence],
    visible: impl Fn(u16) -> Sequence,
) -> String {
    let place = |shard: u16| {
        let index = shard.checked_sub(first).map(usize::from);
        let place = index.and_then(|index| in_force.get(index));
        let place = place.filter(|_| patterns.concern(shard, shards));
        place.copied().unwrap_or_else(|| visible(shard))
    };
    cursor_text([patterns], shards, place).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CursorScope;
    use crate::subscribe::Filter;

    #[test]
    fn a_cursor_is_of_one_namespace_or_of_everything() {
        let filter = |pattern: &str| Patterns::One(Filter::parse(pattern).unwrap());
        let place = |shard: u16| Sequence::new(100 + u64::from(shard));
        let text = |patterns: &[Patterns]| {
            let cursor = cursor_text(patterns, 3, place).unwrap();
            Cursor::parse(&cursor).unwrap()
        };
        let of_n = place(place_key("n", 3));
        let namespace = Cursor::of(CursorScope::Namespace("n"), of_n);
        assert_eq!(
            text(&[filter("n/*"), filter("n/a"), filter("n/a*")]),
            namespace
        );
        let id = Cursor::of(CursorScope::Id("n"), of_n);
        assert_eq!(text(&[filter("n")]), id);
        let all = Cursor::of_everything(&[place(0), place(1), place(2)]);
        for patterns in [["n/*", "m/*"], ["n", "n/*"], ["*", "n/*"], ["n*", "n*"]] {
            assert_eq!(text(&patterns.map(filter)), all, "{patterns:?}");
        }
        let pattern = filter("*");
        let in_force = [7, 8].map(Sequence::new);
        let ack = ack_cursor(&pattern, (2, 0), &in_force, place);
        assert_eq!(Cursor::parse(&ack), Ok(Cursor::of_everything(&in_force)));
        assert_eq!(cursor_text([], 1, place), None);
        // A shard that it does not concern has told it nothing.
        let several = Patterns::of(
            ["a/*", "b/*", "c/*"]
                .map(|it| Filter::parse(it).unwrap())
                .into(),
        );
        let in_force = [Sequence::new(7); 64];
        let ack = Cursor::parse(&ack_cursor(&several, (64, 0), &in_force, place)).unwrap();
        for (shard, found) in (0..).zip(ack.last_of_each().unwrap()) {
            let expected = if several.concern(shard, 64) {
                in_force[0]
            } else {
                place(shard)
            };
            assert_eq!(*found, expected, "{shard}");
        }
    }
}
