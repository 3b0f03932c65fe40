//! What the user sees: results on stdout, as a table or as one JSON object; progress and errors on
//! stderr.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its terminal, here and nowhere else"
)]

use crate::numbers::approximate;
use crate::stats::Stats;
use hdrhistogram::Histogram;
use serde_json::{Map, Value};
use std::time::Duration;

/// Share of a core above which the figures of a thread are those of the generator, not of the
/// server.
const BUSY_WARNING: f64 = 0.9;

/// One line on stderr.
pub(crate) fn note(line: &str) {
    eprintln!("{line}");
}

/// The figures of one run, in the order in which they are shown.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<(String, String)>,
    values: Map<String, Value>,
}

impl Report {
    pub(crate) fn new(workload: &str) -> Self {
        let mut report = Self {
            rows: Vec::new(),
            values: Map::new(),
        };
        report.text("workload", workload);
        report
    }

    pub(crate) fn text(&mut self, key: &str, text: &str) {
        self.row(key, text.to_owned(), Value::from(text));
    }

    pub(crate) fn count(&mut self, key: &str, count: u64) {
        self.row(key, grouped(count), Value::from(count));
    }

    /// A count that the table shows only if it is not 0. The JSON always has it.
    pub(crate) fn fault(&mut self, key: &str, count: u64) {
        if count == 0 {
            self.values.insert(key.to_owned(), Value::from(count));
        } else {
            self.count(key, count);
        }
    }

    /// `count` spread over `duration`.
    pub(crate) fn rate(&mut self, key: &str, count: u64, duration: Duration) {
        let rate = approximate(count) / duration.as_secs_f64().max(f64::EPSILON);
        self.row(key, format!("{rate:.0}"), Value::from(rate));
    }

    pub(crate) fn ratio(&mut self, key: &str, ratio: f64) {
        self.row(key, format!("{ratio:.3}"), Value::from(ratio));
    }

    /// Percentiles of nanoseconds, as microseconds under `p50_us` and so on behind `prefix`.
    pub(crate) fn latencies(&mut self, prefix: &str, latency: &Histogram<u64>) {
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
            self.latency(
                &format!("{prefix}{name}_us"),
                latency.value_at_quantile(quantile),
            );
        }
        self.latency(&format!("{prefix}max_us"), latency.max());
    }

    fn latency(&mut self, key: &str, nanos: u64) {
        let micros = approximate(nanos) / 1_000.0;
        self.row(key, format!("{micros:.1}"), Value::from(micros));
    }

    /// All that `stats` says about requests, over `duration`. `unit` names what they achieve.
    pub(crate) fn load(&mut self, stats: &Stats, unit: &str, duration: Duration) {
        self.rate("requests_per_second", stats.requests, duration);
        if unit != "requests" {
            self.rate(&format!("{unit}_per_second"), stats.units, duration);
        }
        if let Some(cpu) = stats.server_cpu
            && stats.units > 0
        {
            let each = cpu.as_secs_f64() * 1e6 / approximate(stats.units);
            let unit = unit.trim_end_matches('s');
            self.ratio(&format!("server_us_per_{unit}"), each);
        }
        self.rate("body_bytes_per_second", stats.body_bytes, duration);
        self.latencies("", &stats.latency);
        for (kind, latency) in &stats.by_kind {
            self.rate(&format!("{kind}_per_second"), latency.len(), duration);
            self.latencies(&format!("{kind}_"), latency);
        }
        if !stats.lateness.is_empty() {
            self.latency("sent_late_p99_us", stats.lateness.value_at_quantile(0.99));
            self.latency("sent_late_max_us", stats.lateness.max());
        }
        for (status, &count) in &stats.refused {
            self.count(&format!("status_{status}"), count);
        }
        for (reason, &count) in &stats.broken {
            self.count(&format!("broken: {reason}"), count);
        }
        self.fault("items_refused", stats.items_refused);
        self.fault("unanswered", stats.unanswered);
        self.fault("unsent", stats.unsent);
        self.count("failures", stats.failures());
        self.busy(&stats.busy);
    }

    /// How much of a core each thread used.
    pub(crate) fn busy(&mut self, shares: &[f64]) {
        let busiest = shares.iter().copied().fold(0.0, f64::max);
        self.ratio("generator_busiest_thread", busiest);
        if busiest > BUSY_WARNING {
            note(&format!(
                "warning: a thread of the load generator was {:.0} % busy; the figures may be its own, use more \
                 --threads or cores",
                busiest * 100.0
            ));
        }
    }

    pub(crate) fn print(self, json: bool) {
        if json {
            println!("{}", Value::Object(self.values));
            return;
        }
        let width = self
            .rows
            .iter()
            .map(|(key, _)| key.len())
            .max()
            .unwrap_or(0);
        for (key, text) in &self.rows {
            println!("{key:width$}  {text:>14}");
        }
    }

    fn row(&mut self, key: &str, text: String, value: Value) {
        self.rows.push((key.to_owned(), text));
        self.values.insert(key.to_owned(), value);
    }
}

/// `1234567` as `1,234,567`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
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

    #[test]
    fn digits_are_grouped_by_three() {
        for (count, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(count), expected);
        }
    }
}
