//! An open group: records that get into a log all or none.
//!
//! ```text
//! begin_group ──→ append … append ──→ end_group: into the log, one after the other
//!   room for all?        │       ╰──→ abort_group: gone
//!                  GroupBuffer
//! ```
//!
//! What is appended to an open group lies in a buffer and not in the log, so that taking it back
//! costs nothing and no write, flush or reader meets a part of it. A group lies in one segment,
//! so whole segments hold whole groups: cutting, removing and copying them keeps it whole. The
//! segment is chosen when the group ends; that it will have room is made sure before.

use crate::format::group::GROUP_PREFIX_BYTES;
use crate::format::record::{PAYLOAD_BYTES_MAX, record_bytes};
use crate::log::open_log::Log;
use crate::log::segment::BUFFER_BYTES;
use crate::{AppendError, GroupPlace, RECORD_KIND_GAP, Record, Sequence};

/// Bound on the bytes of one group on disk, and of the segment that is made for it: twice the
/// largest body of a batch, since what is stored may be longer than what was sent. More:
/// [`AppendError::GroupTooLarge`].
pub const GROUP_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Bound on the records of one group, by the field that counts them. More:
/// [`AppendError::GroupTooLarge`].
pub const GROUP_RECORDS_MAX: usize = u16::MAX as usize;

/// Records of buffers that are kept for the next group.
const RECORDS_KEPT: usize = 1024;

/// How large a group will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSize {
    /// Its records.
    pub records: usize,
    /// Bytes of their payloads.
    pub payload_bytes: usize,
}

impl GroupSize {
    /// Bytes on disk, at most.
    fn bytes_on_disk(self) -> usize {
        let beside = record_bytes(GROUP_PREFIX_BYTES).saturating_add(size_of::<u64>());
        self.payload_bytes
            .saturating_add(self.records.saturating_mul(beside))
    }
}

/// The records of the open group, if one is open.
#[derive(Debug, Default)]
pub(super) struct GroupBuffer {
    is_open: bool,
    payloads: Vec<u8>,
    records: Vec<Buffered>,
    bytes_on_disk: usize,
}

#[derive(Debug, Clone, Copy)]
struct Buffered {
    kind: u8,
    time_micros: i64,
    /// Where its payload ends.
    end: usize,
}

impl GroupBuffer {
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    fn close(&mut self) {
        self.is_open = false;
        self.bytes_on_disk = 0;
        self.payloads.clear();
        self.records.clear();
        self.payloads.shrink_to(BUFFER_BYTES);
        self.records.shrink_to(RECORDS_KEPT);
    }
}

impl Log {
    /// Begins a group: the records that are appended until [`Log::end_group`] are in the log all or
    /// none, whatever happens to the machine. Until then the log is as if none were there:
    /// [`Log::append`] says which sequences they will have, and [`Log::appended`] is before them.
    ///
    /// A group that turns out larger than `size` goes on as long as a segment has room for it.
    ///
    /// # Errors
    ///
    /// `SegmentNeeded` if the group has to wait for a next segment, `GroupTooLarge`, or `Poisoned`.
    /// No group is open then.
    ///
    /// # Panics
    ///
    /// If a group is open.
    pub fn begin_group(&mut self, size: GroupSize) -> Result<(), AppendError> {
        assert!(!self.group.is_open, "one group at a time");
        if self.failure().is_some() {
            return Err(AppendError::Poisoned);
        }
        let bytes_on_disk = size.bytes_on_disk();
        if size.records > GROUP_RECORDS_MAX || bytes_on_disk > GROUP_BYTES_MAX {
            return Err(AppendError::GroupTooLarge);
        }
        self.make_room(bytes_on_disk)?;
        self.group.is_open = true;
        Ok(())
    }

    /// Appends to the open group, for [`Log::append`].
    #[cold]
    pub(super) fn append_to_group(
        &mut self,
        kind: u8,
        time_micros: i64,
        payload: &[u8],
    ) -> Result<Sequence, AppendError> {
        let record_bytes = record_bytes(GROUP_PREFIX_BYTES + payload.len());
        let bytes_on_disk = self.group.bytes_on_disk + record_bytes;
        let count = self.group.records.len();
        if payload.len() > PAYLOAD_BYTES_MAX
            || count == GROUP_RECORDS_MAX
            || bytes_on_disk > GROUP_BYTES_MAX
        {
            return Err(AppendError::GroupTooLarge);
        }
        self.make_room(bytes_on_disk)?;
        let group = &mut self.group;
        group.bytes_on_disk = bytes_on_disk;
        group.payloads.extend_from_slice(payload);
        group.records.push(Buffered {
            kind,
            time_micros,
            end: group.payloads.len(),
        });
        let sequence = self.appended.get() + self.group.records.len() as u64;
        Ok(Sequence::new(sequence))
    }

    /// Makes sure that a group of so many bytes finds room, in the active segment or in the next.
    fn make_room(&mut self, bytes_on_disk: usize) -> Result<(), AppendError> {
        if bytes_on_disk <= self.active.room() {
            return Ok(());
        }
        // What is appended after this attempt, at least: so that a group that grows beyond its size
        // does not wait for a segment after each record.
        let wanted = if self.group.is_open {
            bytes_on_disk.saturating_mul(2).min(GROUP_BYTES_MAX)
        } else {
            bytes_on_disk
        };
        if !self.next_segment_holds(bytes_on_disk) {
            return Err(self.want_segment(wanted));
        }
        // With nothing left to write, going on in the next segment can't fail.
        self.write_out()
            .map_err(|_told_by_failure| AppendError::Poisoned)
    }

    /// Ends the open group: its records are appended, and become durable as others do.
    ///
    /// # Panics
    ///
    /// If no group is open.
    pub fn end_group(&mut self) {
        assert!(self.group.is_open, "a group is begun before it ends");
        let mut group = std::mem::take(&mut self.group);
        if group.bytes_on_disk > self.active.room() {
            self.rotate(group.bytes_on_disk)
                .expect("the next segment was found large enough, and nothing waits to be written");
        }
        let count = u16::try_from(group.records.len()).expect("bounded by GROUP_RECORDS_MAX");
        let mut start = 0;
        for (index, record) in (0..count).zip(&group.records) {
            let payload = &group.payloads[start..record.end];
            start = record.end;
            self.push(Record {
                sequence: self.appended.next(),
                time_micros: record.time_micros,
                kind: record.kind,
                // One record is whole by itself.
                group: (count > 1).then_some(GroupPlace { index, count }),
                payload,
            });
        }
        group.close();
        self.group = group;
    }

    /// Gives the open group up: its records are gone.
    ///
    /// # Panics
    ///
    /// If no group is open.
    pub fn abort_group(&mut self) {
        assert!(self.group.is_open, "a group is begun before it is given up");
        self.group.close();
    }
}

/// The kinds that appenders may use.
pub(super) const fn is_own_kind(kind: u8) -> bool {
    kind != RECORD_KIND_GAP && kind != crate::format::group::RECORD_KIND_GROUPED
}
