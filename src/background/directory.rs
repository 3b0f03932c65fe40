//! The upkeep of `flux-core/directory`.
//!
//! ```text
//! every shard: a view of its namespaces, a few times a second where something changed ──durable──▶
//! the core that owns `flux-core`: counts and lists on a helper thread ──▶ its shard keeps the entity
//! ```

use super::Turn;
use crate::api::directory::{DIRECTORY_ID, Listed, namespaces};
use crate::limits::{DIRECTORY_INTERVAL_MS, DIRECTORY_NAMESPACES_MAX};
use crate::model::place_key;
use crate::model::{CommitPoint, CommitQueue, Property, RESERVED_NAMESPACE};
use crate::reactor::runtime::spawn_blocking;
use crate::report;
use crate::shard::{MailboxSender, Message, ShardStatistics};
use crate::state::NameEntry;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

/// See the module. One for each core.
pub(crate) struct Directory {
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
    task: Option<Pin<Box<dyn Future<Output = Page>>>>,
    shown: Page,
}

/// The entity's properties, as JSON.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    namespaces: String,
    total_entities: String,
    total_namespaces: String,
}

impl Directory {
    pub(crate) fn new(shards: u16) -> Self {
        Self {
            seen: None,
            look_ms: 0,
            pending: CommitQueue::default(),
            parts: vec![None; usize::from(shards)],
            changed: false,
            task: None,
            shown: Page::default(),
        }
    }

    /// True while a helper thread counts.
    pub(crate) fn is_waiting(&self) -> bool {
        self.task.is_some()
    }

    /// Takes a view of this core's shard where one is due, and passes it on once it is durable.
    pub(crate) fn look(&mut self, turn: &Turn<'_>, sender: &mut MailboxSender) {
        let Some(shard) = &*turn.shard else {
            return;
        };
        if self.pending.is_empty() && turn.now_ms >= self.look_ms {
            self.look_ms = turn.now_ms + DIRECTORY_INTERVAL_MS;
            let engine = shard.engine();
            let now = (engine.events(), engine.names().registrations());
            if self.seen != Some(now) {
                self.seen = Some(now);
                let statistics = ShardStatistics {
                    entities: engine.entities() as u64,
                    names: engine.names().view(),
                };
                let point = CommitPoint::at(shard.appended());
                self.pending.push(point, statistics);
            }
        }
        if let Some(statistics) = self.pending.pop_due(shard.visible()) {
            let owner = place_key(RESERVED_NAMESPACE, turn.shards);
            if owner == turn.core {
                self.take(turn.core, statistics);
            } else {
                let from = turn.core;
                sender.send(owner, Message::ShardStatistics { from, statistics });
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

    /// Begins to count where something came since.
    pub(crate) fn start_due(&mut self) {
        if !self.changed || self.task.is_some() || self.parts.iter().any(Option::is_none) {
            return;
        }
        self.changed = false;
        let parts: Vec<ShardStatistics> = self.parts.iter().flatten().cloned().collect();
        self.task = Some(spawn_blocking(move || count(&parts)));
    }

    /// Takes what was counted. True where there was anything.
    pub(crate) fn poll(&mut self, turn: &mut Turn<'_>, context: &mut Context<'_>) -> bool {
        let Some(task) = &mut self.task else {
            return false;
        };
        let Poll::Ready(page) = task.as_mut().poll(context) else {
            return false;
        };
        self.task = None;
        self.keep(turn, page);
        true
    }

    fn keep(&mut self, turn: &mut Turn<'_>, page: Page) {
        let members = |page: &Page| {
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
        let now = turn.now;
        if let Some(shard) = turn.shard
            && !properties.is_empty()
            && let Err(error) = shard.engine_mut().keep(DIRECTORY_ID, &properties, now)
        {
            report::warning(&format!("{DIRECTORY_ID} not brought up to date: {error}"));
        }
        self.shown = page;
        turn.counters.has_directory.store(true, Relaxed);
    }
}

fn count(parts: &[ShardStatistics]) -> Page {
    let entries = parts.iter().flat_map(|part| part.names.entries());
    let mut listed: Vec<&NameEntry> = entries.collect();
    let total_namespaces = listed.len();
    if listed.len() > DIRECTORY_NAMESPACES_MAX {
        let newest_first = |left: &&NameEntry, right: &&NameEntry| {
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
    Page {
        namespaces: String::from_utf8(json).expect("names are text"),
        total_entities: total_entities.to_string(),
        total_namespaces: total_namespaces.to_string(),
    }
}
