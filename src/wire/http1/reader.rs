//! The bytes of one connection → its requests, one at a time.
//!
//! ```text
//! Head ──end found, all rules kept──▶ Body ──whole──▶ Request ─┐
//!  ▲  └──no body, or already here ─────────────────▶ Request ─┤
//!  └───────────────────────────────────────────────────────────┘   any error ──▶ Failed, for good
//! ```
//!
//! A request lends its bytes from the receive buffer: a body with `Content-Length` is never copied,
//! a chunked one is decoded in place. What is wrong with the head, its size against the limit
//! included, is said before the body is waited for (API.md section 1). The caller may refuse the
//! request by its head then, too: see [`RequestReader::next_admitted`].

use super::HttpError;
use super::chunked::{ChunkedBody, Decoded};
use super::head::{Framing, Head, Method};
use super::index::{ContentEncoding, HeadIndex};
use super::known::KnownHead;
use super::parse::parse;
use super::scan::{HeadScan, has_no_bare_line_feed};
use crate::limits::REQUEST_LINE_BYTES_MAX;
use crate::wire::buffer::ReceiveBuffer;

/// What the bytes so far amount to.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for one request, on the stack; a box would be an allocation for each"
)]
pub enum Next<'a> {
    /// Nothing whole; [`RequestReader::receive`] more.
    NeedMore,
    /// The client waits for [`CONTINUE`](super::CONTINUE) before it sends the body: send it, then
    /// call `next` again. Said once for a request.
    Continue,
    /// One request; its bytes are consumed.
    Request(Request<'a>),
    /// The caller has refused the request by its head. Its body is not read, so nothing that comes
    /// after it can be either: answer, then close the connection.
    Refused,
}

/// A whole request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The head.
    pub head: Head<'a>,
    /// The body, transfer coding undone; empty if there is none.
    pub body: &'a [u8],
}

/// What the reader waits for, so that the caller can choose a timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of a request has arrived, or the reader has failed.
    Idle,
    /// A head has begun.
    Head,
    /// A head is whole and its body is not.
    Body,
}

/// Reads the requests of one connection. One per connection.
#[derive(Debug, Default)]
pub struct RequestReader {
    buffer: ReceiveBuffer,
    state: State,
    /// The last head that came with a length; `begin` writes and reads it.
    known: Option<Box<KnownHead>>,
}

#[derive(Debug)]
enum State {
    Head(HeadScan),
    Body(Body),
    /// The caller has refused a request whose body is not read.
    Refused,
    Failed(HttpError),
}

impl Default for State {
    fn default() -> Self {
        Self::Head(HeadScan::default())
    }
}

/// A request whose head is whole.
#[derive(Debug, Clone, Copy)]
struct Body {
    head: HeadIndex,
    head_len: usize,
    progress: BodyProgress,
    /// The client waits, and has not been told to go on.
    owes_continue: bool,
    /// The caller was asked whether the body may be waited for, and did not refuse.
    is_admitted: bool,
}

#[derive(Debug, Clone, Copy)]
enum BodyProgress {
    /// A known count of bytes, 0 without a body.
    Length(usize),
    Chunked(ChunkedBody),
}

enum Step {
    NeedMore,
    Continue,
    Whole(Decoded),
    Refused,
}

impl RequestReader {
    /// Appends what the socket gave. Ignored once the reader has failed or a request was refused.
    pub fn receive(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Failed(_) | State::Refused) {
            self.buffer.receive(bytes);
        }
    }

    /// The next request, or what to do to get one. `body_limit` gives the most bytes that the body
    /// of a request of this method for a path may have; it is asked once for each request that has
    /// a body, when the head is whole.
    ///
    /// # Errors
    ///
    /// [`HttpError`]: the connection cannot be read on, and every later call gives the same error.
    pub fn next(
        &mut self,
        body_limit: impl Fn((Method, &str)) -> usize,
    ) -> Result<Next<'_>, HttpError> {
        self.next_admitted(body_limit, |_| true)
    }

    /// The same for a caller that may refuse a request before its body is read. `admits` is asked
    /// once for each request whose body has to be waited for, after its framing and its size were
    /// judged and before the client is told to go on; and for each request with a chunked body, so
    /// that the answer does not depend on how the bytes were split. Any other request is whole when
    /// its head is, and the caller judges it then.
    ///
    /// # Errors
    ///
    /// As [`RequestReader::next`].
    pub fn next_admitted(
        &mut self,
        body_limit: impl Fn((Method, &str)) -> usize,
        admits: impl FnMut(&Head<'_>) -> bool,
    ) -> Result<Next<'_>, HttpError> {
        match self.advance(body_limit, admits) {
            Ok(Step::NeedMore) => Ok(Next::NeedMore),
            Ok(Step::Continue) => Ok(Next::Continue),
            Ok(Step::Whole(body)) => Ok(self.hand_over(body)),
            Ok(Step::Refused) => {
                self.buffer.discard();
                self.state = State::Refused;
                Ok(Next::Refused)
            }
            Err(error) => {
                self.buffer.discard();
                self.state = State::Failed(error);
                Err(error)
            }
        }
    }

    /// Overwrites the bytes of requests that were returned: one of them was secret.
    pub fn wipe_consumed(&mut self) {
        self.buffer.wipe_consumed();
    }

    /// Bytes received that no returned request has consumed.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The bytes received that no returned request has consumed.
    pub fn pending(&self) -> &[u8] {
        self.buffer.pending()
    }

    /// Forgets the last head and gives an empty buffer back, for a connection that has become idle.
    pub fn trim(&mut self) {
        self.known = None;
        self.buffer.trim();
    }

    /// The head of the request whose body is waited for.
    pub fn awaited_head(&self) -> Option<Head<'_>> {
        match &self.state {
            State::Body(body) => Some(body.head.view(self.buffer.pending())),
            State::Head(_) | State::Refused | State::Failed(_) => None,
        }
    }

    /// What is being waited for.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Body(_) => Phase::Body,
            State::Head(_) if self.buffer.len() > 0 => Phase::Head,
            State::Head(_) | State::Refused | State::Failed(_) => Phase::Idle,
        }
    }

    /// Heap that it holds, spare capacity included.
    pub fn heap_bytes(&self) -> usize {
        self.buffer.heap_bytes()
    }

    /// Heap that receiving `len` more bytes takes at most.
    pub fn growth(&self, len: usize) -> usize {
        self.buffer.growth(len)
    }

    /// Gives the heap back if nothing is pending.
    pub fn release(&mut self) {
        self.buffer.trim();
    }

    /// All bytes after the last request, for the protocol that follows an upgrade.
    pub fn take_rest(&mut self) -> Vec<u8> {
        self.buffer.take()
    }

    fn advance(
        &mut self,
        body_limit: impl Fn((Method, &str)) -> usize,
        admits: impl FnMut(&Head<'_>) -> bool,
    ) -> Result<Step, HttpError> {
        if let State::Head(scan) = &mut self.state
            && let Some(body) = begin(scan, &mut self.buffer, &mut self.known, body_limit)?
        {
            self.state = State::Body(body);
        }
        match &mut self.state {
            State::Head(_) => Ok(Step::NeedMore),
            State::Body(body) => body.advance(&mut self.buffer, admits),
            State::Refused => Ok(Step::Refused),
            State::Failed(error) => Err(*error),
        }
    }

    /// Consumes the request whose body is whole, and lends it.
    fn hand_over(&mut self, body: Decoded) -> Next<'_> {
        let State::Body(request) = &self.state else {
            return Next::NeedMore;
        };
        let head_len = request.head_len;
        let bytes = self.buffer.consume(head_len.saturating_add(body.end));
        let (head_bytes, body_bytes) = bytes.split_at_checked(head_len).unwrap_or((bytes, b""));
        let head = request.head.view(head_bytes);
        self.state = State::default();
        Next::Request(Request {
            head,
            body: body_bytes.get(..body.data_len).unwrap_or_default(),
        })
    }
}

/// Finds and judges the next head.
fn begin(
    scan: &mut HeadScan,
    buffer: &mut ReceiveBuffer,
    known: &mut Option<Box<KnownHead>>,
    body_limit: impl Fn((Method, &str)) -> usize,
) -> Result<Option<Body>, HttpError> {
    while scan.skip_empty_line(buffer.pending())? {
        buffer.consume(2);
    }
    let pending = buffer.pending();
    if pending.is_empty() {
        return Ok(None);
    }
    let (head, head_len) = match parse_at_once(scan, pending, known) {
        Some(parsed) => parsed,
        None => match scan.find_end(pending)? {
            Some(len) => parse(pending.get(..len).unwrap_or_default())?,
            None => return Ok(None),
        },
    };
    let progress = body_progress(&head, pending, body_limit)?;
    Ok(Some(Body {
        head,
        head_len,
        progress,
        owes_continue: head.expect_continue,
        is_admitted: false,
    }))
}

/// A good head that arrived whole, without looking for its end first; `None` says nothing.
///
/// Nearly every head is one, and skipping the search saves a tenth of a small request's
/// instructions. Whatever is unusual goes the long way, so that errors do not depend on how the
/// bytes were split. Within the length of a request line no limit on lengths can be broken.
fn parse_at_once(
    scan: &HeadScan,
    pending: &[u8],
    known: &mut Option<Box<KnownHead>>,
) -> Option<(HeadIndex, usize)> {
    if !scan.is_fresh() {
        return None;
    }
    let recognised = known.as_ref().and_then(|known| known.recognise(pending));
    if recognised.is_some() {
        return recognised;
    }
    let window = pending.get(..REQUEST_LINE_BYTES_MAX).unwrap_or(pending);
    let (head, len) = parse(window).ok()?;
    let bytes = window.get(..len)?;
    if !has_no_bare_line_feed(bytes) {
        return None;
    }
    KnownHead::remember(known, bytes, &head);
    Some((head, len))
}

/// How the body will be read, unless its head already forbids it.
fn body_progress(
    head: &HeadIndex,
    bytes: &[u8],
    body_limit: impl Fn((Method, &str)) -> usize,
) -> Result<BodyProgress, HttpError> {
    if !head.framing.has_body() {
        return Ok(BodyProgress::Length(0));
    }
    let limit = body_limit((head.method, head.path(bytes)));
    let progress = match head.framing {
        Framing::None => BodyProgress::Length(0),
        Framing::Chunked => BodyProgress::Chunked(ChunkedBody::new(limit)),
        Framing::Length(length) => match usize::try_from(length) {
            Ok(length) if length <= limit => BodyProgress::Length(length),
            _ => return Err(HttpError::BodyTooLarge { limit }),
        },
    };
    match head.content_encoding {
        ContentEncoding::Identity => Ok(progress),
        ContentEncoding::Unsupported => Err(HttpError::ContentEncodingUnsupported),
    }
}

impl Body {
    fn advance(
        &mut self,
        buffer: &mut ReceiveBuffer,
        mut admits: impl FnMut(&Head<'_>) -> bool,
    ) -> Result<Step, HttpError> {
        if let BodyProgress::Length(length) = self.progress
            && buffer.len().saturating_sub(self.head_len) >= length
        {
            return Ok(Step::Whole(Decoded {
                data_len: length,
                end: length,
            }));
        }
        if !self.is_admitted {
            if !admits(&self.head.view(buffer.pending())) {
                return Ok(Step::Refused);
            }
            self.is_admitted = true;
        }
        if let BodyProgress::Chunked(body) = &mut self.progress
            && let Some(body) = decode(body, self.head_len, buffer)?
        {
            return Ok(Step::Whole(body));
        }
        if self.owes_continue {
            self.owes_continue = false;
            return Ok(Step::Continue);
        }
        Ok(Step::NeedMore)
    }
}

fn decode(
    body: &mut ChunkedBody,
    head_len: usize,
    buffer: &mut ReceiveBuffer,
) -> Result<Option<Decoded>, HttpError> {
    let bytes = buffer.pending_mut().get_mut(head_len..).unwrap_or_default();
    let whole = body.decode(bytes)?;
    if whole.is_none() {
        let (from, to) = body.take_gap();
        buffer.close_gap(head_len.saturating_add(from), head_len.saturating_add(to));
    }
    Ok(whole)
}

const _: () = assert!(
    size_of::<RequestReader>() <= 256,
    "kept for every open connection"
);
