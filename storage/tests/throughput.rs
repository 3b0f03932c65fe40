//! What an append costs, printed for whoever looks; nothing depends on the figure.
//! `cargo test --release --test throughput -- --nocapture`

#![cfg(test)]

use std::convert::Infallible;
use std::time::Instant;

use flux_storage::{DataDir, Log, LogOptions};

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
