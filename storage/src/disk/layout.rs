//! The names in a data directory, and which of them are there.
//!
//! ```text
//! <data>/LOCK
//! <data>/WORLD
//! <data>/log/000001/000-of-002/00000001.seg
//!                             /DURABLE
//!                             /HORIZON
//!                             /00000001.idx
//! <data>/checkpoints/000001/000-of-002/00000001.layer
//!                                     /00000002.manifest
//! <data>/base/000001/000-of-002/      likewise
//! <data>/control/00000001.seg
//!                /DURABLE
//! <data>/RESERVE
//! ```
//!
//! Names that could not be ours are passed over; `.tmp` entries of ours are what a crash left
//! unfinished.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::StorageError;
use crate::disk::files;
use crate::format::header::LogId;

pub(crate) const WORLD_NAME: &str = "WORLD";
pub(crate) const LOCK_NAME: &str = "LOCK";
pub(crate) const LOG_NAME: &str = "log";
/// The directory of the control log, in a data directory.
pub const CONTROL_NAME: &str = "control";
pub(crate) const WATERMARK_NAME: &str = "DURABLE";
pub(crate) const LOG_START_NAME: &str = "HORIZON";
pub(crate) const BALLAST_NAME: &str = "RESERVE";
pub(crate) const CHECKPOINTS_NAME: &str = "checkpoints";
pub(crate) const BASE_NAME: &str = "base";
pub(crate) const UNFINISHED: &str = ".tmp";
const SEGMENT: &str = ".seg";
const INDEX: &str = ".idx";
const LAYER: &str = ".layer";
const MANIFEST: &str = ".manifest";
const DAMAGED: &str = ".damaged";

/// Whether a name is one that a data directory has at its top, whole or unfinished.
pub(crate) fn is_entry(name: &str) -> bool {
    [
        WORLD_NAME,
        LOCK_NAME,
        LOG_NAME,
        CONTROL_NAME,
        BALLAST_NAME,
        CHECKPOINTS_NAME,
        BASE_NAME,
    ]
    .contains(&name.strip_suffix(UNFINISHED).unwrap_or(name))
}

pub(crate) fn generation_name(generation: u32) -> String {
    format!("{generation:06}")
}

pub(crate) fn shard_name(log: LogId) -> String {
    format!("{:03}-of-{:03}", log.shard, log.shard_count)
}

pub(crate) fn segment_name(ordinal: u64) -> String {
    format!("{ordinal:08}{SEGMENT}")
}

/// Where the checkpoints of a shard's log are.
pub(crate) fn checkpoint_path(root: &Path, log: LogId) -> PathBuf {
    shard_path(&root.join(CHECKPOINTS_NAME), log)
}

/// Where the state is that a shard's log begins with.
pub(crate) fn base_path(root: &Path, log: LogId) -> PathBuf {
    shard_path(&root.join(BASE_NAME), log)
}

fn shard_path(dir: &Path, log: LogId) -> PathBuf {
    dir.join(generation_name(log.generation))
        .join(shard_name(log))
}

/// Where the history index of a segment is.
pub(crate) fn index_path(segment: &Path) -> PathBuf {
    segment.with_extension(&INDEX[1..])
}

/// The name of an index until it is whole; numbered, because two may be in preparation.
pub(crate) fn unfinished_index(index: &Path, number: u64) -> PathBuf {
    let mut name = index.as_os_str().to_owned();
    name.push(format!(".{number}{UNFINISHED}"));
    name.into()
}

pub(crate) fn layer_name(number: u64) -> String {
    format!("{number:08}{LAYER}")
}

pub(crate) fn manifest_name(number: u64) -> String {
    format!("{number:08}{MANIFEST}")
}

/// The name of a file that was found damaged and quarantined.
pub(crate) fn damaged(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(DAMAGED);
    name.into()
}

/// The name of a file or directory until it is whole.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}

/// The generation that this name is of.
pub(crate) fn parse_generation(name: &str) -> Option<u32> {
    let number = name.parse().ok()?;
    (generation_name(number) == name).then_some(number)
}

/// The shard and shard count that this name is of.
pub(crate) fn parse_shard(name: &str) -> Option<(u32, u32)> {
    let (shard, count) = name.split_once("-of-")?;
    let log = LogId {
        generation: 0,
        shard: shard.parse().ok()?,
        shard_count: count.parse().ok()?,
    };
    (shard_name(log) == name).then_some((log.shard, log.shard_count))
}

/// The ordinal that this name is of.
pub(crate) fn parse_segment(name: &str) -> Option<u64> {
    let ordinal = name.strip_suffix(SEGMENT)?.parse().ok()?;
    (segment_name(ordinal) == name).then_some(ordinal)
}

/// The ordinal of the segment whose index this name is of, and whether the index is whole.
fn parse_index(name: &str) -> Option<(u64, bool)> {
    let (ordinal, rest) = name.split_once(INDEX)?;
    let number = ordinal.parse().ok()?;
    let is_ours = segment_name(number).strip_suffix(SEGMENT) == Some(ordinal);
    let is_whole = rest.is_empty();
    (is_ours && (is_whole || rest.ends_with(UNFINISHED))).then_some((number, is_whole))
}

/// A file in a directory of checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CheckpointFile {
    pub(crate) number: u64,
    pub(crate) kind: CheckpointFileKind,
}

/// What a file in a directory of checkpoints is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CheckpointFileKind {
    Layer,
    Manifest,
    /// A layer or manifest that is not whole yet.
    Unfinished,
    /// A layer or manifest that was quarantined.
    Damaged,
}

/// The file of a checkpoint that this name is of.
pub(crate) fn parse_checkpoint_file(name: &str) -> Option<CheckpointFile> {
    let (rest, outer) = if let Some(rest) = name.strip_suffix(UNFINISHED) {
        (rest, Some(CheckpointFileKind::Unfinished))
    } else if let Some(rest) = name.strip_suffix(DAMAGED) {
        (rest, Some(CheckpointFileKind::Damaged))
    } else {
        (name, None)
    };
    let (digits, inner) = if let Some(digits) = rest.strip_suffix(LAYER) {
        (digits, CheckpointFileKind::Layer)
    } else {
        (rest.strip_suffix(MANIFEST)?, CheckpointFileKind::Manifest)
    };
    let number = digits.parse().ok()?;
    let kind = outer.unwrap_or(inner);
    (format!("{number:08}") == digits).then_some(CheckpointFile { number, kind })
}

/// Whether a path below a data directory is one of a file that belongs to a log, its base or its
/// checkpoints, or to the control log, or the `WORLD` file.
pub(crate) fn is_data_path(path: &str) -> bool {
    if path == WORLD_NAME {
        return true;
    }
    if let Some(name) = path.strip_prefix(CONTROL_NAME)
        && let Some(name) = name.strip_prefix('/')
    {
        return name == WATERMARK_NAME || parse_segment(name).is_some();
    }
    let mut parts = path.split('/');
    let (Some(kind), Some(generation), Some(shard), Some(name), None) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return false;
    };
    let is_named = match kind {
        LOG_NAME => {
            [WATERMARK_NAME, LOG_START_NAME].contains(&name)
                || parse_segment(name).is_some()
                || parse_index(name).is_some_and(|(_, is_whole)| is_whole)
        }
        CHECKPOINTS_NAME | BASE_NAME => parse_checkpoint_file(name).is_some_and(|file| {
            matches!(
                file.kind,
                CheckpointFileKind::Layer | CheckpointFileKind::Manifest
            )
        }),
        _ => false,
    };
    is_named && parse_generation(generation).is_some() && parse_shard(shard).is_some()
}

/// Flushes the entries of the directories in which a server makes names: the data directory, and
/// below it those of logs, checkpoints and bases down to their generations. A killed process may
/// have made a name without flushing it; what is built on such a name would go with it in a power
/// cut. Blocks.
pub(crate) fn sync_names(root: &Path) -> Result<(), StorageError> {
    files::sync_dir(root)?;
    for kind in [LOG_NAME, CHECKPOINTS_NAME, BASE_NAME] {
        let dir = root.join(kind);
        if !dir.is_dir() {
            continue;
        }
        files::sync_dir(&dir)?;
        let names = files::names(&dir)?;
        for name in names.iter().filter(|name| parse_generation(name).is_some()) {
            files::sync_dir(&dir.join(name))?;
        }
    }
    Ok(())
}

/// Removes a generation that a crash left unfinished.
pub(crate) fn remove_unfinished_generation(log_dir: &Path) -> Result<(), StorageError> {
    for name in files::names(log_dir)? {
        let whole = name.strip_suffix(UNFINISHED);
        if whole.and_then(parse_generation).is_some() {
            let path = log_dir.join(&name);
            files::at("remove unfinished", &path, fs::remove_dir_all(&path))?;
            files::sync_dir(log_dir)?;
        }
    }
    Ok(())
}

/// The number of the newest generation, 0 if there is none.
///
/// # Errors
///
/// `Missing` if a generation before the newest is not there.
pub(crate) fn newest_generation(log_dir: &Path) -> Result<u32, StorageError> {
    let mut newest = 0;
    for name in files::names(log_dir)? {
        let Some(generation) = parse_generation(&name) else {
            continue;
        };
        if generation != newest + 1 {
            return Err(missing(log_dir.join(generation_name(newest + 1))));
        }
        newest = generation;
    }
    Ok(newest)
}

/// Checks that nothing is there that was made after a log of a later generation than the `newest`
/// that is there: such a log is gone, for example because its volume is not mounted. To begin a new
/// one in its place would bury it. Blocks.
///
/// # Errors
///
/// `LogGone` with the first generation that is missing.
pub(crate) fn check_not_gone(root: &Path, newest: u32) -> Result<(), StorageError> {
    let mut evidence = Vec::new();
    if newest == 0 {
        let made_later = [WORLD_NAME, CONTROL_NAME].map(|name| root.join(name));
        evidence.extend(made_later.into_iter().filter(|path| path.exists()));
    }
    for kind in [CHECKPOINTS_NAME, BASE_NAME] {
        let dir = root.join(kind);
        if !dir.is_dir() {
            continue;
        }
        let names = files::names(&dir)?.into_iter();
        let later = names.filter(|name| parse_generation(name).is_some_and(|it| it > newest));
        evidence.extend(later.map(|name| dir.join(name)));
    }
    match evidence.into_iter().next() {
        None => Ok(()),
        Some(evidence) => Err(StorageError::LogGone {
            path: root.join(LOG_NAME).join(generation_name(newest + 1)).into(),
            evidence: evidence.into(),
        }),
    }
}

/// How many shards a generation has.
///
/// # Errors
///
/// `Missing` if one of them has no directory, `WrongPlace` if directories disagree about their
/// number.
pub(crate) fn shard_count(generation_dir: &Path) -> Result<u32, StorageError> {
    let names = files::names(generation_dir)?;
    let mut shards = names
        .iter()
        .filter_map(|name| parse_shard(name).map(|shard| (name, shard)));
    let Some((_, (_, shard_count))) = shards.clone().next() else {
        return Err(missing(generation_dir.join("000-of-*")));
    };
    if let Some((name, _)) =
        shards.find(|(_, (shard, count))| *count != shard_count || shard >= count)
    {
        let path = generation_dir.join(name).into();
        return Err(StorageError::WrongPlace {
            path,
            field: "shard count",
        });
    }
    for shard in 0..shard_count {
        let name = shard_name(LogId {
            generation: 0,
            shard,
            shard_count,
        });
        if names.binary_search(&name).is_err() {
            return Err(missing(generation_dir.join(name)));
        }
    }
    Ok(shard_count)
}

/// The ordinals of a log's segments, ascending.
pub(crate) fn segment_ordinals(dir: &Path) -> Result<Vec<u64>, StorageError> {
    let names = files::names(dir)?;
    let mut ordinals: Vec<u64> = names
        .iter()
        .filter_map(|name| parse_segment(name))
        .collect();
    ordinals.sort_unstable();
    Ok(ordinals)
}

/// Checks that ascending ordinals go on one by one from `first`.
///
/// # Errors
///
/// `Missing` with the first that is not there.
pub(crate) fn check_contiguous(
    dir: &Path,
    ordinals: &[u64],
    first: u64,
) -> Result<(), StorageError> {
    let mut pairs = ordinals.iter().zip(first..);
    match pairs.find(|(found, expected)| *found != expected) {
        None => Ok(()),
        Some((_, expected)) => Err(missing(dir.join(segment_name(expected)))),
    }
}

/// Removes the segments before an ordinal and their indexes, oldest first, durably. Returns whether
/// there were any.
pub(crate) fn remove_before(dir: &Path, first_ordinal: u64) -> Result<bool, StorageError> {
    let mut removed = false;
    for name in files::names(dir)? {
        let index = || parse_index(&name).map(|(ordinal, _)| ordinal);
        let ordinal = parse_segment(&name).or_else(index);
        if ordinal.is_some_and(|ordinal| ordinal < first_ordinal) {
            let path = dir.join(&name);
            files::remove_undurably(&path)?;
            removed = true;
        }
    }
    if removed {
        files::sync_dir(dir)?;
    }
    Ok(removed)
}

/// Removes the files that a crash left unfinished.
pub(crate) fn remove_unfinished(dir: &Path) -> Result<(), StorageError> {
    for name in files::names(dir)? {
        let whole = name.strip_suffix(UNFINISHED);
        if whole.is_some_and(|whole| parse_segment(whole).is_some() || whole == LOG_START_NAME) {
            files::remove(&dir.join(&name), dir)?;
        }
    }
    Ok(())
}

/// Removes the indexes that a crash left unfinished, and those of other segments than the `closed`:
/// of a segment that is written to there is none yet.
pub(crate) fn remove_stale_indexes(dir: &Path, closed: &Range<u64>) -> Result<(), StorageError> {
    for name in files::names(dir)? {
        let Some((ordinal, is_whole)) = parse_index(&name) else {
            continue;
        };
        if !is_whole || !closed.contains(&ordinal) {
            files::remove(&dir.join(&name), dir)?;
        }
    }
    Ok(())
}

pub(crate) fn missing(path: PathBuf) -> StorageError {
    StorageError::Missing { path: path.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_making_are_taken_for_ours() {
        assert_eq!(parse_generation("000012"), Some(12));
        assert_eq!(parse_generation("1000000"), Some(1_000_000));
        assert_eq!(parse_shard("003-of-016"), Some((3, 16)));
        assert_eq!(parse_segment("00000007.seg"), Some(7));
        assert_eq!(parse_index("00000007.idx"), Some((7, true)));
        assert_eq!(parse_index("00000007.idx.12.tmp"), Some((7, false)));
        for name in ["7.idx", "00000007.idx.old", "00000007.seg", "x.idx"] {
            assert_eq!(parse_index(name), None, "{name}");
        }
        for name in ["12", "+00012", "000012.tmp", "lost+found", ""] {
            assert_eq!(parse_generation(name), None, "{name}");
        }
        for name in ["3-of-16", "003-of-", "003", "-of-"] {
            assert_eq!(parse_shard(name), None, "{name}");
        }
        for name in ["7.seg", "00000007.seg.tmp", "00000007", "DURABLE"] {
            assert_eq!(parse_segment(name), None, "{name}");
        }
    }

    #[test]
    fn only_paths_of_files_that_a_backup_holds_are_taken_for_data() {
        for path in ["control/00000001.seg", "control/DURABLE", "WORLD"] {
            assert!(is_data_path(path), "{path}");
        }
        for path in [
            "control",
            "WORLD/a",
            "control/",
            "controls/00000001.seg",
            "control00000001.seg",
            "control//00000001.seg",
            "control/1.seg",
            "control/HORIZON",
            "control/00000001.seg.tmp",
            "control/../00000001.seg",
            "control/000001/00000001.seg",
            "control/00000001.layer",
        ] {
            assert!(!is_data_path(path), "{path}");
        }
    }

    #[test]
    fn files_of_checkpoints_are_told_apart_by_their_names() {
        let check = |name: &str, number: u64, kind: CheckpointFileKind| {
            let file = CheckpointFile { number, kind };
            assert_eq!(parse_checkpoint_file(name), Some(file), "{name}");
        };
        check("00000007.layer", 7, CheckpointFileKind::Layer);
        check("00000008.manifest", 8, CheckpointFileKind::Manifest);
        check("00000007.layer.tmp", 7, CheckpointFileKind::Unfinished);
        check("00000008.manifest.tmp", 8, CheckpointFileKind::Unfinished);
        check(
            "100000000.layer.damaged",
            100_000_000,
            CheckpointFileKind::Damaged,
        );
        for name in [
            "7.layer",
            "00000007",
            "+0000007.layer",
            ".layer",
            "00000007.layer.tmp.tmp",
        ] {
            assert_eq!(parse_checkpoint_file(name), None, "{name}");
        }
    }

    #[test]
    fn gaps_are_refused_with_the_name_of_what_is_missing() {
        let root = tempfile::tempdir().unwrap();
        let check = |result: Result<u64, StorageError>, name: &str| {
            let Err(StorageError::Missing { path }) = result else {
                panic!("{result:?}")
            };
            assert_eq!(*path, *root.path().join(name));
        };
        let make = |name: &str| fs::create_dir(root.path().join(name)).unwrap();
        check(shard_count(root.path()).map(u64::from), "000-of-*");
        make("00000001.seg");
        make("00000003.seg");
        let ordinals = segment_ordinals(root.path()).unwrap();
        assert_eq!(ordinals, [1, 3]);
        let check_segments = |first, name| {
            let found = check_contiguous(root.path(), &ordinals, first);
            check(found.map(|()| 0), name);
        };
        check_segments(1, "00000002.seg");
        check_segments(2, "00000002.seg");
        check_contiguous(root.path(), &ordinals[..1], 1).unwrap();
        check_contiguous(root.path(), &[], 7).unwrap();
        make("000-of-003");
        make("002-of-003");
        check(shard_count(root.path()).map(u64::from), "001-of-003");
        make("001-of-003");
        assert_eq!(shard_count(root.path()).unwrap(), 3);
        make("000-of-002");
        assert!(matches!(
            shard_count(root.path()),
            Err(StorageError::WrongPlace { .. })
        ));
        assert_eq!(newest_generation(root.path()).unwrap(), 0);
        make("000001");
        make("000002.tmp");
        assert_eq!(newest_generation(root.path()).unwrap(), 1);
        remove_unfinished_generation(root.path()).unwrap();
        assert!(!root.path().join("000002.tmp").exists());
        make("000003");
        check(newest_generation(root.path()).map(u64::from), "000002");
    }
}
