//! Where answers end in a stream of bytes, and what they begin with.
//!
//! Status line, `Content-Length` and `Transfer-Encoding: chunked` (RFC 9112 §6, §7.1); nothing else
//! of a head is looked at. Bodies are not gathered but counted: only the first bytes that the
//! workload asked for are kept. An incomplete head or chunk-size line stays unconsumed and must be
//! offered again with more behind it.

use memchr::{memchr, memmem};

/// Not an answer that this client understands.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's answer is not HTTP/1.1 as expected")]
pub(crate) struct Malformed;

/// One complete answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    /// The body, or as much of it as the reader keeps.
    pub(crate) body_start: &'a [u8],
    /// Bytes of the body, kept or not.
    pub(crate) body_len: usize,
    /// The request that it answers, if answers may come in another order.
    pub(crate) id: Option<u64>,
}

impl Answer<'_> {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expecting {
    Head,
    Body {
        left: usize,
    },
    ChunkLine,
    /// Data and the line break behind it.
    ChunkData {
        left: usize,
    },
    Trailer,
}

/// Follows the answers of one connection.
#[derive(Debug)]
pub(crate) struct AnswerReader {
    head_end: memmem::Finder<'static>,
    expecting: Expecting,
    status: u16,
    body_start: Vec<u8>,
    body_len: usize,
    keep_bytes_max: usize,
}

impl AnswerReader {
    /// Keeps the first `keep_bytes_max` bytes of each body.
    pub(crate) fn new(keep_bytes_max: usize) -> Self {
        Self {
            head_end: memmem::Finder::new(b"\r\n\r\n"),
            expecting: Expecting::Head,
            status: 0,
            body_start: Vec::new(),
            body_len: 0,
            keep_bytes_max,
        }
    }

    /// Consumes from `input` up to the end of the next answer; `None` when that has not arrived.
    ///
    /// # Errors
    /// When the bytes are no answer; the connection is of no use then.
    pub(crate) fn next<'a>(
        &'a mut self,
        input: &mut &[u8],
    ) -> Result<Option<Answer<'a>>, Malformed> {
        loop {
            let complete = match self.expecting {
                Expecting::Head => match self.head_end.find(input) {
                    Some(head_len) => {
                        let head = &input[..head_len + 2];
                        *input = &input[head_len + 4..];
                        self.begin(head)?
                    }
                    None => return Ok(None),
                },
                Expecting::Body { left } => match self.take(input, left) {
                    0 => true,
                    left => {
                        self.expecting = Expecting::Body { left };
                        return Ok(None);
                    }
                },
                Expecting::ChunkLine | Expecting::Trailer => match take_line(input) {
                    Some(line) => self.line(line)?,
                    None => return Ok(None),
                },
                Expecting::ChunkData { left } => match self.take_chunk(input, left) {
                    0 => {
                        self.expecting = Expecting::ChunkLine;
                        false
                    }
                    left => {
                        self.expecting = Expecting::ChunkData { left };
                        return Ok(None);
                    }
                },
            };
            if complete {
                self.expecting = Expecting::Head;
                let Self {
                    status,
                    body_start,
                    body_len,
                    ..
                } = self;
                return Ok(Some(Answer {
                    status: *status,
                    body_start,
                    body_len: *body_len,
                    id: None,
                }));
            }
        }
    }

    /// Returns whether the answer ends with its head.
    fn begin(&mut self, head: &[u8]) -> Result<bool, Malformed> {
        self.body_start.clear();
        self.body_len = 0;
        let status = head
            .strip_prefix(b"HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .ok_or(Malformed)?;
        self.status = parse_number(status, 10)?.try_into().or(Err(Malformed))?;
        self.expecting = body_of(head)?;
        if matches!(self.status, 100..=199 | 204 | 304) {
            return Ok(true);
        }
        Ok(self.expecting == Expecting::Body { left: 0 })
    }

    /// A chunk-size line or a line of the trailer. Returns whether the answer ends with it.
    fn line(&mut self, line: &[u8]) -> Result<bool, Malformed> {
        if self.expecting == Expecting::Trailer {
            return Ok(line.is_empty());
        }
        let size = line.split(|&byte| byte == b';').next().unwrap_or_default();
        self.expecting = match parse_number(size.trim_ascii(), 16)? {
            0 => Expecting::Trailer,
            size => Expecting::ChunkData {
                left: size.checked_add(2).ok_or(Malformed)?,
            },
        };
        Ok(false)
    }

    /// Counts up to `left` bytes of body and returns how many are still missing.
    fn take(&mut self, input: &mut &[u8], left: usize) -> usize {
        let (body, rest) = input.split_at(left.min(input.len()));
        *input = rest;
        self.body_len += body.len();
        let room = self.keep_bytes_max - self.body_start.len();
        self.body_start
            .extend_from_slice(&body[..room.min(body.len())]);
        left - body.len()
    }

    /// Like [`Self::take`]; the last two bytes are a line break.
    fn take_chunk(&mut self, input: &mut &[u8], left: usize) -> usize {
        let data_left = self.take(input, left.saturating_sub(2));
        if data_left > 0 {
            return data_left + 2;
        }
        let break_left = left.min(2);
        let skipped = break_left.min(input.len());
        *input = &input[skipped..];
        break_left - skipped
    }
}

/// How the body behind `head` is delimited.
fn body_of(mut head: &[u8]) -> Result<Expecting, Malformed> {
    let mut expecting = Expecting::Body { left: 0 };
    while let Some(line) = take_line(&mut head) {
        // Few names begin with these letters, so the first byte decides for most lines.
        match line.first() {
            Some(b'c' | b'C') => {
                if let Some(value) = value_of(line, b"content-length:") {
                    expecting = Expecting::Body {
                        left: parse_number(value, 10)?,
                    };
                }
            }
            Some(b't' | b'T') if value_of(line, b"transfer-encoding:") == Some(b"chunked") => {
                return Ok(Expecting::ChunkLine);
            }

            _ => {}
        }
    }
    Ok(expecting)
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// Cuts off the first line, without its line break.
fn take_line<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = memchr(b'\n', input)?;
    let line = &input[..end];
    *input = &input[end + 1..];
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

fn parse_number(text: &[u8], radix: u32) -> Result<usize, Malformed> {
    let text = str::from_utf8(text).or(Err(Malformed))?;
    usize::from_str_radix(text, radix).or(Err(Malformed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: x\r\ncontent-length: 5\r\n\r\nhello\
        HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n\
        HTTP/1.1 204 No Content\r\n\r\n\
        HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: v\r\n\r\n\
        HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n";

    type Seen = (u16, Vec<u8>, usize);

    fn drain(reader: &mut AnswerReader, mut input: &[u8], seen: &mut Vec<Seen>) -> usize {
        let offered = input.len();
        while let Some(answer) = reader.next(&mut input).unwrap() {
            seen.push((answer.status, answer.body_start.to_vec(), answer.body_len));
        }
        offered - input.len()
    }

    #[test]
    fn every_split_of_a_stream_reads_the_same_answers() {
        let expected: Vec<Seen> = vec![
            (200, b"hell".to_vec(), 5),
            (404, vec![], 0),
            (204, vec![], 0),
            (200, b"abc0".to_vec(), 13),
            (304, vec![], 0),
        ];
        for split in 0..=STREAM.len() {
            let mut reader = AnswerReader::new(4);
            let mut seen = Vec::new();
            let consumed = drain(&mut reader, &STREAM[..split], &mut seen);
            drain(&mut reader, &STREAM[consumed..], &mut seen);
            assert_eq!(seen, expected, "split at {split}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for input in [
            &b"HTTP/1.0 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        ] {
            let mut rest = input;
            assert_eq!(AnswerReader::new(4).next(&mut rest), Err(Malformed));
        }
    }
}
