//! What a core asks of its surroundings: sockets and their readiness, clocks, and helper threads.
//!
//! [`super::kernel::Kernel`] is the operating system. A simulation puts its own in the place: then
//! the same event loop runs on sockets, clocks and threads that follow a seed. Nothing else in the
//! reactor calls the operating system.

use super::idle::Sleep;
use super::poller::Ready;
use super::taking::Unacknowledged;
use crate::background::job::{Job, Lane, WorkerResult};
use crate::log::Log;
use crate::model::Timestamp;
use std::fmt::Debug;
use std::io;
use std::net::IpAddr;

/// See the module. One for each core.
pub(crate) trait System: Sized + 'static {
    /// The log of the core's shard.
    type Log: Log;
    /// A client's connection.
    type Socket: Socket;

    /// The wall clock.
    fn wall_clock(&self) -> Timestamp;

    /// The monotonic clock, microseconds.
    fn monotonic_micros(&self) -> u64;

    /// Waits for readiness, and says what is ready.
    ///
    /// # Errors
    /// None in practice; whatever the kernel says.
    fn wait(&mut self, ready: &mut Vec<Ready>, sleep: Sleep) -> io::Result<()>;

    /// Takes a tick back that was reported.
    fn acknowledge_tick(&mut self);

    /// The next connection that waits; `None` if there is none.
    ///
    /// # Errors
    /// If the process is out of descriptors or memory. The core asks again after
    /// [`System::pause_accepting`] and a tick.
    fn accept(&mut self) -> io::Result<Option<Self::Socket>>;

    /// Reports no connections that wait, until [`System::resume_accepting`].
    fn pause_accepting(&mut self);

    /// Reports them again if they were paused.
    fn resume_accepting(&mut self);

    /// Accepts no connection any more.
    fn stop_accepting(&mut self);

    /// Reports a connection's readiness from now on.
    ///
    /// # Errors
    /// If the kernel is out of memory or watches.
    fn watch(&mut self, socket: &Self::Socket, place: (u32, u32)) -> io::Result<()>;

    /// Reports it no longer.
    fn forget(&mut self, socket: &Self::Socket);

    /// What was given to a socket and its client has not acknowledged; `None` if the system does
    /// not say.
    fn unacknowledged(&mut self, socket: &Self::Socket) -> Option<Unacknowledged>;

    /// Hands a job to its lane's thread.
    ///
    /// # Errors
    /// If the system has no thread left.
    fn run(&mut self, job: Job<Self::Log>) -> io::Result<()>;

    /// The oldest result of a job.
    fn take_result(&mut self) -> Option<WorkerResult<Self::Log>>;

    /// True if a result waits.
    fn has_results(&self) -> bool;

    /// Lets a lane's thread end by itself: nobody waits for its job.
    fn abandon(&mut self, lane: Lane);

    /// Waits until every thread has finished its jobs, and ends it.
    fn join(&mut self);
}

/// A client's connection. It never blocks, and is closed when it is dropped.
pub(crate) trait Socket: Debug {
    /// Takes bytes that have arrived; 0 at the end of the client's side. Fewer than fit are all
    /// that have arrived.
    ///
    /// # Errors
    /// `WouldBlock` or `Interrupted` if there are none now; anything else is the connection's end.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Sends bytes, as many as there is room for.
    ///
    /// # Errors
    /// As [`Socket::receive`].
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Ends the server's side.
    ///
    /// # Errors
    /// If the connection is gone.
    fn shut_down(&self) -> io::Result<()>;

    /// Where the client is; `None` of one that is gone again.
    fn address(&self) -> Option<IpAddr>;
}

/// True if there is nothing to receive, or no room to send, at the moment.
pub(crate) fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
