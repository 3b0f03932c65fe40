//! The log of the control plane: `<data>/control`, a data directory of its own with one log (`storage/FORMAT.md`).
//!
//! Its changes are few and small, so they are written and flushed one at a time, on a helper thread.

use super::change::{Change, ChangeDecodeError, RECORD_KIND_CONTROL};
use super::registry::Registry;
use crate::model::Timestamp;
use flux_storage::{
    AppendError, DataDir, Log, LogOptions, Record, ReplayError, Sequence, StorageError,
};
use std::path::Path;

/// Where it lies in the data directory.
pub const CONTROL_NAME: &str = "control";

/// Bytes of its first segment; a registration takes about 150.
const SEGMENT_BYTES_INITIAL: u64 = 64 * 1024;
/// Bytes of the largest.
const SEGMENT_BYTES_MAX: u64 = 1024 * 1024;

/// Why the control plane can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Its log is damaged or can't be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A record of its log is none that this version knows.
    #[error("record {} of the control log: {source}", sequence.get())]
    Record {
        /// Which.
        sequence: Sequence,
        /// What is wrong with it.
        source: ChangeDecodeError,
    },
    /// A record of its log is of another kind of log.
    #[error("record {} of the control log is of kind {kind}, which does not belong there", sequence.get())]
    Foreign {
        /// Which.
        sequence: Sequence,
        /// Its kind.
        kind: u8,
    },
}

/// See the module. One owner.
#[derive(Debug)]
pub struct ControlStore {
    log: Log,
    last_time: Timestamp,
    payload: Vec<u8>,
    /// Holds the directory's lock.
    _dir: DataDir,
}

impl ControlStore {
    /// Opens the control log of a data directory, making it where there is none, and reads it. Blocks.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn open(data_dir: &Path) -> Result<(Self, Registry), ControlError> {
        let options = LogOptions {
            segment_bytes_initial: SEGMENT_BYTES_INITIAL,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            ..LogOptions::default()
        };
        let mut dir = DataDir::open(data_dir.join(CONTROL_NAME), 1, options)?;
        let mut registry = Registry::default();
        let mut last_time = Timestamp::default();
        let opened = Log::open(dir.take_log(0), |record| {
            last_time = last_time.max(Timestamp::from_micros(record.time_micros));
            registry.apply(&decode(&record)?);
            Ok(())
        });
        let (log, _) = opened.map_err(|error| match error {
            ReplayError::Storage(error) => ControlError::Storage(error),
            ReplayError::Visit(error) => error,
        })?;
        let mut store = Self {
            log,
            last_time,
            payload: Vec::new(),
            _dir: dir,
        };
        store.prepare();
        Ok((store, registry))
    }

    /// Stores a change. When this returns it is on the disk. Blocks.
    ///
    /// # Errors
    /// Where it is not stored: `OutOfSpace`, `ReadOnly` and `Io` pass when their reason does; after a failed flush
    /// every call is `Poisoned`.
    pub fn append(&mut self, now: Timestamp, change: &Change) -> Result<(), StorageError> {
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        change.encode(&mut payload);
        let time = now.max(self.last_time);
        let stored = self.store(time, &payload);
        self.payload = payload;
        stored?;
        self.last_time = time;
        self.prepare();
        Ok(())
    }

    fn store(&mut self, time: Timestamp, payload: &[u8]) -> Result<(), StorageError> {
        loop {
            let appended = self
                .log
                .append(RECORD_KIND_CONTROL, time.as_micros(), payload);
            match appended {
                Ok(_) => return self.log.flush_blocking(),
                Err(AppendError::SegmentNeeded { .. }) => self.make_spare()?,
                Err(AppendError::TooLarge { .. } | AppendError::Poisoned) => {
                    let reason = self.log.failure().unwrap_or("the record is too large");
                    return Err(StorageError::Poisoned {
                        reason: reason.into(),
                    });
                }
            }
        }
    }

    /// Prepares the next segment ahead of its time. Where that fails, the append that needs it says why.
    fn prepare(&mut self) {
        match self.make_spare() {
            Ok(()) | Err(_) => {}
        }
    }

    fn make_spare(&mut self) -> Result<(), StorageError> {
        let Some(job) = self.log.spare_job() else {
            return Ok(());
        };
        match job.run() {
            Ok(spare) => {
                self.log.install_spare(spare);
                Ok(())
            }
            Err(error) => {
                self.log.spare_failed();
                Err(error)
            }
        }
    }

    /// Leaves the log as a clean shutdown does.
    ///
    /// # Errors
    /// As for [`Log::close`].
    pub fn close(self) -> Result<(), StorageError> {
        self.log.close()
    }
}

fn decode(record: &Record<'_>) -> Result<Change, ControlError> {
    let sequence = record.sequence;
    match record.kind {
        RECORD_KIND_CONTROL => Change::decode(record.payload)
            .map_err(|source| ControlError::Record { sequence, source }),
        kind => Err(ControlError::Foreign { sequence, kind }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TokenHash;
    use crate::control::Namespace;
    use crate::model::ConfigPatch;

    fn registered(number: u32) -> Change {
        Change::Registered(Namespace {
            id: format!("ns_{number}").into(),
            name: format!("name-{number}").into(),
            token: TokenHash::of(&number.to_le_bytes()),
            created: Timestamp::from_micros(i64::from(number)),
        })
    }

    #[test]
    fn what_was_stored_is_there_when_it_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut expected = Registry::default();
        // Enough for several segments; the store is closed in order only every other time.
        for round in 0..6 {
            let (mut store, registry) = ControlStore::open(dir.path()).unwrap();
            let names =
                |registry: &Registry| -> Vec<Namespace> { registry.list(None).cloned().collect() };
            assert_eq!(names(&registry), names(&expected), "round {round}");
            assert_eq!(registry.config(), expected.config());
            for number in 0..400 {
                let change = match number % 10 {
                    8 => Change::Deleted {
                        name: format!("name-{}", number - 3).into(),
                    },
                    9 => Change::Configured(ConfigPatch {
                        max_batch_delete: Some(round * 1000 + number),
                        ..ConfigPatch::default()
                    }),
                    _ => registered(round * 1000 + number),
                };
                store.append(Timestamp::from_micros(1), &change).unwrap();
                expected.apply(&change);
            }
            if round % 2 == 0 {
                store.close().unwrap();
            }
        }
    }

    #[test]
    fn records_of_another_log_are_refused_by_their_number() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = ControlStore::open(dir.path()).unwrap();
        store.append(Timestamp::default(), &registered(1)).unwrap();
        store.log.append(1, 0, b"an event").unwrap();
        store.close().unwrap();
        let error = ControlStore::open(dir.path()).unwrap_err().to_string();
        assert_eq!(
            error,
            "record 2 of the control log is of kind 1, which does not belong there"
        );
    }

    #[test]
    fn a_record_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = ControlStore::open(dir.path()).unwrap();
        store.log.append(RECORD_KIND_CONTROL, 0, b"\x63").unwrap();
        store.close().unwrap();
        let error = ControlStore::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("record 1") && error.contains("kind 99"),
            "{error}"
        );
    }
}
