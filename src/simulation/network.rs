//! Sockets in memory: two pipes for each connection, and the readiness that an edge-triggered
//! poller would report.
//!
//! The server's half behaves as a non-blocking stream socket does. A read that returns less than
//! the buffer holds has emptied the socket. A write takes what fits. Readiness is reported once for
//! each change. Either side may close or reset at any time.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// What became ready and was not reported yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a poller reports any combination of the four"
)]
pub(super) struct Edges {
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) hung_up: bool,
    pub(super) broken: bool,
}

impl Edges {
    pub(super) fn is_any(self) -> bool {
        self.readable || self.writable || self.hung_up
    }
}

/// A connection.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about one connection"
)]
struct Wire {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// Bytes for the client that fit.
    capacity: usize,
    /// The client has shut down its side.
    client_closed: bool,
    /// It has closed the socket: what is sent to it is answered with a reset.
    is_gone: bool,
    /// The connection is broken: the client has reset it, or the process of the server has ended.
    is_reset: bool,
    /// The server has shut down its side.
    is_ended: bool,
    server_closed: bool,
    edges: Edges,
    /// Bytes that the server has sent and that were not checked.
    unchecked: Vec<u8>,
    address: SocketAddr,
}

impl Wire {
    fn reset(&mut self) {
        self.is_reset = true;
        self.edges = Edges {
            readable: true,
            writable: true,
            hung_up: true,
            broken: true,
        };
    }
}

/// The server's end. The connection is closed when it is dropped.
#[derive(Debug)]
pub(crate) struct ServerSocket(Rc<RefCell<Wire>>);

/// The client's end.
#[derive(Debug)]
pub(super) struct ClientSocket(Rc<RefCell<Wire>>);

/// A connection from `address` whose client leaves at most `capacity` bytes unread.
pub(super) fn connect(address: SocketAddr, capacity: usize) -> (ServerSocket, ClientSocket) {
    let wire = Rc::new(RefCell::new(Wire {
        to_server: VecDeque::new(),
        to_client: VecDeque::new(),
        capacity,
        client_closed: false,
        is_gone: false,
        is_reset: false,
        is_ended: false,
        server_closed: false,
        edges: Edges {
            writable: true,
            ..Edges::default()
        },
        unchecked: Vec::new(),
        address,
    }));
    (ServerSocket(Rc::clone(&wire)), ClientSocket(wire))
}

impl ServerSocket {
    /// As `recv` of a non-blocking socket.
    pub(super) fn receive_bytes(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if wire.to_server.is_empty() {
            return if wire.client_closed {
                Ok(0)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            };
        }
        let (front, back) = wire.to_server.as_slices();
        let from_front = front.len().min(buffer.len());
        let from_back = back.len().min(buffer.len() - from_front);
        buffer[..from_front].copy_from_slice(&front[..from_front]);
        let count = from_front + from_back;
        buffer[from_front..count].copy_from_slice(&back[..from_back]);
        wire.to_server.drain(..count);
        Ok(count)
    }

    /// As `send` to a non-blocking socket.
    pub(super) fn send_bytes(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        if wire.is_reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if wire.is_gone {
            wire.reset();
            return Ok(bytes.len());
        }
        let room = wire.capacity.saturating_sub(wire.to_client.len());
        let count = room.min(bytes.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        wire.to_client.extend(&bytes[..count]);
        wire.unchecked.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// Bytes that were sent and that the client has not read.
    pub(super) fn unread_bytes(&self) -> u64 {
        self.0.borrow().to_client.len() as u64
    }

    pub(super) fn client_address(&self) -> SocketAddr {
        self.0.borrow().address
    }

    /// Ends the server's side.
    pub(super) fn end(&self) {
        self.0.borrow_mut().is_ended = true;
    }

    /// The other view of the connection, for the poller.
    pub(super) fn watched(&self) -> Watched {
        Watched(Rc::clone(&self.0))
    }
}

impl Drop for ServerSocket {
    fn drop(&mut self) {
        self.0.borrow_mut().server_closed = true;
    }
}

/// A connection as the poller sees it.
#[derive(Debug)]
pub(super) struct Watched(Rc<RefCell<Wire>>);

impl Watched {
    /// What became ready since this was last asked.
    pub(super) fn take_edges(&self) -> Edges {
        std::mem::take(&mut self.0.borrow_mut().edges)
    }

    /// True once the server has closed it: a closed descriptor is not polled.
    pub(super) fn is_closed(&self) -> bool {
        self.0.borrow().server_closed
    }
}

impl ClientSocket {
    fn wire(&self) -> RefMut<'_, Wire> {
        self.0.borrow_mut()
    }

    /// Sends bytes. False if the server has closed the connection.
    pub(super) fn send(&self, bytes: &[u8]) -> bool {
        let mut wire = self.wire();
        if wire.server_closed || wire.is_reset {
            return false;
        }
        wire.to_server.extend(bytes);
        wire.edges.readable = true;
        true
    }

    /// Takes up to `max` bytes that have arrived, and says how many.
    pub(super) fn receive(&self, max: usize) -> usize {
        let mut wire = self.wire();
        let was_full = wire.to_client.len() >= wire.capacity;
        let count = wire.to_client.len().min(max);
        wire.to_client.drain(..count);
        wire.edges.writable |= was_full && count > 0;
        count
    }

    /// Takes up to `max` bytes that have arrived.
    pub(super) fn receive_some(&self, max: usize) -> Vec<u8> {
        let mut wire = self.wire();
        let was_full = wire.to_client.len() >= wire.capacity;
        let count = wire.to_client.len().min(max);
        wire.edges.writable |= was_full && count > 0;
        wire.to_client.drain(..count).collect()
    }

    /// Bytes that the server has sent since this was last asked, received or not.
    pub(super) fn take_unchecked(&self) -> Vec<u8> {
        std::mem::take(&mut self.wire().unchecked)
    }

    /// Bytes that the server has not received.
    pub(super) fn unreceived(&self) -> usize {
        self.wire().to_server.len()
    }

    /// Closes the client's side; what the server sends still arrives.
    pub(super) fn close(&self) {
        let mut wire = self.wire();
        wire.client_closed = true;
        wire.edges.readable = true;
        wire.edges.hung_up = true;
    }

    /// Breaks the connection.
    pub(super) fn reset(&self) {
        self.wire().reset();
    }

    /// True if the server has closed it or it is broken, and everything was received.
    pub(super) fn has_ended(&self) -> bool {
        let wire = self.wire();
        let is_over = wire.server_closed || wire.is_ended;
        wire.is_reset || (is_over && wire.to_client.is_empty())
    }

    /// True while bytes have arrived that were not received.
    pub(super) fn has_bytes(&self) -> bool {
        !self.wire().to_client.is_empty()
    }
}

impl Drop for ClientSocket {
    fn drop(&mut self) {
        self.close();
        let mut wire = self.wire();
        if wire.to_client.is_empty() {
            wire.is_gone = true;
        } else {
            // As a kernel does if bytes were not read.
            wire.reset();
        }
    }
}
