//! Retention removes old history; state stays.
//!
//! The server has tiny segments and a small allowance for its log. One entity is published once, at
//! the beginning; others are published over and over until the log has lost its beginning. Then the
//! state is as without retention, queries for removed history are refused as such, and the rest of
//! history is there, also after restarts and a kill.

mod support;

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;
use support::server::{Server, Setup};
use support::{batch, event, files, wait_for};
use tempfile::TempDir;

/// Bytes that the log may take.
const ALLOWANCE_BYTES: u64 = 400_000;

fn setup(dir: &Path, shards: u32) -> Setup {
    Setup::new(dir, shards)
        .env("FLUX_SEGMENT_BYTES", "65536")
        .env("FLUX_CHECKPOINT_SECONDS", "1")
        .env("FLUX_CHECKPOINT_BYTES", "65536")
}

fn log_bytes(dir: &Path) -> u64 {
    let sizes = files(&dir.join("log"), ".seg")
        .into_iter()
        .filter_map(|path| path.metadata().ok());
    sizes.map(|metadata| metadata.len()).sum()
}

fn is_shortened(dir: &Path) -> bool {
    !files(&dir.join("log"), "HORIZON").is_empty()
}

/// Publishes rounds of events of one namespace until the log has lost its beginning and is within
/// its allowance. Returns the last number published.
fn publish_until_shortened(server: &Server, dir: &Path, mut number: u64) -> u64 {
    wait_for("retention to remove the beginning", || {
        if number > 8000 {
            // Retention gives way to publishers. On a busy machine these publishers would outrun
            // it.
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let events: Vec<String> = (0..400)
            .map(|_| {
                number += 1;
                let padding = "x".repeat(100);
                event(
                    &format!("busy/{}", number % 50),
                    &format!(r#"{{"n":{number},"p":"{padding}"}}"#),
                )
            })
            .collect();
        let answer = server.post("/api/events/batch", &batch(&events));
        assert_eq!(answer.json()["failed"], 0, "{}", answer.text());
        let shortened = is_shortened(dir) && log_bytes(dir) <= 2 * ALLOWANCE_BYTES;
        (shortened && number > 8000).then_some(())
    });
    number
}

/// The state of the busy entities after `last` events.
fn check_busy(server: &Server, last: u64) {
    let listed = server.get("/api/state/entities?namespace=busy").json();
    let entities = listed.as_array().expect("an array");
    assert_eq!(entities.len(), 50);
    for entity in entities {
        let id = entity["id"].as_str().expect("an id");
        let slot: u64 = id.rsplit('/').next().expect("a number").parse().expect(id);
        let newest = (last - 49..=last).find(|number| number % 50 == slot);
        assert_eq!(entity["properties"]["n"], json!(newest), "{id}");
        let events = (1..=last).filter(|number| number % 50 == slot).count();
        assert_eq!(entity["version"], json!(events), "{id}");
    }
}

fn check_past(server: &Server, begun: &Value) {
    let early = begun["lastUpdated"].as_str().expect("a time");
    server
        .get(&format!("/api/events?entity=early/one&until={early}"))
        .expect_error(410, "events before the horizon");
    server
        .get(&format!("/api/events?namespace=busy&since={early}"))
        .expect_error(410, "events since before the horizon");
    server
        .get("/api/state/entities/early/one?at=2020-01-01T00:00:00Z")
        .expect_error(410, "an entity before the horizon");
    let told = server.get(&format!("/api/state/entities/early/one?at={early}"));
    assert_eq!(
        told.json(),
        *begun,
        "no later event of its namespace was removed"
    );
    server
        .get(&format!("/api/state/entities?at={early}"))
        .expect_error(410, "a listing before the horizon");
    // Its only event is removed, but the base has its effect.
    let newest = server.get("/api/events?namespace=busy&limit=1").json();
    let recent = newest[0]["acceptedAt"].as_str().expect("a time");
    let then = server.get(&format!("/api/state/entities/early/one?at={recent}"));
    assert_eq!(then.json(), *begun, "an entity after the horizon");
    let listed = server.get(&format!("/api/state/entities?prefix=early&at={recent}"));
    assert_eq!(listed.json(), json!([begun]));
    // The last page says that older history was removed.
    let mut target = "/api/events?entity=busy/1&limit=500".to_owned();
    let last = wait_for("the last page", || {
        let page = server.get(&target);
        let Some(link) = page.header("link") else {
            return Some(page);
        };
        let next = link.trim_start_matches('<').split('>').next();
        next.expect("a link").clone_into(&mut target);
        None
    });
    last.expect_error(410, "the page after the last");
}

#[test]
fn what_retention_removes_is_reported_and_state_is_never_affected() {
    let dir = TempDir::new().expect("a temporary directory");
    let setup = setup(dir.path(), 1).env("FLUX_RETENTION_BYTES", &ALLOWANCE_BYTES.to_string());
    let server = setup.start();
    server.publish("early/one", r#"{"kept":22.50}"#);
    let begun = server.entity("early/one").json();
    let mut last = publish_until_shortened(&server, dir.path(), 0);
    check_busy(&server, last);
    check_past(&server, &begun);
    server.stop();

    let server = setup.start();
    check_busy(&server, last);
    check_past(&server, &begun);
    last = publish_until_shortened(&server, dir.path(), last);
    server.kill();

    let server = setup.start();
    assert_eq!(server.entity("early/one").json(), begun);
    check_busy(&server, last);
    check_past(&server, &begun);
}

#[test]
fn checkpoints_deleted_after_retention_come_back_from_the_base() {
    let dir = TempDir::new().expect("a temporary directory");
    let setup = setup(dir.path(), 2).env("FLUX_RETENTION_BYTES", &ALLOWANCE_BYTES.to_string());
    let server = setup.start();
    server.publish("early/one", r#"{"kept":true}"#);
    server.publish("busy/0", r#"{"n":0}"#);
    let begun = server.entity("early/one").json();
    let last = publish_until_shortened(&server, dir.path(), 0);
    let before = server.entities();
    server.stop();
    fs::remove_dir_all(dir.path().join("checkpoints")).expect("checkpoints are there");
    let server = setup.start();
    assert_eq!(server.entities(), before);
    assert_eq!(server.entity("early/one").json(), begun);
    server.stop();

    // Without the base, the state at the log's start is lost; the server says so.
    fs::remove_dir_all(dir.path().join("checkpoints")).expect("checkpoints are there");
    fs::remove_dir_all(dir.path().join("base")).expect("a base is there");
    let refused = setup.run(support::server::free_port());
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("base") && said.contains("restore a backup"),
        "{said}"
    );
    assert!(last > 0);
}

#[test]
fn events_go_by_age_and_only_where_it_was_asked_for() {
    let dir = TempDir::new().expect("a temporary directory");
    let kept = setup(dir.path(), 1).start();
    for number in 0..20 {
        let events: Vec<String> = (0..400)
            .map(|_| event("busy/1", &format!(r#"{{"n":{number},"p":"{:100}"}}"#, 0)))
            .collect();
        kept.post("/api/events/batch", &batch(&events));
    }
    wait_for("a checkpoint", || {
        (!files(dir.path(), ".manifest").is_empty()).then_some(())
    });
    assert!(!is_shortened(dir.path()), "retention is off by default");
    let before = kept.entity("busy/1").json();
    kept.stop();
    let server = setup(dir.path(), 1)
        .env("FLUX_RETENTION_SECONDS", "1")
        .start();
    wait_for("old segments to go", || {
        (files(&dir.path().join("log"), ".seg").len() <= 3).then_some(())
    });
    assert_eq!(server.entity("busy/1").json(), before);
}

#[test]
fn earlier_generations_go_as_well() {
    let dir = TempDir::new().expect("a temporary directory");
    let first = setup(dir.path(), 1).start();
    for number in 0..20 {
        let events: Vec<String> = (0..400)
            .map(|which| {
                event(
                    &format!("n{}/e", which % 7),
                    &format!(r#"{{"n":{number},"p":"{:100}"}}"#, 0),
                )
            })
            .collect();
        first.post("/api/events/batch", &batch(&events));
    }
    let before = first.entities();
    first.stop();
    let second = setup(dir.path(), 2)
        .env("FLUX_RETENTION_BYTES", "1000")
        .start();
    let old = dir.path().join("log/000001");
    wait_for("the old generation's segments to go", || {
        files(&old, ".seg").is_empty().then_some(())
    });
    assert_eq!(second.entities(), before);
    second.kill();
    let third = setup(dir.path(), 3).start();
    assert_eq!(third.entities(), before);
}
