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
