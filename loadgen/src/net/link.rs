//! One non-blocking connection: what is still to be sent, and the incomplete end of what was
//! received.
//!
//! Reads go into a buffer that the thread's links share ([`Input`]), so that thousands of them cost
//! the cache one buffer; only an incomplete message is kept per link, and copied back before the
//! next read.

use super::{Poller, Stream, Target};
use anyhow::Result;
use std::io::{self, ErrorKind, Read as _, Write as _};

/// Bytes of one read, without what is kept.
const READ_BYTES: usize = 192 * 1024;

/// Longest incomplete message that a link keeps, bytes. A peer that sends a longer one is taken to
/// be broken.
pub(crate) const LINK_PARTIAL_BYTES_MAX: usize = 64 * 1024;

/// The read buffer of one thread.
#[derive(Debug)]
pub(crate) struct Input(Vec<u8>);

impl Input {
    pub(crate) fn new() -> Self {
        Self(vec![0; LINK_PARTIAL_BYTES_MAX + READ_BYTES])
    }
}

/// What a read brought.
#[derive(Debug)]
pub(crate) enum Received<'a> {
    /// All that has arrived and was not kept out of it: the incomplete end from before, then new
    /// bytes.
    Bytes(&'a [u8]),
    /// Nothing yet.
    Nothing,
    /// The peer has closed.
    Closed,
}

#[derive(Debug)]
pub(crate) struct Link {
    socket: Stream,
    /// Name in the poller's reports.
    index: usize,
    /// Requests that were written and not yet sent whole, from `sent` on.
    output: Vec<u8>,
    sent: usize,
    waits_for_room: bool,
    partial: Vec<u8>,
}

impl Link {
    /// Connects and is watched for input from now on.
    pub(crate) fn open(target: &Target, poller: &Poller, index: usize) -> Result<Self> {
        Self::adopt(target.connect()?, poller, index)
    }

    /// Takes over a connection on which nothing is outstanding.
    pub(crate) fn adopt(mut socket: Stream, poller: &Poller, index: usize) -> Result<Self> {
        socket.set_nonblocking(true)?;
        poller.add(&socket, index)?;
        Ok(Self {
            socket,
            index,
            output: Vec::new(),
            sent: 0,
            waits_for_room: false,
            partial: Vec::new(),
        })
    }

    /// Where requests are written; [`Self::flush`] sends them.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Sends what the socket takes, and waits for room for the rest.
    pub(crate) fn flush(&mut self, poller: &Poller) -> io::Result<()> {
        if self.sent == self.output.len() && !self.socket.has_unsent() {
            return Ok(());
        }
        let sent = if self.socket.has_unsent() {
            self.socket.flush().map(|()| 0)
        } else {
            self.socket.write(&self.output[self.sent..])
        };
        match sent {
            Ok(sent) => self.sent += sent,
            Err(error) if is_for_later(&error) => {}
            Err(error) => return Err(error),
        }
        let done = self.sent == self.output.len() && !self.socket.has_unsent();
        if done {
            self.output.clear();
            self.sent = 0;
        }
        if done == self.waits_for_room {
            self.waits_for_room = !done;
            if done {
                poller.stop_writable(&self.socket, self.index)?;
            } else {
                poller.also_writable(&self.socket, self.index)?;
            }
        }
        Ok(())
    }

    /// Reads once. The caller hands back what it could not use with [`Self::keep`].
    pub(crate) fn receive<'a>(&mut self, input: &'a mut Input) -> io::Result<Received<'a>> {
        let kept = self.partial.len();
        input.0[..kept].copy_from_slice(&self.partial);
        match self.socket.read(&mut input.0[kept..]) {
            Ok(0) => Ok(Received::Closed),
            Ok(received) => {
                self.partial.clear();
                Ok(Received::Bytes(&input.0[..kept + received]))
            }
            Err(error) if is_for_later(&error) => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Keeps the incomplete end of what was received. Returns whether it is within
    /// [`LINK_PARTIAL_BYTES_MAX`].
    #[must_use]
    pub(crate) fn keep(&mut self, rest: &[u8]) -> bool {
        self.partial.extend_from_slice(rest);
        self.partial.len() <= LINK_PARTIAL_BYTES_MAX
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
