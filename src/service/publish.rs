//! Publishing one event.

use super::tenants::denied;
use super::{Begun, Caller, Context, Outcome, Pending};
use crate::api::batch::EventPlace;
use crate::api::conditions::HeadConditions;
use crate::api::event::{Decoded, extra_tokens};
use crate::api::json::{Place, Scanner};
use crate::api::outcome::PartOutcome;
use crate::api::{ApiError, encode};
use crate::auth::Access;
use crate::engine::PublishError;
use crate::log::{AppendRejection, Log};
use crate::model::{Binding, ConnectionId, CursorKey, EventDraft, EventPack, PackedEvent};
use crate::shard::{Reply, ShardRequest};

/// An event on its way; the JSON of its success, without what its shard says.
#[derive(Debug)]
pub(crate) struct PendingEvent {
    answer: Box<[u8]>,
    /// What its cursor begins with.
    key: CursorKey,
    /// The answer may hold an entity.
    pub(super) shows_entity: bool,
}

impl PendingEvent {
    /// Heap that it holds.
    pub(super) fn heap_bytes(&self) -> usize {
        self.answer.len()
    }
}

/// What is asked for beside an event.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Besides<'p> {
    /// Conditions in the head of the request.
    pub(crate) conditions: HeadConditions<'p>,
    /// Bind the entity to the caller's connection; it lingers for so many milliseconds.
    pub(crate) linger_ms: Option<u32>,
}

/// [`begin_as`] without anything beside the event.
///
/// # Errors
/// As of it.
#[cfg(test)]
pub(crate) fn begin<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    body: &[u8],
) -> Result<Begun, ApiError> {
    begin_as(context, caller, (body, Besides::default()))
}

/// Publishes the event that begins at this place of `text`, if it is the last that is in it.
///
/// # Errors
/// If nothing is stored: [`ApiError::Json`] also if something follows.
pub(crate) fn begin_from<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (text, place): (&str, Place),
) -> Result<Begun, ApiError> {
    context.check_serving()?;
    let access = context.access(&caller.credentials)?;
    let event = (Scanner::resume(text, place), Besides::default());
    store(context, (caller, &access), event)
}

/// Publishes an event if its conditions hold. On this core's own shard it is stored before this
/// returns.
///
/// # Errors
/// If nothing is stored.
pub(crate) fn begin_as<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (body, besides): (&[u8], Besides<'_>),
) -> Result<Begun, ApiError> {
    context.check_serving()?;
    let access = context.access(&caller.credentials)?;
    store(context, (caller, &access), (Scanner::new(body)?, besides))
}

/// Stores the event that `scanner` comes to, or asks its shard to.
fn store<L: Log>(
    context: &mut Context<L>,
    (caller, access): (&Caller<'_>, &Access),
    (scanner, besides): (Scanner<'_>, Besides<'_>),
) -> Result<Begun, ApiError> {
    let (place, key, json_len) = decode(context, (caller, access), (scanner, besides))?;
    let shard = place.shard;
    let charged = access.charged(place.tokens.first());
    let now = context.router.now;
    let router = &mut context.router;
    let packed = PackedEvent {
        event: &context.event,
        terms: &context.terms,
        extra_tokens: extra_tokens(json_len),
    };
    if shard == router.core && !caller.behind_asked {
        let Some(own) = &mut router.shard else {
            return Err(ApiError::NotReady);
        };
        match own.publish(now, packed, charged.as_ref()) {
            Ok(published) => {
                encode::stored(&mut context.answer, &published, key);
                let point = router.commit_point(published.stored.sequence);
                return Ok(Begun::Done(Outcome::Done, point));
            }
            Err(PublishError::Refused { error, point }) => {
                let point = point.unless_reached(own.visible());
                return Ok(Begun::Done(Outcome::Failed(error), point));
            }
            Err(PublishError::Append(rejection)) => {
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
        pack: EventPack::of(packed),
        done: PartOutcome::default(),
        charged,
    };
    router.ask(shard, caller.request_id, request)?;
    Ok(Begun::Waiting(Pending::Publish(PendingEvent {
        answer: context.answer.as_slice().into(),
        key,
        shows_entity: !context.terms.is_empty(),
    })))
}

/// Decodes an event into the context's buffers. Returns where it goes, what its cursor begins with,
/// and the length of its JSON.
fn decode<L: Log>(
    context: &mut Context<L>,
    (caller, access): (&Caller<'_>, &Access),
    (mut scanner, besides): (Scanner<'_>, Besides<'_>),
) -> Result<(EventPlace, CursorKey, usize), ApiError> {
    let (shards, now) = (context.router.shards, context.router.now);
    let connection = caller.request_id.of_core(context.router.core);
    let Context {
        decoder,
        ids,
        event,
        terms,
        answer,
        ..
    } = context;
    event.clear();
    terms.clear();
    answer.clear();
    besides.conditions.encode(terms);
    // Only white space lies before it.
    scanner.kind()?;
    let start = scanner.offset();
    let placed = decoder.decode(
        &mut scanner,
        ids,
        now.as_millis(),
        |decoded| match decoded {
            Decoded::Event(draft, of_event) => {
                let may_publish = access.may_publish(draft.entity_id, draft.tombstone);
                let tokens = may_publish.map_err(denied)?;
                draft.encode(event);
                terms.extend_from_slice(of_event);
                if let Some(linger_ms) = besides.linger_ms {
                    bind(&draft, (linger_ms, connection), terms)?;
                }
                encode::published(answer, draft.event_id, draft.stream);
                let key = CursorKey::of(draft.entity_id);
                let shard = key.place(shards);
                Ok((EventPlace { shard, tokens }, key))
            }
            Decoded::Refused { error, .. } => Err(error),
        },
    )?;
    let json_len = scanner.offset() - start;
    scanner.finish_last()?;
    let (place, key) = placed?;
    Ok((place, key, json_len))
}

/// Adds to the terms of an event that its entity is bound.
fn bind(
    draft: &EventDraft<'_>,
    (linger_ms, connection): (u32, ConnectionId),
    terms: &mut Vec<u8>,
) -> Result<(), ApiError> {
    if draft.tombstone {
        let (field, rule) = ("bind", "not with an event that deletes its entity");
        return Err(ApiError::InvalidField { field, rule });
    }
    let binding = Binding {
        linger_ms,
        connection,
    };
    binding.encode(terms);
    Ok(())
}

/// Takes the reply to [`begin`].
pub(super) fn resume<L>(
    context: &mut Context<L>,
    event: &PendingEvent,
    reply: Reply,
) -> Result<Option<Outcome>, ApiError> {
    match reply {
        Reply::Published(outcome) => {
            let published = outcome.verdicts().take_next().map_err(ApiError::clone)?;
            context.answer.clear();
            context.answer.extend_from_slice(&event.answer);
            encode::stored(&mut context.answer, &published, event.key);
            Ok(Some(Outcome::Done))
        }
        Reply::Refused(error) => Err(error),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OPERATOR, TestCores};
    use super::*;
    use crate::api::error::CurrentEntity;
    use crate::model::{CommitPoint, Cursor, CursorScope, place};
    use crate::service::namespaces;
    use flux_storage::Sequence;
    use serde_json::Value;

    /// The answer to the first event of an entity, the first of its shard's log.
    fn answered(event_id: &str, entity_id: &str, more: &str) -> String {
        let cursor = Cursor::of(CursorScope::of(entity_id), Sequence::new(1)).encode();
        format!(
            r#"{{"eventId":"{event_id}","stream":"s","version":1,"sequence":1,"cursor":"{cursor}"{more}}}"#
        )
    }

    fn event(id: &str) -> String {
        format!(
            r#"{{"eventId":"e","stream":"s","source":"t","payload":{{"entity_id":"{id}","properties":{{"n":1.50}}}}}}"#
        )
    }

    /// An id of each of two shards.
    const OF_SHARD: [&str; 2] = ["n1/a", "n0/a"];

    #[test]
    fn test_ids_lie_on_the_shards_that_they_name() {
        assert_eq!(OF_SHARD.map(|id| place(id, 2)), [0, 1]);
    }

    #[test]
    fn an_event_of_the_own_shard_is_stored_at_once_and_seen_once_it_is_durable() {
        let mut cores = TestCores::new(2);
        let call = cores.begin((0, None), |context, caller| {
            begin(context, caller, event(OF_SHARD[0]).as_bytes())
        });
        let first = CommitPoint::at(Sequence::new(1));
        assert_eq!(call.commit_point(), Some(first));
        cores.flush();
        let shard = cores.context(0).router.shard.as_ref().unwrap();
        assert!(first.is_reached(shard.visible()));
    }

    #[test]
    fn an_event_of_another_shard_is_answered_only_when_it_is_durable_there() {
        let mut cores = TestCores::new(2);
        let mut call = cores.begin((0, None), |context, caller| {
            begin(context, caller, event(OF_SHARD[1]).as_bytes())
        });
        cores.deliver(&mut call);
        assert_eq!(call.commit_point(), None, "it is not flushed");
        cores.flush();
        cores.deliver(&mut call);
        assert_eq!(call.commit_point(), Some(CommitPoint::NONE));
    }

    #[test]
    fn every_core_answers_an_event_of_any_shard_alike() {
        for core in 0..2 {
            for id in OF_SHARD {
                let answer = TestCores::new(2).run((core, None), |context, caller| {
                    begin(context, caller, event(id).as_bytes())
                });
                let json = answered("e", id, "");
                assert_eq!(answer, (Outcome::Done, json), "{core} {id}");
            }
        }
    }

    /// An event under an id, with a condition or none.
    fn sent(event_id: &str, entity_id: &str, expect: &str) -> String {
        let id = format!(r#"{{"eventId":"{event_id}","expect":{expect},"#);
        event(entity_id).replacen(r#"{"eventId":"e","#, &id, 1)
    }

    #[test]
    fn a_condition_that_does_not_hold_shows_the_entity_whichever_core_is_asked() {
        for (core, id) in [(0, OF_SHARD[0]), (1, OF_SHARD[0])] {
            let mut cores = TestCores::new(2);
            let mut publish = |body: String| {
                let (outcome, _) = cores.run((core, None), |context, caller| {
                    begin(context, caller, body.as_bytes())
                });
                outcome
            };
            let refused = |entity| Outcome::Failed(ApiError::PreconditionFailed { entity });
            let outcome = publish(sent("1", id, r#"{"present":true}"#));
            assert_eq!(outcome, refused(CurrentEntity::Absent));
            assert_eq!(publish(sent("2", id, r#"{"absent":true}"#)), Outcome::Done);
            let Outcome::Failed(ApiError::PreconditionFailed {
                entity: CurrentEntity::Json(json),
            }) = publish(sent("3", id, r#"{"absent":true}"#))
            else {
                panic!("the entity is there");
            };
            let entity: Value = serde_json::from_str(&json).unwrap();
            assert_eq!((&entity["id"], &entity["version"]), (&id.into(), &1.into()));
            assert_eq!(publish(sent("4", id, r#"{"version":1}"#)), Outcome::Done);
        }
    }

    #[test]
    fn a_refusal_that_shows_what_is_not_durable_waits_for_it() {
        let mut cores = TestCores::new(1);
        let publish = |cores: &mut TestCores, body: String| {
            cores.begin((0, None), |context, caller| {
                begin(context, caller, body.as_bytes())
            })
        };
        let first = publish(&mut cores, sent("1", "a", "null"));
        let point = CommitPoint::at(Sequence::new(1));
        assert_eq!(first.commit_point(), Some(point));
        let refused = publish(&mut cores, sent("2", "a", r#"{"absent":true}"#));
        assert_eq!(refused.commit_point(), Some(point));
        let repeated = publish(&mut cores, sent("1", "a", "null"));
        assert_eq!(repeated.commit_point(), Some(point));
        cores.flush();
        let refused = publish(&mut cores, sent("2", "a", r#"{"absent":true}"#));
        assert_eq!(refused.commit_point(), Some(CommitPoint::NONE));
    }

    #[test]
    fn an_event_that_is_sent_again_counts_once_whichever_core_is_asked() {
        let mut cores = TestCores::new(2);
        let publish = |cores: &mut TestCores, core, body: &str| {
            cores.run((core, None), |context, caller| {
                begin(context, caller, body.as_bytes())
            })
        };
        let id = OF_SHARD[0];
        let first = answered("1", id, "");
        let again = answered("1", id, r#","duplicate":true"#);
        // What was refused binds nothing.
        let (outcome, _) = publish(&mut cores, 0, &sent("1", id, r#"{"present":true}"#));
        assert!(matches!(outcome, Outcome::Failed(_)));
        let absent = sent("1", id, r#"{"absent":true}"#);
        assert_eq!(publish(&mut cores, 0, &absent), (Outcome::Done, first));
        for core in [0, 1] {
            // It is answered before its condition is looked at.
            assert_eq!(
                publish(&mut cores, core, &absent),
                (Outcome::Done, again.clone())
            );
            let spaced = sent("1", id, "null").replace(':', " : ");
            assert_eq!(
                publish(&mut cores, core, &spaced),
                (Outcome::Done, again.clone())
            );
            let other = sent("1", id, "null").replace("1.50", "1.5");
            let (outcome, _) = publish(&mut cores, core, &other);
            assert_eq!(outcome, Outcome::Failed(ApiError::EventIdReused));
        }
        let (_, json) = publish(&mut cores, 0, &sent("2", id, r#"{"version":1}"#));
        assert!(json.contains(r#""version":2"#), "{json}");
    }

    #[test]
    fn in_auth_mode_a_token_publishes_into_its_own_namespace() {
        let mut cores = TestCores::with_auth(2);
        let (_, json) = cores.run((1, Some(OPERATOR)), |context, caller| {
            namespaces::register(context, caller, br#"{"name":"house"}"#)
        });
        let json: Value = serde_json::from_str(&json).unwrap();
        let token = json["token"].as_str().unwrap().to_owned();
        let publish = |cores: &mut TestCores, token: Option<&str>, id: &str| {
            let (outcome, _) = cores.run((0, token), |context, caller| {
                begin(context, caller, event(id).as_bytes())
            });
            outcome
        };
        for (token, id, expected) in [
            (Some(&*token), "house/a", Outcome::Done),
            (None, "house/a", Outcome::Failed(ApiError::TokenMissing)),
            (
                Some("x"),
                "house/a",
                Outcome::Failed(ApiError::TokenUnknown),
            ),
            (
                Some(&*token),
                "garden/a",
                Outcome::Failed(ApiError::NotOwner),
            ),
            (
                Some(&*token),
                "a",
                Outcome::Failed(ApiError::NamespaceRequired),
            ),
        ] {
            assert_eq!(publish(&mut cores, token, id), expected, "{token:?} {id}");
        }
    }
}
