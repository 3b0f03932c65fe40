//! For tests: random histories of several generations, and logs of them in memory.

use super::{Base, Generation, HistoryError, HistoryLog, Visit, key};
use crate::model::{
    EventDraft, EventId, EventView, Property, RECORD_KIND_EVENT, StoredChange, Timestamp, place,
    placement_key,
};
use crate::state::{State, TimeScope};
use crate::subscribe::Filter;
use fastrand::Rng;
use flux_storage::{Record, Sequence};
use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

/// An event as it was stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) generation: usize,
    pub(super) shard: u16,
    pub(super) sequence: u64,
    pub(super) time: i64,
    pub(super) id: String,
    pub(super) tombstone: bool,
    /// Name and value.
    pub(super) properties: Vec<(String, String)>,
    pub(super) payload: Vec<u8>,
}

impl Stored {
    fn apply_to(&self, state: &mut State) {
        let event = EventView::decode(&self.payload).unwrap();
        let (sequence, time) = (
            Sequence::new(self.sequence),
            Timestamp::from_micros(self.time),
        );
        super::apply(state, (sequence, time), &StoredChange::Event(event)).unwrap();
    }
}

/// All events of a history in the order in which they were accepted, and how many shards each
/// generation had.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) events: Vec<Stored>,
    pub(super) shards: Vec<u16>,
}

/// Ids with and without namespace, one namespace the prefix of another.
pub(super) const IDS: &[&str] = &[
    "a/1", "a/2", "a/3", "ab/1", "ab/2", "b/1", "b/1/x", "c/", "/x", "room", "hall", "d/1", "e/1",
];

impl World {
    /// A history of up to `events` events.
    pub(super) fn random(random: &mut Rng, events: usize) -> Self {
        let mut world = Self::default();
        let mut now = 1000_i64;
        // By namespace, or by id without one: times never fall within these, and only there.
        let mut last_times: BTreeMap<&str, i64> = BTreeMap::new();
        for generation in 0..=random.usize(..3) {
            let shards = u16::try_from(1 + random.usize(..3)).unwrap();
            world.shards.push(shards);
            let first = world.events.iter().map(|event| event.sequence).max();
            let mut next = vec![first.unwrap_or(0) + 1; usize::from(shards)];
            for _ in 0..random.usize(..events) {
                now += match random.usize(..60) {
                    // The clock is set: by far ahead, or back.
                    0 => 40,
                    1 | 2 => -15,
                    _ => i64::try_from(random.usize(..3)).unwrap(),
                };
                let id = IDS[random.usize(..IDS.len())];
                let shard = place(id, shards);
                let index = usize::from(shard);
                let last = last_times.entry(placement_key(id)).or_insert(now);
                *last = now.max(*last);
                let event = stored(random, id, (next[index], *last));
                next[index] += 1;
                world.events.push(Stored {
                    generation,
                    shard,
                    ..event
                });
            }
        }
        world
    }

    /// The logs, newest generation first, with stored states here and there.
    pub(super) fn logs(self: &Arc<Self>, random: &mut Rng) -> Vec<Generation<TestLog>> {
        let mut generations: Vec<Generation<TestLog>> = Vec::new();
        for generation in 0..self.shards.len() {
            let shards = self.shards[generation];
            let logs = (0..shards).map(|shard| Some(self.log((generation, shard), random)));
            generations.push(Generation::new(logs.collect::<Vec<_>>()));
        }
        generations.reverse();
        generations
    }

    fn log(self: &Arc<Self>, (generation, shard): (usize, u16), random: &mut Rng) -> TestLog {
        let own = |event: &&Stored| (event.generation, event.shard) == (generation, shard);
        let events: Vec<Stored> = self.events.iter().filter(own).cloned().collect();
        let before = self
            .events
            .iter()
            .filter(|event| event.generation < generation);
        let first = before.map(|event| event.sequence).max().unwrap_or(0) + 1;
        let mut log = TestLog {
            world: Arc::clone(self),
            place: (generation, shard),
            first,
            events,
            bases: Vec::new(),
            removed: None,
        };
        if generation > 0 && random.usize(..4) != 0 {
            log.bases.push(log.base(first - 1));
        }
        for _ in 0..random.usize(..3) {
            let through = first - 1 + random.usize(..=log.events.len()) as u64;
            if generation > 0 || through >= first {
                log.bases.push(log.base(through));
            }
        }
        log.bases.sort_by_key(|base| base.through);
        log
    }
}

fn stored(random: &mut Rng, id: &str, (sequence, time): (u64, i64)) -> Stored {
    let tombstone = random.usize(..6) == 0;
    let names = ["p", "q", "r"];
    let count = random.usize(..=names.len());
    let properties: Vec<(String, String)> = names[..count]
        .iter()
        .map(|name| {
            (
                (*name).to_owned(),
                format!("{sequence}.{}", random.usize(..9)),
            )
        })
        .collect();
    let borrowed: Vec<Property<'_>> = properties
        .iter()
        .map(|(name, value)| Property { name, value })
        .collect();
    let draft = EventDraft {
        entity_id: id,
        event_id: EventId::Text("e"),
        stream: "s",
        source: "t",
        timestamp_ms: None,
        key: None,
        schema: None,
        traceparent: None,
        extra: "",
        tombstone,
        properties: &borrowed,
    };
    let mut payload = Vec::new();
    draft.encode(&mut payload);
    Stored {
        generation: 0,
        shard: 0,
        sequence,
        time,
        id: id.into(),
        tombstone,
        properties,
        payload,
    }
}

/// A log in memory.
#[derive(Debug)]
pub(super) struct TestLog {
    world: Arc<World>,
    place: (usize, u16),
    first: u64,
    pub(super) events: Vec<Stored>,
    bases: Vec<Base>,
    removed: Option<Base>,
}

impl TestLog {
    /// What this shard holds through a sequence of its generation: events of older generations
    /// included.
    fn held(&self, through: u64) -> impl Iterator<Item = &Stored> {
        let (generation, shard) = self.place;
        let shards = self.world.shards[generation];
        self.world.events.iter().filter(move |event| {
            place(&event.id, shards) == shard
                && event.generation <= generation
                && (event.generation < generation || event.sequence <= through)
        })
    }

    fn base(&self, through: u64) -> Base {
        let times = self.held(through).map(|event| event.time);
        Base {
            through: Sequence::new(through),
            time: Timestamp::from_micros(times.max().unwrap_or(i64::MIN)),
        }
    }

    /// Removes the first `count` events, as retention does.
    pub(super) fn retire(&mut self, count: usize) {
        let count = count.min(self.events.len());
        let removed: Vec<Stored> = self.events.drain(..count).collect();
        let latest = removed.iter().map(|event| event.time).max();
        let (Some(last), Some(latest)) = (removed.last(), latest) else {
            return;
        };
        let base = self.base(last.sequence);
        self.bases.retain(|other| other.through > base.through);
        self.bases.insert(0, base);
        self.first = last.sequence + 1;
        self.removed = Some(Base {
            through: Sequence::new(last.sequence),
            time: Timestamp::from_micros(latest),
        });
    }
}

impl HistoryLog for TestLog {
    fn first_sequence(&self) -> Sequence {
        Sequence::new(self.first)
    }

    fn last_sequence(&self) -> Sequence {
        let last = self.events.last().map(|event| event.sequence);
        last.map_or_else(|| self.first_sequence().previous(), Sequence::new)
    }

    fn removed(&self) -> Option<Base> {
        self.removed
    }

    fn bases(&self) -> &[Base] {
        &self.bases
    }

    fn state(&self, base: Base) -> Result<State, HistoryError> {
        assert!(self.bases.contains(&base));
        let mut state = State::default();
        for event in self.held(base.through.get()) {
            event.apply_to(&mut state);
        }
        Ok(state)
    }

    fn latest_in(&self, base: Base, scope: TimeScope<'_>) -> Result<Timestamp, HistoryError> {
        assert!(self.bases.contains(&base));
        let held = self.held(base.through.get());
        let times = held
            .filter(|event| TimeScope::of(&event.id) == scope)
            .map(|event| event.time);
        Ok(Timestamp::from_micros(times.max().unwrap_or(0)))
    }

    fn last_event_in(
        &self,
        base: Base,
        pattern: &Filter,
    ) -> Result<Option<Sequence>, HistoryError> {
        assert!(self.bases.contains(&base));
        let Some(key) = pattern.concerns_single_placement() else {
            return Ok(None);
        };
        let held = self.held(base.through.get());
        let own = held.filter(|event| placement_key(&event.id) == key);
        let last = own.map(|event| event.sequence).max();
        Ok(Some(Sequence::new(last.unwrap_or(0))))
    }

    fn after_time(&self, time: Timestamp) -> Result<Sequence, HistoryError> {
        let mut newest = self.events.iter().rev();
        let last = newest.find(|event| event.time <= time.as_micros());
        Ok(Sequence::new(
            last.map_or(self.first, |event| event.sequence + 1),
        ))
    }

    fn read_backward(
        &self,
        keys: RangeInclusive<u64>,
        before: Sequence,
        visit: Visit<'_>,
    ) -> Result<(), HistoryError> {
        let wanted = |event: &&Stored| {
            keys.contains(&key::entity_key(&event.id)) && event.sequence < before.get()
        };
        for event in self.events.iter().rev().filter(wanted) {
            if visit(record(event))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn read_forward(&self, from: Sequence, visit: Visit<'_>) -> Result<(), HistoryError> {
        for event in self
            .events
            .iter()
            .filter(|event| event.sequence >= from.get())
        {
            if visit(record(event))? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn read_forward_by_key(
        &self,
        keys: RangeInclusive<u64>,
        from: Sequence,
        visit: Visit<'_>,
    ) -> Result<(), HistoryError> {
        let wanted = |event: &&Stored| {
            keys.contains(&key::entity_key(&event.id)) && event.sequence >= from.get()
        };
        for event in self.events.iter().filter(wanted) {
            if visit(record(event))?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn record(event: &Stored) -> Record<'_> {
    Record {
        sequence: Sequence::new(event.sequence),
        time_micros: event.time,
        kind: RECORD_KIND_EVENT,
        group: None,
        payload: &event.payload,
    }
}

/// A log of any length in little memory: its entities take turns with events of one size, under one
/// key.
#[derive(Debug)]
pub(super) struct Endless {
    payloads: Vec<Vec<u8>>,
    count: u64,
    /// What a query may work in.
    pub(super) memory_bytes: usize,
}

impl Endless {
    /// `count` events with a value of `bytes` bytes.
    pub(super) fn new(ids: &[&str], bytes: usize, count: u64) -> Self {
        let value = format!("\"{}\"", "x".repeat(bytes));
        let property = Property {
            name: "p",
            value: &value,
        };
        let payload = |id: &&str| {
            let draft = EventDraft {
                entity_id: id,
                event_id: EventId::Text("e"),
                stream: "s",
                source: "t",
                timestamp_ms: None,
                key: None,
                schema: None,
                traceparent: None,
                extra: "",
                tombstone: false,
                properties: &[property],
            };
            let mut payload = Vec::new();
            draft.encode(&mut payload);
            payload
        };
        Self {
            payloads: ids.iter().map(payload).collect(),
            count,
            memory_bytes: usize::MAX,
        }
    }

    fn payload(&self, sequence: u64) -> &[u8] {
        let turn = sequence % self.payloads.len() as u64;
        &self.payloads[usize::try_from(turn).unwrap()]
    }

    fn visit(
        &self,
        sequences: impl Iterator<Item = u64>,
        visit: Visit<'_>,
    ) -> Result<(), HistoryError> {
        for sequence in sequences {
            let record = Record {
                sequence: Sequence::new(sequence),
                time_micros: 0,
                kind: RECORD_KIND_EVENT,
                group: None,
                payload: self.payload(sequence),
            };
            if visit(record)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl HistoryLog for Endless {
    fn first_sequence(&self) -> Sequence {
        Sequence::new(1)
    }

    fn last_sequence(&self) -> Sequence {
        Sequence::new(self.count)
    }

    fn removed(&self) -> Option<Base> {
        None
    }

    fn bases(&self) -> &[Base] {
        &[]
    }

    fn state(&self, _: Base) -> Result<State, HistoryError> {
        unreachable!("it has no base")
    }

    fn latest_in(&self, _: Base, _: TimeScope<'_>) -> Result<Timestamp, HistoryError> {
        unreachable!("it has no base")
    }

    fn last_event_in(&self, _: Base, _: &Filter) -> Result<Option<Sequence>, HistoryError> {
        unreachable!("it has no base")
    }

    fn after_time(&self, _: Timestamp) -> Result<Sequence, HistoryError> {
        Ok(Sequence::new(self.count + 1))
    }

    fn read_backward(
        &self,
        _: RangeInclusive<u64>,
        before: Sequence,
        visit: Visit<'_>,
    ) -> Result<(), HistoryError> {
        let end = before.get().min(self.count + 1);
        self.visit((1..end).rev(), visit)
    }

    fn read_forward(&self, from: Sequence, visit: Visit<'_>) -> Result<(), HistoryError> {
        self.visit(from.get()..=self.count, visit)
    }

    fn hold(&self, bytes: usize) -> Result<(), HistoryError> {
        if bytes > self.memory_bytes {
            return Err(HistoryError::OutOfMemory);
        }
        Ok(())
    }
}
