//! The entities of a listing: three ascending sources, of which the newest form of each id counts.
//!
//! What a memtable has promoted from a source below it is not among its own ascending slots: its id
//! comes from below, and the memtable is asked for it.

use flux_storage::{LayerEntity, LayerError, StackCursor};

use super::entity::Entity;
use super::memtable::Memtable;
use super::prefetched::PrefetchedSlots;
use super::query::Scope;
use super::slab::Slot;
use super::table::IdHash;

/// Entities in ascending order of their ids. An error is its last item.
#[derive(Debug)]
pub struct Listing<'s, 'q> {
    state: ListingState<'s, 'q>,
}

#[derive(Debug)]
enum ListingState<'s, 'q> {
    Open(Box<Merge<'s, 'q>>),
    Failed(LayerError),
    Done,
}

/// The sources, each with its next entity looked at.
#[derive(Debug)]
struct Merge<'s, 'q> {
    memtable: MemtableCursor<'s>,
    immutable: Option<MemtableCursor<'s>>,
    layers: Option<LayersCursor<'s, 'q>>,
}

/// A memory's slots in a scope, with the next one looked at.
#[derive(Debug)]
struct MemtableCursor<'s> {
    memtable: &'s Memtable,
    slots: PrefetchedSlots<'s>,
    next: Option<&'s Slot>,
}

/// The layers' entities in a scope, with the next one looked at.
#[derive(Debug)]
struct LayersCursor<'s, 'q> {
    cursor: StackCursor<'s>,
    scope: Scope<'q>,
    next: Option<LayerEntity<'s>>,
}

impl<'s> MemtableCursor<'s> {
    fn new(memtable: &'s Memtable, scope: &Scope<'_>, after: Option<&str>) -> Self {
        let mut cursor = Self {
            memtable,
            slots: PrefetchedSlots::new(memtable, memtable.range(scope, after)),
            next: None,
        };
        cursor.advance();
        cursor
    }

    fn advance(&mut self) {
        self.next = self.slots.next().map(|slot| self.memtable.get(slot));
    }

    fn id(&self) -> Option<&'s str> {
        self.next.map(|slot| slot.block.id())
    }

    /// The slot of an id that this memtable or a source below it goes on with; goes past it.
    fn take(&mut self, hash: IdHash, id: &str) -> Option<&'s Slot> {
        if self.id() == Some(id) {
            let found = self.next;
            self.advance();
            return found;
        }
        if !self.memtable.has_promoted() {
            return None;
        }
        let slot = self.memtable.find(hash, id)?;
        Some(self.memtable.get(slot))
    }
}

impl LayersCursor<'_, '_> {
    fn advance(&mut self) -> Result<(), LayerError> {
        let scope = self.scope;
        self.next = self
            .cursor
            .next()?
            .filter(|entity| !scope.is_before(entity.id));
        Ok(())
    }
}

/// What a listing reads: the memtables, newest first, and a cursor over the layers that stands at
/// its start.
pub(super) struct Sources<'s> {
    pub(super) memtable: &'s Memtable,
    pub(super) immutable: Option<&'s Memtable>,
    pub(super) layers: Option<StackCursor<'s>>,
}

impl<'s, 'q> Listing<'s, 'q> {
    /// Nothing.
    pub(super) const fn empty() -> Self {
        Self {
            state: ListingState::Done,
        }
    }

    pub(super) fn new(sources: Sources<'s>, scope: Scope<'q>, after: Option<&str>) -> Self {
        let state = match Merge::new(sources, scope, after) {
            Ok(merge) => ListingState::Open(Box::new(merge)),
            Err(error) => ListingState::Failed(error),
        };
        Self { state }
    }
}

impl<'s, 'q> Merge<'s, 'q> {
    fn new(
        sources: Sources<'s>,
        scope: Scope<'q>,
        after: Option<&str>,
    ) -> Result<Self, LayerError> {
        let layers = match sources.layers {
            None => None,
            Some(cursor) => {
                let mut layers = LayersCursor {
                    cursor,
                    scope,
                    next: None,
                };
                layers.advance()?;
                Some(layers)
            }
        };
        Ok(Self {
            memtable: MemtableCursor::new(sources.memtable, &scope, after),
            immutable: sources
                .immutable
                .map(|memtable| MemtableCursor::new(memtable, &scope, after)),
            layers,
        })
    }

    /// The next entity.
    fn next(&mut self) -> Result<Option<Entity<'s>>, LayerError> {
        if self.immutable.is_none() && self.layers.is_none() {
            while let Some(slot) = self.memtable.next {
                self.memtable.advance();
                // A tombstone may outlive what it hides: the last layer may be gone.
                if let Some(entity) = Entity::from_slot(slot) {
                    return Ok(Some(entity));
                }
            }
            return Ok(None);
        }
        while let Some(id) = self.lowest() {
            let found = self.take(id)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The lowest id that a source goes on with.
    fn lowest(&self) -> Option<&'s str> {
        let frozen = self.immutable.as_ref().and_then(MemtableCursor::id);
        let layered = self.layers.as_ref().and_then(|layers| layers.next);
        let layered = layered.map(|entity| entity.id);
        [self.memtable.id(), frozen, layered]
            .into_iter()
            .flatten()
            .min()
    }

    /// Goes past an id in every source. Returns its newest form, if that is no tombstone.
    fn take(&mut self, id: &str) -> Result<Option<Entity<'s>>, LayerError> {
        let mut newest = None;
        if let Some(layers) = &mut self.layers
            && let Some(entity) = layers.next
            && entity.id == id
        {
            newest = Entity::from_layer(entity);
            layers.advance()?;
        }
        let hash = self.memtable.memtable.hash(id);
        for cursor in self.immutable.iter_mut().chain([&mut self.memtable]) {
            if let Some(slot) = cursor.take(hash, id) {
                newest = Entity::from_slot(slot);
            }
        }
        Ok(newest)
    }
}

impl<'s> Iterator for Listing<'s, '_> {
    type Item = Result<Entity<'s>, LayerError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.state {
            ListingState::Open(merge) => merge.next().transpose(),
            ListingState::Failed(_) | ListingState::Done => {
                let state = std::mem::replace(&mut self.state, ListingState::Done);
                return match state {
                    ListingState::Failed(error) => Some(Err(error)),
                    ListingState::Open(_) | ListingState::Done => None,
                };
            }
        };
        if !matches!(next, Some(Ok(_))) {
            self.state = ListingState::Done;
        }
        next
    }
}
