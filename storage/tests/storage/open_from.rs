//! A log opened behind a checkpoint: what is covered is not read again, and what is not covered is
//! all there.

use std::fs;
use std::path::PathBuf;

use flux_storage::{Log, Sequence, StorageError};

use crate::support::{Kept, SMALL, Scratch, append, payload, replace};

/// A closed log of some segments, without a next segment; its records.
fn closed_log() -> (Scratch, Vec<Kept>) {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    let records = (1..=60)
        .map(|number| append(&mut log, &payload(number, 1500)))
        .collect();
    log.close().unwrap();
    assert_eq!(scratch.segment_sizes(), [8192, 16384, 32768, 32768, 32768]);
    (scratch, records)
}

/// The sequences that the segments of [`closed_log`] begin with.
const BASES: [u64; 5] = [1, 3, 11, 29, 47];

fn segment(scratch: &Scratch, ordinal: usize) -> PathBuf {
    scratch.log_dir(1, 0, 1).join(format!("{ordinal:08}.seg"))
}

fn open_from(scratch: &Scratch, from: u64) -> Result<(Log, Vec<Kept>), StorageError> {
    let opened = scratch.open(1, SMALL)?.log_from(Sequence::new(from));
    opened.map(|(log, _, records)| (log, records))
}

/// Changes some bytes of a segment; returns what it was before.
fn damage(path: &PathBuf, range: std::ops::Range<usize>) -> Vec<u8> {
    let before = fs::read(path).unwrap();
    let mut bytes = before.clone();
    bytes[range].iter_mut().for_each(|byte| *byte ^= 0x55);
    replace(path, &bytes);
    before
}

#[test]
fn opening_from_any_sequence_visits_the_rest_and_the_log_goes_on() {
    let (scratch, mut records) = closed_log();
    for from in 0..=61 {
        let (mut log, rest) = open_from(&scratch, from).unwrap();
        let skipped = usize::try_from(from.saturating_sub(1)).unwrap();
        assert_eq!(rest, records[skipped..], "from {from}");
        let mut all: Vec<Kept> = Vec::new();
        log.replay_from::<()>(Sequence::ZERO, |record| {
            all.push(record.into());
            Ok(())
        })
        .unwrap();
        assert_eq!(all, records, "from {from}");
        records.push(append(&mut log, &payload(from, 100)));
        log.close().unwrap();
    }
    let (_, rest) = open_from(&scratch, 1).unwrap();
    assert_eq!(rest, records);
}

#[test]
fn segments_that_are_covered_are_not_read_beyond_their_headers() {
    let (scratch, records) = closed_log();
    for from in 1..=60 {
        let skipped = BASES.iter().filter(|&&base| base <= from).count() - 1;
        let before: Vec<_> = (1..=skipped)
            .map(|ordinal| damage(&segment(&scratch, ordinal), 4096..8192))
            .collect();
        let (_, rest) = open_from(&scratch, from).unwrap();
        assert!(
            rest == records[usize::try_from(from).unwrap() - 1..],
            "from {from}"
        );
        for (index, bytes) in before.iter().enumerate() {
            replace(&segment(&scratch, index + 1), bytes);
        }
    }
}

#[test]
fn a_torn_activation_of_a_covered_segment_is_made_up_for_by_its_first_record() {
    let (scratch, records) = closed_log();
    for ordinal in 2..=5 {
        damage(&segment(&scratch, ordinal), 512..532);
    }
    damage(&segment(&scratch, 1), 4096..8192);
    let (_, rest) = open_from(&scratch, 55).unwrap();
    assert_eq!(rest, records[54..]);

    // Where the first record is gone as well, the segment before is walked, and the damage found.
    damage(&segment(&scratch, 3), 4096..4200);
    let error = open_from(&scratch, 55).unwrap_err();
    assert!(
        matches!(&error, StorageError::DamagedRecord { path, sequence, .. }
            if path.ends_with("00000002.seg") && sequence.get() == 11),
        "{error}"
    );
}

#[test]
fn a_segment_that_lost_its_first_record_is_not_gone_on_with() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    let mut records: Vec<_> = (1..=3)
        .map(|number| append(&mut log, &payload(number, 1300)))
        .collect();
    log.flush_blocking().unwrap();
    append(&mut log, &payload(4, 1300));
    drop(log);
    let path = segment(&scratch, 2);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0);
    replace(&path, &bytes);

    let (mut log, rest) = open_from(&scratch, 4).unwrap();
    assert_eq!(rest, []);
    // Does not fit into the empty segment, which would stay empty between others.
    records.push(append(&mut log, &payload(4, 50_000)));
    log.close().unwrap();
    assert_eq!(open_from(&scratch, 1).unwrap().1, records);
}

#[test]
fn damage_after_what_is_covered_is_refused() {
    let (scratch, _) = closed_log();
    let path = segment(&scratch, 4);
    damage(&path, 4096 + 3 * 1528 + 100..4096 + 3 * 1528 + 101);
    for from in 1..=46 {
        let error = open_from(&scratch, from).unwrap_err();
        assert!(
            matches!(&error, StorageError::DamagedRecord { path: named, offset, sequence, .. }
                if **named == *path && *offset == 4096 + 3 * 1528 && sequence.get() == 32),
            "from {from}: {error}"
        );
    }
    open_from(&scratch, 47).unwrap();
}

#[test]
fn a_log_that_ends_before_what_a_checkpoint_covers_is_refused_and_left_as_it_is() {
    let (scratch, records) = closed_log();
    let dir = scratch.log_dir(1, 0, 1);
    open_from(&scratch, 61).unwrap();
    let check = |from: u64, ordinal: usize, sequence: u64| {
        let before = scratch.files();
        let error = open_from(&scratch, from).unwrap_err();
        assert!(
            matches!(&error, StorageError::BehindCheckpoint { path, sequence: found, covered, .. }
                if **path == *segment(&scratch, ordinal)
                    && (found.get(), covered.get()) == (sequence, from - 1)),
            "from {from}: {error}"
        );
        assert!(
            scratch.files() == before,
            "from {from}: files were modified"
        );
    };
    check(62, 5, 61);
    check(1_000_000, 5, 61);

    // Without the watermark only the checkpoint knows of the last records.
    fs::remove_file(dir.join("DURABLE")).unwrap();
    damage(&segment(&scratch, 5), 4096 + 13 * 1528..32768);
    check(61, 5, 60);
    fs::remove_file(segment(&scratch, 5)).unwrap();
    check(61, 4, 47);
    check(48, 4, 47);
    let (log, rest) = open_from(&scratch, 40).unwrap();
    assert_eq!(rest, records[39..46]);
    assert_eq!(log.appended(), Sequence::new(46));
}

#[test]
fn a_later_generation_begins_where_the_one_before_ended() {
    let (scratch, _) = closed_log();
    drop(scratch.open(2, SMALL).unwrap());
    let mut data = scratch.open(2, SMALL).unwrap();
    let place = data.0.take_log(0);
    let origin = place.origin().unwrap();
    assert_eq!(origin.first_sequence, Sequence::new(61));
    assert_eq!(origin.removed, None);
    assert_eq!((place.generation(), place.shard_count()), (2, 2));
    let root = scratch.path();
    let path = root.join("checkpoints/000002/000-of-002");
    assert_eq!(place.checkpoint_path(), path);
    assert_eq!(data.0.checkpoint_path(2, 0, 2), path);
    assert_eq!(place.base_path(), data.0.base_path(2, 0, 2));
    let (log, recovery) = Log::open_from::<()>(place, Sequence::new(61), |_| Ok(())).unwrap();
    assert_eq!((log.appended().get(), recovery.records), (60, 0));
    assert_eq!(log.owner(), origin.owner);
}

#[test]
fn resharding_reads_only_what_no_checkpoint_covers() {
    let (scratch, _) = closed_log();
    for ordinal in 1..=4 {
        damage(&segment(&scratch, ordinal), 4096..8192);
    }
    let error = scratch.open(2, SMALL).unwrap_err();
    assert!(
        matches!(error, StorageError::DamagedRecord { .. }),
        "{error}"
    );
    let covered = |through: u64| {
        flux_storage::DataDir::open_covered(scratch.path(), 2, SMALL, |log| {
            assert_eq!(
                (log.generation(), log.shard(), log.shard_count()),
                (1, 0, 1)
            );
            Sequence::new(through)
        })
    };
    assert!(matches!(
        covered(45),
        Err(StorageError::DamagedRecord { .. })
    ));
    assert!(matches!(
        covered(61),
        Err(StorageError::BehindCheckpoint { .. })
    ));
    let data = covered(46).unwrap();
    let log = &data.sealed_generations()[0].logs()[0];
    let mut sequences = Vec::new();
    log.replay_from::<()>(Sequence::new(50), |record| {
        sequences.push(record.sequence.get());
        Ok(())
    })
    .unwrap();
    assert_eq!(sequences, (50..=60).collect::<Vec<_>>());
    assert!(log.replay::<()>(|_| Ok(())).is_err());
}

#[test]
fn the_bytes_to_be_visited_are_known_beforehand() {
    let (scratch, records) = closed_log();
    let record_bytes = 1528;
    for from in 1..=61 {
        let mut data = scratch.open(1, SMALL).unwrap();
        let place = data.0.take_log(0);
        let tail_bytes = place.tail_bytes(Sequence::new(from)).unwrap();
        let mut visited = 0;
        let (log, recovery) = Log::open_from::<()>(place, Sequence::new(from), |record| {
            visited += record.bytes_on_disk();
            Ok(())
        })
        .unwrap();
        let left = records.len() as u64 + 1 - from;
        assert_eq!(visited, left * record_bytes);
        assert_eq!((recovery.records, recovery.bytes), (left, visited));
        let over = tail_bytes - visited;
        assert!(over < 32768, "from {from}: {tail_bytes} for {visited}");
        let since = log.bytes_since(Sequence::new(from - 1));
        assert!(since >= visited, "from {from}: {since} for {visited}");
        assert!(
            since - visited < 5 * record_bytes,
            "from {from}: {since} for {visited}"
        );
    }
}
