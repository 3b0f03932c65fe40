//! A disk that refuses any one operation on files, or everything from one on.
//!
//! The story is a life of a data directory: it is opened, gets its ballast, and while records are
//! appended and flushed, segments are prepared and indexed, checkpoints written and published, old
//! segments retired. It is told for each operation that it takes, on an empty directory and on one
//! that had a life before, with each error that a full, limited, failing or read-only disk gives.
//! Told is also how it ends: the fault goes away, and the log goes on as before, unless writing
//! records or a flush had failed; then it takes nothing more until it is opened again. Opened
//! again, it has every record that a flush had covered, and checkpoints that it can stand behind.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::path::Path;

use crate::checkpoint::{CheckpointDir, CheckpointKind, CheckpointMeta, LayerEntity, LayerStack};
use crate::disk::faults::{self, Plan};
use crate::disk::layout;
use crate::format::header::HEADER_BYTES;
use crate::{
    AppendError, CheckpointError, DataDir, IndexKey, Log, LogOptions, Record, Removal, RetirePlan,
    Sequence, StorageError,
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;

const OPTIONS: LogOptions = LogOptions {
    segment_bytes_initial: 2 * HEADER_BYTES as u64,
    segment_bytes_max: 2 * HEADER_BYTES as u64,
    index_key: IndexKey {
        scheme: 1,
        of: |kind, payload| u64::from(kind) + payload.len() as u64,
    },
};
const RESERVE_BYTES: u64 = 8192;
const PAYLOAD_BYTES: usize = 900;
/// Records of one life: four fit a segment.
const APPENDS: u64 = 14;

/// A record's payload, which says where it belongs.
fn payload(sequence: Sequence) -> Vec<u8> {
    sequence
        .get()
        .to_le_bytes()
        .into_iter()
        .cycle()
        .take(PAYLOAD_BYTES)
        .collect()
}

/// A life as it went.
#[derive(Default)]
struct Life {
    /// What refused, in the order in which it did.
    refusals: Vec<StorageError>,
    /// The last record that a flush covered.
    acknowledged: Sequence,
    /// What the newest checkpoint covers whose publishing succeeded.
    published: Sequence,
    open: Option<Open>,
}

/// A directory that could be opened.
struct Open {
    data: DataDir,
    log: Log,
    checkpoints: CheckpointDir,
    layers: LayerStack,
}

impl Life {
    fn note<T>(&mut self, result: Result<T, StorageError>) -> Option<T> {
        result.map_err(|error| self.refusals.push(error)).ok()
    }

    fn note_checkpoint<T>(&mut self, result: Result<T, CheckpointError>) -> Option<T> {
        self.note(result.map_err(|error| match error {
            CheckpointError::Storage(error) => error,
            other => panic!("a checkpoint failed for another reason: {other}"),
        }))
    }

    /// Opens what is there. What it holds was acknowledged, because opening makes it durable.
    fn begin(root: &Path) -> Self {
        let mut life = Self::default();
        let opened = DataDir::open(root, 1, OPTIONS);
        let Some(mut data) = life.note(opened) else {
            return life;
        };
        let reserved = data.make_ballast(RESERVE_BYTES);
        life.note(reserved);
        let mut next = None;
        let opened = Log::open::<Infallible>(data.take_log(0), |record| {
            check(&record, &mut next);
            Ok(())
        });
        let opened = opened.map_err(|error| match error {
            crate::ReplayError::Storage(error) => error,
            crate::ReplayError::Visit(never) => match never {},
        });
        let Some((log, _)) = life.note(opened) else {
            return life;
        };
        life.acknowledged = log.durable();
        let path = data.checkpoint_path(1, 0, 1);
        let mut checkpoints =
            CheckpointDir::new(path, log.owner(), CheckpointKind::Cache, |body| {
                body == "{}"
            });
        let Some(load) = life.note_checkpoint(checkpoints.load()) else {
            return life;
        };
        assert_eq!(load.quarantined, []);
        let found = load.checkpoint;
        life.published = found.as_ref().map_or(Sequence::ZERO, |it| it.meta.through);
        assert!(
            life.published <= log.durable(),
            "a checkpoint is behind its log"
        );
        life.open = Some(Open {
            data,
            log,
            checkpoints,
            layers: found.map_or_else(LayerStack::default, |it| it.stack),
        });
        life
    }

    /// Appends, flushes, and does whatever a server does beside it, whatever of it is refused.
    fn work(&mut self) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        for turn in 1..=APPENDS {
            if let Some(job) = open.log.next_segment_job() {
                match self.note(job.run()) {
                    Some(next_segment) => open.log.install_next_segment(next_segment),
                    None => open.log.next_segment_failed(),
                }
            }
            match open.log.append(1, 0, &payload(open.log.appended().next())) {
                Ok(_) | Err(AppendError::SegmentNeeded { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            let flushed = open.log.flush_blocking();
            if self.note(flushed).is_none() {
                break;
            }
            self.acknowledged = open.log.appended();
            if let Some(job) = open.log.index_job() {
                self.note(job.run());
            }
            if turn % 5 == 0 {
                self.checkpoint(&mut open);
            }
            if turn == 11 {
                self.retire(&mut open.log);
            }
        }
        self.open = Some(open);
    }

    fn checkpoint(&mut self, open: &mut Open) {
        let through = open.log.durable();
        let id = format!("entity-{through}");
        let changed = [LayerEntity {
            id: &id,
            version: through.get(),
            time_micros: 0,
            sequence: through,
            body: Some("{}"),
        }];
        let meta = CheckpointMeta {
            through,
            time_micros: 0,
            events: through.get(),
            entities: 1,
            last_delete: Sequence::ZERO,
        };
        let pace = &mut |_| ControlFlow::Continue(());
        let written = open
            .checkpoints
            .write(changed.into_iter(), &open.layers, meta, pace);
        let Some(pending) = self.note_checkpoint(written) else {
            return;
        };
        let layers = pending.stack().clone();
        let published = open.checkpoints.publish(pending);
        if self.note_checkpoint(published).is_some() {
            open.layers = layers;
            self.published = through;
            let removed = open.checkpoints.remove_unreferenced();
            self.note_checkpoint(removed);
        }
    }

    fn retire(&mut self, log: &mut Log) {
        let segments = log.removable(self.published.next());
        let removal = Removal {
            excess_bytes: 1,
            before_micros: i64::MIN,
        };
        let chosen = RetirePlan::choose(&segments, removal);
        if let Some(plan) = self.note(chosen).flatten() {
            let job = log.retire(plan);
            self.note(job.run());
        }
    }

    /// The fault is gone. Tells whether the log had to stop.
    fn recover(&mut self, context: &str) -> bool {
        self.refusals.clear();
        let Some(open) = &mut self.open else {
            return false;
        };
        if open.log.failure().is_none() {
            let before = open.log.appended().get();
            self.work();
            assert!(self.refusals.is_empty(), "{context}: {:?}", self.refusals);
            assert_eq!(self.acknowledged.get(), before + APPENDS, "{context}");
            return false;
        }
        assert_eq!(open.log.append(1, 0, &[1]), Err(AppendError::Poisoned));
        assert!(open.log.begin_flush().is_err() && open.log.next_segment_job().is_none());
        assert_eq!(open.log.durable(), self.acknowledged, "{context}");
        true
    }

    /// Ends it in order, if it is possible.
    fn end(self, context: &str) {
        let Some(Open { data, log, .. }) = self.open else {
            return;
        };
        data.release_ballast().unwrap();
        let failed = log.failure().is_some();
        assert_eq!(log.close().is_err(), failed, "{context}");
    }
}

/// Insists on a record that follows the last and holds what it should.
fn check(record: &Record<'_>, next: &mut Option<Sequence>) {
    assert_eq!(record.sequence, next.unwrap_or(record.sequence));
    assert_eq!(record.payload, payload(record.sequence));
    *next = Some(record.sequence.next());
}

/// Insists on the variant that says what to do about such an error, on the operation and on the
/// name.
fn check_refusal(error: &StorageError, code: i32, (op, name): &(&str, String), context: &str) {
    let ((
        StorageError::Io {
            op: found, path, ..
        },
        EIO,
    )
    | (
        StorageError::OutOfSpace {
            op: found, path, ..
        },
        ENOSPC | EDQUOT,
    )
    | (
        StorageError::ReadOnly {
            op: found, path, ..
        },
        EROFS,
    )) = (error, code)
    else {
        panic!("{context}: {error}");
    };
    assert_eq!(found, op, "{context}");
    assert!(path.ends_with(name), "{context}: {error}");
}

/// Files with a name for the time being.
fn unfinished(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(unfinished(&path));
        } else if path.file_name().unwrap().to_str().unwrap().contains(".tmp") {
            found.push(path.display().to_string());
        }
    }
    found
}

/// A directory in memory where there is one: what a refusal leaves does not depend on the disk.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory)
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// Tells the story with one plan; false if it ended before the plan struck.
fn tell(plan: Plan, lives_before: usize) -> bool {
    let (Plan::FailOnce(passes, code) | Plan::FailFrom(passes, code)) = plan else {
        unreachable!("the story is of refusals");
    };
    let context = format!("{plan:?} after {lives_before} lives");
    let root = scratch();
    let mut promised = Sequence::ZERO;
    for _ in 0..lives_before {
        let mut life = Life::begin(root.path());
        life.work();
        assert!(life.refusals.is_empty());
        promised = life.acknowledged;
        life.end(&context);
    }

    faults::order(plan);
    let mut life = Life::begin(root.path());
    life.work();
    let operations = faults::operations();
    let Some(struck) = operations.get(passes) else {
        assert!(life.refusals.is_empty(), "{context}");
        return false;
    };
    let says_less_without_it = struck.1 == "LOCK" && struck.0 != "open";
    match (life.refusals.first(), plan) {
        (Some(error), _) if !says_less_without_it => check_refusal(error, code, struck, &context),
        (_, Plan::FailFrom(..)) => {}
        (refusal, _) => assert!(refusal.is_none() && says_less_without_it, "{context}"),
    }
    if matches!(plan, Plan::FailOnce(..)) {
        assert!(life.refusals.len() <= 1, "{context}: {:?}", life.refusals);
    }

    let is_of_records = matches!(struck.0, "activate" | "append to" | "flush")
        && layout::parse_segment(&struck.1).is_some();
    let stopped = life.recover(&context);
    if matches!(plan, Plan::FailOnce(..)) {
        assert_eq!(stopped, is_of_records && life.open.is_some(), "{context}");
    }
    promised = promised.max(life.acknowledged);
    let published = life.published;
    life.end(&context);

    let mut life = Life::begin(root.path());
    assert!(life.refusals.is_empty(), "{context}: {:?}", life.refusals);
    assert!(life.acknowledged >= promised, "{context}: {promised}");
    assert!(life.published >= published, "{context}");
    life.work();
    assert!(life.refusals.is_empty(), "{context}: {:?}", life.refusals);
    life.end(&context);
    let left = unfinished(root.path());
    assert!(left.is_empty(), "{context}: {left:?}");
    true
}

/// Tells it for every operation there is; returns how many there are.
fn tell_all(lives_before: usize, plan: impl Fn(usize) -> Plan) -> usize {
    let mut passes = 0;
    while tell(plan(passes), lives_before) {
        passes += 1;
    }
    passes
}

#[test]
fn a_first_start_goes_on_wherever_the_one_before_was_cut_off() {
    let start = |root: &Path| {
        let data = DataDir::open(root, 1, OPTIONS)?;
        assert!(!data.lacks_control()?, "nothing was ever acknowledged");
        drop(data.take_control_log(OPTIONS)?);
        Ok::<(), StorageError>(())
    };
    let mut passes = 0;
    loop {
        let scratch = scratch();
        faults::order(Plan::Crash(passes));
        let cut_off = start(scratch.path());
        drop(faults::operations());
        start(scratch.path()).unwrap_or_else(|error| panic!("after {passes} operations: {error}"));
        if cut_off.is_ok() {
            break;
        }
        passes += 1;
    }
    assert!(passes > 20, "{passes} operations");
}

/// A process may be killed between making a name and flushing the directory that holds it. What the
/// next start builds on that name would go with it in a power cut.
#[test]
fn a_start_flushes_the_directories_that_it_relies_on() {
    let scratch = scratch();
    let mut life = Life::begin(scratch.path());
    life.work();
    drop(life);
    drop(
        DataDir::open(scratch.path(), 1, OPTIONS)
            .unwrap()
            .take_control_log(OPTIONS),
    );
    faults::order(Plan::Pass);
    let data = DataDir::open(scratch.path(), 1, OPTIONS).unwrap();
    let control = data.take_control_log(OPTIONS).unwrap();
    drop(Log::open::<Infallible>(control, |_| Ok(())).unwrap());
    drop(data);
    drop(Life::begin(scratch.path()));
    let operations = faults::operations();
    let root = scratch.path().file_name().unwrap().to_string_lossy();
    for name in [
        &root,
        "log",
        "000001",
        "000-of-001",
        "control",
        "checkpoints",
    ] {
        let is_flush = |(op, of): &(&str, String)| *op == "flush directory" && *of == name;
        assert!(operations.iter().any(is_flush), "{name}: {operations:?}");
    }
    let flushes = operations
        .iter()
        .filter(|(op, of)| *op == "flush directory" && of == "000-of-001");
    assert!(flushes.count() >= 2, "the log's and the checkpoints'");
}

#[test]
fn readers_of_a_log_that_could_not_be_written_see_what_was() {
    let root = scratch();
    let mut data = DataDir::open(root.path(), 1, OPTIONS).unwrap();
    let (mut log, _) = Log::open::<Infallible>(data.take_log(0), |_| Ok(())).unwrap();
    let append = |log: &mut Log| {
        log.append(1, 0, &payload(log.appended().next())).unwrap();
    };
    append(&mut log);
    log.flush_blocking().unwrap();
    append(&mut log);
    log.write_out().unwrap();
    append(&mut log);
    faults::order(Plan::FailOnce(0, EIO));
    let reader = log.reader(log.appended());
    faults::operations();
    let noted = reader
        .active
        .as_ref()
        .map(|active| active.index_builder.len());
    assert_eq!(noted, Some(2));
    let mut next = Some(Sequence::new(1));
    let shown = reader.read_forward::<()>(Sequence::ZERO, |record| {
        check(&record, &mut next);
        Ok(ControlFlow::Continue(()))
    });
    shown.unwrap();
    assert_eq!(
        (reader.end(), next),
        (Sequence::new(2), Some(Sequence::new(3)))
    );
    let mut found = 0;
    let shown = reader.read_backward::<()>(0..=u64::MAX, Sequence::new(9), |_| {
        found += 1;
        Ok(ControlFlow::Continue(()))
    });
    shown.unwrap();
    assert_eq!(found, 2);
    assert!(log.failure().is_some() && log.write_out().is_err());
    assert_eq!(log.append(1, 0, &[1]), Err(AppendError::Poisoned));
}

#[test]
fn a_flush_that_is_out_covers_what_it_began_with_when_a_later_write_fails() {
    let root = scratch();
    let mut data = DataDir::open(root.path(), 1, OPTIONS).unwrap();
    let (mut log, _) = Log::open::<Infallible>(data.take_log(0), |_| Ok(())).unwrap();
    log.append(1, 0, &[1]).unwrap();
    let flush = log.begin_flush().unwrap().unwrap();
    log.append(1, 0, &[2]).unwrap();
    faults::order(Plan::FailOnce(0, EIO));
    log.write_out().unwrap_err();
    faults::operations();
    flush.sync_blocking().unwrap();
    log.finish_flush(flush);
    assert_eq!(log.durable(), Sequence::new(1));
    assert!(log.begin_flush().is_err() && log.close().is_err());
}

/// Makes a control log and stores one change in it. Tells how far it came, with what refused.
fn store_change(data: &DataDir) -> (u64, Result<(), StorageError>) {
    let place = match data.take_control_log(OPTIONS) {
        Ok(place) => place,
        Err(error) => return (0, Err(error)),
    };
    match Log::open::<Infallible>(place, |_| Ok(())) {
        Err(crate::ReplayError::Storage(error)) => (0, Err(error)),
        Err(crate::ReplayError::Visit(never)) => match never {},
        Ok((mut log, _)) => {
            log.append(3, 0, b"change").unwrap();
            let stored = log.flush_blocking();
            let next = log.append(3, 0, b"more");
            assert_eq!(stored.is_err(), next == Err(AppendError::Poisoned));
            (u64::from(stored.is_ok()), stored)
        }
    }
}

/// Tells of a control log that is made and written to; false if it ended before the plan struck.
fn tell_of_control(plan: Plan) -> bool {
    let (Plan::FailOnce(passes, code) | Plan::FailFrom(passes, code)) = plan else {
        unreachable!("the story is of refusals");
    };
    let context = format!("control log, {plan:?}");
    let root = scratch();
    let data = DataDir::open(root.path(), 1, OPTIONS).unwrap();
    faults::order(plan);
    let (acknowledged, stored) = store_change(&data);
    let operations = faults::operations();
    let Some(struck) = operations.get(passes) else {
        assert!(stored.is_ok(), "{context}");
        return false;
    };
    let error = stored.expect_err(&context);
    check_refusal(&error, code, struck, &context);
    drop(data);

    let data = DataDir::open(root.path(), 1, OPTIONS).unwrap();
    let place = data.take_control_log(OPTIONS).unwrap();
    let (log, recovery) = Log::open::<Infallible>(place, |_| Ok(())).unwrap();
    assert!(recovery.records >= acknowledged, "{context}");
    log.close().unwrap();
    let left = unfinished(root.path());
    assert!(left.is_empty(), "{context}: {left:?}");
    true
}

#[test]
fn a_control_log_is_there_whole_or_not_at_all_whatever_is_refused() {
    for code in [EIO, ENOSPC, EROFS] {
        for once in [true, false] {
            let mut passes = 0;
            let plan = |passes| {
                if once {
                    Plan::FailOnce(passes, code)
                } else {
                    Plan::FailFrom(passes, code)
                }
            };
            while tell_of_control(plan(passes)) {
                passes += 1;
            }
            assert!(passes > 8, "only {passes} operations");
        }
    }
}

#[test]
fn one_refused_operation_costs_nothing_that_was_acknowledged() {
    for code in [EIO, ENOSPC, EDQUOT, EROFS] {
        for lives_before in [0, 1] {
            let count = tell_all(lives_before, |passes| Plan::FailOnce(passes, code));
            assert!(count > 80, "only {count} operations");
        }
    }
}

#[test]
fn a_disk_that_refuses_everything_from_some_point_on_costs_nothing_that_was_acknowledged() {
    for code in [EIO, ENOSPC, EROFS] {
        for lives_before in [0, 1] {
            let count = tell_all(lives_before, |passes| Plan::FailFrom(passes, code));
            assert!(count > 80, "only {count} operations");
        }
    }
}
