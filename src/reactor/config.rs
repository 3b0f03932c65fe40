//! The settings that a core works by. How they are given is `cli`'s business.

use super::connection::Timeouts;
use crate::background::BackgroundConfig;
use crate::report::AccessLog;
use crate::wire::tls::TlsIdentity;
use std::sync::Arc;

/// See the module. Built by `boot` from [`crate::settings::Settings`].
#[derive(Debug, Clone)]
pub(crate) struct CoreConfig {
    /// Connections that the process has descriptors for.
    pub(crate) connections_possible: u32,
    /// When a connection is overdue.
    pub(crate) timeouts: Timeouts,
    /// What clients are presented with; `None`: connections are not encrypted.
    pub(crate) tls: Option<Arc<TlsIdentity>>,
    /// Where requests are noted that are over.
    pub(crate) access: Option<AccessLog>,
    /// The settings of background work.
    pub(crate) background: BackgroundConfig,
}
