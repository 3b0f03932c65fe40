//! The messages of one change, each made once for all streams that want it.

use super::wanted::{Cut, Standing};
use crate::api::encode::{StateUpdate, state_removed};
use crate::api::metrics::SubscriberKind;
use crate::api::stream_encode::{self, EntityMessage};
use crate::api::stream_options::StreamOptions;
use crate::model::{EntityView, EventView, ExpiryChange, Timestamp};
use crate::subscribe::{
    Change, ChangeHead, ChangeKind, EncodeMerged, EventFacts, MergedChange, Part, unlogged_sequence,
};
use flux_storage::Sequence;
use std::ops::Range;

/// A change that is handed out, with its event if a stream may need it.
#[derive(Debug)]
pub(crate) struct Current<'c> {
    /// Its shard.
    pub(crate) from: u16,
    /// It.
    pub(crate) change: Change<'c>,
    event: Option<(EventView<'c>, EventFacts)>,
    whole: Option<EntityView<'c>>,
}

impl<'c> Current<'c> {
    /// A change of a shard.
    pub(crate) fn new(from: u16, change: Change<'c>) -> Self {
        let detail = change.detail();
        // The shard has applied these bytes.
        let event = detail.and_then(|detail| {
            let event = EventView::decode_encoded(detail.event).ok()?;
            Some((event, detail.facts))
        });
        let whole = change.whole();
        Self {
            from,
            change,
            event,
            whole: whole.and_then(|whole| EntityView::decode(whole).ok()),
        }
    }

    /// True if the entity is gone.
    pub(crate) fn is_deletion(&self) -> bool {
        let kind = self.event.as_ref().map(|(_, facts)| facts.kind);
        match kind {
            Some(kind) => kind == ChangeKind::Deleted,
            None => self.change.is_deletion(),
        }
    }

    /// The time of the event if it is a tombstone, whether or not there was an entity.
    pub(super) fn tombstone_time(&self) -> Option<Timestamp> {
        let (event, facts) = self.event.as_ref()?;
        event.tombstone.then_some(facts.time)
    }

    /// True if the event is known.
    pub(crate) const fn is_event(&self) -> bool {
        self.event.is_some()
    }

    /// True if the entity is gone, or has lost a property.
    pub(super) fn is_replacing(&self) -> bool {
        let removes = |(event, _): &(EventView<'_>, EventFacts)| {
            event.tombstone || event.decided.removed().next().is_some()
        };
        self.is_deletion() || self.event.as_ref().is_some_and(removes)
    }

    /// Appends the message of mode `event`.
    pub(super) fn write_event(&self, out: &mut Vec<u8>) {
        if let Some((event, facts)) = &self.event {
            let sequence = self.shown_sequence();
            stream_encode::event(out, (sequence, facts.time), event);
        }
    }

    /// True if the event is a tombstone, whether or not there was an entity.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.event
            .as_ref()
            .is_some_and(|(event, _)| event.tombstone)
    }

    /// True if it changes something that is shown.
    pub(crate) fn touches(&self, cut: &Cut<'_>) -> bool {
        if cut.is_all() {
            return true;
        }
        match &self.event {
            None => self
                .change
                .updates()
                .any(|update| cut.shows(update.property)),
            Some((event, _)) => changed(event).any(|(name, _)| cut.shows(name)),
        }
    }

    /// The event and what is known of it, unless it deletes or there is nothing.
    pub(super) fn update(&self) -> Option<(&EventView<'c>, &EventFacts)> {
        let (event, facts) = self.event.as_ref()?;
        matches!(facts.kind, ChangeKind::Created | ChangeKind::Updated).then_some((event, facts))
    }

    /// All of the entity after it, if it begins to match a filter.
    pub(super) fn whole(&self) -> Option<&EntityView<'c>> {
        self.whole.as_ref()
    }

    /// What the message of a change that is told by event says besides its properties.
    pub(super) fn head(&self, standing: Standing) -> Option<ChangeHead> {
        let (event, facts) = self.event.as_ref()?;
        let expires = match self.whole() {
            Some(whole) if standing == Standing::Begins => expiry_of(whole),
            _ => event.decided.lifetime.expires,
        };
        Some(ChangeHead {
            version: facts.version,
            sequence: self.shown_sequence(),
            time: facts.time,
            is_whole: standing == Standing::Begins,
            matches: standing != Standing::Ends,
            expires,
        })
    }

    /// What is shown as its sequence.
    pub(super) fn shown_sequence(&self) -> Sequence {
        let sequence = self.change.sequence();
        let time = self.event.as_ref().map(|(_, facts)| facts.time);
        sequence.unwrap_or_else(|| unlogged_sequence(time.unwrap_or_default()))
    }
}

/// The properties that an event set and removed.
pub(super) fn changed<'e>(
    event: &EventView<'e>,
) -> impl Iterator<Item = Part<'e>> + Clone + use<'e> {
    let set = event.properties();
    let set = set.map(|property| (property.name, Some(property.value)));
    set.chain(event.decided.removed().map(|name| (name, None)))
}

/// The same of what is shown.
pub(super) fn shown<'e, 'x: 'e>(
    event: &EventView<'e>,
    cut: &'x Cut<'_>,
) -> impl Iterator<Item = Part<'e>> + Clone {
    changed(event).filter(|(name, _)| cut.shows(name))
}

/// The properties of an entity that are shown.
pub(super) fn shown_whole<'e, 'x: 'e>(
    entity: &EntityView<'e>,
    cut: &'x Cut<'_>,
) -> impl Iterator<Item = Part<'e>> + Clone {
    let all = entity.properties();
    let all = all.map(|property| (property.name, Some(property.value)));
    all.filter(|(name, _)| cut.shows(name))
}

/// Appends a message.
type Write<'w> = dyn FnMut(&mut Vec<u8>) + 'w;

/// Appends the frame of a message that was framed otherwise.
type Reframe = fn(&mut Vec<u8>, &[u8]);

/// Framings that there are.
const FRAMINGS: usize = 5;

/// How a protocol frames a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Framing {
    /// Its number among all, below [`FRAMINGS`].
    pub(crate) index: usize,
    /// What its subscriptions are counted as.
    pub(crate) kind: SubscriberKind,
    /// The client goes on at the last cursor that it got, whichever message it was in. So none of
    /// them names a place beyond what was sent before it.
    pub(crate) resumes: bool,
    /// Appends the frame of a message that a shard has framed; `None` if it stays as it is.
    pub(crate) reframe: Option<Reframe>,
    /// Appends the frame of the message that it is handed a writer of.
    pub(crate) frame: fn(&mut Vec<u8>, &mut Write<'_>),
    /// Appends the frame of [`write_merged`].
    pub(crate) merged: EncodeMerged,
}

impl Framing {
    /// Messages as they are: for what sends none.
    pub(crate) const BARE: Self = Self {
        index: 0,
        kind: SubscriberKind::Poll,
        resumes: false,
        reframe: None,
        frame: |out, write| write(out),
        merged: write_merged,
    };

    /// True if its client is told by what shards have framed, of a subscription with these options.
    pub(in crate::service) fn is_plain(&self, options: &StreamOptions) -> bool {
        self.reframe.is_none() && options.is_plain()
    }

    /// The frame of a message that a shard has framed, by way of `buffer` if it has to be made.
    pub(super) fn own<'f>(&self, buffer: &'f mut Vec<u8>, frame: &'f [u8]) -> &'f [u8] {
        match self.reframe {
            None => frame,
            Some(reframe) => {
                buffer.clear();
                reframe(buffer, frame);
                buffer
            }
        }
    }
}

/// Buffers of [`Frames`] that are used again.
#[derive(Debug, Default)]
pub(crate) struct FrameBuffers {
    bytes: Vec<u8>,
}

/// Heap of these buffers that is kept, bytes.
const BUFFER_BYTES_KEPT_MAX: usize = 256 * 1024;

impl FrameBuffers {
    /// Gives back what a change of unusual size has left.
    pub(crate) fn trim(&mut self) {
        if self.bytes.capacity() > BUFFER_BYTES_KEPT_MAX {
            self.bytes = Vec::new();
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Frames<'s, 'b> {
    pub(super) framing: Framing,
    buffers: &'b mut FrameBuffers,
    /// Of mode `entity`, by framing, by what is shown and how the entity stands.
    entity: Vec<(usize, Cut<'s>, Standing, Range<usize>)>,
    /// By framing.
    deletion: [Option<Range<usize>>; FRAMINGS],
    event: [Option<Range<usize>>; FRAMINGS],
}

impl<'s, 'b> Frames<'s, 'b> {
    /// Of the next change.
    pub(crate) fn new(framing: Framing, buffers: &'b mut FrameBuffers) -> Self {
        buffers.bytes.clear();
        Self {
            framing,
            buffers,
            entity: Vec::new(),
            deletion: [const { None }; FRAMINGS],
            event: [const { None }; FRAMINGS],
        }
    }

    /// The next client is sent frames of this kind.
    pub(super) fn frame_by(&mut self, framing: Framing) {
        self.framing = framing;
    }

    /// Mode `entity`: what it shows of a change.
    pub(super) fn entity(
        &mut self,
        current: &Current<'_>,
        (cut, standing): (&Cut<'s>, Standing),
    ) -> &[u8] {
        let own = self.framing.index;
        let mut made = self.entity.iter();
        let found =
            made.find(|(by, other, stands, _)| (*by, other, *stands) == (own, cut, standing));
        let range = if let Some((.., range)) = found {
            range.clone()
        } else {
            let range = self.make(|out| write_entity(out, current, (cut, standing)));
            self.entity
                .push((own, cut.clone(), standing, range.clone()));
            range
        };
        self.buffers.bytes.get(range).unwrap_or_default()
    }

    /// Mode `entity`: the entity is gone.
    pub(super) fn deletion(&mut self, current: &Current<'_>) -> &[u8] {
        let own = self.framing.index;
        let range = match self.deletion[own].clone() {
            Some(range) => range,
            None => self.make(|out| {
                if let Some((event, facts)) = &current.event {
                    let sequence = current.shown_sequence();
                    stream_encode::entity_deleted(out, event.entity_id, sequence, facts.time);
                }
            }),
        };
        self.deletion[own] = Some(range.clone());
        self.buffers.bytes.get(range).unwrap_or_default()
    }

    /// Mode `event`: the event as it is stored.
    pub(super) fn event(&mut self, current: &Current<'_>) -> &[u8] {
        let own = self.framing.index;
        let range = match self.event[own].clone() {
            Some(range) => range,
            None => self.make(|out| {
                if let Some((event, facts)) = &current.event {
                    let sequence = current.shown_sequence();
                    stream_encode::event(out, (sequence, facts.time), event);
                }
            }),
        };
        self.event[own] = Some(range.clone());
        self.buffers.bytes.get(range).unwrap_or_default()
    }

    fn make(&mut self, mut write: impl FnMut(&mut Vec<u8>)) -> Range<usize> {
        let start = self.buffers.bytes.len();
        (self.framing.frame)(&mut self.buffers.bytes, &mut write);
        start..self.buffers.bytes.len()
    }
}

fn write_entity(out: &mut Vec<u8>, current: &Current<'_>, (cut, standing): (&Cut<'_>, Standing)) {
    let Some(head) = current.head(standing) else {
        return;
    };
    let message = message(current.change.entity_id(), head);
    match (standing, current.whole()) {
        (Standing::Begins, Some(whole)) => {
            stream_encode::entity(out, &message, &shown_whole(whole, cut));
        }
        _ => {
            if let Some((event, _)) = current.update() {
                stream_encode::entity(out, &message, &shown(event, cut));
            }
        }
    }
}

const fn message(entity_id: &str, head: ChangeHead) -> EntityMessage<'_> {
    EntityMessage {
        entity_id,
        version: head.version,
        sequence: head.sequence,
        time: head.time,
        is_whole: head.is_whole,
        matches: head.matches,
        expires: head.expires,
    }
}

/// When an entity expires, as a message that holds all of it says.
pub(super) fn expiry_of(entity: &EntityView<'_>) -> ExpiryChange {
    let expires = entity.lifetime.expires;
    expires.map_or(ExpiryChange::None, ExpiryChange::At)
}

/// Mode `entity`: the message of changes that were merged, without a frame.
pub(crate) fn write_merged(out: &mut Vec<u8>, entity_id: &str, change: &MergedChange) {
    let message = message(entity_id, change.head);
    stream_encode::entity(out, &message, &change.parts());
}

/// Mode `property`: the frame of a property's new value, or that it was removed.
pub(super) fn write_property(
    framing: Framing,
    out: &mut Vec<u8>,
    (entity_id, (name, value)): (&str, Part<'_>),
    time: Timestamp,
) {
    (framing.frame)(out, &mut |out| match value {
        None => state_removed(out, (entity_id, name), time),
        Some(value) => {
            let update = StateUpdate {
                entity_id,
                property: name,
                value,
                time,
            };
            stream_encode::property(out, update);
        }
    });
}

/// Mode `property`: the frame of a property of an entity that no longer matches, or that it does
/// not.
pub(super) fn write_unmatched(
    framing: Framing,
    out: &mut Vec<u8>,
    (entity_id, part): (&str, Option<Part<'_>>),
    time: Timestamp,
) {
    (framing.frame)(out, &mut |out| {
        stream_encode::unmatched(out, (entity_id, part), time);
    });
}
