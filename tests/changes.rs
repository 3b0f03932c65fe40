//! `GET /api/changes`: long polling. A loop of polls loses nothing and need repeat nothing (API
//! contract §13).

mod support;

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::thread::scope;
use support::http::{Connection, percent_encoded, request};
use support::server::{Server, Setup};
use support::{namespace, on_each, publish_all, wait_for};
use tempfile::TempDir;

/// Asks, and expects an answer.
fn poll(connection: &mut Connection, query: &str) -> Value {
    let answer = connection.request("GET", &format!("/api/changes?{query}"), "");
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    let body = answer.json();
    assert!(
        body["changes"].is_array() && body["more"].is_boolean(),
        "{body}"
    );
    body
}

fn cursor_of(answer: &Value) -> String {
    answer["cursor"].as_str().expect("a cursor").to_owned()
}

/// The place of now.
fn start(server: &Server, query: &str) -> String {
    let answer = poll(&mut server.connect(), query);
    assert_eq!(
        (&answer["changes"], &answer["more"]),
        (&json!([]), &json!(false))
    );
    cursor_of(&answer)
}

/// What a client of mode `entity` holds.
#[derive(Debug, Default, Clone, PartialEq)]
struct Held(BTreeMap<String, Map<String, Value>>);

impl Held {
    fn apply(&mut self, message: &Value) {
        let id = message["entity_id"].as_str().expect("an id").to_owned();
        if message["type"] == "entity_deleted" || message["matches"] == false {
            self.0.remove(&id);
            return;
        }
        assert_eq!(
            (&message["type"], &message["whole"]),
            (&json!("entity"), &json!(true))
        );
        let properties = message["properties"].as_object().expect("some").clone();
        self.0.insert(id, properties);
    }

    /// Polls until there is no more. Returns the messages.
    fn follow(&mut self, server: &Server, query: &str, cursor: &mut String) -> Vec<Value> {
        let mut connection = server.connect();
        let mut messages = Vec::new();
        loop {
            let answer = poll(&mut connection, &format!("{query}&since={cursor}"));
            *cursor = cursor_of(&answer);
            let mut told = BTreeSet::new();
            for message in answer["changes"].as_array().expect("an array") {
                assert!(
                    told.insert(message["entity_id"].to_string()),
                    "once: {answer}"
                );
                self.apply(message);
                messages.push(message.clone());
            }
            if answer["more"] == false {
                return messages;
            }
        }
    }
}

fn held(server: &Server, prefix: &str) -> Held {
    Held(server.held(prefix))
}

#[test]
fn a_poll_without_a_place_gives_that_of_now_and_waits_for_nothing() {
    on_each(|server| {
        let ns = namespace("now");
        server.publish(&format!("{ns}/a"), r#"{"n":1}"#);
        let mut connection = server.connect();
        let answer = poll(&mut connection, &format!("entity_id={ns}/*&wait=60"));
        assert_eq!(
            (&answer["changes"], &answer["more"]),
            (&json!([]), &json!(false))
        );
        server.publish(&format!("{ns}/b"), r#"{"n":2}"#);
        let since = cursor_of(&answer);
        let answer = poll(&mut connection, &format!("entity_id={ns}/*&since={since}"));
        assert_eq!(answer["changes"][0]["entity_id"], format!("{ns}/b"));
        assert_eq!(answer["changes"].as_array().unwrap().len(), 1, "{answer}");
        let since = cursor_of(&answer);
        let answer = poll(&mut connection, &format!("entity_id={ns}/*&since={since}"));
        assert_eq!(answer["changes"], json!([]));
    });
}

#[test]
fn a_loop_of_polls_has_every_event_once_and_in_order_whatever_its_limit() {
    on_each(|server| {
        let ns = namespace("loop");
        for (limit, pattern) in [
            (1, format!("{ns}/*")),
            (7, "*".to_owned()),
            (1000, format!("{ns}/*")),
        ] {
            let query = format!("entity_id={pattern}&mode=event");
            let mut cursor = start(server, &query);
            let ids: Vec<String> = (0..30).map(|number| format!("{ns}/{number}")).collect();
            publish_all(server, &ids, &format!(r#"{{"limit":{limit}}}"#));
            let mut connection = server.connect();
            let mut rows = Vec::new();
            while rows.len() < ids.len() {
                let target = format!("{query}&limit={limit}&wait=30&since={cursor}");
                let answer = poll(&mut connection, &target);
                cursor = cursor_of(&answer);
                let changes = answer["changes"].as_array().unwrap();
                assert!(changes.len() <= limit, "{limit}");
                // Other tests publish at the same time.
                let own = changes.iter().filter(|row| {
                    let id = row["payload"]["entity_id"].as_str().unwrap();
                    id.starts_with(&format!("{ns}/"))
                });
                rows.extend(own.map(|row| row["payload"]["entity_id"].clone()));
            }
            assert_eq!(rows, ids, "limit {limit}");
        }
    });
}

#[test]
fn a_loop_of_polls_by_entity_holds_the_exact_state() {
    on_each(|server| {
        let ns = namespace("state");
        let other = namespace("state");
        for (query, prefix) in [
            (format!("entity_id={ns}/*&limit=13"), format!("{ns}/")),
            (
                format!("entity_id={ns}/*&entity_id={other}/*&limit=10"),
                String::new(),
            ),
        ] {
            let mut cursor = start(server, &query);
            let mut client = Held::default();
            let ids: Vec<String> = (0..60)
                .map(|number| format!("{}/{number}", if number % 2 == 0 { &ns } else { &other }))
                .collect();
            for round in 0..4 {
                publish_all(
                    server,
                    &ids[round * 10..],
                    &format!(r#"{{"round":{round},"b":1}}"#),
                );
                let gone = format!("/api/state/entities/{}", ids[50 + round]);
                assert_eq!(server.request("DELETE", &gone, "").status, 200);
                client.follow(server, &query, &mut cursor);
            }
            let mut expected = held(server, &format!("{ns}/"));
            if prefix.is_empty() {
                expected.0.extend(held(server, &format!("{other}/")).0);
            }
            assert_eq!(client, expected, "{query}");
            for id in &ids {
                server.request("DELETE", &format!("/api/state/entities/{id}"), "");
            }
        }
    });
}

#[test]
fn a_poll_waits_for_the_first_change_that_it_asks_for() {
    on_each(|server| {
        let ns = namespace("wait");
        for mode in ["entity", "event"] {
            let query = format!("entity_id={ns}/*&mode={mode}&properties=b");
            let cursor = start(server, &query);
            let answer = scope(|scope| {
                let asked = scope.spawn(|| {
                    poll(
                        &mut server.connect(),
                        &format!("{query}&wait=60&since={cursor}"),
                    )
                });
                // Until it waits, it has a subscription: then what does not concern it passes by.
                for n in 0..20 {
                    server.publish(&format!("{ns}/a"), &format!(r#"{{"a":{n}}}"#));
                    server.publish(&format!("{ns}x/a"), r#"{"b":0}"#);
                }
                server.publish(&format!("{ns}/c"), r#"{"b":1}"#);
                asked.join().expect("an answer")
            });
            let changes = answer["changes"].as_array().expect("an array");
            let [change] = &changes[..] else {
                panic!("one change: {answer}");
            };
            let id = if mode == "event" {
                &change["payload"]["entity_id"]
            } else {
                &change["entity_id"]
            };
            assert_eq!(*id, format!("{ns}/c"), "{answer}");
        }
    });
}

#[test]
fn a_poll_whose_time_is_over_answers_that_nothing_came_and_goes_on_from_there() {
    on_each(|server| {
        let ns = namespace("over");
        let query = format!("entity_id={ns}/a");
        let cursor = start(server, &query);
        let mut connection = server.connect();
        let answer = poll(&mut connection, &format!("{query}&wait=0.3&since={cursor}"));
        assert_eq!(
            (&answer["changes"], &answer["more"]),
            (&json!([]), &json!(false))
        );
        server.publish(&format!("{ns}/a"), r#"{"n":1}"#);
        let cursor = cursor_of(&answer);
        let answer = poll(&mut connection, &format!("{query}&wait=60&since={cursor}"));
        assert_eq!(answer["changes"][0]["properties"], json!({"n": 1}));
        assert_eq!(
            connection.request("GET", "/health", "").status,
            200,
            "it goes on"
        );
    });
}

#[test]
fn a_filter_and_deletions_are_those_of_a_stream_that_resumes() {
    on_each(|server| {
        let ns = namespace("filter");
        let filter = percent_encoded(r#"eq(status,"open")"#);
        let query = format!("entity_id={ns}/*&filter={filter}");
        let mut cursor = start(server, &query);
        let id = format!("{ns}/a");
        let mut client = Held::default();
        server.publish(&id, r#"{"status":"open","n":1}"#);
        client.follow(server, &query, &mut cursor);
        assert_eq!(client.0[&id]["n"], 1);
        server.publish(&id, r#"{"status":"shut"}"#);
        let messages = client.follow(server, &query, &mut cursor);
        assert_eq!(
            (&messages[0]["matches"], &messages[0]["properties"]),
            (&json!(false), &json!({}))
        );
        let gone = server.publish(&id, r#"{"__deleted__":true}"#).json();
        // What comes after it does not change which event deleted it.
        server.publish(&format!("{ns}/b"), r#"{"status":"open"}"#);
        let messages = client.follow(server, &query, &mut cursor);
        let message = messages.iter().find(|it| it["entity_id"] == *id).unwrap();
        assert_eq!(
            (&message["type"], &message["sequence"]),
            (&json!("entity_deleted"), &gone["sequence"])
        );
    });
}

#[test]
fn what_is_wrong_with_a_poll_is_told_by_its_parameter() {
    on_each(|server| {
        let ns = namespace("wrong");
        let narrow = server.publish(&format!("{ns}/a"), "{}").json()["cursor"].clone();
        let narrow = narrow.as_str().unwrap().to_owned();
        let cases = [
            ("wait=61".to_owned(), "invalid_query"),
            ("wait=-1".to_owned(), "invalid_query"),
            ("limit=0".to_owned(), "invalid_query"),
            ("limit=1001".to_owned(), "invalid_query"),
            ("mode=property".to_owned(), "invalid_query"),
            ("snapshot=true".to_owned(), "invalid_query"),
            ("max_hz=1".to_owned(), "invalid_query"),
            ("since=x".to_owned(), "invalid_cursor"),
            (format!("since={narrow}"), "cursor_too_narrow"),
            (
                format!("entity_id={ns}x/*&since={narrow}"),
                "cursor_too_narrow",
            ),
            ("mode=event&filter=exists(a)".to_owned(), "invalid_query"),
            ("filter=exists(".to_owned(), "invalid_filter"),
            ("entity_id=".to_owned(), "invalid_query"),
        ];
        let mut connection = server.connect();
        for (query, code) in cases {
            let answer = connection.request("GET", &format!("/api/changes?{query}"), "");
            assert_eq!(answer.expect_error(400, &query), code, "{query}");
        }
        let answer = connection.request("POST", "/api/changes", "");
        answer.expect_error(405, "POST");
        assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
        let target = format!("/api/changes?entity_id={ns}/*&since={narrow}");
        assert_eq!(connection.request("HEAD", &target, "").status, 200);
    });
}

#[test]
fn a_place_beyond_the_end_is_gone_in_both_modes() {
    on_each(|server| {
        let ns = namespace("gone");
        let other = Server::start(1);
        let mut cursor = Value::Null;
        for _ in 0..2000 {
            cursor = other.publish(&format!("{ns}/a"), "{}").json()["cursor"].clone();
        }
        let cursor = cursor.as_str().unwrap();
        for mode in ["entity", "event"] {
            let target =
                format!("/api/changes?entity_id={ns}/*&mode={mode}&since={cursor}&wait=60");
            assert_eq!(
                server.get(&target).expect_error(410, mode),
                "history_removed"
            );
        }
    });
}

#[test]
fn polls_of_a_connection_are_answered_one_after_the_other() {
    on_each(|server| {
        let ns = namespace("order");
        let query = format!("entity_id={ns}/*");
        let cursor = start(server, &query);
        let target = format!("/api/changes?{query}&wait=60&since={cursor}");
        let mut connection = server.connect();
        let both = request("GET", &target, &[], "").repeat(2);
        connection.send(format!("{both}{}", request("GET", "/health", &[], "")));
        server.publish(&format!("{ns}/a"), "{}");
        for _ in 0..2 {
            let answer = connection.response().json();
            assert_eq!(answer["changes"][0]["entity_id"], format!("{ns}/a"));
        }
        assert_eq!(connection.response().json()["status"], "ok");
    });
}

#[test]
fn a_client_that_goes_away_takes_its_poll_along() {
    let server = Server::start(2);
    let setup = |count: usize| -> Vec<Connection> {
        let cursor = start(&server, "");
        let target = format!("/api/changes?wait=60&since={cursor}");
        let connect = |_| {
            let mut connection = server.connect();
            connection.send(request("GET", &target, &[], ""));
            connection
        };
        (0..count).map(connect).collect()
    };
    for _ in 0..10 {
        drop(setup(50));
    }
    let mut left = setup(1);
    server.publish("a", "{}");
    assert_eq!(left[0].response().json()["changes"][0]["entity_id"], "a");
}

#[test]
fn a_poll_is_answered_early_when_the_server_stops() {
    let data = TempDir::new().expect("a temporary directory");
    let server = Setup::new(data.path(), 2).start();
    let cursor = start(&server, "");
    let mut connection = server.connect();
    let target = format!("/api/changes?wait=60&since={cursor}");
    connection.send(request("GET", &target, &[], ""));
    // Behind the poll on the same core or not, this says that the server has read it.
    wait_for("the poll to wait", || {
        let answer = server.get("/health");
        (answer.status == 200).then_some(())
    });
    server.stop();
    let answer = connection.response();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["changes"], json!([]));
}

#[test]
fn polls_go_on_over_deaths_of_the_server_and_other_numbers_of_shards() {
    let data = TempDir::new().expect("a temporary directory");
    let mut server = Setup::new(data.path(), 2).start();
    let spaces = ["n", "m", "k"];
    let mut cursors = [
        start(&server, "mode=event"),
        start(&server, "entity_id=n/*&mode=event"),
    ];
    let mut rows: [Vec<String>; 2] = [Vec::new(), Vec::new()];
    let mut expected: [Vec<String>; 2] = [Vec::new(), Vec::new()];
    for (round, shards) in [3, 1, 2, 2].into_iter().enumerate() {
        for number in 0..10 {
            for space in spaces {
                let id = format!("{space}/{round}-{number}");
                server.publish(&id, "{}");
                expected[0].push(id.clone());
                if space == "n" {
                    expected[1].push(id);
                }
            }
        }
        server.kill();
        server = Setup::new(data.path(), shards).start();
        for (index, query) in ["mode=event&limit=4", "entity_id=n/*&mode=event&limit=3"]
            .iter()
            .enumerate()
        {
            // Now and then nothing is asked for through several changes of the number of shards.
            if round == 1 {
                continue;
            }
            let mut connection = server.connect();
            loop {
                let answer = poll(
                    &mut connection,
                    &format!("{query}&since={}", cursors[index]),
                );
                cursors[index] = cursor_of(&answer);
                for row in answer["changes"].as_array().unwrap() {
                    rows[index].push(row["payload"]["entity_id"].as_str().unwrap().to_owned());
                }
                if answer["more"] == false {
                    break;
                }
            }
        }
    }
    for (rows, expected) in rows.iter_mut().zip(&mut expected) {
        rows.sort();
        expected.sort();
        assert_eq!(rows, expected, "each once");
    }
}
