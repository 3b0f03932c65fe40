//! The log of one machine: segment files on its own disk, by `flux_storage`.

use super::{
    AppendRejection, Flusher, GroupSize, IndexJob, Log, NextSegmentJob, RetentionChoice,
    RetentionPlan, RetireJob,
};
use crate::model::RECORD_KIND_EVENT;
use flux_storage::{
    AppendError, Flush, LogDir, LogReader, NextSegment, Record, Recovery, ReplayError, RetirePlan,
    Sequence, StorageError,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Pause between two attempts to open a file.
const OPEN_RETRY: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug)]
pub struct LocalLog(flux_storage::Log);

impl LocalLog {
    /// Opens a log, and visits its records from `from` on. What is before `from` is known to be
    /// durable. Blocks.
    ///
    /// # Errors
    /// As for [`flux_storage::Log::open_from`].
    pub fn open_from<E>(
        place: LogDir,
        from: Sequence,
        visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(Self, Recovery), ReplayError<E>> {
        let (log, recovery) = flux_storage::Log::open_from(place, from, visit)?;
        Ok((Self(log), recovery))
    }

    /// Opens a log, and visits all its records. Blocks.
    ///
    /// # Errors
    /// As for [`flux_storage::Log::open`].
    pub fn open<E>(
        place: LogDir,
        visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(Self, Recovery), ReplayError<E>> {
        let (log, recovery) = flux_storage::Log::open(place, visit)?;
        Ok((Self(log), recovery))
    }

    /// The log itself, for tools that append records of other kinds.
    pub fn into_storage(self) -> flux_storage::Log {
        self.0
    }
}

impl Log for LocalLog {
    type Flush = Flush;
    type Flusher = LocalFlusher;
    type NextSegment = NextSegment;
    type RetentionPlan = RetirePlan;

    #[inline]
    fn append(&mut self, time_micros: i64, event: &[u8]) -> Result<Sequence, AppendRejection> {
        let appended = self.0.append(RECORD_KIND_EVENT, time_micros, event);
        appended.map_err(rejection)
    }

    fn begin_group(&mut self, size: GroupSize) -> Result<(), AppendRejection> {
        self.0.begin_group(size).map_err(rejection)
    }

    fn end_group(&mut self) {
        self.0.end_group();
    }

    fn abort_group(&mut self) {
        self.0.abort_group();
    }

    #[inline]
    fn appended(&self) -> Sequence {
        self.0.appended()
    }

    #[inline]
    fn written(&self) -> Sequence {
        self.0.written()
    }

    #[inline]
    fn durable(&self) -> Sequence {
        self.0.durable()
    }

    fn write_out(&mut self) -> Result<(), StorageError> {
        self.0.write_out()
    }

    fn begin_flush(&mut self) -> Result<Option<Flush>, StorageError> {
        self.0.begin_flush()
    }

    fn finish_flush(&mut self, flush: Flush) {
        self.0.finish_flush(flush);
    }

    fn fail(&mut self, reason: &dyn Display) {
        self.0.fail(reason);
    }

    fn truncate_after(&mut self, sequence: Sequence) -> Result<(), StorageError> {
        self.0.truncate_after(sequence)
    }

    fn replay_from<E>(
        &mut self,
        from: Sequence,
        visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), ReplayError<E>> {
        self.0.replay_from(from, visit)
    }

    fn reader(&mut self, through: Sequence) -> Option<LogReader> {
        Some(self.0.reader(through))
    }

    fn bytes_since(&self, sequence: Sequence) -> u64 {
        self.0.bytes_since(sequence)
    }

    fn bytes_stored(&self) -> u64 {
        self.0.stats().bytes_on_disk
    }

    fn history_start_micros(&self) -> Option<i64> {
        let removed = self.0.removed().map(|start| start.time_micros);
        removed.filter(|micros| *micros > i64::MIN)
    }

    fn close(self) -> Result<(), StorageError> {
        self.0.close()
    }

    fn flush_blocking(&mut self) -> Result<(), StorageError> {
        self.0.flush_blocking()
    }

    fn next_segment_job(&mut self, leave_bytes: u64) -> Option<NextSegmentJob<NextSegment>> {
        let job = self.0.next_segment_job()?.leaving(leave_bytes);
        let bytes = job.segment_bytes();
        Some(NextSegmentJob::new(bytes, |rest| job.run_throttled(rest)))
    }

    fn install_next_segment(&mut self, segment: NextSegment) {
        self.0.install_next_segment(segment);
    }

    fn next_segment_failed(&mut self) {
        self.0.next_segment_failed();
    }

    fn segment_used_permille(&self) -> u32 {
        self.0.active_used_permille()
    }

    fn index_job(&mut self) -> Option<IndexJob> {
        let job = self.0.index_job()?;
        Some(IndexJob::new(|rest| job.run_throttled(rest)))
    }

    fn removable(&self, below: Sequence, count_max: usize) -> Option<RetentionChoice<RetirePlan>> {
        let mut segments = self.0.removable(below);
        segments.truncate(count_max);
        (!segments.is_empty())
            .then(|| RetentionChoice::new(move |removal| RetirePlan::choose(&segments, removal)))
    }

    fn retire(&mut self, plan: RetirePlan) -> RetireJob {
        let job = self.0.retire(plan);
        RetireJob::new(move || job.run())
    }
}

fn rejection(error: AppendError) -> AppendRejection {
    match error {
        AppendError::SegmentNeeded { .. } => AppendRejection::NotReady,
        AppendError::TooLarge { .. } | AppendError::GroupTooLarge => AppendRejection::TooLarge,
        AppendError::Poisoned => AppendRejection::Closed,
    }
}

impl RetentionPlan for RetirePlan {
    fn first_kept(&self) -> Sequence {
        self.log_start().first_sequence
    }
}

/// Flushes by `fdatasync`. Holds the open files of segments that may still be flushed, by ordinal:
/// an error of the disk between two flushes is told only to files that were open then.
#[derive(Debug, Default)]
pub struct LocalFlusher(BTreeMap<u64, File>);

impl Flusher for LocalFlusher {
    type Flush = Flush;

    /// Flushes the segments in order, and keeps the file of the last one open: those of older
    /// segments are closed by now, and with this flush they need no other.
    fn flush(&mut self, flush: &Flush) -> io::Result<()> {
        for segment in flush.segments() {
            let file = match self.0.entry(segment.ordinal) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(open(&segment.path)?)
                }
            };
            file.sync_data()?;
        }
        if let Some(last) = flush.segments().last() {
            self.0.retain(|ordinal, _| *ordinal >= last.ordinal);
        }
        Ok(())
    }
}

/// Opens a segment's file. Being out of descriptors or memory passes: what waits for the flush
/// waits a little longer.
#[expect(
    clippy::disallowed_methods,
    reason = "this thread is not a core's: nothing else waits for it"
)]
fn open(path: &Path) -> io::Result<File> {
    loop {
        // For reading: a file system that has become read-only lets what was written before be
        // flushed.
        match File::open(path) {
            Err(error) if is_passing(&error) => std::thread::sleep(OPEN_RETRY),
            opened => return opened,
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}
