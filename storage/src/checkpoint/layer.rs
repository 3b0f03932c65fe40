//! A layer: an immutable, mapped file of entities, ascending by id, with a hash index.
//!
//! ```text
//! 0        64                                    4096 × n
//! | header | block | 0 | block | 0 | ... | 0 ... | index page | ... | footer | 0 | trailer |
//! ```
//!
//! A look-up touches one line of the index, the footer's entry of the block, the entity's fixed
//! part, and its id with the body after it. Blocks and pages are checked when they are first
//! touched (checksum, then archive, then order and bodies) and remembered as good; the first touch
//! reads through the file descriptor, so that a bad sector is an error to report and not a signal
//! that ends the process.
//!
//! `FORMAT.md` tabulates the bytes.

use std::fs::File;
use std::ops::{BitXor, Range};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::archive::MappedLayer;
use super::bits::AtomicBits;
use super::block::{ArchivedStoredBlock, ArchivedStoredEntity, PART_ALIGN};
use super::entity::{BodyCheck, LayerEntity};
use super::id_hash::IdHash;
use super::index::{Page, Place, Search, Spot};
use crate::disk::files;
use crate::disk::region::ReadRegion;
use crate::error::{LayerError, LayerFault, LayerPart};
use crate::format::layer::{LAYER_HEADER_BYTES, LAYER_TRAILER_BYTES, LayerHeader, LayerTrailer};

/// Bytes of one read of what is about to be touched for the first time.
const PROBE_BYTES: usize = 8 * 1024;

/// Ids that one prefetch is for ([`super::LayerStack::prefetch_ids`]): a processor core follows
/// some ten cache misses at a time.
pub const PREFETCH_GROUP_IDS_MAX: usize = 32;

/// An open layer. Readers of several threads may share it.
#[derive(Debug)]
pub(super) struct Layer {
    path: Arc<Path>,
    file: File,
    header: LayerHeader,
    trailer: LayerTrailer,
    mapped: MappedLayer,
    checked_pages: AtomicBits,
    body_check: BodyCheck,
}

/// Reads them all, each without waiting for the one before.
fn prefetch_each<T: Default + BitXor<Output = T>>(read: impl Iterator<Item = T>) {
    // Without a use of what was read, nothing would be.
    std::hint::black_box(read.fold(T::default(), |seen, read| seen ^ read));
}

/// A fault and where it is, until the file's path is put to it.
type Faulty<T> = Result<T, (u64, LayerFault)>;

impl Layer {
    /// Opens a layer and checks its ends. Blocks, for as long as its footer takes to be read.
    ///
    /// # Errors
    ///
    /// What is wrong with the file; nothing is modified.
    pub(super) fn open(path: Arc<Path>, body_check: BodyCheck) -> Result<Self, LayerError> {
        let opened = files::open_file(&path)
            .map_err(|error| (0, LayerFault::io(&error)))
            .and_then(|file| {
                let (header, trailer, mapped) = open_file(&file)?;
                Ok((file, header, trailer, mapped))
            });
        match opened {
            Ok((file, header, trailer, mapped)) => Ok(Self {
                checked_pages: AtomicBits::new(mapped.footer().page_crcs.len()),
                path,
                file,
                header,
                trailer,
                mapped,
                body_check,
            }),
            Err((offset, fault)) => Err(LayerError {
                path,
                offset,
                fault,
            }),
        }
    }

    pub(super) fn path(&self) -> &Arc<Path> {
        &self.path
    }

    pub(super) fn header(&self) -> LayerHeader {
        self.header
    }

    pub(super) fn trailer(&self) -> LayerTrailer {
        self.trailer
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.trailer.file_len
    }

    /// Entities in it, tombstones included.
    pub(super) fn records(&self) -> u64 {
        self.mapped.footer().records.to_native()
    }

    pub(super) fn block_count(&self) -> usize {
        self.mapped.footer().blocks.len()
    }

    pub(super) fn page_count(&self) -> usize {
        self.mapped.footer().page_crcs.len()
    }

    /// Asks the kernel to read all of it. Does not wait.
    pub(super) fn prefetch_file(&self) {
        self.mapped.region().prefetch();
    }

    /// The entity of this id, a tombstone included. The hash is the id's, salted as the layer is.
    pub(super) fn find(
        &self,
        hash: IdHash,
        id: &str,
    ) -> Result<Option<LayerEntity<'_>>, LayerError> {
        let spot = Spot::of(hash, self.page_count());
        let mut search = Search::new(self.page(spot.page)?, spot);
        while let Some(place) = search.next() {
            let entity = self.entity_at(spot.page, place)?;
            if entity.id() == id {
                return Ok(Some(entity.view()));
            }
        }
        if search.page_is_full() {
            self.find_by_order(id)
        } else {
            Ok(None)
        }
    }

    /// Prefetches what is needed for the entities of these hashes, at most
    /// [`PREFETCH_GROUP_IDS_MAX`]. One pass reads one kind of memory for all of them, so that cache
    /// misses overlap; no pass branches on what it waits for. Parts that were not checked yet are
    /// not read. Moves the hashes that were not found to the front and returns their number.
    pub(super) fn prefetch_ids<T>(&self, hashes: &mut [(IdHash, T)]) -> usize {
        let mut pages = [None; PREFETCH_GROUP_IDS_MAX];
        for (page, (hash, _)) in pages.iter_mut().zip(&*hashes) {
            let spot = Spot::of(*hash, self.page_count());
            let is_checked = self.checked_pages.get(spot.page);
            let checked = is_checked.then(|| self.page(spot.page).ok()).flatten();
            *page = checked.map(|page| (page, spot));
        }
        prefetch_each(
            pages
                .iter()
                .flatten()
                .map(|(page, spot)| spot.first_byte(page)),
        );
        let mut blocks = [None; PREFETCH_GROUP_IDS_MAX];
        let (mut found, mut missing) = (0, 0);
        for (number, page) in pages.iter().enumerate().take(hashes.len()) {
            if let Some(place) = page.and_then(|(page, spot)| Search::new(page, spot).next()) {
                let block = usize::try_from(place.block).unwrap_or(usize::MAX);
                blocks[found] = self
                    .mapped
                    .checked_block(block)
                    .map(|block| (block, usize::from(place.slot)));
                found += 1;
            } else {
                hashes.swap(missing, number);
                missing += 1;
            }
        }
        let blocks = blocks.iter().flatten();
        prefetch_each(blocks.clone().map(|(block, _)| block.entities().len()));
        let entities = blocks.filter_map(|(block, slot)| block.entities().get(*slot));
        prefetch_each(entities.clone().map(|entity| entity.id().len()));
        prefetch_each(entities.map(|entity| {
            // A body follows its id, so these are its last line and its first.
            let body = entity.view().body.unwrap_or_default();
            let ends = (entity.id().as_bytes().first(), body.as_bytes().last());
            ends.0.copied().unwrap_or(0) ^ ends.1.copied().unwrap_or(0)
        }));
        missing
    }

    fn entity_at(
        &self,
        page: usize,
        place: Place,
    ) -> Result<&ArchivedStoredEntity<'static>, LayerError> {
        let block = usize::try_from(place.block).unwrap_or(usize::MAX);
        let entity = if block < self.block_count() {
            self.block(block)?.entities().get(usize::from(place.slot))
        } else {
            None
        };
        entity.ok_or_else(|| {
            let offset = self
                .mapped
                .footer()
                .page(page)
                .map_or(0, |(range, _)| range.start);
            self.error(offset, LayerFault::Contents(LayerPart::IndexPage))
        })
    }

    fn find_by_order(&self, id: &str) -> Result<Option<LayerEntity<'_>>, LayerError> {
        let (block, slot) = self.seek(&|other| other < id)?;
        if block == self.block_count() {
            return Ok(None);
        }
        let entity = self.block(block)?.entities().get(slot);
        Ok(entity
            .filter(|entity| entity.id() == id)
            .map(ArchivedStoredEntity::view))
    }

    /// The block and slot of the first entity for whose id `is_before` is false; the number of
    /// blocks, and 0, if there is none. `is_before` is true of all ids up to some point and false
    /// after it.
    pub(super) fn seek(
        &self,
        is_before: &impl Fn(&str) -> bool,
    ) -> Result<(usize, usize), LayerError> {
        let first_ids = &self.mapped.footer().first_ids;
        let Some(block) = first_ids.partition_point(|id| is_before(id)).checked_sub(1) else {
            return Ok((0, 0));
        };
        let entities = self.block(block)?.entities();
        let slot = entities.partition_point(|entity| is_before(entity.id()));
        if slot == entities.len() {
            Ok((block + 1, 0))
        } else {
            Ok((block, slot))
        }
    }

    /// A block, checked if it was not before.
    pub(super) fn block(&self, index: usize) -> Result<&ArchivedStoredBlock<'static>, LayerError> {
        match self.mapped.checked_block(index) {
            Some(block) => Ok(block),
            None => self.check_block(index),
        }
    }

    #[cold]
    fn check_block(&self, index: usize) -> Result<&ArchivedStoredBlock<'static>, LayerError> {
        let footer = self.mapped.footer();
        let contents = LayerFault::Contents(LayerPart::Footer);
        let (Some(block), Some(first_id)) = (footer.block(index), footer.first_id(index)) else {
            return Err(self.error(0, contents));
        };
        let start = block.bytes.start;
        self.probe(start..block.padding.end)?;
        let bytes = self.mapped.bytes();
        let fault = if crc32fast::hash(&bytes[block.bytes]) != block.crc {
            Some(LayerFault::Checksum(LayerPart::Block))
        } else if bytes[block.padding].iter().any(|&byte| byte != 0) {
            Some(LayerFault::Padding)
        } else {
            None
        };
        if let Some(fault) = fault {
            return Err(self.error(start, fault));
        }
        let end = footer.first_id(index + 1);
        let checked = self
            .mapped
            .check_block(index, |block| block.check(first_id, end, self.body_check));
        checked.map_err(|fault| self.error(start, fault))
    }

    /// An index page, checked if it was not before.
    pub(super) fn page(&self, index: usize) -> Result<&Page, LayerError> {
        let footer = self.mapped.footer();
        let fault = LayerFault::Contents(LayerPart::Footer);
        let (range, crc) = footer.page(index).ok_or_else(|| self.error(0, fault))?;
        if !self.checked_pages.get(index) {
            self.check_page(range.clone(), crc)?;
            self.checked_pages.set(index);
        }
        let start = range.start;
        let page = self.mapped.bytes().get(range).and_then(<[u8]>::first_chunk);
        page.ok_or_else(|| self.error(start, fault))
    }

    #[cold]
    fn check_page(&self, range: Range<usize>, crc: u32) -> Result<(), LayerError> {
        self.probe(range.clone())?;
        let start = range.start;
        if crc32fast::hash(&self.mapped.bytes()[range]) == crc {
            Ok(())
        } else {
            Err(self.error(start, LayerFault::Checksum(LayerPart::IndexPage)))
        }
    }

    fn probe(&self, range: Range<usize>) -> Result<(), LayerError> {
        probe(&self.file, range).map_err(|(offset, fault)| LayerError {
            path: Arc::clone(&self.path),
            offset,
            fault,
        })
    }

    pub(super) fn error(&self, offset: usize, fault: LayerFault) -> LayerError {
        LayerError {
            path: Arc::clone(&self.path),
            offset: offset as u64,
            fault,
        }
    }

    /// Where a block begins in the file.
    pub(super) fn block_offset(&self, index: usize) -> usize {
        let block = self.mapped.footer().block(index);
        block.map_or(0, |block| block.bytes.start)
    }

    /// Where an index page begins in the file.
    pub(super) fn page_offset(&self, index: usize) -> usize {
        let page = self.mapped.footer().page(index);
        page.map_or(0, |(range, _)| range.start)
    }

    /// Tombstones in it.
    pub(super) fn tombstones(&self) -> u64 {
        self.mapped.footer().tombstones.to_native()
    }
}

/// Maps a layer and checks everything but its blocks and pages.
fn open_file(file: &File) -> Faulty<(LayerHeader, LayerTrailer, MappedLayer)> {
    let size = file
        .metadata()
        .map_err(|error| (0, LayerFault::io(&error)))?;
    let len = usize::try_from(size.len()).unwrap_or(usize::MAX);
    let Some(trailer_offset) = len
        .checked_sub(LAYER_TRAILER_BYTES)
        .filter(|&offset| offset >= LAYER_HEADER_BYTES)
    else {
        return Err((0, LayerFault::WrongSize));
    };
    probe(file, 0..LAYER_HEADER_BYTES)?;
    probe(file, trailer_offset..len)?;
    let region = ReadRegion::map(file).map_err(|error| (0, LayerFault::io(&error)))?;
    region.advise_any_order();
    let (header, trailer) = ends(region.bytes(), trailer_offset)?;
    let footer = footer_range(trailer, trailer_offset)?;
    probe(file, footer.start..trailer_offset)?;
    let start = footer.start as u64;
    let bytes = region.bytes();
    if crc32fast::hash(&bytes[footer.clone()]) != trailer.footer_crc {
        return Err((start, LayerFault::Checksum(LayerPart::Footer)));
    }
    if bytes[footer.end..trailer_offset]
        .iter()
        .any(|&byte| byte != 0)
    {
        return Err((footer.end as u64, LayerFault::Padding));
    }
    let mapped = MappedLayer::new(region, footer).map_err(|fault| (start, fault))?;
    Ok((header, trailer, mapped))
}

fn ends(bytes: &[u8], trailer_offset: usize) -> Faulty<(LayerHeader, LayerTrailer)> {
    let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) else {
        return Err((0, LayerFault::WrongSize));
    };
    let header = LayerHeader::decode(first).map_err(|fault| (0, fault))?;
    let at_trailer = |fault| (trailer_offset as u64, fault);
    let trailer = LayerTrailer::decode(last).map_err(at_trailer)?;
    if trailer.file_len != bytes.len() as u64 {
        return Err(at_trailer(LayerFault::WrongSize));
    }
    if trailer.identity != header.identity {
        return Err(at_trailer(LayerFault::WrongPlace));
    }
    Ok((header, trailer))
}

/// Where the footer lies: right before the trailer, up to the padding between them.
fn footer_range(trailer: LayerTrailer, trailer_offset: usize) -> Faulty<Range<usize>> {
    let range = || {
        let start = usize::try_from(trailer.footer_offset).ok()?;
        let end = start.checked_add(usize::try_from(trailer.footer_len).ok()?)?;
        let inside = start >= LAYER_HEADER_BYTES && end <= trailer_offset;
        let close = end.checked_next_multiple_of(PART_ALIGN)? == trailer_offset;
        (inside && close && start.is_multiple_of(PART_ALIGN)).then_some(start..end)
    };
    let fault = LayerFault::Contents(LayerPart::Trailer);
    range().ok_or((trailer_offset as u64, fault))
}

/// Reads a range of the file into the page cache, so that touching its mapping afterwards doesn't
/// fail.
fn probe(file: &File, range: Range<usize>) -> Faulty<()> {
    let mut scratch = [0; PROBE_BYTES];
    let mut offset = range.start;
    while offset < range.end {
        let len = (range.end - offset).min(PROBE_BYTES);
        file.read_exact_at(&mut scratch[..len], offset as u64)
            .map_err(|error| (offset as u64, LayerFault::io(&error)))?;
        offset += len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OWNER, checkpoint, loaded, numbered, view};
    use super::super::{LayerStack, id_hash::IdHasher};
    use super::*;

    #[test]
    fn what_the_disk_fails_for_is_no_damage_and_the_rest_is_read() {
        let root = tempfile::tempdir().unwrap();
        let entities = numbered(600, 1);
        let mut dir = loaded(root.path());
        checkpoint(&mut dir, &entities, &LayerStack::default(), 1).unwrap();
        let path = root.path().join("00000001.layer");
        let mut layer = Layer::open(path.into(), |_| true).unwrap();
        let hasher = IdHasher::of(OWNER);
        let first = entities.first_key_value().unwrap();
        let last = entities.last_key_value().unwrap();
        let find = |layer: &Layer, id: &str| {
            let found = layer.find(hasher.hash(id), id);
            found.map(|found| found.map(|it| it.id.to_owned()))
        };
        assert_eq!(find(&layer, first.0), Ok(Some(first.0.clone())));
        // From a directory nothing can be read, as from a bad spot of a disk.
        let nowhere = File::open(root.path()).unwrap();
        let file = std::mem::replace(&mut layer.file, nowhere);
        let error = find(&layer, last.0).unwrap_err();
        assert!(!error.is_damage(), "{error:?}");
        assert_eq!(
            layer.find(hasher.hash(first.0), first.0).unwrap(),
            Some(view(first))
        );
        layer.file = file;
        assert_eq!(find(&layer, last.0), Ok(Some(last.0.clone())));
    }
}
