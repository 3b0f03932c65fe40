//! Files and directories, made durable, with errors that say what was attempted on which path.
//!
//! Whatever changes a file goes through here, and each operation is a place where a crash or a full
//! or failing disk may strike: see `fault`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Advice, OFlags, StatVfs, fadvise, fstatvfs};
use rustix::process::geteuid;

use crate::StorageError;
use crate::disk::faults::step;

/// A page of a file.
pub(crate) const PAGE_BYTES: usize = 4096;
/// The permissions of a new file: for its owner alone, because events, token hashes and sealed
/// credentials are in them. What exists keeps its permissions, which an operator may have chosen.
const FILE_MODE: u32 = 0o600;
/// The permissions of a new directory.
const DIR_MODE: u32 = 0o700;
/// What the system says of a bad spot of a disk.
const EIO: i32 = 5;
/// What looking for room is called in an error.
const FIND_ROOM: &str = "find room for";
/// What one read of a prefetch asks for.
const PREFETCH_BYTES: usize = 1024 * 1024;

/// Names what was attempted in the error.
pub(crate) fn at<T>(
    op: &'static str,
    path: &Path,
    result: io::Result<T>,
) -> Result<T, StorageError> {
    result.map_err(|source| StorageError::io(op, path, source))
}

/// Takes note of the result of an advice to the kernel: without it everything works, only slower.
pub(crate) fn hint<T, E>(result: Result<T, E>) {
    drop(result);
}

/// How every file is opened: a symbolic link in its place is an error. Whoever may make files in a
/// data directory could otherwise have the server read, empty or overwrite any file that it may.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Opens a file for reading.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    options().read(true).open(path)
}

pub(crate) fn open_read(path: &Path) -> Result<File, StorageError> {
    at("open", path, open_file(path))
}

pub(crate) fn open_write(path: &Path) -> Result<File, StorageError> {
    at("open", path, options().read(true).write(true).open(path))
}

/// Creates the file, or empties one that a crash left behind.
pub(crate) fn create(path: &Path) -> Result<File, StorageError> {
    step("create", path)?;
    let mut options = options();
    options.read(true).write(true).create(true).truncate(true);
    at("create", path, options.mode(FILE_MODE).open(path))
}

/// Opens a file for reading and writing, making it if it does not exist.
pub(crate) fn open_or_create(path: &Path) -> Result<File, StorageError> {
    step("open", path)?;
    let mut options = options();
    options.read(true).write(true).create(true).truncate(false);
    at("open", path, options.mode(FILE_MODE).open(path))
}

/// Writes all of the bytes at an offset. `op` is what an error calls it.
pub(crate) fn write_at(
    op: &'static str,
    (file, path): (&File, &Path),
    bytes: &[u8],
    offset: u64,
) -> Result<(), StorageError> {
    step(op, path)?;
    at(op, path, file.write_all_at(bytes, offset))
}

/// Zeroes what is not zero from an offset on, page by page, so that untouched pages are not
/// written.
pub(crate) fn zero_from((file, path): (&File, &Path), mut offset: u64) -> Result<(), StorageError> {
    read_single_pages(file);
    let mut page = [0; PAGE_BYTES];
    loop {
        let left = PAGE_BYTES - usize::try_from(offset % PAGE_BYTES as u64).unwrap_or_default();
        let count = match file.read_at(&mut page[..left], offset) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(StorageError::io("read", path, error)),
        };
        if page[..count].iter().any(|&byte| byte != 0) {
            page.fill(0);
            write_at("write zeros to", (file, path), &page[..count], offset)?;
        }
        offset += count as u64;
    }
}

/// Refuses if the file system has not so many bytes left, for any user. What it says of a quota or
/// of a shared pool may be more than there is: writing tells.
///
/// # Errors
///
/// `OutOfSpace`.
pub(crate) fn expect_room(file: &File, path: &Path, bytes: u64) -> Result<(), StorageError> {
    step(FIND_ROOM, path)?;
    refuse_without(fstatvfs(file).map(|stat| (stat.f_bfree, stat)), path, bytes)
}

/// The same, of what this process may take: what a file system holds back for the superuser is no
/// room for others.
///
/// # Errors
///
/// `OutOfSpace`.
pub(crate) fn expect_own_room(file: &File, path: &Path, bytes: u64) -> Result<(), StorageError> {
    step(FIND_ROOM, path)?;
    let stat = fstatvfs(file).map(|stat| {
        let blocks = if geteuid().is_root() {
            stat.f_bfree
        } else {
            stat.f_bavail
        };
        (blocks, stat)
    });
    refuse_without(stat, path, bytes)
}

fn refuse_without(
    stat: rustix::io::Result<(u64, StatVfs)>,
    path: &Path,
    bytes: u64,
) -> Result<(), StorageError> {
    match stat {
        // A file system without a size does not count its blocks.
        Ok((blocks, stat)) if stat.f_blocks > 0 && blocks.saturating_mul(stat.f_frsize) < bytes => {
            Err(StorageError::io(
                FIND_ROOM,
                path,
                io::ErrorKind::StorageFull.into(),
            ))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Makes a file as long as this.
pub(crate) fn set_len(file: &File, path: &Path, len: u64) -> Result<(), StorageError> {
    step("set the size of", path)?;
    at("set the size of", path, file.set_len(len))
}

/// Makes a directory's entries durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StorageError> {
    step("flush directory", path)?;
    at(
        "flush directory",
        path,
        File::open(path).and_then(|dir| dir.sync_all()),
    )
}

pub(crate) fn sync_data(file: &File, path: &Path) -> Result<(), StorageError> {
    step("flush", path)?;
    at("flush", path, file.sync_data())
}

/// Creates a directory that does not exist, for its owner alone; not durable before its parent is
/// flushed.
pub(crate) fn new_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(DIR_MODE).create(path)
}

/// Creates a directory whose parent exists, durably; one that exists is left as it is.
pub(crate) fn create_dir(path: &Path) -> Result<(), StorageError> {
    if path.is_dir() {
        return Ok(());
    }
    step("create directory", path)?;
    match new_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => at("create directory", path, made)?,
    }
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Creates a directory and its missing ancestors, durably.
pub(crate) fn create_dir_all(path: &Path) -> Result<(), StorageError> {
    if path.as_os_str().is_empty() || path.exists() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_dir_all(parent)?;
    }
    create_dir(path)
}

/// Gives a finished file or directory its name, durably.
pub(crate) fn rename(from: &Path, to: &Path, parent: &Path) -> Result<(), StorageError> {
    rename_undurably(from, to)?;
    sync_dir(parent)
}

/// Gives a file its name, which a crash may undo.
pub(crate) fn rename_undurably(from: &Path, to: &Path) -> Result<(), StorageError> {
    step("rename", from)?;
    at("rename", from, fs::rename(from, to))
}

/// Gives a small file these contents, whole and durable, whatever was there before.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let unfinished = super::layout::unfinished(path);
    let written = create(&unfinished).and_then(|file| {
        write_at("write", (&file, &unfinished), bytes, 0)?;
        sync_data(&file, &unfinished)
    });
    if written.is_err() {
        discard(&unfinished);
    }
    written?;
    rename(&unfinished, path, path.parent().unwrap_or(path))
}

/// Removes a file, durably.
pub(crate) fn remove(path: &Path, parent: &Path) -> Result<(), StorageError> {
    remove_undurably(path)?;
    sync_dir(parent)
}

/// Removes a file; not durable before the directory is flushed.
pub(crate) fn remove_undurably(path: &Path) -> Result<(), StorageError> {
    step("remove", path)?;
    at("remove", path, fs::remove_file(path))
}

/// Removes a file that was not finished: what it took of a full disk is given back. If even this
/// fails, whoever opens the directory next removes it.
pub(crate) fn discard(path: &Path) {
    hint(remove_undurably(path));
}

/// The names in a directory, ascending; names that are not UTF-8 are left out.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, StorageError> {
    let entries = at("list", path, fs::read_dir(path))?;
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = at("list", path, entry)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads up to `len` bytes of a file, whatever of it the disk still gives: pages that it fails for
/// come out as zeros, and are counted in bytes.
pub(crate) fn read_what_is_readable(
    len: usize,
    mut read_at: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<(Vec<u8>, u64)> {
    let mut bytes = vec![0; len];
    let mut failed = 0_u64;
    let mut offset = 0;
    let mut step = PREFETCH_BYTES;
    while offset < len {
        let end = offset.saturating_add(step).min(len);
        match read_at(&mut bytes[offset..end], offset as u64) {
            Ok(0) => {
                bytes.truncate(offset);
                break;
            }
            Ok(count) => {
                offset += count;
                step = PREFETCH_BYTES;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() != Some(EIO) => return Err(error),
            // Up to the next page only, to lose no more than the disk did.
            Err(_) if step > PAGE_BYTES => step = PAGE_BYTES - offset % PAGE_BYTES,
            Err(_) => {
                failed += (end - offset) as u64;
                offset = end;
                step = PAGE_BYTES;
            }
        }
    }
    Ok((bytes, failed))
}

/// Keeps the kernel from reading ahead of what is read from this open file.
///
/// Reading ahead caches the file in large folios, and if the file system does not know which pages
/// of a folio were written, a flush writes all of it: for each small record 64 KiB after the file
/// had been read plainly, 4 KiB after it had been read like this (ext4, Linux 6.18, records stored
/// into a mapping). A file advised as random is cached in single pages; large reads are large
/// requests to the disk all the same.
pub(crate) fn read_single_pages(file: &File) {
    hint(fadvise(file, 0, None, Advice::Random));
}

/// Reads a file into the page cache in single pages, whatever of it is not there yet.
pub(crate) fn prefetch(file: &File, path: &Path) -> Result<(), StorageError> {
    read_single_pages(file);
    let mut scratch = vec![0; PREFETCH_BYTES];
    let mut reader = file;
    loop {
        match reader.read(&mut scratch) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(StorageError::io("read", path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_fails_for_comes_out_as_zeros_and_costs_its_page_only() {
        let len = 3 * PREFETCH_BYTES + 100;
        let bad = [PAGE_BYTES * 3, PREFETCH_BYTES + 5000, len - 1];
        let (bytes, failed) = read_what_is_readable(len, |out, offset| {
            let range =
                usize::try_from(offset).unwrap()..usize::try_from(offset).unwrap() + out.len();
            if bad.iter().any(|spot| range.contains(spot)) {
                return Err(io::Error::from_raw_os_error(EIO));
            }
            out.fill(7);
            Ok(out.len())
        })
        .unwrap();
        let lost: Vec<usize> = (0..len).filter(|&at| bytes[at] == 0).collect();
        let expected: Vec<usize> = bad
            .iter()
            .flat_map(|spot| {
                let page = spot / PAGE_BYTES * PAGE_BYTES;
                page..(page + PAGE_BYTES).min(len)
            })
            .collect();
        assert_eq!(lost, expected);
        assert_eq!(failed, expected.len() as u64);
    }

    #[test]
    fn a_file_that_is_shorter_by_now_ends_there() {
        let (bytes, failed) = read_what_is_readable(100, |out, offset| {
            let left = 10_usize.saturating_sub(usize::try_from(offset).unwrap());
            Ok(left.min(out.len()).min(3))
        })
        .unwrap();
        assert_eq!((bytes.len(), failed), (10, 0));
    }

    #[test]
    fn other_errors_are_errors() {
        let read = read_what_is_readable(100, |_, _| Err(io::Error::from_raw_os_error(9)));
        assert_eq!(read.unwrap_err().raw_os_error(), Some(9));
    }
}
