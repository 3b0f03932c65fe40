//! What a start says about its settings: who may do what, what is misspelt, and what would let
//! strangers in.

mod support;

use std::process::Output;
use support::server::{Server, Setup, free_port};
use support::wait_for;
use tempfile::TempDir;

fn dir() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The line of a start that says where the server listens.
fn start_line(server: &Server) -> String {
    wait_for("the line of the start", || {
        let said = server.said();
        let line = said.lines().find(|line| line.contains("listening on"));
        line.map(str::to_owned)
    })
}

#[test]
fn without_auth_a_server_that_others_could_reach_is_refused() {
    let data = dir();
    let setup = || Setup::new(data.path(), 1).env("FLUX_OPEN", "false");
    let refused = |setup: Setup, name: &str, address: &str| {
        let output = setup.run(free_port());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        for word in [name, address, "FLUX_OPEN=true", "FLUX_AUTH_ENABLED=true"] {
            assert!(said.contains(word), "{word} in {said}");
        }
    };
    for address in ["0.0.0.0", "::", "192.0.2.7", "::ffff:0.0.0.0"] {
        refused(setup().env("FLUX_BIND", address), "FLUX_BIND", address);
        refused(setup().arg("--bind").arg(address), "--bind", address);
    }
    for (name, value) in [("FLUX_OPEN", "true"), ("FLUX_AUTH_ENABLED", "true")] {
        let server = setup().env("FLUX_BIND", "0.0.0.0").env(name, value).start();
        let line = start_line(&server);
        assert!(line.contains("anyone who reaches it may"), "{line}");
        server.stop();
    }
    let server = setup().env("FLUX_BIND", "127.0.0.1").start();
    server.stop();
}

#[test]
fn more_shards_than_four_times_the_cores_are_refused() {
    let data = dir();
    let cores = std::thread::available_parallelism().expect("a number of cores");
    let most = u32::try_from(4 * cores.get()).expect("a few cores");
    for count in [most + 1, 1024.max(most + 1)] {
        let output = Setup::new(data.path(), count).run(free_port());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        for word in [count, most] {
            assert!(said.contains(&word.to_string()), "{word} in {said}");
        }
    }
    let left = std::fs::read_dir(data.path()).expect("a directory");
    assert_eq!(left.count(), 0, "a refused start makes nothing");
}

#[test]
fn the_start_says_who_may_write_and_read_and_whether_that_is_encrypted() {
    let data = dir();
    let server = Setup::new(data.path(), 1).start();
    let line = start_line(&server);
    for words in [
        &format!("listening on {}, 1 shard,", server.url()),
        "anyone on this machine may write and read everything",
        "connections are not encrypted",
    ] {
        assert!(line.contains(words), "{words} in {line}");
    }
    server.stop();
    let auth = Setup::new(data.path(), 1).env("FLUX_AUTH_ENABLED", "true");
    let server = auth.start();
    let line = start_line(&server);
    assert!(line.contains("to write takes a token"), "{line}");
    assert!(line.contains("may read what is not private"), "{line}");
}

#[test]
fn a_misspelt_variable_is_named_and_a_misspelt_flag_refused() {
    let data = dir();
    let setup = Setup::new(data.path(), 1)
        .env("FLUX_DURABILTY", "async")
        .env("FLUX_COLOUR_OF_THE_SKY", "s3cret")
        .env("FLUX_PORT_3000_TCP_ADDR", "10.0.0.1")
        .env("FLUX_SERVICE_HOST", "10.0.0.1")
        .env("FLUX_URL", "http://localhost:3000");
    let server = setup.start();
    let said_at_start = server.said();
    let warnings: Vec<&str> = said_at_start
        .lines()
        .filter(|line| line.contains("is no setting"))
        .collect();
    let expected = [
        "flux: warning: FLUX_COLOUR_OF_THE_SKY is no setting of this server and is ignored",
        "flux: warning: FLUX_DURABILTY is no setting of this server and is ignored; did you mean \
         FLUX_DURABILITY?",
    ];
    assert_eq!(warnings, expected);
    assert!(!said_at_start.contains("s3cret"));
    server.stop();
    let output = Setup::new(data.path(), 1).arg("--durabilty=async").run(0);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("--durabilty") && said.contains("did you mean --durability?"),
        "{said}"
    );
}
