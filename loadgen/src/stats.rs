//! What one thread measured, and its sum over threads.
//!
//! Latencies are those of requests that were due within the measured time; throughput counts
//! answers that arrived within it. Requests before and after load the server but are in no figure,
//! except that failures always are.

use crate::clock::Moment;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest latency that is measured, nanoseconds: ten minutes. Longer ones count as this.
const LATENCY_NANOS_MAX: u64 = 600 * 1_000_000_000;

/// Three digits: a value is off by at most 0.1 %.
const LATENCY_DIGITS: u8 = 3;

/// The phases of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phases {
    pub(crate) measure_from: Moment,
    /// Nothing is sent from here on.
    pub(crate) measure_until: Moment,
    /// Answers that have not come by now are given up.
    pub(crate) give_up: Moment,
}

/// How long answers are waited for after the last request.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

impl Phases {
    pub(crate) fn new(begin: Moment, warmup: Duration, duration: Duration) -> Self {
        let measure_from = begin + warmup;
        let measure_until = measure_from + duration;
        Self {
            measure_from,
            measure_until,
            give_up: measure_until + GIVE_UP_AFTER,
        }
    }

    pub(crate) fn is_measured(&self, moment: Moment) -> bool {
        self.measure_from <= moment && moment < self.measure_until
    }

    /// The next phase's beginning after `now`.
    pub(crate) fn next_boundary(&self, now: Moment) -> Moment {
        let boundaries = [self.measure_from, self.measure_until, self.give_up];
        boundaries
            .into_iter()
            .find(|&boundary| boundary > now)
            .unwrap_or(self.give_up)
    }
}

/// Nanoseconds, from 1 to [`LATENCY_NANOS_MAX`].
pub(crate) fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, LATENCY_DIGITS)
        .expect("constant bounds that the library accepts")
}

#[derive(Clone, Debug)]
pub(crate) struct Stats {
    /// From when a request was due to the read of its answer; successes only.
    pub(crate) latency: Histogram<u64>,
    /// The same for each of the workload's kinds of requests, with its name.
    pub(crate) by_kind: Vec<(&'static str, Histogram<u64>)>,
    /// Open loop: from when a request was due to when it was sent.
    pub(crate) lateness: Histogram<u64>,
    /// Requests that succeeded.
    pub(crate) requests: u64,
    /// What they achieved: events, or requests if a request has no events.
    pub(crate) units: u64,
    /// Bytes of their bodies.
    pub(crate) body_bytes: u64,
    /// Items that a batch refused.
    pub(crate) items_refused: u64,
    /// Answers other than success, by status, over the whole run.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// Connections that ended before their time, by reason.
    pub(crate) broken: BTreeMap<String, u64>,
    /// Requests without an answer.
    pub(crate) unanswered: u64,
    /// Open loop: requests that were due and never sent.
    pub(crate) unsent: u64,
    /// Share of one core that each thread used in the measured time.
    pub(crate) busy: Vec<f64>,
    /// Processor time of the server in the measured time, where its process was named.
    pub(crate) server_cpu: Option<Duration>,
}

impl Stats {
    /// `kinds`: the workload's.
    pub(crate) fn new(kinds: &[&'static str]) -> Self {
        let by_kind = kinds.iter().map(|&kind| (kind, new_histogram())).collect();
        Self {
            latency: new_histogram(),
            by_kind,
            lateness: new_histogram(),
            requests: 0,
            units: 0,
            body_bytes: 0,
            items_refused: 0,
            refused: BTreeMap::new(),
            broken: BTreeMap::new(),
            unanswered: 0,
            unsent: 0,
            busy: Vec::new(),
            server_cpu: None,
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.latency
            .add(&other.latency)
            .expect("all histograms have the same bounds");
        for ((_, sum), (_, latency)) in self.by_kind.iter_mut().zip(&other.by_kind) {
            sum.add(latency)
                .expect("all histograms have the same bounds");
        }
        self.lateness
            .add(&other.lateness)
            .expect("all histograms have the same bounds");
        self.requests += other.requests;
        self.units += other.units;
        self.body_bytes += other.body_bytes;
        self.items_refused += other.items_refused;
        for (&status, &count) in &other.refused {
            *self.refused.entry(status).or_default() += count;
        }
        for (reason, &count) in &other.broken {
            *self.broken.entry(reason.clone()).or_default() += count;
        }
        self.unanswered += other.unanswered;
        self.unsent += other.unsent;
        self.busy.extend(&other.busy);
        // Every thread measured the same server over the same time.
        self.server_cpu = self.server_cpu.max(other.server_cpu);
    }

    /// Requests that did not succeed, for any reason.
    pub(crate) fn failures(&self) -> u64 {
        self.refused.values().sum::<u64>() + self.unanswered + self.unsent
    }
}
