//! What a shard answers to reads: an entity, a part of a listing, and what its past is read from.

use super::Shard;
use super::message::{Envelope, ListPart, Reply, ShardRequest, ShownEntity};
use super::owner::DAMAGED;
use super::worked::Worked;
use crate::api::ApiError;
use crate::api::query::{Fields, ListQuery};
use crate::auth::Readable;
use crate::engine::{PublishError, ReadAnswer, SnapshotQuery, StateDamaged};
use crate::history::LiveLog;
use crate::limits::{COLLECT_IDS_MAX, EVENT_UNITS, LIST_SKIPS_MAX};
use crate::log::Log;
use crate::model::{CommitPoint, CursorKey};

/// The answer if a filter can't judge an entity, because it is too large.
const TOO_COSTLY: (CommitPoint, Reply) =
    (CommitPoint::NONE, Reply::Refused(ApiError::FilterTooCostly));

impl<L: Log> Shard<L> {
    /// Charges the refusal of an event, which may show an entity.
    pub(super) fn charge_refusal(&mut self, error: PublishError) -> PublishError {
        self.spent += error.shown_bytes() as u64;
        error
    }

    /// Collects a slice of the ids that a deletion is about. While some are left, later writes of
    /// the same connection wait behind it: it is not about what they make.
    pub(super) fn collect(&mut self, Envelope { origin, request }: Envelope) -> Worked {
        let ShardRequest::Collect {
            namespace,
            prefix,
            max,
            mut found,
            passed,
            seen,
        } = request
        else {
            return Worked::Done;
        };
        let query = ListQuery {
            namespace,
            prefix,
            ..ListQuery::default()
        };
        let count = (max - found.len()).min(COLLECT_IDS_MAX);
        let after = found.last().max(passed.as_ref()).map(|id| &**id);
        let Ok((more, passed)) = self.engine.collect((&query, &seen), after, count) else {
            let (point, reply) = DAMAGED;
            self.hold(point, origin, reply);
            return Worked::Done;
        };
        let searches = if passed.is_some() { LIST_SKIPS_MAX } else { 0 };
        self.spent += EVENT_UNITS * (more.len() + searches) as u64;
        let is_over = (more.len() < count && passed.is_none()) || found.len() + more.len() == max;
        found.extend(more);
        if is_over {
            self.hold(self.last_point(), origin, Reply::Ids(found));
            return Worked::Done;
        }
        let request = ShardRequest::Collect {
            namespace: query.namespace,
            prefix: query.prefix,
            max,
            found,
            passed,
            seen,
        };
        Worked::Unfinished(Envelope { origin, request })
    }

    pub(super) fn read(
        &mut self,
        id: Box<str>,
        (fields, bytes_max): (Option<Fields>, usize),
        readable: Option<&Readable>,
    ) -> (CommitPoint, Reply) {
        let mut json = Vec::new();
        if let Some(readable) = readable {
            let own = self
                .engine
                .read_own(&id, (fields.as_ref(), readable), &mut json);
            if let Ok(Some(tag)) = own {
                self.spent += json.len() as u64;
                let cursor = CursorKey::of(&id).text(self.visible());
                let shown = ShownEntity { json, tag, cursor };
                return (CommitPoint::NONE, Reply::Entity(Some(shown)));
            }
        }
        let kept = (fields.as_ref(), bytes_max);
        let cursor = CursorKey::of(&id).text(self.visible());
        let read = self.engine.read(&id, kept, &mut json);
        self.spent += json.len() as u64;
        match read {
            Ok((None, point)) => (point, Reply::Entity(None)),
            Ok((Some(ReadAnswer::Entity { tag }), point)) => {
                let shown = ShownEntity { json, tag, cursor };
                (point, Reply::Entity(Some(shown)))
            }
            Ok((Some(ReadAnswer::Large { bytes }), point)) => {
                (point, Reply::LargeEntity { id, fields, bytes })
            }
            Err(StateDamaged) => DAMAGED,
        }
    }

    pub(super) fn list(&mut self, part: &ListPart) -> (CommitPoint, Reply) {
        let place = self.visible();
        let asked = (&*part.query, &part.readable);
        match self.engine.list(asked, part.after.as_deref(), part.bounds) {
            Ok((mut chunk, point)) => {
                chunk.place = place;
                self.spent += (chunk.json.len() + chunk.examined_bytes) as u64;
                self.spent += chunk.filter_units;
                (point, Reply::Chunk(chunk))
            }
            Err(StateDamaged) => DAMAGED,
        }
    }

    /// The next page of a snapshot. Its commit point is the end of the log: so it leaves before
    /// every change that it does not hold.
    pub(super) fn snapshot_page(
        &mut self,
        query: &SnapshotQuery,
        after: Option<&str>,
    ) -> (CommitPoint, Reply) {
        match self.engine.snapshot_page(query, after) {
            Ok(page) => {
                self.spent += page.json.len() as u64 + page.filter_units;
                if page.is_too_costly {
                    return TOO_COSTLY;
                }
                let read = self.log.appended();
                (self.last_point(), Reply::SnapshotPage(Box::new(page), read))
            }
            Err(StateDamaged) => DAMAGED,
        }
    }

    /// Entities whole; the commit point as of [`Shard::snapshot_page`].
    pub(super) fn entities_whole(
        &mut self,
        ids: Vec<Box<str>>,
        filter: Option<&crate::filter::Filter>,
    ) -> (CommitPoint, Reply) {
        match self.engine.entities_whole(ids, filter) {
            Ok(batch) => {
                self.spent += batch.found.len() as u64 + batch.bytes.len() as u64;
                self.spent += batch.filter_units;
                if batch.is_too_costly {
                    return TOO_COSTLY;
                }
                let read = self.log.appended();
                (self.last_point(), Reply::Entities(Box::new(batch), read))
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
