//! How long events of clients and connectors take from the turn of the shard that stores them to
//! their answer, for the histogram of `GET /metrics`. What came before that turn, such as the
//! decoding on another core, is not part of it.
//!
//! Nothing is kept for an event: of a turn that stored some is kept how many, when it began, and
//! how far the log went. They count once that is visible, which is when their answers leave. So an
//! event costs nothing here, and the time of a turn is part of what is measured.

use crate::api::metrics::Front;
use crate::limits::PUBLISH_TIMES_MAX;
use crate::log::Log;
use crate::shard::{DurationHistogram, Shard};
use flux_storage::Sequence;
use std::collections::VecDeque;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PublishTimes {
    /// Turns whose events wait, oldest first.
    turns: VecDeque<Turn>,
    /// Events of clients and connectors that the shard had stored when it was last looked at.
    stored: u64,
    /// Since when writes wait for the log's next segment, monotonic microseconds.
    deferred_micros: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    through: Sequence,
    began_micros: u64,
    events: u64,
}

impl PublishTimes {
    /// Takes note of what this turn has stored, and counts what is visible by now. The turn began
    /// at `began_micros`; `clock` is read if anything counts.
    pub(super) fn advance<L: Log>(
        &mut self,
        shard: &Shard<L>,
        (began_micros, clock): (u64, impl FnOnce() -> u64),
        histogram: &DurationHistogram,
    ) {
        if shard.failed() {
            // What is not durable will never be.
            self.turns.clear();
        }
        let of_clients = shard.accepted().iter().zip(Front::ALL);
        let of_clients = of_clients.filter(|(_, front)| *front != Front::Server);
        let stored = of_clients.map(|(count, _)| count).sum::<u64>();
        let events = stored - std::mem::replace(&mut self.stored, stored);
        if events > 0 && !shard.failed() {
            // Events that waited for the log came earlier, and may be among these.
            let began_micros = self.deferred_micros.unwrap_or(began_micros);
            self.note(Turn {
                through: shard.appended(),
                began_micros,
                events,
            });
        }
        if !shard.has_deferred() {
            self.deferred_micros = None;
        } else if self.deferred_micros.is_none() {
            self.deferred_micros = Some(began_micros);
        }
        self.release(shard.visible(), clock, histogram);
    }

    fn note(&mut self, turn: Turn) {
        let is_full = self.turns.len() >= PUBLISH_TIMES_MAX;
        match self.turns.back_mut() {
            Some(last) if is_full => {
                last.through = turn.through;
                last.events += turn.events;
            }
            _ => self.turns.push_back(turn),
        }
    }

    fn release(
        &mut self,
        visible: Sequence,
        clock: impl FnOnce() -> u64,
        histogram: &DurationHistogram,
    ) {
        let is_due = |turn: &Turn| turn.through <= visible;
        if !self.turns.front().is_some_and(is_due) {
            return;
        }
        let now_micros = clock();
        while let Some(turn) = self.turns.front().filter(|turn| is_due(turn)) {
            let took_micros = now_micros.saturating_sub(turn.began_micros);
            histogram.observe(took_micros, turn.events);
            self.turns.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(through: u64, began_micros: u64, events: u64) -> Turn {
        Turn {
            through: Sequence::new(through),
            began_micros,
            events,
        }
    }

    #[test]
    fn events_count_when_they_are_visible_each_from_the_turn_that_stored_it() {
        let (mut times, histogram) = (PublishTimes::default(), DurationHistogram::default());
        times.note(turn(3, 1_000, 3));
        times.note(turn(5, 1_150, 2));
        times.release(Sequence::new(2), || 9_999, &histogram);
        assert_eq!(histogram.sample().counts.iter().sum::<u64>(), 0);
        times.release(Sequence::new(4), || 1_200, &histogram);
        assert_eq!(histogram.sample().counts[1], 3);
        times.release(Sequence::new(9), || 1_250, &histogram);
        let sample = histogram.sample();
        assert_eq!((sample.counts[0], sample.counts[1]), (2, 3));
        assert_eq!(sample.sum, 3 * 200 + 2 * 100);
    }

    #[test]
    fn more_turns_than_are_kept_join_the_last_and_lose_no_event() {
        let (mut times, histogram) = (PublishTimes::default(), DurationHistogram::default());
        let turns = PUBLISH_TIMES_MAX as u64 + 10;
        for number in 1..=turns {
            times.note(turn(number, number, 1));
        }
        assert_eq!(times.turns.len(), PUBLISH_TIMES_MAX);
        times.release(Sequence::new(turns), || turns, &histogram);
        assert_eq!(histogram.sample().counts.iter().sum::<u64>(), turns);
    }
}
