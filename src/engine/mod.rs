//! The engine of one shard: decide (may refuse) → append → apply (may not refuse) → match
//! subscribers.
//!
//! | file | job |
//! | --- | --- |
//! | `decide` | whether the conditions of a write hold |
//! | `ends` | entities that come to their end by themselves |
//! | `recent_ids` | the ids that producers gave to the last events |
//! | `operate` | the operations of a write → their results |
//! | `publish` | events and deletions: the four steps |
//! | `group` | atomic batches: rehearsed first, then published |
//! | `read` | reads, listings, and their commit points |
//! | `stream_read` | what subscriptions that catch up are told of the state |
//! | `checkpoint` | an engine from a checkpoint, and a snapshot for the next one |
//! | `replay` | records of a log → the state of one shard |
//! | `answers` | what the engine answers: parts of listings, what namespaces hold |
//! | `changes` | a change → the frames that subscribers get |
//! | `watchers` | which cores want which changes, and what their filters say |
//! | `directory` | the namespaces that are listed, and what of them one reader is told |
//! | `system_entities` | entities that the server keeps itself |
//! | `recent_sources` | the sources of the events that the shard has taken lately |
//! | `testing` | events for the tests of the engine |
//!
//! Plain and synchronous; the log and the time are arguments. `apply` sees nothing but the record,
//! so a replay of the log gives the live state: the simulation holds it to that.
//!
//! Every answer comes with its commit point: what must be durable before the answer may be seen, so
//! that nothing seen can be unseen (API contract §10). That of an entity's state is its last event.
//! That of an absence is the last deletion, since the engine does not remember what it deleted.
//!
//! This folder must not know cores, connections or files, and reads no clock.

mod answers;
mod changes;
mod checkpoint;
mod decide;
mod directory;
mod ends;
mod group;
mod operate;
mod publish;
mod read;
mod recent_ids;
mod recent_sources;
mod replay;
mod stream_read;
mod system_entities;
#[cfg(test)]
mod testing;
mod watchers;

pub use answers::{Chunk, ChunkBounds, Judged, NamespaceCounts};
pub use changes::CollectedChanges;
pub use checkpoint::Snapshot;
pub use directory::DirectoryRows;
pub use group::GroupError;
pub use publish::{PublishError, Write};
pub use read::ReadAnswer;
pub use recent_ids::{Recalled, RecentIds, SentHash};
pub use recent_sources::SourceHashes;
pub(crate) use replay::{Batch, Target};
pub use replay::{EngineReplayError, ReplayFault, replay_record};
pub use stream_read::{EntityBatch, FoundEntity, SnapshotPage, SnapshotQuery};

use crate::api::ApiError;
use crate::auth::PrivateNamespaces;
use crate::filter::Effort;
use crate::limits::ENTITY_BYTES_PER_UNIT;
use crate::log::AppendRejection;
use crate::model::Timestamp;
use crate::state::{BookkeepingView, NamespaceStatistics, State};
use crate::subscribe::Interest;
use changes::ChangeCollector;
use flux_storage::{CheckpointMeta, LayerError, Sequence};
use recent_sources::RecentSources;
use system_entities::SystemEntities;
use watchers::Watchers;

/// One shard's state, and who watches it.
#[derive(Debug, Default)]
pub struct Engine {
    state: State,
    system_entities: Box<SystemEntities>,
    namespaces: NamespaceStatistics,
    /// The names as the layers keep them.
    bookkeeping_stored: BookkeepingView,
    /// What becomes that when the snapshot is installed.
    bookkeeping_frozen: BookkeepingView,
    /// The latest time of an event. Later events may have earlier times: they fall across
    /// namespaces.
    latest_time: Timestamp,
    /// Sequence of the last event that removed an entity.
    last_delete: Sequence,
    /// Events applied.
    events: u64,
    /// The checkpoint that the state's layers are.
    checkpoint: Option<CheckpointMeta>,
    /// What becomes it when the snapshot is installed.
    frozen_meta: Option<CheckpointMeta>,
    /// The layer that can't be read, if one was met.
    damage: Option<LayerError>,
    /// Events that an earlier repair of the log gave up, as far as they were come across.
    lost: u64,
    /// Bytes of the entities that events were about, since the engine began.
    promoted_bytes: u64,
    /// Units that conditions and filters have looked at, and operations have taken, since the
    /// engine began.
    judged_units: u64,
    /// What the conditions of the write at hand may still look at.
    conditions: Effort,
    watchers: Box<Watchers>,
    changes: ChangeCollector,
    tombstone: Vec<u8>,
    /// Reused: the stored form of an event with an id of its producer.
    stored_form: Vec<u8>,
    recent_ids: Box<RecentIds>,
    /// What the clock of deadlines says, once it runs.
    deadline_now: Option<Timestamp>,
    /// The ids of entities that were bound to a connection and are deleted.
    unbound: Vec<Box<str>>,
    sources: RecentSources,
}

/// A layer of the state can't be read: [`Engine::take_damage`] says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateDamaged;

impl Engine {
    /// Entities that exist.
    pub fn entities(&self) -> usize {
        self.state.len()
    }

    /// Events of this shard, those replayed included.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Units of work that were done besides the bytes of events: for the entities that they were
    /// about, each as often as it was, and for conditions, operations and filters. Only
    /// differences mean something.
    pub fn spent(&self) -> u64 {
        let of_entities = self.promoted_bytes / ENTITY_BYTES_PER_UNIT;
        of_entities + self.judged_units + self.watchers.spent()
    }

    /// The latest time of an event.
    pub fn latest_time(&self) -> Timestamp {
        self.latest_time
    }

    /// The namespaces.
    pub fn namespaces(&self) -> &NamespaceStatistics {
        &self.namespaces
    }

    /// The namespaces.
    pub fn namespaces_mut(&mut self) -> &mut NamespaceStatistics {
        &mut self.namespaces
    }

    /// `core` wants changes as `interest` says.
    ///
    /// # Errors
    /// If that takes one filter too many.
    pub fn subscribe(&mut self, core: u16, interest: &Interest) -> Result<(), ApiError> {
        self.watchers.subscribe(core, interest)
    }

    /// `core` takes one such interest back.
    pub fn unsubscribe(&mut self, core: u16, interest: &Interest) {
        self.watchers.unsubscribe(core, interest);
    }

    /// The changes since the last call that anybody subscribed to.
    pub fn take_changes(&mut self) -> Option<CollectedChanges> {
        self.changes.take()
    }

    /// Takes the directory as it was counted, without what has become private since.
    ///
    /// # Errors
    /// Never, as long as what is kept lies in memory.
    pub fn set_directory(
        &mut self,
        rows: DirectoryRows,
        private: (&PrivateNamespaces, Timestamp),
    ) -> Result<(), LayerError> {
        self.system_entities.set_directory(rows, private)
    }

    /// Takes out of the directory what has become private.
    ///
    /// # Errors
    /// As of [`Engine::set_directory`].
    pub fn close_directory(
        &mut self,
        private: (&PrivateNamespaces, Timestamp),
    ) -> Result<(), LayerError> {
        self.system_entities.close_directory(private)
    }

    /// The changes of what the server keeps itself that anybody subscribed to and may be told of
    /// now.
    pub fn take_system_changes(&mut self, now: Timestamp) -> Option<CollectedChanges> {
        self.system_entities.take_changes(&mut self.watchers, now)
    }

    /// The sources of the events that were stored since the last call.
    pub fn take_sources(&mut self) -> SourceHashes {
        self.sources.take()
    }

    /// What was found to be damaged since the last call: the state has to be made anew from the
    /// log.
    pub fn take_damage(&mut self) -> Option<LayerError> {
        self.damage.take()
    }

    fn damaged(&mut self, error: LayerError) -> AppendRejection {
        let StateDamaged = note_damage(&mut self.damage, error);
        AppendRejection::StateDamaged
    }

    /// True if anybody watches.
    #[cfg(test)]
    pub(crate) fn is_watched(&self) -> bool {
        !self.watchers.is_empty()
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
