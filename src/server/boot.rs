//! From settings to a running server, and from a signal to its end.

use super::config::Config;
use super::connection::Timeouts;
use super::core::{Core, CoreParts, Opening};
use super::hub::{Hub, HubParts};
use super::preflight::{self, MissingFeature};
use super::runtime::{self, Executor};
use super::shared::Shared;
use super::sockets;
use crate::limits::{DESCRIPTORS_PER_SHARD, DESCRIPTORS_RESERVED};
use crate::report;
use crate::settings::Settings;
use crate::shard::{self, Inbox, Postbox, Shard};
use flux_storage::{DataDir, Log, LogDir, LogOptions, StorageError};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

/// The shard of a core, replayed.
pub(super) type OpenShard = Shard<Log>;

/// Why the server did not start. Each message says what and, where that helps, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The machine lacks something.
    #[error(transparent)]
    Machine(#[from] MissingFeature),
    /// The port is taken.
    #[error("{address} is in use by another program: stop it, or choose another port with --port")]
    PortTaken {
        /// Address and port.
        address: SocketAddr,
    },
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// Address and port.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another server has the data directory.
    #[error("{0}: stop it, or choose another directory with --data-dir")]
    Locked(Box<StorageError>),
    /// The data directory can't be used.
    #[error("can't use the data directory {}: {source}", path.display())]
    DataDir {
        /// The directory.
        path: Box<std::path::Path>,
        /// What the storage found.
        source: Box<StorageError>,
    },
    /// A core ended with an error.
    #[error("{0}")]
    Core(String),
    /// The operating system refused something that the server can't do without.
    #[error("can't {attempt}: {source}")]
    System {
        /// What was attempted.
        attempt: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

/// What ends a server.
enum End {
    /// SIGTERM or SIGINT.
    Signal,
    /// A core's executor has returned.
    Core,
}

/// Runs a server until it is told to stop. Returns when everything is flushed.
///
/// # Errors
/// [`StartError`]; once it runs, only where a core fails.
pub fn run(settings: &Settings) -> Result<(), StartError> {
    let system = |attempt| move |source| StartError::System { attempt, source };
    let (cpus, allowed) =
        preflight::allowed_cpus().map_err(system("read the processor affinity"))?;
    let first_cpu = cpus.first().copied().unwrap_or(0);
    preflight::check_io_uring(first_cpu)?;
    let descriptors = preflight::raise_descriptor_limit();
    let shards = settings.shards.unwrap_or_else(preflight::default_shards);
    let reserved = DESCRIPTORS_RESERVED + DESCRIPTORS_PER_SHARD * u64::from(shards);
    let connections_max = usize::try_from(descriptors.saturating_sub(reserved))
        .unwrap_or(usize::MAX)
        .clamp(1, settings.connections_max);
    let config = Arc::new(Config {
        durability: settings.durability,
        flush_interval_ms: settings.flush_interval_ms,
        body_single_bytes_max: settings.body_single_bytes_max,
        body_batch_bytes_max: settings.body_batch_bytes_max,
        batch_delete_max: crate::limits::BATCH_DELETE_MAX_DEFAULT,
        connections_max,
        timeouts: Timeouts {
            head_ms: settings.head_timeout_seconds * 1000,
            body_ms: settings.body_timeout_seconds * 1000,
            idle_ms: settings.idle_timeout_seconds * 1000,
        },
        allowed_cpus: allowed,
    });
    let address = check_port(settings)?;
    let mut data_dir = open_data_dir(settings, shards)?;
    let logs: Vec<LogDir> = (0..u32::from(shards))
        .map(|shard| data_dir.take_log(shard))
        .collect();
    let data_dir = Arc::new(data_dir);
    let shared = Arc::new(Shared::new(usize::from(shards)));
    let mailboxes =
        shard::mailboxes(usize::from(shards)).map_err(system("make the cores' mailboxes"))?;
    let (ended, end) = channel();
    let mut executors = Vec::new();
    for ((core, log), (inbox, postbox)) in (0..shards).zip(logs).zip(mailboxes) {
        let listener =
            sockets::listen(address).map_err(|source| StartError::Listen { address, source })?;
        let cpu = cpus
            .get(usize::from(core) % cpus.len().max(1))
            .copied()
            .unwrap_or(first_cpu);
        let start = CoreStart {
            core,
            shards,
            log,
            inbox,
            postbox,
            listener,
            data_dir: Arc::clone(&data_dir),
            shared: Arc::clone(&shared),
            config: Arc::clone(&config),
            ended: ended.clone(),
        };
        executors.push(start.spawn(cpu).map_err(system("start a core's thread"))?);
    }
    watch_signals(ended).map_err(system("watch for signals"))?;
    report::info(&format!(
        "version {} listening on http://{address}, {shards} shard{}, data in {}",
        env!("CARGO_PKG_VERSION"),
        if shards == 1 { "" } else { "s" },
        settings.data_dir.display(),
    ));
    if let Ok(End::Signal) = end.recv() {
        report::info("stopping");
    }
    shared.stop();
    join(executors)
}

fn check_port(settings: &Settings) -> Result<SocketAddr, StartError> {
    let address = SocketAddr::new(settings.bind, settings.port);
    sockets::probe(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::PortTaken { address },
        _ => StartError::Listen { address, source },
    })
}

fn open_data_dir(settings: &Settings, shards: u16) -> Result<DataDir, StartError> {
    let path = &settings.data_dir;
    let options = match settings.segment_bytes {
        Some(bytes) => LogOptions {
            segment_bytes_initial: bytes.min(LogOptions::default().segment_bytes_initial),
            segment_bytes_max: bytes,
            ..LogOptions::default()
        },
        None => LogOptions::for_directory(path).map_err(|source| StartError::System {
            attempt: "read the file system's size",
            source,
        })?,
    };
    DataDir::open(path, u32::from(shards), options).map_err(|source| match source {
        StorageError::Locked { .. } => StartError::Locked(Box::new(source)),
        _ => StartError::DataDir {
            path: path.as_path().into(),
            source: Box::new(source),
        },
    })
}

/// What a core's thread is started with.
struct CoreStart {
    core: u16,
    shards: u16,
    log: LogDir,
    inbox: Inbox,
    postbox: Postbox,
    listener: TcpListener,
    data_dir: Arc<DataDir>,
    shared: Arc<Shared>,
    config: Arc<Config>,
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
    fn spawn(self, cpu: usize) -> io::Result<Executor> {
        let name = format!("flux-{}", self.core);
        runtime::spawn(&name, cpu, move || async move {
            let _ended = EndGuard(self.ended.clone());
            let (core, opening) = self.build()?;
            core.run(opening).await
        })
    }

    #[expect(clippy::large_stack_frames, reason = "once for each core, at start")]
    fn build(self) -> io::Result<(Core, Opening)> {
        let Self {
            core,
            shards,
            log,
            data_dir,
            ..
        } = self;
        let seed = RandomState::new().hash_one(core);
        let durability = self.config.durability;
        let hub = Hub::new(HubParts {
            core,
            postbox: self.postbox,
            shared: self.shared,
            config: self.config,
            seed,
        });
        let opening = runtime::spawn_blocking(move || {
            let opened = shard::open(data_dir.sealed_generations(), log, (core, shards));
            let (engine, log, recovery) = opened.map_err(io::Error::other)?;
            if let Some(tail) = &recovery.cut {
                report::warning(&format!(
                    "shard {core}: cut {} bytes that no flush had covered off the end of {}",
                    tail.bytes,
                    tail.path.display()
                ));
            }
            Ok(Shard::new(engine, log, durability, seed.rotate_left(32)))
        });
        let parts = CoreParts {
            hub,
            inbox: self.inbox,
            listener: self.listener,
        };
        Ok((Core::new(parts)?, opening))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one thread that waits for signals"
)]
fn watch_signals(ended: Sender<End>) -> io::Result<()> {
    // With a handler, a file size limit is an error of the write instead of the end of the process.
    let exceeded = Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(SIGXFSZ, exceeded)?;
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if ended.send(End::Signal).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn join(executors: Vec<Executor>) -> Result<(), StartError> {
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
