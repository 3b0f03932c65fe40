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
//! nothing more is ready it waits for more, [`GROUP_COMMIT_IDLE_MICROS_MAX`] in all, and where others keep it busy the flush
//! goes after [`GROUP_COMMIT_DELAY_MICROS_MAX`]. Where looking for them is in vain ([`super::spin`]) it sleeps meanwhile: the clients
//! may need its processor to come back.
//!
//! Clients that were answered through another core come back through it, and it may flush just then. So where some were, and
//! clients send again as soon as they are answered ([`super::closed_loop`]), it waits for [`GROUP_COMMIT_REMOTE_MICROS_MAX`].
//!
//! So a client alone waits no longer than without, nor do those who come at times of their own where they are the most. An
//! event that comes while no flush has just returned is flushed at once. Pure: sequences and times are arguments.

use crate::limits::{
    GROUP_COMMIT_DELAY_MICROS_MAX, GROUP_COMMIT_IDLE_MICROS_MAX, GROUP_COMMIT_REMOTE_MICROS_MAX,
};
use flux_storage::Sequence;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct GroupCommitDelay {
    awaited: Option<Awaited>,
}

/// Times are monotonic microseconds.
#[derive(Debug, Clone, Copy)]
struct Awaited {
    /// All are back when the log has come so far.
    all_back: Sequence,
    /// It ends then.
    until_micros: u64,
    /// How long the core may yet wait for them with nothing to do.
    left_micros: u64,
    /// Nothing was ready at this time, when the core last waited, and nothing was done since.
    quiet_since_micros: Option<u64>,
}

impl GroupCommitDelay {
    /// A flush has returned that made so many events durable; others were appended meanwhile.
    pub(crate) fn begin(&mut self, flushed: u64, appended: Sequence, now_micros: u64) {
        self.awaited = Some(Awaited {
            all_back: Sequence::new(appended.get().saturating_add(flushed)),
            until_micros: now_micros.saturating_add(GROUP_COMMIT_DELAY_MICROS_MAX),
            left_micros: GROUP_COMMIT_IDLE_MICROS_MAX,
            quiet_since_micros: None,
        });
    }

    /// Those who are awaited come back by way of another core: it waits for longer.
    pub(crate) fn be_patient(&mut self) {
        if let Some(awaited) = &mut self.awaited {
            awaited.left_micros = GROUP_COMMIT_REMOTE_MICROS_MAX;
        }
    }

    /// True while a flush is to be put off. Once it is not, it stays so until the next one has returned.
    pub(crate) fn goes_on(&mut self, appended: Sequence, now_micros: u64) -> bool {
        self.awaited = self
            .awaited
            .filter(|awaited| appended < awaited.all_back && now_micros < awaited.until_micros);
        self.awaited.is_some()
    }

    /// How long the core may sleep for those who are awaited; `None` where nobody is.
    pub(crate) fn timeout_micros(&self) -> Option<u64> {
        self.awaited.map(|awaited| awaited.left_micros)
    }

    /// The core had nothing to do and waited from `since_micros` on, be it for no time. Too long in all, and nobody is
    /// awaited any more.
    pub(crate) fn note_wait(&mut self, since_micros: u64, now_micros: u64, found: bool) {
        let Some(awaited) = &mut self.awaited else {
            return;
        };
        let since_micros = awaited.quiet_since_micros.unwrap_or(since_micros);
        let waited_micros = now_micros.saturating_sub(since_micros);
        awaited.left_micros = awaited.left_micros.saturating_sub(waited_micros);
        awaited.quiet_since_micros = (!found).then_some(now_micros);
        if awaited.left_micros == 0 {
            self.awaited = None;
        }
    }

    /// The core had something to do.
    pub(crate) fn note_work(&mut self) {
        if let Some(awaited) = &mut self.awaited {
            awaited.quiet_since_micros = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flush of 8 returned at `now_micros`, when 3 more were there.
    fn begun(now_micros: u64) -> GroupCommitDelay {
        let mut group_commit_delay = GroupCommitDelay::default();
        group_commit_delay.begin(8, Sequence::new(21), now_micros);
        group_commit_delay
    }

    #[test]
    fn a_flush_is_put_off_for_as_many_as_the_last_one_answered() {
        let mut group_commit_delay = begun(0);
        assert!(group_commit_delay.goes_on(Sequence::new(21), 1));
        assert!(group_commit_delay.goes_on(Sequence::new(28), 2));
        assert!(!group_commit_delay.goes_on(Sequence::new(29), 3));
        assert_eq!(group_commit_delay.timeout_micros(), None);
    }

    #[test]
    fn others_that_keep_the_core_busy_do_not_put_it_off_for_longer_than_the_bound() {
        let mut group_commit_delay = begun(1000);
        let end = 1000 + GROUP_COMMIT_DELAY_MICROS_MAX;
        assert!(group_commit_delay.goes_on(Sequence::new(21), end - 1));
        assert!(!group_commit_delay.goes_on(Sequence::new(21), end));
    }

    #[test]
    fn the_core_waits_for_them_only_for_a_moment_in_all() {
        let mut group_commit_delay = begun(0);
        let half = GROUP_COMMIT_IDLE_MICROS_MAX / 2;
        assert_eq!(
            group_commit_delay.timeout_micros(),
            Some(GROUP_COMMIT_IDLE_MICROS_MAX)
        );
        group_commit_delay.note_wait(100, 100 + half, true);
        assert!(
            group_commit_delay.goes_on(Sequence::new(22), 500),
            "busy time does not count"
        );
        assert_eq!(
            group_commit_delay.timeout_micros(),
            Some(GROUP_COMMIT_IDLE_MICROS_MAX - half)
        );
        let rest = GROUP_COMMIT_IDLE_MICROS_MAX - half;
        group_commit_delay.note_wait(600, 600 + rest - 2, false);
        group_commit_delay.note_work();
        group_commit_delay.note_wait(800, 801, false);
        assert_eq!(group_commit_delay.timeout_micros(), Some(1));
        // Between two waits that found nothing the core did nothing either.
        group_commit_delay.note_wait(802, 802, false);
        assert_eq!(group_commit_delay.timeout_micros(), None);
        assert!(!group_commit_delay.goes_on(Sequence::new(22), 803));
    }

    #[test]
    fn it_waits_for_longer_where_that_is_asked_for() {
        let mut group_commit_delay = begun(0);
        group_commit_delay.be_patient();
        assert_eq!(
            group_commit_delay.timeout_micros(),
            Some(GROUP_COMMIT_REMOTE_MICROS_MAX)
        );
        group_commit_delay.note_wait(0, GROUP_COMMIT_REMOTE_MICROS_MAX - 1, true);
        assert!(group_commit_delay.goes_on(Sequence::new(28), 1000));
        group_commit_delay.note_wait(1000, 1001, false);
        assert!(!group_commit_delay.goes_on(Sequence::new(28), 1001));
        group_commit_delay.be_patient();
        assert!(
            !group_commit_delay.goes_on(Sequence::new(28), 1001),
            "nobody is awaited"
        );
    }

    #[test]
    fn an_event_that_comes_out_of_nowhere_is_flushed_at_once() {
        let mut group_commit_delay = GroupCommitDelay::default();
        group_commit_delay.note_wait(0, 0, false);
        assert!(!group_commit_delay.goes_on(Sequence::new(1), 0));
        assert_eq!(group_commit_delay.timeout_micros(), None);
    }
}
