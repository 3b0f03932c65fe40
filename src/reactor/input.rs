//! Bytes in: accepts, reads, and works on the requests and messages that are whole.

use super::connection::{Closing, Connection, Session};
use super::event_loop::Core;
use super::prefetch::{PENDING_BYTES_MAX, PrefetchIds};
use super::system::{Socket as _, System, would_block};
use crate::api::ApiError;
use crate::api::metrics::{CloseCause, SessionKind};
use crate::front::http::{self, Arriving, Asked, Client, Next, RequestMeta};
use crate::front::ws::{After, WebSocket};
use crate::limits;
use crate::log::Log;
use crate::model::CommitPoint;
use crate::service::KeptToken;
use crate::service::subscribe::Subscriber;
use crate::shard::{Exhausted, MemoryClient, Message, Shard};
use crate::state::PREFETCH_GROUP_IDS_MAX;
use crate::wire::http1::{CONTINUE, Next as Parsed, Phase};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering::Relaxed;
use zeroize::Zeroize as _;

impl<S: System> Core<S> {
    pub(crate) fn accept(&mut self) {
        for _ in 0..limits::ACCEPTS_PER_TURN_MAX {
            let socket = match self.system.accept() {
                Ok(Some(socket)) => socket,
                Ok(None) => return,
                Err(error) => {
                    // Out of descriptors or memory: the connection waits in the backlog.
                    if self
                        .context
                        .counters
                        .note_accept_failure(self.context.router.core)
                    {
                        crate::report::say(
                            crate::report::LogEvent::AcceptFailed,
                            &format!("a connection could not be accepted: {error}"),
                        );
                    }
                    // The listener would go on being ready; the next tick looks again.
                    self.system.pause_accepting();
                    return;
                }
            };
            self.admit(socket);
        }
    }

    /// Takes a connection in, or tells it why there is no room for it.
    fn admit(&mut self, socket: S::Socket) {
        let limit = self.connections_max();
        let beyond = self
            .context
            .counters
            .connections()
            .checked_sub(u64::from(limit));
        let too_many = ApiError::TooManyConnections { limit };
        if beyond.is_some_and(|beyond| beyond >= limits::CONNECTIONS_REFUSED_MAX) {
            self.refuse(&socket, &too_many);
            return;
        }
        let now_ms = self.now_ms;
        let Some((index, generation)) = self.connections.reserve() else {
            return;
        };
        let watched = self.system.watch(&socket, (index, generation));
        if watched.is_err() {
            self.connections.release(index);
            return;
        }
        let mut connection = Box::new(Connection::new(socket, generation, now_ms));
        if self.access.is_on() {
            let client = connection.socket.address();
            let client = client.map(|address| address.to_canonical());
            connection.answers.keep_ledger(client);
        }
        self.begin_tls(&mut connection);
        let refused = match beyond {
            Some(_) => Some(too_many),
            None => self.count_address(&mut connection),
        };
        if let Some(error) = &refused
            && beyond.is_none()
            && self.context.counters.connections() >= u64::from(limit / 2)
        {
            // To see one address's off in good order must not take the place of the others.
            self.refuse(&connection.socket, error);
            self.connections.release(index);
            return;
        }
        if let Some(error) = refused {
            let writer = &self.writer;
            connection.answers.push(CommitPoint::NONE, |out| {
                writer.error(out, RequestMeta::CLOSING, &error);
            });
            connection.close_for(CloseCause::TooMany, now_ms);
            connection.queue_write(index, &mut self.to_write);
        } else {
            // Its first request is often here already.
            connection.queue_read(index, &mut self.to_read);
        }
        self.connections.put_back(index, connection);
        let own = self.context.counters.of(self.context.router.core);
        own.connections.fetch_add(1, Relaxed);
        self.context.tally().note_opened(SessionKind::Http);
    }

    /// Connections that the process may have: as configured, within its limit on descriptors.
    fn connections_max(&self) -> u32 {
        let runtime = &self.context.tenants.runtime;
        runtime
            .max_connections
            .min(self.config.connections_possible)
    }

    /// Counts a connection for its address. Why it is refused, if the address has too many.
    fn count_address(&mut self, connection: &mut Connection<S::Socket>) -> Option<ApiError> {
        // Of a client that is gone again there is no address.
        let address = connection.socket.address()?;
        let limit = self.context.tenants.runtime.max_connections_per_address;
        match self.context.counters.connected.add(address, limit) {
            Ok(()) => {
                connection.address = Some(address);
                let client = MemoryClient::at(address);
                connection.holders.address = self.context.memory.join(client);
                None
            }
            Err(Exhausted) => Some(ApiError::TooManyFromAddress { limit }),
        }
    }

    /// Tells a connection that there is no room for it, and forgets it: a flood of them must cost
    /// nothing.
    fn refuse(&self, socket: &S::Socket, error: &ApiError) {
        let tally = self.context.tally();
        tally.note_opened(SessionKind::Http);
        tally.note_closed(CloseCause::TooMany);
        if self.config.tls.is_some() {
            // It would hear it after a handshake only.
            return;
        }
        let mut answer = Vec::new();
        self.writer.error(&mut answer, RequestMeta::CLOSING, error);
        match socket.send(&answer) {
            // Whether it was heard can't be waited for.
            Ok(_) | Err(_) => {}
        }
    }

    /// Reads once from each connection that is to be read, and works on what came, until enough is
    /// done for one turn. The rest come first in the next.
    pub(crate) fn read_all(&mut self) {
        let mut to_read = std::mem::take(&mut self.to_read);
        let read_units = self.fan_out.read_units();
        let end = self.context.router.spent() + read_units;
        self.read_slice(&mut to_read.small, end);
        // Their share of the turn at least, however many of the others there are.
        let share = read_units / limits::HEAVY_SHARES;
        for list in [&mut to_read.fresh, &mut to_read.heavy] {
            let end = end.max(self.context.router.spent() + share);
            self.read_slice(list, end);
        }
        self.to_read.put_back(to_read);
    }

    /// Reads and works on connections at the front of a list until `end` units are spent, and takes
    /// off the ones it has worked on.
    fn read_slice(&mut self, list: &mut Vec<u32>, end: u64) {
        let (mut received, mut worked) = (0, 0);
        for group in list.chunks(PREFETCH_GROUP_IDS_MAX) {
            if self.context.router.spent() >= end {
                break;
            }
            for &index in group {
                self.receive_from(index);
            }
            received += group.len();
            self.prefetch(group);
            for &index in group {
                // One at least: to receive and decrypt may have taken all.
                if worked == 0 || self.context.router.spent() < end {
                    self.work_on(index);
                    worked += 1;
                }
            }
        }
        let mut place = 0;
        list.retain(|&index| {
            place += 1;
            place > worked && (place > received || self.put_off(index))
        });
    }

    /// What a connection has received is worked on in the next turn. False if it rests, and so
    /// waits elsewhere.
    fn put_off(&mut self, index: u32) -> bool {
        let Some(connection) = self.connections.get_mut(index) else {
            return false;
        };
        let rests = std::mem::replace(&mut connection.queued_read, true);
        connection.unworked |= !rests;
        !rests
    }

    /// Tells the state which entities what has arrived is going to ask for, if that pays.
    fn prefetch(&mut self, group: &[u32]) {
        let Some(shard) = with_many_entities(&mut self.context.router.shard) else {
            return;
        };
        for &index in group {
            if let Some(connection) = self.connections.get_mut(index)
                && let Session::WebSocket(websocket) = &mut connection.session
            {
                websocket.unmask_ahead(PENDING_BYTES_MAX);
            }
        }
        let mut prefetch_ids =
            PrefetchIds::for_shard(self.context.router.core, self.context.router.shards);
        let mut prefetch = |ids: &[&[u8]]| shard.engine_mut().prefetch(ids);
        for &index in group {
            let Some(connection) = self.connections.get(index) else {
                continue;
            };
            let pending = match &connection.session {
                // A body that comes in pieces was guessed from when its head came.
                Session::Http(reader) if reader.phase() == Phase::Head => reader.pending(),
                Session::WebSocket(websocket) => websocket.pending(),
                Session::Http(_) | Session::Stream(_) => continue,
            };
            if prefetch_ids.is_enough() {
                break;
            }
            self.prefetcher
                .guess(pending, |id| prefetch_ids.push(id, &mut prefetch));
        }
        prefetch_ids.finish(&mut prefetch);
    }

    /// The same for what other cores ask.
    fn prefetch_for_messages(&mut self, messages: &[Message]) {
        let Some(shard) = with_many_entities(&mut self.context.router.shard) else {
            return;
        };
        let mut prefetch_ids = PrefetchIds::default();
        let mut prefetch = |ids: &[&[u8]]| shard.engine_mut().prefetch(ids);
        for message in messages {
            if let Message::Request(envelope) = message
                && let Some(id) = envelope.request.entity_id()
                && prefetch_ids.push(id, &mut prefetch).is_break()
            {
                break;
            }
        }
        prefetch_ids.finish(&mut prefetch);
    }

    /// Works on what other cores have sent. True if there was anything.
    pub(crate) fn take_messages(&mut self) -> bool {
        let mut group = std::mem::take(&mut self.messages);
        let mut left = limits::MAILBOX_MESSAGES_MAX;
        let end = self.context.router.spent() + limits::TURN_UNITS_MAX;
        // Bounded, so that a busy neighbour does not keep this core from its own connections.
        while left > 0 && self.context.router.spent() < end {
            let inbox = &self.inbox;
            let room = PREFETCH_GROUP_IDS_MAX.min(left).saturating_sub(group.len());
            group.extend(std::iter::from_fn(|| inbox.take()).take(room));
            if group.is_empty() {
                break;
            }
            self.prefetch_for_messages(group.make_contiguous());
            while self.context.router.spent() < end
                && let Some(message) = group.pop_front()
            {
                left = left.saturating_sub(1);
                self.context.router.spend(limits::REQUEST_UNITS);
                self.work_on_message(message);
            }
        }
        self.messages = group;
        left < limits::MAILBOX_MESSAGES_MAX
    }

    fn receive_from(&mut self, index: u32) {
        let Some(mut connection) = self.connections.take(index) else {
            return;
        };
        if let Some(micros) = self.turns.rest(&mut connection.account, self.now_micros) {
            // It stays queued, which says that it rests.
            self.resting.push(index);
            self.rested_micros = self.rested_micros.min(self.now_micros + micros);
        } else {
            connection.queued_read = false;
            let waits = connection.is_shaking()
                || connection.closing == Closing::Open
                    && (connection.is_paused() || connection.unworked);
            if connection.readable && !waits {
                self.receive_or_wait(index, &mut connection);
            }
        }
        self.connections.put_back(index, connection);
    }

    /// Receives from a connection if there is memory for what it may send, else lets it wait.
    fn receive_or_wait(&mut self, index: u32, connection: &mut Connection<S::Socket>) {
        match self.room_to_receive(connection) {
            0 => self.await_memory(index, connection),
            room => {
                let room = if connection.is_handshaking() {
                    room.min(limits::TLS_HANDSHAKE_RECEIVE_BYTES)
                } else {
                    room
                };
                connection.waits_since_ms = None;
                self.receive(index, connection, room);
                // Before the next connection asks; a usual request is not counted.
                if connection.holding() != connection.held {
                    self.count_memory(index, connection);
                }
            }
        }
    }

    fn work_on(&mut self, index: u32) {
        let Some(mut connection) = self.connections.take(index) else {
            return;
        };
        if connection.queued_read {
            // It rests.
            self.connections.put_back(index, connection);
            return;
        }
        let spent = self.context.router.spent();
        self.work(index, &mut connection);
        let units = self.context.router.spent().saturating_sub(spent);
        connection.account.charge(units);
        if connection.unworked {
            connection.account.note_unfinished();
        }
        let paused = connection.closing == Closing::Open && connection.is_paused();
        connection.starved |= paused;
        self.count_memory(index, &mut connection);
        let more = connection.readable
            && !connection.ended
            && !connection.is_shaking()
            && connection.closing != Closing::Now
            && !paused;
        // One that waits for memory is looked at again by the tick.
        if (more || connection.unworked) && !connection.queued_memory {
            connection.queue_read(index, &mut self.to_read);
        }
        self.connections.put_back(index, connection);
        self.queue_write(index);
    }

    /// Receives at most `room` bytes.
    fn receive(&mut self, index: u32, connection: &mut Connection<S::Socket>, room: usize) {
        let buffer = self.received.get_mut(..room).unwrap_or_default();
        let received = connection.socket.receive(buffer);
        let count = match received {
            Ok(0) => {
                connection.readable = false;
                connection.ended = true;
                return;
            }
            Ok(count) => count,
            Err(error) if would_block(&error) => {
                connection.readable = false;
                return;
            }
            Err(_) => {
                // Reset by the client: nobody is left to be told anything.
                connection.closing = Closing::Now;
                return;
            }
        };
        // A short read of a stream socket has emptied it; more bytes will be a new edge. Its end is
        // no new edge if it was reported together with the last bytes.
        connection.readable = count == room || connection.hung_up;
        connection.received_ms = self.now_ms;
        if connection.tls.is_some() {
            self.receive_sealed(index, connection, count);
        } else {
            let bytes = self.received.get(..count).unwrap_or_default();
            connection.deliver(bytes, self.now_ms);
        }
    }

    /// Works on the requests or messages that are whole.
    pub(crate) fn work(&mut self, index: u32, connection: &mut Connection<S::Socket>) {
        connection.unworked = false;
        let is_unfinished = self.go_on(index, connection);
        self.spend_written(connection);
        if connection.closing == Closing::Open && !is_unfinished {
            match &connection.session {
                Session::Http(_) => self.work_http(index, connection),
                Session::WebSocket(_) => self.work_websocket(index, connection),
                Session::Stream(_) => {}
            }
            self.note_gate(index, connection);
            self.note_late(index, connection);
            self.note_poll(index, connection);
        }
        connection.unworked |= connection.answers.unfinished().is_some();
        // A client that has nothing more to say may still listen.
        let is_stream = matches!(connection.session, Session::Stream(_));
        let is_done =
            !connection.starved && !connection.unworked && !is_stream && !connection.is_shaking();
        if connection.ended && connection.closing == Closing::Open && is_done {
            if let Session::WebSocket(_) = connection.session {
                connection.closing = Closing::Now;
            } else {
                connection.close_after_sending(self.now_ms);
            }
        } else if connection.ended && connection.closing == Closing::Lingering {
            connection.closing = Closing::Now;
        }
    }

    /// Does a slice of the request that is unfinished, if there is one. True if it is so still.
    fn go_on(&mut self, index: u32, connection: &mut Connection<S::Socket>) -> bool {
        let (generation, address) = (connection.generation, connection.address);
        let mut client = Client {
            answers: &mut connection.answers,
            index,
            generation,
            address,
            holders: connection.holders,
        };
        http::go_on(&mut self.context, &self.writer, &mut client)
    }

    pub(crate) fn work_http(&mut self, index: u32, connection: &mut Connection<S::Socket>) {
        if std::mem::take(&mut connection.starved) {
            // The wait was ours: the client's time begins anew.
            connection.began_ms = self.now_ms;
            connection.received_ms = self.now_ms;
        }
        let end = self.context.router.spent() + self.turns.slice();
        while !connection.is_paused() && self.may_answer(connection) {
            if self.context.router.spent() >= end {
                connection.unworked = true;
                return;
            }
            let next = self.work_on_request(index, connection);
            self.spend_written(connection);
            if next.is_break() {
                return;
            }
        }
        connection.starved = true;
    }

    /// Works on the next request, if it is whole. Breaks if there is none, or if it was the last.
    fn work_on_request(
        &mut self,
        index: u32,
        connection: &mut Connection<S::Socket>,
    ) -> ControlFlow<()> {
        let (generation, address) = (connection.generation, connection.address);
        let Session::Http(reader) = &mut connection.session else {
            return ControlFlow::Break(());
        };
        let mut client = Client {
            answers: &mut connection.answers,
            index,
            generation,
            address,
            holders: connection.holders,
        };
        let keeps_ledger = client.answers.keeps_ledger();
        let asked_micros = keeps_ledger.then(|| self.system.monotonic_micros());
        let (context, writer, now_ms) = (&mut self.context, &self.writer, self.now_ms);
        let Arriving {
            next,
            admitted,
            meta,
            refused,
        } = http::next_request(context, reader, asked_micros);
        let request = match next {
            Ok(Parsed::NeedMore) => {
                if let Ok(Some(namespace)) = admitted {
                    self.charge_namespace(connection, namespace);
                }
                return ControlFlow::Break(());
            }
            Ok(Parsed::Continue) => {
                client.answers.push(CommitPoint::NONE, |out| {
                    out.extend_from_slice(CONTINUE);
                });
                if let Ok(Some(namespace)) = admitted {
                    self.charge_namespace(connection, namespace);
                }
                return ControlFlow::Continue(());
            }
            Ok(Parsed::Request(request)) => request,
            rejected => {
                if let Some(refused) = refused {
                    client.answers.note_asked(refused);
                }
                let refused = || admitted.expect_err("only what `admit` refuses is refused");
                let error = rejected.map_or_else(ApiError::Http, |_| refused());
                let cause = match error {
                    ApiError::Http(_) => CloseCause::Protocol,
                    _ => CloseCause::Server,
                };
                http::reject(context, writer, &mut client, (meta, &error));
                connection.close_for(cause, now_ms);
                return ControlFlow::Break(());
            }
        };
        if let Some(now) = asked_micros {
            let asked = Asked::of(&request.head, request.body.len(), now);
            client.answers.note_asked(asked);
        }
        let keep_alive = request.head.keep_alive && !context.counters.is_stopping();
        let next = http::serve(context, writer, &mut client, &request);
        let json_units = limits::JSON_BYTE_UNITS * request.body.len() as u64;
        context.router.spend(limits::REQUEST_UNITS + json_units);
        self.after_request(index, connection, (next, keep_alive))
    }

    /// Does what is to be done after a request. Breaks if it was the last.
    fn after_request(
        &mut self,
        index: u32,
        connection: &mut Connection<S::Socket>,
        (next, keep_alive): (Next, bool),
    ) -> ControlFlow<()> {
        connection.began_ms = self.now_ms;
        let goes_on = match next {
            Next::Go => keep_alive,
            Next::Last => false,
            Next::Secret => {
                if let Session::Http(reader) = &mut connection.session {
                    reader.wipe_consumed();
                }
                self.received.zeroize();
                keep_alive
            }
            next @ (Next::Upgrade { .. } | Next::Stream(_)) => {
                self.change_session(index, connection, next);
                return ControlFlow::Break(());
            }
        };
        if goes_on {
            return ControlFlow::Continue(());
        }
        if self.context.counters.is_stopping() {
            connection.note_cause(CloseCause::Shutdown);
        }
        connection.close_after_sending(self.now_ms);
        ControlFlow::Break(())
    }

    /// No further request comes on the connection, or not before long.
    fn change_session(&mut self, index: u32, connection: &mut Connection<S::Socket>, next: Next) {
        match next {
            Next::Upgrade { metrics, token } => self.upgrade(index, connection, (metrics, token)),
            Next::Stream(request) => self.begin_stream(index, connection, *request),
            Next::Go | Next::Last | Next::Secret => {}
        }
    }

    pub(crate) fn upgrade(
        &mut self,
        index: u32,
        connection: &mut Connection<S::Socket>,
        (metrics, token): (bool, Option<KeptToken>),
    ) {
        let Session::Http(reader) = &mut connection.session else {
            return;
        };
        let rest = reader.take_rest();
        let client = (connection.address, connection.holders);
        let mut websocket = Box::new(WebSocket::new(metrics, token, client));
        websocket.reader.receive(&rest);
        connection.session = Session::WebSocket(websocket);
        self.context
            .counters
            .of(self.context.router.core)
            .websockets
            .fetch_add(1, Relaxed);
        self.context.tally().note_opened(SessionKind::WebSocket);
        self.work_websocket(index, connection);
    }

    pub(crate) fn work_websocket(&mut self, index: u32, connection: &mut Connection<S::Socket>) {
        if !self.may_answer(connection) {
            connection.starved = true;
            return;
        }
        let Session::WebSocket(websocket) = &mut connection.session else {
            return;
        };
        let subscriber = Subscriber {
            index,
            generation: connection.generation,
        };
        let units = self.turns.slice();
        let after = websocket.serve(&mut self.context, subscriber, units);
        connection.unworked = after == After::More;
        connection.starved = after == After::Pause;
        match after {
            After::Broken => connection.close_for(CloseCause::Protocol, self.now_ms),
            After::Close if websocket.feed.outbox.overflowed() => {
                connection.close_for(CloseCause::SlowReader, self.now_ms);
            }
            After::Close => connection.close_after_sending(self.now_ms),
            After::Go | After::More | After::Pause => {}
        }
    }
}

/// A shard of so many entities that looking ahead pays.
fn with_many_entities<L: Log>(shard: &mut Option<Shard<L>>) -> Option<&mut Shard<L>> {
    let shard = shard.as_mut()?;
    (shard.engine().entities() >= limits::PREFETCH_ENTITIES_MIN).then_some(shard)
}
