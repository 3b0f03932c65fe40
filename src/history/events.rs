//! A page of stored events, newest first.
//!
//! A namespace's events lie in one log of each generation, and those of a newer generation all come
//! later, so a page is read from one log after the other, by the log's index. Sequences never
//! change: the next page begins before the last event of this one, whatever was restarted or
//! resharded meanwhile.
//!
//! If retention removed events, whoever asks for what may have been among them is told so instead
//! of being shown the rest: with `since`, `until` or `before` that reach to it at
//! once, without them on the page after the last.

use super::source::{after, removed_of};
use super::{Base, Generation, HistoryError, HistoryLog, Sight, decode, key};
use crate::api::history::{EventsQuery, stored_event};
use crate::limits::{EVENTS_PAGE_BYTES_MAX, HISTORY_ENTITY_EVENTS_MAX};
use crate::model::{EventView, HistoryStart, StoredChange, Timestamp, namespace_of, placement_key};
use crate::state::TimeScope;
use flux_storage::{Record, Sequence};
use std::ops::{ControlFlow, RangeInclusive};

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsPage {
    /// The events, a JSON array.
    pub json: Vec<u8>,
    /// The next page is before this event; `None` if there is none.
    pub next: Option<Sequence>,
}

/// The page that `query` asks for; `sight`: what the reader may see. `generations`: newest first.
/// Blocks.
///
/// # Errors
/// [`HistoryError`].
///
/// # Panics
/// If the log of the query's namespace or entity was left out of a generation.
pub fn events<L: HistoryLog>(
    generations: &[Generation<L>],
    query: &EventsQuery,
    sight: &Sight,
) -> Result<EventsPage, HistoryError> {
    let Some(scope) = QueryScope::of(query) else {
        return Ok(EventsPage {
            json: b"[]".to_vec(),
            next: None,
        });
    };
    let start = sight.start();
    let mut logs: Vec<&L> = Vec::new();
    let mut removed = None;
    for generation in generations {
        let log = generation.log_of(scope.placement);
        logs.push(log);
        if let Some(gone) = removed_of(log, scope.time)? {
            removed = Some(gone).filter(|gone| !gone.is_hidden(start));
            break;
        }
    }
    if let Some(removed) = removed {
        reject_below(removed, query)?;
    }
    let newest = logs.first().map(|log| log.last_sequence());
    if query
        .before
        .zip(newest)
        .is_some_and(|(before, last)| before > last)
    {
        return Err(HistoryError::BeyondEnd);
    }
    let mut page = EventsBuilder::new(query, sight);
    for log in logs {
        let mut before = query.before.unwrap_or(Sequence::new(u64::MAX));
        if let Some(until) = query.until {
            before = before.min(log.after_time(until)?);
        }
        log.read_backward(scope.keys.clone(), before, &mut |record| page.take(&record))?;
        if page.end != End::Open {
            break;
        }
    }
    Ok(page.finish(removed))
}

/// Where the events of a query lie.
struct QueryScope<'q> {
    placement: &'q str,
    time: TimeScope<'q>,
    keys: RangeInclusive<u64>,
}

impl<'q> QueryScope<'q> {
    /// `None` if no event can match.
    fn of(query: &'q EventsQuery) -> Option<Self> {
        match (query.entity.as_deref(), query.namespace.as_deref()) {
            (Some(entity), namespace) => {
                let apart = namespace.is_some_and(|name| namespace_of(entity) != Some(name));
                let key = key::entity_key(entity);
                (!apart).then(|| Self {
                    placement: placement_key(entity),
                    time: TimeScope::of(entity),
                    keys: key..=key,
                })
            }
            (None, Some(name)) => Some(Self {
                placement: name,
                time: TimeScope::Namespace(name),
                keys: key::namespace_keys(name),
            }),
            (None, None) => None,
        }
    }
}

/// Refuses a query that reaches to what was removed. What was accepted at the very time of the last
/// removed event may be among it.
fn reject_below(removed: Base, query: &EventsQuery) -> Result<(), HistoryError> {
    let reaches = |time: Option<Timestamp>| time.is_some_and(|time| time <= removed.time);
    let behind = query
        .before
        .is_some_and(|before| before <= removed.through.next());
    if reaches(query.since) || reaches(query.until) || behind {
        return Err(HistoryError::Removed {
            from: after(removed.time),
        });
    }
    Ok(())
}

/// Why no more is read.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It is.
    Open,
    /// The page is full, or took too long: the next one begins before the last event looked at.
    Full,
    /// What comes is before `since`, or before the history's start.
    Start,
}

/// A page in the making.
struct EventsBuilder<'q> {
    query: &'q EventsQuery,
    sight: &'q Sight,
    json: Vec<u8>,
    count: usize,
    visited: usize,
    /// The last event that was looked at and belongs to this page or to nobody.
    last: Option<Sequence>,
    end: End,
}

impl<'q> EventsBuilder<'q> {
    fn new(query: &'q EventsQuery, sight: &'q Sight) -> Self {
        Self {
            query,
            sight,
            json: Vec::new(),
            count: 0,
            visited: 0,
            last: None,
            end: End::Open,
        }
    }

    fn take(&mut self, record: &Record<'_>) -> Result<ControlFlow<()>, HistoryError> {
        let time = Timestamp::from_micros(record.time_micros);
        // Ids that share a key may be many, if somebody chose them so.
        let exhausted = self.visited >= HISTORY_ENTITY_EVENTS_MAX;
        let change = decode(record)?.filter(|change| self.matches(change.entity_id()));
        // Times never fall within what is asked for, but they may from one key's other ids to it.
        let is_early = |since: Timestamp| time < since;
        let is_hidden = |start: HistoryStart| start.hides(record.sequence, time);
        if change.is_some()
            && (self.query.since.is_some_and(is_early) || self.sight.start().is_some_and(is_hidden))
        {
            self.end = End::Start;
            return Ok(ControlFlow::Break(()));
        }
        let is_in_time = self.query.until.is_none_or(|until| time <= until);
        let event = match change {
            Some(StoredChange::Event(event)) => {
                let is_readable = self.sight.readable.holds(event.entity_id);
                Some(event).filter(|_| is_in_time && is_readable)
            }
            Some(StoredChange::Entity(_)) | None => None,
        };
        if exhausted || event.is_some_and(|event| !self.add(record.sequence, time, &event)) {
            self.end = End::Full;
            return Ok(ControlFlow::Break(()));
        }
        self.visited += 1;
        self.last = Some(record.sequence);
        Ok(ControlFlow::Continue(()))
    }

    /// Adds an event to the page. False if it has no place there.
    fn add(&mut self, sequence: Sequence, time: Timestamp, event: &EventView<'_>) -> bool {
        if self.count >= self.query.limit {
            return false;
        }
        let before = self.json.len();
        self.json.push(if self.count == 0 { b'[' } else { b',' });
        stored_event(&mut self.json, sequence, time, event);
        // A page without an event would lead nowhere.
        if self.json.len() >= EVENTS_PAGE_BYTES_MAX && self.count > 0 {
            self.json.truncate(before);
            return false;
        }
        self.count += 1;
        true
    }

    fn matches(&self, entity_id: &str) -> bool {
        let (entity, namespace) = (&self.query.entity, &self.query.namespace);
        entity.as_deref().is_none_or(|id| entity_id == id)
            && namespace
                .as_deref()
                .is_none_or(|name| namespace_of(entity_id) == Some(name))
    }

    fn finish(mut self, removed: Option<Base>) -> EventsPage {
        let next = match self.end {
            End::Full => self.last,
            End::Open if self.query.since.is_none() => removed.map(|base| base.through.next()),
            End::Open | End::Start => None,
        };
        self.json
            .extend_from_slice(if self.count == 0 { b"[]" } else { b"]" });
        EventsPage {
            json: self.json,
            next,
        }
    }
}
