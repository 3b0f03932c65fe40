//! What was appended and is not durable can be taken back; what is durable stays.

use crate::support::{Kept, SMALL, Scratch, append, payload};
use flux_storage::{Log, Sequence};

fn open(scratch: &Scratch) -> (Log, Vec<Kept>) {
    let (log, _, records) = scratch.open(1, SMALL).unwrap().log();
    (log, records)
}

/// Appends so many records, which nobody appended before.
fn append_many(log: &mut Log, count: u64, number: &mut u64) -> Vec<Kept> {
    let appended = (0..count).map(|_| {
        *number += 1;
        append(log, &payload(*number, 100))
    });
    appended.collect()
}

/// Makes the segment that the next append may need, so that none is in preparation.
fn finish_preparation(log: &mut Log) {
    if let Some(job) = log.next_segment_job() {
        log.install_next_segment(job.run().unwrap());
    }
}

#[test]
fn what_was_taken_back_is_gone_and_its_sequences_are_given_again() {
    // Within one segment, and over several, of 8 KiB and more; written or not.
    for (count, is_written) in [(5, false), (5, true), (600, false), (600, true)] {
        let scratch = Scratch::new();
        let (mut log, _) = open(&scratch);
        let mut number = 0;
        let mut expected = append_many(&mut log, 10, &mut number);
        log.flush_blocking().unwrap();
        expected.extend(append_many(&mut log, 3, &mut number));
        append_many(&mut log, count, &mut number);
        if is_written {
            log.write_out().unwrap();
        }
        finish_preparation(&mut log);
        log.truncate_after(Sequence::new(13)).unwrap();
        assert_eq!(log.appended(), Sequence::new(13));
        assert_eq!(log.durable(), Sequence::new(10), "nothing was flushed");
        expected.extend(append_many(&mut log, 2, &mut number));
        let mut replayed = Vec::new();
        let visited = log.replay_from(Sequence::ZERO, |record| {
            replayed.push(Kept::from(record));
            Ok::<(), std::convert::Infallible>(())
        });
        visited.unwrap();
        assert_eq!(replayed, expected, "{count} {is_written}");
        // Killed: the kernel has it.
        log.write_out().unwrap();
        drop(log);
        let (log, records) = open(&scratch);
        assert_eq!(records, expected, "{count} {is_written}");
        log.close().unwrap();
    }
}

#[test]
fn a_log_that_is_truncated_at_random_is_what_was_not_taken_back() {
    for seed in 0..20 {
        let scratch = Scratch::new();
        let mut chance = fastrand::Rng::with_seed(seed);
        let (mut log, _) = open(&scratch);
        let (mut expected, mut number) = (Vec::new(), 0);
        for _ in 0..30 {
            match chance.u64(..5) {
                0 => log.flush_blocking().unwrap(),
                1 => {
                    finish_preparation(&mut log);
                    let (durable, appended) = (log.durable().get(), log.appended().get());
                    let kept = durable + chance.u64(..=(appended - durable));
                    log.truncate_after(Sequence::new(kept)).unwrap();
                    expected.truncate(usize::try_from(kept).unwrap());
                }
                2 => {
                    log.write_out().unwrap();
                    drop(log);
                    let (opened, records) = open(&scratch);
                    assert_eq!(records, expected, "seed {seed}");
                    log = opened;
                }
                _ => {
                    let count = 1 + chance.u64(..150);
                    expected.extend(append_many(&mut log, count, &mut number));
                }
            }
        }
        log.close().unwrap();
        let (_, records) = open(&scratch);
        assert_eq!(records, expected, "seed {seed}");
    }
}

#[test]
#[should_panic(expected = "what is durable stays")]
fn what_is_durable_can_not_be_taken_back() {
    let scratch = Scratch::new();
    let (mut log, _) = open(&scratch);
    append_many(&mut log, 3, &mut 0);
    log.flush_blocking().unwrap();
    match log.truncate_after(Sequence::new(2)) {
        Ok(()) | Err(_) => {}
    }
}

#[test]
fn a_record_of_any_size_may_follow_what_was_taken_back_with_its_segment() {
    for len in [20, 20_000] {
        let scratch = Scratch::new();
        let (mut log, ..) = scratch.open(1, SMALL).unwrap().log();
        let mut records: Vec<_> = (1..=4)
            .map(|n| append(&mut log, &payload(n, 900)))
            .collect();
        let before = log.stats().segment_count;
        let kept = log.appended();
        log.flush_blocking().unwrap();
        append(&mut log, &payload(5, 900));
        assert!(log.stats().segment_count > before, "a new segment");
        log.truncate_after(kept).unwrap();
        records.push(append(&mut log, &payload(6, len)));
        log.close().unwrap();
        let (_, recovery, found) = scratch.open(1, SMALL).unwrap().log();
        assert_eq!((found, recovery.cut), (records, None), "{len}");
    }
}
