//! From settings to a running server, and from a signal to its end.

use super::allocator::AllocatorKeeper;
use super::announce;
use super::connectors_thread::ConnectorsThread;
use super::data_dir::{open_control, open_data_dir};
use super::listening::Listening;
use super::memory;
use super::preflight;
use super::process_sampler::ProcessSampler;
use super::start_error::{StartError, system};
use super::systemd::Systemd;
use super::tls::Tls;
use crate::auth::{AllowedHosts, AllowedOrigins, BrowserPolicy, EncryptionKey, Scheme, TokenHash};
use crate::background::ballast::Ballast;
use crate::background::job::{Job, Lane, WorkerResult};
use crate::background::{BackgroundConfig, OpenedShard, OpenedStates, throttle};
use crate::clock::{self, Monotonic};
use crate::connectors::{self, SupervisorParts};
use crate::control::{ControlStore, Registry};
use crate::history::StoredStates;
use crate::limits::{DESCRIPTORS_PER_SHARD, DESCRIPTORS_RESERVED, RECOVERY_REPORT_SECONDS};
use crate::log::LocalLog;
use crate::model::{DedupWindow, Durability, RuntimeConfig};
use crate::reactor::config::CoreConfig;
use crate::reactor::connection::Timeouts;
use crate::reactor::event_loop::{Core, CoreParts};
use crate::reactor::kernel::Kernel;
use crate::reactor::runtime::{self, Running, Runtime};
use crate::reactor::watchdog::{Heartbeat, Watchdog};
use crate::report::{self, AccessWriter, LogEvent};
use crate::service::{Context, ContextParts, Tenants};
use crate::settings::{Origins, Settings};
use crate::shard::Counters;
use crate::shard::{self, Inbox, MailboxSender, Recovered, RecoveryProgress, Shard};
use flux_storage::{DataDir, LogDir};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};

/// What ends a server.
enum End {
    /// SIGTERM or SIGINT.
    Signal,
    /// A core's executor has returned.
    Core,
}

/// Runs a server until it is told to stop. Returns when everything is flushed.
///
/// A checkpoint that turns out to be damaged while the server runs ends every connection and starts
/// the server anew within the process: it recovers as any start does, with what is damaged set
/// aside.
///
/// # Errors
/// [`StartError`]; once it runs, only if a core fails.
pub fn run(settings: &Settings) -> Result<(), StartError> {
    report::serve();
    let (ended, end) = channel();
    let tls = settings.tls.as_ref().map(Tls::read).transpose()?;
    let access = AccessWriter::start(&settings.access_log);
    let access = access.map_err(|source| StartError::AccessLog { source })?;
    let machine = Machine::check(settings, tls.as_ref(), access.as_ref())?;
    let systemd = Systemd::find();
    let watching = watch_signals(ended.clone(), tls, systemd.clone());
    watching.map_err(system("watch for signals"))?;
    let mut port = settings.port;
    loop {
        let listening = Listening::claim(settings, port)?;
        port = listening.port().unwrap_or(port);
        match serve((settings, &systemd), &machine, listening, (&ended, &end))? {
            Outcome::Stopped => return Ok(()),
            Outcome::Rebuild => report::say(
                LogEvent::Restarting,
                "starting anew, to rebuild the state from the log",
            ),
        }
    }
}

/// How a server ended that did not fail.
enum Outcome {
    /// It was told to.
    Stopped,
    /// Its state has to be made anew.
    Rebuild,
}

/// What the machine gives.
struct Machine {
    cpus: Vec<usize>,
    /// What runs the cores.
    runtime: Runtime,
    shards: u16,
    config: Arc<CoreConfig>,
    /// Memory for clients.
    memory_bytes: usize,
    /// What a success promises.
    durability: Durability,
    /// For how long the ids of events are known.
    dedup: DedupWindow,
    /// Writes need a token.
    auth: bool,
    /// What is kept of the operator's token.
    admin: Option<TokenHash>,
    /// What connectors' credentials are encrypted with.
    encryption_key: Option<EncryptionKey>,
}

impl Machine {
    fn check(
        settings: &Settings,
        tls: Option<&Tls>,
        access: Option<&AccessWriter>,
    ) -> Result<Self, StartError> {
        let (cpus, allowed) =
            preflight::allowed_cpus().map_err(system("read the processor affinity"))?;
        let runtime = preflight::choose_runtime(cpus.first().copied().unwrap_or(0))?;
        throttle::set_helper_cpus(allowed);
        let descriptors = preflight::raise_descriptor_limit();
        let shards = settings.shards.unwrap_or_else(preflight::default_shards);
        let reserved = DESCRIPTORS_RESERVED + DESCRIPTORS_PER_SHARD * u64::from(shards);
        let connections_possible = descriptors.saturating_sub(reserved).max(1);
        let config = Arc::new(CoreConfig {
            connections_possible: u32::try_from(connections_possible).unwrap_or(u32::MAX),
            timeouts: Timeouts {
                head_ms: settings.head_timeout_seconds * 1000,
                body_ms: settings.body_timeout_seconds * 1000,
                idle_ms: settings.idle_timeout_seconds * 1000,
                stall_ms: settings.stall_timeout_seconds * 1000,
                large_body_ms: u64::MAX,
            },
            tls: tls.map(Tls::identity),
            access: access.map(AccessWriter::log),
            background: BackgroundConfig {
                flush_interval_ms: settings.flush_interval_ms,
                housekeeping: settings.housekeeping,
            },
        });
        let (admin, key) = (&settings.admin_token, &settings.encryption_key);
        Ok(Self {
            cpus,
            runtime,
            shards,
            config,
            memory_bytes: settings.memory_bytes.unwrap_or_else(memory::default_bytes),
            durability: settings.durability,
            dedup: settings.dedup,
            auth: settings.auth,
            admin: admin
                .as_ref()
                .map(|token| TokenHash::of(token.reveal().as_bytes())),
            encryption_key: key
                .as_ref()
                .and_then(|key| EncryptionKey::parse(key.reveal())),
        })
    }

    /// Who may do what at the start.
    fn tenants(&self, settings: &Settings, registry: &Registry) -> Tenants {
        Tenants {
            auth: self.auth,
            admin: self.admin,
            registry: registry.clone(),
            new_namespaces: settings.new_namespaces,
            runtime: configured(settings, registry),
            browsers: browsers(settings),
        }
    }

    /// What all cores know of each other.
    fn counters(&self, settings: &Settings) -> Arc<Counters> {
        let counters = Counters::new(usize::from(self.shards), self.memory_bytes);
        let counters = counters.with_durability(self.durability);
        Arc::new(counters.with_registrations(settings.registrations_per_address_max))
    }

    /// The processor of a core.
    fn cpu(&self, core: u16) -> usize {
        let index = usize::from(core) % self.cpus.len().max(1);
        self.cpus.get(index).copied().unwrap_or(0)
    }
}

#[expect(clippy::large_stack_frames, reason = "once for each start")]
fn serve(
    (settings, systemd): (&Settings, &Systemd),
    machine: &Machine,
    mut listening: Listening,
    (ended, end): (&Sender<End>, &Receiver<End>),
) -> Result<Outcome, StartError> {
    let shards = machine.shards;
    if has_signal(end) {
        return Ok(Outcome::Stopped);
    }
    let mut data_dir = open_data_dir(settings, shards)?;
    let numbers = 0..u32::from(shards);
    let logs: Vec<LogDir> = numbers.map(|shard| data_dir.take_log(shard)).collect();
    let data_dir = Arc::new(data_dir);
    let ballast = Arc::new(Ballast::make(Arc::clone(&data_dir)));
    let (store, registry) = open_control(settings, &data_dir)?;
    if has_signal(end) {
        return Ok(Outcome::Stopped);
    }
    let tenants = machine.tenants(settings, &registry);
    let mut store = Some(store);
    let counters = machine.counters(settings);
    let mut mailboxes =
        shard::mailboxes(usize::from(shards) + 1).map_err(system("make the cores' mailboxes"))?;
    let connectors = start_connectors(
        (settings, machine),
        mailboxes.pop(),
        (&registry, &counters),
        ended.clone(),
    )?;
    let heartbeats: Vec<_> = (0..shards).map(|_| Arc::<Heartbeat>::default()).collect();
    let mut executors = Vec::new();
    for ((core, log), (inbox, sender)) in (0..shards).zip(logs).zip(mailboxes) {
        let listeners = listening.for_core()?;
        let start = CoreStart {
            core,
            shards,
            log,
            inbox,
            sender,
            listeners,
            ballast: Arc::clone(&ballast),
            heartbeat: Arc::clone(&heartbeats[usize::from(core)]),
            data_dir: Arc::clone(&data_dir),
            counters: Arc::clone(&counters),
            config: Arc::clone(&machine.config),
            durability: machine.durability,
            dedup: machine.dedup,
            tenants: tenants.clone(),
            encryption_key: machine.encryption_key.clone(),
            control: store.take(),
            ended: ended.clone(),
        };
        let executor = start.spawn(machine.runtime, machine.cpu(core));
        executors.push(executor.map_err(system("start a core's thread"))?);
    }
    let name = announce::start(settings, (listening.addresses(), shards));
    let telling = systemd.tell_of(&counters, &heartbeats, name);
    let telling = telling.map_err(system("start the thread that tells systemd"))?;
    let observers = observe(settings, heartbeats, &counters)?;
    let ended = wait_for_end((end, systemd), &counters, executors);
    drop((observers, telling));
    let signalled = ended?;
    // After the cores, which may wait for its answers.
    connectors.end().map_err(system("run connectors"))?;
    if counters.is_rebuilding() && !signalled && !has_signal(end) {
        Ok(Outcome::Rebuild)
    } else {
        Ok(Outcome::Stopped)
    }
}

/// Starts the threads that look on.
fn observe(
    settings: &Settings,
    heartbeats: Vec<Arc<Heartbeat>>,
    counters: &Arc<Counters>,
) -> Result<(Watchdog, ProcessSampler, AllocatorKeeper), StartError> {
    let watchdog = Watchdog::start(heartbeats).map_err(system("start the watchdog"))?;
    let sampler = ProcessSampler::start(Arc::clone(counters), &settings.data_dir)
        .map_err(system("start the thread that asks about the process"))?;
    let keeper = AllocatorKeeper::start(Arc::clone(counters))
        .map_err(system("start the thread that gives memory back"))?;
    Ok((watchdog, sampler, keeper))
}

/// Serves until the server is to stop, and waits for its cores. True if a signal was the reason.
fn wait_for_end(
    (end, systemd): (&Receiver<End>, &Systemd),
    counters: &Counters,
    executors: Vec<Running>,
) -> Result<bool, StartError> {
    let signalled = matches!(end.recv(), Ok(End::Signal));
    if signalled {
        report::say(LogEvent::Stopping, "stopping");
        systemd.stopping();
    }
    counters.stop();
    join(executors)?;
    report::say_rest();
    if let Some(failures) = counters.strangers.take_rest() {
        report::say(LogEvent::TokenGuesses, &failures.to_string());
    }
    Ok(signalled)
}

/// True if there was a signal. Forgets what ended before.
fn has_signal(end: &Receiver<End>) -> bool {
    let signalled = end.try_iter().any(|event| matches!(event, End::Signal));
    if signalled {
        report::say(LogEvent::Stopping, "stopping");
    }
    signalled
}

/// The configuration that a server begins with.
fn configured(settings: &Settings, registry: &Registry) -> RuntimeConfig {
    RuntimeConfig::default()
        .with(&settings.configured)
        .with(registry.config())
        .with(&settings.overriding)
}

/// Starts the thread of connectors, which is the last member of the mailboxes.
fn start_connectors(
    (settings, machine): (&Settings, &Machine),
    mailbox: Option<(Inbox, MailboxSender)>,
    (registry, counters): (&Registry, &Arc<Counters>),
    ended: Sender<End>,
) -> Result<ConnectorsThread, StartError> {
    let allowed = Arc::clone(&settings.connectors_allow_addresses);
    let (poller, link) = connectors::poller(allowed, Arc::clone(counters));
    let parts = mailbox.map(|(inbox, sender)| SupervisorParts {
        core: machine.shards,
        inbox,
        sender,
        registry: registry.clone(),
        key: machine.encryption_key.clone(),
        auth: settings.auth,
        allow_private: settings.connectors_allow_private,
        github: settings.github_url.clone(),
        counters: Arc::clone(counters),
        poller: link,
    });
    let started = ConnectorsThread::start(parts, poller, EndGuard(ended));
    started.map_err(system("start the connectors' thread"))
}

/// How the server is asked.
fn scheme(settings: &Settings) -> Scheme {
    if settings.tls.is_some() {
        Scheme::Https
    } else {
        Scheme::Http
    }
}

/// Which web pages may reach the server, and by which names.
fn browsers(settings: &Settings) -> BrowserPolicy {
    let given = &settings.browsers;
    BrowserPolicy {
        origins: match &given.allowed_origins {
            Some(Origins::Any) => AllowedOrigins::Any,
            Some(Origins::Listed(listed)) => AllowedOrigins::Listed(Arc::clone(listed)),
            None if settings.auth => AllowedOrigins::Any,
            None => AllowedOrigins::LoopbackAndOwn,
        },
        hosts: if settings.auth || given.open {
            AllowedHosts::Any
        } else {
            AllowedHosts::AddressesAnd(Arc::clone(&given.allowed_hosts))
        },
        scheme: scheme(settings),
        dashboard: given.dashboard,
    }
}

/// What a core's thread is started with.
struct CoreStart {
    core: u16,
    shards: u16,
    log: LogDir,
    inbox: Inbox,
    sender: MailboxSender,
    listeners: Vec<TcpListener>,
    data_dir: Arc<DataDir>,
    ballast: Arc<Ballast>,
    heartbeat: Arc<Heartbeat>,
    counters: Arc<Counters>,
    config: Arc<CoreConfig>,
    durability: Durability,
    dedup: DedupWindow,
    tenants: Tenants,
    encryption_key: Option<EncryptionKey>,
    /// Core 0's.
    control: Option<ControlStore>,
    ended: Sender<End>,
}

/// Says that a core has ended, however it did.
struct EndGuard(Sender<End>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        match self.0.send(End::Core) {
            // Nobody waits any more: the process is ending.
            Ok(()) | Err(_) => {}
        }
    }
}

impl CoreStart {
    #[expect(clippy::large_stack_frames, reason = "once for each core, at start")]
    fn spawn(self, runtime: Runtime, cpu: usize) -> io::Result<Running> {
        let name = format!("flux-{}", self.core);
        runtime.spawn(&name, cpu, move || {
            let _ended = EndGuard(self.ended.clone());
            let (core, recovery) = self.build()?;
            core.run(recovery)
        })
    }

    #[expect(clippy::large_stack_frames, reason = "once for each core, at start")]
    fn build(self) -> io::Result<(Core<Kernel>, Job<LocalLog>)> {
        let Self {
            core, shards, log, ..
        } = self;
        let seed = RandomState::new().hash_one(core);
        let (durability, dedup) = (self.durability, self.dedup);
        let (data_dir, counters) = (Arc::clone(&self.data_dir), Arc::clone(&self.counters));
        let open = move || {
            let mut recovered = recover(&data_dir, log, (core, shards), &counters)?;
            let window = (dedup, clock::now());
            let own = counters.of(core);
            let seen = &mut || own.note_recalled();
            shard::recall_ids(&data_dir, &mut recovered, (core, shards), window, seen)
                .map_err(io::Error::other)?;
            let bound = recovered.engine.bound_entities();
            let Recovered {
                engine,
                log,
                earlier,
                ..
            } = recovered;
            Ok(Box::new(OpenedShard {
                shard: Shard::new(engine, log, durability, seed.rotate_left(32))
                    .with_earlier(earlier)
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
            }))
        };
        let recovery = Job {
            lane: Lane::Recovery,
            run: Box::new(move || WorkerResult::Opened(open())),
        };
        let context = Context::new(ContextParts {
            core,
            shards,
            sender: self.sender,
            tenants: self.tenants,
            counters: self.counters,
            encryption_key: self.encryption_key,
            seed,
        });
        let parts = CoreParts {
            system: Kernel::new(core, &self.inbox, self.listeners)?,
            context,
            config: self.config,
            inbox: self.inbox,
            data_dir: self.data_dir,
            ballast: self.ballast,
            heartbeat: self.heartbeat,
            control: self.control,
        };
        Ok((Core::new(parts), recovery))
    }
}

/// Recovers a core's shard, says what was found, and shows how far it has come.
#[expect(clippy::large_stack_frames, reason = "once for each core, at start")]
fn recover(
    data_dir: &DataDir,
    log: LogDir,
    (core, shards): (u16, u16),
    counters: &Counters,
) -> io::Result<Recovered> {
    let clock = Monotonic::start();
    let mut reported_seconds = 0;
    let mut progress = |progress: RecoveryProgress| {
        counters.of(core).note_recovery(progress);
        let seconds = clock.millis() / 1000;
        if seconds >= reported_seconds + RECOVERY_REPORT_SECONDS {
            reported_seconds = seconds;
            report::say_with(
                LogEvent::RecoveryProgress,
                &[("shard", core.into())],
                &format!(
                    "shard {core}: {} events replayed, {} of {} MiB of its log",
                    progress.events,
                    progress.bytes >> 20,
                    progress.bytes_total >> 20,
                ),
            );
        }
    };
    let recovered = shard::recover(data_dir, log, (core, shards), &mut progress);
    let recovered = recovered.map_err(io::Error::other)?;
    for quarantined in &recovered.quarantined {
        report::say_with(
            LogEvent::CheckpointUnused,
            &[("shard", core.into())],
            &format!(
                "shard {core}: checkpoint not used: {}{}; the state is made from the log instead",
                quarantined.error,
                match &quarantined.moved_to {
                    Some(path) => format!("; it is kept as {}", path.display()),
                    None => String::new(),
                }
            ),
        );
    }
    if let Some(tail) = &recovered.recovery.cut {
        report::say_with(
            LogEvent::LogTailCut,
            &[("shard", core.into())],
            &format!(
                "shard {core}: cut {} bytes that no flush had covered off the end of {}",
                tail.bytes,
                tail.path.display()
            ),
        );
    }
    if recovered.engine.lost() > 0 {
        report::say_with(
            LogEvent::EventsMissing,
            &[("shard", core.into())],
            &format!(
                "shard {core}: {} events are missing, which an earlier `flux log repair` replaced by gaps",
                recovered.engine.lost()
            ),
        );
    }
    report::say_with(
        LogEvent::ShardReady,
        &[("shard", core.into())],
        &format!(
            "shard {core}: ready after {} ms, {} entities, {} events replayed",
            clock.millis(),
            recovered.engine.entities(),
            counters.of(core).replayed_events.load(Relaxed),
        ),
    );
    Ok(recovered)
}

fn watch_signals(ended: Sender<End>, tls: Option<Tls>, systemd: Systemd) -> io::Result<()> {
    // With a handler, a file size limit is an error of the write instead of the end of the process.
    let exceeded = Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(SIGXFSZ, exceeded)?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])?;
    let thread = std::thread::Builder::new().name("signals".to_owned());
    let watching = thread.spawn(move || {
        for signal in signals.forever() {
            // What others take for "read your settings again", or a terminal sends when it closes,
            // ends no server by mistake.
            let ignored = match signal {
                SIGHUP => match &tls {
                    Some(tls) => {
                        systemd.reloading(|| tls.read_again());
                        continue;
                    }
                    None => Some("SIGHUP"),
                },
                SIGUSR1 => Some("SIGUSR1"),
                SIGUSR2 => Some("SIGUSR2"),
                _ => None,
            };
            if let Some(name) = ignored {
                report::say(
                    LogEvent::SignalIgnored,
                    &format!("{name} means nothing to the server and is ignored"),
                );
            } else if ended.send(End::Signal).is_err() {
                return;
            }
        }
    });
    watching.map(drop)
}

fn join(executors: Vec<Running>) -> Result<(), StartError> {
    let mut first = Ok(());
    for (core, executor) in executors.into_iter().enumerate() {
        if let Err(error) = runtime::join(executor)
            && first.is_ok()
        {
            first = Err(StartError::Core(format!("shard {core}: {error}")));
        }
    }
    first
}
