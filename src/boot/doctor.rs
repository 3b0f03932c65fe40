//! Whether a server could start here with these settings: what was looked at, what was found, and
//! what changes it. Nothing is left behind: no directory is made, the flush is timed in a file that
//! is removed.

use super::listening;
use super::preflight;
use super::rings;
use crate::clock::{self, Monotonic};
use crate::limits::{DESCRIPTORS_PER_SHARD, DESCRIPTORS_RESERVED};
use crate::reactor::sockets;
use crate::settings::Settings;
use flux_storage::StorageError;
use rustix::fs::{Access, access, statfs, statvfs};
use rustix::process::{Resource, getrlimit};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Locked memory that is enough for the rings of any number of cores, bytes.
const LOCKED_BYTES_ENOUGH: u64 = 8 << 20;
/// With fewer free bytes a data directory will soon be full.
const FREE_BYTES_FEW: u64 = 1 << 30;
/// With fewer free bytes no log can be begun.
const FREE_BYTES_MIN: u64 = 16 << 20;
/// Connections that a server should be able to take.
const CONNECTIONS_ENOUGH: u64 = 10_000;
/// Flushes that are timed; the median counts.
const FLUSHES: usize = 5;
/// A flush that takes longer is slow, microseconds: every acknowledgement waits for one.
const FLUSH_MICROS_SLOW: u64 = 20_000;
/// The first second of 2026. A clock before that is not set.
const CLOCK_SECONDS_MIN: i64 = 1_767_225_600;

/// What a finding means for a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing to do.
    Ok,
    /// A server starts, and this is worth a look.
    Warn,
    /// A server does not start.
    Fail,
}

impl Verdict {
    /// One lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// What it means.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What changes it, if something does.
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Ok,
            found: found.into(),
            remedy: None,
        }
    }

    fn warn(name: &'static str, found: impl Into<String>, remedy: &str) -> Self {
        Self {
            verdict: Verdict::Warn,
            remedy: (!remedy.is_empty()).then(|| remedy.to_owned()),
            ..Self::ok(name, found)
        }
    }

    fn fail(name: &'static str, found: impl Into<String>, remedy: &str) -> Self {
        Self {
            verdict: Verdict::Fail,
            ..Self::warn(name, found, remedy)
        }
    }
}

/// Looks at everything, in an order in which an earlier finding may explain a later one.
pub fn examine(settings: &Settings) -> Vec<Finding> {
    let shards = settings.shards.unwrap_or_else(preflight::default_shards);
    let place = Place::of(&settings.data_dir);
    let mut findings = vec![
        kernel(),
        io_uring(),
        locked_memory(),
        descriptors(u64::from(shards)),
        data_directory(settings, &place),
        free_space(&place),
        file_system(&place),
    ];
    let addresses = settings.bind.iter();
    findings.extend(addresses.map(|ip| port(SocketAddr::new(*ip, settings.port))));
    findings.push(the_clock());
    findings
}

fn kernel() -> Finding {
    const NAME: &str = "kernel";
    match preflight::check_kernel() {
        Ok(release) => Finding::ok(NAME, format!("Linux {release}")),
        Err(error) => Finding::fail(NAME, error.to_string(), "run it on a newer kernel"),
    }
}

fn io_uring() -> Finding {
    const NAME: &str = "io_uring";
    let cpu = preflight::allowed_cpus()
        .ok()
        .and_then(|(cpus, _)| cpus.first().copied());
    match rings::probe(cpu.unwrap_or(0)) {
        Ok(()) => Finding::ok(NAME, "usable"),
        Err(refused) => {
            let found = format!("{refused}: the cores run as plain threads instead");
            Finding::warn(NAME, found, refused.remedy().unwrap_or_default())
        }
    }
}

fn locked_memory() -> Finding {
    const NAME: &str = "locked memory";
    match getrlimit(Resource::Memlock).current {
        None => Finding::ok(NAME, "no limit"),
        Some(bytes) if bytes >= LOCKED_BYTES_ENOUGH => {
            Finding::ok(NAME, format!("{} KiB", bytes >> 10))
        }
        // Since Linux 5.12 the rings count as memory of the process's group instead.
        Some(bytes) => Finding::warn(
            NAME,
            format!(
                "{} KiB: kernels before 5.12 may refuse io_uring",
                bytes >> 10
            ),
            "ulimit -l 8192, LimitMEMLOCK=8M in the unit, or docker run --ulimit memlock=8388608",
        ),
    }
}

fn descriptors(shards: u64) -> Finding {
    const NAME: &str = "descriptors";
    const REMEDY: &str =
        "ulimit -n 65536, LimitNOFILE=65536 in the unit, or docker run --ulimit nofile=65536:65536";
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let own = DESCRIPTORS_RESERVED + DESCRIPTORS_PER_SHARD * shards;
    let connections = limit.saturating_sub(own);
    if connections == 0 {
        let found = format!("at most {limit}, of which the server itself needs {own}");
        return Finding::fail(NAME, found, REMEDY);
    }
    let found = format!("at most {limit}, so {connections} connections");
    if connections < CONNECTIONS_ENOUGH {
        Finding::warn(NAME, found, REMEDY)
    } else {
        Finding::ok(NAME, found)
    }
}

/// Where the data lies, or would.
struct Place {
    /// The directory itself, or the nearest one above that is there.
    existing: PathBuf,
    /// It is the directory itself.
    is_made: bool,
}

impl Place {
    fn of(data_dir: &Path) -> Self {
        let mut above = data_dir.ancestors();
        let existing = above
            .find(|path| path.exists())
            .unwrap_or_else(|| Path::new("."));
        let existing = if existing.as_os_str().is_empty() {
            Path::new(".")
        } else {
            existing
        };
        Self {
            existing: existing.to_path_buf(),
            is_made: existing == data_dir,
        }
    }
}

fn data_directory(settings: &Settings, place: &Place) -> Finding {
    const NAME: &str = "data directory";
    let path = settings.data_dir.display();
    if !place.existing.is_dir() {
        let found = format!("{} is not a directory", place.existing.display());
        return Finding::fail(NAME, found, "choose another with --data-dir");
    }
    let writable = access(&place.existing, Access::WRITE_OK | Access::EXEC_OK);
    if let Err(error) = writable {
        let found = format!("{}: {}", place.existing.display(), io::Error::from(error));
        let remedy =
            "give it to the user that runs the server (chown), or choose another with --data-dir";
        return Finding::fail(NAME, found, remedy);
    }
    if !place.is_made {
        return Finding::ok(NAME, format!("{path} will be made"));
    }
    match flux_storage::check_unlocked(&settings.data_dir) {
        Ok(()) => Finding::ok(NAME, format!("{path}; no other process has it open")),
        Err(error @ StorageError::Locked { .. }) => Finding::fail(
            NAME,
            error.to_string(),
            "stop it, or choose another directory with --data-dir",
        ),
        Err(error) => Finding::fail(NAME, error.to_string(), ""),
    }
}

fn free_space(place: &Place) -> Finding {
    const NAME: &str = "free space";
    let stat = match statvfs(&place.existing) {
        Ok(stat) => stat,
        Err(error) => return Finding::warn(NAME, io::Error::from(error).to_string(), ""),
    };
    let bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
    let found = format!("{} MiB", bytes >> 20);
    let remedy = "make room, or choose a directory on another disk with --data-dir";
    if bytes < FREE_BYTES_MIN {
        Finding::fail(NAME, found, remedy)
    } else if bytes < FREE_BYTES_FEW {
        Finding::warn(NAME, found, remedy)
    } else {
        Finding::ok(NAME, found)
    }
}

/// The name of a file system by its number (statfs(2)).
fn file_system_name(number: u64) -> Option<&'static str> {
    Some(match number {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0xca45_1a4e => "bcachefs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x6969 => "nfs",
        0xff53_4d42 | 0xfe53_4d42 => "smb",
        0x6573_5546 => "fuse",
        0x0102_1997 => "9p",
        _ => return None,
    })
}

fn file_system(place: &Place) -> Finding {
    const NAME: &str = "file system";
    let number = statfs(&place.existing).map_or(0, |stat| stat.f_type);
    let number = u64::try_from(number).unwrap_or(0) & u64::from(u32::MAX);
    let kind = file_system_name(number).unwrap_or("unknown");
    let micros = match flush_micros(&place.existing) {
        Ok(micros) => micros,
        Err(error) => {
            let found = format!("{kind}; a flush fails: {error}");
            return Finding::fail(
                NAME,
                found,
                "choose a directory on another disk with --data-dir",
            );
        }
    };
    let found = format!(
        "{kind}, a flush takes {}.{:02} ms",
        micros / 1000,
        micros % 1000 / 10
    );
    match kind {
        "tmpfs" => Finding::warn(
            NAME,
            format!("{found}; it lies in memory, and a restart of the machine empties it"),
            "choose a directory on a disk with --data-dir",
        ),
        "overlayfs" => Finding::warn(
            NAME,
            format!("{found}; a container's own layer goes with the container"),
            "mount a volume: docker run -v flux-data:/data, and --data-dir /data",
        ),
        "nfs" | "smb" => Finding::warn(
            NAME,
            format!("{found}; whether a flush reaches a disk is up to the file server"),
            "choose a directory on a local disk with --data-dir",
        ),
        _ if micros > FLUSH_MICROS_SLOW => Finding::warn(
            NAME,
            format!("{found}, and every acknowledgement waits for one"),
            "choose a faster disk, or FLUX_DURABILITY=async if the last 50 ms may be lost",
        ),
        _ => Finding::ok(NAME, found),
    }
}

/// The median time of a flush of one page in this directory, microseconds.
fn flush_micros(directory: &Path) -> io::Result<u64> {
    let mut file = nameless_file(directory)?;
    let mut times = [0; FLUSHES];
    for time in &mut times {
        let clock = Monotonic::start();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        *time = clock.micros();
    }
    times.sort_unstable();
    Ok(times[FLUSHES / 2])
}

/// A file without a name, so that nothing of it is left.
fn nameless_file(directory: &Path) -> io::Result<std::fs::File> {
    let path = directory.join(format!(".flux-doctor-{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn port(address: SocketAddr) -> Finding {
    const NAME: &str = "port";
    match sockets::claim(address) {
        Ok(_) if address.port() == 0 => {
            Finding::ok(NAME, format!("any free one on {}", address.ip()))
        }
        Ok(_) => Finding::ok(NAME, format!("{address} is free")),
        Err(error) if listening::is_missing(&error) && address.ip().is_loopback() => {
            Finding::warn(NAME, format!("this machine has no {}", address.ip()), "")
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::fail(
            NAME,
            format!("{address} is in use by another program"),
            "stop it, or choose another port with --port",
        ),
        Err(error) => Finding::fail(
            NAME,
            format!("can't listen on {address}: {error}"),
            "choose another address with --bind, or a port above 1023 with --port",
        ),
    }
}

fn the_clock() -> Finding {
    const NAME: &str = "clock";
    let now = clock::now();
    if now.as_millis() / 1000 < CLOCK_SECONDS_MIN {
        let found = format!(
            "{}: it is not set, and every event would carry such a time",
            now.rfc3339()
        );
        return Finding::warn(NAME, found, "timedatectl set-ntp true");
    }
    Finding::ok(NAME, now.rfc3339().to_string())
}
