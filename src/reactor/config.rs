//! The settings that a core works by. How they are given is `cli`'s business.

use super::connection::Timeouts;
use crate::background::BackgroundConfig;

/// See the module. Built by `boot` from [`crate::settings::Settings`].
#[derive(Debug, Clone)]
pub(crate) struct CoreConfig {
    /// Connections that the process has descriptors for.
    pub(crate) connections_possible: u32,
    /// When a connection is overdue.
    pub(crate) timeouts: Timeouts,
    /// The settings of background work.
    pub(crate) background: BackgroundConfig,
}
