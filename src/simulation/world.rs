//! The world: cores, their disks, and clients, moved one step at a time in an order that follows
//! the seed.

use super::http_client::{HttpClient, Shared};
use super::model::Model;
use super::network::{ClientSocket, connect};
use super::system::SimulatedSystem;
use super::watcher::Watcher;
use crate::auth::BrowserPolicy;
use crate::background::ballast::Ballast;
use crate::background::job::{Job, Lane, WorkerResult};
use crate::background::{BackgroundConfig, OpenedShard};
use crate::control::Registry;
use crate::engine::{Engine, RecentIds, replay_record};
use crate::limits::TICK_MS;
use crate::log::{Faults, Log as _, MemoryDisk, MemoryLog};
use crate::model::Slicing;
use crate::model::{DedupWindow, Durability, RuntimeConfig, Timestamp};
use crate::reactor::config::CoreConfig;
use crate::reactor::connection::Timeouts;
use crate::reactor::event_loop::{Core, CoreParts};
use crate::service::{Context, ContextParts, Tenants};
use crate::settings::StorageHousekeeping;
use crate::shard::{self, Counters, Shard};
use flux_storage::{DataDir, IndexKey, LogOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tempfile::TempDir;

/// Clients at a time.
const CLIENTS_MAX: usize = 10;
/// Steps in which the world must come to rest.
const REST_STEPS_MAX: u32 = 4000;

/// What a run is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    pub(super) cores: u16,
    pub(super) durability: Durability,
    /// Of a thousand flushes, how many fail.
    pub(super) flush_faults_permille: u32,
    /// Of a thousand preparations of segments, how many find the disk full.
    pub(super) segment_faults_permille: u32,
    /// Of a hundred steps, how many run a job: the fewer, the more flushes lag.
    pub(super) jobs_percent: u32,
    /// Memory for clients.
    pub(super) memory_bytes: usize,
    /// How much is done in one go.
    pub(super) slicing: Slicing,
}

enum Client {
    Http(HttpClient),
    Watcher(Watcher),
}

struct SimulatedCore {
    core: Core<SimulatedSystem<MemoryLog>>,
    system: SimulatedSystem<MemoryLog>,
    is_busy: bool,
}

/// See the module.
pub(super) struct World {
    scenario: Scenario,
    random: fastrand::Rng,
    pub(super) model: Model,
    disks: Vec<MemoryDisk>,
    cores: Vec<SimulatedCore>,
    /// What the cores know of each other.
    counters: Arc<Counters>,
    clients: Vec<Client>,
    next_value: u64,
    step: u64,
    now_micros: u64,
    next_tick_micros: u64,
    data_dir: Arc<DataDir>,
    _root: TempDir,
}

impl World {
    pub(super) fn new(seed: u64, scenario: Scenario) -> Self {
        let root = tempfile::tempdir().unwrap();
        let options = LogOptions {
            segment_bytes_initial: 8192,
            segment_bytes_max: 8192,
            index_key: IndexKey::NONE,
        };
        let data_dir = DataDir::open(root.path(), u32::from(scenario.cores), options).unwrap();
        let disks = (0..scenario.cores).map(|core| {
            let faults = Faults {
                flushes_permille: scenario.flush_faults_permille,
                segments_permille: scenario.segment_faults_permille,
                segment_records: Some(20..=200),
                ..Faults::default()
            };
            MemoryDisk::new(seed.wrapping_mul(31) + u64::from(core), faults)
        });
        let mut world = Self {
            scenario,
            random: fastrand::Rng::with_seed(seed),
            model: Model::new(scenario.cores),
            disks: disks.collect(),
            cores: Vec::new(),
            counters: Arc::new(Counters::new(0, scenario.memory_bytes)),
            clients: Vec::new(),
            next_value: 0,
            step: 0,
            now_micros: 1,
            next_tick_micros: 0,
            data_dir: Arc::new(data_dir),
            _root: root,
        };
        world.start();
        world
    }

    /// Starts the cores on what their disks hold.
    fn start(&mut self) {
        let Scenario {
            cores,
            memory_bytes,
            ..
        } = self.scenario;
        self.counters = Arc::new(Counters::new(usize::from(cores), memory_bytes));
        let ballast = Arc::new(Ballast::none(Arc::clone(&self.data_dir)));
        let mailboxes = shard::mailboxes(usize::from(cores) + 1).unwrap();
        for ((core, (inbox, sender)), disk) in (0..cores).zip(mailboxes).zip(&self.disks) {
            let seed = self.random.u64(..);
            let system = SimulatedSystem::new(seed, self.now_micros);
            let mut context = Context::new(ContextParts {
                core,
                shards: cores,
                sender,
                tenants: Tenants {
                    auth: false,
                    admin: None,
                    registry: Registry::default(),
                    new_namespaces: crate::model::Visibility::Public,
                    runtime: RuntimeConfig::default(),
                    browsers: BrowserPolicy::OPEN,
                },
                counters: Arc::clone(&self.counters),
                encryption_key: None,
                seed,
            });
            context.slicing = self.scenario.slicing;
            let mut running = Core::new(CoreParts {
                system: system.clone(),
                context,
                config: Arc::new(config()),
                inbox,
                heartbeat: Arc::default(),
                data_dir: Arc::clone(&self.data_dir),
                ballast: Arc::clone(&ballast),
                control: None,
            });
            let (disk, scenario) = (disk.clone(), self.scenario);
            let recovery = Job {
                lane: Lane::Recovery,
                run: Box::new(move || {
                    WorkerResult::Opened(Ok(Box::new(recover(disk, scenario, seed))))
                }),
            };
            running.begin(recovery).unwrap();
            self.cores.push(SimulatedCore {
                core: running,
                system,
                is_busy: true,
            });
        }
    }

    /// Takes one step.
    pub(super) fn step(&mut self) {
        self.step += 1;
        let jobs_percent = self.scenario.jobs_percent;
        match self.random.u32(..100) {
            0..3 if self.clients.len() < CLIENTS_MAX => self.connect(),
            0..10 => self.pass_time(),
            percent if percent >= 100 - jobs_percent => {
                let core = self.random.usize(..self.cores.len());
                let choice = self.random.usize(..100);
                self.cores[core].system.run_job(choice);
            }
            percent if percent % 2 == 0 => {
                let core = self.random.usize(..self.cores.len());
                self.turn(core);
            }
            _ => self.move_client(),
        }
    }

    fn pass_time(&mut self) {
        let micros = match self.random.u32(..50) {
            0 => 1_000_000,
            1..10 => 10_000,
            _ => self.random.u64(1..500),
        };
        self.pass(micros);
    }

    fn pass(&mut self, micros: u64) {
        self.now_micros += micros;
        let is_tick_due = self.now_micros >= self.next_tick_micros;
        if is_tick_due {
            self.next_tick_micros = self.now_micros + TICK_MS * 1000;
        }
        let step_back = self.random.u32(..200) == 0;
        for core in &self.cores {
            let mut outside = core.system.outside();
            outside.now_micros = self.now_micros;
            outside.is_tick_due |= is_tick_due;
            if step_back {
                outside.wall_offset_micros -= 3_000_000;
            }
        }
    }

    fn connect(&mut self) {
        let is_watcher = self.random.u32(..3) == 0;
        let capacity = match self.random.u32(..3) {
            0 => self.random.usize(1000..10_000),
            _ => usize::MAX,
        };
        let last = self.random.u8(1..5);
        let client = self.connect_from(Ipv4Addr::new(10, 0, 0, last), capacity);
        self.clients.push(if is_watcher {
            Client::Watcher(Watcher::new(client, capacity != usize::MAX))
        } else {
            Client::Http(HttpClient::new(client, self.scenario.cores))
        });
    }

    /// A connection from an address, to any core.
    pub(super) fn connect_from(&mut self, address: Ipv4Addr, capacity: usize) -> ClientSocket {
        let (server, client) = connect(SocketAddr::from((address, 1)), capacity);
        let core = self.random.usize(..self.cores.len());
        self.cores[core].system.outside().waiting.push_back(server);
        client
    }

    /// A turn of each core's event loop, some of the jobs, and as much time. Nothing is looked at.
    pub(super) fn round(&mut self, micros: u64) {
        self.pass(micros);
        for index in 0..self.cores.len() {
            let simulated = &mut self.cores[index];
            simulated.is_busy = simulated.core.step(simulated.is_busy).unwrap();
            if self.random.u32(..100) < self.scenario.jobs_percent {
                while simulated.system.run_job(0) {}
            }
        }
    }

    /// The cores.
    pub(super) fn cores(&self) -> impl Iterator<Item = &Core<SimulatedSystem<MemoryLog>>> {
        self.cores.iter().map(|it| &it.core)
    }

    /// A turn of a core's event loop, and a look at all that it has sent.
    fn turn(&mut self, index: usize) {
        let simulated = &mut self.cores[index];
        simulated.is_busy = simulated.core.step(simulated.is_busy).unwrap();
        let is_sync = self.scenario.durability == Durability::Sync;
        for (shard, disk) in self.disks.iter().enumerate() {
            let records = disk.records_after(self.model.known(shard));
            let visible = if is_sync {
                disk.durable()
            } else {
                self.model.known(shard) + records.len() as u64
            };
            self.model.learn(shard, &records, visible);
        }
        for index in 0..self.clients.len() {
            self.with_client(index, true, |client, shared| match client {
                Client::Http(client) => client.check(shared),
                Client::Watcher(watcher) => watcher.check(shared),
            });
        }
    }

    fn move_client(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let index = self.random.usize(..self.clients.len());
        let goes_on = self.with_client(index, true, |client, shared| match client {
            Client::Http(client) => client.step(shared),
            Client::Watcher(watcher) => watcher.step(shared),
        });
        if !goes_on {
            self.clients.swap_remove(index);
        }
    }

    fn with_client<R>(
        &mut self,
        index: usize,
        may_ask: bool,
        act: impl FnOnce(&mut Client, &mut Shared<'_>) -> R,
    ) -> R {
        let mut shared = Shared {
            random: &mut self.random,
            model: &mut self.model,
            next_value: &mut self.next_value,
            step: self.step,
            may_ask,
        };
        act(&mut self.clients[index], &mut shared)
    }

    /// Lets everything come to its end: all that was asked is answered, and all that happened is
    /// pushed.
    pub(super) fn rest(&mut self) {
        let mut quiet_rounds = 0;
        for round in 0.. {
            assert!(round < REST_STEPS_MAX, "the world does not come to rest");
            self.step += 1;
            self.pass_time();
            for core in 0..self.cores.len() {
                self.turn(core);
                while self.cores[core].system.run_job(0) {}
            }
            let mut received = 0;
            for index in 0..self.clients.len() {
                received += self.with_client(index, false, |client, _| match client {
                    Client::Http(client) => client.settle(),
                    Client::Watcher(watcher) => watcher.settle(),
                });
            }
            // A slow reader's next bytes leave only after its last ones were read.
            quiet_rounds = if received == 0 && self.is_at_rest() {
                quiet_rounds + 1
            } else {
                0
            };
            if quiet_rounds > 100 {
                break;
            }
        }
        let has_failed = self.cores.iter().any(|it| it.core.has_failed());
        for index in 0..self.clients.len() {
            self.with_client(index, false, |client, shared| {
                if let Client::Watcher(watcher) = client {
                    watcher.end(shared, !has_failed);
                }
            });
        }
        self.clients.clear();
    }

    /// The process is told to stop. True if its cores may end after so many milliseconds in which
    /// no client does anything.
    pub(super) fn stops_within(&mut self, ms: u64) -> bool {
        self.counters.stop();
        let until = self.now_micros + ms * 1000;
        while self.now_micros < until {
            self.pass(5_000);
            for core in 0..self.cores.len() {
                self.turn(core);
                while self.cores[core].system.run_job(0) {}
            }
        }
        self.cores.iter_mut().all(|it| it.core.is_drained())
    }

    fn is_at_rest(&self) -> bool {
        let clients = self.clients.iter().all(|client| match client {
            Client::Http(client) => client.is_settled(),
            Client::Watcher(watcher) => watcher.is_settled(),
        });
        clients && self.cores.iter().all(|core| core.system.is_quiet())
    }

    /// The process ends without a word, and starts again on what its disks have kept.
    pub(super) fn crash(&mut self) {
        for index in 0..self.clients.len() {
            self.with_client(index, false, |client, shared| {
                if let Client::Watcher(watcher) = client {
                    watcher.end(shared, false);
                }
            });
        }
        self.clients.clear();
        self.cores.clear();
        // In `async` durability a power cut loses what was acknowledged, as it says.
        let is_sync = self.scenario.durability == Durability::Sync;
        let cuts_power = is_sync && self.random.bool();
        for (shard, disk) in self.disks.iter().enumerate() {
            if cuts_power {
                disk.cut_power();
            }
            self.model.recover(shard, &disk.records_after(0));
        }
        self.start();
    }
}

fn config() -> CoreConfig {
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
                checkpoint_seconds: u64::MAX / 2000,
                checkpoint_bytes: u64::MAX,
                retention_seconds: None,
                retention_bytes: None,
            },
        },
    }
}

/// For how long ids are known.
const DEDUP_WINDOW: DedupWindow = DedupWindow {
    seconds: 600,
    events: 1000,
};

/// What a start does with a log that has no checkpoint.
fn recover(disk: MemoryDisk, scenario: Scenario, seed: u64) -> OpenedShard<MemoryLog> {
    let mut engine = Engine::default();
    let opened = MemoryLog::open(disk, |record| replay_record(&mut engine, &record, 0, 1));
    let mut log = opened.unwrap();
    let ids = RecentIds::new(DEDUP_WINDOW);
    engine
        .remember_ids(&mut log, ids, Timestamp::from_micros(i64::MIN), &mut || ())
        .unwrap();
    let through = log.durable();
    OpenedShard {
        shard: Shard::new(engine, log, scenario.durability, seed).with_slicing(scenario.slicing),
        states: None,
        through,
    }
}
