//! Reading one entity.

use super::{Begun, Caller, Context, Outcome, Pending, history};
use crate::api::ApiError;
use crate::api::query::ReadQuery;
use crate::engine::StateDamaged;
use crate::history::HistoryQuery;
use crate::log::Log;
use crate::model::CommitPoint;
use crate::shard::{Reply, ShardRequest};

/// Reads an entity, as it is or as it was.
///
/// # Errors
/// If it can't be read; that there is none is an outcome.
pub(crate) fn begin<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (id, query): (&str, ReadQuery),
) -> Result<Begun, ApiError> {
    let ReadQuery { fields, at } = query;
    if let Some(at) = at.filter(|at| *at < context.router.now) {
        let id = id.into();
        return history::begin(context, caller, HistoryQuery::Entity { id, at, fields });
    }
    let shard = context.router.place(id);
    if shard != context.router.core {
        let request = ShardRequest::Read {
            id: id.into(),
            fields,
        };
        context.router.ask(shard, caller.request_id, request)?;
        return Ok(Begun::Waiting(Pending::Read));
    }
    let own = context.router.shard.as_mut().ok_or(ApiError::NotReady)?;
    context.answer.clear();
    let read = own
        .engine_mut()
        .read(id, fields.as_ref(), &mut context.answer);
    let (found, point) = read.map_err(|StateDamaged| ApiError::StateDamaged)?;
    let failed = own.failed();
    let point = point.unless_reached(own.visible());
    if point > CommitPoint::NONE && failed {
        return Err(ApiError::StorageFault);
    }
    let outcome = found.map_or(Outcome::Failed(ApiError::NoEntity), |found| {
        Outcome::Entity { etag: found.etag }
    });
    Ok(Begun::Done(outcome, point))
}

/// Takes the reply to [`begin`].
pub(super) fn resume<L>(
    context: &mut Context<L>,
    reply: Reply,
) -> Result<Option<Outcome>, ApiError> {
    match reply {
        Reply::Entity(Some((json, etag))) => {
            context.answer = json;
            Ok(Some(Outcome::Entity { etag }))
        }
        Reply::Entity(None) => Err(ApiError::NoEntity),
        Reply::Refused(error) => Err(error),
        _ => Ok(None),
    }
}
