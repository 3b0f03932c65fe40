//! What one HTTP connection is owed, in the order of its requests.
//!
//! ```text
//! sent │ may be sent           │ withheld                  │ behind an answer that another core works on
//! ─────┼───────────────────────┼───────────────────────────┼────────────────────────────────────────────
//! bytes│ 200 {..} 404 {..}     │ 200 {..} 200 {..}         │ slots: Waiting, Ready, Ready
//!                              ^ gate: durable to 71
//! ```
//!
//! An answer that is known at once goes straight into `bytes`; where what it says is not durable yet, a gate
//! withholds it and all behind it until it is. Only behind an answer that has to be waited for does one get a slot
//! and a buffer of its own.

use crate::limits;
use crate::service::pending::PendingRequest;
use flux_storage::Sequence;
use std::collections::VecDeque;

/// The answers of one connection.
#[derive(Debug, Default)]
pub(crate) struct Responses {
    bytes: Vec<u8>,
    /// Bytes at the front of `bytes` that the socket has taken.
    sent: usize,
    /// Ascending by position: from there on, nothing may be sent before the sequence is visible.
    gates: VecDeque<(usize, Sequence)>,
    slots: VecDeque<Slot>,
    /// Bytes of the answers that are ready in slots.
    slot_bytes: usize,
    /// Slots that wait for an answer whose size nobody knows yet.
    reads: usize,
    next_slot: u32,
}

#[derive(Debug)]
struct Slot {
    number: u32,
    state: SlotState,
}

#[derive(Debug)]
enum SlotState {
    Waiting(PendingRequest),
    Ready { bytes: Vec<u8>, gate: Sequence },
}

impl Responses {
    /// Appends an answer that `write` writes, to be seen when `gate` is visible ([`Sequence::ZERO`]: at once).
    pub(crate) fn push(&mut self, gate: Sequence, write: impl FnOnce(&mut Vec<u8>)) {
        if self.slots.is_empty() {
            self.gate(gate);
            write(&mut self.bytes);
        } else {
            let mut bytes = Vec::new();
            write(&mut bytes);
            self.slot_bytes += bytes.len();
            let number = self.take_number();
            self.slots.push_back(Slot {
                number,
                state: SlotState::Ready { bytes, gate },
            });
        }
    }

    /// Opens a slot for an answer that has to be waited for. Returns its number.
    pub(crate) fn wait(&mut self, operation: PendingRequest) -> u32 {
        let number = self.take_number();
        self.reads += usize::from(operation.is_read());
        self.slots.push_back(Slot {
            number,
            state: SlotState::Waiting(operation),
        });
        number
    }

    fn take_number(&mut self) -> u32 {
        self.next_slot = self.next_slot.wrapping_add(1);
        self.next_slot
    }

    /// The number that the next [`Responses::wait`] returns.
    pub(crate) fn next_number(&self) -> u32 {
        self.next_slot.wrapping_add(1)
    }

    /// The operation that waits in a slot.
    pub(crate) fn operation(&mut self, number: u32) -> Option<&mut PendingRequest> {
        self.slots
            .iter_mut()
            .find(|slot| slot.number == number)
            .and_then(|slot| match &mut slot.state {
                SlotState::Waiting(operation) => Some(operation),
                SlotState::Ready { .. } => None,
            })
    }

    /// The operation at the front, where the oldest unanswered request waits, and its slot.
    pub(crate) fn front_pending(&mut self) -> Option<(u32, &mut PendingRequest)> {
        let Slot { number, state } = self.slots.front_mut()?;
        match state {
            SlotState::Waiting(operation) => Some((*number, operation)),
            SlotState::Ready { .. } => None,
        }
    }

    /// Answers a slot. Everything that no longer waits behind it moves on.
    pub(crate) fn fill(&mut self, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(index) = self.slots.iter().position(|slot| slot.number == number) else {
            return;
        };
        if let SlotState::Waiting(operation) = &self.slots[index].state {
            self.reads -= usize::from(operation.is_read());
        }
        if index == 0 {
            write(&mut self.bytes);
            self.slots.pop_front();
            self.advance_slots();
        } else {
            let mut bytes = Vec::new();
            write(&mut bytes);
            self.slot_bytes += bytes.len();
            self.slots[index].state = SlotState::Ready {
                bytes,
                gate: Sequence::ZERO,
            };
        }
    }

    /// Writes a part of the answer at the front; it stays there.
    pub(crate) fn write_front(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
    }

    fn advance_slots(&mut self) {
        while let Some(Slot {
            state: SlotState::Ready { .. },
            ..
        }) = self.slots.front()
        {
            if let Some(Slot {
                state: SlotState::Ready { bytes, gate },
                ..
            }) = self.slots.pop_front()
            {
                self.gate(gate);
                self.slot_bytes -= bytes.len();
                self.bytes.extend_from_slice(&bytes);
            }
        }
    }

    fn gate(&mut self, gate: Sequence) {
        if gate > Sequence::ZERO {
            self.gates.push_back((self.bytes.len(), gate));
        }
    }

    /// Opens the gates that `visible` has reached. True where one remains.
    pub(crate) fn open_gates(&mut self, visible: Sequence) -> bool {
        while self.gates.front().is_some_and(|(_, gate)| *gate <= visible) {
            self.gates.pop_front();
        }
        !self.gates.is_empty()
    }

    /// Drops every answer that is withheld. True where there was one.
    pub(crate) fn drop_gated(&mut self) -> bool {
        let Some((position, _)) = self.gates.pop_front() else {
            return false;
        };
        self.bytes.truncate(position);
        self.gates.clear();
        self.slots.clear();
        self.slot_bytes = 0;
        self.reads = 0;
        true
    }

    /// What the socket may take now.
    pub(crate) fn sendable(&self) -> &[u8] {
        let end = self
            .gates
            .front()
            .map_or(self.bytes.len(), |(position, _)| *position);
        self.bytes.get(self.sent..end).unwrap_or_default()
    }

    /// The socket took `count` bytes.
    pub(crate) fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        } else if self.sent >= COMPACT_BYTES {
            self.bytes.drain(..self.sent);
            for (position, _) in &mut self.gates {
                *position -= self.sent;
            }
            self.sent = 0;
        }
    }

    /// Bytes that are next in line and not sent, withheld ones included.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// True while no further request may be taken on: too many wait, or too many bytes.
    pub(crate) fn is_full(&self) -> bool {
        self.slots.len() >= limits::PIPELINE_REQUESTS_MAX
            || self.reads >= limits::PIPELINE_READS_MAX
            || self.pending_bytes() + self.slot_bytes >= limits::RESPONSE_BYTES_PENDING_MAX
    }

    /// Uses up the number that a request was sent out under whose slot was never opened: a late reply to it must not
    /// find another's.
    pub(crate) fn forget_number(&mut self) {
        self.take_number();
    }

    /// Answers that wait in slots.
    pub(crate) fn waiting(&self) -> usize {
        self.slots.len()
    }

    /// True where nothing is owed.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending_bytes() == 0 && self.slots.is_empty()
    }

    /// True where an answer is withheld until it is durable.
    pub(crate) fn is_gated(&self) -> bool {
        !self.gates.is_empty()
    }

    /// Gives back heap beyond `keep` bytes where nothing is owed.
    pub(crate) fn trim(&mut self, keep: usize) {
        if self.is_empty() {
            if self.bytes.capacity() > keep {
                self.bytes = Vec::new();
            }
            self.gates.shrink_to(4);
            self.slots.shrink_to(0);
        }
    }
}

/// Sent bytes that are cut off the front of a buffer that never runs empty.
const COMPACT_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::pending::RequestMeta;

    fn push(responses: &mut Responses, gate: u64, text: &str) {
        responses.push(Sequence::new(gate), |out| {
            out.extend_from_slice(text.as_bytes());
        });
    }

    fn waiting() -> PendingRequest {
        PendingRequest::Delete {
            meta: RequestMeta::CLOSING,
            id: "x".into(),
        }
    }

    fn send_all(responses: &mut Responses) -> String {
        let text = String::from_utf8(responses.sendable().to_vec()).unwrap();
        responses.advance(text.len());
        text
    }

    #[test]
    fn a_gate_withholds_its_answer_and_all_behind_it() {
        let mut responses = Responses::default();
        push(&mut responses, 0, "a");
        push(&mut responses, 5, "b");
        push(&mut responses, 0, "c");
        push(&mut responses, 6, "d");
        assert_eq!(send_all(&mut responses), "a");
        assert!(responses.open_gates(Sequence::new(5)));
        assert_eq!(send_all(&mut responses), "bc");
        assert!(!responses.open_gates(Sequence::new(6)));
        assert_eq!(send_all(&mut responses), "d");
        assert!(responses.is_empty());
    }

    #[test]
    fn answers_leave_in_the_order_of_their_requests() {
        let mut responses = Responses::default();
        push(&mut responses, 0, "a");
        let first = responses.wait(waiting());
        push(&mut responses, 7, "c");
        let second = responses.wait(waiting());
        responses.fill(second, |out| out.push(b'd'));
        assert_eq!(send_all(&mut responses), "a");
        responses.fill(first, |out| out.push(b'b'));
        assert_eq!(
            send_all(&mut responses),
            "b",
            "c is not durable yet, and d waits behind it"
        );
        responses.open_gates(Sequence::new(7));
        assert_eq!(send_all(&mut responses), "cd");
    }

    #[test]
    fn dropping_what_is_withheld_keeps_what_may_be_sent() {
        let mut responses = Responses::default();
        push(&mut responses, 0, "a");
        push(&mut responses, 3, "b");
        assert!(responses.drop_gated());
        push(&mut responses, 0, "x");
        assert_eq!(send_all(&mut responses), "ax");
        assert!(!responses.drop_gated());
    }
}
