//! The only file that reads a clock. Everything else takes time as an argument, so that it runs under a test or a
//! simulator with any time it likes.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the place the rule points to"
)]

use crate::model::Timestamp;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The wall clock, UTC. May step back when the machine's clock is set.
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}

/// Time that never steps back, for timeouts and intervals.
#[derive(Debug, Clone, Copy)]
pub struct Monotonic {
    origin: Instant,
}

impl Monotonic {
    /// Starts at 0 now.
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Microseconds since [`Monotonic::start`].
    pub fn micros(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since [`Monotonic::start`].
    pub fn millis(&self) -> u64 {
        self.micros() / 1000
    }
}
