//! One WebSocket session: messages in, answers and pushed frames out.
//!
//! An answer waits for its commit point, as an HTTP answer does; pushed changes have passed theirs
//! before they come here. A session whose client sends requests faster than it reads the answers
//! is paused, as HTTP is: nothing more is read from it.

use super::requests::Requests;
use super::withheld::Withheld;
use crate::api::client_message::{Action, ClientMessage, Request, parse, parse_whole};
use crate::api::metrics::SubscriberKind;
use crate::api::{ApiError, encode, stream_encode};
use crate::background::decoding::DecodeResult;
use crate::background::history::JobResult;
use crate::limits;
use crate::log::Log;
use crate::model::CommitPoint;
use crate::service::streams::{Catching, Ended, Feed, Framing, write_merged};
use crate::service::subscribe::{InForce, Subscriber, Verdict};
use crate::service::{Context, KeptToken, presence};
use crate::shard::{MemoryHolders, Reply};
use crate::wire::ws::{self, Message, MessageReader, WsError, write_text_with};
use flux_storage::Sequence;
use std::net::IpAddr;

/// Every message of a stream is one text frame.
pub(crate) const FRAMING: Framing = Framing {
    index: 0,
    kind: SubscriberKind::WebSocket,
    resumes: false,
    reframe: None,
    frame: |out, write| write_text_with(out, write),
    merged: |out, entity_id, change| {
        write_text_with(out, |out| write_merged(out, entity_id, change));
    },
};

/// Close code of a server that stops (RFC 6455 §7.4.1).
pub(crate) const GOING_AWAY: u16 = 1001;
/// Close code of a client that reads too slowly (registered by IANA, "Try Again Later").
const TRY_AGAIN_LATER: u16 = 1013;
/// RFC 6455 §7.4.1.
const POLICY_VIOLATION: u16 = 1008;
const NORMAL: u16 = 1000;
/// Close code of a server that met a fault (RFC 6455 §7.4.1).
const INTERNAL_ERROR: u16 = 1011;

/// Why a slow reader is closed.
pub(crate) const SLOW_READER: &str = "the client reads too slowly";

/// Bytes that a client may be owed before its pongs wait.
const PONG_BEHIND_BYTES_MAX: usize = 4 * 1024;

/// Why a client is closed that there is no memory for.
pub(crate) const OUT_OF_MEMORY: &str =
    "the server's memory for clients (FLUX_MEMORY_BYTES) is in use";

/// See the module.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about one session, not states"
)]
pub(crate) struct WebSocket {
    /// What has arrived of the next message.
    pub(crate) reader: MessageReader,
    /// Its subscriptions, and the frames for the client.
    pub(crate) feed: Feed,
    /// It wants `metrics_update` messages.
    pub(crate) metrics: bool,
    requests: Requests,
    /// Answers that nobody may see yet.
    withheld: Withheld,
    /// The last request was taken on with too much owed already: nothing more is read until that
    /// has changed.
    paused: bool,
    /// The server stops: a close frame follows the last answer.
    is_leaving: bool,
    /// It has presented more unknown tokens than are answered.
    guesses: bool,
    /// The pong to the client's newest ping, if the client is owed too much to be sent it now.
    pong: Option<Vec<u8>>,
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
    /// Goes on once the client has read what it is owed, or requests are answered. What has arrived
    /// stays.
    Pause,
    /// A close frame is in the outbox; the connection ends when it is sent.
    Close,
    /// The same: the client has broken the protocol.
    Broken,
}

impl WebSocket {
    /// A session without subscriptions. `client`: where it is, and who is answerable for its
    /// memory.
    pub(crate) fn new(
        metrics: bool,
        token: Option<KeptToken>,
        client: (Option<IpAddr>, MemoryHolders),
    ) -> Self {
        Self {
            reader: MessageReader::default(),
            feed: Feed::new(client, token, FRAMING),
            metrics,
            requests: Requests::new(client.1),
            withheld: Withheld::default(),
            paused: false,
            is_leaving: false,
            guesses: false,
            pong: None,
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
        // A message lies in the reader while it is worked on.
        let mut reader = std::mem::take(&mut self.reader);
        let after = self.serve_from(&mut reader, context, (subscriber, end));
        self.reader = reader;
        after
    }

    fn serve_from<L: Log>(
        &mut self,
        reader: &mut MessageReader,
        context: &mut Context<L>,
        (subscriber, end): (Subscriber, u64),
    ) -> After {
        loop {
            if self.feed.outbox.overflowed() {
                return self.close_behind(SLOW_READER);
            }
            if context.router.spent() >= end {
                return After::More;
            }
            if self.requests.is_unfinished() {
                self.go_on(context, subscriber);
                continue;
            }
            if self.is_paused() {
                return After::Pause;
            }
            self.paused = false;
            let message = match reader.next() {
                Ok(None) => return After::Go,
                Ok(Some(message)) => message,
                Err(error) => return self.fail(error),
            };
            match message {
                Message::Text(text) => {
                    let json_units = limits::JSON_BYTE_UNITS * text.len() as u64;
                    context.router.spend(limits::WS_MESSAGE_UNITS + json_units);
                    if !self.understand(context, subscriber, parse(text)) {
                        self.understand(context, subscriber, parse_whole(text));
                    }
                    if self.guesses {
                        return self.close(POLICY_VIOLATION, "too many unknown tokens");
                    }
                }
                Message::Ping(payload) => {
                    context.router.spend(limits::WS_MESSAGE_UNITS);
                    let mut frame = Vec::new();
                    ws::write_pong(&mut frame, payload);
                    // RFC 6455 §5.5.3: of several pings the newest is answered. So a client that
                    // does not take its pongs is owed one.
                    self.pong = Some(frame);
                    self.send_pong();
                }
                Message::Pong(_) => context.router.spend(limits::WS_MESSAGE_UNITS),
                Message::Close(reason) => {
                    let code = reason.map_or(NORMAL, |(code, _)| code);
                    return self.close(code, "");
                }
            }
        }
    }

    /// Does what a message asks for. False as [`Requests::begin`] says.
    fn understand<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        message: ClientMessage<'_>,
    ) -> bool {
        match (message.id, message.action) {
            (Some(id), Ok(Action::Request(request))) => {
                self.request(context, subscriber, (id, &request))
            }
            (id, action) => {
                if let Err(error) = &action
                    && message.stores_events
                {
                    context.tally().note_refused(error);
                }
                self.act(context, subscriber, (id.map(Box::from), action));
                true
            }
        }
    }

    fn fail(&mut self, error: WsError) -> After {
        self.close(error.close_code(), &error.to_string());
        After::Broken
    }

    /// Puts a close frame into the outbox, and nothing after it.
    pub(crate) fn close(&mut self, code: u16, reason: &str) -> After {
        let mut frame = Vec::new();
        ws::write_close(&mut frame, code, reason);
        self.feed.outbox.close(&frame);
        After::Close
    }

    /// Closes the session of a client that is too far behind. Tells it the bound, and the last
    /// cursor that it was sent.
    pub(crate) fn close_behind(&mut self, reason: &str) -> After {
        let reason = self.feed.behind_reason(reason, ws::CLOSE_REASON_BYTES_MAX);
        self.close(TRY_AGAIN_LATER, &reason)
    }

    /// An overflow shows in the outbox; the next look at the session closes it for that.
    fn send(&mut self, frame: &[u8]) {
        self.feed.send(frame);
    }

    /// The socket took the first `written` bytes of what is pending.
    pub(crate) fn advance(&mut self, written: usize) {
        self.feed.outbox.advance(written);
        self.send_pong();
    }

    /// Sends the pong that is owed if the client takes what it is sent.
    fn send_pong(&mut self) {
        if self.feed.outbox.direct_bytes() <= PONG_BEHIND_BYTES_MAX
            && let Some(pong) = self.pong.take()
        {
            self.send(&pong);
        }
    }

    /// Answers a message when `point` is reached, and after the answers before it.
    fn answer(&mut self, point: CommitPoint, write: impl FnOnce(&mut Vec<u8>)) {
        self.withheld.push(point, |out| write_text_with(out, write));
        self.withheld.open(Sequence::ZERO, &mut self.feed.outbox);
    }

    /// Takes on a request. False as [`Requests::begin`] says.
    fn request<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        (id, request): (&str, &Request<'_>),
    ) -> bool {
        let credentials = self.feed.tokens.credentials(context);
        let withheld = &mut self.withheld;
        let is_begun = self.requests.begin(
            context,
            (subscriber, credentials),
            (id, request),
            |(point, is_stored), write| {
                if is_stored {
                    withheld.push_stored(point, write);
                } else {
                    withheld.push(point, write);
                }
            },
        );
        self.withheld.open(Sequence::ZERO, &mut self.feed.outbox);
        self.paused = self.is_behind();
        is_begun
    }

    /// Does a slice of the request that is unfinished.
    fn go_on<L: Log>(&mut self, context: &mut Context<L>, subscriber: Subscriber) {
        let withheld = &mut self.withheld;
        self.requests.go_on(context, subscriber, |frame| {
            withheld.push(CommitPoint::NONE, |out| out.extend_from_slice(frame));
        });
        self.withheld.open(Sequence::ZERO, &mut self.feed.outbox);
    }

    /// True if the client is owed so much that no further request may be taken on.
    fn is_behind(&self) -> bool {
        self.requests.is_full()
            || self.withheld.bytes() >= limits::RESPONSE_BYTES_PENDING_MAX
            || self.feed.outbox.is_conflating()
            || self.feed.outbox.direct_bytes() >= limits::OUTBOX_DIRECT_BYTES_MAX / 2
    }

    /// True while nothing more may be read from a client that sends requests. One that only
    /// subscribes is always read: its pongs say that it lives.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused && self.is_behind()
    }

    /// True if nothing waits to be answered or sent.
    pub(crate) fn owes_nothing(&self) -> bool {
        self.feed.outbox.is_empty() && self.withheld.is_empty() && self.requests.is_empty()
    }

    /// The server stops: closes the session behind the answers to what was taken on.
    pub(crate) fn close_when_answered(&mut self) {
        self.is_leaving = true;
        self.close_if_answered();
    }

    fn close_if_answered(&mut self) {
        if self.is_leaving && self.requests.is_empty() && self.withheld.is_empty() {
            self.close(GOING_AWAY, "the server is shutting down");
        }
    }

    /// True if the client is owed more than one that keeps up.
    pub(crate) fn is_owed_much(&self) -> bool {
        self.feed.is_owed_much() || self.withheld.bytes() > limits::MEMORY_UNCOUNTED_BYTES_MAX
    }

    /// Bytes of the answers and changes that the client is owed.
    pub(crate) fn owed_bytes(&self) -> usize {
        if self.feed.outbox.is_conflating() {
            self.outbox_bytes()
        } else {
            let requests = self.requests.heap_bytes();
            self.feed.outbox.direct_bytes() + self.withheld.bytes() + requests
        }
    }

    /// Drops what the client is owed: there is no memory for it.
    pub(crate) fn give_up(&mut self) {
        self.feed.give_up();
        self.withheld.clear();
        self.withheld.trim();
    }

    /// Heap of what the client is owed.
    pub(crate) fn outbox_bytes(&self) -> usize {
        self.feed.heap_bytes() + self.withheld.heap_bytes() + self.requests.heap_bytes()
    }

    /// Heap that is found by a look at all of it.
    #[cfg(test)]
    pub(crate) fn found_bytes(&self) -> usize {
        let requests = self.requests.found_bytes() + self.withheld.heap_bytes();
        let pong = self.pong.as_ref().map_or(0, Vec::capacity);
        self.reader.heap_bytes() + self.feed.outbox.heap_bytes() + requests + pong
    }

    /// True if an answer is withheld until it is durable.
    pub(crate) fn is_gated(&self) -> bool {
        !self.withheld.is_empty()
    }

    /// Sends the answers that may be seen now. True if one remains.
    pub(crate) fn open_gates(&mut self, visible: Sequence) -> bool {
        self.withheld.open(visible, &mut self.feed.outbox);
        self.close_if_answered();
        self.is_gated()
    }

    /// The log has failed: what is withheld will never be durable, and the session ends. How many
    /// requests to store events had their answers among it.
    pub(crate) fn fail_gated(&mut self, error: &ApiError) -> u64 {
        let stored = self.withheld.fail();
        self.close(INTERNAL_ERROR, &error.to_string());
        stored
    }

    fn act<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        (id, action): (Option<Box<str>>, Result<Action<'_>, ApiError>),
    ) {
        let done = match action {
            Ok(Action::Ping) => {
                self.answer(CommitPoint::NONE, |out| {
                    encode::answer(out, "pong", id.as_deref());
                });
                return;
            }
            Ok(Action::Subscribe(subscribe)) => {
                let call = (&*subscribe, id.clone());
                self.feed.subscribe(context, subscriber, call)
            }
            Ok(Action::Unsubscribe(pattern)) => (self.feed.subscriptions)
                .unsubscribe(context, subscriber, &pattern)
                .map(|()| InForce::Now),
            Ok(Action::Auth(secret)) => {
                let added = self.feed.tokens.add(context, secret.reveal());
                if let Err(error) = &added {
                    let address = self.feed.subscriptions.address();
                    self.guesses = context.note_rejection(address, error).is_some();
                }
                added.map(|()| InForce::Now)
            }
            // Those with an id are taken on elsewhere.
            Ok(Action::Request(_)) => Err(ApiError::MissingId),
            Err(error) => Err(error),
        };
        self.feed.flush_paced();
        self.answer_replaced();
        match done {
            Ok(InForce::Now) => self.acknowledge(id.as_deref(), None),
            Ok(InForce::Later) => {}
            Err(error) => self.reject(id.as_deref(), &error),
        }
    }

    fn acknowledge(&mut self, id: Option<&str>, cursor: Option<&str>) {
        match (id, cursor) {
            (None, _) => {}
            (Some(_), None) => {
                self.answer(CommitPoint::NONE, |out| encode::answer(out, "ack", id));
            }
            (Some(_), Some(cursor)) => {
                self.answer(CommitPoint::NONE, |out| stream_encode::ack(out, id, cursor));
            }
        }
    }

    /// Answers the messages whose subscriptions are gone before they were acknowledged.
    fn answer_replaced(&mut self) {
        for Verdict { id, .. } in self.feed.subscriptions.take_unanswered() {
            self.acknowledge(id.as_deref(), None);
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
        (serial, from, reply): (u32, u16, Reply),
    ) {
        if Requests::are_answered_by(serial) {
            let withheld = &mut self.withheld;
            let reply = (serial, from, reply);
            self.requests.resume(context, subscriber, reply, |frame| {
                withheld.push(CommitPoint::NONE, |out| out.extend_from_slice(frame));
            });
            self.withheld.open(Sequence::ZERO, &mut self.feed.outbox);
            self.close_if_answered();
            return;
        }
        if Catching::is_answered_by(serial) {
            let reply = (serial, from, reply);
            let ended = self.feed.take_answer(context, subscriber, reply);
            self.tell_end(ended);
            return;
        }
        let reply = (serial, from, &reply);
        let verdicts = self.feed.subscriptions.resume(context, subscriber, reply);
        self.feed.flush_paced();
        self.answer_replaced();
        for Verdict { id, result } in verdicts {
            match result {
                Ok(cursor) => self.acknowledge(id.as_deref(), cursor.as_deref()),
                Err(error) => self.reject(id.as_deref(), &error),
            }
        }
    }

    /// Takes what was read of the logs for one of the session's subscriptions.
    pub(crate) fn on_history<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        result: (u32, JobResult),
    ) {
        let ended = self.feed.take_history(context, subscriber, result);
        self.feed.flush_paced();
        self.answer_replaced();
        self.tell_end(ended);
    }

    /// Takes the body that a helper thread has decoded for one of the session's requests.
    pub(crate) fn on_decoded<L: Log>(
        &mut self,
        context: &mut Context<L>,
        result: (u32, DecodeResult),
    ) {
        let withheld = &mut self.withheld;
        self.requests.on_decoded(context, result, |frame| {
            withheld.push(CommitPoint::NONE, |out| out.extend_from_slice(frame));
        });
        self.withheld.open(Sequence::ZERO, &mut self.feed.outbox);
        self.close_if_answered();
    }

    /// True if a request has work left that waits for nothing.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.requests.is_unfinished()
    }

    /// Lets the subscriptions that catch up go on. True if there is something to send.
    pub(crate) fn catch_up<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
    ) -> bool {
        if !self.feed.subscriptions.is_catching_up() {
            return false;
        }
        let ended = self.feed.catch_up(context, subscriber);
        self.tell_end(ended);
        !self.feed.outbox.is_empty()
    }

    /// Ends the subscriptions that the client may see nothing of any more. True if there is
    /// something to send.
    pub(crate) fn look_at_access<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
    ) -> bool {
        let ended = self.feed.end_unreadable(context, subscriber);
        self.answer_replaced();
        for ended in &ended {
            self.feed.tell_access_ended(ended);
        }
        !ended.is_empty()
    }

    fn tell_end(&mut self, ended: Option<Ended>) {
        if let Some(ended) = ended {
            self.feed.tell_end(&ended);
        }
    }

    /// Takes every subscription back, and lets go of what is bound: the connection ends.
    pub(crate) fn leave<L: Log>(&mut self, context: &mut Context<L>, subscriber: Subscriber) {
        self.feed.subscriptions.leave(context, subscriber);
        if self.requests.has_bound() {
            presence::leave(context, subscriber);
        }
    }

    /// Pings a client that was not heard of for long. True if one did not answer that and is taken
    /// for dead.
    pub(crate) fn is_dead(&mut self, now_ms: u64, received_ms: u64) -> bool {
        if self.is_paused() {
            // It can't be heard. A client that takes nothing is closed for that.
            return false;
        }
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

    /// The messages that have arrived and wait, unmasked, if they are no longer than `len` bytes.
    pub(crate) fn unmask_ahead(&mut self, len: usize) {
        if self.reader.pending().len() <= len {
            self.reader.unmask_ahead(len);
        }
    }

    /// What has arrived and waits, frames with their headers.
    pub(crate) fn pending(&self) -> &[u8] {
        self.reader.pending()
    }

    /// When a ping was sent that is not answered, monotonic milliseconds.
    pub(crate) fn pinged_ms(&self) -> Option<u64> {
        self.pinged_ms
    }

    /// Sends a ping if nothing else is to be sent, so that the kernel learns if the client is gone.
    pub(crate) fn probe(&mut self) {
        if self.feed.outbox.is_empty() {
            let mut frame = Vec::new();
            ws::write_ping(&mut frame, b"");
            self.send(&frame);
        }
    }

    /// Gives back heap that an idle session does not need.
    pub(crate) fn trim(&mut self) {
        self.reader.trim();
        self.feed.trim();
        self.requests.trim();
        self.withheld.trim();
    }
}
