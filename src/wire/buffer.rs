//! The bytes received and not yet consumed, shared by both codecs.
//!
//! Consuming moves an index, never bytes, so that a read holding a hundred pipelined requests is
//! not moved a hundred times. Bytes move only when more arrive and at least as many were consumed
//! as remain, which keeps the total moved below the total received and the buffer below twice what
//! is pending (and `Vec`'s growth).

use zeroize::Zeroize as _;

/// Bytes by which a large buffer grows at a time: doubling it would take twice a body's memory.
const GROWTH_STEP_BYTES: usize = 512 * 1024;

/// A growing window of received bytes. `start <= bytes.len()` always.
#[derive(Debug, Default)]
pub(super) struct ReceiveBuffer {
    bytes: Vec<u8>,
    /// The first byte that is not consumed.
    start: usize,
}

impl ReceiveBuffer {
    /// Appends what the socket gave.
    pub(super) fn receive(&mut self, more: &[u8]) {
        let pending = self.len();
        if self.start >= pending {
            self.bytes.copy_within(self.start.., 0);
            self.bytes.truncate(pending);
            self.start = 0;
        }
        let growth = self.growth(more.len());
        if growth >= GROWTH_STEP_BYTES {
            let room = self.bytes.capacity().saturating_sub(self.bytes.len());
            self.bytes.reserve_exact(room.saturating_add(growth));
        }
        self.bytes.extend_from_slice(more);
    }

    /// Bytes of heap that receiving `len` more bytes takes at most.
    pub(super) fn growth(&self, len: usize) -> usize {
        let capacity = self.bytes.capacity();
        let missing = (self.bytes.len().saturating_add(len)).saturating_sub(capacity);
        if missing == 0 {
            return 0;
        }
        missing.max(capacity.min(GROWTH_STEP_BYTES))
    }

    /// How many bytes are pending.
    pub(super) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.start)
    }

    /// The bytes received and not consumed.
    pub(super) fn pending(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// The same, for decoding in place.
    pub(super) fn pending_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    /// Consumes `len` bytes, or all if fewer are pending, and lends them until the buffer is
    /// used again.
    pub(super) fn consume(&mut self, len: usize) -> &[u8] {
        let from = self.start;
        self.start = from.saturating_add(len).min(self.bytes.len());
        self.bytes.get(from..self.start).unwrap_or_default()
    }

    /// Removes the pending bytes `from..to`, which were decoded away; those behind move down.
    pub(super) fn close_gap(&mut self, from: usize, to: usize) {
        let pending = self.pending_mut();
        if from >= to || to > pending.len() {
            return;
        }
        pending.copy_within(to.., from);
        let removed = to.saturating_sub(from);
        self.bytes
            .truncate(self.bytes.len().saturating_sub(removed));
    }

    /// Overwrites what was consumed, which may have been secret.
    pub(super) fn wipe_consumed(&mut self) {
        self.bytes
            .get_mut(..self.start)
            .unwrap_or_default()
            .zeroize();
    }

    /// Gives the heap back if nothing is pending.
    pub(super) fn trim(&mut self) {
        if self.len() == 0 {
            self.discard();
        }
    }

    /// Drops everything, with its heap.
    pub(super) fn discard(&mut self) {
        *self = Self::default();
    }

    /// What the buffer holds on to.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// All pending bytes, leaving nothing.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let rest = self.pending().to_vec();
        self.discard();
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_the_order_they_went_in() {
        let mut buffer = ReceiveBuffer::default();
        buffer.receive(b"abcdef");
        assert_eq!(buffer.consume(2), b"ab");
        buffer.receive(b"gh");
        assert_eq!(buffer.pending(), b"cdefgh");
        assert_eq!(buffer.consume(5), b"cdefg");
        buffer.receive(b"ij");
        assert_eq!(buffer.consume(99), b"hij");
        assert_eq!(buffer.len(), 0);
    }

    #[test]
    fn consumed_bytes_are_dropped_once_they_outweigh_the_rest() {
        let mut buffer = ReceiveBuffer::default();
        for _ in 0..10_000 {
            buffer.receive(b"0123456789");
            buffer.consume(10);
        }
        assert!(buffer.bytes.capacity() < 100, "{}", buffer.bytes.capacity());
    }

    #[test]
    fn a_large_buffer_takes_little_more_than_it_holds() {
        let mut buffer = ReceiveBuffer::default();
        let piece = vec![b'x'; 64 * 1024];
        for _ in 0..100 {
            let (before, growth) = (buffer.heap_bytes(), buffer.growth(piece.len()));
            buffer.receive(&piece);
            assert!(buffer.heap_bytes() <= before.saturating_add(growth));
        }
        let spare = buffer.heap_bytes().saturating_sub(buffer.len());
        assert!(spare <= GROWTH_STEP_BYTES, "{spare}");
    }

    #[test]
    fn gap_closes_over_what_follows() {
        let mut buffer = ReceiveBuffer::default();
        buffer.receive(b"xhead-gap-tail");
        buffer.consume(1);
        buffer.close_gap(4, 8);
        assert_eq!(buffer.pending(), b"head-tail");
        buffer.close_gap(3, 3);
        buffer.close_gap(0, 99);
        assert_eq!(buffer.len(), 9);
    }

    #[test]
    fn what_was_consumed_can_be_overwritten() {
        let mut buffer = ReceiveBuffer::default();
        buffer.receive(b"secret and more");
        buffer.consume(6);
        buffer.wipe_consumed();
        assert_eq!(buffer.bytes, b"\0\0\0\0\0\0 and more");
        assert_eq!(buffer.pending(), b" and more");
    }

    #[test]
    fn trim_frees_only_what_is_empty() {
        let mut buffer = ReceiveBuffer::default();
        buffer.receive(b"ab");
        buffer.consume(1);
        buffer.trim();
        assert_eq!(buffer.pending(), b"b");
        buffer.consume(1);
        buffer.trim();
        assert_eq!(buffer.bytes.capacity(), 0);
        buffer.receive(b"cd");
        assert_eq!(buffer.take(), b"cd");
        assert_eq!((buffer.len(), buffer.bytes.capacity()), (0, 0));
    }
}
