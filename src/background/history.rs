//! The history worker: requests about the past wait in two queues, and helper threads answer one of
//! each at a time.
//!
//! Two queues, since a page of events is read in a millisecond and an earlier state may take a
//! second. What was opened for one request is kept for the next of its queue.

use super::job::{Jobs, Lane, WorkerResult};
use crate::api::ApiError;
use crate::history::{HistoryError, HistoryQuery, HistoryResult, LiveLog, ReaderCache};
use crate::limits::HISTORY_READERS_MAX;
use crate::log::Log;
use crate::shard::RequestId;
use flux_storage::DataDir;
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What came of a request.
pub(crate) type JobResult = Result<HistoryResult, HistoryError>;

/// What a helper thread found, and the readers that it had opened.
pub(crate) struct Answered {
    lane: Lane,
    reader_cache: ReaderCache,
    result: JobResult,
}

/// A request whose readers are there.
#[derive(Debug)]
pub(crate) struct Job {
    /// Whom the result goes to.
    pub(crate) request_id: RequestId,
    /// The request.
    pub(crate) query: Arc<HistoryQuery>,
    /// By shard, the logs that it concerns.
    pub(crate) logs: Vec<Option<LiveLog>>,
    /// Counted until it is done.
    pub(crate) readers: Rc<Readers>,
}

/// Requests of a core's connections that wait for the history worker.
#[derive(Debug, Default)]
pub(crate) struct HistoryQueue {
    jobs: VecDeque<Job>,
    readers: Rc<Cell<usize>>,
}

/// Readers of logs that a request holds; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Readers {
    count: usize,
    all: Rc<Cell<usize>>,
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.count);
    }
}

impl HistoryQueue {
    /// Admits a request that takes `count` readers.
    ///
    /// # Errors
    /// [`ApiError::Busy`] at the bound.
    pub(crate) fn admit(&self, count: usize) -> Result<Rc<Readers>, ApiError> {
        let all = self.readers.get() + count;
        if all > HISTORY_READERS_MAX && self.readers.get() > 0 {
            return Err(ApiError::Busy);
        }
        self.readers.set(all);
        Ok(Rc::new(Readers {
            count,
            all: Rc::clone(&self.readers),
        }))
    }

    /// Takes a job in.
    pub(crate) fn push(&mut self, job: Job) {
        self.jobs.push_back(job);
    }
}

/// See the module.
pub(crate) struct HistoryWorker {
    events: WorkerQueue,
    states: WorkerQueue,
    stop: Arc<AtomicBool>,
}

/// Requests that are answered one after the other.
struct WorkerQueue {
    lane: Lane,
    /// `None` while a job has it.
    reader_cache: Option<ReaderCache>,
    waiting: VecDeque<Job>,
    running: Option<(RequestId, Rc<Readers>)>,
}

impl HistoryWorker {
    /// For a data directory.
    pub(crate) fn new(data_dir: &Arc<DataDir>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let queue = |lane| WorkerQueue {
            lane,
            reader_cache: Some(ReaderCache::new(Arc::clone(data_dir), Arc::clone(&stop))),
            waiting: VecDeque::new(),
            running: None,
        };
        Self {
            events: queue(Lane::Events),
            states: queue(Lane::States),
            stop,
        }
    }

    /// True while a helper thread reads.
    pub(crate) fn is_waiting(&self) -> bool {
        self.events.running.is_some() || self.states.running.is_some()
    }

    /// Takes in what connections have left, and lets the helper threads begin what they can.
    pub(crate) fn start_due<L: Log>(&mut self, queue: &mut HistoryQueue, jobs: &mut Jobs<L>) {
        for job in queue.jobs.drain(..) {
            let queue = match *job.query {
                HistoryQuery::Events(_) => &mut self.events,
                HistoryQuery::Entity { .. } | HistoryQuery::List { .. } => &mut self.states,
            };
            queue.waiting.push_back(job);
        }
        self.events.start(jobs);
        self.states.start(jobs);
    }

    /// Takes an answer: the request, and what came of it.
    pub(crate) fn on_result(&mut self, answered: Answered) -> Option<(RequestId, JobResult)> {
        let queue = match answered.lane {
            Lane::Events => &mut self.events,
            _ => &mut self.states,
        };
        queue.reader_cache = Some(answered.reader_cache);
        let (request_id, _) = queue.running.take()?;
        Some((request_id, answered.result))
    }

    /// Gives up what waits, and tells what is being read to end: nobody waits for it any more.
    pub(crate) fn stop(&mut self) {
        self.stop.store(true, Relaxed);
        for queue in [&mut self.events, &mut self.states] {
            queue.waiting.clear();
        }
    }
}

impl WorkerQueue {
    fn start<L: Log>(&mut self, jobs: &mut Jobs<L>) {
        if self.running.is_some() || self.waiting.is_empty() {
            return;
        }
        let (Some(mut reader_cache), Some(job)) =
            (self.reader_cache.take(), self.waiting.pop_front())
        else {
            return;
        };
        self.running = Some((job.request_id, job.readers));
        let (lane, query, logs) = (self.lane, job.query, job.logs);
        jobs.push(lane, move || {
            let result = reader_cache.run(&query, &logs);
            WorkerResult::HistoryAnswered(Box::new(Answered {
                lane,
                reader_cache,
                result,
            }))
        });
    }
}
