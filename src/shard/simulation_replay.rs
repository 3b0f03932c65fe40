//! What a replay of the simulation's log leads to, and what an engine holds, as the model has it.

use super::simulation::Model;
use crate::engine::{Engine, replay_record};
use crate::model::RECORD_KIND_EVENT;
use flux_storage::{Record, Sequence};

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
