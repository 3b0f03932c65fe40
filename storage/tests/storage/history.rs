//! History as readers see it: every question is answered as a list of all records would answer it, whatever happened
//! to the index files.

use std::convert::Infallible;
use std::fs;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};

use flux_storage::{
    IndexJob, IndexKey, Log, LogOptions, LogReader, ReplayError, Sequence, StorageError,
};

use crate::support::{Chance, Kept, SMALL, Scratch, append, payload, replace};

/// The first eight bytes of a payload, so that a test chooses keys.
const KEYED: IndexKey = IndexKey {
    scheme: 1,
    of: |_, payload| key(payload),
};
/// Other keys under another number.
const REVERSED: IndexKey = IndexKey {
    scheme: 2,
    of: |_, payload| !key(payload),
};
const OPTIONS: LogOptions = LogOptions {
    index_key: KEYED,
    ..SMALL
};
const ALL: RangeInclusive<u64> = 0..=u64::MAX;

fn key(payload: &[u8]) -> u64 {
    payload
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn keyed(key: u64, len: usize) -> Vec<u8> {
    [&key.to_le_bytes(), payload(key, len).as_slice()].concat()
}

/// One of 24 keys, in three namespaces.
fn some_key(chance: &mut Chance) -> u64 {
    chance.below(3) << 32 | chance.below(8)
}

/// The newest records with a key in `keys` below `before`, at most `count`.
fn backward(
    reader: &LogReader,
    keys: RangeInclusive<u64>,
    before: Sequence,
    count: usize,
) -> Result<Vec<Kept>, StorageError> {
    let mut found = Vec::new();
    let visited = reader.read_backward(keys, before, |record| {
        found.push(Kept::from(record));
        Ok::<_, Infallible>(flow(found.len() < count))
    });
    finish(visited)?;
    Ok(found)
}

fn forward(reader: &LogReader, from: Sequence, count: usize) -> Result<Vec<Kept>, StorageError> {
    let mut found = Vec::new();
    let visited = reader.read_forward(from, |record| {
        found.push(Kept::from(record));
        Ok::<_, Infallible>(flow(found.len() < count))
    });
    finish(visited)?;
    Ok(found)
}

fn flow(goes_on: bool) -> ControlFlow<()> {
    if goes_on {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

fn finish(visited: Result<(), ReplayError<Infallible>>) -> Result<(), StorageError> {
    match visited {
        Ok(()) => Ok(()),
        Err(ReplayError::Storage(error)) => Err(error),
        Err(ReplayError::Visit(never)) => match never {},
    }
}

/// Asks a reader of the first `shown` of these records a few questions of each sort.
fn check_reader(reader: &LogReader, records: &[Kept], chance: &mut Chance, seed: u64) {
    let shown = usize::try_from(reader.end().get()).unwrap();
    let shown = &records[..shown];
    assert_eq!(reader.first_sequence(), Sequence::new(1));
    for _ in 0..6 {
        let one = some_key(chance);
        let namespace = chance.below(3) << 32;
        let keys = match chance.below(4) {
            0 => ALL,
            1 => namespace..=(namespace | 0xffff_ffff),
            2 => one..=one,
            _ => 7..=one % 8,
        };
        let before = Sequence::new(chance.below(shown.len() as u64 + 4));
        let count = usize::try_from(1 + chance.below(300)).unwrap();
        let wanted = |kept: &&Kept| kept.sequence < before && keys.contains(&key(&kept.payload));
        let expected: Vec<_> = shown
            .iter()
            .rev()
            .filter(wanted)
            .take(count)
            .cloned()
            .collect();
        let found = backward(reader, keys.clone(), before, count).unwrap();
        assert!(
            found == expected,
            "{keys:x?} before {before}, {count}, seed {seed}"
        );

        let expected: Vec<_> = shown
            .iter()
            .filter(|kept| kept.sequence >= before)
            .take(count)
            .cloned()
            .collect();
        assert!(
            forward(reader, before, count).unwrap() == expected,
            "from {before}, seed {seed}"
        );

        let time = chance.below(shown.len() as u64 * 1000 + 2000).cast_signed();
        let later = shown.iter().find(|kept| kept.time_micros > time);
        let expected = later.map_or_else(|| reader.end().next(), |kept| kept.sequence);
        assert_eq!(
            reader.after_time(time).unwrap(),
            expected,
            "after {time}, seed {seed}"
        );
    }
}

fn indexes(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths
        .filter(|path| path.to_string_lossy().contains(".idx"))
        .collect();
    found.sort();
    found
}

fn open(scratch: &Scratch) -> Log {
    scratch.open(1, OPTIONS).unwrap().log().0
}

/// A log of several closed segments, all indexed; its records.
fn indexed_log(count: u64) -> (Scratch, Log, Vec<Kept>) {
    let scratch = Scratch::new();
    let mut log = open(&scratch);
    let mut chance = Chance::new(count);
    let mut records = Vec::new();
    for _ in 0..count {
        let len = usize::try_from(chance.below(40)).unwrap();
        records.push(append(&mut log, &keyed(some_key(&mut chance), len)));
        log.flush_blocking().unwrap();
        while let Some(job) = log.index_job() {
            job.run().unwrap();
        }
    }
    (scratch, log, records)
}

/// What happens to a log in a seeded story, and what its readers must say.
struct Story {
    seed: u64,
    chance: Chance,
    scratch: Scratch,
    log: Log,
    records: Vec<Kept>,
    /// Made some time ago.
    reader: Option<LogReader>,
}

impl Story {
    fn begin(seed: u64) -> Self {
        let scratch = Scratch::new();
        let log = open(&scratch);
        Self {
            seed,
            chance: Chance::new(seed),
            scratch,
            log,
            records: Vec::new(),
            reader: None,
        }
    }

    fn append_some(&mut self) {
        for _ in 0..self.chance.below(80) {
            let len = usize::try_from(self.chance.below(60)).unwrap();
            let record = keyed(some_key(&mut self.chance), len);
            self.records.push(append(&mut self.log, &record));
        }
    }

    fn run_or_drop_a_job(&mut self) {
        if let Some(job) = self.log.index_job()
            && !self.chance.one_in(3)
        {
            job.run().unwrap();
        }
    }

    fn reopen(self) -> Self {
        // A reader holds the directory's lock.
        drop(self.reader);
        self.log.close().unwrap();
        let log = open(&self.scratch);
        Self {
            log,
            reader: None,
            ..self
        }
    }

    fn make_reader(&mut self) {
        let through = Sequence::new(self.chance.below(self.records.len() as u64 + 2));
        let reader = self.log.reader(through);
        assert_eq!(reader.end(), through.min(self.log.appended()));
        self.reader = Some(reader);
    }

    fn check(&mut self) {
        let now = self.log.reader(self.log.appended());
        for reader in self.reader.iter().chain([&now]) {
            check_reader(reader, &self.records, &mut self.chance, self.seed);
        }
    }
}

#[test]
fn every_question_is_answered_as_a_list_of_all_records_would() {
    for seed in 0..25 {
        let mut story = Story::begin(seed);
        for _ in 0..80 {
            match story.chance.below(12) {
                0 => story.log.flush_blocking().unwrap(),
                1..=3 => story.run_or_drop_a_job(),
                4 if story.chance.one_in(3) => story = story.reopen(),
                5 => {
                    let paths = indexes(&story.scratch.log_dir(1, 0, 1));
                    if let Some(path) = paths.first() {
                        fs::remove_file(path).unwrap();
                    }
                }
                6 => story.make_reader(),
                7 => story.check(),
                _ => story.append_some(),
            }
        }
        story.check();
        assert!(story.log.stats().segment_count > 2, "seed {seed}");
    }
}

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
    check_reader(&reader, &records, &mut Chance::new(1), 1);
    assert_eq!(names(&scratch.log_dir(1, 0, 1)), [""; 0]);
}

#[test]
fn every_changed_byte_of_an_index_gives_the_same_answers_and_a_whole_index_again() {
    let (scratch, log, records) = indexed_log(300);
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
    let (scratch, log, records) = indexed_log(1500);
    let paths = indexes(&scratch.log_dir(1, 0, 1));
    let wholes: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(paths.len() > 2);
    let (other, ..) = indexed_log(1501);
    let foreign = fs::read(&indexes(&other.log_dir(1, 0, 1))[0]).unwrap();
    let mut newer = wholes[0].clone();
    newer[8] += 1;
    let long = [wholes[0].as_slice(), &[0]].concat();
    let short = &wholes[0][..wholes[0].len() - 1];
    let mut chance = Chance::new(3);
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
    let (log, ..) = scratch.open(1, options).unwrap().log();
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
    let (scratch, log, records) = indexed_log(900);
    for path in indexes(&scratch.log_dir(1, 0, 1)) {
        fs::remove_file(&path).unwrap();
        // A rename onto a directory fails, whoever runs the test.
        fs::create_dir(&path).unwrap();
    }
    let reader = log.reader(log.durable());
    for seed in 0..3 {
        check_reader(&reader, &records, &mut Chance::new(seed), seed);
    }
    let left_over = names(&scratch.log_dir(1, 0, 1));
    assert!(
        left_over.iter().all(|name| !name.contains("tmp")),
        "{left_over:?}"
    );
}

#[test]
fn damage_is_told_with_file_and_offset_and_only_to_who_reads_it() {
    let (scratch, log, records) = indexed_log(900);
    let path = scratch.log_dir(1, 0, 1).join("00000002.seg");
    let mut bytes = fs::read(&path).unwrap();
    let (offset, victim) = records
        .iter()
        .filter(|kept| kept.payload.len() > 30)
        .find_map(|kept| {
            let head = [
                kept.sequence.get().to_le_bytes(),
                kept.time_micros.to_le_bytes(),
            ]
            .concat();
            let found = bytes.windows(16).position(|window| window == head);
            found.map(|at| (at - 8, kept.clone()))
        })
        .unwrap();
    bytes[offset + 28 + 20] ^= 1;
    replace(&path, &bytes);
    let reader = log.reader(log.durable());
    let check = |result: Result<Vec<Kept>, StorageError>| match result {
        Err(StorageError::DamagedRecord {
            path: found,
            offset: at,
            sequence,
            ..
        }) => assert_eq!(
            (&*found, at, sequence),
            (&*path, offset as u64, victim.sequence)
        ),
        other => panic!("{other:?}"),
    };
    let of_victim = key(&victim.payload);
    check(backward(
        &reader,
        of_victim..=of_victim,
        victim.sequence.next(),
        1,
    ));
    check(forward(&reader, Sequence::new(1), usize::MAX));
    let before = forward(&reader, Sequence::new(1), records.len() / 20).unwrap();
    assert_eq!(before, records[..before.len()]);
    let another = records
        .iter()
        .rev()
        .find(|kept| key(&kept.payload) != of_victim)
        .unwrap();
    let of_another = key(&another.payload);
    let found = backward(
        &reader,
        of_another..=of_another,
        Sequence::new(u64::MAX),
        usize::MAX,
    );
    let expected = records.iter().rev();
    let expected = expected.filter(|kept| key(&kept.payload) == of_another);
    assert_eq!(found.unwrap(), expected.cloned().collect::<Vec<_>>());
}

#[test]
fn a_sealed_log_is_read_like_an_open_one() {
    let (scratch, log, records) = indexed_log(700);
    log.close().unwrap();
    let resharded = scratch.open(2, OPTIONS).unwrap();
    let sealed = &resharded.0.sealed_generations()[0].logs()[0];
    let dir = scratch.log_dir(1, 0, 1);
    for seed in 0..4 {
        // The second time its last segment has an index too.
        let reader = sealed.reader().unwrap();
        assert_eq!(reader.end(), records.last().unwrap().sequence);
        check_reader(&reader, &records, &mut Chance::new(seed), seed);
        backward(&reader, ALL, Sequence::new(u64::MAX), usize::MAX).unwrap();
    }
    let segments = fs::read_dir(&dir).unwrap().count();
    assert_eq!(
        segments,
        names(&dir).len() * 2 + 1,
        "segments, indexes, DURABLE"
    );

    let empty = Scratch::new();
    drop(empty.open(1, OPTIONS).unwrap().log());
    let resharded = empty.open(2, OPTIONS).unwrap();
    let reader = resharded.0.sealed_generations()[0].logs()[0]
        .reader()
        .unwrap();
    check_reader(&reader, &[], &mut Chance::new(1), 1);
}

#[test]
fn an_empty_log_has_no_history() {
    let scratch = Scratch::new();
    let log = open(&scratch);
    check_reader(&log.reader(log.durable()), &[], &mut Chance::new(1), 1);
    let everything = log.reader(Sequence::new(u64::MAX - 1));
    assert_eq!(everything.end(), Sequence::ZERO);
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
    let log = open(&scratch);
    assert_eq!(names(&dir), kept);
    check_reader(&log.reader(log.durable()), &records, &mut Chance::new(1), 1);
}

#[test]
fn a_reader_on_another_thread_sees_its_part_while_the_log_goes_on() {
    let scratch = Scratch::new();
    let mut log = open(&scratch);
    let mut chance = Chance::new(5);
    let mut records = Vec::new();
    std::thread::scope(|scope| {
        let (readers, inbox) = std::sync::mpsc::sync_channel::<(LogReader, Vec<Kept>)>(4);
        scope.spawn(move || {
            for (seed, (reader, shown)) in inbox.into_iter().enumerate() {
                let mut chance = Chance::new(seed as u64);
                check_reader(&reader, &shown, &mut chance, seed as u64);
            }
        });
        for number in 0..2000 {
            records.push(append(&mut log, &keyed(some_key(&mut chance), 50)));
            if number % 40 == 0 {
                readers
                    .send((log.reader(log.appended()), records.clone()))
                    .unwrap();
            }
            if number % 100 == 0 {
                log.flush_blocking().unwrap();
                drop(log.index_job().map(IndexJob::run));
            }
        }
    });
}

#[test]
fn a_look_up_reads_the_segments_that_hold_what_it_looks_for_and_no_others() {
    const RECORDS: u64 = 300_000;
    let scratch = Scratch::new();
    let options = LogOptions {
        segment_bytes_initial: 1024 * 1024,
        segment_bytes_max: 1024 * 1024,
        index_key: KEYED,
    };
    let (mut log, ..) = scratch.open(1, options).unwrap().log();
    let mut rare = Vec::new();
    for number in 0..RECORDS {
        // The rare one is in the middle third only.
        let is_rare = number % 500 == 0 && (RECORDS / 3..RECORDS * 2 / 3).contains(&number);
        let key = if is_rare { u64::MAX / 2 } else { number % 1000 };
        let record = append(&mut log, &key.to_le_bytes());
        if is_rare {
            rare.push(record);
        }
        if number % 1000 == 0 {
            log.flush_blocking().unwrap();
            while let Some(job) = log.index_job() {
                job.run().unwrap();
            }
        }
    }
    let segment_count = log.stats().segment_count;
    assert!(segment_count > 10);
    let newest: Vec<_> = rare.iter().rev().take(100).cloned().collect();
    // A segment that is gone can't be read: those that were not needed are not missed.
    let reader = log.reader(log.durable());
    let segments = (1..segment_count)
        .map(|ordinal| scratch.log_dir(1, 0, 1).join(format!("{ordinal:08}.seg")));
    let mut touched = 0;
    for path in segments {
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).unwrap();
        let found = backward(
            &reader,
            u64::MAX / 2..=u64::MAX / 2,
            Sequence::new(u64::MAX),
            100,
        );
        match found {
            Ok(found) => assert!(found == newest),
            Err(StorageError::Missing { path: missing }) => {
                assert_eq!(*missing, *path);
                touched += 1;
            }
            Err(error) => panic!("{error}"),
        }
        fs::rename(&aside, &path).unwrap();
    }
    assert!((1..=4).contains(&touched), "{touched} of {segment_count}");
}

#[test]
fn a_refusal_of_the_visitor_ends_the_reading() {
    let (_scratch, log, _) = indexed_log(50);
    let reader = log.reader(log.durable());
    let refusal = reader.read_backward(ALL, Sequence::new(9), |record| Err(record.sequence.get()));
    assert!(matches!(refusal, Err(ReplayError::Visit(8))), "{refusal:?}");
    let refusal = reader.read_forward(Sequence::new(9), |record| Err(record.sequence.get()));
    assert!(matches!(refusal, Err(ReplayError::Visit(9))), "{refusal:?}");
}
