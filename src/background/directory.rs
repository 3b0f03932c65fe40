//! Keeps the entity `flux-core/directory` up to date.
//!
//! ```text
//! every shard: a view of its namespaces, a few times a second if something changed ──durable──▶
//! the core that owns `flux-core`: counts on a helper thread ──▶ its shard keeps the entity
//! ```

use super::Moment;
use super::job::{Jobs, Lane, WorkerResult};
use crate::api::directory::DIRECTORY_ID;
use crate::control::Registry;
use crate::engine::DirectoryRows;
use crate::limits::DIRECTORY_INTERVAL_MS;
use crate::log::Log;
use crate::model::place_key;
use crate::model::{CommitPoint, CommitQueue, RESERVED_NAMESPACE, Timestamp};
use crate::report::{self, LogEvent};
use crate::shard::{MailboxSender, Message, Shard, ShardStatistics};

/// See the module. One for each core.
pub(crate) struct Directory {
    core: u16,
    /// The core that owns the entity.
    owner: u16,
    /// What the shard held when it was last looked at.
    seen: Option<(u64, u64)>,
    /// When it is looked at next, monotonic milliseconds.
    look_ms: u64,
    /// A view that is not durable yet, and what it waits for.
    pending: CommitQueue<ShardStatistics>,
    /// Of the core that owns the entity: the newest view of each shard.
    parts: Vec<Option<ShardStatistics>>,
    /// Some of them came since the last count.
    changed: bool,
    /// A helper thread counts.
    counts: bool,
    /// Whose rows are counted apart: as of this revision of the registry.
    revision: u64,
}

impl Directory {
    /// Of one core of so many.
    pub(crate) fn new(core: u16, shards: u16) -> Self {
        Self {
            core,
            owner: place_key(RESERVED_NAMESPACE, shards),
            seen: None,
            look_ms: 0,
            pending: CommitQueue::default(),
            parts: vec![None; usize::from(shards)],
            changed: false,
            counts: false,
            revision: 0,
        }
    }

    /// Takes a view of this core's shard if one is due, and passes it on once it is durable.
    pub(crate) fn look<L: Log>(
        &mut self,
        shard: &Shard<L>,
        sender: &mut MailboxSender,
        now: Moment,
    ) {
        if self.pending.is_empty() && now.ms >= self.look_ms {
            self.look_ms = now.ms + DIRECTORY_INTERVAL_MS;
            let engine = shard.engine();
            let held = (engine.events(), engine.namespaces().registrations());
            if self.seen != Some(held) {
                self.seen = Some(held);
                let statistics = ShardStatistics {
                    entities: engine.entities() as u64,
                    names: engine.namespaces().view(),
                };
                let point = CommitPoint::at(shard.appended());
                self.pending.push(point, statistics);
            }
        }
        if let Some(statistics) = self.pending.pop_due(shard.visible()) {
            if self.owner == self.core {
                self.take(self.core, statistics);
            } else {
                let from = self.core;
                sender.send(self.owner, Message::ShardStatistics { from, statistics });
            }
        }
    }

    /// A shard's view has come to the core that owns the entity.
    pub(crate) fn take(&mut self, shard: u16, statistics: ShardStatistics) {
        if let Some(part) = self.parts.get_mut(usize::from(shard)) {
            *part = Some(statistics);
            self.changed = true;
        }
    }

    /// Begins to count if something came since, or others may read something than when it was
    /// counted last.
    pub(crate) fn start_due<L: Log>(&mut self, registry: &Registry, jobs: &mut Jobs<L>) {
        let revision = registry.revision();
        let is_due = self.changed || self.revision != revision;
        if !is_due || self.counts || self.parts.iter().any(Option::is_none) {
            return;
        }
        self.changed = false;
        self.revision = revision;
        self.counts = true;
        let parts: Vec<ShardStatistics> = self.parts.iter().flatten().cloned().collect();
        let private = registry.private().clone();
        jobs.push(Lane::Directory, move || {
            let entries = parts.iter().flat_map(|part| part.names.entries());
            let entities = parts.iter().map(|part| part.entities).sum();
            let rows = DirectoryRows::count(entries, entities, &private);
            WorkerResult::DirectoryCounted(Box::new(rows))
        });
    }

    /// Stores what was counted.
    pub(crate) fn on_counted<L: Log>(
        &mut self,
        shard: &mut Shard<L>,
        rows: DirectoryRows,
        (registry, now): (&Registry, Timestamp),
    ) {
        self.counts = false;
        let private = (registry.private(), now);
        if let Err(error) = shard.engine_mut().set_directory(rows, private) {
            report::say(
                LogEvent::DirectoryStale,
                &format!("{DIRECTORY_ID} not brought up to date: {error}"),
            );
        }
    }
}
