//! History as readers see it: every question is answered as a list of all records would answer it,
//! whatever happened to the index files.

use std::convert::Infallible;
use std::fs;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};

use flux_storage::{
    IndexJob, IndexKey, Log, LogOptions, LogReader, Removal, ReplayError, RetirePlan, Sequence,
    StorageError,
};

use crate::support::{Kept, SMALL, Scratch, append, append_at, payload, replace};

/// The first eight bytes of a payload, so that a test chooses keys.
pub(crate) const KEYED: IndexKey = IndexKey {
    scheme: 1,
    of: |_, payload| key(payload),
};
pub(crate) const OPTIONS: LogOptions = LogOptions {
    index_key: KEYED,
    ..SMALL
};
pub(crate) const ALL: RangeInclusive<u64> = 0..=u64::MAX;

pub(crate) fn key(payload: &[u8]) -> u64 {
    payload
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

pub(crate) fn keyed(key: u64, len: usize) -> Vec<u8> {
    [&key.to_le_bytes(), payload(key, len).as_slice()].concat()
}

/// One of 24 keys, in three namespaces.
pub(crate) fn some_key(chance: &mut fastrand::Rng) -> u64 {
    chance.u64(..3) << 32 | chance.u64(..8)
}

/// A time for the next record: the clock goes on, and is wrong for a moment now and then, far ahead
/// or far behind.
pub(crate) fn some_time(log: &Log, chance: &mut fastrand::Rng) -> i64 {
    let time = i64::try_from(log.appended().next().get()).unwrap() * 1000;
    match chance.u64(..40) {
        0 => time + 400_000,
        1 => time / 2,
        _ => time,
    }
}

/// The newest records with a key in `keys` below `before`, at most `count`.
pub(crate) fn backward(
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

fn forward_by_key(
    reader: &LogReader,
    keys: &RangeInclusive<u64>,
    from: Sequence,
    count: usize,
) -> Result<Vec<Kept>, StorageError> {
    let mut found = Vec::new();
    let visited = reader.read_forward_by_key(keys, from, |record| {
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

/// Asks a reader a few questions of each sort, in a log that has these records.
pub(crate) fn check_reader(
    reader: &LogReader,
    records: &[Kept],
    chance: &mut fastrand::Rng,
    seed: u64,
) {
    let first = records
        .first()
        .map_or(Sequence::new(1), |kept| kept.sequence);
    assert_eq!(reader.first_sequence(), first);
    let last = reader.end();
    let shown = &records[..records.partition_point(|kept| kept.sequence <= last)];
    for _ in 0..6 {
        let one = some_key(chance);
        let namespace = chance.u64(..3) << 32;
        let keys = match chance.u64(..4) {
            0 => ALL,
            1 => namespace..=(namespace | 0xffff_ffff),
            2 => one..=one,
            _ => 7..=one % 8,
        };
        let before = Sequence::new(chance.u64(..last.get() + 4));
        let count = usize::try_from(1 + chance.u64(..300)).unwrap();
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

        let wanted = |kept: &&Kept| kept.sequence >= before && keys.contains(&key(&kept.payload));
        let expected: Vec<_> = shown.iter().filter(wanted).take(count).cloned().collect();
        assert!(
            forward_by_key(reader, &keys, before, count).unwrap() == expected,
            "{keys:x?} from {before}, {count}, seed {seed}"
        );

        let time = chance.u64(..last.get() * 1000 + 2000).cast_signed();
        let until = shown.iter().rev().find(|kept| kept.time_micros <= time);
        let first = first.min(reader.end().next());
        let expected = until.map_or(first, |kept| kept.sequence.next());
        assert_eq!(
            reader.after_time(time).unwrap(),
            expected,
            "after {time}, seed {seed}"
        );
    }
}

pub(crate) fn indexes(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths
        .filter(|path| path.to_string_lossy().contains(".idx"))
        .collect();
    found.sort();
    found
}

pub(crate) fn open(scratch: &Scratch) -> Log {
    scratch.open(1, OPTIONS).unwrap().log().0
}

/// A log of several closed segments, all indexed; its records.
pub(crate) fn indexed_log(count: u64) -> (Scratch, Log, Vec<Kept>) {
    let scratch = Scratch::new();
    let mut log = open(&scratch);
    let mut chance = fastrand::Rng::with_seed(count);
    let mut records = Vec::new();
    for _ in 0..count {
        let len = usize::try_from(chance.u64(..40)).unwrap();
        let time = some_time(&log, &mut chance);
        let record = keyed(some_key(&mut chance), len);
        records.push(append_at(&mut log, time, &record));
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
    chance: fastrand::Rng,
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
            chance: fastrand::Rng::with_seed(seed),
            scratch,
            log,
            records: Vec::new(),
            reader: None,
        }
    }

    fn append_some(&mut self) {
        for _ in 0..self.chance.u64(..80) {
            let len = usize::try_from(self.chance.u64(..60)).unwrap();
            let record = keyed(some_key(&mut self.chance), len);
            let time = some_time(&self.log, &mut self.chance);
            self.records.push(append_at(&mut self.log, time, &record));
        }
    }

    fn run_or_drop_a_job(&mut self) {
        if let Some(job) = self.log.index_job()
            && self.chance.u64(..3) != 0
        {
            job.run().unwrap();
        }
    }

    fn reopen(mut self) -> Self {
        // A reader holds the directory's lock.
        drop(self.reader);
        self.log.close().unwrap();
        // As behind a checkpoint: what is before that is not read.
        let from = Sequence::new(1 + self.chance.u64(..=(self.records.len() as u64)));
        let place = self.scratch.open(1, OPTIONS).unwrap().0.take_log(0);
        let (log, _) = Log::open_from(place, from, |_| Ok::<_, Infallible>(())).unwrap();
        Self {
            log,
            reader: None,
            ..self
        }
    }

    fn make_reader(&mut self) {
        let through = Sequence::new(self.chance.u64(..self.records.len() as u64 + 2));
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
            match story.chance.u64(..12) {
                0 => story.log.flush_blocking().unwrap(),
                1..=3 => story.run_or_drop_a_job(),
                4 if story.chance.u64(..3) == 0 => story = story.reopen(),
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
fn damage_is_told_with_file_and_offset_and_only_to_who_reads_it() {
    let (scratch, mut log, records) = indexed_log(900);
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
        check_reader(&reader, &records, &mut fastrand::Rng::with_seed(seed), seed);
        backward(&reader, ALL, Sequence::new(u64::MAX), usize::MAX).unwrap();
    }
    let segments = fs::read_dir(&dir).unwrap().count();
    assert_eq!(
        segments,
        indexes(&dir).len() * 2 + 1,
        "segments, indexes, DURABLE"
    );

    let empty = Scratch::new();
    drop(empty.open(1, OPTIONS).unwrap().log());
    let resharded = empty.open(2, OPTIONS).unwrap();
    let reader = resharded.0.sealed_generations()[0].logs()[0]
        .reader()
        .unwrap();
    check_reader(&reader, &[], &mut fastrand::Rng::with_seed(1), 1);
}

#[test]
fn an_empty_log_has_no_history() {
    let scratch = Scratch::new();
    let mut log = open(&scratch);
    check_reader(
        &log.reader(log.durable()),
        &[],
        &mut fastrand::Rng::with_seed(1),
        1,
    );
    let everything = log.reader(Sequence::new(u64::MAX - 1));
    assert_eq!(everything.end(), Sequence::ZERO);
}

#[test]
fn a_reader_on_another_thread_sees_its_part_while_the_log_goes_on() {
    let scratch = Scratch::new();
    let mut log = open(&scratch);
    let mut chance = fastrand::Rng::with_seed(5);
    let mut records = Vec::new();
    std::thread::scope(|scope| {
        let (readers, inbox) = std::sync::mpsc::sync_channel::<(LogReader, Vec<Kept>)>(4);
        scope.spawn(move || {
            for (seed, (reader, shown)) in inbox.into_iter().enumerate() {
                let mut chance = fastrand::Rng::with_seed(seed as u64);
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
    // A segment that is gone can't be read: segments that were not needed are not missed.
    let reader = log.reader(log.durable());
    let segments = (1..segment_count)
        .map(|ordinal| scratch.log_dir(1, 0, 1).join(format!("{ordinal:08}.seg")));
    let mut touched = 0;
    for path in segments {
        let quarantine = path.with_extension("aside");
        fs::rename(&path, &quarantine).unwrap();
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
        fs::rename(&quarantine, &path).unwrap();
    }
    assert!((1..=4).contains(&touched), "{touched} of {segment_count}");
}

#[test]
fn a_refusal_of_the_visitor_ends_the_reading() {
    let (_scratch, mut log, _) = indexed_log(50);
    let reader = log.reader(log.durable());
    let refusal = reader.read_backward(ALL, Sequence::new(9), |record| Err(record.sequence.get()));
    assert!(matches!(refusal, Err(ReplayError::Visit(8))), "{refusal:?}");
    let refusal = reader.read_forward(Sequence::new(9), |record| Err(record.sequence.get()));
    assert!(matches!(refusal, Err(ReplayError::Visit(9))), "{refusal:?}");
}

#[test]
fn history_that_was_removed_is_told_from_history_that_is_there() {
    let (scratch, mut log, records) = indexed_log(1500);
    let before = log.reader(log.durable());
    let removal = Removal {
        excess_bytes: 50_000,
        before_micros: i64::MIN,
    };
    let plan = RetirePlan::choose(&log.removable(Sequence::new(u64::MAX)), removal);
    let plan = plan.unwrap().unwrap();
    let log_start = plan.log_start();
    let job = log.retire(plan);
    check_reader(&before, &records, &mut fastrand::Rng::with_seed(1), 1);
    job.run().unwrap();
    drop(job);
    let gone = backward(&before, ALL, Sequence::new(u64::MAX), usize::MAX);
    assert!(
        matches!(gone, Err(StorageError::Missing { .. })),
        "{gone:?}"
    );

    let kept = records
        .iter()
        .position(|kept| kept.sequence == log_start.first_sequence);
    let kept = &records[kept.unwrap()..];
    assert!(kept.len() > 100 && kept.len() < records.len());
    let check = |reader: &LogReader| {
        assert_eq!(reader.removed(), Some(log_start));
        check_reader(reader, kept, &mut fastrand::Rng::with_seed(2), 2);
        let all = backward(reader, ALL, Sequence::new(u64::MAX), usize::MAX).unwrap();
        assert!(all.iter().rev().eq(kept));
    };
    check(&log.reader(log.durable()));
    drop((before, log));
    let mut log = open(&scratch);
    check(&log.reader(log.durable()));
    log.close().unwrap();
    let resharded = scratch.open(2, OPTIONS).unwrap();
    check(
        &resharded.0.sealed_generations()[0].logs()[0]
            .reader()
            .unwrap(),
    );
}
