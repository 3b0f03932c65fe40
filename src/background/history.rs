//! What a core lets its helper threads read of the past: one page of events and one earlier state at a time, the rest
//! waits in line.
//!
//! Two lines, since a page of events is read in a millisecond and an earlier state may take a second. What was opened
//! for one request is kept for the next of its line.

use crate::api::ApiError;
use crate::history::{HistoryError, HistoryQuery, HistoryResult, LiveLog, ReaderCache};
use crate::limits::HISTORY_READERS_MAX;
use crate::reactor::runtime::spawn_blocking;
use crate::shard::RequestId;
use flux_storage::DataDir;
use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

/// What came of a job.
pub(crate) type JobResult = Result<HistoryResult, HistoryError>;

type Task<T> = Pin<Box<dyn Future<Output = T>>>;

/// A request whose readers are there.
#[derive(Debug)]
pub(crate) struct Job {
    /// Whom the outcome goes to.
    pub(crate) request_id: RequestId,
    /// The request.
    pub(crate) query: Arc<HistoryQuery>,
    /// By shard, the logs that it concerns.
    pub(crate) logs: Vec<Option<LiveLog>>,
    /// Counted until it is done.
    pub(crate) readers: Rc<Readers>,
}

/// Where a core's connections leave their jobs.
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

/// Jobs that are done one after the other.
struct WorkerQueue {
    /// `None` while a job has it.
    reader_cache: Option<ReaderCache>,
    waiting: VecDeque<Job>,
    running: Option<Running>,
}

struct Running {
    request_id: RequestId,
    task: Task<(ReaderCache, JobResult)>,
    _readers: Rc<Readers>,
}

impl HistoryWorker {
    /// For a data directory.
    pub(crate) fn new(data_dir: &Arc<DataDir>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let line = || WorkerQueue {
            reader_cache: Some(ReaderCache::new(Arc::clone(data_dir), Arc::clone(&stop))),
            waiting: VecDeque::new(),
            running: None,
        };
        Self {
            events: line(),
            states: line(),
            stop,
        }
    }

    /// True while a helper thread reads.
    pub(crate) fn is_waiting(&self) -> bool {
        self.events.running.is_some() || self.states.running.is_some()
    }

    /// Lets the helper threads begin what they can.
    pub(crate) fn start_due(&mut self, queue: &mut HistoryQueue) {
        for job in queue.jobs.drain(..) {
            let line = match *job.query {
                HistoryQuery::Events(_) => &mut self.events,
                HistoryQuery::Entity { .. } | HistoryQuery::List { .. } => &mut self.states,
            };
            line.waiting.push_back(job);
        }
        self.events.start();
        self.states.start();
    }

    /// Takes what is finished.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> impl Iterator<Item = (RequestId, JobResult)> {
        let events = self.events.poll(context);
        events.into_iter().chain(self.states.poll(context))
    }

    /// Ends what is being read: nobody waits for it any more.
    pub(crate) async fn finish(&mut self) {
        self.stop.store(true, Relaxed);
        for line in [&mut self.events, &mut self.states] {
            line.waiting.clear();
            if let Some(running) = line.running.take() {
                drop(running.task.await);
            }
        }
    }
}

impl WorkerQueue {
    fn start(&mut self) {
        if self.running.is_some() || self.waiting.is_empty() {
            return;
        }
        let (Some(mut reader_cache), Some(job)) =
            (self.reader_cache.take(), self.waiting.pop_front())
        else {
            return;
        };
        let Job {
            request_id,
            query,
            logs,
            readers,
        } = job;
        let task = spawn_blocking(move || {
            let outcome = reader_cache.tell(&query, &logs);
            (reader_cache, outcome)
        });
        self.running = Some(Running {
            request_id,
            task,
            _readers: readers,
        });
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Option<(RequestId, JobResult)> {
        let running = self.running.as_mut()?;
        let Poll::Ready((reader_cache, outcome)) = running.task.as_mut().poll(context) else {
            return None;
        };
        let request_id = running.request_id;
        self.reader_cache = Some(reader_cache);
        self.running = None;
        Some((request_id, outcome))
    }
}
