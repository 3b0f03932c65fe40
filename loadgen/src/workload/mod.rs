//! What each connection asks, and what the answers must say. One file per subcommand.

pub(crate) mod batch;
pub(crate) mod event;
pub(crate) mod fill;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod mix;
pub(crate) mod publish;
pub(crate) mod ramp;

use crate::clock::Moment;
use crate::http::Answer;

/// What the sender remembers of a request until its answer comes; only the workload knows what it
/// means.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ticket {
    pub(crate) entity: u64,
    pub(crate) value: u64,
    /// Which of [`Workload::KINDS`] it is.
    pub(crate) kind: usize,
}

/// What a successful answer achieved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Achieved {
    pub(crate) units: u64,
    /// Items of it that were refused.
    pub(crate) refused: u64,
}

impl Achieved {
    pub(crate) const ONE: Self = Self {
        units: 1,
        refused: 0,
    };
}

/// The requests of one connection.
pub(crate) trait Workload {
    /// Bytes at the start of each body that [`Self::read_answer`] looks at.
    const BODY_BYTES_READ: usize;

    /// Names of the kinds of requests whose latencies are told apart; none if there is one kind.
    const KINDS: &'static [&'static str] = &[];

    /// The requests are WebSocket messages.
    fn is_websocket(&self) -> bool {
        false
    }

    /// Appends the next request, which is due at `due`.
    fn write_request(&mut self, due: Moment, out: &mut Vec<u8>) -> Ticket;

    /// Takes note of a successful answer. Over HTTP answers come in the order of the requests; over
    /// a WebSocket, the `id` of a message is the value of its ticket.
    fn read_answer(&mut self, ticket: Ticket, answer: &Answer<'_>) -> Achieved;
}
