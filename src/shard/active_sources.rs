//! The distinct sources of all shards that have published lately.

use crate::engine::SourceHashes;
use crate::limits::{ACTIVE_SOURCES_MAX, PUBLISHER_ACTIVE_SECONDS};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::PoisonError;

#[expect(
    clippy::disallowed_types,
    reason = "taken twice a second by each core, for microseconds, and never on the path of an event"
)]
type Lock<T> = std::sync::Mutex<T>;

/// When each source was last seen, monotonic milliseconds, by its hash.
type LastSeen = HashMap<u64, u64, BuildHasherDefault<DefaultHasher>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct ActiveSources {
    last_seen: Lock<LastSeen>,
}

impl ActiveSources {
    /// Takes what a core has seen since it last called this. Returns how many sources published in
    /// the last [`PUBLISHER_ACTIVE_SECONDS`], at most [`ACTIVE_SOURCES_MAX`].
    pub(crate) fn note(&self, seen: &SourceHashes, now_ms: u64) -> u64 {
        let mut last_seen = self
            .last_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let active_ms = PUBLISHER_ACTIVE_SECONDS * 1000;
        last_seen.retain(|_, then| now_ms.saturating_sub(*then) < active_ms);
        for hash in seen {
            if last_seen.len() < ACTIVE_SOURCES_MAX || last_seen.contains_key(hash) {
                last_seen.insert(*hash, now_ms);
            }
        }
        last_seen.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_of_two_shards_counts_once_and_for_ten_seconds() {
        let sources = ActiveSources::default();
        let seen = |hashes: &[u64]| hashes.iter().copied().collect::<SourceHashes>();
        assert_eq!(sources.note(&seen(&[1, 2]), 0), 2);
        assert_eq!(sources.note(&seen(&[2, 3]), 5_000), 3);
        assert_eq!(sources.note(&seen(&[]), 10_000), 2, "1 is too long ago");
        assert_eq!(sources.note(&seen(&[]), 15_000), 0);
    }
}
