//! Logs of older generations: written with another number of shards, read only.

use std::path::Path;
use std::sync::Arc;

use crate::format::header::LogId;
use crate::lock::DirLock;
use crate::recovery::replay_sealed;
use crate::{IndexKey, LogReader, Record, ReplayError, StorageError};

/// All logs that were written with one number of shards, before the newest generation.
#[derive(Debug)]
pub struct SealedGeneration {
    pub(crate) generation: u32,
    pub(crate) logs: Vec<SealedLog>,
}

/// One log of an older generation. Several may be replayed at once, from several threads.
#[derive(Debug)]
pub struct SealedLog {
    pub(crate) dir: Arc<Path>,
    pub(crate) id: LogId,
    pub(crate) index_key: IndexKey,
    pub(crate) lock: Arc<DirLock>,
}

impl SealedGeneration {
    /// Its number, from 1. Every record of a generation comes before every record of the next.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Its logs, one for each shard it was written with. Their records have no order among each other.
    pub fn logs(&self) -> &[SealedLog] {
        &self.logs
    }
}

impl SealedLog {
    /// The shard that wrote it, from 0.
    pub fn shard(&self) -> u32 {
        self.id.shard
    }

    /// How many shards its generation has.
    pub fn shard_count(&self) -> u32 {
        self.id.shard_count
    }

    /// Visits every record in order. Blocks.
    ///
    /// # Errors
    ///
    /// `Storage` where the log is damaged, which may show only after many visits; `Visit` with the visitor's
    /// error, which ends the replay.
    pub fn replay<E>(
        &self,
        visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), ReplayError<E>> {
        replay_sealed(&self.dir, self.id, visit)
    }

    /// A reader of its history, for any thread. Blocks: headers are read, and the last segment where it has no
    /// index.
    ///
    /// # Errors
    ///
    /// What is wrong with a header or with the last segment; damage elsewhere shows when it is read.
    pub fn reader(&self) -> Result<LogReader, StorageError> {
        LogReader::of_sealed(self)
    }
}
