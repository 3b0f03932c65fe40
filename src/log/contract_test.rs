//! What every log promises, asked of each implementation: the same steps, the same answers.

use super::*;
use flux_storage::{DataDir, IndexKey, LogOptions};
use std::convert::Infallible;

const SMALL: LogOptions = LogOptions {
    segment_bytes_initial: 8192,
    segment_bytes_max: 8192,
    index_key: IndexKey::NONE,
};

/// Appends, and prepares a segment if one is needed.
fn append<L: Log>(log: &mut L, number: i64) -> Sequence {
    let event = [7; 500];
    loop {
        match log.append(number, &event) {
            Ok(sequence) => return sequence,
            Err(AppendRejection::NotReady) => prepare(log),
            Err(error) => panic!("{error}"),
        }
    }
}

fn prepare<L: Log>(log: &mut L) {
    if let Some(job) = log.next_segment_job(0) {
        let segment = job.run(&mut |_| WriteSpeed::Full).unwrap();
        log.install_next_segment(segment);
    }
}

/// The times of all records.
fn times<L: Log>(log: &mut L) -> Vec<i64> {
    let mut times = Vec::new();
    let visited = log.replay_from(Sequence::ZERO, |record| {
        assert_eq!(record.sequence.get(), times.len() as u64 + 1);
        times.push(record.time_micros);
        Ok::<(), Infallible>(())
    });
    visited.unwrap();
    times
}

const SIZE: GroupSize = GroupSize {
    records: 3,
    payload_bytes: 1500,
};

/// Begins a group, and prepares a segment if one is needed.
fn begin<L: Log>(log: &mut L, size: GroupSize) {
    loop {
        match log.begin_group(size) {
            Ok(()) => return,
            Err(AppendRejection::NotReady) => prepare(log),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The records that come in groups: where each lies in its group, and of how many.
fn places<L: Log>(log: &mut L, from: Sequence) -> Vec<Option<(u16, u16)>> {
    let mut places = Vec::new();
    let visited = log.replay_from(from, |record| {
        places.push(record.group.map(|place| (place.index, place.count)));
        Ok::<(), Infallible>(())
    });
    visited.unwrap();
    places
}

/// Groups: whole or not there, whatever is done while one is open.
fn check_groups<L: Log>(mut open: impl FnMut() -> L) {
    let mut log = open();
    let mut expected = Vec::new();
    for number in 0..40_i64 {
        let before = log.appended();
        begin(&mut log, SIZE);
        for index in 0..3 {
            let sequence = log.append(number * 3 + index, &[7; 500]).unwrap();
            assert_eq!(
                sequence.get(),
                before.get() + u64::try_from(index).unwrap() + 1
            );
            assert_eq!(log.appended(), before, "an open group comes after it");
            let flush = log.begin_flush().unwrap();
            if let Some(flush) = flush {
                L::Flusher::default().flush(&flush).unwrap();
                log.finish_flush(flush);
            }
            assert_eq!((log.written(), log.durable()), (before, before));
            assert_eq!(times(&mut log), expected);
        }
        if number % 3 == 0 {
            log.abort_group();
            assert_eq!(log.appended(), before);
        } else {
            log.end_group();
            assert_eq!(log.appended().get(), before.get() + 3);
            expected.extend(number * 3..number * 3 + 3);
        }
        if number % 7 == 0 {
            append(&mut log, 1000 + number);
            expected.push(1000 + number);
        }
        assert_eq!(times(&mut log), expected);
    }
    let before = log.appended();
    begin(&mut log, SIZE);
    log.end_group();
    assert_eq!(log.appended(), before, "a group of none is nothing");
    begin(&mut log, SIZE);
    log.append(2000, b"alone").unwrap();
    log.end_group();
    expected.push(2000);
    begin(&mut log, SIZE);
    log.append(2001, b"first").unwrap();
    log.append(2002, b"last").unwrap();
    log.end_group();
    expected.extend([2001, 2002]);
    let added = [None, Some((0, 2)), Some((1, 2))];
    assert_eq!(places(&mut log, before.next()), added);
    log.truncate_after(before.next()).unwrap();
    expected.truncate(expected.len() - 2);
    assert_eq!(times(&mut log), expected);
    log.flush_blocking().unwrap();
    begin(&mut log, SIZE);
    log.append(3000, b"never ended").unwrap();
    drop(log);
    assert_eq!(times(&mut open()), expected);
}

/// A group waits for a segment that has room for all of it, before its first event and later.
fn check_room<L: Log>(mut log: L) {
    let large = GroupSize {
        records: 100,
        payload_bytes: 100 * 500,
    };
    for _ in 0..3 {
        append(&mut log, 1);
        assert_eq!(log.begin_group(large), Err(AppendRejection::NotReady));
        append(&mut log, 2);
        begin(&mut log, large);
        for _ in 0..100 {
            log.append(3, &[7; 500]).unwrap();
        }
        log.end_group();
    }
    let mut attempts = 0;
    let before = log.appended();
    'again: loop {
        attempts += 1;
        begin(&mut log, SIZE);
        for _ in 0..1000 {
            if log.append(4, &[7; 500]) == Err(AppendRejection::NotReady) {
                log.abort_group();
                prepare(&mut log);
                continue 'again;
            }
        }
        log.end_group();
        break;
    }
    assert!((2..9).contains(&attempts), "{attempts}");
    assert_eq!(log.appended().get(), before.get() + 1000);
    let endless = GroupSize {
        records: 1_000_000,
        payload_bytes: 1,
    };
    assert_eq!(log.begin_group(endless), Err(AppendRejection::TooLarge));
    log.fail(&"as the test wants it");
    assert_eq!(log.begin_group(SIZE), Err(AppendRejection::Closed));
}

/// `open` opens the log as it was left.
fn check<L: Log>(mut open: impl FnMut() -> L) {
    let mut log = open();
    let mut expected = Vec::new();
    for number in 1..=30 {
        assert_eq!(
            append(&mut log, number),
            Sequence::new(expected.len() as u64 + 1)
        );
        expected.push(number);
    }
    assert_eq!(log.durable(), Sequence::ZERO, "nothing was flushed");
    let flush = log.begin_flush().unwrap().expect("something to flush");
    assert_eq!(
        (log.written(), log.durable()),
        (log.appended(), Sequence::ZERO)
    );
    append(&mut log, 31);
    L::Flusher::default().flush(&flush).unwrap();
    log.finish_flush(flush);
    assert_eq!(
        log.durable(),
        Sequence::new(30),
        "what came after the flush is not"
    );
    for number in 32..=60 {
        append(&mut log, number);
    }
    prepare(&mut log);
    log.truncate_after(Sequence::new(30)).unwrap();
    assert_eq!(times(&mut log), expected);
    for number in 100..=110 {
        append(&mut log, number);
        expected.push(number);
    }
    assert_eq!(times(&mut log), expected);
    assert!(log.bytes_since(Sequence::new(30)) < log.bytes_since(Sequence::ZERO));
    log.write_out().unwrap();
    // Killed: what is written is kept, what is not is lost.
    append(&mut log, 200);
    let is_lost = log.written() < log.appended();
    drop(log);
    let mut log = open();
    assert!(is_lost);
    assert_eq!(times(&mut log), expected);
    assert_eq!(
        log.durable(),
        log.appended(),
        "what a start returns is durable"
    );
    log.fail(&"as the test wants it");
    assert_eq!(log.append(1, b"event"), Err(AppendRejection::Closed));
    assert!(log.begin_flush().is_err());
}

#[test]
fn a_local_log_keeps_its_promises() {
    let root = tempfile::tempdir().unwrap();
    check(|| {
        let mut data = DataDir::open(root.path(), 1, SMALL).unwrap();
        let visit = |_: Record<'_>| Ok::<(), Infallible>(());
        LocalLog::open(data.take_log(0), visit).unwrap().0
    });
    for is_room in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let open = || {
            let mut data = DataDir::open(root.path(), 1, SMALL).unwrap();
            let visit = |_: Record<'_>| Ok::<(), Infallible>(());
            LocalLog::open(data.take_log(0), visit).unwrap().0
        };
        if is_room {
            check_room(open());
        } else {
            check_groups(open);
        }
    }
}

#[test]
fn a_log_in_memory_keeps_its_promises() {
    let faults = Faults {
        segment_records: Some(5..=12),
        ..Faults::default()
    };
    let disk = MemoryDisk::new(1, faults);
    check(|| {
        let visit = |_: Record<'_>| Ok::<(), Infallible>(());
        let Ok(log) = MemoryLog::open(disk.clone(), visit);
        log
    });
    for is_room in [false, true] {
        let faults = Faults {
            segment_records: Some(5..=12),
            ..Faults::default()
        };
        let disk = MemoryDisk::new(1, faults);
        let open = || {
            let visit = |_: Record<'_>| Ok::<(), Infallible>(());
            let Ok(log) = MemoryLog::open(disk.clone(), visit);
            log
        };
        if is_room {
            check_room(open());
        } else {
            check_groups(open);
        }
    }
}

#[test]
fn a_power_cut_keeps_each_group_of_a_log_in_memory_whole_or_not_at_all() {
    let mut counts = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let disk = MemoryDisk::new(seed, Faults::default());
        let Ok(mut log) = MemoryLog::open(disk.clone(), |_| Ok::<(), Infallible>(()));
        append(&mut log, 1);
        for _ in 0..2 {
            begin(&mut log, SIZE);
            for number in 0..3 {
                log.append(number, b"event").unwrap();
            }
            log.end_group();
        }
        log.write_out().unwrap();
        drop(log);
        disk.cut_power();
        counts.insert(disk.records().len());
    }
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [0, 1, 4, 7]);
}

#[test]
fn a_power_cut_loses_what_is_written_and_nothing_durable() {
    let mut losses = 0;
    for seed in 0..20 {
        let disk = MemoryDisk::new(seed, Faults::default());
        let Ok(mut log) = MemoryLog::open(disk.clone(), |_| Ok::<(), Infallible>(()));
        append(&mut log, 1);
        log.flush_blocking().unwrap();
        append(&mut log, 2);
        log.write_out().unwrap();
        drop(log);
        disk.cut_power();
        let kept = disk.records().len();
        assert!((1..=2).contains(&kept));
        losses += 2 - kept;
    }
    assert!((1..20).contains(&losses), "by seed: {losses} of 20");
}

#[test]
fn a_failed_write_or_flush_closes_a_log_in_memory() {
    let writes = Faults {
        writes_permille: 1000,
        ..Faults::default()
    };
    let flushes = Faults {
        flushes_permille: 1000,
        ..Faults::default()
    };
    for faults in [writes, flushes] {
        let disk = MemoryDisk::new(1, faults);
        let Ok(mut log) = MemoryLog::open(disk, |_| Ok::<(), Infallible>(()));
        append(&mut log, 1);
        assert!(log.flush_blocking().is_err());
        assert_eq!(log.durable(), Sequence::ZERO);
        assert_eq!(log.append(1, b"event"), Err(AppendRejection::Closed));
    }
}
