//! A thread that notices a core which does not turn, says where it is, and in the end ends the
//! process.
//!
//! A core that hangs answers nobody and does not hear a signal either: only another thread can
//! tell. Every core counts its turns, at least one for each tick, and notes what it is about to do.
//! The watchdog looks once a second:
//!
//! ```text
//! no turn for WATCHDOG_REPORT_SECONDS ──▶ one line on stderr
//! no turn for WATCHDOG_END_SECONDS    ──▶ exit code 1, so that the process is restarted
//! ```
//!
//! It counts its own looks and not the time: if the whole process or machine is paused, no look is
//! missing. Nothing that was acknowledged is lost by the end: the log is recovered as after any
//! crash. A core that closes its log is not watched, since that takes as long as the disk takes.

use crate::faults;
use crate::limits::{WATCHDOG_END_SECONDS, WATCHDOG_REPORT_SECONDS};
use crate::report::{self, LogEvent};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a core is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    /// Its thread begins.
    Start,
    /// It waits for readiness, or for a time.
    Wait,
    /// It takes what helper threads have done.
    Results,
    /// It begins flushes and other work beside requests.
    Begin,
    /// It sends messages and answers.
    Send,
    /// It accepts and reads connections, and works on requests and messages.
    Work,
    /// It closes its log, or has ended.
    Close,
}

impl Step {
    const ALL: [Self; 7] = [
        Self::Start,
        Self::Wait,
        Self::Results,
        Self::Begin,
        Self::Send,
        Self::Work,
        Self::Close,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Start => "starting",
            Self::Wait => "waiting for readiness",
            Self::Results => "taking results of helper threads",
            Self::Begin => "beginning flushes and background work",
            Self::Send => "sending messages and answers",
            Self::Work => "working on requests and messages",
            Self::Close => "closing its log",
        }
    }
}

/// What one core tells the watchdog. On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Heartbeat {
    turns: AtomicU64,
    step: AtomicU8,
}

impl Heartbeat {
    /// A turn begins.
    pub(crate) fn turn(&self) {
        // One writer: no read-modify-write is needed.
        self.turns.store(self.turns.load(Relaxed) + 1, Relaxed);
    }

    /// How many turns have begun.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Relaxed)
    }

    /// The core is about to do this.
    pub(crate) fn at(&self, step: Step) {
        self.step.store(step as u8, Relaxed);
    }

    fn step(&self) -> Step {
        let step = usize::from(self.step.load(Relaxed));
        Step::ALL.get(step).copied().unwrap_or(Step::Start)
    }
}

/// The running thread; ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Watches these cores, by index.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn start(cores: Vec<Arc<Heartbeat>>) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("watchdog".to_owned());
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread.spawn(move || watch(&cores, &stopped))?),
        })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.stop.take());
        match self.thread.take().map(JoinHandle::join) {
            // It has no state that anybody needs.
            Some(Ok(()) | Err(_)) | None => {}
        }
    }
}

/// What a look at a core comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It turns, or is slow for less than anybody needs to hear of.
    Fine,
    /// It has not turned for [`WATCHDOG_REPORT_SECONDS`].
    Stalls,
    /// It was reported, and turns again.
    GoesOn,
    /// It has not turned for [`WATCHDOG_END_SECONDS`].
    Hangs,
}

/// What was last seen of a core.
#[derive(Debug, Default)]
struct Watched {
    turns: u64,
    /// Looks in a row at which it had not turned.
    looks: u64,
}

impl Watched {
    fn look(&mut self, turns: u64, step: Step) -> Verdict {
        if turns != self.turns || step == Step::Close {
            self.turns = turns;
            let looks = std::mem::take(&mut self.looks);
            return if looks >= WATCHDOG_REPORT_SECONDS {
                Verdict::GoesOn
            } else {
                Verdict::Fine
            };
        }
        self.looks += 1;
        match self.looks {
            WATCHDOG_REPORT_SECONDS => Verdict::Stalls,
            WATCHDOG_END_SECONDS.. => Verdict::Hangs,
            _ => Verdict::Fine,
        }
    }
}

fn watch(cores: &[Arc<Heartbeat>], stopped: &Receiver<()>) {
    let mut watched: Vec<Watched> = cores.iter().map(|_| Watched::default()).collect();
    while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        faults::step();
        for (core, (heartbeat, watched)) in cores.iter().zip(&mut watched).enumerate() {
            let step = heartbeat.step();
            let verdict = watched.look(heartbeat.turns(), step);
            tell(core, step, verdict);
        }
    }
}

#[expect(
    clippy::exit,
    reason = "a core that hangs can't end in order, and no other thread can make it"
)]
fn tell(core: usize, step: Step, verdict: Verdict) {
    let step = step.name();
    match verdict {
        Verdict::Fine => {}
        Verdict::GoesOn => report::say_with(
            LogEvent::CoreGoesOn,
            &[("core", core.into())],
            &format!("core {core} goes on"),
        ),
        Verdict::Stalls => report::say_with(
            LogEvent::CoreStalls,
            &[("core", core.into())],
            &format!("core {core} has not turned for {WATCHDOG_REPORT_SECONDS} s: {step}"),
        ),
        Verdict::Hangs => {
            report::say_with(
                LogEvent::CoreHangs,
                &[("core", core.into())],
                &format!(
                    "core {core} has not turned for {WATCHDOG_END_SECONDS} s: {step}; the process ends, to be restarted"
                ),
            );
            std::process::exit(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_turns_now_and_then_is_fine() {
        let mut watched = Watched::default();
        for turns in 1..100 {
            for _ in 1..WATCHDOG_REPORT_SECONDS {
                assert_eq!(watched.look(turns, Step::Work), Verdict::Fine);
            }
        }
    }

    #[test]
    fn one_that_does_not_turn_is_reported_once_and_then_ended() {
        let mut watched = Watched::default();
        let verdicts: Vec<_> = (0..WATCHDOG_END_SECONDS)
            .map(|_| watched.look(0, Step::Wait))
            .collect();
        let count = |verdict| verdicts.iter().filter(|seen| **seen == verdict).count();
        assert_eq!((count(Verdict::Stalls), count(Verdict::Hangs)), (1, 1));
        assert_eq!(verdicts.last(), Some(&Verdict::Hangs));
    }

    #[test]
    fn one_that_was_reported_and_turns_again_begins_anew() {
        let mut watched = Watched::default();
        for _ in 0..WATCHDOG_REPORT_SECONDS {
            watched.look(0, Step::Work);
        }
        assert_eq!(watched.look(1, Step::Work), Verdict::GoesOn);
        assert_eq!(watched.look(2, Step::Work), Verdict::Fine);
        assert_eq!(watched.look(2, Step::Work), Verdict::Fine);
    }

    #[test]
    fn one_that_closes_its_log_may_take_its_time() {
        let mut watched = Watched::default();
        for _ in 0..2 * WATCHDOG_END_SECONDS {
            assert_eq!(watched.look(0, Step::Close), Verdict::Fine);
        }
    }

    #[test]
    fn every_step_comes_back_as_it_was_noted() {
        let heartbeat = Heartbeat::default();
        for step in Step::ALL {
            heartbeat.at(step);
            assert_eq!(heartbeat.step(), step);
        }
    }
}
