//! Writing a layer, from the first entity to the last, without holding it in memory.
//!
//! What is held is one block, one write, the index (12.8 bytes per expected entity) and the list of
//! blocks (24 bytes and the first id of each, under 2 bytes per entity of 200 bytes).
//!
//! The disk is shared with the log, whose flushes somebody waits for. So the file goes out in
//! writes of 256 KiB, after each of which the caller may pause or stop, and is flushed every few
//! MiB, so that the flush at the end is as short as the others.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

use rkyv::util::AlignedVec;

use super::block::{BlockBuilder, PART_ALIGN, archived};
use super::entity::LayerEntity;
use super::footer::{StoredBlockPlace, StoredFooter};
use super::id_hash::IdHasher;
use super::index::{HashIndexBuilder, PAGE_BYTES, Place};
use crate::CheckpointError;
use crate::disk::files;
use crate::format::layer::{LayerHeader, LayerTrailer};

/// Bytes of one write: large enough to be cheap, small enough that resting after each is felt.
const WRITE_BYTES: usize = 256 * 1024;
/// Bytes after which the file is flushed. A flush of this size delays the log's own by some
/// milliseconds on a disk of 1 GiB/s; one of a whole layer would delay it by seconds.
const SYNC_BYTES: u64 = 8 * 1024 * 1024;

/// Asked after about every 256 KiB, with the bytes written since: to pause before it returns, or to
/// stop.
pub type CheckpointThrottle<'a> = dyn FnMut(usize) -> ControlFlow<()> + 'a;

/// A layer being written.
pub(super) struct LayerWriter<'a, 'p> {
    output: Output<'a, 'p>,
    header: LayerHeader,
    hasher: IdHasher,
    block: BlockBuilder,
    archive: AlignedVec<PART_ALIGN>,
    blocks: Vec<StoredBlockPlace>,
    first_ids: Vec<Box<str>>,
    index: HashIndexBuilder,
    /// The last id of the blocks that went out.
    last_id: String,
    records: u64,
    tombstones: u64,
}

/// The file, written from its beginning to its end.
struct Output<'a, 'p> {
    file: File,
    path: &'a Path,
    buffer: Vec<u8>,
    /// Bytes that the file has.
    written: u64,
    /// Bytes of the file that were flushed.
    synced: u64,
    throttle: &'a mut CheckpointThrottle<'p>,
}

impl<'a, 'p> LayerWriter<'a, 'p> {
    /// Creates the file, for about `expected` entities: with many more the index overflows, which
    /// is slow and not wrong.
    pub(super) fn create(
        path: &'a Path,
        header: LayerHeader,
        hasher: IdHasher,
        expected: u64,
        throttle: &'a mut CheckpointThrottle<'p>,
    ) -> Result<Self, CheckpointError> {
        let mut output = Output {
            file: files::create(path)?,
            path,
            buffer: Vec::with_capacity(WRITE_BYTES),
            written: 0,
            synced: 0,
            throttle,
        };
        output.put(&header.encode())?;
        Ok(Self {
            output,
            header,
            hasher,
            block: BlockBuilder::default(),
            archive: AlignedVec::new(),
            blocks: Vec::new(),
            first_ids: Vec::new(),
            index: HashIndexBuilder::new(expected),
            last_id: String::new(),
            records: 0,
            tombstones: 0,
        })
    }

    /// Entities so far.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Adds an entity.
    ///
    /// # Panics
    ///
    /// If its id is not after the one before.
    pub(super) fn push(&mut self, entity: &LayerEntity<'_>) -> Result<(), CheckpointError> {
        let last_id = if self.block.is_empty() {
            &self.last_id
        } else {
            self.block.last_id()
        };
        assert!(self.records == 0 || entity.id > last_id, "ids ascend");
        if !self.block.is_empty() && !self.block.has_room(entity) {
            self.end_block()?;
        }
        let bytes = entity.id.len() + entity.body.map_or(0, str::len);
        let too_large = CheckpointError::TooLarge { bytes };
        let (Ok(block), Ok(slot)) = (
            u32::try_from(self.blocks.len()),
            u16::try_from(self.block.len()),
        ) else {
            return Err(too_large);
        };
        self.index
            .insert(self.hasher.hash(entity.id), Place { block, slot });
        self.block.push(entity);
        self.records += 1;
        self.tombstones += u64::from(entity.body.is_none());
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), CheckpointError> {
        self.first_ids.push(self.block.first_id().into());
        self.last_id.clear();
        self.last_id.push_str(self.block.last_id());
        self.archive = self.block.archive(std::mem::take(&mut self.archive))?;
        let len = self.archive.len();
        let too_large = CheckpointError::TooLarge { bytes: len };
        self.blocks.push(StoredBlockPlace {
            offset: self.output.len(),
            len: u32::try_from(len).or(Err(too_large))?,
            crc: crc32fast::hash(&self.archive),
        });
        self.output.put(&self.archive)?;
        self.output.pad(PART_ALIGN)
    }

    /// Writes what follows the blocks and flushes all of it. The layer has at least one entity.
    pub(super) fn finish(mut self) -> Result<LayerTrailer, CheckpointError> {
        assert!(self.records > 0, "a layer is not empty");
        self.end_block()?;
        self.output.pad(PAGE_BYTES)?;
        let index_offset = self.output.len();
        let mut page_crcs = Vec::new();
        for page in self.index.pages() {
            page_crcs.push(crc32fast::hash(&page));
            self.output.put(&page)?;
        }
        let footer = StoredFooter {
            records: self.records,
            tombstones: self.tombstones,
            index_offset,
            blocks: self.blocks,
            first_ids: self.first_ids.iter().map(|id| &**id).collect(),
            page_crcs,
        };
        let bytes = footer.first_ids.iter().map(|id| id.len() + 24).sum();
        let footer = archived(&footer, self.archive, bytes)?;
        let footer_offset = self.output.len();
        self.output.put(&footer)?;
        self.output.pad(PART_ALIGN)?;
        let trailer = LayerTrailer {
            footer_offset,
            footer_len: footer.len() as u64,
            file_len: self.output.len() + crate::format::layer::LAYER_TRAILER_BYTES as u64,
            identity: self.header.identity,
            footer_crc: crc32fast::hash(&footer),
        };
        self.output.put(&trailer.encode())?;
        self.output.finish()?;
        Ok(trailer)
    }
}

impl Output<'_, '_> {
    /// Bytes put so far.
    fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), CheckpointError> {
        while !bytes.is_empty() {
            let room = WRITE_BYTES - self.buffer.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == WRITE_BYTES {
                self.write()?;
            }
        }
        Ok(())
    }

    /// Puts zeros up to a multiple of `align`.
    fn pad(&mut self, align: usize) -> Result<(), CheckpointError> {
        const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
        let len = self.len();
        let mut zeros = len.next_multiple_of(align as u64) - len;
        while zeros > 0 {
            let now = ZEROS
                .len()
                .min(usize::try_from(zeros).unwrap_or(ZEROS.len()));
            self.put(&ZEROS[..now])?;
            zeros -= now as u64;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), CheckpointError> {
        files::write_at("write", (&self.file, self.path), &self.buffer, self.written)?;
        let bytes = self.buffer.len();
        self.written += bytes as u64;
        self.buffer.clear();
        if self.written - self.synced >= SYNC_BYTES {
            files::sync_data(&self.file, self.path)?;
            self.synced = self.written;
        }
        match (self.throttle)(bytes) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(CheckpointError::Cancelled),
        }
    }

    fn finish(&mut self) -> Result<(), CheckpointError> {
        if !self.buffer.is_empty() {
            self.write()?;
        }
        Ok(files::sync_data(&self.file, self.path)?)
    }
}
