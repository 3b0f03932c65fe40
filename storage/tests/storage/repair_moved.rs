//! Records that lie elsewhere than they were written, whole: copied, moved within their segment, or
//! with the whole log that they are in.
//!
//! Recovery takes a record only in its place, so the check and the repair must not take it anywhere
//! else either.

use std::fs;
use std::path::{Path, PathBuf};

use flux_storage::{Fault, Repair, Severity};

use crate::repair::{
    RECORDS, check_contiguous, check_repaired, closed_log, places, reopen, repair, restore, swap,
    two_shards,
};
use crate::support::{SMALL, Scratch, append, payload, replace};
use crate::verify::look;

fn segment(scratch: &Scratch, index: usize) -> PathBuf {
    let name = format!("{:08}.seg", index + 1);
    scratch.log_dir(1, 0, 1).join(name)
}

/// Moves what follows an offset of a segment by so many bytes, and fills them.
fn shift(path: &Path, offset: usize, bytes: usize, fill: u8) {
    let mut content = fs::read(path).unwrap();
    let len = content.len();
    content.copy_within(offset..len - bytes, offset + bytes);
    content[offset..offset + bytes].fill(fill);
    replace(path, &content);
}

#[test]
fn records_behind_bytes_that_are_none_are_put_back() {
    let (scratch, records) = closed_log();
    let files = scratch.files();
    let mut moved = 0;
    for (index, offset, _) in places() {
        let end = places()
            .into_iter()
            .filter(|place| place.0 == index)
            .map(|(_, offset, bytes)| offset + bytes)
            .max()
            .unwrap();
        for (bytes, fill) in [(8, 0), (64, 0), (64, 0x5a), (160, 1)] {
            // The last record of all says of none after it that it was durable, but `DURABLE` does.
            if end + bytes > 8192 {
                continue;
            }
            moved += 1;
            let story = format!("segment {} from {offset} moved by {bytes}", index + 1);
            shift(&segment(&scratch, index), offset, bytes, fill);
            check_repaired(&scratch, &records, &[], &story);
            restore(&scratch, &files);
        }
    }
    assert!(moved > 20, "{moved}");
}

#[test]
fn a_record_that_moved_and_was_perhaps_never_durable_is_a_torn_tail() {
    let (scratch, records) = closed_log();
    fs::remove_file(scratch.log_dir(1, 0, 1).join("DURABLE")).unwrap();
    let (index, offset, _) = *places().last().unwrap();
    shift(&segment(&scratch, index), offset, 64, 0);
    let report = look(&scratch);
    let faults: Vec<&Fault> = report.findings.iter().map(|it| &it.fault).collect();
    assert!(
        matches!(faults[..], [Fault::NoWatermark, Fault::TornTail { .. }]),
        "{faults:?}"
    );
    assert_eq!(repair(&scratch, "nothing is damaged"), 0);
    let found = reopen(&scratch).unwrap();
    assert_eq!(found[..], records[..records.len() - 1]);
}

/// Copies within segments, with other damage: what recovery refuses is damage, what it accepts is
/// none, and what was repaired opens, with records of before.
#[test]
fn random_copies_are_repaired_or_need_no_repair() {
    let (scratch, records) = closed_log();
    let files = scratch.files();
    let mut refused = 0;
    for seed in 0..600 {
        let story = format!("seed {seed}");
        let mut chance = fastrand::Rng::with_seed(seed);
        for _ in 0..=chance.usize(..5) {
            // Of the five files the last is `DURABLE`.
            let (path, _) = &files[chance.usize(..5)];
            let mut bytes = fs::read(path).unwrap();
            let records = 4096.min(bytes.len() / 2);
            let from = (records + chance.usize(..bytes.len() - records)) / 8 * 8;
            let to = (records + chance.usize(..bytes.len() - records)) / 8 * 8;
            let room = bytes.len() - from.max(to);
            let count = [256, 1024, 4096][chance.usize(..3)].min(room);
            match chance.u32(..8) {
                0 => bytes[from..from + count].fill(0),
                1 => bytes[from] ^= 1 << chance.u32(..8),
                2 => bytes[chance.usize(..532)] ^= 1,
                _ => bytes.copy_within(from..from + count, to),
            }
            replace(path, &bytes);
        }
        let report = look(&scratch);
        let damaged = scratch.files();
        let opened = reopen(&scratch);
        assert_eq!(
            report.is_damaged(),
            opened.is_err(),
            "{story}: {opened:?}, {:?}",
            report.findings
        );
        if opened.is_err() {
            refused += 1;
            restore(&scratch, &damaged);
            assert!(repair(&scratch, &story) > 0, "{story}");
        }
        let left = look(&scratch).findings;
        let is_damage = |fault: &Fault| fault.severity() == Severity::Damage;
        assert!(!left.iter().any(|it| is_damage(&it.fault)), "{story}");
        let found = reopen(&scratch).unwrap_or_else(|error| panic!("{story}: {error}"));
        let (kept, lost) = check_contiguous(&found, &story);
        assert!(kept.len() + lost.len() <= records.len(), "{story}");
        assert!(kept.iter().all(|it| records.contains(it)), "{story}");
        restore(&scratch, &files);
    }
    assert!(refused > 100, "{refused} of 600, with {RECORDS} records");
}

/// Checks that a repair names every segment of a log that lies in another's place, and stops.
fn check_not_given_up(scratch: &Scratch, (lies, belongs): (&Path, &Path), story: &str) {
    let repair = Repair::plan(scratch.path(), |_| true, &mut |_| {}).unwrap();
    assert!(repair.is_needed() && !repair.is_possible(), "{story}");
    let mut segments = 0;
    for entry in fs::read_dir(lies).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "seg") {
            continue;
        }
        segments += 1;
        let place = belongs.join(path.file_name().unwrap());
        let is_named = repair.findings().any(|finding| {
            let to = match &finding.fault {
                Fault::Misfiled { belongs } => Some(belongs),
                _ => None,
            };
            *finding.path == *path && to.is_some_and(|to| **to == *place)
        });
        assert!(is_named, "{story}: {}", path.display());
    }
    assert!(segments > 2, "{story}: {segments}");
}

#[test]
fn a_whole_log_in_another_logs_place_is_named_and_not_given_up() {
    let scratch = two_shards();
    let [one, other] = [0, 1].map(|shard| scratch.log_dir(1, shard, 2));
    swap(&one, &other);
    for pair in [(&*one, &*other), (&*other, &*one)] {
        check_not_given_up(&scratch, pair, "two shards in each other's place");
    }
    swap(&one, &other);
    fs::rename(&other, scratch.path().join("beside")).unwrap();
    fs::rename(&one, &other).unwrap();
    check_not_given_up(
        &scratch,
        (&other, &one),
        "one in the place of one that is gone",
    );
    fs::rename(&other, &one).unwrap();
    fs::rename(scratch.path().join("beside"), &other).unwrap();
    let mut data = scratch.open(2, SMALL).unwrap();
    assert_eq!(data.shard(0).unwrap().2.len(), 40);
    assert_eq!(data.shard(1).unwrap().2.len(), 40);
}

#[test]
fn generations_in_each_others_place_are_named_and_not_given_up() {
    let scratch = Scratch::new();
    for shards in [1, 2, 1] {
        let mut data = scratch.open(shards, SMALL).unwrap();
        for shard in 0..shards {
            let (mut log, ..) = data.shard(shard).unwrap();
            for number in 0..40 {
                append(&mut log, &payload(number, 1000));
            }
            log.close().unwrap();
        }
    }
    let [one, other] = [1, 3].map(|generation| scratch.log_dir(generation, 0, 1));
    swap(&one, &other);
    for pair in [(&*one, &*other), (&*other, &*one)] {
        check_not_given_up(&scratch, pair, "two generations in each other's place");
    }
    swap(&one, &other);
    drop(scratch.open(1, SMALL).unwrap());
}
