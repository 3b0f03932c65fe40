//! The connection that a request came from, as its answers need it.

use super::answers::Answers;
use crate::model::TraceParent;
use crate::service::{Caller, Credentials};
use crate::shard::{MemoryHolders, RequestId};
use crate::wire::http1::{Field, Head};
use std::net::IpAddr;

/// See the module.
pub(crate) struct Client<'c> {
    /// Its answers.
    pub(crate) answers: &'c mut Answers,
    /// Its index on this core.
    pub(crate) index: u32,
    /// How often that index was handed out.
    pub(crate) generation: u32,
    /// The address that it is counted for.
    pub(crate) address: Option<IpAddr>,
    /// Who is answerable for the memory that its answers take.
    pub(crate) holders: MemoryHolders,
}

impl Client<'_> {
    /// The id of the request with this serial.
    pub(super) fn request_id(&self, serial: u32) -> RequestId {
        RequestId {
            connection: self.index,
            generation: self.generation,
            serial,
        }
    }

    /// Who sends the request that is worked on.
    pub(super) fn caller<'r>(&self, head: &Head<'r>) -> Caller<'r> {
        Caller {
            request_id: self.request_id(self.answers.next_serial()),
            address: self.address,
            credentials: credentials(head),
            traceparent: traceparent(head),
            takes_parts: true,
            behind_asked: false,
        }
    }
}

/// What a request presents as proof of who sends it.
pub(super) fn credentials<'r>(head: &Head<'r>) -> Credentials<'r> {
    match head.authorization {
        Field::Absent => Credentials::None,
        Field::Repeated => Credentials::Ambiguous,
        Field::One(value) => Credentials::Authorization(value),
    }
}

/// The trace that a request is a part of. What is none is as if it were not there: proxies add this
/// field, and the standard tells who receives a bad one to ignore it.
fn traceparent(head: &Head<'_>) -> Option<TraceParent> {
    match head.traceparent {
        Field::One(value) => TraceParent::parse_field(value),
        Field::Absent | Field::Repeated => None,
    }
}
