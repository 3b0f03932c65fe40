//! When to poll next, from how the last polls went. Time is what the caller says it is.

use crate::limits::{POLL_BACKOFF_SECONDS_MAX, POLL_RETRY_AFTER_SECONDS_MAX};
use std::time::Duration;

/// How a poll ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It worked.
    Well,
    /// It failed; the source may have said when to come back.
    Badly(Option<Duration>),
}

/// One connector's pace.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    interval_ms: u64,
    /// Polls that failed since the last that did not.
    failures: u32,
}

impl Pace {
    /// Of a connector that was not polled yet.
    pub(super) fn new(interval_seconds: u32) -> Self {
        Self {
            interval_ms: u64::from(interval_seconds).saturating_mul(1000),
            failures: 0,
        }
    }

    /// Milliseconds until the next poll. After failures the interval doubles with each, up to an
    /// hour (or the interval, if that is longer), and is never shorter than the source asked
    /// for. `random`: any number; it moves the next poll by up to a tenth, so that connectors that
    /// were defined together do not stay together.
    pub(super) fn next_ms(&mut self, ended: Ended, random: u64) -> u64 {
        let (delay_ms, at_least_ms) = match ended {
            Ended::Well => {
                self.failures = 0;
                (self.interval_ms, 0)
            }
            Ended::Badly(retry_after) => {
                let doubled = 1_u64.checked_shl(self.failures).unwrap_or(u64::MAX);
                let max = self
                    .interval_ms
                    .max(POLL_BACKOFF_SECONDS_MAX.saturating_mul(1000));
                self.failures = self.failures.saturating_add(1).min(63);
                let asked =
                    retry_after.map_or(0, |it| it.as_secs().min(POLL_RETRY_AFTER_SECONDS_MAX));
                (
                    self.interval_ms.saturating_mul(doubled).min(max),
                    asked.saturating_mul(1000),
                )
            }
        };
        let tenth = delay_ms.checked_div(10).unwrap_or(0);
        let spread = tenth.saturating_mul(2).saturating_add(1);
        let moved = random.checked_rem(spread).unwrap_or(0);
        let delay_ms = delay_ms.saturating_sub(tenth).saturating_add(moved);
        // Later than asked, not earlier.
        delay_ms.max(at_least_ms.saturating_add(moved.min(1000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_come_at_the_interval_a_tenth_sooner_or_later() {
        let mut pace = Pace::new(60);
        let mut seen = Vec::new();
        for random in 0..20_000 {
            seen.push(pace.next_ms(Ended::Well, random));
        }
        assert_eq!(seen.iter().min(), Some(&54_000));
        assert_eq!(seen.iter().max(), Some(&66_000));
    }

    #[test]
    fn failures_double_the_interval_up_to_an_hour_and_a_success_ends_that() {
        let mut pace = Pace::new(60);
        // In the middle of the jitter.
        let middle = |ms: u64| ms / 10;
        for expected in [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600_u64] {
            let ms = pace.next_ms(Ended::Badly(None), middle(expected * 1000));
            assert_eq!(ms, expected * 1000);
        }
        for _ in 0..100 {
            assert!(pace.next_ms(Ended::Badly(None), 0) <= 3_600_000);
        }
        assert_eq!(pace.next_ms(Ended::Well, middle(60_000)), 60_000);
        let after = pace.next_ms(Ended::Badly(None), middle(60_000));
        assert_eq!(after, 60_000, "the failures before are forgotten");
        let mut slow = Pace::new(86_400);
        for _ in 0..3 {
            let ms = slow.next_ms(Ended::Badly(None), middle(86_400_000));
            assert_eq!(ms, 86_400_000, "an interval is never made shorter");
        }
    }

    #[test]
    fn a_source_is_left_alone_as_long_as_it_asks_up_to_a_day() {
        let mut pace = Pace::new(60);
        for random in 0..5_000 {
            let asked = Ended::Badly(Some(Duration::from_secs(7200)));
            let ms = pace.next_ms(asked, random);
            assert!((7_200_000..=7_201_000).contains(&ms), "{ms}");
        }
        let for_ever = Ended::Badly(Some(Duration::from_secs(u64::MAX)));
        assert_eq!(pace.next_ms(for_ever, 0), 86_400_000);
        let mut quick = Pace::new(60);
        let short = Ended::Badly(Some(Duration::from_secs(1)));
        assert!(quick.next_ms(short, 0) >= 54_000, "not sooner than usual");
    }
}
