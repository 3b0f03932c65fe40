//! The history index of a closed segment: bytes ↔ head, table and entries, nothing else.
//!
//! ```text
//! 0       8         12       16         24     32        40     48     56      64    68
//! | magic | version | scheme | identity | salt | ordinal | base | next | count | latest i64 |
//!
//! 72    76     80
//! | crc | zero |
//!
//! 80                              80 + 24 rows
//! | row | row | ... one per block | block 0: 256 entries | block 1 | ... | the last, shorter |
//!
//! row:   | first key u64 | crc of the block u32 | mark u32 | earliest i64 |
//! entry: | key u64 | place u32 |        ascending by key, then by place
//! ```
//!
//! A *place* is a record's offset in its segment, divided by 8. The *mark* of row `i` is the place
//! of the segment's record number `256 i`: it leads from a sequence to a record without reading all
//! before it. *Earliest* is the earliest time of the 256 records from the mark on, *latest* the
//! latest time of the segment. Times may fall within a segment, so neither follows from one record.
//!
//! `crc` covers the salt, the head before it and the table; a block's covers the salt and the
//! block. So a look-up checks what it reads and no more. The file is a cache: what does not check
//! out, or is of another version, is made anew.

use super::record::RECORD_ALIGN;
use super::{CrcSeed, Identity, Salt, put, read_i64, read_u32, read_u64};
use crate::Sequence;

/// Bytes before the table.
pub(crate) const INDEX_HEAD_BYTES: usize = 80;
/// Bytes of a row of the table.
pub(crate) const ROW_BYTES: usize = 24;
/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: usize = 12;
/// Entries in every block but the last, and records from mark to mark: a block is what a look-up
/// reads at least, and a row of 24 bytes for 256 records is what it reads of every segment.
pub(crate) const BLOCK_ENTRIES: usize = 256;

/// Version 1 had no times.
const INDEX_VERSION: u32 = 2;
const MAGIC: [u8; 8] = *b"\x8fFLUXIX\n";
const VERSION: usize = 8;
const SCHEME: usize = 12;
const IDENTITY: usize = 16;
const SALT: usize = 24;
const ORDINAL: usize = 32;
const BASE: usize = 40;
const NEXT: usize = 48;
const COUNT: usize = 56;
const LATEST: usize = 64;
const CRC: usize = 72;

const _: () = assert!(CRC + size_of::<u32>() <= INDEX_HEAD_BYTES);
const _: () = assert!(ENTRY_BYTES == size_of::<u64>() + size_of::<u32>());

/// Which segment an index is of, and by which keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexHead {
    /// The number of the function that made the keys.
    pub(crate) scheme: u32,
    pub(crate) identity: Identity,
    pub(crate) salt: Salt,
    pub(crate) ordinal: u64,
    /// The sequence that the segment begins with.
    pub(crate) base: Sequence,
    /// The sequence after its last record.
    pub(crate) next: Sequence,
    /// Records in it, and so entries.
    pub(crate) count: u64,
    /// The latest time of a record in it, Unix microseconds; `i64::MIN` if there is none.
    pub(crate) latest_micros: i64,
}

/// What the table says of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// The key of the block's first entry.
    pub(crate) first_key: u64,
    pub(crate) crc: u32,
    /// The place of the segment's record with this row's number times [`BLOCK_ENTRIES`].
    pub(crate) mark: Place,
    /// The earliest time of the records from the mark to the next, Unix microseconds.
    pub(crate) earliest_micros: i64,
}

/// Where a record begins in its segment, in units of [`RECORD_ALIGN`]. Ascends with the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u32);

/// One record's key and place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) key: u64,
    pub(crate) place: Place,
}

impl Place {
    /// After every record.
    pub(crate) const END: Self = Self(u32::MAX);

    /// The place at an offset. No segment is as large as [`Place::END`] says; one that were would
    /// have records there that no look-up finds, and that is told as damage.
    pub(crate) fn of(offset: usize) -> Self {
        u32::try_from(offset / RECORD_ALIGN).map_or(Self::END, Self)
    }

    /// The offset in bytes.
    pub(crate) fn offset(self) -> usize {
        (self.0 as usize).saturating_mul(RECORD_ALIGN)
    }
}

impl IndexHead {
    /// The head's bytes, with the checksum that the table's bytes give it.
    pub(crate) fn encode(&self, table: &[u8]) -> [u8; INDEX_HEAD_BYTES] {
        let mut head = [0; INDEX_HEAD_BYTES];
        put(&mut head, 0, MAGIC);
        put(&mut head, VERSION, INDEX_VERSION.to_le_bytes());
        put(&mut head, SCHEME, self.scheme.to_le_bytes());
        put(&mut head, IDENTITY, self.identity.0.to_le_bytes());
        put(&mut head, SALT, self.salt.0.to_le_bytes());
        put(&mut head, ORDINAL, self.ordinal.to_le_bytes());
        put(&mut head, BASE, self.base.get().to_le_bytes());
        put(&mut head, NEXT, self.next.get().to_le_bytes());
        put(&mut head, COUNT, self.count.to_le_bytes());
        put(&mut head, LATEST, self.latest_micros.to_le_bytes());
        let mut hasher = self.salt.seed().hasher();
        hasher.update(head.split_at(CRC).0);
        hasher.update(table);
        put(&mut head, CRC, hasher.finalize().to_le_bytes());
        head
    }

    /// What a head says, unchecked: [`IndexHead::checks_out`] tells once the table is read.
    pub(crate) fn decode(head: &[u8; INDEX_HEAD_BYTES]) -> Option<Self> {
        let known = head.first_chunk() == Some(&MAGIC) && read_u32(head, VERSION)? == INDEX_VERSION;
        known.then_some(())?;
        Some(Self {
            scheme: read_u32(head, SCHEME)?,
            identity: Identity(read_u64(head, IDENTITY)?),
            salt: Salt(read_u64(head, SALT)?),
            ordinal: read_u64(head, ORDINAL)?,
            base: Sequence::new(read_u64(head, BASE)?),
            next: Sequence::new(read_u64(head, NEXT)?),
            count: read_u64(head, COUNT)?,
            latest_micros: read_i64(head, LATEST)?,
        })
    }

    /// Whether these are the bytes of this head with this table.
    pub(crate) fn checks_out(&self, head: &[u8; INDEX_HEAD_BYTES], table: &[u8]) -> bool {
        *head == self.encode(table)
    }

    /// Rows of the table, and bytes of the whole file; `None` if no file is that large.
    pub(crate) fn sizes(&self) -> Option<(usize, u64)> {
        let count = usize::try_from(self.count).ok()?;
        let rows = count.div_ceil(BLOCK_ENTRIES);
        let table = rows.checked_mul(ROW_BYTES)?;
        let entries = count.checked_mul(ENTRY_BYTES)?;
        let bytes = entries.checked_add(table)?.checked_add(INDEX_HEAD_BYTES)?;
        Some((rows, bytes as u64))
    }
}

impl Row {
    pub(crate) fn encode(self) -> [u8; ROW_BYTES] {
        let mut row = [0; ROW_BYTES];
        put(&mut row, 0, self.first_key.to_le_bytes());
        put(&mut row, 8, self.crc.to_le_bytes());
        put(&mut row, 12, self.mark.0.to_le_bytes());
        put(&mut row, 16, self.earliest_micros.to_le_bytes());
        row
    }

    /// The rows of a table.
    pub(crate) fn decode_all(table: &[u8]) -> Vec<Self> {
        let (rows, _) = table.as_chunks::<ROW_BYTES>();
        let fields = |row: &[u8; ROW_BYTES]| {
            Some(Self {
                first_key: read_u64(row, 0)?,
                crc: read_u32(row, 8)?,
                mark: Place(read_u32(row, 12)?),
                earliest_micros: read_i64(row, 16)?,
            })
        };
        rows.iter().filter_map(fields).collect()
    }
}

impl Entry {
    pub(crate) fn encode(self) -> [u8; ENTRY_BYTES] {
        let mut entry = [0; ENTRY_BYTES];
        put(&mut entry, 0, self.key.to_le_bytes());
        put(&mut entry, 8, self.place.0.to_le_bytes());
        entry
    }

    /// The entries of a block.
    pub(crate) fn decode_all(block: &[u8]) -> impl Iterator<Item = Self> {
        let (entries, _) = block.as_chunks::<ENTRY_BYTES>();
        entries.iter().filter_map(|entry| {
            Some(Self {
                key: read_u64(entry, 0)?,
                place: Place(read_u32(entry, 8)?),
            })
        })
    }
}

/// The checksum of a block of entries.
pub(crate) fn block_crc(seed: CrcSeed, block: &[u8]) -> u32 {
    let mut hasher = seed.hasher();
    hasher.update(block);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> IndexHead {
        IndexHead {
            scheme: 2,
            identity: Identity(3),
            salt: Salt(0x1122_3344_5566_7788),
            ordinal: 4,
            base: Sequence::new(300),
            next: Sequence::new(557),
            count: 257,
            latest_micros: -2,
        }
    }

    #[test]
    fn an_index_head_has_these_bytes() {
        let mut expected = b"\x8fFLUXIX\n".to_vec();
        expected.extend([2, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
        expected.extend([
            4, 0, 0, 0, 0, 0, 0, 0, 0x2c, 1, 0, 0, 0, 0, 0, 0, 0x2d, 2, 0, 0, 0, 0, 0, 0,
        ]);
        expected.extend([1, 1, 0, 0, 0, 0, 0, 0]);
        expected.extend([0xfe, 255, 255, 255, 255, 255, 255, 255]);
        expected.extend(GOLDEN_CRC);
        expected.extend([0; 4]);
        assert_eq!(sample().encode(b"table").as_slice(), expected);
        assert_eq!(sample().sizes(), Some((2, 80 + 2 * 24 + 257 * 12)));
    }

    const GOLDEN_CRC: [u8; 4] = [0x88, 0x31, 0xb2, 0xfc];

    #[test]
    fn rows_and_entries_come_back() {
        let row = Row {
            first_key: u64::MAX - 1,
            crc: 7,
            mark: Place(512),
            earliest_micros: -3,
        };
        let entry = Entry {
            key: 1 << 40,
            place: Place(9),
        };
        assert_eq!(Row::decode_all(&row.encode()), [row]);
        assert_eq!(
            row.encode(),
            [
                254, 255, 255, 255, 255, 255, 255, 255, 7, 0, 0, 0, 0, 2, 0, 0, 253, 255, 255, 255,
                255, 255, 255, 255
            ]
        );
        assert_eq!(
            Entry::decode_all(&entry.encode()).collect::<Vec<_>>(),
            [entry]
        );
        assert_eq!(entry.encode(), [0, 0, 0, 0, 0, 1, 0, 0, 9, 0, 0, 0]);
    }

    #[test]
    fn every_changed_bit_of_a_head_or_its_table_is_noticed() {
        let whole = [sample().encode(b"table").as_slice(), b"table"].concat();
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let (head, table) = changed.split_first_chunk().unwrap();
            let accepted = IndexHead::decode(head)
                .is_some_and(|found| found == sample() && found.checks_out(head, table));
            assert!(!accepted, "bit {bit}");
        }
    }

    #[test]
    fn a_count_that_no_file_has_gives_no_sizes() {
        let absurd = IndexHead {
            count: u64::MAX,
            ..sample()
        };
        assert_eq!(absurd.sizes(), None);
    }
}
