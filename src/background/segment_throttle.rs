//! How fast the next segment is made: in step with the one being filled.
//!
//! Making a segment writes all of it, and a flush of the live one waits behind what is being written. So it is written in
//! small parts, spread over the time that there is: twice as fast as the active segment fills, which leaves a half of that
//! time to spare. Who makes it rests while it is ahead, and goes on slowly where nothing is published at all. Where it can't
//! keep up, the parts become large: events would soon have no place to go.

use flux_storage::WriteSpeed;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Of the active segment, in thousandths: from here on nothing matters but that the next one gets done.
const URGENT_PERMILLE: u32 = 850;
/// Between two looks at whether the next part is due.
const REST: Duration = Duration::from_millis(1);
/// Looks after which a part is written in any case.
const RESTS_MAX: u32 = 20;

/// What a reactor tells the thread that makes its next segment.
#[derive(Debug, Default)]
pub(crate) struct SegmentThrottle {
    /// How much of the active segment is used.
    used_permille: AtomicU32,
}

impl SegmentThrottle {
    /// So much of the active segment is used, in thousandths.
    pub(crate) fn note_used(&self, permille: u32) {
        self.used_permille.store(permille, Relaxed);
    }

    /// From now on without rest.
    pub(crate) fn hurry(&self) {
        self.note_used(1000);
    }

    /// Called by the thread that makes it when `made` of `all` bytes are: rests until the next part is due.
    #[expect(
        clippy::disallowed_methods,
        reason = "on a helper thread, whose rest is the point"
    )]
    pub(crate) fn rest(&self, made: u64, all: u64) -> WriteSpeed {
        for _ in 0..RESTS_MAX {
            match due(self.used_permille.load(Relaxed), made, all) {
                Some(haste) => return haste,
                None => std::thread::sleep(REST),
            }
        }
        WriteSpeed::Throttled
    }
}

/// Whether the next part is due, and how it is to be made.
fn due(used_permille: u32, made: u64, all: u64) -> Option<WriteSpeed> {
    if used_permille >= URGENT_PERMILLE {
        return Some(WriteSpeed::Full);
    }
    let wanted = u128::from(all) * u128::from(used_permille) * 2 / 1000;
    (u128::from(made) < wanted).then_some(WriteSpeed::Throttled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_made_twice_as_fast_as_the_active_one_fills() {
        let check = |used_permille, made, expected| {
            assert_eq!(
                due(used_permille, made, 1000),
                expected,
                "{used_permille} {made}"
            );
        };
        check(0, 1, None);
        check(100, 199, Some(WriteSpeed::Throttled));
        check(100, 200, None);
        check(500, 999, Some(WriteSpeed::Throttled));
        check(URGENT_PERMILLE, 1, Some(WriteSpeed::Full));
        assert_eq!(due(400, u64::MAX, u64::MAX), None, "no overflow");
    }

    #[test]
    fn it_is_made_even_where_nothing_is_published() {
        let pace = SegmentThrottle::default();
        assert_eq!(pace.rest(1, 1000), WriteSpeed::Throttled);
        pace.hurry();
        assert_eq!(pace.rest(1, 1000), WriteSpeed::Full);
    }
}
