//! An entity as layers hold it.

use crate::Sequence;

/// One entity of a layer, borrowed from where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerEntity<'a> {
    /// What it is called; layers are ordered by this, byte by byte.
    pub id: &'a str,
    /// How many events made it what it is, in the writer's terms.
    pub version: u64,
    /// When its last event was accepted, Unix microseconds.
    pub time_micros: i64,
    /// Its last event.
    pub sequence: Sequence,
    /// Its properties, in the writer's form; `None`: the entity is deleted, which hides it in older
    /// layers.
    pub body: Option<&'a str>,
}

/// Whether a body is well formed. Asked of every body of a block when the block is first used, so
/// that readers need not ask again.
pub type BodyCheck = fn(&str) -> bool;
