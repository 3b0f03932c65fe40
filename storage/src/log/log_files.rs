//! The files of one log as they are found: names and headers checked, records not read.
//!
//! ```text
//! HORIZON: first ordinal 4        00000003.seg   before the log: a crash interrupted its removal
//!                                 00000004.seg ┐
//!                                 00000005.seg │ the log, without gaps
//!                                 00000006.seg ┘
//! ```
//!
//! A log begins with segment 1, unless a valid `HORIZON` says that retention removed it. A log that
//! lacks its first segments without a valid `HORIZON` is refused: retention could not be told from
//! loss.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::path::Path;
use std::sync::Arc;

use super::log_start_file::{LogStartFile, read_log_start};
use crate::disk::layout;
use crate::disk::segment_file::{SegmentEntry, map};
use crate::format::header::{HEADER_BYTES, LogId};
use crate::format::log_start::LogStart;
use crate::format::record::decode;
use crate::format::slot::Owner;
use crate::{Sequence, StorageError};

/// A log's segments, headers checked.
#[derive(Debug)]
pub(crate) struct LogFiles {
    pub(crate) dir: Arc<Path>,
    pub(crate) owner: Owner,
    /// The first sequence that the log ever had: what new segments repeat.
    pub(crate) first_sequence: Sequence,
    /// What retention removed, if anything.
    pub(crate) removed: Option<LogStart>,
    /// By ascending ordinal, without gaps. Empty only in a log of an older generation of which
    /// retention removed everything.
    pub(crate) segments: Vec<SegmentEntry>,
    /// Whether segments lie below what retention kept: a crash interrupted their removal.
    pub(crate) has_leftovers: bool,
}

/// A segment that is not appended to any more.
#[derive(Debug, Clone)]
pub(crate) struct SealedSegment {
    pub(crate) entry: SegmentEntry,
    /// The sequence of its first record.
    pub(crate) base: Sequence,
}

impl LogFiles {
    /// Lists the segments and checks the header of each that belongs to the log. Blocks.
    ///
    /// # Errors
    ///
    /// `Missing`, `NoLogStart`, or what [`SegmentEntry::read`] finds wrong.
    pub(crate) fn list(dir: &Arc<Path>, log: LogId) -> Result<Self, StorageError> {
        let ordinals = layout::segment_ordinals(dir)?;
        let fault = match read_log_start(dir)? {
            LogStartFile::Absent => "is missing",
            LogStartFile::Damaged => "is damaged",
            LogStartFile::Valid(owner, log_start) => {
                let first_kept = ordinals.partition_point(|&it| it < log_start.first_ordinal);
                let (below, kept) = ordinals.split_at(first_kept);
                let witness = kept.iter().chain(below).next();
                if owner.log == log && is_of(dir, owner, witness.copied())? {
                    return Self::beyond(dir, (owner, log_start), kept, !below.is_empty());
                }
                "is another log's"
            }
        };
        // A HORIZON that says nothing is no loss if nothing was removed.
        if ordinals.first() != Some(&1) {
            return Err(StorageError::NoLogStart {
                path: dir.join(layout::segment_name(1)).into(),
                fault,
            });
        }
        layout::check_contiguous(dir, &ordinals, 1)?;
        Self::read(dir, log, &ordinals)
    }

    /// The log that begins where `horizon` says.
    fn beyond(
        dir: &Arc<Path>,
        (owner, log_start): (Owner, LogStart),
        ordinals: &[u64],
        has_leftovers: bool,
    ) -> Result<Self, StorageError> {
        layout::check_contiguous(dir, ordinals, log_start.first_ordinal)?;
        let files = if ordinals.is_empty() {
            Self {
                dir: Arc::clone(dir),
                owner,
                first_sequence: log_start.first_sequence,
                removed: None,
                segments: Vec::new(),
                has_leftovers,
            }
        } else {
            Self::read(dir, owner.log, ordinals)?
        };
        Ok(Self {
            removed: Some(log_start),
            has_leftovers,
            ..files
        })
    }

    /// Reads the headers of segments of which there is at least one.
    fn read(dir: &Arc<Path>, log: LogId, ordinals: &[u64]) -> Result<Self, StorageError> {
        let mut segments: Vec<SegmentEntry> = Vec::with_capacity(ordinals.len());
        for &ordinal in ordinals {
            let entry = SegmentEntry::read(dir, log, ordinal)?;
            let first = segments.first().unwrap_or(&entry);
            if let Some(field) = differs(&entry, first) {
                let path = entry.path.as_ref().into();
                return Err(StorageError::WrongPlace { path, field });
            }
            segments.push(entry);
        }
        let first = segments.first().expect("the caller found a segment");
        Ok(Self {
            dir: Arc::clone(dir),
            owner: Owner {
                log,
                identity: first.header.identity,
            },
            first_sequence: first.header.first_sequence,
            removed: None,
            segments,
            has_leftovers: false,
        })
    }

    /// The sequence of the first record that is still there, or that would be.
    pub(crate) fn first_kept(&self) -> Sequence {
        self.removed
            .map_or(self.first_sequence, |log_start| log_start.first_sequence)
    }

    /// The first sequences of the segments up to the one that holds `from`: from their headers, or
    /// from their first records if an activation was torn.
    ///
    /// If neither says it, the segments from the one before on have to be walked, and these are the
    /// bases up to that one. The same goes for a last segment that was activated but lost its first
    /// record.
    pub(crate) fn bases_through(&self, from: Sequence) -> Result<Vec<Sequence>, StorageError> {
        let mut last = self.first_kept();
        let mut bases = Vec::new();
        for (index, entry) in self.segments.iter().enumerate() {
            if index > 0 {
                let activated = entry.activation.map(|activation| activation.base);
                let base = activated.map_or_else(|| first_record(entry), |base| Ok(Some(base)));
                match base? {
                    Some(base) if last <= base && base <= from => last = base,
                    _ => break,
                }
            }
            bases.push(last);
        }
        while bases.len() > 1
            && let Some(entry) = self.segments.get(bases.len().saturating_sub(1))
            && first_record(entry)?.as_ref() != bases.last()
        {
            bases.pop();
        }
        Ok(bases)
    }

    /// Removes what a crash left below the first segment that retention kept.
    pub(crate) fn remove_leftovers(&self) -> Result<(), StorageError> {
        match self.removed {
            Some(log_start) if self.has_leftovers => {
                layout::remove_before(&self.dir, log_start.first_ordinal).map(|_| ())
            }
            _ => Ok(()),
        }
    }
}

/// The sequence of a segment's first record, if it has one.
fn first_record(entry: &SegmentEntry) -> Result<Option<Sequence>, StorageError> {
    let region = map(entry)?;
    let records = region.bytes().get(HEADER_BYTES..).unwrap_or_default();
    let first = decode(records, entry.header.salt.seed());
    Ok(first.and_then(|stored| stored.record.first()))
}

/// The header field that tells two segments of one place apart.
fn differs(entry: &SegmentEntry, first: &SegmentEntry) -> Option<&'static str> {
    if entry.header.identity != first.header.identity {
        Some("identity")
    } else if entry.header.first_sequence != first.header.first_sequence {
        Some("first sequence")
    } else {
        None
    }
}

/// False if the segment `witness` is of another log than `owner`. One that cannot tell is no
/// objection here: whoever reads it finds what is wrong with it.
fn is_of(dir: &Path, owner: Owner, witness: Option<u64>) -> Result<bool, StorageError> {
    let Some(ordinal) = witness else {
        return Ok(true);
    };
    match SegmentEntry::read(dir, owner.log, ordinal) {
        Ok(entry) => Ok(entry.header.identity == owner.identity),
        Err(error @ StorageError::Io { .. }) => Err(error),
        Err(_) => Ok(true),
    }
}
