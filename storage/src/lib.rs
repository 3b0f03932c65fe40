//! The log of Flux: per shard, a sequence of preallocated, CRC-checked segment files, written in groups and
//! mapped for reading.
//!
//! ```text
//! DataDir      the directory, its lock, its generations (one per shard count it was written with)
//!  ├ SealedLog   a log of an older generation: replayed, never written
//!  ├ LogDir      the control log, of no shard and no generation: DataDir::take_control_log
//!  └ LogDir      one shard's log of the newest generation, handed to the shard's thread
//!     └ Log        append (memory only) → write_out (the kernel has it)
//!     │            → begin_flush → fdatasync by the caller → finish_flush
//!        ├ Flush     what to fdatasync, in order
//!        ├ RetireJob removes old segments on a helper thread
//!        ├ IndexJob  writes the history index of a closed segment on a helper thread
//!        └ LogReader a snapshot, for looking up and reading history on any thread
//!        └ SpareJob  prepares the next segment on a helper thread
//! CheckpointDir  a shard's checkpoints: a stack of mapped layers, written off its thread, published, loaded
//! DataView     a data directory as it is read beside its server, without the lock
//! backup, restore
//! ```
//!
//! `FORMAT.md` draws every byte, says what each crash leaves behind and what recovery makes of it.
//!
//! Invariants:
//! - *appended* is not *durable*: a record is durable once a flush that covers it has been finished, or once
//!   recovery has returned it;
//! - nothing is ever cut that could have been durable; a log that lacks such a record is refused, unchanged;
//! - no method waits for the disk unless its documentation says that it blocks.
//!
//! This crate knows no runtime, no network and no JSON, and reads no clock: times are arguments.

mod backup;
mod beside;
mod checkpoint;
mod data_dir;
mod error;
mod fault;
#[cfg(test)]
mod fault_test;
mod files;
mod flush;
mod format;
mod index;
mod layout;
mod lock;
mod log;
mod log_dir;
mod log_files;
mod merge;
mod options;
mod reader;
mod recovery;
mod region;
mod repair;
mod reserve;
mod retention;
mod sealed;
mod segment;
mod sequence;
mod spare;
mod survey;
mod verify;
mod watermark;

pub use backup::{
    BackupError, BackupOptions, BackupSummary, CopyProgress, Difference, LogPosition, backup,
    restore,
};
pub use beside::{DataView, LogCursor, LogView, is_overtaken};
pub use checkpoint::{
    BodyCheck, Checkpoint, CheckpointDir, CheckpointKind, CheckpointMeta, CheckpointReport,
    CheckpointView, LayerEntity, LayerStack, Load, PREFETCH_GROUP_IDS_MAX, Pace, PendingCheckpoint,
    SetAside, StackCursor,
};
pub use data_dir::DataDir;
pub use error::{
    AppendError, CheckpointError, LayerError, LayerFault, LayerPart, ReplayError, StorageError,
};
pub use flush::{Flush, FlushSegment};
pub use format::gap::{Gap, RECORD_KIND_GAP};
pub use format::horizon::Horizon;
pub use format::record::PAYLOAD_BYTES_MAX;
pub use format::slot::Owner;
pub use index::{IndexJob, IndexKey};
pub use layout::CONTROL_NAME;
pub use log::{Log, LogStats};
pub use log_dir::{LogDir, LogOrigin};
pub use merge::MergedRuns;
pub use options::LogOptions;
pub use reader::LogReader;
pub use recovery::{Recovery, TornTail};
pub use repair::{Repair, RepairAction, RepairStep};
pub use retention::{ClosedSegment, Removal, RetireJob, RetirePlan};
pub use sealed::{SealedGeneration, SealedLog};
pub use segment::Haste;
pub use sequence::{Record, Sequence};
pub use spare::{Spare, SpareJob};
pub use survey::finding::{Fault, Finding, Severity};
pub use survey::log::{LogSummary, Mark, Seen};
pub use verify::{InspectedLog, Inspection, LogReport};
