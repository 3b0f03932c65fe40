//! What the load generator measured, and medians of it.

use super::contender::Contender;
use anyhow::{Context, Result};
use serde_json::Value;

/// The figures of one run that are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    pub(super) requests_per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    p99_9_us: f64,
    pub(super) failures: f64,
    /// Share of its core that the load generator used.
    generator_busy: f64,
}

impl Figures {
    /// # Errors
    /// When the load generator's JSON lacks one of them, as those of `watch` and `idle` do.
    pub(super) fn parse(json: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(json).context("not the report of a load")?;
        let number = |key: &str| {
            value[key]
                .as_f64()
                .with_context(|| format!("the report of the load has no {key}"))
        };
        Ok(Self {
            requests_per_second: number("requests_per_second")?,
            p50_us: number("p50_us")?,
            p99_us: number("p99_us")?,
            p99_9_us: number("p99.9_us")?,
            failures: number("failures")?,
            generator_busy: number("generator_busiest_thread")?,
        })
    }
}

/// All runs, by contender.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<(String, Vec<Figures>)>,
}

impl Table {
    pub(super) fn new(contenders: &[Contender]) -> Self {
        let rows = contenders
            .iter()
            .map(|contender| (contender.name.clone(), Vec::new()))
            .collect();
        Self { rows }
    }

    pub(super) fn add(&mut self, contender: usize, figures: Figures) {
        self.rows[contender].1.push(figures);
    }

    /// A head and one line for each contender. Every one has at least one run.
    pub(super) fn lines(&self, baseline: usize) -> Vec<String> {
        let (baseline_name, runs) = &self.rows[baseline];
        let baseline_rate = median(runs, |run| run.requests_per_second);
        let mut lines = vec![format!(
            "{:14} {:>10} {:>21} {:>8} {:>9} {:>9} {:>9} {:>8} {:>6}",
            "median",
            "requests/s",
            "lowest to highest",
            "ratio",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "failures",
            "busy"
        )];
        for (name, runs) in &self.rows {
            let rate = median(runs, |run| run.requests_per_second);
            let rates = || runs.iter().map(|run| run.requests_per_second);
            let lowest = rates().fold(f64::INFINITY, f64::min);
            let highest = rates().fold(0.0, f64::max);
            lines.push(format!(
                "{name:14} {rate:>10.0} {:>21} {:>8.2} {:>9.1} {:>9.1} {:>9.1} {:>8} {:>6.2}",
                format!("{lowest:.0} to {highest:.0}"),
                rate / baseline_rate,
                median(runs, |run| run.p50_us),
                median(runs, |run| run.p99_us),
                median(runs, |run| run.p99_9_us),
                runs.iter().map(|run| run.failures).sum::<f64>(),
                median(runs, |run| run.generator_busy),
            ));
        }
        lines.push(format!(
            "ratio: requests/s to those of {baseline_name}; busy: core of the load"
        ));
        lines
    }
}

/// The middle value; of an even number, the mean of the two in the middle.
fn median(runs: &[Figures], figure: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(requests_per_second: f64) -> Figures {
        let json = format!(
            r#"{{"requests_per_second":{requests_per_second},"p50_us":1,"p99_us":2,"p99.9_us":3,
            "failures":0,"generator_busiest_thread":0.5}}"#
        );
        Figures::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_median_is_the_middle_of_the_sorted_values() {
        let check = |values: &[f64], expected: f64| {
            let runs: Vec<Figures> = values.iter().map(|&value| run(value)).collect();
            let found = median(&runs, |run| run.requests_per_second);
            assert!(
                (found - expected).abs() < f64::EPSILON,
                "{values:?}: {found}"
            );
        };
        check(&[5.0], 5.0);
        check(&[9.0, 1.0, 5.0], 5.0);
        check(&[9.0, 1.0, 5.0, 7.0], 6.0);
    }

    #[test]
    fn a_report_without_the_figures_is_refused() {
        assert!(Figures::parse(b"{}").is_err());
        assert!(Figures::parse(b"").is_err());
    }

    #[test]
    fn ratios_are_to_the_baseline() {
        let contenders = [
            Contender::parse("a=x {port}").unwrap(),
            Contender::parse("b=x {port}").unwrap(),
        ];
        let mut table = Table::new(&contenders);
        table.add(0, run(50.0));
        table.add(1, run(200.0));
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
