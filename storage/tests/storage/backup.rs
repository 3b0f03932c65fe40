//! Backups: taken at any moment of a log's life they open, and hold everything that was there when
//! they began; what is damaged is neither copied nor put back.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use flux_storage::{
    BackupError, BackupOptions, BackupSummary, CheckpointDir, CheckpointKind, CheckpointMeta,
    CopyProgress, DataDir, LayerEntity, LayerStack, Log, LogOptions, Owner, Removal, RetirePlan,
    Sequence, backup, is_overtaken, restore,
};

use crate::support::{Kept, Opened, SMALL, Scratch, append, payload, replace};

const EQUAL: LogOptions = LogOptions {
    segment_bytes_max: 8192,
    ..SMALL
};

const OPTIONS: BackupOptions = BackupOptions {
    body_check: |_| true,
    time_micros: 77,
};

fn silent(_: CopyProgress<'_>) {}

fn back_up(scratch: &Scratch, to: &Path) -> Result<BackupSummary, BackupError> {
    backup(&scratch.path(), to, OPTIONS, &mut silent)
}

fn target(scratch: &Scratch) -> PathBuf {
    scratch.path().with_file_name("copy")
}

/// The records of the only shard of a data directory.
fn records(path: &Path) -> Vec<Kept> {
    let opened = Opened(DataDir::open(path, 1, EQUAL).unwrap());
    let (log, recovery, records) = opened.log();
    assert_eq!(recovery.cut, None, "a copy has no torn tail");
    log.close().unwrap();
    records
}

fn fill(log: &mut Log, count: u64) -> Vec<Kept> {
    let first = log.appended().get() + 1;
    let numbers = first..first + count;
    let appended = numbers.map(|number| append(log, &payload(number, 700)));
    appended.collect()
}

fn below(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![path.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_dir() {
                dirs.push(entry);
            } else {
                let name = entry.strip_prefix(path).unwrap();
                found.push((name.to_str().unwrap().to_owned(), fs::read(&entry).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Publishes a state of one entity, through `through`.
fn publish(path: PathBuf, owner: Owner, kind: CheckpointKind, through: Sequence) {
    let mut dir = CheckpointDir::new(path, owner, kind, |_| true);
    dir.load().unwrap();
    let meta = CheckpointMeta {
        through,
        time_micros: 5,
        events: through.get(),
        entities: 1,
        last_delete: Sequence::ZERO,
    };
    let entity = LayerEntity {
        id: "a/b",
        version: through.get(),
        time_micros: 5,
        sequence: through,
        body: Some("body"),
    };
    let pace = &mut |_| ControlFlow::Continue(());
    let pending = dir
        .write([entity].into_iter(), &LayerStack::default(), meta, pace)
        .unwrap();
    dir.publish(pending).unwrap();
    dir.remove_unreferenced().unwrap();
}

fn publish_base(scratch: &Scratch, log: &Log, through: Sequence) {
    let path = scratch.path().join("base/000001/000-of-001");
    publish(path, log.owner(), CheckpointKind::Base, through);
}

fn publish_checkpoint(scratch: &Scratch, log: &Log) {
    let path = scratch.path().join("checkpoints/000001/000-of-001");
    publish(path, log.owner(), CheckpointKind::Cache, log.durable());
}

/// Removes the first `count` segments, behind a base that covers them.
fn retire(scratch: &Scratch, log: &mut Log, count: usize) {
    let segments = log.removable(Sequence::new(u64::MAX));
    let removal = Removal {
        excess_bytes: segments[..count].iter().map(|segment| segment.bytes).sum(),
        before_micros: i64::MIN,
    };
    let plan = RetirePlan::choose(&segments, removal).unwrap().unwrap();
    publish_base(scratch, log, plan.log_start().first_sequence);
    log.retire(plan).run().unwrap();
}

fn no_copy_is_left(scratch: &Scratch) {
    let copy = target(scratch);
    assert!(!copy.exists());
    assert!(!copy.with_file_name("copy.partial").exists());
}

#[test]
fn a_copy_of_an_open_log_holds_what_was_appended_and_opens() {
    for count in [0, 1, 9, 10, 11, 60] {
        let scratch = Scratch::new();
        let (mut log, ..) = scratch.open(1, EQUAL).unwrap().log();
        let expected = fill(&mut log, count);
        log.write_out().unwrap();
        let summary = back_up(&scratch, &target(&scratch)).unwrap();
        let position = summary.logs[0];
        assert_eq!(
            (position.through, summary.time_micros),
            (log.appended(), 77)
        );
        assert_eq!(
            position.time_micros,
            expected.last().map(|last| last.time_micros)
        );
        assert_eq!(records(&target(&scratch)), expected, "{count} records");
        fill(&mut log, 1);
    }
}

#[test]
fn generations_checkpoints_and_bases_are_copied() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, EQUAL).unwrap().log();
    fill(&mut log, 40);
    log.flush_blocking().unwrap();
    publish_checkpoint(&scratch, &log);
    retire(&scratch, &mut log, 2);
    log.close().unwrap();
    let mut opened = scratch.open(2, EQUAL).unwrap();
    for shard in 0..2 {
        let (mut log, ..) = opened.shard(shard).unwrap();
        fill(&mut log, 5);
        log.close().unwrap();
    }
    drop(opened);
    let summary = back_up(&scratch, &target(&scratch)).unwrap();
    let positions: Vec<_> = summary
        .logs
        .iter()
        .map(|log| (log.generation, log.shard, log.through.get()))
        .collect();
    assert_eq!(positions, [(1, 0, 40), (2, 0, 45), (2, 1, 45)]);
    assert_eq!(summary.left_out, []);
    let bytes = |mut files: Vec<(String, Vec<u8>)>| {
        files.retain(|(name, _)| !["BACKUP", "LOCK"].contains(&name.as_str()));
        files
    };
    let copied = bytes(below(&target(&scratch)));
    assert!(copied.iter().any(|(name, _)| name.starts_with("base/")));
    assert!(copied.iter().any(|(name, _)| name.ends_with("HORIZON")));
    let spares = |name: &str| name == "log/000002/000-of-002/00000002.seg";
    let mut original = bytes(below(&scratch.path()));
    original.retain(|(name, _)| !spares(name));
    assert!(
        copied == original,
        "what is at rest is copied byte for byte"
    );
    assert_eq!(summary.files, copied.len() as u64);
}

#[test]
fn a_copy_taken_while_records_are_appended_and_removed_is_the_log_at_some_moment_since() {
    let mut copies = 0;
    for seed in 0..60 {
        let scratch = Scratch::new();
        let (mut log, ..) = scratch.open(1, EQUAL).unwrap().log();
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut all = fill(&mut log, 30 + chance.u64(..60));
        log.flush_blocking().unwrap();
        publish_checkpoint(&scratch, &log);
        if chance.u64(..2) == 0 {
            retire(&scratch, &mut log, 1);
        }
        let before = log.appended();
        let result = backup(&scratch.path(), &target(&scratch), OPTIONS, &mut |_| {
            let count = chance.u64(..4);
            all.extend(fill(&mut log, count));
            if chance.u64(..8) == 0 {
                log.flush_blocking().unwrap();
            }
            if chance.u64(..20) == 0 {
                log.flush_blocking().unwrap();
                publish_checkpoint(&scratch, &log);
            }
            if chance.u64(..80) == 0 && log.removable(Sequence::new(u64::MAX)).len() > 2 {
                retire(&scratch, &mut log, 1);
            }
        });
        let summary = match result {
            Err(BackupError::Overtaken { .. }) => continue,
            Err(BackupError::Storage(error)) if is_overtaken(&error) => continue,
            result => result.unwrap_or_else(|error| panic!("seed {seed}: {error}")),
        };
        let through = summary.logs[0].through;
        assert!(through >= before, "seed {seed}: {through} after {before}");
        let found = records(&target(&scratch));
        let last = usize::try_from(through.get()).unwrap();
        assert!(all[..last].ends_with(&found), "seed {seed}");
        let removed = scratch
            .path()
            .join("log/000001/000-of-001/HORIZON")
            .exists();
        assert!(removed || found.len() == last, "seed {seed}");
        let covered = fs::read_dir(target(&scratch).join("checkpoints/000001/000-of-001"));
        assert_eq!(
            covered.unwrap().count(),
            2,
            "seed {seed}: a layer and its manifest"
        );
        copies += 1;
    }
    assert!(
        copies > 40,
        "{copies} copies were not overtaken by retention"
    );
}

#[test]
fn half_a_record_at_the_end_is_not_copied() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, EQUAL).unwrap().log();
    let expected = fill(&mut log, 3);
    log.flush_blocking().unwrap();
    let segment = scratch.log_dir(1, 0, 1).join("00000001.seg");
    let whole = fs::read(&segment).unwrap();
    fill(&mut log, 1);
    let longer = fs::read(&segment).unwrap();
    drop(log);
    let (start, end) = (4096 + 3 * 728, 4096 + 4 * 728);
    assert!(
        whole[start..].iter().all(|&byte| byte == 0),
        "three records"
    );
    for cut in (start + 4..end).step_by(36) {
        let mut torn = longer.clone();
        torn[cut..end].fill(0);
        replace(&segment, &torn);
        back_up(&scratch, &target(&scratch)).unwrap();
        let copy = target(&scratch).join("log/000001/000-of-001/00000001.seg");
        assert!(fs::read(copy).unwrap() == whole, "cut at {cut}");
        assert_eq!(records(&target(&scratch)), expected);
        fs::remove_dir_all(target(&scratch)).unwrap();
    }
}

#[test]
fn a_log_that_retention_keeps_removing_is_given_up_and_nothing_is_left() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, EQUAL).unwrap().log();
    fill(&mut log, 75);
    log.flush_blocking().unwrap();
    let mut log_starts = 0;
    let result = backup(&scratch.path(), &target(&scratch), OPTIONS, &mut |at| {
        if at.path.ends_with("00000014.seg") && log_starts < 10 {
            log_starts += 1;
            retire(&scratch, &mut log, 1);
        }
    });
    assert!(matches!(result, Err(BackupError::Overtaken { .. })));
    assert_eq!(log_starts, 10);
    no_copy_is_left(&scratch);
    let summary = back_up(&scratch, &target(&scratch)).unwrap();
    assert_eq!(summary.logs[0].through, log.appended());
}

#[test]
fn a_segment_that_vanishes_while_it_is_copied_makes_the_log_be_copied_again() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, EQUAL).unwrap().log();
    let all = fill(&mut log, 60);
    log.flush_blocking().unwrap();
    let mut retired = false;
    backup(&scratch.path(), &target(&scratch), OPTIONS, &mut |at| {
        if at.path.ends_with("00000002.seg") && !retired {
            retired = true;
            retire(&scratch, &mut log, 5);
        }
    })
    .unwrap();
    assert!(retired);
    let first = usize::try_from(log.first_sequence().previous().get()).unwrap();
    assert!(first > 0);
    assert_eq!(records(&target(&scratch)), all[first..]);
    assert!(
        !target(&scratch)
            .join("log/000001/000-of-001/00000001.seg")
            .exists()
    );
}

#[test]
fn a_damaged_log_is_not_backed_up() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, EQUAL).unwrap().log();
    fill(&mut log, 25);
    log.close().unwrap();
    for (path, original) in scratch.files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.extension() != Some("seg".as_ref())
            || original[4096..].iter().all(|&byte| byte == 0)
        {
            continue;
        }
        for offset in [10, 4100, 4096 + 728 + 40, 4096 + 4 * 728 + 9] {
            let mut bytes = original.clone();
            bytes[offset] ^= 1;
            replace(&path, &bytes);
            let error = back_up(&scratch, &target(&scratch)).unwrap_err();
            assert!(error.is_damage(), "{name} at {offset}: {error}");
            assert!(error.to_string().contains(name), "{error}");
            no_copy_is_left(&scratch);
        }
        replace(&path, &original);
    }
    fs::remove_file(scratch.log_dir(1, 0, 1).join("00000002.seg")).unwrap();
    let error = back_up(&scratch, &target(&scratch)).unwrap_err();
    assert!(
        error.is_damage() && error.to_string().contains("00000002.seg"),
        "{error}"
    );
}

#[test]
fn a_damaged_checkpoint_is_left_out_and_a_damaged_base_is_refused() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, EQUAL).unwrap().log();
    let all = fill(&mut log, 40);
    log.flush_blocking().unwrap();
    publish_checkpoint(&scratch, &log);
    retire(&scratch, &mut log, 1);
    let (checkpoint, base) = (
        scratch.path().join("checkpoints"),
        scratch.path().join("base"),
    );
    let damage = |dir: &Path, suffix: &str| {
        let (name, mut bytes) = below(dir)
            .into_iter()
            .find(|(name, _)| name.ends_with(suffix))
            .unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        replace(&dir.join(name), &bytes);
    };
    for suffix in [".layer", ".manifest"] {
        damage(&checkpoint, suffix);
        let summary = back_up(&scratch, &target(&scratch)).unwrap();
        assert_eq!(summary.left_out.len(), 1, "{suffix}");
        assert!(summary.left_out[0].path.starts_with(&checkpoint));
        let copied = below(&target(&scratch));
        assert!(
            copied
                .iter()
                .all(|(name, _)| !name.starts_with("checkpoints"))
        );
        assert!(all.ends_with(&records(&target(&scratch))));
        fs::remove_dir_all(target(&scratch)).unwrap();
        damage(&checkpoint, suffix);

        damage(&base, suffix);
        let error = back_up(&scratch, &target(&scratch)).unwrap_err();
        assert!(matches!(error, BackupError::DamagedBase(_)), "{error}");
        damage(&base, suffix);
    }
    fs::remove_dir_all(&base).unwrap();
    let error = back_up(&scratch, &target(&scratch)).unwrap_err();
    assert!(matches!(error, BackupError::NoBase { .. }), "{error}");
}

#[test]
fn what_a_killed_backup_left_is_replaced_and_nothing_else_ever_is() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, EQUAL).unwrap().log();
    let all = fill(&mut log, 5);
    log.write_out().unwrap();
    let copy = target(&scratch);
    let partial = copy.with_file_name("copy.partial");

    fs::create_dir_all(partial.join("data/log")).unwrap();
    replace(&partial.join("data/log/x"), b"mine");
    let error = back_up(&scratch, &copy).unwrap_err();
    assert!(matches!(error, BackupError::InTheWay { .. }), "{error}");
    assert!(partial.join("data/log/x").exists());

    replace(&partial.join("INCOMPLETE"), b"");
    let mut second = None;
    backup(&scratch.path(), &copy, OPTIONS, &mut |_| {
        second.get_or_insert_with(|| back_up(&scratch, &copy).unwrap_err().to_string());
    })
    .unwrap();
    assert!(second.unwrap().contains("in use"), "two at once");
    assert!(!partial.exists());
    assert_eq!(records(&copy), all);

    let error = back_up(&scratch, &copy).unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty { .. }), "{error}");
    let error = back_up(&scratch, &copy.join("BACKUP")).unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty { .. }), "{error}");
    fs::remove_dir_all(&copy).unwrap();
    fs::create_dir(&copy).unwrap();
    back_up(&scratch, &copy).unwrap();
    let error = back_up(&scratch, &copy.join("..")).unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty { .. }), "{error}");
}

#[test]
fn what_is_restored_is_what_was_backed_up() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, EQUAL).unwrap().log();
    fill(&mut log, 40);
    log.flush_blocking().unwrap();
    publish_checkpoint(&scratch, &log);
    retire(&scratch, &mut log, 2);
    let copy = target(&scratch);
    let made = back_up(&scratch, &copy).unwrap();
    let restored = scratch.path().with_file_name("deep/er/restored");
    assert_eq!(restore(&copy, &restored, &mut silent).unwrap(), made);
    let mut expected = below(&copy);
    expected.retain(|(name, _)| name != "BACKUP");
    assert!(below(&restored) == expected);
    let error = restore(&copy, &restored, &mut silent).unwrap_err();
    assert!(matches!(error, BackupError::NotEmpty { .. }), "{error}");
    let error = restore(&restored, &copy.join("x"), &mut silent).unwrap_err();
    assert!(matches!(error, BackupError::NotABackup { .. }), "{error}");
}

#[test]
fn a_backup_of_which_any_file_was_changed_is_not_restored() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, EQUAL).unwrap().log();
    fill(&mut log, 25);
    log.flush_blocking().unwrap();
    publish_checkpoint(&scratch, &log);
    retire(&scratch, &mut log, 1);
    let copy = target(&scratch);
    back_up(&scratch, &copy).unwrap();
    let restored = scratch.path().with_file_name("restored");
    let files = below(&copy);
    assert!(files.len() > 7);
    for (name, bytes) in &files {
        let path = copy.join(name);
        let check = |story: &str| {
            let error = restore(&copy, &restored, &mut silent).unwrap_err();
            let named = error.to_string().contains(name.as_str());
            assert!(error.is_damage() && named, "{name} {story}: {error}");
            assert!(!restored.exists());
        };
        for offset in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[offset] ^= 0x10;
            replace(&path, &changed);
            check("changed");
        }
        replace(&path, &bytes[..bytes.len() - 1]);
        check("cut");
        replace(&path, &[bytes.as_slice(), b"\0"].concat());
        check("longer");
        if name != "BACKUP" {
            fs::remove_file(&path).unwrap();
            check("removed");
        }
        replace(&path, bytes);
    }
    restore(&copy, &restored, &mut silent).unwrap();
}
