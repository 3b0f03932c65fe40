//! The room on the disk that is held back, while the server runs.
//!
//! Retention writes before it removes: a checkpoint that covers what goes, the base that it is worked into, the
//! horizon. On a full disk the reserve is what they are written into; once something was removed it is made again.
//! Until then no log takes that room for its next segment: under load it would be gone before retention looks.
//! Where nothing is ever removed the reserve stays for the end: see [`Ballast::give_back_blocking`].

use super::Turn;
use crate::limits::{RESERVE_BYTES, RESERVE_INTERVAL_SECONDS};
use crate::reactor::runtime::spawn_blocking;
use crate::report;
use flux_storage::{DataDir, StorageError};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// See the module.
pub(crate) struct Ballast {
    data_dir: Arc<DataDir>,
    state: State,
    /// When the reserve may be made again, monotonic milliseconds.
    look_ms: u64,
}

type Task = Pin<Box<dyn Future<Output = Result<(), StorageError>>>>;

enum State {
    /// It is there, as far as this core has to do with it.
    Held,
    GivingBack(Task),
    /// This core has given it to retention, or found at start that there was no room for it.
    Gone,
    Making(Task),
}

impl Ballast {
    /// `is_held`: false where this core is to make it, once there is room.
    pub(crate) fn new(data_dir: Arc<DataDir>, is_held: bool) -> Self {
        Self {
            data_dir,
            state: if is_held { State::Held } else { State::Gone },
            look_ms: 0,
        }
    }

    /// True while a helper thread has something to do.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::GivingBack(_) | State::Making(_))
    }

    /// Gives the reserve to retention where `is_needed`; makes it again where it is not.
    pub(crate) fn start_due(&mut self, is_needed: bool, turn: &Turn<'_>) {
        let is_due = match self.state {
            State::Held => is_needed,
            // Also where it is needed: another core may have made again what this one gave.
            State::Gone => turn.now_ms >= self.look_ms,
            State::GivingBack(_) | State::Making(_) => false,
        };
        if !is_due {
            return;
        }
        let data_dir = Arc::clone(&self.data_dir);
        self.state = if is_needed {
            turn.counters.set_reserve_given(true);
            State::GivingBack(spawn_blocking(move || give(&data_dir)))
        } else {
            State::Making(spawn_blocking(move || data_dir.make_ballast(RESERVE_BYTES)))
        };
    }

    /// Takes what is finished. True where there was anything.
    pub(crate) fn poll(&mut self, turn: &Turn<'_>, context: &mut Context<'_>) -> bool {
        let (task, is_making) = match &mut self.state {
            State::Held | State::Gone => return false,
            State::GivingBack(task) => (task, false),
            State::Making(task) => (task, true),
        };
        let Poll::Ready(result) = task.as_mut().poll(context) else {
            return false;
        };
        self.look_ms = turn.now_ms + RESERVE_INTERVAL_SECONDS * 1000;
        self.state = match result {
            Ok(()) if is_making => {
                turn.counters.set_reserve_given(false);
                State::Held
            }
            // Without room for it it is tried again, which needs no word: the start or the giving back had one.
            Ok(()) | Err(_) => State::Gone,
        };
        true
    }

    /// The disk is full and the server stops: what it has to write for that gets the room. Blocks for as long as the
    /// removal of a file takes.
    pub(crate) fn give_back_blocking(&self) {
        if let Err(error) = self.data_dir.release_ballast() {
            report::warning(&format!("could not give back the reserve: {error}"));
        }
    }
}

fn give(data_dir: &DataDir) -> Result<(), StorageError> {
    if data_dir.release_ballast()? {
        report::warning(&format!(
            "the disk is full: {} MiB of headroom given to what retention has to write",
            RESERVE_BYTES >> 20
        ));
    }
    Ok(())
}
