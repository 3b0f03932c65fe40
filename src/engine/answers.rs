//! What the engine answers: parts of listings and what namespaces hold.

use crate::filter::Progress;
use crate::limits::{
    FILTER_CHUNK_BYTES_MAX, FILTER_SLICE_UNITS, LIST_CHUNK_BYTES_MAX, LIST_CHUNK_ENTITIES_MAX,
};
use crate::model::Timestamp;
use flux_storage::Sequence;

/// Room for the entity with which a part of a listing reaches its size, if it is not a large one,
/// and for each of a small page.
const LIST_ENTITY_BYTES: usize = 1024;

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
    /// That lies in what the reader may not see.
    pub passed_hidden: bool,
    /// Entities that a filter was asked about.
    pub examined: usize,
    /// Bytes of their properties.
    pub examined_bytes: usize,
    /// Units of work that the filter took.
    pub filter_units: u64,
    /// How far the filter came with the next entity, if it is not done with it.
    pub judged: Option<Judged>,
    /// About the bytes of the next entity, if it is larger than was asked for and comes first.
    pub large: Option<usize>,
}

impl Chunk {
    /// True if it holds as much as one part may.
    pub(super) fn is_full(&self, bounds: ChunkBounds) -> bool {
        let entities_max = bounds.entities_max.min(LIST_CHUNK_ENTITIES_MAX);
        self.json.len() >= LIST_CHUNK_BYTES_MAX || self.ends.len() >= entities_max
    }

    /// True if a filter has looked at as much for it as it may.
    pub(super) fn has_examined(&self, bounds: ChunkBounds) -> bool {
        self.examined >= bounds.examined_max
            || self.examined_bytes >= FILTER_CHUNK_BYTES_MAX
            || self.filter_units >= FILTER_SLICE_UNITS
    }

    /// Makes room for an entity of so many bytes, with which the page that it belongs to has
    /// `limit` at most.
    pub(super) fn make_room(&mut self, limit: Option<usize>, bytes: usize) {
        if self.ends.is_empty() {
            let room = limit
                .unwrap_or(usize::MAX)
                .saturating_mul(LIST_ENTITY_BYTES);
            self.json
                .reserve(room.min(LIST_CHUNK_BYTES_MAX + LIST_ENTITY_BYTES));
        }
        if self.json.len() >= LIST_CHUNK_BYTES_MAX / 2 {
            // The last one would double the buffer.
            let room = self.json.capacity() - self.json.len();
            let needed = bytes + LIST_ENTITY_BYTES;
            self.json.reserve_exact(needed.max(room));
        }
    }
}

/// What a filter has found out of an entity with which it is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// The entity's last event: after another nothing of it holds.
    pub of: Sequence,
    /// The comparisons that were made.
    pub progress: Progress,
}

/// How far one part of a listing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkBounds {
    /// Entities that a filter may look at for it.
    pub examined_max: usize,
    /// Entities that it may hold.
    pub entities_max: usize,
    /// About the most bytes that the JSON of one of its entities may have.
    pub entity_bytes_max: usize,
    /// What the part before has found out of the first entity.
    pub judged: Option<Judged>,
}

#[cfg(test)]
impl ChunkBounds {
    /// As far as it goes.
    pub const NONE: Self = Self {
        examined_max: usize::MAX,
        entities_max: usize::MAX,
        entity_bytes_max: usize::MAX,
        judged: None,
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
