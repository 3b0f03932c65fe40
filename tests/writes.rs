//! Writing safely, from outside (API contract §14).

mod support;

use serde_json::Value;
use support::http::request;
use support::server::{Server, Setup};
use support::watch::Watcher;
use support::{batch, event, namespace, on_each, wait_for};

#[test]
fn answers_say_the_version_and_the_sequence() {
    on_each(|server| {
        let id = format!("{}/a", namespace("answers"));
        let answers = [1, 2].map(|n| {
            let answer = server.post("/api/events", &event(&id, &format!(r#"{{"n":{n}}}"#)));
            answer.json()
        });
        assert_eq!(
            (&answers[0]["version"], &answers[1]["version"]),
            (&1.into(), &2.into())
        );
        let sequence = |answer: &Value| answer["sequence"].as_u64().expect("a sequence");
        assert!(sequence(&answers[0]) < sequence(&answers[1]));
        // The cursor of an answer is that of the event's row in history.
        let rows = server.get(&format!("/api/events?entity={id}")).json();
        assert_eq!(rows[1]["cursor"], answers[0]["cursor"]);
        assert_eq!(rows[0]["cursor"], answers[1]["cursor"]);
        let items = [
            event(&id, "{}"),
            "7".to_owned(),
            event(&id, r#"{"__deleted__":true}"#),
        ];
        let answer = server.post("/api/events/batch", &batch(&items)).json();
        let results = answer["results"].as_array().expect("results");
        assert_eq!(results[0]["version"], 3);
        assert_eq!(
            (results[1].get("version"), results[1].get("sequence")),
            (None, None)
        );
        assert_eq!(
            results[2].get("version"),
            None,
            "there is no entity after it"
        );
        assert!(sequence(&results[0]) < sequence(&results[2]));
        let gone = server
            .post("/api/events", &event(&id, r#"{"__deleted__":true}"#))
            .json();
        assert_eq!(gone.get("version"), None, "there was none either");
        assert!(sequence(&results[2]) < sequence(&gone));
        server.publish(&id, "{}");
        let target = format!("/api/state/entities/{id}");
        let deleted = server.request("DELETE", &target, "").json();
        assert_eq!(deleted.get("version"), None);
        let events = server
            .get(&format!("/api/events?entity={id}&limit=1"))
            .json();
        assert_eq!(events[0]["sequence"], deleted["sequence"]);
        assert_eq!(events[0]["eventId"], deleted["eventId"]);
    });
}

#[test]
fn an_entity_that_would_become_too_large_stays_as_it_is() {
    on_each(|server| {
        let id = format!("{}/a", namespace("bounds"));
        let large = |name: &str| format!(r#"{{"{name}":"{}"}}"#, "v".repeat(1_000_000));
        for name in ["a", "b", "c", "d"] {
            server.publish(&id, &large(name));
        }
        let refused = server.post("/api/events", &event(&id, &large("e")));
        assert_eq!(
            refused.expect_error(400, "a fifth megabyte"),
            "entity_too_large"
        );
        let items = [
            event(&id, &large("e")),
            event(&id, r#"{"a":1}"#),
            event(&id, &large("e")),
        ];
        let answer = server.post("/api/events/batch", &batch(&items)).json();
        let results = answer["results"].as_array().expect("results");
        assert_eq!(results[0]["code"], "entity_too_large");
        assert_eq!(
            (&results[1]["version"], &results[2]["version"]),
            (&5.into(), &6.into())
        );
    });
}

/// An event with these members before the others.
fn event_with(members: &str, id: &str, properties: &str) -> String {
    event(id, properties).replacen('{', &format!("{{{members},"), 1)
}

#[test]
fn conditions_are_judged_and_a_refusal_shows_the_entity() {
    on_each(|server| {
        let id = format!("{}/a", namespace("conditions"));
        let publish = |expect: &str, properties: &str| {
            let body = event_with(&format!(r#""expect":{expect}"#), &id, properties);
            server.post("/api/events", &body)
        };
        let refused = publish(r#"{"present":true}"#, "{}");
        assert_eq!(refused.expect_error(409, "absent"), "precondition_failed");
        assert_eq!(refused.json()["entity"], Value::Null);
        assert!(refused.json().get("entity").is_some());
        let claim = r#"{"status":"open","n":1.50}"#;
        assert_eq!(publish(r#"{"absent":true}"#, claim).status, 200);
        let refused = publish(r#"{"absent":true}"#, "{}");
        assert_eq!(refused.expect_error(409, "present"), "precondition_failed");
        assert_eq!(refused.json()["entity"], server.entity(&id).json());
        let held = r#"{"properties":{"status":"open","n":1.5},"absent_properties":["owner"]}"#;
        assert_eq!(publish(held, r#"{"owner":"me"}"#).json()["version"], 2);
        assert_eq!(publish(held, r#"{"owner":"you"}"#).status, 409);
        assert_eq!(publish(r#"{"version":2}"#, "{}").json()["version"], 3);
        assert_eq!(publish(r#"{"version":2}"#, "{}").status, 409);
        let etag = server.entity(&id).header("etag").expect("a tag").to_owned();
        let expect = format!(r#"{{"etag":{}}}"#, support::quoted(&etag));
        assert_eq!(publish(&expect, "{}").status, 200);
        assert_eq!(publish(&expect, "{}").status, 409);
        let bad = publish(r#"{"unknown":1}"#, "{}");
        bad.expect_error(400, "an unknown member");
        let items = [
            event_with(r#""expect":{"version":4}"#, &id, "{}"),
            event_with(r#""expect":{"version":4}"#, &id, "{}"),
            event(&id, "{}"),
        ];
        let answer = server.post("/api/events/batch", &batch(&items)).json();
        let results = answer["results"].as_array().expect("results");
        assert_eq!(results[0]["version"], 5);
        assert_eq!(results[1]["code"], "precondition_failed");
        assert_eq!(results[1]["entity"]["version"], 5);
        assert_eq!(results[2]["version"], 6);
    });
}

#[test]
fn conditions_in_the_head_are_judged_or_refused() {
    on_each(|server| {
        let id = format!("{}/a", namespace("head"));
        let send = |method: &str, target: &str, field: &str, body: &str| {
            let mut connection = server.connect();
            connection.send(request(method, target, &[field], body));
            connection.response()
        };
        let entity = format!("/api/state/entities/{id}");
        let publish = |field: &str| send("POST", "/api/events", field, &event(&id, "{}"));
        let delete = |field: &str| send("DELETE", &entity, field, "");
        assert_eq!(
            publish("If-Match: *").expect_error(409, "absent"),
            "precondition_failed"
        );
        assert_eq!(
            delete("If-Match: *").expect_error(409, "absent"),
            "precondition_failed"
        );
        assert_eq!(delete("If-Match: \"1-1\"").json()["entity"], Value::Null);
        assert_eq!(delete("If-None-Match: *").status, 404);
        assert_eq!(publish("If-None-Match: *").json()["version"], 1);
        assert_eq!(publish("If-None-Match: *").json()["entity"]["version"], 1);
        assert_eq!(publish("If-Match: *").json()["version"], 2);
        let old = server.entity(&id).header("etag").expect("a tag").to_owned();
        assert_eq!(publish(&format!("If-Match: {old}")).json()["version"], 3);
        assert_eq!(publish(&format!("If-Match: {old}")).status, 409);
        assert_eq!(
            delete(&format!("If-Match: {old}")).json()["entity"]["version"],
            3
        );
        assert_eq!(delete("If-None-Match: *").status, 409);
        // A condition in the head and one in the event must both hold.
        let both = event_with(r#""expect":{"version":7}"#, &id, "{}");
        assert_eq!(
            send("POST", "/api/events", "If-Match: *", &both).status,
            409
        );
        let etag = server.entity(&id).header("etag").expect("a tag").to_owned();
        for field in [
            format!("If-Match: W/{etag}"),
            format!("If-Match: {etag}, \"x\""),
            "If-Match: x".to_owned(),
            "If-Match:".to_owned(),
            format!("If-None-Match: {etag}"),
            "If-None-Match: *, *".to_owned(),
            format!("If-Match: {etag}\r\nIf-Match: {etag}"),
        ] {
            publish(&field).expect_error(400, &field);
            delete(&field).expect_error(400, &field);
        }
        for field in ["If-Match: *", "If-None-Match: *"] {
            let items = batch(&[event(&id, "{}")]);
            send("POST", "/api/events/batch", field, &items).expect_error(400, field);
            let ids = format!(r#"{{"entity_ids":["{id}"]}}"#);
            send("POST", "/api/state/entities/delete", field, &ids).expect_error(400, field);
        }
        assert_eq!(server.entity(&id).json()["version"], 3);
        assert_eq!(delete(&format!("If-Match: {etag}")).status, 200);
    });
}

#[test]
fn an_event_that_is_sent_again_is_answered_as_the_first_time() {
    on_each(|server| {
        let id = format!("{}/a", namespace("again"));
        let first = event_with(r#""eventId":"x""#, &id, r#"{"a":1,"b":2}"#);
        let answer = server.post("/api/events", &first).json();
        assert_eq!(answer["version"], 1);
        assert_eq!(answer.get("duplicate"), None);
        server.publish(&id, "{}");
        let reordered = event_with(r#""eventId":"x""#, &id, r#"{ "b" : 2, "a" : 1 }"#);
        for body in [&first, &reordered] {
            let again = server.post("/api/events", body).json();
            assert_eq!(again["duplicate"], true);
            for member in ["eventId", "stream", "version", "sequence"] {
                assert_eq!(again[member], answer[member], "{member}");
            }
        }
        let other = event_with(r#""eventId":"x""#, &id, r#"{"a":1,"b":3}"#);
        let refused = server.post("/api/events", &other);
        assert_eq!(
            refused.expect_error(409, "other content"),
            "event_id_reused"
        );
        assert_eq!(server.entity(&id).json()["version"], 2);
        // In another namespace it is another event.
        let elsewhere = first.replace(&id, &format!("{}/a", namespace("elsewhere")));
        assert_eq!(server.post("/api/events", &elsewhere).json()["version"], 1);
        // Without an id, or with an empty one, an event is never taken for another.
        for id_member in [r#""eventId":"""#, r#""eventId":null"#] {
            let body = event_with(id_member, &id, r#"{"a":1}"#);
            let answers = [(); 2].map(|()| server.post("/api/events", &body).json());
            assert_ne!(answers[0]["eventId"], answers[1]["eventId"]);
            assert_eq!(answers[1].get("duplicate"), None);
        }
    });
}

/// Publishes under this id. Returns the answer.
fn send_again(server: &Server, event_id: &str, entity_id: &str) -> Value {
    let body = event_with(
        &format!(r#""eventId":"{event_id}""#),
        entity_id,
        r#"{"n":1}"#,
    );
    let answer = server.post("/api/events", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn ids_are_known_after_kills_checkpoints_and_other_numbers_of_shards() {
    let dir = tempfile::tempdir().unwrap();
    let ids: Vec<String> = (0..20).map(|number| format!("n{number}/a")).collect();
    let mut first: Option<Vec<Value>> = None;
    for shards in [1, 2, 2, 3, 1] {
        let setup = Setup::new(dir.path(), shards).env("FLUX_CHECKPOINT_SECONDS", "1");
        let server = setup.start();
        let answers: Vec<Value> = ids.iter().map(|id| send_again(&server, "x", id)).collect();
        match &first {
            None => first = Some(answers),
            Some(first) => {
                for (first, again) in first.iter().zip(&answers) {
                    assert_eq!(again["duplicate"], true, "{again}");
                    assert_eq!(again["version"], first["version"]);
                    assert_eq!(again["sequence"], first["sequence"]);
                }
            }
        }
        // What comes after a checkpoint moves the versions on.
        wait_for("a checkpoint", || {
            server.publish(&ids[0], "{}");
            (!support::files(dir.path(), ".manifest").is_empty()).then_some(())
        });
        server.kill();
    }
    let server = Setup::new(dir.path(), 2).start();
    for id in &ids[1..] {
        assert_eq!(server.entity(id).json()["version"], 1, "{id}");
    }
}

#[test]
fn an_id_is_known_for_the_window_that_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path(), 1).env("FLUX_DEDUP_EVENTS", "3");
    let server = setup.start();
    assert_eq!(send_again(&server, "x", "n/a").get("duplicate"), None);
    send_again(&server, "1", "n/b");
    send_again(&server, "2", "n/b");
    assert_eq!(send_again(&server, "x", "n/a")["duplicate"], true);
    send_again(&server, "3", "n/b");
    assert_eq!(send_again(&server, "x", "n/a").get("duplicate"), None);
    server.kill();
    let server = Setup::new(dir.path(), 1)
        .env("FLUX_DEDUP_SECONDS", "0")
        .start();
    assert_eq!(send_again(&server, "x", "n/a").get("duplicate"), None);
    assert_eq!(server.entity("n/a").json()["version"], 3);
}

#[test]
fn a_repetition_costs_nothing_and_comes_before_the_rate() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path(), 2)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_RATE_LIMIT_PER_NAMESPACE_PER_MINUTE", "1");
    let server = setup.start();
    let registered = server.post("/api/namespaces", r#"{"name":"house"}"#).json();
    let token = registered["token"].as_str().expect("a token").to_owned();
    let publish = |event_id: &str, expect: &str| {
        let members = format!(r#""eventId":"{event_id}","expect":{expect}"#);
        let body = event_with(&members, "house/a", "{}");
        server.with_token(("POST", "/api/events"), &token, &body)
    };
    assert_eq!(publish("1", r#"{"absent":true}"#).status, 200);
    for _ in 0..3 {
        let again = publish("1", r#"{"absent":true}"#);
        assert_eq!(again.json()["duplicate"], true, "{}", again.text());
    }
    let limited = publish("2", r#"{"absent":true}"#);
    assert_eq!(
        limited.expect_error(429, "the rate comes before conditions"),
        "rate_limited"
    );
}

/// An event with these members of the payload.
fn with_payload(members: &str, id: &str) -> String {
    format!(r#"{{{members},"stream":"s","source":"t"}}"#).replace("$ID", id)
}

#[test]
fn operations_are_answered_with_their_results_and_stored_as_such() {
    on_each(|server| {
        let id = format!("{}/a", namespace("operations"));
        let operate = |event_id: &str, members: &str| {
            let payload = format!(r#""payload":{{"entity_id":"$ID",{members}}}"#);
            let members = format!(r#""eventId":"{event_id}",{payload}"#);
            server.post("/api/events", &with_payload(&members, &id))
        };
        let first =
            r#""increment":{"n":0.1},"append":{"log":["a"]},"properties":{"keep":1,"drop":2}"#;
        let answer = operate("1", first).json();
        assert_eq!(answer["properties"].to_string(), r#"{"log":["a"],"n":0.1}"#);
        let answer = operate(
            "2",
            r#""increment":{"n":0.2},"append":{"log":["b"]},"unset":["drop"]"#,
        );
        assert!(answer.text().contains(r#""n":0.3"#), "{}", answer.text());
        assert_eq!(
            answer.json()["properties"]["log"].to_string(),
            r#"["a","b"]"#
        );
        let entity = server.entity(&id);
        assert!(
            entity
                .text()
                .contains(r#"{"keep":1,"log":["a","b"],"n":0.3}"#),
            "{}",
            entity.text()
        );
        // Sent again, it changes nothing and gives the same results, though others came since.
        operate("3", r#""increment":{"n":5}"#);
        let again = operate(
            "2",
            r#""increment":{"n":0.2},"append":{"log":["b"]},"unset":["drop"]"#,
        );
        assert_eq!(again.json()["duplicate"], true);
        assert_eq!(again.json()["version"], 2);
        assert_eq!(again.json()["properties"], answer.json()["properties"]);
        let other = operate(
            "2",
            r#""increment":{"n":0.3},"append":{"log":["b"]},"unset":["drop"]"#,
        );
        assert_eq!(
            other.expect_error(409, "another request"),
            "event_id_reused"
        );
        // History shows the request and the results.
        let events = server.get(&format!("/api/events?entity={id}")).json();
        let payload = &events[1]["payload"];
        assert_eq!(payload["increment"].to_string(), r#"{"n":0.2}"#);
        assert_eq!(payload["unset"].to_string(), r#"["drop"]"#);
        assert_eq!(payload["properties"]["log"].to_string(), r#"["a","b"]"#);
        let then = events[1]["acceptedAt"]
            .as_str()
            .expect("a time")
            .replace('+', "%2B");
        let past = server
            .get(&format!("/api/state/entities/{id}?at={then}"))
            .json();
        assert_eq!(past["properties"].get("drop"), None);
        let code = operate("4", r#""increment":{"log":1}"#).expect_error(400, "an array");
        assert_eq!(code, "operation_type");
        let code = operate("5", r#""min":{"n":1},"properties":{"n":2}"#).expect_error(400, "twice");
        assert_eq!(code, "operation_conflict");
        assert_eq!(server.entity(&id).json()["version"], 3);
    });
}

#[test]
fn results_are_found_again_after_a_kill_and_in_another_number_of_shards() {
    let dir = tempfile::tempdir().unwrap();
    let body = with_payload(
        r#""eventId":"x","payload":{"entity_id":"$ID","increment":{"n":2},"unset":["a"]}"#,
        "n/a",
    );
    let server = Setup::new(dir.path(), 1).start();
    server.publish("n/a", r#"{"a":1,"n":40}"#);
    let first = server.post("/api/events", &body).json();
    assert_eq!(first["properties"]["n"], 42);
    server.publish("n/a", r#"{"n":0}"#);
    server.kill();
    for shards in [1, 2, 3, 1, 2] {
        let server = Setup::new(dir.path(), shards).start();
        let entity = server.entity("n/a").json();
        assert_eq!(entity["properties"].to_string(), r#"{"n":0}"#);
        let again = server.post("/api/events", &body).json();
        assert_eq!(again["duplicate"], true);
        assert_eq!(
            (&again["version"], &again["sequence"]),
            (&first["version"], &first["sequence"])
        );
        assert_eq!(again["properties"], first["properties"], "{shards} shards");
        server.kill();
    }
}

#[test]
fn a_repetition_in_the_same_turn_has_the_results_of_the_first() {
    on_each(|server| {
        let id = format!("{}/a", namespace("turn"));
        let event = |number: usize, entity: &str| {
            let members = format!(
                r#""eventId":"{number}{entity}","payload":{{"entity_id":"$ID","increment":{{"n":{number}}}}}"#
            );
            with_payload(&members, entity)
        };
        for atomic in [false, true] {
            let entity = format!("{id}{atomic}");
            let events = [1, 2, 3].map(|number| event(number, &entity)).join(",");
            let body = format!(r#"{{"events":[{events}],"atomic":{atomic}}}"#);
            let first = format!(r#"{{"events":[{events},{events}]}}"#);
            let first = if atomic { &body } else { &first };
            let first = server.post("/api/events/batch", first).json();
            for (index, result) in first["results"].as_array().unwrap().iter().enumerate() {
                let expected = [1, 3, 6][index % 3];
                assert_eq!(result["properties"]["n"], expected, "{result}");
                assert_eq!(result.get("duplicate").is_some(), index >= 3, "{result}");
            }
            let again = server.post("/api/events/batch", &body).json();
            for (index, result) in again["results"].as_array().unwrap().iter().enumerate() {
                assert_eq!(result["properties"]["n"], [1, 3, 6][index], "{result}");
                assert_eq!(result["duplicate"], true, "{result}");
            }
        }
    });
}

#[test]
fn a_removed_property_is_pushed_as_such() {
    on_each(|server| {
        let id = format!("{}/a", namespace("removed"));
        server.publish(&id, r#"{"a":1}"#);
        let mut watcher = Watcher::connect(server);
        watcher.send(&format!(
            r#"{{"type":"subscribe","entity_id":"{id}","id":1}}"#
        ));
        assert_eq!(watcher.next()["type"], "ack");
        let members = r#""payload":{"entity_id":"$ID","increment":{"n":1},"unset":["a","b"]}"#;
        server.post("/api/events", &with_payload(members, &id));
        let update = watcher.next();
        assert_eq!(
            (&update["property"], &update["value"]),
            (&"n".into(), &1.into())
        );
        let update = watcher.next();
        assert_eq!(
            (&update["property"], &update["removed"]),
            (&"a".into(), &true.into())
        );
        assert_eq!(update.get("value"), None);
    });
}
