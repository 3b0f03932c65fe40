//! Thousands of idle connections beside active ones.
//!
//! Each connection takes one descriptor in this process and one in the server. The test opens as
//! many as the machine allows, at most 10,000, and says so if that is less than a thousand.

mod support;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use std::net::TcpStream;
use support::http::{Connection, request};
use support::server::{Server, Setup};
use support::watch::Watcher;
use support::{event, wait_for};
use tempfile::TempDir;

const IDLE_MAX: u64 = 10_000;
/// Descriptors for everything else: files of the log, pipes, the connections that work.
const RESERVE: u64 = 500;

/// Raises this process's limit of open files as far as allowed; the server inherits it. Returns the
/// number of connections that leaves.
fn connections_allowed() -> usize {
    let hard = getrlimit(Resource::Nofile).maximum;
    let wanted = IDLE_MAX + 2 * RESERVE;
    let granted = hard.map_or(wanted, |hard| hard.min(wanted));
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(granted),
            maximum: hard,
        },
    )
    .expect("up to the hard limit");
    let allowed = granted.saturating_sub(RESERVE).min(IDLE_MAX);
    assert!(
        allowed >= 100,
        "a limit of {granted} open files is too low for this test"
    );
    usize::try_from(allowed).expect("at most 10,000")
}

#[test]
fn idle_connections_leave_the_others_alone() {
    let count = connections_allowed();
    for shards in [1, 2] {
        let server = Server::start(shards);
        let before = server.memory_bytes();
        // A third silent from the start, a third within a request, a third after one.
        let mut idle: Vec<Connection> = Vec::with_capacity(count);
        for n in 0..count {
            let mut connection = Connection::try_open(server.port)
                .unwrap_or_else(|error| panic!("connection {n} with {shards} shards: {error}"));
            match n % 3 {
                0 => {}
                1 => connection.send("GET /hea"),
                _ => assert_eq!(
                    connection.request("GET", "/health", "").status,
                    200,
                    "connection {n}"
                ),
            }
            idle.push(connection);
        }
        let mut watcher = Watcher::connect(&server);
        watcher.subscribe("busy/*");
        for n in 0..100 {
            server.publish("busy/a", &format!(r#"{{"n":{n}}}"#));
            assert_eq!(server.entity("busy/a").json()["properties"]["n"], n);
            assert_eq!(
                watcher.changes(1),
                [("busy/a".to_owned(), "n".to_owned(), json!(n))]
            );
        }
        let grown = server.memory_bytes().saturating_sub(before);
        let each = grown / count as u64;
        assert!(
            each < 32 * 1024,
            "an idle connection costs {each} bytes with {shards} shards"
        );
        // Some of each kind go on from where they stopped.
        for (n, connection) in idle.iter_mut().enumerate().step_by(count / 30) {
            if n % 3 == 1 {
                connection.send_what_it_takes("lth HTTP/1.1\r\nHost: a\r\n\r\n");
                // On a slow machine the head may have timed out by now.
                let answer = connection.response();
                assert!(
                    matches!(answer.status, 200 | 408),
                    "connection {n}: {}",
                    answer.text()
                );
            } else {
                let status = connection.request("GET", "/health", "").status;
                assert_eq!(status, 200, "connection {n}");
            }
        }
    }
}

#[test]
fn connections_opened_and_closed_leave_nothing_behind() {
    let server = Server::start(2);
    let descriptors = || {
        let path = format!("/proc/{}/fd", server.pid());
        std::fs::read_dir(path).expect("the server runs").count()
    };
    let round = || {
        for n in 0..500 {
            let stream =
                TcpStream::connect(("127.0.0.1", server.port)).expect("the server accepts");
            if n % 2 == 0 {
                drop(std::io::Write::write_all(
                    &mut (&stream),
                    b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
                ));
            }
        }
    };
    round();
    let at_first = wait_for("closed connections to be let go", || {
        Some(descriptors()).filter(|count| *count < 100)
    });
    for _ in 0..4 {
        round();
    }
    wait_for("closed connections to be let go", || {
        (descriptors() <= at_first + 50).then_some(())
    });
    assert_eq!(server.get("/health").status, 200);
}

/// A server with that setting of its own.
fn server_with(data_dir: &TempDir, name: &str, value: &str) -> Server {
    Setup::new(data_dir.path(), 2).env(name, value).start()
}

#[test]
fn a_request_that_never_arrives_whole_ends_the_connection() {
    let id = "slow/a";
    let whole = request("POST", "/api/events", &[], &event(id, r#"{"n":1}"#));
    let head_len = whole.len() - event(id, r#"{"n":1}"#).len();
    let table = [
        ("FLUX_HEAD_TIMEOUT_SECONDS", 1),
        ("FLUX_HEAD_TIMEOUT_SECONDS", head_len - 1),
        ("FLUX_BODY_TIMEOUT_SECONDS", head_len),
        ("FLUX_BODY_TIMEOUT_SECONDS", whole.len() - 1),
    ];
    for (setting, len) in table {
        let data_dir = TempDir::new().expect("a temporary directory");
        let server = server_with(&data_dir, setting, "1");
        let mut connection = server.connect();
        connection.send(&whole[..len]);
        connection
            .response()
            .expect_error(408, &format!("{setting}, {len} bytes"));
        connection.expect_closed();
        assert_eq!(server.entity(id).status, 404, "{setting}, {len} bytes");
    }
}

#[test]
fn a_connection_without_requests_is_closed_without_a_word() {
    let data_dir = TempDir::new().expect("a temporary directory");
    let server = server_with(&data_dir, "FLUX_IDLE_TIMEOUT_SECONDS", "1");
    let mut silent = server.connect();
    let mut used = server.connect();
    assert_eq!(used.request("GET", "/health", "").status, 200);
    // The idle timeout does not end a silent WebSocket.
    let mut watcher = Watcher::connect(&server);
    watcher.subscribe("late/a");
    silent.expect_closed();
    used.expect_closed();
    server.publish("late/a", r#"{"n":1}"#);
    assert_eq!(
        watcher.changes(1),
        [("late/a".to_owned(), "n".to_owned(), json!(1))]
    );
}

#[test]
fn connections_beyond_the_bound_are_refused_and_the_others_served() {
    let data_dir = TempDir::new().expect("a temporary directory");
    let server = server_with(&data_dir, "FLUX_CONNECTIONS_MAX", "8");
    let mut held: Vec<Connection> = Vec::new();
    // The connection that asked whether the server is ready may still count.
    wait_for("all places to be taken", || {
        let mut connection = server.connect();
        let taken = connection
            .try_request("GET", "/health", "")
            .is_ok_and(|answer| answer.status == 200);
        if taken {
            held.push(connection);
        }
        assert!(held.len() <= 8, "more connections than allowed");
        (held.len() == 8).then_some(())
    });
    for _ in 0..3 {
        let mut refused = server.connect();
        let answer = refused.try_response().expect("told why");
        answer.expect_error(503, "the ninth connection");
        assert!(answer.header("retry-after").is_some());
        refused.expect_closed();
    }
    for connection in &mut held {
        assert_eq!(connection.request("GET", "/health", "").status, 200);
    }
    held.pop();
    wait_for("a place to be free again", || {
        let answer = server.connect().try_request("GET", "/health", "").ok()?;
        (answer.status == 200).then_some(())
    });
}
