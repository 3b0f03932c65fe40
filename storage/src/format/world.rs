//! The world of a data directory: a random number that its `WORLD` file holds and its segments
//! repeat.
//!
//! ```text
//! WORLD     0       8       16      20    24      segment   96      104   108
//!           | magic | world | flags | crc |                 | world | crc |
//! ```
//!
//! So a log directory that was copied from another data directory is told from one of this. A
//! segment of an older program has zeros there and names no world, which is no objection to it. A
//! part that does not match its checksum names none either: it is not needed for reading.

use super::{Identity, put, read_u32, read_u64};

/// Bytes of the `WORLD` file.
pub(crate) const WORLD_BYTES: usize = 24;

const MAGIC: [u8; 8] = *b"\x8fFLUXWO\n";
const WORLD: usize = 8;
const FLAGS: usize = 16;
const CRC: usize = 20;
/// The flag that says that the control log was made.
const HAS_CONTROL: u32 = 1;

const SEGMENT_WORLD: usize = 96;
const SEGMENT_CRC: usize = 104;

const _: () = assert!(CRC + size_of::<u32>() == WORLD_BYTES);

/// The number of a world; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct World(pub(crate) u64);

/// What the `WORLD` file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorldFile {
    pub(crate) world: World,
    /// Whether the directory has had a control log.
    pub(crate) has_control: bool,
}

impl WorldFile {
    pub(crate) fn encode(self) -> [u8; WORLD_BYTES] {
        let mut bytes = [0; WORLD_BYTES];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, WORLD, self.world.0.to_le_bytes());
        let flags = if self.has_control { HAS_CONTROL } else { 0 };
        put(&mut bytes, FLAGS, flags.to_le_bytes());
        let crc = crc32fast::hash(bytes.split_at(CRC).0);
        put(&mut bytes, CRC, crc.to_le_bytes());
        bytes
    }

    /// `None` if the bytes are not whole.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let found = Self {
            world: World(read_u64(bytes, WORLD)?),
            has_control: read_u32(bytes, FLAGS)? & HAS_CONTROL != 0,
        };
        // Encoding the values again checks magic, flags and checksum at once.
        (found.encode() == *bytes && found.world.0 != 0).then_some(found)
    }
}

/// Writes the world's part into the first page of a segment of the log with this identity.
pub(crate) fn encode_in_segment(world: World, identity: Identity, page: &mut [u8]) {
    put(page, SEGMENT_WORLD, world.0.to_le_bytes());
    put(
        page,
        SEGMENT_CRC,
        segment_crc(world, identity).to_le_bytes(),
    );
}

/// The world that a segment's first page names, if it names one.
pub(crate) fn decode_in_segment(page: &[u8], identity: Identity) -> Option<World> {
    let world = World(read_u64(page, SEGMENT_WORLD)?);
    let is_whole = read_u32(page, SEGMENT_CRC)? == segment_crc(world, identity);
    (world.0 != 0 && is_whole).then_some(world)
}

fn segment_crc(world: World, identity: Identity) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&identity.0.to_le_bytes());
    hasher.update(&world.0.to_le_bytes());
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORLD: World = World(0x1122_3344_5566_7788);
    const GOLDEN_CRC: [u8; 4] = [0x24, 0xec, 0xe8, 0x9d];
    const GOLDEN_SEGMENT_CRC: [u8; 4] = [0xf6, 0x0c, 0x3c, 0xc7];

    #[test]
    fn a_world_file_has_these_bytes_and_no_changed_bit_is_believed() {
        let file = WorldFile {
            world: WORLD,
            has_control: true,
        };
        let mut expected = b"\x8fFLUXWO\n".to_vec();
        expected.extend([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 1, 0, 0, 0]);
        expected.extend(GOLDEN_CRC);
        assert_eq!(file.encode().as_slice(), expected);
        assert_eq!(WorldFile::decode(&expected), Some(file));
        for bit in 0..WORLD_BYTES * 8 {
            let mut changed = expected.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(WorldFile::decode(&changed), None, "bit {bit}");
        }
        assert_eq!(WorldFile::decode(&[0; WORLD_BYTES]), None);
        assert_eq!(WorldFile::decode(b""), None);
    }

    #[test]
    fn a_segment_names_its_world_in_these_bytes() {
        let mut page = [0; 128];
        assert_eq!(decode_in_segment(&page, Identity(6)), None, "an older one");
        encode_in_segment(WORLD, Identity(6), &mut page);
        let mut expected = vec![0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11];
        expected.extend(GOLDEN_SEGMENT_CRC);
        assert_eq!(page[96..108], expected);
        assert_eq!(decode_in_segment(&page, Identity(6)), Some(WORLD));
        assert_eq!(decode_in_segment(&page, Identity(7)), None);
    }
}
