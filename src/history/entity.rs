//! One entity as it was at an earlier time.
//!
//! Its events are read newest first, from that time back to its beginning: a tombstone, an imported
//! entity, a stored state, or the first event of all. Then they are applied in their order. The
//! walk has to reach the beginning, since only from there `version` can be counted.

use super::event_buffer::EventBuffer;
use super::source::{base_at, reject_removed};
use super::{Generation, HistoryError, HistoryLog, apply, decode, key};
use crate::api::encode;
use crate::api::query::Fields;
use crate::limits::{HISTORY_ENTITY_EVENTS_MAX, HISTORY_EVENT_BYTES_MAX};
use crate::model::{HistoryStart, Timestamp};
use crate::state::{State, TimeScope};
use flux_storage::Sequence;
use std::ops::ControlFlow;

const ADVICE: &str = "its events are at /api/events";

/// Which entity, when.
#[derive(Debug, Clone, Copy)]
pub struct EntityAt<'q> {
    /// Its id.
    pub id: &'q str,
    /// The time; events accepted at exactly this time count.
    pub at: Timestamp,
    /// The properties to keep.
    pub fields: Option<&'q Fields>,
    /// Where the history begins for the reader, if somewhere.
    pub start: Option<HistoryStart>,
}

/// The entity's JSON, or `None` if there was none. `generations`: newest first. Blocks.
///
/// # Errors
/// [`HistoryError`].
///
/// # Panics
/// If the entity's log of a generation was left out.
pub fn entity_at<L: HistoryLog>(
    generations: &[Generation<L>],
    query: EntityAt<'_>,
) -> Result<Option<Vec<u8>>, HistoryError> {
    let scope = Some(TimeScope::of(query.id));
    let mut scan = BackwardScan {
        id: query.id,
        at: query.at,
        start: query.start,
        event_buffer: EventBuffer::default(),
        visited: 0,
        reached_beginning: false,
    };
    let mut state = State::default();
    for generation in generations {
        let log = generation.log_of_entity(query.id);
        let base = base_at(log, scope, query.at)?;
        let after = base.map_or(Sequence::ZERO, |base| base.through);
        scan.back(log, after, log.after_time(query.at)?)?;
        if scan.reached_beginning {
            break;
        }
        if let Some(base) = base {
            state = log.state(base)?;
            break;
        }
        reject_removed(log, scope, query.start)?;
    }
    let newest = generations.first();
    scan.event_buffer.replay(|sequence, time, change| {
        if let Some(newest) = newest {
            newest.log_of_entity(query.id).spend(1)?;
        }
        apply(&mut state, (sequence, time), change)
    })?;
    let entity = state.get(query.id)?.filter(|entity| {
        let start = query.start;
        start.is_none_or(|start| !start.hides(entity.sequence(), entity.last_updated()))
    });
    Ok(entity.map(|entity| {
        let mut json = Vec::new();
        encode::entity(&mut json, entity.head(), entity.properties(), query.fields);
        json
    }))
}

/// The way back through an entity's events.
struct BackwardScan<'q> {
    id: &'q str,
    at: Timestamp,
    start: Option<HistoryStart>,
    event_buffer: EventBuffer,
    /// Events looked at, later ones and those of ids with the same key included.
    visited: usize,
    /// The last record in the buffer is where the entity begins, or its reader's history: nothing
    /// before it matters.
    reached_beginning: bool,
}

impl BackwardScan<'_> {
    /// Buffers the entity's events of `log` after `after` and before `end`.
    fn back(
        &mut self,
        log: &impl HistoryLog,
        after: Sequence,
        end: Sequence,
    ) -> Result<(), HistoryError> {
        let key = key::entity_key(self.id);
        log.read_backward(key..=key, end, &mut |record| {
            if record.sequence <= after {
                return Ok(ControlFlow::Break(()));
            }
            self.visited += 1;
            if self.visited > HISTORY_ENTITY_EVENTS_MAX {
                return Err(too_long(HISTORY_ENTITY_EVENTS_MAX, "events"));
            }
            if record.time_micros > self.at.as_micros() {
                return Ok(ControlFlow::Continue(()));
            }
            let change = decode(&record)?;
            let Some(change) = change.filter(|change| change.entity_id() == self.id) else {
                return Ok(ControlFlow::Continue(()));
            };
            let time = Timestamp::from_micros(record.time_micros);
            if self
                .start
                .is_some_and(|start| start.hides(record.sequence, time))
            {
                self.reached_beginning = true;
                return Ok(ControlFlow::Break(()));
            }
            if !self.event_buffer.push(&record) {
                return Err(too_long(HISTORY_EVENT_BYTES_MAX, "bytes of events"));
            }
            log.hold(self.event_buffer.heap_bytes())?;
            self.reached_beginning = change.is_beginning();
            Ok(if self.reached_beginning {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })
    }
}

fn too_long(limit: usize, unit: &'static str) -> HistoryError {
    HistoryError::TooLong {
        limit: limit as u64,
        unit,
        advice: ADVICE,
    }
}
