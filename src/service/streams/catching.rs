//! The subscriptions of one connection that catch up: what they ask of shards and logs, and what
//! their client is sent of the answers.
//!
//! One thing is asked at a time for all of them, in turn, and only while the client takes what it
//! was sent. So a connection holds one answer, however many of its subscriptions catch up. What a
//! shard is too busy for is asked again a little later.

use super::Stream;
use super::client::Client;
use super::events::Readers;
use super::frames::{Framing, shown_whole, write_property, write_unmatched};
use super::places::cursor_text;
use super::read::{each_found, write_found};
use super::wanted::cut_of;
use crate::api::stream_encode;
use crate::api::stream_options::StreamMode;
use crate::api::{ApiError, encode};
use crate::auth::Readable;
use crate::background::history::JobResult;
use crate::engine::{EntityBatch, SnapshotPage, SnapshotQuery};
use crate::history::{AfterPlace, ForwardPart, ForwardPlace, ForwardQuery, HistoryResult, Wanted};
use crate::limits::FORWARD_BYTES_MAX;
use crate::log::Log;
use crate::model::{EventView, RESERVED_NAMESPACE, Timestamp, is_reserved};
use crate::service::catch_up::{CatchUp, Events, Step, TooFar};
use crate::service::subscribe::Subscriber;
use crate::service::{Caller, Context, Credentials, history};
use crate::shard::{Reply, ShardRequest};
use crate::subscribe::{Outbox, Patterns};
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
    pause: Pause,
    /// Streams that could read together read alone: one of them asks for what is gone.
    reads_alone: bool,
    /// Heap of what the streams hold, as it was last counted.
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Asked {
    serial: u32,
    /// `None`: it is gone.
    stream: Option<u32>,
    is_log: bool,
    /// The streams of mode `event` that read with it.
    readers: Readers,
    /// What the client could see when it was asked.
    readable: Readable,
}

/// Whether it waits before it asks again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Pause {
    #[default]
    None,
    /// Yes, and its core was not told yet to wake it.
    Begun,
    /// Yes.
    Timed,
}

/// The connection whose subscriptions they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'c> {
    pub(crate) subscriber: Subscriber,
    pub(crate) address: Option<IpAddr>,
    pub(crate) credentials: Credentials<'c>,
    /// Its streams of mode `event`.
    pub(crate) events: &'c [u32],
    /// What is kept for its pace.
    pub(crate) kept: Option<&'c Client>,
    /// What it may see.
    pub(crate) readable: &'c Readable,
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
    pub(crate) id: Option<Box<str>>,
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
        // Its index may be another's by the time the answer comes.
        if let Some(asked) = &mut self.asked {
            asked.stream = asked.stream.filter(|other| *other != stream);
            asked.readers.also.retain(|other| *other != stream);
        }
    }

    /// True if it has to be woken by a timer, once for each pause.
    pub(crate) fn take_pause(&mut self) -> bool {
        let begins = self.pause == Pause::Begun;
        if begins {
            self.pause = Pause::Timed;
        }
        begins
    }

    /// The timer is due.
    pub(crate) fn wake(&mut self) {
        self.pause = Pause::None;
    }

    /// The stream whose place is being looked for in the logs.
    pub(crate) fn checked<L>(&self, context: &Context<L>) -> Option<u32> {
        let index = self.asked.as_ref()?.stream?;
        let catch_up = context.streams.get(index)?.catch_up.as_deref()?;
        catch_up.is_checking().then_some(index)
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
        client: &Asker<'_>,
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
        client: &Asker<'_>,
        to: &mut To<'_>,
    ) -> Option<Ended> {
        let mut idle = 0;
        while idle < self.streams.len()
            && self.asked.is_none()
            && self.pause == Pause::None
            && to.outbox.takes_more()
        {
            if let Some(frame) = context.streams.pop_kept(client.events) {
                send(to, |out| out.extend_from_slice(&frame));
                idle = 0;
                continue;
            }
            let Some(index) = self.streams.pop_front() else {
                break;
            };
            if client.events.contains(&index) && !context.streams.may_read(index, client.events) {
                self.streams.push_back(index);
                idle += 1;
                continue;
            }
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
                    acknowledge(context, index, &step, to);
                    let taken = self.take_step(context, (client, index), step, to);
                    let refused = taken.err().inspect(|_| self.asked = None);
                    let ended = refused.and_then(|error| self.put_off(context, index, error));
                    if ended.is_some() {
                        return ended;
                    }
                }
            }
        }
        None
    }

    /// What was asked for a stream is not answered. If that passes it is asked again; else the
    /// stream ends.
    fn put_off<L>(
        &mut self,
        context: &mut Context<L>,
        index: u32,
        error: ApiError,
    ) -> Option<Ended> {
        if !is_passing(&error) {
            return Some(ended(context, index, error));
        }
        let stream = context.streams.get_mut(index);
        if let Some(catch_up) = stream.and_then(|it| it.catch_up.as_deref_mut()) {
            catch_up.ask_again();
        }
        self.pause = Pause::Begun;
        None
    }

    fn take_step<L: Log>(
        &mut self,
        context: &mut Context<L>,
        (client, index): (&Asker<'_>, u32),
        step: Step,
        to: &mut To<'_>,
    ) -> Result<(), ApiError> {
        let shards = context.router.shards;
        let Some(stream) = context.streams.get(index) else {
            return Ok(());
        };
        let request = match step {
            Step::Resync => {
                send_resync(to, stream, "too_far");
                return Ok(());
            }
            Step::SnapshotEnd => {
                let places = live_places(context, (stream, client));
                send_end(to, (stream, "snapshot_end"), (shards, &places));
                return Ok(());
            }
            Step::CaughtUp => {
                let places = live_places(context, (stream, client));
                send_end(to, (stream, "caught_up"), (shards, &places));
                return Ok(());
            }
            Step::End => return Err(ApiError::FilterTooCostly),
            Step::Log(place) => {
                let readers = match place {
                    ForwardPlace::Live { shard, last: _ }
                        if stream.options.mode == StreamMode::Event && !self.reads_alone =>
                    {
                        context.streams.readers(index, client.events, shard)
                    }
                    _ => Readers::default(),
                };
                let place = match place {
                    ForwardPlace::Live { shard, .. } if !readers.also.is_empty() => {
                        let last = readers.from;
                        ForwardPlace::Live { shard, last }
                    }
                    place => place,
                };
                let Some(query) = log_query(stream, (place, &readers)) else {
                    return Ok(());
                };
                let request_id = self.ask(client, index, true);
                if let Some(asked) = &mut self.asked {
                    asked.readers = readers;
                }
                let caller = Caller {
                    request_id,
                    address: client.address,
                    credentials: client.credentials,
                    traceparent: None,
                    takes_parts: false,
                    behind_asked: false,
                };
                return history::ask_forward(context, &caller, query);
            }
            Step::Page(shard, after) => {
                let query = Arc::new(SnapshotQuery {
                    patterns: stream.patterns.clone(),
                    fields: stream.options.properties.clone(),
                    filter: stream.options.filter.clone(),
                    readable: client.readable.clone(),
                });
                (shard, ShardRequest::SnapshotPage { query, after })
            }
            Step::Entities(shard, ids) => {
                let filter = stream.options.filter.clone();
                (shard, ShardRequest::Entities { ids, filter })
            }
        };
        let request_id = self.ask(client, index, false);
        let (shard, request) = request;
        context.router.ask(shard, request_id, request)
    }

    fn ask(&mut self, client: &Asker<'_>, stream: u32, is_log: bool) -> crate::shard::RequestId {
        self.serial = self.serial.wrapping_add(1) & (CATCHING_BIT - 1);
        let serial = self.serial | CATCHING_BIT;
        self.asked = Some(Asked {
            serial,
            stream: Some(stream),
            is_log,
            readers: Readers::default(),
            readable: client.readable.clone(),
        });
        client.subscriber.request_id(serial)
    }

    /// Takes a shard's answer. The stream that can't go on, if it can't.
    pub(crate) fn on_reply<L: Log>(
        &mut self,
        context: &mut Context<L>,
        subscriber: Subscriber,
        (serial, from, reply): (u32, u16, Reply),
        (readable, to): (&Readable, &mut To<'_>),
    ) -> Option<Ended> {
        let asked = self.asked.as_ref().filter(|asked| asked.serial == serial)?;
        let (stream, is_log) = (asked.stream, asked.is_log);
        let asked_readable = asked.readable.clone();
        match reply {
            Reply::Past(log) => {
                let request_id = subscriber.request_id(serial);
                context.history.take_log(request_id, from, *log);
                return None;
            }
            Reply::SnapshotPage(page, read) => {
                self.asked = None;
                let stream = context.streams.get_mut(stream?)?;
                if may_be_seen(&page, &asked_readable, readable) {
                    take_page(stream, (*page, read), to);
                } else if let Some(catch_up) = stream.catch_up.as_deref_mut() {
                    // It may hold what the client may not see any more.
                    catch_up.ask_again();
                }
            }
            Reply::Entities(batch, read) => {
                self.asked = None;
                let stream = context.streams.get_mut(stream?)?;
                take_entities(stream, from, (&batch, read), (readable, to));
            }
            Reply::Refused(error) => {
                self.asked = None;
                if is_log {
                    context.history.finish(subscriber.request_id(serial));
                }
                return self.put_off(context, stream?, error);
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
        (events, readable, to): (&[u32], &Readable, &mut To<'_>),
    ) -> Option<Ended> {
        let asked = self.asked.take_if(|asked| asked.serial == serial)?;
        let shards = context.router.shards;
        let index = asked.stream?;
        let stream = context.streams.get_mut(index)?;
        let mode = stream.options.mode;
        match result {
            Ok(HistoryResult::Forward(part)) => {
                if take_check(stream, &part, to) {
                    return None;
                }
                if mode == StreamMode::Event {
                    self.reads_alone = false;
                    let readers = (index, &asked.readers);
                    let streams = &mut context.streams;
                    streams.take_events(readers, events, &part, |place, view| {
                        send_event(to, readable, (place, view));
                    });
                } else {
                    take_ids(stream, (*part, shards));
                }
                None
            }
            Err(ApiError::HistoryRemoved { .. }) if !asked.readers.also.is_empty() => {
                // Which of them it is about is found out one by one.
                self.reads_alone = true;
                stream.catch_up.as_deref_mut()?.ask_again();
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
            Err(error) => self.put_off(context, index, error),
            Ok(_) => None,
        }
    }

    /// Heap that it holds, and its streams for it.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.streams.capacity() * size_of::<u32>() + self.bytes
    }
}

/// By shard, how far its changes have been sent, but for what the client does not have yet of what
/// it catches up with; of a shard that does not concern the stream, what may be seen of it.
fn live_places<L: Log>(
    context: &Context<L>,
    (stream, client): (&Stream, &Asker<'_>),
) -> Vec<Sequence> {
    let shards = context.router.shards;
    let place = |shard| {
        if !stream.patterns.concern(shard, shards) {
            return context.counters.visible(shard);
        }
        let gone_by = context.streams.fanned_out(shard);
        // A change that waits for its time was not sent.
        let kept = client.kept.and_then(|kept| kept.first_kept(shard));
        let sent = kept.map(|kept| Sequence::new(kept.get().saturating_sub(1)));
        sent.map_or(gone_by, |sent| sent.min(gone_by))
    };
    (0..shards).map(place).collect()
}

/// True if the same may succeed a little later.
const fn is_passing(error: &ApiError) -> bool {
    matches!(
        error,
        ApiError::Overloaded | ApiError::Busy | ApiError::NotReady | ApiError::OutOfMemory
    )
}

fn ended<L>(context: &Context<L>, stream: u32, error: ApiError) -> Ended {
    let of = context.streams.get(stream);
    let id = of.and_then(|stream| stream.catch_up.as_ref()?.id.clone());
    Ended { stream, id, error }
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

/// Sends an event of the logs if the client may see it.
fn send_event(
    to: &mut To<'_>,
    readable: &Readable,
    (place, view): ((Sequence, Timestamp), &EventView<'_>),
) {
    if readable.holds(view.entity_id) {
        send_text(to, |out| stream_encode::event(out, place, view));
    }
}

/// Acknowledges a subscription before the first that it is sent, unless it may still be refused.
fn acknowledge<L>(context: &mut Context<L>, index: u32, step: &Step, to: &mut To<'_>) {
    let stream = context.streams.get_mut(index);
    if let Some(catch_up) = stream.and_then(|it| it.catch_up.as_deref_mut())
        && !matches!(step, Step::Log(ForwardPlace::Check))
    {
        send_ack(catch_up, to);
    }
}

fn send_ack(catch_up: &mut CatchUp, to: &mut To<'_>) {
    if let Some(cursor) = catch_up.ack.take() {
        let id = catch_up.id.as_deref();
        send_text(to, |out| stream_encode::ack(out, id, &cursor));
    }
}

fn send_resync(to: &mut To<'_>, stream: &Stream, reason: &str) {
    if let Some(catch_up) = &stream.catch_up {
        send_text(to, |out| {
            stream_encode::resync(out, catch_up.id.as_deref(), reason);
        });
    }
}

/// Says that what follows is live, with the place that the client has come to.
fn send_end(
    to: &mut To<'_>,
    (stream, kind): (&Stream, &str),
    (shards, places): (u16, &[Sequence]),
) {
    let Some(catch_up) = &stream.catch_up else {
        return;
    };
    let first = catch_up.shards.start;
    let place = |shard: u16| {
        let live = places.get(usize::from(shard)).copied();
        // Of what came before the subscription was in force, nothing goes by.
        let index = usize::from(shard.saturating_sub(first));
        let in_force = stream.places.get(index).copied();
        catch_up.through(shard, live.max(in_force).unwrap_or_default())
    };
    let cursor = cursor_text([&stream.patterns], shards, place).unwrap_or_default();
    send_text(to, |out| {
        stream_encode::end(out, kind, catch_up.id.as_deref(), &cursor);
    });
}

fn log_query(stream: &Stream, (place, readers): (ForwardPlace, &Readers)) -> Option<ForwardQuery> {
    let catch_up = stream.catch_up.as_ref()?;
    // Nothing of a log that is read from a place lies before it.
    let after = match place {
        ForwardPlace::Live { .. } if !readers.also.is_empty() => AfterPlace::default(),
        _ => catch_up.after.clone().unwrap_or_default(),
    };
    let mut patterns = stream.patterns.each().to_vec();
    patterns.extend_from_slice(&readers.patterns);
    Some(ForwardQuery {
        patterns: Patterns::of(patterns),
        after,
        wanted: if stream.options.mode == StreamMode::Event {
            Wanted::Events
        } else {
            Wanted::Ids
        },
        touching: None,
        place,
        bytes_max: FORWARD_BYTES_MAX,
    })
}

/// Whether a client may see now what it could see when a page was asked for. The server's own
/// entities tell of namespaces that others may read.
fn may_be_seen(page: &SnapshotPage, asked: &Readable, now: &Readable) -> bool {
    let is_same_of =
        |name: &str| name != RESERVED_NAMESPACE && asked.extent_of(name) == now.extent_of(name);
    asked == now
        || (asked.reader() == now.reader() && page.namespaces.iter().all(|name| is_same_of(name)))
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
            stream_encode::snapshot(out, catch_up.id.as_deref(), &page.json, more);
        });
    }
}

fn take_entities(
    stream: &mut Stream,
    shard: u16,
    (batch, read): (&EntityBatch, Sequence),
    (readable, to): (&Readable, &mut To<'_>),
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
            if let Some((shown, _)) = found.entity.filter(|_| is_reserved(&found.id)) {
                changed.note_unlogged(&found.id, shown);
            }
            let waits = found.entity.is_none() && changed.asks_for_deletion(shard, &found.id);
            sent.push(changed.sent(shard, &found.id).filter(|_| !waits));
        }
    }
    for ((found, whole), sent) in each_found(batch).zip(sent) {
        let Some(sent) = sent.filter(|_| readable.holds(&found.id)) else {
            continue;
        };
        if whole.is_none() && is_reserved(&found.id) {
            // The server has not made it yet, and nobody deletes it.
            continue;
        }
        let deleted = sent.deleted.unwrap_or((read, batch.time));
        if !is_by_property {
            send_text(to, |out| write_found(out, (found, &whole), &cut, deleted));
            continue;
        }
        let Some((_, view)) = whole else {
            send_deleted(to, (&found.id, deleted.1));
            continue;
        };
        let time = view.last_updated;
        if sent.is_replaced {
            send_deleted(to, (&found.id, time));
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
    }
}

/// Mode `property`: the entity is gone.
fn send_deleted(to: &mut To<'_>, (id, time): (&str, Timestamp)) {
    send_text(to, |out| encode::entity_deleted(out, id, time));
}

/// Takes the answer to whether the logs reach to the client's place. False if it is none.
fn take_check(stream: &mut Stream, part: &ForwardPart, to: &mut To<'_>) -> bool {
    let catch_up = stream.catch_up.as_deref_mut();
    let Some(catch_up) = catch_up.filter(|it| it.is_checking()) else {
        return false;
    };
    send_ack(catch_up, to);
    catch_up.take_check(part.next);
    true
}

fn take_ids(stream: &mut Stream, (part, shards): (ForwardPart, u16)) {
    let Some(catch_up) = stream.catch_up.as_deref_mut() else {
        return;
    };
    let Some(changed) = catch_up.changed_mut() else {
        return;
    };
    let ids = part.ids.iter().map(|it| {
        let events = Events {
            is_replaced: it.is_replaced,
            last: it.last,
            deleted: it.deleted,
        };
        (crate::model::place(&it.id, shards), &*it.id, events)
    });
    if let Err(TooFar) = changed.take_ids(ids, (part.next, part.through), part.steps) {
        catch_up.restart_too_far();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{PrivateNamespaces, Reader};

    #[test]
    fn a_page_is_asked_for_again_only_if_it_may_show_what_is_hidden_now() {
        let readable = |reader, names: &[&str]| {
            let mut private = PrivateNamespaces::default();
            for name in names {
                private.insert(name);
            }
            Readable::new(reader, private)
        };
        let page = |names: &[&str]| SnapshotPage {
            namespaces: names.iter().map(|name| Box::from(*name)).collect(),
            ..SnapshotPage::default()
        };
        let asked = readable(Reader::Public, &["shed"]);
        let now = readable(Reader::Public, &["shed", "house"]);
        let shown = page(&["garden", "hou", "houses"]);
        assert!(may_be_seen(&shown, &asked, &now));
        for hidden in ["house", RESERVED_NAMESPACE] {
            let page = page(&["garden", hidden]);
            assert!(!may_be_seen(&page, &asked, &now), "{hidden}");
            assert!(may_be_seen(&page, &asked, &asked), "{hidden}");
        }
        // Who lost a token may have lost any part of a namespace.
        let operator = readable(Reader::All, &["shed"]);
        assert!(!may_be_seen(&shown, &operator, &now));
    }
}
