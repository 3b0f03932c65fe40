//! One client's connection: its socket, what is being read, what waits to be sent, and when the
//! client was last heard of.

use super::event_streams::Streaming;
use super::queues::Queue;
use super::system::Socket;
use super::taking::Taking;
use super::turns::Account;
use crate::api::metrics::{CloseCause, RoutePattern};
use crate::front::http::Answers;
use crate::front::ws::{OUT_OF_MEMORY, WebSocket};
use crate::limits;
use crate::service::streams::Feed;
use crate::shard::{MemoryHolders, MemoryHolding};
use crate::wire::http1::{Phase, RequestReader};
use crate::wire::tls::TlsLink;
use flux_storage::Sequence;
use std::net::IpAddr;

/// What the connection speaks.
#[derive(Debug)]
pub(crate) enum Session {
    /// HTTP/1.1, and what has arrived of the next request.
    Http(RequestReader),
    /// WebSocket.
    WebSocket(Box<WebSocket>),
    /// A stream of server-sent events. Nothing is read.
    Stream(Box<Streaming>),
}

impl Session {
    /// What its subscriptions take, bytes.
    fn subscription_bytes(&self) -> usize {
        match self {
            Self::Http(_) => 0,
            Self::WebSocket(websocket) => websocket.feed.subscriptions.held_bytes(),
            Self::Stream(streaming) => streaming.stream.feed.subscriptions.held_bytes(),
        }
    }

    /// What is pushed to it, if it is one that is pushed to.
    pub(crate) fn feed(&mut self) -> Option<&mut Feed> {
        match self {
            Self::Http(_) => None,
            Self::WebSocket(websocket) => Some(&mut websocket.feed),
            Self::Stream(streaming) => Some(&mut streaming.stream.feed),
        }
    }
}

/// How far a connection is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// It is not.
    Open,
    /// It ends when all that waits is sent. Nothing more is read from it.
    AfterSending,
    /// Everything is sent and our side is shut down; what still arrives is discarded until the
    /// client's side ends, so that a reset does not destroy the last answer on its way (RFC 9112
    /// §9.6).
    Lingering,
    /// To be dropped now.
    Now,
}

/// See the module.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about one socket, not states"
)]
pub(crate) struct Connection<T> {
    /// The socket.
    pub(crate) socket: T,
    /// The address that it is counted for.
    pub(crate) address: Option<IpAddr>,
    /// Why it is closed, as far as that is known: the client's doing otherwise.
    pub(crate) cause: CloseCause,
    /// What lies between the socket and the session if the connection is encrypted.
    pub(crate) tls: Option<Box<TlsLink>>,
    /// How often its index was handed out before.
    pub(crate) generation: u32,
    /// What it speaks.
    pub(crate) session: Session,
    /// HTTP answers owed. After an upgrade, what was owed before it, and the upgrade's own answer.
    pub(crate) answers: Answers,
    /// The kernel may have bytes for us.
    pub(crate) readable: bool,
    /// The kernel took all that we gave it.
    pub(crate) writable: bool,
    /// The kernel has said that the client's side is shut down; the end comes after the bytes
    /// before it.
    pub(crate) hung_up: bool,
    /// The kernel has said that nothing that is sent arrives any more.
    pub(crate) broken: bool,
    /// The end of the client's side was read.
    pub(crate) ended: bool,
    /// On its way out?
    pub(crate) closing: Closing,
    /// The socket has refused bytes since a listing last went on.
    pub(crate) stalled: bool,
    /// Reading stopped because too much waits to be sent: goes on when that is sent.
    pub(crate) starved: bool,
    /// Its turn ended before all was worked on that has arrived: goes on in its next one.
    pub(crate) unworked: bool,
    /// What it owes for the work that was done for it.
    pub(crate) account: Account,
    /// Who is answerable for the memory that it holds.
    pub(crate) holders: MemoryHolders,
    /// What it holds, as it was last counted.
    pub(crate) held: MemoryHolding,
    /// Since when it waits for memory, monotonic milliseconds; `None` if it does not.
    pub(crate) waits_since_ms: Option<u64>,
    /// In the core's queue of connections that wait for memory.
    pub(crate) queued_memory: bool,
    /// In the core's list of connections to write to.
    pub(crate) queued: bool,
    /// In the core's list of connections to read from.
    pub(crate) queued_read: bool,
    /// In the core's list of connections with withheld answers.
    pub(crate) gated: bool,
    /// In the core's queue of connections with a late answer.
    pub(crate) late: bool,
    /// When a byte last came in, monotonic milliseconds.
    pub(crate) received_ms: u64,
    /// When the request being read began, or the closing did, monotonic milliseconds.
    pub(crate) began_ms: u64,
    /// When the socket last took a byte, or began to be owed one.
    pub(crate) sent_ms: u64,
    /// What the kernel said of a client that seemed to take nothing.
    pub(crate) taking: Taking,
}

/// What a look at the clock says about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Nothing.
    No,
    /// A request's head did not arrive in time.
    Head,
    /// A request's body did not arrive in time.
    Body,
    /// It has waited too long for memory.
    Memory,
    /// No request for long, or no progress in closing: close without a word.
    Silent,
    /// Nothing taken of what waits: the same.
    Stalled,
}

/// The time limits that apply to a connection, in milliseconds.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "units come last in every name")]
pub(crate) struct Timeouts {
    /// For a head.
    pub(crate) head_ms: u64,
    /// Between two reads of a body.
    pub(crate) body_ms: u64,
    /// Between two requests.
    pub(crate) idle_ms: u64,
    /// Until the client takes a byte of what waits for it.
    pub(crate) stall_ms: u64,
    /// For the whole of a large body; it has no end unless memory is short.
    pub(crate) large_body_ms: u64,
}

impl Timeouts {
    /// The same while memory is short: who holds much of it has less time.
    pub(crate) fn while_memory_is_short(self) -> Self {
        let short_ms = limits::MEMORY_STALL_SECONDS_MAX * 1000;
        Self {
            stall_ms: self.stall_ms.min(short_ms),
            large_body_ms: self.body_ms + short_ms,
            ..self
        }
    }
}

impl<T: Socket> Connection<T> {
    /// A new connection.
    pub(crate) fn new(socket: T, generation: u32, now_ms: u64) -> Self {
        Self {
            socket,
            address: None,
            cause: CloseCause::Client,
            tls: None,
            generation,
            session: Session::Http(RequestReader::default()),
            answers: Answers::default(),
            readable: true,
            writable: true,
            hung_up: false,
            broken: false,
            ended: false,
            closing: Closing::Open,
            stalled: false,
            starved: false,
            unworked: false,
            account: Account::default(),
            holders: MemoryHolders::default(),
            held: MemoryHolding::default(),
            waits_since_ms: None,
            queued_memory: false,
            queued: false,
            queued_read: false,
            gated: false,
            late: false,
            received_ms: now_ms,
            began_ms: now_ms,
            sent_ms: now_ms,
            taking: Taking::default(),
        }
    }

    /// Puts it, under its index, on the list of connections to read from, once.
    pub(crate) fn queue_read(&mut self, index: u32, to_read: &mut Queue) {
        if !std::mem::replace(&mut self.queued_read, true) {
            let list = if self.account.is_heavy() {
                &mut to_read.heavy
            } else if self.account.is_fresh() {
                &mut to_read.fresh
            } else {
                &mut to_read.small
            };
            list.push(index);
        }
    }

    /// Puts it, under its index, on the list of connections to write to, once.
    pub(crate) fn queue_write(&mut self, index: u32, to_write: &mut Queue) {
        if !std::mem::replace(&mut self.queued, true) {
            let list = match self.session {
                // To give back what it held may be as much work as a large answer.
                _ if self.closing == Closing::Now => &mut to_write.heavy,
                Session::Http(_) if self.account.is_heavy() || self.answers.are_large() => {
                    &mut to_write.heavy
                }
                Session::Http(_) => &mut to_write.small,
                Session::WebSocket(_) | Session::Stream(_) => &mut to_write.pushes,
            };
            list.push(index);
        }
    }

    /// It is about to be closed for this. The first cause is the one that is counted.
    pub(crate) fn note_cause(&mut self, cause: CloseCause) {
        if self.cause == CloseCause::Client && self.closing == Closing::Open {
            self.cause = cause;
        }
    }

    /// Begins to close for this cause, as [`Connection::close_after_sending`].
    pub(crate) fn close_for(&mut self, cause: CloseCause, now_ms: u64) {
        self.note_cause(cause);
        self.close_after_sending(now_ms);
    }

    /// Messages that were never sent because newer ones took their place, since the last call.
    pub(crate) fn take_replaced(&mut self) -> u32 {
        match &mut self.session {
            Session::Http(_) => 0,
            Session::WebSocket(websocket) => websocket.feed.outbox.take_replaced(),
            Session::Stream(streaming) => streaming.stream.feed.outbox.take_replaced(),
        }
    }

    /// Gives up what a subscriber is owed, and begins to close: there is no memory for it.
    pub(crate) fn give_up_outbox(&mut self, now_ms: u64) {
        match &mut self.session {
            Session::Http(_) => {}
            Session::WebSocket(websocket) => websocket.give_up(),
            Session::Stream(streaming) => streaming.stream.feed.give_up(),
        }
        self.close_behind((CloseCause::Memory, OUT_OF_MEMORY), now_ms);
    }

    /// Tells a subscriber behind what it is owed why it is closed, and begins to close.
    pub(crate) fn close_behind(&mut self, (cause, reason): (CloseCause, &str), now_ms: u64) {
        match &mut self.session {
            Session::Http(_) => return,
            Session::WebSocket(websocket) => {
                websocket.close_behind(reason);
            }
            Session::Stream(streaming) => streaming.stream.end_behind(reason),
        }
        self.close_for(cause, now_ms);
    }

    /// Begins to close: what waits is still sent.
    pub(crate) fn close_after_sending(&mut self, now_ms: u64) {
        if self.closing == Closing::Open {
            self.closing = Closing::AfterSending;
            self.began_ms = now_ms;
        }
    }

    /// True once all is sent on a connection that closes.
    pub(crate) fn is_finished(&self) -> bool {
        self.closing == Closing::AfterSending && self.owes_nothing()
    }

    /// Takes plain bytes in that have arrived for the session.
    pub(crate) fn deliver(&mut self, bytes: &[u8], now_ms: u64) {
        if bytes.is_empty() {
            return;
        }
        let idle = match &self.session {
            Session::Http(reader) => reader.buffered() == 0,
            Session::WebSocket(_) | Session::Stream(_) => false,
        };
        if idle && self.closing == Closing::Open {
            self.began_ms = now_ms;
        }
        self.received_ms = now_ms;
        if self.closing != Closing::Open {
            self.discard(bytes);
            return;
        }
        match &mut self.session {
            Session::Http(reader) => reader.receive(bytes),
            Session::WebSocket(websocket) => websocket.reader.receive(bytes),
            Session::Stream(_) => {}
        }
    }

    /// Bytes for a connection on its way out: a WebSocket client's close is waited for, all else is
    /// dropped.
    fn discard(&mut self, bytes: &[u8]) {
        if let Session::WebSocket(websocket) = &mut self.session {
            websocket.reader.receive(bytes);
            while let Ok(Some(_)) = websocket.reader.next() {}
            if websocket.reader.heap_bytes() > limits::MEMORY_SMALL_BYTES_MAX {
                // No close comes before the end of so long a message.
                self.closing = Closing::Now;
            }
        }
    }

    /// Once all is sent on a connection that closes: shuts down our side, and lingers for the
    /// client's.
    pub(crate) fn finish_closing(&mut self, now_ms: u64) {
        if !self.is_finished() {
            return;
        }
        if self.ended || self.socket.shut_down().is_err() {
            self.closing = Closing::Now;
        } else {
            self.closing = Closing::Lingering;
            self.began_ms = now_ms;
        }
    }

    /// The bytes to send next, and whether they are HTTP's: what waits from before an upgrade
    /// goes first.
    pub(crate) fn next_bytes(&self) -> (&[u8], bool) {
        let http = self.answers.sendable();
        match &self.session {
            Session::WebSocket(websocket) if http.is_empty() => {
                (websocket.feed.outbox.pending(), false)
            }
            // Answers to requests before it may wait.
            Session::Stream(streaming) if streaming.stream.is_open() && self.answers.is_empty() => {
                (streaming.stream.feed.outbox.pending(), false)
            }
            _ => (http, true),
        }
    }

    /// The socket took `count` of [`Connection::next_bytes`].
    pub(crate) fn advance(&mut self, is_http: bool, count: usize) {
        if is_http {
            self.answers.advance(count);
        } else {
            match &mut self.session {
                Session::Http(_) => {}
                Session::WebSocket(websocket) => websocket.advance(count),
                Session::Stream(streaming) => streaming.stream.feed.outbox.advance(count),
            }
        }
    }

    /// True while the connection owes so much that it must not be read.
    pub(crate) fn is_paused(&self) -> bool {
        self.answers.is_full()
            || match &self.session {
                Session::Http(_) => false,
                Session::WebSocket(websocket) => websocket.is_paused(),
                Session::Stream(_) => true,
            }
    }

    /// True if a request has work left that waits for nothing.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.answers.unfinished().is_some()
            || match &self.session {
                Session::Http(_) | Session::Stream(_) => false,
                Session::WebSocket(websocket) => websocket.is_unfinished(),
            }
    }

    /// True if an answer is withheld until it is durable.
    pub(crate) fn is_gated(&self) -> bool {
        self.answers.is_gated()
            || match &self.session {
                Session::Http(_) | Session::Stream(_) => false,
                Session::WebSocket(websocket) => websocket.is_gated(),
            }
    }

    /// Lets go of the answers that may be seen now, and tells those of requests, as
    /// [`Answers::open_gates`]. True if one remains withheld.
    pub(crate) fn open_gates(
        &mut self,
        visible: Sequence,
        count: impl FnMut(RoutePattern, u16),
    ) -> bool {
        let remains = self.answers.open_gates(visible, count);
        match &mut self.session {
            Session::Http(_) | Session::Stream(_) => remains,
            Session::WebSocket(websocket) => websocket.open_gates(visible) || remains,
        }
    }

    /// True if nothing waits to be sent.
    pub(crate) fn owes_nothing(&self) -> bool {
        self.answers.is_empty()
            && self.has_sent_records()
            && match &self.session {
                Session::Http(_) => true,
                Session::WebSocket(websocket) => websocket.owes_nothing(),
                Session::Stream(streaming) => streaming.stream.feed.outbox.is_empty(),
            }
    }

    /// True if no encrypted bytes wait for the socket.
    fn has_sent_records(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.is_none_or(|tls| tls.unsent().is_empty())
    }

    /// True until a handshake of TLS is over.
    pub(crate) fn is_handshaking(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.is_some_and(|tls| tls.is_handshaking())
    }

    /// True while a step of the handshake is due or being carried out.
    pub(crate) fn is_shaking(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.is_some_and(|tls| tls.is_busy())
    }

    /// True if the socket takes none of the bytes that wait. Any other is written to in a turn to
    /// come.
    fn is_refused(&self) -> bool {
        let owed = !self.answers.sendable().is_empty()
            || !self.owes_no_frames()
            || !self.has_sent_records();
        owed && !self.writable
    }

    /// Since when the client has given no sign of taking what it is sent, if the kernel should be
    /// asked whether it does.
    pub(crate) fn silent_since_ms(&self) -> Option<u64> {
        let pinged_ms = match &self.session {
            Session::WebSocket(websocket) => websocket.pinged_ms(),
            Session::Http(_) | Session::Stream(_) => None,
        };
        let refused_ms = self.is_refused().then_some(self.sent_ms);
        pinged_ms.into_iter().chain(refused_ms).min()
    }

    /// True if the ping that the client has not answered may still be on its way.
    pub(crate) fn is_behind(&self, now_ms: u64, stall_ms: u64) -> bool {
        let Session::WebSocket(websocket) = &self.session else {
            return false;
        };
        let explains = |pinged_ms| self.taking.explains_silence(pinged_ms, now_ms, stall_ms);
        websocket.pinged_ms().is_some_and(explains)
    }

    /// What `now_ms` says.
    pub(crate) fn overdue(&self, now_ms: u64, timeouts: Timeouts) -> Overdue {
        let since = |then: u64| now_ms.saturating_sub(then);
        if self.is_handshaking() && since(self.began_ms) > timeouts.head_ms {
            return Overdue::Silent;
        }
        if self.is_refused() && since(self.sent_ms) > timeouts.stall_ms {
            return Overdue::Stalled;
        }
        if let Some(waits_since_ms) = self.waits_since_ms
            && since(waits_since_ms) > limits::MEMORY_WAIT_SECONDS_MAX * 1000
            && self.closing == Closing::Open
        {
            return Overdue::Memory;
        }
        if self.closing != Closing::Open {
            let seconds = match self.session {
                Session::Http(_) | Session::Stream(_) => limits::LINGER_SECONDS_MAX,
                Session::WebSocket(_) => limits::CLOSE_SECONDS_MAX,
            };
            let over = since(self.began_ms) > seconds * 1000;
            let stuck = over && (self.closing == Closing::Lingering || self.owes_nothing());
            return if stuck { Overdue::Silent } else { Overdue::No };
        }
        let Session::Http(reader) = &self.session else {
            return Overdue::No;
        };
        if self.is_handshaking() {
            return Overdue::No;
        }
        match reader.phase() {
            // The wait is ours.
            Phase::Head | Phase::Body
                if self.starved || self.unworked || self.waits_since_ms.is_some() =>
            {
                Overdue::No
            }
            Phase::Head if since(self.began_ms) > timeouts.head_ms => Overdue::Head,
            Phase::Body if since(self.received_ms) > timeouts.body_ms => Overdue::Body,
            Phase::Body
                if self.held.bodies > limits::MEMORY_SMALL_BYTES_MAX
                    && since(self.began_ms) > timeouts.large_body_ms =>
            {
                Overdue::Body
            }
            Phase::Idle
                if self.owes_nothing()
                    && since(self.received_ms.max(self.sent_ms)) > timeouts.idle_ms =>
            {
                Overdue::Silent
            }
            Phase::Idle | Phase::Head | Phase::Body => Overdue::No,
        }
    }

    /// Bytes that the client is owed and has not been sent, those of calls under way included.
    pub(crate) fn owed_bytes(&self) -> usize {
        let unsent = self.tls.as_ref().map_or(0, |tls| tls.unsent().len());
        let http = self.answers.owed_bytes() + unsent;
        match &self.session {
            Session::Http(_) => http,
            Session::WebSocket(websocket) => http + websocket.owed_bytes(),
            Session::Stream(streaming) => http + streaming.stream.feed.heap_bytes(),
        }
    }

    /// What it holds in memory. A usual request and its answer are not counted.
    pub(crate) fn holding(&self) -> MemoryHolding {
        let (bodies, outboxes) = match &self.session {
            Session::Http(reader) => (reader.heap_bytes() + self.answers.body_bytes(), 0),
            Session::WebSocket(websocket) => {
                (websocket.reader.heap_bytes(), websocket.outbox_bytes())
            }
            Session::Stream(streaming) => (
                streaming.reader.heap_bytes() + self.answers.body_bytes(),
                streaming.stream.feed.heap_bytes(),
            ),
        };
        let tls = self.tls.as_ref();
        let tls = tls.map_or((0, 0), |tls| {
            (tls.received_heap_bytes(), tls.unsent_heap_bytes())
        });
        let holding = MemoryHolding {
            bodies: bodies + tls.0,
            answers: self.answers.heap_bytes() + tls.1,
            outboxes,
            queries: self.answers.expected_bytes(),
            streams: self.session.subscription_bytes(),
        };
        if holding.total() > limits::MEMORY_UNCOUNTED_BYTES_MAX {
            holding
        } else {
            MemoryHolding::default()
        }
    }

    /// Heap that is found by a look at all its buffers.
    #[cfg(test)]
    pub(crate) fn found_bytes(&self) -> usize {
        self.answers.found_bytes()
            + self.session.subscription_bytes()
            + match &self.session {
                Session::Http(reader) => reader.heap_bytes(),
                Session::WebSocket(websocket) => websocket.found_bytes(),
                Session::Stream(streaming) => {
                    streaming.reader.heap_bytes() + streaming.stream.feed.outbox.heap_bytes()
                }
            }
    }

    /// Heap that receiving `len` more bytes takes at most.
    pub(crate) fn growth(&self, len: usize) -> usize {
        match &self.session {
            Session::Http(reader) => reader.growth(len),
            Session::WebSocket(websocket) => websocket.reader.growth(len),
            Session::Stream(_) => 0,
        }
    }

    /// Gives back what a large request that is over has left.
    pub(crate) fn release(&mut self) {
        match &mut self.session {
            Session::Http(reader) => reader.release(),
            Session::WebSocket(websocket) => websocket.reader.trim(),
            Session::Stream(streaming) => streaming.reader.release(),
        }
    }

    fn owes_no_frames(&self) -> bool {
        match &self.session {
            Session::Http(_) => true,
            Session::WebSocket(websocket) => websocket.feed.outbox.is_empty(),
            Session::Stream(streaming) => streaming.stream.feed.outbox.is_empty(),
        }
    }

    /// Gives back heap that an idle connection does not need.
    pub(crate) fn trim(&mut self) {
        self.answers.trim(limits::IDLE_BUFFER_BYTES_MAX);
        if let Some(tls) = &mut self.tls {
            tls.trim();
        }
        match &mut self.session {
            Session::Http(reader) => reader.trim(),
            Session::WebSocket(websocket) => websocket.trim(),
            Session::Stream(streaming) => {
                streaming.reader.trim();
                streaming.stream.feed.trim();
            }
        }
    }
}
