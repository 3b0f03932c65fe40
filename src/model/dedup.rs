//! For how long the id that a producer gave to an event is known (API contract §14).

use super::Timestamp;
use flux_storage::Sequence;

/// For how long the id of an event is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DedupWindow {
    /// Seconds; 0 turns it off.
    pub seconds: u64,
    /// Later events of the same shard; 0 turns it off.
    pub events: u64,
}

impl DedupWindow {
    /// True if ids are remembered at all.
    pub const fn is_open(self) -> bool {
        self.seconds > 0 && self.events > 0
    }

    /// True if an event that was accepted at `time` as number `sequence` is known before the event
    /// after `appended` at `now`.
    pub fn holds(
        self,
        (sequence, time): (Sequence, Timestamp),
        appended: Sequence,
        now: Timestamp,
    ) -> bool {
        let age_micros = now.as_micros().saturating_sub(time.as_micros());
        let seconds = i64::try_from(self.seconds).unwrap_or(i64::MAX);
        appended.get().saturating_sub(sequence.get()) < self.events
            && age_micros <= seconds.saturating_mul(1_000_000)
    }

    /// The first event of a shard that may be known when `appended` is its last.
    pub fn first(self, appended: Sequence) -> Sequence {
        let events = if self.is_open() { self.events } else { 0 };
        Sequence::new(appended.get().saturating_sub(events).saturating_add(1))
    }

    /// The time of the oldest event that may be known at `now`.
    pub fn since(self, now: Timestamp) -> Timestamp {
        let seconds = i64::try_from(self.seconds).unwrap_or(i64::MAX);
        let micros = seconds.saturating_mul(1_000_000);
        Timestamp::from_micros(now.as_micros().saturating_sub(micros))
    }
}
