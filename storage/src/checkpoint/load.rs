//! Finding the newest checkpoint that is whole, and quarantining what is not.

use std::path::Path;
use std::sync::Arc;

use super::dir::{CheckpointDir, CheckpointKind, name_of};
use super::layer::Layer;
use super::manifest::{CheckpointMeta, LayerName, Manifest};
use super::stack::LayerStack;
use crate::CheckpointError;
use crate::disk::files;
use crate::disk::layout::{self, CheckpointFileKind};
use crate::error::{LayerError, LayerFault};

/// Bytes of layers up to which all of them are checked when they are loaded: it costs tenths of a
/// second. Of more, each block is checked when it is first used.
pub(super) const CHECKED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Files quarantined to keep, for whoever wants to know what happened to them. Older ones are
/// removed.
const QUARANTINED_MAX: usize = 4;

/// A checkpoint that is whole, as far as it was checked.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Its layers.
    pub stack: LayerStack,
    /// What it is a checkpoint of.
    pub meta: CheckpointMeta,
}

/// What a directory of checkpoints held.
#[derive(Debug, Default)]
pub struct Load {
    /// The newest checkpoint that is whole; `None` if there is none.
    pub checkpoint: Option<Checkpoint>,
    /// What was found damaged or foreign, or could not be read, on the way to it.
    pub quarantined: Vec<Quarantined>,
}

/// A file that can't be used, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Which file, and what is wrong with it.
    pub error: LayerError,
    /// Where it is now; `None` if it was passed over: it could not be read, or not be renamed.
    pub moved_to: Option<Box<Path>>,
}

impl Quarantined {
    /// Renames a layer or manifest that was found damaged, so that the next `load` does without it.
    ///
    /// A file that could only not be read stays where it is: that says nothing of what is in it,
    /// and may pass.
    pub fn of(error: LayerError) -> Self {
        if !error.is_damage() {
            let moved_to = None;
            return Self { error, moved_to };
        }
        let to = layout::damaged(&error.path);
        let parent = error.path.parent().unwrap_or(&error.path);
        let moved = files::rename(&error.path, &to, parent);
        Self {
            error,
            moved_to: moved.is_ok().then_some(to.into()),
        }
    }
}

impl CheckpointDir {
    /// Opens the newest checkpoint that is whole. Blocks, for as long as it takes to check it:
    /// layers of 256 MiB and more are checked as they are used.
    ///
    /// In a directory of [`CheckpointKind::Cache`] what is damaged or foreign on the way to it is
    /// renamed to `*.damaged`, and temporary files are removed. What the system refuses to read is
    /// passed over and left as it is: that says nothing of what is in it, and an older checkpoint,
    /// or the log, leads to the same state. A [`CheckpointKind::Base`] is left as it is.
    ///
    /// # Errors
    ///
    /// `Storage` if the directory could not be read. Of a base also `Layer`, if it is damaged or
    /// could not be read.
    pub fn load(&mut self) -> Result<Load, CheckpointError> {
        let mut load = Load::default();
        let list = self.list()?;
        if !list.is_empty() {
            // A killed process may have named a manifest without flushing its name.
            files::sync_dir(&self.path)?;
        }
        let numbers = list.iter().map(|(_, file)| file.number);
        self.next_number = Some(numbers.max().unwrap_or(0) + 1);
        self.published.clear();
        for (name, file) in &list {
            if file.kind == CheckpointFileKind::Unfinished {
                // Where it can't be removed it is harmless.
                files::discard(&self.path.join(name));
            }
        }
        for number in self.manifests()? {
            match self.open_checkpoint(number) {
                Ok((manifest, checkpoint)) => {
                    self.published.push(manifest);
                    load.checkpoint = Some(checkpoint);
                    break;
                }
                Err(failure) => self.quarantine(*failure, &mut load.quarantined)?,
            }
        }
        if !load.quarantined.is_empty() {
            self.limit_quarantined();
        }
        Ok(load)
    }

    /// Quarantines what is damaged and passes over what could not be read; for a base, says what is
    /// wrong with it.
    fn quarantine(
        &mut self,
        failure: Unusable,
        quarantined: &mut Vec<Quarantined>,
    ) -> Result<(), CheckpointError> {
        let is_readable = failure.is_damage();
        for error in failure.layer.into_iter().chain([failure.manifest]) {
            let error = match error.fault {
                // The layer was quarantined with a manifest that names it, too.
                LayerFault::Missing => continue,
                _ => error,
            };
            if self.kind == CheckpointKind::Base {
                return Err(error.into());
            }
            if is_readable {
                quarantined.push(Quarantined::of(error));
            } else if !error.is_damage() {
                let moved_to = None;
                quarantined.push(Quarantined { error, moved_to });
            }
        }
        Ok(())
    }

    /// Opens a checkpoint and checks all of it, if it is not large.
    fn open_checkpoint(&self, number: u64) -> Result<(Manifest, Checkpoint), Box<Unusable>> {
        let (manifest, checkpoint) = self.open_unchecked(number)?;
        if checkpoint.stack.bytes() <= CHECKED_BYTES_MAX {
            for layer in checkpoint.stack.layers() {
                layer.check_all().map_err(|error| {
                    let fault = LayerFault::UnusableLayer(layer.header().number);
                    Box::new(self.unusable(number, Some(error), fault))
                })?;
            }
        }
        Ok((manifest, checkpoint))
    }

    /// Opens a checkpoint, of which each block is checked when it is first used.
    pub(super) fn open_unchecked(
        &self,
        number: u64,
    ) -> Result<(Manifest, Checkpoint), Box<Unusable>> {
        let path = self.manifest_path(number);
        let manifest = Manifest::read(&path, number, self.owner).map_err(|manifest| {
            Box::new(Unusable {
                layer: None,
                manifest,
            })
        })?;
        let mut layers = Vec::with_capacity(manifest.layers.len());
        for name in &manifest.layers {
            let unusable = |layer, fault| Box::new(self.unusable(number, layer, fault));
            match self.open_layer(name) {
                Ok(layer) if name_of(&layer) == *name => layers.push(Arc::new(layer)),
                Ok(_) => return Err(unusable(None, LayerFault::OtherLayer(name.number))),
                Err(layer) => {
                    let fault = LayerFault::UnusableLayer(name.number);
                    return Err(unusable(Some(layer), fault));
                }
            }
        }
        let stack = LayerStack::new(self.hasher(), layers);
        let meta = manifest.meta;
        Ok((manifest, Checkpoint { stack, meta }))
    }

    fn unusable(&self, number: u64, layer: Option<LayerError>, fault: LayerFault) -> Unusable {
        Unusable {
            layer,
            manifest: LayerError {
                path: self.manifest_path(number),
                offset: 0,
                fault,
            },
        }
    }

    /// Opens a layer that lies where it belongs.
    pub(super) fn open_layer(&self, name: &LayerName) -> Result<Layer, LayerError> {
        let layer = Layer::open(self.layer_path(name.number), self.body_check)?;
        let header = layer.header();
        if header.number == name.number && header.hash_salt == self.hasher().salt() {
            Ok(layer)
        } else {
            Err(layer.error(0, LayerFault::WrongPlace))
        }
    }

    /// Removes the oldest of the files that were quarantined, if there are many.
    fn limit_quarantined(&self) {
        let Ok(mut list) = self.list() else {
            return;
        };
        list.retain(|(_, file)| file.kind == CheckpointFileKind::Damaged);
        list.sort_by_key(|(_, file)| file.number);
        for (name, _) in list.iter().rev().skip(QUARANTINED_MAX) {
            // Tried again the next time that something is quarantined.
            files::discard(&self.path.join(name));
        }
    }
}

/// Why a checkpoint can't be used.
pub(super) struct Unusable {
    /// The layer that is at fault, if it is one.
    layer: Option<LayerError>,
    manifest: LayerError,
}

impl Unusable {
    /// Whether what is wrong is known: a layer that could not be read says nothing against the
    /// manifest that names it.
    fn is_damage(&self) -> bool {
        self.layer.as_ref().unwrap_or(&self.manifest).is_damage()
    }

    /// What is at fault.
    pub(super) fn into_error(self) -> LayerError {
        self.layer.unwrap_or(self.manifest)
    }
}
