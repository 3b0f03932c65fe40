//! What the client of a feed may see, and what becomes of its subscriptions when that changes.
//!
//! ```text
//! a change goes by ─▶ stale? ─▶ looked up ─▶ may the client see it?          at once
//! sweep            ─▶ stale? ─▶ subscriptions that name nothing else end     within half a second
//! ```
//!
//! While no namespace is private nothing is looked up.

use super::feed::Feed;
use crate::api::ApiError;
use crate::auth::Readable;
use crate::log::Log;
use crate::model::namespace_of;
use crate::service::Context;
use crate::service::catch_up::CatchUp;
use crate::service::patterns::are_readable;
use crate::service::subscribe::{Kind, PendingSubscription, Subscriber, Subscriptions, Version};
use crate::subscribe::{Filter, Patterns};

/// A subscription that ended because its client may see nothing of it any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AccessEnded {
    /// The client's `id` of its message, if that is known, JSON text.
    pub(crate) id: Option<Box<str>>,
    /// What it was to.
    pub(crate) patterns: Patterns,
}

impl Feed {
    /// Looks up what the client may see, unless that is known. What is kept for it and is hidden
    /// from it now is dropped.
    pub(crate) fn look_at_access<L>(&mut self, context: &Context<L>) {
        if !self.tokens.is_reader_stale(context) {
            return;
        }
        let reader = self.tokens.reader(context);
        let private = context.tenants.registry.private().clone();
        let readable = Readable::new(reader, private);
        if readable == self.subscriptions.readable {
            return;
        }
        let is_hidden = |id: &str| !readable.holds(id);
        self.outbox.drop_hidden(is_hidden);
        if let Some(client) = self.subscriptions.client() {
            client.drop_hidden(is_hidden);
        }
        self.subscriptions.readable = readable;
        self.has_other_access = true;
    }

    /// Whether the client may see a change of this entity.
    pub(crate) fn may_read<L>(&mut self, context: &Context<L>, id: &str) -> bool {
        if context.tenants.registry.private().is_empty() || namespace_of(id).is_none() {
            return true;
        }
        self.look_at_access(context);
        self.subscriptions.readable.holds(id)
    }

    /// Refuses a subscription that names nothing but what the client may not see.
    ///
    /// # Errors
    /// [`ApiError::TokenMissing`], [`ApiError::TokenUnknown`], [`ApiError::NotReadable`].
    pub(super) fn check_readable<L>(
        &mut self,
        context: &Context<L>,
        patterns: &Patterns,
    ) -> Result<(), ApiError> {
        self.look_at_access(context);
        if are_readable(&self.subscriptions.readable, patterns) {
            Ok(())
        } else {
            Err(self.tokens.refusal(context))
        }
    }

    /// Ends the subscriptions that name nothing any more that the client may see. Empty if what it
    /// may see is what it was.
    pub(crate) fn end_unreadable<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
    ) -> Vec<AccessEnded> {
        self.look_at_access(context);
        if !std::mem::take(&mut self.has_other_access) {
            return Vec::new();
        }
        let subscriptions = &mut self.subscriptions;
        subscriptions.reread_kept(context);
        let ended = subscriptions.end_unreadable(context, subscriber);
        if !ended.is_empty() {
            self.flush_paced();
        }
        ended
    }
}

impl Subscriptions {
    /// If streams of mode `event` have kept what the client may not see any more, they read the log
    /// in its place: there it is judged anew.
    pub(super) fn reread_kept<L>(&self, context: &mut Context<L>) {
        for index in self.event_streams() {
            let stream = context.streams.get_mut(index);
            let catch_up = stream.and_then(|stream| stream.catch_up.as_deref_mut());
            if let Some(tail) = catch_up.and_then(CatchUp::tail_mut) {
                tail.drop_hidden(|id| !self.readable.holds(id));
            }
        }
    }

    fn end_unreadable<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
    ) -> Vec<AccessEnded> {
        let is_hidden = |patterns: &&Patterns| !are_readable(&self.readable, patterns);
        let hidden: Vec<Patterns> = self.held.keys().filter(is_hidden).cloned().collect();
        let mut ended = Vec::new();
        for patterns in hidden {
            let mut ids = Vec::new();
            let of_these = |it: &mut PendingSubscription| it.patterns == patterns;
            for pending in self.pending.extract_if(.., of_these) {
                ids.extend(pending.id);
            }
            for version in self.held.remove(&patterns).unwrap_or_default() {
                ids.extend(forget_ack(context, &version));
                self.take_back(context, (subscriber, &patterns), &version);
            }
            self.discount(context);
            ids.sort_unstable();
            ids.dedup();
            let none = ids.is_empty().then_some(None);
            let ids = ids.into_iter().map(Some).chain(none);
            ended.extend(ids.map(|id| AccessEnded {
                id,
                patterns: patterns.clone(),
            }));
        }
        ended
    }
}

/// The error is the answer to a message that is not acknowledged. Returns the `id` of the message.
fn forget_ack<L>(context: &mut Context<L>, version: &Version) -> Option<Box<str>> {
    let Kind::Stream(index, _) = version.kind else {
        return None;
    };
    let stream = context.streams.get_mut(index)?;
    if let Some(catch_up) = stream.catch_up.as_deref_mut() {
        catch_up.ack = None;
    }
    stream.id.clone()
}

impl AccessEnded {
    /// The `entity_id` that it was to, if it was to one pattern.
    pub(crate) fn pattern(&self) -> Option<String> {
        match &self.patterns {
            Patterns::One(Filter::All) => Some("*".to_owned()),
            Patterns::One(Filter::Prefix(prefix)) => Some(format!("{prefix}*")),
            Patterns::One(Filter::Exact(id)) => Some(id.to_string()),
            Patterns::Several(_) => None,
        }
    }
}
