//! Two builds in turn, and the ratios of the new one to the old one.
//!
//! What a change gives is decided by pairs: the two builds run directly after each other, so that
//! an hour in which the machine is slower for both does not show in their ratio, and every other
//! pair begins with the new build. The spread of the ratios says how much of a median to believe.

use crate::output;
use crate::trial::{Figures, Spread, Trial};
use crate::work::{PAIRED, Work};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct PairOptions {
    /// The build to compare with
    old: String,
    /// The build in question
    new: String,
    /// Loads by name; without any, all of them
    rows: Vec<String>,
    /// Pairs of runs of each load
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pairs: u16,
    /// Seconds that each run is measured
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// Seconds of the same load before that
    #[arg(long, default_value_t = 1)]
    warmup: u32,
    /// Where directories for the servers' data are made: must be on the disk that is to be measured
    #[arg(long, default_value = ".")]
    data_root: PathBuf,
}

/// Runs all pairs and prints a line for each load.
///
/// # Errors
/// When a load is not known, a server does not start, or the load generator fails.
pub(crate) fn run(options: &PairOptions) -> Result<()> {
    let rows = rows(&options.rows)?;
    output::result(&format!(
        "{:19} {:>10} {:>10} {:>21} {:>8} {:>8} {:>21} {:>6}",
        "", "old /s", "new /s", "new/old", "old us", "new us", "new/old", "others"
    ));
    for row in &rows {
        let pairs = measure(options, row).with_context(|| row.name.to_owned())?;
        output::result(&line(row.name, &pairs));
    }
    output::result(
        "/s: events or requests a second; us: processor time of the server for each of them; \
         medians, ratios with their lowest and highest; others: share of the machine that neither \
         server nor load used",
    );
    Ok(())
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    work: &'static Work,
    durability: &'static str,
}

/// The rows of those names; of none, all.
fn rows(names: &[String]) -> Result<Vec<Row>> {
    let known: Vec<&str> = PAIRED.iter().map(|(name, ..)| *name).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no row is named {name}; there are {}", known.join(", "));
    }
    PAIRED
        .iter()
        .filter(|(name, ..)| names.is_empty() || names.iter().any(|wanted| wanted == name))
        .map(|&(name, work, durability)| {
            let work = Work::named(work)?;
            Ok(Row {
                name,
                work,
                durability,
            })
        })
        .collect()
}

/// Figures of the old and of the new build, pair by pair.
fn measure(options: &PairOptions, row: &Row) -> Result<Vec<(Figures, Figures)>> {
    let work = row.work;
    let (server_cpus, load_cpus) = work.cpus();
    let trial = Trial {
        server_cpus,
        load_cpus,
        data_root: options.data_root.clone(),
        loadgen: None,
        load: work.load(options.seconds, options.warmup),
    };
    let old = work.flux("old", &options.old, row.durability)?;
    let new = work.flux("new", &options.new, row.durability)?;
    let mut pairs = Vec::new();
    for pair in 0..options.pairs {
        let figures = if pair.is_multiple_of(2) {
            let before = trial.run(&old)?;
            (before, trial.run(&new)?)
        } else {
            let after = trial.run(&new)?;
            (trial.run(&old)?, after)
        };
        pairs.push(figures);
        output::note(&line(
            &format!("{} {}/{}", row.name, pair + 1, options.pairs),
            &[figures],
        ));
    }
    Ok(pairs)
}

fn line(name: &str, pairs: &[(Figures, Figures)]) -> String {
    let rate = |figures: &Figures| Some(figures.events_per_second);
    let server = |figures: &Figures| figures.server_us;
    let others = pairs.iter().map(|(old, new)| old.others.max(new.others));
    let others = Spread::of(others).map_or(0.0, |spread| spread.median);
    format!(
        "{name:19} {} {} {:>6}",
        compared(pairs, rate, (10, 0)),
        compared(pairs, server, (8, 3)),
        format!("{:.0} %", others * 100.0)
    )
}

/// Medians of both builds in columns of `width`, and the median of the ratios with its extremes.
fn compared(
    pairs: &[(Figures, Figures)],
    figure: impl Fn(&Figures) -> Option<f64>,
    (width, digits): (usize, usize),
) -> String {
    let both = pairs
        .iter()
        .filter_map(|(old, new)| figure(old).zip(figure(new)));
    let both: Vec<(f64, f64)> = both.collect();
    let old = Spread::of(both.iter().map(|(old, _)| *old));
    let new = Spread::of(both.iter().map(|(_, new)| *new));
    let ratio = Spread::of(both.iter().map(|(old, new)| new / old));
    let number = |spread: Option<Spread>| {
        spread.map_or_else(
            || "-".to_owned(),
            |spread| format!("{:.digits$}", spread.median),
        )
    };
    let ratio = ratio.map_or_else(
        || "-".to_owned(),
        |ratio| {
            format!(
                "{:.3} ({:.3}..{:.3})",
                ratio.median, ratio.lowest, ratio.highest
            )
        },
    );
    format!(
        "{:>width$} {:>width$} {ratio:>21}",
        number(old),
        number(new)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(rate: f64, server_us: Option<f64>) -> Figures {
        Figures::example(rate, server_us)
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        // The median of the ratios is not the ratio of the medians, which would be 1 here.
        let pairs = [
            (example(100.0, Some(4.0)), example(110.0, Some(2.0))),
            (example(200.0, Some(4.0)), example(200.0, Some(4.0))),
            (example(300.0, Some(4.0)), example(330.0, Some(3.0))),
        ];
        let line = line("a", &pairs);
        assert!(line.contains(" 1.100 (1.000..1.100)"), "{line}");
        assert!(line.contains(" 0.750 (0.500..1.000)"), "{line}");
    }

    #[test]
    fn what_a_load_does_not_measure_is_left_out() {
        let line = line("a", &[(example(100.0, None), example(50.0, None))]);
        assert!(line.contains(" 0.500 (0.500..0.500)"), "{line}");
        assert!(line.ends_with("-    0 %"), "{line}");
    }

    #[test]
    fn rows_are_chosen_by_name() {
        let chosen = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            rows(&names).map(|rows| rows.iter().map(|row| row.name).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&[]).unwrap().len(), PAIRED.len());
        assert_eq!(
            chosen(&["get-64", "sync-64"]).unwrap(),
            ["sync-64", "get-64"]
        );
        assert!(chosen(&["sync-64", "sync"]).is_err());
    }
}
