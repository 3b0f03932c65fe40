//! The keys and places of the active segment's records, in memory.
//!
//! Kept in chunks of fixed size: noting a record never moves what was noted, and a snapshot shares the full chunks
//! and copies the last. A record takes [`NOTE_BYTES`] here and at least 32 bytes in its segment, so the notes of a
//! segment take at most three eighths of its size.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::IndexKey;
use crate::format::CrcSeed;
use crate::format::index::{Entry, Place};
use crate::recovery::{Position, expected_record};

/// Records of one chunk: 48 KiB, which a snapshot copies in a few microseconds and the allocator reuses.
const CHUNK_NOTES: usize = 4096;
/// Bytes of memory for one record.
const NOTE_BYTES: usize = size_of::<u64>() + size_of::<Place>();

const _: () = assert!(NOTE_BYTES == 12);

/// What was noted of a segment's records, in their order. A clone is a snapshot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes {
    full: Vec<Arc<Chunk>>,
    last: Chunk,
}

/// Keys and places apart, so that neither pads the other and a search reads only keys.
#[derive(Debug, Clone)]
struct Chunk {
    keys: Vec<u64>,
    places: Vec<Place>,
}

impl Default for Chunk {
    fn default() -> Self {
        Self {
            keys: Vec::with_capacity(CHUNK_NOTES),
            places: Vec::with_capacity(CHUNK_NOTES),
        }
    }
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.keys.len() == CHUNK_NOTES
    }
}

impl Notes {
    /// Notes the next record. Allocates once per chunk.
    pub(crate) fn note(&mut self, key: u64, offset: usize) {
        self.last.keys.push(key);
        self.last.places.push(Place::of(offset));
        if self.last.is_full() {
            self.full.push(Arc::new(std::mem::take(&mut self.last)));
        }
    }

    /// Notes the records in a segment's `bytes` from a position on; returns where they end.
    pub(crate) fn walk(
        bytes: &[u8],
        seed: CrcSeed,
        mut position: Position,
        key: IndexKey,
    ) -> (Self, Position) {
        let mut notes = Self::default();
        while let Some(stored) = expected_record(bytes, seed, position) {
            notes.note(key.of_record(&stored.record), position.offset);
            position.offset += stored.bytes;
            position.next = stored.record.sequence.next();
        }
        (notes, position)
    }

    pub(crate) fn len(&self) -> usize {
        self.full.len() * CHUNK_NOTES + self.last.keys.len()
    }

    /// Forgets the records from an offset on.
    pub(crate) fn cut(&mut self, end: usize) {
        let end = Place::of(end);
        while self.len() > 0 && self.place(self.len() - 1) >= end {
            self.pop();
        }
    }

    /// Forgets the last record.
    fn pop(&mut self) {
        if self.last.keys.is_empty()
            && let Some(chunk) = self.full.pop()
        {
            self.last = Arc::unwrap_or_clone(chunk);
        }
        self.last.keys.pop();
        self.last.places.pop();
    }

    /// The place of record number `index`, from 0.
    ///
    /// # Panics
    ///
    /// Where there is no such record.
    pub(crate) fn place(&self, index: usize) -> Place {
        let chunk = self
            .full
            .get(index / CHUNK_NOTES)
            .map_or(&self.last, AsRef::as_ref);
        chunk.places[index % CHUNK_NOTES]
    }

    /// The places before `below` of the records whose key is in `keys`, ascending.
    pub(crate) fn gather(&self, keys: &RangeInclusive<u64>, below: Place) -> Vec<Place> {
        let found = self.entries().filter(|entry| keys.contains(&entry.key));
        found
            .map(|entry| entry.place)
            .take_while(|&place| place < below)
            .collect()
    }

    /// What was noted, in the records' order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> {
        self.runs().flatten()
    }

    /// The same in runs of at most [`CHUNK_NOTES`].
    pub(crate) fn runs(&self) -> impl Iterator<Item = impl Iterator<Item = Entry>> {
        let chunks = self
            .full
            .iter()
            .map(AsRef::as_ref)
            .chain(std::iter::once(&self.last));
        chunks.map(|chunk| {
            let pairs = chunk.keys.iter().zip(&chunk.places);
            pairs.map(|(&key, &place)| Entry { key, place })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(count: usize) -> Notes {
        let mut notes = Notes::default();
        for number in 0..count {
            notes.note(number as u64 % 10, 4096 + number * 32);
        }
        notes
    }

    #[test]
    fn notes_come_back_in_order_across_chunks() {
        for count in [0, 1, CHUNK_NOTES - 1, CHUNK_NOTES, 3 * CHUNK_NOTES + 5] {
            let notes = notes(count);
            assert_eq!(notes.len(), count);
            assert_eq!(notes.entries().count(), count);
            for (number, entry) in notes.entries().enumerate() {
                assert_eq!(entry.place, notes.place(number));
                assert_eq!(entry.place.offset(), 4096 + number * 32);
            }
        }
    }

    #[test]
    fn a_search_gives_the_keys_in_range_below_a_place() {
        let notes = notes(CHUNK_NOTES + 100);
        let found = notes.gather(&(3..=4), Place::of(4096 + 25 * 32));
        let numbers: Vec<_> = found
            .iter()
            .map(|place| (place.offset() - 4096) / 32)
            .collect();
        assert_eq!(numbers, [3, 4, 13, 14, 23, 24]);
        assert_eq!(notes.gather(&(0..=u64::MAX), Place::END).len(), notes.len());
    }

    #[test]
    fn a_snapshot_shares_full_chunks_and_does_not_see_later_notes() {
        let mut notes = notes(2 * CHUNK_NOTES + 7);
        let snapshot = notes.clone();
        for _ in 0..CHUNK_NOTES {
            notes.note(1, 8);
        }
        assert_eq!(snapshot.len(), 2 * CHUNK_NOTES + 7);
        assert!(Arc::ptr_eq(&snapshot.full[0], &notes.full[0]));
        assert!(Arc::ptr_eq(&snapshot.full[1], &notes.full[1]));
    }

    #[test]
    fn what_is_forgotten_is_the_end() {
        let all = notes(2 * CHUNK_NOTES + 7);
        let end = all.len();
        for len in [end, end - 1, 2 * CHUNK_NOTES, 2 * CHUNK_NOTES - 1, 5, 0] {
            let mut notes = all.clone();
            notes.cut(4096 + len * 32);
            assert_eq!(notes.len(), len);
            assert!(notes.entries().eq(all.entries().take(len)), "{len}");
            notes.note(3, 8);
            assert_eq!(notes.len(), len + 1);
        }
        let mut notes = all;
        notes.cut(4096 + (end + 1) * 32);
        assert_eq!(notes.len(), end);
    }

    #[test]
    fn a_record_takes_twelve_bytes_of_memory() {
        let notes = notes(10 * CHUNK_NOTES);
        let bytes = |chunk: &Chunk| {
            chunk.keys.capacity() * size_of::<u64>() + chunk.places.capacity() * size_of::<Place>()
        };
        let full: usize = notes.full.iter().map(|chunk| bytes(chunk)).sum();
        assert_eq!(full, notes.len() * NOTE_BYTES);
        assert_eq!(
            bytes(&notes.last),
            CHUNK_NOTES * NOTE_BYTES,
            "one chunk ahead"
        );
    }
}
