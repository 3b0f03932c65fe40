//! What subscriptions that catch up are told of the state: pages of a snapshot, and entities whole.

use super::{Engine, StateDamaged, note_damage};
use crate::api::encode;
use crate::api::query::Fields;
use crate::auth::Readable;
use crate::filter::{Effort, Facts, Progress};
use crate::limits::{
    FILTER_CHUNK_BYTES_MAX, FILTER_ENTITY_UNITS_MAX, FILTER_SLICE_UNITS, LIST_CHUNK_BYTES_MAX,
    LIST_CHUNK_ENTITIES_MAX, SNAPSHOT_PAGE_BYTES_MAX, SNAPSHOT_VALUE_BYTES_MAX,
};
use crate::model::{EntityDraft, Property, Timestamp, is_reserved, namespace_of};
use crate::state::{Entity, Query};
use crate::subscribe::{Filter, Patterns, unlogged_sequence};
use flux_storage::Sequence;
use std::borrow::Cow;
use std::sync::Arc;

/// What a snapshot shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotQuery {
    /// The entities.
    pub patterns: Patterns,
    /// The properties to keep.
    pub fields: Option<Fields>,
    /// Entities that match only.
    pub filter: Option<Arc<crate::filter::Filter>>,
    /// What its reader may see.
    pub readable: Readable,
}

/// A page of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotPage {
    /// The entities, a JSON array; empty if there are none.
    pub json: Vec<u8>,
    /// The namespaces of these entities.
    pub namespaces: Vec<Box<str>>,
    /// The last id that it covers, shown or not; `None` if it covers all that is left.
    pub last: Option<Box<str>>,
    /// Units of work that the filter took, and what was encoded and left out.
    pub filter_units: u64,
    /// An entity is so large that it can't be judged: there is no page.
    pub is_too_costly: bool,
}

/// Entities as they are, in a form that becomes a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntityBatch {
    /// What became of the ids that were asked for, in order.
    pub found: Vec<FoundEntity>,
    /// The stored forms (`model::EntityView`) of the entities that exist.
    pub bytes: Vec<u8>,
    /// The ids that had no place.
    pub rest: Vec<Box<str>>,
    /// The latest time of an event of the shard.
    pub time: Timestamp,
    /// As of [`SnapshotPage`].
    pub filter_units: u64,
    /// As of [`SnapshotPage`].
    pub is_too_costly: bool,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundEntity {
    /// Its id.
    pub id: Box<str>,
    /// The sequence of its last event, and where it ends in [`EntityBatch::bytes`]; `None` if there
    /// is no such entity.
    pub entity: Option<(Sequence, usize)>,
    /// It matches the filter, if there is one.
    pub matches: bool,
}

/// A page that is being filled.
#[derive(Debug, Default)]
struct Filling {
    page: SnapshotPage,
    /// The last id that it covers.
    last: Option<Box<str>>,
    count: usize,
    bytes: usize,
}

impl Filling {
    fn is_full(&self) -> bool {
        self.page.json.len() >= LIST_CHUNK_BYTES_MAX
            || self.count >= LIST_CHUNK_ENTITIES_MAX
            || self.bytes >= FILTER_CHUNK_BYTES_MAX
            || self.page.filter_units >= FILTER_SLICE_UNITS
    }
}

/// How far a page was filled.
enum Filled {
    /// It has no room for more.
    Page,
    /// With all that a pattern names.
    Pattern,
    /// To entities that its reader may not see: they end with this id.
    UpTo(String),
}

impl Engine {
    /// The next page of a snapshot: the entities after an id, in order. Bounded as a part of a
    /// listing is, and to what one message may hold.
    ///
    /// # Errors
    /// If a layer is damaged.
    pub fn snapshot_page(
        &mut self,
        query: &SnapshotQuery,
        after: Option<&str>,
    ) -> Result<SnapshotPage, StateDamaged> {
        let mut filling = Filling::default();
        'patterns: for pattern in query.patterns.each() {
            let mut from = after.map(Cow::Borrowed);
            loop {
                match self.fill(query, (pattern, from.as_deref()), &mut filling)? {
                    Filled::Page => {
                        filling.page.last = filling.last.take();
                        break 'patterns;
                    }
                    Filled::Pattern => break,
                    Filled::UpTo(hidden) => from = Some(Cow::Owned(hidden)),
                }
            }
        }
        let mut page = filling.page;
        if !page.json.is_empty() {
            page.json.push(b']');
        }
        Ok(page)
    }

    /// Adds the entities of one pattern, those after an id, to a page.
    fn fill(
        &mut self,
        query: &SnapshotQuery,
        (pattern, after): (&Filter, Option<&str>),
        filling: &mut Filling,
    ) -> Result<Filled, StateDamaged> {
        let (prefix, only) = match pattern {
            Filter::All => (None, None),
            Filter::Prefix(prefix) => (Some(&**prefix), None),
            Filter::Exact(id) => (Some(&**id), Some(&**id)),
        };
        let state_query = Query {
            namespace: None,
            prefix,
            after,
        };
        let others = self.state.list(&state_query);
        for entity in self.system_entities.merged(&state_query, others) {
            let entity = entity.map_err(|error| note_damage(&mut self.damage, error))?;
            if only.is_some_and(|only| entity.id() != only) {
                break;
            }
            if filling.is_full() {
                return Ok(Filled::Page);
            }
            if let Some(up_to) = query.readable.hidden_up_to(entity.id()) {
                filling.count += 1;
                filling.last = Some(up_to.as_str().into());
                return Ok(Filled::UpTo(up_to));
            }
            if !add(&mut filling.page, query, entity) {
                return Ok(Filled::Page);
            }
            filling.count += 1;
            filling.bytes += entity.body_bytes();
            filling.last = Some(entity.id().into());
        }
        Ok(Filled::Pattern)
    }

    /// These entities, as many as a part of a listing may hold; one at least.
    ///
    /// # Errors
    /// If a layer is damaged.
    pub fn entities_whole(
        &mut self,
        ids: Vec<Box<str>>,
        filter: Option<&crate::filter::Filter>,
    ) -> Result<EntityBatch, StateDamaged> {
        let mut batch = EntityBatch {
            time: self.latest_time,
            ..EntityBatch::default()
        };
        for id in ids {
            if batch.bytes.len() >= LIST_CHUNK_BYTES_MAX || batch.filter_units >= FILTER_SLICE_UNITS
            {
                batch.rest.push(id);
                continue;
            }
            let is_own = is_reserved(&id);
            let entity = if is_own {
                self.system_entities.get(&id)
            } else {
                self.state.get(&id)
            };
            let entity = entity.map_err(|error| note_damage(&mut self.damage, error))?;
            let matches = match (filter, entity) {
                (Some(filter), Some(entity)) => {
                    let matches = judge(filter, entity, &mut batch.filter_units);
                    batch.is_too_costly |= matches.is_none();
                    matches.unwrap_or(false)
                }
                _ => true,
            };
            let entity = entity.map(|entity| {
                encode_whole(&mut batch.bytes, entity);
                let sequence = if is_own {
                    unlogged_sequence(entity.last_updated())
                } else {
                    entity.sequence()
                };
                (sequence, batch.bytes.len())
            });
            batch.found.push(FoundEntity {
                id,
                entity,
                matches,
            });
        }
        Ok(batch)
    }
}

/// Whether an entity matches; `None` if it is too large for that. Adds what it took to `units`.
fn judge(filter: &crate::filter::Filter, entity: Entity<'_>, units: &mut u64) -> Option<bool> {
    let mut effort = Effort::going_on(FILTER_ENTITY_UNITS_MAX, Progress::default());
    let facts = Facts::of(entity.head());
    let matches = filter.judge(&facts, entity.properties(), &mut effort);
    *units += effort.spent();
    matches
}

/// Adds an entity to a page if it is shown. False if it has no place there.
fn add(page: &mut SnapshotPage, query: &SnapshotQuery, entity: Entity<'_>) -> bool {
    if let Some(filter) = &query.filter {
        let matches = judge(filter, entity, &mut page.filter_units);
        page.is_too_costly |= matches.is_none();
        if matches != Some(true) {
            return true;
        }
    }
    let json = &mut page.json;
    let start = json.len();
    if start > 0 && query.fields.is_none() && start + entity.body_bytes() > SNAPSHOT_PAGE_BYTES_MAX
    {
        // It is not encoded only to be found too large for what is left of the page.
        return false;
    }
    json.push(if start == 0 { b'[' } else { b',' });
    let fields = query.fields.as_ref();
    encode::entity(json, entity.head(), entity.properties(), fields);
    let bytes = json.len() - start - 1;
    if bytes > SNAPSHOT_VALUE_BYTES_MAX {
        json.truncate(start + 1);
        json.shrink_to(SNAPSHOT_PAGE_BYTES_MAX);
        page.filter_units += bytes as u64;
        encode::entity_omitted(json, entity.head(), bytes);
    }
    if start > 0 && json.len() > SNAPSHOT_PAGE_BYTES_MAX {
        json.truncate(start);
        return false;
    }
    if let Some(namespace) = namespace_of(entity.id())
        && page.namespaces.last().map(|last| &**last) != Some(namespace)
    {
        page.namespaces.push(namespace.into());
    }
    true
}

/// Appends the stored form of an entity.
fn encode_whole(out: &mut Vec<u8>, entity: Entity<'_>) {
    let head = entity.head();
    let properties: Vec<Property<'_>> = (entity.properties())
        .map(|(name, value)| Property { name, value })
        .collect();
    let draft = EntityDraft {
        id: head.id,
        version: head.version,
        last_updated: head.last_updated,
        lifetime: head.lifetime,
        properties: &properties,
    };
    draft.encode(out);
}
