//! What a shard did with the events that it was given.
//!
//! A part of a batch may have thousands of events, and most of them are stored: for such a one 16
//! bytes are noted here. What there is to say besides about a few of them stands in a list of its
//! own.

use super::error::{ApiError, CurrentEntity};
use super::metrics::RefusalCounts;
use crate::limits::BATCH_ENTITIES_BYTES_MAX;
use crate::model::{OperationResults, Published, Stored};
use flux_storage::Sequence;

/// What a shard did with its part: it dealt with the first events, and refused the others for
/// `error`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartOutcome {
    /// One for each event that was dealt with, in order.
    dealt: Vec<Stored>,
    /// What there is to say besides about some of them, each by its index, ascending.
    remarks: Vec<(usize, Remark)>,
    /// Bytes of entities and results in the remarks.
    shown_bytes: usize,
    /// The events that were refused alone, by code.
    refusals: RefusalCounts,
    /// Why the rest was not dealt with.
    pub error: Option<ApiError>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Remark {
    Refused(ApiError),
    Said {
        duplicate: bool,
        properties: Option<OperationResults>,
        bound: Option<bool>,
    },
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
    pub fn push(&mut self, published: Published) {
        let Published {
            stored,
            duplicate,
            properties,
            bound,
        } = published;
        let properties = properties.map(|results| match results {
            OperationResults::Json(json) if self.shows(json.len()) => OperationResults::Json(json),
            OperationResults::Json(json) => OperationResults::Omitted(json.len()),
            OperationResults::Omitted(bytes) => OperationResults::Omitted(bytes),
        });
        if duplicate || properties.is_some() || bound.is_some() {
            let said = Remark::Said {
                duplicate,
                properties,
                bound,
            };
            self.remarks.push((self.dealt.len(), said));
        }
        self.dealt.push(stored);
    }

    /// The next event is refused, and it alone. Entities that it shows are left out beyond a bound.
    pub fn push_refused(&mut self, error: ApiError) {
        let error = match error {
            ApiError::PreconditionFailed {
                entity: CurrentEntity::Json(json),
            } => {
                let entity = if self.shows(json.len()) {
                    CurrentEntity::Json(json)
                } else {
                    CurrentEntity::Omitted(json.len())
                };
                ApiError::PreconditionFailed { entity }
            }
            error => error,
        };
        self.refusals.note(error.code());
        self.remarks
            .push((self.dealt.len(), Remark::Refused(error)));
        self.dealt.push(REFUSED);
    }

    /// Whether so many bytes more of entities and results may be shown; then they count.
    fn shows(&mut self, bytes: usize) -> bool {
        let sum = self.shown_bytes.saturating_add(bytes);
        let fits = sum <= BATCH_ENTITIES_BYTES_MAX;
        if fits {
            self.shown_bytes = sum;
        }
        fits
    }

    /// Bytes of the entities and results that it shows.
    pub const fn shown_bytes(&self) -> usize {
        self.shown_bytes
    }

    /// Leaves out the entities that refused events show, and says how large they were.
    pub fn omit_entities(&mut self) {
        for (_, remark) in &mut self.remarks {
            if let Remark::Refused(ApiError::PreconditionFailed { entity }) = remark
                && let CurrentEntity::Json(json) = entity
            {
                self.shown_bytes = self.shown_bytes.saturating_sub(json.len());
                *entity = CurrentEntity::Omitted(json.len());
            }
        }
    }

    /// Leaves out what operations led to: the writer may not read it.
    pub fn leave_out_results(&mut self) {
        for (_, remark) in &mut self.remarks {
            if let Remark::Said { properties, .. } = remark
                && let Some(OperationResults::Json(json)) = properties.take()
            {
                self.shown_bytes = self.shown_bytes.saturating_sub(json.len());
            }
        }
    }

    /// Heap that it holds.
    pub fn heap_bytes(&self) -> usize {
        let Self {
            dealt,
            remarks,
            shown_bytes,
            refusals,
            error: _,
        } = self;
        let dealt = dealt.capacity().saturating_mul(size_of::<Stored>());
        let remarks = remarks
            .capacity()
            .saturating_mul(size_of::<(usize, Remark)>());
        [dealt, remarks, *shown_bytes, refusals.heap_bytes()]
            .iter()
            .sum()
    }

    /// Events that were dealt with.
    pub fn len(&self) -> usize {
        self.dealt.len()
    }

    /// True if no event was dealt with.
    pub fn is_empty(&self) -> bool {
        self.dealt.is_empty()
    }

    /// Events that were stored, now or before.
    pub fn stored(&self) -> usize {
        let refused = usize::try_from(self.refusals.total()).unwrap_or(usize::MAX);
        self.dealt.len().saturating_sub(refused)
    }

    /// Events that were stored now.
    pub fn fresh(&self) -> usize {
        let is_other = |(_, remark): &&(usize, Remark)| match remark {
            Remark::Refused(_) => true,
            Remark::Said { duplicate, .. } => *duplicate,
        };
        let others = self.remarks.iter().filter(is_other).count();
        self.dealt.len().saturating_sub(others)
    }

    /// The events that were refused alone, by code.
    pub const fn refusals(&self) -> &RefusalCounts {
        &self.refusals
    }

    /// What became of the events, in order.
    pub fn verdicts(&self) -> Verdicts<'_> {
        self.verdicts_from(VerdictsPlace::default())
    }

    /// The same, from where others have come to.
    pub fn verdicts_from(&self, place: VerdictsPlace) -> Verdicts<'_> {
        Verdicts {
            outcome: self,
            place,
        }
    }
}

/// What became of the events of a part, in order. It does not end: events that the shard did not
/// deal with are refused for the part's error.
#[derive(Debug)]
pub struct Verdicts<'o> {
    outcome: &'o PartOutcome,
    place: VerdictsPlace,
}

/// How far verdicts were taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerdictsPlace {
    /// The event that is next.
    next: usize,
    /// The first remark about it or a later one.
    next_remark: usize,
}

impl<'o> Verdicts<'o> {
    /// How far they were taken.
    pub fn place(&self) -> VerdictsPlace {
        self.place
    }

    /// What became of the next event.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn take_next(&mut self) -> Result<Published, &'o ApiError> {
        let place = &mut self.place;
        let Some(stored) = self.outcome.dealt.get(place.next) else {
            // A shard that dealt with less than it was given says why; without that nobody may hear
            // success.
            return Err(self.outcome.error.as_ref().unwrap_or(&ApiError::Overloaded));
        };
        let mut published = Published::from(*stored);
        if let Some((index, remark)) = self.outcome.remarks.get(place.next_remark)
            && *index == place.next
        {
            place.next_remark = place.next_remark.saturating_add(1);
            match remark {
                Remark::Said {
                    duplicate,
                    properties,
                    bound,
                } => {
                    published.duplicate = *duplicate;
                    published.properties.clone_from(properties);
                    published.bound = *bound;
                }
                Remark::Refused(error) => {
                    place.next = place.next.saturating_add(1);
                    return Err(error);
                }
            }
        }
        place.next = place.next.saturating_add(1);
        Ok(published)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_has_the_verdict_that_was_noted_for_it() {
        let stored = |sequence, version| {
            let sequence = Sequence::new(sequence);
            Published::from(Stored { sequence, version })
        };
        let duplicate = Published {
            duplicate: true,
            ..stored(3, 2)
        };
        let mut outcome = PartOutcome::default();
        outcome.push(stored(7, 1));
        outcome.push_refused(ApiError::EntityTooLarge);
        outcome.push(stored(8, 0));
        outcome.push(duplicate.clone());
        outcome.push_refused(ApiError::Reserved);
        outcome.error = Some(ApiError::StorageFull);
        assert_eq!((outcome.len(), outcome.stored()), (5, 3));
        let mut verdicts = outcome.verdicts();
        assert_eq!(verdicts.take_next(), Ok(stored(7, 1)));
        assert_eq!(verdicts.take_next(), Err(&ApiError::EntityTooLarge));
        assert_eq!(verdicts.take_next(), Ok(stored(8, 0)));
        assert_eq!(verdicts.take_next(), Ok(duplicate));
        assert_eq!(verdicts.take_next(), Err(&ApiError::Reserved));
        assert_eq!(verdicts.take_next(), Err(&ApiError::StorageFull));
        assert_eq!(verdicts.take_next(), Err(&ApiError::StorageFull));
        let mut silent = PartOutcome::default();
        silent.push(stored(1, 1));
        let mut verdicts = silent.verdicts();
        assert_eq!(verdicts.take_next(), Ok(stored(1, 1)));
        assert_eq!(verdicts.take_next(), Err(&ApiError::Overloaded));
    }

    #[test]
    fn entities_beyond_a_bound_are_left_out() {
        let failed = |len| ApiError::PreconditionFailed {
            entity: CurrentEntity::Json("e".repeat(len).into()),
        };
        let mut outcome = PartOutcome::default();
        let lens = [BATCH_ENTITIES_BYTES_MAX - 5, 6, 5];
        for len in lens {
            outcome.push_refused(failed(len));
        }
        let mut verdicts = outcome.verdicts();
        assert_eq!(verdicts.take_next(), Err(&failed(lens[0])));
        let entity = CurrentEntity::Omitted(6);
        let omitted = ApiError::PreconditionFailed { entity };
        assert_eq!(verdicts.take_next(), Err(&omitted));
        assert_eq!(verdicts.take_next(), Err(&failed(5)));
    }
}
