//! Reads of the past take turns: a client that asks for much of the past, and goes away, costs no
//! other client its answer. By the order of answers, not by times.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use support::http::{Connection, request};
use support::server::Server;
use support::{batch, event, wait_for};

/// Events in the log: a list of an earlier state reads them all.
const EVENTS: usize = 60_000;
/// Reads that an attacker pipelines on one connection.
const PIPELINED: usize = 16;

/// A server of one shard with a long past, and a time after the beginning of it.
fn server() -> (Server, String) {
    let server = Server::start(1);
    server.publish("victim/a", r#"{"n":1}"#);
    for start in (0..EVENTS).step_by(1000) {
        let events: Vec<String> = (start..start + 1000)
            .map(|number| event(&format!("many/{}", number % 500), r#"{"n":1}"#))
            .collect();
        let answer = server.post("/api/events/batch", &batch(&events));
        assert_eq!(answer.json()["failed"], 0);
    }
    let newest = server.get("/api/events?namespace=many&limit=1").json();
    let at = newest[0]["acceptedAt"].as_str();
    let at = at.expect("a time").to_owned();
    server.publish("victim/a", r#"{"n":2}"#);
    (server, at)
}

fn list(at: &str) -> String {
    request(
        "GET",
        &format!("/api/state/entities?at={at}&limit=1"),
        &[],
        "",
    )
}

/// A connection that asks for the whole past many times at once.
fn attacker(server: &Server, at: &str) -> Connection {
    let mut connection = server.connect();
    connection.send(list(at).repeat(PIPELINED));
    connection
}

fn is_answered(server: &Server, at: &str) {
    let answer = server.get(&format!("/api/state/entities/victim/a?at={at}"));
    assert_eq!(
        (answer.status, &answer.json()["properties"]["n"]),
        (200, &1.into())
    );
    let answer = server.get("/api/events?entity=victim/a");
    assert_eq!(answer.json().as_array().map(Vec::len), Some(2));
}

#[test]
fn short_reads_are_answered_while_long_ones_of_others_wait() {
    let (server, at) = &server();
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let attackers: Vec<_> = (0..4)
            .map(|_| {
                let mut connection = attacker(server, at);
                let answered = &answered;
                scope.spawn(move || {
                    for _ in 0..PIPELINED {
                        assert_eq!(connection.response().status, 200, "nobody is turned away");
                        answered.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        for _ in 0..5 {
            is_answered(server, at);
        }
        let before = answered.load(SeqCst);
        assert!(before < 4 * PIPELINED, "the attack was over: {before}");
        for attacker in attackers {
            attacker.join().unwrap();
        }
    });
}

#[test]
fn a_client_that_asks_once_waits_for_one_read_of_another_and_not_for_all() {
    let (server, at) = &server();
    let mut attacker = attacker(server, at);
    assert_eq!(attacker.response().status, 200, "it is at work");
    let mut client = server.connect();
    client.send(list(at));
    assert_eq!(client.response().status, 200);
    // What the attacker has by now is in its socket: it has not been given all of it.
    attacker.stream.set_nonblocking(true).unwrap();
    let mut had = 1;
    while attacker.try_response().is_ok() {
        had += 1;
    }
    assert!(had < PIPELINED, "all {had} were read first");
}

/// The processor time that the server has used, in ticks.
fn ticks(server: &Server) -> u64 {
    let path = format!("/proc/{}/stat", server.pid());
    let text = std::fs::read_to_string(path).expect("it runs");
    let (_, after_name) = text.rsplit_once(')').expect("a name in brackets");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let of = |index: usize| fields[index].parse::<u64>().expect("a number");
    of(11) + of(12)
}

#[test]
fn the_reads_of_clients_that_are_gone_are_dropped() {
    let (server, at) = &server();
    let begun = ticks(server);
    let mut client = server.connect();
    client.send(list(at));
    assert_eq!(client.response().status, 200);
    let one = (ticks(server) - begun).max(1);
    let begun = ticks(server);
    for number in 0..30 {
        let mut connection = server.connect();
        if number % 2 == 0 {
            // To close with an unread answer is to reset the connection.
            connection.send(request("GET", "/health", &[], ""));
            connection.stream.peek(&mut [0]).unwrap();
        }
        connection.send(list(at).repeat(PIPELINED));
        drop(connection);
    }
    // As many long reads as one client may have: behind the attack's, if that went on.
    for _ in 0..3 {
        client.send(list(at));
        assert_eq!(client.response().status, 200);
    }
    is_answered(server, at);
    let used = ticks(server) - begun;
    let asked = 30 * PIPELINED as u64 * one;
    assert!(
        used < asked / 4,
        "{used} of {asked} ticks were worked for nobody"
    );
}

#[test]
fn a_client_that_only_stops_sending_is_answered_and_so_are_many_at_once() {
    let (server, at) = &server();
    let mut connection = server.connect();
    connection.send(list(at).repeat(3));
    connection.finish_sending();
    for _ in 0..3 {
        let answer = connection.response();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json().as_array().map(Vec::len), Some(1));
    }
    connection.expect_closed();
    let connections: Vec<Connection> = (0..70)
        .map(|_| {
            let mut connection = server.connect();
            let entity = format!("/api/state/entities/many/7?at={at}");
            connection.send(request("GET", &entity, &[], "").repeat(PIPELINED));
            connection
        })
        .collect();
    for mut connection in connections {
        for _ in 0..PIPELINED {
            assert_eq!(connection.response().status, 200);
        }
    }
    wait_for("the server", || {
        (server.get("/health").status == 200).then_some(())
    });
}
