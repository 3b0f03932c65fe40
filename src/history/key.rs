//! Under which key a log's index finds an event.
//!
//! ```text
//! 63            32 31             0
//! | hash of      | hash of        |
//! | namespace    | entity id      |
//! ```
//!
//! So an entity's events share one key, and a namespace's a range of keys. Ids without a namespace
//! share the upper half 0. Keys may collide: whoever reads by them compares the ids.
//!
//! Keys lie in index files, which are rebuilt if they were made in another way; another hash would
//! cost that and another [`KEY_SCHEME`], no more. It is computed for every event that is appended,
//! which is why it takes eight bytes at a time.

use crate::model::{StoredChange, namespace_bytes_of};
use std::ops::RangeInclusive;

const LOWER: u64 = 0xffff_ffff;

/// The number of this way to make keys, as index files know it. Another way, another number.
pub const KEY_SCHEME: u32 = 1;

/// The key of an entity's events.
pub(super) fn entity_key(id: &str) -> u64 {
    key_of(id.as_bytes())
}

fn key_of(id: &[u8]) -> u64 {
    let upper = namespace_bytes_of(id).map_or(0, namespace_part);
    upper | (hash(id) & LOWER)
}

/// The keys of a namespace's events.
pub(super) fn namespace_keys(namespace: &str) -> RangeInclusive<u64> {
    let first = namespace_part(namespace.as_bytes());
    first..=first | LOWER
}

/// The key of a record: that of its entity, 0 if it has none.
pub fn record_key(kind: u8, payload: &[u8]) -> u64 {
    StoredChange::entity_id_of(kind, payload).map_or(0, key_of)
}

fn namespace_part(namespace: &[u8]) -> u64 {
    hash(namespace) & !LOWER
}

/// Eight bytes at a time, each multiplied to 128 bits and folded: every bit of the input reaches
/// both halves.
fn hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |value: u64| {
        let wide = u128::from(value).wrapping_mul(u128::from(FACTOR));
        let (low, high) = ((wide & u128::from(u64::MAX)), wide >> 64);
        u64::try_from(low ^ high).unwrap_or(0)
    };
    let step = |state, word| fold(state ^ u64::from_le_bytes(word)).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    let mut state = fold(FACTOR ^ bytes.len() as u64);
    for word in words {
        state = step(state, *word);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        state = step(state, last);
    }
    fold(state ^ FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RECORD_KIND_EVENT, namespace_of};
    use std::collections::BTreeSet;

    #[test]
    fn an_entity_lies_within_its_namespace_and_in_no_other() {
        for id in ["a/b", "a/", "a/b/c", "/x"] {
            let namespace = namespace_of(id).unwrap();
            assert!(namespace_keys(namespace).contains(&entity_key(id)), "{id}");
        }
        assert!(!namespace_keys("a").contains(&entity_key("b/b")));
        assert!(!namespace_keys("a").contains(&entity_key("a")));
        assert_eq!(entity_key("room") >> 32, 0);
    }

    #[test]
    fn similar_ids_have_different_keys() {
        let ids = (0..20_000).map(|number| format!("sensor-{number}"));
        let keys: BTreeSet<u64> = ids.map(|id| entity_key(&id)).collect();
        assert!(keys.len() >= 19_998, "{}", keys.len());
        let names = (0..20_000).map(|number| *namespace_keys(&number.to_string()).start());
        let starts: BTreeSet<u64> = names.collect();
        assert!(starts.len() >= 19_998, "{}", starts.len());
    }

    #[test]
    fn keys_have_these_values() {
        let keys = [
            "",
            "a",
            "house/room",
            "a/b",
            "12345678",
            "fleet/robot-00000017/arm",
        ];
        assert_eq!(keys.map(entity_key), GOLDEN);
    }

    /// Index files hold them: another value wants another [`KEY_SCHEME`].
    const GOLDEN: [u64; 6] = [
        0x0000_0000_84a0_3abb,
        0x0000_0000_5422_dd0c,
        0x515e_631a_fb8b_94da,
        0xe9aa_442a_53c0_6eec,
        0x0000_0000_50a6_e5d6,
        0x4e4b_e036_64e2_4917,
    ];

    #[test]
    fn what_has_no_entity_has_the_key_0() {
        assert_eq!(record_key(RECORD_KIND_EVENT, &[]), 0);
        assert_eq!(record_key(3, b"\0\x01a"), 0);
        assert_eq!(record_key(RECORD_KIND_EVENT, b"\0\x01a"), entity_key("a"));
    }
}
