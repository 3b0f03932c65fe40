//! The log of a shard, behind a trait: an append-only sequence of records that becomes durable in
//! groups.
//!
//! | file | job |
//! | --- | --- |
//! | `local` | the log of one machine, over the segment files of `flux_storage` |
//! | `memory` | a log in memory that fails, lags and loses by seed, for simulations and tests |
//! | `jobs` | what a log asks helper threads to do |
//! | `contract_test` | what both have to do |
//!
//! ```text
//! append ──▶ appended ──write_out──▶ written ──begin_flush──▶ Flush ──▶ Flusher, on its own thread
//!                                                               finish_flush ──▶ durable
//! ```
//!
//! ```text
//! begin_group ──▶ append … append ──▶ end_group: appended, all at once
//!                               └──▶ abort_group: as if nothing had been appended
//! ```
//!
//! Invariants of every log: sequences are contiguous from 1; `durable ≤ written ≤ appended`; none
//! of the three ever lies inside of a group; at most one flush is in progress; what is not durable
//! can be taken back. Code above this folder knows no file of a log.

#[cfg(test)]
mod contract_test;
mod jobs;
mod local;
mod memory;

pub use flux_storage::{GroupSize, Removal, WriteSpeed};
pub use jobs::{IndexJob, NextSegmentJob, RetentionChoice, RetireJob};
pub use local::{LocalFlusher, LocalLog};
pub use memory::{
    Faults, MemoryDisk, MemoryFlush, MemoryFlusher, MemoryLog, MemorySegment, NoPlan,
};

use flux_storage::{LogReader, Record, ReplayError, Sequence, StorageError};
use std::fmt::{Debug, Display};
use std::io;

/// Why an append was refused. Nothing was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendRejection {
    /// The active segment is full and the next is not ready yet.
    #[error("the next segment is not ready")]
    NotReady,
    /// A write or flush failed, now or earlier.
    #[error("the log is closed after a failure")]
    Closed,
    /// The record is larger than the log can hold.
    #[error("the record is too large")]
    TooLarge,
    /// The entity can't be read: a layer of the state is damaged.
    #[error("the state is damaged")]
    StateDamaged,
    /// The namespace has used up its rate.
    #[error("the namespace has used up its rate")]
    RateLimited {
        /// Seconds until it may go on.
        seconds: u32,
    },
}

/// An append-only sequence of records, owned by one shard and used from one thread. No method waits
/// for the disk unless its documentation says that it blocks.
pub trait Log: Debug + Send + Sized + 'static {
    /// A flush that was begun: what is to be made durable.
    type Flush: Debug + Send + 'static;
    /// What makes it durable.
    type Flusher: Flusher<Flush = Self::Flush>;
    /// Room for more records, prepared before it is needed.
    type NextSegment: Debug + Send + 'static;
    /// What retention will remove.
    type RetentionPlan: RetentionPlan;

    /// Appends one event. It is not durable yet. To an open group ([`Log::begin_group`]): the event
    /// is appended when the group ends, and has this sequence then.
    ///
    /// # Errors
    /// `NotReady`, `Closed` or `TooLarge`. An open group stays open, without this event.
    fn append(&mut self, time_micros: i64, event: &[u8]) -> Result<Sequence, AppendRejection>;

    /// Begins a group: the events that are appended until [`Log::end_group`] are stored all or
    /// none, whatever fails. Until then nothing but [`Log::append`] is any different: the log
    /// appends, writes, flushes and shows none of them.
    ///
    /// `size` is what the group is going to need. A group that turns out larger goes on as long as
    /// there is room; when there is none, [`Log::append`] says `NotReady`, and the group has to be
    /// given up and begun again later.
    ///
    /// # Errors
    /// `NotReady` if there is no room for all of it yet, `Closed`, or `TooLarge`. No group is open
    /// then.
    ///
    /// # Panics
    /// If a group is open.
    fn begin_group(&mut self, size: GroupSize) -> Result<(), AppendRejection>;

    /// Ends the open group: all its events are appended. None is durable yet.
    ///
    /// # Panics
    /// If no group is open.
    fn end_group(&mut self);

    /// Gives the open group up: its events are gone, and their sequences are given to others. Costs
    /// nothing.
    ///
    /// # Panics
    /// If no group is open.
    fn abort_group(&mut self);

    /// The last sequence appended. An open group comes after it.
    fn appended(&self) -> Sequence;

    /// The last sequence that a killed process does not lose.
    fn written(&self) -> Sequence;

    /// The last sequence that is durable.
    fn durable(&self) -> Sequence;

    /// Makes all that was appended written.
    ///
    /// # Errors
    /// Why it could not. The log accepts nothing more.
    fn write_out(&mut self) -> Result<(), StorageError>;

    /// Writes all that was appended, and begins to flush it; `None` if all of it is durable.
    ///
    /// # Errors
    /// Those of [`Log::write_out`].
    ///
    /// # Panics
    /// If a flush is in progress.
    fn begin_flush(&mut self) -> Result<Option<Self::Flush>, StorageError>;

    /// A flush has succeeded: what it covers is durable. After [`Log::fail`] nothing happens.
    ///
    /// # Panics
    /// If no flush is in progress.
    fn finish_flush(&mut self, flush: Self::Flush);

    /// A write or flush failed: nobody knows what is on the disk, so the log accepts nothing more.
    fn fail(&mut self, reason: &dyn Display);

    /// Takes back every record after `sequence`. Their sequences will be given to other records.
    /// Blocks.
    ///
    /// # Errors
    /// Why it could not. The log accepts nothing more.
    ///
    /// # Panics
    /// If one of them is durable, if `sequence` lies inside of a group, while a group is open, or
    /// while a flush or a [`NextSegmentJob`] is out.
    fn truncate_after(&mut self, sequence: Sequence) -> Result<(), StorageError>;

    /// Visits the records from `from` on, in order, up to the last appended. Blocks.
    ///
    /// # Errors
    /// `Storage` if a record can't be read; `Visit` with the visitor's error, which ends the
    /// replay.
    fn replay_from<E>(
        &mut self,
        from: Sequence,
        visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), ReplayError<E>>;

    /// A snapshot up to `through` for other threads to read; `None` of a log that keeps no history.
    fn reader(&mut self, through: Sequence) -> Option<LogReader>;

    /// About how many bytes the records after `sequence` take.
    fn bytes_since(&self, sequence: Sequence) -> u64;

    /// Bytes that the log takes where it is stored.
    fn bytes_stored(&self) -> u64;

    /// No event that was removed is later than this, Unix microseconds; `None` if none was.
    fn history_start_micros(&self) -> Option<i64>;

    /// Flushes what is left, and leaves the log in order. Blocks.
    ///
    /// # Errors
    /// Why it could not, now or earlier.
    ///
    /// # Panics
    /// If a flush is in progress.
    fn close(self) -> Result<(), StorageError>;

    /// Flushes all that was appended. Blocks: for the end.
    ///
    /// # Errors
    /// Why it could not, now or earlier.
    ///
    /// # Panics
    /// If a flush is in progress.
    fn flush_blocking(&mut self) -> Result<(), StorageError> {
        let Some(flush) = self.begin_flush()? else {
            return Ok(());
        };
        match Self::Flusher::default().flush(&flush) {
            Ok(()) => {
                self.finish_flush(flush);
                Ok(())
            }
            Err(error) => {
                self.fail(&error);
                Err(StorageError::Poisoned {
                    reason: error.to_string().into(),
                })
            }
        }
    }

    /// The preparation of the next segment, if one is wanted: once until
    /// [`Log::install_next_segment`] or [`Log::next_segment_failed`]. It leaves `leave_bytes` of
    /// the disk free. Costs a comparison.
    fn next_segment_job(&mut self, leave_bytes: u64) -> Option<NextSegmentJob<Self::NextSegment>>;

    /// Takes the segment that a job has prepared.
    ///
    /// # Panics
    /// If no job was out.
    fn install_next_segment(&mut self, segment: Self::NextSegment);

    /// The job failed: another may be asked for.
    ///
    /// # Panics
    /// If no job was out.
    fn next_segment_failed(&mut self);

    /// How much of the active segment is used, in thousandths.
    fn segment_used_permille(&self) -> u32;

    /// A job that writes the history index of a part that is closed and durable, if there is one.
    fn index_job(&mut self) -> Option<IndexJob>;

    /// What retention may remove of the records before `below`, at most `count_max` segments.
    /// `None` if that is nothing, or an earlier [`RetireJob`] is out.
    fn removable(
        &self,
        below: Sequence,
        count_max: usize,
    ) -> Option<RetentionChoice<Self::RetentionPlan>>;

    /// Forgets what a plan removes. It goes when the job is run.
    ///
    /// # Panics
    /// If the plan is another log's, or an earlier job is out.
    fn retire(&mut self, plan: Self::RetentionPlan) -> RetireJob;
}

/// The part of a log that waits for the disk, on a thread of its own. It lives as long as the
/// thread.
pub trait Flusher: Default + Send + 'static {
    /// What it makes durable.
    type Flush;

    /// Makes it durable. Blocks.
    ///
    /// # Errors
    /// What the disk said. The log must be told by [`Log::fail`].
    fn flush(&mut self, flush: &Self::Flush) -> io::Result<()>;
}

/// The first records of a log, as retention will remove them.
pub trait RetentionPlan: Debug + Send + 'static {
    /// The first record that is left.
    fn first_kept(&self) -> Sequence;
}
