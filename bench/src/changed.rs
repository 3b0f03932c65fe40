//! What a checkpoint writes when few of many entities changed.
//!
//! Each round sets some entities, spread over all, and waits for the checkpoint that follows. What
//! it wrote is the files that it left: a checkpoint writes each of them once. A round that takes in
//! the layers of earlier rounds writes more, so there are several.

use crate::flux::{Flux, FluxOptions};
use crate::numbers::{Times, approximate, mebibytes};
use crate::stall::checkpoints::Checkpoints;
use crate::{entities, output};
use anyhow::{Result, bail};
use clap::Args;
use std::time::Duration;

/// Between looks at the directory.
const PAUSE: Duration = Duration::from_millis(2);
/// Looks before giving up: a minute.
const LOOKS_MAX: u32 = 30_000;

#[derive(Debug, Args)]
pub(crate) struct ChangedOptions {
    #[command(flatten)]
    flux: FluxOptions,
    /// Entities that each round sets
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    changed: u64,
    /// Rounds, a second each
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    rounds: u64,
}

/// # Errors
/// When the server does not start, refuses the events, or writes no checkpoint.
pub(crate) fn run(options: &ChangedOptions) -> Result<()> {
    let mut flux = Flux::start(&options.flux, &["--checkpoint-seconds", "1"])?;
    flux.wait()?;
    let mut checkpoints = Checkpoints::of(&options.flux.data);
    checkpoints.look();
    let (all_bytes, mut written) = (checkpoints.bytes(), Vec::new());
    let mut client = flux.connect()?;
    let stride = (options.flux.entities / options.changed).max(1);
    for round in 0..options.rounds {
        let numbers =
            (0..options.changed).map(|index| (index * stride + round) % options.flux.entities);
        let reply = client.post("/api/events/batch", &entities::batch(numbers))?;
        if reply.status != 200 || !reply.has("\"failed\":0") {
            bail!("the server did not take the events: {}", reply.status);
        }
        written.push(next_checkpoint(&mut checkpoints)?);
    }
    drop(client);
    flux.stop()?;
    let list: Vec<String> = written
        .iter()
        .map(|bytes| format!("{:.0}", kib(*bytes)))
        .collect();
    let mean = written.iter().sum::<u64>() / options.rounds;
    let written = Times::new(written);
    output::result(&format!(
        "{} of {} entities changed: a checkpoint writes {:.0} KiB in the middle and {:.0} on average ({}), of {:.0} MiB that \
         lie there",
        options.changed,
        options.flux.entities,
        kib(written.median()),
        kib(mean),
        list.join(", "),
        mebibytes(all_bytes)
    ));
    Ok(())
}

/// Waits for it, and returns what it wrote.
fn next_checkpoint(checkpoints: &mut Checkpoints) -> Result<u64> {
    let mut bytes = 0;
    for _ in 0..LOOKS_MAX {
        let seen = checkpoints.look();
        bytes += seen.bytes;
        if seen.is_complete {
            return Ok(bytes);
        }
        std::thread::park_timeout(PAUSE);
    }
    bail!("no checkpoint was written in a minute")
}

fn kib(bytes: u64) -> f64 {
    approximate(bytes) / 1024.0
}
