//! The control log beside the shards' logs: it is made when it is asked for, no change of the
//! number of shards touches it, damage of it is refused by file and offset, and verify, repair and
//! backup know it.

use std::fs;
use std::path::{Path, PathBuf};

use flux_storage::{
    BackupOptions, DataDir, DataView, Fault, Inspection, Log, LogOptions, LogReport,
    RECORD_KIND_GAP, Repair, Sequence, StorageError, backup, restore,
};

use crate::support::{Kept, SMALL, Scratch, append, payload, replace};

const EQUAL: LogOptions = LogOptions {
    segment_bytes_max: 8192,
    ..SMALL
};

/// Opens the control log of an open directory and collects its records.
fn open_control(data: &DataDir) -> Result<(Log, Vec<Kept>), StorageError> {
    let mut records = Vec::new();
    let opened = Log::open::<std::convert::Infallible>(data.take_control_log(EQUAL)?, |record| {
        records.push(record.into());
        Ok(())
    });
    match opened {
        Ok((log, _)) => Ok((log, records)),
        Err(flux_storage::ReplayError::Storage(error)) => Err(error),
        Err(flux_storage::ReplayError::Visit(never)) => match never {},
    }
}

fn reopen(path: &Path) -> Result<Vec<Kept>, StorageError> {
    let data = DataDir::open(path, 1, EQUAL)?;
    open_control(&data).map(|(_, records)| records)
}

fn control_dir(scratch: &Scratch) -> PathBuf {
    scratch.path().join("control")
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// A directory whose control log has two segments with records and a next segment, each record
/// flushed; closed.
fn closed_control() -> (Scratch, Vec<Kept>) {
    let scratch = Scratch::new();
    let data = DataDir::open(scratch.path(), 1, EQUAL).unwrap();
    let (mut log, _) = open_control(&data).unwrap();
    let lens = [1307, 1307, 1307, 145];
    let records = (1..).zip(lens).map(|(number, len)| {
        let kept = append(&mut log, &payload(number, len));
        log.flush_blocking().unwrap();
        kept
    });
    let records = records.collect();
    let job = log.next_segment_job().unwrap();
    log.install_next_segment(job.run().unwrap());
    log.close().unwrap();
    let names: Vec<_> = files(&control_dir(&scratch))
        .into_iter()
        .map(|(path, _)| path.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        ["00000001.seg", "00000002.seg", "00000003.seg", "DURABLE"]
    );
    (scratch, records)
}

/// What a look at the control log finds.
fn look(path: &Path) -> LogReport {
    let inspection = Inspection::open(path, |_| true).unwrap();
    let control = inspection.logs().find(|log| log.is_control()).unwrap();
    assert!(control.check_start(&[]).is_none());
    control.verify(&mut |_| {}).unwrap()
}

#[test]
fn a_directory_without_a_control_log_opens_and_gets_one_when_it_is_asked_for() {
    let scratch = Scratch::new();
    drop(DataDir::open(scratch.path(), 2, EQUAL).unwrap());
    assert!(!control_dir(&scratch).exists());
    assert!(DataView::open(scratch.path()).unwrap().control().is_none());
    let inspection = Inspection::open(scratch.path(), |_| true).unwrap();
    assert!(!inspection.logs().any(|log| log.is_control()));

    let unfinished = scratch.path().join("control.tmp");
    fs::create_dir(&unfinished).unwrap();
    replace(&unfinished.join("00000001.seg"), b"half");
    let inspection = Inspection::open(scratch.path(), |_| true).unwrap();
    let found: Vec<_> = inspection.findings().iter().map(|it| &it.fault).collect();
    assert_eq!(found, [&Fault::Unfinished]);

    let data = DataDir::open(scratch.path(), 2, EQUAL).unwrap();
    let (mut log, records) = open_control(&data).unwrap();
    assert!(records.is_empty() && !unfinished.exists());
    let kept = append(&mut log, b"first");
    log.close().unwrap();
    drop(data);
    assert_eq!(reopen(&scratch.path()).unwrap(), [kept]);
}

#[test]
#[should_panic(expected = "the control log is taken once")]
fn the_control_log_has_one_owner() {
    let scratch = Scratch::new();
    let data = DataDir::open(scratch.path(), 1, EQUAL).unwrap();
    let _first = data.take_control_log(EQUAL).unwrap();
    let _second = data.take_control_log(EQUAL);
}

#[test]
fn whoever_holds_the_control_log_holds_the_directory() {
    let scratch = Scratch::new();
    let data = DataDir::open(scratch.path(), 1, EQUAL).unwrap();
    let (log, _) = open_control(&data).unwrap();
    drop(data);
    let refused = DataDir::open(scratch.path(), 1, EQUAL).unwrap_err();
    assert!(matches!(refused, StorageError::Locked { .. }), "{refused}");
    drop(log);
    drop(DataDir::open(scratch.path(), 1, EQUAL).unwrap());
}

#[test]
fn another_number_of_shards_leaves_every_byte_of_it() {
    let (scratch, records) = closed_control();
    let before = files(&control_dir(&scratch));
    for shard_count in [3, 2, 1] {
        drop(DataDir::open(scratch.path(), shard_count, EQUAL).unwrap());
        assert!(files(&control_dir(&scratch)) == before);
    }
    assert_eq!(reopen(&scratch.path()).unwrap(), records);
}

/// Whether these are offsets of which every one is tried: nothing lies in most of a header page.
fn is_tried(offset: usize) -> bool {
    !(1024..4096).contains(&offset) || offset.is_multiple_of(64)
}

#[test]
fn every_changed_byte_is_refused_by_its_file_or_harmless() {
    let (scratch, records) = closed_control();
    let dir = control_dir(&scratch);
    fs::remove_file(dir.join("00000003.seg")).unwrap();
    let whole = files(&dir);
    let mut refused = 0;
    for (path, bytes) in &whole {
        for offset in (0..bytes.len()).filter(|&offset| is_tried(offset)) {
            let mut changed = bytes.clone();
            changed[offset] ^= 1 << (offset % 8);
            replace(path, &changed);
            match reopen(&scratch.path()) {
                Ok(found) => assert!(found == records, "{} byte {offset}", path.display()),
                Err(error) => {
                    let named = error.to_string().contains(path.to_str().unwrap());
                    assert!(named, "{} byte {offset}: {error}", path.display());
                    assert!(
                        look(&scratch.path()).is_damaged(),
                        "{} byte {offset}: verify finds nothing",
                        path.display()
                    );
                    refused += 1;
                }
            }
            for (path, bytes) in &whole {
                replace(path, bytes);
            }
        }
    }
    assert!(refused > 4000, "{refused}");
}

#[test]
fn a_damaged_record_is_named_with_its_offset() {
    let (scratch, _) = closed_control();
    let path = control_dir(&scratch).join("00000001.seg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 + 1336 + 100] ^= 1;
    replace(&path, &bytes);
    let error = reopen(&scratch.path()).unwrap_err();
    let StorageError::DamagedRecord {
        path: named,
        offset,
        sequence,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((&**named, *offset), (path.as_path(), 4096 + 1336));
    assert_eq!(*sequence, Sequence::new(2));
}

#[test]
fn a_segment_that_is_cut_short_or_missing_is_refused() {
    for name in ["00000001.seg", "00000002.seg"] {
        let (scratch, _) = closed_control();
        let path = control_dir(&scratch).join(name);
        let bytes = fs::read(&path).unwrap();
        for len in [0, 100, 4096, 8191] {
            replace(&path, &bytes[..len]);
            let error = reopen(&scratch.path()).unwrap_err();
            assert!(error.to_string().contains(name), "{name} {len}: {error}");
            assert!(error.is_damage(), "{name} {len}: {error}");
        }
        fs::remove_file(&path).unwrap();
        let error = reopen(&scratch.path()).unwrap_err();
        assert!(error.to_string().contains(name), "{name} gone: {error}");
        assert!(look(&scratch.path()).is_damaged(), "{name} gone");
    }
}

#[test]
fn segments_of_a_shard_and_of_the_control_log_are_not_taken_for_each_other() {
    let (scratch, _) = closed_control();
    let shard = scratch.log_dir(1, 0, 1).join("00000001.seg");
    let control = control_dir(&scratch).join("00000001.seg");
    let [of_shard, of_control] = [&shard, &control].map(|path| fs::read(path).unwrap());
    // Each is the only one of its log, so nothing but its header tells.
    for ordinal in [2, 3] {
        fs::remove_file(control_dir(&scratch).join(format!("0000000{ordinal}.seg"))).unwrap();
    }
    fs::remove_file(control_dir(&scratch).join("DURABLE")).unwrap();
    let check = |result: Result<Vec<Kept>, StorageError>, expected: &Path| {
        let error = result.unwrap_err();
        let StorageError::WrongPlace { path, field } = &error else {
            panic!("{error}");
        };
        assert_eq!((&**path, *field), (expected, "generation"));
    };
    replace(&control, &of_shard);
    check(reopen(&scratch.path()), &control);
    let report = look(&scratch.path());
    let misplaced = |it: &flux_storage::ScrubFinding| matches!(it.fault, Fault::WrongPlace { .. });
    assert!(report.findings.iter().any(misplaced), "{report:?}");

    replace(&control, &of_control);
    replace(&shard, &of_control);
    let mut data = scratch.open(1, EQUAL).unwrap();
    check(data.shard(0).map(|(_, _, records)| records), &shard);
}

#[test]
fn a_repair_keeps_what_can_be_read_and_the_originals() {
    let (scratch, records) = closed_control();
    let path = control_dir(&scratch).join("00000001.seg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 + 1336 + 100] ^= 1;
    replace(&path, &bytes);
    let shard_before = scratch.files();
    let repair = Repair::plan(scratch.path(), |_| true, &mut |_| {}).unwrap();
    assert!(repair.is_needed() && repair.is_possible());
    let quarantine = scratch.path().join("repair-1");
    repair.run(&quarantine).unwrap();
    assert!(fs::read(quarantine.join("control/00000001.seg")).unwrap() == bytes);
    assert!(scratch.files() == shard_before, "the shard's log was whole");
    assert!(!look(&scratch.path()).is_damaged());
    let found = reopen(&scratch.path()).unwrap();
    let gaps: Vec<u64> = found
        .iter()
        .filter(|it| it.kind == RECORD_KIND_GAP)
        .map(|it| it.sequence.get())
        .collect();
    assert_eq!(gaps, [2]);
    let kept = found.iter().filter(|it| it.kind != RECORD_KIND_GAP);
    let expected = records.iter().filter(|it| it.sequence != Sequence::new(2));
    assert!(kept.eq(expected));
}

#[test]
fn a_backup_taken_beside_its_owner_holds_it_and_a_changed_byte_of_it_is_refused() {
    let scratch = Scratch::new();
    let data = DataDir::open(scratch.path(), 2, EQUAL).unwrap();
    let (mut log, _) = open_control(&data).unwrap();
    let records: Vec<Kept> = (1..=20)
        .map(|number| {
            let kept = append(&mut log, &payload(number, 600));
            log.flush_blocking().unwrap();
            kept
        })
        .collect();
    let [copy, restored] = ["copy", "restored"].map(|name| scratch.path().with_file_name(name));
    let options = BackupOptions {
        body_check: |_| true,
        time_micros: 1,
    };
    let summary = backup(&scratch.path(), &copy, options, &mut |_| {}).unwrap();
    let [.., last] = &*summary.logs else {
        panic!("no logs");
    };
    assert_eq!(summary.logs.len(), 3);
    assert!(last.is_control() && last.through == log.appended());
    assert!(!summary.logs[0].is_control());
    assert!(restore(&copy, &restored, &mut |_| {}).unwrap().logs == summary.logs);
    let data = DataDir::open(&restored, 1, EQUAL).unwrap();
    assert_eq!(open_control(&data).unwrap().1, records);

    let path = copy.join("control/00000002.seg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    replace(&path, &bytes);
    let again = scratch.path().with_file_name("again");
    let error = restore(&copy, &again, &mut |_| {}).unwrap_err();
    assert!(
        error.to_string().contains("control/00000002.seg"),
        "{error}"
    );
    assert!(!again.exists());
}

#[test]
fn a_control_log_that_lost_all_its_files_is_refused_and_found() {
    for keeps_watermark in [true, false] {
        let (scratch, _) = closed_control();
        for (path, _) in files(&control_dir(&scratch)) {
            if !(keeps_watermark && path.ends_with("DURABLE")) {
                fs::remove_file(path).unwrap();
            }
        }
        let error = reopen(&scratch.path()).unwrap_err();
        assert!(
            error.to_string().contains("control/00000001.seg"),
            "{error}"
        );
        assert!(look(&scratch.path()).is_damaged());
        let repair = Repair::plan(scratch.path(), |_| true, &mut |_| {}).unwrap();
        assert!(repair.is_possible());
        repair.run(&scratch.path().join("repair-1")).unwrap();
        let kinds: Vec<u8> = reopen(&scratch.path())
            .unwrap()
            .into_iter()
            .map(|it| it.kind)
            .collect();
        // Without `DURABLE` nothing says how much there was.
        let expected: &[u8] = if keeps_watermark {
            &[RECORD_KIND_GAP]
        } else {
            &[]
        };
        assert_eq!(kinds, expected);
    }
}
