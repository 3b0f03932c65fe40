//! The `HORIZON` file of a log's directory: which part of the log retention removed. The on-disk
//! name is historical; in code the value is the *log start*.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::StorageError;
use crate::disk::files::{self, at};
use crate::disk::layout;
use crate::format::log_start::{self, LOG_START_BYTES, LogStart};
use crate::format::slot::Owner;

/// What a log's `HORIZON` file is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogStartFile {
    Absent,
    Damaged,
    /// Whole, and of the log that it names.
    Valid(Owner, LogStart),
}

/// Reads a log's `HORIZON` file, without comparing it with the log.
pub(crate) fn read_log_start(dir: &Path) -> Result<LogStartFile, StorageError> {
    let path = dir.join(layout::LOG_START_NAME);
    let file = match files::open_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LogStartFile::Absent),
        opened => at("open", &path, opened)?,
    };
    let mut bytes = [0; LOG_START_BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Ok(LogStartFile::Damaged);
        }
        read => at("read", &path, read)?,
    }
    Ok(
        log_start::decode(&bytes).map_or(LogStartFile::Damaged, |(owner, log_start)| {
            LogStartFile::Valid(owner, log_start)
        }),
    )
}

/// Gives the directory its `HORIZON` file, whole and durable.
pub(crate) fn write_log_start(
    dir: &Path,
    owner: Owner,
    log_start: LogStart,
) -> Result<(), StorageError> {
    let path = dir.join(layout::LOG_START_NAME);
    files::replace(&path, &log_start::encode(owner, log_start))
}
