//! What a core does beside requests, on its own or on helper threads.
//!
//! Each file is a state machine that the event loop drives: `start_due` begins what is due and
//! leaves [`job::Job`]s for helper threads, `on_…` takes a job's result. Time is an argument.
//! Nothing here waits.
//!
//! | file | job |
//! | --- | --- |
//! | `flush` | makes the log durable, prepares its next segment |
//! | `checkpoints` | writes the state down, so that a start replays little |
//! | `retention` | builds history indexes, removes old segments |
//! | `ballast` | holds room on the disk back for retention and shutdown |
//! | `decoding` | large bodies that a helper thread decodes |
//! | `handshakes` | handshakes of TLS that a helper thread carries out |
//! | `history` | helper threads that read the past |
//! | `history_queue` | whose read of the past is next |
//! | `turns` | turns by address and connection |
//! | `control` | carries out changes of the control plane, on core 0 |
//! | `directory` | keeps `flux-core/directory` up to date |
//! | `throttle` | how fast helper threads work |
//! | `job` | what is handed to helper threads and what comes back |
//!
//! It must not know: sockets, connections, protocols, calls, or how threads are run.

pub(crate) mod ballast;
pub(crate) mod checkpoints;
pub(crate) mod control;
pub(crate) mod decoding;
pub(crate) mod directory;
pub(crate) mod flush;
pub(crate) mod handshakes;
pub(crate) mod history;
pub(crate) mod history_queue;
pub(crate) mod job;
pub(crate) mod retention;
pub(crate) mod throttle;
pub(crate) mod turns;

use crate::log::Log;
use crate::model::Timestamp;
use crate::settings::StorageHousekeeping;
use crate::shard::Shard;
use flux_storage::{CheckpointDir, Sequence};

/// A shard as it comes from the thread that recovers it.
#[derive(Debug)]
pub(crate) struct OpenedShard<L: Log> {
    /// The shard.
    pub(crate) shard: Shard<L>,
    /// The states stored of it; `None` of a log that keeps none.
    pub(crate) states: Option<OpenedStates>,
    /// What the newest checkpoint covers.
    pub(crate) through: Sequence,
}

/// The states stored of a shard's log.
#[derive(Debug)]
pub(crate) struct OpenedStates {
    /// Its checkpoints.
    pub(crate) checkpoints: CheckpointDir,
    /// The state that its log begins with.
    pub(crate) base: CheckpointDir,
}

/// The settings of background work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackgroundConfig {
    /// Milliseconds between two flushes in `async` durability.
    pub(crate) flush_interval_ms: u64,
    /// When checkpoints are taken and history is removed.
    pub(crate) housekeeping: StorageHousekeeping,
}

/// The clocks, as a turn of the event loop has read them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moment {
    /// The wall clock.
    pub(crate) now: Timestamp,
    /// Monotonic milliseconds.
    pub(crate) ms: u64,
    /// Monotonic microseconds.
    pub(crate) micros: u64,
}
