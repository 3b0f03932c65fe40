//! Requests about the past: events, and the state as it was.
//!
//! ```text
//! request ─▶ queue ─ its turn ─▶ ask the shards for readers of their logs ─▶ job ─▶ result
//! ```
//!
//! A shard hands out its reader when what it read so far is visible, so that a result never shows
//! what may be lost, and shows what was acknowledged before the request.

use super::reading::{ABSENT_ID, not_readable};
use super::{Begun, Caller, Context, Credentials, KeptToken, Outcome, Pending};
use crate::api::ApiError;
use crate::auth::{Extent, Readable};
use crate::background::history::JobResult;
use crate::history::{ForwardQuery, HistoryQuery, HistoryRead, HistoryResult, Sight};
use crate::log::Log;
use crate::model::{Shown, namespace_of};
use crate::shard::{Reply, RequestId, ShardRequest, network_of};
use std::sync::Arc;

/// A request about the past on its way.
#[derive(Debug)]
pub(crate) struct PendingHistory {
    asked: Arc<HistoryRead>,
    /// What the caller presented.
    token: Option<KeptToken>,
}

/// Begins a request about the past: it waits for its turn.
///
/// # Errors
/// If this core's log is not replayed.
pub(crate) fn begin<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    query: HistoryQuery,
) -> Result<Begun, ApiError> {
    if context.router.shard.is_none() {
        return Err(ApiError::NotReady);
    }
    let query = readable_of(context, caller, query)?;
    let sight = Sight {
        shown: shown(context, caller, &query),
        readable: context.readable(&caller.credentials),
    };
    let token = caller.credentials.token().ok();
    let request = PendingHistory::new(HistoryRead { query, sight }, token);
    let asker = (caller.request_id, caller.address.map(network_of));
    context.history.push(asker, Arc::clone(&request.asked));
    Ok(Begun::Waiting(Pending::History(Box::new(request))))
}

/// Asks for a part of the events after a place.
///
/// # Errors
/// As [`begin`].
pub(crate) fn ask_forward<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    query: ForwardQuery,
) -> Result<(), ApiError> {
    let query = HistoryQuery::Forward(Box::new(query));
    begin(context, caller, query).map(drop)
}

/// What is read in place of a query: where the caller may read nothing of what it is about, what
/// can't be there. So the answer and its time are those of what is not there.
///
/// # Errors
/// If it names nothing but what the caller may not read, and is told so.
fn readable_of<L>(
    context: &Context<L>,
    caller: &Caller<'_>,
    mut query: HistoryQuery,
) -> Result<HistoryQuery, ApiError> {
    let credentials = &caller.credentials;
    match &mut query {
        HistoryQuery::Events(events) => {
            let is_readable = match (&events.entity, &events.namespace) {
                (Some(id), _) => context.may_read(credentials, id),
                (None, Some(name)) => context.extent_of(credentials, name) != Extent::Nothing,
                (None, None) => true,
            };
            if !is_readable {
                return Err(not_readable(caller));
            }
        }
        HistoryQuery::Entity { id, .. } => {
            if !context.may_read(credentials, id) {
                *id = ABSENT_ID.into();
            }
        }
        HistoryQuery::List { query, .. } => {
            let of_namespace = query.namespace.as_deref();
            let is_readable = of_namespace
                .is_none_or(|name| context.extent_of(credentials, name) != Extent::Nothing)
                && (query.prefix.as_deref())
                    .is_none_or(|prefix| context.may_read_within(credentials, prefix));
            if !is_readable {
                query.namespace = namespace_of(ABSENT_ID).map(Box::from);
                query.prefix = None;
            }
        }
        // A subscription has asked before.
        HistoryQuery::Forward(_) => {}
    }
    Ok(query)
}

/// What the caller may see: the operator everything; anybody else, of a namespace that is
/// registered, what came after its registration. Without auth nobody owns a name.
fn shown<L>(context: &Context<L>, caller: &Caller<'_>, query: &HistoryQuery) -> Shown {
    let tenants = &context.tenants;
    let access = context.access(&caller.credentials);
    if !tenants.auth || access.is_ok_and(|access| access.is_operator()) {
        return Shown::All;
    }
    let starts = tenants.registry.history_starts();
    match query.placement() {
        None => Shown::AfterEach(starts.clone()),
        Some(namespace) if query.is_of_namespace() => {
            starts.get(namespace).map_or(Shown::All, Shown::After)
        }
        Some(_) => Shown::All,
    }
}

/// Asks the shards for their logs, for each request whose turn is near. Requests whose shards can't
/// be asked are returned, with why.
pub(crate) fn start_due<L: Log>(context: &mut Context<L>) -> Vec<(RequestId, ApiError)> {
    let mut rejected = Vec::new();
    let router = &mut context.router;
    while let Some(started) = context
        .history
        .start_next(router.shards, |asked| asked.query.shards(router.shards))
    {
        let request_id = started.request_id;
        let mut shards = started.shards;
        let asked = shards.try_for_each(|shard| router.ask(shard, request_id, ShardRequest::Past));
        if let Err(error) = asked {
            context.history.finish(request_id);
            let error = match error {
                ApiError::Overloaded => ApiError::Busy,
                error => error,
            };
            rejected.push((request_id, error));
        }
    }
    rejected
}

/// Gives the history worker's result to the call that waits for it.
pub(crate) fn finish<L>(
    context: &mut Context<L>,
    pending: &Pending,
    result: JobResult,
) -> Option<Outcome> {
    let Pending::History(request) = pending else {
        return None;
    };
    let credentials = request.token.map_or(Credentials::None, Credentials::Token);
    let asked = &request.asked;
    Some(match result {
        // What it may see has changed while it waited: asked again, it is answered by that.
        Ok(_) if !is_still_readable(asked, &context.readable(&credentials)) => {
            Outcome::Failed(ApiError::Busy)
        }
        Ok(found) => request.outcome(context, found),
        Err(error) => Outcome::Failed(error),
    })
}

/// Whether nothing that a read has found was hidden from its caller since.
fn is_still_readable(asked: &HistoryRead, now: &Readable) -> bool {
    let before = &asked.sight.readable;
    let of_namespace = |name| {
        now.extent_of(name) == Extent::Whole
            || (now.extent_of(name) == before.extent_of(name) && now.reader() == before.reader())
    };
    match &asked.query {
        HistoryQuery::Entity { id, .. } => now.holds(id),
        HistoryQuery::Events(query) => match (&query.entity, &query.namespace) {
            (Some(id), _) => now.holds(id),
            (None, Some(name)) => of_namespace(name),
            (None, None) => now == before,
        },
        HistoryQuery::List { query, .. } => match &query.namespace {
            Some(name) => of_namespace(name),
            None => now == before,
        },
        // A subscription judges what it sends.
        HistoryQuery::Forward(_) => true,
    }
}

/// Takes a shard's reply; with the last of them a helper thread gets to work.
///
/// # Errors
/// If the shard rejected the request.
pub(super) fn resume<L>(
    context: &mut Context<L>,
    request_id: RequestId,
    (from, reply): (u16, Reply),
) -> Result<Option<Outcome>, ApiError> {
    match reply {
        Reply::Past(log) => context.history.take_log(request_id, from, *log),
        Reply::Refused(error) => {
            context.history.finish(request_id);
            return Err(error);
        }
        _ => {}
    }
    Ok(None)
}

impl PendingHistory {
    /// A request that waits.
    pub(crate) fn new(asked: HistoryRead, token: Option<KeptToken>) -> Self {
        let asked = Arc::new(asked);
        Self { asked, token }
    }

    fn outcome<L>(&self, context: &mut Context<L>, found: HistoryResult) -> Outcome {
        let (json, next) = match (found, &self.asked.query) {
            (HistoryResult::Entity(None), _) => return Outcome::Failed(ApiError::NoEntity),
            (HistoryResult::Entity(Some(json)), _) => (json, None),
            (HistoryResult::Events(page), HistoryQuery::Events(query)) => {
                let next = page.next.map(|next| query.next_link(next));
                (page.json, next)
            }
            (HistoryResult::List(page), HistoryQuery::List { query, .. }) => {
                let next = page.next.as_deref().map(|id| query.next_link(id));
                (page.json, next)
            }
            (HistoryResult::Events(page), _) => (page.json, None),
            (HistoryResult::List(page), _) => (page.json, None),
            // To a subscription, which takes it itself.
            (HistoryResult::Forward(_), _) => return Outcome::Empty,
        };
        context.answer = json;
        Outcome::Page { next, cursor: None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OPERATOR, TestCores};
    use super::super::{namespaces, publish};
    use super::*;
    use crate::api::query::ListQuery;
    use crate::auth::{PrivateNamespaces, Reader};
    use crate::model::{HistoryStart, Timestamp};
    use flux_storage::Sequence;
    use std::cell::Cell;

    fn entity(id: &str) -> HistoryQuery {
        HistoryQuery::Entity {
            id: id.into(),
            at: Timestamp::from_micros(1),
            fields: None,
        }
    }

    #[test]
    fn a_read_of_the_past_asks_its_shard_when_the_one_before_it_is_over() {
        for core in 0..2 {
            let mut cores = TestCores::new(2);
            let begin = |cores: &mut TestCores| {
                cores.begin((core, None), |context, caller| {
                    begin(context, caller, entity("n0/a"))
                })
            };
            let (first, mut second) = (begin(&mut cores), begin(&mut cores));
            let started = cores.context(core).history.start_next(1, |_| 0..1);
            assert_eq!(started.map(|it| it.request_id), Some(first.request_id()));
            let further = cores.context(core).history.start_next(1, |_| 0..1);
            assert_eq!(further, None, "one read of a connection is on its way");
            cores.context(core).history.finish(first.request_id());
            cores.deliver(&mut second);
            // A log in memory has no history; that ends the call like any other answer.
            let unreadable = Outcome::Failed(ApiError::HistoryUnreadable);
            assert_eq!(second.outcome(), Some(&unreadable));
        }
    }

    #[test]
    fn a_read_of_a_connection_that_ended_asks_no_shard() {
        let mut cores = TestCores::new(2);
        let mut call = cores.begin((0, None), |context, caller| {
            begin(context, caller, entity("n0/a"))
        });
        cores.context(0).history.forget(0);
        assert_eq!(start_due(cores.context(0)), []);
        cores.deliver(&mut call);
        assert_eq!(call.outcome(), None);
    }

    #[test]
    fn what_was_hidden_while_a_read_waited_is_not_answered() {
        let check = |query: HistoryQuery, reader: &Reader, expected: [bool; 2]| {
            let sight = |private: &[&str]| {
                let mut names = PrivateNamespaces::default();
                for name in private {
                    names.insert(name);
                }
                Readable::new(reader.clone(), names)
            };
            let asked = HistoryRead {
                query,
                sight: Sight {
                    shown: Shown::All,
                    readable: sight(&["shed"]),
                },
            };
            let after = [&["shed"][..], &["shed", "house"]];
            let found = after.map(|private| is_still_readable(&asked, &sight(private)));
            assert_eq!(found, expected, "{asked:?}");
        };
        let list = |namespace: Option<&str>| HistoryQuery::List {
            query: ListQuery {
                namespace: namespace.map(Box::from),
                ..ListQuery::parse(None).unwrap()
            },
            at: Timestamp::from_micros(1),
        };
        check(entity("house/a"), &Reader::Public, [true, false]);
        check(entity("garden/a"), &Reader::Public, [true, true]);
        check(entity("house/a"), &Reader::All, [true, true]);
        check(list(Some("house")), &Reader::Public, [true, false]);
        check(list(Some("garden")), &Reader::Public, [true, true]);
        check(list(None), &Reader::Public, [true, false]);
    }

    #[test]
    fn a_core_whose_log_is_not_replayed_says_so_at_once() {
        let mut cores = TestCores::new(2);
        cores.close_shard(1);
        let call = cores.begin((1, None), |context, caller| {
            begin(context, caller, entity("n0/a"))
        });
        assert_eq!(call.outcome(), Some(&Outcome::Failed(ApiError::NotReady)));
    }

    /// Registers a namespace. Returns its token.
    fn register(cores: &mut TestCores, name: &str) -> String {
        let body = format!(r#"{{"name":"{name}"}}"#);
        let (outcome, json) = cores.run((1, Some(OPERATOR)), |context, caller| {
            namespaces::register(context, caller, body.as_bytes())
        });
        assert_eq!(outcome, Outcome::Secret);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        json["token"].as_str().unwrap().to_owned()
    }

    /// What a call of this token's may see.
    fn shown_to(cores: &mut TestCores, token: Option<&str>, query: HistoryQuery) -> Shown {
        cores.begin((0, token), |context, caller| begin(context, caller, query));
        let shown = Cell::new(None);
        cores.context(0).history.start_next(1, |asked| {
            shown.set(Some(asked.sight.shown.clone()));
            0..1
        });
        cores.context(0).history.forget(0);
        shown.take().unwrap()
    }

    #[test]
    fn readers_see_a_namespace_from_its_registration_on_and_the_operator_sees_all() {
        let mut cores = TestCores::with_auth(2);
        let token = register(&mut cores, "house");
        let shard = usize::from(cores.context(0).router.place("house/a"));
        let (outcome, _) = cores.run((shard, Some(&token)), |context, caller| {
            let event =
                br#"{"stream":"s","source":"t","payload":{"entity_id":"house/a","properties":{}}}"#;
            publish::begin(context, caller, event)
        });
        assert_eq!(outcome, Outcome::Done);
        let (outcome, _) = cores.run((1, Some(OPERATOR)), |context, caller| {
            namespaces::delete(context, caller, ("house", Some("purge=true")))
        });
        assert_eq!(outcome, Outcome::Empty);
        let deleted = shown_to(&mut cores, None, entity("house/a"));
        assert_eq!(deleted, Shown::All, "it is nobody's");
        register(&mut cores, "house");
        let log_end = cores
            .context(shard)
            .router
            .shard
            .as_ref()
            .unwrap()
            .appended();
        assert_eq!(log_end, Sequence::new(2), "the event and its deletion");
        let after = Shown::After(HistoryStart::After(log_end));
        assert_eq!(shown_to(&mut cores, None, entity("house/a")), after);
        assert_eq!(shown_to(&mut cores, Some("x"), entity("house/a")), after);
        for id in ["house", "other/a"] {
            assert_eq!(shown_to(&mut cores, None, entity(id)), Shown::All, "{id}");
        }
        let all = shown_to(&mut cores, Some(OPERATOR), entity("house/a"));
        assert_eq!(all, Shown::All);
        let list = HistoryQuery::List {
            query: ListQuery::default(),
            at: Timestamp::from_micros(1),
        };
        let shown = shown_to(&mut cores, None, list);
        let first = Timestamp::from_micros(2_000_000);
        assert!(shown.hides("house/a", log_end, first));
        assert!(!shown.hides("house/a", log_end.next(), first));
        assert!(!shown.hides("other/a", log_end, first));
    }
}
