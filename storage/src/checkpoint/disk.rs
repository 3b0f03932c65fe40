//! What checkpoints do to files: few operations, each a place where a crash or a full disk may strike.
//!
//! In tests each of them can be made to fail, once or from then on, and all of them are written down.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::StorageError;
use crate::files::{self, at};

/// Creates an empty file for writing.
pub(super) fn create(path: &Path) -> Result<File, StorageError> {
    fault::step("create", path)?;
    files::create(path)
}

/// Writes at an offset.
pub(super) fn write(
    file: &File,
    path: &Path,
    bytes: &[u8],
    offset: u64,
) -> Result<(), StorageError> {
    fault::step("write", path)?;
    at("write", path, file.write_all_at(bytes, offset))
}

/// Makes what was written durable.
pub(super) fn sync(file: &File, path: &Path) -> Result<(), StorageError> {
    fault::step("flush", path)?;
    files::sync_data(file, path)
}

/// Gives a flushed file its name, durably.
pub(super) fn rename(from: &Path, to: &Path, parent: &Path) -> Result<(), StorageError> {
    fault::step("rename", from)?;
    at("rename", from, fs::rename(from, to))?;
    sync_dir(parent)
}

/// Removes a file; not durable before the directory is flushed.
pub(super) fn remove(path: &Path) -> Result<(), StorageError> {
    fault::step("remove", path)?;
    at("remove", path, fs::remove_file(path))
}

/// Makes the entries of a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), StorageError> {
    fault::step("flush directory", path)?;
    files::sync_dir(path)
}

#[cfg(not(test))]
mod fault {
    use super::{Path, StorageError};

    #[expect(
        clippy::unnecessary_wraps,
        reason = "operations fail here in tests only"
    )]
    #[inline]
    pub(super) fn step(_: &'static str, _: &Path) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Failures to order, per thread.
#[cfg(test)]
pub(super) mod fault {
    use std::cell::RefCell;
    use std::io;

    use super::{Path, StorageError};

    /// What to do at some operation.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(in crate::checkpoint) enum Plan {
        /// Let every operation pass.
        Pass,
        /// Let so many pass and fail one with this error of the system.
        FailOnce(usize, i32),
        /// Let so many pass and none after them: nothing more reaches the disk.
        Crash(usize),
    }

    thread_local! {
        static STATE: RefCell<(Plan, Vec<(&'static str, String)>)> =
            const { RefCell::new((Plan::Pass, Vec::new())) };
    }

    /// Orders a failure and forgets the operations so far.
    pub(in crate::checkpoint) fn order(plan: Plan) {
        STATE.set((plan, Vec::new()));
    }

    /// Ends the order and tells the operations since: what was done, and to which name.
    pub(in crate::checkpoint) fn operations() -> Vec<(&'static str, String)> {
        STATE.replace((Plan::Pass, Vec::new())).1
    }

    pub(super) fn step(op: &'static str, path: &Path) -> Result<(), StorageError> {
        STATE.with_borrow_mut(|(plan, done)| {
            let count = done.len();
            let name = path.file_name().unwrap_or_default();
            done.push((op, name.to_string_lossy().into_owned()));
            let code = match *plan {
                Plan::FailOnce(passes, code) if count == passes => code,
                Plan::Crash(passes) if count >= passes => 5,
                Plan::Pass | Plan::FailOnce(..) | Plan::Crash(_) => return Ok(()),
            };
            Err(StorageError::io(
                op,
                path,
                io::Error::from_raw_os_error(code),
            ))
        })
    }
}
