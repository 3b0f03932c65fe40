//! Servers in turn under the same load, each on the same core with the load on another.
//!
//! A figure from one run says little on a machine that does other things, and servers that are measured one after the
//! other are measured under different conditions. So every round runs all of them, each round begins with another one,
//! every run has a fresh server on a fresh port and an empty directory, and what is compared is medians over rounds.
//! The spread is printed beside them: a ratio within it is no difference.

mod contender;
mod figures;

use crate::programs::beside_this_program;
use crate::server::{Server, free_port};
use crate::{affinity, output};
use anyhow::{Context, Result, bail};
use clap::Args;
use contender::{Contender, PEERS};
use figures::{Figures, Table};
use std::path::PathBuf;
use std::process::{Command, Stdio};

#[derive(Debug, Args)]
pub(crate) struct CompareOptions {
    /// `NAME=COMMAND LINE` of a server, with {port} and {data} in place of its port and directory; several in turn.
    /// Without any: flux-sync, flux-async, noop-epoll, noop-glommio
    #[arg(long = "server", value_name = "NAME=COMMAND")]
    servers: Vec<String>,
    /// Also redis-server and nats-server, which have to be installed; for `publish` loads
    #[arg(long)]
    peers: bool,
    /// Server that the others are divided by; without it, the last
    #[arg(long)]
    baseline: Option<String>,
    /// Runs of each server
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// Core of the servers
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// Core of the load
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// Where directories for the servers' data are made: must be on the disk that is to be measured
    #[arg(long, default_value = ".")]
    data_root: PathBuf,
    /// The load generator; without it, the one beside this program
    #[arg(long)]
    loadgen: Option<PathBuf>,
    /// Arguments of the load generator, without --url, --cpu and --json
    #[arg(last = true, default_values = ["publish", "--connections", "64"])]
    load: Vec<String>,
}

/// Runs all rounds and prints the table.
///
/// # Errors
/// When a server does not start, or the load generator fails.
pub(crate) fn run(options: &CompareOptions) -> Result<()> {
    let contenders = contenders(options)?;
    let baseline = match &options.baseline {
        Some(name) => contenders
            .iter()
            .position(|contender| contender.name == *name)
            .with_context(|| format!("no server is named {name}"))?,
        None => contenders.len() - 1,
    };
    let mut table = Table::new(&contenders);
    for round in 0..usize::from(options.rounds) {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            let contender = &contenders[index];
            let figures = measure(options, contender)
                .with_context(|| format!("round {} of {}", round + 1, contender.name))?;
            output::note(&format!(
                "round {}: {} {:.0} requests/s, p50 {:.1} us, p99 {:.1} us",
                round + 1,
                contender.name,
                figures.requests_per_second,
                figures.p50_us,
                figures.p99_us
            ));
            table.add(index, figures);
        }
    }
    output::result(&format!("load: {}", options.load.join(" ")));
    for line in table.lines(baseline) {
        output::result(&line);
    }
    Ok(())
}

fn contenders(options: &CompareOptions) -> Result<Vec<Contender>> {
    let peers = PEERS.iter().filter(|_| options.peers);
    let mut all: Vec<Contender> = peers
        .map(|text| Contender::parse(text))
        .collect::<Result<_>>()?;
    if options.servers.is_empty() {
        all.extend(ours()?);
    } else {
        for text in &options.servers {
            all.push(Contender::parse(text)?);
        }
    }
    Ok(all)
}

/// What takes part where nothing else is named.
fn ours() -> Result<Vec<Contender>> {
    let flux = beside_this_program("flux")?;
    let bench = beside_this_program("flux-bench")?;
    let flux_with = |durability| {
        format!("{flux} --port {{port}} --data-dir {{data}} --shards 1 --durability {durability}")
    };
    let noop = |engine| format!("{bench} noop --port {{port}} --engine {engine}");
    [
        format!("flux-sync={}", flux_with("sync")),
        format!("flux-async={}", flux_with("async")),
        format!("noop-epoll={}", noop("epoll")),
        format!("noop-glommio={}", noop("glommio")),
    ]
    .iter()
    .map(|text| Contender::parse(text))
    .collect()
}

fn measure(options: &CompareOptions, contender: &Contender) -> Result<Figures> {
    // Children inherit the binding of the thread that starts them.
    affinity::pin_to(options.server_cpu)?;
    // Dropped after the server, and with it the server's data.
    let directory = tempfile::Builder::new()
        .prefix("flux-compare-")
        .tempdir_in(&options.data_root)
        .with_context(|| format!("cannot make a directory in {}", options.data_root.display()))?;
    let port = free_port()?;
    let data = directory.path().join("data");
    if contender.protocol().is_some() {
        // Flux makes its own.
        std::fs::create_dir(&data)?;
    }
    let mut command = contender.command(port, &data)?;
    let mut server = Server::spawn(&mut command, port, directory.path().join("stderr"))?;
    match contender.protocol() {
        None => server.wait_until_it_is_ready()?,
        Some(_) => server.wait_until_it_accepts()?,
    }
    affinity::pin_to(options.load_cpu)?;
    let loadgen = match &options.loadgen {
        Some(path) => path.clone(),
        None => PathBuf::from(beside_this_program("flux-loadgen")?),
    };
    let address = format!("127.0.0.1:{}", server.port());
    let mut command = match contender.protocol() {
        None => {
            let mut command = Command::new(&loadgen);
            command
                .args(&options.load)
                .args(["--url", &format!("http://{address}"), "--json"]);
            command
        }
        Some(protocol) => {
            let (workload, shape) = options.load.split_first().context("no load")?;
            if workload != "publish" {
                bail!("{} takes `publish` loads only", contender.name);
            }
            let mut command = Command::new(beside_this_program("flux-bench")?);
            command
                .args(["peer", protocol, "--address", &address])
                .args(shape);
            command
        }
    };
    let output = command
        .args(["--cpu", &options.load_cpu.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("cannot run the load generator")?;
    let words = server.words();
    server.stop()?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!(
            "the load generator failed: {}",
            errors.lines().last().unwrap_or_default()
        );
    }
    let figures = Figures::parse(&output.stdout)?;
    if figures.failures > 0.0 {
        output::note(&format!(
            "{} refused {:.0} requests; it said last: {}",
            contender.name,
            figures.failures,
            words.lines().last().unwrap_or("nothing")
        ));
    }
    Ok(figures)
}
