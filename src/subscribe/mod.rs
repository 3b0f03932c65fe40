//! Live updates without sockets: subscriptions, changes, and the outbox of each connection.
//!
//! ```text
//! shard: flush ─> Registry<core> ─> ChangeBatch ─(mailbox)─> core: Registry<connection> ─> Outbox
//! ```
//!
//! | file | job |
//! | --- | --- |
//! | `filter` | what a client asks for: one entity, a prefix, everything |
//! | `registry` | filters to subscribers, at both levels |
//! | `prefix_tree`, `subscribers`, `slab` | the parts of a registry |
//! | `change` | all changes of one flush with their encoded frames |
//! | `outbox` | the bytes that go to one connection |
//! | `conflate` | the newest frame of each property, for a slow reader |
//!
//! A frame is bytes here: this module knows neither JSON nor WebSocket, waits for nothing and reads
//! no clock.

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
