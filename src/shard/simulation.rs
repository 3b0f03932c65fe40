//! A shard under a seed: random publishes, deletes, reads, flushes that lag, a log that runs out of
//! room, and crashes.
//!
//! The model is a map and a list of what was logged. After every step:
//!
//! - no reply has come out before what it says was durable, and replies to reads say what the model
//!   said when they were asked;
//! - entities that expire go when their time has come by a clock that goes on evenly, however the
//!   one that dates events is set, and after a crash by what they show (`simulation_ends`);
//! - entities that are bound to a connection go after it has ended and they have lingered, and not
//!   while one holds them; after a crash they linger from the start on (`simulation_presence`);
//! - what is said of each write is what the log says (`simulation_writes`);
//! - an atomic group is in the log whole or not at all, whenever the log is cut
//!   (`simulation_groups`);
//! - the live state, the model, and a replay of the log are the same;
//! - after a crash, the state is that of the durable part of the log.

use super::simulation_ends::{Ends, lifetimes, lifetimes_of};
use super::simulation_groups::{Groups, check_refused_group, check_stored_group, pack_of};
use super::simulation_presence::Presence;
use super::simulation_replay::{
    Entity, Model, apply_to_model, dump, last_times_of, model_of, replayed,
};
use super::simulation_writes::{Asked, check_ids, check_verdicts, random_write};
use super::*;
use crate::api::ApiError;
use crate::api::outcome::PartOutcome;
use crate::api::query::ListQuery;
use crate::auth::Readable;
use crate::auth::{Charged, OwnedNamespace, TokenNumber};
use crate::engine::{ChunkBounds, Engine, RecentIds};
use crate::limits::RELEASED_REPLIES_MAX;
use crate::log::{
    Faults, Flusher as _, Log as _, MemoryDisk, MemoryFlush, MemoryFlusher, MemoryLog, WriteSpeed,
};
use crate::model::Slicing;
use crate::model::{
    Binding, DedupWindow, Durability, EventDraft, EventId, EventPack, EventView, PackedEvent,
    Property, Timestamp, placement_key,
};
use flux_storage::Sequence;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// A record's time and payload.
type Records = Vec<(i64, Box<[u8]>)>;

/// All that a shard's log holds, written or not.
pub(super) fn records(shard: &mut Shard<MemoryLog>) -> Records {
    let mut records = Records::new();
    let visited = shard.log_mut().replay_from(Sequence::ZERO, |record| {
        records.push((record.time_micros, record.payload.into()));
        Ok::<(), Infallible>(())
    });
    visited.unwrap();
    records
}

/// Flushes all that a shard's log holds.
fn flush(shard: &mut Shard<MemoryLog>) {
    shard.log_mut().flush_blocking().unwrap();
}

/// Prepares the next segment, if one is wanted, and goes on with what waits for it.
fn make_room(shard: &mut Shard<MemoryLog>, now: Timestamp) {
    if let Some(job) = shard.log_mut().next_segment_job(0) {
        let segment = job.run(&mut |_| WriteSpeed::Full).unwrap();
        shard.log_mut().install_next_segment(segment);
    }
    shard.resume(now);
}

/// Slices in which what is left for later turns comes to its end.
const SLICES_MAX: u32 = 10_000;

/// Does all slices of what was left for later turns.
fn go_on_to_the_end(shard: &mut Shard<MemoryLog>, now: Timestamp) {
    for _ in 0..SLICES_MAX {
        if !shard.has_work() {
            return;
        }
        shard.go_on(now);
    }
    panic!("what was left for later turns never comes to its end");
}

/// Segments of so many records.
fn segments(records: RangeInclusive<u64>) -> Faults {
    Faults {
        segment_records: Some(records),
        ..Faults::default()
    }
}

/// A log whose first segment has room for so many records, and each further one for 1,000.
fn log_with_room(records: u64) -> MemoryLog {
    let disk = MemoryDisk::new(1, segments(records..=records));
    let log = open(disk.clone());
    disk.set_faults(segments(1000..=1000));
    log
}

fn open(disk: MemoryDisk) -> MemoryLog {
    let Ok(log) = MemoryLog::open(disk, |_| Ok::<(), Infallible>(()));
    log
}

/// What a reply has to say.
#[derive(Debug)]
pub(super) enum Expected {
    Published(Vec<Asked>),
    Entity(Option<Entity>),
    Listed(Vec<String>),
    Deleted,
    /// The group, and how many events the log had when it was asked for.
    Group(Vec<Asked>, usize),
}

/// As many events as a run has, and longer than it lasts.
const WINDOW: DedupWindow = DedupWindow {
    seconds: 3600,
    events: 1_000_000,
};

pub(super) struct Simulation {
    pub(super) random: fastrand::Rng,
    /// Writes that may be sent again.
    sent: Vec<Asked>,
    pub(super) shard: Shard<MemoryLog>,
    /// The flush in progress.
    flush: Option<MemoryFlush>,
    model: Model,
    /// What the next event must not fall below, by placement key.
    last_times: BTreeMap<String, i64>,
    expected: HashMap<u32, Expected>,
    pub(super) next_slot: u32,
    pub(super) now: i64,
    monotonic: u64,
    ends: Ends,
    pub(super) presence: Presence,
    pub(super) groups: Groups,
}

impl Simulation {
    fn new(seed: u64, disk: MemoryDisk) -> Self {
        let stored = disk.records();
        let model = model_of(&stored);
        let last_times = last_times_of(&stored);
        let (mut engine, mut log) = (replayed(&stored), open(disk));
        let ids = RecentIds::new(WINDOW);
        engine
            .remember_ids(&mut log, ids, Timestamp::default(), &mut || ())
            .unwrap();
        let bound = engine.bound_entities();
        Self {
            random: fastrand::Rng::with_seed(seed),
            shard: Shard::new(engine, log, Durability::Sync, seed)
                .with_orphans(bound)
                .with_slicing(Slicing::SMALL),
            sent: Vec::new(),
            flush: None,
            model,
            last_times,
            expected: HashMap::new(),
            next_slot: 0,
            now: 1_000_000_000,
            monotonic: 0,
            ends: Ends::of(&stored),
            presence: Presence::of(&stored),
            groups: Groups::default(),
        }
    }

    pub(super) fn id(&mut self) -> String {
        match self.random.u8(..8) {
            number @ 0..2 => format!("solo{number}"),
            _ => format!("n{}/e{}", self.random.u8(..2), self.random.u8(..6)),
        }
    }

    /// A write: a new one, or one that was sent before, perhaps under another condition.
    fn write(&mut self) -> Asked {
        if let Some(sent) = self.random.choice(&self.sent)
            && self.random.u8(..4) == 0
        {
            return sent.clone();
        }
        let id = self.id();
        let write = random_write(&mut self.random, &id, "simulation");
        self.sent.push(write.clone());
        write
    }

    pub(super) fn ask(&mut self, request: ShardRequest, expected: Expected) {
        self.expected.insert(self.next_slot + 1, expected);
        self.send((0, 0), request);
    }

    /// Sends a request from a connection, by its index and generation.
    pub(super) fn send(&mut self, (connection, generation): (u32, u32), request: ShardRequest) {
        self.next_slot += 1;
        let request_id = RequestId {
            connection,
            generation,
            serial: self.next_slot,
        };
        let origin = Origin {
            core: 0,
            request_id,
        };
        let (before, now) = (records(&mut self.shard).len(), self.now());
        self.shard.request(Envelope { origin, request }, now);
        self.learn(before, now);
    }

    /// The clock mostly goes on, sometimes steps back, and is set now and then.
    pub(super) fn now(&mut self) -> Timestamp {
        self.now += match self.random.u8(..40) {
            0 => 1_000_000,
            1 => -900_000,
            _ => self.random.i64(-50..500),
        };
        let now = Timestamp::from_micros(self.now);
        self.monotonic += self.random.u64(..500);
        self.shard.advance(now, self.monotonic);
        now
    }

    /// Applies to the model what the shard has logged since `before`, at `now` by its clock: each
    /// event is dated by that, or by the last of its namespace, or of its id if it has none.
    pub(super) fn learn(&mut self, before: usize, now: Timestamp) {
        let logged = records(&mut self.shard);
        self.groups.check_whole(&logged[before..]);
        for (index, (time, bytes)) in logged.iter().enumerate().skip(before) {
            let event = EventView::decode(bytes).unwrap();
            let key = placement_key(event.entity_id).to_owned();
            let last = self.last_times.insert(key, *time);
            let expected = last.map_or(now.as_micros(), |last| last.max(now.as_micros()));
            assert_eq!(*time, expected, "{}", event.entity_id);
            let deadline_now = self.shard.engine().deadline_now();
            self.ends.learn(&event, (*time, deadline_now));
            let sequence = Sequence::new(index as u64 + 1);
            self.presence.learn(&event, (sequence, deadline_now));
            apply_to_model(&mut self.model, *time, &event);
        }
    }

    fn publish(&mut self) {
        let count = self.random.usize(1..5);
        let writes: Vec<Asked> = (0..count).map(|_| self.write()).collect();
        let request = ShardRequest::Publish {
            pack: pack_of(&writes),
            done: PartOutcome::default(),
            charged: None,
        };
        self.ask(request, Expected::Published(writes));
    }

    /// A turn of the core: what is left for later, and what has come to its end.
    fn turn(&mut self) {
        let before = records(&mut self.shard).len();
        let now = self.now();
        go_on_to_the_end(&mut self.shard, now);
        self.learn(before, now);
        self.presence.begin(self.shard.engine().deadline_now());
        self.note_ends();
        self.ends.check(&self.shard);
        self.presence.check(&self.shard);
    }

    fn delete(&mut self) {
        let id = self.id().into();
        let request = ShardRequest::Delete {
            id,
            terms: Box::default(),
            charged: None,
        };
        self.ask(request, Expected::Deleted);
    }

    fn list(&mut self) {
        let query = ListQuery {
            namespace: Some("n1".into()),
            ..ListQuery::default()
        };
        let ids = self.model.keys().filter(|id| id.starts_with("n1/"));
        let ids = ids.cloned().collect();
        let request = ShardRequest::List(Box::new(ListPart {
            query: Arc::new(query),
            after: None,
            bounds: ChunkBounds::NONE,
            readable: Readable::all(),
        }));
        self.ask(request, Expected::Listed(ids));
    }

    fn flush_or_finish(&mut self) {
        match self.flush.take() {
            None => self.flush = self.shard.log_mut().begin_flush().unwrap(),
            Some(flush) => {
                MemoryFlusher.flush(&flush).unwrap();
                self.shard.log_mut().finish_flush(flush);
            }
        }
    }

    fn step(&mut self) {
        if self.random.u8(..4) == 0 {
            self.turn();
        }
        match self.random.u8(..16) {
            0..4 => self.publish(),
            4 => self.delete(),
            5 => {
                let id = self.id();
                let expected = Expected::Entity(self.model.get(&id).cloned());
                self.ask(read(&id), expected);
            }
            6 => self.list(),
            7 | 8 => {
                let before = records(&mut self.shard).len();
                let now = self.now();
                make_room(&mut self.shard, now);
                self.learn(before, now);
            }
            9 | 10 => self.publish_group(),
            11 | 12 => self.bind(),
            13 => self.end_connection(),
            _ => self.flush_or_finish(),
        }
        self.note_ends();
        self.check();
    }

    fn check(&mut self) {
        let durable = usize::try_from(self.shard.log().durable().get()).unwrap();
        let logged = records(&mut self.shard);
        let durable_model = model_of(&logged[..durable]);
        self.check_replies(&logged);
        check_ids(&logged);
        assert_eq!(
            dump(self.shard.engine()),
            self.model,
            "live state and model"
        );
        let replay = replayed(&logged);
        assert_eq!(dump(&replay), self.model, "replay and model");
        let expected = lifetimes_of(&logged);
        assert_eq!(lifetimes(self.shard.engine()), expected, "lifetimes");
        assert_eq!(lifetimes(&replay), expected, "lifetimes of a replay");
        assert_eq!(dump(&replayed(&logged[..durable])), durable_model);
    }

    fn check_replies(&mut self, logged: &[(i64, Box<[u8]>)]) {
        let mut replies = Vec::new();
        self.shard
            .release(|origin, reply| replies.push((origin.request_id.serial, reply)));
        for (slot, reply) in replies {
            let expected = self
                .expected
                .remove(&slot)
                .expect("one reply for each request");
            match (expected, reply) {
                (Expected::Published(asked), Reply::Published(outcome)) => {
                    assert_eq!((outcome.len(), &outcome.error), (asked.len(), &None));
                    check_verdicts(&outcome, &asked, logged);
                }
                (Expected::Group(asked, _), Reply::Published(outcome)) => {
                    self.groups.stored += 1;
                    check_stored_group(&outcome, &asked, logged);
                }
                (Expected::Group(asked, from), Reply::GroupRefused(index, error)) => {
                    self.groups.refused += u32::from(index > Some(0));
                    check_refused_group((index, &error), (&asked, from), logged);
                }
                (Expected::Entity(expected), Reply::Entity(found)) => {
                    let version = found.map(|shown| {
                        serde_json::from_slice::<serde_json::Value>(&shown.json).unwrap()["version"]
                            .as_u64()
                            .unwrap()
                    });
                    assert_eq!(version, expected.map(|(version, ..)| version));
                }
                (Expected::Listed(expected), Reply::Chunk(chunk)) => {
                    assert_eq!(chunk.ids, expected.concat());
                    assert!(chunk.last);
                }
                (Expected::Deleted, Reply::Deleted(Ok(_))) => {}
                (expected, reply) => panic!("{expected:?} got {reply:?}"),
            }
        }
    }

    /// Loses what is not durable, and starts again.
    fn crash(mut self, seed: u64) -> Self {
        let logged = records(&mut self.shard);
        let log = self.shard.into_log();
        let disk = log.disk().clone();
        let durable = log.durable().get();
        drop(log);
        disk.cut_power();
        let left = disk.records();
        assert!(left.len() as u64 >= durable, "nothing durable is lost");
        assert_eq!(left, logged[..left.len()], "the log is cut at its end");
        self.groups.check_whole(&left);
        let (sent, ended) = (self.sent, self.ends.ended);
        // Some time passes, or the clock is set meanwhile.
        let now = self.now + self.random.i64(-2_000..20_000);
        let mut next = Self {
            sent,
            now,
            groups: self.groups,
            ..Self::new(seed, disk)
        };
        next.ends.ended = ended;
        next.presence.goes_on_from(self.presence);
        next.turn();
        next
    }
}

#[test]
fn live_state_is_the_replay_of_the_log_through_crashes() {
    let mut counts = [0; 6];
    for seed in 0..40 {
        let run = std::panic::catch_unwind(|| {
            let mut simulation = Simulation::new(seed, MemoryDisk::new(seed, segments(1..=40)));
            for round in 0..4 {
                for _ in 0..60 {
                    simulation.step();
                }
                simulation = simulation.crash(seed + 1000 * round);
            }
            let (groups, presence) = (&simulation.groups, &simulation.presence);
            [
                simulation.ends.ended,
                groups.stored,
                groups.refused,
                presence.ended,
                presence.takeovers,
                presence.bound_again,
            ]
        });
        let Ok(run) = run else {
            panic!("failed with seed {seed}");
        };
        counts.iter_mut().zip(run).for_each(|(sum, it)| *sum += it);
    }
    // Expired; groups stored, and refused for a later event; gone with their connections, taken
    // over, and bound by a repetition.
    assert!(counts.iter().all(|count| *count >= 50), "{counts:?}");
}

pub(super) fn small_event() -> Vec<u8> {
    let mut bytes = Vec::new();
    let draft = EventDraft {
        entity_id: "n/e",
        event_id: EventId::Text("1"),
        stream: "s",
        source: "a",
        timestamp_ms: None,
        key: None,
        schema: None,
        traceparent: None,
        extra: "",
        tombstone: false,
        properties: &[Property {
            name: "p",
            value: "1",
        }],
    };
    draft.encode(&mut bytes);
    bytes
}

pub(super) fn shard() -> Shard<MemoryLog> {
    shard_over(MemoryLog::new())
}

fn shard_over(log: MemoryLog) -> Shard<MemoryLog> {
    Shard::new(Engine::default(), log, Durability::Sync, 1).with_slicing(Slicing::SMALL)
}

/// Who publishes what is published at once.
pub(super) const ASKER: RequestId = RequestId {
    connection: 0,
    generation: 0,
    serial: 0,
};

pub(super) fn origin(slot: u32) -> Origin {
    Origin {
        core: 0,
        request_id: RequestId {
            connection: 0,
            generation: 0,
            serial: slot,
        },
    }
}

pub(super) fn released(shard: &mut Shard<MemoryLog>) -> Vec<Reply> {
    let mut replies = Vec::new();
    shard.release(|_, reply| replies.push(reply));
    replies
}

pub(super) fn read(id: &str) -> ShardRequest {
    ShardRequest::Read {
        id: id.into(),
        fields: None,
        bytes_max: usize::MAX,
        readable: None,
    }
}

#[test]
fn replies_to_very_many_leave_in_slices_and_the_changes_behind_them() {
    let mut shard = shard();
    let now = Timestamp::from_micros(1);
    shard.engine_subscribe_for_test();
    let count = RELEASED_REPLIES_MAX + 10;
    for slot in 0..u32::try_from(count).unwrap() {
        let request = read("a/1");
        let origin = origin(slot);
        shard.request(Envelope { origin, request }, now);
    }
    let mut pack = EventPack::default();
    pack.push(&[], |out| out.extend_from_slice(&small_event()));
    let request = ShardRequest::Publish {
        pack,
        done: PartOutcome::default(),
        charged: None,
    };
    let origin = origin(0);
    shard.request(Envelope { origin, request }, now);
    shard.flush_begins();
    flush(&mut shard);
    assert_eq!(released(&mut shard).len(), RELEASED_REPLIES_MAX);
    assert!(shard.has_releasable());
    assert!(
        shard.take_changes(Timestamp::default()).is_none(),
        "replies wait before them"
    );
    assert_eq!(released(&mut shard).len(), 11);
    assert!(shard.take_changes(Timestamp::default()).is_some());
}

#[test]
fn a_read_ahead_of_the_disk_waits_also_for_a_deletion() {
    let mut shard = shard();
    let now = Timestamp::from_micros(1);
    shard
        .publish(now, (PackedEvent::plain(&small_event()), ASKER), None)
        .unwrap();
    shard.request(
        Envelope {
            origin: origin(1),
            request: read("n/e"),
        },
        now,
    );
    assert!(released(&mut shard).is_empty(), "the entity is not durable");
    flush(&mut shard);
    assert!(matches!(released(&mut shard)[..], [Reply::Entity(Some(_))]));
    shard.request(
        Envelope {
            origin: origin(2),
            request: ShardRequest::Delete {
                id: "n/e".into(),
                terms: Box::default(),
                charged: None,
            },
        },
        now,
    );
    shard.request(
        Envelope {
            origin: origin(3),
            request: read("n/e"),
        },
        now,
    );
    assert!(released(&mut shard).is_empty(), "neither is its deletion");
    flush(&mut shard);
    assert!(matches!(
        released(&mut shard)[..],
        [Reply::Deleted(Ok(Some(_))), Reply::Entity(None)]
    ));
}

#[test]
fn changes_come_out_only_after_the_flush_that_covers_them() {
    let mut shard = shard();
    shard.engine_subscribe_for_test();
    let now = Timestamp::from_micros(1);
    shard
        .publish(now, (PackedEvent::plain(&small_event()), ASKER), None)
        .unwrap();
    assert!(
        shard.take_changes(Timestamp::default()).is_none(),
        "no flush was issued"
    );
    let flush = shard.log_mut().begin_flush().unwrap().expect("one event");
    shard.flush_begins();
    shard
        .publish(now, (PackedEvent::plain(&small_event()), ASKER), None)
        .unwrap();
    assert!(
        shard.take_changes(Timestamp::default()).is_none(),
        "the flush has not returned"
    );
    shard.log_mut().finish_flush(flush);
    let changes = shard
        .take_changes(Timestamp::default())
        .expect("the flush has returned");
    assert_eq!((changes.cores, changes.batches.len()), (vec![0], 1));
    assert_eq!(
        changes.batches[0].changes().count(),
        1,
        "the second event came after the flush was issued"
    );
}

#[test]
fn refused_writes_say_why_and_leave_the_rest_alone() {
    let mut shard = shard_over(log_with_room(1));
    let now = Timestamp::from_micros(1);
    let mut pack = EventPack::default();
    for _ in 0..3 {
        pack.push(&[], |out| out.extend_from_slice(&small_event()));
    }
    shard.request(
        Envelope {
            origin: origin(1),
            request: ShardRequest::Publish {
                pack,
                done: PartOutcome::default(),
                charged: None,
            },
        },
        now,
    );
    flush(&mut shard);
    assert!(released(&mut shard).is_empty(), "it waits for room");
    shard.refuse(&ApiError::StorageFull);
    let error = Some(ApiError::StorageFull);
    let replies = released(&mut shard);
    let [Reply::Published(outcome)] = replies.as_slice() else {
        panic!("{replies:?}")
    };
    assert_eq!((outcome.stored(), &outcome.error), (1, &error));
    make_room(&mut shard, now);
    assert!(
        shard
            .publish(now, (PackedEvent::plain(&small_event()), ASKER), None)
            .is_ok(),
        "space has come back"
    );
}

fn owner_of(name: &str) -> Option<Charged> {
    let namespace = OwnedNamespace::new(name)?;
    let token = TokenNumber::NONE;
    Some(Charged { namespace, token })
}

#[test]
fn what_a_dead_token_sent_and_still_waits_for_room_is_refused() {
    let mut shard = shard_over(log_with_room(0));
    let now = Timestamp::from_micros(1);
    for (slot, owner) in [(1, "house"), (2, "garden"), (3, "house")] {
        let mut pack = EventPack::default();
        pack.push(&[], |out| out.extend_from_slice(&small_event()));
        let request = ShardRequest::Publish {
            pack,
            done: PartOutcome::default(),
            charged: owner_of(owner),
        };
        let origin = origin(slot);
        shard.request(Envelope { origin, request }, now);
    }
    shard.revoke(|charged| charged.as_str() == "house");
    make_room(&mut shard, now);
    flush(&mut shard);
    let mut told = Vec::new();
    shard.release(|origin, reply| told.push((origin.request_id.serial, reply)));
    let is_refused = |reply: &Reply| {
        let Reply::Published(outcome) = reply else {
            panic!("{reply:?}");
        };
        outcome.error == Some(ApiError::TokenUnknown)
    };
    let told: Vec<_> = told
        .iter()
        .map(|(slot, reply)| (*slot, is_refused(reply)))
        .collect();
    assert_eq!(told, [(1, true), (3, true), (2, false)]);
    assert_eq!(shard.appended().get(), 1, "the other's is stored");
}

#[test]
fn a_request_about_one_entity_names_it() {
    let publish = |events: usize| {
        let mut pack = EventPack::default();
        (0..events).for_each(|_| pack.push(&[], |out| out.extend_from_slice(&small_event())));
        ShardRequest::Publish {
            pack,
            done: PartOutcome::default(),
            charged: None,
        }
    };
    assert_eq!(publish(1).entity_id(), Some(&b"n/e"[..]));
    assert_eq!(read("n/e").entity_id(), Some(&b"n/e"[..]));
    for request in [publish(0), publish(2), ShardRequest::Past] {
        assert_eq!(request.entity_id(), None);
    }
}

#[test]
fn the_end_of_a_connection_waits_behind_its_binds() {
    let binding = Binding {
        linger_ms: 0,
        connection: origin(1).connection(),
    };
    let (event, mut terms) = (small_event(), Vec::new());
    binding.encode(&mut terms);
    let publish = |slot| {
        let packed = PackedEvent {
            event: &event,
            terms: &terms,
            extra_tokens: 0,
        };
        let request = ShardRequest::Publish {
            pack: EventPack::of(packed),
            done: PartOutcome::default(),
            charged: None,
        };
        let origin = origin(slot);
        Envelope { origin, request }
    };
    let unbind = Envelope {
        origin: origin(3),
        request: ShardRequest::Unbind,
    };
    // There is room later, or there never is.
    for has_room in [true, false] {
        let mut shard = shard_over(log_with_room(1));
        let now = Timestamp::from_micros(1);
        shard.advance(now, 0);
        for slot in [1, 2] {
            shard.request(publish(slot), now);
        }
        shard.request(unbind.clone(), now);
        if has_room {
            make_room(&mut shard, now);
        } else {
            shard.refuse(&ApiError::StorageFull);
            make_room(&mut shard, now);
        }
        go_on_to_the_end(&mut shard, now);
        let events = if has_room { 3 } else { 2 };
        assert_eq!(shard.log().appended(), Sequence::new(events));
        assert!(dump(shard.engine()).is_empty(), "its connection has ended");
    }
}
