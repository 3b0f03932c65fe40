//! Entity id → shard.
//!
//! The hash is FNV-1a with 64 bits (Fowler, Noll, Vo) and a final mix, since FNV's low bits alone
//! spread short keys badly. It is part of the data format: the shard count of a generation decides
//! where a namespace's events lie, so the vectors in the tests never change.

use super::id::{namespace_bytes_of, placement_key};

/// The shard of an id, below `shards`. Ids of one namespace always share theirs.
///
/// # Panics
/// If `shards` is 0.
pub fn place(entity_id: &str, shards: u16) -> u16 {
    place_key(placement_key(entity_id), shards)
}

/// The same of an id whose bytes are not checked.
///
/// # Panics
/// If `shards` is 0.
pub fn place_bytes(entity_id: &[u8], shards: u16) -> u16 {
    reduce(
        hash(namespace_bytes_of(entity_id).unwrap_or(entity_id)),
        shards,
    )
}

/// The shard of a placement key.
pub fn place_key(key: &str, shards: u16) -> u16 {
    reduce(key_hash(key), shards)
}

/// The hash of a placement key, which tells keys apart in what is kept for ever.
pub(super) fn key_hash(key: &str) -> u64 {
    hash(key.as_bytes())
}

/// The shard of a placement key with this hash.
pub(super) fn reduce(hash: u64, shards: u16) -> u16 {
    let reduced = hash % u64::from(shards);
    u16::try_from(reduced).expect("a remainder is below its u16 divisor")
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The finalizer of MurmurHash3 (Appleby): every input bit reaches every output bit.
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        let check = |key: &str, expected| assert_eq!(hash(key.as_bytes()), expected, "{key:?}");
        check("", 0xefd0_1f60_ba99_2926);
        check("a", 0x82a2_a958_a9be_ce5b);
        check("dawn-coral", 0xf32c_a0a9_3a21_aa73);
    }

    #[test]
    fn an_id_is_placed_by_its_bytes_as_by_its_text() {
        for id in ["house/a", "house", "/a", "", "ü/b", "a/b/c", "sensor-17"] {
            assert_eq!(place_bytes(id.as_bytes(), 7), place(id, 7), "{id}");
        }
    }

    #[test]
    fn a_namespace_stays_together_and_ids_without_one_spread() {
        assert_eq!(place("house/a", 7), place("house/b/c", 7));
        let mut counts = [0_u32; 4];
        for index in 0..4000 {
            counts[usize::from(place(&format!("sensor-{index}"), 4))] += 1;
        }
        assert!(
            counts.iter().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
    }
}
