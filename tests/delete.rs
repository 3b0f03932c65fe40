//! Deleting one entity and many (API contract §5).

mod support;

use serde_json::{Value, json};
use support::http::{Response, percent_encoded};
use support::server::Server;
use support::watch::Watcher;
use support::{batch, event, is_uuid_v7, namespace, on_each};

const MATCHES_MAX: usize = 10_000;

fn delete_many(server: &Server, filter: &Value) -> Response {
    server.post("/api/state/entities/delete", &filter.to_string())
}

fn publish_all(server: &Server, ids: &[String]) {
    for ids in ids.chunks(5_000) {
        let events: Vec<String> = ids.iter().map(|id| event(id, "{}")).collect();
        assert_eq!(
            server.post("/api/events/batch", &batch(&events)).json()["successful"],
            ids.len()
        );
    }
}

fn remaining(server: &Server, prefix: &str) -> Vec<String> {
    let answer = server
        .get(&format!("/api/state/entities?prefix={prefix}"))
        .json();
    let entities = answer.as_array().expect("an array");
    entities
        .iter()
        .map(|entity| entity["id"].as_str().expect("an id").to_owned())
        .collect()
}

#[test]
fn deleting_an_entity_answers_with_its_tombstone() {
    on_each(|server| {
        let ns = namespace("one");
        for rest in ["a", "a/b c", "ü%2F", "漢"] {
            let id = format!("{ns}/{rest}");
            server.publish(&id, r#"{"n":1}"#);
            let target = format!("/api/state/entities/{}", percent_encoded(&id));
            let answer = server.request("DELETE", &target, "");
            assert_eq!(answer.status, 200, "{id}: {}", answer.text());
            assert_eq!(answer.json()["entity_id"], id.as_str());
            assert!(
                is_uuid_v7(answer.json()["eventId"].as_str().unwrap_or("")),
                "{}",
                answer.text()
            );
            server.get(&target).expect_error(404, &id);
            server.request("DELETE", &target, "").expect_error(404, &id);
            server.publish(&id, "{}");
            assert_eq!(server.get(&target).json()["version"], 1, "{id}");
        }
        server
            .request("DELETE", "/api/state/entities/%ff", "")
            .expect_error(400, "an id that is no UTF-8");
    });
}

#[test]
fn a_filter_deletes_what_it_matches_and_nothing_else() {
    on_each(|server| {
        let ns = namespace("many");
        let id = |rest: &str| format!("{ns}{rest}");
        let all = [id("/a"), id("/a/b"), id("/ab"), id("/b"), id("x/a"), id("")];
        let table = [
            (json!({"namespace": ns}), vec![id(""), id("x/a")], 4),
            (
                json!({"prefix": format!("{ns}/a")}),
                vec![id(""), id("/b"), id("x/a")],
                3,
            ),
            (json!({"prefix": ns}), vec![], 6),
            (json!({"prefix": format!("{ns}/zzz")}), all.to_vec(), 0),
            (
                json!({"namespace": format!("{ns}-absent")}),
                all.to_vec(),
                0,
            ),
            (
                json!({"entity_ids": [id("/a"), id("")]}),
                vec![id("/a/b"), id("/ab"), id("/b"), id("x/a")],
                2,
            ),
            (json!({"prefix": ns, "unknown": 1}), vec![], 6),
        ];
        for (filter, mut expected, deleted) in table {
            publish_all(server, &all);
            let answer = delete_many(server, &filter);
            assert_eq!(answer.status, 200, "{filter}: {}", answer.text());
            assert_eq!(
                answer.json(),
                json!({"deleted": deleted, "failed": 0, "errors": []}),
                "{filter}"
            );
            expected.sort();
            assert_eq!(remaining(server, &ns), expected, "{filter}");
        }
    });
}

#[test]
fn unknown_ids_fail_and_repeated_ones_count_once() {
    on_each(|server| {
        let ns = namespace("some");
        let id = |rest: &str| format!("{ns}-{rest}/x");
        publish_all(server, &[id("a"), id("b")]);
        let ids = [
            id("a"),
            id("gone"),
            id("a"),
            id("b"),
            id("gone"),
            "nowhere".to_owned(),
        ];
        let answer = delete_many(server, &json!({"entity_ids": ids})).json();
        assert_eq!(
            (&answer["deleted"], &answer["failed"]),
            (&json!(2), &json!(2)),
            "{answer}"
        );
        let errors: Vec<&str> = answer["errors"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(errors.len(), 2, "{answer}");
        for failed in [id("gone"), "nowhere".to_owned()] {
            let prefix = format!("{failed}: ");
            assert!(
                errors.iter().any(|error| error.starts_with(&prefix)),
                "{failed} in {errors:?}"
            );
        }
        assert_eq!(remaining(server, &format!("{ns}-")), Vec::<String>::new());
    });
}

#[test]
fn anything_but_exactly_one_filter_is_400() {
    let table = [
        "",
        "null",
        "[]",
        "1",
        "{}",
        r#"{"unknown":1}"#,
        r#"{"namespace":""}"#,
        r#"{"prefix":""}"#,
        r#"{"entity_ids":[]}"#,
        r#"{"entity_ids":[""]}"#,
        r#"{"entity_ids":[1]}"#,
        r#"{"entity_ids":"a"}"#,
        r#"{"entity_ids":["never/there",null]}"#,
        r#"{"namespace":1}"#,
        r#"{"prefix":["a"]}"#,
        r#"{"namespace":"a","prefix":"a/"}"#,
        r#"{"prefix":"a","entity_ids":["a"]}"#,
        r#"{"namespace":"a","prefix":"a","entity_ids":["a"]}"#,
        r#"{"prefix":"a"}x"#,
        r#"{"prefix":"a""#,
    ];
    on_each(|server| {
        for body in table {
            server
                .post("/api/state/entities/delete", body)
                .expect_error(400, body);
        }
    });
}

#[test]
fn of_a_repeated_filter_the_last_counts() {
    on_each(|server| {
        let ns = namespace("last");
        let id = format!("{ns}/a");
        let table = [
            format!(r#"{{"prefix":1,"prefix":"{ns}/"}}"#),
            format!(r#"{{"prefix":"","prefix":"{ns}/"}}"#),
            format!(r#"{{"entity_ids":[],"entity_ids":["{id}"]}}"#),
            format!(r#"{{"entity_ids":["nowhere"],"entity_ids":["{id}"]}}"#),
        ];
        for body in table {
            server.publish(&id, "{}");
            let answer = server.post("/api/state/entities/delete", &body);
            assert_eq!(answer.status, 200, "{body}: {}", answer.text());
            assert_eq!(
                answer.json(),
                json!({"deleted": 1, "failed": 0, "errors": []}),
                "{body}"
            );
        }
        let body = format!(r#"{{"prefix":"{ns}/","prefix":1}}"#);
        server
            .post("/api/state/entities/delete", &body)
            .expect_error(400, &body);
    });
}

#[test]
fn more_matches_than_the_limit_are_refused_and_nothing_is_deleted() {
    on_each(|server| {
        let ns = namespace("limit");
        let ids: Vec<String> = (0..=MATCHES_MAX)
            .map(|n| format!("{ns}-{}/{n}", n % 9))
            .collect();
        publish_all(server, &ids);
        let filter = json!({"prefix": format!("{ns}-")});
        delete_many(server, &filter).expect_error(400, "10,001 matches");
        delete_many(server, &json!({"entity_ids": ids})).expect_error(400, "10,001 ids");
        assert_eq!(remaining(server, &format!("{ns}-")).len(), MATCHES_MAX + 1);
        server.request("DELETE", &format!("/api/state/entities/{}", ids[0]), "");
        let answer = delete_many(server, &filter).json();
        assert_eq!(
            answer,
            json!({"deleted": MATCHES_MAX, "failed": 0, "errors": []})
        );
        assert_eq!(remaining(server, &format!("{ns}-")).len(), 0);
    });
}

#[test]
fn reserved_entities_are_never_deleted() {
    on_each(|server| {
        for id in ["flux-core/directory", "flux-core/x"] {
            let target = format!("/api/state/entities/{id}");
            server.request("DELETE", &target, "").expect_error(403, id);
            delete_many(server, &json!({"entity_ids": [id]})).expect_error(403, id);
        }
        for filter in [
            json!({"namespace": "flux-core"}),
            json!({"prefix": "flux-core/"}),
        ] {
            let answer = delete_many(server, &filter);
            assert_eq!(answer.status, 200, "{filter}: {}", answer.text());
            assert_eq!(answer.json()["deleted"], 0, "{filter}");
        }
    });
}

#[test]
fn a_deletion_is_pushed_like_any_other_tombstone() {
    on_each(|server| {
        let ns = namespace("seen");
        let mut watcher = Watcher::connect(server);
        watcher.subscribe(&format!("{ns}/*"));
        publish_all(server, &[format!("{ns}/a"), format!("{ns}/b")]);
        server.request("DELETE", &format!("/api/state/entities/{ns}/a"), "");
        delete_many(server, &json!({"namespace": ns}));
        for id in ["a", "b"] {
            let push = watcher.next();
            assert_eq!(push["type"], "entity_deleted", "{push}");
            assert_eq!(push["entity_id"], format!("{ns}/{id}"));
        }
    });
}
