//! Clients take turns: whatever one of them asks for, the others are answered meanwhile.
//!
//! Nothing here is timed. A test counts what a modest client is answered while a greedy request is
//! under way: many answers if the server works in slices, one or two if it does not.

mod support;

use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use support::http::{Connection, Response, request};
use support::server::Server;
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
