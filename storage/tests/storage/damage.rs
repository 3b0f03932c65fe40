//! What a disk, an operator or another program may do to the files of a log that was closed
//! properly: it is refused with an error that says what is wrong, and nothing is modified; or the
//! same records come back.

use std::fs;
use std::path::{Path, PathBuf};

use flux_storage::{LogOptions, Sequence, StorageError};

use crate::support::{Kept, SMALL, Scratch, append, payload, replace};

/// A log of two segments and a next segment, closed; its records.
fn closed_log() -> (Scratch, Vec<Kept>) {
    let scratch = Scratch::new();
    let options = LogOptions {
        segment_bytes_max: 8192,
        ..SMALL
    };
    let (mut log, ..) = scratch.open(1, options).unwrap().log();
    let mut records: Vec<_> = (1..=3)
        .map(|number| append(&mut log, &payload(number, 1300 + 7)))
        .collect();
    records.push(append(&mut log, &payload(4, 145)));
    let job = log.next_segment_job().unwrap();
    log.install_next_segment(job.run().unwrap());
    log.close().unwrap();
    assert_eq!(scratch.segment_sizes(), [8192, 8192, 8192]);
    (scratch, records)
}

fn first_segment(scratch: &Scratch) -> PathBuf {
    scratch.log_dir(1, 0, 1).join("00000001.seg")
}

fn reopen(scratch: &Scratch) -> Result<Vec<Kept>, StorageError> {
    let mut data = scratch.open(1, SMALL)?;
    data.shard(0).map(|(_, _, records)| records)
}

/// Opening is refused, changes no file, and says what `expected` accepts.
fn check_refused(scratch: &Scratch, story: &str, expected: impl Fn(&StorageError) -> bool) {
    let before = scratch.files();
    let error = reopen(scratch).expect_err(story);
    assert!(expected(&error), "{story}: {error}");
    assert!(scratch.files() == before, "{story}: files were modified");
}

/// Values to change a byte by: the many zeros get one each, the rest several.
fn flips(byte: u8, offset: usize) -> Vec<u8> {
    let bit = 1 << (offset % 8);
    if byte == 0 {
        vec![bit]
    } else {
        vec![bit, 0xFF, byte]
    }
}

/// Nothing lies in most of a header page; a part of it will do.
fn is_tried(offset: usize) -> bool {
    !(1024..4096).contains(&offset) || offset.is_multiple_of(16)
}

#[test]
fn every_changed_byte_is_refused_or_harmless() {
    let (scratch, records) = closed_log();
    fs::remove_file(scratch.log_dir(1, 0, 1).join("00000003.seg")).unwrap();
    let files = scratch.files();
    let mut refused = 0;
    for (index, (path, bytes)) in files.iter().enumerate() {
        for offset in (0..bytes.len()).filter(|&offset| is_tried(offset)) {
            for flip in flips(bytes[offset], offset) {
                let place = format!("{} byte {offset} ^ {flip}", path.display());
                let mut damaged = files.clone();
                damaged[index].1[offset] ^= flip;
                replace(path, &damaged[index].1);
                if let Ok(found) = reopen(&scratch) {
                    assert!(found == records, "{place}");
                    restore(&files);
                } else {
                    assert!(scratch.files() == damaged, "{place}: files were modified");
                    replace(path, bytes);
                    refused += 1;
                }
            }
        }
    }
    let record_bytes = 3 * (28 + 1307 + 1) + 28 + 145 + 3;
    assert!(refused > record_bytes * 2, "{refused}");
}

fn restore(files: &[(PathBuf, Vec<u8>)]) {
    for (path, bytes) in files {
        replace(path, bytes);
    }
}

#[test]
fn the_damaged_record_is_named() {
    let (scratch, _) = closed_log();
    let path = first_segment(&scratch);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 + 1336 + 100] ^= 1;
    replace(&path, &bytes);
    check_refused(&scratch, "second record", |error| {
        let StorageError::DamagedRecord {
            path: named,
            offset,
            sequence,
            durable,
        } = error
        else {
            return false;
        };
        (&**named, *offset) == (path.as_path(), 4096 + 1336)
            && (*sequence, *durable) == (Sequence::new(2), Sequence::new(4))
    });
}

/// Changes each of the two segments with records in turn; opening is refused with what `expected`
/// accepts.
fn check_change(
    story: &str,
    change: impl Fn(&Path, &mut Vec<u8>),
    expected: impl Fn(&StorageError) -> bool,
) {
    for name in ["00000001.seg", "00000002.seg"] {
        let (scratch, _) = closed_log();
        let path = scratch.log_dir(1, 0, 1).join(name);
        let mut bytes = fs::read(&path).unwrap();
        change(&path, &mut bytes);
        replace(&path, &bytes);
        check_refused(&scratch, &format!("{name} {story}"), &expected);
    }
}

#[test]
fn a_segment_of_another_size_is_refused() {
    let check = |story, len: usize, expected_len| {
        let expected = |error: &StorageError| {
            matches!(error, StorageError::WrongSize { expected, found, .. }
                if (*expected, *found) == (expected_len, len as u64))
        };
        check_change(story, |_, bytes| bytes.resize(len, 0), expected);
    };
    check("emptied", 0, 4096);
    check("shorter than a header", 4095, 4096);
    check("cut to its header", 4096, 8192);
    check("a byte short", 8191, 8192);
    check("a byte long", 8193, 8192);
}

#[test]
fn a_file_that_is_not_the_segment_of_its_place_is_told_apart() {
    check_change(
        "foreign",
        |_, bytes| bytes[..4].copy_from_slice(b"%PDF"),
        |error| matches!(error, StorageError::ForeignFile { .. }),
    );
    check_change(
        "newer",
        |_, bytes| bytes[8] = 2,
        |error| {
            matches!(
                error,
                StorageError::NewerVersion {
                    found: 2,
                    known: 1,
                    ..
                }
            )
        },
    );
    check_change(
        "header page zeroed",
        |_, bytes| bytes[..4096].fill(0),
        |error| matches!(error, StorageError::DamagedHeader { .. }),
    );
    check_change(
        "record page zeroed",
        |_, bytes| bytes[4096..].fill(0),
        |error| matches!(error, StorageError::DamagedRecord { offset: 4096, .. }),
    );
    let replace_by_neighbour = |path: &Path, bytes: &mut Vec<u8>| {
        let is_first = path.ends_with("00000001.seg");
        let neighbour = if is_first {
            "00000002.seg"
        } else {
            "00000001.seg"
        };
        *bytes = fs::read(path.with_file_name(neighbour)).unwrap();
    };
    check_change("replaced by its neighbour", replace_by_neighbour, |error| {
        matches!(
            error,
            StorageError::WrongPlace {
                field: "ordinal",
                ..
            }
        )
    });
}

#[test]
fn a_deleted_segment_is_noticed_unless_it_is_the_spare() {
    let check = |name: &str, expected: fn(&StorageError) -> bool| {
        let (scratch, _) = closed_log();
        fs::remove_file(scratch.log_dir(1, 0, 1).join(name)).unwrap();
        check_refused(&scratch, name, expected);
    };
    check(
        "00000001.seg",
        |error| matches!(error, StorageError::NoLogStart { path, fault: "is missing" } if path.ends_with("00000001.seg")),
    );
    check(
        "00000002.seg",
        |error| matches!(error, StorageError::Missing { path } if path.ends_with("00000002.seg")),
    );
    let (scratch, records) = closed_log();
    let dir = scratch.log_dir(1, 0, 1);
    fs::remove_file(dir.join("00000003.seg")).unwrap();
    assert_eq!(reopen(&scratch).unwrap(), records);
    fs::remove_file(dir.join("00000002.seg")).unwrap();
    check_refused(
        &scratch,
        "the last",
        |error| matches!(error, StorageError::DamagedRecord { sequence, .. } if *sequence == Sequence::new(4)),
    );
}

#[test]
fn swapped_segments_are_refused() {
    let (scratch, _) = closed_log();
    let dir = scratch.log_dir(1, 0, 1);
    fs::rename(dir.join("00000001.seg"), dir.join("x")).unwrap();
    fs::rename(dir.join("00000002.seg"), dir.join("00000001.seg")).unwrap();
    fs::rename(dir.join("x"), dir.join("00000002.seg")).unwrap();
    check_refused(&scratch, "swapped", |error| {
        matches!(error, StorageError::WrongPlace { .. })
    });
}

#[test]
fn a_segment_of_another_log_is_refused() {
    let (scratch, _) = closed_log();
    let (other, _) = closed_log();
    let name = "00000002.seg";
    fs::copy(
        other.log_dir(1, 0, 1).join(name),
        scratch.log_dir(1, 0, 1).join(name),
    )
    .unwrap();
    check_refused(&scratch, "another data directory's", |error| {
        matches!(
            error,
            StorageError::WrongPlace {
                field: "identity",
                ..
            }
        )
    });
    let name = "00000001.seg";
    let moved = scratch.log_dir(1, 0, 1).join(name);
    let sharded = Scratch::new();
    drop(sharded.open(2, SMALL).unwrap());
    fs::copy(sharded.log_dir(1, 1, 2).join(name), moved).unwrap();
    check_refused(&scratch, "another shard's", |error| {
        matches!(error, StorageError::WrongPlace { field: "shard", .. })
    });
}

#[test]
fn without_its_watermark_file_a_log_opens_and_makes_it_anew() {
    let (scratch, records) = closed_log();
    let path = scratch.log_dir(1, 0, 1).join("DURABLE");
    for bytes in [
        None,
        Some(Vec::new()),
        Some(vec![0xA5; 1024]),
        Some(vec![0; 5000]),
    ] {
        match bytes {
            None => fs::remove_file(&path).unwrap(),
            Some(bytes) => replace(&path, &bytes),
        }
        assert_eq!(reopen(&scratch).unwrap(), records);
        assert_eq!(fs::read(&path).unwrap().len(), 1024);
        assert_eq!(fs::read(&path).unwrap()[24], 4, "the last sequence");
    }
}

#[test]
fn without_its_watermark_file_damage_before_a_later_flush_is_still_noticed() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    append(&mut log, b"first");
    log.flush_blocking().unwrap();
    append(&mut log, b"second states that the first was durable");
    log.close().unwrap();
    let dir = scratch.log_dir(1, 0, 1);
    fs::remove_file(dir.join("DURABLE")).unwrap();
    let path = dir.join("00000001.seg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096 + 28] ^= 1;
    replace(&path, &bytes);
    check_refused(
        &scratch,
        "first record",
        |error| matches!(error, StorageError::DamagedRecord { offset: 4096, durable, .. } if durable.get() == 1),
    );
}

#[test]
fn a_lost_page_between_segments_is_noticed_by_what_later_segments_state() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    for number in 1..=12 {
        append(&mut log, &payload(number, 900));
        log.flush_blocking().unwrap();
    }
    log.close().unwrap();
    let dir = scratch.log_dir(1, 0, 1);
    fs::remove_file(dir.join("DURABLE")).unwrap();
    let path = dir.join("00000001.seg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0);
    replace(&path, &bytes);
    check_refused(
        &scratch,
        "zeroed page",
        |error| matches!(error, StorageError::DamagedRecord { path: named, offset: 4096, .. } if **named == *path),
    );
}

#[test]
fn a_torn_tail_is_cut_at_the_last_whole_record_and_reported() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    let first = append(&mut log, b"whole");
    log.flush_blocking().unwrap();
    append(&mut log, &[7; 200]);
    append(&mut log, &[8; 200]);
    log.write_out().unwrap();
    drop(log);
    let path = first_segment(&scratch);
    let mut bytes = fs::read(&path).unwrap();
    let torn = 4096 + 40;
    bytes[torn + 100] = 0;
    replace(&path, &bytes);
    let (log, recovery, records) = scratch.open(1, SMALL).unwrap().log();
    assert_eq!(records, [first]);
    let cut = recovery.cut.unwrap();
    assert_eq!(
        (&*cut.path, cut.offset, cut.bytes),
        (path.as_path(), torn as u64, 2 * 232)
    );
    drop(log);
    assert!(
        fs::read(&path).unwrap()[torn..]
            .iter()
            .all(|&byte| byte == 0)
    );
}

#[test]
fn many_lost_segments_are_noticed_by_the_records_after_them() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    for number in 1..=9000 {
        append(&mut log, &payload(number, 1));
        if number % 100 == 0 {
            log.flush_blocking().unwrap();
        }
    }
    log.close().unwrap();
    fs::remove_file(scratch.log_dir(1, 0, 1).join("DURABLE")).unwrap();
    let mut segments = scratch.files();
    assert!(segments.len() >= 10, "{}", segments.len());
    segments.pop();
    for (path, mut bytes) in segments {
        bytes[512..].fill(0);
        replace(&path, &bytes);
    }
    let (last, mut bytes) = scratch.files().pop().unwrap();
    bytes[512..4096].fill(0);
    replace(&last, &bytes);
    check_refused(
        &scratch,
        "all but the last zeroed",
        |error| matches!(error, StorageError::DamagedRecord { offset: 4096, sequence, .. } if sequence.get() == 1),
    );
}
