//! The opening handshake (RFC 6455 §4.1), blocking.
//!
//! The key is the example of the RFC, every time: a nonce protects against caches between client
//! and server, and there are none here.

use crate::net::{Stream, Target};
use anyhow::{Context, Result, bail};
use memchr::memmem;
use std::io::{Read, Write};
use std::time::Duration;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What a server must make of [`KEY`] (RFC 6455 §1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Longest answer head that is waited for, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a WebSocket on `path`. The server must not send before it is asked: a frame right behind
/// the handshake is taken for an error, as this reads no further than the head.
///
/// # Errors
/// When the server cannot be reached or does not upgrade.
pub(crate) fn open(target: &Target, path: &str) -> Result<Stream> {
    let mut stream = target.connect()?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream
        .write_all(&target.upgrade_head(path, KEY))
        .context("cannot send to the server")?;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while memmem::find(&head, b"\r\n\r\n").is_none() {
        let received = stream
            .read(&mut buffer)
            .context("no answer to the WebSocket handshake")?;
        if received == 0 || head.len() + received > HEAD_BYTES_MAX {
            bail!("the server did not answer the WebSocket handshake");
        }
        head.extend_from_slice(&buffer[..received]);
    }
    check_answer(&head)?;
    stream.set_read_timeout(None)?;
    Ok(stream)
}

fn check_answer(answer: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(answer);
    let status_line = text.lines().next().unwrap_or_default();
    if !status_line.starts_with("HTTP/1.1 101") {
        bail!("the server refused the WebSocket handshake: {status_line}");
    }
    let accepted = text.lines().any(|line| {
        line.split_once(':').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == ACCEPT
        })
    });
    if !accepted || !text.ends_with("\r\n\r\n") {
        bail!("the server's WebSocket handshake is not what RFC 6455 asks for");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_our_key_is_accepted() {
        let check = |answer: &str, expected: bool| {
            assert_eq!(
                check_answer(answer.as_bytes()).is_ok(),
                expected,
                "{answer}"
            );
        };
        check(
            &format!("HTTP/1.1 101 x\r\nSEC-websocket-Accept:  {ACCEPT}\r\n\r\n"),
            true,
        );
        check(
            "HTTP/1.1 101 x\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
            false,
        );
        check("HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", false);
        check(
            &format!("HTTP/1.1 400 x\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"),
            false,
        );
    }
}
