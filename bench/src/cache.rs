//! Evicts files from the page cache, so that the next read comes from the disk.

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

/// Evicts every file below `directory` from the page cache. The kernel keeps pages that a process
/// has mapped, so the server must have ended. The host of a virtual machine may still have the
/// files in its own memory.
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
