//! A wall clock that is wrong for a while, from outside: it dates the events of the namespaces that
//! publish meanwhile, and those of no other (API contract §3).
//!
//! The clock is libfaketime's, if that is installed (`apt-get install faketime`).

mod support;

use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use support::http::Response;
use support::server::{Server, Setup};
use support::{not_checked, wait_for};
use tempfile::TempDir;

/// A clock that can be set.
struct FakeClock {
    library: PathBuf,
    dir: TempDir,
}

impl FakeClock {
    /// `None`, said aloud, if the library is not installed.
    fn new() -> Option<Self> {
        let roots = [
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib/aarch64-linux-gnu",
            "/usr/lib64",
            "/usr/lib",
        ];
        let found = roots
            .iter()
            .map(|root| Path::new(root).join("faketime/libfaketimeMT.so.1"))
            .find(|path| path.exists());
        let Some(library) = found else {
            not_checked("a wall clock that is set: libfaketime is not installed");
            return None;
        };
        let dir = TempDir::new().expect("a directory");
        let clock = Self { library, dir };
        clock.set("+0");
        Some(clock)
    }

    /// Sets it, at once and for whoever runs: `offset` as faketime has it.
    fn set(&self, offset: &str) {
        let next = self.dir.path().join("next");
        let mut file = fs::File::create(&next).expect("created");
        file.write_all(offset.as_bytes()).expect("written");
        fs::rename(&next, self.path()).expect("renamed");
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("offset")
    }

    fn setup(&self, data: &TempDir, shards: u32) -> Setup {
        Setup::new(data.path(), shards)
            .env("LD_PRELOAD", &self.library.to_string_lossy())
            .env("FAKETIME_TIMESTAMP_FILE", &self.path().to_string_lossy())
            .env("FAKETIME_NO_CACHE", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }
}

/// Publishes and returns `lastUpdated`.
fn publish(server: &Server, id: &str) -> String {
    let answer = server.publish(id, r#"{"p":1}"#);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let entity = server.entity(id).json();
    entity["lastUpdated"].as_str().expect("a time").to_owned()
}

/// The date that follows a time's after so many days: on the calendar, as RFC 3339 has it.
fn in_days(time: &str, days: u64) -> String {
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("{} + {days} days", &time[..10]), "+%F"])
        .output()
        .expect("date runs");
    String::from_utf8(output.stdout)
        .expect("text")
        .trim()
        .to_owned()
}

fn ids(answer: &Response) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    let list = json.as_array().expect("an array").iter();
    let id = |item: &Value| item["id"].as_str().map(str::to_owned);
    list.filter_map(id).collect()
}

/// What holds after the clock was ten days ahead while `a` and `hall` published.
fn check(server: &Server, round: usize) {
    let ahead = publish(server, "a/x");
    // The server's own idea of now.
    let at = publish(server, &format!("probe{round}/x"));
    assert!(ahead > at, "a namespace's times do not fall: {ahead}, {at}");
    let later = publish(server, "hall");
    assert!(later > at, "neither do those of an id without one");

    let after = publish(server, &format!("b/y{round}"));
    assert!(after >= at && after < ahead, "{at}, {after}, {ahead}");
    let absent = publish(server, &format!("fresh{round}"));
    assert!(absent < ahead, "{absent}");

    let one = server.get(&format!("/api/state/entities/b/y{round}?at={after}"));
    assert_eq!(one.status, 200, "{}", one.text());
    let hidden = server.get(&format!("/api/state/entities/a/x?at={after}"));
    assert_eq!(
        hidden.status, 404,
        "its first event is dated ten days ahead"
    );
    let listed = ids(&server.get(&format!("/api/state/entities?at={after}")));
    assert!(listed.contains(&format!("b/y{round}")), "{listed:?}");
    assert!(
        !listed.iter().any(|id| id == "a/x" || id == "hall"),
        "{listed:?}"
    );
    let in_b = ids(&server.get(&format!("/api/state/entities?namespace=b&at={after}")));
    assert_eq!(in_b.len(), round + 2, "{in_b:?}");

    // A time that the clock has not reached is still of the past if an event is later.
    let soon = format!("{}T00:00:00Z", &in_days(&after, 3));
    let one = server.get(&format!("/api/state/entities/b/y{round}?at={soon}"));
    assert_eq!(one.status, 200, "{}", one.text());
    let listed = ids(&server.get(&format!("/api/state/entities?at={soon}")));
    assert!(!listed.iter().any(|id| id == "a/x"), "{listed:?}");

    let events = server.get(&format!("/api/events?namespace=b&since={after}"));
    assert_eq!(events.json().as_array().expect("an array").len(), 1);
    let events = server.get(&format!("/api/events?namespace=a&until={after}"));
    assert_eq!(events.json().as_array().expect("an array").len(), 0);
    let events = server.get(&format!("/api/events?namespace=a&since={after}"));
    assert_eq!(events.json().as_array().expect("an array").len(), round + 2);
}

/// Publishes with a `ttl` and returns the entity.
fn expiring(server: &Server, id: &str, ttl: &str) -> Value {
    let payload = format!(r#"{{"entity_id":"{id}","ttl":{ttl}}}"#);
    let body = format!(r#"{{"stream":"s","source":"t","payload":{payload}}}"#);
    let answer = server.post("/api/events", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    server.entity(id).json()
}

fn exists(server: &Server, id: &str) -> bool {
    server.entity(id).status == 200
}

/// Waits until the server dates events so.
fn wait_for_day(server: &Server, theme: &str, is_it: impl Fn(&str) -> bool) {
    let mut probes = 0;
    wait_for("the clock is set", || {
        probes += 1;
        let time = publish(server, &format!("{theme}{probes}/x"));
        is_it(&time[..10]).then_some(())
    });
}

#[test]
fn nothing_expires_early_or_late_because_the_clock_was_set() {
    let Some(clock) = FakeClock::new() else {
        return;
    };
    let data = TempDir::new().expect("a directory");
    let server = clock.setup(&data, 2).start();
    expiring(&server, "a/hour", "3600");
    expiring(&server, "a/soon", "6");
    let today = publish(&server, "now/x");
    clock.set("+10d");
    wait_for_day(&server, "ahead", |day| day != &today[..10]);
    // What was pending waits on; what is published now goes in its time, by any clock.
    expiring(&server, "b/soon", "1");
    let later = expiring(&server, "b/hour", "3600");
    assert!(exists(&server, "a/hour") && exists(&server, "a/soon"));
    wait_for("a second", || (!exists(&server, "b/soon")).then_some(()));
    let time = |of: &str| later[of].as_str().expect("a time").to_owned();
    assert!(time("expiresAt") > time("lastUpdated"), "{later}");
    clock.set("+0");
    wait_for_day(&server, "back", |day| day == &today[..10]);
    expiring(&server, "c/soon", "1");
    // A namespace whose time is ahead.
    expiring(&server, "b/again", "1");
    for id in ["a/soon", "c/soon", "b/again"] {
        wait_for("some seconds", || (!exists(&server, id)).then_some(()));
    }
    for id in ["a/hour", "b/hour"] {
        assert!(exists(&server, id), "{id}");
    }
    // A start knows the wall clock alone, by which none of them is over.
    server.kill();
    let server = clock.setup(&data, 2).start();
    for id in ["a/hour", "b/hour"] {
        assert!(exists(&server, id), "{id}");
    }
}

#[test]
fn a_clock_that_was_wrong_for_a_moment_dates_no_other_namespace() {
    let Some(clock) = FakeClock::new() else {
        return;
    };
    let data = TempDir::new().expect("a directory");
    let server = clock.setup(&data, 2).start();
    let before = publish(&server, "b/before");
    clock.set("+10d");
    let ahead = wait_for("the clock is ahead", || {
        let ahead = publish(&server, "clock/x");
        (ahead[..10] != before[..10]).then_some(ahead)
    });
    assert!(publish(&server, "a/x") >= ahead);
    publish(&server, "hall");
    // What is deleted keeps its time too.
    publish(&server, "gone/x");
    assert_eq!(
        server
            .request("DELETE", "/api/state/entities/gone/x", "")
            .status,
        200
    );
    // The server looks at its clocks once a tick.
    wait_for("a warning of the first step", || {
        server.said().contains("clock was set ahead").then_some(())
    });
    clock.set("+0");
    let mut probes = 0;
    wait_for("the clock is right", || {
        probes += 1;
        let probe = publish(&server, &format!("probe-{probes}/x"));
        (probe < ahead).then_some(())
    });
    check(&server, 0);
    let said = wait_for("a warning of each step", || {
        let said = server.said();
        (said.matches("clock was set").count() >= 2).then_some(said)
    });
    for step in ["set ahead by 86", "set back by 86"] {
        assert_eq!(said.matches(step).count(), 1, "{said}");
    }
    server.kill();
    // Without a checkpoint, then over one, then by another number of shards.
    let server = clock.setup(&data, 2).start();
    check(&server, 1);
    server.stop();
    let server = clock.setup(&data, 2).start();
    check(&server, 2);
    server.stop();
    let server = clock.setup(&data, 3).start();
    check(&server, 3);
    assert!(
        publish(&server, "gone/x") >= ahead,
        "a deletion loses no time"
    );
    server.stop();
}
