//! One core: its connections, its shard, its way to the others, and the loop that serves them all.
//!
//! A turn takes what is ready (bytes, messages, a flush that returned), works on all of it, issues one flush for
//! what was appended, and then writes once to each connection that is owed something. Between turns the core sleeps
//! in io_uring until one of its descriptors or its flush wakes it. Nothing in a turn waits.

use super::connection::{Closing, Connection, Overdue, Session};
use super::flusher::Flusher;
use super::http::{self, Client, Next};
use super::hub::Hub;
use super::operation::RequestMeta;
use super::poller::{Poller, Ready, Token};
use super::runtime::{self, Readable};
use super::slots::Slots;
use super::websocket::{After, GOING_AWAY, Owner, SLOW_READER, TRY_AGAIN_LATER, WebSocket};
use crate::api::{ApiError, encode};
use crate::limits;
use crate::shard::{CollectedChanges, Inbox, Message, Reply, Ticket};
use crate::subscribe::ChangeBatch;
use crate::wire::http1::{CONTINUE, Next as Parsed};
use crate::wire::ws::write_text;
use flux_storage::Sequence;
use rustix::net::{RecvFlags, SendFlags};
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

/// How often connections are looked at for being overdue, in ticks.
const SWEEP_TICKS: u64 = 20;

/// See the module.
pub(super) struct Core {
    hub: Hub,
    inbox: Inbox,
    poller: Poller,
    timer: OwnedFd,
    listener: Option<TcpListener>,
    connections: Slots<Connection>,
    flusher: Flusher,
    /// Connections that may be owed bytes.
    to_write: Vec<u32>,
    /// Connections that have more to read than one turn took.
    to_read: Vec<u32>,
    /// Connections with answers that wait for a flush.
    gated: Vec<u32>,
    ready: Vec<Ready>,
    hits: Vec<u32>,
    received: Box<[u8]>,
    ticks: u64,
    metrics: MetricsClock,
    /// When the core was told to stop, monotonic milliseconds.
    stopping_ms: Option<u64>,
}

/// When metrics were last pushed, and the events that there were then.
#[derive(Debug, Default)]
struct MetricsClock {
    pushed_ms: u64,
    events: u64,
}

/// What a core is made of.
pub(super) struct CoreParts {
    /// What its connections share.
    pub(super) hub: Hub,
    /// What the other cores send it.
    pub(super) inbox: Inbox,
    /// Its listening socket, non-blocking.
    pub(super) listener: TcpListener,
}

/// The shard of a core, as it comes from the thread that replays its log.
pub(super) type Opening = Pin<Box<dyn Future<Output = io::Result<super::boot::OpenShard>>>>;

impl Core {
    /// A core that is ready to run.
    ///
    /// # Errors
    /// Where the kernel gives no descriptors.
    pub(super) fn new(parts: CoreParts) -> io::Result<Self> {
        let poller = Poller::new()?;
        let timer = super::sockets::timer(limits::TICK_MS)?;
        poller.add(&parts.listener, Token::Listener)?;
        poller.add(parts.inbox.wake_descriptor(), Token::Wake)?;
        poller.add(&timer, Token::Timer)?;
        Ok(Self {
            hub: parts.hub,
            inbox: parts.inbox,
            poller,
            timer,
            listener: Some(parts.listener),
            connections: Slots::default(),
            flusher: Flusher::new(),
            to_write: Vec::new(),
            to_read: Vec::new(),
            gated: Vec::new(),
            ready: Vec::new(),
            hits: Vec::new(),
            received: vec![0; limits::RECEIVE_BYTES].into(),
            ticks: 0,
            metrics: MetricsClock::default(),
            stopping_ms: None,
        })
    }

    /// Serves until the process is to stop, then flushes and closes the log.
    ///
    /// # Errors
    /// Where the log can't be opened or closed, or the kernel refuses what can't be done without.
    pub(super) async fn run(mut self, mut opening: Opening) -> io::Result<()> {
        let mut opened = false;
        while !self.is_drained() {
            let busy = self.turn()?;
            let next = std::future::poll_fn(|context| {
                if !opened && let Poll::Ready(shard) = opening.as_mut().poll(context) {
                    opened = true;
                    return Poll::Ready(shard.map(|shard| self.open(shard)));
                }
                if self.flusher.poll(&mut self.hub, context) {
                    self.release();
                }
                Poll::Ready(Ok(()))
            });
            next.await?;
            self.flusher.start_due(&mut self.hub);
            self.write_all();
            if busy || !self.to_read.is_empty() || !self.to_write.is_empty() {
                // The rings are looked at only between polls of this task; without a flush nothing is in them.
                if self.flusher.is_waiting() || !opened {
                    runtime::yield_now().await;
                }
            } else {
                self.sleep(&mut opening, &mut opened).await?;
            }
        }
        self.flusher.settle(&mut self.hub).await;
        match self.hub.shard.take() {
            None => Ok(()),
            Some(shard) => shard.into_log().close().map_err(io::Error::other),
        }
    }

    /// Waits until a descriptor is ready, a flush or a preparation is finished, or the shard is open.
    async fn sleep(&mut self, opening: &mut Opening, opened: &mut bool) -> io::Result<()> {
        if self.hub.postbox.retry() || !self.inbox.fall_asleep() {
            runtime::yield_now().await;
            return Ok(());
        }
        let mut readable = pin!(Readable::new(self.poller.descriptor())?);
        let woken = std::future::poll_fn(|context| {
            if !*opened && let Poll::Ready(shard) = opening.as_mut().poll(context) {
                *opened = true;
                return Poll::Ready(shard.map(|shard| self.open(shard)));
            }
            if self.flusher.poll(&mut self.hub, context) {
                self.release();
                return Poll::Ready(Ok(()));
            }
            readable.as_mut().poll(context).map(Ok)
        });
        let woken = woken.await;
        self.inbox.wake_up();
        woken
    }

    fn open(&mut self, shard: super::boot::OpenShard) {
        let counters = self.hub.shared.of(self.hub.core);
        counters.ready.store(1, Relaxed);
        self.hub.shard = Some(shard);
        self.count();
    }

    /// One pass over all that is ready. True where there was anything.
    fn turn(&mut self) -> io::Result<bool> {
        self.hub.read_clocks();
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.poll(&mut ready)?;
        let mut busy = !ready.is_empty();
        for event in &ready {
            match event.token {
                Token::Listener => self.accept(),
                Token::Wake => self.inbox.wake_up(),
                Token::Timer => self.tick(),
                Token::Connection(index) => self.on_ready(index, *event),
            }
        }
        self.ready = ready;
        for index in std::mem::take(&mut self.to_read) {
            self.read(index);
        }
        busy |= self.take_messages();
        self.hub.postbox.retry();
        self.release();
        Ok(busy)
    }

    fn on_ready(&mut self, index: u32, event: Ready) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        connection.readable |= event.readable;
        if event.writable && !connection.writable {
            connection.writable = true;
            self.queue_write(index);
        }
        if event.readable {
            self.read(index);
        }
    }

    fn take_messages(&mut self) -> bool {
        let mut busy = false;
        // Bounded, so that a busy neighbour does not keep this core from its own connections.
        for _ in 0..limits::MAILBOX_MESSAGES_MAX {
            let Some(message) = self.inbox.take() else {
                break;
            };
            busy = true;
            match message {
                Message::Request(envelope) => match &mut self.hub.shard {
                    Some(shard) => shard.request(envelope, self.hub.now),
                    None => {
                        let reply = Reply::Refused(ApiError::NotReady);
                        self.reply(envelope.origin.core, envelope.origin.ticket, reply);
                    }
                },
                Message::Reply {
                    from,
                    ticket,
                    reply,
                } => self.deliver(from, ticket, reply),
                Message::Changes(batch) => self.fan_out(&batch),
            }
        }
        busy
    }

    /// Sends out what the shard may show by now: replies, changes, and answers that were withheld.
    fn release(&mut self) {
        let withheld = self.flusher.is_flushing() && self.hub.is_sync();
        let Some(shard) = &mut self.hub.shard else {
            return;
        };
        let mut replies = Vec::new();
        shard.release(|origin, reply| replies.push((origin, reply)));
        let changes = if withheld { None } else { shard.take_changes() };
        let (visible, failed) = (shard.visible(), shard.failed());
        for (origin, reply) in replies {
            self.reply(origin.core, origin.ticket, reply);
        }
        if let Some(changes) = changes {
            self.publish_changes(&changes);
        }
        for index in std::mem::take(&mut self.gated) {
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            if failed {
                connection.gated = false;
                self.fail_gated(index);
            } else if connection.responses.open_gates(visible) {
                self.gated.push(index);
            } else {
                connection.gated = false;
            }
            self.queue_write(index);
        }
        self.count();
    }

    /// What this connection was to be told will never be durable: it is told so, and closed.
    fn fail_gated(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        if connection.responses.drop_gated() {
            let hub = &self.hub;
            let error = ApiError::StorageFault;
            connection.responses.push(Sequence::ZERO, |out| {
                hub.write_error(out, RequestMeta::CLOSING, &error)
            });
            connection.close_after_sending(self.hub.now_ms);
        }
    }

    fn reply(&mut self, core: u16, ticket: Ticket, reply: Reply) {
        if core == self.hub.core {
            self.deliver(core, ticket, reply);
        } else {
            self.hub.postbox.send(
                core,
                Message::Reply {
                    from: self.hub.core,
                    ticket,
                    reply,
                },
            );
        }
    }

    fn publish_changes(&mut self, changes: &CollectedChanges) {
        for batch in &changes.batches {
            for &core in &changes.cores {
                if core == self.hub.core {
                    self.fan_out(batch);
                } else {
                    self.hub
                        .postbox
                        .send(core, Message::Changes(std::sync::Arc::clone(batch)));
                }
            }
        }
    }

    /// Gives each change to the connections that want it.
    fn fan_out(&mut self, batch: &ChangeBatch) {
        let mut hits = std::mem::take(&mut self.hits);
        for change in batch.changes() {
            self.hub.subscribers.matches(change.entity_id(), &mut hits);
            for &index in &hits {
                let Some(connection) = self.connections.get_mut(index) else {
                    continue;
                };
                let Session::WebSocket(websocket) = &mut connection.session else {
                    continue;
                };
                let owed = websocket.outbox.is_empty();
                if websocket.outbox.push_change(change).is_err() {
                    self.drop_slow_reader(index);
                } else if owed {
                    connection.sent_ms = self.hub.now_ms;
                }
                self.queue_write(index);
            }
        }
        self.hits = hits;
    }

    fn drop_slow_reader(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        if let Session::WebSocket(websocket) = &mut connection.session {
            websocket.close(TRY_AGAIN_LATER, SLOW_READER);
            connection.close_after_sending(self.hub.now_ms);
        }
    }

    fn deliver(&mut self, from: u16, ticket: Ticket, reply: Reply) {
        let index = ticket.connection;
        let Some(mut connection) = self.connections.take(index) else {
            return;
        };
        let generation = connection.generation;
        if generation == ticket.generation {
            let intact = match &mut connection.session {
                Session::Http(_) => {
                    let responses = &mut connection.responses;
                    let mut client = Client {
                        responses,
                        index,
                        generation,
                    };
                    http::on_reply(&mut self.hub, &mut client, ticket.slot, (from, reply))
                }
                Session::WebSocket(websocket) => {
                    let owner = Owner { index, generation };
                    websocket.on_reply(&mut self.hub, owner, ticket.slot, &reply);
                    true
                }
            };
            if !intact {
                connection.closing = Closing::Now;
            }
            self.note_gate(index, &mut connection);
        }
        self.connections.put_back(index, connection);
        self.queue_write(index);
    }

    /// Puts a connection with withheld answers on the list that a flush goes through.
    fn note_gate(&mut self, index: u32, connection: &mut Connection) {
        if connection.responses.is_gated() && !connection.gated {
            connection.gated = true;
            self.gated.push(index);
        }
    }

    fn queue_write(&mut self, index: u32) {
        if let Some(connection) = self.connections.get_mut(index)
            && !connection.queued
        {
            connection.queued = true;
            self.to_write.push(index);
        }
    }

    fn accept(&mut self) {
        for _ in 0..limits::ACCEPTS_PER_TURN_MAX {
            let Some(listener) = &self.listener else {
                return;
            };
            let socket = match super::sockets::accept(listener) {
                Ok(Some(socket)) => socket,
                Ok(None) => return,
                Err(error) => {
                    // Out of descriptors or memory: the connection waits in the backlog.
                    if self.hub.shared.note_accept_failure(self.hub.core) {
                        crate::report::warning(&format!(
                            "a connection could not be accepted: {error}"
                        ));
                    }
                    return;
                }
            };
            let limit = self.hub.config.connections_max;
            let over = self.hub.shared.connections() >= limit as u64;
            let now_ms = self.hub.now_ms;
            let Some((index, generation)) = self.connections.reserve() else {
                return;
            };
            if self.poller.add(&socket, Token::Connection(index)).is_err() {
                self.connections.release(index);
                return;
            }
            let mut connection = Box::new(Connection::new(socket, generation, now_ms));
            if over {
                let (hub, error) = (&self.hub, ApiError::TooManyConnections { limit });
                connection.responses.push(Sequence::ZERO, |out| {
                    hub.write_error(out, RequestMeta::CLOSING, &error)
                });
                connection.close_after_sending(now_ms);
            }
            self.connections.put_back(index, connection);
            self.hub
                .shared
                .of(self.hub.core)
                .connections
                .fetch_add(1, Relaxed);
            // Its first request is often here already.
            if over {
                self.queue_write(index)
            } else {
                self.read(index)
            }
        }
    }

    /// Reads once from a connection and works on what came.
    fn read(&mut self, index: u32) {
        let Some(mut connection) = self.connections.take(index) else {
            return;
        };
        if connection.readable && !(connection.closing == Closing::Open && connection.is_paused()) {
            self.receive(index, &mut connection);
        }
        self.work(index, &mut connection);
        let paused = connection.closing == Closing::Open && connection.is_paused();
        connection.starved |= paused;
        let more = connection.readable
            && !connection.ended
            && connection.closing != Closing::Now
            && !paused;
        self.connections.put_back(index, connection);
        if more {
            self.to_read.push(index);
        }
        self.queue_write(index);
    }

    fn receive(&mut self, index: u32, connection: &mut Connection) {
        let received =
            rustix::net::recv(&connection.socket, &mut *self.received, RecvFlags::DONTWAIT);
        let count = match received {
            Ok((0, _)) => {
                connection.readable = false;
                connection.ended = true;
                return;
            }
            Ok((count, _)) => count,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                connection.readable = false;
                return;
            }
            Err(_) => {
                // Reset by the client: nobody is left to be told anything.
                connection.closing = Closing::Now;
                return;
            }
        };
        // A short read of a stream socket has emptied it; more bytes will be a new edge.
        connection.readable = count == self.received.len();
        let idle = match &connection.session {
            Session::Http(reader) => reader.buffered() == 0,
            Session::WebSocket(_) => false,
        };
        if idle {
            connection.began_ms = self.hub.now_ms;
        }
        connection.received_ms = self.hub.now_ms;
        if connection.closing != Closing::Open {
            self.discard(index, connection, count);
            return;
        }
        let bytes = self.received.get(..count).unwrap_or_default();
        match &mut connection.session {
            Session::Http(reader) => reader.receive(bytes),
            Session::WebSocket(websocket) => websocket.reader.receive(bytes),
        }
    }

    /// Bytes for a connection on its way out: a WebSocket client's close is waited for, all else is dropped.
    fn discard(&mut self, _index: u32, connection: &mut Connection, count: usize) {
        if let Session::WebSocket(websocket) = &mut connection.session {
            websocket
                .reader
                .receive(self.received.get(..count).unwrap_or_default());
            while let Ok(Some(_)) = websocket.reader.next() {}
        }
    }

    /// Works on the requests or messages that are whole.
    fn work(&mut self, index: u32, connection: &mut Connection) {
        if connection.closing == Closing::Open {
            match &connection.session {
                Session::Http(_) => self.work_http(index, connection),
                Session::WebSocket(_) => self.work_websocket(index, connection),
            }
            self.note_gate(index, connection);
        }
        if connection.ended && connection.closing == Closing::Open && !connection.starved {
            if let Session::WebSocket(_) = connection.session {
                connection.closing = Closing::Now;
            } else {
                connection.close_after_sending(self.hub.now_ms);
            }
        } else if connection.ended && connection.closing == Closing::Lingering {
            connection.closing = Closing::Now;
        }
    }

    fn work_http(&mut self, index: u32, connection: &mut Connection) {
        let generation = connection.generation;
        connection.starved = false;
        while !connection.is_paused() {
            let Session::Http(reader) = &mut connection.session else {
                return;
            };
            let responses = &mut connection.responses;
            let hub = &mut self.hub;
            let request = match reader.next(|head| http::body_limit(hub, head)) {
                Ok(Parsed::NeedMore) => return,
                Ok(Parsed::Continue) => {
                    responses.push(Sequence::ZERO, |out| out.extend_from_slice(CONTINUE));
                    continue;
                }
                Ok(Parsed::Request(request)) => request,
                Err(error) => {
                    let error = ApiError::Http(error);
                    responses.push(Sequence::ZERO, |out| {
                        hub.write_error(out, RequestMeta::CLOSING, &error)
                    });
                    connection.close_after_sending(hub.now_ms);
                    return;
                }
            };
            let keep_alive = request.head.keep_alive;
            let mut client = Client {
                responses,
                index,
                generation,
            };
            let next = http::serve(hub, &mut client, &request);
            connection.began_ms = hub.now_ms;
            match next {
                Next::Go => {}
                Next::Published => connection.published_ms = hub.now_ms.max(1),
                Next::Upgrade { metrics } => {
                    self.upgrade(index, connection, metrics);
                    return;
                }
            }
            if !keep_alive {
                connection.close_after_sending(self.hub.now_ms);
                return;
            }
        }
        connection.starved = true;
    }

    fn upgrade(&mut self, index: u32, connection: &mut Connection, metrics: bool) {
        let Session::Http(reader) = &mut connection.session else {
            return;
        };
        let rest = reader.take_rest();
        let mut websocket = Box::new(WebSocket::new(metrics));
        websocket.reader.receive(&rest);
        connection.session = Session::WebSocket(websocket);
        self.hub
            .shared
            .of(self.hub.core)
            .websockets
            .fetch_add(1, Relaxed);
        self.work_websocket(index, connection);
    }

    fn work_websocket(&mut self, index: u32, connection: &mut Connection) {
        let Session::WebSocket(websocket) = &mut connection.session else {
            return;
        };
        let owner = Owner {
            index,
            generation: connection.generation,
        };
        if websocket.serve(&mut self.hub, owner) == After::Close {
            connection.close_after_sending(self.hub.now_ms);
        }
    }

    /// Writes once to every connection that is owed something.
    fn write_all(&mut self) {
        for index in std::mem::take(&mut self.to_write) {
            let Some(mut connection) = self.connections.take(index) else {
                continue;
            };
            connection.queued = false;
            self.write(index, &mut connection);
            if connection.closing == Closing::Now {
                self.end(index, *connection);
            } else {
                self.connections.put_back(index, connection);
            }
        }
    }

    fn write(&mut self, index: u32, connection: &mut Connection) {
        while connection.writable && connection.closing != Closing::Now {
            let (bytes, is_http) = connection.next_bytes();
            if bytes.is_empty() {
                if !self.refill(index, connection) {
                    break;
                }
                continue;
            }
            let wanted = bytes.len();
            match rustix::net::send(
                &connection.socket,
                bytes,
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            ) {
                Ok(count) => {
                    connection.sent_ms = self.hub.now_ms;
                    connection.writable = count == wanted;
                    connection.advance(is_http, count);
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                    connection.writable = false
                }
                Err(_) => connection.closing = Closing::Now,
            }
        }
        if !connection.writable {
            connection.stalled = true;
        }
        connection.finish_closing(self.hub.now_ms);
        if connection.starved && !connection.is_paused() && connection.closing == Closing::Open {
            self.to_read.push(index);
        }
    }

    /// Lets a listing go on that waited for the socket. True where there is something to write again.
    fn refill(&mut self, index: u32, connection: &mut Connection) -> bool {
        if connection.responses.waiting() == 0 {
            return false;
        }
        if std::mem::take(&mut connection.stalled)
            && let Some((_, super::operation::Operation::List(listing))) =
                connection.responses.front_operation()
        {
            listing.forget_unsent();
        }
        let generation = connection.generation;
        let mut client = Client {
            responses: &mut connection.responses,
            index,
            generation,
        };
        if !http::start_front(&mut self.hub, &mut client) {
            connection.closing = Closing::Now;
        }
        self.note_gate(index, connection);
        !connection.responses.sendable().is_empty()
    }

    fn end(&mut self, index: u32, mut connection: Connection) {
        let counters = self.hub.shared.of(self.hub.core);
        counters.connections.fetch_sub(1, Relaxed);
        if let Session::WebSocket(websocket) = &mut connection.session {
            counters.websockets.fetch_sub(1, Relaxed);
            let owner = Owner {
                index,
                generation: connection.generation,
            };
            websocket.leave(&mut self.hub, owner);
        }
        self.poller.remove(&connection.socket);
        self.connections.release(index);
    }

    fn tick(&mut self) {
        super::sockets::acknowledge(&self.timer);
        self.ticks += 1;
        if self.hub.shared.is_stopping() && self.stopping_ms.is_none() {
            self.begin_stop();
        }
        if self.ticks.is_multiple_of(SWEEP_TICKS) {
            self.sweep();
        }
        let since = self.hub.now_ms.saturating_sub(self.metrics.pushed_ms);
        if since >= limits::METRICS_INTERVAL_SECONDS * 1000 {
            self.push_metrics(since);
        }
    }

    /// Looks at every connection for what is overdue.
    fn sweep(&mut self) {
        let now_ms = self.hub.now_ms;
        let timeouts = self.hub.config.timeouts;
        let mut publishers = 0;
        for index in self.connections.indexes() {
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            let recent = now_ms.saturating_sub(connection.published_ms);
            if connection.published_ms > 0 && recent < limits::PUBLISHER_ACTIVE_SECONDS * 1000 {
                publishers += 1;
            }
            match connection.overdue(now_ms, timeouts) {
                Overdue::No => {}
                Overdue::Head => self.time_out(index, "head", timeouts.head_ms),
                Overdue::Body => self.time_out(index, "body", timeouts.body_ms),
                Overdue::Silent => connection.closing = Closing::Now,
            }
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            if let Session::WebSocket(websocket) = &mut connection.session
                && connection.closing == Closing::Open
                && websocket.is_dead(now_ms, connection.received_ms)
            {
                connection.closing = Closing::Now;
            }
            if connection.owes_nothing() {
                connection.trim();
            }
            self.queue_write(index);
        }
        self.hub
            .shared
            .of(self.hub.core)
            .publishers
            .store(publishers, Relaxed);
    }

    fn time_out(&mut self, index: u32, part: &'static str, after_ms: u64) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let (hub, error) = (
            &self.hub,
            ApiError::Timeout {
                part,
                seconds: after_ms / 1000,
            },
        );
        connection.responses.push(Sequence::ZERO, |out| {
            hub.write_error(out, RequestMeta::CLOSING, &error)
        });
        connection.close_after_sending(hub.now_ms);
    }

    fn push_metrics(&mut self, since_ms: u64) {
        let mut metrics = self.hub.shared.metrics();
        let accepted = metrics.events.saturating_sub(self.metrics.events);
        metrics.events_per_10_seconds = accepted.saturating_mul(10_000) / since_ms.max(1);
        let first = self.metrics.pushed_ms == 0;
        self.metrics = MetricsClock {
            pushed_ms: self.hub.now_ms,
            events: metrics.events,
        };
        if first {
            metrics.events_per_10_seconds = 0;
        }
        let (mut text, mut frame) = (Vec::new(), Vec::new());
        encode::metrics_update(&mut text, &metrics, self.hub.now);
        write_text(&mut frame, &text);
        for index in self.connections.indexes() {
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            let Session::WebSocket(websocket) = &mut connection.session else {
                continue;
            };
            if websocket.metrics && connection.closing == Closing::Open {
                if websocket.outbox.push_metrics(&frame).is_err() {
                    self.drop_slow_reader(index);
                }
                self.queue_write(index);
            }
        }
    }

    /// Brings the counters that other cores read up to date.
    fn count(&self) {
        let Some(shard) = &self.hub.shard else { return };
        let counters = self.hub.shared.of(self.hub.core);
        counters
            .entities
            .store(shard.engine().entities() as u64, Relaxed);
        counters.events.store(shard.engine().events(), Relaxed);
    }

    /// Stops accepting; every connection ends when what it is owed is sent.
    fn begin_stop(&mut self) {
        self.stopping_ms = Some(self.hub.now_ms);
        if let Some(listener) = self.listener.take() {
            self.poller.remove(&listener);
        }
        for index in self.connections.indexes() {
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            match &mut connection.session {
                Session::WebSocket(websocket) => {
                    websocket.close(GOING_AWAY, "the server is shutting down");
                    connection.close_after_sending(self.hub.now_ms);
                }
                Session::Http(reader) => {
                    if reader.buffered() == 0 || !connection.owes_nothing() {
                        connection.close_after_sending(self.hub.now_ms);
                    }
                }
            }
            self.queue_write(index);
        }
    }

    /// True once the core may end: told to stop, and no connection of any core is left, or time is up.
    fn is_drained(&mut self) -> bool {
        let Some(since) = self.stopping_ms else {
            return false;
        };
        let late = self.hub.now_ms.saturating_sub(since) > limits::SHUTDOWN_SECONDS_MAX * 1000;
        if self.connections.is_empty() || late {
            self.hub.shared.of(self.hub.core).drained.store(1, Relaxed);
        }
        late || self.hub.shared.is_drained()
    }
}
