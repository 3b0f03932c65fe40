//! Connectors: polled items become entities, and a fault of one connector does not affect the
//! others.
//!
//! A real server polls sources of the test, which answer well, badly or not at all.

mod support;

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use support::connectors::{define, definition, remove, show, wait_for_status};
use support::server::{Server, Setup};
use support::source::{Answer, Source, json as answer_json};
use support::{is_timestamp, on_each, wait_for};
use tempfile::TempDir;

#[test]
fn what_is_polled_becomes_entities_and_an_unchanged_poll_publishes_nothing() {
    on_each(|server| {
        let temperature = Arc::new(AtomicU32::new(20));
        let shown = Arc::clone(&temperature);
        let source = Source::start(move |_| {
            let degrees = shown.load(Ordering::Relaxed);
            answer_json(&format!(
                r#"{{"data":[{{"city":"Bern","main":{{"t":{degrees}.50}}}},{{"city":"Chur","main":{{"t":3}}}}]}}"#
            ))
        });
        let mut weather = definition("weather", &source.url("/v1?q=a%20b"));
        weather["items"] = json!("/data");
        weather["properties"] = json!({"temperature": "/main/t", "wind": "/wind"});
        let created = define(server, &weather);
        assert_eq!(created.status, 201, "{}", created.text());
        let first = created.json();
        assert_eq!(
            (&first["name"], &first["type"]),
            (&json!("weather"), &json!("http"))
        );
        assert_eq!(
            (&first["enabled"], &first["poll_interval_seconds"]),
            (&json!(true), &json!(5))
        );
        assert_eq!(
            (&first["last_error"], first.as_object().unwrap().len()),
            (&Value::Null, 8)
        );
        let running = wait_for_status(server, "weather", "running");
        assert_eq!(running["events_published"], 2);
        assert!(
            is_timestamp(running["last_poll"].as_str().unwrap()),
            "{running}"
        );
        let bern = server.entity("weather/Bern");
        assert!(
            bern.text()
                .contains(r#""properties":{"temperature":20.50}"#),
            "{}",
            bern.text()
        );
        let event = server.get("/api/events?entity=weather/Bern").json();
        assert_eq!(event[0]["source"], "connector/weather", "{event}");
        assert_eq!(event[0]["stream"], "connectors");
        source.wait_for("/v1?q=a%20b", 2);
        assert_eq!(show(server, "weather")["events_published"], 2);
        temperature.store(21, Ordering::Relaxed);
        wait_for("the change to arrive", || {
            server
                .entity("weather/Bern")
                .text()
                .contains("21.50")
                .then_some(())
        });
        assert_eq!(server.entity("weather/Bern").json()["version"], 2);
        assert_eq!(
            server.entity("weather/Chur").json()["version"],
            1,
            "it did not change"
        );
        remove(server, "weather");
        let polls = source.asked().len();
        assert_eq!(server.get("/api/connectors/weather").status, 404);
        assert!(polls >= 3);
    });
}

#[test]
fn numbers_come_digit_for_digit() {
    let dir = TempDir::new().unwrap();
    let server = Setup::new(dir.path(), 1).start();
    let properties =
        r#"{"a":1e2,"b":-0.0,"c":{"d":[22.50,1E+02,12345678901234567890123]},"city":"Bern"}"#;
    let source = Source::start(move |_| answer_json(properties));
    define(&server, &definition("digits", &source.url("/")));
    wait_for_status(&server, "digits", "running");
    let entity = server.entity("digits/Bern");
    let entity = entity.text();
    assert!(
        entity.contains(&format!("\"properties\":{properties}")),
        "{entity}"
    );
    source.wait_for("/", 2);
    assert_eq!(
        show(&server, "digits")["events_published"],
        1,
        "nothing is new"
    );
}

#[test]
fn of_repeated_members_the_last_counts_at_every_depth() {
    let dir = TempDir::new().unwrap();
    let server = Setup::new(dir.path(), 1).start();
    let source = Source::start(move |_| {
        answer_json(
            r#"{"city":"Bern","cfg":{"role":"admin","role":"guest"},"cfg":{"in":[{"x":1,"x":2}]}}"#,
        )
    });
    define(&server, &definition("twice", &source.url("/")));
    wait_for_status(&server, "twice", "running");
    let entity = server.entity("twice/Bern");
    let properties = r#""properties":{"cfg":{"in":[{"x":2}]},"city":"Bern"}"#;
    assert!(entity.text().contains(properties), "{}", entity.text());
}

#[test]
fn a_bad_item_fails_alone_and_is_counted() {
    let dir = TempDir::new().unwrap();
    let server = Setup::new(dir.path(), 2).start();
    let long = "x".repeat(600);
    let source = Source::start(move |_| {
        answer_json(&format!(
            r#"[{{"city":"Bern","t":1}},{{"city":null}},{{"city":"{long}"}},{{"city":"a","t":NaN}},
               {{"city":"b","t":1e999}},{{"city":"\ud800"}},{{"city":"line\nbreak"}},[],{{"city":"c","x":{}{}}},
               {{"city":"Chur","t":2}}]"#,
            "[".repeat(125),
            "]".repeat(125),
        ))
    });
    let mut weather = definition("weather", &source.url("/"));
    weather["items"] = json!("");
    define(&server, &weather);
    let shown = wait_for_status(&server, "weather", "error");
    assert_eq!(shown["events_published"], 2, "{shown}");
    let error = shown["last_error"].as_str().unwrap();
    assert!(
        error.starts_with("6 items were left out: item 1: `{city}`"),
        "{error}"
    );
    assert!(
        error.contains("; 2 events were refused: `weather/"),
        "{error}"
    );
    for (id, temperature) in [("weather/Bern", 1), ("weather/Chur", 2)] {
        assert_eq!(server.entity(id).json()["properties"]["t"], temperature);
    }
    // The next poll comes at the usual pace, says the same, and publishes nothing again.
    source.wait_for("/", 3);
    let shown = show(&server, "weather");
    assert_eq!(
        (&shown["status"], &shown["events_published"]),
        (&json!("error"), &json!(2))
    );
    assert_eq!(shown["last_error"].as_str(), Some(error));
}

/// Method, target, body, status and code of refused calls, beside a connector `weather` that wants
/// a credential, on a server without a key.
const REFUSED: &[(&str, &str, &str, u16, &str)] = &[
    ("POST", "", "DEFINITION", 409, "connector_taken"),
    ("POST", "", "BUILT-IN", 409, "connector_taken"),
    ("POST", "", "FTP", 400, "invalid_field"),
    ("POST", "", "{}", 400, "missing_field"),
    ("POST", "", "[]", 400, "invalid_body"),
    ("POST", "", "{", 400, "invalid_json"),
    ("GET", "/none", "", 404, "connector_not_found"),
    ("GET", "/../x", "", 404, "not_found"),
    ("DELETE", "/none", "", 404, "connector_not_found"),
    ("DELETE", "/github", "", 403, "connector_built_in"),
    ("POST", "/none/token", "TOKEN", 404, "connector_not_found"),
    (
        "POST",
        "/weather/token",
        r#"{"token":""}"#,
        400,
        "invalid_field",
    ),
    ("POST", "/weather/token", "{}", 400, "missing_field"),
    (
        "POST",
        "/weather/token",
        "TOKEN",
        503,
        "encryption_key_missing",
    ),
    (
        "POST",
        "/github/token",
        "TOKEN",
        503,
        "encryption_key_missing",
    ),
    ("DELETE", "/weather/token", "", 404, "credential_not_found"),
    ("DELETE", "/github/token", "", 404, "credential_not_found"),
    ("DELETE", "/none/token", "", 404, "connector_not_found"),
    ("PUT", "", "", 405, "method_not_allowed"),
    ("POST", "/weather", "", 405, "method_not_allowed"),
    ("GET", "/weather/token", "", 405, "method_not_allowed"),
];

#[test]
fn every_call_answers_as_the_contract_says() {
    let dir = TempDir::new().unwrap();
    let server = Setup::new(dir.path(), 1).start();
    let all = server.get("/api/connectors").json();
    let github =
        json!({"name": "github", "type": "github", "enabled": false, "status": "not_configured"});
    assert_eq!(all, json!({ "connectors": [github] }));
    assert_eq!(show(&server, "github")["poll_interval_seconds"], 60);
    let mut weather = definition("weather", "http://127.0.0.1:1/");
    weather["auth"] = json!({"type": "bearer"});
    let text = weather.to_string();
    assert_eq!(define(&server, &weather).json()["status"], "not_configured");
    for (method, rest, body, status, code) in REFUSED {
        let body = match *body {
            "DEFINITION" => text.clone(),
            "BUILT-IN" => text.replace("weather", "github"),
            "FTP" => text.replace("http:", "ftp:"),
            "TOKEN" => r#"{"token":"t"}"#.to_owned(),
            body => body.to_owned(),
        };
        let story = format!("{method} {rest} {body}");
        let answer = server.request(method, &format!("/api/connectors{rest}"), &body);
        assert_eq!(answer.expect_error(*status, &story), *code, "{story}");
    }
    let options = server.request("OPTIONS", "/api/connectors/weather/token", "");
    assert_eq!(options.header("allow"), Some("POST, DELETE, OPTIONS"));
    remove(&server, "weather");
    assert_eq!(server.get("/api/connectors").json(), all);
}

/// The path of each misbehaving source, and a part of the error that it causes.
const MISBEHAVING: &[(&str, &str)] = &[
    ("/slow", "did not answer within 10 seconds"),
    ("/drip", "did not answer within 10 seconds"),
    ("/huge", "larger than 10485760 bytes"),
    ("/endless", "larger than 10485760 bytes"),
    ("/circle", "redirects more than 5 times"),
    ("/nowhere", "can't be followed"),
    ("/file", "can't be followed"),
    ("/broken", "not valid JSON"),
    ("/html", "not valid JSON"),
    ("/other", "`{city}` of `entity_id` is missing"),
    ("/many", "at most 10000 are taken"),
    ("/garbage", "no answer from 127.0.0.1"),
    ("/closed", "no answer from 127.0.0.1"),
    ("/cut", "no answer from 127.0.0.1"),
    ("/500", "answered 500"),
    ("/304", "answered 304"),
    ("/control", "1 to 512 bytes without control characters"),
];

fn misbehave(target: &str) -> Answer {
    let redirect =
        |location: &str| Answer::Http(302, vec![format!("Location: {location}")], String::new());
    match target {
        "/slow" => Answer::Stall(Vec::new()),
        "/drip" => Answer::Stall(b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n{".to_vec()),
        "/huge" => Answer::Raw(b"HTTP/1.1 200 X\r\nContent-Length: 10485761\r\n\r\n{".to_vec()),
        "/endless" => {
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            let head = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n";
            Answer::Raw([head, &chunk.repeat(200)].concat().into_bytes())
        }
        "/circle" => redirect("/circle"),
        "/nowhere" => redirect("http://"),
        "/file" => redirect("file:///etc/passwd"),
        "/broken" => answer_json("{\"city\":"),
        "/html" => answer_json("<html>"),
        "/other" => answer_json("{\"town\":\"Bern\"}"),
        "/many" => answer_json(&json!(vec![json!({"city": "a"}); 10_001]).to_string()),
        "/garbage" => Answer::Raw(b"\x16\x03\x01\x00 no HTTP at all\r\n\r\n".to_vec()),
        "/closed" => Answer::Raw(Vec::new()),
        "/cut" => Answer::Raw(b"HTTP/1.1 200 X\r\nContent-Length: 99\r\n\r\n{".to_vec()),
        "/500" => Answer::Http(500, Vec::new(), "{}".to_owned()),
        "/304" => Answer::Http(304, Vec::new(), String::new()),
        "/control" => answer_json(r#"{"city":"a\u0007b"}"#),
        _ => answer_json(r#"{"city":"Bern"}"#),
    }
}

#[test]
fn a_source_that_misbehaves_says_so_and_harms_no_other() {
    let dir = TempDir::new().unwrap();
    let server = Setup::new(dir.path(), 1).start();
    let source = Source::start(|asked| misbehave(&asked.target));
    for (target, _) in MISBEHAVING {
        let name = format!("bad-{}", &target[1..]);
        let mut definition = definition(&name, &source.url(target));
        if *target == "/many" {
            definition["items"] = json!("");
        }
        assert_eq!(define(&server, &definition).status, 201);
    }
    // TLS to a server without TLS, a port without a listener, and a name that does not resolve.
    let more = [
        (
            "bad-tls",
            format!("https://127.0.0.1:{}/", source.port),
            "can't connect to 127.0.0.1",
        ),
        (
            "bad-port",
            "http://127.0.0.1:1/".to_owned(),
            "can't connect to 127.0.0.1",
        ),
        (
            "bad-name",
            "http://no-such-host.invalid/".to_owned(),
            "can't connect to no-such-host.invalid",
        ),
    ];
    for (name, url, _) in &more {
        assert_eq!(define(&server, &definition(name, url)).status, 201);
    }
    assert_eq!(
        define(&server, &definition("good", &source.url("/good"))).status,
        201
    );
    wait_for_status(&server, "good", "running");
    let expected = MISBEHAVING
        .iter()
        .map(|(target, part)| (format!("bad-{}", &target[1..]), *part))
        .chain(
            more.iter()
                .map(|(name, _, part)| ((*name).to_owned(), *part)),
        );
    for (name, part) in expected {
        let shown = wait_for_status(&server, &name, "error");
        let error = shown["last_error"].as_str().unwrap();
        assert!(error.contains(part), "{name}: {error}");
        assert!(!error.contains('\n') && shown["last_poll"].is_string());
        assert_eq!(shown["events_published"], 0);
    }
    assert_eq!(source.count("/circle") % 6, 0, "five redirects, each time");
    let said = server.said();
    assert!(
        said.contains("connector bad-500: the source answered 500"),
        "{said}"
    );
    assert!(said.contains("connector good: running"), "{said}");
    source.wait_for("/good", 2);
}

#[test]
fn an_etag_saves_the_answer() {
    let dir = TempDir::new().unwrap();
    let server = Setup::new(dir.path(), 1).start();
    let source = Source::start(|asked| {
        let etag = vec!["ETag: \"v1\"".to_owned()];
        match asked.header("if-none-match") {
            Some("\"v1\"") => Answer::Http(304, etag, String::new()),
            _ => Answer::Http(200, etag, r#"{"city":"Bern"}"#.to_owned()),
        }
    });
    define(&server, &definition("weather", &source.url("/")));
    source.wait_for("/", 3);
    let asked = source.asked();
    assert_eq!(asked[0].header("if-none-match"), None);
    assert!(
        asked[1..]
            .iter()
            .all(|it| it.header("if-none-match") == Some("\"v1\""))
    );
    let shown = wait_for_status(&server, "weather", "running");
    assert_eq!(
        (&shown["events_published"], &shown["last_error"]),
        (&json!(1), &Value::Null)
    );
}

#[test]
fn a_thousand_sources_live_beside_each_other() {
    const COUNT: usize = 1_000;
    let dir = TempDir::new().unwrap();
    let setup = Setup::new(dir.path(), 1);
    let server = setup.start();
    let source = Source::start(|asked| {
        answer_json(&format!(r#"{{"city":"Bern","path":"{}"}}"#, asked.target))
    });
    let mut connection = server.connect();
    for number in 0..COUNT {
        let mut definition = definition(
            &format!("source-{number}"),
            &source.url(&format!("/{number}")),
        );
        definition["poll_interval_seconds"] = json!(60);
        let answer = connection.request("POST", "/api/connectors", &definition.to_string());
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    let running = |server: &Server| {
        let all = server.get("/api/connectors").json();
        let all = all["connectors"].as_array().unwrap().clone();
        all.iter().filter(|it| it["status"] == "running").count()
    };
    wait_for("all of them to run", || {
        (running(&server) == COUNT).then_some(())
    });
    assert_eq!(server.entities().len(), COUNT);
    server.kill();
    let server = setup.start();
    wait_for("all of them to run again", || {
        (running(&server) == COUNT).then_some(())
    });
    for number in [0, 500, 999] {
        let entity = server.entity(&format!("source-{number}/Bern")).json();
        assert_eq!(entity["version"], 1, "nothing was published twice");
    }
    server.stop();
}

#[test]
fn more_than_a_poll_may_publish_comes_with_the_next() {
    let dir = TempDir::new().unwrap();
    let server = Setup::new(dir.path(), 1).start();
    let source = Source::start(|_| {
        let items: Vec<Value> = (0..1_500)
            .map(|number| json!({"city": format!("c{number}"), "n": number}))
            .collect();
        Answer::Http(
            200,
            vec!["ETag: \"all\"".to_owned()],
            json!(items).to_string(),
        )
    });
    let mut cities = definition("cities", &source.url("/"));
    cities["items"] = json!("");
    define(&server, &cities);
    let first = wait_for_status(&server, "cities", "running");
    assert_eq!(first["events_published"], 1_000);
    wait_for("the rest", || {
        (show(&server, "cities")["events_published"] == 1_500).then_some(())
    });
    assert_eq!(server.entities().len(), 1_500);
    assert_eq!(
        source.asked()[1].header("if-none-match"),
        None,
        "not all of it was published"
    );
}
