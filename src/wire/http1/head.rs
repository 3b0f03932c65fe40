//! The request head as the rest of the server sees it. `parse` makes it, by way of `index`.

/// The method, as far as anything here depends on it. Case-sensitive (RFC 9110 §9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// `PATCH`
    Patch,
    /// Any other token; no path has it.
    Other,
}

/// The protocol version of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no chunks, no interim responses, closes unless told otherwise.
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How the end of the body is known (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// `Content-Length`, bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
}

impl Framing {
    /// True if bytes of a body follow the head.
    pub fn has_body(self) -> bool {
        !matches!(self, Self::None | Self::Length(0))
    }
}

/// A header field whose repetition changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Field<'a> {
    /// Not sent.
    #[default]
    Absent,
    /// Sent once: the value, without surrounding white space. Maybe empty, maybe not UTF-8.
    One(&'a [u8]),
    /// Sent more than once.
    Repeated,
}

impl<'a> Field<'a> {
    /// The value of a field that was sent once.
    pub(super) fn sent(self) -> Option<&'a [u8]> {
        match self {
            Self::One(value) => Some(value),
            Self::Absent | Self::Repeated => None,
        }
    }

    /// Notes one more field of this name.
    pub(super) fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::One(value),
            Self::One(_) | Self::Repeated => Self::Repeated,
        };
    }
}

/// A content coding of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
}

/// What a request says about changing protocols; `ws::accept` judges it (RFC 6455 §4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// `Connection` lists `upgrade`. Always false in HTTP/1.0, which has no upgrades (RFC 9110
    /// §7.8).
    pub connection: bool,
    /// `Upgrade` lists `websocket`. Always false in HTTP/1.0.
    pub websocket: bool,
    /// `Sec-WebSocket-Version`
    pub version: Field<'a>,
    /// `Sec-WebSocket-Key`
    pub key: Field<'a>,
}

/// A request head that kept every rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// The method.
    pub method: Method,
    /// The path as sent, percent-encoded; begins with `/`, or is `*` for `OPTIONS *`.
    pub path: &'a str,
    /// What follows the first `?`, as sent.
    pub query: Option<&'a str>,
    /// The client's version.
    pub version: Version,
    /// The client can use the connection again after the response (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// How the body ends.
    pub framing: Framing,
    /// The client waits for `100 Continue`; the reader asks for it by `Next::Continue`.
    pub expect_continue: bool,
    /// Whom the request asks: the authority of an absolute target, or else `Host` (RFC 9112
    /// §3.2.2).
    pub host: Option<&'a [u8]>,
    /// `Origin`: the web page that sends the request.
    pub origin: Field<'a>,
    /// `Accept`: the media types that the client takes.
    pub accept: Field<'a>,
    /// `Accept-Encoding`: the best that the client takes.
    pub coding: Coding,
    /// `User-Agent`: what the client calls itself.
    pub user_agent: Field<'a>,
    /// `Traceparent`: the trace that the request is a part of (W3C Trace Context).
    pub traceparent: Field<'a>,
    /// `Authorization`
    pub authorization: Field<'a>,
    /// `If-Match`
    pub if_match: Field<'a>,
    /// `If-None-Match`
    pub if_none_match: Field<'a>,
    /// `Last-Event-ID`
    pub last_event_id: Field<'a>,
    /// Protocol change.
    pub upgrade: Upgrade<'a>,
    /// All of it as sent, for [`Head::field`].
    pub(super) bytes: &'a [u8],
}

impl<'a> Head<'a> {
    /// A field that few calls look at, by its name in any case. It walks over all fields, so that
    /// no other call pays for it.
    pub fn field(&self, name: &str) -> Field<'a> {
        let mut field = Field::Absent;
        let lines = self.bytes.split(|byte| *byte == b'\n').skip(1);
        // What follows the empty line is the body.
        for line in lines.take_while(|line| !line.trim_ascii().is_empty()) {
            let mut parts = line.splitn(2, |byte| *byte == b':');
            if let (Some(sent), Some(value)) = (parts.next(), parts.next())
                && sent.eq_ignore_ascii_case(name.as_bytes())
            {
                field.add(value.trim_ascii());
            }
        }
        field
    }

    /// Bytes of the path and the query.
    pub fn target_len(&self) -> usize {
        self.path
            .len()
            .saturating_add(self.query.map_or(0, str::len))
    }
}
