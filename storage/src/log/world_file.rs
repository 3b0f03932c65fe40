//! Which world a data directory and its logs belong to: the `WORLD` file, compared with what the
//! segments name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::StorageError;
use crate::disk::files::{self, at};
use crate::disk::layout;
use crate::disk::random::random_world;
use crate::disk::segment_file::stated_world;
use crate::format::world::{World, WorldFile};

/// Reads the `WORLD` file; `None` if there is none or it is damaged. Blocks.
pub(crate) fn read(root: &Path) -> Result<Option<WorldFile>, StorageError> {
    let path = root.join(layout::WORLD_NAME);
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => Ok(WorldFile::decode(&at("read", &path, read)?)),
    }
}

/// The world that a log's segments name, the newest first; `None` if none of them names one.
/// Blocks.
pub(crate) fn of_log(dir: &Path) -> Result<Option<World>, StorageError> {
    for ordinal in layout::segment_ordinals(dir)?.into_iter().rev() {
        let world = stated_world(&dir.join(layout::segment_name(ordinal)))?;
        if world.is_some() {
            return Ok(world);
        }
    }
    Ok(None)
}

/// The world of a directory with these logs. What the `WORLD` file says counts; if there is none,
/// what the logs name; if they name none, as after an older program, a new one. Blocks; changes
/// nothing.
///
/// # Errors
///
/// `ForeignLog` if a log names another world.
pub(crate) fn of_logs(stated: Option<WorldFile>, dirs: &[PathBuf]) -> Result<World, StorageError> {
    let mut world = stated.map(|file| file.world);
    for dir in dirs {
        let Some(named) = of_log(dir)? else { continue };
        if *world.get_or_insert(named) != named {
            return Err(StorageError::ForeignLog {
                path: dir.as_path().into(),
            });
        }
    }
    Ok(world.unwrap_or_else(random_world))
}

/// Gives the directory its `WORLD` file, whole and durable. Blocks.
pub(crate) fn write(root: &Path, file: WorldFile) -> Result<(), StorageError> {
    let path = root.join(layout::WORLD_NAME);
    files::replace(&path, &file.encode())
}
