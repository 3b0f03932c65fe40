//! Events after a place, oldest first: what a subscriber that resumes has missed.
//!
//! ```text
//! cursor ─▶ Check: do the logs reach that far, and are there older generations to read?
//!        ─▶ Sealed: generation by generation, log by log, in parts
//!        ─▶ Live:   the log of each shard, in parts, until the reader has caught up
//! ```
//!
//! A namespace's events lie in one log of each generation, and those of a newer generation all come
//! later. So what is read in this order is in order within each namespace.
//!
//! A part is bounded in bytes and in steps, so it is a short read, and readers take turns after
//! each part. It says how far it came; the next one goes on there, with a newer reader of the log.
//!
//! What retention has removed is told of, and never passed over. Of a namespace or entity only its
//! own events count: a quiet one goes on where a busy one beside it can't.

use super::source::after;
use super::{Base, Generation, HistoryError, HistoryLog, Sight, decode, key};
use crate::api::query::Fields;
use crate::limits::FORWARD_STEPS_MAX;
use crate::model::{
    Cursor, CursorScope, CursorTooNarrow, EventView, StoredChange, Timestamp, place_key,
    placement_key,
};
use crate::subscribe::{Filter, Patterns};
use flux_storage::{Record, Sequence};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

/// The place that a cursor names, for what one subscription covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterPlace {
    /// After this event, of the one namespace or id that is covered.
    One(Sequence),
    /// After these events, by shard of the time.
    Each(Arc<[Sequence]>),
}

impl Default for AfterPlace {
    /// Before everything.
    fn default() -> Self {
        Self::One(Sequence::ZERO)
    }
}

impl AfterPlace {
    /// The place of a cursor for what patterns cover.
    ///
    /// # Errors
    /// [`CursorTooNarrow`] if the cursor is of one namespace or id, and the patterns cover more or
    /// another.
    pub fn of(cursor: &Cursor, patterns: &Patterns) -> Result<Self, CursorTooNarrow> {
        match patterns.scope() {
            Some(scope) => cursor.last_of(scope).map(Self::One),
            None => Ok(Self::Each(cursor.last_of_each()?.into())),
        }
    }

    /// True if it names a place on each of so many shards, or is of one namespace or id.
    pub fn is_of(&self, count: u16) -> bool {
        match self {
            Self::One(_) => true,
            Self::Each(places) => places.len() == usize::from(count),
        }
    }

    /// Nothing of the log of this shard, one of `count`, lies after the place up to here.
    pub fn floor(&self, shard: u16, count: u16) -> Sequence {
        match self {
            Self::One(last) => *last,
            Self::Each(places) if places.len() == usize::from(count) => {
                places.get(usize::from(shard)).copied().unwrap_or_default()
            }
            Self::Each(places) => places.iter().min().copied().unwrap_or_default(),
        }
    }

    /// True if an event lies after the place.
    pub fn is_before(&self, id: &str, sequence: Sequence) -> bool {
        match self {
            Self::One(last) => sequence > *last,
            Self::Each(places) => {
                let count = u16::try_from(places.len()).unwrap_or(u16::MAX);
                let shard = place_key(placement_key(id), count);
                let place = places.get(usize::from(shard));
                place.is_none_or(|last| sequence > *last)
            }
        }
    }

    /// True if the place lies beyond the end of these logs, by shard of `count`: they are a copy
    /// that is older than the cursor.
    fn is_beyond(&self, count: u16, ends: impl Iterator<Item = (u16, Sequence)>) -> bool {
        match self {
            Self::Each(places) if places.len() != usize::from(count) => {
                let end = ends.map(|(_, end)| end).max().unwrap_or_default();
                places.iter().any(|place| *place > end)
            }
            Self::One(_) | Self::Each(_) => ends
                .into_iter()
                .any(|(shard, end)| self.floor(shard, count) > end),
        }
    }
}

/// Where a reader goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardPlace {
    /// Nowhere: it asks whether the logs reach to its place.
    Check,
    /// In an earlier generation.
    Sealed {
        /// Its age: the oldest is 0.
        generation: usize,
        /// Its shard.
        shard: u16,
        /// After this event of that log, if it is after the reader's place.
        last: Sequence,
    },
    /// In the newest generation, after this event of a shard's log.
    Live {
        /// The shard.
        shard: u16,
        /// The event.
        last: Sequence,
    },
}

impl ForwardPlace {
    /// The beginning of the earlier generations.
    pub const SEALED: Self = Self::Sealed {
        generation: 0,
        shard: 0,
        last: Sequence::ZERO,
    };
}

/// What a reader wants of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of them.
    Events,
    /// The ids of the entities that they changed.
    Ids,
}

/// A part of the events after a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardQuery {
    /// The entities.
    pub patterns: Patterns,
    /// What the subscriber has seen.
    pub after: AfterPlace,
    /// What it wants.
    pub wanted: Wanted,
    /// Events that change none of these properties, ascending, are passed over; `None`: no event
    /// is.
    pub touching: Option<Fields>,
    /// Where it goes on.
    pub place: ForwardPlace,
    /// Bytes that the events of the part may have, as they are stored. The event that would cross
    /// it begins the next part. A larger event is a part of its own.
    pub bytes_max: usize,
}

impl ForwardQuery {
    /// The placement key of all that it covers; `None` if that may lie on any shard.
    pub fn placement(&self) -> Option<&str> {
        self.patterns.concerns_single_placement()
    }

    /// The one entity that it covers, if it is one.
    pub fn entity(&self) -> Option<&str> {
        match &self.patterns {
            Patterns::One(Filter::Exact(id)) => Some(id),
            Patterns::One(_) | Patterns::Several(_) => None,
        }
    }
}

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardEvent {
    /// Its sequence.
    pub sequence: Sequence,
    /// When it was accepted.
    pub time: Timestamp,
    /// Where it ends in [`ForwardPart::bytes`]; it begins where the one before it ends.
    pub end: usize,
}

/// An entity that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardId {
    /// Its id.
    pub id: Box<str>,
    /// It was deleted or replaced whole meanwhile.
    pub is_replaced: bool,
    /// The first of its events.
    pub first: Sequence,
    /// The last of them.
    pub last: Sequence,
    /// The last that is a tombstone, and its time.
    pub deleted: Option<(Sequence, Timestamp)>,
}

/// See the module. Of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForwardPart {
    /// The events, in order, without the entities that an import stored whole.
    pub events: Vec<ForwardEvent>,
    /// Their stored forms.
    pub bytes: Vec<u8>,
    /// The entities that changed, each once.
    pub ids: Vec<ForwardId>,
    /// Where the next part begins; `None` if all was read that there was, of the earlier
    /// generations or of the shard's log.
    pub next: Option<ForwardPlace>,
    /// The shard of its generation whose log was read.
    pub shard: u16,
    /// All of that log through this event was read.
    pub through: Sequence,
    /// Of a part of an earlier generation: the places of a cursor of everything behind it, one for
    /// each shard of that generation.
    pub sealed_places: Option<Box<[Sequence]>>,
    /// Of a check: no event of the earlier generations comes after this one.
    pub sealed_through: Sequence,
    /// Events that were looked at.
    pub steps: u64,
}

/// The next part. `generations`: newest first. Of the newest it has the log that the place names,
/// of the earlier ones the logs that the pattern concerns, and for a check both. Blocks.
///
/// # Errors
/// [`HistoryError::Removed`], [`HistoryError::BeyondEnd`], or what is wrong with a log.
pub fn forward<L: HistoryLog>(
    generations: &[Generation<L>],
    (query, sight): (&ForwardQuery, &Sight),
) -> Result<ForwardPart, HistoryError> {
    let Some((newest, older)) = generations.split_first() else {
        return Ok(ForwardPart::default());
    };
    match query.place {
        ForwardPlace::Check => check(newest, older, query),
        ForwardPlace::Live { shard, last } => {
            let log = newest.log(shard);
            if !query.patterns.concern(shard, newest.shards()) {
                return Ok(ForwardPart {
                    shard,
                    through: log.last_sequence(),
                    ..ForwardPart::default()
                });
            }
            let mut reading = Reading::new(query, sight);
            let last = last.max(query.after.floor(shard, newest.shards()));
            let (last, is_end) = reading.read(log, last)?;
            let mut part = reading.finish();
            part.shard = shard;
            part.through = last;
            part.next = (!is_end).then_some(ForwardPlace::Live { shard, last });
            Ok(part)
        }
        ForwardPlace::Sealed {
            generation,
            shard,
            last,
        } => sealed(older, (query, sight), (generation, shard, last)),
    }
}

/// Whether the logs reach to the place. What [`ForwardPart::next`] says: whether earlier
/// generations have something after it.
fn check<L: HistoryLog>(
    newest: &Generation<L>,
    older: &[Generation<L>],
    query: &ForwardQuery,
) -> Result<ForwardPart, HistoryError> {
    let count = newest.shards();
    let concerned = || shards_of(query, count);
    let ends = concerned().map(|shard| (shard, newest.log(shard).last_sequence()));
    if query.after.is_beyond(count, ends) {
        return Err(HistoryError::BeyondEnd);
    }
    for shard in concerned() {
        let floor = query.after.floor(shard, count);
        reject_removed(newest.log(shard), &query.patterns, floor)?;
    }
    let (mut is_older, mut sealed_through) = (false, Sequence::ZERO);
    for generation in older {
        let count = generation.shards();
        for shard in shards_of(query, count) {
            let (log, floor) = (generation.log(shard), query.after.floor(shard, count));
            reject_removed(log, &query.patterns, floor)?;
            is_older |= log.last_sequence() > floor;
            sealed_through = sealed_through.max(log.last_sequence());
        }
    }
    Ok(ForwardPart {
        next: is_older.then_some(ForwardPlace::SEALED),
        sealed_through,
        ..ForwardPart::default()
    })
}

/// A part of what earlier generations have.
fn sealed<L: HistoryLog>(
    older: &[Generation<L>],
    (query, sight): (&ForwardQuery, &Sight),
    (from_age, from_shard, from_last): (usize, u16, Sequence),
) -> Result<ForwardPart, HistoryError> {
    let mut earlier = Sequence::ZERO;
    for (age, generation) in older.iter().rev().enumerate() {
        let count = generation.shards();
        if age < from_age {
            earlier = earlier.max(end_of(generation, query));
            continue;
        }
        for shard in shards_of(query, count) {
            let mut last = query.after.floor(shard, count);
            if age == from_age {
                if shard < from_shard {
                    continue;
                }
                if shard == from_shard {
                    last = last.max(from_last);
                }
            }
            let log = generation.log(shard);
            if log.last_sequence() <= last {
                continue;
            }
            let mut reading = Reading::new(query, sight);
            let (last, is_end) = reading.read(log, last)?;
            let mut part = reading.finish();
            (part.shard, part.through) = (shard, last);
            part.sealed_places = Some(places(generation, query, (shard, last), earlier));
            part.next = Some(ForwardPlace::Sealed {
                generation: age,
                shard: if is_end { shard + 1 } else { shard },
                last: if is_end { Sequence::ZERO } else { last },
            });
            return Ok(part);
        }
        earlier = earlier.max(end_of(generation, query));
    }
    Ok(ForwardPart::default())
}

/// The last event of a generation's logs that a query concerns.
fn end_of<L: HistoryLog>(generation: &Generation<L>, query: &ForwardQuery) -> Sequence {
    let logs = shards_of(query, generation.shards()).map(|shard| generation.log(shard));
    logs.map(HistoryLog::last_sequence)
        .max()
        .unwrap_or_default()
}

/// The places by shard of a generation of which the logs before `shard` are read, and that one
/// through `last`. `earlier`: the last event of the generations before it, which are read too.
fn places<L: HistoryLog>(
    generation: &Generation<L>,
    query: &ForwardQuery,
    (shard, last): (u16, Sequence),
    earlier: Sequence,
) -> Box<[Sequence]> {
    let count = generation.shards();
    let place = |other: u16| {
        let floor = query.after.floor(other, count).max(earlier);
        match other.cmp(&shard) {
            Ordering::Equal => last,
            Ordering::Less if query.patterns.concern(other, count) => {
                generation.log(other).last_sequence().max(floor)
            }
            Ordering::Less | Ordering::Greater => floor,
        }
    };
    (0..count).map(place).collect()
}

/// The logs of a generation that a query concerns.
fn shards_of(query: &ForwardQuery, count: u16) -> impl Iterator<Item = u16> {
    (0..count).filter(move |shard| query.patterns.concern(*shard, count))
}

/// Refuses to go on after `last` if something that the patterns cover came next and is gone, or may
/// be gone.
fn reject_removed(
    log: &impl HistoryLog,
    patterns: &Patterns,
    last: Sequence,
) -> Result<(), HistoryError> {
    let Some(removed) = log.removed().filter(|removed| removed.through > last) else {
        return Ok(());
    };
    // Retention works what it removes into the base first, which so knows the last event of each
    // namespace. What is wider than a namespace is judged by the whole log.
    let holds_it = |base: &&Base| base.through >= removed.through;
    if let Some(base) = log.bases().iter().find(holds_it) {
        let mut is_kept = true;
        for pattern in patterns.each() {
            let known = log.last_event_in(*base, pattern)?;
            is_kept &= known.is_some_and(|known| known <= last);
        }
        if is_kept {
            return Ok(());
        }
    }
    Err(HistoryError::Removed {
        from: after(removed.time),
    })
}

/// True if an event changes one of these properties, or deletes.
fn touches(event: &EventView<'_>, names: &[Box<str>]) -> bool {
    let is_named = |name: &str| names.binary_search_by(|it| (**it).cmp(name)).is_ok();
    event.tombstone
        || event.properties().any(|property| is_named(property.name))
        || event.decided.removed().any(is_named)
}

/// A part in the making.
struct Reading<'q> {
    query: &'q ForwardQuery,
    sight: &'q Sight,
    keys: Option<RangeInclusive<u64>>,
    part: ForwardPart,
    ids: HashMap<Box<str>, ForwardId>,
}

impl<'q> Reading<'q> {
    fn new(query: &'q ForwardQuery, sight: &'q Sight) -> Self {
        let of_one = |id: &str| key::entity_key(id)..=key::entity_key(id);
        let keys = match (&query.patterns, query.patterns.scope()) {
            (Patterns::One(Filter::Exact(id)), _) => Some(of_one(id)),
            (_, Some(CursorScope::Id(id))) => Some(of_one(id)),
            (_, Some(CursorScope::Namespace(namespace))) => Some(key::namespace_keys(namespace)),
            (_, None) => None,
        };
        Self {
            query,
            sight,
            keys,
            part: ForwardPart::default(),
            ids: HashMap::new(),
        }
    }

    /// Reads a log after an event. How far it came, and whether that is the end.
    fn read(
        &mut self,
        log: &impl HistoryLog,
        last: Sequence,
    ) -> Result<(Sequence, bool), HistoryError> {
        reject_removed(log, &self.query.patterns, last)?;
        let keys = self.keys.clone();
        let (mut read, mut is_full) = (last, false);
        let mut visit = |record: Record<'_>| {
            if !self.take(&record)? {
                is_full = true;
                return Ok(ControlFlow::Break(()));
            }
            read = record.sequence;
            Ok(ControlFlow::Continue(()))
        };
        match keys {
            Some(keys) => log.read_forward_by_key(keys, last.next(), &mut visit)?,
            None => log.read_forward(last.next(), &mut visit)?,
        }
        if is_full {
            Ok((read, false))
        } else {
            Ok((read.max(log.last_sequence()), true))
        }
    }

    /// Takes the next record in; false if it has no place in this part.
    fn take(&mut self, record: &Record<'_>) -> Result<bool, HistoryError> {
        let is_full = self.part.steps >= FORWARD_STEPS_MAX
            || (self.part.bytes.len() + record.payload.len() > self.query.bytes_max
                && !self.part.events.is_empty());
        if is_full {
            return Ok(false);
        }
        self.part.steps += 1;
        let time = Timestamp::from_micros(record.time_micros);
        let Some(change) = decode(record)? else {
            return Ok(true);
        };
        let id = change.entity_id();
        let is_asked_for =
            self.query.patterns.matches(id) && self.query.after.is_before(id, record.sequence);
        if !is_asked_for || self.sight.hides(id, record.sequence, time) {
            return Ok(true);
        }
        if let (Some(names), StoredChange::Event(event)) = (&self.query.touching, &change)
            && !touches(event, names)
        {
            return Ok(true);
        }
        match (self.query.wanted, &change) {
            (Wanted::Events, StoredChange::Event(_)) => {
                self.part.bytes.extend_from_slice(record.payload);
                self.part.events.push(ForwardEvent {
                    sequence: record.sequence,
                    time,
                    end: self.part.bytes.len(),
                });
            }
            (Wanted::Events, StoredChange::Entity(_)) => {}
            (Wanted::Ids, change) => self.take_id((record.sequence, time), change),
        }
        Ok(true)
    }

    fn take_id(&mut self, (sequence, time): (Sequence, Timestamp), change: &StoredChange<'_>) {
        let (is_replaced, is_deleted) = match change {
            StoredChange::Event(event) => (
                event.tombstone || event.decided.removed().next().is_some(),
                event.tombstone,
            ),
            StoredChange::Entity(_) => (true, false),
        };
        let deleted = is_deleted.then_some((sequence, time));
        let id = change.entity_id();
        if let Some(known) = self.ids.get_mut(id) {
            known.is_replaced |= is_replaced;
            known.last = sequence;
            known.deleted = deleted.or(known.deleted);
            return;
        }
        let changed = ForwardId {
            id: id.into(),
            is_replaced,
            first: sequence,
            last: sequence,
            deleted,
        };
        self.ids.insert(id.into(), changed);
    }

    fn finish(mut self) -> ForwardPart {
        self.part.ids = self.ids.into_values().collect();
        self.part
    }
}
