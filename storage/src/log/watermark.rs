//! The `DURABLE` file: how far the log is known to be durable, as a hint.
//!
//! Stored into a mapping after every finished flush and left to the kernel to write, so it costs no
//! system call and may lag behind after a power cut; it never runs ahead. It tells damage of the
//! last records from a torn tail. Damaged, foreign or missing, it says nothing and is made anew.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::disk::files::{self, at};
use crate::disk::layout::WATERMARK_NAME;
use crate::disk::region::Region;
use crate::format::Identity;
use crate::format::slot::{self, Owner, SLOT_BYTES, SLOT_COUNT, SLOT_STRIDE, WATERMARK_BYTES};
use crate::{Sequence, StorageError};

/// A log's mapped watermark file.
#[derive(Debug)]
pub(crate) struct Watermark {
    file: File,
    path: Box<Path>,
    region: Region,
    owner: Owner,
    /// The slot to write next: not the one written last.
    turn: usize,
}

/// What the watermark file of `owner`'s log says, [`Sequence::ZERO`] where it says nothing. Blocks.
pub(crate) fn read_hint(dir: &Path, owner: Owner) -> Sequence {
    read_slots(dir, |slot| slot::decode(slot, owner)).unwrap_or_default()
}

/// Whether the watermark file says anything of `owner`'s log. Blocks.
pub(crate) fn is_whole(dir: &Path, owner: Owner) -> bool {
    read_slots(dir, |slot| slot::decode(slot, owner)).is_some()
}

/// The identity of the log that the watermark file is of, if the file is whole enough to say it.
/// Blocks.
pub(crate) fn stated_identity(dir: &Path) -> Option<Identity> {
    let stated = |slot: &[u8]| slot::stated_identity(slot).map(|identity| identity.0);
    read_slots(dir, stated).map(Identity)
}

/// The highest of what the slots say.
fn read_slots<T: Ord>(dir: &Path, decode: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let mut bytes = [0; WATERMARK_BYTES];
    let file = files::open_file(&dir.join(WATERMARK_NAME)).ok()?;
    file.read_exact_at(&mut bytes, 0).ok()?;
    bytes.chunks(SLOT_STRIDE).filter_map(decode).max()
}

impl Watermark {
    /// Opens or makes the file and says `sequence` in both slots, durably. Blocks.
    pub(crate) fn open(dir: &Path, owner: Owner, sequence: Sequence) -> Result<Self, StorageError> {
        let path: Box<Path> = dir.join(WATERMARK_NAME).into();
        let file = files::open_or_create(&path)?;
        let len = at("read size of", &path, file.metadata())?.len();
        if len != WATERMARK_BYTES as u64 {
            files::set_len(&file, &path, 0)?;
            files::write_at("write", (&file, &path), &[0; WATERMARK_BYTES], 0)?;
            files::sync_data(&file, &path)?;
            files::sync_dir(dir)?;
        }
        let region = at("map", &path, Region::map(&file))?;
        let mut watermark = Self {
            file,
            path,
            region,
            owner,
            turn: 0,
        };
        watermark.record(sequence)?;
        Ok(watermark)
    }

    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// Says that everything up to `sequence` is durable. Does not block.
    pub(crate) fn set(&mut self, sequence: Sequence) {
        let start = self.turn * SLOT_STRIDE;
        let slot = slot::encode(self.owner, sequence);
        self.region.bytes_mut()[start..start + SLOT_BYTES].copy_from_slice(&slot);
        self.turn = (self.turn + 1) % SLOT_COUNT;
    }

    /// Says so in both slots, and durably: the word that a log is left with. Blocks.
    pub(crate) fn record(&mut self, sequence: Sequence) -> Result<(), StorageError> {
        for _ in 0..SLOT_COUNT {
            self.set(sequence);
        }
        files::sync_data(&self.file, &self.path)
    }
}
