//! TLS between a connection and its socket: handshakes, records in, records out.
//!
//! ```text
//! receive ─▶ received ──▶ TlsLink::open ──▶ the session's reader       (input)
//! write   ◀─ socket  ◀── unsent ◀── TlsLink::seal ◀── next_bytes       (output)
//!               └─ handshake: a step at a time on a helper thread (background::handshakes)
//! ```
//!
//! Everything above works on plain bytes and knows nothing of it. Records that the socket has not
//! taken wait in the connection and count as its memory; no more plain bytes are encrypted until
//! they are gone.

use super::connection::{Closing, Connection, Session};
use super::event_loop::Core;
use super::system::{Socket, System, would_block};
use crate::api::ApiError;
use crate::api::metrics::CloseCause;
use crate::front::http::RequestMeta;
use crate::limits;
use crate::model::CommitPoint;
use crate::shard::network_of;
use crate::wire::tls::{Handshaken, TlsLink};

impl<S: System> Core<S> {
    /// Gives a new connection what it is presented with, if the server speaks TLS.
    pub(super) fn begin_tls(&self, connection: &mut Connection<S::Socket>) {
        if let Some(identity) = &self.config.tls {
            connection.tls = Some(Box::new(TlsLink::new(identity.current())));
        }
    }

    /// Takes `count` received bytes of a connection that speaks TLS.
    pub(super) fn receive_sealed(
        &mut self,
        index: u32,
        connection: &mut Connection<S::Socket>,
        count: usize,
    ) {
        let Some(mut tls) = connection.tls.take() else {
            return;
        };
        let bytes = self.received.get(..count).unwrap_or_default();
        if tls.is_plain_http(bytes) {
            self.refuse_plain(connection);
            return;
        }
        let units = limits::TLS_BYTE_UNITS * count as u64;
        self.context.router.spend(units);
        connection.account.charge_besides(units);
        if tls.is_handshaking() {
            if !tls.receive_handshake(bytes) {
                connection.closing = Closing::Now;
            } else if tls.is_busy() {
                let network = connection.address.map(network_of);
                self.handshakes
                    .push((index, connection.generation), network);
            }
        } else if connection.closing == Closing::Open
            || matches!(connection.session, Session::WebSocket(_))
        {
            let now_ms = self.now_ms;
            tls.open(bytes, |plain| connection.deliver(plain, now_ms));
        }
        connection.ended |= tls.is_ended();
        let has_failed = tls.has_failed();
        connection.tls = Some(tls);
        if has_failed {
            break_off(connection);
        }
    }

    /// A client speaks plain HTTP to a port that speaks TLS: it is told so, in plain HTTP.
    fn refuse_plain(&mut self, connection: &mut Connection<S::Socket>) {
        let writer = &self.writer;
        connection.answers.push(CommitPoint::NONE, |out| {
            writer.error(out, RequestMeta::CLOSING, &ApiError::TlsRequired);
        });
        connection.close_for(CloseCause::Protocol, self.now_ms);
    }

    /// Lets the helper thread begin the next step of a handshake.
    pub(super) fn start_handshakes(&mut self) {
        while let Some((index, generation)) = self.handshakes.next() {
            let connection = self.connections.get_mut(index);
            let connection = connection.filter(|it| it.generation == generation);
            let tls = connection.and_then(|it| it.tls.as_mut());
            if let Some(step) = tls.and_then(|tls| tls.take_step()) {
                let place = (index, generation);
                self.handshakes.start(place, step, &mut self.jobs);
            }
        }
    }

    /// A step of a handshake is done.
    pub(super) fn on_handshaken(&mut self, done: Handshaken) {
        let Some((index, generation)) = self.handshakes.on_result() else {
            return;
        };
        let Some(mut connection) = self.connections.take(index) else {
            return;
        };
        if connection.generation == generation
            && let Some(tls) = &mut connection.tls
        {
            let plain = tls.finish_step(done);
            let (is_open, has_failed) = (tls.is_open(), tls.has_failed());
            connection.ended |= tls.is_ended();
            if has_failed {
                break_off(&mut connection);
            } else if is_open {
                // The client's time for a request begins.
                connection.began_ms = self.now_ms;
                connection.received_ms = self.now_ms;
                connection.deliver(&plain, self.now_ms);
                self.open_rest(&mut connection);
            } else if connection.is_shaking() {
                let network = connection.address.map(network_of);
                self.handshakes.push((index, generation), network);
            }
            self.count_memory(index, &mut connection);
            connection.queue_read(index, &mut self.to_read);
            connection.queue_write(index, &mut self.to_write);
        }
        self.connections.put_back(index, connection);
    }

    /// Decrypts what came while the last step of the handshake was done.
    fn open_rest(&mut self, connection: &mut Connection<S::Socket>) {
        let Some(mut tls) = connection.tls.take() else {
            return;
        };
        let now_ms = self.now_ms;
        tls.open(&[], |plain| connection.deliver(plain, now_ms));
        connection.ended |= tls.is_ended();
        let has_failed = tls.has_failed();
        connection.tls = Some(tls);
        if has_failed {
            break_off(connection);
        }
    }

    /// Encrypts and sends what waits for a connection, as long as the socket takes it and `end`
    /// units are not spent. True if more may wait that the socket would take.
    pub(super) fn write_sealed(
        &mut self,
        index: u32,
        connection: &mut Connection<S::Socket>,
        end: u64,
    ) -> bool {
        let mut has_more = false;
        while connection.writable && connection.closing != Closing::Now {
            has_more = self.context.router.spent() >= end;
            let Some(tls) = &mut connection.tls else {
                return false;
            };
            if has_more {
                break;
            }
            if tls.unsent().is_empty() && !self.seal_next(index, connection) {
                break;
            }
            self.send_sealed(connection);
        }
        if let Some(tls) = &mut connection.tls {
            tls.take_buffer(&mut self.sealed);
        }
        has_more
    }

    /// Encrypts the next bytes that wait. False if there are none.
    fn seal_next(&mut self, index: u32, connection: &mut Connection<S::Socket>) -> bool {
        let Some(mut tls) = connection.tls.take() else {
            return false;
        };
        let (mut has_more, mut sealed) = (false, None);
        if tls.is_open() {
            let most = self.room_to_seal(connection);
            let (bytes, is_http) = connection.next_bytes();
            let count = bytes.len().min(most);
            tls.seal(bytes.get(..count).unwrap_or_default(), &mut self.sealed);
            sealed = (count > 0).then_some((is_http, count));
            if tls.has_failed() {
                connection.closing = Closing::Now;
            }
        }
        connection.tls = Some(tls);
        if let Some((is_http, count)) = sealed {
            let units = limits::TLS_BYTE_UNITS * count as u64;
            self.context.router.spend(units);
            connection.advance(is_http, count);
            return true;
        }
        let is_open = connection.tls.as_ref().is_some_and(|tls| tls.is_open());
        if is_open {
            has_more = self.refill(index, connection);
            if !has_more && connection.is_finished() {
                return connection.tls.as_mut().is_some_and(|tls| tls.close());
            }
        }
        has_more
    }

    fn send_sealed(&mut self, connection: &mut Connection<S::Socket>) {
        let Some(tls) = &mut connection.tls else {
            return;
        };
        let wanted = tls.unsent().len();
        if wanted == 0 {
            return;
        }
        let sent = connection.socket.send(tls.unsent());
        let taken = *sent.as_ref().unwrap_or(&0) as u64;
        let units = limits::SEND_UNITS + taken * limits::SEND_BYTE_UNITS;
        self.context.router.spend(units);
        match sent {
            Ok(count) => {
                tls.advance(count);
                connection.sent_ms = self.now_ms;
                connection.writable = count == wanted;
            }
            Err(error) if would_block(&error) => connection.writable = false,
            Err(_) => connection.closing = Closing::Now,
        }
    }
}

/// Ends a connection that has broken the rules of TLS. It is told which, if the socket takes it at
/// once; nothing else could be sent behind that.
fn break_off<T: Socket>(connection: &mut Connection<T>) {
    connection.note_cause(CloseCause::Protocol);
    connection.closing = Closing::Now;
    if let Some(tls) = &connection.tls
        && connection.writable
    {
        match connection.socket.send(tls.unsent()) {
            Ok(_) | Err(_) => {}
        }
    }
}

/// Tells the client of a connection that ends that nothing more comes, if the socket takes it at
/// once.
pub(super) fn say_goodbye<T: Socket>(connection: &mut Connection<T>) {
    if let Some(tls) = &mut connection.tls
        && tls.unsent().is_empty()
        && connection.writable
        && !connection.broken
        && tls.close()
    {
        match connection.socket.send(tls.unsent()) {
            Ok(_) | Err(_) => {}
        }
    }
}
