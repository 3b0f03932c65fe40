//! One core: its event loop, its sockets and its helper threads.
//!
//! | file | job |
//! | --- | --- |
//! | `event_loop` | a turn: what is ready, messages, results, one write for each connection |
//! | `input`, `output` | bytes from and to connections |
//! | `queues` | the connections to read from and to write to, in slices |
//! | `delivery` | messages, replies and changes for this core's connections |
//! | `fan_out` | changes on their way to subscribers, in slices |
//! | `streams` | streams of this core's connections |
//! | `event_streams` | connections that are sent server-sent events |
//! | `tls` | TLS between a connection and its socket |
//! | `connection`, `slots` | a connection, and where a core's connections are |
//! | `system` | what a core asks of its surroundings: a trait that a simulation implements too |
//! | `kernel` | the same by the operating system |
//! | `poller`, `sockets` | readiness, and the few system calls behind it |
//! | `acknowledged` | what a client has not acknowledged, asked of the kernel |
//! | `taking` | whether a slow client still takes bytes: a pure rule |
//! | `turns` | whose turn it is: how connections share a core, a pure policy |
//! | `memory` | what connections hold in memory, and what they wait for |
//! | `idle` | when a core sleeps and when it flushes: one pure policy |
//! | `prefetch` | which entities the requests at hand will ask for |
//! | `publish_times` | how long events take to their answers |
//! | `helpers`, `workers` | drives `background`, and runs its jobs on helper threads |
//! | `watchdog` | notices a core that does not turn |
//! | `housekeeping` | what a core does by the clock |
//! | `access` | the access log of a core |
//! | `config` | the settings that a core works by |
//! | `runtime` | the core's pinned thread |
//!
//! It must not know what a call means, how JSON or a log looks, or what is on the disk.

mod access;
mod acknowledged;
pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod delivery;
pub(crate) mod event_loop;
mod event_streams;
pub(crate) mod fan_out;
mod helpers;
pub(crate) mod housekeeping;
pub(crate) mod idle;
pub(crate) mod input;
pub(crate) mod kernel;
mod memory;
pub(crate) mod output;
pub(crate) mod poller;
pub(crate) mod prefetch;
mod publish_times;
mod queues;
pub(crate) mod runtime;
pub(crate) mod slots;
pub(crate) mod sockets;
mod streams;
pub(crate) mod system;
pub(crate) mod taking;
mod tls;
pub(crate) mod turns;
pub(crate) mod watchdog;
mod workers;
