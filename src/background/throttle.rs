//! How fast helper threads work: the one place that slows them down, and that lets them hurry.
//!
//! Helper threads share the processors and the disk with the reactors. The scheduler would let one
//! run for milliseconds before a reactor has its turn again, and a flush waits behind whatever a
//! helper is writing. So a job works in pieces of a fraction of a millisecond and calls its
//! [`ThrottledJob`] after each:
//!
//! ```text
//! pause           checkpoint, index, base: rests for as long as it has worked
//! pause_until_due next segment: rests while it is ahead of the active one, which it will replace
//! hurry_for       shutdown: no job rests any more; some end when the time is over
//! ```
//!
//! Helper threads leave their core's processor ([`unpin`]); long jobs also run at a lower priority
//! ([`lower_priority`]). Storage knows none of this: it is given a callback.

use crate::clock::Monotonic;
use crate::log::WriteSpeed;
use rustix::thread::CpuSet;
use std::ops::ControlFlow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The shortest and the longest rest, microseconds. The kernel's timers are no finer; a longer one
/// saves nothing more.
const REST_MICROS_MIN: u64 = 100;
const REST_MICROS_MAX: u64 = 5000;

/// Thousandths of the active segment that are used: from here on the next one is made without rest,
/// since events would soon have no place to go.
const URGENT_PERMILLE: u32 = 850;
/// Between two looks at whether the next part of a segment is due.
const PART_REST: Duration = Duration::from_millis(1);
/// Looks after which a part is written in any case, so that a segment gets made if nothing is
/// published at all.
const PART_RESTS_MAX: u32 = 20;

/// How much the threads of long work give way to the reactors: at this they have a tenth of a
/// processor that a reactor keeps busy, and a reactor that wakes up takes it from them at once.
const BACKGROUND_NICE: i32 = 10;

/// Makes the calling thread give way to the reactors, for good: the kernel lets nobody raise a
/// priority again.
pub(crate) fn lower_priority() {
    match rustix::process::setpriority_process(None, BACKGROUND_NICE) {
        // Of this thread alone, on Linux. If it fails the reactors notice the work more.
        Ok(()) | Err(_) => {}
    }
}

/// The processors that helper threads may run on. Set once, at start.
static HELPER_CPUS: OnceLock<CpuSet> = OnceLock::new();

/// Says which processors helper threads may run on.
pub(crate) fn set_helper_cpus(cpus: CpuSet) {
    HELPER_CPUS.get_or_init(|| cpus);
}

/// Lets the calling thread, which inherited the processor of its core, run elsewhere too: its work
/// would stall the core.
pub(crate) fn unpin() {
    let moved = HELPER_CPUS
        .get()
        .map(|cpus| rustix::thread::sched_setaffinity(None, cpus));
    match moved {
        // If that fails the work is only slower.
        Some(Ok(()) | Err(_)) | None => {}
    }
}

/// What a reactor tells its helper threads. One for each core.
#[derive(Debug)]
pub(crate) struct Throttle {
    clock: Monotonic,
    /// When jobs that can be given up end, in microseconds of `clock`; until then no job rests. 0:
    /// nobody hurries.
    hurry_until_micros: AtomicU64,
    /// How much of the active segment is used, in thousandths.
    used_permille: AtomicU32,
}

/// One job's view of the throttle.
#[derive(Debug)]
pub(crate) struct ThrottledJob<'t> {
    throttle: &'t Throttle,
    /// When it last went to work.
    since_micros: u64,
}

impl Throttle {
    /// Nobody is in a hurry.
    pub(crate) fn new() -> Self {
        Self {
            clock: Monotonic::start(),
            hurry_until_micros: AtomicU64::new(0),
            used_permille: AtomicU32::new(0),
        }
    }

    /// Lets every job work without rest, and end after this time if it can be given up.
    pub(crate) fn hurry_for(&self, time: Duration) {
        let time_micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let until = self.clock.micros().saturating_add(time_micros).max(1);
        self.hurry_until_micros.store(until, Relaxed);
    }

    /// So much of the active segment is used, in thousandths.
    pub(crate) fn note_used(&self, permille: u32) {
        self.used_permille.store(permille, Relaxed);
    }

    /// A job begins.
    pub(crate) fn job(&self) -> ThrottledJob<'_> {
        ThrottledJob {
            throttle: self,
            since_micros: self.clock.micros(),
        }
    }

    fn hurries(&self) -> bool {
        self.hurry_until_micros.load(Relaxed) > 0
    }
}

impl ThrottledJob<'_> {
    /// Rests for as long as the job has worked since the last rest. `Break`: the job has to end.
    #[expect(
        clippy::disallowed_methods,
        reason = "on a helper thread, whose rest is the point"
    )]
    pub(crate) fn pause(&mut self) -> ControlFlow<()> {
        let now_micros = self.throttle.clock.micros();
        let until_micros = self.throttle.hurry_until_micros.load(Relaxed);
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
        self.since_micros = self.throttle.clock.micros();
        ControlFlow::Continue(())
    }

    /// The same for a job that can't be given up.
    pub(crate) fn pause_and_go_on(&mut self) {
        match self.pause() {
            ControlFlow::Continue(()) | ControlFlow::Break(()) => {}
        }
    }

    /// Rests until the next part of a segment is due, of which `made` of `all` bytes are made. Says
    /// how large the part is.
    #[expect(
        clippy::disallowed_methods,
        reason = "on a helper thread, whose rest is the point"
    )]
    pub(crate) fn pause_until_due(&self, made: u64, all: u64) -> WriteSpeed {
        for _ in 0..PART_RESTS_MAX {
            if self.throttle.hurries() {
                return WriteSpeed::Full;
            }
            match due(self.throttle.used_permille.load(Relaxed), made, all) {
                Some(speed) => return speed,
                None => std::thread::sleep(PART_REST),
            }
        }
        WriteSpeed::Throttled
    }
}

/// Whether the next part of a segment is due, and how it is made. A segment is made twice as fast
/// as the active one fills, which leaves a half of that time to spare.
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
    fn a_job_rests_until_it_is_hurried_and_ends_when_its_time_is_up() {
        let throttle = Throttle::new();
        let mut job = throttle.job();
        assert_eq!(job.pause(), ControlFlow::Continue(()));
        throttle.hurry_for(Duration::from_secs(3600));
        assert_eq!(job.pause(), ControlFlow::Continue(()));
        throttle.hurry_for(Duration::ZERO);
        while job.pause() == ControlFlow::Continue(()) {}
    }

    #[test]
    fn a_segment_is_made_twice_as_fast_as_the_active_one_fills() {
        let check = |used_permille, made, expected| {
            let found = due(used_permille, made, 1000);
            assert_eq!(found, expected, "{used_permille} {made}");
        };
        check(0, 1, None);
        check(100, 199, Some(WriteSpeed::Throttled));
        check(100, 200, None);
        check(500, 999, Some(WriteSpeed::Throttled));
        check(URGENT_PERMILLE, 1, Some(WriteSpeed::Full));
        assert_eq!(due(400, u64::MAX, u64::MAX), None, "no overflow");
    }

    #[test]
    fn a_segment_is_made_even_if_nothing_is_published_and_at_once_in_a_hurry() {
        let throttle = Throttle::new();
        assert_eq!(
            throttle.job().pause_until_due(1, 1000),
            WriteSpeed::Throttled
        );
        throttle.hurry_for(Duration::from_secs(3600));
        assert_eq!(throttle.job().pause_until_due(1, 1000), WriteSpeed::Full);
    }
}
