//! Connectors whose owner is hostile: their answers, their slowness and their number cost the other
//! owners and the server little.
//!
//! A real server polls sources of the test. Claims about time are made by order: what must not wait
//! for polls is done while polls are on their way.

mod support;

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use support::connectors::{KEY, definition};
use support::server::{Server, Setup};
use support::source::{Answer, Source, json as answer_json};
use support::{now, wait_for};
use tempfile::TempDir;

const ADMIN: &str = "operator-secret-0123456789";

/// What the polls of one owner may take: 16 MiB of their answers, and room for what works on them.
const MEMORY_BYTES: u64 = 100 * 1024 * 1024;

fn with_tokens(dir: &TempDir) -> Setup {
    Setup::new(dir.path(), 2)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", ADMIN)
        .env("FLUX_ENCRYPTION_KEY", KEY)
        .env("FLUX_CONNECTORS_ALLOW_PRIVATE", "true")
}

fn register(server: &Server, name: &str) -> String {
    let body = json!({ "name": name }).to_string();
    let answer = server.with_token(("POST", "/api/namespaces"), ADMIN, &body);
    answer.json()["token"].as_str().expect("a token").to_owned()
}

fn define(server: &Server, token: &str, definition: &Value) {
    let body = definition.to_string();
    let answer = server.with_token(("POST", "/api/connectors"), token, &body);
    assert_eq!(answer.status, 201, "{}", answer.text());
}

/// The connectors that a token sees, with this status.
fn count(server: &Server, token: &str, status: &str) -> usize {
    let listed = server
        .with_token(("GET", "/api/connectors"), token, "")
        .json();
    let all = listed["connectors"].as_array().expect("a list").iter();
    all.filter(|it| it["status"] == status).count()
}

fn owned(owner: &str, name: &str, url: &str) -> Value {
    let mut definition = definition(name, url);
    definition["entity_id"] = json!(format!("{owner}/{name}/{{i}}"));
    definition
}

#[test]
fn large_answers_of_one_owner_are_bounded_and_no_control_call_waits_for_them() {
    const COUNT: usize = 60;
    let dir = TempDir::new().unwrap();
    let server = with_tokens(&dir).start();
    let (greedy, modest) = (register(&server, "greedy"), register(&server, "modest"));
    let zeros = vec!["0"; 500].join(",");
    let item = format!(r#"{{"i":0,"a":[{zeros}]}}"#);
    let body = format!("[{}]", vec![item; 9_900].join(","));
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&asked);
    let source = Source::start(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
        answer_json(&body)
    });
    for number in 0..COUNT {
        let mut large = owned("greedy", &format!("large-{number}"), &source.url("/"));
        large["items"] = json!("");
        define(&server, &greedy, &large);
    }
    let mut most = 0;
    let mut token = modest;
    let mut rotations = 0;
    wait_for("a few of the polls", || {
        most = most.max(server.memory_bytes());
        let target = "/api/namespaces/modest/token";
        let rotated = server.with_token(("POST", target), ADMIN, "");
        token = rotated.json()["token"]
            .as_str()
            .expect("a token")
            .to_owned();
        rotations += 1;
        (count(&server, &greedy, "running") >= 3).then_some(())
    });
    most = most.max(server.memory_bytes());
    let over = count(&server, &greedy, "running");
    assert!(over < COUNT / 2, "{over} polls are over");
    assert!(
        asked.load(Ordering::Relaxed) >= 3 && rotations > 3,
        "{rotations}"
    );
    assert!(most < MEMORY_BYTES, "{} MB", most / 1_000_000);
    // Other control calls, and a poll of another owner, while the polls go on.
    let quick = Source::start(|_| answer_json(r#"{"i":1}"#));
    define(&server, &token, &owned("modest", "quick", &quick.url("/")));
    wait_for("the other owner's poll", || {
        (count(&server, &token, "running") == 1).then_some(())
    });
    let patch = r#"{"max_batch_delete":7}"#;
    let configured = server.with_token(("PUT", "/api/admin/config"), ADMIN, patch);
    assert_eq!(configured.status, 200, "{}", configured.text());
    let gone = server.with_token(("DELETE", "/api/connectors/quick"), &token, "");
    assert_eq!(gone.status, 204);
    let over = count(&server, &greedy, "running");
    assert!(over < COUNT, "{over} polls are over");
    server.stop();
}

#[test]
fn slow_sources_of_one_owner_do_not_keep_another_from_being_polled() {
    const COUNT: usize = 200;
    let dir = TempDir::new().unwrap();
    let server = with_tokens(&dir).start();
    let (greedy, modest) = (register(&server, "greedy"), register(&server, "modest"));
    let slow = Source::start(|_| Answer::Stall(Vec::new()));
    for number in 0..COUNT {
        let url = slow.url(&format!("/{number}"));
        define(
            &server,
            &greedy,
            &owned("greedy", &format!("slow-{number}"), &url),
        );
    }
    wait_for("slow polls", || (!slow.asked().is_empty()).then_some(()));
    let source = Source::start(|_| answer_json(r#"{"i":1}"#));
    define(
        &server,
        &modest,
        &owned("modest", "quick", &source.url("/")),
    );
    source.wait_for("/", 4);
    let begun = slow.asked().len();
    assert!(begun < COUNT, "{begun} slow polls were begun");
    server.stop();
}

#[test]
fn a_connector_that_is_removed_publishes_nothing_after_the_answer() {
    let dir = TempDir::new().unwrap();
    let server = with_tokens(&dir).start();
    let token = register(&server, "house");
    let round = Arc::new(AtomicU32::new(0));
    let shown = Arc::clone(&round);
    let source = Source::start(move |_| {
        let round = shown.fetch_add(1, Ordering::Relaxed);
        let items: Vec<Value> = (0..1_000)
            .map(|i| json!({"i": i, "round": round}))
            .collect();
        answer_json(&json!(items).to_string())
    });
    let stored = || {
        server.get("/health").json()["entities"]
            .as_u64()
            .expect("a number")
    };
    for round in 0..5 {
        let name = format!("many-{round}");
        let mut many = owned("house", &name, &source.url("/"));
        many["items"] = json!("");
        define(&server, &token, &many);
        let before = stored();
        let until = now() + std::time::Duration::from_secs(20);
        while stored() == before && now() < until {
            std::thread::yield_now();
        }
        let target = format!("/api/connectors/{name}");
        assert_eq!(
            server.with_token(("DELETE", &target), &token, "").status,
            204
        );
        let events = server
            .get(&format!("/api/state/entities?prefix=house/{name}/"))
            .json();
        let events = events.as_array().expect("a list").len();
        // Another poll, from its beginning to its end.
        let mut after = owned("house", &format!("after-{round}"), &source.url("/"));
        after["items"] = json!("");
        define(&server, &token, &after);
        wait_for("the next poll", || {
            (count(&server, &token, "running") > 0).then_some(())
        });
        let later = server
            .get(&format!("/api/state/entities?prefix=house/{name}/"))
            .json();
        assert_eq!(
            later.as_array().expect("a list").len(),
            events,
            "in round {round}"
        );
        let target = format!("/api/connectors/after-{round}");
        assert_eq!(
            server.with_token(("DELETE", &target), &token, "").status,
            204
        );
    }
    server.stop();
}

#[test]
fn what_one_owner_adds_to_the_control_log_is_bounded() {
    /// The bound on what is stored at once, with room for the operator's part and for segments.
    const BYTES_MAX: u64 = 6 * 1024 * 1024;
    let dir = TempDir::new().expect("a temporary directory");
    let server = with_tokens(&dir).start();
    let (greedy, other) = (register(&server, "greedy"), register(&server, "other"));
    let mut large = owned("greedy", "large", "http://127.0.0.1:1/");
    large["poll_interval_seconds"] = json!(86_400);
    large["headers"] = (0..7)
        .map(|number| (format!("X-Header-{number}"), json!("v".repeat(2_000))))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let body = large.to_string();
    let mut defined = 0_usize;
    let refused = loop {
        let answer = server.with_token(("POST", "/api/connectors"), &greedy, &body);
        if answer.status != 201 {
            break answer;
        }
        defined += 1;
        // What is taken away again is never refused.
        let removed = server.with_token(("DELETE", "/api/connectors/large"), &greedy, "");
        assert_eq!(removed.status, 204, "{}", removed.text());
        assert!(defined < 1_000);
    };
    assert!(defined > 200, "{defined}");
    refused.expect_error(429, "one more");
    assert_eq!(refused.json()["code"], "rate_limited");
    let seconds = refused.header("retry-after").expect("when there is room");
    assert!((1..=20).contains(&seconds.parse().expect("whole seconds")));
    let mut of_other = large.clone();
    of_other["entity_id"] = json!("other/a");
    define(&server, &other, &of_other);
    let revoked = server.with_token(("POST", "/api/namespaces/greedy/token"), ADMIN, "");
    assert_eq!(revoked.status, 200, "the operator is not counted");
    let files = std::fs::read_dir(dir.path().join("control")).expect("a control log");
    let bytes = files.map(|file| {
        let metadata = file.and_then(|file| file.metadata());
        metadata.expect("a file of the log").len()
    });
    assert!(bytes.sum::<u64>() < BYTES_MAX);
    server.stop();
}
