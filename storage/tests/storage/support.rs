//! What the tests of the storage share: a directory of their own, records to compare, and seeded
//! chance.

use std::convert::Infallible;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flux_storage::{
    AppendError, DataDir, GroupPlace, GroupSize, Log, LogOptions, Record, Recovery, ReplayError,
    Sequence, StorageError,
};

/// Segments as small as they get, so that a test has several.
pub(crate) const SMALL: LogOptions = LogOptions {
    segment_bytes_initial: 8192,
    segment_bytes_max: 32 * 1024,
    index_key: flux_storage::IndexKey::NONE,
};

/// A directory that goes with the test; in memory where there is such a file system, so that a
/// flush costs nothing.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: tempfile::TempDir,
}

/// A record, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) sequence: Sequence,
    pub(crate) time_micros: i64,
    pub(crate) kind: u8,
    pub(crate) group: Option<GroupPlace>,
    pub(crate) payload: Vec<u8>,
}

/// A data directory opened for one shard or more.
#[derive(Debug)]
pub(crate) struct Opened(pub(crate) DataDir);

impl From<Record<'_>> for Kept {
    fn from(record: Record<'_>) -> Self {
        Self {
            sequence: record.sequence,
            time_micros: record.time_micros,
            kind: record.kind,
            group: record.group,
            payload: record.payload.to_vec(),
        }
    }
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let dir = tempfile::tempdir_in(memory)
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn open(
        &self,
        shard_count: u32,
        options: LogOptions,
    ) -> Result<Opened, StorageError> {
        DataDir::open(self.path(), shard_count, options).map(Opened)
    }

    /// The directory of a shard's log.
    pub(crate) fn log_dir(&self, generation: u32, shard: u32, shard_count: u32) -> PathBuf {
        self.path().join(format!(
            "log/{generation:06}/{shard:03}-of-{shard_count:03}"
        ))
    }

    /// The files of the only shard's first generation, by name.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let read = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
        self.paths().into_iter().map(read).collect()
    }

    /// Where those files are.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.log_dir(1, 0, 1)).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    pub(crate) fn segment_sizes(&self) -> Vec<u64> {
        let files = self.files().into_iter();
        let segments = files.filter(|(path, _)| path.extension().is_some());
        segments.map(|(_, bytes)| bytes.len() as u64).collect()
    }
}

impl Opened {
    /// Opens the only shard's log and collects its records.
    pub(crate) fn log(mut self) -> (Log, Recovery, Vec<Kept>) {
        self.shard(0).unwrap()
    }

    pub(crate) fn shard(&mut self, shard: u32) -> Result<(Log, Recovery, Vec<Kept>), StorageError> {
        let place = self.0.take_log(shard);
        collect(|visit| Log::open(place, visit))
    }

    /// Opens the only shard's log from a sequence on.
    pub(crate) fn log_from(
        mut self,
        from: Sequence,
    ) -> Result<(Log, Recovery, Vec<Kept>), StorageError> {
        let place = self.0.take_log(0);
        collect(|visit| Log::open_from(place, from, visit))
    }
}

type Visit<'a> = &'a mut dyn FnMut(Record<'_>) -> Result<(), Infallible>;

/// What `open` opens, and the records that it visits.
fn collect(
    open: impl FnOnce(Visit<'_>) -> Result<(Log, Recovery), ReplayError<Infallible>>,
) -> Result<(Log, Recovery, Vec<Kept>), StorageError> {
    let mut records = Vec::new();
    let opened = open(&mut |record| {
        records.push(Kept::from(record));
        Ok(())
    });
    match opened {
        Ok((log, recovery)) => Ok((log, recovery, records)),
        Err(ReplayError::Storage(error)) => Err(error),
        Err(ReplayError::Visit(never)) => match never {},
    }
}

/// Opens the directory's only log with the default options.
pub(crate) fn open_log(scratch: &Scratch) -> (Log, Recovery, Vec<Kept>) {
    scratch.open(1, LogOptions::default()).unwrap().log()
}

/// Appends a record, making the next segment that it may need.
pub(crate) fn append(log: &mut Log, payload: &[u8]) -> Kept {
    let number = log.appended().next().get();
    append_at(log, i64::try_from(number).unwrap() * 1000, payload)
}

/// The same at a time.
pub(crate) fn append_at(log: &mut Log, time_micros: i64, payload: &[u8]) -> Kept {
    let number = log.appended().next().get();
    // Every kind but those of gaps and groups.
    let kind = u8::try_from(number % 254).unwrap();
    loop {
        match log.append(kind, time_micros, payload) {
            Ok(sequence) => {
                return Kept {
                    sequence,
                    time_micros,
                    kind,
                    group: None,
                    payload: payload.to_vec(),
                };
            }
            Err(AppendError::SegmentNeeded { .. }) => {
                let job = log.next_segment_job().unwrap();
                log.install_next_segment(job.run().unwrap());
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Begins a group for these payloads, making the next segment that it may need.
pub(crate) fn begin_group(log: &mut Log, payloads: &[Vec<u8>]) {
    let size = GroupSize {
        records: payloads.len(),
        payload_bytes: payloads.iter().map(Vec::len).sum(),
    };
    loop {
        match log.begin_group(size) {
            Ok(()) => return,
            Err(AppendError::SegmentNeeded { .. }) => {
                let job = log.next_segment_job().unwrap();
                log.install_next_segment(job.run().unwrap());
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Appends a group of at least two records.
pub(crate) fn append_group(log: &mut Log, payloads: &[Vec<u8>]) -> Vec<Kept> {
    begin_group(log, payloads);
    let count = u16::try_from(payloads.len()).unwrap();
    let kept = (0..count).zip(payloads).map(|(index, payload)| Kept {
        group: Some(GroupPlace { index, count }),
        ..append(log, payload)
    });
    let kept = kept.collect();
    log.end_group();
    kept
}

/// A payload that no other number has.
pub(crate) fn payload(number: u64, len: usize) -> Vec<u8> {
    let mut chance = fastrand::Rng::with_seed(number);
    (0..len).map(|_| chance.u64(..).to_le_bytes()[0]).collect()
}

/// Gives the file these bytes, whatever it was.
pub(crate) fn replace(path: &Path, bytes: &[u8]) {
    fs::File::create(path).unwrap().write_all(bytes).unwrap();
}
