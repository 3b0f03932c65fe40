//! The harness of the integration tests: a real server in a process of its own, and clients that
//! send raw bytes.
//!
//! Nothing here uses the code of the server. A test sees what a user sees: a command line, a
//! port, a data directory, exit codes and standard error. `server` starts and ends processes,
//! `http` is a client that sends exactly the bytes it is given, `watch` a WebSocket client,
//! `events` a client of server-sent events, `agent` a client that goes on over the death of the
//! server, `disk` a small disk that can be filled, `source` a server to be polled, `chromium` a
//! browser, `mcp` a client of `POST /mcp`, `connectors` the calls that define connectors,
//! `tenants` a server with tokens in force, `script` runs the scripts, `strace` pauses a server,
//! and `tls` issues certificates and carries plain clients to a server that speaks TLS.
//! `described` holds every answer and message against the server's descriptions, by the validator
//! in `schema`. `metrics` reads what a scrape says.
//!
//! Most claims hold for any number of cores, so they run against a server of one shard and one of
//! two ([`on_each`]). Those two are shared by the tests of a file that run at the same time: each
//! test keeps to a namespace of its own ([`namespace`]).

#![expect(dead_code, reason = "each test file uses its part of the harness")]

pub(crate) mod agent;
pub(crate) mod chromium;
pub(crate) mod connectors;
pub(crate) mod described;
pub(crate) mod disk;
pub(crate) mod events;
pub(crate) mod http;
pub(crate) mod mcp;
pub(crate) mod metrics;
pub(crate) mod schema;
pub(crate) mod script;
pub(crate) mod server;
pub(crate) mod source;
pub(crate) mod strace;
pub(crate) mod tenants;
pub(crate) mod tls;
pub(crate) mod watch;

use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a test waits before it fails. Far more than a loaded machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Says what was not checked, also if the output of tests is captured.
pub(crate) fn not_checked(what: &str) {
    let line = format!("NOT CHECKED: {what}\n");
    // Nothing can be done about a closed standard error.
    drop(std::io::stderr().write_all(line.as_bytes()));
}

/// The folder that `npm` has installed `typescript` and `axe-core` into.
const TOOLS: &str = "NPM_TOOLS";

/// A file of a package that `npm` has installed; `None`, and a line, if there is none.
pub(crate) fn npm_tool(path: &str, what: &str) -> Option<PathBuf> {
    let tools = std::env::var_os(TOOLS).map(PathBuf::from);
    let file = tools.map(|tools| tools.join("node_modules").join(path));
    let found = file.filter(|file| file.exists());
    if found.is_none() {
        not_checked(&format!("{what}: {TOOLS} holds no {path}"));
    }
    found
}

/// Runs a test against a server with one shard, then with two.
pub(crate) fn on_each(claim: impl Fn(&server::Server)) {
    for shards in [1, 2] {
        let server = server::shared(shards);
        let story = Story { server: &server };
        claim(story.server);
        assert_eq!(
            server.get("/health").status,
            200,
            "the server lives on with {shards} shards"
        );
    }
}

/// Prints the server's messages if a test fails.
struct Story<'a> {
    server: &'a server::Server,
}

impl Drop for Story<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.server.tell();
        }
    }
}

/// A namespace that no other test of this run uses.
pub(crate) fn namespace(theme: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{theme}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The files below a directory whose names end with `ending`; none if there is no such directory.
pub(crate) fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.expect("an entry of a directory").path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The time until which a test waits.
pub(crate) fn deadline() -> Instant {
    now() + PATIENCE
}

/// The clock of the tests.
#[expect(
    clippy::disallowed_methods,
    reason = "a test waits for another process; there is no time to pass in"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Asks again and again, at most [`PATIENCE`] long, until there is an answer.
pub(crate) fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, ask)
}

/// The same with another patience.
pub(crate) fn wait_within<T>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> Option<T>,
) -> T {
    let until = now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(now() < until, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A text as JSON, quotes included.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// An event of one entity; `properties` is JSON text and goes out as it is.
pub(crate) fn event(entity_id: &str, properties: &str) -> String {
    let entity_id = quoted(entity_id);
    format!(
        r#"{{"stream":"test.events","source":"tests","payload":{{"entity_id":{entity_id},"properties":{properties}}}}}"#
    )
}

/// The body of a batch.
pub(crate) fn batch(events: &[String]) -> String {
    format!(r#"{{"events":[{}]}}"#, events.join(","))
}

/// Publishes the same properties of all these entities, in batches.
pub(crate) fn publish_all(server: &server::Server, ids: &[String], properties: &str) {
    for ids in ids.chunks(1000) {
        let events: Vec<String> = ids.iter().map(|id| event(id, properties)).collect();
        let answer = server.post("/api/events/batch", &batch(&events));
        assert_eq!(answer.json()["failed"], 0, "{}", answer.text());
    }
}

/// `snake_case`: the form of a code that the contract does not name.
pub(crate) fn is_snake_case(code: &str) -> bool {
    code.starts_with(|first: char| first.is_ascii_lowercase())
        && code
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// RFC 3339 in UTC with microseconds: `2026-01-31T23:59:59.123456Z`.
pub(crate) fn is_timestamp(text: &str) -> bool {
    let pattern = b"dddd-dd-ddTdd:dd:dd.ddddddZ";
    text.len() == pattern.len()
        && text
            .bytes()
            .zip(pattern)
            .all(|(byte, pattern)| match pattern {
                b'd' => byte.is_ascii_digit(),
                _ => byte == *pattern,
            })
}

/// A version 7 UUID in its usual form (RFC 9562 §5.7).
pub(crate) fn is_uuid_v7(text: &str) -> bool {
    let pattern = b"hhhhhhhh-hhhh-7hhh-vhhh-hhhhhhhhhhhh";
    text.len() == pattern.len()
        && text
            .bytes()
            .zip(pattern)
            .all(|(byte, pattern)| match pattern {
                b'h' => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
                b'v' => matches!(byte, b'8' | b'9' | b'a' | b'b'),
                _ => byte == *pattern,
            })
}
