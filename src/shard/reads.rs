//! What a shard answers to reads: an entity, a part of a listing, and what its past is read from.

use super::Shard;
use super::message::{Reply, ShownEntity};
use super::owner::DAMAGED;
use crate::api::ApiError;
use crate::api::query::{Fields, ListQuery};
use crate::engine::{ReadAnswer, StateDamaged};
use crate::history::LiveLog;
use crate::log::Log;
use crate::model::{CommitPoint, CursorKey};

impl<L: Log> Shard<L> {
    pub(super) fn collect(
        &mut self,
        (namespace, prefix): (Option<Box<str>>, Option<Box<str>>),
        max: usize,
    ) -> (CommitPoint, Reply) {
        let query = ListQuery {
            namespace,
            prefix,
            ..ListQuery::default()
        };
        match self.engine.collect(&query, max) {
            Ok(ids) => (self.last_point(), Reply::Ids(ids)),
            Err(StateDamaged) => DAMAGED,
        }
    }

    pub(super) fn read(
        &mut self,
        id: Box<str>,
        fields: Option<Fields>,
        bytes_max: usize,
    ) -> (CommitPoint, Reply) {
        let mut json = Vec::new();
        let kept = (fields.as_ref(), bytes_max);
        let cursor = CursorKey::of(&id).text(self.visible());
        let read = self.engine.read(&id, kept, &mut json);
        self.spent += json.len() as u64;
        match read {
            Ok((None, point)) => (point, Reply::Entity(None)),
            Ok((Some(ReadAnswer::Entity { etag }), point)) => {
                let shown = ShownEntity { json, etag, cursor };
                (point, Reply::Entity(Some(shown)))
            }
            Ok((Some(ReadAnswer::Large { bytes }), point)) => {
                (point, Reply::LargeEntity { id, fields, bytes })
            }
            Err(StateDamaged) => DAMAGED,
        }
    }

    pub(super) fn list(
        &mut self,
        query: &ListQuery,
        after: Option<&str>,
        examined_max: usize,
    ) -> (CommitPoint, Reply) {
        let place = self.visible();
        match self.engine.list(query, after, examined_max) {
            Ok((mut chunk, point)) => {
                chunk.place = place;
                self.spent += (chunk.json.len() + chunk.examined_bytes) as u64;
                (point, Reply::Chunk(chunk))
            }
            Err(StateDamaged) => DAMAGED,
        }
    }

    /// What is read of this shard's past. It includes what was accepted just now, so it waits for
    /// that to be visible; a log that has failed is told of as far as it is durable.
    pub(super) fn past(&mut self) -> (CommitPoint, Reply) {
        let through = if self.failed() {
            self.visible()
        } else {
            self.log.appended()
        };
        let reader = self.log.reader(through);
        match reader.zip(self.states.clone()) {
            None => (
                CommitPoint::NONE,
                Reply::Refused(ApiError::HistoryUnreadable),
            ),
            Some((reader, states)) => {
                let live = LiveLog {
                    reader,
                    states,
                    checkpoint: self.engine.checkpoint(),
                };
                (CommitPoint::at(through), Reply::Past(Box::new(live)))
            }
        }
    }
}
