//! One shard: a log, the state that follows from it, and who wants to know of changes. One owner, plain
//! synchronous code; the server's loop calls it, and so does a simulator.
//!
//! | file | job |
//! | --- | --- |
//! | `message` | what cores say to each other |
//! | `mailbox` | how they say it: bounded, and waking the other core |
//! | `log` | the few things an engine asks of its log |
//! | `engine` | decide → append → apply → match subscribers |
//! | `kept` | entities that the server keeps itself |
//! | `changes` | a change → the frames its subscribers get |
//! | `owner` | the shard as its core sees it: requests in, replies out when they are durable |
//! | `replay` | records → state |
//! | `base` | the state that a shortened log begins with |
//! | `recovery` | a data directory → a shard: checkpoint, base, earlier generations, log |
#![deny(clippy::wildcard_enum_match_arm)]

mod base;
mod changes;
mod engine;
mod kept;
mod log;
mod mailbox;
mod message;
mod owner;
mod recovery;
#[cfg(test)]
mod recovery_test;
mod replay;
#[cfg(test)]
mod simulation;

pub use crate::model::{RECORD_KIND_EVENT, place, place_key};
pub use base::advance_base;
pub use changes::CollectedChanges;
pub use engine::{Engine, EngineReplayError, ReadAnswer, Snapshot, StateDamaged};
pub use log::{AppendRefusal, EventLog};
pub use mailbox::{Inbox, Outbound, Postbox, mailboxes};
pub use message::{
    Census, Chunk, ConnectorsAsked, ControlMessage, Envelope, Holding, Message, Origin, Reply,
    ShardRequest, Ticket,
};
pub use owner::Shard;
pub use recovery::{RecoverError, Recovered, RecoveryProgress, covered, recover};
pub use replay::{ReplayFault, replay_record};
