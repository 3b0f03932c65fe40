//! What one subscriber is sent: its subscriptions, and the outbox that their messages go to. The
//! same for every protocol that pushes; only how a message is framed differs.

use super::access::AccessEnded;
use super::catching::{Ended, To};
use super::client::Pushed;
use super::frames::{Current, Frames, Framing};
use super::wanted::Wanted;
use crate::api::client_message::Subscribe;
use crate::api::stream_options::StreamOptions;
use crate::api::{ApiError, encode, stream_encode};
use crate::background::history::JobResult;
use crate::limits;
use crate::log::Log;
use crate::service::patterns::parse;
use crate::service::subscribe::{InForce, Subscriber, Subscriptions};
use crate::service::{ConnectionTokens, Context, KeptToken};
use crate::shard::{MemoryHolders, Reply};
use crate::subscribe::{Outbox, OutboxLimits, Overflow, Patterns};
use std::net::IpAddr;

/// See the module.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Frames for the client.
    pub(crate) outbox: Outbox,
    pub(crate) subscriptions: Subscriptions,
    /// What the client has presented.
    pub(crate) tokens: ConnectionTokens,
    /// What it may see is another than when its subscriptions were judged by that.
    pub(super) has_other_access: bool,
    framing: Framing,
}

impl Feed {
    /// Without subscriptions. `client`: where the client is, and who is answerable for what it
    /// holds in memory.
    pub(crate) fn new(
        client: (Option<IpAddr>, MemoryHolders),
        token: Option<KeptToken>,
        framing: Framing,
    ) -> Self {
        Self {
            tokens: ConnectionTokens::new(token),
            has_other_access: false,
            outbox: Outbox::new(OutboxLimits::default()),
            subscriptions: Subscriptions::new(client, framing),
            framing,
        }
    }

    /// Sends a frame behind all that is owed. An overflow shows in [`Outbox::overflowed`].
    pub(crate) fn send(&mut self, frame: &[u8]) {
        match self.outbox.push_control(frame) {
            Ok(()) | Err(_) => {}
        }
    }

    /// Says that a subscription can't go on. In order with what was sent for it and with cursors:
    /// it does not wait for the answers to other messages.
    pub(crate) fn tell_end(&mut self, ended: &Ended) {
        let (id, error) = (ended.id.as_deref(), &ended.error);
        let mut frame = Vec::new();
        (self.framing.frame)(&mut frame, &mut |out| {
            encode::error_message(out, id, &error.to_string(), error.code());
        });
        self.send(&frame);
    }

    /// Says that a subscription has ended because the client may see nothing of it any more.
    pub(crate) fn tell_access_ended(&mut self, ended: &AccessEnded) {
        let (id, pattern) = (ended.id.as_deref(), ended.pattern());
        let mut frame = Vec::new();
        (self.framing.frame)(&mut frame, &mut |out| {
            stream_encode::access_ended(out, id, pattern.as_deref());
        });
        self.send(&frame);
    }

    /// Subscribes to what a message names.
    ///
    /// # Errors
    /// As [`Subscriptions::subscribe`], and if the client may see nothing of it.
    pub(crate) fn subscribe<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        (subscribe, id): (&Subscribe, Option<Box<str>>),
    ) -> Result<InForce, ApiError> {
        let patterns = Patterns::One(parse(&subscribe.pattern)?);
        self.subscribe_to(context, subscriber, (patterns, &subscribe.options, id))
    }

    /// Subscribes to patterns, which are one subscription.
    ///
    /// # Errors
    /// As [`Feed::subscribe`].
    pub(crate) fn subscribe_to<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        (patterns, options, id): (Patterns, &StreamOptions, Option<Box<str>>),
    ) -> Result<InForce, ApiError> {
        self.check_readable(context, &patterns)?;
        let call = (patterns, options, id);
        self.subscriptions.subscribe_to(context, subscriber, call)
    }

    /// Pushes what the client's streams want of a change.
    ///
    /// # Errors
    /// [`Overflow`].
    pub(crate) fn push<'s>(
        &mut self,
        current: &Current<'_>,
        wanted: &Wanted<'s>,
        frames: &mut Frames<'s, '_>,
        now_micros: u64,
    ) -> Result<Pushed, Overflow> {
        frames.frame_by(self.framing);
        let client = self.subscriptions.client_of_stream();
        client.push(&mut self.outbox, (current, wanted), frames, now_micros)
    }

    /// Pushes what was kept for the pace of a stream that is gone. An overflow shows as in
    /// [`Feed::send`].
    pub(crate) fn flush_paced(&mut self) {
        match self.subscriptions.flush_paced(&mut self.outbox) {
            Ok(()) | Err(_) => {}
        }
    }

    /// A change is pushed to a plain subscription. True if a cursor follows it.
    pub(crate) fn note_pushed(&mut self, now_micros: u64) -> bool {
        let client = self.subscriptions.client();
        client.map(|it| it.note_pushed(now_micros)).is_some()
    }

    /// When the core has to look at the streams, if it does not know that yet.
    pub(crate) fn next_timer(&mut self) -> Option<u64> {
        self.subscriptions.client()?.next_timer()
    }

    /// True if it has to be looked at a little later, because a shard is too busy now.
    pub(crate) fn take_pause(&mut self) -> bool {
        self.subscriptions.take_pause()
    }

    /// The core looks at the streams: what was paced is sent, and a cursor.
    ///
    /// # Errors
    /// [`Overflow`].
    pub(crate) fn on_timer<L: Log>(
        &mut self,
        context: &Context<L>,
        now_micros: u64,
    ) -> Result<(), Overflow> {
        self.look_at_access(context);
        self.subscriptions.wake();
        let Some(client) = self.subscriptions.client() else {
            return Ok(());
        };
        let is_due = client.on_timer(&mut self.outbox, now_micros)?;
        if is_due && let Some(cursor) = self.subscriptions.next_cursor(context) {
            let mut frame = Vec::new();
            (self.framing.frame)(&mut frame, &mut |out| stream_encode::cursor(out, &cursor));
            self.outbox.push_cursor(&frame)?;
            if let Some(client) = self.subscriptions.client() {
                client.note_cursor(&self.outbox);
            }
        }
        Ok(())
    }

    /// Lets the subscriptions that catch up go on. The one that has ended, if one has.
    pub(crate) fn catch_up<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
    ) -> Option<Ended> {
        self.look_at_access(context);
        if self.has_other_access {
            self.subscriptions.reread_kept(context);
        }
        let credentials = self.tokens.credentials(context);
        let to = To {
            outbox: &mut self.outbox,
            framing: self.framing,
        };
        self.subscriptions
            .catch_up(context, (subscriber, to), credentials)
    }

    /// Takes an answer to what [`Feed::catch_up`] asked.
    pub(crate) fn take_answer<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        reply: (u32, u16, Reply),
    ) -> Option<Ended> {
        self.look_at_access(context);
        let to = To {
            outbox: &mut self.outbox,
            framing: self.framing,
        };
        self.subscriptions
            .take_answer(context, (subscriber, to), reply)
    }

    /// The same of what was read of the logs.
    pub(crate) fn take_history<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        result: (u32, JobResult),
    ) -> Option<Ended> {
        self.look_at_access(context);
        let to = To {
            outbox: &mut self.outbox,
            framing: self.framing,
        };
        self.subscriptions
            .take_history(context, (subscriber, to), result)
    }

    /// A stream reads the log from here on.
    pub(crate) fn fall_behind(&mut self, stream: u32) {
        self.subscriptions.fall_behind(stream);
    }

    /// Why a client that is too far behind is sent away: the bound, and the last cursor that it was
    /// sent, if all of it fits so many bytes.
    pub(crate) fn behind_reason(&mut self, reason: &str, len_max: usize) -> String {
        let mut reason = reason.to_owned();
        match self.outbox.overflow() {
            Some(Overflow::Bytes) => reason.push_str(": it is owed more than 4 MiB"),
            Some(Overflow::Entries) => reason.push_str(": it is owed more than 65536 messages"),
            Some(Overflow::Memory) | None => {}
        }
        if let Some(client) = self.subscriptions.client() {
            let cursor = client.last_cursor(&self.outbox);
            let tail = format!("; cursor {cursor}");
            if !cursor.is_empty() && reason.len() + tail.len() <= len_max {
                reason.push_str(&tail);
            }
        }
        reason
    }

    /// True if the client is owed more than a little.
    pub(crate) fn is_owed_much(&self) -> bool {
        self.outbox.is_large() || self.keeps_much()
    }

    /// True if the streams keep more than a client that is paced a little.
    pub(crate) fn keeps_much(&self) -> bool {
        self.subscriptions.heap_bytes() > limits::MEMORY_UNCOUNTED_BYTES_MAX
    }

    /// Drops what the client is owed: there is no memory for it.
    pub(crate) fn give_up(&mut self) {
        self.subscriptions.give_up(&self.outbox);
        self.outbox.give_up();
    }

    /// Heap of what the client is owed.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.outbox.heap_bytes() + self.subscriptions.heap_bytes()
    }

    /// Gives back heap that an idle client does not need.
    pub(crate) fn trim(&mut self) {
        self.outbox.trim();
        self.subscriptions.trim();
    }
}
