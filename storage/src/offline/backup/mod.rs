//! Copies of a data directory: made while its server writes to it, checked, and restored.
//!
//! ```text
//! backup     log by log: HORIZON ─→ base ─→ checkpoint ─→ segments up to the last whole record
//!    │           ─→ HORIZON unchanged?
//!    │           the control log after all others
//!    │           into <target>.partial/data, flushed, renamed
//!    └─ BACKUP   every file with its length and checksum, every log with its last sequence
//! restore    BACKUP ─→ each file compared while it is copied ─→ renamed
//! ```
//!
//! | file | |
//! | --- | --- |
//! | `log` | copying one log, its base and its newest checkpoint |
//! | `copy` | copying one file, with length and checksum |
//! | `list` | the `BACKUP` file |
//! | `target` | the directory that a copy is made in |
//! | `restore` | making a data directory of a backup |
//!
//! The backup takes no lock and asks the server nothing, because files are only appended to or
//! replaced whole. The order of copying makes the result consistent: a base and a checkpoint name
//! only what is durable in the log, so a log that is copied after them reaches at least as far. If
//! retention removed something meanwhile (`HORIZON` has changed, or a file is gone), the log is
//! copied again.
//!
//! A generation that a server begins during the backup is not in the copy: the copy is the
//! directory as it was a moment before.
//!
//! A backup is itself a valid data directory: its logs end with a whole record, `DURABLE` says so,
//! and all bytes after that are zero.

mod copy;
mod list;
mod log;
mod restore;
mod target;

use std::path::Path;

use crate::{BodyCheck, CheckpointError, LayerError, Sequence, StorageError};

pub use log::backup;
pub use restore::restore;

/// What a backup is made with.
#[derive(Debug, Clone, Copy)]
pub struct BackupOptions {
    /// Holds the bodies of checkpoints and bases to their form.
    pub body_check: BodyCheck,
    /// When it is made, Unix microseconds; for people.
    pub time_micros: i64,
}

/// Through where a copy of a log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPosition {
    /// The generation, from 1; 0 of the control log.
    pub generation: u32,
    /// The shard, from 0.
    pub shard: u32,
    /// How many shards its generation has; 0 of the control log.
    pub shard_count: u32,
    /// The last record in the copy.
    pub through: Sequence,
    /// Its time, Unix microseconds; `None` if the log holds no record.
    pub time_micros: Option<i64>,
}

impl LogPosition {
    /// Whether it is the control log's.
    pub fn is_control(&self) -> bool {
        self.shard_count == 0
    }
}

/// What a backup holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupSummary {
    /// When it was made, Unix microseconds.
    pub time_micros: i64,
    /// Its logs, older generations first, the control log last.
    pub logs: Vec<LogPosition>,
    /// How many files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Checkpoints and bases that were left out because they are damaged; the state comes from the
    /// log without them.
    pub left_out: Vec<LayerError>,
}

/// How far the copying has come.
#[derive(Debug, Clone, Copy)]
pub struct CopyProgress<'a> {
    /// Bytes copied.
    pub bytes: u64,
    /// About the bytes that there are.
    pub bytes_total: u64,
    /// The file that is copied next.
    pub path: &'a Path,
}

/// Whom to tell.
pub(crate) type CopyObserver<'p> = &'p mut dyn FnMut(CopyProgress<'_>);

/// Why a directory was not backed up or restored. Nothing is at the target; what was begun is
/// removed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file could not be read or written, or the log is damaged.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A checkpoint or a base could not be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The base that stands in for removed history is damaged.
    #[error("{0}: it stands in for history that retention removed")]
    DamagedBase(LayerError),
    /// Retention removed a part of the log, and there is no base that stands in for it.
    #[error("retention removed the records before {first}, but no base covers them: {}", path.display())]
    NoBase {
        /// Where the base should be.
        path: Box<Path>,
        /// The first record that is left.
        first: Sequence,
    },
    /// Retention removed files faster than they could be copied.
    #[error("retention keeps removing segments while they are copied: {}", path.display())]
    Overtaken {
        /// The log's directory.
        path: Box<Path>,
    },
    /// There is something at the target.
    #[error("{} exists and is not an empty directory", path.display())]
    NotEmpty {
        /// The target.
        path: Box<Path>,
    },
    /// The target's name can't be used.
    #[error("{} does not name a directory to make", path.display())]
    Unnamed {
        /// The target.
        path: Box<Path>,
    },
    /// The place for the unfinished copy is taken by something else.
    #[error("{} is in the way and was not left by an unfinished copy: remove it", path.display())]
    InTheWay {
        /// What is there.
        path: Box<Path>,
    },
    /// The target's file system is too small.
    #[error("{} has {free} bytes left, {needed} are needed", path.display())]
    NoRoom {
        /// The target.
        path: Box<Path>,
        /// Bytes needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// There is no `BACKUP` file.
    #[error("not a backup, it has no BACKUP file: {}", path.display())]
    NotABackup {
        /// The directory.
        path: Box<Path>,
    },
    /// The `BACKUP` file is damaged.
    #[error("damaged, so that nothing in it can be checked: {}", path.display())]
    DamagedList {
        /// The file.
        path: Box<Path>,
    },
    /// The backup was made by a newer program.
    #[error("backup format {found} is newer than this program, which knows 1: {}", path.display())]
    NewerList {
        /// The file.
        path: Box<Path>,
        /// Its version.
        found: u32,
    },
    /// A file of the backup is not as it was.
    #[error("{} {difference}", path.display())]
    Damaged {
        /// The file.
        path: Box<Path>,
        /// How it differs.
        difference: Difference,
    },
}

/// How a file differs from what `BACKUP` says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// It is gone.
    #[error("is missing")]
    Missing,
    /// Its length.
    #[error("has {found} bytes, BACKUP says {listed}")]
    Length {
        /// What it should be.
        listed: u64,
        /// What it is.
        found: u64,
    },
    /// Its checksum.
    #[error("does not match the checksum in BACKUP")]
    Checksum,
}

impl BackupError {
    /// Whether something that should be copied is damaged, as against: could not be copied.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_damage(),
            Self::DamagedBase(_)
            | Self::NoBase { .. }
            | Self::DamagedList { .. }
            | Self::Damaged { .. } => true,
            Self::Checkpoint(_)
            | Self::Overtaken { .. }
            | Self::NotEmpty { .. }
            | Self::Unnamed { .. }
            | Self::InTheWay { .. }
            | Self::NoRoom { .. }
            | Self::NotABackup { .. }
            | Self::NewerList { .. } => false,
        }
    }
}
