//! What an acknowledgement guarantees: kills under load, shutdowns, restarts, and starts that must
//! be refused (API contract §10, §11).
//!
//! In the kill tests, several producers publish over their own connections, one by one and in
//! batches, and record what was acknowledged. Meanwhile the process is killed with SIGKILL. After a
//! restart every acknowledged event is there, in order, and no entity has a value that was never
//! sent. This is repeated on the same data directory, so that a recovered log is recovered again.

mod support;

use fastrand::Rng;
use serde_json::json;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::http::Connection;
use support::server::{Server, Setup, free_port};
use support::{batch, event, wait_for};
use tempfile::TempDir;

const PRODUCERS: usize = 4;
/// Acknowledged events after which the server is killed, while the producers go on.
const ACKNOWLEDGED_BEFORE_KILL: usize = 400;

/// One producer's record: the number of its last acknowledged event and of its last sent event.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    acknowledged: u64,
    sent: u64,
}

fn id_of(producer: usize) -> String {
    format!("producer-{producer}/counter")
}

/// The n-th event of a producer. Each number is also a property, so a lost event shows even if
/// later ones arrive.
fn numbered(producer: usize, n: u64) -> String {
    event(
        &id_of(producer),
        &format!(r#"{{"last":{n},"seen-{n}":true}}"#),
    )
}

/// Publishes until the connection breaks.
fn produce(
    port: u16,
    producer: usize,
    seed: u64,
    mut progress: Progress,
    total: &AtomicUsize,
) -> Progress {
    let mut random = Rng::with_seed(seed);
    let Ok(mut connection) = Connection::try_open(port) else {
        return progress;
    };
    loop {
        let count = if random.u64(..4) == 0 {
            1 + random.u64(..20)
        } else {
            1
        };
        let first = progress.sent + 1;
        let events: Vec<String> = (first..first + count)
            .map(|n| numbered(producer, n))
            .collect();
        progress.sent += count;
        let answer = match &events[..] {
            [event] => connection.try_request("POST", "/api/events", event),
            events => connection.try_request("POST", "/api/events/batch", &batch(events)),
        };
        let Ok(answer) = answer else { return progress };
        assert_eq!(answer.status, 200, "{}", answer.text());
        progress.acknowledged = progress.sent;
        total.fetch_add(events.len(), Ordering::Relaxed);
    }
}

/// Checks a producer's entity after a restart and returns the number of its last event.
fn check(server: &Server, producer: usize, progress: Progress, story: &str) -> u64 {
    let answer = server.entity(&id_of(producer));
    if progress.acknowledged == 0 && answer.status == 404 {
        return 0;
    }
    let entity = answer.json();
    let last = entity["properties"]["last"].as_u64().unwrap_or(0);
    assert!(
        last >= progress.acknowledged,
        "{story}: {last} is last, {progress:?} of producer {producer}"
    );
    assert!(
        last <= progress.sent,
        "{story}: {last} was never sent, {progress:?} of producer {producer}"
    );
    assert_eq!(
        entity["version"], last,
        "{story}: each event was applied once"
    );
    let seen = |n: u64| entity["properties"][&format!("seen-{n}")] == json!(true);
    let missing: Vec<u64> = (1..=last).filter(|n| !seen(*n)).collect();
    assert!(
        missing.is_empty(),
        "{story}: lost {missing:?} of producer {producer}"
    );
    last
}

fn survives_kills(durability: &str, shards: u32) {
    const ROUNDS: u64 = 4;
    let data_dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(data_dir.path(), shards).durability(durability);
    let mut progress = [Progress::default(); PRODUCERS];
    for round in 0..ROUNDS {
        let story = format!("{durability}, {shards} shards, round {round}");
        let server = setup.start();
        for (producer, progress) in progress.iter_mut().enumerate() {
            // An event without an answer may be stored or not; from here on the log decides.
            let last = check(&server, producer, *progress, &story);
            *progress = Progress {
                acknowledged: last,
                sent: last,
            };
        }
        let total = AtomicUsize::new(0);
        let port = server.port;
        std::thread::scope(|scope| {
            let total = &total;
            let mut producers = Vec::new();
            for (producer, progress) in progress.into_iter().enumerate() {
                let seed = round * 100 + producer as u64;
                producers.push(scope.spawn(move || produce(port, producer, seed, progress, total)));
            }
            wait_for("enough acknowledged events", || {
                (total.load(Ordering::Relaxed) >= ACKNOWLEDGED_BEFORE_KILL).then_some(())
            });
            server.kill();
            for (producer, handle) in producers.into_iter().enumerate() {
                progress[producer] = handle.join().expect("a producer ends with its connection");
            }
        });
    }
    let server = setup.start();
    for (producer, progress) in progress.iter().enumerate() {
        check(
            &server,
            producer,
            *progress,
            &format!("{durability}, {shards} shards, at the end"),
        );
    }
}

#[test]
fn sync_events_survive_kills_with_one_shard() {
    survives_kills("sync", 1);
}

#[test]
fn sync_events_survive_kills_with_two_shards() {
    survives_kills("sync", 2);
}

#[test]
fn async_events_survive_kills_with_one_shard() {
    survives_kills("async", 1);
}

#[test]
fn async_events_survive_kills_with_two_shards() {
    survives_kills("async", 2);
}

fn fill(server: &Server) {
    let events: Vec<String> = (0..500)
        .map(|n| {
            let id = if n % 5 == 0 {
                format!("bare-{n}")
            } else {
                format!("ns-{}/{}", n % 13, n % 60)
            };
            event(&id, &format!(r#"{{"n":{n},"number":1.50,"text":"ü\n"}}"#))
        })
        .collect();
    assert_eq!(
        server.post("/api/events/batch", &batch(&events)).json()["successful"],
        500
    );
    for id in ["bare-0", "ns-1/1", "ns-2/2"] {
        server.request("DELETE", &format!("/api/state/entities/{id}"), "");
    }
    server.publish("ns-2/2", r#"{"again":true}"#);
}

#[test]
fn sigterm_and_sigint_end_with_0_and_keep_everything() {
    for (signal, durability, shards) in [
        ("TERM", "sync", 1),
        ("INT", "sync", 2),
        ("TERM", "async", 2),
    ] {
        let data_dir = TempDir::new().expect("a temporary directory");
        let setup = Setup::new(data_dir.path(), shards).durability(durability);
        let mut server = setup.start();
        fill(&server);
        let before = server.entities();
        // An idle connection does not delay the shutdown.
        let _idle = server.connect();
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{signal}: {}", server.said());
        let server = setup.start();
        assert_eq!(
            server.entities(),
            before,
            "{signal}, {durability}, {shards} shards"
        );
    }
}

#[test]
fn what_is_in_flight_at_sigterm_is_answered_or_not_there() {
    let data_dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(data_dir.path(), 2);
    let mut server = setup.start();
    let total = AtomicUsize::new(0);
    let port = server.port;
    let progress: Vec<Progress> = std::thread::scope(|scope| {
        let total = &total;
        let mut producers = Vec::new();
        for producer in 0..PRODUCERS {
            producers.push(scope.spawn(move || produce_until_refused(port, producer, total)));
        }
        wait_for("a few acknowledged events", || {
            (total.load(Ordering::Relaxed) >= 100).then_some(())
        });
        server.signal("TERM");
        assert_eq!(server.wait().code(), Some(0), "{}", server.said());
        producers
            .into_iter()
            .map(|handle| handle.join().expect("a producer ends"))
            .collect()
    });
    let server = setup.start();
    for (producer, progress) in progress.iter().enumerate() {
        check(&server, producer, *progress, "after SIGTERM");
    }
}

/// Publishes one by one until the connection ends or the server says that it is shutting down.
fn produce_until_refused(port: u16, producer: usize, total: &AtomicUsize) -> Progress {
    let mut progress = Progress::default();
    let Ok(mut connection) = Connection::try_open(port) else {
        return progress;
    };
    loop {
        let n = progress.sent + 1;
        let Ok(answer) = connection.try_request("POST", "/api/events", &numbered(producer, n))
        else {
            progress.sent = n;
            return progress;
        };
        if answer.status == 503 {
            // Refused: it was not accepted and must not be found.
            answer.expect_error(503, "an event during shutdown");
            return progress;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        progress = Progress {
            acknowledged: n,
            sent: n,
        };
        total.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_number_of_shards_may_change_and_nothing_is_lost() {
    let data_dir = TempDir::new().expect("a temporary directory");
    let first = Setup::new(data_dir.path(), 1).start();
    fill(&first);
    let mut expected = first.entities();
    first.stop();
    for (round, shards) in [2, 3, 1, 2].into_iter().enumerate() {
        let server = Setup::new(data_dir.path(), shards).start();
        assert_eq!(server.entities(), expected, "with {shards} shards");
        assert_eq!(server.get("/health").json()["shards"], shards);
        // The order of a namespace continues across the change.
        for id in ["ns-3/3", "ns-4/4", "bare-5"] {
            let before = server.entity(id).json();
            server.publish(id, &format!(r#"{{"round":{round}}}"#));
            let after = server.entity(id).json();
            assert_eq!(
                after["version"].as_u64(),
                before["version"].as_u64().map(|version| version + 1)
            );
            assert!(after["lastUpdated"].as_str() >= before["lastUpdated"].as_str());
        }
        expected = server.entities();
        // Orderly and not.
        if round % 2 == 0 {
            server.kill();
        } else {
            server.stop();
        }
    }
    assert_eq!(Setup::new(data_dir.path(), 1).start().entities(), expected);
}

#[test]
fn an_etag_from_before_a_restart_still_names_its_state_or_none() {
    let data_dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(data_dir.path(), 2);
    let server = setup.start();
    server.publish("ns/a", r#"{"n":1}"#);
    let before = server
        .entity("ns/a")
        .header("etag")
        .expect("an ETag")
        .to_owned();
    server.request("DELETE", "/api/state/entities/ns/a", "");
    server.kill();
    let server = setup.start();
    server.publish("ns/a", r#"{"n":2}"#);
    let after = server
        .entity("ns/a")
        .header("etag")
        .expect("an ETag")
        .to_owned();
    assert_ne!(before, after);
}

/// Expects an exit code and one line on standard error; returns the line.
fn refused_to_start(output: &Output, code: i32, what: &str) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{what}: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{what}: {said}");
    assert!(!said.contains("panicked"), "{what}: {said}");
    said
}

#[test]
fn a_second_server_on_a_data_directory_is_refused() {
    let data_dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(data_dir.path(), 1);
    let server = setup.start();
    server.publish("ns/a", r#"{"n":1}"#);
    for shards in [1, 2] {
        let output = Setup::new(data_dir.path(), shards).run(free_port());
        let said = refused_to_start(&output, 1, "a data directory in use");
        assert!(
            said.contains(&*data_dir.path().to_string_lossy()),
            "names the directory: {said}"
        );
    }
    assert_eq!(
        server.entity("ns/a").status,
        200,
        "the first server is untouched"
    );
    server.kill();
    assert_eq!(
        setup.start().entity("ns/a").status,
        200,
        "a killed server leaves no lock behind"
    );
}

#[test]
fn a_port_that_is_taken_is_refused() {
    let data_dir = TempDir::new().expect("a temporary directory");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let said = refused_to_start(
        &Setup::new(data_dir.path(), 2).run(port),
        1,
        "a port of another program",
    );
    assert!(said.contains(&port.to_string()), "names the port: {said}");

    // Another Flux shares its port between its own cores, and with nobody else.
    let server = Server::start(2);
    let said = refused_to_start(
        &Setup::new(data_dir.path(), 2).run(server.port),
        1,
        "a port of another Flux",
    );
    assert!(
        said.contains(&server.port.to_string()),
        "names the port: {said}"
    );
}

#[test]
fn a_directory_of_somebody_elses_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("photos")).unwrap();
    let output = Setup::new(directory.path(), 1).run(0);
    let line = refused_to_start(&output, 1, "a directory of somebody else");
    assert!(line.contains("it holds photos"), "{line}");
    let left = fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 1, "nothing was made there");
}

#[test]
fn a_data_directory_that_cannot_be_written_is_refused() {
    let parent = TempDir::new().expect("a temporary directory");
    let file = parent.path().join("a-file");
    fs::File::create(&file).expect("a file");
    let refused = |data_dir: &Path, what: &str| {
        let said = refused_to_start(&Setup::new(data_dir, 1).run(free_port()), 1, what);
        assert!(
            said.contains(&*data_dir.to_string_lossy()),
            "names the directory: {said}"
        );
    };
    refused(&file, "a file in its place");
    refused(&file.join("below"), "a directory below a file");
    // Not even root can create files there.
    refused(
        Path::new("/proc/flux-data"),
        "a file system that takes no directories",
    );
    let deep = parent.path().join("made/when/absent");
    Setup::new(&deep, 1).start().stop();
    assert!(deep.is_dir());
}

#[test]
fn bad_settings_end_with_2_and_name_the_setting() {
    let data_dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(data_dir.path(), 1);
    let by_environment = [
        ("FLUX_SHARDS", "0"),
        ("FLUX_SHARDS", "-1"),
        ("FLUX_SHARDS", "two"),
        ("FLUX_SHARDS", "1.5"),
        // More than four for each core, on any machine of fewer than 256.
        ("FLUX_SHARDS", "1024"),
        ("FLUX_SHARDS", "99999999999"),
        ("FLUX_DURABILITY", "perhaps"),
        ("FLUX_DURABILITY", "SYNC"),
        ("FLUX_BIND", "nonsense"),
        ("FLUX_BIND", "999.1.1.1"),
        ("FLUX_AUTH_ENABLED", "maybe"),
        ("FLUX_RATE_LIMIT_ENABLED", "yes"),
        ("FLUX_RATE_LIMIT_PER_NAMESPACE_PER_MINUTE", "0"),
        ("FLUX_BODY_SIZE_LIMIT_SINGLE_BYTES", "0"),
        ("FLUX_BODY_SIZE_LIMIT_BATCH_BYTES", "1MB"),
    ];
    for (name, value) in by_environment {
        let output = setup.clone().env(name, value).run(free_port());
        let said = refused_to_start(&output, 2, &format!("{name}={value}"));
        assert!(said.contains(name), "{name}={value}: {said}");
    }
    let by_flag = [
        ("--shards", "0"),
        ("--shards", "x"),
        ("--shards", "1024"),
        ("--durability", "none"),
        ("--bind", "nowhere"),
        ("--port", "65536"),
        ("--port", "x"),
        ("--no-such-flag", "1"),
    ];
    for (flag, value) in by_flag {
        let mut command = std::process::Command::new(support::server::FLUX);
        command
            .env_remove("FLUX_SHARDS")
            .args(["serve", flag, value, "--data-dir"])
            .arg(data_dir.path());
        let output = command.output().expect("flux runs");
        let said = refused_to_start(&output, 2, &format!("{flag} {value}"));
        assert!(said.contains(flag), "{flag} {value}: {said}");
    }
    let mut command = setup.command(free_port());
    let port_from_environment = command.env("PORT", "x").args(["--shards", "0"]);
    assert_eq!(
        port_from_environment
            .output()
            .expect("flux runs")
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn an_empty_variable_is_unset_and_a_flag_beats_the_environment() {
    let data_dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(data_dir.path(), 1)
        .env("FLUX_DURABILITY", "")
        .env("FLUX_BIND", "");
    setup.start().stop();
    let setup = setup
        .env("PORT", "1")
        .env("FLUX_SHARDS", "nonsense")
        .arg("--shards")
        .arg("2");
    let server = setup.start();
    assert_eq!(server.get("/health").json()["shards"], 2);
}
