//! When checkpoints were written.

use super::checkpoints::Checkpoints;
use crate::clock::Clock;
use crate::numbers::MILLISECOND;

/// Between looks at the directory.
const LOOK_INTERVAL: u64 = MILLISECOND;
/// Around what the directory shows: the state is frozen before the first file, and freed behind the
/// last.
const MARGIN: u64 = 20 * MILLISECOND;

/// One checkpoint; times of the clock in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) begin: u64,
    /// When its manifest was there.
    pub(super) end: u64,
    /// Bytes of its files.
    pub(super) bytes: u64,
}

impl Window {
    /// Whether a request that was due at `moment` met this checkpoint.
    pub(super) fn holds(&self, moment: u64) -> bool {
        (self.begin.saturating_sub(MARGIN)..=self.end + MARGIN).contains(&moment)
    }
}

/// Looks until `until`. A checkpoint that is not complete by then counts as ending there.
pub(super) fn watch(checkpoints: &mut Checkpoints, clock: Clock, until: u64) -> Vec<Window> {
    let mut windows = Vec::new();
    let mut open: Option<Window> = None;
    checkpoints.look();
    let mut now = clock.nanos();
    while now < until {
        clock.wait_until(now + LOOK_INTERVAL);
        now = clock.nanos();
        let seen = checkpoints.look();
        if !(seen.is_writing || seen.bytes > 0 || open.is_some()) {
            continue;
        }
        let window = open.get_or_insert(Window {
            begin: now,
            end: now,
            bytes: 0,
        });
        window.end = now;
        window.bytes += seen.bytes;
        if seen.is_complete {
            windows.extend(open.take());
        }
    }
    windows.extend(open);
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_reaches_a_little_further_than_its_files_show() {
        let window = Window {
            begin: 2 * MARGIN,
            end: 3 * MARGIN,
            bytes: 0,
        };
        for (moment, expected) in [
            (MARGIN - 1, false),
            (MARGIN, true),
            (4 * MARGIN, true),
            (4 * MARGIN + 1, false),
        ] {
            assert_eq!(window.holds(moment), expected, "{moment}");
        }
    }
}
