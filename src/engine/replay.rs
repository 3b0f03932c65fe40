//! Records of a log → the state of one shard.

use super::Engine;
use crate::model::{
    EntityView, EventDecodeError, EventView, RECORD_KIND_ENTITY, RECORD_KIND_EVENT, StoredChange,
    Timestamp, place,
};
use crate::state::PREFETCH_GROUP_IDS_MAX;
use flux_storage::{LayerError, Record, Sequence};

/// Why a log can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayFault {
    /// A record holds something else than an event.
    #[error("record {} holds no event that this version can read", sequence.get())]
    Event {
        /// The record.
        sequence: Sequence,
        /// What is wrong with it.
        #[source]
        source: EventDecodeError,
    },
    /// A record is of a kind that this version does not know.
    #[error("record {} is of kind {kind}, which this version does not know", sequence.get())]
    Kind {
        /// The record.
        sequence: Sequence,
        /// Its kind.
        kind: u8,
    },
    /// A layer of the checkpoint that the log is replayed over is damaged.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// Why a record can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum EngineReplayError {
    /// It holds no event.
    #[error(transparent)]
    Event(#[from] EventDecodeError),
    /// The layer that may hold its entity is damaged.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

impl Engine {
    /// Applies a record of the log at start. `shard` of `shards`: events that another shard owns by
    /// now are passed over.
    ///
    /// # Errors
    /// If the record holds no event, or the layer that may hold its entity is damaged.
    pub fn replay(
        &mut self,
        record: (Sequence, Timestamp, &[u8]),
        shard: u16,
        shards: u16,
    ) -> Result<(), EngineReplayError> {
        let (sequence, time, bytes) = record;
        let event = EventView::decode(bytes)?;
        if shards == 1 || place(event.entity_id, shards) == shard {
            let promoted = self.state.promote(event.entity_id)?;
            self.apply(promoted, (sequence, time), &event);
        }
        Ok(())
    }

    /// Applies a record of the log that holds an entity, at start. `shard` of `shards` as for
    /// [`Engine::replay`].
    ///
    /// # Errors
    /// If the record holds no entity, or the layer that may hold an older form of it is damaged.
    pub fn replay_entity(
        &mut self,
        record: (Sequence, Timestamp, &[u8]),
        shard: u16,
        shards: u16,
    ) -> Result<(), EngineReplayError> {
        let (sequence, time, bytes) = record;
        let entity = EntityView::decode(bytes)?;
        if shards == 1 || place(entity.id, shards) == shard {
            let promoted = self.state.promote(entity.id)?;
            self.latest_time = self.latest_time.max(time);
            let applied = self.state.replace(promoted, sequence, &entity);
            let time = time.max(entity.last_updated);
            self.namespaces.count(entity.id, applied, (time, sequence));
        }
        Ok(())
    }

    /// Says how many events there were so far, if a replay counted another shard's.
    pub(crate) fn correct_events(&mut self, events: u64) {
        self.events = events;
    }

    /// A replay has come across a gap of so many events.
    pub(super) fn note_lost(&mut self, events: u64) {
        self.lost = self.lost.saturating_add(events);
    }

    /// Events that a repair of the log gave up, in what was replayed. Each may have been another
    /// shard's, if the log is older than the number of shards.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// Applies one record to `engine`; events that another of `shards` shards owns are passed over, and
/// so are gaps, which are counted.
///
/// # Errors
/// [`ReplayFault`].
pub fn replay_record(
    engine: &mut Engine,
    record: &Record<'_>,
    shard: u16,
    shards: u16,
) -> Result<(), ReplayFault> {
    let sequence = record.sequence;
    if let Some(gap) = record.gap() {
        engine.note_lost(gap.lost());
        return Ok(());
    }
    let time = Timestamp::from_micros(record.time_micros);
    let bytes = (sequence, time, record.payload);
    let replayed = match record.kind {
        RECORD_KIND_EVENT => engine.replay(bytes, shard, shards),
        RECORD_KIND_ENTITY => engine.replay_entity(bytes, shard, shards),
        kind => return Err(ReplayFault::Kind { sequence, kind }),
    };
    replayed.map_err(|error| match error {
        EngineReplayError::Event(source) => ReplayFault::Event { sequence, source },
        EngineReplayError::Layer(error) => ReplayFault::Layer(error),
    })
}

/// Records that are applied together, so that the cache misses of looking up their entities
/// overlap.
///
/// The log hands out records one by one and takes them back, so they are copied: a fraction of what
/// is gained.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    records: Vec<BatchRecord>,
}

#[derive(Debug, Clone, Copy)]
struct BatchRecord {
    sequence: Sequence,
    time_micros: i64,
    kind: u8,
    /// Where its payload ends in the batch's bytes.
    end: usize,
}

impl Batch {
    /// Takes a record in, and applies all if the batch is full.
    pub(crate) fn push(
        &mut self,
        target: &mut Target<'_>,
        record: &Record<'_>,
    ) -> Result<(), ReplayFault> {
        self.bytes.extend_from_slice(record.payload);
        self.records.push(BatchRecord {
            sequence: record.sequence,
            time_micros: record.time_micros,
            kind: record.kind,
            end: self.bytes.len(),
        });
        if self.records.len() == PREFETCH_GROUP_IDS_MAX {
            self.apply(target)?;
        }
        Ok(())
    }

    /// Applies what is left.
    pub(crate) fn apply(&mut self, target: &mut Target<'_>) -> Result<(), ReplayFault> {
        let mut ids = [&[][..]; PREFETCH_GROUP_IDS_MAX];
        for (id, record) in ids.iter_mut().zip(self.records()) {
            *id = StoredChange::entity_id_of(record.kind, record.payload).unwrap_or_default();
        }
        target.engine.prefetch(&ids[..self.records.len()]);
        for record in self.records() {
            replay_record(target.engine, &record, target.shard, target.shards)?;
        }
        let bytes = self.bytes.len() + self.records.len() * RECORD_OVERHEAD_BYTES;
        (target.progress)(self.records.len() as u64, bytes as u64);
        self.bytes.clear();
        self.records.clear();
        Ok(())
    }

    fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut start = 0;
        self.records.iter().map(move |record| {
            let payload = &self.bytes[start..record.end];
            start = record.end;
            Record {
                sequence: record.sequence,
                time_micros: record.time_micros,
                kind: record.kind,
                group: None,
                payload,
            }
        })
    }
}

/// What records are replayed into.
pub(crate) struct Target<'e> {
    pub(crate) engine: &'e mut Engine,
    pub(crate) shard: u16,
    /// 1 if all of the log is the shard's own.
    pub(crate) shards: u16,
    /// Told of the records, and about how many bytes they take in the log, as they are applied.
    pub(crate) progress: &'e mut dyn FnMut(u64, u64),
}

/// About what a record takes in the log beside its payload.
const RECORD_OVERHEAD_BYTES: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use flux_storage::RECORD_KIND_GAP;

    fn replay(kind: u8, payload: &[u8]) -> (Engine, Result<(), ReplayFault>) {
        let mut engine = Engine::default();
        let record = Record {
            sequence: Sequence::new(9),
            time_micros: 1,
            kind,
            group: None,
            payload,
        };
        let replayed = replay_record(&mut engine, &record, 0, 1);
        (engine, replayed)
    }

    #[test]
    fn a_gap_is_passed_over_and_counted() {
        let payload = [5_u64.to_le_bytes(), 9_u64.to_le_bytes()].concat();
        let (engine, replayed) = replay(RECORD_KIND_GAP, &payload);
        replayed.unwrap();
        assert_eq!((engine.lost(), engine.events()), (5, 0));
    }

    #[test]
    fn a_record_of_an_unknown_kind_is_refused() {
        for (kind, payload) in [(3, &b"x"[..]), (RECORD_KIND_GAP, b"x")] {
            let (_, replayed) = replay(kind, payload);
            assert!(matches!(replayed, Err(ReplayFault::Kind { .. })), "{kind}");
        }
    }
}
