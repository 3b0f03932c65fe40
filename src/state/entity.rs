//! An entity as its readers see it.

use flux_storage::Sequence;

use crate::model::Timestamp;

use super::block::Span;
use super::slab::Slot;

/// An entity, borrowed from the state.
#[derive(Debug, Clone, Copy)]
pub struct Entity<'s> {
    slot: &'s Slot,
}

impl<'s> Entity<'s> {
    pub(super) const fn new(slot: &'s Slot) -> Self {
        Self { slot }
    }

    /// Its id.
    pub fn id(self) -> &'s str {
        self.slot.block.id()
    }

    /// Events applied to it since it was created, from 1.
    pub const fn version(self) -> u64 {
        self.slot.version
    }

    /// The server's time of its last event.
    pub const fn last_updated(self) -> Timestamp {
        self.slot.last_updated
    }

    /// The number of its last event in the shard's log.
    pub const fn sequence(self) -> Sequence {
        self.slot.sequence
    }

    /// Its properties, name and JSON text of the value, ascending by name.
    pub fn properties(self) -> EntityProperties<'s> {
        let (text, first) = self.slot.block.properties();
        EntityProperties { text, next: first }
    }
}

/// The properties of an entity: name and JSON text of the value, ascending by name.
#[derive(Debug, Clone)]
pub struct EntityProperties<'s> {
    text: &'s str,
    /// Where in `text` the next property starts.
    next: usize,
}

impl<'s> Iterator for EntityProperties<'s> {
    type Item = (&'s str, &'s str);

    fn next(&mut self) -> Option<Self::Item> {
        let span = Span::read(self.text, self.next)?;
        self.next = span.end;
        Some((
            &self.text[span.name..span.value],
            &self.text[span.value..span.end],
        ))
    }
}
