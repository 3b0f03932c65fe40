//! The WebSocket reader and writers from outside: rules as tables, every split of the input, limits
//! at n and n+1, mutations, and tungstenite as the other end.

mod handshake;
mod peer;
mod reader;
mod splits;
mod writer;

use super::{Message, MessageReader, WsError};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a connection amounted to: its messages as text, then the error, or the bytes left over.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MessagesRead {
    messages: Vec<String>,
    end: Result<usize, WsError>,
}

/// Reads all `pieces`, each as one receive, taking out messages after each.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> MessagesRead {
    read_ahead(pieces, 0)
}

/// The same, with so many bytes unmasked before they are read.
fn read_ahead<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, len: usize) -> MessagesRead {
    let mut reader = MessageReader::default();
    let mut messages = Vec::new();
    let mut closed = false;
    for piece in pieces {
        reader.receive(piece);
        loop {
            reader.unmask_ahead(len);
            match reader.next() {
                Ok(None) => break,
                Ok(Some(message)) => {
                    assert!(!closed, "nothing follows a close");
                    closed = matches!(message, Message::Close(_));
                    messages.push(format!("{message:?}"));
                }
                Err(error) => {
                    assert_eq!(reader.next().err(), Some(error), "failed for good");
                    assert_eq!(reader.buffered(), 0, "nothing is kept after a failure");
                    return MessagesRead {
                        messages,
                        end: Err(error),
                    };
                }
            }
        }
    }
    MessagesRead {
        messages,
        end: Ok(reader.buffered()),
    }
}

/// Asserts that every two-way split, and one byte at a time, give what one read gives; returns
/// that.
fn read_every_way(bytes: &[u8]) -> MessagesRead {
    let whole = read([bytes]);
    for at in 0..=bytes.len() {
        let (front, back) = bytes.split_at(at);
        assert_eq!(
            read([front, back]),
            whole,
            "split at {at} of {}",
            bytes.escape_ascii()
        );
        assert_eq!(
            read_ahead([front, back], at),
            whole,
            "split at {at}, as many bytes ahead, of {}",
            bytes.escape_ascii()
        );
    }
    assert_eq!(
        read(bytes.chunks(1)),
        whole,
        "one byte at a time: {}",
        bytes.escape_ascii()
    );
    whole
}

/// A client's frame with its first byte as given and the shortest length.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | u8::try_from(len).unwrap()),
        len @ 126..0x1_0000 => {
            bytes.push(MASKED_16_BITS);
            bytes.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            bytes.push(MASKED_64_BITS);
            bytes.extend_from_slice(&u64::try_from(len).unwrap().to_be_bytes());
        }
    }
    bytes.extend_from_slice(&KEY);
    bytes.extend(
        payload
            .iter()
            .zip(KEY.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    bytes
}

/// A masked frame whose length follows in two bytes.
const MASKED_16_BITS: u8 = 0xfe;
/// A masked frame whose length follows in eight bytes.
const MASKED_64_BITS: u8 = 0xff;

const TEXT: u8 = 0x81;
const TEXT_PART: u8 = 0x01;
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
