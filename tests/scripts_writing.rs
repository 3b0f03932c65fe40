//! `flux.sh`: conditions, event ids, increments and atomic batches (API contract §14).

mod support;

use serde_json::{Value, json};
use support::script::{complain, flux, record, run, succeed};
use support::server::{Setup, free_port};
use support::{namespace, on_each};

/// Standard output of a command that must succeed.
fn printed(server: &support::server::Server, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    assert_eq!(complaint, "", "{arguments:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_condition_that_does_not_hold_shows_the_entity_as_it_is() {
    on_each(|server| {
        let id = format!("{}/task", namespace("claim"));
        let publish = ["publish", "tasks", "me", &id, r#"{"effort":22.50}"#];
        let with = |more: &[&str]| run(server, &[&publish[..], more].concat());
        let said = complain(&with(&["--if-version", "1"]), 1, "absent");
        assert_eq!(
            said,
            "flux.sh: a condition of the write does not hold; nothing was changed (HTTP 409); there is no such entity\n"
        );
        assert!(with(&["--if-absent"]).status.success());
        let said = complain(&with(&["--if-absent"]), 1, "present");
        let (message, entity) = said.split_once('\n').expect("two lines");
        assert_eq!(
            message,
            "flux.sh: a condition of the write does not hold; nothing was changed (HTTP 409); the entity is:"
        );
        assert_eq!(entity.trim_end(), server.entity(&id).text());
        assert!(entity.contains(r#""effort":22.50"#), "digit for digit");
        assert!(with(&["--if-version", "1"]).status.success());
        complain(&with(&["--if-version=1"]), 1, "version 2");
        // Options may stand before the event, too.
        let before = ["publish", "--if-version=2"];
        let answer = succeed(server, &[&before[..], &publish[1..]].concat());
        assert_eq!(answer["version"], 3);
    });
}

#[test]
fn a_publish_that_is_run_again_with_its_event_id_changes_nothing() {
    on_each(|server| {
        let id = format!("{}/a", namespace("again"));
        let run_again = ["publish", "s", "me", &id, "{}", "--event-id", "e \"1\""];
        let first = succeed(server, &run_again);
        assert_eq!(first["eventId"], "e \"1\"");
        let again = succeed(server, &run_again);
        assert_eq!(
            (&again["duplicate"], &again["version"]),
            (&json!(true), &json!(1))
        );
        let other = [
            "publish",
            "s",
            "me",
            &id,
            r#"{"n":1}"#,
            "--event-id",
            "e \"1\"",
        ];
        assert_eq!(
            complain(&run(server, &other), 1, "another event"),
            "flux.sh: another event was stored under this `eventId`; nothing was changed (HTTP 409)\n"
        );
    });
}

#[test]
fn an_increment_prints_what_it_came_to_in_exact_digits() {
    on_each(|server| {
        let id = format!("{}/a", namespace("sum"));
        let sum = |arguments: &[&str]| printed(server, &[&["increment", &id], arguments].concat());
        assert_eq!(sum(&["n"]), "1\n");
        assert_eq!(sum(&["n", "-0.10"]), "0.9\n");
        let large = ["n", "100000000000000000000000.25", "--event-id", "large"];
        assert_eq!(sum(&large), "100000000000000000000001.15\n");
        assert_eq!(sum(&["n"]), "100000000000000000000002.15\n");
        assert_eq!(
            sum(&large),
            "100000000000000000000001.15\n",
            "the first result"
        );
        for name in ["a:}\"", "--event-id", "ü", "-1"] {
            assert_eq!(sum(&[name, "7"]), "7\n", "{name}");
        }
        let entity = server.entity(&id);
        assert!(
            entity.text().contains(r#""n":100000000000000000000002.15"#),
            "{}",
            entity.text()
        );
        server.publish(&id, r#"{"text":"x"}"#);
        let refused = run(server, &["increment", &id, "text"]);
        assert!(complain(&refused, 1, "a text").contains("(HTTP 400)"));
    });
}

#[test]
fn an_atomic_batch_takes_effect_whole_or_says_why_not() {
    on_each(|server| {
        let space = namespace("both");
        let event = |name: &str, expect: &Value| {
            json!({"stream": "s", "source": "me", "expect": expect,
                "payload": {"entity_id": format!("{space}/{name}"), "properties": {}}})
        };
        let absent = json!({"absent": true});
        let both = json!([event("a", &absent), event("b", &absent)]).to_string();
        let answer = succeed(server, &["batch", &both, "--atomic"]);
        assert_eq!(answer["successful"], 2);
        let half = json!([event("c", &absent), event("b", &absent)]).to_string();
        let said = complain(&run(server, &["batch", "--atomic", &half]), 1, "b is there");
        assert!(said.contains("event 1 of the atomic batch"), "{said}");
        assert!(said.contains(&format!(r#"{{"id":"{space}/b""#)), "{said}");
        assert_eq!(server.entity(&format!("{space}/c")).status, 404);
    });
}

#[test]
fn options_go_out_as_members_of_the_event() {
    let options = ["--if-version", "7", "--event-id", "e", "--ttl", "1.50"];
    let publish = ["publish", "s", "me", "--ttl", r#"{"a":1.0}"#];
    let body = record(&[&publish[..], &options].concat(), &[]).body;
    assert_eq!(
        body,
        r#"{"stream":"s","source":"me","expect":{"version":7},"eventId":"e","payload":{"entity_id":"--ttl","properties":{"a":1.0},"ttl":1.50}}"#
    );
    let filter = r#"eq(s,"a\b")"#;
    let body = record(&["publish", "s", "me", "a", "{}", "--if", filter], &[]).body;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["expect"], json!({"filter": filter}));
    let body = record(&["publish", "s", "me", "a", "--ttl=null"], &[]).body;
    assert_eq!(
        body,
        r#"{"stream":"s","source":"me","payload":{"entity_id":"a","ttl":null}}"#
    );
    let body = record(&["batch", "[]", "--atomic"], &[]).body;
    assert_eq!(body, r#"{"atomic":true,"events":[]}"#);
}

#[test]
fn wrong_options_are_refused_before_anything_is_sent() {
    let publish = ["publish", "s", "me", "a", "{}"];
    let url = format!("http://127.0.0.1:{}", free_port());
    let refused = |arguments: &[&str]| {
        let output = flux(&url, arguments).output().expect("the script runs");
        complain(&output, 2, &format!("{arguments:?}"));
    };
    for options in [
        &["--if-version"][..],
        &["--if-version", "x"],
        &["--if-version", "0"],
        &["--if-version", "-1"],
        &["--if-version", "1.0"],
        &["--if-absent=true"],
        &["--if-absent", "--if-version", "1"],
        &["--if", "eq(a,1)", "--if-absent"],
        &["--if"],
        &["--if-absent", "--if-absent"],
        &["--event-id", ""],
        &["--event-id", "a", "--event-id=b"],
        &["--ttl", "soon"],
        &["--ttl", "-1"],
        &["--ttl", "1,\"x\":2"],
        &["--amount", "1"],
    ] {
        refused(&[&publish[..], options].concat());
    }
    for arguments in [
        &["publish", "s", "me", "a", "--if-absent"][..],
        &["increment"],
        &["increment", "a"],
        &["increment", "", "n"],
        &["increment", "a", "n", "1", "2"],
        &["increment", "a", "n", "x"],
        &["increment", "a", "n", "\"1\""],
        &["increment", "a", "n", "1},\"set\":{\"n\":2"],
        &["increment", "a", "n", "--ttl", "1"],
        &["batch", "[]", "--all"],
    ] {
        refused(arguments);
    }
}

#[test]
fn refusals_for_want_of_a_token_name_the_variable() {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let server = Setup::new(dir.path(), 1)
        .env("FLUX_AUTH_ENABLED", "true")
        .start();
    let registered = server.post("/api/namespaces", r#"{"name":"house"}"#).json();
    let token = registered["token"].as_str().expect("a token");
    let run_as = |token: &str, arguments: &[&str]| {
        let mut command = flux(&server.url(), arguments);
        command.env("FLUX_TOKEN", token);
        command.output().expect("the script runs")
    };
    let claim = ["publish", "s", "me", "house/a", "{}", "--if-absent"];
    let count = ["increment", "other/a", "n"];
    let said = complain(&run_as("", &claim), 1, "no token");
    assert!(
        said.contains("(HTTP 401); no token was sent: set FLUX_TOKEN"),
        "{said}"
    );
    let said = complain(&run_as("wrong", &claim), 1, "a wrong token");
    assert!(
        said.contains("(HTTP 401); the server does not accept the token in FLUX_TOKEN"),
        "{said}"
    );
    let said = complain(&run_as(token, &count), 1, "another's namespace");
    assert!(
        said.contains("(HTTP 403); the token in FLUX_TOKEN does not allow this"),
        "{said}"
    );
    assert!(run_as(token, &claim).status.success());
}
