//! Whether a slow client still takes bytes, as the kernel knows it.
//!
//! A socket that refuses bytes is reported as writable only when half of the unsent bytes that the
//! kernel keeps for it are sent, and a third of its buffer is free. A client that reads 1 KB a
//! second brings that about in minutes. For that long it looks like a client that has stopped
//! reading. What tells the two apart is what the client has acknowledged: the kernel is asked for
//! that ([`super::system::System::unacknowledged`]), but only about a connection that is about to
//! be closed, and a few times before it is.

use crate::limits::{ACKNOWLEDGED_LOOK_MS_MAX, ACKNOWLEDGED_LOOKS_MIN};

/// What the kernel says of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unacknowledged {
    /// Bytes that the client has not acknowledged.
    pub(crate) bytes: u64,
    /// Some of them were sent several times: the client, or its network, is gone.
    pub(crate) is_lost: bool,
}

/// See the module. One for each connection.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Taking {
    /// When the kernel was last asked, monotonic milliseconds.
    asked_ms: u64,
    /// What it said then: bytes that the client has not acknowledged.
    unacknowledged: u64,
    /// They do not arrive.
    is_lost: bool,
    /// When those were seen to have become fewer, monotonic milliseconds.
    taken_ms: u64,
}

impl Taking {
    /// True if it is time to ask the kernel about a client that has been silent since `since_ms`
    /// and is closed after `stall_ms` of that.
    pub(crate) fn is_due(&self, since_ms: u64, now_ms: u64, stall_ms: u64) -> bool {
        let every_ms = (stall_ms / ACKNOWLEDGED_LOOKS_MIN).min(ACKNOWLEDGED_LOOK_MS_MAX);
        now_ms.saturating_sub(since_ms.max(self.asked_ms)) >= every_ms
    }

    /// The kernel has said what is not acknowledged. True if it was more at the last look. The last
    /// bytes were added at `sent_ms`.
    pub(crate) fn note(&mut self, missing: Unacknowledged, sent_ms: u64, now_ms: u64) -> bool {
        // Bytes that were added since the last look hide how many were taken.
        let has_taken = self.asked_ms >= sent_ms && missing.bytes < self.unacknowledged;
        if has_taken {
            self.taken_ms = now_ms;
        }
        self.asked_ms = now_ms;
        self.unacknowledged = missing.bytes;
        self.is_lost = missing.is_lost;
        has_taken
    }

    /// True if a ping that was sent at `pinged_ms` and is not answered may not have arrived yet:
    /// other bytes are before it, and the client still takes some.
    pub(crate) fn explains_silence(&self, pinged_ms: u64, now_ms: u64, stall_ms: u64) -> bool {
        let is_behind = self.unacknowledged > 0 || self.taken_ms > pinged_ms;
        let may_arrive = is_behind && !self.is_lost;
        let since_ms = pinged_ms.max(self.taken_ms);
        self.asked_ms > pinged_ms && may_arrive && now_ms.saturating_sub(since_ms) <= stall_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(bytes: u64) -> Unacknowledged {
        Unacknowledged {
            bytes,
            is_lost: false,
        }
    }

    #[test]
    fn the_kernel_is_asked_a_few_times_before_a_client_is_closed() {
        let mut taking = Taking::default();
        let asked: Vec<u64> = (1_000..=31_000)
            .filter(|&now_ms| {
                let is_due = taking.is_due(1_000, now_ms, 15_000);
                if is_due {
                    taking.note(missing(500), 1_000, now_ms);
                }
                is_due
            })
            .collect();
        assert_eq!(asked, [6_000, 11_000, 16_000, 21_000, 26_000, 31_000]);
    }

    #[test]
    fn only_bytes_that_became_fewer_count_as_taken() {
        let mut taking = Taking::default();
        assert!(
            !taking.note(missing(500), 0, 10),
            "the first look compares with nothing"
        );
        assert!(!taking.note(missing(500), 0, 20));
        assert!(taking.note(missing(499), 0, 30));
        assert!(!taking.note(missing(498), 31, 40), "bytes were added at 31");
        assert!(taking.note(missing(497), 31, 50));
    }

    #[test]
    fn a_ping_behind_other_bytes_is_waited_for_as_long_as_some_are_taken() {
        let mut taking = Taking::default();
        assert!(
            !taking.explains_silence(100, 200, 1_000),
            "the kernel was not asked"
        );
        taking.note(missing(500), 0, 200);
        assert!(taking.explains_silence(100, 1_100, 1_000));
        assert!(
            !taking.explains_silence(100, 1_101, 1_000),
            "none was taken"
        );
        taking.note(missing(400), 0, 1_100);
        assert!(taking.explains_silence(100, 2_100, 1_000));
        taking.note(missing(0), 0, 2_000);
        assert!(
            taking.explains_silence(100, 2_900, 1_000),
            "the ping may just have arrived"
        );
        assert!(!taking.explains_silence(100, 3_001, 1_000));
        let mut idle = Taking::default();
        idle.note(missing(0), 0, 200);
        assert!(
            !idle.explains_silence(100, 300, 1_000),
            "it has arrived, and is not answered"
        );
        let (mut gone, is_lost) = (Taking::default(), true);
        gone.note(
            Unacknowledged {
                bytes: 500,
                is_lost,
            },
            0,
            200,
        );
        assert!(!gone.explains_silence(100, 300, 1_000), "nothing arrives");
    }
}
