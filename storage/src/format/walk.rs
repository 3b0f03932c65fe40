//! Walking the bytes of one segment: record by record from a position, or in search of any record.
//!
//! Pure: the caller supplies the bytes. A walk ends at the first position without the expected
//! record and does not judge what that means; `log::recovery` does.

use super::CrcSeed;
use super::record::{self, RECORD_ALIGN, RECORD_BYTES_MIN, decode, peek_sequence};
use crate::sequence::{Record, Sequence};

/// A position in a segment, and the sequence of the record that belongs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) offset: usize,
    pub(crate) next: Sequence,
}

/// Visits the records of one segment from a position on; returns the first position without the
/// expected one.
pub(crate) fn walk_segment<E>(
    bytes: &[u8],
    seed: CrcSeed,
    mut position: Position,
    visit: &mut impl FnMut(Record<'_>) -> Result<(), E>,
) -> Result<Position, E> {
    while let Some(stored) = expected_record(bytes, seed, position) {
        visit(stored.record)?;
        position.offset = position.offset.saturating_add(stored.bytes);
        position.next = stored.record.sequence.next();
    }
    Ok(position)
}

/// The record at a position, if it is the one that belongs there.
pub(crate) fn expected_record(
    bytes: &[u8],
    seed: CrcSeed,
    position: Position,
) -> Option<record::StoredRecord<'_>> {
    let stored = decode(bytes.get(position.offset..)?, seed)?;
    (stored.record.first() == Some(position.next)).then_some(stored)
}

/// The most records that a segment of so many bytes holds.
pub(crate) fn record_count_max(segment_bytes: usize) -> u64 {
    (segment_bytes / RECORD_BYTES_MIN) as u64
}

/// What a scan found after a position.
pub(crate) struct Scan {
    /// The highest sequence that a valid record says was durable.
    pub(crate) durable: Sequence,
    /// Bytes up to the last that is not zero.
    pub(crate) used: usize,
}

/// Looks for records at every aligned offset from a position on, wherever they are.
///
/// Only sequences that could be here are looked at closer, so that the cost stays linear whatever
/// the payloads are: at least the expected one, and at most `ahead_max` after it.
pub(crate) fn scan(bytes: &[u8], seed: CrcSeed, position: Position, ahead_max: u64) -> Scan {
    let tail = bytes.get(position.offset..).unwrap_or_default();
    let ahead = |sequence: Sequence| sequence.get().checked_sub(position.next.get());
    let mut found = Scan {
        durable: Sequence::ZERO,
        used: 0,
    };
    let mut rest = tail;
    while let Some((word, after)) = rest.split_first_chunk::<RECORD_ALIGN>() {
        if *word == [0; RECORD_ALIGN] {
            rest = after;
            continue;
        }
        let plausible = peek_sequence(rest)
            .and_then(ahead)
            .is_some_and(|distance| distance <= ahead_max);
        let stored = if plausible { decode(rest, seed) } else { None };
        rest = match stored {
            Some(stored) => {
                found.durable = found.durable.max(stored.durable);
                rest.get(stored.bytes..).unwrap_or_default()
            }
            None => after,
        };
        found.used = tail.len().saturating_sub(rest.len());
    }
    found
}
