//! Bytes out: what waits for connections goes to their sockets, changes go to subscribers.

use super::connection::{Closing, Connection, Session};
use super::delivery::Delivery;
use super::event_loop::Core;
use super::fan_out::{StreamPush, Subscribers};
use super::queues;
use super::system::{Socket as _, System, would_block};
use super::tls;
use crate::api::metrics::CloseCause;
use crate::engine::CollectedChanges;
use crate::front::http::{self, Client};
use crate::front::ws::SLOW_READER;
use crate::limits;
use crate::service::subscribe::Subscriber;
use crate::shard::{MemoryPart, Message, RequestId};
use crate::subscribe::{Change, ChangeBatch};
use flux_storage::Sequence;
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl<S: System> Subscribers for Core<S> {
    fn matches(&self, entity_id: &str, hits: &mut Vec<u32>) {
        self.context.subscribers.matches(entity_id, hits);
    }

    fn push(&mut self, index: u32, change: Change<'_>) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let Session::WebSocket(websocket) = &mut connection.session else {
            return;
        };
        let feed = &mut websocket.feed;
        if !feed.may_read(&self.context, change.entity_id()) {
            return;
        }
        let owed = feed.outbox.is_empty();
        let gets_cursors = feed.note_pushed(self.now_micros);
        if feed.outbox.push_change(change).is_err() {
            self.drop_slow_reader(index);
        } else if owed {
            connection.sent_ms = self.now_ms;
        } else if feed.outbox.is_large() {
            self.count_outbox(index);
        }
        if gets_cursors {
            self.note_stream_timer(index);
        }
        self.queue_write(index);
    }

    fn push_to_streams(&mut self, push: StreamPush<'_>) -> (u64, Option<u32>) {
        self.fan_out_to_streams(push)
    }

    fn finished(&mut self, from: u16, through: Sequence) {
        self.context.streams.note_fanned_out(from, through);
    }

    fn answer(&mut self, request_id: RequestId, delivery: Delivery) {
        self.deliver_now(request_id, delivery);
    }
}

impl<S: System> Core<S> {
    /// Sends changes on their way: to other cores, and into the queue for this core's subscribers.
    pub(crate) fn publish_changes(&mut self, changes: &CollectedChanges) {
        let own = self.context.router.core;
        for batch in &changes.batches {
            for &core in &changes.cores {
                if core == own {
                    self.queue_changes(own, Arc::clone(batch));
                } else {
                    let batch = Arc::clone(batch);
                    let message = Message::Changes { from: own, batch };
                    self.context.router.sender.send(core, message);
                }
            }
        }
    }

    /// Puts changes into the queue for this core's subscribers.
    pub(crate) fn queue_changes(&mut self, from: u16, batch: Arc<ChangeBatch>) {
        let before = self.fan_out.bytes();
        self.fan_out.push(from, batch);
        self.count_fan_out(before);
    }

    /// Gives a slice of the changes that wait to the connections that want them.
    pub(crate) fn fan_out(&mut self) {
        if self.fan_out.is_empty() {
            return;
        }
        let mut fan_out = std::mem::take(&mut self.fan_out);
        let before = fan_out.bytes();
        let units = fan_out.slice(fan_out.slice_units(), self);
        let queued = std::mem::replace(&mut self.fan_out, fan_out);
        assert!(queued.is_empty(), "no push and no answer makes changes");
        self.context.router.spend(units);
        self.count_fan_out(before);
    }

    /// Counts the memory of the changes that wait, which was `before`.
    fn count_fan_out(&mut self, before: usize) {
        let after = self.fan_out.bytes();
        let memory = &mut self.context.memory;
        memory.change(MemoryPart::Outboxes, before, after);
    }

    /// Counts a large outbox that has grown. Its connection is closed if there is no memory for it.
    pub(super) fn count_outbox(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let (holding, before) = (connection.holding(), connection.held.total());
        let more = holding.total().saturating_sub(before);
        let memory = &mut self.context.memory;
        if more == 0 || memory.admits(connection.holders, before, more) {
            memory.settle(connection.holders, &mut connection.held, holding);
        } else {
            connection.give_up_outbox(self.now_ms);
        }
    }

    /// Closes a subscriber that is too far behind.
    pub(crate) fn drop_slow_reader(&mut self, index: u32) {
        if let Some(connection) = self.connections.get_mut(index) {
            connection.close_behind((CloseCause::SlowReader, SLOW_READER), self.now_ms);
        }
    }

    /// Writes to connections that something waits for: a slice of those with answers, and one of
    /// those with pushed updates. The rest stays queued.
    pub(crate) fn write_all(&mut self) {
        let mut to_write = std::mem::take(&mut self.to_write);
        let end = self.context.router.spent() + limits::TURN_UNITS_MAX;
        self.write_slice(&mut to_write.small, end);
        let left = end.saturating_sub(self.context.router.spent());
        let end = self.context.router.spent() + limits::TURN_UNITS_MAX;
        self.write_slice(&mut to_write.pushes, end);
        // Its share of the turn at least, however many small answers there are.
        let end = self.context.router.spent() + left.max(limits::HEAVY_TURN_UNITS_MIN);
        self.write_slice(&mut to_write.heavy, end);
        self.to_write.put_back(to_write);
    }

    /// Writes to connections at the front of a list until `end` units are spent: to one at least.
    fn write_slice(&mut self, list: &mut Vec<u32>, end: u64) {
        queues::slice(list, |index| {
            self.write_one(index);
            self.context.router.spent() >= end
        });
    }

    fn write_one(&mut self, index: u32) {
        let Some(mut connection) = self.connections.take(index) else {
            return;
        };
        connection.queued = false;
        self.write(index, &mut connection);
        if connection.closing == Closing::Now {
            self.end(index, *connection);
        } else {
            self.connections.put_back(index, connection);
        }
    }

    pub(crate) fn write(&mut self, index: u32, connection: &mut Connection<S::Socket>) {
        let before = self.context.router.spent();
        let end = before + limits::SEND_SLICE_UNITS;
        let has_more = if connection.tls.is_some() {
            self.write_sealed(index, connection, end)
        } else {
            self.write_plain(index, connection, end)
        };
        let sent = self.context.router.spent() - before;
        connection.account.note_sent(sent);
        self.log_access(connection);
        self.open_late_gates(index, connection);
        if !connection.writable {
            connection.stalled = true;
        }
        if has_more {
            // Its end too may wait to be sealed.
            connection.queue_write(index, &mut self.to_write);
        } else {
            connection.finish_closing(self.now_ms);
        }
        self.count_memory(index, connection);
        if !connection.queued_memory && !connection.queued_read {
            // All that it waited for was tried again, and found room.
            connection.waits_since_ms = None;
        }
        if connection.starved
            && connection.closing == Closing::Open
            && !connection.is_paused()
            && self.may_answer(connection)
        {
            connection.queue_read(index, &mut self.to_read);
        }
    }

    /// Sends what waits for a connection, as long as the socket takes it and `end` units are not
    /// spent. True if more may wait that the socket would take.
    fn write_plain(
        &mut self,
        index: u32,
        connection: &mut Connection<S::Socket>,
        end: u64,
    ) -> bool {
        while connection.writable && connection.closing != Closing::Now {
            if self.context.router.spent() >= end {
                return true;
            }
            let (bytes, is_http) = connection.next_bytes();
            if bytes.is_empty() {
                if !self.refill(index, connection) {
                    break;
                }
                continue;
            }
            let wanted = bytes.len().min(limits::SEND_BYTES_MAX);
            let sent = connection
                .socket
                .send(bytes.get(..wanted).unwrap_or_default());
            let taken = *sent.as_ref().unwrap_or(&0) as u64;
            let units = limits::SEND_UNITS + taken * limits::SEND_BYTE_UNITS;
            self.context.router.spend(units);
            match sent {
                Ok(count) => {
                    connection.sent_ms = self.now_ms;
                    connection.writable = count == wanted;
                    connection.advance(is_http, count);
                }
                Err(error) if would_block(&error) => {
                    connection.writable = false;
                }
                Err(_) => connection.closing = Closing::Now,
            }
        }
        false
    }

    /// Notes when streams go on that a shard is too busy for.
    fn note_pause(&mut self, index: u32, connection: &mut Connection<S::Socket>) {
        if let Some(feed) = connection.session.feed()
            && feed.take_pause()
        {
            let due_micros = self.now_micros + limits::CATCH_UP_RETRY_MS * 1000;
            let timer = (due_micros, index, connection.generation);
            self.stream_timers.push(Reverse(timer));
        }
    }

    /// Lets a listing go on that waited for the socket. True if there is something to write
    /// again.
    pub(crate) fn refill(&mut self, index: u32, connection: &mut Connection<S::Socket>) -> bool {
        let generation = connection.generation;
        if let Session::WebSocket(websocket) = &mut connection.session {
            let subscriber = Subscriber { index, generation };
            let has_more = websocket.catch_up(&mut self.context, subscriber);
            self.note_pause(index, connection);
            return has_more;
        }
        if let Session::Stream(streaming) = &mut connection.session {
            let subscriber = Subscriber { index, generation };
            streaming.stream.catch_up(&mut self.context, subscriber);
            self.note_pause(index, connection);
            self.take_stream_news(index, connection);
            if !connection.next_bytes().0.is_empty() {
                return true;
            }
        }
        if connection.answers.waiting() == 0 {
            return false;
        }
        if std::mem::take(&mut connection.stalled) {
            connection.answers.forget_unsent();
        }
        let mut client = Client {
            answers: &mut connection.answers,
            index,
            generation,
            address: connection.address,
            holders: connection.holders,
        };
        if connection.ended || connection.hung_up {
            client.answers.probe();
        }
        if !http::advance_front(&mut self.context, &self.writer, &mut client) {
            connection.closing = Closing::Now;
        }
        self.spend_written(connection);
        self.note_gate(index, connection);
        self.note_poll(index, connection);
        !connection.answers.sendable().is_empty()
    }

    /// Counts the work of writing answers, since it was last counted. Returns its units.
    pub(super) fn spend_written(&mut self, connection: &mut Connection<S::Socket>) -> u64 {
        let units = limits::ANSWER_BYTE_UNITS * connection.answers.take_written();
        self.context.router.spend(units);
        units
    }

    pub(crate) fn end(&mut self, index: u32, mut connection: Connection<S::Socket>) {
        let given_back = connection.held.total() as u64 / limits::FREED_BYTES_PER_UNIT;
        self.context.router.spend(limits::END_UNITS + given_back);
        let counters = self.context.counters.of(self.context.router.core);
        counters.connections.fetch_sub(1, Relaxed);
        self.context.tally().note_closed(connection.cause);
        let replaced = connection.take_replaced();
        self.context.tally().note_conflated(u64::from(replaced));
        if let Some(address) = connection.address {
            self.context.counters.connected.remove(address);
        }
        self.context.history.forget(index);
        self.context.decodes.forget(index);
        self.handshakes.forget(index);
        self.log_last_access(&mut connection);
        tls::say_goodbye(&mut connection);
        self.forget_memory(&mut connection);
        let subscriber = Subscriber {
            index,
            generation: connection.generation,
        };
        http::leave_poll(&mut self.context, &mut connection.answers, subscriber);
        match &mut connection.session {
            Session::Http(_) => {}
            Session::WebSocket(websocket) => {
                let counters = self.context.counters.of(self.context.router.core);
                counters.websockets.fetch_sub(1, Relaxed);
                websocket.leave(&mut self.context, subscriber);
            }
            Session::Stream(streaming) => {
                if streaming.is_counted {
                    self.context.tally().note_stream_ends();
                }
                streaming.stream.leave(&mut self.context, subscriber);
            }
        }
        self.system.forget(&connection.socket);
        self.connections.release(index);
    }
}
