//! What a flush really writes, measured on the disk that the build directory is on.
//!
//! A page cache that keeps a segment in large folios makes each flush of a small record write up to
//! a megabyte (DESIGN.md §5). The kernel counts what a process dirties, in whole folios, in
//! `/proc/self/io`; this test is alone in its program so that the figure is its own. File systems
//! in memory give none, and the test says so.

#![cfg(test)]

use std::convert::Infallible;
use std::fs::{self, File};
use std::path::Path;

use flux_storage::{DataDir, Log, LogOptions};
use rustix::fs::{Advice, fadvise};

const FLUSHES: u32 = 32;
const BYTES_PER_FLUSH_MAX: u64 = 64 * 1024;

fn open(path: &Path) -> Log {
    let options = LogOptions {
        segment_bytes_initial: 16 * 1024 * 1024,
        ..LogOptions::default()
    };
    let mut data = DataDir::open(path, 1, options).unwrap();
    Log::open::<Infallible>(data.take_log(0), |_| Ok(()))
        .unwrap()
        .0
}

/// Bytes that this process has caused to be written.
fn written_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

/// Bytes written for each of several flushes of one small record.
fn bytes_per_flush(log: &mut Log) -> u64 {
    let before = written_bytes();
    for _ in 0..FLUSHES {
        log.append(1, 0, &[0xA5; 256]).unwrap();
        log.flush_blocking().unwrap();
    }
    (written_bytes() - before) / u64::from(FLUSHES)
}

/// Makes the kernel forget the files, as after a restart of the machine.
fn drop_page_cache(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            drop_page_cache(&path);
        } else {
            let file = File::open(path).unwrap();
            file.sync_all().unwrap();
            fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        }
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a measurement says what it measured")]
fn a_flush_of_a_small_record_writes_pages_not_megabytes() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut log = open(dir.path());
    let fresh = bytes_per_flush(&mut log);
    if fresh == 0 {
        eprintln!(
            "skipped: the file system of {} gives no figure",
            dir.path().display()
        );
        return;
    }
    // Far enough into the file that the kernel would read ahead in large folios.
    for _ in 0..2000 {
        log.append(1, 0, &[0x5A; 1000]).unwrap();
    }
    log.close().unwrap();
    drop_page_cache(dir.path());
    let mut log = open(dir.path());
    let reopened = bytes_per_flush(&mut log);
    eprintln!("bytes written per flush of a 256-byte record: {fresh} fresh, {reopened} reopened");
    assert!(fresh <= BYTES_PER_FLUSH_MAX, "{fresh} in a fresh segment");
    assert!(
        reopened <= BYTES_PER_FLUSH_MAX,
        "{reopened} after the page cache was dropped"
    );
}
