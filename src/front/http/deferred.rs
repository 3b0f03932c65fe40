//! The answer at the front of a connection's answers, if it was deferred: it is begun when all
//! before it is taken and there is memory for it.

use super::client::Client;
use super::mcp;
use super::room::limit_outcome;
use super::writer::AnswerWriter;
use crate::api::ApiError;
use crate::log::Log;
use crate::service::{Begun, Caller, Context, Credentials, Pending};
use crate::shard::RequestId;

/// What came of an attempt to begin the answer at the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It is answered.
    Answered,
    /// It waits: for the client, for memory, or for what was asked.
    Waits,
}

/// Begins the deferred read at the front if it may begin now.
pub(super) fn begin_front<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
) -> Attempt {
    if client.answers.pending_bytes() > 0 {
        return Attempt::Waits;
    }
    let (holders, address, own) = (client.holders, client.address, client.request_id(0));
    let Some((serial, call)) = client.answers.front_call() else {
        return Attempt::Waits;
    };
    let Pending::Deferred(read) = &call.pending else {
        return Attempt::Waits;
    };
    let bytes = read.bytes_expected();
    if !context.memory.admits(holders, 0, bytes) {
        client.answers.want_memory();
        return Attempt::Waits;
    }
    let Pending::Deferred(read) = std::mem::replace(&mut call.pending, Pending::Read(None)) else {
        return Attempt::Waits;
    };
    let (meta, is_mcp) = (call.meta, call.mcp.is_some());
    let caller = Caller {
        request_id: RequestId { serial, ..own },
        address,
        credentials: Credentials::None,
        behind_asked: false,
        traceparent: None,
        takes_parts: true,
    };
    match read.begin(context, &caller).unwrap_or_else(Begun::from) {
        Begun::Waiting(pending) => {
            call.pending = pending;
            client.answers.expect(bytes);
            Attempt::Waits
        }
        Begun::Done(mut outcome, point) => {
            let if_none_match = call.if_none_match.take();
            // The answer may be larger than was asked for.
            limit_outcome(context, client, (&mut outcome, bytes));
            if is_mcp {
                mcp::finish(context, writer, client, (serial, (outcome, point)));
                return Attempt::Answered;
            }
            let json = &context.answer;
            client
                .answers
                .fill_answer(serial, (meta, point), |out, meta| {
                    let request = (meta, if_none_match.as_deref());
                    writer.outcome(out, request, (&outcome, json));
                });
            context.trim_answer();
            Attempt::Answered
        }
    }
}

/// Refuses the call at the front, which has waited too long for memory, unless it may have changed
/// something: such a one is answered when its shard says what became of it. False if a part of its
/// answer is sent, so that the connection has to break.
pub(crate) fn give_up_front(writer: &AnswerWriter, client: &mut Client<'_>) -> bool {
    let Some((serial, call)) = client.answers.front_call() else {
        return true;
    };
    if call.has_begun {
        return false;
    }
    if !call.pending.may_be_refused() {
        return true;
    }
    let meta = call.meta;
    let error = ApiError::OutOfMemory;
    let refusal = call.mcp.as_ref().map(|mcp| mcp.refusal(&error));
    client.answers.fill(serial, |out| match refusal {
        Some(refusal) => {
            writer.count_refused(meta, &error);
            writer.message(out, meta, (200, &refusal));
        }
        None => writer.error(out, meta, &error),
    });
    true
}
