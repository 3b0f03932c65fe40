//! A disk without room, played by a limit on the size of files: writing beyond it fails with
//! `EFBIG`, which is the same story to the log as `ENOSPC`.
//!
//! The limit is a process's, so each story runs this program again, under a shell that sets the
//! limit and makes the kernel return the error instead of the signal.

#![cfg(test)]

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::process::Command;

use flux_storage::{AppendError, DataDir, Log, LogOptions, StorageError};

const OPTIONS: LogOptions = LogOptions {
    segment_bytes_initial: 64 * 1024,
    segment_bytes_max: 256 * 1024,
    index_key: flux_storage::IndexKey::NONE,
};
/// Where the child finds its directory.
const DIRECTORY_VARIABLE: &str = "FLUX_STORAGE_TEST_DIRECTORY";

fn open(path: &Path) -> (Log, u64) {
    let mut data = DataDir::open(path, 1, OPTIONS).unwrap();
    let (log, recovery) = Log::open::<Infallible>(data.take_log(0), |_| Ok(())).unwrap();
    (log, recovery.records)
}

/// Runs a test of this program with files limited to `limit_kib`, in a directory of its own that
/// was prepared.
fn run_limited(test: &str, limit_kib: u32, prepare: impl FnOnce(&Path)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    // `ulimit -f` counts 512-byte blocks in a POSIX shell.
    let script = format!(
        "trap '' XFSZ; ulimit -f {}; exec \"$0\" --exact {test}",
        limit_kib * 2
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(DIRECTORY_VARIABLE, dir.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    dir
}

fn child_directory() -> Option<std::path::PathBuf> {
    std::env::var_os(DIRECTORY_VARIABLE).map(Into::into)
}

#[test]
fn a_full_disk_stops_appends_when_the_segment_is_full_and_goes_on_when_there_is_room() {
    let Some(dir) = child_directory() else {
        let dir = run_limited(
            "a_full_disk_stops_appends_when_the_segment_is_full_and_goes_on_when_there_is_room",
            100,
            |_| {},
        );
        // There is room now; what was durable is there, and the log goes on.
        let (mut log, records) = open(dir.path());
        assert_eq!(records, 60);
        let job = log.next_segment_job().unwrap();
        log.install_next_segment(job.run().unwrap());
        log.append(1, 0, &[7; 2000]).unwrap();
        return log.close().unwrap();
    };
    let (mut log, _) = open(&dir);
    for _ in 0..3 {
        let error = log.next_segment_job().unwrap().run().unwrap_err();
        assert!(
            matches!(
                error,
                StorageError::OutOfSpace {
                    op: "write zeros to",
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.is_recoverable());
        log.next_segment_failed();
    }
    while log.append(1, 0, &[7; 985]).is_ok() {}
    assert_eq!(log.appended().get(), 60, "1016 bytes each in 60 KiB");
    assert!(matches!(
        log.append(1, 0, &[7; 985]),
        Err(AppendError::SegmentNeeded { .. })
    ));
    log.flush_blocking().unwrap();
    assert_eq!((log.durable(), log.failure()), (log.appended(), None));
    let names: Vec<_> = fs::read_dir(dir.join("log/000001/000-of-001"))
        .unwrap()
        .collect();
    assert_eq!(
        names.len(),
        2,
        "the segment and DURABLE, nothing half made: {names:?}"
    );
}

#[test]
fn a_limit_on_files_is_none_on_what_a_segment_has() {
    let Some(dir) = child_directory() else {
        let dir = run_limited("a_limit_on_files_is_none_on_what_a_segment_has", 8, |dir| {
            open(dir).0.close().unwrap();
        });
        assert_eq!(open(dir.path()).1, 60);
        return;
    };
    let (mut log, _) = open(&dir);
    while log.append(1, 0, &[7; 985]).is_ok() {
        if log.appended().get().is_multiple_of(9) {
            log.flush_blocking().unwrap();
        }
    }
    log.flush_blocking().unwrap();
    assert_eq!((log.durable().get(), log.failure()), (60, None));
    let mut count = 0;
    log.replay_from::<()>(log.first_sequence(), |record| {
        count += 1;
        assert_eq!(record.payload, [7; 985]);
        Ok(())
    })
    .unwrap();
    assert_eq!(count, 60);
}

#[test]
fn a_full_disk_refuses_a_new_directory_and_leaves_nothing_half_made() {
    let Some(dir) = child_directory() else {
        let dir = run_limited(
            "a_full_disk_refuses_a_new_directory_and_leaves_nothing_half_made",
            32,
            |_| {},
        );
        assert_eq!(open(dir.path()).1, 0);
        return;
    };
    let error = DataDir::open(&dir, 2, OPTIONS).unwrap_err();
    assert!(matches!(error, StorageError::OutOfSpace { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.join("log")).unwrap().count(), 0);
}
