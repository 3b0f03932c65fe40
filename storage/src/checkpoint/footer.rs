//! The footer of a layer: where its blocks and index pages lie, and what they must add up to.
//!
//! Checked whole when a layer is opened, so that whoever follows it stays inside the file. Its
//! checksums are what blocks and pages are held to when they are first used.

use std::ops::Range;

use rkyv::with::{InlineAsBox, Map};
use rkyv::{Archive, Serialize};

use super::block::PART_ALIGN;
use super::index::PAGE_BYTES;
use crate::error::{LayerFault, LayerPart};
use crate::format::layer::LAYER_HEADER_BYTES;

/// A footer as it is archived.
#[derive(Debug, Archive, Serialize)]
pub(super) struct StoredFooter<'a> {
    /// Entities of all blocks, tombstones included.
    pub(super) records: u64,
    /// Entities without a body.
    pub(super) tombstones: u64,
    /// Where the first index page begins; the others follow without a gap, and the footer follows
    /// them.
    pub(super) index_offset: u64,
    pub(super) blocks: Vec<StoredBlockPlace>,
    /// The first id of each block.
    #[rkyv(with = Map<InlineAsBox>)]
    pub(super) first_ids: Vec<&'a str>,
    /// The checksum of each index page.
    pub(super) page_crcs: Vec<u32>,
}

/// Where a block lies.
#[derive(Debug, Clone, Copy, Archive, Serialize)]
pub(super) struct StoredBlockPlace {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
}

const _: () = assert!(size_of::<ArchivedStoredBlockPlace>() == 16);
const _: () = assert!(align_of::<ArchivedStoredFooter<'static>>() <= PART_ALIGN);

/// A block's bytes in the file, and what follows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockRange {
    pub(super) bytes: Range<usize>,
    /// Zero bytes up to the next part.
    pub(super) padding: Range<usize>,
    pub(super) crc: u32,
}

impl ArchivedStoredFooter<'_> {
    /// Where a block lies, if there is one of this index.
    pub(super) fn block(&self, index: usize) -> Option<BlockRange> {
        let place = self.blocks.get(index)?;
        let start = usize::try_from(place.offset.to_native()).ok()?;
        let len = usize::try_from(place.len.to_native()).ok()?;
        let end = start.checked_add(len)?;
        let next = if index + 1 == self.blocks.len() {
            usize::try_from(self.index_offset.to_native()).ok()?
        } else {
            end.checked_next_multiple_of(PART_ALIGN)?
        };
        Some(BlockRange {
            bytes: start..end,
            padding: end..next,
            crc: place.crc.to_native(),
        })
    }

    /// Where an index page lies, and its checksum.
    pub(super) fn page(&self, index: usize) -> Option<(Range<usize>, u32)> {
        let crc = self.page_crcs.get(index)?.to_native();
        let start = usize::try_from(self.index_offset.to_native())
            .ok()?
            .checked_add(index.checked_mul(PAGE_BYTES)?)?;
        Some((start..start.checked_add(PAGE_BYTES)?, crc))
    }

    /// The first id of a block, if there is one of this index.
    pub(super) fn first_id(&self, index: usize) -> Option<&str> {
        self.first_ids.get(index).map(|id| &**id)
    }

    /// Whether blocks and pages lie without a gap between the header and the footer, and the blocks
    /// in order.
    pub(super) fn check(&self, footer_offset: usize) -> Result<(), LayerFault> {
        if self.lies_before(footer_offset).unwrap_or(false) && self.is_plausible() {
            Ok(())
        } else {
            Err(LayerFault::Contents(LayerPart::Footer))
        }
    }

    fn lies_before(&self, footer_offset: usize) -> Option<bool> {
        let mut expected = LAYER_HEADER_BYTES;
        for index in 0..self.blocks.len() {
            let block = self.block(index)?;
            if block.bytes.start != expected || block.bytes.is_empty() {
                return Some(false);
            }
            expected = block.bytes.end.checked_next_multiple_of(PART_ALIGN)?;
        }
        expected = expected.checked_next_multiple_of(PAGE_BYTES)?;
        let index_offset = usize::try_from(self.index_offset.to_native()).ok()?;
        let index_bytes = self.page_crcs.len().checked_mul(PAGE_BYTES)?;
        let index_end = index_offset.checked_add(index_bytes)?;
        Some(index_offset == expected && index_end == footer_offset)
    }

    fn is_plausible(&self) -> bool {
        let blocks = self.blocks.len();
        let records = self.records.to_native();
        blocks > 0
            && u32::try_from(blocks).is_ok()
            && blocks == self.first_ids.len()
            && !self.page_crcs.is_empty()
            && records >= blocks as u64
            && self.tombstones.to_native() <= records
            && self.first_ids.is_sorted_by(|left, right| **left < **right)
    }
}
