//! What the logs say: the events of each namespace in order, and the states that they led to.

use crate::model::{Cursor, CursorScope, EventView, StoredChange, place_key, placement_key};
use flux_storage::{Record, Sequence};
use std::collections::BTreeMap;

/// An entity: version and the JSON of its properties.
pub(super) type Entity = (u64, BTreeMap<String, String>);

/// An event.
#[derive(Debug, Clone)]
pub(super) struct Fact {
    pub(super) sequence: u64,
    pub(super) entity: String,
    /// The names that it set or removed.
    pub(super) names: Vec<String>,
    pub(super) is_tombstone: bool,
    /// The entity after it.
    after: Option<Entity>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// By placement key.
    facts: BTreeMap<String, Vec<Fact>>,
    entities: BTreeMap<String, Entity>,
    /// By shard, the last event that it knows.
    pub(super) ends: Vec<Sequence>,
    pub(super) checks: u64,
}

impl Model {
    /// Learns the next record of a log.
    pub(super) fn learn(&mut self, record: &Record<'_>) {
        let change = StoredChange::decode(record.kind, record.payload).unwrap();
        let Some(StoredChange::Event(event)) = change else {
            panic!("nothing else is written here");
        };
        let id = event.entity_id.to_owned();
        let before = self.entities.remove(&id);
        let after = (!event.tombstone).then(|| apply(before, &event));
        if let Some(after) = &after {
            self.entities.insert(id.clone(), after.clone());
        }
        let set = event.properties().map(|it| it.name.to_owned());
        let removed = event.decided.removed().map(str::to_owned);
        let fact = Fact {
            sequence: record.sequence.get(),
            names: set.chain(removed).collect(),
            is_tombstone: event.tombstone,
            after,
            entity: id,
        };
        let facts = self.facts.entry(placement_key(&fact.entity).to_owned());
        let facts = facts.or_default();
        let last = facts.last().map_or(0, |last| last.sequence);
        assert!(last < fact.sequence, "sequences of a namespace rise");
        facts.push(fact);
    }

    /// The event with this sequence in the namespace of an entity.
    pub(super) fn fact(&self, entity: &str, sequence: u64) -> Option<&Fact> {
        let facts = self.facts.get(placement_key(entity))?;
        let place = facts.binary_search_by_key(&sequence, |fact| fact.sequence);
        facts.get(place.ok()?)
    }

    /// The events of entities that a pattern covers.
    pub(super) fn facts(&self, pattern: &str) -> impl Iterator<Item = &Fact> {
        let facts = self.facts.values().flatten();
        facts.filter(move |fact| covers(pattern, &fact.entity))
    }

    /// The entities that a pattern covers, as they were at a place; `None`: as they are.
    pub(super) fn state(&self, pattern: &str, at: Option<&Cursor>) -> BTreeMap<String, Entity> {
        let mut state = BTreeMap::new();
        for fact in self.facts(pattern) {
            if at.is_some_and(|at| fact.sequence > place_of(at, &fact.entity)) {
                continue;
            }
            match &fact.after {
                None => drop(state.remove(&fact.entity)),
                Some(after) => drop(state.insert(fact.entity.clone(), after.clone())),
            }
        }
        state
    }

    /// The server gives a cursor: nothing that is still to come lies before its place.
    pub(super) fn check_cursor(&mut self, text: &str) {
        self.checks += 1;
        let cursor = Cursor::parse(text).unwrap();
        let is_behind = |place: Sequence, end: Sequence| {
            assert!(place <= end, "a cursor names {place:?} of {end:?}");
        };
        if let Ok(places) = cursor.last_of_each() {
            // One that a client came with may be of another number of shards.
            if places.len() == self.ends.len() {
                for (place, end) in places.iter().zip(&self.ends) {
                    is_behind(*place, *end);
                }
            }
            return;
        }
        let shards = u16::try_from(self.ends.len()).unwrap();
        for (key, facts) in &self.facts {
            if let Ok(place) = cursor.last_of(CursorScope::of(&facts[0].entity)) {
                is_behind(place, self.ends[usize::from(place_key(key, shards))]);
            }
        }
    }

    /// A message says something of an entity: that is a state of it that is durable.
    pub(super) fn check_version(&mut self, entity: &str, (sequence, version): (u64, u64)) {
        self.checks += 1;
        let Some(fact) = self.fact(entity, sequence) else {
            panic!("{entity} of {sequence} is shown, and is not durable");
        };
        assert_eq!(fact.entity, entity);
        let known = fact.after.as_ref().map_or(0, |(version, _)| *version);
        let own = || -> Vec<(u64, bool)> {
            let own = self.facts(entity);
            own.map(|it| (it.sequence, it.is_tombstone)).collect()
        };
        assert_eq!(known, version, "{entity} of {sequence}, of {:?}", own());
    }

    /// A value is shown: it was set by an event that is durable.
    pub(super) fn check_value(&mut self, entity: &str, (name, value): (&str, &str)) {
        self.checks += 1;
        let facts = self.facts.get(placement_key(entity)).into_iter().flatten();
        let mut states = facts
            .filter(|it| it.entity == entity)
            .filter_map(|it| it.after.as_ref());
        let is_known =
            states.any(|(_, properties)| properties.get(name).is_some_and(|known| known == value));
        assert!(
            is_known,
            "{entity} {name}={value} is shown, and is not durable"
        );
    }
}

fn apply(before: Option<Entity>, event: &EventView<'_>) -> Entity {
    let (version, mut properties) = before.unwrap_or_default();
    for property in event.properties() {
        properties.insert(property.name.to_owned(), property.value.to_owned());
    }
    for name in event.decided.removed() {
        properties.remove(name);
    }
    (version + 1, properties)
}

/// The place of a cursor for the events of an entity.
pub(super) fn place_of(cursor: &Cursor, entity: &str) -> u64 {
    let place = cursor.last_of(CursorScope::of(entity));
    place.unwrap_or(Sequence::ZERO).get()
}

pub(super) fn covers(pattern: &str, entity: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => entity.starts_with(prefix),
        None => pattern == entity,
    }
}
