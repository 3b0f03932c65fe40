//! When a core sleeps and when it flushes: one policy, decided from facts.
//!
//! A core sleeps if nothing is left to do. The one exception is the group-commit delay:
//!
//! ```text
//! no delay │ flush of 8  │ flush of 8  │ flush of 8  │  two groups: each waits for two flushes
//! delay    │ flush of 16 │··│ flush of 16 │··│          one group: each waits for one flush
//! ```
//!
//! A client that has its answer sends its next event some microseconds later. A flush issued the
//! moment the one before returns covers only clients that came meanwhile, so clients fall into two
//! groups that take turns at the disk. So the core answers first and reads what is ready, until as
//! many events are there as the last flush covered and left waiting. If nothing more is ready, it
//! sleeps for at most [`GROUP_COMMIT_IDLE_MICROS_MAX`] in all; if others keep it busy, the flush
//! goes after [`GROUP_COMMIT_DELAY_MICROS_MAX`].
//!
//! Clients that were answered through another core come back through it, and it may flush just
//! then: for them the core sleeps for [`GROUP_COMMIT_REMOTE_MICROS_MAX`]. Clients that send at
//! times of their own do not come back by then, or few do. If that happened [`REMOTE_FAILURES_MAX`]
//! times in a row, the core sleeps no longer than for its own clients, for [`REMOTE_SKIPS`]
//! flushes.
//!
//! An event that comes while no flush has just returned is flushed at once. Pure: sequences and
//! times are arguments.

use crate::limits::{
    GROUP_COMMIT_DELAY_MICROS_MAX, GROUP_COMMIT_IDLE_MICROS_MAX, GROUP_COMMIT_REMOTE_MICROS_MAX,
    TICK_MS,
};
use crate::model::Durability;
use flux_storage::Sequence;

/// Flushes in a row that waited for clients of other cores in vain, before the core stops that.
const REMOTE_FAILURES_MAX: u32 = 4;
/// Flushes after which it tries again.
const REMOTE_SKIPS: u32 = 16;

/// How long a core waits for readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// Not at all: it only looks at what is ready.
    Now,
    /// Until something is ready, at most so many microseconds.
    Micros(u32),
    /// Until something is ready, or somebody wakes it.
    UntilWoken,
}

/// What the policy knows of a shard's log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogFacts {
    /// When a success may be seen.
    pub(crate) durability: Durability,
    /// The last event in the log.
    pub(crate) appended: Sequence,
    /// When the last flush was issued, monotonic milliseconds.
    pub(crate) flush_issued_ms: u64,
    /// The time between two flushes in `async` durability, milliseconds.
    pub(crate) flush_interval_ms: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct IdlePolicy {
    delay: Option<Delay>,
    /// Waits for clients of other cores in vain, in a row.
    remote_failures: u32,
    /// Flushes that do not wait for them.
    remote_skips: u32,
}

/// A flush that is put off. Times are monotonic microseconds.
#[derive(Debug, Clone, Copy)]
struct Delay {
    /// It goes when the log has come so far: every client is back.
    all_back: Sequence,
    /// Three in four of them are back.
    most_back: Sequence,
    /// It goes then at the latest.
    until_micros: u64,
    /// How long the core may yet sleep for it.
    left_micros: u64,
    /// It waits for clients of other cores.
    is_remote: bool,
}

impl IdlePolicy {
    /// Ends the group-commit delay if all clients are back or its time is over. The flush stays due
    /// until the next one has returned.
    fn end_delay_if_over(&mut self, appended: Sequence, now_micros: u64) {
        let Some(delay) = self.delay else {
            return;
        };
        let all_are_back = appended >= delay.all_back;
        if all_are_back || now_micros >= delay.until_micros || delay.left_micros == 0 {
            self.delay = None;
            if delay.is_remote {
                self.note_remote_delay(appended >= delay.most_back);
            }
        }
    }

    /// Whether a flush is due, if none is in flight.
    pub(crate) fn is_flush_due(&mut self, facts: LogFacts, now_micros: u64) -> bool {
        match facts.durability {
            Durability::Sync => {
                self.end_delay_if_over(facts.appended, now_micros);
                self.delay.is_none()
            }
            // A tick early, since only ticks look at the clock if nothing else happens.
            Durability::Async => {
                let interval_ms = facts.flush_interval_ms.saturating_sub(TICK_MS);
                now_micros / 1000 >= facts.flush_issued_ms + interval_ms
            }
        }
    }

    /// How long the core sleeps. `has_work`: there is something to do without waiting.
    /// `rest_micros`: until the turn of a connection comes, if one rests.
    pub(crate) fn decide(&self, has_work: bool, rest_micros: Option<u64>) -> Sleep {
        if has_work {
            return Sleep::Now;
        }
        let delay_micros = self.delay.map(|delay| delay.left_micros);
        match delay_micros.into_iter().chain(rest_micros).min() {
            None => Sleep::UntilWoken,
            Some(0) => Sleep::Now,
            Some(micros) => Sleep::Micros(u32::try_from(micros).unwrap_or(u32::MAX)),
        }
    }

    /// A flush in `sync` durability has made `flushed` events durable; others were appended
    /// meanwhile.
    pub(crate) fn note_flushed(&mut self, flushed: u64, appended: Sequence, now_micros: u64) {
        let back = |count: u64| Sequence::new(appended.get().saturating_add(count));
        self.delay = Some(Delay {
            all_back: back(flushed),
            most_back: back(flushed - flushed / 4),
            until_micros: now_micros.saturating_add(GROUP_COMMIT_DELAY_MICROS_MAX),
            left_micros: GROUP_COMMIT_IDLE_MICROS_MAX,
            is_remote: false,
        });
    }

    /// Some of the clients that this flush answered are another core's.
    pub(crate) fn note_remote_answers(&mut self) {
        let Some(delay) = &mut self.delay else {
            return;
        };
        if self.remote_skips > 0 {
            self.remote_skips -= 1;
            return;
        }
        delay.left_micros = GROUP_COMMIT_REMOTE_MICROS_MAX;
        delay.is_remote = true;
    }

    fn note_remote_delay(&mut self, most_are_back: bool) {
        self.remote_failures = if most_are_back {
            0
        } else {
            self.remote_failures + 1
        };
        if self.remote_failures == REMOTE_FAILURES_MAX {
            self.remote_failures = 0;
            self.remote_skips = REMOTE_SKIPS;
        }
    }

    /// The core has slept for so long.
    pub(crate) fn note_slept(&mut self, micros: u64) {
        if let Some(delay) = &mut self.delay {
            delay.left_micros = delay.left_micros.saturating_sub(micros);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log in `sync` durability that goes as far as this.
    fn log(appended: u64) -> LogFacts {
        LogFacts {
            durability: Durability::Sync,
            appended: Sequence::new(appended),
            flush_issued_ms: 0,
            flush_interval_ms: 50,
        }
    }

    /// A flush of 8 returned at `now_micros`, when 3 more were there.
    fn flushed(now_micros: u64) -> IdlePolicy {
        let mut policy = IdlePolicy::default();
        policy.note_flushed(8, Sequence::new(21), now_micros);
        policy
    }

    const IDLE: u64 = GROUP_COMMIT_IDLE_MICROS_MAX;

    fn micros(micros: u64) -> Sleep {
        Sleep::Micros(micros.try_into().unwrap())
    }

    #[test]
    fn a_core_with_work_does_not_sleep_and_one_without_sleeps_until_it_is_woken() {
        let mut policy = IdlePolicy::default();
        assert_eq!(policy.decide(true, None), Sleep::Now);
        assert_eq!(policy.decide(false, None), Sleep::UntilWoken);
        assert_eq!(
            policy.decide(false, Some(70)),
            micros(70),
            "a connection rests"
        );
        assert!(policy.is_flush_due(log(1), 0), "out of nowhere: at once");
    }

    #[test]
    fn a_flush_is_put_off_until_as_many_are_back_as_the_last_one_answered() {
        let mut policy = flushed(0);
        assert!(!policy.is_flush_due(log(21), 1));
        assert!(!policy.is_flush_due(log(28), 2));
        assert_eq!(policy.decide(false, None), micros(IDLE));
        assert_eq!(policy.decide(true, None), Sleep::Now);
        assert!(policy.is_flush_due(log(29), 3));
        assert_eq!(policy.decide(false, None), Sleep::UntilWoken);
        assert!(policy.is_flush_due(log(21), 4), "it stays due");
    }

    #[test]
    fn clients_that_keep_the_core_busy_put_a_flush_off_no_longer_than_the_bound() {
        let mut policy = flushed(1000);
        let end = 1000 + GROUP_COMMIT_DELAY_MICROS_MAX;
        assert!(!policy.is_flush_due(log(21), end - 1));
        assert!(policy.is_flush_due(log(21), end));
    }

    #[test]
    fn the_core_sleeps_for_them_only_for_a_moment_in_all() {
        let mut policy = flushed(0);
        policy.note_slept(IDLE / 2);
        assert!(!policy.is_flush_due(log(22), 500), "busy time is no sleep");
        assert_eq!(policy.decide(false, None), micros(IDLE - IDLE / 2));
        policy.note_slept(IDLE);
        assert_eq!(policy.decide(false, None), Sleep::Now);
        assert!(policy.is_flush_due(log(22), 501));
        assert_eq!(policy.decide(false, None), Sleep::UntilWoken);
    }

    #[test]
    fn it_sleeps_for_longer_if_another_core_has_answered() {
        let mut policy = flushed(0);
        policy.note_remote_answers();
        policy.note_slept(GROUP_COMMIT_REMOTE_MICROS_MAX - 1);
        assert_eq!(policy.decide(false, None), Sleep::Micros(1));
        policy.note_slept(1);
        assert!(policy.is_flush_due(log(28), 1001));
        policy.note_remote_answers();
        assert_eq!(
            policy.decide(false, None),
            Sleep::UntilWoken,
            "nobody is awaited"
        );
    }

    /// A flush whose clients are other cores', of which `back` of 8 come back while the core
    /// sleeps.
    fn remote(policy: &mut IdlePolicy, back: u64) -> Sleep {
        policy.note_flushed(8, Sequence::new(21), 0);
        policy.note_remote_answers();
        let sleep = policy.decide(false, None);
        policy.note_slept(GROUP_COMMIT_REMOTE_MICROS_MAX);
        assert!(policy.is_flush_due(log(21 + back), 1000));
        sleep
    }

    #[test]
    fn it_stops_to_wait_for_clients_of_other_cores_that_do_not_come_back_and_tries_again() {
        let mut policy = IdlePolicy::default();
        let waits = micros(GROUP_COMMIT_REMOTE_MICROS_MAX);
        for _ in 0..REMOTE_FAILURES_MAX {
            assert_eq!(remote(&mut policy, 5), waits);
        }
        for _ in 0..REMOTE_SKIPS {
            assert_eq!(remote(&mut policy, 5), micros(IDLE));
        }
        for _ in 0..10 {
            assert_eq!(remote(&mut policy, 6), waits, "most are back");
            assert_eq!(remote(&mut policy, 5), waits, "once in vain is no reason");
        }
    }

    #[test]
    fn in_async_durability_flushes_keep_their_interval() {
        let mut policy = IdlePolicy::default();
        let facts = LogFacts {
            durability: Durability::Async,
            flush_issued_ms: 1000,
            ..log(5)
        };
        let due_ms = 1000 + 50 - TICK_MS;
        assert!(!policy.is_flush_due(facts, (due_ms - 1) * 1000));
        assert!(policy.is_flush_due(facts, due_ms * 1000));
    }
}
