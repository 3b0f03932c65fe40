//! A client that publishes, reads, lists and deletes over one HTTP connection after another, and
//! holds every answer against the model.

use super::model::{Entity, Model, Positions};
use super::network::ClientSocket;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};

/// Requests of one connection that may wait for their answers.
const PIPELINED_MAX: usize = 6;

/// An event that is sent: entity, event id, and what it sets; `None` for a tombstone.
type Sent = (String, String, Option<BTreeMap<String, String>>);

/// A request that waits for its answer.
#[derive(Debug)]
struct Call {
    request: Request,
    /// What was known when it was sent.
    floor: Positions,
}

#[derive(Debug)]
enum Request {
    Publish(Sent),
    Batch(Vec<Sent>),
    Get(String),
    /// The query's filter, by prefix of the id.
    List(String),
    Delete(String),
    Health,
}

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

/// What all clients share.
pub(super) struct Shared<'s> {
    pub(super) random: &'s mut fastrand::Rng,
    pub(super) model: &'s mut Model,
    /// The next unique value.
    pub(super) next_value: &'s mut u64,
    pub(super) step: u64,
    /// False while the world comes to rest.
    pub(super) may_ask: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct HttpClient {
    socket: ClientSocket,
    /// Bytes that are not sent yet.
    out: VecDeque<u8>,
    calls: VecDeque<Call>,
    unparsed: Vec<u8>,
    /// The last record of each shard that this connection was told to be stored.
    stored: Positions,
    /// It does not read for a while.
    is_stalled: bool,
    /// It has closed its side.
    is_closed: bool,
}

impl HttpClient {
    pub(super) fn new(socket: ClientSocket, shards: u16) -> Self {
        Self {
            socket,
            out: VecDeque::new(),
            calls: VecDeque::new(),
            unparsed: Vec::new(),
            stored: vec![0; usize::from(shards)],
            is_stalled: false,
            is_closed: false,
        }
    }

    /// Does something, or nothing. False if the connection is over.
    pub(super) fn step(&mut self, shared: &mut Shared<'_>) -> bool {
        if self.socket.has_ended() {
            return false;
        }
        match shared.random.u32(..1000) {
            0..5 if shared.may_ask => {
                self.socket.reset();
                return false;
            }
            5..10 if shared.may_ask => {
                self.socket.close();
                self.is_closed = true;
            }
            10..20 => self.is_stalled = shared.may_ask,
            20..60 => self.is_stalled = false,
            60..500 => self.send_some(shared),
            500..750 if shared.may_ask => self.ask(shared),
            _ => self.receive_some(shared),
        }
        true
    }

    /// True if nothing is on its way.
    pub(super) fn is_settled(&self) -> bool {
        if self.is_closed {
            return self.socket.has_ended();
        }
        self.calls.is_empty() && self.out.is_empty() && !self.socket.has_bytes()
            || self.socket.has_ended()
    }

    /// Sends and receives everything. Returns how many bytes were received.
    pub(super) fn settle(&mut self) -> usize {
        if !self.is_closed {
            self.socket.send(self.out.make_contiguous());
            self.out.clear();
        }
        let received = self.socket.receive(usize::MAX);
        if self.is_closed || self.socket.has_ended() {
            self.out.clear();
        }
        received
    }

    fn send_some(&mut self, shared: &mut Shared<'_>) {
        if self.is_closed {
            return;
        }
        let (bytes, _) = self.out.as_slices();
        let count = shared.random.usize(..=bytes.len());
        if count > 0 && self.socket.send(&bytes[..count]) {
            self.out.drain(..count);
        }
    }

    fn receive_some(&mut self, shared: &mut Shared<'_>) {
        if !self.is_stalled {
            let max = shared.random.usize(1..2000);
            self.socket.receive(max);
        }
    }

    fn ask(&mut self, shared: &mut Shared<'_>) {
        if self.calls.len() >= PIPELINED_MAX || self.is_closed {
            return;
        }
        let (head, body, request) = match shared.random.u32(..100) {
            0..55 => {
                let sent = new_event(shared);
                let body = event_json(&sent);
                ("POST /api/events".to_owned(), body, Request::Publish(sent))
            }
            55..65 => {
                // Some take several turns of the server.
                let max = [8, 8, 8, 120][shared.random.usize(..4)];
                let count = shared.random.usize(1..max);
                let events: Vec<Sent> = (0..count).map(|_| new_event(shared)).collect();
                let items: Vec<String> = events.iter().map(event_json).collect();
                let body = format!("{{\"events\":[{}]}}", items.join(","));
                let head = "POST /api/events/batch".to_owned();
                (head, body, Request::Batch(events))
            }
            65..85 => {
                let entity = new_id(shared.random);
                let head = format!("GET /api/state/entities/{entity}");
                (head, String::new(), Request::Get(entity))
            }
            85..90 => {
                let prefix = match shared.random.u32(..3) {
                    0 => String::new(),
                    1 => format!("n{}/", shared.random.u32(..4)),
                    _ => format!("n{}/e1", shared.random.u32(..4)),
                };
                let limit = match shared.random.u32(..2) {
                    0 => String::new(),
                    _ => format!("&limit={}", shared.random.u32(1..20)),
                };
                let head = format!("GET /api/state/entities?prefix={prefix}{limit}");
                (head, String::new(), Request::List(prefix))
            }
            90..98 => {
                let entity = new_id(shared.random);
                let head = format!("DELETE /api/state/entities/{entity}");
                (head, String::new(), Request::Delete(entity))
            }
            _ => ("GET /health".to_owned(), String::new(), Request::Health),
        };
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let text = format!("{head} HTTP/1.1\r\nHost: flux\r\n{length}\r\n{body}");
        self.out.extend(text.as_bytes());
        let floor = shared.model.floor();
        self.calls.push_back(Call { request, floor });
    }

    /// Checks what the server has sent since this was last called.
    pub(super) fn check(&mut self, shared: &mut Shared<'_>) {
        self.unparsed.extend(self.socket.take_unchecked());
        while let Some(answer) = take_answer(&mut self.unparsed) {
            let code = json(&answer.body)["code"].as_str().map(str::to_owned);
            let Some(call) = self.calls.pop_front() else {
                // Said by a server that closes the connection: it did not wait for a request.
                assert!(answer.status >= 400, "{answer:?} answers nothing");
                return;
            };
            match (call.request, answer.status) {
                (Request::Publish(sent), 200) => self.stored(shared, &sent, &call.floor),
                (Request::Publish(sent), _) => refused(shared, &sent, code.as_deref()),
                (Request::Batch(events), 200) => {
                    let body = json(&answer.body);
                    let results = body["results"].as_array().unwrap();
                    assert_eq!(results.len(), events.len());
                    for (sent, result) in events.iter().zip(results) {
                        match result["code"].as_str() {
                            None => self.stored(shared, sent, &call.floor),
                            code => refused(shared, sent, code),
                        }
                    }
                }
                (Request::Batch(events), _) => {
                    let code = code.as_deref();
                    for sent in &events {
                        refused(shared, sent, code);
                    }
                }
                (Request::Get(id), 200) => {
                    let body = json(&answer.body);
                    let found = entity_of(&body);
                    shared.model.shown(&id, Some(&found), &call.floor);
                    if let Some(tag) = header(&answer.head, "etag") {
                        shared.model.tagged(tag, &id, found.0);
                    }
                }
                (Request::Get(id) | Request::Delete(id), 404) => {
                    shared.model.shown(&id, None, &call.floor);
                }
                (Request::List(prefix), 200) => check_list(shared, &prefix, &answer, &call.floor),
                (Request::Delete(id), 200) => {
                    let body = json(&answer.body);
                    let event_id = body["eventId"].as_str().unwrap().to_owned();
                    shared.model.stored((&id, &event_id), None, &call.floor);
                }
                (Request::Health, status) => assert_eq!(status, 200),
                (Request::Get(_) | Request::List(_) | Request::Delete(_), status) => {
                    assert!(matches!(status, 500 | 503), "{answer:?}");
                }
            }
        }
    }

    fn stored(&mut self, shared: &mut Shared<'_>, sent: &Sent, floor: &Positions) {
        let (entity, event_id, set) = sent;
        let (shard, sequence) = shared.model.stored((entity, event_id), set.as_ref(), floor);
        assert!(
            self.stored[shard] < sequence,
            "{event_id} is stored before an earlier request of its connection"
        );
        self.stored[shard] = sequence;
    }
}

fn refused(shared: &mut Shared<'_>, (_, event_id, _): &Sent, code: Option<&str>) {
    // After a failed flush nobody knows what the disk has kept.
    if code != Some("storage_fault") {
        shared.model.refused(event_id);
    }
}

fn check_list(shared: &mut Shared<'_>, prefix: &str, answer: &Answer, floor: &Positions) {
    let body = json(&answer.body);
    let mut listed: BTreeMap<String, Entity> = BTreeMap::new();
    for entity in body.as_array().unwrap() {
        let id = entity["id"].as_str().unwrap();
        let is_next = listed.last_key_value().is_none_or(|(last, _)| &**last < id);
        assert!(is_next, "{id} is out of order");
        if id != "flux-core/directory" {
            listed.insert(id.to_owned(), entity_of(entity));
        }
    }
    let is_part = header(&answer.head, "link").is_some();
    let last = listed.last_key_value().map(|(last, _)| last.clone());
    for id in shared.model.entities() {
        let is_beyond = is_part && last.as_ref().is_none_or(|last| id > *last);
        if id.starts_with(prefix) && !is_beyond {
            shared.model.shown(&id, listed.get(&id), floor);
        }
    }
    for id in listed.keys() {
        assert!(id.starts_with(prefix), "{id} is listed for {prefix}");
    }
}

/// An id of one of a few entities.
pub(super) fn new_id(random: &mut fastrand::Rng) -> String {
    format!("n{}/e{}", random.u32(..4), random.u32(..12))
}

fn new_event(shared: &mut Shared<'_>) -> Sent {
    *shared.next_value += 1;
    let value = *shared.next_value;
    let entity = new_id(shared.random);
    let event_id = format!("event-{value}");
    shared.model.begin(&event_id, shared.step);
    let names = ["a", "b", "c"];
    let set = match shared.random.u32(..20) {
        0 => None,
        1..4 => Some((value.to_string(), 0)),
        4 => {
            // Long enough to fill a socket.
            let text = "x".repeat(shared.random.usize(500..20_000));
            Some((format!("\"{value}{text}\""), 1))
        }
        _ => Some((value.to_string(), shared.random.usize(1..=3))),
    };
    let set = set.map(|(value, count)| {
        let names = names.iter().take(count);
        names
            .map(|name| ((*name).to_owned(), value.clone()))
            .collect()
    });
    (entity, event_id, set)
}

fn event_json((entity, event_id, set): &Sent) -> String {
    let properties = match set {
        None => "\"__deleted__\":true".to_owned(),
        Some(set) => {
            let members: Vec<String> = set
                .iter()
                .map(|(name, value)| format!("\"{name}\":{value}"))
                .collect();
            members.join(",")
        }
    };
    format!(
        "{{\"eventId\":\"{event_id}\",\"stream\":\"s\",\"source\":\"simulation\",\"payload\":{{\"entity_id\":\"{entity}\",\
         \"properties\":{{{properties}}}}}}}"
    )
}

fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or(Value::Null)
}

fn entity_of(json: &Value) -> Entity {
    let properties = json["properties"].as_object().unwrap().iter();
    let properties = properties.map(|(name, value)| (name.clone(), value.to_string()));
    (json["version"].as_u64().unwrap(), properties.collect())
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut found = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value)
}

/// Takes a whole answer off the front of what has arrived.
fn take_answer(bytes: &mut Vec<u8>) -> Option<Answer> {
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let (body, end) = match header(&head, "content-length") {
        Some(length) => {
            let body_end = end + length.parse::<usize>().ok()?;
            (bytes.get(end..body_end)?.to_vec(), body_end)
        }
        None if header(&head, "transfer-encoding").is_some() => chunked(bytes, end)?,
        None => (Vec::new(), end),
    };
    bytes.drain(..end);
    Some(Answer { status, head, body })
}

fn chunked(bytes: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    loop {
        let line = bytes[at..].windows(2).position(|it| it == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + line]).ok()?;
        let size = usize::from_str_radix(size, 16).ok()?;
        let start = at + line + 2;
        at = start + size + 2;
        body.extend_from_slice(bytes.get(start..at)?.split_at(size).0);
        if size == 0 {
            return Some((body, at));
        }
    }
}
