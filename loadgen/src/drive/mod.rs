//! Threads that keep requests in flight.
//!
//! Connections are dealt to the threads in turn; each thread has its own poller, its own statistics
//! and, in an open loop, its own part of the schedule. Nothing is shared but a counter for the
//! progress line.

mod pace;
mod worker;

use crate::affinity;
use crate::clock::{Clock, Moment, thread_cpu_time};
use crate::net::Target;
use crate::options::LoadOptions;
use crate::report;
use crate::stats::{Phases, Stats};
use crate::workload::Workload;
use anyhow::{Context, Result, bail};
use pace::Pace;
use std::panic::resume_unwind;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, Scope, ScopedJoinHandle, scope};
use std::time::Duration;
use worker::Worker;

/// How often the progress line is written.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What all threads of a run agree on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) clock: Clock,
    pub(crate) target: &'a Target,
    pub(crate) load: &'a LoadOptions,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(clock: Clock, target: &'a Target, load: &'a LoadOptions) -> Self {
        Self {
            clock,
            target,
            load,
        }
    }
}

/// The statistics and the workloads of a run that has ended.
#[derive(Debug)]
pub(crate) struct RunResult<W> {
    pub(crate) stats: Stats,
    /// One for each connection, by its number.
    pub(crate) workloads: Vec<W>,
}

/// What one thread has done so far. The thread writes it after each turn, the progress line reads
/// it.
#[derive(Debug, Default)]
struct ThreadCounts {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// Runs one workload per connection through warm-up and measurement, made by `make_workload` from
/// its number.
///
/// # Errors
/// When a connection cannot be opened, or a thread cannot do what it was told. Failures of single
/// requests are in the statistics.
pub(crate) fn run<W, F>(plan: &Plan<'_>, make_workload: F) -> Result<RunResult<W>>
where
    W: Workload + Send,
    F: Fn(usize) -> Result<W> + Sync,
{
    let thread_count = usize::from(plan.load.threads.min(plan.load.connections));
    let mut links = Vec::new();
    for thread_index in 0..thread_count {
        let connections = (0..usize::from(plan.load.connections)).skip(thread_index);
        let workloads: Result<Vec<W>> = connections
            .step_by(thread_count)
            .map(&make_workload)
            .collect();
        links.push(workloads?);
    }
    let progress: Vec<_> = (0..thread_count).map(|_| ThreadCounts::default()).collect();
    let running = AtomicU64::new(thread_count as u64);
    let ready = Barrier::new(thread_count);
    let shared = Shared {
        plan,
        thread_count,
        running: &running,
        ready: &ready,
    };
    let results = scope(|scope| {
        let mut threads = Vec::new();
        for (thread_index, workloads) in links.into_iter().enumerate() {
            let progress = &progress[thread_index];
            threads.push(shared.spawn(scope, (thread_index, progress), workloads)?);
        }
        show_progress(plan, &progress, &running);
        threads.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    Ok(merge(results))
}

/// Refuses a run in which nothing succeeded, so that no script uses its figures.
///
/// # Errors
/// When no request succeeded in the measured time.
pub(crate) fn judge(stats: &Stats) -> Result<()> {
    if stats.requests == 0 {
        bail!("no request succeeded in the measured time");
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
struct Shared<'a> {
    plan: &'a Plan<'a>,
    thread_count: usize,
    /// Threads that have not ended.
    running: &'a AtomicU64,
    /// Every thread passes it when its connections are open.
    ready: &'a Barrier,
}

impl<'env> Shared<'env> {
    fn spawn<'scope, W: Workload + Send + 'scope>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        (thread_index, progress): (usize, &'env ThreadCounts),
        workloads: Vec<W>,
    ) -> Result<ScopedJoinHandle<'scope, Result<RunResult<W>>>> {
        Builder::new()
            .name(format!("load-{thread_index}"))
            .spawn_scoped(scope, move || {
                let result = self.work(thread_index, progress, workloads);
                self.running.fetch_sub(1, Ordering::Release);
                result
            })
            .context("cannot start a thread")
    }

    fn work<W: Workload>(
        self,
        thread_index: usize,
        progress: &ThreadCounts,
        workloads: Vec<W>,
    ) -> Result<RunResult<W>> {
        let load = self.plan.load;
        let opened = affinity::settle(&load.cpu, thread_index)
            .and_then(|()| Worker::open(self.plan, workloads, progress));
        // A thread that failed passes too: the others wait for it.
        self.ready.wait();
        let mut worker = opened?;
        let begin = self.plan.clock.now();
        let phases = Phases::new(begin, load.warmup, load.duration);
        worker.run(phases, self.pace(thread_index, begin))?;
        Ok(worker.into_result())
    }

    fn pace(self, thread_index: usize, begin: Moment) -> Pace {
        match self.plan.load.rate {
            Some(rate) => Pace::open(begin, rate, (thread_index, self.thread_count)),
            None => Pace::Closed,
        }
    }
}

/// Waits for a thread; its panic becomes ours.
pub(crate) fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Connection `n` is number `n / threads` of thread `n % threads`.
fn merge<W: Workload>(results: Vec<RunResult<W>>) -> RunResult<W> {
    let mut stats = Stats::new(W::KINDS);
    let mut by_thread = Vec::new();
    for result in results {
        stats.add(&result.stats);
        by_thread.push(result.workloads.into_iter());
    }
    let mut workloads = Vec::new();
    while let Some(row) = next_row(&mut by_thread) {
        workloads.extend(row);
    }
    RunResult { stats, workloads }
}

fn next_row<W>(by_thread: &mut [std::vec::IntoIter<W>]) -> Option<Vec<W>> {
    let row: Vec<W> = by_thread.iter_mut().filter_map(Iterator::next).collect();
    (!row.is_empty()).then_some(row)
}

/// Writes a line each second until all threads have ended.
fn show_progress(plan: &Plan<'_>, progress: &[ThreadCounts], running: &AtomicU64) {
    let begin = plan.clock.now();
    let mut before = 0;
    let mut next_line = begin + PROGRESS_INTERVAL;
    while running.load(Ordering::Acquire) > 0 {
        // Short, so that the end of the run is noticed soon.
        std::thread::park_timeout(Duration::from_millis(20));
        let now = plan.clock.now();
        if now < next_line {
            continue;
        }
        next_line = next_line + PROGRESS_INTERVAL;
        let sum = |count: fn(&ThreadCounts) -> &AtomicU64| -> u64 {
            progress
                .iter()
                .map(|progress| count(progress).load(Ordering::Relaxed))
                .sum()
        };
        let succeeded = sum(|progress| &progress.succeeded);
        let failed = sum(|progress| &progress.failed);
        report::note(&format!(
            "{:5.0} s  {:>9} /s  {failed} failed",
            now.since(begin).as_secs_f64(),
            succeeded - before
        ));
        before = succeeded;
    }
}

/// Share of one core that the calling thread used since `cpu_before` and `wall_before`.
pub(crate) fn busy_share(cpu_before: Duration, wall: Duration) -> f64 {
    let used = thread_cpu_time().saturating_sub(cpu_before);
    used.as_secs_f64() / wall.as_secs_f64().max(f64::EPSILON)
}
