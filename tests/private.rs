//! Private namespaces: what each kind of reader is told of one, over every call that reads, on a
//! running server (API contract §16).
//!
//! The tables are the claim. A column is a kind of reader, a row a call. Each call is sent on a
//! connection of its own, so that it reaches any core.

mod support;

use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use support::event;
use support::http::Response;
use support::server::{Server, Setup};
use support::wait_for;
use tempfile::TempDir;

const ADMIN: &str = "operator-secret-0123456789";
const KINDS: usize = 7;
const NAMES: [&str; KINDS] = [
    "none", "foreign", "read", "write", "inside", "outside", "operator",
];
/// The entity that most calls are about, and another of the namespace.
const ENTITY: &str = "house/in/x";
const OTHER: &str = "house/z";
/// What nobody but readers is told: a value of the one, and of the other.
const SECRET: &str = "s3cret-in";
const OTHER_SECRET: &str = "s3cret-z";

/// The status, by kind of reader: without a token, with another namespace's, with tokens of `house`
/// that let their holder read, or write alone, or read with the entity's prefix or with another;
/// the operator.
type Row = [u16; KINDS];

/// Who is told of [`ENTITY`], and who of [`OTHER`].
const INSIDE: [bool; KINDS] = [false, false, true, false, true, false, true];
const WHOLE: [bool; KINDS] = [false, false, true, false, false, false, true];

struct House {
    server: Server,
    setup: Setup,
    /// The token of the registration.
    first: String,
    readers: [String; KINDS],
    dir: TempDir,
}

fn call(server: &Server, line: &str, token: &str, body: &str) -> Response {
    let (method, target) = line.split_once(' ').expect("a method and a target");
    if method != "HEAD" {
        return server.with_token((method, target), token, body);
    }
    let field = format!("Authorization: Bearer {token}");
    let fields = [field.as_str()];
    let fields = if token.is_empty() { &[][..] } else { &fields };
    let mut connection = server.connect();
    connection.send(support::http::request(method, target, fields, body));
    connection.response_to_head()
}

fn token_in(answer: &Response) -> String {
    let json = answer.json();
    json["token"].as_str().expect("a token").to_owned()
}

fn make(server: &Server, by: &str, body: &Value) -> String {
    let line = "POST /api/namespaces/house/tokens";
    let answer = call(server, line, by, &body.to_string());
    assert_eq!(answer.status, 201, "{body}: {}", answer.text());
    token_in(&answer)
}

fn register(server: &Server, name: &str) -> String {
    let body = json!({ "name": name }).to_string();
    let answer = call(server, "POST /api/namespaces", ADMIN, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    token_in(&answer)
}

fn set_read(server: &Server, by: &str, read: &str) {
    let body = json!({ "read": read }).to_string();
    let answer = call(server, "PATCH /api/namespaces/house", by, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["read"], read);
}

fn publish(server: &Server, token: &str, id: &str, properties: &str) {
    let answer = call(server, "POST /api/events", token, &event(id, properties));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn secret(text: &str) -> String {
    json!({ "secret": text }).to_string()
}

fn setup(dir: &Path, shards: u32) -> Setup {
    Setup::new(dir, shards)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", ADMIN)
}

/// A server with `house`, which is private, and `garden`, which is not.
fn start(shards: u32) -> House {
    let dir = TempDir::new().expect("a temporary directory");
    let setup = setup(&dir.path().join("data"), shards);
    let server = setup.start();
    let [first, foreign] = ["house", "garden"].map(|name| register(&server, name));
    publish(&server, &foreign, "garden/open", "{}");
    publish(&server, &first, ENTITY, &secret(SECRET));
    publish(&server, &first, OTHER, &secret(OTHER_SECRET));
    set_read(&server, &first, "private");
    let of = |scopes: Value, prefix: Value| {
        make(
            &server,
            &first,
            &json!({"scopes": scopes, "prefix": prefix}),
        )
    };
    let readers = [
        String::new(),
        foreign,
        of(json!(["read"]), Value::Null),
        of(json!(["write", "delete", "manage"]), Value::Null),
        of(json!(["read"]), json!("house/in/")),
        of(json!(["read"]), json!("house/out/")),
        ADMIN.to_owned(),
    ];
    House {
        server,
        setup,
        first,
        readers,
        dir,
    }
}

/// An answer without what differs from one to the next of the same call.
fn plain(answer: &Response) -> (u16, Vec<(String, String)>, String) {
    let mut fields = answer.headers.clone();
    fields.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
    (answer.status, fields, answer.text().to_owned())
}

impl House {
    /// Sends a call as each reader. Checks the statuses, and who is told of which entity.
    fn check(&self, line: &str, row: Row, told: [[bool; KINDS]; 2]) {
        let mut statuses = [0; KINDS];
        for (index, reader) in self.readers.iter().enumerate() {
            let answer = call(&self.server, line, reader, "");
            statuses[index] = answer.status;
            let text = answer.text();
            for (secret, told) in [SECRET, OTHER_SECRET].into_iter().zip(told) {
                let name = NAMES[index];
                assert_eq!(text.contains(secret), told[index], "{line} {name}: {text}");
            }
            if !INSIDE[index] {
                let fields: Vec<_> = answer.headers.iter().map(|(_, value)| value).collect();
                assert!(
                    !fields.iter().any(|value| value.contains("house")),
                    "{line}"
                );
            }
        }
        let story = |row: Row| NAMES.into_iter().zip(row).collect::<Vec<_>>();
        assert_eq!(story(statuses), story(row), "{line}");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test outside of the server")]
fn now_millis() -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock after 1970").as_millis()
}

const NOBODY: [bool; KINDS] = [false; KINDS];
const FOUND: Row = [404, 404, 200, 404, 200, 404, 200];

fn check_reads(house: &House) {
    for target in [
        "/api/state/entities/house%2Fin%2Fx",
        "/api/state/entities/house/in/x?fields=secret",
        "/api/state/entity?id=house/in/x",
    ] {
        house.check(&format!("GET {target}"), FOUND, [INSIDE, NOBODY]);
        house.check(&format!("HEAD {target}"), FOUND, [NOBODY, NOBODY]);
    }
    let row = [404, 404, 200, 404, 404, 404, 200];
    house.check("GET /api/state/entities/house/z", row, [NOBODY, WHOLE]);
    for query in [
        "",
        "?namespace=house",
        "?prefix=house/",
        "?prefix=h",
        "?limit=100",
        "?namespace=house&limit=100",
        "?filter=exists(secret)",
        "?filter=exists(secret)&limit=100",
    ] {
        let line = format!("GET /api/state/entities{query}");
        house.check(&line, [200; KINDS], [INSIDE, WHOLE]);
    }
    let line = "GET /api/state/entities?prefix=house/in";
    house.check(line, [200; KINDS], [INSIDE, NOBODY]);
}

fn check_past(house: &House) {
    let at = now_millis();
    wait_for("the past to begin", || {
        (now_millis() > at + 2).then_some(())
    });
    let one = format!("GET /api/state/entities/house/in/x?at={at}");
    house.check(&one, FOUND, [INSIDE, NOBODY]);
    for query in ["", "&namespace=house", "&prefix=house/", "&limit=100"] {
        let line = format!("GET /api/state/entities?at={at}{query}");
        house.check(&line, [200; KINDS], [INSIDE, WHOLE]);
    }
    let row = [401, 403, 200, 403, 200, 403, 200];
    house.check("GET /api/events?entity=house/in/x", row, [INSIDE, NOBODY]);
    let row = [401, 403, 200, 403, 403, 403, 200];
    house.check("GET /api/events?entity=house/z", row, [NOBODY, WHOLE]);
    let row = [401, 403, 200, 403, 200, 200, 200];
    house.check("GET /api/events?namespace=house", row, [INSIDE, WHOLE]);
    let refused = call(
        &house.server,
        "GET /api/events?namespace=house",
        &house.readers[1],
        "",
    );
    assert_eq!(refused.json()["code"], "not_readable");
}

/// The names in a directory, and its sums.
fn directory(server: &Server, token: &str) -> (Vec<String>, u64, u64) {
    let line = "GET /api/state/entities/flux-core/directory";
    let answer = call(server, line, token, "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let properties = answer.json()["properties"].clone();
    let rows = properties["namespaces"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let names = rows.iter().filter_map(|row| row["name"].as_str());
    let sum = |name: &str| properties[name].as_u64().expect("a number");
    (
        names.map(str::to_owned).collect(),
        sum("total_namespaces"),
        sum("total_entities"),
    )
}

fn check_names(house: &House) {
    let row = [404, 404, 200, 404, 404, 404, 200];
    house.check("GET /api/namespaces/house", row, [NOBODY, NOBODY]);
    for (reader, sees) in house.readers.iter().zip(WHOLE) {
        let expected = if sees {
            (vec!["garden".to_owned(), "house".to_owned()], 2, 3)
        } else {
            (vec!["garden".to_owned()], 1, 1)
        };
        wait_for("the directory to count all", || {
            (directory(&house.server, reader) == expected).then_some(())
        });
        for query in ["?namespace=flux-core", "?prefix=flux-core/&limit=1"] {
            let line = format!("GET /api/state/entities{query}");
            let answer = call(&house.server, &line, reader, "");
            let listed = answer.text();
            assert_eq!(listed.contains("\"house\""), sees, "{listed}");
        }
    }
}

#[test]
fn what_is_private_is_told_to_its_readers_alone_also_after_a_restart_with_other_shards() {
    let mut house = start(2);
    for shards in [2, 3, 1] {
        check_reads(&house);
        check_past(&house);
        check_names(&house);
        house.server.stop();
        house.setup = setup(&house.dir.path().join("data"), shards);
        house.server = house.setup.start();
    }
    // A backup of it tells no more.
    house.server.stop();
    let path = |name: &str| house.dir.path().join(name);
    let (data, copy, restored) = (path("data"), path("copy"), path("restored"));
    for (command, from, to) in [("backup", &data, &copy), ("restore", &restored, &copy)] {
        let mut flux = Command::new(env!("CARGO_BIN_EXE_flux"));
        flux.args([command, "--data-dir"]).arg(from).arg(to);
        assert!(
            flux.output().expect("it runs").status.success(),
            "{command}"
        );
    }
    house.setup = setup(&restored, 2);
    house.server = house.setup.start();
    check_reads(&house);
    check_past(&house);
}

#[test]
fn what_one_may_not_read_is_answered_as_what_is_not_there() {
    let house = start(2);
    for token in [0, 1, 3, 5].map(|index| house.readers[index].as_str()) {
        for path in [
            "/api/state/entities/NAME/in/x",
            "/api/state/entities/NAME/in/x?at=1",
            "/api/state/entities?namespace=NAME&limit=1",
            "/api/state/entities?prefix=NAME/in&limit=1&at=1",
            "/api/namespaces/NAME",
        ] {
            let ask = |name: &str| {
                let line = format!("GET {}", path.replace("NAME", name));
                plain(&call(&house.server, &line, token, ""))
            };
            let (hidden, absent) = (ask("house"), ask("absent"));
            let without_cursor = |(status, mut fields, text): (u16, Vec<(String, String)>, _)| {
                fields.retain(|(name, _)| !name.eq_ignore_ascii_case("flux-cursor"));
                (status, fields, text)
            };
            assert_eq!(without_cursor(hidden), without_cursor(absent), "{path}");
        }
    }
    let mut connection = house.server.connect();
    let tag = call(
        &house.server,
        "GET /api/state/entities/house/in/x",
        ADMIN,
        "",
    );
    let tag = tag.header("etag").expect("a tag").to_owned();
    let condition = format!("If-None-Match: {tag}");
    let path = "/api/state/entities/house/in/x";
    connection.send(support::http::request("GET", path, &[&condition], ""));
    assert_eq!(connection.response().status, 404);
}

#[test]
fn pages_go_on_past_what_is_hidden_and_name_none_of_it() {
    let house = start(2);
    let foreign = &house.readers[1];
    for number in 0..30 {
        publish(&house.server, foreign, &format!("garden/{number}"), "{}");
        publish(
            &house.server,
            &house.first,
            &format!("house/{number}"),
            "{}",
        );
    }
    let of_zoo = register(&house.server, "zoo");
    publish(&house.server, &of_zoo, "zoo/1", "{}");
    for (token, count) in [(foreign.as_str(), 33), (&house.readers[2], 65)] {
        let mut ids: Vec<String> = Vec::new();
        let mut target = "/api/state/entities?limit=4".to_owned();
        loop {
            let page = call(&house.server, &format!("GET {target}"), token, "");
            let entities = page.json();
            let entities = entities.as_array().expect("a list").iter();
            ids.extend(entities.filter_map(|it| it["id"].as_str().map(str::to_owned)));
            let Some(link) = page.header("link") else {
                break;
            };
            let end = link.find('>').expect("a link");
            target = link[1..end].to_owned();
        }
        assert!(ids.is_sorted());
        assert_eq!(ids.len(), count, "{ids:?}");
    }
}

#[test]
fn who_may_read_is_said_by_those_that_manage_and_in_force_at_once() {
    let house = start(2);
    let of = |scopes: Value, prefix: Value| {
        let body = json!({"scopes": scopes, "prefix": prefix});
        make(&house.server, &house.first, &body)
    };
    let managing = of(json!(["manage"]), Value::Null);
    let narrow = of(json!(["manage"]), json!("house/in/"));
    let line = "PATCH /api/namespaces/house";
    let public = r#"{"read":"public"}"#;
    for (token, body, status) in [
        ("", public, 401),
        (house.readers[1].as_str(), public, 404),
        (&house.readers[2], public, 403),
        (&narrow, public, 403),
        (&managing, "{}", 400),
        (&managing, r#"{"read":"secret"}"#, 400),
        (&managing, r#"{"read":1}"#, 400),
        (&managing, public, 200),
        (ADMIN, public, 200),
    ] {
        let answer = call(&house.server, line, token, body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
    }
    let absent = "PATCH /api/namespaces/absent";
    assert_eq!(call(&house.server, absent, ADMIN, public).status, 404);
    let reserved = "PATCH /api/namespaces/flux-core";
    assert_eq!(call(&house.server, reserved, ADMIN, public).status, 403);
    for round in 0..20 {
        let (read, status) = if round % 2 == 0 {
            ("private", 404)
        } else {
            ("public", 200)
        };
        set_read(&house.server, &managing, read);
        for _ in 0..4 {
            let answer = house.server.entity(ENTITY);
            assert_eq!(answer.status, status, "{read}");
            let shown = directory(&house.server, "").0;
            assert!(read == "public" || !shown.contains(&"house".to_owned()));
        }
    }
}

#[test]
fn who_writes_without_reading_learns_nothing_by_writing() {
    let house = start(2);
    let writer = make(
        &house.server,
        &house.first,
        &json!({"scopes": ["write", "delete"]}),
    );
    let publish = |token: &str, more: Value| {
        let mut body: Value = serde_json::from_str(&event(ENTITY, "{}")).expect("JSON");
        for (name, value) in more.as_object().expect("an object") {
            match body["payload"].as_object_mut() {
                Some(payload) if name == "increment" => {
                    payload.insert(name.clone(), value.clone());
                }
                _ => body[name] = value.clone(),
            }
        }
        let batch = json!({ "events": [body.clone()] }).to_string();
        let one = call(&house.server, "POST /api/events", token, &body.to_string());
        let batch = call(&house.server, "POST /api/events/batch", token, &batch);
        (one, batch.json()["results"][0].clone())
    };
    for expect in [
        json!({"version": 99}),
        json!({"present": true}),
        json!({"properties": {"secret": SECRET}}),
        json!({"filter": "exists(secret)"}),
    ] {
        let (one, item) = publish(&writer, json!({ "expect": expect }));
        assert_eq!(one.status, 403, "{}", one.text());
        assert_eq!(item["code"], "scope_missing", "{item}");
        assert!(!one.text().contains("s3cret"));
    }
    let (one, _) = publish(&house.first, json!({"expect": {"version": 99}}));
    assert!(one.status == 409 && one.text().contains(SECRET));
    let with_id = |id: &str| json!({"eventId": id, "increment": {"n": 5}});
    for (token, told) in [(&writer, false), (&house.first, true)] {
        for _ in 0..2 {
            // The second time it is a duplicate.
            let id = if told { "told" } else { "untold" };
            let (one, item) = publish(token, with_id(id));
            assert_eq!(one.status, 200, "{}", one.text());
            assert_eq!(one.json().get("properties").is_some(), told);
            assert_eq!(item.get("properties").is_some(), told, "{item}");
        }
    }
    let mut connection = house.server.connect();
    let token = format!("Authorization: Bearer {writer}");
    let fields = [token.as_str(), "If-Match: *"];
    let path = "/api/state/entities/house/in/x";
    connection.send(support::http::request("DELETE", path, &fields, ""));
    assert_eq!(connection.response().status, 403);
}

#[test]
fn a_deletion_by_filter_tells_nothing_of_what_its_caller_does_not_see() {
    let house = start(2);
    let narrow = make(
        &house.server,
        &house.first,
        &json!({"scopes": ["read", "write", "delete"], "prefix": "house/out/"}),
    );
    let line = "POST /api/state/entities/delete";
    for token in [&house.readers[1], &narrow] {
        for prefix in ["house/", "house/in/x", "house/absent"] {
            let body = json!({ "prefix": prefix }).to_string();
            let answer = call(&house.server, line, token, &body);
            assert_eq!(answer.status, 200, "{prefix}: {}", answer.text());
            assert_eq!(answer.json()["deleted"], 0);
        }
    }
    publish(&house.server, &narrow, "house/out/1", "{}");
    let all = r#"{"namespace":"house"}"#;
    let answer = call(&house.server, line, &narrow, all);
    assert_eq!(answer.json()["deleted"], 1, "{}", answer.text());
    let answer = call(&house.server, line, &house.readers[3], all);
    assert_eq!(answer.json()["deleted"], 2, "{}", answer.text());
}

#[test]
fn calls_about_a_private_namespace_find_none_of_that_name_for_strangers() {
    let house = start(2);
    for line in [
        "GET /api/namespaces/house/tokens",
        "DELETE /api/namespaces/house/tokens/tok_1",
        "POST /api/namespaces/house/token",
    ] {
        let answer = call(&house.server, line, &house.readers[1], "");
        assert_eq!(answer.status, 404, "{line}");
        assert_eq!(answer.json()["code"], "namespace_not_found", "{line}");
    }
}

#[test]
fn what_a_deleted_private_namespace_leaves_is_the_operators_also_under_a_new_owner() {
    let house = start(2);
    let delete = |query: &str| {
        let line = format!("DELETE /api/namespaces/house{query}");
        assert_eq!(call(&house.server, &line, ADMIN, "").status, 204);
    };
    delete("");
    let sees = |token: &str| call(&house.server, "GET /api/state/entities/house/z", token, "");
    for reader in &house.readers[..2] {
        assert_eq!(sees(reader).status, 404);
    }
    assert_eq!(sees(ADMIN).status, 200);
    let events = |token: &str| {
        let line = "GET /api/events?namespace=house";
        call(&house.server, line, token, "")
    };
    assert_eq!((events("").status, events(ADMIN).status), (401, 200));
    let purge = r#"{"namespace":"house"}"#;
    let line = "POST /api/state/entities/delete";
    assert_eq!(call(&house.server, line, ADMIN, purge).status, 200);
    let second = register(&house.server, "house");
    publish(&house.server, &second, "house/new", "{}");
    for token in ["", &second] {
        let told = events(token);
        assert_eq!(told.status, 200, "it is public");
        assert!(told.text().contains("house/new") && !told.text().contains("s3cret"));
    }
    assert!(events(ADMIN).text().contains("s3cret"));
    delete("?purge=true");
    let answer = events("");
    let told = answer.text();
    assert!(
        told.contains("house/new") && !told.contains("s3cret"),
        "{told}"
    );
}

#[test]
fn new_namespaces_are_private_where_the_setting_says_so_and_none_is_without_auth() {
    let dir = TempDir::new().expect("a temporary directory");
    let private = setup(dir.path(), 2).env("FLUX_NAMESPACES_PRIVATE", "true");
    let server = private.start();
    let token = register(&server, "house");
    publish(&server, &token, ENTITY, &secret(SECRET));
    assert_eq!(server.entity(ENTITY).status, 404);
    let path = "GET /api/state/entities/house/in/x";
    assert_eq!(call(&server, path, &token, "").status, 200);
    server.stop();
    let server = setup(dir.path(), 1).start();
    assert_eq!(
        server.entity(ENTITY).status,
        404,
        "it stays as it was registered"
    );
    server.stop();
    let server = Setup::new(dir.path(), 1).start();
    assert_eq!(
        server.entity(ENTITY).status,
        200,
        "without auth all is open"
    );
}
