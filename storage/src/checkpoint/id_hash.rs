//! The hash of an id: stable across processes, salted, and cheap.
//!
//! A folded multiplication per 8 bytes. It need not withstand who knows the salt; the salt follows
//! from the log's random identity, which never leaves the disk. All layers of a log share it, so
//! that a look-up hashes once however many layers there are.

use crate::format::slot::Owner;

/// Odd numbers with an irregular half of their bits set: the fraction of pi.
const MIX: u64 = 0x243f_6a88_85a3_08d3;
const FINISH: u64 = 0x1319_8a2e_0370_7345;

/// A salted 64-bit hash of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdHash(pub(super) u64);

/// Hashes ids with one salt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct IdHasher {
    salt: u64,
}

impl IdHasher {
    /// The hasher of a log's layers.
    pub(crate) fn of(owner: Owner) -> Self {
        let place = (u64::from(owner.log.generation) << 32) | u64::from(owner.log.shard);
        Self {
            salt: fold(owner.identity.0 ^ MIX, place ^ FINISH),
        }
    }

    pub(crate) fn salt(self) -> u64 {
        self.salt
    }

    pub(crate) fn hash(self, id: impl AsRef<[u8]>) -> IdHash {
        let id = id.as_ref();
        let (words, rest) = id.as_chunks::<8>();
        let mut hash = self.salt;
        for word in words {
            hash = fold(hash ^ u64::from_le_bytes(*word), MIX);
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        // The length tells "a" from "a\0".
        let len = id.len() as u64;
        hash = fold(hash ^ u64::from_le_bytes(last), MIX.wrapping_add(len << 1));
        IdHash(fold(hash ^ self.salt.rotate_left(32), FINISH))
    }
}

/// Both halves of the product, folded into one.
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    let [low, high] = [product & u128::from(u64::MAX), product >> 64];
    u64::try_from(low ^ high).expect("both halves have 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Identity;
    use crate::format::header::LogId;

    fn hasher(identity: u64, shard: u32) -> IdHasher {
        let log = LogId {
            generation: 1,
            shard,
            shard_count: 4,
        };
        IdHasher::of(Owner {
            log,
            identity: Identity(identity),
        })
    }

    #[test]
    fn a_hash_has_this_value() {
        let hasher = hasher(1, 0);
        assert_eq!(hasher.hash("").0, GOLDEN[0]);
        assert_eq!(hasher.hash("robot-7").0, GOLDEN[1]);
        assert_eq!(hasher.hash("plant/line-1/robot-7").0, GOLDEN[2]);
    }

    const GOLDEN: [u64; 3] = [
        0x0ac4_f520_e728_9cb6,
        0xa0c1_862a_228a_319e,
        0x4307_f9e5_a1a8_2470,
    ];

    #[test]
    fn ids_that_differ_little_differ_in_every_part_of_the_hash() {
        let hasher = hasher(9, 1);
        let mut seen = std::collections::BTreeSet::new();
        let mut tops = [0_u32; 64];
        for number in 0..64_000 {
            let hash = hasher.hash(format!("fleet/robot-{number}")).0;
            assert!(seen.insert(hash), "{number}");
            tops[usize::try_from(hash >> 58).unwrap()] += 1;
        }
        assert!(
            tops.iter().all(|count| (800..1200).contains(count)),
            "{tops:?}"
        );
        assert_ne!(hasher.hash("a"), hasher.hash("a\0"));
        assert_ne!(hasher.hash("aaaaaaaa"), hasher.hash("aaaaaaaa\0"));
    }

    #[test]
    fn each_log_hashes_in_its_own_way() {
        assert_ne!(hasher(1, 0).hash("a"), hasher(2, 0).hash("a"));
        assert_ne!(hasher(1, 0).hash("a"), hasher(1, 1).hash("a"));
    }
}
