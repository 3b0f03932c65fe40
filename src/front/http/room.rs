//! Whether there is memory for what a request takes: for a batch before it is decoded, and for an
//! answer when it is known.
//!
//! What finds no room is refused with 503 if it has changed nothing. What it has changed is told in
//! any case; then the entities that refused items show are left out. An unknown token is refused
//! first, whether there is room or not (API contract §1).

use super::client::Client;
use crate::api::error::CurrentEntity;
use crate::api::{ApiError, Route};
use crate::limits::{MEMORY_SMALL_BYTES_MAX, MEMORY_UNCOUNTED_BYTES_MAX};
use crate::service::{Caller, Context, Outcome};
use crate::shard::Reply;

/// How many times the bytes of its body the decoded form of a batch and its answer take at most:
/// `{},` comes to an item and the text of what is wrong with it.
const BATCH_GROWTH: usize = 64;

/// Refuses a batch that there is no memory for, before anything of it is done. It asks for as much
/// as a small holding; one that takes more asks again as it goes on. Other calls have room.
pub(super) fn check_room<L>(
    context: &mut Context<L>,
    client: &Client<'_>,
    (caller, route, body): (&Caller<'_>, &Route<'_>, &[u8]),
) -> Result<(), ApiError> {
    if !matches!(route, Route::PublishBatch | Route::DeleteBatch) {
        return Ok(());
    }
    let bytes = body.len().saturating_mul(BATCH_GROWTH);
    if has_room(context, client, bytes.min(MEMORY_SMALL_BYTES_MAX)) {
        return Ok(());
    }
    context.access(&caller.credentials)?;
    Err(ApiError::OutOfMemory)
}

/// Takes from a shard's reply what there is no memory for: entities that refusals of writes show,
/// and ids that are to be deleted.
pub(super) fn limit_reply<L>(context: &mut Context<L>, client: &Client<'_>, reply: &mut Reply) {
    match reply {
        Reply::Published(outcome) if !has_room(context, client, outcome.shown_bytes()) => {
            outcome.omit_entities();
        }
        Reply::GroupRefused(_, ApiError::PreconditionFailed { entity }) => {
            if let CurrentEntity::Json(json) = entity
                && !has_room(context, client, json.len())
            {
                *entity = CurrentEntity::Omitted(json.len());
            }
        }
        Reply::Ids(ids) => {
            let of_one = size_of::<Box<str>>();
            let bytes = ids.iter().map(|id| id.len() + of_one).sum();
            if !has_room(context, client, bytes) {
                *reply = Reply::Refused(ApiError::OutOfMemory);
            }
        }
        _ => {}
    }
}

/// Refuses a call, whose outcome is known, if there is no memory for its answer and it has changed
/// nothing. `expected`: bytes of the answer that are counted already.
pub(super) fn limit_outcome<L>(
    context: &mut Context<L>,
    client: &Client<'_>,
    (outcome, expected): (&mut Outcome, usize),
) {
    let fits = match outcome {
        Outcome::Entity { .. } | Outcome::Page { .. } | Outcome::Text(_) => {
            let more = context.answer.len().saturating_sub(expected);
            has_room(context, client, more)
        }
        Outcome::Failed(ApiError::PreconditionFailed { entity }) => match entity {
            CurrentEntity::Absent => true,
            CurrentEntity::Json(json) => has_room(context, client, json.len()),
            // Of a single event an entity is left out by `limit_reply` only.
            CurrentEntity::Omitted(_) => false,
        },
        Outcome::Done
        | Outcome::Created
        | Outcome::CreatedSecret
        | Outcome::Secret
        | Outcome::Empty
        | Outcome::Failed(_) => true,
    };
    if !fits {
        context.answer = Vec::new();
        *outcome = Outcome::Failed(ApiError::OutOfMemory);
    }
}

/// Refuses a poll if there is no memory for its answer. `counted`: bytes that are counted for what
/// it has gathered, which the answer takes the place of.
pub(super) fn limit_poll<L>(
    context: &mut Context<L>,
    client: &Client<'_>,
    (outcome, counted): (&mut Outcome, usize),
) {
    let more = context.answer.len().saturating_sub(counted);
    if !has_room(context, client, more) {
        context.answer = Vec::new();
        *outcome = Outcome::Failed(ApiError::OutOfMemory);
    }
}

/// True if `bytes` more are few together with what the client's answers hold already, or there is
/// memory for them.
pub(super) fn has_room<L>(context: &mut Context<L>, client: &Client<'_>, bytes: usize) -> bool {
    let held = client.answers.heap_bytes();
    let more = client.answers.growth(bytes);
    held.saturating_add(more) <= MEMORY_UNCOUNTED_BYTES_MAX
        || context.memory.admits(client.holders, held, more)
}
