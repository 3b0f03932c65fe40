//! One shard as its core sees it: what is asked of it, and how cores ask. One owner, plain
//! synchronous code; the event loop calls it, and so does a simulator.
//!
//! | file | job |
//! | --- | --- |
//! | `message` | what cores say to each other |
//! | `mailbox` | how they say it: bounded, and waking the other core |
//! | `owner` | the shard as its core sees it: requests in, replies out when they are durable |
//! | `deadline_clock` | the clock that deadlines run by |
//! | `ends` | entities that come to their end by themselves |
//! | `groups` | atomic batches on their shard |
//! | `bindings` | which entities are bound to which connection |
//! | `duplicates` | what the shard answers to events that were stored before |
//! | `presence` | entities that go with the connection that they are bound to |
//! | `reads` | what the shard answers to reads |
//! | `worked` | how far it came with a request, and what it has stored |
//! | `router` | the way from a core to every shard |
//! | `counters/`, `address_limiter`, `active_sources`, `strangers` | the little that cores share |
//! | `tickets` | the tickets of all cores |
//! | `memory` | what the clients of a core hold in memory |
//! | `memory_budget` | the bound on it for all cores |
//! | `memory_loan` | what a query of the past works in |
//! | `base` | the state that a shortened log begins with |
//! | `recovery` | a data directory → a shard: checkpoint, base, earlier generations, log |
#![deny(clippy::wildcard_enum_match_arm)]

mod active_sources;
mod address_limiter;
mod base;
mod bindings;
mod counters;
mod deadline_clock;
mod duplicates;
mod ends;
mod groups;
mod mailbox;
mod memory;
mod memory_budget;
mod memory_loan;
mod message;
mod owner;
mod presence;
mod reads;
mod recovery;
#[cfg(test)]
mod recovery_test;
mod router;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod simulation_ends;
#[cfg(test)]
mod simulation_failures;
#[cfg(test)]
mod simulation_groups;
#[cfg(test)]
mod simulation_presence;
#[cfg(test)]
mod simulation_replay;
#[cfg(test)]
mod simulation_writes;
mod strangers;
mod tickets;
mod worked;

pub(crate) use address_limiter::{Exhausted, network_of};
pub use base::advance_base;
pub(crate) use counters::{Counters, DurationHistogram, Tally};
pub use mailbox::{Inbox, MailboxSender, Outbound, mailboxes};
pub use memory::{ClientIndex, MemoryAccount, MemoryHolders, MemoryHolding};
pub use memory_budget::{MemoryBudget, MemoryClient, MemoryPart, MemoryParts, MemoryUsage};
pub(crate) use memory_loan::MemoryLoan;
pub use message::{
    ConnectorsAsked, ControlMessage, Envelope, ListPart, MCP_BIT, Message, Origin, Reply,
    RequestId, ShardRequest, ShardStatistics, ShownEntity, WEBSOCKET_BIT,
};
pub use owner::Shard;
pub use router::{Asked, Router};

/// A shard over the log in segment files.
pub type LocalShard = Shard<crate::log::LocalLog>;
pub use recovery::{
    RecoverError, Recovered, RecoveryProgress, covered, finish_repartition, recall_ids, recover,
};
