//! The layers of a checkpoint, newest first: what a state has below what changed since.

use std::path::Path;
use std::sync::Arc;

use super::cursor::StackCursor;
use super::entity::LayerEntity;
use super::id_hash::{IdHash, IdHasher};
use super::layer::{Layer, PREFETCH_GROUP_IDS_MAX};
use crate::LayerError;

/// An immutable stack of layers. Cheap to clone, and shared between threads; the files stay mapped
/// until the last clone is gone, also when they have been removed.
#[derive(Debug, Clone, Default)]
pub struct LayerStack {
    hasher: IdHasher,
    /// Newest first.
    layers: Arc<[Arc<Layer>]>,
}

impl LayerStack {
    /// Of layers whose ids are hashed by `hasher`, newest first.
    pub(super) fn new(hasher: IdHasher, layers: Vec<Arc<Layer>>) -> Self {
        let salts = layers.iter().map(|layer| layer.header().hash_salt);
        assert!(salts.into_iter().all(|salt| salt == hasher.salt()));
        Self {
            hasher,
            layers: layers.into(),
        }
    }

    pub(super) fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// The newest entity of this id, a tombstone included. Costs about three cache misses in the
    /// layer that holds it and one in each newer layer; blocks if those pages are not in memory.
    ///
    /// # Errors
    ///
    /// What is wrong with the layer that had to be read.
    pub fn find(&self, id: &str) -> Result<Option<LayerEntity<'_>>, LayerError> {
        if self.layers.is_empty() {
            return Ok(None);
        }
        let hash = self.hasher.hash(id);
        for layer in self.layers.iter() {
            if let Some(entity) = layer.find(hash, id)? {
                return Ok(Some(entity));
            }
        }
        Ok(None)
    }

    /// Prefetches what [`LayerStack::find`] needs for these ids, at most
    /// [`PREFETCH_GROUP_IDS_MAX`], so that many cache misses overlap. Parts that were not checked
    /// before are not read, so this never blocks. Moves the ids that were not found to the front
    /// and returns them. The result is a hint: an id whose hash collides counts as found, and one
    /// in a part that was not checked yet counts as not found.
    ///
    /// # Panics
    ///
    /// With more ids than that.
    pub fn prefetch_ids<'a, 'i>(&self, ids: &'a mut [&'i [u8]]) -> &'a mut [&'i [u8]] {
        if self.layers.is_empty() {
            return ids;
        }
        let mut hashed = [(IdHash(0), &[][..]); PREFETCH_GROUP_IDS_MAX];
        let hashed = &mut hashed[..ids.len()];
        for (entry, id) in hashed.iter_mut().zip(&*ids) {
            *entry = (self.hasher.hash(id), *id);
        }
        let mut missing = hashed.len();
        for layer in self.layers.iter() {
            missing = layer.prefetch_ids(&mut hashed[..missing]);
        }
        for (place, (_, id)) in ids.iter_mut().zip(hashed) {
            *place = id;
        }
        &mut ids[..missing]
    }

    /// The entities from the first id on for which `is_before` is false: ascending, the newest of
    /// each id, tombstones included. `is_before` is true of all ids up to some point and false
    /// after it. Costs a binary search per layer; blocks if the pages are not in memory.
    pub fn list(&self, is_before: impl Fn(&str) -> bool) -> StackCursor<'_> {
        StackCursor::seek(self.layers.iter().map(Arc::as_ref), &is_before)
    }

    /// Asks the kernel to read all layers into memory. Not for a reactor: asking takes as long as
    /// it takes to queue the reads.
    pub fn prefetch_files(&self) {
        self.layers.iter().for_each(|layer| layer.prefetch_file());
    }

    /// Whether one of its layers lies in this file.
    pub fn has_layer(&self, path: &Path) -> bool {
        self.layers.iter().any(|layer| **layer.path() == *path)
    }

    /// Bytes of all layers on disk.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes()).sum()
    }

    /// Entities of all layers: tombstones, and older entities that newer ones hide, included.
    pub fn records(&self) -> u64 {
        self.layers.iter().map(|layer| layer.records()).sum()
    }

    /// How many layers there are.
    pub fn layer_count(&self) -> usize {
        self.layers.len()
    }

    /// Whether there is no layer.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}
