//! The little that all cores know of each other: counters, each written by one core and read by
//! all, and three flags. Nothing here orders anything; a reader may be a moment behind.
//!
//! | file | job |
//! | --- | --- |
//! | `tally` | what is counted for `GET /metrics` alone |
//! | `histogram` | values by bucket |

mod histogram;
mod tally;

use super::active_sources::ActiveSources;
use super::address_limiter::AddressLimiter;
use super::memory_budget::MemoryBudget;
use super::strangers::Strangers;
use super::tickets::SharedTickets;
use crate::api::encode::Metrics;
use crate::api::metrics::{
    ProcessSample, SessionKind, ShardLabel, ShardSample, SubscriberKind, Totals,
};
use crate::limits::REGISTRATIONS_PER_ADDRESS_MAX_DEFAULT;
use crate::model::{Durability, Timestamp};
use crate::shard::RecoveryProgress;
use flux_storage::Sequence;
pub(crate) use histogram::DurationHistogram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
pub(crate) use tally::Tally;

/// Adds to a counter that no other thread writes: without a locked instruction.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

/// Counters of one core. On cache lines of their own, so that one core's counting does not slow
/// another's.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CoreCounters {
    /// Entities of its shard.
    pub(crate) entities: AtomicU64,
    /// Events in its shard's log, those replayed at start included.
    pub(crate) events: AtomicU64,
    /// The latest time of an event in its shard, Unix microseconds.
    pub(crate) latest_event_micros: AtomicI64,
    /// The last event of its shard that may be seen.
    pub(crate) visible: AtomicU64,
    /// Open connections.
    pub(crate) connections: AtomicU64,
    /// Of those, WebSocket connections.
    pub(crate) websockets: AtomicU64,
    /// Subscriptions of its connections.
    pub(crate) subscriptions: AtomicU64,
    /// Connections that could not be accepted.
    pub(crate) accept_failures: AtomicU64,
    /// 1 once its log is replayed.
    pub(crate) ready: AtomicU64,
    /// Events replayed so far.
    pub(crate) replayed_events: AtomicU64,
    /// About the bytes of the log that they take, and that there are to replay.
    replayed_bytes: AtomicU64,
    replay_bytes: AtomicU64,
    /// Events whose ids were read again so far.
    recalled_events: AtomicU64,
    /// Bytes that its shard's log takes on the disk, as the last sweep or retention saw them.
    pub(crate) log_bytes: AtomicU64,
    /// 1 once it has ended its connections on the way out.
    pub(crate) drained: AtomicU64,
}

impl CoreCounters {
    /// Its shard's recovery has come so far.
    pub(crate) fn note_recovery(&self, progress: RecoveryProgress) {
        self.replayed_events.store(progress.events, Relaxed);
        self.replayed_bytes.store(progress.bytes, Relaxed);
        self.replay_bytes.store(progress.bytes_total, Relaxed);
    }

    /// The id of one more event is known again.
    pub(crate) fn note_recalled(&self) {
        add(&self.recalled_events, 1);
    }

    fn fill(&self, sample: &mut ShardSample) {
        sample.entities = self.entities.load(Relaxed);
        sample.log_events = self.events.load(Relaxed);
        sample.log_bytes = self.log_bytes.load(Relaxed);
        sample.replayed_events = self.replayed_events.load(Relaxed);
        sample.replayed_bytes = self.replayed_bytes.load(Relaxed);
        sample.replay_bytes = self.replay_bytes.load(Relaxed);
    }
}

/// [`ProcessSample`], written by the thread that asks the kernel.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ProcessCounters([AtomicU64; 8]);

impl ProcessCounters {
    /// Takes a new look.
    pub(crate) fn store(&self, sample: &ProcessSample) {
        let values = [
            sample.cpu_micros,
            sample.open_fds,
            sample.max_fds,
            sample.virtual_bytes,
            sample.resident_bytes,
            sample.start_ms,
            sample.disk_free_bytes,
            sample.disk_bytes,
        ];
        for (stored, value) in self.0.iter().zip(values) {
            stored.store(value, Relaxed);
        }
    }

    /// The last look.
    pub(crate) fn load(&self) -> ProcessSample {
        let values = self.0.each_ref().map(|value| value.load(Relaxed));
        let [
            cpu_micros,
            open_fds,
            max_fds,
            virtual_bytes,
            resident_bytes,
            rest @ ..,
        ] = values;
        let [start_ms, disk_free_bytes, disk_bytes] = rest;
        ProcessSample {
            cpu_micros,
            open_fds,
            max_fds,
            virtual_bytes,
            resident_bytes,
            start_ms,
            disk_free_bytes,
            disk_bytes,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Counters {
    cores: Box<[CoreCounters]>,
    /// One for each member of the mailboxes: the cores, and the thread of connectors.
    tallies: Box<[Tally]>,
    /// What the kernel says of the process, as it was last asked.
    pub(crate) process: ProcessCounters,
    /// Connections by address.
    pub(crate) connected: AddressLimiter,
    /// The bound on the memory of all clients.
    pub(crate) memory: Arc<MemoryBudget>,
    /// Subscriptions by address.
    pub(crate) subscribed: AddressLimiter,
    /// What callers without a token of their own have tried.
    pub(crate) strangers: Strangers,
    /// Tickets that were made and not used.
    pub(crate) tickets: SharedTickets,
    /// Sources that published lately, by name.
    pub(crate) sources: ActiveSources,
    /// How many those are, as a core last counted them.
    pub(crate) publishers: AtomicU64,
    /// Bytes of memory that the polls of connectors hold of their answers.
    pub(crate) connector_bytes: AtomicU64,
    /// What a success promises.
    durability: Durability,
    /// The directory was made.
    pub(crate) has_directory: AtomicBool,
    stopping: AtomicBool,
    /// The state has to be made anew after the stop.
    rebuilding: AtomicBool,
}

impl Counters {
    /// For `cores` cores, whose clients may take `memory_bytes` bytes.
    pub(crate) fn new(cores: usize, memory_bytes: usize) -> Self {
        Self {
            // The thread of connectors is one more member.
            memory: Arc::new(MemoryBudget::new(memory_bytes, cores + 1)),
            cores: (0..cores).map(|_| CoreCounters::default()).collect(),
            tallies: (0..=cores).map(|_| Tally::default()).collect(),
            process: ProcessCounters::default(),
            connected: AddressLimiter::new(),
            subscribed: AddressLimiter::new(),
            strangers: Strangers::new(REGISTRATIONS_PER_ADDRESS_MAX_DEFAULT),
            tickets: SharedTickets::default(),
            sources: ActiveSources::default(),
            publishers: AtomicU64::new(0),
            connector_bytes: AtomicU64::new(0),
            durability: Durability::Sync,
            has_directory: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            rebuilding: AtomicBool::new(false),
        }
    }

    /// Allows an address so many registrations in ten minutes.
    pub(crate) fn with_registrations(mut self, per_address: u32) -> Self {
        self.strangers = Strangers::new(per_address);
        self
    }

    /// Says what a success promises.
    pub(crate) fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// What a success promises.
    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// The counters of one core.
    pub(crate) fn of(&self, core: u16) -> &CoreCounters {
        &self.cores[usize::from(core)]
    }

    /// What a member of the mailboxes counts: a core, or behind them the thread of connectors.
    pub(crate) fn tally(&self, member: u16) -> &Tally {
        &self.tallies[usize::from(member)]
    }

    /// All that never falls, added up.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for tally in &self.tallies {
            tally.add_to(&mut totals);
        }
        totals
    }

    /// What is told by shard: of each, or of all together if they are more than `shards_max`.
    pub(crate) fn shard_samples(&self, shards_max: u16) -> Vec<ShardSample> {
        let mut all = ShardSample::new(ShardLabel::All);
        let is_by_shard = self.cores.len() <= usize::from(shards_max);
        let samples = (0_u16..).zip(self.cores.iter().zip(&self.tallies));
        let mut by_shard = Vec::new();
        for (shard, (core, tally)) in samples {
            let mut sample = ShardSample::new(ShardLabel::Number(shard));
            tally.fill(&mut sample);
            core.fill(&mut sample);
            if is_by_shard {
                by_shard.push(sample);
            } else {
                all.add(&sample);
            }
        }
        if !is_by_shard {
            by_shard.push(all);
        }
        by_shard
    }

    /// Open connections, by what they speak.
    pub(crate) fn sessions(&self) -> [u64; SessionKind::COUNT] {
        let websockets = self.sum(|core| &core.websockets);
        let streams = self.tallies.iter().map(Tally::streams).sum::<u64>();
        let all = self.connections();
        SessionKind::ALL.map(|kind| match kind {
            SessionKind::Http => all.saturating_sub(websockets + streams),
            SessionKind::WebSocket => websockets,
            SessionKind::Sse => streams,
        })
    }

    /// Subscriptions, by what asked for them.
    pub(crate) fn subscriptions_by_kind(&self) -> [u64; SubscriberKind::COUNT] {
        let mut sums = [0; SubscriberKind::COUNT];
        for tally in &self.tallies {
            for (sum, count) in sums.iter_mut().zip(tally.subscriptions()) {
                *sum += count;
            }
        }
        sums
    }

    /// Connections that could not be accepted.
    pub(crate) fn accept_failures(&self) -> u64 {
        self.sum(|core| &core.accept_failures)
    }

    fn sum(&self, counter: impl Fn(&CoreCounters) -> &AtomicU64) -> u64 {
        self.cores
            .iter()
            .map(|core| counter(core).load(Relaxed))
            .sum()
    }

    /// What `metrics_update` says, but for the rate.
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics {
            entities: self.sum(|core| &core.entities),
            events: self.sum(|core| &core.events),
            events_per_10_seconds: 0,
            websockets: self.sum(|core| &core.websockets),
            publishers: self.publishers.load(Relaxed),
        }
    }

    /// The latest time of an event in any shard. Later than the clock's if that was set back.
    pub(crate) fn latest_event(&self) -> Timestamp {
        let times = self.cores.iter();
        let times = times.map(|core| core.latest_event_micros.load(Relaxed));
        Timestamp::from_micros(times.max().unwrap_or_default())
    }

    /// The last event of a shard that may be seen.
    pub(crate) fn visible(&self, shard: u16) -> Sequence {
        let core = self.cores.get(usize::from(shard));
        Sequence::new(core.map_or(0, |core| core.visible.load(Relaxed)))
    }

    /// Open connections of all cores.
    pub(crate) fn connections(&self) -> u64 {
        self.sum(|core| &core.connections)
    }

    /// Subscriptions of all connections.
    pub(crate) fn subscriptions(&self) -> u64 {
        self.sum(|core| &core.subscriptions)
    }

    /// Bytes of all shards' logs.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.sum(|core| &core.log_bytes)
    }

    /// True once every core has replayed its log.
    pub(crate) fn is_replayed(&self) -> bool {
        self.sum(|core| &core.ready) == self.cores.len() as u64
    }

    /// True once every core has replayed its log, and the directory says what that came to.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_replayed() && self.has_directory.load(Relaxed)
    }

    /// How far the recovery of all shards has come.
    pub(crate) fn recovery(&self) -> RecoveryProgress {
        RecoveryProgress {
            events: self.sum(|core| &core.replayed_events),
            bytes: self.sum(|core| &core.replayed_bytes),
            bytes_total: self.sum(|core| &core.replay_bytes),
        }
    }

    /// How much all cores have done of what a start does after the replay: rises while it goes on.
    pub(crate) fn done_after_replay(&self) -> u64 {
        let ended: u64 = self.tallies.iter().map(Tally::ended_entities).sum();
        self.sum(|core| &core.recalled_events).wrapping_add(ended)
    }

    /// True once every core has ended its connections.
    pub(crate) fn is_drained(&self) -> bool {
        self.sum(|core| &core.drained) == self.cores.len() as u64
    }

    /// Counts a connection that could not be accepted; true for the 1st, 2nd, 4th, 8th…, which is
    /// worth a line.
    pub(crate) fn note_accept_failure(&self, core: u16) -> bool {
        self.of(core)
            .accept_failures
            .fetch_add(1, Relaxed)
            .wrapping_add(1)
            .is_power_of_two()
    }

    /// Tells every core to stop.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// Tells every core to stop, and the process to start anew. True for the first call.
    pub(crate) fn rebuild(&self) -> bool {
        let first = !self.rebuilding.swap(true, Relaxed);
        self.stop();
        first
    }

    /// True if the process is to start anew.
    pub(crate) fn is_rebuilding(&self) -> bool {
        self.rebuilding.load(Relaxed)
    }

    /// True once the process is to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }
}
