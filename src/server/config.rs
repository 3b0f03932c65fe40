//! The settings a running server works by. How they are given is `cli`'s business.

use super::connection::Timeouts;
use crate::model::Durability;
use crate::settings::StorageUpkeep;

/// See the module. Built by `boot` from [`crate::settings::Settings`].
#[derive(Debug, Clone)]
pub(super) struct Config {
    /// What a success promises.
    pub(super) durability: Durability,
    /// Milliseconds between two flushes in `async` durability.
    pub(super) flush_interval_ms: u64,
    /// The body of one event, bytes.
    pub(super) body_single_bytes_max: usize,
    /// The body of a batch, bytes.
    pub(super) body_batch_bytes_max: usize,
    /// Entities that one batch delete may match.
    pub(super) batch_delete_max: usize,
    /// Connections of the process.
    pub(super) connections_max: usize,
    /// When a connection is overdue.
    pub(super) timeouts: Timeouts,
    /// When checkpoints are taken and history is removed.
    pub(super) upkeep: StorageUpkeep,
}
