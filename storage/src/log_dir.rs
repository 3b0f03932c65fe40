//! A log, not opened yet: what its thread needs to open it.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::{self, PAGE_BYTES, at};
use crate::format::header::{HEADER_BYTES, LogId};
use crate::format::horizon::Horizon;
use crate::format::slot::Owner;
use crate::lock::DirLock;
use crate::log_files::LogFiles;
use crate::segment::SegmentEntry;
use crate::{LogOptions, Sequence, StorageError, layout};

/// One shard's log of the newest generation, or the control log. `Send`, so that its thread opens and recovers it.
#[derive(Debug)]
pub struct LogDir {
    pub(crate) root: Arc<Path>,
    pub(crate) dir: Arc<Path>,
    pub(crate) id: LogId,
    pub(crate) options: LogOptions,
    pub(crate) lock: Arc<DirLock>,
}

/// Where a log begins, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOrigin {
    /// Whose log it is, as its checkpoints name it.
    pub owner: Owner,
    /// The first record that is still there, or the first to come where there is none.
    pub first_sequence: Sequence,
    /// What retention removed, if anything.
    pub removed: Option<Horizon>,
}

impl LogDir {
    /// The generation, from 1; 0 of the control log.
    pub fn generation(&self) -> u32 {
        self.id.generation
    }

    /// The shard whose log it is, from 0.
    pub fn shard(&self) -> u32 {
        self.id.shard
    }

    /// How many shards its generation has; 0 of the control log.
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

    /// About how many bytes of records opening from `from` will visit, at most: what is below `from` in its own
    /// segment may be counted. Reads headers and a few pages; blocks.
    ///
    /// # Errors
    ///
    /// What is wrong with the names or the headers.
    pub fn tail_bytes(&self, from: Sequence) -> Result<u64, StorageError> {
        let files = LogFiles::list(&self.dir, self.id)?;
        let start = files.bases_through(from)?.len().saturating_sub(1);
        files.segments.iter().skip(start).map(used_bytes).sum()
    }
}

impl LogOrigin {
    pub(crate) fn read(dir: &Arc<Path>, id: LogId) -> Result<Self, StorageError> {
        let files = LogFiles::list(dir, id)?;
        Ok(Self {
            owner: files.owner,
            first_sequence: files.first_kept(),
            removed: files.removed,
        })
    }
}

/// About how many bytes of a segment hold records: up to its first page of zeros, which bisection finds unless a
/// payload holds one.
fn used_bytes(entry: &SegmentEntry) -> Result<u64, StorageError> {
    let file = files::open_read(&entry.path)?;
    files::read_single_pages(&file);
    let page_bytes = PAGE_BYTES as u64;
    let first = HEADER_BYTES as u64 / page_bytes;
    let (mut used, mut unused) = (first, entry.header.capacity / page_bytes);
    while used < unused {
        let middle = used.midpoint(unused);
        let mut page = [0; PAGE_BYTES];
        let read = file.read_exact_at(&mut page, middle * page_bytes);
        at("read", &entry.path, read)?;
        if page == [0; PAGE_BYTES] {
            unused = middle;
        } else {
            used = middle + 1;
        }
    }
    Ok((used - first) * page_bytes)
}
