//! Connectors: outside sources that are polled, and whose findings become events (API contract
//! §12).
//!
//! ```text
//! timetable ──due──▶ poll ──Request──▶ fetch ──Response──▶ source ──Finding──▶ publisher ──▶ shards
//!                      ▲                                                           │
//!                      └──────────────── next poll, by `schedule` ◀────────────────┘
//! ```
//!
//! All of it runs on one thread of its own, off the reactors, with a small tokio runtime. To the
//! cores that thread is one more member of the mailboxes: it learns of definitions as they do,
//! publishes by the same message as they do, and answers what they ask about the state of
//! connectors.
//!
//! | file | job |
//! | --- | --- |
//! | `exchange` | what a source and the supervisor say to each other |
//! | `http_source`, `github` | sources: answers in, findings out, without I/O |
//! | `schedule`, `timetable` | when to poll next; who is due |
//! | `address` | addresses that a shared server does not reach |
//! | `fetch` | one request, with its redirects and bounds |
//! | `calls` | calls of polls to the service |
//! | `publisher` | findings → events that differ from the last ones → shards |
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
