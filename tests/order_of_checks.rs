//! What is answered if several things are wrong at once (API contract §1): framing and size, token,
//! JSON and fields, ownership, rate, condition.
//!
//! Each request of the table is wrong in the way that it is answered with, and in a later way too.

mod support;

use serde_json::json;
use support::event;
use support::http::request;
use support::server::{Server, Setup};
use tempfile::TempDir;

const ADMIN: &str = "operator-secret-0123456789";
const NOBODY: &str = "";
const UNKNOWN: &str = "flux_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// Events of a namespace in a minute.
const RATE: u32 = 3;

const EVENTS: &str = "POST /api/events";
const BATCH: &str = "POST /api/events/batch";
const DELETE_MANY: &str = "POST /api/state/entities/delete";

/// A server, and the tokens of its namespaces.
struct Tenants {
    server: Server,
    /// Of `house`, which has used nothing of its rate.
    house: String,
    /// Of `spent`, which has used up its rate.
    spent: String,
    _dir: TempDir,
}

fn start() -> Tenants {
    let dir = TempDir::new().expect("a temporary directory");
    let server = Setup::new(dir.path(), 2)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", ADMIN)
        .env(
            "FLUX_RATE_LIMIT_PER_NAMESPACE_PER_MINUTE",
            &RATE.to_string(),
        )
        .start();
    let register = |name: &str| {
        let body = json!({ "name": name }).to_string();
        let answer = server.with_token(("POST", "/api/namespaces"), ADMIN, &body);
        answer.json()["token"].as_str().expect("a token").to_owned()
    };
    let (house, spent) = (register("house"), register("spent"));
    for number in 0..RATE {
        let body = event(&format!("spent/{number}"), "{}");
        let answer = server.with_token(("POST", "/api/events"), &spent, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    Tenants {
        server,
        house,
        spent,
        _dir: dir,
    }
}

impl Tenants {
    /// Sends a request on a connection of its own, and compares its status and code.
    fn check(&self, (line, token): (&str, &str), body: &str, expected: (u16, &str)) {
        self.check_with((line, token), (&[], body), expected);
    }

    fn check_with(
        &self,
        (line, token): (&str, &str),
        (fields, body): (&[&str], &str),
        expected: (u16, &str),
    ) {
        let (method, target) = line.split_once(' ').expect("a method and a target");
        let authorization = format!("Authorization: Bearer {token}");
        let mut fields = fields.to_vec();
        if !token.is_empty() {
            fields.push(&authorization);
        }
        let mut connection = self.server.connect();
        connection.send(request(method, target, &fields, body));
        let answer = connection.response();
        let code = answer.json()["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let story = format!("{line} {fields:?} {body}: {}", answer.text());
        assert_eq!((answer.status, &*code), expected, "{story}");
    }
}

#[test]
fn a_publish_is_judged_by_token_then_fields_then_owner_then_rate() {
    let tenants = start();
    let (house, spent) = (tenants.house.as_str(), tenants.spent.as_str());
    let foreign = event("garden/a", "{}");
    let reserved = event("flux-core/a", "{}");
    let own = event("house/a", "{}");
    let bad_field = |body: &str| body.replace("test.events", "Not A Stream");
    let missing = (401, "token_missing");
    for body in ["", "no json", &bad_field(&foreign), &reserved, &foreign] {
        tenants.check((EVENTS, NOBODY), body, missing);
        tenants.check((EVENTS, UNKNOWN), body, (401, "token_unknown"));
        tenants.check((BATCH, NOBODY), body, missing);
    }
    tenants.check(("POST /api/events?a=%zz", NOBODY), "no json", missing);
    tenants.check(
        ("POST /api/events?a=%zz", house),
        &foreign,
        (400, "invalid_encoding"),
    );
    for token in [house, spent, ADMIN] {
        tenants.check((EVENTS, token), "no json", (400, "invalid_json"));
        for wrong in [&foreign, &reserved] {
            tenants.check((EVENTS, token), &bad_field(wrong), (400, "invalid_field"));
            let trailing = format!("{wrong} x");
            tenants.check((EVENTS, token), &trailing, (400, "invalid_json"));
            let cut = &wrong[..wrong.len() - 1];
            tenants.check((EVENTS, token), cut, (400, "invalid_json"));
            let unknown = wrong.replacen('{', r#"{"unknown":[1e999],"#, 1);
            tenants.check((EVENTS, token), &unknown, (400, "invalid_json"));
        }
        tenants.check((EVENTS, token), &foreign, (403, "not_namespace_owner"));
        tenants.check(
            (EVENTS, token),
            &event("a", "{}"),
            (400, "namespace_required"),
        );
        let batch = format!(r#"{{"events":[{foreign}]}} x"#);
        tenants.check((BATCH, token), &batch, (400, "invalid_json"));
    }
    for token in [house, spent] {
        tenants.check((EVENTS, token), &reserved, (403, "reserved_namespace"));
    }
    let limited = event("spent/a", "{}");
    tenants.check(
        (EVENTS, spent),
        &bad_field(&limited),
        (400, "invalid_field"),
    );
    tenants.check(
        (EVENTS, spent),
        &format!("{limited} x"),
        (400, "invalid_json"),
    );
    tenants.check((EVENTS, spent), &own, (403, "not_namespace_owner"));
    tenants.check((EVENTS, spent), &limited, (429, "rate_limited"));
    let absent = ["If-Match: *"];
    tenants.check_with((EVENTS, spent), (&absent, &limited), (429, "rate_limited"));
    tenants.check_with(
        (EVENTS, house),
        (&absent, &own),
        (409, "precondition_failed"),
    );
}

#[test]
fn a_condition_is_judged_after_the_token_and_before_the_owner() {
    let tenants = start();
    let house = tenants.house.as_str();
    let bad = ["If-Match: W/\"1\""];
    let foreign = event("garden/a", "{}");
    for (line, body) in [
        (EVENTS, foreign.as_str()),
        (BATCH, "no json"),
        ("DELETE /api/state/entities/garden/a", ""),
        (DELETE_MANY, "no json"),
    ] {
        tenants.check_with((line, NOBODY), (&bad, body), (401, "token_missing"));
        tenants.check_with((line, UNKNOWN), (&bad, body), (401, "token_unknown"));
    }
    for (line, body) in [
        (EVENTS, foreign.as_str()),
        ("DELETE /api/state/entities/garden/a", ""),
    ] {
        tenants.check_with((line, house), (&bad, body), (400, "invalid_header"));
    }
}

#[test]
fn a_deletion_is_judged_by_token_then_fields_then_owner_then_whether_it_is_there() {
    let tenants = start();
    let (house, spent) = (tenants.house.as_str(), tenants.spent.as_str());
    for id in ["house/a", "garden/a", "flux-core/directory", "a"] {
        let line = format!("DELETE /api/state/entities/{id}");
        tenants.check((&line, NOBODY), "", (401, "token_missing"));
        tenants.check((&line, UNKNOWN), "", (401, "token_unknown"));
        let line = format!("{line}?a=%zz");
        tenants.check((&line, NOBODY), "", (401, "token_missing"));
    }
    let delete = |id: &str| format!("DELETE /api/state/entities/{id}");
    tenants.check(
        (&delete("garden/a"), house),
        "",
        (403, "not_namespace_owner"),
    );
    tenants.check((&delete("a"), house), "", (400, "namespace_required"));
    tenants.check((&delete("house/a"), house), "", (404, "entity_not_found"));
    tenants.check(
        (&delete("flux-core/a"), ADMIN),
        "",
        (403, "reserved_namespace"),
    );
    tenants.check((&delete("spent/0"), spent), "", (429, "rate_limited"));
    tenants.check(
        (&delete("house/a"), spent),
        "",
        (403, "not_namespace_owner"),
    );
    let foreign = r#"{"entity_ids":["garden/a"]}"#;
    let reserved = r#"{"entity_ids":["flux-core/a"]}"#;
    let both = r#"{"entity_ids":["garden/a"],"prefix":"house/"}"#;
    for body in ["no json", foreign, reserved, both] {
        tenants.check((DELETE_MANY, NOBODY), body, (401, "token_missing"));
    }
    tenants.check((DELETE_MANY, house), both, (400, "invalid_body"));
    tenants.check(
        (DELETE_MANY, house),
        &format!("{foreign} x"),
        (400, "invalid_json"),
    );
    tenants.check((DELETE_MANY, house), foreign, (403, "not_namespace_owner"));
    tenants.check((DELETE_MANY, house), reserved, (403, "reserved_namespace"));
}

#[test]
fn a_call_about_namespaces_is_judged_by_token_then_fields_then_owner_then_conflict() {
    let tenants = start();
    let house = tenants.house.as_str();
    let bad_name = r#"{"name":"NO"}"#;
    let calls = [
        ("POST /api/namespaces", "no json"),
        ("POST /api/namespaces", bad_name),
        ("POST /api/namespaces?a=%zz", "no json"),
        ("GET /api/namespaces?limit=0", ""),
        ("DELETE /api/namespaces/house?purge=perhaps", ""),
        ("DELETE /api/namespaces/nowhere", ""),
        ("POST /api/namespaces/nowhere/token", ""),
        ("PUT /api/admin/config", "no json"),
        ("PUT /api/admin/config", r#"{"unknown":1}"#),
    ];
    for (line, body) in calls {
        tenants.check((line, NOBODY), body, (401, "token_missing"));
    }
    tenants.check(
        ("PUT /api/admin/config", house),
        "no json",
        (401, "token_unknown"),
    );
    let register = "POST /api/namespaces";
    for token in [house, ADMIN] {
        tenants.check((register, token), "no json", (400, "invalid_json"));
        tenants.check((register, token), bad_name, (400, "invalid_field"));
        let list = "GET /api/namespaces?limit=0";
        tenants.check((list, token), "", (400, "invalid_query"));
        let delete = "DELETE /api/namespaces/nowhere?purge=perhaps";
        tenants.check((delete, token), "", (400, "invalid_query"));
    }
    let (taken, reserved) = (r#"{"name":"house"}"#, r#"{"name":"flux-core"}"#);
    tenants.check((register, house), taken, (403, "admin_only"));
    tenants.check((register, ADMIN), reserved, (403, "reserved_namespace"));
    tenants.check((register, ADMIN), taken, (409, "namespace_taken"));
    let delete = "DELETE /api/namespaces/nowhere";
    tenants.check((delete, house), "", (403, "admin_only"));
    tenants.check((delete, ADMIN), "", (404, "namespace_not_found"));
    let foreign = "POST /api/namespaces/spent/token";
    tenants.check((foreign, house), "", (403, "not_namespace_owner"));
}

#[test]
fn a_call_about_connectors_is_judged_by_token_then_fields_then_owner() {
    let tenants = start();
    let house = tenants.house.as_str();
    let source = r#"{"name":"weather","url":"https://example.org/","poll_interval_seconds":60,"entity_id":"house/a"}"#;
    for (line, body) in [
        ("GET /api/connectors", ""),
        ("POST /api/connectors", "no json"),
        ("POST /api/connectors?namespace=spent", source),
        ("POST /api/connectors/github/token", "no json"),
        ("DELETE /api/connectors/github", ""),
    ] {
        tenants.check((line, NOBODY), body, (401, "token_missing"));
        tenants.check((line, UNKNOWN), body, (401, "token_unknown"));
    }
    let foreign = "POST /api/connectors?namespace=spent";
    tenants.check((foreign, house), "no json", (400, "invalid_json"));
    let bad_url = source.replace("https", "ftp");
    tenants.check((foreign, house), &bad_url, (400, "invalid_field"));
    tenants.check((foreign, house), source, (403, "not_namespace_owner"));
    let foreign = "POST /api/connectors/github/token?namespace=spent";
    tenants.check((foreign, house), "no json", (400, "invalid_json"));
    tenants.check((foreign, house), r#"{"token":""}"#, (400, "invalid_field"));
    tenants.check(
        (foreign, house),
        r#"{"token":"a"}"#,
        (403, "not_namespace_owner"),
    );
    let own = "POST /api/connectors/github/token";
    tenants.check((own, house), r#"{"token":""}"#, (400, "invalid_field"));
    tenants.check(
        (own, house),
        r#"{"token":"a"}"#,
        (503, "encryption_key_missing"),
    );
}
