//! Requests about the past: events, and the state as it was.
//!
//! ```text
//! request ─▶ ask the shards concerned for readers of their logs ─▶ all there ─▶ a job for the historian ─▶ answer
//! ```
//!
//! A shard hands out its reader when what it read so far is visible, so that an answer never shows what may be lost,
//! and shows what was acknowledged before the request.

use super::context::{Answer, CORS_EXPOSE, CORS_ORIGIN, Hub};
use super::pending::RequestMeta;
use crate::api::ApiError;
use crate::background::history::{Job, Outcome, Readers};
use crate::history::{HistoryError, HistoryQuery, HistoryResult, LiveLog};
use crate::model::place_key;
use crate::report;
use crate::shard::{Reply, RequestId, ShardRequest};
use std::rc::Rc;
use std::sync::Arc;

/// How often a request is begun anew because retention removed a file that it was about to read.
const ATTEMPTS_MAX: u8 = 4;

/// A request about the past on its way.
#[derive(Debug)]
pub(crate) struct HistoryRequest {
    meta: RequestMeta,
    asked: Arc<HistoryQuery>,
    /// By shard; those that it does not concern stay empty.
    logs: Vec<Option<LiveLog>>,
    /// Shards that have not answered.
    waiting: usize,
    attempts: u8,
    readers: Rc<Readers>,
}

impl HistoryRequest {
    /// Begins a request whose replies come to `ticket`.
    ///
    /// # Errors
    /// Where too much of the past is read already, or a shard can't be asked.
    pub(crate) fn start(
        hub: &mut Hub,
        meta: RequestMeta,
        request_id: RequestId,
        asked: HistoryQuery,
    ) -> Result<Self, ApiError> {
        let mut request = Self {
            meta,
            logs: Vec::new(),
            waiting: 0,
            attempts: 0,
            readers: hub.past.admit(concerned(hub, &asked).len())?,
            asked: Arc::new(asked),
        };
        request.ask(hub, request_id)?;
        Ok(request)
    }

    fn ask(&mut self, hub: &mut Hub, request_id: RequestId) -> Result<(), ApiError> {
        self.attempts += 1;
        self.logs = Vec::new();
        self.logs.resize_with(usize::from(hub.shards), || None);
        let shards = concerned(hub, &self.asked);
        self.waiting = shards.len();
        for shard in shards {
            hub.ask(shard, request_id, ShardRequest::Past)?;
        }
        Ok(())
    }

    /// For the answer's head.
    pub(crate) fn meta(&self) -> RequestMeta {
        self.meta
    }

    /// Takes a shard's reply; with the last of them the historian gets to work.
    ///
    /// # Errors
    /// Where the shard refused.
    pub(crate) fn take(
        &mut self,
        hub: &mut Hub,
        request_id: RequestId,
        (from, reply): (u16, Reply),
    ) -> Result<(), ApiError> {
        match reply {
            Reply::Past(log) => {
                if let Some(slot) = self.logs.get_mut(usize::from(from))
                    && slot.is_none()
                {
                    *slot = Some(*log);
                    self.waiting -= 1;
                }
            }
            Reply::Refused(error) => return Err(error),
            _ => return Ok(()),
        }
        if self.waiting == 0 {
            hub.past.give(Job {
                request_id,
                asked: Arc::clone(&self.asked),
                logs: std::mem::take(&mut self.logs),
                readers: Rc::clone(&self.readers),
            });
        }
        Ok(())
    }

    /// Writes the answer that an outcome is; false where the request has begun anew.
    pub(crate) fn finish(
        &mut self,
        hub: &mut Hub,
        request_id: RequestId,
        outcome: &Outcome,
        out: &mut Vec<u8>,
    ) -> bool {
        let error = match outcome {
            Ok(told) => {
                self.write(hub, told, out);
                return true;
            }
            Err(error) if error.is_moved() && self.attempts < ATTEMPTS_MAX => {
                match self.ask(hub, request_id) {
                    Ok(()) => return false,
                    Err(error) => error,
                }
            }
            Err(error) => {
                note(error);
                error.answer()
            }
        };
        hub.write_error(out, self.meta, &error);
        true
    }

    fn write(&self, hub: &Hub, told: &HistoryResult, out: &mut Vec<u8>) {
        let (json, link) = match (told, &*self.asked) {
            (HistoryResult::Entity(None), _) => {
                hub.write_error(out, self.meta, &ApiError::NoEntity);
                return;
            }
            (HistoryResult::Entity(Some(json)), _) => (json, None),
            (HistoryResult::Events(page), HistoryQuery::Events(query)) => {
                (&page.json, page.next.map(|next| query.next_link(next)))
            }
            (HistoryResult::List(page), HistoryQuery::List { query, .. }) => {
                let next = page.next.as_deref();
                (&page.json, next.map(|id| query.next_link(id)))
            }
            (HistoryResult::Events(page), _) => (&page.json, None),
            (HistoryResult::List(page), _) => (&page.json, None),
        };
        let mut headers = vec![CORS_ORIGIN];
        if let Some(link) = &link {
            headers.extend([("Link", link.as_str()), CORS_EXPOSE]);
        }
        let answer = Answer {
            status: 200,
            headers: &headers,
            body: json,
        };
        hub.write_json(out, self.meta, answer);
    }
}

/// The shards of the newest generation that a request concerns.
fn concerned(hub: &Hub, asked: &HistoryQuery) -> std::ops::Range<u16> {
    match asked.placement() {
        None => 0..hub.shards,
        Some(key) => {
            let shard = place_key(key, hub.shards);
            shard..shard + 1
        }
    }
}

/// A fault of ours is the operator's to know.
fn note(error: &HistoryError) {
    if error.is_fault() {
        report::error(&format!("history can't be read: {error}"));
    }
}
