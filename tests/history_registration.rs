//! A namespace that is deleted and registered anew has a new owner. Its history begins at its
//! registration: no reader but the operator sees what its name held before.

mod support;

use serde_json::{Value, json};
use support::event;
use support::http::Response;
use support::server::{Server, Setup};
use tempfile::TempDir;

const ADMIN: &str = "operator-secret-0123456789";

fn setup(dir: &TempDir, shards: u32) -> Setup {
    Setup::new(dir.path(), shards)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", ADMIN)
}

fn register(server: &Server, name: &str) -> String {
    let body = json!({ "name": name }).to_string();
    let answer = server.with_token(("POST", "/api/namespaces"), ADMIN, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["token"].as_str().expect("a token").to_owned()
}

fn publish(server: &Server, token: &str, id: &str, value: u32) {
    let body = event(id, &format!(r#"{{"n":{value}}}"#));
    let answer = server.with_token(("POST", "/api/events"), token, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn array(answer: &Response) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().as_array().expect("an array").clone()
}

#[test]
fn a_namespace_that_is_registered_anew_knows_no_event_ids_of_its_former_owner() {
    let dir = TempDir::new().expect("a temporary directory");
    let sent = |name: &str, id: &str| {
        let properties = event(&format!("{name}/{id}"), r#"{"n":1}"#);
        properties.replacen('{', &format!(r#"{{"eventId":"{id}","#), 1)
    };
    let publish = |server: &Server, token: &str, body: &str| {
        let answer = server.with_token(("POST", "/api/events"), token, body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    for shards in [1, 3] {
        let mut server = setup(&dir, 2).start();
        let name = format!("house-{shards}");
        let old = register(&server, &name);
        publish(&server, &old, &sent(&name, "same"));
        publish(&server, &old, &sent(&name, "other"));
        let path = format!("/api/namespaces/{name}?purge=true");
        let deleted = server.with_token(("DELETE", &path), ADMIN, "");
        assert_eq!(deleted.status, 204, "{}", deleted.text());
        let new = register(&server, &name);
        let stored = publish(&server, &new, &sent(&name, "same"));
        assert_eq!(stored["duplicate"], Value::Null, "{stored}");
        assert_eq!(stored["version"], 1, "{stored}");
        server.stop();
        server = setup(&dir, shards).start();
        let again = publish(&server, &new, &sent(&name, "same"));
        assert_eq!(again["duplicate"], true, "{again}");
        assert_eq!(again["sequence"], stored["sequence"]);
        // Another event under an id of the former owner.
        let other = sent(&name, "other").replace(r#""n":1"#, r#""n":2"#);
        let stored = publish(&server, &new, &other);
        assert_eq!(stored["duplicate"], Value::Null, "{stored}");
        server.stop();
    }
}

/// The values of `n` that a list of events shows; -1 for a deletion.
fn values(events: &[Value]) -> Vec<i64> {
    let value = |event: &Value| event["payload"]["properties"]["n"].as_i64().unwrap_or(-1);
    events.iter().map(value).collect()
}

/// What the former owner left: the times of its events, newest first, and the oldest's cursor.
struct Former {
    times: Vec<String>,
    cursors: Vec<String>,
}

/// Two lives of `house`: values 1 and 2 in the first, 3 in the second.
fn two_lives(server: &Server) -> (Former, String) {
    let former = register(server, "house");
    let other = register(server, "garden");
    publish(server, &former, "house/a", 1);
    publish(server, &other, "garden/a", 7);
    publish(server, &former, "house/a", 2);
    publish(server, &former, "house/b", 2);
    let events = array(&server.get("/api/events?namespace=house"));
    let texts = |name: &str| {
        let text = |event: &Value| event[name].as_str().expect("a text").to_owned();
        events.iter().map(text).collect()
    };
    let left = Former {
        times: texts("acceptedAt"),
        cursors: texts("cursor"),
    };
    let gone = ("DELETE", "/api/namespaces/house?purge=true");
    assert_eq!(server.with_token(gone, ADMIN, "").status, 204);
    assert_eq!(array(&server.get("/api/events?namespace=house")).len(), 5);
    let token = register(server, "house");
    (left, token)
}

/// Nobody but the operator sees the first life; `newer`: the values of the second.
fn check(server: &Server, former: &Former, token: &str, newer: &[i64]) {
    for token in ["", token] {
        let get = |target: &str| match token {
            "" => server.get(target),
            token => server.with_token(("GET", target), token, ""),
        };
        for query in [
            "namespace=house",
            "entity=house/a",
            "namespace=house&entity=house/a",
        ] {
            let answer = get(&format!("/api/events?{query}"));
            assert_eq!(values(&array(&answer)), newer, "{query}");
            assert_eq!(answer.header("link"), None, "{query}");
        }
        for cursor in &former.cursors {
            let answer = get(&format!("/api/events?namespace=house&before={cursor}"));
            assert_eq!(array(&answer), [] as [Value; 0]);
        }
        for at in &former.times {
            for id in ["house/a", "house/b"] {
                let answer = get(&format!("/api/state/entities/{id}?at={at}"));
                answer.expect_error(404, "of the first life");
            }
            for query in ["namespace=house", "prefix=house/", "prefix=ho", "limit=10"] {
                let listed = array(&get(&format!("/api/state/entities?at={at}&{query}")));
                let is_own = |entity: &&Value| entity["id"] == "garden/a";
                assert_eq!(
                    listed.len(),
                    listed.iter().filter(is_own).count(),
                    "{query}"
                );
            }
            let until = array(&get(&format!("/api/events?namespace=house&until={at}")));
            assert_eq!(until, [] as [Value; 0]);
        }
        let garden = array(&get("/api/events?namespace=garden"));
        assert_eq!(values(&garden), [7], "nobody else's history is shorter");
        let at = &former.times[0];
        assert_eq!(
            get(&format!("/api/state/entities/garden/a?at={at}")).status,
            200
        );
    }
    let all = server.with_token(("GET", "/api/events?namespace=house"), ADMIN, "");
    let mut expected = newer.to_vec();
    expected.extend([-1, -1, 2, 2, 1]);
    assert_eq!(
        values(&array(&all)),
        expected,
        "the operator sees both lives"
    );
    let at = &former.times[0];
    let target = format!("/api/state/entities/house/b?at={at}");
    assert_eq!(server.with_token(("GET", &target), ADMIN, "").status, 200);
}

#[test]
fn a_namespace_that_is_registered_anew_begins_a_history_of_its_own() {
    for (shards, then) in [(1, 2), (2, 1)] {
        let dir = TempDir::new().unwrap();
        let server = setup(&dir, shards).start();
        let (former, token) = two_lives(&server);
        check(&server, &former, &token, &[]);
        publish(&server, &token, "house/a", 3);
        check(&server, &former, &token, &[3]);
        let own = array(&server.get("/api/events?namespace=house"));
        let at = own[0]["acceptedAt"].as_str().unwrap();
        let entity = server.get(&format!("/api/state/entities/house/a?at={at}"));
        assert_eq!((entity.status, &entity.json()["version"]), (200, &json!(1)));
        server.stop();
        // From a checkpoint, in another generation of logs, and from the log alone.
        for shards in [shards, then] {
            let server = setup(&dir, shards).start();
            check(&server, &former, &token, &[3]);
            server.kill();
        }
    }
}

#[test]
fn without_auth_a_name_is_nobodys_and_its_history_whole() {
    let dir = TempDir::new().unwrap();
    let server = setup(&dir, 1).start();
    let (former, _) = two_lives(&server);
    server.stop();
    let server = Setup::new(dir.path(), 1).start();
    assert_eq!(array(&server.get("/api/events?namespace=house")).len(), 5);
    let at = &former.times[0];
    assert_eq!(
        server
            .get(&format!("/api/state/entities/house/b?at={at}"))
            .status,
        200
    );
}
