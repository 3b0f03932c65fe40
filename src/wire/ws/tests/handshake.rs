//! Which request heads become WebSocket connections.

use crate::wire::http1::{Next, RequestReader};
use crate::wire::ws::{HandshakeError, accept, write_switching_protocols};

fn judge(bytes: &str) -> Result<[u8; 28], HandshakeError> {
    let mut reader = RequestReader::default();
    reader.receive(bytes.as_bytes());
    match reader.next(|_| 0) {
        Ok(Next::Request(request)) => accept(&request.head),
        other => panic!("no request but {other:?} from {bytes}"),
    }
}

const GOOD: &str = "GET /api/ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn a_good_handshake_is_answered_with_the_key() {
    let answer = judge(GOOD).unwrap();
    let mut out = Vec::new();
    write_switching_protocols(&mut out, &answer);
    assert_eq!(
        str::from_utf8(&out).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         X-Content-Type-Options: nosniff\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
}

#[test]
fn anything_less_is_refused_with_what_is_missing() {
    use HandshakeError::{Key, NotGet, NotUpgrade, Version};
    let check = |from: &str, to: &str, error: HandshakeError, status| {
        assert!(GOOD.contains(from), "{from:?}");
        assert_eq!(
            judge(&GOOD.replace(from, to)),
            Err(error),
            "{from:?} -> {to:?}"
        );
        assert_eq!(error.status(), status);
    };
    check("GET", "POST", NotGet, 400);
    check("HTTP/1.1", "HTTP/1.0", NotGet, 400);
    check("keep-alive, Upgrade", "keep-alive", NotUpgrade, 400);
    check("Upgrade: websocket\r\n", "", NotUpgrade, 400);
    check("Upgrade: websocket", "Upgrade: h2c", NotUpgrade, 400);
    check("Sec-WebSocket-Version: 13\r\n", "", Version, 426);
    check("Version: 13", "Version: 8", Version, 426);
    check("Version: 13", "Version: 13, 8", Version, 426);
    check(
        "Version: 13",
        "Version: 13\r\nSec-WebSocket-Version: 13",
        Version,
        426,
    );
    check(
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "",
        Key,
        400,
    );
    check("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", Key, 400);
    check(
        "Q==\r\n",
        "Q==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        Key,
        400,
    );
    check("dGhlIHNhbXBsZSBub25jZQ==", "\u{e4}", Key, 400);
}
