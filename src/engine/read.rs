//! Reading entities and listing them. Each answer comes with its commit point.

use super::directory::OwnDirectory;
use super::{Chunk, ChunkBounds, Engine, Judged, NamespaceCounts, StateDamaged, note_damage};
use crate::api::encode;
use crate::api::query::{Fields, ListQuery};
use crate::auth::Readable;
use crate::filter::{Effort, Facts, Filter};
use crate::limits::{FILTER_SLICE_UNITS, LIST_SKIPS_MAX};
use crate::model::{CommitPoint, EntityTag, is_reserved};
use crate::state::{Entity, Query};

/// Ids, and where to go on if that was not all.
type Collected = (Vec<Box<str>>, Option<Box<str>>);

/// An entity that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadAnswer {
    /// Its JSON is written.
    Entity {
        /// Its entity tag.
        tag: EntityTag,
    },
    /// It is larger than was asked for; nothing is written.
    Large {
        /// About the bytes of its JSON.
        bytes: usize,
    },
}

impl Engine {
    /// Writes an entity's JSON to `out` unless it is of more than about `bytes_max` bytes. Returns
    /// what was found (`None` and nothing written if there is no such entity) and the commit point
    /// of the answer.
    ///
    /// # Errors
    /// If the layer that may hold it is damaged.
    pub fn read(
        &mut self,
        id: &str,
        (fields, bytes_max): (Option<&Fields>, usize),
        out: &mut Vec<u8>,
    ) -> Result<(Option<ReadAnswer>, CommitPoint), StateDamaged> {
        let entity = if is_reserved(id) {
            self.system_entities.get(id)
        } else {
            self.state.get(id)
        };
        let entity = entity.map_err(|error| note_damage(&mut self.damage, error))?;
        Ok(match entity {
            None => (None, CommitPoint::at(self.last_delete)),
            Some(entity) if entity.body_bytes() > bytes_max => {
                let bytes = entity.body_bytes();
                (Some(ReadAnswer::Large { bytes }), commit_point_of(entity))
            }
            Some(entity) => {
                encode::entity(out, entity.head(), entity.properties(), fields);
                let tag = entity.tag();
                (Some(ReadAnswer::Entity { tag }), commit_point_of(entity))
            }
        })
    }

    /// The JSON of an entity that the server keeps itself, as this reader is shown it; `None` if it
    /// is shown what everyone is.
    ///
    /// # Errors
    /// As of [`Engine::read`].
    pub fn read_own(
        &mut self,
        id: &str,
        (fields, readable): (Option<&Fields>, &Readable),
        out: &mut Vec<u8>,
    ) -> Result<Option<EntityTag>, StateDamaged> {
        let entity = self.system_entities.get(id);
        let entity = entity.map_err(|error| note_damage(&mut self.damage, error))?;
        let own = entity.and_then(|entity| self.system_entities.shown_to(readable, entity));
        Ok(own.map(|own| {
            encode::entity(out, own.head(), own.properties(), fields);
            own.tag()
        }))
    }

    /// The next part of a listing, and its commit point. Bounded in entities and bytes, so that one
    /// request can't keep the core from the others; with a filter, in what it looks at as well. It
    /// ends before an entity that is larger than was asked for. What the reader may not see is
    /// passed over, a namespace at a time.
    ///
    /// # Errors
    /// If a layer is damaged.
    pub fn list(
        &mut self,
        (query, readable): (&ListQuery, &Readable),
        after: Option<&str>,
        bounds: ChunkBounds,
    ) -> Result<(Chunk, CommitPoint), StateDamaged> {
        let mut point = CommitPoint::at(self.last_delete);
        let mut chunk = Chunk::default();
        let mut hidden: Option<String> = None;
        for _ in 0..LIST_SKIPS_MAX {
            let count = chunk.ends.len();
            let after = hidden.as_deref().or(after);
            let listed = (&mut chunk, &mut point);
            let Some(up_to) = self.list_shown((query, readable), after, bounds, listed)? else {
                if !chunk.last && chunk.ends.len() == count && chunk.passed.is_none() {
                    chunk.passed_hidden = hidden.is_some();
                    chunk.passed = hidden.map(Box::from);
                }
                return Ok((chunk, point));
            };
            hidden = Some(up_to);
        }
        chunk.passed_hidden = true;
        chunk.passed = hidden.map(Box::from);
        Ok((chunk, point))
    }

    /// Goes on with a part up to what is hidden from the reader, and returns how far that reaches;
    /// `None` if the part ends before.
    fn list_shown(
        &mut self,
        (query, readable): (&ListQuery, &Readable),
        after: Option<&str>,
        bounds: ChunkBounds,
        (chunk, point): (&mut Chunk, &mut CommitPoint),
    ) -> Result<Option<String>, StateDamaged> {
        let mut passed = None;
        let query_of_state = state_query(query, after);
        let others = self.state.list(&query_of_state);
        for entity in self.system_entities.merged(&query_of_state, others) {
            let entity = entity.map_err(|error| note_damage(&mut self.damage, error))?;
            if let Some(up_to) = readable.hidden_up_to(entity.id()) {
                return Ok(Some(up_to));
            }
            let own = self.system_entities.shown_to(readable, entity);
            if chunk.is_full(bounds) || (query.filter.is_some() && chunk.has_examined(bounds)) {
                chunk.passed = passed.map(Box::from);
                return Ok(None);
            }
            let mut judged = None;
            if let Some(filter) = &query.filter {
                let matches = match &own {
                    None => {
                        let (matches, progress) = examine(chunk, filter, (entity, bounds.judged));
                        judged = Some(progress);
                        matches
                    }
                    // It is of a bounded size.
                    Some(own) => Some(filter.matches(&Facts::of(own.head()), own.properties())),
                };
                let Some(matches) = matches else {
                    chunk.judged = judged;
                    chunk.passed = passed.map(Box::from);
                    return Ok(None);
                };
                chunk.examined += 1;
                chunk.examined_bytes += entity.body_bytes();
                if !matches {
                    passed = Some(entity.id());
                    *point = (*point).max(commit_point_of(entity));
                    continue;
                }
            }
            let bytes = own
                .as_ref()
                .map_or_else(|| entity.body_bytes(), OwnDirectory::bytes);
            if bytes > bounds.entity_bytes_max {
                chunk.large = chunk.ends.is_empty().then_some(bytes);
                // It is not judged again.
                chunk.judged = judged;
                chunk.passed = passed.map(Box::from);
                return Ok(None);
            }
            passed = None;
            chunk.make_room(query.limit, bytes);
            chunk.json.push(b',');
            let fields = query.fields.as_ref();
            match &own {
                None => {
                    encode::entity(&mut chunk.json, entity.head(), entity.properties(), fields);
                }
                Some(own) => {
                    encode::entity(&mut chunk.json, own.head(), own.properties(), fields);
                }
            }
            chunk.ids.push_str(entity.id());
            chunk.ends.push((chunk.json.len(), chunk.ids.len()));
            *point = (*point).max(commit_point_of(entity));
        }
        chunk.last = true;
        chunk.passed = passed.map(Box::from);
        Ok(None)
    }

    /// At most `max` ids that match and that a client may delete and sees, ascending; and where to
    /// go on, if so many were passed over that it did not come to the end.
    ///
    /// # Errors
    /// If a layer is damaged.
    pub fn collect(
        &mut self,
        (query, seen): (&ListQuery, &Readable),
        after: Option<&str>,
        max: usize,
    ) -> Result<Collected, StateDamaged> {
        let mut ids: Vec<Box<str>> = Vec::new();
        let mut hidden: Option<String> = None;
        for _ in 0..LIST_SKIPS_MAX {
            let from = state_query(query, hidden.as_deref().or(after));
            let mut up_to = None;
            for entity in self.state.list(&from) {
                let entity = entity.map_err(|error| note_damage(&mut self.damage, error))?;
                if ids.len() == max {
                    break;
                }
                up_to = seen.hidden_up_to(entity.id());
                if up_to.is_some() {
                    break;
                }
                if !is_reserved(entity.id()) {
                    ids.push(entity.id().into());
                }
            }
            let Some(up_to) = up_to else {
                return Ok((ids, None));
            };
            hidden = Some(up_to);
        }
        Ok((ids, hidden.map(Box::from)))
    }

    /// What a namespace holds.
    pub fn namespace_counts(&self, namespace: &str) -> NamespaceCounts {
        let entry = self
            .namespaces
            .get(namespace)
            .filter(|entry| entry.entities > 0);
        entry.map_or_else(NamespaceCounts::default, |entry| NamespaceCounts {
            entities: entry.entities,
            last_updated: Some(entry.last_updated),
        })
    }

    /// What must be durable before an absence may be reported.
    pub fn absence_point(&self) -> CommitPoint {
        CommitPoint::at(self.last_delete)
    }
}

/// What has to be durable before this entity may be seen. The server's own says only what is.
fn commit_point_of(entity: Entity<'_>) -> CommitPoint {
    if is_reserved(entity.id()) {
        CommitPoint::NONE
    } else {
        CommitPoint::at(entity.sequence())
    }
}

/// Asks a filter about the next entity of a part of a listing; `before`: what the last part has
/// found out of the first one.
fn examine(
    chunk: &mut Chunk,
    filter: &Filter,
    (entity, before): (Entity<'_>, Option<Judged>),
) -> (Option<bool>, Judged) {
    let before = before.filter(|it| it.of == entity.sequence());
    let units = FILTER_SLICE_UNITS.saturating_sub(chunk.filter_units);
    let progress = before.map(|it| it.progress).unwrap_or_default();
    let mut effort = Effort::going_on(units, progress);
    let facts = Facts::of(entity.head());
    let matches = filter.judge(&facts, entity.properties(), &mut effort);
    chunk.filter_units += effort.spent();
    let judged = Judged {
        of: entity.sequence(),
        progress: effort.progress(),
    };
    (matches, judged)
}

fn state_query<'q>(query: &'q ListQuery, after: Option<&'q str>) -> Query<'q> {
    Query {
        namespace: query.namespace.as_deref(),
        prefix: query.prefix.as_deref(),
        after: after.or(query.after.as_deref()),
    }
}
