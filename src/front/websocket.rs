//! One WebSocket session: messages in, subscriptions kept, frames owed.
//!
//! A subscription is in force when every shard that it concerns has said so; then it is acknowledged. Changes that
//! arrive before that belong to it already.

use crate::api::subscription::{Action, ClientMessage, parse};
use crate::api::{ApiError, encode};
use crate::limits;
use crate::service::address_limiter::Exhausted;
use crate::service::context::Hub;
use crate::shard::{Reply, RequestId, ShardRequest};
use crate::subscribe::{Filter, Outbox, OutboxLimits};
use crate::wire::ws::{self, Message, MessageReader, WsError, write_text};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

/// Close code of a server that stops (RFC 6455 §7.4.1).
pub(crate) const GOING_AWAY: u16 = 1001;
/// Close code of a client that reads too slowly (registered by IANA, "Try Again Later").
pub(crate) const TRY_AGAIN_LATER: u16 = 1013;
const NORMAL: u16 = 1000;

/// See the module.
#[derive(Debug)]
pub(crate) struct WebSocket {
    /// What has arrived of the next message.
    pub(crate) reader: MessageReader,
    /// What the client is owed.
    pub(crate) outbox: Outbox,
    /// It wants `metrics_update` messages.
    pub(crate) metrics: bool,
    subscriptions: BTreeSet<Filter>,
    /// Where the client is.
    address: Option<IpAddr>,
    pending: Vec<PendingSubscription>,
    next_slot: u32,
    /// When it was last pinged without having been heard of since, monotonic milliseconds.
    pinged_ms: Option<u64>,
}

/// A subscription that not every shard has confirmed.
#[derive(Debug)]
struct PendingSubscription {
    slot: u32,
    id: Option<Box<str>>,
    filter: Filter,
    waiting: u16,
}

/// Whom a session belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    /// The connection's index.
    pub(crate) index: u32,
    /// How often it was handed out.
    pub(crate) generation: u32,
}

impl Owner {
    fn request_id(self, slot: u32) -> RequestId {
        RequestId {
            connection: self.index,
            generation: self.generation,
            slot,
        }
    }
}

/// What the connection does after the session was fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Goes on.
    Go,
    /// A close frame is owed; the connection ends when it is sent.
    Close,
}

impl WebSocket {
    /// A session without subscriptions.
    pub(crate) fn new(metrics: bool, address: Option<IpAddr>) -> Self {
        Self {
            reader: MessageReader::default(),
            outbox: Outbox::new(OutboxLimits::default()),
            metrics,
            subscriptions: BTreeSet::new(),
            address,
            pending: Vec::new(),
            next_slot: 0,
            pinged_ms: None,
        }
    }

    /// Works on what has arrived.
    pub(crate) fn serve(&mut self, hub: &mut Hub, owner: Owner) -> After {
        self.pinged_ms = None;
        loop {
            if self.outbox.overflowed() {
                return self.close(TRY_AGAIN_LATER, SLOW_READER);
            }
            let message = match self.reader.next() {
                Ok(None) => return After::Go,
                Ok(Some(message)) => message,
                Err(error) => return self.fail(error),
            };
            match message {
                Message::Text(text) => {
                    let message = parse(text);
                    self.act(hub, owner, message);
                }
                Message::Ping(payload) => {
                    let mut frame = Vec::new();
                    ws::write_pong(&mut frame, payload);
                    self.owe(&frame);
                }
                Message::Pong(_) => {}
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

    /// Owes a close frame, and nothing after it.
    pub(crate) fn close(&mut self, code: u16, reason: &str) -> After {
        let mut frame = Vec::new();
        ws::write_close(&mut frame, code, reason);
        self.outbox.close(&frame);
        After::Close
    }

    /// An overflow shows in [`Outbox::overflowed`]; the next look at the session closes it for that.
    fn owe(&mut self, frame: &[u8]) {
        match self.outbox.push_control(frame) {
            Ok(()) | Err(_) => {}
        }
    }

    fn owe_text(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let (mut text, mut frame) = (Vec::new(), Vec::new());
        write(&mut text);
        write_text(&mut frame, &text);
        self.owe(&frame);
    }

    fn act(&mut self, hub: &mut Hub, owner: Owner, message: ClientMessage) {
        let ClientMessage { id, action } = message;
        let done = match action {
            Ok(Action::Ping) => {
                self.owe_text(|out| encode::answer(out, "pong", id.as_deref()));
                return;
            }
            Ok(Action::Subscribe(pattern)) => self.subscribe(hub, owner, &pattern, id.clone()),
            Ok(Action::Unsubscribe(pattern)) => self.unsubscribe(hub, owner, &pattern),
            Err(error) => Err(error),
        };
        match done {
            Ok(Done::Now) => self.acknowledge(id.as_deref()),
            Ok(Done::Later) => {}
            Err(error) => self.refuse(id.as_deref(), &error),
        }
    }

    fn acknowledge(&mut self, id: Option<&str>) {
        if id.is_some() {
            self.owe_text(|out| encode::answer(out, "ack", id));
        }
    }

    fn refuse(&mut self, id: Option<&str>, error: &ApiError) {
        self.owe_text(|out| encode::error_message(out, id, &error.to_string(), error.code()));
    }

    fn subscribe(
        &mut self,
        hub: &mut Hub,
        owner: Owner,
        pattern: &str,
        id: Option<Box<str>>,
    ) -> Result<Done, ApiError> {
        let filter = filter(pattern)?;
        let limit = limits::SUBSCRIPTIONS_PER_CONNECTION_MAX;
        if self.pending.len() >= limit {
            return Err(ApiError::TooManySubscriptions { limit });
        }
        let subscribed = self.subscriptions.contains(&filter);
        // The last one: an earlier one may have been taken back before it was in force.
        let pending = self
            .pending
            .iter()
            .rfind(|pending| pending.filter == filter);
        if subscribed && let Some(pending) = pending {
            // The same subscription again before the first is in force: answered together with it.
            let (slot, waiting) = (pending.slot, pending.waiting);
            self.pending.push(PendingSubscription {
                slot,
                id,
                filter,
                waiting,
            });
            return Ok(Done::Later);
        }
        if subscribed {
            return Ok(Done::Now);
        }
        if self.subscriptions.len() >= limit {
            return Err(ApiError::TooManySubscriptions { limit });
        }
        self.count(hub)?;
        self.next_slot = self.next_slot.wrapping_add(1);
        let slot = self.next_slot;
        let shards = hub.shards_of(&filter);
        for (asked, shard) in (0..).zip(shards.clone()) {
            let asking = hub.ask(
                shard,
                owner.request_id(slot),
                ShardRequest::Subscribe(filter.clone()),
            );
            if let Err(error) = asking {
                for shard in shards.take(asked) {
                    hub.unsubscribe(shard, owner.request_id(slot), filter.clone());
                }
                self.discount(hub);
                return Err(error);
            }
        }
        let waiting = shards.end - shards.start;
        hub.subscribers.subscribe(owner.index, &filter);
        self.subscriptions.insert(filter.clone());
        self.pending.push(PendingSubscription {
            slot,
            id,
            filter,
            waiting,
        });
        Ok(Done::Later)
    }

    fn unsubscribe(
        &mut self,
        hub: &mut Hub,
        owner: Owner,
        pattern: &str,
    ) -> Result<Done, ApiError> {
        let filter = filter(pattern)?;
        if !self.subscriptions.remove(&filter) {
            return Err(ApiError::NotSubscribed);
        }
        self.discount(hub);
        take_back(hub, owner, &filter);
        Ok(Done::Now)
    }

    /// Counts one more subscription, of all connections and of the client's address.
    fn count(&self, hub: &Hub) -> Result<(), ApiError> {
        let limit = hub.runtime.max_subscriptions;
        if hub.shared.subscriptions() >= u64::from(limit) {
            let holder = "all connections together hold";
            return Err(ApiError::SubscriptionsExhausted { holder, limit });
        }
        let limit = hub.runtime.max_subscriptions_per_address;
        let added = match self.address {
            None => Ok(()),
            Some(address) => hub.shared.subscribed.add(address, limit),
        };
        added.map_err(|Exhausted| ApiError::SubscriptionsExhausted {
            holder: "the connections from one address hold",
            limit,
        })?;
        let counters = hub.shared.of(hub.core);
        counters.subscriptions.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Counts one less.
    fn discount(&self, hub: &Hub) {
        let counters = hub.shared.of(hub.core);
        counters.subscriptions.fetch_sub(1, Relaxed);
        if let Some(address) = self.address {
            hub.shared.subscribed.remove(address);
        }
    }

    /// Takes a shard's word that a subscription is in force there, or that it can't be.
    pub(crate) fn on_reply(&mut self, hub: &mut Hub, owner: Owner, slot: u32, reply: &Reply) {
        let refused = match reply {
            Reply::Refused(error) => Some(error.clone()),
            _ => None,
        };
        let mut settled = Vec::new();
        for pending in self
            .pending
            .iter_mut()
            .filter(|pending| pending.slot == slot)
        {
            pending.waiting = if refused.is_some() {
                0
            } else {
                pending.waiting.saturating_sub(1)
            };
        }
        self.pending.retain_mut(|pending| {
            let done = pending.waiting == 0;
            if done {
                settled.push((pending.id.take(), pending.filter.clone()));
            }
            !done
        });
        for (id, filter) in settled {
            match &refused {
                None => self.acknowledge(id.as_deref()),
                Some(error) => {
                    let again = self.pending.iter().any(|pending| pending.filter == filter);
                    if !again && self.subscriptions.remove(&filter) {
                        self.discount(hub);
                        take_back(hub, owner, &filter);
                    }
                    self.refuse(id.as_deref(), error);
                }
            }
        }
    }

    /// Takes every subscription back: the connection ends.
    pub(crate) fn leave(&mut self, hub: &mut Hub, owner: Owner) {
        for filter in std::mem::take(&mut self.subscriptions) {
            self.discount(hub);
            take_back(hub, owner, &filter);
        }
    }

    /// Pings a client that was not heard of for long; true where one did not answer that and is taken for dead.
    pub(crate) fn is_dead(&mut self, now_ms: u64, received_ms: u64) -> bool {
        if let Some(pinged) = self.pinged_ms {
            now_ms.saturating_sub(pinged) > limits::WEBSOCKET_PONG_SECONDS * 1000
        } else {
            if now_ms.saturating_sub(received_ms) > limits::WEBSOCKET_PING_SECONDS * 1000 {
                self.pinged_ms = Some(now_ms);
                let mut frame = Vec::new();
                ws::write_ping(&mut frame, b"");
                self.owe(&frame);
            }
            false
        }
    }

    /// Gives back heap that an idle session does not need.
    pub(crate) fn trim(&mut self) {
        self.reader.trim();
        self.outbox.trim();
        self.pending.shrink_to_fit();
    }
}

/// Takes a subscription back on this core and at every shard that it concerns.
fn take_back(hub: &mut Hub, owner: Owner, filter: &Filter) {
    hub.subscribers.unsubscribe(owner.index, filter);
    for shard in hub.shards_of(filter) {
        hub.unsubscribe(shard, owner.request_id(0), filter.clone());
    }
}

fn filter(pattern: &str) -> Result<Filter, ApiError> {
    Filter::parse(pattern).or(Err(ApiError::InvalidField {
        field: "entity_id",
        rule: "an id, `*`, or a prefix and `*`; at most 512 bytes without control characters",
    }))
}

/// Whether an action can be acknowledged already.
#[derive(Debug, Clone, Copy)]
enum Done {
    Now,
    Later,
}

/// Why a slow reader is closed.
pub(crate) const SLOW_READER: &str = "the client reads too slowly";
