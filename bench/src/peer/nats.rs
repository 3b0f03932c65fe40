//! NATS: publishing to a `JetStream` with an inbox for the acknowledgement (docs.nats.io, client
//! protocol and the `JetStream` wire API).

use super::Dialect;
use anyhow::{Context, Result, bail};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n";

#[derive(Debug)]
pub(super) struct Nats {
    pub(super) properties: usize,
}

impl Nats {
    /// Makes the stream that all events go to, on files.
    pub(super) fn make_stream(&self, address: SocketAddr) -> Result<()> {
        let mut stream = TcpStream::connect(address)?;
        self.greet(&mut stream, 0)?;
        let config = r#"{"name":"LOAD","subjects":["load.>"],"storage":"file","num_replicas":1,"discard":"old"}"#;
        let request = format!(
            "PUB $JS.API.STREAM.CREATE.LOAD _INBOX.made {}\r\n{config}\r\n",
            config.len()
        );
        stream.write_all(b"SUB _INBOX.made 2\r\n")?;
        stream.write_all(request.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let (_, len) = line.trim_end().rsplit_once(' ').context("no answer")?;
        let mut answer = vec![0; len.parse().context("no answer with a length")?];
        reader.read_exact(&mut answer)?;
        let answer: serde_json::Value = serde_json::from_slice(&answer)?;
        match answer.get("error") {
            None => Ok(()),
            Some(error) => bail!("{error}"),
        }
    }
}

impl Dialect for Nats {
    fn greet(&self, stream: &mut TcpStream, connection: usize) -> Result<()> {
        stream.write_all(CONNECT)?;
        // An answer goes to all who subscribed to its subject, so each connection has one of its
        // own.
        let subscribe = format!("SUB _INBOX.{connection} 1\r\nPING\r\n");
        stream.write_all(subscribe.as_bytes())?;
        let mut reader = BufReader::new(&*stream);
        let mut line = String::new();
        while line.trim_end() != "PONG" {
            line.clear();
            if reader.read_line(&mut line)? == 0 || line.starts_with('-') {
                bail!("the server says {line:?}");
            }
        }
        Ok(())
    }

    fn request(&self, out: &mut Vec<u8>, connection: usize, entity: u64, value: u64) {
        let more: String = (1..self.properties).fold(String::new(), |all, index| {
            all + &format!(",\"p{index}\":\"abcdefghijklmnop\"")
        });
        let body = format!("{{\"p0\":{value}{more}}}");
        let namespace = entity % 16;
        // A `Vec` takes all that is written.
        drop(write!(
            out,
            "PUB load.{namespace:04}.e-{entity:08} _INBOX.{connection} {}\r\n{body}\r\n",
            body.len()
        ));
    }

    fn acknowledged(&self, input: &[u8]) -> Result<(usize, usize)> {
        let mut count = 0;
        let mut consumed = 0;
        while let Some(end) = memchr::memchr(b'\n', &input[consumed..]) {
            let line = std::str::from_utf8(&input[consumed..consumed + end])?.trim_end();
            let after = consumed + end + 1;
            if line.starts_with("MSG ") {
                let len: usize = line.rsplit_once(' ').context("no length")?.1.parse()?;
                let Some(body) = input.get(after..after + len) else {
                    break;
                };
                if input.len() < after + len + 2 {
                    break;
                }
                if !body.starts_with(b"{\"stream\"") {
                    bail!("the server answered {}", String::from_utf8_lossy(body));
                }
                consumed = after + len + 2;
                count += 1;
            } else if line.starts_with('-') {
                bail!("the server says {line}");
            } else {
                consumed = after;
            }
        }
        Ok((consumed, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_counted_when_they_are_whole() {
        let nats = Nats { properties: 1 };
        let one = "MSG _INBOX.0 1 26\r\n{\"stream\":\"LOAD\", \"seq\":1}\r\n";
        let input = format!("PING\r\n{one}{one}");
        let consumed = 6 + 2 * one.len();
        assert_eq!(nats.acknowledged(input.as_bytes()).unwrap(), (consumed, 2));
        for cut in 0..one.len() {
            assert_eq!(
                nats.acknowledged(&one.as_bytes()[..cut]).unwrap().1,
                0,
                "{cut}"
            );
        }
        assert!(nats.acknowledged(b"-ERR 'no'\r\n").is_err());
        let error = "MSG _INBOX.0 1 12\r\n{\"error\":{}}\r\n";
        assert!(nats.acknowledged(error.as_bytes()).is_err());
    }

    #[test]
    fn a_request_names_its_inbox_and_length() {
        let mut out = Vec::new();
        Nats { properties: 2 }.request(&mut out, 3, 17, 5);
        let text =
            "PUB load.0001.e-00000017 _INBOX.3 32\r\n{\"p0\":5,\"p1\":\"abcdefghijklmnop\"}\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}
