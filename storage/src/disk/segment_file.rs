//! A segment file as it is found: its path and its checked header, and its bytes mapped for
//! reading.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::files::{self, at};
use super::layout;
use super::region::ReadRegion;
use crate::StorageError;
use crate::format::header::{
    Activation, FORMAT_VERSION, HEADER_BYTES, HeaderFault, LogId, SegmentHeader,
};
use crate::format::world::{self, World};

/// A segment file that exists and whose header is known.
#[derive(Debug, Clone)]
pub(crate) struct SegmentEntry {
    pub(crate) path: Arc<Path>,
    pub(crate) header: SegmentHeader,
    /// The activation part, if it was whole when the header was read.
    pub(crate) activation: Option<Activation>,
    /// The times of its records, once somebody has asked for them after it was closed.
    pub(crate) times: Arc<OnceLock<TimeRange>>,
}

/// The times of all records of a segment lie in this, Unix microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeRange {
    pub(crate) earliest_micros: i64,
    pub(crate) latest_micros: i64,
}

impl TimeRange {
    /// Of no record.
    pub(crate) const EMPTY: Self = Self {
        earliest_micros: i64::MAX,
        latest_micros: i64::MIN,
    };

    /// Widens it to a time.
    pub(crate) fn add(&mut self, time_micros: i64) {
        self.earliest_micros = self.earliest_micros.min(time_micros);
        self.latest_micros = self.latest_micros.max(time_micros);
    }
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
            times: Arc::default(),
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

/// The world that a segment file names; `None` if it names none, or its header is damaged. Blocks.
pub(crate) fn stated_world(path: &Path) -> Result<Option<World>, StorageError> {
    let file = files::open_read(path)?;
    files::read_single_pages(&file);
    let mut page = [0; HEADER_BYTES];
    match file.read_exact_at(&mut page, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => at("read header of", path, read)?,
    }
    let header = SegmentHeader::decode(&page).ok();
    Ok(header.and_then(|header| world::decode_in_segment(&page, header.identity)))
}

/// Maps a segment that nobody writes to.
pub(crate) fn map(entry: &SegmentEntry) -> Result<ReadRegion, StorageError> {
    let file = files::open_read(&entry.path)?;
    at("map", &entry.path, ReadRegion::map(&file))
}
