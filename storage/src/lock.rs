//! The lock that keeps a second server out of a data directory.
//!
//! The kernel holds it for the open file, so it goes with the process however that ends. The process id in the
//! file is for the error message only. Everything that may still write to the directory shares the lock, so
//! that the directory cannot be opened again while, for example, a spare segment is being prepared in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use crate::StorageError;
use crate::files::at;
use crate::layout::LOCK_NAME;

/// A process id in decimal is shorter than this.
const PID_BYTES_MAX: u64 = 20;

/// Held for as long as this value lives.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Locks the directory, without waiting.
    ///
    /// # Errors
    ///
    /// `Locked` where another open data directory holds it.
    pub(crate) fn acquire(root: &Path) -> Result<Self, StorageError> {
        let path = root.join(LOCK_NAME);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = at("open", &path, options.open(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StorageError::Locked {
                    pid: read_pid(&file),
                    path: path.into(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(StorageError::io("lock", &path, error)),
        }
        at("write", &path, file.set_len(0))?;
        at("write", &path, writeln!(file, "{}", std::process::id()))?;
        Ok(Self { _file: file })
    }
}

fn read_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}
