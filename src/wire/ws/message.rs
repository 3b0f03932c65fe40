//! The bytes of one connection → its messages, one at a time (RFC 6455 §5.4, §5.5, §6.2).
//!
//! A message in one frame, by far the most common, is unmasked and lent where it lies. The
//! fragments of others are gathered in a second buffer, each checked as UTF-8 when it arrives, so
//! that bad text fails with the fragment that holds it; control frames between fragments are given
//! out at once.
//!
//! Waits for whole frames: a frame over the limit is refused from its header, so at most one
//! message is held.

use super::frame::{FrameStart, Opcode};
use super::{WsError, mask};
use crate::limits::WS_MESSAGE_BYTES_MAX;
use crate::wire::buffer::ReceiveBuffer;

/// One message from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A whole text message.
    Text(&'a str),
    /// To be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// An answer to our ping, or unasked for.
    Pong(&'a [u8]),
    /// The client's last message, with its code and reason. To be answered by a close; nothing
    /// follows.
    Close(Option<(u16, &'a str)>),
}

/// Reads the messages of one connection after its upgrade. One per connection.
#[derive(Debug, Default)]
pub struct MessageReader {
    buffer: ReceiveBuffer,
    /// The payload of a fragmented message so far; its last content stays until the next one
    /// begins.
    gathered: Vec<u8>,
    state: State,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// Between messages.
    #[default]
    Ready,
    /// Inside a fragmented message of which this many bytes, from its first, are known to be UTF-8.
    Gathering {
        valid: usize,
    },
    /// The client has closed; what it sends after that is dropped (§5.5.1).
    Closed,
    Failed(WsError),
}

/// A frame that is all there.
#[derive(Debug, Clone, Copy)]
struct Frame {
    start: FrameStart,
    header_len: usize,
    payload_len: usize,
}

impl MessageReader {
    /// Appends what the socket gave. Ignored once the client has closed or the reader has failed.
    pub fn receive(&mut self, bytes: &[u8]) {
        if matches!(self.state, State::Ready | State::Gathering { .. }) {
            self.buffer.receive(bytes);
        }
    }

    /// The next message; `Ok(None)` where none is whole. Its bytes are consumed.
    ///
    /// # Errors
    ///
    /// [`WsError`]: the connection must be closed, and every later call gives the same error.
    #[expect(
        clippy::should_implement_trait,
        reason = "messages borrow from the reader, which `Iterator` cannot say"
    )]
    pub fn next(&mut self) -> Result<Option<Message<'_>>, WsError> {
        let Self {
            buffer,
            gathered,
            state,
        } = self;
        let fail = |state: &mut State, error| {
            *state = State::Failed(error);
            Err(error)
        };
        let frame = loop {
            let frame = match find_frame(state, buffer, gathered.len()) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(None),
                Err(error) => {
                    buffer.discard();
                    return fail(state, error);
                }
            };
            unmask_front(buffer, frame);
            if frame.start.is_final && frame.start.opcode != Opcode::Continuation {
                break frame;
            }
            let payload = take_payload(buffer, frame);
            match gather(*state, gathered, payload, frame.start.is_final) {
                Ok(next) => *state = next,
                Err(error) => return fail(state, error),
            }
            if frame.start.is_final {
                return match str::from_utf8(gathered) {
                    Ok(text) => Ok(Some(Message::Text(text))),
                    Err(_) => fail(state, WsError::NotUtf8),
                };
            }
        };
        let payload = take_payload(buffer, frame);
        let message = match frame.start.opcode {
            Opcode::Ping => Ok(Message::Ping(payload)),
            Opcode::Pong => Ok(Message::Pong(payload)),
            Opcode::Close => parse_close(payload),
            Opcode::Text | Opcode::Continuation | Opcode::Binary => str::from_utf8(payload)
                .map(Message::Text)
                .or(Err(WsError::NotUtf8)),
        };
        match message {
            Ok(Message::Close(_)) => *state = State::Closed,
            Ok(_) => {}
            Err(error) => return fail(state, error),
        }
        message.map(Some)
    }

    /// Unmasks the whole frames among the first `len` bytes that wait, so that
    /// [`pending`](Self::pending) shows their text. A frame's key becomes 0 with that, and
    /// unmasking it again changes nothing.
    pub fn unmask_ahead(&mut self, len: usize) {
        if !matches!(self.state, State::Ready) {
            return;
        }
        let mut bytes = self.buffer.pending_mut();
        let end = len.min(bytes.len());
        bytes = bytes.get_mut(..end).unwrap_or_default();
        while let Some(frame) = whole_frame(bytes) {
            let Some((header, rest)) = bytes.split_at_mut_checked(frame.header_len) else {
                return;
            };
            let Some((payload, rest)) = rest.split_at_mut_checked(frame.payload_len) else {
                return;
            };
            unmask(header, payload);
            bytes = rest;
        }
    }

    /// The bytes that wait, frames with their headers.
    pub fn pending(&self) -> &[u8] {
        self.buffer.pending()
    }

    /// Bytes received that no returned message has consumed, those of a message being gathered
    /// included.
    pub fn buffered(&self) -> usize {
        match self.state {
            State::Ready => self.buffer.len(),
            State::Gathering { .. } => self.buffer.len().saturating_add(self.gathered.len()),
            State::Closed | State::Failed(_) => 0,
        }
    }

    /// Heap that it holds, spare capacity included.
    pub fn heap_bytes(&self) -> usize {
        self.buffer
            .heap_bytes()
            .saturating_add(self.gathered.capacity())
    }

    /// Heap that receiving `len` more bytes takes at most. The fragments of a message are gathered
    /// in a second buffer.
    pub fn growth(&self, len: usize) -> usize {
        self.buffer.growth(len).saturating_mul(2)
    }

    /// Gives back the heap that holds nothing pending; for a connection that has become quiet.
    pub fn trim(&mut self) {
        if matches!(self.state, State::Closed | State::Failed(_)) {
            self.buffer.discard();
        }
        self.buffer.trim();
        if !matches!(self.state, State::Gathering { .. }) {
            self.gathered = Vec::new();
        }
    }
}

/// The frame at the front of the buffer, once it is whole and allowed where it stands.
fn find_frame(
    state: &State,
    buffer: &ReceiveBuffer,
    gathered_len: usize,
) -> Result<Option<Frame>, WsError> {
    let gathered_before = match state {
        State::Ready => None,
        State::Gathering { .. } => Some(gathered_len),
        State::Closed => return Ok(None),
        State::Failed(error) => return Err(*error),
    };
    let pending = buffer.pending();
    let Some(start) = FrameStart::parse(pending)? else {
        return Ok(None);
    };
    let held = match (start.opcode, gathered_before) {
        (Opcode::Text | Opcode::Binary, Some(_)) => return Err(WsError::MessageInterrupted),
        (Opcode::Binary, None) => return Err(WsError::Binary),
        (Opcode::Continuation, None) => return Err(WsError::UnexpectedContinuation),
        (Opcode::Continuation, Some(held)) => held,
        (Opcode::Text | Opcode::Close | Opcode::Ping | Opcode::Pong, _) => 0,
    };
    let Some(rest) = start.parse_rest(pending)? else {
        return Ok(None);
    };
    let room = WS_MESSAGE_BYTES_MAX.saturating_sub(held);
    let payload_len = match usize::try_from(rest.payload_len) {
        Ok(len) if len <= room => len,
        _ => return Err(WsError::MessageTooLong),
    };
    let whole = rest.header_len.saturating_add(payload_len) <= pending.len();
    Ok(whole.then_some(Frame {
        start,
        header_len: rest.header_len,
        payload_len,
    }))
}

/// The frame at the front if it is whole, whether it is allowed there or not.
fn whole_frame(pending: &[u8]) -> Option<Frame> {
    let start = FrameStart::parse(pending).ok()??;
    let rest = start.parse_rest(pending).ok()??;
    let payload_len = usize::try_from(rest.payload_len).ok()?;
    let is_whole = rest.header_len.saturating_add(payload_len) <= pending.len();
    is_whole.then_some(Frame {
        start,
        header_len: rest.header_len,
        payload_len,
    })
}

/// Undoes the masking of the frame at the front, in place.
fn unmask_front(buffer: &mut ReceiveBuffer, frame: Frame) {
    let bytes = buffer.pending_mut();
    if let Some((header, rest)) = bytes.split_at_mut_checked(frame.header_len)
        && let Some(payload) = rest.get_mut(..frame.payload_len)
    {
        unmask(header, payload);
    }
}

/// Undoes the masking of a payload, and says so in its header.
fn unmask(header: &mut [u8], payload: &mut [u8]) {
    if let Some(key) = header.last_chunk_mut()
        && *key != [0; 4]
    {
        mask::apply(payload, *key);
        *key = [0; 4];
    }
}

/// Consumes the frame at the front and lends its payload.
fn take_payload(buffer: &mut ReceiveBuffer, frame: Frame) -> &[u8] {
    let bytes = buffer.consume(frame.header_len.saturating_add(frame.payload_len));
    bytes.get(frame.header_len..).unwrap_or_default()
}

/// Adds one fragment to a message and says what follows.
fn gather(
    state: State,
    gathered: &mut Vec<u8>,
    payload: &[u8],
    is_final: bool,
) -> Result<State, WsError> {
    let valid = match state {
        State::Gathering { valid } => valid,
        State::Ready | State::Closed | State::Failed(_) => {
            gathered.clear();
            0
        }
    };
    gathered.extend_from_slice(payload);
    let unchecked = gathered.get(valid..).unwrap_or_default();
    let fresh = match str::from_utf8(unchecked) {
        Ok(_) => unchecked.len(),
        // A character may be cut between two fragments (§5.6), but not by the end of the message.
        Err(error) if error.error_len().is_none() && !is_final => error.valid_up_to(),
        Err(_) => return Err(WsError::NotUtf8),
    };
    Ok(if is_final {
        State::Ready
    } else {
        State::Gathering {
            valid: valid.saturating_add(fresh),
        }
    })
}

/// RFC 6455 §5.5.1, §7.4.
fn parse_close(payload: &[u8]) -> Result<Message<'_>, WsError> {
    match payload {
        [] => Ok(Message::Close(None)),
        [_] => Err(WsError::CloseMalformed),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_valid_close_code(code) {
                return Err(WsError::CloseCodeInvalid);
            }
            let reason = str::from_utf8(reason).or(Err(WsError::NotUtf8))?;
            Ok(Message::Close(Some((code, reason))))
        }
    }
}

/// The codes that may be sent: those registered, less the ones that only stand for what no frame
/// said (1005, 1006, 1015), and those for libraries and applications.
fn is_valid_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
