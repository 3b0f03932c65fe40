//! What one connection is owed: bytes that go to its socket as they are, and behind them what is
//! conflated.
//!
//! ```text
//! push ──┬───────────────────> direct (a ring of encoded frames) ──> pending / advance ──> socket
//!        └─> conflated (when direct is full) ──(direct under half)──┘
//! ```
//!
//! A reader that keeps up only ever uses the ring. Once a frame does not fit there, it and all that
//! follow are conflated until the reader has caught up, so that order holds across both. Past the
//! limits of the conflated part the outbox overflows: all is dropped but what is partly on the
//! wire, and the caller says farewell with [`Outbox::close`].
//!
//! Bounds: the ring holds at most `direct_bytes_max` bytes or one frame, whichever is more (a frame
//! larger than the ring must pass somehow); the conflated part at most `conflated_bytes_max` of
//! heap after each call, growth of a table counted when it happens.
//!
//! Invariants: if something is conflated, the ring is not empty, so the next [`Outbox::advance`]
//! moves it on. Nothing is pushed behind a close frame.

use std::collections::VecDeque;

use super::change::Change;
use super::conflate::Conflated;
use super::merged::{ChangeHead, EncodeMerged, Part};
use crate::limits;

/// Frames are dropped in units of one frame, or of several that lie together within this many
/// bytes: a boundary for each small frame would cost more than it saves.
const UNIT_BYTES: usize = 1024;
/// Heap of a ring beyond which it counts as large.
const LARGE_BYTES: usize = 16 * 1024;
/// The first allocation of a ring.
const RING_BYTES_MIN: usize = 512;

/// Bounds of one connection's outbox.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_field_names,
    reason = "each bound says that it is one, as in `limits`"
)]
pub struct OutboxLimits {
    /// Bytes that wait for the socket before conflation begins.
    pub direct_bytes_max: usize,
    /// Heap of the conflated part: frames, keys, ids and tables.
    pub conflated_bytes_max: usize,
    /// Frames of the conflated part.
    pub conflated_entries_max: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            direct_bytes_max: limits::OUTBOX_DIRECT_BYTES_MAX,
            conflated_bytes_max: limits::OUTBOX_CONFLATED_BYTES_MAX,
            conflated_entries_max: limits::OUTBOX_CONFLATED_ENTRIES_MAX,
        }
    }
}

/// The reader is too slow even for conflation; the caller closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overflow {
    /// `conflated_bytes_max` is passed.
    #[error("the connection is owed more bytes than its outbox may hold")]
    Bytes,
    /// The server has no memory for it.
    #[error("there is no memory for what the connection is owed")]
    Memory,
    /// `conflated_entries_max` is passed.
    #[error("the connection is owed more frames than its outbox may hold")]
    Entries,
}

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    /// Frames, encoded and in order, less what the socket has taken of the first.
    direct: VecDeque<u8>,
    /// Lengths of the units that `direct` holds; of the first, the whole length.
    units: VecDeque<u32>,
    /// Bytes of the first unit that the socket has taken; less than its length.
    first_unit_sent: usize,
    /// Bytes that the socket has taken so far.
    taken: u64,
    /// Set if something is conflated: never an empty one.
    conflated: Option<Box<Conflated>>,
    overflow: Option<Overflow>,
    closed: bool,
    /// Frames whose place newer ones took, since [`Outbox::take_replaced`].
    replaced: u32,
}

impl Outbox {
    /// An outbox that owes nothing; it holds no heap.
    pub const fn new(limits: OutboxLimits) -> Self {
        Self {
            limits,
            direct: VecDeque::new(),
            units: VecDeque::new(),
            first_unit_sent: 0,
            taken: 0,
            conflated: None,
            overflow: None,
            closed: false,
            replaced: 0,
        }
    }

    /// Frames of more than so many bytes are conflated.
    #[cfg(test)]
    pub(crate) const fn limit_direct(&mut self, bytes_max: usize) {
        self.limits.direct_bytes_max = bytes_max;
    }

    /// How many frames were never sent because newer ones took their place, since the last call.
    pub(crate) fn take_replaced(&mut self) -> u32 {
        std::mem::take(&mut self.replaced)
    }

    /// Drops what waits of these entities behind what is on its way: the reader may not see them
    /// any more.
    pub fn drop_hidden(&mut self, is_hidden: impl Fn(&str) -> bool) {
        if let Some(conflated) = &mut self.conflated {
            conflated.drop_hidden(is_hidden);
            if conflated.len() == 0 {
                self.conflated = None;
            }
        }
    }

    /// Owes all frames of a change.
    ///
    /// # Errors
    /// [`Overflow`], from the push that passes a limit on, until [`close`](Self::close). After that
    /// every push is ignored and succeeds. The same goes for the four below.
    pub fn push_change(&mut self, change: Change<'_>) -> Result<(), Overflow> {
        let (entity_id, frames) = (change.entity_id(), change.frames());
        if change.is_deletion() {
            return self.push_deleted(entity_id, frames);
        }
        if frames.len() <= UNIT_BYTES && self.takes_direct(frames.len()) {
            self.append(frames);
            return Ok(());
        }
        for update in change.updates() {
            self.push_update(entity_id, update.property, update.frame)?;
        }
        Ok(())
    }

    /// Owes the new value of a property.
    ///
    /// # Errors
    /// As [`push_change`](Self::push_change).
    pub fn push_update(
        &mut self,
        entity_id: &str,
        property: &str,
        frame: &[u8],
    ) -> Result<(), Overflow> {
        self.push(frame, |conflated| {
            conflated.update(entity_id, property, frame);
        })
    }

    /// Owes the news that an entity is gone.
    ///
    /// # Errors
    /// As [`push_change`](Self::push_change).
    pub fn push_deleted(&mut self, entity_id: &str, frame: &[u8]) -> Result<(), Overflow> {
        self.push(frame, |conflated| conflated.deletion(entity_id, frame))
    }

    /// Owes a change that is told by event. `frame` is what it is told as, `change` what it is
    /// merged from if the reader is behind, `encode` what makes the frame of that.
    ///
    /// # Errors
    /// As [`push_change`](Self::push_change).
    pub fn push_merged<'p>(
        &mut self,
        entity_id: &str,
        frame: &[u8],
        change: (ChangeHead, impl Iterator<Item = Part<'p>>),
        encode: EncodeMerged,
    ) -> Result<(), Overflow> {
        self.push(frame, |conflated| {
            conflated.merge(entity_id, change, encode);
        })
    }

    /// Owes the news that an entity is gone, behind what [`push_merged`](Self::push_merged) owes.
    ///
    /// # Errors
    /// As [`push_change`](Self::push_change).
    pub fn push_deleted_by_event(&mut self, entity_id: &str, frame: &[u8]) -> Result<(), Overflow> {
        self.push(frame, |conflated| {
            conflated.deletion_by_event(entity_id, frame);
        })
    }

    /// Owes a frame that can't be conflated, if there is room for it among what is not. False if
    /// there is none: it is not owed then.
    pub fn push_if_room(&mut self, frame: &[u8]) -> bool {
        let takes = self.takes_direct(frame.len());
        if takes {
            self.append(frame);
        }
        takes
    }

    /// True if the reader keeps up so far that more may be read for it.
    pub fn has_much_room(&self) -> bool {
        self.takes_direct(self.limits.direct_bytes_max / 2)
    }

    /// Owes a place from which the reader can resume, of which a slow reader gets the newest.
    ///
    /// # Errors
    /// As [`push_change`](Self::push_change).
    pub fn push_cursor(&mut self, frame: &[u8]) -> Result<(), Overflow> {
        self.push(frame, |conflated| conflated.cursor(frame))
    }

    /// Owes an answer: it comes after all that is owed, and is never conflated with another.
    ///
    /// # Errors
    /// As [`push_change`](Self::push_change).
    pub fn push_control(&mut self, frame: &[u8]) -> Result<(), Overflow> {
        self.push(frame, |conflated| conflated.control(frame))
    }

    /// Owes the server's metrics, of which a slow reader gets the newest.
    ///
    /// # Errors
    /// As [`push_change`](Self::push_change).
    pub fn push_metrics(&mut self, frame: &[u8]) -> Result<(), Overflow> {
        self.push(frame, |conflated| conflated.metrics(frame))
    }

    /// Owes the last frame of the connection. It comes after all that is owed; after an overflow
    /// that is only what was partly sent. Whatever is pushed later is ignored. Exempt from the
    /// limits, as it comes once.
    pub fn close(&mut self, frame: &[u8]) {
        if self.closed {
            return;
        }
        self.closed = true;
        match &mut self.conflated {
            Some(conflated) => conflated.control(frame),
            None => self.append(frame),
        }
    }

    /// Bytes to write now; empty if nothing is owed. Not always all of `direct`: if it wraps around
    /// the end of its ring, the rest follows after [`advance`](Self::advance).
    pub fn pending(&self) -> &[u8] {
        self.direct.as_slices().0
    }

    /// Notes that the socket took the first `written` bytes of [`pending`](Self::pending). Moves
    /// conflated frames on if that leaves room.
    ///
    /// # Panics
    /// If more was written than was pending.
    pub fn advance(&mut self, written: usize) {
        assert!(written <= self.direct.len(), "written beyond what is owed");
        self.direct.drain(..written);
        self.taken += written as u64;
        self.first_unit_sent += written;
        while let Some(&unit) = self.units.front() {
            if self.first_unit_sent < unit as usize {
                break;
            }
            self.first_unit_sent -= unit as usize;
            self.units.pop_front();
        }
        if self.direct.len() <= self.limits.direct_bytes_max / 2 {
            // Room that a giant frame needed is not kept.
            self.direct.shrink_to(self.limits.direct_bytes_max);
            self.refill();
        }
    }

    /// Where the last byte that is owed and not conflated comes, in bytes since the beginning.
    pub fn end(&self) -> u64 {
        self.taken + self.direct.len() as u64
    }

    /// True if the socket has taken every byte before this place.
    pub const fn has_taken(&self, end: u64) -> bool {
        self.taken >= end
    }

    /// The limit that was passed.
    pub const fn overflow(&self) -> Option<Overflow> {
        self.overflow
    }

    /// Bytes that are owed and not conflated.
    pub fn direct_bytes(&self) -> usize {
        self.direct.len()
    }

    /// True if nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.direct.is_empty()
    }

    /// True if the reader keeps up so far that more may be read for it.
    pub fn takes_more(&self) -> bool {
        self.takes_direct(0) && self.direct.len() < self.limits.direct_bytes_max / 2
    }

    /// True if the reader is behind and gets only the newest of each property.
    pub const fn is_conflating(&self) -> bool {
        self.conflated.is_some()
    }

    /// True once a limit was passed: what was owed is lost to the reader, and the connection must
    /// be closed.
    pub const fn overflowed(&self) -> bool {
        self.overflow.is_some()
    }

    /// True if it holds more than a reader that keeps up is owed.
    pub fn is_large(&self) -> bool {
        self.conflated.is_some() || self.direct.capacity() > LARGE_BYTES
    }

    /// Drops all but what is partly sent: there is no memory for it. The caller says farewell with
    /// [`close`](Self::close).
    pub fn give_up(&mut self) {
        self.drop_unsent(Overflow::Memory);
        self.direct.shrink_to(0);
        self.units.shrink_to(0);
    }

    /// Heap that the outbox holds now, spare capacity included.
    pub fn heap_bytes(&self) -> usize {
        self.direct.capacity()
            + self.units.capacity() * size_of::<u32>()
            + self.conflated.as_ref().map_or(0, |it| it.heap_bytes())
    }

    /// Gives the heap back if nothing is owed. Not done by [`advance`](Self::advance): a busy
    /// connection would allocate for each message.
    pub fn trim(&mut self) {
        if self.is_empty() {
            self.direct = VecDeque::new();
            self.units = VecDeque::new();
        }
    }

    fn push(
        &mut self,
        frame: &[u8],
        conflate: impl FnOnce(&mut Conflated),
    ) -> Result<(), Overflow> {
        if self.takes_direct(frame.len()) {
            self.append(frame);
            return Ok(());
        }
        if self.closed {
            return Ok(());
        }
        if let Some(overflow) = self.overflow {
            return Err(overflow);
        }
        let conflated = self
            .conflated
            .get_or_insert_with(|| Box::new(Conflated::new()));
        let before = conflated.len();
        conflate(conflated);
        let replaced = (before + 1).saturating_sub(conflated.len());
        let replaced = u32::try_from(replaced).unwrap_or(u32::MAX);
        self.replaced = self.replaced.saturating_add(replaced);
        let overflow = if conflated.len() > self.limits.conflated_entries_max {
            Overflow::Entries
        } else if conflated.heap_bytes() > self.limits.conflated_bytes_max {
            Overflow::Bytes
        } else {
            return Ok(());
        };
        self.drop_unsent(overflow);
        Err(overflow)
    }

    fn takes_direct(&self, len: usize) -> bool {
        self.conflated.is_none() && self.overflow.is_none() && !self.closed && self.has_room(len)
    }

    fn has_room(&self, len: usize) -> bool {
        self.direct.is_empty() || self.direct.len() + len <= self.limits.direct_bytes_max
    }

    fn append(&mut self, frames: &[u8]) {
        let needed = self.direct.len() + frames.len();
        if needed > self.direct.capacity() {
            let doubled = (2 * self.direct.capacity())
                .max(RING_BYTES_MIN)
                .min(self.limits.direct_bytes_max);
            let target = needed.max(doubled);
            self.direct.reserve_exact(target - self.direct.len());
        }
        self.direct.extend(frames);
        let len = u32::try_from(frames.len()).expect("frames are shorter than 4 GiB");
        match self.units.back_mut() {
            Some(unit) if *unit as usize + frames.len() <= UNIT_BYTES => *unit += len,
            _ => self.units.push_back(len),
        }
    }

    fn refill(&mut self) {
        let Some(mut conflated) = self.conflated.take() else {
            return;
        };
        while let Some(len) = conflated.front_len() {
            if !self.has_room(len) {
                self.conflated = Some(conflated);
                return;
            }
            conflated.pop_front(|frame| self.append(frame));
        }
    }

    /// Keeps the rest of the unit that is partly sent: a reader must not see half a frame.
    fn drop_unsent(&mut self, overflow: Overflow) {
        self.overflow = Some(overflow);
        self.conflated = None;
        let kept = match self.units.front() {
            Some(&unit) if self.first_unit_sent > 0 => unit as usize - self.first_unit_sent,
            _ => 0,
        };
        self.direct.truncate(kept);
        self.direct.shrink_to(kept.max(RING_BYTES_MIN));
        self.units.truncate(usize::from(kept > 0));
        self.units.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscribe::ChangeBatchBuilder;
    use flux_storage::Sequence;

    const LIMITS: OutboxLimits = OutboxLimits {
        direct_bytes_max: 4096,
        conflated_bytes_max: 64 * 1024,
        conflated_entries_max: 100,
    };

    fn conflating() -> Outbox {
        let mut outbox = Outbox::new(LIMITS);
        outbox
            .push_control(&[b'd'; LIMITS.direct_bytes_max])
            .unwrap();
        outbox
    }

    /// Reads all that is owed, `at_once` bytes at a time.
    fn drain(outbox: &mut Outbox, at_once: usize) -> Vec<u8> {
        let mut read = Vec::new();
        while !outbox.is_empty() {
            let len = outbox.pending().len().min(at_once);
            assert!(len > 0, "what is owed can be written");
            read.extend_from_slice(&outbox.pending()[..len]);
            outbox.advance(len);
        }
        assert!(!outbox.is_conflating());
        read
    }

    #[test]
    fn an_idle_outbox_holds_no_heap() {
        let mut outbox = Outbox::new(OutboxLimits::default());
        assert_eq!(outbox.heap_bytes(), 0);
        outbox.push_control(b"pong").unwrap();
        assert!(outbox.heap_bytes() > 0);
        outbox.trim();
        assert_eq!(drain(&mut outbox, usize::MAX), b"pong");
        outbox.trim();
        assert_eq!(outbox.heap_bytes(), 0);
    }

    #[test]
    fn a_reader_that_keeps_up_reuses_one_buffer() {
        let mut outbox = Outbox::new(LIMITS);
        for _ in 0..100 {
            outbox.push_update("a", "x", &[b'x'; 300]).unwrap();
            outbox.push_update("a", "x", &[b'y'; 200]).unwrap();
            assert_eq!(
                outbox.pending().len(),
                500,
                "what is owed lies in one piece"
            );
            outbox.advance(499);
            outbox.advance(1);
        }
        assert!(outbox.heap_bytes() <= RING_BYTES_MIN + 4 * size_of::<u32>());
    }

    #[test]
    fn conflation_begins_past_the_direct_limit() {
        for (len, conflates) in [(96, false), (97, true)] {
            let mut outbox = Outbox::new(LIMITS);
            outbox.push_control(&[0; 4000]).unwrap();
            outbox.push_control(&vec![0; len]).unwrap();
            assert_eq!(outbox.is_conflating(), conflates, "{len}");
        }
    }

    #[test]
    fn a_frame_larger_than_the_direct_buffer_passes_alone() {
        let mut outbox = Outbox::new(LIMITS);
        let giant = [b'g'; LIMITS.direct_bytes_max * 3];
        outbox.push_update("a", "x", &giant).unwrap();
        outbox.push_update("a", "y", b"y").unwrap();
        assert!(outbox.is_conflating());
        let read = drain(&mut outbox, 1000);
        assert_eq!(read, [giant.as_slice(), b"y"].concat());
        assert!(outbox.heap_bytes() < 2 * LIMITS.direct_bytes_max);
    }

    #[test]
    fn conflated_frames_move_on_when_the_buffer_is_half_empty() {
        let mut outbox = conflating();
        outbox.push_update("a", "x", b"1").unwrap();
        outbox.push_update("a", "x", b"2").unwrap();
        outbox.advance(LIMITS.direct_bytes_max / 2 - 1);
        assert!(outbox.is_conflating());
        outbox.advance(1);
        assert!(!outbox.is_conflating());
        assert!(drain(&mut outbox, 7).ends_with(b"d2"));
    }

    #[test]
    fn a_change_is_owed_whole_or_its_properties_are_conflated() {
        let mut builder = ChangeBatchBuilder::new();
        builder.change("a", Sequence::ZERO);
        builder.update("x", |out| out.extend_from_slice(b"[x]"));
        builder.update("y", |out| out.extend_from_slice(b"[y]"));
        builder.change("b", Sequence::ZERO);
        builder.deleted(|out| out.extend_from_slice(b"[-b]"));
        let batch = builder.finish();

        let mut outbox = Outbox::new(LIMITS);
        for change in batch.changes() {
            outbox.push_change(change).unwrap();
        }
        assert_eq!(drain(&mut outbox, 5), b"[x][y][-b]");

        let mut outbox = conflating();
        for _ in 0..2 {
            for change in batch.changes() {
                outbox.push_change(change).unwrap();
            }
        }
        assert!(drain(&mut outbox, 5).ends_with(b"d[x][y][-b]"));
    }

    #[test]
    fn one_entry_more_than_allowed_overflows() {
        let mut outbox = conflating();
        let ids: Vec<String> = (0..=LIMITS.conflated_entries_max)
            .map(|id| id.to_string())
            .collect();
        let (last, allowed) = ids.split_last().unwrap();
        for id in allowed {
            assert_eq!(outbox.push_update(id, "x", b"1"), Ok(()));
            assert_eq!(outbox.push_update(id, "x", b"2"), Ok(()));
        }
        assert!(!outbox.overflowed());
        assert_eq!(outbox.push_deleted(last, b"-"), Err(Overflow::Entries));
        assert!(outbox.overflowed());
    }

    #[test]
    fn one_byte_more_than_allowed_overflows() {
        let with_frame = |conflated_bytes_max: usize, len: usize| {
            let mut outbox = Outbox::new(OutboxLimits {
                conflated_bytes_max,
                ..LIMITS
            });
            outbox
                .push_control(&[b'd'; LIMITS.direct_bytes_max])
                .unwrap();
            let before = outbox.heap_bytes();
            let pushed = outbox.push_update("id", "property", &vec![b'x'; len]);
            (pushed, outbox.heap_bytes().saturating_sub(before))
        };
        let (pushed, heap_bytes) = with_frame(LIMITS.conflated_bytes_max, 1000);
        assert_eq!(pushed, Ok(()));
        assert!(heap_bytes > 1000 + "id".len() + "property".len());
        assert_eq!(with_frame(heap_bytes, 1000), (Ok(()), heap_bytes));
        assert_eq!(with_frame(heap_bytes, 1001), (Err(Overflow::Bytes), 0));
    }

    #[test]
    fn overflow_keeps_only_what_is_partly_sent_and_then_the_close_frame() {
        let check = |sent: usize, expected: &[u8]| {
            let mut outbox = Outbox::new(LIMITS);
            outbox.push_control(&[b'a'; 2000]).unwrap();
            outbox.push_control(&[b'b'; 2000]).unwrap();
            outbox.advance(sent);
            let mut overflow = Ok(());
            for control in 0..=LIMITS.conflated_entries_max + 20 {
                let pushed = outbox.push_control(&[b'c'; 200]);
                overflow = overflow.and(pushed);
                assert_eq!(outbox.overflowed(), overflow.is_err(), "{control}");
            }
            assert_eq!(overflow, Err(Overflow::Entries));
            assert_eq!(outbox.push_metrics(b"m"), Err(Overflow::Entries));
            assert!(outbox.heap_bytes() <= 2 * LIMITS.direct_bytes_max);
            outbox.close(b"close");
            outbox.close(b"again");
            assert_eq!(outbox.push_control(b"late"), Ok(()));
            assert_eq!(drain(&mut outbox, 7), expected, "{sent}");
        };
        check(0, b"close");
        check(1, &[&[b'a'; 1999][..], b"close"].concat());
        check(1999, b"aclose");
        check(2000, b"close");
        check(2001, &[&[b'b'; 1999][..], b"close"].concat());
    }

    #[test]
    fn the_close_frame_comes_last() {
        let mut outbox = conflating();
        outbox.push_update("a", "x", b"1").unwrap();
        outbox.close(b"close");
        outbox.push_update("a", "x", b"2").unwrap();
        outbox.push_metrics(b"m").unwrap();
        assert!(drain(&mut outbox, 100).ends_with(b"d1close"));
        outbox.push_control(b"late").unwrap();
        assert!(outbox.is_empty());
    }
}
