//! One WebSocket session: messages in, answers and pushed frames out.
//!
//! An answer waits for its commit point, as an HTTP answer does; pushed changes have passed theirs
//! before they come here.

use crate::api::subscription::{Action, ClientMessage, parse};
use crate::api::{ApiError, encode};
use crate::limits;
use crate::log::Log;
use crate::model::{CommitPoint, CommitQueue};
use crate::service::Context;
use crate::service::subscribe::{InForce, Subscriber, Subscriptions};
use crate::shard::Reply;
use crate::subscribe::{Outbox, OutboxLimits};
use crate::wire::ws::{self, Message, MessageReader, WsError, write_text};
use flux_storage::Sequence;
use std::net::IpAddr;

/// Close code of a server that stops (RFC 6455 §7.4.1).
pub(crate) const GOING_AWAY: u16 = 1001;
/// Close code of a client that reads too slowly (registered by IANA, "Try Again Later").
pub(crate) const TRY_AGAIN_LATER: u16 = 1013;
const NORMAL: u16 = 1000;
/// Close code of a server that met a fault (RFC 6455 §7.4.1).
const INTERNAL_ERROR: u16 = 1011;

/// Why a slow reader is closed.
pub(crate) const SLOW_READER: &str = "the client reads too slowly";

/// See the module.
#[derive(Debug)]
pub(crate) struct WebSocket {
    /// What has arrived of the next message.
    pub(crate) reader: MessageReader,
    /// Frames for the client.
    pub(crate) outbox: Outbox,
    /// It wants `metrics_update` messages.
    pub(crate) metrics: bool,
    subscriptions: Subscriptions,
    /// Answers that nobody may see yet, in order.
    withheld: CommitQueue<Vec<u8>>,
    /// When it was last pinged without having been heard of since, monotonic milliseconds.
    pinged_ms: Option<u64>,
}

/// What the connection does after the session was fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Goes on.
    Go,
    /// More has arrived than was worked on: goes on in its next turn.
    More,
    /// A close frame is in the outbox; the connection ends when it is sent.
    Close,
}

impl WebSocket {
    /// A session without subscriptions.
    pub(crate) fn new(metrics: bool, address: Option<IpAddr>) -> Self {
        Self {
            reader: MessageReader::default(),
            outbox: Outbox::new(OutboxLimits::default()),
            metrics,
            subscriptions: Subscriptions::new(address),
            withheld: CommitQueue::default(),
            pinged_ms: None,
        }
    }

    /// Works on what has arrived, until so many units of work are spent.
    pub(crate) fn serve<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        units: u64,
    ) -> After {
        self.pinged_ms = None;
        let end = context.router.spent() + units;
        loop {
            if self.outbox.overflowed() {
                return self.close(TRY_AGAIN_LATER, SLOW_READER);
            }
            if context.router.spent() >= end {
                return After::More;
            }
            let message = match self.reader.next() {
                Ok(None) => return After::Go,
                Ok(Some(message)) => message,
                Err(error) => return self.fail(error),
            };
            match message {
                Message::Text(text) => {
                    let json_units = limits::JSON_BYTE_UNITS * text.len() as u64;
                    context.router.spend(limits::WS_MESSAGE_UNITS + json_units);
                    let message = parse(text);
                    self.act(context, subscriber, message);
                }
                Message::Ping(payload) => {
                    context.router.spend(limits::WS_MESSAGE_UNITS);
                    let mut frame = Vec::new();
                    ws::write_pong(&mut frame, payload);
                    self.send(&frame);
                }
                Message::Pong(_) => context.router.spend(limits::WS_MESSAGE_UNITS),
                Message::Close(reason) => {
                    let code = reason.map_or(NORMAL, |(code, _)| code);
                    return self.close(code, "");
                }
            }
        }
    }

    fn fail(&mut self, error: WsError) -> After {
        self.close(error.close_code(), &error.to_string())
    }

    /// Puts a close frame into the outbox, and nothing after it.
    pub(crate) fn close(&mut self, code: u16, reason: &str) -> After {
        let mut frame = Vec::new();
        ws::write_close(&mut frame, code, reason);
        self.outbox.close(&frame);
        After::Close
    }

    /// An overflow shows in [`Outbox::overflowed`]; the next look at the session closes it for
    /// that.
    fn send(&mut self, frame: &[u8]) {
        match self.outbox.push_control(frame) {
            Ok(()) | Err(_) => {}
        }
    }

    /// Answers a message when `point` is reached, and after the answers before it.
    fn answer(&mut self, point: CommitPoint, write: impl FnOnce(&mut Vec<u8>)) {
        let (mut text, mut frame) = (Vec::new(), Vec::new());
        write(&mut text);
        write_text(&mut frame, &text);
        if point == CommitPoint::NONE && self.withheld.is_empty() {
            self.send(&frame);
        } else {
            self.withheld.push(point, frame);
        }
    }

    /// True if an answer is withheld until it is durable.
    pub(crate) fn is_gated(&self) -> bool {
        !self.withheld.is_empty()
    }

    /// Sends the answers that may be seen now. True if one remains.
    pub(crate) fn open_gates(&mut self, visible: Sequence) -> bool {
        while let Some(frame) = self.withheld.pop_due(visible) {
            self.send(&frame);
        }
        self.is_gated()
    }

    /// The log has failed: what is withheld will never be durable, and the session ends.
    pub(crate) fn fail_gated(&mut self, error: &ApiError) -> After {
        self.withheld.clear();
        self.close(INTERNAL_ERROR, &error.to_string())
    }

    fn act<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        message: ClientMessage,
    ) {
        let ClientMessage { id, action } = message;
        let subscriptions = &mut self.subscriptions;
        let done = match action {
            Ok(Action::Ping) => {
                self.answer(CommitPoint::NONE, |out| {
                    encode::answer(out, "pong", id.as_deref());
                });
                return;
            }
            Ok(Action::Subscribe(pattern)) => {
                let call = (&*pattern, id.clone());
                subscriptions.subscribe(context, subscriber, call)
            }
            Ok(Action::Unsubscribe(pattern)) => subscriptions
                .unsubscribe(context, subscriber, &pattern)
                .map(|()| InForce::Now),
            Err(error) => Err(error),
        };
        match done {
            Ok(InForce::Now) => self.acknowledge(id.as_deref()),
            Ok(InForce::Later) => {}
            Err(error) => self.reject(id.as_deref(), &error),
        }
    }

    fn acknowledge(&mut self, id: Option<&str>) {
        if id.is_some() {
            self.answer(CommitPoint::NONE, |out| encode::answer(out, "ack", id));
        }
    }

    fn reject(&mut self, id: Option<&str>, error: &ApiError) {
        self.answer(CommitPoint::NONE, |out| {
            encode::error_message(out, id, &error.to_string(), error.code());
        });
    }

    /// Takes a shard's reply to one of the session's requests.
    pub(crate) fn on_reply<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        reply: (u32, &Reply),
    ) {
        for (id, result) in self.subscriptions.resume(context, subscriber, reply) {
            match result {
                Ok(()) => self.acknowledge(id.as_deref()),
                Err(error) => self.reject(id.as_deref(), &error),
            }
        }
    }

    /// Takes every subscription back: the connection ends.
    pub(crate) fn leave<L: Log>(&mut self, context: &mut Context<L>, subscriber: Subscriber) {
        self.subscriptions.leave(context, subscriber);
    }

    /// Pings a client that was not heard of for long. True if one did not answer that and is taken
    /// for dead.
    pub(crate) fn is_dead(&mut self, now_ms: u64, received_ms: u64) -> bool {
        if let Some(pinged) = self.pinged_ms {
            now_ms.saturating_sub(pinged) > limits::WEBSOCKET_PONG_SECONDS * 1000
        } else {
            if now_ms.saturating_sub(received_ms) > limits::WEBSOCKET_PING_SECONDS * 1000 {
                self.pinged_ms = Some(now_ms);
                let mut frame = Vec::new();
                ws::write_ping(&mut frame, b"");
                self.send(&frame);
            }
            false
        }
    }

    /// Gives back heap that an idle session does not need.
    pub(crate) fn trim(&mut self) {
        self.reader.trim();
        self.outbox.trim();
        self.subscriptions.trim();
        self.withheld.shrink_to(0);
    }
}
