//! What the server may say, given what its logs hold.
//!
//! The model reads the records of every shard's disk. So it knows the state after each of them. It
//! holds against that every answer and every push, at the moment the server sends it:
//!
//! - *durable before visible*: what is shown is the state after some record that is durable by
//!   then;
//! - *nothing seen is unseen*: that record is not before any that was shown to anybody before the
//!   request began;
//! - a success means that the record is there, as it was sent, after everything that was known when
//!   it was sent;
//! - what was refused is never stored;
//! - of an unbroken watch, every change comes once and in order.

use crate::model::{EventId, EventView, place};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// An entity: version and the JSON of its properties.
pub(super) type Entity = (u64, BTreeMap<String, String>);

/// A record that the model knows.
#[derive(Debug, Clone)]
pub(super) struct Fact {
    pub(super) entity: String,
    pub(super) event_id: String,
    /// What it set; `None` for a tombstone.
    pub(super) set: Option<BTreeMap<String, String>>,
    /// A tombstone of an entity that was there, or an event that set something: watchers are told.
    is_pushed: bool,
}

/// Per shard, a position in its log.
pub(super) type Positions = Vec<u64>;

#[derive(Debug, Default)]
struct Shard {
    facts: Vec<Fact>,
    /// The states of each entity that was ever there, with the record after which it was so.
    histories: BTreeMap<String, Vec<(u64, Option<Entity>)>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Model {
    shards: Vec<Shard>,
    by_event: HashMap<String, (usize, u64)>,
    /// The last record of each shard that anybody was shown.
    seen: Positions,
    /// What may be shown now.
    visible: Positions,
    /// Events that were refused.
    refused: HashSet<String>,
    /// When the requests for events began, in steps.
    began: HashMap<String, u64>,
    tags: HashMap<String, (String, u64)>,
    /// How much was checked.
    pub(super) checks: u64,
}

impl Shard {
    fn learn(&mut self, payload: &[u8]) -> Fact {
        let event = EventView::decode(payload).unwrap();
        let entity = event.entity_id.to_owned();
        let sequence = self.facts.len() as u64 + 1;
        let history = self.histories.entry(entity.clone()).or_default();
        let before = history.last().and_then(|(_, state)| state.clone());
        let existed = before.is_some();
        let set = (!event.tombstone).then(|| {
            let properties = event.properties();
            let properties = properties.map(|it| (it.name.to_owned(), it.value.to_owned()));
            properties.collect::<BTreeMap<_, _>>()
        });
        let is_pushed = set.as_ref().map_or(existed, |set| !set.is_empty());
        let after = set.as_ref().map(|set| {
            let (version, mut properties) = before.unwrap_or_default();
            properties.extend(set.clone());
            (version + 1, properties)
        });
        history.push((sequence, after));
        let event_id = match event.event_id {
            EventId::Text(text) => text.to_owned(),
            EventId::Uuid(uuid) => uuid.to_string(),
        };
        let fact = Fact {
            entity,
            event_id,
            set,
            is_pushed,
        };
        self.facts.push(fact.clone());
        fact
    }

    /// The records after which `entity` was in the state `found`, and the record that ended it.
    fn find(&self, entity: &str, found: Option<&Entity>) -> Vec<(u64, u64)> {
        let history = self.histories.get(entity).map_or(&[][..], Vec::as_slice);
        let before = std::iter::once((0, None));
        let states: Vec<(u64, Option<&Entity>)> = before
            .chain(history.iter().map(|(at, state)| (*at, state.as_ref())))
            .collect();
        let ends = states.iter().skip(1).map(|(at, _)| *at);
        let ends = ends.chain([u64::MAX]);
        let spans = states.iter().zip(ends);
        let matching = spans.filter(|((_, state), _)| *state == found);
        matching.map(|((at, _), end)| (*at, end)).collect()
    }
}

impl Model {
    pub(super) fn new(shards: u16) -> Self {
        let count = usize::from(shards);
        Self {
            shards: (0..count).map(|_| Shard::default()).collect(),
            seen: vec![0; count],
            visible: vec![0; count],
            ..Self::default()
        }
    }

    /// How many records of a shard it has learnt.
    pub(super) fn known(&self, shard: usize) -> u64 {
        self.shards[shard].facts.len() as u64
    }

    /// Learns what else a shard's log holds by now, and how much of it may be shown.
    pub(super) fn learn(&mut self, shard: usize, records: &[(i64, Box<[u8]>)], visible: u64) {
        for (_, payload) in records {
            let fact = self.shards[shard].learn(payload);
            let sequence = self.shards[shard].facts.len() as u64;
            assert!(
                !self.refused.contains(&fact.event_id),
                "{} was refused and is stored",
                fact.event_id
            );
            let before = self.by_event.insert(fact.event_id, (shard, sequence));
            assert!(before.is_none(), "an event is stored once");
        }
        self.visible[shard] = visible;
    }

    /// A shard was recovered from these records: what it had lost, nobody may have seen.
    pub(super) fn recover(&mut self, shard: usize, records: &[(i64, Box<[u8]>)]) {
        let kept = records.len() as u64;
        assert!(
            kept >= self.seen[shard],
            "shard {shard} has lost {} and more, which was seen or acknowledged; it ends at {kept}",
            self.seen[shard]
        );
        self.by_event
            .retain(|_, (of, sequence)| *of != shard || *sequence <= kept);
        let before = std::mem::take(&mut self.shards[shard]);
        for (index, (_, payload)) in records.iter().enumerate() {
            let fact = self.shards[shard].learn(payload);
            if let Some(known) = before.facts.get(index) {
                assert_eq!(known.event_id, fact.event_id, "the log is as it was");
            } else {
                self.by_event
                    .insert(fact.event_id, (shard, index as u64 + 1));
            }
        }
        self.visible[shard] = kept;
    }

    /// What was shown so far: a request that begins now has to be answered with no less.
    pub(super) fn floor(&self) -> Positions {
        self.seen.clone()
    }

    fn shard_of(&self, entity: &str) -> usize {
        usize::from(place(entity, u16::try_from(self.shards.len()).unwrap()))
    }

    fn show(&mut self, shard: usize, sequence: u64) {
        self.checks += 1;
        self.seen[shard] = self.seen[shard].max(sequence);
    }

    /// The request for an event begins at a step.
    pub(super) fn begin(&mut self, event_id: &str, step: u64) {
        self.began.insert(event_id.to_owned(), step);
    }

    /// The server says that it has stored an event. Returns its shard and sequence.
    pub(super) fn stored(
        &mut self,
        (entity, event_id): (&str, &str),
        set: Option<&BTreeMap<String, String>>,
        floor: &Positions,
    ) -> (usize, u64) {
        let Some(&(shard, sequence)) = self.by_event.get(event_id) else {
            panic!("{event_id} is acknowledged and not written");
        };
        assert_eq!(shard, self.shard_of(entity));
        assert!(
            sequence <= self.visible[shard],
            "{event_id} is acknowledged before it is durable: {sequence} of {}",
            self.visible[shard]
        );
        assert!(
            sequence > floor[shard],
            "{event_id} is stored before what was known when it was sent"
        );
        let fact = &self.shards[shard].facts[usize::try_from(sequence).unwrap() - 1];
        assert_eq!(fact.entity, entity, "{event_id}");
        assert_eq!(
            fact.set.as_ref(),
            set,
            "{event_id} is stored as it was sent"
        );
        self.show(shard, sequence);
        (shard, sequence)
    }

    /// The server says that it has not stored an event, and never will.
    pub(super) fn refused(&mut self, event_id: &str) {
        assert!(
            !self.by_event.contains_key(event_id),
            "{event_id} was refused and is stored"
        );
        self.refused.insert(event_id.to_owned());
        self.checks += 1;
    }

    /// The server shows an entity, or that there is none, to a request that began when `floor` was
    /// known.
    pub(super) fn shown(&mut self, entity: &str, found: Option<&Entity>, floor: &Positions) {
        let shard = self.shard_of(entity);
        let spans = self.shards[shard].find(entity, found);
        let (visible, floor) = (self.visible[shard], floor[shard]);
        let fitting = spans
            .iter()
            .find(|(at, end)| *at <= visible && *end > floor);
        let Some(&(at, _)) = fitting else {
            panic!(
                "{entity} is shown as {found:?}, which it was in {spans:?}; {visible} records may be shown, and \
                 {floor} were known"
            );
        };
        self.show(shard, at);
    }

    /// An entity tag names one state.
    pub(super) fn tagged(&mut self, tag: &str, entity: &str, version: u64) {
        let named = (entity.to_owned(), version);
        let before = self.tags.insert(format!("{entity} {tag}"), named.clone());
        assert!(before.is_none_or(|before| before == named), "{tag} twice");
    }

    /// Every entity that was ever there.
    pub(super) fn entities(&self) -> Vec<String> {
        let entities = self.shards.iter().flat_map(|it| it.histories.keys());
        entities.cloned().collect()
    }

    /// The record that set a property of an entity to a value that no other record sets.
    fn setter(&self, entity: &str, property: &str, value: &str) -> (usize, u64) {
        let shard = self.shard_of(entity);
        let mut facts = self.shards[shard].facts.iter().zip(1..);
        let found = facts.find(|(fact, _)| {
            let set = fact.set.as_ref().and_then(|set| set.get(property));
            fact.entity == entity && set.is_some_and(|set| set == value)
        });
        let Some((_, sequence)) = found else {
            panic!("{entity} {property}={value} is pushed and not written");
        };
        (shard, sequence)
    }
}

/// One push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Push {
    Set { property: String, value: String },
    Deleted,
}

/// What one connection has subscribed to and was pushed.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Patterns, with the step at which the subscription was confirmed.
    filters: BTreeMap<String, u64>,
    /// Of each entity, from when its subscription was confirmed.
    pushed: BTreeMap<String, Vec<Push>>,
    /// The last record pushed of each namespace.
    positions: BTreeMap<String, u64>,
    /// The last record pushed of each property.
    values: BTreeMap<(String, String), u64>,
    /// It has been slow: values may have been left out.
    may_conflate: bool,
}

fn covers(filter: &str, entity: &str) -> bool {
    match filter.strip_suffix('*') {
        Some(prefix) => entity.starts_with(prefix),
        None => filter == entity,
    }
}

fn namespace(entity: &str) -> &str {
    entity
        .split_once('/')
        .map_or(entity, |(namespace, _)| namespace)
}

impl Watch {
    /// Of a client that reads at once, or of a slow one.
    pub(super) fn new(may_conflate: bool) -> Self {
        Self {
            may_conflate,
            ..Self::default()
        }
    }

    /// A subscription is sent.
    pub(super) fn ask(&mut self, filter: &str) {
        self.filters.insert(filter.to_owned(), u64::MAX);
    }

    /// It is confirmed at a step.
    pub(super) fn confirm(&mut self, filter: &str, step: u64) {
        self.filters.insert(filter.to_owned(), step);
    }

    fn is_confirmed(&self, entity: &str) -> bool {
        let confirmed = self.filters.iter().filter(|(_, step)| **step < u64::MAX);
        confirmed
            .into_iter()
            .any(|(filter, _)| covers(filter, entity))
    }

    /// The server pushes something.
    pub(super) fn take(&mut self, model: &mut Model, entity: &str, push: Push) {
        assert!(
            self.filters.keys().any(|filter| covers(filter, entity)),
            "{entity} is pushed to {:?}",
            self.filters
        );
        if let Push::Set { property, value } = &push {
            let (shard, sequence) = model.setter(entity, property, value);
            assert!(
                sequence <= model.visible[shard],
                "{entity} {property}={value} is pushed before it is durable: {sequence} of {}",
                model.visible[shard]
            );
            let key = (entity.to_owned(), property.clone());
            let before = self.values.insert(key, sequence).unwrap_or(0);
            assert!(before < sequence, "{entity} {property}={value} goes back");
            let position = self.positions.entry(namespace(entity).to_owned());
            let position = position.or_default();
            assert!(
                self.may_conflate || *position <= sequence,
                "{entity} {property}={value} is pushed out of order"
            );
            *position = (*position).max(sequence);
            model.show(shard, sequence);
        }
        model.checks += 1;
        // What comes before is not promised to be whole.
        if self.is_confirmed(entity) {
            let pushed = self.pushed.entry(entity.to_owned()).or_default();
            pushed.push(push);
        }
    }

    /// The watch ends. `is_settled`: everything that may be shown was pushed by now, or should have
    /// been.
    pub(super) fn end(&self, model: &Model, is_settled: bool) {
        let entities: BTreeSet<String> = if is_settled {
            model.entities().into_iter().collect()
        } else {
            self.pushed.keys().cloned().collect()
        };
        for entity in &entities {
            let since = self.filters.iter();
            let since = since.filter(|(filter, _)| covers(filter, entity));
            let Some(since) = since.map(|(_, step)| *step).min() else {
                continue;
            };
            let expected = expected(model, entity, since);
            let pushed = self.pushed.get(entity).map_or(&[][..], Vec::as_slice);
            if self.may_conflate {
                if is_settled {
                    check_last(&expected, pushed, entity);
                }
            } else {
                check_run(&expected, pushed, (entity, is_settled));
            }
        }
    }
}

/// A push that a watcher may get.
#[derive(Debug)]
struct Expected {
    push: Push,
    /// The request for it began after the subscription was confirmed.
    is_due: bool,
}

/// What the events of an entity that may be shown push, in order.
fn expected(model: &Model, entity: &str, since: u64) -> Vec<Expected> {
    let shard = model.shard_of(entity);
    let visible = usize::try_from(model.visible[shard]).unwrap();
    let facts = model.shards[shard].facts.iter().take(visible);
    let mut expected = Vec::new();
    for fact in facts.filter(|fact| fact.entity == entity && fact.is_pushed) {
        let is_due = model
            .began
            .get(&fact.event_id)
            .is_some_and(|began| *began > since);
        match &fact.set {
            None => expected.push(Expected {
                push: Push::Deleted,
                is_due,
            }),
            Some(set) => expected.extend(set.iter().map(|(property, value)| Expected {
                push: Push::Set {
                    property: property.clone(),
                    value: value.clone(),
                },
                is_due,
            })),
        }
    }
    expected
}

/// `pushed` is an unbroken run of what was expected; if all is settled, up to the end, with all
/// that was due.
fn check_run(expected: &[Expected], pushed: &[Push], (entity, is_settled): (&str, bool)) {
    let is_run = |start: usize| {
        let run = expected[start..].iter().map(|it| &it.push);
        run.take(pushed.len()).eq(pushed.iter())
    };
    let last = expected.len().checked_sub(pushed.len());
    let Some(last) = last else {
        panic!("{entity}: {pushed:?} is pushed, and only {expected:?} has happened");
    };
    if !is_settled {
        assert!(
            (0..=last).any(is_run),
            "{entity}: {pushed:?} is pushed of {expected:?}"
        );
        return;
    }
    assert!(
        is_run(last) && expected[..last].iter().all(|it| !it.is_due),
        "{entity}: {pushed:?} is pushed, {expected:?} was expected"
    );
}

/// The last value pushed of each property is the one that is due last.
fn check_last(expected: &[Expected], pushed: &[Push], entity: &str) {
    let mut last = BTreeMap::new();
    for it in expected {
        match &it.push {
            Push::Deleted => last.clear(),
            Push::Set { property, value } => {
                last.insert(property.clone(), (value.clone(), it.is_due));
            }
        }
    }
    for (property, (value, is_due)) in last {
        let push = Push::Set {
            property: property.clone(),
            value: value.clone(),
        };
        assert!(
            !is_due || pushed.contains(&push),
            "{entity}: {property}={value} was never pushed to a slow reader"
        );
    }
}
