//! A server that replays its log: it listens, says that it is not ready, and refuses what needs the
//! state, each with the time after which to ask again.
//!
//! `strace` delays each read of the segment, so the replay lasts as long as the test asks.

mod support;

use std::process::Stdio;
use support::http::{Connection, Response};
use support::server::{Setup, free_port};
use support::strace::{can_trace, injection, launcher};
use support::{event, files, wait_for};
use tempfile::TempDir;

/// How long each of a few reads of the segment takes, microseconds.
const READ_MICROS: u64 = 1_500_000;

/// A request on a connection of its own.
fn ask(port: u16, head: &str, body: &str) -> Option<Response> {
    let mut connection = Connection::try_open(port).ok()?;
    let len = body.len();
    connection.send(format!(
        "{head}Host: a\r\nContent-Length: {len}\r\n\r\n{body}"
    ));
    Some(connection.response())
}

const HANDSHAKE: &str = "GET /api/ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn what_needs_the_state_is_not_ready_while_a_log_is_replayed() {
    if !can_trace() {
        return;
    }
    let dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(dir.path(), 1);
    let server = setup.start();
    server.publish("n/a", "{}");
    server.kill();
    let segments = files(&dir.path().join("log"), ".seg");
    let mut slow: Vec<String> = injection("read", "1+", READ_MICROS).into();
    for path in segments {
        slow.extend(["-P".to_owned(), path.display().to_string()]);
    }
    let port = free_port();
    let mut command = setup.launched_by(launcher(slow)).command(port);
    let mut server = command.stderr(Stdio::null()).spawn().expect("flux starts");
    wait_for("the server to listen", || {
        ask(port, "GET /health HTTP/1.1\r\n", "")
    });
    let published = event("n/a", "{}");
    for (head, body) in [
        ("GET /ready HTTP/1.1\r\n", ""),
        (HANDSHAKE, ""),
        ("GET /api/stream?pattern=* HTTP/1.1\r\n", ""),
        ("GET /api/changes?pattern=* HTTP/1.1\r\n", ""),
        ("GET /api/state/entities/n/a HTTP/1.1\r\n", ""),
        ("GET /api/state/entities HTTP/1.1\r\n", ""),
        ("GET /api/events?namespace=n HTTP/1.1\r\n", ""),
        ("POST /api/events HTTP/1.1\r\n", &*published),
    ] {
        let answer = ask(port, head, body).expect("it listens");
        assert_eq!(answer.status, 503, "{head}: {}", answer.text());
        assert_eq!(answer.json()["code"], "not_ready", "{head}");
        assert!(answer.header("retry-after").is_some(), "{head}");
    }
    let health = ask(port, "GET /health HTTP/1.1\r\n", "").expect("it listens");
    assert_eq!(health.status, 200);
    wait_for("the server to be ready", || {
        let answer = ask(port, "GET /ready HTTP/1.1\r\n", "")?;
        (answer.status == 200).then_some(())
    });
    let upgraded = ask(port, HANDSHAKE, "").expect("it listens");
    assert_eq!(upgraded.status, 101);
    server.kill().expect("it runs");
    server.wait().expect("it ends");
}
