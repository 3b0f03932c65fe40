//! The only file that reads a clock. Everything else takes time as an argument, so that it runs
//! under a test or a simulator with any time it likes.
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

/// A change of the wall clock against the monotonic one that is worth a warning: more than that is
/// a clock that was set, and not one that is slewed.
const STEP_MICROS_MIN: i64 = 60_000_000;

/// Notices when the wall clock is set: it then goes further between two looks, or less far, than
/// the monotonic clock. A machine that was suspended looks the same.
#[derive(Debug, Default)]
pub struct StepDetector {
    /// Of the last look.
    last: Option<(Timestamp, u64)>,
}

impl StepDetector {
    /// How far the wall clock was set since the last look, in microseconds, if that is more than a
    /// minute. Each step is returned once.
    pub fn look(&mut self, wall: Timestamp, monotonic_micros: u64) -> Option<i64> {
        let (wall_before, monotonic_before) = self.last.replace((wall, monotonic_micros))?;
        let passed = monotonic_micros.saturating_sub(monotonic_before);
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        let shown = wall.as_micros().saturating_sub(wall_before.as_micros());
        let step = shown.saturating_sub(passed);
        (step.saturating_abs() > STEP_MICROS_MIN).then_some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_more_than_a_minute_is_told_once_whichever_way_it_goes() {
        const SECOND: i64 = 1_000_000;
        let mut detector = StepDetector::default();
        // Wall and monotonic seconds of each look, and the step that it tells, in seconds.
        let looks = [
            (5000, 10, None),
            (5001, 11, None),
            // A slow look is no step.
            (5901, 911, None),
            (5961, 911, None),
            (6022, 911, Some(61)),
            (6023, 912, None),
            (870_023, 912, Some(864_000)),
            (870_024, 913, None),
            (6025, 914, Some(-864_000)),
            (6026, 915, None),
            (5967, 916, None),
            (5967 - 60, 917, Some(-61)),
        ];
        for (wall, monotonic, step) in looks {
            let wall = Timestamp::from_micros(wall * SECOND);
            let told = detector.look(wall, monotonic * SECOND.unsigned_abs());
            assert_eq!(told, step.map(|step| step * SECOND), "{wall:?}");
        }
    }
}
