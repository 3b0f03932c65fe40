//! Walking the bytes of one segment: record by record from a position, or in search of any record.
//!
//! Pure: the caller supplies the bytes. A walk ends at the first position without the expected
//! record and does not judge what that means; `log::recovery` does. Of a group of which a record is
//! missing a walk shows none: it ends before the first.

use super::CrcSeed;
use super::record::{RECORD_ALIGN, RECORD_BYTES_MIN, StoredRecord, decode, peek_sequence};
use crate::sequence::{Record, Sequence};

/// A position in a segment, and the sequence of the record that belongs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) offset: usize,
    pub(crate) next: Sequence,
}

impl Position {
    fn after(self, stored: &StoredRecord<'_>) -> Self {
        Self {
            offset: self.offset.saturating_add(stored.bytes),
            next: stored.record.sequence.next(),
        }
    }
}

/// The records of one segment from a position on, one after the other.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    bytes: &'a [u8],
    seed: CrcSeed,
    position: Position,
    /// Records before this one are known to be of whole groups.
    checked: Sequence,
}

impl<'a> Walk<'a> {
    /// From a position between two groups.
    pub(crate) fn new(bytes: &'a [u8], seed: CrcSeed, position: Position) -> Self {
        Self {
            bytes,
            seed,
            position,
            checked: position.next,
        }
    }

    /// From a position that may lie inside of a group, of which what lies before it is whole.
    pub(crate) fn from_any(bytes: &'a [u8], seed: CrcSeed, position: Position) -> Self {
        let mut walk = Self::new(bytes, seed, position);
        if let Some(stored) = expected_record(bytes, seed, position)
            && let Some(end) = rest_of_group(bytes, seed, position, &stored)
        {
            walk.checked = end;
        }
        walk
    }

    /// The first position without the expected record.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// The next record, and where it lies.
    pub(crate) fn next(&mut self) -> Option<(usize, StoredRecord<'a>)> {
        let stored = expected_record(self.bytes, self.seed, self.position)?;
        if let Some(place) = stored.record.group
            && self.position.next >= self.checked
        {
            if place.index > 0 {
                return None;
            }
            self.checked = rest_of_group(self.bytes, self.seed, self.position, &stored)?;
        }
        let offset = self.position.offset;
        self.position = self.position.after(&stored);
        Some((offset, stored))
    }
}

/// The sequence after the group of a record at a position, if all records of the group from there
/// on are in their places.
fn rest_of_group(
    bytes: &[u8],
    seed: CrcSeed,
    position: Position,
    stored: &StoredRecord<'_>,
) -> Option<Sequence> {
    let mut position = position;
    let mut stored = *stored;
    while let Some(place) = stored.record.group.filter(|place| !place.is_last()) {
        position = position.after(&stored);
        stored = expected_record(bytes, seed, position)?;
        if !place.precedes(stored.record.group) {
            return None;
        }
    }
    Some(stored.record.sequence.next())
}

/// Visits the records of one segment from a position on, which lies between two groups; returns the
/// first position without the expected one.
pub(crate) fn walk_segment<E>(
    bytes: &[u8],
    seed: CrcSeed,
    position: Position,
    visit: &mut impl FnMut(Record<'_>) -> Result<(), E>,
) -> Result<Position, E> {
    let mut walk = Walk::new(bytes, seed, position);
    while let Some((_, stored)) = walk.next() {
        visit(stored.record)?;
    }
    Ok(walk.position())
}

/// Whether the expected record is at a position, and its group with it.
pub(crate) fn goes_on(bytes: &[u8], seed: CrcSeed, position: Position) -> bool {
    Walk::new(bytes, seed, position).next().is_some()
}

/// The first position without the expected record from a position on, whatever group it is of:
/// where exactly a walk that ended at a position was stopped.
pub(crate) fn first_missing(bytes: &[u8], seed: CrcSeed, mut position: Position) -> Position {
    while let Some(stored) = expected_record(bytes, seed, position) {
        position = position.after(&stored);
    }
    position
}

/// The record at a position, if it is the one that belongs there. Whether its group is whole is not
/// looked at.
pub(crate) fn expected_record(
    bytes: &[u8],
    seed: CrcSeed,
    position: Position,
) -> Option<StoredRecord<'_>> {
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
