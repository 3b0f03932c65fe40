//! The subscriptions of one connection, as far as they catch up.

use super::catching::{Asker, Ended, To};
use crate::api::stream_options::{StreamMode, StreamStart};
use crate::background::history::JobResult;
use crate::log::Log;
use crate::service::catch_up::CatchUp;
use crate::service::subscribe::{
    Kind, PendingSubscription, Subscriber, Subscriptions, Verdict, Version,
};
use crate::service::{Context, Credentials};
use crate::shard::Reply;
use std::net::IpAddr;

impl Subscriptions {
    /// A subscription is in force: it begins to catch up if it has to. True if its acknowledgement
    /// follows later.
    pub(in crate::service) fn begin_catching<L: Log>(
        &mut self,
        context: &mut Context<L>,
        pending: &PendingSubscription,
        cursor: &str,
    ) -> bool {
        let versions = self.held.get(&pending.patterns).into_iter().flatten();
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
        if !catch_up.is_under_way() {
            catch_up.begin_live(&pending.places);
            self.catching.add(index);
            return false;
        }
        let ack = match &stream.options.start {
            StreamStart::Since(since) if stream.framing.resumes => since.encode(),
            _ => cursor.to_owned(),
        };
        catch_up.put_in_force(ack, &pending.places);
        if stream.framing.resumes && catch_up.after.is_none() {
            // Its front puts it before all that is pushed.
            catch_up.ack = None;
            self.catching.add(index);
            return false;
        }
        self.catching.add(index);
        true
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

    /// Where the client is.
    pub(crate) const fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// True if a subscription may have something to catch up.
    pub(crate) fn is_catching_up(&self) -> bool {
        !self.catching.is_empty()
    }

    /// True if the connection has to be woken by a timer, because a shard is too busy.
    pub(crate) fn take_pause(&mut self) -> bool {
        self.catching.take_pause()
    }

    /// The timer is due.
    pub(crate) fn wake(&mut self) {
        self.catching.wake();
    }

    /// The answers to messages whose subscriptions are gone before they were acknowledged.
    pub(crate) fn take_unanswered(&mut self) -> Vec<Verdict> {
        std::mem::take(&mut self.unanswered)
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
        let events = self.event_streams();
        let asker = Asker {
            subscriber,
            address: self.address,
            credentials,
            events: &events,
            kept: self.client.as_deref(),
            readable: &self.readable,
        };
        let ended = self.catching.advance(context, &asker, &mut to);
        self.end_stream(context, subscriber, ended)
    }

    /// Takes an answer to what [`Subscriptions::catch_up`] asked.
    pub(crate) fn take_answer<L: Log>(
        &mut self,
        context: &mut Context<L>,
        (subscriber, mut to): (Subscriber, To<'_>),
        reply: (u32, u16, Reply),
    ) -> Option<Ended> {
        let ended = (self.catching).on_reply(context, subscriber, reply, (&self.readable, &mut to));
        self.end_stream(context, subscriber, ended)
    }

    /// The same of what was read of the logs.
    pub(crate) fn take_history<L: Log>(
        &mut self,
        context: &mut Context<L>,
        (subscriber, mut to): (Subscriber, To<'_>),
        result: (u32, JobResult),
    ) -> Option<Ended> {
        let checked = self.catching.checked(context);
        let events = self.event_streams();
        let to = (&*events, &self.readable, &mut to);
        let ended = (self.catching).on_history(context, result, to);
        if let Some(index) = checked.filter(|_| ended.is_none())
            && self.catching.checked(context) != Some(index)
        {
            self.replace_earlier(context, subscriber, index);
        }
        self.end_stream(context, subscriber, ended)
    }

    /// The streams of mode `event`.
    pub(super) fn event_streams(&self) -> Vec<u32> {
        let versions = self.held.values().flatten();
        let streams = versions.filter_map(|version| match &version.kind {
            Kind::Stream(index, options) if options.mode == StreamMode::Event => Some(*index),
            Kind::Stream(..) | Kind::Plain => None,
        });
        streams.collect()
    }

    /// A stream takes the place of the earlier subscriptions to its pattern.
    fn replace_earlier<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        index: u32,
    ) {
        let Some(stream) = context.streams.get(index) else {
            return;
        };
        let is_waiting = stream
            .catch_up
            .as_deref()
            .is_some_and(CatchUp::is_checked_next);
        if is_waiting {
            return;
        }
        let patterns = stream.patterns.clone();
        let versions = self.held.get(&patterns).into_iter().flatten();
        let is_it = |version: &&Version| matches!(version.kind, Kind::Stream(it, _) if it == index);
        let serial = versions.into_iter().find(is_it).map(|it| it.serial);
        if let Some(serial) = serial {
            self.drop_before(context, (subscriber, &patterns), serial);
        }
    }

    /// A subscription that can't go on is taken back.
    fn end_stream<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        ended: Option<Ended>,
    ) -> Option<Ended> {
        let ended = ended?;
        let stream = context.streams.get_mut(ended.stream)?;
        if let Some(catch_up) = stream.catch_up.as_deref_mut() {
            // The error is the answer.
            catch_up.ack = None;
        }
        let patterns = stream.patterns.clone();
        let versions = self.held.get_mut(&patterns)?;
        let is_it = |version: &Version| matches!(version.kind, Kind::Stream(index, _) if index == ended.stream);
        let version = versions.remove(versions.iter().position(is_it)?);
        if versions.is_empty() {
            self.held.remove(&patterns);
            self.discount(context);
        }
        self.take_back(context, (subscriber, &patterns), &version);
        Some(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiError;
    use crate::api::client_message::Subscribe;
    use crate::api::stream_options::{StreamMode, StreamOptions, StreamStart};
    use crate::engine::SnapshotPage;
    use crate::log::MemoryLog;
    use crate::model::{Cursor, CursorScope, Timestamp};
    use crate::service::streams::{Framing, write_merged};
    use crate::service::subscribe::SUBSCRIPTION_BIT;
    use crate::service::testing::TestCores;
    use crate::shard::MemoryHolders;
    use crate::subscribe::{Filter, Outbox, OutboxLimits};
    use flux_storage::Sequence;

    const SUBSCRIBER: Subscriber = Subscriber {
        index: 3,
        generation: 1,
    };

    const FRAMING: Framing = Framing {
        index: 0,
        kind: crate::api::metrics::SubscriberKind::WebSocket,
        resumes: false,
        reframe: None,
        frame: |out, write| {
            write(out);
            out.push(b'\n');
        },
        merged: write_merged,
    };

    /// A connection, and the serial of what it has asked last.
    struct Connection {
        subscriptions: Subscriptions,
        outbox: Outbox,
        serial: u32,
    }

    impl Connection {
        fn new() -> Self {
            Self {
                subscriptions: Subscriptions::new((None, MemoryHolders::default()), FRAMING),
                outbox: Outbox::new(OutboxLimits::default()),
                serial: SUBSCRIPTION_BIT,
            }
        }

        /// Subscribes, and every shard has confirmed it.
        fn subscribe(
            &mut self,
            context: &mut Context<MemoryLog>,
            (pattern, mode): (&str, StreamMode),
            start: StreamStart,
        ) -> Vec<Verdict> {
            self.serial += 1;
            let options = StreamOptions {
                mode,
                start,
                is_extended: true,
                ..StreamOptions::default()
            };
            let pattern = pattern.into();
            let call = (&Subscribe { pattern, options }, Some("7".into()));
            let subscriptions = &mut self.subscriptions;
            subscriptions.subscribe(context, SUBSCRIBER, call).unwrap();
            let in_force = Reply::Subscribed(Sequence::new(9));
            subscriptions.resume(context, SUBSCRIBER, (self.serial, 0, &in_force))
        }

        fn catch_up(&mut self, context: &mut Context<MemoryLog>) {
            let to = to(&mut self.outbox);
            let to = (SUBSCRIBER, to);
            let ended = self.subscriptions.catch_up(context, to, Credentials::None);
            assert_eq!(ended, None);
        }

        /// The answer to what was asked as the number `asked`.
        fn answer(
            &mut self,
            context: &mut Context<MemoryLog>,
            asked: u32,
            reply: Reply,
        ) -> Option<Ended> {
            let to = (SUBSCRIBER, to(&mut self.outbox));
            let reply = (asked | 1 << 30, 0, reply);
            self.subscriptions.take_answer(context, to, reply)
        }

        fn history(
            &mut self,
            context: &mut Context<MemoryLog>,
            asked: u32,
            error: ApiError,
        ) -> Option<Ended> {
            let to = (SUBSCRIBER, to(&mut self.outbox));
            let result = (asked | 1 << 30, Err(error));
            self.subscriptions.take_history(context, to, result)
        }

        /// What it was sent.
        fn sent(&mut self) -> String {
            let sent = String::from_utf8(self.outbox.pending().to_vec()).unwrap();
            self.outbox.advance(sent.len());
            sent
        }

        fn modes(&self) -> Vec<StreamMode> {
            let versions = self.subscriptions.held.values().flatten();
            let mode = |version: &Version| match &version.kind {
                Kind::Plain => StreamMode::Property,
                Kind::Stream(_, options) => options.mode,
            };
            versions.map(mode).collect()
        }
    }

    fn to(outbox: &mut Outbox) -> To<'_> {
        To {
            outbox,
            framing: FRAMING,
        }
    }

    fn page() -> Reply {
        let page = SnapshotPage {
            json: b"[{}]".to_vec(),
            ..SnapshotPage::default()
        };
        Reply::SnapshotPage(Box::new(page), Sequence::new(9))
    }

    fn since() -> StreamStart {
        let scope = CursorScope::Namespace("n");
        StreamStart::Since(Cursor::of(scope, Sequence::new(2)))
    }

    #[test]
    fn what_a_shard_is_too_busy_for_is_asked_again_and_the_subscription_goes_on() {
        let mut cores = TestCores::new(1);
        let context = cores.context(0);
        let mut connection = Connection::new();
        connection.subscribe(context, ("n/*", StreamMode::Entity), StreamStart::Snapshot);
        connection.catch_up(context);
        let sent = connection.sent();
        assert!(sent.starts_with("{\"type\":\"ack\""), "{sent}");
        let busy = Reply::Refused(ApiError::Overloaded);
        assert_eq!(connection.answer(context, 1, busy), None);
        assert!(connection.subscriptions.take_pause(), "a timer is wanted");
        assert!(!connection.subscriptions.take_pause(), "one");
        connection.catch_up(context);
        assert_eq!(connection.answer(context, 2, page()), None);
        assert_eq!(connection.sent(), "", "it has not asked before its time");
        connection.subscriptions.wake();
        connection.catch_up(context);
        assert_eq!(connection.answer(context, 2, page()), None);
        connection.catch_up(context);
        let sent = connection.sent();
        assert!(sent.contains("\"snapshot\""), "{sent}");
        assert!(sent.contains("\"snapshot_end\""), "{sent}");
    }

    #[test]
    fn what_passes_of_the_history_worker_is_asked_again_too() {
        let mut cores = TestCores::new(1);
        let context = cores.context(0);
        let mut connection = Connection::new();
        connection.subscribe(context, ("n/*", StreamMode::Event), since());
        connection.catch_up(context);
        assert_eq!(connection.history(context, 1, ApiError::Busy), None);
        assert!(connection.subscriptions.take_pause());
        connection.subscriptions.wake();
        connection.catch_up(context);
        let ended = connection.history(context, 2, ApiError::HistoryUnreadable);
        assert_eq!(ended.unwrap().error, ApiError::HistoryUnreadable);
    }

    #[test]
    fn a_place_that_is_refused_leaves_the_earlier_subscription_as_it_was() {
        let mut cores = TestCores::new(1);
        let context = cores.context(0);
        let mut connection = Connection::new();
        connection.subscribe(context, ("n/*", StreamMode::Entity), StreamStart::Live);
        let verdicts = connection.subscribe(context, ("n/*", StreamMode::Event), since());
        assert_eq!(verdicts, [], "the logs are looked at first");
        assert_eq!(connection.modes(), [StreamMode::Entity, StreamMode::Event]);
        connection.catch_up(context);
        let from = Timestamp::from_micros(5);
        let ended = connection.history(context, 1, ApiError::HistoryRemoved { from });
        assert!(ended.is_some());
        assert_eq!(connection.modes(), [StreamMode::Entity]);
        assert_eq!(connection.subscriptions.take_unanswered(), []);
        // The same in a mode in which a snapshot follows: that is no refusal.
        connection.subscribe(context, ("n/*", StreamMode::Property), since());
        connection.catch_up(context);
        let ended = connection.history(context, 2, ApiError::HistoryRemoved { from });
        assert_eq!(ended, None);
        assert_eq!(connection.modes(), [StreamMode::Property]);
        assert!(connection.sent().starts_with("{\"type\":\"ack\""));
    }

    #[test]
    fn what_is_replaced_before_it_is_acknowledged_is_answered() {
        let mut cores = TestCores::new(1);
        let context = cores.context(0);
        let mut connection = Connection::new();
        connection.subscribe(context, ("n/*", StreamMode::Event), since());
        connection.catch_up(context);
        connection.subscribe(context, ("n/*", StreamMode::Entity), StreamStart::Live);
        assert_eq!(connection.modes(), [StreamMode::Entity]);
        assert_eq!(connection.subscriptions.take_unanswered().len(), 1);
    }

    #[test]
    fn an_answer_to_a_stream_that_is_gone_is_not_taken_for_another_in_its_place() {
        let mut cores = TestCores::new(1);
        let context = cores.context(0);
        let mut connection = Connection::new();
        connection.subscribe(context, ("n/*", StreamMode::Entity), StreamStart::Snapshot);
        connection.catch_up(context);
        assert!(connection.sent().contains("\"ack\""));
        let subscriptions = &mut connection.subscriptions;
        subscriptions
            .unsubscribe(context, SUBSCRIBER, "n/*")
            .unwrap();
        connection.subscribe(context, ("m/*", StreamMode::Entity), StreamStart::Snapshot);
        let taken = context.streams.get(0).unwrap();
        assert_eq!(taken.patterns, Filter::parse("m/*").unwrap().into());
        connection.catch_up(context);
        assert_eq!(connection.answer(context, 1, page()), None);
        assert_eq!(connection.sent(), "");
        connection.catch_up(context);
        assert_eq!(connection.answer(context, 2, page()), None);
        assert!(connection.sent().contains("\"snapshot\""));
    }
}
