//! HTTP requests → commands for shards, and shards' replies → HTTP answers.

use super::responses::Responses;
use crate::api::batch::{BatchContext, BatchPlan, PartOutcome};
use crate::api::event::Decoded;
use crate::api::history::EventsQuery;
use crate::api::json::Scanner;
use crate::api::query::{self, ListQuery, ReadQuery};
use crate::api::route::{ControlRoute, is_of_namespaces};
use crate::api::{ApiError, Route, config, delete, encode, route};
use crate::background::history::Outcome;
use crate::engine::StateDamaged;
use crate::history::HistoryQuery;
use crate::log::AppendRejection;
use crate::model::place;
use crate::model::{EventId, EventPack, is_reserved};
use crate::service::access::denied;
use crate::service::context::{Answer, CORS_EXPOSE, CORS_ORIGIN, Hub};
use crate::service::delete::Deletion;
use crate::service::history::HistoryRequest;
use crate::service::list::{Listing, Progress};
use crate::service::namespaces::{self, ControlCall};
use crate::service::pending::{BatchInFlight, PendingRequest, RequestMeta};
use crate::shard::{Reply, RequestId, ShardRequest};
use crate::wire::http1::{Field, Head, Request, Version};
use crate::wire::ws;
use flux_storage::Sequence;

/// What the connection does after a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Goes on, or closes after its answers where the request said so.
    Go,
    /// Closes after its answers: the end of the last one is the end of the connection.
    Last,
    /// Goes on, and counts as a publisher.
    Published,
    /// Goes on; the request's bytes are to be overwritten.
    Secret,
    /// Speaks WebSocket from here on.
    Upgrade {
        /// It wants `metrics_update` messages.
        metrics: bool,
    },
}

/// The connection that a request came from.
pub(crate) struct Client<'c> {
    /// Its answers.
    pub(crate) responses: &'c mut Responses,
    /// Its index on this core.
    pub(crate) index: u32,
    /// How often that index was handed out.
    pub(crate) generation: u32,
}

impl Client<'_> {
    /// The ticket of the slot that is opened next.
    fn next_request_id(&self) -> RequestId {
        RequestId {
            connection: self.index,
            generation: self.generation,
            slot: self.responses.next_number(),
        }
    }
}

/// The most bytes that the body of this request may have.
pub(crate) fn body_limit(hub: &Hub, head: &Head<'_>) -> usize {
    let limit = match head.path {
        "/api/events" => hub.runtime.body_size_limit_single_bytes,
        "/api/events/batch" => hub.runtime.body_size_limit_batch_bytes,
        _ => return crate::limits::BODY_OTHER_BYTES_MAX,
    };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Works on a request; every outcome but an upgrade has its answer, or a slot for it, in the client's responses.
pub(crate) fn serve(hub: &mut Hub, client: &mut Client<'_>, request: &Request<'_>) -> Next {
    let mut meta = RequestMeta::of(&request.head);
    meta.keep_alive &= !hub.shared.is_stopping();
    match dispatch(hub, client, request, meta) {
        Ok(next) => next,
        Err(error) => {
            client
                .responses
                .push(Sequence::ZERO, |out| hub.write_error(out, meta, &error));
            Next::Go
        }
    }
}

fn dispatch(
    hub: &mut Hub,
    client: &mut Client<'_>,
    request: &Request<'_>,
    meta: RequestMeta,
) -> Result<Next, ApiError> {
    let head = &request.head;
    query::check(head.query)?;
    if !hub.config.auth && is_of_namespaces(head.path) {
        return Err(ApiError::NoRoute);
    }
    match route(head.method, head.path)? {
        Route::Publish => {
            serving(hub)?;
            publish(hub, client, request, meta)?;
            return Ok(Next::Published);
        }
        Route::PublishBatch => {
            serving(hub)?;
            publish_batch(hub, client, request, meta)?;
            return Ok(Next::Published);
        }
        Route::List => {
            let query = ListQuery::parse(head.query)?;
            if let Some(at) = query.at.filter(|at| *at < hub.now) {
                past(hub, client, meta, HistoryQuery::List { query, at })?;
                return Ok(Next::Go);
            }
            hub.shard.as_ref().ok_or(ApiError::NotReady)?;
            let until_close = query.limit.is_none() && head.version == Version::Http10;
            let meta = RequestMeta {
                keep_alive: meta.keep_alive && !until_close,
                ..meta
            };
            let listing = Listing::new(hub, meta, query);
            client
                .responses
                .wait(PendingRequest::List(Box::new(listing)));
            start_front(hub, client);
            if until_close {
                return Ok(Next::Last);
            }
        }
        Route::Events => {
            let asked = HistoryQuery::Events(EventsQuery::parse(head.query)?);
            past(hub, client, meta, asked)?;
        }
        Route::Read(id) => read(hub, client, (&id, head), meta)?,
        Route::Delete(id) => {
            serving(hub)?;
            delete_one(hub, client, (&id, head), meta)?;
        }
        Route::DeleteBatch => {
            serving(hub)?;
            delete_many(hub, client, request, meta)?;
        }
        Route::Control(route) => {
            let is_secret = route.brings_secret();
            if let Err(error) = control(hub, client, (request, route), meta) {
                client
                    .responses
                    .push(Sequence::ZERO, |out| hub.write_error(out, meta, &error));
            }
            if is_secret {
                return Ok(Next::Secret);
            }
        }
        Route::WebSocket => {
            serving(hub)?;
            return upgrade(client, head);
        }
        Route::Health => health(hub, client, meta),
        Route::Ready => ready(hub, client, meta)?,
        Route::Options(allow) => options(hub, client, meta, allow),
    }
    Ok(Next::Go)
}

/// Refuses writes on the way out; a write that was accepted before is finished.
fn serving(hub: &Hub) -> Result<(), ApiError> {
    if hub.shared.is_stopping() {
        Err(ApiError::ShuttingDown)
    } else {
        Ok(())
    }
}

fn publish(
    hub: &mut Hub,
    client: &mut Client<'_>,
    request: &Request<'_>,
    meta: RequestMeta,
) -> Result<(), ApiError> {
    let access = hub.access(&request.head)?;
    let charged = access.charged();
    let (shards, now) = (hub.shards, hub.now);
    let Hub {
        decoder,
        ids,
        event,
        body: answer,
        ..
    } = hub;
    event.clear();
    answer.clear();
    let mut scanner = Scanner::new(request.body)?;
    let placed = decoder.decode(
        &mut scanner,
        ids,
        now.as_millis(),
        |decoded| match decoded {
            Decoded::Event(draft) => {
                access.may_publish(draft.entity_id).map_err(denied)?;
                draft.encode(event);
                encode::published(answer, draft.event_id, draft.stream);
                Ok(place(draft.entity_id, shards))
            }
            Decoded::Refused { error, .. } => Err(error),
        },
    )?;
    scanner.finish()?;
    let shard = placed?;
    if shard == hub.core {
        let own = hub.shard.as_mut().ok_or(ApiError::NotReady)?;
        match own.publish(now, &hub.event, charged.as_ref()) {
            Ok(sequence) => {
                let gate = hub.gate(sequence);
                client
                    .responses
                    .push(gate, |out| hub.write_success(out, meta, &hub.body));
                return Ok(());
            }
            Err(refusal) => {
                if let Some(error) = own.refusal(refusal) {
                    return Err(error);
                }
                debug_assert_eq!(
                    refusal,
                    AppendRejection::NotReady,
                    "only this one is a delay"
                );
            }
        }
    }
    let pack = EventPack::of(&hub.event);
    hub.ask(
        shard,
        client.next_request_id(),
        ShardRequest::Publish {
            pack,
            done: 0,
            charged,
        },
    )?;
    client.responses.wait(PendingRequest::Publish {
        meta,
        answer: hub.body.as_slice().into(),
    });
    Ok(())
}

fn publish_batch(
    hub: &mut Hub,
    client: &mut Client<'_>,
    request: &Request<'_>,
    meta: RequestMeta,
) -> Result<(), ApiError> {
    let access = hub.access(&request.head)?;
    let shards = hub.shards;
    let mut context = BatchContext {
        now_ms: hub.now.as_millis(),
        decoder: &mut hub.decoder,
        ids: &mut hub.ids,
        shards: usize::from(shards),
        place: |id: &str| {
            access.may_publish(id).map_err(denied)?;
            Ok(place(id, shards))
        },
    };
    let mut plan = BatchPlan::decode(request.body, &mut context)?;
    let packs = std::mem::take(&mut plan.packs);
    let outcomes = vec![PartOutcome::default(); packs.len()];
    let mut batch = BatchInFlight {
        meta,
        plan,
        outcomes,
        waiting: 0,
    };
    let request_id = client.next_request_id();
    for (shard, pack) in (0..shards).zip(packs) {
        if pack.is_empty() {
            continue;
        }
        let request = ShardRequest::Publish {
            pack,
            done: 0,
            charged: access.charged(),
        };
        match hub.ask(shard, request_id, request) {
            Ok(()) => batch.waiting += 1,
            Err(error) => batch.outcomes[usize::from(shard)].error = Some(error),
        }
    }
    let done = batch.waiting == 0;
    let slot = client
        .responses
        .wait(PendingRequest::Batch(Box::new(batch)));
    if done {
        finish_batch(hub, client, slot);
    }
    Ok(())
}

fn read(
    hub: &mut Hub,
    client: &mut Client<'_>,
    (id, head): (&str, &Head<'_>),
    meta: RequestMeta,
) -> Result<(), ApiError> {
    let ReadQuery { fields, at } = ReadQuery::parse(head.query)?;
    if let Some(at) = at.filter(|at| *at < hub.now) {
        let id = id.into();
        return past(hub, client, meta, HistoryQuery::Entity { id, at, fields });
    }
    let if_none_match = match head.if_none_match {
        Field::One(value) => Some(value),
        Field::Absent | Field::Repeated => None,
    };
    let shard = hub.place(id);
    if shard != hub.core {
        let request = ShardRequest::Read {
            id: id.into(),
            fields,
        };
        hub.ask(shard, client.next_request_id(), request)?;
        let if_none_match = if_none_match.map(Box::from);
        client.responses.wait(PendingRequest::Read {
            meta,
            if_none_match,
        });
        return Ok(());
    }
    let own = hub.shard.as_mut().ok_or(ApiError::NotReady)?;
    hub.body.clear();
    let read = own.engine_mut().read(id, fields.as_ref(), &mut hub.body);
    let (found, gate) = read.map_err(|StateDamaged| ApiError::StateDamaged)?;
    let failed = own.failed();
    let gate = hub.gate(gate);
    if gate > Sequence::ZERO && failed {
        return Err(ApiError::StorageFault);
    }
    let found = found.map(|answer| (hub.body.as_slice(), answer.etag));
    client.responses.push(gate, |out| {
        write_entity(hub, out, meta, (found, if_none_match));
    });
    Ok(())
}

/// An entity's JSON and its tag, and the client's `If-None-Match`.
type ReadOutcome<'r> = (Option<(&'r [u8], String)>, Option<&'r [u8]>);

/// Writes the answer to a read: the entity, 304 where the client has it already, or 404.
fn write_entity(
    hub: &Hub,
    out: &mut Vec<u8>,
    meta: RequestMeta,
    (found, if_none_match): ReadOutcome<'_>,
) {
    let Some((json, etag)) = found else {
        hub.write_error(out, meta, &ApiError::NoEntity);
        return;
    };
    if !if_none_match.is_some_and(|field| encode::none_match_hits(field, &etag)) {
        hub.write_entity(out, meta, (json, &etag));
        return;
    }
    let headers = &[("ETag", etag.as_str()), CORS_ORIGIN, CORS_EXPOSE];
    hub.write_json(
        out,
        meta,
        Answer {
            status: 304,
            headers,
            body: &[],
        },
    );
}

/// Begins a request about the past.
fn past(
    hub: &mut Hub,
    client: &mut Client<'_>,
    meta: RequestMeta,
    asked: HistoryQuery,
) -> Result<(), ApiError> {
    let request_id = client.next_request_id();
    let request = HistoryRequest::start(hub, meta, request_id, asked)
        .inspect_err(|_| client.responses.forget_number())?;
    client
        .responses
        .wait(PendingRequest::Past(Box::new(request)));
    Ok(())
}

fn delete_one(
    hub: &mut Hub,
    client: &mut Client<'_>,
    (id, head): (&str, &Head<'_>),
    meta: RequestMeta,
) -> Result<(), ApiError> {
    let access = hub.access(head)?;
    if is_reserved(id) {
        return Err(ApiError::Reserved);
    }
    access.may_delete(id).map_err(denied)?;
    let request = ShardRequest::Delete {
        id: id.into(),
        charged: access.charged(),
    };
    hub.ask(hub.place(id), client.next_request_id(), request)?;
    client.responses.wait(PendingRequest::Delete {
        meta,
        id: id.into(),
    });
    Ok(())
}

fn delete_many(
    hub: &mut Hub,
    client: &mut Client<'_>,
    request: &Request<'_>,
    meta: RequestMeta,
) -> Result<(), ApiError> {
    let access = hub.access(&request.head)?;
    let filter = delete::parse(request.body)?;
    let request_id = client.next_request_id();
    let deletion = Deletion::start(hub, meta, request_id, (filter, access))
        .inspect_err(|_| client.responses.forget_number())?;
    let done = deletion.is_done();
    let slot = client
        .responses
        .wait(PendingRequest::DeleteMany(Box::new(deletion)));
    if done {
        finish_deletion(hub, client, slot);
    }
    Ok(())
}

/// Begins a call about namespaces or the configuration.
fn control(
    hub: &mut Hub,
    client: &mut Client<'_>,
    (request, route): (&Request<'_>, ControlRoute<'_>),
    meta: RequestMeta,
) -> Result<(), ApiError> {
    serving(hub)?;
    let (head, body) = (&request.head, request.body);
    let request_id = client.next_request_id();
    let begun = match route {
        ControlRoute::Register => ControlCall::register(hub, (head, body), meta, request_id),
        ControlRoute::List => ControlCall::list(hub, head, meta, request_id),
        ControlRoute::Show(name) => ControlCall::show(hub, &name, meta, request_id),
        ControlRoute::Delete(name) => ControlCall::delete(hub, (head, &name), meta, request_id),
        ControlRoute::ReplaceToken(name) => {
            ControlCall::replace_token(hub, (head, &name), meta, request_id)
        }
        ControlRoute::Configure => ControlCall::configure(hub, (head, body), meta, request_id),
        ControlRoute::Connectors(route) => {
            ControlCall::connectors(hub, (head, body), route, (meta, request_id))
        }
        ControlRoute::Config => {
            let mut body = Vec::new();
            config::encode(&mut body, &hub.runtime);
            client
                .responses
                .push(Sequence::ZERO, |out| hub.write_success(out, meta, &body));
            return Ok(());
        }
    };
    let call = begun.inspect_err(|_| client.responses.forget_number())?;
    let mut out = Vec::new();
    let progress = call.begin(hub, &mut out);
    let slot = client
        .responses
        .wait(PendingRequest::Control(Box::new(call)));
    if let namespaces::Progress::Done = progress {
        client
            .responses
            .fill(slot, |bytes| bytes.extend_from_slice(&out));
    }
    Ok(())
}

fn upgrade(client: &mut Client<'_>, head: &Head<'_>) -> Result<Next, ApiError> {
    let metrics = query::parse_websocket(head.query)?;
    let accept = ws::accept(head).map_err(ApiError::Handshake)?;
    if client.responses.waiting() > 0 || client.responses.is_gated() {
        return Err(ApiError::UpgradeBehindRequests);
    }
    client.responses.push(Sequence::ZERO, |out| {
        ws::write_switching_protocols(out, &accept);
    });
    Ok(Next::Upgrade { metrics })
}

fn health(hub: &mut Hub, client: &mut Client<'_>, meta: RequestMeta) {
    let mut body = Vec::new();
    let health = encode::Health {
        uptime_seconds: hub.now_ms / 1000,
        entities: hub.shared.metrics().entities,
        shards: u64::from(hub.shards),
    };
    encode::health(&mut body, &health);
    client
        .responses
        .push(Sequence::ZERO, |out| hub.write_success(out, meta, &body));
}

fn ready(hub: &mut Hub, client: &mut Client<'_>, meta: RequestMeta) -> Result<(), ApiError> {
    serving(hub)?;
    if !hub.shared.is_ready() {
        let progress = hub.shared.recovery();
        return Err(ApiError::Recovering {
            events: progress.events,
            percent: (progress.bytes.min(progress.bytes_total) * 100)
                .checked_div(progress.bytes_total)
                .unwrap_or(0),
        });
    }
    client.responses.push(Sequence::ZERO, |out| {
        hub.write_success(out, meta, b"{\"status\":\"ready\"}");
    });
    Ok(())
}

fn options(hub: &mut Hub, client: &mut Client<'_>, meta: RequestMeta, allow: &'static str) {
    let headers = [
        ("Allow", allow),
        CORS_ORIGIN,
        (
            "Access-Control-Allow-Methods",
            "GET, POST, PUT, DELETE, OPTIONS",
        ),
        (
            "Access-Control-Allow-Headers",
            "authorization, content-type, if-match, if-none-match",
        ),
        CORS_EXPOSE,
        ("Access-Control-Max-Age", "86400"),
    ];
    let answer = Answer {
        status: 204,
        headers: &headers,
        body: &[],
    };
    client
        .responses
        .push(Sequence::ZERO, |out| hub.write_json(out, meta, answer));
}

/// Takes a shard's reply to one of the client's requests. False where the connection has to break.
pub(crate) fn on_reply(
    hub: &mut Hub,
    client: &mut Client<'_>,
    slot: u32,
    (from, reply): (u16, Reply),
) -> bool {
    let request_id = RequestId {
        connection: client.index,
        generation: client.generation,
        slot,
    };
    match client.responses.operation(slot) {
        None => {}
        Some(PendingRequest::Batch(batch)) => {
            batch.outcomes[usize::from(from)] = match reply {
                Reply::Published(outcome) => outcome,
                Reply::Refused(error) => PartOutcome {
                    stored: 0,
                    error: Some(error),
                },
                _ => return true,
            };
            batch.waiting -= 1;
            if batch.waiting == 0 {
                finish_batch(hub, client, slot);
            }
        }
        Some(PendingRequest::DeleteMany(deletion)) => {
            match deletion.take(hub, request_id, (from, reply)) {
                Ok(()) if deletion.is_done() => finish_deletion(hub, client, slot),
                Ok(()) => {}
                Err(error) => {
                    let meta = deletion.meta();
                    client
                        .responses
                        .fill(slot, |out| hub.write_error(out, meta, &error));
                }
            }
        }
        Some(PendingRequest::List(listing)) => {
            let meta = listing.meta();
            if let Err(error) = listing.take(from, reply) {
                if listing.has_begun() {
                    return false;
                }
                client
                    .responses
                    .fill(slot, |out| hub.write_error(out, meta, &error));
            }
        }
        Some(PendingRequest::Control(call)) => {
            let meta = call.meta();
            let mut text = Vec::new();
            match call.take(hub, request_id, (from, reply), &mut text) {
                Ok(namespaces::Progress::Waiting) => {}
                Ok(namespaces::Progress::Done) => client
                    .responses
                    .fill(slot, |out| out.extend_from_slice(&text)),
                Err(error) => client
                    .responses
                    .fill(slot, |out| hub.write_error(out, meta, &error)),
            }
        }
        Some(PendingRequest::Past(request)) => {
            let meta = request.meta();
            if let Err(error) = request.take(hub, request_id, (from, reply)) {
                client
                    .responses
                    .fill(slot, |out| hub.write_error(out, meta, &error));
            }
        }
        Some(
            PendingRequest::Publish { .. }
            | PendingRequest::Read { .. }
            | PendingRequest::Delete { .. },
        ) => {
            finish_single(hub, client, slot, reply);
        }
    }
    start_front(hub, client)
}

/// Takes what the historian found for one of the client's requests. False where the connection has to break.
pub(crate) fn on_outcome(
    hub: &mut Hub,
    client: &mut Client<'_>,
    slot: u32,
    outcome: &Outcome,
) -> bool {
    let request_id = RequestId {
        connection: client.index,
        generation: client.generation,
        slot,
    };
    let mut text = Vec::new();
    if let Some(PendingRequest::Past(request)) = client.responses.operation(slot)
        && request.finish(hub, request_id, outcome, &mut text)
    {
        client
            .responses
            .fill(slot, |out| out.extend_from_slice(&text));
    }
    start_front(hub, client)
}

/// Answers an operation that had one reply to wait for.
fn finish_single(hub: &Hub, client: &mut Client<'_>, slot: u32, reply: Reply) {
    let mut text = Vec::new();
    let Some(operation) = client.responses.operation(slot) else {
        return;
    };
    let out = &mut text;
    match (&*operation, reply) {
        (
            PendingRequest::Publish { meta, answer },
            Reply::Published(PartOutcome { error: None, .. }),
        ) => {
            hub.write_success(out, *meta, answer);
        }
        (
            PendingRequest::Publish { meta, .. },
            Reply::Published(PartOutcome {
                error: Some(error), ..
            }),
        )
        | (
            PendingRequest::Publish { meta, .. }
            | PendingRequest::Read { meta, .. }
            | PendingRequest::Delete { meta, .. },
            Reply::Refused(error),
        )
        | (PendingRequest::Delete { meta, .. }, Reply::Deleted(Err(error))) => {
            hub.write_error(out, *meta, &error);
        }
        (
            PendingRequest::Read {
                meta,
                if_none_match,
            },
            Reply::Entity(found),
        ) => {
            let found = found
                .as_ref()
                .map(|(json, etag)| (json.as_slice(), etag.clone()));
            write_entity(hub, out, *meta, (found, if_none_match.as_deref()));
        }
        (PendingRequest::Delete { meta, .. }, Reply::Deleted(Ok(None))) => {
            hub.write_error(out, *meta, &ApiError::NoEntity);
        }
        (PendingRequest::Delete { meta, id }, Reply::Deleted(Ok(Some(event_id)))) => {
            let mut body = Vec::new();
            encode::deleted(&mut body, id, EventId::Uuid(event_id));
            hub.write_success(out, *meta, &body);
        }
        _ => return,
    }
    client
        .responses
        .fill(slot, |out| out.extend_from_slice(&text));
}

fn finish_batch(hub: &Hub, client: &mut Client<'_>, slot: u32) {
    let Some(PendingRequest::Batch(batch)) = client.responses.operation(slot) else {
        return;
    };
    let mut body = Vec::new();
    batch.plan.answer(&batch.outcomes, &mut body);
    let meta = batch.meta;
    client
        .responses
        .fill(slot, |out| hub.write_success(out, meta, &body));
}

fn finish_deletion(hub: &Hub, client: &mut Client<'_>, slot: u32) {
    let Some(PendingRequest::DeleteMany(deletion)) = client.responses.operation(slot) else {
        return;
    };
    let mut text = Vec::new();
    deletion.write(hub, &mut text);
    client
        .responses
        .fill(slot, |out| out.extend_from_slice(&text));
}

/// Lets a listing at the front go on, and the one behind it when it is done. False where the connection has to
/// break.
pub(crate) fn start_front(hub: &mut Hub, client: &mut Client<'_>) -> bool {
    loop {
        if client.responses.pending_bytes() >= crate::limits::LIST_CHUNK_BYTES_MAX {
            return true;
        }
        let (index, generation) = (client.index, client.generation);
        let Some((slot, PendingRequest::List(listing))) = client.responses.front_pending() else {
            return true;
        };
        let request_id = RequestId {
            connection: index,
            generation,
            slot,
        };
        let mut out = Vec::new();
        let before = listing.written();
        let progress = listing.pump(hub, request_id, &mut out);
        let moved = listing.written() > before;
        match progress {
            Progress::Broken => return false,
            Progress::Done => client
                .responses
                .fill(slot, |bytes| bytes.extend_from_slice(&out)),
            Progress::Waiting => {
                client
                    .responses
                    .write_front(|bytes| bytes.extend_from_slice(&out));
                if !moved || out.is_empty() {
                    return true;
                }
            }
        }
    }
}
