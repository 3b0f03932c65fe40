//! Flux: a persistent, shared, event-sourced world-state engine.
//!
//! Read the modules in the order of an event's path: `wire`, `api`, `shard`, `state`, `subscribe`, `server`.
//! ARCHITECTURE.md has the map.

pub mod api;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod connectors;
pub mod control;
pub mod history;
pub mod limits;
pub mod model;
pub mod report;
pub mod server;
pub mod settings;
pub mod shard;
pub mod state;
pub mod subscribe;
pub mod wire;
