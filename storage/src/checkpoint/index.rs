//! The hash index of a layer: from an id's hash to where the entity may lie.
//!
//! ```text
//! page      4,096 bytes = 64 buckets, each a cache line of 8 entries of 8 bytes
//! entry     63          42 41     32 31        0
//!           | fingerprint | slot    | block + 1  |     0: no entry
//! ```
//!
//! The top bits of the hash choose the page and, within it, the bucket; the low 22 bits are the
//! fingerprint. An entry that finds its bucket full goes to the next with room, around the page;
//! entries are never removed, so a search ends at the first bucket with room. Pages are filled to
//! five eighths on average: a look-up touches one cache line, seldom two, and a miss is found out
//! without touching any block (a fingerprint lies about once in 800,000 misses). A page that is
//! full says nothing of what it lacks; who misses there searches by order instead.

use super::id_hash::IdHash;

/// Bytes of a page.
pub(super) const PAGE_BYTES: usize = 4096;
/// Bytes of an entry.
const ENTRY_BYTES: usize = 8;
/// Entries of a page.
const PAGE_ENTRIES: usize = PAGE_BYTES / ENTRY_BYTES;
/// Entries of a bucket: a cache line.
const BUCKET_ENTRIES: usize = 8;
/// Buckets of a page.
const PAGE_BUCKETS: usize = PAGE_ENTRIES / BUCKET_ENTRIES;
/// Entries that a page is meant to hold. It overflows at more than ten standard deviations above.
const PAGE_FILL: usize = 320;
/// Bound on the entities of a block: the slot has 10 bits.
pub(super) const BLOCK_ENTITIES_MAX: usize = 1 << SLOT_BITS;

const SLOT_BITS: u32 = 10;
const SLOT_SHIFT: u32 = 32;
const FINGERPRINT_SHIFT: u32 = SLOT_SHIFT + SLOT_BITS;

/// Bytes of a page as they lie in the file.
pub(super) type Page = [u8; PAGE_BYTES];

/// Where an entity lies: the block, and its place in the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) block: u32,
    pub(super) slot: u16,
}

impl Place {
    /// Whether there is such a place in blocks of so many entities.
    pub(super) fn is_inside(self, counts: &[usize]) -> bool {
        let block = usize::try_from(self.block).unwrap_or(usize::MAX);
        let count = counts.get(block);
        count.is_some_and(|&count| usize::from(self.slot) < count)
    }
}

/// Where the search for a hash begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) page: usize,
    bucket: usize,
    fingerprint: u64,
}

impl Spot {
    /// Of a hash, in an index of so many pages.
    pub(super) fn of(hash: IdHash, pages: usize) -> Self {
        let scaled = u128::from(hash.0) * (pages as u128);
        let fraction = scaled & u128::from(u64::MAX);
        Self {
            page: usize::try_from(scaled >> 64).expect("less than the number of pages"),
            bucket: usize::try_from(fraction >> 58).expect("the top 6 of 64 bits"),
            fingerprint: hash.0 << FINGERPRINT_SHIFT,
        }
    }

    /// The first byte of where the search begins.
    pub(super) fn first_byte(self, page: &Page) -> u8 {
        page[self.bucket * BUCKET_ENTRIES * ENTRY_BYTES]
    }

    /// The buckets in the order in which they are searched.
    fn buckets(self) -> impl Iterator<Item = usize> {
        (0..PAGE_BUCKETS).map(move |step| (self.bucket + step) % PAGE_BUCKETS)
    }
}

/// The places whose entries match, and whether the search came to an end.
#[derive(Debug)]
pub(super) struct Search<'a> {
    spot: Spot,
    page: &'a Page,
    /// Entries looked at.
    step: usize,
    /// Whether the bucket being looked at has room.
    room: bool,
    exhausted: bool,
}

impl<'a> Search<'a> {
    pub(super) fn new(page: &'a Page, spot: Spot) -> Self {
        Self {
            spot,
            page,
            step: 0,
            room: false,
            exhausted: false,
        }
    }

    /// The next place that may be the one; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Place> {
        let entries = self.page.as_chunks::<ENTRY_BYTES>().0;
        while self.step < PAGE_ENTRIES {
            if self.step.is_multiple_of(BUCKET_ENTRIES) && self.room {
                return None;
            }
            let index = (self.spot.bucket * BUCKET_ENTRIES + self.step) % PAGE_ENTRIES;
            self.step += 1;
            let entry = u64::from_le_bytes(entries[index]);
            self.room |= entry == 0;
            if entry != 0 && (entry ^ self.spot.fingerprint) >> FINGERPRINT_SHIFT == 0 {
                return Some(unpack(entry));
            }
        }
        self.exhausted = !self.room;
        None
    }

    /// After `next` returned `None`: whether the page is full, so that what was sought may have
    /// found no room.
    pub(super) fn page_is_full(&self) -> bool {
        self.exhausted
    }
}

fn pack(spot: Spot, place: Place) -> u64 {
    debug_assert!(usize::from(place.slot) < BLOCK_ENTITIES_MAX);
    let block = u64::from(place.block) + 1;
    spot.fingerprint | (u64::from(place.slot) << SLOT_SHIFT) | block
}

fn unpack(entry: u64) -> Place {
    let [b0, b1, b2, b3, s0, s1, ..] = entry.to_le_bytes();
    let slots = u16::MAX >> (u16::BITS - SLOT_BITS);
    Place {
        // An entry whose block field is zero was not written by us; no layer has the block that it
        // names.
        block: u32::from_le_bytes([b0, b1, b2, b3]).wrapping_sub(1),
        slot: u16::from_le_bytes([s0, s1]) & slots,
    }
}

/// Every place that a page names, for whoever checks the whole page.
pub(super) fn places(page: &Page) -> impl Iterator<Item = Place> {
    let entries = page.as_chunks::<ENTRY_BYTES>().0.iter();
    entries
        .map(|entry| u64::from_le_bytes(*entry))
        .filter(|&entry| entry != 0)
        .map(unpack)
}

/// Entries that are put into their places together, so that the cache misses of reaching those
/// overlap.
const WAITING_MAX: usize = 32;

/// An index being made: 12.8 bytes of memory per expected entity.
#[derive(Debug)]
pub(super) struct HashIndexBuilder {
    pages: usize,
    entries: Vec<u64>,
    /// In the order in which they came; at most [`WAITING_MAX`].
    waiting: Vec<(Spot, Place)>,
}

impl HashIndexBuilder {
    /// For at most so many entities; more find room until pages are full, and then cost a search by
    /// order.
    pub(super) fn new(expected: u64) -> Self {
        let expected = usize::try_from(expected).unwrap_or(usize::MAX);
        let pages = expected.div_ceil(PAGE_FILL).max(1);
        Self {
            pages,
            entries: vec![0; pages * PAGE_ENTRIES],
            waiting: Vec::with_capacity(WAITING_MAX),
        }
    }

    pub(super) fn insert(&mut self, hash: IdHash, place: Place) {
        self.waiting.push((Spot::of(hash, self.pages), place));
        if self.waiting.len() == WAITING_MAX {
            self.put_waiting();
        }
    }

    fn put_waiting(&mut self) {
        let buckets = self
            .waiting
            .iter()
            .map(|(spot, _)| self.entries[spot.page * PAGE_ENTRIES + spot.bucket * BUCKET_ENTRIES]);
        // Without a use of what was read, nothing would be.
        std::hint::black_box(buckets.fold(0, |seen, entry| seen ^ entry));
        let mut waiting = std::mem::take(&mut self.waiting);
        for (spot, place) in waiting.drain(..) {
            self.put(spot, place);
        }
        self.waiting = waiting;
    }

    fn put(&mut self, spot: Spot, place: Place) {
        let start = spot.page * PAGE_ENTRIES;
        let page = &mut self.entries[start..start + PAGE_ENTRIES];
        for bucket in spot.buckets() {
            let start = bucket * BUCKET_ENTRIES;
            let bucket = &mut page[start..start + BUCKET_ENTRIES];
            if let Some(free) = bucket.iter_mut().find(|entry| **entry == 0) {
                *free = pack(spot, place);
                return;
            }
        }
    }

    /// The bytes of each page in turn.
    pub(super) fn pages(&mut self) -> impl Iterator<Item = Page> {
        self.put_waiting();
        self.entries.chunks_exact(PAGE_ENTRIES).map(|entries| {
            let mut page = [0; PAGE_BYTES];
            let slots = page.as_chunks_mut::<ENTRY_BYTES>().0.iter_mut();
            for (slot, entry) in slots.zip(entries) {
                *slot = entry.to_le_bytes();
            }
            page
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(page: &Page, hash: IdHash) -> (Vec<Place>, bool) {
        let mut search = Search::new(page, Spot::of(hash, 1));
        let mut found = Vec::new();
        while let Some(place) = search.next() {
            found.push(place);
        }
        (found, search.page_is_full())
    }

    fn place(number: u32) -> Place {
        Place {
            block: number / 7,
            slot: u16::try_from(number % 1024).unwrap(),
        }
    }

    #[test]
    fn an_entry_has_these_bytes() {
        let hash = IdHash(0x8000_0000_0020_0001);
        let mut builder = HashIndexBuilder::new(1);
        builder.insert(hash, Place { block: 4, slot: 3 });
        let page = builder.pages().next().unwrap();
        let mut expected = [0; PAGE_BYTES];
        // The top bit of the hash chooses the middle of the page, bits 0 and 21 are the
        // fingerprint.
        expected[2048..2056].copy_from_slice(&[5, 0, 0, 0, 3, 4, 0, 0x80]);
        assert!(page == expected, "{:?}", &page[2048..2056]);
    }

    #[test]
    fn what_was_inserted_is_found_in_a_page_filled_to_the_last_entry() {
        let hash = |number: u64| IdHash(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for count in [0, 1, 320, 511, 512] {
            let mut builder = HashIndexBuilder::new(1);
            for number in 0..count {
                builder.insert(hash(number.into()), place(number));
            }
            let page = builder.pages().next().unwrap();
            for number in 0..count {
                let (found, _) = search(&page, hash(number.into()));
                assert!(found.contains(&place(number)), "{number} of {count}");
            }
            assert_eq!(places(&page).count(), usize::try_from(count).unwrap());
            let (found, full) = search(&page, IdHash(0x1234_5678_9abc_def0));
            assert_eq!((found.len(), full), (0, count == 512), "{count}");
        }
    }

    #[test]
    fn ids_with_the_same_hash_are_all_found_until_the_page_is_full() {
        let hash = IdHash(u64::MAX);
        let mut builder = HashIndexBuilder::new(1);
        for number in 0..600 {
            builder.insert(hash, place(number));
        }
        let (found, full) = search(&builder.pages().next().unwrap(), hash);
        assert_eq!(found, (0..512).map(place).collect::<Vec<_>>());
        assert!(full);
    }

    #[test]
    fn any_bytes_are_a_page() {
        let page = [0xFF; PAGE_BYTES];
        let (found, full) = search(&page, IdHash(u64::MAX));
        assert_eq!((found.len(), full), (512, true));
        assert_eq!(found[0].block, u32::MAX - 1);
    }
}
