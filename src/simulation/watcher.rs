//! A client that subscribes over a WebSocket, and holds every push against the model.

use super::http_client::{Shared, new_id};
use super::model::{Push, Watch};
use super::network::ClientSocket;
use serde_json::Value;

pub(super) const HANDSHAKE: &str = "GET /api/ws?metrics=false HTTP/1.1\r\nHost: flux\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// How far a watcher's connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshake,
    Open,
    /// The server has refused it, or has said that it closes it.
    Closing,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Watcher {
    socket: ClientSocket,
    unparsed: Vec<u8>,
    phase: Phase,
    /// Subscriptions that were sent, by the id of their message.
    filters: Vec<String>,
    watch: Watch,
    /// It reads at once, or when it likes.
    is_slow: bool,
}

impl Watcher {
    pub(super) fn new(socket: ClientSocket, is_slow: bool) -> Self {
        socket.send(HANDSHAKE.as_bytes());
        Self {
            socket,
            unparsed: Vec::new(),
            phase: Phase::Handshake,
            filters: Vec::new(),
            watch: Watch::new(is_slow),
            is_slow,
        }
    }

    /// Does something, or nothing. False if the connection is over.
    pub(super) fn step(&mut self, shared: &mut Shared<'_>) -> bool {
        if self.socket.has_ended() || self.phase == Phase::Closing {
            self.end(shared, false);
            return false;
        }
        match shared.random.u32(..1000) {
            0..3 if shared.may_ask => {
                self.socket.reset();
                self.end(shared, false);
                return false;
            }
            3..60 if self.phase == Phase::Open && shared.may_ask && self.filters.len() < 3 => {
                self.subscribe(shared);
            }
            60..500 if self.is_slow => {
                self.socket.receive(shared.random.usize(1..3000));
            }
            500..1000 if self.is_slow => {}
            _ => {
                self.socket.receive(usize::MAX);
            }
        }
        true
    }

    fn subscribe(&mut self, shared: &mut Shared<'_>) {
        let filter = match shared.random.u32(..5) {
            0 => "*".to_owned(),
            1 => format!("n{}/*", shared.random.u32(..4)),
            2 => format!("n{}/e1*", shared.random.u32(..4)),
            _ => new_id(shared.random),
        };
        if self.filters.contains(&filter) {
            return;
        }
        let id = self.filters.len();
        let text = format!("{{\"type\":\"subscribe\",\"entity_id\":\"{filter}\",\"id\":{id}}}");
        self.socket.send(&masked(1, text.as_bytes()));
        self.watch.ask(&filter);
        self.filters.push(filter);
    }

    /// Receives everything. Returns how many bytes that were.
    pub(super) fn settle(&mut self) -> usize {
        self.socket.receive(usize::MAX)
    }

    /// True if nothing is on its way.
    pub(super) fn is_settled(&self) -> bool {
        !self.socket.has_bytes()
    }

    /// The watch is over. `is_settled`: everything that may be shown has been pushed.
    pub(super) fn end(&mut self, shared: &mut Shared<'_>, is_settled: bool) {
        let is_whole = is_settled && self.phase == Phase::Open && !self.socket.has_ended();
        self.watch.end(shared.model, is_whole);
    }

    /// Checks what the server has sent since this was last called.
    pub(super) fn check(&mut self, shared: &mut Shared<'_>) {
        self.unparsed.extend(self.socket.take_unchecked());
        if self.phase == Phase::Handshake {
            self.take_handshake();
        }
        while self.phase == Phase::Open
            && let Some((opcode, payload)) = take_frame(&mut self.unparsed)
        {
            match opcode {
                1 => self.message(shared, &serde_json::from_slice(&payload).unwrap()),
                8 => self.phase = Phase::Closing,
                9 => {
                    self.socket.send(&masked(10, &payload));
                }
                _ => panic!("a frame with opcode {opcode}"),
            }
        }
    }

    fn take_handshake(&mut self) {
        let end = self.unparsed.windows(4).position(|it| it == b"\r\n\r\n");
        let Some(end) = end else {
            return;
        };
        if self.unparsed.starts_with(b"HTTP/1.1 101 ") {
            self.unparsed.drain(..end + 4);
            self.phase = Phase::Open;
        } else {
            self.phase = Phase::Closing;
        }
    }

    fn message(&mut self, shared: &mut Shared<'_>, message: &Value) {
        let id = message["id"].as_u64();
        let filter = id.and_then(|id| self.filters.get(usize::try_from(id).ok()?));
        match (message["type"].as_str(), filter) {
            (Some("ack"), Some(filter)) => self.watch.confirm(&filter.clone(), shared.step),
            (Some("error"), _) => {}
            (Some("state_update"), None) => {
                let push = Push::Set {
                    property: message["property"].as_str().unwrap().to_owned(),
                    value: message["value"].to_string(),
                };
                let entity = message["entity_id"].as_str().unwrap();
                self.take(shared, entity, push);
            }
            (Some("entity_deleted"), None) => {
                let entity = message["entity_id"].as_str().unwrap();
                self.take(shared, entity, Push::Deleted);
            }
            _ => panic!("{message} is no message of the server"),
        }
    }

    fn take(&mut self, shared: &mut Shared<'_>, entity: &str, push: Push) {
        if entity != "flux-core/directory" {
            self.watch.take(shared.model, entity, push);
        }
    }
}

/// A frame from a client.
pub(super) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [7, 1, 8, 2];
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..65_536 => {
            frame.push(0xfe);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(0xff);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// Takes a whole frame of the server off the front of what has arrived.
pub(super) fn take_frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let [first, second, ..] = bytes[..] else {
        return None;
    };
    assert!(
        first & 0x80 != 0 && second & 0x80 == 0,
        "whole and unmasked"
    );
    let (start, length) = match second {
        126 => (4, bytes.get(2..4)?.iter().copied().fold(0, add_byte)),
        127 => (10, bytes.get(2..10)?.iter().copied().fold(0, add_byte)),
        length => (2, usize::from(length)),
    };
    let payload = bytes.get(start..start + length)?.to_vec();
    bytes.drain(..start + length);
    Some((first & 0x0f, payload))
}

fn add_byte(length: usize, byte: u8) -> usize {
    length << 8 | usize::from(byte)
}
