//! The index of a closed segment on disk: written once, read by blocks.
//!
//! Read with `pread` and not through a mapping: the file is a cache, and a look-up must survive
//! whatever happens to it; a mapping of a file that is cut short ends the process.

use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::MergedRuns;
use super::{IndexBuilder, IndexKey, IndexedSegment, Mismatch};
use crate::StorageError;
use crate::disk::files;
use crate::disk::layout;
use crate::disk::segment_file::{SegmentEntry, TimeRange};
use crate::format::CrcSeed;
use crate::format::header::SegmentHeader;
use crate::format::index::{
    BLOCK_ENTRIES, ENTRY_BYTES, Entry, INDEX_HEAD_BYTES, IndexHead, Place, ROW_BYTES, Row,
    block_crc,
};
use crate::sequence::Span;

const BLOCK_BYTES: usize = BLOCK_ENTRIES * ENTRY_BYTES;
/// Blocks read at once where a range of keys spans many: 192 KiB.
const BLOCKS_PER_READ: usize = 64;

/// Blocks written at once: a fraction of a millisecond of merging.
const BLOCKS_PER_WRITE: usize = 16;

/// Makes the names of files in preparation differ: a job and a reader may write the same index at
/// the same time.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// An index file whose head and table check out.
#[derive(Debug)]
pub(crate) struct IndexFile {
    file: File,
    seed: CrcSeed,
    span: Span,
    count: usize,
    rows: Vec<Row>,
    latest_micros: i64,
}

impl IndexFile {
    /// Opens a segment's index; `None` if it is missing, damaged, of another segment or of other
    /// keys.
    pub(crate) fn open(segment: &SegmentEntry, key: IndexKey) -> Option<Self> {
        Self::open_of(&segment.path, &segment.header, |scheme| {
            scheme == key.scheme
        })
    }

    /// The range of the times of a segment's records, which an index by whatever keys knows.
    pub(crate) fn times_of(segment: &SegmentEntry, span: Span) -> Option<TimeRange> {
        let file = Self::open_of(&segment.path, &segment.header, |_| true)?;
        (file.span == span).then(|| file.times())
    }

    /// Whether a segment's index, by whatever keys, is whole and covers just these sequences. Reads
    /// all of it.
    pub(crate) fn is_whole(segment: &Path, header: &SegmentHeader, span: Span) -> bool {
        Self::open_of(segment, header, |_| true).is_some_and(|file| {
            let found = file.gather(&(0..=u64::MAX), Place::END);
            file.span == span && found.is_ok_and(|places| places.len() == file.count)
        })
    }

    fn open_of(
        segment: &Path,
        header: &SegmentHeader,
        is_wanted: impl Fn(u32) -> bool,
    ) -> Option<Self> {
        let file = files::open_file(&layout::index_path(segment)).ok()?;
        let mut head_bytes = [0; INDEX_HEAD_BYTES];
        file.read_exact_at(&mut head_bytes, 0).ok()?;
        let head = IndexHead::decode(&head_bytes)?;
        let is_ours = is_wanted(head.scheme)
            && head.identity == header.identity
            && head.salt == header.salt
            && head.ordinal == header.ordinal;
        let (row_count, bytes) = head.sizes()?;
        // Before anything is allocated: a table is at most as large as the file.
        if !is_ours || file.metadata().ok()?.len() != bytes {
            return None;
        }
        let mut table = vec![0; row_count * ROW_BYTES];
        file.read_exact_at(&mut table, INDEX_HEAD_BYTES as u64)
            .ok()?;
        if !head.checks_out(&head_bytes, &table) {
            return None;
        }
        Some(Self {
            file,
            seed: header.salt.seed(),
            span: Span {
                base: head.base,
                next: head.next,
            },
            count: usize::try_from(head.count).ok()?,
            rows: Row::decode_all(&table),
            latest_micros: head.latest_micros,
        })
    }

    /// The sequences that it covers.
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    pub(crate) fn mark_count(&self) -> usize {
        self.rows.len()
    }

    /// The place of record number `index` times [`BLOCK_ENTRIES`].
    pub(crate) fn mark(&self, index: usize) -> Place {
        self.rows.get(index).map_or(Place::END, |row| row.mark)
    }

    /// The earliest time of the records from number `block` times [`BLOCK_ENTRIES`] on.
    pub(crate) fn earliest_micros(&self, block: usize) -> i64 {
        self.rows
            .get(block)
            .map_or(i64::MAX, |row| row.earliest_micros)
    }

    /// The times of all records lie in this.
    pub(crate) fn times(&self) -> TimeRange {
        let earliest = self.rows.iter().map(|row| row.earliest_micros);
        earliest
            .min()
            .map_or(TimeRange::EMPTY, |earliest_micros| TimeRange {
                earliest_micros,
                latest_micros: self.latest_micros,
            })
    }

    /// The places before `below` of the records whose key is in `keys`, in no order. Reads the
    /// blocks that may hold such keys; takes four bytes of memory for each record found.
    pub(crate) fn gather(
        &self,
        keys: &RangeInclusive<u64>,
        below: Place,
    ) -> Result<Vec<Place>, Mismatch> {
        let mut found = Vec::new();
        // The block before the first that begins within the range may end with it.
        let first = self
            .rows
            .partition_point(|row| row.first_key < *keys.start())
            .saturating_sub(1);
        let end = self
            .rows
            .partition_point(|row| row.first_key <= *keys.end());
        let rows = self.rows.get(first..end).unwrap_or_default();
        let mut scratch = Vec::new();
        for (index, run) in rows.chunks(BLOCKS_PER_READ).enumerate() {
            let block = first + index * BLOCKS_PER_READ;
            self.read_blocks(block, run.len(), &mut scratch)?;
            for (bytes, row) in scratch.chunks(BLOCK_BYTES).zip(run) {
                if block_crc(self.seed, bytes) != row.crc {
                    return Err(Mismatch);
                }
                let entries = Entry::decode_all(bytes)
                    .filter(|entry| keys.contains(&entry.key) && entry.place < below);
                found.extend(entries.map(|entry| entry.place));
            }
        }
        Ok(found)
    }

    fn read_blocks(
        &self,
        first: usize,
        count: usize,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Mismatch> {
        let start = first * BLOCK_ENTRIES;
        let end = self.count.min(start + count * BLOCK_ENTRIES);
        scratch.resize(end.saturating_sub(start) * ENTRY_BYTES, 0);
        let offset = INDEX_HEAD_BYTES + self.rows.len() * ROW_BYTES + start * ENTRY_BYTES;
        let read = self.file.read_exact_at(scratch, offset as u64);
        read.map_err(|_unreadable| Mismatch)
    }
}

/// Writes the index of a segment whose records are these: whole under another name, then renamed
/// over what was there. Not flushed: a crash may leave anything, and the checksums tell. Calls
/// `rest` after each fraction of a millisecond of work.
pub(crate) fn write(
    segment: &IndexedSegment<'_>,
    builder: &IndexBuilder,
    key: IndexKey,
    throttle: &mut dyn FnMut(),
) -> Result<(), StorageError> {
    let path = layout::index_path(&segment.entry.path);
    let unfinished = layout::unfinished_index(&path, WRITES.fetch_add(1, Ordering::Relaxed));
    let written = write_as(&unfinished, (segment, builder, key), throttle)
        .and_then(|()| files::rename_undurably(&unfinished, &path));
    if written.is_err() {
        files::discard(&unfinished);
    }
    written
}

/// Runs of the notes are sorted and then merged, so that both can be done bit by bit.
fn write_as(
    path: &Path,
    (segment, builder, key): (&IndexedSegment<'_>, &IndexBuilder, IndexKey),
    throttle: &mut dyn FnMut(),
) -> Result<(), StorageError> {
    let header = &segment.entry.header;
    let seed = header.salt.seed();
    let runs = builder.runs().map(|run| {
        let mut run: Vec<Entry> = run.collect();
        run.sort_unstable();
        throttle();
        run.into_iter()
    });
    let mut entries = MergedRuns::new(runs.collect());
    let file = files::create(path)?;
    let rows = builder.len().div_ceil(BLOCK_ENTRIES);
    let mut offset = INDEX_HEAD_BYTES + rows * ROW_BYTES;
    let mut table = Vec::with_capacity(rows * ROW_BYTES);
    let mut blocks = Vec::with_capacity(BLOCKS_PER_WRITE * BLOCK_BYTES);
    for row in 0..rows {
        let start = blocks.len();
        for entry in entries.by_ref().take(BLOCK_ENTRIES) {
            blocks.extend_from_slice(&entry.encode());
        }
        let block = blocks.get(start..).unwrap_or_default();
        let row = Row {
            first_key: Entry::decode_all(block).next().map_or(0, |first| first.key),
            crc: block_crc(seed, block),
            mark: builder.place(row * BLOCK_ENTRIES),
            earliest_micros: builder.earliest_micros(row),
        };
        table.extend(row.encode());
        if blocks.len() >= BLOCKS_PER_WRITE * BLOCK_BYTES {
            files::write_at("write", (&file, path), &blocks, offset as u64)?;
            offset += blocks.len();
            blocks.clear();
            throttle();
        }
    }
    files::write_at("write", (&file, path), &blocks, offset as u64)?;
    let head = IndexHead {
        scheme: key.scheme,
        identity: header.identity,
        salt: header.salt,
        ordinal: header.ordinal,
        base: segment.span.base,
        next: segment.span.next,
        count: builder.len() as u64,
        latest_micros: builder.times().latest_micros,
    };
    let beginning = [head.encode(&table).as_slice(), &table].concat();
    files::write_at("write", (&file, path), &beginning, 0)
}
