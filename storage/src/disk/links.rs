//! Symbolic links in a data directory: none is followed.
//!
//! Whoever may make a link there, or unpacks somebody's copy of a data directory, could have the
//! server read, empty or overwrite any file that it may reach. So a data directory with a link
//! among what is ours is refused before anything in it is opened, by a server and by every tool;
//! and each file is opened so that a link in its place is an error (`files`).
//!
//! The data directory itself may be one: an operator names it.

use std::fs;
use std::path::Path;

use crate::StorageError;
use crate::disk::files::at;
use crate::disk::layout;

/// How deep the directories of a data directory lie: `log/000001/000-of-001/`.
const DEPTH_MAX: usize = 4;

/// Looks at everything of a data directory that is ours. Blocks; reads names only.
///
/// # Errors
///
/// `SymbolicLink` with one that was found, and `Io`.
pub(crate) fn check(root: &Path) -> Result<(), StorageError> {
    if root.exists() {
        check_below(root, DEPTH_MAX)?;
    }
    Ok(())
}

fn check_below(dir: &Path, depth: usize) -> Result<(), StorageError> {
    for entry in at("list", dir, fs::read_dir(dir))? {
        let entry = at("list", dir, entry)?;
        let is_ours =
            depth < DEPTH_MAX || (entry.file_name().to_str()).is_some_and(layout::is_entry);
        if !is_ours {
            continue;
        }
        let path = entry.path();
        let kind = match entry.file_type() {
            // A running server may have removed it meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            kind => at("look at", &path, kind)?,
        };
        if kind.is_symlink() {
            let path = path.into();
            return Err(StorageError::SymbolicLink { path });
        }
        if kind.is_dir() && depth > 0 {
            match check_below(&path, depth - 1) {
                Err(StorageError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound => {}
                checked => checked?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_anywhere_among_what_is_ours_is_named() {
        for at in [
            "LOCK",
            "WORLD",
            "log",
            "RESERVE",
            "control",
            "log/000001",
            "log/000001/000-of-001",
            "log/000001/000-of-001/00000001.seg",
            "checkpoints/000001/000-of-001/00000001.layer",
            "base/000001/000-of-001/anything",
            "control/DURABLE",
        ] {
            let dir = tempfile::TempDir::new().unwrap();
            let link = dir.path().join(at);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            assert!(check(dir.path()).is_ok());
            symlink("/etc/passwd", &link).unwrap();
            let refused = check(dir.path()).unwrap_err().to_string();
            assert!(refused.contains(at), "{refused}");
        }
    }

    #[test]
    fn the_directory_itself_and_what_is_not_ours_may_be_links() {
        let dir = tempfile::TempDir::new().unwrap();
        let data = dir.path().join("data");
        fs::create_dir_all(data.join("log")).unwrap();
        symlink("/etc", data.join("notes")).unwrap();
        symlink(&data, dir.path().join("link")).unwrap();
        assert!(check(&dir.path().join("link")).is_ok());
        assert!(check(&dir.path().join("none")).is_ok());
    }
}
