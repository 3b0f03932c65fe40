//! Cursors that come with reads of state (API contract §13): every later change comes after them.

mod support;

use serde_json::{Value, json};
use support::http::{Response, request};
use support::server::{Server, Setup};
use support::watch::Watcher;
use tempfile::TempDir;

fn started(shards: u32) -> (Server, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Setup::new(dir.path(), shards).start();
    (server, dir)
}

/// Publishes an event; the cursor of its answer.
fn publish(server: &Server, id: &str, properties: &str) -> String {
    let answer = server.publish(id, properties).json();
    answer["cursor"].as_str().expect("a cursor").to_owned()
}

/// Sends a request with these header fields.
fn send(server: &Server, method: &str, target: &str, headers: &[&str]) -> Response {
    let mut connection = server.connect();
    connection.send(request(method, target, headers, ""));
    if method == "HEAD" {
        connection.response_to_head()
    } else {
        connection.response()
    }
}

/// The cursor of a read.
fn cursor_of(server: &Server, target: &str) -> String {
    let answer = server.get(target);
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    let exposed = answer.header("access-control-expose-headers");
    let exposed = exposed.expect("fields for pages");
    assert!(exposed.contains("flux-cursor"), "{target}: {exposed}");
    let head = send(server, "HEAD", target, &[]);
    let cursor = answer.header("flux-cursor").expect("a cursor");
    assert_eq!(head.header("flux-cursor"), Some(cursor), "{target}");
    cursor.to_owned()
}

/// How many of an entity's events lie before a place; the one at the place may or may not.
fn events_before(server: &Server, id: &str, cursor: &str) -> usize {
    let answer = server.get(&format!("/api/events?entity={id}&before={cursor}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().as_array().expect("events").len()
}

#[test]
fn a_read_has_the_place_of_the_last_event_that_it_shows() {
    for shards in [1, 2] {
        let (server, _dir) = started(shards);
        for id in ["home/a", "b"] {
            publish(&server, id, r#"{"n":1}"#);
            let last = publish(&server, id, r#"{"n":2}"#);
            let target = format!("/api/state/entities/{id}");
            assert_eq!(cursor_of(&server, &target), last);
            assert_eq!(cursor_of(&server, &format!("{target}?fields=n")), last);
            let etag = server.get(&target).header("etag").unwrap().to_owned();
            let again = send(
                &server,
                "GET",
                &target,
                &[&format!("If-None-Match: {etag}")],
            );
            assert_eq!(again.status, 304);
            assert_eq!(again.header("flux-cursor"), Some(&*last));

            let mut watcher = Watcher::connect(&server);
            watcher.send(&json!({"type": "get", "id": 1, "entity_id": id}).to_string());
            assert_eq!(watcher.next()["cursor"], last);
        }
    }
}

#[test]
fn a_list_has_the_place_of_all_that_it_covers() {
    for shards in [1, 2] {
        let (server, _dir) = started(shards);
        for space in ["home", "shed"] {
            publish(&server, &format!("{space}/a"), "{}");
            publish(&server, &format!("{space}/b"), "{}");
            let last = publish(&server, &format!("{space}/a"), r#"{"n":1}"#);
            for query in [
                format!("namespace={space}"),
                format!("prefix={space}/a"),
                format!("namespace={space}&limit=1"),
                format!("namespace={space}&filter=exists(n)"),
                format!("namespace={space}&prefix=x"),
            ] {
                let cursor = cursor_of(&server, &format!("/api/state/entities?{query}"));
                assert_eq!(cursor, last, "{query}");
            }
        }
        let queries = ["", "limit=2", "prefix=h", "filter=exists(n)", "fields=n"];
        for (events, query) in (2..).zip(queries) {
            let cursor = cursor_of(&server, &format!("/api/state/entities?{query}"));
            assert!(cursor.starts_with("BAA"), "it is of everything: {cursor}");
            for id in ["home/a", "shed/a"] {
                publish(&server, id, r#"{"n":2}"#);
                let before = events_before(&server, id, &cursor);
                assert!(
                    (events - 1..=events).contains(&before),
                    "{query} {id}: {before}"
                );
            }
        }
    }
}

#[test]
fn errors_and_the_past_have_none() {
    let (server, _dir) = started(1);
    let first = server.publish("a", "{}");
    assert_eq!(first.status, 200);
    let at = server.entity("a").json()["lastUpdated"].clone();
    let at = Value::as_str(&at).unwrap().to_owned();
    server.publish("a", "{}");
    for target in [
        "/api/state/entities/b".to_owned(),
        format!("/api/state/entities/a?at={at}"),
        format!("/api/state/entities?at={at}"),
    ] {
        assert_eq!(server.get(&target).header("flux-cursor"), None, "{target}");
    }
}
