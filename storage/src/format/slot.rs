//! One slot of the `DURABLE` watermark file: how far a log is known to be durable.
//!
//! ```text
//! 0     8          16           20      24         32    36
//! | magic | identity | generation | shard | sequence | crc |
//! ```
//!
//! `identity` is the log's, as in the headers of its segments, so that a file from another data
//! directory says nothing here. A slot that does not check out in every field is no slot; the file
//! is a hint.

use super::{Identity, put, read_u32, read_u64};
use crate::Sequence;
use crate::format::header::LogId;

/// Bytes of one slot.
pub(crate) const SLOT_BYTES: usize = 36;
/// Bytes from one slot to the next: a sector, so that a torn write leaves the other slot whole.
pub(crate) const SLOT_STRIDE: usize = 512;
/// Slots, written in turn.
pub(crate) const SLOT_COUNT: usize = 2;
/// Bytes of the watermark file.
pub(crate) const WATERMARK_BYTES: usize = SLOT_STRIDE * SLOT_COUNT;

const MAGIC: [u8; 8] = *b"\x8fFLUXDU\n";
const IDENTITY: usize = 8;
const GENERATION: usize = 16;
const SHARD: usize = 20;
const SEQUENCE: usize = 24;
const CRC: usize = 32;

const _: () = assert!(CRC + size_of::<u32>() == SLOT_BYTES);

/// One log of all logs anywhere: what its other files name, so that a copy of another's is not
/// taken for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub(crate) log: LogId,
    pub(crate) identity: Identity,
}

/// The bytes of a slot that says `sequence` is durable.
pub(crate) fn encode(owner: Owner, sequence: Sequence) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    put(&mut slot, 0, MAGIC);
    put(&mut slot, IDENTITY, owner.identity.0.to_le_bytes());
    put(&mut slot, GENERATION, owner.log.generation.to_le_bytes());
    put(&mut slot, SHARD, owner.log.shard.to_le_bytes());
    put(&mut slot, SEQUENCE, sequence.get().to_le_bytes());
    let crc = crc32fast::hash(slot.split_at(CRC).0);
    put(&mut slot, CRC, crc.to_le_bytes());
    slot
}

/// What the slot at the start of `bytes` says of `owner`'s log, or `None` if it says nothing.
pub(crate) fn decode(bytes: &[u8], owner: Owner) -> Option<Sequence> {
    let slot = bytes.first_chunk::<SLOT_BYTES>()?;
    let sequence = Sequence::new(read_u64(slot, SEQUENCE)?);
    // Encoding what it would have to be checks magic, owner and checksum at once.
    (*slot == encode(owner, sequence)).then_some(sequence)
}

/// The identity in a slot whose checksum holds, whosever it is.
pub(crate) fn stated_identity(bytes: &[u8]) -> Option<Identity> {
    let slot = bytes.first_chunk::<SLOT_BYTES>()?;
    let crc = crc32fast::hash(slot.split_at(CRC).0);
    let is_whole = slot.starts_with(&MAGIC) && read_u32(slot, CRC) == Some(crc);
    is_whole.then(|| read_u64(slot, IDENTITY).map(Identity))?
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

    #[test]
    fn a_slot_has_these_bytes() {
        let mut expected = b"\x8fFLUXDU\n".to_vec();
        expected.extend([
            0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 1, 0, 0, 0, 2, 0, 0, 0,
        ]);
        expected.extend([0x2c, 1, 0, 0, 0, 0, 0, 0]);
        expected.extend(GOLDEN_CRC);
        assert_eq!(encode(OWNER, Sequence::new(300)).as_slice(), expected);
    }

    const GOLDEN_CRC: [u8; 4] = [0x6b, 0xa6, 0x66, 0xb1];

    #[test]
    fn a_slot_of_another_log_or_with_a_changed_bit_says_nothing() {
        let slot = encode(OWNER, Sequence::new(300));
        assert_eq!(decode(&slot, OWNER), Some(Sequence::new(300)));
        assert_eq!(
            decode(
                &slot,
                Owner {
                    identity: Identity(9),
                    ..OWNER
                }
            ),
            None
        );
        for index in 0..SLOT_BYTES * 8 {
            let mut changed = slot;
            changed[index / 8] ^= 1 << (index % 8);
            assert_eq!(decode(&changed, OWNER), None, "bit {index}");
        }
    }
}
