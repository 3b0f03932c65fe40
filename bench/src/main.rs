//! `flux-bench`: yardsticks for Flux. `noop` is a server that does nothing but HTTP, so that what Flux itself
//! costs can be told from what its runtime and the kernel cost; `compare` runs servers in turn under one load
//! and prints medians.

mod affinity;
mod compare;
mod noop;
mod output;

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
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Noop(options) => noop::run(&options),
        Command::Compare(options) => compare::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("flux-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
