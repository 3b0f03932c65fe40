//! Flux: a persistent, shared, event-sourced world-state engine.
//!
//! Read the modules in the order of an event's path: `wire`, `api`, `shard`, `state`, `subscribe`, `server`.
//! ARCHITECTURE.md has the map.

pub mod limits;
pub mod model;
