//! The HTTP/1.1 front: requests → calls of the service, outcomes → answers in the order of their
//! requests.
//!
//! | file | job |
//! | --- | --- |
//! | `admission` | what is decided about a request before its body is read |
//! | `arriving` | a request that is not whole yet: waited for, counted and refused |
//! | `dispatch` | method and path → the call; its outcome → an answer, or a slot for one |
//! | `honoured` | what a head asks for beyond its route: taken, or refused |
//! | `client` | the connection that a request came from |
//! | `call` | a request that waits for its outcome |
//! | `deferred` | a read that waits until the answers before it are taken |
//! | `polls` | polls for changes, which wait at the front of the answers |
//! | `mcp` | `POST /mcp`: messages of `front/mcp`, answered as JSON or as a stream of events |
//! | `listing` | arrays that are sent in parts |
//! | `pages` | static pages: which form of one a request gets |
//! | `room` | whether there is memory for a batch or an answer |
//! | `answers` | the answers of one connection, in order |
//! | `slot` | the place of an answer that can't be sent yet |
//! | `ledger` | what was asked for and how it was answered, for the access log |
//! | `writer` | an outcome → status, fields and body |

mod admission;
mod answers;
#[cfg(test)]
mod answers_test;
mod arriving;
mod call;
mod client;
mod deferred;
mod dispatch;
mod honoured;
mod ledger;
mod listing;
mod mcp;
mod pages;
mod polls;
mod room;
mod slot;
mod writer;

pub(crate) use answers::Answers;
pub(crate) use arriving::{Arriving, next_request, refuse_arriving, refuse_for_memory};
pub(crate) use call::RequestMeta;
pub(crate) use client::Client;
pub(crate) use deferred::give_up_front;
pub(crate) use dispatch::{
    Next, StreamRequest, go_on, on_decoded, on_history, on_reply, open_stream, reject, serve,
};
pub(crate) use ledger::{Answered, Asked};
pub(crate) use listing::advance_front;
pub(crate) use polls::{leave_poll, look_at_access, look_at_poll};
pub(crate) use writer::AnswerWriter;
