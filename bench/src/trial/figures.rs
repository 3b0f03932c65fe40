//! What the load generator measured in one run, and median and spread of several runs.

use anyhow::{Context, Result};
use serde_json::Value;

/// The figures of one run that are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures {
    pub(crate) requests_per_second: f64,
    /// Events of a batch count one by one; of other loads, the same as requests.
    pub(crate) events_per_second: f64,
    pub(crate) body_bytes_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p99_9_us: f64,
    /// Processor time of the server for each event or request, microseconds; the load of another
    /// protocol does not measure it.
    pub(crate) server_us: Option<f64>,
    pub(crate) failures: f64,
    /// Share of its core that the load generator used.
    pub(crate) generator_busy: f64,
    /// Share of all processors that was used by neither server nor load, from the start of the
    /// server to its end.
    pub(crate) others: f64,
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
        let requests_per_second = number("requests_per_second")?;
        let events = value["events_per_second"].as_f64();
        let server_us = value["server_us_per_event"].as_f64();
        Ok(Self {
            requests_per_second,
            events_per_second: events.unwrap_or(requests_per_second),
            body_bytes_per_second: value["body_bytes_per_second"].as_f64().unwrap_or(0.0),
            p50_us: number("p50_us")?,
            p99_us: number("p99_us")?,
            p99_9_us: number("p99.9_us")?,
            server_us: server_us.or_else(|| value["server_us_per_request"].as_f64()),
            failures: number("failures")?,
            generator_busy: number("generator_busiest_thread")?,
            others: 0.0,
        })
    }
}

#[cfg(test)]
impl Figures {
    /// A run of which tests look at two figures only.
    pub(crate) fn example(rate: f64, server_us: Option<f64>) -> Self {
        Self {
            requests_per_second: rate,
            events_per_second: rate,
            body_bytes_per_second: 0.0,
            p50_us: 1.0,
            p99_us: 2.0,
            p99_9_us: 3.0,
            server_us,
            failures: 0.0,
            generator_busy: 0.5,
            others: 0.0,
        }
    }
}

/// Median and extremes of one figure over several runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The middle value; of an even number, the mean of the two in the middle.
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Spread {
    /// `None` of no values.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(*values.get(middle.checked_sub(1)?)?, values[middle])
        } else {
            values[middle]
        };
        Some(Self {
            median,
            lowest: *values.first()?,
            highest: *values.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_of_the_sorted_values() {
        let check = |values: &[f64], expected: Option<(f64, f64, f64)>| {
            let found = Spread::of(values.iter().copied());
            let expected = expected.map(|(lowest, median, highest)| Spread {
                median,
                lowest,
                highest,
            });
            assert_eq!(found, expected, "{values:?}");
        };
        check(&[], None);
        check(&[5.0], Some((5.0, 5.0, 5.0)));
        check(&[9.0, 1.0, 5.0], Some((1.0, 5.0, 9.0)));
        check(&[9.0, 1.0, 5.0, 7.0], Some((1.0, 6.0, 9.0)));
    }

    #[test]
    fn a_report_without_the_figures_is_refused() {
        assert!(Figures::parse(b"{}").is_err());
        assert!(Figures::parse(b"").is_err());
    }

    #[test]
    fn what_counts_of_a_batch_is_its_events() {
        let report = |more: &str| {
            let json = format!(
                r#"{{"requests_per_second":10,"p50_us":1,"p99_us":2,"p99.9_us":3,"failures":0,
                "generator_busiest_thread":0.5{more}}}"#
            );
            let figures = Figures::parse(json.as_bytes()).unwrap();
            (figures.events_per_second, figures.server_us)
        };
        assert_eq!(report(""), (10.0, None));
        assert_eq!(report(r#","server_us_per_request":4.5"#), (10.0, Some(4.5)));
        let batch = r#","events_per_second":1000,"server_us_per_event":0.9"#;
        assert_eq!(report(batch), (1000.0, Some(0.9)));
    }
}
