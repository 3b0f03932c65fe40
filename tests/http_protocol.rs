//! HTTP/1.1 as raw bytes: what is answered, how, and in which order (API contract §1, §4, RFC 9110,
//! RFC 9112).

mod support;

use support::http::{Response, answered, chunked, publish_request, request};
use support::{event, namespace, on_each};

#[test]
fn a_connection_serves_one_request_after_another() {
    on_each(|server| {
        let ns = namespace("alive");
        let mut connection = server.connect();
        for n in 0..50 {
            let id = format!("{ns}/{n}");
            let published = connection.request("POST", "/api/events", &event(&id, r#"{"n":1}"#));
            assert_eq!(published.status, 200, "{}", published.text());
            let read = connection.request("GET", &format!("/api/state/entities/{id}"), "");
            assert_eq!(read.json()["id"], id.as_str());
            assert_eq!(connection.request("GET", "/no/such/route", "").status, 404);
        }
    });
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    on_each(|server| {
        let ns = namespace("pipe");
        let id = |n: usize| format!("{ns}-{}/{n}", n % 4);
        for n in 0..20 {
            server.publish(&id(n), &format!(r#"{{"n":{n}}}"#));
        }
        let mut requests = String::new();
        for n in 0..200 {
            requests += &request(
                "GET",
                &format!("/api/state/entities/{}", id(n % 20)),
                &[],
                "",
            );
            requests += &request(
                "GET",
                &format!("/api/state/entities/{ns}/absent-{n}"),
                &[],
                "",
            );
            let written = event(&format!("{}-written", id(n)), "{}");
            let written = written.replace("test.events", &format!("s.{n}"));
            requests += &request("POST", "/api/events", &[], &written);
            requests += &request("HEAD", &format!("/api/state/entities/{}", id(0)), &[], "");
            requests += &request("PUT", "/health", &[], "");
        }
        let connection = server.connect();
        let mut writer = connection.stream.try_clone().expect("a second handle");
        let mut connection = connection;
        std::thread::scope(|scope| {
            // Answers are read meanwhile, because a server may stop reading requests while a client
            // does not read its answers.
            scope.spawn(move || {
                std::io::Write::write_all(&mut writer, requests.as_bytes()).expect("all is taken");
            });
            for n in 0..200 {
                assert_eq!(connection.response().json()["properties"]["n"], n % 20);
                assert_eq!(connection.response().status, 404);
                assert_eq!(connection.response().json()["stream"], format!("s.{n}"));
                assert_eq!(connection.response_to_head().status, 200);
                assert_eq!(connection.response().status, 405);
            }
        });
    });
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    on_each(|server| {
        let ns = namespace("slow");
        let chunks = "LEN1\r\nDATA1\r\nLEN2;a=b\r\nDATA2\r\n";
        let requests = [
            publish_request(&format!("{ns}/plain"), &[]),
            chunked(&format!("{ns}/chunked"), chunks, "X-Trailer: 1\r\n"),
            request("GET", &format!("/api/state/entities/{ns}/chunked"), &[], ""),
        ];
        let mut connection = server.connect();
        for request in requests {
            for byte in request.bytes() {
                connection.send([byte]);
            }
            let answer = connection.response();
            assert_eq!(answer.status, 200, "{request}\n{}", answer.text());
        }
    });
}

#[test]
fn chunked_bodies_are_read_as_rfc_9112_draws_them() {
    let forms = [
        ("two chunks", "LEN1\r\nDATA1\r\nLEN2\r\nDATA2\r\n", ""),
        (
            "leading zeroes",
            "000LEN1\r\nDATA1\r\n00000LEN2\r\nDATA2\r\n",
            "",
        ),
        (
            "extensions",
            "LEN1;name\r\nDATA1\r\nLEN2;name=value;other=\"quoted\"\r\nDATA2\r\n",
            "",
        ),
        (
            "trailers",
            "LEN1\r\nDATA1\r\nLEN2\r\nDATA2\r\n",
            "X-One: 1\r\nX-Two: 2\r\n",
        ),
    ];
    on_each(|server| {
        let ns = namespace("chunks");
        for (index, (what, chunks, trailers)) in forms.iter().enumerate() {
            let id = format!("{ns}/{index}");
            let mut connection = server.connect();
            connection.send(chunked(&id, chunks, trailers));
            let answer = connection.response();
            assert_eq!(answer.status, 200, "{what}: {}", answer.text());
            // The server has consumed exactly this request.
            let read = connection.request("GET", &format!("/api/state/entities/{id}"), "");
            assert_eq!(read.json()["properties"]["n"], 1, "{what}");
        }
    });
}

#[test]
fn expect_100_continue_is_answered_before_the_body_is_sent() {
    on_each(|server| {
        let ns = namespace("expect");
        let whole = publish_request(&format!("{ns}/a"), &["Expect: 100-continue"]);
        let (head, body) = whole.split_once("\r\n\r\n").expect("a head");
        let mut connection = server.connect();
        connection.send(format!("{head}\r\n\r\n"));
        assert_eq!(connection.response().status, 100);
        connection.send(body);
        assert_eq!(connection.response().status, 200);

        // The server does not ask for a body that it will refuse.
        let head = "POST /api/events HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2000000\r\n\r\n";
        connection.send(head);
        connection
            .response()
            .expect_error(413, "too large a body, announced");
    });
}

#[test]
fn http_1_0_closes_after_the_answer_unless_asked_to_stay() {
    on_each(|server| {
        let ns = namespace("old");
        server.publish(&format!("{ns}/a"), r#"{"n":1}"#);
        let targets = [
            "/health".to_owned(),
            format!("/api/state/entities/{ns}/a"),
            format!("/api/state/entities?namespace={ns}"),
        ];
        for target in targets {
            let mut connection = server.connect();
            connection.send(format!("GET {target} HTTP/1.0\r\n\r\n"));
            let answer = connection.response();
            assert_eq!(answer.status, 200, "{target}");
            assert_eq!(
                answer.header("transfer-encoding"),
                None,
                "HTTP/1.0 knows no chunks: {target}"
            );
            assert!(!answer.json().is_null());
            connection.expect_closed();
        }
        let mut connection = server.connect();
        for _ in 0..3 {
            connection.send(format!(
                "GET /api/state/entities/{ns}/a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
            ));
            let answer = connection.response();
            assert_eq!(answer.status, 200);
            let says = answer
                .header("connection")
                .unwrap_or("")
                .to_ascii_lowercase();
            assert_eq!(
                says, "keep-alive",
                "RFC 9112 §9.3: HTTP/1.0 stays only where it is told so"
            );
        }
    });
}

#[test]
fn connection_close_is_honoured_after_the_answer() {
    on_each(|server| {
        for value in ["close", "Close", "foo, close", "close, foo"] {
            let header = format!("Connection: {value}");
            let mut connection = server.connect();
            connection.send(
                request("GET", "/health", &[&header], "") + &request("GET", "/health", &[], ""),
            );
            let answer = connection.response();
            assert_eq!(answer.status, 200, "{value}");
            assert_eq!(answer.header("connection"), Some("close"), "{value}");
            connection.expect_closed();
        }
    });
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answer() {
    on_each(|server| {
        let mut connection = server.connect();
        connection.send(publish_request(&format!("{}/a", namespace("half")), &[]));
        connection.finish_sending();
        assert_eq!(connection.response().status, 200);
        connection.expect_closed();
    });
}

#[test]
fn head_gives_the_headers_of_get_and_no_body() {
    on_each(|server| {
        let ns = namespace("head");
        server.publish(&format!("{ns}/a"), r#"{"n":1}"#);
        server.publish(&format!("{ns}/b"), r#"{"n":1}"#);
        let targets = [
            format!("/api/state/entities/{ns}/a"),
            format!("/api/state/entities/{ns}/absent"),
            format!("/api/state/entities?namespace={ns}&limit=1"),
            format!("/api/state/entities?namespace={ns}"),
            "/ready".to_owned(),
            "/no/such/route".to_owned(),
        ];
        let mut connection = server.connect();
        for target in targets {
            let get = connection.request("GET", &target, "");
            let head = connection.request("HEAD", &target, "");
            assert_eq!(head.status, get.status, "{target}");
            let comparable = |answer: &Response| {
                let mut headers = answer.headers.clone();
                headers.retain(|(name, _)| name != "date");
                headers
            };
            assert_eq!(comparable(&head), comparable(&get), "{target}");
        }
        assert_eq!(
            connection.request("GET", "/health", "").status,
            200,
            "no body was left behind"
        );
    });
}

/// The items of a header that is a list, in lower case.
fn list(answer: &Response, name: &str) -> Vec<String> {
    let headers = &answer.headers;
    let value = answer
        .header(name)
        .unwrap_or_else(|| panic!("no {name} in {headers:?}"));
    value
        .split(',')
        .map(|item| item.trim().to_ascii_lowercase())
        .collect()
}

fn expect_items(answer: &Response, name: &str, items: &str) {
    let listed = list(answer, name);
    for item in items.split(' ') {
        assert!(
            listed.iter().any(|known| known == item),
            "{item} in {name}: {listed:?}"
        );
    }
}

const ORIGIN: &str = "Origin: https://dashboard.example";

#[test]
fn preflights_are_answered_for_every_path() {
    let asked = [
        ORIGIN,
        "Access-Control-Request-Method: DELETE",
        "Access-Control-Request-Headers: authorization,content-type",
    ];
    let targets =
        "/api/events /api/events/batch /api/state/entities /api/state/entities/a/b /health";
    on_each(|server| {
        for target in targets.split(' ') {
            let answer = answered(
                server,
                request("OPTIONS", target, &asked, "").as_bytes(),
                target,
            );
            assert!(
                matches!(answer.status, 200 | 204),
                "{target}: {}",
                answer.status
            );
            assert_eq!(
                answer.header("access-control-allow-origin"),
                Some("*"),
                "{target}"
            );
            let methods = "get post put delete options";
            expect_items(&answer, "access-control-allow-methods", methods);
            let headers = "authorization content-type if-match if-none-match";
            expect_items(&answer, "access-control-allow-headers", headers);
        }
        let status = server.request("OPTIONS", "*", "").status;
        assert!(matches!(status, 200 | 204), "RFC 9110 §9.3.7: {status}");
    });
}

#[test]
fn any_origin_may_read_answers_refusals_and_the_headers_it_needs() {
    on_each(|server| {
        let ns = namespace("cors");
        server.publish(&format!("{ns}/a"), "{}");
        server.publish(&format!("{ns}/b"), "{}");
        // An answer with such a header exposes it.
        let exposing = [
            format!("/api/state/entities/{ns}/a"),
            format!("/api/state/entities?namespace={ns}&limit=1"),
        ];
        let others = ["/health", "/api/state/entities/absent", "/no/such/route"].map(str::to_owned);
        for target in exposing.iter().chain(&others) {
            let answer = answered(
                server,
                request("GET", target, &[ORIGIN], "").as_bytes(),
                target,
            );
            assert_eq!(
                answer.header("access-control-allow-origin"),
                Some("*"),
                "{target}"
            );
            if exposing.contains(target) {
                expect_items(
                    &answer,
                    "access-control-expose-headers",
                    "etag link retry-after",
                );
            }
        }
    });
}

#[test]
fn a_method_that_a_path_does_not_take_is_405_with_all_that_it_takes() {
    let table = [
        ("PUT", "/api/events", "GET HEAD OPTIONS POST"),
        ("DELETE", "/api/events", "GET HEAD OPTIONS POST"),
        ("GET", "/api/events/batch", "OPTIONS POST"),
        ("DELETE", "/api/events/batch", "OPTIONS POST"),
        ("POST", "/api/state/entities", "GET HEAD OPTIONS"),
        ("PUT", "/api/state/entities/a/b", "DELETE GET HEAD OPTIONS"),
        ("POST", "/api/state/entities/a", "DELETE GET HEAD OPTIONS"),
        (
            "PATCH",
            "/api/state/entities/delete",
            "DELETE GET HEAD OPTIONS POST",
        ),
        ("POST", "/api/ws", "GET HEAD OPTIONS"),
        ("DELETE", "/health", "GET HEAD OPTIONS"),
        ("PUT", "/ready", "GET HEAD OPTIONS"),
        ("BREW", "/health", "GET HEAD OPTIONS"),
    ];
    on_each(|server| {
        for (method, target, expected) in table {
            let what = format!("{method} {target}");
            let answer = server.request(method, target, "");
            if method == "HEAD" {
                assert_eq!(answer.status, 405, "{what}");
            } else {
                answer.expect_error(405, &what);
            }
            let allow = answer
                .header("allow")
                .unwrap_or_else(|| panic!("{what}: no Allow"));
            let mut methods: Vec<_> = allow.split(',').map(str::trim).collect();
            methods.sort_unstable();
            assert_eq!(methods.join(" "), expected, "{what}");
        }
    });
}

#[test]
fn unknown_paths_are_404_for_every_method() {
    on_each(|server| {
        let targets = [
            "/x",
            "/api",
            "/api/",
            "/api/event",
            "/api/events/",
            "/API/events",
            "/api/state",
            "/health/x",
        ];
        for target in targets {
            for method in ["GET", "POST", "DELETE", "PUT"] {
                server
                    .request(method, target, "")
                    .expect_error(404, &format!("{method} {target}"));
            }
        }
    });
}

#[test]
fn a_target_may_be_absolute_and_empty_lines_may_come_first() {
    on_each(|server| {
        let forms = [
            "GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "GET http://localhost:3000/health?x=1 HTTP/1.1\r\nHost: localhost:3000\r\n\r\n",
            "\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "GET /health?a=b HTTP/1.1\r\nhOST:localhost\r\nX-Empty:\r\nX-Spaces: \t a \t \r\n\r\n",
        ];
        for form in forms {
            assert_eq!(
                answered(server, form.as_bytes(), form).status,
                200,
                "{form}"
            );
        }
    });
}

#[test]
fn the_content_type_does_not_matter_and_an_unknown_content_encoding_is_415() {
    on_each(|server| {
        let id = format!("{}/a", namespace("type"));
        for header in [
            "Content-Type: text/plain",
            "Content-Type: nonsense",
            "X-No: type",
        ] {
            let answer = answered(server, publish_request(&id, &[header]).as_bytes(), header);
            assert_eq!(answer.status, 200, "{header}: {}", answer.text());
        }
        for encoding in ["gzip", "br", "deflate", "nonsense"] {
            let header = format!("Content-Encoding: {encoding}");
            let answer = answered(
                server,
                publish_request(&id, &[&header]).as_bytes(),
                encoding,
            );
            answer.expect_error(415, encoding);
        }
        assert_eq!(server.entity(&id).json()["version"], 3);
    });
}

/// A write whose answer is known before that of the request in front of it: a page that is sent
/// first, the list of tools, a poll that ends without a change.
#[test]
fn a_write_behind_what_takes_longer_is_answered() {
    on_each(|server| {
        let ns = namespace("behind");
        let gzip = &["Accept-Encoding: gzip"];
        let changes = server.get(&format!("/api/state/entities?namespace={ns}"));
        let since = changes.header("flux-cursor").expect("a cursor").to_owned();
        let tools = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#;
        let mcp = &["Content-Type: application/json"];
        let poll = format!("/api/changes?entity_id={ns}/*&wait=1&since={since}");
        let fronts = [
            request("GET", "/llms.txt", &[], ""),
            request("GET", "/docs", gzip, ""),
            request("GET", "/docs", &[], ""),
            request("POST", "/mcp", mcp, tools),
            request("GET", &poll, &[], ""),
        ];
        for (number, front) in fronts.iter().enumerate() {
            for last in ["Connection: keep-alive", "Connection: close"] {
                let (id, headers) = (format!("{ns}-2/{number}"), [last]);
                let body = event(&id, r#"{"n":1}"#);
                let write = request("POST", "/api/events", &headers, &body);
                let mut connection = server.connect();
                connection.send(format!("{front}{write}"));
                let first = connection.response();
                assert_eq!(first.status, 200, "{number}");
                let second = connection.response();
                assert_eq!(second.status, 200, "{number}: {}", second.text());
                if last.ends_with("close") {
                    connection.expect_closed();
                } else {
                    let id = format!("/api/state/entities/{id}");
                    assert_eq!(connection.request("GET", &id, "").status, 200);
                }
            }
        }
    });
}
