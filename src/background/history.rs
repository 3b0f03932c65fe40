//! The history worker: helper threads that read the past, one for short reads and one for long
//! ones. Whose turn it is, is decided by the [`HistoryQueue`].
//!
//! A thread keeps what it opened for one read for the next. Long reads give way to the reactors.

use super::history_queue::{Cost, HistoryQueue, Job, JobEnd};
use super::job::{Jobs, Lane, WorkerResult};
use crate::api::ApiError;
use crate::history::{HistoryError, HistoryResult, LiveLog, ReaderCache};
use crate::log::Log;
use crate::report::{self, LogEvent};
use crate::shard::{MemoryBudget, MemoryClient, MemoryLoan, RequestId};
use flux_storage::DataDir;
use std::sync::Arc;

/// What came of a read.
pub(crate) type JobResult = Result<HistoryResult, ApiError>;

/// What a helper thread found, and the readers that it had opened.
pub(crate) struct Answered {
    cost: Cost,
    reader_cache: ReaderCache,
    result: Result<HistoryResult, HistoryError>,
}

/// See the module.
pub(crate) struct HistoryWorker {
    /// By cost; `None` while a job has it.
    reader_caches: [Option<ReaderCache>; Cost::ALL.len()],
}

impl HistoryWorker {
    /// For a data directory.
    pub(crate) fn new(data_dir: &Arc<DataDir>) -> Self {
        let reader_cache = |_| Some(ReaderCache::new(Arc::clone(data_dir)));
        Self {
            reader_caches: Cost::ALL.map(reader_cache),
        }
    }

    /// True while a helper thread reads.
    pub(crate) fn is_waiting(&self) -> bool {
        self.reader_caches.iter().any(Option::is_none)
    }

    /// Lets the helper threads begin what they can, in memory of this budget.
    pub(crate) fn start_due<L: Log>(
        &mut self,
        queue: &mut HistoryQueue,
        memory: &Arc<MemoryBudget>,
        jobs: &mut Jobs<L>,
    ) {
        for cost in Cost::ALL {
            let place = &mut self.reader_caches[cost as usize];
            if place.is_some()
                && let Some(job) = queue.next_job(cost)
                && let Some(reader_cache) = place.take()
            {
                let client = job.network.map(MemoryClient::at);
                let loan = Box::new(MemoryLoan::new(memory, client));
                let budget = job.budget.within(loan);
                let job = Job { budget, ..job };
                jobs.push(lane_of(cost), move || run(cost, reader_cache, job));
            }
        }
    }

    /// Takes an answer. The request that it is for, unless nobody waits for it or it is read anew.
    pub(crate) fn on_result(
        &mut self,
        queue: &mut HistoryQueue,
        answered: Answered,
    ) -> Option<(RequestId, JobResult)> {
        let Answered {
            cost,
            reader_cache,
            result,
        } = answered;
        self.reader_caches[cost as usize] = Some(reader_cache);
        let end = match &result {
            Err(HistoryError::OverBudget) => JobEnd::OverBudget,
            Err(error) if error.is_moved() => JobEnd::Moved,
            Ok(_) | Err(_) => JobEnd::Answered,
        };
        let request_id = queue.on_job_end(cost, end)?;
        let result = result.map_err(|error| {
            // A fault of ours is the operator's to know.
            if error.is_fault() {
                report::say(
                    LogEvent::HistoryUnreadable,
                    &format!("history can't be read: {error}"),
                );
            }
            error.answer()
        });
        Some((request_id, result))
    }
}

fn run<L: Log>(cost: Cost, mut reader_cache: ReaderCache, job: Job<LiveLog>) -> WorkerResult<L> {
    let result = reader_cache.run((&job.asked, job.budget), &job.logs);
    WorkerResult::HistoryAnswered(Box::new(Answered {
        cost,
        reader_cache,
        result,
    }))
}

const fn lane_of(cost: Cost) -> Lane {
    match cost {
        Cost::Short => Lane::History,
        Cost::Long => Lane::LongHistory,
    }
}
