//! Which entities end by themselves, so that their shard finds the ones whose time has come without
//! looking at any other.
//!
//! ```text
//!   changed since the last checkpoint   a heap by slot, in memory      (`deadlines`)
//!   what a checkpoint writes now        the same, of the frozen slots
//!   everything older                    records of the layers, ascending by time; no memory
//! ```
//!
//! Beside the entities, layers list which of them end by themselves:
//!
//! ```text
//! \1 b id                an entity that is bound to a connection
//! \1 e time id           one that expires; the time is 16 hexadecimal digits of microseconds
//! ```
//!
//! The time is the one that the entity shows. The clock that deadlines run by (`shard`) may reach
//! it at another, if the machine's clock was set. So a record of an expiry says that too, and for
//! which *run* of that clock it holds. A run begins at each start.
//!
//! A record holds if its entity still says the same. A slot that was promoted remembers that the
//! layers below list it; once that holds no more, the next layer takes the record back. So a list
//! is exact as of its checkpoint, and what has changed since is found by asking the entity.
//!
//! Nothing here decides what an entity is: the state is the same whether anybody asks or not.

use super::deadlines::Deadlines;
use super::immutable::ImmutableMemtable;
use super::memtable::Memtable;
use super::{Entity, State};
use crate::model::{Lifetime, Timestamp};
use flux_storage::{LayerEntity, LayerError, LayerStack, MergedRuns, Sequence};
use std::cmp::Reverse;

/// What the ids of these records begin with: no entity's id holds it. They sort between what
/// `namespaces` keeps and all entities.
pub(super) const LIFETIME_PREFIX: &str = "\u{1}";
const BOUND_PREFIX: &str = "\u{1}b";
const EXPIRING_PREFIX: &str = "\u{1}e";
const TIME_DIGITS: usize = 16;

/// Records that are sorted at a time, and slots that are looked at: a fraction of a millisecond.
const RUN_RECORDS: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lifetimes {
    /// Of the memtable's slots, unless a layer below lists them.
    pub(super) memtable: Deadlines,
    /// Of the immutable memtable's.
    frozen: Deadlines,
    /// What layers below list of the memtable's slots and does not hold any more.
    obsolete: Vec<Obsolete>,
    /// Slots that were bound since a layer below listed when they expire, which still holds.
    bound: Vec<u32>,
    /// The memtable has had a slot that ends by itself and is not listed.
    pub(super) has_any: bool,
    listed: Listed,
    /// Which run of the clock this is.
    run: Sequence,
    /// How far the time that an entity shows lies ahead of when its deadline is reached: of the
    /// event at hand, and the most there was in this run.
    pub(super) ahead: Ahead,
    ahead_max: Ahead,
    /// There was any but 0 in this run.
    is_shifted: bool,
}

/// Microseconds.
type Ahead = i64;

/// A slot, and the lifetime that a layer below lists of it.
#[derive(Debug, Clone, Copy)]
struct Obsolete {
    expires: Option<Timestamp>,
    slot: u32,
    is_bound: bool,
}

/// How far the layers' list of what expires was followed.
#[derive(Debug, Default)]
struct Listed {
    /// The record that was passed last; empty if none was.
    passed: String,
    next: NextListed,
}

#[derive(Debug, Clone, Copy, Default)]
enum NextListed {
    /// It has to be looked for.
    #[default]
    Unknown,
    At(Timestamp),
    None,
}

/// What the next of a shard's deadlines asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextEnd {
    /// The entity whose id was written has to go now.
    Due,
    /// As much was looked at as may be at once.
    Unfinished,
    /// Nothing is due.
    None,
}

/// What a checkpoint has to write of lifetimes.
#[derive(Debug, Default)]
pub(super) struct FrozenLifetimes {
    obsolete: Vec<Obsolete>,
    bound: Vec<u32>,
    has_any: bool,
    run: Sequence,
    /// When the slots' deadlines are reached, if not at the times that they show.
    deadlines: Option<Deadlines>,
}

impl Lifetimes {
    /// Layers lie below what is in memory.
    pub(super) fn set_layers(&mut self, layers: &LayerStack) {
        self.frozen = Deadlines::default();
        self.listed = Listed {
            passed: String::new(),
            next: if layers.is_empty() {
                NextListed::None
            } else {
                NextListed::Unknown
            },
        };
    }

    /// The memtable becomes the immutable one.
    pub(super) fn freeze(&mut self) -> FrozenLifetimes {
        self.frozen = std::mem::take(&mut self.memtable);
        FrozenLifetimes {
            run: self.run,
            deadlines: self.is_shifted.then(|| self.frozen.clone()),
            obsolete: std::mem::take(&mut self.obsolete),
            bound: std::mem::take(&mut self.bound),
            has_any: std::mem::take(&mut self.has_any),
        }
    }

    /// What a layer below lists of a slot does not hold any more.
    pub(super) fn note_obsolete(&mut self, slot: u32, lifetime: Lifetime) {
        self.obsolete.push(Obsolete {
            expires: lifetime.expires,
            slot,
            is_bound: lifetime.linger_ms.is_some(),
        });
    }

    /// A slot is bound from now on, and the layer below still says when it expires.
    pub(super) fn note_bound(&mut self, slot: u32) {
        self.bound.push(slot);
    }

    /// A slot that no layer lists expires at this time, as it shows.
    pub(super) fn set(&mut self, slot: u32, expires: Timestamp) {
        self.memtable.set(slot, moved(expires, -self.ahead));
        self.is_shifted |= self.ahead != 0;
        self.ahead_max = self.ahead_max.max(self.ahead);
    }

    /// When something may be due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let listed = match self.listed.next {
            NextListed::Unknown => Some(Timestamp::from_micros(i64::MIN)),
            NextListed::At(time) => Some(moved(time, -self.ahead_max)),
            NextListed::None => None,
        };
        let memory = [&self.memtable, &self.frozen].map(|it| it.first().map(|(due, _)| due));
        memory.into_iter().flatten().chain(listed).min()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.memtable.heap_bytes()
            + self.frozen.heap_bytes()
            + super::allocation_bytes(self.obsolete.capacity() * size_of::<Obsolete>())
            + super::allocation_bytes(self.bound.capacity() * size_of::<u32>())
    }
}

fn moved(time: Timestamp, micros: i64) -> Timestamp {
    Timestamp::from_micros(time.as_micros().saturating_add(micros))
}

impl State {
    /// A run of the clock of deadlines begins.
    pub fn begin_run(&mut self, now: Timestamp) {
        self.lifetimes.run = Sequence::new(now.as_micros().unsigned_abs());
    }

    /// The times of the events to come lie so many microseconds ahead of the clock of deadlines.
    pub fn set_ahead(&mut self, micros: i64) {
        self.lifetimes.ahead = micros;
    }

    /// When an entity may have to go because its time is over; a time long past if that has to be
    /// looked for. Cost: constant.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.lifetimes.next()
    }

    /// Writes the id of an entity whose time is over at `now` to `id`. The same entity is found
    /// until it is gone. `looks`: so many records may be looked at and passed.
    ///
    /// Cost: constant; where layers list it, a binary search in each.
    ///
    /// # Errors
    /// If a layer is damaged.
    pub fn find_end(
        &mut self,
        now: Timestamp,
        looks: &mut usize,
        id: &mut String,
    ) -> Result<NextEnd, LayerError> {
        id.clear();
        if let Some((due, slot)) = self.lifetimes.memtable.first()
            && due <= now
        {
            id.push_str(self.memtable.get(slot).block.id());
            return Ok(NextEnd::Due);
        }
        let found = self.find_frozen_end(now, looks, id);
        if found != NextEnd::None {
            return Ok(found);
        }
        let ahead_max = self.lifetimes.ahead_max;
        loop {
            let is_awaited = match self.lifetimes.listed.next {
                NextListed::Unknown => true,
                NextListed::At(time) => moved(time, -ahead_max) <= now,
                NextListed::None => false,
            };
            if !is_awaited {
                return Ok(NextEnd::None);
            }
            let mut listed = std::mem::take(&mut self.lifetimes.listed);
            let found = self.follow_list(&mut listed, (now, looks), id);
            self.lifetimes.listed = listed;
            match found? {
                Followed::Late(due) => {
                    if let Some(slot) = self.promote(id)?.slot {
                        self.lifetimes.memtable.set(slot, due);
                    }
                    id.clear();
                }
                Followed::Found(next) => return Ok(next),
            }
        }
    }

    /// Of the immutable memtable's slots. Changed ones are passed.
    fn find_frozen_end(&mut self, now: Timestamp, looks: &mut usize, id: &mut String) -> NextEnd {
        while let Some((due, slot)) = self.lifetimes.frozen.first()
            && due <= now
            && let Some(frozen) = &self.immutable
        {
            let Some(left) = looks.checked_sub(1) else {
                return NextEnd::Unfinished;
            };
            let block = &frozen.memtable.get(slot).block;
            let is_current = match self.listed_in(&self.memtable, block.id()) {
                Some(listed) => listed.expires == block.lifetime().expires,
                None => true,
            };
            if is_current {
                id.push_str(block.id());
                return NextEnd::Due;
            }
            *looks = left;
            self.lifetimes.frozen.remove(slot);
        }
        NextEnd::None
    }

    /// Follows the layers' list.
    fn follow_list(
        &self,
        listed: &mut Listed,
        (now, looks): (Timestamp, &mut usize),
        id: &mut String,
    ) -> Result<Followed, LayerError> {
        let until = moved(now, self.lifetimes.ahead_max);
        let start = if listed.passed.is_empty() {
            EXPIRING_PREFIX
        } else {
            &listed.passed
        };
        let mut cursor = self.layers.list(|record| record <= start);
        let mut passed = None;
        let found = loop {
            let record = cursor.next()?;
            let Some((record, (expires, of))) =
                record.and_then(|record| Some((record, expiring(record.id)?)))
            else {
                listed.next = NextListed::None;
                break Followed::Found(NextEnd::None);
            };
            let due = due_of(&record, expires, self.lifetimes.run);
            if record.body.is_some() {
                if expires > until {
                    listed.next = NextListed::At(expires);
                    break Followed::Found(NextEnd::None);
                }
                if self.listed(of)?.expires == Some(expires) {
                    id.push_str(of);
                }
            }
            if !id.is_empty() && due <= now {
                listed.next = NextListed::At(expires);
                break Followed::Found(NextEnd::Due);
            }
            passed = Some(record.id);
            let left = looks.checked_sub(1);
            *looks = left.unwrap_or(0);
            if !id.is_empty() {
                listed.next = NextListed::Unknown;
                break Followed::Late(due);
            }
            if left.is_none() {
                listed.next = NextListed::Unknown;
                break Followed::Found(NextEnd::Unfinished);
            }
        };
        if let Some(passed) = passed {
            listed.passed.clear();
            listed.passed.push_str(passed);
        }
        Ok(found)
    }

    /// The lifetime that the layers list of an entity and that still holds.
    fn listed(&self, id: &str) -> Result<Lifetime, LayerError> {
        let frozen = self.immutable.iter().map(|frozen| &frozen.memtable);
        for memtable in [&self.memtable].into_iter().chain(frozen) {
            if let Some(listed) = self.listed_in(memtable, id) {
                return Ok(listed);
            }
        }
        let entity = self.get(id)?;
        Ok(entity.map(Entity::lifetime).unwrap_or_default())
    }

    /// The lifetime that is listed below a memtable, endless if that does not hold any more; `None`
    /// if the memtable does not have the entity.
    fn listed_in(&self, memtable: &Memtable, id: &str) -> Option<Lifetime> {
        let slot = memtable.find(self.memtable.hash(id), id)?;
        let slot = memtable.get(slot);
        let holds = slot.is_live() && slot.is_listed();
        Some(if holds {
            slot.block.lifetime()
        } else {
            Lifetime::default()
        })
    }

    /// The ids of all entities that are bound to a connection: for a start. Cost: linear in their
    /// number, and in that of the entities in memory.
    ///
    /// # Errors
    /// If a layer is damaged.
    pub fn bound(&self) -> Result<Vec<Box<str>>, LayerError> {
        let mut ids = Vec::new();
        let is_bound = |id: &str| {
            let entity = self.get(id)?;
            Ok(entity.is_some_and(|entity| entity.lifetime().linger_ms.is_some()))
        };
        let mut cursor = self.layers.list(|record| record <= BOUND_PREFIX);
        while let Some(record) = cursor.next()? {
            let Some(id) = record.id.strip_prefix(BOUND_PREFIX) else {
                break;
            };
            if record.body.is_some() && is_bound(id)? {
                ids.push(id.into());
            }
        }
        let frozen = self.immutable.iter().map(|frozen| &frozen.memtable);
        for memtable in frozen.chain([&self.memtable]) {
            for (_, slot) in memtable.slots() {
                let lifetime = slot.block.lifetime();
                let may_be = slot.is_live() && lifetime.linger_ms.is_some();
                if may_be && is_bound(slot.block.id())? {
                    ids.push(slot.block.id().into());
                }
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

/// What following the layers' list came to.
enum Followed {
    /// This.
    Found(NextEnd),
    /// An entity whose deadline is later than the list has it. It is kept in memory from now on.
    Late(Timestamp),
}

/// When the deadline of a listed expiry is reached, in this run of the clock.
fn due_of(record: &LayerEntity<'_>, expires: Timestamp, run: Sequence) -> Timestamp {
    if record.sequence == run && run != Sequence::ZERO {
        Timestamp::from_micros(record.time_micros)
    } else {
        expires
    }
}

/// What a record of the layers' list of what expires says.
fn expiring(record_id: &str) -> Option<(Timestamp, &str)> {
    let rest = record_id.strip_prefix(EXPIRING_PREFIX)?;
    let (time, id) = rest.split_at_checked(TIME_DIGITS)?;
    let micros = i64::from_str_radix(time, 16).ok()?;
    Some((Timestamp::from_micros(micros), id))
}

fn expiring_record(expires: Timestamp, id: &str) -> String {
    let micros = expires.as_micros();
    format!("{EXPIRING_PREFIX}{micros:0TIME_DIGITS$x}{id}")
}

fn bound_record(id: &str) -> String {
    format!("{BOUND_PREFIX}{id}")
}

/// Records of a layer that list what ends by itself, and take back what was listed.
#[derive(Debug, Default)]
pub struct LifetimeRecords {
    /// Ascending by record id.
    records: Vec<Listing>,
    run: Sequence,
}

/// The id of a record, and when what it lists is due; `None` takes it back.
type Listing = (String, Reverse<Option<Timestamp>>);

impl LifetimeRecords {
    /// What the layer of a memtable has to say of lifetimes. Calls `rest` after each fraction of a
    /// millisecond of work. Cost: nothing if no entity has ended by itself or will.
    pub fn of(frozen: &ImmutableMemtable, rest: &mut dyn FnMut()) -> Self {
        let lifetimes = &frozen.lifetimes;
        let memtable = &frozen.memtable;
        let mut runs = Runs::default();
        for changed in &lifetimes.obsolete {
            let id = memtable.get(changed.slot).block.id();
            let lifetime = (changed.expires, changed.is_bound);
            runs.add(lifetime, (id, None), rest);
        }
        for &slot in &lifetimes.bound {
            let slot = memtable.get(slot);
            if slot.is_live() && slot.is_listed() {
                let bound = Some(Timestamp::default());
                runs.add((None, true), (slot.block.id(), bound), rest);
            }
        }
        if lifetimes.has_any {
            add_unlisted(frozen, &mut runs, rest);
        }
        let mut merged = MergedRuns::new(runs.finish());
        let mut records: Vec<Listing> = Vec::new();
        for record in &mut merged {
            if records.len().is_multiple_of(RUN_RECORDS) {
                rest();
            }
            // What is listed anew comes before what takes it back.
            if records.last().is_none_or(|(last, _)| *last != record.0) {
                records.push(record);
            }
        }
        let run = lifetimes.run;
        Self { records, run }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// In the form that a layer keeps.
    pub fn records(&self) -> impl ExactSizeIterator<Item = LayerEntity<'_>> {
        self.records.iter().map(|(id, Reverse(due))| LayerEntity {
            id,
            version: due.map_or(0, |_| 1),
            time_micros: due.map_or(0, Timestamp::as_micros),
            sequence: self.run,
            body: due.map(|_| ""),
        })
    }
}

fn add_unlisted(frozen: &ImmutableMemtable, runs: &mut Runs, rest: &mut dyn FnMut()) {
    let deadlines = frozen.lifetimes.deadlines.as_ref();
    for (count, (number, slot)) in frozen.memtable.slots().enumerate() {
        if count.is_multiple_of(RUN_RECORDS) {
            rest();
        }
        if slot.is_live() && !slot.is_listed() {
            let Lifetime { expires, linger_ms } = slot.block.lifetime();
            let due = deadlines.and_then(|deadlines| deadlines.get(number));
            let due = due.or(expires).unwrap_or_default();
            let lifetime = (expires, linger_ms.is_some());
            runs.add(lifetime, (slot.block.id(), Some(due)), rest);
        }
    }
}

/// Records, sorted in runs.
#[derive(Default)]
struct Runs {
    full: Vec<std::vec::IntoIter<Listing>>,
    run: Vec<Listing>,
}

impl Runs {
    fn add(
        &mut self,
        (expires, is_bound): (Option<Timestamp>, bool),
        (id, due): (&str, Option<Timestamp>),
        rest: &mut dyn FnMut(),
    ) {
        let expiring = expires.map(|expires| expiring_record(expires, id));
        let bound = is_bound.then(|| bound_record(id));
        let records = expiring.into_iter().chain(bound);
        self.run
            .extend(records.map(|record| (record, Reverse(due))));
        if self.run.len() >= RUN_RECORDS {
            self.end_run();
            rest();
        }
    }

    fn end_run(&mut self) {
        self.run.sort_unstable();
        self.full.push(std::mem::take(&mut self.run).into_iter());
    }

    fn finish(mut self) -> Vec<std::vec::IntoIter<Listing>> {
        self.end_run();
        self.full
    }
}
