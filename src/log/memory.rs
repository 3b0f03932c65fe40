//! A log in memory, for simulations and tests: it fails, runs out of room and loses what is not
//! durable, by seed.
//!
//! ```text
//! MemoryLog: what was appended ──write_out──▶ MemoryDisk: written ──MemoryFlusher──▶ durable
//! ```
//!
//! The disk outlives the log as a real one outlives its process. A log that is dropped loses what
//! it has not written; [`MemoryDisk::cut_power`] loses written records too, but never durable ones.
//! When a flush returns is up to the caller, who holds the [`MemoryFlush`] as long as the disk is
//! to lag.
#![expect(
    clippy::disallowed_types,
    reason = "a disk outlives its log, and is shared with the thread that flushes"
)]

use super::{
    AppendRejection, Flusher, IndexJob, Log, NextSegmentJob, RetentionChoice, RetentionPlan,
    RetireJob,
};
use crate::model::RECORD_KIND_EVENT;
use flux_storage::{LogReader, Record, ReplayError, Sequence, StorageError};
use std::fmt::Display;
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a disk in memory fails. By default it does not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults {
    /// Of a thousand writes, how many fail.
    pub writes_permille: u32,
    /// Of a thousand flushes, how many fail. A part of what they cover is durable nevertheless.
    pub flushes_permille: u32,
    /// Records that fit a segment; `None` if there is always room.
    pub segment_records: Option<RangeInclusive<u64>>,
    /// Of a thousand preparations of segments, how many find the disk full.
    pub segments_permille: u32,
}

/// What a log in memory is stored on.
#[derive(Debug, Clone)]
pub struct MemoryDisk(Arc<Mutex<Disk>>);

#[derive(Debug)]
struct Disk {
    written: Records,
    durable: u64,
    faults: Faults,
    random: fastrand::Rng,
}

/// Records one after the other.
#[derive(Debug, Default)]
struct Records {
    bytes: Vec<u8>,
    /// The time of each, and where its payload ends.
    entries: Vec<(i64, usize)>,
}

impl Records {
    fn push(&mut self, time_micros: i64, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.entries.push((time_micros, self.bytes.len()));
    }

    fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    fn truncate(&mut self, len: u64) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.entries.truncate(len);
        self.bytes.truncate(self.end_of(self.entries.len()));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// Where the payloads of the first `count` records end.
    fn end_of(&self, count: usize) -> usize {
        let last = count
            .checked_sub(1)
            .and_then(|index| self.entries.get(index));
        last.map_or(0, |(_, end)| *end)
    }

    fn iter(&self) -> impl Iterator<Item = (i64, &[u8])> {
        let mut start = 0;
        self.entries.iter().map(move |&(time_micros, end)| {
            let payload = &self.bytes[start..end];
            start = end;
            (time_micros, payload)
        })
    }
}

impl MemoryDisk {
    /// An empty disk that fails by `faults` and a seed.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            written: Records::default(),
            durable: 0,
            faults,
            random: fastrand::Rng::with_seed(seed),
        })))
    }

    /// From now on it fails like this.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Loses records that are not durable: all of them, or by seed only the last.
    pub fn cut_power(&self) {
        let mut disk = self.lock();
        let kept = disk.durable..=disk.written.len();
        let kept = disk.random.u64(kept);
        disk.written.truncate(kept);
    }

    /// How many records are durable, known to their log or not.
    pub fn durable(&self) -> u64 {
        self.lock().durable
    }

    /// The records that are written, in order, with their times.
    pub fn records(&self) -> Vec<(i64, Box<[u8]>)> {
        self.records_after(0)
    }

    /// The same without the first `count`.
    pub fn records_after(&self, count: u64) -> Vec<(i64, Box<[u8]>)> {
        let disk = self.lock();
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let start = disk.written.end_of(count);
        let entries = disk.written.entries.iter().skip(count);
        let mut from = start;
        let record = |&(time_micros, end): &(i64, usize)| {
            let payload = disk.written.bytes[from..end].into();
            from = end;
            (time_micros, payload)
        };
        entries.map(record).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new(0, Faults::default())
    }
}

impl Disk {
    fn fails(&mut self, permille: u32) -> bool {
        permille > 0 && self.random.u32(..1000) < permille
    }
}

/// See the module.
#[derive(Debug)]
pub struct MemoryLog {
    disk: MemoryDisk,
    /// What was appended and is not written.
    pending: Records,
    /// False if what is appended is counted and forgotten.
    is_kept: bool,
    appended: u64,
    written: u64,
    durable: u64,
    is_flushing: bool,
    segment: Option<Room>,
    next: NextState,
    failure: Option<Box<str>>,
}

/// Room for records in the active segment.
#[derive(Debug, Clone, Copy)]
struct Room {
    left: u64,
    all: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextState {
    None,
    InPreparation,
    Ready(u64),
}

/// A flush of a log in memory.
#[derive(Debug)]
pub struct MemoryFlush {
    disk: MemoryDisk,
    through: u64,
}

impl MemoryFlush {
    /// The last sequence that it covers.
    pub fn through(&self) -> Sequence {
        Sequence::new(self.through)
    }
}

/// Flushes a log in memory.
#[derive(Debug, Default)]
pub struct MemoryFlusher;

/// Room for so many more records.
#[derive(Debug)]
pub struct MemorySegment(u64);

/// A log in memory removes nothing.
#[derive(Debug, Clone, Copy)]
pub enum NoPlan {}

impl RetentionPlan for NoPlan {
    fn first_kept(&self) -> Sequence {
        match *self {}
    }
}

impl MemoryLog {
    /// Opens the log on a disk, and visits its records. They are durable.
    ///
    /// # Errors
    /// The visitor's.
    pub fn open<E>(
        disk: MemoryDisk,
        mut visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut guard = disk.lock();
        let written = guard.written.len();
        guard.durable = written;
        let segment = guard.faults.segment_records.clone();
        let segment = segment.map(|records| guard.random.u64(records));
        visit_records(&guard.written, 1, Sequence::ZERO, &mut visit)?;
        drop(guard);
        Ok(Self {
            disk,
            pending: Records::default(),
            is_kept: true,
            appended: written,
            written,
            durable: written,
            is_flushing: false,
            segment: segment.map(|all| Room { left: all, all }),
            next: NextState::None,
            failure: None,
        })
    }

    /// An empty log that does not fail, with memory for so many records and bytes.
    pub fn with_capacity(records: usize, bytes: usize) -> Self {
        let mut log = Self::new();
        log.pending.entries.reserve(records);
        log.pending.bytes.reserve(bytes);
        log
    }

    /// An empty log that takes everything, counts it and keeps nothing.
    pub fn discarding() -> Self {
        Self {
            is_kept: false,
            ..Self::new()
        }
    }

    /// An empty log that does not fail.
    pub fn new() -> Self {
        let opened = Self::open(MemoryDisk::default(), |_| {
            Ok::<(), std::convert::Infallible>(())
        });
        match opened {
            Ok(log) => log,
            Err(never) => match never {},
        }
    }

    /// What it is stored on.
    pub fn disk(&self) -> &MemoryDisk {
        &self.disk
    }

    fn check(&self) -> Result<(), StorageError> {
        match &self.failure {
            None => Ok(()),
            Some(reason) => Err(StorageError::Poisoned {
                reason: reason.clone(),
            }),
        }
    }
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

/// Visits `records`, of which the first has the number `first`, from `from` on.
fn visit_records<E>(
    records: &Records,
    first: u64,
    from: Sequence,
    visit: &mut impl FnMut(Record<'_>) -> Result<(), E>,
) -> Result<(), E> {
    for (number, (time_micros, payload)) in (first..).zip(records.iter()) {
        let sequence = Sequence::new(number);
        if sequence >= from {
            visit(Record {
                sequence,
                time_micros,
                kind: RECORD_KIND_EVENT,
                payload,
            })?;
        }
    }
    Ok(())
}

fn failed(op: &'static str) -> StorageError {
    StorageError::Io {
        op,
        path: Box::from(std::path::Path::new("memory")),
        source: io::Error::other("a fault by seed"),
    }
}

impl Log for MemoryLog {
    type Flush = MemoryFlush;
    type Flusher = MemoryFlusher;
    type NextSegment = MemorySegment;
    type RetentionPlan = NoPlan;

    fn append(&mut self, time_micros: i64, event: &[u8]) -> Result<Sequence, AppendRejection> {
        if self.failure.is_some() {
            return Err(AppendRejection::Closed);
        }
        if let Some(room) = &mut self.segment {
            if room.left == 0 {
                let NextState::Ready(all) = self.next else {
                    return Err(AppendRejection::NotReady);
                };
                self.next = NextState::None;
                *room = Room { left: all, all };
            }
            room.left -= 1;
        }
        if self.is_kept {
            self.pending.push(time_micros, event);
        }
        self.appended += 1;
        Ok(self.appended())
    }

    fn appended(&self) -> Sequence {
        Sequence::new(self.appended)
    }

    fn written(&self) -> Sequence {
        Sequence::new(self.written)
    }

    fn durable(&self) -> Sequence {
        Sequence::new(self.durable)
    }

    fn write_out(&mut self) -> Result<(), StorageError> {
        self.check()?;
        if self.written == self.appended {
            return Ok(());
        }
        let mut disk = self.disk.lock();
        let permille = disk.faults.writes_permille;
        let is_failing = disk.fails(permille);
        let count = if is_failing {
            disk.random.u64(..self.pending.len().max(1))
        } else {
            self.pending.len()
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        for (time_micros, payload) in self.pending.iter().take(count) {
            disk.written.push(time_micros, payload);
        }
        drop(disk);
        if is_failing {
            self.fail(&"writing failed");
            return Err(failed("write"));
        }
        self.pending.clear();
        self.written = self.appended;
        Ok(())
    }

    fn begin_flush(&mut self) -> Result<Option<MemoryFlush>, StorageError> {
        assert!(!self.is_flushing, "one flush at a time");
        self.write_out()?;
        if self.durable == self.appended {
            return Ok(None);
        }
        self.is_flushing = true;
        Ok(Some(MemoryFlush {
            disk: self.disk.clone(),
            through: self.appended,
        }))
    }

    fn finish_flush(&mut self, flush: MemoryFlush) {
        if self.failure.is_some() && !self.is_flushing {
            return;
        }
        assert!(
            self.is_flushing,
            "a flush is finished by the log that began it"
        );
        assert!(self.durable < flush.through && flush.through <= self.appended);
        self.is_flushing = false;
        self.durable = flush.through;
    }

    fn fail(&mut self, reason: &dyn Display) {
        self.is_flushing = false;
        self.failure
            .get_or_insert_with(|| reason.to_string().into());
    }

    fn truncate_after(&mut self, sequence: Sequence) -> Result<(), StorageError> {
        let kept = sequence.get();
        assert!(!self.is_flushing && self.next != NextState::InPreparation);
        assert!(self.durable <= kept && kept <= self.appended);
        self.check()?;
        let mut disk = self.disk.lock();
        disk.written.truncate(kept);
        disk.durable = disk.durable.min(kept);
        drop(disk);
        self.pending.truncate(kept.saturating_sub(self.written));
        self.written = self.written.min(kept);
        self.appended = kept;
        Ok(())
    }

    fn replay_from<E>(
        &mut self,
        from: Sequence,
        mut visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), ReplayError<E>> {
        let disk = self.disk.lock();
        visit_records(&disk.written, 1, from, &mut visit).map_err(ReplayError::Visit)?;
        let first = self.written + 1;
        visit_records(&self.pending, first, from, &mut visit).map_err(ReplayError::Visit)
    }

    fn reader(&mut self, _through: Sequence) -> Option<LogReader> {
        None
    }

    fn bytes_since(&self, sequence: Sequence) -> u64 {
        let disk = self.disk.lock();
        let bytes = (disk.written.bytes.len() + self.pending.bytes.len()) as u64;
        let records = self.appended.saturating_sub(sequence.get());
        bytes * records / self.appended.max(1)
    }

    fn bytes_stored(&self) -> u64 {
        self.disk.lock().written.bytes.len() as u64
    }

    fn close(mut self) -> Result<(), StorageError> {
        self.flush_blocking()
    }

    fn next_segment_job(&mut self, _leave_bytes: u64) -> Option<NextSegmentJob<MemorySegment>> {
        let room = self.segment?;
        if self.next != NextState::None || self.failure.is_some() {
            return None;
        }
        self.next = NextState::InPreparation;
        let disk = self.disk.clone();
        Some(NextSegmentJob::new(room.all, move |_| {
            disk.prepare(room.all)
        }))
    }

    fn install_next_segment(&mut self, segment: MemorySegment) {
        assert!(
            self.next == NextState::InPreparation,
            "a segment follows its job"
        );
        self.next = NextState::Ready(segment.0);
    }

    fn next_segment_failed(&mut self) {
        assert!(self.next == NextState::InPreparation, "a job fails once");
        self.next = NextState::None;
    }

    fn segment_used_permille(&self) -> u32 {
        let used = self
            .segment
            .map_or(0, |room| (room.all - room.left) * 1000 / room.all.max(1));
        u32::try_from(used).unwrap_or(1000)
    }

    fn index_job(&mut self) -> Option<IndexJob> {
        None
    }

    fn removable(&self, _below: Sequence, _count_max: usize) -> Option<RetentionChoice<NoPlan>> {
        None
    }

    fn retire(&mut self, plan: NoPlan) -> RetireJob {
        match plan {}
    }
}

impl MemoryDisk {
    /// A segment, of as many records as the last one if the faults do not say otherwise.
    fn prepare(&self, records: u64) -> Result<MemorySegment, StorageError> {
        let mut disk = self.lock();
        let permille = disk.faults.segments_permille;
        if disk.fails(permille) {
            return Err(StorageError::OutOfSpace {
                op: "prepare",
                path: Box::from(std::path::Path::new("memory")),
                source: io::ErrorKind::StorageFull.into(),
            });
        }
        Ok(MemorySegment(match disk.faults.segment_records.clone() {
            Some(range) => disk.random.u64(range),
            None => records,
        }))
    }
}

impl Flusher for MemoryFlusher {
    type Flush = MemoryFlush;

    fn flush(&mut self, flush: &MemoryFlush) -> io::Result<()> {
        let mut disk = flush.disk.lock();
        let permille = disk.faults.flushes_permille;
        if disk.fails(permille) {
            let range = disk.durable..=flush.through;
            disk.durable = disk.random.u64(range);
            return Err(io::Error::other("a fault by seed"));
        }
        disk.durable = disk.durable.max(flush.through);
        Ok(())
    }
}
