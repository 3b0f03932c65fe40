//! An HTTP/1.1 client that sends the bytes it is given and reads one answer at a time (RFC 9112).

use super::described;
use super::server::Server;
use super::{PATIENCE, event};
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

/// A connection, and the bytes that arrived behind the answers read so far.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
    /// Method and target of the requests without an answer. `None`: what was sent is not known to
    /// be a request, so no answer is known to be one to a request that is.
    asked: Option<VecDeque<(String, String)>>,
}

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case, in the order they came.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// `HTTP/1.1 200 OK`
    pub(crate) status_line: String,
}

impl Connection {
    pub(crate) fn try_open(port: u16) -> io::Result<Self> {
        Self::over(TcpStream::connect(("127.0.0.1", port))?)
    }

    /// Over a stream that is connected.
    pub(crate) fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
            asked: Some(VecDeque::new()),
        })
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.note(bytes.as_ref());
        self.stream
            .write_all(bytes.as_ref())
            .expect("the server takes the bytes");
    }

    /// Sends bytes of which the server may refuse the rest.
    pub(crate) fn send_what_it_takes(&mut self, bytes: impl AsRef<[u8]>) {
        self.note(bytes.as_ref());
        // This write fails if the server has closed already; only the answer, which is read next,
        // counts.
        drop(self.stream.write_all(bytes.as_ref()));
    }

    /// Closes the sending side of the connection.
    pub(crate) fn finish_sending(&self) {
        self.stream
            .shutdown(Shutdown::Write)
            .expect("an open connection");
    }

    /// Notes what is asked for by the bytes, if they are whole requests.
    fn note(&mut self, bytes: &[u8]) {
        let Some(asked) = &mut self.asked else {
            return;
        };
        match requests_in(bytes) {
            Some(requests) => asked.extend(requests),
            None => self.asked = None,
        }
    }

    /// Sends a request and reads its answer. `HEAD` is understood.
    pub(crate) fn request(&mut self, method: &str, target: &str, body: &str) -> Response {
        self.try_request(method, target, body)
            .unwrap_or_else(|error| panic!("no answer to {method} {target}: {error}"))
    }

    pub(crate) fn try_request(
        &mut self,
        method: &str,
        target: &str,
        body: &str,
    ) -> io::Result<Response> {
        let request = request(method, target, &[], body);
        self.note(request.as_bytes());
        self.stream.write_all(request.as_bytes())?;
        self.try_read(method == "HEAD")
    }

    /// The next answer; it belongs to a request other than `HEAD`.
    pub(crate) fn response(&mut self) -> Response {
        self.try_read(false).expect("an answer")
    }

    /// The next answer, to a `HEAD`.
    pub(crate) fn response_to_head(&mut self) -> Response {
        self.try_read(true).expect("an answer")
    }

    pub(crate) fn try_response(&mut self) -> io::Result<Response> {
        self.try_read(false)
    }

    /// The next answer, to a request of this method.
    pub(crate) fn try_response_to(&mut self, method: &str) -> io::Result<Response> {
        self.try_read(method == "HEAD")
    }

    /// The next bytes, as after an upgrade.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        self.take(len).expect("so many bytes")
    }

    /// Expects the server to close and to send nothing more. A reset counts, because the server may
    /// have closed before it read all bytes.
    pub(crate) fn expect_closed(&mut self) {
        assert!(
            self.received.is_empty(),
            "left over: {}",
            String::from_utf8_lossy(&self.received)
        );
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert!(
                rest.is_empty(),
                "more than was asked for: {}",
                String::from_utf8_lossy(&rest)
            ),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }

    /// Expects that nothing has arrived by now that was not read.
    pub(crate) fn expect_nothing_yet(&mut self) {
        self.stream
            .set_nonblocking(true)
            .expect("an open connection");
        let arrived = self.stream.peek(&mut [0; 1]);
        self.stream
            .set_nonblocking(false)
            .expect("an open connection");
        let error = arrived.expect_err("nothing has arrived");
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        assert!(self.received.is_empty(), "nothing is left over");
    }

    fn try_read(&mut self, to_head: bool) -> io::Result<Response> {
        let response = self.try_read_any(to_head)?;
        let is_interim = response.status == 100;
        let asked = self.asked.as_mut().filter(|_| !is_interim);
        if let Some((method, target)) = asked.and_then(VecDeque::pop_front) {
            let method = if to_head { "HEAD" } else { &method };
            described::check_answer(method, &target, &response);
        }
        Ok(response)
    }

    fn try_read_any(&mut self, to_head: bool) -> io::Result<Response> {
        let head_len = loop {
            if let Some(at) = find(&self.received, b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let head: Vec<u8> = self.received.drain(..head_len).collect();
        let mut response = parse_head(&head)?;
        // Whatever is asked and however it ends: an interim answer is none.
        assert!(
            response.status == 100 || response.header("x-content-type-options") == Some("nosniff"),
            "an answer that a browser may sniff: {}",
            response.status_line
        );
        let bodiless = to_head || response.status < 200 || matches!(response.status, 204 | 304);
        // A stream of events does not end.
        if bodiless || response.header("content-type") == Some("text/event-stream") {
            return Ok(response);
        }
        response.body = if response.header("transfer-encoding") == Some("chunked") {
            self.read_chunks()?
        } else if let Some(len) = response.header("content-length") {
            let len = len.parse::<usize>().map_err(io::Error::other)?;
            self.take(len)?
        } else {
            self.stream.read_to_end(&mut self.received)?;
            std::mem::take(&mut self.received)
        };
        Ok(response)
    }

    fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_line()?;
            let size = line.split(';').next().unwrap_or("").trim();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                while !self.take_line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size)?);
            if !self.take_line()?.is_empty() {
                return Err(io::Error::other("a chunk is longer than it says"));
            }
        }
    }

    fn take_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = find(&self.received, b"\r\n") {
                let line = self.received.drain(..at + 2).take(at).collect();
                return String::from_utf8(line).map_err(io::Error::other);
            }
            self.fill()?;
        }
    }

    fn take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.received.len() < len {
            self.fill()?;
        }
        Ok(self.received.drain(..len).collect())
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 8 * 1024];
        match self.stream.read(&mut piece)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            len => {
                self.received.extend_from_slice(&piece[..len]);
                Ok(())
            }
        }
    }
}

impl Response {
    /// The value of a header; if it is repeated, the first.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("answers are UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_else(|error| {
            panic!("not JSON ({error}): {} {}", self.status_line, self.text())
        })
    }

    /// Expects an error with this status, a message and a code; returns the code.
    pub(crate) fn expect_error(&self, status: u16, what: &str) -> String {
        assert_eq!(self.status, status, "{what}: {}", self.text());
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{what}"
        );
        let body = self.json();
        let message = body["error"]
            .as_str()
            .unwrap_or_else(|| panic!("{what}: no message in {body}"));
        let code = body["code"]
            .as_str()
            .unwrap_or_else(|| panic!("{what}: no code in {body}"));
        assert!(!message.is_empty(), "{what}: an empty message");
        assert!(super::is_snake_case(code), "{what}: {code}");
        code.to_owned()
    }
}

/// A request; with a body it has a `Content-Length`.
pub(crate) fn request(method: &str, target: &str, headers: &[&str], body: &str) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        text.push_str(&["Content-Length: ", &body.len().to_string(), "\r\n"].concat());
    }
    text.push_str("\r\n");
    text.push_str(body);
    text
}

/// Publishes one event about an entity.
pub(crate) fn publish_request(entity_id: &str, headers: &[&str]) -> String {
    request(
        "POST",
        "/api/events",
        headers,
        &event(entity_id, r#"{"n":1}"#),
    )
}

/// The same in two chunks: `LEN1`, `DATA1`, `LEN2` and `DATA2` in `chunks` stand for them.
pub(crate) fn chunked(entity_id: &str, chunks: &str, trailers: &str) -> String {
    let body = event(entity_id, r#"{"n":1}"#);
    let (first, rest) = body.split_at(7);
    let chunks = chunks
        .replace("LEN1", &format!("{:x}", first.len()))
        .replace("LEN2", &format!("{:X}", rest.len()))
        .replace("DATA1", first)
        .replace("DATA2", rest);
    let head = request("POST", "/api/events", &["Transfer-Encoding: chunked"], "");
    format!("{head}{chunks}0\r\n{trailers}\r\n")
}

/// The answer to these bytes on a new connection.
pub(crate) fn answered(server: &Server, bytes: &[u8], what: &str) -> Response {
    let mut connection = server.connect();
    connection.send(bytes);
    connection
        .try_response()
        .unwrap_or_else(|error| panic!("{what}: no answer: {error}"))
}

/// Percent-encodes every byte that is not unreserved (RFC 3986 §2.3).
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.extend(format!("%{byte:02X}").chars());
        }
    }
    encoded
}

/// Method and target of each request, if the bytes are whole requests that frame their bodies by
/// `Content-Length`.
fn requests_in(mut bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        let head_len = find(bytes, b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..head_len]).ok()?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let is_plain = words.next()? == "HTTP/1.1" && words.next().is_none();
        if !is_plain || !target.starts_with('/') {
            return None;
        }
        let mut body_len = 0;
        for line in lines {
            let (name, value) = line.split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => body_len = value.trim().parse().ok()?,
                "transfer-encoding" => return None,
                _ => {}
            }
        }
        bytes = bytes.get(head_len.checked_add(body_len)?..)?;
        requests.push((method.to_owned(), target.to_owned()));
    }
    Some(requests)
}

fn parse_head(head: &[u8]) -> io::Result<Response> {
    let head = std::str::from_utf8(head).map_err(io::Error::other)?;
    let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
    let status_line = lines.next().unwrap_or("").to_owned();
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status =
        status.ok_or_else(|| io::Error::other(format!("no status line: {status_line}")))?;
    let headers = lines
        .map(|line| {
            line.split_once(':')
                .ok_or_else(|| io::Error::other(format!("no header: {line}")))
        })
        .map(|pair| pair.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())))
        .collect::<io::Result<_>>()?;
    Ok(Response {
        status,
        headers,
        body: Vec::new(),
        status_line,
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
