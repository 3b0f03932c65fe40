//! Each way that a request, an event or a message ends is counted once by `GET /metrics`: under its
//! route, its class of status and its code (docs/OPERATIONS.md, "Metrics").

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::event;
use support::http::{Connection, publish_request, request};
use support::mcp::{call, call_as, publish, refused};
use support::metrics::{Scrape, scrape};
use support::server::{Server, Setup};
use support::strace::{Tracer, can_trace};
use support::tenants::{ADMIN, Tenants};
use support::watch::Watcher;
use tempfile::TempDir;

/// How far each series of these families has risen; a series that has not is left out.
type Rises = BTreeMap<String, u64>;

const FAMILIES: [&str; 3] = [
    "flux_http_requests_total",
    "flux_events_refused_total",
    "flux_events_accepted_total",
];

/// A series as it is named here: `POST /api/events 2xx`, `refused code`, `accepted front`.
fn name_of(series: &str) -> Option<String> {
    let (family, labels) = series.split_once('{')?;
    let values: Vec<&str> = labels.split('"').skip(1).step_by(2).collect();
    match FAMILIES.iter().position(|name| *name == family)? {
        0 => Some(values.join(" ")),
        1 => Some(format!("refused {}", values[0])),
        _ => Some(format!("accepted {}", values[0])),
    }
}

fn rises(before: &Scrape, after: &Scrape) -> Rises {
    let mut rises = Rises::new();
    for (series, value) in &after.samples {
        let earlier = before.samples.get(series).copied().unwrap_or_default();
        let Some(name) = name_of(series) else {
            continue;
        };
        assert!(*value >= earlier, "{series} fell");
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number, and no negative one"
        )]
        let rise = (value - earlier) as u64;
        if rise > 0 {
            rises.insert(name, rise);
        }
    }
    rises
}

/// Does something, and holds what is counted to `expected`: the scrape in between besides.
fn check(server: &Server, what: &str, expected: &[(&str, u64)], act: impl FnOnce()) {
    let before = scrape(server);
    act();
    let after = scrape(server);
    let mut found = rises(&before, &after);
    assert_eq!(found.remove("GET /metrics 2xx"), Some(1), "{what}");
    let expected: Rises = expected
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect();
    assert_eq!(found, expected, "{what}");
}

/// A server that waits for no request longer than a second.
fn server(dir: &TempDir, shards: u32) -> Server {
    let setup = Setup::new(dir.path(), shards)
        .env("FLUX_BODY_TIMEOUT_SECONDS", "1")
        .env("FLUX_HEAD_TIMEOUT_SECONDS", "1");
    // By default a page of another origin and a name of another host are refused.
    let setup = setup.env("FLUX_OPEN", "").env("FLUX_ALLOWED_ORIGINS", "");
    setup.start()
}

/// Sends bytes; the status of the answer.
fn status_of(server: &Server, bytes: &str) -> u16 {
    let mut connection = server.connect();
    connection.send_what_it_takes(bytes);
    connection.response().status
}

#[test]
fn a_request_that_is_refused_before_it_is_whole_counts_under_its_route() {
    let dir = TempDir::new().unwrap();
    let server = server(&dir, 1);
    let large = |line: &str| {
        format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
    };
    for (line, expected) in [
        (
            "POST /api/events",
            &[("POST /api/events 4xx", 1), ("refused body_too_large", 1)][..],
        ),
        ("PUT /api/events", &[("other other 4xx", 1)]),
        ("PUT /api/admin/config", &[("PUT /api/admin/config 4xx", 1)]),
        ("POST /mcp", &[("POST /mcp 4xx", 1)]),
        (
            "GET /api/state/entities",
            &[("GET /api/state/entities 4xx", 1)],
        ),
        (
            "DELETE /api/state/entities/a",
            &[
                ("DELETE /api/state/entities/:id 4xx", 1),
                ("refused body_too_large", 1),
            ],
        ),
    ] {
        check(&server, line, expected, || {
            assert_eq!(status_of(&server, &large(line)), 413, "{line}");
        });
    }
    let timed_out = [("POST /api/events 4xx", 1), ("refused request_timeout", 1)];
    check(&server, "half a body", &timed_out, || {
        let whole = publish_request("a", &[]);
        assert_eq!(status_of(&server, &whole[..whole.len() - 1]), 408);
    });
    check(&server, "half a head", &[("other other 4xx", 1)], || {
        assert_eq!(status_of(&server, "POST /api/ev"), 408);
    });
    let broken = [("POST /api/events 4xx", 1), ("refused bad_chunk", 1)];
    check(&server, "a broken chunk", &broken, || {
        let mut connection = server.connect();
        let fields = "Host: localhost\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue";
        connection.send(format!("POST /api/events HTTP/1.1\r\n{fields}\r\n\r\n"));
        assert_eq!(connection.response().status, 100);
        connection.send("zz\r\n");
        assert_eq!(connection.response().status, 400);
    });
    for (field, code) in [
        ("Host: elsewhere.example", "host_refused"),
        ("Origin: http://elsewhere.example", "origin_refused"),
    ] {
        let expected = format!("refused {code}");
        let expected = [("POST /api/events 4xx", 1), (&*expected, 1)];
        check(&server, code, &expected, || {
            let sent = publish_request("a", &[field]);
            let sent = if field.starts_with("Host") {
                sent.replacen("Host: localhost\r\n", "", 1)
            } else {
                sent
            };
            assert_eq!(status_of(&server, &sent), 403, "{sent}");
        });
    }
}

#[test]
fn each_item_of_a_batch_and_each_condition_that_fails_counts_once() {
    for shards in [1, 2] {
        let dir = TempDir::new().unwrap();
        let server = server(&dir, shards);
        let stale = |id: &str| {
            let stale = r#"{"expect":{"version":7},"stream""#;
            event(id, r#"{"n":1}"#).replacen(r#"{"stream""#, stale, 1)
        };
        check(
            &server,
            "a batch",
            &[
                ("POST /api/events/batch 2xx", 1),
                ("accepted http", 2),
                ("refused missing_field", 1),
                ("refused precondition_failed", 2),
            ],
            || {
                let items = [
                    event("b/1", r#"{"n":1}"#),
                    "{}".to_owned(),
                    stale("c/1"),
                    stale("d/1"),
                    event("e/1", r#"{"n":1}"#),
                ];
                let batch = format!(r#"{{"events":[{}]}}"#, items.join(","));
                assert_eq!(server.post("/api/events/batch", &batch).status, 200);
            },
        );
        check(
            &server,
            "an atomic batch",
            &[
                ("POST /api/events/batch 4xx", 1),
                ("refused precondition_failed", 1),
            ],
            || {
                let items = [event("b/2", r#"{"n":1}"#), stale("b/3")].join(",");
                let batch = format!(r#"{{"atomic":true,"events":[{items}]}}"#);
                let refused = server.post("/api/events/batch", &batch);
                assert!((400..500).contains(&refused.status), "{}", refused.text());
            },
        );
        check(
            &server,
            "conditions",
            &[
                ("POST /api/events 4xx", 1),
                ("DELETE /api/state/entity 4xx", 2),
                ("DELETE /api/state/entity 2xx", 1),
                ("accepted http", 1),
                ("refused precondition_failed", 2),
                ("refused entity_not_found", 1),
            ],
            || {
                assert_eq!(server.post("/api/events", &stale("b/1")).status, 409);
                let mut connection = server.connect();
                let delete =
                    |fields: &[&str]| request("DELETE", "/api/state/entity?id=b/1", fields, "");
                let mut status = |sent: String| {
                    connection.send(sent);
                    connection.response().status
                };
                assert_eq!(status(delete(&["If-Match: \"other\""])), 409);
                assert_eq!(status(delete(&[])), 200);
                assert_eq!(status(delete(&[])), 404);
            },
        );
    }
}

#[test]
fn each_write_over_websocket_that_is_refused_counts_once() {
    for shards in [1, 2] {
        let server = Server::start(shards);
        let mut watcher = Watcher::connect(&server);
        watcher.subscribe("none/*");
        let event = event("w/1", r#"{"n":1}"#);
        let stale = event.replacen(r#"{"stream""#, r#"{"expect":{"absent":false},"stream""#, 1);
        for (message, expected) in [
            (
                format!(r#"{{"type":"publish","id":1,"event":{event}}}"#),
                &[("accepted websocket", 1)][..],
            ),
            (
                format!(r#"{{"type":"publish","event":{event}}}"#),
                &[("refused missing_id", 1)],
            ),
            (
                r#"{"type":"publish","id":1}"#.to_owned(),
                &[("refused missing_field", 1)],
            ),
            (
                r#"{"type":"publish","id":1,"event":{}}"#.to_owned(),
                &[("refused missing_field", 1)],
            ),
            (
                r#"{"type":"publish","id":1,"event":{"#.to_owned(),
                &[("refused invalid_json", 1)],
            ),
            (
                format!(r#"{{"type":"publish","id":[],"event":{event}}}"#),
                &[("refused invalid_field", 1)],
            ),
            (
                format!(r#"{{"type":"publish","id":1,"bind":7,"event":{event}}}"#),
                &[("refused invalid_field", 1)],
            ),
            (
                format!(r#"{{"type":"publish","id":1,"event":{stale}}}"#),
                &[("refused invalid_field", 1)],
            ),
            (
                r#"{"type":"publish_batch","events":[]}"#.to_owned(),
                &[("refused missing_id", 1)],
            ),
            (
                r#"{"type":"publish_batch","id":1,"events":[{},{}]}"#.to_owned(),
                &[("refused missing_field", 2)],
            ),
            (
                r#"{"type":"delete","id":1}"#.to_owned(),
                &[("refused missing_field", 1)],
            ),
            (
                r#"{"type":"delete","id":1,"entity_id":"w/none"}"#.to_owned(),
                &[("refused entity_not_found", 1)],
            ),
            (
                r#"{"type":"get","id":1,"entity_id":"w/none"}"#.to_owned(),
                &[],
            ),
            (r#"{"type":"get","entity_id":"w/none"}"#.to_owned(), &[]),
            (r#"{"type":"nothing","id":1}"#.to_owned(), &[]),
            ("{".to_owned(), &[]),
        ] {
            check(&server, &message, expected, || {
                watcher.send(&message);
                let answer = watcher.next();
                assert!(
                    matches!(answer["type"].as_str(), Some("error" | "result")),
                    "{answer}"
                );
            });
        }
    }
}

#[test]
fn each_write_by_a_tool_counts_once_as_stored_or_as_refused() {
    for shards in [1, 2] {
        let server = Server::start(shards);
        let mut agent = server.connect();
        let mut refuse = |tool: &str, arguments: Value| {
            let code = refused(&mut agent, tool, arguments).0;
            let counted = format!("refused {code}");
            (code, counted)
        };
        let one = ("POST /mcp 2xx", 1);
        let absent = json!({"id": "m/1", "properties": {"n": 1}, "expect": {"absent": true}});
        for (tool, arguments, code) in [
            ("flux_publish", json!({"id": 7}), "invalid_argument"),
            (
                "flux_publish",
                json!({"id": "m/1", "x": 1}),
                "invalid_argument",
            ),
            (
                "flux_publish",
                json!({"id": "flux-core/a", "properties": {}}),
                "reserved_namespace",
            ),
            ("flux_delete", json!({"id": "m/none"}), "entity_not_found"),
            ("flux_delete", json!({}), "invalid_argument"),
        ] {
            let counted = format!("refused {code}");
            check(&server, code, &[one, (&*counted, 1)], || {
                assert_eq!(refuse(tool, arguments).0, code, "{tool}");
            });
        }
        for (tool, arguments) in [
            ("flux_get", json!({"id": "m/none"})),
            ("flux_list", json!({"limit": 0})),
        ] {
            check(&server, tool, &[one], || {
                refuse(tool, arguments);
            });
        }
        let mut agent = server.connect();
        check(&server, "stored", &[one, ("accepted mcp", 1)], || {
            publish(&mut agent, "m/1", json!({"n": 1}));
        });
        let conflict = [one, ("refused precondition_failed", 1)];
        check(&server, "a conflict", &conflict, || {
            refused(&mut agent, "flux_publish", absent);
        });
        check(&server, "deleted", &[one, ("accepted mcp", 1)], || {
            call(&mut agent, "flux_delete", json!({"id": "m/1"}));
        });
    }
}

#[test]
fn an_event_without_a_right_or_beyond_the_rate_counts_as_refused_for_that() {
    let tenants = Tenants::start(2);
    let server = &tenants.server;
    let config = r#"{"rate_limit_per_namespace_per_minute":1}"#;
    let config = server.with_token(("PUT", "/api/admin/config"), ADMIN, config);
    assert_eq!(config.status, 200);
    let of_house = &tenants.first["house"];
    let mut agent = server.connect();
    check(
        server,
        "tokens and rates",
        &[
            ("POST /api/events 2xx", 1),
            ("POST /api/events 4xx", 5),
            ("POST /mcp 2xx", 1),
            ("accepted http", 1),
            ("refused rate_limited", 3),
            ("refused token_missing", 1),
            ("refused token_unknown", 1),
            ("refused not_namespace_owner", 1),
        ],
        || {
            assert_eq!(
                server.post("/api/events", &event("house/1", "{}")).status,
                401
            );
            let publish = |token: &str, id: &str| {
                let call = ("POST", "/api/events");
                server.with_token(call, token, &event(id, "{}")).status
            };
            let asked = [
                publish("nobody", "house/1"),
                publish(of_house, "garden/1"),
                publish(of_house, "house/1"),
                publish(of_house, "house/1"),
                publish(of_house, "house/1"),
            ];
            assert_eq!(asked, [401, 403, 200, 429, 429]);
            let arguments = json!({"id": "house/1", "properties": {}});
            call_as(&mut agent, ("flux_publish", arguments), of_house);
        },
    );
}

/// Publishes over a connection of its own; the status of the answer.
fn publish_alone(mut connection: Connection, id: &str) -> u16 {
    connection.send(publish_request(id, &[]));
    connection.response().status
}

#[test]
fn an_event_whose_flush_fails_counts_as_refused_under_its_route() {
    if !can_trace() {
        return;
    }
    for shards in [1, 2] {
        let server = Server::start(shards);
        assert_eq!(server.publish("f/1", r#"{"n":1}"#).status, 200);
        let before = scrape(&server);
        let tracer = Tracer::failing(&server, "fdatasync");
        assert_eq!(publish_alone(server.connect(), "f/1"), 503);
        drop(tracer);
        assert_eq!(publish_alone(server.connect(), "f/1"), 503);
        let found = rises(&before, &scrape(&server));
        assert_eq!(found.get("POST /api/events 5xx"), Some(&2), "{found:?}");
        assert_eq!(found.get("POST /api/events 2xx"), None, "{found:?}");
        assert_eq!(found.get("refused storage_fault"), Some(&2), "{found:?}");
        assert_eq!(found.get("other other 5xx"), None, "{found:?}");
    }
}

#[test]
fn an_event_over_websocket_whose_flush_fails_counts_as_refused() {
    if !can_trace() {
        return;
    }
    let server = Server::start(1);
    assert_eq!(server.publish("f/1", r#"{"n":1}"#).status, 200);
    let mut watcher = Watcher::connect(&server);
    watcher.subscribe("none/*");
    let before = scrape(&server);
    let tracer = Tracer::failing(&server, "fdatasync");
    let event = event("f/1", r#"{"n":2}"#);
    let stored = format!(r#"{{"type":"publish","id":1,"event":{event}}}"#);
    // It waits for the same flush, because it tells of what that is to keep.
    let event = event.replacen('{', r#"{"expect":{"version":99},"#, 1);
    let refused = format!(r#"{{"type":"publish","id":2,"event":{event}}}"#);
    watcher.send_all(&[&stored, &refused]);
    assert_eq!(watcher.close_code(), 1011);
    drop(tracer);
    let found = rises(&before, &scrape(&server));
    assert_eq!(found.get("refused storage_fault"), Some(&1), "{found:?}");
    assert_eq!(
        found.get("refused precondition_failed"),
        Some(&1),
        "{found:?}"
    );
}
