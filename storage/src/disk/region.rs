//! Mapped files: the only `unsafe` of this crate.
//!
//! A mapping is sound while nobody else changes the file's bytes or its length. Named facts that
//! the proofs below rest on:
//!
//! - **Lock.** Every mapped file lies in a data directory whose `LOCK` this process holds for as
//!   long as any `Log`, `LogDir`, `LogReader`, `SealedLog` or `NextSegmentJob` of it lives, and no
//!   program but Flux writes there. Someone who truncates a segment under a running server gets
//!   SIGBUS, as with every database that maps its files.
//! - **One writer.** A [`Region`] is made of a watermark file, or of a segment for one append, at
//!   most once at a time, by the one owner of its log, and no plain write to the file goes on
//!   beside it.
//! - **Readers after writers.** A [`ReadRegion`] is made of files that will not be written again (a
//!   sealed segment), or of the first bytes of a file, before its owner's next record: a segment is
//!   appended to, and nothing before its end changes once the first record is there. Recovery,
//!   which cuts, has taken its regions down by then.
//! - **Length.** Mapped files are preallocated and never truncated.

#![expect(
    unsafe_code,
    reason = "memmap2 cannot know that nobody else changes the file"
)]

use std::fs::File;
use std::io;

use memmap2::{Advice, Mmap, MmapMut, MmapOptions};

use crate::disk::files::hint;

/// A file mapped for reading and writing by its one owner.
#[derive(Debug)]
pub(crate) struct Region {
    map: MmapMut,
}

/// A file mapped for reading.
#[derive(Debug)]
pub(crate) struct ReadRegion {
    map: Mmap,
}

impl Region {
    /// Maps the whole file, which must be opened for reading and writing.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        // SAFETY: by **Lock** no other process changes the file, by **One writer** this process
        // changes it only through this mapping, and by **Length** it keeps its size while mapped.
        let map = unsafe { MmapMut::map_mut(file) }?;
        Ok(Self { map })
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

impl ReadRegion {
    /// Maps the whole file.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        // SAFETY: by **Lock** no other process changes the file, by **Readers after writers** this
        // process does not, and by **Length** it keeps its size while mapped.
        let map = unsafe { Mmap::map(file) }?;
        hint(map.advise(Advice::Sequential));
        Ok(Self { map })
    }

    /// Maps the first `len` bytes of the file, which has at least so many, for reads here and
    /// there.
    pub(crate) fn map_prefix(file: &File, len: usize) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.len(len);
        // SAFETY: by **Lock** no other process changes the file, by **Readers after writers** this
        // process does not change its first `len` bytes, and by **Length** it keeps its size while
        // mapped.
        let map = unsafe { options.map(file) }?;
        // Reading ahead would cache the active segment in large folios: see `files::prefetch`.
        hint(map.advise(Advice::Random));
        Ok(Self { map })
    }

    /// Says that pages are read in no order, with their neighbours, as the kernel does unless it is
    /// told otherwise.
    pub(crate) fn advise_any_order(&self) {
        hint(self.map.advise(Advice::Normal));
    }

    /// Asks the kernel to read the whole file into memory.
    pub(crate) fn prefetch(&self) {
        hint(self.map.advise(Advice::WillNeed));
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_stored_in_a_region_is_in_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 8192]).unwrap();
        let mut region = Region::map(&file).unwrap();
        region.bytes_mut()[4096..4100].copy_from_slice(b"flux");
        drop(region);
        let mut expected = [7; 8192];
        expected[4096..4100].copy_from_slice(b"flux");
        assert_eq!(ReadRegion::map(&file).unwrap().bytes(), expected);
    }
}
