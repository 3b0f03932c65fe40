//! A disk that fails to read a part of the stored state.
//!
//! `strace` lets every read of some layers fail with `EIO`, as a bad sector does. That says nothing
//! of what is in them: what needs those bytes is refused, everything else goes on, and no file is
//! taken for damaged. A start does without them, since the log leads to the same state.

mod support;

use std::path::{Path, PathBuf};
use support::http::Response;
use support::server::{Server, Setup};
use support::strace::{Tracer, can_trace, failing_on, launcher};
use support::watch::Watcher;
use support::{batch, event, files, wait_for};
use tempfile::TempDir;

const NAMESPACES: u64 = 8;
/// Entities of a namespace: they lie in several blocks of a layer.
const ENTITIES: u64 = 100;

fn setup(dir: &Path) -> Setup {
    Setup::new(dir, 2)
        .env("FLUX_SEGMENT_BYTES", "262144")
        .env("FLUX_CHECKPOINT_SECONDS", "1")
        .env("FLUX_LOG", "debug")
}

fn id(namespace: u64, number: u64) -> String {
    format!("n{namespace}/{number}")
}

/// Publishes one event of every entity, and waits until a checkpoint holds all of them.
fn fill(server: &Server, value: u64) {
    for namespace in 0..NAMESPACES {
        let text = "x".repeat(300);
        let properties = format!(r#"{{"n":{value},"text":"{text}"}}"#);
        let events: Vec<String> = (0..ENTITIES)
            .map(|number| event(&id(namespace, number), &properties))
            .collect();
        let answer = server.post("/api/events/batch", &batch(&events)).json();
        assert_eq!(answer["failed"], 0);
    }
    let published = value * NAMESPACES * ENTITIES;
    wait_for("a checkpoint of everything", || {
        let said = server.said();
        let through = ["shard 0: ", "shard 1: "].map(|shard| covered(&said, shard));
        (through.iter().sum::<u64>() == published).then_some(())
    });
}

/// How many events of a shard its newest checkpoint covers, by what the server says.
fn covered(said: &str, shard: &str) -> u64 {
    let told = said.split(shard).filter_map(|line| {
        let rest = line.strip_prefix("a checkpoint through event ")?;
        rest.split(' ').next()?.parse().ok()
    });
    told.last().unwrap_or(0)
}

fn layers(dir: &Path, below: &str) -> Vec<PathBuf> {
    let found = files(&dir.join("checkpoints/000001").join(below), ".layer");
    assert!(!found.is_empty(), "no layers in {below}");
    found
}

/// Nothing was taken for damaged.
fn check_nothing_set_aside(dir: &Path) {
    let aside = files(&dir.join("checkpoints"), ".damaged");
    assert_eq!(aside, Vec::<PathBuf>::new());
}

fn check_refused(answer: &Response, what: &str) {
    assert_eq!(answer.status, 503, "{what}: {}", answer.text());
    assert_eq!(answer.json()["code"], "state_damaged", "{what}");
    assert!(
        answer.json()["error"]
            .as_str()
            .is_some_and(|it| it.contains("can't be read"))
    );
    assert_eq!(answer.header("retry-after"), Some("1"), "{what}");
}

/// The log leads to an earlier state as well, and is not concerned.
fn check_past(server: &Server, namespace: u64) {
    let events = server.get(&format!("/api/events?namespace=n{namespace}&limit=1"));
    assert_eq!(events.status, 200);
    let at = events.json()[0]["acceptedAt"].as_str().map(str::to_owned);
    let (id, at) = (id(namespace, 60), at.expect("a time"));
    let past = server.get(&format!("/api/state/entities/{id}?at={at}"));
    assert_eq!(past.status, 200, "{}", past.text());
    assert_eq!(past.json()["properties"]["n"], 1);
}

#[test]
fn what_needs_bytes_that_the_disk_fails_to_read_is_503_and_the_rest_goes_on() {
    if !can_trace() {
        return;
    }
    let dir = TempDir::new().expect("a temporary directory");
    let server = setup(dir.path()).start();
    fill(&server, 1);
    let failing = layers(dir.path(), "000-of-002");
    let tracer = Tracer::failing_on(&server, "pread64", &failing);
    let is_read = |namespace: &u64| server.entity(&id(*namespace, 7)).status == 200;
    let (read, lost): (Vec<u64>, Vec<u64>) = (0..NAMESPACES).partition(is_read);
    assert!(!read.is_empty() && !lost.is_empty(), "{read:?} {lost:?}");

    for namespace in lost.iter().copied() {
        let id = id(namespace, 50);
        check_refused(&server.entity(&id), "an entity");
        check_refused(&server.post("/api/events", &event(&id, "{}")), "an event");
        let deleted = server.request("DELETE", &format!("/api/state/entities/{id}"), "");
        check_refused(&deleted, "a deletion");
        let listed = server.get(&format!("/api/state/entities?namespace=n{namespace}"));
        check_refused(&listed, "a list");
    }
    check_refused(&server.get("/api/state/entities"), "a list of all");

    let mut watcher = Watcher::connect(&server);
    for (round, namespace) in read.iter().copied().enumerate() {
        let id = id(namespace, 50);
        watcher.subscribe(&id);
        let value = serde_json::json!(100 + round);
        server.publish(&id, &format!(r#"{{"n":{value}}}"#));
        assert_eq!(watcher.changes(1), [(id.clone(), "n".to_owned(), value)]);
        assert_eq!(server.entity(&id).json()["version"], 2);
        let listed = server.get(&format!("/api/state/entities?namespace=n{namespace}"));
        assert_eq!(listed.json().as_array().map(Vec::len), Some(100));
    }
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    for namespace in lost.iter().copied() {
        check_past(&server, namespace);
    }

    let said = server.said();
    let mut lines = said.lines().filter(|line| line.contains("can't be read"));
    assert!(
        lines.clone().next().is_some()
            && lines.all(|line| line.contains("shard 0: ") && line.contains(".layer at byte ")),
        "{said}"
    );
    assert!(!said.contains("starting anew"), "{said}");
    drop(tracer);
    for namespace in lost {
        let id = id(namespace, 50);
        assert_eq!(
            server.entity(&id).json()["version"],
            1,
            "it was not changed"
        );
        server.publish(&id, "{}");
    }
    check_nothing_set_aside(dir.path());
    assert!(!server.said().contains("starting anew"));
    server.stop();
}

#[test]
fn a_start_does_without_a_checkpoint_that_the_disk_fails_to_read() {
    if !can_trace() {
        return;
    }
    let dir = TempDir::new().expect("a temporary directory");
    let server = setup(dir.path()).start();
    fill(&server, 1);
    let older = layers(dir.path(), "");
    fill(&server, 2);
    let before = server.entities();
    server.kill();
    let all = layers(dir.path(), "");
    let newer: Vec<PathBuf> = all
        .iter()
        .filter(|it| !older.contains(it))
        .cloned()
        .collect();
    for failing in [newer, all] {
        let failing = launcher(failing_on("pread64", &failing));
        let server = setup(dir.path()).launched_by(failing).start();
        assert_eq!(server.entities(), before);
        let said = server.said();
        assert!(said.contains("checkpoint not used: "), "{said}");
        assert!(said.contains("can't be read: "), "{said}");
        check_nothing_set_aside(dir.path());
        server.kill();
    }
    let server = setup(dir.path()).start();
    assert_eq!(server.entities(), before);
    assert!(!server.said().contains("not used"), "it can be read again");
}
