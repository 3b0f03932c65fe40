//! A chunked body decoded where it lies (RFC 9112 §7.1).
//!
//! The body's bytes in the receive buffer, from its first:
//!
//! ```text
//! | decoded data ... | gap: framing already decoded away | not yet decoded ... |
//! 0                  decoded                             read
//! ```
//!
//! Data moves down over its framing, so a body is contiguous without a second buffer. When all that
//! arrived is decoded the reader closes the gap, so that framing never piles up; at most one
//! unfinished line moves.
//!
//! Size and trailer lines are judged whole, when their line feed arrives. Extensions and trailers
//! are bounded, checked for control characters, and dropped.

use super::HttpError;
use crate::limits::{CHUNK_EXTENSION_BYTES_MAX, CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};

/// More hexadecimal digits than 64 bits hold are refused, leading zeros too.
const SIZE_DIGITS_MAX: usize = 16;

/// How far a chunked body has been decoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkedBody {
    expects: Expects,
    /// Bytes of data decoded so far, at the body's front.
    decoded: usize,
    /// Where decoding goes on.
    read: usize,
    /// Bytes after `read` known to hold no line feed.
    scanned: usize,
    /// Extension bytes so far, then trailer bytes.
    dropped: usize,
    /// The most that `decoded` may become.
    limit: usize,
}

#[derive(Debug, Clone, Copy)]
enum Expects {
    Size,
    Data { remaining: usize },
    DataEnd,
    Trailer,
}

/// A whole body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decoded {
    /// The data, from the body's first byte.
    pub(super) data_len: usize,
    /// Where the next request begins, from the body's first byte.
    pub(super) end: usize,
}

impl ChunkedBody {
    /// A body of at most `limit` bytes of data.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            expects: Expects::Size,
            decoded: 0,
            read: 0,
            scanned: 0,
            dropped: 0,
            limit,
        }
    }

    /// Decodes all that `body` holds; `Ok(None)` where more is needed. `body` begins with the
    /// body's first byte at every call, less the gaps closed.
    pub(super) fn decode(&mut self, body: &mut [u8]) -> Result<Option<Decoded>, HttpError> {
        loop {
            match self.expects {
                Expects::Size => {
                    let Some(line) = self.next_line(body)? else {
                        return Ok(None);
                    };
                    self.begin_chunk(line)?;
                }
                Expects::Data { remaining } => {
                    if !self.take_data(body, remaining) {
                        return Ok(None);
                    }
                }
                Expects::DataEnd => match body.get(self.read..).unwrap_or_default() {
                    [b'\r', b'\n', ..] => {
                        self.read = self.read.saturating_add(2);
                        self.expects = Expects::Size;
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(HttpError::ChunkEndMissing),
                },
                Expects::Trailer => {
                    let Some(line) = self.next_line(body)? else {
                        return Ok(None);
                    };
                    if line.is_empty() {
                        return Ok(Some(Decoded {
                            data_len: self.decoded,
                            end: self.read,
                        }));
                    }
                    self.drop_trailer(line)?;
                }
            }
        }
    }

    /// The bytes that decoding has freed, for the reader to remove; afterwards nothing lies between
    /// data and what is still to decode.
    pub(super) fn take_gap(&mut self) -> (usize, usize) {
        let gap = (self.decoded, self.read);
        self.read = self.decoded;
        gap
    }

    /// The next whole line without its CRLF, moving past it.
    fn next_line<'a>(&mut self, body: &'a [u8]) -> Result<Option<&'a [u8]>, HttpError> {
        let pending = body.get(self.read..).unwrap_or_default();
        let fresh = pending.get(self.scanned..).unwrap_or_default();
        let found = memchr::memchr(b'\n', fresh);
        // If no line feed came, one more byte is still to come.
        let end = self
            .scanned
            .saturating_add(found.unwrap_or(fresh.len()))
            .saturating_add(1);
        if end > CHUNK_LINE_BYTES_MAX.saturating_add(2) {
            return Err(HttpError::ChunkLineTooLong);
        }
        if found.is_none() {
            self.scanned = pending.len();
            return Ok(None);
        }
        self.scanned = 0;
        self.read = self.read.saturating_add(end);
        match pending.get(..end) {
            Some([line @ .., b'\r', b'\n']) => Ok(Some(line)),
            _ => Err(self.line_error()),
        }
    }

    fn line_error(&self) -> HttpError {
        match self.expects {
            Expects::Trailer => HttpError::TrailerInvalid,
            Expects::Size | Expects::Data { .. } | Expects::DataEnd => HttpError::ChunkSizeInvalid,
        }
    }

    fn begin_chunk(&mut self, line: &[u8]) -> Result<(), HttpError> {
        let (size, extension_len) = parse_size(line).ok_or(HttpError::ChunkSizeInvalid)?;
        self.dropped = self.dropped.saturating_add(extension_len);
        if self.dropped > CHUNK_EXTENSION_BYTES_MAX {
            return Err(HttpError::ChunkExtensionsTooLong);
        }
        if size == 0 {
            self.dropped = 0;
            self.expects = Expects::Trailer;
            return Ok(());
        }
        let room = self.limit.saturating_sub(self.decoded);
        match usize::try_from(size) {
            Ok(remaining) if remaining <= room => {
                self.expects = Expects::Data { remaining };
                Ok(())
            }
            _ => Err(HttpError::BodyTooLarge { limit: self.limit }),
        }
    }

    /// Moves what arrived of a chunk down to the data; true once it is whole.
    fn take_data(&mut self, body: &mut [u8], remaining: usize) -> bool {
        let arrived = body.len().saturating_sub(self.read).min(remaining);
        let end = self.read.saturating_add(arrived);
        body.copy_within(self.read..end, self.decoded);
        self.decoded = self.decoded.saturating_add(arrived);
        self.read = end;
        let remaining = remaining.saturating_sub(arrived);
        self.expects = if remaining == 0 {
            Expects::DataEnd
        } else {
            Expects::Data { remaining }
        };
        remaining == 0
    }

    fn drop_trailer(&mut self, line: &[u8]) -> Result<(), HttpError> {
        self.dropped = self.dropped.saturating_add(line.len()).saturating_add(2);
        if self.dropped > TRAILER_BYTES_MAX {
            return Err(HttpError::TrailersTooLarge);
        }
        let colon = memchr::memchr(b':', line).ok_or(HttpError::TrailerInvalid)?;
        let (name, value) = line
            .split_at_checked(colon)
            .ok_or(HttpError::TrailerInvalid)?;
        let valid = !name.is_empty() && name.iter().all(|&byte| is_token_byte(byte));
        if valid && value.iter().all(|&byte| is_text_byte(byte)) {
            Ok(())
        } else {
            Err(HttpError::TrailerInvalid)
        }
    }
}

/// `chunk-size [ chunk-ext ]`: the size, and the length of the extensions (RFC 9112 §7.1.1).
fn parse_size(line: &[u8]) -> Option<(u64, usize)> {
    let digits_len = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    if digits_len == 0 || digits_len > SIZE_DIGITS_MAX {
        return None;
    }
    let (digits, extensions) = line.split_at_checked(digits_len)?;
    let size = digits.iter().try_fold(0_u64, |size, &byte| {
        let digit = char::from(byte).to_digit(16)?;
        size.checked_mul(16)?.checked_add(u64::from(digit))
    })?;
    let well_formed = extensions.is_empty() || extensions.trim_ascii_start().starts_with(b";");
    (well_formed && extensions.iter().all(|&byte| is_text_byte(byte)))
        .then_some((size, extensions.len()))
}

/// A character that may stand in a field value or extension (RFC 9110 §5.5): no CR, no other
/// control.
fn is_text_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// `tchar` (RFC 9110 §5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
