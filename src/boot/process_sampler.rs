//! Asks the kernel about the process and about the disk of the data directory, every two seconds,
//! on a thread of its own: descriptors are counted in time that grows with them, and a network file
//! system may not answer at all. So `GET /metrics` asks nobody.

use crate::api::metrics::ProcessSample;
use crate::clock;
use crate::faults;
use crate::limits::PROCESS_SAMPLE_SECONDS;
use crate::shard::Counters;
use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// Ticks of a second in `/proc/self/stat` (`USER_HZ`, the same on every platform of today).
const TICKS_PER_SECOND: u64 = 100;

/// The thread ends when this is dropped. Nobody waits for it: a disk may hold it up.
pub(super) struct ProcessSampler {
    _ends: Sender<()>,
}

impl ProcessSampler {
    /// Begins to look, at once and then every two seconds. It does not wait for the first look,
    /// which a disk may hold up too.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn start(counters: Arc<Counters>, data_dir: &Path) -> io::Result<Self> {
        let (ends, end) = channel();
        let data_dir = data_dir.to_owned();
        let thread = thread::Builder::new().name("process".to_owned());
        thread.spawn(move || look(&counters, &data_dir, &end))?;
        Ok(Self { _ends: ends })
    }
}

fn look(counters: &Counters, data_dir: &Path, end: &Receiver<()>) {
    let pause = Duration::from_secs(PROCESS_SAMPLE_SECONDS);
    // Once: clocks are adjusted, so a later look would find another start.
    let start_ms = start_ms(&own_stat());
    loop {
        faults::step();
        counters.process.store(&sample(data_dir, start_ms));
        if end.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// What the kernel says now. What it does not say is 0. The process was started at `start_ms`.
fn sample(data_dir: &Path, start_ms: u64) -> ProcessSample {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let disk = statvfs(data_dir).ok();
    let disk = |blocks: fn(&rustix::fs::StatVfs) -> u64| {
        let bytes = |stat| blocks(stat).saturating_mul(stat.f_frsize);
        disk.as_ref().map_or(0, bytes)
    };
    ProcessSample {
        cpu_micros: micros(cpu),
        open_fds: open_descriptors(),
        max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        virtual_bytes: kibibytes(&status, "VmSize:"),
        resident_bytes: kibibytes(&status, "VmRSS:"),
        start_ms,
        disk_free_bytes: disk(|stat| stat.f_bavail),
        disk_bytes: disk(|stat| stat.f_blocks),
    }
}

fn micros(time: rustix::time::Timespec) -> u64 {
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    let seconds = seconds.unwrap_or_default().saturating_mul(1_000_000);
    seconds.saturating_add(nanos.unwrap_or_default() / 1000)
}

/// Descriptors that are open. Since Linux 6.2 the size of the directory says it.
fn open_descriptors() -> u64 {
    const DIRECTORY: &str = "/proc/self/fd";
    match fs::metadata(DIRECTORY) {
        Ok(metadata) if metadata.len() > 0 => metadata.len(),
        // The one that reads the directory is not counted.
        _ => fs::read_dir(DIRECTORY).map_or(0, |all| all.count().saturating_sub(1) as u64),
    }
}

/// A line of `/proc/self/status`, in bytes.
fn kibibytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number
        .and_then(|number| number.parse::<u64>().ok())
        .map_or(0, |kibibytes| kibibytes.saturating_mul(1024))
}

fn own_stat() -> String {
    fs::read_to_string("/proc/self/stat").unwrap_or_default()
}

/// When the process was started, Unix milliseconds: the 22nd field of `/proc/self/stat`, in ticks
/// since the machine was.
fn start_ms(stat: &str) -> u64 {
    // The second field is the program's name, which may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_ascii_whitespace().nth(19);
    let Some(ticks) = ticks.and_then(|ticks| ticks.parse::<u64>().ok()) else {
        return 0;
    };
    let since_boot_ms = micros(clock_gettime(ClockId::Boottime)) / 1000;
    let age_ms = since_boot_ms.saturating_sub(ticks.saturating_mul(1000) / TICKS_PER_SECOND);
    let now_ms = u64::try_from(clock::now().as_millis()).unwrap_or_default();
    now_ms.saturating_sub(age_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_the_process_takes() {
        let taken = sample(Path::new("/"), start_ms(&own_stat()));
        assert!(
            taken.open_fds >= 3 && taken.open_fds <= taken.max_fds,
            "{taken:?}"
        );
        assert!(taken.resident_bytes > 1 << 20, "{taken:?}");
        assert!(taken.virtual_bytes >= taken.resident_bytes, "{taken:?}");
        assert!(taken.disk_free_bytes <= taken.disk_bytes, "{taken:?}");
        assert!(taken.disk_bytes > 0, "{taken:?}");
        let now_ms = u64::try_from(clock::now().as_millis()).unwrap();
        assert!(taken.start_ms > now_ms - 86_400_000, "{taken:?}");
        assert!(taken.start_ms <= now_ms + 1000, "{taken:?}");
        let later = sample(Path::new("/"), taken.start_ms);
        assert!(later.cpu_micros >= taken.cpu_micros);
    }

    #[test]
    fn every_look_tells_the_same_start() {
        for start_ms in [0, 1_700_000_000_123] {
            assert_eq!(sample(Path::new("/"), start_ms).start_ms, start_ms);
        }
    }

    #[test]
    fn what_the_kernel_does_not_say_is_0() {
        assert_eq!(kibibytes("VmRSS:\t  12 kB\n", "VmRSS:"), 12 * 1024);
        assert_eq!(kibibytes("VmRSS:\n", "VmRSS:"), 0);
        assert_eq!(kibibytes("", "VmRSS:"), 0);
        assert_eq!(start_ms(""), 0);
        assert_eq!(sample(Path::new("/nowhere"), 0).disk_bytes, 0);
    }
}
