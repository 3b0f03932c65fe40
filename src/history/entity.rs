//! One entity as it was at an earlier time.
//!
//! Its events are read newest first, from that time back to its beginning: a tombstone, an imported
//! entity, a stored state, or the first event of all. Then they are applied in their order. The
//! walk has to reach the beginning, since only from there `version` can be counted.

use super::event_buffer::EventBuffer;
use super::source::{base_at, refuse_removed};
use super::{Generation, HistoryError, PastLog, decode, encode_entity, key};
use crate::api::query::Fields;
use crate::limits::{HISTORY_ENTITY_EVENTS_MAX, HISTORY_EVENT_BYTES_MAX};
use crate::model::Timestamp;
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
}

/// The entity's JSON, or `None` where there was none. `generations`: newest first. Blocks.
///
/// # Errors
/// [`HistoryError`].
///
/// # Panics
/// Where the entity's log of a generation was left out.
pub fn entity_at<L: PastLog>(
    generations: &[Generation<L>],
    asked: EntityAt<'_>,
) -> Result<Option<Vec<u8>>, HistoryError> {
    let scope = Some(TimeScope::of(asked.id));
    let mut walk = Walk {
        id: asked.id,
        at: asked.at,
        event_buffer: EventBuffer::default(),
        visited: 0,
        born: false,
    };
    let mut state = State::default();
    for generation in generations {
        let log = generation.log_of_entity(asked.id);
        let base = base_at(log, scope, asked.at)?;
        let after = base.map_or(Sequence::ZERO, |base| base.through);
        walk.back(log, after, log.after_time(asked.at)?)?;
        if walk.born {
            break;
        }
        if let Some(base) = base {
            state = log.state(base)?;
            break;
        }
        refuse_removed(log, scope)?;
    }
    walk.event_buffer.apply_to(&mut state)?;
    Ok(state.get(asked.id)?.map(|entity| {
        let mut json = Vec::new();
        encode_entity(&mut json, entity, asked.fields);
        json
    }))
}

/// The way back through an entity's events.
struct Walk<'q> {
    id: &'q str,
    at: Timestamp,
    event_buffer: EventBuffer,
    /// Events looked at, later ones and those of ids with the same key included.
    visited: usize,
    /// The last record on the pile is where the entity begins: nothing before it matters.
    born: bool,
}

impl Walk<'_> {
    /// Piles up the entity's events of `log` after `after` and before `end`.
    fn back(
        &mut self,
        log: &impl PastLog,
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
            if !self.event_buffer.push(&record) {
                return Err(too_long(HISTORY_EVENT_BYTES_MAX, "bytes of events"));
            }
            self.born = change.is_beginning();
            Ok(if self.born {
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
