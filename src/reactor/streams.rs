//! Streams of a core's connections: changes for subscriptions that ask for more than each property,
//! and what is due by the clock.

use super::connection::{Closing, Connection, Session};
use super::event_loop::Core;
use super::fan_out::StreamPush;
use super::system::System;
use crate::front::http::{self, Client};
use crate::front::ws::FRAMING;
use crate::limits::{FRAME_BYTES_PER_UNIT, PUSH_UNITS, STREAM_TIMERS_PER_TURN_MAX};
use crate::service::streams::{Current, FrameBuffers, Frames, Streams, Wanted};
use crate::service::subscribe::Subscriber;
use crate::subscribe::Change;
use std::cmp::Reverse;

impl<S: System> Core<S> {
    /// Gives a change to the streams that want it. Returns the units that were spent, and the last
    /// connection that was served if others are left.
    pub(super) fn fan_out_to_streams(&mut self, push: StreamPush<'_>) -> (u64, Option<u32>) {
        if self.context.streams.is_empty() {
            return (0, None);
        }
        // Both are put back below; nothing in between looks at them.
        let mut streams = std::mem::take(&mut self.context.streams);
        let mut buffers = std::mem::take(&mut self.frame_buffers);
        let mut found = streams.find(push.change);
        let passed_over = self.pass_over_unreadable(&streams, push.change, &mut found);
        let current = Current::new(push.from, push.change);
        streams.decide(&found, &current);
        let mut served = Vec::new();
        let call = (push, &current, &*found);
        let (spent, last) = self.push_to_each(&streams, call, &mut buffers, &mut served);
        for (index, stream) in streams.note_event(&served, &current) {
            if let Some(connection) = self.connections.get_mut(index)
                && let Some(feed) = connection.session.feed()
            {
                feed.fall_behind(stream);
            }
        }
        for (index, stream) in streams.end_costly(&served, push.change) {
            self.tell_of_end(index, (push.from, stream));
        }
        streams.give_back(found);
        buffers.trim();
        self.frame_buffers = buffers;
        self.context.streams = streams;
        (spent + PUSH_UNITS * passed_over, last)
    }

    /// Leaves out the streams whose clients may not see a change: to them it is as what they don't
    /// want, so what they catch up with does not hear of it either. Returns how many connections
    /// they are of.
    fn pass_over_unreadable(
        &mut self,
        streams: &Streams,
        change: Change<'_>,
        found: &mut Vec<u32>,
    ) -> u64 {
        if self.context.tenants.registry.private().is_empty() {
            return 0;
        }
        let mut passed_over = 0;
        streams.retain_connections(found, |subscriber| {
            let may_read = self.may_read(subscriber.index, change.entity_id());
            passed_over += u64::from(!may_read);
            may_read
        });
        passed_over
    }

    /// The filter of a stream, or of a poll, can't judge a change: its connection is told.
    fn tell_of_end(&mut self, index: u32, (from, stream): (u16, u32)) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        // A poll asks about the entity itself, and is told so.
        if connection.answers.wake_poll(from) {
            let timer = (self.now_micros, index, connection.generation);
            self.stream_timers.push(Reverse(timer));
        }
        if let Some(feed) = connection.session.feed() {
            feed.fall_behind(stream);
        }
        self.queue_write(index);
    }

    /// Notes the streams that were `served`, each with whether its connection had no room for the
    /// event.
    fn push_to_each(
        &mut self,
        streams: &Streams,
        (push, current, found): (StreamPush<'_>, &Current<'_>, &[u32]),
        buffers: &mut FrameBuffers,
        served: &mut Vec<(u32, bool)>,
    ) -> (u64, Option<u32>) {
        let mut frames = Frames::new(FRAMING, buffers);
        let push_units = PUSH_UNITS + push.change.frame_bytes() as u64 / FRAME_BYTES_PER_UNIT;
        let (mut spent, mut rest) = (0, found);
        while let Some((subscriber, own, others)) = streams.split_connection(rest) {
            rest = others;
            let index = subscriber.index;
            if push.served.is_some_and(|served| index <= served) {
                continue;
            }
            spent += push_units;
            let is_told = push.told.binary_search(&index).is_ok();
            let wanted = streams.wanted(own, current, is_told);
            let is_lost =
                !wanted.is_nothing() && self.push_wanted(index, (current, &wanted), &mut frames);
            served.extend(own.iter().map(|stream| (*stream, is_lost)));
            if spent >= push.units && !rest.is_empty() {
                return (spent, Some(index));
            }
        }
        (spent, None)
    }

    /// Whether the client of a connection may see a change of this entity.
    fn may_read(&mut self, index: u32, entity_id: &str) -> bool {
        let Some(connection) = self.connections.get_mut(index) else {
            return true;
        };
        match connection.session.feed() {
            Some(feed) => feed.may_read(&self.context, entity_id),
            None => connection.answers.poll_may_read(&self.context, entity_id),
        }
    }

    /// Looks whether the client of a connection may still see what it is sent.
    pub(super) fn look_at_access(&mut self, index: u32) {
        if self.context.tenants.registry.private().is_empty() {
            return;
        }
        let Some(mut connection) = self.connections.take(index) else {
            return;
        };
        let generation = connection.generation;
        let subscriber = Subscriber { index, generation };
        let is_changed = match &mut connection.session {
            _ if connection.closing != Closing::Open => false,
            Session::WebSocket(websocket) => {
                websocket.look_at_access(&mut self.context, subscriber)
            }
            Session::Stream(streaming) => {
                let stream = &mut streaming.stream;
                stream.look_at_access(&mut self.context, subscriber);
                self.take_stream_news(index, &mut connection);
                true
            }
            Session::Http(_) => {
                let mut client = Client {
                    answers: &mut connection.answers,
                    index,
                    generation,
                    address: connection.address,
                    holders: connection.holders,
                };
                http::look_at_access(&mut self.context, &self.writer, &mut client)
            }
        };
        self.connections.put_back(index, connection);
        if is_changed {
            self.queue_write(index);
        }
    }

    /// Gives a change to the streams of one connection. True if it had no room for the event.
    fn push_wanted<'s>(
        &mut self,
        index: u32,
        (current, wanted): (&Current<'_>, &Wanted<'s>),
        frames: &mut Frames<'s, '_>,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(index) else {
            return false;
        };
        if connection.answers.wake_poll(current.from) {
            let timer = (self.now_micros, index, connection.generation);
            self.stream_timers.push(Reverse(timer));
        }
        let Some(feed) = connection.session.feed() else {
            return false;
        };
        let owed = feed.outbox.is_empty();
        let pushed = feed.push(current, wanted, frames, self.now_micros);
        let lost = pushed.is_ok_and(|pushed| pushed.lost_event);
        if pushed.is_err() {
            self.drop_slow_reader(index);
        }
        self.note_owed(index, owed);
        self.note_stream_timer(index);
        lost
    }

    /// Something was put into the outbox of a connection. `owed`: it was empty before.
    fn note_owed(&mut self, index: u32, owed: bool) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        if owed {
            connection.sent_ms = self.now_ms;
        }
        // What waits for its interval is kept also for a client who is owed nothing else.
        if let Some(feed) = connection.session.feed()
            && (feed.keeps_much() || !owed && feed.outbox.is_large())
        {
            self.count_outbox(index);
        }
        self.queue_write(index);
    }

    /// Notes when the streams of a connection are looked at next.
    pub(super) fn note_stream_timer(&mut self, index: u32) {
        if let Some(connection) = self.connections.get_mut(index)
            && let Some(feed) = connection.session.feed()
            && let Some(due_micros) = feed.next_timer()
        {
            let timer = (due_micros, index, connection.generation);
            self.stream_timers.push(Reverse(timer));
        }
    }

    /// Notes when the poll of a connection is looked at.
    pub(super) fn note_poll(&mut self, index: u32, connection: &mut Connection<S::Socket>) {
        if let Some(due_ms) = connection.answers.take_poll_timer() {
            let timer = (due_ms * 1000, index, connection.generation);
            self.stream_timers.push(Reverse(timer));
        }
    }

    /// Looks whether the poll of a connection has something to answer.
    pub(super) fn look_at_poll(&mut self, index: u32) {
        let Some(mut connection) = self.connections.take(index) else {
            return;
        };
        let mut client = Client {
            answers: &mut connection.answers,
            index,
            generation: connection.generation,
            address: connection.address,
            holders: connection.holders,
        };
        http::look_at_poll(&mut self.context, &self.writer, &mut client);
        self.note_poll(index, &mut connection);
        // Before the next one asks.
        self.count_memory(index, &mut connection);
        connection.queue_write(index, &mut self.to_write);
        self.connections.put_back(index, connection);
    }

    /// Looks at the streams whose time has come: what was paced is sent, and cursors.
    pub(super) fn look_at_streams(&mut self) {
        for _ in 0..STREAM_TIMERS_PER_TURN_MAX {
            let due = self.stream_timers.peek();
            let due = due.filter(|Reverse((due_micros, ..))| *due_micros <= self.now_micros);
            let Some(&Reverse((_, index, generation))) = due else {
                return;
            };
            self.stream_timers.pop();
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            if connection.generation != generation {
                continue;
            }
            let Some(feed) = connection.session.feed() else {
                self.look_at_poll(index);
                continue;
            };
            let owed = feed.outbox.is_empty();
            if feed.on_timer(&self.context, self.now_micros).is_err() {
                self.drop_slow_reader(index);
            }
            self.note_owed(index, owed);
            self.note_stream_timer(index);
        }
    }
}
