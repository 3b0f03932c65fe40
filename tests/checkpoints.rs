//! Checkpoints as a user sees them: starts replay less, nothing depends on them, and they disturb
//! nobody.

mod support;

use fastrand::Rng;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use support::server::{Server, Setup};
use support::watch::Watcher;
use support::{batch, event, files, wait_for};
use tempfile::TempDir;

fn setup(dir: &Path, shards: u32) -> Setup {
    Setup::new(dir, shards)
        .env("FLUX_SEGMENT_BYTES", "262144")
        .env("FLUX_CHECKPOINT_SECONDS", "1")
        .env("FLUX_CHECKPOINT_BYTES", "65536")
}

fn manifests(dir: &Path) -> Vec<PathBuf> {
    files(&dir.join("checkpoints"), ".manifest")
}

/// Publishes events of many entities, some of them deletions.
fn churn(server: &Server, random: &mut Rng, events: usize) {
    let events: Vec<String> = (0..events)
        .map(|_| {
            let number = random.u64(..1 << 30);
            let id = format!("n{}/{}", number % 17, number % 211);
            let text = "x".repeat(usize::try_from(number % 300).expect("it fits"));
            match number % 6 {
                0 => event(&id, r#"{"__deleted__":true}"#),
                _ => event(&id, &format!(r#"{{"n":{number},"text":"{text}"}}"#)),
            }
        })
        .collect();
    let answer = server.post("/api/events/batch", &batch(&events)).json();
    assert_eq!(answer["failed"], 0);
}

/// Events that the last start replayed, from the server's messages.
fn replayed(server: &Server) -> u64 {
    let said = server.said();
    let lines = said.lines().filter(|line| line.contains(": ready after"));
    let counts = lines.map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        words[words.len() - 3].parse::<u64>().expect("a number")
    });
    counts.sum()
}

#[test]
fn a_start_replays_what_came_since_the_last_checkpoint() {
    for shards in [1, 2] {
        let dir = TempDir::new().expect("a temporary directory");
        let server = setup(dir.path(), shards).start();
        let mut random = Rng::with_seed(7);
        for _ in 0..4 {
            churn(&server, &mut random, 2_000);
        }
        let before = wait_for("a checkpoint that covers all", || {
            let before = server.entities();
            let manifests = manifests(dir.path()).len();
            (manifests >= usize::try_from(shards).expect("small")).then_some(before)
        });
        server.kill();
        let server = setup(dir.path(), shards).start();
        assert_eq!(server.entities(), before);
        assert!(replayed(&server) < 8_000, "{}", server.said());
        let etag = |server: &Server| {
            let id = before[3]["id"].as_str().expect("an id");
            server.entity(id).header("etag").map(str::to_owned)
        };
        let tag = etag(&server);
        server.stop();
        let server = setup(dir.path(), shards).start();
        assert_eq!(
            replayed(&server),
            0,
            "a stop takes a checkpoint: {}",
            server.said()
        );
        assert_eq!(server.entities(), before);
        assert_eq!(etag(&server), tag);
    }
}

#[test]
fn without_checkpoints_the_state_comes_from_the_log_and_the_file_is_named() {
    let dir = TempDir::new().expect("a temporary directory");
    let server = setup(dir.path(), 1).start();
    let mut random = Rng::with_seed(11);
    for _ in 0..3 {
        churn(&server, &mut random, 1_500);
    }
    let before = server.entities();
    server.stop();
    let mut newest = files(&dir.path().join("checkpoints"), ".layer");
    newest.extend(manifests(dir.path()));
    assert!(newest.len() >= 2, "{newest:?}");
    for path in newest {
        let whole = fs::read(&path).expect("a checkpoint's file");
        for at in [0, 40, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            let keep = copy_of(dir.path());
            let below = path.strip_prefix(dir.path()).expect("it lies in it");
            overwrite(&keep.path().join(below), &damaged);
            let server = setup(keep.path(), 1).start();
            assert_eq!(server.entities(), before, "{} at {at}", path.display());
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            // The server does not read a checkpoint that a newer manifest does not need.
            let said = server.said();
            let is_told = said.contains("checkpoint not used") && said.contains(&name);
            assert!(is_told || replayed(&server) == 0, "{said}");
        }
    }
    fs::remove_dir_all(dir.path().join("checkpoints")).expect("they are there");
    let server = setup(dir.path(), 1).start();
    assert_eq!(server.entities(), before);
    assert!(replayed(&server) >= 4_500);
}

fn copy_of(dir: &Path) -> TempDir {
    let copy = TempDir::new().expect("a temporary directory");
    let mut left = vec![dir.to_path_buf()];
    while let Some(from) = left.pop() {
        let below = from.strip_prefix(dir).expect("it lies in it");
        fs::create_dir_all(copy.path().join(below)).expect("a directory");
        for path in fs::read_dir(&from)
            .expect("a directory")
            .map(|it| it.expect("an entry").path())
        {
            if path.is_dir() {
                left.push(path);
            } else {
                let below = path.strip_prefix(dir).expect("it lies in it");
                fs::copy(&path, copy.path().join(below)).expect("a copy");
            }
        }
    }
    copy
}

fn overwrite(path: &Path, bytes: &[u8]) {
    let file = fs::File::create(path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, bytes))
        .expect("a file that can be written");
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_dies_beside_a_checkpoint() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut acknowledged = [0_u64; 4];
    for (round, shards) in [1, 2, 2, 3, 1, 1].into_iter().enumerate() {
        let server = &setup(dir.path(), shards).start();
        for (writer, last) in acknowledged.iter().enumerate() {
            let found = server.entity(&format!("writer-{writer}/a")).json();
            let found = found["properties"]["n"].as_u64().unwrap_or(0);
            assert!(found >= *last, "round {round}: {found} after {last}");
        }
        let is_over = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (writer, last) in acknowledged.iter_mut().enumerate() {
                scope.spawn(move || write_until(server, writer, last, is_over));
            }
            let before = manifests(dir.path());
            wait_for("new checkpoints", || {
                (manifests(dir.path()) != before).then_some(())
            });
            server.signal("KILL");
            is_over.store(true, Ordering::Relaxed);
        });
    }
    assert!(acknowledged.iter().all(|last| *last > 0));
}

/// Counts up in one entity until the server is gone; `last` is the last acknowledged number.
fn write_until(server: &Server, writer: usize, last: &mut u64, is_over: &AtomicBool) {
    let mut connection = server.connect();
    let (id, text) = (format!("writer-{writer}/a"), "y".repeat(500));
    while !is_over.load(Ordering::Relaxed) {
        let body = event(&id, &format!(r#"{{"n":{},"text":"{text}"}}"#, *last + 1));
        match connection.try_request("POST", "/api/events", &body) {
            Ok(answer) if answer.status == 200 => *last += 1,
            Ok(_) | Err(_) => return,
        }
    }
}

#[test]
fn watchers_do_not_notice_and_files_stay_few() {
    let dir = TempDir::new().expect("a temporary directory");
    let server = setup(dir.path(), 1).start();
    server.publish("early/one", r#"{"kept":true}"#);
    let early = server.entity("early/one").json();
    let mut watcher = Watcher::connect(&server);
    watcher.subscribe("live/a");
    let mut random = Rng::with_seed(3);
    let mut seen = std::collections::BTreeSet::new();
    let mut number = 0;
    while seen.len() < 12 {
        number += 1;
        churn(&server, &mut random, 300);
        server.publish("live/a", &format!(r#"{{"n":{number}}}"#));
        let expected = ("live/a".to_owned(), "n".to_owned(), json!(number));
        assert_eq!(watcher.changes(1), [expected], "in order, each once");
        seen.extend(manifests(dir.path()));
        assert!(
            manifests(dir.path()).len() <= 3,
            "two, and one that takes over"
        );
    }
    assert!(files(&dir.path().join("checkpoints"), ".layer").len() <= 24);
    assert_eq!(
        server.entity("early/one").json(),
        early,
        "what nobody touched stays"
    );
    let listed = server.get("/api/state/entities?prefix=early/").json();
    assert_eq!(listed, Value::Array(vec![early]));
    server.request("DELETE", "/api/state/entities/early/one", "");
    server.kill();
    let server = setup(dir.path(), 1).start();
    assert_eq!(server.entity("early/one").status, 404);
    server.publish("early/one", "{}");
    assert_eq!(server.entity("early/one").json()["version"], 1);
}

#[test]
fn a_damaged_older_checkpoint_costs_time_and_no_answer() {
    let dir = TempDir::new().expect("a temporary directory");
    let server = setup(dir.path(), 1).start();
    let publish = |server: &Server, value: usize, count: usize| {
        let events: Vec<String> = (0..count)
            .map(|number| {
                let text = "x".repeat(300);
                event(
                    &format!("n/{number}"),
                    &format!(r#"{{"v":{value},"text":"{text}"}}"#),
                )
            })
            .collect();
        let answer = server.post("/api/events/batch", &batch(&events)).json();
        assert_eq!(answer["failed"], 0);
    };
    publish(&server, 1, 400);
    let older = wait_for("a checkpoint", || {
        let layers = files(&dir.path().join("checkpoints"), ".layer");
        (manifests(dir.path()).len() == 1).then_some(layers)
    });
    let last = server.get("/api/state/entities/n/399").json();
    let at = last["lastUpdated"].as_str().expect("a time").to_owned();
    publish(&server, 2, 400);
    wait_for("another checkpoint", || {
        (manifests(dir.path()).len() == 2).then_some(())
    });
    server.kill();
    for path in older {
        let mut bytes = fs::read(&path).expect("a layer of the older checkpoint");
        // Every block, so that whichever is read first is damaged; the ends stay whole.
        for byte in bytes.iter_mut().skip(64).take(100_000) {
            *byte ^= 0x10;
        }
        overwrite(&path, &bytes);
    }
    let server = setup(dir.path(), 1).start();
    for _ in 0..2 {
        let past = server.get(&format!("/api/state/entities/n/1?at={at}"));
        assert_eq!(past.status, 200, "{}", past.text());
        assert_eq!(past.json()["properties"]["v"], 1);
    }
}
