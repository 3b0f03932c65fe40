//! Frames (RFC 6455 §5.2): bytes ↔ whole, unfragmented messages.
//!
//! A server's frames are not masked; ours are, as they must be, with a key of zeros: masking
//! protects proxies from pages that choose the bytes, and here there are neither. An incomplete
//! frame stays unconsumed.

use anyhow::{Result, bail};

/// Longest payload that is accepted, bytes: what a link keeps of an incomplete message, less the
/// header.
const PAYLOAD_BYTES_MAX: usize = 60 * 1024;

/// Length codes for a 16-bit and a 64-bit length behind the header.
const LEN_16: u8 = 0x7e;
const LEN_64: u8 = 0x7f;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

const OPCODE_TEXT: u8 = 0x1;
const OPCODE_CLOSE: u8 = 0x8;
const OPCODE_PING: u8 = 0x9;
const OPCODE_PONG: u8 = 0xa;

/// What a server sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// With the status code; 1005 if there is none (§7.4.1).
    Close(u16),
}

/// Consumes the next frame of `input`; `None` when it has not arrived whole.
///
/// # Errors
/// When the frame is masked, fragmented, binary or too long.
pub(crate) fn next_frame<'a>(input: &mut &'a [u8]) -> Result<Option<Frame<'a>>> {
    let &[first, second, ref rest @ ..] = *input else {
        return Ok(None);
    };
    if first & 0x70 != 0 || first & FINAL == 0 || second & MASKED != 0 {
        bail!("the server sent a frame that is fragmented, masked or of an extension");
    }
    let (payload_len, rest) = match second {
        LEN_16 => match rest.split_first_chunk() {
            Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest),
            None => return Ok(None),
        },
        LEN_64 => match rest.split_first_chunk() {
            Some((len, rest)) => (u64::from_be_bytes(*len), rest),
            None => return Ok(None),
        },
        len => (u64::from(len), rest),
    };
    let payload_len = usize::try_from(payload_len).unwrap_or(usize::MAX);
    if payload_len > PAYLOAD_BYTES_MAX {
        bail!("the server sent a message of {payload_len} bytes");
    }
    let Some((payload, rest)) = rest.split_at_checked(payload_len) else {
        return Ok(None);
    };
    let frame = match first & 0xf {
        OPCODE_TEXT => Frame::Text(payload),
        OPCODE_PING => Frame::Ping(payload),
        OPCODE_PONG => Frame::Pong,
        OPCODE_CLOSE => Frame::Close(
            payload
                .first_chunk()
                .map_or(1005, |code| u16::from_be_bytes(*code)),
        ),
        opcode => bail!("the server sent a frame with opcode {opcode}"),
    };
    *input = rest;
    Ok(Some(frame))
}

/// Appends a text message.
///
/// # Panics
/// When it is longer than 65,535 bytes: ours are subscriptions.
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    write_frame(OPCODE_TEXT, text.as_bytes(), out);
}

/// Appends a text message that is known to be UTF-8.
///
/// # Panics
/// When it is longer than 65,535 bytes.
pub(crate) fn write_message(text: &[u8], out: &mut Vec<u8>) {
    write_frame(OPCODE_TEXT, text, out);
}

/// Appends the answer to a ping.
pub(crate) fn write_pong(payload: &[u8], out: &mut Vec<u8>) {
    write_frame(OPCODE_PONG, payload, out);
}

fn write_frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    let len = u16::try_from(payload.len()).expect("what is sent is short");
    out.push(FINAL | opcode);
    match u8::try_from(len) {
        Ok(len) if len < LEN_16 => out.push(MASKED | len),
        _ => {
            out.push(MASKED | LEN_16);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..126 => frame.push(u8::try_from(len).unwrap()),
            len @ 126..65_536 => {
                frame.push(126);
                frame.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
            }
            len => {
                frame.push(127);
                frame.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn a_frame_is_taken_when_it_is_whole_and_not_before() {
        for len in [0, 1, 125, 126, 300] {
            let payload = vec![b'x'; len];
            let frame = server_frame(0x81, &payload);
            for cut in 0..frame.len() {
                let mut input = &frame[..cut];
                assert_eq!(next_frame(&mut input).unwrap(), None, "{len} cut at {cut}");
                assert_eq!(input.len(), cut);
            }
            let mut input = &frame[..];
            assert_eq!(next_frame(&mut input).unwrap(), Some(Frame::Text(&payload)));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn control_frames_are_told_apart() {
        let check = |first, payload: &[u8], expected| {
            assert_eq!(
                next_frame(&mut &server_frame(first, payload)[..]).unwrap(),
                Some(expected)
            );
        };
        check(0x88, &1013u16.to_be_bytes(), Frame::Close(1013));
        check(0x88, b"", Frame::Close(1005));
        check(0x89, b"a", Frame::Ping(b"a"));
        check(0x8a, b"", Frame::Pong);
    }

    #[test]
    fn what_this_client_cannot_read_is_refused() {
        let too_long = vec![0; PAYLOAD_BYTES_MAX + 1];
        for frame in [
            server_frame(0x01, b"fragment"),
            server_frame(0xc1, b"extension"),
            server_frame(0x82, b"binary"),
            vec![0x81, 0x81, 0, 0, 0, 0, 0],
            server_frame(0x81, &too_long),
        ] {
            assert!(next_frame(&mut &frame[..]).is_err());
        }
        let longest = server_frame(0x81, &too_long[1..]);
        assert!(next_frame(&mut &longest[..]).is_ok());
    }

    #[test]
    fn our_frames_are_masked_and_sized() {
        let check = |len: usize, header: &[u8]| {
            let mut out = Vec::new();
            write_text(&"x".repeat(len), &mut out);
            assert_eq!(out[..header.len()], *header);
            assert_eq!(out.len(), header.len() + 4 + len);
        };
        check(125, &[0x81, 0xfd]);
        check(126, &[0x81, 0xfe, 0, 126]);
        check(300, &[0x81, 0xfe, 1, 44]);
    }
}
