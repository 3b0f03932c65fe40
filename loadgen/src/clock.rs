//! The only reader of time: one monotonic origin for all threads, so that a time taken by a
//! publisher can be subtracted from one taken by a watcher.

use std::ops::Add;
use std::time::{Duration, Instant};

/// Nanoseconds since the program's clock was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    /// Nanoseconds from `earlier` to this; 0 if it is not earlier.
    pub(crate) fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this module is where time is read"
    )]
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    pub(crate) fn now(self) -> Moment {
        Moment(
            u64::try_from(self.origin.elapsed().as_nanos())
                .expect("a run is shorter than 584 years"),
        )
    }
}

/// Processor time that the calling thread has used.
pub(crate) fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Microseconds since 1970, for values that must grow from one run to the next.
#[expect(
    clippy::disallowed_methods,
    reason = "this module is where time is read"
)]
pub(crate) fn unix_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0))
}

/// Lets `duration` pass on a thread that has nothing else to do.
pub(crate) fn wait(clock: Clock, duration: Duration) {
    let until = clock.now() + duration;
    loop {
        let now = clock.now();
        if now >= until {
            return;
        }
        std::thread::park_timeout(until.since(now));
    }
}
