//! The settings a running server works by. How they are given is `cli`'s business.

use crate::auth::TokenHash;
use crate::connectors::EncryptionKey;
use crate::model::Durability;
use crate::reactor::connection::Timeouts;
use crate::settings::StorageUpkeep;

/// See the module. Built by `boot` from [`crate::settings::Settings`].
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// What a success promises.
    pub(crate) durability: Durability,
    /// Milliseconds between two flushes in `async` durability.
    pub(crate) flush_interval_ms: u64,
    /// Connections that the process has descriptors for.
    pub(crate) connections_possible: u32,
    /// Writes need a token.
    pub(crate) auth: bool,
    /// What is kept of the operator's token.
    pub(crate) admin: Option<TokenHash>,
    /// What connectors' credentials are encrypted with.
    pub(crate) encryption_key: Option<EncryptionKey>,
    /// When a connection is overdue.
    pub(crate) timeouts: Timeouts,
    /// When checkpoints are taken and history is removed.
    pub(crate) upkeep: StorageUpkeep,
}
