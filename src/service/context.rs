//! What all connections of a core share: its shard, the way to the others, and buffers.

use super::counters::Shared;
use super::pending::RequestMeta;
use crate::api::event::{EventDecoder, EventIds};
use crate::api::{ApiError, encode};
use crate::background::history::HistoryQueue;
use crate::boot::config::Config;
use crate::clock::{self, Monotonic};
use crate::control::{self, Command};
use crate::model::place;
use crate::model::{Durability, RuntimeConfig, Timestamp, namespace_of};
use crate::shard::{Envelope, MailboxSender, Message, Origin, RequestId, Shard, ShardRequest};
use crate::subscribe::{Filter, Registry};
use crate::wire::http1::{
    BodyLength, ImfFixdate, PreparedHead, ResponseHead, Version, imf_fixdate,
};
use crate::wire::ws::HandshakeError;
use flux_storage::{Log, Sequence};
use std::collections::VecDeque;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct Hub {
    /// This core's index, and its shard's.
    pub(crate) core: u16,
    /// Number of shards.
    pub(crate) shards: u16,
    /// This core's shard; `None` until its log is replayed.
    pub(crate) shard: Option<Shard<Log>>,
    /// The way to the other cores.
    pub(crate) sender: MailboxSender,
    /// Which of this core's connections want which entities.
    pub(crate) subscribers: Registry<u32>,
    /// Reused decoder.
    pub(crate) decoder: EventDecoder,
    /// Ids of events.
    pub(crate) ids: EventIds,
    /// Reused: the stored form of the event at hand.
    pub(crate) event: Vec<u8>,
    /// Reused: the body of the answer at hand.
    pub(crate) body: Vec<u8>,
    /// Requests about the past that wait for a helper thread.
    pub(crate) past: HistoryQueue,
    /// What all cores know of each other.
    pub(crate) shared: Arc<Shared>,
    /// The settings.
    pub(crate) config: Arc<Config>,
    /// The configuration in force.
    pub(crate) runtime: RuntimeConfig,
    /// The namespaces.
    pub(crate) registry: control::Registry,
    /// Control calls of this core's connections, where this core is the one that carries them out.
    pub(crate) control_calls: VecDeque<(Origin, Command)>,
    /// The wall clock, read once per turn.
    pub(crate) now: Timestamp,
    /// Milliseconds of the monotonic clock, read once per turn.
    pub(crate) now_ms: u64,
    /// The same in microseconds.
    pub(crate) now_micros: u64,
    /// The `Date` of answers.
    pub(crate) date: ImfFixdate,
    /// The heads of most answers of this second.
    heads: Heads,
    clock: Monotonic,
}

/// What a core's hub is made of.
#[derive(Debug)]
pub(crate) struct HubParts {
    /// The core's index.
    pub(crate) core: u16,
    /// The way to the other cores.
    pub(crate) sender: MailboxSender,
    /// What all cores know of each other.
    pub(crate) shared: Arc<Shared>,
    /// The settings.
    pub(crate) config: Arc<Config>,
    /// The configuration in force.
    pub(crate) runtime: RuntimeConfig,
    /// The namespaces.
    pub(crate) registry: control::Registry,
    /// For ids.
    pub(crate) seed: u64,
}

impl Hub {
    /// A hub whose shard is not there yet.
    pub(crate) fn new(parts: HubParts) -> Self {
        let mut hub = Self {
            core: parts.core,
            // The last member of the mailboxes is the supervisor of connectors.
            shards: u16::try_from(parts.sender.cores().saturating_sub(1)).expect("SHARDS_MAX fits"),
            shard: None,
            sender: parts.sender,
            subscribers: Registry::new(),
            decoder: EventDecoder::default(),
            ids: EventIds::new(parts.seed),
            event: Vec::new(),
            body: Vec::new(),
            past: HistoryQueue::default(),
            shared: parts.shared,
            config: parts.config,
            runtime: parts.runtime,
            registry: parts.registry,
            control_calls: VecDeque::new(),
            now: Timestamp::default(),
            now_ms: 0,
            now_micros: 0,
            date: [0; 29],
            heads: Heads::default(),
            clock: Monotonic::start(),
        };
        hub.read_clocks();
        hub
    }

    /// Reads the clocks for this turn.
    pub(crate) fn read_clocks(&mut self) {
        let before = self.now.as_micros() / 1_000_000;
        self.now = clock::now();
        self.now_micros = self.clock.micros();
        self.now_ms = self.now_micros / 1000;
        if let Some(shard) = &mut self.shard {
            shard.limiter_mut().advance(self.now_ms);
        }
        let seconds = self.now.as_micros() / 1_000_000;
        if seconds != before {
            imf_fixdate(seconds, &mut self.date);
            self.heads = Heads::new(&self.date);
        }
    }

    /// Microseconds of the monotonic clock at this moment.
    pub(crate) fn monotonic_micros(&self) -> u64 {
        self.clock.micros()
    }

    /// The shard of an entity.
    pub(crate) fn place(&self, entity_id: &str) -> u16 {
        place(entity_id, self.shards)
    }

    /// The shards that a filter concerns.
    pub(crate) fn shards_of(&self, filter: &Filter) -> std::ops::Range<u16> {
        self.shards_of_key(filter.concerns_single_placement())
    }

    /// The shards that may hold entities of a namespace, or with a prefix, or any.
    pub(crate) fn shards_holding(
        &self,
        namespace: Option<&str>,
        prefix: Option<&str>,
    ) -> std::ops::Range<u16> {
        self.shards_of_key(namespace.or_else(|| namespace_of(prefix?)))
    }

    /// The shard of a placement key; all of them without one.
    fn shards_of_key(&self, key: Option<&str>) -> std::ops::Range<u16> {
        match key {
            None => 0..self.shards,
            Some(key) => {
                let shard = crate::model::place_key(key, self.shards);
                shard..shard + 1
            }
        }
    }

    /// The gate of an answer: what is visible already needs none.
    pub(crate) fn gate(&self, sequence: Sequence) -> Sequence {
        match &self.shard {
            Some(shard) if sequence > shard.visible() => sequence,
            _ => Sequence::ZERO,
        }
    }

    /// Hands a request to a shard; its reply comes to `ticket`.
    ///
    /// # Errors
    /// Where the shard is not there yet, or the way to it is full.
    pub(crate) fn ask(
        &mut self,
        shard: u16,
        request_id: RequestId,
        request: ShardRequest,
    ) -> Result<(), ApiError> {
        let envelope = Envelope {
            origin: Origin {
                core: self.core,
                request_id,
            },
            request,
        };
        if shard == self.core {
            let now = self.now;
            self.shard
                .as_mut()
                .ok_or(ApiError::NotReady)?
                .request(envelope, now);
            Ok(())
        } else if self.sender.has_room(shard) {
            self.sender.send(shard, Message::Request(envelope));
            Ok(())
        } else {
            Err(ApiError::Overloaded)
        }
    }

    /// Takes a subscription back at a shard. Never refused: what is not taken back would stay for ever.
    pub(crate) fn unsubscribe(&mut self, shard: u16, request_id: RequestId, filter: Filter) {
        let request = ShardRequest::Unsubscribe(filter);
        let envelope = Envelope {
            origin: Origin {
                core: self.core,
                request_id,
            },
            request,
        };
        if shard != self.core {
            self.sender.send(shard, Message::Request(envelope));
        } else if let Some(own) = &mut self.shard {
            own.request(envelope, self.now);
        }
    }

    /// True where a success waits for the disk.
    pub(crate) fn is_sync(&self) -> bool {
        self.config.durability == Durability::Sync
    }

    /// Writes a success.
    pub(crate) fn write_success(&self, out: &mut Vec<u8>, meta: RequestMeta, body: &[u8]) {
        if meta.is_plain() && !body.is_empty() {
            self.heads.success.write(out, body.len() as u64, &[]);
            out.extend_from_slice(body);
            return;
        }
        let headers = &[CORS_ORIGIN];
        self.write_json(
            out,
            meta,
            Answer {
                status: 200,
                headers,
                body,
            },
        );
    }

    /// Writes an entity that was asked for.
    pub(crate) fn write_entity(
        &self,
        out: &mut Vec<u8>,
        meta: RequestMeta,
        (json, etag): (&[u8], &str),
    ) {
        let etag = ("ETag", etag);
        if meta.is_plain() {
            self.heads.entity.write(out, json.len() as u64, &[etag]);
            out.extend_from_slice(json);
            return;
        }
        let headers = &[etag, CORS_ORIGIN, CORS_EXPOSE];
        self.write_json(
            out,
            meta,
            Answer {
                status: 200,
                headers,
                body: json,
            },
        );
    }

    /// Writes a whole answer with a JSON body.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>, meta: RequestMeta, answer: Answer<'_>) {
        let head = ResponseHead {
            status: answer.status,
            content_type: (!answer.body.is_empty()).then_some("application/json"),
            body: if matches!(answer.status, 204 | 304) {
                BodyLength::None
            } else {
                BodyLength::Known(answer.body.len() as u64)
            },
            version: meta.version,
            keep_alive: meta.keep_alive,
            date: &self.date,
            headers: answer.headers,
        };
        head.write(out);
        if !meta.head_only {
            out.extend_from_slice(answer.body);
        }
    }

    /// Writes the answer that a refusal deserves.
    pub(crate) fn write_error(&self, out: &mut Vec<u8>, meta: RequestMeta, error: &ApiError) {
        let mut body = Vec::with_capacity(128);
        encode::error(&mut body, &error.to_string(), error.code());
        let retry_after = error
            .retry_after_seconds()
            .map(|seconds| seconds.to_string());
        let mut headers = vec![CORS_ORIGIN];
        if let Some(seconds) = &retry_after {
            headers.extend([("Retry-After", seconds.as_str()), CORS_EXPOSE]);
        }
        match error {
            // RFC 9110 §11.6.1: a 401 says what would do.
            ApiError::TokenMissing | ApiError::TokenMalformed | ApiError::TokenUnknown => {
                headers.push(("WWW-Authenticate", "Bearer realm=\"flux\""));
            }
            ApiError::Method { allow } => headers.push(("Allow", allow)),
            ApiError::Handshake(HandshakeError::Version) => {
                headers.extend([("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]);
            }
            _ => {}
        }
        self.write_json(
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

/// Heads of answers to HTTP/1.1 on connections that stay open.
#[derive(Debug, Default)]
struct Heads {
    success: PreparedHead,
    /// But for its tag.
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

/// An answer but for what comes from its request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    /// HTTP status.
    pub(crate) status: u16,
    /// Fields besides `Date`, `Content-*` and `Connection`.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// JSON, or nothing.
    pub(crate) body: &'a [u8],
}

/// Any origin may read any answer (API contract §4).
pub(crate) const CORS_ORIGIN: (&str, &str) = ("Access-Control-Allow-Origin", "*");
/// The fields that a page may read besides the usual ones.
pub(crate) const CORS_EXPOSE: (&str, &str) =
    ("Access-Control-Expose-Headers", "etag, link, retry-after");
