//! Publishing: one event, or a batch whose items go to their shards.

use super::tenants::denied;
use super::{Begun, Caller, Context, Outcome, Pending};
use crate::api::batch::{BatchContext, BatchPlan, PartOutcome};
use crate::api::event::Decoded;
use crate::api::json::Scanner;
use crate::api::{ApiError, encode};
use crate::log::{AppendRejection, Log};
use crate::model::{EventPack, place};
use crate::shard::{Reply, ShardRequest};

/// An event on its way; the JSON of its success.
#[derive(Debug)]
pub(crate) struct PendingEvent {
    answer: Box<[u8]>,
}

/// A batch, and what its shards have said so far.
#[derive(Debug)]
pub(crate) struct PendingBatch {
    plan: BatchPlan,
    /// One for each shard.
    outcomes: Vec<PartOutcome>,
    /// Shards that have not answered.
    waiting: usize,
}

/// Publishes the event that is the JSON `body`. On this core's own shard it is stored before this returns.
///
/// # Errors
/// If nothing is stored.
pub(crate) fn begin<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    body: &[u8],
) -> Result<Begun, ApiError> {
    context.check_serving()?;
    let access = context.tenants.access(&caller.credentials)?;
    let charged = access.charged();
    let (shards, now) = (context.router.shards, context.router.now);
    let Context {
        decoder,
        ids,
        event,
        answer,
        ..
    } = context;
    event.clear();
    answer.clear();
    let mut scanner = Scanner::new(body)?;
    let placed = decoder.decode(
        &mut scanner,
        ids,
        now.as_millis(),
        |decoded| match decoded {
            Decoded::Event(draft) => {
                access.may_publish(draft.entity_id).map_err(denied)?;
                draft.encode(event);
                encode::published(answer, draft.event_id, draft.stream);
                Ok(place(draft.entity_id, shards))
            }
            Decoded::Refused { error, .. } => Err(error),
        },
    )?;
    scanner.finish()?;
    let shard = placed?;
    let router = &mut context.router;
    if shard == router.core {
        let own = router.shard.as_mut().ok_or(ApiError::NotReady)?;
        match own.publish(now, &context.event, charged.as_ref()) {
            Ok(sequence) => {
                let point = router.commit_point(sequence);
                return Ok(Begun::Done(Outcome::Done, point));
            }
            Err(rejection) => {
                if let Some(error) = own.rejection(rejection) {
                    return Err(error);
                }
                debug_assert_eq!(
                    rejection,
                    AppendRejection::NotReady,
                    "only this one is a delay"
                );
            }
        }
    }
    let request = ShardRequest::Publish {
        pack: EventPack::of(&context.event),
        done: 0,
        charged,
    };
    router.ask(shard, caller.request_id, request)?;
    Ok(Begun::Waiting(Pending::Publish(PendingEvent {
        answer: context.answer.as_slice().into(),
    })))
}

/// Takes the reply to [`begin`].
pub(super) fn resume<L>(
    context: &mut Context<L>,
    event: &PendingEvent,
    reply: Reply,
) -> Result<Option<Outcome>, ApiError> {
    match reply {
        Reply::Published(PartOutcome { error: None, .. }) => {
            context.answer.clear();
            context.answer.extend_from_slice(&event.answer);
            Ok(Some(Outcome::Done))
        }
        Reply::Published(PartOutcome {
            error: Some(error), ..
        })
        | Reply::Refused(error) => Err(error),
        _ => Ok(None),
    }
}

/// Publishes the batch that is the JSON `body`.
///
/// # Errors
/// If the batch fails as a whole; nothing of it is stored then.
pub(crate) fn begin_batch<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    body: &[u8],
) -> Result<Begun, ApiError> {
    context.check_serving()?;
    let access = context.tenants.access(&caller.credentials)?;
    let shards = context.router.shards;
    let mut decoding = BatchContext {
        now_ms: context.router.now.as_millis(),
        decoder: &mut context.decoder,
        ids: &mut context.ids,
        shards: usize::from(shards),
        place: |id: &str| {
            access.may_publish(id).map_err(denied)?;
            Ok(place(id, shards))
        },
    };
    let mut plan = BatchPlan::decode(body, &mut decoding)?;
    let packs = std::mem::take(&mut plan.packs);
    let mut batch = PendingBatch {
        plan,
        outcomes: vec![PartOutcome::default(); packs.len()],
        waiting: 0,
    };
    for (shard, pack) in (0..shards).zip(packs) {
        if pack.is_empty() {
            continue;
        }
        let request = ShardRequest::Publish {
            pack,
            done: 0,
            charged: access.charged(),
        };
        match context.router.ask(shard, caller.request_id, request) {
            Ok(()) => batch.waiting += 1,
            Err(error) => batch.outcomes[usize::from(shard)].error = Some(error),
        }
    }
    if batch.waiting == 0 {
        return Ok(Begun::at_once(batch.finish(context)));
    }
    Ok(Begun::Waiting(Pending::Batch(Box::new(batch))))
}

impl PendingBatch {
    /// Takes a shard's reply.
    pub(super) fn resume<L>(
        &mut self,
        context: &mut Context<L>,
        (from, reply): (u16, Reply),
    ) -> Option<Outcome> {
        self.outcomes[usize::from(from)] = match reply {
            Reply::Published(outcome) => outcome,
            Reply::Refused(error) => PartOutcome {
                stored: 0,
                error: Some(error),
            },
            _ => return None,
        };
        self.waiting -= 1;
        (self.waiting == 0).then(|| self.finish(context))
    }

    /// The verdict on each item; one failure of the whole if the server could take none of them now.
    fn finish<L>(&self, context: &mut Context<L>) -> Outcome {
        if let Some(error) = self.plan.unavailable(&self.outcomes) {
            return Outcome::Failed(error);
        }
        context.answer.clear();
        self.plan.answer(&self.outcomes, &mut context.answer);
        Outcome::Done
    }
}
