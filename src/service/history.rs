//! Requests about the past: events, and the state as it was.
//!
//! ```text
//! request ─▶ ask the shards for readers of their logs ─▶ job for the history worker ─▶ result
//! ```
//!
//! A shard hands out its reader when what it read so far is visible, so that a result never shows
//! what may be lost, and shows what was acknowledged before the request.

use super::{Begun, Caller, Context, Outcome, Pending};
use crate::api::ApiError;
use crate::background::history::{Job, JobResult, Readers};
use crate::history::{HistoryError, HistoryQuery, HistoryResult, LiveLog};
use crate::log::Log;
use crate::report;
use crate::shard::{Reply, RequestId, ShardRequest};
use std::rc::Rc;
use std::sync::Arc;

/// How often a request begins anew because retention removed a file that it was about to read.
const ATTEMPTS_MAX: u8 = 4;

/// A request about the past on its way.
#[derive(Debug)]
pub(crate) struct PendingHistory {
    query: Arc<HistoryQuery>,
    /// By shard; empty if the request does not concern it.
    logs: Vec<Option<LiveLog>>,
    /// Shards that have not answered.
    waiting: usize,
    attempts: u8,
    readers: Rc<Readers>,
}

/// Begins a request about the past.
///
/// # Errors
/// If too much of the past is read already, or a shard can't be asked.
pub(crate) fn begin<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    query: HistoryQuery,
) -> Result<Begun, ApiError> {
    let concerned = context.router.shards_of_key(query.placement());
    let mut request = PendingHistory {
        logs: Vec::new(),
        waiting: 0,
        attempts: 0,
        readers: context.history.admit(concerned.len())?,
        query: Arc::new(query),
    };
    request.ask(context, caller.request_id)?;
    Ok(Begun::Waiting(Pending::History(Box::new(request))))
}

/// Gives the history worker's result to the call that waits for it. `None`: it has begun anew.
pub(crate) fn finish<L: Log>(
    context: &mut Context<L>,
    request_id: RequestId,
    pending: &mut Pending,
    result: JobResult,
) -> Option<Outcome> {
    let Pending::History(request) = pending else {
        return None;
    };
    let error = match result {
        Ok(found) => return Some(request.outcome(context, found)),
        Err(error) if error.is_moved() && request.attempts < ATTEMPTS_MAX => {
            match request.ask(context, request_id) {
                Ok(()) => return None,
                Err(error) => error,
            }
        }
        Err(error) => {
            report_fault(&error);
            error.answer()
        }
    };
    Some(Outcome::Failed(error))
}

impl PendingHistory {
    fn ask<L: Log>(
        &mut self,
        context: &mut Context<L>,
        request_id: RequestId,
    ) -> Result<(), ApiError> {
        self.attempts += 1;
        self.logs = Vec::new();
        let router = &mut context.router;
        self.logs.resize_with(usize::from(router.shards), || None);
        let shards = router.shards_of_key(self.query.placement());
        self.waiting = shards.len();
        for shard in shards {
            router.ask(shard, request_id, ShardRequest::Past)?;
        }
        Ok(())
    }

    /// Takes a shard's reply; with the last of them the history worker gets to work.
    ///
    /// # Errors
    /// If the shard rejected the request.
    pub(super) fn resume<L: Log>(
        &mut self,
        context: &mut Context<L>,
        request_id: RequestId,
        (from, reply): (u16, Reply),
    ) -> Result<Option<Outcome>, ApiError> {
        match reply {
            Reply::Past(log) => {
                if let Some(place) = self.logs.get_mut(usize::from(from))
                    && place.is_none()
                {
                    *place = Some(*log);
                    self.waiting -= 1;
                }
            }
            Reply::Refused(error) => return Err(error),
            _ => return Ok(None),
        }
        if self.waiting == 0 {
            context.history.push(Job {
                request_id,
                query: Arc::clone(&self.query),
                logs: std::mem::take(&mut self.logs),
                readers: Rc::clone(&self.readers),
            });
        }
        Ok(None)
    }

    fn outcome<L>(&self, context: &mut Context<L>, found: HistoryResult) -> Outcome {
        let (json, next) = match (found, &*self.query) {
            (HistoryResult::Entity(None), _) => return Outcome::Failed(ApiError::NoEntity),
            (HistoryResult::Entity(Some(json)), _) => (json, None),
            (HistoryResult::Events(page), HistoryQuery::Events(query)) => {
                let next = page.next.map(|next| query.next_link(next));
                (page.json, next)
            }
            (HistoryResult::List(page), HistoryQuery::List { query, .. }) => {
                let next = page.next.as_deref().map(|id| query.next_link(id));
                (page.json, next)
            }
            (HistoryResult::Events(page), _) => (page.json, None),
            (HistoryResult::List(page), _) => (page.json, None),
        };
        context.answer = json;
        Outcome::Page { next }
    }
}

/// A fault of ours is the operator's to know.
fn report_fault(error: &HistoryError) {
    if error.is_fault() {
        report::error(&format!("history can't be read: {error}"));
    }
}
