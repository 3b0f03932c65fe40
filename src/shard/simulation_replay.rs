//! The simulation's model, what a replay of the log leads to, and what an engine holds, as the
//! model has it.

use crate::engine::{Engine, replay_record};
use crate::model::{EventView, RECORD_KIND_EVENT, placement_key};
use flux_storage::{Record, Sequence};
use std::collections::BTreeMap;

/// An entity as the contract describes it (§3): version, time and properties.
pub(super) type Entity = (u64, i64, BTreeMap<String, String>);

/// Entities by their ids.
pub(super) type Model = BTreeMap<String, Entity>;

pub(super) fn apply_to_model(model: &mut Model, time: i64, event: &EventView<'_>) {
    if event.tombstone {
        model.remove(event.entity_id);
        return;
    }
    let (version, last_updated, properties) = model.entry(event.entity_id.to_owned()).or_default();
    *version += 1;
    *last_updated = time;
    for property in event.properties() {
        properties.insert(property.name.to_owned(), property.value.to_owned());
    }
    for name in event.decided.removed() {
        properties.remove(name);
    }
}

pub(super) fn model_of(records: &[(i64, Box<[u8]>)]) -> Model {
    let mut model = Model::new();
    for (time, bytes) in records {
        apply_to_model(&mut model, *time, &EventView::decode(bytes).unwrap());
    }
    model
}

/// The times of the last events, by placement key.
pub(super) fn last_times_of(records: &[(i64, Box<[u8]>)]) -> BTreeMap<String, i64> {
    let key_and_time = |(time, bytes): &(i64, Box<[u8]>)| {
        let event = EventView::decode(bytes).unwrap();
        (placement_key(event.entity_id).to_owned(), *time)
    };
    records.iter().map(key_and_time).collect()
}

/// The entities of an engine.
pub(super) fn dump(engine: &Engine) -> Model {
    let entities = engine.state().list(&crate::state::Query {
        namespace: None,
        prefix: None,
        after: None,
    });
    entities
        .map(|entity| {
            let entity = entity.unwrap();
            let properties = entity
                .properties()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let last_updated = entity.last_updated().as_micros();
            (
                entity.id().to_owned(),
                (entity.version(), last_updated, properties),
            )
        })
        .collect()
}

/// What a replay of these records leads to.
pub(super) fn replayed(records: &[(i64, Box<[u8]>)]) -> Engine {
    let mut engine = Engine::default();
    for (index, (time_micros, payload)) in records.iter().enumerate() {
        let sequence = Sequence::new(index as u64 + 1);
        let record = Record {
            sequence,
            time_micros: *time_micros,
            kind: RECORD_KIND_EVENT,
            group: None,
            payload,
        };
        replay_record(&mut engine, &record, 0, 1).unwrap();
    }
    engine
}
