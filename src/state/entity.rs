//! An entity as its readers see it.

use flux_storage::{LayerEntity, Sequence};

use crate::model::{EntityHead, EntityTag, Lifetime, Timestamp};

use super::block::{Span, split_lifetime};
use super::namespaces::Bookkeeping;
use super::slab::Slot;

/// An entity, borrowed from the state.
#[derive(Debug, Clone, Copy)]
pub struct Entity<'s> {
    id: &'s str,
    /// Its lifetime and its properties, packed.
    body: &'s str,
    version: u64,
    last_updated: Timestamp,
    sequence: Sequence,
}

impl<'s> Entity<'s> {
    /// `None` for a tombstone.
    pub(super) fn from_slot(slot: &'s Slot) -> Option<Self> {
        slot.is_live().then(|| Self {
            id: slot.block.id(),
            body: slot.block.body(),
            version: slot.version(),
            last_updated: slot.last_updated,
            sequence: slot.sequence,
        })
    }

    /// `None` for a tombstone, and for what is no entity.
    pub(super) fn from_layer(entity: LayerEntity<'s>) -> Option<Self> {
        let body = entity.body.filter(|_| Bookkeeping::of(entity.id).is_none());
        body.map(|body| Self {
            id: entity.id,
            body,
            version: entity.version,
            last_updated: Timestamp::from_micros(entity.time_micros),
            sequence: entity.sequence,
        })
    }

    /// What it says besides its properties.
    pub fn head(self) -> EntityHead<'s> {
        EntityHead {
            id: self.id,
            version: self.version,
            last_updated: self.last_updated,
            lifetime: self.lifetime(),
        }
    }

    /// When it ends by itself.
    pub fn lifetime(self) -> Lifetime {
        split_lifetime(self.body).0
    }

    /// Its id.
    pub const fn id(self) -> &'s str {
        self.id
    }

    /// Events applied to it since it was created, from 1.
    pub const fn version(self) -> u64 {
        self.version
    }

    /// The server's time of its last event.
    pub const fn last_updated(self) -> Timestamp {
        self.last_updated
    }

    /// The number of its last event in the shard's log.
    pub const fn sequence(self) -> Sequence {
        self.sequence
    }

    /// The tag of its state.
    pub const fn tag(self) -> EntityTag {
        EntityTag {
            sequence: self.sequence,
            last_updated: self.last_updated,
        }
    }

    /// About the bytes of its properties as JSON.
    pub const fn body_bytes(self) -> usize {
        self.body.len()
    }

    /// Its lifetime and its properties, packed.
    pub(super) const fn body(self) -> &'s str {
        self.body
    }

    /// Its properties, name and JSON text of the value, ascending by name.
    pub fn properties(self) -> EntityProperties<'s> {
        EntityProperties {
            text: split_lifetime(self.body).1,
            next: 0,
        }
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
