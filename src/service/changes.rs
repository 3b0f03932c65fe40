//! Long polling: what has changed after a place, and the place that was come to.
//!
//! ```text
//! Log ⇄ Entities ─▶ something found, or no time left ─▶ answer
//!  ▲       └ nothing found ─▶ Subscribing ─▶ Waiting ─┐
//!  └──────────────── the first change ────────────────┘
//! ```
//!
//! What is answered is always read from the logs, so each answer goes on where the one before it
//! ended, whatever came between. A subscription only says when to read again: it brings nothing,
//! and a poll that waits holds no more than its question.
//!
//! In mode `entity` the logs say which entities changed, and their owners what they are now. The
//! answer's place lies before the first event of the first entity that it has no room for.

use super::patterns::{are_readable, patterns_of};
use super::streams::{Framing, cursor_text, cut_of, each_event, each_found, selects, write_found};
use super::subscribe::{Subscriber, Subscriptions};
use super::{Begun, Caller, ConnectionTokens, Context, KeptToken, Outcome, Pending, history};
use crate::api::stream_options::{StreamMode, StreamOptions, StreamStart};
use crate::api::stream_query::ChangesQuery;
use crate::api::{ApiError, stream_encode};
use crate::auth::Readable;
use crate::background::history::JobResult;
use crate::engine::EntityBatch;
use crate::history::{
    AfterPlace, ForwardId, ForwardPart, ForwardPlace, ForwardQuery, HistoryResult, Wanted,
};
use crate::limits;
use crate::log::Log;
use crate::model::{Cursor, CursorTooNarrow, is_reserved, place};
use crate::shard::{MemoryHolders, Reply, RequestId, ShardRequest};
use crate::subscribe::Patterns;
use flux_storage::Sequence;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// See the module.
#[derive(Debug)]
pub(crate) struct PendingChanges {
    options: StreamOptions,
    patterns: Patterns,
    after: AfterPlace,
    limit: usize,
    bytes_max: usize,
    wait_ms: u64,
    tokens: ConnectionTokens,
    /// What its client may see, as it was last looked at, and when the messages were made.
    readable: Readable,
    stage: Stage,
    /// Until when it may wait, milliseconds since the core began.
    due_ms: u64,
    /// When its connection was told of that.
    is_timed: bool,
    /// By shard: it has told of everything through this event.
    places: Vec<Sequence>,
    /// The same of an earlier generation, while that is read.
    sealed: Option<Box<[Sequence]>>,
    /// Where the log goes on that is read.
    next: Option<ForwardPlace>,
    /// The shards whose logs are read after it.
    unread: VecDeque<u16>,
    /// How far the part that was read last goes.
    part: PartPlace,
    /// Entities of that part that are not asked for.
    ids: VecDeque<ForwardId>,
    /// Entities of that part that are asked for.
    asked: VecDeque<ForwardId>,
    /// Entities that it tells of, each with the end of its log when it was read. In mode `event` it
    /// is of no use but for the ids.
    told: BTreeMap<Box<str>, Sequence>,
    /// The messages, with commas between them.
    messages: Vec<u8>,
    count: usize,
    parts: usize,
    subscriptions: Option<Box<Subscriptions>>,
    /// By shard: something that it waits for has come.
    woken: Vec<bool>,
}

/// What a poll waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its turn among the answers of its connection.
    New,
    /// This part of the logs.
    Log(ForwardPlace),
    /// Entities.
    Entities,
    /// Its subscription to be in force.
    Subscribing,
    /// A change.
    Waiting,
}

/// A part of the log of a shard.
#[derive(Debug, Default)]
struct PartPlace {
    shard: u16,
    /// If it is of an earlier generation, the places of that.
    sealed: Option<Box<[Sequence]>>,
    through: Sequence,
}

/// The request of a poll.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Poller {
    /// Where replies go.
    pub(crate) request_id: RequestId,
    /// Where the client is.
    pub(crate) address: Option<IpAddr>,
    /// Who is answerable for the memory of what is gathered.
    pub(crate) holders: MemoryHolders,
}

impl Poller {
    const fn subscriber(self) -> Subscriber {
        Subscriber {
            index: self.request_id.connection,
            generation: self.request_id.generation,
        }
    }
}

/// Begins a poll. One without a place is answered with that of now; any other begins when the
/// answers before it are taken, so a connection has one that waits.
///
/// # Errors
/// If its pattern is bad, or its place does not cover that.
pub(crate) fn begin<L: Log>(
    context: &mut Context<L>,
    query: ChangesQuery,
    token: Option<KeptToken>,
) -> Result<Begun, ApiError> {
    let patterns = patterns_of(&query.entity_ids)?;
    let after = match &query.options.start {
        StreamStart::Since(cursor) => Some(AfterPlace::of(cursor, &patterns)),
        StreamStart::Live | StreamStart::Snapshot => None,
    };
    let after = after.transpose();
    let after = after.map_err(|CursorTooNarrow| ApiError::CursorTooNarrow { name: "since" })?;
    let mut tokens = ConnectionTokens::new(token);
    let readable = readable_by(context, &mut tokens);
    if !are_readable(&readable, &patterns) {
        return Err(tokens.refusal(context));
    }
    context.check_ready()?;
    let mut poll = PendingChanges {
        options: query.options,
        patterns,
        after: after.clone().unwrap_or_default(),
        limit: query.limit,
        bytes_max: query.bytes_max,
        wait_ms: query.wait_ms,
        tokens,
        readable,
        stage: Stage::New,
        due_ms: 0,
        is_timed: false,
        places: Vec::new(),
        sealed: None,
        next: None,
        unread: VecDeque::new(),
        part: PartPlace::default(),
        ids: VecDeque::new(),
        asked: VecDeque::new(),
        told: BTreeMap::new(),
        messages: Vec::new(),
        count: 0,
        parts: 0,
        subscriptions: None,
        woken: Vec::new(),
    };
    if after.is_some() {
        return Ok(Begun::Waiting(Pending::Changes(Box::new(poll))));
    }
    let shards = 0..context.router.shards;
    poll.places = shards.map(|shard| visible(context, shard)).collect();
    poll.write(context, Rest::None);
    Ok(Begun::at_once(Outcome::Done))
}

/// Whether there is more to tell than an answer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    None,
    More,
}

/// What may be read by these tokens now.
fn readable_by<L>(context: &Context<L>, tokens: &mut ConnectionTokens) -> Readable {
    let private = context.tenants.registry.private().clone();
    Readable::new(tokens.reader(context), private)
}

/// What may be seen of a shard.
fn visible<L: Log>(context: &Context<L>, shard: u16) -> Sequence {
    let counted = context.counters.visible(shard);
    match &context.router.shard {
        Some(own) if shard == context.router.core => own.visible().max(counted),
        _ => counted,
    }
}

impl PendingChanges {
    /// True until it is begun.
    pub(crate) fn is_new(&self) -> bool {
        self.stage == Stage::New
    }

    /// When it is to be looked at, milliseconds since the core began; said once.
    pub(crate) fn take_timer(&mut self) -> Option<u64> {
        let is_new = self.stage == Stage::Waiting && !std::mem::replace(&mut self.is_timed, true);
        is_new.then_some(self.due_ms)
    }

    /// A change that it waits for has come. True if it is to be looked at.
    pub(crate) fn wake(&mut self, shard: u16) -> bool {
        if let Some(woken) = self.woken.get_mut(usize::from(shard)) {
            *woken = true;
        }
        self.stage == Stage::Waiting
    }

    /// Its turn has come. What it came to, if that is known.
    pub(crate) fn start<L: Log>(
        &mut self,
        context: &mut Context<L>,
        by: Poller,
    ) -> Option<Outcome> {
        if let Some(outcome) = self.look_at_access(context, by) {
            return Some(outcome);
        }
        let shards = context.router.shards;
        self.due_ms = context.uptime_ms.saturating_add(self.wait_ms);
        self.woken = vec![false; usize::from(shards)];
        let place = |shard| {
            if self.patterns.concern(shard, shards) {
                self.after.floor(shard, shards)
            } else {
                visible(context, shard)
            }
        };
        self.places = (0..shards).map(place).collect();
        let is_at_end = (0..)
            .zip(&self.places)
            .all(|(shard, place)| *place == visible(context, shard));
        if is_at_end && self.after.is_of(shards) {
            return self.rest(context, by);
        }
        self.ask_log(context, by, ForwardPlace::Check)
    }

    fn ask_log<L: Log>(
        &mut self,
        context: &mut Context<L>,
        by: Poller,
        place: ForwardPlace,
    ) -> Option<Outcome> {
        self.stage = Stage::Log(place);
        let is_by_event = self.options.mode == StreamMode::Event;
        let query = ForwardQuery {
            patterns: self.patterns.clone(),
            after: self.after.clone(),
            wanted: if is_by_event {
                Wanted::Events
            } else {
                Wanted::Ids
            },
            // Any property may decide whether an entity matches.
            touching: match self.options.filter {
                None => self.options.properties.clone(),
                Some(_) => None,
            },
            place,
            bytes_max: limits::FORWARD_BYTES_MAX,
        };
        let caller = Caller {
            request_id: by.request_id,
            address: by.address,
            credentials: self.tokens.credentials(context),
            traceparent: None,
            takes_parts: false,
            behind_asked: false,
        };
        let asked = history::ask_forward(context, &caller, query);
        asked.err().map(Outcome::Failed)
    }

    /// Whether its client may see a change of this entity. True if that is not known: then the
    /// change wakes it, and it looks that up.
    pub(crate) fn may_read<L>(&self, context: &Context<L>, entity_id: &str) -> bool {
        self.readable.holds(entity_id) || self.tokens.is_reader_stale(context)
    }

    /// Looks up what its client may see, unless that is known. What it came to, if it can't go on:
    /// the client may see nothing of it, or not all that it has gathered.
    pub(crate) fn look_at_access<L: Log>(
        &mut self,
        context: &mut Context<L>,
        by: Poller,
    ) -> Option<Outcome> {
        if !self.tokens.is_reader_stale(context) {
            return None;
        }
        let readable = readable_by(context, &mut self.tokens);
        // The server's own entities tell of namespaces that others may read.
        let is_hidden = |id: &str| is_reserved(id) || !readable.holds(id);
        let is_told_of_hidden =
            readable != self.readable && self.told.keys().any(|id| is_hidden(id));
        self.readable = readable;
        if !are_readable(&self.readable, &self.patterns) {
            let error = self.tokens.refusal(context);
            return Some(self.fail(context, by, error));
        }
        is_told_of_hidden.then(|| self.fail(context, by, ApiError::Busy))
    }

    /// Takes what was read of the logs.
    pub(crate) fn take_log<L: Log>(
        &mut self,
        context: &mut Context<L>,
        by: Poller,
        result: JobResult,
    ) -> Option<Outcome> {
        if let Some(outcome) = self.look_at_access(context, by) {
            return Some(outcome);
        }
        let Stage::Log(place) = self.stage else {
            return None;
        };
        let part = match result {
            Ok(HistoryResult::Forward(part)) => *part,
            Ok(_) => return None,
            Err(error) => return Some(self.fail(context, by, error)),
        };
        if place == ForwardPlace::Check {
            // The events of the newest generation all come later than those of earlier ones.
            let shards = context.router.shards;
            for (shard, place) in (0..).zip(&mut self.places) {
                if self.patterns.concern(shard, shards) {
                    *place = (*place).max(part.sealed_through);
                }
            }
            self.next = part.next;
            self.unread = (0..shards).collect();
            return self.read_on(context, by);
        }
        self.parts += 1;
        self.next = part.next;
        self.sealed = None;
        self.part = PartPlace {
            shard: part.shard,
            sealed: part.sealed_places.clone(),
            through: part.through,
        };
        match (self.options.mode, place) {
            // Behind the last log of earlier generations.
            (_, ForwardPlace::Sealed { .. }) if part.sealed_places.is_none() => {
                self.read_on(context, by)
            }
            (StreamMode::Event, _) => self.take_events(context, by, &part),
            (StreamMode::Entity | StreamMode::Property, _) => {
                let told =
                    |it: &ForwardId| self.told.get(&it.id).is_some_and(|read| *read >= it.last);
                self.ids = part.ids.into_iter().filter(|it| !told(it)).collect();
                if !self.has_room(context, by, self.ids.len() * ID_BYTES) {
                    return Some(self.fail(context, by, ApiError::OutOfMemory));
                }
                self.ids
                    .make_contiguous()
                    .sort_unstable_by_key(|it| it.first);
                self.ask_entities(context, by)
            }
        }
    }

    fn take_events<L: Log>(
        &mut self,
        context: &mut Context<L>,
        by: Poller,
        part: &ForwardPart,
    ) -> Option<Outcome> {
        self.limit_to_room(context, by, (part.bytes.len(), part.events.len()));
        let options = self.options.clone();
        let cut = cut_of(&options);
        for (event, view) in each_event(part) {
            if !selects(&cut, &view) || !self.readable.holds(view.entity_id) {
                continue;
            }
            if self.is_full() {
                self.reach(before(event.sequence));
                return Some(self.answer(context, by, Rest::More));
            }
            let place = (event.sequence, event.time);
            self.add(|out| stream_encode::event(out, place, &view));
            if !self.told.contains_key(view.entity_id) {
                self.told.insert(view.entity_id.into(), event.sequence);
            }
        }
        self.messages.shrink_to_fit();
        self.reach(part.through);
        self.read_on(context, by)
    }

    /// Tells of little if there is no memory for so many changes, of so many bytes, which are read:
    /// the rest is there for the next poll. Few changes are not refused for want of memory.
    fn limit_to_room<L>(
        &mut self,
        context: &mut Context<L>,
        by: Poller,
        (bytes, count): (usize, usize),
    ) {
        let bytes = bytes.min(self.bytes_max.saturating_sub(self.messages.len()));
        let count = count.min(self.limit.saturating_sub(self.count));
        if !self.has_room(context, by, bytes + count * TOLD_BYTES) {
            let little = self.messages.len().max(LITTLE_BYTES);
            self.bytes_max = self.bytes_max.min(little);
        }
    }

    /// True if it may take so many bytes more.
    fn has_room<L>(&self, context: &mut Context<L>, by: Poller, bytes: usize) -> bool {
        let is_little = self.messages.capacity() + bytes <= LITTLE_BYTES;
        is_little || (context.memory).admits(by.holders, self.heap_bytes(), bytes)
    }

    /// Asks for the next entities of the part.
    fn ask_entities<L: Log>(&mut self, context: &mut Context<L>, by: Poller) -> Option<Outcome> {
        let shards = context.router.shards;
        let next = self.ids.front();
        let Some((shard, first)) = next.map(|it| (place(&it.id, shards), it.first)) else {
            self.reach(self.part.through);
            return self.read_on(context, by);
        };
        if self.is_full() {
            self.reach(before(first));
            return Some(self.answer(context, by, Rest::More));
        }
        let is_of_shard = |it: &ForwardId| place(&it.id, shards) == shard;
        let count_max = limits::CHANGED_BATCH_IDS_MAX.min(self.limit - self.count);
        while self.asked.len() < count_max && self.ids.front().is_some_and(is_of_shard) {
            self.asked.extend(self.ids.pop_front());
        }
        let request = ShardRequest::Entities {
            ids: self.asked.iter().map(|it| it.id.clone()).collect(),
            filter: self.options.filter.clone(),
        };
        self.stage = Stage::Entities;
        let asked = context.router.ask(shard, by.request_id, request);
        asked.err().map(|error| self.fail(context, by, error))
    }

    /// Takes a shard's reply.
    pub(crate) fn resume<L: Log>(
        &mut self,
        context: &mut Context<L>,
        by: Poller,
        (from, reply): (u16, Reply),
    ) -> Option<Outcome> {
        match reply {
            Reply::Past(log) => {
                context.history.take_log(by.request_id, from, *log);
                None
            }
            Reply::Entities(batch, read) if self.stage == Stage::Entities => {
                if let Some(outcome) = self.look_at_access(context, by) {
                    return Some(outcome);
                }
                self.limit_to_room(context, by, (batch.bytes.len(), batch.found.len()));
                self.take_entities(&batch, read);
                self.ask_entities(context, by)
            }
            Reply::Refused(error) => {
                if matches!(self.stage, Stage::Log(_)) {
                    context.history.finish(by.request_id);
                }
                Some(self.fail(context, by, error))
            }
            _ => None,
        }
    }

    fn take_entities(&mut self, batch: &EntityBatch, read: Sequence) {
        let options = self.options.clone();
        let cut = cut_of(&options);
        for (found, whole) in each_found(batch) {
            if self.is_full() {
                break;
            }
            let deleted = self.asked.pop_front().and_then(|asked| asked.deleted);
            if !self.readable.holds(&found.id) {
                continue;
            }
            if let (None, None) = (&whole, deleted) {
                // It was deleted behind what is read: that is told of when the log is read that
                // far.
                continue;
            }
            let deleted = deleted.unwrap_or_default();
            self.add(|out| write_found(out, (found, &whole), &cut, deleted));
            self.told.insert(found.id.clone(), read);
        }
        // What had no place in the answer is asked for again.
        while let Some(rest) = self.asked.pop_back() {
            self.ids.push_front(rest);
        }
        self.messages.shrink_to_fit();
    }

    /// Reads the next part of the logs.
    fn read_on<L: Log>(&mut self, context: &mut Context<L>, by: Poller) -> Option<Outcome> {
        let is_full = self.is_full() || self.parts >= limits::CHANGES_PARTS_MAX;
        if let Some(place) = self.next.take() {
            if is_full {
                return Some(self.answer(context, by, Rest::More));
            }
            return self.ask_log(context, by, place);
        }
        while let Some(shard) = self.unread.pop_front() {
            let last = self.places.get(usize::from(shard)).copied();
            let last = last.unwrap_or_default();
            if !self.patterns.concern(shard, context.router.shards)
                || last >= visible(context, shard)
            {
                continue;
            }
            if is_full {
                return Some(self.answer(context, by, Rest::More));
            }
            return self.ask_log(context, by, ForwardPlace::Live { shard, last });
        }
        self.rest(context, by)
    }

    /// All is read: answers, or waits.
    fn rest<L: Log>(&mut self, context: &mut Context<L>, by: Poller) -> Option<Outcome> {
        let is_over = context.uptime_ms >= self.due_ms || context.counters.is_stopping();
        if self.count > 0 || is_over {
            return Some(self.answer(context, by, Rest::None));
        }
        if self.subscriptions.is_some() {
            self.stage = Stage::Waiting;
            return self.look(context, by);
        }
        self.stage = Stage::Subscribing;
        let mut subscriptions =
            Box::new(Subscriptions::new((by.address, by.holders), Framing::BARE));
        let options = StreamOptions {
            start: StreamStart::Live,
            is_extended: false,
            ..self.options.clone()
        };
        let call = (self.patterns.clone(), &options, None);
        let subscribed = subscriptions.subscribe_to(context, by.subscriber(), call);
        self.subscriptions = Some(subscriptions);
        subscribed.err().map(Outcome::Failed)
    }

    /// Takes a shard's reply to its subscription.
    pub(crate) fn on_subscribed<L: Log>(
        &mut self,
        context: &mut Context<L>,
        by: Poller,
        reply: (u32, u16, &Reply),
    ) -> Option<Outcome> {
        let subscriptions = self.subscriptions.as_mut()?;
        let verdicts = subscriptions.resume(context, by.subscriber(), reply);
        let verdict = verdicts.into_iter().next()?;
        if let Err(error) = verdict.result {
            return Some(self.fail(context, by, error));
        }
        // What came before it was in force is read.
        self.unread = (0..context.router.shards).collect();
        self.read_on(context, by)
    }

    /// Looks whether what it waits for has come, or its time is over.
    pub(crate) fn look<L: Log>(&mut self, context: &mut Context<L>, by: Poller) -> Option<Outcome> {
        if self.stage != Stage::Waiting {
            return None;
        }
        if let Some(outcome) = self.look_at_access(context, by) {
            return Some(outcome);
        }
        if self.woken.contains(&true) {
            let woken = (0..).zip(&mut self.woken);
            let woken = woken.filter_map(|(shard, is)| std::mem::take(is).then_some(shard));
            self.unread = woken.collect();
            self.parts = 0;
            return self.read_on(context, by);
        }
        if context.uptime_ms < self.due_ms && !context.counters.is_stopping() {
            return None;
        }
        // What has gone by was nothing to it.
        let shards = context.router.shards;
        for (shard, place) in (0..).zip(&mut self.places) {
            if self.patterns.concern(shard, shards) {
                *place = (*place).max(context.streams.fanned_out(shard));
            }
        }
        Some(self.answer(context, by, Rest::None))
    }

    fn is_full(&self) -> bool {
        self.count >= self.limit || self.messages.len() >= self.bytes_max
    }

    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.count > 0 {
            self.messages.push(b',');
        }
        write(&mut self.messages);
        self.count += 1;
    }

    /// It tells of everything through this event of the log that is read.
    fn reach(&mut self, through: Sequence) {
        let index = usize::from(self.part.shard);
        let places = match &mut self.part.sealed {
            Some(places) => &mut **places,
            None => self.places.as_mut_slice(),
        };
        if let Some(place) = places.get_mut(index) {
            *place = through;
        }
        self.sealed.clone_from(&self.part.sealed);
    }

    fn answer<L: Log>(&mut self, context: &mut Context<L>, by: Poller, rest: Rest) -> Outcome {
        self.leave(context, by.subscriber());
        self.write(context, rest);
        Outcome::Done
    }

    fn fail<L: Log>(&mut self, context: &mut Context<L>, by: Poller, error: ApiError) -> Outcome {
        self.leave(context, by.subscriber());
        Outcome::Failed(error)
    }

    fn write<L>(&self, context: &mut Context<L>, rest: Rest) {
        let cursor = match (&self.sealed, self.patterns.scope()) {
            (None, _) => {
                let shards = u16::try_from(self.places.len()).unwrap_or(u16::MAX);
                let place = |shard: u16| self.places.get(usize::from(shard)).copied();
                let place = |shard| place(shard).unwrap_or_default();
                cursor_text([&self.patterns], shards, place).unwrap_or_default()
            }
            (Some(places), Some(scope)) => {
                let place = places.get(usize::from(self.part.shard)).copied();
                Cursor::of(scope, place.unwrap_or_default()).encode()
            }
            (Some(places), None) => Cursor::of_everything(places).encode(),
        };
        let answer = &mut context.answer;
        answer.clear();
        stream_encode::changes(answer, &self.messages, &cursor, rest == Rest::More);
    }

    /// Takes its subscription back.
    pub(crate) fn leave<L: Log>(&mut self, context: &mut Context<L>, subscriber: Subscriber) {
        if let Some(mut subscriptions) = self.subscriptions.take() {
            subscriptions.leave(context, subscriber);
        }
    }

    /// Heap that it holds.
    pub(crate) fn heap_bytes(&self) -> usize {
        let ids = self.ids.capacity() + self.asked.capacity();
        size_of::<Self>()
            + self.patterns.heap_bytes()
            + self.messages.capacity()
            + self.told.len() * TOLD_BYTES
            + ids * ID_BYTES
    }
}

/// What an entity takes that is to be asked for, bytes, with the text of its id as it usually is.
const ID_BYTES: usize = size_of::<ForwardId>() + 32;
/// What a poll gathers if there is no memory for more, bytes: with its answer a connection holds no
/// more than is uncounted.
const LITTLE_BYTES: usize = limits::MEMORY_UNCOUNTED_BYTES_MAX / 2;

/// What an entity takes that is told of besides its message, bytes, rounded up.
const TOLD_BYTES: usize = 128;

fn before(sequence: Sequence) -> Sequence {
    Sequence::new(sequence.get().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::super::namespaces;
    use super::super::testing::{OPERATOR, TestCores};
    use super::*;
    use crate::model::Visibility;

    fn register(cores: &mut TestCores, name: &str, visibility: Visibility) {
        cores.context(0).tenants.new_namespaces = visibility;
        let body = format!(r#"{{"name":"{name}"}}"#);
        let (outcome, _) = cores.run((0, Some(OPERATOR)), |context, caller| {
            namespaces::register(context, caller, body.as_bytes())
        });
        assert!(!matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    }

    #[test]
    fn a_poll_begins_anew_only_if_it_has_gathered_what_is_hidden_now() {
        let mut cores = TestCores::with_auth(1);
        register(&mut cores, "house", Visibility::Public);
        register(&mut cores, "shed", Visibility::Private);
        let by = Poller {
            request_id: RequestId {
                connection: 0,
                generation: 0,
                serial: 1,
            },
            address: None,
            holders: MemoryHolders::default(),
        };
        let mut polls = ["house/a", "garden/a", "flux-core/directory"].map(|id| {
            let since = Cursor::of_everything(&[Sequence::ZERO]).encode();
            let query = ChangesQuery::parse(Some(&format!("since={since}"))).unwrap();
            let begun = begin(cores.context(0), query, None).unwrap();
            let Begun::Waiting(Pending::Changes(mut poll)) = begun else {
                panic!("{begun:?}");
            };
            poll.told.insert(id.into(), Sequence::ZERO);
            poll.count = 1;
            poll
        });
        let look = |cores: &mut TestCores, polls: &mut [Box<PendingChanges>; 3]| {
            let context = cores.context(0);
            let looked = polls.each_mut().map(|it| it.look_at_access(context, by));
            looked.map(|outcome| outcome == Some(Outcome::Failed(ApiError::Busy)))
        };
        assert_eq!(look(&mut cores, &mut polls), [false; 3]);
        // It hides nothing of what is gathered; the directory may name it.
        register(&mut cores, "garage", Visibility::Private);
        assert_eq!(look(&mut cores, &mut polls), [false, false, true]);
        let body = br#"{"read":"private"}"#;
        cores.run((0, Some(OPERATOR)), |context, caller| {
            namespaces::set_visibility(context, caller, ("house", body))
        });
        assert_eq!(look(&mut cores, &mut polls), [true, false, true]);
        assert_eq!(
            look(&mut cores, &mut polls),
            [false; 3],
            "they are told once"
        );
        let context = cores.context(0);
        let woken_by = ["house/a", "shed/a", "garden/a"].map(|id| polls[1].may_read(context, id));
        assert_eq!(woken_by, [false, false, true]);
        register(&mut cores, "attic", Visibility::Public);
        assert!(polls[1].may_read(cores.context(0), "house/a"), "it looks");
    }
}
