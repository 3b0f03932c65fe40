//! A log, not opened yet: what its thread needs to open it.

use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::disk::files::{self, PAGE_BYTES, at};
use crate::disk::lock::DirLock;
use crate::disk::segment_file::SegmentEntry;
use crate::format::header::HEADER_BYTES;
use crate::format::world::World;
use crate::log::log_files::LogFiles;
use crate::log::place::LogPlace;
use crate::{LogOptions, Sequence, StorageError};

/// One shard's log of the newest generation, or the control log. `Send`, so that its thread opens
/// and recovers it.
#[derive(Debug)]
pub struct LogDir {
    pub(crate) place: LogPlace,
    /// The world that new segments name.
    pub(crate) world: World,
    pub(crate) options: LogOptions,
    pub(crate) lock: Arc<DirLock>,
}

impl Deref for LogDir {
    type Target = LogPlace;

    fn deref(&self) -> &LogPlace {
        &self.place
    }
}

impl LogDir {
    /// About how many bytes of records opening from `from` will visit, at most: what is below
    /// `from` in its own segment may be counted. Reads headers and a few pages; blocks.
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

/// About how many bytes of a segment hold records: up to its first page of zeros, which bisection
/// finds unless a payload holds one.
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
