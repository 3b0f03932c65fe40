//! Live updates without sockets: who wants which entities, what changed, and what each connection
//! still has to be sent.
//!
//! ```text
//! shard: flush ─▶ Registry<core> ─▶ ChangeBatch ─(mailbox)─▶ core
//! core:  Registry<connection> ─▶ Outbox ─▶ socket
//! ```
//!
//! | file | job |
//! | --- | --- |
//! | `filter` | what a client asks for: one entity, a prefix, everything |
//! | `registry` | filters to subscribers, on shards and on cores |
//! | `prefix_tree` | the part of a registry that holds prefixes |
//! | `subscribers` | the subscribers of one filter |
//! | `change` | all changes of one flush, with their encoded frames |
//! | `outbox` | the bytes that go to one connection |
//! | `conflate` | the newest frame of each property, for a slow reader |
//! | `slab` | values at stable small indexes |
//! | `simulation` | for tests: a slow reader against a model |
//!
//! A frame is bytes here. This folder must not know JSON or WebSocket; it waits for nothing and
//! reads no clock.

mod change;
mod conflate;
mod filter;
mod outbox;
mod prefix_tree;
mod registry;
#[cfg(test)]
mod simulation;
mod slab;
mod subscribers;

pub use change::{Change, ChangeBatch, ChangeBatchBuilder, Changes, Update, Updates, UpdatesIter};
pub use filter::{Filter, FilterError};
pub use outbox::{Outbox, OutboxLimits, Overflow};
pub use registry::Registry;
