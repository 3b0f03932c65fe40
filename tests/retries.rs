//! Sending again what got no answer: the server is killed again and again amid the writes of
//! several clients, and each write counts once (API contract §14).
//!
//! Each client adds to a counter of a namespace of its own and to one that all share, with an event
//! id for each addition. What got no answer because of a kill is sent again as it was. At the end
//! the counters are exact and history has each event id once, whichever way the ids were sent, and
//! however often the number of shards has changed meanwhile.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use support::agent::{Agent, Answer, Call, Protocol, history};
use support::server::{Server, Setup};
use support::wait_for;
use tempfile::TempDir;

/// Kills of each run.
const KILLS: usize = 20;
/// Additions between two kills, at least.
const ADDITIONS_PER_KILL: usize = 60;
/// Additions that one round of a client makes to each of its counters.
const ROUND: usize = 6;

/// The ways in which a client sends a round of additions.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// One event after the other.
    Single,
    /// One event each, all at once.
    Pipelined,
    Batch,
    Atomic,
}

const CLIENTS: [(Protocol, Way); 8] = [
    (Protocol::Http, Way::Single),
    (Protocol::Http, Way::Pipelined),
    (Protocol::Http, Way::Batch),
    (Protocol::Http, Way::Atomic),
    (Protocol::WebSocket, Way::Single),
    (Protocol::WebSocket, Way::Pipelined),
    (Protocol::WebSocket, Way::Batch),
    (Protocol::WebSocket, Way::Atomic),
];

const SHARED: &str = "shared";

/// An addition of one to the counter of a namespace.
fn addition(space: &str, event_id: &str) -> Value {
    json!({"stream": "count", "source": "tests", "eventId": event_id,
        "payload": {"entity_id": format!("{space}/counter"), "increment": {"n": 1}}})
}

/// What the counters came to with each addition. Each must have been taken, be it now or before the
/// server died.
fn sums(answers: &[Answer]) -> Vec<u64> {
    let mut sums = Vec::new();
    for answer in answers {
        let answer = answer.as_ref();
        let answer = answer.unwrap_or_else(|error| panic!("refused: {error}"));
        let results = answer["results"].as_array();
        let results = results.map_or_else(|| std::slice::from_ref(answer), Vec::as_slice);
        for result in results {
            let sum = result["properties"]["n"].as_u64();
            sums.push(sum.unwrap_or_else(|| panic!("no result: {answer}")));
        }
    }
    sums
}

/// Adds round after round until it is told to stop. Returns the number of additions to each counter
/// and how often a round was sent again.
fn add(number: usize, port: u16, total: &AtomicUsize, stop: &AtomicBool) -> (usize, usize) {
    let (protocol, way) = CLIENTS[number];
    let mut agent = Agent::new(port, protocol);
    let own = format!("own-{number}");
    let mut added = 0;
    while !stop.load(Ordering::Relaxed) {
        let ids = (added..added + ROUND).map(|n| format!("client-{number}-{n}"));
        let ids: Vec<String> = ids.collect();
        let of = |space: &str| -> Vec<Value> { ids.iter().map(|id| addition(space, id)).collect() };
        let both = || of(&own).into_iter().chain(of(SHARED));
        let atomic = matches!(way, Way::Atomic);
        let answers: Vec<Answer> = match way {
            Way::Single => both().map(|it| agent.ask(Call::Publish(it))).collect(),
            Way::Pipelined => agent.ask_all(&both().map(Call::Publish).collect::<Vec<_>>()),
            Way::Batch => {
                let events = both().collect();
                vec![agent.ask(Call::Batch { events, atomic })]
            }
            // An atomic batch is of one namespace.
            Way::Atomic => [of(&own), of(SHARED)]
                .map(|events| agent.ask(Call::Batch { events, atomic }))
                .into(),
        };
        let sums = sums(&answers);
        assert_eq!(sums.len(), 2 * ROUND);
        // Nobody else adds to its own counter.
        let expected: Vec<u64> = (added + 1..=added + ROUND).map(|n| n as u64).collect();
        assert_eq!(sums[..ROUND], expected, "{way:?}: the first answers");
        added += ROUND;
        total.fetch_add(ROUND, Ordering::Relaxed);
    }
    (added, agent.retries)
}

/// Expects that a counter is exact and that history has each event once.
fn expect_exact(server: &Server, space: &str, expected: &BTreeSet<String>) {
    let counter = server.entity(&format!("{space}/counter")).json();
    assert_eq!(counter["properties"]["n"], expected.len(), "{space}");
    let rows = history(server, &format!("namespace={space}"));
    let ids: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["eventId"].as_str())
        .collect();
    let found: BTreeSet<String> = ids.iter().map(|&id| id.to_owned()).collect();
    assert_eq!(ids.len(), found.len(), "an event id twice in {space}");
    assert_eq!(&found, expected, "{space}");
}

fn count_over_kills(durability: &str) {
    let data = TempDir::new().expect("a temporary directory");
    let setup = |life: usize| {
        let shards = [1, 2, 2, 3, 1][life % 5];
        let setup = Setup::new(data.path(), shards).durability(durability);
        setup.env("FLUX_CHECKPOINT_SECONDS", "1")
    };
    let mut server = setup(0).start();
    let port = server.port;
    let (total, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (total, stop) = (&total, &stop);
    let (added, server): (Vec<(usize, usize)>, Server) = std::thread::scope(|scope| {
        let clients = 0..CLIENTS.len();
        let clients = clients.map(|number| scope.spawn(move || add(number, port, total, stop)));
        let clients: Vec<_> = clients.collect();
        for life in 1..=KILLS {
            let until = total.load(Ordering::Relaxed) + ADDITIONS_PER_KILL;
            wait_for("additions", || {
                let failed = clients
                    .iter()
                    .any(std::thread::ScopedJoinHandle::is_finished);
                (failed || total.load(Ordering::Relaxed) >= until).then_some(())
            });
            server.kill();
            server = setup(life).start_on(port);
        }
        stop.store(true, Ordering::Relaxed);
        let joined = clients.into_iter().map(std::thread::ScopedJoinHandle::join);
        let added = joined.map(|it| it.expect("a client that succeeds"));
        (added.collect(), server)
    });
    let retries: usize = added.iter().map(|(_, retries)| retries).sum();
    assert!(retries > 0, "no answer was lost");
    let ids_of = |number: usize| (0..added[number].0).map(move |n| format!("client-{number}-{n}"));
    let check = |server: &Server| {
        for number in 0..CLIENTS.len() {
            expect_exact(server, &format!("own-{number}"), &ids_of(number).collect());
        }
        let all = (0..CLIENTS.len()).flat_map(ids_of).collect();
        expect_exact(server, SHARED, &all);
    };
    check(&server);
    server.kill();
    let server = setup(2).start();
    check(&server);
    // Even now each of them is known.
    let mut agent = Agent::new(server.port, Protocol::Http);
    for number in 0..CLIENTS.len() {
        let space = format!("own-{number}");
        let events = ids_of(number).map(|id| addition(&space, &id)).collect();
        let answer = agent.ask(Call::Batch {
            events,
            atomic: false,
        });
        let answer = answer.expect("an answer for each");
        let results = answer["results"].as_array().expect("results");
        assert!(results.iter().all(|it| it["duplicate"] == true), "{answer}");
    }
    check(&server);
}

#[test]
fn a_write_that_is_sent_again_after_a_kill_counts_once_in_sync_durability() {
    count_over_kills("sync");
}

#[test]
fn a_write_that_is_sent_again_after_a_kill_counts_once_in_async_durability() {
    count_over_kills("async");
}
