//! The settings a running server works by. How they are given is `cli`'s business.

use super::connection::Timeouts;
use crate::auth::TokenHash;
use crate::connectors::EncryptionKey;
use crate::model::Durability;
use crate::settings::StorageUpkeep;

/// See the module. Built by `boot` from [`crate::settings::Settings`].
#[derive(Debug, Clone)]
pub(super) struct Config {
    /// What a success promises.
    pub(super) durability: Durability,
    /// Milliseconds between two flushes in `async` durability.
    pub(super) flush_interval_ms: u64,
    /// Connections that the process has descriptors for.
    pub(super) connections_possible: u32,
    /// Writes need a token.
    pub(super) auth: bool,
    /// What is kept of the operator's token.
    pub(super) admin: Option<TokenHash>,
    /// What connectors' credentials are encrypted with.
    pub(super) encryption_key: Option<EncryptionKey>,
    /// When a connection is overdue.
    pub(super) timeouts: Timeouts,
    /// When checkpoints are taken and history is removed.
    pub(super) upkeep: StorageUpkeep,
}
