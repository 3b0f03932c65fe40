//! What a machine may lack: a server that gets no `io_uring` runs on plain threads, and `flux
//! doctor` says what is there, what is not, and what to do.

mod support;

use serde_json::Value;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use support::server::{FLUX, Setup};
use support::{batch, event, not_checked};
use tempfile::TempDir;

/// The words that start a program to which the kernel answers so if it asks for a ring; `None`,
/// and a line on standard error, if this machine lets nobody trace a program.
fn without_rings(error: &str) -> Option<Vec<String>> {
    let injection = format!("inject=io_uring_setup:error={error}");
    let words = [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=io_uring_setup",
        "-e",
    ];
    let words: Vec<String> = words
        .map(str::to_owned)
        .into_iter()
        .chain([injection])
        .collect();
    let tried = Command::new(&words[0])
        .args(&words[1..])
        .arg("true")
        .output();
    if !tried.is_ok_and(|output| output.status.success()) {
        not_checked("a server without io_uring: strace can't trace a program here");
        return None;
    }
    Some(words)
}

#[test]
fn without_io_uring_a_server_says_so_once_and_does_everything() {
    for error in ["EPERM", "ENOSYS"] {
        let Some(words) = without_rings(error) else {
            return;
        };
        let dir = TempDir::new().expect("a temporary directory");
        let setup = Setup::new(dir.path(), 2);
        let server = setup.clone().launched_by(words).start();
        let said = server.said();
        assert_eq!(said.matches("io_uring").count(), 1, "{said}");
        assert!(said.contains("plain threads"), "{said}");
        server.publish("a/b", r#"{"n":1.50}"#);
        let events: Vec<String> = (0..100).map(|n| event(&format!("c{n}/d"), "{}")).collect();
        assert_eq!(
            server.post("/api/events/batch", &batch(&events)).json()["failed"],
            0
        );
        let mut watch = support::watch::Watcher::connect(&server);
        watch.subscribe("a/b");
        server.publish("a/b", r#"{"n":2}"#);
        assert_eq!(watch.next()["value"], 2);
        server.stop();
        let again = setup.start();
        assert_eq!(again.entity("a/b").json()["version"], 2);
        assert_eq!(again.entities().len(), 101);
    }
}

#[test]
fn without_sys_a_server_says_so_once_and_starts() {
    let hidden = "mount -t tmpfs tmpfs /sys && exec \"$0\" \"$@\"";
    let words = ["unshare", "--mount", "sh", "-c", hidden].map(str::to_owned);
    let tried = Command::new("unshare")
        .args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/sys"])
        .output();
    if !tried.is_ok_and(|output| output.status.success()) {
        not_checked("nothing can be mounted here");
        return;
    }
    let directory = TempDir::new().unwrap();
    let setup = Setup::new(directory.path(), 1).launched_by(words.to_vec());
    let server = setup.start();
    let warning = "/sys can't be read, which io_uring's executor needs";
    assert_eq!(
        server.said().matches(warning).count(),
        1,
        "{}",
        server.said()
    );
    server.publish("no/sys", "{\"n\":1}");
    server.stop();
}

#[test]
fn a_server_listens_on_both_loopback_addresses_and_on_the_one_that_it_is_given() {
    let dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(dir.path(), 2);
    let answers = |address: &str, port: u16| {
        let stream = TcpStream::connect((address, port));
        stream.is_ok_and(|mut stream| {
            let mut answer = [0; 15];
            stream
                .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .is_ok()
                && stream.read_exact(&mut answer).is_ok()
                && answer == *b"HTTP/1.1 200 OK"
        })
    };
    let server = setup.start();
    if TcpListener::bind("[::1]:0").is_err() {
        not_checked("listening on ::1: this machine has none");
        return;
    }
    // More often than there are cores, so each of them has its turn.
    for _ in 0..8 {
        assert!(answers("127.0.0.1", server.port) && answers("::1", server.port));
    }
    let port = server.port;
    assert!(
        server
            .said()
            .contains(&format!("also on http://[::1]:{port}"))
    );
    server.stop();
    let taken = TcpListener::bind(("::1", port)).expect("it is free");
    let output = setup.run(port);
    assert_eq!(output.status.code(), Some(1), "one address is taken");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("[::1]") && said.contains("in use"), "{said}");
    let server = setup.env("FLUX_BIND", "127.0.0.1").start_on(port);
    assert!(answers("127.0.0.1", port));
    drop(taken);
    assert!(!answers("::1", port), "it was given one address");
    server.stop();
}

fn doctor(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(FLUX);
    for (name, _) in std::env::vars_os() {
        if name == "PORT" || name.to_string_lossy().starts_with("FLUX_") {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().copied());
    command.arg("doctor").args(arguments);
    command.output().expect("flux starts")
}

/// The findings by name, as JSON.
fn findings(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let whole: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let checks = whole["checks"].as_array().expect("checks").iter();
    let named = checks.map(|check| {
        let name = check["name"].as_str().expect("a name");
        (name.to_owned(), check.clone())
    });
    Value::Object(named.collect())
}

#[test]
fn the_doctor_finds_a_usable_machine_usable_and_leaves_nothing_behind() {
    let dir = TempDir::new().expect("a temporary directory");
    let data = dir.path().join("data");
    let at = data.to_str().expect("a path");
    let output = doctor(&["--data-dir", at, "--port", "0"], &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for name in [
        "kernel",
        "io_uring",
        "locked memory",
        "descriptors",
        "data directory",
        "free space",
        "file system",
        "port",
        "clock",
        "variables",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
    assert!(text.contains("a flush takes"), "{text}");
    let left = std::fs::read_dir(dir.path()).expect("a directory").count();
    assert_eq!(left, 0, "nothing is left");
}

#[test]
fn the_doctor_names_variables_that_are_no_settings() {
    let dir = TempDir::new().unwrap();
    let at = dir.path().to_str().unwrap();
    let arguments = ["--json", "--data-dir", at, "--port", "0"];
    let misspelt = [
        ("FLUX_DURABILTY", "async"),
        ("FLUX_COLOUR_OF_THE_SKY", "blue"),
    ];
    let output = doctor(&arguments, &misspelt);
    assert!(output.status.success(), "{output:?}");
    let whole: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = whole["checks"].as_array().unwrap().iter();
    let found: Vec<_> = checks
        .filter(|check| check["name"] == "variables")
        .collect();
    assert_eq!(found.len(), 2, "{whole}");
    assert!(found.iter().all(|check| check["verdict"] == "warn"));
    let text = found[1]["found"].as_str().unwrap();
    assert!(text.ends_with("did you mean FLUX_DURABILITY?"), "{text}");
    assert!(output.stderr.is_empty(), "it is said once: {output:?}");
}

#[test]
fn the_doctor_names_what_keeps_a_server_from_starting_and_a_remedy() {
    let dir = TempDir::new().expect("a temporary directory");
    let server = Setup::new(dir.path(), 1).start();
    let at = dir.path().to_str().expect("a path");
    let port = server.port.to_string();
    let output = doctor(&["--json", "--data-dir", at, "--port", &port], &[]);
    assert_eq!(output.status.code(), Some(1));
    let found = findings(&output);
    for (name, said) in [("data directory", "in use"), ("port", "in use")] {
        let finding = &found[name];
        assert_eq!(finding["verdict"], "fail", "{finding}");
        assert!(
            finding["found"]
                .as_str()
                .is_some_and(|text| text.contains(said)),
            "{finding}"
        );
        assert!(
            finding["remedy"]
                .as_str()
                .is_some_and(|text| text.contains("stop it")),
            "{finding}"
        );
    }
    assert_eq!(found["kernel"]["verdict"], "ok");
    server.stop();
    let output = doctor(&["--json", "--data-dir", at, "--port", &port], &[]);
    assert_eq!(output.status.code(), Some(0), "both are free again");

    let file = dir.path().join("file");
    std::fs::File::create(&file).expect("a file");
    let file = file.join("below");
    let output = doctor(
        &[
            "--json",
            "--port",
            "0",
            "--data-dir",
            file.to_str().expect("a path"),
        ],
        &[],
    );
    assert_eq!(findings(&output)["data directory"]["verdict"], "fail");
    let output = doctor(&["--port", "x"], &[]);
    assert_eq!(
        output.status.code(),
        Some(2),
        "settings are read as a server reads them"
    );
}

#[test]
fn the_doctor_tells_what_forbids_io_uring() {
    let Some(words) = without_rings("EPERM") else {
        return;
    };
    let dir = TempDir::new().expect("a temporary directory");
    let mut command = Command::new(&words[0]);
    command.args(words[1..].iter().filter(|word| *word != "-D"));
    let output = command
        .args([FLUX, "doctor", "--json", "--port", "0", "--data-dir"])
        .arg(dir.path())
        .output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(0), "a server starts without");
    let finding = &findings(&output)["io_uring"];
    assert_eq!(finding["verdict"], "warn", "{finding}");
}
