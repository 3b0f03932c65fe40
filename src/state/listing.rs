//! The entities of a listing: three ascending sources, of which the newest form of each id counts.
//!
//! What a memory has lifted from a source below it is not among its own ascending slots: its id
//! comes from below, and the memory is asked for it.

use flux_storage::{LayerEntity, LayerError, StackCursor};

use super::ahead::Ahead;
use super::entity::Entity;
use super::memory::Memory;
use super::query::Scope;
use super::slab::Slot;
use super::table::IdHash;

/// Entities in ascending order of their ids. An error is its last item.
#[derive(Debug)]
pub struct Listing<'s, 'q> {
    state: Progress<'s, 'q>,
}

#[derive(Debug)]
enum Progress<'s, 'q> {
    Under(Box<Merge<'s, 'q>>),
    Failed(LayerError),
    Done,
}

/// The sources, each with its next entity looked at.
#[derive(Debug)]
struct Merge<'s, 'q> {
    active: MemoryCursor<'s>,
    frozen: Option<MemoryCursor<'s>>,
    layers: Option<LayersCursor<'s, 'q>>,
}

/// A memory's slots in a scope, with the next one looked at.
#[derive(Debug)]
struct MemoryCursor<'s> {
    memory: &'s Memory,
    slots: Ahead<'s>,
    next: Option<&'s Slot>,
}

/// The layers' entities in a scope, with the next one looked at.
#[derive(Debug)]
struct LayersCursor<'s, 'q> {
    cursor: StackCursor<'s>,
    scope: Scope<'q>,
    next: Option<LayerEntity<'s>>,
}

impl<'s> MemoryCursor<'s> {
    fn new(memory: &'s Memory, scope: &Scope<'_>, after: Option<&str>) -> Self {
        let mut cursor = Self {
            memory,
            slots: Ahead::new(memory, memory.range(scope, after)),
            next: None,
        };
        cursor.advance();
        cursor
    }

    fn advance(&mut self) {
        self.next = self.slots.next().map(|slot| self.memory.get(slot));
    }

    fn id(&self) -> Option<&'s str> {
        self.next.map(|slot| slot.block.id())
    }

    /// The slot of an id that this memory or a source below it goes on with; goes past it.
    fn take(&mut self, hash: IdHash, id: &str) -> Option<&'s Slot> {
        if self.id() == Some(id) {
            let found = self.next;
            self.advance();
            return found;
        }
        if !self.memory.has_lifted() {
            return None;
        }
        let slot = self.memory.find(hash, id)?;
        Some(self.memory.get(slot))
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

/// What a listing reads: the memories, newest first, and a cursor over the layers that stands at
/// its start.
pub(super) struct Sources<'s> {
    pub(super) active: &'s Memory,
    pub(super) frozen: Option<&'s Memory>,
    pub(super) layers: Option<StackCursor<'s>>,
}

impl<'s, 'q> Listing<'s, 'q> {
    /// Nothing.
    pub(super) const fn empty() -> Self {
        Self {
            state: Progress::Done,
        }
    }

    pub(super) fn new(sources: Sources<'s>, scope: Scope<'q>, after: Option<&str>) -> Self {
        let state = match Merge::new(sources, scope, after) {
            Ok(merge) => Progress::Under(Box::new(merge)),
            Err(error) => Progress::Failed(error),
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
            active: MemoryCursor::new(sources.active, &scope, after),
            frozen: sources
                .frozen
                .map(|memory| MemoryCursor::new(memory, &scope, after)),
            layers,
        })
    }

    /// The next entity.
    fn next(&mut self) -> Result<Option<Entity<'s>>, LayerError> {
        if self.frozen.is_none() && self.layers.is_none() {
            while let Some(slot) = self.active.next {
                self.active.advance();
                // A marker may outlive what it hides: the last layer may be gone.
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
        let frozen = self.frozen.as_ref().and_then(MemoryCursor::id);
        let layered = self.layers.as_ref().and_then(|layers| layers.next);
        let layered = layered.map(|entity| entity.id);
        [self.active.id(), frozen, layered]
            .into_iter()
            .flatten()
            .min()
    }

    /// Goes past an id in every source. Returns its newest form, where that is no marker.
    fn take(&mut self, id: &str) -> Result<Option<Entity<'s>>, LayerError> {
        let mut newest = None;
        if let Some(layers) = &mut self.layers
            && let Some(entity) = layers.next
            && entity.id == id
        {
            newest = Entity::from_layer(entity);
            layers.advance()?;
        }
        let hash = self.active.memory.hash(id);
        for cursor in self.frozen.iter_mut().chain([&mut self.active]) {
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
            Progress::Under(merge) => merge.next().transpose(),
            Progress::Failed(_) | Progress::Done => {
                let state = std::mem::replace(&mut self.state, Progress::Done);
                return match state {
                    Progress::Failed(error) => Some(Err(error)),
                    Progress::Under(_) | Progress::Done => None,
                };
            }
        };
        if !matches!(next, Some(Ok(_))) {
            self.state = Progress::Done;
        }
        next
    }
}
