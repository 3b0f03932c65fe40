//! Readiness by epoll, level-triggered.
//!
//! Level-triggered, because one `recv` per turn then suffices: what it leaves is reported again.

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::io;
use std::time::Duration;

/// Reports taken at once.
const REPORTS_PER_TURN: usize = 512;

/// One socket that can go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// What the socket was added with.
    pub(crate) index: usize,
    pub(crate) writable: bool,
    /// Also set when the peer has closed or the socket failed: reading tells which.
    pub(crate) readable: bool,
}

pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(REPORTS_PER_TURN),
        })
    }

    /// Watches for input; closing the socket ends it.
    pub(crate) fn add(&self, socket: impl AsFd, index: usize) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            socket,
            data(index),
            epoll::EventFlags::IN,
        )?)
    }

    /// Watches for room to write as well, until [`Self::stop_writable`].
    pub(crate) fn also_writable(&self, socket: impl AsFd, index: usize) -> io::Result<()> {
        let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT;
        Ok(epoll::modify(&self.epoll, socket, data(index), interest)?)
    }

    pub(crate) fn stop_writable(&self, socket: impl AsFd, index: usize) -> io::Result<()> {
        Ok(epoll::modify(
            &self.epoll,
            socket,
            data(index),
            epoll::EventFlags::IN,
        )?)
    }

    /// Waits at most `timeout` for something to be ready.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.events.clear();
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Report `number` of the last wait, if there were that many.
    pub(crate) fn ready(&self, number: usize) -> Option<Ready> {
        let event = self.events.get(number)?;
        let flags = event.flags;
        Some(Ready {
            index: crate::numbers::index(event.data.u64()),
            writable: flags.contains(epoll::EventFlags::OUT),
            readable: flags.intersects(
                epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR,
            ),
        })
    }
}

fn data(index: usize) -> epoll::EventData {
    epoll::EventData::new_u64(index as u64)
}
