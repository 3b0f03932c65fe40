//! Events that were read newest first, kept until they are applied oldest first.

use super::{HistoryError, apply};
use crate::limits::HISTORY_EVENT_BYTES_MAX;
use crate::model::{EventView, Timestamp};
use crate::state::State;
use flux_storage::{Record, Sequence};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pile {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    sequence: Sequence,
    time: Timestamp,
    /// Where its payload begins; it ends where that of the entry before it on the pile, or the buffer, ends.
    start: usize,
}

impl Pile {
    /// Puts an event on the pile. False where it would hold more than [`HISTORY_EVENT_BYTES_MAX`], and does not.
    pub(super) fn push(&mut self, record: &Record<'_>) -> bool {
        let start = self.bytes.len();
        if start + record.payload.len() > HISTORY_EVENT_BYTES_MAX {
            return false;
        }
        self.entries.push(Entry {
            sequence: record.sequence,
            time: Timestamp::from_micros(record.time_micros),
            start,
        });
        self.bytes.extend_from_slice(record.payload);
        true
    }

    /// Calls `apply` for each event, oldest first.
    ///
    /// # Errors
    /// That of `apply`, or [`HistoryError::Event`].
    pub(super) fn unpile(
        self,
        mut apply: impl FnMut(Sequence, Timestamp, &EventView<'_>) -> Result<(), HistoryError>,
    ) -> Result<(), HistoryError> {
        let mut rest = self.bytes.as_slice();
        for entry in self.entries.iter().rev() {
            let (below, payload) = rest.split_at(entry.start);
            rest = below;
            let sequence = entry.sequence;
            let event = EventView::decode(payload)
                .map_err(|source| HistoryError::Event { sequence, source })?;
            apply(sequence, entry.time, &event)?;
        }
        Ok(())
    }

    /// Applies all of it to `state`.
    ///
    /// # Errors
    /// [`HistoryError::Event`], [`HistoryError::Layer`].
    pub(super) fn apply_to(self, state: &mut State) -> Result<(), HistoryError> {
        self.unpile(|sequence, time, event| apply(state, (sequence, time), event))
    }
}
