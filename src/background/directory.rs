//! Keeps the entity `flux-core/directory` up to date.
//!
//! ```text
//! every shard: a view of its namespaces, a few times a second if something changed ──durable──▶
//! the core that owns `flux-core`: counts on a helper thread ──▶ its shard keeps the entity
//! ```

use super::Moment;
use super::job::{Jobs, Lane, WorkerResult};
use crate::api::directory::{DIRECTORY_ID, Listed, namespaces};
use crate::limits::{DIRECTORY_INTERVAL_MS, DIRECTORY_NAMESPACES_MAX};
use crate::log::Log;
use crate::model::place_key;
use crate::model::{CommitPoint, CommitQueue, Property, RESERVED_NAMESPACE};
use crate::report;
use crate::shard::{MailboxSender, Message, Shard, ShardStatistics};
use crate::state::NamespaceEntry;

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
    shown: DirectoryPage,
}

/// The entity's properties, as JSON.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DirectoryPage {
    namespaces: String,
    total_entities: String,
    total_namespaces: String,
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
            shown: DirectoryPage::default(),
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

    /// Begins to count if something came since.
    pub(crate) fn start_due<L: Log>(&mut self, jobs: &mut Jobs<L>) {
        if !self.changed || self.counts || self.parts.iter().any(Option::is_none) {
            return;
        }
        self.changed = false;
        self.counts = true;
        let parts: Vec<ShardStatistics> = self.parts.iter().flatten().cloned().collect();
        jobs.push(Lane::Directory, move || {
            WorkerResult::DirectoryCounted(count(&parts))
        });
    }

    /// Stores what was counted.
    pub(crate) fn on_counted<L: Log>(
        &mut self,
        shard: &mut Shard<L>,
        page: DirectoryPage,
        now: Moment,
    ) {
        self.counts = false;
        let members = |page: &DirectoryPage| {
            [
                ("namespaces", page.namespaces.clone()),
                ("total_entities", page.total_entities.clone()),
                ("total_namespaces", page.total_namespaces.clone()),
            ]
        };
        let (before, after) = (members(&self.shown), members(&page));
        let changed = before.iter().zip(&after).filter(|(old, new)| old != new);
        let properties: Vec<Property<'_>> = changed
            .map(|(_, (name, value))| Property { name, value })
            .collect();
        if !properties.is_empty()
            && let Err(error) =
                shard
                    .engine_mut()
                    .set_system_entity(DIRECTORY_ID, &properties, now.now)
        {
            report::warning(&format!("{DIRECTORY_ID} not brought up to date: {error}"));
        }
        self.shown = page;
    }
}

fn count(parts: &[ShardStatistics]) -> DirectoryPage {
    let entries = parts.iter().flat_map(|part| part.names.entries());
    let mut listed: Vec<&NamespaceEntry> = entries.collect();
    let total_namespaces = listed.len();
    if listed.len() > DIRECTORY_NAMESPACES_MAX {
        let newest_first = |left: &&NamespaceEntry, right: &&NamespaceEntry| {
            let recency = right.last_updated.cmp(&left.last_updated);
            recency.then_with(|| left.name.cmp(&right.name))
        };
        listed.select_nth_unstable_by(DIRECTORY_NAMESPACES_MAX, newest_first);
        listed.truncate(DIRECTORY_NAMESPACES_MAX);
    }
    listed.sort_unstable_by(|left, right| left.name.cmp(&right.name));
    let mut json = Vec::new();
    let listed = listed.iter().map(|entry| Listed {
        name: &entry.name,
        entities: entry.entities,
        last_updated: (entry.entities > 0).then_some(entry.last_updated),
    });
    namespaces(&mut json, listed);
    let total_entities: u64 = parts.iter().map(|part| part.entities).sum();
    DirectoryPage {
        namespaces: String::from_utf8(json).expect("names are text"),
        total_entities: total_entities.to_string(),
        total_namespaces: total_namespaces.to_string(),
    }
}
