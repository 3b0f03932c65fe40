//! What a server tells systemd, and the unit that systemd starts it with.
//!
//! The tests are the service manager: they have a socket, name it in `NOTIFY_SOCKET`, and read what
//! arrives there.

mod support;

use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::server::{Server, Setup, free_port};
use support::strace::{Tracer, can_trace};
use support::tls::Authority;
use support::{batch, event, not_checked, wait_for};
use tempfile::TempDir;

/// Events that a debug build replays in more than one look of the thread that tells systemd.
const EVENTS_MANY: usize = 150_000;

/// A service manager.
struct Manager {
    directory: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        Self { directory, socket }
    }

    fn setup(&self, shards: u32) -> Setup {
        let path = self.directory.path().join("notify");
        let setup = Setup::new(&self.directory.path().join("data"), shards);
        setup.env("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))
    }

    /// The lines of the next message, if there is one by now.
    fn next(&self) -> Option<Vec<String>> {
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).ok()?;
        let text = String::from_utf8(bytes[..count].to_vec()).expect("UTF-8");
        Some(text.lines().map(str::to_owned).collect())
    }

    /// Waits for a message with a line that begins so. Returns the lines of all messages up to it.
    fn until(&self, line: &str) -> Vec<String> {
        let mut seen: Vec<String> = Vec::new();
        wait_for(line, || {
            let lines = self.next()?;
            let is_it = lines.iter().any(|said| said.starts_with(line));
            seen.extend(lines);
            is_it.then_some(())
        });
        seen
    }

    /// The lines of all messages that are there by now.
    fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).flatten().collect()
    }
}

fn counted(lines: &[String], line: &str) -> usize {
    lines.iter().filter(|said| said.starts_with(line)).count()
}

#[test]
fn ready_is_said_when_every_shard_can_be_asked_and_stopping_when_it_stops() {
    let manager = Manager::new();
    let server = manager.setup(2).start();
    let said = manager.until("READY=1");
    assert_eq!(server.get("/ready").status, 200);
    let status = format!("STATUS=listening on {}, 2 shards", server.url());
    assert!(said.contains(&status), "{said:?}");
    server.signal("TERM");
    let said = manager.until("STOPPING=1");
    assert_eq!(counted(&said, "READY=1"), 0, "ready is said once: {said:?}");
    server.stop();
    assert_eq!(counted(&manager.rest(), "READY=1"), 0);
}

#[test]
fn a_start_that_replays_is_extended_until_it_is_ready() {
    let manager = Manager::new();
    let setup = manager.setup(1).durability("async");
    let server = started_with_many(&setup);
    server.kill();
    manager.rest();
    let server = setup.start();
    let said = manager.until("READY=1");
    let at = |line: &str| said.iter().position(|said| said.starts_with(line));
    let extended = at("EXTEND_TIMEOUT_USEC=90000000");
    assert!(extended.is_some() && extended < at("READY=1"), "{said:?}");
    assert!(
        at("STATUS=replaying the logs: ") < at("READY=1"),
        "{said:?}"
    );
    assert_eq!(server.get("/ready").status, 200);
    server.stop();
}

#[test]
fn nothing_follows_stopping_if_the_server_replays_still() {
    let manager = Manager::new();
    let setup = manager.setup(1).durability("async");
    started_with_many(&setup).kill();
    manager.rest();
    // Nobody waits until it is ready.
    let mut command = setup.command(free_port());
    let mut server = command.stderr(Stdio::null()).spawn().expect("flux starts");
    manager.until("STATUS=replaying the logs: ");
    let kill = Command::new("kill")
        .arg("-TERM")
        .arg(server.id().to_string())
        .status();
    assert!(kill.is_ok_and(|status| status.success()));
    let said = manager.until("STOPPING=1");
    assert_eq!(
        counted(&said, "READY=1"),
        0,
        "it was ready too early: {said:?}"
    );
    assert_eq!(server.wait().expect("it ends").code(), Some(0));
    assert_eq!(manager.rest(), [] as [String; 0]);
}

/// Starts a server and publishes so much that the next start takes a while.
fn started_with_many(setup: &Setup) -> Server {
    let server = setup.start();
    for first in (0..EVENTS_MANY).step_by(1000) {
        let numbers = first..first + 1000;
        let events: Vec<_> = numbers
            .map(|number| {
                event(
                    &format!("replayed/{number}"),
                    &format!("{{\"n\":{number}}}"),
                )
            })
            .collect();
        let answer = server.post("/api/events/batch", &batch(&events));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    server
}

#[test]
fn certificates_that_are_read_again_are_a_reload() {
    let manager = Manager::new();
    let authority = Authority::new();
    authority.issue("server", "one");
    let path = |name: &str| authority.path(name).to_str().unwrap().to_owned();
    let setup = manager
        .setup(1)
        .env("FLUX_TLS_CERT_FILE", &path("server.pem"))
        .env("FLUX_TLS_KEY_FILE", &path("server.key"));
    let server = setup.start();
    manager.until("READY=1");
    server.signal("HUP");
    let said = manager.until("READY=1");
    assert!(said.contains(&"RELOADING=1".to_owned()), "{said:?}");
    assert_eq!(counted(&said, "MONOTONIC_USEC="), 1, "{said:?}");
    assert!(server.said().contains("were read again"));
    server.stop();
}

#[test]
fn the_watchdog_hears_of_cores_that_turn_until_one_does_not() {
    if !can_trace() {
        return;
    }
    let manager = Manager::new();
    // A quarter of it lies between two messages.
    let server = manager.setup(2).env("WATCHDOG_USEC", "400000").start();
    manager.until("READY=1");
    manager.until("WATCHDOG=1");
    manager.until("WATCHDOG=1");
    let paused = Tracer::attach(&server, "epoll_pwait2", "40", 25_000_000);
    wait_for("a core to be reported", || {
        server
            .said()
            .contains("has not turned for 5 s")
            .then_some(())
    });
    manager.rest();
    manager.socket.set_nonblocking(false).unwrap();
    let wait = Some(Duration::from_secs(1));
    manager.socket.set_read_timeout(wait).unwrap();
    assert_eq!(manager.next(), None, "a core does not turn");
    manager.socket.set_nonblocking(true).unwrap();
    drop(paused);
    manager.until("WATCHDOG=1");
    server.stop();
}

#[test]
fn nothing_is_said_of_systemd_without_its_socket() {
    let server = Server::start(1);
    assert!(!server.said().contains("systemd"), "{}", server.said());
    server.stop();
}

#[test]
fn a_socket_that_is_not_there_is_one_warning_and_the_server_runs() {
    let directory = TempDir::new().unwrap();
    let nowhere = directory.path().join("nowhere");
    let setup = Setup::new(&directory.path().join("data"), 1)
        .env("NOTIFY_SOCKET", nowhere.to_str().unwrap())
        .env("WATCHDOG_USEC", "200000");
    let server = setup.start();
    let warning = "systemd can't be told how the server is (NOTIFY_SOCKET)";
    wait_for("the warning", || {
        server.said().contains(warning).then_some(())
    });
    server.publish("still/serves", "{\"n\":1}");
    assert_eq!(server.said().matches(warning).count(), 1);
    server.stop();
}

/// The unit, with the program under test in place of the installed one.
fn unit(directory: &Path) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/flux.service");
    let text = std::fs::read_to_string(source).expect("the unit");
    let text = text.replace("/usr/bin/flux", support::server::FLUX);
    let path = directory.join("flux.service");
    std::fs::File::create(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .expect("a file in a fresh directory");
    path.to_str().expect("UTF-8").to_owned()
}

/// Runs `systemd-analyze`, if there is one.
fn analyze(arguments: &[&str]) -> Option<String> {
    let output = Command::new("systemd-analyze").args(arguments).output();
    let Ok(output) = output else {
        not_checked("there is no systemd-analyze here");
        return None;
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    Some(said)
}

#[test]
fn systemd_finds_nothing_wrong_in_the_unit() {
    let directory = TempDir::new().unwrap();
    let unit = unit(directory.path());
    if let Some(said) = analyze(&["verify", "--man=no", &unit]) {
        assert_eq!(said.trim(), "");
    }
}

#[test]
fn the_unit_exposes_at_most_two_of_ten() {
    let directory = TempDir::new().unwrap();
    let unit = unit(directory.path());
    analyze(&["security", "--offline=true", "--threshold=20", &unit]);
}

#[test]
fn systemd_waits_longer_for_a_core_than_the_server_itself() {
    let directory = TempDir::new().unwrap();
    let text = std::fs::read_to_string(unit(directory.path())).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("WatchdogSec="));
    let seconds: u64 = line.unwrap().parse().unwrap();
    assert!(seconds > flux::limits::WATCHDOG_END_SECONDS);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStartSec="));
    let seconds: u32 = line.unwrap().parse().unwrap();
    assert_eq!(seconds, flux::limits::SYSTEMD_EXTENSION_SECONDS);
}
