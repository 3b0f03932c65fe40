//! One segment file in memory, whatever state it is in.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::checksum_seed;
use super::content::{self, Content, Plausible, Run};
use super::finding::Fault;
use super::listing::{Slot, Source};
use crate::StorageError;
use crate::disk::files::{self, at};
use crate::format::header::{HEADER_BYTES, peek_identity};
use crate::format::{CrcSeed, Identity};

/// The most that is read of one file, bytes: far above the largest segment that a server makes.
/// What a file holds beyond is passed over, as its size shows that something is wrong with it.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// A segment's bytes and what was found in them.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) seed: Option<CrcSeed>,
    pub(crate) content: Content,
    /// What is wrong with the file as a whole.
    pub(crate) faults: Vec<Fault>,
}

impl Loaded {
    /// Reads the file of a place. Blocks.
    pub(crate) fn read(
        slot: &Slot,
        identity: Option<Identity>,
        plausible: Plausible,
    ) -> Result<Self, StorageError> {
        let Some(source) = &slot.source else {
            return Ok(Self {
                faults: vec![Fault::Missing],
                ..Self::default()
            });
        };
        let mut loaded = Self::read_source(source, identity, plausible)?;
        if source.header.is_some() && source.path != slot.path {
            // Told already, of the file that it is; what is at this name is another matter.
            loaded.faults.push(Fault::Missing);
        }
        Ok(loaded)
    }

    /// Reads a file, wherever it belongs. Blocks.
    pub(crate) fn read_source(
        source: &Source,
        identity: Option<Identity>,
        plausible: Plausible,
    ) -> Result<Self, StorageError> {
        let (bytes, failed) = read_file(&source.path, source.size)?;
        let mut loaded = Self {
            bytes,
            ..Self::default()
        };
        if failed > 0 {
            loaded.faults.push(Fault::Unreadable { bytes: failed });
        }
        match &source.header {
            Some(header) => {
                let seed = header.salt.seed();
                loaded.seed = Some(seed);
                loaded.content = content::read(&loaded.bytes, seed, plausible);
                if header.capacity != source.size {
                    loaded.faults.push(Fault::WrongSize {
                        expected: header.capacity,
                        found: source.size,
                    });
                }
            }
            None => loaded.read_without_header(source, identity, plausible),
        }
        Ok(loaded)
    }

    /// The records of a segment whose header is damaged.
    fn read_without_header(
        &mut self,
        source: &Source,
        identity: Option<Identity>,
        plausible: Plausible,
    ) {
        let found = checksum_seed::find(&self.bytes, plausible);
        let states_identity = identity.is_some() && peek_identity(&self.bytes) == identity;
        // A wiped header says nothing against it, and a segment of another log would continue this
        // one by chance.
        let is_wiped = self
            .bytes
            .get(..HEADER_BYTES)
            .is_some_and(|page| page.iter().all(|&byte| byte == 0));
        let continues = |run: &Run| is_wiped || run.first == plausible.lowest;
        match found {
            Some((seed, content))
                if states_identity || content.runs.first().is_some_and(continues) =>
            {
                self.seed = Some(seed);
                self.content = content;
                self.faults.push(Fault::DamagedHeader);
            }
            Some(_) | None => {
                self.content.used = used(&self.bytes);
                let fault = source.fault.clone().filter(|_| !states_identity);
                self.faults.push(fault.unwrap_or(Fault::DamagedHeader));
            }
        }
    }
}

/// Reads a file of `size` bytes, and how many of them can't be read.
pub(crate) fn read_file(path: &Path, size: u64) -> Result<(Vec<u8>, u64), StorageError> {
    let file: File = files::open_read(path)?;
    files::read_single_pages(&file);
    let len = usize::try_from(size.min(FILE_BYTES_MAX)).unwrap_or(usize::MAX);
    let read = files::read_what_is_readable(len, |out, offset| file.read_at(out, offset));
    at("read", path, read)
}

/// Where the last byte that is not zero ends; the header's end where there is none after it.
fn used(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(HEADER_BYTES, |last| last.saturating_add(1))
        .max(HEADER_BYTES)
}
