//! Flux: a persistent, shared, event-sourced world-state engine.
//!
//! ARCHITECTURE.md has the map, and the path of an event file by file.

pub mod api;
pub mod auth;
mod background;
pub mod boot;
pub mod cli;
pub mod clock;
mod connectors;
pub mod control;
pub mod engine;
mod faults;
pub mod filter;
pub mod front;
pub mod history;
pub mod limits;
pub mod log;
pub mod model;
pub mod pages;
mod reactor;
pub mod report;
mod service;
pub mod settings;
pub mod shard;
#[cfg(test)]
mod simulation;
pub mod state;
pub mod subscribe;
pub mod wire;
