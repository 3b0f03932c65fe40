//! The place of an answer that can't go into the connection's buffer yet.
//!
//! It is not known, an answer before it is not, or it must not leave yet; or most of it is never
//! copied, since the program holds it for ever. `answers` keeps the places in order.

use super::call::{Counts, HttpCall, Purpose, RequestMeta};
use super::ledger::status_of;
use crate::limits::ANSWER_AT_ONCE_BYTES_MAX;
use crate::model::CommitPoint;

/// An answer that does not count yet: that of this request, with this status.
pub(super) type Uncounted = (RequestMeta, u16);

/// The place of one answer.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) serial: u32,
    pub(super) state: SlotState,
    /// Its heap, as it is counted.
    pub(super) held: usize,
    /// It counts among the reads. What its call is may turn out only when it is decoded.
    pub(super) is_read: bool,
}

impl Slot {
    /// With an answer that waits for those before it.
    pub(super) fn ready(
        serial: u32,
        (point, meta): (CommitPoint, Option<RequestMeta>),
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Self {
        let mut bytes = Vec::new();
        write(&mut bytes);
        let uncounted = uncounted((meta, point), &bytes, 0);
        let state = SlotState::Ready {
            bytes,
            point,
            uncounted,
        };
        Self::new(serial, state)
    }

    pub(super) fn new(serial: u32, state: SlotState) -> Self {
        let (held, is_read) = (state.heap_bytes(), state.is_read());
        Self {
            serial,
            state,
            held,
            is_read,
        }
    }
}

/// How far it is.
#[derive(Debug)]
pub(super) enum SlotState {
    Waiting(HttpCall),
    Ready {
        bytes: Vec<u8>,
        point: CommitPoint,
        uncounted: Option<Uncounted>,
    },
    /// It is known, and must not leave yet.
    Late {
        bytes: Vec<u8>,
    },
    /// It is sent from where the program holds it.
    Static(StaticAnswer),
}

/// An answer around static bytes. However many clients do not take them, they are there once.
#[derive(Debug)]
pub(super) struct StaticAnswer {
    /// What comes before them: the head, and perhaps a beginning of the body. It goes into the
    /// connection's buffer when it is next in line.
    pub(super) head: Vec<u8>,
    /// What the socket has not taken of them; not empty.
    pub(super) rest: &'static [u8],
    /// What comes behind them.
    pub(super) end: Vec<u8>,
    /// Its head is in the buffer: the bytes come next.
    pub(super) is_begun: bool,
}

impl StaticAnswer {
    /// Of which nothing is sent.
    pub(super) fn new(head: Vec<u8>, bytes: &'static [u8], end: Vec<u8>) -> Self {
        Self {
            head,
            rest: bytes,
            end,
            is_begun: false,
        }
    }
}

impl SlotState {
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Waiting(call) => call.heap_bytes(),
            Self::Ready { bytes, .. } | Self::Late { bytes } => bytes.capacity(),
            Self::Static(answer) => answer.head.capacity() + answer.end.capacity(),
        }
    }

    /// About the bytes of the answer that are written next, if it is written in parts.
    pub(super) fn next_bytes(&self) -> usize {
        match self {
            Self::Waiting(call) => call.pending.next_bytes(),
            _ => 0,
        }
    }

    pub(super) fn is_read(&self) -> bool {
        matches!(self, Self::Waiting(call) if call.pending.is_read())
    }
}

/// What an answer counts as later, if it does; the first `probed` bytes of it were sent before.
pub(super) fn uncounted(
    (meta, point): (Option<RequestMeta>, CommitPoint),
    written: &[u8],
    probed: usize,
) -> Option<Uncounted> {
    let mut meta = meta.filter(|meta| meta.counts == Counts::WhenSeen)?;
    if point == CommitPoint::NONE {
        // What it stored is durable, at another core's shard, or it stored nothing and was counted.
        meta.purpose = Purpose::Other;
    }
    Some((meta, status_of(written, probed)))
}

/// Makes room for an answer in a buffer. A large one grows by steps: one that doubled would take
/// up to twice the memory of what it holds.
pub(super) fn make_room(out: &mut Vec<u8>, bytes: usize) {
    let step = ANSWER_AT_ONCE_BYTES_MAX;
    let needed = out.len() + bytes;
    if needed > out.capacity() && needed > step {
        let step = if out.is_empty() { 0 } else { step };
        out.reserve_exact(bytes + step);
    }
}
