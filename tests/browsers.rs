//! Web pages and names: what a page of another origin, or one whose name points to the server's
//! machine, gets from a server on that machine (API contract §16).

mod support;

use serde_json::json;
use support::event;
use support::http::{Response, request};
use support::server::{Server, Setup};
use tempfile::TempDir;

const EXPOSED: &str = "etag, link, retry-after, flux-cursor";
const HANDSHAKE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// A server with the settings that it has by default, and these.
fn start(variables: &[(&str, &str)]) -> (Server, TempDir) {
    let dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(dir.path(), 2)
        .env("FLUX_OPEN", "")
        .env("FLUX_ALLOWED_ORIGINS", "");
    let with = |setup: Setup, (name, value): &(&str, &str)| setup.env(name, value);
    (variables.iter().fold(setup, with).start(), dir)
}

/// Sends one request with these fields and no others.
fn ask(server: &Server, line: &str, fields: &[&str], body: &str) -> Response {
    let mut text = format!("{line} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
    for field in fields {
        text.push_str(field);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.push_str(body);
    let mut connection = server.connect();
    connection.send(text);
    connection.response()
}

fn code(answer: &Response) -> String {
    let code = answer.json()["code"].as_str().map(str::to_owned);
    code.unwrap_or_default()
}

#[test]
fn without_tokens_a_page_of_another_origin_gets_nothing_and_one_on_loopback_everything() {
    let (server, _dir) = start(&[]);
    let body = event("a", "{}");
    let calls = [
        ("GET /api/state/entities", ""),
        ("GET /nothing", ""),
        ("OPTIONS /api/events", ""),
        ("POST /api/events", body.as_str()),
        ("DELETE /api/state/entities/a", ""),
        ("PUT /api/admin/config", "{}"),
    ];
    for (line, body) in calls {
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost.evil.example",
        ] {
            let origin = format!("Origin: {origin}");
            let (method, target) = line.split_once(' ').expect("a line");
            let mut connection = server.connect();
            connection.send(request(method, target, &[&origin], body));
            let answer = connection.response();
            assert_eq!(answer.status, 403, "{line} {origin}");
            assert_eq!(code(&answer), "origin_refused", "{line}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    assert_eq!(server.entities().len(), 0, "nothing was published");
    let port = format!("Host: 127.0.0.1:{}", server.port);
    for origin in [
        "http://localhost:5173",
        "https://127.0.0.1",
        "http://[::1]:8080",
    ] {
        let origin = format!("Origin: {origin}");
        for (line, status) in [
            ("GET /api/state/entities", 200),
            ("GET /health", 200),
            ("GET /nothing", 404),
            ("GET /api/events", 400),
            ("OPTIONS /api/events", 204),
        ] {
            let answer = ask(&server, line, &[&port, &origin], "");
            assert_eq!(answer.status, status, "{line} {origin}");
            assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
            let exposed = answer.header("access-control-expose-headers");
            assert_eq!(exposed, Some(EXPOSED), "{line}");
        }
    }
    let other_name = format!("Origin: http://flux.test:{}", server.port);
    let answer = ask(&server, "GET /health", &[&port, &other_name], "");
    assert_eq!(code(&answer), "origin_refused", "of another name");
}

#[test]
fn a_websocket_of_another_origin_is_refused_with_its_handshake() {
    let (server, _dir) = start(&[]);
    for (origin, status) in [
        ("Origin: https://evil.example", 403),
        ("Origin: http://localhost:8080", 101),
    ] {
        let mut fields = HANDSHAKE.to_vec();
        fields.push(origin);
        let mut connection = server.connect();
        connection.send(request("GET", "/api/ws", &fields, ""));
        assert_eq!(connection.response_to_head().status, status, "{origin}");
    }
}

#[test]
fn without_tokens_a_name_that_is_not_the_servers_is_refused() {
    let (server, _dir) = start(&[("FLUX_ALLOWED_HOSTS", "flux.test")]);
    let check = |line: &str, fields: &[&str], expected: (u16, &str)| {
        let answer = ask(&server, line, fields, "");
        let code = if answer.status == 200 {
            String::new()
        } else {
            code(&answer)
        };
        assert_eq!((answer.status, &*code), expected, "{line} {fields:?}");
    };
    let refused = (403, "host_refused");
    let health = "GET /health";
    for host in [
        "localhost",
        "127.0.0.1:9",
        "[::1]:3000",
        "192.168.1.7",
        "flux.test:80",
    ] {
        check(health, &[&format!("Host: {host}")], (200, ""));
    }
    for host in [
        "evil.example",
        "evil.example:3000",
        "localhost.evil.example",
        "",
    ] {
        check(health, &[&format!("Host: {host}")], refused);
    }
    // Rebound: the page is of the origin that it asks.
    let rebound = ["Host: evil.example", "Origin: http://evil.example"];
    check(health, &rebound, refused);
    let own = ["Host: flux.test:3000", "Origin: http://flux.test:3000"];
    check(health, &own, (200, ""));
    // An absolute target names whom it asks.
    let absolute = "GET http://evil.example/health";
    check(absolute, &["Host: localhost"], refused);
    let absolute = "GET http://localhost/health";
    check(absolute, &["Host: evil.example"], (200, ""));
    let mut connection = server.connect();
    connection.send("GET /health HTTP/1.0\r\n\r\n");
    assert_eq!(connection.response().status, 200);
}

#[test]
fn settings_say_which_pages_and_names_may_reach_the_server() {
    let page = "Origin: https://app.example";
    let (host, name) = ("Host: localhost", "Host: evil.example");
    let listed = ("FLUX_ALLOWED_ORIGINS", "https://app.example");
    let auth = ("FLUX_AUTH_ENABLED", "true");
    for (variables, fields, status) in [
        (&[listed][..], [host, page], 200),
        (&[listed], [host, "Origin: http://localhost"], 403),
        (&[("FLUX_ALLOWED_ORIGINS", "*")], [host, page], 200),
        (&[("FLUX_OPEN", "true")], [name, "Accept: */*"], 200),
        (&[("FLUX_OPEN", "true")], [name, page], 403),
        (&[auth], [name, page], 200),
        (&[auth, listed], [name, page], 200),
        (&[auth, listed], [name, "Origin: http://localhost"], 403),
    ] {
        let (server, _dir) = start(variables);
        let answer = ask(&server, "GET /health", &fields, "");
        assert_eq!(answer.status, status, "{variables:?} {fields:?}");
    }
}

#[test]
fn where_a_request_comes_from_is_judged_after_its_size_and_before_its_token() {
    let (server, _dir) = start(&[
        ("FLUX_AUTH_ENABLED", "true"),
        ("FLUX_ALLOWED_ORIGINS", "https://app.example"),
        ("FLUX_BODY_SIZE_LIMIT_SINGLE_BYTES", "100"),
    ]);
    let evil = ["Host: localhost", "Origin: https://evil.example"];
    let page = ["Host: localhost", "Origin: https://app.example"];
    let long = json!({"x": "x".repeat(200)}).to_string();
    for (fields, body, expected) in [
        (evil, long.as_str(), 413),
        (evil, "no json", 403),
        (page, "no json", 401),
    ] {
        let answer = ask(&server, "POST /api/events", &fields, body);
        assert_eq!(answer.status, expected, "{fields:?}");
    }
    // Before the body has come.
    let mut connection = server.connect();
    connection.send(
        "POST /api/events HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\
         Content-Length: 50\r\n\r\n",
    );
    assert_eq!(connection.response().status, 403);
}
