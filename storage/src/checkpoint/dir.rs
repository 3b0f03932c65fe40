//! A shard's checkpoints: a directory of layers and of manifests that name them.
//!
//! ```text
//! 00000003.layer  00000007.layer  00000009.layer
//!        ▲               ▲               ▲
//!        ├───────────────┤               │
//! 00000008.manifest      └───────────────┤
//! 00000010.manifest  ────────────────────┘
//! ```
//!
//! A layer is written under a temporary name, flushed, named; then a manifest likewise. Only then
//! do older files go: manifests first. So at every moment the newest manifest names layers that are
//! whole and durable, and a crash leaves at most files that nothing refers to.
//!
//! What is written follows what changed: a new layer takes in the newest older ones while each has
//! less than twice as many entities as were gathered so far. An entity is therefore rewritten about
//! once for every doubling of the entities above it, a logarithm of times, and there are no more
//! layers than that.
//!
//! This knows nothing of the log. Who publishes waits until the log is durable up to the
//! checkpoint.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::cursor::StackCursor;
use super::entity::{BodyCheck, LayerEntity};
use super::id_hash::IdHasher;
use super::layer::Layer;
use super::manifest::{CheckpointMeta, LayerName, Manifest};
use super::stack::LayerStack;
use super::writer::{CheckpointThrottle, LayerWriter};
use crate::disk::files;
use crate::disk::layout::{self, CheckpointFile, CheckpointFileKind};
use crate::disk::random::random_identity;
use crate::format::Identity;
use crate::format::layer::LayerHeader;
use crate::format::slot::Owner;
use crate::{CheckpointError, LayerError, StorageError};

/// Bound on the layers of a checkpoint: a look-up may have to ask each. At the bound the newest
/// layer is taken in although its size does not call for it, and then whatever its size calls for:
/// that is as much as changed since there were few layers.
pub(super) const LAYERS_MAX: usize = 12;
/// A layer is taken in while it has fewer than this many times the entities gathered so far.
const GROWTH: u64 = 2;

/// What becomes of a directory's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointKind {
    /// A cache of the log: the two newest checkpoints are kept, and damaged files are quarantined.
    Cache,
    /// What stands in for a log that is gone: only the newest is kept, and damage of it is an
    /// error.
    Base,
}

impl CheckpointKind {
    /// Manifests to keep.
    fn kept(self) -> usize {
        match self {
            Self::Cache => 2,
            Self::Base => 1,
        }
    }
}

/// One shard's directory of checkpoints, and its only writer. `Send`, so that helper threads write
/// checkpoints.
#[derive(Debug)]
pub struct CheckpointDir {
    pub(super) path: Arc<Path>,
    pub(super) owner: Owner,
    pub(super) kind: CheckpointKind,
    pub(super) body_check: BodyCheck,
    /// What is known to be there: set by `load`, and by `publish`, newest last.
    pub(super) published: Vec<Manifest>,
    /// The number of the next file; `None` before `load`.
    pub(super) next_number: Option<u64>,
}

/// A checkpoint whose layers are durable and whose manifest is not there yet.
#[derive(Debug)]
#[must_use = "a checkpoint counts once it is published"]
pub struct PendingCheckpoint {
    stack: LayerStack,
    meta: CheckpointMeta,
    written_bytes: u64,
}

impl PendingCheckpoint {
    /// Its layers. They can be read before it is published.
    pub fn stack(&self) -> &LayerStack {
        &self.stack
    }

    /// What it is a checkpoint of.
    pub fn meta(&self) -> CheckpointMeta {
        self.meta
    }

    /// Bytes of the layer that was written for it, 0 if none was.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }
}

impl CheckpointDir {
    /// The directory at `path`, which need not exist, for the checkpoints of `owner`'s log. Touches
    /// no file.
    pub fn new(
        path: impl AsRef<Path>,
        owner: Owner,
        kind: CheckpointKind,
        body_check: BodyCheck,
    ) -> Self {
        Self {
            path: path.as_ref().into(),
            owner,
            kind,
            body_check,
            published: Vec::new(),
            next_number: None,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose checkpoints these are.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// What becomes of its files.
    pub(crate) fn kind(&self) -> CheckpointKind {
        self.kind
    }

    /// The numbers of the manifests that are there, newest first. Blocks.
    pub(crate) fn manifests(&self) -> Result<Vec<u64>, CheckpointError> {
        let list = self.list()?.into_iter();
        let mut numbers: Vec<u64> = list
            .filter(|(_, file)| file.kind == CheckpointFileKind::Manifest)
            .map(|(_, file)| file.number)
            .collect();
        numbers.sort_unstable_by(|left, right| right.cmp(left));
        Ok(numbers)
    }

    /// The files that make up a checkpoint, its manifest last, and what it is a checkpoint of.
    /// Blocks.
    pub(crate) fn files_of(
        &self,
        number: u64,
    ) -> Result<(Vec<Arc<Path>>, CheckpointMeta), LayerError> {
        let path = self.manifest_path(number);
        let manifest = Manifest::read(&path, number, self.owner)?;
        let layers = manifest.layers.iter();
        let paths = layers.map(|layer| self.layer_path(layer.number));
        Ok((paths.chain([path]).collect(), manifest.meta))
    }

    pub(super) fn hasher(&self) -> IdHasher {
        IdHasher::of(self.owner)
    }

    pub(super) fn layer_path(&self, number: u64) -> Arc<Path> {
        self.path.join(layout::layer_name(number)).into()
    }

    pub(super) fn manifest_path(&self, number: u64) -> Arc<Path> {
        self.path.join(layout::manifest_name(number)).into()
    }

    /// The files of checkpoints in the directory; none if it does not exist.
    pub(super) fn list(&self) -> Result<Vec<(String, CheckpointFile)>, CheckpointError> {
        let names = match files::names(&self.path) {
            Ok(names) => names,
            Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        let parsed = names.into_iter().filter_map(|name| {
            let file = layout::parse_checkpoint_file(&name)?;
            Some((name, file))
        });
        Ok(parsed.collect())
    }

    fn take_number(&mut self) -> u64 {
        let number = self
            .next_number
            .expect("load comes before write and publish");
        self.next_number = Some(number + 1);
        number
    }

    /// Writes a layer of `changed`, the entities that changed since `stack` (ascending by id,
    /// `None` bodies for those deleted), merged with the layers of `stack` that it takes in, and
    /// flushes it. What `stack` came from may be another directory; its layers are copied then.
    /// Blocks, for as long as it takes; `throttle` is asked after about every 256 KiB.
    ///
    /// # Errors
    ///
    /// `Storage` if the disk refuses, `Layer` if a layer that is taken in is damaged, `Cancelled`
    /// by `throttle`, `TooLarge`. What was written is removed again.
    ///
    /// # Panics
    ///
    /// If `load` was not called before, or ids don't ascend.
    pub fn write<'a>(
        &mut self,
        changed: impl ExactSizeIterator<Item = LayerEntity<'a>>,
        stack: &LayerStack,
        meta: CheckpointMeta,
        throttle: &mut CheckpointThrottle<'_>,
    ) -> Result<PendingCheckpoint, CheckpointError> {
        let merge = self.plan(changed.len() as u64, stack);
        let (taken, kept) = stack.layers().split_at(merge.taken);
        let mut layers = Vec::from(kept);
        let mut written_bytes = 0;
        if merge.expected > 0 {
            files::create_dir_all(&self.path)?;
            let number = self.take_number();
            let path = self.layer_path(number);
            let unfinished = layout::unfinished(&path);
            let header = LayerHeader {
                number,
                identity: random_identity(),
                hash_salt: self.hasher().salt(),
            };
            let hasher = self.hasher();
            let written =
                LayerWriter::create(&unfinished, header, hasher, merge.expected, throttle)
                    .and_then(|writer| merge.run(changed, taken, writer))
                    .and_then(|records| {
                        if records > 0 {
                            files::rename(&unfinished, &path, &self.path)?;
                        } else {
                            files::remove_undurably(&unfinished)?;
                        }
                        Ok(records)
                    });
            if written.is_err() {
                // Gives back what it took of a full disk. If even this fails, loading removes it.
                files::discard(&unfinished);
            }
            if written? > 0 {
                let layer = Layer::open(path, self.body_check)?;
                written_bytes = layer.bytes();
                layers.insert(0, Arc::new(layer));
            }
        }
        Ok(PendingCheckpoint {
            stack: LayerStack::new(self.hasher(), layers),
            meta,
            written_bytes,
        })
    }

    /// Which layers a new one of so many entities takes in.
    fn plan(&self, changed: u64, stack: &LayerStack) -> Merge {
        let layers = stack.layers();
        let foreign = layers
            .iter()
            .rposition(|layer| layer.path().parent() != Some(&*self.path))
            .map_or(0, |index| index + 1);
        let mut gathered = changed;
        let mut taken = 0;
        for layer in layers {
            let small = layer.records() < gathered.saturating_mul(GROWTH);
            let crowded = gathered > 0 && layers.len() - taken >= LAYERS_MAX;
            if taken >= foreign && !small && !crowded {
                break;
            }
            gathered += layer.records();
            taken += 1;
        }
        Merge {
            taken,
            expected: gathered,
            is_oldest: taken == layers.len(),
        }
    }

    /// Makes a checkpoint count: writes its manifest, durably. Blocks. The log must be durable up
    /// to it.
    ///
    /// # Errors
    ///
    /// `Storage`; the checkpoint before is still the newest, or this one is, as after a crash.
    ///
    /// # Panics
    ///
    /// If it was not written by this directory.
    pub fn publish(&mut self, pending: PendingCheckpoint) -> Result<(), CheckpointError> {
        let PendingCheckpoint { stack, meta, .. } = pending;
        let layers = stack.layers();
        let ours = |layer: &Arc<Layer>| layer.path().parent() == Some(&*self.path);
        assert!(layers.iter().all(ours), "layers of another directory");
        files::create_dir_all(&self.path)?;
        let manifest = Manifest {
            number: self.take_number(),
            owner: self.owner,
            meta,
            layers: layers.iter().map(|layer| name_of(layer)).collect(),
        };
        let path = self.manifest_path(manifest.number);
        let unfinished = layout::unfinished(&path);
        let bytes = manifest.encode()?;
        let flushed = files::create(&unfinished).and_then(|file| {
            files::write_at("write", (&file, &unfinished), &bytes, 0)?;
            files::sync_data(&file, &unfinished)
        });
        let named = flushed.and_then(|()| files::rename(&unfinished, &path, &self.path));
        if named.is_err() {
            // As above: nothing is lost where this fails, too.
            files::discard(&unfinished);
        }
        named?;
        self.published.push(manifest);
        let surplus = self.published.len().saturating_sub(self.kind.kept());
        self.published.drain(..surplus);
        Ok(())
    }

    /// Removes what the kept checkpoints do not refer to: older manifests, then layers, and what
    /// failures left. Returns the bytes that this freed. Blocks. Files that somebody has mapped
    /// stay readable to them.
    ///
    /// # Errors
    ///
    /// `Storage`; calling again goes on.
    ///
    /// # Panics
    ///
    /// If `load` was not called before: it says what is referred to.
    pub fn remove_unreferenced(&mut self) -> Result<u64, CheckpointError> {
        assert!(self.next_number.is_some(), "load comes before removing");
        let mut files = self.list()?;
        files.retain(|(_, file)| !self.refers_to(*file));
        let (layers, others): (Vec<_>, Vec<_>) = files
            .into_iter()
            .partition(|(_, file)| file.kind == CheckpointFileKind::Layer);
        let mut freed = 0;
        for names in [others, layers] {
            for (name, _) in &names {
                let path = self.path.join(name);
                let len = path.metadata().map_or(0, |metadata| metadata.len());
                files::remove_undurably(&path)?;
                freed += len;
            }
            if !names.is_empty() {
                files::sync_dir(&self.path)?;
            }
        }
        Ok(freed)
    }

    fn refers_to(&self, file: CheckpointFile) -> bool {
        let mut manifests = self.published.iter();
        match file.kind {
            CheckpointFileKind::Damaged => true,
            CheckpointFileKind::Unfinished => false,
            CheckpointFileKind::Manifest => {
                manifests.any(|manifest| manifest.number == file.number)
            }
            CheckpointFileKind::Layer => manifests
                .flat_map(|manifest| &manifest.layers)
                .any(|layer| layer.number == file.number),
        }
    }
}

/// A layer as a manifest names it.
pub(super) fn name_of(layer: &Layer) -> LayerName {
    let Identity(identity) = layer.header().identity;
    LayerName {
        number: layer.header().number,
        identity,
        len: layer.bytes(),
        records: layer.records(),
        footer_crc: layer.trailer().footer_crc,
    }
}

/// What a new layer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Merge {
    /// How many of the newest layers it takes in.
    taken: usize,
    /// The most entities that it can have.
    expected: u64,
    /// Whether no layer lies below it, so that nothing is left for a tombstone to hide.
    is_oldest: bool,
}

impl Merge {
    /// Writes the newest of each id and finishes the layer, unless it is empty. Returns its
    /// entities.
    fn run<'a>(
        self,
        changed: impl Iterator<Item = LayerEntity<'a>>,
        taken: &[Arc<Layer>],
        mut writer: LayerWriter<'_, '_>,
    ) -> Result<u64, CheckpointError> {
        let mut changed = changed.peekable();
        let mut older = StackCursor::seek(taken.iter().map(Arc::as_ref), &|_| false);
        loop {
            let newer = changed.peek().map(|entity| entity.id);
            let entity = match (newer, older.peek()?) {
                (Some(new), Some(old)) if old.id < new => older.next()?,
                (Some(new), old) => {
                    if old.is_some_and(|old| old.id == new) {
                        older.next()?;
                    }
                    changed.next()
                }
                (None, _) => older.next()?,
            };
            match entity {
                Some(entity) if self.is_oldest && entity.body.is_none() => {}
                Some(entity) => writer.push(&entity)?,
                None => break,
            }
        }
        let records = writer.records();
        if records > 0 {
            writer.finish()?;
        }
        Ok(records)
    }
}
