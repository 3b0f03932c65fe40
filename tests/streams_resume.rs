//! Snapshots, and what a client has missed: it holds the exact state, or has every event once, and
//! what follows is live (API contract §13).

mod support;

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use support::server::{Server, Setup};
use support::watch::Watcher;
use support::{event, namespace, on_each, publish_all, wait_for};
use tempfile::TempDir;

/// What a client of mode `entity` holds: by id, its properties.
#[derive(Debug, Default, Clone, PartialEq)]
struct Client {
    entities: BTreeMap<String, Map<String, Value>>,
    cursor: String,
}

impl Client {
    /// Applies messages until one of this type.
    fn take_until(&mut self, watcher: &mut Watcher, end: &str) -> Value {
        loop {
            let message = watcher.next();
            self.apply(&message);
            if message["type"] == end {
                return message;
            }
            assert_ne!(message["type"], "error", "{message}");
        }
    }

    /// The same until the deletion of an entity. True if the snapshot ended before.
    fn take_until_deleted(&mut self, watcher: &mut Watcher, id: &str) -> bool {
        let mut has_ended = false;
        loop {
            let message = watcher.next();
            has_ended |= message["type"] == "snapshot_end";
            self.apply(&message);
            if message["entity_id"] == id && message["type"] == "entity_deleted" {
                return has_ended;
            }
        }
    }

    fn apply(&mut self, message: &Value) {
        if let Some(cursor) = message["cursor"].as_str() {
            cursor.clone_into(&mut self.cursor);
        }
        let id = message["entity_id"].as_str().unwrap_or_default().to_owned();
        match message["type"].as_str().expect("every message has a type") {
            "snapshot" => {
                for entity in message["entities"].as_array().expect("an array") {
                    let id = entity["id"].as_str().expect("an id").to_owned();
                    let properties = entity["properties"].as_object().expect("properties");
                    self.entities.insert(id, properties.clone());
                }
            }
            "resync" => self.entities.clear(),
            "entity" => {
                let entity = self.entities.entry(id).or_default();
                if message["whole"] == true {
                    entity.clear();
                }
                entity.extend(message["properties"].as_object().expect("some").clone());
                for name in message["removed"].as_array().expect("an array") {
                    entity.remove(name.as_str().expect("a name"));
                }
            }
            "state_update" => {
                let entity = self.entities.entry(id).or_default();
                let name = message["property"].as_str().expect("a name").to_owned();
                if message["removed"] == true {
                    entity.remove(&name);
                } else {
                    entity.insert(name, message["value"].clone());
                }
            }
            "entity_deleted" => drop(self.entities.remove(&id)),
            _ => {}
        }
    }
}

fn subscribe(watcher: &mut Watcher, pattern: &str, members: &Value) {
    let mut message = json!({"type": "subscribe", "entity_id": pattern, "id": "s"});
    let members = members.as_object().expect("members").clone();
    message.as_object_mut().expect("an object").extend(members);
    watcher.send(&message.to_string());
}

/// Rounds of changes, and a deletion in each. The entities of a round begin `step` behind those of
/// the round before.
fn publish_rounds(server: &Server, ids: &[String], (rounds, step): (usize, usize)) {
    for round in 0..rounds {
        let changed = &ids[round * step..][..100];
        publish_all(server, changed, &format!(r#"{{"n":{round}}}"#));
        server.publish(&ids[round * 31], r#"{"__deleted__":true}"#);
    }
}

#[test]
fn a_snapshot_beside_publishing_is_the_exact_state_in_every_mode() {
    on_each(|server| {
        let ns = namespace("snap");
        let ids: Vec<String> = (0..3000)
            .map(|number| format!("{ns}/{number:04}"))
            .collect();
        publish_all(
            server,
            &ids,
            r#"{"n":1,"text":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#,
        );
        for mode in ["property", "entity"] {
            let mut watcher = Watcher::connect(server);
            let pattern = format!("{ns}/*");
            subscribe(
                &mut watcher,
                &pattern,
                &json!({"mode": mode, "snapshot": true}),
            );
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    publish_rounds(server, &ids, (20, 100));
                });
                let mut client = Client::default();
                client.take_until(&mut watcher, "snapshot_end");
            });
            // Quiet now: a second one is the whole state.
            let mut watcher = Watcher::connect(server);
            subscribe(
                &mut watcher,
                &pattern,
                &json!({"mode": mode, "snapshot": true}),
            );
            let mut client = Client::default();
            let end = client.take_until(&mut watcher, "snapshot_end");
            assert!(end["cursor"].is_string(), "{end}");
            assert_eq!(client.entities, server.held(&format!("{ns}/")));
            publish_all(server, &ids[..3], r#"{"last":true}"#);
            server.publish(&ids[5], r#"{"__deleted__":true}"#);
            client.take_until(&mut watcher, "entity_deleted");
            assert_eq!(client.entities, server.held(&format!("{ns}/")));
            publish_all(server, &ids[5..6], r#"{"n":0}"#);
        }
        let mut watcher = Watcher::connect(server);
        let none = format!("{ns}none/*");
        subscribe(&mut watcher, &none, &json!({"snapshot": true}));
        assert_eq!(watcher.next()["type"], "ack");
        assert_eq!(
            watcher.next()["type"],
            "snapshot_end",
            "also where there are none"
        );
    });
}

#[test]
fn a_deletion_that_was_missed_comes_with_its_own_sequence() {
    on_each(|server| {
        let ns = namespace("gone");
        let id = format!("{ns}/a");
        let begin = server.publish(&id, r#"{"n":1}"#).json();
        let gone = server.publish(&id, r#"{"__deleted__":true}"#).json();
        for number in 0..3 {
            server.publish(&format!("{ns}/b"), &format!(r#"{{"n":{number}}}"#));
        }
        let mut watcher = Watcher::connect(server);
        let since = json!({"mode": "entity", "since": begin["cursor"]});
        subscribe(&mut watcher, &format!("{ns}/*"), &since);
        assert_eq!(watcher.next()["type"], "ack");
        let message = watcher.next();
        assert_eq!(message["type"], "entity_deleted", "{message}");
        assert_eq!(message["entity_id"], *id);
        assert_eq!(message["sequence"], gone["sequence"]);
    });
}

#[test]
fn a_client_that_follows_a_snapshot_beside_publishing_ends_with_the_exact_state() {
    on_each(|server| {
        let ns = namespace("follow");
        let ids: Vec<String> = (0..2000)
            .map(|number| format!("{ns}/{number:04}"))
            .collect();
        publish_all(server, &ids, r#"{"n":1,"m":2}"#);
        for mode in ["property", "entity"] {
            let mut watcher = Watcher::connect(server);
            let pattern = format!("{ns}/*");
            subscribe(
                &mut watcher,
                &pattern,
                &json!({"mode": mode, "snapshot": true}),
            );
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    publish_rounds(server, &ids, (30, 60));
                    server.publish(&format!("{ns}/end"), r#"{"x":1}"#);
                    server.publish(&format!("{ns}/end"), r#"{"__deleted__":true}"#);
                });
                let mut client = Client::default();
                let end = format!("{ns}/end");
                let has_ended = client.take_until_deleted(&mut watcher, &end);
                if !has_ended {
                    client.take_until(&mut watcher, "snapshot_end");
                }
                assert_eq!(client.entities, server.held(&format!("{ns}/")), "{mode}");
            });
        }
    });
}

#[test]
fn what_changed_meanwhile_comes_after_a_kill_and_with_other_shards() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut clients: BTreeMap<&str, Client> = BTreeMap::new();
    let mut events_seen: Vec<u64> = Vec::new();
    let mut event_cursor = String::new();
    for (round, shards) in [2, 2, 3, 1, 2].into_iter().enumerate() {
        let server = Setup::new(dir.path(), shards).start();
        for number in 0..40 {
            let id = format!("{}/{}", ["a", "b", "c"][number % 3], number % 7);
            server.publish(&id, &format!(r#"{{"p{}":{round}}}"#, number % 4));
            server.publish("single", &format!(r#"{{"n":{number}}}"#));
        }
        server.publish(&format!("a/{round}"), r#"{"__deleted__":true}"#);
        for mode in ["property", "entity"] {
            let client = clients.entry(mode).or_default();
            let mut watcher = Watcher::connect(&server);
            let (start, end) = if client.cursor.is_empty() {
                (json!({"mode": mode, "snapshot": true}), "snapshot_end")
            } else {
                (json!({"mode": mode, "since": client.cursor}), "caught_up")
            };
            subscribe(&mut watcher, "*", &start);
            client.take_until(&mut watcher, end);
            let mut expected = server.held("");
            expected.remove("flux-core/directory");
            client.entities.remove("flux-core/directory");
            assert_eq!(client.entities, expected, "{mode} round {round}");
            server.publish("live", &format!(r#"{{"{mode}":{round}}}"#));
            let live = ["state_update", "entity"][usize::from(mode == "entity")];
            client.take_until(&mut watcher, live);
            client.take_until(&mut watcher, "cursor");
        }
        let mut watcher = Watcher::connect(&server);
        let members = if event_cursor.is_empty() {
            json!({"mode": "event"})
        } else {
            json!({"mode": "event", "since": event_cursor})
        };
        subscribe(&mut watcher, "a/*", &members);
        // Without a cursor it tells only of what comes when it is in force.
        assert_eq!(watcher.next()["type"], "ack");
        server.publish("a/last", r#"{"x":1}"#);
        loop {
            let message = watcher.next();
            if message["type"] != "event" {
                continue;
            }
            events_seen.push(message["sequence"].as_u64().expect("a sequence"));
            message["cursor"]
                .as_str()
                .expect("a cursor")
                .clone_into(&mut event_cursor);
            let is_last = message["payload"]["entity_id"] == "a/last";
            if is_last && watcher_is_last(&server, message["sequence"].as_u64()) {
                break;
            }
        }
        server.kill();
    }
    let server = Setup::new(dir.path(), 2).start();
    let rows = server.get("/api/events?namespace=a&limit=500").json();
    let mut all: Vec<u64> = rows
        .as_array()
        .expect("an array")
        .iter()
        .map(|row| row["sequence"].as_u64().expect("a sequence"))
        .collect();
    all.reverse();
    let first = all
        .iter()
        .position(|it| *it == events_seen[0])
        .expect("it is there");
    assert_eq!(events_seen, all[first..], "every event once and in order");
}

/// True if no event of the namespace `a` is newer.
fn watcher_is_last(server: &Server, sequence: Option<u64>) -> bool {
    let rows = server.get("/api/events?namespace=a&limit=1").json();
    rows[0]["sequence"].as_u64() == sequence
}

#[test]
fn history_that_is_gone_is_told_of_by_a_snapshot_or_an_error() {
    let dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(dir.path(), 1)
        .env("FLUX_SEGMENT_BYTES", "65536")
        .env("FLUX_CHECKPOINT_SECONDS", "1")
        .env("FLUX_CHECKPOINT_BYTES", "65536");
    let server = setup.arg("--retention-bytes").arg("400000").start();
    let mut watcher = Watcher::connect(&server);
    subscribe(&mut watcher, "busy/*", &json!({"mode": "event"}));
    let old = watcher.next()["cursor"]
        .as_str()
        .expect("a cursor")
        .to_owned();
    drop(watcher);
    let padding = "x".repeat(200);
    wait_for("retention to remove the beginning", || {
        let ids: Vec<String> = (0..500).map(|id| format!("busy/{id}")).collect();
        publish_all(&server, &ids, &format!(r#"{{"p":"{padding}"}}"#));
        let is_gone = !support::files(&dir.path().join("log"), "HORIZON").is_empty();
        is_gone.then_some(())
    });
    let mut watcher = Watcher::connect(&server);
    subscribe(
        &mut watcher,
        "busy/*",
        &json!({"mode": "event", "since": old}),
    );
    let error = watcher.next();
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("error"), &json!("history_removed"))
    );
    assert_eq!(error["id"], "s");
    subscribe(
        &mut watcher,
        "busy/*",
        &json!({"mode": "entity", "since": old}),
    );
    assert_eq!(watcher.next()["type"], "ack");
    let resync = watcher.next();
    assert_eq!(
        (&resync["type"], &resync["reason"]),
        (&json!("resync"), &json!("history_removed"))
    );
    let mut client = Client::default();
    client.take_until(&mut watcher, "snapshot_end");
    assert_eq!(client.entities, server.held("busy/"));
}

#[test]
fn more_changes_than_a_snapshot_is_worth_come_as_one() {
    on_each(|server| {
        let ns = namespace("far");
        let since = server.publish(&format!("{ns}/first"), "{}").json();
        // More than 65,536 that are to be sent.
        let ids: Vec<String> = (0..66_000).map(|n| format!("{ns}/{n}")).collect();
        publish_all(server, &ids, r#"{"n":1}"#);
        let mut watcher = Watcher::connect(server);
        let pattern = format!("{ns}/*");
        let members = json!({"mode": "entity", "since": since["cursor"]});
        subscribe(&mut watcher, &pattern, &members);
        let mut client = Client::default();
        let resync = client.take_until(&mut watcher, "resync");
        assert_eq!(resync["reason"], "too_far");
        client.take_until(&mut watcher, "snapshot_end");
        assert_eq!(client.entities, server.held(&format!("{ns}/")));
    });
}

#[test]
fn a_cursor_that_does_not_cover_it_or_is_none_is_refused() {
    on_each(|server| {
        let ns = namespace("narrow");
        let mut watcher = Watcher::connect(server);
        subscribe(&mut watcher, &format!("{ns}/*"), &json!({"mode": "event"}));
        let cursor = watcher.next()["cursor"].clone();
        for (since, code) in [
            (cursor, "cursor_too_narrow"),
            (json!("x"), "invalid_cursor"),
        ] {
            subscribe(
                &mut watcher,
                "*",
                &json!({"mode": "entity", "since": since}),
            );
            assert_eq!(watcher.next()["code"], code);
        }
    });
}

#[test]
fn the_end_of_a_quiet_snapshot_has_the_place_where_it_began() {
    on_each(|server| {
        let ns = namespace("quiet");
        // Before anybody watches.
        publish_all(
            server,
            &[format!("{ns}/a"), format!("{ns}/b")],
            r#"{"n":1}"#,
        );
        let mut watcher = Watcher::connect(server);
        subscribe(
            &mut watcher,
            &format!("{ns}/*"),
            &json!({"mode": "entity", "snapshot": true}),
        );
        let began = watcher.next();
        assert_eq!(began["type"], "ack");
        let end = Client::default().take_until(&mut watcher, "snapshot_end");
        assert_eq!(end["cursor"], began["cursor"]);
    });
}

#[test]
fn by_property_a_client_that_resumes_loses_what_was_removed_meanwhile() {
    on_each(|server| {
        let ns = namespace("unset");
        let (id, pattern) = (format!("{ns}/a"), format!("{ns}/*"));
        server.publish(&id, r#"{"x":1,"y":2}"#);
        let mut client = Client::default();
        let mut watcher = Watcher::connect(server);
        subscribe(&mut watcher, &pattern, &json!({"snapshot": true}));
        client.take_until(&mut watcher, "snapshot_end");
        drop(watcher);
        let unset = event(&id, r#"{"x":3}"#).replace("}}}", r#"},"unset":["y"]}}"#);
        assert_eq!(server.post("/api/events", &unset).status, 200);
        let mut watcher = Watcher::connect(server);
        subscribe(&mut watcher, &pattern, &json!({"since": client.cursor}));
        client.take_until(&mut watcher, "caught_up");
        assert_eq!(client.entities, server.held(&format!("{ns}/")));
    });
}
