//! The value that an event of a watch run carries: `"lg<run>-<publisher>-<number>-<due>"`.
//!
//! It has one length, and begins with the run's own id, so that it can be found in a message
//! without parsing it, and no value of an earlier run is taken for one of this.

use crate::clock::{Moment, unix_micros};
use crate::entities::write_digits;
use memchr::memmem;

const RUN_DIGITS: usize = 16;
const PUBLISHER_DIGITS: usize = 5;
const NUMBER_DIGITS: usize = 12;
const DUE_DIGITS: usize = 18;

/// Bytes of the JSON text, quotes included.
pub(super) const MARK_LEN: usize =
    1 + START_LEN + PUBLISHER_DIGITS + 1 + NUMBER_DIGITS + 1 + DUE_DIGITS + 1;

/// `lg<run>-`
const START_LEN: usize = 2 + RUN_DIGITS + 1;

/// Tells the values of one run from those of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunId(u64);

impl RunId {
    pub(super) fn new() -> Self {
        Self(unix_micros())
    }
}

/// Which event, and when it was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Publisher connection, from 0.
    pub(super) publisher: usize,
    /// Events that it sent before this one.
    pub(super) number: u64,
    pub(super) due: Moment,
}

impl Mark {
    /// Appends the JSON text, [`MARK_LEN`] bytes.
    pub(super) fn write(&self, run: RunId, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"lg");
        write_digits(run.0, RUN_DIGITS, out);
        out.push(b'-');
        write_digits(self.publisher as u64, PUBLISHER_DIGITS, out);
        out.push(b'-');
        write_digits(self.number, NUMBER_DIGITS, out);
        out.push(b'-');
        write_digits(self.due.0, DUE_DIGITS, out);
        out.push(b'"');
    }
}

/// Finds marks of one run in messages.
#[derive(Debug)]
pub(super) struct MarkFinder(memmem::Finder<'static>);

impl MarkFinder {
    pub(super) fn new(run: RunId) -> Self {
        let mut start = b"lg".to_vec();
        write_digits(run.0, RUN_DIGITS, &mut start);
        start.push(b'-');
        Self(memmem::Finder::new(&start).into_owned())
    }

    pub(super) fn find(&self, message: &[u8]) -> Option<Mark> {
        let start = self.0.find(message)? + START_LEN;
        let mut rest = &message[start..];
        let publisher = take_number(&mut rest, PUBLISHER_DIGITS)?;
        let number = take_number(&mut rest, NUMBER_DIGITS)?;
        let due = Moment(take_number(&mut rest, DUE_DIGITS)?);
        Some(Mark {
            publisher: usize::try_from(publisher).ok()?,
            number,
            due,
        })
    }
}

/// Cuts off `width` digits and the byte behind them.
fn take_number(rest: &mut &[u8], width: usize) -> Option<u64> {
    let (digits, behind) = rest.split_at_checked(width)?;
    *rest = behind.get(1..)?;
    let mut number = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_again_in_a_message() {
        let run = RunId(1_700_000_000_000_000);
        let mark = Mark {
            publisher: 12,
            number: 345_678,
            due: Moment(9_876_543_210),
        };
        let mut text = Vec::new();
        mark.write(run, &mut text);
        assert_eq!(text.len(), MARK_LEN);
        let message = [br#"{"type":"state_update","value":"#, &text[..], b"}"].concat();
        assert_eq!(MarkFinder::new(run).find(&message), Some(mark));
        assert_eq!(MarkFinder::new(RunId(1)).find(&message), None);
        for cut in 0..message.len() - 2 {
            assert_eq!(
                MarkFinder::new(run).find(&message[..cut]),
                None,
                "cut at {cut}"
            );
        }
    }
}
