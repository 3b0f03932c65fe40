//! The only reader of time.

use std::time::{Duration, Instant};

/// Nanoseconds since it was started; a copy goes on from the same moment.
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

    pub(crate) fn nanos(self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).expect("a run is shorter than 584 years")
    }

    /// Lets time pass on a thread that has nothing else to do, until `nanos` of this clock.
    pub(crate) fn wait_until(self, nanos: u64) {
        loop {
            let now = self.nanos();
            if now >= nanos {
                return;
            }
            std::thread::park_timeout(Duration::from_nanos(nanos - now));
        }
    }
}
