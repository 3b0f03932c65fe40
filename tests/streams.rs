//! Subscriptions by entity and by event, with selections, filters and paces (API contract §13).

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::server::{Server, Setup};
use support::watch::Watcher;
use support::{event, namespace, on_each};

/// Subscribes with these members and returns the cursor of the acknowledgement.
fn subscribe(watcher: &mut Watcher, pattern: &str, members: &Value) -> String {
    let mut message = json!({"type": "subscribe", "entity_id": pattern, "id": pattern});
    let members = members.as_object().expect("members");
    message
        .as_object_mut()
        .expect("it is one")
        .extend(members.clone());
    watcher.send(&message.to_string());
    loop {
        let answer = watcher.next();
        if answer["type"] == "ack" {
            return answer["cursor"].as_str().expect("a cursor").to_owned();
        }
        assert_ne!(answer["type"], "error", "{message}: {answer}");
    }
}

/// The next message that is no cursor.
fn next(watcher: &mut Watcher) -> Value {
    loop {
        let message = watcher.next();
        if message["type"] != "cursor" {
            return message;
        }
    }
}

fn set(server: &Server, id: &str, properties: &Value) -> Value {
    server.publish(id, &properties.to_string());
    server.entity(id).json()
}

fn delete(server: &Server, id: &str) {
    server.publish(id, r#"{"__deleted__":true}"#);
}

/// The messages until `end` of the namespace is set, without cursors and without that one.
fn until_end(server: &Server, watcher: &mut Watcher, end: &str) -> Vec<Value> {
    server.publish(end, r#"{"end":true}"#);
    let mut messages = Vec::new();
    loop {
        let message = next(watcher);
        if message["entity_id"] == end || message["payload"]["entity_id"] == end {
            return messages;
        }
        messages.push(message);
    }
}

#[test]
fn by_entity_each_event_is_one_message_that_says_what_it_changed() {
    on_each(|server| {
        let ns = namespace("entity");
        let id = format!("{ns}/a");
        let mut watcher = Watcher::connect(server);
        subscribe(&mut watcher, &format!("{ns}/*"), &json!({"mode": "entity"}));
        let first = set(server, &id, &json!({"x": 1, "y": [2]}));
        let message = next(&mut watcher);
        let sequence = message["sequence"].as_u64().expect("a sequence");
        assert_eq!(
            message,
            json!({
                "type": "entity", "entity_id": id, "properties": {"x": 1, "y": [2]},
                "removed": [], "version": 1, "sequence": sequence,
                "timestamp": first["lastUpdated"],
            })
        );
        set(server, &id, &json!({}));
        let renewed = next(&mut watcher);
        assert_eq!(
            (&renewed["properties"], &renewed["version"]),
            (&json!({}), &json!(2))
        );
        let unset = event(&id, "{}").replace(
            r#""properties":{}"#,
            r#""properties":{},"unset":["x"],"increment":{"n":2}"#,
        );
        assert_eq!(server.post("/api/events", &unset).status, 200);
        let message = next(&mut watcher);
        assert_eq!(message["properties"], json!({"n": 2}));
        assert_eq!(message["removed"], json!(["x"]));
        delete(server, &id);
        let gone = next(&mut watcher);
        assert_eq!(
            gone,
            json!({
                "type": "entity_deleted", "entity_id": id, "sequence": gone["sequence"],
                "timestamp": gone["timestamp"],
            })
        );
        assert!(gone["sequence"].as_u64() > message["sequence"].as_u64());
    });
}

#[test]
fn by_event_each_event_is_a_row_of_the_history() {
    on_each(|server| {
        let ns = namespace("event");
        let id = format!("{ns}/a");
        let mut watcher = Watcher::connect(server);
        subscribe(&mut watcher, &format!("{ns}/*"), &json!({"mode": "event"}));
        set(server, &id, &json!({"x": 1.50}));
        delete(server, &id);
        // Nothing is there to delete, and it is an event all the same.
        delete(server, &id);
        set(server, &id, &json!({}));
        let messages = until_end(server, &mut watcher, &format!("{ns}/end"));
        let page = server.get(&format!("/api/events?entity={id}")).json();
        let mut rows: Vec<Value> = page["events"]
            .as_array()
            .or(page.as_array())
            .expect("rows")
            .clone();
        rows.reverse();
        for row in &mut rows {
            row["type"] = json!("event");
        }
        assert_eq!(messages, rows);
    });
}

#[test]
fn a_selection_shows_only_its_properties() {
    on_each(|server| {
        let ns = namespace("select");
        let (id, end) = (format!("{ns}/a"), format!("{ns}/end"));
        let by_mode = |mode: &str| {
            let mut watcher = Watcher::connect(server);
            let pattern = format!("{ns}/*");
            let members = json!({"mode": mode, "properties": ["y", "x", "end"]});
            subscribe(&mut watcher, &pattern, &members);
            set(server, &id, &json!({"x": 1, "z": 1}));
            set(server, &id, &json!({"z": 2}));
            set(server, &id, &json!({}));
            set(server, &id, &json!({"x": 3, "y": 4}));
            delete(server, &id);
            until_end(server, &mut watcher, &end)
        };
        let shown: Vec<Value> = by_mode("entity")
            .iter()
            .map(|it| it["properties"].clone())
            .collect();
        assert_eq!(
            shown,
            [json!({"x": 1}), json!({"x": 3, "y": 4}), Value::Null]
        );
        let shown: Vec<Value> = by_mode("property")
            .iter()
            .map(|it| it["property"].clone())
            .collect();
        assert_eq!(shown, [json!("x"), json!("x"), json!("y"), Value::Null]);
        let rows = by_mode("event");
        let shown: Vec<&Value> = rows.iter().map(|it| &it["payload"]["properties"]).collect();
        let expected = [
            json!({"x": 1, "z": 1}),
            json!({"x": 3, "y": 4}),
            json!({"__deleted__": true}),
        ];
        assert_eq!(shown, expected.iter().collect::<Vec<_>>());
    });
}

#[test]
fn a_filter_shows_an_entity_whole_when_it_begins_to_match_and_says_when_it_ends() {
    on_each(|server| {
        let ns = namespace("filter");
        let (id, end) = (format!("{ns}/a"), format!("{ns}/end"));
        let pattern = format!("{ns}/*");
        let filter = "or(gt(x,5),eq(end,true))";
        let mut by_entity = Watcher::connect(server);
        subscribe(
            &mut by_entity,
            &pattern,
            &json!({"mode": "entity", "filter": filter}),
        );
        let mut by_property = Watcher::connect(server);
        subscribe(&mut by_property, &pattern, &json!({"filter": filter}));
        set(server, &id, &json!({"x": 1, "y": 1}));
        set(server, &id, &json!({"y": 2}));
        set(server, &id, &json!({"x": 9}));
        set(server, &id, &json!({"y": 3}));
        set(server, &id, &json!({"x": 2}));
        set(server, &id, &json!({"y": 4}));
        set(server, &id, &json!({"x": 7}));
        delete(server, &id);
        set(server, &id, &json!({"x": 0}));
        delete(server, &id);
        let messages = until_end(server, &mut by_entity, &end);
        let shown: Vec<Value> = messages
            .iter()
            .map(|it| json!([it["type"], it["properties"], it["whole"], it["matches"]]))
            .collect();
        assert_eq!(
            shown,
            [
                json!(["entity", {"x": 9, "y": 2}, true, null]),
                json!(["entity", {"y": 3}, null, null]),
                json!(["entity", {"x": 2}, null, false]),
                json!(["entity", {"x": 7, "y": 4}, true, null]),
                json!(["entity_deleted", null, null, null]),
            ]
        );
        let messages = until_end(server, &mut by_property, &end);
        let shown: Vec<Value> = messages
            .iter()
            .map(|it| json!([it["property"], it["value"], it["matches"]]))
            .collect();
        assert_eq!(
            shown,
            [
                json!(["x", 9, null]),
                json!(["y", 2, null]),
                json!(["y", 3, null]),
                json!(["x", 2, false]),
                json!(["x", 7, null]),
                json!(["y", 4, null]),
                json!([null, null, null]),
            ]
        );
    });
}

#[test]
fn a_change_that_matches_several_subscriptions_comes_once_for_each_mode() {
    on_each(|server| {
        let ns = namespace("several");
        let (id, end) = (format!("{ns}/a"), format!("{ns}/end"));
        let mut watcher = Watcher::connect(server);
        subscribe(
            &mut watcher,
            &id,
            &json!({"mode": "entity", "properties": ["x"]}),
        );
        subscribe(
            &mut watcher,
            &format!("{ns}/*"),
            &json!({"mode": "entity", "properties": ["y", "end"]}),
        );
        subscribe(&mut watcher, &format!("{ns}*"), &json!({"mode": "event"}));
        subscribe(
            &mut watcher,
            &format!("{id}*"),
            &json!({"mode": "property", "properties": ["x"]}),
        );
        set(server, &id, &json!({"x": 1, "y": 2, "z": 3}));
        let mut shown: Vec<Value> = until_end(server, &mut watcher, &end);
        shown.sort_by_key(|it| it["type"].to_string());
        let types: Vec<&Value> = shown.iter().map(|it| &it["type"]).collect();
        assert_eq!(types, ["entity", "event", "state_update"]);
        assert_eq!(shown[0]["properties"], json!({"x": 1, "y": 2}));
    });
}

#[test]
fn subscribing_again_replaces_the_options_and_what_is_refused_leaves_them() {
    let names = |count: u32| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
    on_each(|server| {
        let ns = namespace("replace");
        let pattern = format!("{ns}/*");
        let id = format!("{ns}/a");
        let mut watcher = Watcher::connect(server);
        subscribe(&mut watcher, &pattern, &json!({"mode": "entity"}));
        for members in [
            json!({"mode": "none"}),
            json!({"mode": "event", "filter": "exists(a)"}),
            json!({"properties": []}),
            json!({"properties": names(65)}),
            json!({"filter": "exists("}),
            json!({"max_hz": 0.01}),
            json!({"since": "nonsense"}),
        ] {
            let mut message = json!({"type": "subscribe", "entity_id": pattern, "id": 1});
            message
                .as_object_mut()
                .expect("one")
                .extend(members.as_object().expect("one").clone());
            watcher.send(&message.to_string());
            assert_eq!(watcher.next()["type"], "error", "{members}");
        }
        set(server, &id, &json!({"x": 1, "y": 2}));
        assert_eq!(next(&mut watcher)["type"], "entity");
        let most = json!({"mode": "entity", "properties": names(64)});
        subscribe(&mut watcher, &pattern, &most);
        subscribe(&mut watcher, &pattern, &json!({"mode": "event"}));
        set(server, &id, &json!({"x": 2}));
        assert_eq!(next(&mut watcher)["type"], "event");
        // Without members all is as it always was, and so is the acknowledgement.
        watcher.send(&json!({"type": "subscribe", "entity_id": pattern, "id": 7}).to_string());
        assert_eq!(next(&mut watcher), json!({"type": "ack", "id": 7}));
        set(server, &id, &json!({"x": 3}));
        assert_eq!(next(&mut watcher)["type"], "state_update");
        watcher.unsubscribe(&pattern);
        set(server, &id, &json!({"x": 4}));
        watcher.send(r#"{"type":"ping"}"#);
        assert_eq!(next(&mut watcher), json!({"type": "pong"}));
    });
}

#[test]
fn a_cursor_follows_what_was_pushed() {
    on_each(|server| {
        let ns = namespace("cursor");
        let id = format!("{ns}/a");
        let mut watcher = Watcher::connect(server);
        let first = subscribe(&mut watcher, &format!("{ns}/*"), &json!({"mode": "entity"}));
        assert_eq!(first.len(), 28, "of one namespace");
        server.publish(&id, r#"{"x":1}"#);
        assert_eq!(watcher.next()["type"], "entity");
        let cursor = watcher.next();
        assert_eq!(cursor["type"], "cursor");
        assert_ne!(cursor["cursor"], first.as_str());
        // Nothing more was pushed, so none follows.
        watcher.send(r#"{"type":"ping"}"#);
        assert_eq!(watcher.next()["type"], "pong");
        let wide = subscribe(
            &mut watcher,
            "*",
            &json!({"mode": "entity", "properties": ["none"]}),
        );
        assert_ne!(wide.len(), 28);
    });
}

#[test]
fn a_follower_that_does_not_read_is_sent_every_event_when_it_reads_again() {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let server = Setup::new(dir.path(), 1).start();
    let mut watcher = Watcher::connect(&server);
    subscribe(&mut watcher, "slow/*", &json!({"mode": "event"}));
    for n in 0..40 {
        let value = json!({"n": n, "x": "x".repeat(500_000)}).to_string();
        server.publish("slow/a", &value);
    }
    for n in 0..40 {
        let message = next(&mut watcher);
        assert_eq!(message["payload"]["properties"]["n"], n);
    }
    server.publish("slow/a", r#"{"n":40}"#);
    assert_eq!(next(&mut watcher)["payload"]["properties"]["n"], 40);
}

#[test]
fn paced_updates_are_rare_and_the_last_state_arrives() {
    on_each(|server| {
        let ns = namespace("paced");
        let (id, other) = (format!("{ns}/a"), format!("{ns}/b"));
        for mode in ["entity", "property"] {
            let mut watcher = Watcher::connect(server);
            let members = json!({"mode": mode, "max_hz": 5});
            subscribe(&mut watcher, &format!("{ns}/*"), &members);
            for n in 0..60 {
                server.publish(&id, &json!({"x": n, "y": n * 2}).to_string());
            }
            server.publish(&other, r#"{"x":1}"#);
            let mut held: BTreeMap<String, Value> = BTreeMap::new();
            let mut count = 0;
            while held.get("x") != Some(&json!(59)) || held.get("y") != Some(&json!(118)) {
                let message = next(&mut watcher);
                if message["entity_id"] != id.as_str() {
                    continue;
                }
                count += 1;
                if mode == "entity" {
                    let properties = message["properties"].as_object().expect("properties");
                    held.extend(
                        properties
                            .iter()
                            .map(|(name, value)| (name.clone(), value.clone())),
                    );
                } else {
                    let name = message["property"].as_str().expect("a name");
                    held.insert(name.to_owned(), message["value"].clone());
                }
            }
            assert!(count < 60, "{mode}: {count}");
            delete(server, &id);
            while next(&mut watcher)["type"] != "entity_deleted" {}
        }
    });
}

#[test]
fn what_is_too_large_for_a_message_is_announced() {
    on_each(|server| {
        let ns = namespace("large");
        let id = format!("{ns}/a");
        let value = "x".repeat(1024 * 1024 + 10);
        let large = event(&id, &json!({"large": value, "small": 1}).to_string());
        let batch = format!(r#"{{"events":[{large}]}}"#);
        let mut watchers = ["property", "entity", "event"].map(|mode| {
            let mut watcher = Watcher::connect(server);
            subscribe(&mut watcher, &format!("{ns}/*"), &json!({"mode": mode}));
            watcher
        });
        assert_eq!(
            server.post("/api/events/batch", &batch).json()["successful"],
            1
        );
        let bytes = value.len() + 2;
        let [by_property, by_entity, by_event] = &mut watchers;
        let message = next(by_property);
        assert_eq!(
            (&message["value_omitted"], &message["bytes"]),
            (&json!(true), &json!(bytes))
        );
        assert_eq!(next(by_property)["value"], 1);
        let message = next(by_entity);
        assert_eq!(message["omitted"], json!({"large": bytes}));
        assert_eq!(message["properties"], json!({"small": 1}));
        let message = next(by_event);
        assert_eq!(message["payload_omitted"], true);
        assert!(message["bytes"].as_u64() > Some(bytes as u64) && message.get("payload").is_none());
    });
}
