//! The no-op server on epoll: one thread, level-triggered readiness, one `recv` and one `send` per
//! turn.
//!
//! Level-triggered, because a `recv` that leaves the buffer unfilled has emptied the socket: there
//! is no second call to learn so, as edge-triggering would need. A write that the socket does not
//! take whole closes the connection: a client that does not read its answers is no part of the
//! measurement.

use super::{Answers, NoopOptions, READ_BYTES, framing::Framing};
use crate::affinity;
use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, SocketFlags};
use std::net::TcpListener;

/// Readiness reports taken in one turn.
const EVENTS_PER_TURN: usize = 1024;

/// Marks the listener among the reports; connections carry their index.
const LISTENER: u64 = u64::MAX;

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    framing: Framing,
    /// Bytes of an incomplete head, kept for the next read.
    partial: Vec<u8>,
}

#[derive(Debug)]
struct Server {
    listener: TcpListener,
    epoll: OwnedFd,
    /// Indexed by what epoll reports; `None` is free.
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Shared by all connections: only an incomplete head outlives a turn.
    buffer: Vec<u8>,
    answers: Answers,
}

pub(super) fn serve(options: &NoopOptions) -> Result<()> {
    if let Some(cpu) = options.cpu {
        affinity::pin_to(cpu)?;
    }
    let listener = TcpListener::bind(("127.0.0.1", options.port))
        .with_context(|| format!("cannot listen on port {}", options.port))?;
    // std's backlog of 128 would refuse a few hundred connections that come at once.
    net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        epoll::EventData::new_u64(LISTENER),
        epoll::EventFlags::IN,
    )?;
    let server = Server {
        listener,
        epoll,
        connections: Vec::new(),
        free: Vec::new(),
        buffer: vec![0; READ_BYTES],
        answers: Answers::new(),
    };
    server.run()
}

impl Server {
    fn run(mut self) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS_PER_TURN);
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for readiness"),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    index => self.turn(usize::try_from(index)?),
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        loop {
            let socket = match net::accept_with(&self.listener, flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => return Err(error).context("cannot accept"),
            };
            net::sockopt::set_tcp_nodelay(&socket, true)?;
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN)?;
            let framing = Framing::new();
            self.connections[index] = Some(Connection {
                socket,
                framing,
                partial: Vec::new(),
            });
        }
    }

    fn turn(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else {
            return;
        };
        if !connection.turn(&mut self.buffer, &self.answers) {
            // Closing the descriptor takes it out of the epoll set.
            self.connections[index] = None;
            self.free.push(index);
        }
    }
}

impl Connection {
    /// Returns whether the connection lives on.
    fn turn(&mut self, buffer: &mut [u8], answers: &Answers) -> bool {
        let kept = self.partial.len();
        buffer[..kept].copy_from_slice(&self.partial);
        let received = match net::recv(&self.socket, &mut buffer[kept..], RecvFlags::empty()) {
            Ok((0, _)) => return false,
            Ok((received, _)) => received,
            Err(error) => return matches!(error, Errno::AGAIN | Errno::INTR),
        };
        let input = &buffer[..kept + received];
        let Ok(progress) = self.framing.advance(input) else {
            return false;
        };
        self.partial.clear();
        self.partial.extend_from_slice(&input[progress.consumed..]);
        if progress.requests == 0 {
            return true;
        }
        let bytes = answers.of(progress.requests);
        matches!(net::send(&self.socket, bytes, SendFlags::NOSIGNAL), Ok(sent) if sent == bytes.len())
    }
}
