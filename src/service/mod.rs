//! What Flux does, without a protocol.

pub(crate) mod access;
pub(crate) mod address_limiter;
pub(crate) mod connectors;
pub(crate) mod context;
pub(crate) mod counters;
pub(crate) mod delete;
pub(crate) mod history;
pub(crate) mod list;
pub(crate) mod namespace_page;
pub(crate) mod namespaces;
pub(crate) mod pending;
