//! What an append and a look-up cost, printed for whoever looks; nothing depends on the figure.
//! `cargo test --release --test throughput -- --nocapture`

#![cfg(test)]

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use flux_storage::{AppendError, DataDir, IndexKey, Log, LogOptions};

#[test]
#[expect(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a measurement"
)]
fn many_appends_come_back_and_their_cost_is_printed() {
    const COUNT: u32 = 200_000;
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions {
        segment_bytes_initial: 64 * 1024 * 1024,
        ..LogOptions::default()
    };
    let mut data = DataDir::open(dir.path(), 1, options).unwrap();
    let (mut log, _) = Log::open::<Infallible>(data.take_log(0), |_| Ok(())).unwrap();
    let mut fastest = f64::INFINITY;
    for _ in 0..10 {
        let begun = Instant::now();
        for number in 0..COUNT / 10 {
            log.append(1, i64::from(number), &[0xA5; 200]).unwrap();
        }
        fastest = fastest.min(begun.elapsed().as_secs_f64() / f64::from(COUNT / 10));
    }
    log.close().unwrap();
    drop(data);
    let mut data = DataDir::open(dir.path(), 1, options).unwrap();
    let begun = Instant::now();
    let (_, recovery) = Log::open::<Infallible>(data.take_log(0), |_| Ok(())).unwrap();
    let opened = begun.elapsed();
    assert_eq!(recovery.records, u64::from(COUNT));
    eprintln!(
        "append of 200 bytes: {:.0} ns; opening: {opened:?}",
        fastest * 1e9
    );
}

#[test]
#[expect(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a measurement"
)]
fn an_entity_and_a_namespace_are_looked_up_and_the_cost_is_printed() {
    const COUNT: u64 = 300_000;
    const KEYS: u64 = 1000;
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions {
        segment_bytes_max: 16 * 1024 * 1024,
        index_key: IndexKey {
            scheme: 1,
            of: |_, payload| {
                payload
                    .first_chunk()
                    .map_or(0, |bytes| u64::from_le_bytes(*bytes))
            },
        },
        ..LogOptions::default()
    };
    let mut data = DataDir::open(dir.path(), 1, options).unwrap();
    let (mut log, _) = Log::open::<Infallible>(data.take_log(0), |_| Ok(())).unwrap();
    let mut payload = [0xA5; 200];
    let mut slowest_job = Duration::ZERO;
    for number in 0..COUNT {
        payload[..8].copy_from_slice(&(number % KEYS).to_le_bytes());
        while let Err(AppendError::SegmentNeeded { .. }) = log.append(1, 0, &payload) {
            let job = log.next_segment_job().unwrap();
            log.install_next_segment(job.run().unwrap());
            log.flush_blocking().unwrap();
        }
        if let Some(job) = log.index_job() {
            let begun = Instant::now();
            job.run().unwrap();
            slowest_job = slowest_job.max(begun.elapsed());
        }
    }
    log.flush_blocking().unwrap();
    let mut look_up = |keys: std::ops::RangeInclusive<u64>| {
        let begun = Instant::now();
        let reader = log.reader(log.durable());
        let snapshot = begun.elapsed();
        let mut found = 0;
        let visited = reader.read_backward(keys, log.durable().next(), |_| {
            found += 1;
            let flow = if found < 100 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            };
            Ok::<_, Infallible>(flow)
        });
        visited.unwrap();
        (found, snapshot, begun.elapsed())
    };
    let (found, snapshot, one) = look_up(7..=7);
    let (all, _, every) = look_up(0..=u64::MAX);
    let (none, _, nothing) = look_up(KEYS..=KEYS);
    assert_eq!((found, all, none), (100, 100, 0));
    eprintln!(
        "of {COUNT} records: index of a segment {slowest_job:?}, snapshot {snapshot:?}; newest 100 of one \
         key in {one:?}, of all in {every:?}; none of a key that is nowhere in {nothing:?}"
    );
}
