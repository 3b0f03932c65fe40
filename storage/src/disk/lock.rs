//! The lock that keeps a second server out of a data directory.
//!
//! The kernel holds it for the open file, so it goes with the process however that ends. The
//! process id in the file is for the error message only. Everything that may still write to the
//! directory shares the lock, so that the directory cannot be opened again while, for example, the
//! next segment is being prepared in it.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::Path;

use crate::StorageError;
use crate::disk::files;
use crate::disk::layout::LOCK_NAME;

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
    /// `Locked` if another open data directory holds it.
    pub(crate) fn acquire(root: &Path) -> Result<Self, StorageError> {
        let path = root.join(LOCK_NAME);
        let file = files::open_or_create(&path)?;
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
        // Over what was there, which a full disk has room for. Without it an error message says
        // less.
        let pid = format!("{}\n", std::process::id());
        let written = files::write_at("write", (&file, &path), pid.as_bytes(), 0);
        files::hint(written.and_then(|()| files::set_len(&file, &path, pid.len() as u64)));
        Ok(Self { _file: file })
    }
}

/// Looks whether anything has the directory open, without making or changing a file in it. The
/// answer may be old the moment it is there.
///
/// # Errors
///
/// `Locked` if something has it open; `Io`.
pub fn check_unlocked(root: &Path) -> Result<(), StorageError> {
    let path = root.join(LOCK_NAME);
    if !path.exists() {
        return Ok(());
    }
    let file = files::open_read(&path)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StorageError::Locked {
            pid: read_pid(&file),
            path: path.into(),
        }),
        Err(TryLockError::Error(error)) => Err(StorageError::io("lock", &path, error)),
    }
}

fn read_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}
