//! The numbers of one scrape, added up over the cores.

use super::codes::CODES;
use super::labels::{
    CloseCause, Front, PollResult, RefusalReason, SessionKind, StatusClass, SubscriberKind,
};
use super::patterns::RoutePattern;

/// Finite buckets of each histogram. Each bound is twice the one before.
pub const BUCKETS: usize = 16;

/// Requests by route and status class.
pub(super) type RequestCounts = [[u64; StatusClass::COUNT]; RoutePattern::COUNT];

/// Sums over all cores that never fall while the process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Requests answered over HTTP.
    pub requests: RequestCounts,
    /// Events refused, by code.
    pub refused: [u64; CODES.len()],
    /// Connections, by what they began to speak.
    pub opened: [u64; SessionKind::COUNT],
    /// Connections that ended, by cause.
    pub closed: [u64; CloseCause::COUNT],
    /// Subscriptions that began, by what asked for them.
    pub subscribed: [u64; SubscriberKind::COUNT],
    /// Messages that slow readers were never sent because newer ones took their place.
    pub conflated: u64,
    /// Polls of connectors.
    pub connector_polls: [u64; PollResult::COUNT],
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            requests: [[0; StatusClass::COUNT]; RoutePattern::COUNT],
            refused: [0; CODES.len()],
            opened: [0; SessionKind::COUNT],
            closed: [0; CloseCause::COUNT],
            subscribed: [0; SubscriberKind::COUNT],
            conflated: 0,
            connector_polls: [0; PollResult::COUNT],
        }
    }
}

/// A histogram: how many values fell into each bucket, the last of which has no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistogramSample {
    /// By bucket, not cumulated.
    pub counts: [u64; BUCKETS + 1],
    /// Sum of the values.
    pub sum: u64,
}

impl HistogramSample {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
        self.sum = self.sum.saturating_add(other.sum);
    }
}

/// Which shard a sample is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardLabel {
    /// One.
    Number(u16),
    /// All of them together.
    All,
}

/// What is told by shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSample {
    /// Which.
    pub shard: ShardLabel,
    /// Events stored since the start, by what they came in by.
    pub accepted: [u64; Front::COUNT],
    /// From the turn that stores an event to its answer, microseconds.
    pub publish: HistogramSample,
    /// Of a flush, microseconds.
    pub flush: HistogramSample,
    /// Events for each flush.
    pub flush_events: HistogramSample,
    /// Entities that exist.
    pub entities: u64,
    /// Events that the log has stored so far, removed ones included.
    pub log_events: u64,
    /// Bytes of the log on the disk.
    pub log_bytes: u64,
    /// Milliseconds since the last checkpoint, if the log goes further than that.
    pub checkpoint_age_ms: u64,
    /// History before this was removed, Unix microseconds; 0 if none was.
    pub history_start_micros: u64,
    /// Events replayed at the start so far.
    pub replayed_events: u64,
    /// About the bytes of the log that they take.
    pub replayed_bytes: u64,
    /// The bytes that there are to replay.
    pub replay_bytes: u64,
    /// Shards that refuse events, by reason.
    pub refusing: [u64; RefusalReason::COUNT],
}

impl ShardSample {
    /// Nothing of it yet.
    pub fn new(shard: ShardLabel) -> Self {
        Self {
            shard,
            accepted: [0; Front::COUNT],
            publish: HistogramSample::default(),
            flush: HistogramSample::default(),
            flush_events: HistogramSample::default(),
            entities: 0,
            log_events: 0,
            log_bytes: 0,
            checkpoint_age_ms: 0,
            history_start_micros: 0,
            replayed_events: 0,
            replayed_bytes: 0,
            replay_bytes: 0,
            refusing: [0; RefusalReason::COUNT],
        }
    }

    /// Adds a shard to one that is of all: sums, the oldest checkpoint, and the latest start of
    /// history.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.entities, other.entities),
            (&mut self.log_events, other.log_events),
            (&mut self.log_bytes, other.log_bytes),
            (&mut self.replayed_events, other.replayed_events),
            (&mut self.replayed_bytes, other.replayed_bytes),
            (&mut self.replay_bytes, other.replay_bytes),
        ];
        let fronts = self.accepted.iter_mut().zip(other.accepted);
        let reasons = self.refusing.iter_mut().zip(other.refusing);
        for (sum, more) in pairs.into_iter().chain(fronts).chain(reasons) {
            *sum = sum.saturating_add(more);
        }
        self.publish.add(&other.publish);
        self.flush.add(&other.flush);
        self.flush_events.add(&other.flush_events);
        self.checkpoint_age_ms = self.checkpoint_age_ms.max(other.checkpoint_age_ms);
        self.history_start_micros = self.history_start_micros.max(other.history_start_micros);
    }
}

/// What the kernel says of the process and of the disk below the data directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessSample {
    /// Processor time of all threads, microseconds.
    pub cpu_micros: u64,
    /// Open descriptors.
    pub open_fds: u64,
    /// As many as there may be.
    pub max_fds: u64,
    /// Address space.
    pub virtual_bytes: u64,
    /// Memory in use.
    pub resident_bytes: u64,
    /// When it started, Unix milliseconds.
    pub start_ms: u64,
    /// Bytes that it may still write.
    pub disk_free_bytes: u64,
    /// Bytes of the file system.
    pub disk_bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Snapshot<'s> {
    /// `GET /ready` answers 200.
    pub is_ready: bool,
    /// What a success promises: `sync` or `async`.
    pub durability: &'static str,
    /// From the kernel.
    pub process: ProcessSample,
    /// Open connections, by what they speak.
    pub connections: [u64; SessionKind::COUNT],
    /// Connections that could not be accepted.
    pub accept_failures: u64,
    /// Subscriptions, by what asked for them.
    pub subscriptions: [u64; SubscriberKind::COUNT],
    /// What never falls.
    pub totals: &'s Totals,
    /// By shard, or of all: for what has one number of each.
    pub shards: &'s [ShardSample],
    /// The same for histograms.
    pub histograms: &'s [ShardSample],
    /// The bound on the memory of clients.
    pub memory_limit_bytes: u64,
    /// What they take, by use.
    pub memory: &'s [(&'static str, u64)],
}
