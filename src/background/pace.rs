//! How fast a helper thread may go: it rests as long as it works, in pieces of a fraction of a millisecond.
//!
//! Helper threads share the processors with the reactors. The scheduler would let one run for milliseconds before the
//! reactor has its turn again; one that goes to sleep by itself gives the processor back at once, and keeps the disk
//! free for the log's flushes.

use crate::clock::Monotonic;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The shortest and the longest rest, microseconds. The kernel's timers are no finer; a longer one saves nothing more.
const REST_MICROS_MIN: u64 = 100;
const REST_MICROS_MAX: u64 = 5000;

/// What the reactor tells its helper thread.
#[derive(Debug)]
pub(crate) struct Pace {
    clock: Monotonic,
    /// When the helper gives up, in microseconds of `clock`. Until then it works without resting. 0: it has all the
    /// time in the world, and rests.
    hurry_until_micros: AtomicU64,
}

/// One job's sense of time.
#[derive(Debug)]
pub(crate) struct ThrottledJob<'p> {
    pace: &'p Pace,
    /// When it last went to work.
    since_micros: u64,
}

impl Pace {
    /// Nobody is in a hurry.
    pub(crate) fn new() -> Self {
        Self {
            clock: Monotonic::start(),
            hurry_until_micros: AtomicU64::new(0),
        }
    }

    /// From now on without rest, and for no longer than this.
    pub(crate) fn hurry_for(&self, time: Duration) {
        let time_micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let until = self.clock.micros().saturating_add(time_micros).max(1);
        self.hurry_until_micros.store(until, Relaxed);
    }

    /// A job begins.
    pub(crate) fn throttled(&self) -> ThrottledJob<'_> {
        ThrottledJob {
            pace: self,
            since_micros: self.clock.micros(),
        }
    }
}

impl ThrottledJob<'_> {
    /// The same for a job that goes on however long it takes.
    pub(crate) fn rest_and_go_on(&mut self) {
        match self.rest() {
            ControlFlow::Continue(()) | ControlFlow::Break(()) => {}
        }
    }

    /// Rests for as long as the job has worked since the last rest. `Break`: it has to end.
    #[expect(
        clippy::disallowed_methods,
        reason = "on a helper thread, whose rest is the point"
    )]
    pub(crate) fn rest(&mut self) -> ControlFlow<()> {
        let now_micros = self.pace.clock.micros();
        let until_micros = self.pace.hurry_until_micros.load(Relaxed);
        if until_micros > 0 {
            return if now_micros > until_micros {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            };
        }
        let worked = now_micros.saturating_sub(self.since_micros);
        let rest = worked.clamp(REST_MICROS_MIN, REST_MICROS_MAX);
        std::thread::sleep(Duration::from_micros(rest));
        self.since_micros = self.pace.clock.micros();
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_rests_until_it_is_hurried_and_ends_when_its_time_is_up() {
        let pace = Pace::new();
        let mut throttled = pace.throttled();
        assert_eq!(throttled.rest(), ControlFlow::Continue(()));
        pace.hurry_for(Duration::from_secs(3600));
        assert_eq!(throttled.rest(), ControlFlow::Continue(()));
        pace.hurry_for(Duration::ZERO);
        while throttled.rest() == ControlFlow::Continue(()) {}
    }
}
