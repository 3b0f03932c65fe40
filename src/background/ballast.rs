//! Room on the disk that the server holds back while it runs, as a file of [`RESERVE_BYTES`].
//!
//! Retention writes before it removes: a checkpoint that covers what goes, the base that it is
//! worked into, the log's start. On a full disk the ballast is what they are written into; once
//! something was removed it is made again. Until then no log takes that room for its next segment
//! ([`Ballast::withheld_bytes`]): under load it would be gone before retention looks. If nothing is
//! ever removed the ballast stays for the shutdown ([`Ballast::release_blocking`]).
//!
//! All that is decided about the file is here; storage only makes and removes it.

use super::Moment;
use super::job::{Jobs, Lane, WorkerResult};
use crate::limits::{RESERVE_BYTES, RESERVE_INTERVAL_SECONDS};
use crate::log::Log;
use crate::report::{self, LogEvent};
use flux_storage::{DataDir, StorageError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The file. One for the process.
#[derive(Debug)]
pub(crate) struct Ballast {
    data_dir: Arc<DataDir>,
    /// There was room for it at start.
    was_made: bool,
    /// It was released to retention and is not held again yet.
    is_released: AtomicBool,
}

impl Ballast {
    /// Makes the file unless it is there. Without room for it, core 0 tries again later. Blocks.
    pub(crate) fn make(data_dir: Arc<DataDir>) -> Self {
        let made = data_dir.make_ballast(RESERVE_BYTES);
        if let Err(error) = &made {
            report::say(
                LogEvent::ReserveMissing,
                &format!("no ballast on the disk: {error}"),
            );
        }
        Self {
            data_dir,
            was_made: made.is_ok(),
            is_released: AtomicBool::new(false),
        }
    }

    /// None is held, and none is wanted.
    #[cfg(test)]
    pub(crate) fn none(data_dir: Arc<DataDir>) -> Self {
        Self {
            data_dir,
            was_made: true,
            is_released: AtomicBool::new(false),
        }
    }

    /// Bytes of the disk that no log may take for its next segment.
    pub(crate) fn withheld_bytes(&self) -> u64 {
        if self.is_released.load(Relaxed) {
            RESERVE_BYTES
        } else {
            0
        }
    }

    /// The disk is full and the server stops: what it has to write for that gets the room. Blocks
    /// for as long as the removal of a file takes.
    pub(crate) fn release_blocking(&self) {
        if let Err(error) = self.data_dir.release_ballast() {
            report::say(
                LogEvent::ReserveKept,
                &format!("could not give back the reserve: {error}"),
            );
        }
    }

    fn release(&self) -> Result<(), StorageError> {
        if self.data_dir.release_ballast()? {
            report::say(
                LogEvent::ReserveUsed,
                &format!(
                    "the disk is full: {} MiB of ballast given to what retention has to write",
                    RESERVE_BYTES >> 20
                ),
            );
        }
        Ok(())
    }
}

/// One core's use of the ballast.
#[derive(Debug)]
pub(crate) struct BallastUse {
    ballast: Arc<Ballast>,
    state: State,
    /// When it may be made again, monotonic milliseconds.
    retry_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is there, as far as this core has to do with it.
    Held,
    /// A helper thread removes it.
    Releasing,
    /// This core has released it, or there was no room for it at start.
    Released,
    /// A helper thread makes it.
    Making,
}

impl BallastUse {
    /// `core`: 0 makes at the first opportunity what there was no room for at start.
    pub(crate) fn new(ballast: Arc<Ballast>, core: u16) -> Self {
        let state = if ballast.was_made || core > 0 {
            State::Held
        } else {
            State::Released
        };
        Self {
            ballast,
            state,
            retry_ms: 0,
        }
    }

    /// Releases the ballast if retention needs it; makes it again if not.
    pub(crate) fn start_due<L: Log>(&mut self, is_needed: bool, now: Moment, jobs: &mut Jobs<L>) {
        let is_due = match self.state {
            State::Held => is_needed,
            // Also if it is needed: another core may have made again what this one released.
            State::Released => now.ms >= self.retry_ms,
            State::Releasing | State::Making => false,
        };
        if !is_due {
            return;
        }
        let ballast = Arc::clone(&self.ballast);
        if is_needed {
            self.state = State::Releasing;
            ballast.is_released.store(true, Relaxed);
            jobs.push(Lane::Ballast, move || {
                WorkerResult::Ballast(ballast.release())
            });
        } else {
            self.state = State::Making;
            jobs.push(Lane::Ballast, move || {
                WorkerResult::Ballast(ballast.data_dir.make_ballast(RESERVE_BYTES))
            });
        }
    }

    /// A helper thread has released or made it. True if it was released.
    pub(crate) fn on_result(&mut self, result: &Result<(), StorageError>, now: Moment) -> bool {
        let is_released = self.state == State::Releasing && result.is_ok();
        self.retry_ms = now.ms + RESERVE_INTERVAL_SECONDS * 1000;
        if self.state == State::Making && result.is_ok() {
            self.ballast.is_released.store(false, Relaxed);
            self.state = State::Held;
        } else {
            // Without room for it, it is tried again, which needs no word: start or release had
            // one.
            self.state = State::Released;
        }
        is_released
    }

    /// See [`Ballast::release_blocking`].
    pub(crate) fn release_blocking(&self) {
        self.ballast.release_blocking();
    }

    /// See [`Ballast::withheld_bytes`].
    pub(crate) fn withheld_bytes(&self) -> u64 {
        self.ballast.withheld_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flux_storage::LogOptions;

    const SECOND: u64 = 1000;

    fn at(seconds: u64) -> Moment {
        Moment {
            ms: seconds * SECOND,
            ..Moment::default()
        }
    }

    fn ballast(directory: &tempfile::TempDir) -> Arc<Ballast> {
        let data_dir = DataDir::open(directory.path(), 1, LogOptions::default()).unwrap();
        Arc::new(Ballast::make(Arc::new(data_dir)))
    }

    /// Runs what is due and gives it its result. False: nothing was due.
    fn step(state: &mut BallastUse, is_needed: bool, now: Moment) -> bool {
        let mut jobs = Jobs::<crate::log::LocalLog>::default();
        state.start_due(is_needed, now, &mut jobs);
        let results: Vec<_> = jobs.drain().map(|job| (job.run)()).collect();
        for result in &results {
            let WorkerResult::Ballast(result) = result else {
                panic!("another's result");
            };
            state.on_result(result, now);
        }
        !results.is_empty()
    }

    #[test]
    fn retention_gets_the_ballast_and_no_log_gets_its_room_until_it_is_held_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = BallastUse::new(ballast(&directory), 0);
        assert!(!step(&mut state, false, at(0)));
        assert!(step(&mut state, true, at(1)));
        assert_eq!(state.withheld_bytes(), RESERVE_BYTES);
        assert!(!step(&mut state, false, at(2)), "too early");
        assert!(step(&mut state, false, at(1 + RESERVE_INTERVAL_SECONDS)));
        assert_eq!(state.withheld_bytes(), 0);
        assert!(step(&mut state, true, at(60)), "and once more");
    }
}
