//! The records of one log one by one, in little memory, so that several logs can be merged.
//!
//! A window of the segment is read, at least as large as the next record. If no record is found in
//! it the rest of the segment is looked at afresh, as [`super::walk`] does, to tell the end of the
//! segment from that of the log and from damage.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::walk::{Look, capacity, read_at, read_entry};
use crate::disk::files::{self, at};
use crate::disk::segment_file::SegmentEntry;
use crate::format::header::{HEADER_BYTES, LogId};
use crate::format::log_start::LogStart;
use crate::format::record::{RECORD_HEAD_BYTES, record_len};
use crate::format::walk::{Position, expected_record};
use crate::log::log_files::LogFiles;
use crate::log::watermark;
use crate::{GroupPlace, Record, Sequence, StorageError};

/// Bytes of one read, if the record is not larger.
const WINDOW_BYTES: usize = 256 * 1024;

/// A position in a log that somebody may be writing to.
#[derive(Debug)]
pub struct LogCursor {
    files: LogFiles,
    /// What was durable before the reading began.
    durable: Sequence,
    /// Which of the segments is read.
    index: usize,
    /// That segment; `None` before the first and after the last.
    open: Option<OpenSegment>,
    next: Sequence,
    /// Records before this one are of whole groups.
    checked: Sequence,
}

#[derive(Debug)]
struct OpenSegment {
    entry: SegmentEntry,
    file: File,
    offset: usize,
    /// Where the log ends, once that is known.
    end: Option<usize>,
    window: Vec<u8>,
    /// Where in the file the window begins.
    window_start: usize,
}

impl LogCursor {
    pub(super) fn open(dir: &Arc<Path>, id: LogId) -> Result<Self, StorageError> {
        let files = LogFiles::list(dir, id)?;
        let durable = watermark::read_hint(&files.dir, files.owner);
        let mut cursor = Self {
            durable,
            index: 0,
            open: None,
            next: files.first_kept(),
            checked: Sequence::ZERO,
            files,
        };
        cursor.open_segment()?;
        Ok(cursor)
    }

    /// The first record that was there when the cursor was made, or the first to come.
    pub fn first_sequence(&self) -> Sequence {
        self.files.first_kept()
    }

    /// What retention had removed then.
    pub fn removed(&self) -> Option<LogStart> {
        self.files.removed
    }

    /// The sequence of the record that comes next, or that would.
    pub fn next_sequence(&self) -> Sequence {
        self.next
    }

    /// Shows the next record to `see`; `None` at the end of the log, which stays its end for this
    /// cursor. Blocks.
    ///
    /// # Errors
    ///
    /// `DamagedRecord` if a record is missing that was durable; what can't be read.
    pub fn next<T>(
        &mut self,
        see: impl FnOnce(Record<'_>) -> T,
    ) -> Result<Option<T>, StorageError> {
        loop {
            let Some(segment) = &mut self.open else {
                return Ok(None);
            };
            if let Some(found) = segment.find()? {
                let seed = segment.entry.header.salt.seed();
                let start = Position {
                    offset: 0,
                    next: self.next,
                };
                let bytes = &segment.window[found];
                let Some(stored) = expected_record(bytes, seed, start) else {
                    self.leave_window()?;
                    continue;
                };
                if stored.record.group.is_some() && self.checked <= self.next {
                    match segment.end_of_group(self.next)? {
                        Some(end) => self.checked = end,
                        None => self.leave_window()?,
                    }
                    continue;
                }
                segment.offset += stored.bytes;
                self.next = stored.record.sequence.next();
                return Ok(Some(see(stored.record)));
            }
            self.leave_window()?;
        }
    }

    /// If there is no record in the window: finds out why, and goes on behind it.
    fn leave_window(&mut self) -> Result<(), StorageError> {
        let Some(segment) = &mut self.open else {
            return Ok(());
        };
        if segment.end == Some(segment.offset) {
            self.open = None;
            return Ok(());
        }
        let following = self.files.segments.iter().skip(self.index + 1);
        let following: Vec<u64> = following.map(|it| it.header.ordinal).collect();
        let mut bytes = vec![0; capacity(&segment.entry)];
        let offset = segment.offset;
        read_at(&segment.entry.path, &mut bytes[offset..], offset as u64)?;
        let start = Position {
            offset,
            next: self.next,
        };
        let mut look = Look::begin(segment.entry.clone(), start, &mut bytes);
        let is_last = look.find_end(&self.files, &following, self.durable)?;
        if look.end.offset > offset {
            // It was appended after the window was read.
            segment.window.clear();
            segment.end = is_last.then_some(look.end.offset);
            return Ok(());
        }
        self.open = None;
        if !is_last {
            self.index += 1;
            self.open_segment()?;
        }
        Ok(())
    }

    fn open_segment(&mut self) -> Result<(), StorageError> {
        let Some(listed) = self.files.segments.get(self.index) else {
            return Ok(());
        };
        let entry = read_entry(&self.files, listed.header.ordinal)?;
        let file = files::open_read(&entry.path)?;
        files::read_single_pages(&file);
        self.open = Some(OpenSegment {
            entry,
            file,
            offset: HEADER_BYTES,
            end: None,
            window: Vec::new(),
            window_start: 0,
        });
        Ok(())
    }
}

impl OpenSegment {
    /// The sequence after the group that begins with the next record; `None` if not all of it is
    /// there. Reads through the group and comes back.
    fn end_of_group(&mut self, next: Sequence) -> Result<Option<Sequence>, StorageError> {
        let (start, seed) = (self.offset, self.entry.header.salt.seed());
        let mut next = next;
        let mut before: Option<GroupPlace> = None;
        let end = loop {
            let Some(found) = self.find()? else {
                break None;
            };
            let position = Position { offset: 0, next };
            let Some(stored) = expected_record(&self.window[found], seed, position) else {
                break None;
            };
            let place = stored.record.group;
            let is_next = match before {
                None => place.is_none_or(|place| place.index == 0),
                Some(before) => before.precedes(place),
            };
            if !is_next {
                break None;
            }
            next = stored.record.sequence.next();
            if place.is_none_or(GroupPlace::is_last) {
                break Some(next);
            }
            before = place;
            self.offset += stored.bytes;
        };
        self.offset = start;
        Ok(end)
    }

    /// Where in the window the next record is, as far as its length says that there is one.
    fn find(&mut self) -> Result<Option<Range<usize>>, StorageError> {
        if self.end.is_some_and(|end| self.offset >= end) {
            return Ok(None);
        }
        let Some(head) = self.at_hand(RECORD_HEAD_BYTES)? else {
            return Ok(None);
        };
        let head = self.window[head].first_chunk();
        let len = record_len(head.expect("as long as was asked for"));
        match len {
            Some(len) => self.at_hand(len),
            None => Ok(None),
        }
    }

    /// Where in the window the next `len` bytes are, reading them if they are not in it; `None` if
    /// the file ends before.
    fn at_hand(&mut self, len: usize) -> Result<Option<Range<usize>>, StorageError> {
        let room = capacity(&self.entry) - self.offset;
        if len > room {
            return Ok(None);
        }
        let end = self.offset + len;
        if self.offset < self.window_start || end > self.window_start + self.window.len() {
            let read = len.max(WINDOW_BYTES).min(room);
            self.window.clear();
            self.window.resize(read, 0);
            self.window_start = self.offset;
            let result = self
                .file
                .read_exact_at(&mut self.window, self.offset as u64);
            if result.is_err() {
                self.window.clear();
            }
            at("read", &self.entry.path, result)?;
        }
        let start = self.offset - self.window_start;
        Ok(Some(start..start + len))
    }
}
