//! A core that is paused goes on, and one that stays away is noticed.
//!
//! A virtual machine that is suspended, or a processor that is throttled, stops a thread at any
//! place for as long as it likes. `strace` does the same on purpose: it delays the return of a
//! system call. The tests need a machine that lets one process trace another, and say so if it does
//! not.

mod support;

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use support::server::{Server, Setup};
use support::{deadline, now, wait_for};
use tempfile::TempDir;

/// How long a paused call takes, microseconds: more than the 100 ms after which the runtime once
/// slept for ever.
const PAUSE_MICROS: u64 = 150_000;

/// A delay of `micros` for the calls of this name that `when` picks (strace's words).
fn injection(call: &str, when: &str, micros: u64) -> [String; 6] {
    [
        "-f".to_owned(),
        "-qq".to_owned(),
        "-e".to_owned(),
        format!("trace={call}"),
        "-e".to_owned(),
        format!("inject={call}:delay_exit={micros}:when={when}"),
    ]
}

/// True if this machine lets `strace` pause a process.
fn can_trace() -> bool {
    let mut strace = Command::new("strace");
    strace.args(injection("close", "1", 1)).arg("true");
    let traced = strace
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !traced {
        // Past the harness's capture: a test that checked nothing says so.
        let said = writeln!(std::io::stderr(), "strace can't pause a process here");
        assert!(said.is_ok());
    }
    traced
}

/// A tracer of a running server, which lets it go when it is dropped.
struct Tracer(Child);

impl Tracer {
    fn attach(server: &Server, call: &str, when: &str, micros: u64) -> Self {
        let mut strace = Command::new("strace");
        strace.args(injection(call, when, micros));
        strace.args(["-o", "/dev/null", "-p", &server.pid().to_string()]);
        let child = strace.stderr(Stdio::null()).spawn().expect("strace");
        wait_for("the tracer to be attached", || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).ok()?;
            let tracer = status.lines().find(|line| line.starts_with("TracerPid:"))?;
            (!tracer.ends_with("\t0")).then_some(())
        });
        Self(child)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        let interrupted = Command::new("kill").args(["-INT", &pid]).status();
        assert!(interrupted.is_ok_and(|status| status.success()));
        self.0.wait().expect("strace ends");
    }
}

#[test]
fn a_core_that_is_paused_in_any_call_answers_afterwards() {
    if !can_trace() {
        return;
    }
    for (call, when) in [
        ("epoll_pwait2", "1+3"),
        ("epoll_pwait2", "20"),
        ("recvfrom", "1"),
        ("sendto", "1"),
        ("read", "2"),
        ("fdatasync", "1"),
        ("io_uring_enter", "1+1"),
    ] {
        let server = Server::start(1);
        let tracer = Tracer::attach(&server, call, when, PAUSE_MICROS);
        let end = deadline();
        for number in 0..5 {
            server.publish("paused/entity", &format!("{{\"n\":{number}}}"));
            assert_eq!(server.get("/health").status, 200, "{call} {when}");
        }
        assert!(now() < end, "{call} {when}");
        drop(tracer);
        server.stop();
    }
}

#[test]
fn a_core_that_is_paused_while_its_thread_starts_becomes_ready_and_stops() {
    if !can_trace() {
        return;
    }
    let directory = TempDir::new().unwrap();
    // -D: the tracer is nobody's parent, and the process that the harness starts is the server.
    let mut words = vec!["strace".to_owned(), "-D".to_owned()];
    words.extend(injection("io_uring_enter", "1+1", PAUSE_MICROS));
    words.extend(["-o", "/dev/null", "--"].map(str::to_owned));
    let setup = Setup::new(directory.path(), 1).launched_by(words);
    let server = setup.start();
    assert_eq!(server.get("/health").status, 200);
    server.stop();
}

#[test]
fn a_core_that_does_not_turn_is_named_with_where_it_is() {
    if !can_trace() {
        return;
    }
    let server = Server::start(1);
    let tracer = Tracer::attach(&server, "epoll_pwait2", "40", 8_000_000);
    wait_for("the watchdog to say so", || {
        let said = server.said();
        said.contains("core 0 has not turned for 5 s: waiting for readiness")
            .then_some(())
    });
    wait_for("the core to go on", || {
        server.said().contains("core 0 goes on").then_some(())
    });
    drop(tracer);
    assert_eq!(server.get("/health").status, 200);
}
