//! The checksum seed of a segment whose header is damaged.
//!
//! Every checksum of a segment continues the CRC-32 of its salt. If the salt's own bytes can't be
//! trusted the seed follows from any one checksum of the segment: appending known bytes maps the
//! checksum before them to the one after them one to one, so it can be undone. What follows from
//! one checksum must then be borne out by another.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::content::{self, Content, Plausible};
use crate::format::header::{self, HEADER_BYTES};
use crate::format::record;
use crate::format::{CrcSeed, Salt};

/// CRC-32's polynomial, reflected.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// The seed under which the segment's records make sense, with those records. `None` if none is
/// found that something in the segment bears out.
pub(crate) fn find(bytes: &[u8], plausible: Plausible) -> Option<(CrcSeed, Content)> {
    let by_salt = header::peek_salt(bytes).map(Salt::seed);
    let by_activation = header::activation_bytes(bytes)
        .and_then(|part| header::activation_checksum(part))
        .map(|(covered, crc)| undo(crc, covered));
    let by_record = bytes
        .get(HEADER_BYTES..)
        .and_then(record::checksum_parts)
        .map(|(parts, crc)| {
            parts
                .iter()
                .rev()
                .fold(crc, |crc, part| undo_crc(crc, part))
        })
        .map(CrcSeed::from_crc);
    // The activation and the first record agree with a seed that was made from them, so something
    // else has to.
    let candidates = [(by_salt, 1), (by_activation, 1), (by_record, 2)];
    candidates.into_iter().find_map(|(seed, records_min)| {
        let seed = seed?;
        let content = content::read(bytes, seed, plausible);
        (content.records() >= records_min).then_some((seed, content))
    })
}

fn undo(crc: u32, covered: &[u8]) -> CrcSeed {
    CrcSeed::from_crc(undo_crc(crc, covered))
}

/// The CRC-32 before `bytes`, given the one after them.
fn undo_crc(crc: u32, bytes: &[u8]) -> u32 {
    let register = bytes.iter().rev().fold(!crc, |register, &byte| {
        let shifted = (0..8).fold(register, |register: u32, _| {
            if register & 0x8000_0000 == 0 {
                register << 1
            } else {
                ((register ^ POLYNOMIAL) << 1) | 1
            }
        });
        shifted ^ u32::from(byte)
    });
    !register
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_undone_to_the_one_before() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for split in [0, 1, 7, 500, 1000] {
            let (before, after) = bytes.split_at(split);
            let whole = crc32fast::hash(&bytes);
            assert_eq!(undo_crc(whole, after), crc32fast::hash(before), "{split}");
        }
    }
}
