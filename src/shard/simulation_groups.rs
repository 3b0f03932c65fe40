//! Atomic groups in the simulation: groups at random, of which some hold an event that is refused;
//! what the shard has to say of each; and that the log holds each whole or not at all.

use super::simulation::{Expected, Simulation, records};
use super::simulation_replay::{Entity, Model, apply_to_model, model_of};
use super::simulation_writes::{
    Asked, Logged, as_it_came, check_stored, holds, random_write, results, scoped_id,
};
use super::*;
use crate::api::ApiError;
use crate::api::error::CurrentEntity;
use crate::api::outcome::PartOutcome;
use crate::model::{EventPack, EventView};
use std::collections::BTreeSet;

/// The source of all events of groups.
const SOURCE: &str = "group";

/// The groups that were sent.
#[derive(Debug, Default)]
pub(super) struct Groups {
    sent: Vec<Vec<Asked>>,
    /// Replies that said that all is stored.
    pub(super) stored: u32,
    /// Replies that refused a group for an event behind the first.
    pub(super) refused: u32,
}

impl Groups {
    /// A new group about this id and others of its namespace, one that was sent before, or the
    /// first event of such a one and another.
    fn next(&mut self, random: &mut fastrand::Rng, id: &str) -> Vec<Asked> {
        let again = random.choice(&self.sent).cloned();
        let again = again.filter(|_| random.u8(..4) == 0);
        let mut group = again.unwrap_or_default();
        let is_partly_new = group.is_empty() || random.u8(..3) == 0;
        if is_partly_new {
            group.truncate(1);
            let first = group.first().map(|first| entity_id_of(&first.event));
            let id = first.as_deref().unwrap_or(id).to_owned();
            for _ in 0..random.usize(1..4) {
                let id = match id.split_once('/') {
                    Some((namespace, _)) => format!("{namespace}/e{}", random.u8(..6)),
                    None => id.clone(),
                };
                group.push(random_write(random, &id, SOURCE));
            }
            self.sent.push(group.clone());
        }
        group
    }

    /// Records that neither begin nor end within a group hold whole groups only.
    pub(super) fn check_whole(&self, mut logged: Logged<'_>) {
        while let Some((_, first)) = logged.first() {
            let is_grouped = EventView::decode(first).unwrap().source == SOURCE;
            let whole = |group: &&Vec<Asked>| {
                let events = logged.iter().map(|(_, bytes)| as_it_came(bytes));
                let same = events
                    .zip(*group)
                    .take_while(|(it, asked)| *it == asked.event);
                same.count() == group.len()
            };
            let longest = self.sent.iter().filter(|_| is_grouped).filter(whole);
            let count = longest.map(Vec::len).max();
            assert!(
                count.is_some() || !is_grouped,
                "a part of a group is stored"
            );
            logged = &logged[count.unwrap_or(1)..];
        }
    }
}

fn entity_id_of(event: &[u8]) -> String {
    EventView::decode(event).unwrap().entity_id.to_owned()
}

/// The pack of these writes.
pub(super) fn pack_of(writes: &[Asked]) -> EventPack {
    let mut pack = EventPack::default();
    for write in writes {
        pack.push(&write.terms, |out| out.extend_from_slice(&write.event));
    }
    pack
}

impl Simulation {
    pub(super) fn publish_group(&mut self) {
        let id = self.id();
        let writes = self.groups.next(&mut self.random, &id);
        let request = ShardRequest::PublishGroup {
            pack: pack_of(&writes),
            charged: None,
        };
        let logged = records(&mut self.shard).len();
        self.ask(request, Expected::Group(writes, logged));
    }
}

/// All of a group is stored: now, one event after the other, or all before.
pub(super) fn check_stored_group(outcome: &PartOutcome, asked: &[Asked], logged: Logged<'_>) {
    assert_eq!((outcome.len(), &outcome.error), (asked.len(), &None));
    let (mut verdicts, mut said) = (outcome.verdicts(), Vec::new());
    for asked in asked {
        let published = verdicts.take_next().unwrap();
        check_stored(&published, asked, logged);
        said.push((published.duplicate, published.stored.sequence));
    }
    for pair in said.windows(2) {
        let [(was_duplicate, before), (is_duplicate, sequence)] = pair else {
            unreachable!("it has two");
        };
        assert_eq!(was_duplicate, is_duplicate, "all of it is a repetition");
        assert!(
            *is_duplicate || *sequence == before.next(),
            "it is in one piece"
        );
    }
}

/// A group was refused, since it was asked for when the log had `from` events: at some time since,
/// this event of it was the first that could not be stored.
pub(super) fn check_refused_group(
    (index, error): (Option<usize>, &ApiError),
    (asked, from): (&[Asked], usize),
    logged: Logged<'_>,
) {
    let index = index.expect("only for one of its events");
    if *error == ApiError::EventIdReused {
        let id = scoped_id(&asked[index].event);
        let others = asked[..index].iter().map(|asked| scoped_id(&asked.event));
        let mut others = others.chain(logged.iter().map(|(_, bytes)| scoped_id(bytes)));
        // An event that is new may be at fault for those before it that are not.
        let ids: BTreeSet<_> = asked.iter().filter_map(|it| scoped_id(&it.event)).collect();
        let found = id.is_some() && others.any(|other| other == id);
        let is_partly_stored = logged
            .iter()
            .any(|(_, bytes)| scoped_id(bytes).is_some_and(|id| ids.contains(&id)));
        assert!(found || is_partly_stored, "no event has the id");
    } else if let ApiError::PreconditionFailed { entity } = error {
        let mut model = model_of(&logged[..from]);
        let mut next = logged[from..].iter();
        while !fails_at(&model, asked, (index, entity)) {
            let (time, bytes) = next.next().expect("at some time this event is at fault");
            apply_to_model(&mut model, *time, &EventView::decode(bytes).unwrap());
        }
    } else {
        panic!("{error}");
    }
}

/// Whether the conditions hold of all events before this one, and not of this one, whose entity is
/// shown as it is before the group.
fn fails_at(model: &Model, asked: &[Asked], (index, shown): (usize, &CurrentEntity)) -> bool {
    let id = entity_id_of(&asked[index].event);
    let version = model.get(&id).map_or(0, |entity| entity.0);
    if version_of(shown, &id) != version {
        return false;
    }
    let mut model = model.clone();
    for asked in &asked[..index] {
        if !holds(&asked.terms, model.get(&entity_id_of(&asked.event))) {
            return false;
        }
        apply_asked(&mut model, asked);
    }
    !holds(&asked[index].terms, model.get(&id))
}

fn version_of(shown: &CurrentEntity, id: &str) -> u64 {
    match shown {
        CurrentEntity::Absent => 0,
        CurrentEntity::Omitted(_) => panic!("it is small"),
        CurrentEntity::Json(json) => {
            let json: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(json["id"], id);
            json["version"].as_u64().unwrap()
        }
    }
}

/// Applies an event as it came to the model.
fn apply_asked(model: &mut Model, asked: &Asked) {
    let event = EventView::decode(&asked.event).unwrap();
    let (set, removed) = results(&asked.terms, model.get(event.entity_id));
    apply_to_model(model, 0, &event);
    let entity: Option<&mut Entity> = model.get_mut(event.entity_id);
    if let Some((_, _, properties)) = entity {
        properties.extend(set);
        properties.retain(|name, _| !removed.contains(&name.as_str()));
    }
}
