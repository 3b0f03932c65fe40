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
//! | `patterns` | what one subscription is to: a pattern, or several |
//! | `interest` | what a core asks a shard to tell it |
//! | `verdict` | whether an entity matches a filter, before a change and after |
//! | `registry` | filters to subscribers, on shards and on cores |
//! | `prefix_tree` | the part of a registry that holds prefixes |
//! | `subscribers` | the subscribers of one filter |
//! | `change` | all changes of one flush, with their encoded frames |
//! | `outbox` | the bytes that go to one connection |
//! | `conflate` | the newest frame of each property, for a slow reader |
//! | `merged` | changes of one entity, merged into one |
//! | `pace` | changes that come faster than a subscriber wants them |
//! | `slab` | values at stable small indexes |
//! | `simulation` | for tests: a slow reader against a model |
//!
//! A frame is bytes here. This folder must not know JSON or WebSocket; it waits for nothing and
//! reads no clock.

mod change;
mod conflate;
mod filter;
mod interest;
mod merged;
mod outbox;
mod pace;
mod patterns;
mod prefix_tree;
mod registry;
#[cfg(test)]
mod simulation;
mod slab;
mod subscribers;
mod verdict;

pub use change::{
    Change, ChangeBatch, ChangeBatchBuilder, ChangeKind, Changes, Detail, EventFacts, Update,
    Updates, unlogged_sequence,
};
pub use filter::{Filter, FilterError};
pub use interest::{Forms, Interest};
pub use merged::{ChangeHead, EncodeMerged, MergedChange, Part};
pub use outbox::{Outbox, OutboxLimits, Overflow};
pub use pace::{Due, Pacer};
pub use patterns::Patterns;
pub use registry::Registry;
pub use verdict::{FilterVerdict, TooCostly, Verdict};
