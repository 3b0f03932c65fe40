//! The namespaces that `flux-core/directory` tells of, and what of them one reader is told.
//!
//! The entity itself holds what everyone may read. Whoever may read more is told of more: its rows
//! and sums are made for it when it reads.

use super::system_entities::SystemEntities;
use crate::api::directory::{DIRECTORY_ID, Listed, namespaces};
use crate::auth::{Extent, PrivateNamespaces, Readable, Reader};
use crate::limits::DIRECTORY_NAMESPACES_MAX;
use crate::model::{EntityHead, EntityTag, Lifetime, Property, Timestamp};
use crate::state::{Entity, NamespaceEntry};
use flux_storage::{LayerError, Sequence};
use std::hash::{DefaultHasher, Hash, Hasher};

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    name: Box<str>,
    entities: u64,
    last_updated: Timestamp,
    last_sequence: Sequence,
}

impl Row {
    fn of(entry: &NamespaceEntry) -> Self {
        Self {
            name: (*entry.name).into(),
            entities: entry.entities,
            last_updated: entry.last_updated,
            last_sequence: entry.last_sequence,
        }
    }

    fn listed(&self) -> Listed<'_> {
        Listed {
            name: &self.name,
            entities: self.entities,
            last_updated: (self.entities > 0).then_some(self.last_updated),
        }
    }
}

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DirectoryRows {
    /// The public namespaces that are listed, by name.
    public: Vec<Row>,
    /// All private ones, by name.
    private: Vec<Row>,
    /// Of all public ones, listed or not.
    public_sums: Sums,
    /// What everyone is told.
    page: DirectoryPage,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    namespaces: u64,
    entities: u64,
}

impl Sums {
    fn add(&mut self, row: &Row) {
        self.namespaces += 1;
        self.entities += row.entities;
    }
}

/// The entity's properties, as JSON.
#[derive(Debug, Default, PartialEq, Eq)]
struct DirectoryPage {
    namespaces: String,
    total_entities: String,
    total_namespaces: String,
}

impl DirectoryPage {
    fn of<'r>(rows: impl Iterator<Item = &'r Row>, sums: Sums) -> Self {
        let mut json = Vec::new();
        namespaces(&mut json, rows.map(Row::listed));
        Self {
            namespaces: String::from_utf8(json).expect("names are text"),
            total_entities: sums.entities.to_string(),
            total_namespaces: sums.namespaces.to_string(),
        }
    }

    /// Ascending by name.
    fn properties(&self) -> [Property<'_>; 3] {
        [
            ("namespaces", &self.namespaces),
            ("total_entities", &self.total_entities),
            ("total_namespaces", &self.total_namespaces),
        ]
        .map(|(name, value)| Property { name, value })
    }
}

/// Keeps as many rows as are listed, the ones that changed last, and orders them by name.
fn listed<T>(rows: &mut Vec<T>, of: impl Fn(&T) -> (Timestamp, &str)) {
    if rows.len() > DIRECTORY_NAMESPACES_MAX {
        rows.select_nth_unstable_by(DIRECTORY_NAMESPACES_MAX, |left, right| {
            let ((left_time, left_name), (right_time, right_name)) = (of(left), of(right));
            right_time
                .cmp(&left_time)
                .then_with(|| left_name.cmp(right_name))
        });
        rows.truncate(DIRECTORY_NAMESPACES_MAX);
    }
    rows.sort_unstable_by(|left, right| of(left).1.cmp(of(right).1));
}

impl DirectoryRows {
    /// Of these namespaces, of which those are private. `entities`: of all of them, and those
    /// without a namespace.
    pub fn count<'e>(
        entries: impl Iterator<Item = &'e NamespaceEntry>,
        entities: u64,
        private: &PrivateNamespaces,
    ) -> Self {
        let (hidden, mut public): (Vec<_>, Vec<_>) =
            entries.partition(|entry| private.holds(&entry.name));
        let mut hidden: Vec<Row> = hidden.into_iter().map(Row::of).collect();
        hidden.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        let of_hidden: u64 = hidden.iter().map(|row| row.entities).sum();
        let public_sums = Sums {
            namespaces: public.len() as u64,
            entities: entities.saturating_sub(of_hidden),
        };
        listed(&mut public, |entry| (entry.last_updated, &entry.name));
        let public: Vec<Row> = public.into_iter().map(Row::of).collect();
        Self {
            page: DirectoryPage::of(public.iter(), public_sums),
            public,
            private: hidden,
            public_sums,
        }
    }

    /// Takes out of what everyone is told what has become private since.
    fn close(&mut self, private: &PrivateNamespaces) {
        if !self.public.iter().any(|row| private.holds(&row.name)) {
            return;
        }
        let closed: Vec<Row> = self
            .public
            .extract_if(.., |row| private.holds(&row.name))
            .collect();
        for row in closed {
            self.public_sums.namespaces -= 1;
            self.public_sums.entities = self.public_sums.entities.saturating_sub(row.entities);
            let place = self.private.partition_point(|it| it.name < row.name);
            self.private.insert(place, row);
        }
        self.page = DirectoryPage::of(self.public.iter(), self.public_sums);
    }

    /// The private namespaces that somebody may read as a whole.
    fn more<'s>(&'s self, readable: &Readable) -> Vec<&'s Row> {
        match readable.reader() {
            Reader::Public => Vec::new(),
            Reader::All => self.private.iter().collect(),
            reader => {
                let grants = reader.grants().iter();
                let mut names: Vec<&str> = grants.map(|grant| grant.namespace.as_str()).collect();
                names.sort_unstable();
                names.dedup();
                let whole = names
                    .into_iter()
                    .filter(|name| readable.extent_of(name) == Extent::Whole);
                whole
                    .filter_map(|name| {
                        let found = self.private.binary_search_by(|row| (*row.name).cmp(name));
                        self.private.get(found.ok()?)
                    })
                    .collect()
            }
        }
    }
}

/// The directory as one reader is shown it, if that is more than everyone is.
#[derive(Debug)]
pub(super) struct OwnDirectory {
    page: DirectoryPage,
    version: u64,
    last_updated: Timestamp,
}

impl OwnDirectory {
    /// What its JSON begins and ends with. It moves when something does that its reader may read,
    /// and at no other time.
    pub(super) fn head(&self) -> EntityHead<'static> {
        EntityHead {
            id: DIRECTORY_ID,
            version: self.version,
            last_updated: self.last_updated,
            lifetime: Lifetime::default(),
        }
    }

    pub(super) fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        let properties = self.page.properties().into_iter();
        properties.map(|property| (property.name, property.value))
    }

    /// About the bytes of its JSON.
    pub(super) fn bytes(&self) -> usize {
        self.properties()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }

    /// Its entity tag, made of all that it says: no two states of it have the same.
    pub(super) fn tag(&self) -> EntityTag {
        let mut hasher = DefaultHasher::new();
        self.version.hash(&mut hasher);
        for text in self.properties() {
            text.hash(&mut hasher);
        }
        EntityTag {
            sequence: Sequence::new(hasher.finish()),
            last_updated: self.last_updated,
        }
    }
}

impl SystemEntities {
    /// Takes the directory as it was counted, without what has become private since.
    pub(super) fn set_directory(
        &mut self,
        mut rows: DirectoryRows,
        (private, now): (&PrivateNamespaces, Timestamp),
    ) -> Result<(), LayerError> {
        rows.close(private);
        let before = std::mem::replace(&mut self.directory, rows);
        self.show_directory(&before.page, now)
    }

    /// Takes out of the directory what has become private.
    pub(super) fn close_directory(
        &mut self,
        (private, now): (&PrivateNamespaces, Timestamp),
    ) -> Result<(), LayerError> {
        let mut rows = std::mem::take(&mut self.directory);
        let before = std::mem::take(&mut rows.page);
        rows.page = DirectoryPage::of(rows.public.iter(), rows.public_sums);
        rows.close(private);
        self.directory = rows;
        self.show_directory(&before, now)
    }

    /// Gives the entity the properties in which it differs from what it was.
    fn show_directory(&mut self, before: &DirectoryPage, now: Timestamp) -> Result<(), LayerError> {
        let directory = std::mem::take(&mut self.directory);
        let after = directory.page.properties();
        let changed = before.properties().into_iter().zip(after);
        let properties: Vec<Property<'_>> = changed
            .filter(|(old, new)| old.value != new.value)
            .map(|(_, new)| new)
            .collect();
        let set = if properties.is_empty() {
            Ok(())
        } else {
            self.set(DIRECTORY_ID, &properties, now)
        };
        self.directory = directory;
        set
    }

    /// What the reader is shown in place of an entity; `None` if it is shown what everyone is.
    pub(super) fn shown_to(&self, readable: &Readable, entity: Entity<'_>) -> Option<OwnDirectory> {
        if readable.is_public() || entity.id() != DIRECTORY_ID {
            return None;
        }
        let directory = &self.directory;
        let more = directory.more(readable);
        if more.is_empty() {
            return None;
        }
        let mut sums = directory.public_sums;
        let (mut own_version, mut time) = (entity.version(), entity.last_updated());
        for row in &more {
            sums.add(row);
            own_version = own_version.saturating_add(row.last_sequence.get());
            time = time.max(row.last_updated);
        }
        let mut rows: Vec<&Row> = directory.public.iter().chain(more).collect();
        listed(&mut rows, |row| (row.last_updated, &row.name));
        Some(OwnDirectory {
            page: DirectoryPage::of(rows.into_iter(), sums),
            version: own_version,
            last_updated: time,
        })
    }
}
