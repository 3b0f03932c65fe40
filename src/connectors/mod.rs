//! Connectors: outside sources that Flux polls and whose items become events (API contract §12).
//!
//! ```text
//!  the supervisor's thread          the thread that polls, niced
//! ┌───────────────────────┐       ┌──────────────────────────────────────────────────────────┐
//! │ timetable ──due───────┼─Order─▶ poll ──Request──▶ fetch ──Response──▶ source ──Finding─┐ │
//! │     ▲                 │       │   ▲                                                    ▼ │
//! │     └── schedule ◀────┼─Report┼───┴──────────────────────────────────────────── publisher│
//! │ service ◀── calls ◀───┼─Report┼─────────────────────────────────────────────────────┘    │
//! └───────────────────────┘       └──────────────────────────────────────────────────────────┘
//! ```
//!
//! All connectors run on two threads, off the reactors, each with a small tokio runtime. The
//! supervisor is a member of the mailboxes without a shard. Changes of definitions reach it as they
//! reach cores, it publishes through the service as fronts do, and it answers the cores' questions
//! about the state of connectors. It never waits for a poll.
//!
//! Owners take turns, for polls, look-ups of names and memory: `shares` bounds what one of them
//! has.
//!
//! What defines a source and what is taken of its answers is in `api::connectors`; how credentials
//! are encrypted is in `auth::credential`.
//!
//! | file | job |
//! | --- | --- |
//! | `exchange` | requests, responses and findings: the types between sources and polls |
//! | `http_source`, `github` | sources: answers in, findings out, without I/O |
//! | `shares`, `gate` | what each owner has of something scarce; waiting for it by turns |
//! | `schedule`, `timetable` | when to poll next; who is due, by turns of the owners |
//! | `address`, `lookup` | which addresses may be reached; names → such addresses |
//! | `patience` | how long a request may wait for its source |
//! | `memory` | what polls hold of their answers |
//! | `fetch` | one request, with its redirects and bounds |
//! | `calls` | calls of polls to the service |
//! | `publisher` | publishes the findings that are new |
//! | `poll` | one poll from start to end |
//! | `poller` | the thread that polls |
//! | `supervisor` | the thread that says what is polled |
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod address;
mod calls;
mod exchange;
mod fetch;
mod gate;
mod github;
mod http_source;
mod lookup;
mod memory;
mod patience;
mod poll;
mod poller;
mod publisher;
mod schedule;
mod shares;
mod supervisor;
mod timetable;

pub(crate) use poller::{Poller, poller};
pub(crate) use supervisor::{Supervisor, SupervisorParts};
