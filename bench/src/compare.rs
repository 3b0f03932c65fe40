//! Servers in turn under the same load, each on the same core with the load on another.
//!
//! A figure from one run says little on a machine that does other things, and servers that are
//! measured one after the other are measured under different conditions. So every round runs all of
//! them, each round begins with another one, every run has a fresh server on a fresh port and an
//! empty directory, and what is compared is medians over rounds. The spread is printed beside them:
//! a ratio within it is no difference.

use crate::programs::beside_this_program;
use crate::trial::{Contender, Figures, PEERS, Spread, Trial};
use crate::{output, work};
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct CompareOptions {
    /// `NAME=COMMAND LINE` of a server, with {port} and {data} in place of its port and directory;
    /// several in turn. Without any: flux-sync, flux-async, noop-epoll, noop-glommio
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
    /// Cores of the servers
    #[arg(long, default_value = "0", value_delimiter = ',')]
    server_cpu: Vec<usize>,
    /// Cores of the load
    #[arg(long, default_value = "1", value_delimiter = ',')]
    load_cpu: Vec<usize>,
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
    let trial = Trial {
        server_cpus: options.server_cpu.clone(),
        load_cpus: options.load_cpu.clone(),
        data_root: options.data_root.clone(),
        loadgen: options.loadgen.clone(),
        load: options.load.clone(),
    };
    let mut table = Table::new(&contenders);
    for round in 0..usize::from(options.rounds) {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            let contender = &contenders[index];
            let figures = trial
                .run(contender)
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

/// What takes part if the command line names no server.
fn ours() -> Result<Vec<Contender>> {
    let flux = beside_this_program("flux")?;
    let flux_with = |durability| {
        format!("{flux} --port {{port}} --data-dir {{data}} --shards 1 --durability {durability}")
    };
    Ok(vec![
        Contender::parse(&format!("flux-sync={}", flux_with("sync")))?,
        Contender::parse(&format!("flux-async={}", flux_with("async")))?,
        work::noop("epoll")?,
        work::noop("glommio")?,
    ])
}

/// All runs, by contender.
#[derive(Debug)]
struct Table {
    rows: Vec<(String, Vec<Figures>)>,
}

impl Table {
    fn new(contenders: &[Contender]) -> Self {
        let rows = contenders
            .iter()
            .map(|contender| (contender.name.clone(), Vec::new()))
            .collect();
        Self { rows }
    }

    fn add(&mut self, contender: usize, figures: Figures) {
        self.rows[contender].1.push(figures);
    }

    /// A head and one line for each contender. Every one has at least one run.
    fn lines(&self, baseline: usize) -> Vec<String> {
        let (baseline_name, runs) = &self.rows[baseline];
        let baseline_rate = median(runs, |run| run.requests_per_second);
        let mut lines = vec![format!(
            "{:14} {:>10} {:>21} {:>8} {:>9} {:>9} {:>9} {:>9} {:>8} {:>6}",
            "median",
            "requests/s",
            "lowest to highest",
            "ratio",
            "server us",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "failures",
            "busy"
        )];
        for (name, runs) in &self.rows {
            let rates = runs.iter().map(|run| run.requests_per_second);
            let rate = Spread::of(rates).expect("every contender ran");
            let server = Spread::of(runs.iter().filter_map(|run| run.server_us));
            lines.push(format!(
                "{name:14} {:>10.0} {:>21} {:>8.2} {:>9} {:>9.1} {:>9.1} {:>9.1} {:>8} {:>6.2}",
                rate.median,
                format!("{:.0} to {:.0}", rate.lowest, rate.highest),
                rate.median / baseline_rate,
                server.map_or_else(|| "-".to_owned(), |us| format!("{:.2}", us.median)),
                median(runs, |run| run.p50_us),
                median(runs, |run| run.p99_us),
                median(runs, |run| run.p99_9_us),
                runs.iter().map(|run| run.failures).sum::<f64>(),
                median(runs, |run| run.generator_busy),
            ));
        }
        lines.push(format!(
            "ratio: requests/s to those of {baseline_name}; server: its processor time for each \
             event or request; busy: core of the load"
        ));
        lines
    }
}

fn median(runs: &[Figures], figure: impl Fn(&Figures) -> f64) -> f64 {
    Spread::of(runs.iter().map(figure)).map_or(0.0, |spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_the_baseline() {
        let contenders = [
            Contender::parse("a=x {port}").unwrap(),
            Contender::parse("b=x {port}").unwrap(),
        ];
        let mut table = Table::new(&contenders);
        table.add(0, Figures::example(50.0, None));
        table.add(1, Figures::example(200.0, None));
        let lines = table.lines(1);
        assert!(
            lines[1].starts_with("a ") && lines[1].contains(" 0.25 "),
            "{}",
            lines[1]
        );
        assert!(
            lines[2].starts_with("b ") && lines[2].contains(" 1.00 "),
            "{}",
            lines[2]
        );
    }
}
