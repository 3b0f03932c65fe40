//! Live streams under a seed: clients of every mode that stall, break off at any byte and resume,
//! over cores whose logs are files.
//!
//! ```text
//! minds ─bytes─ network ─bytes─ Core<SimulatedSystem<LocalLog>> × n ─ shards ─ files
//!   │                                                                           │
//!   └── what a client holds ──▶ model ◀── every record, once it is durable ─────┘
//! ```
//!
//! | file | job |
//! | --- | --- |
//! | `world` | the schedule: cores, jobs, clocks, crashes, other numbers of shards |
//! | `mind` | what one client holds, over all of its connections |
//! | `link` | one connection of a client: bytes, messages, what it asks for |
//! | `model` | what the logs say: every event, every state |
//!
//! Files are used and not a log in memory, so checkpoints, retention, repartition and the reads of
//! the past are the server's own. The directory is in memory where the system has such a place.
//!
//! - A message is held against the model when the server has sent it: what it names is durable, a
//!   deletion names the event that deleted, and no cursor lies beyond the end of the logs.
//! - At each point of rest every client that follows state holds what the model says, and every
//!   client of events has each of them, in order within a connection.
//!
//! Each of these was broken on purpose, and a default seed noticed it:
//!
//! - The cursor of `caught_up` and `snapshot_end` is one ahead: seed 0, by the end of the logs.
//! - The cursor of `cursor` messages is one ahead: seed 0, by the end of the logs.
//! - A change is pushed before it is durable: seed 0, by what is durable.
//! - The walk of a snapshot does not push what is behind it: seed 0, by the state at rest.
//! - `max_hz` drops the last value: seed 0, by the state at rest.
//! - A removed property is not told of: seed 0, by the state at rest.
//! - The log is taken to be read one event further than it is: seed 0, by the end of the logs.
//! - A deletion is lost if it is conflated: seed 1, by the state at rest.
//! - An event that did not fit the outbox is not read later: seed 1, by the events at rest.
//! - The streams of an ended connection stay: seed 1, by what was not asked for.
//! - What retention removed is passed over: seed 2, by the events at rest.
//! - What was pushed is sent again from the log: seed 3, by an event that comes twice.
//!
//! It leaves out: loss of power (a crash is the death of the process; what was written stays, and
//! what was not is gone), faults of the disk, private namespaces (`tests/revocations.rs`), and
//! whether a snapshot could have been spared when one is sent in place of what `since` asked for.
//!
//! `FLUX_SIMULATION_SEED=7` runs one seed, `FLUX_SIMULATION_SEEDS=1000` so many.

mod link;
mod mind;
mod model;
mod world;

use world::{Scenario, World};

/// Steps between two crashes.
const STEPS: u32 = 2_500;
/// Crashes of a run.
const CRASHES: u32 = 4;
/// Seeds of a test.
const SEEDS: u64 = 6;

fn run(seed: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let scenario = Scenario {
        is_sync: random.u32(..4) > 0,
        jobs_percent: [2, 10, 30][random.usize(..3)],
        retention_bytes: [None, Some(200_000), Some(600_000)][random.usize(..3)],
        is_tight: random.bool(),
    };
    let mut world = World::new(seed, scenario);
    for _ in 0..CRASHES {
        for _ in 0..random.u32(STEPS / 2..STEPS) {
            world.step();
        }
        if random.u32(..3) > 0 {
            world.rest();
        }
        world.crash();
    }
    for _ in 0..STEPS {
        world.step();
    }
    world.rest();
    world.checks()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a setting of this test, not of the server"
)]
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
fn what_clients_of_streams_hold_is_what_the_logs_say_under_any_seed() {
    let seeds = match number("FLUX_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FLUX_SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    let mut checks = 0;
    for seed in seeds {
        let run = std::panic::catch_unwind(|| run(seed));
        checks += run.unwrap_or_else(|_| panic!("failed with FLUX_SIMULATION_SEED={seed}"));
    }
    assert!(checks > count * 100, "it did something: {checks}");
}
