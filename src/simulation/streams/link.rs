//! One connection of a client: bytes, messages, and what it asks for besides.

use super::mind::Mind;
use super::model::Model;
use crate::simulation::network::ClientSocket;
use crate::simulation::watcher::{HANDSHAKE, masked, take_frame};
use serde_json::{Value, json};

/// What all clients share.
pub(super) struct Shared<'s> {
    pub(super) random: &'s mut fastrand::Rng,
    pub(super) model: &'s mut Model,
    /// The next unique value.
    pub(super) next_value: &'s mut u64,
    /// False while the world comes to rest.
    pub(super) may_ask: bool,
}

/// Bytes that become frames.
#[derive(Debug, Default)]
struct Frames {
    bytes: Vec<u8>,
    is_open: bool,
}

impl Frames {
    /// The next frame, once the handshake is over.
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        if !self.is_open {
            let end = self.bytes.windows(4).position(|it| it == b"\r\n\r\n")?;
            if !self.bytes.starts_with(b"HTTP/1.1 101 ") {
                return Some((8, Vec::new()));
            }
            self.bytes.drain(..end + 4);
            self.is_open = true;
        }
        take_frame(&mut self.bytes)
    }
}

/// See the module.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about one connection"
)]
pub(super) struct Link {
    socket: ClientSocket,
    /// What the server has sent, received or not.
    sent: Frames,
    received: Frames,
    has_subscribed: bool,
    is_closing: bool,
    is_stalled: bool,
    /// Requests that wait for an answer, by id from 100 on: the entity.
    asked: Vec<Option<String>>,
}

impl Link {
    pub(super) fn new(socket: ClientSocket) -> Self {
        socket.send(HANDSHAKE.as_bytes());
        Self {
            socket,
            sent: Frames::default(),
            received: Frames::default(),
            has_subscribed: false,
            is_closing: false,
            is_stalled: false,
            asked: Vec::new(),
        }
    }

    pub(super) fn has_bytes(&self) -> bool {
        self.socket.has_bytes()
    }

    /// True if nothing that it asked is unanswered.
    pub(super) fn is_answered(&self) -> bool {
        self.has_subscribed && self.asked.iter().all(Option::is_none)
    }

    /// Does something, or nothing. False if the connection is over.
    pub(super) fn step(&mut self, mind: &mut Mind, shared: &mut Shared<'_>) -> bool {
        if self.socket.has_ended() || self.is_closing {
            return false;
        }
        match shared.random.u32(..1000) {
            0..6 => {
                self.receive(mind, shared, 300);
                self.socket.reset();
                return false;
            }
            6..14 => self.is_stalled = true,
            14..40 => self.is_stalled = false,
            40..300 => self.ask(shared),
            300..600 => {
                let max = shared.random.usize(1..5000);
                self.receive(mind, shared, max);
            }
            _ => {
                self.receive(mind, shared, usize::MAX);
            }
        }
        true
    }

    /// Receives everything. Returns how many bytes that were.
    pub(super) fn settle(&mut self, mind: &mut Mind, shared: &mut Shared<'_>) -> usize {
        self.is_stalled = false;
        self.receive(mind, shared, usize::MAX)
    }

    /// True if the connection is over.
    pub(super) fn is_over(&self) -> bool {
        self.is_closing || self.socket.has_ended()
    }

    fn receive(&mut self, mind: &mut Mind, shared: &mut Shared<'_>, max: usize) -> usize {
        if self.is_stalled {
            return 0;
        }
        let bytes = self.socket.receive_some(max);
        self.received.bytes.extend(&bytes);
        while let Some((opcode, payload)) = self.received.next() {
            if !self.has_subscribed && self.received.is_open {
                self.subscribe(mind, shared.random);
            }
            match opcode {
                1 => {
                    let message: Value = serde_json::from_slice(&payload).unwrap();
                    self.message(mind, shared, &message);
                    if mind.is_lost() {
                        self.socket.reset();
                        self.is_closing = true;
                        break;
                    }
                }
                8 => {
                    self.is_closing = true;
                    break;
                }
                9 => {
                    self.socket.send(&masked(10, &payload));
                }
                _ => panic!("a frame with opcode {opcode}"),
            }
        }
        if !self.has_subscribed && self.received.is_open {
            self.subscribe(mind, shared.random);
        }
        bytes.len()
    }

    fn subscribe(&mut self, mind: &mut Mind, random: &mut fastrand::Rng) {
        self.has_subscribed = true;
        for message in mind.connect(random) {
            self.send(&message);
        }
    }

    fn send(&self, message: &Value) {
        let text = message.to_string();
        self.socket.send(&masked(1, text.as_bytes()));
    }

    fn message(&mut self, mind: &mut Mind, shared: &mut Shared<'_>, message: &Value) {
        let request = message["id"].as_u64().and_then(|id| id.checked_sub(100));
        let Some(number) = request else {
            mind.take(shared.model, message);
            return;
        };
        let entity = self.asked[usize::try_from(number).unwrap()].take();
        let entity = entity.expect("one answer to each request");
        if message["type"] != "result" {
            assert_eq!(message["type"], "error", "{message}");
        }
        if let Some(sequence) = message["sequence"].as_u64() {
            let fact = shared.model.fact(&entity, sequence);
            assert!(fact.is_some(), "{message} is not durable");
        }
    }

    /// Checks what the server has sent since this was last called.
    pub(super) fn check(&mut self, model: &mut Model) {
        self.sent.bytes.extend(self.socket.take_unchecked());
        while let Some((opcode, payload)) = self.sent.next() {
            if opcode == 8 {
                self.sent.bytes.clear();
                return;
            }
            if opcode == 1 {
                check_durable(model, &serde_json::from_slice(&payload).unwrap());
            }
        }
    }

    fn ask(&mut self, shared: &mut Shared<'_>) {
        if !shared.may_ask || !self.has_subscribed || self.asked.len() > 60 {
            return;
        }
        let entity = new_id(shared.random);
        let id = 100 + self.asked.len();
        let mut message = json!({"id": id, "type": "publish"});
        match shared.random.u32(..20) {
            0 => message = json!({"type": "get", "id": id, "entity_id": entity}),
            1 => message = json!({"type": "delete", "id": id, "entity_id": entity}),
            _ => message["event"] = new_event(&entity, shared),
        }
        if message["type"] == "publish" && shared.random.u32(..12) == 0 {
            message["bind"] = json!(true);
            message["linger"] = json!(shared.random.u32(..3));
        }
        self.asked.push(Some(entity));
        self.send(&message);
    }
}

fn check_durable(model: &mut Model, message: &Value) {
    let entity = message["entity_id"].as_str().unwrap_or_default();
    if entity.starts_with("flux-core/") {
        return;
    }
    match message["type"].as_str().unwrap() {
        "ack" | "snapshot_end" | "caught_up" | "cursor" => {
            model.check_cursor(message["cursor"].as_str().unwrap());
        }
        "entity" => {
            let sequence = message["sequence"].as_u64().unwrap();
            let version = message["version"].as_u64().unwrap();
            model.check_version(entity, (sequence, version));
        }
        // Mode `entity`: it carries the sequence of what deleted it.
        "entity_deleted" if !message["sequence"].is_null() => {
            let sequence = message["sequence"].as_u64().unwrap();
            let fact = model.fact(entity, sequence);
            let is_it = fact.is_some_and(|fact| fact.is_tombstone && fact.entity == entity);
            assert!(is_it, "{message} names no deletion that is durable");
            model.checks += 1;
        }
        "event" => {
            let entity = message["payload"]["entity_id"].as_str().unwrap_or(entity);
            let sequence = message["sequence"].as_u64().unwrap();
            assert!(
                model.fact(entity, sequence).is_some(),
                "{message} is not durable"
            );
            model.checks += 1;
        }
        "state_update" if !message["value"].is_null() => {
            let name = message["property"].as_str().unwrap();
            model.check_value(entity, (name, &message["value"].to_string()));
        }
        "snapshot" => {
            for entity in message["entities"].as_array().unwrap() {
                let id = entity["id"].as_str().unwrap();
                if id.starts_with("flux-core/") {
                    continue;
                }
                for (name, value) in entity["properties"].as_object().unwrap() {
                    model.check_value(id, (name, &value.to_string()));
                }
            }
        }
        _ => {}
    }
}

/// An id of one of a few entities, a few of which have no namespace.
fn new_id(random: &mut fastrand::Rng) -> String {
    match random.u32(..10) {
        0 => format!("solo{}", random.u32(..2)),
        _ => format!("n{}/e{}", random.u32(..4), random.u32(..8)),
    }
}

fn new_event(entity: &str, shared: &mut Shared<'_>) -> Value {
    *shared.next_value += 1;
    let value = *shared.next_value;
    let random = &mut *shared.random;
    let mut properties = json!({});
    for name in ["a", "b", "c"] {
        if random.bool() {
            properties[name] = json!(value);
        }
    }
    if random.bool() {
        properties["s"] = json!(["on", "off"][random.usize(..2)]);
    }
    if random.u32(..12) == 0 {
        let text = "x".repeat(random.usize(1000..40_000));
        properties["t"] = json!(format!("{value}{text}"));
    }
    let mut payload = json!({"entity_id": entity, "properties": properties});
    match random.u32(..20) {
        0 => payload["properties"] = json!({"__deleted__": true}),
        1 => payload["ttl"] = json!(random.u32(1..4)),
        2 => {
            payload["properties"] = json!({"a": value});
            payload["unset"] = json!(["b"]);
        }
        _ => {}
    }
    json!({"stream": "s", "source": "simulation", "payload": payload})
}
