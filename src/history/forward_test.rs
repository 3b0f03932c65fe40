//! Random histories of several generations: what comes after a cursor that was handed out at any
//! moment, for any pattern, is what a list of all events says, or it is refused.

use super::support::{Stored, TestLog, World};
use super::{
    AfterPlace, ForwardPart, ForwardPlace, ForwardQuery, Generation, HistoryError, HistoryLog,
    Sight, Wanted, forward,
};
use crate::model::{
    Cursor, CursorScope, HistoryStart, HistoryStarts, Shown, StoredChange, placement_key,
};
use crate::subscribe::{Filter, Patterns};
use fastrand::Rng;
use flux_storage::Sequence;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Logs = Vec<Generation<TestLog>>;

/// The cursor of everything after the first `count` events, as a server of a generation that was
/// the newest at that moment gives it.
fn wide_cursor(world: &World, count: usize, random: &mut Rng) -> Cursor {
    let (before, after) = world.events.split_at(count);
    let first = before.last().map_or(0, |event| event.generation);
    let last = after
        .first()
        .map_or(world.shards.len() - 1, |event| event.generation);
    let generation = random.usize(first..=last);
    let earlier = world
        .events
        .iter()
        .filter(|event| event.generation < generation);
    let base = earlier.map(|event| event.sequence).max().unwrap_or(0);
    let places: Vec<Sequence> = (0..world.shards[generation])
        .map(|shard| {
            let own = before
                .iter()
                .filter(|event| (event.generation, event.shard) == (generation, shard));
            Sequence::new(own.map(|event| event.sequence).max().unwrap_or(base))
        })
        .collect();
    let text = Cursor::of_everything(&places).encode();
    Cursor::parse(&text).unwrap()
}

/// The same of what one placement key covers.
fn narrow_cursor(world: &World, count: usize, scope: CursorScope<'_>, key: &str) -> Cursor {
    let own = |event: &&Stored| placement_key(&event.id) == key;
    let last = world.events[..count].iter().rev().find(own);
    Cursor::of(
        scope,
        last.map_or(Sequence::ZERO, |event| Sequence::new(event.sequence)),
    )
}

const PATTERNS: [&str; 9] = [
    "*", "a*", "a/*", "a/1", "room", "b/1*", "none/*", "/x", "h*",
];

/// Everything after a place, part by part. The parts say what comes next, as they do to a
/// subscription.
fn read_all(
    logs: &Logs,
    asked: (&Patterns, &AfterPlace, Wanted),
    bytes_max: usize,
) -> Result<Vec<ForwardPart>, HistoryError> {
    read_shown((logs, &Sight::all()), asked, bytes_max)
}

/// The same of what a reader may see.
fn read_shown(
    (logs, sight): (&Logs, &Sight),
    (patterns, after, wanted): (&Patterns, &AfterPlace, Wanted),
    bytes_max: usize,
) -> Result<Vec<ForwardPart>, HistoryError> {
    let part = |place| {
        let query = ForwardQuery {
            patterns: patterns.clone(),
            after: after.clone(),
            wanted,
            touching: None,
            place,
            bytes_max,
        };
        forward(logs, (&query, sight))
    };
    let mut parts = Vec::new();
    let mut next = part(ForwardPlace::Check)?.next;
    while let Some(place) = next {
        let read = part(place)?;
        next = read.next;
        parts.push(read);
    }
    let count = logs[0].shards();
    for shard in (0..count).filter(|shard| patterns.concern(*shard, count)) {
        let last = Sequence::ZERO;
        let mut next = Some(ForwardPlace::Live { shard, last });
        while let Some(place) = next {
            let read = part(place)?;
            next = read.next;
            parts.push(read);
        }
    }
    Ok(parts)
}

/// The events of parts, by placement key, each with its sequence.
fn events_of(parts: &[ForwardPart]) -> BTreeMap<String, Vec<(u64, String)>> {
    let mut events: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    for part in parts {
        let mut start = 0;
        for event in &part.events {
            let bytes = &part.bytes[start..event.end];
            start = event.end;
            let Ok(Some(StoredChange::Event(view))) =
                StoredChange::decode(crate::model::RECORD_KIND_EVENT, bytes)
            else {
                panic!("a stored event");
            };
            let of = events
                .entry(placement_key(view.entity_id).to_owned())
                .or_default();
            of.push((event.sequence.get(), view.entity_id.to_owned()));
        }
    }
    events
}

/// What [`events_of`] gives of events.
fn expected<'e>(events: impl Iterator<Item = &'e Stored>) -> BTreeMap<String, Vec<(u64, String)>> {
    let mut expected: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
    for event in events {
        let of = expected
            .entry(placement_key(&event.id).to_owned())
            .or_default();
        of.push((event.sequence, event.id.clone()));
    }
    expected
}

/// A random moment of a random history, and a cursor that covers one or several random patterns.
fn random_cursor(world: &World, random: &mut Rng) -> (usize, Patterns, AfterPlace) {
    let count = random.usize(..=world.events.len());
    let several = random.usize(1..4);
    let filter = |_| Filter::parse(PATTERNS[random.usize(..PATTERNS.len())]).unwrap();
    let patterns = Patterns::of((0..several).map(filter).collect());
    let cursor = match patterns.scope().filter(|_| random.bool()) {
        None => wide_cursor(world, count, random),
        Some(scope) => narrow_cursor(world, count, scope, scope.key()),
    };
    let after = AfterPlace::of(&cursor, &patterns).unwrap();
    (count, patterns, after)
}

#[test]
fn what_comes_after_a_cursor_is_read_once_and_in_order_whatever_became_of_the_shards() {
    for seed in 0..300 {
        let mut random = Rng::with_seed(seed);
        let world = Arc::new(World::random(&mut random, 80));
        let logs = world.logs(&mut random);
        for _ in 0..10 {
            let (count, patterns, after) = random_cursor(&world, &mut random);
            let later = || {
                let later = world.events[count..].iter();
                later.filter(|event| patterns.matches(&event.id))
            };
            let bytes_max = random.usize(1..600);
            let asked = (&patterns, &after, Wanted::Events);
            let parts = read_all(&logs, asked, bytes_max).unwrap();
            for part in &parts {
                assert!(part.bytes.len() <= bytes_max || part.events.len() == 1);
            }
            assert_eq!(
                events_of(&parts),
                expected(later()),
                "seed {seed} {patterns:?}"
            );
            let parts = read_all(&logs, (&patterns, &after, Wanted::Ids), bytes_max).unwrap();
            let mut changed: BTreeMap<&str, bool> = BTreeMap::new();
            for event in later() {
                *changed.entry(&event.id).or_default() |= event.tombstone;
            }
            let mut found: BTreeMap<&str, bool> = BTreeMap::new();
            for it in parts.iter().flat_map(|part| &part.ids) {
                *found.entry(&it.id).or_default() |= it.is_replaced;
            }
            assert_eq!(found, changed, "seed {seed} {patterns:?}");
        }
    }
}

#[test]
fn what_retention_removed_after_a_cursor_is_told_of_and_never_passed_over() {
    let (mut refused, mut told) = (0, 0);
    for seed in 0..300 {
        let mut random = Rng::with_seed(seed);
        let world = Arc::new(World::random(&mut random, 60));
        let mut logs = world.logs(&mut random);
        super::model_test::retire_some(&mut logs, &mut random);
        for _ in 0..10 {
            let (count, patterns, after) = random_cursor(&world, &mut random);
            let later = world.events[count..].iter();
            let later = later.filter(|event| patterns.matches(&event.id));
            match read_all(&logs, (&patterns, &after, Wanted::Events), 200) {
                Err(HistoryError::Removed { .. }) => refused += 1,
                parts => {
                    told += 1;
                    let events = events_of(&parts.unwrap());
                    assert_eq!(events, expected(later), "seed {seed} {patterns:?}");
                }
            }
        }
    }
    assert!(
        refused > 200 && told > 200,
        "{refused} refused, {told} told"
    );
}

#[test]
fn what_is_removed_of_one_namespace_refuses_no_place_of_another() {
    let (mut refused, mut told) = (0, 0);
    for seed in 0..300 {
        let mut random = Rng::with_seed(seed);
        let world = Arc::new(World::random(&mut random, 60));
        let mut logs = world.logs(&mut random);
        super::model_test::retire_some(&mut logs, &mut random);
        let firsts: Vec<Vec<u64>> = logs.iter().rev().map(firsts_of).collect();
        let is_gone = |it: &Stored| it.sequence < firsts[it.generation][usize::from(it.shard)];
        for _ in 0..10 {
            let (count, patterns, after) = random_cursor(&world, &mut random);
            let Some(key) = patterns.concerns_single_placement() else {
                continue;
            };
            let mut later = world.events[count..].iter();
            let misses = later.any(|it| placement_key(&it.id) == key && is_gone(it));
            let read = read_all(&logs, (&patterns, &after, Wanted::Events), 200);
            let is_refused = matches!(read, Err(HistoryError::Removed { .. }));
            assert_eq!(is_refused, misses, "seed {seed} {patterns:?}");
            refused += u32::from(is_refused);
            told += u32::from(!is_refused);
        }
    }
    assert!(
        refused > 100 && told > 100,
        "{refused} refused, {told} told"
    );
}

/// By shard, the first event that is left.
fn firsts_of(generation: &Generation<TestLog>) -> Vec<u64> {
    let logs = (0..generation.shards()).map(|shard| generation.log(shard));
    logs.map(|log| HistoryLog::first_sequence(log).get())
        .collect()
}

#[test]
fn what_came_before_a_registration_is_told_of_neither_by_event_nor_by_id() {
    for seed in 0..100 {
        let mut random = Rng::with_seed(seed);
        let world = Arc::new(World::random(&mut random, 80));
        let logs = world.logs(&mut random);
        let registered = Sequence::new(random.u64(..80));
        let mut starts = HistoryStarts::default();
        starts.insert("a", HistoryStart::After(registered));
        let shown = Shown::AfterEach(starts);
        let is_shown =
            |id: &str, sequence: u64| !id.starts_with("a/") || Sequence::new(sequence) > registered;
        let (all, start) = (Patterns::One(Filter::All), AfterPlace::default());
        for wanted in [Wanted::Events, Wanted::Ids] {
            let asked = (&all, &start, wanted);
            let parts = read_shown((&logs, &shown.clone().into()), asked, 500).unwrap();
            let told = world.events.iter();
            let told = told.filter(|it| is_shown(&it.id, it.sequence));
            let ids: BTreeSet<&str> = told.clone().map(|it| &*it.id).collect();
            let found = parts.iter().flat_map(|part| &part.ids);
            let found: BTreeSet<&str> = found.map(|it| &*it.id).collect();
            match wanted {
                Wanted::Events => assert_eq!(events_of(&parts), expected(told), "seed {seed}"),
                Wanted::Ids => assert_eq!(found, ids, "seed {seed}"),
            }
        }
    }
}

#[test]
fn a_place_beyond_the_end_of_an_older_copy_is_refused() {
    for seed in 0..100 {
        let mut random = Rng::with_seed(seed);
        let world = Arc::new(World::random(&mut random, 60));
        let copy_events = world.events.len() / 2;
        let copy = Arc::new(World {
            events: world.events[..copy_events].to_vec(),
            shards: world.shards.clone(),
        });
        let cursor = wide_cursor(&world, world.events.len(), &mut random);
        let logs = copy.logs(&mut random);
        let count = logs[0].shards();
        let is_beyond = (0..count).any(|shard| {
            let place = cursor.last_of_each().unwrap()[usize::from(shard)];
            place > HistoryLog::last_sequence(logs[0].log(shard))
        });
        let all = Patterns::One(Filter::All);
        let after = AfterPlace::of(&cursor, &all).unwrap();
        let read = read_all(&logs, (&all, &after, Wanted::Ids), 100);
        let is_refused = matches!(read, Err(HistoryError::BeyondEnd));
        assert_eq!(is_refused, is_beyond, "seed {seed}");
    }
}

#[test]
fn a_cursor_of_something_else_is_too_narrow() {
    let cursor = Cursor::of(CursorScope::Namespace("a"), Sequence::new(3));
    for (pattern, covers) in [
        ("a/*", true),
        ("a/1", true),
        ("a/1*", true),
        ("a*", false),
        ("a", false),
        ("*", false),
        ("b/*", false),
    ] {
        let patterns = Patterns::One(Filter::parse(pattern).unwrap());
        assert_eq!(
            AfterPlace::of(&cursor, &patterns).is_ok(),
            covers,
            "{pattern}"
        );
    }
}
