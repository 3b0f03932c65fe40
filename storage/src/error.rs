//! Why the storage refused: one closed enum, told apart by what an operator does next.
//!
//! - come back when there is room, or make the directory writable: `OutOfSpace`, `ReadOnly`;
//! - stop the other server: `Locked`;
//! - look at the disk, restore a copy: everything about damage. Nothing was modified;
//! - update the program: `NewerVersion`.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::Sequence;

/// Why an operation on the data directory failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused, for a reason without a variant of its own.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb.
        op: &'static str,
        /// On which file or directory.
        path: Box<Path>,
        /// What the operating system said.
        source: io::Error,
    },
    /// The disk, a quota or the file size limit is exhausted.
    #[error("{op} {}: no space: {source}", path.display())]
    OutOfSpace {
        /// What was attempted, as a verb.
        op: &'static str,
        /// On which file or directory.
        path: Box<Path>,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file system is read-only or the permissions forbid it.
    #[error("{op} {}: not permitted: {source}", path.display())]
    ReadOnly {
        /// What was attempted, as a verb.
        op: &'static str,
        /// On which file or directory.
        path: Box<Path>,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another server holds the data directory.
    #[error("data directory is in use by another server{}: {}", holder(*pid), path.display())]
    Locked {
        /// The lock file.
        path: Box<Path>,
        /// The process that holds it, if the lock file says so.
        pid: Option<u32>,
    },
    /// The file does not begin as a segment does.
    #[error("not a segment file: {}; run `flux log verify`: it says what is lost and what to do", path.display())]
    ForeignFile {
        /// The file.
        path: Box<Path>,
    },
    /// The file was written by a newer program.
    #[error("segment {} has format version {found}, this program knows up to {known}", path.display())]
    NewerVersion {
        /// The file.
        path: Box<Path>,
        /// The version in its header.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// The file is shorter or longer than its header says, or too short for a header.
    #[error("segment {} has {found} bytes instead of {expected}; run `flux log verify`: it says what is lost and what to do", path.display())]
    WrongSize {
        /// The file.
        path: Box<Path>,
        /// The capacity in its header.
        expected: u64,
        /// Its size.
        found: u64,
    },
    /// The file is a segment, but of another place than its path names.
    #[error("segment {} belongs elsewhere: its header differs in {field}; run `flux log verify`: it says what is lost and what to do", path.display())]
    WrongPlace {
        /// The file.
        path: Box<Path>,
        /// The first header field that does not match the path.
        field: &'static str,
    },
    /// A generation, a shard's directory or a segment is missing between others, or the first of
    /// them.
    #[error("missing: {}: put it back, or restore a backup", path.display())]
    Missing {
        /// What should exist.
        path: Box<Path>,
    },
    /// The log is gone, though something that was made after it is there.
    #[error("missing: {}, though {} is there: is a volume not mounted? Nothing was changed; to begin with nothing, remove the rest of the data directory too", path.display(), evidence.display())]
    LogGone {
        /// What should exist.
        path: Box<Path>,
        /// What shows that it did.
        evidence: Box<Path>,
    },
    /// The directory is not empty, and no server has made it a data directory.
    #[error(
        "it holds {found}, and nothing that a server has finished making: name an empty directory, or a data directory"
    )]
    NotADataDirectory {
        /// Some of the names in it.
        found: Box<str>,
    },
    /// A symbolic link lies in the data directory, and none is followed there.
    #[error(
        "{} is a symbolic link, and none is followed inside a data directory: put the file or directory itself there, or mount it there",
        path.display()
    )]
    SymbolicLink {
        /// The link.
        path: Box<Path>,
    },
    /// The log was made in another data directory.
    #[error("the log in {} was made in another data directory than the rest of this one: put this one's log back, or restore a backup", path.display())]
    ForeignLog {
        /// The log's directory.
        path: Box<Path>,
    },
    /// The header's checksum does not match.
    #[error("header of segment {} is damaged; run `flux log verify`: it says what is lost and what to do", path.display())]
    DamagedHeader {
        /// The file.
        path: Box<Path>,
    },
    /// A record that is known to have been durable is not there.
    #[error("segment {} is damaged at byte {offset}: no valid record {sequence}, though {durable} was durable; run `flux log verify`: it says what is lost and what to do", path.display())]
    DamagedRecord {
        /// The file.
        path: Box<Path>,
        /// Where the record should begin.
        offset: u64,
        /// The record that should be there.
        sequence: Sequence,
        /// The highest sequence that is known to have been durable.
        durable: Sequence,
    },
    /// Bytes follow the end of a log whose tail was cut when it was sealed.
    #[error("segment {} is damaged at byte {offset}: bytes after the end of a sealed log; run `flux log verify`: it says what is lost and what to do", path.display())]
    DamagedTail {
        /// The file.
        path: Box<Path>,
        /// Where the log ends.
        offset: u64,
    },
    /// The first segments are not there, and no `HORIZON` file says that retention removed them.
    #[error("missing: {}, and the HORIZON file beside it {fault}: if retention removed it, `flux log repair` can say so anew from the segments that are left", path.display())]
    NoLogStart {
        /// The first segment that is missing.
        path: Box<Path>,
        /// Why the `HORIZON` file does not count.
        fault: &'static str,
    },
    /// A checkpoint covers records that are not in the log.
    #[error("segment {} ends at byte {offset} before record {sequence}, but a checkpoint covers the log through {covered}; run `flux log verify`: it says what is lost and what to do", path.display())]
    BehindCheckpoint {
        /// The file.
        path: Box<Path>,
        /// Where the log ends.
        offset: u64,
        /// The first record that is missing.
        sequence: Sequence,
        /// What the checkpoint covers, and the caller knows to have been durable.
        covered: Sequence,
    },
    /// Records are asked for that retention removed.
    #[error("records from {from} on are needed, but retention removed those before {first}: {}", path.display())]
    HistoryRemoved {
        /// The log's directory.
        path: Box<Path>,
        /// The first record that was asked for.
        from: Sequence,
        /// The first record that is still there.
        first: Sequence,
    },
    /// An earlier write or flush failed; nothing more is accepted until the data directory is
    /// opened again.
    #[error("log is closed after an earlier failure: {reason}")]
    Poisoned {
        /// What failed.
        reason: Box<str>,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

impl StorageError {
    /// The variant for what the operating system said.
    pub(crate) fn io(op: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::OutOfSpace { op, path, source },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::ReadOnly { op, path, source }
            }
            _ => Self::Io { op, path, source },
        }
    }

    /// True if something stored is damaged or gone, as against: could not be read or written.
    pub fn is_damage(&self) -> bool {
        !matches!(
            self,
            Self::Io { .. }
                | Self::OutOfSpace { .. }
                | Self::ReadOnly { .. }
                | Self::Locked { .. }
                | Self::NotADataDirectory { .. }
                | Self::SymbolicLink { .. }
                | Self::HistoryRemoved { .. }
                | Self::Poisoned { .. }
        )
    }

    /// True if waiting or making room may help: out of space, or not writable.
    pub fn is_recoverable(&self) -> bool {
        matches!(self, Self::OutOfSpace { .. } | Self::ReadOnly { .. })
    }
}

/// Why a replay stopped: the storage failed, or the visitor did.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError<E> {
    /// The log could not be read or recovered.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The visitor refused a record.
    #[error("record was refused: {0}")]
    Visit(E),
}

/// Why a record was not appended. The log is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The active segment is full and no next segment that could hold the record is installed.
    /// Append again after `Log::install_next_segment`.
    #[error("no segment has room for a record of {record_bytes} bytes yet")]
    SegmentNeeded {
        /// The record's bytes on disk.
        record_bytes: usize,
    },
    /// The payload is larger than any record may be.
    #[error("payload of {payload_bytes} bytes is over the limit of {payload_bytes_max}")]
    TooLarge {
        /// Its bytes.
        payload_bytes: usize,
        /// The bound, [`crate::PAYLOAD_BYTES_MAX`].
        payload_bytes_max: usize,
    },
    /// The group is larger than any may be: [`crate::GROUP_BYTES_MAX`] and
    /// [`crate::GROUP_RECORDS_MAX`].
    #[error("a group is larger than any may be")]
    GroupTooLarge,
    /// A write or flush failed, now or earlier; `Log::failure` says what.
    #[error("log is closed after a failure")]
    Poisoned,
}

/// What is wrong with a file of a checkpoint, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} at byte {offset}: {fault}", path.display())]
pub struct LayerError {
    /// The layer or manifest.
    pub path: Arc<Path>,
    /// Where the part begins that is not as it should be.
    pub offset: u64,
    /// What is wrong with it.
    pub fault: LayerFault,
}

/// What can be wrong with a file of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayerFault {
    /// There is no such file.
    #[error("file is missing")]
    Missing,
    /// The operating system refused to read it: this says nothing of what is in it.
    #[error("can't be read: {}", io::Error::from_raw_os_error(*.code))]
    Unreadable {
        /// The number of the system's error.
        code: i32,
    },
    /// The file is shorter or longer than it says.
    #[error("file has another size than it should")]
    WrongSize,
    /// The file does not begin as its kind does.
    #[error("not a file of a checkpoint")]
    Foreign,
    /// The file was written by a newer program.
    #[error("format version {0} is newer than this program")]
    NewerVersion(u32),
    /// The file was written by a program that lays out the same things differently.
    #[error("written with another layout")]
    OtherLayout,
    /// The file is whole, but of another number, shard or log than its path says.
    #[error("belongs elsewhere")]
    WrongPlace,
    /// The manifest names a layer that is missing or damaged.
    #[error("names layer {0}, which can't be used")]
    UnusableLayer(u64),
    /// The manifest names a layer by whose number there is another one.
    #[error("names another layer {0} than the one that is there")]
    OtherLayer(u64),
    /// The part does not match its checksum.
    #[error("{0} does not match its checksum")]
    Checksum(LayerPart),
    /// The part matches its checksum and makes no sense.
    #[error("{0} makes no sense")]
    Contents(LayerPart),
    /// Bytes between two parts are not zero.
    #[error("padding is not zero")]
    Padding,
    /// An entity's body is not one.
    #[error("body of an entity is not well formed")]
    Body,
}

/// A part of a layer or a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerPart {
    /// The first bytes of a layer.
    Header,
    /// A block of entities.
    Block,
    /// A page of the hash index.
    IndexPage,
    /// The list of blocks and pages.
    Footer,
    /// The last bytes of a layer.
    Trailer,
    /// A manifest.
    Manifest,
}

impl fmt::Display for LayerPart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Header => "header",
            Self::Block => "block",
            Self::IndexPage => "index page",
            Self::Footer => "footer",
            Self::Trailer => "trailer",
            Self::Manifest => "manifest",
        })
    }
}

impl LayerError {
    /// True if there is no such file.
    pub(crate) fn is_missing(&self) -> bool {
        self.fault == LayerFault::Missing
    }

    /// True if the file is at fault; false if it could not be read, which may pass.
    pub fn is_damage(&self) -> bool {
        !matches!(self.fault, LayerFault::Unreadable { .. })
    }
}

impl LayerFault {
    /// What the operating system said, of a file that should be there.
    pub(crate) fn io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            // The file was shorter than its own size said a moment ago.
            io::ErrorKind::UnexpectedEof => Self::WrongSize,
            _ => Self::Unreadable {
                code: error.raw_os_error().unwrap_or(0),
            },
        }
    }
}

/// Why a checkpoint was not written or not loaded. What was published before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The directory or a file of it could not be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A layer that should be merged, or one that must not be quarantined, is damaged or
    /// unreadable.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The caller asked to stop.
    #[error("checkpoint was cancelled")]
    Cancelled,
    /// An entity, or the list of all blocks, does not fit into one archive.
    #[error("{bytes} bytes do not fit into one part of a checkpoint")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_are_told_apart_by_what_helps() {
        let check = |code, recoverable, variant: &str| {
            let error =
                StorageError::io("write", Path::new("/f"), io::Error::from_raw_os_error(code));
            assert_eq!(error.is_recoverable(), recoverable, "{error:?}");
            assert!(format!("{error:?}").starts_with(variant), "{error:?}");
            assert!(error.to_string().starts_with("write /f: "), "{error}");
        };
        check(28, true, "OutOfSpace");
        check(122, true, "OutOfSpace");
        check(27, true, "OutOfSpace");
        check(30, true, "ReadOnly");
        check(13, true, "ReadOnly");
        check(1, true, "ReadOnly");
        check(5, false, "Io");
        check(20, false, "Io");
    }
}
