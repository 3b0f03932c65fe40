//! What a server does about callers that have no token, or guess one: registrations by address, and
//! the operator's token.

mod support;

use serde_json::json;
use support::http::{Response, request};
use support::server::{Server, Setup};
use support::watch::Watcher;
use tempfile::TempDir;

const ADMIN: &str = "operator-secret-0123456789";

fn register(server: &Server, token: &str, number: u32) -> Response {
    let body = json!({ "name": format!("ns-{number}") }).to_string();
    server.with_token(("POST", "/api/namespaces"), token, &body)
}

#[test]
fn one_address_registers_so_many_namespaces_if_anyone_may() {
    for shards in [1, 2] {
        let dir = TempDir::new().expect("a temporary directory");
        let server = Setup::new(dir.path(), shards)
            .env("FLUX_AUTH_ENABLED", "true")
            .env("FLUX_REGISTRATIONS_PER_ADDRESS_MAX", "3")
            .start();
        for number in 0..3 {
            assert_eq!(register(&server, "", number).status, 200, "{number}");
        }
        // A forwarded address is the client's own claim.
        let claim = ["X-Forwarded-For: 203.0.113.9", "Forwarded: for=203.0.113.9"];
        let mut connection = server.connect();
        connection.send(request("POST", "/api/namespaces", &claim, ""));
        let refused = connection.response();
        refused.expect_error(429, "one more");
        assert_eq!(refused.json()["code"], "too_many_registrations");
        let seconds = refused
            .header("retry-after")
            .expect("when there is one more");
        let seconds: u32 = seconds.parse().expect("whole seconds");
        assert!((1..=200).contains(&seconds), "{seconds}");
        let bad = server.post("/api/namespaces", r#"{"name":"NO"}"#);
        bad.expect_error(400, "fields are judged before the rate");
    }
}

#[test]
fn the_operator_registers_as_many_as_it_likes() {
    let dir = TempDir::new().expect("a temporary directory");
    let server = Setup::new(dir.path(), 1)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", ADMIN)
        .env("FLUX_REGISTRATIONS_PER_ADDRESS_MAX", "1")
        .start();
    for number in 0..5 {
        assert_eq!(register(&server, ADMIN, number).status, 200, "{number}");
    }
}

#[test]
fn wrong_operators_tokens_are_answered_in_the_end_counted_and_keep_nobody_waiting() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut server = Setup::new(dir.path(), 2)
        .env("FLUX_ADMIN_TOKEN", ADMIN)
        .start();
    let put = |token: &str| {
        let field = format!("Authorization: Bearer {token}");
        request("PUT", "/api/admin/config", &[&field], "{}")
    };
    for number in 0..3 {
        // Whole, and with a body that never comes.
        let mut whole = server.connect();
        whole.send(put("wrong"));
        whole.response().expect_error(401, &format!("{number}"));
        let mut without_body = server.connect();
        without_body.send(put("wrong").replace("{}", ""));
        let answer = without_body.response();
        answer.expect_error(401, &format!("{number}, without its body"));
    }
    // Behind the guess on the same connection: it waits, and is answered.
    let mut guessing = server.connect();
    guessing.send(put("wrong") + &put(ADMIN));
    assert_eq!(
        server
            .with_token(("PUT", "/api/admin/config"), ADMIN, "{}")
            .status,
        200
    );
    guessing.expect_nothing_yet();
    guessing.response().expect_error(401, "the guess");
    assert_eq!(guessing.response().status, 200);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let said = server.said();
    let line = "flux: warning: 7 calls with a wrong operator's token within a minute, the last from 127.0.0.1";
    assert_eq!(said.lines().filter(|it| *it == line).count(), 1, "{said}");
}

#[test]
fn many_unknown_tokens_on_calls_of_all_count_as_guesses() {
    /// So many do not count.
    const FREE: usize = 1_000;
    let dir = TempDir::new().expect("a temporary directory");
    let mut server = Setup::new(dir.path(), 2)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", ADMIN)
        .start();
    let health = |token: &str| {
        let field = format!("Authorization: Bearer {token}");
        request("GET", "/health", &[&field], "")
    };
    let mut guessing = server.connect();
    for _ in 0..FREE / 2 {
        guessing.send(health("wrong"));
        guessing
            .response()
            .expect_error(401, "one that may have died");
    }
    let mut watcher = Watcher::connect(&server);
    let guess = r#"{"type":"auth","id":1,"token":"wrong"}"#;
    for _ in 0..FREE / 2 {
        watcher.send(guess);
        assert_eq!(watcher.next()["code"], "token_unknown");
    }
    guessing.send(health("wrong") + &health(ADMIN));
    guessing.expect_nothing_yet();
    guessing.response().expect_error(401, "late");
    assert_eq!(guessing.response().status, 200);
    watcher.send(guess);
    assert_eq!(watcher.next()["code"], "token_unknown");
    assert_eq!(watcher.close_code(), 1008);
    let mut watcher = Watcher::connect(&server);
    watcher.send(&guess.replace("wrong", ADMIN));
    assert_eq!(watcher.next()["type"], "ack");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let said = server.said();
    let line = "flux: warning: 2 calls with a wrong operator's token within a minute, the last from 127.0.0.1";
    assert_eq!(said.lines().filter(|it| *it == line).count(), 1, "{said}");
}

#[test]
fn an_operators_token_that_can_be_guessed_is_warned_of_at_start() {
    let dir = TempDir::new().expect("a temporary directory");
    for (token, is_short) in [("fifteen-letters", true), ("sixteen-letters!", false)] {
        let server = Setup::new(dir.path(), 1)
            .env("FLUX_ADMIN_TOKEN", token)
            .start();
        let said = server.said();
        let warnings = said
            .lines()
            .filter(|line| line.contains("fewer than 16 characters"));
        assert_eq!(warnings.count(), usize::from(is_short), "{said}");
        assert!(!said.contains(token), "{said}");
        server.stop();
    }
}
