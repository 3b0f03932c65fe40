//! Logs of this and earlier generations → the state of one shard.

use super::engine::Engine;
use super::log::RECORD_KIND_EVENT;
use crate::model::{EventDecodeError, Timestamp};
use flux_storage::{Log, LogDir, Record, Recovery, ReplayError, SealedGeneration, Sequence};

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
}

/// Applies one record to `engine`; events that another of `shards` shards owns are passed over.
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
    if record.kind != RECORD_KIND_EVENT {
        return Err(ReplayFault::Kind {
            sequence,
            kind: record.kind,
        });
    }
    let time = Timestamp::from_micros(record.time_micros);
    engine
        .replay((sequence, time, record.payload), shard, shards)
        .map_err(|source| ReplayFault::Event { sequence, source })
}

/// Opens the log of a shard, and gives its engine the state that all generations add up to. Blocks.
///
/// # Errors
/// What the storage found, or a [`ReplayFault`].
pub fn open(
    sealed: &[SealedGeneration],
    place: LogDir,
    (shard, shards): (u16, u16),
) -> Result<(Engine, Log, Recovery), ReplayError<ReplayFault>> {
    let mut engine = Engine::default();
    for generation in sealed {
        for log in generation.logs() {
            log.replay(|record| replay_record(&mut engine, &record, shard, shards))?;
        }
    }
    let (log, recovery) = Log::open(place, |record| {
        replay_record(&mut engine, &record, shard, 1)
    })?;
    Ok((engine, log, recovery))
}
