//! A data directory as it can be read while its server writes to it: without the lock, changing
//! nothing.
//!
//! ```text
//! DataView     the logs that exist, older generations first, and the control log
//!  └ LogView     one log: its base, its checkpoints, and its records up to the last whole one
//!     ├ walk       whole segments, for copying
//!     └ LogCursor  record by record, for merging several logs
//! ```
//!
//! | file | |
//! | --- | --- |
//! | `cursor` | the records of one log, one by one |
//! | `walk` | the records of one log, segment by segment |
//!
//! This works because nothing is ever rewritten: a segment is only appended to, and every other
//! file is replaced whole. A half-written record fails its checksum and ends the view. Whatever was
//! acknowledged before the reading began is in it. Retention may remove a segment while it is read:
//! that is an error, and [`is_overtaken`] tells it from damage, so that the caller can start again.
//!
//! Files are read and not mapped, because mapped bytes may not change under a reference.

mod cursor;
mod walk;

use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use crate::StorageError;
use crate::disk::{layout, links};
use crate::format::header::LogId;
use crate::log::log_files::LogFiles;
use crate::log::place::LogPlace;

pub use cursor::LogCursor;
pub(crate) use walk::{LogEnd, ReadSegment, walk};

/// The logs of a data directory, as they are found.
#[derive(Debug)]
pub struct DataView {
    logs: Vec<LogView>,
    control: Option<LogView>,
}

/// One log, read beside whoever writes to it.
#[derive(Debug, Clone)]
pub struct LogView {
    pub(crate) place: LogPlace,
}

impl DataView {
    /// Lists the logs. Blocks.
    ///
    /// # Errors
    ///
    /// `Missing` if `root` holds no log, or if one is missing; `Io`.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, StorageError> {
        let root: Arc<Path> = root.as_ref().into();
        links::check(&root)?;
        let log_dir = root.join(layout::LOG_NAME);
        if !log_dir.is_dir() {
            return Err(layout::missing(log_dir));
        }
        let newest = layout::newest_generation(&log_dir)?;
        if newest == 0 {
            return Err(layout::missing(log_dir.join(layout::generation_name(1))));
        }
        let mut logs = Vec::new();
        for generation in 1..=newest {
            let dir = log_dir.join(layout::generation_name(generation));
            let shard_count = layout::shard_count(&dir)?;
            logs.extend((0..shard_count).map(|shard| {
                let id = LogId {
                    generation,
                    shard,
                    shard_count,
                };
                let place = LogPlace {
                    root: Arc::clone(&root),
                    dir: dir.join(layout::shard_name(id)).into(),
                    id,
                };
                LogView { place }
            }));
        }
        let dir = root.join(layout::CONTROL_NAME);
        let control = dir.is_dir().then(|| LogView {
            place: LogPlace {
                root,
                dir: dir.into(),
                id: LogId::CONTROL,
            },
        });
        Ok(Self { logs, control })
    }

    /// The logs, older generations first, by shard. Every record of a generation comes before every
    /// record of the next; those of one generation's shards have no order among each other.
    pub fn logs(&self) -> &[LogView] {
        &self.logs
    }

    /// The control log, if there is one: it belongs to no generation, and its records are no
    /// events.
    pub fn control(&self) -> Option<&LogView> {
        self.control.as_ref()
    }
}

impl Deref for LogView {
    type Target = LogPlace;

    fn deref(&self) -> &LogPlace {
        &self.place
    }
}

impl LogView {
    /// Bytes of its segments. Blocks.
    ///
    /// # Errors
    ///
    /// What is wrong with the names or the headers.
    pub fn bytes(&self) -> Result<u64, StorageError> {
        let files = LogFiles::list(&self.dir, self.id)?;
        Ok(files.segments.iter().map(|it| it.header.capacity).sum())
    }

    /// Its records, one by one from the first that is still there. Blocks while the names and
    /// headers are read.
    ///
    /// # Errors
    ///
    /// What is wrong with the names or the headers.
    pub fn cursor(&self) -> Result<LogCursor, StorageError> {
        LogCursor::open(&self.dir, self.id)
    }
}

/// Whether an error can come from a server that removed or replaced a file in the meantime. If it
/// comes again, it does not.
pub fn is_overtaken(error: &StorageError) -> bool {
    match error {
        StorageError::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        StorageError::Missing { .. }
        | StorageError::NoLogStart { .. }
        | StorageError::WrongSize { .. } => true,
        _ => false,
    }
}
