//! Logs of older generations: written with another number of shards, read only.

use std::ops::Deref;
use std::sync::Arc;

use crate::disk::lock::DirLock;
use crate::index::IndexKey;
use crate::log::log_files::SealedSegment;
use crate::log::place::LogPlace;
use crate::log::reader::LogReader;
use crate::log::recovery::{replay_sealed, sealed_end};
use crate::log::retention::{ClosedSegment, RetireJob, RetirePlan, closed_segments};
use crate::{Record, ReplayError, Sequence, StorageError};

/// All logs that were written with one number of shards, before the newest generation.
#[derive(Debug)]
pub struct SealedGeneration {
    pub(crate) generation: u32,
    pub(crate) logs: Vec<SealedLog>,
}

/// One log of an older generation. Several may be replayed at once, from several threads.
#[derive(Debug)]
pub struct SealedLog {
    pub(crate) place: LogPlace,
    pub(crate) index_key: IndexKey,
    pub(crate) lock: Arc<DirLock>,
}

impl SealedGeneration {
    /// Its number, from 1. Every record of a generation comes before every record of the next.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Its logs, one for each shard it was written with. Their records have no order among each
    /// other.
    pub fn logs(&self) -> &[SealedLog] {
        &self.logs
    }
}

impl Deref for SealedLog {
    type Target = LogPlace;

    fn deref(&self) -> &LogPlace {
        &self.place
    }
}

impl SealedLog {
    /// Visits every record that is still there in order. If retention removed records
    /// (`SealedLog::origin`) the visits begin after them. Blocks.
    ///
    /// # Errors
    ///
    /// `Storage` if the log is damaged, which may show only after many visits; `Visit` with the
    /// visitor's error, which ends the replay.
    pub fn replay<E>(
        &self,
        visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), ReplayError<E>> {
        replay_sealed((&self.dir, self.id), None, visit)?;
        Ok(())
    }

    /// Visits every record from `from` on in order: the caller knows that everything before it was
    /// durable, and segments before the one that holds it are not read. Blocks.
    ///
    /// # Errors
    ///
    /// As for [`SealedLog::replay`]; `BehindCheckpoint` if the log ends before `from - 1`, and
    /// `HistoryRemoved` if retention removed `from`.
    pub fn replay_from<E>(
        &self,
        from: Sequence,
        visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), ReplayError<E>> {
        replay_sealed((&self.dir, self.id), Some(from), visit)?;
        Ok(())
    }

    /// Its segments, oldest first: all of them may go when the state at its end is kept elsewhere.
    /// Blocks while the headers and the last segment are read.
    ///
    /// # Errors
    ///
    /// If the log is damaged or cannot be read.
    pub fn closed_segments(&self) -> Result<Vec<ClosedSegment>, StorageError> {
        let (files, end) = sealed_end(&self.dir, self.id)?;
        Ok(closed_segments(&files, &end.bases, end.position.next))
    }

    /// The removal of the segments of a plan that was made of [`SealedLog::closed_segments`]. One
    /// at a time.
    ///
    /// # Panics
    ///
    /// If the plan is of another log.
    pub fn retire(&self, plan: RetirePlan) -> RetireJob {
        assert!(*plan.dir == *self.dir, "a plan is for its own log");
        RetireJob {
            plan,
            _retirement: None,
            _lock: Arc::clone(&self.lock),
        }
    }

    /// A reader of its history, for any thread. Blocks: the headers and the last segment are read,
    /// so make it once and clone it.
    ///
    /// # Errors
    ///
    /// What is wrong with a header or with the last segment; damage elsewhere shows when it is
    /// read.
    pub fn reader(&self) -> Result<LogReader, StorageError> {
        let (files, end) = sealed_end(&self.dir, self.id)?;
        let segments = files.segments.into_iter().zip(end.bases);
        let closed = segments
            .map(|(entry, base)| SealedSegment { entry, base })
            .collect();
        let closed_next = end.position.next;
        let through = closed_next.previous();
        Ok(LogReader {
            removed: files.removed,
            closed: Arc::new(closed),
            closed_next,
            active: None,
            through,
            durable: through,
            key: self.index_key,
            _lock: Arc::clone(&self.lock),
        })
    }
}
