//! Logs of older generations: written with another number of shards, read only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::header::LogId;
use crate::lock::DirLock;
use crate::recovery::{replay_sealed, sealed_end};
use crate::retention::{ClosedSegment, RetireJob, RetirePlan};
use crate::{IndexKey, LogOrigin, LogReader, Record, ReplayError, Sequence, StorageError, layout};

/// All logs that were written with one number of shards, before the newest generation.
#[derive(Debug)]
pub struct SealedGeneration {
    pub(crate) generation: u32,
    pub(crate) logs: Vec<SealedLog>,
}

/// One log of an older generation. Several may be replayed at once, from several threads.
#[derive(Debug)]
pub struct SealedLog {
    pub(crate) root: Arc<Path>,
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
    /// The generation, from 1.
    pub fn generation(&self) -> u32 {
        self.id.generation
    }

    /// The shard that wrote it, from 0.
    pub fn shard(&self) -> u32 {
        self.id.shard
    }

    /// How many shards its generation has.
    pub fn shard_count(&self) -> u32 {
        self.id.shard_count
    }

    /// Where its checkpoints are kept.
    pub fn checkpoint_path(&self) -> PathBuf {
        layout::checkpoint_path(&self.root, self.id)
    }

    /// Where the state is kept that it begins with.
    pub fn base_path(&self) -> PathBuf {
        layout::base_path(&self.root, self.id)
    }

    /// Where the log begins and whose it is, from names and headers. Blocks.
    ///
    /// # Errors
    ///
    /// What is wrong with the names or the headers.
    pub fn origin(&self) -> Result<LogOrigin, StorageError> {
        LogOrigin::read(&self.dir, self.id)
    }

    /// Visits every record that is still there in order. Where retention removed records ([`SealedLog::origin`])
    /// the visits begin after them. Blocks.
    ///
    /// # Errors
    ///
    /// `Storage` where the log is damaged, which may show only after many visits; `Visit` with the visitor's
    /// error, which ends the replay.
    pub fn replay<E>(
        &self,
        visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), ReplayError<E>> {
        replay_sealed((&self.dir, self.id), None, visit)?;
        Ok(())
    }

    /// Visits every record from `from` on in order: the caller knows that everything before it was durable, and
    /// segments before the one that holds it are not read. Blocks.
    ///
    /// # Errors
    ///
    /// As for [`SealedLog::replay`]; `BehindCheckpoint` where the log ends before `from - 1`, and
    /// `HistoryRemoved` where retention removed `from`.
    pub fn replay_from<E>(
        &self,
        from: Sequence,
        visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), ReplayError<E>> {
        replay_sealed((&self.dir, self.id), Some(from), visit)?;
        Ok(())
    }

    /// Its segments, oldest first: all of them may go when the state at its end is kept elsewhere. Blocks while
    /// the headers and the last segment are read.
    ///
    /// # Errors
    ///
    /// Where the log is damaged or cannot be read.
    pub fn closed_segments(&self) -> Result<Vec<ClosedSegment>, StorageError> {
        let (files, end) = sealed_end(&self.dir, self.id)?;
        Ok(files.closed(&end.bases, end.position.next))
    }

    /// The removal of the segments of a plan that was made of [`SealedLog::closed_segments`]. One at a time.
    ///
    /// # Panics
    ///
    /// Where the plan is of another log.
    pub fn retire(&self, plan: RetirePlan) -> RetireJob {
        assert!(*plan.dir == *self.dir, "a plan is for its own log");
        RetireJob {
            plan,
            _retirement: None,
            _lock: Arc::clone(&self.lock),
        }
    }

    /// A reader of its history, for any thread. Blocks: the headers and the last segment are read, so make it once
    /// and clone it.
    ///
    /// # Errors
    ///
    /// What is wrong with a header or with the last segment; damage elsewhere shows when it is read.
    pub fn reader(&self) -> Result<LogReader, StorageError> {
        LogReader::of_sealed(self)
    }
}
