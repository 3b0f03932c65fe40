//! Where the records in received bytes end (RFC 8446 §5.1).
//!
//! ```text
//!     0        1         3        5
//!     | type   | version | len    | len bytes …
//! ```
//!
//! What can't be a record counts as whole with its header: rustls refuses it then, and nobody waits
//! for the rest of it.

/// Bytes before a record's body.
const HEADER_BYTES: usize = 5;
/// The longest body: 2¹⁴ bytes, and what encryption may add (RFC 5246 §6.2.3).
const BODY_BYTES_MAX: usize = 16 * 1024 + 2048;
/// The types of records that there are (RFC 8446 §B.1).
const TYPES: std::ops::RangeInclusive<u8> = 20..=23;

/// Bytes of the first record; `None` if its header is not whole yet.
fn record_len(bytes: &[u8]) -> Option<usize> {
    let (&[kind, _, _, high, low], _) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let body = usize::from(u16::from_be_bytes([high, low]));
    if body > BODY_BYTES_MAX || !TYPES.contains(&kind) {
        return Some(HEADER_BYTES);
    }
    Some(HEADER_BYTES.saturating_add(body))
}

/// Bytes of the records at the front that are whole.
pub(super) fn whole_records(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some(len) = record_len(rest)
        && let Some((_, behind)) = rest.split_at_checked(len)
    {
        rest = behind;
    }
    bytes.len().saturating_sub(rest.len())
}

/// Bytes that are missing to the end of the first record, or of its header.
pub(super) fn missing(bytes: &[u8]) -> usize {
    let len = record_len(bytes).unwrap_or(HEADER_BYTES);
    len.saturating_sub(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, len: u16) -> Vec<u8> {
        let [high, low] = len.to_be_bytes();
        let mut bytes = vec![kind, 3, 3, high, low];
        bytes.resize(HEADER_BYTES + usize::from(len), 7);
        bytes
    }

    #[test]
    fn records_end_where_their_headers_say_at_every_split() {
        let bytes = [record(22, 3), record(23, 0), record(20, 1)].concat();
        let ends = [0, 8, 13, 19];
        for split in 0..=bytes.len() {
            let expected = ends.into_iter().rev().find(|&end| end <= split);
            assert_eq!(Some(whole_records(&bytes[..split])), expected, "{split}");
        }
        let first = record(22, 3);
        let missing_of = |len| missing(&first[..len]);
        assert_eq!([0, 1, 4, 5, 6, 8].map(missing_of), [5, 4, 1, 3, 2, 0]);
    }

    #[test]
    fn nobody_waits_for_the_rest_of_what_can_not_be_a_record() {
        let longest = u16::try_from(BODY_BYTES_MAX).unwrap();
        assert_eq!(whole_records(&record(23, longest)[..100]), 0);
        for bytes in [record(23, longest + 1), record(24, 9), record(0, 0)] {
            assert!(whole_records(&bytes[..HEADER_BYTES]) == HEADER_BYTES);
        }
        assert_eq!(whole_records(b"\0\0\0\0"), 0);
    }
}
