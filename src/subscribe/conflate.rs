//! What a slow reader is owed beyond its direct buffer: the newest frame of each property, in the
//! order of events.
//!
//! ```text
//! first                                                    last
//!   [control] ─ [A is gone] ─ [A.x] ─ [B.y] ─ [metrics] ─ [A.z]        order of delivery
//!                    │          └────── updates of A ───────┘
//!                 entity A
//! ```
//!
//! - A newer update of a property replaces the older one and moves to the end: what is delivered of
//!   a namespace follows the log, with gaps.
//! - A deletion drops the entity's updates, replaces its earlier deletion and moves to the end.
//!   Updates of the entity created anew come after it, so a reader never mixes properties of two
//!   lives.
//! - Changes that are told by event are merged: the newest value of each property, and the names of
//!   properties that were removed. A reader may be told of one entity by property and by event: the
//!   two stand beside each other as two entities would.
//! - Control frames are all kept. Of metrics and of cursors, the newest.
//!
//! Every operation is O(1), a deletion O(updates dropped), amortised over table growth. Entries and
//! entities lie in slabs and are linked by index; two hash tables find them. The tables are seeded
//! at random: ids and property names come from outside. All memory is counted, capacity that is
//! only held included.
//!
//! Knows no limits: [`Outbox`](super::Outbox) compares [`Conflated::heap_bytes`] and
//! [`Conflated::len`] with them, and drops the whole when it has run empty.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::merged::{ChangeHead, EncodeMerged, MergedChange, Part};
use super::slab::{NONE, Slab};

/// What the allocator adds to a small block, rounded up.
const ALLOCATION_OVERHEAD_BYTES: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Conflated {
    entries: Slab<Entry>,
    entities: Slab<Entity>,
    /// Entries that are updates, by entity and property.
    updates: HashTable<u32>,
    /// Entities by id.
    ids: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Oldest entry, delivered next.
    first: u32,
    last: u32,
    /// The metrics entry, if there is one.
    metrics: u32,
    /// The cursor entry, if there is one.
    cursor: u32,
    len: usize,
    /// Heap of the texts in entries and entities.
    text_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    content: Content,
    /// An update's property name, then the frame: one allocation, not two.
    text: Box<[u8]>,
    /// Of `Merged`: what makes its frame.
    merged: Option<Box<Merged>>,
    previous: u32,
    next: u32,
}

/// Changes of an entity, and how their frame is made.
#[derive(Debug)]
struct Merged {
    change: MergedChange,
    encode: EncodeMerged,
}

/// In which messages a reader is told of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Told {
    ByProperty,
    ByEvent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Control,
    Metrics,
    Cursor,
    /// The changes of an entity that is told by event: its only update.
    Merged {
        entity: u32,
    },
    Deletion {
        entity: u32,
    },
    Update {
        entity: u32,
        property_len: u32,
        /// Neighbours in the list of the entity's updates.
        previous: u32,
        next: u32,
    },
}

/// An entity with a pending deletion or update.
#[derive(Debug)]
struct Entity {
    id: Box<str>,
    told: Told,
    deletion: u32,
    first_update: u32,
}

impl Entry {
    fn frame(&self) -> &[u8] {
        match self.content {
            Content::Update { property_len, .. } => &self.text[property_len as usize..],
            _ => &self.text,
        }
    }

    fn is_update_of(&self, wanted: u32, property: &[u8]) -> bool {
        matches!(self.content, Content::Update { entity, property_len, .. }
            if entity == wanted && &self.text[..property_len as usize] == property)
    }
}

impl Conflated {
    pub(super) fn new() -> Self {
        Self {
            entries: Slab::new(),
            entities: Slab::new(),
            updates: HashTable::new(),
            ids: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            first: NONE,
            last: NONE,
            metrics: NONE,
            cursor: NONE,
            len: 0,
            text_bytes: 0,
        }
    }

    /// Frames held.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// All memory of this value, which its owner keeps in a box.
    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + self.entries.heap_bytes()
            + self.entities.heap_bytes()
            + self.updates.allocation_size()
            + self.ids.allocation_size()
            + self.text_bytes
    }

    /// Length of the frame that is delivered next; of merged changes, about.
    pub(super) fn front_len(&self) -> Option<usize> {
        (self.first != NONE).then(|| {
            let entry = self.entries.get(self.first);
            match &entry.merged {
                None => entry.frame().len(),
                Some(merged) => merged.change.frame_bytes(),
            }
        })
    }

    /// Takes the oldest frame out and hands it to `deliver`.
    pub(super) fn pop_front(&mut self, deliver: impl FnOnce(&[u8])) {
        if self.first == NONE {
            return;
        }
        let Content::Merged { entity } = self.entries.get(self.first).content else {
            deliver(self.remove(self.first).frame());
            return;
        };
        let mut frame = Vec::new();
        let id = &self.entities.get(entity).id;
        if let Some(merged) = &self.entries.get(self.first).merged {
            (merged.encode)(&mut frame, id, &merged.change);
        }
        self.remove(self.first);
        deliver(&frame);
    }

    /// A change that is told by event.
    pub(super) fn merge<'p>(
        &mut self,
        entity_id: &str,
        (head, parts): (ChangeHead, impl Iterator<Item = Part<'p>>),
        encode: EncodeMerged,
    ) {
        let entity = self.entity(entity_id, Told::ByEvent);
        let index = self.entities.get(entity).first_update;
        if index == NONE {
            let change = MergedChange::new(head, parts);
            self.text_bytes += change.heap_bytes();
            let index = self.append(Content::Merged { entity }, Box::default());
            self.entries.get_mut(index).merged = Some(Box::new(Merged { change, encode }));
            self.entities.get_mut(entity).first_update = index;
        } else if let Some(merged) = &mut self.entries.get_mut(index).merged {
            self.text_bytes -= merged.change.heap_bytes();
            merged.change.merge(head, parts);
            self.text_bytes += merged.change.heap_bytes();
            self.unlink(index);
            self.link_last(index);
        }
    }

    pub(super) fn update(&mut self, entity_id: &str, property: &str, frame: &[u8]) {
        let entity = self.entity(entity_id, Told::ByProperty);
        let hash = self.hasher.hash_one((entity, property.as_bytes()));
        let found = self.updates.find(hash, |&index| {
            let entry = self.entries.get(index);
            entry.is_update_of(entity, property.as_bytes())
        });
        if let Some(&index) = found {
            self.replace(index, property, frame);
            return;
        }
        let next = self.entities.get(entity).first_update;
        let index = self.append(
            Content::Update {
                entity,
                property_len: u32::try_from(property.len()).expect("names are shorter than bodies"),
                previous: NONE,
                next,
            },
            text(property, frame),
        );
        self.set_previous_update(next, index);
        self.entities.get_mut(entity).first_update = index;
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.updates.insert_unique(hash, index, |&index| {
            hash_of_update(entries.get(index), hasher)
        });
    }

    pub(super) fn deletion(&mut self, entity_id: &str, frame: &[u8]) {
        self.delete(entity_id, Told::ByProperty, frame);
    }

    /// A deletion that is told as [`Conflated::merge`] tells changes.
    pub(super) fn deletion_by_event(&mut self, entity_id: &str, frame: &[u8]) {
        self.delete(entity_id, Told::ByEvent, frame);
    }

    fn delete(&mut self, entity_id: &str, told: Told, frame: &[u8]) {
        let entity = self.entity(entity_id, told);
        let earlier = self.entities.get(entity).deletion;
        if earlier == NONE {
            let index = self.append(Content::Deletion { entity }, frame.into());
            self.entities.get_mut(entity).deletion = index;
        } else {
            self.replace(earlier, "", frame);
        }
        // The deletion above keeps the entity while its updates go.
        loop {
            let update = self.entities.get(entity).first_update;
            if update == NONE {
                return;
            }
            self.remove(update);
        }
    }

    /// Drops what is held of these entities.
    pub(super) fn drop_hidden(&mut self, is_hidden: impl Fn(&str) -> bool) {
        let mut index = self.first;
        while index != NONE {
            let entry = self.entries.get(index);
            let next = entry.next;
            let entity = match entry.content {
                Content::Update { entity, .. }
                | Content::Deletion { entity }
                | Content::Merged { entity } => Some(entity),
                Content::Control | Content::Metrics | Content::Cursor => None,
            };
            if entity.is_some_and(|entity| is_hidden(&self.entities.get(entity).id)) {
                self.remove(index);
            }
            index = next;
        }
    }

    pub(super) fn control(&mut self, frame: &[u8]) {
        self.append(Content::Control, frame.into());
    }

    pub(super) fn metrics(&mut self, frame: &[u8]) {
        if self.metrics == NONE {
            self.metrics = self.append(Content::Metrics, frame.into());
        } else {
            self.replace(self.metrics, "", frame);
        }
    }

    pub(super) fn cursor(&mut self, frame: &[u8]) {
        if self.cursor == NONE {
            self.cursor = self.append(Content::Cursor, frame.into());
        } else {
            self.replace(self.cursor, "", frame);
        }
    }

    /// The entity's index; makes it if nothing of it is pending.
    fn entity(&mut self, id: &str, told: Told) -> u32 {
        let hash = self.hasher.hash_one((told, id));
        let found = self.ids.find(hash, |&index| {
            let entity = self.entities.get(index);
            entity.told == told && &*entity.id == id
        });
        if let Some(&index) = found {
            return index;
        }
        let index = self.entities.insert(Entity {
            id: id.into(),
            told,
            deletion: NONE,
            first_update: NONE,
        });
        self.text_bytes += allocation_bytes(id.len());
        let (entities, hasher) = (&self.entities, &self.hasher);
        self.ids.insert_unique(hash, index, |&index| {
            let entity = entities.get(index);
            hasher.hash_one((entity.told, &*entity.id))
        });
        index
    }

    fn append(&mut self, content: Content, text: Box<[u8]>) -> u32 {
        self.text_bytes += allocation_bytes(text.len());
        self.len += 1;
        let index = self.entries.insert(Entry {
            content,
            text,
            merged: None,
            previous: NONE,
            next: NONE,
        });
        self.link_last(index);
        index
    }

    /// Gives an entry a newer frame and the last place.
    fn replace(&mut self, index: u32, property: &str, frame: &[u8]) {
        let entry = self.entries.get_mut(index);
        let (old_len, new_len) = (entry.text.len(), property.len() + frame.len());
        if old_len == new_len {
            entry.text[property.len()..].copy_from_slice(frame);
        } else {
            entry.text = text(property, frame);
            self.text_bytes += allocation_bytes(new_len);
            self.text_bytes -= allocation_bytes(old_len);
        }
        self.unlink(index);
        self.link_last(index);
    }

    fn remove(&mut self, index: u32) -> Entry {
        self.unlink(index);
        let entry = self.entries.remove(index);
        self.len -= 1;
        self.text_bytes -= allocation_bytes(entry.text.len());
        match entry.content {
            Content::Control => {}
            Content::Metrics => self.metrics = NONE,
            Content::Cursor => self.cursor = NONE,
            Content::Merged { entity } => {
                let merged = entry.merged.as_ref();
                self.text_bytes -= merged.map_or(0, |merged| merged.change.heap_bytes());
                self.entities.get_mut(entity).first_update = NONE;
                self.remove_settled(entity);
            }
            Content::Deletion { entity } => {
                self.entities.get_mut(entity).deletion = NONE;
                self.remove_settled(entity);
            }
            Content::Update {
                entity,
                previous,
                next,
                ..
            } => {
                self.set_previous_update(next, previous);
                if previous == NONE {
                    self.entities.get_mut(entity).first_update = next;
                } else {
                    self.set_next_update(previous, next);
                }
                let hash = hash_of_update(&entry, &self.hasher);
                remove_index(&mut self.updates, hash, index);
                self.remove_settled(entity);
            }
        }
        entry
    }

    /// Forgets an entity of which nothing is pending.
    fn remove_settled(&mut self, entity: u32) {
        let Entity {
            id,
            told,
            deletion: NONE,
            first_update: NONE,
        } = self.entities.get(entity)
        else {
            return;
        };
        let hash = self.hasher.hash_one((*told, &**id));
        self.text_bytes -= allocation_bytes(id.len());
        remove_index(&mut self.ids, hash, entity);
        self.entities.remove(entity);
    }

    fn link_last(&mut self, index: u32) {
        let previous = std::mem::replace(&mut self.last, index);
        let entry = self.entries.get_mut(index);
        entry.previous = previous;
        entry.next = NONE;
        if previous == NONE {
            self.first = index;
        } else {
            self.entries.get_mut(previous).next = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let &Entry { previous, next, .. } = self.entries.get(index);
        if previous == NONE {
            self.first = next;
        } else {
            self.entries.get_mut(previous).next = next;
        }
        if next == NONE {
            self.last = previous;
        } else {
            self.entries.get_mut(next).previous = previous;
        }
    }

    /// Sets the neighbour of an update in its entity's list; nothing at the list's end.
    fn set_previous_update(&mut self, update: u32, value: u32) {
        if update == NONE {
            return;
        }
        if let Content::Update { previous, .. } = &mut self.entries.get_mut(update).content {
            *previous = value;
        }
    }

    fn set_next_update(&mut self, update: u32, value: u32) {
        if let Content::Update { next, .. } = &mut self.entries.get_mut(update).content {
            *next = value;
        }
    }
}

fn text(property: &str, frame: &[u8]) -> Box<[u8]> {
    [property.as_bytes(), frame].concat().into()
}

const fn allocation_bytes(len: usize) -> usize {
    len + ALLOCATION_OVERHEAD_BYTES
}

fn hash_of_update(entry: &Entry, hasher: &DefaultHashBuilder) -> u64 {
    let Content::Update {
        entity,
        property_len,
        ..
    } = entry.content
    else {
        unreachable!("the table of updates holds updates only")
    };
    hasher.hash_one((entity, &entry.text[..property_len as usize]))
}

fn remove_index(table: &mut HashTable<u32>, hash: u64, index: u32) {
    table
        .find_entry(hash, |&other| other == index)
        .expect("what is pending is in its table")
        .remove();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line is the frame: `entity.property=value`, `-entity why`, `!control`, `#metrics` or
    /// `@cursor`; by event `+entity name=value,...` and `~entity why`.
    fn push(conflated: &mut Conflated, line: &str) {
        if line.starts_with('@') {
            conflated.cursor(line.as_bytes());
        } else if let Some(deletion) = line.strip_prefix('~') {
            let (id, _) = deletion.split_once(' ').unwrap();
            conflated.deletion_by_event(id, line.as_bytes());
        } else if let Some(change) = line.strip_prefix('+') {
            let (id, parts) = change.split_once(' ').unwrap();
            let parts = parts.split(',').map(|part| match part.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (part, None),
            });
            conflated.merge(id, (HEAD, parts), encode);
        } else if line.starts_with('!') {
            conflated.control(line.as_bytes());
        } else if line.starts_with('#') {
            conflated.metrics(line.as_bytes());
        } else if let Some(deletion) = line.strip_prefix('-') {
            let (id, _) = deletion.split_once(' ').unwrap();
            conflated.deletion(id, line.as_bytes());
        } else {
            let (key, _) = line.split_once('=').unwrap();
            let (id, property) = key.split_once('.').unwrap();
            conflated.update(id, property, line.as_bytes());
        }
    }

    const HEAD: ChangeHead = ChangeHead {
        version: 1,
        sequence: flux_storage::Sequence::new(1),
        time: crate::model::Timestamp::from_micros(0),
        is_whole: false,
        matches: true,
        expires: crate::model::ExpiryChange::None,
    };

    fn encode(out: &mut Vec<u8>, id: &str, change: &MergedChange) {
        let parts = change.parts().map(|(name, value)| match value {
            Some(value) => format!("{name}={value}"),
            None => name.to_owned(),
        });
        let parts: Vec<String> = parts.collect();
        out.extend_from_slice(format!("+{id} {}", parts.join(",")).as_bytes());
    }

    fn drain(conflated: &mut Conflated) -> Vec<String> {
        let mut frames = Vec::new();
        while let Some(len) = conflated.front_len() {
            conflated.pop_front(|frame| {
                assert!(frame.len() == len || frame.starts_with(b"+"));
                frames.push(String::from_utf8(frame.to_vec()).unwrap());
            });
        }
        frames
    }

    #[test]
    fn the_newest_frames_are_delivered_in_order_of_events() {
        let check = |pushed: &[&str], expected: &[&str]| {
            let mut conflated = Conflated::new();
            for line in pushed {
                push(&mut conflated, line);
            }
            assert_eq!(conflated.len(), expected.len(), "{pushed:?}");
            assert_eq!(drain(&mut conflated), expected, "{pushed:?}");
            assert_eq!(conflated.len(), 0);
            assert_eq!(conflated.text_bytes, 0);
            assert!(conflated.ids.is_empty() && conflated.updates.is_empty());
        };
        check(&[], &[]);
        check(&["a.x=1", "b.x=1", "a.x=2"], &["b.x=1", "a.x=2"]);
        check(&["a.x=1", "a.y=1", "a.x=22"], &["a.y=1", "a.x=22"]);
        check(&["ab.c=1", "a.bc=1"], &["ab.c=1", "a.bc=1"]);
        check(
            &["a.x=1", "b.x=1", "a.y=1", "-a gone"],
            &["b.x=1", "-a gone"],
        );
        check(
            &["-a 1", "a.x=1", "b.x=1", "-a 2", "a.y=2"],
            &["b.x=1", "-a 2", "a.y=2"],
        );
        check(&["!1", "a.x=1", "!2", "!1"], &["!1", "a.x=1", "!2", "!1"]);
        check(&["#1", "a.x=1", "#2", "!1"], &["a.x=1", "#2", "!1"]);
        check(&["@1", "a.x=1", "@2", "#1"], &["a.x=1", "@2", "#1"]);
        check(
            &["+a x=1,y=1", "+b x=1", "+a x=2,z"],
            &["+b x=1", "+a x=2,y=1,z"],
        );
        check(
            &["+a x=1", "~a 1", "+a y=1", "~a 2", "+a z=1"],
            &["~a 2", "+a z=1"],
        );
        // Both kinds of one entity stand beside each other.
        check(
            &["a.x=1", "+a x=1", "-a gone", "+a x=2", "a.x=3"],
            &["-a gone", "+a x=2", "a.x=3"],
        );
    }

    #[test]
    fn an_entity_in_part_delivered_goes_on_being_conflated() {
        let mut conflated = Conflated::new();
        for line in ["-a gone", "a.x=1", "a.y=1", "a.z=1"] {
            push(&mut conflated, line);
        }
        conflated.pop_front(|frame| assert_eq!(frame, b"-a gone"));
        conflated.pop_front(|frame| assert_eq!(frame, b"a.x=1"));
        for line in ["a.y=2", "a.x=2"] {
            push(&mut conflated, line);
        }
        assert_eq!(drain(&mut conflated), ["a.z=1", "a.y=2", "a.x=2"]);
    }

    #[test]
    fn repeating_the_same_changes_takes_no_more_memory() {
        let mut conflated = Conflated::new();
        let mut sizes = Vec::new();
        for round in 10..60 {
            for entity in 10..30 {
                push(&mut conflated, &format!("-e{entity} {round}"));
                push(&mut conflated, &format!("e{entity}.x={round}"));
                push(&mut conflated, &format!("e{entity}.y={round}"));
            }
            push(&mut conflated, &format!("#{round}"));
            sizes.push(conflated.heap_bytes());
        }
        assert_eq!(conflated.len(), 61);
        // The first deletion of a round meets the entities of the round before.
        assert!(sizes[2..].iter().all(|size| *size == sizes[2]), "{sizes:?}");
    }
}
