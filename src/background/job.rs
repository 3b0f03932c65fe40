//! Work that a core hands to its helper threads, and what comes back.
//!
//! The state machines of this folder begin something by adding a [`Job`] to [`Jobs`]. The reactor
//! runs it on the thread of its [`Lane`] and gives the [`WorkerResult`] to the state machine that
//! began it. So this folder knows no thread, and a test or a simulation runs a job where it likes.

use super::decoding::Decoded;
use super::history::Answered;
use super::retention::RetentionResult;
use super::{OpenedShard, checkpoints::CheckpointResult, control::Stored};
use crate::engine::DirectoryRows;
use crate::log::Log;
use crate::wire::tls::Handshaken;
use crossbeam_queue::ArrayQueue;
use flux_storage::StorageError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::Waker;

/// A thread of a core, for jobs of one kind. A thread runs one job after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Makes the log durable.
    Flush,
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
    /// Decodes large bodies.
    Decode,
    /// Carries out handshakes of TLS, which clients wait for.
    Handshake,
    /// Reads the past, short reads.
    History,
    /// Reads the past, long reads.
    LongHistory,
}

impl Lane {
    /// Number of lanes.
    pub(crate) const COUNT: usize = Self::LongHistory as usize + 1;

    /// The thread's name, before its core's number.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Flush => "flush",
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
            Self::Decode => "decode",
            Self::Handshake => "handshake",
            Self::History => "history",
            Self::LongHistory => "history+",
        }
    }

    /// True if its jobs may take long, and nobody waits for them or whoever does asked for work of
    /// seconds, or is not served yet: its thread gives way to the reactors.
    pub(crate) const fn gives_way(self) -> bool {
        matches!(
            self,
            Self::Checkpoint
                | Self::Index
                | Self::Retention
                | Self::SealedRetention
                | Self::Decode
                | Self::Handshake
                | Self::LongHistory
        )
    }
}

/// One piece of work. It may block.
pub(crate) struct Job<L: Log> {
    /// The thread that runs it.
    pub(crate) lane: Lane,
    /// The work.
    pub(crate) run: Box<dyn FnOnce() -> WorkerResult<L> + Send>,
}

impl<L: Log> fmt::Debug for Job<L> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Job")
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

/// Jobs that wait to be handed to their threads.
#[derive(Debug)]
pub(crate) struct Jobs<L: Log>(Vec<Job<L>>);

impl<L: Log> Default for Jobs<L> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<L: Log> Jobs<L> {
    /// Adds one.
    pub(crate) fn push(
        &mut self,
        lane: Lane,
        run: impl FnOnce() -> WorkerResult<L> + Send + 'static,
    ) {
        let run = Box::new(run);
        self.0.push(Job { lane, run });
    }

    /// Takes all.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Job<L>> {
        self.0.drain(..)
    }
}

/// What a helper thread has done.
pub(crate) enum WorkerResult<L: Log> {
    /// The shard is recovered.
    Opened(io::Result<Box<OpenedShard<L>>>),
    /// A flush has returned: what ran it, and the flush if it succeeded.
    Flushed(L::Flusher, io::Result<L::Flush>),
    /// The next segment is ready.
    SegmentPrepared(Result<Box<L::NextSegment>, StorageError>),
    /// A step of a checkpoint.
    Checkpoint(Box<CheckpointResult>),
    /// A step of retention.
    Retention(Box<RetentionResult<L>>),
    /// The ballast was released or made.
    Ballast(Result<(), StorageError>),
    /// A change of the control plane was stored.
    ControlStored(Box<Stored>),
    /// Namespaces were counted.
    DirectoryCounted(Box<DirectoryRows>),
    /// A large body was decoded.
    Decoded(Box<Decoded>),
    /// A step of a handshake was carried out.
    Handshaken(Box<Handshaken>),
    /// A request about the past was answered.
    HistoryAnswered(Box<Answered>),
}

/// Where helper threads leave results, and how they wake the core that waits for them.
pub(crate) struct ResultSender<L: Log> {
    results: Arc<ArrayQueue<WorkerResult<L>>>,
    waker: Waker,
}

impl<L: Log> Clone for ResultSender<L> {
    fn clone(&self) -> Self {
        Self {
            results: Arc::clone(&self.results),
            waker: self.waker.clone(),
        }
    }
}

impl<L: Log> ResultSender<L> {
    /// The sending end of a core's queue. `waker`: of the core.
    pub(crate) fn new(results: Arc<ArrayQueue<WorkerResult<L>>>, waker: Waker) -> Self {
        Self { results, waker }
    }

    /// Leaves a result.
    ///
    /// # Panics
    /// If the queue is full: it has a place for every job that may be in flight.
    pub(crate) fn send(&self, result: WorkerResult<L>) {
        let sent = self.results.push(result);
        assert!(sent.is_ok(), "a place for every job in flight");
        self.waker.wake_by_ref();
    }
}
