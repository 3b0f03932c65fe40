//! One log's files by the places they belong to, from their names and headers.
//!
//! A name alone proves nothing: a segment whose header says that it is another segment of this log
//! is taken for that one, and a file of another log for none. Which log this is follows from most
//! of its headers.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::content::Plausible;
use super::finding::{Fault, ScrubFinding};
use super::load::Loaded;
use crate::disk::files::{self, at};
use crate::disk::layout;
use crate::disk::layout::LOG_START_NAME;
use crate::format::Identity;
use crate::format::header::{Activation, FORMAT_VERSION, HEADER_BYTES, HeaderFault, SegmentHeader};
use crate::format::slot::Owner;
use crate::log::log_start_file::{LogStartFile, read_log_start};
use crate::log::place::LogPlace;
use crate::log::watermark;
use crate::{
    BodyCheck, CheckpointDir, CheckpointError, CheckpointKind, CheckpointMeta, LogStart, Sequence,
    StorageError,
};

/// Ordinals that may be missing in a row. A file further away is no part of the log.
const MISSING_SEGMENTS_MAX: u64 = 1024;

/// Where a log is and what is known of it from outside.
#[derive(Debug, Clone)]
pub(crate) struct ScrubPlace {
    pub(crate) log: LogPlace,
    /// Of an older generation: its tail was cut, and nobody writes to it.
    pub(crate) sealed: bool,
    /// The sequence that its generation begins with, if that follows from something else than its
    /// own files.
    pub(crate) first_sequence: Option<Sequence>,
    /// What is known from elsewhere to have been durable.
    pub(crate) known_durable: Sequence,
    pub(crate) body_check: BodyCheck,
}

impl ScrubPlace {
    /// The directories of its checkpoints and of its base.
    pub(crate) fn checkpoint_dirs(&self, owner: Owner) -> [CheckpointDir; 2] {
        let dirs = [
            (self.log.checkpoint_path(), CheckpointKind::Cache),
            (self.log.base_path(), CheckpointKind::Base),
        ];
        dirs.map(|(path, kind)| CheckpointDir::new(path, owner, kind, self.body_check))
    }
}

/// The place of one segment.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) ordinal: u64,
    /// Where it should be.
    pub(crate) path: Box<Path>,
    /// The file that it is.
    pub(crate) source: Option<Source>,
}

/// A file that is a segment of this log, or was one.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: Box<Path>,
    pub(crate) size: u64,
    /// `None` if it is damaged.
    pub(crate) header: Option<SegmentHeader>,
    pub(crate) activation: Option<Activation>,
    /// What is wrong with the header.
    pub(crate) fault: Option<Fault>,
}

/// Whether anybody writes to a log while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    AtRest,
    InUse,
}

/// What `DURABLE` said before anything else was read.
#[derive(Debug, Clone, Copy)]
struct Early {
    identity: Option<Identity>,
    hint: Sequence,
}

impl Early {
    fn read(place: &ScrubPlace) -> Self {
        let log = place.log.id;
        let identity = watermark::stated_identity(&place.log.dir);
        let owner = identity.map(|identity| Owner { log, identity });
        Self {
            identity,
            hint: owner.map_or(Sequence::ZERO, |owner| {
                watermark::read_hint(&place.log.dir, owner)
            }),
        }
    }
}

/// What a log's `HORIZON` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogStartSource {
    Given,
    /// The log has its first segment.
    NotNeeded,
    Lost,
}

/// A log's files.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) place: ScrubPlace,
    /// `None` if no file of the log says it.
    pub(crate) identity: Option<Identity>,
    /// The sequence of the first record.
    pub(crate) first_sequence: Sequence,
    /// What `DURABLE` says.
    pub(crate) hint: Sequence,
    /// What retention removed, by a `HORIZON` that is whole.
    pub(crate) removed: Option<LogStart>,
    /// What it must have removed, if that file is lost.
    pub(crate) lost_log_start: Option<LogStart>,
    /// By ordinal, without a hole. Empty only if retention removed all of a log that is not written
    /// to.
    pub(crate) slots: Vec<Slot>,
    /// Files that stand where a segment of this log should, and are none.
    pub(crate) strays: Vec<Box<Path>>,
    pub(crate) findings: Vec<ScrubFinding>,
    /// A newer program wrote some of it, or if it begins is unknown.
    pub(crate) is_obscure: bool,
}

impl Source {
    pub(crate) fn read(path: &Path) -> Result<Self, StorageError> {
        let file = files::open_read(path)?;
        files::read_single_pages(&file);
        let size = at("read size of", path, file.metadata())?.len();
        let mut page = [0; HEADER_BYTES];
        let len = usize::try_from(size).map_or(HEADER_BYTES, |size| size.min(HEADER_BYTES));
        // What can't be read of a page stays zero, which is damage too.
        files::hint(file.read_exact_at(&mut page[..len], 0));
        let (header, fault) = match SegmentHeader::decode(&page) {
            Ok(header) => (Some(header), None),
            Err(HeaderFault::Damaged) => (None, Some(Fault::DamagedHeader)),
            Err(HeaderFault::Foreign) => (None, Some(Fault::NotASegment)),
            Err(HeaderFault::Newer(_)) if SegmentHeader::is_ours_but_for_the_version(&page) => {
                (None, Some(Fault::DamagedHeader))
            }
            Err(HeaderFault::Newer(found)) => {
                let known = FORMAT_VERSION;
                (None, Some(Fault::NewerVersion { found, known }))
            }
        };
        let activation = header.and_then(|header| Activation::decode(&page, header.salt.seed()));
        Ok(Self {
            path: path.into(),
            size,
            header,
            activation,
            fault,
        })
    }
}

impl Listing {
    /// Lists a log's directory, which may be missing. Blocks; modifies nothing.
    ///
    /// Of a log in use, what was durable is read before anything else, so that all of it must be
    /// found in what is read after.
    pub(crate) fn read(place: &ScrubPlace, usage: Usage) -> Result<Self, StorageError> {
        let early = Early::read(place);
        let (names, sources) = if place.log.dir.is_dir() {
            (files::names(&place.log.dir)?, segments(&place.log.dir)?)
        } else {
            (Vec::new(), BTreeMap::new())
        };
        let identity = identity(place, &sources);
        let first = sources.values().find_map(|source| {
            let header = source.header.as_ref()?;
            (header.log == place.log.id && Some(header.identity) == identity)
                .then_some(header.first_sequence)
        });
        let first_sequence = first
            .or(place.first_sequence)
            .or_else(|| (place.log.id.generation == 1).then_some(Sequence::new(1)));
        let mut listing = Self {
            place: place.clone(),
            identity,
            first_sequence: first_sequence.unwrap_or(Sequence::ZERO),
            hint: Sequence::ZERO,
            removed: None,
            lost_log_start: None,
            slots: Vec::new(),
            strays: Vec::new(),
            findings: Vec::new(),
            is_obscure: first_sequence.is_none(),
        };
        listing.note_unfinished(&names);
        let log_start = listing.read_log_start(sources.keys().next().copied())?;
        listing.take_hint(early);
        let base = listing.read_manifests(usage)?;
        if log_start == LogStartSource::Lost
            && let Some(base) = base
        {
            listing.lost_log_start = Some(listing.log_start_by(base, &sources)?);
        }
        listing.note_base(base);
        listing.assign(sources);
        Ok(listing)
    }

    /// The place of the first segment, and its first sequence.
    pub(crate) fn start(&self) -> (u64, Sequence) {
        let log_start = self.removed.or(self.lost_log_start);
        log_start.map_or((1, self.first_sequence), |log_start| {
            (log_start.first_ordinal, log_start.first_sequence)
        })
    }

    /// Reads `HORIZON`, and says what it is worth. `lowest`: the first segment that is there.
    fn read_log_start(&mut self, lowest: Option<u64>) -> Result<LogStartSource, StorageError> {
        let dir = Arc::clone(&self.place.log.dir);
        let path = dir.join(LOG_START_NAME);
        let found = if dir.is_dir() {
            read_log_start(&dir)?
        } else {
            LogStartFile::Absent
        };
        if let LogStartFile::Valid(owner, log_start) = found
            && owner.log == self.place.log.id
            && self
                .identity
                .is_none_or(|identity| identity == owner.identity)
        {
            self.identity = Some(owner.identity);
            self.removed = Some(log_start);
            if self.is_obscure {
                self.first_sequence = log_start.first_sequence;
                self.is_obscure = false;
            }
            return Ok(LogStartSource::Given);
        }
        let is_there = !matches!(found, LogStartFile::Absent);
        if lowest == Some(1) {
            if is_there {
                self.find(&path, Fault::UselessLogStart);
            }
            return Ok(LogStartSource::NotNeeded);
        }
        if lowest.is_some() || is_there {
            self.find(&path, Fault::NoLogStart);
        }
        Ok(LogStartSource::Lost)
    }

    /// What the base says, which like a checkpoint is evidence of what was durable: unless a server
    /// goes on making checkpoints.
    fn read_manifests(&mut self, usage: Usage) -> Result<Option<CheckpointMeta>, StorageError> {
        let Some(owner) = self.owner() else {
            return Ok(None);
        };
        let mut newest = None;
        for dir in self.place.checkpoint_dirs(owner) {
            newest = match dir.newest_meta() {
                Ok(meta) => meta,
                Err(CheckpointError::Storage(error)) => return Err(error),
                Err(_) => None,
            };
            let through = newest.map_or(Sequence::ZERO, |meta| meta.through);
            if usage == Usage::AtRest {
                self.place.known_durable = self.place.known_durable.max(through);
            }
        }
        // The base is the last of the two.
        Ok(newest)
    }

    /// Where a log begins whose `HORIZON` is lost: with its first segment, if that goes on where
    /// the base ends; else before it, as what is between is lost.
    fn log_start_by(
        &self,
        base: CheckpointMeta,
        sources: &BTreeMap<u64, Source>,
    ) -> Result<LogStart, StorageError> {
        let after_base = LogStart {
            first_ordinal: 1,
            first_sequence: base.through.next(),
            time_micros: base.time_micros,
        };
        let Some((&ordinal, source)) = sources.iter().next() else {
            return Ok(after_base);
        };
        let plausible = Plausible {
            lowest: self.first_sequence,
            highest: Sequence::new(u64::MAX >> 1),
        };
        let loaded = Loaded::read_source(source, self.identity, plausible)?;
        let run = loaded.content.runs.first();
        let stated = source.activation.map(|activation| activation.base);
        let first = stated.or_else(|| run.map(|run| run.first));
        Ok(match first {
            // Its time is the base's, which holds what was removed.
            Some(first) if first <= after_base.first_sequence => LogStart {
                first_ordinal: ordinal,
                first_sequence: first,
                ..after_base
            },
            _ => LogStart {
                first_ordinal: ordinal.saturating_sub(1).max(1),
                ..after_base
            },
        })
    }

    /// Notes where nothing is left of the state that a log begins with.
    fn note_base(&mut self, base: Option<CheckpointMeta>) {
        let (_, first) = self.start();
        let reaches = |meta: CheckpointMeta| meta.through.next() >= first;
        if first > self.first_sequence && !base.is_some_and(reaches) {
            let path = self.place.log.base_path();
            self.find(&path, Fault::NoBase);
            self.is_obscure = true;
        }
    }

    /// Whose files these are, if they say it.
    pub(crate) fn owner(&self) -> Option<Owner> {
        let log = self.place.log.id;
        self.identity.map(|identity| Owner { log, identity })
    }

    fn take_hint(&mut self, early: Early) {
        let Some(owner) = self.owner() else {
            return;
        };
        let dir = &self.place.log.dir;
        self.hint = if early.identity == self.identity {
            early.hint
        } else {
            watermark::read_hint(dir, owner)
        };
        if !watermark::is_whole(dir, owner) {
            let path = dir.join(layout::WATERMARK_NAME);
            self.find(&path, Fault::NoWatermark);
        }
    }

    fn note_unfinished(&mut self, names: &[String]) {
        for name in names {
            let whole = name.strip_suffix(layout::UNFINISHED);
            let is_ours = |name| layout::parse_segment(name).is_some() || name == LOG_START_NAME;
            if whole.is_some_and(is_ours) {
                let path = self.place.log.dir.join(name);
                self.find(&path, Fault::Unfinished);
            }
        }
    }

    fn find(&mut self, path: &Path, fault: Fault) {
        self.findings.push(ScrubFinding {
            path: path.into(),
            offset: None,
            fault,
        });
    }

    /// Gives each file its place.
    fn assign(&mut self, sources: BTreeMap<u64, Source>) {
        let mut placed: BTreeMap<u64, Source> = BTreeMap::new();
        let mut elsewhere = Vec::new();
        let (first, first_sequence) = self.start();
        for (ordinal, source) in sources {
            if ordinal < first {
                // A crash interrupted their removal.
                self.find(&source.path, Fault::Unfinished);
                continue;
            }
            match self.misplaced(&source, ordinal) {
                None => {
                    self.is_obscure |= matches!(source.fault, Some(Fault::NewerVersion { .. }));
                    placed.insert(ordinal, source);
                }
                Some(field) => {
                    self.find(&source.path, Fault::WrongPlace { field });
                    elsewhere.push((field, source));
                }
            }
        }
        for (field, source) in elsewhere {
            let own = source.header.map(|header| header.ordinal);
            match own.filter(|_| field == ORDINAL) {
                Some(ordinal) if !placed.contains_key(&ordinal) => {
                    placed.insert(ordinal, source);
                }
                _ => self.strays.push(source.path),
            }
        }
        let mut next = first;
        for (ordinal, source) in placed {
            if ordinal - next > MISSING_SEGMENTS_MAX {
                self.find(&source.path, Fault::WrongPlace { field: ORDINAL });
                self.strays.push(source.path);
                continue;
            }
            let missing = (next..ordinal).map(|ordinal| (ordinal, None));
            for (ordinal, source) in missing.chain([(ordinal, Some(source))]) {
                self.slots.push(self.slot(ordinal, source));
            }
            next = ordinal + 1;
        }
        let nothing_is_left = self.place.sealed && self.removed.is_some();
        let durable = self.hint.max(self.place.known_durable);
        if self.slots.is_empty() && (durable >= first_sequence || !nothing_is_left) {
            self.slots.push(self.slot(first, None));
        }
    }

    fn slot(&self, ordinal: u64, source: Option<Source>) -> Slot {
        let path = self
            .place
            .log
            .dir
            .join(layout::segment_name(ordinal))
            .into();
        Slot {
            ordinal,
            path,
            source,
        }
    }

    /// The first header field that says that a segment is not the one of its name. A damaged header
    /// says nothing.
    fn misplaced(&self, source: &Source, ordinal: u64) -> Option<&'static str> {
        let header = source.header.as_ref()?;
        let log = self.place.log.id;
        let fields = [
            ("generation", header.log.generation == log.generation),
            ("shard", header.log.shard == log.shard),
            ("shard count", header.log.shard_count == log.shard_count),
            ("identity", Some(header.identity) == self.identity),
            (
                "first sequence",
                header.first_sequence == self.first_sequence,
            ),
            (ORDINAL, header.ordinal == ordinal),
        ];
        let differs = fields.into_iter().find(|(_, same)| !same);
        differs.map(|(field, _)| field)
    }
}

/// The one field by which a segment of this log can differ from its place.
const ORDINAL: &str = "ordinal";

/// The segment files of a directory, by the ordinals of their names. Blocks.
pub(super) fn segments(dir: &Path) -> Result<BTreeMap<u64, Source>, StorageError> {
    let ordinals = layout::segment_ordinals(dir)?.into_iter();
    ordinals
        .map(|ordinal| {
            let source = Source::read(&dir.join(layout::segment_name(ordinal)))?;
            Ok((ordinal, source))
        })
        .collect()
}

/// The identity that most headers of the log state, or its watermark file if none does.
pub(super) fn identity(place: &ScrubPlace, sources: &BTreeMap<u64, Source>) -> Option<Identity> {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    let headers = sources.values().filter_map(|source| source.header);
    for header in headers.filter(|header| header.log == place.log.id) {
        *counts.entry(header.identity.0).or_default() += 1;
    }
    let stated = watermark::stated_identity(&place.log.dir);
    let most = counts
        .iter()
        .max_by_key(|(identity, count)| (**count, stated == Some(Identity(**identity))));
    most.map(|(identity, _)| Identity(*identity)).or(stated)
}
