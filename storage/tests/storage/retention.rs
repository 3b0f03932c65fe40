//! Old segments taken from a log: what is left is the log, what is gone is known to be gone, and a
//! crash at any moment leaves one or the other.

use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;

use flux_storage::{
    ClosedSegment, DataDir, Log, LogOptions, LogStart, Removal, RetireJob, RetirePlan,
    SealedGeneration, Sequence, StorageError,
};

use crate::history::KEYED;
use crate::support::{Kept, SMALL, Scratch, append, append_at, payload, replace};

const EQUAL: LogOptions = LogOptions {
    segment_bytes_max: 8192,
    ..SMALL
};
/// Records in a segment of [`log_of`].
const PER_SEGMENT: u64 = 3;

/// A log with so many closed segments of three records, all flushed; its records.
fn log_of(closed: u64) -> (Scratch, Log, Vec<Kept>) {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, EQUAL).unwrap().log();
    let numbers = 1..=closed * PER_SEGMENT + 2;
    let records = numbers.map(|number| append(&mut log, &payload(number, 1300)));
    let records = records.collect();
    log.flush_blocking().unwrap();
    (scratch, log, records)
}

/// A plan for the first segments.
fn plan(segments: &[ClosedSegment], count: usize) -> RetirePlan {
    let removal = Removal {
        excess_bytes: segments[..count].iter().map(|segment| segment.bytes).sum(),
        before_micros: i64::MIN,
    };
    RetirePlan::choose(segments, removal).unwrap().unwrap()
}

fn retire(log: &mut Log, count: usize) -> RetireJob {
    let segments = log.removable(Sequence::new(u64::MAX));
    log.retire(plan(&segments, count))
}

/// A log of five closed segments of which three were retired, closed; the records that are left.
fn retired_log() -> (Scratch, Vec<Kept>) {
    let (scratch, mut log, mut records) = log_of(5);
    retire(&mut log, 3).run().unwrap();
    log.close().unwrap();
    (scratch, records.split_off(9))
}

fn log_start_path(scratch: &Scratch) -> PathBuf {
    scratch.log_dir(1, 0, 1).join("HORIZON")
}

fn segment(scratch: &Scratch, ordinal: u64) -> PathBuf {
    scratch.log_dir(1, 0, 1).join(format!("{ordinal:08}.seg"))
}

fn reopen(scratch: &Scratch) -> Result<(Log, Vec<Kept>), StorageError> {
    let mut data = scratch.open(1, EQUAL)?;
    data.shard(0).map(|(log, _, records)| (log, records))
}

fn names(scratch: &Scratch) -> Vec<String> {
    let paths = scratch.paths().into_iter();
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.map(name).collect()
}

#[test]
fn only_closed_and_durable_segments_before_the_bound_may_go() {
    let (_scratch, mut log, _) = log_of(3);
    let ordinals = |log: &Log, below: u64| -> Vec<u64> {
        let segments = log.removable(Sequence::new(below));
        segments.iter().map(|segment| segment.ordinal).collect()
    };
    let expected: [&[u64]; 14] = [
        &[],
        &[],
        &[],
        &[],
        &[1],
        &[1],
        &[1],
        &[1, 2],
        &[1, 2],
        &[1, 2],
        &[1, 2, 3],
        &[1, 2, 3],
        &[1, 2, 3],
        &[1, 2, 3],
    ];
    for (below, expected) in expected.into_iter().enumerate() {
        assert_eq!(ordinals(&log, below as u64), expected, "below {below}");
    }
    for number in 12..=20 {
        append(&mut log, &payload(number, 1300));
    }
    assert_eq!(ordinals(&log, 100), [1, 2, 3], "the fourth is not durable");
    log.flush_blocking().unwrap();
    assert_eq!(ordinals(&log, 100), [1, 2, 3, 4, 5, 6]);
    let job = retire(&mut log, 1);
    assert_eq!(ordinals(&log, 100), [0; 0], "while a job is out");
    drop(job);
    assert_eq!(ordinals(&log, 100), [2, 3, 4, 5, 6]);
}

#[test]
fn segments_go_by_age_or_by_bytes_and_never_out_of_order() {
    let (_scratch, log, _) = log_of(4);
    let segments = log.removable(Sequence::new(u64::MAX));
    let check = |excess_bytes: u64, before_micros: i64, expected: Option<LogStart>| {
        let removal = Removal {
            excess_bytes,
            before_micros,
        };
        let plan = RetirePlan::choose(&segments, removal).unwrap();
        let found = plan.as_ref().map(RetirePlan::log_start);
        assert_eq!(found, expected, "{removal:?}");
        let bytes = expected.map_or(0, |log_start| (log_start.first_ordinal - 1) * 8192);
        assert_eq!(plan.map_or(0, |plan| plan.bytes()), bytes, "{removal:?}");
    };
    // The record of sequence n has time 1000 n; a segment's time is that of its last record.
    let log_start = |count: u64| {
        let first_sequence = Sequence::new(count * PER_SEGMENT + 1);
        Some(LogStart {
            first_ordinal: count + 1,
            first_sequence,
            time_micros: i64::try_from(count * PER_SEGMENT * 1000).unwrap(),
        })
    };
    check(0, i64::MIN, None);
    check(0, 3000, None);
    check(0, 3001, log_start(1));
    check(0, 6000, log_start(1));
    check(0, 6001, log_start(2));
    check(0, i64::MAX, log_start(4));
    check(1, i64::MIN, log_start(1));
    check(8192, i64::MIN, log_start(1));
    check(8193, i64::MIN, log_start(2));
    check(8192, 6001, log_start(2));
    check(16384, 3001, log_start(2));
    check(u64::MAX, i64::MIN, log_start(4));
    assert_eq!(
        RetirePlan::choose(
            &[],
            Removal {
                excess_bytes: 9,
                before_micros: 9
            }
        )
        .unwrap(),
        None
    );
}

#[test]
fn a_segment_goes_when_its_latest_record_is_old_enough_whichever_that_is() {
    for index_key in [EQUAL.index_key, KEYED] {
        let scratch = Scratch::new();
        let options = LogOptions { index_key, ..EQUAL };
        let (mut log, ..) = scratch.open(1, options).unwrap().log();
        // The clock is far ahead at the second record, and back at the third.
        let times = [1000, 90_000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000];
        for (number, time) in (1..).zip(times) {
            append_at(&mut log, time, &payload(number, 1300));
        }
        log.flush_blocking().unwrap();
        while let Some(job) = log.index_job() {
            job.run().unwrap();
        }
        let segments = log.removable(Sequence::new(u64::MAX));
        let latest = segments.iter().map(|it| it.latest_micros().unwrap());
        assert_eq!(latest.collect::<Vec<_>>(), [90_000, 5000, 8000]);
        let check = |excess_bytes: u64, before_micros: i64, expected: Option<(u64, i64)>| {
            let removal = Removal {
                excess_bytes,
                before_micros,
            };
            let plan = RetirePlan::choose(&segments, removal).unwrap();
            let found = plan.map(|plan| plan.log_start());
            let found = found.map(|it| (it.first_ordinal, it.time_micros));
            assert_eq!(found, expected, "{removal:?}");
        };
        check(0, 90_000, None);
        check(0, 90_001, Some((4, 90_000)));
        // What bytes remove is as late as the latest of all that goes.
        check(8193, i64::MIN, Some((3, 90_000)));
    }
}

#[test]
fn a_log_forgets_what_is_retired_and_goes_on() {
    let (scratch, mut log, mut records) = log_of(5);
    assert_eq!((log.first_sequence().get(), log.removed()), (1, None));
    let job = retire(&mut log, 2);
    let log_start = job.log_start();
    assert_eq!(
        (log.first_sequence().get(), log.removed()),
        (7, Some(log_start))
    );
    job.run().unwrap();
    job.run().unwrap();
    drop(job);
    assert_eq!(
        names(&scratch),
        [
            "00000003.seg",
            "00000004.seg",
            "00000005.seg",
            "00000006.seg",
            "DURABLE",
            "HORIZON"
        ]
    );
    assert_eq!(log.stats().segment_count, 4);
    let mut rest = Vec::new();
    log.replay_from::<()>(Sequence::ZERO, |record| {
        rest.push(Kept::from(record));
        Ok(())
    })
    .unwrap();
    assert_eq!(rest, records[6..]);

    records.push(append(&mut log, &payload(18, 1300)));
    records.push(append(&mut log, &payload(19, 1300)));
    log.close().unwrap();
    let (mut log, rest) = reopen(&scratch).unwrap();
    assert_eq!(rest, records[6..]);
    assert_eq!(
        (log.first_sequence().get(), log.removed()),
        (7, Some(log_start))
    );

    retire(&mut log, 3).run().unwrap();
    drop(log);
    let (log, rest) = reopen(&scratch).unwrap();
    assert_eq!(rest, records[15..]);
    assert_eq!(log.removed().unwrap().first_ordinal, 6);
}

#[test]
fn what_was_removed_is_not_taken_for_the_beginning() {
    let (scratch, rest) = retired_log();
    for from in 0..=17 {
        let mut data = scratch.open(1, EQUAL).unwrap();
        let place = data.0.take_log(0);
        let origin = place.origin().unwrap();
        assert_eq!(origin.first_sequence, Sequence::new(10));
        assert_eq!(origin.removed.unwrap().time_micros, 9000);
        let mut visited: Vec<Kept> = Vec::new();
        let opened = Log::open_from::<Infallible>(place, Sequence::new(from), |record| {
            visited.push(record.into());
            Ok(())
        });
        if from < 10 {
            let error = opened.unwrap_err().to_string();
            let needed =
                format!("records from {from} on are needed, but retention removed those before 10");
            assert!(error.starts_with(&needed), "{error}");
        } else {
            let skipped = usize::try_from(from).unwrap() - 10;
            assert_eq!(visited, rest[skipped..], "from {from}");
            opened.unwrap().0.close().unwrap();
        }
    }
}

#[test]
fn a_crash_at_any_moment_of_a_retirement_leaves_all_or_only_the_rest() {
    let (scratch, mut log, records) = log_of(5);
    let before = scratch.files();
    retire(&mut log, 3).run().unwrap();
    log.close().unwrap();
    let after = scratch.files();
    let announced = fs::read(log_start_path(&scratch)).unwrap();
    let back_to = |files: &[(PathBuf, Vec<u8>)]| {
        for path in scratch.paths() {
            fs::remove_file(path).unwrap();
        }
        for (path, bytes) in files {
            replace(path, bytes);
        }
    };

    let unfinished = scratch.log_dir(1, 0, 1).join("HORIZON.tmp");
    for written in [0, 1, 59, 60, 512, 1023, 1024] {
        back_to(&before);
        replace(&unfinished, &announced[..written]);
        let (log, found) = reopen(&scratch).unwrap();
        assert!(found == records, "{written} bytes of HORIZON");
        assert_eq!(log.removed(), None);
        assert!(!unfinished.exists());
    }
    // The removals may reach the disk in any order.
    for there in 0..8_u32 {
        back_to(&after);
        for (index, (path, bytes)) in before.iter().take(3).enumerate() {
            if there & (1 << index) != 0 {
                replace(path, bytes);
            }
            // A helper thread may write the index of a segment that has just been retired.
            replace(&path.with_extension("idx"), b"an index");
        }
        let (log, found) = reopen(&scratch).unwrap();
        assert!(found == records[9..], "{there:03b}");
        assert_eq!(log.removed().unwrap().first_ordinal, 4);
        assert_eq!(
            names(&scratch).len(),
            3 + 2,
            "{there:03b}: {:?}",
            names(&scratch)
        );
    }
}

#[test]
fn nothing_is_removed_that_could_not_be_announced_and_the_job_may_run_again() {
    let (scratch, mut log, records) = log_of(5);
    let in_the_way = scratch.log_dir(1, 0, 1).join("HORIZON.tmp");
    fs::create_dir(&in_the_way).unwrap();
    let job = retire(&mut log, 3);
    assert!(job.run().is_err());
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(scratch.segment_sizes().len(), 6);
    job.run().unwrap();
    assert_eq!(scratch.segment_sizes().len(), 3);
    drop((log, job));
    assert_eq!(reopen(&scratch).unwrap().1, records[9..]);
}

#[test]
fn a_job_that_is_dropped_is_made_up_for_by_the_next() {
    let (scratch, mut log, records) = log_of(5);
    drop(retire(&mut log, 2));
    assert_eq!(scratch.segment_sizes().len(), 6);
    retire(&mut log, 1).run().unwrap();
    assert_eq!(scratch.segment_sizes().len(), 3);
    drop(log);
    assert_eq!(reopen(&scratch).unwrap().1, records[9..]);
}

#[test]
fn a_job_that_runs_late_does_not_bring_the_horizon_back() {
    let (scratch, log, records) = log_of(5);
    log.close().unwrap();
    let data = DataDir::open(scratch.path(), 2, EQUAL).unwrap();
    let sealed = &data.sealed_generations()[0].logs()[0];
    let segments = sealed.closed_segments().unwrap();
    let (early, late) = (plan(&segments, 1), plan(&segments, 3));
    sealed.retire(late).run().unwrap();
    sealed.retire(early).run().unwrap();
    let mut found: Vec<Kept> = Vec::new();
    sealed
        .replay::<()>(|record| {
            found.push(record.into());
            Ok(())
        })
        .unwrap();
    assert_eq!(found, records[9..]);
}

#[test]
fn damage_is_refused_above_the_horizon_and_harmless_below() {
    let (scratch, rest) = retired_log();
    for ordinal in 1..=3 {
        replace(&segment(&scratch, ordinal), b"left over and damaged");
    }
    assert_eq!(reopen(&scratch).unwrap().1, rest);
    assert!(!segment(&scratch, 1).exists());

    for ordinal in 4..=6 {
        let path = segment(&scratch, ordinal);
        let bytes = fs::read(&path).unwrap();
        let mut damaged = bytes.clone();
        damaged[4096 + 100] ^= 1;
        replace(&path, &damaged);
        let error = reopen(&scratch).unwrap_err();
        assert!(
            matches!(&error, StorageError::DamagedRecord { path: named, offset: 4096, .. } if **named == *path),
            "{error}"
        );
        fs::remove_file(&path).unwrap();
        let error = reopen(&scratch).unwrap_err();
        match ordinal {
            6 => assert!(
                matches!(error, StorageError::DamagedRecord { .. }),
                "{error}"
            ),
            _ => assert!(
                matches!(&error, StorageError::Missing { path: named } if **named == *path),
                "{error}"
            ),
        }
        replace(&path, &bytes);
    }
    assert_eq!(reopen(&scratch).unwrap().1, rest);
    for ordinal in 4..=6 {
        fs::remove_file(segment(&scratch, ordinal)).unwrap();
    }
    let error = reopen(&scratch).unwrap_err();
    assert!(
        matches!(&error, StorageError::Missing { path } if **path == *segment(&scratch, 4)),
        "{error}"
    );
}

#[test]
fn a_log_whose_beginning_is_missing_needs_its_horizon() {
    let (scratch, rest) = retired_log();
    let path = log_start_path(&scratch);
    let bytes = fs::read(&path).unwrap();
    let check_refused = |story: &str, expected: &str| {
        let before = scratch.files();
        let error = reopen(&scratch).unwrap_err();
        assert!(
            matches!(&error, StorageError::NoLogStart { path, fault }
                if **path == *segment(&scratch, 1) && *fault == expected),
            "{story}: {error}"
        );
        assert!(error.to_string().contains("flux log repair"), "{error}");
        assert!(scratch.files() == before, "{story}: files were modified");
    };
    fs::remove_file(&path).unwrap();
    check_refused("removed", "is missing");
    for len in [0, 1, 60, 1023] {
        replace(&path, &bytes[..len]);
        check_refused("cut short", "is damaged");
    }
    for offset in 0..60 {
        let mut damaged = bytes.clone();
        damaged[offset] ^= 0x10;
        replace(&path, &damaged);
        assert_eq!(
            reopen(&scratch).unwrap().1,
            rest,
            "byte {offset} of one copy"
        );
        damaged[512 + offset] ^= 0x10;
        replace(&path, &damaged);
        check_refused("both copies", "is damaged");
    }
    let (other, _) = retired_log();
    replace(&path, &fs::read(log_start_path(&other)).unwrap());
    check_refused("of another log", "is another log's");
    replace(&path, &bytes);
    assert_eq!(reopen(&scratch).unwrap().1, rest);
}

#[test]
fn a_stale_horizon_is_refused_by_the_first_segment_that_it_says_is_there() {
    let (scratch, mut log, _) = log_of(5);
    retire(&mut log, 1).run().unwrap();
    let stale = fs::read(log_start_path(&scratch)).unwrap();
    retire(&mut log, 2).run().unwrap();
    log.close().unwrap();
    replace(&log_start_path(&scratch), &stale);
    let error = reopen(&scratch).unwrap_err();
    assert!(
        matches!(&error, StorageError::Missing { path } if **path == *segment(&scratch, 2)),
        "{error}"
    );
}

#[test]
fn a_damaged_horizon_does_no_harm_where_nothing_was_removed() {
    let (scratch, log, records) = log_of(3);
    log.close().unwrap();
    let (other, _) = retired_log();
    for bytes in [
        Vec::new(),
        vec![7; 1024],
        fs::read(log_start_path(&other)).unwrap(),
    ] {
        replace(&log_start_path(&scratch), &bytes);
        let (log, found) = reopen(&scratch).unwrap();
        assert_eq!(found, records);
        assert_eq!(log.removed(), None);
    }
    let (mut log, _) = reopen(&scratch).unwrap();
    retire(&mut log, 1).run().unwrap();
    drop(log);
    assert_eq!(reopen(&scratch).unwrap().1, records[3..]);
}

#[test]
fn a_sealed_log_may_go_entirely_and_sequences_go_on_after_it() {
    let (scratch, log, records) = log_of(4);
    log.close().unwrap();
    let replayed = |data: &DataDir| {
        let mut found: Vec<Kept> = Vec::new();
        for log in data
            .sealed_generations()
            .iter()
            .flat_map(SealedGeneration::logs)
        {
            log.replay::<()>(|record| {
                found.push(record.into());
                Ok(())
            })
            .unwrap();
        }
        found
    };
    let data = DataDir::open(scratch.path(), 2, EQUAL).unwrap();
    assert_eq!(replayed(&data), records);
    let sealed = &data.sealed_generations()[0].logs()[0];
    let segments = sealed.closed_segments().unwrap();
    assert_eq!(segments.len(), 5);
    sealed.retire(plan(&segments, 2)).run().unwrap();
    assert_eq!(replayed(&data), records[6..]);
    assert_eq!(sealed.origin().unwrap().first_sequence, Sequence::new(7));
    drop(data);

    let leftover = fs::read(segment(&scratch, 3)).unwrap();
    let data = DataDir::open(scratch.path(), 2, EQUAL).unwrap();
    let sealed = &data.sealed_generations()[0].logs()[0];
    let segments = sealed.closed_segments().unwrap();
    assert_eq!(
        segments.iter().map(|it| it.ordinal).collect::<Vec<_>>(),
        [3, 4, 5]
    );
    assert_eq!(
        segments[2].latest_micros().unwrap(),
        14_000,
        "of its last record"
    );
    sealed.retire(plan(&segments, 3)).run().unwrap();
    assert_eq!(names(&scratch), ["DURABLE", "HORIZON"]);
    let origin = sealed.origin().unwrap();
    assert_eq!(origin.first_sequence, Sequence::new(15));
    assert_eq!(origin.removed.unwrap().time_micros, 14_000);
    assert!(sealed.closed_segments().unwrap().is_empty());
    assert_eq!(replayed(&data), []);
    drop(data);

    replace(&segment(&scratch, 3), &leftover);
    for shard_count in [2, 3, 1] {
        let mut data = scratch.open(shard_count, EQUAL).unwrap();
        assert!(!segment(&scratch, 3).exists(), "left over");
        assert_eq!(replayed(&data.0), []);
        let (log, ..) = data.shard(0).unwrap();
        assert_eq!(log.appended(), Sequence::new(14));
    }
}

#[test]
fn segments_that_are_missing_after_the_horizon_of_a_sealed_log_are_noticed() {
    let (scratch, log, _) = log_of(4);
    log.close().unwrap();
    let data = DataDir::open(scratch.path(), 2, EQUAL).unwrap();
    let sealed = &data.sealed_generations()[0].logs()[0];
    let segments = sealed.closed_segments().unwrap();
    sealed.retire(plan(&segments, 2)).run().unwrap();
    for ordinal in 3..=5 {
        fs::remove_file(segment(&scratch, ordinal)).unwrap();
    }
    let error = sealed
        .replay::<Infallible>(|_| Ok(()))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("missing: ") && error.contains("00000003.seg: "),
        "{error}"
    );
    assert!(sealed.closed_segments().is_err());
}

#[test]
fn an_empty_segment_may_go_and_an_older_horizon_keeps_its_time() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, EQUAL).unwrap().log();
    let mut records = vec![append(&mut log, &payload(1, 20_000))];
    records.push(append(&mut log, &payload(2, 20_000)));
    log.flush_blocking().unwrap();
    let segments = log.removable(Sequence::new(u64::MAX));
    let firsts = segments.iter().map(|it| (it.first.get(), it.next.get()));
    assert_eq!(firsts.collect::<Vec<_>>(), [(1, 1), (1, 2)]);
    assert_eq!(segments[0].latest_micros().unwrap(), i64::MIN);
    retire(&mut log, 1).run().unwrap();
    log.close().unwrap();
    let (log, found) = reopen(&scratch).unwrap();
    assert_eq!(found, records);
    assert_eq!(log.removed().unwrap().time_micros, i64::MIN);
    assert_eq!(
        log.removable(Sequence::new(3))[0].latest_micros().unwrap(),
        1000
    );
}

#[test]
fn a_reserve_is_made_and_given_back() {
    let scratch = Scratch::new();
    let data = DataDir::open(scratch.path(), 1, EQUAL).unwrap();
    let path = scratch.path().join("RESERVE");
    data.make_ballast(1 << 20).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20);
    drop(data);
    let data = DataDir::open(scratch.path(), 1, EQUAL).unwrap();
    data.make_ballast(1 << 20).unwrap();
    assert!(data.release_ballast().unwrap());
    assert!(!path.exists());
    assert!(!data.release_ballast().unwrap());
}
