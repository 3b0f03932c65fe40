//! `POST /mcp`: HTTP around the messages of `front/mcp`.
//!
//! An answer is JSON, or, once a call has to wait that notifies its client meanwhile, a stream of
//! events that ends with the answer. Such a stream is in parts, as the answer at the front; the
//! connection goes on after it.

use super::call::{HttpCall, Purpose, RequestMeta};
use super::client::Client;
use super::dispatch::{Next, take};
use super::room::has_room;
use super::slot::StaticAnswer;
use super::writer::AnswerWriter;
use crate::api::ApiError;
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
        Received::Answer(_, own) | Received::Around { before: own, .. }
            if !has_room(context, client, own.len()) =>
        {
            client.answers.push(CommitPoint::NONE, |out| {
                writer.error(out, meta, &ApiError::OutOfMemory);
            });
            return Next::Go;
        }
        Received::Answer(status, body) => {
            client.answers.push(CommitPoint::NONE, |out| {
                writer.message(out, meta, (status, &body));
            });
            return Next::Go;
        }
        Received::Around {
            before,
            bytes,
            behind,
        } => {
            let length = before.len() + bytes.len() + behind.len();
            let mut head = Vec::new();
            writer.success_head(&mut head, meta, length as u64);
            head.extend_from_slice(&before);
            let answer = StaticAnswer::new(head, bytes, behind);
            client.answers.push_static(answer);
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
    meta.purpose = purpose_of(&call);
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

/// What a call is for. One that was refused stores nothing, and has counted as that.
pub(super) fn purpose_of(call: &McpCall) -> Purpose {
    if call.stores_events() {
        Purpose::Store
    } else {
        Purpose::Other
    }
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

/// Refuses in place of an answer that there is no memory for, unless that tells of a change. It is
/// larger than the outcome that it is made of, since it says the same twice.
pub(super) fn limit_answer<L>(
    context: &mut Context<L>,
    client: &Client<'_>,
    (call, body): (&McpCall, &mut Vec<u8>),
) {
    if call.is_read() && !has_room(context, client, body.len()) {
        *body = call.refusal(&ApiError::OutOfMemory);
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
    let (mut meta, has_begun) = (call.meta, call.has_begun);
    let (mut written, point) = advance(context, &mut mcp, outcome);
    meta.purpose = purpose_of(&mcp);
    context.trim_answer();
    match &mut written {
        Written::Answer(body) => limit_answer(context, client, (&mcp, body)),
        // A stream that there is no memory for ends. What it goes on with is not begun.
        Written::More(notices, _) if !has_room(context, client, notices.len()) => {
            written = Written::Answer(mcp.refusal(&ApiError::OutOfMemory));
        }
        Written::More(..) => {}
    }
    match written {
        Written::Answer(body) if has_begun => {
            // Its head has counted.
            client.answers.fill_at(serial, (point, None), |out| {
                let mut event = Vec::new();
                mcp::write_event(&mut event, &body);
                // The end of the answer must not double the buffer.
                out.reserve(event.len() + CHUNK_BYTES);
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

/// Room for the framing of a chunk and the end of the last one, bytes.
const CHUNK_BYTES: usize = 64;

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

#[cfg(test)]
mod tests {
    use super::super::answers::Answers;
    use super::super::dispatch;
    use crate::limits::MEMORY_UNCOUNTED_BYTES_MAX;
    use crate::service::testing::TestCores;
    use crate::shard::MemoryPart;

    /// What a message is answered with at once. `params`: members, with a comma behind them.
    fn answer(
        cores: &mut TestCores,
        answers: &mut Answers,
        (method, name, params): (&str, &str, &str),
    ) -> String {
        let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}{meta}}}}}"#
        );
        let length = body.len();
        let message = format!(
            "POST /mcp HTTP/1.1\r\nHost: a\r\nMCP-Protocol-Version: 2026-07-28\r\n\
             Mcp-Method: {method}\r\n{name}Content-Length: {length}\r\n\r\n{body}"
        );
        dispatch::tests::answer(cores, answers, &message)
    }

    /// What asks for the changes of many resources.
    fn listen() -> String {
        let uris = (0..60).map(|number| format!(r#""flux://entity/a/{number}""#));
        let uris = uris.collect::<Vec<_>>().join(",");
        format!(r#""notifications":{{"resourceSubscriptions":[{uris}]}},"#)
    }

    #[test]
    fn a_stream_of_notifications_counts_what_it_keeps_of_each_resource() {
        let mut cores = TestCores::new(1);
        let mut answers = Answers::default();
        let before = answers.heap_bytes();
        let params = listen();
        answer(
            &mut cores,
            &mut answers,
            ("subscriptions/listen", "", &params),
        );
        // An id, a URI and a pattern, each on the heap.
        let least = 60 * 3 * 32;
        let bytes = answers.heap_bytes() - before;
        assert!(bytes > least, "{bytes} bytes are counted, {least} are held");
    }

    #[test]
    fn what_takes_much_memory_is_refused_without_it_and_small_things_are_answered() {
        let mut cores = TestCores::new(1);
        let memory = &mut cores.context(0).memory;
        memory.change(MemoryPart::Answers, 0, 1 << 40);
        let params = listen();
        let asked = ("subscriptions/listen", "", &*params);
        let text = answer(&mut cores, &mut Answers::default(), asked);
        assert!(text.contains("FLUX_MEMORY_BYTES"), "{text}");
        assert!(text.len() < MEMORY_UNCOUNTED_BYTES_MAX, "{text}");
        let get = r#""name":"flux_get","arguments":{"id":"a/1"},"#;
        let asked = ("tools/call", "Mcp-Name: flux_get\r\n", get);
        let text = answer(&mut cores, &mut Answers::default(), asked);
        assert!(text.contains("entity_not_found"), "{text}");
    }
}
