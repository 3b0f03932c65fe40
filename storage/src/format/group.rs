//! What a record of a group says beside its own content.
//!
//! ```text
//! 0       2       4      5      8
//! | index | count | kind | zero | the record's own payload ...
//! ```
//!
//! The start of the payload of a record of kind 254. Each record of a group tells the sequences of
//! all of them: the first is its own minus *index*, and there are *count*. So one that is left of a
//! damaged group shows what else was in it.

use super::{put, read};
use crate::{GroupPlace, Record, Sequence};

/// The kind of a record of a group, on disk. Its own kind is in its payload.
pub(crate) const RECORD_KIND_GROUPED: u8 = 254;

/// Bytes before the record's own payload.
pub(crate) const GROUP_PREFIX_BYTES: usize = 8;
const INDEX: usize = 0;
const COUNT: usize = 2;
const KIND: usize = 4;
const ZERO: usize = 5;

/// The start of the payload of a record of this kind.
pub(crate) fn encode_prefix(place: GroupPlace, kind: u8) -> [u8; GROUP_PREFIX_BYTES] {
    let mut prefix = [0; GROUP_PREFIX_BYTES];
    put(&mut prefix, INDEX, place.index.to_le_bytes());
    put(&mut prefix, COUNT, place.count.to_le_bytes());
    put(&mut prefix, KIND, [kind]);
    prefix
}

/// The record of a group whose payload this is, by its place, kind and own payload. `None` if it
/// says nothing sensible.
pub(crate) fn decode_prefix(sequence: Sequence, payload: &[u8]) -> Option<(GroupPlace, u8, &[u8])> {
    let (prefix, own) = payload.split_at_checked(GROUP_PREFIX_BYTES)?;
    let place = GroupPlace {
        index: u16::from_le_bytes(read(prefix, INDEX)?),
        count: u16::from_le_bytes(read(prefix, COUNT)?),
    };
    let [kind] = read(prefix, KIND)?;
    let is_sensible = place.count >= 2
        && place.index < place.count
        && sequence.get() > u64::from(place.index)
        && read(prefix, ZERO)? == [0; 3]
        && kind < RECORD_KIND_GROUPED
        && !own.is_empty();
    is_sensible.then_some((place, kind, own))
}

impl Record<'_> {
    /// The first sequence of its group, or its own.
    pub fn group_first(&self) -> Sequence {
        let before = self.group.map_or(0, |place| u64::from(place.index));
        Sequence::new(self.sequence.get().saturating_sub(before))
    }

    /// The last sequence of its group, or its own.
    pub fn group_last(&self) -> Sequence {
        let after = self.group.map_or(0, |place| {
            u64::from(place.count.saturating_sub(place.index).saturating_sub(1))
        });
        Sequence::new(self.sequence.get().saturating_add(after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: GroupPlace = GroupPlace { index: 2, count: 3 };

    fn payload(prefix: [u8; 8]) -> Vec<u8> {
        [&prefix[..], b"own"].concat()
    }

    #[test]
    fn a_record_of_a_group_says_which_records_are_in_it() {
        let prefix = encode_prefix(PLACE, 7);
        assert_eq!(prefix, [2, 0, 3, 0, 7, 0, 0, 0]);
        let payload = payload(prefix);
        let (place, kind, own) = decode_prefix(Sequence::new(12), &payload).unwrap();
        assert_eq!((place, kind, own), (PLACE, 7, &b"own"[..]));
        let record = Record {
            sequence: Sequence::new(12),
            time_micros: 0,
            kind,
            group: Some(place),
            payload: own,
        };
        let span = (record.group_first().get(), record.group_last().get());
        assert_eq!((span, place.is_last()), ((10, 12), true));
    }

    #[test]
    fn a_prefix_that_contradicts_itself_is_none() {
        let check = |sequence: u64, payload: &[u8]| {
            let found = decode_prefix(Sequence::new(sequence), payload);
            assert_eq!(found, None, "{sequence} {payload:?}");
        };
        let of = |index, count| encode_prefix(GroupPlace { index, count }, 7);
        check(12, &payload(of(3, 3)));
        check(12, &payload(of(0, 1)));
        check(12, &payload(of(0, 0)));
        check(2, &payload(of(2, 3)));
        check(12, &payload(encode_prefix(PLACE, 254)));
        check(12, &payload(encode_prefix(PLACE, 255)));
        check(12, &payload([2, 0, 3, 0, 7, 0, 1, 0]));
        check(12, &of(2, 3));
        check(12, &of(2, 3)[..7]);
    }
}
