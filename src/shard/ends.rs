//! What ends by itself in a shard: looked for when the clock of deadlines says so, a slice at a
//! time, and deleted by tombstones that nobody is charged for.
//!
//! An end that the log has no room for is tried again when there is room, or after a second. Until
//! then the entity is there: readers see what the log says, and nothing else.

use super::owner::Shard;
use crate::engine::PublishError;
use crate::limits::{DEADLINE_LOOKS_MAX, DEADLINE_RETRY_MICROS, EVENT_UNITS};
use crate::log::Log;
use crate::model::{EndCause, Timestamp};
use crate::state::NextEnd;

impl<L: Log> Shard<L> {
    /// The clocks have gone on. `monotonic_micros`: of the process.
    pub fn advance(&mut self, now: Timestamp, monotonic_micros: u64) {
        let deadline_now = self.deadline_clock.at(now, monotonic_micros);
        self.engine.set_deadline_now(deadline_now);
    }

    /// True if something may have come to its end, and the log may take it.
    pub fn has_ends(&self) -> bool {
        let now = self.engine.deadline_now();
        let may_end = self.engine.may_have_ended() || self.has_lingered();
        may_end && self.ends_retry.is_none_or(|retry| now >= retry)
    }

    /// Ends what has come to its end, until the slice is over.
    pub(super) fn end_due(&mut self, now: Timestamp) {
        if !self.has_ends() {
            return;
        }
        self.ends_retry = None;
        let slice_end = self.spent() + self.slicing.shard_units();
        let ended = self.end_lingering(now, slice_end);
        if ended
            .and_then(|()| self.end_expired(now, slice_end))
            .is_err()
        {
            // The core looks for damage by itself.
            let now = self.engine.deadline_now().as_micros();
            let retry = now.saturating_add(DEADLINE_RETRY_MICROS);
            self.ends_retry = Some(Timestamp::from_micros(retry));
        }
    }

    fn end_expired(&mut self, now: Timestamp, slice_end: u64) -> Result<(), PublishError> {
        let mut looks = DEADLINE_LOOKS_MAX;
        let mut id = std::mem::take(&mut self.ending);
        let mut ended = Ok(NextEnd::Due);
        while ended == Ok(NextEnd::Due) && self.engine.may_have_ended() && self.spent() < slice_end
        {
            ended = self.end_next(now, &mut looks, &mut id);
        }
        self.ending = id;
        ended.map(drop)
    }

    fn end_next(
        &mut self,
        now: Timestamp,
        looks: &mut usize,
        id: &mut String,
    ) -> Result<NextEnd, PublishError> {
        let found = self.engine.find_end(looks, id)?;
        if found == NextEnd::Due {
            let event_id = self.ids.next(now.as_millis());
            let end = (id.as_str(), event_id, EndCause::Expired);
            self.engine.end(&mut self.log, now, end)?;
            self.count_own();
            self.spent += EVENT_UNITS + id.len() as u64;
        }
        Ok(found)
    }
}
