//! One core's loop.

pub(crate) mod closed_loop;
pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod delivery;
pub(crate) mod event_loop;
pub(crate) mod group_commit_delay;
pub(crate) mod housekeeping;
pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod poller;
pub(crate) mod prefetch;
pub(crate) mod runtime;
pub(crate) mod slots;
pub(crate) mod sockets;
pub(crate) mod spin;
