//! The keys and places of the active segment's records, and the range of their times, in memory.
//!
//! Kept in chunks of fixed size: noting a record never moves what was noted, and a snapshot shares
//! the full chunks and copies the last. A record takes [`KEY_BYTES`] here and at least 32 bytes in
//! its segment, so the notes of a segment take at most three eighths of its size.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::IndexKey;
use crate::disk::segment_file::TimeRange;
use crate::format::CrcSeed;
use crate::format::index::{BLOCK_ENTRIES, Entry, Place};
use crate::format::walk::{Position, Walk};

/// Records of one chunk: 48 KiB, which a snapshot copies in a few microseconds and the allocator
/// reuses.
const CHUNK_RECORDS: usize = 4096;
/// Bytes of memory for one record.
const KEY_BYTES: usize = size_of::<u64>() + size_of::<Place>();

const _: () = assert!(KEY_BYTES == 12);

/// What was noted of a segment's records, in their order. A clone is a snapshot.
#[derive(Debug, Clone, Default)]
pub(crate) struct IndexBuilder {
    full: Vec<Arc<Chunk>>,
    last: Chunk,
    /// For each [`BLOCK_ENTRIES`] records the earliest time. A record that was forgotten may have
    /// been the earliest: a time may be too early, never too late.
    earliest_micros: Vec<i64>,
    /// The latest time; for the same reason it may be too late, never too early. 0 means nothing
    /// while there is no record.
    latest_micros: i64,
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
            keys: Vec::with_capacity(CHUNK_RECORDS),
            places: Vec::with_capacity(CHUNK_RECORDS),
        }
    }
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.keys.len() == CHUNK_RECORDS
    }
}

impl IndexBuilder {
    /// Adds the next record. Allocates once per chunk.
    pub(crate) fn push(&mut self, key: u64, offset: usize, time_micros: i64) {
        self.push_time(time_micros);
        self.last.keys.push(key);
        self.last.places.push(Place::of(offset));
        if self.last.is_full() {
            self.full.push(Arc::new(std::mem::take(&mut self.last)));
        }
    }

    /// Adds the records in a segment's `bytes` from a position on; returns where they end.
    pub(crate) fn walk(
        bytes: &[u8],
        seed: CrcSeed,
        position: Position,
        key: IndexKey,
    ) -> (Self, Position) {
        let mut builder = Self::default();
        let mut walk = Walk::new(bytes, seed, position);
        while let Some((offset, stored)) = walk.next() {
            let time_micros = stored.record.time_micros;
            builder.push(key.of_record(&stored.record), offset, time_micros);
        }
        (builder, walk.position())
    }

    pub(crate) fn len(&self) -> usize {
        self.full.len() * CHUNK_RECORDS + self.last.keys.len()
    }

    /// Forgets the records from an offset on.
    pub(crate) fn cut(&mut self, end: usize) {
        let end = Place::of(end);
        while self.len() > 0 && self.place(self.len() - 1) >= end {
            self.pop();
        }
        let blocks = self.len().div_ceil(BLOCK_ENTRIES);
        self.earliest_micros.truncate(blocks);
    }

    fn push_time(&mut self, time_micros: i64) {
        let len = self.len();
        self.latest_micros = if len == 0 {
            time_micros
        } else {
            self.latest_micros.max(time_micros)
        };
        match self.earliest_micros.get_mut(len / BLOCK_ENTRIES) {
            Some(earliest) => *earliest = time_micros.min(*earliest),
            None => self.earliest_micros.push(time_micros),
        }
    }

    /// The earliest time of the records from number `block` times [`BLOCK_ENTRIES`] on, at the
    /// latest.
    pub(crate) fn earliest_micros(&self, block: usize) -> i64 {
        self.earliest_micros.get(block).copied().unwrap_or(i64::MAX)
    }

    /// The times of all records lie in this.
    pub(crate) fn times(&self) -> TimeRange {
        if self.len() == 0 {
            return TimeRange::EMPTY;
        }
        let earliest = self.earliest_micros.iter().copied();
        TimeRange {
            earliest_micros: earliest.min().unwrap_or(i64::MIN),
            latest_micros: self.latest_micros,
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
    /// If there is no such record.
    pub(crate) fn place(&self, index: usize) -> Place {
        let chunk = self
            .full
            .get(index / CHUNK_RECORDS)
            .map_or(&self.last, AsRef::as_ref);
        chunk.places[index % CHUNK_RECORDS]
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

    /// The same in runs of at most [`CHUNK_RECORDS`].
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

    fn filled(count: usize) -> IndexBuilder {
        let mut builder = IndexBuilder::default();
        for number in 0..count {
            builder.push(number as u64 % 10, 4096 + number * 32, 0);
        }
        builder
    }

    #[test]
    fn notes_come_back_in_order_across_chunks() {
        for count in [
            0,
            1,
            CHUNK_RECORDS - 1,
            CHUNK_RECORDS,
            3 * CHUNK_RECORDS + 5,
        ] {
            let builder = filled(count);
            assert_eq!(builder.len(), count);
            assert_eq!(builder.entries().count(), count);
            for (number, entry) in builder.entries().enumerate() {
                assert_eq!(entry.place, builder.place(number));
                assert_eq!(entry.place.offset(), 4096 + number * 32);
            }
        }
    }

    #[test]
    fn a_search_gives_the_keys_in_range_below_a_place() {
        let builder = filled(CHUNK_RECORDS + 100);
        let found = builder.gather(&(3..=4), Place::of(4096 + 25 * 32));
        let numbers: Vec<_> = found
            .iter()
            .map(|place| (place.offset() - 4096) / 32)
            .collect();
        assert_eq!(numbers, [3, 4, 13, 14, 23, 24]);
        assert_eq!(
            builder.gather(&(0..=u64::MAX), Place::END).len(),
            builder.len()
        );
    }

    #[test]
    fn a_snapshot_shares_full_chunks_and_does_not_see_later_notes() {
        let mut builder = filled(2 * CHUNK_RECORDS + 7);
        let snapshot = builder.clone();
        for _ in 0..CHUNK_RECORDS {
            builder.push(1, 8, 0);
        }
        assert_eq!(snapshot.len(), 2 * CHUNK_RECORDS + 7);
        assert!(Arc::ptr_eq(&snapshot.full[0], &builder.full[0]));
        assert!(Arc::ptr_eq(&snapshot.full[1], &builder.full[1]));
    }

    #[test]
    fn what_is_forgotten_is_the_end() {
        let all = filled(2 * CHUNK_RECORDS + 7);
        let end = all.len();
        for len in [end, end - 1, 2 * CHUNK_RECORDS, 2 * CHUNK_RECORDS - 1, 5, 0] {
            let mut builder = all.clone();
            builder.cut(4096 + len * 32);
            assert_eq!(builder.len(), len);
            assert!(builder.entries().eq(all.entries().take(len)), "{len}");
            builder.push(3, 8, 0);
            assert_eq!(builder.len(), len + 1);
        }
        let mut builder = all;
        builder.cut(4096 + (end + 1) * 32);
        assert_eq!(builder.len(), end);
    }

    #[test]
    fn times_are_the_earliest_of_each_block_and_the_range_of_all() {
        let mut builder = IndexBuilder::default();
        assert_eq!(builder.times(), TimeRange::EMPTY);
        for number in 0..3 * BLOCK_ENTRIES {
            let time = i64::try_from(number).unwrap();
            // One in the second block is far too late, one in the third too early.
            let time = match number {
                300 => 1_000_000,
                600 => 100,
                _ => 1000 + time,
            };
            builder.push(1, 4096 + number * 32, time);
        }
        let earliest: Vec<i64> = (0..4).map(|block| builder.earliest_micros(block)).collect();
        assert_eq!(earliest, [1000, 1256, 100, i64::MAX]);
        let times = |earliest_micros, latest_micros| TimeRange {
            earliest_micros,
            latest_micros,
        };
        assert_eq!(builder.times(), times(100, 1_000_000));
        // What is forgotten may leave its time behind, but no block.
        builder.cut(4096 + 2 * BLOCK_ENTRIES * 32);
        assert_eq!(builder.times(), times(1000, 1_000_000));
        builder.cut(0);
        assert_eq!(builder.times(), TimeRange::EMPTY);
        builder.push(1, 8, -5);
        assert_eq!(builder.times(), times(-5, -5));
    }

    #[test]
    fn a_record_takes_twelve_bytes_of_memory() {
        let builder = filled(10 * CHUNK_RECORDS);
        let bytes = |chunk: &Chunk| {
            chunk.keys.capacity() * size_of::<u64>() + chunk.places.capacity() * size_of::<Place>()
        };
        let full: usize = builder.full.iter().map(|chunk| bytes(chunk)).sum();
        assert_eq!(full, builder.len() * KEY_BYTES);
        assert_eq!(
            bytes(&builder.last),
            CHUNK_RECORDS * KEY_BYTES,
            "one chunk ahead"
        );
    }
}
