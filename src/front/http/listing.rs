//! Answers that are sent in parts: a listing at the front of the answers goes on while the socket
//! takes bytes, and so does the long answer to a batch. A read at the front that was deferred is
//! begun.

use super::call::{HttpCall, RequestMeta};
use super::client::Client;
use super::deferred::{Attempt, begin_front};
use super::mcp;
use super::polls::start_poll;
use super::writer::AnswerWriter;
use crate::api::ApiError;
use crate::limits::LIST_CHUNK_BYTES_MAX;
use crate::log::Log;
use crate::model::CommitPoint;
use crate::service::list::ListStep;
use crate::service::{Context, Outcome, Pending};
use crate::shard::RequestId;

/// What the front of the answers does next.
enum Action {
    /// It waits for a shard.
    Wait,
    /// The connection has to break: its listing can't go on, and its head was sent.
    Break,
    /// Write this and go on.
    Write(Piece),
}

/// What is written of a listing.
enum Piece {
    /// The head alone, to `HEAD`, with this cursor.
    Head(Option<String>),
    /// A part, behind the head with its cursor if it is the first, and the end if it is the last.
    Part {
        head: Option<ListHead>,
        is_last: bool,
    },
    /// A part of an answer of known length, behind the head with that length if it is the first.
    Known { length: Option<u64>, is_last: bool },
    /// A whole answer.
    Outcome(Outcome),
}

/// What the head of a listing says besides the usual.
#[derive(Debug)]
struct ListHead {
    cursor: Option<String>,
}

/// Lets what waits at the front of the answers go on, unless it is a large entity or a long
/// listing: they go on when their turn to be sent comes, so that not all of them do in one turn of
/// the core. False if the connection has to break.
pub(super) fn advance_small<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
) -> bool {
    let front = client.answers.front_call();
    front.is_some_and(|(_, call)| call.pending.is_long()) || advance_front(context, writer, client)
}

/// Lets a listing or a deferred read at the front of the answers go on, and the one behind it when
/// it is done. False if the connection has to break.
pub(crate) fn advance_front<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
) -> bool {
    loop {
        if client.answers.pending_bytes() >= LIST_CHUNK_BYTES_MAX {
            return true;
        }
        let (connection, generation) = (client.index, client.generation);
        let Some((serial, call)) = client.answers.front_call() else {
            return true;
        };
        let request_id = RequestId {
            connection,
            generation,
            serial,
        };
        let attempt = match &call.pending {
            Pending::Deferred(_) => Some(begin_front(context, writer, client)),
            Pending::Changes(poll) if poll.is_new() => Some(start_poll(context, writer, client)),
            _ => None,
        };
        match attempt {
            Some(Attempt::Answered) => continue,
            Some(Attempt::Waits) => return true,
            None => {}
        }
        if lacks_memory(context, client) {
            return true;
        }
        let Some((_, call)) = client.answers.front_call() else {
            return true;
        };
        let (meta, is_mcp) = (call.meta, call.mcp.is_some());
        let action = advance(context, request_id, call);
        client.answers.recount(serial);
        match action {
            Action::Write(Piece::Outcome(outcome)) if is_mcp => {
                let outcome = (outcome, CommitPoint::NONE);
                mcp::finish(context, writer, client, (serial, outcome));
            }
            Action::Wait => return true,
            Action::Break => return false,
            Action::Write(Piece::Part {
                head,
                is_last: false,
            }) => {
                let json = &context.answer;
                client
                    .answers
                    .write_front(|out| write_part(writer, out, meta, (head.as_ref(), json)));
            }
            Action::Write(Piece::Known {
                length,
                is_last: false,
            }) => {
                let json = &context.answer;
                client
                    .answers
                    .write_front(|out| write_known(writer, out, meta, (length, json)));
            }
            Action::Write(piece) => {
                let json = &context.answer;
                client
                    .answers
                    .fill(serial, |out| write_end(writer, out, meta, (&piece, json)));
            }
        }
        context.trim_answer();
    }
}

/// True if the listing at the front can't go on for want of memory.
fn lacks_memory<L>(context: &mut Context<L>, client: &mut Client<'_>) -> bool {
    let Some((_, call)) = client.answers.front_call() else {
        return false;
    };
    let Pending::List(listing) = &call.pending else {
        return false;
    };
    let (held, more) = (listing.heap_bytes(), listing.next_bytes());
    let lacks = !context.memory.admits(client.holders, held, more);
    if lacks {
        client.answers.want_memory();
    }
    lacks
}

fn advance<L: Log>(context: &mut Context<L>, request_id: RequestId, call: &mut HttpCall) -> Action {
    let listing = match &mut call.pending {
        Pending::List(listing) => listing,
        Pending::Batch(batch) => {
            let Some(length) = batch.answer_len() else {
                return Action::Wait;
            };
            let length = (!std::mem::replace(&mut call.has_begun, true)).then_some(length);
            let is_last = batch.answer_part(context);
            return Action::Write(Piece::Known { length, is_last });
        }
        _ => return Action::Wait,
    };
    let is_first = !call.has_begun;
    let step = match listing.advance(context, request_id) {
        Ok(step) => step,
        Err(error) => return failed(is_first, error),
    };
    let is_last = match step {
        ListStep::Waiting => return Action::Wait,
        ListStep::Page(outcome) => return Action::Write(Piece::Outcome(outcome)),
        ListStep::Part => false,
        ListStep::Last => true,
    };
    if call.meta.head_only {
        return Action::Write(Piece::Head(listing.cursor()));
    }
    call.has_begun = true;
    let head = is_first.then(|| ListHead {
        cursor: listing.cursor(),
    });
    Action::Write(Piece::Part { head, is_last })
}

fn failed(is_first: bool, error: ApiError) -> Action {
    if is_first {
        Action::Write(Piece::Outcome(Outcome::Failed(error)))
    } else {
        Action::Break
    }
}

fn write_part(
    writer: &AnswerWriter,
    out: &mut Vec<u8>,
    meta: RequestMeta,
    (head, json): (Option<&ListHead>, &[u8]),
) {
    if let Some(head) = head {
        writer.array_head(out, meta, head.cursor.as_deref());
    }
    AnswerWriter::array_part(out, meta, json);
}

/// Writes a part of an answer of known length.
fn write_known(
    writer: &AnswerWriter,
    out: &mut Vec<u8>,
    meta: RequestMeta,
    (length, json): (Option<u64>, &[u8]),
) {
    if let Some(length) = length {
        writer.success_head(out, meta, length);
    }
    out.extend_from_slice(json);
}

fn write_end(
    writer: &AnswerWriter,
    out: &mut Vec<u8>,
    meta: RequestMeta,
    (piece, json): (&Piece, &[u8]),
) {
    match piece {
        Piece::Head(cursor) => writer.array_head(out, meta, cursor.as_deref()),
        Piece::Part { head, .. } => {
            write_part(writer, out, meta, (head.as_ref(), json));
            AnswerWriter::array_end(out, meta);
        }
        Piece::Known { length, .. } => write_known(writer, out, meta, (*length, json)),
        Piece::Outcome(outcome) => writer.outcome(out, (meta, None), (outcome, json)),
    }
}
