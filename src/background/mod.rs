//! What goes on beside requests: each file is one kind of work, most of it on helper threads.
//!
//! The event loop gives each a [`Turn`] to start what is due and to take what is finished. It must not know requests,
//! connections or protocols.
//!
//! | file | job |
//! | --- | --- |
//! | `flush`, `flush_thread` | flushes of the log, and the thread that makes them |
//! | `segment_throttle` | how fast the next segment is made |
//! | `checkpoints` | checkpoints of the state |
//! | `retention` | what the log leaves behind |
//! | `ballast` | the room on the disk that is held back |
//! | `history` | queries of the past |
//! | `control` | changes of the control plane |
//! | `directory` | the upkeep of `flux-core/directory` |
//! | `pace` | how fast a helper may go |

pub(crate) mod ballast;
pub(crate) mod checkpoints;
pub(crate) mod control;
pub(crate) mod directory;
pub(crate) mod flush;
pub(crate) mod flush_thread;
pub(crate) mod history;
pub(crate) mod pace;
pub(crate) mod retention;
pub(crate) mod segment_throttle;

use crate::model::Timestamp;
use crate::settings::StorageUpkeep;
use crate::shard::{Counters, LocalShard};

/// What background work is given of its core, for one step.
#[derive(Debug)]
pub(crate) struct Turn<'c> {
    /// The core's index.
    pub(crate) core: u16,
    /// Number of shards.
    pub(crate) shards: u16,
    /// The core's shard; `None` until its log is replayed.
    pub(crate) shard: &'c mut Option<LocalShard>,
    /// The wall clock.
    pub(crate) now: Timestamp,
    /// The monotonic clock, milliseconds.
    pub(crate) now_ms: u64,
    /// The monotonic clock, microseconds.
    pub(crate) now_micros: u64,
    /// What all cores know of each other.
    pub(crate) counters: &'c Counters,
    /// The settings.
    pub(crate) config: &'c BackgroundConfig,
}

/// The settings of background work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackgroundConfig {
    /// Milliseconds between two flushes in `async` durability.
    pub(crate) flush_interval_ms: u64,
    /// When checkpoints are taken and history is removed.
    pub(crate) upkeep: StorageUpkeep,
}
