//! `POST /mcp` with more than an answer has room for, and with clients that go away: what is left
//! out is found by going on, and nobody's wait is kept.

mod support;

use serde_json::{Value, json};
use support::http::request;
use support::mcp::{call, modern};
use support::metrics::scrape;
use support::server::Server;
use support::{batch, event, wait_for};

/// Publishes `count` entities of some size: `<prefix>000`, `<prefix>001`, …
fn publish_many(server: &Server, prefix: &str, count: usize) -> Vec<String> {
    let ids: Vec<String> = (0..count)
        .map(|number| format!("{prefix}{number:03}"))
        .collect();
    let events = ids.iter().enumerate().map(|(number, id)| {
        let text = "y".repeat(300 + 29 * (number % 40));
        event(id, &format!(r#"{{"n":{number},"text":"{text}"}}"#))
    });
    let events: Vec<String> = events.collect();
    let answer = server.post("/api/events/batch", &batch(&events));
    assert_eq!(answer.json()["successful"], count);
    ids
}

/// Calls a tool until there is no more: the pages that it answered. `next`: its member that says
/// where to go on, and the argument that takes it.
fn pages(server: &Server, tool: &str, mut arguments: Value, next: (&str, &str)) -> Vec<Value> {
    let (mut connection, mut pages) = (server.connect(), Vec::new());
    loop {
        let page = call(&mut connection, tool, arguments.clone());
        let goes_on = page[next.0].is_string() && page["more"] != false;
        arguments[next.1] = page[next.0].clone();
        pages.push(page);
        assert!(pages.len() < 100, "it ends");
        if !goes_on {
            return pages;
        }
    }
}

/// The texts at a place of all elements of a member.
fn texts(pages: &[Value], member: &str, place: &str) -> Vec<String> {
    let elements = pages.iter().filter_map(|page| page[member].as_array());
    let text = |element: &Value| element.pointer(place).expect(place).to_string();
    elements.flatten().map(text).collect()
}

#[test]
fn what_has_no_room_is_found_where_the_answer_says_to_go_on() {
    let server = Server::start(2);
    let start = call(
        &mut server.connect(),
        "flux_wait_for",
        json!({"prefix": "p/", "timeout_seconds": 0}),
    );
    let ids = publish_many(&server, "p/", 150);
    let quoted: Vec<String> = ids.iter().map(|id| format!("\"{id}\"")).collect();
    for limit in [7, 1000] {
        let arguments = json!({"prefix": "p/", "limit": limit});
        let listed = pages(&server, "flux_list", arguments, ("after", "after"));
        assert!(listed.len() > 1, "{limit}");
        assert_eq!(texts(&listed, "entities", "/id"), quoted, "{limit}");
        let arguments = json!({"prefix": "p/", "limit": limit, "since": start["cursor"]});
        let changed = pages(&server, "flux_diff_since", arguments, ("cursor", "since"));
        assert!(changed.len() > 1, "{limit}");
        let mut changed = texts(&changed, "changes", "/entity_id");
        changed.sort();
        assert_eq!(changed, quoted, "{limit}");
    }
    let text = "z".repeat(900);
    for number in 0..90 {
        let properties = format!(r#"{{"n":{number},"text":"{text}"}}"#);
        assert_eq!(server.publish("h/1", &properties).status, 200);
    }
    let arguments = json!({"id": "h/1", "limit": 500});
    let history = pages(&server, "flux_history", arguments, ("before", "before"));
    assert!(history.len() > 1);
    let told = texts(&history, "events", "/payload/properties/n");
    let expected: Vec<String> = (0..90).rev().map(|number| number.to_string()).collect();
    assert_eq!(told, expected);
}

#[test]
fn a_wait_that_finds_more_than_a_page_says_where_to_go_on() {
    let server = Server::start(1);
    let mut connection = server.connect();
    let ids: Vec<String> = (0..60).map(|number| format!("w/{number:02}")).collect();
    support::publish_all(&server, &ids, r#"{"open":true}"#);
    let filter = "eq(open,true)";
    let all = json!({"prefix": "w/", "filter": filter});
    let found = call(&mut connection, "flux_wait_for", all);
    assert_eq!(found["entities"].as_array().map(Vec::len), Some(50));
    assert_eq!(
        (&found["truncated"], &found["after"]),
        (&json!(true), &json!("w/49"))
    );
    let one = json!({"id": "w/0", "filter": filter, "timeout_seconds": 0});
    let found = call(&mut connection, "flux_wait_for", one);
    assert_eq!(found["timed_out"], true, "another id begins so: {found}");
    let one = json!({"id": "w/07", "filter": filter});
    let found = call(&mut connection, "flux_wait_for", one);
    assert_eq!(
        (&found["entities"][0]["id"], &found["after"]),
        (&json!("w/07"), &Value::Null)
    );
    let whole = json!({"prefix": "w/", "limit": 10.0});
    let listed = call(&mut connection, "flux_list", whole);
    assert_eq!(listed["entities"].as_array().map(Vec::len), Some(10));
}

#[test]
fn the_wait_of_a_client_that_has_gone_is_given_up() {
    let server = Server::start(2);
    let waits = || scrape(&server).value("flux_subscriptions{kind=\"poll\"}");
    let cursor = server.get("/api/changes?entity_id=g/*").json()["cursor"].clone();
    let cursor = cursor.as_str().expect("a cursor").to_owned();
    let poll = format!("/api/changes?entity_id=g/*&since={cursor}&wait=50");
    let tool = |arguments: Value| {
        let params = json!({"name": "flux_wait_for", "arguments": arguments});
        modern("tools/call", &params, &[])
    };
    for asked in [
        request("GET", &poll, &[], ""),
        tool(json!({"prefix": "g/", "timeout_seconds": 50})),
        tool(json!({"prefix": "g/", "filter": "eq(a,1)", "timeout_seconds": 50})),
    ] {
        let mut connections: Vec<_> = (0..8).map(|_| server.connect()).collect();
        for connection in &mut connections {
            connection.send(&asked);
        }
        wait_for("the waits", || (waits() >= 8.0).then_some(()));
        drop(connections);
        wait_for("the waits to be given up", || (waits() < 1.0).then_some(()));
    }
}
