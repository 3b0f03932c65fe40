//! Checkpoints as they show in their directory: files appear under temporary names, then under
//! their own, and a manifest completes a checkpoint (`storage/FORMAT.md`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of the only shard's checkpoints.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    path: PathBuf,
    /// Whole files, by name, with their bytes.
    known: BTreeMap<String, u64>,
}

/// What is new since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Bytes of new files.
    pub(crate) bytes: u64,
    /// A file is being written.
    pub(crate) is_writing: bool,
    /// A manifest is new.
    pub(crate) is_complete: bool,
}

impl Checkpoints {
    pub(crate) fn of(data: &Path) -> Self {
        Self {
            path: data.join("checkpoints/000001/000-of-001"),
            known: BTreeMap::new(),
        }
    }

    /// Bytes of what was there at the last look.
    pub(crate) fn bytes(&self) -> u64 {
        self.known.values().sum()
    }

    /// Looks at the directory; one that is not there yet is empty.
    pub(crate) fn look(&mut self) -> Seen {
        let mut seen = Seen::default();
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let path = entry.path();
            let is = |extension: &str| path.extension() == Some(extension.as_ref());
            if is("tmp") {
                seen.is_writing = true;
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            // One that is gone again was removed, which is no writing.
            let bytes = match self.known.get(&name) {
                Some(&bytes) => bytes,
                None => entry.metadata().map_or(0, |metadata| metadata.len()),
            };
            if !self.known.contains_key(&name) {
                seen.bytes += bytes;
                seen.is_complete |= is("manifest");
            }
            files.insert(name, bytes);
        }
        self.known = files;
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_checkpoint_is_seen_while_it_is_written_and_when_it_is_complete() {
        let data = tempfile::tempdir().unwrap();
        let mut checkpoints = Checkpoints::of(data.path());
        assert_eq!(checkpoints.look(), Seen::default());
        let dir = checkpoints.path.clone();
        fs::create_dir_all(&dir).unwrap();
        let make = |name: &str, bytes| {
            File::create(dir.join(name))
                .and_then(|file| file.set_len(bytes))
                .unwrap();
        };
        let mut check = |bytes, is_writing, is_complete| {
            let expected = Seen {
                bytes,
                is_writing,
                is_complete,
            };
            assert_eq!(checkpoints.look(), expected);
            checkpoints.bytes()
        };
        make("00000001.layer.tmp", 5);
        assert_eq!(check(0, true, false), 0);
        fs::remove_file(dir.join("00000001.layer.tmp")).unwrap();
        make("00000001.layer", 50);
        assert_eq!(check(50, false, false), 50);
        make("00000002.manifest", 7);
        assert_eq!(check(7, false, true), 57);
        fs::remove_file(dir.join("00000001.layer")).unwrap();
        assert_eq!(check(0, false, false), 7);
    }
}
