//! Random histories of several generations, held against a model that keeps every event: what
//! history says of each moment is what the events up to it make, whichever stored states it starts
//! from.

use super::support::{IDS, Stored, TestLog, World};
use super::{
    EntitiesPage, EntityAt, EventsPage, Generation, HistoryError, HistoryLog, Sight, entity_at,
    events, list_at,
};
use crate::api::history::EventsQuery;
use crate::api::query::ListQuery;
use crate::model::{
    Cursor, CursorScope, HistoryStart, HistoryStarts, Shown, Timestamp, namespace_of, place_key,
    placement_key,
};
use fastrand::Rng;
use flux_storage::Sequence;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

type Properties = BTreeMap<String, String>;

/// The entities as they were at `at`, by the rules of the contract: version, time and properties.
fn entities_at(world: &World, at: i64) -> BTreeMap<&str, (u64, i64, Properties)> {
    let mut entities: BTreeMap<&str, (u64, i64, Properties)> = BTreeMap::new();
    for event in world.events.iter().filter(|event| event.time <= at) {
        if event.tombstone {
            entities.remove(event.id.as_str());
            continue;
        }
        let (version, time, properties) = entities.entry(&event.id).or_default();
        *version += 1;
        *time = event.time;
        properties.extend(event.properties.iter().cloned());
    }
    entities
}

fn entity_json(id: &str, (version, time, properties): &(u64, i64, Properties)) -> String {
    let mut text = format!("{{\"id\":\"{id}\",\"properties\":{{");
    for (index, (name, value)) in properties.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(text, "{comma}\"{name}\":{value}").unwrap();
    }
    let time = Timestamp::from_micros(*time).rfc3339();
    write!(
        text,
        "}},\"lastUpdated\":\"{time}\",\"version\":{version}}}"
    )
    .unwrap();
    text
}

/// Every moment before, at, between and after the events.
fn moments(world: &World) -> std::ops::RangeInclusive<i64> {
    let times = || world.events.iter().map(|event| event.time);
    times().min().unwrap_or(0) - 1..=times().max().unwrap_or(0) + 1
}

fn read(
    generations: &[Generation<TestLog>],
    id: &str,
    at: i64,
) -> Result<Option<String>, HistoryError> {
    let asked = EntityAt {
        id,
        at: Timestamp::from_micros(at),
        fields: None,
        start: None,
    };
    let json = entity_at(generations, asked)?;
    Ok(json.map(|json| String::from_utf8(json).unwrap()))
}

fn list(
    generations: &[Generation<TestLog>],
    query: &ListQuery,
    at: i64,
) -> Result<EntitiesPage, HistoryError> {
    list_at(
        generations,
        (query, &Sight::all()),
        Timestamp::from_micros(at),
    )
}

fn array(json: &[u8]) -> Vec<Value> {
    serde_json::from_slice(json).unwrap()
}

/// All pages of a listing, one after the other.
fn list_all(
    generations: &[Generation<TestLog>],
    mut query: ListQuery,
    at: i64,
) -> Result<Vec<Value>, HistoryError> {
    let mut all = Vec::new();
    loop {
        let page = list(generations, &query, at)?;
        let entities = array(&page.json);
        if let Some(limit) = query.limit {
            assert!(entities.len() <= limit);
        }
        all.extend(entities);
        match page.next {
            None => return Ok(all),
            next => query.after = next,
        }
    }
}

fn scopes() -> Vec<ListQuery> {
    let query = |namespace: Option<&str>, prefix: Option<&str>, limit| ListQuery {
        namespace: namespace.map(Box::from),
        prefix: prefix.map(Box::from),
        limit,
        ..ListQuery::default()
    };
    vec![
        query(None, None, None),
        query(None, None, Some(2)),
        query(Some("a"), None, Some(1)),
        query(Some("ab"), Some("ab/1"), None),
        query(None, Some("a"), Some(3)),
        query(None, Some("b/1"), Some(1)),
        query(Some("b"), Some("c/"), None),
        query(Some("a/1"), None, None),
    ]
}

fn matches(query: &ListQuery, id: &str) -> bool {
    let namespace = query.namespace.as_deref();
    namespace.is_none_or(|name| namespace_of(id) == Some(name))
        && query
            .prefix
            .as_deref()
            .is_none_or(|prefix| id.starts_with(prefix))
}

#[test]
fn an_entity_at_any_moment_is_what_its_events_up_to_it_make() {
    for seed in 0..60 {
        let mut random = Rng::with_seed(seed);
        let world = Arc::new(World::random(&mut random, 60));
        let generations = world.logs(&mut random);
        for at in moments(&world) {
            let expected = entities_at(&world, at);
            for id in IDS.iter().copied().chain(["none", "a/9"]) {
                let expected = expected.get(id).map(|entity| entity_json(id, entity));
                let found = read(&generations, id, at).unwrap();
                assert_eq!(found, expected, "seed {seed}, {id} at {at}");
            }
        }
    }
}

#[test]
fn the_entities_at_any_moment_are_what_the_events_up_to_it_make() {
    for seed in 0..20 {
        let mut random = Rng::with_seed(seed);
        let world = Arc::new(World::random(&mut random, 50));
        let generations = world.logs(&mut random);
        for at in moments(&world) {
            let model = entities_at(&world, at);
            for query in scopes() {
                let expected: Vec<Value> = model
                    .iter()
                    .filter(|(id, _)| matches(&query, id))
                    .map(|(id, entity)| serde_json::from_str(&entity_json(id, entity)).unwrap())
                    .collect();
                let found = list_all(&generations, query.clone(), at).unwrap();
                assert_eq!(found, expected, "seed {seed}, {query:?} at {at}");
            }
        }
    }
}

#[test]
fn beyond_retention_the_past_is_refused_and_never_wrong() {
    let (mut refused, mut told) = (0, 0);
    for seed in 0..60 {
        let mut random = Rng::with_seed(seed);
        let world = Arc::new(World::random(&mut random, 50));
        let mut generations = world.logs(&mut random);
        retire_some(&mut generations, &mut random);
        for at in moments(&world) {
            let model = entities_at(&world, at);
            for id in IDS {
                match read(&generations, id, at) {
                    Err(HistoryError::Removed { from }) => {
                        refused += 1;
                        assert!(
                            from.as_micros() > at,
                            "seed {seed}: {id} is told from {at} on"
                        );
                    }
                    found => {
                        told += 1;
                        let expected = model.get(id).map(|entity| entity_json(id, entity));
                        assert_eq!(found.unwrap(), expected, "seed {seed}, {id} at {at}");
                    }
                }
            }
            match list_all(&generations, ListQuery::default(), at) {
                Err(HistoryError::Removed { from }) => assert!(from.as_micros() > at),
                found => {
                    let ids: Vec<Value> = found
                        .unwrap()
                        .iter()
                        .map(|entity| entity["id"].clone())
                        .collect();
                    let expected: Vec<Value> = model.keys().map(|id| json!(id)).collect();
                    assert_eq!(ids, expected, "seed {seed} at {at}");
                }
            }
        }
        let (_, end) = moments(&world).into_inner();
        assert!(
            list(&generations, &ListQuery::default(), end).is_ok(),
            "seed {seed}"
        );
    }
    assert!(
        refused > 1000 && told > 1000,
        "{refused} refused, {told} told"
    );
}

/// Removes events of the oldest logs; a generation loses all before the next loses any.
pub(super) fn retire_some(generations: &mut [Generation<TestLog>], random: &mut Rng) {
    let whole = random.usize(..generations.len());
    for (age, generation) in generations.iter_mut().rev().enumerate() {
        for log in generation.logs_mut() {
            match age.cmp(&whole) {
                std::cmp::Ordering::Less => log.retire(usize::MAX),
                std::cmp::Ordering::Equal => log.retire(random.usize(..=log.events.len())),
                std::cmp::Ordering::Greater => {}
            }
        }
    }
}

/// The events that match, newest first, as (generation, sequence).
fn matching<'w>(world: &'w World, query: &EventsQuery) -> Vec<&'w Stored> {
    let within = |event: &&Stored| {
        let time = Timestamp::from_micros(event.time);
        query.entity.as_deref().is_none_or(|id| event.id == id)
            && query
                .namespace
                .as_deref()
                .is_none_or(|name| namespace_of(&event.id) == Some(name))
            && query.since.is_none_or(|since| time >= since)
            && query.until.is_none_or(|until| time <= until)
            && query
                .before
                .is_none_or(|before| event.sequence < before.get())
    };
    let mut found: Vec<&Stored> = world.events.iter().filter(within).collect();
    found.reverse();
    found
}

fn random_query(random: &mut Rng, world: &World) -> EventsQuery {
    let ids = ["a/1", "b/1", "room", "/x", "none"];
    let names = ["a", "ab", "b", "none"];
    let (entity, namespace) = match random.usize(..4) {
        0 => (Some(ids[random.usize(..ids.len())]), None),
        1 => (Some("a/1"), Some(names[random.usize(..2)])),
        _ => (None, Some(names[random.usize(..names.len())])),
    };
    let moments = moments(world);
    let mut time = || {
        let span = usize::try_from(moments.end() - moments.start() + 1).unwrap();
        let time = moments.start() + i64::try_from(random.usize(..span)).unwrap();
        (random.usize(..2) == 0).then_some(Timestamp::from_micros(time))
    };
    let (since, until) = (time(), time());
    let key = entity.map(placement_key).or(namespace);
    let last = last_sequence(world, key.unwrap_or_default());
    let before = Sequence::new(random.u64(..=last));
    EventsQuery {
        entity: entity.map(Box::from),
        namespace: namespace.map(Box::from),
        since,
        until,
        before: (random.usize(..2) == 0).then_some(before),
        limit: 1 + random.usize(..12),
    }
}

/// The last sequence of the newest log that holds events of a placement key, or would.
fn last_sequence(world: &World, key: &str) -> u64 {
    let newest = world.shards.len() - 1;
    let shard = place_key(key, world.shards[newest]);
    let in_log = |event: &&Stored| event.generation < newest || event.shard == shard;
    let events = world.events.iter().filter(in_log);
    events.map(|event| event.sequence).max().unwrap_or(0)
}

fn sequences(page: &EventsPage) -> Vec<u64> {
    let events = array(&page.json);
    let sequence = |event: &Value| {
        let sequence = event["sequence"].as_u64().unwrap();
        let cursor = Cursor::parse(event["cursor"].as_str().unwrap()).unwrap();
        let scope = CursorScope::of(event["payload"]["entity_id"].as_str().unwrap());
        assert_eq!(cursor.last_of(scope), Ok(Sequence::new(sequence)));
        sequence
    };
    events.iter().map(sequence).collect()
}

#[test]
fn pages_of_events_are_the_matching_events_newest_first() {
    for seed in 0..150 {
        let mut random = Rng::with_seed(seed);
        let world = Arc::new(World::random(&mut random, 80));
        let generations = world.logs(&mut random);
        for _ in 0..20 {
            let mut query = random_query(&mut random, &world);
            let expected: Vec<u64> = matching(&world, &query)
                .iter()
                .map(|event| event.sequence)
                .collect();
            let mut found = Vec::new();
            loop {
                let page = events(&generations, &query, &Sight::all()).unwrap();
                let part = sequences(&page);
                found.extend_from_slice(&part);
                match page.next {
                    None => break,
                    next => {
                        assert_eq!(
                            part.len(),
                            query.limit,
                            "seed {seed}: only the last page is short"
                        );
                        query.before = next;
                    }
                }
            }
            assert_eq!(found, expected, "seed {seed}: {query:?}");
        }
    }
}

#[test]
fn removed_events_are_told_of_and_never_passed_over() {
    let (mut refused, mut told) = (0, 0);
    for seed in 0..150 {
        let mut random = Rng::with_seed(seed);
        let world = Arc::new(World::random(&mut random, 60));
        let mut generations = world.logs(&mut random);
        retire_some(&mut generations, &mut random);
        for _ in 0..20 {
            let mut query = random_query(&mut random, &world);
            let expected: Vec<u64> = matching(&world, &query)
                .iter()
                .map(|event| event.sequence)
                .collect();
            let mut found = Vec::new();
            let whole = loop {
                match events(&generations, &query, &Sight::all()) {
                    Err(HistoryError::Removed { .. }) => break false,
                    page => {
                        let page = page.unwrap();
                        found.extend(sequences(&page));
                        match page.next {
                            None => break true,
                            next => query.before = next,
                        }
                    }
                }
            };
            if whole {
                told += 1;
                assert_eq!(found, expected, "seed {seed}: {query:?}");
            } else {
                refused += 1;
                assert!(expected.starts_with(&found), "seed {seed}: {query:?}");
            }
        }
    }
    assert!(
        refused > 200 && told > 200,
        "{refused} refused, {told} told"
    );
}

#[test]
fn a_page_without_bounds_shows_what_is_left_before_it_says_that_more_was_removed() {
    let mut random = Rng::with_seed(7);
    let world = Arc::new(World::random(&mut random, 200));
    let mut generations = world.logs(&mut random);
    for generation in generations.iter_mut().skip(1) {
        generation.logs_mut().for_each(|log| log.retire(usize::MAX));
    }
    generations[0].logs_mut().for_each(|log| log.retire(20));
    let query = EventsQuery {
        entity: None,
        namespace: Some("a".into()),
        since: None,
        until: None,
        before: None,
        limit: 500,
    };
    let page = events(&generations, &query, &Sight::all()).unwrap();
    let next = EventsQuery {
        before: Some(page.next.expect("the last page leads on")),
        ..query.clone()
    };
    let Err(HistoryError::Removed { from }) = events(&generations, &next, &Sight::all()) else {
        panic!("what was removed is told of");
    };
    let since = |since: i64| EventsQuery {
        since: Some(Timestamp::from_micros(since)),
        ..query.clone()
    };
    let whole = events(&generations, &since(from.as_micros()), &Sight::all()).unwrap();
    assert_eq!(whole.next, None, "from that time on nothing is missing");
    assert!(events(&generations, &since(from.as_micros() - 1), &Sight::all()).is_err());
}

/// The sequences after which a namespace was empty.
fn emptied(world: &World, namespace: &str) -> Vec<u64> {
    let mut living = BTreeSet::new();
    let mut found = Vec::new();
    let own = |event: &&Stored| namespace_of(&event.id) == Some(namespace);
    for event in world.events.iter().filter(own) {
        if event.tombstone {
            living.remove(event.id.as_str());
        } else {
            living.insert(event.id.as_str());
        }
        if living.is_empty() {
            found.push(event.sequence);
        }
    }
    found
}

/// The same history for whom the starts hide a part of it.
fn shown_of(world: &World, starts: &HistoryStarts) -> World {
    let is_shown = |event: &&Stored| {
        let start = namespace_of(&event.id).and_then(|name| starts.get(name));
        let time = Timestamp::from_micros(event.time);
        start.is_none_or(|start| !start.hides(Sequence::new(event.sequence), time))
    };
    World {
        events: world.events.iter().filter(is_shown).cloned().collect(),
        shards: world.shards.clone(),
    }
}

#[test]
fn what_came_before_a_registration_is_as_if_it_had_never_been() {
    let mut hidden = 0;
    for seed in 0..150 {
        let mut random = Rng::with_seed(seed);
        let world = Arc::new(World::random(&mut random, 60));
        let generations = world.logs(&mut random);
        let mut starts = HistoryStarts::default();
        for name in ["a", "b", "ab", "c", "d", "e"] {
            let places = emptied(&world, name);
            if !places.is_empty() && random.usize(..4) > 0 {
                let last = Sequence::new(places[random.usize(..places.len())]);
                starts.insert(name, HistoryStart::After(last));
            }
        }
        let visible = shown_of(&world, &starts);
        hidden += world.events.len() - visible.events.len();
        let start_of = |name: Option<&str>| name.and_then(|name| starts.get(name));
        for at in moments(&world).step_by(3) {
            let expected = entities_at(&visible, at);
            for id in IDS {
                let asked = EntityAt {
                    id,
                    at: Timestamp::from_micros(at),
                    fields: None,
                    start: start_of(namespace_of(id)),
                };
                let found = entity_at(&generations, asked).unwrap();
                let found = found.map(|json| String::from_utf8(json).unwrap());
                let expected = expected.get(id).map(|entity| entity_json(id, entity));
                assert_eq!(found, expected, "seed {seed}: {id} at {at}");
            }
            for query in scopes().into_iter().filter(|query| query.limit.is_none()) {
                let name = query.namespace.as_deref();
                let prefix = query.prefix.as_deref();
                let name = name.or_else(|| namespace_of(prefix?));
                let shown = match name {
                    None => Shown::AfterEach(starts.clone()),
                    Some(_) => start_of(name).map_or(Shown::All, Shown::After),
                };
                let at_time = Timestamp::from_micros(at);
                let page = list_at(&generations, (&query, &shown.into()), at_time).unwrap();
                let own = expected.iter().filter(|(id, _)| matches(&query, id));
                let own: Vec<Value> = own
                    .map(|(id, entity)| serde_json::from_str(&entity_json(id, entity)).unwrap())
                    .collect();
                assert_eq!(array(&page.json), own, "seed {seed}: {query:?} at {at}");
            }
        }
        for _ in 0..10 {
            let query = random_query(&mut random, &world);
            let name = query.entity.as_deref().and_then(namespace_of);
            let start = start_of(name.or(query.namespace.as_deref()));
            let page = events(
                &generations,
                &query,
                &start.map_or(Shown::All, Shown::After).into(),
            )
            .unwrap();
            let expected = matching(&visible, &query);
            let sequence = |event: &&Stored| event.sequence;
            let expected: Vec<u64> = expected.iter().map(sequence).take(query.limit).collect();
            assert_eq!(sequences(&page), expected, "seed {seed}: {query:?}");
        }
    }
    assert!(hidden > 500, "{hidden} events were hidden");
}

/// A reader whose history begins after what retention removed is not told of that.
#[test]
fn what_was_removed_before_a_registration_is_not_told_of() {
    let mut checked = 0;
    for seed in 0..300 {
        let mut random = Rng::with_seed(seed);
        let world = Arc::new(World::random(&mut random, 60));
        let mut generations = world.logs(&mut random);
        retire_some(&mut generations, &mut random);
        for name in ["a", "b", "c", "d", "e"] {
            let Some(last) = emptied(&world, name).pop().map(Sequence::new) else {
                continue;
            };
            let mut logs = generations.iter().map(|it| it.log_of(name));
            let removed = logs.clone().filter_map(HistoryLog::removed).count();
            if removed == 0 || !logs.all(|log| log.removed().is_none_or(|it| it.through <= last)) {
                continue;
            }
            checked += 1;
            let mut starts = HistoryStarts::default();
            let start = HistoryStart::After(last);
            starts.insert(name, start);
            let visible = shown_of(&world, &starts);
            for at in moments(&world).step_by(7) {
                let entities = entities_at(&visible, at);
                let query = ListQuery {
                    namespace: Some(name.into()),
                    ..ListQuery::default()
                };
                let at_time = Timestamp::from_micros(at);
                let page = list_at(&generations, (&query, &Shown::After(start).into()), at_time);
                let own = entities.iter().filter(|(id, _)| matches(&query, id));
                let own: Vec<Value> = own
                    .map(|(id, entity)| serde_json::from_str(&entity_json(id, entity)).unwrap())
                    .collect();
                assert_eq!(
                    array(&page.unwrap().json),
                    own,
                    "seed {seed}: {name} at {at}"
                );
                let id = format!("{name}/1");
                let asked = EntityAt {
                    id: &id,
                    at: at_time,
                    fields: None,
                    start: Some(start),
                };
                let found = entity_at(&generations, asked).unwrap();
                let expected = entities.get(id.as_str()).map(|it| entity_json(&id, it));
                let expected = expected.map(String::into_bytes);
                assert_eq!(found, expected, "seed {seed}: {id} at {at}");
            }
            let query = EventsQuery {
                entity: None,
                namespace: Some(name.into()),
                since: Some(Timestamp::default()),
                until: None,
                before: None,
                limit: 500,
            };
            let page = events(&generations, &query, &Shown::After(start).into()).unwrap();
            let expected = matching(&visible, &query);
            let expected: Vec<u64> = expected.iter().map(|event| event.sequence).collect();
            assert_eq!(
                (sequences(&page), page.next),
                (expected, None),
                "seed {seed}"
            );
        }
    }
    assert!(checked > 50, "{checked}");
}
