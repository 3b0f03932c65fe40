//! State: how it follows from events, and how to read it (API contract §3, §4).

mod support;

use serde_json::{Value, json};
use support::http::{Connection, Response, percent_encoded, request};
use support::server::Server;
use support::{batch, event, is_timestamp, namespace, on_each};

/// Publishes one event for each id, in batches.
fn publish_all(server: &Server, ids: &[String], properties: &str) {
    for ids in ids.chunks(2_000) {
        let events: Vec<String> = ids.iter().map(|id| event(id, properties)).collect();
        let answer = server.post("/api/events/batch", &batch(&events));
        assert_eq!(answer.json()["successful"], ids.len(), "{}", answer.text());
    }
}

fn list(server: &Server, query: &str) -> Response {
    let answer = server.get(&format!("/api/state/entities?{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    answer
}

fn ids(answer: &Response) -> Vec<String> {
    let entities = answer.json();
    let entities = entities.as_array().expect("an array");
    entities
        .iter()
        .map(|entity| entity["id"].as_str().expect("an id").to_owned())
        .collect()
}

fn etag(answer: &Response) -> String {
    answer.header("etag").expect("an ETag").to_owned()
}

/// The target of a page's `Link` to the next one.
fn next_page(answer: &Response) -> Option<String> {
    let link = answer.header("link")?;
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    assert!(parameters.contains(r#"rel="next""#), "{link}");
    // Relative to the page, or absolute.
    let path = target.find("/api/").map_or(target, |at| &target[at..]);
    Some(path.to_owned())
}

#[test]
fn properties_are_merged_and_values_replaced_whole() {
    on_each(|server| {
        let id = format!("{}/a", namespace("merge"));
        server.publish(&id, r#"{"a":1,"b":{"x":1,"y":2},"c":[1,2,3],"d":null}"#);
        server.publish(&id, r#"{"b":{"x":5},"c":"text","e":false,"":"empty name"}"#);
        let entity = server.entity(&id).json();
        let expected =
            json!({"a": 1, "b": {"x": 5}, "c": "text", "d": null, "e": false, "": "empty name"});
        assert_eq!(entity["properties"], expected);
        assert_eq!(entity["id"], id.as_str());
        assert_eq!(entity["version"], 2);
        assert!(
            entity["lastUpdated"].as_str().is_some_and(is_timestamp),
            "{entity}"
        );
    });
}

#[test]
fn empty_properties_create_and_renew() {
    on_each(|server| {
        let id = format!("{}/a", namespace("renew"));
        server.publish(&id, "{}");
        let created = server.entity(&id).json();
        assert_eq!(
            (&created["properties"], &created["version"]),
            (&json!({}), &json!(1))
        );
        server.publish(&id, r#"{"n":1}"#);
        server.publish(&id, "{}");
        let renewed = server.entity(&id).json();
        assert_eq!(
            (&renewed["properties"], &renewed["version"]),
            (&json!({"n": 1}), &json!(3))
        );
        assert!(renewed["lastUpdated"].as_str() >= created["lastUpdated"].as_str());
    });
}

#[test]
fn the_order_of_acceptance_decides_and_not_the_producers_time() {
    on_each(|server| {
        let id = format!("{}/a", namespace("late"));
        for (n, timestamp) in [(1, 2_000_000_000_000_u64), (2, 1), (3, 1_000)] {
            let event = event(&id, &format!(r#"{{"n":{n}}}"#));
            let event = event.replacen('{', &format!(r#"{{"timestamp":{timestamp},"#), 1);
            assert_eq!(server.post("/api/events", &event).status, 200);
        }
        assert_eq!(server.entity(&id).json()["properties"]["n"], 3);
    });
}

#[test]
fn last_updated_never_goes_back_within_a_namespace() {
    on_each(|server| {
        let ns = namespace("clock");
        let mut last = String::new();
        for n in 0..200 {
            let id = format!("{ns}/{}", n % 7);
            server.publish(&id, "{}");
            let entity = server.entity(&id).json();
            let updated = entity["lastUpdated"].as_str().expect("a time").to_owned();
            assert!(is_timestamp(&updated), "{updated}");
            assert!(updated >= last, "{updated} after {last}");
            last = updated;
        }
    });
}

#[test]
fn a_tombstone_removes_the_entity_and_a_later_event_begins_anew() {
    on_each(|server| {
        let ns = namespace("tomb");
        let id = format!("{ns}/a");
        server.publish(&id, r#"{"old":1}"#);
        let before = etag(&server.entity(&id));
        server.publish(&id, r#"{"old":2,"__deleted__":true,"more":3}"#);
        server.entity(&id).expect_error(404, "a deleted entity");
        assert_eq!(list(server, &format!("namespace={ns}")).text(), "[]");
        server.publish(&id, r#"{"new":1}"#);
        let entity = server.entity(&id);
        assert_eq!(entity.json()["version"], 1);
        assert_eq!(entity.json()["properties"], json!({"new": 1}));
        assert_ne!(etag(&entity), before);
        // A tombstone of an absent entity is an event like any other.
        server.publish(&format!("{ns}/never"), r#"{"__deleted__":true}"#);
        assert_eq!(server.entity(&format!("{ns}/never")).status, 404);
    });
}

#[test]
fn only_true_makes_a_tombstone() {
    on_each(|server| {
        let id = format!("{}/a", namespace("almost"));
        for value in ["false", "1", "\"true\"", "null", "[true]", r#"{"x":true}"#] {
            server.publish(&id, &format!(r#"{{"__deleted__":{value}}}"#));
            assert_eq!(server.entity(&id).status, 200, "{value}");
        }
        server.publish(&id, r#"{"nested":{"__deleted__":true}}"#);
        assert_eq!(server.entity(&id).status, 200);
        server.publish(&id, r#"{"__deleted__":false,"__deleted__":true}"#);
        assert_eq!(
            server.entity(&id).status,
            404,
            "of repeated keys the last wins"
        );
    });
}

#[test]
fn an_entity_is_found_however_its_id_is_encoded() {
    on_each(|server| {
        let ns = namespace("codes");
        let id = format!("{ns}/a b/ü+%2F");
        server.publish(&id, r#"{"n":1}"#);
        let forms = [
            percent_encoded(&id),
            percent_encoded(&id)
                .replace("%2F", "/")
                .replace("/ü", "/%C3%BC")
                .replace("%25/", "%252F"),
            format!("{ns}/a%20b/%c3%bc+%252F"),
        ];
        for form in forms {
            let answer = server.entity(&form);
            assert_eq!(answer.status, 200, "{form}");
            assert_eq!(answer.json()["id"], id.as_str());
        }
        for bad in ["%", "%4", "%zz", "a%", "%ff", "%c3", "%ed%a0%80", "a%2"] {
            server.entity(bad).expect_error(400, bad);
        }
        server
            .entity(&format!("{ns}/absent"))
            .expect_error(404, "no such entity");
    });
}

#[test]
fn an_entity_named_delete_is_read_and_deleted_like_any_other() {
    on_each(|server| {
        server.publish("delete", r#"{"n":1}"#);
        assert_eq!(server.entity("delete").json()["id"], "delete");
        assert_eq!(
            server
                .request("DELETE", "/api/state/entities/delete", "")
                .json()["entity_id"],
            "delete"
        );
        assert_eq!(server.entity("delete").status, 404);
    });
}

#[test]
fn an_etag_names_one_state_and_if_none_match_gives_304() {
    on_each(|server| {
        let id = format!("{}/a", namespace("etag"));
        let target = format!("/api/state/entities/{id}");
        let read = |condition: &str| {
            let mut connection = server.connect();
            connection.send(request(
                "GET",
                &target,
                &[&format!("If-None-Match: {condition}")],
                "",
            ));
            connection.response()
        };
        let mut seen: Vec<String> = Vec::new();
        let steps = [
            r#"{"n":1}"#,
            r#"{"n":1}"#,
            "{}",
            r#"{"__deleted__":true}"#,
            r#"{"n":1}"#,
            r#"{"n":2}"#,
        ];
        for step in steps {
            server.publish(&id, step);
            if step.contains("deleted") {
                assert_eq!(read(&seen[0]).status, 404);
                continue;
            }
            let tag = etag(&server.entity(&id));
            assert!(tag.starts_with(['"', 'W']) && tag.ends_with('"'), "{tag}");
            assert!(!seen.contains(&tag), "{tag} named another state before");
            assert_eq!(
                etag(&server.entity(&id)),
                tag,
                "the same state has the same tag"
            );
            let conditions = [
                tag.clone(),
                format!("\"x\", {tag}"),
                format!("{tag}, \"x\""),
                "*".to_owned(),
            ];
            for condition in conditions {
                let answer = read(&condition);
                assert_eq!(answer.status, 304, "{condition}");
                assert_eq!(etag(&answer), tag, "RFC 9110 §15.4.5: with the ETag");
            }
            for other in seen.iter().map(String::as_str).chain(["\"x\"", "\"\""]) {
                assert_eq!(read(other).status, 200, "{other}");
            }
            seen.push(tag);
        }
    });
}

#[test]
fn lists_are_filtered_by_namespace_and_prefix_and_ordered_by_bytes() {
    on_each(|server| {
        let ns = namespace("list");
        let others = format!("{ns}x");
        let mut all = vec![
            format!("{ns}/"),
            format!("{ns}/A"),
            format!("{ns}/a"),
            format!("{ns}/a+b"),
            format!("{ns}/a/b"),
            format!("{ns}/a/b/c"),
            format!("{ns}/ab"),
            format!("{ns}/ä"),
            format!("{ns}/漢"),
        ];
        let foreign = [ns.clone(), format!("{others}/a"), format!("{others}/b")];
        publish_all(server, &all, r#"{"n":1}"#);
        publish_all(server, &foreign, r#"{"n":1}"#);
        all.sort();
        assert_eq!(ids(&list(server, &format!("namespace={ns}"))), all);
        assert_eq!(ids(&list(server, &format!("prefix={ns}/"))), all);
        assert_eq!(
            ids(&list(server, &format!("prefix={ns}%2F&namespace="))),
            all
        );
        let with_prefix = |rest: &str| {
            let prefix = format!("{ns}/{rest}");
            all.iter()
                .filter(|id| id.starts_with(&prefix))
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(
            ids(&list(server, &format!("namespace={ns}&prefix={ns}/a"))),
            with_prefix("a")
        );
        assert_eq!(
            ids(&list(server, &format!("prefix={ns}/a+b"))),
            [format!("{ns}/a+b")],
            "+ is a plus"
        );
        assert_eq!(
            ids(&list(server, &format!("prefix={ns}/a%2Bb"))),
            [format!("{ns}/a+b")]
        );
        assert_eq!(
            ids(&list(server, &format!("prefix={ns}/%C3%A4"))),
            [format!("{ns}/ä")]
        );
        assert_eq!(
            ids(&list(server, &format!("namespace={others}&prefix={ns}/"))),
            Vec::<String>::new()
        );
        assert_eq!(
            ids(&list(server, &format!("prefix={ns}&namespace={others}"))),
            foreign[1..]
        );
        let everything = ids(&list(server, &format!("prefix={ns}")));
        assert_eq!(everything.len(), all.len() + foreign.len());
        assert!(everything.is_sorted(), "{everything:?}");
        let unfiltered = ids(&list(server, "prefix=&namespace=&unknown=1&unknown=2"));
        assert!(unfiltered.is_sorted());
        assert!(all.iter().all(|id| unfiltered.contains(id)));
    });
}

#[test]
fn pages_cover_every_entity_once_across_shards() {
    on_each(|server| {
        let ns = namespace("pages");
        let mut all: Vec<String> = (0..57)
            .map(|n| format!("{ns}-{}/{n}+&?#é", n % 8))
            .collect();
        publish_all(server, &all, r#"{"n":1,"m":2}"#);
        all.sort();
        for limit in [1, 7, 19, 56, 57, 58, 10_000] {
            let mut found = Vec::new();
            let mut target = Some(format!(
                "/api/state/entities?prefix={ns}-&limit={limit}&fields=n"
            ));
            while let Some(page) = target {
                let answer = server.get(&page);
                assert_eq!(answer.status, 200, "{page}: {}", answer.text());
                let page_ids = ids(&answer);
                target = next_page(&answer);
                assert!(page_ids.len() <= limit);
                assert!(
                    page_ids.len() == limit || target.is_none(),
                    "a page that is not the last is full"
                );
                assert!(answer.json().as_array().is_some_and(|page| {
                    page.iter()
                        .all(|entity| entity["properties"] == json!({"n": 1}))
                }));
                found.extend(page_ids);
                assert!(found.len() <= all.len(), "pages without end");
            }
            assert_eq!(found, all, "limit {limit}");
        }
        // `after` need not exist; if it does, it is excluded.
        let after = percent_encoded(&all[10]);
        assert_eq!(
            ids(&list(
                server,
                &format!("prefix={ns}-&after={after}&limit=3")
            )),
            all[11..14]
        );
        assert_eq!(
            ids(&list(server, &format!("prefix={ns}-&after={after}"))),
            all[11..]
        );
        assert_eq!(
            ids(&list(server, &format!("prefix={ns}-&after={ns}&limit=2"))),
            all[..2]
        );
        assert_eq!(
            ids(&list(server, &format!("prefix={ns}-&after={ns}~&limit=2"))),
            Vec::<String>::new()
        );
    });
}

#[test]
fn fields_keep_only_what_they_name() {
    on_each(|server| {
        let ns = namespace("some");
        let id = format!("{ns}/a");
        server.publish(&id, r#"{"a":1,"b":22.50,"c":[],"a b":2,"ü":3}"#);
        let read =
            |query: &str| server.entity(&format!("{id}?{query}")).json()["properties"].clone();
        // Not by `json!`, which would write 22.5.
        let both: Value = serde_json::from_str(r#"{"a":1,"b":22.50}"#).expect("JSON");
        assert_eq!(read("fields=a,b"), both);
        assert_eq!(read("fields=b,a,b"), both);
        assert_eq!(read("fields=absent"), json!({}));
        assert_eq!(read("fields=a%20b,%C3%BC"), json!({"a b": 2, "ü": 3}));
        let whole = server.entity(&format!("{id}?fields=c")).json();
        assert_eq!((&whole["id"], &whole["version"]), (&json!(id), &json!(1)));
        let listed = list(server, &format!("namespace={ns}&fields=c")).json();
        assert_eq!(listed[0]["properties"], json!({"c": []}));
    });
}

#[test]
fn bad_query_parameters_are_400() {
    let lists = [
        "limit=0",
        "limit=10001",
        "limit=",
        "limit=-1",
        "limit=1.0",
        "limit=%2B1",
        "limit=+1",
        "limit=x",
        "limit=1%00",
        "limit=99999999999999999999999",
        "limit=1&limit=1",
        "prefix=a&prefix=b",
        "namespace=a&namespace=a",
        "after=a&after=b",
        "fields=a&fields=b",
        "prefix=%",
        "prefix=%f",
        "prefix=%zz",
        "prefix=%ff",
        "after=%c3",
        "x=%zz",
        "limit=5&%6Cimit=5",
    ];
    on_each(|server| {
        for query in lists {
            server
                .get(&format!("/api/state/entities?{query}"))
                .expect_error(400, query);
        }
        server.publish("parameters", "{}");
        for query in ["fields=a&fields=a", "fields=%", "fields=%ff", "x=%"] {
            server
                .entity(&format!("parameters?{query}"))
                .expect_error(400, query);
        }
    });
}

#[test]
fn a_list_without_limit_is_streamed_whole() {
    const COUNT: usize = 20_000;
    on_each(|server| {
        let ns = namespace("stream");
        let mut all: Vec<String> = (0..COUNT).map(|n| format!("{ns}-{}/{n}", n % 16)).collect();
        publish_all(
            server,
            &all,
            r#"{"text":"0123456789012345678901234567890123456789"}"#,
        );
        all.sort();
        let answer = list(server, &format!("prefix={ns}-"));
        assert_eq!(ids(&answer), all);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("link"), None);
        // Listed entities are the same as read ones.
        assert_eq!(answer.json()[7], server.entity(&all[7]).json());
        let answer = server.post(
            "/api/state/entities/delete",
            &format!(r#"{{"prefix":"{ns}-1"}}"#),
        );
        assert!(matches!(answer.status, 200), "{}", answer.text());
    });
}

#[test]
fn a_reader_that_stops_slows_nobody_and_costs_no_memory() {
    const ENTITIES: usize = 400;
    const READERS: usize = 20;
    on_each(|server| {
        let ns = namespace("stall");
        let text = "x".repeat(20_000);
        let all: Vec<String> = (0..ENTITIES)
            .map(|n| format!("{ns}-{}/{n}", n % 4))
            .collect();
        for ids in all.chunks(100) {
            publish_all(server, ids, &format!(r#"{{"text":"{text}"}}"#));
        }
        let target = format!("/api/state/entities?prefix={ns}-");
        let whole = server.get(&target).body.len();
        assert!(whole > ENTITIES * text.len());
        let before = server.memory_bytes();
        let mut stopped: Vec<Connection> = Vec::new();
        for _ in 0..READERS {
            let mut connection = server.connect();
            connection.send(request("GET", &target, &[], ""));
            stopped.push(connection);
        }
        // The last of the list, which no reader has room for by now.
        let last = all.iter().max().expect("an id");
        for n in 0..50 {
            server.publish(last, &format!(r#"{{"n":{n}}}"#));
        }
        // The server holds a bounded piece for each reader; 20 whole answers of 8 MB would show.
        let grown = server.memory_bytes().saturating_sub(before);
        let answers = (whole * READERS) as u64;
        assert!(
            grown < answers / 2,
            "memory grew by {grown} bytes; the answers have {answers}"
        );
        // Each entity is whole and current when it is sent, also after the wait.
        let listed = stopped.remove(0).response();
        assert_eq!(ids(&listed).len(), ENTITIES);
        let listed = listed.json();
        let found = &listed[ENTITIES - 1];
        assert_eq!(
            (&found["id"], &found["properties"]["n"]),
            (&json!(last), &json!(49))
        );
    });
}

#[test]
fn health_and_readiness_are_told() {
    on_each(|server| {
        let health = server.get("/health");
        assert_eq!(health.status, 200);
        let health = health.json();
        assert_eq!(health["status"], "ok");
        assert!(health["version"].is_string(), "{health}");
        for member in ["uptime_seconds", "entities", "shards"] {
            assert!(health[member].is_number(), "{member}: {health}");
        }
        assert_eq!(server.get("/ready").status, 200);
        let missing = Value::Null;
        assert_ne!(health["shards"], missing);
    });
}

#[test]
fn a_filter_keeps_what_matches_in_lists_pages_and_the_past() {
    on_each(|server| {
        let ns = namespace("filter");
        for (name, status, priority) in
            [("a", "open", "1"), ("b", "shut", "2"), ("c", "open", "2.0")]
        {
            let properties = format!(
                r#"{{"status":"{status}","priority":{priority},"at":{{"x/y":[1]}},"my name":null}}"#
            );
            server.publish(&format!("{ns}/{name}"), &properties);
        }
        let filtered = |filter: &str, rest: &str| {
            let filter = percent_encoded(filter);
            list(server, &format!("namespace={ns}&filter={filter}{rest}"))
        };
        let names = |answer: &Response| -> String {
            let ids = ids(answer);
            ids.iter().filter_map(|id| id.chars().last()).collect()
        };
        for (filter, expected) in [
            (r#"eq(status,"open")"#, "ac"),
            (r#"and(eq(status,"\u006fpen"),ge(priority,2))"#, "c"),
            ("eq(priority,2)", "bc"),
            (r#"like(status,"s*")"#, "b"),
            ("eq(at/x~1y,[1.0])", "abc"),
            (r#"exists("my name")"#, "abc"),
            ("ne(missing,1)", ""),
            ("not(exists(missing))", "abc"),
            ("eq($version,1)", "abc"),
            ("exists($expires)", ""),
        ] {
            assert_eq!(names(&filtered(filter, "")), expected, "{filter}");
            assert_eq!(names(&filtered(filter, "&limit=3")), expected, "{filter}");
        }
        let first = filtered(r#"eq(status,"open")"#, "&limit=1&fields=priority");
        assert_eq!(names(&first), "a");
        assert_eq!(first.json()[0]["properties"], json!({"priority": 1}));
        let second = server.get(&next_page(&first).expect("another page"));
        assert_eq!((names(&second).as_str(), next_page(&second)), ("c", None));

        let then = second.json()[0]["lastUpdated"]
            .as_str()
            .expect("a time")
            .to_owned();
        server.publish(&format!("{ns}/a"), r#"{"status":"shut"}"#);
        assert_eq!(names(&filtered(r#"eq(status,"open")"#, "")), "c");
        let past = filtered(r#"eq(status,"open")"#, &format!("&at={then}"));
        assert_eq!(names(&past), "ac");

        let target = "/api/state/entities?filter=and(eq(status,1),eq(status,open))";
        let refused = server.get(target);
        assert_eq!(refused.expect_error(400, "byte 27"), "invalid_filter");

        let id = format!("{ns}/c");
        let conditional = |filter: &str| {
            let event = event(&id, r#"{"status":"taken"}"#);
            let expect = format!(r#"{{"expect":{{"filter":{}}},"#, json!(filter));
            server.post("/api/events", &event.replacen('{', &expect, 1))
        };
        let free = r#"and(eq(status,"open"),eq($version,1))"#;
        assert_eq!(conditional(free).status, 200);
        let late = conditional(free);
        assert_eq!(late.status, 409, "{}", late.text());
        assert_eq!(late.json()["code"], "precondition_failed");
        let refused = conditional("eq(status,)");
        assert_eq!(refused.expect_error(400, "byte 10"), "invalid_filter");
    });
}
