//! Groups: whatever happens to a log, each of its groups is there whole or not at all.

use std::convert::Infallible;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use flux_storage::{
    AppendError, BackupOptions, DataDir, DataView, Fault, GROUP_BYTES_MAX, GROUP_RECORDS_MAX,
    GroupSize, Log, LogOptions, LogReader, Removal, RetirePlan, Sequence, StorageError, backup,
};

use crate::repair::{check_contiguous, repair, restore};
use crate::support::{
    Kept, Opened, SMALL, Scratch, append, append_group, begin_group, payload, replace,
};
use crate::verify::look;

/// Payloads of a group of so many records.
fn payloads(number: u64, count: u64, len: usize) -> Vec<Vec<u8>> {
    let numbers = number..number + count;
    numbers.map(|number| payload(number, len)).collect()
}

/// Three records, a group of four and one record more, all in one segment.
fn append_all(log: &mut Log, flush_after_three: bool) -> Vec<Kept> {
    let mut records: Vec<Kept> = (1..4).map(|n| append(log, &payload(n, 100))).collect();
    if flush_after_three {
        log.flush_blocking().unwrap();
    }
    records.extend(append_group(log, &payloads(4, 4, 300)));
    records.push(append(log, &payload(8, 100)));
    records
}

/// Where the records of the group lie.
fn group_places() -> Vec<(usize, usize)> {
    let start = 4096 + 3 * 128;
    (0..4).map(|index| (start + index * 336, 336)).collect()
}

fn first_segment(scratch: &Scratch) -> PathBuf {
    scratch.log_dir(1, 0, 1).join("00000001.seg")
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 0x11;
    replace(path, &bytes);
}

/// The records that a reader beside a server sees.
fn read_beside(path: &Path) -> Vec<Kept> {
    let view = DataView::open(path).unwrap();
    let mut cursor = view.logs()[0].cursor().unwrap();
    let mut records = Vec::new();
    while let Some(record) = cursor.next(|record| Kept::from(record)).unwrap() {
        records.push(record);
    }
    records
}

#[test]
fn a_group_that_was_not_flushed_is_cut_whole_if_any_byte_of_it_is_missing() {
    for (index, (start, len)) in group_places().into_iter().enumerate() {
        for offset in [start, start + 26, start + 29, start + len - 1] {
            let story = format!("record {index} of the group, byte {offset}");
            let scratch = Scratch::new();
            let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
            let records = append_all(&mut log, true);
            log.write_out().unwrap();
            drop(log);
            assert_eq!(read_beside(&scratch.path()), records);
            flip(&first_segment(&scratch), offset);

            let faults: Vec<Fault> = look(&scratch)
                .findings
                .into_iter()
                .map(|it| it.fault)
                .collect();
            assert!(
                matches!(faults[..], [Fault::TornTail { .. }]),
                "{story}: {faults:?}"
            );
            assert_eq!(read_beside(&scratch.path()), records[..3], "{story}");
            let copy = scratch.path().with_file_name("copy");
            let options = BackupOptions {
                body_check: |_| true,
                time_micros: 1,
            };
            backup(&scratch.path(), &copy, options, &mut |_| {}).unwrap();
            let (_, recovery, found) = Opened(DataDir::open(&copy, 1, SMALL).unwrap()).log();
            assert_eq!(
                (found, recovery.cut),
                (records[..3].to_vec(), None),
                "{story}"
            );

            let (mut log, recovery, found) = scratch.open(1, SMALL).unwrap().log();
            assert_eq!(found, records[..3], "{story}");
            assert!(recovery.cut.is_some(), "{story}");
            let more = append_group(&mut log, &payloads(20, 2, 300));
            log.close().unwrap();
            let (.., found) = scratch.open(1, SMALL).unwrap().log();
            assert_eq!(found, [&records[..3], &more[..]].concat(), "{story}");
        }
    }
}

#[test]
fn damage_in_a_group_that_was_durable_is_named_and_a_repair_gives_the_group_up() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    let records = append_all(&mut log, false);
    log.close().unwrap();
    let files = scratch.files();
    for (index, (start, len)) in group_places().into_iter().enumerate() {
        for offset in [start, start + 29, start + len - 1] {
            let story = format!("record {index} of the group, byte {offset}");
            flip(&first_segment(&scratch), offset);
            let (first, last) = (Sequence::new(4), Sequence::new(7));
            let faults: Vec<Fault> = look(&scratch)
                .findings
                .into_iter()
                .map(|it| it.fault)
                .collect();
            assert_eq!(faults, [Fault::Lost { first, last }], "{story}");
            let error = scratch.open(1, SMALL).unwrap().shard(0).unwrap_err();
            let StorageError::DamagedRecord {
                offset, sequence, ..
            } = error
            else {
                panic!("{story}: {error}");
            };
            let expected = (start as u64, 4 + index as u64);
            assert_eq!((offset, sequence.get()), expected, "{story}");
            repair(&scratch, &story);
            let (.., found) = scratch.open(1, SMALL).unwrap().log();
            let (kept, lost) = check_contiguous(&found, &story);
            assert_eq!(lost, [4, 5, 6, 7], "{story}");
            assert_eq!(kept, [&records[..3], &records[7..]].concat(), "{story}");
            assert!(!look(&scratch).is_damaged(), "{story}");
            restore(&scratch, &files);
        }
    }
    // Of a whole group in a segment that is remade, nothing changes.
    flip(&first_segment(&scratch), 20);
    repair(&scratch, "the header");
    let (.., found) = scratch.open(1, SMALL).unwrap().log();
    assert_eq!(found, records);
}

#[test]
fn a_group_torn_at_the_start_of_its_segment_leaves_no_segment_without_a_record() {
    for place in [4096, 4096 + 936, 4096 + 936 * 2] {
        let scratch = Scratch::new();
        let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
        let mut records: Vec<Kept> = (1..4).map(|n| append(&mut log, &payload(n, 900))).collect();
        log.flush_blocking().unwrap();
        append_group(&mut log, &payloads(4, 3, 900));
        assert_eq!(log.stats().segment_count, 2);
        log.write_out().unwrap();
        drop(log);
        let second = scratch.log_dir(1, 0, 1).join("00000002.seg");
        flip(&second, place + 100);
        let (mut log, recovery, found) = scratch.open(1, SMALL).unwrap().log();
        assert!(recovery.cut.is_some());
        assert_eq!((&found, second.exists()), (&records, false), "at {place}");
        records.push(append(&mut log, &payload(9, 20_000)));
        log.close().unwrap();
        let (.., found) = scratch.open(1, SMALL).unwrap().log();
        assert_eq!(found, records, "at {place}");
        assert!(!look(&scratch).is_damaged());
    }
}

fn forward(reader: &LogReader, from: u64) -> Vec<Kept> {
    let mut found = Vec::new();
    let read = reader.read_forward::<Infallible>(Sequence::new(from), |record| {
        found.push(Kept::from(record));
        Ok(ControlFlow::Continue(()))
    });
    read.unwrap();
    found
}

#[test]
fn a_reader_of_history_begins_anywhere_and_is_told_of_groups() {
    let options = LogOptions {
        index_key: flux_storage::IndexKey {
            scheme: 7,
            of: |_, payload| u64::from(payload[0] % 3),
        },
        ..SMALL
    };
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, options).unwrap().log();
    let mut records = Vec::new();
    for round in 0..12 {
        records.extend(append_group(&mut log, &payloads(100 * round, 5, 300)));
        records.push(append(&mut log, &payload(100 * round + 50, 700)));
    }
    log.flush_blocking().unwrap();
    while let Some(job) = log.index_job() {
        job.run().unwrap();
    }
    assert!(log.stats().segment_count > 2);
    let reader = log.reader(log.durable());
    for from in 0..=records.len() + 1 {
        let expected = &records[from.saturating_sub(1).min(records.len())..];
        assert_eq!(forward(&reader, from as u64), expected, "from {from}");
    }
    for key in 0..3 {
        let mut found = Vec::new();
        let end = Sequence::new(u64::MAX);
        let read = reader.read_backward::<Infallible>(key..=key, end, |record| {
            found.push(Kept::from(record));
            Ok(ControlFlow::Continue(()))
        });
        read.unwrap();
        let of_key = |record: &&Kept| u64::from(record.payload[0] % 3) == key;
        assert!(
            found.iter().eq(records.iter().rev().filter(of_key)),
            "{key}"
        );
    }
    log.close().unwrap();
    drop(reader);
    assert_eq!(read_beside(&scratch.path()), records);
    // As a log of an earlier generation.
    let data = scratch.open(2, options).unwrap();
    let sealed = &data.0.sealed_generations()[0].logs()[0];
    assert_eq!(forward(&sealed.reader().unwrap(), 3), records[2..]);
}

#[test]
fn retention_removes_whole_groups() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    let mut records = Vec::new();
    for round in 0..30 {
        records.extend(append_group(&mut log, &payloads(100 * round, 3, 900)));
    }
    log.flush_blocking().unwrap();
    let segments = log.removable(log.durable().next());
    assert!(segments.len() > 3);
    for segment in &segments[1..] {
        let at = usize::try_from(segment.first.get() - 1).unwrap();
        assert_eq!(records[at].group.unwrap().index, 0);
    }
    let removal = Removal {
        excess_bytes: 20_000,
        before_micros: i64::MIN,
    };
    let plan = RetirePlan::choose(&segments, removal).unwrap().unwrap();
    let first = usize::try_from(plan.log_start().first_sequence.get() - 1).unwrap();
    log.retire(plan).run().unwrap();
    log.close().unwrap();
    let (.., found) = scratch.open(1, SMALL).unwrap().log();
    assert_eq!(found, records[first..]);
}

#[test]
fn a_group_that_no_segment_holds_gets_one_of_its_size() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    let mut records = append_group(&mut log, &payloads(1, 60, 1500));
    records.push(append(&mut log, &payload(99, 10)));
    records.extend(append_group(&mut log, &payloads(100, 60, 1500)));
    log.close().unwrap();
    assert!(
        scratch
            .segment_sizes()
            .iter()
            .filter(|size| **size > 90_000)
            .count()
            >= 2
    );
    let report = look(&scratch);
    assert_eq!((report.findings, report.summary.records), (vec![], 121));
    let (.., found) = scratch.open(1, SMALL).unwrap().log();
    assert_eq!(found, records);
}

#[test]
fn a_group_has_as_many_records_and_bytes_as_its_bounds_say_and_no_more() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    let size = |records, payload_bytes| GroupSize {
        records,
        payload_bytes,
    };
    for too_large in [size(GROUP_RECORDS_MAX + 1, 1), size(1, GROUP_BYTES_MAX)] {
        let begun = log.begin_group(too_large);
        assert!(
            matches!(begun, Err(AppendError::GroupTooLarge)),
            "{begun:?}"
        );
    }
    let all = vec![vec![7]; GROUP_RECORDS_MAX];
    begin_group(&mut log, &all);
    for payload in &all {
        log.append(1, 1, payload).unwrap();
    }
    let refused = log.append(1, 1, &[7]);
    assert!(
        matches!(refused, Err(AppendError::GroupTooLarge)),
        "{refused:?}"
    );
    log.end_group();
    log.close().unwrap();
    let (.., found) = scratch.open(1, SMALL).unwrap().log();
    assert_eq!(found.len(), GROUP_RECORDS_MAX);
    let last = found.last().unwrap().group.unwrap();
    assert_eq!(
        (last.index, last.count, last.is_last()),
        (65_534, 65_535, true)
    );
}

/// Panics if some records of a group are there and others are not.
fn check_whole(found: &[Kept], story: &str) {
    let mut rest = found;
    while let Some(record) = rest.first() {
        let count = record.group.map_or(1, |place| {
            assert_eq!(place.index, 0, "{story}: {}", record.sequence);
            usize::from(place.count)
        });
        assert!(rest.len() >= count, "{story}: {}", record.sequence);
        let (group, after) = rest.split_at(count);
        for (index, member) in group.iter().enumerate() {
            let place = member.group.map(|place| usize::from(place.index));
            assert_eq!(place.unwrap_or(0), index, "{story}: {}", member.sequence);
        }
        rest = after;
    }
}

#[test]
fn random_damage_leaves_no_part_of_a_group_to_any_reader() {
    let scratch = Scratch::new();
    let options = LogOptions {
        segment_bytes_max: 8192,
        ..SMALL
    };
    let (mut log, ..) = scratch.open(1, options).unwrap().log();
    let mut records = Vec::new();
    for round in 0..6 {
        records.extend(append_group(
            &mut log,
            &payloads(10 * round, 2 + round % 3, 350),
        ));
        log.flush_blocking().unwrap();
        records.push(append(&mut log, &payload(10 * round + 9, 200)));
        log.flush_blocking().unwrap();
    }
    log.close().unwrap();
    let files = scratch.files();
    let (mut repaired, mut cut) = (0, 0);
    for seed in 0..400 {
        let story = format!("seed {seed}");
        let mut chance = fastrand::Rng::with_seed(seed);
        for _ in 0..=chance.usize(..3) {
            let (path, _) = &files[chance.usize(..files.len())];
            let mut bytes = fs::read(path).unwrap_or_default();
            if bytes.len() < 8192 || chance.u32(..20) == 0 {
                replace(path, &[]);
                continue;
            }
            let from = chance.usize(4096..8192) / 8 * 8;
            let to = chance.usize(4096..8192) / 8 * 8;
            let count = chance.usize(1..1500).min(8192 - from.max(to));
            match chance.u32(..4) {
                0 => bytes[from..from + count].fill(0),
                1 => bytes.copy_within(from..from + count, to),
                2 => bytes[chance.usize(..84)] ^= 1,
                _ => bytes[from] ^= 4,
            }
            replace(path, &bytes);
        }
        let report = look(&scratch);
        if report.is_damaged() {
            repaired += 1;
            repair(&scratch, &story);
        }
        let beside = read_beside(&scratch.path());
        let (_, recovery, found) = scratch.open(1, options).unwrap().log();
        cut += usize::from(recovery.cut.is_some());
        assert_eq!(beside, found, "{story}");
        check_whole(&found, &story);
        let (kept, _) = check_contiguous(&found, &story);
        assert!(
            kept.iter().all(|record| records.contains(record)),
            "{story}"
        );
        restore(&scratch, &files);
    }
    assert!(repaired > 100 && cut > 3, "{repaired} repaired, {cut} cut");
}
