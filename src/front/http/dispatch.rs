//! Requests → calls of the service, and what becomes of them → answers.

use super::admission::{admit, find_route, token_rule, welcome};
use super::call::{HttpCall, RequestMeta};
use super::client::Client;
use super::honoured;
use super::listing::advance_small;
use super::mcp::{self, Written};
use super::pages;
use super::polls::{take_log_of_poll, take_reply_to_poll};
use super::room::{check_room, has_room, limit_outcome, limit_poll, limit_reply};
use super::writer::{AnswerWriter, CORS_HEADERS, CORS_HEADERS_OF_MCP};
use crate::api::conditions::HeadConditions;
use crate::api::history::EventsQuery;
use crate::api::metrics::{Format, RoutePattern};
use crate::api::query::{self, ListQuery, ReadQuery};
use crate::api::route::{ControlRoute, TokenRoute, is_of_auth_mode};
use crate::api::stream_query::{ChangesQuery, StreamQuery};
use crate::api::{ApiError, Route};
use crate::background::decoding::DecodeResult;
use crate::background::history::JobResult;
use crate::front::mcp::McpCall;
use crate::history::HistoryQuery;
use crate::log::Log;
use crate::model::CommitPoint;
use crate::service::connectors::ConnectorCall;
use crate::service::deferred::DeferredRead;
use crate::service::patterns::{check_readable, patterns_of};
use crate::service::publish::Besides;
use crate::service::tickets::PresentedTicket;
use crate::service::{
    self, Begun, Caller, Context, Credentials, KeptToken, Outcome, Pending, TokenRule, batch,
    changes, config, connectors, delete, delete_many, history, list, metrics, namespaces, publish,
    read, status, tickets, tokens,
};
use crate::shard::{MCP_BIT, Reply};
use crate::wire::http1::{Field, Head, Method, Request, Version};
use crate::wire::ws;

/// What the connection does after a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Goes on, or closes after its answers if the request said so.
    Go,
    /// Closes after its answers: the end of the last one is the end of the connection.
    Last,
    /// Goes on; the request's bytes are to be overwritten.
    Secret,
    /// Speaks WebSocket from here on.
    Upgrade {
        /// It wants `metrics_update` messages.
        metrics: bool,
        /// What it presents to its requests.
        token: Option<KeptToken>,
    },
    /// Is sent a stream of events from here on.
    Stream(Box<StreamRequest>),
}

/// A request for a stream of events.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StreamRequest {
    /// What it asks for.
    pub(crate) query: StreamQuery,
    /// What it presents.
    pub(crate) token: Option<KeptToken>,
    /// For the head of its answer.
    pub(crate) meta: RequestMeta,
}

/// Works on a request. Unless it is an upgrade, its answer, or a slot for it, is in the client's
/// answers then.
pub(crate) fn serve<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    request: &Request<'_>,
) -> Next {
    let head = &request.head;
    let route = find_route(context, head);
    let mut meta = RequestMeta::of(head, RoutePattern::of(&route));
    meta.keep_alive &= !context.counters.is_stopping();
    match dispatch(context, writer, client, (request, meta, route)) {
        Ok(next) => next,
        Err(error) => {
            // A shard may have been asked: a late reply must not find the next request.
            client.answers.skip_serial();
            reject(context, writer, client, (meta, &error));
            Next::Go
        }
    }
}

/// Answers a call that is rejected, or what was to become one. If it may have been a guess, the
/// answer leaves late.
pub(crate) fn reject<L>(
    context: &Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    (meta, error): (RequestMeta, &ApiError),
) {
    match context.note_rejection(client.address, error) {
        None => {
            let answer = (meta, CommitPoint::NONE);
            (client.answers).answer(answer, |out, meta| writer.error(out, meta, error));
        }
        Some(delay_ms) => {
            let due_ms = context.uptime_ms.saturating_add(delay_ms);
            (client.answers).push_late(due_ms, |out| writer.error(out, meta, error));
        }
    }
}

fn dispatch<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    (request, mut meta, route): (&Request<'_>, RequestMeta, Result<Route<'_>, ApiError>),
) -> Result<Next, ApiError> {
    let Request { head, body } = request;
    check_first(context, head)?;
    let mut caller = client.caller(head);
    let mut next = Next::Go;
    let rule = route.as_ref().map_or(TokenRule::None, token_rule);
    let identity = context.identify(&caller.credentials, rule)?;
    if let Some(identity) = &identity {
        caller.credentials = Credentials::Known(identity);
    }
    let route = route?;
    let ticket = ticket_of(context, &route, head)?;
    if let Some(ticket) = ticket {
        caller.credentials = Credentials::Token(ticket.token);
    }
    let conditions = honoured::check(context, &caller, (head, &route))?;
    check_room(context, client, (&caller, &route, body))?;
    let begun = match route {
        Route::Publish => publish_one(context, &caller, (body, conditions))?,
        Route::PublishBatch => batch::begin(context, &caller, body)?,
        Route::List => {
            let query = ListQuery::parse(head.query)?;
            next = end_of_list(&query, head.version);
            meta.keep_alive &= next != Next::Last;
            list::begin(context, &caller, query)?
        }
        Route::Events => events(&caller, head)?,
        Route::Read(id) => read_one(context, &caller, (&id, head))?,
        Route::ReadById => read_one(context, &caller, (&query::parse_id(head.query)?, head))?,
        Route::DeleteById => {
            let id = query::parse_id(head.query)?;
            delete_one(context, &caller, (&id, conditions))?
        }
        Route::Delete(id) => delete_one(context, &caller, (&id, conditions))?,
        Route::DeleteBatch => delete_many::begin(context, &caller, body)?,
        Route::Control(route) => {
            // The body is overwritten even if the call is rejected.
            let is_secret = route.brings_secret();
            let begun = control(context, &caller, (request, route));
            if is_secret {
                next = Next::Secret;
            }
            match begun {
                Ok(begun) => begun,
                Err(error) => {
                    client.answers.skip_serial();
                    reject(context, writer, client, (meta, &error));
                    return Ok(next);
                }
            }
        }
        Route::WebSocket => return upgrade(context, client, (&caller, head, ticket)),
        Route::Stream => {
            let request = (&caller, head, meta);
            return stream(context, writer, client, (request, ticket));
        }
        Route::Changes => poll(context, &caller, head)?,
        Route::Health => status::health(context, head.query)?,
        Route::Ready => status::ready(context)?,
        Route::Page(page) => {
            return Ok(pages::serve(context, writer, client, (page, head, meta)));
        }
        Route::Mcp => {
            caller.request_id.serial |= MCP_BIT;
            let request = (&caller, request, meta);
            return Ok(mcp::serve(context, writer, client, request));
        }
        Route::Options(allow) => return Ok(options(writer, client, (head, meta, allow))),
        Route::Metrics => metrics::begin(context, Format::of_accept(head.accept)),
    };
    take(context, writer, client, (meta, request, (begun, None)));
    Ok(next)
}

fn publish_one<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (body, conditions): (&[u8], HeadConditions<'_>),
) -> Result<Begun, ApiError> {
    let besides = Besides {
        conditions,
        linger_ms: None,
    };
    publish::begin_as(context, caller, (body, besides))
}

fn read_one<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (id, head): (&str, &Head<'_>),
) -> Result<Begun, ApiError> {
    read::begin(context, caller, (id, ReadQuery::parse(head.query)?))
}

fn delete_one<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (id, conditions): (&str, HeadConditions<'_>),
) -> Result<Begun, ApiError> {
    let conditions = delete::Conditions::Head(conditions);
    delete::begin(context, caller, (id, conditions))
}

/// To HTTP/1.0 the end of the connection is the end of an answer in parts.
fn end_of_list(query: &ListQuery, version: Version) -> Next {
    if query.limit.is_none() && query.at.is_none() && version == Version::Http10 {
        Next::Last
    } else {
        Next::Go
    }
}

fn events(caller: &Caller<'_>, head: &Head<'_>) -> Result<Begun, ApiError> {
    let query = EventsQuery::parse(head.query)?;
    Ok(DeferredRead::of_past(caller, HistoryQuery::Events(query)))
}

fn options(
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    (head, meta, allow): (&Head<'_>, RequestMeta, &str),
) -> Next {
    // Load balancers ask there, and some take nothing but 200.
    let status = if head.path == "/" { 200 } else { 204 };
    let headers = if head.path == "/mcp" {
        CORS_HEADERS_OF_MCP
    } else {
        CORS_HEADERS
    };
    client.answers.push(CommitPoint::NONE, |out| {
        writer.options(out, meta, (status, &[("Allow", allow), headers]));
    });
    Next::Go
}

/// Judges what comes before the token and the route.
fn check_first<L>(context: &Context<L>, head: &Head<'_>) -> Result<(), ApiError> {
    welcome(context, head)?;
    // A bad query is rare. What is judged before it, the token, is not judged twice otherwise.
    query::check(head.query).or_else(|_bad_query| admit(context, head).map(drop))?;
    if !context.tenants.auth && is_of_auth_mode(head.path) && head.method != Method::Options {
        return Err(ApiError::NoRoute);
    }
    Ok(())
}

/// Begins a call about namespaces, the configuration or connectors.
fn control<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (request, route): (&Request<'_>, ControlRoute<'_>),
) -> Result<Begun, ApiError> {
    context.check_serving()?;
    let (query, body) = (request.head.query, request.body);
    match route {
        ControlRoute::Register => namespaces::register(context, caller, body),
        ControlRoute::List => namespaces::list(context, caller, query),
        ControlRoute::Show(name) => namespaces::show(context, caller, &name),
        ControlRoute::Delete(name) => namespaces::delete(context, caller, (&name, query)),
        ControlRoute::ReplaceToken(name) => namespaces::replace_token(context, caller, &name),
        ControlRoute::SetVisibility(name) => {
            namespaces::set_visibility(context, caller, (&name, body))
        }
        ControlRoute::Tokens(route) => match route {
            TokenRoute::Make(name) => tokens::make(context, caller, (&name, body)),
            TokenRoute::List(name) => tokens::list(context, caller, &name),
            TokenRoute::Revoke(name, id) => tokens::revoke(context, caller, (&name, &id)),
        },
        ControlRoute::Ticket => tickets::make(context, caller),
        ControlRoute::Configure => config::change(context, caller, body),
        ControlRoute::Config => Ok(config::show(context)),
        ControlRoute::Connectors(route) => {
            let call = ConnectorCall { route, query, body };
            connectors::begin(context, caller, call)
        }
    }
}

/// A call that has begun, and what it is answered as if it came as a message of `POST /mcp`.
pub(super) type BegunCall = (Begun, Option<Box<McpCall>>);

/// Answers a call that is over, and opens a slot for one that waits.
pub(super) fn take<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    (meta, request, (begun, mut mcp)): (RequestMeta, &Request<'_>, BegunCall),
) {
    let if_none_match = match request.head.if_none_match {
        Field::One(value) => Some(value),
        Field::Absent | Field::Repeated => None,
    };
    let mut owed = Vec::new();
    let begun = match (begun, &mut mcp) {
        (Begun::Done(mut outcome, point), Some(mcp)) => {
            limit_outcome(context, client, (&mut outcome, 0));
            match mcp::advance(context, mcp, (outcome, point)) {
                (Written::Answer(mut body), point) => {
                    mcp::limit_answer(context, client, (mcp, &mut body));
                    let purpose = mcp::purpose_of(mcp);
                    let meta = RequestMeta { purpose, ..meta };
                    client.answers.answer((meta, point), |out, meta| {
                        writer.success(out, meta, &body);
                    });
                    context.trim_answer();
                    return;
                }
                (Written::More(notices, pending), _) => {
                    owed = notices;
                    Begun::Waiting(pending)
                }
            }
        }
        (begun, _) => begun,
    };
    match begun {
        Begun::Done(mut outcome, point) => {
            limit_outcome(context, client, (&mut outcome, 0));
            let json = &context.answer;
            client.answers.answer((meta, point), |out, meta| {
                writer.outcome(out, (meta, if_none_match), (&outcome, json));
            });
            context.trim_answer();
        }
        Begun::Waiting(pending) => {
            let goes_on = matches!(
                pending,
                Pending::List(_) | Pending::Deferred(_) | Pending::Changes(_)
            );
            let call = HttpCall {
                meta,
                if_none_match: if_none_match.map(Box::from),
                has_begun: false,
                body_bytes: request.body.len() + request.head.target_len(),
                pending,
                mcp,
                owed,
            };
            // Nothing of a poll is begun, and what it asks for may take many times its bytes.
            let is_poll = matches!(call.pending, Pending::Changes(_));
            if is_poll && !has_room(context, client, call.heap_bytes()) {
                let error = ApiError::OutOfMemory;
                client.answers.push(CommitPoint::NONE, |out| {
                    call.write_refusal(writer, out, &error);
                });
                return;
            }
            client.answers.wait(call);
            if goes_on {
                advance_small(context, writer, client);
            }
        }
    }
}

/// The ticket that a request presents in the place of a token. Without auth none is looked at.
fn ticket_of<L>(
    context: &Context<L>,
    route: &Route<'_>,
    head: &Head<'_>,
) -> Result<Option<PresentedTicket>, ApiError> {
    let takes_ticket = matches!(route, Route::WebSocket | Route::Stream);
    if !takes_ticket || head.query.is_none() {
        return Ok(None);
    }
    let ticket = query::parse_ticket(head.query)?;
    let Some(ticket) = ticket.filter(|_| context.tenants.auth) else {
        return Ok(None);
    };
    if head.authorization != Field::Absent {
        // RFC 6750 §2: a request has one of them.
        let (name, rule) = (query::TICKET, "not beside an `Authorization` header");
        return Err(ApiError::InvalidQuery { name, rule });
    }
    tickets::look(context, &ticket).map(Some)
}

fn upgrade<L: Log>(
    context: &Context<L>,
    client: &mut Client<'_>,
    (caller, head, ticket): (&Caller<'_>, &Head<'_>, Option<PresentedTicket>),
) -> Result<Next, ApiError> {
    context.check_serving()?;
    let token = kept_token(context, caller)?;
    let metrics = query::parse_websocket(head.query)?;
    let accept = ws::accept(head).map_err(ApiError::Handshake)?;
    // A client whose subscriptions fail would wait for ever on a connection that stays.
    context.check_ready()?;
    if client.answers.waiting() > 0 || client.answers.is_gated() {
        return Err(ApiError::UpgradeBehindRequests);
    }
    if let Some(ticket) = ticket {
        tickets::take(context, ticket)?;
    }
    let tally = context.tally();
    tally.note_request(RoutePattern::WebSocket, 101);
    client.answers.push(CommitPoint::NONE, |out| {
        ws::write_switching_protocols(out, &accept);
    });
    Ok(Next::Upgrade { metrics, token })
}

/// What a reader presents, for all that its connection is sent; in auth mode it has to be known.
fn kept_token<L>(context: &Context<L>, caller: &Caller<'_>) -> Result<Option<KeptToken>, ApiError> {
    match caller.credentials {
        Credentials::None => Ok(None),
        _ if !context.tenants.auth => Ok(None),
        credentials => {
            context.access(&credentials)?;
            credentials.token().map(Some)
        }
    }
}

fn poll<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    head: &Head<'_>,
) -> Result<Begun, ApiError> {
    context.check_serving()?;
    let token = kept_token(context, caller)?;
    changes::begin(context, ChangesQuery::parse(head.query)?, token)
}

fn stream<L: Log>(
    context: &Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    (request, ticket): (
        (&Caller<'_>, &Head<'_>, RequestMeta),
        Option<PresentedTicket>,
    ),
) -> Result<Next, ApiError> {
    let (caller, head, meta) = request;
    context.check_serving()?;
    let token = kept_token(context, caller)?;
    let query = StreamQuery::parse(head.query, head.last_event_id)?;
    context.check_ready()?;
    if meta.head_only {
        check_readable(context, token, &patterns_of(&query.entity_ids)?)?;
        client.answers.push(CommitPoint::NONE, |out| {
            writer.stream_head(out, meta);
        });
        return Ok(Next::Go);
    }
    if let Some(ticket) = ticket {
        tickets::take(context, ticket)?;
    }
    Ok(Next::Stream(Box::new(StreamRequest { query, token, meta })))
}

/// Answers a request for a stream that begins: `beginning` is the first of it.
pub(crate) fn open_stream(
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    (meta, beginning): (RequestMeta, &[u8]),
) {
    client.answers.push(CommitPoint::NONE, |out| {
        writer.stream_head(out, meta);
        out.extend_from_slice(beginning);
    });
}

/// Does the next slice of the client's request that is unfinished, if there is one. True if it is
/// unfinished still.
pub(crate) fn go_on<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
) -> bool {
    let Some(serial) = client.answers.unfinished() else {
        return false;
    };
    let (request_id, holders) = (client.request_id(serial), client.holders);
    if let Some(call) = client.answers.call(serial) {
        if call.pending.lacks_memory(&mut context.memory, holders) {
            client.answers.want_memory();
            return true;
        }
        let outcome = service::go_on(context, request_id, &mut call.pending);
        finish(context, writer, client, (serial, outcome));
    }
    client.answers.unfinished().is_some()
}

/// Takes a shard's reply to one of the client's requests. False if the connection has to break.
pub(crate) fn on_reply<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    (serial, from, reply): (u32, u16, Reply),
) -> bool {
    let Some(mut reply) = take_reply_to_poll(context, writer, client, (serial, from, reply)) else {
        return advance_small(context, writer, client);
    };
    let request_id = client.request_id(serial);
    limit_reply(context, client, &mut reply);
    if let Some(call) = client.answers.call(serial) {
        let outcome = service::resume(context, request_id, &mut call.pending, (from, reply));
        if call.has_begun && outcome.is_some() {
            return false;
        }
        finish(context, writer, client, (serial, outcome));
    }
    advance_small(context, writer, client)
}

/// Takes what the history worker found for one of the client's requests. False if the connection
/// has to break.
pub(crate) fn on_history<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    (serial, result): (u32, JobResult),
) -> bool {
    if let Some(call) = client.answers.call(serial)
        && matches!(call.pending, Pending::Changes(_))
    {
        take_log_of_poll(context, writer, client, result);
    } else if let Some(call) = client.answers.call(serial) {
        let outcome = history::finish(context, &call.pending, result);
        finish(context, writer, client, (serial, outcome));
    }
    advance_small(context, writer, client)
}

/// Takes the body that a helper thread has decoded for one of the client's requests. False if the
/// connection has to break.
pub(crate) fn on_decoded<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    (serial, result): (u32, DecodeResult),
) -> bool {
    if let Some(call) = client.answers.call(serial) {
        let outcome = service::on_decoded(&mut call.pending, result);
        finish(context, writer, client, (serial, outcome));
    }
    advance_small(context, writer, client)
}

/// Answers a call that was worked on if it is over, else counts what it holds now.
pub(super) fn finish<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    (serial, outcome): (u32, Option<Outcome>),
) {
    let Some(mut outcome) = outcome else {
        client.answers.recount(serial);
        return;
    };
    let expected = client.answers.expected_bytes_of(serial);
    let is_poll = client
        .answers
        .call(serial)
        .is_some_and(|call| matches!(call.pending, Pending::Changes(_)));
    if is_poll {
        let counted = client.answers.counted_of(serial);
        limit_poll(context, client, (&mut outcome, counted));
    } else {
        limit_outcome(context, client, (&mut outcome, expected));
    }
    let Some(call) = client.answers.call(serial) else {
        return;
    };
    if call.mcp.is_some() {
        let outcome = (outcome, CommitPoint::NONE);
        return mcp::finish(context, writer, client, (serial, outcome));
    }
    let (meta, if_none_match) = (call.meta, call.if_none_match.take());
    let json = &context.answer;
    let answer = (meta, CommitPoint::NONE);
    client.answers.fill_answer(serial, answer, |out, meta| {
        writer.outcome(out, (meta, if_none_match.as_deref()), (&outcome, json));
    });
    context.trim_answer();
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::answers::Answers;
    use super::super::deferred::give_up_front;
    use super::*;
    use crate::service::testing::{OPERATOR, TestCores};
    use crate::shard::{MemoryHolders, MemoryPart};
    use crate::wire::http1::{Next as Parsed, RequestReader};
    use flux_storage::Sequence;

    /// The bytes that a request is answered with at once.
    pub(crate) fn answer(cores: &mut TestCores, answers: &mut Answers, request: &str) -> String {
        let mut reader = RequestReader::default();
        reader.receive(request.as_bytes());
        let Ok(Parsed::Request(request)) = reader.next(|_| usize::MAX) else {
            panic!("no request: {request}");
        };
        let mut client = Client {
            answers,
            index: 0,
            generation: 0,
            address: None,
            holders: MemoryHolders::default(),
        };
        let mut writer = AnswerWriter::default();
        writer.set_time(0);
        serve(cores.context(0), &writer, &mut client, &request);
        answers.take_all()
    }

    const HANDSHAKE: &str = "GET /api/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    #[test]
    fn a_websocket_handshake_is_503_until_every_log_is_replayed() {
        let mut cores = TestCores::new(2);
        cores.close_shard(1);
        let text = answer(&mut cores, &mut Answers::default(), HANDSHAKE);
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
        assert!(text.contains("Retry-After: "), "{text}");
        cores.open_shard(1);
        let text = answer(&mut cores, &mut Answers::default(), HANDSHAKE);
        assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    }

    #[test]
    fn a_wrong_operators_token_is_answered_later_each_time_and_no_other_call_is_late() {
        let mut cores = TestCores::with_auth(1);
        let call = |line: &str, token: &str| {
            format!("{line} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n")
        };
        let mut before_ms = 0;
        for line in [
            "PUT /api/admin/config",
            "GET /api/namespaces",
            "POST /api/namespaces",
            "DELETE /api/namespaces/house",
        ] {
            let mut answers = Answers::default();
            assert_eq!(answer(&mut cores, &mut answers, &call(line, "wrong")), "");
            let due_ms = answers.late_until_ms().unwrap();
            assert!(due_ms > before_ms, "{line}: {due_ms}");
            before_ms = due_ms;
            assert!(answers.is_full(), "{line}");
            answers.release_late();
            assert!(answers.sendable().starts_with(b"HTTP/1.1 401 "), "{line}");
        }
        let mut answers = Answers::default();
        let listed = answer(
            &mut cores,
            &mut answers,
            &call("GET /api/namespaces", OPERATOR),
        );
        assert_eq!(answers.late_until_ms(), None, "{listed}");
        let others = [
            ("POST /api/events", "wrong"),
            ("DELETE /api/state/entities/a%2Fb", "wrong"),
            ("GET /api/namespaces", "="),
        ];
        for (line, token) in others {
            let text = answer(&mut cores, &mut Answers::default(), &call(line, token));
            assert!(text.starts_with("HTTP/1.1 401 "), "{line}: {text}");
        }
    }

    #[test]
    fn an_answer_leaves_when_what_it_says_is_durable() {
        let mut cores = TestCores::new(1);
        let mut answers = Answers::default();
        let body = r#"{"stream":"s","source":"t","payload":{"entity_id":"a","properties":{}}}"#;
        let publish = format!(
            "POST /api/events HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(answer(&mut cores, &mut answers, &publish), "");
        cores.flush();
        let mut counted = Vec::new();
        let remains = answers.open_gates(Sequence::new(1), |pattern, status| {
            counted.push((pattern, status));
        });
        assert!(!remains);
        assert_eq!(counted, [(RoutePattern::Publish, 200)]);
        assert!(answers.sendable().starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
    /// A request with a token, or without one if that is empty, and a body.
    fn request(line: &str, token: &str, body: &str) -> String {
        let token = match token {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        let length = body.len();
        format!("{line} HTTP/1.1\r\nHost: a\r\n{token}Content-Length: {length}\r\n\r\n{body}")
    }

    /// All memory for clients is in use from now on.
    fn use_up_memory(cores: &mut TestCores) {
        let memory = &mut cores.context(0).memory;
        memory.change(MemoryPart::Answers, 0, 1 << 40);
    }

    #[test]
    fn what_finds_no_memory_is_503_and_a_token_that_nobody_has_is_401_before_that() {
        let mut cores = TestCores::with_auth(1);
        use_up_memory(&mut cores);
        let events = format!(r#"{{"events":[{}{{}}]}}"#, "{},".repeat(30));
        let ids = format!(r#"{{"entity_ids":["{}"]}}"#, "house/a".repeat(10));
        for (line, body) in [
            ("POST /api/events/batch", &events),
            ("POST /api/state/entities/delete", &ids),
        ] {
            for (token, status) in [("", 401), ("x", 401), (OPERATOR, 503)] {
                let request = request(line, token, body);
                let text = answer(&mut cores, &mut Answers::default(), &request);
                let expected = format!("HTTP/1.1 {status} ");
                assert!(text.starts_with(&expected), "{line}, {token}: {text}");
                assert_eq!(status == 503, text.contains("Retry-After: "), "{text}");
            }
        }
        // What is small is served, and its token is judged as ever.
        let event = r#"{"stream":"s","source":"t","payload":{"entity_id":"a","properties":{}}}"#;
        for (token, status) in [("x", 401), (OPERATOR, 400)] {
            let request = request("POST /api/events", token, event);
            let text = answer(&mut cores, &mut Answers::default(), &request);
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        }
    }

    #[test]
    fn an_answer_that_finds_no_memory_is_503_and_a_small_one_leaves() {
        let mut cores = TestCores::new(1);
        // Otherwise a helper thread decodes the large one.
        cores.context(0).slicing.body_bytes = usize::MAX;
        for (id, len) in [("small", 100), ("large", 10_000)] {
            let text = "x".repeat(len);
            let event = format!(
                r#"{{"stream":"s","source":"t","payload":{{"entity_id":"{id}","properties":{{"a":"{text}"}}}}}}"#
            );
            let publish = request("POST /api/events", "", &event);
            answer(&mut cores, &mut Answers::default(), &publish);
        }
        cores.flush();
        use_up_memory(&mut cores);
        let refused = r#"{"stream":"s","source":"t","expect":{"version":9},"payload":{"entity_id":"ID","properties":{}}}"#;
        for (id, read, refusal) in [("small", 200, 409), ("large", 503, 503)] {
            let get = request(&format!("GET /api/state/entities/{id}"), "", "");
            let publish = request("POST /api/events", "", &refused.replace("ID", id));
            for (request, status) in [(get, read), (publish, refusal)] {
                let text = answer(&mut cores, &mut Answers::default(), &request);
                assert!(
                    text.starts_with(&format!("HTTP/1.1 {status} ")),
                    "{id}: {text}"
                );
            }
        }
    }

    #[test]
    fn a_call_that_may_have_changed_something_is_not_given_up_for_want_of_memory() {
        // Of the other shard.
        let event = r#"{"stream":"s","source":"t","payload":{"entity_id":"n0/a","properties":{}}}"#;
        let publish = request("POST /api/events", "", event);
        let get = request("GET /api/state/entities/n0%2Fa", "", "");
        for (request, is_given_up) in [(publish, false), (get, true)] {
            let mut cores = TestCores::new(2);
            let mut answers = Answers::default();
            answer(&mut cores, &mut answers, &request);
            assert_eq!(answers.waiting(), 1, "{request}");
            let mut client = Client {
                answers: &mut answers,
                index: 0,
                generation: 0,
                address: None,
                holders: MemoryHolders::default(),
            };
            assert!(give_up_front(&AnswerWriter::default(), &mut client));
            assert_eq!(answers.waiting() == 0, is_given_up, "{request}");
            let is_refused = answers.sendable().starts_with(b"HTTP/1.1 503 ");
            assert_eq!(is_refused, is_given_up, "{request}");
        }
    }
}
