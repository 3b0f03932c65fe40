//! The log by itself, in this process: what an append, a flush and a replay cost without a server
//! around them.
//!
//! Appends go to the page cache. Their time excludes flushes and the preparation of segments, which
//! helper threads do in the server. A flush is one `fdatasync` after a group of appends. Replay
//! opens the log, which checks every record and returns it; no state is built from the records.

use crate::cache::evict;
use crate::clock::Clock;
use crate::numbers::{SECOND, Times, approximate, mebibytes, per_second};
use crate::{affinity, output};
use anyhow::{Context, Result};
use clap::Args;
use flux_storage::{AppendError, DataDir, Log, LogOptions, Sequence};
use std::convert::Infallible;
use std::path::{Path, PathBuf};

/// Records of each group that is flushed.
const GROUPS: [u64; 3] = [1, 64, 4_096];
/// Appends that are timed at once: a look at the clock costs as much as an append.
const APPENDS_TIMED: u64 = 1_000;

#[derive(Debug, Args)]
pub(crate) struct StorageOptions {
    /// Where a directory for the log is made: must be on the disk that is to be measured
    #[arg(long, default_value = ".")]
    data_root: PathBuf,
    /// Records that are appended and replayed
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000_000))]
    records: u64,
    /// Bytes of each; an event of three properties takes about 116
    #[arg(long, default_value_t = 116, value_parser = clap::value_parser!(u16).range(1..))]
    payload_bytes: u16,
    /// Seconds for each size of group
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Core to run on
    #[arg(long, default_value_t = 0)]
    cpu: usize,
}

/// # Errors
/// When the directory cannot be made, or the log fails.
pub(crate) fn run(options: &StorageOptions) -> Result<()> {
    affinity::pin_to(options.cpu)?;
    let directory = tempfile::Builder::new()
        .prefix("flux-storage-")
        .tempdir_in(&options.data_root)
        .with_context(|| format!("cannot make a directory in {}", options.data_root.display()))?;
    let payload = vec![0xa5; usize::from(options.payload_bytes)];
    let path = directory.path().join("appends");
    append(options, &path, &payload)?;
    for cache in ["warm", "cold"] {
        if cache == "cold" {
            evict(&path)?;
        }
        replay(&path, cache)?;
    }
    output::result(&format!(
        "\n{:>6} {:>9} {:>9} {:>9} {:>9} {:>12}",
        "group", "p50 us", "p99 us", "max us", "flushes/s", "records/s"
    ));
    for group in GROUPS {
        let path = directory.path().join(format!("group-{group}"));
        flush(options, &path, &payload, group)?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<Log> {
    let options = LogOptions {
        segment_bytes_initial: 64 * 1024 * 1024,
        ..LogOptions::for_directory(path)?
    };
    let mut data = DataDir::open(path, 1, options)?;
    let (log, _) = Log::open::<Infallible>(data.take_log(0), |_| Ok(()))?;
    Ok(log)
}

/// Appends a record; prepares the next segment first if the record needs it.
fn append_one(log: &mut Log, payload: &[u8]) -> Result<Sequence> {
    match log.append(1, 0, payload) {
        Err(AppendError::SegmentNeeded { .. }) => {
            prepare(log)?;
            Ok(log.append(1, 0, payload)?)
        }
        appended => Ok(appended?),
    }
}

/// Does what helper threads do in the server.
fn prepare(log: &mut Log) -> Result<()> {
    if let Some(job) = log.next_segment_job() {
        log.install_next_segment(job.run()?);
    }
    while let Some(job) = log.index_job() {
        job.run()?;
    }
    Ok(())
}

fn append(options: &StorageOptions, path: &Path, payload: &[u8]) -> Result<()> {
    let mut log = open(path)?;
    let clock = Clock::start();
    let mut times = Vec::new();
    for _ in 0..options.records / APPENDS_TIMED {
        prepare(&mut log)?;
        let begun = clock.nanos();
        for _ in 0..APPENDS_TIMED {
            append_one(&mut log, payload)?;
        }
        times.push(clock.nanos() - begun);
        // Keeps the kernel from having a gigabyte to write at the end.
        if times.len().is_multiple_of(256) {
            log.flush_blocking()?;
        }
    }
    log.close()?;
    let times = Times::new(times);
    let each = |nanos: u64| approximate(nanos) / approximate(APPENDS_TIMED);
    output::result(&format!(
        "append of {} bytes: {:.0} ns in the middle, {:.0} ns at p99 (over {APPENDS_TIMED} each): {:.1} million a second",
        payload.len(),
        each(times.median()),
        each(times.quantile(990)),
        per_second(APPENDS_TIMED, times.median()) / 1e6
    ));
    Ok(())
}

fn replay(path: &Path, cache: &str) -> Result<()> {
    let mut data = DataDir::open(path, 1, LogOptions::for_directory(path)?)?;
    let clock = Clock::start();
    let mut bytes = 0;
    let (_, recovery) = Log::open::<Infallible>(data.take_log(0), |record| {
        bytes += record.payload.len() as u64;
        Ok(())
    })?;
    let nanos = clock.nanos();
    output::result(&format!(
        "replay, {cache}: {} records, {:.1} million a second, {:.0} MiB of payload a second",
        recovery.records,
        per_second(recovery.records, nanos) / 1e6,
        mebibytes(bytes) * approximate(SECOND) / approximate(nanos.max(1))
    ));
    Ok(())
}

fn flush(options: &StorageOptions, path: &Path, payload: &[u8], group: u64) -> Result<()> {
    let mut log = open(path)?;
    let clock = Clock::start();
    let mut times = Vec::new();
    let mut working = 0;
    while clock.nanos() < options.seconds * SECOND {
        prepare(&mut log)?;
        let begun = clock.nanos();
        for _ in 0..group {
            append_one(&mut log, payload)?;
        }
        let appended = clock.nanos();
        log.flush_blocking()?;
        let flushed = clock.nanos();
        times.push(flushed - appended);
        working += flushed - begun;
    }
    log.close()?;
    let times = Times::new(times);
    let count = times.count() as u64;
    let micros = |nanos| approximate(nanos) / 1_000.0;
    output::result(&format!(
        "{group:>6} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>12.0}",
        micros(times.median()),
        micros(times.quantile(990)),
        micros(times.most()),
        per_second(count, working),
        per_second(count * group, working)
    ));
    Ok(())
}
