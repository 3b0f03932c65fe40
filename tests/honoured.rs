//! What asks for something is honoured or refused, and never passed over (API contract §1):
//! members, parameters and fields that mean something in another call.

mod support;

use serde_json::{Value, json};
use support::http::request;
use support::on_each;
use support::server::Server;

/// An event about `refused/a` with these members beside and in its payload.
fn event(members: &Value, payload: &Value) -> Value {
    let mut event = json!({"stream": "test", "source": "tests",
        "payload": {"entity_id": "refused/a", "properties": {"n": 2}}});
    for (name, value) in members.as_object().expect("members") {
        event[name] = value.clone();
    }
    for (name, value) in payload.as_object().expect("members") {
        event["payload"][name] = value.clone();
    }
    event
}

const EVENTS: &str = "POST /api/events";
const BATCH: &str = "POST /api/events/batch";
const DELETE_MANY: &str = "POST /api/state/entities/delete";
const READ: &str = "GET /api/state/entities/refused/a";
const CONFIG: &str = "PUT /api/admin/config";
const IF_MATCH: &str = "If-Match: \"e-1\"";

/// Calls, a field of their heads, their bodies as [`body`] reads them, and what they are refused
/// with.
const REFUSED: [(&str, &str, &str, &str); 17] = [
    (EVENTS, "", r#"beside {"ttl":5}"#, "invalid_field"),
    (
        EVENTS,
        "",
        r#"beside {"increment":{"n":1}}"#,
        "invalid_field",
    ),
    (EVENTS, "", r#"beside {"unset":["n"]}"#, "invalid_field"),
    (EVENTS, "", r#"beside {"atomic":true}"#, "invalid_field"),
    (EVENTS, "", r#"beside {"bind":true}"#, "invalid_field"),
    (
        EVENTS,
        "",
        r#"inside {"expect":{"absent":true}}"#,
        "invalid_field",
    ),
    (
        BATCH,
        "",
        r#"batch {"expect":{"absent":true}}"#,
        "invalid_field",
    ),
    (BATCH, "", r#"batch {"linger":5}"#, "invalid_field"),
    (BATCH, IF_MATCH, "batch {}", "invalid_header"),
    (
        DELETE_MANY,
        "",
        r#"body {"prefix":"refused/","filter":"eq(n,7)"}"#,
        "invalid_field",
    ),
    (
        DELETE_MANY,
        "",
        r#"body {"prefix":"refused/","expect":{"version":7}}"#,
        "invalid_field",
    ),
    (
        DELETE_MANY,
        "",
        r#"body {"prefix":"refused/","atomic":true}"#,
        "invalid_field",
    ),
    (
        DELETE_MANY,
        IF_MATCH,
        r#"body {"prefix":"refused/"}"#,
        "invalid_header",
    ),
    (READ, IF_MATCH, "", "invalid_header"),
    ("GET /api/state/entities", IF_MATCH, "", "invalid_header"),
    (CONFIG, IF_MATCH, "body {}", "invalid_header"),
    (CONFIG, "If-None-Match: *", "body {}", "invalid_header"),
];

/// An event with more members beside or in its payload, a batch of one event with more members, or
/// what is there.
fn body(text: &str) -> String {
    let Some((kind, json)) = text.split_once(' ') else {
        return String::new();
    };
    let members: Value = serde_json::from_str(json).expect("JSON");
    let body = match kind {
        "beside" => event(&members, &json!({})),
        "inside" => event(&json!({}), &members),
        "batch" => {
            let mut batch = members;
            batch["events"] = json!([event(&json!({}), &json!({}))]);
            batch
        }
        _ => members,
    };
    body.to_string()
}

#[test]
fn what_a_call_does_not_honour_is_refused_and_changes_nothing() {
    let check = |server: &Server, (call, field, body, code): (&str, &str, &str, &str)| {
        let (method, target) = call.split_once(' ').expect("a method");
        let fields: Vec<&str> = [field].into_iter().filter(|it| !it.is_empty()).collect();
        let mut connection = server.connect();
        connection.send(request(method, target, &fields, body));
        let what = format!("{call} {field} {body}");
        let found = connection.response().expect_error(400, &what);
        assert_eq!(found, code, "{what}");
    };
    on_each(|server| {
        server.publish("refused/a", "{\"n\":1}");
        for (call, field, text, code) in REFUSED {
            check(server, (call, field, &body(text), code));
        }
        for call in [
            EVENTS,
            BATCH,
            "DELETE /api/state/entities/refused/a",
            READ,
            "GET /api/events",
            "GET /ready",
        ] {
            let call = format!("{call}?filter=eq(n,7)");
            check(server, (&call, "", &body("beside {}"), "invalid_query"));
        }
        let kept = server.entity("refused/a").json();
        assert_eq!(
            (&kept["version"], &kept["properties"]),
            (&json!(1), &json!({"n": 1}))
        );
    });
}

#[test]
fn what_asks_for_nothing_and_what_no_call_knows_is_passed_over() {
    on_each(|server| {
        let members = json!({"ttl": null, "atomic": false, "bind": null, "colour": "red"});
        let mut event = event(&members, &json!({"expect": null}));
        event["payload"]["entity_id"] = json!("passed/a");
        let answer = server.post("/api/events?_=17&colour=red", &event.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = server.get("/api/state/entities/passed/a?_=17");
        assert_eq!(answer.status, 200, "{}", answer.text());
    });
}

#[test]
fn an_entity_is_read_and_deleted_by_an_id_in_the_query() {
    on_each(|server| {
        for (id, raw) in [
            ("..", ".."),
            ("refused/b", "refused/b"),
            ("a+b", "a%2Bb"),
            ("ü", "%C3%BC"),
        ] {
            server.publish(id, "{\"n\":1,\"m\":2}");
            let target = format!("/api/state/entity?id={raw}");
            let seen = server.get(&format!("{target}&fields=n"));
            assert_eq!(seen.status, 200, "{id}: {}", seen.text());
            assert_eq!(seen.json()["id"], json!(id));
            assert_eq!(seen.json()["properties"], json!({"n": 1}), "{id}");
            let mut connection = server.connect();
            connection.send(request("DELETE", &target, &["If-None-Match: *"], ""));
            assert_eq!(connection.response().status, 409, "{id}");
            assert_eq!(server.request("DELETE", &target, "").status, 200, "{id}");
            assert_eq!(server.get(&target).status, 404, "{id}");
        }
        for target in [
            "/api/state/entity",
            "/api/state/entity?id=",
            "/api/state/entity?id=a&id=b",
        ] {
            for method in ["GET", "DELETE"] {
                let answer = server.request(method, target, "");
                assert_eq!(
                    answer.expect_error(400, target),
                    "invalid_query",
                    "{method} {target}"
                );
            }
        }
        let answer = server.request("PUT", "/api/state/entity?id=a", "");
        assert_eq!(answer.header("allow"), Some("GET, HEAD, DELETE, OPTIONS"));
    });
}

#[test]
fn every_path_answers_options() {
    on_each(|server| {
        for target in [
            "/",
            "/api/events",
            "/api/namespaces",
            "/nowhere",
            "*",
            "/api/state/entity",
        ] {
            let answer = server.request("OPTIONS", target, "");
            assert!(
                (200..300).contains(&answer.status),
                "{target}: {}",
                answer.status
            );
            assert!(answer.header("allow").is_some(), "{target}");
        }
    });
}
