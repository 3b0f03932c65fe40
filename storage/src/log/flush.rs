//! What to flush, handed to whoever can wait for the disk.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::disk::files;
use crate::{Sequence, StorageError};

/// A flush in progress: `fdatasync` each segment in order, then give it to `Log::finish_flush`; or
/// give the error to `Log::fail`.
#[derive(Debug)]
#[must_use = "the log begins no other flush until this one is finished or failed"]
pub struct Flush {
    pub(crate) through: Sequence,
    pub(crate) segments: Vec<FlushSegment>,
}

/// A segment file that holds records which are not durable yet.
#[derive(Debug, Clone)]
pub struct FlushSegment {
    /// The segment's place in its log, from 1.
    pub ordinal: u64,
    /// The file. Whoever opens it keeps it open from flush to flush: an error of the disk in
    /// between is told only to files that were open then.
    pub path: Arc<Path>,
    pub(crate) file: Arc<File>,
}

impl Flush {
    /// The last sequence that is durable once every segment is flushed.
    pub fn through(&self) -> Sequence {
        self.through
    }

    /// The segments to flush, oldest first, never empty.
    pub fn segments(&self) -> &[FlushSegment] {
        &self.segments
    }

    /// Flushes every segment with plain `fdatasync`. Blocks; may run on any thread.
    ///
    /// # Errors
    ///
    /// What the first failing segment's flush said. Give it to `Log::fail`.
    pub fn sync_blocking(&self) -> Result<(), StorageError> {
        self.segments
            .iter()
            .try_for_each(FlushSegment::sync_blocking)
    }
}

impl FlushSegment {
    /// Flushes this segment with plain `fdatasync`. Blocks.
    ///
    /// # Errors
    ///
    /// What the flush said.
    pub fn sync_blocking(&self) -> Result<(), StorageError> {
        files::sync_data(&self.file, &self.path)
    }
}
