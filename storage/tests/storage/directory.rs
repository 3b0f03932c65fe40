//! The data directory: its lock, its generations, and directories that cannot be used.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flux_storage::{
    BackupOptions, CheckpointDir, CheckpointKind, CheckpointMeta, DataDir, LayerEntity, LayerStack,
    Log, LogOptions, SealedLog, Sequence, StorageError, backup,
};

use crate::support::{Kept, SMALL, Scratch, append, payload, replace};

#[test]
fn a_second_server_is_refused_with_the_process_id_of_the_first() {
    let scratch = Scratch::new();
    let mut data = scratch.open(2, SMALL).unwrap();
    let check_locked = |holder: &str| {
        let error = scratch.open(2, SMALL).expect_err(holder);
        let pid = std::process::id();
        assert!(
            matches!(&error, StorageError::Locked { pid: Some(found), .. } if *found == pid),
            "{holder}"
        );
        assert!(
            error.to_string().contains(&format!("(process {pid})")),
            "{error}"
        );
    };
    check_locked("the data directory");
    let (mut log, ..) = data.shard(1).unwrap();
    drop(data);
    check_locked("a log");
    let job = log.next_segment_job().unwrap();
    drop(log);
    check_locked("a spare job, which may still write");
    drop(job);
    scratch.open(2, SMALL).unwrap();
}

#[test]
fn what_a_crash_left_unfinished_is_removed() {
    let scratch = Scratch::new();
    drop(scratch.open(1, SMALL).unwrap());
    let generation = scratch.path().join("log/000002.tmp/000-of-002");
    fs::create_dir_all(&generation).unwrap();
    replace(&generation.join("00000001.seg"), b"half");
    let segment = scratch.log_dir(1, 0, 1).join("00000002.seg.tmp");
    replace(&segment, b"half");
    let (mut log, _, records) = scratch.open(1, SMALL).unwrap().log();
    assert_eq!(records, []);
    assert!(!generation.exists() && !segment.exists());
    append(&mut log, b"works");
}

/// Replays everything, generation by generation, shard by shard.
fn everything(data: &mut DataDir, shard_count: u32) -> (Vec<Vec<Kept>>, Vec<Log>) {
    let mut replayed = Vec::new();
    for generation in data.sealed_generations() {
        for log in generation.logs() {
            let mut records = Vec::new();
            log.replay::<()>(|record| {
                records.push(record.into());
                Ok(())
            })
            .unwrap();
            replayed.push(records);
        }
    }
    let mut logs = Vec::new();
    for shard in 0..shard_count {
        let mut records = Vec::new();
        let (log, _) = Log::open::<()>(data.take_log(shard), |record| {
            records.push(record.into());
            Ok(())
        })
        .unwrap();
        replayed.push(records);
        logs.push(log);
    }
    (replayed, logs)
}

#[test]
fn another_number_of_shards_keeps_every_record_and_their_order() {
    let scratch = Scratch::new();
    let mut expected: Vec<Vec<Kept>> = Vec::new();
    let mut last = 0;
    for (generation, shard_count) in [1_u32, 2, 3, 1].into_iter().enumerate() {
        for visit in 0..2 {
            let mut data = scratch.open(shard_count, SMALL).unwrap();
            assert_eq!(data.0.sealed_generations().len(), generation);
            let (replayed, logs) = everything(&mut data.0, shard_count);
            if visit == 0 {
                expected.resize(expected.len() + logs.len(), Vec::new());
            }
            assert_eq!(replayed, expected);
            let first_own = expected.len() - logs.len();
            for (own, mut log) in expected[first_own..].iter_mut().zip(logs) {
                // One shard of each stays empty at first.
                let count = if own.is_empty() && visit == 0 && shard_count > 1 {
                    0
                } else {
                    25
                };
                own.extend((0..count).map(|number| append(&mut log, &payload(number, 500))));
                if visit == 0 {
                    log.close().unwrap();
                } else {
                    log.write_out().unwrap();
                }
            }
            let own = &expected[first_own..];
            let sequences = own.iter().flatten().map(|record| record.sequence.get());
            assert!(
                sequences.clone().all(|sequence| sequence > last),
                "generation {generation}"
            );
        }
        last = expected
            .iter()
            .flatten()
            .map(|record| record.sequence.get())
            .max()
            .unwrap();
    }
}

#[test]
fn sealed_logs_are_replayed_by_several_threads_at_once() {
    let scratch = Scratch::new();
    let mut data = scratch.open(3, SMALL).unwrap();
    for shard in 0..3 {
        let (mut log, ..) = data.shard(shard).unwrap();
        (0..30).for_each(|number| drop(append(&mut log, &payload(number, 600))));
        log.close().unwrap();
    }
    drop(data);
    let data = scratch.open(1, SMALL).unwrap();
    let count = |log: &SealedLog| {
        let mut count = 0;
        log.replay::<()>(|_| {
            count += 1;
            Ok(())
        })
        .unwrap();
        count
    };
    let [first, second, third] = data.0.sealed_generations()[0].logs() else {
        panic!("three shards wrote three logs");
    };
    let counts = std::thread::scope(|scope| {
        let threads = [first, second, third].map(|log| scope.spawn(move || count(log)));
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(counts, [30, 30, 30]);
}

#[test]
fn a_torn_tail_is_cut_before_its_generation_is_sealed() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    append(&mut log, b"whole");
    log.flush_blocking().unwrap();
    append(&mut log, &[7; 100]);
    let job = log.next_segment_job().unwrap();
    log.install_next_segment(job.run().unwrap());
    drop(log);
    let path = scratch.log_dir(1, 0, 1).join("00000001.seg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 + 40 + 60] ^= 1;
    replace(&path, &bytes);

    let mut data = scratch.open(2, SMALL).unwrap();
    let (replayed, logs) = everything(&mut data.0, 2);
    assert_eq!(replayed.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 0]);
    assert!(
        logs.iter().all(|log| log.appended().get() == 1),
        "the next is after all older ones"
    );
    assert_eq!(
        scratch.files().len(),
        2,
        "the first segment and DURABLE, no spare"
    );
    drop((data, logs));

    // The sealed log ends cleanly now; bytes after its end are damage.
    let mut bytes = fs::read(&path).unwrap();
    bytes[8000] = 1;
    replace(&path, &bytes);
    let data = scratch.open(2, SMALL).unwrap();
    let replayed = data.0.sealed_generations()[0].logs()[0].replay::<()>(|_| Ok(()));
    assert!(
        matches!(
            &replayed,
            Err(flux_storage::ReplayError::Storage(
                StorageError::DamagedTail { offset: 4136, .. }
            ))
        ),
        "{replayed:?}"
    );
}

#[test]
fn missing_directories_are_refused_by_name() {
    let check = |remove: &str, missing: &str| {
        let scratch = Scratch::new();
        for shard_count in [2, 1, 2] {
            drop(scratch.open(shard_count, SMALL).unwrap());
        }
        let log = scratch.path().join("log");
        fs::remove_dir_all(log.join(remove)).unwrap();
        let error = scratch.open(2, SMALL).expect_err(remove);
        assert!(
            matches!(&error, StorageError::Missing { path } if **path == *log.join(missing)),
            "{error}"
        );
    };
    check("000001", "000001");
    check("000002", "000002");
    check("000001/000-of-002", "000001/000-of-002");
    check("000003/001-of-002", "000003/001-of-002");
    check("000002/000-of-001", "000002/000-of-*");
}

#[test]
fn a_path_that_cannot_be_a_directory_is_an_error() {
    let scratch = Scratch::new();
    let file = scratch.path();
    replace(&file, b"in the way");
    let error = DataDir::open(file.join("data"), 1, LogOptions::default()).unwrap_err();
    assert!(
        matches!(
            error,
            StorageError::Io {
                op: "create directory",
                ..
            }
        ),
        "{error}"
    );
    let nowhere = PathBuf::from("/proc/self/flux-test");
    let error = DataDir::open(nowhere, 1, LogOptions::default()).unwrap_err();
    assert!(
        matches!(
            error,
            StorageError::Io {
                op: "create directory",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn missing_ancestors_of_the_directory_are_made() {
    let scratch = Scratch::new();
    let deep = scratch.path().join("a/b/c");
    let data = DataDir::open(&deep, 1, SMALL).unwrap();
    assert_eq!(data.path(), deep);
}

/// The paths of a directory, itself included, that anybody but the owner may use.
fn open_to_others(path: &Path, found: &mut Vec<PathBuf>) {
    let metadata = fs::metadata(path).unwrap();
    if metadata.permissions().mode() & 0o077 != 0 {
        found.push(path.to_owned());
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            open_to_others(&entry.unwrap().path(), found);
        }
    }
}

#[test]
fn what_is_made_is_for_its_owner_alone() {
    let scratch = Scratch::new();
    let root = scratch.path().join("new/data");
    let mut data = DataDir::open(&root, 1, SMALL).unwrap();
    data.make_ballast(8192).unwrap();
    let place = data.take_log(0);
    let (checkpoints, owner) = (place.checkpoint_path(), place.origin().unwrap().owner);
    let (mut log, _) = Log::open::<()>(place, |_| Ok(())).unwrap();
    for number in 0..20 {
        append(&mut log, &payload(number, 1000));
    }
    log.flush_blocking().unwrap();
    drop(data.take_control_log(SMALL).unwrap());
    let mut dir = CheckpointDir::new(checkpoints, owner, CheckpointKind::Cache, |_| true);
    dir.load().unwrap();
    let entity = LayerEntity {
        id: "a",
        version: 1,
        time_micros: 1,
        sequence: Sequence::new(1),
        body: Some("1"),
    };
    let meta = CheckpointMeta {
        through: Sequence::new(1),
        time_micros: 1,
        events: 1,
        entities: 1,
        last_delete: Sequence::ZERO,
    };
    let pending = dir.write(
        std::iter::once(entity),
        &LayerStack::default(),
        meta,
        &mut |_| ControlFlow::Continue(()),
    );
    dir.publish(pending.unwrap()).unwrap();
    log.close().unwrap();
    let copy = scratch.path().join("copy");
    let options = BackupOptions {
        body_check: |_| true,
        time_micros: 0,
    };
    backup(&root, &copy, options, &mut |_| {}).unwrap();
    let mut found = Vec::new();
    open_to_others(&scratch.path().join("new"), &mut found);
    open_to_others(&copy, &mut found);
    assert_eq!(found, Vec::<PathBuf>::new());
}
