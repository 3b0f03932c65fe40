//! The page of figures: every load of [`WORKS`] against Flux in both durabilities, a no-op server
//! on the same runtime, and Redis, in turn and on the same cores; printed as a table in Markdown.

use crate::output;
use crate::programs::beside_this_program;
use crate::trial::{Contender, Figures, Spread, Trial};
use crate::work::{Kind, WORKS, Work, noop, redis};
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct TableOptions {
    /// Loads by name; without any, all of them
    works: Vec<String>,
    /// Runs of each server under each load
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
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

/// Who can take part, in the order of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Sync,
    Async,
    Noop,
    RedisAlways,
    RedisEverysec,
}

/// Figures of one load, by column.
type Runs = Vec<(Column, Vec<Figures>)>;

const HEAD: &str = "\
| work | Flux sync | Flux async | no-op | Redis always | Redis everysec | async / no-op \
| sync / Redis always | spread of sync, async | load |
| --- | --: | --: | --: | --: | --: | --: | --: | --- | --- |";

/// Measures row by row, and prints each when it is known.
///
/// # Errors
/// When a load is not known, a server does not start, or the load generator fails.
pub(crate) fn run(options: &TableOptions) -> Result<()> {
    let works: Vec<&Work> = if options.works.is_empty() {
        WORKS.iter().collect()
    } else {
        let named = options.works.iter().map(|name| Work::named(name));
        named.collect::<Result<_>>()?
    };
    output::result(HEAD);
    let mut others = Vec::new();
    for work in works {
        let runs = measure(options, work).with_context(|| work.name.to_owned())?;
        let shares = runs.iter().flat_map(|(_, runs)| runs);
        others.extend(shares.map(|figures| figures.others));
        output::result(&row(work, &runs));
    }
    if let Some(others) = Spread::of(others.into_iter()) {
        output::note(&format!(
            "share of the machine that neither server nor load used: {:.1} %, at most {:.1} %",
            others.median * 100.0,
            others.highest * 100.0
        ));
    }
    Ok(())
}

fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::Publish => &[
            Column::Sync,
            Column::Async,
            Column::Noop,
            Column::RedisAlways,
            Column::RedisEverysec,
        ],
        Kind::Batch => &[Column::Sync, Column::Async],
        Kind::Get => &[Column::Sync, Column::Noop],
        Kind::List | Kind::LongList => &[Column::Sync],
    }
}

fn contender(column: Column, work: &Work) -> Result<Contender> {
    match column {
        Column::Sync => work.flux("sync", &beside_this_program("flux")?, "sync"),
        Column::Async => work.flux("async", &beside_this_program("flux")?, "async"),
        Column::Noop => noop("glommio"),
        Column::RedisAlways => redis("always"),
        Column::RedisEverysec => redis("everysec"),
    }
}

/// Every round runs all servers, and begins with another one.
fn measure(options: &TableOptions, work: &Work) -> Result<Runs> {
    let (server_cpus, load_cpus) = work.cpus();
    let trial = Trial {
        server_cpus,
        load_cpus,
        data_root: options.data_root.clone(),
        loadgen: None,
        load: work.load(options.seconds, options.warmup),
    };
    // The no-op server has no entities, and needs none.
    let mut noop_trial = trial.clone();
    if work.kind == Kind::Get {
        noop_trial.load.push("--no-setup".to_owned());
    }
    let columns = columns(work.kind);
    let mut runs: Runs = columns.iter().map(|&column| (column, Vec::new())).collect();
    for round in 0..usize::from(options.rounds) {
        for turn in 0..columns.len() {
            let index = (round + turn) % columns.len();
            let contender = contender(columns[index], work)?;
            let trial = match columns[index] {
                Column::Noop => &noop_trial,
                _ => &trial,
            };
            let figures = trial
                .run(&contender)
                .with_context(|| contender.name.clone())?;
            output::note(&format!(
                "{} round {}: {} {:.0}/s, others {:.0} %",
                work.name,
                round + 1,
                contender.name,
                figures.events_per_second,
                figures.others * 100.0
            ));
            runs[index].1.push(figures);
        }
    }
    Ok(runs)
}

fn row(work: &Work, runs: &Runs) -> String {
    let figure = |figures: &Figures| match work.kind {
        Kind::LongList => figures.body_bytes_per_second / 1e6,
        _ => figures.events_per_second,
    };
    let spread = |wanted| {
        let (_, figures) = runs.iter().find(|(column, _)| *column == wanted)?;
        Spread::of(figures.iter().map(figure))
    };
    let number = |column| {
        let rate = spread(column).map_or_else(String::new, |spread| grouped(spread.median));
        if work.kind == Kind::LongList && !rate.is_empty() {
            format!("{rate} MB/s")
        } else {
            rate
        }
    };
    let ratio = |above, below| {
        let ratio = spread(above).zip(spread(below));
        ratio.map_or_else(String::new, |(above, below)| {
            format!("{:.2}", above.median / below.median)
        })
    };
    let spreads: Vec<String> = [Column::Sync, Column::Async]
        .into_iter()
        .filter_map(spread)
        .map(relative)
        .collect();
    // A read costs the same in both durabilities.
    let fastest = match work.kind {
        Kind::Get => Column::Sync,
        _ => Column::Async,
    };
    let cells = [
        work.title.to_owned(),
        number(Column::Sync),
        number(Column::Async),
        number(Column::Noop),
        number(Column::RedisAlways),
        number(Column::RedisEverysec),
        ratio(fastest, Column::Noop),
        ratio(Column::Sync, Column::RedisAlways),
        spreads.join(", "),
        format!("`{}`", work.load),
    ];
    format!("| {} |", cells.join(" | "))
}

/// Lowest and highest as parts of the median.
fn relative(spread: Spread) -> String {
    let part = |value: f64| value / spread.median;
    format!("{:.2}..{:.2}", part(spread.lowest), part(spread.highest))
}

/// `1234567.8` as `1,234,568`.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(rates: &[(Column, &[f64])]) -> Runs {
        let runs = |rates: &[f64]| {
            let runs = rates.iter().map(|&rate| Figures::example(rate, None));
            runs.collect()
        };
        rates
            .iter()
            .map(|&(column, rates)| (column, runs(rates)))
            .collect()
    }

    #[test]
    fn a_row_has_medians_ratios_and_spread() {
        let work = Work::named("publish-64").unwrap();
        let line = row(
            work,
            &runs(&[
                (Column::Sync, &[90_000.0, 100_000.0, 120_000.0]),
                (Column::Async, &[150_000.0]),
                (Column::Noop, &[200_000.0]),
                (Column::RedisAlways, &[80_000.0]),
                (Column::RedisEverysec, &[1_090_000.0]),
            ]),
        );
        assert_eq!(
            line,
            "| publish, 64 connections | 100,000 | 150,000 | 200,000 | 80,000 | 1,090,000 | 0.75 | 1.25 \
             | 0.90..1.20, 1.00..1.00 | `publish --connections 64` |"
        );
    }

    #[test]
    fn cells_without_a_figure_are_empty() {
        let line = row(
            Work::named("get-64").unwrap(),
            &runs(&[(Column::Sync, &[300.0]), (Column::Noop, &[200.0])]),
        );
        assert!(
            line.contains("| 300 |  | 200 |  |  | 1.50 |  | 1.00..1.00 |"),
            "{line}"
        );
    }

    #[test]
    fn every_row_has_as_many_cells_as_the_head() {
        let cells = |line: &str| line.matches('|').count();
        let head = HEAD.lines().next().unwrap();
        for work in WORKS {
            let runs = runs(&[(Column::Sync, &[1.0])]);
            assert_eq!(cells(&row(work, &runs)), cells(head), "{}", work.name);
        }
        assert!(HEAD.lines().all(|line| cells(line) == cells(head)));
    }
}
