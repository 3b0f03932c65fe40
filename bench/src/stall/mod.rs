//! How much slower requests are while the server writes a checkpoint.
//!
//! Reads and single publishes are due at fixed times, each over its own connection. A writer sends
//! batches meanwhile, so that checkpoints have something to write. This program watches the
//! directory of checkpoints and counts each request as *beside a checkpoint* or *without*, by the
//! time at which it was due. A checkpoint lasts from its first file until shortly after its
//! manifest, because the server frees its memory then. Latency counts from when a request was due.
//! This program shares a core with its writer; its own lateness has a column of its own.
//!
//! The server and its helper threads share one core, which is the worst case for both.
//!
//! | file | job |
//! | --- | --- |
//! | `checkpoints` | what the directory of checkpoints shows |
//! | `windows` | when checkpoints were written |
//! | `probe` | requests at fixed times, and their latencies |

pub(crate) mod checkpoints;
mod probe;
mod windows;

use crate::clock::Clock;
use crate::flux::{Flux, FluxOptions};
use crate::numbers::{SECOND, Times, mebibytes, millis};
use crate::{affinity, output};
use anyhow::{Context, Result, anyhow};
use checkpoints::Checkpoints;
use clap::Args;
use probe::{Answer, Probe, Schedule};
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};
use windows::Window;

/// Events of each batch of the writer.
const BATCH_EVENTS: u64 = 100;

#[derive(Debug, Args)]
pub(crate) struct StallOptions {
    #[command(flatten)]
    flux: FluxOptions,
    /// Create the entities first, in the running server; without it they are there
    #[arg(long)]
    fill: bool,
    /// Seconds between checkpoints
    #[arg(long, default_value_t = 2)]
    checkpoint_seconds: u64,
    /// Seconds that are measured
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    duration: u64,
    /// Reads due each second, and as many publishes
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// Events that the writer sends each second
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    events: u64,
}

/// # Errors
/// When the server does not start, or refuses something.
pub(crate) fn run(options: &StallOptions) -> Result<()> {
    let seconds = options.checkpoint_seconds.to_string();
    let mut flux = Flux::start(&options.flux, &["--checkpoint-seconds", &seconds])?;
    flux.wait()?;
    if options.fill {
        let entities = options.flux.entities.to_string();
        let cpu = options.flux.load_cpu.to_string();
        flux.load(&[
            "fill",
            "--entities",
            &entities,
            "--properties",
            "3",
            "--cpu",
            &cpu,
        ])?;
    }
    let measured = measure(options, &flux)?;
    flux.stop()?;
    describe(options, &measured);
    Ok(())
}

#[derive(Debug)]
struct Measured {
    windows: Vec<Window>,
    reads: Vec<Answer>,
    publishes: Vec<Answer>,
}

fn measure(options: &StallOptions, flux: &Flux) -> Result<Measured> {
    affinity::pin_to(options.flux.load_cpu)?;
    let clock = Clock::start();
    let entities = options.flux.entities;
    let schedule = |per_second: u64| Schedule {
        clock,
        interval: SECOND / per_second.max(1),
        until: options.duration * SECOND,
    };
    scope(|scope| {
        let spawn = |name, probe, per_second: u64| {
            let client = flux.connect();
            spawn(scope, name, move || {
                probe::run(probe, &mut client?, entities, schedule(per_second))
            })
        };
        let writer = match options.events / BATCH_EVENTS {
            0 => None,
            batches => Some(spawn("writer", Probe::Batch(BATCH_EVENTS), batches)?),
        };
        let reads = spawn("reads", Probe::Read, options.rate)?;
        let publishes = spawn("publishes", Probe::Publish, options.rate)?;
        let mut checkpoints = Checkpoints::of(&options.flux.data);
        let windows = windows::watch(&mut checkpoints, clock, options.duration * SECOND);
        writer.map(join).transpose()?;
        Ok(Measured {
            windows,
            reads: join(reads)?,
            publishes: join(publishes)?,
        })
    })
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, Result<T>>> {
    let thread = Builder::new().name(name.to_owned());
    thread
        .spawn_scoped(scope, work)
        .context("cannot start a thread")
}

fn join<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    let ended = thread.join();
    ended.unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
}

fn describe(options: &StallOptions, measured: &Measured) {
    let windows = &measured.windows;
    output::result(&format!(
        "{} entities, {} events a second, {} checkpoints",
        options.flux.entities,
        options.events,
        windows.len()
    ));
    let longest = windows.iter().max_by_key(|window| window.bytes);
    if let Some(window) = longest {
        output::result(&format!(
            "the largest of them: {:.1} MiB written in {:.0} ms",
            mebibytes(window.bytes),
            millis(window.end - window.begin)
        ));
    }
    output::result(&format!(
        "{:9} {:20} {:>8} {:>8} {:>8} {:>8} {:>12}",
        "", "", "count", "p50 ms", "p99 ms", "max ms", "late max ms"
    ));
    for (name, answers) in [
        ("reads", &measured.reads),
        ("publishes", &measured.publishes),
    ] {
        let (beside, without): (Vec<Answer>, Vec<Answer>) = answers
            .iter()
            .partition(|answer| windows.iter().any(|window| window.holds(answer.due)));
        output::result(&line(name, "without", &without));
        output::result(&line(name, "beside a checkpoint", &beside));
    }
}

fn line(name: &str, when: &str, answers: &[Answer]) -> String {
    let times = Times::new(answers.iter().map(|answer| answer.latency).collect());
    let late = answers.iter().map(|answer| answer.late).max().unwrap_or(0);
    format!(
        "{name:9} {when:20} {:>8} {:>8.2} {:>8.2} {:>8.2} {:>12.2}",
        times.count(),
        millis(times.median()),
        millis(times.quantile(990)),
        millis(times.most()),
        millis(late)
    )
}
