//! The answers of one HTTP connection, in the order of its requests.
//!
//! ```text
//! sent │ may be sent           │ withheld                  │ behind an answer not known yet
//! ─────┼───────────────────────┼───────────────────────────┼──────────────────────────────
//! bytes│ 200 {..} 404 {..}     │ 200 {..} 200 {..}         │ slots: Waiting, Ready, Ready
//!                              ^ commit point: durable to 71
//! ```
//!
//! An answer that is known at once goes straight into `bytes`. If what it says is not durable yet,
//! its commit point withholds it and all behind it. Such an answer counts when it may be seen: if
//! the log fails it is dropped, and the client is told something else. An answer that is not known
//! yet, and each one behind it, gets a slot; a known answer has a buffer of its own there. An
//! answer around static bytes keeps its slot while these are sent: they never come into a buffer.

use super::call::{Counts, HttpCall, Purpose, RequestMeta};
use super::ledger::{Answered, Asked, Ledger};
use super::slot::{Slot, SlotState, StaticAnswer, Uncounted, make_room, uncounted};
use crate::api::metrics::{RoutePattern, StatusClass};
use crate::limits;
use crate::model::{CommitPoint, CommitQueue};
use crate::service::changes::PendingChanges;
use crate::service::{Context, Pending};
use crate::shard::MCP_BIT;
use flux_storage::Sequence;
use std::collections::VecDeque;
use std::net::IpAddr;

/// The answers of one connection.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    bytes: Vec<u8>,
    /// Bytes at the front of `bytes` that the socket has taken.
    sent: usize,
    /// Places in `bytes`, ascending: from there on, nothing may be sent before the commit point is
    /// reached.
    gates: CommitQueue<Gate>,
    slots: VecDeque<Slot>,
    /// Heap of the answers that are ready in slots.
    slot_bytes: usize,
    /// Heap of the calls that wait in slots.
    waiting_bytes: usize,
    /// Static bytes that are owed, those of all slots.
    static_bytes: usize,
    /// Slots that wait for an answer whose size nobody knows yet.
    reads: usize,
    /// When the late answer may leave, if there is one: monotonic milliseconds.
    late_until_ms: Option<u64>,
    /// Bytes of the bodies of calls that wait in slots.
    body_bytes: usize,
    /// What the read at the front is expected to bring, if it was deferred and is begun.
    expected_bytes: usize,
    /// The answer at the front can't go on for want of memory.
    wants_memory: bool,
    last_serial: u32,
    /// Bytes that were written since they were last asked for, wherever they went.
    written: u64,
    /// Bytes of [`PROBE`] that were sent ahead of the next answer.
    probed: usize,
    /// What was asked for, if there is an access log.
    ledger: Option<Box<Ledger>>,
}

/// The highest serial of a request that is no message of `POST /mcp`: higher ones are of those, and
/// of subscriptions. Far fewer requests are under way.
const SERIAL_MAX: u32 = MCP_BIT - 1;

/// How every answer begins.
const PROBE: &[u8] = b"HTTP/1.1 ";

/// The beginning of an answer that is withheld.
#[derive(Debug, Clone, Copy)]
struct Gate {
    position: usize,
    /// What it counts as when it may be seen, if it does not count yet.
    uncounted: Option<Uncounted>,
}

impl Answers {
    /// Appends an answer that `write` writes, to be seen when `point` is reached.
    pub(crate) fn push(&mut self, point: CommitPoint, write: impl FnOnce(&mut Vec<u8>)) {
        self.append(point, None, write);
    }

    /// The same of the answer to a request. `write` counts it or leaves that to this, as what it is
    /// given says.
    pub(super) fn answer(
        &mut self,
        (meta, point): (RequestMeta, CommitPoint),
        write: impl FnOnce(&mut Vec<u8>, RequestMeta),
    ) {
        let meta = self.when_counted(meta, (point, self.slots.is_empty()));
        self.append(point, Some(meta), |out| write(out, meta));
    }

    fn append(
        &mut self,
        point: CommitPoint,
        meta: Option<RequestMeta>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if self.slots.is_empty() {
            self.write_withheld(point, meta, write);
            self.note_end();
        } else {
            let serial = self.take_serial();
            let slot = Slot::ready(serial, (point, meta), write);
            self.slot_bytes += slot.held;
            self.written += slot.held as u64;
            self.slots.push_back(slot);
        }
    }

    /// Appends an answer around static bytes, which has counted.
    pub(super) fn push_static(&mut self, answer: StaticAnswer) {
        self.static_bytes += answer.rest.len();
        let serial = self.take_serial();
        let slot = Slot::new(serial, SlotState::Static(answer));
        self.slot_bytes += slot.held;
        self.slots.push_back(slot);
        self.advance_slots();
    }

    /// When an answer counts that goes next in line, or into a slot. One that is withheld is
    /// dropped if the log fails.
    fn when_counted(
        &self,
        meta: RequestMeta,
        (point, is_next): (CommitPoint, bool),
    ) -> RequestMeta {
        let is_withheld = point > CommitPoint::NONE || is_next && self.is_gated();
        let counts = if is_withheld {
            Counts::WhenSeen
        } else {
            Counts::AtOnce
        };
        RequestMeta { counts, ..meta }
    }

    /// Appends an answer that must not leave before `due_ms`. Until then the connection is full:
    /// who is kept waiting asks for nothing else meanwhile.
    pub(super) fn push_late(&mut self, due_ms: u64, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        write(&mut bytes);
        self.late_until_ms = Some(due_ms);
        let serial = self.take_serial();
        let slot = Slot::new(serial, SlotState::Late { bytes });
        self.slot_bytes += slot.held;
        self.slots.push_back(slot);
    }

    /// When the late answer may leave, if there is one.
    pub(crate) fn late_until_ms(&self) -> Option<u64> {
        self.late_until_ms
    }

    /// Lets the late answer leave, after those before it.
    pub(crate) fn release_late(&mut self) {
        self.late_until_ms = None;
        for slot in &mut self.slots {
            if let SlotState::Late { bytes } = &mut slot.state {
                slot.state = SlotState::Ready {
                    bytes: std::mem::take(bytes),
                    point: CommitPoint::NONE,
                    uncounted: None,
                };
            }
        }
        self.advance_slots();
    }

    /// Opens a slot for an answer that is not known yet. Returns its serial.
    pub(super) fn wait(&mut self, call: HttpCall) -> u32 {
        let bit = if call.mcp.is_some() { MCP_BIT } else { 0 };
        let serial = self.take_serial() | bit;
        self.body_bytes += call.body_bytes;
        let slot = Slot::new(serial, SlotState::Waiting(call));
        self.reads += usize::from(slot.is_read);
        self.waiting_bytes += slot.held;
        self.slots.push_back(slot);
        serial
    }

    fn take_serial(&mut self) -> u32 {
        self.last_serial = self.next_serial();
        self.last_serial
    }

    /// The serial that the next [`Answers::wait`] returns, without [`MCP_BIT`].
    pub(super) fn next_serial(&self) -> u32 {
        self.last_serial.wrapping_add(1) & SERIAL_MAX
    }

    /// The call that waits in a slot.
    pub(super) fn call(&mut self, serial: u32) -> Option<&mut HttpCall> {
        self.slots
            .iter_mut()
            .find(|slot| slot.serial == serial)
            .and_then(|slot| match &mut slot.state {
                SlotState::Waiting(call) => Some(call),
                SlotState::Ready { .. } | SlotState::Late { .. } | SlotState::Static(_) => None,
            })
    }

    /// Counts what a call holds, after it was worked on.
    pub(super) fn recount(&mut self, serial: u32) {
        let slot = self.slots.iter_mut().find(|slot| slot.serial == serial);
        if let Some(slot) = slot
            && let SlotState::Waiting(_) = slot.state
        {
            let held = slot.state.heap_bytes();
            self.waiting_bytes = (self.waiting_bytes + held).saturating_sub(slot.held);
            slot.held = held;
            let is_read = slot.state.is_read();
            self.reads = self.reads + usize::from(is_read) - usize::from(slot.is_read);
            slot.is_read = is_read;
        }
    }

    /// The oldest unanswered call, if nothing before it is left to answer, and its serial.
    pub(super) fn front_call(&mut self) -> Option<(u32, &mut HttpCall)> {
        let Slot { serial, state, .. } = self.slots.front_mut()?;
        match state {
            SlotState::Waiting(call) => Some((*serial, call)),
            SlotState::Ready { .. } | SlotState::Late { .. } | SlotState::Static(_) => None,
        }
    }

    /// The poll at the front, if there is one, and its serial.
    pub(super) fn front_poll(&mut self) -> Option<(u32, &mut PendingChanges)> {
        let (serial, call) = self.front_call()?;
        match &mut call.pending {
            Pending::Changes(poll) => Some((serial, &mut **poll)),
            _ => None,
        }
    }

    /// A change that a poll waits for has come. True if it is to be looked at.
    pub(crate) fn wake_poll(&mut self, shard: u16) -> bool {
        self.front_poll().is_some_and(|(_, poll)| poll.wake(shard))
    }

    /// Whether the client of a poll may see a change of this entity.
    pub(crate) fn poll_may_read<L>(&mut self, context: &Context<L>, entity_id: &str) -> bool {
        self.front_poll()
            .is_none_or(|(_, poll)| poll.may_read(context, entity_id))
    }

    /// When a poll is to be looked at, monotonic milliseconds; said once.
    pub(crate) fn take_poll_timer(&mut self) -> Option<u64> {
        self.front_poll()?.1.take_timer()
    }

    /// The socket took nothing for a while: what the listing at the front has gathered is out of
    /// date.
    pub(crate) fn forget_unsent(&mut self) {
        if let Some((serial, call)) = self.front_call()
            && let Pending::List(listing) = &mut call.pending
        {
            listing.forget_unsent();
            self.recount(serial);
        }
    }

    /// Answers a slot with what may be seen now. Everything that no longer waits behind it moves
    /// on.
    pub(super) fn fill(&mut self, serial: u32, write: impl FnOnce(&mut Vec<u8>)) {
        self.fill_at(serial, (CommitPoint::NONE, None), write);
    }

    /// The same with the answer to its request, as [`Answers::answer`].
    pub(super) fn fill_answer(
        &mut self,
        serial: u32,
        (meta, point): (RequestMeta, CommitPoint),
        write: impl FnOnce(&mut Vec<u8>, RequestMeta),
    ) {
        let front = self.slots.front().map(|slot| slot.serial);
        let meta = self.when_counted(meta, (point, front == Some(serial)));
        self.fill_at(serial, (point, Some(meta)), |out| write(out, meta));
    }

    /// The same with bytes that may be seen when `point` is reached.
    pub(super) fn fill_at(
        &mut self,
        serial: u32,
        (point, meta): (CommitPoint, Option<RequestMeta>),
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(index) = self.slots.iter().position(|slot| slot.serial == serial) else {
            return;
        };
        if let SlotState::Waiting(call) = &self.slots[index].state {
            self.reads -= usize::from(self.slots[index].is_read);
            self.body_bytes -= call.body_bytes;
            self.waiting_bytes -= self.slots[index].held;
        }
        if index == 0 {
            self.expected_bytes = 0;
            self.write_withheld(point, meta, write);
            self.note_end();
            self.slots.pop_front();
            self.advance_slots();
        } else {
            let slot = Slot::ready(serial, (point, meta), write);
            self.slot_bytes += slot.held;
            self.written += slot.held as u64;
            self.slots[index] = slot;
        }
    }

    /// Writes a part of the answer at the front; it stays there.
    pub(super) fn write_front(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.write_next(write);
    }

    /// The client's side has ended, and the answer at the front is read from the past. Whether the
    /// client is gone or only has nothing more to ask, the kernel learns when something is sent: so
    /// the first bytes of that answer are. If it is gone, the connection is reset.
    pub(crate) fn probe(&mut self) {
        if self.pending_bytes() > 0 {
            return;
        }
        if let Some((_, call)) = self.front_call()
            && matches!(call.pending, Pending::History(_) | Pending::Changes(_))
            && !call.has_begun
        {
            self.send_ahead(PROBE.len());
        }
    }

    /// The same for a client that waits for memory, to be read or to be answered: the end of its
    /// side may be behind bytes that are not read. One byte each time, since it may go at any time.
    pub(crate) fn probe_waiting(&mut self) {
        let begun = self.front_call().is_some_and(|(_, call)| call.has_begun);
        if self.pending_bytes() == 0 && !begun {
            self.send_ahead(self.probed + 1);
        }
    }

    /// Sends of the first `len` bytes of the next answer what was not sent yet.
    fn send_ahead(&mut self, len: usize) {
        let rest = PROBE.get(self.probed..len).unwrap_or_default();
        self.bytes.extend_from_slice(rest);
        self.probed += rest.len();
        if let Some(ledger) = &mut self.ledger {
            ledger.append_ahead(rest.len());
        }
    }

    /// Writes the next answer in line, which may be seen when `point` is reached.
    fn write_withheld(
        &mut self,
        point: CommitPoint,
        meta: Option<RequestMeta>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let (position, probed) = (self.bytes.len(), self.probed);
        self.write_next(write);
        let written = self.bytes.get(position..).unwrap_or_default();
        let uncounted = uncounted((meta, point), written, probed);
        self.withhold((position, point), uncounted);
    }

    /// Writes the next bytes in line.
    fn write_next(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.written += (self.bytes.len() - start) as u64;
        let probed = std::mem::take(&mut self.probed);
        self.note_appended(start, probed);
        if probed > 0 {
            let written = self.bytes.get(start..).unwrap_or_default();
            assert!(written.starts_with(PROBE), "every answer begins so");
            self.bytes.drain(start..start + probed);
        }
    }

    fn advance_slots(&mut self) {
        self.advance_ready_slots();
        if self.static_bytes > 0 {
            self.begin_static();
        }
    }

    /// Writes the head of the answer around static bytes at the front, if there is one.
    fn begin_static(&mut self) {
        let Some(slot) = self.slots.front_mut() else {
            return;
        };
        let SlotState::Static(answer) = &mut slot.state else {
            return;
        };
        if std::mem::replace(&mut answer.is_begun, true) {
            return;
        }
        let head = std::mem::take(&mut answer.head);
        let behind = answer.rest.len() + answer.end.len();
        let held = slot.state.heap_bytes();
        self.slot_bytes = self.slot_bytes + held - slot.held;
        slot.held = held;
        self.write_next(|out| out.extend_from_slice(&head));
        if let Some(ledger) = &mut self.ledger {
            ledger.append_behind(behind);
        }
        self.note_end();
    }

    /// The static bytes that are next in line when the buffer is empty.
    pub(crate) fn static_rest(&self) -> &'static [u8] {
        if self.static_bytes > 0
            && let Some(slot) = self.slots.front()
            && let SlotState::Static(answer) = &slot.state
            && answer.is_begun
        {
            return answer.rest;
        }
        &[]
    }

    /// The socket took `count` of the static bytes that are next in line.
    fn advance_static(&mut self, count: usize) {
        let Some(slot) = self.slots.front_mut() else {
            return;
        };
        let SlotState::Static(answer) = &mut slot.state else {
            return;
        };
        answer.rest = answer.rest.get(count..).unwrap_or_default();
        self.static_bytes -= count;
        if answer.rest.is_empty() {
            // The ledger knows of it.
            self.bytes.append(&mut answer.end);
            self.slot_bytes -= slot.held;
            self.slots.pop_front();
            self.advance_slots();
        }
    }

    fn advance_ready_slots(&mut self) {
        while let Some(Slot {
            state: SlotState::Ready { .. },
            ..
        }) = self.slots.front()
        {
            if let Some(Slot {
                state:
                    SlotState::Ready {
                        bytes,
                        point,
                        uncounted,
                    },
                held,
                ..
            }) = self.slots.pop_front()
            {
                self.withhold((self.bytes.len(), point), uncounted);
                self.slot_bytes -= held;
                if self.bytes.capacity() < bytes.capacity()
                    && self.bytes.is_empty()
                    && self.probed == 0
                {
                    self.bytes = bytes;
                    self.note_appended(0, 0);
                } else {
                    make_room(&mut self.bytes, bytes.len());
                    self.write_next(|out| out.extend_from_slice(&bytes));
                }
                self.note_end();
            }
        }
    }

    fn withhold(&mut self, (position, point): (usize, CommitPoint), uncounted: Option<Uncounted>) {
        if point > CommitPoint::NONE || uncounted.is_some() {
            let gate = Gate {
                position,
                uncounted,
            };
            self.gates.push(point, gate);
        }
    }

    /// Opens the gates that `visible` has reached, and tells the pattern and the status of each
    /// answer that counts now. True if a gate remains.
    pub(crate) fn open_gates(
        &mut self,
        visible: Sequence,
        mut count: impl FnMut(RoutePattern, u16),
    ) -> bool {
        while let Some(gate) = self.gates.pop_due(visible) {
            if let Some((meta, status)) = gate.uncounted {
                count(meta.pattern, status);
            }
        }
        !self.gates.is_empty()
    }

    /// Drops every answer that is withheld. For what goes in the place of the first of them, and
    /// how many of them were to say that events are stored; `None` if there was none.
    pub(crate) fn drop_gated(&mut self) -> Option<(RequestMeta, u64)> {
        let gate = self.gates.pop_failed()?;
        self.bytes.truncate(gate.position);
        let mut dropped = vec![gate.uncounted];
        dropped.extend(std::iter::from_fn(|| self.gates.pop_failed()).map(|gate| gate.uncounted));
        dropped.extend(self.slots.iter().map(|slot| match &slot.state {
            SlotState::Ready { uncounted, .. } => *uncounted,
            SlotState::Waiting(_) | SlotState::Late { .. } | SlotState::Static(_) => None,
        }));
        let was_to_store = |(meta, status): &Uncounted| {
            meta.purpose == Purpose::Store && StatusClass::of(*status) == StatusClass::Success
        };
        let stores = dropped.into_iter().flatten().filter(was_to_store).count();
        // Nothing of an answer around static bytes can have been sent behind a gate.
        let left = self.buffered_bytes();
        if let Some(ledger) = &mut self.ledger {
            ledger.cut(left);
        }
        self.gates.clear();
        self.slots.clear();
        self.slot_bytes = 0;
        self.static_bytes = 0;
        self.waiting_bytes = 0;
        self.reads = 0;
        self.late_until_ms = None;
        self.body_bytes = 0;
        self.expected_bytes = 0;
        let meta = gate.uncounted.map_or(RequestMeta::CLOSING, |it| it.0);
        Some((meta.in_place(), stores as u64))
    }

    /// What the socket may take now.
    pub(crate) fn sendable(&self) -> &[u8] {
        if self.buffered_bytes() == 0 {
            return self.static_rest();
        }
        let end = self
            .gates
            .front()
            .map_or(self.bytes.len(), |gate| gate.position);
        self.bytes.get(self.sent..end).unwrap_or_default()
    }

    /// The socket took `count` bytes.
    pub(crate) fn advance(&mut self, count: usize) {
        if let Some(ledger) = &mut self.ledger {
            ledger.advance(count);
        }
        if self.buffered_bytes() == 0 {
            self.advance_static(count);
            return;
        }
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
            if self.bytes.capacity() > COMPACT_BYTES {
                self.bytes = Vec::new();
            }
        } else if self.sent >= COMPACT_BYTES {
            self.bytes.drain(..self.sent);
            for (_, gate) in self.gates.iter_mut() {
                gate.position -= self.sent;
            }
            self.sent = 0;
        }
    }

    /// Bytes that are next in line and not sent, withheld ones included.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.buffered_bytes() + self.static_rest().len()
    }

    /// Those of them that are in the buffer.
    fn buffered_bytes(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Bytes of the buffer that are not sent, of the answers in slots, and what the calls there
    /// hold.
    pub(crate) fn owed_bytes(&self) -> usize {
        self.buffered_bytes() + self.slot_bytes + self.waiting_bytes
    }

    /// True if what is to be sent next is more than a small answer, or will be once it is written.
    pub(crate) fn are_large(&self) -> bool {
        let next = self.slots.front().map_or(0, |it| it.state.next_bytes());
        self.pending_bytes().max(self.static_bytes).max(next) > limits::SMALL_ANSWER_BYTES_MAX
    }

    /// Bytes that were written since the last call.
    pub(crate) fn take_written(&mut self) -> u64 {
        std::mem::take(&mut self.written)
    }

    /// True while no further request may be taken on: too many wait, or too many bytes.
    pub(crate) fn is_full(&self) -> bool {
        self.is_blocked()
            || self.slots.len() >= limits::PIPELINE_REQUESTS_MAX
            || self.reads >= limits::PIPELINE_READS_MAX
            || self.body_bytes >= limits::PIPELINE_BODY_BYTES_MAX
            || self.late_until_ms.is_some()
            || self.static_bytes >= limits::STATIC_BYTES_PENDING_MAX
            || self.buffered_bytes() + self.slot_bytes >= limits::RESPONSE_BYTES_PENDING_MAX
    }

    /// True while the newest request takes several slices of work: it is answered before the next
    /// is taken on.
    fn is_blocked(&self) -> bool {
        self.newest_call()
            .is_some_and(|(_, call)| call.pending.is_sliced())
    }

    /// The newest request if it has work left that waits for nothing.
    pub(crate) fn unfinished(&self) -> Option<u32> {
        let (serial, call) = self.newest_call()?;
        call.pending.is_unfinished().then_some(serial)
    }

    fn newest_call(&self) -> Option<(u32, &HttpCall)> {
        let Slot { serial, state, .. } = self.slots.back()?;
        match state {
            SlotState::Waiting(call) => Some((*serial, call)),
            SlotState::Ready { .. } | SlotState::Late { .. } | SlotState::Static(_) => None,
        }
    }

    /// Heap of the answers, and of what they are made of.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.fixed_bytes() + self.waiting_bytes + self.slot_bytes
    }

    /// Heap that an answer of so many bytes takes besides, which goes into the buffer if it has
    /// room.
    pub(super) fn growth(&self, bytes: usize) -> usize {
        let room = if self.slots.len() > 1 {
            0
        } else {
            self.bytes.capacity() - self.bytes.len()
        };
        bytes.saturating_sub(room)
    }

    /// Heap that is found by a look at all of it.
    #[cfg(test)]
    pub(crate) fn found_bytes(&self) -> usize {
        let slots = self.slots.iter().map(|slot| slot.state.heap_bytes());
        self.fixed_bytes() + slots.sum::<usize>()
    }

    /// All that may be sent now.
    #[cfg(test)]
    pub(super) fn take_all(&mut self) -> String {
        let mut all = Vec::new();
        while let sent @ [_, ..] = self.sendable() {
            all.extend_from_slice(sent);
            let count = sent.len();
            self.advance(count);
        }
        String::from_utf8(all).unwrap()
    }

    /// Heap of its buffers, without what slots hold.
    fn fixed_bytes(&self) -> usize {
        let slots = self.slots.capacity() * size_of::<Slot>();
        let ledger = self.ledger.as_ref().map_or(0, |it| it.heap_bytes());
        self.bytes.capacity() + self.gates.heap_bytes() + slots + ledger
    }

    /// Notes what is asked for from here on.
    pub(crate) fn keep_ledger(&mut self, client: Option<IpAddr>) {
        self.ledger = Some(Box::new(Ledger::of(client)));
    }

    /// True if that is noted.
    pub(crate) fn keeps_ledger(&self) -> bool {
        self.ledger.is_some()
    }

    /// A request has come. Its answer, or a slot for it, comes next.
    pub(crate) fn note_asked(&mut self, asked: Asked) {
        if let Some(ledger) = &mut self.ledger {
            ledger.note(asked);
        }
    }

    /// What begins at `start` belongs to the answer in line; `probed` bytes of it were sent before.
    fn note_appended(&mut self, start: usize, probed: usize) {
        if let Some(ledger) = &mut self.ledger {
            ledger.append(self.bytes.get(start..).unwrap_or_default(), probed);
        }
    }

    /// The answer in line is whole.
    fn note_end(&mut self) {
        if let Some(ledger) = &mut self.ledger {
            ledger.end();
        }
    }

    /// True if a request is over that was not taken yet.
    pub(crate) fn has_answered(&self) -> bool {
        let ledger = self.ledger.as_ref();
        ledger.is_some_and(|ledger| ledger.has_answered())
    }

    /// The client, and the requests that are over.
    pub(crate) fn take_answered(&mut self) -> (Option<IpAddr>, Vec<Answered>) {
        let ledger = self.ledger.as_mut();
        ledger.map_or_else(
            || (None, Vec::new()),
            |ledger| (ledger.client(), ledger.take_answered()),
        )
    }

    /// The connection ends: what is not answered never is.
    pub(crate) fn close_ledger(&mut self) {
        if let Some(ledger) = &mut self.ledger {
            ledger.close();
        }
    }

    /// Bytes of the bodies of calls that are not answered.
    pub(crate) fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// What the query at the front is expected to bring.
    pub(crate) fn expected_bytes(&self) -> usize {
        self.expected_bytes
    }

    /// The same of the call in a slot: only the one at the front expects something.
    pub(super) fn expected_bytes_of(&self, serial: u32) -> usize {
        let is_front = self.slots.front().map(|slot| slot.serial) == Some(serial);
        if is_front { self.expected_bytes } else { 0 }
    }

    /// Bytes that are counted for the call in a slot.
    pub(super) fn counted_of(&self, serial: u32) -> usize {
        let slot = self.slots.iter().find(|slot| slot.serial == serial);
        slot.map_or(0, |slot| slot.held)
    }

    /// The read at the front is begun, and expected to bring so many bytes.
    pub(super) fn expect(&mut self, bytes: usize) {
        self.expected_bytes = bytes;
    }

    /// The answer at the front can't go on for want of memory.
    pub(super) fn want_memory(&mut self) {
        self.wants_memory = true;
    }

    /// True if that was said since the last look.
    pub(crate) fn take_want(&mut self) -> bool {
        std::mem::take(&mut self.wants_memory)
    }

    /// Uses up the serial of a request whose slot was never opened: a late
    /// reply to it must not find another's.
    pub(super) fn skip_serial(&mut self) {
        self.take_serial();
    }

    /// Answers that wait in slots.
    pub(crate) fn waiting(&self) -> usize {
        self.slots.len()
    }

    /// True if nothing waits to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending_bytes() == 0 && self.slots.is_empty()
    }

    /// True if an answer is withheld until it is durable.
    pub(crate) fn is_gated(&self) -> bool {
        !self.gates.is_empty()
    }

    /// Gives back heap beyond `keep` bytes if nothing waits to be sent.
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

/// Sent bytes that are cut off the front of a buffer that never runs empty, and heap that one which
/// does run empty keeps.
const COMPACT_BYTES: usize = 256 * 1024;
