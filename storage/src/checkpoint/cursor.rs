//! Walking a stack of layers in order of ids, the newest of each id.
//!
//! Each layer has a cursor; they are kept sorted by the id that they stand at, newer layers first
//! among equals. The oldest layer holds nearly everything, so the cursor that moved mostly stays
//! where it is: a step costs one comparison, and a heap would cost two for each of its levels.

use super::block::ArchivedStoredEntity;
use super::entity::LayerEntity;
use super::layer::Layer;
use crate::LayerError;

/// A position in one layer.
#[derive(Debug)]
struct LayerCursor<'a> {
    layer: &'a Layer,
    /// The block that `entities` is of.
    block: usize,
    /// What is left of the block.
    entities: std::slice::Iter<'a, ArchivedStoredEntity<'static>>,
}

/// A cursor and the entity that it stands at.
#[derive(Debug)]
struct Head<'a> {
    entity: LayerEntity<'a>,
    /// The place of the layer in the stack, newest first.
    age: usize,
    cursor: LayerCursor<'a>,
}

/// The entities of a stack from some id on, ascending, the newest of each id, tombstones included.
#[derive(Debug)]
pub struct StackCursor<'a> {
    /// Ascending by id, then by age.
    heads: Vec<Head<'a>>,
    /// What stopped a layer's cursor: told once everything before it was.
    failure: Option<LayerError>,
}

impl<'a> LayerCursor<'a> {
    fn seek(layer: &'a Layer, is_before: &impl Fn(&str) -> bool) -> Result<Self, LayerError> {
        let (block, slot) = layer.seek(is_before)?;
        let entities = if block < layer.block_count() {
            &layer.block(block)?.entities()[slot..]
        } else {
            &[]
        };
        Ok(Self {
            layer,
            block,
            entities: entities.iter(),
        })
    }

    fn next(&mut self) -> Result<Option<LayerEntity<'a>>, LayerError> {
        loop {
            if let Some(entity) = self.entities.next() {
                return Ok(Some(entity.view()));
            }
            if self.block + 1 >= self.layer.block_count() {
                return Ok(None);
            }
            self.block += 1;
            self.entities = self.layer.block(self.block)?.entities().iter();
        }
    }
}

impl<'a> StackCursor<'a> {
    /// From the first id for which `is_before` is false, over layers from the newest to the oldest.
    pub(super) fn seek(
        layers: impl Iterator<Item = &'a Layer>,
        is_before: &impl Fn(&str) -> bool,
    ) -> Self {
        let mut stack = Self {
            heads: Vec::new(),
            failure: None,
        };
        for (age, layer) in layers.enumerate() {
            let found = LayerCursor::seek(layer, is_before)
                .and_then(|mut cursor| Ok((cursor.next()?, cursor)));
            match found {
                Ok((Some(entity), cursor)) => {
                    stack.heads.push(Head {
                        entity,
                        age,
                        cursor,
                    });
                }
                Ok((None, _)) => {}
                Err(failure) => stack.fail(failure),
            }
        }
        stack
            .heads
            .sort_by(|left, right| (left.entity.id, left.age).cmp(&(right.entity.id, right.age)));
        stack
    }

    /// The entity that `next` returns next.
    ///
    /// # Errors
    ///
    /// As of `next`.
    pub fn peek(&self) -> Result<Option<LayerEntity<'a>>, LayerError> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(self.heads.first().map(|head| head.entity)),
        }
    }

    /// The next entity. Blocks if its block is not in memory.
    ///
    /// # Errors
    ///
    /// What is wrong with the layer that would be read next; every call after it returns the same.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would go on after an error"
    )]
    pub fn next(&mut self) -> Result<Option<LayerEntity<'a>>, LayerError> {
        let next = self.peek()?;
        if let Some(entity) = next {
            self.advance();
            while self
                .heads
                .first()
                .is_some_and(|head| head.entity.id == entity.id)
            {
                self.advance();
            }
        }
        Ok(next)
    }

    /// Moves the first cursor on and puts it where it belongs then.
    fn advance(&mut self) {
        let Some(first) = self.heads.first_mut() else {
            return;
        };
        match first.cursor.next() {
            Ok(Some(entity)) => {
                first.entity = entity;
                self.sift_first();
            }
            Ok(None) => drop(self.heads.remove(0)),
            Err(failure) => self.fail(failure),
        }
    }

    fn sift_first(&mut self) {
        let mut index = 1;
        while index < self.heads.len() {
            let [moved, other] = [&self.heads[index - 1], &self.heads[index]];
            if (moved.entity.id, moved.age) < (other.entity.id, other.age) {
                break;
            }
            self.heads.swap(index - 1, index);
            index += 1;
        }
    }

    /// Nothing is told any more: without one layer, older entities of it would come to light.
    fn fail(&mut self, failure: LayerError) {
        self.heads.clear();
        self.failure.get_or_insert(failure);
    }
}
