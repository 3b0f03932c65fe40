//! `flux-core/directory`: the server's own entity about all namespaces.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::server::{Server, Setup};
use support::watch::Watcher;
use support::{batch, event, wait_for};
use tempfile::TempDir;

const ID: &str = "flux-core/directory";

fn directory(server: &Server) -> Value {
    let answer = server.entity(ID);
    assert_eq!(answer.status, 200, "it is there when the server is ready");
    answer.json()["properties"].clone()
}

/// Namespaces and their entities, as the directory lists them.
fn listed(properties: &Value) -> BTreeMap<String, u64> {
    let namespaces = properties["namespaces"].as_array().expect("an array");
    let names: Vec<&str> = namespaces
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    assert!(names.is_sorted(), "{names:?}");
    let count = |it: &Value| it["entities"].as_u64().expect("a number");
    namespaces
        .iter()
        .map(|it| (it["name"].as_str().expect("a name").to_owned(), count(it)))
        .collect()
}

/// Waits until the directory agrees with a list of everything.
fn agrees(server: &Server) -> Value {
    wait_for("the directory to be right", || {
        let shown = directory(server);
        let mut expected = BTreeMap::new();
        let entities = server.entities();
        for entity in &entities {
            let id = entity["id"].as_str().expect("an id");
            if let Some((namespace, _)) = id.split_once('/') {
                *expected.entry(namespace.to_owned()).or_insert(0_u64) += 1;
            }
        }
        let is_right = shown["total_entities"] == entities.len()
            && shown["total_namespaces"] == expected.len()
            && listed(&shown) == expected;
        is_right.then_some(shown)
    })
}

#[test]
fn it_counts_what_there_is_through_kills_restarts_and_other_numbers_of_shards() {
    let dir = TempDir::new().expect("a temporary directory");
    let setup = |shards| {
        Setup::new(dir.path(), shards)
            .env("FLUX_CHECKPOINT_SECONDS", "1")
            .env("FLUX_CHECKPOINT_BYTES", "65536")
    };
    let server = setup(1).start();
    let empty = directory(&server);
    assert_eq!(
        empty,
        json!({"total_namespaces": 0, "total_entities": 0, "namespaces": []})
    );
    server.kill();
    let mut seed = 5_u64;
    for (round, shards) in [1, 2, 2, 3, 1, 2].into_iter().enumerate() {
        let server = setup(shards).start();
        agrees(&server);
        for _ in 0..4 {
            let events: Vec<String> = (0..300)
                .map(|_| {
                    seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    let number = seed >> 33;
                    let id = match number % 5 {
                        0 => format!("bare-{}", number % 40),
                        _ => format!("n{}/{}", number % 30, number % 7),
                    };
                    let properties = if number.is_multiple_of(3) {
                        r#"{"__deleted__":true}"#.to_owned()
                    } else {
                        format!(r#"{{"n":{number},"pad":"{}"}}"#, "x".repeat(200))
                    };
                    event(&id, &properties)
                })
                .collect();
            let answer = server.post("/api/events/batch", &batch(&events));
            assert_eq!(answer.json()["failed"], 0);
        }
        let shown = agrees(&server);
        if round % 2 == 0 {
            server.kill();
        } else {
            server.stop();
        }
        // The time of a namespace's last event may be late; its count may not.
        let server = setup(shards).start();
        let again = directory(&server);
        assert_eq!(
            listed(&again),
            listed(&shown),
            "right at once after a restart"
        );
        assert_eq!(again["total_entities"], shown["total_entities"]);
        let times = |shown: &Value| -> Vec<String> {
            let namespaces = shown["namespaces"].as_array().expect("an array").iter();
            namespaces.map(|it| it["lastUpdated"].to_string()).collect()
        };
        let (before, after) = (times(&shown), times(&again));
        assert!(
            before
                .iter()
                .zip(&after)
                .all(|(before, after)| before <= after)
        );
        let latest = server.entities();
        let latest = latest
            .iter()
            .filter(|it| it["id"].as_str().is_some_and(|id| id.contains('/')));
        let latest = latest.map(|it| it["lastUpdated"].to_string()).max();
        assert!(after.iter().max() >= latest.as_ref(), "{latest:?}");
        server.kill();
    }
}

#[test]
fn it_is_read_listed_and_watched_like_any_other() {
    for shards in [1, 2] {
        let server = Server::start(shards);
        let mut exact = Watcher::connect(&server);
        exact.subscribe(ID);
        let mut prefix = Watcher::connect(&server);
        prefix.subscribe("flux-core/*");
        let before = server.entity(ID);
        server.publish("alpha/a", "{}");
        server.publish("zulu/a", r#"{"x":1}"#);
        server.publish("bare", "{}");
        for watcher in [&mut exact, &mut prefix] {
            let mut last = Value::Null;
            while last != json!(3) {
                let update = watcher.next();
                assert_eq!(update["type"], "state_update");
                assert_eq!(update["entity_id"], ID);
                if update["property"] == "total_entities" {
                    last = update["value"].clone();
                }
            }
        }
        let after = agrees(&server);
        let read = server.entity(ID);
        assert_ne!(read.header("etag"), before.header("etag"));
        let version = |answer: &support::http::Response| answer.json()["version"].as_u64();
        assert!(version(&read) > version(&before));
        let alpha = &after["namespaces"][0];
        let updated = server.entity("alpha/a").json()["lastUpdated"].clone();
        assert_eq!(
            alpha,
            &json!({"name": "alpha", "entities": 1, "lastUpdated": updated})
        );
        let ids = |target: &str| -> Vec<String> {
            let listed = server.get(target).json();
            let listed = listed.as_array().expect("an array").iter();
            listed
                .map(|it| it["id"].as_str().expect("an id").to_owned())
                .collect()
        };
        assert_eq!(
            ids("/api/state/entities"),
            ["alpha/a", "bare", ID, "zulu/a"]
        );
        assert_eq!(ids("/api/state/entities?namespace=flux-core"), [ID]);
        assert_eq!(ids("/api/state/entities?prefix=flux-"), [ID]);
        assert_eq!(ids("/api/state/entities?after=bare&limit=1"), [ID]);
        assert_eq!(ids(&format!("/api/state/entities?after={ID}")), ["zulu/a"]);
        let some = server
            .get(&format!("/api/state/entities/{ID}?fields=total_entities"))
            .json();
        assert_eq!(some["properties"], json!({"total_entities": 3}));
        assert_eq!(
            server.get("/health").json()["entities"],
            3,
            "it does not count itself"
        );
        for id in [ID, "flux-core/other"] {
            let target = format!("/api/state/entities/{id}");
            server
                .request("DELETE", &target, "")
                .expect_error(403, "it is reserved");
            server
                .post("/api/events", &event(id, "{}"))
                .expect_error(403, "it is reserved");
        }
        let filter = r#"{"prefix":"flux-core/"}"#;
        assert_eq!(
            server.post("/api/state/entities/delete", filter).json()["deleted"],
            0
        );
        assert_eq!(server.get("/api/state/entities/%00alpha").status, 404);
    }
}

#[test]
fn of_many_namespaces_it_lists_the_thousand_that_changed_last() {
    let server = Server::start(2);
    let create: Vec<String> = (0..1_500)
        .map(|n| event(&format!("n{n:04}/a"), "{}"))
        .collect();
    server.post("/api/events/batch", &batch(&create));
    let renew: Vec<String> = (0..500)
        .map(|n| event(&format!("n{n:04}/a"), "{}"))
        .collect();
    server.post("/api/events/batch", &batch(&renew));
    let shown = wait_for("all of them to be counted", || {
        let shown = directory(&server);
        let is_right = shown["total_entities"] == 1_500 && listed(&shown).contains_key("n0000");
        is_right.then_some(shown)
    });
    assert_eq!(shown["total_namespaces"], 1_500);
    let listed = listed(&shown);
    assert_eq!(listed.len(), 1_000);
    // Batches go to both shards, each with its own times. The oldest namespaces are certainly not
    // listed.
    assert!((0..500).all(|n| listed.contains_key(&format!("n{n:04}"))));
}

#[test]
fn a_registered_namespace_is_listed_while_it_is_empty() {
    let dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(dir.path(), 2)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", "op");
    let server = setup.start();
    let answer = server.with_token(("POST", "/api/namespaces"), "op", r#"{"name":"house"}"#);
    assert_eq!(answer.status, 200);
    let expected = json!([{"name": "house", "entities": 0, "lastUpdated": null}]);
    let shown = |server: &Server| directory(server)["namespaces"].clone();
    wait_for("the namespace", || {
        (shown(&server) == expected).then_some(())
    });
    server.kill();
    let server = setup.start();
    assert_eq!(shown(&server), expected);
    server.with_token(("DELETE", "/api/namespaces/house"), "op", "");
    wait_for("it to be gone", || {
        (shown(&server) == json!([])).then_some(())
    });
}
