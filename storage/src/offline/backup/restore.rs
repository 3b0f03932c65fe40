//! Putting a backup back: every file is held to `BACKUP` while it is copied, and the directory has
//! its name last.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::copy::{self, Meter};
use super::list::{self, List, ListFault, ListedFile};
use super::target::Target;
use super::{BackupError, BackupSummary, CopyObserver, Difference};
use crate::disk::files::{self, at};

/// Makes the data directory `target` of the backup in `source`. Blocks.
///
/// # Errors
///
/// `NotABackup`, `DamagedList`, `NewerList`; `Damaged` with the first file that is not as it was;
/// `NotEmpty`, `Unnamed`, `InTheWay`, `NoRoom`; `Storage`. Nothing is at the target then.
pub fn restore(
    source: &Path,
    target: &Path,
    progress: CopyObserver<'_>,
) -> Result<BackupSummary, BackupError> {
    let list = read_list(source)?;
    for file in &list.files {
        check_length(source, file)?;
    }
    let target = Target::begin(target)?;
    target.check_room(list.bytes())?;
    let mut meter = Meter {
        done: 0,
        total: list.bytes(),
        progress,
    };
    for file in &list.files {
        let (from, to) = (source.join(&file.path), target.data().join(&file.path));
        if let Some(dir) = to.parent() {
            files::create_dir_all(dir)?;
        }
        let sum = copy::file(&from, &to, &mut meter)?;
        if sum != file.sum {
            return Err(damaged(&from, Difference::Checksum));
        }
    }
    target.finish()?;
    Ok(list.summary())
}

fn read_list(source: &Path) -> Result<List, BackupError> {
    let path = source.join(list::NAME);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = source.into();
            return Err(BackupError::NotABackup { path });
        }
        opened => at("open", &path, opened)?,
    };
    let mut bytes = Vec::new();
    let read = file.take(list::BYTES_MAX).read_to_end(&mut bytes);
    at("read", &path, read)?;
    List::decode(&bytes).map_err(|fault| {
        let path = path.into();
        match fault {
            ListFault::Newer(found) => BackupError::NewerList { path, found },
            ListFault::Damaged => BackupError::DamagedList { path },
        }
    })
}

fn check_length(source: &Path, file: &ListedFile) -> Result<(), BackupError> {
    let path = source.join(&file.path);
    let found = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged(&path, Difference::Missing));
        }
        metadata => at("read size of", &path, metadata)?.len(),
    };
    let listed = file.sum.len;
    if found == listed {
        return Ok(());
    }
    Err(damaged(&path, Difference::Length { listed, found }))
}

fn damaged(path: &Path, difference: Difference) -> BackupError {
    let path = path.into();
    BackupError::Damaged { path, difference }
}
