//! The clock that deadlines run by: it begins with the wall clock and goes on with the monotonic
//! one, so that nothing ends early or late because the machine's clock was set.
//!
//! ```text
//!   wall clock       12:00 ─────▶ 12:10 │13:10 ────▶ 13:20 │12:20 ─▶ 12:30    set ahead, and back
//!   this clock       12:00 ─────▶ 12:10 ─────────▶ 12:20 ─────────▶ 12:30
//! ```
//!
//! Where the two differ, a deadline has two times: the one that its entity shows, which is its
//! event's time and the `ttl`, and the one at which this clock reaches it. After a start there is
//! only the first.

use crate::model::Timestamp;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct DeadlineClock {
    /// The wall clock when the monotonic one was 0, once they were looked at.
    origin: Option<i64>,
}

impl DeadlineClock {
    /// What this clock says. Starts with the wall clock at the first call.
    pub(super) fn at(&mut self, wall: Timestamp, monotonic_micros: u64) -> Timestamp {
        let monotonic = i64::try_from(monotonic_micros).unwrap_or(i64::MAX);
        let begin = || wall.as_micros().saturating_sub(monotonic);
        let origin = *self.origin.get_or_insert_with(begin);
        Timestamp::from_micros(origin.saturating_add(monotonic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_evenly_however_the_wall_clock_is_set() {
        const SECOND: u64 = 1_000_000;
        let mut clock = DeadlineClock::default();
        for (wall, monotonic, expected) in [
            (50_000, 7, 50_000),
            (50_001, 8, 50_001),
            (53_602, 9, 50_002),
            (50_003, 10, 50_003),
            (46_404, 11, 50_004),
        ] {
            let wall = Timestamp::from_micros(wall * 1_000_000);
            let at = clock.at(wall, monotonic * SECOND);
            assert_eq!(at, Timestamp::from_micros(expected * 1_000_000));
        }
    }
}
