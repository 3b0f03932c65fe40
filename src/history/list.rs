//! The entities as they were at an earlier time.
//!
//! ```text
//! generation 3    shard 0: nothing that early ─┐   shard 1: base ── events ──▶ a state
//! generation 2    shard 0, 1, 2, for the ids of generation 3's shard 0:
//!                          base ── events of generation 2 ── events of generation 3 ──▶ a state
//! ```
//!
//! For each log of the newest generation the newest stored state is taken that is not too new, and
//! the events since are applied to it. A log without one goes on in the generation before: the same
//! ids lie there in other logs, and each of those gives a state to which the newer events of its
//! ids are applied. The page is what comes first of all these states, which are made one after the
//! other, so that only one of them is in memory.
//!
//! Within a namespace the index finds the events, newest first; they are buffered and applied in
//! their order. Without one, or if the buffer grows too high, the log is read from the base on.

use super::entities_builder::EntitiesBuilder;
use super::event_buffer::EventBuffer;
use super::source::{Shards, base_at, reject_removed};
use super::{Base, Generation, HistoryError, HistoryLog, Sight, apply, decode, key};
use crate::api::encode;
use crate::api::query::ListQuery;
use crate::filter::Facts;
use crate::limits::{HISTORY_LIST_EVENTS_MAX, HISTORY_STATE_BYTES_MAX, PAGE_ENTITIES_MAX};
use crate::model::{HistoryStart, StoredChange, Timestamp, namespace_of, place_key};
use crate::state::{Query, State, TimeScope};
use flux_storage::Sequence;
use std::ops::{ControlFlow, RangeInclusive};

/// Bytes of events after which the state's size is looked at, which costs a walk over it: an eighth
/// of what it was, within these.
const MEASURE_EVERY_BYTES: RangeInclusive<usize> = 1024 * 1024..=HISTORY_STATE_BYTES_MAX / 16;

/// A page of entities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntitiesPage {
    /// The entities, a JSON array.
    pub json: Vec<u8>,
    /// The last id, if another page follows.
    pub next: Option<Box<str>>,
}

/// The page that `query` asks for, of the state at `at`; events accepted at exactly that time
/// count. `sight`: what the reader may see. `generations`: newest first. Blocks.
///
/// # Errors
/// [`HistoryError`].
///
/// # Panics
/// If a log that the query concerns was left out of a generation.
pub fn list_at<L: HistoryLog>(
    generations: &[Generation<L>],
    (query, sight): (&ListQuery, &Sight),
    at: Timestamp,
) -> Result<EntitiesPage, HistoryError> {
    let prefix = query.prefix.as_deref();
    let mut listing = HistoryListing {
        query,
        sight,
        at,
        namespace: query.namespace.as_deref().or_else(|| namespace_of(prefix?)),
        page: EntitiesBuilder::new(query.limit.unwrap_or(PAGE_ENTITIES_MAX)),
        events: 0,
    };
    listing.descend(generations, &Path::default())?;
    Ok(listing.page.finish())
}

/// Events of a log: after the first sequence, before the second. Some of them may be too late.
#[derive(Debug)]
struct Piece<'a, L> {
    log: &'a L,
    after: Sequence,
    end: Sequence,
}

impl<L> Clone for Piece<'_, L> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<L: HistoryLog> Piece<'_, L> {
    /// How many, at most.
    fn len(&self) -> u64 {
        let first = self.log.first_sequence().max(self.after.next());
        self.end.get().saturating_sub(first.get())
    }
}

/// The way from the newest generation down to a stored state.
struct Path<'a, L> {
    /// What has to be applied to that state, newest first.
    pieces: Vec<Piece<'a, L>>,
    /// This way is about the ids that all of these hold.
    placed: Vec<Shards>,
}

impl<L> Default for Path<'_, L> {
    fn default() -> Self {
        Self {
            pieces: Vec::new(),
            placed: Vec::new(),
        }
    }
}

impl<'a, L> Path<'a, L> {
    fn with(&self, piece: Option<Piece<'a, L>>, placed: Option<Shards>) -> Self {
        let mut path = Self {
            pieces: self.pieces.clone(),
            placed: self.placed.clone(),
        };
        path.pieces.extend(piece);
        path.placed.extend(placed);
        path
    }

    fn holds(&self, id: &str) -> bool {
        self.placed.iter().all(|shards| shards.hold(id))
    }
}

/// A listing in the making.
struct HistoryListing<'q> {
    query: &'q ListQuery,
    sight: &'q Sight,
    at: Timestamp,
    /// If all that matches lies in one.
    namespace: Option<&'q str>,
    page: EntitiesBuilder,
    /// Events read so far.
    events: u64,
}

impl HistoryListing<'_> {
    /// Lists the ids of `path` from what `generations`, newest first, hold of them.
    fn descend<'a, L: HistoryLog>(
        &mut self,
        generations: &'a [Generation<L>],
        path: &Path<'a, L>,
    ) -> Result<(), HistoryError> {
        let Some((generation, older)) = generations.split_first() else {
            return Ok(());
        };
        let count = generation.shards();
        let shards = match self.namespace {
            Some(name) => {
                let shard = place_key(name, count);
                shard..=shard
            }
            None => 0..=count - 1,
        };
        let everything = shards.clone().count();
        // Shards that have nothing this early go on together, so that the older logs are read once
        // for all of them.
        let mut silent: Vec<u16> = Vec::new();
        for shard in shards {
            let log = generation.log(shard);
            let start = self.sight.start();
            let hidden = match start {
                Some(HistoryStart::After(last)) => last,
                Some(HistoryStart::At(_)) | None => Sequence::ZERO,
            };
            let stored = base_at(log, self.scope(), self.at)?;
            // What is hidden is left out whole: later events are not applied to it.
            let base = stored.filter(|base| base.through > hidden);
            let piece = Piece {
                log,
                after: base.map_or(hidden, |base| base.through),
                end: log.after_time(self.at)?,
            };
            if base.is_none() {
                reject_removed(log, self.scope(), start)?;
            }
            // Nothing that is older concerns the reader.
            let is_oldest = older.is_empty()
                || hidden.next() >= log.first_sequence()
                || (stored.is_some() && base.is_none());
            if base.is_none() && !is_oldest && piece.len() == 0 {
                silent.push(shard);
                continue;
            }
            let only = || Shards::new(count, &[shard]);
            if base.is_some() || is_oldest {
                // The ids of a log are its own; only newer logs have to be told.
                let placed = (!path.pieces.is_empty() || !path.placed.is_empty()).then(only);
                self.list((log, base), &path.with(Some(piece), placed))?;
            } else {
                self.descend(older, &path.with(Some(piece), Some(only())))?;
            }
        }
        if silent.is_empty() {
            return Ok(());
        }
        let placed = (silent.len() < everything).then(|| Shards::new(count, &silent));
        self.descend(older, &path.with(None, placed))
    }

    /// Lists the ids of `path`, from a stored state of a log or from nothing.
    fn list<L: HistoryLog>(
        &mut self,
        (log, base): (&L, Option<Base>),
        path: &Path<'_, L>,
    ) -> Result<(), HistoryError> {
        let mut past = StateAt {
            state: base.map_or_else(|| Ok(State::default()), |base| log.state(base))?,
            measured: 0,
            unmeasured: 0,
            buffered: 0,
            advice: self.advice(),
        };
        for piece in path.pieces.iter().rev() {
            self.apply(&mut past, path, piece)?;
        }
        let query = Query {
            namespace: self.query.namespace.as_deref(),
            prefix: self.query.prefix.as_deref(),
            after: self.query.after.as_deref(),
        };
        let mut json = Vec::new();
        for entity in past.state.list(&query) {
            let entity = entity?;
            log.spend(1)?;
            let (sequence, time) = (entity.sequence(), entity.last_updated());
            if !path.holds(entity.id()) || self.sight.hides(entity.id(), sequence, time) {
                continue;
            }
            if let Some(filter) = &self.query.filter
                && !filter.matches(&Facts::of(entity.head()), entity.properties())
            {
                continue;
            }
            json.clear();
            let fields = self.query.fields.as_ref();
            encode::entity(&mut json, entity.head(), entity.properties(), fields);
            if !self.page.offer(entity.id(), &json) {
                break;
            }
        }
        Ok(())
    }

    /// Applies the events of a piece that can show in the page.
    fn apply<L: HistoryLog>(
        &mut self,
        past: &mut StateAt,
        path: &Path<'_, L>,
        piece: &Piece<'_, L>,
    ) -> Result<(), HistoryError> {
        if piece.len() == 0 {
            return Ok(());
        }
        if let Some(name) = self.namespace
            && let Some(event_buffer) = self.event_buffer(name, path, piece)?
        {
            past.buffered = event_buffer.heap_bytes();
            event_buffer.replay(|sequence, time, change| {
                piece.log.spend(1)?;
                past.apply(piece.log, (sequence, time), change)
            })?;
            past.buffered = 0;
            return Ok(());
        }
        self.charge(piece.len())?;
        piece.log.spend(piece.len())?;
        let from = piece.after.next();
        piece.log.read_forward(from, &mut |record| {
            if record.sequence >= piece.end {
                return Ok(ControlFlow::Break(()));
            }
            if record.time_micros <= self.at.as_micros()
                && let Some(change) = decode(&record)?
                && self.is_asked_for(change.entity_id())
                && path.holds(change.entity_id())
            {
                let time = Timestamp::from_micros(record.time_micros);
                past.apply(piece.log, (record.sequence, time), &change)?;
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The events of a piece within a namespace, by the index. `None` if they are too large to
    /// keep.
    fn event_buffer<L: HistoryLog>(
        &mut self,
        namespace: &str,
        path: &Path<'_, L>,
        piece: &Piece<'_, L>,
    ) -> Result<Option<EventBuffer>, HistoryError> {
        let mut event_buffer = EventBuffer::default();
        let mut fits = true;
        let keys = key::namespace_keys(namespace);
        piece.log.read_backward(keys, piece.end, &mut |record| {
            if record.sequence <= piece.after {
                return Ok(ControlFlow::Break(()));
            }
            self.charge(1)?;
            if record.time_micros <= self.at.as_micros()
                && let Some(change) = decode(&record)?
                && self.is_asked_for(change.entity_id())
                && path.holds(change.entity_id())
            {
                fits =
                    event_buffer.push(&record) && piece.log.hold(event_buffer.heap_bytes()).is_ok();
            }
            Ok(if fits {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        })?;
        Ok(fits.then_some(event_buffer))
    }

    fn scope(&self) -> Option<TimeScope<'_>> {
        self.namespace.map(TimeScope::Namespace)
    }

    fn is_asked_for(&self, id: &str) -> bool {
        let ListQuery {
            namespace,
            prefix,
            after,
            ..
        } = self.query;
        let within = namespace
            .as_deref()
            .is_none_or(|name| namespace_of(id) == Some(name));
        within
            && prefix
                .as_deref()
                .is_none_or(|prefix| id.starts_with(prefix))
            && after.as_deref().is_none_or(|after| id > after)
    }

    fn charge(&mut self, events: u64) -> Result<(), HistoryError> {
        self.events = self.events.saturating_add(events);
        if self.events <= HISTORY_LIST_EVENTS_MAX {
            return Ok(());
        }
        Err(HistoryError::TooLong {
            limit: HISTORY_LIST_EVENTS_MAX,
            unit: "events",
            advice: self.advice(),
        })
    }

    fn advice(&self) -> &'static str {
        if self.namespace.is_some() {
            "ask for entities by their ids"
        } else {
            "ask for one `namespace`, or a `prefix` within one"
        }
    }
}

/// A state of the past, watched for its size.
struct StateAt {
    state: State,
    /// Its size when that was last looked at, bytes.
    measured: usize,
    /// Bytes of events since then.
    unmeasured: usize,
    /// Bytes of the events that are about to be applied.
    buffered: usize,
    advice: &'static str,
}

impl StateAt {
    fn apply(
        &mut self,
        log: &impl HistoryLog,
        (sequence, time): (Sequence, Timestamp),
        change: &StoredChange<'_>,
    ) -> Result<(), HistoryError> {
        apply(&mut self.state, (sequence, time), change)?;
        let properties = change.properties();
        self.unmeasured += properties
            .map(|property| property.name.len() + property.value.len())
            .fold(change.entity_id().len(), |sum, len| sum + len);
        let (least, most) = MEASURE_EVERY_BYTES.into_inner();
        if self.unmeasured < (self.measured / 8).clamp(least, most) {
            return Ok(());
        }
        self.unmeasured = 0;
        self.measured = self.state.heap_bytes();
        log.hold(self.buffered + self.measured)?;
        if self.measured <= HISTORY_STATE_BYTES_MAX {
            return Ok(());
        }
        Err(HistoryError::TooLong {
            limit: HISTORY_STATE_BYTES_MAX as u64,
            unit: "bytes of entities",
            advice: self.advice,
        })
    }
}
