//! The control log: one for a data directory, whatever its shards (`storage/FORMAT.md`, section
//! 10).
//!
//! ```text
//! append ──▶ record written to the segment ──▶ flush ──▶ next segment prepared, if it is due
//! ```
//!
//! Changes are few and small, so they are written and flushed one at a time, on a helper thread.
//! What a change says is applied by the caller once it is stored. A record that is not known is
//! refused when the log is opened: half of a control plane would give a namespace to whoever asks
//! for it next.

use super::change::{Change, ChangeDecodeError, RECORD_KIND_CONTROL};
use super::registry::Registry;
use crate::model::Timestamp;
use flux_storage::{
    AppendError, DataDir, Log, LogOptions, Record, ReplayError, Sequence, StorageError,
};

/// Bytes of its first segment; a registration takes about 150.
const SEGMENT_BYTES_INITIAL: u64 = 64 * 1024;
/// Bytes of the largest.
const SEGMENT_BYTES_MAX: u64 = 256 * 1024;

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
    lost: u64,
}

impl ControlStore {
    /// Opens the control log of a data directory, making it if there is none, and reads it.
    /// Blocks.
    ///
    /// # Errors
    /// [`ControlError`].
    ///
    /// # Panics
    /// If it was opened before: it has one owner.
    pub fn open(data: &DataDir) -> Result<(Self, Registry), ControlError> {
        let options = LogOptions {
            segment_bytes_initial: SEGMENT_BYTES_INITIAL,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            ..LogOptions::default()
        };
        let place = data.take_control_log(options)?;
        let mut registry = Registry::default();
        let mut last_time = Timestamp::default();
        let mut lost = 0_u64;
        let opened = Log::open(place, |record| {
            last_time = last_time.max(Timestamp::from_micros(record.time_micros));
            match record.gap() {
                Some(gap) => lost = lost.saturating_add(gap.lost()),
                None => registry.apply(&decode(&record)?),
            }
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
            lost,
        };
        store.prepare();
        Ok((store, registry))
    }

    /// Changes that an earlier repair gave up. Among them may be deletions and replaced tokens, so
    /// what they took away may be there again; whoever starts the server is to be told.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// True if a failed write or flush has closed the log for good.
    pub fn has_failed(&self) -> bool {
        self.log.failure().is_some()
    }

    /// Stores a change. When this returns it is on the disk. Blocks.
    ///
    /// # Errors
    /// If it is not stored. `OutOfSpace`, `ReadOnly` and `Io` pass when their reason does,
    /// unless the log has failed ([`ControlStore::has_failed`]): then every call after it is
    /// `Poisoned`.
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
                Err(
                    AppendError::TooLarge { .. }
                    | AppendError::GroupTooLarge
                    | AppendError::Poisoned,
                ) => {
                    let reason = self.log.failure().unwrap_or("the record is too large");
                    return Err(StorageError::Poisoned {
                        reason: reason.into(),
                    });
                }
            }
        }
    }

    /// Prepares the next segment ahead of its time. If that fails, the append that needs it says
    /// why.
    fn prepare(&mut self) {
        match self.make_spare() {
            Ok(()) | Err(_) => {}
        }
    }

    fn make_spare(&mut self) -> Result<(), StorageError> {
        let Some(job) = self.log.next_segment_job() else {
            return Ok(());
        };
        match job.run() {
            Ok(next) => {
                self.log.install_next_segment(next);
                Ok(())
            }
            Err(error) => {
                self.log.next_segment_failed();
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
    use crate::model::{ConfigPatch, Visibility};
    use std::path::Path;

    fn registered(number: u32) -> Change {
        Change::Registered(Namespace {
            id: format!("ns_{number}").into(),
            name: format!("name-{number}").into(),
            token: TokenHash::of(&number.to_le_bytes()),
            created: Timestamp::from_micros(i64::from(number)),
            after: Some(Sequence::new(u64::from(number))),
            visibility: Visibility::Public,
        })
    }

    /// One change of every kind, and some more, as the `number` says.
    fn change(number: u32) -> Change {
        match number % 10 {
            7 => Change::TokenReplaced {
                name: format!("name-{}", number.saturating_sub(3)).into(),
                token: TokenHash::of(&(u64::from(number) << 32).to_le_bytes()),
            },
            8 => Change::Deleted {
                name: format!("name-{}", number.saturating_sub(3)).into(),
            },
            9 => Change::Configured(ConfigPatch {
                max_batch_delete: Some(number),
                ..ConfigPatch::default()
            }),
            _ => registered(number),
        }
    }

    fn namespaces(registry: &Registry) -> Vec<Namespace> {
        registry.list(None).cloned().collect()
    }

    /// Opens the control log of a directory with so many shards.
    fn open(path: &Path, shards: u32) -> Result<(ControlStore, Registry), ControlError> {
        let data = DataDir::open(path, shards, LogOptions::default())?;
        ControlStore::open(&data)
    }

    fn segments(path: &Path) -> usize {
        let names = std::fs::read_dir(path.join("control")).unwrap();
        let paths = names.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|it| it == "seg"))
            .count()
    }

    #[test]
    fn what_was_stored_is_there_when_it_is_opened_again_with_any_number_of_shards() {
        let dir = tempfile::tempdir().unwrap();
        let mut expected = Registry::default();
        // The store is closed in order only every other time.
        for round in 0..6 {
            let (mut store, registry) = open(dir.path(), 1 + round % 3).unwrap();
            assert_eq!(
                namespaces(&registry),
                namespaces(&expected),
                "round {round}"
            );
            assert_eq!(registry.config(), expected.config());
            assert_eq!(store.lost(), 0);
            for number in 0..400 {
                let change = change(round * 1000 + number);
                store.append(Timestamp::from_micros(1), &change).unwrap();
                expected.apply(&change);
            }
            if round % 2 == 0 {
                store.close().unwrap();
            }
        }
        assert!(segments(dir.path()) > 2, "it went through several segments");
    }

    #[test]
    fn a_backup_holds_every_change_and_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let [data, copy, restored] = ["data", "copy", "restored"].map(|name| dir.path().join(name));
        let (mut store, mut expected) = open(&data, 2).unwrap();
        for number in 0..900 {
            let change = change(number);
            store.append(Timestamp::from_micros(5), &change).unwrap();
            expected.apply(&change);
        }
        let options = flux_storage::BackupOptions {
            body_check: |_| true,
            time_micros: 0,
        };
        // Beside the open store.
        let summary = flux_storage::backup(&data, &copy, options, &mut |_| {}).unwrap();
        let position = summary.logs.last().unwrap();
        assert!(position.is_control() && position.through.get() == 900);
        flux_storage::restore(&copy, &restored, &mut |_| {}).unwrap();
        for (path, shards) in [(copy, 2), (restored, 1)] {
            let (_, registry) = open(&path, shards).unwrap();
            assert_eq!(namespaces(&registry), namespaces(&expected));
            assert_eq!(registry.config(), expected.config());
        }
    }

    #[test]
    fn records_of_another_log_are_refused_by_their_number() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path(), 1).unwrap();
        store.append(Timestamp::default(), &registered(1)).unwrap();
        store.log.append(1, 0, b"an event").unwrap();
        store.close().unwrap();
        let error = open(dir.path(), 1).unwrap_err().to_string();
        assert_eq!(
            error,
            "record 2 of the control log is of kind 1, which does not belong there"
        );
    }

    #[test]
    fn a_record_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path(), 1).unwrap();
        store.log.append(RECORD_KIND_CONTROL, 0, b"\x63").unwrap();
        store.close().unwrap();
        let error = open(dir.path(), 1).unwrap_err().to_string();
        assert_eq!(
            error,
            "record 1 of the control log: its kind 99 is not known to this version of flux"
        );
    }

    #[test]
    fn after_a_failed_flush_nothing_more_is_stored_until_it_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path(), 1).unwrap();
        store.append(Timestamp::default(), &registered(1)).unwrap();
        assert!(!store.has_failed());
        store.log.fail("flush: input/output error");
        assert!(store.has_failed());
        for number in 2..4 {
            let refused = store.append(Timestamp::default(), &registered(number));
            let error = refused.unwrap_err();
            assert!(
                matches!(&error, StorageError::Poisoned { reason } if reason.contains("input/output")),
                "{error}"
            );
        }
        drop(store);
        let (mut store, registry) = open(dir.path(), 1).unwrap();
        assert_eq!(registry.len(), 1);
        store.append(Timestamp::default(), &registered(2)).unwrap();
    }

    #[test]
    fn changes_that_a_repair_gave_up_are_counted_and_the_rest_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path(), 1).unwrap();
        for number in 1..=5 {
            store
                .append(Timestamp::default(), &registered(number))
                .unwrap();
        }
        store.close().unwrap();
        damage(&dir.path().join("control/00000001.seg"), b"name-3");
        let error = open(dir.path(), 1).unwrap_err().to_string();
        assert!(
            error.contains("control/00000001.seg is damaged at byte"),
            "{error}"
        );
        let repair = flux_storage::Repair::plan(dir.path(), |_| true, &mut |_| {}).unwrap();
        assert!(repair.is_needed() && repair.is_possible());
        repair.run(&dir.path().join("repair-1")).unwrap();
        let (mut store, registry) = open(dir.path(), 1).unwrap();
        assert_eq!(store.lost(), 1);
        let names: Vec<&str> = registry.list(None).map(|it| &*it.name).collect();
        assert_eq!(names, ["name-1", "name-2", "name-4", "name-5"]);
        store.append(Timestamp::default(), &registered(6)).unwrap();
    }

    /// Changes one byte of the record that holds these.
    fn damage(path: &Path, text: &[u8]) {
        use std::os::unix::fs::FileExt as _;
        let bytes = std::fs::read(path).unwrap();
        let found = bytes.windows(text.len()).position(|window| window == text);
        let found = found.expect("the change is stored");
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let offset = u64::try_from(found).unwrap();
        file.write_all_at(&[bytes[found] ^ 1], offset).unwrap();
    }
}
