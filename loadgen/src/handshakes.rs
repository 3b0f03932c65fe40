//! Connections that are opened at a given rate and closed again: with TLS, a whole handshake each.

use crate::clock::{self, Clock};
use crate::net::Target;
use crate::options::HandshakeOptions;
use crate::report::Report;
use crate::stats::new_histogram;
use anyhow::Result;
use std::time::Duration;

/// One after the other, each at its time or as soon as the one before is done; times count from
/// when a connection was due.
///
/// # Errors
/// When the first connection can't be opened.
pub(crate) fn run(options: &HandshakeOptions) -> Result<()> {
    let target = Target::new(&options.url)?;
    drop(target.connect()?);
    let clock = Clock::start();
    let (begin, mut latency) = (clock.now(), new_histogram());
    let (mut failed, mut number) = (0, 0);
    loop {
        let due = begin + Duration::from_nanos(number * 1_000_000_000 / options.rate);
        if due.since(begin) >= options.duration {
            break;
        }
        clock::wait(clock, due.since(clock.now()));
        match target.connect() {
            Ok(_) => latency.saturating_record(clock.now().nanos_since(due)),
            Err(_) => failed += 1,
        }
        number += 1;
    }
    let mut report = Report::new("handshakes");
    report.rate(
        "handshakes_per_second",
        latency.len(),
        clock.now().since(begin),
    );
    report.latencies("", &latency);
    report.fault("failed", failed);
    report.print(options.json);
    Ok(())
}
