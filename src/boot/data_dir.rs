//! The data directory and the control log in it, opened as a start finds them.

use super::start_error::StartError;
use crate::control::{ControlStore, Registry};
use crate::history::{KEY_SCHEME, record_key};
use crate::report::{self, LogEvent};
use crate::settings::Settings;
use crate::shard;
use flux_storage::{DataDir, IndexKey, LogOptions, StorageError};
use std::path::Path;

/// Opens the control log. One that is missing is made anew, but not if tokens are in force:
/// nobody would own what is in the data directory.
///
/// # Errors
/// `NoControl`, `Control`, `DataDir`.
pub(super) fn open_control(
    settings: &Settings,
    data_dir: &DataDir,
) -> Result<(ControlStore, Registry), StartError> {
    let path = data_dir.control_path();
    if data_dir.lacks_control().map_err(unusable(settings))? {
        if settings.auth {
            return Err(StartError::NoControl { path: path.into() });
        }
        report::say(
            LogEvent::ControlLogMade,
            &format!(
                "{} is missing and is made anew: no namespace is registered, nothing is configured",
                path.display()
            ),
        );
    }
    let opened = ControlStore::open(data_dir);
    let (store, registry) = opened.map_err(|source| StartError::Control {
        path: path.into(),
        source: Box::new(source),
    })?;
    if store.lost() > 0 {
        report::say(
            LogEvent::ControlChangesMissing,
            &format!(
                "{} changes of namespaces or configuration are missing, which an earlier `flux log repair` gave up: what they \
             took away may be in force again",
                store.lost()
            ),
        );
    }
    Ok((store, registry))
}

/// For what is wrong with the data directory.
fn unusable(settings: &Settings) -> impl Fn(StorageError) -> StartError {
    |source| StartError::DataDir {
        path: settings.data_dir.as_path().into(),
        source: Box::new(source),
    }
}

/// Opens the data directory, and finishes a change of the number of shards that broke off.
///
/// # Errors
/// `Locked`, `DataDir`, `System`.
pub(super) fn open_data_dir(settings: &Settings, shards: u16) -> Result<DataDir, StartError> {
    let data_dir = open_sized(&settings.data_dir, settings.segment_bytes, shards)?;
    if let Err(error) = shard::finish_repartition(&data_dir) {
        report::say(
            LogEvent::ShardChangeUnfinished,
            &format!(
                "an earlier change of the number of shards could not be finished: {error}; until it is, retention keeps the \
             history from before it"
            ),
        );
    }
    Ok(data_dir)
}

/// Opens a data directory as a server with default settings would, for a tool that appends to it.
///
/// # Errors
/// `Locked`, `DataDir`, `System`.
pub fn open_for_import(path: &Path, shards: u16) -> Result<DataDir, StartError> {
    open_sized(path, None, shards)
}

fn open_sized(path: &Path, segment_bytes: Option<u64>, shards: u16) -> Result<DataDir, StartError> {
    let sizes = match segment_bytes {
        Some(bytes) => LogOptions {
            segment_bytes_initial: bytes.min(LogOptions::default().segment_bytes_initial),
            segment_bytes_max: bytes,
            ..LogOptions::default()
        },
        None => LogOptions::for_directory(path).map_err(|source| StartError::System {
            attempt: "read the file system's size",
            source,
        })?,
    };
    let options = LogOptions {
        index_key: IndexKey {
            scheme: KEY_SCHEME,
            of: record_key,
        },
        ..sizes
    };
    let opened = DataDir::open_covered(path, u32::from(shards), options, shard::covered);
    opened.map_err(|source| match source {
        StorageError::Locked { .. } => StartError::Locked(Box::new(source)),
        _ => StartError::DataDir {
            path: path.into(),
            source: Box::new(source),
        },
    })
}
