//! The subscriptions of one connection.
//!
//! A subscription is in force when every shard that it concerns has said so; then it is
//! acknowledged. Changes that arrive before that belong to it already.

use super::Context;
use crate::api::ApiError;
use crate::limits;
use crate::log::Log;
use crate::shard::{Exhausted, Reply, RequestId, ShardRequest};
use crate::subscribe::Filter;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

/// See the module.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    filters: BTreeSet<Filter>,
    pending: Vec<PendingSubscription>,
    last_serial: u32,
    /// Where the client is.
    address: Option<IpAddr>,
}

/// A subscription that not every shard has confirmed.
#[derive(Debug)]
struct PendingSubscription {
    serial: u32,
    /// The client's `id` of the message, JSON text.
    id: Option<Box<str>>,
    filter: Filter,
    waiting: u16,
}

/// The connection that subscribes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscriber {
    /// Its index on this core.
    pub(crate) index: u32,
    /// How often that index was handed out.
    pub(crate) generation: u32,
}

impl Subscriber {
    /// The id of the request with this serial.
    pub(crate) fn request_id(self, serial: u32) -> RequestId {
        RequestId {
            connection: self.index,
            generation: self.generation,
            serial,
        }
    }
}

/// Whether a change of subscriptions is in force already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InForce {
    Now,
    Later,
}

/// What became of a subscription: the client's `id` of its message, and why it is not in force if
/// it is not.
pub(crate) type Verdict = (Option<Box<str>>, Result<(), ApiError>);

impl Subscriptions {
    /// None yet. `address`: where the client is.
    pub(crate) fn new(address: Option<IpAddr>) -> Self {
        Self {
            filters: BTreeSet::new(),
            pending: Vec::new(),
            last_serial: 0,
            address,
        }
    }

    /// Subscribes to what a pattern names.
    ///
    /// # Errors
    /// If nothing is subscribed: a bad pattern, a bound, or a shard that can't be asked.
    pub(crate) fn subscribe<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        (pattern, id): (&str, Option<Box<str>>),
    ) -> Result<InForce, ApiError> {
        let filter = parse(pattern)?;
        let limit = limits::SUBSCRIPTIONS_PER_CONNECTION_MAX;
        if self.pending.len() >= limit {
            return Err(ApiError::TooManySubscriptions { limit });
        }
        let subscribed = self.filters.contains(&filter);
        // The last one: an earlier one may have been taken back before it was in force.
        let same = |pending: &&PendingSubscription| pending.filter == filter;
        let pending = self.pending.iter().rfind(same);
        if subscribed && let Some(pending) = pending {
            // The same subscription again before the first is in force: answered together with it.
            let (serial, waiting) = (pending.serial, pending.waiting);
            self.pending.push(PendingSubscription {
                serial,
                id,
                filter,
                waiting,
            });
            return Ok(InForce::Later);
        }
        if subscribed {
            return Ok(InForce::Now);
        }
        if self.filters.len() >= limit {
            return Err(ApiError::TooManySubscriptions { limit });
        }
        self.count(context)?;
        let asked = self.ask_shards(context, subscriber, &filter);
        let waiting = asked.inspect_err(|_| self.discount(context))?;
        context.subscribers.subscribe(subscriber.index, &filter);
        self.filters.insert(filter.clone());
        self.pending.push(PendingSubscription {
            serial: self.last_serial,
            id,
            filter,
            waiting,
        });
        Ok(InForce::Later)
    }

    /// Asks every shard concerned; if one can't be asked, takes the subscription back at those
    /// before it. Returns how many will answer.
    fn ask_shards<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        filter: &Filter,
    ) -> Result<u16, ApiError> {
        // The upper half of the serials is for requests.
        self.last_serial = self.last_serial.wrapping_add(1) & (u32::MAX >> 1);
        let request_id = subscriber.request_id(self.last_serial);
        let router = &mut context.router;
        let shards = router.shards_of(filter);
        for (asked, shard) in (0..).zip(shards.clone()) {
            let request = ShardRequest::Subscribe(filter.clone());
            if let Err(error) = router.ask(shard, request_id, request) {
                for shard in shards.take(asked) {
                    router.unsubscribe(shard, request_id, filter.clone());
                }
                return Err(error);
            }
        }
        Ok(shards.end - shards.start)
    }

    /// Takes back the subscription to what a pattern names.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn unsubscribe<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        pattern: &str,
    ) -> Result<(), ApiError> {
        let filter = parse(pattern)?;
        if !self.filters.remove(&filter) {
            return Err(ApiError::NotSubscribed);
        }
        self.discount(context);
        take_back(context, subscriber, &filter);
        Ok(())
    }

    /// Takes a shard's word that a subscription is in force there, or that it can't be. Returns the
    /// messages that can be answered now.
    pub(crate) fn resume<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        (serial, reply): (u32, &Reply),
    ) -> Vec<Verdict> {
        let refused = match reply {
            Reply::Refused(error) => Some(error),
            _ => None,
        };
        let mut over = Vec::new();
        let of_this = |pending: &&mut PendingSubscription| pending.serial == serial;
        for pending in self.pending.iter_mut().filter(of_this) {
            pending.waiting = match refused {
                Some(_) => 0,
                None => pending.waiting.saturating_sub(1),
            };
        }
        self.pending.retain_mut(|pending| {
            let done = pending.waiting == 0;
            if done {
                over.push((pending.id.take(), pending.filter.clone()));
            }
            !done
        });
        let mut verdicts = Vec::new();
        for (id, filter) in over {
            let Some(error) = refused else {
                verdicts.push((id, Ok(())));
                continue;
            };
            let again = self.pending.iter().any(|pending| pending.filter == filter);
            if !again && self.filters.remove(&filter) {
                self.discount(context);
                take_back(context, subscriber, &filter);
            }
            verdicts.push((id, Err(error.clone())));
        }
        verdicts
    }

    /// Takes every subscription back: the connection ends.
    pub(crate) fn leave<L: Log>(&mut self, context: &mut Context<L>, subscriber: Subscriber) {
        for filter in std::mem::take(&mut self.filters) {
            self.discount(context);
            take_back(context, subscriber, &filter);
        }
    }

    /// Gives back heap that an idle connection does not need.
    pub(crate) fn trim(&mut self) {
        self.pending.shrink_to_fit();
    }

    /// Counts one more subscription, of all connections and of the client's address.
    fn count<L>(&self, context: &Context<L>) -> Result<(), ApiError> {
        let (runtime, counters) = (&context.tenants.runtime, &context.counters);
        let limit = runtime.max_subscriptions;
        if counters.subscriptions() >= u64::from(limit) {
            let holder = "all connections together hold";
            return Err(ApiError::SubscriptionsExhausted { holder, limit });
        }
        let limit = runtime.max_subscriptions_per_address;
        let added = match self.address {
            None => Ok(()),
            Some(address) => counters.subscribed.add(address, limit),
        };
        added.map_err(|Exhausted| ApiError::SubscriptionsExhausted {
            holder: "the connections from one address hold",
            limit,
        })?;
        let own = counters.of(context.router.core);
        own.subscriptions.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Counts one less.
    fn discount<L>(&self, context: &Context<L>) {
        let own = context.counters.of(context.router.core);
        own.subscriptions.fetch_sub(1, Relaxed);
        if let Some(address) = self.address {
            context.counters.subscribed.remove(address);
        }
    }
}

/// Takes a subscription back on this core and at every shard that it concerns.
fn take_back<L: Log>(context: &mut Context<L>, subscriber: Subscriber, filter: &Filter) {
    context.subscribers.unsubscribe(subscriber.index, filter);
    let request_id = subscriber.request_id(0);
    for shard in context.router.shards_of(filter) {
        let router = &mut context.router;
        router.unsubscribe(shard, request_id, filter.clone());
    }
}

fn parse(pattern: &str) -> Result<Filter, ApiError> {
    Filter::parse(pattern).or(Err(ApiError::InvalidField {
        field: "entity_id",
        rule: "an id, `*`, or a prefix and `*`; at most 512 bytes without control characters",
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestCores;
    use super::*;

    const SUBSCRIBER: Subscriber = Subscriber {
        index: 3,
        generation: 1,
    };

    fn subscribe(cores: &mut TestCores, to: &mut Subscriptions, pattern: &str) -> InForce {
        let call = (pattern, Some("1".into()));
        to.subscribe(cores.context(0), SUBSCRIBER, call).unwrap()
    }

    #[test]
    fn a_subscription_is_in_force_when_every_shard_concerned_has_said_so() {
        let mut cores = TestCores::new(2);
        let mut subscriptions = Subscriptions::new(None);
        assert_eq!(
            subscribe(&mut cores, &mut subscriptions, "*"),
            InForce::Later
        );
        let reply = (1, &Reply::Subscribed);
        let context = cores.context(0);
        assert_eq!(subscriptions.resume(context, SUBSCRIBER, reply), []);
        let verdict = (Some("1".into()), Ok(()));
        assert_eq!(subscriptions.resume(context, SUBSCRIBER, reply), [verdict]);
        assert_eq!(subscribe(&mut cores, &mut subscriptions, "*"), InForce::Now);
        assert_eq!(cores.context(0).counters.subscriptions(), 1);
        subscriptions.leave(cores.context(0), SUBSCRIBER);
        assert_eq!(cores.context(0).counters.subscriptions(), 0);
    }

    #[test]
    fn one_that_a_shard_rejects_is_taken_back_and_counts_nothing() {
        let mut cores = TestCores::new(2);
        let mut subscriptions = Subscriptions::new(None);
        subscribe(&mut cores, &mut subscriptions, "n/*");
        let refused = Reply::Refused(ApiError::Overloaded);
        let context = cores.context(0);
        let verdict = (Some("1".into()), Err(ApiError::Overloaded));
        let resumed = subscriptions.resume(context, SUBSCRIBER, (1, &refused));
        assert_eq!(resumed, [verdict]);
        assert_eq!(context.counters.subscriptions(), 0);
        let gone = subscriptions.unsubscribe(context, SUBSCRIBER, "n/*");
        assert_eq!(gone, Err(ApiError::NotSubscribed));
    }

    #[test]
    fn beyond_the_bound_nothing_is_subscribed() {
        let mut cores = TestCores::new(1);
        cores.context(0).tenants.runtime.max_subscriptions = 1;
        let mut subscriptions = Subscriptions::new(None);
        subscribe(&mut cores, &mut subscriptions, "a");
        let second = subscriptions.subscribe(cores.context(0), SUBSCRIBER, ("b", None));
        assert!(matches!(
            second,
            Err(ApiError::SubscriptionsExhausted { .. })
        ));
        subscriptions
            .unsubscribe(cores.context(0), SUBSCRIBER, "a")
            .unwrap();
        assert_eq!(
            subscribe(&mut cores, &mut subscriptions, "b"),
            InForce::Later
        );
    }
}
