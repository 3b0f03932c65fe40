//! The thread that makes a shard's log durable: one flush after the other, for one shard.
//!
//! A thread of our own and not `io_uring`, which has no other way for `fdatasync` than to hand it to a thread of its own
//! either: the flush takes as long, and the core can sleep where its sockets are, see [`crate::reactor::runtime`].

use crate::log::{Flusher, Log};
use crate::reactor::runtime;
use std::io;
use std::sync::mpsc;
use tokio::sync::oneshot;

/// See the module. The thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct FlushThread<L: Log> {
    requests: mpsc::Sender<Request<L::Flush>>,
}

/// The flush itself when it has succeeded, or why it failed.
pub(crate) type PendingFlush<L> = oneshot::Receiver<io::Result<<L as Log>::Flush>>;

#[derive(Debug)]
struct Request<F> {
    flush: F,
    done: oneshot::Sender<io::Result<F>>,
}

impl<L: Log> FlushThread<L> {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system has no thread left.
    pub(crate) fn start(core: u16) -> io::Result<Self> {
        let (requests, received) = mpsc::channel::<Request<L::Flush>>();
        std::thread::Builder::new()
            .name(format!("flux-flush-{core}"))
            .spawn(move || {
                runtime::unpin();
                let mut flusher = L::Flusher::default();
                while let Ok(Request { flush, done }) = received.recv() {
                    let flushed = flusher.flush(&flush).map(|()| flush);
                    match done.send(flushed) {
                        // The process is ending.
                        Ok(()) | Err(_) => {}
                    }
                }
            })?;
        Ok(Self { requests })
    }

    /// Makes what the flush covers durable.
    pub(crate) fn flush(&self, flush: L::Flush) -> PendingFlush<L> {
        let (done, flushed) = oneshot::channel();
        match self.requests.send(Request { flush, done }) {
            // Where the thread has panicked the sender is dropped here, which the receiver tells of.
            Ok(()) | Err(_) => {}
        }
        flushed
    }
}
