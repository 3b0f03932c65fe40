//! Archives used where they are mapped: the only `unsafe` of checkpoints.
//!
//! Reading an archive without checking it again is sound if the same bytes were checked before.
//! Named facts that the proofs below rest on:
//!
//! - **Immutable.** A layer is mapped under its final name, after its last write; numbers are not
//!   used twice and nothing of Flux opens a layer for writing again, so the bytes of a mapping
//!   never change (`region.rs`, **Lock** and **Readers after writers**; removing the file leaves
//!   the mapping as it is).
//! - **Footer.** `MappedLayer::new` is the only way to make one, and it returns one only after rkyv
//!   accepted the bytes of `footer` as an archived footer. `footer` is not changed afterwards.
//! - **Blocks.** The bit of a block is set in `MappedLayer::check_block` only, after rkyv accepted
//!   the bytes of that block. Where they lie follows from the footer, which does not change.

#![expect(
    unsafe_code,
    reason = "what was checked once is read in place without checking it again"
)]

use std::ops::Range;

use rkyv::rancor::Failure;

use super::bits::AtomicBits;
use super::block::ArchivedStoredBlock;
use super::footer::ArchivedStoredFooter;
use crate::disk::region::ReadRegion;
use crate::error::{LayerFault, LayerPart};

/// A mapped layer whose footer was checked, and the blocks that were.
#[derive(Debug)]
pub(super) struct MappedLayer {
    region: ReadRegion,
    footer: Range<usize>,
    checked: AtomicBits,
}

impl MappedLayer {
    /// Takes a mapped layer whose footer lies in this range and matches its checksum.
    pub(super) fn new(region: ReadRegion, footer: Range<usize>) -> Result<Self, LayerFault> {
        let fault = LayerFault::Contents(LayerPart::Footer);
        let bytes = region.bytes().get(footer.clone()).ok_or(fault)?;
        let archived =
            rkyv::access::<ArchivedStoredFooter<'static>, Failure>(bytes).or(Err(fault))?;
        archived.check(footer.start)?;
        let checked = AtomicBits::new(archived.blocks.len());
        Ok(Self {
            region,
            footer,
            checked,
        })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.region.bytes()
    }

    pub(super) fn region(&self) -> &ReadRegion {
        &self.region
    }

    pub(super) fn footer(&self) -> &ArchivedStoredFooter<'static> {
        let bytes = &self.region.bytes()[self.footer.clone()];
        // SAFETY: by **Footer** rkyv accepted exactly these bytes as this type, at this address
        // (the mapping does not move), and by **Immutable** they are the same.
        unsafe { rkyv::access_unchecked::<ArchivedStoredFooter<'static>>(bytes) }
    }

    /// A block that was checked before; `None` if it was not, or there is none.
    pub(super) fn checked_block(&self, index: usize) -> Option<&ArchivedStoredBlock<'static>> {
        if !self.checked.get(index) {
            return None;
        }
        let block = self.footer().block(index)?;
        let bytes = self.region.bytes().get(block.bytes)?;
        // SAFETY: by **Blocks** rkyv accepted exactly these bytes as this type, at this address,
        // and by **Immutable** they are the same.
        Some(unsafe { rkyv::access_unchecked::<ArchivedStoredBlock<'static>>(bytes) })
    }

    /// Checks the archive of a block that matches its checksum, and remembers that it did if
    /// `check` agrees.
    pub(super) fn check_block(
        &self,
        index: usize,
        check: impl FnOnce(&ArchivedStoredBlock<'static>) -> Result<(), LayerFault>,
    ) -> Result<&ArchivedStoredBlock<'static>, LayerFault> {
        let fault = LayerFault::Contents(LayerPart::Block);
        let block = self.footer().block(index).ok_or(fault)?;
        let bytes = self.region.bytes().get(block.bytes).ok_or(fault)?;
        let archived =
            rkyv::access::<ArchivedStoredBlock<'static>, Failure>(bytes).or(Err(fault))?;
        check(archived)?;
        self.checked.set(index);
        Ok(archived)
    }
}
