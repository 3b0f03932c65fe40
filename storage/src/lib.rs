//! The log of Flux: for each shard a sequence of preallocated, CRC-checked segment files, written
//! in groups and mapped for reading; and the shard's checkpoints.
//!
//! ```text
//! DataDir         the directory, its lock, its generations (one for each number of shards)
//!  ├ SealedLog      a log of an older generation: replayed, never written
//!  ├ LogDir         the control log, of no shard and no generation: DataDir::take_control_log
//!  └ LogDir         one shard's log of the newest generation, handed to the shard's thread
//!     └ Log           append (memory only) → write_out (the kernel has it)
//!        │            → begin_flush → fdatasync by the caller → finish_flush
//!        ├ Flush           what to fdatasync, in order
//!        ├ NextSegmentJob  prepares the next segment on a helper thread
//!        ├ RetireJob       removes old segments on a helper thread
//!        ├ IndexJob        writes the history index of a closed segment on a helper thread
//!        └ LogReader       a snapshot, for looking up and reading history on any thread
//! CheckpointDir   a shard's checkpoints: a stack of mapped layers
//! DataView        a data directory as it is read beside its server, without the lock
//! Inspection, Repair, backup, restore
//! ```
//!
//! | folder | | imports |
//! | --- | --- | --- |
//! | `format` | bytes ↔ values, nothing else | |
//! | `disk` | files, names, the lock, mapped memory | `format` |
//! | `index` | the history index of a segment | `disk`, `format` |
//! | `log` | logs: append, flush, recover, read, retire | `index`, `disk`, `format` |
//! | `checkpoint` | the state at a position of a log, as immutable layers | `disk`, `format` |
//! | `offline` | reading, checking, repairing and copying without the lock | all above |
//!
//! `error` and `sequence` hold the words that all folders share. `FORMAT.md` draws every byte, and
//! says what each crash leaves behind and what recovery makes of it.
//!
//! Invariants:
//! - *appended* is not *durable*: a record is durable once a flush that covers it has been
//!   finished, or once recovery has returned it;
//! - nothing is ever cut that could have been durable; a log that lacks such a record is refused,
//!   unchanged;
//! - no method waits for the disk unless its documentation says that it blocks.
//!
//! This crate knows no runtime, no network and no JSON, and reads no clock: times are arguments.

mod checkpoint;
mod disk;
mod error;
#[cfg(test)]
mod fault_test;
mod format;
mod index;
mod log;
mod offline;
mod sequence;

pub use checkpoint::{
    BodyCheck, Checkpoint, CheckpointDir, CheckpointKind, CheckpointMeta, CheckpointReport,
    CheckpointThrottle, CheckpointView, LayerEntity, LayerStack, Load, PREFETCH_GROUP_IDS_MAX,
    PendingCheckpoint, Quarantined, StackCursor,
};
pub use disk::layout::CONTROL_NAME;
pub use disk::lock::check_unlocked;
pub use error::{
    AppendError, CheckpointError, LayerError, LayerFault, LayerPart, ReplayError, StorageError,
};
pub use format::gap::{Gap, RECORD_KIND_GAP};
pub use format::log_start::LogStart;
pub use format::record::PAYLOAD_BYTES_MAX;
pub use format::slot::Owner;
pub use index::{IndexJob, IndexKey, MergedRuns};
pub use log::data_dir::DataDir;
pub use log::flush::{Flush, FlushSegment};
pub use log::group::{GROUP_BYTES_MAX, GROUP_RECORDS_MAX, GroupSize};
pub use log::log_dir::LogDir;
pub use log::next_segment::{NextSegment, NextSegmentJob};
pub use log::open_log::{Log, LogStats};
pub use log::options::LogOptions;
pub use log::place::{LogOrigin, LogPlace};
pub use log::reader::LogReader;
pub use log::recovery::{Recovery, TornTail};
pub use log::retention::{ClosedSegment, Removal, RetireJob, RetirePlan};
pub use log::sealed::{SealedGeneration, SealedLog};
pub use log::segment::WriteSpeed;
pub use offline::backup::{
    BackupError, BackupOptions, BackupSummary, CopyProgress, Difference, LogPosition, backup,
    restore,
};
pub use offline::read_only::{DataView, LogCursor, LogView, is_overtaken};
pub use offline::repair::{Repair, RepairAction, RepairStep};
pub use offline::scrub::finding::{Fault, ScrubFinding, Severity};
pub use offline::scrub::log::{LogSummary, Mark, Seen};
pub use offline::verify::{InspectedLog, Inspection, LogReport};
pub use sequence::{GroupPlace, Record, Sequence};
