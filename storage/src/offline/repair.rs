//! Making a damaged data directory one that a server opens, with every record that can still be
//! read.
//!
//! ```text
//! plan   lock → survey every log → steps, printed before anything is done
//! run    originals linked into the directory aside, durably
//!          → remade segments written whole under temporary names, flushed
//!          → renamed over the originals, useless ones removed, directory flushed
//! ```
//!
//! Records that are gone are replaced by a gap (`format::gap`), so that sequences stay what they
//! were. A crash in between leaves each segment old or new, and the next repair goes on from there;
//! whatever it does, the originals lie aside.
//!
//! What it does not do: nothing is guessed. A log of a newer program, a missing generation and a
//! log whose beginning nothing states are left alone, and the rest with them.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::files::{self, PAGE_BYTES, at};
use crate::disk::layout;
use crate::disk::lock::DirLock;
use crate::disk::random::{random_identity, random_world};
use crate::format::CrcSeed;
use crate::format::gap::{Gap, RECORD_KIND_GAP};
use crate::format::header::{Activation, HEADER_BYTES};
use crate::format::record::{append, record_bytes};
use crate::format::slot::Owner;
use crate::format::world::World;
use crate::log::log_start_file::write_log_start;
use crate::log::segment::{SegmentPlan, WriteSpeed};
use crate::offline::scrub::caches;
use crate::offline::scrub::content::visit_run;
use crate::offline::scrub::directory::Directory;
use crate::offline::scrub::finding::{ScrubFinding, Severity};
use crate::offline::scrub::listing::{Slot, Usage};
use crate::offline::scrub::load::read_file;
use crate::offline::scrub::log::{Item, LogScrub, SegmentScrub, Verdict, Watch};
use crate::offline::scrub::walk;
use crate::{BodyCheck, LogStart, Record, Sequence, StorageError};

/// A repair that has been planned and not begun. Holds the directory's lock.
#[derive(Debug)]
pub struct Repair {
    _lock: DirLock,
    root: PathBuf,
    directory: Directory,
    logs: Vec<LogScrub>,
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
        /// The file that its records are taken from, if it has any.
        from: Option<Box<Path>>,
        /// Records that it keeps.
        records: u64,
        /// Records that are given up, and gaps for them put in their place.
        gaps: Vec<Gap>,
    },
    /// A file of no use where it is goes aside.
    Quarantine,
    /// The file is written that says what retention removed.
    WriteLogStart {
        /// What it says.
        log_start: LogStart,
    },
}

impl Repair {
    /// Takes the lock, reads everything and decides what to do. Blocks; changes nothing but the
    /// lock file.
    ///
    /// # Errors
    ///
    /// `Locked` if a server has the directory open; `Missing` if it holds no logs; `Io`.
    pub fn plan(
        root: impl AsRef<Path>,
        body_check: BodyCheck,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, StorageError> {
        let root = root.as_ref().to_path_buf();
        // If there is no log there is nothing to lock either.
        Directory::read(&root, body_check)?;
        let lock = DirLock::acquire(&root)?;
        let directory = Directory::read(&root, body_check)?;
        let mut repair = Self {
            _lock: lock,
            root,
            directory,
            logs: Vec::new(),
        };
        repair.logs = repair.scrub(progress)?;
        Ok(repair)
    }

    fn scrub(&self, progress: &mut dyn FnMut(u64)) -> Result<Vec<LogScrub>, StorageError> {
        let places = self.directory.places.iter();
        let scrubs = places.map(|place| {
            let watch = Watch {
                usage: Usage::AtRest,
                from: Sequence::ZERO,
                visit: None,
                progress,
            };
            let mut scrub = walk::scrub(place, watch)?;
            caches::check(&mut scrub, progress)?;
            Ok(scrub)
        });
        scrubs.collect()
    }

    /// Everything that was found, notices included.
    pub fn findings(&self) -> impl Iterator<Item = &ScrubFinding> {
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
        let useless = |log: &LogScrub| {
            let paths = log.useless.clone().into_iter();
            paths.map(|path| RepairStep {
                path,
                action: RepairAction::Quarantine,
            })
        };
        let steps = self
            .logs
            .iter()
            .map(|log| steps(log).into_iter().chain(useless(log)));
        steps.flatten().collect()
    }

    /// Does it. `aside` is a directory that does not exist yet, in the data directory; originals go
    /// there, under their paths in the data directory. Blocks.
    ///
    /// # Errors
    ///
    /// `Io`, `OutOfSpace`, `ReadOnly`: originals are then if they were, or in quarantine, or both.
    ///
    /// # Panics
    ///
    /// If [`Repair::is_possible`] says no.
    pub fn run(self, quarantine: &Path) -> Result<(), StorageError> {
        assert!(self.is_possible(), "what can't be repaired is not begun");
        if self.steps().is_empty() {
            return Ok(());
        }
        at("create directory", quarantine, files::new_dir(quarantine))?;
        files::sync_dir(&self.root)?;
        let world = self.directory.world.unwrap_or_else(random_world);
        for scrub in &self.logs {
            let dir = &scrub.listing.place.log.dir;
            let below = dir.strip_prefix(&self.root).unwrap_or(dir);
            repair_log((scrub, world), &quarantine.join(below))?;
            quarantine_useless(scrub, (&self.root, quarantine))?;
        }
        Ok(())
    }
}

/// A segment's place, what was found there, and what is to become of it.
fn segments(scrub: &LogScrub) -> impl Iterator<Item = (&Slot, &SegmentScrub)> {
    scrub.listing.slots.iter().zip(&scrub.segments)
}

/// The files that a repair takes away from where they are, or replaces.
fn removed(scrub: &LogScrub) -> Vec<&Path> {
    let changed = segments(scrub).filter(|(_, segment)| segment.verdict != Verdict::Keep);
    let sources = changed.filter_map(|(slot, _)| Some(&*slot.source.as_ref()?.path));
    let strays = scrub.listing.strays.iter().map(AsRef::as_ref);
    let mut paths: Vec<&Path> = sources.chain(strays).collect();
    paths.sort_unstable();
    paths
}

fn steps(scrub: &LogScrub) -> Vec<RepairStep> {
    let remade = segments(scrub).filter(|(_, segment)| segment.verdict == Verdict::Remake);
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
    if let Some(log_start) = scrub.listing.lost_log_start {
        steps.push(RepairStep {
            path: scrub
                .listing
                .place
                .log
                .dir
                .join(layout::LOG_START_NAME)
                .into(),
            action: RepairAction::WriteLogStart { log_start },
        });
    }
    let made: Vec<&Path> = steps.iter().map(|step| &*step.path).collect();
    let quarantine: Vec<RepairStep> = removed(scrub)
        .into_iter()
        .filter(|path| !made.contains(path))
        .map(|path| RepairStep {
            path: path.into(),
            action: RepairAction::Quarantine,
        })
        .collect();
    steps.extend(quarantine);
    steps
}

/// Moves files outside of the log out of the way.
fn quarantine_useless(
    scrub: &LogScrub,
    (root, quarantine): (&Path, &Path),
) -> Result<(), StorageError> {
    for path in &scrub.useless {
        let Some(dir) = path.parent() else { continue };
        let to = quarantine.join(dir.strip_prefix(root).unwrap_or(dir));
        files::create_dir_all(&to)?;
        keep(path, &to)?;
        files::sync_dir(&to)?;
        files::remove(path, dir)?;
    }
    Ok(())
}

fn repair_log((scrub, world): (&LogScrub, World), quarantine: &Path) -> Result<(), StorageError> {
    let steps = steps(scrub);
    if steps.is_empty() {
        return Ok(());
    }
    let dir = &scrub.listing.place.log.dir;
    files::create_dir_all(dir)?;
    files::create_dir_all(quarantine)?;
    for path in removed(scrub) {
        keep(path, quarantine)?;
    }
    let log_start_path = dir.join(layout::LOG_START_NAME);
    if scrub.listing.lost_log_start.is_some() && log_start_path.exists() {
        keep(&log_start_path, quarantine)?;
    }
    files::sync_dir(quarantine)?;
    let owner = scrub.listing.owner().unwrap_or_else(|| Owner {
        log: scrub.listing.place.log.id,
        identity: random_identity(),
    });
    if let Some(log_start) = scrub.listing.lost_log_start {
        write_log_start(dir, owner, log_start)?;
    }
    let made = make_all(scrub, (owner, world));
    if made.is_err() {
        // What it took of a full disk is given back. If even this fails, opening removes it.
        for (slot, _) in segments(scrub) {
            files::hint(fs::remove_file(layout::unfinished(&slot.path)));
        }
    }
    for (unfinished, path) in made? {
        files::rename_undurably(&unfinished, path)?;
        drop_index(path, quarantine)?;
    }
    // From the end to the front, so that a crash in between leaves no hole.
    for step in steps.iter().rev() {
        if step.action == RepairAction::Quarantine {
            files::remove_undurably(&step.path)?;
            drop_index(&step.path, quarantine)?;
        }
    }
    files::sync_dir(quarantine)?;
    files::sync_dir(dir)
}

/// Makes the segments that have to be made anew, under temporary names, which it returns with their
/// own.
fn make_all(
    scrub: &LogScrub,
    (owner, world): (Owner, World),
) -> Result<Vec<(PathBuf, &Path)>, StorageError> {
    let mut made = Vec::new();
    // A gap before all that is left gets the time of the first record after it.
    let mut clock = Clock {
        last_micros: scrub.summary.first.map_or(0, |mark| mark.time_micros),
    };
    for (slot, segment) in segments(scrub) {
        if segment.verdict == Verdict::Remake {
            made.push((
                remake(scrub, (slot, segment), (owner, world, clock))?,
                &*slot.path,
            ));
        }
        for item in &segment.items {
            clock.pass(item);
        }
    }
    Ok(made)
}

/// Gives a file a second name in the directory aside, or copies it if the file system has no hard
/// links.
fn keep(path: &Path, quarantine: &Path) -> Result<(), StorageError> {
    let Some(name) = path.file_name() else {
        return Ok(());
    };
    let kept = quarantine.join(name);
    if fs::hard_link(path, &kept).is_ok() {
        return Ok(());
    }
    at("copy", path, fs::copy(path, &kept))?;
    files::sync_data(&files::open_read(&kept)?, &kept)
}

/// Sets the index of a segment that is another now aside; it is made anew when it is needed.
fn drop_index(segment: &Path, quarantine: &Path) -> Result<(), StorageError> {
    let index = layout::index_path(segment);
    if !index.exists() {
        return Ok(());
    }
    keep(&index, quarantine)?;
    files::remove_undurably(&index)
}

/// The time that a gap gets: that of the record before it.
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
    scrub: &LogScrub,
    (slot, segment): (&Slot, &SegmentScrub),
    (owner, world, clock): (Owner, World, Clock),
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
        dir: Arc::clone(&scrub.listing.place.log.dir),
        owner,
        world,
        ordinal: slot.ordinal,
        capacity: capacity.max(needed).next_multiple_of(PAGE_BYTES as u64),
        first_sequence: scrub.listing.first_sequence,
        leave_bytes: 0,
    };
    let activation = Activation {
        base: segment.base,
        durable: source
            .and_then(|source| source.activation)
            .map_or(Sequence::ZERO, |activation| activation.durable),
    };
    let path = layout::unfinished(&slot.path);
    let (header, file) = plan.write(&path, Some(activation), &mut |_| WriteSpeed::Full)?;
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

/// The records of a segment, with another seed, and gaps for lost ones.
fn records(original: &[u8], segment: &SegmentScrub, seed: CrcSeed, mut clock: Clock) -> Vec<u8> {
    let mut records = Vec::new();
    for item in &segment.items {
        match item {
            Item::Gap(gap) => {
                let record = Record {
                    sequence: gap.last,
                    time_micros: clock.last_micros,
                    kind: RECORD_KIND_GAP,
                    group: None,
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
