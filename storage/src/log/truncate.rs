//! Taking back what was appended and is not durable.
//!
//! As recovery cuts a torn tail, from the end to the front: segments that hold nothing else go
//! first, newest first, each removal durable; then the rest of the last segment is zeroed and
//! flushed. A crash in between leaves a log that ends somewhere between. Only then is anything
//! appended again, so that no record that was taken back ever follows a new one.

use std::sync::Arc;

use super::open_log::{Log, NextSegmentState, UndurableSegment, reopen};
use crate::disk::files;
use crate::format::header::HEADER_BYTES;
use crate::format::walk::{Position, expected_record};
use crate::index::IndexBuilder;
use crate::{GroupPlace, Sequence, StorageError};

impl Log {
    /// Takes back every record after `sequence`: their sequences are given to other records.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// What reading or writing said, after which the log accepts nothing; `Poisoned` if that was so
    /// before.
    ///
    /// # Panics
    ///
    /// If one of them is durable or was never appended, if `sequence` is in a group and not its
    /// last, while a group is open, or while a flush or the preparation of a segment is in
    /// progress.
    pub fn truncate_after(&mut self, sequence: Sequence) -> Result<(), StorageError> {
        assert!(
            self.durable <= sequence && sequence <= self.appended,
            "what is durable stays"
        );
        assert!(!self.is_flushing, "no flush is in progress");
        assert!(!self.group.is_open(), "no group is open");
        assert!(
            !matches!(self.next_segment, NextSegmentState::InPreparation),
            "no segment is in preparation"
        );
        self.write_out()?;
        if sequence == self.appended {
            return Ok(());
        }
        let cut = self.cut_after(sequence);
        if let Err(error) = &cut {
            self.fail(error);
        }
        cut
    }

    fn cut_after(&mut self, sequence: Sequence) -> Result<(), StorageError> {
        // Only the first segment of a log may be without a record: recovery would end at another.
        while self.active_base > sequence && !self.sealed.is_empty() {
            self.remove_active()?;
        }
        let end = self.end_of(sequence)?;
        let file = (&*self.active.file, &*self.active.entry.path);
        files::zero_from(file, end as u64)?;
        files::sync_data(file.0, file.1)?;
        self.active.cut(end);
        let start = self.active_start();
        let region = self.active.map_written()?;
        let key = self.place.options.index_key;
        let (index_builder, walked) =
            IndexBuilder::walk(region.bytes(), self.active.seed(), start, key);
        assert!(walked.next == sequence.next(), "it ends where it was cut");
        self.index_builder = index_builder;
        self.appended = sequence;
        self.written = sequence;
        Ok(())
    }

    /// Removes the active segment, which holds only what is taken back, and goes on in the one
    /// before. The next segment goes first, so that no segment is ever missing between two.
    fn remove_active(&mut self) -> Result<(), StorageError> {
        let before = std::mem::replace(&mut self.next_segment, NextSegmentState::None);
        if let NextSegmentState::Ready(next_segment) = before {
            files::remove(&next_segment.entry.path, &self.place.dir)?;
        }
        files::remove(&self.active.entry.path, &self.place.dir)?;
        let sealed = Arc::make_mut(&mut self.sealed).pop();
        let sealed = sealed.expect("what is durable lies before, in another segment");
        let ordinal = sealed.entry.header.ordinal;
        self.unindexed
            .retain(|job| job.entry.header.ordinal != ordinal);
        let is_undurable = |segment: &UndurableSegment| segment.flush.ordinal == ordinal;
        if self.undurable.back().is_some_and(is_undurable) {
            self.undurable.pop_back();
        }
        let mut entry = sealed.entry;
        entry.times = Arc::default();
        let capacity = usize::try_from(entry.header.capacity).unwrap_or(usize::MAX);
        let removed = std::mem::replace(&mut self.active, reopen(entry, capacity)?);
        self.active.gather_in(removed.into_buffer());
        self.active_base = sealed.base;
        Ok(())
    }

    fn active_start(&self) -> Position {
        Position {
            offset: HEADER_BYTES,
            next: self.active_base,
        }
    }

    /// Where the records of the active segment up to `sequence` end.
    fn end_of(&self, sequence: Sequence) -> Result<usize, StorageError> {
        let region = self.active.map_written()?;
        let mut position = self.active_start();
        while position.next <= sequence {
            let Some(stored) = expected_record(region.bytes(), self.active.seed(), position) else {
                return Err(StorageError::DamagedRecord {
                    path: self.active.entry.path.as_ref().into(),
                    offset: position.offset as u64,
                    sequence: position.next,
                    durable: self.durable,
                });
            };
            position.offset += stored.bytes;
            position.next = stored.record.sequence.next();
            let is_whole = stored.record.group.is_none_or(GroupPlace::is_last);
            assert!(is_whole || position.next <= sequence, "a group stays whole");
        }
        Ok(position.offset)
    }
}
