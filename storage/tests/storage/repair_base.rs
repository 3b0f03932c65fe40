//! What goes along with a log, looked at and repaired: the log start that retention left, the base,
//! checkpoints, and the history indexes.

use std::fs;
use std::path::{Path, PathBuf};

use flux_storage::{
    CheckpointDir, CheckpointKind, CheckpointMeta, Fault, IndexKey, LayerEntity, LayerStack,
    LogOptions, Record, Removal, Repair, RetirePlan, ScrubFinding, Sequence, Severity,
    StorageError,
};

use crate::support::{Kept, SMALL, Scratch, append, payload, replace};
use crate::verify::look;

const OPTIONS: LogOptions = LogOptions {
    segment_bytes_max: 8192,
    index_key: IndexKey {
        scheme: 1,
        of: |_, payload| payload.len() as u64,
    },
    ..SMALL
};

/// A log of five closed segments of three records, of which the first three were retired, with a
/// base through record 9 and a checkpoint through record 12; closed. The records that are left.
fn retired_log() -> (Scratch, Vec<Kept>) {
    let scratch = Scratch::new();
    let mut data = scratch.open(1, OPTIONS).unwrap();
    let (mut log, ..) = data.shard(0).unwrap();
    let records = (1..=17).map(|number| append(&mut log, &payload(number, 1300)));
    let mut records: Vec<Kept> = records.collect();
    log.flush_blocking().unwrap();
    for (kind, through) in [(CheckpointKind::Base, 9), (CheckpointKind::Cache, 12)] {
        publish(&scratch, (kind, log.owner()), through);
    }
    let segments = log.removable(Sequence::new(10));
    let removal = Removal {
        excess_bytes: u64::MAX,
        before_micros: i64::MIN,
    };
    let plan = RetirePlan::choose(&segments, removal).unwrap().unwrap();
    log.retire(plan).run().unwrap();
    while let Some(job) = log.index_job() {
        job.run().unwrap();
    }
    log.close().unwrap();
    let is_there = |name| path(&scratch, name).exists();
    assert!(is_there("00000004.idx") && is_there("HORIZON") && !is_there("00000003.seg"));
    (scratch, records.split_off(9))
}

fn publish(scratch: &Scratch, (kind, owner): (CheckpointKind, flux_storage::Owner), through: u64) {
    let name = match kind {
        CheckpointKind::Base => "base",
        CheckpointKind::Cache => "checkpoints",
    };
    let path = scratch.path().join(name).join("000001/000-of-001");
    let mut dir = CheckpointDir::new(path, owner, kind, |_| true);
    dir.load().unwrap();
    let sequence = Sequence::new(through);
    let entity = LayerEntity {
        id: "a",
        version: 1,
        time_micros: 5,
        sequence,
        body: Some("{}"),
    };
    let meta = CheckpointMeta {
        through: sequence,
        time_micros: i64::try_from(through).unwrap() * 1000,
        events: through,
        entities: 1,
        last_delete: Sequence::ZERO,
    };
    let stack = LayerStack::default();
    let pace = &mut |_| std::ops::ControlFlow::Continue(());
    let pending = dir.write([entity].into_iter(), &stack, meta, pace).unwrap();
    dir.publish(pending).unwrap();
}

fn path(scratch: &Scratch, name: &str) -> PathBuf {
    scratch.log_dir(1, 0, 1).join(name)
}

fn reopen(scratch: &Scratch) -> Result<Vec<Kept>, StorageError> {
    let mut data = scratch.open(1, OPTIONS)?;
    data.shard(0).map(|(_, _, records)| records)
}

fn repair(scratch: &Scratch) {
    let plan = Repair::plan(scratch.path(), |_| true, &mut |_| {}).unwrap();
    assert!(plan.is_needed() && plan.is_possible());
    plan.run(&scratch.path().join("repair-1")).unwrap();
    let report = look(scratch);
    assert!(!report.is_damaged(), "{:?}", report.findings);
}

fn damage_of(scratch: &Scratch) -> Vec<Fault> {
    let is_damage = |finding: &ScrubFinding| finding.fault.severity() == Severity::Damage;
    let findings = look(scratch).findings.into_iter().filter(is_damage);
    findings.map(|finding| finding.fault).collect()
}

fn damage_file(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 0x40;
    replace(path, &bytes);
}

/// The only file of this kind in a directory.
fn only(scratch: &Scratch, dir: &str, extension: &str) -> PathBuf {
    let dir = scratch.path().join(dir).join("000001/000-of-001");
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found = entries.filter(|path| path.extension().is_some_and(|it| it == extension));
    let first = found.next().unwrap();
    assert_eq!(found.next(), None);
    first
}

#[test]
fn a_log_without_its_beginning_is_whole_by_its_horizon_and_base() {
    let (scratch, records) = retired_log();
    let report = look(&scratch);
    assert_eq!(report.findings, []);
    let summary = report.summary;
    assert_eq!(
        (summary.records, summary.first.unwrap().sequence.get()),
        (8, 10)
    );
    assert_eq!(reopen(&scratch).unwrap(), records);
    // What a crash left of the removed segments is harmless.
    replace(&path(&scratch, "00000002.seg"), b"left over");
    assert_eq!(damage_of(&scratch), []);
}

#[test]
fn a_lost_horizon_is_made_anew_from_the_base() {
    let check = |damage: &dyn Fn(&Path)| {
        let (scratch, records) = retired_log();
        damage(&path(&scratch, "HORIZON"));
        assert!(matches!(
            reopen(&scratch),
            Err(StorageError::NoLogStart { .. })
        ));
        assert_eq!(damage_of(&scratch), [Fault::NoLogStart]);
        repair(&scratch);
        assert_eq!(reopen(&scratch).unwrap(), records);
        let mut data = scratch.open(1, OPTIONS).unwrap();
        let log_start = data.0.take_log(0).origin().unwrap().removed.unwrap();
        assert_eq!(
            (log_start.first_ordinal, log_start.first_sequence.get()),
            (4, 10)
        );
        assert_eq!(log_start.time_micros, 9000, "that of the base");
    };
    check(&|path| fs::remove_file(path).unwrap());
    check(&|path| replace(path, b""));
    check(&|path| {
        damage_file(path, 40);
        damage_file(path, 512 + 40);
    });
}

#[test]
fn what_is_lost_after_the_base_is_a_gap() {
    let (scratch, records) = retired_log();
    fs::remove_file(path(&scratch, "HORIZON")).unwrap();
    fs::remove_file(path(&scratch, "00000004.seg")).unwrap();
    repair(&scratch);
    let found = reopen(&scratch).unwrap();
    let gap = Record {
        sequence: found[0].sequence,
        time_micros: found[0].time_micros,
        kind: found[0].kind,
        group: None,
        payload: &found[0].payload,
    };
    let gap = gap.gap().unwrap();
    assert_eq!((gap.first.get(), gap.last.get()), (10, 12));
    assert_eq!(found[1..], records[3..]);
}

#[test]
fn without_horizon_and_base_all_that_is_missing_is_lost() {
    let (scratch, records) = retired_log();
    fs::remove_file(path(&scratch, "HORIZON")).unwrap();
    fs::remove_dir_all(scratch.path().join("base")).unwrap();
    repair(&scratch);
    let found = reopen(&scratch).unwrap();
    let gaps = found.iter().take_while(|record| record.kind == 255).count();
    assert_eq!(gaps, 3);
    assert_eq!(found[gaps..], records);
}

#[test]
fn a_base_that_nothing_can_replace_is_not_touched() {
    let check = |damage: &dyn Fn(&Scratch)| {
        let (scratch, records) = retired_log();
        damage(&scratch);
        let found = damage_of(&scratch);
        let is_fatal =
            |fault: &Fault| matches!(fault, Fault::NoBase | Fault::Base { is_last: true, .. });
        assert!(found.iter().any(is_fatal), "{found:?}");
        let plan = Repair::plan(scratch.path(), |_| true, &mut |_| {}).unwrap();
        assert_eq!((plan.is_needed(), plan.is_possible()), (true, false));
        drop(plan);
        assert_eq!(reopen(&scratch).unwrap(), records);
    };
    check(&|scratch| fs::remove_dir_all(scratch.path().join("base")).unwrap());
    check(&|scratch| damage_file(&only(scratch, "base", "layer"), 100));
    check(&|scratch| damage_file(&only(scratch, "base", "manifest"), 100));
    check(&|scratch| fs::remove_file(only(scratch, "base", "layer")).unwrap());
}

#[test]
fn a_damaged_checkpoint_is_set_aside() {
    for (extension, at) in [("layer", 70), ("layer", usize::MAX), ("manifest", 40)] {
        let (scratch, records) = retired_log();
        let path = only(&scratch, "checkpoints", extension);
        let before = fs::read(&path).unwrap();
        damage_file(&path, at);
        let damaged = fs::read(&path).unwrap();
        assert_ne!(before, damaged);
        let found = damage_of(&scratch);
        let is_checkpoint = |fault: &Fault| matches!(fault, Fault::Checkpoint(_));
        assert!(
            !found.is_empty() && found.iter().all(is_checkpoint),
            "{found:?}"
        );
        repair(&scratch);
        assert!(!path.exists());
        let below = path.strip_prefix(scratch.path()).unwrap();
        let quarantine = scratch.path().join("repair-1").join(below);
        assert_eq!(fs::read(quarantine).unwrap(), damaged);
        assert_eq!(reopen(&scratch).unwrap(), records);
    }
}

#[test]
fn a_base_that_follows_from_the_log_is_set_aside() {
    let scratch = Scratch::new();
    let mut data = scratch.open(1, OPTIONS).unwrap();
    let (mut log, ..) = data.shard(0).unwrap();
    append(&mut log, b"one");
    publish(&scratch, (CheckpointKind::Base, log.owner()), 1);
    log.close().unwrap();
    drop(data);
    assert_eq!(damage_of(&scratch), []);
    let path = only(&scratch, "base", "layer");
    damage_file(&path, 100);
    let found = damage_of(&scratch);
    assert!(
        matches!(found[0], Fault::Base { is_last: false, .. }),
        "{found:?}"
    );
    repair(&scratch);
    assert!(!path.exists());
}

#[test]
fn a_checkpoint_is_evidence_of_what_was_durable() {
    let (scratch, _) = retired_log();
    fs::remove_file(path(&scratch, "DURABLE")).unwrap();
    for name in ["00000004.seg", "00000005.seg", "00000006.seg"] {
        let path = path(&scratch, name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[512..].fill(0);
        replace(&path, &bytes);
    }
    let found = damage_of(&scratch);
    let (first, last) = (Sequence::new(10), Sequence::new(12));
    assert_eq!(found, [Fault::Lost { first, last }]);
    repair(&scratch);
    let mut data = scratch.open(1, OPTIONS).unwrap();
    let place = data.0.take_log(0);
    let opened = flux_storage::Log::open_from::<()>(place, Sequence::new(13), |_| Ok(()));
    assert_eq!(opened.unwrap().0.appended(), last);
}

#[test]
fn an_index_that_does_not_fit_is_a_notice() {
    let (scratch, records) = retired_log();
    let path = path(&scratch, "00000004.idx");
    let whole = fs::read(&path).unwrap();
    for at in [0, 20, 50, 80, whole.len() - 1] {
        damage_file(&path, at);
        let report = look(&scratch);
        let faults: Vec<_> = report.findings.iter().map(|it| &it.fault).collect();
        assert_eq!(faults, [&Fault::StaleIndex], "byte {at}");
        assert_eq!(*report.findings[0].path, *path);
        replace(&path, &whole);
    }
    assert_eq!(reopen(&scratch).unwrap(), records);
}
