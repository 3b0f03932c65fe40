//! The thread that makes a shard's log durable: one flush after the other, for one shard.
//!
//! A thread and not `io_uring`, which hands `fdatasync` to a thread of its own too: through the
//! ring a flush had a p99 of 4 ms beside a busy core, through this thread 0.5 ms.

use super::flush::LocalFlush;
use super::job::{ResultSender, WorkerResult};
use super::throttle::unpin;
use crate::log::{Flusher, LocalFlusher};
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// See the module. The thread ends when this is dropped, after the flush in progress.
#[derive(Debug)]
pub(crate) struct FlushThread {
    requests: Option<mpsc::Sender<LocalFlush>>,
    thread: Option<JoinHandle<()>>,
}

impl FlushThread {
    /// Starts the thread. Each flush comes to `results` as [`WorkerResult::Flushed`].
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn start(core: u16, results: ResultSender) -> io::Result<Self> {
        let (requests, received) = mpsc::channel::<LocalFlush>();
        let run = move || {
            unpin();
            let mut flusher = LocalFlusher::default();
            while let Ok(flush) = received.recv() {
                let flushed = AssertUnwindSafe(|| flusher.flush(&flush));
                let result = match std::panic::catch_unwind(flushed) {
                    Ok(result) => WorkerResult::Flushed(result.map(|()| flush)),
                    Err(_) => WorkerResult::Panicked("flush"),
                };
                results.send(result);
            }
        };
        let thread = std::thread::Builder::new().name(format!("flush-{core}"));
        Ok(Self {
            requests: Some(requests),
            thread: Some(thread.spawn(run)?),
        })
    }

    /// Makes what the flush covers durable.
    pub(crate) fn flush(&self, flush: LocalFlush) {
        let sent = self.requests.as_ref().map(|to| to.send(flush));
        // It ends only when this is dropped.
        debug_assert!(matches!(sent, Some(Ok(()))), "the thread runs");
    }
}

impl Drop for FlushThread {
    fn drop(&mut self) {
        drop(self.requests.take());
        match self.thread.take().map(JoinHandle::join) {
            // A panic was sent as a result.
            Some(Ok(()) | Err(_)) | None => {}
        }
    }
}
