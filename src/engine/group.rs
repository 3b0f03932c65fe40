//! Atomic batches: all events of a group take effect, or none (API contract §14).
//!
//! ```text
//! rehearse on copies of the entities ── an event is refused ──▶ nothing has changed
//!            │ all may be stored, and they need so much room
//!            ▼
//! begin_group ─▶ publish each ─▶ end_group
//! ```
//!
//! An event is decided against what the events before it in its group lead to. The rehearsal uses
//! the same rules, on an engine of its own that knows the entities of the group alone, so the
//! performance after it can't fail: what was rehearsed is what happens.

use super::Engine;
use super::publish::{PublishError, Write, current_entity};
use crate::api::ApiError;
use crate::limits::ATOMIC_ENTITIES_BYTES_MAX;
use crate::log::{AppendRejection, GroupSize, Log};
use crate::model::{CommitPoint, EntityDraft, EventView, Property, Published, Timestamp};
use flux_storage::Sequence;
use std::collections::BTreeSet;

/// Why no event of a group was stored. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupError {
    /// The event that is at fault, if it is one.
    pub index: Option<usize>,
    /// What is wrong.
    pub error: PublishError,
}

impl Engine {
    /// Stores all these events, or none. They are of one namespace, or of one id without.
    ///
    /// # Errors
    /// [`GroupError`], if nothing changed.
    pub fn publish_group(
        &mut self,
        log: &mut impl Log,
        now: Timestamp,
        writes: &[Write<'_>],
    ) -> Result<Vec<Published>, Box<GroupError>> {
        let size = self.rehearse(log.appended(), now, writes)?;
        let of_log = |rejection: AppendRejection| {
            let error = rejection.into();
            Box::new(GroupError { index: None, error })
        };
        log.begin_group(size).map_err(of_log)?;
        let mut all = Vec::with_capacity(writes.len());
        for write in writes {
            match self.publish(log, now, *write) {
                Ok(published) => all.push(published),
                Err(error) => {
                    // The state is ahead of the log now, so the shard must not go on.
                    debug_assert!(false, "it was rehearsed: {error:?}");
                    log.abort_group();
                    log.fail(&"an event of a group was refused after its rehearsal");
                    return Err(of_log(AppendRejection::Closed));
                }
            }
        }
        log.end_group();
        Ok(all)
    }

    /// Decides all events of a group, and changes nothing. Returns the room that they need.
    #[expect(clippy::unwrap_in_result, reason = "a caller's bug, not an outcome")]
    fn rehearse(
        &mut self,
        appended: Sequence,
        now: Timestamp,
        writes: &[Write<'_>],
    ) -> Result<GroupSize, Box<GroupError>> {
        let mut rehearsal = Self::default();
        rehearsal.begin_conditions();
        let mut copied = BTreeSet::new();
        let mut sequence = appended;
        let mut size = GroupSize {
            records: writes.len(),
            payload_bytes: 0,
        };
        for (index, write) in writes.iter().enumerate() {
            let event = EventView::decode_encoded(write.packed.event);
            let id = event
                .expect("EventDraft::encode wrote these bytes")
                .entity_id;
            let fault = |error| {
                let index = Some(index);
                Box::new(GroupError { index, error })
            };
            if copied.insert(id) {
                self.copy_entity(&mut rehearsal, id).map_err(fault)?;
            }
            // The floor of a rehearsal, which knows few entities, may be lower.
            let floor = self.floor(id);
            let floor = floor.map_err(|error| fault(self.damaged(error).into()))?;
            let append = |_, bytes: &[u8]| {
                sequence = sequence.next();
                size.payload_bytes += bytes.len();
                Ok(sequence)
            };
            let published = rehearsal.publish_by(append, now.max(floor), *write);
            self.judged_units += std::mem::take(&mut rehearsal.judged_units);
            published.map_err(|error| fault(self.as_current(id, appended, error)))?;
            if rehearsal.promoted_bytes > ATOMIC_ENTITIES_BYTES_MAX {
                return Err(fault(PublishError::refused(ApiError::BatchTooCostly)));
            }
        }
        self.promoted_bytes += rehearsal.promoted_bytes;
        Ok(size)
    }

    /// Gives a rehearsal the entity, if there is one.
    fn copy_entity(&mut self, rehearsal: &mut Self, id: &str) -> Result<(), PublishError> {
        let entity = match self.state.get(id) {
            Ok(entity) => entity,
            Err(error) => return Err(self.damaged(error).into()),
        };
        let Some(entity) = entity else {
            return Ok(());
        };
        let properties: Vec<Property<'_>> = entity
            .properties()
            .map(|(name, value)| Property { name, value })
            .collect();
        let draft = EntityDraft {
            id,
            version: entity.version(),
            last_updated: entity.last_updated(),
            lifetime: entity.lifetime(),
            properties: &properties,
        };
        let mut bytes = Vec::new();
        draft.encode(&mut bytes);
        let record = (entity.sequence(), entity.last_updated(), &*bytes);
        // An entity is whole, and a rehearsal has no layers.
        let replayed = rehearsal.replay_entity(record, 0, 1);
        debug_assert!(replayed.is_ok(), "{id}: {replayed:?}");
        Ok(())
    }

    /// A refusal that a rehearsal came to, as the client is told: it shows the entity as it is, and
    /// not as the group would have left it.
    fn as_current(&mut self, id: &str, appended: Sequence, error: PublishError) -> PublishError {
        let PublishError::Refused { mut error, .. } = error else {
            return error;
        };
        if matches!(error, ApiError::PreconditionFailed { .. }) {
            let entity = match self.state.get(id) {
                Ok(entity) => entity,
                Err(error) => return self.damaged(error).into(),
            };
            let entity = current_entity(entity);
            error = ApiError::PreconditionFailed { entity };
        }
        PublishError::Refused {
            error,
            point: CommitPoint::at(appended),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{NOW, Properties, Terms, TestEvent};
    use crate::log::MemoryLog;
    use crate::model::TermKind;
    use fastrand::Rng;

    fn set(id: &str, properties: Properties<'_>, terms: Terms<'_>) -> TestEvent {
        TestEvent::new(id, (properties, false), terms)
    }

    fn writes(events: &[TestEvent]) -> Vec<Write<'_>> {
        events.iter().map(TestEvent::write).collect()
    }

    fn entity(engine: &mut Engine, id: &str) -> String {
        let mut json = Vec::new();
        let read = engine.read(id, (None, usize::MAX), &mut json);
        if read.unwrap().0.is_some() {
            String::from_utf8(json).unwrap()
        } else {
            String::new()
        }
    }

    #[test]
    fn each_event_is_decided_by_what_those_before_it_lead_to() {
        let (mut engine, mut log) = (Engine::default(), MemoryLog::new());
        let increment = (TermKind::Increment, "n", "1");
        let events = [
            set("g/a", &[("n", "1")], &[(TermKind::Absent, "", "")]),
            set("g/a", &[], &[(TermKind::Version, "", "1"), increment]),
            set("g/a", &[], &[(TermKind::Equal, "n", "2"), increment]),
            set("g/b", &[], &[(TermKind::Absent, "", "")]),
            TestEvent::new("g/a", (&[], true), &[]),
            set("g/a", &[], &[(TermKind::Absent, "", ""), increment]),
        ];
        let all = engine
            .publish_group(&mut log, NOW, &writes(&events))
            .unwrap();
        let versions: Vec<u64> = all.iter().map(|it| it.stored.version).collect();
        assert_eq!(versions, [1, 2, 3, 1, 0, 1]);
        assert_eq!(log.appended(), Sequence::new(6));
        assert!(entity(&mut engine, "g/a").contains(r#""properties":{"n":1}"#));
    }

    #[test]
    fn a_refused_event_refuses_its_group_and_shows_the_entity_as_it_is() {
        let (mut engine, mut log) = (Engine::default(), MemoryLog::new());
        let first = set("g/a", &[("n", "1")], &[]);
        engine
            .publish_group(&mut log, NOW, &writes(&[first]))
            .unwrap();
        let before = entity(&mut engine, "g/a");
        let events = [
            set("g/a", &[("n", "2")], &[]),
            set("g/b", &[], &[]),
            set("g/a", &[], &[(TermKind::Equal, "n", "1")]),
        ];
        let refused = engine
            .publish_group(&mut log, NOW, &writes(&events))
            .unwrap_err();
        assert_eq!(refused.index, Some(2));
        let PublishError::Refused { error, point } = refused.error else {
            panic!("it is refused for what it says");
        };
        let json = before.clone().into_boxed_str();
        let entity_now = crate::api::error::CurrentEntity::of(Some(json));
        assert_eq!(error, ApiError::PreconditionFailed { entity: entity_now });
        assert_eq!(point, CommitPoint::at(Sequence::new(1)));
        assert_eq!(log.appended(), Sequence::new(1));
        assert_eq!(entity(&mut engine, "g/a"), before);
        assert_eq!(entity(&mut engine, "g/b"), "");
        assert_eq!((engine.entities(), engine.events()), (1, 1));
    }

    /// An event at random; half of them have a condition that may not hold.
    fn any_event(random: &mut Rng) -> TestEvent {
        let id = ["g/a", "g/b", "g/c"][random.usize(..3)];
        let number = random.u8(..4).to_string();
        let condition = match random.u8(..8) {
            0 => Some((TermKind::Absent, "", "")),
            1 | 2 => Some((TermKind::Present, "", "")),
            3 => Some((TermKind::Equal, "n", number.as_str())),
            _ => None,
        };
        let operation = random.bool().then_some((TermKind::Increment, "m", "1"));
        let terms: Vec<_> = condition.into_iter().chain(operation).collect();
        TestEvent::new(id, (&[("n", &number)], random.u8(..6) == 0), &terms)
    }

    #[test]
    fn a_group_leads_to_what_its_events_lead_to_one_by_one_or_to_nothing() {
        let (mut stored, mut refused) = (0, 0);
        for seed in 0..300 {
            let mut random = Rng::with_seed(seed);
            let mut grouped = (Engine::default(), MemoryLog::new());
            let mut single = (Engine::default(), MemoryLog::new());
            for _ in 0..20 {
                let count = random.usize(1..6);
                let events: Vec<_> = (0..count).map(|_| any_event(&mut random)).collect();
                let before = grouped.1.appended();
                let group = grouped
                    .0
                    .publish_group(&mut grouped.1, NOW, &writes(&events));
                let Ok(all) = group else {
                    assert_eq!(grouped.1.appended(), before);
                    refused += 1;
                    continue;
                };
                stored += 1;
                for (write, expected) in writes(&events).iter().zip(all) {
                    let published = single.0.publish(&mut single.1, NOW, *write);
                    assert_eq!(published, Ok(expected), "seed {seed}");
                }
                for id in ["g/a", "g/b", "g/c"] {
                    let (left, right) = (entity(&mut grouped.0, id), entity(&mut single.0, id));
                    assert_eq!(left, right, "seed {seed}");
                }
            }
        }
        assert!(stored > 1000 && refused > 1000, "{stored} {refused}");
    }

    #[test]
    fn a_group_about_more_of_an_entity_than_is_done_in_one_go_is_refused() {
        let (mut engine, mut log) = (Engine::default(), MemoryLog::new());
        let large = format!("\"{}\"", "v".repeat(1024 * 1024));
        let first = set("g/a", &[("text", &large)], &[]);
        engine
            .publish_group(&mut log, NOW, &writes(&[first]))
            .unwrap();
        let append = (TermKind::Append, "list", "[1]");
        let of =
            |count| -> Vec<TestEvent> { (0..count).map(|_| set("g/a", &[], &[append])).collect() };
        let refused = engine.publish_group(&mut log, NOW, &writes(&of(17)));
        let refused = *refused.unwrap_err();
        assert_eq!(
            refused.error,
            PublishError::refused(ApiError::BatchTooCostly)
        );
        assert_eq!(log.appended(), Sequence::new(1));
        engine
            .publish_group(&mut log, NOW, &writes(&of(15)))
            .unwrap();
        // What all conditions of a group look at counts together.
        let condition = (TermKind::Filter, "", r#"not(like(text,"*x"))"#);
        let of = |count| -> Vec<TestEvent> {
            (0..count).map(|_| set("g/a", &[], &[condition])).collect()
        };
        let refused = engine.publish_group(&mut log, NOW, &writes(&of(16)));
        assert_eq!(refused.unwrap_err().index, Some(15));
        engine
            .publish_group(&mut log, NOW, &writes(&of(13)))
            .unwrap();
    }
}
