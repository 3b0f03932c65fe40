//! Presence in the simulation: connections that bind entities and end, and which entities must have
//! gone with them, and which must not.
//!
//! The log says which entities are bound. Who holds one, the model knows: the source of an event
//! names its connection, and an event that comes again is published at once, as a core does with
//! what its own shard owns. The end of a connection waits behind writes that wait for room. Then it
//! is between the time that it was asked for and the time that no write waits any more.

use super::simulation::ASKER;
use super::simulation::{Expected, Simulation, records};
use super::simulation_ends::lifetimes_of;
use super::simulation_groups::pack_of;
use super::simulation_writes::{Asked, Logged, check_verdicts, random_write};
use super::*;
use crate::api::outcome::PartOutcome;
use crate::engine::PublishError;
use crate::log::{AppendRejection, MemoryLog};
use crate::model::{
    Binding, ConnectionId, EndCause, EventView, PackedEvent, Published, Term, TermKind, Timestamp,
};
use flux_storage::Sequence;
use std::collections::BTreeMap;

/// Connections that are open at a time.
const CONNECTIONS: usize = 3;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// Of the connections that are open, by their indexes.
    generations: [u32; CONNECTIONS],
    /// When connections have ended, by the clock of deadlines.
    ends: BTreeMap<ConnectionId, End>,
    bound: BTreeMap<String, Bound>,
    /// When the shard took in what was bound before.
    begun: Option<i64>,
    /// Events that bound an entity, and may be sent again.
    sent: Vec<Asked>,
    /// Tombstones of presence.
    pub(super) ended: u32,
    /// Events that bound an entity which another connection held.
    pub(super) takeovers: u32,
    /// Repetitions that bound an entity.
    pub(super) bound_again: u32,
}

#[derive(Debug)]
struct End {
    asked: i64,
    /// It has ended by then, if that is known.
    latest: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Bound {
    linger_micros: i64,
    /// `None`: one that ended with the server.
    holder: Option<ConnectionId>,
    /// The event that bound it last, new or again.
    event: Option<Sequence>,
    since: i64,
}

impl Presence {
    /// After a start.
    pub(super) fn of(logged: Logged<'_>) -> Self {
        let bound = lifetimes_of(logged)
            .into_iter()
            .filter_map(|(id, lifetime)| {
                let bound = Bound {
                    linger_micros: i64::from(lifetime.linger_ms?) * 1000,
                    holder: None,
                    event: None,
                    since: 0,
                };
                Some((id, bound))
            });
        Self {
            bound: bound.collect(),
            ..Self::default()
        }
    }

    /// After a crash: all connections are new ones.
    pub(super) fn goes_on_from(&mut self, before: Self) {
        self.generations = before.generations.map(|generation| generation + 1);
        self.sent = before.sent;
        self.ended = before.ended;
        self.takeovers = before.takeovers;
        self.bound_again = before.bound_again;
    }

    /// The shard has taken in what was bound before its start.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.begun.get_or_insert(now.as_micros());
    }

    /// An event was logged at `now` by the clock of deadlines.
    pub(super) fn learn(&mut self, event: &EventView<'_>, (place, now): (Sequence, Timestamp)) {
        let (id, now) = (event.entity_id, now.as_micros());
        if event.stream == EndCause::Unbound.stream() {
            let bound = self.bound.get(id).expect("it is bound");
            let dues = self.dues(bound);
            let earliest = dues.map(|(earliest, _)| earliest);
            assert!(
                earliest.is_some_and(|due| due <= now),
                "{id} early: {bound:?}"
            );
            self.ended += 1;
        }
        if event.tombstone {
            self.bound.remove(id);
        } else if let Some(linger_ms) = event.decided.lifetime.linger_ms {
            let bound = Bound {
                linger_micros: i64::from(linger_ms) * 1000,
                holder: Some(connection_of(event.source)),
                event: Some(place),
                since: now,
            };
            let before = self.bound.insert(id.to_owned(), bound);
            let is_taken = before.is_some_and(|before| before.holder != bound.holder);
            self.takeovers += u32::from(is_taken);
        }
    }

    /// When an entity may be gone, and when it has to be, if its connection has ended.
    fn dues(&self, bound: &Bound) -> Option<(i64, Option<i64>)> {
        let (asked, latest) = match bound.holder {
            None => (self.begun.unwrap_or(0), self.begun),
            Some(holder) => self.ends.get(&holder).map(|end| (end.asked, end.latest))?,
        };
        let due = |end: i64| end.max(bound.since) + bound.linger_micros;
        Some((due(asked), latest.map(due)))
    }

    pub(super) fn has_ends_to_note(&self) -> bool {
        self.ends.values().any(|end| end.latest.is_none())
    }

    /// No write waits: connections whose end was asked for have ended by now.
    pub(super) fn note_ends(&mut self, now: Timestamp) {
        for end in self.ends.values_mut() {
            end.latest.get_or_insert(now.as_micros());
        }
    }

    /// Nothing is there for longer than it lingers, if the log had room for its end.
    pub(super) fn check(&self, shard: &Shard<MemoryLog>) {
        let now = shard.engine().deadline_now().as_micros();
        let is_waiting = shard.ends_retry.is_some();
        for (id, bound) in &self.bound {
            let due = self.dues(bound).and_then(|(_, latest)| latest);
            let is_there = due.is_none_or(|due| due > now);
            assert!(
                is_waiting || is_there,
                "{id} is overdue at {now}: {bound:?}"
            );
        }
    }

    /// An event that binds its entity was published at once from this connection.
    fn publish(&mut self, id: &str, connection: ConnectionId, published: &Published) {
        let event = Some(published.stored.sequence);
        let has_ended = |bound: &Bound| self.dues(bound).is_some();
        let is_free = |bound: &Bound| bound.event == event || has_ended(bound);
        let binds = !published.duplicate || self.bound.get(id).is_some_and(is_free);
        assert_eq!(published.bound, Some(binds), "{id}");
        if let Some(bound) = self.bound.get_mut(id).filter(|_| binds) {
            bound.holder = Some(connection);
            bound.event = event;
            self.bound_again += u32::from(published.duplicate);
        }
    }
}

/// The source that names a connection, and a number of the event.
fn source_of(connection: ConnectionId, number: u32) -> String {
    format!("{} {} {number}", connection.index, connection.generation)
}

fn connection_of(source: &str) -> ConnectionId {
    let numbers: Vec<u32> = source.split(' ').map(|it| it.parse().unwrap()).collect();
    ConnectionId {
        core: 0,
        index: numbers[0],
        generation: numbers[1],
    }
}

impl Simulation {
    fn connection(&mut self) -> ConnectionId {
        let index = self.random.usize(..CONNECTIONS);
        ConnectionId {
            core: 0,
            index: u32::try_from(index).unwrap(),
            generation: self.presence.generations[index],
        }
    }

    /// An event that binds its entity to a connection: a new one, or one that was sent before,
    /// perhaps by another connection.
    pub(super) fn bind(&mut self) {
        let connection = self.connection();
        let again = self.random.choice(&self.presence.sent).cloned();
        let again = again.filter(|_| self.random.u8(..3) == 0);
        let is_new = again.is_none();
        let mut write = again.unwrap_or_else(|| {
            let id = self.id();
            let source = source_of(connection, self.next_slot);
            random_write(&mut self.random, &id, &source)
        });
        if EventView::decode(&write.event).unwrap().tombstone {
            return;
        }
        if is_new {
            self.presence.sent.push(write.clone());
        }
        let linger_ms = self.random.u32(..6);
        let binding = Binding {
            linger_ms,
            connection,
        };
        binding.encode(&mut write.terms);
        if is_new && self.random.bool() {
            let request = ShardRequest::Publish {
                pack: pack_of(std::slice::from_ref(&write)),
                done: PartOutcome::default(),
                charged: None,
            };
            self.ask(request, Expected::Published(vec![write]));
        } else {
            self.publish_at_once(&write, connection);
        }
    }

    fn publish_at_once(&mut self, write: &Asked, connection: ConnectionId) {
        let (before, now) = (records(&mut self.shard).len(), self.now());
        let published = self.shard.publish(now, (packed(write), ASKER), None);
        self.learn(before, now);
        let mut outcome = PartOutcome::default();
        match published {
            Ok(published) => {
                let id = EventView::decode(&write.event).unwrap().entity_id;
                self.presence.publish(id, connection, &published);
                outcome.push(published);
            }
            Err(PublishError::Refused { error, .. }) => outcome.push_refused(error),
            Err(PublishError::Append(AppendRejection::NotReady)) => return,
            Err(PublishError::Append(error)) => panic!("{error:?}"),
        }
        let logged = records(&mut self.shard);
        check_verdicts(&outcome, std::slice::from_ref(write), &logged);
    }

    /// A connection ends, and another has its index.
    pub(super) fn end_connection(&mut self) {
        let connection = self.connection();
        self.send(
            (connection.index, connection.generation),
            ShardRequest::Unbind,
        );
        let index = usize::try_from(connection.index).unwrap();
        self.presence.generations[index] += 1;
        let end = End {
            asked: self.shard.engine().deadline_now().as_micros(),
            latest: None,
        };
        self.presence.ends.insert(connection, end);
    }

    /// What connections hold whose end was asked for lingers for sure, if no write waits.
    pub(super) fn note_ends(&mut self) {
        if self.presence.has_ends_to_note() && self.takes_writes() {
            let now = self.shard.engine().deadline_now();
            self.presence.note_ends(now);
        }
    }

    /// True if no write waits. A write shows it whose condition never holds.
    fn takes_writes(&mut self) -> bool {
        let now = Timestamp::from_micros(self.now);
        let mut write = random_write(&mut self.random, "probe", "probe");
        write.terms.clear();
        let term = Term {
            kind: TermKind::Present,
            name: "",
            value: "",
        };
        term.encode(&mut write.terms);
        let published = self.shard.publish(now, (packed(&write), ASKER), None);
        matches!(published, Err(PublishError::Refused { .. }))
    }
}

fn packed(write: &Asked) -> PackedEvent<'_> {
    PackedEvent {
        event: &write.event,
        terms: &write.terms,
        extra_tokens: 0,
    }
}
