//! Where requests end in a stream of bytes.
//!
//! A head ends at an empty line; a body is as long as `Content-Length` says, and is skipped, not
//! kept. An incomplete head must be offered again from its first byte, with more bytes behind it; a
//! body may arrive in any pieces. Chunked bodies are not understood: our load generator sends none.

use memchr::{memchr, memmem};

/// Longest head that is waited for, bytes. A peer that sends a longer one is dropped.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What a stretch of input held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bytes that need not be offered again.
    pub(super) consumed: usize,
    /// Requests that ended in this stretch.
    pub(super) requests: usize,
}

/// Input that this server does not serve.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unserved;

/// Follows the requests of one connection.
#[derive(Debug)]
pub(super) struct Framing {
    head_end: memmem::Finder<'static>,
    /// Bytes of the current body that have not arrived yet.
    body_left: usize,
}

impl Framing {
    pub(super) fn new() -> Self {
        Self {
            head_end: memmem::Finder::new(b"\r\n\r\n"),
            body_left: 0,
        }
    }

    /// Moves past all that is complete in `input`.
    ///
    /// # Errors
    /// A head over [`HEAD_BYTES_MAX`], or a `Content-Length` that is no number.
    pub(super) fn advance(&mut self, input: &[u8]) -> Result<Progress, Unserved> {
        let mut progress = Progress {
            consumed: 0,
            requests: 0,
        };
        loop {
            let rest = &input[progress.consumed..];
            if self.body_left > 0 {
                let skipped = self.body_left.min(rest.len());
                self.body_left -= skipped;
                progress.consumed += skipped;
                if self.body_left > 0 {
                    return Ok(progress);
                }
                progress.requests += 1;
                continue;
            }
            let Some(head_len) = self.head_end.find(rest) else {
                let too_long = rest.len() > HEAD_BYTES_MAX;
                return if too_long {
                    Err(Unserved)
                } else {
                    Ok(progress)
                };
            };
            self.body_left = content_length(&rest[..head_len + 2])?;
            progress.consumed += head_len + 4;
            if self.body_left == 0 {
                progress.requests += 1;
            }
        }
    }
}

/// `head` ends with the line break of its last field.
fn content_length(mut head: &[u8]) -> Result<usize, Unserved> {
    const NAME: &[u8] = b"content-length:";
    while let Some(line_len) = memchr(b'\n', head) {
        let line = &head[..line_len];
        if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            let value = str::from_utf8(&line[NAME.len()..]).unwrap_or_default();
            return value.trim().parse().or(Err(Unserved));
        }
        head = &head[line_len + 1..];
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n\
        POST /b HTTP/1.1\r\ncontent-LENGTH: 5\r\nHost: x\r\n\r\nhello\
        POST /c HTTP/1.1\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn every_split_of_a_stream_counts_the_same_requests() {
        for split in 0..=STREAM.len() {
            let mut framing = Framing::new();
            let early = framing.advance(&STREAM[..split]).unwrap();
            let late = framing.advance(&STREAM[early.consumed..]).unwrap();
            assert_eq!(early.requests + late.requests, 3, "split at {split}");
            assert_eq!(
                early.consumed + late.consumed,
                STREAM.len(),
                "split at {split}"
            );
        }
    }

    #[test]
    fn a_head_is_waited_for_up_to_its_limit() {
        let head = |len: usize| vec![b'a'; len];
        let waiting = Progress {
            consumed: 0,
            requests: 0,
        };
        assert_eq!(Framing::new().advance(&head(HEAD_BYTES_MAX)), Ok(waiting));
        assert_eq!(
            Framing::new().advance(&head(HEAD_BYTES_MAX + 1)),
            Err(Unserved)
        );
    }

    #[test]
    fn a_length_that_is_no_number_is_refused() {
        for value in ["-1", "five", "", "99999999999999999999999"] {
            let request = format!("POST / HTTP/1.1\r\nContent-Length: {value}\r\n\r\n");
            assert_eq!(
                Framing::new().advance(request.as_bytes()),
                Err(Unserved),
                "{value:?}"
            );
        }
    }
}
