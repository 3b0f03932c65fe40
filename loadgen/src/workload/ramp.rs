//! The highest rate of an open loop at which the 99th percentile stays within a bound.
//!
//! Rates grow by half until one fails; then the gap between the last that held and the first that
//! failed is halved until it is a twentieth. Each rate is tried for the time that `--warmup` and
//! `--duration` give it.

use super::Workload;
use super::get::Get;
use super::publish::Publish;
use crate::clock::Clock;
use crate::drive::{self, Plan};
use crate::net::Target;
use crate::numbers::approximate;
use crate::options::{LoadOptions, RampOf, RampOptions};
use crate::report::{self, Report};
use crate::setup;
use crate::stats::Stats;
use anyhow::{Result, bail};
use std::time::Duration;

/// Share of a rate that must be answered in the measured time, or the rate does not hold.
const ANSWERED_SHARE_MIN: f64 = 0.95;

/// Highest rate that is tried, requests a second.
const RATE_MAX: u64 = 100_000_000;

/// Chooses the next rate from the results of those before.
#[derive(Debug)]
struct Search {
    next: u64,
    held: Option<u64>,
    failed: Option<u64>,
}

impl Search {
    const fn new(from: u64) -> Self {
        Self {
            next: from,
            held: None,
            failed: None,
        }
    }

    /// Takes whether the last rate held, and returns whether to try another.
    fn learn(&mut self, holds: bool) -> bool {
        if holds {
            self.held = Some(self.next);
        } else {
            self.failed = Some(self.next);
        }
        self.next = match (self.held, self.failed) {
            (Some(held), None) => (held + held / 2 + 1).min(RATE_MAX),
            (None, Some(failed)) => failed / 2,
            (Some(held), Some(failed)) => held + (failed - held) / 2,
            (None, None) => self.next,
        };
        let again = Some(self.next) == self.held || Some(self.next) == self.failed;
        let close = match (self.held, self.failed) {
            (Some(held), Some(failed)) => failed - held <= failed / 20,
            _ => false,
        };
        self.next > 0 && !again && !close
    }
}

fn holds(stats: &Stats, rate: u64, (duration, bound): (Duration, Duration)) -> bool {
    let p99 = Duration::from_nanos(stats.latency.value_at_quantile(0.99));
    let answered = approximate(stats.requests) / duration.as_secs_f64().max(f64::EPSILON);
    stats.failures() == 0 && p99 <= bound && answered >= approximate(rate) * ANSWERED_SHARE_MIN
}

fn measure<W: Workload + Send>(
    target: &Target,
    load: &LoadOptions,
    make: impl Fn(usize) -> Result<W> + Sync,
) -> Result<Stats> {
    let plan = Plan::new(Clock::start(), target, load);
    Ok(drive::run(&plan, make)?.stats)
}

/// # Errors
/// When the server cannot be reached, or no rate holds.
pub(crate) fn run(options: &RampOptions) -> Result<()> {
    let target = Target::new(&options.load.url)?;
    if options.load.rate.is_some() {
        bail!("ramp finds the rate itself: --from says where it begins");
    }
    if options.of == RampOf::Get && !options.no_setup {
        setup::create_entities(&target, &options.entities)?;
    }
    let (entities, bound) = (&options.entities, options.p99_ms);
    let mut search = Search::new(options.from);
    let mut best = None;
    loop {
        let load = LoadOptions {
            rate: Some(search.next),
            ..options.load.clone()
        };
        let stats = match options.of {
            RampOf::Publish => measure(&target, &load, |connection| {
                Publish::new(&load, entities, (&target, false), connection)
            }),
            RampOf::Get => measure(&target, &load, |connection| {
                Get::new(entities, &target, (load.seed, connection))
            }),
        }?;
        let rate = search.next;
        let held = holds(&stats, rate, (load.duration, bound));
        report::note(&format!(
            "{rate} requests/s: p99 {:.1} us, {} failed: {}",
            approximate(stats.latency.value_at_quantile(0.99)) / 1_000.0,
            stats.failures(),
            if held { "holds" } else { "too much" }
        ));
        if held {
            best = Some((rate, stats));
        }
        if !search.learn(held) {
            break;
        }
    }
    let Some((rate, stats)) = best else {
        bail!("no rate holds, not even the lowest that was tried");
    };
    let mut report = Report::new("ramp");
    report.count("highest_rate", rate);
    report.load(&stats, "requests", options.load.duration);
    report.print(options.load.json);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates tried against a server that holds up to `limit`, and the best that was found.
    fn search(from: u64, limit: u64) -> (u32, Option<u64>) {
        let mut search = Search::new(from);
        let mut tried = 1;
        while search.learn(search.next <= limit) {
            tried += 1;
        }
        (tried, search.held)
    }

    #[test]
    fn the_limit_is_found_within_a_twentieth_in_few_tries() {
        for from in [1, 100, 1_000, 77_777, 1_000_000] {
            for limit in [1, 10, 999, 65_432, 1_234_567] {
                let (tried, found) = search(from, limit);
                let found = found.unwrap();
                assert!(
                    found <= limit && limit <= found + limit / 19 + 1,
                    "{from} {limit}: {found}"
                );
                assert!(tried < 60, "{from} {limit}: {tried}");
            }
        }
    }

    #[test]
    fn a_search_ends_where_nothing_holds_and_where_everything_does() {
        assert_eq!(search(1_000, 0).1, None);
        assert_eq!(search(1_000, u64::MAX).1, Some(RATE_MAX));
    }

    #[test]
    fn a_rate_holds_by_its_answers_its_latency_and_its_failures() {
        let mut stats = Stats::new(&[]);
        stats.requests = 1_000;
        for _ in 0..1_000 {
            stats.latency.saturating_record(2_000_000);
        }
        let second = Duration::from_secs(1);
        assert!(holds(&stats, 1_000, (second, Duration::from_millis(3))));
        assert!(!holds(&stats, 1_000, (second, Duration::from_millis(1))));
        assert!(!holds(&stats, 1_100, (second, Duration::from_millis(3))));
        stats.unanswered = 1;
        assert!(!holds(&stats, 1_000, (second, Duration::from_millis(3))));
    }
}
