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
use super::{Base, Generation, HistoryError, HistoryLog, decode, key};
use crate::limits::FORWARD_STEPS_MAX;
use crate::model::{
    Cursor, CursorScope, CursorTooNarrow, Shown, StoredChange, Timestamp, place_key, placement_key,
};
use crate::subscribe::Filter;
use flux_storage::{Record, Sequence};
use std::collections::HashMap;
use std::iter;
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
    /// The place of a cursor for what a pattern covers.
    ///
    /// # Errors
    /// [`CursorTooNarrow`] if the cursor is of one namespace or id, and the pattern covers more or
    /// another.
    pub fn of(cursor: &Cursor, pattern: &Filter) -> Result<Self, CursorTooNarrow> {
        let scope = match pattern {
            Filter::Exact(id) => Some(CursorScope::of(id)),
            Filter::Prefix(_) | Filter::All => pattern
                .concerns_single_placement()
                .map(CursorScope::Namespace),
        };
        match scope {
            Some(scope) => cursor.last_of(scope).map(Self::One),
            None => Ok(Self::Each(cursor.last_of_each()?.into())),
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
    pub pattern: Filter,
    /// Others that are read along.
    pub also: Box<[Filter]>,
    /// What the subscriber has seen.
    pub after: AfterPlace,
    /// What it wants.
    pub wanted: Wanted,
    /// Where it goes on.
    pub place: ForwardPlace,
    /// Bytes that the events of the part may have, as they are stored. The event that would cross
    /// it begins the next part. A larger event is a part of its own.
    pub bytes_max: usize,
}

impl ForwardQuery {
    /// All that it covers.
    fn patterns(&self) -> impl Iterator<Item = &Filter> {
        iter::once(&self.pattern).chain(&self.also)
    }

    fn covers(&self, id: &str) -> bool {
        self.patterns().any(|pattern| pattern.matches(id))
    }

    /// The placement key of all that it covers; `None` if that may lie on any shard.
    pub fn placement(&self) -> Option<&str> {
        let key = self.pattern.concerns_single_placement()?;
        let mut others = self.also.iter().map(Filter::concerns_single_placement);
        others.all(|other| other == Some(key)).then_some(key)
    }

    /// The one entity that it covers, if it is one.
    pub fn entity(&self) -> Option<&str> {
        match &self.pattern {
            Filter::Exact(id) if self.also.iter().all(|other| *other == self.pattern) => Some(id),
            Filter::Exact(_) | Filter::Prefix(_) | Filter::All => None,
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

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForwardPart {
    /// The events, in order, without the entities that an import stored whole.
    pub events: Vec<ForwardEvent>,
    /// Their stored forms.
    pub bytes: Vec<u8>,
    /// The ids of the entities that changed, each once, and whether the entity was deleted, lost a
    /// property, or was replaced whole meanwhile.
    pub ids: Vec<(Box<str>, bool)>,
    /// Where the next part begins; `None` if all was read that there was, of the earlier
    /// generations or of the shard's log.
    pub next: Option<ForwardPlace>,
    /// All of the shard's log through this event was read.
    pub through: Sequence,
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
    (query, shown): (&ForwardQuery, &Shown),
) -> Result<ForwardPart, HistoryError> {
    let Some((newest, older)) = generations.split_first() else {
        return Ok(ForwardPart::default());
    };
    match query.place {
        ForwardPlace::Check => check(newest, older, query),
        ForwardPlace::Live { shard, last } => {
            let log = newest.log(shard);
            let mut reading = Reading::new(query, shown);
            let last = last.max(query.after.floor(shard, newest.shards()));
            let (last, is_end) = reading.read(log, last)?;
            let mut part = reading.finish();
            part.through = last;
            part.next = (!is_end).then_some(ForwardPlace::Live { shard, last });
            Ok(part)
        }
        ForwardPlace::Sealed {
            generation,
            shard,
            last,
        } => sealed(older, (query, shown), (generation, shard, last)),
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
        reject_removed(newest.log(shard), &query.pattern, floor)?;
    }
    let mut is_older = false;
    for generation in older {
        let count = generation.shards();
        for shard in shards_of(query, count) {
            let (log, floor) = (generation.log(shard), query.after.floor(shard, count));
            reject_removed(log, &query.pattern, floor)?;
            is_older |= log.last_sequence() > floor;
        }
    }
    Ok(ForwardPart {
        next: is_older.then_some(ForwardPlace::SEALED),
        ..ForwardPart::default()
    })
}

/// A part of what earlier generations have.
fn sealed<L: HistoryLog>(
    older: &[Generation<L>],
    (query, shown): (&ForwardQuery, &Shown),
    (from_age, from_shard, from_last): (usize, u16, Sequence),
) -> Result<ForwardPart, HistoryError> {
    let mut reading = Reading::new(query, shown);
    for (age, generation) in older.iter().rev().enumerate().skip(from_age) {
        let count = generation.shards();
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
            let (last, is_end) = reading.read(log, last)?;
            if !is_end {
                let mut part = reading.finish();
                part.next = Some(ForwardPlace::Sealed {
                    generation: age,
                    shard,
                    last,
                });
                return Ok(part);
            }
        }
    }
    Ok(reading.finish())
}

/// The logs of a generation that a query concerns.
fn shards_of(query: &ForwardQuery, count: u16) -> std::ops::Range<u16> {
    match query.pattern.concerns_single_placement() {
        None => 0..count,
        Some(key) => {
            let shard = place_key(key, count);
            shard..shard + 1
        }
    }
}

/// Refuses to go on after `last` if something that the pattern covers came next and is gone, or may
/// be gone.
fn reject_removed(
    log: &impl HistoryLog,
    pattern: &Filter,
    last: Sequence,
) -> Result<(), HistoryError> {
    let Some(removed) = log.removed().filter(|removed| removed.through > last) else {
        return Ok(());
    };
    // Retention works what it removes into the base first, which so knows the last event of each
    // namespace. What is wider than a namespace is judged by the whole log.
    let holds_it = |base: &&Base| base.through >= removed.through;
    let known = match log.bases().iter().find(holds_it) {
        Some(base) => log.last_event_in(*base, pattern)?,
        None => None,
    };
    if known.is_some_and(|known| known <= last) {
        return Ok(());
    }
    Err(HistoryError::Removed {
        from: after(removed.time),
    })
}

/// A part in the making.
struct Reading<'q> {
    query: &'q ForwardQuery,
    shown: &'q Shown,
    keys: Option<RangeInclusive<u64>>,
    part: ForwardPart,
    ids: HashMap<Box<str>, bool>,
}

impl<'q> Reading<'q> {
    fn new(query: &'q ForwardQuery, shown: &'q Shown) -> Self {
        let keys = match query.entity() {
            Some(id) => {
                let key = key::entity_key(id);
                Some(key..=key)
            }
            None => query.placement().map(key::namespace_keys),
        };
        Self {
            query,
            shown,
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
        for pattern in self.query.patterns() {
            reject_removed(log, pattern, last)?;
        }
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
        let is_asked_for = self.query.covers(id) && self.query.after.is_before(id, record.sequence);
        if !is_asked_for || self.shown.hides(id, record.sequence, time) {
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
            (Wanted::Ids, change) => {
                let is_replaced = match change {
                    StoredChange::Event(event) => {
                        event.tombstone || event.decided.removed().next().is_some()
                    }
                    StoredChange::Entity(_) => true,
                };
                match self.ids.get_mut(id) {
                    Some(replaced) => *replaced |= is_replaced,
                    None => drop(self.ids.insert(id.into(), is_replaced)),
                }
            }
        }
        Ok(true)
    }

    fn finish(mut self) -> ForwardPart {
        self.part.ids = self.ids.into_iter().collect();
        self.part
    }
}
