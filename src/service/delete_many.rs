//! Deleting entities by filter: for a prefix or a namespace, the ids that match are collected from
//! the shards concerned and counted first; then each shard deletes its own.

use super::tenants::denied;
use super::{Begun, Caller, Context, Outcome, Pending, Tenants};
use crate::api::ApiError;
use crate::api::delete::{self, DeleteFilter};
use crate::auth::{Access, Denied, Readable, Reader};
use crate::log::Log;
use crate::model::{Scope, is_reserved};
use crate::shard::{Reply, RequestId, ShardRequest};
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct PendingDeletes {
    /// What to delete, by shard.
    ids: Vec<Vec<Box<str>>>,
    /// What a shard was asked to delete.
    asked: Vec<Arc<[Box<str>]>>,
    /// The client named the ids, so that unknown ids are failures.
    named: bool,
    collecting: bool,
    waiting: usize,
    deleted: usize,
    errors: Vec<(Box<str>, ApiError)>,
    access: Access,
}

/// Entities that one batch delete may match.
fn limit(tenants: &Tenants) -> usize {
    usize::try_from(tenants.runtime.max_batch_delete).unwrap_or(usize::MAX)
}

/// Deletes what the filter in the JSON `body` names.
///
/// # Errors
/// If nothing is deleted: no filter, too many ids, a reserved one, or a shard that can't be asked.
pub(crate) fn begin<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    body: &[u8],
) -> Result<Begun, ApiError> {
    context.check_serving()?;
    let access = context.access(&caller.credentials)?;
    let filter = delete::parse(body, limit(&context.tenants))?;
    let deletes = PendingDeletes::start(context, caller.request_id, (filter, access))?;
    if deletes.waiting == 0 {
        return Ok(Begun::at_once(deletes.finish(context)));
    }
    Ok(Begun::Waiting(Pending::DeleteMany(Box::new(deletes))))
}

impl PendingDeletes {
    fn start<L: Log>(
        context: &mut Context<L>,
        request_id: RequestId,
        (filter, access): (DeleteFilter, Access),
    ) -> Result<Self, ApiError> {
        let mut deletes = Self {
            ids: vec![Vec::new(); usize::from(context.router.shards)],
            asked: vec![Arc::default(); usize::from(context.router.shards)],
            named: false,
            collecting: true,
            waiting: 0,
            deleted: 0,
            errors: Vec::new(),
            access,
        };
        let (namespace, prefix) = match filter {
            DeleteFilter::Ids(ids) => {
                deletes.named = true;
                deletes.take_named(context, ids)?;
                deletes.delete(context, request_id);
                return Ok(deletes);
            }
            DeleteFilter::Namespace(namespace) => (Some(namespace), None),
            DeleteFilter::Prefix(prefix) => (None, Some(prefix)),
        };
        // What the caller may neither read nor delete is not there for it.
        let reader = Reader::with_scopes(deletes.access.clone(), &[Scope::Read, Scope::Delete]);
        let seen = Readable::new(reader, context.tenants.registry.private().clone());
        let router = &mut context.router;
        let shards = router.shards_holding(namespace.as_deref(), prefix.as_deref());
        for shard in shards {
            let request = ShardRequest::Collect {
                namespace: namespace.clone(),
                prefix: prefix.clone(),
                max: limit(&context.tenants).saturating_add(1),
                found: Vec::new(),
                passed: None,
                seen: Box::new(seen.clone()),
            };
            router.ask(shard, request_id, request)?;
            deletes.waiting += 1;
        }
        Ok(deletes)
    }

    fn take_named<L: Log>(
        &mut self,
        context: &Context<L>,
        ids: Vec<Box<str>>,
    ) -> Result<(), ApiError> {
        let limit = limit(&context.tenants);
        if ids.len() > limit {
            return Err(ApiError::TooManyMatches { limit });
        }
        if ids.iter().any(|id| is_reserved(id)) {
            return Err(ApiError::Reserved);
        }
        for id in &ids {
            self.access.may_delete(id).map_err(denied)?;
        }
        for id in ids {
            self.ids[usize::from(context.router.place(&id))].push(id);
        }
        Ok(())
    }

    fn delete<L: Log>(&mut self, context: &mut Context<L>, request_id: RequestId) {
        self.collecting = false;
        for shard in 0..context.router.shards {
            let ids: Arc<[_]> = std::mem::take(&mut self.ids[usize::from(shard)]).into();
            if ids.is_empty() {
                continue;
            }
            self.asked[usize::from(shard)] = Arc::clone(&ids);
            let request = ShardRequest::DeleteMany {
                ids,
                done: Vec::new(),
                charged: self.access.charged(0),
            };
            match context.router.ask(shard, request_id, request) {
                Ok(()) => self.waiting += 1,
                Err(error) => self.record(shard, &[], Some(&error)),
            }
        }
    }

    /// Heap that it holds.
    pub(super) fn heap_bytes(&self) -> usize {
        let of = |id: &str| size_of::<Box<str>>() + id.len();
        let ids: usize = self.ids.iter().flatten().map(|id| of(id)).sum();
        let of_error = |(id, _): &(Box<str>, ApiError)| size_of::<ApiError>() + of(id);
        ids + self.errors.iter().map(of_error).sum::<usize>()
    }

    /// Takes a shard's reply.
    ///
    /// # Errors
    /// If nothing was deleted and nothing will be.
    pub(super) fn resume<L: Log>(
        &mut self,
        context: &mut Context<L>,
        request_id: RequestId,
        (from, reply): (u16, Reply),
    ) -> Result<Option<Outcome>, ApiError> {
        self.waiting = self.waiting.saturating_sub(1);
        match reply {
            Reply::Ids(ids) => self.ids[usize::from(from)] = ids,
            Reply::DeletedMany(done, error) => self.record(from, &done, error.as_ref()),
            Reply::Refused(error) if self.collecting => return Err(error),
            Reply::Refused(error) => self.record(from, &[], Some(&error)),
            _ => {}
        }
        if self.collecting && self.waiting == 0 {
            let limit = limit(&context.tenants);
            if self.ids.iter().map(Vec::len).sum::<usize>() > limit {
                return Err(ApiError::TooManyMatches { limit });
            }
            let mut ids = self.ids.iter().flatten();
            if let Some(error) = ids.find_map(|id| self.access.may_delete(id).err()) {
                return Err(match error {
                    Denied::NoNamespace => ApiError::NotOwner,
                    error => denied(error),
                });
            }
            self.delete(context, request_id);
        }
        Ok((self.waiting == 0).then(|| self.finish(context)))
    }

    /// Notes what became of a shard's ids: of the first by `done`, of the rest by `error`.
    fn record(&mut self, shard: u16, done: &[bool], error: Option<&ApiError>) {
        let ids = std::mem::take(&mut self.asked[usize::from(shard)]);
        for (index, id) in ids.iter().enumerate() {
            match (done.get(index), error) {
                (Some(true), _) => self.deleted += 1,
                (Some(false), _) if self.named => {
                    self.errors.push((id.clone(), ApiError::NoEntity));
                }
                (Some(false), _) | (None, None) => {}
                (None, Some(error)) => self.errors.push((id.clone(), error.clone())),
            }
        }
    }

    /// What became of each entity; one failure of the whole if the server could delete none of them
    /// now.
    fn finish<L>(&self, context: &mut Context<L>) -> Outcome {
        let is_unavailable = |(_, error): &(_, ApiError)| error.status() == 503;
        if let Some((_, first)) = self.errors.first()
            && self.deleted == 0
            && self.errors.iter().all(is_unavailable)
        {
            return Outcome::Failed(first.clone());
        }
        for (_, error) in &self.errors {
            context.tally().note_refused(error);
        }
        context.answer.clear();
        delete::answer(&mut context.answer, self.deleted, &self.errors);
        Outcome::Done
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestCores;
    use super::super::{batch, delete, publish};
    use super::*;
    use crate::limits::COLLECT_IDS_MAX;
    use crate::model::Slicing;

    /// Cores that hold these entities.
    fn holding(ids: &[&str]) -> TestCores {
        let mut cores = TestCores::new(2);
        for id in ids {
            let event = format!(
                r#"{{"stream":"s","source":"t","payload":{{"entity_id":"{id}","properties":{{}}}}}}"#
            );
            cores.run((0, None), |context, caller| {
                publish::begin(context, caller, event.as_bytes())
            });
        }
        cores
    }

    fn delete(cores: &mut TestCores, body: &str) -> (Outcome, String) {
        cores.run((1, None), |context, caller| {
            begin(context, caller, body.as_bytes())
        })
    }

    #[test]
    fn a_filter_deletes_what_it_matches_on_every_shard() {
        let mut cores = holding(&["n0/a", "n1/a", "n1/b", "other"]);
        let (outcome, json) = delete(&mut cores, r#"{"prefix":"n"}"#);
        assert_eq!(outcome, Outcome::Done);
        assert_eq!(json, r#"{"deleted":3,"failed":0,"errors":[]}"#);
        let (_, json) = delete(&mut cores, r#"{"entity_ids":["n0/a","other"]}"#);
        assert!(json.starts_with(r#"{"deleted":1,"failed":1,"#), "{json}");
    }

    #[test]
    fn more_matches_than_the_bound_delete_nothing() {
        let mut cores = holding(&["n0/a", "n1/a", "n1/b"]);
        for core in 0..2 {
            cores.context(core).tenants.runtime.max_batch_delete = 2;
        }
        let (outcome, _) = delete(&mut cores, r#"{"prefix":"n"}"#);
        assert_eq!(
            outcome,
            Outcome::Failed(ApiError::TooManyMatches { limit: 2 })
        );
        let (_, json) = delete(&mut cores, r#"{"prefix":"n1/"}"#);
        assert_eq!(json, r#"{"deleted":2,"failed":0,"errors":[]}"#);
    }

    #[test]
    fn what_no_shard_can_delete_now_fails_as_a_whole() {
        let mut cores = holding(&["n0/a", "n1/a"]);
        cores.close_shard(0);
        let (outcome, _) = delete(&mut cores, r#"{"entity_ids":["n1/a"]}"#);
        assert_eq!(outcome, Outcome::Failed(ApiError::NotReady));
        let (outcome, json) = delete(&mut cores, r#"{"entity_ids":["n0/a","n1/a"]}"#);
        assert_eq!(outcome, Outcome::Done, "{json}");
    }

    #[test]
    fn ids_are_collected_in_slices_and_what_its_client_makes_behind_stays() {
        let mut cores = TestCores::new(1);
        let count = 2 * COLLECT_IDS_MAX + 500;
        let event = |id: usize| {
            format!(
                r#"{{"stream":"s","source":"t","payload":{{"entity_id":"n/{id}","properties":{{}}}}}}"#
            )
        };
        let events: Vec<String> = (0..count).map(event).collect();
        let body = format!(r#"{{"events":[{}]}}"#, events.join(","));
        cores.run((0, None), |context, caller| {
            batch::begin(context, caller, body.as_bytes())
        });
        let deletes = cores.begin((0, None), |context, caller| {
            begin(context, caller, br#"{"prefix":"n/"}"#)
        });
        let same = cores.begin((0, None), |context, caller| {
            publish::begin(context, caller, event(999_999).as_bytes())
        });
        let mut slices = 1;
        let shard = cores.context(0).router.shard.as_mut().unwrap();
        let entities = shard.engine().entities();
        assert_eq!(entities, count, "what comes behind waits");
        while shard.has_work() {
            shard.go_on(crate::model::Timestamp::default());
            slices += 1;
        }
        assert_eq!(slices, 4, "three of ids, and one of what came behind");
        assert_eq!(shard.engine().entities(), count + 1);
        cores.flush();
        let shard = cores.context(0).router.shard.as_mut().unwrap();
        let mut collected = Vec::new();
        shard.release(|origin, reply| {
            if let Reply::Ids(ids) = reply {
                assert_eq!(origin.request_id, deletes.request_id());
                collected = ids;
            }
        });
        assert_eq!(collected.len(), count);
        assert!(collected.is_sorted(), "each id once, in order");
        assert!(!collected.contains(&"n/999999".into()));
        drop(same);
    }

    #[test]
    fn one_entity_is_deleted_once() {
        let mut cores = holding(&["n1/a"]);
        let delete = |cores: &mut TestCores| {
            cores.run((0, None), |context, caller| {
                delete::begin(context, caller, ("n1/a", delete::Conditions::Expect(None)))
            })
        };
        let (outcome, json) = delete(&mut cores);
        assert_eq!(outcome, Outcome::Done);
        assert!(
            json.starts_with(r#"{"entity_id":"n1/a","eventId":""#),
            "{json}"
        );
        let (outcome, _) = delete(&mut cores);
        assert_eq!(outcome, Outcome::Failed(ApiError::NoEntity));
    }

    #[test]
    fn while_many_are_deleted_others_publish_and_their_own_connection_waits() {
        let mut cores = TestCores::new(1);
        let ids: Vec<String> = (0..2_000).map(|number| format!("n/{number}")).collect();
        let event = |id: &str| {
            format!(
                r#"{{"stream":"s","source":"t","payload":{{"entity_id":"{id}","properties":{{}}}}}}"#
            )
        };
        let events: Vec<String> = ids.iter().map(|id| event(id)).collect();
        let body = format!(r#"{{"events":[{}]}}"#, events.join(","));
        cores.run((0, None), |context, caller| {
            batch::begin(context, caller, body.as_bytes())
        });
        let mut deletes = cores.begin((0, None), |context, caller| {
            begin(context, caller, br#"{"prefix":"n/"}"#)
        });
        // The ids are collected, and the first slice of them is deleted.
        cores.flush();
        cores.deliver_replies(&mut deletes);
        let shard = |cores: &mut TestCores| {
            let shard = cores.context(0).router.shard.as_ref().unwrap();
            (
                shard.has_work(),
                shard.engine().entities(),
                shard.appended(),
            )
        };
        let (has_work, left, appended) = shard(&mut cores);
        assert!(has_work && left > 1_000, "{left}");
        let same = cores.begin((0, None), |context, caller| {
            publish::begin(context, caller, event("n/behind").as_bytes())
        });
        assert_eq!(shard(&mut cores).2, appended, "it is behind the deletion");
        cores.begin((0, None), |context, caller| {
            let mut request_id = caller.request_id;
            request_id.connection = 9;
            let other = Caller {
                request_id,
                ..*caller
            };
            publish::begin(context, &other, event("n/0").as_bytes())
        });
        assert_eq!(shard(&mut cores).2, appended.next(), "it is stored at once");
        let mut slices = 0;
        while shard(&mut cores).0 {
            let before = cores.context(0).router.spent();
            let context = cores.context(0);
            let now = context.router.now;
            context.router.shard.as_mut().unwrap().go_on(now);
            let units = cores.context(0).router.spent() - before;
            assert!(units < 2 * Slicing::SMALL.shard_units(), "{units}");
            slices += 1;
        }
        assert!(slices > 5, "{slices}");
        assert_eq!(
            shard(&mut cores).1,
            2,
            "only the two entities that were published meanwhile are left"
        );
        drop((deletes, same));
    }
}
