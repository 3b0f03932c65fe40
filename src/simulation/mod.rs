//! The whole server under a seed: the event loops of several cores, with sockets, clocks, helper
//! threads and logs replaced.
//!
//! ```text
//! clients ─bytes─ network ─bytes─ Core<SimulatedSystem> × n ─ shards over MemoryLog ─ MemoryDisk
//!    │                                 │ mailboxes, jobs                                │
//!    └──────── every answer and push ──┴──▶ model ◀── what the disks hold ──────────────┘
//! ```
//!
//! | file | job |
//! | --- | --- |
//! | `world` | the schedule: which core, job, client or clock moves next |
//! | `streams` | live streams over logs in files, with clients that resume |
//! | `system` | what a core sees of the world |
//! | `network` | sockets in memory |
//! | `http_client`, `watcher` | clients that come, go and stall, and check what they are told |
//! | `hostile` | clients that try to fill the memory, beside others that have to be served |
//! | `fairness` | clients that ask for much, and what those beside them lose |
//! | `model` | what may be said, given what the disks hold |
//!
//! Everything between a client's bytes and a disk is the server's own code: HTTP, WebSocket, calls,
//! mailboxes, shards, group commit, subscriptions. One thread moves it all, so a seed gives the
//! same run each time.
//!
//! It leaves out: checkpoints, retention and history, which read files; the control plane, tokens
//! and connectors; the wake-ups between sleeping cores; of an orderly stop all but its beginning.
//!
//! `FLUX_SIMULATION_SEED=7 cargo test --lib simulation::` runs one seed.

mod fairness;
mod hostile;
mod http_client;
mod model;
mod network;
mod streams;
mod system;
mod watcher;
mod world;

use crate::model::{Durability, Slicing};
use world::{Scenario, World};

/// Memory for clients: more than they need here.
const MEMORY_BYTES: usize = 64 * 1024 * 1024;
/// Steps between two crashes.
const STEPS: u32 = 3000;
/// Crashes of a run.
const CRASHES: u32 = 3;
/// Seeds of a test.
const SEEDS: u64 = 24;

fn run(seed: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let scenario = Scenario {
        cores: random.u16(1..=3),
        durability: if random.u32(..4) == 0 {
            Durability::Async
        } else {
            Durability::Sync
        },
        flush_faults_permille: [0, 0, 3, 20][random.usize(..4)],
        segment_faults_permille: [0, 0, 300][random.usize(..3)],
        jobs_percent: [1, 5, 30][random.usize(..3)],
        memory_bytes: MEMORY_BYTES,
        slicing: Slicing::SMALL,
    };
    let mut world = World::new(seed, scenario);
    for _ in 0..CRASHES {
        for _ in 0..random.u32(STEPS / 2..STEPS) {
            world.step();
        }
        if random.bool() {
            world.rest();
        }
        world.crash();
    }
    for _ in 0..STEPS {
        world.step();
    }
    world.rest();
    world.model.checks
}

#[test]
fn a_stop_takes_two_seconds_at_most_whatever_clients_do() {
    for seed in 0..12 {
        let scenario = Scenario {
            cores: 2,
            durability: Durability::Sync,
            flush_faults_permille: 0,
            segment_faults_permille: 0,
            jobs_percent: 5,
            memory_bytes: MEMORY_BYTES,
            slicing: Slicing::SMALL,
        };
        let mut world = World::new(seed, scenario);
        for _ in 0..STEPS {
            world.step();
        }
        assert!(world.stops_within(2_000), "seed {seed}");
    }
}

/// The seeds of a test: the one that was asked for, or all.
#[expect(
    clippy::disallowed_methods,
    reason = "a setting of these tests, not of the server"
)]
fn seeds() -> std::ops::Range<u64> {
    match std::env::var("FLUX_SIMULATION_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("a number");
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    }
}

fn or_say_the_seed<R>(seed: u64, run: impl FnOnce() -> R + std::panic::UnwindSafe) -> R {
    std::panic::catch_unwind(run)
        .unwrap_or_else(|_| panic!("failed with FLUX_SIMULATION_SEED={seed}"))
}

#[test]
fn the_server_says_nothing_false_under_any_seed() {
    let seeds = seeds();
    let least = seeds.end.saturating_sub(seeds.start) * 100;
    let checks: u64 = seeds.map(|seed| or_say_the_seed(seed, || run(seed))).sum();
    assert!(checks > least || least == 100, "it did something: {checks}");
}
