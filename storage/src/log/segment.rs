//! One segment file: made whole before it has a name, checked when opened, appended to by writes.
//!
//! ```text
//! │ header │ records in the page cache      │ pending │ zeros                     │
//! 0        4096                       written        end                  capacity
//!                                     ╰─ write_out ──╯
//! ```
//!
//! Records are buffered in memory and written by one `pwrite`, with which a flush begins. Storing
//! them into a mapping saves that system call and costs more. Before the kernel writes a dirty page
//! to the disk, it write-protects the page in every mapping, which interrupts each processor that
//! this process runs on. The first store into each page is a page fault besides. Measured with two
//! processors, for a flush of 230 KB:
//!
//! | | flush | processor time |
//! | --- | --- | --- |
//! | stored into a mapping | 1,240 µs | 1,000 µs |
//! | written | 270 µs | 50 µs |
//!
//! How a segment is zeroed decides what a flush costs, too. The page cache keeps what one `pwrite`
//! wrote in one folio. Small folios cost processor time: 4 to 9 µs a page by writes of 4 KiB, 2 to
//! 3 µs by 16 KiB. For a record of 256 bytes in a large folio, some file systems write the whole
//! folio. `fallocate` would leave blocks that the first write of each has to convert, through the
//! file system's journal.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crate::disk::files::{self, at};
use crate::disk::layout;
use crate::disk::random::random;
use crate::disk::region::{ReadRegion, Region};
use crate::disk::segment_file::SegmentEntry;
use crate::format::header::{Activation, HEADER_BYTES, SegmentHeader};
use crate::format::record;
use crate::format::slot::Owner;
use crate::format::world::{self, World};
use crate::format::{CrcSeed, Salt};
use crate::{Record, Sequence, StorageError};

/// Bytes of one write of zeros, and about what a flush of a small record writes at most, whatever
/// the file system.
const ZERO_BYTES_PER_WRITE: usize = 16 * 1024;

/// Bytes of records that wait to be written. From here on an append writes them first.
const PENDING_BYTES_MAX: usize = 128 * 1024;

/// Room for them and a usual record: they are gathered without an allocation.
pub(crate) const BUFFER_BYTES: usize = 2 * PENDING_BYTES_MAX;

/// Zeros written between two flushes of a file in preparation, after each of which its maker may
/// pause. A flush of a live segment waits behind what is being written.
const ZERO_BYTES_PER_FLUSH: u64 = 256 * 1024;

/// The same where its maker is in a hurry: each flush has a cost of its own.
const ZERO_BYTES_PER_FLUSH_FULL_SPEED: u64 = 4 * 1024 * 1024;

/// How its maker goes on after a part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteSpeed {
    /// It pauses between the parts, which are small.
    Throttled,
    /// Nothing matters but that it is done.
    Full,
}

/// Called between the parts of the work, with the bytes that are made.
pub(crate) type WriteThrottle<'r> = dyn FnMut(u64) -> WriteSpeed + 'r;

impl WriteSpeed {
    const fn bytes_per_flush(self) -> u64 {
        match self {
            Self::Throttled => ZERO_BYTES_PER_FLUSH,
            Self::Full => ZERO_BYTES_PER_FLUSH_FULL_SPEED,
        }
    }
}

const _: () = assert!(size_of::<usize>() == size_of::<u64>());

/// What a new segment is to be.
#[derive(Debug, Clone)]
pub(crate) struct SegmentPlan {
    pub(crate) dir: Arc<Path>,
    pub(crate) owner: Owner,
    /// The world that the segment names.
    pub(crate) world: World,
    pub(crate) ordinal: u64,
    pub(crate) capacity: u64,
    pub(crate) first_sequence: Sequence,
    /// Bytes of the disk that must be left when it is made; 0 if it may be the last.
    pub(crate) leave_bytes: u64,
}

/// A segment that is active or about to be.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) entry: SegmentEntry,
    pub(crate) file: Arc<File>,
    seed: CrcSeed,
    capacity: usize,
    /// Offset after the last record that was written, 8-byte aligned.
    written: usize,
    /// The records after it.
    pending: Vec<u8>,
    /// The activation part, if it is to be written along with them.
    activation_pending: Option<Activation>,
}

impl SegmentPlan {
    /// Makes the file: whole and durable before it gets its name, which is durable when this
    /// returns. Blocks, and calls `rest` between the parts of its work.
    pub(crate) fn create(
        &self,
        activation: Option<Activation>,
        throttle: &mut WriteThrottle<'_>,
    ) -> Result<(SegmentEntry, File), StorageError> {
        let path = self.dir.join(layout::segment_name(self.ordinal));
        let unfinished = layout::unfinished(&path);
        let made = self
            .write(&unfinished, activation, throttle)
            .and_then(|made| {
                files::rename(&unfinished, &path, &self.dir)?;
                Ok(made)
            });
        if made.is_err() {
            files::discard(&unfinished);
        }
        let (header, file) = made?;
        Ok((
            SegmentEntry {
                path: path.into(),
                header,
                activation,
                times: Arc::default(),
            },
            file,
        ))
    }

    /// Makes the file under another name than its own, durably, and calls `rest` between the parts
    /// of its work.
    pub(crate) fn write(
        &self,
        path: &Path,
        activation: Option<Activation>,
        throttle: &mut WriteThrottle<'_>,
    ) -> Result<(SegmentHeader, File), StorageError> {
        let file = files::create(path)?;
        // Tried every second while a disk is full: writing until it refuses would wear it out, and
        // take from others the room that there is.
        files::expect_room(&file, path, self.capacity)?;
        if self.leave_bytes > 0 {
            let wanted = self.capacity.saturating_add(self.leave_bytes);
            files::expect_own_room(&file, path, wanted)?;
        }
        let zeros = vec![0; ZERO_BYTES_PER_WRITE];
        let mut flush_at = ZERO_BYTES_PER_FLUSH;
        for offset in (0..self.capacity).step_by(ZERO_BYTES_PER_WRITE) {
            if offset >= flush_at {
                files::sync_data(&file, path)?;
                flush_at = offset + throttle(offset).bytes_per_flush();
            }
            let left = usize::try_from(self.capacity - offset).unwrap_or(usize::MAX);
            let part = &zeros[..left.min(ZERO_BYTES_PER_WRITE)];
            files::write_at("write zeros to", (&file, path), part, offset)?;
        }
        let header = SegmentHeader {
            log: self.owner.log,
            ordinal: self.ordinal,
            capacity: self.capacity,
            salt: Salt(random()),
            created_micros: created_micros(&file, path)?,
            first_sequence: self.first_sequence,
            identity: self.owner.identity,
        };
        let mut page = [0; HEADER_BYTES];
        header.encode(&mut page);
        world::encode_in_segment(self.world, header.identity, &mut page);
        if let Some(activation) = activation {
            activation.encode(&mut page, header.salt.seed());
        }
        files::write_at("write header of", (&file, path), &page, 0)?;
        files::sync_data(&file, path)?;
        Ok((header, file))
    }
}

/// The file system's clock, so that this crate reads none.
fn created_micros(file: &File, path: &Path) -> Result<i64, StorageError> {
    let metadata = at("read time of", path, file.metadata())?;
    Ok(metadata
        .mtime()
        .saturating_mul(1_000_000)
        .saturating_add(metadata.mtime_nsec() / 1000))
}

impl Segment {
    /// A segment to be appended to at `end`, whose file is open for reading and writing. Its pages
    /// had better be in the page cache, or an append waits for the disk.
    pub(crate) fn new(entry: SegmentEntry, file: File, end: usize) -> Self {
        let seed = entry.header.salt.seed();
        let capacity =
            usize::try_from(entry.header.capacity).expect("a segment fits the address space");
        assert!(end >= HEADER_BYTES && end <= capacity);
        Self {
            activation_pending: None,
            entry,
            file: Arc::new(file),
            seed,
            capacity,
            written: end,
            pending: Vec::new(),
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Offset of the next record.
    pub(crate) fn end(&self) -> usize {
        self.written + self.pending.len()
    }

    /// Offset after the last record that is in the file.
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// Bytes of the largest record that can still be appended.
    pub(crate) fn room(&self) -> usize {
        self.capacity - self.end()
    }

    /// Bytes of the largest record that an empty segment like this holds.
    pub(crate) fn room_when_empty(&self) -> usize {
        self.capacity - HEADER_BYTES
    }

    /// The records that were written, and the header before them. Blocks while they are read.
    pub(crate) fn map_written(&self) -> Result<ReadRegion, StorageError> {
        let mapped = ReadRegion::map_prefix(&self.file, self.written);
        at("map", &self.entry.path, mapped)
    }

    pub(crate) fn seed(&self) -> CrcSeed {
        self.seed
    }

    /// Gathers records in this buffer, which is empty.
    pub(crate) fn gather_in(&mut self, buffer: Vec<u8>) {
        assert!(self.pending.is_empty() && buffer.is_empty());
        self.pending = buffer;
    }

    /// The buffer that records were gathered in, empty.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        assert!(self.pending.is_empty(), "what waits is written first");
        self.pending
    }

    /// Forgets the records from an offset on, which the file does not hold any more.
    pub(crate) fn cut(&mut self, end: usize) {
        assert!(self.pending.is_empty() && end <= self.written);
        self.written = end;
    }

    /// Stores the activation part along with the next records; their flush makes it durable.
    pub(crate) fn activate(&mut self, activation: Activation) {
        self.activation_pending = Some(activation);
    }

    /// Whether so many records wait to be written that they are to be before another joins them.
    pub(crate) fn is_full_of_pending(&self) -> bool {
        self.pending.len() >= PENDING_BYTES_MAX
    }

    /// Adds a record to the buffer of pending records.
    ///
    /// # Panics
    ///
    /// If it does not fit: the log asks [`Segment::room`] first.
    pub(crate) fn append(&mut self, record: Record<'_>, durable: Sequence) {
        assert!(record::bytes_of(&record) <= self.room());
        record::append(&mut self.pending, self.seed, record, durable);
    }

    fn write(&self, op: &'static str, bytes: &[u8], offset: usize) -> Result<(), StorageError> {
        let file = (&*self.file, &*self.entry.path);
        match files::write_at(op, file, bytes, offset as u64) {
            // A limit on the size of files is meant for what grows. The kernel applies it to what
            // the file has as well, unless that is stored through a mapping.
            Err(StorageError::OutOfSpace { source, .. })
                if source.kind() == io::ErrorKind::FileTooLarge =>
            {
                let mut region = at("map", file.1, Region::map(file.0))?;
                region.bytes_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
            written => written,
        }
    }

    /// Writes what waits for it. After an error nobody knows how much of it is in the file.
    pub(crate) fn write_out(&mut self) -> Result<(), StorageError> {
        if let Some(activation) = self.activation_pending {
            let (offset, part) = activation.encoded(self.seed);
            self.write("activate", &part, offset)?;
            self.activation_pending = None;
        }
        self.write("append to", &self.pending, self.written)?;
        self.written += self.pending.len();
        self.pending.clear();
        // A record of megabytes is rare.
        self.pending.shrink_to(BUFFER_BYTES);
        Ok(())
    }
}
