//! The threads that connectors run on: off the reactors. The one that polls gives way to them; the
//! other is waited for by control calls, and does little.

use crate::background::throttle;
use crate::connectors::{Poller, Supervisor, SupervisorParts};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the end of the server waits for the thread that polls. It is in the middle of an item
/// then, and touches nothing of the server any more.
const POLLER_END: Duration = Duration::from_secs(1);

/// See the module. They end when it is dropped.
pub(crate) struct ConnectorsThread {
    stop: Option<oneshot::Sender<()>>,
    supervisor: Option<JoinHandle<io::Result<()>>>,
    poller: Option<(JoinHandle<io::Result<()>>, Receiver<()>)>,
}

impl ConnectorsThread {
    /// Starts them. `guard` is dropped when the supervisor ends, however it does: at the latest
    /// when the other thread has ended.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub(crate) fn start(
        parts: Option<SupervisorParts>,
        poller: Poller,
        guard: impl Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ended, end) = channel::<()>();
        let poll = move || {
            let _ended = ended;
            throttle::lower_priority();
            poller.run()
        };
        let supervise = move || {
            let _guard = guard;
            parts.map_or(Ok(()), |parts| Supervisor::run(parts, stopped))
        };
        let named = |name: &str| Builder::new().name(name.to_owned());
        let mut threads = Self {
            stop: Some(stop),
            supervisor: None,
            poller: None,
        };
        threads.poller = Some((named("flux-polls").spawn(poll)?, end));
        threads.supervisor = Some(named("flux-connectors").spawn(supervise)?);
        Ok(threads)
    }

    /// Ends them.
    ///
    /// # Errors
    /// If one has ended otherwise: why.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.join()
    }

    fn join(&mut self) -> io::Result<()> {
        drop(self.stop.take());
        let supervisor = self.supervisor.take().map(JoinHandle::join);
        // The supervisor's end is the poller's too.
        let poller = self.poller.take().and_then(|(thread, end)| {
            let waited = end.recv_timeout(POLLER_END);
            (waited != Err(RecvTimeoutError::Timeout)).then(|| thread.join())
        });
        for ended in [supervisor, poller].into_iter().flatten() {
            ended.unwrap_or_else(|_panic| Err(io::Error::other("their thread panicked")))?;
        }
        Ok(())
    }
}

impl Drop for ConnectorsThread {
    fn drop(&mut self) {
        match self.join() {
            // Something else has failed, which is what will be told.
            Ok(()) | Err(_) => {}
        }
    }
}
