//! Publishing one event.

use super::reading::{Results, judge_terms};
use super::tenants::denied;
use super::{Begun, Caller, Context, Outcome, Pending};
use crate::api::batch::EventPlace;
use crate::api::conditions::HeadConditions;
use crate::api::event::{Decoded, EventDecoder, EventIds, extra_tokens};
use crate::api::json::{Place, Scanner};
use crate::api::outcome::PartOutcome;
use crate::api::{ApiError, encode};
use crate::auth::{Access, PrivateNamespaces, TokenHash};
use crate::background::decoding::{DecodeResult, DecodedBody, DecodedEvent};
use crate::background::turns::Network;
use crate::engine::PublishError;
use crate::log::{AppendRejection, Log};
use crate::model::{
    Binding, ConnectionId, CursorKey, EventDraft, EventPack, PackedEvent, Published, TraceParent,
};
use crate::shard::{Reply, RequestId, ShardRequest};

/// An event on its way.
#[derive(Debug)]
pub(crate) struct PendingEvent {
    /// What its success is told with; `None` until it is with its shard.
    success: Option<Success>,
    /// The answer may hold an entity.
    pub(super) shows_entity: bool,
    /// A helper thread decodes it, or has decoded it.
    large: Option<Box<Large>>,
}

/// The answer to an event that is stored, but for what its shard says.
#[derive(Debug)]
struct Success {
    answer: Box<[u8]>,
    /// What its cursor begins with.
    key: CursorKey,
    /// The writer is not told what its operations led to.
    hides_results: bool,
}

/// An event that takes too long to be decoded in a turn.
#[derive(Debug)]
struct Large {
    access: Access,
    /// What it was sent with, to be looked at again before it is stored.
    token: Option<TokenHash>,
    /// About the bytes that decoding it takes.
    bytes: usize,
    decoded: Option<Box<DecodedEvent>>,
}

impl PendingEvent {
    /// Heap that it holds, or is about to.
    pub(super) fn heap_bytes(&self) -> usize {
        let answer = self.success.as_ref().map_or(0, |it| it.answer.len());
        let large = match &self.large {
            Some(large) if self.success.is_none() => large.bytes,
            _ => 0,
        };
        answer + large
    }

    /// True if its connection is not to be read before it is answered.
    pub(super) const fn is_sliced(&self) -> bool {
        self.large.is_some()
    }

    /// True if [`PendingEvent::go_on`] has something to do.
    pub(super) fn is_unfinished(&self) -> bool {
        (self.large.as_ref()).is_some_and(|large| large.decoded.is_some())
    }

    /// True if it is not with its shard.
    pub(super) const fn may_be_refused(&self) -> bool {
        self.success.is_none()
    }

    /// Takes what the helper thread has decoded.
    pub(super) fn on_decoded(&mut self, result: DecodeResult) -> Option<Outcome> {
        match result {
            Ok(DecodedBody::Event(decoded)) => {
                if let Some(large) = &mut self.large {
                    large.decoded = Some(decoded);
                }
                None
            }
            Ok(DecodedBody::Batch(_)) => None,
            Err(error) => Some(Outcome::Failed(error)),
        }
    }

    /// Asks its shard to store it, once it is decoded.
    ///
    /// # Errors
    /// If it is not stored.
    pub(super) fn go_on<L: Log>(
        &mut self,
        context: &mut Context<L>,
        request_id: RequestId,
    ) -> Result<Option<Outcome>, ApiError> {
        let Some(large) = &mut self.large else {
            return Ok(None);
        };
        let Some(decoded) = large.decoded.take() else {
            return Ok(None);
        };
        let place = decoded.place.tokens.first();
        let token = match &large.access {
            Access::Several(all) => all.get(place).map(|presented| presented.token),
            _ => large.token,
        };
        // It may have died since the event came.
        if let Some(token) = token
            && !context.tenants.is_alive(&token, context.router.now)
        {
            return Err(ApiError::TokenUnknown);
        }
        let DecodedEvent {
            place:
                EventPlace {
                    shard,
                    hides_results,
                    ..
                },
            key,
            pack,
            has_terms,
            answer,
        } = *decoded;
        if shard != context.router.core {
            context.router.spend(pack.units());
        }
        let request = ShardRequest::Publish {
            pack,
            done: PartOutcome::default(),
            charged: large.access.charged(place),
        };
        context.router.ask(shard, request_id, request)?;
        self.shows_entity = has_terms;
        self.success = Some(Success {
            answer,
            key,
            hides_results,
        });
        Ok(None)
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
    if body.len() > context.slicing.body_bytes
        && let Some(network) = caller.network()
    {
        return Ok(decode_away(
            context,
            (caller, access, network),
            (body, besides),
        ));
    }
    store(context, (caller, &access), (Scanner::new(body)?, besides))
}

/// Lets a helper thread decode an event that is larger than a slice: no slice can end within it.
fn decode_away<L: Log>(
    context: &mut Context<L>,
    (caller, access, network): (&Caller<'_>, Access, Network),
    (body, besides): (&[u8], Besides<'_>),
) -> Begun {
    let large = Large {
        access: access.clone(),
        token: caller.credentials.token().ok(),
        // The body, and its stored form.
        bytes: 2 * body.len(),
        decoded: None,
    };
    let mut terms = Vec::new();
    besides.conditions.encode(&mut terms);
    let (shards, now_ms) = (context.router.shards, context.router.now.as_millis());
    let connection = caller.request_id.of_core(context.router.core);
    let (linger_ms, traceparent) = (besides.linger_ms, caller.traceparent);
    let private = context.tenants.registry.private().clone();
    let body: Box<[u8]> = body.into();
    let decode = move |ids: &mut EventIds| {
        let (mut event, mut answer) = (Vec::new(), Vec::new());
        let buffers = Buffers {
            // What a large event takes of it is not kept.
            decoder: &mut EventDecoder::default(),
            ids,
            event: &mut event,
            terms: &mut terms,
            answer: &mut answer,
        };
        let by = Publisher {
            access: &access,
            private: &private,
            shards,
            now_ms,
            connection,
            linger_ms,
            traceparent,
        };
        let (place, key, json_len) = decode_into(buffers, &by, Scanner::new(&body)?)?;
        let pack = EventPack::of(PackedEvent {
            event: &event,
            terms: &terms,
            extra_tokens: extra_tokens(json_len),
        });
        Ok(DecodedBody::Event(Box::new(DecodedEvent {
            place,
            key,
            pack,
            has_terms: !terms.is_empty(),
            answer: answer.into(),
        })))
    };
    let asker = (caller.request_id, network);
    context.decodes.push(asker, Box::new(decode));
    Begun::Waiting(Pending::Publish(PendingEvent {
        success: None,
        shows_entity: false,
        large: Some(Box::new(large)),
    }))
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
        match own.publish(now, (packed, caller.request_id), charged.as_ref()) {
            Ok(mut published) => {
                leave_out(place.hides_results, &mut published);
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
    let answer = context.answer.as_slice().into();
    Ok(Begun::Waiting(Pending::Publish(PendingEvent {
        success: Some(Success {
            answer,
            key,
            hides_results: place.hides_results,
        }),
        shows_entity: !context.terms.is_empty(),
        large: None,
    })))
}

/// Decodes an event into the context's buffers. Returns as [`decode_into`].
fn decode<L: Log>(
    context: &mut Context<L>,
    (caller, access): (&Caller<'_>, &Access),
    (scanner, besides): (Scanner<'_>, Besides<'_>),
) -> Result<(EventPlace, CursorKey, usize), ApiError> {
    let by = Publisher {
        access,
        private: context.tenants.registry.private(),
        shards: context.router.shards,
        now_ms: context.router.now.as_millis(),
        connection: caller.request_id.of_core(context.router.core),
        linger_ms: besides.linger_ms,
        traceparent: caller.traceparent,
    };
    context.event.clear();
    context.terms.clear();
    context.answer.clear();
    besides.conditions.encode(&mut context.terms);
    let buffers = Buffers {
        decoder: &mut context.decoder,
        ids: &mut context.ids,
        event: &mut context.event,
        terms: &mut context.terms,
        answer: &mut context.answer,
    };
    decode_into(buffers, &by, scanner)
}

/// Where an event is decoded to. They are empty, but for the terms of the request's head.
struct Buffers<'b> {
    decoder: &'b mut EventDecoder,
    ids: &'b mut EventIds,
    event: &'b mut Vec<u8>,
    terms: &'b mut Vec<u8>,
    answer: &'b mut Vec<u8>,
}

/// Who publishes an event, and where.
struct Publisher<'p> {
    access: &'p Access,
    private: &'p PrivateNamespaces,
    shards: u16,
    now_ms: i64,
    connection: ConnectionId,
    linger_ms: Option<u32>,
    /// The trace of an event that names none.
    traceparent: Option<TraceParent>,
}

/// Decodes an event. Returns where it goes, what its cursor begins with, and the length of its
/// JSON.
#[inline]
fn decode_into(
    buffers: Buffers<'_>,
    by: &Publisher<'_>,
    mut scanner: Scanner<'_>,
) -> Result<(EventPlace, CursorKey, usize), ApiError> {
    let Buffers {
        decoder,
        ids,
        event,
        terms,
        answer,
    } = buffers;
    // Only white space lies before it.
    scanner.kind()?;
    let start = scanner.offset();
    let placed = decoder.decode(&mut scanner, ids, by.now_ms, |decoded| match decoded {
        Decoded::Event(draft, of_event) => {
            let may_publish = by.access.may_publish(draft.entity_id, draft.tombstone);
            let tokens = may_publish.map_err(denied)?;
            draft.encode_in(by.traceparent, event);
            terms.extend_from_slice(of_event);
            if let Some(linger_ms) = by.linger_ms {
                bind(&draft, (linger_ms, by.connection), terms)?;
            }
            let results = judge_terms((by.access, by.private), (draft.entity_id, terms))?;
            encode::published(answer, draft.event_id, draft.stream);
            let key = CursorKey::of(draft.entity_id);
            let place = EventPlace {
                shard: key.place(by.shards),
                tokens,
                hides_results: results == Results::LeftOut,
            };
            Ok((place, key))
        }
        Decoded::Refused { error, .. } => Err(error),
    })?;
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

/// Leaves out what operations led to if the writer may not read that.
fn leave_out(hides_results: bool, published: &mut Published) {
    if hides_results {
        published.properties = None;
    }
}

/// Takes the reply to [`begin`].
pub(super) fn resume<L>(
    context: &mut Context<L>,
    event: &PendingEvent,
    reply: Reply,
) -> Result<Option<Outcome>, ApiError> {
    match reply {
        Reply::Published(outcome) => {
            let Some(success) = &event.success else {
                return Ok(None);
            };
            let mut published = outcome.verdicts().take_next().map_err(ApiError::clone)?;
            leave_out(success.hides_results, &mut published);
            context.answer.clear();
            context.answer.extend_from_slice(&success.answer);
            encode::stored(&mut context.answer, &published, success.key);
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

    #[test]
    fn an_event_larger_than_a_slice_is_decoded_by_a_helper_thread() {
        let large = |id: &str| {
            let names: Vec<String> = (0..2_000).map(|n| format!(r#""name{n}":{n}"#)).collect();
            event(id).replace("1.50", &format!("{{{}}}", names.join(",")))
        };
        for (core, id) in [(0, OF_SHARD[0]), (0, OF_SHARD[1])] {
            let mut cores = TestCores::new(2);
            let mut call = cores.begin((core, None), |context, caller| {
                begin(context, caller, large(id).as_bytes())
            });
            assert_eq!(call.commit_point(), None, "nothing is stored");
            assert!(call.is_sliced(), "its connection is not read");
            assert!(!cores.go_on(&mut call), "the core has nothing to do for it");
            assert!(cores.decode(&mut call), "the thread has");
            assert!(!cores.decode(&mut call), "once");
            assert!(cores.go_on(&mut call), "it goes to its shard");
            assert!(!cores.go_on(&mut call));
            cores.finish(&mut call);
            let json = answered("e", id, "");
            assert_eq!(call.over(), (Outcome::Done, json), "{id}");
        }
        // What it breaks it breaks all the same, and one that is smaller is stored at once.
        let broken = large("a").replace("\"source\":\"t\",", "");
        let (outcome, _) = TestCores::new(1).run((0, None), |context, caller| {
            begin(context, caller, broken.as_bytes())
        });
        assert_eq!(
            outcome,
            Outcome::Failed(ApiError::MissingField { field: "source" })
        );
        let mut cores = TestCores::new(1);
        let call = cores.begin((0, None), |context, caller| {
            begin(context, caller, event("a").as_bytes())
        });
        assert!(call.commit_point().is_some());
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
