//! What the engine answers: parts of listings and what namespaces hold.

use crate::model::Timestamp;
use flux_storage::Sequence;

/// A part of a listing: entities as JSON, with their ids so that parts of several shards can be
/// merged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The entities' JSON, each behind a comma.
    pub json: Vec<u8>,
    /// Their ids, one after the other, ascending.
    pub ids: String,
    /// For each entity, where its JSON and its id end.
    pub ends: Vec<(usize, usize)>,
    /// True if nothing comes after this part.
    pub last: bool,
    /// What was visible of the shard when the part was read: all that it does not show comes after
    /// this event.
    pub place: Sequence,
    /// The last entity that was looked at, if a filter left it out: the next part begins after it.
    pub passed: Option<Box<str>>,
    /// Entities that a filter was asked about.
    pub examined: usize,
    /// Bytes of their properties.
    pub examined_bytes: usize,
    /// About the bytes of the next entity, if it is larger than was asked for and comes first.
    pub large: Option<usize>,
}

/// How far one part of a listing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkBounds {
    /// Entities that a filter may look at for it.
    pub examined_max: usize,
    /// About the most bytes that the JSON of one of its entities may have.
    pub entity_bytes_max: usize,
}

#[cfg(test)]
impl ChunkBounds {
    /// As far as it goes.
    pub const NONE: Self = Self {
        examined_max: usize::MAX,
        entity_bytes_max: usize::MAX,
    };
}

/// What a namespace holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NamespaceCounts {
    /// Entities.
    pub entities: u64,
    /// The time of its last event; `None` if it holds nothing.
    pub last_updated: Option<Timestamp>,
}
