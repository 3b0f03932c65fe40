//! Where a log lies in its data directory, and where its records begin.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::log_files::LogFiles;
use crate::disk::layout;
use crate::format::header::LogId;
use crate::format::log_start::LogStart;
use crate::format::slot::Owner;
use crate::{Sequence, StorageError};

/// The place of one log: the accessors that every handle of a log shares by dereferencing to it.
#[derive(Debug, Clone)]
pub struct LogPlace {
    /// The data directory.
    pub(crate) root: Arc<Path>,
    /// The log's own directory.
    pub(crate) dir: Arc<Path>,
    pub(crate) id: LogId,
}

/// Where a log begins, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOrigin {
    /// Whose log it is, as its checkpoints name it.
    pub owner: Owner,
    /// The first record that is still there, or the first to come if there is none.
    pub first_sequence: Sequence,
    /// What retention removed, if anything.
    pub removed: Option<LogStart>,
}

impl LogPlace {
    /// The generation, from 1; 0 for the control log.
    pub fn generation(&self) -> u32 {
        self.id.generation
    }

    /// The shard that writes or wrote it, from 0.
    pub fn shard(&self) -> u32 {
        self.id.shard
    }

    /// How many shards its generation has; 0 for the control log.
    pub fn shard_count(&self) -> u32 {
        self.id.shard_count
    }

    /// Whether it is the control log, whose records are no events.
    pub fn is_control(&self) -> bool {
        self.id.is_control()
    }

    /// The log's directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The directory of its checkpoints.
    pub fn checkpoint_path(&self) -> PathBuf {
        layout::checkpoint_path(&self.root, self.id)
    }

    /// The directory of its base: the state that it begins with.
    pub fn base_path(&self) -> PathBuf {
        layout::base_path(&self.root, self.id)
    }

    /// Where the log begins and whose it is, from names and headers. Blocks.
    ///
    /// # Errors
    ///
    /// What is wrong with the names or the headers.
    pub fn origin(&self) -> Result<LogOrigin, StorageError> {
        let files = LogFiles::list(&self.dir, self.id)?;
        Ok(LogOrigin {
            owner: files.owner,
            first_sequence: files.first_kept(),
            removed: files.removed,
        })
    }
}
