//! The thread that connectors run on: off the reactors, and giving way to them.

use crate::background::throttle;
use crate::connectors::{Supervisor, SupervisorParts};
use std::io;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// See the module. Ends when it is dropped.
pub(crate) struct ConnectorsThread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl ConnectorsThread {
    /// Starts it. `guard` is dropped when it ends, however it does.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub(crate) fn start(
        parts: Option<SupervisorParts>,
        guard: impl Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            let _guard = guard;
            throttle::lower_priority();
            parts.map_or(Ok(()), |parts| Supervisor::run(parts, stopped))
        };
        let thread = std::thread::Builder::new().name("flux-connectors".to_owned());
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread.spawn(run)?),
        })
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it has ended otherwise: why.
    pub(crate) fn end(mut self) -> io::Result<()> {
        match self.join() {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("their thread panicked")),
            None => Ok(()),
        }
    }

    fn join(&mut self) -> Option<std::thread::Result<io::Result<()>>> {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join)
    }
}

impl Drop for ConnectorsThread {
    fn drop(&mut self) {
        match self.join() {
            // Something else has failed, which is what will be told.
            Some(Ok(_) | Err(_)) | None => {}
        }
    }
}
