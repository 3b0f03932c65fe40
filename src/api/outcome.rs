//! What a shard did with the events that it was given.
//!
//! A part of a batch may have thousands of events, and most of them are stored: for such a one 16
//! bytes are noted here. What there is to say besides about a few of them stands in a list of its
//! own.

use super::error::ApiError;
use crate::model::Stored;
use flux_storage::Sequence;

/// What a shard did with its part: it dealt with the first events, and refused the others for
/// `error`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartOutcome {
    /// One for each event that was dealt with, in order.
    dealt: Vec<Stored>,
    /// Which of them were refused, each by its index, ascending.
    refused: Vec<(usize, ApiError)>,
    /// Why the rest was not dealt with.
    pub error: Option<ApiError>,
}

/// Stands for an event that was refused; no event has this sequence.
const REFUSED: Stored = Stored {
    sequence: Sequence::ZERO,
    version: 0,
};

impl PartOutcome {
    /// Nothing was done, for this reason.
    pub fn refused(error: ApiError) -> Self {
        Self {
            error: Some(error),
            ..Self::default()
        }
    }

    /// Makes room for so many events.
    pub fn reserve(&mut self, events: usize) {
        self.dealt.reserve_exact(events);
    }

    /// The next event is stored.
    pub fn push(&mut self, stored: Stored) {
        self.dealt.push(stored);
    }

    /// The next event is refused, and it alone.
    pub fn push_refused(&mut self, error: ApiError) {
        self.refused.push((self.dealt.len(), error));
        self.dealt.push(REFUSED);
    }

    /// Events that were dealt with.
    pub fn len(&self) -> usize {
        self.dealt.len()
    }

    /// True if no event was dealt with.
    pub fn is_empty(&self) -> bool {
        self.dealt.is_empty()
    }

    /// Events that were stored.
    pub fn stored(&self) -> usize {
        self.dealt.len().saturating_sub(self.refused.len())
    }

    /// What became of the events, in order.
    pub fn verdicts(&self) -> Verdicts<'_> {
        Verdicts {
            outcome: self,
            next: 0,
            refused: 0,
        }
    }
}

/// What became of the events of a part, in order. It does not end: events that the shard did not
/// deal with are refused for the part's error.
#[derive(Debug)]
pub struct Verdicts<'o> {
    outcome: &'o PartOutcome,
    /// The event that is next.
    next: usize,
    /// Refused ones before it.
    refused: usize,
}

impl<'o> Verdicts<'o> {
    /// What became of the next event.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn take_next(&mut self) -> Result<Stored, &'o ApiError> {
        let Some(stored) = self.outcome.dealt.get(self.next) else {
            // A shard that dealt with less than it was given says why; without that nobody may hear
            // success.
            return Err(self.outcome.error.as_ref().unwrap_or(&ApiError::Overloaded));
        };
        self.next = self.next.saturating_add(1);
        if *stored != REFUSED {
            return Ok(*stored);
        }
        let error = self.outcome.refused.get(self.refused);
        self.refused = self.refused.saturating_add(1);
        Err(error.map_or(&ApiError::Overloaded, |(_, error)| error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_has_the_verdict_that_was_noted_for_it() {
        let stored = |sequence, version| Stored {
            sequence: Sequence::new(sequence),
            version,
        };
        let mut outcome = PartOutcome::default();
        outcome.push(stored(7, 1));
        outcome.push_refused(ApiError::EntityTooLarge);
        outcome.push(stored(8, 0));
        outcome.push_refused(ApiError::Reserved);
        outcome.error = Some(ApiError::StorageFull);
        assert_eq!((outcome.len(), outcome.stored()), (4, 2));
        let mut verdicts = outcome.verdicts();
        assert_eq!(verdicts.take_next(), Ok(stored(7, 1)));
        assert_eq!(verdicts.take_next(), Err(&ApiError::EntityTooLarge));
        assert_eq!(verdicts.take_next(), Ok(stored(8, 0)));
        assert_eq!(verdicts.take_next(), Err(&ApiError::Reserved));
        assert_eq!(verdicts.take_next(), Err(&ApiError::StorageFull));
        assert_eq!(verdicts.take_next(), Err(&ApiError::StorageFull));
        let mut silent = PartOutcome::default();
        silent.push(stored(1, 1));
        let mut verdicts = silent.verdicts();
        assert_eq!(verdicts.take_next(), Ok(stored(1, 1)));
        assert_eq!(verdicts.take_next(), Err(&ApiError::Overloaded));
    }
}
