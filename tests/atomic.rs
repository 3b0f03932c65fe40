//! Atomic batches, from outside: all of one takes effect, or nothing (API contract §14).

mod support;

use serde_json::{Value, json};
use support::http::Response;
use support::server::{Server, Setup};
use support::watch::Watcher;
use support::{event, namespace, on_each};
use tempfile::TempDir;

fn item(members: &Value, id: &str, payload: &Value) -> Value {
    let mut item: Value = serde_json::from_str(&event(id, "{}")).expect("an event");
    for (name, value) in members.as_object().expect("members") {
        item[name] = value.clone();
    }
    for (name, value) in payload.as_object().expect("members") {
        item["payload"][name] = value.clone();
    }
    item
}

fn set(id: &str, n: u64) -> Value {
    item(&json!({}), id, &json!({"properties": {"n": n}}))
}

fn publish(server: &Server, events: &[Value]) -> Response {
    let body = json!({"atomic": true, "events": events}).to_string();
    server.post("/api/events/batch", &body)
}

#[test]
fn all_events_take_effect_each_seeing_those_before_it() {
    on_each(|server| {
        let space = namespace("group");
        let (a, b) = (format!("{space}/a"), format!("{space}/b"));
        let mut watcher = Watcher::connect(server);
        watcher.subscribe(&format!("{space}/*"));
        let version = |n: u64| json!({"expect": {"version": n}});
        let answer = publish(
            server,
            &[
                item(
                    &json!({"expect": {"absent": true}}),
                    &a,
                    &json!({"properties": {"n": 1}}),
                ),
                item(&version(1), &a, &json!({"increment": {"n": 2}})),
                set(&b, 7),
                item(&version(2), &a, &json!({"increment": {"n": 3}})),
            ],
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        assert_eq!(
            (&answer["successful"], &answer["failed"]),
            (&4.into(), &0.into())
        );
        let field = |name: &str| {
            let results = answer["results"].as_array().expect("results");
            results
                .iter()
                .map(|it| it[name].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(field("version"), [1, 2, 1, 3]);
        assert_eq!(field("properties")[3], json!({"n": 6}));
        let sequences: Vec<u64> = field("sequence").iter().filter_map(Value::as_u64).collect();
        let first = sequences[0];
        assert_eq!(sequences, [first, first + 1, first + 2, first + 3]);
        let pushed = [(&a, 1), (&a, 3), (&b, 7), (&a, 6)];
        let pushed = pushed.map(|(id, n)| (id.clone(), "n".to_owned(), json!(n)));
        assert_eq!(watcher.changes(4), pushed);
        assert_eq!(server.entity(&a).json()["properties"]["n"], 6);
    });
}

#[test]
fn one_event_that_fails_leaves_everything_as_it_was() {
    on_each(|server| {
        let space = namespace("refused");
        let id = |name: &str| format!("{space}/{name}");
        server.publish(&id("a"), r#"{"n":1,"s":"x"}"#);
        let before = server.entity(&id("a")).json();
        let expect = json!({"expect": {"properties": {"n": 1}}});
        let bad_stream = item(&json!({"stream": "NO"}), &id("b"), &json!({}));
        let first = set(&id("a"), 2);
        for (second, status, code) in [
            (
                item(&expect, &id("a"), &json!({})),
                409,
                "precondition_failed",
            ),
            (
                item(&json!({}), &id("a"), &json!({"increment": {"s": 1}})),
                400,
                "operation_type",
            ),
            (bad_stream, 400, "invalid_field"),
            (json!(7), 400, "invalid_body"),
            (set("elsewhere/a", 1), 400, "invalid_body"),
            (set("flux-core/x", 1), 403, "reserved_namespace"),
        ] {
            let answer = publish(server, &[first.clone(), second.clone()]);
            let found = answer.expect_error(status, &second.to_string());
            assert_eq!(found, code, "{second}");
            let answer = answer.json();
            assert_eq!(answer["index"], 1, "{second}: {answer}");
            if code == "precondition_failed" {
                assert_eq!(
                    answer["entity"], before,
                    "as it is, not as the batch would leave it"
                );
            }
            assert_eq!(server.entity(&id("a")).json(), before, "{second}");
        }
        let many: Vec<Value> = (0..1001).map(|n| set(&id("m"), n)).collect();
        publish(server, &many).expect_error(400, "too many");
        assert_eq!(publish(server, &many[..1000]).json()["successful"], 1000);
        let body = json!({"atomic": 1, "events": [first]}).to_string();
        let answer = server.post("/api/events/batch", &body);
        assert_eq!(answer.expect_error(400, "atomic"), "invalid_field");
        let rows = server
            .get(&format!("/api/events?entity={}", id("b")))
            .json();
        assert_eq!(rows, json!([]));
    });
}

#[test]
fn a_batch_that_is_sent_again_counts_once_and_none_of_it_fits_another() {
    on_each(|server| {
        let space = namespace("again");
        let id = format!("{space}/a");
        let sent = |name: &str| {
            let event_id = json!({"eventId": format!("{space}-{name}")});
            item(&event_id, &id, &json!({"increment": {"n": 1}}))
        };
        let batch = [sent("1"), sent("2")];
        let first = publish(server, &batch).json();
        let again = publish(server, &batch).json();
        for index in 0..2 {
            let mut expected = first["results"][index].clone();
            expected["duplicate"] = json!(true);
            assert_eq!(again["results"][index], expected);
        }
        assert_eq!(server.entity(&id).json()["properties"]["n"], 2);
        for (batch, index) in [
            (vec![sent("3"), sent("1")], 1),
            (vec![sent("1"), sent("3")], 1),
            (vec![sent("4"), sent("4")], 1),
        ] {
            let answer = publish(server, &batch);
            assert_eq!(answer.expect_error(409, "mixed"), "event_id_reused");
            assert_eq!(answer.json()["index"], index);
        }
        assert_eq!(server.entity(&id).json()["version"], 2);
    });
}

const KILL_EVENTS: u64 = 50;

/// Publishes batches that set all entities to the next number, and kills the server amid them.
/// Returns the last number that was acknowledged.
fn publish_until_killed(server: &Server, mut last: u64) -> u64 {
    let killed_after = last + 20;
    let mut connection = server.connect();
    loop {
        let set = |entity| set(&format!("kill/{entity}"), last + 1);
        let events: Vec<Value> = (0..KILL_EVENTS).map(set).collect();
        let body = json!({"atomic": true, "events": events}).to_string();
        match connection.try_request("POST", "/api/events/batch", &body) {
            Ok(answer) if answer.status == 200 => last += 1,
            _ => return last,
        }
        if last > killed_after {
            server.signal("KILL");
        }
    }
}

#[test]
fn after_a_kill_a_batch_is_there_whole_or_not_at_all() {
    let data = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(data.path(), 2);
    let mut there = 0;
    for _ in 0..3 {
        let server = setup.start();
        let acknowledged = publish_until_killed(&server, there);
        drop(server);
        let server = setup.start();
        let value = |entity| {
            let entity = server.entity(&format!("kill/{entity}")).json();
            entity["properties"]["n"].as_u64().expect("a number")
        };
        let values: Vec<u64> = (0..KILL_EVENTS).map(value).collect();
        there = values[0];
        assert!(values.iter().all(|value| *value == there), "{values:?}");
        assert!(there >= acknowledged, "{acknowledged}: {values:?}");
        server.stop();
    }
}

#[test]
fn over_the_websocket_a_refusal_names_the_event_too() {
    on_each(|server| {
        let id = format!("{}/a", namespace("socket"));
        let mut watcher = Watcher::connect(server);
        let present = item(&json!({"expect": {"present": true}}), &id, &json!({}));
        let ask = |watcher: &mut Watcher, events: &[&Value]| {
            let request =
                json!({"type": "publish_batch", "id": 1, "atomic": true, "events": events});
            watcher.send(&request.to_string());
            watcher.next()
        };
        let refused = ask(&mut watcher, &[&present, &set(&id, 1)]);
        assert_eq!(
            (&refused["type"], &refused["code"]),
            (&json!("error"), &json!("precondition_failed"))
        );
        assert_eq!(
            (&refused["index"], &refused["entity"]),
            (&json!(0), &Value::Null)
        );
        let result = ask(&mut watcher, &[&set(&id, 1), &present]);
        assert_eq!(result["successful"], 2, "{result}");
    });
}
