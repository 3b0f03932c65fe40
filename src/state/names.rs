//! The namespaces of one shard: how many entities each holds, and when it last changed.
//!
//! Every event counts for its namespace here, so the count is exact and costs no look at the entities. Entries lie in
//! chunks that are copied when they change while somebody else holds them: a [`NamespaceStatisticsView`] of all of them costs a
//! reference each chunk, whatever is in them, and is a consistent picture for as long as it is held.
//!
//! An entry is there while it holds entities or its name is registered.

use super::Applied;
use crate::model::{RESERVED_NAMESPACE, Timestamp, namespace_of};
use flux_storage::{LayerEntity, LayerError, LayerStack, Sequence};
use hashbrown::DefaultHashBuilder;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Entries of a chunk: what the first change of one costs while a view is held.
const CHUNK_ENTRIES: usize = 32;

/// What the ids of bookkeeping records in layers begin with: no entity's id holds it, and it sorts before all of them.
const BOOKKEEPING_PREFIX: char = '\0';

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameEntry {
    /// Its name.
    pub name: Arc<str>,
    /// Entities that it holds.
    pub entities: u64,
    /// The time of its last event.
    pub last_updated: Timestamp,
    /// It is registered.
    pub registered: bool,
}

type Chunk = Vec<Option<NameEntry>>;

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
}

/// All entries as they were at one moment.
#[derive(Debug, Clone, Default)]
pub struct NamespaceStatisticsView {
    chunks: Vec<Arc<Chunk>>,
}

impl NamespaceStatistics {
    /// What the layers of a checkpoint keep. Cost: linear in the number of namespaces.
    ///
    /// # Errors
    /// Where a layer is damaged.
    pub fn from_layers(layers: &LayerStack) -> Result<Self, LayerError> {
        let mut names = Self::default();
        let mut cursor = layers.list(|_| false);
        while let Some(record) = cursor.next()? {
            let Some(name) = bookkept(record.id) else {
                break;
            };
            if record.body.is_some() {
                names.install(
                    name,
                    record.version,
                    Timestamp::from_micros(record.time_micros),
                );
            }
        }
        Ok(names)
    }

    /// Counts what an event did.
    pub fn count(&mut self, entity_id: &str, applied: Applied, time: Timestamp) {
        let Some(name) = namespace_of(entity_id).filter(|name| *name != RESERVED_NAMESPACE) else {
            return;
        };
        let place = match applied {
            Applied::Absent => return,
            Applied::Created => Some(self.find_or_add(name)),
            Applied::Updated | Applied::Deleted => self.find(name),
        };
        let Some(place) = place else {
            debug_assert!(false, "an entity's namespace has an entry");
            return;
        };
        let Some(entry) = self.entry_mut(place) else {
            return;
        };
        entry.last_updated = entry.last_updated.max(time);
        match applied {
            Applied::Created => entry.entities += 1,
            Applied::Deleted => entry.entities = entry.entities.saturating_sub(1),
            Applied::Updated | Applied::Absent => {}
        }
        self.drop_unused(place);
    }

    /// Takes over what another shard or a checkpoint knew of a namespace.
    pub fn install(&mut self, name: &str, entities: u64, last_updated: Timestamp) {
        let place = self.find_or_add(name);
        if let Some(entry) = self.entry_mut(place) {
            entry.entities += entities;
            entry.last_updated = entry.last_updated.max(last_updated);
        }
        self.drop_unused(place);
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
    pub fn get(&self, name: &str) -> Option<&NameEntry> {
        self.entry(*self.places.get(name)?)
    }

    /// All of them as they are now. Cost: a reference for each chunk.
    pub fn view(&self) -> NamespaceStatisticsView {
        NamespaceStatisticsView {
            chunks: self.chunks.clone(),
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
        let entry = NameEntry {
            name: name.into(),
            entities: 0,
            last_updated: Timestamp::default(),
            registered: false,
        };
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
        let unused = |entry: &NameEntry| entry.entities == 0 && !entry.registered;
        if self.entry(place).is_some_and(unused)
            && let Some(entry) = self.slot_mut(place).take()
        {
            self.places.remove(&entry.name);
            self.free.push(place);
        }
    }

    fn entry(&self, place: u32) -> Option<&NameEntry> {
        let (chunk, index) = split(place);
        self.chunks.get(chunk)?.get(index)?.as_ref()
    }

    fn entry_mut(&mut self, place: u32) -> Option<&mut NameEntry> {
        self.slot_mut(place).as_mut()
    }

    fn slot_mut(&mut self, place: u32) -> &mut Option<NameEntry> {
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
    pub fn entries(&self) -> impl Iterator<Item = &NameEntry> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().flatten())
    }

    /// What changed since `before`: for a layer, ascending by name. Cost: linear in the chunks that changed, and a
    /// comparison for each that did not.
    pub fn changes_since(&self, before: &Self) -> NameChanges {
        let mut changes = BTreeMap::new();
        for (index, chunk) in self.chunks.iter().enumerate() {
            let old = before.chunks.get(index);
            if old.is_some_and(|old| Arc::ptr_eq(old, chunk)) {
                continue;
            }
            let old = old.map_or(&[][..], |old| old.as_slice());
            for entry in old.iter().flatten().filter(|entry| entry.entities > 0) {
                // Unless it is found below, under whichever place it has by now, it is gone.
                changes.entry(Arc::clone(&entry.name)).or_insert(None);
            }
            for entry in chunk.iter().flatten().filter(|entry| entry.entities > 0) {
                changes.insert(
                    Arc::clone(&entry.name),
                    Some((entry.entities, entry.last_updated)),
                );
            }
        }
        NameChanges {
            changes: changes
                .into_iter()
                .map(|(name, held)| (format!("{BOOKKEEPING_PREFIX}{name}"), held))
                .collect(),
        }
    }
}

/// What a checkpoint writes of namespaces.
#[derive(Debug, Default)]
pub struct NameChanges {
    /// Ascending by id.
    changes: Vec<(String, Option<(u64, Timestamp)>)>,
}

impl NameChanges {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// True where nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// As records of a layer: the version is the number of entities, and one that holds nothing any more is a marker.
    pub fn records(&self) -> impl ExactSizeIterator<Item = LayerEntity<'_>> {
        self.changes.iter().map(|(id, held)| {
            let (entities, last_updated) = held.unwrap_or_default();
            LayerEntity {
                id,
                version: entities,
                time_micros: last_updated.as_micros(),
                sequence: Sequence::ZERO,
                body: held.map(|_| ""),
            }
        })
    }
}

/// The namespace that the record of a layer with this id keeps the books of; `None` where it is an entity.
pub fn bookkept(id: &str) -> Option<&str> {
    id.strip_prefix(BOOKKEEPING_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn counts_follow_the_events_and_views_stay_as_they_were() {
        let mut names = NamespaceStatistics::default();
        let mut model: BTreeMap<String, (u64, i64)> = BTreeMap::new();
        let mut stored: BTreeMap<String, (u64, i64)> = BTreeMap::new();
        let mut before = names.view();
        let mut seed = 3_u64;
        for time in 1..20_000_i64 {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let name = format!("n{}", (seed >> 33) % 100);
            let held = model.get(&name).map_or(0, |(held, _)| *held);
            let applied = match (seed >> 50) % 3 {
                0 if held > 0 => Applied::Deleted,
                1 if held > 0 => Applied::Updated,
                _ => Applied::Created,
            };
            names.count(&format!("{name}/x"), applied, at(time));
            let entry = model.entry(name.clone()).or_default();
            entry.1 = time;
            match applied {
                Applied::Created => entry.0 += 1,
                Applied::Deleted => entry.0 -= 1,
                Applied::Updated | Applied::Absent => {}
            }
            if entry.0 == 0 {
                model.remove(&name);
            }
            if time % 777 == 0 {
                let now = names.view();
                for record in now.changes_since(&before).records() {
                    let name = record.id.trim_start_matches(BOOKKEEPING_PREFIX).to_owned();
                    match record.body {
                        None => stored.remove(&name),
                        Some(_) => stored.insert(name, (record.version, record.time_micros)),
                    };
                }
                before = now;
                assert_eq!(stored, model, "what checkpoints keep adds up");
            }
        }
        let counted: BTreeMap<_, _> = names
            .view()
            .entries()
            .map(|it| {
                (
                    it.name.to_string(),
                    (it.entities, it.last_updated.as_micros()),
                )
            })
            .collect();
        assert_eq!(counted, model);
        assert_eq!(names.places.len(), model.len());
    }

    #[test]
    fn a_registered_name_stays_when_it_is_empty() {
        let mut names = NamespaceStatistics::default();
        names.set_registered("abc", true);
        names.count("abc/x", Applied::Created, at(1));
        names.count("abc/x", Applied::Deleted, at(2));
        assert_eq!(
            names.get("abc").map(|it| (it.entities, it.registered)),
            Some((0, true))
        );
        names.set_registered("abc", false);
        assert_eq!(names.get("abc"), None);
        names.set_registered("unknown", false);
        names.count("flux-core/x", Applied::Created, at(1));
        names.count("without", Applied::Created, at(1));
        assert_eq!(names.view().entries().count(), 0);
    }

    #[test]
    fn nothing_is_copied_unless_somebody_looks() {
        let mut names = NamespaceStatistics::default();
        names.count("abc/x", Applied::Created, at(1));
        let chunk = Arc::as_ptr(&names.chunks[0]);
        names.count("abc/x", Applied::Updated, at(2));
        assert_eq!(Arc::as_ptr(&names.chunks[0]), chunk);
        let view = names.view();
        names.count("abc/x", Applied::Updated, at(3));
        assert_ne!(Arc::as_ptr(&names.chunks[0]), chunk);
        assert_eq!(view.entries().next().unwrap().last_updated, at(2));
    }
}
