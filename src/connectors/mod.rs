//! Connectors: outside sources that Flux polls and whose items become events (API contract §12).
//!
//! ```text
//! timetable ──due──▶ poll ──Request──▶ fetch ──Response──▶ source ──Finding──▶ publisher
//!                      ▲                                                          │   └▶ service
//!                      └──────────────── next poll, by `schedule` ◀───────────────┘
//! ```
//!
//! All connectors run on one thread, off the reactors, with a small tokio runtime. The thread is a
//! member of the mailboxes without a shard. Changes of definitions reach it as they reach cores, it
//! publishes through the service as fronts do, and it answers the cores' questions about the state
//! of connectors.
//!
//! What defines a source and what is taken of its answers is in `api::connectors`; how credentials
//! are encrypted is in `auth::credential`.
//!
//! | file | job |
//! | --- | --- |
//! | `exchange` | requests, responses and findings: the types between sources and polls |
//! | `http_source`, `github` | sources: answers in, findings out, without I/O |
//! | `schedule`, `timetable` | when to poll next; who is due |
//! | `address` | which addresses are public |
//! | `fetch` | one request, with its redirects and bounds |
//! | `calls` | calls of polls to the service |
//! | `publisher` | publishes the findings that are new |
//! | `poll` | one poll from start to end |
//! | `supervisor` | the thread |
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod address;
mod calls;
mod exchange;
mod fetch;
mod github;
mod http_source;
mod poll;
mod publisher;
mod schedule;
mod supervisor;
mod timetable;

pub(crate) use supervisor::{Supervisor, SupervisorParts};
