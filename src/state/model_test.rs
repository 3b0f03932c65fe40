//! Any history against a model of a few lines, and the claims that hold for the state as a whole.

use std::collections::BTreeMap;

use crate::model::{EventDraft, EventId, Property, namespace_of};

use super::*;
use fastrand::Rng;

/// The stored form of an event; `properties` ascending by name.
pub(super) fn encode(id: &str, properties: &[(&str, &str)]) -> Vec<u8> {
    encode_event(id, properties, false)
}

pub(super) fn encode_event(id: &str, properties: &[(&str, &str)], tombstone: bool) -> Vec<u8> {
    let properties: Vec<_> = properties
        .iter()
        .map(|&(name, value)| Property { name, value })
        .collect();
    let mut bytes = Vec::new();
    EventDraft {
        entity_id: id,
        event_id: EventId::Text("e"),
        stream: "s",
        source: "t",
        timestamp_ms: None,
        key: None,
        schema: None,
        traceparent: None,
        extra: "",
        tombstone,
        properties: &properties,
    }
    .encode(&mut bytes);
    bytes
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelEntity {
    pub(super) version: u64,
    time: Timestamp,
    sequence: Sequence,
    pub(super) properties: BTreeMap<String, String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Model(BTreeMap<String, ModelEntity>);

impl Model {
    pub(super) fn apply(
        &mut self,
        sequence: Sequence,
        time: Timestamp,
        event: &EventView<'_>,
    ) -> Applied {
        if event.tombstone {
            let removed = self.0.remove(event.entity_id);
            return removed.map_or(Applied::Absent, |_| Applied::Deleted);
        }
        let entity = self
            .0
            .entry(event.entity_id.to_owned())
            .or_insert(ModelEntity {
                version: 0,
                time,
                sequence,
                properties: BTreeMap::new(),
            });
        (entity.version, entity.time, entity.sequence) = (entity.version + 1, time, sequence);
        for property in event.properties() {
            let (name, value) = (property.name.to_owned(), property.value.to_owned());
            entity.properties.insert(name, value);
        }
        if entity.version == 1 {
            Applied::Created
        } else {
            Applied::Updated
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn list(&self, query: &Query<'_>) -> Vec<(String, ModelEntity)> {
        self.0
            .iter()
            .filter(|(id, _)| {
                query
                    .namespace
                    .is_none_or(|wanted| namespace_of(id) == Some(wanted))
                    && query.prefix.is_none_or(|prefix| id.starts_with(prefix))
                    && query.after.is_none_or(|after| id.as_str() > after)
            })
            .map(|(id, entity)| (id.clone(), entity.clone()))
            .collect()
    }
}

pub(super) fn seen(entity: Entity<'_>) -> (String, ModelEntity) {
    let properties: Vec<_> = entity.properties().collect();
    assert!(properties.is_sorted_by(|left, right| left.0 < right.0));
    let model = ModelEntity {
        version: entity.version(),
        time: entity.last_updated(),
        sequence: entity.sequence(),
        properties: properties
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    };
    (entity.id().to_owned(), model)
}

fn seen_ok(entity: Result<Entity<'_>, LayerError>) -> (String, ModelEntity) {
    seen(entity.unwrap())
}

/// Applies an event as the engine does.
pub(super) fn step(
    state: &mut State,
    sequence: Sequence,
    time: Timestamp,
    event: &EventView<'_>,
) -> Applied {
    let promoted = state.promote(event.entity_id).unwrap();
    state.apply(promoted, (sequence, time), event)
}

pub(super) fn dump(state: &State) -> Vec<(String, ModelEntity)> {
    state.list(&Query::default()).map(seen_ok).collect()
}

const NAMESPACES: &[&str] = &["", "a", "ab", "abc", "b", "é", "a/b"];

fn random_id(random: &mut Rng) -> String {
    let number = random.usize(..40);
    match random.usize(..8) {
        0 => format!("{number}"),
        1 => format!("ab{number}"),
        2 => format!("ab-{number}/x"),
        _ => format!("{}/{number}", NAMESPACES[random.usize(..NAMESPACES.len())]),
    }
}

fn random_event(random: &mut Rng) -> Vec<u8> {
    const VALUES: &[&str] = &[
        "1",
        "2",
        "22.50",
        "33.25",
        "null",
        "true",
        "\"é\"",
        "{\"a\":[1,2]}",
        "[]",
    ];
    let mut properties = BTreeMap::new();
    for _ in 0..random.usize(..5) {
        let name = ["", "a", "aa", "b", "é", "temperature", "z"][random.usize(..7)];
        properties.insert(name, VALUES[random.usize(..VALUES.len())]);
    }
    let long = format!("\"{}\"", "x".repeat(random.usize(..300)));
    if random.usize(..20) == 0 {
        properties.insert("long", &long);
    }
    let properties: Vec<_> = properties.into_iter().collect();
    encode_event(&random_id(random), &properties, random.usize(..4) == 0)
}

pub(super) fn check_query(state: &State, model: &Model, random: &mut Rng) {
    let (prefix, after) = (random_id(random), random_id(random));
    let end = (0..=prefix.len())
        .filter(|&end| prefix.is_char_boundary(end))
        .nth(random.usize(..4))
        .unwrap_or(prefix.len());
    let namespace = NAMESPACES[random.usize(..NAMESPACES.len())];
    let query = Query {
        namespace: (random.usize(..2) == 0).then_some(namespace),
        prefix: (random.usize(..2) == 0).then_some(&prefix[..end]),
        after: (random.usize(..2) == 0).then_some(&after),
    };
    let listed: Vec<_> = state.list(&query).map(seen_ok).collect();
    assert_eq!(listed, model.list(&query), "{query:?}");
    let got = state.get(&after).unwrap().map(|entity| seen(entity).1);
    assert_eq!(got.as_ref(), model.0.get(&after), "{after}");
}

/// A history: the stored form, sequence and time of each of its events.
pub(super) fn random_history(random: &mut Rng) -> Vec<(Sequence, Timestamp, Vec<u8>)> {
    let mut micros = 0;
    (1..=2000)
        .map(|number| {
            micros += i64::from(random.usize(..2) == 0);
            let time = Timestamp::from_micros(micros);
            (Sequence::new(number), time, random_event(random))
        })
        .collect()
}

#[test]
fn any_history_leaves_the_state_that_the_model_says() {
    for seed in 0..30 {
        let mut random = Rng::with_seed(seed);
        let (mut state, mut model) = (State::default(), Model::default());
        for (sequence, time, bytes) in random_history(&mut random) {
            let event = EventView::decode(&bytes).unwrap();
            let applied = step(&mut state, sequence, time, &event);
            let expected = model.apply(sequence, time, &event);
            assert_eq!(applied, expected, "seed {seed}, {sequence:?}");
            assert_eq!(state.len(), model.0.len(), "seed {seed}, {sequence:?}");
            if random.usize(..10) == 0 {
                check_query(&state, &model, &mut random);
            }
        }
        assert_eq!(dump(&state), model.list(&Query::default()), "seed {seed}");
    }
}

#[test]
fn a_replayed_history_leaves_the_state_that_was_live() {
    for seed in 100..110 {
        let history = random_history(&mut Rng::with_seed(seed));
        let mut live = State::default();
        for (index, (sequence, time, bytes)) in history.iter().enumerate() {
            step(
                &mut live,
                *sequence,
                *time,
                &EventView::decode(bytes).unwrap(),
            );
            if index % 400 != 399 {
                continue;
            }
            let mut replayed = State::default();
            for (sequence, time, bytes) in &history[..=index] {
                step(
                    &mut replayed,
                    *sequence,
                    *time,
                    &EventView::decode(bytes).unwrap(),
                );
            }
            assert_eq!(dump(&replayed), dump(&live), "seed {seed}, event {index}");
        }
    }
}

pub(super) fn apply(state: &mut State, number: u64, bytes: &[u8]) -> Applied {
    let time = Timestamp::from_micros(i64::try_from(number).unwrap());
    step(
        state,
        Sequence::new(number),
        time,
        &EventView::decode(bytes).unwrap(),
    )
}

#[test]
fn an_entity_created_after_its_tombstone_starts_at_version_one_with_nothing_old() {
    let mut state = State::default();
    let tombstone = encode_event("x", &[("ignored", "1")], true);
    assert_eq!(apply(&mut state, 1, &tombstone), Applied::Absent);
    assert_eq!(
        apply(&mut state, 2, &encode("x", &[("a", "1")])),
        Applied::Created
    );
    assert_eq!(
        apply(&mut state, 3, &encode("x", &[("b", "2")])),
        Applied::Updated
    );
    assert_eq!(state.get("x").unwrap().unwrap().version(), 2);
    assert_eq!(apply(&mut state, 4, &tombstone), Applied::Deleted);
    assert!(state.get("x").unwrap().is_none() && state.is_empty());
    assert_eq!(apply(&mut state, 5, &encode("x", &[])), Applied::Created);
    let entity = state.get("x").unwrap().unwrap();
    assert_eq!((entity.version(), entity.sequence()), (1, Sequence::new(5)));
    assert_eq!(entity.properties().count(), 0);
}

#[test]
fn an_event_without_properties_renews_the_entity() {
    let mut state = State::default();
    apply(&mut state, 1, &encode("x", &[("a", "1")]));
    assert_eq!(apply(&mut state, 9, &encode("x", &[])), Applied::Updated);
    let entity = state.get("x").unwrap().unwrap();
    assert_eq!((entity.version(), entity.sequence()), (2, Sequence::new(9)));
    assert_eq!(entity.last_updated(), Timestamp::from_micros(9));
    assert!(entity.properties().eq([("a", "1")]));
}

/// Bytes of ids, names and values, which no form could do without.
fn content_bytes(state: &State) -> usize {
    let bytes = |entity: Entity<'_>| {
        let properties = entity.properties();
        entity.id().len()
            + properties
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>()
    };
    state
        .list(&Query::default())
        .map(|entity| bytes(entity.unwrap()))
        .sum()
}

#[test]
fn a_small_entity_takes_at_most_100_bytes_beyond_its_content() {
    let properties = [
        ("humidity", "41.5"),
        ("temperature", "22.50"),
        ("unit", "\"C\""),
    ];
    // Just past a growth of the table, where it is emptiest, and in both orders of creation.
    for count in [14_337_u64, 28_673, 50_000] {
        for step in [1, 7919] {
            let mut state = State::default();
            for number in 0..count {
                let id = format!("house/room-{:06}", number * step % count);
                apply(&mut state, number, &encode(&id, &properties));
            }
            let count = state.len();
            let overhead = (state.heap_bytes() - content_bytes(&state)) / count;
            assert!(overhead <= 100, "{overhead} bytes for each of {count}");
        }
    }
}

#[test]
fn memory_of_deleted_entities_and_huge_events_is_used_again() {
    let mut state = State::default();
    let huge = format!("\"{}\"", "x".repeat(1 << 20));
    let mut settled = 0;
    for round in 0..10 {
        for number in 0..2000 {
            apply(
                &mut state,
                number,
                &encode(&format!("{number}-{round}"), &[("a", "1")]),
            );
        }
        apply(&mut state, 1, &encode("huge", &[("a", &huge)]));
        apply(&mut state, 1, &encode_event("huge", &[], true));
        for number in 0..2000 {
            apply(
                &mut state,
                number,
                &encode_event(&format!("{number}-{round}"), &[], true),
            );
        }
        assert!(state.is_empty());
        if round == 1 {
            settled = state.heap_bytes();
        }
    }
    assert!(settled < 400_000, "{settled} bytes");
    // Which parts of the table have grown differs a little from round to round.
    assert!(
        state.heap_bytes() <= settled + settled / 4,
        "{} bytes after {settled}",
        state.heap_bytes()
    );
}
