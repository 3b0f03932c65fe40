//! Hostile clients and exhausted machines cost a bounded amount and never end the process.

mod support;

use serde_json::json;
use std::process::Stdio;
use support::http::{Connection, request};
use support::server::{Server, Setup, free_port};
use support::watch::Watcher;
use support::{event, namespace, on_each, wait_for};
use tempfile::TempDir;

#[test]
fn a_flood_of_connections_beyond_the_descriptor_limit_leaves_the_server_serving() {
    let dir = TempDir::new().unwrap();
    let setup = Setup::new(&dir.path().join("data"), 2);
    let port = free_port();
    let command = setup.command(port);
    // The limit is set for the server only.
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 300; exec \"$0\" \"$@\""]);
    limited
        .arg(command.get_program())
        .args(command.get_args())
        .env("FLUX_SHARDS", "2");
    let mut server = limited
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the server", || Connection::try_open(port).ok());
    let held: Vec<Connection> = (0..900)
        .filter_map(|_| Connection::try_open(port).ok())
        .collect();
    assert!(held.len() > 300, "the flood was not one: {}", held.len());
    drop(held);
    let status = wait_for("an answer after the flood", || {
        let mut connection = Connection::try_open(port).ok()?;
        connection.send(request("GET", "/health", &[], ""));
        connection
            .try_response()
            .ok()
            .map(|answer| answer.status)
            .filter(|status| *status == 200)
    });
    assert_eq!((status, server.try_wait().unwrap()), (200, None));
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn a_stderr_that_takes_nothing_is_no_reason_to_end() {
    let dir = TempDir::new().unwrap();
    let port = free_port();
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut server = Setup::new(&dir.path().join("data"), 1)
        .command(port)
        .stderr(full)
        .spawn()
        .unwrap();
    wait_for("the server", || Connection::try_open(port).ok());
    assert_eq!(server.try_wait().unwrap(), None);
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn a_refused_body_is_not_read_for_ever() {
    on_each(|server| {
        let mut connection = server.connect();
        connection
            .send("POST /api/events HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n");
        connection.response().expect_error(413, "a body of 100 GB");
        wait_for("the end of the connection", || {
            connection.send_what_it_takes([b'x'; 1024]);
            let again = connection.try_response();
            again.err()
        });
    });
}

#[test]
fn pipelined_reads_of_large_entities_wait_in_the_client() {
    on_each(|server| {
        let ns = namespace("large");
        let pad = "x".repeat(900_000);
        let ids = [
            format!("{ns}a/e"),
            format!("{ns}b/e"),
            format!("{ns}c/e"),
            format!("{ns}d/e"),
        ];
        for id in &ids {
            server.publish(id, &format!(r#"{{"pad":"{pad}"}}"#));
        }
        let before = server.memory_bytes();
        let mut greedy: Vec<Connection> = (0..4).map(|_| server.connect()).collect();
        for connection in &mut greedy {
            for number in 0..250 {
                let target = format!("/api/state/entities/{}", ids[number % ids.len()]);
                connection.send(request("GET", &target, &[], ""));
            }
        }
        // Each is answered before a connection that came later.
        for _ in 0..50 {
            assert_eq!(server.get("/health").status, 200);
            server.publish(&format!("{ns}/tick"), "{}");
        }
        let grown = server.memory_bytes().saturating_sub(before);
        assert!(
            grown < 200_000_000,
            "{grown} bytes for a thousand answers nobody reads"
        );
        for connection in &mut greedy {
            for number in 0..20 {
                assert_eq!(connection.response().status, 200, "answer {number}");
            }
        }
    });
}

#[test]
fn a_batch_has_a_bound_on_its_items() {
    on_each(|server| {
        let items = |count: usize| format!(r#"{{"events":[{}1]}}"#, "1,".repeat(count - 1));
        let answer = server.post("/api/events/batch", &items(150_000));
        assert_eq!(
            (answer.status, &answer.json()["failed"]),
            (200, &json!(150_000))
        );
        server
            .post("/api/events/batch", &items(150_001))
            .expect_error(400, "one item more");
    });
}

#[test]
fn an_http_1_0_listing_ends_with_its_connection() {
    on_each(|server| {
        let mut connection = server.connect();
        connection
            .send("GET /api/state/entities?prefix=none HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(connection.response().status, 200);
        connection.expect_closed();
    });
}

#[test]
fn subscribing_anew_before_the_first_is_taken_back_is_in_force() {
    on_each(|server| {
        let ns = namespace("anew");
        let mut watcher = Watcher::connect(server);
        for (id, kind) in [(0, "subscribe"), (1, "unsubscribe"), (2, "subscribe")] {
            watcher
                .send(&json!({"type": kind, "entity_id": format!("{ns}/*"), "id": id}).to_string());
        }
        let mut acknowledged: Vec<_> = (0..3).map(|_| watcher.next()["id"].as_u64()).collect();
        acknowledged.sort_unstable();
        assert_eq!(acknowledged, [Some(0), Some(1), Some(2)]);
        server.publish(&format!("{ns}/e"), r#"{"n":1}"#);
        assert_eq!(watcher.changes(1)[0].2, json!(1));
    });
}

#[test]
fn a_bad_escape_in_the_query_is_refused_on_every_route() {
    on_each(|server| {
        server.get("/health?x=%zz").expect_error(400, "health");
        server
            .request("DELETE", "/api/state/entities/nope?x=%f", "")
            .expect_error(400, "delete");
        let body = event("a/b", "{}");
        server
            .post("/api/events?x=%", &body)
            .expect_error(400, "publish");
    });
}

#[test]
fn a_request_that_has_begun_is_answered_before_the_server_stops() {
    let mut server = Server::start(1);
    let mut connection = server.connect();
    connection.send("GET /health HT");
    server.request("GET", "/health", "");
    server.signal("TERM");
    // The listener closes once the signal has arrived.
    wait_for("the listener to close", || {
        Connection::try_open(server.port).err()
    });
    connection.send("TP/1.1\r\nHost: x\r\n\r\n");
    let answer = connection.response();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    connection.expect_closed();
    assert!(server.wait().success());
}
