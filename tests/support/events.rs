//! A client of server-sent events that sees every byte of them (HTML standard §9.2).

use super::PATIENCE;
use super::described::check_event;
use super::http::{Response, request};
use serde_json::Value;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

/// A stream, and what has arrived of it.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
    /// The head of the answer.
    pub(crate) head: Response,
    /// Text behind the head, without the framing of chunks.
    text: String,
    is_chunked: bool,
    is_over: bool,
    /// The last `id`, as a browser sends it when it connects again.
    pub(crate) last_id: String,
    /// Comments so far.
    pub(crate) comments: usize,
    /// The last `retry`.
    pub(crate) retry: Option<u64>,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) kind: String,
    /// Its own `id`, if it has one.
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

impl Events {
    /// Asks for a stream; `fields` are header fields. The answer may be a refusal: look at the
    /// head.
    pub(crate) fn open(port: u16, target: &str, fields: &[&str]) -> Self {
        Self::send(port, &request("GET", target, fields, ""))
    }

    /// The same with the bytes of a request.
    pub(crate) fn send(port: u16, request: &str) -> Self {
        Self::try_send(port, request).expect("an answer")
    }

    /// The same of a server that may be gone.
    pub(crate) fn try_send(port: u16, request: &str) -> Option<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        Self::read(stream)
    }

    /// The stream that has been asked for on a connection.
    pub(crate) fn of(stream: TcpStream) -> Self {
        Self::read(stream).expect("an answer")
    }

    fn read(stream: TcpStream) -> Option<Self> {
        let mut events = Self {
            stream,
            received: Vec::new(),
            head: Response {
                status: 0,
                headers: Vec::new(),
                body: Vec::new(),
                status_line: String::new(),
            },
            text: String::new(),
            is_chunked: false,
            is_over: false,
            last_id: String::new(),
            comments: 0,
            retry: None,
        };
        events.read_head().then_some(events)
    }

    /// False if none comes.
    fn read_head(&mut self) -> bool {
        let end = loop {
            let found = self
                .received
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            if let Some(at) = found {
                break at + 4;
            }
            if !self.fill() {
                return false;
            }
        };
        let head: Vec<u8> = self.received.drain(..end).collect();
        let head = String::from_utf8(head).expect("a head is text");
        let mut lines = head.lines().filter(|line| !line.is_empty());
        let status_line = lines.next().expect("a status line");
        status_line.clone_into(&mut self.head.status_line);
        let status = status_line.split(' ').nth(1).expect("a status");
        self.head.status = status.parse().expect("a number");
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a field");
            let field = (name.to_ascii_lowercase(), value.to_owned());
            self.head.headers.push(field);
        }
        self.is_chunked = self.head.header("transfer-encoding") == Some("chunked");
        if let Some(len) = self.head.header("content-length") {
            let len: usize = len.parse().expect("a number");
            while self.received.len() < len {
                assert!(self.fill(), "a body of {len} bytes");
            }
            self.head.body = self.received.drain(..len).collect();
        }
        true
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) fn try_next(&mut self) -> Option<Event> {
        loop {
            while let Some(at) = self.text.find("\n\n") {
                let block: String = self.text.drain(..at + 2).collect();
                if let Some(event) = self.take_block(&block) {
                    return Some(event);
                }
            }
            if !self.decode() && !self.fill() {
                self.is_over = true;
                return None;
            }
        }
    }

    /// The next event.
    pub(crate) fn next(&mut self) -> Event {
        self.try_next().expect("the stream goes on")
    }

    /// The next event of this type; those before it are passed over.
    pub(crate) fn next_of(&mut self, kind: &str) -> Event {
        loop {
            let event = self.next();
            if event.kind == kind {
                return event;
            }
            assert_ne!(event.kind, "error", "{}", event.data);
        }
    }

    /// All events until the stream ends. In chunks, the last of them says that it does.
    pub(crate) fn rest(&mut self) -> Vec<Event> {
        let events: Vec<Event> = std::iter::from_fn(|| self.try_next()).collect();
        if self.is_chunked {
            assert_eq!(self.received, b"0\r\n\r\n", "the end of a chunked body");
        }
        events
    }

    /// Waits for one more comment.
    pub(crate) fn await_comment(&mut self) {
        let before = self.comments;
        while self.comments == before {
            while let Some(at) = self.text.find("\n\n") {
                let block: String = self.text.drain(..at + 2).collect();
                assert_eq!(self.take_block(&block), None, "only comments");
            }
            assert!(self.decode() || self.comments > before || self.fill());
        }
    }

    fn take_block(&mut self, block: &str) -> Option<Event> {
        let (mut kind, mut id, mut data) = (String::new(), None, String::new());
        for line in block.lines().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "" => self.comments += 1,
                "event" => value.clone_into(&mut kind),
                "id" => id = Some(value.to_owned()),
                "data" => data.push_str(value),
                "retry" => self.retry = Some(value.parse().expect("milliseconds")),
                _ => panic!("a line that means nothing: {line}"),
            }
        }
        if let Some(id) = &id {
            self.last_id.clone_from(id);
        }
        if data.is_empty() {
            return None;
        }
        let data = serde_json::from_str(&data).expect("JSON");
        // Those of `POST /mcp` are messages of another protocol.
        if kind != "message" {
            check_event(&data);
        }
        Some(Event { kind, id, data })
    }

    /// Takes the next chunk, or what there is of a body without. False if nothing is whole.
    fn decode(&mut self) -> bool {
        if !self.is_chunked {
            let text = std::mem::take(&mut self.received);
            self.text
                .push_str(std::str::from_utf8(&text).expect("UTF-8"));
            return !text.is_empty();
        }
        let Some(line_end) = self.received.windows(2).position(|two| two == b"\r\n") else {
            return false;
        };
        let line = std::str::from_utf8(&self.received[..line_end]).expect("a length");
        let len = usize::from_str_radix(line, 16).expect("a length");
        let (start, end) = (line_end + 2, line_end + 2 + len);
        if len == 0 || self.received.len() < end + 2 {
            return false;
        }
        let text = std::str::from_utf8(&self.received[start..end]).expect("each chunk is text");
        self.text.push_str(text);
        assert_eq!(&self.received[end..end + 2], b"\r\n");
        self.received.drain(..end + 2);
        true
    }

    /// False at the end of the connection.
    fn fill(&mut self) -> bool {
        let mut piece = [0; 8 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(len) => {
                self.received.extend_from_slice(&piece[..len]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing comes: {error}"),
        }
    }
}
