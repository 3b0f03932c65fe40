//! What an operator can change while the server runs (API contract §7).

/// A change of the configuration: what is `None` stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConfigPatch {
    /// Whether namespaces are held to a rate, in auth mode.
    pub rate_limit_enabled: Option<bool>,
    /// Events that a namespace may publish in a minute.
    pub rate_limit_per_namespace_per_minute: Option<u32>,
    /// The body of one event, bytes.
    pub body_size_limit_single_bytes: Option<u32>,
    /// The body of a batch, bytes.
    pub body_size_limit_batch_bytes: Option<u32>,
    /// Entities that one batch delete may match.
    pub max_batch_delete: Option<u32>,
    /// Open connections.
    pub max_connections: Option<u32>,
    /// Open connections from one address.
    pub max_connections_per_address: Option<u32>,
    /// Subscriptions of all connections.
    pub max_subscriptions: Option<u32>,
    /// Subscriptions of the connections from one address.
    pub max_subscriptions_per_address: Option<u32>,
}

impl ConfigPatch {
    /// This change and then `later`, as one.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        Self {
            rate_limit_enabled: later.rate_limit_enabled.or(self.rate_limit_enabled),
            rate_limit_per_namespace_per_minute: later
                .rate_limit_per_namespace_per_minute
                .or(self.rate_limit_per_namespace_per_minute),
            body_size_limit_single_bytes: later
                .body_size_limit_single_bytes
                .or(self.body_size_limit_single_bytes),
            body_size_limit_batch_bytes: later
                .body_size_limit_batch_bytes
                .or(self.body_size_limit_batch_bytes),
            max_batch_delete: later.max_batch_delete.or(self.max_batch_delete),
            max_connections: later.max_connections.or(self.max_connections),
            max_connections_per_address: later
                .max_connections_per_address
                .or(self.max_connections_per_address),
            max_subscriptions: later.max_subscriptions.or(self.max_subscriptions),
            max_subscriptions_per_address: later
                .max_subscriptions_per_address
                .or(self.max_subscriptions_per_address),
        }
    }
}

/// The configuration in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// See [`ConfigPatch`], here and below.
    pub rate_limit_enabled: bool,
    /// At least 1, like all numbers here.
    pub rate_limit_per_namespace_per_minute: u32,
    /// Bytes.
    pub body_size_limit_single_bytes: u32,
    /// Bytes.
    pub body_size_limit_batch_bytes: u32,
    /// Entities.
    pub max_batch_delete: u32,
    /// Connections.
    pub max_connections: u32,
    /// Connections.
    pub max_connections_per_address: u32,
    /// Subscriptions.
    pub max_subscriptions: u32,
    /// Subscriptions.
    pub max_subscriptions_per_address: u32,
}

impl RuntimeConfig {
    /// What a change makes of it.
    #[must_use]
    pub fn with(self, patch: &ConfigPatch) -> Self {
        Self {
            rate_limit_enabled: patch.rate_limit_enabled.unwrap_or(self.rate_limit_enabled),
            rate_limit_per_namespace_per_minute: patch
                .rate_limit_per_namespace_per_minute
                .unwrap_or(self.rate_limit_per_namespace_per_minute),
            body_size_limit_single_bytes: patch
                .body_size_limit_single_bytes
                .unwrap_or(self.body_size_limit_single_bytes),
            body_size_limit_batch_bytes: patch
                .body_size_limit_batch_bytes
                .unwrap_or(self.body_size_limit_batch_bytes),
            max_batch_delete: patch.max_batch_delete.unwrap_or(self.max_batch_delete),
            max_connections: patch.max_connections.unwrap_or(self.max_connections),
            max_connections_per_address: patch
                .max_connections_per_address
                .unwrap_or(self.max_connections_per_address),
            max_subscriptions: patch.max_subscriptions.unwrap_or(self.max_subscriptions),
            max_subscriptions_per_address: patch
                .max_subscriptions_per_address
                .unwrap_or(self.max_subscriptions_per_address),
        }
    }
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        use crate::limits;
        Self {
            rate_limit_enabled: true,
            rate_limit_per_namespace_per_minute: limits::RATE_PER_MINUTE_DEFAULT,
            body_size_limit_single_bytes: limits::BODY_SINGLE_BYTES_DEFAULT,
            body_size_limit_batch_bytes: limits::BODY_BATCH_BYTES_DEFAULT,
            max_batch_delete: limits::BATCH_DELETE_MAX_DEFAULT,
            max_connections: limits::CONNECTIONS_MAX_DEFAULT,
            max_connections_per_address: limits::CONNECTIONS_PER_ADDRESS_MAX_DEFAULT,
            max_subscriptions: limits::SUBSCRIPTIONS_MAX_DEFAULT,
            max_subscriptions_per_address: limits::SUBSCRIPTIONS_PER_ADDRESS_MAX_DEFAULT,
        }
    }
}
