//! What each kind of token may do: every route with every kind, over HTTP, over the WebSocket and
//! in streams, on a running server (API contract §16).
//!
//! The tables are the claim. A column is a kind of token, a row a call. Each call is sent on a
//! connection of its own, so that it reaches any core.

mod support;

use serde_json::{Value, json};
use support::event;
use support::http::request;
use support::server::{Server, Setup};
use support::wait_for;
use support::watch::Watcher;
use tempfile::TempDir;

const ADMIN: &str = "operator-secret-0123456789";
const UNKNOWN: &str = "flux_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const MALFORMED: &str = "not one";
const KINDS: usize = 14;
/// Which of them may do everything in `house`.
const ALL: usize = 12;

/// The entity that most calls are about.
const ENTITY: &str = "house/in/x";

/// The statuses of one call, by kind of token: none, malformed, unknown, expired, revoked, another
/// namespace's; of `house`: with one scope each (read, write, delete, manage), with all scopes and
/// a prefix that the entity has, the same with a prefix that it does not have, with all scopes; the
/// operator's.
type Row = [u16; KINDS];

/// A call that needs no token, answered so to whoever presents none or one that somebody has.
const fn open(status: u16) -> Row {
    [
        status, 401, 401, 401, 401, status, status, status, status, status, status, status, status,
        status,
    ]
}

/// A call for whoever has a token of `house`, by kind of that token and for the operator.
const fn owned(foreign: u16, [r, w, d, m, inside, outside, all, operator]: [u16; 8]) -> Row {
    [
        401, 401, 401, 401, 401, foreign, r, w, d, m, inside, outside, all, operator,
    ]
}

/// A call of the operator.
const fn of_operator(known: u16, status: u16) -> Row {
    owned(
        known,
        [known, known, known, known, known, known, known, status],
    )
}

/// A server with the namespaces `house` and `garden`.
struct Tenants {
    server: Server,
    setup: Setup,
    /// The token of the registration of `house`.
    first: String,
    /// One of each kind; empty: none.
    kinds: [(&'static str, String); KINDS],
    _dir: TempDir,
}

fn token_in(answer: &Value) -> String {
    answer["token"].as_str().expect("a token").to_owned()
}

/// Makes a token of `house`; returns the answer.
fn make(server: &Server, by: &str, body: &Value) -> Value {
    let call = ("POST", "/api/namespaces/house/tokens");
    let answer = server.with_token(call, by, &body.to_string());
    assert_eq!(answer.status, 201, "{body}: {}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer.json()
}

fn tokens_of_house(server: &Server, by: &str) -> Vec<Value> {
    let answer = server.with_token(("GET", "/api/namespaces/house/tokens"), by, "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let tokens = answer.json()["tokens"].as_array().cloned();
    tokens.expect("a list")
}

fn revoke(server: &Server, by: &str, id: &str) -> u16 {
    let target = format!("/api/namespaces/house/tokens/{id}");
    server.with_token(("DELETE", &target), by, "").status
}

fn publish(server: &Server, token: &str, id: &str) -> u16 {
    let call = ("POST", "/api/events");
    server.with_token(call, token, &event(id, "{}")).status
}

fn start() -> Tenants {
    let dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(dir.path(), 2)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", ADMIN);
    let server = setup.start();
    let [first, foreign] = ["house", "garden"].map(|name| {
        let body = json!({ "name": name }).to_string();
        let answer = server.with_token(("POST", "/api/namespaces"), ADMIN, &body);
        token_in(&answer.json())
    });
    let all = json!(["read", "write", "delete", "manage"]);
    let of = |scopes: Value, prefix: Value| {
        let body = json!({"scopes": scopes, "prefix": prefix});
        token_in(&make(&server, &first, &body))
    };
    let one = |scope: &str| of(json!([scope]), Value::Null);
    let expiring = json!({"scopes": all, "expires_in_seconds": 1});
    let expired = token_in(&make(&server, &first, &expiring));
    let made = make(&server, &first, &json!({"scopes": all}));
    let id = made["id"].as_str().expect("an id");
    assert_eq!(publish(&server, &token_in(&made), ENTITY), 200);
    assert_eq!(revoke(&server, &first, id), 204);
    let kinds = [
        ("none", String::new()),
        ("malformed", MALFORMED.to_owned()),
        ("unknown", UNKNOWN.to_owned()),
        ("expired", expired.clone()),
        ("revoked", token_in(&made)),
        ("foreign", foreign),
        ("read", one("read")),
        ("write", one("write")),
        ("delete", one("delete")),
        ("manage", one("manage")),
        ("inside", of(all.clone(), json!("house/in/"))),
        ("outside", of(all.clone(), json!("house/out/"))),
        ("all", of(all, Value::Null)),
        ("operator", ADMIN.to_owned()),
    ];
    wait_for("the token to expire", || {
        (publish(&server, &expired, ENTITY) == 401).then_some(())
    });
    Tenants {
        server,
        setup,
        first,
        kinds,
        _dir: dir,
    }
}

impl Tenants {
    /// Sends a call with each kind of token, and compares the statuses.
    fn check(&self, line: &str, body: &str, row: Row) {
        let (method, target) = line.split_once(' ').expect("a method and a target");
        let mut statuses = [0; KINDS];
        for (status, (_, token)) in statuses.iter_mut().zip(&self.kinds) {
            let (_, all) = &self.kinds[ALL];
            assert_eq!(publish(&self.server, all, ENTITY), 200);
            *status = self.server.with_token((method, target), token, body).status;
        }
        let names = self.kinds.each_ref().map(|(name, _)| *name);
        let story = |row: Row| names.into_iter().zip(row).collect::<Vec<_>>();
        assert_eq!(story(statuses), story(row), "{line} {body}");
    }
}

#[test]
fn reads_and_what_needs_no_token_are_open_and_refuse_one_that_is_not_known() {
    let tenants = start();
    let check = |line: &str, body: &str, row| tenants.check(line, body, row);
    for target in [
        "/api/state/entities",
        "/api/state/entities?namespace=house",
        "/api/state/entities/house%2Fin%2Fx",
        "/api/state/entities/flux-core/directory",
        "/api/events?entity=house/in/x",
        "/api/events?namespace=house&limit=1",
        "/api/changes",
        "/api/changes?entity_id=house/*&mode=event",
        "/api/namespaces/house",
        "/api/admin/config",
        "/health",
        "/ready",
    ] {
        check(&format!("GET {target}"), "", open(200));
    }
    check("HEAD /api/stream?entity_id=house/*", "", open(200));
    check("OPTIONS /api/events", "", open(204));
    check("OPTIONS /api/tickets", "", open(204));
    check("GET /nothing", "", open(404));
    check("GET /api/state/entities/house/none", "", open(404));
    check("DELETE /health", "", open(405));
    check("GET /api/state/entities?limit=x", "", open(400));
}

#[test]
fn every_write_is_for_the_tokens_that_the_table_names() {
    let tenants = start();
    let check = |line: &str, body: &str, row| tenants.check(line, body, row);
    let plain = event(ENTITY, "{}");
    let tombstone = event(ENTITY, r#"{"__deleted__":true}"#);
    let write = owned(403, [403, 200, 403, 403, 200, 403, 200, 403]);
    let delete = owned(403, [403, 403, 200, 403, 200, 403, 200, 403]);
    check("POST /api/events", &plain, write);
    check("POST /api/events", &tombstone, delete);
    let atomic = |event: &str| format!(r#"{{"atomic":true,"events":[{event}]}}"#);
    check("POST /api/events/batch", &atomic(&plain), write);
    check("POST /api/events/batch", &atomic(&tombstone), delete);
    let known = owned(200, [200; 8]);
    check(
        "POST /api/events/batch",
        &format!(r#"{{"events":[{plain}]}}"#),
        known,
    );
    let by_call = owned(403, [403, 403, 200, 403, 200, 403, 200, 200]);
    check("DELETE /api/state/entities/house%2Fin%2Fx", "", by_call);
    for filter in [
        json!({"entity_ids": [ENTITY]}),
        json!({"prefix": "house/in/"}),
    ] {
        let line = "POST /api/state/entities/delete";
        check(line, &filter.to_string(), by_call);
    }
}

#[test]
fn every_call_about_tokens_is_for_those_that_manage() {
    let tenants = start();
    let check = |line: &str, body: &str, row| tenants.check(line, body, row);
    let tokens = "/api/namespaces/house/tokens";
    let managed = |status| owned(403, [403, 403, 403, status, status, status, status, status]);
    check(&format!("GET {tokens}"), "", managed(200));
    check(&format!("DELETE {tokens}/tok_none"), "", managed(404));
    check(
        &format!("POST {tokens}"),
        r#"{"scopes":["manage"]}"#,
        owned(403, [403, 403, 403, 201, 403, 403, 201, 201]),
    );
    check(
        &format!("POST {tokens}"),
        r#"{"scopes":["write"],"prefix":"house/in/a"}"#,
        owned(403, [403, 403, 403, 403, 201, 403, 201, 201]),
    );
    check(&format!("POST {tokens}"), "{}", owned(400, [400; 8]));
    let absent = "/api/namespaces/nothing/tokens";
    check(&format!("GET {absent}"), "", owned(404, [404; 8]));
    check(
        "POST /api/namespaces/nothing/token",
        "",
        owned(404, [404; 8]),
    );
    let whole = owned(403, [403, 403, 403, 403, 403, 403, 200, 200]);
    check("POST /api/namespaces/house/token", "", whole);
    check("POST /api/tickets", "", owned(201, [201; 8]));
}

#[test]
fn calls_of_the_operator_and_about_connectors_are_for_the_tokens_that_the_table_names() {
    let tenants = start();
    let check = |line: &str, body: &str, row| tenants.check(line, body, row);
    check("GET /api/namespaces", "", of_operator(403, 200));
    let taken = r#"{"name":"house"}"#;
    check("POST /api/namespaces", taken, of_operator(403, 409));
    let nothing = "DELETE /api/namespaces/nothing";
    check(nothing, "", of_operator(403, 404));
    check("PUT /api/admin/config", "{}", of_operator(401, 200));

    // Connectors, of which there is none.
    check("GET /api/connectors", "", owned(200, [200; 8]));
    check("GET /api/connectors/none", "", owned(404, [404; 8]));
    let changing = owned(403, [403, 403, 403, 403, 403, 403, 404, 404]);
    let none = "/api/connectors/none";
    check(&format!("DELETE {none}?namespace=house"), "", changing);
    check(
        &format!("DELETE {none}/token?namespace=house"),
        "",
        changing,
    );
    check(
        &format!("POST {none}/token?namespace=house"),
        r#"{"token":"x"}"#,
        changing,
    );
}

#[test]
fn an_item_of_a_batch_is_judged_by_the_token_of_the_batch() {
    let tenants = start();
    let events = format!(
        r#"{{"events":[{},{},{}]}}"#,
        event("house/in/1", "{}"),
        event("house/in/2", r#"{"__deleted__":true}"#),
        event("house/3", "{}")
    );
    let (scope, prefix) = ("scope_missing", "outside_prefix");
    let owner = "not_namespace_owner";
    for (kind, expected) in [
        ("foreign", [owner; 3]),
        ("read", [scope; 3]),
        ("write", ["", scope, ""]),
        ("delete", [scope, "", scope]),
        ("manage", [scope; 3]),
        ("inside", ["", "", prefix]),
        ("outside", [prefix; 3]),
        ("all", [""; 3]),
        ("operator", [owner; 3]),
    ] {
        let mut kinds = tenants.kinds.iter();
        let (_, token) = kinds.find(|(name, _)| *name == kind).expect("a kind");
        let call = ("POST", "/api/events/batch");
        let results = tenants.server.with_token(call, token, &events).json()["results"].clone();
        let codes = [0, 1, 2].map(|index| {
            let code = results[index]["code"].as_str();
            code.unwrap_or_default().to_owned()
        });
        assert_eq!(codes, expected, "{kind}: {results}");
    }
}

/// The status of a handshake, or of a request for a stream.
fn opening(server: &Server, target: &str, token: &str) -> u16 {
    let authorization = format!("Authorization: Bearer {token}");
    let mut fields = Vec::new();
    if target.starts_with("/api/ws") {
        fields.extend([
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ]);
    }
    if !token.is_empty() {
        fields.push(&authorization);
    }
    let mut connection = server.connect();
    connection.send(request("GET", target, &fields, ""));
    connection.response_to_head().status
}

#[test]
fn a_stream_is_opened_by_each_token_that_is_known_and_by_a_ticket_made_with_it() {
    let tenants = start();
    let server = &tenants.server;
    for (path, opened) in [("/api/ws", 101), ("/api/stream", 200)] {
        for ((kind, token), status) in tenants.kinds.iter().zip(open(opened)) {
            assert_eq!(opening(server, path, token), status, "{path} {kind}");
            let made = server.with_token(("POST", "/api/tickets"), token, "");
            let is_made = status != 401 && !token.is_empty();
            assert_eq!(
                made.status,
                if is_made { 201 } else { 401 },
                "{path} {kind}"
            );
            if is_made {
                let ticket = made.json()["ticket"].as_str().expect("one").to_owned();
                let target = format!("{path}?ticket={ticket}");
                assert_eq!(opening(server, &target, ""), opened, "{path} {kind}");
                assert_eq!(opening(server, &target, ""), 401, "{path} {kind}");
            }
        }
    }
}

/// The code of the error that a request is answered with; empty: it succeeds.
fn ask(watcher: &mut Watcher, message: &Value) -> String {
    watcher.send(&message.to_string());
    let answer = watcher.next();
    let code = answer["code"].as_str();
    code.unwrap_or_default().to_owned()
}

fn published(properties: &str) -> Value {
    let event: Value = serde_json::from_str(&event(ENTITY, properties)).expect("JSON");
    json!({"type": "publish", "id": 1, "event": event})
}

#[test]
fn a_websocket_is_opened_and_used_by_the_tokens_that_the_table_names() {
    let tenants = start();
    let (server, first) = (&tenants.server, &tenants.first);
    for ((kind, token), status) in tenants.kinds.iter().zip(open(101)) {
        assert_eq!(opening(server, "/api/ws", token), status, "{kind}");
        if status != 101 {
            continue;
        }
        let mut watcher = if token.is_empty() {
            Watcher::connect(server)
        } else {
            Watcher::connect_with_token(server, token)
        };
        let (missing, scope, prefix) = ("token_missing", "scope_missing", "outside_prefix");
        let owner = "not_namespace_owner";
        let [write, tombstone, delete] = match *kind {
            "none" => [missing; 3],
            "foreign" => [owner; 3],
            "write" => ["", scope, scope],
            "delete" => [scope, "", ""],
            "inside" | "all" => [""; 3],
            "outside" => [prefix; 3],
            "operator" => [owner, owner, ""],
            _ => [scope; 3],
        };
        for (message, expected) in [
            (published("{}"), write),
            (published(r#"{"__deleted__":true}"#), tombstone),
            (
                json!({"type": "delete", "id": 1, "entity_id": ENTITY}),
                delete,
            ),
            (json!({"type": "get", "id": 1, "entity_id": ENTITY}), ""),
        ] {
            assert_eq!(publish(server, first, ENTITY), 200);
            assert_eq!(ask(&mut watcher, &message), expected, "{kind}: {message}");
        }
    }
}

#[test]
fn a_token_that_dies_is_refused_on_the_websocket_that_it_opened() {
    let tenants = start();
    let made = make(&tenants.server, ADMIN, &json!({"scopes": ["write"]}));
    let mut watcher = Watcher::connect_with_token(&tenants.server, &token_in(&made));
    assert_eq!(ask(&mut watcher, &published("{}")), "");
    let id = made["id"].as_str().expect("an id");
    assert_eq!(revoke(&tenants.server, &tenants.first, id), 204);
    assert_eq!(ask(&mut watcher, &published("{}")), "token_unknown");
}

#[test]
fn tokens_are_shown_without_their_secrets_and_revoked_once() {
    let tenants = start();
    let server = &tenants.server;
    let before = tokens_of_house(server, ADMIN).len();
    let body = json!({
        "label": "the attic", "scopes": ["write", "read"], "prefix": "house/attic",
        "expires_in_seconds": 3600
    });
    let made = make(server, &tenants.first, &body);
    assert!(
        made["token"]
            .as_str()
            .expect("a token")
            .starts_with("flux_")
    );
    assert_eq!(made["scopes"], json!(["read", "write"]));
    assert_eq!(
        (&made["label"], &made["prefix"]),
        (&body["label"], &body["prefix"])
    );
    assert!(support::is_timestamp(
        made["expiresAt"].as_str().expect("a time")
    ));
    let listed = tokens_of_house(server, &tenants.first);
    assert_eq!(listed.len(), before + 1);
    let mut shown = listed.last().expect("a token").clone();
    assert_eq!(shown["lastUsedAt"], Value::Null);
    let members = shown.as_object_mut().expect("an object");
    members.remove("lastUsedAt");
    members.insert("token".to_owned(), made["token"].clone());
    assert_eq!(shown, made);
    assert_eq!(publish(server, &token_in(&made), "house/attic/1"), 200);
    let used = tokens_of_house(server, ADMIN).pop().expect("a token");
    let minute = used["lastUsedAt"].as_str().expect("a time");
    assert!(minute.ends_with(":00.000000Z"), "{minute}");
    let id = made["id"].as_str().expect("an id");
    assert_eq!(revoke(server, &tenants.first, id), 204);
    assert_eq!(publish(server, &token_in(&made), "house/attic/1"), 401);
    assert_eq!(revoke(server, &tenants.first, id), 404);
    // The token of the registration is replaced alone.
    let writer = token_in(&make(server, ADMIN, &json!({"scopes": ["write"]})));
    let call = ("POST", "/api/namespaces/house/token");
    let replaced = server.with_token(call, &tenants.first, "");
    assert_eq!(replaced.status, 200);
    assert_eq!(publish(server, &tenants.first, ENTITY), 401);
    assert_eq!(publish(server, &token_in(&replaced.json()), ENTITY), 200);
    assert_eq!(publish(server, &writer, ENTITY), 200);
}

#[test]
fn tokens_and_revocations_survive_a_stop_and_a_kill_with_other_shard_counts() {
    let Tenants {
        mut server,
        setup,
        first,
        kinds,
        _dir,
    } = start();
    let mut living = Vec::new();
    for (round, shards) in [2, 1, 3].into_iter().enumerate() {
        let made = make(&server, &first, &json!({"scopes": ["write", "manage"]}));
        let revoked = make(&server, &token_in(&made), &json!({"scopes": ["write"]}));
        let id = revoked["id"].as_str().expect("an id");
        assert_eq!(publish(&server, &token_in(&made), ENTITY), 200);
        assert_eq!(revoke(&server, &token_in(&made), id), 204);
        living.push(token_in(&made));
        let used = tokens_of_house(&server, &first);
        let stops = round % 2 == 0;
        if stops {
            server.stop();
        } else {
            server.kill();
        }
        server = setup
            .clone()
            .env("FLUX_SHARDS", &shards.to_string())
            .start();
        let story = format!("round {round}");
        if stops {
            assert_eq!(tokens_of_house(&server, &first), used, "{story}");
        }
        for token in &living {
            assert_eq!(publish(&server, token, ENTITY), 200, "{story}");
        }
        assert_eq!(
            publish(&server, &token_in(&revoked), ENTITY),
            401,
            "{story}"
        );
        for (kind, token) in &kinds {
            let dead = ["malformed", "unknown", "expired", "revoked"].contains(kind);
            let status = server.with_token(("GET", "/health"), token, "").status;
            assert_eq!(status, if dead { 401 } else { 200 }, "{story}: {kind}");
        }
    }
    // What a namespace leaves is nobody's.
    let call = ("DELETE", "/api/namespaces/house");
    assert_eq!(server.with_token(call, ADMIN, "").status, 204);
    for token in living.iter().chain([&first]) {
        assert_eq!(publish(&server, token, ENTITY), 401);
    }
}
