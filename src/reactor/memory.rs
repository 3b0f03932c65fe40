//! What connections hold in memory: counted when it changes, and waited for when there is too
//! little.
//!
//! A connection asks before it receives or goes on with a large answer. If it is refused it joins a
//! queue, which each tick goes through from the front; after a few seconds its request is refused.
//! So half-read bodies that fill the memory end, and others take their place. A client that goes
//! away while it waits is noticed by what is sent to it meanwhile.

use super::connection::{Closing, Connection, Session};
use super::event_loop::Core;
use super::system::System;
use crate::api::metrics::CloseCause;
use crate::front::http::{self, Client};
use crate::front::ws::OUT_OF_MEMORY;
use crate::limits;
use crate::service::subscribe::Subscriber;
use crate::shard::{MemoryClient, MemoryHolding, MemoryPart};
use crate::wire::http1::Phase;
use std::sync::atomic::Ordering::Relaxed;

impl<S: System> Core<S> {
    /// Counts what a connection holds, after something was done for it. Lets it wait if its answer
    /// can't go on for want of memory.
    pub(super) fn count_memory(&mut self, index: u32, connection: &mut Connection<S::Socket>) {
        let mut holding = connection.holding();
        if holding.outboxes > connection.held.outboxes {
            self.check_outbox(index, connection);
            holding = connection.holding();
        }
        if holding != connection.held {
            if holding.bodies > limits::MEMORY_SMALL_BYTES_MAX {
                connection.release();
                holding = connection.holding();
            }
            let (holders, held) = (connection.holders, &mut connection.held);
            self.context.memory.settle(holders, held, holding);
            if let Some(feed) = connection.session.feed() {
                feed.subscriptions.note_counted();
            }
        }
        if connection.answers.take_want() {
            self.await_memory(index, connection);
        }
    }

    /// How many bytes may be received from a connection now; 0: it has to wait.
    pub(super) fn room_to_receive(&mut self, connection: &Connection<S::Socket>) -> usize {
        if connection.closing != Closing::Open {
            // They are dropped.
            return limits::RECEIVE_BYTES;
        }
        let growth = connection.growth(limits::RECEIVE_BYTES);
        let held = connection.held.total();
        if growth == 0 || (self.context.memory).admits(connection.holders, held, growth) {
            limits::RECEIVE_BYTES
        } else if held == 0 {
            limits::MEMORY_UNCOUNTED_BYTES_MAX
        } else {
            0
        }
    }

    /// True unless a connection owes more than a usual answer and there is no memory for another.
    pub(super) fn may_answer(&mut self, connection: &Connection<S::Socket>) -> bool {
        let owed = connection.owed_bytes();
        if owed <= limits::MEMORY_UNCOUNTED_BYTES_MAX {
            return true;
        }
        let (held, holding) = (connection.held.total(), connection.holding().total());
        let grown = holding.saturating_sub(held);
        // A buffer doubles.
        let next = owed.max(limits::ANSWER_AT_ONCE_BYTES_MAX);
        (self.context.memory).admits(connection.holders, held, grown + next)
    }

    /// How many bytes may be encrypted for a connection now. What waits for it is counted already,
    /// but for static bytes, which would be copied by that.
    pub(super) fn room_to_seal(&mut self, connection: &Connection<S::Socket>) -> usize {
        let most = limits::TLS_SEAL_BYTES_MAX;
        let copied = connection.answers.static_rest().len().min(most);
        let held = connection.held.total();
        if copied == 0 || self.context.memory.admits(connection.holders, held, copied) {
            most
        } else {
            limits::MEMORY_UNCOUNTED_BYTES_MAX
        }
    }

    /// Gives up a session that is owed more than there is memory for.
    fn check_outbox(&mut self, index: u32, connection: &mut Connection<S::Socket>) {
        let (bytes, is_owed_much) = match &connection.session {
            Session::Http(_) => return,
            Session::WebSocket(websocket) => (websocket.outbox_bytes(), websocket.is_owed_much()),
            Session::Stream(streaming) => {
                let feed = &streaming.stream.feed;
                (feed.heap_bytes(), feed.is_owed_much())
            }
        };
        let more = bytes.saturating_sub(connection.held.outboxes);
        if more == 0 || connection.closing != Closing::Open || !is_owed_much {
            return;
        }
        let held = connection.held.total();
        if (self.context.memory).admits(connection.holders, held, more) {
            return;
        }
        connection.give_up_outbox(self.now_ms);
        connection.queue_write(index, &mut self.to_write);
    }

    /// Puts a connection into the queue for memory, once.
    pub(super) fn await_memory(&mut self, index: u32, connection: &mut Connection<S::Socket>) {
        if connection.broken {
            // Nobody waits for it.
            connection.closing = Closing::Now;
            return;
        }
        if connection.waits_since_ms.is_none() {
            connection.waits_since_ms = Some(self.now_ms);
            self.probe_waiting(index, connection);
        }
        if !std::mem::replace(&mut connection.queued_memory, true) {
            self.memory_queue.push_back((index, connection.generation));
        }
    }

    /// Sends something to a client that waits for memory, if nothing else is sent to it: if it is
    /// gone, its kernel resets the connection, and what it holds is given back at once. That it has
    /// gone can't be read, since what it has sent before is not read either.
    pub(super) fn probe_waiting(&mut self, index: u32, connection: &mut Connection<S::Socket>) {
        if connection.waits_since_ms.is_none() || connection.closing != Closing::Open {
            return;
        }
        let has_asked = connection.answers.waiting() > 0;
        match &mut connection.session {
            Session::Http(reader) if has_asked || reader.phase() == Phase::Body => {
                connection.answers.probe_waiting();
            }
            // It has asked for nothing that could be answered.
            Session::Http(_) | Session::Stream(_) => {}
            Session::WebSocket(websocket) => websocket.probe(),
        }
        connection.queue_write(index, &mut self.to_write);
    }

    /// Lets the connections at the front of the queue try again.
    pub(super) fn retry_memory(&mut self) {
        self.count_connectors();
        self.context.memory.tick();
        let count = self.memory_queue.len();
        for _ in 0..count.min(limits::MEMORY_RETRIES_PER_TICK_MAX) {
            let Some((index, generation)) = self.memory_queue.pop_front() else {
                return;
            };
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            if connection.generation == generation {
                connection.queued_memory = false;
                connection.queue_read(index, &mut self.to_read);
                connection.queue_write(index, &mut self.to_write);
            }
        }
    }

    /// The memory of the connectors' polls counts on the first core, which waits for nobody.
    fn count_connectors(&mut self) {
        if self.context.router.core == 0 {
            let bytes = self.context.counters.connector_bytes.load(Relaxed);
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            let before = std::mem::replace(&mut self.connector_bytes, bytes);
            self.context
                .memory
                .change(MemoryPart::Connectors, before, bytes);
        }
    }

    /// A connection has waited too long for memory.
    pub(super) fn give_up_memory(&mut self, index: u32) {
        let now_ms = self.now_ms;
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        connection.waits_since_ms = None;
        let generation = connection.generation;
        let subscriber = Subscriber { index, generation };
        http::leave_poll(&mut self.context, &mut connection.answers, subscriber);
        let reader = match &mut connection.session {
            Session::Http(reader) => reader,
            Session::WebSocket(_) | Session::Stream(_) => {
                connection.close_behind((CloseCause::Memory, OUT_OF_MEMORY), now_ms);
                return;
            }
        };
        if connection.answers.waiting() > 0 {
            let mut client = Client {
                answers: &mut connection.answers,
                index,
                generation,
                address: connection.address,
                holders: connection.holders,
            };
            if !http::give_up_front(&self.writer, &mut client) {
                connection.note_cause(CloseCause::Memory);
                connection.closing = Closing::Now;
            }
            return;
        }
        let arriving = (&mut connection.answers, reader);
        http::refuse_for_memory(&self.context, &self.writer, arriving);
        connection.close_for(CloseCause::Memory, now_ms);
    }

    /// From here on a namespace too is answerable for what a connection holds: its token came with
    /// a body that has to be waited for.
    pub(super) fn charge_namespace(
        &mut self,
        connection: &mut Connection<S::Socket>,
        namespace: MemoryClient,
    ) {
        let holding = connection.held;
        self.uncount(connection);
        let memory = &mut self.context.memory;
        let joined = memory.join(namespace);
        if let Some(before) = std::mem::replace(&mut connection.holders.namespace, joined) {
            memory.leave(before);
        }
        memory.settle(connection.holders, &mut connection.held, holding);
    }

    /// The address of each connection, and the bytes that a look at all its buffers finds.
    #[cfg(test)]
    pub(crate) fn found_bytes(&self) -> Vec<(Option<std::net::IpAddr>, usize)> {
        let connections = self.connections.indexes();
        let connections = connections.filter_map(|index| self.connections.get(index));
        connections
            .map(|it| (it.address, it.found_bytes()))
            .collect()
    }

    /// Bytes that are counted.
    #[cfg(test)]
    pub(crate) fn counted_bytes(&self) -> usize {
        self.context.memory.used()
    }

    /// A connection ends: it holds nothing any more.
    pub(super) fn forget_memory(&mut self, connection: &mut Connection<S::Socket>) {
        self.uncount(connection);
        let holders = std::mem::take(&mut connection.holders);
        for index in [holders.address, holders.namespace].into_iter().flatten() {
            self.context.memory.leave(index);
        }
    }

    fn uncount(&mut self, connection: &mut Connection<S::Socket>) {
        let nothing = MemoryHolding::default();
        let (holders, held) = (connection.holders, &mut connection.held);
        self.context.memory.settle(holders, held, nothing);
    }
}
