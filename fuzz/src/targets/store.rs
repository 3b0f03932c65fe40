//! A small data directory, made once for each process: a log of several segments with its indexes,
//! and two checkpoints.

use crate::edits::Files;
use flux_storage::{
    AppendError, CheckpointDir, CheckpointKind, CheckpointMeta, DataDir, GroupSize, IndexKey,
    LayerEntity, LayerStack, Log, LogOptions, Owner, Record, ReplayError, Sequence,
};
use std::convert::Infallible;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use tempfile::TempDir;

/// Records of the log; four fit a segment.
const RECORDS: u64 = 18;
/// The last records of what is appended together.
const GROUP_ENDS: [u64; 3] = [7, 13, 18];
const KIND: u8 = 1;
/// Keys of the index.
pub(super) const KEYS: u64 = 3;

/// The smallest segments that there are.
pub(super) const OPTIONS: LogOptions = LogOptions {
    segment_bytes_initial: 8192,
    segment_bytes_max: 8192,
    index_key: IndexKey {
        scheme: 1,
        of: |_, payload| payload.first().map_or(0, |&byte| u64::from(byte) % KEYS),
    },
};

/// A record that owns its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) sequence: u64,
    pub(super) time_micros: i64,
    pub(super) payload: Vec<u8>,
}

impl Owned {
    pub(super) fn of(record: &Record<'_>) -> Self {
        assert_eq!(record.kind, KIND, "nobody wrote another kind");
        Self {
            sequence: record.sequence.get(),
            time_micros: record.time_micros,
            payload: record.payload.to_vec(),
        }
    }

    pub(super) fn key(&self) -> u64 {
        (OPTIONS.index_key.of)(KIND, &self.payload)
    }
}

/// The directory as it should be.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) files: Files,
    /// The log's records, from sequence 1 on.
    pub(super) records: Vec<Owned>,
    pub(super) owner: Owner,
    /// The directory of the checkpoints, within the data directory.
    pub(super) checkpoints: String,
}

fn record(sequence: u64) -> Owned {
    let mut random = fastrand::Rng::with_seed(sequence);
    let len = random.usize(200..900);
    let mut payload = vec![0; len];
    random.fill(&mut payload);
    Owned {
        sequence,
        time_micros: i64::try_from(sequence).expect("it is small") * 1000,
        payload,
    }
}

/// A directory in memory where there is one, since each run writes all files.
pub(super) fn scratch() -> TempDir {
    let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    memory.expect("a scratch directory")
}

impl Image {
    /// Makes it.
    pub(super) fn make() -> Self {
        let root = scratch();
        let mut data = DataDir::open(root.path(), 1, OPTIONS).expect("an empty directory opens");
        let checkpoints = data.checkpoint_path(1, 0, 1);
        let opened = Log::open::<Infallible>(data.take_log(0), |_| Ok(()));
        let (mut log, _) = opened.expect("an empty log opens");
        let records: Vec<Owned> = (1..=RECORDS).map(record).collect();
        for group in groups(&records) {
            append(&mut log, group);
        }
        let owner = log.owner();
        write_checkpoints(&checkpoints, owner);
        log.close().expect("the log closes");
        drop(data);
        let below = checkpoints.strip_prefix(root.path());
        let below = below.expect("checkpoints lie in the data directory");
        Self {
            files: read_files(root.path()),
            records,
            owner,
            checkpoints: below.to_string_lossy().into_owned(),
        }
    }

    /// Insists that of each group all records are there or none.
    pub(super) fn check_groups(&self, records: &[Owned]) {
        for group in groups(&self.records) {
            let found = records.iter().filter(|record| group.contains(record));
            let count = found.count();
            assert!(count == 0 || count == group.len(), "a part of a group");
        }
    }

    /// Insists that `record` is the one that was written under its sequence.
    pub(super) fn check(&self, record: &Owned) {
        let at = usize::try_from(record.sequence).expect("it is small");
        let expected = at.checked_sub(1).and_then(|at| self.records.get(at));
        assert_eq!(Some(record), expected, "a record that nobody wrote");
    }
}

/// The records as they are appended: three together each time, or one.
fn groups(records: &[Owned]) -> impl Iterator<Item = &[Owned]> {
    records.chunk_by(|_, next| {
        let ends = GROUP_ENDS.iter();
        ends.clone()
            .any(|end| (end - 1..=*end).contains(&next.sequence))
    })
}

fn append(log: &mut Log, group: &[Owned]) {
    let size = GroupSize {
        records: group.len(),
        payload_bytes: group.iter().map(|record| record.payload.len()).sum(),
    };
    loop {
        match log.begin_group(size) {
            Ok(()) => {
                for record in group {
                    let appended = log.append(KIND, record.time_micros, &record.payload);
                    let appended = appended.expect("there is room for the group");
                    assert_eq!(appended.get(), record.sequence);
                }
                log.end_group();
                break;
            }
            Err(AppendError::SegmentNeeded { .. }) => {
                let job = log.next_segment_job().expect("a segment is wanted");
                log.install_next_segment(job.run().expect("a segment is made"));
            }
            Err(error) => panic!("{error}"),
        }
    }
    log.flush_blocking().expect("the log is flushed");
    while let Some(job) = log.index_job() {
        job.run().expect("an index is written");
    }
}

/// Entities of the older checkpoint, and of the newer one by version.
pub(super) fn entities(version: u64) -> Vec<(String, u64, String)> {
    let old = (0..40).map(|number| {
        let id = format!("fleet/robot-{number:04}");
        let changed = version == 2 && number % 5 == 0;
        (id, 1 + u64::from(changed), format!("{{\"n\":{number}}}"))
    });
    old.collect()
}

fn write_checkpoints(path: &Path, owner: Owner) {
    let mut dir = open_checkpoints(path, owner);
    dir.load().expect("an empty directory loads");
    let mut stack = LayerStack::default();
    for version in 1..=2 {
        let all = entities(version);
        #[expect(clippy::needless_collect, reason = "the writer asks for their number")]
        let changed: Vec<LayerEntity<'_>> = all
            .iter()
            .filter(|(_, changed, _)| *changed == version)
            .map(|(id, version, body)| LayerEntity {
                id,
                version: *version,
                time_micros: 1,
                sequence: Sequence::new(*version),
                body: Some(body),
            })
            .collect();
        let pending = dir.write(changed.into_iter(), &stack, meta(version), &mut |_| {
            ControlFlow::Continue(())
        });
        let pending = pending.expect("a checkpoint is written");
        stack = pending.stack().clone();
        dir.publish(pending).expect("a checkpoint is published");
    }
}

/// What a checkpoint says of itself.
pub(super) fn meta(version: u64) -> CheckpointMeta {
    CheckpointMeta {
        through: Sequence::new(version),
        time_micros: 1,
        events: version,
        entities: 40,
        last_delete: Sequence::ZERO,
    }
}

/// The directory of checkpoints.
pub(super) fn open_checkpoints(path: &Path, owner: Owner) -> CheckpointDir {
    CheckpointDir::new(path, owner, CheckpointKind::Cache, |body| {
        body.starts_with('{')
    })
}

/// All files below a directory.
fn read_files(root: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(root).expect("it lies below");
            let bytes = fs::read(&path).expect("a readable file");
            files.insert(name.to_string_lossy().into_owned(), bytes);
        }
    }
    files
}

/// A directory with these files.
#[expect(
    clippy::disallowed_methods,
    reason = "damaged files go past the storage"
)]
pub(super) fn lay_out(files: &Files) -> TempDir {
    let root = scratch();
    for (name, bytes) in files {
        let path = root.path().join(name);
        let folder = path.parent().expect("it lies in the directory");
        fs::create_dir_all(folder).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }
    root
}

/// Opens a log whose visitor never fails.
pub(super) fn open_log(root: &Path, mut visit: impl FnMut(&Record<'_>)) -> Option<(DataDir, Log)> {
    let mut data = DataDir::open(root, 1, OPTIONS).ok()?;
    let opened = Log::open::<Infallible>(data.take_log(0), |record| {
        visit(&record);
        Ok(())
    });
    match opened {
        Ok((log, _)) => Some((data, log)),
        Err(ReplayError::Storage(_)) => None,
        Err(ReplayError::Visit(never)) => match never {},
    }
}
