//! `flux-bench`: yardsticks for Flux.
//!
//! ```text
//! noop      a server that does nothing but HTTP: what the runtime and the kernel cost without Flux
//! compare   servers in turn under one load, and medians
//! pair      two builds in turn under several loads, and the ratios of new to old
//! table     the page of figures: Flux, a no-op server and Redis under every load
//! peer      load for Redis and NATS, by which `compare` measures them
//! storage   the log by itself: append, flush, replay
//! start     from exec to the first correct answer, and the memory then
//! stall     requests beside a checkpoint and without
//! changed   what a checkpoint writes when little changed
//! history   one entity's last events in a long log
//! evict     puts files out of the page cache
//! ```
//!
//! Nothing here asserts a figure: they are for people, and for comparing one build with another.

mod affinity;
mod cache;
mod changed;
mod clock;
mod compare;
mod entities;
mod flux;
mod history;
mod http;
mod machine;
mod noop;
mod numbers;
mod output;
mod pair;
mod peer;
mod programs;
mod random;
mod server;
mod stall;
mod start;
mod storage;
mod table;
mod trial;
mod work;

use clap::Parser;
use std::process::ExitCode;

/// Yardsticks for the speed of Flux.
#[derive(Debug, Parser)]
#[command(name = "flux-bench", version)]
enum Command {
    /// Serve every request with the same small JSON answer
    Noop(noop::NoopOptions),
    /// Run servers in turn under the same load and print medians
    Compare(compare::CompareOptions),
    /// Run two builds in turn and print the ratios of the new one to the old one
    Pair(pair::PairOptions),
    /// Run Flux, a no-op server and Redis under every load and print a table in Markdown
    Table(table::TableOptions),
    /// Load a server that speaks another protocol, and print figures as JSON
    Peer(peer::PeerOptions),
    /// Append to a log, flush it and replay it, without a server
    Storage(storage::StorageOptions),
    /// Start a server and time the first correct answer
    Start(start::StartOptions),
    /// Time requests beside a checkpoint and without
    Stall(stall::StallOptions),
    /// Tell what a checkpoint writes when few entities changed
    Changed(changed::ChangedOptions),
    /// Time the look-up of one entity's last events
    History(history::HistoryOptions),
    /// Put a directory's files out of the page cache
    Evict(cache::EvictOptions),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Noop(options) => noop::run(&options),
        Command::Compare(options) => compare::run(&options),
        Command::Pair(options) => pair::run(&options),
        Command::Table(options) => table::run(&options),
        Command::Peer(options) => peer::run(&options),
        Command::Storage(options) => storage::run(&options),
        Command::Start(options) => start::run(&options),
        Command::Stall(options) => stall::run(&options),
        Command::Changed(options) => changed::run(&options),
        Command::History(options) => history::run(&options),
        Command::Evict(options) => cache::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("flux-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
