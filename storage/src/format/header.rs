//! The first page of a segment: who it is, and where its records begin.
//!
//! ```text
//! 0    static part, written and durable before the segment has its name
//! 512  activation part, stored when the segment becomes active and durable with its first records
//! 4096 records
//! ```
//!
//! The two parts lie in different sectors, so that a torn write of the second never touches the
//! first. The activation part is a convenience: recovery derives the base sequence if the part is
//! torn.

use super::{CrcSeed, Identity, Salt, put, read_i64, read_u32, read_u64};
use crate::Sequence;

/// Bytes before the first record: one page, so that records and header are flushed apart.
pub(crate) const HEADER_BYTES: usize = 4096;
/// The version that this program writes, and the newest that it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// First bytes of every segment. Not text, and broken by a conversion of line ends.
const MAGIC: [u8; 8] = *b"\x8fFLUXLG\n";

const VERSION: usize = 8;
const HEADER_LEN: usize = 12;
const GENERATION: usize = 16;
const SHARD: usize = 20;
const SHARD_COUNT: usize = 24;
const ORDINAL: usize = 32;
const CAPACITY: usize = 40;
const SALT: usize = 48;
const CREATED: usize = 56;
const FIRST_SEQUENCE: usize = 64;
const IDENTITY: usize = 72;
const STATIC_CRC: usize = 80;
const STATIC_BYTES: usize = 84;

const ACTIVATION: usize = 512;
const ACTIVATION_BASE: usize = 0;
const ACTIVATION_DURABLE: usize = 8;
const ACTIVATION_CRC: usize = 16;
const ACTIVATION_BYTES: usize = 20;

const _: () = assert!(STATIC_BYTES <= ACTIVATION);
const _: () = assert!(ACTIVATION + ACTIVATION_BYTES <= HEADER_BYTES);

/// Which log a segment belongs to: a shard of a generation, or [`LogId::CONTROL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogId {
    pub(crate) generation: u32,
    pub(crate) shard: u32,
    pub(crate) shard_count: u32,
}

impl LogId {
    /// The control log, which is no shard's: generations and shard counts begin with 1.
    pub(crate) const CONTROL: Self = Self {
        generation: 0,
        shard: 0,
        shard_count: 0,
    };

    pub(crate) fn is_control(self) -> bool {
        self == Self::CONTROL
    }
}

/// The static part of a segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log: LogId,
    /// The segment's place in its log, from 1.
    pub(crate) ordinal: u64,
    /// Bytes of the file, header included.
    pub(crate) capacity: u64,
    pub(crate) salt: Salt,
    /// When the file was made, Unix microseconds; for people, nothing depends on it.
    pub(crate) created_micros: i64,
    /// The first sequence of the whole log, the same in each of its segments.
    pub(crate) first_sequence: Sequence,
    /// The same in each segment of a log, and in no other log.
    pub(crate) identity: Identity,
}

/// The activation part of a segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Activation {
    /// The sequence of the segment's first record.
    pub(crate) base: Sequence,
    /// The highest sequence that was durable at that moment.
    pub(crate) durable: Sequence,
}

/// Why a header was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Foreign,
    Newer(u32),
    Damaged,
}

impl SegmentHeader {
    /// Writes the static part into the first page of a segment.
    pub(crate) fn encode(&self, page: &mut [u8; HEADER_BYTES]) {
        put(page, 0, MAGIC);
        put(page, VERSION, FORMAT_VERSION.to_le_bytes());
        put(page, HEADER_LEN, 4096_u32.to_le_bytes());
        put(page, GENERATION, self.log.generation.to_le_bytes());
        put(page, SHARD, self.log.shard.to_le_bytes());
        put(page, SHARD_COUNT, self.log.shard_count.to_le_bytes());
        put(page, ORDINAL, self.ordinal.to_le_bytes());
        put(page, CAPACITY, self.capacity.to_le_bytes());
        put(page, SALT, self.salt.0.to_le_bytes());
        put(page, CREATED, self.created_micros.to_le_bytes());
        put(
            page,
            FIRST_SEQUENCE,
            self.first_sequence.get().to_le_bytes(),
        );
        put(page, IDENTITY, self.identity.0.to_le_bytes());
        let crc = crc32fast::hash(page.split_at(STATIC_CRC).0);
        put(page, STATIC_CRC, crc.to_le_bytes());
    }

    /// Reads the static part from the first page of a file.
    pub(crate) fn decode(page: &[u8; HEADER_BYTES]) -> Result<Self, HeaderFault> {
        let magic = page.first_chunk::<8>();
        if page.iter().all(|&byte| byte == 0) {
            return Err(HeaderFault::Damaged);
        }
        if magic != Some(&MAGIC) {
            return Err(HeaderFault::Foreign);
        }
        match read_u32(page, VERSION) {
            Some(version) if version > FORMAT_VERSION => return Err(HeaderFault::Newer(version)),
            Some(FORMAT_VERSION) => {}
            _ => return Err(HeaderFault::Damaged),
        }
        let crc = crc32fast::hash(page.split_at(STATIC_CRC).0);
        if read_u32(page, STATIC_CRC) != Some(crc) {
            return Err(HeaderFault::Damaged);
        }
        Self::fields(page).ok_or(HeaderFault::Damaged)
    }

    /// Whether a header of a newer version is one of this version whose version field was changed.
    pub(crate) fn is_ours_but_for_the_version(page: &[u8; HEADER_BYTES]) -> bool {
        let mut mended = *page;
        put(&mut mended, VERSION, FORMAT_VERSION.to_le_bytes());
        Self::decode(&mended).is_ok()
    }

    fn fields(page: &[u8; HEADER_BYTES]) -> Option<Self> {
        Some(Self {
            log: LogId {
                generation: read_u32(page, GENERATION)?,
                shard: read_u32(page, SHARD)?,
                shard_count: read_u32(page, SHARD_COUNT)?,
            },
            ordinal: read_u64(page, ORDINAL)?,
            capacity: read_u64(page, CAPACITY)?,
            salt: Salt(read_u64(page, SALT)?),
            created_micros: read_i64(page, CREATED)?,
            first_sequence: Sequence::new(read_u64(page, FIRST_SEQUENCE)?),
            identity: Identity(read_u64(page, IDENTITY)?),
        })
    }
}

impl Activation {
    /// Writes the activation part into a segment's header.
    pub(crate) fn encode(self, page: &mut [u8], seed: CrcSeed) {
        put(page, ACTIVATION, self.encoded(seed).1);
    }

    /// The offset of the activation part in a segment, and its bytes.
    pub(crate) fn encoded(self, seed: CrcSeed) -> (usize, [u8; ACTIVATION_BYTES]) {
        let mut part = [0; ACTIVATION_BYTES];
        put(&mut part, ACTIVATION_BASE, self.base.get().to_le_bytes());
        put(
            &mut part,
            ACTIVATION_DURABLE,
            self.durable.get().to_le_bytes(),
        );
        let crc = activation_crc(&part, seed);
        put(&mut part, ACTIVATION_CRC, crc.to_le_bytes());
        (ACTIVATION, part)
    }

    /// Reads the activation part; `None` if the segment was never active or the part is torn.
    pub(crate) fn decode(segment: &[u8], seed: CrcSeed) -> Option<Self> {
        let part = activation_bytes(segment)?;
        if read_u32(part, ACTIVATION_CRC)? != activation_crc(part, seed) {
            return None;
        }
        let base = Sequence::new(read_u64(part, ACTIVATION_BASE)?);
        Some(Self {
            base,
            durable: Sequence::new(read_u64(part, ACTIVATION_DURABLE)?),
        })
    }
}

/// The activation part's bytes: all zero until the segment becomes active.
pub(crate) fn activation_bytes(segment: &[u8]) -> Option<&[u8; ACTIVATION_BYTES]> {
    segment.get(ACTIVATION..)?.first_chunk()
}

/// The activation part's covered bytes and its checksum.
pub(crate) fn activation_checksum(part: &[u8; ACTIVATION_BYTES]) -> Option<(&[u8], u32)> {
    let (covered, _) = part.split_at_checked(ACTIVATION_CRC)?;
    Some((covered, read_u32(part, ACTIVATION_CRC)?))
}

/// The salt's bytes in a header that may be damaged.
pub(crate) fn peek_salt(page: &[u8]) -> Option<Salt> {
    read_u64(page, SALT).map(Salt)
}

/// The identity's bytes in a header that may be damaged.
pub(crate) fn peek_identity(page: &[u8]) -> Option<Identity> {
    read_u64(page, IDENTITY).map(Identity)
}

fn activation_crc(part: &[u8; ACTIVATION_BYTES], seed: CrcSeed) -> u32 {
    let mut hasher = seed.hasher();
    hasher.update(part.split_at(ACTIVATION_CRC).0);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SegmentHeader {
        SegmentHeader {
            log: LogId {
                generation: 1,
                shard: 2,
                shard_count: 3,
            },
            ordinal: 4,
            capacity: 8192,
            salt: Salt(0x1122_3344_5566_7788),
            created_micros: 1_700_000_000_000_000,
            first_sequence: Sequence::new(5),
            identity: Identity(6),
        }
    }

    fn sample_page() -> [u8; HEADER_BYTES] {
        let mut page = [0; HEADER_BYTES];
        sample().encode(&mut page);
        page
    }

    #[test]
    fn a_header_has_these_bytes() {
        let mut expected = b"\x8fFLUXLG\n".to_vec();
        expected.extend([
            1, 0, 0, 0, 0, 0x10, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0,
        ]);
        expected.extend([
            0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0,
        ]);
        expected.extend([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
        expected.extend([0x00, 0x40, 0x1e, 0x18, 0x24, 0x0a, 0x06, 0x00]);
        expected.extend([5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend(GOLDEN_STATIC_CRC);
        assert_eq!(sample_page()[..STATIC_BYTES], expected);
        assert!(sample_page()[STATIC_BYTES..].iter().all(|&byte| byte == 0));
    }

    const GOLDEN_STATIC_CRC: [u8; 4] = [0xb8, 0x63, 0x90, 0xe2];
    const GOLDEN_ACTIVATION_CRC: [u8; 4] = [0x57, 0x4e, 0xb4, 0x20];

    #[test]
    fn an_activation_has_these_bytes() {
        let mut page = sample_page();
        let activation = Activation {
            base: Sequence::new(300),
            durable: Sequence::new(2),
        };
        activation.encode(&mut page, sample().salt.seed());
        let mut expected = vec![0x2c, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        expected.extend(GOLDEN_ACTIVATION_CRC);
        assert_eq!(page[512..532], expected);
        assert_eq!(
            Activation::decode(&page, sample().salt.seed()),
            Some(activation)
        );
        assert_eq!(Activation::decode(&page, Salt(3).seed()), None);
        assert_eq!(SegmentHeader::decode(&page), Ok(sample()));
    }

    #[test]
    fn a_header_that_is_not_ours_is_told_apart() {
        let check = |offset: usize, value: u8, expected| {
            let mut page = sample_page();
            page[offset] = value;
            assert_eq!(SegmentHeader::decode(&page), Err(expected), "byte {offset}");
        };
        check(0, b'P', HeaderFault::Foreign);
        check(VERSION, 2, HeaderFault::Newer(2));
        check(VERSION, 0, HeaderFault::Damaged);
        check(ORDINAL, 9, HeaderFault::Damaged);
        check(28, 1, HeaderFault::Damaged);
        check(STATIC_CRC, 0xFF, HeaderFault::Damaged);
        assert_eq!(
            SegmentHeader::decode(&[0; HEADER_BYTES]),
            Err(HeaderFault::Damaged)
        );
    }
}
