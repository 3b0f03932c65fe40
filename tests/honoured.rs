//! What asks for something is honoured or refused, and never passed over (API contract §1):
//! members, parameters and fields that mean something in another call.

mod support;

use serde_json::{Value, json};
use support::http::request;
use support::on_each;

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

#[test]
fn what_a_call_does_not_honour_is_refused_and_changes_nothing() {
    const EVENTS: &str = "POST /api/events";
    const BATCH: &str = "POST /api/events/batch";
    const DELETE: &str = "DELETE /api/state/entities/refused/a";
    const DELETE_MANY: &str = "POST /api/state/entities/delete";
    const READ: &str = "GET /api/state/entities/refused/a";
    const IF_MATCH: &str = "If-Match: \"e-1\"";
    let plain = event(&json!({}), &json!({}));
    let beside = |members| event(&members, &json!({}));
    let inside = |members| event(&json!({}), &members);
    let batch = |mut members: Value| {
        members["events"] = json!([plain]);
        members
    };
    let nothing = Value::Null;
    let by_parameter = "filter=eq(n,7)";
    let refused = [
        (EVENTS, "", beside(json!({"ttl": 5})), "invalid_field"),
        (
            EVENTS,
            "",
            beside(json!({"increment": {"n": 1}})),
            "invalid_field",
        ),
        (EVENTS, "", beside(json!({"unset": ["n"]})), "invalid_field"),
        (EVENTS, "", beside(json!({"atomic": true})), "invalid_field"),
        (EVENTS, "", beside(json!({"bind": true})), "invalid_field"),
        (
            EVENTS,
            "",
            inside(json!({"expect": {"absent": true}})),
            "invalid_field",
        ),
        (
            BATCH,
            "",
            batch(json!({"expect": {"absent": true}})),
            "invalid_field",
        ),
        (BATCH, "", batch(json!({"linger": 5})), "invalid_field"),
        (BATCH, IF_MATCH, batch(json!({})), "invalid_header"),
        (
            DELETE_MANY,
            "",
            json!({"prefix": "refused/", "filter": "eq(n,7)"}),
            "invalid_field",
        ),
        (
            DELETE_MANY,
            "",
            json!({"prefix": "refused/", "expect": {"version": 7}}),
            "invalid_field",
        ),
        (
            DELETE_MANY,
            "",
            json!({"prefix": "refused/", "atomic": true}),
            "invalid_field",
        ),
        (
            DELETE_MANY,
            IF_MATCH,
            json!({"prefix": "refused/"}),
            "invalid_header",
        ),
        (READ, IF_MATCH, nothing.clone(), "invalid_header"),
        (
            "GET /api/state/entities",
            IF_MATCH,
            nothing.clone(),
            "invalid_header",
        ),
        (
            "PUT /api/admin/config",
            IF_MATCH,
            json!({}),
            "invalid_header",
        ),
        (
            "PUT /api/admin/config",
            "If-None-Match: *",
            json!({}),
            "invalid_header",
        ),
    ];
    let with_parameter = [EVENTS, BATCH, DELETE, READ, "GET /api/events", "GET /ready"];
    on_each(|server| {
        server.publish("refused/a", "{\"n\":1}");
        let check = |call: &str, field: &str, body: &Value, code: &str| {
            let (method, target) = call.split_once(' ').expect("a method");
            let fields = [field];
            let fields = if field.is_empty() { &[][..] } else { &fields };
            let body = if body.is_null() {
                String::new()
            } else {
                body.to_string()
            };
            let mut connection = server.connect();
            connection.send(request(method, target, fields, &body));
            let answer = connection.response();
            let what = format!("{call} {field} {body}");
            assert_eq!(answer.expect_error(400, &what), code, "{what}");
        };
        for (call, field, body, code) in &refused {
            check(call, field, body, code);
        }
        for call in with_parameter {
            let call = format!("{call}?{by_parameter}");
            check(&call, "", &plain, "invalid_query");
        }
        let held = server.entity("refused/a").json();
        assert_eq!(
            (&held["version"], &held["properties"]),
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
