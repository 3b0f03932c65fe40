//! The little that all cores know of each other: counters, each written by one core and read by
//! all, and three flags. Nothing here orders anything; a reader may be a moment behind.

use super::active_sources::ActiveSources;
use super::address_limiter::AddressLimiter;
use super::memory_budget::MemoryBudget;
use super::strangers::Strangers;
use super::tickets::SharedTickets;
use crate::api::encode::Metrics;
use crate::limits::REGISTRATIONS_PER_ADDRESS_MAX_DEFAULT;
use crate::model::Timestamp;
use crate::shard::RecoveryProgress;
use flux_storage::Sequence;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

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
    /// Bytes that its shard's log takes on the disk, as retention last saw them.
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
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Counters {
    cores: Box<[CoreCounters]>,
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
            connected: AddressLimiter::new(),
            subscribed: AddressLimiter::new(),
            strangers: Strangers::new(REGISTRATIONS_PER_ADDRESS_MAX_DEFAULT),
            tickets: SharedTickets::default(),
            sources: ActiveSources::default(),
            publishers: AtomicU64::new(0),
            connector_bytes: AtomicU64::new(0),
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

    /// The counters of one core.
    pub(crate) fn of(&self, core: u16) -> &CoreCounters {
        &self.cores[usize::from(core)]
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
