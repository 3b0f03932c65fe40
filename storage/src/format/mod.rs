//! The bytes on disk, as `FORMAT.md` draws them.
//!
//! | file | |
//! | --- | --- |
//! | `header` | the first page of a segment |
//! | `record` | one record |
//! | `gap` | a record that stands for lost ones |
//! | `group` | a record's place in its group |
//! | `walk` | the records of a segment, one after the other |
//! | `world` | the `WORLD` file, and its part in a segment |
//! | `slot` | one slot of the `DURABLE` file |
//! | `log_start` | the `HORIZON` file |
//! | `index` | the history index of a segment |
//! | `layer` | the ends of a checkpoint's layer |
//!
//! Encoding and decoding only: nothing here reads a file, and decoding trusts nothing in the bytes.
//! Every number is little-endian.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub(crate) mod gap;
pub(crate) mod group;
pub(crate) mod header;
pub(crate) mod index;
pub(crate) mod layer;
pub(crate) mod log_start;
pub(crate) mod record;
pub(crate) mod slot;
pub(crate) mod walk;
pub(crate) mod world;

/// A segment's random number. Every checksum in the segment starts from it, so that bytes which
/// another segment left behind are never taken for this one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Salt(pub(crate) u64);

impl Salt {
    /// The checksum that the segment's other checksums continue.
    pub(crate) fn seed(self) -> CrcSeed {
        CrcSeed(crc32fast::hash(&self.0.to_le_bytes()))
    }
}

/// A log's random number, the same in each of its segments and in its watermark file, so that a
/// file of another data directory is not taken for one of this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(pub(crate) u64);

/// The CRC-32 of a segment's salt: the state that the checksums of its records and activation start
/// from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CrcSeed(u32);

impl CrcSeed {
    /// The seed that is this checksum, if it was derived from the segment's others.
    pub(crate) fn from_crc(crc: u32) -> Self {
        Self(crc)
    }

    fn hasher(self) -> crc32fast::Hasher {
        crc32fast::Hasher::new_with_initial(self.0)
    }
}

/// The `N` bytes at `offset`, if there are so many.
fn read<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk::<N>().copied()
}

fn read_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    read(bytes, offset).map(u32::from_le_bytes)
}

fn read_u64(bytes: &[u8], offset: usize) -> Option<u64> {
    read(bytes, offset).map(u64::from_le_bytes)
}

fn read_i64(bytes: &[u8], offset: usize) -> Option<i64> {
    read(bytes, offset).map(i64::from_le_bytes)
}

/// Stores a field.
///
/// # Panics
///
/// If the field does not lie inside `bytes`; offsets and buffers are both constants of this module.
fn put<const N: usize>(bytes: &mut [u8], offset: usize, value: [u8; N]) {
    let field = bytes
        .get_mut(offset..)
        .and_then(|rest| rest.first_chunk_mut::<N>());
    *field.expect("every field lies inside its structure") = value;
}
