//! Ballast on the disk: a file that is there only to be removed.
//!
//! When a disk is full, what a server writes to shut down cleanly (a manifest, a log start, a
//! watermark) has nowhere to go. The ballast is given back then, and made again when there is room.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use crate::StorageError;
use crate::disk::faults;
use crate::disk::files;
use crate::disk::layout::{self, BALLAST_NAME};

const CHUNK_BYTES: usize = 64 * 1024;

/// Makes the ballast file unless it exists with this size. Blocks.
pub(crate) fn make(root: &Path, bytes: u64) -> Result<(), StorageError> {
    let path = root.join(BALLAST_NAME);
    if fs::metadata(&path).is_ok_and(|found| found.len() == bytes) {
        return Ok(());
    }
    release(root)?;
    let unfinished = layout::unfinished(&path);
    let made = files::create(&unfinished).and_then(|file| {
        // Not the last room: the log has better use for it.
        files::expect_room(&file, &unfinished, bytes.saturating_mul(2))?;
        fill(&file, &unfinished, bytes)
    });
    if made.is_err() {
        // A part of a ballast file would only make the disk fuller.
        files::discard(&unfinished);
    }
    made?;
    files::rename(&unfinished, &path, root)
}

/// Takes the space, and writes to all of it: what is only promised may still be refused on a disk
/// that shares its blocks, and a run of zeros may take none.
fn fill(file: &File, path: &Path, bytes: u64) -> Result<(), StorageError> {
    faults::step("reserve space in", path)?;
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(error) => return Err(StorageError::io("reserve space in", path, error.into())),
    }
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    while offset < bytes {
        scramble(&mut chunk, offset);
        let len = usize::try_from(bytes - offset).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES));
        files::write_at("write", (file, path), &chunk[..len], offset)?;
        offset += len as u64;
    }
    files::sync_data(file, path)
}

/// Bytes that a file system neither compresses nor shares.
fn scramble(chunk: &mut [u8], seed: u64) {
    let mut state = seed | 1;
    for word in chunk.chunks_exact_mut(8) {
        // Xorshift, period 2^64 - 1 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
}

/// Gives the space back; false if there was no reserve. Blocks.
pub(crate) fn release(root: &Path) -> Result<bool, StorageError> {
    let path = root.join(BALLAST_NAME);
    if !path.exists() {
        return Ok(false);
    }
    // A file system may keep removed blocks from use until the removal is durable.
    files::remove(&path, root)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_reserve_takes_its_space_until_it_is_released() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(BALLAST_NAME);
        for bytes in [300_000, 300_000, 100_000] {
            make(root.path(), bytes).unwrap();
            let found = fs::metadata(&path).unwrap();
            assert_eq!(found.len(), bytes);
            assert!(found.blocks() * 512 >= bytes, "{}", found.blocks());
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
        assert!(release(root.path()).unwrap());
        assert!(!release(root.path()).unwrap());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_reserve_that_cannot_be_made_is_an_error_that_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let error = make(root.path(), 1 << 62).unwrap_err();
        assert!(error.is_recoverable(), "{error}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        assert!(make(&root.path().join("none"), 1).is_err());
    }
}
