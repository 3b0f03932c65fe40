//! A client that goes on over the death of the server: it connects again, and sends again what got
//! no answer. It is safe for events that have an id of their own (API contract §14).

use super::http::{Connection, request};
use super::server::Server;
use super::watch::read_message;
use super::{PATIENCE, wait_within};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpStream;
use tungstenite::{Message, WebSocket};

/// What an agent asks for.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Publish(Value),
    Batch { events: Vec<Value>, atomic: bool },
}

/// The body of an answer: of a success, or of a refusal.
pub(crate) type Answer = Result<Value, Value>;

/// Which protocol an agent speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    WebSocket,
}

impl Protocol {
    /// The one for the agent with this number: they take turns.
    pub(crate) fn of(number: usize) -> Self {
        if number.is_multiple_of(2) {
            Self::Http
        } else {
            Self::WebSocket
        }
    }
}

#[derive(Debug)]
enum Wire {
    Http(Connection),
    WebSocket(Box<WebSocket<TcpStream>>),
}

/// See the module. It holds one connection.
#[derive(Debug)]
pub(crate) struct Agent {
    port: u16,
    protocol: Protocol,
    wire: Option<Wire>,
    /// How often all calls were sent again.
    pub(crate) retries: usize,
}

impl Agent {
    pub(crate) fn new(port: u16, protocol: Protocol) -> Self {
        Self {
            port,
            protocol,
            wire: None,
            retries: 0,
        }
    }

    /// One call and its answer.
    pub(crate) fn ask(&mut self, call: Call) -> Answer {
        let mut answers = self.ask_all(&[call]);
        answers.pop().expect("an answer for each call")
    }

    /// Sends all calls at once and reads their answers; all of it again, as often as the server
    /// dies meanwhile.
    pub(crate) fn ask_all(&mut self, calls: &[Call]) -> Vec<Answer> {
        wait_within(PATIENCE * 4, "the server to answer", || {
            let answers = self.attempt(calls);
            if answers.is_none() {
                self.wire = None;
                self.retries += 1;
            }
            answers
        })
    }

    fn attempt(&mut self, calls: &[Call]) -> Option<Vec<Answer>> {
        if self.wire.is_none() {
            self.wire = Some(connect(self.port, self.protocol)?);
        }
        match self.wire.as_mut()? {
            Wire::Http(connection) => over_http(connection, calls),
            Wire::WebSocket(socket) => over_websocket(socket, calls),
        }
    }
}

fn connect(port: u16, protocol: Protocol) -> Option<Wire> {
    if protocol == Protocol::Http {
        return Connection::try_open(port).ok().map(Wire::Http);
    }
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_nodelay(true).ok()?;
    let url = format!("ws://127.0.0.1:{port}/api/ws?metrics=false");
    let (socket, _) = tungstenite::client(url, stream).ok()?;
    Some(Wire::WebSocket(Box::new(socket)))
}

fn over_http(connection: &mut Connection, calls: &[Call]) -> Option<Vec<Answer>> {
    let requests: String = calls
        .iter()
        .map(|call| match call {
            Call::Publish(event) => request("POST", "/api/events", &[], &event.to_string()),
            Call::Batch { events, atomic } => {
                let body = json!({"events": events, "atomic": atomic}).to_string();
                request("POST", "/api/events/batch", &[], &body)
            }
        })
        .collect();
    connection.send_what_it_takes(requests);
    let answer = |_| {
        let answer = connection.try_response().ok()?;
        match answer.status {
            200 => Some(Ok(answer.json())),
            // It is about to begin or to end.
            503 => None,
            _ => Some(Err(answer.json())),
        }
    };
    calls.iter().map(answer).collect()
}

fn over_websocket(socket: &mut WebSocket<TcpStream>, calls: &[Call]) -> Option<Vec<Answer>> {
    for (id, call) in calls.iter().enumerate() {
        let message = match call {
            Call::Publish(event) => json!({"type": "publish", "id": id, "event": event}),
            Call::Batch { events, atomic } => {
                json!({"type": "publish_batch", "id": id, "events": events, "atomic": atomic})
            }
        };
        socket.write(Message::text(message.to_string())).ok()?;
    }
    socket.flush().ok()?;
    let mut answers: BTreeMap<u64, Answer> = BTreeMap::new();
    while answers.len() < calls.len() {
        let Message::Text(text) = socket.read().ok()? else {
            continue;
        };
        let (id, answer) = answer_of(&text);
        assert!(answers.insert(id, answer).is_none(), "answered twice: {id}");
    }
    Some(answers.into_values().collect())
}

/// Which call a message answers, and how.
fn answer_of(text: &str) -> (u64, Answer) {
    let answer = read_message(text);
    let id = answer["id"].as_u64().expect("the id of a call");
    let refused = answer["type"] == "error";
    (id, if refused { Err(answer) } else { Ok(answer) })
}

/// The events of a namespace or an entity, from the oldest.
pub(crate) fn history(server: &Server, query: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut target = format!("/api/events?{query}&limit=500");
    loop {
        let page = server.get(&target);
        assert_eq!(page.status, 200, "{target}: {}", page.text());
        rows.extend(page.json().as_array().expect("rows").clone());
        let Some(link) = page.header("link") else {
            break;
        };
        let next = link.split(['<', '>']).nth(1).expect("a link");
        target = String::from(next);
    }
    rows.reverse();
    rows
}

/// A number from the environment, for a run at full size.
#[expect(
    clippy::disallowed_methods,
    reason = "the size of a test is no setting of the server"
)]
pub(crate) fn size(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}
