//! Live updates over WebSocket: subscriptions, pushes and their order, clients that do not read
//! (API contract §8).

mod support;

use serde_json::{Value, json};
use support::server::{Server, Setup};
use support::watch::{Watcher, read_message};
use support::{batch, event, is_snake_case, is_timestamp, namespace, on_each};
use tungstenite::Message;

fn change(id: &str, property: &str, value: impl Into<Value>) -> (String, String, Value) {
    (id.to_owned(), property.to_owned(), value.into())
}

#[test]
fn answers_carry_the_id_of_their_message() {
    on_each(|server| {
        let mut watcher = Watcher::connect(server);
        let ids = [
            json!("text"),
            json!(7),
            json!(1.5),
            json!(-3),
            json!(""),
            json!("ü\"\\"),
        ];
        for id in ids {
            for kind in ["subscribe", "unsubscribe"] {
                watcher.send(&json!({"type": kind, "entity_id": "ids/x", "id": id}).to_string());
                assert_eq!(watcher.next(), json!({"type": "ack", "id": id}));
            }
            watcher.send(&json!({"id": id, "type": "ping", "unknown": [1]}).to_string());
            assert_eq!(watcher.next(), json!({"type": "pong", "id": id}));
            watcher.send(&json!({"type": "nonsense", "id": id}).to_string());
            let error = watcher.next();
            assert_eq!(
                (&error["type"], &error["id"]),
                (&json!("error"), &id),
                "{error}"
            );
        }
        watcher.send(r#"{"type":"ping"}"#);
        assert_eq!(watcher.next(), json!({"type": "pong"}));
        // Of repeated keys the last wins.
        watcher.send(r#"{"type":1,"id":[],"type":"ping","id":"last"}"#);
        assert_eq!(watcher.next(), json!({"type": "pong", "id": "last"}));
        // Digit for digit, also beyond the precision of a double.
        watcher.send(r#"{"type":"ping","id":12345678901234567890123}"#);
        let Message::Text(text) = watcher.socket.read().expect("an answer") else {
            panic!("no text")
        };
        read_message(&text);
        assert!(text.contains("12345678901234567890123"), "{text}");
    });
}

#[test]
fn a_message_that_cannot_be_understood_is_answered_and_the_connection_stays() {
    let table = [
        "",
        "nonsense",
        "null",
        "[]",
        "1",
        "{}",
        r#"{"type":1}"#,
        r#"{"type":"jump"}"#,
        r#"{"type":"subscribe","entity_id":1}"#,
        r#"{"type":"subscribe","entity_id":""}"#,
        r#"{"type":"unsubscribe","entity_id":null}"#,
        r#"{"type":"ping","id":{}}"#,
        r#"{"type":"ping","id":[]}"#,
        r#"{"type":"ping"}x"#,
        r#"{"type":"ping""#,
        r#"{"type":"ping","x":01}"#,
        r#"{"type":"ping","x":"\ud800"}"#,
        r#"{"type":"PING"}"#,
    ];
    on_each(|server| {
        let mut watcher = Watcher::connect(server);
        for message in table {
            watcher.send(message);
            let answer = watcher.next();
            assert_eq!(answer["type"], "error", "{message}: {answer}");
            assert!(
                answer["error"]
                    .as_str()
                    .is_some_and(|error| !error.is_empty()),
                "{message}: {answer}"
            );
            assert!(
                answer["code"].as_str().is_some_and(is_snake_case),
                "{message}: {answer}"
            );
        }
        watcher.send(r#"{"type":"ping"}"#);
        assert_eq!(watcher.next()["type"], "pong");
    });
}

#[test]
fn subscriptions_are_exact_by_prefix_or_to_everything() {
    on_each(|server| {
        let ns = namespace("match");
        let id = |rest: &str| format!("{ns}/{rest}");
        let ids = ["a", "a/b", "ab", "b", "*", "a*b"].map(id);
        let table: [(String, &[usize]); 6] = [
            (id("a"), &[0]),
            (id("a*"), &[0, 1, 2, 5]),
            (id("a/*"), &[1]),
            (format!("{ns}/*"), &[0, 1, 2, 3, 4, 5]),
            ("*".to_owned(), &[0, 1, 2, 3, 4, 5]),
            // Special only at the end.
            (id("a*b"), &[5]),
        ];
        for (pattern, expected) in table {
            let mut watcher = Watcher::connect(server);
            // Marks the end: it is in the same namespace, so it is pushed after the rest.
            let end = id("end");
            watcher.subscribe(&end);
            watcher.subscribe(&pattern);
            for (n, id) in ids.iter().enumerate() {
                server.publish(id, &format!(r#"{{"n":{n}}}"#));
            }
            server.publish(&end, r#"{"end":true}"#);
            let mut seen = Vec::new();
            loop {
                let push = watcher.next();
                if push["entity_id"] == end.as_str() {
                    break;
                }
                // Other tests publish meanwhile, and `*` gets their events.
                if push["entity_id"]
                    .as_str()
                    .is_some_and(|id| id.starts_with(&format!("{ns}/")))
                {
                    seen.push(push["entity_id"].as_str().expect("an id").to_owned());
                }
            }
            let expected: Vec<String> = expected.iter().map(|index| ids[*index].clone()).collect();
            assert_eq!(seen, expected, "{pattern}");
        }
    });
}

#[test]
fn every_property_of_an_event_is_pushed_with_the_entitys_time() {
    on_each(|server| {
        let ns = namespace("push");
        let id = format!("{ns}/ü \"quoted\"");
        let mut watcher = Watcher::connect(server);
        watcher.subscribe(&id);
        server.publish(
            &id,
            r#"{"text":"ü\n","number":22.50,"object":{"a":[null]},"null":null,"":false}"#,
        );
        let mut seen = Vec::new();
        for _ in 0..5 {
            let Message::Text(text) = watcher.socket.read().expect("a push") else {
                panic!("no text")
            };
            let push = read_message(&text);
            assert_eq!(push["type"], "state_update", "{push}");
            assert_eq!(push["entity_id"], id.as_str());
            if push["property"] == "number" {
                assert!(text.contains("22.50"), "digit for digit: {text}");
            }
            let listed = server
                .get(&format!("/api/state/entities?namespace={ns}"))
                .json();
            assert!(
                push["timestamp"].as_str().is_some_and(is_timestamp),
                "{push}"
            );
            assert_eq!(
                push["timestamp"], listed[0]["lastUpdated"],
                "the entity's time"
            );
            seen.push((
                push["property"].as_str().expect("a name").to_owned(),
                push["value"].clone(),
            ));
        }
        seen.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [
            ("", json!(false)),
            ("null", json!(null)),
            // Not by `json!`, which would write 22.5.
            ("number", serde_json::from_str("22.50").expect("a number")),
            ("object", json!({"a": [null]})),
            ("text", json!("ü\n")),
        ];
        assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value)));
    });
}

#[test]
fn deletions_are_pushed_once_and_only_where_there_was_something() {
    on_each(|server| {
        let ns = namespace("gone");
        let id = format!("{ns}/a");
        let mut watcher = Watcher::connect(server);
        watcher.subscribe(&format!("{ns}/*"));
        watcher.subscribe(&id);
        server.publish(&id, r#"{"__deleted__":true}"#);
        server.publish(&id, "{}");
        server.publish(&id, r#"{"n":1,"__deleted__":true}"#);
        server.publish(&id, r#"{"n":2}"#);
        let push = watcher.next();
        assert_eq!(
            (&push["type"], &push["entity_id"]),
            (&json!("entity_deleted"), &json!(id)),
            "{push}"
        );
        assert!(
            push["timestamp"].as_str().is_some_and(is_timestamp),
            "{push}"
        );
        assert_eq!(watcher.changes(1), [change(&id, "n", 2)]);
    });
}

#[test]
fn without_a_subscription_nothing_is_pushed() {
    on_each(|server| {
        let ns = namespace("silent");
        let mut watcher = Watcher::connect(server);
        server.publish(&format!("{ns}/a"), r#"{"n":1}"#);
        watcher.send(r#"{"type":"ping"}"#);
        assert_eq!(watcher.next(), json!({"type": "pong"}));
        watcher.subscribe(&format!("{ns}/end"));
        server.publish(&format!("{ns}/a"), r#"{"n":2}"#);
        server.publish(&format!("{ns}/end"), r#"{"n":3}"#);
        assert_eq!(watcher.changes(1), [change(&format!("{ns}/end"), "n", 3)]);
    });
}

#[test]
fn several_matching_subscriptions_push_a_change_once() {
    on_each(|server| {
        let ns = namespace("once");
        let id = format!("{ns}/a/b");
        let mut watcher = Watcher::connect(server);
        let patterns = [
            id.clone(),
            format!("{ns}/*"),
            format!("{ns}/a/*"),
            format!("{ns}/a*"),
            id.clone(),
        ];
        for pattern in &patterns {
            watcher.subscribe(pattern);
        }
        for n in 0..5 {
            server.publish(&id, &format!(r#"{{"n":{n}}}"#));
        }
        assert_eq!(
            watcher.changes(5),
            (0..5).map(|n| change(&id, "n", n)).collect::<Vec<_>>()
        );
        // Unsubscribing removes one subscription; the others still push.
        for pattern in &patterns[1..4] {
            watcher.unsubscribe(pattern);
        }
        server.publish(&id, r#"{"n":5}"#);
        assert_eq!(watcher.changes(1), [change(&id, "n", 5)]);
        watcher.unsubscribe(&id);
        watcher.subscribe(&format!("{ns}/end"));
        server.publish(&id, r#"{"n":6}"#);
        server.publish(&format!("{ns}/end"), r#"{"n":7}"#);
        assert_eq!(watcher.changes(1), [change(&format!("{ns}/end"), "n", 7)]);
    });
}

#[test]
fn unsubscribing_takes_back_that_same_subscription_only() {
    on_each(|server| {
        let ns = namespace("back");
        let id = format!("{ns}/a");
        let mut watcher = Watcher::connect(server);
        watcher.subscribe(&format!("{ns}/*"));
        // Never subscribed to. Whatever the answer is, the other subscription stays.
        for pattern in [id.clone(), "*".to_owned(), format!("{ns}*")] {
            watcher.send(&json!({"type": "unsubscribe", "entity_id": pattern}).to_string());
            watcher.send(&json!({"type": "ping", "id": pattern}).to_string());
            while watcher.next() != json!({"type": "pong", "id": pattern}) {}
        }
        server.publish(&id, r#"{"n":1}"#);
        assert_eq!(watcher.changes(1), [change(&id, "n", 1)]);
    });
}

#[test]
fn updates_of_a_namespace_arrive_in_the_order_of_the_log() {
    const EVENTS: usize = 3_000;
    on_each(|server| {
        let ns = namespace("order");
        let mut watchers: Vec<Watcher> = (0..4).map(|_| Watcher::connect(server)).collect();
        for watcher in &mut watchers {
            watcher.subscribe(&format!("{ns}/*"));
        }
        let expected: Vec<_> = (0..EVENTS)
            .map(|n| change(&format!("{ns}/{}", n % 10), &format!("n{n}"), n))
            .collect();
        std::thread::scope(|scope| {
            for watcher in &mut watchers {
                let expected = &expected;
                scope.spawn(move || assert_eq!(&watcher.changes(EVENTS), expected));
            }
            for first in (0..EVENTS).step_by(100) {
                let item =
                    |n: usize| event(&format!("{ns}/{}", n % 10), &format!(r#"{{"n{n}":{n}}}"#));
                let events: Vec<String> = (first..first + 100).map(item).collect();
                assert_eq!(
                    server.post("/api/events/batch", &batch(&events)).json()["successful"],
                    100
                );
            }
        });
    });
}

#[test]
fn what_was_published_on_any_core_is_seen_on_any_core() {
    on_each(|server| {
        let ns = namespace("cores");
        let mut watchers: Vec<Watcher> = (0..8).map(|_| Watcher::connect(server)).collect();
        for watcher in &mut watchers {
            watcher.subscribe(&format!("{ns}-*"));
        }
        let mut publisher = server.connect();
        for n in 0..16 {
            let id = format!("{ns}-{n}/a");
            let answer = publisher.request(
                "POST",
                "/api/events",
                &event(&id, &format!(r#"{{"n":{n}}}"#)),
            );
            assert_eq!(answer.status, 200);
            for watcher in &mut watchers {
                assert_eq!(watcher.changes(1), [change(&id, "n", n)]);
            }
        }
    });
}

#[test]
fn metrics_come_by_themselves_unless_turned_off() {
    on_each(|server| {
        let mut watcher = Watcher::connect_to(server, "/api/ws");
        let metrics = watcher.next_of_any_type();
        assert_eq!(metrics["type"], "metrics_update", "{metrics}");
        assert!(
            metrics["timestamp"].as_str().is_some_and(is_timestamp),
            "{metrics}"
        );
        for pointer in [
            "/entities/total",
            "/events/total",
            "/events/rate_per_second",
            "/websocket/connections",
            "/publishers/active",
        ] {
            assert!(
                metrics.pointer(pointer).is_some_and(Value::is_number),
                "{pointer} in {metrics}"
            );
        }
        assert!(
            metrics["websocket"]["connections"].as_u64() >= Some(1),
            "{metrics}"
        );
        // The second comes two seconds later; a connection that turned them off has none by then.
        let mut silent = Watcher::connect(server);
        watcher.next_of_any_type();
        watcher.next_of_any_type();
        silent.send(r#"{"type":"ping"}"#);
        assert_eq!(silent.next_of_any_type(), json!({"type": "pong"}));
    });
}

#[test]
fn publishers_are_counted_by_their_source_and_not_by_their_connections() {
    let directory = tempfile::TempDir::new().unwrap();
    let server = Setup::new(directory.path(), 2).start();
    let mut watcher = Watcher::connect_to(&server, "/api/ws");
    for n in 0..7 {
        let source = ["one", "two"][n % 2];
        let body = format!(
            r#"{{"stream":"s","source":"{source}","payload":{{"entity_id":"n{n}/a","properties":{{}}}}}}"#
        );
        let answer = server.connect().request("POST", "/api/events", &body);
        assert_eq!(answer.status, 200);
    }
    let mut counts = Vec::new();
    while counts.last() != Some(&Some(2)) {
        let metrics = watcher.next_of_any_type();
        counts.push(metrics["publishers"]["active"].as_u64());
        assert!(counts.len() < 6, "{counts:?}");
    }
    assert!(counts.iter().all(|count| *count <= Some(2)), "{counts:?}");
}

#[test]
fn a_client_that_leaves_without_a_word_is_forgotten() {
    on_each(|server| {
        let ns = namespace("left");
        for _ in 0..20 {
            let mut watcher = Watcher::connect(server);
            watcher.subscribe(&format!("{ns}/*"));
        }
        let mut stays = Watcher::connect(server);
        stays.subscribe(&format!("{ns}/*"));
        for n in 0..50 {
            server.publish(&format!("{ns}/a"), &format!(r#"{{"n":{n}}}"#));
            assert_eq!(stays.changes(1), [change(&format!("{ns}/a"), "n", n)]);
        }
    });
}

#[test]
fn a_client_that_never_reads_harms_nobody_and_costs_bounded_memory() {
    const ROUNDS: usize = 40;
    const MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;
    for shards in [1, 2] {
        // A server of its own, because its memory is measured.
        let server = Server::start(shards);
        let text = "x".repeat(2_000);
        let mut deaf: Vec<Watcher> = (0..8).map(|_| Watcher::connect(&server)).collect();
        for watcher in &mut deaf {
            watcher.subscribe("*");
        }
        let mut reader = Watcher::connect(&server);
        reader.subscribe("marker/a");
        // A first pass allocates segments, state and buffers before the measurement.
        let publish = |round: usize| {
            for part in 0..4 {
                let id = |n: usize| format!("deaf-{part}/{n}");
                let events: Vec<String> = (0..200)
                    .map(|n| event(&id(n), &format!(r#"{{"v{n}":"{round}{text}"}}"#)))
                    .collect();
                assert_eq!(
                    server.post("/api/events/batch", &batch(&events)).json()["successful"],
                    200
                );
            }
            server.publish("marker/a", &format!(r#"{{"n":{round}}}"#));
        };
        publish(0);
        assert_eq!(reader.changes(1), [change("marker/a", "n", 0)]);
        let before = server.memory_bytes();
        for round in 1..ROUNDS {
            publish(round);
            assert_eq!(
                reader.changes(1),
                [change("marker/a", "n", round)],
                "a reader is served on time"
            );
        }
        // 39 rounds of 1.6 MB for each of 8 clients that do not read are 500 MB.
        let grown = server.memory_bytes().saturating_sub(before);
        assert!(
            grown < MEMORY_BYTES_MAX,
            "memory grew by {grown} bytes with {shards} shards"
        );
        for watcher in &mut deaf {
            newest_or_closed(watcher, ROUNDS - 1);
        }
    }
}

/// Reads until the newest value of one property comes, or until the server says that it closed for
/// falling behind.
fn newest_or_closed(watcher: &mut Watcher, newest: usize) {
    let newest = format!("{newest}x");
    loop {
        match watcher.socket.read() {
            Ok(Message::Text(text)) => {
                let push = read_message(&text);
                let value = push["value"].as_str().unwrap_or("");
                if push["entity_id"] == "deaf-3/199" && value.starts_with(&newest) {
                    return;
                }
            }
            Ok(Message::Close(frame)) => {
                let frame = frame.expect("a close with a code");
                assert_eq!(u16::from(frame.code), 1013);
                assert!(!frame.reason.is_empty(), "1013 comes with a reason");
                return;
            }
            Ok(_) => {}
            Err(error) => panic!("neither the newest value nor a close: {error}"),
        }
    }
}
