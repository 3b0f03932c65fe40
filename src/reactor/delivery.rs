//! What other cores, the shard and the helpers have for this core's connections: messages, replies,
//! changes, and the answers that commit points withheld.

use super::connection::{Closing, Connection, Session};
use super::event_loop::{Core, reuse};
use super::system::System;
use crate::api::ApiError;
use crate::api::metrics::CloseCause;
use crate::background::decoding::DecodeResult;
use crate::background::history::JobResult;
use crate::control::Change;
use crate::engine::CollectedChanges;
use crate::front::http::{self, Client};
use crate::model::CommitPoint;
use crate::service::control;
use crate::service::subscribe::{Subscriber, Subscriptions};
use crate::shard::{ControlMessage, Message, Reply, RequestId};
use std::cmp::Reverse;
use std::sync::Arc;

/// What a connection has waited for.
pub(crate) enum Delivery {
    /// A shard's reply.
    Reply(u16, Reply),
    /// What the history worker found.
    History(JobResult),
    /// What a helper thread has decoded.
    Decoded(DecodeResult),
}

impl<S: System> Core<S> {
    /// Works on what another core has sent.
    pub(crate) fn work_on_message(&mut self, message: Message) {
        match message {
            Message::Request(envelope) => {
                if let Some(shard) = &mut self.context.router.shard {
                    shard.request(envelope, self.context.router.now);
                } else {
                    let reply = Reply::Refused(ApiError::NotReady);
                    self.reply(envelope.origin.core, envelope.origin.request_id, reply);
                }
            }
            Message::Reply {
                from,
                request_id,
                reply,
            } => self.deliver(request_id, Delivery::Reply(from, reply)),
            Message::Changes { from, batch } => self.queue_changes(from, batch),
            Message::Control(message) => self.take_control(message),
            Message::ShardStatistics { from, statistics } => self.directory.take(from, statistics),
            // The supervisor's, which is no core.
            Message::Connectors(_) => {}
        }
    }

    fn take_control(&mut self, message: ControlMessage) {
        match message {
            ControlMessage::Ask { origin, command } => {
                if let Err(error) = control::enqueue(&mut self.context, origin, command) {
                    self.reply(origin.core, origin.request_id, Reply::Refused(error));
                }
            }
            ControlMessage::Apply(change) => {
                control::apply(&mut self.context, &change);
                let done = Message::Control(ControlMessage::Applied);
                self.context.router.sender.send(0, done);
            }
            ControlMessage::Applied => {
                self.controller.applied();
                self.answer_control_calls();
            }
        }
    }

    /// Puts a durable change into force here, and tells every other core and the supervisor of
    /// connectors.
    pub(crate) fn put_into_force(&mut self, change: &Arc<Change>) {
        control::apply(&mut self.context, change);
        let router = &mut self.context.router;
        for member in (0..=router.shards).filter(|member| *member != router.core) {
            let message = ControlMessage::Apply(Arc::clone(change));
            router.sender.send(member, Message::Control(message));
        }
        self.controller.applied();
    }

    pub(crate) fn answer_control_calls(&mut self) {
        for (origin, reply) in std::mem::take(&mut self.controller.answers) {
            self.reply(origin.core, origin.request_id, reply);
        }
    }

    /// Sends out what the shard may show by now: replies, changes, and answers that were withheld.
    /// True if some went to other cores.
    pub(crate) fn release(&mut self) -> bool {
        self.write_out();
        let Some(shard) = &mut self.context.router.shard else {
            return false;
        };
        let (own, now) = (self.context.router.core, self.context.router.now);
        let mut replies = std::mem::take(&mut self.replies);
        let mut told_others = false;
        shard.release(|origin, reply| {
            told_others |= origin.core != own;
            replies.push((origin, reply));
        });
        let changes: Vec<CollectedChanges> =
            std::iter::from_fn(|| shard.take_changes(now)).collect();
        let (visible, failed) = (shard.visible(), shard.failed());
        let moment = (self.now_micros, || self.system.monotonic_micros());
        let tally = self.context.counters.tally(own);
        self.publish_times.advance(shard, moment, &tally.publish);
        for (origin, reply) in replies.drain(..) {
            self.reply(origin.core, origin.request_id, reply);
        }
        self.replies = replies;
        let gated = std::mem::take(&mut self.gated);
        for &index in &gated {
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            let tally = self.context.counters.tally(own);
            let count = |pattern, status| tally.note_request(pattern, status);
            if failed {
                connection.gated = false;
                self.fail_gated(index);
            } else if connection.open_gates(visible, count) {
                self.gated.push(index);
            } else {
                connection.gated = false;
            }
            self.queue_write(index);
        }
        reuse(&mut self.gated, gated);
        // After the publishers: one answer delays the watchers less than many updates would
        // delay it.
        for changes in &changes {
            self.publish_changes(changes);
        }
        self.fan_out();
        self.count();
        told_others
    }

    /// What this connection was to be told will never be durable: it is told so, and closed.
    fn fail_gated(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let error = ApiError::StorageFault;
        match &mut connection.session {
            Session::WebSocket(websocket) if websocket.is_gated() => {
                let refused = websocket.fail_gated(&error);
                let tally = self.context.tally();
                tally.note_refused_code(error.code(), refused);
                connection.close_for(CloseCause::Storage, self.now_ms);
            }
            // What it was asked before would have to be answered first.
            Session::Stream(_) => {
                connection.note_cause(CloseCause::Storage);
                connection.closing = Closing::Now;
            }
            Session::Http(_) | Session::WebSocket(_) => {}
        }
        let subscriber = Subscriber {
            index,
            generation: connection.generation,
        };
        http::leave_poll(&mut self.context, &mut connection.answers, subscriber);
        if let Some((meta, refused)) = connection.answers.drop_gated() {
            let (writer, tally) = (&self.writer, self.context.tally());
            tally.note_refused_code(error.code(), refused);
            connection.answers.push(CommitPoint::NONE, |out| {
                writer.error(out, meta, &error);
            });
            connection.close_for(CloseCause::Storage, self.now_ms);
        }
    }

    pub(crate) fn reply(&mut self, core: u16, request_id: RequestId, reply: Reply) {
        if core == self.context.router.core {
            self.deliver(request_id, Delivery::Reply(core, reply));
        } else {
            self.context.router.sender.send(
                core,
                Message::Reply {
                    from: self.context.router.core,
                    request_id,
                    reply,
                },
            );
        }
    }

    /// Gives a connection what it has waited for. A WebSocket client is told the changes first that
    /// came before it.
    pub(crate) fn deliver(&mut self, request_id: RequestId, delivery: Delivery) {
        if !self.fan_out.is_empty() {
            let connection = self.connections.get(request_id.connection);
            let session = connection.map(|connection| &connection.session);
            if let Some(Session::WebSocket(_) | Session::Stream(_)) = session {
                self.fan_out.push_answer(request_id, delivery);
                return;
            }
        }
        self.deliver_now(request_id, delivery);
    }

    pub(super) fn deliver_now(&mut self, request_id: RequestId, delivery: Delivery) {
        let index = request_id.connection;
        let Some(mut connection) = self.connections.take(index) else {
            return;
        };
        let generation = connection.generation;
        // To one that is about to end nothing is delivered.
        if generation == request_id.generation && connection.closing != Closing::Now {
            let (context, writer) = (&mut self.context, &self.writer);
            let serial = request_id.serial;
            let subscriber = Subscriber { index, generation };
            let intact = match &mut connection.session {
                Session::Stream(streaming) if Subscriptions::are_answered_by(serial) => {
                    streaming.take(context, subscriber, (serial, delivery));
                    true
                }
                Session::Http(_) | Session::Stream(_) => {
                    let mut client = Client {
                        answers: &mut connection.answers,
                        index,
                        generation,
                        address: connection.address,
                        holders: connection.holders,
                    };
                    match delivery {
                        Delivery::Reply(from, reply) => {
                            http::on_reply(context, writer, &mut client, (serial, from, reply))
                        }
                        Delivery::History(result) => {
                            http::on_history(context, writer, &mut client, (serial, result))
                        }
                        Delivery::Decoded(result) => {
                            http::on_decoded(context, writer, &mut client, (serial, result))
                        }
                    }
                }
                Session::WebSocket(websocket) => {
                    match delivery {
                        Delivery::Reply(from, reply) => {
                            websocket.on_reply(context, subscriber, (serial, from, reply));
                        }
                        Delivery::History(result) => {
                            websocket.on_history(context, subscriber, (serial, result));
                        }
                        Delivery::Decoded(result) => {
                            websocket.on_decoded(context, (serial, result));
                        }
                    }
                    true
                }
            };
            let units = self.spend_written(&mut connection);
            connection.account.charge_besides(units);
            self.take_stream_news(index, &mut connection);
            if !intact {
                connection.closing = Closing::Now;
            }
            if connection.is_unfinished() {
                connection.unworked = true;
                connection.queue_read(index, &mut self.to_read);
            }
            self.note_gate(index, &mut connection);
            self.note_poll(index, &mut connection);
            self.count_memory(index, &mut connection);
        }
        self.connections.put_back(index, connection);
        self.queue_write(index);
    }

    /// An answer that was behind another one is next in line now, and its events may be durable or
    /// not.
    pub(super) fn open_late_gates(&mut self, index: u32, connection: &mut Connection<S::Socket>) {
        if connection.gated || !connection.is_gated() {
            return;
        }
        if let Some(shard) = &self.context.router.shard
            && !shard.failed()
        {
            let tally = self.context.counters.tally(self.context.router.core);
            let count = |pattern, status| tally.note_request(pattern, status);
            if !connection.open_gates(shard.visible(), count) {
                connection.queue_write(index, &mut self.to_write);
                return;
            }
        }
        self.note_gate(index, connection);
    }

    /// Puts a connection with withheld answers on the list that a flush goes through.
    pub(crate) fn note_gate(&mut self, index: u32, connection: &mut Connection<S::Socket>) {
        if connection.is_gated() && !connection.gated {
            connection.gated = true;
            self.gated.push(index);
        }
    }

    /// Puts a connection with a late answer into the queue that a tick looks at.
    pub(crate) fn note_late(&mut self, index: u32, connection: &mut Connection<S::Socket>) {
        if let Some(due_ms) = connection.answers.late_until_ms()
            && !std::mem::replace(&mut connection.late, true)
        {
            let due = (due_ms, index, connection.generation);
            self.late.push(Reverse(due));
        }
    }

    /// Sends the late answers whose time has come.
    pub(crate) fn send_late(&mut self) {
        while let Some(&Reverse((due_ms, index, generation))) = self.late.peek()
            && due_ms <= self.now_ms
        {
            self.late.pop();
            if let Some(connection) = self.connections.get_mut(index)
                && connection.generation == generation
            {
                connection.late = false;
                connection.answers.release_late();
                self.queue_write(index);
            }
        }
    }

    pub(crate) fn queue_write(&mut self, index: u32) {
        if let Some(connection) = self.connections.get_mut(index) {
            connection.queue_write(index, &mut self.to_write);
        }
    }
}
