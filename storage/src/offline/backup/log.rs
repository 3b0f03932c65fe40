//! Copying logs beside the server that writes to them, each with its base and its newest
//! checkpoint.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copy::{self, Copy, Meter, Sum};
use super::list::{self, List, ListedFile};
use super::target::Target;
use super::{BackupError, BackupOptions, BackupSummary, CopyObserver, LogPosition};
use crate::disk::files::{self, at};
use crate::disk::layout;
use crate::format::slot::Owner;
use crate::log::log_files::LogFiles;
use crate::log::log_start_file::{LogStartFile, read_log_start, write_log_start};
use crate::log::watermark::{self, Watermark};
use crate::offline::read_only::{LogEnd, LogView, ReadSegment, is_overtaken, walk};
use crate::{
    CheckpointDir, CheckpointError, CheckpointKind, CheckpointMeta, DataView, LayerError,
    LogOrigin, ReplayError, Sequence,
};

/// How often a log is copied while files of it vanish. Retention removes a few segments and then
/// nothing for a while.
const TRIES: usize = 5;

/// Copies the data directory `root`, which a server may be writing to, to `target`, which must not
/// exist or be empty. Everything that was durable when this began is in the copy. Takes memory for
/// one segment. Blocks.
///
/// # Errors
///
/// [`BackupError`]; then nothing is at the target.
pub fn backup(
    root: &Path,
    target: &Path,
    options: BackupOptions,
    progress: CopyObserver<'_>,
) -> Result<BackupSummary, BackupError> {
    let view = DataView::open(root)?;
    let target = Target::begin(target)?;
    let total = [
        layout::LOG_NAME,
        layout::CHECKPOINTS_NAME,
        layout::BASE_NAME,
        layout::CONTROL_NAME,
    ]
    .iter()
    .map(|name| copy::bytes_below(&root.join(name)))
    .sum();
    target.check_room(total)?;
    let mut backup = Backup {
        root: root.into(),
        target,
        options,
        meter: Meter {
            done: 0,
            total,
            progress,
        },
        list: List {
            time_micros: options.time_micros,
            ..List::default()
        },
        left_out: Vec::new(),
    };
    // The control log comes last. So whatever an event was allowed by is in the copy, and what is
    // in the copy beyond that allows what has not happened yet; the other way round a namespace
    // would be in it without its owner.
    for log in view.logs().iter().chain(view.control()) {
        let position = backup.copy_log(log)?;
        backup.list.logs.push(position);
    }
    // After the logs, which it speaks of.
    let world = root.join(layout::WORLD_NAME);
    if world.exists() {
        backup.copy_file(&world)?;
    }
    backup
        .target
        .write(list::NAME, backup.list.encode().as_bytes())?;
    backup.target.finish()?;
    Ok(BackupSummary {
        left_out: backup.left_out,
        ..backup.list.summary()
    })
}

/// A backup in the making.
struct Backup<'p> {
    root: PathBuf,
    target: Target,
    options: BackupOptions,
    meter: Meter<'p>,
    list: List,
    left_out: Vec<LayerError>,
}

impl Backup<'_> {
    /// Copies a log, again where files of it vanished meanwhile.
    fn copy_log(&mut self, log: &LogView) -> Result<LogPosition, BackupError> {
        let (listed, done) = (self.list.files.len(), self.meter.done);
        let left_out = self.left_out.len();
        let mut failure = None;
        for _ in 0..TRIES {
            match self.try_log(log) {
                Ok(Some(position)) => return Ok(position),
                Ok(None) => failure = None,
                Err(error) if may_pass(&error) => failure = Some(error),
                Err(error) => return Err(error),
            }
            self.list.files.truncate(listed);
            self.left_out.truncate(left_out);
            self.meter.done = done;
            for dir in [
                log.dir.to_path_buf(),
                log.base_path(),
                log.checkpoint_path(),
            ] {
                self.clear(&dir)?;
            }
        }
        let path = log.dir.as_ref().into();
        Err(failure.unwrap_or(BackupError::Overtaken { path }))
    }

    /// Copies a log; `None` if retention removed something of it meanwhile.
    fn try_log(&mut self, log: &LogView) -> Result<Option<LogPosition>, BackupError> {
        let log_start = log_start_of(log)?;
        let origin = log.origin()?;
        let base = self.copy_base(log, &origin)?;
        if let Some(removed) = origin.removed
            && base.is_none_or(|base| base.through.next() < removed.first_sequence)
        {
            let (path, first) = (log.base_path().into(), removed.first_sequence);
            return Err(BackupError::NoBase { path, first });
        }
        let checkpoint = self.copy_checkpoint(log, origin.owner)?;
        let covered = [base, checkpoint].into_iter().flatten();
        let covered = covered.map(|meta| meta.through).max().unwrap_or_default();
        let end = self.copy_segments(log, covered)?;
        if log_start_of(log)? != log_start {
            return Ok(None);
        }
        Ok(Some(LogPosition {
            generation: log.generation(),
            shard: log.shard(),
            shard_count: log.shard_count(),
            through: end.next.previous(),
            time_micros: end.time_micros,
        }))
    }

    /// Copies the state that stands in for removed history. If nothing was removed, one that is
    /// damaged is left out: it is made again from the older generations.
    fn copy_base(
        &mut self,
        log: &LogView,
        origin: &LogOrigin,
    ) -> Result<Option<CheckpointMeta>, BackupError> {
        let dir = self.checkpoints_at(log.base_path(), origin.owner, CheckpointKind::Base);
        let Some(number) = dir.manifests()?.first().copied() else {
            return Ok(None);
        };
        match self.copy_state(&dir, number)? {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if origin.removed.is_none() => {
                self.left_out.push(error);
                Ok(None)
            }
            Err(error) => Err(BackupError::DamagedBase(error)),
        }
    }

    /// Copies the newest checkpoint that is whole.
    fn copy_checkpoint(
        &mut self,
        log: &LogView,
        owner: Owner,
    ) -> Result<Option<CheckpointMeta>, BackupError> {
        let dir = self.checkpoints_at(log.checkpoint_path(), owner, CheckpointKind::Cache);
        for number in dir.manifests()? {
            match self.copy_state(&dir, number)? {
                Ok(meta) => return Ok(Some(meta)),
                Err(error) => self.left_out.push(error),
            }
        }
        Ok(None)
    }

    fn checkpoints_at(&self, path: PathBuf, owner: Owner, kind: CheckpointKind) -> CheckpointDir {
        CheckpointDir::new(path, owner, kind, self.options.body_check)
    }

    /// Copies what a manifest names, and the manifest; and reads the copy. The inner error is what
    /// is wrong with it; then nothing was copied.
    fn copy_state(
        &mut self,
        dir: &CheckpointDir,
        number: u64,
    ) -> Result<Result<CheckpointMeta, LayerError>, BackupError> {
        let (paths, meta) = match dir.files_of(number) {
            Ok(found) => found,
            Err(error) if error.is_missing() => {
                return Err(layout::missing(error.path.to_path_buf()).into());
            }
            Err(error) if error.is_damage() => return Ok(Err(error)),
            Err(error) => return Err(CheckpointError::from(error).into()),
        };
        let listed = self.list.files.len();
        for path in &paths {
            self.copy_file(path)?;
        }
        let copied = self.target.data().join(self.below_root(dir.path()));
        let copy = self.checkpoints_at(copied, dir.owner(), dir.kind());
        let report = copy.verify(&mut |_| {})?;
        match report.findings.into_iter().next() {
            None => Ok(Ok(meta)),
            Some(error) => {
                self.list.files.truncate(listed);
                self.clear(dir.path())?;
                // Named as the original, since the copy is gone.
                let name = error.path.file_name().unwrap_or_default();
                let path = dir.path().join(name).into();
                Ok(Err(LayerError { path, ..error }))
            }
        }
    }

    /// Copies the segments as far as their records are whole, and says in `DURABLE` how far that
    /// is.
    fn copy_segments(&mut self, log: &LogView, covered: Sequence) -> Result<LogEnd, BackupError> {
        let files = LogFiles::list(&log.dir, log.id)?;
        let durable = watermark::read_hint(&files.dir, files.owner).max(covered);
        let below = self.below_root(&log.dir);
        let dir: Arc<Path> = self.target.data().join(&below).into();
        files::create_dir_all(&dir)?;
        let walked = walk(&files, durable, |segment| {
            self.copy_segment(segment).map_err(ReplayError::Visit)
        });
        let end = match walked {
            Ok(end) => end,
            Err(ReplayError::Storage(error)) => return Err(error.into()),
            Err(ReplayError::Visit(error)) => return Err(error),
        };
        if let Some(log_start) = files.removed {
            write_log_start(&dir, files.owner, log_start)?;
            self.list_small(&below.join(layout::LOG_START_NAME))?;
        }
        drop(Watermark::open(&dir, files.owner, end.next.previous())?);
        self.list_small(&below.join(layout::WATERMARK_NAME))?;
        Ok(end)
    }

    fn copy_segment(&mut self, segment: &mut ReadSegment<'_>) -> Result<(), BackupError> {
        let path = &segment.entry.path;
        self.meter.add(path, 0);
        if let Some(rest) = segment.bytes.get_mut(segment.end.offset..) {
            rest.fill(0);
        }
        let below = self.below_root(path);
        let to = self.target.data().join(&below);
        let mut copy = Copy::create(&to)?;
        copy.write(segment.bytes)?;
        let sum = copy.finish()?;
        self.list_file(&below, sum);
        self.meter.add(path, sum.len);
        if !segment.is_last {
            let index = layout::index_path(path);
            match self.copy_file(&index) {
                // A cache: it is made again where it is missing.
                Err(BackupError::Storage(error)) if is_overtaken(&error) => {}
                copied => copied?,
            }
        }
        Ok(())
    }

    /// Copies a file that nobody changes.
    fn copy_file(&mut self, path: &Path) -> Result<(), BackupError> {
        let below = self.below_root(path);
        let to = self.target.data().join(&below);
        if let Some(dir) = to.parent() {
            files::create_dir_all(dir)?;
        }
        let sum = copy::file(path, &to, &mut self.meter)?;
        self.list_file(&below, sum);
        Ok(())
    }

    /// Lists a small file that was made in the copy.
    fn list_small(&mut self, below: &Path) -> Result<(), BackupError> {
        let path = self.target.data().join(below);
        let bytes = at("read", &path, fs::read(&path))?;
        let sum = Sum {
            len: bytes.len() as u64,
            crc: crc32fast::hash(&bytes),
        };
        self.list_file(below, sum);
        Ok(())
    }

    fn list_file(&mut self, below: &Path, sum: Sum) {
        let path = below.to_str().expect("names in a data directory are ASCII");
        self.list.files.push(ListedFile {
            path: path.to_owned(),
            sum,
        });
    }

    /// Removes what was copied of a directory.
    fn clear(&self, dir: &Path) -> Result<(), BackupError> {
        let copied = self.target.data().join(self.below_root(dir));
        if copied.exists() {
            at("remove", &copied, fs::remove_dir_all(&copied))?;
        }
        Ok(())
    }

    fn below_root(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix(&self.root);
        below.expect("a file of the data directory").to_path_buf()
    }
}

/// Whether an error may be gone at the next try.
fn may_pass(error: &BackupError) -> bool {
    match error {
        BackupError::Storage(error) | BackupError::Checkpoint(CheckpointError::Storage(error)) => {
            is_overtaken(error)
        }
        _ => false,
    }
}

/// What retention says it removed of a log.
fn log_start_of(log: &LogView) -> Result<LogStartFile, BackupError> {
    Ok(read_log_start(&log.dir)?)
}
