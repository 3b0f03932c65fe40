//! A blocking HTTP/1.1 client for one connection, which reads what Flux answers and no more.

use anyhow::{Context, Result, bail};
use memchr::memmem;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// How long an answer may take: a server that still replays its log answers at once that it does.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer that is read, bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of one read.
const READ_BYTES: usize = 64 * 1024;

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Chunked bodies with their framing.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn has(&self, text: &str) -> bool {
        memmem::find(&self.body, text.as_bytes()).is_some()
    }
}

#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    /// Received and not consumed.
    buffer: Vec<u8>,
}

impl Client {
    /// # Errors
    /// When nobody listens.
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// # Errors
    /// When the connection ends, or no answer comes in thirty seconds.
    pub(crate) fn get(&mut self, path: &str) -> Result<Reply> {
        self.send(get(path).as_bytes())?;
        self.receive()
    }

    /// # Errors
    /// As for [`Self::get`].
    pub(crate) fn post(&mut self, path: &str, body: &str) -> Result<Reply> {
        self.send(post(path, body).as_bytes())?;
        self.receive()
    }

    /// Sends requests; their answers are read in order by [`Self::receive`].
    pub(crate) fn send(&mut self, requests: &[u8]) -> Result<()> {
        let sent = self.stream.write_all(requests);
        sent.context("cannot send to the server")
    }

    /// # Errors
    /// As for [`Self::get`].
    pub(crate) fn receive(&mut self) -> Result<Reply> {
        loop {
            if let Some((reply, len)) = parse(&self.buffer)? {
                self.buffer.drain(..len);
                return Ok(reply);
            }
            let len = self.buffer.len();
            if len > ANSWER_BYTES_MAX {
                bail!("the server sent an answer of more than {ANSWER_BYTES_MAX} bytes");
            }
            self.buffer.resize(len + READ_BYTES, 0);
            let received = self.stream.read(&mut self.buffer[len..]);
            self.buffer.truncate(len + *received.as_ref().unwrap_or(&0));
            if received.context("no answer from the server")? == 0 {
                bail!("the server closed the connection before answering");
            }
        }
    }
}

/// The text of a request.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The answer at the start of `bytes`, and its length; `None` while it is not whole. One of unknown
/// length must be the last that is asked for.
fn parse(bytes: &[u8]) -> Result<Option<(Reply, usize)>> {
    const END_OF_CHUNKS: &[u8] = b"\r\n0\r\n\r\n";
    let Some(head_len) = memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4) else {
        return Ok(None);
    };
    let head = str::from_utf8(&bytes[..head_len]).context("the head of an answer is not text")?;
    let status = head.get(9..12).and_then(|digits| digits.parse().ok());
    let status = status.context("an answer without a status")?;
    let end = match field(head, "content-length") {
        Some(len) => head_len + len.parse::<usize>().context("a content-length")?,
        // JSON has no line breaks of its own, so what ends like a chunked body is one.
        None if bytes.ends_with(END_OF_CHUNKS) => bytes.len(),
        None => return Ok(None),
    };
    let body = bytes.get(head_len..end).map(<[u8]>::to_vec);
    Ok(body.map(|body| (Reply { status, body }, end)))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_when_it_is_whole_and_not_before() {
        for (answer, status, body) in [
            (
                "HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\n\r\nhello",
                200,
                "hello",
            ),
            ("HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n", 404, ""),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n",
                200,
                "2\r\n[]\r\n0\r\n\r\n",
            ),
        ] {
            for cut in 0..answer.len() {
                let early = parse(&answer.as_bytes()[..cut]).unwrap();
                assert_eq!(early, None, "{answer:?} cut at {cut}");
            }
            let reply = Reply {
                status,
                body: body.into(),
            };
            let whole = parse(answer.as_bytes()).unwrap();
            assert_eq!(whole, Some((reply, answer.len())));
        }
    }

    #[test]
    fn what_follows_an_answer_is_left() {
        let two = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\n";
        let (reply, len) = parse(two.as_bytes()).unwrap().unwrap();
        assert_eq!(
            (reply.body.as_slice(), &two[len..]),
            (&b"a"[..], "HTTP/1.1 200 OK\r\n")
        );
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in ["x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
