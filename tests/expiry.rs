//! Entities that expire, from outside (API contract §14).

mod support;

use serde_json::Value;
use std::time::Duration;
use support::http::Response;
use support::server::{Server, Setup};
use support::watch::Watcher;
use support::{is_timestamp, namespace, now, on_each, quoted, wait_for};
use tempfile::TempDir;

/// An event of an entity, with these members of its payload besides.
fn event(id: &str, members: &str) -> String {
    let id = quoted(id);
    format!(r#"{{"stream":"s","source":"t","payload":{{"entity_id":{id},{members}}}}}"#)
}

fn publish(server: &Server, id: &str, members: &str) -> Response {
    let answer = server.post("/api/events", &event(id, members));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

/// A time as microseconds of its day, and the day.
fn micros(time: &Value) -> (String, u64) {
    let time = time.as_str().expect("a time");
    assert!(is_timestamp(time), "{time}");
    let number = |range: std::ops::Range<usize>| time[range].parse::<u64>().expect("digits");
    let seconds = number(11..13) * 3600 + number(14..16) * 60 + number(17..19);
    (time[..10].to_owned(), seconds * 1_000_000 + number(20..26))
}

/// Microseconds from one time to a later one of the same day or the next.
fn between(from: &Value, to: &Value) -> u64 {
    let ((from_day, from), (to_day, to)) = (micros(from), micros(to));
    let days = u64::from(from_day != to_day);
    to + days * 86_400_000_000 - from
}

fn wait_until_gone(server: &Server, id: &str) {
    wait_for("an entity to expire", || {
        (server.entity(id).status == 404).then_some(())
    });
}

fn rows(server: &Server, id: &str) -> Vec<Value> {
    let answer = server.get(&format!("/api/events?entity={id}"));
    answer.json().as_array().expect("rows").clone()
}

#[test]
fn an_entity_shows_when_it_expires_and_goes_then() {
    on_each(|server| {
        let id = format!("{}/a", namespace("expires"));
        let mut watcher = Watcher::connect(server);
        watcher.subscribe(&id);
        let before = now();
        publish(server, &id, r#""properties":{"n":1},"ttl":1.5"#);
        let entity = server.entity(&id).json();
        assert_eq!(
            between(&entity["lastUpdated"], &entity["expiresAt"]),
            1_500_000
        );
        // Lists, and `fields`, show it too.
        let list = server
            .get(&format!("/api/state/entities?prefix={id}&fields=x"))
            .json();
        assert_eq!(list[0]["expiresAt"], entity["expiresAt"]);
        assert_eq!(watcher.next()["value"], 1);
        let deleted = watcher.next();
        assert_eq!(deleted["type"], "entity_deleted");
        let took = before.elapsed();
        assert!(took >= Duration::from_millis(1500), "{took:?}");
        let late = between(&entity["expiresAt"], &deleted["timestamp"]);
        assert!(late < 1_000_000, "{late} µs late");
        assert_eq!(server.entity(&id).status, 404);
        let rows = rows(server, &id);
        assert_eq!(rows[0]["stream"], "flux.expire");
        assert_eq!(rows[0]["source"], "flux");
        assert_eq!(rows[0]["payload"]["properties"]["__deleted__"], true);
        assert_eq!(
            rows[1]["payload"]["ttl"].to_string(),
            "1.5",
            "as it was sent"
        );
        // Time travel shows it exactly as it happened.
        let at = |time: &Value| {
            let time = time.as_str().expect("a time");
            server.get(&format!("/api/state/entities/{id}?at={time}"))
        };
        let earlier = at(&entity["expiresAt"]).json();
        assert_eq!(earlier, entity);
        assert_eq!(at(&rows[0]["acceptedAt"]).status, 404);
    });
}

#[test]
fn later_events_leave_move_and_take_away_an_expiry() {
    on_each(|server| {
        let id = format!("{}/a", namespace("moves"));
        publish(server, &id, r#""ttl":1"#);
        let first = server.entity(&id).json();
        assert_eq!(first["version"], 1, "properties may be absent");
        publish(server, &id, r#""properties":{"n":1}"#);
        let second = server.entity(&id).json();
        assert_eq!(second["expiresAt"], first["expiresAt"], "an event without");
        publish(server, &id, r#""increment":{"n":1},"ttl":100"#);
        let third = server.entity(&id).json();
        assert_eq!(
            between(&third["lastUpdated"], &third["expiresAt"]),
            100_000_000
        );
        assert_eq!(third["properties"]["n"], 2);
        publish(server, &id, r#""ttl":null"#);
        let fourth = server.entity(&id).json();
        assert_eq!(fourth.get("expiresAt"), None);
        assert_eq!(fourth["version"], 4);
        // What was deleted and created anew begins without.
        publish(server, &id, r#""ttl":1"#);
        publish(server, &id, r#""properties":{"__deleted__":true},"ttl":1"#);
        publish(server, &id, r#""properties":{}"#);
        assert_eq!(server.entity(&id).json().get("expiresAt"), None);
        let other = format!("{id}b");
        publish(server, &other, r#""ttl":1.2"#);
        wait_until_gone(server, &other);
        assert_eq!(server.entity(&id).status, 200, "its first two are over");
        assert_eq!(rows(server, &id).len(), 7, "and it never expired");
    });
}

#[test]
fn filters_conditions_and_repetitions_know_of_it() {
    on_each(|server| {
        let ns = namespace("filters");
        let (id, plain) = (format!("{ns}/a"), format!("{ns}/b"));
        publish(server, &plain, r#""properties":{}"#);
        let members = format!(r#""entity_id":{},"ttl":200"#, quoted(&id));
        let sent =
            format!(r#"{{"eventId":"e","stream":"s","source":"t","payload":{{{members}}}}}"#);
        let first = server.post("/api/events", &sent).json();
        let entity = server.entity(&id).json();
        let again = server.post("/api/events", &sent).json();
        assert_eq!(again["duplicate"], true);
        assert_eq!(again["sequence"], first["sequence"]);
        let other = server.post("/api/events", &sent.replace("200", "201"));
        assert_eq!(other.expect_error(409, "another ttl"), "event_id_reused");
        assert_eq!(server.entity(&id).json(), entity, "nothing moved");
        let list = |filter: &str| {
            let target = format!("/api/state/entities?namespace={ns}&filter={filter}");
            server.get(&target).json().as_array().expect("a list").len()
        };
        assert_eq!(list("exists($expires)"), 1);
        assert_eq!(list("not(exists($expires))"), 1);
        let at = entity["expiresAt"].as_str().expect("a time");
        assert_eq!(list(&format!("eq($expires,%22{at}%22)")), 1);
        assert_eq!(list(&format!("lt($expires,%22{at}%22)")), 0);
        let conditional = event(&id, r#""ttl":null"#).replacen(
            '{',
            r#"{"expect":{"filter":"exists($expires)"},"#,
            1,
        );
        assert_eq!(server.post("/api/events", &conditional).status, 200);
        let refused = server.post("/api/events", &conditional);
        assert_eq!(
            refused.expect_error(409, "no expiry"),
            "precondition_failed"
        );
        assert_eq!(refused.json()["entity"], server.entity(&id).json());
    });
}

#[test]
fn events_of_an_atomic_batch_set_an_expiry_or_none_does() {
    on_each(|server| {
        let ns = namespace("groups");
        let items = [
            event(&format!("{ns}/a"), r#""ttl":0.3"#),
            event(&format!("{ns}/b"), r#""increment":{"n":1},"ttl":300"#),
        ];
        let body = format!(r#"{{"atomic":true,"events":[{}]}}"#, items.join(","));
        assert_eq!(server.post("/api/events/batch", &body).status, 200);
        let b = server.entity(&format!("{ns}/b")).json();
        assert_eq!(between(&b["lastUpdated"], &b["expiresAt"]), 300_000_000);
        wait_until_gone(server, &format!("{ns}/a"));
        let refused = event(&format!("{ns}/c"), r#""ttl":0"#);
        let body = format!(r#"{{"atomic":true,"events":[{},{refused}]}}"#, items[0]);
        assert_eq!(server.post("/api/events/batch", &body).status, 400);
        assert_eq!(server.entity(&format!("{ns}/a")).status, 404);
    });
}

/// Ids and the time at which each expires, as the server lists them.
fn expiries(server: &Server) -> Vec<(String, Value)> {
    let entities = server.entities().into_iter();
    let of = |entity: Value| {
        let id = entity["id"].as_str().expect("an id").to_owned();
        (id, entity["expiresAt"].clone())
    };
    entities.map(of).collect()
}

#[test]
fn what_expires_while_the_server_is_down_is_gone_before_anyone_reads() {
    for (shards, restarted) in [(1, 1), (2, 3)] {
        let data = TempDir::new().expect("a directory");
        let setup = Setup::new(data.path(), shards).env("FLUX_CHECKPOINT_SECONDS", "1");
        let server = setup.start();
        for number in 0..200 {
            // Without a namespace, so that every shard has some.
            publish(&server, &format!("early{number}"), r#""ttl":2.5"#);
            publish(&server, &format!("late{number}"), r#""ttl":3600"#);
            publish(&server, &format!("moved{number}"), r#""ttl":3600"#);
        }
        // Some are in a checkpoint, with another expiry or none; the rest is in the log alone.
        wait_for("a checkpoint", || {
            let made = support::files(data.path(), ".layer");
            (!made.is_empty()).then_some(())
        });
        for number in 0..200 {
            publish(&server, &format!("moved{number}"), r#""ttl":0.2"#);
            publish(&server, &format!("late{number}"), r#""properties":{"n":1}"#);
        }
        let expected: Vec<_> = expiries(&server)
            .into_iter()
            .filter(|(id, _)| id.starts_with("late"))
            .collect();
        assert_eq!(expected.len(), 200);
        server.kill();
        let until = now() + Duration::from_millis(2700);
        wait_for("their time", || (now() >= until).then_some(()));
        let server = Setup::new(data.path(), restarted).start();
        assert_eq!(expiries(&server), expected);
        let rows = rows(&server, "early7");
        assert_eq!(rows[0]["stream"], "flux.expire");
        server.kill();
        let server = Setup::new(data.path(), restarted).start();
        assert_eq!(expiries(&server), expected, "it is in the log");
        server.stop();
    }
}
