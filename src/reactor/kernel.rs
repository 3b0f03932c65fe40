//! The operating system, as a core uses it: an epoll, a listening socket, a timer, clocks and
//! helper threads.

use super::acknowledged::Acknowledged;
use super::idle::Sleep;
use super::poller::{Poller, Ready, Token};
use super::sockets;
use super::system::{Socket, System};
use super::taking::Unacknowledged;
use super::workers::Workers;
use crate::background::job::{Job, Lane, WorkerResult};
use crate::clock::{self, Monotonic};
use crate::limits::TICK_MS;
use crate::log::LocalLog;
use crate::model::Timestamp;
use crate::shard::Inbox;
use rustix::net::{RecvFlags, SendFlags};
use std::io;
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

/// See the module.
pub(crate) struct Kernel {
    poller: Poller,
    timer: OwnedFd,
    /// None once no more is accepted.
    listeners: Vec<TcpListener>,
    /// They are not polled.
    is_paused: bool,
    clock: Monotonic,
    workers: Workers<LocalLog>,
    acknowledged: Acknowledged,
}

impl Kernel {
    /// For a core with this inbox, that accepts from these listeners, which are non-blocking.
    ///
    /// # Errors
    /// If the kernel gives no descriptors.
    pub(crate) fn new(core: u16, inbox: &Inbox, listeners: Vec<TcpListener>) -> io::Result<Self> {
        let poller = Poller::new()?;
        let timer = sockets::timer(TICK_MS)?;
        for listener in &listeners {
            poller.add(listener, Token::Listener)?;
        }
        poller.add(inbox.wake_descriptor(), Token::Wake)?;
        poller.add(&timer, Token::Timer)?;
        Ok(Self {
            poller,
            timer,
            listeners,
            is_paused: false,
            clock: Monotonic::start(),
            workers: Workers::new(core, inbox.waker()),
            acknowledged: Acknowledged::new(),
        })
    }
}

impl System for Kernel {
    type Log = LocalLog;
    type Socket = TcpStream;

    fn wall_clock(&self) -> Timestamp {
        clock::now()
    }

    fn monotonic_micros(&self) -> u64 {
        self.clock.micros()
    }

    fn wait(&mut self, ready: &mut Vec<Ready>, sleep: Sleep) -> io::Result<()> {
        self.poller.poll(ready, sleep)
    }

    fn acknowledge_tick(&mut self) {
        sockets::acknowledge(&self.timer);
    }

    fn accept(&mut self) -> io::Result<Option<TcpStream>> {
        for listener in &self.listeners {
            if let Some(socket) = sockets::accept(listener)? {
                return Ok(Some(socket));
            }
        }
        Ok(None)
    }

    fn pause_accepting(&mut self) {
        for listener in &self.listeners {
            self.poller.remove(listener);
            self.is_paused = true;
        }
    }

    fn resume_accepting(&mut self) {
        if !std::mem::take(&mut self.is_paused) {
            return;
        }
        for listener in &self.listeners {
            // One that stayed registered is registered anew.
            self.poller.remove(listener);
            self.is_paused |= self.poller.add(listener, Token::Listener).is_err();
        }
    }

    fn stop_accepting(&mut self) {
        for listener in self.listeners.drain(..) {
            self.poller.remove(&listener);
        }
    }

    fn watch(&mut self, socket: &TcpStream, (index, generation): (u32, u32)) -> io::Result<()> {
        let token = Token::Connection { index, generation };
        self.poller.add(socket, token)
    }

    fn forget(&mut self, socket: &TcpStream) {
        self.poller.remove(socket);
    }

    fn unacknowledged(&mut self, socket: &TcpStream) -> Option<Unacknowledged> {
        self.acknowledged.missing(socket)
    }

    fn run(&mut self, job: Job<LocalLog>) -> io::Result<()> {
        self.workers.run(job)
    }

    fn take_result(&mut self) -> Option<WorkerResult<LocalLog>> {
        self.workers.take()
    }

    fn has_results(&self) -> bool {
        self.workers.has_results()
    }

    fn abandon(&mut self, lane: Lane) {
        self.workers.abandon(lane);
    }

    fn join(&mut self) {
        self.workers.join();
    }
}

impl Socket for TcpStream {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (count, _) = rustix::net::recv(self, buffer, RecvFlags::DONTWAIT)?;
        Ok(count)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(rustix::net::send(self, bytes, flags)?)
    }

    fn shut_down(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn address(&self) -> Option<IpAddr> {
        self.peer_addr().ok().map(|address| address.ip())
    }
}
