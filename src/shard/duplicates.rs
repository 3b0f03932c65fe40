//! What a shard answers to an event that was stored before.

use super::Shard;
use crate::api::encode;
use crate::log::Log;
use crate::model::{EventView, OperationResults, Sent, namespace_bytes_of};
use flux_storage::{LogReader, Record, Sequence};
use std::convert::Infallible;
use std::ops::ControlFlow;

impl<L: Log> Shard<L> {
    /// Says which logs of earlier generations hold events whose ids are known and which have
    /// operations.
    #[must_use]
    pub fn with_earlier(mut self, earlier: Vec<LogReader>) -> Self {
        self.earlier = earlier;
        self
    }

    /// What the operations of an earlier event led to, as the log has it. `event`: the same event
    /// as it came again. Reads one record, which is among the last of its log; `None` if retention
    /// has removed it.
    pub(super) fn results_of(
        &mut self,
        sequence: Sequence,
        event: &[u8],
    ) -> Option<OperationResults> {
        let take = |record: Record<'_>| {
            let is_wanted = record.sequence == sequence && is_same(record.payload, event);
            let event = EventView::decode(record.payload).ok().filter(|_| is_wanted);
            event.map(|event| encode::results(event.results()))
        };
        let read = |log: &LogReader| {
            let mut found = None;
            let visited = log.read_forward(sequence, |record| {
                found = take(record);
                Ok::<_, Infallible>(ControlFlow::Break(()))
            });
            visited.ok().and(found)
        };
        if let Some(log) = self.log.reader(sequence) {
            // Logs of one generation have the same sequences: more than one may have this number.
            let holds = |log: &&LogReader| (log.first_sequence()..=log.end()).contains(&sequence);
            return read(&log).or_else(|| self.earlier.iter().filter(holds).find_map(read));
        }
        // A log in memory has no reader.
        let mut found = None;
        let visited = self.log.replay_from(sequence, |record| {
            found = take(record);
            Err(())
        });
        // It ends with the first record, which is what the error says.
        visited.err().and(found)
    }
}

/// Whether two events have the same id in the same namespace.
fn is_same(stored: &[u8], event: &[u8]) -> bool {
    let scope = |id| namespace_bytes_of(id).unwrap_or(id);
    Sent::of(stored)
        .zip(Sent::of(event))
        .is_some_and(|(stored, event)| {
            stored.event_id == event.event_id && scope(stored.entity_id) == scope(event.entity_id)
        })
}
