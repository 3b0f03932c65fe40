//! The files of the history index: when they are there, and that nothing which happens to them
//! changes an answer.

use std::fs;
use std::path::{Path, PathBuf};

use flux_storage::{IndexKey, LogOptions, Sequence};

use crate::history::{
    ALL, OPTIONS, backward, check_reader, indexed_log, indexes, key, keyed, open,
};
use crate::support::{Kept, Scratch, append, replace};

/// Other keys under another number.
const REVERSED: IndexKey = IndexKey {
    scheme: 2,
    of: |_, payload| !key(payload),
};

#[test]
fn an_index_is_written_once_its_segment_is_durable() {
    let scratch = Scratch::new();
    let mut log = open(&scratch);
    while log.stats().segment_count < 3 {
        append(&mut log, &keyed(1, 100));
    }
    assert!(log.index_job().is_none(), "nothing is durable yet");
    log.flush_blocking().unwrap();
    let jobs: Vec<_> = std::iter::from_fn(|| log.index_job()).collect();
    assert_eq!(jobs.len(), 2);
    let dir = scratch.log_dir(1, 0, 1);
    // Nobody's doing: a reader that needs an index before the job is run makes it.
    backward(&log.reader(log.durable()), 5..=5, Sequence::new(9), 1).unwrap();
    assert_eq!(names(&dir), ["00000001.idx"]);
    for job in jobs {
        assert!(job.records() > 10);
        job.run().unwrap();
    }
    assert_eq!(names(&dir), ["00000001.idx", "00000002.idx"]);
}

fn names(dir: &Path) -> Vec<String> {
    let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    indexes(dir).into_iter().map(name).collect()
}

#[test]
fn a_segment_that_is_not_durable_is_answered_from_without_an_index_file() {
    let scratch = Scratch::new();
    let mut log = open(&scratch);
    let mut records = Vec::new();
    while log.stats().segment_count < 3 {
        records.push(append(&mut log, &keyed(records.len() as u64 % 5, 100)));
    }
    let reader = log.reader(log.appended());
    check_reader(&reader, &records, &mut fastrand::Rng::with_seed(1), 1);
    assert_eq!(names(&scratch.log_dir(1, 0, 1)), [""; 0]);
}

#[test]
fn every_changed_byte_of_an_index_gives_the_same_answers_and_a_whole_index_again() {
    let (scratch, mut log, records) = indexed_log(300);
    let path = indexes(&scratch.log_dir(1, 0, 1)).remove(0);
    let whole = fs::read(&path).unwrap();
    let reader = log.reader(log.durable());
    let expected: Vec<_> = records.iter().rev().cloned().collect();
    for index in 0..whole.len() {
        let mut changed = whole.clone();
        changed[index] ^= 1 << (index % 8);
        replace(&path, &changed);
        let found = backward(&reader, ALL, Sequence::new(u64::MAX), usize::MAX).unwrap();
        assert!(found == expected, "byte {index}");
        assert!(fs::read(&path).unwrap() == whole, "byte {index}");
    }
}

#[test]
fn an_index_cut_short_or_of_another_place_time_or_scheme_gives_the_same_answers() {
    let (scratch, mut log, records) = indexed_log(1500);
    let paths = indexes(&scratch.log_dir(1, 0, 1));
    let wholes: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(paths.len() > 2);
    let (other, ..) = indexed_log(1501);
    let foreign = fs::read(&indexes(&other.log_dir(1, 0, 1))[0]).unwrap();
    let mut newer = wholes[0].clone();
    newer[8] += 1;
    let long = [wholes[0].as_slice(), &[0]].concat();
    let short = &wholes[0][..wholes[0].len() - 1];
    let mut chance = fastrand::Rng::with_seed(3);
    for bytes in [
        &[],
        &wholes[0][..50],
        short,
        &long,
        &wholes[1],
        &foreign,
        &newer,
        &vec![0; wholes[0].len()],
    ] {
        replace(&paths[0], bytes);
        check_reader(&log.reader(log.durable()), &records, &mut chance, 3);
        backward(&log.reader(log.durable()), ALL, Sequence::new(9), 1).unwrap();
        assert!(fs::read(&paths[0]).unwrap() == wholes[0]);
    }
    drop(log);
    let options = LogOptions {
        index_key: REVERSED,
        ..OPTIONS
    };
    let (mut log, ..) = scratch.open(1, options).unwrap().log();
    let some = records[700].payload.as_slice();
    let found = backward(
        &log.reader(log.durable()),
        !key(some)..=!key(some),
        Sequence::new(900),
        usize::MAX,
    );
    let same = |kept: &&Kept| kept.sequence < Sequence::new(900) && key(&kept.payload) == key(some);
    let expected: Vec<_> = records.iter().rev().filter(same).cloned().collect();
    assert!(found.unwrap() == expected);
    assert!(
        fs::read(&paths[0]).unwrap() != wholes[0],
        "made anew with the other keys"
    );
}

#[test]
fn an_index_that_cannot_be_written_is_not_missed() {
    let (scratch, mut log, records) = indexed_log(900);
    for path in indexes(&scratch.log_dir(1, 0, 1)) {
        fs::remove_file(&path).unwrap();
        // A rename onto a directory fails, whoever runs the test.
        fs::create_dir(&path).unwrap();
    }
    let reader = log.reader(log.durable());
    for seed in 0..3 {
        check_reader(&reader, &records, &mut fastrand::Rng::with_seed(seed), seed);
    }
    let left_over = names(&scratch.log_dir(1, 0, 1));
    assert!(
        left_over.iter().all(|name| !name.contains("tmp")),
        "{left_over:?}"
    );
}

#[test]
fn the_indexes_that_a_crash_left_are_removed_where_they_say_nothing() {
    let (scratch, log, records) = indexed_log(700);
    let dir = scratch.log_dir(1, 0, 1);
    let active = log.stats().segment_count;
    drop(log);
    let kept = names(&dir);
    let stale = dir.join(format!("{active:08}.idx"));
    fs::copy(dir.join(&kept[0]), &stale).unwrap();
    replace(&dir.join("00000001.idx.7.tmp"), b"half");
    let mut log = open(&scratch);
    assert_eq!(names(&dir), kept);
    check_reader(
        &log.reader(log.durable()),
        &records,
        &mut fastrand::Rng::with_seed(1),
        1,
    );
}
