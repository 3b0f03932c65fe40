//! The bytes of a request head → its index, and every rule that a head must keep.
//!
//! `parse` gets a whole head whose lines all end with CRLF (`scan`). `httparse` splits it and
//! checks tokens, single spaces, folding and control characters; here the fields that mean
//! something are picked out in one pass, then judged together: Host, framing, persistence, upgrade
//! (RFC 9112 §3, §6, §9).
//!
//! Fields that nothing acts on are checked for syntax and forgotten. A raw non-ASCII target is
//! accepted if it is UTF-8: clients send ids that way, and no two readers disagree about it.

use super::accept::accepts;
use super::head::{Coding, Field, Framing, Method, Version};
use super::index::{ContentEncoding, FieldSpan, HeadIndex, OtherCredentials, Span, UpgradeIndex};
use super::{HttpError, host};
use crate::limits::HEADER_COUNT_MAX;
use std::mem::MaybeUninit;

/// Parses the head at the front of `bytes`, which are at most
/// [`HEAD_BYTES_MAX`](crate::limits::HEAD_BYTES_MAX), and gives its length.
///
/// # Errors
///
/// Every variant of [`HttpError`] with status 400 but those of chunks,
/// [`HttpError::TooManyFields`], and [`HttpError::LineEndMalformed`] where the head is not whole.
pub(super) fn parse(bytes: &[u8]) -> Result<(HeadIndex, usize), HttpError> {
    let mut slots = [const { MaybeUninit::uninit() }; HEADER_COUNT_MAX];
    let mut request = httparse::Request::new(&mut []);
    let len = match request.parse_with_uninit_headers(bytes, &mut slots) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Err(HttpError::LineEndMalformed),
        Err(error) => return Err(syntax_error(error)),
    };
    let method_name = request.method.unwrap_or_default();
    let method = parse_method(method_name);
    let target = request.path.unwrap_or_default();
    let Target {
        authority,
        path,
        query,
    } = split_target(method, target).ok_or(HttpError::TargetMalformed)?;
    if method_name == "CONNECT" {
        return Err(HttpError::TargetMalformed);
    }
    let version = match request.version {
        Some(0) => Version::Http10,
        Some(1) => Version::Http11,
        _ => return Err(HttpError::VersionUnsupported),
    };
    let mut fields = Fields::default();
    for header in request.headers.iter() {
        fields.add(header.name.as_bytes(), header.value);
    }
    fields.check_host(version)?;
    let host = authority.map(str::as_bytes).or_else(|| fields.host.sent());
    let upgradable = version == Version::Http11;
    let index = HeadIndex {
        method,
        version,
        framing: fields.framing(version)?,
        keep_alive: fields.keep_alive(version),
        expect_continue: fields.expect_continue && version == Version::Http11,
        content_encoding: fields.content_encoding(),
        content_length: FieldSpan::of(fields.content_length, bytes),
        other_credentials: fields.other_credentials,
        path: if path.is_empty() {
            Span::default()
        } else {
            Span::of(path.as_bytes(), bytes)
        },
        query: query.map(|query| Span::of(query.as_bytes(), bytes)),
        host: host.map(|host| Span::of(host, bytes)),
        origin: FieldSpan::of(fields.origin, bytes),
        accept: FieldSpan::of(fields.accept, bytes),
        coding: fields.coding(),
        user_agent: FieldSpan::of(fields.user_agent, bytes),
        traceparent: FieldSpan::of(fields.traceparent, bytes),
        authorization: FieldSpan::of(fields.authorization, bytes),
        if_match: FieldSpan::of(fields.if_match, bytes),
        if_none_match: FieldSpan::of(fields.if_none_match, bytes),
        last_event_id: FieldSpan::of(fields.last_event_id, bytes),
        upgrade: UpgradeIndex {
            connection: upgradable && fields.connection.upgrade,
            websocket: upgradable && fields.upgrade_websocket,
            version: FieldSpan::of(fields.websocket_version, bytes),
            key: FieldSpan::of(fields.websocket_key, bytes),
        },
    };
    Ok((index, len))
}

fn syntax_error(error: httparse::Error) -> HttpError {
    use httparse::Error;
    match error {
        Error::HeaderName => HttpError::FieldNameMalformed,
        Error::HeaderValue => HttpError::FieldValueMalformed,
        Error::TooManyHeaders => HttpError::TooManyFields,
        Error::NewLine => HttpError::LineEndMalformed,
        Error::Version => HttpError::VersionUnsupported,
        Error::Status | Error::Token => HttpError::RequestLineMalformed,
    }
}

fn parse_method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        _ => Method::Other,
    }
}

/// The parts of a target (RFC 9112 §3.2).
#[derive(Debug)]
struct Target<'t> {
    /// Of an absolute target: it overrides `Host`.
    authority: Option<&'t str>,
    /// Empty if an absolute target has none.
    path: &'t str,
    query: Option<&'t str>,
}

fn split_target(method: Method, target: &str) -> Option<Target<'_>> {
    if memchr::memchr(b'#', target.as_bytes()).is_some() {
        return None;
    }
    if target == "*" {
        return (method == Method::Options).then_some(Target {
            authority: None,
            path: target,
            query: None,
        });
    }
    let (authority, origin) = if target.starts_with('/') {
        (None, target)
    } else {
        let (authority, origin) = split_authority(target)?;
        (Some(authority), origin)
    };
    let (path, query) = match origin.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin, None),
    };
    Some(Target {
        authority,
        path,
        query,
    })
}

/// The authority in `http://authority`, and what follows: nothing, or what begins with `/` or `?`.
fn split_authority(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, origin) = rest.split_at_checked(end)?;
    let named = !authority.is_empty() && !authority.starts_with(':');
    (named && host::is_valid(authority.as_bytes())).then_some((authority, origin))
}

/// What `Connection` lists, of what matters here.
#[derive(Debug, Default)]
struct ConnectionTokens {
    persistence: Persistence,
    upgrade: bool,
}

/// What the client said about the connection after the response; the last is the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Persistence {
    #[default]
    ByVersion,
    KeepAlive,
    Close,
}

/// The fields that mean something, as met.
#[derive(Debug, Default)]
struct Fields<'a> {
    host: Field<'a>,
    origin: Field<'a>,
    content_length: Field<'a>,
    transfer_encoding: Field<'a>,
    encoding: Field<'a>,
    accept: Field<'a>,
    accept_encoding: Field<'a>,
    user_agent: Field<'a>,
    traceparent: Field<'a>,
    authorization: Field<'a>,
    if_match: Field<'a>,
    if_none_match: Field<'a>,
    last_event_id: Field<'a>,
    websocket_version: Field<'a>,
    websocket_key: Field<'a>,
    connection: ConnectionTokens,
    upgrade_websocket: bool,
    expect_continue: bool,
    other_credentials: OtherCredentials,
}

impl<'a> Fields<'a> {
    /// Sorts by length first: one comparison then decides nearly every field.
    fn add(&mut self, name: &[u8], value: &'a [u8]) {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is(b"host") => self.host.add(value),
            6 if is(b"accept") => self.accept.add(value),
            10 if is(b"user-agent") => self.user_agent.add(value),
            11 if is(b"traceparent") => self.traceparent.add(value),
            6 if is(b"origin") => self.origin.add(value),
            6 if is(b"cookie") => self.other_credentials = OtherCredentials::Sent,
            6 if is(b"expect") => {
                self.expect_continue |= value.eq_ignore_ascii_case(b"100-continue");
            }
            7 if is(b"upgrade") => {
                self.upgrade_websocket |=
                    tokens(value).any(|token| token.eq_ignore_ascii_case(b"websocket"));
            }
            8 if is(b"if-match") => self.if_match.add(value),
            10 if is(b"connection") => self.connection.add(value),
            13 if is(b"authorization") => self.authorization.add(value),
            13 if is(b"if-none-match") => self.if_none_match.add(value),
            13 if is(b"last-event-id") => self.last_event_id.add(value),
            14 if is(b"content-length") => self.content_length.add(value),
            15 if is(b"accept-encoding") => self.accept_encoding.add(value),
            16 if is(b"content-encoding") => self.encoding.add(value),
            17 if is(b"transfer-encoding") => self.transfer_encoding.add(value),
            17 if is(b"sec-websocket-key") => self.websocket_key.add(value),
            19 if is(b"proxy-authorization") => self.other_credentials = OtherCredentials::Sent,
            21 if is(b"sec-websocket-version") => self.websocket_version.add(value),
            _ => {}
        }
    }

    /// RFC 9112 §3.2: exactly one valid `Host` in HTTP/1.1, at most one in 1.0.
    fn check_host(&self, version: Version) -> Result<(), HttpError> {
        match self.host {
            Field::Absent if version == Version::Http11 => Err(HttpError::HostMissing),
            Field::Absent => Ok(()),
            Field::One(value) if host::is_valid(value) => Ok(()),
            Field::One(_) => Err(HttpError::HostInvalid),
            Field::Repeated => Err(HttpError::HostRepeated),
        }
    }

    /// RFC 9112 §6.3, with each ambiguous case refused instead of resolved.
    fn framing(&self, version: Version) -> Result<Framing, HttpError> {
        match (self.transfer_encoding, self.content_length) {
            (Field::Absent, Field::Absent) => Ok(Framing::None),
            (Field::Absent, Field::One(value)) => parse_length(value)
                .map(Framing::Length)
                .ok_or(HttpError::ContentLengthInvalid),
            (Field::Absent, Field::Repeated) => Err(HttpError::ContentLengthRepeated),
            (_, Field::One(_) | Field::Repeated) => Err(HttpError::FramingConflict),
            _ if version == Version::Http10 => Err(HttpError::TransferEncodingInOldVersion),
            (Field::One(value), Field::Absent) if value.eq_ignore_ascii_case(b"chunked") => {
                Ok(Framing::Chunked)
            }
            _ => Err(HttpError::TransferEncodingInvalid),
        }
    }

    /// RFC 9112 §9.3.
    fn keep_alive(&self, version: Version) -> bool {
        match self.connection.persistence {
            Persistence::ByVersion => version == Version::Http11,
            Persistence::KeepAlive => true,
            Persistence::Close => false,
        }
    }

    /// RFC 9110 §12.5.3. A list in several fields is none that is looked at.
    fn coding(&self) -> Coding {
        let named = self
            .accept_encoding
            .sent()
            .and_then(|list| accepts(list, b"gzip").or_else(|| accepts(list, b"*")));
        match named {
            Some(true) => Coding::Gzip,
            Some(false) | None => Coding::Identity,
        }
    }

    fn content_encoding(&self) -> ContentEncoding {
        match self.encoding {
            Field::Absent => ContentEncoding::Identity,
            Field::One(value) if value.eq_ignore_ascii_case(b"identity") => {
                ContentEncoding::Identity
            }
            Field::One(_) | Field::Repeated => ContentEncoding::Unsupported,
        }
    }
}

impl ConnectionTokens {
    fn add(&mut self, value: &[u8]) {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"keep-alive") {
                self.persistence = self.persistence.max(Persistence::KeepAlive);
            } else if token.eq_ignore_ascii_case(b"close") {
                self.persistence = Persistence::Close;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            }
        }
    }
}

/// The members of a comma-separated list (RFC 9110 §5.6.1).
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// `1*DIGIT` within 64 bits (RFC 9110 §8.6).
pub(super) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |length, byte| {
        let digit = byte.checked_sub(b'0').filter(|&digit| digit <= 9)?;
        length.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
