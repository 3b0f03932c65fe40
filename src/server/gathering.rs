//! When the next flush is issued, where one has just returned: once those whom it answered are back.
//!
//! ```text
//! at once   │ flush of 8  │ flush of 8  │ flush of 8  │    16 clients in two groups: each waits for two flushes
//! gathered  │ flush of 16 │··│ flush of 16 │··│            in one group: each waits for one, and there are fewer
//! ```
//!
//! A client that has its answer sends its next event some microseconds later. A flush issued the moment the one before
//! returns covers only those who came meanwhile, so clients fall into two groups that take turns at the disk. So the core
//! first answers, and reads what is ready, until as many events are there as the flush covered and left waiting. When
//! nothing more is ready the flush goes (after looking for [`GATHERING_QUIET_MICROS_MAX`], since a client that sleeps has to
//! be woken first), and where others keep the core busy it goes after [`GATHERING_MICROS_MAX`].
//!
//! So a client alone waits no longer than before, nor do those who come at times of their own. An event that comes while no
//! flush has just returned is flushed at once. Pure: sequences and times are arguments.

use crate::limits::{GATHERING_MICROS_MAX, GATHERING_QUIET_MICROS_MAX};
use flux_storage::Sequence;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    awaited: Option<Awaited>,
}

/// Times are monotonic microseconds.
#[derive(Debug, Clone, Copy)]
struct Awaited {
    /// All are back when the log has come so far.
    all_back: Sequence,
    /// It ends then.
    until_micros: u64,
    /// How long nothing was ready, in all.
    quiet_micros: u64,
    /// Nothing was ready at this time, when the core last looked.
    quiet_since_micros: Option<u64>,
}

impl Gathering {
    /// A flush has returned that made so many events durable; others were appended meanwhile.
    pub(super) fn begin(&mut self, flushed: u64, appended: Sequence, now_micros: u64) {
        self.awaited = Some(Awaited {
            all_back: Sequence::new(appended.get().saturating_add(flushed)),
            until_micros: now_micros.saturating_add(GATHERING_MICROS_MAX),
            quiet_micros: 0,
            quiet_since_micros: None,
        });
    }

    /// True while a flush is to be put off. Once it is not, it stays so until the next one has returned.
    pub(super) fn goes_on(&mut self, appended: Sequence, now_micros: u64) -> bool {
        self.awaited = self
            .awaited
            .filter(|awaited| appended < awaited.all_back && now_micros < awaited.until_micros);
        self.awaited.is_some()
    }

    /// True while somebody is awaited: the core is not to sleep.
    pub(super) fn is_on(&self) -> bool {
        self.awaited.is_some()
    }

    /// Notes whether the turn that began then found anything to do. Too many that did not, and nobody is awaited any more.
    pub(super) fn note_turn(&mut self, found_any: bool, now_micros: u64) {
        let Some(awaited) = &mut self.awaited else {
            return;
        };
        if let Some(since_micros) = awaited.quiet_since_micros.take() {
            awaited.quiet_micros += now_micros.saturating_sub(since_micros);
        }
        if !found_any {
            awaited.quiet_since_micros = Some(now_micros);
        }
        if awaited.quiet_micros >= GATHERING_QUIET_MICROS_MAX {
            self.awaited = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flush of 8 returned at `now_micros`, when 3 more were there.
    fn begun(now_micros: u64) -> Gathering {
        let mut gathering = Gathering::default();
        gathering.begin(8, Sequence::new(21), now_micros);
        gathering
    }

    #[test]
    fn a_flush_is_put_off_for_as_many_as_the_last_one_answered() {
        let mut gathering = begun(0);
        assert!(gathering.goes_on(Sequence::new(21), 1));
        assert!(gathering.goes_on(Sequence::new(28), 2));
        assert!(!gathering.goes_on(Sequence::new(29), 3));
        assert!(!gathering.is_on());
    }

    #[test]
    fn others_that_keep_the_core_busy_do_not_put_it_off_for_longer_than_the_bound() {
        let mut gathering = begun(1000);
        let end = 1000 + GATHERING_MICROS_MAX;
        gathering.note_turn(true, end - 1);
        assert!(gathering.goes_on(Sequence::new(21), end - 1));
        assert!(!gathering.goes_on(Sequence::new(21), end));
    }

    #[test]
    fn turns_that_find_nothing_put_it_off_only_for_a_moment_in_all() {
        let mut gathering = begun(0);
        let half = GATHERING_QUIET_MICROS_MAX / 2;
        gathering.note_turn(false, 100);
        gathering.note_turn(true, 100 + half);
        gathering.note_turn(true, 500);
        assert!(
            gathering.goes_on(Sequence::new(22), 500),
            "busy time does not count"
        );
        gathering.note_turn(false, 600);
        gathering.note_turn(false, 599 + half);
        assert!(gathering.is_on());
        gathering.note_turn(false, 600 + half);
        assert!(!gathering.is_on());
        assert!(!gathering.goes_on(Sequence::new(22), 601 + half));
    }

    #[test]
    fn an_event_that_comes_out_of_nowhere_is_flushed_at_once() {
        let mut gathering = Gathering::default();
        gathering.note_turn(false, 0);
        assert!(!gathering.goes_on(Sequence::new(1), 0));
    }
}
