//! The subscriptions of one connection.
//!
//! A subscription is in force when every shard that it concerns has said so; then it is
//! acknowledged. Changes that arrive before that belong to it already.
//!
//! Subscribing again to the same pattern makes a second *version* of the subscription. The first
//! one goes when the second is in force; if the second is refused, the first stays.

use super::Context;
use super::catch_up::CatchUp;
use super::patterns::{parse, questions, shards_of};
use super::streams::{Catching, Client, Fate, Framing, Stream, ack_cursor, cursor_text};
use super::subscription_bounds::{self as bounds, SubscriptionMemory, bytes_of};
use crate::api::ApiError;
#[cfg(test)]
use crate::api::client_message::Subscribe;
use crate::api::stream_options::StreamOptions;
use crate::auth::Readable;
use crate::limits;
use crate::log::Log;
use crate::model::CursorTooNarrow;
use crate::shard::{MemoryHolders, Reply, RequestId, ShardRequest};
use crate::subscribe::{Outbox, Overflow, Patterns};
use flux_storage::Sequence;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Set in the serials of what is asked to subscribe. Those of requests and of what is asked to
/// catch up have higher bits, those of HTTP requests lower ones.
pub(super) const SUBSCRIPTION_BIT: u32 = 1 << 29;

/// See the module.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    /// By pattern, the oldest first; never none.
    pub(super) held: BTreeMap<Patterns, Vec<Version>>,
    pub(super) pending: Vec<PendingSubscription>,
    last_serial: u32,
    /// Where the client is.
    pub(super) address: Option<IpAddr>,
    /// What it has besides, once a subscription asks for more than a plain one.
    pub(super) client: Option<Box<Client>>,
    /// What is paced has to be sent: the stream that paced it is gone.
    flushes: bool,
    /// The subscriptions that catch up.
    pub(super) catching: Catching,
    /// The answers to messages whose subscriptions are gone before they were acknowledged.
    pub(super) unanswered: Vec<Verdict>,
    /// How the client is sent messages.
    framing: Framing,
    /// What the client may see, as its feed last looked at it.
    pub(super) readable: Readable,
    memory: SubscriptionMemory,
}

/// A subscription as one message asked for it.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) serial: u32,
    pub(super) kind: Kind,
    is_extended: bool,
    /// The places from which on its shards tell it, once it is in force.
    places: Box<[Sequence]>,
    /// What it takes in memory.
    bytes: usize,
}

/// How the changes of a subscription come.
#[derive(Debug)]
pub(super) enum Kind {
    /// Each property of each change.
    Plain,
    /// By this one of the core's streams.
    Stream(u32, Arc<StreamOptions>),
}

impl Version {
    /// True if the logs are looked at before it takes the place of earlier ones.
    fn is_checked_first<L>(&self, context: &Context<L>) -> bool {
        let Kind::Stream(index, _) = self.kind else {
            return false;
        };
        let catch_up = context
            .streams
            .get(index)
            .and_then(|it| it.catch_up.as_deref());
        catch_up.is_some_and(|it| it.after.is_some())
    }
}

impl Kind {
    fn options(&self) -> Option<&StreamOptions> {
        match self {
            Self::Plain => None,
            Self::Stream(_, options) => Some(options),
        }
    }
}

/// A message whose subscription not every shard has confirmed.
#[derive(Debug)]
pub(super) struct PendingSubscription {
    pub(super) serial: u32,
    /// The client's `id` of the message, JSON text.
    pub(super) id: Option<Box<str>>,
    pub(super) patterns: Patterns,
    /// Answers that have not come: one of each shard to each pattern.
    waiting: usize,
    /// What the shards have said, from the first of them on.
    pub(super) places: Box<[Sequence]>,
    first_shard: u16,
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

/// What became of a subscription.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The client's `id` of its message.
    pub(crate) id: Option<Box<str>>,
    /// The cursor of its acknowledgement, if that has one, or why it is not in force.
    pub(crate) result: Result<Option<String>, ApiError>,
}

impl Subscriptions {
    /// None yet. `address`: where the client is. `holders`: who is answerable for their memory.
    pub(crate) fn new(
        (address, holders): (Option<IpAddr>, MemoryHolders),
        framing: Framing,
    ) -> Self {
        Self {
            held: BTreeMap::new(),
            pending: Vec::new(),
            last_serial: 0,
            address,
            client: None,
            flushes: false,
            catching: Catching::default(),
            unanswered: Vec::new(),
            framing,
            readable: Readable::all(),
            memory: SubscriptionMemory::new(holders),
        }
    }

    /// Subscribes to what a pattern names, whoever may see that.
    ///
    /// # Errors
    /// If nothing is subscribed: a bad pattern, a bound, or a shard that can't be asked. An earlier
    /// subscription to the pattern stays as it was.
    #[cfg(test)]
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
    /// As [`Subscriptions::subscribe`].
    pub(crate) fn subscribe_to<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        (patterns, options, id): (Patterns, &StreamOptions, Option<Box<str>>),
    ) -> Result<InForce, ApiError> {
        let limit = limits::SUBSCRIPTIONS_PER_CONNECTION_MAX;
        if self.pending.len() >= limit {
            return Err(ApiError::TooManySubscriptions { limit });
        }
        if let Some(same) = self.same(&patterns, options) {
            return Ok(self.join(same, (id, patterns)));
        }
        let shards = shards_of(context, &patterns);
        let concerned = (shards.clone(), context.router.shards);
        let catch_up = CatchUp::begin(options, (id.as_deref(), &patterns), concerned);
        let catch_up =
            catch_up.map_err(|CursorTooNarrow| ApiError::CursorTooNarrow { name: "since" })?;
        let bytes = bytes_of(&patterns, options, shards.len());
        self.memory.ask(context, bytes)?;
        let is_new = !self.held.contains_key(&patterns);
        if is_new {
            if self.held.len() >= limit {
                return Err(ApiError::TooManySubscriptions { limit });
            }
            self.count(context)?;
        }
        let stream = (!self.framing.is_plain(options)).then_some(options);
        let asked = self.ask_shards(context, subscriber, (&patterns, stream));
        let waiting = asked.inspect_err(|_| {
            if is_new {
                self.discount(context);
            }
        })?;
        let stream = Stream {
            subscriber,
            patterns: patterns.clone(),
            options: Arc::new(options.clone()),
            shards: shards.clone(),
            id: id.clone(),
            places: Box::default(),
            catch_up: catch_up.map(Box::new),
            fate: Fate::Push,
            early: Vec::new(),
            framing: self.framing,
        };
        let kind = enter(context, stream);
        if options.is_extended {
            self.client.get_or_insert_default();
        }
        let version = Version {
            serial: self.last_serial,
            kind,
            is_extended: options.is_extended,
            places: Box::default(),
            bytes,
        };
        self.memory.add(bytes);
        self.held.entry(patterns.clone()).or_default().push(version);
        self.pending.push(PendingSubscription {
            serial: self.last_serial,
            id,
            first_shard: shards.start,
            patterns,
            waiting,
            places: vec![Sequence::ZERO; shards.len()].into(),
        });
        Ok(InForce::Later)
    }

    /// The serial of a plain subscription to the same, if the newest one is that too and nothing
    /// asks for more.
    fn same(&self, patterns: &Patterns, options: &StreamOptions) -> Option<u32> {
        let newest = self.held.get(patterns)?.last()?;
        let is_same = matches!(newest.kind, Kind::Plain) && options.is_plain();
        (is_same && !options.is_extended && !newest.is_extended).then_some(newest.serial)
    }

    /// Answers a message together with the subscription that it repeats.
    fn join(&mut self, serial: u32, (id, patterns): (Option<Box<str>>, Patterns)) -> InForce {
        let same = |pending: &&PendingSubscription| pending.serial == serial;
        let Some(first) = self.pending.iter().find(same) else {
            return InForce::Now;
        };
        let (waiting, first_shard) = (first.waiting, first.first_shard);
        let places = first.places.clone();
        self.pending.push(PendingSubscription {
            serial,
            id,
            patterns,
            waiting,
            places,
            first_shard,
        });
        InForce::Later
    }

    /// Asks every shard concerned; if one can't be asked, takes the interest back at those before
    /// it. Returns how many will answer.
    fn ask_shards<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        (patterns, stream): (&Patterns, Option<&StreamOptions>),
    ) -> Result<usize, ApiError> {
        self.last_serial =
            (self.last_serial.wrapping_add(1) & (SUBSCRIPTION_BIT - 1)) | SUBSCRIPTION_BIT;
        let request_id = subscriber.request_id(self.last_serial);
        let asked = questions(context, patterns, stream);
        let router = &mut context.router;
        for (index, (shard, interest)) in asked.iter().enumerate() {
            let request = ShardRequest::Subscribe(Box::new(interest.clone()));
            if let Err(error) = router.ask(*shard, request_id, request) {
                for (shard, interest) in asked.into_iter().take(index) {
                    router.unsubscribe(shard, request_id, interest);
                }
                return Err(error);
            }
        }
        Ok(asked.len())
    }

    /// True if a reply to this serial is for what subscriptions asked.
    pub(crate) fn are_answered_by(serial: u32) -> bool {
        serial & SUBSCRIPTION_BIT != 0 || Catching::is_answered_by(serial)
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
        let patterns = Patterns::One(parse(pattern)?);
        let versions = self.held.remove(&patterns);
        let versions = versions.ok_or(ApiError::NotSubscribed)?;
        self.discount(context);
        for version in versions {
            self.take_back(context, (subscriber, &patterns), &version);
        }
        Ok(())
    }

    /// Takes a shard's word that a subscription is in force there, or that it can't be. Returns the
    /// messages that can be answered now.
    pub(crate) fn resume<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        (serial, from, reply): (u32, u16, &Reply),
    ) -> Vec<Verdict> {
        let of_this = |pending: &&mut PendingSubscription| pending.serial == serial;
        for pending in self.pending.iter_mut().filter(of_this) {
            match reply {
                Reply::Subscribed(place) => pending.note(from, *place),
                _ => pending.waiting = 0,
            }
        }
        let is_over = |pending: &mut PendingSubscription| pending.waiting == 0;
        let over: Vec<_> = self.pending.extract_if(.., is_over).collect();
        if let Some(first) = over.first() {
            let patterns = &first.patterns;
            if matches!(reply, Reply::Subscribed(_)) {
                self.put_in_force(context, (subscriber, patterns), (serial, &first.places));
            } else {
                self.reject(context, (subscriber, patterns), serial);
            }
        }
        let mut verdicts = Vec::new();
        for pending in over {
            let result = match reply {
                Reply::Refused(error) => Err(error.clone()),
                _ => Ok(self.cursor_of_ack(context, &pending)),
            };
            if let Ok(Some(cursor)) = &result
                && self.begin_catching(context, &pending, cursor)
            {
                // It is acknowledged when it is known that the logs reach that far.
                continue;
            }
            let id = pending.id;
            verdicts.push(Verdict { id, result });
        }
        verdicts
    }

    /// All shards have confirmed a version: those before it go, unless it is still to be seen
    /// whether the logs reach to its place.
    fn put_in_force<L: Log>(
        &mut self,
        context: &mut Context<L>,
        (subscriber, patterns): (Subscriber, &Patterns),
        (serial, places): (u32, &[Sequence]),
    ) {
        let Some((versions, index)) = self.find(patterns, serial) else {
            return;
        };
        let Some(version) = versions.get_mut(index) else {
            return;
        };
        version.places = places.into();
        if !version.is_checked_first(context) {
            self.drop_before(context, (subscriber, patterns), serial);
        }
    }

    /// The versions of a subscription that hold this one, and its place among them.
    fn find(&mut self, patterns: &Patterns, serial: u32) -> Option<(&mut Vec<Version>, usize)> {
        let versions = self.held.get_mut(patterns)?;
        let index = versions.iter().position(|it| it.serial == serial)?;
        Some((versions, index))
    }

    /// The versions before this one go.
    pub(super) fn drop_before<L: Log>(
        &mut self,
        context: &mut Context<L>,
        (subscriber, patterns): (Subscriber, &Patterns),
        serial: u32,
    ) {
        let Some((versions, index)) = self.find(patterns, serial) else {
            return;
        };
        let earlier: Vec<Version> = versions.drain(..index).collect();
        for version in earlier {
            self.take_back(context, (subscriber, patterns), &version);
        }
    }

    /// A shard has refused a version: it goes, and those before it stay.
    fn reject<L: Log>(
        &mut self,
        context: &mut Context<L>,
        (subscriber, patterns): (Subscriber, &Patterns),
        serial: u32,
    ) {
        let Some((versions, index)) = self.find(patterns, serial) else {
            return;
        };
        let version = versions.remove(index);
        if versions.is_empty() {
            self.held.remove(patterns);
            self.discount(context);
        }
        self.take_back(context, (subscriber, patterns), &version);
    }

    /// The cursor of an acknowledgement, if that has one.
    fn cursor_of_ack<L: Log>(
        &self,
        context: &Context<L>,
        pending: &PendingSubscription,
    ) -> Option<String> {
        let mut versions = self.held.get(&pending.patterns)?.iter();
        let version = versions.find(|it| it.serial == pending.serial)?;
        let shards = (context.router.shards, pending.first_shard);
        let visible = |shard| context.counters.visible(shard);
        version
            .is_extended
            .then(|| ack_cursor(&pending.patterns, shards, &pending.places, visible))
    }

    /// Takes a version back on this core and at every shard that it concerns.
    pub(super) fn take_back<L: Log>(
        &mut self,
        context: &mut Context<L>,
        (subscriber, patterns): (Subscriber, &Patterns),
        version: &Version,
    ) {
        self.memory.remove(version.bytes);
        match &version.kind {
            Kind::Plain => {
                for pattern in patterns.each() {
                    context.subscribers.unsubscribe(subscriber.index, pattern);
                }
            }
            Kind::Stream(index, options) => {
                let stream = context.streams.get(*index);
                if let Some(stream) = stream
                    && let Some(catch_up) = &stream.catch_up
                    && catch_up.ack.is_some()
                {
                    let id = stream.id.clone();
                    let result = Ok(None);
                    self.unanswered.push(Verdict { id, result });
                }
                context.streams.remove(*index);
                self.catching.forget(*index);
                self.flushes |= options.interval_micros.is_some();
            }
        }
        let request_id = subscriber.request_id(0);
        for (shard, interest) in questions(context, patterns, version.kind.options()) {
            let router = &mut context.router;
            router.unsubscribe(shard, request_id, interest);
        }
    }

    /// What the connection has besides, if a subscription asks for more than a plain one.
    pub(crate) fn client(&mut self) -> Option<&mut Client> {
        self.client.as_deref_mut()
    }

    /// What a stream's changes go through.
    pub(crate) fn client_of_stream(&mut self) -> &mut Client {
        self.client.get_or_insert_default()
    }

    /// Pushes what was kept for the pace of a stream that is gone.
    ///
    /// # Errors
    /// [`Overflow`].
    pub(crate) fn flush_paced(&mut self, outbox: &mut Outbox) -> Result<(), Overflow> {
        if !std::mem::take(&mut self.flushes) {
            return Ok(());
        }
        self.client.as_mut().map_or(Ok(()), |it| it.flush(outbox))
    }

    /// The cursor that a client gets after what was pushed: `None` if none of its subscriptions
    /// asks for more than a plain one, or it has this one already.
    pub(crate) fn next_cursor<L: Log>(&mut self, context: &Context<L>) -> Option<String> {
        if self.is_under_way(context) {
            return None;
        }
        let mut versions = self.held.values().flatten();
        if !versions.any(|version| version.is_extended) {
            return None;
        }
        let place = |shard| self.place(context, shard);
        let text = cursor_text(self.held.keys(), context.router.shards, place)?;
        let client = self.client.as_mut()?;
        client.take_cursor(&text).then_some(text)
    }

    /// How far all subscriptions are on a shard.
    fn place<L: Log>(&self, context: &Context<L>, shard: u16) -> Sequence {
        let before = |sequence: Sequence| Sequence::new(sequence.get().saturating_sub(1));
        let fanned_out = context.streams.fanned_out(shard);
        let kept = self.client.as_ref().and_then(|it| it.first_kept(shard));
        let mut place = kept.map(before);
        let mut lower = |to: Sequence| place = Some(place.map_or(to, |place| place.min(to)));
        for (patterns, versions) in &self.held {
            if !patterns.concern(shard, context.router.shards) {
                continue;
            }
            let index = shard - shards_of(context, patterns).start;
            for version in versions {
                // One that is not in force yet has the place of its acknowledgement later.
                if let Some(place) = version.places.get(usize::from(index)) {
                    lower(fanned_out.max(*place));
                }
                if let Kind::Stream(stream, _) = &version.kind
                    && let Some(stream) = context.streams.get(*stream)
                    && let Some(catch_up) = &stream.catch_up
                {
                    let place = version.places.get(usize::from(index)).copied();
                    let live = fanned_out.max(place.unwrap_or_default());
                    lower(catch_up.through(shard, live));
                }
            }
        }
        place.unwrap_or_else(|| context.counters.visible(shard))
    }

    /// Takes every subscription back: the connection ends.
    pub(crate) fn leave<L: Log>(&mut self, context: &mut Context<L>, subscriber: Subscriber) {
        for (patterns, versions) in std::mem::take(&mut self.held) {
            self.discount(context);
            for version in versions {
                self.take_back(context, (subscriber, &patterns), &version);
            }
        }
    }

    /// Drops what is kept for the client: there is no memory for it.
    pub(crate) fn give_up(&mut self, outbox: &Outbox) {
        if let Some(client) = &mut self.client {
            client.give_up(outbox);
        }
    }

    /// Heap of what is kept for the client besides its outbox.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.client.as_ref().map_or(0, |client| client.heap_bytes()) + self.catching.heap_bytes()
    }

    /// What the subscriptions themselves take, bytes.
    pub(crate) const fn held_bytes(&self) -> usize {
        self.memory.held()
    }

    /// The connection was counted with that.
    pub(crate) fn note_counted(&mut self) {
        self.memory.note_counted();
    }

    /// Gives back heap that an idle connection does not need.
    pub(crate) fn trim(&mut self) {
        self.pending.shrink_to_fit();
    }

    /// Counts one more subscription, of all connections and of the client's address.
    fn count<L>(&self, context: &Context<L>) -> Result<(), ApiError> {
        bounds::count(context, (self.address, self.framing.kind))
    }

    /// Counts one less.
    pub(super) fn discount<L>(&self, context: &Context<L>) {
        bounds::discount(context, (self.address, self.framing.kind));
    }
}

impl PendingSubscription {
    /// A shard has confirmed it.
    fn note(&mut self, shard: u16, place: Sequence) {
        self.waiting = self.waiting.saturating_sub(1);
        let index = usize::from(shard.saturating_sub(self.first_shard));
        if let Some(known) = self.places.get_mut(index) {
            *known = place.max(*known);
        }
    }
}

/// Enters a subscription on this core.
fn enter<L>(context: &mut Context<L>, stream: Stream) -> Kind {
    if stream.framing.is_plain(&stream.options) {
        let subscriber = stream.subscriber.index;
        for pattern in stream.patterns.each() {
            context.subscribers.subscribe(subscriber, pattern);
        }
        return Kind::Plain;
    }
    let options = Arc::clone(&stream.options);
    Kind::Stream(context.streams.add(stream), options)
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestCores;
    use super::*;
    use crate::api::stream_options::StreamMode;
    use crate::model::{Cursor, CursorScope};

    fn none_yet() -> Subscriptions {
        Subscriptions::new((None, MemoryHolders::default()), Framing::BARE)
    }

    const SUBSCRIBER: Subscriber = Subscriber {
        index: 3,
        generation: 1,
    };

    fn message(pattern: &str, options: StreamOptions) -> Subscribe {
        let pattern = pattern.into();
        Subscribe { pattern, options }
    }

    fn plain(pattern: &str) -> Subscribe {
        message(pattern, StreamOptions::default())
    }

    fn by_entity(pattern: &str) -> Subscribe {
        let options = StreamOptions {
            mode: StreamMode::Entity,
            is_extended: true,
            ..StreamOptions::default()
        };
        message(pattern, options)
    }

    fn subscribe(cores: &mut TestCores, to: &mut Subscriptions, message: &Subscribe) -> InForce {
        let call = (message, Some("1".into()));
        to.subscribe(cores.context(0), SUBSCRIBER, call).unwrap()
    }

    fn verdict(result: Result<Option<String>, ApiError>) -> Verdict {
        let id = Some("1".into());
        Verdict { id, result }
    }

    /// That of the message with this number.
    fn serial(number: u32) -> u32 {
        number | SUBSCRIPTION_BIT
    }

    fn in_force(place: u64) -> Reply {
        Reply::Subscribed(Sequence::new(place))
    }

    #[test]
    fn a_subscription_is_in_force_when_every_shard_concerned_has_said_so() {
        let mut cores = TestCores::new(2);
        let mut subscriptions = none_yet();
        let all = plain("*");
        assert_eq!(
            subscribe(&mut cores, &mut subscriptions, &all),
            InForce::Later
        );
        let context = cores.context(0);
        let reply = in_force(0);
        let first = subscriptions.resume(context, SUBSCRIBER, (serial(1), 0, &reply));
        assert_eq!(first, []);
        let second = subscriptions.resume(context, SUBSCRIBER, (serial(1), 1, &reply));
        assert_eq!(second, [verdict(Ok(None))]);
        assert_eq!(
            subscribe(&mut cores, &mut subscriptions, &all),
            InForce::Now
        );
        assert_eq!(cores.context(0).counters.subscriptions(), 1);
        subscriptions.leave(cores.context(0), SUBSCRIBER);
        assert_eq!(cores.context(0).counters.subscriptions(), 0);
    }

    #[test]
    fn one_that_a_shard_rejects_is_taken_back_and_counts_nothing() {
        let mut cores = TestCores::new(2);
        let mut subscriptions = none_yet();
        subscribe(&mut cores, &mut subscriptions, &plain("n/*"));
        let refused = Reply::Refused(ApiError::Overloaded);
        let context = cores.context(0);
        let resumed = subscriptions.resume(context, SUBSCRIBER, (serial(1), 0, &refused));
        assert_eq!(resumed, [verdict(Err(ApiError::Overloaded))]);
        assert_eq!(
            (context.counters.subscriptions(), subscriptions.held_bytes()),
            (0, 0)
        );
        let gone = subscriptions.unsubscribe(context, SUBSCRIBER, "n/*");
        assert_eq!(gone, Err(ApiError::NotSubscribed));
    }

    #[test]
    fn beyond_the_bound_nothing_is_subscribed() {
        let mut cores = TestCores::new(1);
        cores.context(0).tenants.runtime.max_subscriptions = 1;
        let mut subscriptions = none_yet();
        subscribe(&mut cores, &mut subscriptions, &plain("a"));
        assert!(subscriptions.held_bytes() > 0);
        let call = (&plain("b"), None);
        let second = subscriptions.subscribe(cores.context(0), SUBSCRIBER, call);
        assert!(matches!(
            second,
            Err(ApiError::SubscriptionsExhausted { .. })
        ));
        subscriptions
            .unsubscribe(cores.context(0), SUBSCRIBER, "a")
            .unwrap();
        let again = subscribe(&mut cores, &mut subscriptions, &plain("b"));
        assert_eq!(again, InForce::Later);
    }

    #[test]
    fn what_is_subscribed_again_replaces_the_earlier_unless_it_is_refused() {
        let mut cores = TestCores::new(1);
        let mut subscriptions = none_yet();
        let kinds = |subscriptions: &Subscriptions| -> Vec<bool> {
            let versions = subscriptions.held.values().flatten();
            versions.map(|it| matches!(it.kind, Kind::Plain)).collect()
        };
        subscribe(&mut cores, &mut subscriptions, &plain("n/*"));
        subscribe(&mut cores, &mut subscriptions, &by_entity("n/*"));
        assert_eq!(kinds(&subscriptions), [true, false]);
        let context = cores.context(0);
        subscriptions.resume(context, SUBSCRIBER, (serial(1), 0, &in_force(3)));
        let refused = Reply::Refused(ApiError::Overloaded);
        let second = subscriptions.resume(context, SUBSCRIBER, (serial(2), 0, &refused));
        assert_eq!(second, [verdict(Err(ApiError::Overloaded))]);
        assert_eq!(kinds(&subscriptions), [true]);
        assert!(context.streams.is_empty() && !context.subscribers.is_empty());
        subscribe(&mut cores, &mut subscriptions, &by_entity("n/*"));
        let context = cores.context(0);
        let third = subscriptions.resume(context, SUBSCRIBER, (serial(3), 0, &in_force(7)));
        let cursor = Cursor::of(CursorScope::Namespace("n"), Sequence::new(7));
        assert_eq!(third, [verdict(Ok(Some(cursor.encode())))]);
        assert_eq!(kinds(&subscriptions), [false]);
        assert!(!context.streams.is_empty() && context.subscribers.is_empty());
        assert_eq!(context.counters.subscriptions(), 1);
        subscriptions.leave(context, SUBSCRIBER);
        assert!(context.streams.is_empty());
        let shard = context.router.shard.as_ref().unwrap();
        assert!(!shard.engine().is_watched());
    }

    #[test]
    fn a_cursor_names_the_place_that_all_subscriptions_have_come_to() {
        let mut cores = TestCores::new(1);
        let mut subscriptions = none_yet();
        subscribe(&mut cores, &mut subscriptions, &by_entity("n/*"));
        subscribe(&mut cores, &mut subscriptions, &plain("n/a"));
        let context = cores.context(0);
        subscriptions.resume(context, SUBSCRIBER, (serial(1), 0, &in_force(3)));
        subscriptions.resume(context, SUBSCRIBER, (serial(2), 0, &in_force(9)));
        let mut check = |context: &Context<_>, place: Option<u64>| {
            let of = |place| Cursor::of(CursorScope::Namespace("n"), Sequence::new(place));
            let expected = place.map(|place| of(place).encode());
            assert_eq!(subscriptions.next_cursor(context), expected);
        };
        check(context, Some(3));
        context.streams.note_fanned_out(0, Sequence::new(7));
        check(context, Some(7));
        check(context, None);
    }
}
