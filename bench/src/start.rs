//! How long a start takes, and how much memory the server has then.
//!
//! The time begins before the server's process is made. It ends with the first answer to `GET
//! /api/state/entities/…` that holds what the entity was created with. This program asks without
//! pause, over a new connection whenever the port refuses or the server is busy. *Warm*: the data
//! is in the page cache, as after a restart. *Cold*: the data was evicted from it, as after a
//! reboot, but the program itself was not.

use crate::cache::evict;
use crate::clock::Clock;
use crate::flux::{Flux, FluxOptions, Memory, Ready};
use crate::http;
use crate::numbers::{MILLISECOND, Times, mebibytes, millis, per_second};
use crate::random::Random;
use crate::{entities, output};
use anyhow::{Result, bail};
use clap::Args;

/// Requests that are sent before their answers are read.
const PIPELINE: u64 = 32;

#[derive(Debug, Args)]
pub(crate) struct StartOptions {
    #[command(flatten)]
    flux: FluxOptions,
    /// Starts of each kind
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Random entities that are read after each start
    #[arg(long, default_value_t = 100_000)]
    reads: u64,
    /// Times that the filler has set each entity
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    cycles: u64,
    /// Only with what is in the page cache
    #[arg(long)]
    warm: bool,
}

impl StartOptions {
    /// The number of the event that set entity `number` last.
    fn last_event(&self, number: u64) -> u64 {
        number + (self.cycles - 1) * self.flux.entities
    }
}

/// What one start came to.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// Until the first correct answer.
    nanos: u64,
    ready: Ready,
    /// Before and after the reads.
    memory: (Memory, Memory),
    reads: u64,
    /// Of all of them.
    reads_nanos: u64,
}

/// # Errors
/// When the server does not start, or holds something else than it was filled with.
pub(crate) fn run(options: &StartOptions) -> Result<()> {
    output::result(&format!(
        "{:5} {:>10} {:>9} {:>21} {:>8} {:>10} {:>19} {:>19} {:>10}",
        "cache",
        "entities",
        "first ms",
        "lowest to highest",
        "ready ms",
        "replayed",
        "RssAnon MiB, after",
        "RssFile MiB, after",
        "reads/s"
    ));
    let kinds: &[bool] = if options.warm {
        &[false]
    } else {
        &[false, true]
    };
    for &is_cold in kinds {
        let mut starts = Vec::new();
        for round in 0..options.rounds {
            if is_cold {
                evict(&options.flux.data)?;
            }
            starts.push(start(options, u64::from(round))?);
        }
        output::result(&line(if is_cold { "cold" } else { "warm" }, &mut starts));
        let replays = starts.iter().filter(|start| start.ready.replayed > 0);
        for Ready {
            millis, replayed, ..
        } in replays.map(|start| start.ready)
        {
            let rate = per_second(replayed, millis.max(1) * MILLISECOND);
            output::result(&format!("{replayed} events replayed, {rate:.0} a second"));
        }
    }
    output::result(&format!(
        "first: from exec to the first correct GET; ready, memory, reads: of the start in the middle; after: {} random \
         GETs, {PIPELINE} in flight",
        options.reads
    ));
    Ok(())
}

fn start(options: &StartOptions, seed: u64) -> Result<Start> {
    let mut random = Random::new(seed);
    let number = random.below(options.flux.entities);
    let mut flux = Flux::start(&options.flux, &[])?;
    let (reply, nanos) = flux.first_answer(&path(number))?;
    if !reply.has(&entities::mark(options.last_event(number))) {
        bail!("{} is not what it was created as", entities::id(number));
    }
    let before = flux.memory()?;
    let reads_nanos = read_many(&flux, options, &mut random)?;
    let after = flux.memory()?;
    let Some(ready) = flux.ready() else {
        bail!("the server does not say that it is ready");
    };
    flux.stop()?;
    Ok(Start {
        nanos,
        ready,
        memory: (before, after),
        reads: options.reads,
        reads_nanos,
    })
}

/// Reads entities at random and returns how long all of it took.
fn read_many(flux: &Flux, options: &StartOptions, random: &mut Random) -> Result<u64> {
    let mut client = flux.connect()?;
    let clock = Clock::start();
    let mut left = options.reads;
    while left > 0 {
        let count = left.min(PIPELINE);
        left -= count;
        let numbers: Vec<u64> = (0..count)
            .map(|_| random.below(options.flux.entities))
            .collect();
        let requests: String = numbers
            .iter()
            .map(|&number| http::get(&path(number)))
            .collect();
        client.send(requests.as_bytes())?;
        for number in numbers {
            let reply = client.receive()?;
            if reply.status != 200 || !reply.has(&entities::mark(options.last_event(number))) {
                bail!("{} is not what it was created as", entities::id(number));
            }
        }
    }
    Ok(clock.nanos())
}

fn path(number: u64) -> String {
    format!("/api/state/entities/{}", entities::id(number))
}

/// `starts` is not empty.
fn line(cache: &str, starts: &mut [Start]) -> String {
    starts.sort_by_key(|start| start.nanos);
    let times = Times::new(starts.iter().map(|start| start.nanos).collect());
    let middle = starts[(starts.len() - 1) / 2];
    let (before, after) = middle.memory;
    let pair = |before, after| format!("{:.0}, {:.0}", mebibytes(before), mebibytes(after));
    format!(
        "{cache:5} {:>10} {:>9.1} {:>21} {:>8} {:>10} {:>19} {:>19} {:>10.0}",
        middle.ready.entities,
        millis(times.median()),
        format!(
            "{:.1} to {:.1}",
            millis(times.least()),
            millis(times.most())
        ),
        middle.ready.millis,
        middle.ready.replayed,
        pair(before.anonymous, after.anonymous),
        pair(before.file, after.file),
        per_second(middle.reads, middle.reads_nanos),
    )
}
