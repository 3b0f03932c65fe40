//! `flux log`: the output and exit codes of verify, dump and repair, and that a server starts on a
//! repaired log. Each test damages the files of a stopped server, like a failing disk.

mod support;

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::event;
use support::server::{FLUX, Server, Setup, free_port};
use tempfile::TempDir;

const WHOLE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const DAMAGED: i32 = 3;

/// `flux log` with these arguments on a data directory.
fn command(data_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(FLUX);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLUX_") {
            command.env_remove(name);
        }
    }
    command
        .arg("log")
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .stdin(Stdio::null());
    command
}

/// Runs it, expects this exit code and returns its standard output.
fn log(data_dir: &Path, arguments: &[&str], code: i32) -> String {
    let output = command(data_dir, arguments).output().expect("flux starts");
    told(&output, code, arguments)
}

fn told(output: &Output, code: i32, arguments: &[&str]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let ended = output.status.code();
    assert_eq!(ended, Some(code), "{arguments:?}:\n{out}\n{err}");
    assert!(code != WHOLE || err.is_empty(), "{arguments:?}: {err}");
    out
}

/// The lines of a dump.
fn dump(data_dir: &Path, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["dump"], arguments].concat();
    let out = log(data_dir, &arguments, WHOLE);
    out.lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect()
}

/// A data directory in which a server with `shards` shards stored these events and was stopped.
fn stored(shards: u32, events: &[String]) -> (TempDir, Setup) {
    let data_dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(data_dir.path(), shards);
    let server = setup.start();
    publish(&server, events);
    server.stop();
    (data_dir, setup)
}

fn publish(server: &Server, events: &[String]) {
    for event in events {
        let answer = server.post("/api/events", event);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// Ten events of each of three entities, numbered, with a name that no random byte of a record
/// looks like.
fn numbered() -> Vec<String> {
    let numbers = (0..10).flat_map(|number| {
        ["a/x", "a/y", "b"]
            .map(|id| event(id, &format!(r#"{{"n":{number},"number-{number}":true}}"#)))
    });
    numbers.collect()
}

fn segment(data_dir: &Path) -> PathBuf {
    data_dir.join("log/000001/000-of-001/00000001.seg")
}

/// Changes one byte of the record that holds this text.
#[expect(
    clippy::disallowed_methods,
    reason = "what a disk would do to the file"
)]
fn damage(path: &Path, text: &str) {
    let mut bytes = fs::read(path).expect("a segment");
    let found = bytes
        .windows(text.len())
        .position(|window| window == text.as_bytes());
    bytes[found.expect("the event is stored")] ^= 1;
    fs::write(path, bytes).expect("the segment can be written");
}

#[test]
fn bad_usage_is_told_before_the_disk_is_touched() {
    let nowhere = Path::new("/nowhere/at/all");
    for arguments in [
        &[][..],
        &["check"],
        &["verify", "--yes"],
        &["verify", "extra"],
        &["dump", "--from", "-1"],
        &["dump", "--from", "x"],
        &["dump", "--from", "5", "--to", "4"],
        &["dump", "--since", "yesterday"],
        &[
            "dump",
            "--since",
            "2026-01-02T00:00:00Z",
            "--until",
            "2026-01-01T00:00:00Z",
        ],
        &["dump", "--entity", ""],
        &["dump", "--limit", "many"],
        &["repair", "--no"],
    ] {
        let output = command(nowhere, arguments).output().expect("flux starts");
        assert_eq!(output.status.code(), Some(USAGE), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
    for arguments in [
        &["verify"][..],
        &["dump"],
        &["repair"],
        &["repair", "--yes"],
    ] {
        let output = command(nowhere, arguments).output().expect("flux starts");
        assert_eq!(output.status.code(), Some(FAILED), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("/nowhere/at/all/log"), "{said}");
    }
}

#[test]
fn a_dump_gives_back_what_was_sent() {
    let sent = [
        r#"{"eventId":"one","stream":"s.t","source":"a \"b\"","timestamp":1700000000000,"key":"k","schema":"v","payload":{"entity_id":"n/ü","properties":{"big":12345678901234567890123,"price":22.50,"tiny":1e-2},"unit":{"x":[1.0]}}}"#,
        r#"{"eventId":"two","stream":"s","source":"a","payload":{"entity_id":"n/ü","properties":{"__deleted__":true}}}"#,
    ];
    let (data_dir, _) = stored(1, &sent.map(str::to_owned));
    let out = log(data_dir.path(), &["dump"], WHOLE);
    for (line, sent) in out.lines().zip(sent) {
        assert!(line.contains(&format!("\"event\":{sent}}}")), "{line}");
        let parsed: Value = serde_json::from_str(line).expect("a JSON line");
        assert!(
            support::is_timestamp(parsed["time"].as_str().expect("a time")),
            "{line}"
        );
    }
    assert_eq!(out.lines().count(), 2);
}

#[test]
fn a_dump_is_filtered_by_entity_namespace_sequence_time_and_count() {
    let (data_dir, _) = stored(1, &numbered());
    let all = dump(data_dir.path(), &[]);
    let sequences: Vec<u64> = all
        .iter()
        .map(|line| line["sequence"].as_u64().expect("a number"))
        .collect();
    assert_eq!(sequences, (1..=30).collect::<Vec<u64>>());
    let id = |line: &Value| line["event"]["payload"]["entity_id"].clone();
    let check = |arguments: &[&str], wanted: &dyn Fn(&Value) -> bool| {
        let expected: Vec<&Value> = all.iter().filter(|line| wanted(line)).collect();
        assert!(!expected.is_empty(), "{arguments:?} finds something");
        assert!(
            dump(data_dir.path(), arguments).iter().eq(expected),
            "{arguments:?}"
        );
    };
    let number = |line: &Value| line["sequence"].as_u64().expect("a number");
    let time = |line: &Value| line["time"].as_str().expect("a time").to_owned();
    check(&["--entity", "a/x"], &|line| id(line) == "a/x");
    check(&["--namespace", "a"], &|line| id(line) != "b");
    check(&["--from", "7", "--to", "9"], &|line| {
        (7..=9).contains(&number(line))
    });
    check(&["--limit", "4"], &|line| number(line) <= 4);
    check(
        &["--namespace", "a", "--from", "20", "--limit", "1"],
        &|line| number(line) == 20,
    );
    let middle = time(&all[14]);
    check(&["--since", &middle], &|line| time(line) >= middle);
    check(&["--until", &middle], &|line| time(line) <= middle);
    assert_eq!(
        dump(data_dir.path(), &["--entity", "c"]),
        Vec::<Value>::new()
    );
    assert_eq!(
        dump(data_dir.path(), &["--namespace", "b"]),
        Vec::<Value>::new()
    );
    assert_eq!(
        dump(data_dir.path(), &["--limit", "0"]),
        Vec::<Value>::new()
    );
}

#[test]
fn verify_and_dump_run_beside_a_server_and_repair_does_not() {
    let data_dir = TempDir::new().expect("a temporary directory");
    let server = Setup::new(data_dir.path(), 2).start();
    publish(&server, &numbered());
    let out = log(data_dir.path(), &["verify"], WHOLE);
    assert!(
        out.contains("is in use") && out.contains("2 logs, 30 records: no damage"),
        "{out}"
    );
    let lines = dump(data_dir.path(), &[]);
    assert_eq!(lines.len(), 30);
    for shard in [0, 1] {
        let of_shard = lines.iter().filter(|line| line["shard"] == json!(shard));
        let sequences: Vec<u64> = of_shard
            .map(|line| line["sequence"].as_u64().expect("a number"))
            .collect();
        assert_eq!(
            sequences,
            (1..=sequences.len() as u64).collect::<Vec<u64>>()
        );
    }
    for arguments in [&["repair"][..], &["repair", "--yes"]] {
        let output = command(data_dir.path(), arguments)
            .output()
            .expect("flux starts");
        assert_eq!(output.status.code(), Some(FAILED));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.contains(&format!("process {}", server.pid())),
            "{said}"
        );
    }
    assert_eq!(server.entity("a/x").json()["properties"]["n"], 9);
    server.stop();
}

#[test]
fn every_generation_is_dumped_in_order() {
    let (data_dir, _) = stored(1, &numbered());
    let server = Setup::new(data_dir.path(), 2).start();
    publish(&server, &numbered());
    server.stop();
    let lines = dump(data_dir.path(), &[]);
    assert_eq!(lines.len(), 60);
    assert!(lines.is_sorted_by_key(|line| {
        (
            line["generation"].as_u64(),
            line["shard"].as_u64(),
            line["sequence"].as_u64(),
        )
    }));
    assert_eq!(lines[30]["generation"], 2);
    let out = log(data_dir.path(), &["verify"], WHOLE);
    assert!(out.contains("3 logs, 60 records: no damage"), "{out}");
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_dump_quietly() {
    let long = "x".repeat(200_000);
    let events: Vec<String> = (0..8)
        .map(|number| event("big", &format!(r#"{{"n{number}":"{long}"}}"#)))
        .collect();
    let (data_dir, _) = stored(1, &events);
    let mut child = command(data_dir.path(), &["dump"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("flux starts");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    out.read_line(&mut line).expect("a line");
    drop(out);
    let output = child.wait_with_output().expect("flux ends");
    assert_eq!(output.status.code(), Some(WHOLE));
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_damaged_record_is_named_and_dumped_around_where_asked() {
    let (data_dir, _) = stored(1, &numbered());
    let path = segment(data_dir.path());
    damage(&path, "number-4");
    let out = log(data_dir.path(), &["verify"], DAMAGED);
    let name = path.display().to_string();
    let line = out
        .lines()
        .find(|line| line.starts_with("damage: "))
        .expect("a finding");
    assert!(
        line.contains(&name) && line.contains("record 13 is lost"),
        "{out}"
    );
    assert!(line.contains("flux log repair"), "{out}");
    let check = |arguments: &[&str], count: usize| {
        let output = command(data_dir.path(), arguments)
            .output()
            .expect("flux starts");
        assert_eq!(output.status.code(), Some(DAMAGED), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&name) && said.contains("record 13"), "{said}");
        let lines = String::from_utf8_lossy(&output.stdout).lines().count();
        assert_eq!(lines, count, "{arguments:?}");
    };
    check(&["dump"], 12);
    check(&["dump", "--skip-damaged"], 29);
    assert_eq!(dump(data_dir.path(), &["--to", "12"]).len(), 12);
    assert_eq!(dump(data_dir.path(), &["--from", "14"]).len(), 17);
}

#[test]
fn a_server_starts_again_after_a_repair() {
    let (data_dir, setup) = stored(1, &numbered());
    let path = segment(data_dir.path());
    damage(&path, "number-4");
    let before = fs::read(&path).expect("a segment");

    let out = log(data_dir.path(), &["repair"], DAMAGED);
    assert!(
        out.contains("giving up record 13") && out.contains("nothing was changed"),
        "{out}"
    );
    assert!(fs::read(&path).is_ok_and(|now| now == before));
    let out = log(data_dir.path(), &["repair", "--yes"], WHOLE);
    let (_, aside) = out
        .trim_end()
        .rsplit_once("the originals are in ")
        .expect("where");
    let kept = Path::new(aside).join("log/000001/000-of-001/00000001.seg");
    assert!(fs::read(kept).is_ok_and(|kept| kept == before));
    assert!(log(data_dir.path(), &["verify"], WHOLE).contains("29 records: no damage"));
    assert!(log(data_dir.path(), &["repair", "--yes"], WHOLE).contains("nothing needs repair"));
    assert_eq!(
        command(data_dir.path(), &["dump"])
            .output()
            .expect("flux starts")
            .status
            .code(),
        Some(WHOLE)
    );

    // The checkpoint is older than the damage and still holds what the event said.
    let server = setup.start();
    assert_eq!(server.entity("a/x").json()["properties"]["number-4"], true);
    publish(&server, &numbered());
    server.stop();
    fs::remove_dir_all(data_dir.path().join("checkpoints")).expect("checkpoints");
    let server = setup.start();
    assert!(
        server.said().contains("1 events are missing"),
        "{}",
        server.said()
    );
    let entity = server.entity("a/x").json();
    assert_eq!(
        (&entity["properties"]["n"], &entity["version"]),
        (&json!(9), &json!(19))
    );
    server.stop();
    assert!(log(data_dir.path(), &["verify"], WHOLE).contains("59 records: no damage"));
}

#[test]
fn a_server_that_refuses_a_damaged_log_says_what_to_do() {
    let (data_dir, setup) = stored(1, &numbered());
    damage(&segment(data_dir.path()), "number-4");
    fs::remove_dir_all(data_dir.path().join("checkpoints")).expect("checkpoints");
    let refused = setup.run(free_port());
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    let error = said.lines().last().unwrap_or_default();
    assert!(
        error.starts_with("flux: error: ") && error.contains("run `flux log verify`"),
        "{said}"
    );
}

#[test]
fn what_can_not_be_repaired_is_left_alone() {
    let (data_dir, _) = stored(1, &numbered());
    Setup::new(data_dir.path(), 2).start().stop();
    fs::remove_dir_all(data_dir.path().join("log/000001")).expect("a generation");
    let output = command(data_dir.path(), &["repair", "--yes"])
        .output()
        .expect("flux starts");
    assert_eq!(output.status.code(), Some(FAILED));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("restore a backup"), "{said}");
}
