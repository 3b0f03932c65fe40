//! A damaged log and what a repair makes of it: it opens, it holds every record that was not
//! damaged, at its sequence, and says how many are gone; and the originals lie aside.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use flux_storage::{
    Fault, Inspection, Log, LogOptions, RECORD_KIND_GAP, Record, Repair, RepairAction,
    ScrubFinding, Sequence, StorageError,
};

use crate::support::{Kept, SMALL, Scratch, append, payload, replace};
use crate::verify::look;

pub(crate) const RECORDS: u64 = 14;

/// Records of several sizes, small ones among them: a gap is larger than they are.
fn len(number: u64) -> usize {
    [3, 900, 200, 1500, 640][usize::try_from(number).unwrap() % 5]
}

/// A log of three segments with records, and a next segment; closed.
pub(crate) fn closed_log() -> (Scratch, Vec<Kept>) {
    let scratch = Scratch::new();
    let options = LogOptions {
        segment_bytes_max: 8192,
        ..SMALL
    };
    let (mut log, ..) = scratch.open(1, options).unwrap().log();
    // Flushed one by one, so that each record says that the one before was durable.
    let records = (1..=RECORDS)
        .map(|number| {
            let kept = append(&mut log, &payload(number, len(number)));
            log.flush_blocking().unwrap();
            kept
        })
        .collect();
    let job = log.next_segment_job().unwrap();
    log.install_next_segment(job.run().unwrap());
    log.close().unwrap();
    assert_eq!(scratch.segment_sizes(), [8192; 4]);
    (scratch, records)
}

pub(crate) fn reopen(scratch: &Scratch) -> Result<Vec<Kept>, StorageError> {
    let mut data = scratch.open(1, SMALL)?;
    data.shard(0).map(|(_, _, records)| records)
}

/// Repairs, and returns the number of steps that it took.
pub(crate) fn repair(scratch: &Scratch, story: &str) -> usize {
    let quarantine = scratch.path().join("repair-1");
    if quarantine.exists() {
        fs::remove_dir_all(&quarantine).unwrap();
    }
    let before = scratch.files();
    let repair = Repair::plan(scratch.path(), |_| true, &mut |_| {}).unwrap();
    assert!(repair.is_possible(), "{story}");
    assert!(scratch.files() == before, "{story}: a plan changed files");
    let steps = repair.steps();
    assert_eq!(repair.is_needed(), !steps.is_empty(), "{story}: {steps:?}");
    repair.run(&quarantine).unwrap();
    let log = Path::new("log/000001/000-of-001");
    let is_whole = |path: &Path| path.extension().is_none_or(|it| it != "tmp");
    for (path, bytes) in before.iter().filter(|(path, _)| is_whole(path)) {
        let is_kept = fs::read(path).is_ok_and(|now| now == *bytes);
        let kept = quarantine.join(log).join(path.file_name().unwrap());
        let is_quarantined = fs::read(&kept).is_ok_and(|kept| kept == *bytes);
        assert!(
            is_kept || is_quarantined,
            "{story}: {} is lost",
            path.display()
        );
    }
    steps.len()
}

/// What a repaired log holds: its records, and the sequences that gaps stand for. It is contiguous
/// from 1.
pub(crate) fn check_contiguous(found: &[Kept], story: &str) -> (Vec<Kept>, Vec<u64>) {
    let (mut records, mut lost) = (Vec::new(), Vec::new());
    let mut next = 1;
    let mut last_micros = i64::MIN;
    for kept in found {
        let record = Record {
            sequence: kept.sequence,
            time_micros: kept.time_micros,
            kind: kept.kind,
            group: kept.group,
            payload: &kept.payload,
        };
        let first = if let Some(gap) = record.gap() {
            lost.extend(gap.first.get()..=gap.last.get());
            gap.first.get()
        } else {
            records.push(kept.clone());
            kept.sequence.get()
        };
        assert_eq!(first, next, "{story}");
        assert!(kept.time_micros >= last_micros, "{story}: time falls");
        last_micros = kept.time_micros;
        next = kept.sequence.get() + 1;
    }
    (records, lost)
}

/// Damage that has been done, repaired: exactly `lost` is gone.
pub(crate) fn check_repaired(scratch: &Scratch, original: &[Kept], lost: &[u64], story: &str) {
    assert!(look(scratch).is_damaged(), "{story}: not found");
    assert!(repair(scratch, story) > 0, "{story}");
    let report = look(scratch);
    assert!(!report.is_damaged(), "{story}: {:?}", report.findings);
    let found = reopen(scratch).unwrap_or_else(|error| panic!("{story}: {error}"));
    let (records, gone) = check_contiguous(&found, story);
    assert_eq!(gone, lost, "{story}");
    let is_lost = |record: &&Kept| lost.contains(&record.sequence.get());
    assert!(
        records
            .iter()
            .eq(original.iter().filter(|record| !is_lost(record))),
        "{story}: other records came back"
    );
}

pub(crate) fn restore(scratch: &Scratch, files: &[(PathBuf, Vec<u8>)]) {
    for path in scratch.paths() {
        fs::remove_file(path).unwrap();
    }
    for (path, bytes) in files {
        replace(path, bytes);
    }
}

/// Where each record lies: segment, offset, bytes. Follows from the sizes.
pub(crate) fn places() -> Vec<(usize, usize, usize)> {
    let (mut segment, mut offset) = (0, 4096);
    let mut places = Vec::new();
    for number in 1..=RECORDS {
        let bytes = (28 + len(number)).next_multiple_of(8);
        if offset + bytes > 8192 {
            (segment, offset) = (segment + 1, 4096);
        }
        places.push((segment, offset, bytes));
        offset += bytes;
    }
    assert_eq!(segment, 2);
    places
}

/// The sequences of the records that touch these bytes of a segment.
fn records_in(segment: usize, bytes: &std::ops::Range<usize>) -> Vec<u64> {
    let touches = |place: &(usize, usize, usize)| {
        place.0 == segment && place.1 < bytes.end && place.1 + place.2 > bytes.start
    };
    let touched = places().into_iter().zip(1..);
    touched
        .filter(|(place, _)| touches(place))
        .map(|(_, sequence)| sequence)
        .collect()
}

#[test]
fn what_a_server_refuses_is_found_and_what_it_accepts_is_not() {
    let (scratch, records) = closed_log();
    let files = scratch.files();
    for (index, (path, bytes)) in files.iter().enumerate() {
        for offset in (0..bytes.len()).filter(|at| at % 8 == 0 || *at < 100) {
            let story = format!("{} byte {offset}", path.display());
            let mut damaged = files[index].1.clone();
            damaged[offset] ^= 0x41;
            replace(path, &damaged);
            let is_damaged = look(&scratch).is_damaged();
            match reopen(&scratch) {
                Ok(found) => {
                    assert!(!is_damaged, "{story}: found, though a server accepts it");
                    assert!(found == records, "{story}");
                    restore(&scratch, &files);
                }
                Err(error) => {
                    assert!(is_damaged, "{story}: not found, though {error}");
                    replace(path, bytes);
                }
            }
        }
    }
}

#[test]
fn a_changed_byte_costs_at_most_its_record() {
    let (scratch, records) = closed_log();
    let files = scratch.files();
    // Every byte of small records and of headers, some of the rest.
    for segment in 0..4 {
        let path = scratch
            .log_dir(1, 0, 1)
            .join(format!("{:08}.seg", segment + 1));
        for offset in (0..84).chain((4096..8192).filter(|at| at % 41 == 0 || *at < 4200)) {
            let lost = records_in(segment, &(offset..offset + 1));
            if offset >= 4096 && lost.is_empty() {
                continue;
            }
            let story = format!("segment {} byte {offset}", segment + 1);
            let mut bytes = fs::read(&path).unwrap();
            bytes[offset] ^= 0x22;
            replace(&path, &bytes);
            check_repaired(&scratch, &records, &lost, &story);
            restore(&scratch, &files);
        }
    }
}

#[test]
fn each_segment_that_is_gone_leaves_a_gap() {
    let (scratch, records) = closed_log();
    let files = scratch.files();
    for segment in 0..3 {
        fs::remove_file(&files[segment].0).unwrap();
        let lost = records_in(segment, &(4096..8192));
        check_repaired(
            &scratch,
            &records,
            &lost,
            &format!("no segment {}", segment + 1),
        );
        restore(&scratch, &files);
    }
    for remaining in 0..4 {
        for (index, (path, _)) in files.iter().enumerate().take(4) {
            if index != remaining {
                fs::remove_file(path).unwrap();
            }
        }
        let kept = records_in(remaining, &(4096..8192));
        let lost: Vec<u64> = (1..=RECORDS)
            .filter(|number| !kept.contains(number))
            .collect();
        let story = format!("only segment {} and DURABLE", remaining + 1);
        check_repaired(&scratch, &records, &lost, &story);
        restore(&scratch, &files);
    }
}

#[test]
fn a_segment_cut_short_keeps_what_is_left_of_it() {
    let (scratch, records) = closed_log();
    let files = scratch.files();
    for segment in 0..4 {
        let (path, bytes) = &files[segment];
        for len in (0..8192).filter(|len| len % 97 == 0 || *len == 4096 || *len == 8191) {
            replace(path, &bytes[..len]);
            let lost = if len < 4096 {
                records_in(segment, &(4096..8192))
            } else {
                records_in(segment, &(len..8192))
            };
            let story = format!("segment {} cut to {len}", segment + 1);
            check_repaired(&scratch, &records, &lost, &story);
            restore(&scratch, &files);
        }
        let longer = [&bytes[..], &[7; 100]].concat();
        replace(path, &longer);
        check_repaired(
            &scratch,
            &records,
            &[],
            &format!("segment {} longer", segment + 1),
        );
        restore(&scratch, &files);
    }
}

#[test]
fn records_outlive_their_header() {
    let (scratch, records) = closed_log();
    let files = scratch.files();
    for segment in 0..4 {
        let (path, bytes) = &files[segment];
        for zeroed in [0..84, 0..512, 0..532, 0..4096, 48..56, 72..80] {
            let mut bytes = bytes.clone();
            bytes[zeroed.clone()].fill(0);
            replace(path, &bytes);
            let story = format!("segment {} zeroed in {zeroed:?}", segment + 1);
            check_repaired(&scratch, &records, &[], &story);
            restore(&scratch, &files);
        }
    }
}

#[test]
fn zeroed_pieces_cost_the_records_in_them() {
    let (scratch, records) = closed_log();
    let files = scratch.files();
    for segment in 0..3 {
        let (path, bytes) = &files[segment];
        for start in (4096..8192).step_by(512) {
            for end in [start + 512, start + 1024, 8192] {
                let range = start..end.min(8192);
                let lost = records_in(segment, &range);
                if lost.is_empty() {
                    continue;
                }
                let mut bytes = bytes.clone();
                bytes[range.clone()].fill(0);
                replace(path, &bytes);
                let story = format!("segment {} zeroed in {range:?}", segment + 1);
                check_repaired(&scratch, &records, &lost, &story);
                restore(&scratch, &files);
            }
        }
    }
}

#[test]
fn swapped_segments_go_back_where_they_belong() {
    let (scratch, records) = closed_log();
    let files = scratch.files();
    for (a, b) in [(0, 1), (1, 2), (0, 2), (2, 3)] {
        replace(&files[a].0, &files[b].1);
        replace(&files[b].0, &files[a].1);
        check_repaired(
            &scratch,
            &records,
            &[],
            &format!("{} and {} swapped", a + 1, b + 1),
        );
        restore(&scratch, &files);
        replace(&files[b].0, &files[a].1);
        let lost = records_in(b, &(4096..8192));
        check_repaired(
            &scratch,
            &records,
            &lost,
            &format!("{} over {}", a + 1, b + 1),
        );
        restore(&scratch, &files);
        let moved = files[a].0.with_file_name("00000009.seg");
        fs::rename(&files[a].0, moved).unwrap();
        check_repaired(
            &scratch,
            &records,
            &[],
            &format!("{} under another name", a + 1),
        );
        restore(&scratch, &files);
    }
}

#[test]
fn segments_of_another_log_are_set_aside() {
    let (scratch, records) = closed_log();
    let (other, _) = closed_log();
    let files = scratch.files();
    let foreign = other.files();
    for segment in 0..3 {
        for content in [
            foreign[segment].1.clone(),
            vec![0x5a; 8192],
            b"#!/bin/sh\n".to_vec(),
        ] {
            replace(&files[segment].0, &content);
            let lost = records_in(segment, &(4096..8192));
            let story = format!("{} other bytes for segment {}", content.len(), segment + 1);
            check_repaired(&scratch, &records, &lost, &story);
            restore(&scratch, &files);
        }
    }
}

#[test]
fn a_log_goes_on_after_its_repair() {
    let (scratch, _) = closed_log();
    let path = scratch.log_dir(1, 0, 1).join("00000003.seg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..8192].fill(0);
    replace(&path, &bytes);
    repair(&scratch, "the last records");
    let (mut log, recovery, found) = scratch.open(1, SMALL).unwrap().log();
    assert_eq!((log.appended().get(), recovery.cut), (RECORDS, None));
    assert_eq!(found.last().unwrap().kind, RECORD_KIND_GAP);
    let more: Vec<Kept> = (0..20)
        .map(|number| append(&mut log, &payload(100 + number, 900)))
        .collect();
    log.close().unwrap();
    let again = reopen(&scratch).unwrap();
    assert_eq!(again[..found.len()], found);
    assert_eq!(again[found.len()..], more);
    assert_eq!(
        look(&scratch).summary.last.unwrap().sequence.get(),
        RECORDS + 20
    );
    // A second repair has nothing to do; one after new damage keeps the old gap.
    assert_eq!(repair(&scratch, "again"), 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 + 20] ^= 1;
    replace(&path, &bytes);
    repair(&scratch, "the gap itself");
    let (records, lost) = check_contiguous(&reopen(&scratch).unwrap(), "the gap itself");
    assert_eq!(lost, records_in(2, &(4096..8192)));
    assert_eq!(records.len(), again.len() - 1);
}

/// A repair links, makes, and renames one segment after the other; a crash leaves any of them old
/// or new.
#[test]
fn a_repair_that_was_interrupted_is_finished_by_the_next() {
    let (scratch, records) = closed_log();
    let mut damaged = scratch.files();
    damaged[0].1[4096 + 40] ^= 1;
    damaged[1].1[0..512].fill(0);
    damaged[2].1[5000..5600].fill(0);
    let lost = [records_in(0, &(4136..4137)), records_in(2, &(5000..5600))].concat();
    restore(&scratch, &damaged);
    check_repaired(&scratch, &records, &lost, "at once");
    let repaired = scratch.files();
    for mask in 0..8 {
        let mut mixed = damaged.clone();
        for index in (0..3).filter(|index| mask >> index & 1 == 1) {
            mixed[index] = repaired[index].clone();
        }
        restore(&scratch, &mixed);
        replace(
            &scratch.log_dir(1, 0, 1).join("00000002.seg.tmp"),
            b"unfinished",
        );
        let story = format!("renamed {mask:03b}");
        match mask {
            7 => assert!(!look(&scratch).is_damaged(), "{story}"),
            _ => check_repaired(&scratch, &records, &lost, &story),
        }
    }
}

#[test]
fn a_reader_passes_over_gaps() {
    let (scratch, records) = closed_log();
    for (ordinal, offset) in [(1, 4096 + 30), (2, 8100)] {
        let path = scratch.log_dir(1, 0, 1).join(format!("{ordinal:08}.seg"));
        let mut bytes = fs::read(&path).unwrap();
        bytes[offset - 40..offset].fill(0x77);
        replace(&path, &bytes);
    }
    fs::remove_file(scratch.log_dir(1, 0, 1).join("00000003.seg")).unwrap();
    repair(&scratch, "three gaps");
    let (mut log, _, found) = scratch.open(1, SMALL).unwrap().log();
    let (kept, lost) = check_contiguous(&found, "three gaps");
    assert!(lost.contains(&RECORDS) && lost.len() >= 3 && !kept.is_empty());
    assert!(kept.iter().all(|record| records.contains(record)));
    let reader = log.reader(log.durable());
    for bound in 0..=RECORDS + 1 {
        let mut forward = Vec::new();
        let read =
            reader.read_forward::<std::convert::Infallible>(Sequence::new(bound), |record| {
                forward.push(Kept::from(record));
                Ok(ControlFlow::Continue(()))
            });
        read.unwrap();
        let from = kept.iter().filter(|record| record.sequence.get() >= bound);
        assert!(forward.iter().eq(from), "from {bound}");
        let mut backward = Vec::new();
        let all = 0..=u64::MAX;
        let read =
            reader.read_backward::<std::convert::Infallible>(all, Sequence::new(bound), |record| {
                backward.push(Kept::from(record));
                Ok(ControlFlow::Continue(()))
            });
        read.unwrap();
        let before = kept
            .iter()
            .rev()
            .filter(|record| record.sequence.get() < bound);
        assert!(backward.iter().eq(before), "before {bound}");
    }
}

#[test]
fn a_repaired_log_opens_behind_any_checkpoint() {
    let (scratch, _) = closed_log();
    let path = scratch.log_dir(1, 0, 1).join("00000002.seg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..5800].fill(0);
    replace(&path, &bytes);
    repair(&scratch, "the head of the second segment");
    let found = reopen(&scratch).unwrap();
    let (_, lost) = check_contiguous(&found, "the head of the second segment");
    assert!(lost.len() >= 2, "{lost:?}");
    for from in 1..=RECORDS + 1 {
        let mut data = scratch.open(1, SMALL).unwrap();
        let mut visited = Vec::new();
        let opened = Log::open_from::<std::convert::Infallible>(
            data.0.take_log(0),
            Sequence::new(from),
            |record| {
                visited.push(Kept::from(record));
                Ok(())
            },
        );
        assert_eq!(opened.unwrap().0.appended().get(), RECORDS);
        let expected = found.iter().filter(|record| record.sequence.get() >= from);
        assert!(visited.iter().eq(expected), "from {from}");
    }
}

#[test]
fn bytes_after_a_sealed_log_are_dropped_and_its_records_stay() {
    let (scratch, records) = closed_log();
    drop(scratch.open(2, SMALL).unwrap());
    let path = scratch.log_dir(1, 0, 1).join("00000003.seg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[8000] = 1;
    replace(&path, &bytes);
    assert!(look(&scratch).is_damaged());
    repair(&scratch, "sealed");
    let data = scratch.open(2, SMALL).unwrap();
    let mut found = Vec::new();
    let sealed = &data.0.sealed_generations()[0].logs()[0];
    let replayed = sealed.replay::<std::convert::Infallible>(|record| {
        found.push(Kept::from(record));
        Ok(())
    });
    replayed.unwrap();
    assert!(found == records);
}

#[test]
fn the_end_of_a_sealed_log_is_known_from_the_generation_after_it() {
    let (scratch, records) = closed_log();
    drop(scratch.open(2, SMALL).unwrap());
    fs::remove_file(scratch.log_dir(1, 0, 1).join("DURABLE")).unwrap();
    fs::remove_file(scratch.log_dir(1, 0, 1).join("00000003.seg")).unwrap();
    let report = look(&scratch);
    assert!(report.is_damaged(), "{:?}", report.findings);
    repair(&scratch, "sealed and short");
    assert!(!look(&scratch).is_damaged());
    let data = scratch.open(2, SMALL).unwrap();
    let mut found = Vec::new();
    let sealed = &data.0.sealed_generations()[0].logs()[0];
    let replayed = sealed.replay::<std::convert::Infallible>(|record| {
        found.push(Kept::from(record));
        Ok(())
    });
    replayed.unwrap();
    let (kept, lost) = check_contiguous(&found, "sealed and short");
    assert_eq!(lost, records_in(2, &(4096..8192)));
    assert_eq!(kept[..], records[..kept.len()]);
}

#[test]
fn a_missing_shard_of_several_becomes_an_empty_one() {
    let scratch = Scratch::new();
    let mut data = scratch.open(2, SMALL).unwrap();
    for shard in 0..2 {
        let (mut log, ..) = data.shard(shard).unwrap();
        append(&mut log, &payload(1, 50));
        log.close().unwrap();
    }
    drop(data);
    fs::remove_dir_all(scratch.log_dir(1, 1, 2)).unwrap();
    let plan = Repair::plan(scratch.path(), |_| true, &mut |_| {}).unwrap();
    let is_made = |action: &RepairAction| matches!(action, RepairAction::Remake { from: None, .. });
    assert!(plan.steps().iter().all(|step| is_made(&step.action)));
    plan.run(&scratch.path().join("repair-1")).unwrap();
    let mut data = scratch.open(2, SMALL).unwrap();
    assert_eq!(data.shard(0).unwrap().2.len(), 1);
    assert_eq!(data.shard(1).unwrap().2.len(), 0);
}

#[test]
fn what_can_not_be_repaired_is_refused() {
    let (scratch, _) = closed_log();
    let path = scratch.log_dir(1, 0, 1).join("00000002.seg");
    let whole = fs::read(&path).unwrap();
    let mut newer = whole.clone();
    newer[8] = 2;
    let crc = crc32fast::hash(&newer[..80]).to_le_bytes();
    newer[80..84].copy_from_slice(&crc);
    replace(&path, &newer);
    let plan = Repair::plan(scratch.path(), |_| true, &mut |_| {}).unwrap();
    assert_eq!((plan.is_needed(), plan.is_possible()), (true, false));
    drop(plan);
    replace(&path, &whole);
    drop(scratch.open(2, SMALL).unwrap());
    fs::remove_dir_all(scratch.path().join("log/000001")).unwrap();
    let plan = Repair::plan(scratch.path(), |_| true, &mut |_| {}).unwrap();
    assert_eq!((plan.is_needed(), plan.is_possible()), (true, false));
    let error = Repair::plan(scratch.path(), |_| true, &mut |_| {}).unwrap_err();
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
    drop(plan);
    let nowhere = Repair::plan(scratch.path().join("nowhere"), |_| true, &mut |_| {}).unwrap_err();
    assert!(matches!(nowhere, StorageError::Missing { .. }), "{nowhere}");
    assert!(!scratch.path().join("nowhere").exists());
}

/// Several faults at once, at random: the log opens after the repair, holds nothing but records of
/// before, every one that no fault touched while its header was whole, and a second repair finds
/// nothing.
#[test]
fn random_damage_is_repaired() {
    let (scratch, records) = closed_log();
    let files = scratch.files();
    for seed in 0..300 {
        let story = format!("seed {seed}");
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut lost_at_most = Vec::new();
        for _ in 0..=chance.u64(..3) {
            let file = usize::try_from(chance.u64(..5)).unwrap();
            let (path, _) = &files[file];
            let mut bytes = fs::read(path).unwrap_or_default();
            let from = usize::try_from(chance.u64(..8192))
                .unwrap()
                .min(bytes.len());
            let to = (from + usize::try_from(chance.u64(..3000)).unwrap()).min(bytes.len());
            match chance.u64(..6) {
                0 => bytes.truncate(from),
                1 => bytes[from..to].fill(0),
                2 => bytes[from..to].fill_with(|| chance.u64(..).to_le_bytes()[0]),
                3 => bytes[from..to].reverse(),
                4 if file < 4 => bytes.clear(),
                _ => bytes[from..to.min(from + 1)].fill(0xA7),
            }
            replace(path, &bytes);
            if file < 4 {
                // A header that is gone may take the records with it if something else is damaged
                // too.
                let whole = from >= 4096 && bytes.len() > 4096;
                let range = match bytes.len() {
                    8192 if whole => from..to,
                    _ if whole => from..8192,
                    _ => 4096..8192,
                };
                lost_at_most.extend(records_in(file, &range));
            }
        }
        repair(&scratch, &story);
        assert!(!look(&scratch).is_damaged(), "{story}");
        let found = reopen(&scratch).unwrap_or_else(|error| panic!("{story}: {error}"));
        let (kept, _) = check_contiguous(&found, &story);
        for record in &records {
            let is_kept = kept.contains(record);
            let sequence = record.sequence.get();
            assert!(
                is_kept || lost_at_most.contains(&sequence),
                "{story}: {sequence} is lost"
            );
        }
        assert!(
            kept.iter().all(|record| records.contains(record)),
            "{story}"
        );
        restore(&scratch, &files);
    }
}

/// A directory with two shards whose logs have several segments with records; closed.
pub(crate) fn two_shards() -> Scratch {
    let scratch = Scratch::new();
    let mut data = scratch.open(2, SMALL).unwrap();
    for shard in 0..2 {
        let (mut log, ..) = data.shard(shard).unwrap();
        for number in 0..40 {
            append(&mut log, &payload(number, 1000));
        }
        log.close().unwrap();
    }
    scratch
}

pub(crate) fn swap(one: &Path, other: &Path) {
    let between = one.with_extension("between");
    fs::rename(one, &between).unwrap();
    fs::rename(other, one).unwrap();
    fs::rename(between, other).unwrap();
}

#[test]
fn segments_of_two_logs_in_each_others_place_are_named_and_not_given_up() {
    let scratch = two_shards();
    let segment = |shard| scratch.log_dir(1, shard, 2).join("00000002.seg");
    let [one, other] = [segment(0), segment(1)];
    swap(&one, &other);
    let named = |found: &[&ScrubFinding]| {
        let misfiled = found.iter().filter_map(|finding| match &finding.fault {
            Fault::Misfiled { belongs } => {
                Some((finding.path.to_path_buf(), belongs.to_path_buf()))
            }
            _ => None,
        });
        let mut misfiled: Vec<_> = misfiled.collect();
        misfiled.sort();
        misfiled
    };
    let expected = [(one.clone(), other.clone()), (other.clone(), one.clone())];
    let inspection = Inspection::open(scratch.path(), |_| true).unwrap();
    assert_eq!(
        named(&inspection.findings().iter().collect::<Vec<_>>()),
        expected
    );
    let repair = Repair::plan(scratch.path(), |_| true, &mut |_| {}).unwrap();
    assert_eq!(named(&repair.findings().collect::<Vec<_>>()), expected);
    assert!(repair.is_needed() && !repair.is_possible());
    drop(repair);
    swap(&one, &other);
    let mut data = scratch.open(2, SMALL).unwrap();
    for shard in 0..2 {
        assert_eq!(data.shard(shard).unwrap().2.len(), 40);
    }
}

#[test]
fn a_copy_of_another_logs_segment_does_not_stand_in_the_way_of_a_repair() {
    let scratch = two_shards();
    let segment = |shard| scratch.log_dir(1, shard, 2).join("00000002.seg");
    fs::copy(segment(0), segment(1)).unwrap();
    let repair = Repair::plan(scratch.path(), |_| true, &mut |_| {}).unwrap();
    assert!(repair.is_needed() && repair.is_possible());
    repair.run(&scratch.path().join("repair-1")).unwrap();
    let mut data = scratch.open(2, SMALL).unwrap();
    assert_eq!(data.shard(0).unwrap().2.len(), 40);
    assert!(data.shard(1).unwrap().2.len() < 40);
}
