//! The index of a segment that was closed, written where nobody waits for it.

use std::sync::Arc;

use super::{IndexBuilder, IndexKey, IndexedSegment, file};
use crate::StorageError;
use crate::disk::lock::DirLock;
use crate::disk::segment_file::SegmentEntry;
use crate::sequence::Span;

/// Writes the index of a closed segment. Any thread may run it; one that is dropped, or fails,
/// costs the first reader of that segment a walk through it.
#[derive(Debug)]
pub struct IndexJob {
    pub(crate) entry: SegmentEntry,
    pub(crate) span: Span,
    pub(crate) index_builder: IndexBuilder,
    pub(crate) key: IndexKey,
    /// Keeps the directory from being opened again while this may still write to it.
    pub(crate) lock: Arc<DirLock>,
}

impl IndexJob {
    /// Records of the segment.
    pub fn records(&self) -> u64 {
        self.index_builder.len() as u64
    }

    /// Sorts and writes. Takes some 30 bytes of memory for each record meanwhile; waits for no
    /// flush.
    ///
    /// # Errors
    ///
    /// Those of [`IndexJob::run_throttled`].
    pub fn run(self) -> Result<(), StorageError> {
        self.run_throttled(&mut || {})
    }

    /// The same, and calls `rest` after each fraction of a millisecond of work: who waits there
    /// leaves the processor to others.
    ///
    /// # Errors
    ///
    /// `OutOfSpace`, `ReadOnly` or `Io`; what was written is removed again, and nothing needs to be
    /// done.
    pub fn run_throttled(self, throttle: &mut dyn FnMut()) -> Result<(), StorageError> {
        let Self {
            entry,
            span,
            index_builder,
            key,
            lock: _lock,
        } = self;
        let segment = IndexedSegment {
            entry: &entry,
            span,
        };
        file::write(&segment, &index_builder, key, throttle)
    }
}
