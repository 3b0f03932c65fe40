//! The opening handshake (RFC 6455 §4.2): from a request head to `101 Switching Protocols`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

use crate::wire::http1::{Field, Head, Method, Version};

/// What every server appends to the key (§1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The bytes of a key before base64 (§4.1).
const KEY_BYTES: usize = 16;

/// Why a request is no WebSocket handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not a `GET` of HTTP/1.1.
    #[error("a WebSocket handshake is a GET request of HTTP/1.1")]
    NotGet,
    /// `Connection` does not list `upgrade`, or `Upgrade` does not list `websocket`.
    #[error("headers Connection: upgrade and Upgrade: websocket are required")]
    NotUpgrade,
    /// `Sec-WebSocket-Version` is missing, repeated, or not 13.
    #[error("header Sec-WebSocket-Version must be 13")]
    Version,
    /// `Sec-WebSocket-Key` is missing, repeated, or not 16 bytes in base64.
    #[error("header Sec-WebSocket-Key must be 16 bytes in base64")]
    Key,
}

impl HandshakeError {
    /// The status of the answer. With 426 goes `Sec-WebSocket-Version: 13`, and `Upgrade:
    /// websocket`.
    pub fn status(self) -> u16 {
        match self {
            Self::Version => 426,
            Self::NotGet | Self::NotUpgrade | Self::Key => 400,
        }
    }

    /// The stable code of the answer.
    pub fn code(self) -> &'static str {
        match self {
            Self::Version => "unsupported_websocket_version",
            Self::NotGet | Self::NotUpgrade | Self::Key => "bad_websocket_handshake",
        }
    }
}

/// The `Sec-WebSocket-Accept` that answers this head.
///
/// # Errors
///
/// [`HandshakeError`]: the first of §4.2.1's rules that the head breaks.
pub fn accept(head: &Head<'_>) -> Result<[u8; 28], HandshakeError> {
    if head.method != Method::Get || head.version != Version::Http11 {
        return Err(HandshakeError::NotGet);
    }
    if !head.upgrade.connection || !head.upgrade.websocket {
        return Err(HandshakeError::NotUpgrade);
    }
    if head.upgrade.version != Field::One(b"13") {
        return Err(HandshakeError::Version);
    }
    match head.upgrade.key {
        Field::One(key) => str::from_utf8(key)
            .ok()
            .filter(|key| is_valid_key(key))
            .map(accept_key),
        Field::Absent | Field::Repeated => None,
    }
    .ok_or(HandshakeError::Key)
}

/// The answer to a key: base64 of SHA-1 of the key and the suffix.
pub fn accept_key(key: &str) -> [u8; 28] {
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update(KEY_SUFFIX)
        .finalize();
    let mut accept = [0; 28];
    let written = STANDARD.encode_slice(digest, &mut accept);
    assert_eq!(written, Ok(28), "20 bytes are 28 characters in base64");
    accept
}

/// True for 16 bytes in base64.
pub fn is_valid_key(key: &str) -> bool {
    // The decoder wants room for three whole groups of padding more than it fills.
    let mut nonce = [0; KEY_BYTES + 2];
    key.len() == 24 && STANDARD.decode_slice(key, &mut nonce) == Ok(KEY_BYTES)
}

/// Appends the response that ends HTTP on this connection.
pub fn write_switching_protocols(out: &mut Vec<u8>, accept: &[u8; 28]) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          X-Content-Type-Options: nosniff\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept);
    out.extend_from_slice(b"\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_that_of_the_rfc() {
        assert_eq!(
            &accept_key("dGhlIHNhbXBsZSBub25jZQ=="),
            b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn key_is_sixteen_bytes_in_base64() {
        let check = |key, valid| assert_eq!(is_valid_key(key), valid, "{key:?}");
        check("dGhlIHNhbXBsZSBub25jZQ==", true);
        check("AAAAAAAAAAAAAAAAAAAAAA==", true);
        check("", false);
        check("dGhlIHNhbXBsZSBub25jZQ", false);
        check("dGhlIHNhbXBsZSBub25jZQ=", false);
        check("dGhlIHNhbXBsZSBub25jZQ==\n", false);
        check("dGhlIHNhbXBsZSBub25jZTE=", false);
        check("dGhlIHNhbXBsZSBub25jZTEy", false);
        check("dGhlIHNhbXBsZSBub25j*Q==", false);
        check("dGhlIHNhbXBsZSBub25jZR==", false);
    }
}
