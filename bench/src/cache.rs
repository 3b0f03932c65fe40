//! The page cache, and putting files out of it, so that they come from the disk.

use anyhow::{Context, Result};
use clap::Args;
use rustix::fs::{Advice, fadvise};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct EvictOptions {
    /// Directory whose files are to be read from the disk next time
    directory: PathBuf,
}

/// # Errors
/// As for [`evict`].
pub(crate) fn run(options: &EvictOptions) -> Result<()> {
    evict(&options.directory)
}

/// Puts every file below `directory` out of the page cache. The kernel keeps pages that a process has mapped, so
/// whoever uses the files must have ended; it needs no rights beyond reading them. What the host of a virtual machine
/// keeps in its own memory is out of reach.
///
/// # Errors
/// When a file cannot be opened or flushed.
pub(crate) fn evict(directory: &Path) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            evict(&path)?;
            continue;
        }
        let evicted = File::open(&path).and_then(|file| {
            // Only clean pages go.
            file.sync_data()?;
            Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
        });
        evicted.with_context(|| format!("cannot evict {}", path.display()))?;
    }
    Ok(())
}
