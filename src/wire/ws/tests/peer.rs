//! tungstenite as the client: what it sends is read here, and what is written here it reads.

use fastrand::Rng;
use std::io::{Cursor, Read, Write};

use tungstenite::protocol::{Message as PeerMessage, Role, WebSocketConfig};
use tungstenite::{Bytes, Utf8Bytes, WebSocket};

use super::{Message, MessageReader};
use crate::wire::ws::{write_close, write_ping, write_pong, write_text};

/// What the client reads, and what it has written.
#[derive(Debug, Default)]
struct Pipe {
    incoming: Cursor<Vec<u8>>,
    outgoing: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.incoming.read(into)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.outgoing.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn client(incoming: Vec<u8>) -> WebSocket<Pipe> {
    let pipe = Pipe {
        incoming: Cursor::new(incoming),
        outgoing: Vec::new(),
    };
    WebSocket::from_raw_socket(pipe, Role::Client, Some(WebSocketConfig::default()))
}

fn random_text(random: &mut Rng, len: usize) -> String {
    const CHARACTERS: [char; 6] = ['a', '"', '\0', '\u{e4}', '\u{20ac}', '\u{1f600}'];
    (0..len)
        .map(|_| CHARACTERS[random.usize(..CHARACTERS.len())])
        .collect()
}

const LENGTHS: [usize; 12] = [0, 1, 7, 8, 9, 62, 125, 126, 127, 1000, 20_000, 65_536];

#[test]
fn what_a_client_sends_is_read() {
    let random = &mut Rng::with_seed(1);
    let mut client = client(Vec::new());
    let mut expected = Vec::new();
    for len in LENGTHS.into_iter().cycle().take(120) {
        let text = random_text(random, len);
        if len <= 31 {
            client
                .send(PeerMessage::Ping(Bytes::from(text.clone())))
                .unwrap();
            expected.push(format!("{:?}", Message::Ping(text.as_bytes())));
        }
        client
            .send(PeerMessage::Text(Utf8Bytes::from(text.clone())))
            .unwrap();
        expected.push(format!("{:?}", Message::Text(&text)));
    }
    let sent = &client.get_ref().outgoing;
    let mut reader = MessageReader::default();
    let mut seen = Vec::new();
    let mut rest = &sent[..];
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at((1 + random.usize(..5000)).min(rest.len()));
        rest = tail;
        reader.receive(piece);
        while let Some(message) = reader.next().unwrap() {
            seen.push(format!("{message:?}"));
        }
    }
    assert!(
        seen == expected,
        "{} of {} messages",
        seen.len(),
        expected.len()
    );
    assert_eq!(reader.buffered(), 0);
}

#[test]
fn what_is_written_is_read_by_a_client() {
    let random = &mut Rng::with_seed(2);
    let mut out = Vec::new();
    let mut expected = Vec::new();
    for len in LENGTHS {
        let text = random_text(random, len);
        write_text(&mut out, text.as_bytes());
        expected.push(PeerMessage::Text(Utf8Bytes::from(text)));
    }
    write_ping(&mut out, b"1");
    expected.push(PeerMessage::Ping(Bytes::from_static(b"1")));
    write_pong(&mut out, b"2");
    expected.push(PeerMessage::Pong(Bytes::from_static(b"2")));
    write_close(&mut out, 1013, "too slow");
    let mut client = client(out);
    for message in expected {
        assert!(client.read().unwrap() == message, "{} bytes", message.len());
    }
    match client.read().unwrap() {
        PeerMessage::Close(Some(close)) => {
            assert_eq!(
                (u16::from(close.code), close.reason.as_str()),
                (1013, "too slow")
            );
        }
        other => panic!("no close but {other:?}"),
    }
}
