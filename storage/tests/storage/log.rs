//! A log as its shard uses it: append, flush, rotate, close, open again.

use crate::support::{SMALL, Scratch, append, open_log, payload, replace};
use flux_storage::{AppendError, DataDir, Log, LogOptions, ReplayError, Sequence, StorageError};

#[test]
fn what_was_flushed_comes_back_in_order() {
    let scratch = Scratch::new();
    let (mut log, recovery, records) = open_log(&scratch);
    assert_eq!(
        (recovery.records, records.len(), log.appended()),
        (0, 0, Sequence::ZERO)
    );
    let mut expected = Vec::new();
    for number in 1..=200 {
        expected.push(append(&mut log, &payload(number, 40)));
        assert_eq!(log.appended(), Sequence::new(number));
    }
    assert_eq!(log.durable(), Sequence::ZERO);
    log.flush_blocking().unwrap();
    assert_eq!(log.durable(), Sequence::new(200));
    assert!(log.begin_flush().unwrap().is_none(), "all is durable");
    log.close().unwrap();

    let (log, recovery, records) = open_log(&scratch);
    assert_eq!(records, expected);
    assert_eq!((recovery.records, recovery.cut), (200, None));
    assert_eq!(log.durable(), Sequence::new(200));
}

#[test]
fn a_log_dropped_without_a_flush_keeps_what_the_kernel_has() {
    let scratch = Scratch::new();
    let (mut log, ..) = open_log(&scratch);
    let expected: Vec<_> = (1..=50)
        .map(|number| append(&mut log, &payload(number, 99)))
        .collect();
    assert_eq!(log.written(), Sequence::ZERO);
    log.write_out().unwrap();
    assert_eq!(log.written(), log.appended());
    append(&mut log, b"in memory only");
    drop(log);
    let (log, _, records) = open_log(&scratch);
    assert_eq!(records, expected);
    assert_eq!(
        (log.written(), log.durable()),
        (log.appended(), log.appended()),
        "recovery makes durable what it returns"
    );
}

#[test]
fn a_torn_activation_part_is_made_again_when_the_log_is_opened() {
    let scratch = Scratch::new();
    let (mut log, ..) = open_log(&scratch);
    let first = append(&mut log, b"first");
    log.close().unwrap();
    let path = scratch.log_dir(1, 0, 1).join("00000001.seg");
    let whole = std::fs::read(&path).unwrap();
    let mut torn = whole.clone();
    torn[512..4096].fill(0);
    assert!(torn != whole);
    replace(&path, &torn);
    let (log, _, records) = open_log(&scratch);
    assert_eq!(records, [first]);
    let made = std::fs::read(&path).unwrap();
    assert!(made[512..4096] != torn[512..4096]);
    log.close().unwrap();
}

#[test]
fn what_waits_to_be_written_is_bounded() {
    let scratch = Scratch::new();
    let (mut log, ..) = open_log(&scratch);
    let bytes = 64 * 1024;
    let mut most = 0;
    for number in 1..=20 {
        append(&mut log, &payload(number, bytes));
        most = most.max(log.appended().get() - log.written().get());
    }
    assert_eq!(most, 2, "128 KiB, and what an append adds to that");
    // One that is larger than the bound waits alone.
    append(&mut log, &payload(21, 40 * bytes));
    append(&mut log, b"after it");
    assert_eq!(log.written(), Sequence::new(21));
}

#[test]
fn a_flush_covers_what_was_appended_before_it_began() {
    let scratch = Scratch::new();
    let (mut log, ..) = open_log(&scratch);
    append(&mut log, b"one");
    append(&mut log, b"two");
    let flush = log.begin_flush().unwrap().unwrap();
    append(&mut log, b"three");
    assert_eq!(flush.through(), Sequence::new(2));
    flush.sync_blocking().unwrap();
    assert_eq!(log.durable(), Sequence::ZERO);
    log.finish_flush(flush);
    assert_eq!(log.durable(), Sequence::new(2));
    let flush = log.begin_flush().unwrap().unwrap();
    assert_eq!(flush.through(), Sequence::new(3));
    log.finish_flush(flush);
    assert!(log.begin_flush().unwrap().is_none());
}

#[test]
fn a_full_segment_asks_for_a_spare_once_and_goes_on_with_it() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    let record = payload(1, 1000);
    let mut appended = 0;
    while log.append(1, 0, &record).is_ok() {
        appended += 1;
    }
    assert_eq!(
        appended, 3,
        "1032 bytes each in the 4096 of the first segment"
    );
    let needed = Err(AppendError::SegmentNeeded { record_bytes: 1032 });
    assert_eq!(log.append(1, 0, &record), needed);
    assert_eq!(log.appended(), Sequence::new(3));

    let job = log.next_segment_job().unwrap();
    assert!(log.next_segment_job().is_none());
    assert_eq!(log.append(1, 0, &record), needed);
    log.next_segment_failed();
    let job_again = log.next_segment_job().unwrap();
    drop(job);
    log.install_next_segment(job_again.run().unwrap());
    assert!(log.next_segment_job().is_none());
    assert_eq!(log.append(1, 0, &record), Ok(Sequence::new(4)));
    assert_eq!(log.begin_flush().unwrap().unwrap().segments().len(), 2);
    assert!(log.next_segment_job().is_some(), "the spare is used up");
}

#[test]
fn segments_grow_and_an_oversized_record_gets_its_own() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    let mut expected = Vec::new();
    for number in 1..=120 {
        let len = if number == 60 { 100_000 } else { 900 };
        expected.push(append(&mut log, &payload(number, len)));
    }
    let capacities: Vec<u64> = scratch.segment_sizes();
    assert_eq!(capacities[..5], [8192, 16384, 32768, 32768, 106_496]);
    assert!(
        capacities[5..].iter().all(|&capacity| capacity == 32768),
        "{capacities:?}"
    );
    assert_eq!(log.stats().bytes_on_disk, capacities.iter().sum::<u64>());
    assert_eq!(log.stats().segment_count, capacities.len());
    log.close().unwrap();
    let (_, recovery, records) = scratch.open(1, SMALL).unwrap().log();
    assert_eq!(records, expected);
    assert_eq!(recovery.cut, None);
}

#[test]
fn a_spare_that_is_too_small_is_replaced_by_a_larger_one() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    let small = log.next_segment_job().unwrap();
    assert_eq!(small.segment_bytes(), 16384);
    let large = payload(1, 50_000);
    assert!(log.append(1, 0, &large).is_err());
    // The job that was already out comes back too small for the record that asks now.
    log.install_next_segment(small.run().unwrap());
    let job = log.next_segment_job().unwrap();
    assert_eq!(job.segment_bytes(), 57344);
    log.install_next_segment(job.run().unwrap());
    assert_eq!(log.append(1, 0, &large), Ok(Sequence::new(1)));

    // An installed next segment is given up as well.
    let job = log.next_segment_job().unwrap();
    log.install_next_segment(job.run().unwrap());
    assert!(log.append(1, 0, &large).is_err());
    let job = log.next_segment_job().unwrap();
    log.install_next_segment(job.run().unwrap());
    assert_eq!(log.append(1, 0, &large), Ok(Sequence::new(2)));
    log.close().unwrap();
    let (_, _, records) = scratch.open(1, SMALL).unwrap().log();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.payload == large));
}

#[test]
fn a_payload_over_the_limit_is_refused() {
    let scratch = Scratch::new();
    let (mut log, ..) = open_log(&scratch);
    let payload = vec![1; flux_storage::PAYLOAD_BYTES_MAX + 1];
    assert!(matches!(
        log.append(1, 0, &payload),
        Err(AppendError::TooLarge { .. })
    ));
    let at_limit = &payload[..flux_storage::PAYLOAD_BYTES_MAX];
    assert!(matches!(
        log.append(1, 0, at_limit),
        Err(AppendError::SegmentNeeded { .. })
    ));
}

#[test]
fn after_a_failure_nothing_is_accepted_until_the_directory_is_opened_again() {
    let scratch = Scratch::new();
    let (mut log, ..) = open_log(&scratch);
    append(&mut log, b"kept");
    let flush = log.begin_flush().unwrap().unwrap();
    log.fail("the disk is on fire");
    log.fail("and so is the house");
    log.finish_flush(flush);
    assert_eq!(log.durable(), Sequence::ZERO);
    assert_eq!(log.failure(), Some("the disk is on fire"));
    assert_eq!(log.append(1, 0, b"more"), Err(AppendError::Poisoned));
    assert!(log.begin_flush().is_err() && log.next_segment_job().is_none());
    assert!(matches!(
        log.flush_blocking(),
        Err(StorageError::Poisoned { .. })
    ));
    assert!(matches!(log.close(), Err(StorageError::Poisoned { .. })));
    let (mut log, _, records) = open_log(&scratch);
    assert_eq!(records.len(), 1);
    append(&mut log, b"more");
}

#[test]
fn a_replay_from_any_sequence_gives_the_rest() {
    let scratch = Scratch::new();
    let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
    let expected: Vec<_> = (1..=100)
        .map(|number| append(&mut log, &payload(number, 700)))
        .collect();
    for from in 0..=102 {
        let mut sequences = Vec::new();
        log.replay_from::<()>(Sequence::new(from), |record| {
            sequences.push(record.sequence);
            Ok(())
        })
        .unwrap();
        let rest = expected.iter().map(|record| record.sequence);
        let rest: Vec<_> = rest.filter(|sequence| sequence.get() >= from).collect();
        assert_eq!(sequences, rest, "from {from}");
    }
    let refused = log.replay_from(Sequence::new(7), |record| Err(record.sequence));
    assert!(matches!(refused, Err(ReplayError::Visit(sequence)) if sequence == Sequence::new(7)));
}

#[test]
fn a_visitor_that_refuses_stops_the_opening() {
    let scratch = Scratch::new();
    let (mut log, ..) = open_log(&scratch);
    append(&mut log, b"one");
    log.close().unwrap();
    let mut data = DataDir::open(scratch.path(), 1, LogOptions::default()).unwrap();
    let refused = Log::open(data.take_log(0), |_| Err("no"));
    assert!(matches!(refused, Err(ReplayError::Visit("no"))));
}
