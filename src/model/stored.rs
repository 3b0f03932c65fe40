//! What became of an event that was stored.

use flux_storage::Sequence;

/// An event's place in the log, and what it made of its entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its number in the shard's log.
    pub sequence: Sequence,
    /// The entity's version after it; 0 if there is no entity after it.
    pub version: u64,
}

/// What is said of an event that was stored, now or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Where it is.
    pub stored: Stored,
    /// It was stored before under the same id, and nothing has changed now.
    pub duplicate: bool,
}

impl From<Stored> for Published {
    /// It was stored just now.
    fn from(stored: Stored) -> Self {
        Self {
            stored,
            duplicate: false,
        }
    }
}
