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

use super::verdict::{FilterVerdict, TooCostly, Verdict};
use crate::filter::Filter;
use crate::limits;
use crate::model::Timestamp;
use flux_storage::Sequence;

/// What is shown as the sequence of an entity that is in no log: it rises as a sequence would.
pub fn unlogged_sequence(last_updated: Timestamp) -> Sequence {
    Sequence::new(u64::try_from(last_updated.as_micros()).unwrap_or_default())
}

/// No extra.
const NONE: u32 = u32::MAX;

/// All changes of one flush, in log order. Immutable; made by [`ChangeBatchBuilder`].
#[derive(Debug)]
pub struct ChangeBatch {
    names: Box<str>,
    frames: Box<[u8]>,
    records: Box<[u8]>,
    index: Box<[ChangeEntry]>,
    updates: Box<[UpdateEntry]>,
    extras: Box<[Extra]>,
    verdicts: Box<[FilterVerdict]>,
    up_to: Sequence,
}

/// Part of `names`, `frames` or `records`, or of one of the lists.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    const fn is_empty(self) -> bool {
        self.start == self.end
    }

    const fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// One change.
#[derive(Debug, Clone, Copy)]
struct ChangeEntry {
    id: Span,
    /// Of the deletion in `frames`, or the updates.
    content: Span,
    sequence: u64,
    /// Index in `extras`, or [`NONE`].
    extra: u32,
    is_deletion: bool,
}

/// One property's new value.
#[derive(Debug, Clone, Copy)]
struct UpdateEntry {
    name: Span,
    frame: Span,
}

/// What a change says for subscribers that ask for more than frames of properties.
#[derive(Debug, Clone, Copy)]
struct Extra {
    /// The stored event in `records`; empty in the further parts of a change.
    event: Span,
    /// The stored entity after it in `records`, if a filter matches since then.
    whole: Span,
    verdicts: Span,
    version: u64,
    time: Timestamp,
    kind: ChangeKind,
}

/// What an event did to its entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// There was none.
    Created,
    /// It was there, and is.
    Updated,
    /// It is gone.
    Deleted,
    /// There was none to delete.
    Absent,
}

/// What is known of an event besides its bytes.
#[derive(Debug, Clone, Copy)]
pub struct EventFacts {
    /// Of the entity after it; 0 if there is none.
    pub version: u64,
    /// When it was accepted.
    pub time: Timestamp,
    /// What it did.
    pub kind: ChangeKind,
}

/// The stored event behind a change.
#[derive(Debug, Clone, Copy)]
pub struct Detail<'a> {
    /// Its stored form.
    pub event: &'a [u8],
    /// What is known of it besides.
    pub facts: EventFacts,
}

/// One change of one entity, or a part of one that has very many properties.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    batch: &'a ChangeBatch,
    entry: &'a ChangeEntry,
}

impl<'a> Change<'a> {
    /// The entity that changed.
    pub fn entity_id(&self) -> &'a str {
        self.batch.name(self.entry.id)
    }

    /// Of its event in the shard's log; `None` if it is in no log.
    pub fn sequence(&self) -> Option<Sequence> {
        (self.entry.sequence > 0).then(|| Sequence::new(self.entry.sequence))
    }

    /// What subscribers to each property are told: the frames of the updates, or of the deletion,
    /// one after the other; empty if that is nothing.
    pub fn frames(&self) -> &'a [u8] {
        if self.entry.is_deletion {
            return self.batch.frame(self.entry.content);
        }
        let updates = &self.batch.updates[self.entry.content.range()];
        match (updates.first(), updates.last()) {
            (Some(first), Some(last)) => self.batch.frame(Span {
                start: first.frame.start,
                end: last.frame.end,
            }),
            _ => &[],
        }
    }

    /// True if the entity is gone, and subscribers to each property are told so.
    pub fn is_deletion(&self) -> bool {
        self.entry.is_deletion
    }

    /// Properties with new values, and what subscribers to each property are told.
    pub fn updates(&self) -> Updates<'a> {
        let entries: &[UpdateEntry] = if self.entry.is_deletion {
            &[]
        } else {
            &self.batch.updates[self.entry.content.range()]
        };
        Updates {
            batch: self.batch,
            rest: entries.iter(),
        }
    }

    /// The event, if a subscriber asks for more than frames, and this is not a further part.
    pub fn detail(&self) -> Option<Detail<'a>> {
        let extra = self.extra()?;
        (!extra.event.is_empty()).then(|| Detail {
            event: &self.batch.records[extra.event.range()],
            facts: EventFacts {
                version: extra.version,
                time: extra.time,
                kind: extra.kind,
            },
        })
    }

    /// The stored form of the entity after the change, if a filter matches since then.
    pub fn whole(&self) -> Option<&'a [u8]> {
        let whole = self.extra()?.whole;
        (!whole.is_empty()).then(|| &self.batch.records[whole.range()])
    }

    /// True if a filter could not judge the entity.
    pub fn has_costly(&self) -> bool {
        let verdicts = (self.extra()).map(|extra| &self.batch.verdicts[extra.verdicts.range()]);
        verdicts.is_some_and(|all| all.iter().any(|it| it.verdict.is_err()))
    }

    /// Whether the entity matched a filter before and after; `None` if the shard did not ask it.
    pub fn verdict(&self, filter: &Filter) -> Option<Result<Verdict, TooCostly>> {
        let verdicts = &self.batch.verdicts[self.extra()?.verdicts.range()];
        let mut of_this = verdicts
            .iter()
            .filter(|it| it.filter.text() == filter.text());
        of_this.next().map(|it| it.verdict)
    }

    fn extra(&self) -> Option<&'a Extra> {
        self.batch.extras.get(self.entry.extra as usize)
    }

    /// Bytes of its frames, or of the event if there are none.
    pub fn frame_bytes(&self) -> usize {
        let event = self.extra().map_or(0, |extra| extra.event.range().len());
        self.frames().len().max(event)
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

/// The updates of one change, in the order in which they were added: an iterator.
#[derive(Debug, Clone)]
pub struct Updates<'a> {
    batch: &'a ChangeBatch,
    rest: slice::Iter<'a, UpdateEntry>,
}

impl<'a> Iterator for Updates<'a> {
    type Item = Update<'a>;

    fn next(&mut self) -> Option<Update<'a>> {
        let UpdateEntry { name, frame } = *self.rest.next()?;
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
    rest: slice::Iter<'a, ChangeEntry>,
}

impl<'a> Iterator for Changes<'a> {
    type Item = Change<'a>;

    fn next(&mut self) -> Option<Change<'a>> {
        let entry = self.rest.next()?;
        let batch = self.batch;
        Some(Change { batch, entry })
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
            rest: self.index.get(position..).unwrap_or_default().iter(),
        }
    }

    /// Every change of the shard through this sequence that a core asked for is in this batch or
    /// in one before.
    pub const fn up_to(&self) -> Sequence {
        self.up_to
    }

    /// Heap that the batch holds, for the accounting of mailboxes.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + self.names.len()
            + self.frames.len()
            + self.records.len()
            + size_of_val(&*self.index)
            + size_of_val(&*self.updates)
            + size_of_val(&*self.extras)
            + size_of_val(&*self.verdicts)
    }

    fn name(&self, span: Span) -> &str {
        &self.names[span.range()]
    }

    fn frame(&self, span: Span) -> &[u8] {
        &self.frames[span.range()]
    }
}

/// Collects the changes of one flush. Reused: its buffers stay between batches.
///
/// For each event, in log order: [`change`](Self::change), then [`update`](Self::update) once per
/// property or [`deleted`](Self::deleted), and [`detail`](Self::detail), [`whole`](Self::whole) and
/// [`verdicts`](Self::verdicts) if a subscriber asks for them. If [`is_full`](Self::is_full) says
/// so, even between two properties of one event, the caller finishes the batch and goes on in the
/// next one, so that an event with a long id and very many properties, which its frames repeat,
/// takes no more memory at once than others.
#[derive(Debug, Default)]
pub struct ChangeBatchBuilder {
    names: String,
    frames: Vec<u8>,
    records: Vec<u8>,
    index: Vec<ChangeEntry>,
    updates: Vec<UpdateEntry>,
    extras: Vec<Extra>,
    verdicts: Vec<FilterVerdict>,
    up_to: Sequence,
    /// The change that is added to; in the index only once it says something.
    open: Option<OpenChange>,
}

#[derive(Debug, Clone, Copy)]
struct OpenChange {
    id: Span,
    sequence: u64,
    /// Position in the index of its entry, if it has one.
    entry: Option<usize>,
}

impl ChangeBatchBuilder {
    /// A builder with an empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a change of an entity. If nothing is added to it, it leaves no trace. `sequence`: of
    /// its event; [`Sequence::ZERO`] if it is in no log.
    pub fn change(&mut self, entity_id: &str, sequence: Sequence) {
        self.close();
        let id = self.add_name(entity_id);
        self.open = Some(OpenChange {
            id,
            sequence: sequence.get(),
            entry: None,
        });
    }

    /// Adds a property's new value to the open change; `encode` appends its frame.
    ///
    /// # Panics
    /// Without an open change, or at 4 GiB of frames: callers finish a batch that [is
    /// full](Self::is_full).
    pub fn update(&mut self, property: &str, encode: impl FnOnce(&mut Vec<u8>)) {
        let entry = self.entry();
        let name = self.add_name(property);
        let frame = self.add_frame(encode);
        self.updates.push(UpdateEntry { name, frame });
        self.index[entry].content.end = position(self.updates.len());
    }

    /// Says that the open change is a deletion; `encode` appends its frame.
    ///
    /// # Panics
    /// As [`update`](Self::update).
    pub fn deleted(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let entry = self.entry();
        let frame = self.add_frame(encode);
        let entry = &mut self.index[entry];
        entry.content = frame;
        entry.is_deletion = true;
    }

    /// Adds the stored event behind the open change.
    ///
    /// # Panics
    /// As [`update`](Self::update).
    pub fn detail(&mut self, detail: Detail<'_>) {
        let start = position(self.records.len());
        self.records.extend_from_slice(detail.event);
        let end = position(self.records.len());
        let extra = self.extra();
        extra.event = Span { start, end };
        extra.version = detail.facts.version;
        extra.time = detail.facts.time;
        extra.kind = detail.facts.kind;
    }

    /// Adds the stored form of the entity after the open change, which `encode` appends.
    ///
    /// # Panics
    /// As [`update`](Self::update).
    pub fn whole(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = position(self.records.len());
        encode(&mut self.records);
        let end = position(self.records.len());
        self.extra().whole = Span { start, end };
    }

    /// Adds what filters say of the open change. None at all leave no trace.
    ///
    /// # Panics
    /// As [`update`](Self::update).
    pub fn verdicts(&mut self, verdicts: &[FilterVerdict]) {
        if verdicts.is_empty() {
            return;
        }
        let start = position(self.verdicts.len());
        self.verdicts.extend_from_slice(verdicts);
        let end = position(self.verdicts.len());
        self.extra().verdicts = Span { start, end };
    }

    /// True if the batch has no change.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// True once the batch should be finished and another begun.
    pub fn is_full(&self) -> bool {
        self.names.len() + self.frames.len() + self.records.len() >= limits::CHANGE_BATCH_BYTES_MAX
    }

    /// The batch so far, ready to be shared; the builder begins the next one. An open change is
    /// closed.
    pub fn finish(&mut self) -> Arc<ChangeBatch> {
        self.close();
        self.take()
    }

    /// The batch so far; its last change goes on in the next one.
    pub fn finish_within_change(&mut self) -> Arc<ChangeBatch> {
        let open = self.open;
        self.open = None;
        let batch = self.take();
        if let Some(open) = open {
            let id = batch.name(open.id);
            self.change(id, Sequence::new(open.sequence));
        }
        batch
    }

    fn take(&mut self) -> Arc<ChangeBatch> {
        let batch = Arc::new(ChangeBatch {
            names: self.names.as_str().into(),
            frames: self.frames.as_slice().into(),
            records: self.records.as_slice().into(),
            index: self.index.as_slice().into(),
            updates: self.updates.as_slice().into(),
            extras: self.extras.as_slice().into(),
            verdicts: self.verdicts.as_slice().into(),
            up_to: self.up_to,
        });
        self.begin();
        batch
    }

    /// Drops the batch so far.
    pub fn begin(&mut self) {
        self.open = None;
        self.names.clear();
        self.frames.clear();
        self.records.clear();
        self.index.clear();
        self.updates.clear();
        self.extras.clear();
        self.verdicts.clear();
        // One giant frame must not stay for ever.
        self.names.shrink_to(limits::CHANGE_BATCH_BYTES_MAX);
        self.frames.shrink_to(2 * limits::CHANGE_BATCH_BYTES_MAX);
        self.records.shrink_to(limits::CHANGE_BATCH_BYTES_MAX);
    }

    /// Ends the open change; one that says nothing gives its name back.
    fn close(&mut self) {
        match self.open.take() {
            None => {}
            Some(OpenChange {
                id, entry: None, ..
            }) => self.names.truncate(id.start as usize),
            Some(open) => self.up_to = self.up_to.max(Sequence::new(open.sequence)),
        }
    }

    /// The entry of the open change.
    fn entry(&mut self) -> usize {
        let open = self
            .open
            .as_mut()
            .expect("what is added belongs to a change");
        if let Some(entry) = open.entry {
            return entry;
        }
        let first = position(self.updates.len());
        self.index.push(ChangeEntry {
            id: open.id,
            content: Span {
                start: first,
                end: first,
            },
            sequence: open.sequence,
            extra: NONE,
            is_deletion: false,
        });
        let entry = self.index.len() - 1;
        open.entry = Some(entry);
        entry
    }

    /// The extra of the open change.
    fn extra(&mut self) -> &mut Extra {
        let entry = self.entry();
        let entry = &mut self.index[entry];
        if entry.extra == NONE {
            entry.extra = position(self.extras.len());
            self.extras.push(Extra {
                event: Span::default(),
                whole: Span::default(),
                verdicts: Span::default(),
                version: 0,
                time: Timestamp::default(),
                kind: ChangeKind::Updated,
            });
        }
        &mut self.extras[entry.extra as usize]
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
            let sign = if change.is_deletion() { '-' } else { '+' };
            lines.push(format!("{sign}{id} {}", text(change.frames())));
            let shown = |update: Update<'_>| format!("{}={}", update.property, text(update.frame));
            lines.extend(change.updates().map(shown));
        }
        lines
    }

    fn put(text: &str) -> impl FnOnce(&mut Vec<u8>) {
        move |out| out.extend_from_slice(text.as_bytes())
    }

    #[test]
    fn changes_come_back_in_order_with_their_frames() {
        let mut builder = ChangeBatchBuilder::new();
        builder.change("house/küche", Sequence::ZERO);
        builder.update("light", put("on"));
        builder.update("", put("empty name"));
        builder.change("garden", Sequence::ZERO);
        builder.deleted(put("gone"));
        builder.change("house/küche", Sequence::ZERO);
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
        builder.change("renewed", Sequence::ZERO);
        assert!(builder.is_empty());
        builder.change("gone", Sequence::ZERO);
        builder.deleted(put("x"));
        builder.change("renewed again", Sequence::ZERO);
        let batch = builder.finish();
        assert_eq!(describe(&batch), ["-gone x"]);
        assert_eq!(&*batch.names, "gone");
        assert!(builder.is_empty());
        assert_eq!(builder.finish().changes().count(), 0);
    }

    #[test]
    fn a_finished_batch_is_not_touched_by_the_next() {
        let mut builder = ChangeBatchBuilder::new();
        builder.change("a", Sequence::ZERO);
        builder.deleted(put("first"));
        let first = builder.finish();
        builder.change("b", Sequence::ZERO);
        builder.deleted(put("second"));
        let second = builder.finish();
        assert_eq!(describe(&first), ["-a first"]);
        assert_eq!(describe(&second), ["-b second"]);
    }

    #[test]
    fn a_batch_is_full_at_its_limit_and_goes_on_in_the_next() {
        let mut builder = ChangeBatchBuilder::new();
        builder.change("id", Sequence::ZERO);
        builder.update("p", |out| {
            out.resize(limits::CHANGE_BATCH_BYTES_MAX - 4, b'x');
        });
        assert!(!builder.is_full());
        builder.update("q", |_| {});
        assert!(builder.is_full());
        let batch = builder.finish();
        assert!(batch.heap_bytes() >= limits::CHANGE_BATCH_BYTES_MAX);
        assert!(!builder.is_full());
        builder.change("id", Sequence::ZERO);
        builder.update("r", put("rest"));
        assert_eq!(describe(&builder.finish()), ["+id rest", "r=rest"]);
    }
}
