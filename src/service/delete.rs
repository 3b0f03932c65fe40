//! Deleting one entity.

use super::reading::judge_terms;
use super::tenants::denied;
use super::{Begun, Caller, Context, Outcome, Pending};
use crate::api::conditions::HeadConditions;
use crate::api::{ApiError, encode};
use crate::log::Log;
use crate::model::{CursorKey, EventId, Stored, is_reserved};
use crate::shard::{Reply, ShardRequest};

/// A deletion on its way.
#[derive(Debug)]
pub(crate) struct PendingDelete {
    id: Box<str>,
    /// The answer may hold the entity.
    pub(super) shows_entity: bool,
}

/// The conditions of a deletion.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Conditions<'c> {
    /// Those in the head of its request.
    Head(HeadConditions<'c>),
    /// The JSON of its `expect`, if there is one.
    Expect(Option<&'c str>),
}

/// Deletes an entity by a tombstone event, if these conditions hold.
///
/// # Errors
/// If nothing is deleted.
pub(crate) fn begin<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (id, conditions): (&str, Conditions<'_>),
) -> Result<Begun, ApiError> {
    context.check_serving()?;
    let access = context.access(&caller.credentials)?;
    let mut terms = Vec::new();
    match conditions {
        Conditions::Head(conditions) => conditions.encode(&mut terms),
        Conditions::Expect(None) => {}
        Conditions::Expect(Some(expect)) => {
            terms.extend_from_slice(context.decoder.conditions(expect)?);
        }
    }
    if is_reserved(id) {
        return Err(ApiError::Reserved);
    }
    let tokens = access.may_delete(id).map_err(denied)?;
    judge_terms((&access, context.tenants.registry.private()), (id, &terms))?;
    let shows_entity = !terms.is_empty();
    let request = ShardRequest::Delete {
        id: id.into(),
        terms: terms.into_boxed_slice(),
        charged: access.charged(tokens.first()),
    };
    let shard = context.router.place(id);
    context.router.ask(shard, caller.request_id, request)?;
    Ok(Begun::Waiting(Pending::Delete(PendingDelete {
        id: id.into(),
        shows_entity,
    })))
}

/// Takes the reply to [`begin`].
pub(super) fn resume<L>(
    context: &mut Context<L>,
    delete: &PendingDelete,
    reply: Reply,
) -> Result<Option<Outcome>, ApiError> {
    match reply {
        Reply::Deleted(Ok(Some((event_id, sequence)))) => {
            context.answer.clear();
            encode::deleted(&mut context.answer, &delete.id, EventId::Uuid(event_id));
            let version = 0;
            let key = CursorKey::of(&delete.id);
            let stored = Stored { sequence, version };
            encode::stored(&mut context.answer, &stored.into(), key);
            Ok(Some(Outcome::Done))
        }
        Reply::Deleted(Ok(None)) => Err(ApiError::NoEntity),
        Reply::Deleted(Err(error)) | Reply::Refused(error) => Err(error),
        _ => Ok(None),
    }
}
