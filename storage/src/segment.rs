//! One segment file: made whole before it has a name, checked when opened, appended to through its mapping.
//!
//! How it is zeroed decides what a flush costs. The page cache keeps what was written by one `pwrite` in one
//! folio, and a flush writes whole folios: after zeroing by 1 MiB writes each flush of a 256-byte record wrote
//! 1 MiB, after zeroing by single pages 4 KiB. `fallocate` would leave blocks that each first write has to
//! convert, through the file system's journal.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::{hash::BuildHasher, hash::RandomState};

use crate::files::{self, PAGE_BYTES, at};
use crate::format::header::{
    Activation, FORMAT_VERSION, HEADER_BYTES, HeaderFault, LogId, SegmentHeader,
};
use crate::format::record::{self, record_bytes};
use crate::format::slot::Owner;
use crate::format::{CrcSeed, Identity, Salt};
use crate::region::Region;
use crate::{Record, Sequence, StorageError, layout};

/// Zeros written between two flushes of a file in preparation, after each of which its maker may rest. A flush of a live
/// segment waits behind what is being written.
const ZERO_BYTES_PER_FLUSH: u64 = 256 * 1024;

/// The same where its maker is in a hurry: each flush has a cost of its own.
const ZERO_BYTES_PER_FLUSH_HURRIED: u64 = 4 * 1024 * 1024;

/// How its maker goes on after a part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// It rests between the parts, which are small.
    Rests,
    /// Nothing matters but that it is done.
    Hurries,
}

/// Called between the parts of the work, with the bytes that are made.
pub(crate) type Rest<'r> = dyn FnMut(u64) -> Haste + 'r;

impl Haste {
    const fn bytes_per_flush(self) -> u64 {
        match self {
            Self::Rests => ZERO_BYTES_PER_FLUSH,
            Self::Hurries => ZERO_BYTES_PER_FLUSH_HURRIED,
        }
    }
}

const _: () = assert!(size_of::<usize>() == size_of::<u64>());

/// A segment file that exists and whose header is known.
#[derive(Debug, Clone)]
pub(crate) struct SegmentEntry {
    pub(crate) path: Arc<Path>,
    pub(crate) header: SegmentHeader,
    /// The activation part, where it was whole when the header was read.
    pub(crate) activation: Option<Activation>,
}

/// What a new segment is to be.
#[derive(Debug, Clone)]
pub(crate) struct SegmentPlan {
    pub(crate) dir: Arc<Path>,
    pub(crate) owner: Owner,
    pub(crate) ordinal: u64,
    pub(crate) capacity: u64,
    pub(crate) first_sequence: Sequence,
    /// Bytes of the disk that must be left when it is made; 0 where it may be the last.
    pub(crate) leave_bytes: u64,
}

/// A mapped segment, active or about to be.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) entry: SegmentEntry,
    pub(crate) file: Arc<File>,
    region: Region,
    seed: CrcSeed,
    /// Offset of the next record, 8-byte aligned.
    end: usize,
}

impl SegmentPlan {
    /// Makes the file: whole and durable before it gets its name, which is durable when this returns. Blocks, and calls
    /// `rest` between the parts of its work.
    pub(crate) fn create(
        &self,
        activation: Option<Activation>,
        rest: &mut Rest<'_>,
    ) -> Result<(SegmentEntry, File), StorageError> {
        let path = self.dir.join(layout::segment_name(self.ordinal));
        let unfinished = layout::unfinished(&path);
        let made = self.write(&unfinished, activation, rest).and_then(|made| {
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
            },
            file,
        ))
    }

    /// Makes the file under another name than its own, durably, and calls `rest` between the parts of its work.
    pub(crate) fn write(
        &self,
        path: &Path,
        activation: Option<Activation>,
        rest: &mut Rest<'_>,
    ) -> Result<(SegmentHeader, File), StorageError> {
        let file = files::create(path)?;
        // Tried every second while a disk is full: writing until it refuses would wear it out, and take from
        // others the room that there is.
        files::expect_room(&file, path, self.capacity)?;
        if self.leave_bytes > 0 {
            let wanted = self.capacity.saturating_add(self.leave_bytes);
            files::expect_own_room(&file, path, wanted)?;
        }
        let zeros = [0; PAGE_BYTES];
        let mut flush_at = ZERO_BYTES_PER_FLUSH;
        for offset in (0..self.capacity).step_by(PAGE_BYTES) {
            if offset >= flush_at {
                files::sync_data(&file, path)?;
                flush_at = offset + rest(offset).bytes_per_flush();
            }
            files::write_at("write zeros to", (&file, path), &zeros, offset)?;
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
        if let Some(activation) = activation {
            activation.encode(&mut page, header.salt.seed());
        }
        files::write_at("write header of", (&file, path), &page, 0)?;
        files::sync_data(&file, path)?;
        Ok((header, file))
    }
}

/// The identity of a new log.
pub(crate) fn random_identity() -> Identity {
    Identity(random())
}

/// Unpredictable to whoever chooses payloads, and new every time; the hash keys come from the kernel.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

/// The file system's clock, so that this crate reads none.
fn created_micros(file: &File, path: &Path) -> Result<i64, StorageError> {
    let metadata = at("read time of", path, file.metadata())?;
    Ok(metadata
        .mtime()
        .saturating_mul(1_000_000)
        .saturating_add(metadata.mtime_nsec() / 1000))
}

impl SegmentEntry {
    /// Reads and checks the header of segment `ordinal` of a log.
    ///
    /// # Errors
    ///
    /// `ForeignFile`, `NewerVersion`, `WrongSize`, `WrongPlace`, `DamagedHeader`: what they say.
    pub(crate) fn read(dir: &Path, log: LogId, ordinal: u64) -> Result<Self, StorageError> {
        let path: Box<Path> = dir.join(layout::segment_name(ordinal)).into();
        let file = files::open_read(&path)?;
        files::read_single_pages(&file);
        let found = at("read size of", &path, file.metadata())?.len();
        if found < HEADER_BYTES as u64 {
            return Err(StorageError::WrongSize {
                path,
                expected: HEADER_BYTES as u64,
                found,
            });
        }
        let mut page = [0; HEADER_BYTES];
        at("read header of", &path, file.read_exact_at(&mut page, 0))?;
        let header = match SegmentHeader::decode(&page) {
            Ok(header) => header,
            Err(HeaderFault::Foreign) => return Err(StorageError::ForeignFile { path }),
            Err(HeaderFault::Damaged) => return Err(StorageError::DamagedHeader { path }),
            Err(HeaderFault::Newer(found)) => {
                return Err(StorageError::NewerVersion {
                    path,
                    found,
                    known: FORMAT_VERSION,
                });
            }
        };
        if let Some(field) = misplaced(&header, log, ordinal) {
            return Err(StorageError::WrongPlace { path, field });
        }
        if found != header.capacity {
            return Err(StorageError::WrongSize {
                path,
                expected: header.capacity,
                found,
            });
        }
        Ok(Self {
            path: path.into(),
            header,
            activation: Activation::decode(&page, header.salt.seed()),
        })
    }
}

fn misplaced(header: &SegmentHeader, log: LogId, ordinal: u64) -> Option<&'static str> {
    let fields = [
        ("generation", header.log.generation == log.generation),
        ("shard", header.log.shard == log.shard),
        ("shard count", header.log.shard_count == log.shard_count),
        ("ordinal", header.ordinal == ordinal),
    ];
    fields
        .into_iter()
        .find(|(_, same)| !same)
        .map(|(field, _)| field)
}

impl Segment {
    /// Maps a segment for appending at `end`. Blocks while it is read.
    pub(crate) fn map(entry: SegmentEntry, file: File, end: usize) -> Result<Self, StorageError> {
        let region = at("map", &entry.path, Region::map(&file))?;
        region.populate();
        let seed = entry.header.salt.seed();
        let segment = Self {
            entry,
            file: Arc::new(file),
            region,
            seed,
            end,
        };
        assert!(segment.capacity() as u64 == segment.entry.header.capacity);
        assert!(end >= HEADER_BYTES && end <= segment.capacity());
        Ok(segment)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.region.bytes().len()
    }

    /// Offset of the next record.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Bytes of the largest record that can still be appended.
    pub(crate) fn room(&self) -> usize {
        self.capacity() - self.end
    }

    /// Bytes of the largest record that an empty segment like this holds.
    pub(crate) fn room_when_empty(&self) -> usize {
        self.capacity() - HEADER_BYTES
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.region.bytes()
    }

    pub(crate) fn seed(&self) -> CrcSeed {
        self.seed
    }

    /// The activation part, where it is whole.
    pub(crate) fn activation(&self) -> Option<Activation> {
        Activation::decode(self.bytes(), self.seed)
    }

    /// Stores the activation part; the first flush makes it durable along with the first records.
    pub(crate) fn activate(&mut self, activation: Activation) {
        activation.encode(self.region.bytes_mut(), self.seed);
    }

    /// Copies a record into the mapping.
    ///
    /// # Panics
    ///
    /// Where it does not fit: the log asks [`Segment::room`] first.
    pub(crate) fn append(&mut self, record: Record<'_>, durable: Sequence) {
        let end = self.end + record_bytes(record.payload.len());
        assert!(end <= self.capacity());
        record::encode(
            &mut self.region.bytes_mut()[self.end..end],
            self.seed,
            record,
            durable,
        );
        self.end = end;
    }

    /// Gives up everything but the mapping, which costs time to take down.
    pub(crate) fn into_region(self) -> Region {
        self.region
    }
}
