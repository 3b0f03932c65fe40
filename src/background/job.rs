//! Work that a core hands to its helper threads, and what comes back.
//!
//! The state machines of this folder begin something by adding a [`Job`] to [`Jobs`]. The reactor
//! runs it on the thread of its [`Lane`] and gives the [`WorkerResult`] to whoever began it. So
//! this folder knows no thread, and a test or a simulation runs a job where it likes.

use super::directory::DirectoryPage;
use super::flush::{LocalFlush, NextSegment};
use super::history::Answered;
use super::retention::RetentionResult;
use super::{OpenedShard, checkpoints::CheckpointResult, control::Stored};
use crossbeam_queue::ArrayQueue;
use flux_storage::StorageError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::Waker;

/// A thread of a core, for jobs of one kind. A thread runs one job after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Replays the log at start.
    Recovery,
    /// Prepares the next segment, which writes wait for in the end.
    Segment,
    /// Writes checkpoints, and gives way to events.
    Checkpoint,
    /// Writes checkpoints that begin late, and does not give way.
    LateCheckpoint,
    /// Builds history indexes.
    Index,
    /// Removes old segments.
    Retention,
    /// Removes segments of earlier generations.
    SealedRetention,
    /// Releases and makes the ballast.
    Ballast,
    /// Stores changes of the control plane.
    Control,
    /// Counts namespaces.
    Directory,
    /// Reads pages of events.
    Events,
    /// Reads earlier states.
    States,
}

impl Lane {
    /// Number of lanes.
    pub(crate) const COUNT: usize = Self::States as usize + 1;

    /// The thread's name, before its core's number.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Recovery => "recovery",
            Self::Segment => "segment",
            Self::Checkpoint => "checkpoint",
            Self::LateCheckpoint => "checkpoint!",
            Self::Index => "index",
            Self::Retention => "retention",
            Self::SealedRetention => "sealed",
            Self::Ballast => "ballast",
            Self::Control => "control",
            Self::Directory => "directory",
            Self::Events => "events",
            Self::States => "states",
        }
    }

    /// True if its jobs may take long and nobody waits for them: its thread gives way to the
    /// reactors.
    pub(crate) const fn gives_way(self) -> bool {
        matches!(
            self,
            Self::Checkpoint | Self::Index | Self::Retention | Self::SealedRetention
        )
    }
}

/// One piece of work. It may block.
pub(crate) struct Job {
    /// The thread that runs it.
    pub(crate) lane: Lane,
    /// The work.
    pub(crate) run: Box<dyn FnOnce() -> WorkerResult + Send>,
}

impl fmt::Debug for Job {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Job")
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

/// Jobs that wait to be handed to their threads.
#[derive(Debug, Default)]
pub(crate) struct Jobs(Vec<Job>);

impl Jobs {
    /// Adds one.
    pub(crate) fn push(&mut self, lane: Lane, run: impl FnOnce() -> WorkerResult + Send + 'static) {
        let run = Box::new(run);
        self.0.push(Job { lane, run });
    }

    /// Takes all.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Job> {
        self.0.drain(..)
    }
}

/// What a helper thread has done.
pub(crate) enum WorkerResult {
    /// The shard is recovered.
    Opened(io::Result<Box<OpenedShard>>),
    /// A flush has returned.
    Flushed(io::Result<LocalFlush>),
    /// The next segment is ready.
    SegmentPrepared(Result<Box<NextSegment>, StorageError>),
    /// A step of a checkpoint.
    Checkpoint(Box<CheckpointResult>),
    /// A step of retention.
    Retention(Box<RetentionResult>),
    /// The ballast was released or made.
    Ballast(Result<(), StorageError>),
    /// A change of the control plane was stored.
    ControlStored(Box<Stored>),
    /// Namespaces were counted.
    DirectoryCounted(DirectoryPage),
    /// A request about the past was answered.
    HistoryAnswered(Box<Answered>),
    /// The job of this thread panicked.
    Panicked(&'static str),
}

/// Where helper threads leave results, and how they wake the core that waits for them.
#[derive(Debug, Clone)]
pub(crate) struct ResultSender {
    results: Arc<ArrayQueue<WorkerResult>>,
    waker: Waker,
}

impl ResultSender {
    /// The sending end of a core's queue. `waker`: of the core.
    pub(crate) fn new(results: Arc<ArrayQueue<WorkerResult>>, waker: Waker) -> Self {
        Self { results, waker }
    }

    /// Leaves a result.
    ///
    /// # Panics
    /// If the queue is full: it has a place for every job that may be in flight.
    pub(crate) fn send(&self, result: WorkerResult) {
        let sent = self.results.push(result);
        assert!(sent.is_ok(), "a place for every job in flight");
        self.waker.wake_by_ref();
    }
}
