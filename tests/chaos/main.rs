//! Live streams from outside, while everything breaks: two hundred clients of mixed kinds behind a
//! proxy that cuts and delays their connections at any byte, publishers that retry, and a server
//! that is killed every few seconds and started with another number of shards (API contract §13,
//! §14).
//!
//! After each stretch of that the publishers pause and the proxy lets everything through. Then
//!
//! - every client that follows the state holds what the server holds, to the last property;
//! - every client that follows the events has had each exactly once, in order, after dropping
//!   repeats by `sequence`;
//! - what was acknowledged is in the history once, where its answer said; so is what was seen.
//!
//! `FLUX_TEST_CHAOS_SECONDS` (20), `FLUX_TEST_CHAOS_CLIENTS` (200) and `FLUX_TEST_CHAOS_SEED` (any)
//! are the size of the run. The seed chooses what is done, not in which order threads do it.
//!
//! | file | job |
//! | --- | --- |
//! | `proxy` | connections that are cut and delayed |
//! | `kinds` | what the clients ask for, and what they hold at the end |
//! | `held` | what a client holds, message by message |
//! | `client` | a client's connections, one after the other |
//! | `publisher` | events that are sent until they are answered |
//! | `quiet` | the comparison with the server |

#[path = "../support/mod.rs"]
mod support;

mod client;
mod held;
mod kinds;
mod proxy;
mod publisher;
mod quiet;

use client::Client;
use fastrand::Rng;
use proxy::Proxy;
use publisher::Publishers;
use quiet::Quiet;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;
use std::time::Duration;
use support::agent::size;
use support::now;
use support::server::Setup;
use tempfile::TempDir;

/// Clients of the state and of the events.
const CLIENTS: usize = 200;
const PUBLISHERS: usize = 4;
/// Stack of a thread here.
const STACK_BYTES: usize = 512 * 1024;

/// Says how to run the same again, if the test fails.
struct Recipe {
    seed: u64,
}

impl Drop for Recipe {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("FLUX_TEST_CHAOS_SEED={}", self.seed));
        }
    }
}

/// Says something although the test passes.
fn say(line: &str) {
    // Nothing can be done about a closed standard error.
    drop(writeln!(std::io::stderr(), "chaos: {line}"));
}

/// Starts a thread that ends when the test tells it to.
fn start(name: &str, run: impl FnOnce() + Send + 'static) {
    let builder = Builder::new().name(name.to_owned());
    let thread = builder.stack_size(STACK_BYTES).spawn(run);
    thread.expect("a thread can be made");
}

fn sleep_ms(millis: u64) {
    std::thread::park_timeout(Duration::from_millis(millis));
}

#[test]
fn every_client_is_exact_after_kills_and_broken_connections() {
    let seconds = size("FLUX_TEST_CHAOS_SECONDS", 20) as u64;
    let count = size("FLUX_TEST_CHAOS_CLIENTS", CLIENTS);
    let seed = size("FLUX_TEST_CHAOS_SEED", fastrand::usize(..1 << 32)) as u64;
    let recipe = Recipe { seed };
    let mut random = Rng::with_seed(seed);
    let data = TempDir::new().expect("a temporary directory");
    let mut server = Setup::new(data.path(), 2).start();
    let port = server.port;
    let is_over = Arc::new(AtomicBool::new(false));
    let proxy = Proxy::start(port, random.u64(..), &is_over);

    let mut kinds = kinds::all(count, &mut random);
    if server.get("/api/stream?mode=none").status == 404 {
        say("this server has no /api/stream: all clients use WebSocket");
        for kind in &mut kinds {
            kind.front = kinds::Front::WebSocket;
        }
    }
    let clients: Vec<Arc<Client>> = kinds
        .into_iter()
        .map(|kind| Client::start(kind, proxy.port, random.u64(..), &is_over))
        .collect();
    let mut quiet = Quiet::default();
    Quiet::wait_until_all_have_begun(&clients);
    let publishers = Publishers::start(PUBLISHERS, proxy.port, random.u64(..), &is_over);

    let until = now() + Duration::from_secs(seconds);
    let mut kills = 0;
    while now() < until {
        proxy.be_rough();
        publishers.go_on();
        for _ in 0..random.u32(1..=2) {
            sleep_ms(random.u64(200..2_000));
            server.kill();
            kills += 1;
            sleep_ms(random.u64(..200));
            server = Setup::new(data.path(), random.u32(1..=3)).start_on(port);
        }
        sleep_ms(random.u64(..1_000));
        publishers.pause();
        proxy.be_calm();
        publishers.wait_until_idle();
        quiet.check(&server, &clients, &publishers);
    }
    say(&format!(
        "{kills} kills, {} connections, {}",
        proxy.connections(),
        quiet.summary()
    ));
    is_over.store(true, Ordering::Release);
    server.stop();
    drop(recipe);
}
