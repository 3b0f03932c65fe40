//! `POST /api/tickets`: what stands for a token once, for a client that can't send it in a header
//! (API contract §16).

mod support;

use serde_json::json;
use std::sync::mpsc;
use std::{iter, thread};
use support::events::Events;
use support::http::{Connection, Response, request};
use support::server::Server;
use support::tenants::{ADMIN, Tenants, publish};
use support::watch::Watcher;

const HANDSHAKE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// The bound on the tickets of a namespace.
const OF_NAMESPACE_MAX: usize = 1000;

fn ticket(server: &Server, token: &str) -> String {
    let answer = server.with_token(("POST", "/api/tickets"), token, "");
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let json = answer.json();
    assert_eq!(json["expires_in_seconds"], 30);
    json["ticket"].as_str().expect("a ticket").to_owned()
}

/// The status of the answer to a request that may open a connection.
fn status(server: &Server, path: &str) -> u16 {
    asked(server, path, &[]).response_to_head().status
}

/// The answer to a request that is refused.
fn refusal(server: &Server, path: &str, fields: &[&str]) -> Response {
    asked(server, path, fields).response()
}

/// A connection that has asked for a path, with these fields too.
fn asked(server: &Server, path: &str, fields: &[&str]) -> Connection {
    let mut connection = server.connect();
    let mut all = fields.to_vec();
    if path.starts_with("/api/ws") {
        all.extend(HANDSHAKE);
    }
    connection.send(request("GET", path, &all, ""));
    connection
}

#[test]
fn a_ticket_opens_one_connection_on_any_core() {
    let tenants = Tenants::start(3);
    let server = &tenants.server;
    for round in 0..30 {
        let path = ["/api/ws", "/api/stream"][round % 2];
        let target = format!("{path}?ticket={}", ticket(server, &tenants.first["house"]));
        let (send, received) = mpsc::channel();
        thread::scope(|scope| {
            for send in iter::repeat_n(send, 6) {
                let target = &target;
                scope.spawn(move || send.send(status(server, target)));
            }
        });
        let statuses: Vec<u16> = received.iter().collect();
        let opened = if round % 2 == 0 { 101 } else { 200 };
        let count = |status| statuses.iter().filter(|it| **it == status).count();
        assert_eq!((count(opened), count(401)), (1, 5), "{path}: {statuses:?}");
    }
}

#[test]
fn a_connection_that_came_with_a_ticket_has_its_token() {
    let tenants = Tenants::start(2);
    let ticket = ticket(&tenants.server, &tenants.first["house"]);
    assert!(!tenants.first["house"].contains(&ticket), "it is no token");
    let target = format!("/api/ws?metrics=false&ticket={ticket}");
    let mut watcher = Watcher::connect_to(&tenants.server, &target);
    assert_eq!(publish(&mut watcher, "house/a"), "");
    assert_eq!(publish(&mut watcher, "garden/a"), "not_namespace_owner");
}

#[test]
fn a_ticket_that_is_none_is_401_and_one_that_is_misplaced_400() {
    let tenants = Tenants::start(2);
    let server = &tenants.server;
    let token = &tenants.first["house"];
    let good = ticket(server, token);
    for path in ["/api/ws", "/api/stream"] {
        for unknown in ["", "x", token.as_str(), ADMIN, &format!("{good}x")] {
            let answer = refusal(server, &format!("{path}?ticket={unknown}"), &[]);
            let code = answer.expect_error(401, path);
            assert_eq!(code, "ticket_unknown", "{path} {unknown}");
            assert!(answer.header("www-authenticate").is_some());
        }
        let twice = refusal(server, &format!("{path}?ticket={good}&ticket={good}"), &[]);
        assert_eq!(twice.expect_error(400, path), "invalid_query");
        let field = format!("Authorization: Bearer {token}");
        let beside = refusal(server, &format!("{path}?ticket={good}"), &[&field]);
        assert_eq!(beside.expect_error(400, path), "invalid_query");
        let unknown = refusal(
            server,
            &format!("{path}?ticket={good}"),
            &["Authorization: Bearer x"],
        );
        assert_eq!(unknown.expect_error(401, path), "token_unknown");
    }
    for (method, path) in [
        ("GET", "/api/changes"),
        ("GET", "/api/state/entities"),
        ("GET", "/api/events"),
        ("POST", "/api/events"),
        ("POST", "/api/tickets"),
        ("GET", "/ready"),
    ] {
        let call = (method, &*format!("{path}?ticket={good}"));
        let answer = server.with_token(call, token, "{}");
        assert_eq!(answer.expect_error(400, path), "invalid_query", "{path}");
    }
    // None of these has used it, nor has a request that opens nothing.
    let head = request("HEAD", &format!("/api/stream?ticket={good}"), &[], "");
    let mut connection = server.connect();
    connection.send(head);
    assert_eq!(connection.response_to_head().status, 200);
    let bad = refusal(server, &format!("/api/ws?metrics=x&ticket={good}"), &[]);
    assert_eq!(bad.expect_error(400, "metrics"), "invalid_query");
    assert_eq!(status(server, &format!("/api/ws?ticket={good}")), 101);
    assert_eq!(status(server, &format!("/api/ws?ticket={good}")), 401);
    assert!(!server.said().contains(&good), "it is not logged");
}

#[test]
fn a_ticket_dies_with_its_token_and_with_the_server() {
    let tenants = Tenants::start(2);
    let made = tenants.make("house", &json!({"scopes": ["read"]}));
    let dead = ticket(&tenants.server, &made.token);
    tenants.revoke("house", &made.id);
    let lost = ticket(&tenants.server, ADMIN);
    let check = |server: &Server, ticket: &str| {
        for path in ["/api/ws", "/api/stream"] {
            let answer = refusal(server, &format!("{path}?ticket={ticket}"), &[]);
            assert_eq!(answer.expect_error(401, path), "ticket_unknown");
        }
    };
    check(&tenants.server, &dead);
    let tenants = tenants.restart();
    check(&tenants.server, &lost);
}

#[test]
fn a_namespace_has_so_many_unused_tickets() {
    let tenants = Tenants::start(1);
    let server = &tenants.server;
    let (house, garden) = (&tenants.first["house"], &tenants.first["garden"]);
    let mut connection = server.connect();
    let field = format!("Authorization: Bearer {house}");
    let mut last = String::new();
    for number in 0..=OF_NAMESPACE_MAX {
        connection.send(request("POST", "/api/tickets", &[&field], ""));
        let answer = connection.response();
        if number < OF_NAMESPACE_MAX {
            assert_eq!(answer.status, 201, "{number}");
            last = answer.json()["ticket"].as_str().expect("one").to_owned();
        } else {
            assert_eq!(answer.expect_error(429, "bound"), "too_many_tickets");
            let seconds = answer.header("retry-after").expect("a time");
            let seconds: u32 = seconds.parse().expect("a number");
            assert!((1..=30).contains(&seconds), "{seconds}");
        }
    }
    let other = tenants.make("house", &json!({"scopes": ["read"]})).token;
    let answer = server.with_token(("POST", "/api/tickets"), &other, "");
    assert_eq!(answer.status, 429, "its other tokens share the bound");
    ticket(server, garden);
    // One that is used makes room.
    assert_eq!(status(server, &format!("/api/ws?ticket={last}")), 101);
    ticket(server, house);
}

#[test]
fn a_page_of_another_origin_asks_for_a_ticket_and_opens_a_stream_with_it() {
    let tenants = Tenants::start(1);
    let server = &tenants.server;
    let origin = "Origin: https://shop.example";
    let mut connection = server.connect();
    let wanted = "Access-Control-Request-Method: POST";
    connection.send(request("OPTIONS", "/api/tickets", &[origin, wanted], ""));
    let preflight = connection.response();
    assert_eq!(preflight.status, 204);
    let methods = preflight.header("access-control-allow-methods");
    assert!(methods.expect("methods").contains("POST"));
    let fields = preflight.header("access-control-allow-headers");
    assert!(fields.expect("fields").contains("authorization"));
    let field = format!("Authorization: Bearer {}", tenants.first["house"]);
    for fields in [vec![origin, &field], vec![origin]] {
        connection.send(request("POST", "/api/tickets", &fields, ""));
        let answer = connection.response();
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, Some("*"), "{}", answer.status);
    }
    let target = format!("/api/stream?ticket={}", ticket(server, ADMIN));
    let mut events = Events::open(server.port, &target, &[origin]);
    assert_eq!(events.head.status, 200);
    assert_eq!(events.next().kind, "ack");
}

#[test]
fn without_tokens_in_force_there_are_no_tickets() {
    let server = Server::start(1);
    let answer = server.request("POST", "/api/tickets", "");
    assert_eq!(answer.expect_error(404, "no auth"), "not_found");
    for path in ["/api/ws", "/api/stream"] {
        assert!(status(&server, &format!("{path}?ticket=x")) < 300, "{path}");
    }
}

#[test]
fn a_ticket_is_made_with_any_token_that_is_known() {
    let tenants = Tenants::start(1);
    let make = |token: &str| {
        let call = ("POST", "/api/tickets");
        tenants.server.with_token(call, token, "")
    };
    assert_eq!(make("").expect_error(401, "none"), "token_missing");
    assert_eq!(make("x").expect_error(401, "unknown"), "token_unknown");
    let narrow = json!({"scopes": ["manage"], "prefix": "house/x"});
    assert_eq!(make(&tenants.make("house", &narrow).token).status, 201);
    let call = ("GET", "/api/tickets");
    let refused = tenants.server.with_token(call, ADMIN, "");
    assert_eq!(refused.expect_error(405, "GET"), "method_not_allowed");
    assert_eq!(refused.header("allow"), Some("POST, OPTIONS"));
}
