//! What streams keep to when something is in the way: another subscription of the connection, a
//! reader that is far too slow, a busy namespace beside a quiet one (API contract §13).

mod support;

use serde_json::{Value, json};
use std::io::Read as _;
use std::time::Duration;
use support::server::{Server, Setup};
use support::watch::Watcher;
use support::{batch, event, files, namespace, now, on_each, wait_for};
use tempfile::TempDir;

fn subscribe(watcher: &mut Watcher, pattern: &str, members: &Value) {
    let mut message = json!({"type": "subscribe", "entity_id": pattern, "id": pattern});
    let members = members.as_object().expect("members").clone();
    message.as_object_mut().expect("an object").extend(members);
    watcher.send(&message.to_string());
}

/// The cursor of a live subscription that has just begun.
fn cursor_of(server: &Server, pattern: &str) -> Value {
    let mut watcher = Watcher::connect(server);
    subscribe(&mut watcher, pattern, &json!({"mode": "event"}));
    watcher.next()["cursor"].clone()
}

fn publish_many(server: &Server, ids: impl Iterator<Item = String>, properties: &str) {
    let events: Vec<String> = ids.map(|id| event(&id, properties)).collect();
    for events in events.chunks(500) {
        let answer = server.post("/api/events/batch", &batch(events));
        assert_eq!(answer.json()["failed"], 0, "{}", answer.text());
    }
}

/// The sequences of the events that come until one of this entity.
fn events_until(watcher: &mut Watcher, last: &str) -> Vec<u64> {
    let mut sequences = Vec::new();
    loop {
        let message = watcher.next();
        if message["type"] == "event" {
            sequences.push(message["sequence"].as_u64().expect("a sequence"));
            if message["payload"]["entity_id"] == last {
                return sequences;
            }
        }
    }
}

#[test]
fn an_event_that_two_subscriptions_catch_up_with_comes_once_and_in_order() {
    on_each(|server| {
        let ns = namespace("twice");
        let all = format!("{ns}/*");
        let begun = cursor_of(server, &all);
        let ids = (0..2000).map(|number| format!("{ns}/{}{}", ["a", "b"][number % 2], number % 7));
        publish_many(server, ids, r#"{"n":1}"#);
        let mut watcher = Watcher::connect(server);
        let since = json!({"mode": "event", "since": begun});
        subscribe(&mut watcher, &all, &since);
        subscribe(&mut watcher, &format!("{ns}/a*"), &since);
        publish_many(
            server,
            (0..500).map(|number| format!("{ns}/a{}", number % 3)),
            "{}",
        );
        server.publish(&format!("{ns}/end"), "{}");
        let sequences = events_until(&mut watcher, &format!("{ns}/end"));
        assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
        assert_eq!(sequences.len(), 2501);
    });
}

#[test]
fn a_place_that_is_gone_leaves_the_earlier_subscription_and_a_quiet_namespace_goes_on() {
    let dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(dir.path(), 1)
        .env("FLUX_SEGMENT_BYTES", "65536")
        .env("FLUX_CHECKPOINT_SECONDS", "1")
        .env("FLUX_CHECKPOINT_BYTES", "65536");
    let server = setup.arg("--retention-bytes").arg("400000").start();
    let busy = cursor_of(&server, "busy/*");
    server.publish("quiet/a", r#"{"n":0}"#);
    let quiet = cursor_of(&server, "quiet/*");
    let properties = format!(r#"{{"p":"{}"}}"#, "x".repeat(200));
    wait_for("retention to remove the beginning", || {
        publish_many(
            &server,
            (0..500).map(|id| format!("busy/{id}")),
            &properties,
        );
        (!files(&dir.path().join("log"), "HORIZON").is_empty()).then_some(())
    });
    server.publish("quiet/a", r#"{"n":1}"#);
    let mut watcher = Watcher::connect(&server);
    subscribe(&mut watcher, "busy/*", &json!({"mode": "entity"}));
    assert_eq!(watcher.next()["type"], "ack");
    subscribe(
        &mut watcher,
        "busy/*",
        &json!({"mode": "event", "since": busy}),
    );
    assert_eq!(watcher.next()["code"], "history_removed");
    server.publish("busy/1", r#"{"last":true}"#);
    let change = watcher.next();
    assert_eq!(
        change["type"], "entity",
        "the earlier subscription goes on: {change}"
    );
    for pattern in ["quiet/*", "quiet/a"] {
        let mut watcher = Watcher::connect(&server);
        subscribe(
            &mut watcher,
            pattern,
            &json!({"mode": "event", "since": quiet}),
        );
        let types: Vec<Value> = (0..3).map(|_| watcher.next()["type"].clone()).collect();
        assert_eq!(types, ["ack", "event", "caught_up"], "{pattern}");
        let mut watcher = Watcher::connect(&server);
        subscribe(
            &mut watcher,
            pattern,
            &json!({"mode": "entity", "since": quiet}),
        );
        let types: Vec<Value> = (0..3).map(|_| watcher.next()["type"].clone()).collect();
        assert_eq!(
            types,
            ["ack", "entity", "caught_up"],
            "no snapshot is needed for {pattern}"
        );
    }
}

#[test]
fn since_sends_the_directory_and_when_an_entity_expires() {
    on_each(|server| {
        let ns = namespace("whole");
        let id = format!("{ns}/a");
        let mut watcher = Watcher::connect(server);
        subscribe(&mut watcher, &format!("{ns}/*"), &json!({"mode": "entity"}));
        let begun = watcher.next()["cursor"].clone();
        let payload = json!({"entity_id": id, "properties": {"n": 1}, "ttl": 1000});
        let body = json!({"stream": "s", "source": "t", "payload": payload}).to_string();
        assert_eq!(server.post("/api/events", &body).status, 200);
        let expires = server.entity(&id).json()["expiresAt"].clone();
        assert!(expires.is_string());
        assert_eq!(watcher.next()["expiresAt"], expires, "a change");
        server.publish(&id, r#"{"n":2}"#);
        let change = std::iter::repeat_with(|| watcher.next()).find(|it| it["type"] == "entity");
        assert_eq!(
            change.expect("one").get("expiresAt"),
            None,
            "it has not changed"
        );
        let mut watcher = Watcher::connect(server);
        subscribe(
            &mut watcher,
            &format!("{ns}/*"),
            &json!({"mode": "entity", "since": begun}),
        );
        assert_eq!(watcher.next()["type"], "ack");
        let whole = watcher.next();
        assert_eq!(
            (&whole["whole"], &whole["expiresAt"]),
            (&json!(true), &expires)
        );
        let mut watcher = Watcher::connect(server);
        subscribe(&mut watcher, "*", &json!({"mode": "entity"}));
        let now = watcher.next()["cursor"].clone();
        wait_for("the directory", || {
            (server.entity("flux-core/directory").status == 200).then_some(())
        });
        let mut watcher = Watcher::connect(server);
        subscribe(&mut watcher, "*", &json!({"mode": "entity", "since": now}));
        let sent = std::iter::repeat_with(|| watcher.next());
        let until: Vec<Value> = sent.take_while(|it| it["type"] != "caught_up").collect();
        let has_it = until
            .iter()
            .any(|it| it["entity_id"] == "flux-core/directory");
        assert!(has_it, "{until:?}");
    });
}

/// Bytes that the server holds for connections.
fn held(server: &Server) -> u64 {
    let memory = server.get("/health?detail").json()["memory"].clone();
    memory["used"].as_u64().expect("a number")
}

#[test]
fn a_subscriber_of_events_that_hardly_reads_costs_little_and_misses_nothing() {
    let dir = TempDir::new().expect("a temporary directory");
    let server = Setup::new(dir.path(), 2).start();
    let mut watcher = Watcher::connect(&server);
    subscribe(&mut watcher, "*", &json!({"mode": "event"}));
    assert_eq!(watcher.next()["type"], "ack");
    let mut slow = watcher.socket.get_ref().try_clone().expect("a socket");
    let (mut highest, mut count, mut received) = (0, 0, Vec::new());
    let padding = "x".repeat(300);
    let until = now() + Duration::from_secs(8);
    let begun = now();
    while now() < until {
        let ids = (count..count + 500).map(|number| format!("n{}/{number}", number % 3));
        publish_many(&server, ids, &format!(r#"{{"p":"{padding}"}}"#));
        count += 500;
        // About 1 KB a second.
        let due = usize::try_from(begun.elapsed().as_millis()).expect("a short time");
        let mut bytes = vec![0; due.saturating_sub(received.len())];
        slow.read_exact(&mut bytes).expect("events");
        received.extend(bytes);
        highest = highest.max(held(&server));
    }
    for namespace in 0..3 {
        server.publish(&format!("n{namespace}/end"), "{}");
    }
    assert!(
        highest < 4 * 1024 * 1024,
        "{highest} bytes for {count} events"
    );
    let ids = events_of(&mut slow, received, 3);
    for namespace in 0..3 {
        let expected = (0..count).filter(|number| number % 3 == namespace);
        let prefix = format!("n{namespace}/");
        let found = ids.iter().filter_map(|id| id.strip_prefix(&prefix));
        let found = found.filter_map(|number| number.parse::<u64>().ok());
        assert!(found.eq(expected), "of {prefix}");
    }
}

/// A server with some 12 MB of events, whose clients may take nothing for 3 s. That is more than
/// the kernel keeps for a connection.
fn with_many_events(dir: &TempDir) -> (Server, Value, u64) {
    let setup = Setup::new(dir.path(), 1);
    let server = setup.env("FLUX_STALL_TIMEOUT_SECONDS", "3").start();
    let begun = cursor_of(&server, "n0/*");
    let (count, padding) = (30_000, "x".repeat(300));
    let ids = (0..count).map(|number| format!("n0/{number}"));
    publish_many(&server, ids, &format!(r#"{{"p":"{padding}"}}"#));
    server.publish("n0/end", "{}");
    (server, begun, count)
}

#[test]
fn a_client_that_takes_little_is_not_taken_for_one_that_has_stopped() {
    let dir = TempDir::new().expect("a temporary directory");
    let (server, begun, count) = with_many_events(&dir);
    let mut watcher = Watcher::connect(&server);
    let since = json!({"mode": "event", "since": begun});
    let mut socket = watcher.socket.get_ref().try_clone().expect("a socket");
    // Else the client's kernel may hide megabytes that the client has not read.
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 32 * 1024).expect("a buffer");
    subscribe(&mut watcher, "n0/*", &since);
    let mut received = Vec::new();
    let opened = now();
    // The socket becomes writable only after more than a megabyte.
    while opened.elapsed() < Duration::from_secs(9) {
        let due = usize::try_from(opened.elapsed().as_millis()).expect("a short time") * 90;
        let mut bytes = vec![0; due.saturating_sub(received.len())];
        socket.read_exact(&mut bytes).expect("events");
        received.extend(bytes);
    }
    let ids = events_of(&mut socket, received, 1);
    let expected = (0..count).map(|number| format!("n0/{number}"));
    assert!(ids.into_iter().eq(expected.chain(["n0/end".to_owned()])));
}

#[test]
fn a_client_that_takes_nothing_is_closed() {
    let dir = TempDir::new().expect("a temporary directory");
    let (server, begun, _) = with_many_events(&dir);
    let mut watcher = Watcher::connect(&server);
    let since = json!({"mode": "event", "since": begun});
    subscribe(&mut watcher, "n0/*", &since);
    let mut observer = Watcher::connect_to(&server, "/api/ws");
    for connections in [2, 1] {
        let metrics = std::iter::repeat_with(|| observer.next_of_any_type());
        let seen = metrics
            .take(60)
            .any(|it| it["websocket"]["connections"] == connections);
        assert!(seen, "{connections} connections");
    }
    let mut socket = watcher.socket.get_ref();
    let read = std::io::copy(&mut socket, &mut std::io::sink());
    assert!(read.is_err() || read.is_ok_and(|bytes| bytes < 12_000_000));
}

/// The entities of the events in frames, until the last one of so many namespaces.
fn events_of(socket: &mut std::net::TcpStream, mut bytes: Vec<u8>, namespaces: u32) -> Vec<String> {
    let mut ids = Vec::new();
    let (mut at, mut ends) = (0, 0);
    let mut chunk = vec![0; 64 * 1024];
    loop {
        while let Some((start, end)) = frame_at(&bytes, at) {
            at = end;
            let message: Value = serde_json::from_slice(&bytes[start..end]).unwrap_or_default();
            let id = message["payload"]["entity_id"].as_str().unwrap_or_default();
            if message["type"] == "event" {
                ids.push(id.to_owned());
            }
            ends += u32::from(id.ends_with("/end"));
            if ends == namespaces {
                return ids;
            }
        }
        let count = socket.read(&mut chunk).expect("more events");
        assert!(count > 0, "the server has closed");
        bytes.drain(..at);
        at = 0;
        bytes.extend_from_slice(&chunk[..count]);
    }
}

/// Where the payload of the frame at a place begins and ends, if all of it is there.
fn frame_at(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let (start, len) = match usize::from(*bytes.get(at + 1)?) {
        126 => (at + 4, number(bytes.get(at + 2..at + 4)?)),
        127 => (at + 10, number(bytes.get(at + 2..at + 10)?)),
        len => (at + 2, len),
    };
    (bytes.len() >= start + len).then_some((start, start + len))
}
