//! The subscriptions of one connection that catch up: what they ask of shards and logs, and what
//! their client is sent of the answers.
//!
//! One thing is asked at a time for all of them, in turn, and only while the client takes what it
//! was sent. So a connection holds one answer, however many of its subscriptions catch up.

use super::Stream;
use super::frames::{Framing, changed, shown_whole, write_property, write_unmatched};
use super::places::cursor_text;
use super::wanted::cut_of;
use crate::api::stream_encode::{self, EntityMessage};
use crate::api::stream_options::StreamMode;
use crate::api::{ApiError, encode};
use crate::background::history::JobResult;
use crate::engine::{EntityBatch, SnapshotPage, SnapshotQuery};
use crate::history::{ForwardPart, ForwardPlace, ForwardQuery, HistoryResult, Wanted};
use crate::limits::FORWARD_BYTES_MAX;
use crate::log::Log;
use crate::model::{EntityView, EventView, Timestamp};
use crate::service::catch_up::{CatchUp, Step, Tail, TooFar};
use crate::service::subscribe::Subscriber;
use crate::service::{Caller, Context, Credentials, history};
use crate::shard::{Reply, ShardRequest};
use crate::subscribe::Outbox;
use flux_storage::Sequence;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

/// Set in the serial of what is asked here.
const CATCHING_BIT: u32 = 1 << 30;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Catching {
    /// The streams, in the order of their turns.
    streams: VecDeque<u32>,
    /// What is on its way, and for which stream.
    asked: Option<Asked>,
    serial: u32,
    /// Heap of what the streams hold, as it was last counted.
    bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    serial: u32,
    stream: u32,
    is_log: bool,
}

/// The connection whose subscriptions they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'c> {
    pub(crate) subscriber: Subscriber,
    pub(crate) address: Option<IpAddr>,
    pub(crate) credentials: Credentials<'c>,
}

/// Where its messages go.
#[derive(Debug)]
pub(crate) struct To<'o> {
    pub(crate) outbox: &'o mut Outbox,
    pub(crate) framing: Framing,
}

/// A stream that can't go on, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) stream: u32,
    pub(crate) id: Box<str>,
    pub(crate) error: ApiError,
}

impl Catching {
    /// A stream begins to catch up.
    pub(crate) fn add(&mut self, stream: u32) {
        if !self.streams.contains(&stream) {
            self.streams.push_back(stream);
        }
    }

    /// A stream is gone.
    pub(crate) fn forget(&mut self, stream: u32) {
        self.streams.retain(|other| *other != stream);
    }

    /// True if a reply to this serial is for what was asked here.
    pub(crate) fn is_answered_by(serial: u32) -> bool {
        serial & CATCHING_BIT != 0
    }

    /// True if there is nothing to do here.
    pub(crate) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Goes on as far as the client takes what it is sent. The stream that can't go on, if one
    /// can't.
    pub(crate) fn advance<L: Log>(
        &mut self,
        context: &mut Context<L>,
        client: Asker<'_>,
        to: &mut To<'_>,
    ) -> Option<Ended> {
        let ended = self.go_on(context, client, to);
        let catch_ups = self.streams.iter().filter_map(|index| {
            let stream = context.streams.get(*index)?;
            stream.catch_up.as_deref()
        });
        self.bytes = catch_ups.map(CatchUp::heap_bytes).sum();
        ended
    }

    fn go_on<L: Log>(
        &mut self,
        context: &mut Context<L>,
        client: Asker<'_>,
        to: &mut To<'_>,
    ) -> Option<Ended> {
        let mut idle = 0;
        while idle < self.streams.len() && self.asked.is_none() && to.outbox.takes_more() {
            let Some(index) = self.streams.pop_front() else {
                break;
            };
            let Some(stream) = context.streams.get_mut(index) else {
                continue;
            };
            let Some(catch_up) = stream.catch_up.as_deref_mut() else {
                continue;
            };
            let step = catch_up.step();
            if step.is_some() || catch_up.is_active() {
                self.streams.push_back(index);
            }
            match step {
                None => idle += 1,
                Some(step) => {
                    idle = 0;
                    if let Err(error) = self.take_step(context, (client, index), step, to) {
                        return Some(ended(context, index, error));
                    }
                }
            }
        }
        None
    }

    fn take_step<L: Log>(
        &mut self,
        context: &mut Context<L>,
        (client, index): (Asker<'_>, u32),
        step: Step,
        to: &mut To<'_>,
    ) -> Result<(), ApiError> {
        let shards = context.router.shards;
        let fanned_out = context.streams.fanned_out_of(shards);
        let Some(stream) = context.streams.get(index) else {
            return Ok(());
        };
        let request = match step {
            Step::Frame(frame) => {
                send(to, |out| out.extend_from_slice(&frame));
                return Ok(());
            }
            Step::Resync => {
                send_resync(to, stream, "too_far");
                return Ok(());
            }
            Step::SnapshotEnd => {
                send_end(to, (stream, "snapshot_end"), (shards, &fanned_out));
                return Ok(());
            }
            Step::CaughtUp => {
                send_end(to, (stream, "caught_up"), (shards, &fanned_out));
                return Ok(());
            }
            Step::Log(place) => {
                let Some(query) = log_query(stream, place) else {
                    return Ok(());
                };
                let request_id = self.ask(client.subscriber, index, true);
                let caller = Caller {
                    request_id,
                    address: client.address,
                    credentials: client.credentials,
                    takes_parts: false,
                    behind_asked: false,
                };
                return history::ask_forward(context, &caller, query);
            }
            Step::Page(shard, after) => {
                let query = Arc::new(SnapshotQuery {
                    pattern: stream.pattern.clone(),
                    fields: stream.options.properties.clone(),
                    filter: stream.options.filter.clone(),
                });
                (shard, ShardRequest::SnapshotPage { query, after })
            }
            Step::Entities(shard, ids) => {
                let filter = stream.options.filter.clone();
                (shard, ShardRequest::Entities { ids, filter })
            }
        };
        let request_id = self.ask(client.subscriber, index, false);
        let (shard, request) = request;
        context.router.ask(shard, request_id, request)
    }

    fn ask(
        &mut self,
        subscriber: Subscriber,
        stream: u32,
        is_log: bool,
    ) -> crate::shard::RequestId {
        self.serial = self.serial.wrapping_add(1) & (CATCHING_BIT - 1);
        let serial = self.serial | CATCHING_BIT;
        self.asked = Some(Asked {
            serial,
            stream,
            is_log,
        });
        subscriber.request_id(serial)
    }

    /// Takes a shard's answer. The stream that can't go on, if it can't.
    pub(crate) fn on_reply<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        (serial, from, reply): (u32, u16, Reply),
        to: &mut To<'_>,
    ) -> Option<Ended> {
        let asked = self.asked.filter(|asked| asked.serial == serial)?;
        match reply {
            Reply::Past(log) => {
                let request_id = subscriber.request_id(serial);
                context.history.take_log(request_id, from, *log);
                return None;
            }
            Reply::SnapshotPage(page, read) => {
                self.asked = None;
                let stream = context.streams.get_mut(asked.stream)?;
                take_page(stream, (*page, read), to);
            }
            Reply::Entities(batch, read) => {
                self.asked = None;
                let stream = context.streams.get_mut(asked.stream)?;
                take_entities(stream, from, (&batch, read), to);
            }
            Reply::Refused(error) => {
                self.asked = None;
                if asked.is_log {
                    context.history.finish(subscriber.request_id(serial));
                }
                return Some(ended(context, asked.stream, error));
            }
            _ => {}
        }
        None
    }

    /// Takes what was read of the logs. The stream that can't go on, if it can't.
    pub(crate) fn on_history<L: Log>(
        &mut self,
        context: &mut Context<L>,
        (serial, result): (u32, JobResult),
        to: &mut To<'_>,
    ) -> Option<Ended> {
        let asked = self.asked.filter(|asked| asked.serial == serial)?;
        self.asked = None;
        let shards = context.router.shards;
        let stream = context.streams.get_mut(asked.stream)?;
        let mode = stream.options.mode;
        match result {
            Ok(HistoryResult::Forward(part)) => {
                take_part(stream, (*part, shards), to);
                None
            }
            Err(ApiError::HistoryRemoved { .. } | ApiError::CursorBeyondEnd)
                if mode != StreamMode::Event =>
            {
                let catch_up = stream.catch_up.as_deref_mut()?;
                send_ack(catch_up, to);
                catch_up.restart_with_snapshot();
                send_resync(to, stream, "history_removed");
                None
            }
            Err(error) => Some(ended(context, asked.stream, error)),
            Ok(_) => None,
        }
    }

    /// Heap that it holds, and its streams for it.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.streams.capacity() * size_of::<u32>() + self.bytes
    }
}

fn ended<L>(context: &Context<L>, stream: u32, error: ApiError) -> Ended {
    let of = context.streams.get(stream);
    let id = of.and_then(|stream| Some(stream.catch_up.as_ref()?.id.clone()));
    Ended {
        stream,
        id: id.unwrap_or_default(),
        error,
    }
}

/// An overflow shows in the outbox.
fn send(to: &mut To<'_>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut frame = Vec::new();
    write(&mut frame);
    match to.outbox.push_control(&frame) {
        Ok(()) | Err(_) => {}
    }
}

fn send_text(to: &mut To<'_>, mut write: impl FnMut(&mut Vec<u8>)) {
    let framing = to.framing;
    send(to, |out| (framing.frame)(out, &mut write));
}

fn send_ack(catch_up: &mut CatchUp, to: &mut To<'_>) {
    if let Some(cursor) = catch_up.ack.take() {
        let id = Some(&*catch_up.id);
        send_text(to, |out| stream_encode::ack(out, id, &cursor));
    }
}

fn send_resync(to: &mut To<'_>, stream: &Stream, reason: &str) {
    if let Some(catch_up) = &stream.catch_up {
        send_text(to, |out| {
            stream_encode::resync(out, &catch_up.id, reason);
        });
    }
}

/// Says that what follows is live, with the place that the client has come to.
fn send_end(
    to: &mut To<'_>,
    (stream, kind): (&Stream, &str),
    (shards, fanned_out): (u16, &[Sequence]),
) {
    let Some(catch_up) = &stream.catch_up else {
        return;
    };
    let first = catch_up.shards.start;
    let place = |shard: u16| {
        let live = fanned_out.get(usize::from(shard)).copied();
        // Of what came before the subscription was in force, nothing goes by.
        let index = usize::from(shard.saturating_sub(first));
        let in_force = stream.places.get(index).copied();
        catch_up.through(shard, live.max(in_force).unwrap_or_default())
    };
    let pattern = std::iter::once(&stream.pattern);
    let cursor = cursor_text(pattern, (shards, |_| first), place).unwrap_or_default();
    send_text(to, |out| {
        stream_encode::end(out, kind, &catch_up.id, &cursor);
    });
}

fn log_query(stream: &Stream, place: ForwardPlace) -> Option<ForwardQuery> {
    let catch_up = stream.catch_up.as_ref()?;
    Some(ForwardQuery {
        pattern: stream.pattern.clone(),
        after: catch_up.after.clone().unwrap_or_default(),
        wanted: if stream.options.mode == StreamMode::Event {
            Wanted::Events
        } else {
            Wanted::Ids
        },
        place,
        bytes_max: FORWARD_BYTES_MAX,
    })
}

fn take_page(stream: &mut Stream, (page, read): (SnapshotPage, Sequence), to: &mut To<'_>) {
    let Some(catch_up) = stream.catch_up.as_deref_mut() else {
        return;
    };
    let Some(walk) = catch_up.walk_mut() else {
        return;
    };
    walk.take(page.last, read);
    let more = !walk.is_done();
    if !page.json.is_empty() {
        send_text(to, |out| {
            stream_encode::snapshot(out, &catch_up.id, &page.json, more);
        });
    }
}

fn take_entities(
    stream: &mut Stream,
    shard: u16,
    (batch, read): (&EntityBatch, Sequence),
    to: &mut To<'_>,
) {
    let options = Arc::clone(&stream.options);
    let cut = cut_of(&options);
    let framing = to.framing;
    let is_by_property = stream.options.mode == StreamMode::Property;
    let mut sent = Vec::new();
    if let Some(catch_up) = stream.catch_up.as_deref_mut()
        && let Some(changed) = catch_up.changed_mut()
    {
        changed.take_answer(shard, read, &batch.rest);
        for found in &batch.found {
            sent.push(changed.sent(shard, &found.id));
        }
    }
    let mut start = 0;
    for (found, sent) in batch.found.iter().zip(sent) {
        let entity = found.entity.map(|(sequence, end)| {
            let bytes = batch.bytes.get(start..end).unwrap_or_default();
            start = end;
            (sequence, bytes)
        });
        let Some(sent) = sent else {
            continue;
        };
        let view =
            entity.and_then(|(sequence, bytes)| Some((sequence, EntityView::decode(bytes).ok()?)));
        let Some((sequence, view)) = view else {
            send_deleted(to, is_by_property, (&found.id, read, batch.time));
            continue;
        };
        let time = view.last_updated;
        if is_by_property {
            if sent.is_replaced {
                send_deleted(to, true, (&found.id, read, time));
            }
            if !found.matches {
                send(to, |out| {
                    write_unmatched(framing, out, (&found.id, None), time);
                });
                continue;
            }
            for part in shown_whole(&view, &cut) {
                send(to, |out| {
                    write_property(framing, out, (&found.id, part), time);
                });
            }
            continue;
        }
        let message = EntityMessage {
            entity_id: &found.id,
            version: view.version,
            sequence,
            time,
            is_whole: found.matches,
            matches: found.matches,
        };
        let parts = shown_whole(&view, &cut).filter(|_| found.matches);
        send_text(to, |out| stream_encode::entity(out, &message, &parts));
    }
}

fn send_deleted(
    to: &mut To<'_>,
    is_by_property: bool,
    (id, sequence, time): (&str, Sequence, Timestamp),
) {
    send_text(to, |out| {
        if is_by_property {
            encode::entity_deleted(out, id, time);
        } else {
            stream_encode::entity_deleted(out, id, sequence, time);
        }
    });
}

fn take_part(stream: &mut Stream, (part, shards): (ForwardPart, u16), to: &mut To<'_>) {
    if let Some(catch_up) = stream.catch_up.as_deref_mut()
        && catch_up.is_checking()
    {
        send_ack(catch_up, to);
        catch_up.take_check(part.next);
        return;
    }
    if stream.options.mode == StreamMode::Event {
        take_events(stream, &part, to);
        return;
    }
    let Some(catch_up) = stream.catch_up.as_deref_mut() else {
        return;
    };
    let Some(changed) = catch_up.changed_mut() else {
        return;
    };
    let ids = part.ids.iter();
    let ids = ids.map(|(id, is_replaced)| (crate::model::place(id, shards), &**id, *is_replaced));
    if let Err(TooFar) = changed.take_ids(ids, (part.next, part.through), part.steps) {
        catch_up.restart_too_far();
    }
}

fn take_events(stream: &mut Stream, part: &ForwardPart, to: &mut To<'_>) {
    let options = Arc::clone(&stream.options);
    let cut = cut_of(&options);
    let Some(catch_up) = stream.catch_up.as_deref() else {
        return;
    };
    let shard = catch_up.tail().and_then(Tail::asked_shard);
    let mut start = 0;
    for event in &part.events {
        let bytes = part.bytes.get(start..event.end).unwrap_or_default();
        start = event.end;
        let is_new = shard.is_none_or(|shard| {
            let tail = catch_up.tail();
            tail.is_none_or(|tail| tail.is_new(shard, event.sequence))
        });
        let Some(view) = EventView::decode(bytes).ok().filter(|_| is_new) else {
            continue;
        };
        let is_shown =
            cut.is_all() || view.tombstone || changed(&view).any(|(name, _)| cut.shows(name));
        if is_shown {
            let place = (event.sequence, event.time);
            send_text(to, |out| stream_encode::event(out, place, &view));
        }
    }
    if let Some(catch_up) = stream.catch_up.as_deref_mut()
        && let Some(tail) = catch_up.tail_mut()
    {
        tail.take(part.next, part.through);
    }
}
