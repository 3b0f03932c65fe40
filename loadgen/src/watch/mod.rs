//! Subscribers: how long an event takes from its publisher to everyone who watches, and whether
//! each sees all of them, once and in order.
//!
//! Every event's first property says which publisher sent it, as which of its events, and when it
//! was due (`mark`). Watchers read that from the updates. As entity and namespace follow from the
//! number of an event, a watcher knows which numbers it must see next (`ledger`). Order is checked
//! as the server promises it: among the events of one publisher connection in one namespace.
//!
//! The publishers start when all subscriptions are acknowledged. They keep to a schedule, so the
//! latency counts from when an event was due. Watchers run on threads of their own until nothing is
//! missing, or nothing has come for `--drain` seconds.

mod ledger;
mod mark;
mod publisher;
mod watcher;

use crate::clock::Clock;
use crate::drive::{self, Plan};
use crate::entities::Entities;
use crate::net::Target;
use crate::numbers::approximate;
use crate::options::WatchOptions;
use crate::report::{self, Report};
use crate::stats::Stats;
use anyhow::{Result, bail};
use ledger::Tally;
use mark::RunId;
use publisher::Publisher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{Builder, scope};
use std::time::Duration;
use watcher::{Session, Watched};

/// Events a second without `--rate`. Latencies can be compared only at the same rate.
const RATE_DEFAULT: u64 = 1_000;

/// Pause between checks whether all subscriptions are acknowledged.
const READY_PAUSE: Duration = Duration::from_millis(5);

/// What publishers and watchers share.
#[derive(Debug)]
struct Stage {
    run: RunId,
    /// Watcher threads whose subscriptions are in force, or that have failed.
    ready: AtomicUsize,
    /// A watcher thread has failed, so the run is of no use.
    failed: AtomicBool,

    /// The number behind each publisher connection's last event, once they are done.
    ends: OnceLock<Vec<u64>>,
}

/// # Errors
/// When the server cannot be reached or refuses a subscription, or nothing was received.
pub(crate) fn run(options: &WatchOptions) -> Result<()> {
    let clock = Clock::start();
    let target = Target::new(&options.load.url)?;
    let mut entity_options = options.entities.clone();
    // Whole rounds, so that the namespace of an event follows from its number.
    entity_options.entities = entity_options
        .entities
        .next_multiple_of(entity_options.namespaces.max(1));
    let entities = Entities::new(&entity_options)?;
    let mut load = options.load.clone();
    load.rate.get_or_insert(RATE_DEFAULT);
    let plan = Plan::new(clock, &target, &load);
    let stage = Stage {
        run: RunId::new(),
        ready: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        ends: OnceLock::new(),
    };
    let session = Session {
        plan: &plan,
        entities: &entities,
        options,
        stage: &stage,
    };
    let (published, watched) = play(session, |connection| {
        let stream = (stage.run, load.seed, connection);
        let start = start(&entities, connection as u64, load.connections);
        let publisher = Publisher::new(&target, &entities, &entity_options, (stream, start));
        Ok(publisher)
    })?;
    let tally = describe(
        options,
        &published,
        &watched,
        load.rate.unwrap_or(RATE_DEFAULT),
    );
    if tally.received == 0 {
        bail!("no watcher received anything");
    }
    drive::judge(&published)
}

/// Runs watchers, and the publishers when those are ready.
fn play<F>(session: Session<'_>, make_publisher: F) -> Result<(Stats, Watched)>
where
    F: Fn(usize) -> Result<Publisher> + Sync,
{
    let Session {
        plan,
        options,
        stage,
        ..
    } = session;
    let thread_count =
        usize::from(options.load.threads).min(crate::numbers::index(u64::from(options.watchers)));
    scope(|scope| {
        let mut threads = Vec::new();
        for thread_index in 0..thread_count {
            let name = format!("watch-{thread_index}");
            let watch = move || watcher::run(session, (thread_index, thread_count));
            threads.push(Builder::new().name(name).spawn_scoped(scope, watch)?);
        }
        while stage.ready.load(Ordering::Acquire) < thread_count {
            std::thread::park_timeout(READY_PAUSE);
        }
        let published = if stage.failed.load(Ordering::Acquire) {
            None
        } else {
            report::note(&format!("{} watchers are subscribed", options.watchers));
            Some(drive::run(plan, make_publisher))
        };
        let ends = match &published {
            Some(Ok(outcome)) => outcome.workloads.iter().map(Publisher::end).collect(),
            _ => Vec::new(),
        };
        stage.ends.get_or_init(|| ends);
        let mut watched = Watched::new();
        for thread in threads {
            watched.add(&drive::join(thread)?);
        }
        match published {
            Some(outcome) => Ok((outcome?.stats, watched)),
            None => bail!("the watchers could not be set up"),
        }
    })
}

/// The number at which each of `connections` publishers starts. They are spread over the entities,
/// so that every entity gets events even if no publisher visits all of them.
fn starts(entities: &Entities, connections: u16) -> impl Iterator<Item = u64> {
    (0..u64::from(connections)).map(move |connection| start(entities, connection, connections))
}

fn start(entities: &Entities, connection: u64, connections: u16) -> u64 {
    connection * entities.count / u64::from(connections.max(1))
}

fn describe(options: &WatchOptions, published: &Stats, watched: &Watched, rate: u64) -> Tally {
    let mut report = Report::new("watch");
    let tally = watched.tally;
    report.count("watchers", u64::from(options.watchers));
    report.count("rate", rate);
    report.rate(
        "published_per_second",
        published.requests,
        options.load.duration,
    );
    report.count("publish_failures", published.failures());
    report.latencies("publish_", &published.latency);
    report.rate(
        "messages_per_second",
        watched.latency.len(),
        options.load.duration,
    );
    if let Some(cpu) = published.server_cpu {
        let each = cpu.as_secs_f64() * 1e6 / approximate(watched.latency.len().max(1));
        report.ratio("server_us_per_delivery", each);
    }
    report.latencies("delivery_", &watched.latency);
    report.count("expected", tally.expected);
    report.count("received", tally.received);
    report.count("lost", tally.lost);
    report.count("repeated", tally.repeated);
    report.count("out_of_order", tally.out_of_order);
    report.count("unexpected", tally.unexpected);
    report.fault("worst_watcher_lost", watched.worst_lost);
    report.fault("watchers_with_losses", watched.with_losses);
    for (reason, &count) in &watched.ended {
        report.count(&format!("ended: {reason}"), count);
    }
    if !published.lateness.is_empty() {
        report.latencies("sent_late_", &published.lateness);
    }
    let shares: Vec<f64> = published
        .busy
        .iter()
        .chain(&watched.busy)
        .copied()
        .collect();
    report.busy(&shares);
    report.print(options.load.json);
    tally
}
