//! One record of a segment: bytes ↔ [`Record`], nothing else.
//!
//! Layout (little-endian, 8-byte aligned; full table in FORMAT.md):
//!
//! ```text
//! 0     4     8          16            24     25                   28
//! | len | crc | sequence | time_micros | kind | undurable distance | payload ... | zero padding |
//! ```
//!
//! `crc` continues the segment's salt and covers everything but itself and the padding, so a torn
//! write of any of it shows. Readers require the padding to be zero. A `len` of 0 marks the end of
//! written data in a preallocated segment, so a payload is never empty.
//!
//! The *undurable distance* says how far the disk was behind when the record was appended: its
//! sequence minus the highest durable one. It is what tells damage from a torn tail: a record that
//! states durability up to some sequence proves that everything up to there was once acknowledged.

use super::group::{GROUP_PREFIX_BYTES, RECORD_KIND_GROUPED, decode_prefix, encode_prefix};
use super::{CrcSeed, put, read, read_i64, read_u32, read_u64};
use crate::{Record, Sequence};

/// Bytes before the payload.
pub(crate) const RECORD_HEAD_BYTES: usize = 28;
/// Records start at multiples of this.
pub(crate) const RECORD_ALIGN: usize = 8;
/// The smallest record: one byte of payload.
pub(crate) const RECORD_BYTES_MIN: usize = record_bytes(1);
/// Bound on a payload, bytes: far above any event, far below what a segment can address. Longer:
/// [`crate::AppendError::TooLarge`].
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024 * 1024;
const LEN_MAX: usize = PAYLOAD_BYTES_MAX + GROUP_PREFIX_BYTES;
/// A distance too large for its field: the record states nothing about durability.
const DISTANCE_UNKNOWN: u32 = (1 << 24) - 1;

const LEN: usize = 0;
const CRC: usize = 4;
const SEQUENCE: usize = 8;
const TIME: usize = 16;
const KIND_AND_DISTANCE: usize = 24;

const _: () = assert!(KIND_AND_DISTANCE + size_of::<u32>() == RECORD_HEAD_BYTES);
const _: () = assert!(RECORD_BYTES_MIN.is_multiple_of(RECORD_ALIGN));
const _: () = assert!(LEN_MAX < u32::MAX as usize);

/// Bytes that a record with such a payload takes, padding included.
pub(crate) const fn record_bytes(payload_len: usize) -> usize {
    RECORD_HEAD_BYTES
        .saturating_add(payload_len)
        .next_multiple_of(RECORD_ALIGN)
}

/// A record as it lies in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredRecord<'a> {
    pub(crate) record: Record<'a>,
    /// The highest sequence that was durable when this record was appended, or zero if the record
    /// cannot say (distance saturated).
    pub(crate) durable: Sequence,
    /// Bytes to the next record.
    pub(crate) bytes: usize,
}

/// Bytes that this record takes, padding included.
pub(crate) const fn bytes_of(record: &Record<'_>) -> usize {
    let prefix = if record.group.is_some() {
        GROUP_PREFIX_BYTES
    } else {
        0
    };
    record_bytes(record.payload.len().saturating_add(prefix))
}

/// Appends `record` to `out`: [`bytes_of`] it.
///
/// # Panics
///
/// If the payload is empty or over [`PAYLOAD_BYTES_MAX`]: the log checks.
pub(crate) fn append(out: &mut Vec<u8>, seed: CrcSeed, record: Record<'_>, durable: Sequence) {
    let payload = record.payload;
    let place = record.group.map(|place| encode_prefix(place, record.kind));
    let (prefix, kind) = match &place {
        Some(prefix) => (&prefix[..], RECORD_KIND_GROUPED),
        None => (&[][..], record.kind),
    };
    assert!(!payload.is_empty() && payload.len() <= PAYLOAD_BYTES_MAX);
    let len = prefix.len().saturating_add(payload.len());
    let len = u32::try_from(len).expect("a payload is bounded by PAYLOAD_BYTES_MAX");
    let undurable = record.sequence.get().saturating_sub(durable.get());
    let distance = u32::try_from(undurable)
        .unwrap_or(u32::MAX)
        .min(DISTANCE_UNKNOWN);

    let mut head = [0; RECORD_HEAD_BYTES];
    put(&mut head, LEN, len.to_le_bytes());
    put(&mut head, SEQUENCE, record.sequence.get().to_le_bytes());
    put(&mut head, TIME, record.time_micros.to_le_bytes());
    put(
        &mut head,
        KIND_AND_DISTANCE,
        ((distance << 8) | u32::from(kind)).to_le_bytes(),
    );
    let crc = checksum(seed, &head, [prefix, payload]);
    put(&mut head, CRC, crc.to_le_bytes());

    let end = out.len().saturating_add(bytes_of(&record));
    out.extend_from_slice(&head);
    if record.group.is_some() {
        out.extend_from_slice(prefix);
    }
    out.extend_from_slice(payload);
    out.resize(end, 0);
}

/// The record that begins at the start of `bytes` (the rest of its segment), or `None` if none
/// does.
pub(crate) fn decode(bytes: &[u8], seed: CrcSeed) -> Option<StoredRecord<'_>> {
    let payload_len = payload_len(bytes)?;
    let head: [u8; RECORD_HEAD_BYTES] = read(bytes, 0)?;
    let record_len = record_bytes(payload_len);
    let body = bytes.get(RECORD_HEAD_BYTES..record_len)?;
    let (payload, padding) = body.split_at_checked(payload_len)?;
    if padding.iter().any(|&byte| byte != 0) {
        return None;
    }
    if checksum(seed, &head, [payload, &[]]) != read_u32(bytes, CRC)? {
        return None;
    }
    let [kind, distance @ ..] = read::<4>(bytes, KIND_AND_DISTANCE)?;
    let sequence = Sequence::new(read_u64(bytes, SEQUENCE)?);
    let (group, kind, payload) = if kind == RECORD_KIND_GROUPED {
        let (place, kind, payload) = decode_prefix(sequence, payload)?;
        (Some(place), kind, payload)
    } else {
        (None, kind, payload)
    };
    let record = Record {
        sequence,
        time_micros: read_i64(bytes, TIME)?,
        kind,
        group,
        payload,
    };
    Some(StoredRecord {
        record,
        durable: stated_durable(sequence, distance),
        bytes: record_len,
    })
}

/// The sequence that a record at the start of `bytes` would have, without looking at its checksum:
/// what a scan for records rules most offsets out by.
pub(crate) fn peek_sequence(bytes: &[u8]) -> Option<Sequence> {
    payload_len(bytes)?;
    read_u64(bytes, SEQUENCE).map(Sequence::new)
}

/// Bytes of the record whose head this is, by the head's word alone; `None` if no record begins so.
pub(crate) fn record_len(head: &[u8; RECORD_HEAD_BYTES]) -> Option<usize> {
    payload_len(head).map(record_bytes)
}

/// The bytes that the checksum of a record at the start of `bytes` covers, in order, and that
/// checksum: what the seed of a segment can be derived from.
pub(crate) fn checksum_parts(bytes: &[u8]) -> Option<([&[u8]; 3], u32)> {
    let payload_len = payload_len(bytes)?;
    let (head, rest) = bytes.split_at_checked(RECORD_HEAD_BYTES)?;
    let (len, _) = head.split_at_checked(CRC)?;
    let (_, fields) = head.split_at_checked(SEQUENCE)?;
    Some((
        [len, fields, rest.get(..payload_len)?],
        read_u32(bytes, CRC)?,
    ))
}

fn payload_len(bytes: &[u8]) -> Option<usize> {
    let len = usize::try_from(read_u32(bytes, LEN)?).ok()?;
    (len != 0 && len <= LEN_MAX).then_some(len)
}

fn stated_durable(sequence: Sequence, [low, middle, high]: [u8; 3]) -> Sequence {
    match u32::from_le_bytes([low, middle, high, 0]) {
        DISTANCE_UNKNOWN => Sequence::ZERO,
        distance => Sequence::new(sequence.get().saturating_sub(u64::from(distance))),
    }
}

fn checksum(seed: CrcSeed, head: &[u8; RECORD_HEAD_BYTES], payload: [&[u8]; 2]) -> u32 {
    // In as few pieces as can be: each costs the start of a vector loop.
    let mut covered = [0; RECORD_HEAD_BYTES - size_of::<u32>()];
    let (len, fields) = covered.split_at_mut(CRC);
    len.copy_from_slice(head.split_at(CRC).0);
    fields.copy_from_slice(head.split_at(SEQUENCE).1);
    let mut hasher = seed.hasher();
    for piece in [&covered, payload[0], payload[1]] {
        if !piece.is_empty() {
            hasher.update(piece);
        }
    }
    hasher.finalize()
}

impl Record<'_> {
    /// Bytes that it takes in its segment.
    pub fn bytes_on_disk(&self) -> u64 {
        bytes_of(self) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::Salt;
    use super::*;

    const SEED_SALT: Salt = Salt(0x0123_4567_89ab_cdef);

    fn sample() -> Record<'static> {
        Record {
            sequence: Sequence::new(0x0102_0304_0506_0708),
            time_micros: -2,
            kind: 7,
            group: None,
            payload: b"flux!",
        }
    }

    fn encoded(record: Record<'_>, durable: Sequence) -> Vec<u8> {
        let mut bytes = Vec::new();
        append(&mut bytes, SEED_SALT.seed(), record, durable);
        bytes
    }

    #[test]
    fn a_record_has_these_bytes() {
        let durable = Sequence::new(sample().sequence.get() - 0x0003_0201);
        let mut expected = vec![5, 0, 0, 0];
        let covered: &[&[u8]] = &[
            &[8, 7, 6, 5, 4, 3, 2, 1],
            &[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
            &[7, 1, 2, 3],
            b"flux!",
        ];
        let covered = covered.concat();
        let salted = [
            &[0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01],
            expected.as_slice(),
            &covered,
        ]
        .concat();
        expected.extend_from_slice(&crc32fast::hash(&salted).to_le_bytes());
        expected.extend_from_slice(&covered);
        expected.resize(40, 0);
        assert_eq!(encoded(sample(), durable), expected);
        // The checksum above is computed by the code under test's own library; this one is written
        // down.
        assert_eq!(expected[4..8], GOLDEN_CRC);
    }

    const GOLDEN_CRC: [u8; 4] = [0x52, 0x07, 0x56, 0xbf];

    #[test]
    fn what_is_encoded_is_decoded() {
        let payload = [0xA5; 300];
        for len in 1..payload.len() {
            let record = Record {
                payload: &payload[..len],
                ..sample()
            };
            let bytes = encoded(record, Sequence::new(9));
            let stored = decode(&bytes, SEED_SALT.seed()).unwrap();
            assert_eq!(
                (stored.record, stored.bytes),
                (record, bytes.len()),
                "{len}"
            );
        }
    }

    #[test]
    fn a_distance_too_large_for_its_field_states_nothing() {
        let check = |distance: u64, stated: u64| {
            let durable = Sequence::new(sample().sequence.get() - distance);
            let bytes = encoded(sample(), durable);
            let stored = decode(&bytes, SEED_SALT.seed()).unwrap();
            assert_eq!(stored.durable.get(), stated, "{distance}");
        };
        let sequence = sample().sequence.get();
        check(1, sequence - 1);
        check((1 << 24) - 2, sequence - ((1 << 24) - 2));
        check((1 << 24) - 1, 0);
        check(1 << 40, 0);
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_noticed() {
        let bytes = encoded(sample(), Sequence::ZERO);
        for index in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[index / 8] ^= 1 << (index % 8);
            assert_eq!(decode(&changed, SEED_SALT.seed()), None, "bit {index}");
        }
        for len in 0..bytes.len() {
            assert_eq!(
                decode(&bytes[..len], SEED_SALT.seed()),
                None,
                "cut to {len}"
            );
        }
    }

    #[test]
    fn a_record_of_another_segment_is_none() {
        let bytes = encoded(sample(), Sequence::ZERO);
        assert_eq!(decode(&bytes, Salt(1).seed()), None);
    }
}
