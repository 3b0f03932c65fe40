//! The sources of the events that a shard has taken lately: what `publishers.active` counts.

use crate::limits::ACTIVE_SOURCES_MAX;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash as _, Hasher as _};

/// Hashes of distinct sources. All shards hash alike, so that one source of several shards counts
/// once.
pub type SourceHashes = HashSet<u64, BuildHasherDefault<DefaultHasher>>;

/// See the module. Costs a comparison for each event of the same source as the event before, else a
/// hash.
#[derive(Debug, Default)]
pub(super) struct RecentSources {
    hashes: SourceHashes,
    last: String,
}

impl RecentSources {
    /// An event of this source was stored. Beyond [`ACTIVE_SOURCES_MAX`] a source is not counted.
    #[inline]
    pub(super) fn note(&mut self, source: &str) {
        if self.last != source {
            self.note_other(source);
        }
    }

    fn note_other(&mut self, source: &str) {
        self.last.clear();
        self.last.push_str(source);
        if self.hashes.len() < ACTIVE_SOURCES_MAX {
            let mut hasher = DefaultHasher::new();
            source.hash(&mut hasher);
            self.hashes.insert(hasher.finish());
        }
    }

    /// The sources since the last call.
    pub(super) fn take(&mut self) -> SourceHashes {
        self.last.clear();
        std::mem::take(&mut self.hashes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_counts_once_between_two_looks() {
        let mut sources = RecentSources::default();
        for source in ["a", "a", "b", "a"] {
            sources.note(source);
        }
        assert_eq!(sources.take().len(), 2);
        assert_eq!(sources.take().len(), 0);
        sources.note("a");
        assert_eq!(sources.take().len(), 1, "the same source, seen again");
    }

    #[test]
    fn sources_beyond_the_bound_are_not_counted() {
        let mut sources = RecentSources::default();
        for number in 0..ACTIVE_SOURCES_MAX + 10 {
            sources.note(&number.to_string());
        }
        assert_eq!(sources.take().len(), ACTIVE_SOURCES_MAX);
    }
}
