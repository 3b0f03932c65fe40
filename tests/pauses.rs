//! A core that is paused goes on, and one that stays away is noticed.
//!
//! A virtual machine that is suspended, or a processor that is throttled, stops a thread at any
//! place for as long as it likes. `strace` does the same on purpose: it delays the return of a
//! system call. The tests need a machine that lets one process trace another, and say so if it does
//! not.

mod support;

use support::server::{Server, Setup};
use support::strace::{Tracer, can_trace, injection, launcher};
use support::{PATIENCE, deadline, now, wait_for, wait_within};
use tempfile::TempDir;

/// How long a paused call takes, microseconds: more than the 100 ms after which the runtime once
/// slept for ever.
const PAUSE_MICROS: u64 = 150_000;

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
    let pause = injection("io_uring_enter", "1+1", PAUSE_MICROS);
    let setup = Setup::new(directory.path(), 1).launched_by(launcher(pause.into()));
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

#[test]
fn a_core_that_hangs_ends_the_process_and_the_next_start_has_everything() {
    if !can_trace() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let setup = Setup::new(dir.path(), 1);
    let mut server = setup.start();
    for number in 1..=20 {
        server.publish("hangs/entity", &format!("{{\"n\":{number}}}"));
    }
    let tracer = Tracer::attach(&server, "recvfrom", "1", 60_000_000);
    let mut unanswered = server.connect();
    unanswered.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
    // It is ended after 30 s, which is as long as a test waits for anything else.
    let said = wait_within(2 * PATIENCE, "the watchdog to end it", || {
        let said = server.said();
        said.contains("to be restarted").then_some(said)
    });
    let told: Vec<&str> = said.lines().filter(|it| it.contains("turned")).collect();
    let story = "working on requests and messages";
    assert_eq!(
        told,
        [
            format!("flux: warning: core 0 has not turned for 5 s: {story}"),
            format!(
                "flux: error: core 0 has not turned for 30 s: {story}; the process ends, to be restarted"
            ),
        ]
    );
    tracer.let_go_of_the_dead();
    assert_eq!(server.wait().code(), Some(1));
    let server = setup.start();
    assert_eq!(server.entity("hangs/entity").json()["version"], 20);
    server.stop();
}
