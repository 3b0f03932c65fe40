//! Backup beside a running server, restore, export and import.
//!
//! The claims: a backup made under load holds everything that was acknowledged before it began, and
//! nothing that was never sent, with namespaces and tokens as they were; a damaged backup is
//! refused with the name of the file; an export that is imported into any number of shards gives
//! the same state, to the digit, the version and the microsecond.

mod support;

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use support::http::{answered, request};
use support::server::{FLUX, Server, Setup};
use support::{batch, event, wait_for};
use tempfile::TempDir;

fn flux(arguments: &[&str]) -> Output {
    Command::new(FLUX)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("flux runs")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of the tests is text")
}

#[track_caller]
fn succeed(arguments: &[&str]) -> Output {
    let output = flux(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    output
}

#[track_caller]
fn refuse(arguments: &[&str], code: i32, with: &str) {
    let output = flux(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(said.contains(with), "{said}");
}

fn setup(dir: &Path, shards: u32) -> Setup {
    Setup::new(dir, shards)
        .env("FLUX_SEGMENT_BYTES", "65536")
        .env("FLUX_CHECKPOINT_SECONDS", "1")
}

/// A history with everything that an event can have.
fn fill(server: &Server) {
    for number in 0..300 {
        server.publish(
            &format!("n{}/e{}", number % 5, number % 20),
            &format!(
                r#"{{"n":{number},"v":22.50,"big":12345678901234567890123,"t":"é\"{number}"}}"#
            ),
        );
    }
    for number in 0..10 {
        server.publish(
            &format!("alone-{number}"),
            r#"{"nested":{"a":[1,{"b":null}]}}"#,
        );
    }
    let answer = server.post(
        "/api/events",
        r#"{"eventId":"my id","stream":"a.b","source":"s","timestamp":5,"key":"k","schema":"x",
            "payload":{"entity_id":"n1/full","properties":{"z":1e2},"note":{"kept":1.0}}}"#,
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    for id in ["n0/e0", "alone-3"] {
        assert_eq!(
            server
                .request("DELETE", &format!("/api/state/entities/{id}"), "")
                .status,
            200
        );
    }
    server.publish("alone-3", r#"{"again":true}"#);
}

fn state(server: &Server) -> Vec<Value> {
    server.entities()
}

/// The lines of an export, sorted, without the members that depend on the place in a log.
fn lines(export: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(export).expect("an export is UTF-8");
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).expect("each line is JSON");
            line.as_object_mut()
                .expect("each line is an object")
                .remove("sequence");
            line.to_string()
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn an_export_imported_into_any_number_of_shards_gives_the_same_state() {
    let root = TempDir::new().expect("a temporary directory");
    let first = root.path().join("first");
    let server = setup(&first, 2).start();
    fill(&server);
    let before = state(&server);
    // Beside the running server.
    let export = succeed(&["export", "--data-dir", text(&first)]).stdout;
    server.stop();
    let file = root.path().join("events.jsonl");
    fs::File::create(&file)
        .and_then(|mut out| std::io::Write::write_all(&mut out, &export))
        .expect("a file in a fresh directory");
    for shards in 1..=3 {
        let copy = root.path().join(format!("copy-{shards}"));
        let count = shards.to_string();
        succeed(&[
            "import",
            "--data-dir",
            text(&copy),
            "--shards",
            &count,
            text(&file),
        ]);
        let again = succeed(&["export", "--data-dir", text(&copy)]).stdout;
        assert_eq!(lines(&again), lines(&export), "{shards} shards");
        let server = setup(&copy, shards).start();
        assert_eq!(state(&server), before, "{shards} shards");
        server.stop();
        refuse(
            &["export", "--data-dir", text(&copy), "--output", text(&file)],
            1,
            "exists",
        );
    }
}

#[test]
fn what_retention_left_is_exported_as_entities_and_imported_whole() {
    let root = TempDir::new().expect("a temporary directory");
    let first = root.path().join("first");
    let server = setup(&first, 1)
        .env("FLUX_RETENTION_BYTES", "200000")
        .start();
    fill(&server);
    wait_for("retention to remove the beginning", || {
        let events: Vec<String> = (0..200)
            .map(|number| event("busy/1", &format!(r#"{{"n":{number},"p":"{:100}"}}"#, 0)))
            .collect();
        server.post("/api/events/batch", &batch(&events));
        first
            .join("log/000001/000-of-001/HORIZON")
            .exists()
            .then_some(())
    });
    let before = state(&server);
    server.stop();
    let export = succeed(&["export", "--data-dir", text(&first)]).stdout;
    assert!(
        lines(&export)
            .iter()
            .any(|line| line.starts_with(r#"{"acceptedAt":"#) && line.contains(r#""entity":{"#))
    );
    let file = root.path().join("events.jsonl");
    fs::File::create(&file)
        .and_then(|mut out| std::io::Write::write_all(&mut out, &export))
        .expect("a file in a fresh directory");
    let copy = root.path().join("copy");
    succeed(&[
        "import",
        "--data-dir",
        text(&copy),
        "--shards",
        "2",
        text(&file),
    ]);
    let server = setup(&copy, 2).start();
    assert_eq!(state(&server), before);
}

#[test]
fn a_bad_line_ends_an_import_by_its_number_or_is_passed_over() {
    let root = TempDir::new().expect("a temporary directory");
    let (file, data) = (root.path().join("lines"), root.path().join("data"));
    let good = |id: &str| event(id, r#"{"a":1}"#);
    let content = [good("a"), "{\"stream\":1}".into(), good("b")].join("\n");
    fs::File::create(&file)
        .and_then(|mut out| std::io::Write::write_all(&mut out, content.as_bytes()))
        .expect("a file in a fresh directory");
    refuse(
        &["import", "--data-dir", text(&data), text(&file)],
        1,
        "line 2",
    );
    succeed(&[
        "import",
        "--data-dir",
        text(&data),
        "--skip-bad",
        text(&file),
    ]);
    let server = Setup::new(&data, 1).start();
    assert_eq!(server.entity("a").json()["version"], 2);
    assert_eq!(server.entity("b").json()["version"], 1);
    refuse(
        &["import", "--data-dir", text(&data), text(&file)],
        1,
        "use",
    );
}

/// An export of single events and atomic batches of several namespaces.
fn grouped_export(root: &Path) -> (Vec<String>, Vec<Value>) {
    let first = root.join("first");
    let server = setup(&first, 2).start();
    for round in 0..3 {
        for space in ["x", "y", "z"] {
            server.publish(&format!("{space}/single"), r#"{"n":1}"#);
            let name = |index: usize| event(&format!("{space}/{index}"), r#"{"n":1}"#);
            let events: Vec<String> = (0..2 + round).map(name).collect();
            let body = batch(&events).replacen('{', r#"{"atomic":true,"#, 1);
            assert_eq!(server.post("/api/events/batch", &body).status, 200);
        }
    }
    let before = state(&server);
    server.stop();
    let export = succeed(&["export", "--data-dir", text(&first)]).stdout;
    let export = String::from_utf8(export).expect("UTF-8");
    (export.lines().map(str::to_owned).collect(), before)
}

fn write(path: &Path, text: &str) {
    fs::File::create(path)
        .and_then(|mut out| std::io::Write::write_all(&mut out, text.as_bytes()))
        .expect("a file in a fresh directory");
}

/// The sizes of the atomic batches of an export, in order, whose lines must follow each other.
fn batches(lines: &[String]) -> Vec<u64> {
    let mut counts = Vec::new();
    let mut expected = 0;
    for line in lines {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let (index, count) = (&line["group"]["index"], &line["group"]["count"]);
        assert_eq!(index.as_u64().unwrap_or_default(), expected, "{line}");
        expected = match count.as_u64() {
            Some(count) if expected + 1 < count => expected + 1,
            Some(count) => {
                counts.push(count);
                0
            }
            None => 0,
        };
    }
    assert_eq!(expected, 0, "the last batch is whole");
    counts
}

#[test]
fn atomic_batches_are_exported_and_imported_as_such() {
    let root = TempDir::new().expect("a temporary directory");
    let (export, before) = grouped_export(root.path());
    let file = root.path().join("lines");
    write(&file, &export.join("\n"));
    let mut sizes = batches(&export);
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 2, 2, 3, 3, 3, 4, 4, 4]);
    for shards in 1..=3 {
        let copy = root.path().join(format!("copy-{shards}"));
        let count = shards.to_string();
        let to = ["import", "--data-dir", text(&copy), "--shards", &count];
        succeed(&[&to[..], &[text(&file)]].concat());
        let again = succeed(&["export", "--data-dir", text(&copy)]).stdout;
        assert_eq!(lines(&again), lines(export.join("\n").as_bytes()));
        let again = String::from_utf8(again).expect("UTF-8");
        let again: Vec<String> = again.lines().map(str::to_owned).collect();
        assert_eq!(batches(&again).len(), sizes.len(), "{shards} shards");
        let server = setup(&copy, shards).start();
        assert_eq!(state(&server), before, "{shards} shards");
        server.stop();
    }
}

/// Imports these lines, which must end with this complaint, or leave these entities if what is
/// wrong is passed over.
fn check_import(lines: &[String], complaint: &str, there: &[&str]) {
    let root = TempDir::new().expect("a temporary directory");
    let file = root.path().join("lines");
    write(&file, &lines.join("\n"));
    let data = root.path().join("data");
    refuse(
        &["import", "--data-dir", text(&data), text(&file)],
        1,
        complaint,
    );
    let data = root.path().join("skipping");
    let skip = [
        "import",
        "--skip-bad",
        "--data-dir",
        text(&data),
        text(&file),
    ];
    let said = succeed(&skip).stderr;
    let passed_over = lines.len() - there.len();
    let counted = format!("{} lines imported, {passed_over} passed over", there.len());
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains(&counted), "{counted}: {said}");
    let server = Setup::new(&data, 1).start();
    let entities = server.entities();
    let ids: Vec<&str> = entities.iter().filter_map(|it| it["id"].as_str()).collect();
    assert_eq!(ids, there, "{lines:?}");
}

#[test]
fn an_import_takes_all_lines_of_an_atomic_batch_or_none() {
    let of = |index: usize| {
        let group = format!(r#"{{"group":{{"index":{index},"count":3}},"#);
        event(&format!("n/{index}"), "{}").replacen('{', &group, 1)
    };
    let single = |id: &str| event(id, "{}");
    check_import(
        &[single("n/a"), of(0), of(1)],
        "line 4: the atomic batch of 2 lines before it is not whole",
        &["n/a"],
    );
    check_import(
        &[of(0), of(1), single("n/a"), single("n/b")],
        "line 3: the atomic batch of 2 lines before it is not whole",
        &["n/a", "n/b"],
    );
    check_import(
        &[of(0), "{}".to_owned(), of(2), single("n/a")],
        "line 2: missing field",
        &["n/a"],
    );
    check_import(
        &[of(1), of(2), single("n/a")],
        "line 1: an event of an atomic batch without those before it",
        &["n/a"],
    );
    check_import(
        &[of(0), of(0), of(1), of(2)],
        "line 2: the atomic batch of 1 lines before it is not whole",
        &["n/0", "n/1", "n/2"],
    );
    check_import(
        &[of(0), of(1), of(2).replace("n/2", "m/2"), single("n/a")],
        "line 3: the atomic batch of 2 lines before it is not whole",
        &["n/a"],
    );
}

/// Publishes numbered events of one entity until it is told to stop. Returns the last acknowledged
/// number.
fn produce(server: &Server, producer: usize, (stop, acknowledged): (&AtomicBool, &AtomicU64)) {
    let mut connection = server.connect();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let properties =
            (number + 1..=number + 20).map(|number| format!(r#"{{"n":{number},"p":"{:50}"}}"#, 0));
        let events: Vec<String> = properties
            .map(|properties| event(&format!("p{producer}/e"), &properties))
            .collect();
        number += 20;
        let answer = connection.request("POST", "/api/events/batch", &batch(&events));
        assert_eq!(answer.status, 200);
        acknowledged.store(number, Ordering::SeqCst);
    }
}

/// Stops the producers, also if the test fails.
struct Stopper<'s>(&'s AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_backup_under_load_holds_what_was_acknowledged_before_it() {
    let root = TempDir::new().expect("a temporary directory");
    let data = root.path().join("data");
    let server = setup(&data, 2)
        .env("FLUX_CHECKPOINT_BYTES", "65536")
        .start();
    let (stop, acknowledged) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 4]);
    std::thread::scope(|scope| {
        let _stopper = Stopper(&stop);
        for (producer, acknowledged) in acknowledged.iter().enumerate() {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || produce(server, producer, (stop, acknowledged)));
        }
        for round in 0..5 {
            wait_for("some more events", || {
                let least = acknowledged
                    .iter()
                    .map(|it| it.load(Ordering::SeqCst))
                    .min();
                (least > Some(1000 * (round + 1))).then_some(())
            });
            let before: Vec<u64> = acknowledged
                .iter()
                .map(|it| it.load(Ordering::SeqCst))
                .collect();
            let copy = root.path().join(format!("backup-{round}"));
            succeed(&["backup", "--data-dir", text(&data), text(&copy)]);
            let after: Vec<u64> = acknowledged
                .iter()
                .map(|it| it.load(Ordering::SeqCst) + 20)
                .collect();
            let restored = root.path().join(format!("restored-{round}"));
            succeed(&["restore", "--data-dir", text(&restored), text(&copy)]);
            let shards = [2, 1, 3][usize::try_from(round % 3).expect("a small number")];
            let second = setup(&restored, shards).start();
            for (producer, (before, after)) in before.iter().zip(&after).enumerate() {
                let entity = second.entity(&format!("p{producer}/e")).json();
                let number = entity["properties"]["n"].as_u64().expect("a number");
                assert!(
                    (*before..=*after).contains(&number),
                    "{before} {number} {after}"
                );
                assert_eq!(entity["version"], number);
            }
            second.kill();
        }
    });
}

#[test]
fn a_damaged_backup_and_a_used_target_are_refused() {
    let root = TempDir::new().expect("a temporary directory");
    let (data, copy) = (root.path().join("data"), root.path().join("copy"));
    let server = setup(&data, 1).start();
    fill(&server);
    server.stop();
    succeed(&["backup", "--data-dir", text(&data), text(&copy)]);
    refuse(
        &["backup", "--data-dir", text(&data), text(&copy)],
        1,
        "not an empty directory",
    );
    refuse(
        &["restore", "--data-dir", text(&data), text(&copy)],
        1,
        "not an empty directory",
    );
    let segment = copy.join("log/000001/000-of-001/00000001.seg");
    let mut bytes = fs::read(&segment).expect("a segment in the backup");
    bytes[5000] ^= 1;
    fs::File::create(&segment)
        .and_then(|mut out| std::io::Write::write_all(&mut out, &bytes))
        .expect("the segment is written");
    let target = root.path().join("target");
    refuse(
        &["restore", "--data-dir", text(&target), text(&copy)],
        3,
        "00000001.seg",
    );
    assert!(!target.exists());
}

/// Publishes an event about `house/door` with this token.
fn publish_with(server: &Server, token: &str) -> u16 {
    let field = format!("Authorization: Bearer {token}");
    let body = event("house/door", r#"{"open":true}"#);
    let request = request("POST", "/api/events", &[&field], &body);
    answered(server, request.as_bytes(), "an event").status
}

#[test]
fn a_restored_server_knows_the_namespaces_the_tokens_and_the_dead_ones_too() {
    let root = TempDir::new().expect("a temporary directory");
    let [data, copy, restored] = ["data", "copy", "restored"].map(|name| root.path().join(name));
    let with_auth = |dir: &Path, shards| setup(dir, shards).env("FLUX_AUTH_ENABLED", "true");
    let server = with_auth(&data, 2).start();
    let answer = server.post("/api/namespaces", r#"{"name":"house"}"#);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let old = answer.json()["token"].as_str().expect("a token").to_owned();
    let field = format!("Authorization: Bearer {old}");
    let rotation = request("POST", "/api/namespaces/house/token", &[&field], "");
    let answer = answered(&server, rotation.as_bytes(), "a rotation");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let new = answer.json()["token"].as_str().expect("a token").to_owned();
    let namespace = server.get("/api/namespaces/house").json();
    // Beside the running server.
    succeed(&["backup", "--data-dir", text(&data), text(&copy)]);
    let used = [&old, &new].map(|token| publish_with(&server, token));
    assert_eq!(used, [401, 200]);
    server.kill();

    succeed(&["restore", "--data-dir", text(&restored), text(&copy)]);
    for shards in [1, 3] {
        let server = with_auth(&restored, shards).start();
        let before = server.get("/api/namespaces/house").json();
        assert_eq!(before["namespaceId"], namespace["namespaceId"]);
        assert_eq!(before["createdAt"], namespace["createdAt"]);
        assert_eq!(
            server.post("/api/namespaces", r#"{"name":"house"}"#).status,
            409
        );
        let used = [&old, &new].map(|token| publish_with(&server, token));
        assert_eq!(used, [401, 200], "{shards} shards");
        server.stop();
    }
}
