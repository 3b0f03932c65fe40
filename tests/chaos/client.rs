//! A client: its connections, one after the other, and what it holds.

use super::held::{Held, Start};
use super::kinds::{Front, Kind, Mode};
use super::support::http::{Connection, request};
use super::support::watch::read_message;
use super::{sleep_ms, start};
use fastrand::Rng;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tungstenite::{Error, Message, WebSocket};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Between looks at whether the test is over.
const LOOK: Duration = Duration::from_millis(500);
/// One message of so many, and the client stops reading for a while.
const STALL_SHARE: u32 = 400;

/// See the module.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) kind: Kind,
    #[expect(
        clippy::disallowed_types,
        reason = "the thread of a client and that of the test; no core of a server is involved"
    )]
    held: std::sync::Mutex<Held>,
}

impl Client {
    /// It goes on until the test is over.
    pub(crate) fn start(kind: Kind, port: u16, seed: u64, is_over: &Arc<AtomicBool>) -> Arc<Self> {
        let client = Arc::new(Self {
            kind,
            held: Held::default().into(),
        });
        let (own, is_over) = (Arc::clone(&client), Arc::clone(is_over));
        start("client", move || {
            let mut random = Rng::with_seed(seed);
            while !is_over.load(Ordering::Acquire) {
                match own.kind.front {
                    Front::WebSocket => own.follow_websocket(port, &mut random, &is_over),
                    Front::Stream => drop(own.follow_stream(port, &mut random, &is_over)),
                    Front::Changes => drop(own.follow_changes(port, &is_over)),
                }
                own.with(Held::end);
                sleep_ms(random.u64(1..150));
            }
        });
        client
    }

    /// Looks at what it holds, or changes it.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Held) -> T) -> T {
        look(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One connection, until it ends.
    fn follow_websocket(&self, port: u16, random: &mut Rng, is_over: &AtomicBool) {
        let Some(mut socket) = open(port) else {
            return;
        };
        let mut subscription = self.kind.options();
        let pick = random.usize(..8);
        let resumes = self.kind.resumes;
        let cursor = self.with(|held| resumes.then(|| held.go_back(pick))?);
        let start = Start::of(&self.kind, cursor.as_ref());
        self.with(|held| held.begin(start));
        if let Some(cursor) = cursor {
            subscription.insert("since".into(), json!(cursor));
        } else if start == Start::Snapshot {
            subscription.insert("snapshot".into(), json!(true));
        }
        subscription.insert("type".into(), json!("subscribe"));
        subscription.insert("id".into(), json!("c"));
        subscription.insert("entity_id".into(), json!(self.kind.pattern));
        let subscription = Value::Object(subscription).to_string();
        if socket.send(Message::text(subscription)).is_err() {
            return;
        }
        while !is_over.load(Ordering::Acquire) {
            match socket.read() {
                Ok(Message::Text(text)) => {
                    let message = read_message(&text);
                    if self.with(|held| held.take(&self.kind, &message)).is_err() {
                        return;
                    }
                }
                Ok(Message::Close(_)) => return,
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            stall(random);
        }
    }

    /// One stream of server-sent events, as a browser's `EventSource` asks for it.
    fn follow_stream(&self, port: u16, random: &mut Rng, is_over: &AtomicBool) -> Option<()> {
        let mut stream = EventStream::connect(port)?;
        let last_id = self.with(|held| held.last_id.clone());
        let last_id = last_id.filter(|_| self.kind.resumes);
        let start = Start::of(&self.kind, last_id.as_ref());
        self.with(|held| held.begin(start));
        // As an EventSource does it: the address is always the same.
        let is_event = self.kind.mode == Mode::Event;
        let snapshot = if is_event { "" } else { "&snapshot=true" };
        let target = format!("/api/stream?{}{snapshot}", self.kind.query());
        let last_id = last_id.map(|id| format!("Last-Event-ID: {id}"));
        let fields: Vec<&str> = last_id.iter().map(String::as_str).collect();
        stream.send(&request("GET", &target, &fields, ""))?;
        while !is_over.load(Ordering::Acquire) {
            match stream.next()? {
                Heard::Nothing => {}
                Heard::Refused(status) => {
                    let what = json!({"status": status, "target": target});
                    if status != "503" {
                        self.with(|held| held.complain("refused", &what));
                    }
                    return None;
                }
                Heard::Event { id, data } => {
                    let data = data.as_deref();
                    let taken = self.with(|held| held.take_dispatched(&self.kind, id, data));
                    taken.ok()?;
                    stall(random);
                }
            }
        }
        None
    }

    /// Polls on one connection.
    fn follow_changes(&self, port: u16, is_over: &AtomicBool) -> Option<()> {
        let mut connection = Connection::try_open(port).ok()?;
        self.with(|held| held.begin(Start::Since));
        while !is_over.load(Ordering::Acquire) {
            // Nothing has happened when it begins: the first answer has a cursor and no changes.
            let since = self.with(|held| held.cursor(0));
            let since = since.map_or_else(String::new, |cursor| format!("&since={cursor}"));
            let target = format!("/api/changes?wait=1&limit=50&{}{since}", self.kind.query());
            let answer = connection.try_request("GET", &target, "").ok()?;
            match answer.status {
                200 => {
                    let answer = serde_json::from_slice(&answer.body).expect("answers are JSON");
                    self.with(|held| held.take_changes(&self.kind, &answer))
                        .ok()?;
                }
                503 => return None,
                _ => {
                    let what = json!({"target": target, "answer": answer.text()});
                    self.with(|held| held.complain("refused", &what));
                    return None;
                }
            }
        }
        None
    }
}

fn stall(random: &mut Rng) {
    if random.u32(..STALL_SHARE) == 0 {
        sleep_ms(random.u64(..800));
    }
}

/// What a stream of server-sent events brings.
enum Heard {
    Nothing,
    /// Another status than 200.
    Refused(String),
    Event {
        /// Empty: the one before is taken back.
        id: Option<String>,
        /// `None`: it has no data and is dispatched to nobody, but its id counts.
        data: Option<String>,
    },
}

/// A chunked answer whose body is server-sent events.
struct EventStream {
    stream: TcpStream,
    received: Vec<u8>,
    has_head: bool,
    /// Chunks without their framing, up to the end of the last whole event.
    text: Vec<u8>,
}

impl EventStream {
    fn connect(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(LOOK)).ok()?;
        stream.set_write_timeout(Some(HANDSHAKE)).ok()?;
        Some(Self {
            stream,
            received: Vec::new(),
            has_head: false,
            text: Vec::new(),
        })
    }

    fn send(&mut self, request: &str) -> Option<()> {
        self.stream.write_all(request.as_bytes()).ok()
    }

    /// `None` at the end of the connection.
    fn next(&mut self) -> Option<Heard> {
        loop {
            if let Some(end) = find(&self.text, b"\n\n") {
                let event: Vec<u8> = self.text.drain(..end + 2).collect();
                let event = String::from_utf8(event).expect("events are UTF-8");
                let line = |name: &str| {
                    let mut lines = event.lines();
                    let value = lines.find_map(|line| line.strip_prefix(name));
                    value.map(|value| value.trim_start().to_owned())
                };
                return Some(Heard::Event {
                    id: line("id:"),
                    data: line("data:"),
                });
            }
            if !self.has_head
                && let Some(end) = find(&self.received, b"\r\n\r\n")
            {
                let head: Vec<u8> = self.received.drain(..end + 4).collect();
                self.has_head = true;
                if !head.starts_with(b"HTTP/1.1 200 ") {
                    let head = String::from_utf8_lossy(&head);
                    let status = head.split(' ').nth(1).unwrap_or_default();
                    return Some(Heard::Refused(status.to_owned()));
                }
            }
            if self.has_head && self.take_chunk()? {
                continue;
            }
            let mut piece = [0; 8 * 1024];
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(len) => self.received.extend_from_slice(&piece[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Heard::Nothing),
                Err(_) => return None,
            }
        }
    }

    /// True if a whole chunk was there; `None` if it was the last one.
    fn take_chunk(&mut self) -> Option<bool> {
        let Some(line) = find(&self.received, b"\r\n") else {
            return Some(false);
        };
        let len = std::str::from_utf8(&self.received[..line]).expect("a length");
        let len = usize::from_str_radix(len, 16).expect("a length");
        let (start, end) = (line + 2, line + 2 + len);
        if self.received.len() < end + 2 {
            return Some(false);
        }
        self.text.extend_from_slice(&self.received[start..end]);
        self.received.drain(..end + 2);
        (len > 0).then_some(true)
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    let mut windows = bytes.windows(pattern.len());
    windows.position(|window| window == pattern)
}

fn open(port: u16) -> Option<WebSocket<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(HANDSHAKE)).ok()?;
    stream.set_write_timeout(Some(HANDSHAKE)).ok()?;
    stream.set_nodelay(true).ok()?;
    let url = format!("ws://127.0.0.1:{port}/api/ws?metrics=false");
    let (socket, _) = tungstenite::client(url, stream).ok()?;
    socket.get_ref().set_read_timeout(Some(LOOK)).ok()?;
    Some(socket)
}
