//! What the server says on standard error: levels, formats, the journal, and a standard error that
//! nobody reads.

mod support;

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::linux::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use support::http::request;
use support::server::{Server, Setup};
use tempfile::TempDir;

/// A server that is killed if its test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It has ended already if the test has not failed.
        drop(self.0.kill());
    }
}

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
    let mut child = Killed(command.stderr(writer.try_clone().unwrap()).spawn().unwrap());
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
    let pid = rustix::process::Pid::from_child(&child.0);
    for _ in 0..20 {
        rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
    }
    let mut connection = support::http::Connection::try_open(port).unwrap();
    assert_eq!(connection.request("GET", "/health", "").status, 200);
    // It is told to stop, says so to nobody, and ends.
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = support::wait_for("the server to end", || child.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
    drop(stderr);
    assert!(
        filler.join().unwrap().is_err(),
        "the pipe was full all the time"
    );
}

/// What an access log says once it has a line of each of `paths`: lines are written by a thread of
/// their own, behind the answers and in no order between clients.
fn access_log_with(log: &Path, paths: &[&str]) -> (String, Vec<Value>) {
    support::wait_for("the lines of the access log", || {
        let text = std::fs::read_to_string(log).expect("the access log is there");
        if !text.ends_with('\n') {
            return None;
        }
        let said = objects(&text);
        let has = |path: &&str| said.iter().any(|line| line["path"] == **path);
        paths.iter().all(has).then_some((text, said))
    })
}

#[test]
fn the_access_log_has_a_line_for_each_request_and_no_secret() {
    const SECRET: &str = "0123456789abcdef-secret";
    let dir = TempDir::new().unwrap();
    let log = dir.path().join("access");
    let server = Setup::new(&dir.path().join("data"), 2)
        .env("FLUX_ACCESS_LOG", log.to_str().unwrap())
        .env("FLUX_LOG_FORMAT", "json")
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", SECRET)
        .start();
    let mut connection = server.connect();
    let with_token = |method: &str, target: &str, body: &str| {
        let token = format!("Authorization: Bearer {SECRET}");
        let agent = "User-Agent: a\u{9b}\"b\u{202e}";
        request(method, target, &[&*token, agent], body)
    };
    let body = r#"{"name":"made-up","why":"body-of-a-request"}"#;
    // Pipelined: each is answered in its turn.
    let first = with_token("POST", "/api/namespaces", body);
    let second = with_token(
        "GET",
        "/api/state/entities?limit=5&access_token=0123-secret",
        "",
    );
    let third = with_token("GET", "/api/state/entities/none", "");
    connection.send([first, second, third].concat());
    let statuses: Vec<_> = (0..3).map(|_| connection.response().status).collect();
    assert_eq!(statuses, [200, 200, 404]);
    let refused = server.get("/api/stream?ticket=0123456789-secret");
    assert_eq!(refused.status, 401);
    let mut wrong = server.connect();
    wrong.send("nonsense\r\n\r\n");
    assert_eq!(wrong.response().status, 400);
    let (text, said) = access_log_with(
        &log,
        &[
            "/api/namespaces",
            "/api/state/entities?limit=5&access_token=…",
            "/api/state/entities/none",
            "/api/stream?ticket=…",
            "-",
        ],
    );
    assert!(
        !text.contains("secret") && !text.contains("body-of-a-request"),
        "{text}"
    );
    let find = |path: &str| {
        let line = said.iter().find(|line| line["path"] == path);
        line.unwrap_or_else(|| panic!("no line of {path}: {text}"))
    };
    let made = find("/api/namespaces");
    assert_eq!(made["event"], "access");
    assert_eq!(
        (&made["method"], &made["status"]),
        (&"POST".into(), &200.into())
    );
    assert_eq!(made["request_bytes"], body.len());
    assert_eq!(made["client"], "127.0.0.1");
    assert_eq!(made["user_agent"], "a\u{9b}\"b\u{202e}");
    assert!(made["bytes"].as_u64().unwrap() > 100, "{made}");
    assert!(made["duration_seconds"].as_f64().unwrap() > 0.0, "{made}");
    assert_eq!(
        find("/api/state/entities?limit=5&access_token=…")["status"],
        200
    );
    assert_eq!(find("/api/state/entities/none")["status"], 404);
    assert_eq!(find("/api/stream?ticket=…")["status"], 401);
    assert_eq!(find("-")["status"], 400);
    server.stop();
}

#[test]
fn a_client_can_not_forge_a_line_of_the_access_log() {
    let dir = TempDir::new().unwrap();
    let setup = Setup::new(dir.path(), 1).env("FLUX_ACCESS_LOG", "stderr");
    let server = setup.env("FLUX_LOG", "error").start();
    let agent = "x\" 200 1 0.1 0 \"y\u{85}flux: error: forged\u{2028}\\";
    let agent = format!("User-Agent: {agent}");
    let mut connection = server.connect();
    connection.send(request(
        "GET",
        "/api/state/entities/a%0Ab",
        &[agent.as_str()],
        "",
    ));
    assert_eq!(connection.response().status, 404);
    support::wait_for("its line", || server.said().contains("a%0Ab").then_some(()));
    for line in server.said().lines() {
        assert!(line.starts_with("flux: access: 20"), "{line}");
        assert!(
            !line.contains(|it: char| it.is_control() || it == '\u{2028}'),
            "{line}"
        );
    }
    let end = r#""x\" 200 1 0.1 0 \"y\u{85}flux: error: forged\u{2028}\\""#;
    assert!(server.said().contains("404 ") && server.said().contains(end));
    server.stop();
}

#[test]
fn a_reader_that_stops_costs_lines_of_the_access_log_and_no_request() {
    let dir = TempDir::new().unwrap();
    let server = Server::start(1);
    let port = server.port;
    server.stop();
    let (reader, writer) = std::io::pipe().unwrap();
    let setup = Setup::new(dir.path(), 1).env("FLUX_ACCESS_LOG", "stderr");
    let mut command = setup.command(port);
    let mut child = Killed(command.stderr(writer).spawn().unwrap());
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
    // Far more than a pipe and all that waits for the writer hold.
    let target = format!("/health?prefix={}", "x".repeat(2000));
    let one = request("GET", &target, &[], "");
    let mut connection = support::http::Connection::try_open(port).unwrap();
    for _ in 0..400 {
        connection.send(one.repeat(10));
        for _ in 0..10 {
            // The parameter has no meaning there.
            assert_eq!(connection.response().status, 400);
        }
    }
    let pid = rustix::process::Pid::from_child(&child.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = support::wait_for("the server to end", || child.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    let lines = rest.matches("flux: access: ").count();
    assert!((10..4000).contains(&lines), "{lines} lines");
}
