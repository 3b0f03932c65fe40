//! The data directory: its lock, and the generations of logs in it.
//!
//! A *generation* is a period written with one number of shards. Opening with the same number goes
//! on with the newest; opening with another seals it and makes a new one, whose sequences come
//! after all older ones:
//!
//! ```text
//! log/000001/000-of-001                    1 ........ 40      sealed
//! log/000002/000-of-002, 001-of-002        41 .. 57, 41 .. 62 sealed
//! log/000003/000-of-001                    63 ...             newest
//! ```
//!
//! A generation is made whole under a `.tmp` name and then renamed, so that it is there with all
//! its shards or not at all. There is no manifest: everything follows from the names and the
//! segment headers.
//!
//! Beside them is the control log, in `control/`: one for the whole directory, of no generation, so
//! that no change of the number of shards touches it. It is made when it is first asked for.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::disk::files;
use crate::disk::lock::DirLock;
use crate::disk::random::random_identity;
use crate::disk::{ballast, foreign, layout, links};
use crate::format::header::{Activation, HEADER_BYTES, LogId};
use crate::format::record::RECORD_HEAD_BYTES;
use crate::format::slot::Owner;
use crate::format::world::{World, WorldFile};
use crate::log::log_dir::LogDir;
use crate::log::place::LogPlace;
use crate::log::recovery::recover;
use crate::log::retention;
use crate::log::sealed::{SealedGeneration, SealedLog};
use crate::log::segment::{SegmentPlan, WriteSpeed};
use crate::log::watermark::Watermark;
use crate::log::world_file;
use crate::{LogOptions, Record, ReplayError, Sequence, StorageError};

/// An open, locked data directory. The lock is held until this and everything taken from it are
/// gone.
#[derive(Debug)]
pub struct DataDir {
    root: Arc<Path>,
    world: World,
    lock: Arc<DirLock>,
    sealed: Vec<SealedGeneration>,
    /// The newest generation's logs by shard, each until it is taken.
    logs: Vec<Option<LogDir>>,
    is_control_taken: AtomicBool,
}

impl DataDir {
    /// Opens the directory for `shard_count` shards, making it if it does not exist. Blocks; if the
    /// number of shards has changed, for as long as it takes to read the newest generation once.
    ///
    /// # Errors
    ///
    /// As for [`DataDir::open_covered`].
    ///
    /// # Panics
    ///
    /// If `shard_count` is 0.
    pub fn open(
        root: impl AsRef<Path>,
        shard_count: u32,
        options: LogOptions,
    ) -> Result<Self, StorageError> {
        Self::open_covered(root, shard_count, options, |_| Sequence::ZERO)
    }

    /// Opens the directory as [`DataDir::open`] does. If the number of shards has changed,
    /// `covered` says of each log of the newest generation through which sequence a checkpoint
    /// covers it: only what comes after is read.
    ///
    /// # Errors
    ///
    /// `Locked` if another server has it open; `Missing` or one of the other kinds of damage;
    /// `BehindCheckpoint` if a log ends before what `covered` said of it; `OutOfSpace`, `ReadOnly`,
    /// `Io`.
    ///
    /// # Panics
    ///
    /// If `shard_count` is 0.
    pub fn open_covered(
        root: impl AsRef<Path>,
        shard_count: u32,
        options: LogOptions,
        covered: impl FnMut(&LogDir) -> Sequence,
    ) -> Result<Self, StorageError> {
        assert!(shard_count > 0, "a data directory has at least one shard");
        let root = root.as_ref();
        foreign::check(root)?;
        links::check(root)?;
        files::create_dir_all(root)?;
        let lock = Arc::new(DirLock::acquire(root)?);
        layout::sync_names(root)?;
        let dir = root.join(layout::LOG_NAME);
        let mut newest = if dir.is_dir() {
            layout::newest_generation(&dir)?
        } else {
            0
        };
        layout::check_not_gone(root, newest)?;
        files::create_dir(&dir)?;
        layout::remove_unfinished_generation(&dir)?;
        let stated = world_file::read(root)?;
        let generations = Generations {
            world: world_file::of_logs(stated, &log_dirs(root, newest)?)?,
            root: root.into(),
            dir,
            options,
            lock: Arc::clone(&lock),
        };
        let found = if newest == 0 {
            None
        } else {
            Some(generations.shard_count(newest)?)
        };
        if found != Some(shard_count) {
            let first = if newest == 0 {
                Sequence::new(1)
            } else {
                generations.seal(newest, covered)?.next()
            };
            newest += 1;
            generations.make(newest, shard_count, first)?;
        }
        if stated.is_none() {
            let file = WorldFile {
                world: generations.world,
                has_control: root.join(layout::CONTROL_NAME).is_dir(),
            };
            world_file::write(root, file)?;
        }
        let sealed = (1..newest).map(|generation| generations.sealed(generation));
        Ok(Self {
            root: root.into(),
            world: generations.world,
            lock,
            sealed: sealed.collect::<Result<_, _>>()?,
            logs: generations
                .logs(newest, shard_count)
                .into_iter()
                .map(Some)
                .collect(),
            is_control_taken: AtomicBool::new(false),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Where the checkpoints of a shard's log are kept, whether there are any or not.
    pub fn checkpoint_path(&self, generation: u32, shard: u32, shard_count: u32) -> PathBuf {
        let log = LogId {
            generation,
            shard,
            shard_count,
        };
        layout::checkpoint_path(&self.root, log)
    }

    /// Where the state is kept that a shard's log begins with, whether there is one or not.
    pub fn base_path(&self, generation: u32, shard: u32, shard_count: u32) -> PathBuf {
        let log = LogId {
            generation,
            shard,
            shard_count,
        };
        layout::base_path(&self.root, log)
    }

    /// Whether the control log is missing although there was one, or although there are records
    /// whose namespaces it would name the owners of. False at a first start that was cut off before
    /// it made one. Blocks.
    ///
    /// # Errors
    ///
    /// What is wrong with the names or the headers of a log.
    pub fn lacks_control(&self) -> Result<bool, StorageError> {
        if self.control_path().is_dir() {
            return Ok(false);
        }
        if !self.sealed.is_empty() || world_file::read(&self.root)?.is_some_and(|it| it.has_control)
        {
            return Ok(true);
        }
        for dir in log_dirs(&self.root, 1)? {
            if !is_untouched(&dir)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where the control log is kept, whether there is one or not.
    pub fn control_path(&self) -> PathBuf {
        self.root.join(layout::CONTROL_NAME)
    }

    /// The generations before the newest, oldest first: replay each wholly before the next, and all
    /// of them before the logs.
    pub fn sealed_generations(&self) -> &[SealedGeneration] {
        &self.sealed
    }

    /// Takes so many bytes of the disk, really written, to be given back when it is full; if they
    /// were taken before nothing happens. Without them everything works, as long as there is room.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// `OutOfSpace`, `ReadOnly` or `Io`; nothing is left half made.
    pub fn make_ballast(&self, bytes: u64) -> Result<(), StorageError> {
        ballast::make(&self.root, bytes)
    }

    /// Gives the ballast back, so that what is needed to shut down can be written; false if there
    /// was none. Blocks.
    ///
    /// # Errors
    ///
    /// `ReadOnly` or `Io`.
    pub fn release_ballast(&self) -> Result<bool, StorageError> {
        ballast::release(&self.root)
    }

    /// The log of a shard, for its thread to open.
    ///
    /// # Panics
    ///
    /// If there is no such shard or its log was taken before: a log has one owner.
    pub fn take_log(&mut self, shard: u32) -> LogDir {
        let slot = usize::try_from(shard)
            .ok()
            .and_then(|shard| self.logs.get_mut(shard));
        slot.and_then(Option::take)
            .expect("each shard's log is taken once")
    }

    /// The control log, for its owner to open: made if it does not exist, as in a directory of a
    /// program that knew none. The number of shards does not concern it. Blocks.
    ///
    /// # Errors
    ///
    /// `OutOfSpace`, `ReadOnly` or `Io`; nothing is left half made, and it can be asked for again.
    ///
    /// # Panics
    ///
    /// If it was taken before: a log has one owner.
    pub fn take_control_log(&self, options: LogOptions) -> Result<LogDir, StorageError> {
        let dir = self.control_path();
        make_control(&self.root, &dir, (options, self.world))?;
        if let Some(file) = world_file::read(&self.root)?
            && !file.has_control
        {
            let has_control = true;
            world_file::write(
                &self.root,
                WorldFile {
                    has_control,
                    ..file
                },
            )?;
        }
        let was_taken = self.is_control_taken.swap(true, Ordering::Relaxed);
        assert!(!was_taken, "the control log is taken once");
        let place = LogPlace {
            root: Arc::clone(&self.root),
            dir: dir.into(),
            id: LogId::CONTROL,
        };
        Ok(LogDir {
            place,
            world: self.world,
            options,
            lock: Arc::clone(&self.lock),
        })
    }
}

/// The directories of all logs, those of generations up to `newest` and the control log.
fn log_dirs(root: &Path, newest: u32) -> Result<Vec<PathBuf>, StorageError> {
    let log_dir = root.join(layout::LOG_NAME);
    let mut dirs = Vec::new();
    for generation in 1..=newest {
        let dir = log_dir.join(layout::generation_name(generation));
        let shard_count = layout::shard_count(&dir)?;
        dirs.extend((0..shard_count).map(|shard| {
            dir.join(layout::shard_name(LogId {
                generation,
                shard,
                shard_count,
            }))
        }));
    }
    let control = root.join(layout::CONTROL_NAME);
    dirs.extend(control.is_dir().then_some(control));
    Ok(dirs)
}

/// Makes the control log where there is none: whole, then named.
fn make_control(
    root: &Path,
    dir: &Path,
    (options, world): (LogOptions, World),
) -> Result<(), StorageError> {
    let unfinished = layout::unfinished(dir);
    if unfinished.exists() {
        files::at(
            "remove unfinished",
            &unfinished,
            fs::remove_dir_all(&unfinished),
        )?;
        files::sync_dir(root)?;
    }
    if dir.exists() {
        return Ok(());
    }
    let made = make_log(
        &unfinished.as_path().into(),
        (LogId::CONTROL, world),
        (options, Sequence::new(1)),
    );
    if made.is_err() {
        // What it took of a full disk is given back. If even this fails, the next attempt removes
        // it.
        files::hint(fs::remove_dir_all(&unfinished));
    }
    made?;
    files::rename(&unfinished, dir, root)
}

/// Whether a log has its first segment only, and no record in it.
fn is_untouched(dir: &Path) -> Result<bool, StorageError> {
    if layout::segment_ordinals(dir)? != [1] {
        return Ok(false);
    }
    let path = dir.join(layout::segment_name(1));
    let mut head = [0; RECORD_HEAD_BYTES];
    let read = files::open_read(&path)?.read_exact_at(&mut head, HEADER_BYTES as u64);
    files::at("read", &path, read)?;
    Ok(head.iter().all(|&byte| byte == 0))
}

/// Makes a log with its first segment.
fn make_log(
    dir: &Arc<Path>,
    (log, world): (LogId, World),
    (options, first_sequence): (LogOptions, Sequence),
) -> Result<(), StorageError> {
    files::create_dir(dir)?;
    let durable = first_sequence.previous();
    let owner = Owner {
        log,
        identity: random_identity(),
    };
    let plan = SegmentPlan {
        dir: Arc::clone(dir),
        owner,
        world,
        ordinal: 1,
        capacity: options.first_capacity(),
        first_sequence,
        leave_bytes: 0,
    };
    let activation = Activation {
        base: first_sequence,
        durable,
    };
    plan.create(Some(activation), &mut |_| WriteSpeed::Full)?;
    drop(Watermark::open(dir, owner, durable)?);
    Ok(())
}

/// The directory of generations, and what their logs share.
struct Generations {
    root: Arc<Path>,
    dir: PathBuf,
    world: World,
    options: LogOptions,
    lock: Arc<DirLock>,
}

impl Generations {
    fn path(&self, generation: u32) -> PathBuf {
        self.dir.join(layout::generation_name(generation))
    }

    fn shard_count(&self, generation: u32) -> Result<u32, StorageError> {
        layout::shard_count(&self.path(generation))
    }

    fn logs(&self, generation: u32, shard_count: u32) -> Vec<LogDir> {
        let log = |shard| {
            let id = LogId {
                generation,
                shard,
                shard_count,
            };
            let dir = self.path(generation).join(layout::shard_name(id)).into();
            let place = LogPlace {
                root: Arc::clone(&self.root),
                dir,
                id,
            };
            LogDir {
                place,
                world: self.world,
                options: self.options,
                lock: Arc::clone(&self.lock),
            }
        };
        (0..shard_count).map(log).collect()
    }

    fn sealed(&self, generation: u32) -> Result<SealedGeneration, StorageError> {
        let logs = self.logs(generation, self.shard_count(generation)?);
        for log in &logs {
            retention::finish(&log.dir, log.id)?;
            layout::remove_stale_indexes(&log.dir, &(0..u64::MAX))?;
        }
        let seal = |log: LogDir| SealedLog {
            place: log.place,
            index_key: log.options.index_key,
            lock: log.lock,
        };
        Ok(SealedGeneration {
            generation,
            logs: logs.into_iter().map(seal).collect(),
        })
    }

    /// Recovers every log of a generation and leaves it as it will stay. Returns the last sequence
    /// of all.
    fn seal(
        &self,
        generation: u32,
        mut covered: impl FnMut(&LogDir) -> Sequence,
    ) -> Result<Sequence, StorageError> {
        let mut last = Sequence::ZERO;
        for log in self.logs(generation, self.shard_count(generation)?) {
            let covered = covered(&log);
            let from = (covered > Sequence::ZERO).then(|| covered.next());
            let recovered = recover(&log, from, ignore).map_err(storage_error)?;
            let end = recovered.end.position.next.previous();
            if recovered.next_segment
                && let Some(next_segment) = recovered.files.segments.last()
            {
                files::remove(&next_segment.path, &log.dir)?;
            }
            drop(Watermark::open(&log.dir, recovered.files.owner, end)?);
            last = last.max(end);
        }
        Ok(last)
    }

    /// Makes a generation whose logs begin with `first_sequence`: whole, then named.
    fn make(
        &self,
        generation: u32,
        shard_count: u32,
        first_sequence: Sequence,
    ) -> Result<(), StorageError> {
        let path = self.path(generation);
        let unfinished = layout::unfinished(&path);
        let made = self.fill(
            &unfinished,
            LogId {
                generation,
                shard: 0,
                shard_count,
            },
            first_sequence,
        );
        if made.is_err() {
            // What it took of a full disk is given back. If even this fails, opening removes it.
            files::hint(fs::remove_dir_all(&unfinished));
        }
        made?;
        files::rename(&unfinished, &path, &self.dir)
    }

    fn fill(&self, path: &Path, id: LogId, first_sequence: Sequence) -> Result<(), StorageError> {
        files::create_dir(path)?;
        for shard in 0..id.shard_count {
            let log = LogId { shard, ..id };
            let dir = path.join(layout::shard_name(log)).into();
            make_log(&dir, (log, self.world), (self.options, first_sequence))?;
        }
        files::sync_dir(path)
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "a visitor may refuse; this one never does"
)]
fn ignore(_: Record<'_>) -> Result<(), std::convert::Infallible> {
    Ok(())
}

fn storage_error(error: ReplayError<std::convert::Infallible>) -> StorageError {
    match error {
        ReplayError::Storage(error) => error,
        ReplayError::Visit(never) => match never {},
    }
}
