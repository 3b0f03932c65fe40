//! Events that were read newest first, kept until they are applied oldest first.

use super::{HistoryError, decode};
use crate::limits::HISTORY_EVENT_BYTES_MAX;
use crate::model::{StoredChange, Timestamp};
use flux_storage::{Record, Sequence};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct EventBuffer {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    sequence: Sequence,
    time: Timestamp,
    kind: u8,
    /// Where its payload begins; it ends where that of the entry before it in the buffer, or the
    /// buffer, ends.
    start: usize,
}

impl EventBuffer {
    /// Puts an event in the buffer. False if it would hold more than [`HISTORY_EVENT_BYTES_MAX`],
    /// and does not.
    pub(super) fn push(&mut self, record: &Record<'_>) -> bool {
        let start = self.bytes.len();
        if start + record.payload.len() > HISTORY_EVENT_BYTES_MAX {
            return false;
        }
        self.entries.push(Entry {
            sequence: record.sequence,
            time: Timestamp::from_micros(record.time_micros),
            kind: record.kind,
            start,
        });
        self.bytes.extend_from_slice(record.payload);
        true
    }

    /// Heap that it holds.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Calls `apply` for each event, oldest first.
    ///
    /// # Errors
    /// That of `apply`, [`HistoryError::Event`] or [`HistoryError::Kind`].
    pub(super) fn replay(
        self,
        mut apply: impl FnMut(Sequence, Timestamp, &StoredChange<'_>) -> Result<(), HistoryError>,
    ) -> Result<(), HistoryError> {
        let mut rest = self.bytes.as_slice();
        for entry in self.entries.iter().rev() {
            let (below, payload) = rest.split_at(entry.start);
            rest = below;
            let record = Record {
                sequence: entry.sequence,
                time_micros: entry.time.as_micros(),
                kind: entry.kind,
                group: None,
                payload,
            };
            if let Some(change) = decode(&record)? {
                apply(entry.sequence, entry.time, &change)?;
            }
        }
        Ok(())
    }
}
