//! A core that is paused goes on, and one that stays away is noticed.
//!
//! A virtual machine that is suspended, or a processor that is throttled, stops a thread at any
//! place for as long as it likes. `strace` does the same on purpose: it delays the return of a
//! system call. The tests need a machine that lets one process trace another, and say so if it does
//! not.

mod support;

use support::server::{Server, Setup};
use support::strace::{Tracer, can_trace, injection, launcher};
use support::{deadline, now, wait_for};
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
