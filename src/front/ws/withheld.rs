//! Answers of one session that nobody may see before their commit points are reached.

use crate::model::{CommitPoint, CommitQueue};
use crate::subscribe::Outbox;
use flux_storage::Sequence;

/// Heap that is kept for the next frame.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// See the module. Frames in the order in which they leave.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    bytes: Vec<u8>,
    /// The frames in `bytes`.
    frames: CommitQueue<Frame>,
}

/// A frame that is withheld.
#[derive(Debug, Clone, Copy)]
struct Frame {
    len: usize,
    /// It says that an event is stored.
    is_stored: bool,
}

impl Withheld {
    /// Appends the frame that `write` writes, to be seen when `point` is reached and all before it
    /// has left.
    pub(super) fn push(&mut self, point: CommitPoint, write: impl FnOnce(&mut Vec<u8>)) {
        self.append((point, false), write);
    }

    /// The same of a frame that says that events are stored.
    pub(super) fn push_stored(&mut self, point: CommitPoint, write: impl FnOnce(&mut Vec<u8>)) {
        self.append((point, true), write);
    }

    fn append(
        &mut self,
        (point, is_stored): (CommitPoint, bool),
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let len = self.bytes.len() - start;
        self.frames.push(point, Frame { len, is_stored });
    }

    /// Drops all of it. How many frames said that events are stored.
    pub(super) fn fail(&mut self) -> u64 {
        let mut stored = 0;
        while let Some(frame) = self.frames.pop_failed() {
            stored += u64::from(frame.is_stored);
        }
        self.bytes.clear();
        stored
    }

    /// Gives the outbox what a log that is visible through `visible` may show. An overflow shows
    /// there.
    pub(super) fn open(&mut self, visible: Sequence, outbox: &mut Outbox) {
        let mut sent = 0;
        while let Some(Frame { len, .. }) = self.frames.pop_due(visible) {
            let frame = self.bytes.get(sent..sent + len).unwrap_or_default();
            match outbox.push_control(frame) {
                Ok(()) | Err(_) => {}
            }
            sent += len;
        }
        self.bytes.drain(..sent);
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_BYTES_MAX {
            self.bytes = Vec::new();
        }
    }

    /// Bytes that are withheld.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Heap of what is withheld.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.frames.heap_bytes()
    }

    /// True if nothing is withheld.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Drops all of it.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
    }

    /// Gives back heap if nothing is withheld.
    pub(super) fn trim(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
            self.frames.shrink_to(0);
        }
    }
}
