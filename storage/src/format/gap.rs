//! A gap: what `flux log repair` puts where records are gone, so that the log goes on after them.
//!
//! ```text
//! 0       8
//! | first | last |      payload of a record of kind 255, whose own sequence is `last`
//! ```
//!
//! A reader that expects sequence `first` finds the gap in its place and expects `last + 1` next.

use super::{put, read_u64};
use crate::{Record, Sequence};

/// The kind of a record that is a gap. Appenders may not use it.
pub const RECORD_KIND_GAP: u8 = 255;

/// Bytes of a gap's payload.
pub(crate) const GAP_BYTES: usize = 16;
const FIRST: usize = 0;
const LAST: usize = 8;

/// Records that a repair gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first that is gone.
    pub first: Sequence,
    /// The last that is gone, not before the first.
    pub last: Sequence,
}

impl Gap {
    /// How many records are gone.
    pub fn lost(self) -> u64 {
        self.last.get().saturating_sub(self.first.previous().get())
    }

    /// The payload of its record.
    pub(crate) fn encode(self) -> [u8; GAP_BYTES] {
        let mut payload = [0; GAP_BYTES];
        put(&mut payload, FIRST, self.first.get().to_le_bytes());
        put(&mut payload, LAST, self.last.get().to_le_bytes());
        payload
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        let payload: &[u8; GAP_BYTES] = payload.try_into().ok()?;
        let gap = Self {
            first: Sequence::new(read_u64(payload, FIRST)?),
            last: Sequence::new(read_u64(payload, LAST)?),
        };
        (gap.first > Sequence::ZERO && gap.first <= gap.last).then_some(gap)
    }
}

impl Record<'_> {
    /// What is gone, if this record stands for records that a repair gave up.
    pub fn gap(&self) -> Option<Gap> {
        let gap = Gap::decode(self.payload)?;
        (self.kind == RECORD_KIND_GAP && gap.last == self.sequence).then_some(gap)
    }

    /// The first sequence that this record stands for: its own, unless it is a gap. `None` for a
    /// gap that says nothing sensible, which no log takes for a record.
    pub(crate) fn first(&self) -> Option<Sequence> {
        if self.kind == RECORD_KIND_GAP {
            self.gap().map(|gap| gap.first)
        } else {
            Some(self.sequence)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, sequence: u64, payload: &[u8]) -> Record<'_> {
        Record {
            sequence: Sequence::new(sequence),
            time_micros: 0,
            kind,
            group: None,
            payload,
        }
    }

    fn payload(first: u64, last: u64) -> [u8; GAP_BYTES] {
        let (first, last) = (Sequence::new(first), Sequence::new(last));
        Gap { first, last }.encode()
    }

    #[test]
    fn a_gap_stands_for_all_that_is_gone() {
        let bytes = payload(5, 300);
        assert_eq!(bytes, [5, 0, 0, 0, 0, 0, 0, 0, 0x2c, 1, 0, 0, 0, 0, 0, 0]);
        let gap = record(RECORD_KIND_GAP, 300, &bytes).gap().unwrap();
        assert_eq!((gap.first.get(), gap.last.get(), gap.lost()), (5, 300, 296));
        assert_eq!(
            record(RECORD_KIND_GAP, 300, &bytes).first(),
            Some(Sequence::new(5))
        );
        assert_eq!(record(1, 300, &bytes).first(), Some(Sequence::new(300)));
    }

    #[test]
    fn a_gap_that_contradicts_itself_is_none() {
        let check = |sequence, bytes: &[u8]| {
            let record = record(RECORD_KIND_GAP, sequence, bytes);
            assert_eq!((record.gap(), record.first()), (None, None), "{bytes:?}");
        };
        check(301, &payload(5, 300));
        check(4, &payload(5, 4));
        check(4, &payload(0, 4));
        check(300, &payload(5, 300)[..15]);
        check(300, &[&payload(5, 300)[..], &[0]].concat());
    }
}
