//! The world: cores over files, and clients, moved one step at a time in an order that follows the
//! seed.

use super::link::{Link, Shared};
use super::mind::{Mind, Mode, Wish};
use super::model::Model;
use crate::auth::BrowserPolicy;
use crate::background::ballast::Ballast;
use crate::background::job::{Job, Lane, WorkerResult};
use crate::background::retention::RetentionResult;
use crate::background::{BackgroundConfig, OpenedShard, OpenedStates};
use crate::control::Registry;
use crate::history::{KEY_SCHEME, StoredStates, record_key};
use crate::limits::TICK_MS;
use crate::log::{LocalLog, Log as _};
use crate::model::{DedupWindow, Durability, RuntimeConfig, Timestamp};
use crate::reactor::config::CoreConfig;
use crate::reactor::connection::Timeouts;
use crate::reactor::event_loop::{Core, CoreParts};
use crate::service::{Context, ContextParts, Tenants};
use crate::settings::StorageHousekeeping;
use crate::shard::{self, Counters, Shard};
use crate::simulation::network::connect;
use crate::simulation::system::SimulatedSystem;
use flux_storage::{DataDir, IndexKey, LogDir, LogOptions, ReplayError, Sequence};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// Memory for clients.
const MEMORY_BYTES: usize = 64 * 1024 * 1024;
/// Clients.
const MINDS: usize = 7;
/// Rounds in which the world must come to rest.
const REST_ROUNDS_MAX: u32 = 4000;
/// Quiet rounds after which it is at rest.
const REST_ROUNDS: u32 = 120;
/// Bytes from which on a tight outbox conflates.
const TIGHT_BYTES: usize = 1000;
/// Where files cost least, if there is such a place.
const MEMORY_DIR: &str = "/dev/shm";

/// For how long ids are known.
const DEDUP_WINDOW: DedupWindow = DedupWindow {
    seconds: 600,
    events: 1000,
};

/// What a run is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    /// `sync` durability, else `async`.
    pub(super) is_sync: bool,
    /// Of a hundred steps, how many run a job.
    pub(super) jobs_percent: u32,
    /// Bytes that the logs may take.
    pub(super) retention_bytes: Option<u64>,
    /// Outboxes conflate early.
    pub(super) is_tight: bool,
}

struct SimulatedCore {
    core: Core<SimulatedSystem<LocalLog>>,
    system: SimulatedSystem<LocalLog>,
    is_busy: bool,
    /// The last event that a flush has made durable; of a log that was opened, all that it held.
    durable: Option<Sequence>,
    /// The last event that the model knows.
    known: Sequence,
}

/// See the module.
pub(super) struct World {
    scenario: Scenario,
    random: fastrand::Rng,
    model: Model,
    cores: Vec<SimulatedCore>,
    clients: Vec<(Mind, Option<Link>)>,
    next_value: u64,
    now_micros: u64,
    next_tick_micros: u64,
    root: TempDir,
}

impl World {
    pub(super) fn new(seed: u64, scenario: Scenario) -> Self {
        let root = if Path::new(MEMORY_DIR).is_dir() {
            tempfile::tempdir_in(MEMORY_DIR)
        } else {
            tempfile::tempdir()
        };
        let mut random = fastrand::Rng::with_seed(seed);
        let clients = (0..MINDS).map(|_| (Mind::new(new_wish(&mut random)), None));
        let mut world = Self {
            scenario,
            clients: clients.collect(),
            random,
            model: Model::default(),
            cores: Vec::new(),
            next_value: 0,
            now_micros: 1,
            next_tick_micros: 0,
            root: root.unwrap(),
        };
        world.start();
        world
    }

    pub(super) fn checks(&self) -> u64 {
        self.model.checks
    }

    /// Starts cores, not always as many as before, on what the files hold.
    fn start(&mut self) {
        let before = u16::try_from(self.cores.len()).unwrap();
        self.cores.clear();
        let shards = match before {
            1.. if self.random.u32(..3) > 0 => before,
            _ => self.random.u16(1..=3),
        };
        let options = LogOptions {
            segment_bytes_initial: 8192,
            segment_bytes_max: 65_536,
            index_key: IndexKey {
                scheme: KEY_SCHEME,
                of: record_key,
            },
        };
        let count = u32::from(shards);
        let opened = DataDir::open_covered(self.root.path(), count, options, shard::covered);
        let mut data_dir = opened.unwrap();
        shard::finish_repartition(&data_dir).unwrap();
        let logs: Vec<LogDir> = (0..count).map(|shard| data_dir.take_log(shard)).collect();
        let data_dir = Arc::new(data_dir);
        let counters = Arc::new(Counters::new(usize::from(shards), MEMORY_BYTES));
        let ballast = Arc::new(Ballast::none(Arc::clone(&data_dir)));
        let mailboxes = shard::mailboxes(usize::from(shards) + 1).unwrap();
        for ((core, (inbox, sender)), log) in (0..shards).zip(mailboxes).zip(logs) {
            let seed = self.random.u64(..);
            let system = SimulatedSystem::new(seed, self.now_micros);
            let context = Context::new(ContextParts {
                core,
                shards,
                sender,
                tenants: Tenants {
                    auth: false,
                    admin: None,
                    registry: Registry::default(),
                    new_namespaces: crate::model::Visibility::Public,
                    runtime: RuntimeConfig::default(),
                    browsers: BrowserPolicy::OPEN,
                },
                counters: Arc::clone(&counters),
                encryption_key: None,
                seed,
            });
            let mut running = Core::new(CoreParts {
                system: system.clone(),
                context,
                config: Arc::new(self.config()),
                inbox,
                heartbeat: Arc::default(),
                data_dir: Arc::clone(&data_dir),
                ballast: Arc::clone(&ballast),
                control: None,
            });
            running.hurry();
            let place = (core, shards, self.durability());
            let opening = Arc::clone(&data_dir);
            let run = move || WorkerResult::Opened(Ok(Box::new(open(&opening, log, place, seed))));
            running
                .begin(Job {
                    lane: Lane::Recovery,
                    run: Box::new(run),
                })
                .unwrap();
            self.cores.push(SimulatedCore {
                core: running,
                system,
                is_busy: true,
                durable: None,
                known: Sequence::ZERO,
            });
        }
    }

    fn durability(&self) -> Durability {
        if self.scenario.is_sync {
            Durability::Sync
        } else {
            Durability::Async
        }
    }

    fn config(&self) -> CoreConfig {
        CoreConfig {
            tls: None,
            access: None,
            connections_possible: 1000,
            timeouts: Timeouts {
                head_ms: 20_000,
                body_ms: 20_000,
                idle_ms: 60_000,
                stall_ms: 60_000,
                large_body_ms: u64::MAX,
            },
            background: BackgroundConfig {
                flush_interval_ms: 50,
                housekeeping: StorageHousekeeping {
                    checkpoint_seconds: 3,
                    checkpoint_bytes: 100_000,
                    retention_seconds: None,
                    retention_bytes: self.scenario.retention_bytes,
                },
            },
        }
    }

    /// Takes one step.
    pub(super) fn step(&mut self) {
        let jobs_percent = self.scenario.jobs_percent;
        let core = self.random.usize(..self.cores.len());
        match self.random.u32(..100) {
            0..8 => self.pass_time(),
            percent if percent >= 100 - jobs_percent => {
                let choice = self.random.usize(..100);
                self.run_job(core, choice);
            }
            percent if percent % 2 == 0 => self.turn(core),
            _ => self.move_client(),
        }
    }

    fn pass_time(&mut self) {
        self.now_micros += match self.random.u32(..40) {
            0 => 1_000_000,
            1..10 => 20_000,
            _ => self.random.u64(1..1000),
        };
        let is_tick_due = self.now_micros >= self.next_tick_micros;
        if is_tick_due {
            self.next_tick_micros = self.now_micros + TICK_MS * 1000;
        }
        for core in &self.cores {
            let mut outside = core.system.outside();
            outside.now_micros = self.now_micros;
            outside.is_tick_due |= is_tick_due;
        }
    }

    /// Runs one of the jobs of a core. False if there was none.
    fn run_job(&mut self, core: usize, choice: usize) -> bool {
        let core = &mut self.cores[core];
        let has_run = core.system.run_job(choice);
        if has_run {
            let flushed = core.system.with_last_result(|result| match result {
                WorkerResult::Flushed(_, Ok(flush)) => Some(flush.through()),
                _ => None,
            });
            core.durable = core.durable.max(flushed.flatten());
        }
        has_run
    }

    /// A turn of a core's event loop, and a look at all that it has sent.
    fn turn(&mut self, index: usize) {
        let simulated = &mut self.cores[index];
        if self.scenario.is_tight {
            let connections = &mut simulated.core.connections;
            for index in connections.indexes() {
                let connection = connections.get_mut(index);
                if let Some(feed) = connection.and_then(|it| it.session.feed()) {
                    feed.outbox.limit_direct(TIGHT_BYTES);
                }
            }
        }
        simulated.is_busy = simulated.core.step(simulated.is_busy).unwrap();
        self.learn(false);
        for (_, link) in &mut self.clients {
            if let Some(link) = link {
                link.check(&mut self.model);
            }
        }
    }

    /// The model learns what may be seen, or what was written.
    fn learn(&mut self, is_crash: bool) {
        for simulated in &mut self.cores {
            let Some(shard) = &mut simulated.core.context.router.shard else {
                continue;
            };
            let log = shard.log_mut();
            if simulated.durable.is_none() {
                // Opened just now: what it holds is durable, and the model knows what was written.
                simulated.durable = Some(log.durable());
                simulated.known = log.durable();
            }
            let through = if is_crash || !self.scenario.is_sync {
                log.written()
            } else {
                simulated.durable.unwrap_or_default()
            };
            if through <= simulated.known {
                continue;
            }
            // To read it writes what was appended: that outlives the process then.
            let reader = log.reader(log.appended()).unwrap();
            let through = if is_crash { log.written() } else { through };
            let model = &mut self.model;
            let read: Result<(), ReplayError<Infallible>> =
                reader.read_forward(simulated.known.next(), |record| {
                    if record.sequence > through {
                        return Ok(ControlFlow::Break(()));
                    }
                    model.learn(&record);
                    Ok(ControlFlow::Continue(()))
                });
            read.unwrap();
            simulated.known = through;
        }
        self.model.ends = self.cores.iter().map(|core| core.known).collect();
    }

    fn move_client(&mut self) {
        let index = self.random.usize(..self.clients.len());
        if self.clients[index].1.is_none() {
            if self.random.u32(..4) == 0 {
                self.connect(index);
            }
            return;
        }
        let goes_on = self.with_client(index, true, |mind, link, shared| link.step(mind, shared));
        if !goes_on {
            self.clients[index].1 = None;
            if self.random.u32(..10) == 0 {
                let wish = new_wish(&mut self.random);
                self.clients[index].0 = Mind::new(wish);
            }
        }
    }

    fn connect(&mut self, index: usize) {
        let capacity = match self.random.u32(..3) {
            0 => self.random.usize(1000..10_000),
            1 => 60_000,
            _ => usize::MAX,
        };
        let last = self.random.u8(1..5);
        let address = SocketAddr::from((Ipv4Addr::new(10, 0, 0, last), 1));
        let (server, client) = connect(address, capacity);
        let core = self.random.usize(..self.cores.len());
        self.cores[core].system.outside().waiting.push_back(server);
        self.clients[index].1 = Some(Link::new(client));
    }

    fn with_client<R>(
        &mut self,
        index: usize,
        may_ask: bool,
        act: impl FnOnce(&mut Mind, &mut Link, &mut Shared<'_>) -> R,
    ) -> R {
        let (mind, link) = &mut self.clients[index];
        let mut shared = Shared {
            random: &mut self.random,
            model: &mut self.model,
            next_value: &mut self.next_value,
            may_ask,
        };
        act(mind, link.as_mut().unwrap(), &mut shared)
    }

    /// Lets everything come to its end, and compares what clients hold with the model.
    pub(super) fn rest(&mut self) {
        let mut quiet_rounds = 0;
        for round in 0.. {
            assert!(round < REST_ROUNDS_MAX, "the world does not come to rest");
            self.pass_time();
            for core in 0..self.cores.len() {
                self.turn(core);
                while self.run_job(core, 0) {}
            }
            let mut received = 0;
            for index in 0..self.clients.len() {
                if self.clients[index].1.as_ref().is_none_or(Link::is_over) {
                    self.connect(index);
                }
                received +=
                    self.with_client(index, false, |mind, link, shared| link.settle(mind, shared));
            }
            quiet_rounds = if received == 0 && self.is_at_rest() {
                quiet_rounds + 1
            } else {
                0
            };
            if quiet_rounds > REST_ROUNDS {
                break;
            }
        }
        for (mind, _) in &self.clients {
            mind.check(&mut self.model);
        }
    }

    fn is_at_rest(&self) -> bool {
        let is_settled = |(mind, link): &(Mind, Option<Link>)| {
            let link = link.as_ref().unwrap();
            mind.is_live() && link.is_answered() && !link.has_bytes()
        };
        let is_quiet = |core: &SimulatedCore| {
            core.system
                .is_quiet_but_for(is_retention_that_found_nothing)
        };
        self.clients.iter().all(is_settled) && self.cores.iter().all(is_quiet)
    }

    /// The process ends without a word, and starts again on what its files hold.
    pub(super) fn crash(&mut self) {
        self.learn(true);
        for (_, link) in &mut self.clients {
            *link = None;
        }
        self.start();
    }
}

/// Each core looks once a second for what retention may remove, for ever.
fn is_retention_that_found_nothing(result: &WorkerResult<LocalLog>) -> bool {
    let WorkerResult::Retention(result) = result else {
        return false;
    };
    matches!(
        **result,
        RetentionResult::Chosen(_, Ok(None)) | RetentionResult::SealedRemoved(Ok(0))
    )
}

/// What a start does, as `boot` does it.
fn open(
    data_dir: &DataDir,
    log: LogDir,
    (core, shards, durability): (u16, u16, Durability),
    seed: u64,
) -> OpenedShard<LocalLog> {
    let mut recovered = shard::recover(data_dir, log, (core, shards), &mut |_| ()).unwrap();
    let window = (DEDUP_WINDOW, Timestamp::from_micros(i64::MIN));
    shard::recall_ids(data_dir, &mut recovered, (core, shards), window, &mut || ()).unwrap();
    let bound = recovered.engine.bound_entities();
    OpenedShard {
        shard: Shard::new(recovered.engine, recovered.log, durability, seed)
            .with_earlier(recovered.earlier)
            .with_orphans(bound)
            .with_states(StoredStates {
                base: recovered.base.view(),
                checkpoints: recovered.checkpoints.view(),
            }),
        states: Some(OpenedStates {
            checkpoints: recovered.checkpoints,
            base: recovered.base,
        }),
        through: recovered.through,
    }
}

fn new_wish(random: &mut fastrand::Rng) -> Wish {
    let mode = [Mode::Property, Mode::Entity, Mode::Event][random.usize(..3)];
    let is_event = mode == Mode::Event;
    let pattern = |random: &mut fastrand::Rng| match random.u32(..6) {
        0 | 1 => "*".to_owned(),
        2 | 3 => format!("n{}/*", random.u32(..4)),
        4 => format!("n{}/e1*", random.u32(..4)),
        _ => format!("n{}/e{}", random.u32(..4), random.u32(..3)),
    };
    let mut patterns = vec![pattern(random)];
    if is_event && random.bool() {
        let other = pattern(random);
        if other != patterns[0] {
            patterns.push(other);
        }
    }
    Wish {
        mode,
        patterns,
        properties: (random.u32(..4) == 0).then(|| vec!["a", "s"]),
        is_filtered: !is_event && random.u32(..3) == 0,
        max_hz: (!is_event && random.u32(..3) == 0).then(|| random.u32(1..50)),
        snapshot: mode == Mode::Property || random.bool(),
    }
}
