//! The corpus of a target: one file for each input, in `corpus/<target>/`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The directory of a target's corpus.
pub fn corpus_dir(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}

/// The inputs of a target by file name, ascending, so that a seed always meets them in the same
/// order.
///
/// # Errors
///
/// The corpus can't be read.
pub fn load_corpus(target: &str) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(corpus_dir(target))? {
        let path = entry?.path();
        let bytes = fs::read(&path)?;
        inputs.push((path, bytes));
    }
    inputs.sort();
    Ok(inputs)
}
