//! What shards and logs have answered, and the messages that it becomes.

use super::frames::{expiry_of, shown_whole};
use super::wanted::Cut;
use crate::api::stream_encode::{self, EntityMessage};
use crate::engine::{EntityBatch, FoundEntity};
use crate::history::{ForwardEvent, ForwardPart};
use crate::model::{EntityView, EventView, Timestamp};
use flux_storage::Sequence;

/// An entity as its owner has it, with the sequence of its last event; `None`: there is none.
pub(crate) type Whole<'b> = Option<(Sequence, EntityView<'b>)>;

/// What became of the ids of an answer, in order.
pub(crate) fn each_found(batch: &EntityBatch) -> impl Iterator<Item = (&FoundEntity, Whole<'_>)> {
    let mut start = 0;
    batch.found.iter().map(move |found| {
        let whole = found.entity.and_then(|(sequence, end)| {
            let bytes = batch.bytes.get(start..end).unwrap_or_default();
            start = end;
            Some((sequence, EntityView::decode(bytes).ok()?))
        });
        (found, whole)
    })
}

/// Mode `entity`: an entity as it is. `deleted`: the event that deleted it if it is gone, and its
/// time.
pub(crate) fn write_found(
    out: &mut Vec<u8>,
    (found, whole): (&FoundEntity, &Whole<'_>),
    cut: &Cut<'_>,
    deleted: (Sequence, Timestamp),
) {
    let Some((sequence, view)) = whole else {
        let (sequence, time) = deleted;
        stream_encode::entity_deleted(out, &found.id, sequence, time);
        return;
    };
    let message = EntityMessage {
        entity_id: &found.id,
        version: view.version,
        sequence: *sequence,
        time: view.last_updated,
        is_whole: found.matches,
        matches: found.matches,
        expires: expiry_of(view),
    };
    let parts = shown_whole(view, cut).filter(|_| found.matches);
    stream_encode::entity(out, &message, &parts);
}

/// The events of a part, in order.
pub(crate) fn each_event(
    part: &ForwardPart,
) -> impl Iterator<Item = (&ForwardEvent, EventView<'_>)> {
    let mut start = 0;
    part.events.iter().filter_map(move |event| {
        let bytes = part.bytes.get(start..event.end).unwrap_or_default();
        start = event.end;
        Some((event, EventView::decode(bytes).ok()?))
    })
}
