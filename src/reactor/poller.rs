//! Readiness of a core's descriptors: epoll, edge-triggered, each descriptor registered once for
//! its whole life.

use super::idle::Sleep;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// What a readiness event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// Connections wait to be accepted.
    Listener,
    /// Another core sent a message, or the process is to stop.
    Wake,
    /// A tick.
    Timer,
    /// A connection.
    Connection {
        /// Its index on this core.
        index: u32,
        /// How often that index was handed out.
        generation: u32,
    },
}

const LISTENER: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;
const TIMER: u64 = u64::MAX - 2;

impl Token {
    fn encode(self) -> EventData {
        EventData::new_u64(match self {
            Self::Listener => LISTENER,
            Self::Wake => WAKE,
            Self::Timer => TIMER,
            Self::Connection { index, generation } => {
                u64::from(generation) << 32 | u64::from(index)
            }
        })
    }

    fn decode(data: EventData) -> Self {
        match data.u64() {
            LISTENER => Self::Listener,
            WAKE => Self::Wake,
            TIMER => Self::Timer,
            number => Self::Connection {
                index: u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX),
                generation: u32::try_from(number >> 32).unwrap_or(u32::MAX),
            },
        }
    }
}

/// One readiness event.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the kernel reports any combination of the four"
)]
pub(crate) struct Ready {
    /// What it is about.
    pub(crate) token: Token,
    /// It may be read, or has ended or failed, which reading will tell.
    pub(crate) readable: bool,
    /// The client has shut down its side, or the connection has failed: reading goes on until it
    /// says so.
    pub(crate) hung_up: bool,
    /// It was reset, or both sides are shut down: nothing that is sent arrives any more.
    pub(crate) broken: bool,
    /// It may be written.
    pub(crate) writable: bool,
}

/// An epoll instance and the buffer for its events.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

/// Events taken in one call. The kernel hands them out in the order in which they came. If few were
/// taken while thousands of connections end at once, the request behind them would wait for several
/// turns.
const EVENTS_MAX: usize = 8192;

impl Poller {
    /// A poller of nothing.
    ///
    /// # Errors
    /// If the kernel gives no descriptor.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// Registers a descriptor; closing it takes it out again.
    ///
    /// # Errors
    /// If the kernel is out of memory or watches.
    pub(crate) fn add(&self, descriptor: impl AsFd, token: Token) -> io::Result<()> {
        let flags = match token {
            Token::Connection { .. } => {
                EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET
            }
            // Level-triggered: a bounded number is accepted at a time, and the others are reported
            // again.
            Token::Listener | Token::Wake | Token::Timer => EventFlags::IN,
        };
        Ok(epoll::add(&self.epoll, descriptor, token.encode(), flags)?)
    }

    /// Takes a descriptor out.
    pub(crate) fn remove(&self, descriptor: impl AsFd) {
        match epoll::delete(&self.epoll, descriptor) {
            // Not registered is as good as taken out.
            Ok(()) | Err(_) => {}
        }
    }

    /// What is ready.
    ///
    /// # Errors
    /// None in practice; whatever the kernel says.
    pub(crate) fn poll(&mut self, ready: &mut Vec<Ready>, sleep: Sleep) -> io::Result<()> {
        ready.clear();
        self.events.clear();
        let micros = match sleep {
            Sleep::Now => Some(0),
            Sleep::Micros(micros) => Some(micros),
            Sleep::UntilWoken => None,
        };
        let timeout = micros.map(|micros| Timespec {
            tv_sec: i64::from(micros / 1_000_000),
            tv_nsec: i64::from(micros % 1_000_000) * 1000,
        });
        let buffer = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, buffer, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let read = EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        let write = EventFlags::OUT | EventFlags::HUP | EventFlags::ERR;
        for event in &self.events {
            // The fields of a packed struct are copied out, not referenced.
            let (data, flags) = (event.data, event.flags);
            ready.push(Ready {
                token: Token::decode(data),
                readable: flags.intersects(read),
                hung_up: flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR),
                broken: flags.intersects(EventFlags::HUP | EventFlags::ERR),
                writable: flags.intersects(write),
            });
        }
        Ok(())
    }
}
