//! Whether a core that finds nothing to do looks again before it sleeps.
//!
//! To fall asleep and be woken costs a dozen microseconds, as much as serving a request. Where clients answer at once, the
//! next request is there within [`SPIN_MICROS_MAX`]; where they do not, looking is a waste of a processor that others
//! may want. So a core that looked in vain some times in a row goes to sleep at once for many times.
//!
//! Pure: times are arguments, monotonic microseconds.

use crate::limits::SPIN_MICROS_MAX;

/// Looks in vain after which it is given up for a while.
const FAILURES_MAX: u32 = 3;
/// Sleeps until it is tried again.
const SLEEPS: u32 = 200;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct SpinBeforePark {
    /// Since when nothing was found, where the core is looking.
    since_micros: Option<u64>,
    /// Looks in vain in a row.
    failures: u32,
    /// How often it sleeps at once.
    sleeps: u32,
}

impl SpinBeforePark {
    /// Something was found.
    pub(crate) fn found(&mut self) {
        if self.since_micros.take().is_some() {
            self.failures = 0;
        }
    }

    /// Nothing was found. True where the core is to look again, false where it is to sleep.
    pub(crate) fn keeps_spinning(&mut self, now_micros: u64) -> bool {
        if self.sleeps > 0 {
            self.sleeps -= 1;
            return false;
        }
        let since_micros = *self.since_micros.get_or_insert(now_micros);
        if now_micros.saturating_sub(since_micros) < SPIN_MICROS_MAX {
            return true;
        }
        self.since_micros = None;
        self.failures += 1;
        if self.failures == FAILURES_MAX {
            self.failures = 0;
            self.sleeps = SLEEPS;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_looks_for_a_moment_and_then_sleeps() {
        let mut spin = SpinBeforePark::default();
        assert!(spin.keeps_spinning(100));
        assert!(spin.keeps_spinning(99 + SPIN_MICROS_MAX));
        assert!(!spin.keeps_spinning(100 + SPIN_MICROS_MAX));
        assert!(spin.keeps_spinning(500), "once in vain is not given up");
    }

    #[test]
    fn looking_in_vain_is_given_up_for_a_while_and_tried_again() {
        let mut spin = SpinBeforePark::default();
        let mut looks = |count: u32| {
            (0..count)
                .filter(|_| {
                    let looked = spin.keeps_spinning(0);
                    while looked && spin.keeps_spinning(SPIN_MICROS_MAX) {}
                    looked
                })
                .count()
        };
        assert_eq!(looks(FAILURES_MAX), 3);
        assert_eq!(looks(SLEEPS), 0);
        assert_eq!(looks(1), 1);
    }

    #[test]
    fn a_find_makes_up_for_looks_in_vain() {
        let mut spin = SpinBeforePark::default();
        for _ in 0..10 {
            for _ in 1..FAILURES_MAX {
                assert!(spin.keeps_spinning(0));
                assert!(!spin.keeps_spinning(SPIN_MICROS_MAX));
            }
            assert!(spin.keeps_spinning(0));
            spin.found();
        }
    }
}
