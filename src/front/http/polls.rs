//! Polls for changes: each waits in a slot, and begins when it is at the front.

use super::answers::Answers;
use super::client::Client;
use super::deferred::Attempt;
use super::dispatch::finish;
use super::listing::advance_small;
use super::mcp;
use super::writer::AnswerWriter;
use crate::background::history::JobResult;
use crate::log::Log;
use crate::service::changes::{PendingChanges, Poller};
use crate::service::subscribe::{Subscriber, Subscriptions};
use crate::service::{Context, Outcome};
use crate::shard::{Reply, RequestId};

/// Lets the poll at the front go on. True if it is answered.
fn advance<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    go_on: impl FnOnce(&mut PendingChanges, &mut Context<L>, Poller) -> Option<Outcome>,
) -> bool {
    let own = client.request_id(0);
    let (address, holders) = (client.address, client.holders);
    let Some((serial, poll)) = client.answers.front_poll() else {
        return false;
    };
    let by = Poller {
        request_id: RequestId { serial, ..own },
        address,
        holders,
    };
    let outcome = go_on(poll, context, by);
    let is_over = outcome.is_some();
    finish(context, writer, client, (serial, outcome));
    is_over
}

/// Begins the poll at the front if all before it is taken: a client that takes nothing has one
/// answer, and none in the making.
pub(super) fn start_poll<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
) -> Attempt {
    if client.answers.pending_bytes() > 0 {
        return Attempt::Waits;
    }
    mcp::send_owed(writer, client);
    let is_answered = advance(context, writer, client, |poll, context, by| {
        poll.start(context, by)
    });
    if is_answered {
        Attempt::Answered
    } else {
        Attempt::Waits
    }
}

/// Gives the poll at the front a reply that is for it; any other is returned.
pub(super) fn take_reply_to_poll<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    (serial, from, reply): (u32, u16, Reply),
) -> Option<Reply> {
    let front = client.answers.front_poll().map(|(serial, _)| serial);
    if Subscriptions::are_answered_by(serial) {
        advance(context, writer, client, |poll, context, by| {
            poll.on_subscribed(context, by, (serial, from, &reply))
        });
        return None;
    }
    if front != Some(serial) {
        return Some(reply);
    }
    advance(context, writer, client, |poll, context, by| {
        poll.resume(context, by, (from, reply))
    });
    None
}

/// The same of what was read of the logs.
pub(super) fn take_log_of_poll<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    result: JobResult,
) {
    advance(context, writer, client, |poll, context, by| {
        poll.take_log(context, by, result)
    });
}

/// Looks whether what the poll at the front waits for has come, or its time is over.
pub(crate) fn look_at_poll<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
) {
    let is_over = advance(context, writer, client, |poll, context, by| {
        poll.look(context, by)
    });
    if is_over {
        advance_small(context, writer, client);
    }
}

/// Looks whether the client of the poll at the front may still see what it waits for. True if the
/// poll is answered.
pub(crate) fn look_at_access<L: Log>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
) -> bool {
    let is_over = advance(context, writer, client, |poll, context, by| {
        poll.look_at_access(context, by)
    });
    if is_over {
        advance_small(context, writer, client);
    }
    is_over
}

/// Takes the subscription of a poll back: its connection ends.
pub(crate) fn leave_poll<L: Log>(
    context: &mut Context<L>,
    answers: &mut Answers,
    subscriber: Subscriber,
) {
    if let Some((_, poll)) = answers.front_poll() {
        poll.leave(context, subscriber);
    }
}
