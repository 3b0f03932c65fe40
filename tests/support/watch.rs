//! A WebSocket client, as a dashboard or an agent has it.

use super::described::check_message;
use super::server::Server;
use super::{PATIENCE, deadline, now};
use serde_json::{Value, json};
use std::net::TcpStream;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

/// A message of a server, which is as its description says.
pub(crate) fn read_message(text: &str) -> Value {
    let message = serde_json::from_str(text).expect("a JSON message");
    check_message(&message);
    message
}

/// A connection to `/api/ws`.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) socket: WebSocket<TcpStream>,
    next_id: u64,
}

impl Watcher {
    /// Connects without metrics messages.
    pub(crate) fn connect(server: &Server) -> Self {
        Self::connect_to(server, "/api/ws?metrics=false")
    }

    pub(crate) fn connect_to(server: &Server, target: &str) -> Self {
        let stream =
            TcpStream::connect(("127.0.0.1", server.port)).expect("the server accepts connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        let url = format!("ws://127.0.0.1:{}{target}", server.port);
        let (socket, _) = tungstenite::client(url, stream).expect("the handshake succeeds");
        Self { socket, next_id: 0 }
    }

    /// Connects with a token.
    pub(crate) fn connect_with_token(server: &Server, token: &str) -> Self {
        let stream =
            TcpStream::connect(("127.0.0.1", server.port)).expect("the server accepts connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let url = format!("ws://127.0.0.1:{}/api/ws?metrics=false", server.port);
        let mut request = url.into_client_request().expect("a request");
        let authorization = format!("Bearer {token}").parse().expect("a header value");
        request.headers_mut().insert("Authorization", authorization);
        let (socket, _) = tungstenite::client(request, stream).expect("the handshake succeeds");
        Self { socket, next_id: 0 }
    }

    /// All messages until the server closes, and the close code.
    pub(crate) fn rest(&mut self) -> (Vec<Value>, u16) {
        let mut messages = Vec::new();
        loop {
            match self.socket.read().expect("a message or a close frame") {
                Message::Text(text) => messages.push(read_message(&text)),
                Message::Close(frame) => {
                    return (messages, frame.map_or(1005, |frame| frame.code.into()));
                }
                _ => {}
            }
        }
    }

    /// Subscribes and waits for the acknowledgement.
    pub(crate) fn subscribe(&mut self, pattern: &str) {
        self.ask("subscribe", pattern);
    }

    /// Unsubscribes and waits for the acknowledgement.
    pub(crate) fn unsubscribe(&mut self, pattern: &str) {
        self.ask("unsubscribe", pattern);
    }

    pub(crate) fn send(&mut self, message: &str) {
        self.socket
            .send(Message::text(message))
            .expect("the server takes messages");
    }

    /// Sends messages in one go.
    pub(crate) fn send_all(&mut self, messages: &[&str]) {
        for message in messages {
            let written = self.socket.write(Message::text(*message));
            written.expect("the server takes messages");
        }
        self.socket.flush().expect("the server takes messages");
    }

    /// The next message other than metrics.
    pub(crate) fn next(&mut self) -> Value {
        loop {
            let message = self.next_of_any_type();
            if message["type"] != "metrics_update" {
                return message;
            }
        }
    }

    pub(crate) fn next_of_any_type(&mut self) -> Value {
        let until = deadline();
        loop {
            assert!(now() < until, "only control frames for a long time");
            match self.socket.read().expect("a message") {
                Message::Text(text) => return read_message(&text),
                Message::Binary(bytes) => panic!("a binary message: {bytes:?}"),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// The pushes of the next `count` changes, as (entity id, property, value).
    pub(crate) fn changes(&mut self, count: usize) -> Vec<(String, String, Value)> {
        (0..count)
            .map(|_| {
                let push = self.next();
                assert_eq!(push["type"], "state_update", "{push}");
                let text = |name: &str| push[name].as_str().expect("a string").to_owned();
                (text("entity_id"), text("property"), push["value"].clone())
            })
            .collect()
    }

    /// Reads until the server closes; returns the close code, or 1006 if there was none.
    pub(crate) fn close_code(&mut self) -> u16 {
        let until = deadline();
        while now() < until {
            match self.socket.read() {
                Ok(Message::Close(Some(frame))) => return frame.code.into(),
                Ok(Message::Close(None)) => return CloseCode::Status.into(),
                Ok(Message::Text(text)) => drop(read_message(&text)),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => return CloseCode::Abnormal.into(),
            }
        }
        panic!("the server did not close");
    }

    fn ask(&mut self, kind: &str, pattern: &str) {
        self.next_id += 1;
        let id = self.next_id;
        self.send(&json!({"type": kind, "entity_id": pattern, "id": id}).to_string());
        loop {
            let answer = self.next();
            // A subscription in force may push before its answer comes.
            if answer["type"] != "state_update" && answer["type"] != "entity_deleted" {
                assert_eq!(answer, json!({"type": "ack", "id": id}), "{kind} {pattern}");
                return;
            }
        }
    }
}
