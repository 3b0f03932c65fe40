//! Reading one entity.

use super::deferred::DeferredRead;
use super::reading::ABSENT_ID;
use super::{Begun, Caller, Context, Outcome, Pending};
use crate::api::ApiError;
use crate::api::query::{Fields, ReadQuery};
use crate::engine::{ReadAnswer, StateDamaged};
use crate::history::HistoryQuery;
use crate::limits::ANSWER_AT_ONCE_BYTES_MAX;
use crate::log::Log;
use crate::model::{CommitPoint, CursorKey, is_reserved};
use crate::shard::{Reply, ShardRequest, ShownEntity};

/// Reads an entity, as it is or as it was. What may be large, or takes long, is deferred.
///
/// # Errors
/// If it can't be read; that there is none is an outcome.
pub(crate) fn begin<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (id, query): (&str, ReadQuery),
) -> Result<Begun, ApiError> {
    let ReadQuery { fields, at } = query;
    if let Some(at) = at.filter(|at| context.is_past(*at)) {
        let id = id.into();
        return Ok(DeferredRead::of_past(
            caller,
            HistoryQuery::Entity { id, at, fields },
        ));
    }
    let kept = (fields, ANSWER_AT_ONCE_BYTES_MAX);
    begin_within(context, caller, (id, kept))
}

/// Reads an entity as it is if it is of no more than about so many bytes, and defers that if it is.
/// In place of one that the caller may not read, it looks for one that can't be there, with the
/// same steps: the answer and its time tell nothing.
///
/// # Errors
/// As [`begin`].
pub(crate) fn begin_within<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (id, (fields, bytes_max)): (&str, (Option<Fields>, usize)),
) -> Result<Begun, ApiError> {
    let shard = context.router.place(id);
    let may_read = context.may_read(&caller.credentials, id);
    let id = if may_read { id } else { ABSENT_ID };
    // Whoever may read more is shown more by the server's own entities.
    let readable = is_reserved(id)
        .then(|| context.readable(&caller.credentials))
        .filter(|readable| !readable.is_public())
        .map(Box::new);
    if shard != context.router.core || caller.behind_asked {
        let request = ShardRequest::Read {
            id: id.into(),
            fields,
            bytes_max,
            readable,
        };
        context.router.ask(shard, caller.request_id, request)?;
        let token = caller.credentials.token().ok();
        return Ok(Begun::Waiting(Pending::Read(token)));
    }
    let Some(own) = &mut context.router.shard else {
        return Err(ApiError::NotReady);
    };
    context.answer.clear();
    let cursor = CursorKey::of(id).text(own.visible());
    if let Some(readable) = readable {
        let kept = (fields.as_ref(), &*readable);
        let read = own.engine_mut().read_own(id, kept, &mut context.answer);
        if let Ok(Some(tag)) = read {
            return Ok(Begun::at_once(Outcome::Entity { tag, cursor }));
        }
    }
    let read = own
        .engine_mut()
        .read(id, (fields.as_ref(), bytes_max), &mut context.answer);
    let (found, point) = read.map_err(|StateDamaged| ApiError::StateDamaged)?;
    own.spend(context.answer.len() as u64);
    let failed = own.failed();
    let point = point.unless_reached(own.visible());
    if point > CommitPoint::NONE && failed {
        return Err(ApiError::StorageFault);
    }
    let outcome = match found {
        None => Outcome::Failed(ApiError::NoEntity),
        Some(ReadAnswer::Entity { tag }) => Outcome::Entity { tag, cursor },
        Some(ReadAnswer::Large { bytes }) => {
            return Ok(DeferredRead::of_entity(caller, (id.into(), fields), bytes));
        }
    };
    Ok(Begun::Done(outcome, point))
}

/// Takes the reply to [`begin_within`]. The call that waits for it may be deferred by it.
pub(super) fn resume<L>(
    context: &mut Context<L>,
    pending: &mut Pending,
    reply: Reply,
) -> Result<Option<Outcome>, ApiError> {
    match reply {
        Reply::LargeEntity { id, fields, bytes } => {
            let token = match pending {
                Pending::Read(token) => token.take(),
                _ => None,
            };
            let read = DeferredRead::Entity {
                id,
                fields,
                bytes,
                token,
            };
            *pending = Pending::Deferred(Box::new(read));
            Ok(None)
        }
        Reply::Entity(Some(ShownEntity { json, tag, cursor })) => {
            context.answer = json;
            Ok(Some(Outcome::Entity { tag, cursor }))
        }
        Reply::Entity(None) => Err(ApiError::NoEntity),
        Reply::Refused(error) => Err(error),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::publish;
    use super::super::testing::TestCores;
    use super::*;
    use flux_storage::Sequence;

    const EVENT: &[u8] =
        br#"{"stream":"s","source":"t","payload":{"entity_id":"n0/a","properties":{"n":1.50,"m":2}}}"#;

    fn query() -> ReadQuery {
        ReadQuery::default()
    }

    #[test]
    fn every_core_reads_what_was_published_on_any() {
        for (writer, reader) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut cores = TestCores::new(2);
            cores.run((writer, None), |context, caller| {
                publish::begin(context, caller, EVENT)
            });
            let (outcome, json) = cores.run((reader, None), |context, caller| {
                begin(context, caller, ("n0/a", query()))
            });
            assert!(matches!(outcome, Outcome::Entity { .. }), "{outcome:?}");
            assert!(json.contains(r#""properties":{"m":2,"n":1.50}"#), "{json}");
        }
    }

    #[test]
    fn a_read_ahead_of_the_disk_waits_for_the_event_that_it_shows() {
        let mut cores = TestCores::new(2);
        cores.begin((1, None), |context, caller| {
            publish::begin(context, caller, EVENT)
        });
        let own = cores.begin((1, None), |context, caller| {
            begin(context, caller, ("n0/a", query()))
        });
        let first = CommitPoint::at(Sequence::new(1));
        assert_eq!(own.commit_point(), Some(first));
        let mut other = cores.begin((0, None), |context, caller| {
            begin(context, caller, ("n0/a", query()))
        });
        cores.deliver(&mut other);
        assert_eq!(other.commit_point(), None, "it is not flushed");
        cores.flush();
        cores.deliver(&mut other);
        assert_eq!(other.commit_point(), Some(CommitPoint::NONE));
    }

    #[test]
    fn what_is_not_there_is_said_to_be_absent_by_every_core() {
        for core in 0..2 {
            let (outcome, _) = TestCores::new(2).run((core, None), |context, caller| {
                begin(context, caller, ("n0/a", query()))
            });
            assert_eq!(outcome, Outcome::Failed(ApiError::NoEntity));
        }
    }
}
