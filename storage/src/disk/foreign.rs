//! Whether a directory may become a data directory.
//!
//! A server that is pointed at somebody's directory by mistake must not make its files there: the
//! next start would take what lies beside them for its own, and a repair might remove it.

use std::path::Path;

use crate::StorageError;
use crate::disk::{files, layout};

/// Names that are named in the error.
const NAMED_MAX: usize = 3;
/// What `mkfs` leaves at the root of a file system.
const LOST_AND_FOUND: &str = "lost+found";

/// Checks that a directory is a data directory, or can become one: it is empty, or holds nothing
/// but what a first start that was cut off leaves. One that is not there yet can. Blocks.
///
/// # Errors
///
/// `NotADataDirectory` with some of what was found, and `Io`.
pub(crate) fn check(root: &Path) -> Result<(), StorageError> {
    if !root.exists() {
        return Ok(());
    }
    let mut foreign = files::names(root)?;
    foreign.retain(|name| name != LOST_AND_FOUND && !layout::is_entry(name));
    if foreign.is_empty() || is_data_directory(root)? {
        return Ok(());
    }
    let more = foreign.len() > NAMED_MAX;
    foreign.truncate(NAMED_MAX);
    let found = foreign.join(", ");
    Err(StorageError::NotADataDirectory {
        found: if more { found + ", …" } else { found }.into(),
    })
}

/// A generation of logs is what every start that was finished has made.
fn is_data_directory(root: &Path) -> Result<bool, StorageError> {
    let logs = root.join(layout::LOG_NAME);
    let is_generation = |name: &String| layout::parse_generation(name).is_some();
    let has_world = root.join(layout::WORLD_NAME).is_file();
    Ok(has_world || (logs.is_dir() && files::names(&logs)?.iter().any(is_generation)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_an_empty_directory_or_one_of_ours_is_taken() {
        let scratch = tempfile::TempDir::new().unwrap();
        let root = scratch.path().join("data");
        let found = || match check(&root) {
            Ok(()) => None,
            Err(StorageError::NotADataDirectory { found }) => Some(found),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(found(), None, "not there yet");
        fs::create_dir_all(root.join("lost+found")).unwrap();
        fs::create_dir(root.join("log")).unwrap();
        fs::File::create(root.join("LOCK")).unwrap();
        assert_eq!(found(), None, "a first start that was cut off");
        for name in ["b.txt", "a.txt"] {
            fs::File::create(root.join(name)).unwrap();
        }
        assert_eq!(found().as_deref(), Some("a.txt, b.txt"));
        fs::create_dir(root.join(".git")).unwrap();
        fs::create_dir(root.join("c")).unwrap();
        assert_eq!(found().as_deref(), Some(".git, a.txt, b.txt, …"));
        fs::create_dir(root.join("log/000001")).unwrap();
        assert_eq!(
            found(),
            None,
            "a data directory that somebody has put files into"
        );
    }
}
