//! The logs and stored states of a data directory, opened for one request after another.
//!
//! The newest generation's logs belong to their shards, which hand out readers of what they hold at
//! the moment. The earlier generations belong to nobody: they are opened here. What was opened is
//! kept for the next request; it is opened anew if retention has removed something of it meanwhile.

use super::files::{FileLog, LiveLog, base_of};
use super::{
    Budget, EntitiesPage, EntityAt, EventsPage, ForwardPart, ForwardPlace, ForwardQuery,
    Generation, HistoryError, Sight, entity_at, events, forward, list_at,
};
use crate::api::history::EventsQuery;
use crate::api::query::{Fields, ListQuery};
use crate::model::{Timestamp, namespace_of, place_key, placement_key};
use crate::state::{TimeScope, is_packed_body, latest_in};
use flux_storage::{
    Checkpoint, CheckpointDir, CheckpointKind, DataDir, LayerError, LogReader, SealedGeneration,
    SealedLog,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// A query of the past, and what its reader may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRead {
    /// The query.
    pub query: HistoryQuery,
    /// What may be seen.
    pub sight: Sight,
}

/// A query of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryQuery {
    /// A page of events.
    Events(EventsQuery),
    /// An entity at a time.
    Entity {
        /// Its id.
        id: Box<str>,
        /// The time.
        at: Timestamp,
        /// The properties to keep.
        fields: Option<Fields>,
    },
    /// A page of the entities at a time.
    List {
        /// Which.
        query: ListQuery,
        /// The time.
        at: Timestamp,
    },
    /// A part of the events after a place.
    Forward(Box<ForwardQuery>),
}

impl HistoryQuery {
    /// The shards of the newest generation, which has so many, whose logs are read.
    pub fn shards(&self, count: u16) -> Range<u16> {
        if let Self::Forward(query) = self {
            match query.place {
                ForwardPlace::Check => {}
                ForwardPlace::Sealed { .. } => return 0..0,
                ForwardPlace::Live { shard, .. } => return shard..shard + 1,
            }
        }
        match self.placement() {
            None => 0..count,
            Some(key) => {
                let shard = place_key(key, count);
                shard..shard + 1
            }
        }
    }

    /// Earlier generations are read.
    fn needs_sealed(&self) -> bool {
        !matches!(self, Self::Forward(query) if matches!(query.place, ForwardPlace::Live { .. }))
    }

    /// The placement key of all that it concerns; `None` if that may lie on any shard.
    pub fn placement(&self) -> Option<&str> {
        match self {
            Self::Entity { id, .. } => Some(placement_key(id)),
            Self::Events(query) => {
                let entity = query.entity.as_deref().map(placement_key);
                entity.or(query.namespace.as_deref())
            }
            Self::List { query, .. } => query
                .namespace
                .as_deref()
                .or_else(|| namespace_of(query.prefix.as_deref()?)),
            Self::Forward(query) => query.placement(),
        }
    }
}

impl HistoryQuery {
    /// True if its placement key is the name of a namespace, and not an id without one.
    pub fn is_of_namespace(&self) -> bool {
        matches!(self.scope(), Some(TimeScope::Namespace(_)))
    }

    /// What its events belong to; `None` if that may be more than one namespace or id.
    fn scope(&self) -> Option<TimeScope<'_>> {
        let entity = match self {
            Self::Entity { id, .. } => Some(&**id),
            Self::Events(query) => query.entity.as_deref(),
            Self::List { .. } => None,
            Self::Forward(query) => query.entity(),
        };
        match entity {
            Some(id) => Some(TimeScope::of(id)),
            None => self.placement().map(TimeScope::Namespace),
        }
    }

    /// A stored state may be needed: to begin with, or to tell what retention removed.
    fn needs_base(&self, reader: &LogReader) -> bool {
        let is_told_apart = match self {
            Self::Forward(query) => query.placement().is_some(),
            Self::Events(_) | Self::Entity { .. } | Self::List { .. } => true,
        };
        self.at().is_some() || (reader.removed().is_some() && is_told_apart)
    }

    /// The time whose state it asks for.
    fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Events(_) | Self::Forward(_) => None,
            Self::Entity { at, .. } | Self::List { at, .. } => Some(*at),
        }
    }
}

/// True if a checkpoint holds nothing later than `at`: of a scope, if one is given.
fn holds_nothing_after(
    checkpoint: &Checkpoint,
    scope: Option<TimeScope<'_>>,
    at: Timestamp,
) -> Result<bool, HistoryError> {
    if checkpoint.meta.time_micros <= at.as_micros() {
        return Ok(true);
    }
    let Some(scope) = scope else {
        return Ok(false);
    };
    let latest = latest_in(&checkpoint.stack, scope)?;
    Ok(latest.is_some_and(|latest| latest <= at))
}

/// What the past says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryResult {
    /// To [`HistoryQuery::Events`].
    Events(EventsPage),
    /// To [`HistoryQuery::Entity`]: its JSON, or `None` if there was none.
    Entity(Option<Vec<u8>>),
    /// To [`HistoryQuery::List`].
    List(EntitiesPage),
    /// To [`HistoryQuery::Forward`].
    Forward(Box<ForwardPart>),
}

/// See the module. Used by one thread at a time.
#[derive(Debug)]
pub struct ReaderCache {
    data: Arc<DataDir>,
    /// The bases of the newest generation's logs, by shard.
    bases: BTreeMap<u16, Option<Checkpoint>>,
    /// The logs of earlier generations, by generation and shard.
    sealed: BTreeMap<(u32, u16), Sealed>,
    /// Layers that were found damaged and, during a request, layers that the disk failed to read.
    /// A state with one of them is not used, unless there is no way around.
    unusable: BTreeSet<Arc<Path>>,
}

/// A log of an earlier generation.
#[derive(Debug)]
struct Sealed {
    reader: LogReader,
    /// The state that it begins with, if there is one.
    base: Option<Checkpoint>,
    /// Somebody has looked for it.
    base_known: bool,
}

impl ReaderCache {
    /// Of a data directory; nothing is opened yet.
    pub const fn new(data: Arc<DataDir>) -> Self {
        Self {
            data,
            bases: BTreeMap::new(),
            sealed: BTreeMap::new(),
            unusable: BTreeSet::new(),
        }
    }

    /// Answers a request. `live`: by shard, the logs of the newest generation that it concerns.
    /// Blocks.
    ///
    /// # Errors
    /// [`HistoryError`]; [`HistoryError::is_moved`] if the request should be made anew, with new
    /// readers.
    pub fn run(
        &mut self,
        (read, budget): (&HistoryRead, Budget),
        live: &[Option<LiveLog>],
    ) -> Result<HistoryResult, HistoryError> {
        let budget = Rc::new(budget);
        let mut has_moved = false;
        let mut unread: Option<LayerError> = None;
        let result = loop {
            match self.attempt((read, &budget), live) {
                Err(error) if error.is_moved() && !has_moved => {
                    has_moved = true;
                    self.sealed.clear();
                }
                // The base, an older checkpoint or the log alone serves instead.
                Err(HistoryError::Layer(error))
                    if self.unusable.insert(Arc::clone(&error.path)) =>
                {
                    if !error.is_damage() {
                        unread.get_or_insert(*error);
                    }
                }
                result => break result,
            }
        };
        let Some(unread) = unread else { return result };
        // What could not be read for one request may be for the next.
        self.unusable.clear();
        match result {
            // With that state it might have taken less.
            Err(HistoryError::TooLong { .. }) => Err(unread.into()),
            result => result,
        }
    }

    fn attempt(
        &mut self,
        (read, budget): (&HistoryRead, &Rc<Budget>),
        live: &[Option<LiveLog>],
    ) -> Result<HistoryResult, HistoryError> {
        let HistoryRead { query, sight } = read;
        let generations = self.open((query, budget), live)?;
        Ok(match query {
            HistoryQuery::Events(query) => {
                HistoryResult::Events(events(&generations, query, sight)?)
            }
            HistoryQuery::Entity { id, at, fields } => {
                let query = EntityAt {
                    id,
                    at: *at,
                    fields: fields.as_ref(),
                    start: sight.start(),
                };
                HistoryResult::Entity(entity_at(&generations, query)?)
            }
            HistoryQuery::List { query, at } => {
                HistoryResult::List(list_at(&generations, (query, sight), *at)?)
            }
            HistoryQuery::Forward(query) => {
                let part = forward(&generations, (query, sight))?;
                HistoryResult::Forward(Box::new(part))
            }
        })
    }

    /// All logs that a request concerns, newest generation first.
    fn open(
        &mut self,
        (query, budget): (&HistoryQuery, &Rc<Budget>),
        live: &[Option<LiveLog>],
    ) -> Result<Vec<Generation<FileLog>>, HistoryError> {
        let mut newest = Vec::with_capacity(live.len());
        for (shard, log) in (0..).zip(live) {
            let log = log
                .as_ref()
                .map(|log| self.open_live((shard, log), (query, budget)));
            newest.push(log.transpose()?);
        }
        let mut generations = vec![Generation::new(newest)];
        if !query.needs_sealed() {
            return Ok(generations);
        }
        let data = Arc::clone(&self.data);
        for generation in data.sealed_generations().iter().rev() {
            generations.push(self.open_sealed(generation, (query, budget))?);
        }
        Ok(generations)
    }

    /// A log of the newest generation, with the states that the answer may begin with.
    fn open_live(
        &mut self,
        (shard, log): (u16, &LiveLog),
        (query, budget): (&HistoryQuery, &Rc<Budget>),
    ) -> Result<FileLog, HistoryError> {
        let mut stored = Vec::new();
        if query.needs_base(&log.reader) {
            let known = self.bases.get(&shard);
            // Retention advances the base before it removes what leads to it.
            let covers = |base: &Option<Checkpoint>| match base {
                Some(base) => base.meta.through.next() >= log.reader.first_sequence(),
                None => log.reader.removed().is_none(),
            };
            if !known.is_some_and(covers) {
                let base = base_of(&log.reader, &log.states.base)?;
                self.bases.insert(shard, base);
            }
            stored.extend(self.bases.get(&shard).cloned().flatten());
        }
        if let (Some(at), Some(newest)) = (query.at(), &log.checkpoint) {
            if self.is_usable(newest) && holds_nothing_after(newest, query.scope(), at)? {
                stored.push(newest.clone());
            } else {
                // An older one may be early enough.
                stored.extend(log.states.checkpoints.all()?);
            }
        }
        self.leave_out_unusable(&mut stored, &log.reader);
        Ok(FileLog::new(log.reader.clone(), stored, budget))
    }

    /// Whether no layer of a state is known to be unusable.
    fn is_usable(&self, state: &Checkpoint) -> bool {
        let mut unusable = self.unusable.iter();
        !unusable.any(|path| state.stack.has_layer(path))
    }

    /// Leaves out the states with an unusable layer, since others or the log lead to the same. The
    /// earliest of a log that retention shortened has no substitute.
    fn leave_out_unusable(&self, stored: &mut Vec<Checkpoint>, reader: &LogReader) {
        let needed = reader.removed().and_then(|_| {
            let ends = stored.iter().map(|state| state.meta.through);
            ends.min()
        });
        stored.retain(|state| self.is_usable(state) || Some(state.meta.through) == needed);
    }

    fn open_sealed(
        &mut self,
        generation: &SealedGeneration,
        (query, budget): (&HistoryQuery, &Rc<Budget>),
    ) -> Result<Generation<FileLog>, HistoryError> {
        let count = u16::try_from(generation.logs().len()).unwrap_or(u16::MAX);
        let only = query.placement().map(|key| place_key(key, count));
        let mut logs = Vec::with_capacity(generation.logs().len());
        for (shard, log) in (0..).zip(generation.logs()) {
            let concerned = only.is_none_or(|only| only == shard);
            let opened = concerned.then(|| {
                let place = (generation.generation(), shard);
                self.open_sealed_log((place, log), (query, budget))
            });
            logs.push(opened.transpose()?);
        }
        Ok(Generation::new(logs))
    }

    fn open_sealed_log(
        &mut self,
        (place, log): ((u32, u16), &SealedLog),
        (query, budget): (&HistoryQuery, &Rc<Budget>),
    ) -> Result<FileLog, HistoryError> {
        let mut sealed = match self.sealed.remove(&place) {
            Some(sealed) => sealed,
            None => Sealed {
                reader: log.reader()?,
                base: None,
                base_known: false,
            },
        };
        if query.needs_base(&sealed.reader) && !sealed.base_known {
            let owner = log.origin()?.owner;
            let dir =
                CheckpointDir::new(log.base_path(), owner, CheckpointKind::Base, is_packed_body);
            sealed.base = base_of(&sealed.reader, &dir.view())?;
            sealed.base_known = true;
        }
        let mut base = sealed.base.iter().cloned().collect();
        self.leave_out_unusable(&mut base, &sealed.reader);
        let opened = FileLog::new(sealed.reader.clone(), base, budget);
        self.sealed.insert(place, sealed);
        Ok(opened)
    }
}
