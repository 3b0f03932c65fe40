//! WebSocket frames and messages: any split of a connection's bytes gives the same messages and the
//! same error.

use super::pieces;
use flux::api::client_message;
use flux::wire::ws::{Message, MessageReader, WsError};

/// Headers of frames, with an empty mask, and messages of clients.
pub const DICTIONARY: &[&[u8]] = &[
    b"\x81\x80\0\0\0\0",
    b"\x01\x80\0\0\0\0",
    b"\x80\x80\0\0\0\0",
    b"\x00\x80\0\0\0\0",
    b"\x82\x80\0\0\0\0",
    b"\x88\x80\0\0\0\0",
    b"\x88\x82\0\0\0\0\x03\xe8",
    b"\x89\x80\0\0\0\0",
    b"\x8a\x80\0\0\0\0",
    b"\x81\xfe\0\x7e\0\0\0\0",
    b"\x81\xff\0\0\0\0\0\0\0\x01\0\0\0\0",
    b"{\"type\":\"subscribe\",\"entity_id\":\"a*\"}",
    b"{\"type\":\"ping\",\"id\":1}",
    b"\xf0\x9f\x98\x80",
    b"\xed\xa0\x80",
];

/// What a connection came to: its messages as text, and its error.
type Outcome = (Vec<String>, Option<WsError>);

/// Runs the target.
pub fn target(data: &[u8]) {
    let [whole, rest @ ..] = pieces(data);
    let expected = read(data, whole);
    for piece in rest {
        assert_eq!(read(data, piece), expected, "in pieces of {piece}");
    }
}

fn read(data: &[u8], piece: usize) -> Outcome {
    let mut reader = MessageReader::default();
    let mut messages = Vec::new();
    for bytes in data.chunks(piece) {
        reader.receive(bytes);
        loop {
            match reader.next() {
                Ok(None) => break,
                Ok(Some(message)) => {
                    if let Message::Text(text) = message {
                        // What a client says must not end the process, whatever it is.
                        let _understood = client_message::parse(text);
                        let _whole = client_message::parse_whole(text);
                    }
                    messages.push(format!("{message:?}"));
                }
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}
