//! History as a user sees it: stored events, and the state as it was (API contract §9). The tests
//! record the server's answers, and ask again after checkpoints, restarts, kills and changes of the
//! number of shards.

mod support;

use fastrand::Rng;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::http::{Response, percent_encoded};
use support::server::{Server, Setup};
use support::{batch, event, namespace, on_each, wait_for};
use tempfile::TempDir;

/// The record of every id: when its state changed, and to what.
#[derive(Debug, Default)]
struct Witness {
    /// By id: the moment, and the entity from then on.
    changes: BTreeMap<String, Vec<(String, Option<Value>)>>,
    /// By id: the event ids, oldest first.
    events: BTreeMap<String, Vec<String>>,
}

const IDS: &[&str] = &["a/1", "a/2", "ab/1", "b/1", "b/2/x", "room", "hall", "c/1"];

impl Witness {
    /// Publishes a random event and records its effect.
    fn publish(&mut self, server: &Server, random: &mut Rng) {
        let id = pick(random, IDS);
        let properties = match random.u64(..8) {
            0 => r#"{"__deleted__":true}"#.to_owned(),
            1 => "{}".to_owned(),
            // Large, so that the log fills several segments.
            2 => format!(r#"{{"large":"{}"}}"#, "x".repeat(20_000)),
            _ => format!(r#"{{"p{}":{}.50}}"#, random.u64(..3), random.u64(..1000)),
        };
        let answer = server.publish(id, &properties);
        let events = self.events.entry(id.to_owned()).or_default();
        events.push(text(&answer.json()["eventId"]));
        let newest = &array(&server.get(&format!("/api/events?entity={id}&limit=1")))[0];
        assert_eq!(newest["eventId"], answer.json()["eventId"]);
        let entity = server.entity(id);
        let entity = (entity.status == 200).then(|| entity.json());
        let changes = self.changes.entry(id.to_owned()).or_default();
        changes.push((text(&newest["acceptedAt"]), entity));
    }

    /// The entity as it was at a moment.
    fn entity_at(&self, id: &str, at: &str) -> Option<&Value> {
        let changes = self.changes.get(id)?;
        let change = changes.iter().rev().find(|(time, _)| time.as_str() <= at);
        change.and_then(|(_, entity)| entity.as_ref())
    }

    /// Every moment at which anything changed.
    fn moments(&self) -> Vec<&str> {
        let mut moments: Vec<&str> = self
            .changes
            .values()
            .flatten()
            .map(|(time, _)| time.as_str())
            .collect();
        moments.sort_unstable();
        moments
    }

    /// Compares the server's history with the whole record.
    fn check(&self, server: &Server) {
        for (id, events) in &self.events {
            let told = all_events(server, &format!("entity={id}&limit=7"));
            let told: Vec<String> = told
                .iter()
                .rev()
                .map(|event| text(&event["eventId"]))
                .collect();
            assert_eq!(&told, events, "{id}");
            for (at, entity) in &self.changes[id] {
                check_entity(server, id, at, entity.as_ref());
            }
        }
        for at in self.moments().iter().step_by(5) {
            let expected: Vec<&Value> = self
                .changes
                .keys()
                .filter_map(|id| self.entity_at(id, at))
                .collect();
            let mut told = Vec::new();
            let mut target = Some(format!("/api/state/entities?at={at}&limit=3"));
            while let Some(page) = target {
                let answer = server.get(&page);
                told.extend(array(&answer));
                target = next_page(&answer);
            }
            assert_eq!(json!(told), json!(expected), "at {at}");
            let whole = array(&server.get(&format!("/api/state/entities?namespace=a&at={at}")));
            let within = |entity: &&Value| text(&entity["id"]).starts_with("a/");
            let expected: Vec<Value> = told.iter().filter(within).cloned().collect();
            assert_eq!(whole, expected, "in a namespace at {at}");
        }
    }
}

fn check_entity(server: &Server, id: &str, at: &str, expected: Option<&Value>) {
    let answer = server.get(&format!("/api/state/entities/{id}?at={at}"));
    match expected {
        Some(entity) => assert_eq!(&answer.json(), entity, "{id} at {at}"),
        None => assert_eq!(answer.status, 404, "{id} at {at}: {}", answer.text()),
    }
}

fn pick<'t>(random: &mut Rng, from: &[&'t str]) -> &'t str {
    from[random.usize(..from.len())]
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn array(answer: &Response) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().as_array().expect("an array").clone()
}

fn next_page(answer: &Response) -> Option<String> {
    let link = answer.header("link")?;
    let (target, relation) = link.strip_prefix('<')?.split_once('>')?;
    assert!(relation.contains(r#"rel="next""#), "{link}");
    Some(target.to_owned())
}

/// All pages of events, newest first.
fn all_events(server: &Server, query: &str) -> Vec<Value> {
    let mut events = Vec::new();
    let mut target = Some(format!("/api/events?{query}"));
    while let Some(page) = target {
        let answer = server.get(&page);
        events.extend(array(&answer));
        target = next_page(&answer);
    }
    events
}

fn code(answer: &Response) -> String {
    text(&answer.json()["code"])
}

#[test]
fn the_past_is_told_as_it_was_through_restarts_kills_and_other_shard_counts() {
    let data_dir = TempDir::new().expect("a temporary directory");
    let mut random = Rng::with_seed(42);
    let mut witness = Witness::default();
    for (round, shards) in [1, 3, 3, 2].into_iter().enumerate() {
        let server = Setup::new(data_dir.path(), shards)
            .env("FLUX_SEGMENT_BYTES", "65536")
            .env("FLUX_CHECKPOINT_SECONDS", "1")
            .start();
        witness.check(&server);
        for _ in 0..40 {
            witness.publish(&server, &mut random);
        }
        witness.check(&server);
        if round % 2 == 0 {
            server.stop();
        } else {
            server.kill();
        }
    }
}

#[test]
fn an_event_comes_back_as_it_was_sent_with_when_it_was_accepted() {
    on_each(|server| {
        let id = format!("{}/ä b+c", namespace("as-sent"));
        let body = format!(
            r#"{{"eventId":"e\"1","stream":"s.t","source":"me","timestamp":1700000000000,"key":"k","schema":"v1","payload":{{"entity_id":"{id}","properties":{{"a":22.50,"b":[1,{{"c":null}}]}},"unit":"C"}}}}"#
        );
        assert_eq!(server.post("/api/events", &body).status, 200);
        let answer = server.get(&format!("/api/events?entity={}", percent_encoded(&id)));
        assert!(
            answer
                .text()
                .starts_with(&format!("[{}", body.trim_end_matches('}'))),
            "{}",
            answer.text()
        );
        let event = &array(&answer)[0];
        assert!(support::is_timestamp(&text(&event["acceptedAt"])));
        let entity = server.get(&format!("/api/state/entities/{}", percent_encoded(&id)));
        assert_eq!(event["acceptedAt"], entity.json()["lastUpdated"]);
        assert!(
            event["sequence"]
                .as_u64()
                .is_some_and(|sequence| sequence > 0)
        );
        let head = server.request(
            "HEAD",
            &format!("/api/events?entity={}", percent_encoded(&id)),
            "",
        );
        assert_eq!((head.status, head.body.len()), (200, 0));
        let without = format!("{}/x", namespace("no-timestamp"));
        server.publish(&without, r#"{"a":1}"#);
        let answer = server.get(&format!("/api/events?entity={without}"));
        assert_eq!(array(&answer)[0].get("timestamp"), None);
    });
}

#[test]
fn pages_follow_each_other_without_a_gap_or_a_repeat() {
    on_each(|server| {
        let name = namespace("pages");
        let events: Vec<String> = (0..230)
            .map(|number| {
                event(
                    &format!("{name}/{}", number % 3),
                    &format!(r#"{{"n":{number}}}"#),
                )
            })
            .collect();
        assert_eq!(
            server.post("/api/events/batch", &batch(&events)).status,
            200
        );
        let numbers = |events: &[Value]| -> Vec<u64> {
            let number = |event: &Value| event["payload"]["properties"]["n"].as_u64();
            events
                .iter()
                .map(|event| number(event).expect("a number"))
                .collect()
        };
        let all: Vec<u64> = (0..230).rev().collect();
        for limit in ["", "&limit=1", "&limit=99", "&limit=230", "&limit=500"] {
            let told = all_events(server, &format!("namespace={name}{limit}"));
            assert_eq!(numbers(&told), all, "{limit}");
        }
        let first = server.get(&format!("/api/events?namespace={name}"));
        assert_eq!(
            array(&first).len(),
            100,
            "unless the request says otherwise"
        );
        assert!(
            first
                .header("access-control-expose-headers")
                .is_some_and(|names| names.contains("link")),
            "pages may read the link"
        );
        // The cursor of an event leads to the events before it.
        let third = text(&array(&first)[2]["cursor"]);
        let before = all_events(server, &format!("namespace={name}&before={third}"));
        assert_eq!(numbers(&before), all[3..]);
        // While pages are read, new events come in front of them.
        let second = next_page(&first).expect("a second page");
        server.publish(&format!("{name}/0"), r#"{"n":999}"#);
        assert_eq!(numbers(&array(&server.get(&second))), all[100..200]);
        let entity: Vec<u64> = all
            .iter()
            .copied()
            .filter(|number| number % 3 == 1)
            .collect();
        let told = all_events(
            server,
            &format!("entity={name}/1&namespace={name}&limit=20"),
        );
        assert_eq!(numbers(&told), entity);
        assert_eq!(
            all_events(server, &format!("entity={name}/1&namespace=other")),
            Vec::<Value>::new()
        );
    });
}

#[test]
fn a_cursor_is_a_place_in_its_namespace_through_other_shard_counts_and_older_copies() {
    let dir = TempDir::new().unwrap();
    let (path, older) = (dir.path().join("data"), dir.path().join("older"));
    let first = Setup::new(&path, 1).start();
    for id in ["house/a", "garden/a", "house/b", "room"] {
        first.publish(id, "{}");
    }
    first.stop();
    // The copy is a directory of its own, as `flux restore` makes one.
    let copied = std::process::Command::new("cp")
        .args(["-r", path.to_str().unwrap(), older.to_str().unwrap()])
        .status();
    assert!(copied.unwrap().success());
    let mut places: Vec<(String, String, Vec<Value>)> = Vec::new();
    for shards in [3, 1, 2] {
        let server = Setup::new(&path, shards).start();
        for id in ["house/a", "garden/a", "house/c", "room", "house/a"] {
            server.publish(id, "{}");
        }
        for (query, place, before) in &places {
            let told = all_events(&server, &format!("{query}&before={place}&limit=2"));
            assert_eq!(&told, before, "{query} with {shards} shards");
        }
        for query in ["namespace=house", "entity=house/a", "entity=room"] {
            let events = all_events(&server, query);
            let cursor = text(&events[1]["cursor"]);
            assert!(cursor.len() <= 40, "{cursor}");
            places.push((query.to_owned(), cursor, events[2..].to_vec()));
        }
        let (_, cursor, _) = &places[0];
        for query in ["namespace=garden", "entity=room", "entity=house"] {
            let answer = server.get(&format!("/api/events?{query}&before={cursor}"));
            let expected = (400, "cursor_too_narrow".to_owned());
            assert_eq!((answer.status, code(&answer)), expected, "{query}");
        }
        for damaged in [&cursor[1..], "garbage", &format!("{cursor}A")] {
            let answer = server.get(&format!("/api/events?namespace=house&before={damaged}"));
            let expected = (400, "invalid_cursor".to_owned());
            assert_eq!((answer.status, code(&answer)), expected, "{damaged}");
        }
        server.stop();
    }
    let server = Setup::new(&older, 1).start();
    let (query, cursor, _) = &places[places.len() - 3];
    let answer = server.get(&format!("/api/events?{query}&before={cursor}"));
    let expected = (410, "history_removed".to_owned());
    assert_eq!(
        (answer.status, code(&answer)),
        expected,
        "{}",
        answer.text()
    );
}

#[test]
fn since_and_until_include_the_moments_they_name() {
    on_each(|server| {
        let id = format!("{}/x", namespace("window"));
        for number in 0..6 {
            server.publish(&id, &format!(r#"{{"n":{number}}}"#));
        }
        let times: Vec<String> = all_events(server, &format!("entity={id}"))
            .iter()
            .rev()
            .map(|event| text(&event["acceptedAt"]))
            .collect();
        let count = |query: &str| all_events(server, &format!("entity={id}&{query}")).len();
        assert_eq!(count(&format!("since={}", times[2])), 4);
        assert_eq!(count(&format!("until={}", times[2])), 3);
        assert_eq!(
            count(&format!("since={}&until={}&limit=1", times[1], times[4])),
            4
        );
        assert_eq!(count(&format!("since={}&until={}", times[4], times[1])), 0);
        let local = times[2].replace('Z', "+00:00");
        assert_eq!(count(&format!("since={local}")), 4);
        assert_eq!(count(&format!("since={}", local.replace('+', "%2B"))), 4);
        assert_eq!(count(&format!("since={}", local.replace('+', "%20"))), 4);
        assert_eq!(count("since=0&until=253402300799999"), 6);
        assert_eq!(count("until=1"), 0);
        assert_eq!(count("since=&until="), 6);
    });
}

#[test]
fn bad_parameters_are_400() {
    on_each(|server| {
        for query in [
            "",
            "limit=5",
            "entity=&namespace=",
            "entity=a&limit=0",
            "entity=a&limit=501",
            "entity=a&limit=x",
            "entity=a&limit=-1",
            "entity=a&since=yesterday",
            "entity=a&since=-1",
            "entity=a&until=2026-13-01T00:00:00Z",
            "entity=a&until=2026-01-01",
            "entity=a&before=garbage",
            "entity=a&before=1",
            "entity=a&entity=b",
            "entity=a&since=1&since=1",
            "entity=%ff",
        ] {
            let answer = server.get(&format!("/api/events?{query}"));
            assert_eq!(answer.status, 400, "{query}: {}", answer.text());
        }
        for target in [
            "/api/state/entities/a?at=x",
            "/api/state/entities?at=2026-01-01",
        ] {
            let answer = server.get(target);
            assert_eq!(
                (answer.status, code(&answer)),
                (400, "invalid_query".into()),
                "{target}"
            );
        }
    });
}

#[test]
fn before_the_beginning_there_is_nothing_and_the_future_is_the_present() {
    on_each(|server| {
        let name = namespace("ends");
        let id = format!("{name}/x");
        server.publish(&id, r#"{"a":1,"b":2}"#);
        let early = server.get(&format!("/api/state/entities/{id}?at=2001-01-01T00:00:00Z"));
        assert_eq!(
            (early.status, code(&early)),
            (404, "entity_not_found".into())
        );
        let early = server.get(&format!("/api/state/entities?namespace={name}&at=1000"));
        assert_eq!(early.text(), "[]");
        let present = server.entity(&id);
        let future = server.get(&format!("/api/state/entities/{id}?at=2999-01-01T00:00:00Z"));
        assert_eq!(future.text(), present.text());
        assert_eq!(future.header("etag"), present.header("etag"));
        let at = text(&present.json()["lastUpdated"]);
        let past = server.get(&format!("/api/state/entities/{id}?at={at}&fields=b"));
        assert_eq!(past.json()["properties"], json!({"b": 2}));
        assert_eq!(past.header("etag"), None, "a tag names the present state");
    });
}

#[test]
fn the_past_of_an_entity_that_would_take_too_much_work_is_400_and_names_the_bound() {
    let dir = TempDir::new().expect("a temporary directory");
    let server = Setup::new(dir.path(), 1)
        .env("FLUX_DURABILITY", "async")
        .env("FLUX_MEMORY_BYTES", "536870912")
        .start();
    let long = "x".repeat(900_000);
    let large = event("past/long", &format!(r#"{{"text":"{long}"}}"#));
    for _ in 0..8 {
        let answer = server.post("/api/events/batch", &batch(&vec![large.clone(); 10]));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let rows = array(&server.get("/api/events?entity=past/long&limit=1"));
    let at = percent_encoded(&text(&rows[0]["acceptedAt"]));
    let answer = server.get(&format!("/api/state/entities/past%2Flong?at={at}"));
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(code(&answer), "history_too_long");
    assert!(
        answer.text().contains("67108864 bytes"),
        "{}",
        answer.text()
    );
    // Others of the same past are told.
    assert_eq!(server.publish("past/short", "{}").status, 200);
    let rows = array(&server.get("/api/events?entity=past/short"));
    let at = percent_encoded(&text(&rows[0]["acceptedAt"]));
    let answer = server.get(&format!("/api/state/entities/past%2Fshort?at={at}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn an_entity_that_was_deleted_and_created_anew_has_both_lives() {
    on_each(|server| {
        let id = format!("{}/x", namespace("lives"));
        server.publish(&id, r#"{"a":1}"#);
        server.publish(&id, r#"{"b":1}"#);
        let first = server.entity(&id).json();
        assert_eq!(
            server
                .request("DELETE", &format!("/api/state/entities/{id}"), "")
                .status,
            200
        );
        server.publish(&id, r#"{"c":1}"#);
        let events = all_events(server, &format!("entity={id}"));
        let time = |index: usize| text(&events[index]["acceptedAt"]);
        assert_eq!(
            events[1]["payload"]["properties"],
            json!({"__deleted__": true})
        );
        check_entity(server, &id, &time(2), Some(&first));
        check_entity(server, &id, &time(1), None);
        check_entity(server, &id, &time(0), Some(&server.entity(&id).json()));
    });
}

#[test]
fn what_retention_removed_is_410_and_the_rest_is_told() {
    for shards in [1, 3] {
        let data_dir = TempDir::new().expect("a temporary directory");
        let server = Setup::new(data_dir.path(), shards)
            .env("FLUX_SEGMENT_BYTES", "65536")
            .env("FLUX_CHECKPOINT_SECONDS", "1")
            .env("FLUX_RETENTION_BYTES", "300000")
            .start();
        server.publish("n/old", r#"{"kept":"in the state"}"#);
        let born = text(&server.entity("n/old").json()["lastUpdated"]);
        let filler = format!(r#"{{"text":"{}"}}"#, "x".repeat(1000));
        let mut published = 1;
        let gone = wait_for("history to be removed", || {
            let events: Vec<String> = (0..100).map(|_| event("n/new", &filler)).collect();
            if published < 3000 {
                assert_eq!(
                    server.post("/api/events/batch", &batch(&events)).status,
                    200
                );
                published += events.len();
            }
            let answer = server.get("/api/events?namespace=n&since=0&limit=1");
            (answer.status == 410).then_some(answer)
        });
        assert_eq!(code(&gone), "history_removed");
        assert_eq!(
            server.entity("n/old").json()["properties"]["kept"],
            "in the state"
        );
        for target in [
            format!("/api/state/entities/n/old?at={born}"),
            format!("/api/state/entities?at={born}&namespace=n"),
            format!("/api/events?entity=n/old&until={born}"),
        ] {
            let answer = server.get(&target);
            assert_eq!(
                (answer.status, code(&answer)),
                (410, "history_removed".into()),
                "{target}"
            );
        }
        // The last page says that older history was removed.
        let mut target = "/api/events?namespace=n&limit=500".to_owned();
        let mut told = 0;
        let end = loop {
            let answer = server.get(&target);
            if answer.status != 200 {
                break answer;
            }
            told += array(&answer).len();
            target = next_page(&answer).expect("the last page leads on");
        };
        assert_eq!(end.status, 410, "{}", end.text());
        assert!(0 < told && told < published, "{told} of {published}");
        // A query from the time in the refusal on is answered, unless retention has removed more
        // meanwhile.
        let kept = wait_for("an answer from the time that is named", || {
            let refusal = server.get(&format!("/api/state/entities/n/old?at={born}"));
            let message = text(&refusal.json()["error"]);
            let from = message
                .split(' ')
                .find(|word| support::is_timestamp(word))
                .expect(&message);
            let kept = server.get(&format!("/api/state/entities/n/old?at={from}"));
            (kept.status != 410).then_some(kept)
        });
        assert_eq!(
            kept.json()["properties"]["kept"],
            "in the state",
            "{}",
            kept.text()
        );
        server.stop();
    }
}

#[test]
fn the_past_is_read_while_events_come_in() {
    on_each(|server| {
        let id = format!("{}/x", namespace("busy"));
        let (publisher, reader) = (server.connect(), server.connect());
        let (mut publisher, mut reader) = (publisher, reader);
        for number in 1..=200 {
            let answer = publisher.request(
                "POST",
                "/api/events",
                &event(&id, &format!(r#"{{"n":{number}}}"#)),
            );
            assert_eq!(answer.status, 200);
            let told =
                array(&reader.request("GET", &format!("/api/events?entity={id}&limit=1"), ""));
            assert_eq!(
                told[0]["payload"]["properties"]["n"], number,
                "what was acknowledged is told"
            );
            let at = text(&told[0]["acceptedAt"]);
            let entity = reader.request("GET", &format!("/api/state/entities/{id}?at={at}"), "");
            assert_eq!(entity.json()["version"], number);
        }
    });
}
