//! What a look at a data directory says: of a whole one, of one in use, of one that was left by a
//! crash, of one that is damaged; and that it changes nothing.

use std::fs;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use flux_storage::{Fault, Inspection, LogReport, Seen, Sequence, Severity};

use crate::support::{Kept, SMALL, Scratch, append, payload, replace};

/// Looks at the only log of a directory, which nothing is changed by.
pub(crate) fn look(scratch: &Scratch) -> LogReport {
    let before = scratch.files();
    let inspection = Inspection::open(scratch.path(), |_| true).unwrap();
    let log = inspection.logs().next().unwrap();
    let report = log.verify(&mut |_| {}).unwrap();
    assert!(scratch.files() == before, "looking changed a file");
    report
}

fn faults(report: &LogReport) -> Vec<Fault> {
    let faults = report.findings.iter().map(|finding| finding.fault.clone());
    faults.collect()
}

#[test]
fn a_whole_log_is_counted_and_nothing_is_found() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    let records: Vec<Kept> = (1..=30)
        .map(|number| append(&mut log, &payload(number, 700)))
        .collect();
    log.close().unwrap();
    let report = look(&scratch);
    assert_eq!(faults(&report), []);
    let summary = report.summary;
    assert_eq!((summary.records, summary.segments), (30, 3));
    assert_eq!(summary.bytes, 30 * (28 + 700));
    let marks = (summary.first.unwrap(), summary.last.unwrap());
    assert_eq!(marks.0.sequence, records[0].sequence);
    assert_eq!(marks.1.time_micros, records[29].time_micros);
}

#[test]
fn a_log_in_use_is_whole_at_every_moment() {
    let scratch = Scratch::new();
    let mut data = scratch.open(1, SMALL).unwrap();
    let (mut log, ..) = data.shard(0).unwrap();
    for number in 1..=60 {
        append(&mut log, &payload(number, 700));
        log.write_out().unwrap();
        let inspection = Inspection::open(scratch.path(), |_| true).unwrap();
        assert!(inspection.is_in_use());
        let report = look(&scratch);
        assert_eq!(faults(&report), []);
        assert_eq!(report.summary.records, number);
        if number % 7 == 0 {
            log.flush_blocking().unwrap();
        }
    }
    drop((data, log));
    assert!(
        !Inspection::open(scratch.path(), |_| true)
            .unwrap()
            .is_in_use()
    );
}

#[test]
fn a_log_is_whole_while_it_is_written() {
    const LOOKS: usize = 30;
    let scratch = Scratch::new();
    let mut data = scratch.open(1, SMALL).unwrap();
    let (mut log, ..) = data.shard(0).unwrap();
    let done = AtomicBool::new(false);
    let path = scratch.path();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) && number < 20_000 {
                number += 1;
                append(&mut log, &payload(number, 300));
                if number % 50 == 0 {
                    log.flush_blocking().unwrap();
                }
            }
            number
        });
        for look in 0..LOOKS {
            let inspection = Inspection::open(&path, |_| true).unwrap();
            let inspected = inspection.logs().next().unwrap();
            let report = inspected.verify(&mut |_| {}).unwrap();
            assert!(!report.is_damaged(), "look {look}: {:?}", report.findings);
            let mut next = 1;
            let mut visit = |seen: Seen<'_>| {
                let Seen::Record(record) = seen else {
                    panic!("look {look}: {seen:?}")
                };
                assert_eq!(record.sequence.get(), next, "look {look}");
                next += 1;
                ControlFlow::Continue(())
            };
            inspected.visit(Sequence::ZERO, &mut visit).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 1000, "it was written to meanwhile");
    });
}

#[test]
fn a_torn_tail_is_no_damage() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    append(&mut log, &payload(1, 100));
    log.flush_blocking().unwrap();
    append(&mut log, &payload(2, 100));
    log.write_out().unwrap();
    drop(log);
    let path = scratch.log_dir(1, 0, 1).join("00000001.seg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 + 128 + 60] ^= 1;
    replace(&path, &bytes);
    let report = look(&scratch);
    assert_eq!(faults(&report), [Fault::TornTail { bytes: 128 }]);
    assert_eq!(report.findings[0].offset, Some(4096 + 128));
    assert!(!report.is_damaged());
    assert_eq!(scratch.open(1, SMALL).unwrap().log().2.len(), 1);
}

#[test]
fn every_generation_and_shard_is_looked_at() {
    let scratch = Scratch::new();
    for (shards, records) in [(1, 3), (2, 5)] {
        let mut data = scratch.open(shards, SMALL).unwrap();
        for shard in 0..shards {
            let (mut log, ..) = data.shard(shard).unwrap();
            for number in 1..=records {
                append(&mut log, &payload(number, 90));
            }
            log.close().unwrap();
        }
    }
    let inspection = Inspection::open(scratch.path(), |_| true).unwrap();
    assert_eq!(inspection.findings(), []);
    let places: Vec<_> = inspection
        .logs()
        .map(|log| {
            let report = log.verify(&mut |_| {}).unwrap();
            assert_eq!(faults(&report), []);
            let marks = (report.summary.first.unwrap(), report.summary.last.unwrap());
            let range = (marks.0.sequence.get(), marks.1.sequence.get());
            (log.generation(), log.shard(), log.shard_count(), range)
        })
        .collect();
    let expected = [(1, 0, 1, (1, 3)), (2, 0, 2, (4, 8)), (2, 1, 2, (4, 8))];
    assert_eq!(places, expected);
}

#[test]
fn missing_generations_and_shards_are_named() {
    let scratch = Scratch::new();
    for shards in [1, 2, 3] {
        drop(scratch.open(shards, SMALL).unwrap());
    }
    let check = |name: &str| {
        let path = scratch.path().join("log").join(name);
        let away = scratch.path().join("away");
        fs::rename(&path, &away).unwrap();
        let inspection = Inspection::open(scratch.path(), |_| true).unwrap();
        let reports = inspection
            .logs()
            .map(|log| log.verify(&mut |_| {}).unwrap());
        let findings: Vec<_> = reports
            .flat_map(|report| report.findings)
            .chain(inspection.findings().iter().cloned())
            .filter(|finding| finding.fault.severity() == Severity::Damage)
            .map(|finding| (finding.path, finding.fault))
            .collect();
        assert_eq!(findings, [(path.clone().into(), Fault::Missing)]);
        fs::rename(&away, &path).unwrap();
    };
    check("000002");
    check("000002/001-of-002");
    check("000003/000-of-003");
    fs::rename(scratch.path().join("log"), scratch.path().join("away")).unwrap();
    assert!(Inspection::open(scratch.path(), |_| true).is_err());
    assert!(Inspection::open(scratch.path().join("nowhere"), |_| true).is_err());
}

#[test]
fn a_visit_starts_where_it_is_told_and_ends_where_it_likes() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    let records: Vec<Kept> = (1..=30)
        .map(|number| append(&mut log, &payload(number, 700)))
        .collect();
    log.close().unwrap();
    let inspection = Inspection::open(scratch.path(), |_| true).unwrap();
    let log = inspection.logs().next().unwrap();
    for from in 0..=31_u64 {
        for count in [1, 3, 100] {
            let mut found = Vec::new();
            let mut visit = |seen: Seen<'_>| {
                let Seen::Record(record) = seen else {
                    panic!("{seen:?}")
                };
                found.push(Kept::from(record));
                if found.len() == count {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            let report = log.visit(Sequence::new(from), &mut visit).unwrap();
            assert_eq!(faults(&report), []);
            let skipped = usize::try_from(from.saturating_sub(1)).unwrap();
            let expected = records.iter().skip(skipped).take(count);
            assert!(found.iter().eq(expected), "{count} from {from}");
        }
    }
}

#[test]
fn a_log_whose_first_record_is_too_large_for_its_first_segment_is_whole() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    append(&mut log, &payload(1, 20_000));
    append(&mut log, &payload(2, 20));
    log.close().unwrap();
    let report = look(&scratch);
    assert_eq!(faults(&report), []);
    assert_eq!(report.summary.records, 2);
}
