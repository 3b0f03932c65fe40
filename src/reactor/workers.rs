//! A core's helper threads: one for each lane, started with its first job, ended with its core.
//!
//! ```text
//! background ──Job──▶ lane's thread ──WorkerResult──▶ bounded queue ──▶ event loop ──▶ background
//!                                          └─ wakes the core as a message does
//! ```
//!
//! A thread runs one job after the other. It leaves its core's processor, and lane by lane it gives
//! way to the reactors ([`Lane::gives_way`]). A job that panics ends the process (`boot::panics`):
//! its state machine would wait for ever. Who asks for a job has no other in flight on that lane,
//! so the queue has a place for every result.

use crate::background::job::{Job, Lane, ResultSender, WorkerResult};
use crate::background::throttle::{lower_priority, unpin};
use crate::faults;
use crate::log::Log;
use crossbeam_queue::ArrayQueue;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Waker;
use std::thread::JoinHandle;

/// Jobs of one lane that may be in flight: one runs while its successor waits.
const JOBS_PER_LANE_MAX: usize = 2;
/// Results that may wait: those of all lanes.
const RESULTS_MAX: usize = Lane::COUNT * JOBS_PER_LANE_MAX;

/// See the module.
pub(crate) struct Workers<L: Log> {
    core: u16,
    results: Arc<ArrayQueue<WorkerResult<L>>>,
    sender: ResultSender<L>,
    threads: [Option<Worker<L>>; Lane::COUNT],
}

struct Worker<L: Log> {
    jobs: Sender<Job<L>>,
    thread: JoinHandle<()>,
}

impl<L: Log> Workers<L> {
    /// None runs yet. `waker`: of the core, which a result wakes.
    pub(crate) fn new(core: u16, waker: Waker) -> Self {
        let results = Arc::new(ArrayQueue::new(RESULTS_MAX));
        Self {
            core,
            sender: ResultSender::new(Arc::clone(&results), waker),
            results,
            threads: [const { None }; Lane::COUNT],
        }
    }

    /// Hands a job to its lane's thread.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn run(&mut self, job: Job<L>) -> io::Result<()> {
        let lane = job.lane;
        let place = &mut self.threads[lane as usize];
        let worker = match place {
            Some(worker) => worker,
            None => place.insert(Worker::start((lane, self.core), self.sender.clone())?),
        };
        if worker.jobs.send(job).is_err() {
            let message = format!("the {} thread has ended", lane.name());
            return Err(io::Error::other(message));
        }
        Ok(())
    }

    /// The oldest result.
    pub(crate) fn take(&self) -> Option<WorkerResult<L>> {
        self.results.pop()
    }

    /// True if a result waits.
    pub(crate) fn has_results(&self) -> bool {
        !self.results.is_empty()
    }

    /// Lets a lane's thread end by itself: nobody waits for its job.
    pub(crate) fn abandon(&mut self, lane: Lane) {
        drop(self.threads[lane as usize].take());
    }

    /// Waits until every thread has finished its jobs, and ends it.
    pub(crate) fn join(&mut self) {
        for Worker { jobs, thread } in self.threads.iter_mut().filter_map(Option::take) {
            drop(jobs);
            match thread.join() {
                // A panic has ended the process.
                Ok(()) | Err(_) => {}
            }
        }
    }
}

impl<L: Log> Worker<L> {
    fn start((lane, core): (Lane, u16), results: ResultSender<L>) -> io::Result<Self> {
        let (jobs, received) = channel();
        let thread = std::thread::Builder::new().name(format!("{}-{core}", lane.name()));
        let thread = thread.spawn(move || work(lane, &received, &results))?;
        Ok(Self { jobs, thread })
    }
}

fn work<L: Log>(lane: Lane, jobs: &Receiver<Job<L>>, results: &ResultSender<L>) {
    unpin();
    if lane.gives_way() {
        lower_priority();
    }
    while let Ok(job) = jobs.recv() {
        faults::step();
        results.send((job.run)());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::background::job::Jobs;
    use crate::log::MemoryLog;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Wake;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn workers() -> (Workers<MemoryLog>, Arc<Wakes>) {
        let wakes = Arc::new(Wakes::default());
        (Workers::new(3, Waker::from(Arc::clone(&wakes))), wakes)
    }

    fn run(workers: &mut Workers<MemoryLog>, lane: Lane, job: impl FnOnce() + Send + 'static) {
        let mut jobs = Jobs::default();
        jobs.push(lane, move || {
            job();
            WorkerResult::Ballast(Ok(()))
        });
        for job in jobs.drain() {
            workers.run(job).unwrap();
        }
    }

    #[test]
    fn jobs_of_a_lane_run_in_order_on_its_thread_and_every_result_wakes_the_core() {
        let (mut workers, wakes) = workers();
        let (seen, order) = channel();
        for number in 0..JOBS_PER_LANE_MAX {
            let seen = seen.clone();
            run(&mut workers, Lane::Ballast, move || {
                let name = std::thread::current().name().map(str::to_owned);
                seen.send((number, name)).unwrap();
            });
        }
        workers.join();
        drop(seen);
        let name = Some("ballast-3".to_owned());
        let expected = (0..JOBS_PER_LANE_MAX).map(|number| (number, name.clone()));
        assert!(order.iter().eq(expected));
        assert_eq!(wakes.0.load(Relaxed), JOBS_PER_LANE_MAX);
        for _ in 0..JOBS_PER_LANE_MAX {
            assert!(matches!(
                workers.take(),
                Some(WorkerResult::Ballast(Ok(())))
            ));
        }
        assert!(!workers.has_results());
    }

    #[test]
    fn lanes_do_not_wait_for_each_other() {
        let (mut workers, _) = workers();
        let (end, ended) = channel();
        run(&mut workers, Lane::Retention, move || ended.recv().unwrap());
        run(&mut workers, Lane::Segment, move || end.send(()).unwrap());
        workers.join();
        assert!(workers.take().is_some() && workers.take().is_some());
    }
}
