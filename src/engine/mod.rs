//! The engine of one shard: decide (may refuse) → append → apply (may not refuse) → match
//! subscribers.
//!
//! | file | job |
//! | --- | --- |
//! | `replay` | records of a log → the state of a shard |
//! | `answers` | parts of listings, and namespace statistics |
//! | `changes` | a change of an entity → encoded frames for its subscribers |
//! | `system_entities` | entities that the server derives and does not log |
//! | `recent_sources` | the sources that published lately |
//!
//! Plain and synchronous; the log is an argument, time is an argument. `apply` sees nothing but the
//! record, so a replay of the log gives the live state; the simulation tests that.
//!
//! Every answer has a commit point: what must be durable before the answer may be seen, so that
//! nothing seen can be unseen (API contract §10). The commit point of an entity's state is its last
//! event. The commit point of an absence is the last deletion, because the engine does not remember
//! what it deleted.
//!
//! It must not know: sockets, JSON of requests, other cores, where the log is kept.

mod answers;
mod changes;
mod recent_sources;
mod replay;
mod system_entities;

pub use answers::{Chunk, NamespaceCounts};
pub use changes::CollectedChanges;
pub use recent_sources::SourceHashes;
pub(crate) use replay::{Batch, Target};
pub use replay::{ReplayFault, replay_record};

use crate::api::encode;
use crate::api::query::{Fields, ListQuery};
use crate::limits::{LIST_CHUNK_BYTES_MAX, LIST_CHUNK_ENTITIES_MAX};
use crate::log::{AppendRejection, Log};
use crate::model::{
    CommitPoint, EntityView, EventDecodeError, EventDraft, EventId, EventView, Property, Timestamp,
    is_reserved, place,
};
use crate::state::{
    Applied, BookkeepingView, Entity, Frozen, NamespaceStatistics, Query, Replaced, State,
};
use crate::subscribe::{Filter, Registry};
use changes::ChangeCollector;
use flux_storage::{
    Checkpoint, CheckpointDir, CheckpointError, CheckpointMeta, CheckpointThrottle, LayerError,
    LayerStack, PendingCheckpoint, Sequence,
};
use recent_sources::RecentSources;
use std::ops::ControlFlow;
use std::sync::Arc;
use system_entities::SystemEntities;

/// Room for the entity with which a part of a listing reaches its size, where it is not a large
/// one, and for each of a small page.
const LIST_ENTITY_BYTES: usize = 1024;

/// Stream and source of the tombstones that the delete calls make.
const DELETE_STREAM: &str = "flux.delete";
const DELETE_SOURCE: &str = "flux";

/// One shard's state, and who watches it.
#[derive(Debug, Default)]
pub struct Engine {
    state: State,
    kept: Box<SystemEntities>,
    names: NamespaceStatistics,
    /// The names as the layers keep them.
    names_kept: BookkeepingView,
    /// What becomes that when the snapshot is installed.
    names_freezing: BookkeepingView,
    /// The latest time of an event. Later events may have earlier times: they fall across
    /// namespaces.
    latest_time: Timestamp,
    /// Sequence of the last event that removed an entity.
    last_delete: Sequence,
    /// Events applied.
    events: u64,
    /// The checkpoint that the state's layers are.
    checkpoint: Option<CheckpointMeta>,
    /// What becomes it when the snapshot is settled.
    freezing: Option<CheckpointMeta>,
    /// The layer that can't be read, where one was met.
    damage: Option<LayerError>,
    /// Events that an earlier repair of the log gave up, as far as they were come across.
    lost: u64,
    subscribers: Registry<u16>,
    hits: Vec<u16>,
    changes: ChangeCollector,
    tombstone: Vec<u8>,
    sources: RecentSources,
}

/// An entity that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadAnswer {
    /// Its entity tag.
    pub etag: String,
}

/// A layer of the state can't be read: [`Engine::take_damage`] says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateDamaged;

/// Why a record can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum EngineReplayError {
    /// It holds no event.
    #[error(transparent)]
    Event(#[from] EventDecodeError),
    /// The layer that may hold its entity is damaged.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// What a checkpoint is made of: the state at a position of the log.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What changed since the last checkpoint.
    pub frozen: Arc<Frozen>,
    /// What the last checkpoint left.
    pub layers: LayerStack,
    /// The position, and what else an engine knows there.
    pub meta: CheckpointMeta,
    names: BookkeepingView,
    /// The names as `layers` keep them.
    names_before: BookkeepingView,
}

impl Snapshot {
    /// Writes it as a checkpoint, not to be published before the log is durable that far. Blocks.
    ///
    /// # Errors
    /// As for [`CheckpointDir::write`].
    pub fn write(
        &self,
        dir: &mut CheckpointDir,
        pace: &mut CheckpointThrottle<'_>,
    ) -> Result<PendingCheckpoint, CheckpointError> {
        let names = self.names.changes_since(&self.names_before);
        let entities = self.frozen.entities(&mut || match pace(0) {
            // One that has to end is told so again when it writes.
            ControlFlow::Continue(()) | ControlFlow::Break(()) => {}
        });
        let records = Records {
            len: names.len() + self.frozen.len(),
            records: names.records().chain(entities),
        };
        dir.write(records, &self.layers, self.meta, pace)
    }
}

/// Records whose number is known before they are read.
struct Records<I> {
    records: I,
    len: usize,
}

impl<I: Iterator> Iterator for Records<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let next = self.records.next();
        self.len = self.len.saturating_sub(usize::from(next.is_some()));
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

impl<I: Iterator> ExactSizeIterator for Records<I> {}

impl Engine {
    /// The engine that a checkpoint holds.
    ///
    /// # Errors
    /// Where a layer is damaged.
    pub fn from_checkpoint(layers: LayerStack, meta: &CheckpointMeta) -> Result<Self, LayerError> {
        let latest_time = Timestamp::from_micros(meta.time_micros);
        let names = NamespaceStatistics::from_layers(&layers, latest_time)?;
        Ok(Self {
            names_kept: names.bookkeeping(),
            names,
            state: State::from_layers(layers, usize::try_from(meta.entities).unwrap_or(usize::MAX)),
            latest_time,
            last_delete: meta.last_delete,
            events: meta.events,
            checkpoint: Some(*meta),
            ..Self::default()
        })
    }

    /// Freezes the state after the event `through`, for a helper thread to write. Cost: constant.
    ///
    /// # Panics
    /// Where the snapshot before is not settled.
    pub fn freeze(&mut self, through: Sequence) -> Snapshot {
        let (frozen, layers) = self.state.freeze();
        let meta = CheckpointMeta {
            through,
            time_micros: self.latest_time.as_micros(),
            events: self.events,
            entities: self.state.len() as u64,
            last_delete: self.last_delete,
        };
        self.freezing = Some(meta);
        self.names_freezing = self.names.bookkeeping();
        Snapshot {
            frozen,
            layers,
            meta,
            names: self.names_freezing.clone(),
            names_before: self.names_kept.clone(),
        }
    }

    /// True while a snapshot is not settled.
    pub fn is_frozen(&self) -> bool {
        self.state.is_frozen()
    }

    /// Goes on over the layers of the checkpoint that was made of the snapshot.
    pub fn settle(&mut self, layers: LayerStack) -> Replaced {
        self.checkpoint = self.freezing.take();
        self.names_kept = std::mem::take(&mut self.names_freezing);
        self.state.settle(layers)
    }

    /// The newest checkpoint, where the state lies over one.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let stack = self.state.layers().clone();
        self.checkpoint.map(|meta| Checkpoint { stack, meta })
    }

    /// What a namespace holds.
    pub fn namespace_counts(&self, namespace: &str) -> NamespaceCounts {
        let entry = self.names.get(namespace).filter(|entry| entry.entities > 0);
        entry.map_or_else(NamespaceCounts::default, |entry| NamespaceCounts {
            entities: entry.entities,
            last_updated: Some(entry.last_updated),
        })
    }

    /// The namespaces.
    pub fn namespaces_mut(&mut self) -> &mut NamespaceStatistics {
        &mut self.names
    }

    /// The namespaces.
    pub fn names(&self) -> &NamespaceStatistics {
        &self.names
    }

    /// Takes over an entity of an earlier generation, when the number of shards has changed. Its
    /// namespace is counted by itself.
    ///
    /// # Errors
    /// Where a layer is damaged.
    pub fn install(&mut self, entity: Entity<'_>) -> Result<(), LayerError> {
        self.state.install(entity)
    }

    /// Takes over what an engine of an earlier generation knew beside its entities. `events`: those
    /// of its events that count here.
    pub fn inherit(&mut self, meta: &CheckpointMeta, events: u64) {
        self.latest_time = self
            .latest_time
            .max(Timestamp::from_micros(meta.time_micros));
        self.last_delete = self.last_delete.max(meta.last_delete);
        self.events += events;
    }

    /// Applies a record of the log at start. `shard` of `shards`: events that another shard owns by
    /// now are passed over.
    ///
    /// # Errors
    /// Where the record holds no event, or the layer that may hold its entity is damaged.
    pub fn replay(
        &mut self,
        record: (Sequence, Timestamp, &[u8]),
        shard: u16,
        shards: u16,
    ) -> Result<(), EngineReplayError> {
        let (sequence, time, bytes) = record;
        let event = EventView::decode(bytes)?;
        if shards == 1 || place(event.entity_id, shards) == shard {
            let promoted = self.state.promote(event.entity_id)?;
            self.latest_time = self.latest_time.max(time);
            self.events += 1;
            let applied = self.state.apply(promoted, (sequence, time), &event);
            self.names.count(event.entity_id, applied, time);
            if applied == Applied::Deleted {
                self.last_delete = sequence;
            }
        }
        Ok(())
    }

    /// Applies a record of the log that holds an entity, at start. `shard` of `shards` as for
    /// [`Engine::replay`].
    ///
    /// # Errors
    /// Where the record holds no entity, or the layer that may hold an older form of it is damaged.
    pub fn replay_entity(
        &mut self,
        record: (Sequence, Timestamp, &[u8]),
        shard: u16,
        shards: u16,
    ) -> Result<(), EngineReplayError> {
        let (sequence, time, bytes) = record;
        let entity = EntityView::decode(bytes)?;
        if shards == 1 || place(entity.id, shards) == shard {
            let promoted = self.state.promote(entity.id)?;
            self.latest_time = self.latest_time.max(time);
            let applied = self.state.replace(promoted, sequence, &entity);
            self.names
                .count(entity.id, applied, time.max(entity.last_updated));
        }
        Ok(())
    }

    /// Looks at entities that are about to be changed or read, for speed alone.
    pub fn prefetch(&mut self, ids: &[&[u8]]) {
        self.state.prefetch(ids);
    }

    /// Stores one event (encoded by [`EventDraft::encode`]) and applies it.
    ///
    /// # Errors
    /// [`AppendRejection`], where nothing changed.
    ///
    /// # Panics
    /// Where `bytes` are no event.
    #[expect(clippy::unwrap_in_result, reason = "a caller's bug, not an outcome")]
    pub fn publish(
        &mut self,
        log: &mut impl Log,
        now: Timestamp,
        bytes: &[u8],
    ) -> Result<Sequence, AppendRejection> {
        let event = EventView::decode_encoded(bytes).expect("EventDraft::encode wrote these bytes");
        let promoted = match self.state.promote(event.entity_id) {
            Ok(promoted) => promoted,
            Err(error) => return Err(self.damaged(error)),
        };
        let last_updated = self.state.last_updated(promoted);
        let time = now.max(self.names.floor(event.entity_id, last_updated));
        let sequence = log.append(time.as_micros(), bytes)?;
        self.latest_time = self.latest_time.max(time);
        self.events += 1;
        if event.stream != DELETE_STREAM {
            self.sources.note(event.source);
        }
        let applied = self.state.apply(promoted, (sequence, time), &event);
        self.names.count(event.entity_id, applied, time);
        match applied {
            Applied::Deleted => {
                self.last_delete = sequence;
                if self.match_subscribers(event.entity_id) {
                    self.changes.deleted(event.entity_id, time, &self.hits);
                }
            }
            Applied::Created | Applied::Updated => {
                if self.match_subscribers(event.entity_id) {
                    self.changes.updated(&event, time, &self.hits);
                }
            }
            Applied::Absent => {}
        }
        Ok(sequence)
    }

    /// The sources of the events that were stored since the last call.
    pub fn take_sources(&mut self) -> SourceHashes {
        self.sources.take()
    }

    fn match_subscribers(&mut self, entity_id: &str) -> bool {
        self.hits.clear();
        if !self.subscribers.is_empty() {
            self.subscribers.matches(entity_id, &mut self.hits);
        }
        !self.hits.is_empty()
    }

    /// Whether there is such an entity.
    ///
    /// # Errors
    /// [`AppendRejection::StateDamaged`].
    pub fn has(&mut self, entity_id: &str) -> Result<bool, AppendRejection> {
        match self.state.get(entity_id) {
            Ok(found) => Ok(found.is_some()),
            Err(error) => Err(self.damaged(error)),
        }
    }

    /// Deletes an entity by a tombstone event with this id. `Ok(None)` where there is nothing to
    /// delete.
    ///
    /// # Errors
    /// [`AppendRejection`], where nothing changed.
    pub fn delete(
        &mut self,
        log: &mut impl Log,
        now: Timestamp,
        (entity_id, event_id): (&str, uuid::Uuid),
    ) -> Result<Option<Sequence>, AppendRejection> {
        if !self.has(entity_id)? {
            return Ok(None);
        }
        let mut bytes = std::mem::take(&mut self.tombstone);
        bytes.clear();
        let draft = EventDraft {
            entity_id,
            event_id: EventId::Uuid(event_id),
            stream: DELETE_STREAM,
            source: DELETE_SOURCE,
            timestamp_ms: None,
            key: None,
            schema: None,
            extra: "",
            tombstone: true,
            properties: &[],
        };
        draft.encode(&mut bytes);
        let appended = self.publish(log, now, &bytes);
        self.tombstone = bytes;
        appended.map(Some)
    }

    /// Writes an entity's JSON to `out`. Returns its tag (`None` and nothing written where there is
    /// no such entity) and the commit point of the answer.
    ///
    /// # Errors
    /// Where the layer that may hold it is damaged.
    pub fn read(
        &mut self,
        id: &str,
        fields: Option<&Fields>,
        out: &mut Vec<u8>,
    ) -> Result<(Option<ReadAnswer>, CommitPoint), StateDamaged> {
        let entity = if is_reserved(id) {
            self.kept.get(id)
        } else {
            self.state.get(id)
        };
        let entity = entity.map_err(|error| note_damage(&mut self.damage, error))?;
        Ok(match entity {
            None => (None, CommitPoint::at(self.last_delete)),
            Some(entity) => {
                encode_entity(out, entity, fields);
                let etag = encode::etag(entity.sequence().get(), entity.last_updated());
                (Some(ReadAnswer { etag }), commit_point_of(entity))
            }
        })
    }

    /// The next part of a listing, and its commit point. Bounded in entities and bytes, so that one
    /// request can't keep the core from the others.
    ///
    /// # Errors
    /// Where a layer is damaged.
    pub fn list(
        &mut self,
        query: &ListQuery,
        after: Option<&str>,
    ) -> Result<(Chunk, CommitPoint), StateDamaged> {
        let mut chunk = Chunk {
            last: true,
            ..Chunk::default()
        };
        let mut point = CommitPoint::at(self.last_delete);
        let query_of_state = state_query(query, after);
        let others = self.state.list(&query_of_state);
        for entity in self.kept.merged(&query_of_state, others) {
            let entity = entity.map_err(|error| note_damage(&mut self.damage, error))?;
            let full = chunk.json.len() >= LIST_CHUNK_BYTES_MAX
                || chunk.ends.len() >= LIST_CHUNK_ENTITIES_MAX;
            if full {
                chunk.last = false;
                break;
            }
            if chunk.ends.is_empty() {
                let page = query.limit.unwrap_or(usize::MAX);
                let room = page.saturating_mul(LIST_ENTITY_BYTES);
                chunk
                    .json
                    .reserve(room.min(LIST_CHUNK_BYTES_MAX + LIST_ENTITY_BYTES));
            }
            chunk.json.push(b',');
            encode_entity(&mut chunk.json, entity, query.fields.as_ref());
            chunk.ids.push_str(entity.id());
            chunk.ends.push((chunk.json.len(), chunk.ids.len()));
            point = point.max(commit_point_of(entity));
        }
        Ok((chunk, point))
    }

    /// At most `max` ids that match and that a client may delete, ascending.
    ///
    /// # Errors
    /// Where a layer is damaged.
    pub fn collect(
        &mut self,
        query: &ListQuery,
        max: usize,
    ) -> Result<Vec<Box<str>>, StateDamaged> {
        let mut ids = Vec::new();
        for entity in self.state.list(&state_query(query, None)) {
            let entity = entity.map_err(|error| note_damage(&mut self.damage, error))?;
            if ids.len() == max {
                break;
            }
            if !is_reserved(entity.id()) {
                ids.push(entity.id().into());
            }
        }
        Ok(ids)
    }

    fn damaged(&mut self, error: LayerError) -> AppendRejection {
        let StateDamaged = note_damage(&mut self.damage, error);
        AppendRejection::StateDamaged
    }

    /// What was found to be damaged since the last call: the state has to be made anew from the
    /// log.
    pub fn take_damage(&mut self) -> Option<LayerError> {
        self.damage.take()
    }

    /// The time that the next event of an id must not fall below.
    ///
    /// # Errors
    /// If the layer that may hold its entity is damaged.
    pub fn floor(&mut self, entity_id: &str) -> Result<Timestamp, LayerError> {
        let entity = self.state.get(entity_id)?;
        let last_updated = entity.map(Entity::last_updated);
        Ok(self.names.floor(entity_id, last_updated))
    }

    /// The latest time of an event.
    pub fn latest_time(&self) -> Timestamp {
        self.latest_time
    }

    /// Entities that exist.
    pub fn entities(&self) -> usize {
        self.state.len()
    }

    /// Sets the number of events so far. Replaying an earlier generation counts events of other
    /// shards too.
    pub(super) fn correct_events(&mut self, events: u64) {
        self.events = events;
    }

    /// Events of this shard, those replayed included.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// A replay has come across a gap of so many events.
    pub(super) fn note_lost(&mut self, events: u64) {
        self.lost = self.lost.saturating_add(events);
    }

    /// Events that a repair of the log gave up, in what was replayed. Each may have been another
    /// shard's, where the log is older than the number of shards.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// What must be durable before an absence may be reported.
    pub fn absence_point(&self) -> CommitPoint {
        CommitPoint::at(self.last_delete)
    }

    /// `core` wants changes that match.
    pub fn subscribe(&mut self, core: u16, filter: &Filter) {
        self.subscribers.subscribe(core, filter);
    }

    /// `core` takes one such subscription back.
    pub fn unsubscribe(&mut self, core: u16, filter: &Filter) {
        self.subscribers.unsubscribe(core, filter);
    }

    /// Gives an entity of the server's own these properties, ascending by name.
    ///
    /// # Errors
    /// Never, as long as what is kept lies in memory.
    pub fn keep(
        &mut self,
        id: &str,
        properties: &[Property<'_>],
        now: Timestamp,
    ) -> Result<(), LayerError> {
        self.kept.set((id, properties), now, &mut self.subscribers)
    }

    /// The changes of what the server keeps itself, since the last call, that anybody subscribed
    /// to.
    pub fn take_system_changes(&mut self) -> Option<CollectedChanges> {
        self.kept.take_changes()
    }

    /// The changes since the last call that anybody subscribed to.
    pub fn take_changes(&mut self) -> Option<CollectedChanges> {
        self.changes.take()
    }

    /// The state, for comparison in tests.
    #[cfg(test)]
    pub(super) fn state(&self) -> &State {
        &self.state
    }
}

/// Keeps the first damage that was met.
fn note_damage(damage: &mut Option<LayerError>, error: LayerError) -> StateDamaged {
    damage.get_or_insert(error);
    StateDamaged
}

/// What has to be durable before this entity may be seen. The server's own says only what is.
fn commit_point_of(entity: Entity<'_>) -> CommitPoint {
    if is_reserved(entity.id()) {
        CommitPoint::NONE
    } else {
        CommitPoint::at(entity.sequence())
    }
}

fn encode_entity(out: &mut Vec<u8>, entity: Entity<'_>, fields: Option<&Fields>) {
    let head = encode::EntityHead {
        id: entity.id(),
        version: entity.version(),
        last_updated: entity.last_updated(),
    };
    encode::entity(out, head, entity.properties(), fields);
}

fn state_query<'q>(query: &'q ListQuery, after: Option<&'q str>) -> Query<'q> {
    Query {
        namespace: query.namespace.as_deref(),
        prefix: query.prefix.as_deref(),
        after: after.or(query.after.as_deref()),
    }
}
