//! What a member of the mailboxes counts for `GET /metrics`: a core, or the thread of connectors.
//!
//! One thread writes a block, so to count is a load and a store, and no locked instruction.

use super::add;
use super::histogram::{CountHistogram, DurationHistogram};
use crate::api::ApiError;
use crate::api::metrics::{
    CODES, CloseCause, Front, PollResult, RefusalReason, RoutePattern, SessionKind, ShardSample,
    StatusClass, SubscriberKind, Totals, index_of,
};
use std::array;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// See the module. On cache lines of its own, so that one thread's counting does not slow
/// another's.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Tally {
    requests: [[AtomicU64; StatusClass::COUNT]; RoutePattern::COUNT],
    refused: [AtomicU64; CODES.len()],
    opened: [AtomicU64; SessionKind::COUNT],
    closed: [AtomicU64; CloseCause::COUNT],
    subscriptions: [AtomicU64; SubscriberKind::COUNT],
    subscribed: [AtomicU64; SubscriberKind::COUNT],
    streams: AtomicU64,
    conflated: AtomicU64,
    connector_polls: [AtomicU64; PollResult::COUNT],
    /// Of its shard; see [`ShardSample`].
    accepted: [AtomicU64; Front::COUNT],
    /// From the turn that stores an event to its answer.
    pub(crate) publish: DurationHistogram,
    /// Of flushes.
    pub(crate) flush: DurationHistogram,
    /// Events for each flush.
    pub(crate) flush_events: CountHistogram,
    /// Milliseconds since the last checkpoint, or 0.
    pub(crate) checkpoint_age_ms: AtomicU64,
    /// History before this was removed, Unix microseconds; 0 if none was.
    pub(crate) history_start_micros: AtomicI64,
    /// One more than the index of the reason why its shard refuses; 0 if it does not.
    refusing: AtomicU64,
}

fn zeros<const COUNT: usize>() -> [AtomicU64; COUNT] {
    array::from_fn(|_| AtomicU64::new(0))
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            requests: array::from_fn(|_| zeros()),
            refused: zeros(),
            opened: zeros(),
            closed: zeros(),
            subscriptions: zeros(),
            subscribed: zeros(),
            streams: AtomicU64::new(0),
            conflated: AtomicU64::new(0),
            connector_polls: zeros(),
            accepted: zeros(),
            publish: DurationHistogram::default(),
            flush: DurationHistogram::default(),
            flush_events: CountHistogram::default(),
            checkpoint_age_ms: AtomicU64::new(0),
            history_start_micros: AtomicI64::new(0),
            refusing: AtomicU64::new(0),
        }
    }
}

impl Tally {
    /// A request is answered with this status.
    pub(crate) fn note_request(&self, pattern: RoutePattern, status: u16) {
        add(
            &self.requests[pattern.index()][StatusClass::of(status).index()],
            1,
        );
    }

    /// An event, or a call to store some, is refused.
    pub(crate) fn note_refused(&self, error: &ApiError) {
        self.note_refused_code(error.code(), 1);
    }

    /// So many events are refused with this code.
    pub(crate) fn note_refused_code(&self, code: &str, count: u64) {
        if let Some(index) = index_of(code) {
            add(&self.refused[index], count);
        }
    }

    /// A connection is accepted, or goes on as another kind.
    pub(crate) fn note_opened(&self, kind: SessionKind) {
        add(&self.opened[kind.index()], 1);
    }

    /// A connection is gone.
    pub(crate) fn note_closed(&self, cause: CloseCause) {
        add(&self.closed[cause.index()], 1);
    }

    /// A subscription begins.
    pub(crate) fn note_subscribed(&self, kind: SubscriberKind) {
        add(&self.subscribed[kind.index()], 1);
        add(&self.subscriptions[kind.index()], 1);
    }

    /// A subscription ends.
    pub(crate) fn note_unsubscribed(&self, kind: SubscriberKind) {
        let count = &self.subscriptions[kind.index()];
        count.store(count.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// A connection becomes a stream of events.
    pub(crate) fn note_stream_begins(&self) {
        self.note_opened(SessionKind::Sse);
        add(&self.streams, 1);
    }

    /// One of them has ended.
    pub(crate) fn note_stream_ends(&self) {
        self.streams
            .store(self.streams.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// So many messages were never sent because newer ones took their place.
    pub(crate) fn note_conflated(&self, count: u64) {
        add(&self.conflated, count);
    }

    /// A connector's poll has ended.
    pub(crate) fn note_poll(&self, result: PollResult) {
        add(&self.connector_polls[result.index()], 1);
    }

    /// The shard has stored so many events, by what they came in by.
    pub(crate) fn set_accepted(&self, accepted: &[u64; Front::COUNT]) {
        for (counter, count) in self.accepted.iter().zip(accepted) {
            counter.store(*count, Relaxed);
        }
    }

    /// Events that the server itself has stored: each is the end of an entity.
    pub(crate) fn ended_entities(&self) -> u64 {
        self.accepted[Front::Server.index()].load(Relaxed)
    }

    /// The shard refuses events with this error, or does not.
    pub(crate) fn set_refusing(&self, error: Option<&ApiError>) {
        let reason = error.and_then(|error| RefusalReason::of_code(error.code()));
        let stored = reason.map_or(0, |reason| reason.index() as u64 + 1);
        self.refusing.store(stored, Relaxed);
    }

    /// Streams of events that are open.
    pub(super) fn streams(&self) -> u64 {
        self.streams.load(Relaxed)
    }

    /// Subscriptions, by what asked for them.
    pub(super) fn subscriptions(&self) -> [u64; SubscriberKind::COUNT] {
        array::from_fn(|index| self.subscriptions[index].load(Relaxed))
    }

    /// Adds what never falls.
    pub(super) fn add_to(&self, totals: &mut Totals) {
        let requests = totals.requests.iter_mut().zip(&self.requests);
        for (sums, counts) in requests {
            add_all(sums, counts);
        }
        add_all(&mut totals.refused, &self.refused);
        add_all(&mut totals.opened, &self.opened);
        add_all(&mut totals.closed, &self.closed);
        add_all(&mut totals.subscribed, &self.subscribed);
        add_all(&mut totals.connector_polls, &self.connector_polls);
        totals.conflated += self.conflated.load(Relaxed);
    }

    /// Fills in what its shard has counted here.
    pub(super) fn fill(&self, sample: &mut ShardSample) {
        add_all(&mut sample.accepted, &self.accepted);
        sample.publish = self.publish.sample();
        sample.flush = self.flush.sample();
        sample.flush_events = self.flush_events.sample();
        sample.checkpoint_age_ms = self.checkpoint_age_ms.load(Relaxed);
        let start = self.history_start_micros.load(Relaxed);
        sample.history_start_micros = u64::try_from(start).unwrap_or_default();
        let refusing = usize::try_from(self.refusing.load(Relaxed)).unwrap_or_default();
        for (index, count) in sample.refusing.iter_mut().enumerate() {
            *count = u64::from(index + 1 == refusing);
        }
    }
}

fn add_all(sums: &mut [u64], counts: &[AtomicU64]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += count.load(Relaxed);
    }
}
