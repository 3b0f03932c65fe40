//! When requests are due.

use crate::clock::Moment;
use std::time::Duration;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

#[derive(Debug)]
pub(super) enum Pace {
    /// As soon as an earlier request of the same connection is answered.
    Closed,
    /// At fixed times, whatever the server does.
    Open(Schedule),
}

impl Pace {
    /// One thread's part, `(index, count)`, of a schedule of `rate` requests a second from `begin`
    /// on.
    pub(super) fn open(begin: Moment, rate: u64, (index, count): (usize, usize)) -> Self {
        assert!(rate > 0 && index < count);
        Self::Open(Schedule {
            begin,
            rate,
            next: index as u64,
            step: count as u64,
        })
    }
}

/// Every `step`th of the times `begin + n / rate`.
#[derive(Debug)]
pub(super) struct Schedule {
    begin: Moment,
    rate: u64,
    next: u64,
    step: u64,
}

impl Schedule {
    /// When the next request is due.
    pub(super) fn due(&self) -> Moment {
        // Computed from the start each time, so that rounding does not add up.
        let nanos = u128::from(self.next) * NANOS_PER_SECOND / u128::from(self.rate);
        self.begin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The next request has been sent, or given up.
    pub(super) fn advance(&mut self) {
        self.next += self.step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_one_schedule_without_gap_or_drift() {
        let begin = Moment(1_000);
        for (rate, threads) in [(3, 1), (7, 3), (1_000_000, 2)] {
            let mut due = Vec::new();
            for thread in 0..threads {
                let Pace::Open(mut schedule) = Pace::open(begin, rate, (thread, threads)) else {
                    panic!("an open pace was asked for");
                };
                while schedule.due() < begin + Duration::from_secs(2) {
                    due.push(schedule.due().0);
                    schedule.advance();
                }
            }
            due.sort_unstable();
            assert_eq!(due.len() as u64, 2 * rate);
            for (number, &due) in due.iter().enumerate() {
                assert_eq!(due, 1_000 + number as u64 * 1_000_000_000 / rate);
            }
        }
    }
}
