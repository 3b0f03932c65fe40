//! The namespaces of one shard: how many entities each holds, and its last event.
//!
//! Every event counts for its namespace here, so the count is exact and costs no look at the
//! entities. Entries lie in chunks that are copied when they change while somebody else holds them:
//! a [`NamespaceStatisticsView`] of all of them costs a reference for each chunk, whatever is in
//! them, and is a consistent picture for as long as it is held.
//!
//! An entry is there while it holds entities or its name is registered. The times of what holds
//! nothing are in `floors`: together they say which time the next event of an id must not fall
//! below. The sequence of the last event tells, in the base of a log, whether retention removed
//! something that a subscriber of the namespace has missed.
//!
//! A checkpoint keeps all of it as *bookkeeping records*, which sort before all entities:
//!
//! ```text
//! \0 namespace    version: its entities, 0 if it holds none    time, sequence: of its last event
//! \0 \0 id        an id without a namespace, deleted          time, sequence: of its last event
//! \0 \0           everything that is unknown                  time: its floor
//! ```
//!
//! Records of before sequences were kept have 0 there.

use super::Applied;
use super::floors::{Floors, Kind, Last};
use super::lifetimes::LIFETIME_PREFIX;
use crate::model::{RESERVED_NAMESPACE, Timestamp, namespace_of};
use flux_storage::{LayerEntity, LayerError, LayerStack, Sequence};
use hashbrown::DefaultHashBuilder;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Entries of a chunk: what the first change of one costs while a view is held.
const CHUNK_ENTRIES: usize = 32;

/// What the ids of bookkeeping records in layers begin with: no entity's id holds it, and it sorts
/// before all of them.
const BOOKKEEPING_PREFIX: char = '\0';

/// What a bookkeeping record of a layer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bookkeeping<'r> {
    /// A namespace.
    Namespace(&'r str),
    /// An id without a namespace that does not exist.
    AbsentId(&'r str),
    /// Everything that is unknown.
    Unknown,
    /// An entity that ends by itself (`lifetimes`).
    Lifetime,
}

impl<'r> Bookkeeping<'r> {
    /// What the record of a layer with this id is about; `None` if it is an entity.
    pub fn of(record_id: &'r str) -> Option<Self> {
        if record_id.starts_with(LIFETIME_PREFIX) {
            return Some(Self::Lifetime);
        }
        let name = record_id.strip_prefix(BOOKKEEPING_PREFIX)?;
        Some(match name.strip_prefix(BOOKKEEPING_PREFIX) {
            None => Self::Namespace(name),
            Some("") => Self::Unknown,
            Some(id) => Self::AbsentId(id),
        })
    }

    fn record_id(self) -> String {
        match self {
            Self::Lifetime => LIFETIME_PREFIX.to_owned(),
            Self::Namespace(name) => format!("{BOOKKEEPING_PREFIX}{name}"),
            Self::AbsentId(id) => format!("{BOOKKEEPING_PREFIX}{BOOKKEEPING_PREFIX}{id}"),
            Self::Unknown => format!("{BOOKKEEPING_PREFIX}{BOOKKEEPING_PREFIX}"),
        }
    }
}

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceEntry {
    /// Its name.
    pub name: Arc<str>,
    /// Entities that it holds.
    pub entities: u64,
    /// The time of its last event; of one that never had an event, the floor of its first.
    pub last_updated: Timestamp,
    /// Its last event; [`Sequence::ZERO`] if it had none, or if that is not known.
    pub last_sequence: Sequence,
    /// It is registered.
    pub registered: bool,
}

type Chunk = Vec<Option<NamespaceEntry>>;

/// See the module.
#[derive(Debug, Default)]
pub struct NamespaceStatistics {
    chunks: Vec<Arc<Chunk>>,
    /// By a hash that is seeded in each process, as in `table`: looked up for every event.
    places: HashMap<Arc<str>, u32, DefaultHashBuilder>,
    free: Vec<u32>,
    /// Changes of what is registered.
    registrations: u64,
    /// The place of the last event's namespace: the next event is often of the same.
    last: u32,
    /// Of what has no entry and no entity.
    floors: Arc<Floors>,
    /// A checkpoint keeps the floor of what is unknown, and it is this.
    stored_common: Option<Timestamp>,
}

/// All entries as they were at one moment.
#[derive(Debug, Clone, Default)]
pub struct NamespaceStatisticsView {
    chunks: Vec<Arc<Chunk>>,
}

/// What a checkpoint keeps, as it was at one moment.
#[derive(Debug, Clone, Default)]
pub struct BookkeepingView {
    names: NamespaceStatisticsView,
    floors: Arc<Floors>,
    stored_common: Option<Timestamp>,
}

impl NamespaceStatistics {
    /// What the layers of a checkpoint keep, whose newest event has the time `latest`. Cost: linear
    /// in the number of namespaces.
    ///
    /// # Errors
    /// If a layer is damaged.
    pub fn from_layers(layers: &LayerStack, latest: Timestamp) -> Result<Self, LayerError> {
        let mut names = Self::default();
        let mut cursor = layers.list(|_| false);
        while let Some(record) = cursor.next()? {
            let Some(about) = Bookkeeping::of(record.id).filter(|it| *it != Bookkeeping::Lifetime)
            else {
                break;
            };
            if record.body.is_some() {
                let time = Timestamp::from_micros(record.time_micros);
                names.install(about, record.version, (time, record.sequence));
                if about == Bookkeeping::Unknown {
                    names.stored_common = Some(time);
                }
            }
        }
        if names.stored_common.is_none() {
            // Of before floors were kept: what is unknown may have had the newest event.
            names.install(Bookkeeping::Unknown, 0, (latest, Sequence::ZERO));
        }
        Ok(names)
    }

    /// The time that the next event of an id must not fall below. `last_updated`: of its entity, if
    /// that exists.
    pub fn floor(&mut self, entity_id: &str, last_updated: Option<Timestamp>) -> Timestamp {
        let Some(name) = namespace_of(entity_id) else {
            return last_updated.unwrap_or_else(|| self.floors.get(Kind::Id, entity_id));
        };
        match self.find(name).and_then(|place| self.entry(place)) {
            Some(entry) => entry.last_updated,
            None => self.floors.get(Kind::Namespace, name),
        }
    }

    /// Counts what an event did.
    pub fn count(
        &mut self,
        entity_id: &str,
        applied: Applied,
        (time, sequence): (Timestamp, Sequence),
    ) {
        let event = (time, sequence);
        match namespace_of(entity_id) {
            Some(RESERVED_NAMESPACE) => {}
            Some(name) => self.count_in(name, applied, event),
            None => match applied {
                Applied::Created => self.forget_floor(Kind::Id, entity_id),
                Applied::Updated => {}
                Applied::Deleted | Applied::Absent => self.raise_floor(Kind::Id, entity_id, event),
            },
        }
    }

    fn count_in(&mut self, name: &str, applied: Applied, (time, sequence): Last) {
        let place = match applied {
            Applied::Created => Some(self.find_or_add(name)),
            Applied::Updated | Applied::Deleted | Applied::Absent => self.find(name),
        };
        let Some(place) = place else {
            debug_assert!(
                applied == Applied::Absent,
                "an entity's namespace has an entry"
            );
            self.raise_floor(Kind::Namespace, name, (time, sequence));
            return;
        };
        let Some(entry) = self.entry_mut(place) else {
            return;
        };
        entry.note((time, sequence));
        match applied {
            Applied::Created => entry.entities += 1,
            Applied::Deleted => entry.entities = entry.entities.saturating_sub(1),
            Applied::Updated | Applied::Absent => {}
        }
        self.drop_unused(place);
    }

    /// Takes in what another shard or a checkpoint knew: `entities` of a namespace, and the time
    /// and sequence of the last event.
    pub fn install(
        &mut self,
        about: Bookkeeping<'_>,
        entities: u64,
        (time, sequence): (Timestamp, Sequence),
    ) {
        let last = (time, sequence);
        match about {
            Bookkeeping::Namespace(name) if entities > 0 => {
                let place = self.find_or_add(name);
                if let Some(entry) = self.entry_mut(place) {
                    entry.entities += entities;
                    entry.note(last);
                }
            }
            Bookkeeping::Namespace(name) => match self.find(name) {
                Some(place) => {
                    if let Some(entry) = self.entry_mut(place) {
                        entry.note(last);
                    }
                }
                None => self.raise_floor(Kind::Namespace, name, last),
            },
            Bookkeeping::AbsentId(id) => self.raise_floor(Kind::Id, id, last),
            Bookkeeping::Unknown => Arc::make_mut(&mut self.floors).raise_common(time),
            // The entity itself says it.
            Bookkeeping::Lifetime => {}
        }
    }

    /// Notes whether a name is registered.
    pub fn set_registered(&mut self, name: &str, registered: bool) {
        let place = if registered {
            Some(self.find_or_add(name))
        } else {
            self.find(name)
        };
        if let Some(place) = place {
            if let Some(entry) = self.entry_mut(place) {
                entry.registered = registered;
            }
            self.registrations += 1;
            self.drop_unused(place);
        }
    }

    /// Changes of what is registered, so far.
    pub const fn registrations(&self) -> u64 {
        self.registrations
    }

    /// What is known of a namespace.
    pub fn get(&self, name: &str) -> Option<&NamespaceEntry> {
        self.entry(*self.places.get(name)?)
    }

    /// All of them as they are now. Cost: a reference for each chunk.
    pub fn view(&self) -> NamespaceStatisticsView {
        NamespaceStatisticsView {
            chunks: self.chunks.clone(),
        }
    }

    /// What a checkpoint keeps of all that is known now. Cost: as of [`NamespaceStatistics::view`].
    pub fn bookkeeping(&self) -> BookkeepingView {
        BookkeepingView {
            names: self.view(),
            floors: Arc::clone(&self.floors),
            stored_common: self.stored_common,
        }
    }

    /// Copies the floors if somebody else holds them and this is one that rises.
    fn raise_floor(&mut self, kind: Kind, name: &str, last: Last) {
        if self.floors.is_raised_by(kind, name, last) {
            Arc::make_mut(&mut self.floors).raise(kind, name, last);
        }
    }

    fn forget_floor(&mut self, kind: Kind, name: &str) {
        if self.floors.is_known(kind, name) {
            Arc::make_mut(&mut self.floors).remove(kind, name);
        }
    }

    fn find(&mut self, name: &str) -> Option<u32> {
        let last = self.entry(self.last);
        if last.is_some_and(|entry| &*entry.name == name) {
            return Some(self.last);
        }
        let place = *self.places.get(name)?;
        self.last = place;
        Some(place)
    }

    fn find_or_add(&mut self, name: &str) -> u32 {
        if let Some(place) = self.find(name) {
            return place;
        }
        let entry = NamespaceEntry {
            name: name.into(),
            entities: 0,
            last_updated: self.floors.get(Kind::Namespace, name),
            last_sequence: self.floors.last(Kind::Namespace, name),
            registered: false,
        };
        self.forget_floor(Kind::Namespace, name);
        let place = self.free.pop().unwrap_or_else(|| {
            let first = self.chunks.len() * CHUNK_ENTRIES;
            self.chunks.push(Arc::new(vec![None; CHUNK_ENTRIES]));
            let places = (first..first + CHUNK_ENTRIES).rev();
            let places = places.map(|place| u32::try_from(place).expect("below 4 billion names"));
            self.free.extend(places);
            self.free.pop().expect("a chunk of places was just added")
        });
        self.places.insert(Arc::clone(&entry.name), place);
        *self.slot_mut(place) = Some(entry);
        self.last = place;
        place
    }

    fn drop_unused(&mut self, place: u32) {
        let unused = |entry: &NamespaceEntry| entry.entities == 0 && !entry.registered;
        if self.entry(place).is_some_and(unused)
            && let Some(entry) = self.slot_mut(place).take()
        {
            self.places.remove(&entry.name);
            self.free.push(place);
            let last = (entry.last_updated, entry.last_sequence);
            self.raise_floor(Kind::Namespace, &entry.name, last);
        }
    }

    fn entry(&self, place: u32) -> Option<&NamespaceEntry> {
        let (chunk, index) = split(place);
        self.chunks.get(chunk)?.get(index)?.as_ref()
    }

    fn entry_mut(&mut self, place: u32) -> Option<&mut NamespaceEntry> {
        self.slot_mut(place).as_mut()
    }

    fn slot_mut(&mut self, place: u32) -> &mut Option<NamespaceEntry> {
        let (chunk, index) = split(place);
        &mut Arc::make_mut(&mut self.chunks[chunk])[index]
    }
}

fn split(place: u32) -> (usize, usize) {
    let place = place as usize;
    (place / CHUNK_ENTRIES, place % CHUNK_ENTRIES)
}

impl NamespaceStatisticsView {
    /// All entries, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &NamespaceEntry> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().flatten())
    }
}

impl NamespaceEntry {
    /// It had this event.
    fn note(&mut self, (time, sequence): Last) {
        self.last_updated = self.last_updated.max(time);
        self.last_sequence = self.last_sequence.max(sequence);
    }

    /// A checkpoint has something to keep of it.
    fn is_kept(&self) -> bool {
        self.entities > 0 || self.last_updated > Timestamp::default()
    }
}

/// What a checkpoint keeps of a name: its entities, and its last event.
type Kept = (u64, Last);

impl BookkeepingView {
    /// What changed since `before`: for a layer, ascending by record id. Cost: linear in the floors
    /// and in the chunks that changed, and a comparison for each that did not.
    pub fn changes_since(&self, before: &Self) -> BookkeepingChanges {
        // What was kept before and is not found again is gone.
        let mut changes: BTreeMap<String, Option<Kept>> = BTreeMap::new();
        let mut added = Vec::new();
        for (index, chunk) in self.names.chunks.iter().enumerate() {
            let old = before.names.chunks.get(index);
            if old.is_some_and(|old| Arc::ptr_eq(old, chunk)) {
                continue;
            }
            let old = old.map_or(&[][..], |old| old.as_slice());
            for entry in old.iter().flatten().filter(|entry| entry.is_kept()) {
                changes.insert(Bookkeeping::Namespace(&entry.name).record_id(), None);
            }
            for entry in chunk.iter().flatten().filter(|entry| entry.is_kept()) {
                let id = Bookkeeping::Namespace(&entry.name).record_id();
                let last = (entry.last_updated, entry.last_sequence);
                added.push((id, (entry.entities, last)));
            }
        }
        if !Arc::ptr_eq(&self.floors, &before.floors) {
            changes.extend(floor_records(&before.floors).map(|(id, _)| (id, None)));
            added.extend(floor_records(&self.floors));
        }
        if before.stored_common != Some(self.floors.common()) {
            let id = Bookkeeping::Unknown.record_id();
            added.push((id, (0, (self.floors.common(), Sequence::ZERO))));
        }
        changes.extend(added.into_iter().map(|(id, kept)| (id, Some(kept))));
        BookkeepingChanges {
            changes: changes.into_iter().collect(),
        }
    }
}

fn floor_records(floors: &Floors) -> impl Iterator<Item = (String, Kept)> {
    floors.iter().map(|(kind, name, last)| {
        let about = match kind {
            Kind::Namespace => Bookkeeping::Namespace(name),
            Kind::Id => Bookkeeping::AbsentId(name),
        };
        (about.record_id(), (0, last))
    })
}

/// What a checkpoint writes of namespaces and floors.
#[derive(Debug, Default)]
pub struct BookkeepingChanges {
    /// Ascending by record id.
    changes: Vec<(String, Option<Kept>)>,
}

impl BookkeepingChanges {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// True if nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// As records of a layer: the version is the number of entities. What is not kept any more is a
    /// tombstone.
    pub fn records(&self) -> impl ExactSizeIterator<Item = LayerEntity<'_>> {
        self.changes.iter().map(|(id, kept)| {
            let (entities, (last_updated, last_sequence)) = kept.unwrap_or_default();
            LayerEntity {
                id,
                version: entities,
                time_micros: last_updated.as_micros(),
                sequence: last_sequence,
                body: kept.map(|_| ""),
            }
        })
    }
}

/// What an event, and so its time, belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeScope<'n> {
    /// A namespace.
    Namespace(&'n str),
    /// An id without a namespace.
    Id(&'n str),
}

impl<'n> TimeScope<'n> {
    /// What the events of an id belong to.
    pub fn of(entity_id: &'n str) -> Self {
        namespace_of(entity_id).map_or(Self::Id(entity_id), Self::Namespace)
    }
}

/// The latest time that an event of a scope may have in the state of a checkpoint; `None` if the
/// checkpoint does not say. Cost: up to three look-ups.
///
/// # Errors
/// If a layer is damaged.
pub fn latest_in(
    layers: &LayerStack,
    scope: TimeScope<'_>,
) -> Result<Option<Timestamp>, LayerError> {
    let about = match scope {
        TimeScope::Namespace(name) => Bookkeeping::Namespace(name),
        TimeScope::Id(id) => {
            if let Some(time) = time_of(layers, id)? {
                return Ok(Some(time));
            }
            Bookkeeping::AbsentId(id)
        }
    };
    match time_of(layers, &about.record_id())? {
        Some(time) => Ok(Some(time)),
        None => time_of(layers, &Bookkeeping::Unknown.record_id()),
    }
}

fn time_of(layers: &LayerStack, record_id: &str) -> Result<Option<Timestamp>, LayerError> {
    Ok(last_of(layers, record_id)?.map(|(time, _)| time))
}

fn last_of(layers: &LayerStack, record_id: &str) -> Result<Option<Last>, LayerError> {
    let found = layers.find(record_id)?;
    let found = found.filter(|record| record.body.is_some());
    Ok(found.map(|it| (Timestamp::from_micros(it.time_micros), it.sequence)))
}

/// The last event of a scope in the state of a checkpoint, or a later one of it; `None` if the
/// checkpoint does not say. `id`: only this one of the scope matters. Cost: up to three look-ups.
///
/// # Errors
/// If a layer is damaged.
pub fn last_event_in(
    layers: &LayerStack,
    scope: TimeScope<'_>,
    id: Option<&str>,
) -> Result<Option<Sequence>, LayerError> {
    if let Some(id) = id
        && let Some((_, sequence)) = last_of(layers, id)?
    {
        return Ok(Some(sequence));
    }
    // Of an id that is gone its namespace knows no less.
    let about = match scope {
        TimeScope::Namespace(name) => Bookkeeping::Namespace(name),
        TimeScope::Id(id) => Bookkeeping::AbsentId(id),
    };
    let unknown = |last: Last| last.1 == Sequence::ZERO;
    if let Some(last) = last_of(layers, &about.record_id())? {
        return Ok(Some(last.1).filter(|_| !unknown(last)));
    }
    // If nothing is unknown, what has no record had no event.
    let floor = time_of(layers, &Bookkeeping::Unknown.record_id())?;
    Ok(floor
        .filter(|floor| *floor == Timestamp::default())
        .map(|_| Sequence::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    /// What namespaces hold, and the times of last events by namespace or by id without one.
    #[derive(Default)]
    struct Model {
        ids: BTreeMap<String, i64>,
        held: BTreeMap<String, (u64, i64)>,
        last_times: BTreeMap<String, i64>,
    }

    impl Model {
        /// One event; returns what it did to its entity.
        fn apply(&mut self, id: &str, deletes: bool, time: i64) -> Applied {
            let existed = self.ids.contains_key(id);
            let applied = match (existed, deletes) {
                (true, true) => Applied::Deleted,
                (true, false) => Applied::Updated,
                (false, true) => Applied::Absent,
                (false, false) => Applied::Created,
            };
            if deletes {
                self.ids.remove(id);
            } else {
                self.ids.insert(id.to_owned(), time);
            }
            let scope = namespace_of(id).unwrap_or(id);
            self.last_times.insert(scope.to_owned(), time);
            let Some(name) = namespace_of(id) else {
                return applied;
            };
            let held = self.held.entry(name.to_owned()).or_default();
            held.1 = time;
            match applied {
                Applied::Created => held.0 += 1,
                Applied::Deleted => held.0 -= 1,
                Applied::Updated | Applied::Absent => {}
            }
            if held.0 == 0 {
                self.held.remove(name);
            }
            applied
        }

        /// Holds statistics to all of it.
        fn check(&self, names: &mut NamespaceStatistics) {
            let entries: BTreeMap<_, _> = names
                .view()
                .entries()
                .map(|it| {
                    (
                        it.name.to_string(),
                        (it.entities, it.last_updated.as_micros()),
                    )
                })
                .collect();
            assert_eq!(entries, self.held);
            for (scope, last) in &self.last_times {
                let id = if scope.starts_with('n') {
                    format!("{scope}/x")
                } else {
                    scope.clone()
                };
                let last_updated = self.ids.get(&id).map(|time| at(*time));
                assert_eq!(names.floor(&id, last_updated), at(*last), "{id}");
            }
        }
    }

    /// Takes in what a checkpoint writes.
    fn store(stored: &mut BTreeMap<String, (u64, i64, Sequence)>, changes: &BookkeepingChanges) {
        for record in changes.records() {
            let id = record.id.to_owned();
            let last = (record.version, record.time_micros, record.sequence);
            if record.body.is_some() {
                stored.insert(id, last);
            } else {
                stored.remove(&id);
            }
        }
    }

    /// The last event that is kept of a namespace or id is the one that it had.
    fn check_last(about: Bookkeeping<'_>, kept: Sequence, last_events: &BTreeMap<String, u64>) {
        if let Bookkeeping::Namespace(scope) | Bookkeeping::AbsentId(scope) = about {
            assert_eq!(kept.get(), last_events[scope], "{scope}");
        }
    }

    #[test]
    fn counts_and_floors_follow_the_events_and_checkpoints_keep_them() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut names = NamespaceStatistics::default();
        let mut model = Model::default();
        let mut stored: BTreeMap<String, (u64, i64, Sequence)> = BTreeMap::new();
        let mut last_events: BTreeMap<String, u64> = BTreeMap::new();
        let mut before = names.bookkeeping();
        let mut clock = 1_000_000_i64;
        for step in 1..20_000 {
            clock += match random.u8(..100) {
                0 => 50_000,
                1 => -45_000,
                _ => random.i64(-2..20),
            };
            let id = match random.u8(..4) {
                0 => format!("solo{}", random.u8(..20)),
                _ => format!("n{}/{}", random.u8(..100), random.u8(..2)),
            };
            let last_updated = model.ids.get(&id).map(|time| at(*time));
            let time = at(clock).max(names.floor(&id, last_updated));
            let scope = namespace_of(&id).unwrap_or(&id);
            let last = model.last_times.get(scope).copied();
            assert_eq!(time.as_micros(), last.map_or(clock, |last| last.max(clock)));
            let applied = model.apply(&id, random.bool(), time.as_micros());
            names.count(&id, applied, (time, Sequence::new(step)));
            last_events.insert(scope.to_owned(), step);
            if step % 777 == 0 {
                let now = names.bookkeeping();
                store(&mut stored, &now.changes_since(&before));
                before = now;
                model.check(&mut names);
                let mut restored = NamespaceStatistics::default();
                for (id, (entities, time, sequence)) in &stored {
                    let about = Bookkeeping::of(id).expect("no entity");
                    restored.install(about, *entities, (at(*time), *sequence));
                    check_last(about, *sequence, &last_events);
                }
                model.check(&mut restored);
            }
        }
        assert_eq!(names.places.len(), model.held.len());
    }

    #[test]
    fn a_registered_name_stays_when_it_is_empty() {
        let mut names = NamespaceStatistics::default();
        names.set_registered("abc", true);
        let first = (at(1), Sequence::new(1));
        names.count("abc/x", Applied::Created, first);
        names.count("abc/x", Applied::Deleted, (at(2), Sequence::new(2)));
        assert_eq!(
            names.get("abc").map(|it| (it.entities, it.registered)),
            Some((0, true))
        );
        names.set_registered("abc", false);
        assert_eq!(names.get("abc"), None);
        names.set_registered("unknown", false);
        names.count("flux-core/x", Applied::Created, first);
        names.count("without", Applied::Created, first);
        assert_eq!(names.view().entries().count(), 0);
    }

    #[test]
    fn nothing_is_copied_unless_somebody_looks() {
        let mut names = NamespaceStatistics::default();
        let event = |number: u8| (at(number.into()), Sequence::new(number.into()));
        names.count("abc/x", Applied::Created, event(1));
        let chunk = Arc::as_ptr(&names.chunks[0]);
        names.count("abc/x", Applied::Updated, event(2));
        assert_eq!(Arc::as_ptr(&names.chunks[0]), chunk);
        let view = names.view();
        names.count("abc/x", Applied::Updated, event(3));
        assert_ne!(Arc::as_ptr(&names.chunks[0]), chunk);
        assert_eq!(view.entries().next().unwrap().last_updated, at(2));
    }
}
