//! A parsed head without its bytes: what was decided, and where the texts lie.
//!
//! The reader keeps it while a body arrives in pieces, so that a head is parsed once. Offsets are
//! 16 bits, which the limit on heads allows, so that a connection stays small.

use super::head::{Coding, Field, Framing, Head, Method, Upgrade, Version};
use crate::limits::HEAD_BYTES_MAX;

const _: () = assert!(HEAD_BYTES_MAX < u16::MAX as usize);

/// A part of the head, as offsets from its first byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// Where `part`, a slice out of `head`, lies in it.
    pub(super) fn of(part: &[u8], head: &[u8]) -> Self {
        let start = part.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
        let end = start.wrapping_add(part.len());
        assert!(end <= head.len() && start <= end, "a part of this head");
        let narrow = |offset| u16::try_from(offset).expect("heads are at most HEAD_BYTES_MAX");
        Self {
            start: narrow(start),
            end: narrow(end),
        }
    }

    /// Where it begins and ends.
    pub(super) fn range(self) -> (usize, usize) {
        (usize::from(self.start), usize::from(self.end))
    }

    /// The same part of a head whose path ends at `end` and not at `before`. What lies before the
    /// path stays where it is.
    pub(super) fn behind_path(self, before: usize, end: usize) -> Self {
        if usize::from(self.start) < before {
            return self;
        }
        let moved = |offset: u16| {
            let offset = usize::from(offset).wrapping_sub(before).wrapping_add(end);
            u16::try_from(offset).unwrap_or(u16::MAX)
        };
        Self {
            start: moved(self.start),
            end: moved(self.end),
        }
    }

    fn bytes(self, head: &[u8]) -> &[u8] {
        head.get(usize::from(self.start)..usize::from(self.end))
            .unwrap_or_default()
    }

    fn text(self, head: &[u8]) -> &str {
        str::from_utf8(self.bytes(head)).unwrap_or_default()
    }
}

/// [`Field`] by offsets. One that is not there, or is there more than once, has offsets that no
/// part of a head has: a tag of its own would cost two bytes for each field of each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FieldSpan(Span);

impl Default for FieldSpan {
    fn default() -> Self {
        Self::ABSENT
    }
}

impl FieldSpan {
    const ABSENT: Self = Self(Span {
        start: u16::MAX,
        end: u16::MAX,
    });
    pub(super) const REPEATED: Self = Self(Span {
        start: u16::MAX,
        end: 0,
    });

    pub(super) fn of(field: Field<'_>, head: &[u8]) -> Self {
        match field {
            Field::Absent => Self::ABSENT,
            Field::One(value) => Self(Span::of(value, head)),
            Field::Repeated => Self::REPEATED,
        }
    }

    /// Where it begins and ends, of a field that was sent once.
    pub(super) fn range(self) -> Option<(usize, usize)> {
        (self.0.start != u16::MAX).then(|| self.0.range())
    }

    /// As [`Span::behind_path`].
    pub(super) fn behind_path(self, before: usize, end: usize) -> Self {
        match self {
            Self::ABSENT | Self::REPEATED => self,
            Self(span) => Self(span.behind_path(before, end)),
        }
    }

    fn view(self, head: &[u8]) -> Field<'_> {
        match self {
            Self::ABSENT => Field::Absent,
            Self::REPEATED => Field::Repeated,
            Self(span) => Field::One(span.bytes(head)),
        }
    }
}

/// Everything [`Head`] says, owning nothing of the buffer. Written by `parse`.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadIndex {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) expect_continue: bool,
    /// A `Content-Encoding` other than `identity`; an error only if there is a body.
    pub(super) content_encoding: ContentEncoding,
    /// Where its digits lie, for `known`.
    pub(super) content_length: FieldSpan,
    /// What `known` must not keep.
    pub(super) other_credentials: OtherCredentials,
    /// Empty for an absolute-form target without a path, which means `/`.
    pub(super) path: Span,
    pub(super) query: Option<Span>,
    pub(super) host: Option<Span>,
    pub(super) origin: FieldSpan,
    pub(super) accept: FieldSpan,
    pub(super) coding: Coding,
    pub(super) user_agent: FieldSpan,
    pub(super) traceparent: FieldSpan,
    pub(super) authorization: FieldSpan,
    pub(super) if_match: FieldSpan,
    pub(super) if_none_match: FieldSpan,
    pub(super) last_event_id: FieldSpan,
    pub(super) upgrade: UpgradeIndex,
}

/// [`Upgrade`] by offsets.
#[derive(Debug, Clone, Copy)]
pub(super) struct UpgradeIndex {
    pub(super) connection: bool,
    pub(super) websocket: bool,
    pub(super) version: FieldSpan,
    pub(super) key: FieldSpan,
}

/// Whether `Cookie` or `Proxy-Authorization` came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum OtherCredentials {
    #[default]
    Absent,
    Sent,
}

/// Whether a body could be read as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentEncoding {
    Identity,
    Unsupported,
}

impl HeadIndex {
    /// True if nothing of it is looked at where it lies but the path and what `KnownHead` moves
    /// with it.
    pub(super) fn is_path_only(&self) -> bool {
        let UpgradeIndex { version, key, .. } = &self.upgrade;
        let fields = [
            self.content_length,
            self.origin,
            self.last_event_id,
            self.authorization,
            self.if_match,
            self.if_none_match,
            *version,
            *key,
        ];
        let mut fields = fields.iter();
        self.query.is_none() && fields.all(|field| *field == FieldSpan::ABSENT)
    }

    /// The path as callers see it; `head` are the bytes that the index was made of.
    pub(super) fn path<'a>(&self, head: &'a [u8]) -> &'a str {
        match self.path.text(head) {
            "" => "/",
            path => path,
        }
    }

    /// The head as callers see it; `head` are the bytes that it was parsed from.
    pub(super) fn view<'a>(&self, head: &'a [u8]) -> Head<'a> {
        Head {
            method: self.method,
            path: self.path(head),
            query: self.query.map(|query| query.text(head)),
            version: self.version,
            keep_alive: self.keep_alive,
            framing: self.framing,
            expect_continue: self.expect_continue,
            host: self.host.map(|host| host.bytes(head)),
            origin: self.origin.view(head),
            accept: self.accept.view(head),
            coding: self.coding,
            user_agent: self.user_agent.view(head),
            traceparent: self.traceparent.view(head),
            authorization: self.authorization.view(head),
            if_match: self.if_match.view(head),
            if_none_match: self.if_none_match.view(head),
            last_event_id: self.last_event_id.view(head),
            upgrade: Upgrade {
                connection: self.upgrade.connection,
                websocket: self.upgrade.websocket,
                version: self.upgrade.version.view(head),
                key: self.upgrade.key.view(head),
            },
            bytes: head,
        }
    }
}
