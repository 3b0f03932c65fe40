//! `GET /metrics`: the format of the answer, that its counters are what was sent, and that nothing
//! in it was chosen by a client (API contract §17).

#![expect(clippy::float_cmp, reason = "what is compared are whole numbers")]

mod support;

use serde_json::json;
use std::fs;
use std::path::Path;
use support::connectors::{define, definition, remove};
use support::events::Events;
use support::http::{Response, answered, request};
use support::metrics::{Scrape, scrape};
use support::server::{Server, Setup};
use support::source::{Answer, Source, json as answer};
use support::tenants::Tenants;
use support::watch::Watcher;
use support::{on_each, wait_for};
use tempfile::TempDir;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn get(server: &Server, fields: &[&str]) -> Response {
    answered(
        server,
        request("GET", "/metrics", fields, "").as_bytes(),
        "metrics",
    )
}

/// How far a sum has risen from one scrape to another.
fn rise(before: &Scrape, after: &Scrape, name: &str, labels: &[&str]) -> f64 {
    after.sum(name, labels) - before.sum(name, labels)
}

#[test]
fn the_format_is_the_one_that_the_client_takes() {
    on_each(|server| {
        for (fields, expected) in [
            (&[][..], TEXT),
            (&["Accept: */*"], TEXT),
            (&["Accept: text/plain"], TEXT),
            (
                &["Accept: application/openmetrics-text; version=1.0.0"],
                OPEN_METRICS,
            ),
            (
                &["Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.8"],
                TEXT,
            ),
        ] {
            let response = get(server, fields);
            assert_eq!(response.status, 200);
            assert_eq!(
                response.header("content-type"),
                Some(expected),
                "{fields:?}"
            );
            assert_eq!(response.header("vary"), Some("Accept"));
            assert_eq!(response.header("cache-control"), Some("no-store"));
            let text = response.text();
            assert!(text.len() < 64 * 1024, "{}", text.len());
            Scrape::read(text);
            assert_eq!(text.ends_with("# EOF\n"), expected == OPEN_METRICS);
            let of_counter = "# TYPE flux_events_accepted counter\n";
            assert_eq!(text.contains(of_counter), expected == OPEN_METRICS);
            let of_counter = "# TYPE flux_events_accepted_total counter\n";
            assert_eq!(text.contains(of_counter), expected == TEXT);
        }
    });
}

#[test]
fn head_and_options_work_and_other_methods_are_405() {
    on_each(|server| {
        let mut connection = server.connect();
        let head = connection.request("HEAD", "/metrics", "");
        assert_eq!(
            (head.status, head.header("content-type")),
            (200, Some(TEXT))
        );
        let length: usize = head.header("content-length").unwrap().parse().unwrap();
        assert!(length > 1000 && head.text().is_empty());
        let options = connection.request("OPTIONS", "/metrics", "");
        assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS"));
        for method in ["POST", "PUT", "DELETE"] {
            let refused = connection.request(method, "/metrics", "");
            assert_eq!(refused.expect_error(405, "POST"), "method_not_allowed");
            assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS"));
        }
        let refused = connection.request("GET", "/metrics?limit=5", "");
        assert_eq!(refused.expect_error(400, "a query"), "invalid_query");
    });
}

fn event(id: &str) -> String {
    format!(
        r#"{{"stream":"s","source":"t","payload":{{"entity_id":"{id}","properties":{{"a":1}}}}}}"#
    )
}

/// Sends a known number of each kind of request.
fn send_all(server: &Server) {
    for number in 0..7 {
        assert_eq!(
            server
                .post("/api/events", &event(&format!("m{number}/a")))
                .status,
            200
        );
    }
    let twice = event("m0/twice").replacen('{', r#"{"eventId":"once","#, 1);
    for _ in 0..2 {
        assert_eq!(server.post("/api/events", &twice).status, 200);
    }
    let items = [
        &event("m1/b"),
        "{}",
        &event("m2/c"),
        &event("flux-core/x"),
        "{}",
    ];
    let batch = format!(r#"{{"events":[{}]}}"#, items.join(","));
    assert_eq!(
        server.post("/api/events/batch", &batch).json()["successful"],
        2
    );
    assert_eq!(
        server
            .request("DELETE", "/api/state/entities/m0%2Fa", "")
            .status,
        200
    );
    assert_eq!(
        server
            .request("DELETE", "/api/state/entities/m0%2Fa", "")
            .status,
        404
    );
    let many = server.post(
        "/api/state/entities/delete",
        r#"{"entity_ids":["m1/b","m2/c","m3/no"]}"#,
    );
    assert_eq!(many.json()["deleted"], 2);
    for body in ["", "{}", "[1]", r#"{"stream":"s"}"#] {
        assert_eq!(server.post("/api/events", body).status, 400);
    }
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(2 << 20));
    assert_eq!(server.post("/api/events", &large).status, 413);
    for path in ["/nothing", "/api/events/", "/wp-login.php"] {
        assert_eq!(server.get(path).status, 404);
    }
    for id in ["m1/a", "m2/a", "m3/none"] {
        server.entity(id);
    }
}

#[test]
fn counters_are_what_was_sent() {
    for shards in [1, 2] {
        let server = Server::start(shards);
        let before = scrape(&server);
        send_all(&server);
        let after = scrape(&server);
        let rose = |name: &str, labels: &[&str]| rise(&before, &after, name, labels);
        // 7, one of two that are the same, 2 of a batch, a deletion, and 2 of one by filter.
        assert_eq!(
            rose("flux_events_accepted_total", &["front=\"http\""]),
            13.0
        );
        assert_eq!(rose("flux_events_accepted_total", &[]), 13.0);
        assert_eq!(
            rose(
                "flux_publish_duration_seconds_count",
                &["durability=\"sync\""]
            ),
            13.0
        );
        assert_eq!(rose("flux_log_events", &[]), 13.0);
        assert_eq!(rose("flux_flush_events_sum", &[]), 13.0);
        assert_eq!(
            rose("flux_flush_events_count", &[]),
            rose("flux_flush_duration_seconds_count", &[])
        );
        for (code, count) in [
            ("missing_field", 4.0),
            ("reserved_namespace", 1.0),
            ("entity_not_found", 2.0),
            ("invalid_json", 1.0),
            ("invalid_body", 1.0),
            ("body_too_large", 1.0),
        ] {
            let label = format!("code=\"{code}\"");
            assert_eq!(
                rose("flux_events_refused_total", &[&label]),
                count,
                "{code}"
            );
        }
        assert_eq!(rose("flux_events_refused_total", &[]), 10.0);
        for (method, route, class, count) in [
            ("POST", "/api/events", "2xx", 9.0),
            ("POST", "/api/events", "4xx", 5.0),
            ("POST", "/api/events/batch", "2xx", 1.0),
            ("DELETE", "/api/state/entities/:id", "2xx", 1.0),
            ("DELETE", "/api/state/entities/:id", "4xx", 1.0),
            ("POST", "/api/state/entities/delete", "2xx", 1.0),
            ("GET", "/api/state/entities/:id", "2xx", 2.0),
            ("GET", "/api/state/entities/:id", "4xx", 1.0),
            ("other", "other", "4xx", 3.0),
            ("GET", "/metrics", "2xx", 1.0),
        ] {
            let labels = [
                &*format!("method=\"{method}\""),
                &*format!("route=\"{route}\""),
                &*format!("status=\"{class}\""),
            ];
            assert_eq!(
                rose("flux_http_requests_total", &labels),
                count,
                "{labels:?}"
            );
        }
        for (series, value) in &before.samples {
            let (name, _) = series.split_once('{').unwrap_or((series, ""));
            let is_gauge = after.types.get(name).is_some_and(|kind| kind == "gauge");
            assert!(is_gauge || after.value(series) >= *value, "{series} fell");
        }
    }
}

#[test]
fn connections_and_subscriptions_are_counted_by_kind() {
    let server = Server::start(2);
    let gauge =
        |name: &str, kind: &str| scrape(&server).value(&format!("{name}{{kind=\"{kind}\"}}"));
    let mut watcher = Watcher::connect(&server);
    watcher.subscribe("*");
    watcher.send(&format!(
        r#"{{"type":"publish","id":1,"event":{}}}"#,
        event("w/a")
    ));
    watcher.send(r#"{"type":"publish","id":2,"event":{}}"#);
    while watcher.next()["id"] != 2 {}
    let mut events = Events::open(server.port, "/api/stream?entity_id=w%2Fa", &[]);
    events.next();
    // Of everything a poll would be told of the server's own directory, and end.
    let mut poll = server.connect();
    let cursor = server.get("/api/changes?entity_id=none/*").json()["cursor"].clone();
    let cursor = cursor.as_str().unwrap().to_owned();
    poll.send(request(
        "GET",
        &format!("/api/changes?entity_id=none/*&since={cursor}&wait=10"),
        &[],
        "",
    ));
    for (name, kind, count) in [
        ("flux_connections", "websocket", 1.0),
        ("flux_connections", "sse", 1.0),
        ("flux_subscriptions", "websocket", 1.0),
        ("flux_subscriptions", "sse", 1.0),
        ("flux_subscriptions", "poll", 1.0),
    ] {
        wait_for(name, || (gauge(name, kind) == count).then_some(()));
    }
    let seen = scrape(&server);
    assert_eq!(
        seen.value("flux_events_accepted_total{front=\"websocket\"}"),
        1.0
    );
    assert_eq!(
        seen.value("flux_events_refused_total{code=\"missing_field\"}"),
        1.0
    );
    assert_eq!(
        seen.value("flux_connections_opened_total{kind=\"sse\"}"),
        1.0
    );
    assert_eq!(
        seen.value("flux_http_requests_total{method=\"GET\",route=\"/api/ws\",status=\"1xx\"}"),
        1.0
    );
    assert_eq!(
        seen.value("flux_subscriptions_opened_total{kind=\"poll\"}"),
        1.0
    );
    drop((watcher, events, poll));
    for kind in ["websocket", "sse"] {
        wait_for(kind, || {
            (gauge("flux_connections", kind) == 0.0).then_some(())
        });
    }
    for kind in ["websocket", "sse", "poll"] {
        wait_for(kind, || {
            (gauge("flux_subscriptions", kind) == 0.0).then_some(())
        });
    }
    let closed = scrape(&server).value("flux_connections_closed_total{cause=\"client\"}");
    assert!(closed >= 3.0, "{closed}");
}

#[test]
fn a_connection_that_breaks_the_protocol_is_counted_as_closed_for_that() {
    let server = Server::start(1);
    let mut broken = server.connect();
    broken.send("nonsense\r\n\r\n");
    assert_eq!(broken.response().status, 400);
    broken.expect_closed();
    drop(broken);
    let of = "flux_connections_closed_total{cause=\"protocol\"}";
    wait_for(of, || (scrape(&server).value(of) == 1.0).then_some(()));
}

#[test]
fn a_connection_that_is_refused_on_the_spot_is_counted_as_opened_and_as_closed_for_that() {
    let dir = TempDir::new().unwrap();
    let setup = Setup::new(dir.path(), 1).env("FLUX_CONNECTIONS_MAX", "4");
    let server = setup.env("FLUX_CONNECTIONS_PER_ADDRESS_MAX", "2").start();
    // Connections that asked whether the server is ready may not have ended for it yet.
    let [mut kept, _other] = [(); 2].map(|()| {
        wait_for("room for a connection", || {
            let mut connection = server.connect();
            let answer = connection.try_request("GET", "/health", "").ok()?;
            (answer.status == 200).then_some(connection)
        })
    });
    let mut look = || Scrape::read(kept.request("GET", "/metrics", "").text());
    let before = look();
    let refused = server.connect().response();
    assert_eq!(
        refused.expect_error(429, "one more"),
        "too_many_connections"
    );
    let after = look();
    for (name, label) in [
        ("flux_connections_opened_total", "kind=\"http\""),
        ("flux_connections_closed_total", "cause=\"too_many\""),
    ] {
        assert_eq!(rise(&before, &after, name, &[label]), 1.0, "{name}");
    }
}

#[test]
fn an_entity_that_ends_by_itself_is_an_event_of_the_server() {
    let server = Server::start(1);
    let brief = event("e/a").replace(r#""properties""#, r#""ttl":1,"properties""#);
    assert_eq!(server.post("/api/events", &brief).status, 200);
    let of = "flux_events_accepted_total{front=\"server\"}";
    wait_for(of, || (scrape(&server).value(of) == 1.0).then_some(()));
    let seen = scrape(&server);
    assert_eq!(seen.sum("flux_publish_duration_seconds_count", &[]), 1.0);
}

#[test]
fn nothing_that_a_client_chose_stands_in_the_answer_and_no_token_is_needed() {
    let tenants = Tenants::start(2);
    let server = &tenants.server;
    let odd = [
        "zyxwvnamespace",
        "qqentityqq",
        "srcsourcesrc",
        "strstreamstr",
    ];
    let body = format!(
        r#"{{"stream":"{}","source":"{}","payload":{{"entity_id":"{}/{}","properties":{{"oddproperty":1}}}}}}"#,
        odd[3], odd[2], odd[0], odd[1]
    );
    server.post("/api/events", &body);
    server.get(&format!("/api/state/entities/{}%2F{}", odd[0], odd[1]));
    server.get(&format!("/api/namespaces/{}", odd[0]));
    server.get("/oddpath/secretpath");
    let response = server.get("/metrics");
    assert_eq!(response.status, 200);
    let text = response.text();
    for word in odd
        .iter()
        .chain(&["oddproperty", "oddpath", "secretpath", "127.0.0.1"])
    {
        assert!(!text.contains(word), "{word}");
    }
}

#[test]
fn the_answer_has_a_bound_however_many_shards_there_are() {
    let dir = TempDir::new().unwrap();
    for (shards, gauges, histograms) in [(4, "3", "3"), (8, "7", "all")] {
        let dir = dir.path().join(shards.to_string());
        let server = Setup::new(&dir, shards).start();
        assert_eq!(server.post("/api/events", &event("a/b")).status, 200);
        let response = server.get("/metrics");
        assert!(response.text().len() < 64 * 1024);
        let seen = Scrape::read(response.text());
        assert!(
            seen.samples
                .contains_key(&format!("flux_entities{{shard=\"{gauges}\"}}"))
        );
        let of = format!("flux_flush_duration_seconds_sum{{shard=\"{histograms}\"}}");
        assert!(seen.samples.contains_key(&of), "{of}");
        assert_eq!(seen.sum("flux_publish_duration_seconds_count", &[]), 1.0);
        server.stop();
    }
}

#[test]
fn the_process_is_described_and_the_server_says_what_it_is() {
    let server = Server::start(1);
    // The server does not wait for the first look at the process.
    let seen = wait_for("a look at the process", || {
        let seen = scrape(&server);
        (seen.value("process_start_time_seconds") > 0.0).then_some(seen)
    });
    let version = server.get("/health").json()["version"].clone();
    let version = version.as_str().unwrap().to_owned();
    assert_eq!(
        seen.value(&format!("flux_build_info{{version=\"{version}\"}}")),
        1.0
    );
    assert_eq!(seen.value("flux_ready"), 1.0);
    assert!(seen.value("process_resident_memory_bytes") > 1e6);
    assert!(
        seen.value("process_virtual_memory_bytes") > seen.value("process_resident_memory_bytes")
    );
    assert!(seen.value("process_open_fds") > 3.0);
    assert!(seen.value("process_max_fds") >= seen.value("process_open_fds"));
    assert!(seen.value("process_cpu_seconds_total") > 0.0);
    assert!(seen.value("process_start_time_seconds") > 1.7e9);
    assert!(seen.value("flux_disk_free_bytes") <= seen.value("flux_disk_bytes"));
    assert!(seen.value("flux_memory_limit_bytes") > 0.0);
}

/// The families that the table of `docs/OPERATIONS.md` names, without `_total`.
fn documented() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATIONS.md");
    let page = fs::read_to_string(page).expect("the page");
    let (_, section) = page.split_once("## Metrics\n").expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.map(|row| row.split(['`', '{']).next().unwrap_or_default());
    names
        .map(|name| name.strip_suffix("_total").unwrap_or(name).to_owned())
        .collect()
}

#[test]
fn the_documentation_names_exactly_the_families_that_there_are() {
    let server = Server::start(1);
    let mut documented = documented();
    documented.sort();
    let families: Vec<String> = scrape(&server).types.into_keys().collect();
    assert_eq!(documented, families);
}

#[test]
fn a_poll_of_a_connector_is_counted_by_its_result_and_its_events_by_their_front() {
    let server = Server::start(2);
    let source = Source::start(|polled| {
        if polled.target == "/well" {
            answer(r#"{"data":[{"city":"Bern","t":1},{"city":"Chur","t":2}]}"#)
        } else {
            Answer::Http(500, Vec::new(), String::new())
        }
    });
    for (name, path) in [("well", "/well"), ("badly", "/badly")] {
        let mut definition = definition(name, &source.url(path));
        definition["items"] = json!("/data");
        let defined = define(&server, &definition);
        assert_eq!(defined.status, 201, "{}", defined.text());
    }
    for result in ["ok", "failed"] {
        let of = format!("flux_connector_polls_total{{result=\"{result}\"}}");
        wait_for(&of, || (scrape(&server).value(&of) >= 1.0).then_some(()));
    }
    let of = "flux_events_accepted_total{front=\"connector\"}";
    assert_eq!(scrape(&server).value(of), 2.0);
    for name in ["well", "badly"] {
        remove(&server, name);
    }
}
