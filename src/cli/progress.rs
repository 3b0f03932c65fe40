//! How far long work has come, told on stderr: often to a person, seldom to a file.

use crate::clock::Monotonic;
use crate::report::{self, LogEvent};
use std::io::IsTerminal as _;

/// Milliseconds between two lines to a terminal.
const TERMINAL_MS: u64 = 1000;
/// Milliseconds between two lines to anything else, so that short work leaves a script's output
/// clean.
const OTHER_MS: u64 = 5000;

/// Work that is counted in bytes.
#[derive(Debug)]
pub(super) struct Progress {
    /// What is being done, as a participle.
    work: &'static str,
    bytes: u64,
    bytes_total: u64,
    clock: Monotonic,
    interval_ms: u64,
    next_ms: u64,
}

impl Progress {
    /// `work` on so many bytes begins now.
    pub(super) fn new(work: &'static str, bytes_total: u64) -> Self {
        let interval_ms = if std::io::stderr().is_terminal() {
            TERMINAL_MS
        } else {
            OTHER_MS
        };
        Self {
            work,
            bytes: 0,
            bytes_total,
            clock: Monotonic::start(),
            interval_ms,
            next_ms: interval_ms,
        }
    }

    /// So many bytes more are done.
    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        let now_ms = self.clock.millis();
        if now_ms >= self.next_ms {
            self.next_ms = now_ms + self.interval_ms;
            report::say(
                LogEvent::CommandProgress,
                &line(self.work, self.bytes, self.bytes_total),
            );
        }
    }
}

fn line(work: &str, bytes: u64, bytes_total: u64) -> String {
    // Damage makes some bytes be read twice.
    let total = bytes_total.max(bytes);
    let percent = bytes.saturating_mul(100) / total.max(1);
    format!(
        "{work}: {percent} % ({} of {} MiB)",
        bytes >> 20,
        total >> 20
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_never_passes_the_whole() {
        let mib = 1 << 20;
        assert_eq!(
            line("reading", 3 * mib, 4 * mib),
            "reading: 75 % (3 of 4 MiB)"
        );
        assert_eq!(
            line("reading", 5 * mib, 4 * mib),
            "reading: 100 % (5 of 5 MiB)"
        );
        assert_eq!(line("reading", 0, 0), "reading: 0 % (0 of 0 MiB)");
    }
}
