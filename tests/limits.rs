//! Limits that an operator sets while the server runs: rates of namespaces, sizes, connections,
//! subscriptions.

mod support;

use serde_json::{Value, json};
use std::time::Duration;
use support::http::{Connection, Response};
use support::server::{Server, Setup};
use support::watch::Watcher;
use support::{batch, event, now, wait_for};
use tempfile::TempDir;

const ADMIN: &str = "operator-secret-0123456789";
const CONFIG: &str = "/api/admin/config";

fn setup(dir: &TempDir, shards: u32) -> Setup {
    Setup::new(dir.path(), shards)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", ADMIN)
}

fn configure(server: &Server, patch: &Value) -> Response {
    server.with_token(("PUT", CONFIG), ADMIN, &patch.to_string())
}

fn register(server: &Server, name: &str) -> String {
    let body = json!({ "name": name }).to_string();
    let answer = server.with_token(("POST", "/api/namespaces"), ADMIN, &body);
    let token = answer.json()["token"].clone();
    token.as_str().expect("a token").to_owned()
}

fn publish(server: &Server, token: &str, id: &str) -> Response {
    let body = event(id, r#"{"n":1}"#);
    server.with_token(("POST", "/api/events"), token, &body)
}

#[test]
fn the_configuration_is_taken_whole_or_not_at_all() {
    let dir = TempDir::new().expect("a temporary directory");
    let server = Setup::new(dir.path(), 2)
        .env("FLUX_ADMIN_TOKEN", ADMIN)
        .start();
    let before = server.get(CONFIG).json();
    let contract = json!({
        "rate_limit_enabled": true, "rate_limit_per_namespace_per_minute": 10_000,
        "body_size_limit_single_bytes": 1_048_576, "body_size_limit_batch_bytes": 10_485_760,
        "max_batch_delete": 10_000,
    });
    for (name, value) in contract.as_object().expect("an object") {
        assert_eq!(&before[name], value, "{name}");
    }
    for patch in [
        json!([]),
        json!({"unknown": 1}),
        json!({"max_batch_delete": 0}),
        json!({"max_batch_delete": "5"}),
        json!({"max_batch_delete": 5, "rate_limit_enabled": 1}),
        json!({"body_size_limit_single_bytes": 5, "unknown": 1}),
    ] {
        configure(&server, &patch).expect_error(400, &patch.to_string());
    }
    for token in [
        "",
        "wrong",
        "operator-secret-012345678",
        "operator-secret-01234567890",
    ] {
        let answer = server.with_token(("PUT", CONFIG), token, r#"{"max_batch_delete":5}"#);
        answer.expect_error(401, token);
    }
    assert_eq!(server.get(CONFIG).json(), before);
    let answer = configure(&server, &json!({"body_size_limit_single_bytes": 300}));
    assert_eq!(answer.json()["body_size_limit_single_bytes"], 300);
    // Each connection may be on either core.
    for n in 0..20 {
        let large = event("a/b", &format!(r#"{{"x":"{}"}}"#, "x".repeat(400)));
        server
            .post("/api/events", &large)
            .expect_error(413, &format!("connection {n}"));
        assert_eq!(server.get(CONFIG).json(), answer.json());
    }
    assert_eq!(server.get("/api/state/entities/a%2Fb").status, 404);
}

#[test]
fn what_was_configured_beats_the_environment_and_a_flag_beats_both() {
    let dir = TempDir::new().expect("a temporary directory");
    let of = |server: &Server| server.get(CONFIG).json()["max_batch_delete"].clone();
    let with_environment = setup(&dir, 1).env("FLUX_MAX_BATCH_DELETE", "70");
    let server = with_environment.start();
    assert_eq!(of(&server), 70);
    configure(&server, &json!({"max_batch_delete": 80}));
    assert_eq!(of(&server), 80);
    server.kill();
    let server = with_environment.start();
    assert_eq!(of(&server), 80);
    server.stop();
    let server = with_environment.arg("--max-batch-delete").arg("90").start();
    assert_eq!(of(&server), 90);
    configure(&server, &json!({"max_batch_delete": 85}));
    assert_eq!(of(&server), 85, "in force at once all the same");
}

#[test]
fn one_namespace_over_its_rate_does_not_touch_the_other() {
    for shards in [1, 2] {
        let dir = TempDir::new().expect("a temporary directory");
        let server = setup(&dir, shards).start();
        let greedy = register(&server, "greedy");
        let modest = register(&server, "modest");
        configure(&server, &json!({"rate_limit_per_namespace_per_minute": 30}));
        let mut accepted = 0;
        let mut limited = None;
        for _ in 0..100 {
            // Each on its own connection, which may be on either core; they are counted together.
            let answer = publish(&server, &greedy, "greedy/a");
            match answer.status {
                200 => accepted += 1,
                429 => limited = Some(answer),
                other => panic!("{other}: {}", answer.text()),
            }
        }
        // A token comes every two seconds; the loop takes far less than a minute.
        assert!((30..50).contains(&accepted), "{accepted} of 30");
        let limited = limited.expect("the rate is used up");
        assert_eq!(limited.expect_error(429, "a rate"), "rate_limited");
        let seconds = limited.header("retry-after").expect("Retry-After");
        let seconds: u64 = seconds.parse().expect("whole seconds");
        assert!((1..=2).contains(&seconds), "{seconds}");
        for _ in 0..20 {
            assert_eq!(publish(&server, &modest, "modest/a").status, 200);
        }
        let until = now() + Duration::from_secs(seconds);
        wait_for("the time that was named", || (now() >= until).then_some(()));
        assert_eq!(publish(&server, &greedy, "greedy/a").status, 200);
        configure(&server, &json!({"rate_limit_enabled": false}));
        for _ in 0..40 {
            assert_eq!(publish(&server, &greedy, "greedy/a").status, 200);
        }
    }
}

#[test]
fn a_batch_takes_what_fits_and_deletions_cost_what_they_delete() {
    let dir = TempDir::new().expect("a temporary directory");
    let server = setup(&dir, 2).start();
    let token = register(&server, "house");
    configure(&server, &json!({"rate_limit_per_namespace_per_minute": 10}));
    // A refused call, an item that is refused for another reason, and a deletion of nothing cost
    // nothing.
    assert_eq!(publish(&server, &token, "other/a").status, 403);
    let gone = ("DELETE", "/api/state/entities/house/none");
    assert_eq!(server.with_token(gone, &token, "").status, 404);
    let mut events: Vec<String> = (0..14)
        .map(|n| event(&format!("house/{n}"), "{}"))
        .collect();
    events.insert(3, event("other/x", "{}"));
    let answer = server
        .with_token(("POST", "/api/events/batch"), &token, &batch(&events))
        .json();
    assert_eq!(
        (&answer["successful"], &answer["failed"]),
        (&json!(10), &json!(5))
    );
    let results = answer["results"].as_array().expect("an array");
    for (index, result) in results.iter().enumerate() {
        let expected = match index {
            3 => json!("not_namespace_owner"),
            11.. => json!("rate_limited"),
            _ => Value::Null,
        };
        assert_eq!(result["code"], expected, "{index}");
    }
    let one = ("DELETE", "/api/state/entities/house/0");
    server
        .with_token(one, &token, "")
        .expect_error(429, "a deletion costs one");
    let all = json!({"namespace": "house"}).to_string();
    let call = ("POST", "/api/state/entities/delete");
    let answer = server.with_token(call, &token, &all).json();
    assert_eq!(
        (&answer["deleted"], &answer["failed"]),
        (&json!(0), &json!(10))
    );
    let answer = server.with_token(call, ADMIN, &all).json();
    assert_eq!(
        answer["deleted"], 10,
        "what the operator does costs nothing"
    );
}

#[test]
fn connections_and_subscriptions_are_bounded_by_address_and_in_all() {
    for shards in [1, 2] {
        let dir = TempDir::new().expect("a temporary directory");
        let server = setup(&dir, shards).start();
        // The connection that configures stays open, because no other would be accepted.
        let mut operator = server.connect();
        let mut put = |patch: Value| {
            let field = format!("Authorization: Bearer {ADMIN}");
            let body = patch.to_string();
            operator.send(support::http::request("PUT", CONFIG, &[&field], &body));
            assert_eq!(operator.response().status, 200, "{patch}");
        };
        put(json!({"max_connections_per_address": 5}));
        // Connections that asked whether the server is ready may not have ended for it yet.
        let mut open: Vec<Connection> = (0..4)
            .map(|_| {
                wait_for("room for a connection", || {
                    let mut connection = server.connect();
                    let answer = connection.try_request("GET", "/health", "").ok()?;
                    (answer.status == 200).then_some(connection)
                })
            })
            .collect();
        let refused = server.connect().response();
        assert_eq!(
            refused.expect_error(429, "one more"),
            "too_many_connections"
        );
        assert!(refused.header("retry-after").is_some());
        drop(open.pop());
        wait_for("room for a connection", || {
            let answer = server.connect().try_request("GET", "/health", "").ok()?;
            (answer.status == 200).then_some(())
        });
        put(json!({"max_connections_per_address": 1000, "max_connections": 4}));
        let refused = server.connect().response();
        assert_eq!(
            refused.expect_error(503, "one more in all"),
            "too_many_connections"
        );
        put(json!({"max_connections": 1000, "max_subscriptions_per_address": 3}));
        let mut watcher = Watcher::connect(&server);
        for id in ["a", "b/*", "*"] {
            watcher.subscribe(id);
        }
        let refused = |watcher: &mut Watcher, id: &str| {
            watcher.send(&json!({"type": "subscribe", "entity_id": id, "id": 1}).to_string());
            let answer = watcher.next();
            assert_eq!(
                (&answer["type"], &answer["code"]),
                (&json!("error"), &json!("too_many_subscriptions"))
            );
        };
        refused(&mut watcher, "d");
        let mut other = Watcher::connect(&server);
        refused(&mut other, "d");
        watcher.unsubscribe("a");
        other.subscribe("d");
        drop(watcher);
        wait_for("the subscriptions of a connection that is gone", || {
            other.send(r#"{"type":"subscribe","entity_id":"e","id":2}"#);
            (other.next()["type"] == "ack").then_some(())
        });
        put(json!({"max_subscriptions": 2, "max_subscriptions_per_address": 1000}));
        refused(&mut other, "f");
    }
}

/// An event whose JSON has so many bytes.
fn event_of_bytes(id: &str, len: usize) -> String {
    let empty = event(id, r#"{"x":""}"#);
    let text = event(
        id,
        &format!(r#"{{"x":"{}"}}"#, "x".repeat(len - empty.len())),
    );
    assert_eq!(text.len(), len);
    text
}

#[test]
fn an_event_costs_one_token_more_for_each_full_16_kib_of_its_json() {
    for shards in [1, 2] {
        let dir = TempDir::new().expect("a temporary directory");
        let server = setup(&dir, shards).start();
        let token = register(&server, "house");
        // No token comes back within the test.
        configure(&server, &json!({"rate_limit_per_namespace_per_minute": 40}));
        configure(&server, &json!({"rate_limit_per_namespace_per_minute": 20}));
        let post = |target, body: &str| server.with_token(("POST", target), &token, body);
        // White space around an event is none of it.
        let body = format!(
            "{0}{1}{0}",
            " ".repeat(20_000),
            event_of_bytes("house/a", 16_383)
        );
        assert_eq!(post("/api/events", &body).status, 200);
        assert_eq!(
            post("/api/events", &event_of_bytes("house/a", 16_384)).status,
            200
        );
        let large = event_of_bytes("house/a", 10 * 16_384);
        assert_eq!(post("/api/events", &large).status, 200);
        // 20 - 1 - 2 - 11: six are left, and one comes every three seconds.
        let small = event("house/a", "{}");
        let items = [
            large,
            event_of_bytes("house/a", 16_384),
            event_of_bytes("house/a", 16_383),
            small.clone(),
        ];
        let answer = post("/api/events/batch", &batch(&items)).json();
        let codes = answer["results"].as_array().expect("an array").iter();
        let codes: Vec<&Value> = codes.map(|result| &result["code"]).collect();
        let none = Value::Null;
        assert_eq!(codes, [&json!("rate_limited"), &none, &none, &none]);
        let left = (0..20).filter(|_| post("/api/events", &small).status == 200);
        assert!((2..=4).contains(&left.count()), "two are left");
    }
}
