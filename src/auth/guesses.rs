//! Wrong operator's tokens: how late each is answered, and when the operator is told of them.
//!
//! ```text
//! failure       1    2    3    4    5     6 …          a minute without one
//! answered   50 ms  100  200  400  800  1000           ──▶ from the start
//! ```
//!
//! All failures count together, from all addresses: whoever guesses has many of them. The right
//! token is never late, so nobody can keep the operator out. To be late costs the server a
//! timer.
//!
//! Calls that take other tokens too tell as well whether a token is the operator's, and so does
//! `auth` over WebSocket. An unknown token is mostly a dead one there, so the first
//! [`UNKNOWN_TOKENS_FREE`] of a network within a minute do not count as guesses.
//!
//! A token that somebody made up is within reach of a machine that may ask a million times a
//! second; one that asks once a second on each connection needs years.

use crate::limits::{
    GUESS_DELAY_MS_MAX, GUESS_DELAY_MS_MIN, GUESS_REPORT_SECONDS, UNKNOWN_TOKENS_FREE,
};
use crate::model::Timestamp;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// Networks whose unknown tokens are counted apart.
const UNKNOWN_NETWORKS_MAX: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub struct Guesses {
    /// Failures with less than [`GUESS_REPORT_SECONDS`] between one and the next.
    in_a_row: u32,
    last: Timestamp,
    /// Unknown tokens on other calls, by network, since `unknown_since`.
    unknown: HashMap<IpAddr, u32>,
    unknown_since: Timestamp,
    /// Failures that the operator was not told of yet.
    untold: Option<Failures>,
}

/// What the operator is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures {
    /// How many there were.
    pub count: u64,
    /// Where the last came from.
    pub from: IpAddr,
    /// When the first came.
    since: Timestamp,
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, from, .. } = self;
        let calls = if *count == 1 { "call" } else { "calls" };
        write!(
            f,
            "{count} {calls} with a wrong operator's token within a minute, the last from {from}"
        )
    }
}

impl Guesses {
    /// One more, at `now`. Returns the milliseconds after which it is answered.
    pub fn note(&mut self, from: IpAddr, now: Timestamp) -> u64 {
        if is_over(self.last, now) {
            self.in_a_row = 0;
        }
        self.last = now;
        let delay = GUESS_DELAY_MS_MIN.checked_shl(self.in_a_row);
        self.in_a_row = self.in_a_row.saturating_add(1).min(u64::BITS);
        let before = self.untold.map_or(0, |failures| failures.count);
        self.untold = Some(Failures {
            count: before.saturating_add(1),
            from,
            since: self.untold.map_or(now, |failures| failures.since),
        });
        delay
            .filter(|&delay| delay >= GUESS_DELAY_MS_MIN)
            .map_or(GUESS_DELAY_MS_MAX, |delay| delay.min(GUESS_DELAY_MS_MAX))
    }

    /// An unknown token, on a call that takes other tokens than the operator's too. Returns the
    /// milliseconds after which it is answered if it counts as a guess.
    pub fn note_unknown(
        &mut self,
        (from, network): (IpAddr, IpAddr),
        now: Timestamp,
    ) -> Option<u64> {
        if is_over(self.unknown_since, now) {
            self.unknown.clear();
            self.unknown_since = now;
        }
        let has_place =
            self.unknown.len() < UNKNOWN_NETWORKS_MAX || self.unknown.contains_key(&network);
        // Of too many networks the further ones count together.
        let shared = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let counted = if has_place { network } else { shared };
        let count = self.unknown.entry(counted).or_default();
        *count = count.saturating_add(1);
        (*count > UNKNOWN_TOKENS_FREE).then(|| self.note(from, now))
    }

    /// What the operator is to be told now: once a minute if there is anything.
    pub fn take_due(&mut self, now: Timestamp) -> Option<Failures> {
        self.untold.take_if(|failures| is_over(failures.since, now))
    }

    /// What the operator was not told of yet.
    pub fn take_rest(&mut self) -> Option<Failures> {
        self.untold.take()
    }
}

/// True if a minute has passed, or the clock was set back by as much. Cores read it one after the
/// other, so `now` may be a little earlier.
fn is_over(since: Timestamp, now: Timestamp) -> bool {
    let passed_ms = now.as_millis().abs_diff(since.as_millis());
    passed_ms >= GUESS_REPORT_SECONDS.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);

    fn at_ms(ms: i64) -> Timestamp {
        let ms = ms.checked_add(1_000_000_000).unwrap();
        Timestamp::from_micros(ms.checked_mul(1000).unwrap())
    }

    #[test]
    fn each_is_answered_later_than_the_one_before_up_to_a_second() {
        let mut guesses = Guesses::default();
        let delays: Vec<u64> = (0..200).map(|ms| guesses.note(FROM, at_ms(ms))).collect();
        assert_eq!(delays[..6], [50, 100, 200, 400, 800, 1000]);
        assert!(delays[6..].iter().all(|&delay| delay == 1000));
        assert_eq!(
            guesses.note(FROM, at_ms(60_198)),
            1000,
            "less than a minute"
        );
        assert_eq!(guesses.note(FROM, at_ms(120_198)), 50, "a minute");
    }

    #[test]
    fn the_operator_is_told_once_a_minute_how_many_there_were() {
        let mut guesses = Guesses::default();
        assert_eq!(guesses.take_due(at_ms(0)), None);
        for ms in 0..7 {
            guesses.note(FROM, at_ms(ms));
        }
        assert_eq!(guesses.take_due(at_ms(59_999)), None);
        let told = guesses.take_due(at_ms(60_000)).unwrap();
        assert_eq!((told.count, told.from), (7, FROM));
        assert_eq!(guesses.take_due(at_ms(200_000)), None, "told once");
        guesses.note(FROM, at_ms(200_000));
        assert_eq!(guesses.take_rest().map(|rest| rest.count), Some(1));
        assert_eq!(guesses.take_rest(), None);
    }

    #[test]
    fn an_unknown_token_elsewhere_is_a_guess_if_there_are_too_many() {
        let mut guesses = Guesses::default();
        for _ in 0..2 {
            for ms in 0..UNKNOWN_TOKENS_FREE {
                assert_eq!(guesses.note_unknown((FROM, FROM), at_ms(ms.into())), None);
            }
            assert_eq!(guesses.take_rest(), None);
            assert_eq!(guesses.note_unknown((FROM, FROM), at_ms(1_000)), Some(50));
            assert_eq!(guesses.note(FROM, at_ms(1_000)), 100);
            assert_eq!(guesses.note_unknown((FROM, FROM), at_ms(2_000)), Some(200));
            assert_eq!(guesses.take_rest().map(|rest| rest.count), Some(3));
            assert_eq!(guesses.note_unknown((FROM, OTHER), at_ms(2_000)), None);
            assert_eq!(
                guesses.note_unknown((FROM, FROM), at_ms(62_000)),
                None,
                "a minute"
            );
            guesses = Guesses::default();
        }
        for number in 0..20_000 {
            let network = IpAddr::V4(Ipv4Addr::from_bits(number));
            guesses.note_unknown((FROM, network), at_ms(0));
        }
        assert!(guesses.unknown.len() <= UNKNOWN_NETWORKS_MAX.saturating_add(1));
    }

    #[test]
    fn a_clock_that_is_set_back_stops_neither() {
        let mut guesses = Guesses::default();
        guesses.note(FROM, at_ms(50_000_000));
        assert_eq!(guesses.note(FROM, at_ms(0)), 50);
        assert_eq!(guesses.take_due(at_ms(1)).map(|told| told.count), Some(2));
    }
}
