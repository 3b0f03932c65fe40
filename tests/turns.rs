//! Clients take turns: whatever one of them asks for, the others are answered meanwhile.
//!
//! Nothing here is timed. A test counts what a modest client is answered while a greedy request is
//! under way: many answers if the server works in slices, one or two if it does not.

mod support;

use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use support::http::{Connection, Response, request};
use support::server::Server;
use support::watch::Watcher;
use support::{batch, event, namespace, on_each};

/// Sends a request on a connection of its own. Returns its answer, and how many requests of
/// another client were answered meanwhile.
fn answered_meanwhile(
    server: &Server,
    greedy: &str,
    modest: impl Fn(&mut Connection) + Sync,
) -> (Response, u32) {
    let (is_sent, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut connection = server.connect();
            let mut count = 0;
            while !is_over.load(Ordering::SeqCst) {
                modest(&mut connection);
                count += u32::from(is_sent.load(Ordering::SeqCst));
            }
            count
        });
        let mut connection = server.connect();
        connection.send(greedy);
        is_sent.store(true, Ordering::SeqCst);
        let answer = connection.response();
        is_over.store(true, Ordering::SeqCst);
        (answer, others.join().expect("the modest client"))
    })
}

fn get_health(connection: &mut Connection) {
    assert_eq!(connection.request("GET", "/health", "").status, 200);
}

#[test]
fn a_batch_of_150_000_items_that_are_no_events_keeps_nobody_waiting() {
    let server = Server::start(1);
    let body = format!(r#"{{"events":[{}{{}}]}}"#, "{},".repeat(149_999));
    let greedy = request("POST", "/api/events/batch", &[], &body);
    let (answer, others) = answered_meanwhile(&server, &greedy, get_health);
    let answer = answer.json();
    assert_eq!(
        (&answer["successful"], &answer["failed"]),
        (&json!(0), &json!(150_000))
    );
    assert_eq!(
        answer["results"].as_array().expect("results").len(),
        150_000
    );
    assert!(others > 20, "{others} requests were answered meanwhile");
}

#[test]
fn a_large_batch_keeps_no_publisher_waiting_and_is_stored_in_order() {
    on_each(|server| {
        let name = namespace("turns");
        let count = 30_000;
        let events: Vec<String> = (0..count)
            .map(|n| event(&format!("{name}/{}", n % 10), &format!(r#"{{"n":{n}}}"#)))
            .collect();
        let greedy = request("POST", "/api/events/batch", &[], &batch(&events));
        let other = event(&format!("{name}-other/x"), "{}");
        let (answer, others) = answered_meanwhile(server, &greedy, |connection| {
            let answer = connection.request("POST", "/api/events", &other);
            assert_eq!(answer.status, 200, "{}", answer.text());
        });
        let answer = answer.json();
        assert_eq!(answer["successful"], count);
        let results = answer["results"].as_array().expect("results");
        let sequences = results.iter().map(|it| it["sequence"].as_u64());
        assert!(
            sequences.is_sorted(),
            "items of one namespace, in their order"
        );
        for entity in 0..10 {
            let found = server.entity(&format!("{name}/{entity}")).json();
            assert_eq!(found["version"], count / 10);
            assert_eq!(found["properties"]["n"], count - 10 + entity);
        }
        assert!(others > 10, "{others} requests were answered meanwhile");
    });
}

#[test]
fn what_a_client_sends_behind_a_large_batch_comes_after_it() {
    on_each(|server| {
        let id = format!("{}/x", namespace("turns"));
        let events: Vec<String> = (0..5_000)
            .map(|n| event(&id, &format!(r#"{{"n":{n}}}"#)))
            .collect();
        let mut connection = server.connect();
        let batch = request("POST", "/api/events/batch", &[], &batch(&events));
        let last = request("POST", "/api/events", &[], &event(&id, r#"{"n":"last"}"#));
        let read = request("GET", &format!("/api/state/entities/{id}"), &[], "");
        connection.send(format!("{batch}{last}{read}"));
        assert_eq!(connection.response().json()["successful"], 5_000);
        assert_eq!(connection.response().json()["version"], 5_001);
        let found = connection.response();
        assert_eq!(found.json()["properties"]["n"], "last", "{}", found.text());
    });
}

#[test]
fn a_client_that_ends_its_side_behind_a_large_batch_is_answered() {
    on_each(|server| {
        let id = format!("{}/x", namespace("turns"));
        let events = vec![event(&id, "{}"); 5_000];
        for field in ["Connection: close", "Connection: keep-alive"] {
            let mut connection = server.connect();
            let batch = request("POST", "/api/events/batch", &[field], &batch(&events));
            connection.send(batch);
            connection.finish_sending();
            assert_eq!(connection.response().json()["successful"], 5_000, "{field}");
            connection.expect_closed();
        }
    });
}

/// A filter of so many comparisons, each of which searches a whole string in vain.
fn search(count: usize) -> String {
    format!("and({})", vec![r#"not(like(text,"*w"))"#; count].join(","))
}

/// An entity with a string of half a mebibyte with an escape in it.
fn publish_large(server: &Server, id: &str) {
    let text = "v".repeat(512 * 1024);
    server.publish(id, &format!(r#"{{"text":"\\n{text}","n":1}}"#));
}

#[test]
fn a_filter_that_looks_at_megabytes_keeps_nobody_waiting() {
    let server = Server::start(1);
    publish_large(&server, "n/large");
    server.publish("n/small", r#"{"text":"v"}"#);
    for limit in ["", "&limit=10"] {
        let filter = search(64).replace('"', "%22");
        let target = format!("/api/state/entities?prefix=n/{limit}&filter={filter}");
        let greedy = request("GET", &target, &[], "");
        let (answer, others) = answered_meanwhile(&server, &greedy, get_health);
        let entities = answer.json();
        let ids = entities.as_array().expect("a list").iter();
        let ids: Vec<&str> = ids.filter_map(|it| it["id"].as_str()).collect();
        assert_eq!(ids, ["n/large", "n/small"]);
        assert!(others > 20, "{others} requests were answered meanwhile");
    }
}

#[test]
fn a_condition_that_would_look_at_megabytes_is_refused_and_changes_nothing() {
    let server = Server::start(1);
    publish_large(&server, "n/large");
    let conditional = |filter: &str| {
        let expect = json!({ "filter": filter }).to_string();
        let event = event("n/large", r#"{"n":2}"#);
        format!(r#"{{"expect":{expect},{}"#, &event[1..])
    };
    let answer = server.post("/api/events", &conditional(&search(64)));
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (400, &json!("filter_too_costly"))
    );
    assert_eq!(server.entity("n/large").json()["version"], 1);
    // A comparison that decides sooner comes first.
    let answer = server.post(
        "/api/events",
        &conditional(&format!("or(eq(n,1),{})", search(63))),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Of an atomic batch what all conditions look at counts together.
    let events = vec![conditional(&search(3)); 40].join(",");
    let body = format!(r#"{{"atomic":true,"events":[{events}]}}"#);
    let answer = server.post("/api/events/batch", &body).json();
    assert_eq!(answer["code"], "filter_too_costly", "{answer}");
    assert_eq!(server.entity("n/large").json()["version"], 2);
}

#[test]
fn a_subscription_whose_filter_would_look_at_megabytes_ends_and_others_go_on() {
    let server = Server::start(1);
    let mut watcher = Watcher::connect(&server);
    let costly = search(64);
    for (pattern, filter) in [("n/*", costly.as_str()), ("n/l*", "ge(n,1)")] {
        let message = json!({"type": "subscribe", "entity_id": pattern, "id": pattern,
            "mode": "entity", "filter": filter});
        watcher.send(&message.to_string());
        assert_eq!(watcher.next()["type"], "ack");
    }
    let next = |watcher: &mut Watcher| loop {
        let message = watcher.next();
        if message["type"] != "cursor" {
            break message;
        }
    };
    publish_large(&server, "n/large");
    let mut seen = [next(&mut watcher), next(&mut watcher)];
    seen.sort_by_key(|message| message["type"].as_str().map(str::to_owned));
    let [entity, error] = seen;
    assert_eq!(
        (&entity["type"], &entity["entity_id"]),
        (&json!("entity"), &json!("n/large"))
    );
    assert_eq!(
        (&error["code"], &error["id"]),
        (&json!("filter_too_costly"), &json!("n/*"))
    );
    // It is gone, and the other is not.
    server.publish("n/small", r#"{"n":1}"#);
    server.publish("n/last", r#"{"n":1}"#);
    assert_eq!(next(&mut watcher)["entity_id"], "n/last");
    // A snapshot and a poll with such a filter are told the same.
    let message = json!({"type": "subscribe", "entity_id": "*", "id": 1, "snapshot": true,
        "filter": costly});
    watcher.send(&message.to_string());
    let answers = [next(&mut watcher), next(&mut watcher)];
    assert_eq!(answers[1]["code"], "filter_too_costly", "{answers:?}");
    let filter = costly.replace('"', "%22");
    let cursor = server
        .get("/api/state/entities?limit=1")
        .header("flux-cursor")
        .map(str::to_owned);
    publish_large(&server, "n/large");
    let cursor = cursor.expect("a cursor");
    let poll = server.get(&format!("/api/changes?since={cursor}&filter={filter}"));
    assert_eq!(poll.json()["code"], "filter_too_costly", "{}", poll.text());
}

#[test]
fn an_event_of_a_mebibyte_keeps_nobody_waiting_and_nothing_overtakes_it() {
    on_each(|server| {
        let id = format!("{}/x", namespace("turns"));
        let names: Vec<String> = (0..60_000).map(|n| format!(r#""n{n}":{n}"#)).collect();
        let large = event(&id, &format!(r#"{{"map":{{{}}}}}"#, names.join(",")));
        assert!(large.len() > 800 * 1024);
        let mut connection = server.connect();
        let first = request("POST", "/api/events", &[], &large);
        let second = request("POST", "/api/events", &[], &event(&id, r#"{"last":true}"#));
        connection.send(format!("{first}{second}"));
        assert_eq!(connection.response().json()["version"], 1);
        assert_eq!(connection.response().json()["version"], 2);
        let found = server.entity(&id).json();
        let map = found["properties"]["map"].as_object().expect("an object");
        assert_eq!(map.len(), 60_000);
    });
}

/// A helper thread decodes it, so what it asks for is known only once it waits.
#[test]
fn a_large_event_with_operations_or_conditions_is_answered_like_any_other() {
    on_each(|server| {
        let space = namespace("turns");
        let elements = vec![format!("\"{}\"", "x".repeat(100)); 5000].join(",");
        let appended = format!(r#"{{"log":[{elements}]}}"#);
        let of = |name: &str, rest: &str| {
            let id = format!("{space}/{name}");
            let event =
                format!(r#"{{"stream":"s","source":"t","payload":{{"entity_id":"{id}",{rest}}}}}"#);
            assert!(event.len() > 500_000);
            request("POST", "/api/events", &[], &event)
        };
        let append = of("a", &format!(r#""append":{appended}"#));
        let published = of("b", &format!(r#""properties":{appended}"#));
        let expecting =
            published.replacen(r#""payload""#, r#""expect":{"present":true},"payload""#, 1);
        let length = |request: &str| request.split_once("\r\n\r\n").expect("a body").1.len();
        let expecting = expecting.replacen(
            &format!("Content-Length: {}", length(&published)),
            &format!("Content-Length: {}", length(&expecting)),
            1,
        );
        let mut connection = server.connect();
        connection.send([append.as_str(), &expecting, &published, &expecting, &append].concat());
        let statuses = [(); 5].map(|()| connection.response().status);
        assert_eq!(statuses, [200, 409, 200, 200, 200]);
        assert_eq!(server.get("/health").status, 200);
    });
}
