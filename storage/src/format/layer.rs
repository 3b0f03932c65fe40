//! The fixed ends of a layer file: its identity, and where its footer lies.
//!
//! ```text
//! header    0       8         12           16            24
//!           | magic | version | header len | fingerprint | number |
//!           32         40          48     60    64
//!           | identity | hash salt | zero | crc |
//! trailer   0       8               16           24         32
//!           | magic | footer offset | footer len | file len | identity |
//!           40           44    48
//!           | footer crc | crc |
//! ```
//!
//! The fingerprint stands for the layout of everything between the two, which rkyv decides together
//! with the types: bytes of another layout are refused before any of them is read.

use super::{Identity, put, read_u32, read_u64};
use crate::error::{LayerFault, LayerPart};

/// Bytes before the first block.
pub(crate) const LAYER_HEADER_BYTES: usize = 64;
/// Bytes after the footer and its padding.
pub(crate) const LAYER_TRAILER_BYTES: usize = 48;
/// The version that this program writes, and the newest that it reads.
pub(crate) const LAYER_VERSION: u32 = 1;

const HEADER_MAGIC: [u8; 8] = *b"\x8fFLUXLA\n";
const TRAILER_MAGIC: [u8; 8] = *b"\x8fFLUXLE\n";
/// What decides the bytes between header and trailer. A change of any of it changes the
/// fingerprint.
const LAYOUT: &[u8] = b"rkyv 0.8, little-endian, aligned, 32-bit relative pointers; \
    entity: version u64, time i64, sequence u64, id box str, body option box str; block: vec entity; \
    footer: records u64, tombstones u64, index offset u64, blocks vec (offset u64, len u32, crc u32), \
    first ids vec box str, page crcs vec u32; \
    index: pages 4096, buckets 8, entry fingerprint 22, slot 10, block 32; id hash: fold 1";
/// The fingerprint of this program's layout.
pub(crate) const LAYER_FINGERPRINT: u64 = fingerprint(LAYOUT);

const VERSION: usize = 8;
const HEADER_LEN: usize = 12;
const FINGERPRINT: usize = 16;
const NUMBER: usize = 24;
const IDENTITY: usize = 32;
const HASH_SALT: usize = 40;
const HEADER_CRC: usize = 60;

const FOOTER_OFFSET: usize = 8;
const FOOTER_LEN: usize = 16;
const FILE_LEN: usize = 24;
const TRAILER_IDENTITY: usize = 32;
const FOOTER_CRC: usize = 40;
const TRAILER_CRC: usize = 44;

const _: () = assert!(HEADER_CRC + size_of::<u32>() == LAYER_HEADER_BYTES);
const _: () = assert!(TRAILER_CRC + size_of::<u32>() == LAYER_TRAILER_BYTES);

/// FNV-1a of a text that describes a layout.
pub(crate) const fn fingerprint(mut text: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    while let [byte, rest @ ..] = text {
        hash = (hash ^ *byte as u64).wrapping_mul(0x0000_0100_0000_01b3);
        text = rest;
    }
    hash
}

/// The first bytes of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerHeader {
    /// The layer's number in its directory, as in its name.
    pub(crate) number: u64,
    /// Random, new for every layer.
    pub(crate) identity: Identity,
    /// What ids were hashed with.
    pub(crate) hash_salt: u64,
}

/// The last bytes of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerTrailer {
    pub(crate) footer_offset: u64,
    pub(crate) footer_len: u64,
    /// Bytes of the file, trailer included.
    pub(crate) file_len: u64,
    /// As in the header.
    pub(crate) identity: Identity,
    pub(crate) footer_crc: u32,
}

impl LayerHeader {
    pub(crate) fn encode(self) -> [u8; LAYER_HEADER_BYTES] {
        let mut bytes = [0; LAYER_HEADER_BYTES];
        put(&mut bytes, 0, HEADER_MAGIC);
        put(&mut bytes, VERSION, LAYER_VERSION.to_le_bytes());
        put(&mut bytes, HEADER_LEN, 64_u32.to_le_bytes());
        put(&mut bytes, FINGERPRINT, LAYER_FINGERPRINT.to_le_bytes());
        put(&mut bytes, NUMBER, self.number.to_le_bytes());
        put(&mut bytes, IDENTITY, self.identity.0.to_le_bytes());
        put(&mut bytes, HASH_SALT, self.hash_salt.to_le_bytes());
        let crc = crc32fast::hash(bytes.split_at(HEADER_CRC).0);
        put(&mut bytes, HEADER_CRC, crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; LAYER_HEADER_BYTES]) -> Result<Self, LayerFault> {
        let damaged = LayerFault::Checksum(LayerPart::Header);
        if bytes.iter().all(|&byte| byte == 0) {
            return Err(damaged);
        }
        if bytes.first_chunk() != Some(&HEADER_MAGIC) {
            return Err(LayerFault::Foreign);
        }
        match read_u32(bytes, VERSION) {
            Some(version) if version > LAYER_VERSION => {
                return Err(LayerFault::NewerVersion(version));
            }
            Some(LAYER_VERSION) => {}
            _ => return Err(damaged),
        }
        let crc = crc32fast::hash(bytes.split_at(HEADER_CRC).0);
        if read_u32(bytes, HEADER_CRC) != Some(crc) {
            return Err(damaged);
        }
        let field = |offset| read_u64(bytes, offset).ok_or(damaged);
        if field(FINGERPRINT)? != LAYER_FINGERPRINT {
            return Err(LayerFault::OtherLayout);
        }
        let header = Self {
            number: field(NUMBER)?,
            identity: Identity(field(IDENTITY)?),
            hash_salt: field(HASH_SALT)?,
        };
        // Encoding it again holds the header to its length and its zeros.
        if header.encode() == *bytes {
            Ok(header)
        } else {
            Err(LayerFault::Contents(LayerPart::Header))
        }
    }
}

impl LayerTrailer {
    pub(crate) fn encode(self) -> [u8; LAYER_TRAILER_BYTES] {
        let mut bytes = [0; LAYER_TRAILER_BYTES];
        put(&mut bytes, 0, TRAILER_MAGIC);
        put(&mut bytes, FOOTER_OFFSET, self.footer_offset.to_le_bytes());
        put(&mut bytes, FOOTER_LEN, self.footer_len.to_le_bytes());
        put(&mut bytes, FILE_LEN, self.file_len.to_le_bytes());
        put(&mut bytes, TRAILER_IDENTITY, self.identity.0.to_le_bytes());
        put(&mut bytes, FOOTER_CRC, self.footer_crc.to_le_bytes());
        let crc = crc32fast::hash(bytes.split_at(TRAILER_CRC).0);
        put(&mut bytes, TRAILER_CRC, crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; LAYER_TRAILER_BYTES]) -> Result<Self, LayerFault> {
        let damaged = LayerFault::Checksum(LayerPart::Trailer);
        let field = |offset| read_u64(bytes, offset).ok_or(damaged);
        let trailer = Self {
            footer_offset: field(FOOTER_OFFSET)?,
            footer_len: field(FOOTER_LEN)?,
            file_len: field(FILE_LEN)?,
            identity: Identity(field(TRAILER_IDENTITY)?),
            footer_crc: read_u32(bytes, FOOTER_CRC).ok_or(damaged)?,
        };
        // Encoding it again checks magic and checksum at once.
        if trailer.encode() == *bytes {
            Ok(trailer)
        } else {
            Err(damaged)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: LayerHeader = LayerHeader {
        number: 7,
        identity: Identity(0x1122_3344_5566_7788),
        hash_salt: 0x0102_0304_0506_0708,
    };
    const TRAILER: LayerTrailer = LayerTrailer {
        footer_offset: 4096,
        footer_len: 100,
        file_len: 4256,
        identity: Identity(0x1122_3344_5566_7788),
        footer_crc: 0xA1B2_C3D4,
    };

    #[test]
    fn a_header_and_a_trailer_have_these_bytes() {
        let mut header = b"\x8fFLUXLA\n\x01\0\0\0\x40\0\0\0".to_vec();
        header.extend(GOLDEN_FINGERPRINT);
        header.extend(b"\x07\0\0\0\0\0\0\0\x88\x77\x66\x55\x44\x33\x22\x11");
        header.extend([8, 7, 6, 5, 4, 3, 2, 1]);
        header.extend([0; 12]);
        header.extend(GOLDEN_HEADER_CRC);
        assert_eq!(HEADER.encode().as_slice(), header);
        let mut trailer = b"\x8fFLUXLE\n\0\x10\0\0\0\0\0\0\x64\0\0\0\0\0\0\0".to_vec();
        trailer.extend(b"\xa0\x10\0\0\0\0\0\0\x88\x77\x66\x55\x44\x33\x22\x11\xd4\xc3\xb2\xa1");
        trailer.extend(GOLDEN_TRAILER_CRC);
        assert_eq!(TRAILER.encode().as_slice(), trailer);
    }

    const GOLDEN_FINGERPRINT: [u8; 8] = [0x5a, 0x09, 0x6c, 0xd4, 0xb9, 0xfc, 0xb8, 0xe6];
    const GOLDEN_HEADER_CRC: [u8; 4] = [0x58, 0x04, 0x82, 0x8c];
    const GOLDEN_TRAILER_CRC: [u8; 4] = [0xd0, 0x49, 0x2a, 0xd8];

    #[test]
    fn every_changed_bit_of_either_is_noticed() {
        assert_eq!(LayerHeader::decode(&HEADER.encode()), Ok(HEADER));
        assert_eq!(LayerTrailer::decode(&TRAILER.encode()), Ok(TRAILER));
        for bit in 0..LAYER_HEADER_BYTES * 8 {
            let mut bytes = HEADER.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            LayerHeader::decode(&bytes).expect_err(&format!("header bit {bit}"));
        }
        for bit in 0..LAYER_TRAILER_BYTES * 8 {
            let mut bytes = TRAILER.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            LayerTrailer::decode(&bytes).expect_err(&format!("trailer bit {bit}"));
        }
    }

    #[test]
    fn what_is_not_of_this_program_is_told_apart() {
        let check = |change: fn(&mut [u8; LAYER_HEADER_BYTES]), fault: LayerFault| {
            let mut bytes = HEADER.encode();
            change(&mut bytes);
            let crc = crc32fast::hash(&bytes[..HEADER_CRC]);
            put(&mut bytes, HEADER_CRC, crc.to_le_bytes());
            assert_eq!(LayerHeader::decode(&bytes), Err(fault));
        };
        check(|bytes| bytes[0] = b'#', LayerFault::Foreign);
        check(|bytes| bytes[8] = 2, LayerFault::NewerVersion(2));
        check(|bytes| bytes[FINGERPRINT] ^= 1, LayerFault::OtherLayout);
        check(
            |bytes| bytes[50] = 1,
            LayerFault::Contents(LayerPart::Header),
        );
        assert_eq!(
            LayerHeader::decode(&[0; LAYER_HEADER_BYTES]),
            Err(LayerFault::Checksum(LayerPart::Header))
        );
    }
}
