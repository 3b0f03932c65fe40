//! `POST /mcp`: HTTP around the messages of `front/mcp`.
//!
//! An answer is JSON, or, once a call has to wait that notifies its client meanwhile, a stream of
//! events that ends with the answer. Such a stream is in parts, as the answer at the front; the
//! connection goes on after it.

use super::call::{HttpCall, Purpose, RequestMeta};
use super::client::Client;
use super::dispatch::{Next, take};
use super::writer::AnswerWriter;
use crate::front::mcp::{self, McpCall, Received, Step};
use crate::log::Log;
use crate::model::CommitPoint;
use crate::service::{Begun, Caller, Context, Outcome, Pending};
use crate::wire::http1::Request;

/// Serves a request whose token is known.
pub(super) fn serve<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    (caller, request, mut meta): (&Caller<'_>, &Request<'_>, RequestMeta),
) -> Next {
    let (begun, call) = match mcp::receive(context, caller, (&request.head, request.body)) {
        Received::Answer(status, body) => {
            client.answers.push(CommitPoint::NONE, |out| {
                writer.message(out, meta, (status, &body));
            });
            return Next::Go;
        }
        Received::Accepted => {
            client.answers.push(CommitPoint::NONE, |out| {
                writer.message(out, meta, (202, &[]));
            });
            return Next::Go;
        }
        Received::Begun(begun, call) => (begun, call),
    };
    // To HTTP/1.0 the end of the connection is the end of a stream.
    let is_last = call.is_stream() && !meta.takes_chunks();
    if is_last {
        meta.close();
    }
    if call.stores_events() {
        meta.purpose = Purpose::Store;
    }
    if let Begun::Done(Outcome::Failed(_), _) = &begun {
        // A shard may have been asked: a late reply must not find the next request.
        client.answers.skip_serial();
    }
    take(
        context,
        writer,
        client,
        (meta, request, (begun, Some(call))),
    );
    if is_last { Next::Last } else { Next::Go }
}

/// What is written to a client.
#[derive(Debug)]
pub(super) enum Written {
    /// The answer.
    Answer(Vec<u8>),
    /// The beginning of a stream, or more of it; the call waits on for this.
    More(Vec<u8>, Pending),
}

/// Takes an outcome of a call, and what comes of it at once. `None` as the commit point: it may be
/// seen now.
pub(super) fn advance<L: Log>(
    context: &mut Context<L>,
    call: &mut McpCall,
    (mut outcome, mut point): (Outcome, CommitPoint),
) -> (Written, CommitPoint) {
    let mut notices = Vec::new();
    loop {
        match call.take(context, &outcome) {
            Step::Answer(body) => return (Written::Answer(body), point),
            Step::Next(more, begun) => {
                notices.extend_from_slice(&more);
                match begun {
                    Begun::Waiting(pending) => return (Written::More(notices, pending), point),
                    Begun::Done(next, later) => {
                        outcome = next;
                        point = point.max(later);
                    }
                }
            }
        }
    }
}

/// Answers a call, or lets it go on.
pub(super) fn finish<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    (serial, outcome): (u32, (Outcome, CommitPoint)),
) {
    let Some(call) = client.answers.call(serial) else {
        return;
    };
    let Some(mut mcp) = call.mcp.take() else {
        return;
    };
    let (meta, has_begun) = (call.meta, call.has_begun);
    let (written, point) = advance(context, &mut mcp, outcome);
    context.trim_answer();
    match written {
        Written::Answer(body) if has_begun => {
            // Its head has counted.
            client.answers.fill_at(serial, (point, None), |out| {
                let mut event = Vec::new();
                mcp::write_event(&mut event, &body);
                AnswerWriter::array_part(out, meta, &event);
                AnswerWriter::array_end(out, meta);
            });
        }
        Written::Answer(body) => {
            client
                .answers
                .fill_answer(serial, (meta, point), |out, meta| {
                    writer.success(out, meta, &body);
                });
        }
        Written::More(notices, pending) => {
            if let Some(call) = client.answers.call(serial) {
                call.pending = pending;
                call.owe(&notices, &mcp);
                call.mcp = Some(mcp);
            }
            client.answers.recount(serial);
        }
    }
}

/// Sends the call at the front what it is owed, before it waits on. What notifies its client begins
/// its stream now.
pub(super) fn send_owed(writer: &AnswerWriter, client: &mut Client<'_>) {
    let Some((_, call)) = client.answers.front_call() else {
        return;
    };
    let Some(mcp) = &call.mcp else { return };
    if !mcp.is_stream() {
        return;
    }
    let (meta, owed) = (call.meta, std::mem::take(&mut call.owed));
    let is_first = !std::mem::replace(&mut call.has_begun, true);
    client.answers.write_front(|out| {
        if is_first {
            writer.event_stream_head(out, meta);
        }
        if !owed.is_empty() {
            AnswerWriter::array_part(out, meta, &owed);
        }
    });
}

impl HttpCall {
    /// Keeps notices until the call is at the front.
    fn owe(&mut self, notices: &[u8], mcp: &McpCall) {
        if mcp.is_stream() {
            self.owed.extend_from_slice(notices);
        }
    }
}
