//! Copying one file: its bytes flushed, counted and summed on the way.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fs::{Advice, fadvise};

use super::{CopyObserver, CopyProgress};
use crate::StorageError;
use crate::disk::files::{self, at};

/// Bytes of one read and write. Larger ones are no faster; progress is told after each.
const CHUNK_BYTES: usize = 1024 * 1024;

/// What a file is, but for its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) len: u64,
    pub(super) crc: u32,
}

/// How far the copying has come, and whom to tell.
pub(super) struct Meter<'p> {
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) progress: CopyObserver<'p>,
}

impl Meter<'_> {
    pub(super) fn add(&mut self, path: &Path, bytes: u64) {
        self.done += bytes;
        (self.progress)(CopyProgress {
            bytes: self.done,
            // What grew meanwhile is copied too.
            bytes_total: self.total.max(self.done),
            path,
        });
    }
}

/// Copies a file that nobody changes, durably but for its name. Blocks.
pub(super) fn file(from: &Path, to: &Path, meter: &mut Meter<'_>) -> Result<Sum, StorageError> {
    let mut source = files::open_read(from)?;
    files::read_single_pages(&source);
    meter.add(from, 0);
    let mut copy = Copy::create(to)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = match source.read(&mut chunk) {
            Ok(0) => return copy.finish(),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(StorageError::io("read", from, error)),
        };
        copy.write(&chunk[..read])?;
        meter.add(from, read as u64);
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Copy<'a> {
    path: &'a Path,
    file: File,
    len: u64,
    hasher: crc32fast::Hasher,
}

impl<'a> Copy<'a> {
    pub(super) fn create(path: &'a Path) -> Result<Self, StorageError> {
        Ok(Self {
            path,
            file: files::create(path)?,
            len: 0,
            hasher: crc32fast::Hasher::new(),
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        at("write", self.path, self.file.write_all(bytes))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Sum, StorageError> {
        files::sync_data(&self.file, self.path)?;
        // A log that is opened on this would flush the large folios that large writes leave in the
        // page cache, and the copy need not push out what the server reads.
        files::hint(fadvise(&self.file, 0, None, Advice::DontNeed));
        Ok(Sum {
            len: self.len,
            crc: self.hasher.finalize(),
        })
    }
}

/// Bytes of all files below a directory, as far as they can be counted.
pub(super) fn bytes_below(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
