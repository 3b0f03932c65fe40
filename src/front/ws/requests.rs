//! The requests of one session that are under way, and the order in which their answers leave.
//!
//! Answers leave in the order in which the requests took effect within a namespace (API contract
//! §13). Two rules hold that:
//!
//! - A shard replies in the order in which it worked. While this core's shard owes the session a
//!   reply, further requests for it go through its queue too, and do not overtake.
//! - A batch for several shards is over when the last of them has replied. Until then, what was
//!   sent after it is held back.

use crate::api::client_message::Request;
use crate::api::json::Place;
use crate::api::{ApiError, encode};
use crate::background::decoding::DecodeResult;
use crate::limits;
use crate::log::Log;
use crate::model::CommitPoint;
use crate::service::deferred::DeferredRead;
use crate::service::publish::Besides;
use crate::service::subscribe::Subscriber;
use crate::service::{
    self, Begun, Caller, Context, Credentials, Outcome, Pending, batch, delete, publish, read,
};
use crate::shard::{MemoryHolders, Reply, WEBSOCKET_BIT};
use crate::wire::http1::HttpError;
use crate::wire::ws::write_text_with;
use std::collections::VecDeque;

/// Set in the serial of a request; the serials of subscriptions have it clear.
const REQUEST_BIT: u32 = WEBSOCKET_BIT;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// In the order in which they were sent.
    waiting: Vec<Waiting>,
    /// Answers behind a batch for several shards, in the order in which they were known.
    held: VecDeque<Held>,
    /// Requests so far.
    count: u64,
    /// One of them asked to bind an entity to the connection.
    has_bound: bool,
    /// Who is answerable for the memory that they take.
    holders: MemoryHolders,
    /// Heap of the requests that wait, and bytes of what was sent with them.
    waiting_bytes: usize,
    /// Heap of the answers behind a batch.
    held_bytes: usize,
}

/// A request that waits for replies.
#[derive(Debug)]
struct Waiting {
    number: u64,
    /// The client's `id`, JSON text.
    id: Box<str>,
    pending: Pending,
    /// Bytes of its message, which others hold until it is answered.
    body_bytes: usize,
    /// What it holds, as it is counted.
    counted: usize,
    /// This core's shard was asked.
    of_own: bool,
    /// More than one shard was asked.
    of_several: bool,
}

/// An answer that is held back.
#[derive(Debug)]
struct Held {
    number: u64,
    frame: Vec<u8>,
}

impl Waiting {
    /// Counts what it holds. Returns what was counted before, and what is now.
    fn count(&mut self) -> (usize, usize) {
        let now = self.id.len() + self.body_bytes + self.pending.heap_bytes();
        (std::mem::replace(&mut self.counted, now), now)
    }
}

impl Requests {
    /// Of a session for whose memory these are answerable.
    pub(super) fn new(holders: MemoryHolders) -> Self {
        Self {
            holders,
            ..Self::default()
        }
    }

    /// Begins a request; its answer, if it is known at once, goes to `answer`, with its commit
    /// point and whether it says that events are stored. False if the message asks for something
    /// else than was thought ([`Request::PublishFrom`]): nothing is begun then.
    pub(super) fn begin<L: Log>(
        &mut self,
        context: &mut Context<L>,
        (subscriber, credentials): (Subscriber, Credentials<'_>),
        (id, request): (&str, &Request<'_>),
        answer: impl FnOnce((CommitPoint, bool), &dyn Fn(&mut Vec<u8>)),
    ) -> bool {
        self.has_bound |= matches!(
            request,
            Request::Publish {
                linger_ms: Some(_),
                ..
            }
        );
        let number = self.count + 1;
        let caller = Caller {
            request_id: subscriber.request_id(serial(number)),
            // Only reads of the past take turns by address, and there is none among these.
            address: None,
            credentials,
            traceparent: None,
            takes_parts: false,
            behind_asked: self.waiting.iter().any(|waiting| waiting.of_own),
        };
        let before = context.router.asked;
        let Some(begun) = call(context, &caller, request) else {
            return false;
        };
        let begun = begun.unwrap_or_else(Begun::from);
        self.count = number;
        let asked = context.router.asked.since(before);
        match begun {
            Begun::Waiting(Pending::Deferred(read)) => {
                let outcome = Outcome::Failed(too_large(&read));
                let write = |out: &mut Vec<u8>| write_answer(out, id, (&outcome, &[]));
                answer((CommitPoint::NONE, false), &write);
            }
            Begun::Waiting(pending) => {
                let mut waiting = Waiting {
                    number,
                    id: id.into(),
                    pending,
                    body_bytes: body_bytes(request),
                    counted: 0,
                    of_own: asked.own > 0,
                    of_several: asked.own + asked.others > 1,
                };
                self.waiting_bytes += waiting.count().1;
                self.waiting.push(waiting);
            }
            Begun::Done(outcome, point) => {
                let mut is_stored = !matches!(request, Request::Get(_));
                if let Outcome::Failed(error) = &outcome
                    && is_stored
                {
                    context.tally().note_refused(error);
                    is_stored = false;
                }
                let json = &context.answer;
                let write = |out: &mut Vec<u8>| write_answer(out, id, (&outcome, json));
                // It overtakes no batch that concerns this core's shard: behind such a one the
                // request would have gone through the queue.
                answer((point, is_stored && point > CommitPoint::NONE), &write);
                context.trim_answer();
            }
        }
        true
    }

    /// Gives a reply to the request that waits for it. Each answer that is known now goes to
    /// `answer`, as a frame.
    pub(super) fn resume<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        (serial, from, reply): (u32, u16, Reply),
        answer: impl FnMut(&[u8]),
    ) {
        let found = |waiting: &Waiting| self::serial(waiting.number) == serial;
        let Some(index) = self.waiting.iter().position(found) else {
            return;
        };
        let waiting = &mut self.waiting[index];
        let request_id = subscriber.request_id(serial);
        let resumed = service::resume(context, request_id, &mut waiting.pending, (from, reply));
        let outcome = match (resumed, &waiting.pending) {
            (Some(outcome), _) => outcome,
            (None, Pending::Deferred(read)) => Outcome::Failed(too_large(read)),
            (None, _) => {
                self.recount(index);
                return;
            }
        };
        self.finish(context, (index, &outcome), answer);
    }

    /// True if a request has work left that waits for nothing: it is the newest.
    pub(super) fn is_unfinished(&self) -> bool {
        let newest = self.waiting.last();
        newest.is_some_and(|waiting| waiting.pending.is_unfinished())
    }

    /// Does the next slice of that request, as [`Requests::resume`] does.
    pub(super) fn go_on<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        answer: impl FnMut(&[u8]),
    ) {
        let Some(waiting) = self.waiting.last_mut() else {
            return;
        };
        let request_id = subscriber.request_id(serial(waiting.number));
        let memory = &mut context.memory;
        let outcome = if waiting.pending.lacks_memory(memory, self.holders) {
            Some(Outcome::Failed(ApiError::OutOfMemory))
        } else {
            service::go_on(context, request_id, &mut waiting.pending)
        };
        let index = self.waiting.len() - 1;
        match outcome {
            None => self.recount(index),
            Some(outcome) => self.finish(context, (index, &outcome), answer),
        }
    }

    /// Takes the body that a helper thread has decoded, as [`Requests::resume`] does.
    pub(super) fn on_decoded<L: Log>(
        &mut self,
        context: &mut Context<L>,
        (serial, result): (u32, DecodeResult),
        answer: impl FnMut(&[u8]),
    ) {
        let found = |waiting: &Waiting| self::serial(waiting.number) == serial;
        let Some(index) = self.waiting.iter().position(found) else {
            return;
        };
        let pending = &mut self.waiting[index].pending;
        match service::on_decoded(pending, result) {
            None => self.recount(index),
            Some(outcome) => self.finish(context, (index, &outcome), answer),
        }
    }

    /// Counts what a request holds, after it was worked on.
    fn recount(&mut self, index: usize) {
        let (before, now) = self.waiting[index].count();
        self.waiting_bytes = (self.waiting_bytes + now).saturating_sub(before);
    }

    /// A request is over.
    fn finish<L: Log>(
        &mut self,
        context: &mut Context<L>,
        (index, outcome): (usize, &Outcome),
        mut answer: impl FnMut(&[u8]),
    ) {
        let Waiting {
            number,
            id,
            pending,
            counted,
            ..
        } = self.waiting.remove(index);
        if let Outcome::Failed(error) = outcome
            && pending.stores_events()
        {
            context.tally().note_refused(error);
        }
        self.waiting_bytes -= counted;
        let mut frame = Vec::new();
        write_answer(&mut frame, &id, (outcome, &context.answer));
        context.trim_answer();
        if self.is_behind_batch(number) {
            self.held_bytes += frame.capacity();
            self.held.push_back(Held { number, frame });
            return;
        }
        answer(&frame);
        for held in std::mem::take(&mut self.held) {
            if self.is_behind_batch(held.number) {
                self.held.push_back(held);
            } else {
                self.held_bytes -= held.frame.capacity();
                answer(&held.frame);
            }
        }
    }

    /// True if a batch for several shards that was sent before it is not over.
    fn is_behind_batch(&self, number: u64) -> bool {
        let mut batches = self.waiting.iter().filter(|waiting| waiting.of_several);
        batches.next().is_some_and(|batch| batch.number < number)
    }

    /// True while no further request may be taken on.
    pub(super) fn is_full(&self) -> bool {
        let reads = self
            .waiting
            .iter()
            .filter(|it| it.pending.is_read())
            .count();
        let is_sliced = |waiting: &Waiting| waiting.pending.is_sliced();
        self.waiting.len() + self.held.len() >= limits::PIPELINE_REQUESTS_MAX
            || self.waiting.last().is_some_and(is_sliced)
            || reads >= limits::PIPELINE_READS_MAX
            || self.waiting_bytes >= limits::PIPELINE_BODY_BYTES_MAX
    }

    /// Heap of the requests that wait, and of the answers that are held back.
    pub(super) fn heap_bytes(&self) -> usize {
        self.fixed_bytes() + self.waiting_bytes + self.held_bytes
    }

    /// Heap that is found by a look at all of it.
    #[cfg(test)]
    pub(super) fn found_bytes(&self) -> usize {
        let waiting = self.waiting.iter();
        let waiting = waiting.map(|it| it.id.len() + it.pending.heap_bytes());
        let held = self.held.iter().map(|held| held.frame.capacity());
        self.fixed_bytes() + waiting.chain(held).sum::<usize>()
    }

    fn fixed_bytes(&self) -> usize {
        let waiting = self.waiting.capacity() * size_of::<Waiting>();
        waiting + self.held.capacity() * size_of::<Held>()
    }

    /// True if none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.held.is_empty()
    }

    /// True if a reply to this serial is for a request.
    pub(super) fn are_answered_by(serial: u32) -> bool {
        serial & REQUEST_BIT != 0
    }

    /// True if entities may be bound to the connection.
    pub(super) const fn has_bound(&self) -> bool {
        self.has_bound
    }

    /// Gives back heap that an idle session does not need.
    pub(super) fn trim(&mut self) {
        self.waiting.shrink_to(0);
        self.held.shrink_to(0);
    }
}

/// The serial of the request with this number. At most [`limits::PIPELINE_REQUESTS_MAX`] are under
/// way, so no two of them have the same.
fn serial(number: u64) -> u32 {
    let bits = number & u64::from(!REQUEST_BIT);
    u32::try_from(bits).unwrap_or_default() | REQUEST_BIT
}

/// Begins the call that a request names; `None` as [`Requests::begin`] says.
fn call<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    request: &Request<'_>,
) -> Option<Result<Begun, ApiError>> {
    let runtime = &context.tenants.runtime;
    let (single_max, batch_max) = (
        runtime.body_size_limit_single_bytes,
        runtime.body_size_limit_batch_bytes,
    );
    Some(match request {
        Request::PublishFrom(message, place) => {
            return publish_from(context, caller, (message, *place));
        }
        Request::Publish { event, linger_ms } => {
            let besides = Besides {
                linger_ms: *linger_ms,
                ..Besides::default()
            };
            check_length(event, single_max)
                .and_then(|()| publish::begin_as(context, caller, (event.as_bytes(), besides)))
        }
        Request::PublishBatch(message) => check_length(message, batch_max)
            .and_then(|()| batch::begin(context, caller, message.as_bytes())),
        Request::Get(id) => {
            // One that is twice as large does not fit a message, whatever its text exactly is.
            let whole = (None, 2 * limits::WS_MESSAGE_BYTES_MAX);
            read::begin_within(context, caller, (id, whole))
        }
        Request::Delete { id, expect } => {
            let conditions = delete::Conditions::Expect(*expect);
            delete::begin(context, caller, (id, conditions))
        }
    })
}

/// Publishes the event that begins at this place of a message, if it is the last that is in it.
fn publish_from<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (message, place): (&str, Place),
) -> Option<Result<Begun, ApiError>> {
    // What is left is the event, and little else.
    let left = message.get(place.offset()..)?;
    if left.len() > context.slicing.body_bytes {
        // It is decoded elsewhere, and where it ends has to be known before.
        return None;
    }
    check_length(left, context.tenants.runtime.body_size_limit_single_bytes).ok()?;
    match publish::begin_from(context, caller, (message, place)) {
        Err(ApiError::Json(_)) => None,
        begun => Some(begun),
    }
}

/// Bytes that a request hands to its shard.
fn body_bytes(request: &Request<'_>) -> usize {
    match request {
        Request::Publish { event: text, .. }
        | Request::PublishFrom(text, _)
        | Request::PublishBatch(text) => text.len(),
        Request::Get(_) | Request::Delete { .. } => 0,
    }
}

/// Why an entity that does not fit a message is not sent.
fn too_large(read: &DeferredRead) -> ApiError {
    let bytes = read.bytes_expected();
    ApiError::AnswerTooLarge { bytes }
}

fn check_length(text: &str, limit: u32) -> Result<(), ApiError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if text.len() > limit {
        return Err(ApiError::Http(HttpError::BodyTooLarge { limit }));
    }
    Ok(())
}

/// Writes the answer to a request, as a frame.
fn write_answer(out: &mut Vec<u8>, id: &str, (outcome, json): (&Outcome, &[u8])) {
    write_text_with(out, |out| match outcome {
        Outcome::Failed(error) => {
            encode::error_message(out, Some(id), &error.to_string(), error.code());
            encode::rejection_details(out, error, limits::WS_MESSAGE_BYTES_MAX);
        }
        Outcome::Entity { .. } if json.len() > limits::WS_MESSAGE_BYTES_MAX => {
            let error = ApiError::AnswerTooLarge { bytes: json.len() };
            encode::error_message(out, Some(id), &error.to_string(), error.code());
        }
        Outcome::Entity { tag, cursor } => encode::entity_result(out, id, (json, *tag, cursor)),
        _ => encode::result(out, id, json),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::client_message::{Action, parse};
    use crate::api::outcome::PartOutcome;
    use crate::model::{CursorKey, EntityTag, Stored, Timestamp};
    use crate::service::testing::TestCores;
    use flux_storage::Sequence;

    const SUBSCRIBER: Subscriber = Subscriber {
        index: 0,
        generation: 0,
    };
    /// An id of each of two shards.
    const OF_SHARD: [&str; 2] = ["n1/a", "n0/a"];

    fn event(id: &str) -> String {
        format!(
            r#"{{"stream":"s","source":"t","payload":{{"entity_id":"{id}","properties":{{}}}}}}"#
        )
    }

    fn published(event: &str) -> Request<'_> {
        Request::Publish {
            event,
            linger_ms: None,
        }
    }

    /// Begins a request. True if its answer is known at once.
    fn begin(
        cores: &mut TestCores,
        requests: &mut Requests,
        (id, request): (&str, &Request<'_>),
    ) -> bool {
        let mut is_answered = false;
        requests.begin(
            cores.context(0),
            (SUBSCRIBER, Credentials::None),
            (id, request),
            |_, _| is_answered = true,
        );
        is_answered
    }

    #[test]
    fn an_event_that_comes_last_is_published_and_any_other_is_looked_at_anew() {
        let mut cores = TestCores::new(2);
        let mut requests = Requests::default();
        for (after, is_last) in [
            ("}", true),
            (" }\n", true),
            (r#","event":7}"#, false),
            (r#","bind":true}"#, false),
            ("}x", false),
            ("]", false),
            ("", false),
        ] {
            let event = event(OF_SHARD[0]);
            let message = format!(r#"{{"id":1,"type":"publish","event":{event}{after}"#);
            let Ok(Action::Request(request)) = parse(&message).action else {
                panic!("{message}");
            };
            let before = cores.context(0).router.shard.as_ref().unwrap().appended();
            let is_begun = requests.begin(
                cores.context(0),
                (SUBSCRIBER, Credentials::None),
                ("1", &request),
                |_, _| {},
            );
            assert_eq!(is_begun, is_last, "{message}");
            let after = cores.context(0).router.shard.as_ref().unwrap().appended();
            assert_eq!(after > before, is_last, "{message}");
        }
    }

    /// Gives a shard's success to the request with this number. The ids that are answered now.
    fn reply(cores: &mut TestCores, requests: &mut Requests, (number, from): (u64, u16)) -> String {
        let mut outcome = PartOutcome::default();
        outcome.push(
            Stored {
                sequence: Sequence::new(1),
                version: 1,
            }
            .into(),
        );
        let reply = Reply::Published(outcome);
        let mut ids = String::new();
        let reply = (serial(number), from, reply);
        requests.resume(cores.context(0), SUBSCRIBER, reply, |frame| {
            let text = String::from_utf8_lossy(frame);
            let after = text.split_once(r#""id":"#).unwrap().1;
            ids.push_str(after.split_once(',').unwrap().0);
        });
        ids
    }

    #[test]
    fn what_was_sent_after_a_batch_for_several_shards_is_answered_after_it() {
        let mut cores = TestCores::new(2);
        let mut requests = Requests::default();
        let events = OF_SHARD.map(event).join(",");
        let batch = format!(r#"{{"events":[{events}]}}"#);
        let first = event(OF_SHARD[1]);
        assert!(!begin(&mut cores, &mut requests, ("1", &published(&first))));
        assert!(!begin(
            &mut cores,
            &mut requests,
            ("2", &Request::PublishBatch(&batch))
        ));
        let own = event(OF_SHARD[0]);
        assert!(
            !begin(&mut cores, &mut requests, ("3", &published(&own))),
            "it goes behind the batch at the own shard"
        );
        assert_eq!(reply(&mut cores, &mut requests, (2, 0)), "");
        assert_eq!(
            reply(&mut cores, &mut requests, (3, 0)),
            "",
            "the batch is not over"
        );
        assert_eq!(
            reply(&mut cores, &mut requests, (1, 1)),
            "1",
            "it was sent before the batch"
        );
        assert_eq!(reply(&mut cores, &mut requests, (2, 1)), "23");
        assert!(requests.is_empty());
        assert!(
            begin(&mut cores, &mut requests, ("4", &published(&own))),
            "the own shard owes nothing any more"
        );
    }

    #[test]
    fn no_more_are_under_way_than_the_bounds_say() {
        let mut cores = TestCores::new(2);
        let mut requests = Requests::default();
        let event = event(OF_SHARD[1]);
        for number in 0..limits::PIPELINE_REQUESTS_MAX {
            assert!(!requests.is_full(), "{number}");
            begin(&mut cores, &mut requests, ("1", &published(&event)));
        }
        assert!(requests.is_full());
        reply(&mut cores, &mut requests, (1, 1));
        assert!(!requests.is_full());
        let mut requests = Requests::default();
        for _ in 0..limits::PIPELINE_READS_MAX {
            assert!(!requests.is_full());
            begin(
                &mut cores,
                &mut requests,
                ("1", &Request::Get(OF_SHARD[1].into())),
            );
        }
        assert!(requests.is_full());
    }

    #[test]
    fn an_entity_larger_than_a_message_is_an_error_that_says_where_it_can_be_had() {
        let json = vec![b' '; limits::WS_MESSAGE_BYTES_MAX + 1];
        let outcome = Outcome::Entity {
            tag: EntityTag {
                sequence: Sequence::new(1),
                last_updated: Timestamp::default(),
            },
            cursor: CursorKey::of("a").text(Sequence::new(1)),
        };
        let mut frame = Vec::new();
        write_answer(&mut frame, "7", (&outcome, &json));
        let text = String::from_utf8_lossy(&frame);
        assert!(text.contains(r#""code":"answer_too_large""#), "{text}");
    }
}
