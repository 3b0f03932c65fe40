//! Writing safely, from outside (API contract §14).

mod support;

use serde_json::Value;
use support::{batch, event, namespace, on_each};

#[test]
fn answers_say_the_version_and_the_sequence() {
    on_each(|server| {
        let id = format!("{}/a", namespace("answers"));
        let answers = [1, 2].map(|n| {
            let answer = server.post("/api/events", &event(&id, &format!(r#"{{"n":{n}}}"#)));
            answer.json()
        });
        assert_eq!(
            (&answers[0]["version"], &answers[1]["version"]),
            (&1.into(), &2.into())
        );
        let sequence = |answer: &Value| answer["sequence"].as_u64().expect("a sequence");
        assert!(sequence(&answers[0]) < sequence(&answers[1]));
        let items = [
            event(&id, "{}"),
            "7".to_owned(),
            event(&id, r#"{"__deleted__":true}"#),
        ];
        let answer = server.post("/api/events/batch", &batch(&items)).json();
        let results = answer["results"].as_array().expect("results");
        assert_eq!(results[0]["version"], 3);
        assert_eq!(
            (results[1].get("version"), results[1].get("sequence")),
            (None, None)
        );
        assert_eq!(
            results[2].get("version"),
            None,
            "there is no entity after it"
        );
        assert!(sequence(&results[0]) < sequence(&results[2]));
        let gone = server
            .post("/api/events", &event(&id, r#"{"__deleted__":true}"#))
            .json();
        assert_eq!(gone.get("version"), None, "there was none either");
        assert!(sequence(&results[2]) < sequence(&gone));
        server.publish(&id, "{}");
        let target = format!("/api/state/entities/{id}");
        let deleted = server.request("DELETE", &target, "").json();
        assert_eq!(deleted.get("version"), None);
        let events = server
            .get(&format!("/api/events?entity={id}&limit=1"))
            .json();
        assert_eq!(events[0]["sequence"], deleted["sequence"]);
        assert_eq!(events[0]["eventId"], deleted["eventId"]);
    });
}

#[test]
fn an_entity_that_would_become_too_large_stays_as_it_is() {
    on_each(|server| {
        let id = format!("{}/a", namespace("bounds"));
        let large = |name: &str| format!(r#"{{"{name}":"{}"}}"#, "v".repeat(1_000_000));
        for name in ["a", "b", "c", "d"] {
            server.publish(&id, &large(name));
        }
        let refused = server.post("/api/events", &event(&id, &large("e")));
        assert_eq!(
            refused.expect_error(400, "a fifth megabyte"),
            "entity_too_large"
        );
        let items = [
            event(&id, &large("e")),
            event(&id, r#"{"a":1}"#),
            event(&id, &large("e")),
        ];
        let answer = server.post("/api/events/batch", &batch(&items)).json();
        let results = answer["results"].as_array().expect("results");
        assert_eq!(results[0]["code"], "entity_too_large");
        assert_eq!(
            (&results[1]["version"], &results[2]["version"]),
            (&5.into(), &6.into())
        );
    });
}
