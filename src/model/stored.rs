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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Where it is.
    pub stored: Stored,
    /// It was stored before under the same id, and nothing has changed now.
    pub duplicate: bool,
    /// If it has operations: what they led to.
    pub properties: Option<OperationResults>,
    /// If it asks to be bound to a connection: whether its entity is.
    pub bound: Option<bool>,
}

/// What the operations of an event led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationResults {
    /// A JSON object.
    Json(Box<str>),
    /// So many bytes of JSON, which are too many beside those of other items.
    Omitted(usize),
}

impl From<Stored> for Published {
    /// It was stored just now.
    fn from(stored: Stored) -> Self {
        Self {
            stored,
            duplicate: false,
            properties: None,
            bound: None,
        }
    }
}
