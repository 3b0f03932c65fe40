//! The range of the times of a closed segment's records.
//!
//! The server's clock may be set back, and every namespace keeps its own times from falling, so the
//! times of a log fall now and then. Neither a segment's first nor its last record bounds them.

use crate::StorageError;
use crate::disk::segment_file::{SegmentEntry, TimeRange, map};
use crate::format::header::HEADER_BYTES;
use crate::format::walk::{Position, walk_segment};
use crate::sequence::Span;

use super::IndexFile;

/// The times of a closed segment with these records: from its index, or if there is none from the
/// segment. Found once for all copies of `entry`. Blocks.
///
/// # Errors
///
/// `DamagedRecord` if the segment had to be read and a record is missing; `Io`.
pub(crate) fn time_range(entry: &SegmentEntry, span: Span) -> Result<TimeRange, StorageError> {
    if span.is_empty() {
        return Ok(TimeRange::EMPTY);
    }
    if let Some(known) = entry.times.get() {
        return Ok(*known);
    }
    let found = match IndexFile::times_of(entry, span) {
        Some(found) => found,
        None => read(entry, span)?,
    };
    Ok(*entry.times.get_or_init(|| found))
}

fn read(entry: &SegmentEntry, span: Span) -> Result<TimeRange, StorageError> {
    let region = map(entry)?;
    let start = Position {
        offset: HEADER_BYTES,
        next: span.base,
    };
    let mut found = TimeRange::EMPTY;
    let seed = entry.header.salt.seed();
    let walked = walk_segment(region.bytes(), seed, start, &mut |record| {
        found.add(record.time_micros);
        Ok::<(), std::convert::Infallible>(())
    });
    let Ok(end) = walked;
    if end.next < span.next {
        return Err(StorageError::DamagedRecord {
            path: entry.path.as_ref().into(),
            offset: end.offset as u64,
            sequence: end.next,
            durable: span.next.previous(),
        });
    }
    Ok(found)
}
