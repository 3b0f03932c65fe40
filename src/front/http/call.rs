//! A request that waits for its outcome, and what its answer needs to know of it.

use super::writer::AnswerWriter;
use crate::api::ApiError;
use crate::api::metrics::RoutePattern;
use crate::front::mcp::McpCall;
use crate::service::Pending;
use crate::wire::http1::{Field, Head, Method, Version};

/// What an answer's head needs to know of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestMeta {
    /// The client's version.
    pub(super) version: Version,
    /// The connection stays open.
    pub(super) keep_alive: bool,
    /// `HEAD`: everything but the body.
    pub(super) head_only: bool,
    /// What sent it.
    pub(super) sender: Sender,
    /// What it is counted under.
    pub(super) pattern: RoutePattern,
    /// What it does if it is carried out.
    pub(super) purpose: Purpose,
    /// When the answer counts.
    pub(super) counts: Counts,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It stores events: what it is refused for counts as a refused event.
    Store,
    /// Anything else.
    Other,
}

impl Purpose {
    const fn of(pattern: RoutePattern) -> Self {
        if pattern.stores_events() {
            Self::Store
        } else {
            Self::Other
        }
    }
}

/// When an answer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counts {
    /// When it is written.
    AtOnce,
    /// When it may be seen. If the flush fails that it waits for, another is in its place.
    WhenSeen,
}

/// What sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// A web page, or perhaps one: it reads only the fields that an answer exposes.
    Page,
    /// Any other program.
    Program,
}

impl RequestMeta {
    /// Of a request head.
    pub(super) fn of(head: &Head<'_>, pattern: RoutePattern) -> Self {
        Self {
            version: head.version,
            keep_alive: head.keep_alive,
            head_only: head.method == Method::Head,
            sender: match head.origin {
                Field::Absent => Sender::Program,
                Field::One(_) | Field::Repeated => Sender::Page,
            },
            pattern,
            purpose: Purpose::of(pattern),
            counts: Counts::AtOnce,
        }
    }

    /// True of an answer with its body, to HTTP/1.1 and no web page, on a connection that stays
    /// open.
    pub(super) fn is_plain(self) -> bool {
        self.version == Version::Http11 && self.keep_alive && !self.head_only && !self.is_of_page()
    }

    /// True if a web page may read the answer.
    pub(super) fn is_of_page(self) -> bool {
        self.sender == Sender::Page
    }

    /// True if its client takes bodies in chunks.
    pub(crate) fn takes_chunks(self) -> bool {
        self.version == Version::Http11
    }

    /// True if the connection stays open.
    pub(crate) const fn keeps_alive(self) -> bool {
        self.keep_alive
    }

    /// Closes the connection after the answer.
    pub(super) fn close(&mut self) {
        self.keep_alive = false;
    }

    /// For an answer to what is no request, after which the connection closes.
    pub(crate) const CLOSING: Self = Self {
        version: Version::Http11,
        keep_alive: false,
        head_only: false,
        sender: Sender::Page,
        pattern: RoutePattern::Other,
        purpose: Purpose::Other,
        counts: Counts::AtOnce,
    };

    /// The same for a request that is refused before it is whole.
    pub(crate) const fn closing(pattern: RoutePattern) -> Self {
        Self {
            pattern,
            purpose: Purpose::of(pattern),
            ..Self::CLOSING
        }
    }

    /// Of the answer that takes the place of one that nobody will see. What was to store events is
    /// counted by itself.
    pub(super) const fn in_place(self) -> Self {
        Self {
            keep_alive: false,
            purpose: Purpose::Other,
            counts: Counts::AtOnce,
            ..self
        }
    }
}

/// A request that waits for its outcome.
#[derive(Debug)]
pub(super) struct HttpCall {
    /// For the answer's head.
    pub(super) meta: RequestMeta,
    /// The client's `If-None-Match`.
    pub(super) if_none_match: Option<Box<[u8]>>,
    /// A part of its answer is written: it can no longer fail but by breaking the connection.
    pub(super) has_begun: bool,
    /// Bytes of its body and its target: others hold what they say until it is answered.
    pub(super) body_bytes: usize,
    /// What it waits for.
    pub(super) pending: Pending,
    /// What its outcome is answered as, if it came as a message of `POST /mcp`.
    pub(super) mcp: Option<Box<McpCall>>,
    /// Events of its stream that are sent once it is at the front.
    pub(super) owed: Vec<u8>,
}

impl HttpCall {
    /// Writes a refusal as its answer.
    pub(super) fn write_refusal(&self, writer: &AnswerWriter, out: &mut Vec<u8>, error: &ApiError) {
        match &self.mcp {
            Some(mcp) => writer.message(out, self.meta, (200, &mcp.refusal(error))),
            None => writer.error(out, self.meta, error),
        }
    }

    /// Heap that it holds.
    pub(super) fn heap_bytes(&self) -> usize {
        let field = self.if_none_match.as_ref().map_or(0, |field| field.len());
        let mcp = self.mcp.as_ref().map_or(0, |mcp| mcp.heap_bytes());
        field + self.pending.heap_bytes() + mcp + self.owed.capacity()
    }
}
