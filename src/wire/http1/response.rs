//! Responses → bytes, appended to the connection's output buffer. No formatting machinery: this
//! runs for every event.
//!
//! Values that came from outside (an id in a `Link`) cannot end a line: control characters in them
//! become spaces. Names come from code, and a bad one is a bug.

use super::chunked::is_token_byte;
use super::{ImfFixdate, Version};
use crate::model::{write_decimal, write_hex};

/// The interim response that [`Next::Continue`](super::Next::Continue) asks for (RFC 9110 §15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Of every response: a browser takes `Content-Type` at its word, and runs no entity as a script
/// (Fetch standard §3.6).
const NO_SNIFFING: &[u8] = b"\r\nX-Content-Type-Options: nosniff";

const CONTENT_LENGTH: &[u8] = b"\r\nContent-Length: ";

/// How the client learns where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// `Content-Length`. For HEAD and 304: what GET would have sent; the body itself is left out.
    Known(u64),
    /// By [`write_chunk`] and [`write_last_chunk`]; only to HTTP/1.1.
    Chunked,
    /// The body ends with the connection, which is told to the client; for streams to HTTP/1.0.
    UntilClose,
    /// A status that has no body: 1xx, 204, 304.
    None,
}

/// Everything before the body.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    /// 100 to 999.
    pub status: u16,
    /// `Content-Type`
    pub content_type: Option<&'a str>,
    /// How the body ends.
    pub body: BodyLength,
    /// The version of the request that is answered.
    pub version: Version,
    /// The connection stays open afterwards.
    pub keep_alive: bool,
    /// `Date`, see [`imf_fixdate`](super::imf_fixdate).
    pub date: &'a ImfFixdate,
    /// Any other fields.
    pub headers: &'a [(&'a str, &'a str)],
}

impl ResponseHead<'_> {
    /// Appends the head with its empty line.
    ///
    /// # Panics
    ///
    /// A status outside 100 to 999, a field name that is no token, or chunks to HTTP/1.0: bugs of
    /// the caller.
    pub fn write(&self, out: &mut Vec<u8>) {
        assert!(
            self.body != BodyLength::Chunked || self.version == Version::Http11,
            "HTTP/1.0 has no chunks"
        );
        self.write_start(out);
        match self.body {
            BodyLength::Known(length) => write_length(out, length),
            BodyLength::Chunked => out.extend_from_slice(b"\r\nTransfer-Encoding: chunked"),
            BodyLength::UntilClose | BodyLength::None => {}
        }
        self.write_end(out);
    }

    /// The head of answers that differ in the length of their body, which is known, and in fields
    /// of their own. `body` is not looked at.
    ///
    /// # Panics
    ///
    /// As [`ResponseHead::write`].
    pub fn prepare(&self) -> PreparedHead {
        let (mut start, mut end) = (Vec::new(), Vec::new());
        self.write_start(&mut start);
        start.extend_from_slice(CONTENT_LENGTH);
        self.write_end(&mut end);
        PreparedHead { start, end }
    }

    /// What comes before the length of the body.
    fn write_start(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        self.write_status(out);
        out.extend_from_slice(b"\r\nDate: ");
        out.extend_from_slice(self.date);
        out.extend_from_slice(NO_SNIFFING);
        if let Some(content_type) = self.content_type {
            out.extend_from_slice(b"\r\nContent-Type: ");
            write_value(out, content_type);
        }
    }

    /// What comes after it, the empty line included.
    fn write_end(&self, out: &mut Vec<u8>) {
        let keep_alive = self.keep_alive && self.body != BodyLength::UntilClose;
        match (self.version, keep_alive) {
            (Version::Http11, true) => {}
            (Version::Http10, true) => out.extend_from_slice(b"\r\nConnection: keep-alive"),
            (_, false) => out.extend_from_slice(b"\r\nConnection: close"),
        }
        write_fields(out, self.headers);
        out.extend_from_slice(b"\r\n\r\n");
    }

    fn write_status(&self, out: &mut Vec<u8>) {
        assert!(
            (100..1000).contains(&self.status),
            "three digits: {}",
            self.status
        );
        write_decimal(out, u64::from(self.status));
        out.push(b' ');
        out.extend_from_slice(reason_phrase(self.status).as_bytes());
    }
}

/// A head of which all but the body's length and some fields was written once, see
/// [`ResponseHead::prepare`].
#[derive(Debug, Clone, Default)]
pub struct PreparedHead {
    start: Vec<u8>,
    end: Vec<u8>,
}

impl PreparedHead {
    /// Appends the head of an answer with such a body. `fields` appends the fields of its own, each
    /// with the end of the line before it: what it writes is not checked. Cost: two copies.
    pub fn write(&self, out: &mut Vec<u8>, body_bytes: u64, fields: impl FnOnce(&mut Vec<u8>)) {
        out.extend_from_slice(&self.start);
        write_decimal(out, body_bytes);
        fields(out);
        out.extend_from_slice(&self.end);
    }
}

fn write_length(out: &mut Vec<u8>, body_bytes: u64) {
    out.extend_from_slice(CONTENT_LENGTH);
    write_decimal(out, body_bytes);
}

fn write_fields(out: &mut Vec<u8>, headers: &[(&str, &str)]) {
    for (name, value) in headers {
        assert!(
            !name.is_empty() && name.bytes().all(is_token_byte),
            "field names are tokens: {name:?}"
        );
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        write_value(out, value);
    }
}

/// The standard phrase of a status; empty for one that the server never sends.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

/// Appends one chunk; nothing for no data, since an empty chunk would end the body (RFC 9112 §7.1).
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    write_hex(out, data.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body, without trailers.
pub fn write_last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

/// Appends a field value in which no byte can end the line.
fn write_value(out: &mut Vec<u8>, value: &str) {
    // Without an early end, so that it takes many bytes at a time.
    if (value.bytes()).fold(false, |found, byte| found | is_control(byte)) {
        out.extend(
            value
                .bytes()
                .map(|byte| if is_control(byte) { b' ' } else { byte }),
        );
    } else {
        out.extend_from_slice(value.as_bytes());
    }
}

fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}
