//! Bytes → stderr, without waiting long: a core must not stand still because nobody reads a pipe.
//!
//! A pipe that is ready takes 4,096 bytes (`PIPE_BUF`, pipe(7)) without waiting. So pieces of that
//! size are written, each after a look at whether it is ready, by one thread at a time.
#![expect(
    clippy::disallowed_types,
    reason = "any thread may say a line; lines must not mix, and the wait is bounded"
)]

use crate::limits::{LOG_PIECE_BYTES, LOG_WAIT_MS};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Waits are bounded. A command on a terminal waits for its reader.
static IS_BOUNDED: AtomicBool = AtomicBool::new(false);

/// Held while something is written.
static TURN: Mutex<()> = Mutex::new(());

pub(super) fn bound_waits() {
    IS_BOUNDED.store(true, Relaxed);
}

/// Writes a line. False if nothing of it was written: stderr is closed, or nobody reads.
pub(super) fn write(line: &[u8]) -> bool {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let stderr = std::io::stderr();
    let mut rest = line;
    while !rest.is_empty() {
        if !wait() {
            break;
        }
        let piece = rest.get(..LOG_PIECE_BYTES).unwrap_or(rest);
        match rustix::io::write(stderr.as_fd(), piece) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // There is nobody left to tell.
            Err(_) => break,
        }
    }
    rest.len() < line.len()
}

/// True if stderr takes a piece.
fn wait() -> bool {
    let bound = Timespec {
        tv_sec: 0,
        tv_nsec: LOG_WAIT_MS * 1_000_000,
    };
    wait_for(IS_BOUNDED.load(Relaxed).then_some(&bound))
}

/// The same, after a longer wait that holds up nobody else.
pub(super) fn wait_long() -> bool {
    let bound = Timespec {
        tv_sec: 0,
        tv_nsec: 500_000_000,
    };
    wait_for(Some(&bound))
}

fn wait_for(bound: Option<&Timespec>) -> bool {
    let stderr = std::io::stderr();
    loop {
        let mut descriptors = [PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::OUT)];
        match poll(&mut descriptors, bound) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Whether stderr is this stream: `<device>:<inode>`, decimal.
pub(super) fn is_stream(stream: &str) -> bool {
    let Some((device, inode)) = stream.split_once(':') else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(std::io::stderr().as_fd()) else {
        return false;
    };
    device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino)
}
