//! Frame headers (RFC 6455 §5.2), read and written.
//!
//! ```text
//!  byte 0            byte 1            0, 2 or 8 bytes        4 bytes (client only)
//! | FIN RSV×3 opcode | MASK length(7) | longer length, big-endian | masking key | payload ...
//! ```
//!
//! A header is judged as far as it has arrived, so that a frame that will be refused is refused
//! before its payload is received. Lengths are only compared with limits, never allocated.

use super::WsError;

/// The largest payload of a control frame (§5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;
/// The largest reason of a close frame: the code takes two bytes.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

const FIN: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;
const OPCODE_BITS: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH_BITS: u8 = 0x7f;
const LENGTH_IN_16_BITS: u8 = 126;
const LENGTH_IN_64_BITS: u8 = 127;

/// What a frame is; the values are those on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// The rest of a fragmented message.
    Continuation = 0x0,
    /// UTF-8 text.
    Text = 0x1,
    /// Any bytes.
    Binary = 0x2,
    /// The end.
    Close = 0x8,
    /// Are you there?
    Ping = 0x9,
    /// I am here.
    Pong = 0xa,
}

impl Opcode {
    fn from_wire(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    /// True for close, ping and pong.
    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The first two bytes of a client's frame, which decide all but its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameStart {
    pub(super) opcode: Opcode,
    /// The last frame of its message.
    pub(super) is_final: bool,
    length_bits: u8,
}

/// The rest of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameRest {
    pub(super) payload_len: u64,
    /// All bytes before the payload, the masking key included.
    pub(super) header_len: usize,
}

impl FrameStart {
    /// Judges the first two bytes; `Ok(None)` where they have not arrived.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, WsError> {
        let Some(&[first, second]) = bytes.first_chunk::<2>() else {
            return Ok(None);
        };
        if first & RESERVED_BITS != 0 {
            return Err(WsError::ReservedBits);
        }
        let opcode = Opcode::from_wire(first & OPCODE_BITS).ok_or(WsError::ReservedOpcode)?;
        if second & MASKED == 0 {
            return Err(WsError::Unmasked);
        }
        let start = Self {
            opcode,
            is_final: first & FIN != 0,
            length_bits: second & LENGTH_BITS,
        };
        if opcode.is_control() {
            if !start.is_final {
                return Err(WsError::ControlFragmented);
            }
            if usize::from(start.length_bits) > CONTROL_BYTES_MAX {
                return Err(WsError::ControlTooLong);
            }
        }
        Ok(Some(start))
    }

    /// The length, from the same bytes; `Ok(None)` where it has not arrived. The masking key may be
    /// missing.
    pub(super) fn parse_rest(self, bytes: &[u8]) -> Result<Option<FrameRest>, WsError> {
        let after = bytes.get(2..).unwrap_or_default();
        let (payload_len, header_len, least) = match self.length_bits {
            LENGTH_IN_16_BITS => match after.first_chunk() {
                Some(&length) => (u64::from(u16::from_be_bytes(length)), 8, 126),
                None => return Ok(None),
            },
            LENGTH_IN_64_BITS => match after.first_chunk() {
                Some(&length) => (u64::from_be_bytes(length), 14, 0x1_0000),
                None => return Ok(None),
            },
            short => (u64::from(short), 6, 0),
        };
        if payload_len < least || payload_len > u64::MAX / 2 {
            return Err(WsError::LengthMalformed);
        }
        Ok(Some(FrameRest {
            payload_len,
            header_len,
        }))
    }
}

/// Appends the header of a whole, unmasked message of `payload_len` bytes.
pub fn write_frame_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize) {
    let first = FIN | opcode as u8;
    if let Some(short) = u8::try_from(payload_len)
        .ok()
        .filter(|&len| len < LENGTH_IN_16_BITS)
    {
        out.extend_from_slice(&[first, short]);
    } else if let Ok(length) = u16::try_from(payload_len) {
        out.extend_from_slice(&[first, LENGTH_IN_16_BITS]);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.extend_from_slice(&[first, LENGTH_IN_64_BITS]);
        // No platform's addresses exceed 64 bits.
        let length = u64::try_from(payload_len).unwrap_or(u64::MAX);
        out.extend_from_slice(&length.to_be_bytes());
    }
}

/// The payload of a whole, unmasked message that [`write_frame_header`] began.
pub fn payload_of(frame: &[u8]) -> &[u8] {
    let header_len = match frame.get(1) {
        Some(&LENGTH_IN_16_BITS) => 4,
        Some(&LENGTH_IN_64_BITS) => 10,
        _ => 2,
    };
    frame.get(header_len..).unwrap_or_default()
}

/// Appends one text message; the caller knows that `text` is UTF-8.
pub fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    write_frame_header(out, Opcode::Text, text.len());
    out.extend_from_slice(text);
}

/// Appends one text message, whose text `write` appends as UTF-8.
pub fn write_text_with(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    let end = out.len();
    // The header says how long the text is, so it is written after it and moved before it.
    write_frame_header(out, Opcode::Text, end.saturating_sub(start));
    let header_len = out.len().saturating_sub(end);
    if let Some(frame) = out.get_mut(start..) {
        frame.rotate_right(header_len);
    }
}

/// Appends a ping; its payload is cut at 125 bytes.
pub fn write_ping(out: &mut Vec<u8>, payload: &[u8]) {
    write_control(out, Opcode::Ping, payload);
}

/// Appends the answer to a ping, with the same payload.
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    write_control(out, Opcode::Pong, payload);
}

/// Appends a close frame; `reason` is cut at 123 bytes, between two characters.
pub fn write_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let len_max = reason.len().min(CLOSE_REASON_BYTES_MAX);
    let cut = (0..=len_max)
        .rev()
        .find(|&len| reason.is_char_boundary(len));
    let reason = reason.get(..cut.unwrap_or(0)).unwrap_or_default();
    write_frame_header(out, Opcode::Close, reason.len().saturating_add(2));
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

fn write_control(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let payload = payload.get(..CONTROL_BYTES_MAX).unwrap_or(payload);
    write_frame_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}
