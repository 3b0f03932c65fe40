//! Live updates without sockets: who wants which entities, what changed, and what each connection is owed.
//!
//! ```text
//! shard: flush ──> Registry<core> ──> ChangeBatch ──(mailbox)──> core: Registry<connection> ──> Outbox ──> socket
//! ```
//!
//! | file | what it holds |
//! | --- | --- |
//! | `filter` | what a client asks for: one entity, a prefix, everything |
//! | `registry` | filters to subscribers, at both levels; `prefix_tree` and `subscribers` are its parts |
//! | `change` | all changes of one flush with their encoded frames |
//! | `outbox` | the bytes that one connection is owed; `conflate` takes over when its reader is slow |
//!
//! A frame is bytes here: this module knows neither JSON nor WebSocket, waits for nothing and reads no clock.

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
