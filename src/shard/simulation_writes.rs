//! The writes of the simulation: events with ids, conditions and operations; and what a shard has
//! to say of each, judged by the log.
//!
//! - A stored event is in the log as it came, its conditions held before it, and its results follow
//!   from what was before it.
//! - A repetition names the event that is in the log under its id; no id is there twice.
//! - What is refused for a condition shows the entity as it was when the condition failed.

use super::simulation_replay::{Entity, Model, apply_to_model, model_of};
use crate::api::ApiError;
use crate::api::error::CurrentEntity;
use crate::api::outcome::PartOutcome;
use crate::model::{
    EventDraft, EventId, EventView, OperationResults, Property, Published, Sent, Term, TermKind,
    Terms, namespace_of,
};
use std::collections::{BTreeMap, HashSet};

/// A write that the shard is asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) event: Vec<u8>,
    pub(super) terms: Vec<u8>,
}

/// A write of this entity from this source.
pub(super) fn random_write(random: &mut fastrand::Rng, entity_id: &str, source: &str) -> Asked {
    let value = random.u16(..100).to_string();
    let names = ["a", "b", "c"];
    let count = random.usize(..=names.len());
    let properties = names[..count].iter().map(|name| Property {
        name,
        value: &value,
    });
    let properties: Vec<Property<'_>> = properties.collect();
    let terms = random_terms(random, &names[count..]);
    let id = format!("e{}", random.u8(..200));
    let extra = format!(r#""asked":{:?}"#, operations(&terms));
    let draft = EventDraft {
        entity_id,
        event_id: if random.u8(..3) == 0 {
            EventId::Uuid(uuid::Uuid::from_u128(random.u128(..)))
        } else {
            EventId::Text(&id)
        },
        stream: "s",
        source,
        timestamp_ms: None,
        key: None,
        schema: None,
        traceparent: None,
        extra: &extra,
        tombstone: random.u8(..) < 25,
        properties: &properties,
    };
    let mut asked = Asked {
        event: Vec::new(),
        terms: Vec::new(),
    };
    draft.encode(&mut asked.event);
    for (kind, name, value) in &terms {
        let (kind, name, value) = (*kind, name, value);
        Term { kind, name, value }.encode(&mut asked.terms);
    }
    asked
}

/// A term, by its kind, name and value.
type OwnedTerm = (TermKind, &'static str, String);

/// A few conditions and operations; `unset`: properties that the event does not set.
fn random_terms(random: &mut fastrand::Rng, unset: &[&'static str]) -> Vec<OwnedTerm> {
    let mut terms = Vec::new();
    match random.u8(..16) {
        0 => terms.push((TermKind::Version, "", random.u8(1..4).to_string())),
        1 => terms.push((TermKind::Absent, "", String::new())),
        2 => terms.push((TermKind::Present, "", String::new())),
        3 => terms.push((TermKind::Equal, "n", random.i8(-3..4).to_string())),
        4 => terms.push((TermKind::Missing, "a", String::new())),
        _ => {}
    }
    if random.u8(..4) == 0 {
        terms.push((TermKind::Increment, "n", random.i8(-3..4).to_string()));
        terms.push((TermKind::Max, "m", random.i8(..).to_string()));
    }
    if random.u8(..5) == 0 {
        let ttl = match random.u8(..5) {
            0 => "null".to_owned(),
            _ => format!("0.{:06}", random.u16(1..20_000)),
        };
        terms.push((TermKind::Ttl, "", ttl));
    }
    if let Some(name) = unset.first().filter(|_| random.u8(..4) == 0) {
        terms.push((TermKind::Unset, name, String::new()));
    }
    terms
}

/// The operations among terms, as the event says them.
fn operations(terms: &[OwnedTerm]) -> String {
    let operations = terms.iter().filter(|(kind, ..)| kind.is_operation());
    let texts = operations.map(|(kind, name, value)| format!("{kind:?} {name} {value}"));
    texts.collect::<Vec<_>>().join(";")
}

/// Records as the log has them: time and payload.
pub(super) type Logged<'l> = &'l [(i64, Box<[u8]>)];

/// What the shard said of each write is what the log says.
pub(super) fn check_verdicts(outcome: &PartOutcome, asked: &[Asked], logged: Logged<'_>) {
    let mut verdicts = outcome.verdicts();
    for asked in asked {
        match verdicts.take_next() {
            Ok(published) => check_stored(&published, asked, logged),
            Err(ApiError::EventIdReused) => {
                let id = scoped_id(&asked.event).expect("it was sent with an id");
                let mut same = logged
                    .iter()
                    .filter(|(_, it)| scoped_id(it).as_ref() == Some(&id));
                let (_, other) = same.next().expect("another event has the id");
                assert_ne!(as_it_came(other), asked.event);
            }
            Err(ApiError::PreconditionFailed { entity }) => check_refused(entity, asked, logged),
            Err(error) => panic!("{error}"),
        }
    }
}

pub(super) fn check_stored(published: &Published, asked: &Asked, logged: Logged<'_>) {
    let count = usize::try_from(published.stored.sequence.get()).unwrap();
    let (_, bytes) = &logged[count - 1];
    let event = EventView::decode(bytes).unwrap();
    assert_eq!(
        as_it_came(bytes),
        asked.event,
        "it is in the log as it came"
    );
    let before = model_of(&logged[..count - 1]);
    let after = model_of(&logged[..count]);
    let version = |model: &Model| model.get(event.entity_id).map_or(0, |entity| entity.0);
    assert_eq!(
        published.stored.version,
        version(&after),
        "{}",
        event.entity_id
    );
    let entity = before.get(event.entity_id);
    if !published.duplicate {
        let is_bound = Terms::new(&asked.terms).any(|term| term.kind == TermKind::Bind);
        assert_eq!(published.bound, is_bound.then_some(true));
        assert!(
            holds(&asked.terms, entity),
            "it was stored though a condition failed"
        );
    }
    if event.tombstone {
        assert_eq!(published.properties, None);
        return;
    }
    let (set, removed) = results(&asked.terms, entity);
    let stored = event
        .results()
        .map(|it| (it.name.to_owned(), it.value.to_owned()));
    // The terms of a repetition may differ in conditions only, so this holds for it too.
    assert_eq!(stored.collect::<BTreeMap<_, _>>(), set);
    assert_eq!(event.decided.removed().collect::<Vec<_>>(), removed);
    let has_operations = Terms::new(&asked.terms).any(|term| term.kind.is_operation());
    match &published.properties {
        None => assert!(!has_operations, "the results are answered"),
        Some(OperationResults::Omitted(_)) => panic!("they are small"),
        Some(OperationResults::Json(json)) => {
            let json: BTreeMap<String, i64> = serde_json::from_str(json).unwrap();
            let json = json
                .into_iter()
                .map(|(name, value)| (name, value.to_string()));
            assert_eq!(json.collect::<BTreeMap<_, _>>(), set);
        }
    }
}

/// The entity was so at some time, and a condition failed then.
fn check_refused(shown: &CurrentEntity, asked: &Asked, logged: Logged<'_>) {
    let view = EventView::decode(&asked.event).unwrap();
    let version = match shown {
        CurrentEntity::Absent => 0,
        CurrentEntity::Omitted(_) => panic!("it is small"),
        CurrentEntity::Json(json) => {
            let json: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(json["id"], view.entity_id);
            json["version"].as_u64().unwrap()
        }
    };
    let mut model = Model::new();
    let fails = |model: &Model| {
        let entity = model.get(view.entity_id);
        entity.map_or(0, |entity| entity.0) == version && !holds(&asked.terms, entity)
    };
    let found = fails(&model)
        || logged.iter().any(|(time, bytes)| {
            let event = EventView::decode(bytes).unwrap();
            event.entity_id == view.entity_id && {
                apply_to_model(&mut model, *time, &event);
                fails(&model)
            }
        });
    assert!(found, "at no time a condition failed for version {version}");
}

/// Every id that a producer sent is in the log once for its namespace.
pub(super) fn check_ids(logged: Logged<'_>) {
    let mut ids = HashSet::new();
    for (_, bytes) in logged {
        if let Some(id) = scoped_id(bytes) {
            assert!(ids.insert(id.clone()), "{id:?} was stored twice");
        }
    }
}

/// What an id of a producer is known by.
pub(super) fn scoped_id(event: &[u8]) -> Option<(String, bool, Vec<u8>)> {
    let sent = Sent::of(event)?;
    let entity_id = std::str::from_utf8(sent.entity_id).unwrap();
    let namespace = namespace_of(entity_id);
    let scope = namespace.unwrap_or(entity_id).to_owned();
    Some((scope, namespace.is_some(), sent.event_id.to_vec()))
}

pub(super) fn as_it_came(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    EventView::decode(bytes)
        .unwrap()
        .encode_as_it_came(&mut out);
    out
}

/// Ten lines that say what a condition means.
pub(super) fn holds(terms: &[u8], entity: Option<&Entity>) -> bool {
    let property = |name: &str| entity.and_then(|(_, _, properties)| properties.get(name));
    Terms::new(terms).all(|term| match term.kind {
        TermKind::Version => entity.is_some_and(|(version, ..)| version.to_string() == term.value),
        TermKind::Absent => entity.is_none(),
        TermKind::Present => entity.is_some(),
        TermKind::Equal => property(term.name).is_some_and(|value| value == term.value),
        TermKind::Missing => property(term.name).is_none(),
        TermKind::EntityTag | TermKind::Filter => panic!("no write has one"),
        TermKind::Increment
        | TermKind::Min
        | TermKind::Max
        | TermKind::Append
        | TermKind::Unset
        | TermKind::Ttl
        | TermKind::Bind => true,
    })
}

/// Ten lines that say what an operation means: what is set, and what is removed.
pub(super) fn results<'t>(
    terms: &'t [u8],
    entity: Option<&Entity>,
) -> (BTreeMap<String, String>, Vec<&'t str>) {
    let property = |name: &str| entity.and_then(|(_, _, properties)| properties.get(name));
    let number = |name: &str| property(name).map(|value| value.parse::<i64>().unwrap());
    let (mut set, mut removed) = (BTreeMap::new(), Vec::new());
    for term in Terms::new(terms) {
        let sent = term.value.parse().unwrap_or(0);
        let current = number(term.name);
        if term.kind == TermKind::Increment {
            let value = current.unwrap_or(0) + sent;
            set.insert(term.name.to_owned(), value.to_string());
        } else if term.kind == TermKind::Max {
            let value = current.map_or(sent, |current| current.max(sent));
            set.insert(term.name.to_owned(), value.to_string());
        } else if term.kind == TermKind::Unset && current.is_some() {
            removed.push(term.name);
        }
    }
    (set, removed)
}
