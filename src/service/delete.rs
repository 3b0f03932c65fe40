//! A batch delete on its way: first, for a filter, the ids that match are collected from the shards concerned, and
//! counted; then each shard deletes its own.

use super::access::denied;
use super::context::{Answer, CORS_ORIGIN, Hub};
use super::pending::RequestMeta;
use crate::api::ApiError;
use crate::api::delete::{self, DeleteFilter};
use crate::auth::Access;
use crate::model::is_reserved;
use crate::shard::{Reply, RequestId, ShardRequest};

/// See the module.
#[derive(Debug)]
pub(crate) struct Deletion {
    meta: RequestMeta,
    /// What to delete, by shard.
    ids: Vec<Vec<Box<str>>>,
    /// The client named the ids, so that those that do not exist are failures.
    named: bool,
    collecting: bool,
    waiting: usize,
    deleted: usize,
    errors: Vec<(Box<str>, String)>,
    access: Access,
}

/// Entities that one batch delete may match.
fn limit(hub: &Hub) -> usize {
    usize::try_from(hub.runtime.max_batch_delete).unwrap_or(usize::MAX)
}

impl Deletion {
    /// Starts a deletion whose replies come to `ticket`.
    ///
    /// # Errors
    /// Where nothing is deleted: too many ids, a reserved one, or a shard that can't be asked.
    pub(crate) fn start(
        hub: &mut Hub,
        meta: RequestMeta,
        request_id: RequestId,
        (filter, access): (DeleteFilter, Access),
    ) -> Result<Self, ApiError> {
        let mut deletion = Self {
            meta,
            ids: vec![Vec::new(); usize::from(hub.shards)],
            named: false,
            collecting: true,
            waiting: 0,
            deleted: 0,
            errors: Vec::new(),
            access,
        };
        let (namespace, prefix) = match filter {
            DeleteFilter::Ids(ids) => {
                deletion.named = true;
                deletion.take_named(hub, ids)?;
                deletion.delete(hub, request_id);
                return Ok(deletion);
            }
            DeleteFilter::Namespace(namespace) => (Some(namespace), None),
            DeleteFilter::Prefix(prefix) => (None, Some(prefix)),
        };
        let shards = hub.shards_holding(namespace.as_deref(), prefix.as_deref());
        for shard in shards {
            let request = ShardRequest::Collect {
                namespace: namespace.clone(),
                prefix: prefix.clone(),
                max: limit(hub).saturating_add(1),
            };
            hub.ask(shard, request_id, request)?;
            deletion.waiting += 1;
        }
        Ok(deletion)
    }

    fn take_named(&mut self, hub: &Hub, ids: Vec<Box<str>>) -> Result<(), ApiError> {
        let limit = limit(hub);
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
            self.ids[usize::from(hub.place(&id))].push(id);
        }
        Ok(())
    }

    fn delete(&mut self, hub: &mut Hub, request_id: RequestId) {
        self.collecting = false;
        for shard in 0..hub.shards {
            let ids = &self.ids[usize::from(shard)];
            if ids.is_empty() {
                continue;
            }
            let request = ShardRequest::DeleteMany {
                ids: ids.clone(),
                done: Vec::new(),
                charged: self.access.charged(),
            };
            match hub.ask(shard, request_id, request) {
                Ok(()) => self.waiting += 1,
                Err(error) => self.settle(shard, &[], Some(&error)),
            }
        }
    }

    /// Takes a shard's reply.
    ///
    /// # Errors
    /// Where nothing was deleted and nothing will be.
    pub(crate) fn take(
        &mut self,
        hub: &mut Hub,
        request_id: RequestId,
        (from, reply): (u16, Reply),
    ) -> Result<(), ApiError> {
        self.waiting = self.waiting.saturating_sub(1);
        match reply {
            Reply::Ids(ids) => self.ids[usize::from(from)] = ids,
            Reply::DeletedMany(done, error) => self.settle(from, &done, error.as_ref()),
            Reply::Refused(error) if self.collecting => return Err(error),
            Reply::Refused(error) => self.settle(from, &[], Some(&error)),
            _ => {}
        }
        if self.collecting && self.waiting == 0 {
            let limit = limit(hub);
            if self.ids.iter().map(Vec::len).sum::<usize>() > limit {
                return Err(ApiError::TooManyMatches { limit });
            }
            let mut ids = self.ids.iter().flatten();
            if ids.any(|id| self.access.may_delete(id).is_err()) {
                return Err(ApiError::NotOwner);
            }
            self.delete(hub, request_id);
        }
        Ok(())
    }

    /// Notes what became of a shard's ids: of the first by `done`, of the rest by `error`.
    fn settle(&mut self, shard: u16, done: &[bool], error: Option<&ApiError>) {
        let ids = std::mem::take(&mut self.ids[usize::from(shard)]);
        for (index, id) in ids.into_iter().enumerate() {
            match (done.get(index), error) {
                (Some(true), _) => self.deleted += 1,
                (Some(false), _) if self.named => {
                    self.errors.push((id, ApiError::NoEntity.to_string()));
                }
                (Some(false), _) | (None, None) => {}
                (None, Some(error)) => self.errors.push((id, error.to_string())),
            }
        }
    }

    /// True once every shard has answered.
    pub(crate) fn is_done(&self) -> bool {
        self.waiting == 0
    }

    /// For the answer's head.
    pub(crate) fn meta(&self) -> RequestMeta {
        self.meta
    }

    /// Writes the answer.
    pub(crate) fn write(&self, hub: &Hub, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        delete::answer(&mut body, self.deleted, &self.errors);
        hub.write_json(
            out,
            self.meta,
            Answer {
                status: 200,
                headers: &[CORS_ORIGIN],
                body: &body,
            },
        );
    }
}
