//! What a log asks helper threads to do. Each job is run once, on any thread, and blocks.

use flux_storage::{Removal, StorageError, WriteSpeed};
use std::fmt;

type Rest<'r> = dyn FnMut() + 'r;
type RestWithSpeed<'r> = dyn FnMut(u64) -> WriteSpeed + 'r;
type Prepare<S> = dyn FnOnce(&mut RestWithSpeed<'_>) -> Result<S, StorageError> + Send;
type Index = dyn FnOnce(&mut Rest<'_>) -> Result<(), StorageError> + Send;
type Choose<P> = dyn FnOnce(Removal) -> Result<Option<P>, StorageError> + Send;
type Retire = dyn FnOnce() -> Result<(), StorageError> + Send;

/// The preparation of a log's next segment.
#[must_use = "the log waits for the segment, or to hear that the job failed"]
pub struct NextSegmentJob<S> {
    bytes: u64,
    prepare: Box<Prepare<S>>,
}

/// Writes the history index of a part of a log. Dropped or failed, it costs the first reader more
/// time.
pub struct IndexJob(Box<Index>);

/// Chooses what retention removes.
pub struct RetentionChoice<P>(Box<Choose<P>>);

/// Removes what a log has forgotten.
#[must_use = "what was forgotten stays until the job is run"]
pub struct RetireJob(Box<Retire>);

impl<S> NextSegmentJob<S> {
    pub(super) fn new(
        bytes: u64,
        prepare: impl FnOnce(&mut RestWithSpeed<'_>) -> Result<S, StorageError> + Send + 'static,
    ) -> Self {
        Self {
            bytes,
            prepare: Box::new(prepare),
        }
    }

    /// Bytes that it prepares.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Prepares the segment. Calls `rest` between the parts of the work with the bytes prepared so
    /// far. Blocks.
    ///
    /// # Errors
    /// Why it failed. The log must be told.
    pub fn run(self, rest: &mut dyn FnMut(u64) -> WriteSpeed) -> Result<S, StorageError> {
        (self.prepare)(rest)
    }
}

impl IndexJob {
    pub(super) fn new(
        index: impl FnOnce(&mut Rest<'_>) -> Result<(), StorageError> + Send + 'static,
    ) -> Self {
        Self(Box::new(index))
    }

    /// Writes the index. Calls `rest` after each fraction of a millisecond of work. Blocks.
    ///
    /// # Errors
    /// Why it failed. Nothing needs to be done.
    pub fn run(self, rest: &mut dyn FnMut()) -> Result<(), StorageError> {
        (self.0)(rest)
    }
}

impl<P> RetentionChoice<P> {
    pub(super) fn new(
        choose: impl FnOnce(Removal) -> Result<Option<P>, StorageError> + Send + 'static,
    ) -> Self {
        Self(Box::new(choose))
    }

    /// What goes; `None` if all stays. Blocks.
    ///
    /// # Errors
    /// What reading the log said.
    pub fn choose(self, removal: Removal) -> Result<Option<P>, StorageError> {
        (self.0)(removal)
    }
}

impl RetireJob {
    pub(super) fn new(retire: impl FnOnce() -> Result<(), StorageError> + Send + 'static) -> Self {
        Self(Box::new(retire))
    }

    /// Removes it. Blocks.
    ///
    /// # Errors
    /// Why it could not.
    pub fn run(self) -> Result<(), StorageError> {
        (self.0)()
    }
}

impl<S> fmt::Debug for NextSegmentJob<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("NextSegmentJob");
        shown.field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl fmt::Debug for IndexJob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("IndexJob").finish_non_exhaustive()
    }
}

impl<P> fmt::Debug for RetentionChoice<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RetentionChoice")
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RetireJob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RetireJob").finish_non_exhaustive()
    }
}
