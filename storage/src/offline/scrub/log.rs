//! What a scrub of one log finds: by segment, in all, and as it is shown to a visitor while it goes
//! on.

use std::ops::ControlFlow;
use std::path::Path;

use super::content::Run;
use super::finding::ScrubFinding;
use super::listing::{Listing, Usage};
use crate::format::CrcSeed;
use crate::format::gap::Gap;
use crate::{Record, Sequence};

/// What a segment holds, or should hold after a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// Records as they lie in the file.
    Run(Run),
    /// Records that are gone.
    Gap(Gap),
}

/// What is to become of a segment's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it is.
    Keep,
    /// Made anew from the items.
    Remake,
    /// After the log's end and of no use.
    Quarantine,
}

/// One segment, scrubbed.
#[derive(Debug)]
pub(crate) struct SegmentScrub {
    /// The checksum seed of the file that the runs lie in.
    pub(crate) seed: Option<CrcSeed>,
    /// The sequence that was expected at its beginning.
    pub(crate) base: Sequence,
    pub(crate) items: Vec<Item>,
    pub(crate) verdict: Verdict,
    /// Where the last of its runs ends.
    pub(super) end: usize,
    /// Where its last byte that is not zero ends.
    pub(super) used: usize,
    /// Whether its file can't stay as it is.
    pub(super) is_faulty: bool,
}

/// A record's number and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its number.
    pub sequence: Sequence,
    /// Its time, Unix microseconds.
    pub time_micros: i64,
}

/// What a log holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogSummary {
    /// Segments with records.
    pub segments: u64,
    /// Records that can be read.
    pub records: u64,
    /// Bytes of those records on disk.
    pub bytes: u64,
    /// The first record.
    pub first: Option<Mark>,
    /// The last record.
    pub last: Option<Mark>,
    /// Records that are lost, without the ones that an earlier repair gave up.
    pub lost: u64,
}

/// What a visitor is shown.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A record, gaps included.
    Record(Record<'a>),
    /// Records are lost here.
    Damage(&'a ScrubFinding),
}

/// A visitor of a log that may be damaged; a break ends the scrub.
pub(crate) type Visit<'v> = &'v mut dyn FnMut(Seen<'_>) -> ControlFlow<()>;

/// What to look at and whom to tell.
pub(crate) struct Watch<'v> {
    pub(crate) usage: Usage,
    /// Records before this one are of no interest; segments that hold none after are not read.
    pub(crate) from: Sequence,
    /// Shown every record from there on. Without one, records are counted only.
    pub(crate) visit: Option<Visit<'v>>,
    /// Told of bytes read.
    pub(crate) progress: &'v mut dyn FnMut(u64),
}

/// A log, scrubbed.
#[derive(Debug)]
pub(crate) struct LogScrub {
    pub(crate) listing: Listing,
    /// By slot.
    pub(crate) segments: Vec<SegmentScrub>,
    pub(crate) findings: Vec<ScrubFinding>,
    pub(crate) summary: LogSummary,
    /// The sequence after the last.
    pub(crate) next: Sequence,
    /// Something about it is beyond repair.
    pub(crate) is_obscure: bool,
    /// Files outside of the log that are of no use.
    pub(crate) useless: Vec<Box<Path>>,
}
