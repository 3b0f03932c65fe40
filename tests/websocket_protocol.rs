//! WebSocket as bytes: the handshake, frames and their faults, the closing handshake (API contract
//! §8, RFC 6455).

mod support;

use serde_json::{Value, json};
use std::io::Write as _;
use support::http::request;
use support::on_each;
use support::server::Server;
use support::watch::Watcher;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::frame::{CloseFrame, Utf8Bytes};
use tungstenite::{Error, Message};

const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
const UPGRADE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// A frame as a client sends it: masked with zeroes, so that the payload stays readable here.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len();
    let mut bytes = vec![first];
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short), _) if short < 126 => bytes.push(0x80 | short),
        (_, Ok(medium)) => {
            bytes.push(0x80 | 0x7e);
            bytes.extend(medium.to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 0x7f);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// Sends raw bytes over an open WebSocket and returns the server's close code.
fn closed_after(server: &Server, bytes: &[u8]) -> u16 {
    let mut watcher = Watcher::connect(server);
    // The server may close before it has read all of it.
    drop(watcher.socket.get_mut().write_all(bytes));
    watcher.close_code()
}

#[test]
fn the_handshake_is_answered_as_rfc_6455_computes_it() {
    on_each(|server| {
        let forms: [&[&str]; 2] = [
            &UPGRADE,
            &[
                "CONNECTION: keep-alive, upgrade",
                "upgrade: WebSocket",
                UPGRADE[2],
                UPGRADE[3],
                "Origin: https://x",
            ],
        ];
        for headers in forms {
            let mut connection = server.connect();
            connection.send(request("GET", "/api/ws", headers, ""));
            let answer = connection.response();
            assert_eq!(answer.status, 101, "{}", answer.text());
            assert_eq!(
                answer.header("sec-websocket-accept"),
                Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            );
            assert_eq!(
                answer
                    .header("upgrade")
                    .map(str::to_ascii_lowercase)
                    .as_deref(),
                Some("websocket")
            );
            assert_eq!(
                answer
                    .header("connection")
                    .map(str::to_ascii_lowercase)
                    .as_deref(),
                Some("upgrade")
            );
        }
    });
}

#[test]
fn a_bad_handshake_is_400_and_another_version_426() {
    let [connection, upgrade, version, key] = UPGRADE;
    let table: [(u16, &str, &[&str]); 10] = [
        (400, "a plain GET", &[]),
        (400, "no Connection", &[upgrade, version, key]),
        (400, "no Upgrade", &[connection, version, key]),
        (
            400,
            "another protocol",
            &[connection, "Upgrade: h2c", version, key],
        ),
        (400, "no key", &[connection, upgrade, version]),
        (
            400,
            "a key of 15 bytes",
            &[
                connection,
                upgrade,
                version,
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA",
            ],
        ),
        (
            400,
            "a key that is no base64",
            &[connection, upgrade, version, "Sec-WebSocket-Key: !"],
        ),
        (426, "no version", &[connection, upgrade, key]),
        (
            426,
            "version 8",
            &[connection, upgrade, "Sec-WebSocket-Version: 8", key],
        ),
        (
            426,
            "version 14",
            &[connection, upgrade, "Sec-WebSocket-Version: 14", key],
        ),
    ];
    on_each(|server| {
        for (status, what, headers) in table {
            let mut connection = server.connect();
            connection.send(request("GET", "/api/ws", headers, ""));
            let answer = connection.response();
            answer.expect_error(status, what);
            if status == 426 {
                assert_eq!(
                    answer.header("sec-websocket-version"),
                    Some("13"),
                    "RFC 6455 §4.4: {what}"
                );
            }
        }
        let mut connection = server.connect();
        connection.send(request(
            "GET",
            "/api/ws?metrics=false&metrics=false",
            &UPGRADE,
            "",
        ));
        connection
            .response()
            .expect_error(400, "a repeated parameter");
    });
}

#[test]
fn frames_sent_along_with_the_handshake_are_not_lost() {
    on_each(|server| {
        let mut connection = server.connect();
        let handshake = request("GET", "/api/ws?metrics=false", &UPGRADE, "");
        let ping = frame(0x81, br#"{"type":"ping","id":"early"}"#);
        connection.send([handshake.as_bytes(), &ping].concat());
        assert_eq!(connection.response().status, 101);
        // A short text frame: two bytes of head, then the text.
        let head = connection.bytes(2);
        let text = connection.bytes(usize::from(head[1]));
        let pong: Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(pong, json!({"type": "pong", "id": "early"}));
    });
}

#[test]
fn binary_messages_are_closed_with_1003_and_long_ones_with_1009() {
    on_each(|server| {
        assert_eq!(closed_after(server, &frame(0x82, b"{}")), 1003);
        let long = " ".repeat(MESSAGE_BYTES_MAX + 1);
        assert_eq!(
            closed_after(server, &frame(0x81, long.as_bytes())),
            1009,
            "one frame"
        );
        // Fragments are counted together: three of half the limit.
        let half = " ".repeat(MESSAGE_BYTES_MAX / 2);
        let fragments = [
            frame(0x01, half.as_bytes()),
            frame(0x00, half.as_bytes()),
            frame(0x80, half.as_bytes()),
        ]
        .concat();
        assert_eq!(closed_after(server, &fragments), 1009, "fragments");
        // A length is refused as soon as it is read.
        let mut announced = vec![0x81, 0x80 | 0x7f];
        announced.extend((1_u64 << 40).to_be_bytes());
        announced.extend([0; 4]);
        assert_eq!(closed_after(server, &announced), 1009, "announced only");
        let mut watcher = Watcher::connect(server);
        let longest = format!(
            r#"{{"type":"ping","x":"{}"}}"#,
            "y".repeat(MESSAGE_BYTES_MAX - 23)
        );
        assert!(longest.len() <= MESSAGE_BYTES_MAX && longest.len() + 2 >= MESSAGE_BYTES_MAX);
        watcher.send(&longest);
        assert_eq!(watcher.next(), json!({"type": "pong"}));
    });
}

#[test]
fn frames_against_the_protocol_close_with_1002_and_bad_text_with_1007() {
    let unmasked = [0x81, 2, b'{', b'}'].to_vec();
    let table = [
        (1002, "an unmasked frame", unmasked),
        (1002, "a reserved bit", frame(0xc1, b"{}")),
        (1002, "a reserved opcode", frame(0x83, b"{}")),
        (1002, "a continuation of nothing", frame(0x80, b"{}")),
        (
            1002,
            "a new message within another",
            [frame(0x01, b"{"), frame(0x81, b"{}")].concat(),
        ),
        (1002, "a fragmented ping", frame(0x09, b"")),
        (1002, "a long ping", frame(0x89, &[b'x'; 126])),
        (1002, "a close frame of one byte", frame(0x88, b"x")),
        (
            1002,
            "a close code that must not be sent",
            frame(0x88, &1005_u16.to_be_bytes()),
        ),
        (1007, "text that is not UTF-8", frame(0x81, b"\xff")),
        (
            1007,
            "text cut within a character",
            frame(0x81, b"\xe2\x82"),
        ),
        (
            1007,
            "a close reason that is not UTF-8",
            frame(0x88, &[&1000_u16.to_be_bytes()[..], b"\xff"].concat()),
        ),
    ];
    on_each(|server| {
        for (code, what, bytes) in &table {
            assert_eq!(closed_after(server, bytes), *code, "{what}");
        }
    });
}

#[test]
fn fragments_and_control_frames_between_them_are_understood() {
    on_each(|server| {
        let mut watcher = Watcher::connect(server);
        let text = r#"{"type":"ping","id":"ü漢"}"#.as_bytes();
        let mut bytes = frame(0x01, &text[..20]);
        bytes.extend(frame(0x89, b"are you there"));
        for byte in &text[20..] {
            bytes.extend(frame(0x00, &[*byte]));
        }
        bytes.extend(frame(0x80, b""));
        for byte in bytes {
            watcher
                .socket
                .get_mut()
                .write_all(&[byte])
                .expect("the server reads");
        }
        let Message::Pong(payload) = watcher.socket.read().expect("a frame") else {
            panic!("a pong comes first")
        };
        assert_eq!(&payload[..], b"are you there");
        assert_eq!(watcher.next(), json!({"type": "pong", "id": "ü漢"}));
    });
}

#[test]
fn a_close_is_answered_with_the_same_code_and_the_connection_ends() {
    on_each(|server| {
        let mut watcher = Watcher::connect(server);
        let bye = CloseFrame {
            code: CloseCode::Normal,
            reason: Utf8Bytes::from_static("bye"),
        };
        watcher
            .socket
            .close(Some(bye))
            .expect("a close frame goes out");
        assert_eq!(watcher.close_code(), 1000);
        assert!(matches!(
            watcher.socket.read(),
            Err(Error::ConnectionClosed | Error::AlreadyClosed)
        ));
        // A close without a code is answered without one.
        assert!(matches!(
            closed_after(server, &frame(0x88, b"")),
            1000 | 1005
        ));
    });
}
