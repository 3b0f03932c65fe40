//! Decoding that would keep a core for too long, on a helper thread: whose body is next, and the
//! worker.
//!
//! A core decodes a batch in slices, but none can end within a value. A value of ten mebibytes with
//! a million names takes a fifth of a second, most of it to find names that are repeated. So the
//! rest of a body in which one value is larger than a slice is decoded by a helper thread, which
//! gives way to the reactors; and so is an event that is larger than one.
//!
//! Connections take turns ([`Turns`]), by address and within it. One has at most one body here,
//! since it is not read before that is answered. So the queue is as long as the core has
//! connections, and their bodies are counted as their memory.

use super::job::{Jobs, Lane, WorkerResult};
use super::turns::{Network, Turns};
use crate::api::ApiError;
use crate::api::batch::{BatchPlan, EventPlace};
use crate::api::event::EventIds;
use crate::log::Log;
use crate::model::{CursorKey, EventPack};
use crate::shard::RequestId;
use std::collections::HashMap;
use std::fmt;

/// What a body comes to.
pub(crate) type DecodeResult = Result<DecodedBody, ApiError>;

/// A body, decoded.
#[derive(Debug)]
pub(crate) enum DecodedBody {
    /// A batch.
    Batch(Box<BatchPlan>),
    /// One event.
    Event(Box<DecodedEvent>),
}

/// An event that may be stored.
#[derive(Debug)]
pub(crate) struct DecodedEvent {
    /// Where it goes.
    pub(crate) place: EventPlace,
    /// What its cursor begins with.
    pub(crate) key: CursorKey,
    /// The event alone.
    pub(crate) pack: EventPack,
    /// It has conditions or operations.
    pub(crate) has_terms: bool,
    /// The JSON of its success, without what its shard says.
    pub(crate) answer: Box<[u8]>,
}

/// Decodes one body. It is given ids for the events that come without one.
pub(crate) type DecodeJob = Box<dyn FnOnce(&mut EventIds) -> DecodeResult + Send>;

/// See the module.
#[derive(Default)]
pub(crate) struct DecodeQueue {
    turns: Turns,
    /// By the index of the connection.
    waiting: HashMap<u32, Waiting>,
    /// The request whose body the helper thread is at.
    running: Option<RequestId>,
}

struct Waiting {
    request_id: RequestId,
    network: Network,
    job: DecodeJob,
}

impl fmt::Debug for DecodeQueue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DecodeQueue")
            .field("waiting", &self.waiting.len())
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

impl DecodeQueue {
    /// Takes a body in, of a connection from an address.
    pub(crate) fn push(&mut self, (request_id, network): (RequestId, Network), job: DecodeJob) {
        let connection = request_id.connection;
        let waiting = Waiting {
            request_id,
            network,
            job,
        };
        if self.waiting.insert(connection, waiting).is_none() {
            self.turns.push(network, connection);
        }
    }

    /// The next job of the helper thread; `None` while it runs one.
    pub(crate) fn next_job(&mut self) -> Option<DecodeJob> {
        if self.running.is_some() {
            return None;
        }
        let connection = self.turns.pop()?;
        let Waiting {
            request_id, job, ..
        } = self.waiting.remove(&connection)?;
        self.running = Some(request_id);
        Some(job)
    }

    /// The job of the helper thread has ended. The request that it was for, which may have lost its
    /// connection.
    pub(crate) fn on_job_end(&mut self) -> Option<RequestId> {
        self.running.take()
    }

    /// A connection has ended: nobody waits for its body.
    pub(crate) fn forget(&mut self, connection: u32) {
        if self.waiting.is_empty() {
            return;
        }
        if let Some(waiting) = self.waiting.remove(&connection) {
            self.turns.remove(waiting.network, connection);
        }
    }
}

/// What the helper thread has decoded, and the ids that it was lent.
pub(crate) struct Decoded {
    ids: EventIds,
    result: DecodeResult,
}

/// Hands bodies to the helper thread.
#[derive(Debug)]
pub(crate) struct DecodeWorker {
    /// `None` while a job has them.
    ids: Option<EventIds>,
}

impl DecodeWorker {
    /// `ids`: for the events that come without one.
    pub(crate) const fn new(ids: EventIds) -> Self {
        Self { ids: Some(ids) }
    }

    /// Lets the helper thread begin the next body.
    pub(crate) fn start_due<L: Log>(&mut self, queue: &mut DecodeQueue, jobs: &mut Jobs<L>) {
        if self.ids.is_some()
            && let Some(job) = queue.next_job()
            && let Some(mut ids) = self.ids.take()
        {
            jobs.push(Lane::Decode, move || {
                let result = job(&mut ids);
                WorkerResult::Decoded(Box::new(Decoded { ids, result }))
            });
        }
    }

    /// Takes what was decoded. The request that it is for.
    pub(crate) fn on_result(
        &mut self,
        queue: &mut DecodeQueue,
        decoded: Decoded,
    ) -> Option<(RequestId, DecodeResult)> {
        self.ids = Some(decoded.ids);
        let request_id = queue.on_job_end()?;
        Some((request_id, decoded.result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn of_connection(connection: u32) -> RequestId {
        RequestId {
            connection,
            generation: 0,
            serial: 1,
        }
    }

    fn push(queue: &mut DecodeQueue, address: u32, connection: u32) {
        let network = Some(IpAddr::V4(address.into()));
        let job = Box::new(|_: &mut EventIds| Ok(DecodedBody::Batch(Box::default())));
        queue.push((of_connection(connection), network), job);
    }

    #[test]
    fn one_body_is_decoded_at_a_time_and_addresses_take_turns() {
        let mut queue = DecodeQueue::default();
        for connection in 1..=3 {
            push(&mut queue, 1, connection);
        }
        push(&mut queue, 2, 9);
        let mut order = Vec::new();
        while let Some(job) = queue.next_job() {
            assert!(job(&mut EventIds::new(1)).is_ok());
            assert!(queue.next_job().is_none(), "the thread is at one");
            order.extend(queue.on_job_end().map(|request| request.connection));
        }
        assert_eq!(order, [1, 9, 2, 3]);
    }

    #[test]
    fn the_body_of_a_connection_that_ended_is_not_decoded() {
        let mut queue = DecodeQueue::default();
        push(&mut queue, 1, 1);
        push(&mut queue, 1, 2);
        queue.forget(1);
        queue.forget(7);
        assert!(queue.next_job().is_some());
        assert_eq!(queue.on_job_end(), Some(of_connection(2)));
        assert!(queue.next_job().is_none());
    }
}
