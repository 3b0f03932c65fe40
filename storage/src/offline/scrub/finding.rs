//! What a scrub has to say: one thing about one place, with what it means and what to do about it.

use std::fmt;
use std::path::Path;

use crate::{LayerFault, Sequence};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing acknowledged is affected, and a server starts.
    Notice,
    /// Something stored is damaged or gone.
    Damage,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubFinding {
    /// The file or directory.
    pub path: Box<Path>,
    /// Where in the file, bytes, if it is one place.
    pub offset: Option<u64>,
    /// What it is.
    pub fault: Fault,
}

/// What can be found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A segment, a shard's directory or a generation that should be there is not.
    Missing,
    /// The file is no segment of this program.
    NotASegment,
    /// The segment was written by a newer program.
    NewerVersion {
        /// The version in its header.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// The file is shorter or longer than its header says.
    WrongSize {
        /// Bytes by its header.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// The file is a segment of another place.
    WrongPlace {
        /// The header field that differs from the path or from the other segments.
        field: &'static str,
    },
    /// The header's checksum does not match.
    DamagedHeader,
    /// The disk returned an error for a part of the file.
    Unreadable {
        /// Bytes that could not be read, in whole pages.
        bytes: u64,
    },
    /// Records that were there once are not.
    Lost {
        /// The first of them.
        first: Sequence,
        /// The last of them.
        last: Sequence,
    },
    /// Records do not lie behind those before them.
    Displaced {
        /// The first of them.
        first: Sequence,
    },
    /// A segment before the last holds no record.
    NoRecords,
    /// Bytes after the end of a log that was closed for good.
    DamagedTail {
        /// How many.
        bytes: u64,
    },
    /// The log begins before, or far from, if it must after the generation before it.
    WrongStart {
        /// The log's first sequence.
        found: Sequence,
        /// The last sequence of the generation before.
        previous_last: Sequence,
    },
    /// Bytes after the last whole record that no flush had covered.
    TornTail {
        /// How many.
        bytes: u64,
    },
    /// Bytes that belong to no record, in the unused rest of a segment.
    StrayBytes {
        /// How many, up to the last that is not zero.
        bytes: u64,
    },
    /// The `DURABLE` file is missing or damaged.
    NoWatermark,
    /// A file or directory that a crash left unfinished.
    Unfinished,
    /// The file is a segment of another log of this directory, which lacks it.
    Misfiled {
        /// Where it belongs.
        belongs: Box<Path>,
    },
    /// The log was made in another data directory.
    ForeignLog,
    /// `HORIZON` is missing or damaged, though the first segments are gone.
    NoLogStart,
    /// `HORIZON` is damaged, and nothing was removed.
    UselessLogStart,
    /// Retention removed the beginning of a log, and the state that it led to is not there.
    NoBase,
    /// A file of a checkpoint is damaged or another's.
    Checkpoint(LayerFault),
    /// A file of the state that a log begins with is damaged or another's.
    Base {
        /// What is wrong with it.
        fault: LayerFault,
        /// Whether what it was made from was removed since.
        is_last: bool,
    },
    /// The history index of a segment does not fit it.
    StaleIndex,
    /// An earlier repair gave these records up.
    RepairedGap {
        /// How many, in all of this log.
        lost: u64,
    },
}

impl Fault {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::TornTail { .. }
            | Self::StrayBytes { .. }
            | Self::NoWatermark
            | Self::Unfinished
            | Self::UselessLogStart
            | Self::StaleIndex
            | Self::RepairedGap { .. }
            // Another version of this program wrote it, and makes nothing of it.
            | Self::Checkpoint(LayerFault::NewerVersion(_) | LayerFault::OtherLayout) => {
                Severity::Notice
            }
            Self::Missing
            | Self::NotASegment
            | Self::NewerVersion { .. }
            | Self::WrongSize { .. }
            | Self::WrongPlace { .. }
            | Self::DamagedHeader
            | Self::Unreadable { .. }
            | Self::Lost { .. }
            | Self::Displaced { .. }
            | Self::NoRecords
            | Self::DamagedTail { .. }
            | Self::NoLogStart
            | Self::NoBase
            | Self::Checkpoint(_)
            | Self::Base { .. }
            | Self::ForeignLog
            | Self::Misfiled { .. }
            | Self::WrongStart { .. } => Severity::Damage,
        }
    }

    /// What it means for what is stored.
    pub fn meaning(&self) -> &'static str {
        match self {
            Self::Missing => "what was stored in it is gone, and a server refuses to start",
            Self::NotASegment | Self::WrongPlace { .. } => {
                "what belongs here is gone, unless another finding says where it is; a server refuses to start"
            }
            Self::NewerVersion { .. } => "this program can't read it",
            Self::WrongSize { .. } => {
                "records beyond its end are gone, if there were any; a server refuses to start"
            }
            Self::DamagedHeader => {
                "a server refuses to start; records that are still readable are counted below"
            }
            Self::Unreadable { .. } => "the disk is failing; records there are gone",
            Self::Lost { .. } => {
                "events that were acknowledged can't be read, and a server that needs them refuses to start"
            }
            Self::Displaced { .. } => {
                "they are whole, but a server that needs them refuses to start"
            }
            Self::NoRecords | Self::DamagedTail { .. } => {
                "no acknowledged event is known to be missing, but a server refuses to start"
            }
            Self::Misfiled { .. } => "its records are whole, but a server refuses to start",
            Self::ForeignLog => {
                "its records are not this data directory's, and a server refuses to start"
            }
            Self::WrongStart { .. } => "this log and the generation before do not belong together",
            Self::TornTail { .. } => {
                "never acknowledged: a crash left them, or a server is writing them now"
            }
            Self::StrayBytes { .. } => "no record is affected, but something wrote there",
            Self::NoWatermark => {
                "no record is affected; damage of the very last records would pass for a torn tail"
            }
            Self::Unfinished => "a crash or a full disk left it; it holds nothing that is needed",
            Self::NoLogStart => {
                "nobody can tell what retention removed from what is lost; a server refuses to start"
            }
            Self::UselessLogStart => "nothing was removed, so it is not needed",
            Self::NoBase | Self::Base { is_last: true, .. } => {
                "the state at the beginning of what is left of this log is lost"
            }
            Self::Checkpoint(_) | Self::Base { .. } => {
                "nothing is lost: a server makes the state from the log instead"
            }
            Self::StaleIndex => "nothing is lost: it is made anew when it is needed",
            Self::RepairedGap { .. } => {
                "those events are in no history, nor in a state made from the log"
            }
        }
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NewerVersion { .. } => "use the program that wrote it, or a newer one",
            Self::Unreadable { .. } => {
                "copy the directory to another disk, then restore a backup or run `flux log repair`"
            }
            Self::Misfiled { .. } => {
                "stop the server, give the file that name, and verify again: a repair would give up what is whole"
            }
            Self::ForeignLog => {
                "put the log of this data directory back in its place, or restore a backup"
            }
            Self::WrongStart { .. }
            | Self::NoRecords
            | Self::NoBase
            | Self::Base { is_last: true, .. } => "restore a backup",
            Self::Checkpoint(_) | Self::Base { .. } => {
                "check the disk; a server or `flux log repair` sets it aside"
            }
            Self::UselessLogStart | Self::StaleIndex | Self::RepairedGap { .. } => "nothing",
            Self::TornTail { .. } => "nothing: a server cuts them when it starts",
            Self::NoWatermark => "nothing: a server makes it anew when it starts",
            Self::Unfinished => "nothing: a server removes it when it starts",
            Self::StrayBytes { .. } => "check the disk",
            Self::Missing
            | Self::NotASegment
            | Self::WrongSize { .. }
            | Self::WrongPlace { .. }
            | Self::DamagedHeader
            | Self::Lost { .. }
            | Self::Displaced { .. }
            | Self::NoLogStart
            | Self::DamagedTail { .. } => "restore a backup, or run `flux log repair`",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => formatter.write_str("missing"),
            Self::NotASegment => formatter.write_str("not a segment file"),
            Self::NewerVersion { found, known } => write!(
                formatter,
                "has format version {found}, this program knows up to {known}"
            ),
            Self::WrongSize { expected, found } => {
                write!(formatter, "has {found} bytes instead of {expected}")
            }
            Self::WrongPlace { field } => {
                write!(
                    formatter,
                    "belongs elsewhere: its header differs in {field}"
                )
            }
            Self::DamagedHeader => formatter.write_str("the header is damaged"),
            Self::Unreadable { bytes } => write!(formatter, "{bytes} bytes can't be read"),
            Self::Lost { first, last } if first == last => {
                write!(formatter, "record {first} is lost")
            }
            Self::Lost { first, last } => {
                let count = last.get().saturating_sub(first.previous().get());
                write!(formatter, "{count} records, {first} to {last}, are lost")
            }
            Self::Displaced { first } => {
                write!(
                    formatter,
                    "record {first} is not in its place but behind it"
                )
            }
            Self::NoRecords => formatter.write_str("holds no record, though later segments do"),
            Self::DamagedTail { bytes } => {
                write!(formatter, "{bytes} bytes after the end of a sealed log")
            }
            Self::WrongStart {
                found,
                previous_last,
            } => write!(
                formatter,
                "the log begins with record {found}, the generation before ends with {previous_last}"
            ),
            Self::TornTail { bytes } => write!(formatter, "a torn tail of {bytes} bytes"),
            Self::StrayBytes { bytes } => {
                write!(
                    formatter,
                    "{bytes} bytes after the last record of a closed segment"
                )
            }
            Self::Misfiled { belongs } => write!(formatter, "is segment {}", belongs.display()),
            Self::ForeignLog => formatter.write_str("made in another data directory"),
            Self::NoWatermark => formatter.write_str("missing or damaged"),
            Self::NoLogStart => {
                formatter.write_str("missing or damaged, though first segments are gone")
            }
            Self::UselessLogStart => formatter.write_str("damaged"),
            Self::NoBase => formatter.write_str("no state for the removed beginning of the log"),
            Self::Checkpoint(fault) | Self::Base { fault, .. } => write!(formatter, "{fault}"),
            Self::StaleIndex => formatter.write_str("does not fit its segment"),
            Self::Unfinished => formatter.write_str("unfinished"),
            Self::RepairedGap { lost } => {
                write!(
                    formatter,
                    "an earlier repair gave up {lost} records of this log"
                )
            }
        }
    }
}

impl fmt::Display for ScrubFinding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.path.display())?;
        if let Some(offset) = self.offset {
            write!(formatter, " at byte {offset}")?;
        }
        let fault = &self.fault;
        write!(
            formatter,
            ": {fault}; {}; {}",
            fault.meaning(),
            fault.advice()
        )
    }
}
