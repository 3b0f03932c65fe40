//! The `HORIZON` file: what retention removed of a log. The name on disk is historical; in code the
//! value is the *log start*.
//!
//! ```text
//! 0     8          16           20      24            28
//! | magic | identity | generation | shard | shard count | zero |
//! 32              40               48     56    60
//! | first ordinal | first sequence | time | crc |
//! ```
//!
//! The file holds the same bytes twice, a sector apart, so that one bad sector leaves the other
//! copy. Unlike the watermark it is no hint: without it, a log whose first segments are missing is
//! refused.

use super::{Identity, put, read_i64, read_u32, read_u64};
use crate::Sequence;
use crate::format::header::LogId;
use crate::format::slot::{Owner, SLOT_COUNT, SLOT_STRIDE};

/// Bytes of one copy.
const COPY_BYTES: usize = 60;
/// Bytes of the file.
pub(crate) const LOG_START_BYTES: usize = SLOT_STRIDE * SLOT_COUNT;

const MAGIC: [u8; 8] = *b"\x8fFLUXHZ\n";
const IDENTITY: usize = 8;
const GENERATION: usize = 16;
const SHARD: usize = 20;
const SHARD_COUNT: usize = 24;
const FIRST_ORDINAL: usize = 32;
const FIRST_SEQUENCE: usize = 40;
const TIME: usize = 48;
const CRC: usize = 56;

const _: () = assert!(CRC + size_of::<u32>() == COPY_BYTES && COPY_BYTES <= SLOT_STRIDE);

/// Where a log begins, after retention removed what was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogStart {
    /// The first segment that was kept, or that would come next where none was.
    pub first_ordinal: u64,
    /// The first sequence that was kept; every one before it was removed.
    pub first_sequence: Sequence,
    /// No removed record is later than this, Unix microseconds. `i64::MIN` if no record was
    /// removed.
    pub time_micros: i64,
}

/// The bytes of the file.
pub(crate) fn encode(owner: Owner, log_start: LogStart) -> [u8; LOG_START_BYTES] {
    let mut copy = [0; COPY_BYTES];
    put(&mut copy, 0, MAGIC);
    put(&mut copy, IDENTITY, owner.identity.0.to_le_bytes());
    put(&mut copy, GENERATION, owner.log.generation.to_le_bytes());
    put(&mut copy, SHARD, owner.log.shard.to_le_bytes());
    put(&mut copy, SHARD_COUNT, owner.log.shard_count.to_le_bytes());
    put(
        &mut copy,
        FIRST_ORDINAL,
        log_start.first_ordinal.to_le_bytes(),
    );
    let first_sequence = log_start.first_sequence.get();
    put(&mut copy, FIRST_SEQUENCE, first_sequence.to_le_bytes());
    put(&mut copy, TIME, log_start.time_micros.to_le_bytes());
    let crc = crc32fast::hash(copy.split_at(CRC).0);
    put(&mut copy, CRC, crc.to_le_bytes());

    let mut file = [0; LOG_START_BYTES];
    put(&mut file, 0, copy);
    put(&mut file, SLOT_STRIDE, copy);
    file
}

/// What the file says and of which log, or `None` if neither copy is whole.
pub(crate) fn decode(file: &[u8]) -> Option<(Owner, LogStart)> {
    file.chunks(SLOT_STRIDE)
        .take(SLOT_COUNT)
        .find_map(decode_copy)
}

fn decode_copy(bytes: &[u8]) -> Option<(Owner, LogStart)> {
    let copy = bytes.first_chunk::<COPY_BYTES>()?;
    let owner = Owner {
        log: LogId {
            generation: read_u32(copy, GENERATION)?,
            shard: read_u32(copy, SHARD)?,
            shard_count: read_u32(copy, SHARD_COUNT)?,
        },
        identity: Identity(read_u64(copy, IDENTITY)?),
    };
    let log_start = LogStart {
        first_ordinal: read_u64(copy, FIRST_ORDINAL)?,
        first_sequence: Sequence::new(read_u64(copy, FIRST_SEQUENCE)?),
        time_micros: read_i64(copy, TIME)?,
    };
    // Encoding what it would have to be checks magic, zeros and checksum at once.
    encode(owner, log_start)
        .starts_with(copy)
        .then_some((owner, log_start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner {
        log: LogId {
            generation: 1,
            shard: 2,
            shard_count: 3,
        },
        identity: Identity(0x1122_3344_5566_7788),
    };
    const LOG_START: LogStart = LogStart {
        first_ordinal: 5,
        first_sequence: Sequence::new(300),
        time_micros: -2,
    };
    const GOLDEN_CRC: [u8; 4] = [0x32, 0x94, 0x5b, 0xfb];

    #[test]
    fn a_horizon_has_these_bytes_twice() {
        let mut expected = b"\x8fFLUXHZ\n".to_vec();
        expected.extend([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
        expected.extend([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([5, 0, 0, 0, 0, 0, 0, 0, 0x2c, 1, 0, 0, 0, 0, 0, 0]);
        expected.extend([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        expected.extend(GOLDEN_CRC);
        expected.resize(512, 0);
        expected.extend_from_within(..);
        assert_eq!(
            encode(OWNER, LOG_START)[..COPY_BYTES],
            expected[..COPY_BYTES]
        );
        assert!(encode(OWNER, LOG_START).as_slice() == expected);
    }

    #[test]
    fn one_whole_copy_is_enough_and_no_changed_bit_is_believed() {
        let file = encode(OWNER, LOG_START);
        for index in 0..COPY_BYTES * 8 {
            let mut changed = file;
            changed[index / 8] ^= 1 << (index % 8);
            assert_eq!(decode(&changed), Some((OWNER, LOG_START)), "bit {index}");
            changed[SLOT_STRIDE + index / 8] ^= 1 << (index % 8);
            assert_eq!(decode(&changed), None, "bit {index}");
        }
        for len in 0..COPY_BYTES {
            assert_eq!(decode(&file[..len]), None, "{len}");
        }
    }
}
