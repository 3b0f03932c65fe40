//! How many lines of an event are said: of one that others can cause at will, so many a minute. The
//! rest is counted, and said in one line.
#![expect(
    clippy::disallowed_types,
    reason = "any thread may say a line; the lock is held for some instructions"
)]

use super::event::{LogEvent, Repeats};
use crate::limits::{LOG_REPEATS_MAX, LOG_REPEATS_SECONDS};
use std::sync::Mutex;

/// The lines of an event since its time began.
#[derive(Debug, Clone, Copy)]
struct Window {
    since_ms: u64,
    said: u64,
    left_out: u64,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) is_said: bool,
    /// So many were left out in the time that is over.
    pub(super) left_out: Option<u64>,
}

/// The lines of each event, by its number.
#[derive(Debug)]
struct Windows([Window; LogEvent::ALL.len()]);

impl Windows {
    const fn new() -> Self {
        let window = Window {
            since_ms: 0,
            said: 0,
            left_out: 0,
        };
        Self([window; LogEvent::ALL.len()])
    }

    fn admit(&mut self, event: LogEvent, now_ms: u64) -> Admitted {
        let window = &mut self.0[event as usize];
        let left_out = window.take_if_over(now_ms);
        let is_said = window.said < LOG_REPEATS_MAX;
        window.said += u64::from(is_said);
        window.left_out += u64::from(!is_said);
        Admitted { is_said, left_out }
    }

    fn take_due(&mut self, now_ms: u64) -> Vec<(LogEvent, u64)> {
        let both = LogEvent::ALL.iter().zip(&mut self.0);
        both.filter_map(|(event, window)| Some((*event, window.take_if_over(now_ms)?)))
            .collect()
    }
}

impl Window {
    /// Begins anew if its time is over. What was left out in it, if something was.
    fn take_if_over(&mut self, now_ms: u64) -> Option<u64> {
        if now_ms.saturating_sub(self.since_ms) < LOG_REPEATS_SECONDS * 1000 {
            return None;
        }
        let left_out = self.left_out;
        *self = Self {
            since_ms: now_ms,
            said: 0,
            left_out: 0,
        };
        (left_out > 0).then_some(left_out)
    }
}

static WINDOWS: Mutex<Windows> = Mutex::new(Windows::new());

/// Counts a line, and decides about it.
pub(super) fn admit(event: LogEvent, now_ms: u64) -> Admitted {
    let is_said = Admitted {
        is_said: true,
        left_out: None,
    };
    if event.repeats() == Repeats::Each {
        return is_said;
    }
    // The panic of a thread that holds it must not wait for itself.
    WINDOWS
        .try_lock()
        .map_or(is_said, |mut windows| windows.admit(event, now_ms))
}

/// The events of which lines were left out in a time that is over, with their number.
pub(super) fn take_due(now_ms: u64) -> Vec<(LogEvent, u64)> {
    WINDOWS
        .try_lock()
        .map_or_else(|_| Vec::new(), |mut windows| windows.take_due(now_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVER_MS: u64 = LOG_REPEATS_SECONDS * 1000;

    #[test]
    fn so_many_lines_are_said_and_the_rest_is_counted() {
        let mut windows = Windows::new();
        let event = LogEvent::AcceptFailed;
        for _ in 0..LOG_REPEATS_MAX {
            assert!(windows.admit(event, 5).is_said);
        }
        for _ in 0..7 {
            assert!(!windows.admit(event, OVER_MS - 1).is_said);
        }
        // Another event is not affected.
        assert!(windows.admit(LogEvent::ConnectorFailing, 6).is_said);
        let next = windows.admit(event, OVER_MS);
        assert_eq!((next.is_said, next.left_out), (true, Some(7)));
        assert_eq!(windows.admit(event, OVER_MS).left_out, None);
    }

    #[test]
    fn what_was_left_out_is_told_once_without_another_line() {
        let mut windows = Windows::new();
        for _ in 0..LOG_REPEATS_MAX + 2 {
            windows.admit(LogEvent::AcceptFailed, 0);
        }
        assert_eq!(windows.take_due(OVER_MS - 1), []);
        assert_eq!(windows.take_due(OVER_MS), [(LogEvent::AcceptFailed, 2)]);
        assert_eq!(windows.take_due(3 * OVER_MS), []);
    }
}
