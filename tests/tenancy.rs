//! Tenants on one server: who may write what, and when that changes.
//!
//! An operator starts a server with tokens in force, tenants get namespaces, and each call is tried
//! with every kind of token. Tokens are replaced and namespaces deleted while their owners publish.
//! The server is killed after each control call.

mod support;

use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use support::http::request;
use support::server::{Server, Setup};
use support::{batch, event, wait_for};
use tempfile::TempDir;

const ADMIN: &str = "operator-secret-0123456789";

/// Who may send a request.
const NOBODY: &str = "";
const UNKNOWN: &str = "flux_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn setup(dir: &TempDir, shards: u32) -> Setup {
    Setup::new(dir.path(), shards)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", ADMIN)
}

fn start(shards: u32) -> (Server, TempDir) {
    let dir = TempDir::new().expect("a temporary directory");
    (setup(&dir, shards).start(), dir)
}

/// Registers a namespace; returns its token.
fn register(server: &Server, name: &str) -> String {
    let body = json!({ "name": name }).to_string();
    let answer = server.with_token(("POST", "/api/namespaces"), ADMIN, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let registered = answer.json();
    assert_eq!(registered["name"], name);
    token_of(&registered)
}

fn token_of(answer: &Value) -> String {
    answer["token"].as_str().expect("a token").to_owned()
}

fn replace_token(server: &Server, name: &str, token: &str) -> String {
    let target = format!("/api/namespaces/{name}/token");
    let answer = server.with_token(("POST", &target), token, "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    token_of(&answer.json())
}

fn publish(server: &Server, token: &str, id: &str) -> u16 {
    let body = event(id, r#"{"n":1}"#);
    server
        .with_token(("POST", "/api/events"), token, &body)
        .status
}

#[test]
fn every_write_is_for_the_owner_alone() {
    for shards in [1, 2] {
        let (server, _dir) = start(shards);
        let own = register(&server, "house");
        let foreign = register(&server, "garden");
        let dead = register(&server, "cellar");
        let deleted = server.with_token(("DELETE", "/api/namespaces/cellar"), ADMIN, "");
        assert_eq!(deleted.status, 204);
        let replaced = own.clone();
        let own = replace_token(&server, "house", &own);
        // Who, and the status of a publish, of an item of a batch (0: of the whole), of a deletion,
        // of a batch delete.
        let matrix = [
            (NOBODY, 401, 0, 401, 401),
            (UNKNOWN, 401, 0, 401, 401),
            ("not/a\"token", 401, 0, 401, 401),
            (&foreign, 403, 403, 403, 403),
            (&replaced, 401, 0, 401, 401),
            (&dead, 401, 0, 401, 401),
            (ADMIN, 403, 403, 200, 200),
            (&own, 200, 200, 200, 200),
        ];
        for (token, single, item, delete, delete_many) in matrix {
            let story = format!("{shards} shards, token {token:?}");
            for id in ["house/a", "house/b"] {
                assert_eq!(publish(&server, &own, id), 200, "{story}");
            }
            assert_eq!(publish(&server, token, "house/c"), single, "{story}");
            let items = batch(&[event("house/d", "{}"), event("house/e/f", "{}")]);
            let answer = server.with_token(("POST", "/api/events/batch"), token, &items);
            match item {
                0 => assert_eq!(answer.status, 401, "{story}"),
                200 => assert_eq!(answer.json()["successful"], 2, "{story}"),
                _ => {
                    assert_eq!((answer.status, &answer.json()["failed"]), (200, &json!(2)));
                    let verdict = &answer.json()["results"][0];
                    assert_eq!(verdict["code"], "not_namespace_owner", "{story}");
                    assert!(verdict["eventId"].is_string(), "{story}");
                }
            }
            let call = ("DELETE", "/api/state/entities/house/a");
            assert_eq!(server.with_token(call, token, "").status, delete, "{story}");
            for filter in [
                json!({"entity_ids": ["house/b"]}),
                json!({"prefix": "hou"}),
                json!({"namespace": "house"}),
            ] {
                assert_eq!(publish(&server, &own, "house/b"), 200, "{story}");
                let call = ("POST", "/api/state/entities/delete");
                let answer = server.with_token(call, token, &filter.to_string());
                assert_eq!(answer.status, delete_many, "{story}: {filter}");
                let is_there = server.entity("house/b").status == 200;
                assert_eq!(is_there, delete_many != 200, "{story}: {filter}");
            }
        }
    }
}

#[test]
fn reads_stay_open_and_ids_must_lie_in_a_namespace() {
    let (server, _dir) = start(2);
    let token = register(&server, "house");
    assert_eq!(publish(&server, &token, "house/room"), 200);
    for target in [
        "/api/state/entities/house/room",
        "/api/state/entities",
        "/api/events?entity=house/room",
    ] {
        assert_eq!(server.get(target).status, 200, "{target}");
    }
    for id in ["room", "house", "house/", "/room"] {
        assert_eq!(publish(&server, &token, id), 400, "{id}");
        let call = (
            "DELETE",
            &*format!("/api/state/entities/{}", id.replace('/', "%2F")),
        );
        assert_eq!(server.with_token(call, &token, "").status, 400, "{id}");
        assert_eq!(server.with_token(call, ADMIN, "").status, 404, "{id}");
    }
    assert_eq!(publish(&server, &token, "flux-core/x"), 403);
    // A filter that matches another namespace's entity deletes nothing.
    let other = register(&server, "houseboat");
    assert_eq!(publish(&server, &other, "houseboat/room"), 200);
    let body = json!({"prefix": "house"}).to_string();
    let answer = server.with_token(("POST", "/api/state/entities/delete"), &token, &body);
    answer.expect_error(403, "a prefix over two namespaces");
    assert_eq!(server.entities().len(), 2);
    let body = json!({"prefix": "house/"}).to_string();
    let answer = server.with_token(("POST", "/api/state/entities/delete"), &token, &body);
    assert_eq!(answer.json()["deleted"], 1);
}

#[test]
fn the_checks_come_in_the_order_of_the_contract() {
    let (server, _dir) = start(1);
    let token = register(&server, "house");
    let call = ("POST", "/api/events");
    let status = |token: &str, body: &str| server.with_token(call, token, body).status;
    assert_eq!(status(NOBODY, "not JSON"), 401, "a token before JSON");
    assert_eq!(status(&token, "not JSON"), 400);
    let bad_field = event("other/x", "{}").replace(r#""stream":""#, r#""stream":"BAD "#);
    assert_eq!(status(&token, &bad_field), 400, "fields before ownership");
    let huge = event("house/x", &format!(r#"{{"x":"{}"}}"#, "x".repeat(1 << 20)));
    assert_eq!(status(NOBODY, &huge), 413, "size before the token");
    let answer = server.with_token(call, NOBODY, "{}");
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer realm=\"flux\"")
    );
}

#[test]
fn an_authorization_field_that_is_anything_else_is_401() {
    let (server, _dir) = start(1);
    let token = register(&server, "house");
    let body = event("house/a", "{}");
    let mut seed = 11_u64;
    let mut fields: Vec<String> = [
        "",
        "Bearer",
        "Basic YTpi",
        "Bearer  ",
        "Token x",
        "Bearer a b",
    ]
    .map(str::to_owned)
    .to_vec();
    fields.push(format!("Bearer {token}x"));
    fields.push(format!("Bearer {}", &token[..token.len() - 1]));
    fields.push(format!("Bearer {}", token.to_uppercase()));
    fields.push(token.clone());
    fields.push(format!("Bearer {}", "y".repeat(7000)));
    for _ in 0..200 {
        let mut field = format!("Bearer {token}").into_bytes();
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let at = 7 + usize::try_from(seed >> 33).expect("it fits") % token.len();
        let byte = b' ' + u8::try_from((seed >> 20) % 95).expect("below 95");
        if field[at] == byte {
            continue;
        }
        field[at] = byte;
        fields.push(String::from_utf8(field).expect("ASCII"));
    }
    let mut connection = server.connect();
    for field in &fields {
        connection.send(request(
            "POST",
            "/api/events",
            &[&format!("Authorization: {field}")],
            &body,
        ));
        assert_eq!(connection.response().status, 401, "{field:?}");
    }
    let right = format!("bEARER   {token}");
    let right = format!("Authorization: {right}");
    let twice = [&*right, &*right];
    connection.send(request("POST", "/api/events", &twice, &body));
    assert_eq!(connection.response().status, 401, "sent twice");
    connection.send(request("POST", "/api/events", &twice[..1], &body));
    assert_eq!(connection.response().status, 200, "the scheme in any case");
}

const REGISTER: (&str, &str) = ("POST", "/api/namespaces");

#[test]
fn a_registration_that_breaks_a_rule_is_refused() {
    let (server, _dir) = start(1);
    let token = register(&server, "house");
    for (token, body, expected) in [
        (NOBODY, "{}", 401),
        (UNKNOWN, "{}", 401),
        (&*token, "{}", 403),
        (ADMIN, "[]", 400),
        (ADMIN, r#"{"name":"ab"}"#, 400),
        (ADMIN, r#"{"name":"UPPER"}"#, 400),
        (ADMIN, r#"{"name":7}"#, 400),
        (ADMIN, r#"{"name":"flux-core"}"#, 403),
        (ADMIN, r#"{"name":"house"}"#, 409),
    ] {
        let answer = server.with_token(REGISTER, token, body);
        answer.expect_error(expected, body);
    }
}

#[test]
fn namespaces_are_shown_to_all_and_listed_for_the_operator() {
    for shards in [1, 2] {
        let (server, _dir) = start(shards);
        let made_up = server.with_token(REGISTER, ADMIN, "").json();
        let name = made_up["name"].as_str().expect("a name").to_owned();
        let id = made_up["namespaceId"].as_str().expect("an id");
        assert!(name.contains('-') && id.starts_with("ns_"), "{made_up}");
        let token = token_of(&made_up);
        assert_eq!(publish(&server, &token, &format!("{name}/a")), 200);
        for n in 0..5 {
            register(&server, &format!("zoo-{n}"));
        }
        let shown = server.get(&format!("/api/namespaces/{name}")).json();
        assert_eq!(shown["entityCount"], 1);
        assert_eq!(shown["namespaceId"], made_up["namespaceId"]);
        assert!(shown["createdAt"].is_string() && shown.get("token").is_none());
        assert_eq!(server.get("/api/namespaces/nobody").status, 404);

        let list = ("GET", "/api/namespaces");
        for (token, expected) in [(NOBODY, 401), (UNKNOWN, 401), (&*token, 403)] {
            let answer = server.with_token(list, token, "");
            answer.expect_error(expected, "a list");
        }
        let all = server.with_token(list, ADMIN, "").json();
        let names = |answer: &Value| -> Vec<String> {
            let listed = answer["namespaces"].as_array().expect("an array").iter();
            let names = listed.map(|it| it["name"].as_str().expect("a name"));
            names.map(str::to_owned).collect()
        };
        assert_eq!(names(&all).len(), 6);
        assert!(names(&all).is_sorted() && !all.to_string().contains("token"));
        let page = ("GET", "/api/namespaces?limit=2&after=zoo-1");
        let page = server.with_token(page, ADMIN, "");
        assert_eq!(names(&page.json()), ["zoo-2", "zoo-3"]);
        let link = page.header("link").expect("there is more");
        assert!(link.contains("limit=2&after=zoo-3"), "{link}");
    }
}

#[test]
fn a_long_list_of_namespaces_is_whole_and_in_order() {
    let (server, _dir) = start(2);
    let mut connection = server.connect();
    let field = format!("Authorization: Bearer {ADMIN}");
    let mut token = String::new();
    for n in 0..2_300 {
        let body = format!(r#"{{"name":"n{n:04}"}}"#);
        connection.send(request("POST", "/api/namespaces", &[&field], &body));
        token = token_of(&connection.response().json());
    }
    assert_eq!(publish(&server, &token, "n2299/a"), 200);
    let all = server.with_token(("GET", "/api/namespaces"), ADMIN, "");
    assert!(all.header("link").is_none());
    let all = all.json();
    let all = all["namespaces"].as_array().expect("an array");
    for (n, shown) in all.iter().enumerate() {
        assert_eq!(shown["name"], format!("n{n:04}"));
        assert_eq!(shown["entityCount"], u64::from(n == 2_299));
    }
    assert_eq!(all.len(), 2_300);
    for (limit, more) in [
        (1_000, true),
        (1_500, true),
        (2_299, true),
        (2_300, false),
        (9_000, false),
    ] {
        let target = format!("/api/namespaces?limit={limit}");
        let page = server.with_token(("GET", &target), ADMIN, "");
        let shown = page.json()["namespaces"].as_array().map(Vec::len);
        assert_eq!(shown, Some(limit.min(2_300)));
        assert_eq!(page.header("link").is_some(), more, "{limit}");
    }
    let beyond = server.with_token(("GET", "/api/namespaces?after=zzz"), ADMIN, "");
    assert_eq!(beyond.json(), json!({"namespaces": []}));
}

#[test]
fn a_deleted_namespace_leaves_its_entities_unless_they_are_purged() {
    for shards in [1, 2] {
        let (server, _dir) = start(shards);
        let token = register(&server, "house");
        assert_eq!(publish(&server, &token, "house/a"), 200);
        let delete = ("DELETE", "/api/namespaces/house");
        for (token, expected) in [(NOBODY, 401), (UNKNOWN, 401), (&*token, 403)] {
            let answer = server.with_token(delete, token, "");
            answer.expect_error(expected, "a deletion");
        }
        assert_eq!(server.with_token(delete, ADMIN, "").status, 204);
        let again = server.with_token(delete, ADMIN, "");
        again.expect_error(404, "it is gone");
        assert_eq!(publish(&server, &token, "house/b"), 401);
        assert_eq!(server.entity("house/a").status, 200, "entities stay");
        let body = r#"{"name":"house"}"#;
        let refused = server.with_token(REGISTER, ADMIN, body);
        refused.expect_error(409, "entities are left in it");
        let left = json!({"namespace": "house"}).to_string();
        let cleared = server.with_token(("POST", "/api/state/entities/delete"), ADMIN, &left);
        assert_eq!(cleared.json()["deleted"], 1);

        let token = register(&server, "house");
        let ids = (0..2_500).map(|n| event(&format!("house/{n}"), "{}"));
        let events = batch(&ids.collect::<Vec<_>>());
        let answer = server.with_token(("POST", "/api/events/batch"), &token, &events);
        assert_eq!(answer.json()["successful"], 2_500);
        let purge = ("DELETE", "/api/namespaces/house?purge=true");
        assert_eq!(server.with_token(purge, ADMIN, "").status, 204);
        assert_eq!(server.entities().len(), 0, "purged");
        register(&server, "house");
    }
}

#[test]
fn without_an_operator_registration_is_open_and_the_rest_is_closed() {
    let dir = TempDir::new().expect("a temporary directory");
    let server = Setup::new(dir.path(), 1)
        .env("FLUX_AUTH_ENABLED", "1")
        .start();
    assert!(server.said().contains("FLUX_ADMIN_TOKEN is not set"));
    let registered = server.post("/api/namespaces", r#"{"name":"house"}"#).json();
    assert_eq!(publish(&server, &token_of(&registered), "house/a"), 200);
    let list = server.with_token(("GET", "/api/namespaces"), ADMIN, "");
    list.expect_error(403, "nobody is the operator");
    let put = server.with_token(("PUT", "/api/admin/config"), ADMIN, "{}");
    put.expect_error(403, "nobody is the operator");
}

#[test]
fn without_auth_there_are_no_namespaces_to_register() {
    let server = Server::start(1);
    for (method, target) in [
        ("GET", "/api/namespaces"),
        ("POST", "/api/namespaces"),
        ("GET", "/api/namespaces/house"),
        ("DELETE", "/api/namespaces/house"),
        ("POST", "/api/namespaces/house/token"),
    ] {
        let answer = server.request(method, target, "");
        answer.expect_error(404, &format!("{method} {target}"));
    }
    server.publish("no-namespace", "{}");
}

#[test]
fn what_was_answered_survives_a_kill_after_every_control_call() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut shards = 1;
    let mut restart = || {
        shards = shards % 3 + 1;
        setup(&dir, shards).start()
    };
    let server = restart();
    let first = register(&server, "house");
    server.kill();
    let server = restart();
    assert_eq!(publish(&server, &first, "house/a"), 200);
    let second = replace_token(&server, "house", &first);
    server.kill();
    let server = restart();
    assert_eq!(publish(&server, &first, "house/a"), 401);
    assert_eq!(publish(&server, &second, "house/a"), 200);
    let put = ("PUT", "/api/admin/config");
    let answer = server.with_token(put, ADMIN, r#"{"max_batch_delete":5}"#);
    assert_eq!(answer.json()["max_batch_delete"], 5);
    server.kill();
    let server = restart();
    assert_eq!(
        server.get("/api/admin/config").json()["max_batch_delete"],
        5
    );
    let shown = server.get("/api/namespaces/house").json();
    assert_eq!(shown["entityCount"], 1);
    let deleted = server.with_token(("DELETE", "/api/namespaces/house"), ADMIN, "");
    assert_eq!(deleted.status, 204);
    server.kill();
    let server = restart();
    assert_eq!(publish(&server, &second, "house/a"), 401);
    assert_eq!(server.get("/api/namespaces/house").status, 404);
    assert_eq!(server.entity("house/a").status, 200);
}

#[test]
fn after_the_answer_no_write_with_the_old_token_is_accepted_on_any_core() {
    let (server, _dir) = start(2);
    let server = &server;
    for round in 0..10 {
        let name = format!("race-{round}");
        let token = &register(server, &name);
        let is_dead = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..6)
                .map(|writer| {
                    let id = format!("{name}/{writer}");
                    scope.spawn(move || write_until_refused(server, token, &id, is_dead))
                })
                .collect();
            wait_for("some events", || {
                let listed = server.get(&format!("/api/state/entities?namespace={name}"));
                (listed.json().as_array().map_or(0, Vec::len) >= 6).then_some(())
            });
            if round % 2 == 0 {
                replace_token(server, &name, token);
            } else {
                let target = format!("/api/namespaces/{name}");
                assert_eq!(
                    server.with_token(("DELETE", &target), ADMIN, "").status,
                    204
                );
            }
            is_dead.store(true, Ordering::SeqCst);
            for writer in writers {
                let accepted: u32 = writer.join().expect("a writer");
                assert!(accepted > 0, "each published before");
            }
        });
    }
}

/// Publishes with a replaced token until it is refused. Returns how often it was accepted.
fn write_until_refused(server: &Server, token: &str, id: &str, is_dead: &AtomicBool) -> u32 {
    let mut connection = server.connect();
    let field = format!("Authorization: Bearer {token}");
    let mut accepted = 0;
    loop {
        let was_dead = is_dead.load(Ordering::SeqCst);
        let body = event(id, "{}");
        connection.send(request("POST", "/api/events", &[&field], &body));
        match connection.response().status {
            200 => {
                assert!(!was_dead, "accepted after the answer");
                accepted += 1;
            }
            401 if was_dead => return accepted,
            401 => {}
            other => panic!("{other}"),
        }
    }
}

#[test]
fn tokens_are_nowhere_but_in_their_answer() {
    let (server, dir) = start(1);
    let token = register(&server, "house");
    assert_eq!(publish(&server, &token, "house/a"), 200);
    let second = replace_token(&server, "house", &token);
    assert_eq!(publish(&server, &token, "house/a"), 401);
    let said = server.said();
    server.stop();
    let mut files = vec![dir.path().to_path_buf()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a directory");
            files.extend(entries.map(|entry| entry.expect("an entry").path()));
            continue;
        }
        let bytes = std::fs::read(&path).expect("a file");
        for secret in [&*token, &*second, ADMIN] {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "{}", path.display());
            assert!(!said.contains(secret));
        }
    }
}
