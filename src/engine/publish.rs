//! Publishing and deleting: decide → append → apply → match subscribers.

use super::Engine;
use super::changes::AppliedEvent;
use super::decide::holds;
use super::operate::Results;
use super::recent_ids::{Recalled, RecentIds, SentHash};
use crate::api::error::CurrentEntity;
use crate::api::{ApiError, encode};
use crate::filter::Effort;
use crate::limits::{CONDITION_UNITS_MAX, OPERATION_BYTE_UNITS};
use crate::log::{AppendRejection, Log};
use crate::model::{
    CommitPoint, DecidedDraft, EndCause, EventDraft, EventId, EventView, LifetimeChange,
    PackedEvent, Published, Stored, TermKind, Terms, Timestamp,
};
use crate::state::{Applied, Entity, Promoted};
use flux_storage::{LayerError, ReplayError, Sequence, StorageError};
use std::convert::Infallible;

/// Stream of the tombstones that the delete calls make.
const DELETE_STREAM: &str = "flux.delete";
/// Source of the tombstones that the server makes.
const SERVER_SOURCE: &str = "flux";

/// Room that is kept for the stored form of an event, bytes.
const STORED_FORM_BYTES_KEPT_MAX: usize = 64 * 1024;

/// A write whose turn has come.
#[derive(Debug, Clone, Copy)]
pub struct Write<'w> {
    /// The event (encoded by [`EventDraft::encode`]) and its terms.
    pub packed: PackedEvent<'w>,
    /// What is remembered of it when it is stored, if its producer gave it an id.
    pub sent: Option<SentHash>,
}

/// Why an event was not stored. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishError {
    /// The log did not take it.
    Append(AppendRejection),
    /// It is refused for what it says.
    Refused {
        /// Why.
        error: ApiError,
        /// What must be durable before that may be told.
        point: CommitPoint,
    },
}

impl PublishError {
    /// Bytes of the entity that it shows.
    pub fn shown_bytes(&self) -> usize {
        match self {
            Self::Refused {
                error:
                    ApiError::PreconditionFailed {
                        entity: CurrentEntity::Json(json),
                    },
                ..
            } => json.len(),
            Self::Refused { .. } | Self::Append(_) => 0,
        }
    }
}

impl From<AppendRejection> for PublishError {
    fn from(rejection: AppendRejection) -> Self {
        Self::Append(rejection)
    }
}

impl PublishError {
    /// For a reason that says nothing of the state.
    pub const fn refused(error: ApiError) -> Self {
        Self::Refused {
            error,
            point: CommitPoint::NONE,
        }
    }
}

impl Engine {
    /// What is known of an event that is about to be stored: it may have been stored before.
    pub fn recall(&self, event: &[u8], log: &impl Log, now: Timestamp) -> Recalled {
        self.recent_ids.recall(event, log.appended(), now)
    }

    /// What is known of the ids that producers give to events.
    pub fn recent_ids_mut(&mut self) -> &mut RecentIds {
        &mut self.recent_ids
    }

    /// Remembers from now on the ids that producers give to events. Those of the log are read, as
    /// far back as they are known; `ids`: those of earlier logs. Calls `seen` for each event.
    /// Blocks.
    ///
    /// # Errors
    /// If the log can't be read.
    pub fn remember_ids(
        &mut self,
        log: &mut impl Log,
        ids: RecentIds,
        now: Timestamp,
        seen: &mut dyn FnMut(),
    ) -> Result<(), StorageError> {
        *self.recent_ids = ids;
        let window = self.recent_ids.window();
        let (first, since) = (window.first(log.appended()), window.since(now));
        if first > log.appended() {
            return Ok(());
        }
        let noted = log.replay_from(first, |record| {
            seen();
            if record.time_micros >= since.as_micros() {
                self.recent_ids.note(&record);
            }
            Ok::<(), Infallible>(())
        });
        match noted {
            Ok(()) => Ok(()),
            Err(ReplayError::Storage(error)) => Err(error),
            Err(ReplayError::Visit(never)) => match never {},
        }
    }

    /// Stores one event, if its conditions hold, and applies it.
    ///
    /// # Errors
    /// [`PublishError`], if nothing changed.
    ///
    /// # Panics
    /// If the bytes are no event.
    pub fn publish(
        &mut self,
        log: &mut impl Log,
        now: Timestamp,
        write: Write<'_>,
    ) -> Result<Published, PublishError> {
        self.begin_conditions();
        let append = |time, bytes: &[u8]| log.append(time, bytes);
        let (published, time) = self.publish_by(append, now, write)?;
        if let Some(hash) = write.sent {
            let known = (published.stored, published.properties.is_some());
            self.recent_ids.remember(hash, known, time);
        }
        Ok(published)
    }

    /// The conditions of another write may look at as much as those of one may.
    pub(super) fn begin_conditions(&mut self) {
        self.conditions = Effort::strict(CONDITION_UNITS_MAX);
    }

    /// [`Engine::publish`], with what appends to the log, and without remembering the event's id.
    /// Returns the event's time too.
    #[expect(clippy::unwrap_in_result, reason = "a caller's bug, not an outcome")]
    #[inline]
    pub(super) fn publish_by(
        &mut self,
        append: impl FnMut(i64, &[u8]) -> Result<Sequence, AppendRejection>,
        now: Timestamp,
        write: Write<'_>,
    ) -> Result<(Published, Timestamp), PublishError> {
        let Write { packed, sent } = write;
        let event =
            EventView::decode_encoded(packed.event).expect("EventDraft::encode wrote these bytes");
        let promoted = self.promote(&event)?;
        let mut asked = self.check_terms(promoted, packed.terms)?;
        if event.tombstone {
            asked = Asked::default();
        }
        if sent.is_none() && !asked.operations && !asked.lifetime {
            return self.store(append, now, (promoted, packed.event, &event));
        }
        self.publish_decided(append, now, (promoted, asked, &event, &write))
    }

    /// The rest of [`Engine::publish_by`], of an event to which something is added.
    #[inline(never)]
    fn publish_decided(
        &mut self,
        append: impl FnMut(i64, &[u8]) -> Result<Sequence, AppendRejection>,
        now: Timestamp,
        (promoted, asked, event, write): (Promoted, Asked, &EventView<'_>, &Write<'_>),
    ) -> Result<(Published, Timestamp), PublishError> {
        let mut stored_form = std::mem::take(&mut self.stored_form);
        stored_form.clear();
        let published = self
            .encode_decided(promoted, (event, write, asked, now), &mut stored_form)
            .and_then(|()| {
                let event = EventView::decode_encoded(&stored_form).expect("it was just encoded");
                let (mut published, time) =
                    self.store(append, now, (promoted, &stored_form, &event))?;
                if asked.operations {
                    self.judged_units += stored_form.len() as u64 * OPERATION_BYTE_UNITS;
                    published.properties = Some(encode::results(event.results()));
                }
                Ok((published, time))
            });
        if stored_form.capacity() <= STORED_FORM_BYTES_KEPT_MAX {
            self.stored_form = stored_form;
        }
        published
    }

    /// Appends to `out` the stored form of an event with what is decided now: the results of its
    /// operations, when its entity expires, and the entity's version after it if the producer may
    /// send it again.
    fn encode_decided(
        &mut self,
        promoted: Promoted,
        (event, write, asked, now): (&EventView<'_>, &Write<'_>, Asked, Timestamp),
        out: &mut Vec<u8>,
    ) -> Result<(), PublishError> {
        let version = self.state.version(promoted) + 1;
        let version = (write.sent.is_some() && !event.tombstone).then_some(version);
        let mut decided = DecidedDraft {
            version,
            ..DecidedDraft::default()
        };
        if asked.lifetime {
            let accepted = self.accepted_at(promoted, event, now);
            decided.lifetime = LifetimeChange::asked(Terms::new(write.packed.terms), accepted);
            self.note_ahead(accepted);
        }
        let entity = self.state.entity(promoted);
        let results = if event.tombstone {
            Ok(None)
        } else {
            Results::of(Terms::new(write.packed.terms), entity)
        };
        let results = results.map_err(|error| PublishError::Refused {
            error,
            point: self.point_of(entity),
        })?;
        if let Some(results) = results {
            results.encode(event, decided, out);
        } else {
            decided.encode(write.packed.event, out);
        }
        Ok(())
    }

    /// What must be durable before it may be told what an entity is.
    fn point_of(&self, entity: Option<Entity<'_>>) -> CommitPoint {
        CommitPoint::at(entity.map_or(self.last_delete, Entity::sequence))
    }

    /// Brings the entity of an event to where it is applied.
    #[inline]
    fn promote(&mut self, event: &EventView<'_>) -> Result<Promoted, PublishError> {
        match self.state.promote(event.entity_id) {
            Ok(promoted) => {
                self.promoted_bytes += self.state.bytes(promoted) as u64;
                Ok(promoted)
            }
            Err(error) => Err(self.damaged(error).into()),
        }
    }

    /// Refuses a write whose conditions do not hold. Returns what else it asks for.
    #[inline]
    fn check_terms(&mut self, promoted: Promoted, terms: &[u8]) -> Result<Asked, PublishError> {
        let mut asked = Asked::default();
        if terms.is_empty() {
            return Ok(asked);
        }
        let before = self.conditions.spent();
        let entity = self.state.entity(promoted);
        let checked = check_conditions((terms, &mut self.conditions), entity, self.last_delete);
        self.judged_units += self.conditions.spent() - before;
        checked?;
        for term in Terms::new(terms) {
            asked.operations |= term.kind.is_operation();
            asked.lifetime |= matches!(term.kind, TermKind::Ttl | TermKind::Bind);
        }
        Ok(asked)
    }

    /// The time of an event that is stored now.
    #[inline]
    fn accepted_at(
        &mut self,
        promoted: Promoted,
        event: &EventView<'_>,
        now: Timestamp,
    ) -> Timestamp {
        let last_updated = self.state.last_updated(promoted);
        now.max(self.namespaces.floor(event.entity_id, last_updated))
    }

    /// Appends an event in its stored form and applies it.
    #[inline]
    fn store(
        &mut self,
        mut append: impl FnMut(i64, &[u8]) -> Result<Sequence, AppendRejection>,
        now: Timestamp,
        (promoted, bytes, event): (Promoted, &[u8], &EventView<'_>),
    ) -> Result<(Published, Timestamp), PublishError> {
        if self.state.would_exceed(promoted, event) {
            return Err(PublishError::refused(ApiError::EntityTooLarge));
        }
        let time = self.accepted_at(promoted, event, now);
        let sequence = append(time.as_micros(), bytes)?;
        if self.watchers.has_filters() {
            let entity = self.state.entity(promoted);
            self.watchers.ask_before(event.entity_id, entity);
        }
        let was_bound = event.tombstone && self.is_bound(promoted);
        let applied = self.apply(promoted, (sequence, time), event);
        if was_bound {
            self.unbound.push(event.entity_id.into());
        }
        let version = match applied {
            Applied::Created => 1,
            Applied::Updated => self.state.version(promoted),
            Applied::Deleted | Applied::Absent => 0,
        };
        if !is_server_made(event) {
            self.sources.note(event.source);
        }
        if !self.watchers.is_empty() {
            self.match_watchers(AppliedEvent {
                event,
                bytes,
                sequence,
                time,
                applied,
                version,
                entity: None,
            });
        }
        Ok((Stored { sequence, version }.into(), time))
    }

    /// Applies an event that is in the log: one that was published now, or one that is replayed.
    pub(super) fn apply(
        &mut self,
        promoted: Promoted,
        (sequence, time): (Sequence, Timestamp),
        event: &EventView<'_>,
    ) -> Applied {
        self.latest_time = self.latest_time.max(time);
        self.events += 1;
        let applied = self.state.apply(promoted, (sequence, time), event);
        self.namespaces
            .count(event.entity_id, applied, (time, sequence));
        if applied == Applied::Deleted {
            self.last_delete = sequence;
        }
        applied
    }

    /// Encodes the change for the cores that want it.
    fn match_watchers(&mut self, change: AppliedEvent<'_>) {
        let id = change.event.entity_id;
        // It was changed just now, so it lies in memory.
        let has_filters = self.watchers.has_filters();
        let entity = has_filters.then(|| self.state.get(id).ok().flatten());
        let entity = entity.flatten();
        let wanted = if has_filters {
            self.watchers.ask_after(id, entity)
        } else {
            self.watchers.ask_none(id)
        };
        let change = AppliedEvent { entity, ..change };
        if !wanted.frames.is_empty() || !wanted.events.is_empty() {
            self.changes.add(&change, wanted);
        }
    }

    /// Whether there is such an entity.
    ///
    /// # Errors
    /// [`AppendRejection::StateDamaged`].
    pub fn has(&mut self, entity_id: &str) -> Result<bool, AppendRejection> {
        match self.state.get(entity_id) {
            Ok(found) => Ok(found.is_some()),
            Err(error) => Err(self.damaged(error)),
        }
    }

    /// Deletes an entity by a tombstone event with this id, if these conditions hold. `Ok(None)` if
    /// they do and there is nothing to delete.
    ///
    /// # Errors
    /// [`PublishError`], if nothing changed.
    pub fn delete(
        &mut self,
        log: &mut impl Log,
        now: Timestamp,
        (entity_id, event_id, terms): (&str, uuid::Uuid, &[u8]),
    ) -> Result<Option<Sequence>, PublishError> {
        let entity = match self.state.get(entity_id) {
            Ok(entity) => entity,
            Err(error) => return Err(self.damaged(error).into()),
        };
        if !terms.is_empty() {
            let mut effort = Effort::strict(CONDITION_UNITS_MAX);
            let checked = check_conditions((terms, &mut effort), entity, self.last_delete);
            self.judged_units += effort.spent();
            checked?;
        }
        if entity.is_none() {
            return Ok(None);
        }
        let of = (entity_id, event_id, DELETE_STREAM);
        self.store_tombstone(log, now, of).map(Some)
    }

    /// Stores the tombstone of an entity, which exists.
    pub(super) fn store_tombstone(
        &mut self,
        log: &mut impl Log,
        now: Timestamp,
        (entity_id, event_id, stream): (&str, uuid::Uuid, &str),
    ) -> Result<Sequence, PublishError> {
        let mut bytes = std::mem::take(&mut self.tombstone);
        bytes.clear();
        let draft = EventDraft {
            entity_id,
            event_id: EventId::Uuid(event_id),
            stream,
            source: SERVER_SOURCE,
            timestamp_ms: None,
            key: None,
            schema: None,
            traceparent: None,
            extra: "",
            tombstone: true,
            properties: &[],
        };
        draft.encode(&mut bytes);
        let write = Write {
            packed: PackedEvent::plain(&bytes),
            sent: None,
        };
        let appended = self.publish(log, now, write);
        self.tombstone = bytes;
        appended.map(|published| published.stored.sequence)
    }

    /// The time that the next event of an id must not fall below.
    ///
    /// # Errors
    /// If the layer that may hold its entity is damaged.
    pub fn floor(&mut self, entity_id: &str) -> Result<Timestamp, LayerError> {
        let entity = self.state.get(entity_id)?;
        let last_updated = entity.map(Entity::last_updated);
        Ok(self.namespaces.floor(entity_id, last_updated))
    }

    /// Looks at entities that are about to be changed or read, for speed alone.
    pub fn prefetch(&mut self, ids: &[&[u8]]) {
        self.state.prefetch(ids);
    }
}

/// What a write asks for besides that its conditions hold.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    operations: bool,
    lifetime: bool,
}

/// True for a tombstone that the server made: nobody published it.
fn is_server_made(event: &EventView<'_>) -> bool {
    event.tombstone
        && event.source == SERVER_SOURCE
        && (event.stream == DELETE_STREAM || EndCause::of(event.stream).is_some())
}

/// Refuses a write whose conditions do not hold, and shows the entity. That may be ahead of the
/// disk, so the refusal waits for it as a read does.
fn check_conditions(
    (terms, effort): (&[u8], &mut Effort),
    entity: Option<Entity<'_>>,
    last_delete: Sequence,
) -> Result<(), PublishError> {
    match holds(Terms::new(terms), entity, effort) {
        Some(true) => return Ok(()),
        Some(false) => {}
        None => {
            let sequence = entity.map_or(last_delete, Entity::sequence);
            return Err(PublishError::Refused {
                error: ApiError::FilterTooCostly,
                point: CommitPoint::at(sequence),
            });
        }
    }
    let sequence = entity.map_or(last_delete, Entity::sequence);
    Err(PublishError::Refused {
        error: ApiError::PreconditionFailed {
            entity: current_entity(entity),
        },
        point: CommitPoint::at(sequence),
    })
}

/// The entity as a refusal shows it.
pub(super) fn current_entity(entity: Option<Entity<'_>>) -> CurrentEntity {
    let json = entity.map(|entity| {
        let mut json = Vec::new();
        encode::entity(&mut json, entity.head(), entity.properties(), None);
        String::from_utf8(json).unwrap_or_default().into_boxed_str()
    });
    CurrentEntity::of(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{NOW, TestEvent};
    use crate::log::MemoryLog;

    /// An event that sets these properties of `x`, or deletes it.
    fn event(properties: &[(String, String)], tombstone: bool) -> TestEvent {
        let properties: Vec<(&str, &str)> = properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        TestEvent::new("x", (&properties, tombstone), &[])
    }

    fn numbered(numbers: std::ops::Range<usize>) -> Vec<(String, String)> {
        numbers
            .map(|number| (format!("p{number:06}"), "1".to_owned()))
            .collect()
    }

    fn large(name: &str, len: usize) -> Vec<(String, String)> {
        vec![(name.to_owned(), format!("\"{}\"", "v".repeat(len - 2)))]
    }

    const TOO_LARGE: Result<u64, PublishError> =
        Err(PublishError::refused(ApiError::EntityTooLarge));

    fn publish(
        engine: &mut Engine,
        log: &mut MemoryLog,
        event: &TestEvent,
    ) -> Result<u64, PublishError> {
        let published = event.publish((engine, log))?;
        Ok(published.stored.version)
    }

    #[test]
    fn an_entity_grows_to_its_bounds_and_no_further() {
        let (mut engine, mut log) = (Engine::default(), MemoryLog::new());
        let mut publish = |properties: &[(String, String)]| {
            publish(&mut engine, &mut log, &event(properties, false))
        };
        assert_eq!(publish(&numbered(0..9_000)), Ok(1));
        assert_eq!(publish(&numbered(8_000..10_000)), Ok(2));
        assert_eq!(publish(&numbered(9_999..10_001)), TOO_LARGE);
        assert_eq!(publish(&numbered(0..1)), Ok(3));
        // 10,000 names of 7 bytes with values of one.
        let room = 4 * 1024 * 1024 - 80_000 + 1;
        assert_eq!(publish(&large("p000000", room + 1)), TOO_LARGE);
        assert_eq!(publish(&large("p000000", room)), Ok(4));
        assert_eq!(publish(&large("p000001", 3)), TOO_LARGE);
        assert_eq!(publish(&large("p000000", room - 1)), Ok(5));
    }

    #[test]
    fn an_entity_of_an_older_log_that_is_larger_is_read_may_shrink_and_be_deleted() {
        let mut engine = Engine::default();
        let old = [numbered(0..20_000), large("q", 5 * 1024 * 1024)].concat();
        let event_of_old = event(&old, false);
        let record = (Sequence::new(1), NOW, event_of_old.write().packed.event);
        engine.replay(record, 0, 1).unwrap();
        let mut json = Vec::new();
        engine.read("x", (None, usize::MAX), &mut json).unwrap();
        assert!(json.len() > 5 * 1024 * 1024);
        let mut log = MemoryLog::new();
        let mut publish = |properties: &[(String, String)], tombstone| {
            publish(&mut engine, &mut log, &event(properties, tombstone))
        };
        assert_eq!(publish(&[], false), Ok(2));
        assert_eq!(publish(&numbered(20_000..20_001), false), TOO_LARGE);
        assert_eq!(publish(&large("q", 5 * 1024 * 1024), false), Ok(3));
        assert_eq!(publish(&large("q", 5 * 1024 * 1024 + 1), false), TOO_LARGE);
        assert_eq!(publish(&large("q", 100), false), Ok(4));
        assert_eq!(publish(&large("q", 101), false), Ok(5));
        assert_eq!(publish(&[], true), Ok(0));
        assert_eq!(publish(&numbered(0..10_000), false), Ok(1));
    }
}
