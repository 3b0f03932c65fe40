//! The subscriptions of one connection, as far as they catch up.

use super::catching::{Asker, Ended, To};
use crate::background::history::JobResult;
use crate::log::Log;
use crate::service::subscribe::{Kind, PendingSubscription, Subscriber, Subscriptions, Version};
use crate::service::{Context, Credentials};
use crate::shard::Reply;

impl Subscriptions {
    /// A subscription is in force: it begins to catch up if it has to. True if its acknowledgement
    /// follows later.
    pub(in crate::service) fn begin_catching<L: Log>(
        &mut self,
        context: &mut Context<L>,
        pending: &PendingSubscription,
        cursor: &str,
    ) -> bool {
        let versions = self.held.get(&pending.filter).into_iter().flatten();
        let kinds = versions.filter(|it| it.serial == pending.serial);
        let streams = kinds.filter_map(|version| match version.kind {
            Kind::Stream(index, _) => Some(index),
            Kind::Plain => None,
        });
        let Some(index) = streams.into_iter().next() else {
            return false;
        };
        let Some(stream) = context.streams.get_mut(index) else {
            return false;
        };
        stream.places.clone_from(&pending.places);
        let Some(catch_up) = stream.catch_up.as_deref_mut() else {
            return false;
        };
        let is_later = catch_up.put_in_force(cursor.to_owned(), &pending.places);
        self.catching.add(index);
        is_later
    }

    /// True if the client has not been told of all its subscriptions that what follows is live.
    pub(crate) fn is_under_way<L>(&self, context: &Context<L>) -> bool {
        let mut versions = self.held.values().flatten();
        versions.any(|version| match version.kind {
            Kind::Plain => false,
            Kind::Stream(index, _) => {
                let stream = context.streams.get(index);
                let catch_up = stream.and_then(|stream| stream.catch_up.as_ref());
                catch_up.is_some_and(|it| it.is_under_way())
            }
        })
    }

    /// True if a subscription may have something to catch up.
    pub(crate) fn is_catching_up(&self) -> bool {
        !self.catching.is_empty()
    }

    /// A stream reads the log from here on.
    pub(crate) fn fall_behind(&mut self, stream: u32) {
        self.catching.add(stream);
    }

    /// Goes on with what catches up. The subscription that has ended, if one has.
    pub(crate) fn catch_up<L: Log>(
        &mut self,
        context: &mut Context<L>,
        (subscriber, mut to): (Subscriber, To<'_>),
        credentials: Credentials<'_>,
    ) -> Option<Ended> {
        let asker = Asker {
            subscriber,
            address: self.address,
            credentials,
        };
        let ended = self.catching.advance(context, asker, &mut to);
        self.end_stream(context, subscriber, ended)
    }

    /// Takes an answer to what [`Subscriptions::catch_up`] asked.
    pub(crate) fn take_answer<L: Log>(
        &mut self,
        context: &mut Context<L>,
        (subscriber, mut to): (Subscriber, To<'_>),
        reply: (u32, u16, Reply),
    ) -> Option<Ended> {
        let ended = self.catching.on_reply(context, subscriber, reply, &mut to);
        self.end_stream(context, subscriber, ended)
    }

    /// The same of what was read of the logs.
    pub(crate) fn take_history<L: Log>(
        &mut self,
        context: &mut Context<L>,
        (subscriber, mut to): (Subscriber, To<'_>),
        result: (u32, JobResult),
    ) -> Option<Ended> {
        let ended = self.catching.on_history(context, result, &mut to);
        self.end_stream(context, subscriber, ended)
    }

    /// A subscription that can't go on is taken back.
    fn end_stream<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        ended: Option<Ended>,
    ) -> Option<Ended> {
        let ended = ended?;
        let filter = context.streams.get(ended.stream)?.pattern.clone();
        let versions = self.held.get_mut(&filter)?;
        let is_it = |version: &Version| matches!(version.kind, Kind::Stream(index, _) if index == ended.stream);
        let version = versions.remove(versions.iter().position(is_it)?);
        if versions.is_empty() {
            self.held.remove(&filter);
            self.discount(context);
        }
        self.take_back(context, (subscriber, &filter), &version);
        Some(ended)
    }
}
