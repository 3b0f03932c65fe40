//! `{"type":"auth"}` over the WebSocket: tokens that are added to a connection (API contract §16).

mod support;

use serde_json::{Value, json};
use support::event;
use support::server::Server;
use support::tenants::{ADMIN, Tenants, ask, auth, publish, published};
use support::watch::Watcher;

/// The bound on tokens that messages add.
const ADDED_MAX: usize = 16;

#[test]
fn a_token_that_is_added_counts_from_its_acknowledgement_on() {
    let tenants = Tenants::start(2);
    let mut watcher = Watcher::connect(&tenants.server);
    assert_eq!(publish(&mut watcher, "house/a"), "token_missing");
    for name in ["house", "garden"] {
        let token = &tenants.first[name];
        let message = json!({"type": "auth", "id": 7, "token": token});
        watcher.send(&message.to_string());
        assert_eq!(watcher.next(), json!({"type": "ack", "id": 7}));
        // Again, which adds nothing.
        assert_eq!(auth(&mut watcher, token), "");
        assert_eq!(publish(&mut watcher, &format!("{name}/a")), "");
    }
    assert_eq!(publish(&mut watcher, "house/a"), "");
    assert_eq!(publish(&mut watcher, "shed/a"), "not_namespace_owner");
    // Beside that of the handshake.
    let shed = &tenants.first["shed"];
    let mut watcher = Watcher::connect_with_token(&tenants.server, shed);
    assert_eq!(auth(&mut watcher, &tenants.first["house"]), "");
    assert_eq!(publish(&mut watcher, "shed/a"), "");
    assert_eq!(publish(&mut watcher, "house/a"), "");
    let deleted = json!({"type": "delete", "id": 1, "entity_id": "house/a"});
    assert_eq!(ask(&mut watcher, &deleted), "");
    // The operator's too.
    let mut watcher = Watcher::connect(&tenants.server);
    assert_eq!(auth(&mut watcher, ADMIN), "");
    let deleted = json!({"type": "delete", "id": 1, "entity_id": "shed/a"});
    assert_eq!(ask(&mut watcher, &deleted), "");
    assert_eq!(publish(&mut watcher, "shed/a"), "not_namespace_owner");
    // Without an `id` nothing is answered but what is wrong.
    let mut watcher = Watcher::connect(&tenants.server);
    watcher.send(&json!({"type": "auth", "token": shed}).to_string());
    assert_eq!(publish(&mut watcher, "shed/a"), "");
}

#[test]
fn what_is_no_token_that_somebody_has_is_an_error_and_the_connection_stays_as_it_was() {
    let tenants = Tenants::start(1);
    let mut watcher = Watcher::connect(&tenants.server);
    let house = &tenants.first["house"];
    assert_eq!(auth(&mut watcher, house), "");
    let revoked = tenants.make("house", &json!({"scopes": ["write"]}));
    tenants.revoke("house", &revoked.id);
    let long = "x".repeat(5000);
    for unknown in [
        "",
        "x",
        &house[1..],
        &format!("{house} "),
        &revoked.token,
        &long,
    ] {
        assert_eq!(auth(&mut watcher, unknown), "token_unknown", "{unknown}");
    }
    for (token, code) in [
        (json!({}), "missing_field"),
        (json!({"token": null}), "missing_field"),
        (json!({"token": 7}), "invalid_field"),
        (json!({"token": [house]}), "invalid_field"),
    ] {
        let mut message = json!({"type": "auth", "id": 2});
        let members = message.as_object_mut().expect("an object");
        members.extend(token.as_object().expect("an object").clone());
        assert_eq!(ask(&mut watcher, &message), code, "{message}");
    }
    watcher.send(r#"{"type":"auth","token":"x"}"#);
    let error = watcher.next();
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("error"), &json!("token_unknown"))
    );
    assert_eq!(error.get("id"), None);
    assert_eq!(publish(&mut watcher, "house/a"), "");
    // Any other message passes the member over.
    let ping = json!({"type": "ping", "id": 3, "token": 7});
    assert_eq!(ask(&mut watcher, &ping), "");
}

#[test]
fn of_several_tokens_of_a_namespace_any_that_allows_a_request_counts() {
    let tenants = Tenants::start(2);
    let of = |scope: &str, prefix: Value| {
        let body = json!({"scopes": [scope], "prefix": prefix});
        tenants.make("house", &body).token
    };
    let mut watcher = Watcher::connect_with_token(&tenants.server, &of("write", json!("house/a/")));
    assert_eq!(publish(&mut watcher, "house/b/1"), "outside_prefix");
    assert_eq!(auth(&mut watcher, &of("write", json!("house/b/"))), "");
    assert_eq!(publish(&mut watcher, "house/b/1"), "");
    assert_eq!(publish(&mut watcher, "house/a/1"), "");
    assert_eq!(publish(&mut watcher, "house/c/1"), "outside_prefix");
    let tombstone = published("house/a/1", r#"{"__deleted__":true}"#);
    assert_eq!(ask(&mut watcher, &tombstone), "scope_missing");
    assert_eq!(auth(&mut watcher, &of("delete", Value::Null)), "");
    assert_eq!(ask(&mut watcher, &tombstone), "");
    assert_eq!(auth(&mut watcher, &tenants.first["garden"]), "");
    // The items of a batch, each by the token that allows it, in the order of the request.
    let items = [
        event("house/b/2", r#"{"n":1}"#),
        event("garden/x", r#"{"n":1}"#),
        event("house/b/2", r#"{"__deleted__":true}"#),
        event("house/b/2", r#"{"n":2}"#),
        event("shed/x", "{}"),
    ];
    let events: Vec<Value> = items
        .iter()
        .map(|item| serde_json::from_str(item).expect("JSON"))
        .collect();
    let batch = json!({"type": "publish_batch", "id": 5, "events": events});
    watcher.send(&batch.to_string());
    let answer = watcher.next();
    assert_eq!(
        (&answer["successful"], &answer["failed"]),
        (&json!(4), &json!(1)),
        "{answer}"
    );
    assert_eq!(answer["results"][4]["code"], "not_namespace_owner");
    let entity = tenants.server.entity("house/b/2").json();
    assert_eq!(entity["properties"], json!({"n": 2}));
    assert_eq!(entity["version"], 1);
    // Of an atomic one, one token allows all.
    let atomic = |events: &[Value]| json!({"type": "publish_batch", "id": 6, "atomic": true, "events": events});
    assert_eq!(ask(&mut watcher, &atomic(&events[2..4])), "invalid_body");
    assert_eq!(ask(&mut watcher, &atomic(&events[3..4])), "");
}

#[test]
fn a_seventeenth_token_is_refused_and_those_that_died_make_room() {
    let tenants = Tenants::start(2);
    let body = json!({"scopes": ["write"]});
    let mut watcher = Watcher::connect_with_token(&tenants.server, &tenants.first["garden"]);
    let last = tenants.make("house", &body);
    for _ in 1..ADDED_MAX {
        assert_eq!(auth(&mut watcher, &tenants.make("shed", &body).token), "");
    }
    assert_eq!(publish(&mut watcher, "house/a"), "not_namespace_owner");
    assert_eq!(auth(&mut watcher, &last.token), "");
    let beyond = tenants.make("house", &body);
    assert_eq!(auth(&mut watcher, &beyond.token), "too_many_tokens");
    assert_eq!(auth(&mut watcher, &last.token), "", "it is there already");
    for name in ["house", "garden", "shed"] {
        assert_eq!(publish(&mut watcher, &format!("{name}/a")), "", "{name}");
    }
    tenants.revoke("house", &last.id);
    assert_eq!(publish(&mut watcher, "house/a"), "not_namespace_owner");
    assert_eq!(auth(&mut watcher, &beyond.token), "");
    assert_eq!(publish(&mut watcher, "house/a"), "");
}

#[test]
fn a_write_counts_against_the_rate_of_the_token_that_allows_it() {
    let tenants = Tenants::start(2);
    let body = r#"{"rate_limit_per_namespace_per_minute":2}"#;
    let configured = tenants
        .server
        .with_token(("PUT", "/api/admin/config"), ADMIN, body);
    assert_eq!(configured.status, 200);
    let mut watcher = Watcher::connect_with_token(&tenants.server, &tenants.first["garden"]);
    assert_eq!(auth(&mut watcher, &tenants.first["house"]), "");
    for _ in 0..2 {
        assert_eq!(publish(&mut watcher, "house/a"), "");
    }
    assert_eq!(publish(&mut watcher, "house/a"), "rate_limited");
    assert_eq!(publish(&mut watcher, "garden/a"), "");
}

#[test]
fn without_tokens_in_force_a_token_is_passed_over() {
    let server = Server::start(1);
    let mut watcher = Watcher::connect(&server);
    assert_eq!(auth(&mut watcher, "anything"), "");
    assert_eq!(publish(&mut watcher, "room"), "");
}
