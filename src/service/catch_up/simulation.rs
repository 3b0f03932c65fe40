//! Shards, a core and a client in random order, step by step with a seed: what the client holds is
//! compared with what the shards hold.
//!
//! The shards answer and push as the server's do: what they read may not be visible yet, an answer
//! waits until it is, and of what leaves together the answers come first.

use super::changed::{ChangedAsk, Events};
use super::{Changed, Tail, Walk};
use crate::history::ForwardPlace;
use crate::model::Timestamp;
use fastrand::Rng;
use flux_storage::Sequence;
use std::collections::{BTreeMap, VecDeque};

const SHARDS: u16 = 3;
const IDS: usize = 12;

/// Properties, each with the sequence of the event that set it.
type Entity = BTreeMap<u8, u64>;

/// An event: it sets a property, or deletes.
#[derive(Debug, Clone, Copy)]
struct Event {
    sequence: u64,
    id: usize,
    property: Option<u8>,
}

impl Event {
    fn known(&self) -> Events {
        let last = Sequence::new(self.sequence);
        let is_deleted = self.property.is_none();
        Events {
            is_replaced: is_deleted,
            last,
            deleted: is_deleted.then_some((last, Timestamp::default())),
        }
    }
}

#[derive(Debug, Clone)]
enum Request {
    Subscribe,
    Page(Option<Box<str>>),
    Entities(Vec<Box<str>>),
    /// A reader of the log.
    Past,
}

#[derive(Debug, Clone)]
enum Answer {
    Subscribed,
    /// Entities, and the last id that the page covers.
    Page(Vec<(usize, Entity)>, Option<Box<str>>),
    /// What became of some ids, and the other ids.
    Entities(Vec<(usize, Option<Entity>)>, Vec<Box<str>>),
    Past,
}

#[derive(Debug, Clone)]
enum Message {
    /// With the end of the log when it was given.
    Answer(u64, Answer),
    Change(Event),
}

#[derive(Debug, Default)]
struct Shard {
    log: Vec<Event>,
    state: BTreeMap<usize, Entity>,
    requests: VecDeque<Request>,
    /// Answers that wait until they may be seen.
    held: VecDeque<(u64, Answer)>,
    subscribed: bool,
    /// Changes that nobody was told of yet.
    changes: VecDeque<Event>,
    /// On the way to the core.
    sent: VecDeque<Message>,
    /// The newest change that has come by.
    fanned_out: u64,
}

fn name(id: usize) -> String {
    format!("{id:02}")
}

fn number(id: &str) -> usize {
    id.parse().unwrap()
}

fn shard_of(id: usize) -> u16 {
    u16::try_from(id % usize::from(SHARDS)).unwrap()
}

fn apply(state: &mut BTreeMap<usize, Entity>, event: Event) {
    match event.property {
        None => drop(state.remove(&event.id)),
        Some(property) => {
            let entity = state.entry(event.id).or_default();
            entity.insert(property, event.sequence);
        }
    }
}

impl Shard {
    fn appended(&self) -> u64 {
        self.log.last().map_or(0, |event| event.sequence)
    }

    fn state_at(&self, end: u64) -> BTreeMap<usize, Entity> {
        let mut state = BTreeMap::new();
        let log = self.log.iter().filter(|event| event.sequence <= end);
        log.for_each(|event| apply(&mut state, *event));
        state
    }

    fn publish(&mut self, shard: u16, random: &mut Rng) {
        let own: Vec<usize> = (0..IDS).filter(|id| shard_of(*id) == shard).collect();
        let event = Event {
            sequence: self.appended() + 1,
            id: own[random.usize(..own.len())],
            property: (random.u8(..5) > 0).then(|| random.u8(..3)),
        };
        self.log.push(event);
        apply(&mut self.state, event);
        if self.subscribed {
            self.changes.push_back(event);
        }
    }

    fn work(&mut self, random: &mut Rng) {
        let Some(request) = self.requests.pop_front() else {
            return;
        };
        let answer = match request {
            Request::Subscribe => {
                self.subscribed = true;
                Answer::Subscribed
            }
            Request::Past => Answer::Past,
            Request::Page(after) => {
                let after = after.map(|id| number(&id));
                let behind = |id: &&usize| after.is_none_or(|after| **id > after);
                let ids: Vec<usize> = self.state.keys().filter(behind).copied().collect();
                let count = random.usize(1..3).min(ids.len());
                let page = ids[..count].iter().map(|id| (*id, self.state[id].clone()));
                let last = (count < ids.len()).then(|| name(ids[count - 1]).into());
                Answer::Page(page.collect(), last)
            }
            Request::Entities(ids) => {
                let count = random.usize(1..=ids.len());
                let (told, rest) = ids.split_at(count);
                let told = told.iter().map(|id| {
                    let id = number(id);
                    (id, self.state.get(&id).cloned())
                });
                Answer::Entities(told.collect(), rest.to_vec())
            }
        };
        self.held.push_back((self.appended(), answer));
    }

    /// A flush has returned: everything is visible.
    fn release(&mut self) {
        for (read, answer) in self.held.drain(..) {
            self.sent.push_back(Message::Answer(read, answer));
        }
        let changes = self.changes.drain(..).map(Message::Change);
        self.sent.extend(changes);
    }
}

/// What a client holds of entities.
#[derive(Debug, Default)]
struct Client(BTreeMap<usize, Entity>);

impl Client {
    fn newest(&self, id: usize) -> u64 {
        let entity = self.0.get(&id);
        entity
            .and_then(|entity| entity.values().max().copied())
            .unwrap_or(0)
    }

    fn set(&mut self, id: usize, entity: Option<Entity>) {
        match entity {
            None => drop(self.0.remove(&id)),
            Some(entity) => drop(self.0.insert(id, entity)),
        }
    }

    fn change(&mut self, event: Event, context: &str) {
        assert!(
            event.sequence > self.newest(event.id),
            "{context}: the client has it already: {event:?}"
        );
        apply(&mut self.0, event);
    }
}

/// Shards, and the seed that they are driven by.
struct World {
    random: Rng,
    shards: Vec<Shard>,
    /// Reads of logs that have a reader: its place and where the log ended.
    job: Option<(ForwardPlace, u64)>,
    publishes: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Rng::with_seed(seed),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            job: None,
            publishes: true,
        };
        for _ in 0..world.random.usize(..60) {
            world.publish();
        }
        world
    }

    fn publish(&mut self) {
        let shard = self.random.u16(..SHARDS);
        self.shards[usize::from(shard)].publish(shard, &mut self.random);
    }

    fn shard(&mut self, shard: u16) -> &mut Shard {
        &mut self.shards[usize::from(shard)]
    }

    fn ask(&mut self, shard: u16, request: Request) {
        self.shard(shard).requests.push_back(request);
    }

    /// Asks for a reader of a log.
    fn ask_log(&mut self, place: ForwardPlace) {
        let ForwardPlace::Live { shard, .. } = place else {
            panic!("{place:?}");
        };
        self.ask(shard, Request::Past);
        self.job = Some((place, 0));
    }

    /// Something happens. What reaches the core, if it is that.
    fn step(&mut self) -> Option<(u16, Message)> {
        let shard = self.random.u16(..SHARDS);
        match self.random.u8(..8) {
            0 | 1 if self.publishes => self.publish(),
            2 | 3 => {
                let index = usize::from(shard);
                self.shards[index].work(&mut self.random);
            }
            4 => self.shard(shard).release(),
            _ => {
                let message = self.shard(shard).sent.pop_front()?;
                if let Message::Change(event) = message {
                    let shard = self.shard(shard);
                    shard.fanned_out = shard.fanned_out.max(event.sequence);
                }
                return Some((shard, message));
            }
        }
        None
    }

    /// The part of a log that a helper thread has read.
    fn read(&mut self) -> Option<(u16, Vec<Event>, Option<ForwardPlace>, u64)> {
        let (place, end) = self.job.take()?;
        let ForwardPlace::Live { shard, last } = place else {
            panic!("{place:?}");
        };
        let max = self.random.usize(1..6);
        let log = &self.shard(shard).log;
        let after = log
            .iter()
            .filter(|event| event.sequence > last.get() && event.sequence <= end);
        let events: Vec<Event> = after.copied().collect();
        let part = events[..max.min(events.len())].to_vec();
        let through = match part.last() {
            Some(event) if part.len() < events.len() => event.sequence,
            _ => end,
        };
        let next = (part.len() < events.len()).then_some(ForwardPlace::Live {
            shard,
            last: Sequence::new(through),
        });
        Some((shard, part, next, through))
    }

    /// Ends of the logs that everything so far was visible at, some while ago.
    fn random_places(&mut self) -> Vec<u64> {
        let ends: Vec<u64> = self.shards.iter().map(Shard::appended).collect();
        ends.iter().map(|end| self.random.u64(..=*end)).collect()
    }

    fn is_quiet(&self) -> bool {
        self.shards.iter().all(|shard| {
            shard.sent.is_empty()
                && shard.changes.is_empty()
                && shard.held.is_empty()
                && shard.requests.is_empty()
        })
    }

    /// Subscribes everywhere, and waits until that is in force. By shard, the end of the log then.
    fn subscribe(&mut self, mut meanwhile: impl FnMut(u16, Event)) -> Vec<u64> {
        for shard in 0..SHARDS {
            self.ask(shard, Request::Subscribe);
        }
        let mut places = vec![None; usize::from(SHARDS)];
        while places.contains(&None) {
            match self.step() {
                Some((shard, Message::Answer(read, Answer::Subscribed))) => {
                    places[usize::from(shard)] = Some(read);
                }
                Some((shard, Message::Change(event))) => meanwhile(shard, event),
                Some((_, message)) => panic!("{message:?}"),
                None => {}
            }
        }
        places.into_iter().flatten().collect()
    }

    /// Compares what a client holds with what the shards hold.
    fn compare(&self, client: &Client, context: &str) {
        let states = self.shards.iter().flat_map(|shard| shard.state.clone());
        let expected: BTreeMap<usize, Entity> = states.collect();
        assert_eq!(client.0, expected, "{context}");
    }

    /// Checks that a client holds of each entity a state that it has had since the last change
    /// that came by.
    fn check_current(&self, client: &Client, context: &str) {
        for id in 0..IDS {
            let shard = &self.shards[usize::from(shard_of(id))];
            let held = client.0.get(&id).cloned();
            let states = (shard.fanned_out..=shard.appended()).map(|end| shard.state_at(end));
            let mut states = states.map(|mut state| state.remove(&id));
            assert!(
                states.any(|state| state == held),
                "{context}: {id} is {held:?}"
            );
        }
    }
}

#[test]
fn a_snapshot_beside_changes_gives_the_exact_state_and_holds_nothing_back() {
    for seed in 0..3_000 {
        let context = format!("seed {seed}");
        let mut world = World::new(seed);
        world.subscribe(|_, _| {});
        let (mut walk, mut client) = (Walk::new(0..SHARDS), Client::default());
        let (mut is_ended, mut steps) = (false, 0);
        while !is_ended || !world.is_quiet() {
            steps += 1;
            world.publishes = steps < 400;
            let takes_more = world.random.bool();
            if takes_more && let Some((shard, after)) = walk.ask() {
                world.ask(shard, Request::Page(after));
            }
            match world.step() {
                Some((_, Message::Answer(read, Answer::Page(page, last)))) => {
                    walk.take(last, Sequence::new(read));
                    for (id, entity) in page {
                        client.set(id, Some(entity));
                    }
                }
                Some((shard, Message::Change(event))) => {
                    let sequence = Some(Sequence::new(event.sequence));
                    if walk.takes(shard, &name(event.id), sequence) {
                        client.change(event, &context);
                    }
                }
                Some((_, message)) => panic!("{message:?}"),
                None => {}
            }
            if walk.is_done() && !is_ended {
                is_ended = true;
                world.check_current(&client, &context);
            }
        }
        world.compare(&client, &context);
    }
}

#[test]
fn what_changed_since_a_cursor_is_sent_whole_and_then_live() {
    for seed in 0..3_000 {
        let context = format!("seed {seed}");
        let mut world = World::new(seed);
        let cursor = world.random_places();
        let mut client = Client::default();
        for (shard, end) in world.shards.iter().zip(&cursor) {
            client.0.extend(shard.state_at(*end));
        }
        world.subscribe(|_, _| {});
        let mut changed = Changed::new(0..SHARDS, None, |shard| {
            Sequence::new(cursor[usize::from(shard)])
        });
        let (mut is_ended, mut steps) = (false, 0);
        while !is_ended || !world.is_quiet() {
            steps += 1;
            world.publishes = steps < 400;
            if world.random.bool() {
                match changed.ask() {
                    None => {}
                    Some(ChangedAsk::Entities(shard, ids)) => {
                        world.ask(shard, Request::Entities(ids));
                    }
                    Some(ChangedAsk::Log(place)) => {
                        world.ask_log(place);
                    }
                }
            }
            if world.random.bool()
                && world.job.is_some_and(|(_, end)| end > 0)
                && let Some((shard, events, next, through)) = world.read()
            {
                let ids: Vec<(String, Events)> = events
                    .iter()
                    .map(|event| (name(event.id), event.known()))
                    .collect();
                let ids = ids.iter().map(|(id, events)| (shard, &**id, *events));
                let taken = changed.take_ids(ids, (next, Sequence::new(through)), 1);
                assert_eq!(taken, Ok(()));
            }
            take_changed(&mut world, &mut changed, &mut client, &context);
            if changed.is_done() && !is_ended {
                is_ended = true;
                world.check_current(&client, &context);
                check_resumable(&world, &changed, &client, &context);
            }
        }
        world.compare(&client, &context);
    }
}

/// Takes what reaches the core, for [`Changed`].
fn take_changed(world: &mut World, changed: &mut Changed, client: &mut Client, context: &str) {
    match world.step() {
        Some((shard, Message::Answer(read, Answer::Entities(told, rest)))) => {
            changed.take_answer(shard, Sequence::new(read), &rest);
            for (id, entity) in told {
                let waits = entity.is_none() && changed.asks_for_deletion(shard, &name(id));
                if waits {
                    continue;
                }
                let sent = changed.sent(shard, &name(id)).expect("it was asked for");
                if entity.is_none() {
                    let (deleted, _) = sent.deleted.expect("what deleted it is known by now");
                    let log = &world.shards[usize::from(shard)].log;
                    let mut deletions =
                        log.iter().filter(|it| it.id == id && it.property.is_none());
                    let is_one = deletions.any(|it| it.sequence == deleted.get());
                    assert!(is_one, "{context}: {id} was not deleted by {deleted:?}");
                }
                let before = client.0.get(&id).into_iter().flatten();
                let is_kept = before
                    .into_iter()
                    .all(|(name, _)| entity.as_ref().is_some_and(|it| it.contains_key(name)));
                assert!(
                    is_kept || sent.is_replaced,
                    "{context}: a property went, and nobody was told of a deletion"
                );
                client.set(id, entity);
            }
        }
        Some((shard, Message::Answer(end, Answer::Past))) => {
            if let Some((ForwardPlace::Live { shard: of, .. }, at)) = &mut world.job {
                assert_eq!(*of, shard);
                // An empty log is read through 0.
                *at = end.max(1);
            }
        }
        Some((shard, Message::Change(event))) => {
            let change = (&*name(event.id), event.known());
            let sequence = Some(Sequence::new(event.sequence));
            if changed.takes(shard, change, sequence) == Ok(true) {
                client.change(event, context);
            }
        }
        Some((_, message)) => panic!("{message:?}"),
        None => {}
    }
}

/// The cursor of `caught_up` leaves nothing out: what the client lacks came after it.
fn check_resumable(world: &World, changed: &Changed, client: &Client, context: &str) {
    for id in 0..IDS {
        let shard = shard_of(id);
        let at = &world.shards[usize::from(shard)];
        let through = changed.through(shard, Sequence::new(at.fanned_out)).get();
        let last = at
            .log
            .iter()
            .rev()
            .find(|event| event.id == id && event.sequence <= through);
        if let Some(Event {
            sequence,
            property: Some(_),
            ..
        }) = last
        {
            assert!(
                client.newest(id) >= *sequence,
                "{context}: {id} through {through}"
            );
        }
    }
}

#[test]
fn every_event_comes_once_and_in_order_however_slowly_the_client_reads() {
    let mut went_live = 0;
    for seed in 0..3_000 {
        let mut world = World::new(seed);
        let cursor = world.random_places();
        let mut gone_by = Vec::new();
        let in_force = world.subscribe(|shard, event| gone_by.push((shard, event)));
        let mut tail = Tail::since(0..SHARDS, None, |shard| {
            let index = usize::from(shard);
            (Sequence::new(cursor[index]), Sequence::new(in_force[index]))
        });
        let mut received = vec![Vec::new(); usize::from(SHARDS)];
        for (shard, event) in gone_by {
            pass(&mut world, &mut tail, &mut received, (shard, event));
        }
        let mut steps = 0;
        while !tail.is_live() || !world.is_quiet() {
            steps += 1;
            world.publishes = steps < 400;
            if tail.is_live() {
                went_live += 1;
            }
            if world.random.bool()
                && let Some(place) = tail.ask()
            {
                world.ask_log(place);
            }
            if world.random.bool()
                && world.job.is_some_and(|(_, end)| end > 0)
                && let Some((shard, events, next, through)) = world.read()
            {
                let sequences = events.iter().map(|event| event.sequence);
                let new = sequences.filter(|it| tail.is_new(shard, Sequence::new(*it)));
                received[usize::from(shard)].extend(new);
                tail.take(next, Sequence::new(through));
            }
            let next = tail.kept_next().next();
            if world.random.bool()
                && let Some((shard, sequence)) = next
                && let Some(frame) = tail.pop_kept(shard, sequence)
            {
                let (shard, sequence) = unframe(&frame);
                received[usize::from(shard)].push(sequence);
            }
            match world.step() {
                Some((_, Message::Answer(end, Answer::Past))) => {
                    if let Some((_, at)) = &mut world.job {
                        *at = end.max(1);
                    }
                }
                Some((shard, Message::Change(event))) => {
                    pass(&mut world, &mut tail, &mut received, (shard, event));
                }
                Some((_, message)) => panic!("{message:?}"),
                None => {}
            }
        }
        for (shard, received) in received.iter().enumerate() {
            let log = world.shards[shard].log.iter().map(|event| event.sequence);
            let expected: Vec<u64> = log.filter(|sequence| *sequence > cursor[shard]).collect();
            assert_eq!(*received, expected, "seed {seed}");
        }
    }
    assert!(went_live > 1_000, "it was live {went_live} times");
}

fn frame((shard, sequence): (u16, u64)) -> Vec<u8> {
    [&shard.to_le_bytes()[..], &sequence.to_le_bytes()].concat()
}

fn unframe(frame: &[u8]) -> (u16, u64) {
    let (shard, sequence) = frame.split_first_chunk().unwrap();
    let sequence = sequence.try_into().unwrap();
    (u16::from_le_bytes(*shard), u64::from_le_bytes(sequence))
}

/// A live event goes by; the outbox may be full.
fn pass(
    world: &mut World,
    tail: &mut Tail,
    received: &mut [Vec<u64>],
    (shard, event): (u16, Event),
) {
    let sequence = Sequence::new(event.sequence);
    let is_pushed = !tail.blocks(shard) && tail.is_new(shard, sequence);
    let has_room = world.random.u8(..64) > 0;
    if is_pushed && has_room {
        received[usize::from(shard)].push(event.sequence);
        tail.pushed(shard, sequence);
    } else if !is_pushed && has_room && tail.keeps(shard, sequence) {
        let frame = frame((shard, event.sequence));
        tail.keep(shard, (sequence, "n/a"), &frame);
    } else {
        tail.miss(shard, sequence);
    }
}
