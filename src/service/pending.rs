//! Requests that wait for an answer from a shard, this core's or another's.

use super::delete::Deletion;
use super::history::HistoryRequest;
use super::list::Listing;
use super::namespaces::ControlCall;
use crate::api::batch::{BatchPlan, PartOutcome};
use crate::wire::http1::{Head, Method, Version};

/// What an answer's head needs to know of its request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestMeta {
    /// The client's version.
    pub(crate) version: Version,
    /// The connection stays open.
    pub(crate) keep_alive: bool,
    /// `HEAD`: everything but the body.
    pub(crate) head_only: bool,
}

impl RequestMeta {
    /// Of a request head.
    pub(crate) fn of(head: &Head<'_>) -> Self {
        Self {
            version: head.version,
            keep_alive: head.keep_alive,
            head_only: head.method == Method::Head,
        }
    }

    /// True of an answer with its body, to HTTP/1.1, on a connection that stays open.
    pub(crate) fn is_plain(self) -> bool {
        self.version == Version::Http11 && self.keep_alive && !self.head_only
    }

    /// For an answer to what is no request, after which the connection closes.
    pub(crate) const CLOSING: Self = Self {
        version: Version::Http11,
        keep_alive: false,
        head_only: false,
    };
}

/// A request in flight.
#[derive(Debug)]
pub(crate) enum PendingRequest {
    /// One event went to its shard; `answer` is the body of its success.
    Publish {
        meta: RequestMeta,
        answer: Box<[u8]>,
    },
    /// An entity is read on another shard.
    Read {
        meta: RequestMeta,
        if_none_match: Option<Box<[u8]>>,
    },
    /// An entity is deleted.
    Delete { meta: RequestMeta, id: Box<str> },
    /// A batch is with its shards.
    Batch(Box<BatchInFlight>),
    /// A batch delete is with its shards.
    DeleteMany(Box<Deletion>),
    /// A listing is gathered or streamed.
    List(Box<Listing>),
    /// A call about namespaces or the configuration.
    Control(Box<ControlCall>),
    /// The past is looked up.
    Past(Box<HistoryRequest>),
}

impl PendingRequest {
    /// True where the answer may be of any size.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::List(_) | Self::Past(_))
    }
}

/// A batch, and what its shards have said so far.
#[derive(Debug)]
pub(crate) struct BatchInFlight {
    /// For the answer's head.
    pub(crate) meta: RequestMeta,
    /// The batch.
    pub(crate) plan: BatchPlan,
    /// One for each shard.
    pub(crate) outcomes: Vec<PartOutcome>,
    /// Shards that have not answered.
    pub(crate) waiting: usize,
}
