//! Making a damaged data directory one that a server opens, with every record that can still be read.
//!
//! ```text
//! plan   lock → survey every log → steps, printed before anything is done
//! run    originals linked into the directory aside, durably
//!          → remade segments written whole under temporary names, flushed
//!          → renamed over the originals, useless ones removed, directory flushed
//! ```
//!
//! Records that are gone are replaced by a gap (`format::gap`), so that sequences stay what they were. A crash
//! in between leaves each segment old or new, and the next repair goes on from there; whatever it does, the originals
//! lie aside.
//!
//! What it does not do: nothing is guessed. A log of a newer program, a missing generation and a log whose beginning
//! nothing states are left alone, and the rest with them.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::{self, PAGE_BYTES, at};
use crate::format::CrcSeed;
use crate::format::gap::{Gap, RECORD_KIND_GAP};
use crate::format::header::{Activation, HEADER_BYTES};
use crate::format::record::{encode, record_bytes};
use crate::format::slot::Owner;
use crate::lock::DirLock;
use crate::retention::write_horizon;
use crate::segment::{Haste, SegmentPlan, random_identity};
use crate::survey::caches;
use crate::survey::content::visit_run;
use crate::survey::directory::Directory;
use crate::survey::finding::{Finding, Severity};
use crate::survey::listing::{Slot, Usage};
use crate::survey::load::read_file;
use crate::survey::log::{Item, LogSurvey, SegmentSurvey, Verdict, Watch};
use crate::survey::walk;
use crate::{BodyCheck, Horizon, Record, Sequence, StorageError, layout};

/// A repair that has been planned and not begun. Holds the directory's lock.
#[derive(Debug)]
pub struct Repair {
    _lock: DirLock,
    root: PathBuf,
    directory: Directory,
    logs: Vec<LogSurvey>,
}

/// One thing that a repair does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairStep {
    /// The file that it is done to.
    pub path: Box<Path>,
    /// What is done.
    pub action: RepairAction,
}

/// What a repair does to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepairAction {
    /// A segment is written anew.
    Remake {
        /// The file that its records are taken from, where it has any.
        from: Option<Box<Path>>,
        /// Records that it keeps.
        records: u64,
        /// Records that are given up, and gaps for them put in their place.
        gaps: Vec<Gap>,
    },
    /// A file of no use where it is goes aside.
    SetAside,
    /// The file is written that says what retention removed.
    WriteHorizon {
        /// What it says.
        horizon: Horizon,
    },
}

impl Repair {
    /// Takes the lock, reads everything and decides what to do. Blocks; changes nothing but the lock file.
    ///
    /// # Errors
    ///
    /// `Locked` where a server has the directory open; `Missing` where it holds no logs; `Io`.
    pub fn plan(
        root: impl AsRef<Path>,
        body_check: BodyCheck,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, StorageError> {
        let root = root.as_ref().to_path_buf();
        // Where there is no log there is nothing to lock either.
        Directory::read(&root, body_check)?;
        let lock = DirLock::acquire(&root)?;
        let directory = Directory::read(&root, body_check)?;
        let mut repair = Self {
            _lock: lock,
            root,
            directory,
            logs: Vec::new(),
        };
        repair.logs = repair.survey(progress)?;
        Ok(repair)
    }

    fn survey(&self, progress: &mut dyn FnMut(u64)) -> Result<Vec<LogSurvey>, StorageError> {
        let places = self.directory.places.iter();
        let surveys = places.map(|place| {
            let watch = Watch {
                usage: Usage::AtRest,
                from: Sequence::ZERO,
                visit: None,
                progress,
            };
            let mut survey = walk::survey(place, watch)?;
            caches::check(&mut survey, progress)?;
            Ok(survey)
        });
        surveys.collect()
    }

    /// Everything that was found, notices included.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        let logs = self.logs.iter().flat_map(|log| &log.findings);
        self.directory.findings.iter().chain(logs)
    }

    /// Whether something needs repair.
    pub fn is_needed(&self) -> bool {
        self.findings()
            .any(|finding| finding.fault.severity() == Severity::Damage)
    }

    /// Whether all of it can be repaired.
    pub fn is_possible(&self) -> bool {
        !self.directory.is_obscure && self.logs.iter().all(|log| !log.is_obscure)
    }

    /// What [`Repair::run`] would do, in its order.
    pub fn steps(&self) -> Vec<RepairStep> {
        let useless = |log: &LogSurvey| {
            let paths = log.useless.clone().into_iter();
            paths.map(|path| RepairStep {
                path,
                action: RepairAction::SetAside,
            })
        };
        let steps = self
            .logs
            .iter()
            .map(|log| steps(log).into_iter().chain(useless(log)));
        steps.flatten().collect()
    }

    /// Does it. `aside` is a directory that does not exist yet, in the data directory; originals go there, under
    /// their paths in the data directory. Blocks.
    ///
    /// # Errors
    ///
    /// `Io`, `OutOfSpace`, `ReadOnly`: originals are then where they were, or aside, or both.
    ///
    /// # Panics
    ///
    /// Where [`Repair::is_possible`] says no.
    pub fn run(self, aside: &Path) -> Result<(), StorageError> {
        assert!(self.is_possible(), "what can't be repaired is not begun");
        if self.steps().is_empty() {
            return Ok(());
        }
        at("create directory", aside, fs::create_dir(aside))?;
        files::sync_dir(&self.root)?;
        for survey in &self.logs {
            let dir = &survey.listing.place.dir;
            let below = dir.strip_prefix(&self.root).unwrap_or(dir);
            repair_log(survey, &aside.join(below))?;
            set_aside_useless(survey, (&self.root, aside))?;
        }
        Ok(())
    }
}

/// A segment's place, what was found there, and what is to become of it.
fn segments(survey: &LogSurvey) -> impl Iterator<Item = (&Slot, &SegmentSurvey)> {
    survey.listing.slots.iter().zip(&survey.segments)
}

/// The files that a repair takes away from where they are, or replaces.
fn removed(survey: &LogSurvey) -> Vec<&Path> {
    let changed = segments(survey).filter(|(_, segment)| segment.verdict != Verdict::Keep);
    let sources = changed.filter_map(|(slot, _)| Some(&*slot.source.as_ref()?.path));
    let strays = survey.listing.strays.iter().map(AsRef::as_ref);
    let mut paths: Vec<&Path> = sources.chain(strays).collect();
    paths.sort_unstable();
    paths
}

fn steps(survey: &LogSurvey) -> Vec<RepairStep> {
    let remade = segments(survey).filter(|(_, segment)| segment.verdict == Verdict::Remake);
    let mut steps: Vec<RepairStep> = remade
        .map(|(slot, segment)| {
            let runs = segment.items.iter().filter_map(|item| match item {
                Item::Run(run) => Some(run.records),
                Item::Gap(_) => None,
            });
            let gaps = segment.items.iter().filter_map(|item| match item {
                Item::Gap(gap) => Some(*gap),
                Item::Run(_) => None,
            });
            let records = runs.sum();
            let from = slot.source.as_ref().map(|source| source.path.clone());
            let action = RepairAction::Remake {
                from: from.filter(|_| records > 0),
                records,
                gaps: gaps.collect(),
            };
            RepairStep {
                path: slot.path.clone(),
                action,
            }
        })
        .collect();
    if let Some(horizon) = survey.listing.lost_horizon {
        steps.push(RepairStep {
            path: survey.listing.place.dir.join(layout::HORIZON_NAME).into(),
            action: RepairAction::WriteHorizon { horizon },
        });
    }
    let made: Vec<&Path> = steps.iter().map(|step| &*step.path).collect();
    let aside: Vec<RepairStep> = removed(survey)
        .into_iter()
        .filter(|path| !made.contains(path))
        .map(|path| RepairStep {
            path: path.into(),
            action: RepairAction::SetAside,
        })
        .collect();
    steps.extend(aside);
    steps
}

/// Moves files outside of the log out of the way.
fn set_aside_useless(
    survey: &LogSurvey,
    (root, aside): (&Path, &Path),
) -> Result<(), StorageError> {
    for path in &survey.useless {
        let Some(dir) = path.parent() else { continue };
        let to = aside.join(dir.strip_prefix(root).unwrap_or(dir));
        files::create_dir_all(&to)?;
        keep(path, &to)?;
        files::sync_dir(&to)?;
        files::remove(path, dir)?;
    }
    Ok(())
}

fn repair_log(survey: &LogSurvey, aside: &Path) -> Result<(), StorageError> {
    let steps = steps(survey);
    if steps.is_empty() {
        return Ok(());
    }
    let dir = &survey.listing.place.dir;
    files::create_dir_all(dir)?;
    files::create_dir_all(aside)?;
    for path in removed(survey) {
        keep(path, aside)?;
    }
    let horizon_path = dir.join(layout::HORIZON_NAME);
    if survey.listing.lost_horizon.is_some() && horizon_path.exists() {
        keep(&horizon_path, aside)?;
    }
    files::sync_dir(aside)?;
    let owner = survey.listing.owner().unwrap_or_else(|| Owner {
        log: survey.listing.place.id,
        identity: random_identity(),
    });
    if let Some(horizon) = survey.listing.lost_horizon {
        write_horizon(dir, owner, horizon)?;
    }
    let made = make_all(survey, owner);
    if made.is_err() {
        // What it took of a full disk is given back. Where even this fails, opening removes it.
        for (slot, _) in segments(survey) {
            files::hint(fs::remove_file(layout::unfinished(&slot.path)));
        }
    }
    for (unfinished, path) in made? {
        files::rename_undurably(&unfinished, path)?;
        drop_index(path, aside)?;
    }
    // From the end to the front, so that a crash in between leaves no hole.
    for step in steps.iter().rev() {
        if step.action == RepairAction::SetAside {
            files::remove_undurably(&step.path)?;
            drop_index(&step.path, aside)?;
        }
    }
    files::sync_dir(aside)?;
    files::sync_dir(dir)
}

/// Makes the segments that have to be made anew, under temporary names, which it returns with their own.
fn make_all(survey: &LogSurvey, owner: Owner) -> Result<Vec<(PathBuf, &Path)>, StorageError> {
    let mut made = Vec::new();
    // A gap before all that is left gets the time of the first record after it.
    let mut clock = Clock {
        last_micros: survey.summary.first.map_or(0, |mark| mark.time_micros),
    };
    for (slot, segment) in segments(survey) {
        if segment.verdict == Verdict::Remake {
            made.push((
                remake(survey, (slot, segment), (owner, clock))?,
                &*slot.path,
            ));
        }
        for item in &segment.items {
            clock.pass(item);
        }
    }
    Ok(made)
}

/// Gives a file a second name in the directory aside, or copies it where the file system has one name for a file.
fn keep(path: &Path, aside: &Path) -> Result<(), StorageError> {
    let Some(name) = path.file_name() else {
        return Ok(());
    };
    let kept = aside.join(name);
    if fs::hard_link(path, &kept).is_ok() {
        return Ok(());
    }
    at("copy", path, fs::copy(path, &kept))?;
    files::sync_data(&files::open_read(&kept)?, &kept)
}

/// Sets the index of a segment that is another now aside; it is made anew when it is needed.
fn drop_index(segment: &Path, aside: &Path) -> Result<(), StorageError> {
    let index = layout::index_path(segment);
    if !index.exists() {
        return Ok(());
    }
    keep(&index, aside)?;
    files::remove_undurably(&index)
}

/// The time that a gap gets: that of the record before it, so that times never fall within a log.
#[derive(Debug, Clone, Copy)]
struct Clock {
    last_micros: i64,
}

impl Clock {
    fn pass(&mut self, item: &Item) {
        if let Item::Run(run) = item {
            self.last_micros = run.last_micros;
        }
    }
}

/// Writes a segment anew, whole and durable, under a temporary name, which it returns.
fn remake(
    survey: &LogSurvey,
    (slot, segment): (&Slot, &SegmentSurvey),
    (owner, clock): (Owner, Clock),
) -> Result<PathBuf, StorageError> {
    let source = slot.source.as_ref();
    let original = match source {
        Some(source) => read_file(&source.path, source.size)?.0,
        None => Vec::new(),
    };
    let record_bytes: usize = segment.items.iter().map(item_bytes).sum();
    let stated = source.and_then(|source| source.header);
    let capacity = stated.map_or(original.len() as u64, |header| header.capacity);
    let needed = (HEADER_BYTES + record_bytes.max(PAGE_BYTES)) as u64;
    let plan = SegmentPlan {
        dir: Arc::clone(&survey.listing.place.dir),
        owner,
        ordinal: slot.ordinal,
        capacity: capacity.max(needed).next_multiple_of(PAGE_BYTES as u64),
        first_sequence: survey.listing.first_sequence,
        leave_bytes: 0,
    };
    let activation = Activation {
        base: segment.base,
        durable: source
            .and_then(|source| source.activation)
            .map_or(Sequence::ZERO, |activation| activation.durable),
    };
    let path = layout::unfinished(&slot.path);
    let (header, file) = plan.write(&path, Some(activation), &mut |_| Haste::Hurries)?;
    let records = records(&original, segment, header.salt.seed(), clock);
    assert!(
        records.len() == record_bytes,
        "a locked file stays as it was surveyed"
    );
    // In small writes, which the page cache keeps in small folios: see `segment`.
    for (index, page) in records.chunks(PAGE_BYTES).enumerate() {
        let offset = (HEADER_BYTES + index * PAGE_BYTES) as u64;
        files::write_at("write", (&file, &path), page, offset)?;
    }
    files::sync_data(&file, &path)?;
    Ok(path)
}

/// The records of a segment, with another seed, and gaps for those that are gone.
fn records(original: &[u8], segment: &SegmentSurvey, seed: CrcSeed, mut clock: Clock) -> Vec<u8> {
    let mut records = Vec::new();
    for item in &segment.items {
        match item {
            Item::Gap(gap) => {
                let record = Record {
                    sequence: gap.last,
                    time_micros: clock.last_micros,
                    kind: RECORD_KIND_GAP,
                    payload: &gap.encode(),
                };
                // What came before the lost records was durable, since some of them were.
                append(&mut records, seed, record, gap.first.previous());
            }
            Item::Run(run) => {
                let old = segment.seed.expect("records were read with a seed");
                let visited = visit_run(original, old, run, |stored| {
                    append(&mut records, seed, stored.record, stored.durable);
                    ControlFlow::<()>::Continue(())
                });
                assert!(visited.is_continue(), "the visitor never breaks");
            }
        }
        clock.pass(item);
    }
    records
}

fn item_bytes(item: &Item) -> usize {
    match item {
        Item::Run(run) => run.bytes.len(),
        Item::Gap(gap) => record_bytes(gap.encode().len()),
    }
}

fn append(records: &mut Vec<u8>, seed: CrcSeed, record: Record<'_>, durable: Sequence) {
    let start = records.len();
    records.resize(start + record_bytes(record.payload.len()), 0);
    encode(&mut records[start..], seed, record, durable);
}
