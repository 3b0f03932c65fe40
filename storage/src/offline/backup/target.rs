//! A directory in the making: whole under another name first, so that it is there with everything
//! or not at all.
//!
//! ```text
//! <path>.partial/INCOMPLETE     says that this may be removed
//!               /LOCK           held by whoever is copying
//!               /data/          becomes <path>
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use super::BackupError;
use super::copy::{Copy, Sum};
use crate::disk::files::{self, at};
use crate::disk::layout;
use crate::disk::lock::DirLock;

const SUFFIX: &str = ".partial";
const MARK: &str = "INCOMPLETE";
const DATA: &str = "data";

/// Removed again unless it is finished.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    unfinished: PathBuf,
    data: PathBuf,
    _lock: DirLock,
}

impl Target {
    /// Begins the directory `path`, which must not exist or be empty. What an earlier attempt left
    /// is removed. Blocks.
    pub(super) fn begin(path: &Path) -> Result<Self, BackupError> {
        check_free(path)?;
        let Some(name) = path.file_name() else {
            return Err(BackupError::Unnamed { path: path.into() });
        };
        let mut unfinished_name = name.to_owned();
        unfinished_name.push(SUFFIX);
        let unfinished = path.with_file_name(unfinished_name);
        files::create_dir_all(parent(&unfinished))?;
        let is_ours = match files::new_dir(&unfinished) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                unfinished.join(MARK).is_file() || is_empty(&unfinished)?
            }
            Err(error) => return Err(crate::StorageError::io("create", &unfinished, error).into()),
        };
        if !is_ours {
            let path = unfinished.into();
            return Err(BackupError::InTheWay { path });
        }
        files::create(&unfinished.join(MARK))?;
        let lock = DirLock::acquire(&unfinished)?;
        let target = Self {
            path: path.into(),
            data: unfinished.join(DATA),
            unfinished,
            _lock: lock,
        };
        if target.data.exists() {
            at("remove", &target.data, fs::remove_dir_all(&target.data))?;
        }
        files::create_dir(&target.data)?;
        Ok(target)
    }

    /// Where its files go.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// Checks that so many bytes fit.
    pub(super) fn check_room(&self, needed: u64) -> Result<(), BackupError> {
        let stat = at(
            "read size of",
            &self.data,
            statvfs(&self.data).map_err(io::Error::from),
        )?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if needed <= free {
            return Ok(());
        }
        let path = self.path.as_path().into();
        Err(BackupError::NoRoom { path, needed, free })
    }

    /// Writes a small file.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<Sum, BackupError> {
        let path = self.data.join(name);
        let mut copy = Copy::create(&path)?;
        copy.write(bytes)?;
        Ok(copy.finish()?)
    }

    /// Gives the directory its name. Every file in it was flushed. Blocks.
    pub(super) fn finish(self) -> Result<(), BackupError> {
        sync_below(&self.data)?;
        check_free(&self.path)?;
        at("rename", &self.data, fs::rename(&self.data, &self.path))?;
        files::sync_dir(parent(&self.path))?;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // What can't be removed is removed by the next attempt: the mark goes last.
        for path in [&self.data, &self.unfinished.join(layout::LOCK_NAME)] {
            if path.is_dir() {
                files::hint(fs::remove_dir_all(path));
            } else {
                files::hint(fs::remove_file(path));
            }
        }
        if !self.data.exists() {
            files::hint(fs::remove_file(self.unfinished.join(MARK)));
            files::hint(fs::remove_dir(&self.unfinished));
        }
    }
}

/// The directory that holds `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn check_free(path: &Path) -> Result<(), BackupError> {
    let free = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        found => at("look at", path, found)?.is_dir() && is_empty(path)?,
    };
    if free {
        Ok(())
    } else {
        Err(BackupError::NotEmpty { path: path.into() })
    }
}

fn is_empty(path: &Path) -> Result<bool, BackupError> {
    let mut entries = at("list", path, fs::read_dir(path))?;
    Ok(entries.next().is_none())
}

/// Makes the names in a directory and below it durable.
fn sync_below(path: &Path) -> Result<(), BackupError> {
    for name in files::names(path)? {
        let entry = path.join(name);
        if entry.is_dir() {
            sync_below(&entry)?;
        }
    }
    Ok(files::sync_dir(path)?)
}
