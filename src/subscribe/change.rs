//! What a shard tells a core after a flush: every change of the flush that the core's connections
//! want, each frame encoded once.
//!
//! ```text
//! names    "house/room" "light" "temperature" "garden"   ids and property names
//! frames   [light] [temperature] [garden is gone]            in the order of the log
//! index    Updated{id, 2} Property{name, frame} Property{name, frame} Deleted{id, frame}
//! ```
//!
//! A batch is built in buffers that the builder keeps, copied once into memory of its exact size,
//! and then shared by reference count. It lives until the last core has fanned it out: an
//! [`Outbox`](super::Outbox) copies what it owes, because a slow connection that held on to a few
//! frames would pin whole batches.
//!
//! The frames of one change lie side by side, so that a fast connection is served by one copy per
//! change.

use std::slice;
use std::sync::Arc;

use crate::limits;

/// All changes of one flush, in log order. Immutable; made by [`ChangeBatchBuilder`].
#[derive(Debug)]
pub struct ChangeBatch {
    names: Box<str>,
    frames: Box<[u8]>,
    index: Box<[IndexEntry]>,
}

/// Part of `names` or `frames`.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

#[derive(Debug, Clone, Copy)]
enum IndexEntry {
    /// Followed by that many `Property` entries, one or more.
    Updated {
        id: Span,
        properties: u32,
    },
    Property {
        name: Span,
        frame: Span,
    },
    Deleted {
        id: Span,
        frame: Span,
    },
}

/// One change of one entity.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// Properties have new values.
    Updated {
        /// Whose.
        entity_id: &'a str,
        /// Which, and what subscribers are told.
        updates: Updates<'a>,
    },
    /// The entity is gone.
    Deleted {
        /// Which.
        entity_id: &'a str,
        /// What subscribers are told.
        frame: &'a [u8],
    },
}

impl<'a> Change<'a> {
    /// The entity that changed.
    pub fn entity_id(&self) -> &'a str {
        match self {
            Self::Updated { entity_id, .. } | Self::Deleted { entity_id, .. } => entity_id,
        }
    }

    /// Bytes of its frames.
    pub fn frame_bytes(&self) -> usize {
        match self {
            Self::Updated { updates, .. } => updates.frames().len(),
            Self::Deleted { frame, .. } => frame.len(),
        }
    }
}

/// One property's new value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update<'a> {
    /// The property's name.
    pub property: &'a str,
    /// What subscribers are told.
    pub frame: &'a [u8],
}

/// The updates of one change, in the order in which they were added; one or more.
#[derive(Debug, Clone, Copy)]
pub struct Updates<'a> {
    batch: &'a ChangeBatch,
    entries: &'a [IndexEntry],
}

impl<'a> Updates<'a> {
    /// The frames of all updates, one after the other.
    pub fn frames(&self) -> &'a [u8] {
        match (self.entries.first(), self.entries.last()) {
            (
                Some(IndexEntry::Property { frame: first, .. }),
                Some(IndexEntry::Property { frame: last, .. }),
            ) => self.batch.frame(Span {
                start: first.start,
                end: last.end,
            }),
            _ => unreachable!("an `Updated` entry counts the properties behind it"),
        }
    }
}

impl<'a> IntoIterator for Updates<'a> {
    type Item = Update<'a>;
    type IntoIter = UpdatesIter<'a>;

    fn into_iter(self) -> UpdatesIter<'a> {
        UpdatesIter {
            batch: self.batch,
            rest: self.entries.iter(),
        }
    }
}

/// Iterates over [`Updates`].
#[derive(Debug, Clone)]
pub struct UpdatesIter<'a> {
    batch: &'a ChangeBatch,
    rest: slice::Iter<'a, IndexEntry>,
}

impl<'a> Iterator for UpdatesIter<'a> {
    type Item = Update<'a>;

    fn next(&mut self) -> Option<Update<'a>> {
        let IndexEntry::Property { name, frame } = *self.rest.next()? else {
            unreachable!("an `Updated` entry counts the properties behind it")
        };
        Some(Update {
            property: self.batch.name(name),
            frame: self.batch.frame(frame),
        })
    }
}

/// The changes of a batch, in log order: an iterator.
#[derive(Debug, Clone)]
pub struct Changes<'a> {
    batch: &'a ChangeBatch,
    rest: &'a [IndexEntry],
}

impl<'a> Iterator for Changes<'a> {
    type Item = Change<'a>;

    fn next(&mut self) -> Option<Change<'a>> {
        let (entry, rest) = self.rest.split_first()?;
        match *entry {
            IndexEntry::Updated { id, properties } => {
                let (entries, rest) = rest.split_at(properties as usize);
                self.rest = rest;
                let batch = self.batch;
                Some(Change::Updated {
                    entity_id: batch.name(id),
                    updates: Updates { batch, entries },
                })
            }
            IndexEntry::Deleted { id, frame } => {
                self.rest = rest;
                Some(Change::Deleted {
                    entity_id: self.batch.name(id),
                    frame: self.batch.frame(frame),
                })
            }
            IndexEntry::Property { .. } => {
                unreachable!("an `Updated` entry counts the properties behind it")
            }
        }
    }
}

impl Changes<'_> {
    /// Where the next change begins, for [`ChangeBatch::changes_from`].
    pub fn position(&self) -> usize {
        self.batch.index.len() - self.rest.len()
    }
}

impl ChangeBatch {
    /// The changes, in log order.
    pub fn changes(&self) -> Changes<'_> {
        self.changes_from(0)
    }

    /// The changes from a [position](Changes::position) on.
    pub fn changes_from(&self, position: usize) -> Changes<'_> {
        Changes {
            batch: self,
            rest: self.index.get(position..).unwrap_or_default(),
        }
    }

    /// Heap that the batch holds, for the accounting of mailboxes.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.names.len() + self.frames.len() + size_of_val(&*self.index)
    }

    fn name(&self, span: Span) -> &str {
        &self.names[span.start as usize..span.end as usize]
    }

    fn frame(&self, span: Span) -> &[u8] {
        &self.frames[span.start as usize..span.end as usize]
    }
}

/// Collects the changes of one flush. Reused: its buffers stay between batches.
///
/// For each event, in log order: [`change`](Self::change) and then [`update`](Self::update) once
/// per property, or [`deleted`](Self::deleted). If [`is_full`](Self::is_full) says so, even between
/// two properties of one event, the caller finishes the batch and goes on in the next one, so that
/// an event with a long id and very many properties, which its frames repeat, takes no more memory
/// at once than others.
#[derive(Debug, Default)]
pub struct ChangeBatchBuilder {
    names: String,
    frames: Vec<u8>,
    index: Vec<IndexEntry>,
    /// The change that `update` adds to; in the index only once it has a property.
    open: Option<OpenChange>,
}

#[derive(Debug)]
struct OpenChange {
    id: Span,
    /// Position in the index of its `Updated` entry, if it has one.
    entry: Option<usize>,
}

impl ChangeBatchBuilder {
    /// A builder with an empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a change of an entity's properties. Without an [`update`](Self::update) it leaves no
    /// trace.
    pub fn change(&mut self, entity_id: &str) {
        self.close();
        let id = self.add_name(entity_id);
        self.open = Some(OpenChange { id, entry: None });
    }

    /// Adds a property's new value to the open change; `encode` appends its frame.
    ///
    /// # Panics
    /// Without an open change, or at 4 GiB of frames: callers finish a batch that [is
    /// full](Self::is_full).
    pub fn update(&mut self, property: &str, encode: impl FnOnce(&mut Vec<u8>)) {
        let open = self.open.as_mut().expect("an update belongs to a change");
        let id = open.id;
        let entry = *open.entry.get_or_insert_with(|| {
            self.index.push(IndexEntry::Updated { id, properties: 0 });
            self.index.len() - 1
        });
        let name = self.add_name(property);
        let frame = self.add_frame(encode);
        self.index.push(IndexEntry::Property { name, frame });
        let IndexEntry::Updated { properties, .. } = &mut self.index[entry] else {
            unreachable!("`entry` is where the `Updated` entry was pushed")
        };
        *properties += 1;
    }

    /// Adds the deletion of an entity; `encode` appends its frame.
    ///
    /// # Panics
    /// At 4 GiB of frames, as [`update`](Self::update).
    pub fn deleted(&mut self, entity_id: &str, encode: impl FnOnce(&mut Vec<u8>)) {
        self.close();
        let id = self.add_name(entity_id);
        let frame = self.add_frame(encode);
        self.index.push(IndexEntry::Deleted { id, frame });
    }

    /// True if the batch has no change.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// True once the batch should be finished and another begun.
    pub fn is_full(&self) -> bool {
        self.names.len() + self.frames.len() >= limits::CHANGE_BATCH_BYTES_MAX
    }

    /// The batch so far, ready to be shared; the builder begins the next one. An open change is
    /// closed.
    pub fn finish(&mut self) -> Arc<ChangeBatch> {
        self.close();
        let batch = Arc::new(ChangeBatch {
            names: self.names.as_str().into(),
            frames: self.frames.as_slice().into(),
            index: self.index.as_slice().into(),
        });
        self.begin();
        batch
    }

    /// Drops the batch so far.
    pub fn begin(&mut self) {
        self.open = None;
        self.names.clear();
        self.frames.clear();
        self.index.clear();
        // One giant frame must not stay for ever.
        self.names.shrink_to(limits::CHANGE_BATCH_BYTES_MAX);
        self.frames.shrink_to(2 * limits::CHANGE_BATCH_BYTES_MAX);
    }

    /// Ends the open change; one without a property gives its name back.
    fn close(&mut self) {
        if let Some(OpenChange { id, entry: None }) = self.open.take() {
            self.names.truncate(id.start as usize);
        }
    }

    fn add_name(&mut self, name: &str) -> Span {
        let start = position(self.names.len());
        self.names.push_str(name);
        Span {
            start,
            end: position(self.names.len()),
        }
    }

    fn add_frame(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = position(self.frames.len());
        encode(&mut self.frames);
        Span {
            start,
            end: position(self.frames.len()),
        }
    }
}

fn position(len: usize) -> u32 {
    u32::try_from(len).expect("a full batch is finished long before 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches cross from a shard's core to another.
    const _: fn() = || {
        fn shared<T: Send + Sync>() {}
        shared::<ChangeBatch>();
    };

    fn describe(batch: &ChangeBatch) -> Vec<String> {
        let text = |frame: &[u8]| String::from_utf8(frame.to_vec()).unwrap();
        let mut lines = Vec::new();
        for change in batch.changes() {
            let id = change.entity_id();
            match change {
                Change::Deleted { frame, .. } => lines.push(format!("-{id} {}", text(frame))),
                Change::Updated { updates, .. } => {
                    lines.push(format!("+{id} {}", text(updates.frames())));
                    lines.extend(
                        updates
                            .into_iter()
                            .map(|update| format!("{}={}", update.property, text(update.frame))),
                    );
                }
            }
        }
        lines
    }

    fn put(text: &str) -> impl FnOnce(&mut Vec<u8>) {
        move |out| out.extend_from_slice(text.as_bytes())
    }

    #[test]
    fn changes_come_back_in_order_with_their_frames() {
        let mut builder = ChangeBatchBuilder::new();
        builder.change("house/küche");
        builder.update("light", put("on"));
        builder.update("", put("empty name"));
        builder.deleted("garden", put("gone"));
        builder.change("house/küche");
        builder.update("light", put("off"));
        assert!(!builder.is_empty());
        assert_eq!(
            describe(&builder.finish()),
            [
                "+house/küche onempty name",
                "light=on",
                "=empty name",
                "-garden gone",
                "+house/küche off",
                "light=off",
            ]
        );
    }

    #[test]
    fn a_change_without_properties_leaves_no_trace() {
        let mut builder = ChangeBatchBuilder::new();
        builder.change("renewed");
        assert!(builder.is_empty());
        builder.deleted("gone", put("x"));
        builder.change("renewed again");
        let batch = builder.finish();
        assert_eq!(describe(&batch), ["-gone x"]);
        assert_eq!(&*batch.names, "gone");
        assert!(builder.is_empty());
        assert_eq!(builder.finish().changes().count(), 0);
    }

    #[test]
    fn a_finished_batch_is_not_touched_by_the_next() {
        let mut builder = ChangeBatchBuilder::new();
        builder.deleted("a", put("first"));
        let first = builder.finish();
        builder.deleted("b", put("second"));
        let second = builder.finish();
        assert_eq!(describe(&first), ["-a first"]);
        assert_eq!(describe(&second), ["-b second"]);
    }

    #[test]
    fn a_batch_is_full_at_its_limit_and_goes_on_in_the_next() {
        let mut builder = ChangeBatchBuilder::new();
        builder.change("id");
        builder.update("p", |out| {
            out.resize(limits::CHANGE_BATCH_BYTES_MAX - 4, b'x');
        });
        assert!(!builder.is_full());
        builder.update("q", |_| {});
        assert!(builder.is_full());
        let batch = builder.finish();
        assert!(batch.heap_bytes() >= limits::CHANGE_BATCH_BYTES_MAX);
        assert!(!builder.is_full());
        builder.change("id");
        builder.update("r", put("rest"));
        assert_eq!(describe(&builder.finish()), ["+id rest", "r=rest"]);
    }
}
