//! Outcomes → HTTP answers: status, fields and body.

use super::call::{Counts, Purpose, RequestMeta};
use super::slot::make_room;
use crate::api::metrics::RoutePattern;
use crate::api::{ApiError, encode};
use crate::model::{EntityTag, NarrowCursor};
use crate::service::Outcome;
use crate::shard::Counters;
use crate::wire::http1::{
    BodyLength, ImfFixdate, PreparedHead, ResponseHead, Version, imf_fixdate, write_chunk,
    write_last_chunk,
};
use crate::wire::ws::HandshakeError;
use std::borrow::Cow;
use std::sync::Arc;

/// Writes the answers of one core.
#[derive(Debug)]
pub(crate) struct AnswerWriter {
    /// The `Date` of answers.
    date: ImfFixdate,
    /// The second that it says.
    seconds: i64,
    /// The heads of most answers of this second.
    heads: Heads,
    /// Where answers are counted: this core's part.
    counters: (Arc<Counters>, u16),
}

#[cfg(test)]
impl Default for AnswerWriter {
    fn default() -> Self {
        Self::new(Arc::new(Counters::new(1, 0)), 0)
    }
}

impl AnswerWriter {
    /// Of a core.
    pub(crate) fn new(counters: Arc<Counters>, core: u16) -> Self {
        Self {
            date: [0; 29],
            seconds: i64::MIN,
            heads: Heads::default(),
            counters: (counters, core),
        }
    }

    /// Counts an answer, unless it counts later.
    fn count(&self, meta: RequestMeta, status: u16) {
        if meta.counts == Counts::AtOnce {
            let (counters, core) = &self.counters;
            counters.tally(*core).note_request(meta.pattern, status);
        }
    }

    /// Counts what a request is refused for that was to store events.
    pub(super) fn count_refused(&self, meta: RequestMeta, error: &ApiError) {
        if meta.purpose == Purpose::Store {
            let (counters, core) = &self.counters;
            counters.tally(*core).note_refused(error);
        }
    }

    /// The time is so many seconds after the epoch.
    pub(crate) fn set_time(&mut self, seconds: i64) {
        if seconds != self.seconds {
            self.seconds = seconds;
            imf_fixdate(seconds, &mut self.date);
            self.heads = Heads::new(&self.date);
        }
    }

    /// Writes what a call came to; `json`: what the service put beside it.
    pub(super) fn outcome(
        &self,
        out: &mut Vec<u8>,
        (meta, if_none_match): (RequestMeta, Option<&[u8]>),
        (outcome, json): (&Outcome, &[u8]),
    ) {
        make_room(out, json.len() + HEAD_BYTES);
        let answer = |status, headers| Answer {
            status,
            headers,
            body: json,
        };
        match outcome {
            Outcome::Done => self.success(out, meta, json),
            Outcome::Created => self.json(out, meta, answer(201, &[CORS_ORIGIN])),
            Outcome::Secret | Outcome::CreatedSecret => {
                let is_made = *outcome == Outcome::CreatedSecret;
                // RFC 9111 §5.2.2.5: a secret is not for caches.
                let headers = &[("Cache-Control", "no-store"), CORS_ORIGIN];
                self.json(out, meta, answer(if is_made { 201 } else { 200 }, headers));
            }
            Outcome::Text(media_type) => {
                // Each answer tells of its moment, and `Accept` chooses its format.
                let headers = &[
                    ("Cache-Control", "no-store"),
                    ("Vary", "Accept"),
                    CORS_ORIGIN,
                ];
                self.text(out, meta, (*media_type, answer(200, headers)));
            }
            Outcome::Empty => self.empty(out, meta, (204, &[CORS_ORIGIN])),
            Outcome::Entity { tag, cursor } => {
                if if_none_match.is_some_and(|field| tag.is_named_by(field)) {
                    self.entity(out, meta, (304, &[]), (*tag, cursor));
                } else if meta.is_plain() {
                    self.count(meta, 200);
                    self.plain_entity(out, json, (*tag, cursor));
                } else {
                    self.entity(out, meta, (200, json), (*tag, cursor));
                }
            }
            Outcome::Page { next, cursor } => {
                let link = next.as_deref().map(|link| ("Link", link));
                let cursor = cursor.as_deref().map(|cursor| (CURSOR, cursor));
                let mut headers = vec![CORS_ORIGIN];
                headers.extend(link.into_iter().chain(cursor));
                if headers.len() > 1 {
                    headers.push(CORS_EXPOSE);
                }
                self.json(out, meta, answer(200, &headers));
            }
            Outcome::Failed(error) => self.error(out, meta, error),
        }
    }

    /// Writes an answer without a body.
    fn empty(&self, out: &mut Vec<u8>, meta: RequestMeta, (status, headers): (u16, Fields<'_>)) {
        let body = &[];
        let answer = Answer {
            status,
            headers,
            body,
        };
        self.json(out, meta, answer);
    }

    /// Writes the head of an array that is sent in parts, with its cursor.
    pub(super) fn array_head(&self, out: &mut Vec<u8>, meta: RequestMeta, cursor: Option<&str>) {
        let body = body_of_parts(meta);
        match cursor {
            None if meta.is_of_page() => {
                let headers = &[CORS_ORIGIN, CORS_EXPOSE];
                self.head_of_parts(meta, body, headers).write(out);
            }
            None => self.head_of_parts(meta, body, &[CORS_ORIGIN]).write(out),
            Some(cursor) => {
                let headers = &[CORS_ORIGIN, (CURSOR, cursor), CORS_EXPOSE];
                self.head_of_parts(meta, body, headers).write(out);
            }
        }
    }

    /// Writes the head of a stream of events. Nothing follows a stream on its connection.
    pub(super) fn stream_head(&self, out: &mut Vec<u8>, meta: RequestMeta) {
        let head = ResponseHead {
            content_type: Some("text/event-stream"),
            keep_alive: meta.head_only && meta.keep_alive,
            ..self.head_of_parts(meta, body_of_parts(meta), STREAM_FIELDS)
        };
        head.write(out);
    }

    /// Writes the head of an answer that is a stream of events with an end.
    pub(super) fn event_stream_head(&self, out: &mut Vec<u8>, meta: RequestMeta) {
        let head = ResponseHead {
            content_type: Some("text/event-stream"),
            ..self.head_of_parts(meta, body_of_parts(meta), STREAM_FIELDS)
        };
        head.write(out);
    }

    /// Writes an answer with this status, and a JSON body if it has one.
    pub(super) fn message(
        &self,
        out: &mut Vec<u8>,
        meta: RequestMeta,
        (status, body): (u16, &[u8]),
    ) {
        let headers = &[CORS_ORIGIN];
        make_room(out, body.len() + HEAD_BYTES);
        self.json(
            out,
            meta,
            Answer {
                status,
                headers,
                body,
            },
        );
    }

    /// Writes the head of a success whose body, which is so long, is sent in parts.
    pub(super) fn success_head(&self, out: &mut Vec<u8>, meta: RequestMeta, length: u64) {
        let body = BodyLength::Known(length);
        let headers = &[CORS_ORIGIN, exposed_to(meta)];
        let headers = if meta.is_of_page() {
            &headers[..]
        } else {
            &headers[..1]
        };
        self.head_of_parts(meta, body, headers).write(out);
    }

    /// The head of a success whose body follows in parts. Counts it.
    fn head_of_parts<'a>(
        &'a self,
        meta: RequestMeta,
        body: BodyLength,
        headers: Fields<'a>,
    ) -> ResponseHead<'a> {
        self.count(meta, 200);
        ResponseHead {
            status: 200,
            content_type: Some("application/json"),
            body,
            version: meta.version,
            keep_alive: meta.keep_alive,
            date: &self.date,
            headers,
        }
    }

    /// Writes a part of such an array.
    pub(super) fn array_part(out: &mut Vec<u8>, meta: RequestMeta, json: &[u8]) {
        match meta.version {
            Version::Http11 => write_chunk(out, json),
            Version::Http10 => out.extend_from_slice(json),
        }
    }

    /// Ends such an array, whose last part is written.
    pub(super) fn array_end(out: &mut Vec<u8>, meta: RequestMeta) {
        if meta.version == Version::Http11 {
            write_last_chunk(out);
        }
    }

    /// Writes the answer to `OPTIONS`, with what its path takes.
    pub(super) fn options(
        &self,
        out: &mut Vec<u8>,
        meta: RequestMeta,
        (status, taken): (u16, Fields<'_>),
    ) {
        let usual = [
            CORS_ORIGIN,
            (
                "Access-Control-Allow-Methods",
                "GET, POST, PUT, PATCH, DELETE, OPTIONS",
            ),
            CORS_EXPOSE,
            ("Access-Control-Max-Age", "86400"),
        ];
        self.empty(out, meta, (status, &[taken, &usual].concat()));
    }

    /// Writes the head of a static page, or that the client has it.
    pub(super) fn page_head(&self, out: &mut Vec<u8>, meta: RequestMeta, answer: PageAnswer<'_>) {
        let headers = [answer.headers, &[CORS_ORIGIN, CORS_EXPOSE]].concat();
        let status = if answer.length.is_some() { 200 } else { 304 };
        self.count(meta, status);
        let head = ResponseHead {
            status,
            content_type: answer.length.map(|_| answer.content_type),
            body: answer.length.map_or(BodyLength::None, BodyLength::Known),
            version: meta.version,
            keep_alive: meta.keep_alive,
            date: &self.date,
            headers: &headers,
        };
        head.write(out);
    }

    /// Writes a success.
    pub(super) fn success(&self, out: &mut Vec<u8>, meta: RequestMeta, body: &[u8]) {
        if meta.is_plain() && !body.is_empty() {
            self.count(meta, 200);
            make_room(out, body.len() + HEAD_BYTES);
            self.heads.success.write(out, body.len() as u64, |_| {});
            out.extend_from_slice(body);
            return;
        }
        let headers = &[CORS_ORIGIN];
        self.json(
            out,
            meta,
            Answer {
                status: 200,
                headers,
                body,
            },
        );
    }

    /// Writes an entity that was asked for, to a plain request. Its fields hold only digits and the
    /// letters of a cursor, so nothing in them can end a line.
    fn plain_entity(
        &self,
        out: &mut Vec<u8>,
        json: &[u8],
        (tag, cursor): (EntityTag, &NarrowCursor),
    ) {
        self.heads.entity.write(out, json.len() as u64, |out| {
            out.extend_from_slice(b"\r\nETag: \"");
            tag.write_opaque(out);
            out.extend_from_slice(b"\"\r\nFlux-Cursor: ");
            out.extend_from_slice(cursor);
        });
        out.extend_from_slice(json);
    }

    /// Writes an entity that was asked for, or that it has not changed.
    fn entity(
        &self,
        out: &mut Vec<u8>,
        meta: RequestMeta,
        (status, body): (u16, &[u8]),
        (tag, cursor): (EntityTag, &NarrowCursor),
    ) {
        let tag = tag.to_string();
        let cursor = str::from_utf8(cursor).unwrap_or_default();
        let headers = &[("ETag", &*tag), (CURSOR, cursor), CORS_ORIGIN, CORS_EXPOSE];
        let answer = Answer {
            status,
            headers,
            body,
        };
        self.json(out, meta, answer);
    }

    /// Writes a whole answer with a JSON body.
    fn json(&self, out: &mut Vec<u8>, meta: RequestMeta, answer: Answer<'_>) {
        self.text(out, meta, ("application/json", answer));
    }

    /// Writes a whole answer with a body of this media type.
    fn text(&self, out: &mut Vec<u8>, meta: RequestMeta, (media_type, answer): (&str, Answer<'_>)) {
        self.count(meta, answer.status);
        // What may not reach the server may not read why either.
        let expose = exposed_to(meta);
        let is_exposed = !answer.headers.contains(&CORS_ORIGIN)
            || answer.headers.contains(&expose)
            || !meta.is_of_page();
        let exposed = if is_exposed {
            Cow::Borrowed(answer.headers)
        } else {
            Cow::Owned([answer.headers, &[expose]].concat())
        };
        let head = ResponseHead {
            status: answer.status,
            content_type: (!answer.body.is_empty()).then_some(media_type),
            body: if matches!(answer.status, 204 | 304) {
                BodyLength::None
            } else {
                BodyLength::Known(answer.body.len() as u64)
            },
            version: meta.version,
            keep_alive: meta.keep_alive,
            date: &self.date,
            headers: &exposed,
        };
        head.write(out);
        if !meta.head_only {
            out.extend_from_slice(answer.body);
        }
    }

    /// Writes the answer that a rejection deserves.
    pub(crate) fn error(&self, out: &mut Vec<u8>, meta: RequestMeta, error: &ApiError) {
        self.count_refused(meta, error);
        let mut body = Vec::with_capacity(128);
        encode::rejection(&mut body, error);
        let retry_after = error
            .retry_after_seconds()
            .map(|seconds| seconds.to_string());
        let is_unwelcome = matches!(error, ApiError::OriginRefused | ApiError::HostRefused);
        let mut headers = Vec::new();
        if !is_unwelcome {
            headers.push(CORS_ORIGIN);
        }
        if let Some(seconds) = &retry_after {
            headers.extend([("Retry-After", seconds.as_str()), exposed_to(meta)]);
        }
        match error {
            // RFC 9110 §11.6.1: a 401 says what would do.
            ApiError::TokenMissing
            | ApiError::TokenMalformed
            | ApiError::TokenUnknown
            | ApiError::TicketUnknown
            | ApiError::OperatorUnknown => {
                // A host that reads more in it looks for an issuer of tokens.
                let bearer = if meta.pattern == RoutePattern::Mcp {
                    "Bearer"
                } else {
                    "Bearer realm=\"flux\""
                };
                headers.push(("WWW-Authenticate", bearer));
            }
            ApiError::Method { allow } => headers.push(("Allow", allow)),
            ApiError::Handshake(HandshakeError::Version) => {
                headers.extend([("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]);
            }
            _ => {}
        }
        make_room(out, body.len() + HEAD_BYTES);
        self.json(
            out,
            meta,
            Answer {
                status: error.status(),
                headers: &headers,
                body: &body,
            },
        );
    }
}

/// How the client learns where a body ends that is sent in parts.
const fn body_of_parts(meta: RequestMeta) -> BodyLength {
    match meta.version {
        Version::Http11 => BodyLength::Chunked,
        Version::Http10 => BodyLength::UntilClose,
    }
}

/// The fields of a stream of events: nobody on its way keeps it, or holds it back to send more at
/// once (nginx, by the last of them).
const STREAM_FIELDS: Fields<'static> = &[
    ("Cache-Control", "no-store"),
    CORS_ORIGIN,
    CORS_EXPOSE,
    ("X-Accel-Buffering", "no"),
];

/// Heads of answers to HTTP/1.1 on connections that stay open.
#[derive(Debug, Default)]
struct Heads {
    success: PreparedHead,
    /// But for its tag and its cursor.
    entity: PreparedHead,
}

impl Heads {
    fn new(date: &ImfFixdate) -> Self {
        let prepare = |headers: &[(&str, &str)]| {
            let head = ResponseHead {
                status: 200,
                content_type: Some("application/json"),
                body: BodyLength::Known(0),
                version: Version::Http11,
                keep_alive: true,
                date,
                headers,
            };
            head.prepare()
        };
        Self {
            success: prepare(&[CORS_ORIGIN]),
            entity: prepare(&[CORS_ORIGIN, CORS_EXPOSE]),
        }
    }
}

/// Header fields, by name and value.
pub(super) type Fields<'a> = &'a [(&'a str, &'a str)];

/// An answer but for what comes from its request.
#[derive(Debug, Clone, Copy)]
struct Answer<'a> {
    /// HTTP status.
    status: u16,
    /// Fields besides `Date`, `Content-*` and `Connection`.
    headers: Fields<'a>,
    /// JSON, or nothing.
    body: &'a [u8],
}

/// A page's answer but for what comes from its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageAnswer<'a> {
    /// Of the page.
    pub(super) content_type: &'a str,
    /// Fields besides `Date`, `Content-Length` and the usual ones.
    pub(super) headers: Fields<'a>,
    /// Of its body; `None`: the client has it.
    pub(super) length: Option<u64>,
}

/// Room for a head.
const HEAD_BYTES: usize = 1024;

/// Whichever page may reach the server may read any answer (API contract §4): which may is decided
/// before (`admission`), and no answer depends on what a browser adds by itself.
const CORS_ORIGIN: (&str, &str) = ("Access-Control-Allow-Origin", "*");
/// The fields that a page may read besides the usual ones.
const CORS_EXPOSE: (&str, &str) = (
    "Access-Control-Expose-Headers",
    "etag, link, retry-after, flux-cursor",
);
/// The same of `POST /mcp`, whose clients read in a 401 how to go on.
const CORS_EXPOSE_OF_MCP: (&str, &str) = (
    "Access-Control-Expose-Headers",
    "etag, link, retry-after, flux-cursor, www-authenticate",
);

/// The fields that a page may read in the answer to a request.
fn exposed_to(meta: RequestMeta) -> (&'static str, &'static str) {
    if meta.pattern == RoutePattern::Mcp {
        CORS_EXPOSE_OF_MCP
    } else {
        CORS_EXPOSE
    }
}

/// The fields that a page may send.
pub(super) const CORS_HEADERS: (&str, &str) = (
    "Access-Control-Allow-Headers",
    "authorization, content-type, if-match, if-none-match, last-event-id, traceparent",
);
/// The same to `/mcp`: what a client of any version of the protocol sends.
pub(super) const CORS_HEADERS_OF_MCP: (&str, &str) = (
    "Access-Control-Allow-Headers",
    "authorization, content-type, if-match, if-none-match, last-event-id, traceparent, \
     mcp-protocol-version, mcp-method, mcp-name, mcp-session-id",
);

/// The field of a read that says which changes it shows (API contract §13).
const CURSOR: &str = "Flux-Cursor";
