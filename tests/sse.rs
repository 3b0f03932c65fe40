//! `GET /api/stream`: subscriptions over plain HTTP, as server-sent events (API contract §13).

mod support;

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use support::events::{Event, Events};
use support::http::percent_encoded;
use support::server::{Server, Setup};
use support::{event, namespace, on_each, publish_all, wait_for};
use tempfile::TempDir;

fn open(server: &Server, query: &str) -> Events {
    let events = Events::open(server.port, &format!("/api/stream{query}"), &[]);
    assert_eq!(events.head.status, 200, "{query}: {}", events.head.text());
    events
}

/// Opens a stream and takes its acknowledgement.
fn follow(server: &Server, query: &str) -> Events {
    let mut events = open(server, query);
    let ack = events.next();
    assert_eq!(ack.kind, "ack", "{}", ack.data);
    events
}

/// What a client of mode `entity` holds: by id, its properties.
#[derive(Debug, Default, Clone, PartialEq)]
struct Held(BTreeMap<String, Map<String, Value>>);

impl Held {
    fn apply(&mut self, message: &Value) {
        let id = message["entity_id"].as_str().unwrap_or_default().to_owned();
        match message["type"].as_str().expect("every message has a type") {
            "snapshot" => {
                for entity in message["entities"].as_array().expect("an array") {
                    let id = entity["id"].as_str().expect("an id").to_owned();
                    let properties = entity["properties"].as_object().expect("some");
                    self.0.insert(id, properties.clone());
                }
            }
            "resync" => self.0.clear(),
            "entity" => {
                let entity = self.0.entry(id).or_default();
                if message["whole"] == true {
                    entity.clear();
                }
                entity.extend(message["properties"].as_object().expect("some").clone());
            }
            "entity_deleted" => drop(self.0.remove(&id)),
            _ => {}
        }
    }
}

fn held(server: &Server, prefix: &str) -> Held {
    Held(server.held(prefix))
}

#[test]
fn a_stream_has_the_head_of_one_and_begins_with_its_acknowledgement() {
    on_each(|server| {
        let ns = namespace("head");
        let mut events = open(server, &format!("?entity_id={ns}/*"));
        for (name, value) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-store"),
            ("x-accel-buffering", "no"),
            ("access-control-allow-origin", "*"),
            ("transfer-encoding", "chunked"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(events.head.header(name), Some(value), "{name}");
        }
        let ack = events.next();
        let cursor = ack.id.clone().expect("the place that it begins at");
        let expected = json!({"type": "ack", "cursor": cursor});
        assert_eq!((ack.kind.as_str(), ack.data), ("ack", expected));
        assert_eq!(events.retry, Some(2000));
        server.publish(&format!("{ns}/a"), r#"{"t":22.50}"#);
        let change = events.next();
        assert_eq!((change.kind.as_str(), &change.id), ("entity", &None));
        assert_eq!(change.data["properties"].to_string(), r#"{"t":22.50}"#);
        let cursor = events.next();
        assert_eq!(
            (cursor.kind.as_str(), cursor.id.as_deref()),
            ("cursor", cursor.data["cursor"].as_str())
        );
        let deleted = server.request("DELETE", &format!("/api/state/entities/{ns}/a"), "");
        assert_eq!(deleted.status, 200);
        assert_eq!(events.next().kind, "entity_deleted");
    });
}

#[test]
fn every_mode_sends_the_messages_of_a_websocket_subscription() {
    on_each(|server| {
        let ns = namespace("modes");
        let of = |mode: &str| follow(server, &format!("?entity_id={ns}/*&mode={mode}"));
        let [mut property, mut entity, mut event] = ["property", "entity", "event"].map(of);
        let long = "x".repeat(70_000);
        server.publish(
            &format!("{ns}/a"),
            &format!(r#"{{"b":[1, 2],"a":"{long}"}}"#),
        );
        let mut names = BTreeSet::new();
        for _ in 0..2 {
            let update = property.next_of("state_update");
            assert_eq!(update.id, None);
            names.insert(update.data["property"].as_str().unwrap().to_owned());
        }
        assert_eq!(names, ["a", "b"].map(String::from).into());
        let properties = json!({"a": long, "b": [1, 2]});
        assert_eq!(entity.next().data["properties"], properties);
        let row = event.next();
        assert_eq!(row.kind, "event");
        assert_eq!(row.id.as_deref(), row.data["cursor"].as_str());
        assert_eq!(row.data["payload"]["properties"], properties);
        server.publish(&format!("{ns}/a"), r#"{"__deleted__":true}"#);
        assert_eq!(
            property.next_of("entity_deleted").data["entity_id"],
            format!("{ns}/a")
        );
        assert_eq!(
            entity.next_of("entity_deleted").data["entity_id"],
            format!("{ns}/a")
        );
        let end = event.next_of("event").data;
        // Other tests publish to the same log.
        assert!(end["sequence"].as_u64() > row.data["sequence"].as_u64());
        assert_eq!(end["payload"]["properties"], json!({"__deleted__": true}));
    });
}

#[test]
fn a_stream_of_several_patterns_is_one_subscription() {
    on_each(|server| {
        let (one, other) = (namespace("several"), namespace("several"));
        let ids = [
            format!("{one}/a"),
            format!("{one}/b"),
            format!("{other}/a"),
            format!("{other}/b"),
        ];
        publish_all(server, &ids, r#"{"n":1}"#);
        let query = format!(
            "?entity_id={other}/*&entity_id={one}/a&entity_id={one}/a&entity_id={other}/a&snapshot=true"
        );
        let mut events = open(server, &query);
        assert_eq!(events.next().kind, "ack");
        let mut found = Held::default();
        let end = loop {
            let page = events.next();
            found.apply(&page.data);
            if page.kind == "snapshot_end" {
                break page;
            }
            assert_eq!(events.last_id, "", "half a snapshot is begun anew");
            assert_eq!((page.kind.as_str(), page.id), ("snapshot", None));
        };
        assert_eq!(end.id.as_deref(), end.data["cursor"].as_str());
        assert_eq!(end.data.get("id"), None);
        let shown: Vec<&str> = found.0.keys().map(String::as_str).collect();
        let mut expected = vec![ids[0].as_str(), &ids[2], &ids[3]];
        expected.sort_unstable();
        assert_eq!(shown, expected);
        publish_all(server, &ids, r#"{"n":2}"#);
        let mut changed = BTreeSet::new();
        while changed.len() < 3 {
            let change = events.next();
            if change.kind == "entity" {
                let id = change.data["entity_id"].as_str().unwrap().to_owned();
                assert!(changed.insert(id), "once: {}", change.data);
            }
        }
        assert_eq!(changed, expected.into_iter().map(String::from).collect());
        let cursor = events.next_of("cursor").id.unwrap();
        // Its place covers both namespaces.
        server.publish(&ids[2], r#"{"n":3}"#);
        let query = format!("?entity_id={one}/a&entity_id={other}/*&since={cursor}");
        let mut again = follow(server, &query);
        let change = again.next();
        assert_eq!(
            (&change.data["entity_id"], &change.data["whole"]),
            (&json!(ids[2]), &json!(true))
        );
        assert_eq!(again.next().kind, "caught_up");
    });
}

#[test]
fn a_stream_takes_64_patterns_and_no_more() {
    on_each(|server| {
        let ns = namespace("many");
        let query = |count: usize| {
            let ids = (0..count).map(|number| format!("entity_id={ns}-{number}/x"));
            format!("/api/stream?{}", ids.collect::<Vec<_>>().join("&"))
        };
        let mut events = Events::open(server.port, &query(64), &[]);
        assert_eq!(events.next().kind, "ack");
        for number in [0, 63] {
            server.publish(&format!("{ns}-{number}/x"), r#"{"n":1}"#);
            let change = events.next_of("entity");
            assert_eq!(change.data["entity_id"], format!("{ns}-{number}/x"));
        }
        let refused = server.get(&query(65));
        assert_eq!(refused.expect_error(400, "65"), "invalid_query");
    });
}

#[test]
fn filters_properties_and_paces_are_those_of_subscriptions() {
    on_each(|server| {
        let ns = namespace("filter");
        let filter = percent_encoded(r#"eq(status,"open")"#);
        let query = format!("?entity_id={ns}/*&filter={filter}&properties=status,n");
        let mut events = follow(server, &query);
        let id = format!("{ns}/a");
        server.publish(&id, r#"{"status":"shut","n":1}"#);
        server.publish(&id, r#"{"status":"open","other":1}"#);
        let begins = events.next().data;
        assert_eq!(begins["whole"], true, "{begins}");
        assert_eq!(begins["properties"], json!({"status": "open", "n": 1}));
        server.publish(&id, r#"{"status":"shut"}"#);
        let ends = events.next_of("entity").data;
        assert_eq!(ends["matches"], false, "{ends}");
        let mut paced = follow(server, &format!("?entity_id={ns}/*&max_hz=0.1"));
        for n in 0..50 {
            server.publish(&id, &format!(r#"{{"n":{n}}}"#));
        }
        assert_eq!(paced.next_of("entity").data["properties"], json!({"n": 0}));
        server.publish(&format!("{ns}/b"), r#"{"n":7}"#);
        let next = paced.next_of("entity").data;
        assert_eq!(next["entity_id"], format!("{ns}/b"), "{next}");
    });
}

#[test]
fn what_is_wrong_with_a_request_is_answered_as_any_other() {
    on_each(|server| {
        let ns = namespace("wrong");
        let narrow = server.publish(&format!("{ns}/a"), "{}").json()["cursor"].clone();
        let narrow = narrow.as_str().unwrap().to_owned();
        let long = "x".repeat(513);
        let filter = percent_encoded("eq(a");
        let cases = [
            ("mode=entities".to_owned(), "invalid_query"),
            ("mode=event&mode=event".to_owned(), "invalid_query"),
            ("snapshot=maybe".to_owned(), "invalid_query"),
            ("since=nonsense".to_owned(), "invalid_cursor"),
            (format!("since={narrow}"), "cursor_too_narrow"),
            (
                format!("entity_id={ns}x/*&since={narrow}"),
                "cursor_too_narrow",
            ),
            (
                format!("snapshot=true&entity_id={ns}/*&since={narrow}"),
                "invalid_query",
            ),
            (format!("filter={filter}"), "invalid_filter"),
            ("mode=event&max_hz=1".to_owned(), "invalid_query"),
            ("max_hz=101".to_owned(), "invalid_query"),
            (
                format!("properties={}", vec!["a"; 65].join(",")),
                "invalid_query",
            ),
            ("entity_id=".to_owned(), "invalid_query"),
            (format!("entity_id={long}"), "invalid_query"),
            ("entity_id=%00".to_owned(), "invalid_query"),
            ("entity_id=%zz".to_owned(), "invalid_encoding"),
        ];
        let mut connection = server.connect();
        for (query, code) in cases {
            let answer = connection.request("GET", &format!("/api/stream?{query}"), "");
            assert_eq!(answer.expect_error(400, &query), code, "{query}");
        }
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let answer = connection.request(method, "/api/stream", "");
            answer.expect_error(405, method);
            assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
        }
        let head = connection.request("HEAD", "/api/stream", "");
        assert_eq!(
            (head.status, head.header("content-type")),
            (200, Some("text/event-stream"))
        );
        assert_eq!(connection.request("OPTIONS", "/api/stream", "").status, 204);
        // What was refused leaves nothing behind, and the connection can become a stream.
        let mut events = follow(server, &format!("?entity_id={ns}/*"));
        server.publish(&format!("{ns}/a"), "{}");
        assert_eq!(events.next().kind, "entity");
        assert_eq!(connection.request("GET", "/health", "").status, 200);
    });
}

#[test]
fn a_place_that_an_older_copy_of_the_data_does_not_have_is_gone_or_begun_anew() {
    // Servers of its own: on a shared one other tests may be ahead of the place.
    for shards in [1, 2] {
        let server = &Server::start(shards);
        let ns = namespace("gone");
        let ahead = {
            let other = Server::start(1);
            let mut cursor = Value::Null;
            for _ in 0..2000 {
                cursor = other.publish(&format!("{ns}/a"), "{}").json()["cursor"].clone();
            }
            cursor.as_str().unwrap().to_owned()
        };
        let here = server.publish(&format!("{ns}/a"), r#"{"n":1}"#).json()["sequence"].clone();
        assert!(here.as_u64().unwrap() < 2000, "{here}");
        let query = format!("/api/stream?entity_id={ns}/*&mode=event");
        let field = format!("Last-Event-ID: {ahead}");
        let refused = Events::open(server.port, &query, &[&field]).head;
        assert_eq!(refused.expect_error(410, "mode event"), "history_removed");
        let mut events = open(server, &format!("?entity_id={ns}/*&since={ahead}"));
        assert_eq!(events.next().kind, "ack");
        let resync = events.next();
        let expected = json!({"type": "resync", "reason": "history_removed"});
        assert_eq!((resync.kind.as_str(), resync.data), ("resync", expected));
        assert_eq!(events.next().data["entities"][0]["id"], format!("{ns}/a"));
        assert_eq!(events.next().kind, "snapshot_end");
    }
}

#[test]
fn a_client_of_http_1_0_gets_a_stream_that_the_connection_ends() {
    on_each(|server| {
        let ns = namespace("old");
        let target = format!("/api/stream?entity_id={ns}/*&mode=property");
        let mut events = Events::send(server.port, &format!("GET {target} HTTP/1.0\r\n\r\n"));
        assert_eq!(events.head.header("transfer-encoding"), None);
        assert_eq!(events.head.header("connection"), Some("close"));
        assert_eq!(events.next().kind, "ack");
        server.publish(&format!("{ns}/a"), r#"{"a":1}"#);
        assert_eq!(events.next().data["value"], 1);
    });
}

#[test]
fn a_stream_follows_the_answers_before_it_and_nothing_behind_it_is_read() {
    on_each(|server| {
        let ns = namespace("behind");
        let publish = support::http::publish_request(&format!("{ns}/a"), &[]);
        let stream =
            support::http::request("GET", &format!("/api/stream?entity_id={ns}/*"), &[], "");
        let ghost = support::http::publish_request(&format!("{ns}/ghost"), &[]);
        let mut connection = server.connect();
        connection.send(format!("{publish}{stream}{ghost}"));
        assert_eq!(connection.response().status, 200, "of the publish");
        // The stream lives on its own; what a second one sees says what happened.
        let mut events = follow(server, &format!("?entity_id={ns}/*"));
        connection
            .stream
            .write_all(ghost.as_bytes())
            .expect("sent, and not read");
        server.publish(&format!("{ns}/b"), "{}");
        assert_eq!(events.next().data["entity_id"], format!("{ns}/b"));
        assert_eq!(server.entity(&format!("{ns}/ghost")).status, 404);
    });
}

#[test]
fn a_client_that_has_shut_down_its_side_still_listens() {
    on_each(|server| {
        let ns = namespace("half");
        let target = format!("/api/stream?entity_id={ns}/*");
        let mut connection = server.connect();
        connection.send(support::http::request("GET", &target, &[], ""));
        connection.finish_sending();
        let mut events = Events::of(connection.stream);
        assert_eq!(events.next().kind, "ack");
        server.publish(&format!("{ns}/a"), "{}");
        assert_eq!(events.next().kind, "entity");
    });
}

#[test]
fn the_directory_is_streamed_like_any_other_entity() {
    on_each(|server| {
        let mut events = follow(server, "?entity_id=flux-core/directory&snapshot=true");
        let page = events.next();
        assert_eq!(
            page.data["entities"][0]["id"], "flux-core/directory",
            "{}",
            page.data
        );
        assert_eq!(events.next_of("snapshot_end").kind, "snapshot_end");
    });
}

#[test]
fn a_reader_that_is_too_slow_is_told_so_and_its_stream_ends() {
    let server = Server::start(2);
    let ns = namespace("slow");
    let mut events = follow(&server, &format!("?entity_id={ns}/*"));
    let ids: Vec<String> = (0..70_000).map(|number| format!("{ns}/{number}")).collect();
    publish_all(&server, &ids, r#"{"n":1}"#);
    let rest = events.rest();
    let last = rest.last().expect("an error");
    assert_eq!(
        (last.kind.as_str(), &last.data["code"]),
        ("error", &json!("slow_reader"))
    );
    let reason = last.data["error"].as_str().expect("a message");
    assert!(reason.contains("more than"), "{reason}");
}

#[test]
fn a_slow_reader_of_events_loses_none() {
    on_each(|server| {
        let ns = namespace("events");
        let mut events = follow(server, &format!("?entity_id={ns}/*&mode=event"));
        let ids: Vec<String> = (0..8000).map(|number| format!("{ns}/{number}")).collect();
        let padding = "x".repeat(400);
        publish_all(server, &ids, &format!(r#"{{"p":"{padding}"}}"#));
        for id in &ids {
            let row = events.next_of("event");
            assert_eq!(row.data["payload"]["entity_id"], json!(id));
        }
    });
}

#[test]
fn a_stream_ends_in_good_order_when_the_server_stops() {
    let data = TempDir::new().expect("a temporary directory");
    let server = Setup::new(data.path(), 2).start();
    let mut chunked = follow(&server, "");
    let mut plain = Events::send(server.port, "GET /api/stream HTTP/1.0\r\n\r\n");
    assert_eq!(plain.next().kind, "ack");
    server.publish("a", r#"{"n":1}"#);
    assert_eq!(chunked.next_of("entity").data["entity_id"], "a");
    server.stop();
    chunked.rest();
    plain.rest();
}

#[test]
fn a_comment_comes_before_a_proxy_gives_up() {
    let server = Server::start(1);
    let mut events = follow(&server, "?entity_id=nothing");
    events.await_comment();
}

#[test]
fn a_stream_goes_on_at_its_last_id_over_deaths_of_the_server() {
    for (mode, shards) in [("event", 1), ("event", 2), ("entity", 2)] {
        let data = TempDir::new().expect("a temporary directory");
        let setup = Setup::new(data.path(), shards);
        let mut server = setup.start();
        let ns = namespace("kill");
        for query in [
            format!("?entity_id={ns}/*&mode={mode}"),
            format!("?mode={mode}"),
        ] {
            let mut events = follow(&server, &query);
            let mut seen: BTreeMap<u64, String> = BTreeMap::new();
            let mut state = held(&server, &format!("{ns}/"));
            for round in 0..3 {
                let ids: Vec<String> = (0..30).map(|number| format!("{ns}/{number}")).collect();
                publish_all(&server, &ids, &format!(r#"{{"round":{round}}}"#));
                for _ in 0..10 {
                    take(&mut events, &mut seen, &mut state);
                }
                server.kill();
                // What is on its way when the server dies may be lost; it comes again.
                let last_id = events.last_id.clone();
                server = setup.start();
                let field = format!("Last-Event-ID: {last_id}");
                events = Events::open(server.port, &format!("/api/stream{query}"), &[&field]);
                assert_eq!(events.head.status, 200, "{}", events.head.text());
                while take(&mut events, &mut seen, &mut state) != "caught_up" {}
                if mode == "event" {
                    expect_all_since_the_first(&server, &ns, &seen);
                } else {
                    assert_eq!(state, held(&server, &format!("{ns}/")), "round {round}");
                }
            }
        }
        drop(server);
    }
}

/// Expects that of the events from the first that was seen on, each was.
fn expect_all_since_the_first(server: &Server, ns: &str, seen: &BTreeMap<u64, String>) {
    let first = seen.keys().next().copied().expect("some rows");
    for row in support::agent::history(server, &format!("namespace={ns}")) {
        let sequence = row["sequence"].as_u64().expect("a number");
        assert!(sequence < first || seen.contains_key(&sequence), "{row}");
    }
}

/// Takes the next event in. Returns its type.
fn take(events: &mut Events, seen: &mut BTreeMap<u64, String>, state: &mut Held) -> String {
    let Event { kind, data, .. } = events.next();
    assert_ne!(kind, "error", "{data}");
    if kind == "event" {
        let sequence = data["sequence"].as_u64().expect("a number");
        seen.insert(sequence, data["payload"]["entity_id"].to_string());
    }
    let is_own = data["entity_id"]
        .as_str()
        .is_none_or(|id| !id.starts_with("flux-core/"));
    if is_own {
        state.apply(&data);
    }
    kind
}

#[test]
fn many_streams_come_and_go_and_leave_nothing_behind() {
    let server = Server::start(2);
    for _ in 0..20 {
        let streams: Vec<Events> = (0..30)
            .map(|number| open(&server, &format!("?entity_id=n{number}/*&snapshot=true")))
            .collect();
        drop(streams);
    }
    wait_for("the streams to be gone", || {
        let metrics = server.get("/health?detail=true").json();
        (metrics["memory"]["outboxes"] == 0).then_some(())
    });
    assert_eq!(server.post("/api/events", &event("n1/a", "{}")).status, 200);
}
