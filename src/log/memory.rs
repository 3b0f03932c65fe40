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
    AppendRejection, Flusher, GroupSize, IndexJob, Log, NextSegmentJob, RetentionChoice,
    RetentionPlan, RetireJob,
};
use crate::model::RECORD_KIND_EVENT;
use flux_storage::{
    GROUP_RECORDS_MAX, GroupPlace, LogReader, Record, ReplayError, Sequence, StorageError,
};
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
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    time_micros: i64,
    /// Where its payload ends.
    end: usize,
    group: Option<GroupPlace>,
}

impl Records {
    fn push(&mut self, (time_micros, group): (i64, Option<GroupPlace>), payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.entries.push(Entry {
            time_micros,
            end: self.bytes.len(),
            group,
        });
    }

    /// So many records, or fewer if a group would not be whole: what recovery makes of a log that
    /// is cut there.
    fn whole_within(&self, count: u64) -> u64 {
        let next = usize::try_from(count)
            .ok()
            .and_then(|at| self.entries.get(at));
        let place = next.and_then(|entry| entry.group);
        count - place.map_or(0, |place| u64::from(place.index))
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
        last.map_or(0, |entry| entry.end)
    }

    fn iter(&self) -> impl Iterator<Item = (&Entry, &[u8])> {
        let mut start = 0;
        self.entries.iter().map(move |entry| {
            let payload = &self.bytes[start..entry.end];
            start = entry.end;
            (entry, payload)
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

    /// Loses records that are not durable: all of them, or by seed only the last. A group is lost
    /// whole, since the log that is opened next cuts the rest of it.
    pub fn cut_power(&self) {
        let mut disk = self.lock();
        let kept = disk.durable..=disk.written.len();
        let kept = disk.random.u64(kept);
        let kept = disk.written.whole_within(kept);
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
        let record = |entry: &Entry| {
            let payload = disk.written.bytes[from..entry.end].into();
            from = entry.end;
            (entry.time_micros, payload)
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
    /// The open group, if one is open.
    group: Option<Records>,
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
    /// What the next segment must have room for.
    wanted: u64,
}

impl Room {
    fn new(all: u64) -> Self {
        Self {
            left: all,
            all,
            wanted: 0,
        }
    }
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
            group: None,
            is_kept: true,
            appended: written,
            written,
            durable: written,
            is_flushing: false,
            segment: segment.map(Room::new),
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

    /// Makes sure that so many records find room together, in this segment or the next.
    fn make_room(&mut self, records: u64) -> Result<(), AppendRejection> {
        let Some(room) = &mut self.segment else {
            return Ok(());
        };
        match self.next {
            _ if records <= room.left => return Ok(()),
            NextState::Ready(all) if records <= all => return Ok(()),
            NextState::Ready(_) => self.next = NextState::None,
            NextState::None | NextState::InPreparation => {}
        }
        // A group that grows beyond its size does not wait for a segment after each event.
        let wanted = records * if self.group.is_some() { 2 } else { 1 };
        room.wanted = room.wanted.max(wanted);
        Err(AppendRejection::NotReady)
    }

    /// Uses room that was made sure of.
    fn take_room(&mut self, records: u64) {
        let Some(room) = &mut self.segment else {
            return;
        };
        if records > room.left
            && let NextState::Ready(all) = std::mem::replace(&mut self.next, NextState::None)
        {
            *room = Room::new(all);
        }
        room.left -= records;
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
    for (number, (entry, payload)) in (first..).zip(records.iter()) {
        let sequence = Sequence::new(number);
        if sequence >= from {
            visit(Record {
                sequence,
                time_micros: entry.time_micros,
                kind: RECORD_KIND_EVENT,
                group: entry.group,
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
        let grouped = self.group.as_ref().map(Records::len);
        self.make_room(grouped.unwrap_or(0) + 1)?;
        if let Some(group) = &mut self.group {
            group.push((time_micros, None), event);
            return Ok(Sequence::new(self.appended + group.len()));
        }
        self.take_room(1);
        if self.is_kept {
            self.pending.push((time_micros, None), event);
        }
        self.appended += 1;
        Ok(self.appended())
    }

    fn begin_group(&mut self, size: GroupSize) -> Result<(), AppendRejection> {
        assert!(self.group.is_none(), "one group at a time");
        if self.failure.is_some() {
            return Err(AppendRejection::Closed);
        }
        if size.records > GROUP_RECORDS_MAX {
            return Err(AppendRejection::TooLarge);
        }
        self.make_room(size.records as u64)?;
        self.group = Some(Records::default());
        Ok(())
    }

    fn end_group(&mut self) {
        let group = self.group.take().expect("a group is begun before it ends");
        self.take_room(group.len());
        let count = u16::try_from(group.len()).unwrap_or(u16::MAX);
        for (index, (entry, payload)) in (0..count).zip(group.iter()) {
            let place = (count > 1).then_some(GroupPlace { index, count });
            if self.is_kept {
                self.pending.push((entry.time_micros, place), payload);
            }
            self.appended += 1;
        }
    }

    fn abort_group(&mut self) {
        let group = self.group.take();
        assert!(group.is_some(), "a group is begun before it is given up");
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
        let count = self.pending.whole_within(count);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        for (entry, payload) in self.pending.iter().take(count) {
            disk.written.push((entry.time_micros, entry.group), payload);
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
        assert!(self.group.is_none(), "no group is open");
        self.check()?;
        let mut disk = self.disk.lock();
        let pending = kept.saturating_sub(self.written);
        let is_whole = disk.written.whole_within(kept) == kept
            && self.pending.whole_within(pending) == pending;
        assert!(is_whole, "a group stays whole");
        disk.written.truncate(kept);
        disk.durable = disk.durable.min(kept);
        drop(disk);
        self.pending.truncate(pending);
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

    fn history_start_micros(&self) -> Option<i64> {
        None
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
        Some(NextSegmentJob::new(room.all, move |_| disk.prepare(room)))
    }

    fn install_next_segment(&mut self, segment: MemorySegment) {
        assert!(
            self.next == NextState::InPreparation,
            "a segment follows its job"
        );
        let wanted = self.segment.map_or(0, |room| room.wanted);
        self.next = if segment.0 >= wanted {
            NextState::Ready(segment.0)
        } else {
            NextState::None
        };
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
    /// A segment, of as many records as the last one if the faults do not say otherwise, and of as
    /// many as are wanted.
    fn prepare(&self, room: Room) -> Result<MemorySegment, StorageError> {
        let mut disk = self.lock();
        let permille = disk.faults.segments_permille;
        if disk.fails(permille) {
            return Err(StorageError::OutOfSpace {
                op: "prepare",
                path: Box::from(std::path::Path::new("memory")),
                source: io::ErrorKind::StorageFull.into(),
            });
        }
        let records = match disk.faults.segment_records.clone() {
            Some(range) => disk.random.u64(range),
            None => room.all,
        };
        Ok(MemorySegment(records.max(room.wanted)))
    }
}

impl Flusher for MemoryFlusher {
    type Flush = MemoryFlush;

    fn flush(&mut self, flush: &MemoryFlush) -> io::Result<()> {
        let mut disk = flush.disk.lock();
        let permille = disk.faults.flushes_permille;
        if disk.fails(permille) {
            let range = disk.durable..=flush.through;
            let durable = disk.random.u64(range);
            disk.durable = disk.written.whole_within(durable);
            return Err(io::Error::other("a fault by seed"));
        }
        disk.durable = disk.durable.max(flush.through);
        Ok(())
    }
}
