//! What signals do: SIGTERM ends the server whatever its clients do; SIGHUP, SIGUSR1 and SIGUSR2,
//! which other programs give a meaning, do not end it.

mod support;

use support::server::Server;
use support::wait_for;
use support::watch::Watcher;

#[test]
fn a_signal_that_means_nothing_to_the_server_is_told_and_ends_nothing() {
    let server = Server::start(2);
    for signal in ["HUP", "USR1", "USR2"] {
        server.signal(signal);
        let line = format!("flux: SIG{signal} means nothing to the server and is ignored");
        wait_for("the line about it", || {
            let said = server.said();
            said.lines().any(|said| said == line).then_some(())
        });
        server.publish("after/signal", "{}");
    }
    server.stop();
}

#[test]
fn sigterm_ends_a_server_whose_watchers_have_stalled() {
    let server = Server::start(2);
    let mut stalled: Vec<Watcher> = (0..4).map(|_| Watcher::connect(&server)).collect();
    for watcher in &mut stalled {
        watcher.subscribe("*");
    }
    let text = "x".repeat(400_000);
    for number in 0..40 {
        server.publish(
            "stall/large",
            &format!(r#"{{"n":{number},"text":"{text}"}}"#),
        );
    }
    // Nobody reads, and nobody answers a close frame.
    server.stop();
    drop(stalled);
}
