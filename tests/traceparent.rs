//! The trace that an event is a part of (W3C Trace Context): taken from the head of a publish or
//! from the event, kept with it, and shown wherever events are shown.

mod support;

use serde_json::{Value, json};
use support::http::request;
use support::server::{FLUX, Server, Setup};
use support::watch::Watcher;
use support::{event, namespace, on_each};
use tempfile::TempDir;

const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const MEMBER: &str = "00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-00";

/// An event as JSON, with this trace if there is one.
fn traced(entity_id: &str, trace: Option<&str>) -> Value {
    let mut event: Value = serde_json::from_str(&event(entity_id, r#"{"n":1}"#)).expect("JSON");
    if let Some(trace) = trace {
        event["traceparent"] = json!(trace);
    }
    event
}

/// Sends a body with this `traceparent` in the head.
fn post(server: &Server, target: &str, header: &str, body: &Value) -> Value {
    let mut connection = server.connect();
    let field = format!("TraceParent: {header}");
    connection.send(request(
        "POST",
        target,
        &[field.as_str()],
        &body.to_string(),
    ));
    connection.response().json()
}

/// The traces of an entity's events, the oldest first.
fn kept(server: &Server, entity_id: &str) -> Vec<Option<String>> {
    let rows = server
        .get(&format!("/api/events?entity={entity_id}"))
        .json();
    let rows = rows["events"].as_array().or(rows.as_array());
    let rows = rows.expect("an array of events").iter().rev();
    rows.map(|row| row["traceparent"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn a_trace_is_kept_from_the_head_or_from_the_event_which_goes_first() {
    on_each(|server| {
        let id = format!("{}/x", namespace("trace"));
        for (header, member, expected) in [
            (HEADER, None, Some(HEADER)),
            (HEADER, Some(MEMBER), Some(MEMBER)),
            ("", Some(MEMBER), Some(MEMBER)),
            ("", None, None),
            // Who receives a bad field ignores it.
            ("00-nonsense-01", None, None),
            (&HEADER.to_uppercase(), None, None),
        ] {
            let answer = post(server, "/api/events", header, &traced(&id, member));
            assert!(answer["eventId"].is_string(), "{answer}");
            let last = kept(server, &id).pop().expect("an event");
            assert_eq!(last.as_deref(), expected, "{header} {member:?}");
        }
        let second = format!("traceparent: {HEADER}");
        let first = second.replace("0af7", "2af7");
        let mut connection = server.connect();
        let fields = [first.as_str(), second.as_str()];
        let body = traced(&id, None).to_string();
        connection.send(request("POST", "/api/events", &fields, &body));
        assert_eq!(connection.response().status, 200);
        assert_eq!(kept(server, &id).pop(), Some(None), "two are none");
    });
}

#[test]
fn a_member_that_is_no_trace_is_refused_by_name_and_null_is_none() {
    on_each(|server| {
        let id = format!("{}/x", namespace("bad"));
        let zeros = HEADER.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32));
        let upper = HEADER.to_uppercase();
        let later = HEADER.replacen("00", "01", 1);
        for bad in [
            json!(""),
            json!("x"),
            json!(7),
            json!(zeros),
            json!(upper),
            json!(later),
        ] {
            let mut event = traced(&id, None);
            event["traceparent"] = bad.clone();
            let answer = server.post("/api/events", &event.to_string());
            assert_eq!(answer.status, 400, "{bad}");
            let error = answer.json();
            assert_eq!(error["code"], "invalid_field", "{error}");
            let message = error["error"].as_str().expect("a text");
            assert!(message.contains("traceparent"), "{message}");
            let batch = json!({"events": [traced(&id, None), event]});
            let answer = server.post("/api/events/batch", &batch.to_string()).json();
            assert_eq!(
                (&answer["successful"], &answer["failed"]),
                (&json!(1), &json!(1))
            );
        }
        let mut event = traced(&id, None);
        event["traceparent"] = Value::Null;
        assert_eq!(server.post("/api/events", &event.to_string()).status, 200);
    });
}

#[test]
fn the_head_of_a_batch_is_for_its_items_that_name_no_trace() {
    on_each(|server| {
        let id = format!("{}/x", namespace("batch"));
        for atomic in [false, true] {
            let events = [
                traced(&id, None),
                traced(&id, Some(MEMBER)),
                traced(&id, None),
            ];
            let batch = json!({"events": events, "atomic": atomic});
            let answer = post(server, "/api/events/batch", HEADER, &batch);
            assert_eq!(answer["successful"], 3, "{answer}");
        }
        let three = [HEADER, MEMBER, HEADER];
        let expected: Vec<_> = three
            .iter()
            .chain(&three)
            .map(|it| Some((*it).into()))
            .collect();
        assert_eq!(kept(server, &id), expected);
    });
}

#[test]
fn over_the_websocket_events_name_it_and_watchers_of_events_are_told() {
    on_each(|server| {
        let id = format!("{}/x", namespace("ws"));
        let mut watcher = Watcher::connect(server);
        let subscribe = json!({"type": "subscribe", "id": 0, "entity_id": id, "mode": "event"});
        watcher.send(&subscribe.to_string());
        assert_eq!(watcher.next()["type"], "ack");
        let mut publisher = Watcher::connect(server);
        let publish = json!({"type": "publish", "id": 1, "event": traced(&id, Some(MEMBER))});
        publisher.send(&publish.to_string());
        assert_eq!(publisher.next()["type"], "result");
        let told = watcher.next();
        assert_eq!(
            (&told["type"], &told["traceparent"]),
            (&json!("event"), &json!(MEMBER))
        );
        assert_eq!(kept(server, &id), [Some(MEMBER.into())]);
    });
}

#[test]
fn a_retry_with_another_trace_is_a_duplicate() {
    on_each(|server| {
        let id = format!("{}/x", namespace("retry"));
        let mut event = traced(&id, None);
        event["eventId"] = json!(format!("{id}-1"));
        let first = post(server, "/api/events", HEADER, &event);
        for (header, member) in [("", None), (HEADER, None), (HEADER, Some(MEMBER))] {
            let mut again = event.clone();
            if let Some(member) = member {
                again["traceparent"] = json!(member);
            }
            let answer = post(server, "/api/events", header, &again);
            assert_eq!(answer["duplicate"], true, "{answer}");
            assert_eq!(answer["sequence"], first["sequence"]);
        }
        event["payload"]["properties"]["n"] = json!(2);
        let answer = post(server, "/api/events", HEADER, &event);
        assert_eq!(answer["code"], "event_id_reused", "{answer}");
        assert_eq!(kept(server, &id), [Some(HEADER.into())]);
    });
}

#[test]
fn a_trace_survives_restarts_operations_dumps_exports_and_imports() {
    let dir = TempDir::new().expect("a directory");
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let server = Setup::new(&data, 2).start();
    let mut event = traced("t/x", Some(MEMBER));
    event["eventId"] = json!("mine");
    event["timestamp"] = json!(5);
    event["payload"]["increment"] = json!({"count": 1});
    let answer = server.post("/api/events", &event.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    post(&server, "/api/events", HEADER, &traced("t/x", None));
    let expected = [Some(MEMBER.to_owned()), Some(HEADER.to_owned())];
    assert_eq!(kept(&server, "t/x"), expected);
    server.kill();
    let server = Setup::new(&data, 2).start();
    assert_eq!(kept(&server, "t/x"), expected);
    let mut again = event.clone();
    again["traceparent"] = json!(HEADER);
    let answer = server.post("/api/events", &again.to_string()).json();
    assert_eq!(answer["duplicate"], true, "{answer}");
    server.stop();
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(FLUX).args(arguments).output();
        let output = output.expect("flux runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let (data, copy_dir) = (data.to_str().expect("UTF-8"), copy.to_str().expect("UTF-8"));
    let dumped = run(&["log", "dump", "--data-dir", data]);
    for trace in [HEADER, MEMBER] {
        assert!(
            dumped.contains(&format!(r#""traceparent":"{trace}""#)),
            "{dumped}"
        );
    }
    let lines = dir.path().join("events.jsonl");
    let lines = lines.to_str().expect("UTF-8");
    run(&["export", "--data-dir", data, "--output", lines]);
    run(&["import", "--data-dir", copy_dir, "--shards", "1", lines]);
    let server = Setup::new(&copy, 1).start();
    assert_eq!(kept(&server, "t/x"), expected);
    server.stop();
}
