//! What the server says on standard error: levels, formats, the journal, and a standard error that
//! nobody reads.

mod support;

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::linux::fs::MetadataExt as _;
use std::process::Stdio;
use support::server::{Server, Setup};
use tempfile::TempDir;

/// The objects of a log in JSON.
fn objects(said: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    said.lines().map(parse).collect()
}

fn has_event(said: &[Value], event: &str) -> bool {
    said.iter().any(|line| line["event"] == event)
}

#[test]
fn every_line_in_json_is_an_object_with_time_level_event_and_message() {
    let dir = TempDir::new().unwrap();
    let setup = Setup::new(dir.path(), 2).arg("--log-format=json");
    let server = setup
        .env("FLUX_LOG", "debug")
        .env("FLUX_COLOUR_OF_THE_SKY", "blue")
        .env("FLUX_CHECKPOINT_SECONDS", "1")
        .start();
    server.publish("log/a", "{}");
    server.signal("HUP");
    support::wait_for("a line of each level but error", || {
        let said = objects(&server.said());
        let events = ["listening", "setting_unknown", "checkpoint_written"];
        let all = events.iter().all(|event| has_event(&said, event));
        (all && has_event(&said, "signal_ignored")).then_some(())
    });
    let said = objects(&server.said());
    for line in &said {
        let time = line["time"].as_str().unwrap();
        assert_eq!((time.len(), time.ends_with('Z')), (27, true), "{time}");
        assert!(!line["message"].as_str().unwrap().starts_with("flux: "));
        let names: Vec<_> = line.as_object().unwrap().keys().collect();
        assert!(names.iter().any(|name| *name == "event"), "{line}");
    }
    let level = |event: &str| {
        let line = said.iter().find(|line| line["event"] == event);
        line.and_then(|line| line["level"].as_str())
    };
    assert_eq!(level("listening"), Some("info"));
    assert_eq!(level("setting_unknown"), Some("warn"));
    assert_eq!(level("checkpoint_written"), Some("debug"));
    let shards = said.iter().filter(|line| line["event"] == "shard_ready");
    let mut shards: Vec<_> = shards.filter_map(|line| line["shard"].as_u64()).collect();
    shards.sort_unstable();
    assert_eq!(shards, [0, 1]);
    server.stop();
}

#[test]
fn a_level_says_what_matters_as_much_and_no_less() {
    let dir = TempDir::new().unwrap();
    let said_at = |level: &str| {
        let setup = Setup::new(dir.path(), 1).env("FLUX_LOG", level);
        let server = setup.env("FLUX_COLOUR_OF_THE_SKY", "blue").start();
        let said = server.said();
        server.stop();
        said
    };
    let info = said_at("info");
    assert!(info.contains("flux: warning: FLUX_COLOUR_OF_THE_SKY is no setting"));
    assert!(info.contains("listening on http://127.0.0.1:"));
    assert!(!info.contains("debug: "));
    let warn = said_at("warn");
    assert!(warn.contains("FLUX_COLOUR_OF_THE_SKY") && !warn.contains("listening on"));
    assert_eq!(said_at("error"), "");
}

#[test]
fn a_wrong_setting_is_one_line_in_the_format_that_is_set() {
    let dir = TempDir::new().unwrap();
    let check = |name: &str, value: &str, rule: &str| {
        let output = Setup::new(dir.path(), 1).env(name, value).run(0);
        let said = String::from_utf8(output.stderr).unwrap();
        let expected = format!("flux: error: invalid {name}: \"{value}\" is not {rule}\n");
        assert_eq!((output.status.code(), said), (Some(2), expected));
    };
    check("FLUX_LOG", "verbose", "error, warn, info or debug");
    check("FLUX_LOG_FORMAT", "xml", "text or json");
    let setup = Setup::new(dir.path(), 1).env("FLUX_LOG_FORMAT", "json");
    let output = setup.env("FLUX_DURABILITY", "a\nb").run(0);
    let said = objects(&String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(said.len(), 1);
    assert_eq!(said[0]["event"], "setting_invalid");
}

#[test]
fn lines_for_the_journal_begin_with_their_priority() {
    let dir = TempDir::new().unwrap();
    let log = dir.path().join("journal");
    let file = std::fs::File::create(&log).unwrap();
    let of = |file: &std::fs::File| {
        let metadata = file.metadata().unwrap();
        format!("{}:{}", metadata.st_dev(), metadata.st_ino())
    };
    let run = |stream: &str| {
        let setup = Setup::new(&dir.path().join("none"), 1).env("JOURNAL_STREAM", stream);
        // It ends by itself, after a warning and an error.
        let mut command = setup
            .env("FLUX_COLOUR_OF_THE_SKY", "blue")
            .env("FLUX_SHARDS", "none")
            .command(0);
        let stderr = Stdio::from(file.try_clone().unwrap());
        assert_eq!(command.stderr(stderr).status().unwrap().code(), Some(2));
        let said = std::fs::read_to_string(&log).unwrap();
        file.set_len(0).unwrap();
        said
    };
    let said = run(&of(&file));
    let lines: Vec<_> = said.trim_start_matches('\0').lines().collect();
    assert!(lines[0].starts_with("<4>warning: FLUX_COLOUR"), "{lines:?}");
    assert!(
        lines[1].starts_with("<3>error: invalid FLUX_SHARDS"),
        "{lines:?}"
    );
    let said = run("1:2");
    assert!(said.trim_start_matches('\0').starts_with("flux: warning: "));
}

#[test]
fn a_server_whose_standard_error_nobody_reads_goes_on() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(1);
    let port = server.port;
    server.stop();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = Setup::new(dir.path(), 1).command(port);
    let mut child = command.stderr(writer.try_clone().unwrap()).spawn().unwrap();
    // The command holds a copy.
    drop(command);
    let mut stderr = BufReader::new(reader);
    let mut line = String::new();
    while !line.contains("listening on") {
        line.clear();
        assert!(
            stderr.read_line(&mut line).unwrap() > 0,
            "it does not listen"
        );
    }
    // The pipe is full from here on.
    let more = vec![b'x'; 4 << 20];
    let filler = std::thread::Builder::new().spawn(move || writer.write_all(&more));
    let filler = filler.unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    for _ in 0..20 {
        rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
    }
    let mut connection = support::http::Connection::try_open(port).unwrap();
    assert_eq!(connection.request("GET", "/health", "").status, 200);
    // It is told to stop, says so to nobody, and ends.
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = support::wait_for("the server to end", || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
    drop(stderr);
    assert!(
        filler.join().unwrap().is_err(),
        "the pipe was full all the time"
    );
}
