//! Where a request head ends, found once: each byte is looked at a single time, however it arrived.
//!
//! Finds the line feeds and requires a carriage return before each, because a bare LF ends a line
//! for some readers and not for others (RFC 9112 §2.2). Knows nothing of what the lines say.

use super::HttpError;
use crate::limits::{HEAD_BYTES_MAX, LEADING_EMPTY_LINES_MAX, REQUEST_LINE_BYTES_MAX};

/// The longest request line with its CRLF.
const REQUEST_LINE_WITH_END: usize = REQUEST_LINE_BYTES_MAX + 2;

const _: () = assert!(REQUEST_LINE_WITH_END < HEAD_BYTES_MAX);

/// How far the search for the end of one head has come. Offsets are from the head's first byte.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HeadScan {
    /// Bytes that hold no unexamined line feed.
    scanned: usize,
    /// Where the line being scanned began; 0 is the request line.
    line_start: usize,
    /// Empty lines passed over before the request line.
    empty_lines: u8,
}

impl HeadScan {
    /// True if no byte of this head was looked at yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.scanned == 0
    }

    /// True if `pending` begins with an empty line that belongs to no request; the caller
    /// consumes it.
    ///
    /// # Errors
    ///
    /// [`HttpError::LineEndMalformed`]: a bare CR or LF, or one empty line too many.
    pub(super) fn skip_empty_line(&mut self, pending: &[u8]) -> Result<bool, HttpError> {
        match pending {
            [b'\r', b'\n', ..] if self.empty_lines < LEADING_EMPTY_LINES_MAX => {
                self.empty_lines = self.empty_lines.saturating_add(1);
                Ok(true)
            }
            [b'\r'] => Ok(false),
            [b'\r' | b'\n', ..] => Err(HttpError::LineEndMalformed),
            _ => Ok(false),
        }
    }

    /// The length of the head at the front of `pending`, its empty line included, once it is all
    /// there.
    ///
    /// # Errors
    ///
    /// The first violation in the order of the bytes: a line or head over its limit, or a bare LF.
    pub(super) fn find_end(&mut self, pending: &[u8]) -> Result<Option<usize>, HttpError> {
        let scanned = self.scanned;
        let fresh = pending.get(scanned..).unwrap_or_default();
        for offset in memchr::memchr_iter(b'\n', fresh) {
            let line_end = scanned.saturating_add(offset).saturating_add(1);
            self.check_len(line_end)?;
            let line = pending.get(self.line_start..line_end).unwrap_or_default();
            match line {
                [b'\r', b'\n'] => return Ok(Some(line_end)),
                [.., b'\r', b'\n'] => self.line_start = line_end,
                _ => return Err(HttpError::LineEndMalformed),
            }
        }
        self.scanned = pending.len();
        // At least one more byte belongs to this line, so both limits are known to break now.
        self.check_len(pending.len().saturating_add(1))?;
        Ok(None)
    }

    /// Refuses a line that ends at `line_end` or later if that is too far.
    fn check_len(&self, line_end: usize) -> Result<(), HttpError> {
        if self.line_start == 0 && line_end > REQUEST_LINE_WITH_END {
            return Err(HttpError::RequestLineTooLong);
        }
        if line_end > HEAD_BYTES_MAX {
            return Err(HttpError::HeadTooLarge);
        }
        Ok(())
    }
}

/// True if a CR stands before every LF but the first byte. One pass without branches, which the
/// compiler widens.
pub(super) fn has_no_bare_line_feed(bytes: &[u8]) -> bool {
    let followers = bytes.get(1..).unwrap_or_default();
    let bare = bytes
        .iter()
        .zip(followers)
        .fold(0_u8, |bare, (&before, &byte)| {
            bare | u8::from(byte == b'\n' && before != b'\r')
        });
    bare == 0
}
