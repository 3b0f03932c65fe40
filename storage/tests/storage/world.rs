//! A log belongs to one data directory: one that is gone is missed, and another directory's is
//! refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use flux_storage::{DataDir, Inspection, Repair, StorageError};

use crate::support::{Kept, SMALL, Scratch, append, payload, replace};

/// All files below a directory.
fn files(root: impl AsRef<Path>) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root.as_ref()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
            found.insert(path, Vec::new());
        } else if path.file_name().unwrap() != "LOCK" {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

/// A closed directory with one shard, a control log and a few records.
fn closed() -> (Scratch, Vec<Kept>) {
    let scratch = Scratch::new();
    let opened = scratch.open(1, SMALL).unwrap();
    drop(opened.0.take_control_log(SMALL).unwrap());
    let (mut log, ..) = opened.log();
    let records = (0..20).map(|number| append(&mut log, &payload(number, 700)));
    let records = records.collect();
    log.close().unwrap();
    (scratch, records)
}

fn is_damaged(root: impl AsRef<Path>) -> bool {
    match Inspection::open(root, |_| true) {
        Ok(inspection) => inspection
            .findings()
            .iter()
            .any(|finding| finding.fault.severity() == flux_storage::Severity::Damage),
        Err(error) => error.is_damage(),
    }
}

#[test]
fn a_log_that_is_gone_is_missed_by_anything_that_was_made_after_it() {
    for (evidence, is_dir) in [
        ("WORLD", false),
        ("control", true),
        ("checkpoints/000001", true),
        ("base/000001", true),
    ] {
        for leaves_mount_point in [false, true] {
            let (scratch, _) = closed();
            let root = &scratch.path();
            fs::remove_dir_all(root.join("log")).unwrap();
            fs::remove_dir_all(root.join("control")).unwrap();
            fs::remove_file(root.join("WORLD")).unwrap();
            if leaves_mount_point {
                fs::create_dir(root.join("log")).unwrap();
            }
            let path = root.join(evidence);
            if is_dir {
                fs::create_dir_all(&path).unwrap();
            } else {
                replace(&path, b"whatever");
            }
            let before = files(root);
            let error = scratch.open(1, SMALL).expect_err(evidence);
            assert!(
                matches!(&error, StorageError::LogGone { path: gone, evidence: found }
                    if **gone == *root.join("log/000001") && **found == *path),
                "{error}"
            );
            assert!(error.is_damage());
            assert!(is_damaged(root), "{evidence}");
            assert!(
                Repair::plan(root, |_| true, &mut |_| {}).is_err_and(|it| it.is_damage())
                    || leaves_mount_point
            );
            assert!(files(root) == before, "{evidence}: nothing was changed");
        }
    }
}

#[test]
fn the_newest_generation_is_missed_by_its_checkpoints() {
    let (scratch, _) = closed();
    drop(scratch.open(2, SMALL).unwrap());
    fs::create_dir_all(scratch.path().join("base/000002/000-of-002")).unwrap();
    fs::remove_dir_all(scratch.path().join("log/000002")).unwrap();
    let before = files(scratch.path());
    for shard_count in [1, 2] {
        let error = scratch.open(shard_count, SMALL).unwrap_err();
        assert!(matches!(error, StorageError::LogGone { .. }), "{error}");
    }
    assert!(is_damaged(scratch.path()));
    assert!(files(scratch.path()) == before);
}

#[test]
fn a_log_of_another_directory_is_refused() {
    for (below, has_world_file) in [
        ("log/000001/000-of-001", true),
        ("log/000001", true),
        ("control", true),
        ("control", false),
    ] {
        let (scratch, records) = closed();
        let (other, _) = closed();
        let place = scratch.path().join(below);
        let own = scratch.path().join("own");
        fs::rename(&place, &own).unwrap();
        fs::rename(other.path().join(below), &place).unwrap();
        if !has_world_file {
            fs::remove_file(scratch.path().join("WORLD")).unwrap();
        }
        let before = files(scratch.path());
        let error = scratch.open(1, SMALL).expect_err(below);
        assert!(
            matches!(&error, StorageError::ForeignLog { path } if path.starts_with(&place)),
            "{error}"
        );
        assert!(is_damaged(scratch.path()), "{below}");
        let repair = Repair::plan(scratch.path(), |_| true, &mut |_| {}).unwrap();
        assert!(repair.is_needed() && !repair.is_possible());
        drop(repair);
        assert!(files(scratch.path()) == before);
        fs::rename(&place, other.path().join(below)).unwrap();
        fs::rename(&own, &place).unwrap();
        let (_, _, found) = scratch.open(1, SMALL).unwrap().log();
        assert_eq!(found, records);
    }
}

/// Takes the world out of a directory, as if an older program had written it.
fn forget_world(root: &Path) {
    fs::remove_file(root.join("WORLD")).unwrap();
    for (path, mut bytes) in files(root) {
        if path.extension().is_some_and(|it| it == "seg") {
            assert_ne!(bytes[96..108], [0; 12]);
            bytes[96..108].fill(0);
            replace(&path, &bytes);
        }
    }
}

#[test]
fn a_directory_of_an_older_program_stays_readable_and_is_given_a_world() {
    let (scratch, records) = closed();
    forget_world(&scratch.path());
    let last = files(scratch.log_dir(1, 0, 1))
        .into_keys()
        .filter(|path| path.extension().is_some())
        .max()
        .unwrap();
    let (mut log, _, found) = scratch.open(1, SMALL).unwrap().log();
    assert_eq!(found, records);
    for number in 0..60 {
        append(&mut log, &payload(number, 700));
    }
    log.close().unwrap();
    assert!(!is_damaged(scratch.path()));
    let world = fs::read(scratch.path().join("WORLD")).unwrap();
    let names_world = |path: &PathBuf, bytes: &Vec<u8>| {
        assert_eq!(*path > last, bytes[96..104] == world[8..16], "{path:?}");
    };
    for (path, bytes) in files(scratch.log_dir(1, 0, 1)) {
        if path.extension().is_some() {
            names_world(&path, &bytes);
        }
    }
}

#[test]
fn a_world_file_that_is_gone_or_damaged_is_made_again_from_the_segments() {
    let (scratch, records) = closed();
    let path = scratch.path().join("WORLD");
    let whole = fs::read(&path).unwrap();
    for damaged in [None, Some(&b"damaged"[..]), Some(&[0; 24])] {
        match damaged {
            Some(bytes) => replace(&path, bytes),
            None => fs::remove_file(&path).unwrap(),
        }
        let (log, _, found) = scratch.open(1, SMALL).unwrap().log();
        assert_eq!(found, records);
        log.close().unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn a_control_log_is_missed_if_there_was_one_or_there_are_records() {
    let scratch = Scratch::new();
    let lacks_control = || {
        let data = DataDir::open(scratch.path(), 1, SMALL).unwrap();
        data.lacks_control().unwrap()
    };
    assert!(!lacks_control(), "the first start was cut off");
    assert!(!lacks_control(), "and the second");
    let control = scratch.path().join("control");
    let data = DataDir::open(scratch.path(), 1, SMALL).unwrap();
    drop(data.take_control_log(SMALL).unwrap());
    drop(data);
    assert!(!lacks_control());
    fs::remove_dir_all(&control).unwrap();
    assert!(lacks_control(), "there was one");

    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    append(&mut log, b"an event");
    log.close().unwrap();
    let data = DataDir::open(scratch.path(), 1, SMALL).unwrap();
    assert!(data.lacks_control().unwrap(), "there are records");
}
