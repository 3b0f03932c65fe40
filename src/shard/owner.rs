//! The shard as its core sees it: requests in, replies out when what they say is durable.
//!
//! Three queues, each bounded by what its senders may have in flight:
//!
//! - *pending replies*: those whose commit point is not reached yet. They go out in the order they
//!   were made.
//! - *deferred writes*: writes that came while the log's next segment was not ready. They go on, in
//!   order, when it is; a write that comes while others are deferred joins them, so that order
//!   holds.
//! - *pending changes*: those whose commit point is not reached yet.
//!
//! In `sync` durability visible means durable; in `async` it means appended, which the core writes
//! before it tells anybody.

use super::bindings::Bindings;
use super::deadline_clock::DeadlineClock;
use super::message::{Envelope, Origin, Reply, RequestId, ShardRequest};
use super::worked::Worked;
use crate::api::ApiError;
use crate::api::event::EventIds;
use crate::api::metrics::Front;
use crate::api::outcome::PartOutcome;
use crate::auth::{Charged, RateLimited, RateLimiter};
use crate::engine::{CollectedChanges, Engine, PublishError, Recalled, Snapshot, Write};
use crate::history::StoredStates;
use crate::limits::{DEFERRED_BYTES_MAX, DEFERRED_WRITES_MAX, EVENT_UNITS, RELEASED_REPLIES_MAX};
use crate::log::{AppendRejection, Log};
use crate::model::Slicing;
use crate::model::{
    CommitPoint, CommitQueue, Durability, EventPack, PackedEvent, Published, RECORD_KIND_EVENT,
    StoredChange, Timestamp,
};
use crate::state::PREFETCH_GROUP_IDS_MAX;
use flux_storage::{LogReader, Sequence};
use std::collections::VecDeque;
use std::sync::Arc;

/// Events of one message from which on looking at all their entities first pays.
const PREFETCH_EVENTS_MIN: usize = 4;

/// A shard: its engine, its log, and what it owes.
#[derive(Debug)]
pub struct Shard<L> {
    pub(super) engine: Engine,
    pub(super) log: L,
    durability: Durability,
    pub(super) ids: EventIds,
    pub(super) deadline_clock: DeadlineClock,
    /// What ends by itself waits for this time, by the clock of deadlines.
    pub(super) ends_retry: Option<Timestamp>,
    /// Reused: the id of an entity that ends.
    pub(super) ending: String,
    pending_replies: CommitQueue<(Origin, Reply)>,
    pub(super) deferred_writes: VecDeque<Envelope>,
    /// Bytes of the events in `deferred writes`.
    deferred_bytes: usize,
    /// The log may have room for them.
    resumes: bool,
    /// Writes that took more than a slice of work, oldest first, and what their connections sent
    /// behind them. They go on in later turns, one after the other; other writes overtake them.
    unfinished: VecDeque<Envelope>,
    /// Where the slice of work at hand ends.
    slice_end: u64,
    /// Why a write is refused while the log can't take one, if waiting would not help.
    pub(super) rejection: Option<ApiError>,
    /// Changes that flushes in flight cover.
    pending_changes: CommitQueue<CollectedChanges>,
    /// Where the log's stored states are, for readers of its past.
    pub(super) states: Option<StoredStates>,
    /// Logs of earlier generations that repeated events may have their results in.
    pub(super) earlier: Vec<LogReader>,
    /// Which entities are bound to connections.
    pub(super) bindings: Bindings,
    /// Entities that were bound when the server ended, until they are taken in.
    pub(super) orphans: Vec<Box<str>>,
    pub(super) limiter: RateLimiter,
    /// Events stored, by what they came in by.
    pub(super) accepted: [u64; Front::COUNT],
    /// Units of work that were done here.
    pub(super) spent: u64,
    /// How much is done in one go.
    pub(super) slicing: Slicing,
}

impl<L: Log> Shard<L> {
    /// A shard whose engine has replayed its log. `seed`: for the ids of tombstones.
    pub fn new(engine: Engine, log: L, durability: Durability, seed: u64) -> Self {
        Self {
            engine,
            log,
            durability,
            ids: EventIds::new(seed),
            deadline_clock: DeadlineClock::default(),
            ends_retry: None,
            ending: String::new(),
            pending_replies: CommitQueue::default(),
            deferred_writes: VecDeque::new(),
            deferred_bytes: 0,
            resumes: false,
            unfinished: VecDeque::new(),
            slice_end: 0,
            rejection: None,
            pending_changes: CommitQueue::default(),
            states: None,
            earlier: Vec::new(),
            bindings: Bindings::default(),
            orphans: Vec::new(),
            limiter: RateLimiter::new(),
            accepted: [0; Front::COUNT],
            spent: 0,
            slicing: Slicing::SERVER,
        }
    }

    /// Says how much is done in one go.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn with_slicing(self, slicing: Slicing) -> Self {
        Self { slicing, ..self }
    }

    /// So much was done.
    pub fn spend(&mut self, units: u64) {
        self.spent += units;
    }

    /// Units of work that this shard has done since it was opened.
    pub fn spent(&self) -> u64 {
        self.spent + self.engine.spent()
    }

    /// Says where the log's stored states are, without which nobody can read its past.
    #[must_use]
    pub fn with_states(self, states: StoredStates) -> Self {
        Self {
            states: Some(states),
            ..self
        }
    }

    /// What may be seen: everything up to this sequence.
    pub fn visible(&self) -> Sequence {
        match self.durability {
            Durability::Sync => self.log.durable(),
            Durability::Async if self.failed() => self.log.written(),
            Durability::Async => self.log.appended(),
        }
    }

    /// The commit point of all that was appended so far.
    pub(super) fn last_point(&self) -> CommitPoint {
        CommitPoint::at(self.log.appended())
    }

    /// The last event's sequence, durable or not.
    pub fn appended(&self) -> Sequence {
        self.log.appended()
    }

    /// The engine, for what needs no reply.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The engine, for reads that need no reply.
    pub fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Freezes the state as it is now, for a helper thread to write. Cost: constant.
    ///
    /// # Panics
    /// If the snapshot before is not settled.
    pub fn freeze(&mut self) -> Snapshot {
        self.engine.freeze(self.log.appended())
    }

    /// The log, for flushing.
    pub fn log(&self) -> &L {
        &self.log
    }

    /// The log, at the end.
    pub fn into_log(self) -> L {
        self.log
    }

    /// The log, for flushing.
    pub fn log_mut(&mut self) -> &mut L {
        &mut self.log
    }

    /// The rates of this shard's namespaces.
    pub fn limiter_mut(&mut self) -> &mut RateLimiter {
        &mut self.limiter
    }

    /// Stores one event at once, for this call and at the expense of whom it is `charged` to. The
    /// caller shows its success when the sequence of what is returned is visible.
    ///
    /// # Errors
    /// [`AppendRejection::NotReady`] if it has to go the long way, by [`Shard::request`].
    pub fn publish(
        &mut self,
        now: Timestamp,
        (packed, asker): (PackedEvent<'_>, RequestId),
        charged: Option<&Charged>,
    ) -> Result<Published, PublishError> {
        if !self.deferred_writes.is_empty() || !self.unfinished.is_empty() {
            return Err(AppendRejection::NotReady.into());
        }
        let published = self.store(now, packed, charged)?;
        self.accepted[asker.front().index()] += u64::from(!published.duplicate);
        Ok(published)
    }

    /// Stores one event, unless it was stored before. What is refused costs its namespace nothing,
    /// and neither does a repetition.
    pub(super) fn store(
        &mut self,
        now: Timestamp,
        packed: PackedEvent<'_>,
        charged: Option<&Charged>,
    ) -> Result<Published, PublishError> {
        self.spent += EVENT_UNITS + packed.event.len() as u64;
        let sent = match self.engine.recall(packed.event, &self.log, now) {
            Recalled::NotSent => None,
            Recalled::New(hash) => Some(hash),
            Recalled::Duplicate {
                stored,
                has_operations,
            } => {
                self.check_point(CommitPoint::at(stored.sequence))?;
                let properties =
                    has_operations.then(|| self.results_of(stored.sequence, packed.event));
                let mut published = Published {
                    stored,
                    duplicate: true,
                    properties: properties.flatten(),
                    bound: None,
                };
                self.bind_again(packed, &mut published)?;
                return Ok(published);
            }
            Recalled::Reused(sequence) => {
                return Err(PublishError::Refused {
                    error: ApiError::EventIdReused,
                    point: CommitPoint::at(sequence),
                });
            }
        };
        let binding = self.check_binding(packed)?;
        let tokens = packed.extra_tokens.saturating_add(1);
        self.check_rate(charged, tokens)?;
        let write = Write { packed, sent };
        let published = self.engine.publish(&mut self.log, now, write);
        let mut published = published.map_err(|error| self.charge_refusal(error))?;
        if let Some(binding) = binding {
            self.bind(packed, binding, &mut published);
        }
        if let Some(charged) = charged {
            self.limiter.take(charged.as_str(), tokens);
        }
        Ok(published)
    }

    /// Refuses what would wait for a commit point that a log which has failed never reaches.
    fn check_point(&self, point: CommitPoint) -> Result<(), AppendRejection> {
        if self.failed() && !point.is_reached(self.visible()) {
            Err(AppendRejection::Closed)
        } else {
            Ok(())
        }
    }

    pub(super) fn check_rate(
        &mut self,
        charged: Option<&Charged>,
        tokens: u32,
    ) -> Result<(), AppendRejection> {
        let checked = charged.map_or(Ok(()), |charged| {
            self.limiter.check(charged.as_str(), tokens)
        });
        checked.map_err(|RateLimited { seconds }| AppendRejection::RateLimited { seconds })
    }

    /// Works on a request, or stalls it. Its reply comes out of [`Shard::release`].
    pub fn request(&mut self, envelope: Envelope, now: Timestamp) {
        let write = matches!(
            envelope.request,
            ShardRequest::Publish { .. }
                | ShardRequest::PublishGroup { .. }
                | ShardRequest::Delete { .. }
                | ShardRequest::DeleteMany { .. }
                | ShardRequest::Unbind
        );
        if write && !self.deferred_writes.is_empty() {
            self.stall(envelope);
        } else if write && self.is_behind_unfinished(envelope.origin) {
            self.unfinished.push_back(envelope);
        } else {
            match self.work_slice(envelope, now) {
                Worked::Done => {}
                Worked::Waits(envelope) => self.stall(envelope),
                Worked::Unfinished(envelope) => self.unfinished.push_back(envelope),
            }
        }
    }

    /// True if a write of the same connection goes on in a later turn.
    fn is_behind_unfinished(&self, origin: Origin) -> bool {
        let mut unfinished = self.unfinished.iter();
        unfinished.any(|it| it.origin.connection() == origin.connection())
    }

    fn work_slice(&mut self, envelope: Envelope, now: Timestamp) -> Worked {
        self.slice_end = self.spent() + self.slicing.shard_units();
        self.work(envelope, now)
    }

    /// True if [`Shard::go_on`] has something to do.
    pub fn has_work(&self) -> bool {
        let deferred = self.resumes && !self.deferred_writes.is_empty();
        !self.failed() && (deferred || !self.unfinished.is_empty() || self.has_ends())
    }

    /// Does a slice of what was left for later turns.
    pub fn go_on(&mut self, now: Timestamp) {
        self.end_due(now);
        if let Some(envelope) = self.unfinished.pop_front() {
            match self.work_slice(envelope, now) {
                Worked::Done => {}
                Worked::Unfinished(envelope) => self.unfinished.push_front(envelope),
                Worked::Waits(envelope) => {
                    // All are older than what else their connections have deferred.
                    self.unfinished.push_front(envelope);
                    while let Some(envelope) = self.unfinished.pop_back() {
                        self.deferred_bytes += envelope.request.event_bytes();
                        self.deferred_writes.push_front(envelope);
                    }
                    self.resumes = false;
                }
            }
        }
        let end = self.spent() + self.slicing.shard_units();
        while self.resumes && self.spent() < end {
            let Some(envelope) = self.deferred_writes.pop_front() else {
                self.resumes = false;
                break;
            };
            let bytes = envelope.request.event_bytes();
            self.deferred_bytes = self.deferred_bytes.saturating_sub(bytes);
            if self.is_behind_unfinished(envelope.origin) {
                self.unfinished.push_back(envelope);
                continue;
            }
            match self.work_slice(envelope, now) {
                Worked::Done => {}
                Worked::Unfinished(envelope) => self.unfinished.push_back(envelope),
                Worked::Waits(envelope) => {
                    self.deferred_bytes += bytes;
                    self.deferred_writes.push_front(envelope);
                    self.resumes = false;
                }
            }
        }
    }

    fn stall(&mut self, envelope: Envelope) {
        if matches!(envelope.request, ShardRequest::Unbind) {
            // Behind the writes of its connection, however many there are.
            self.deferred_writes.push_back(envelope);
        } else if let Some(error) = &self.rejection {
            let reply = envelope.request.refused(error.clone());
            self.hold(self.last_point(), envelope.origin, reply);
        } else if self.deferred_writes.len() >= DEFERRED_WRITES_MAX
            || self.deferred_bytes >= DEFERRED_BYTES_MAX
        {
            let reply = envelope.request.refused(ApiError::Overloaded);
            self.hold(self.last_point(), envelope.origin, reply);
        } else {
            self.deferred_bytes += envelope.request.event_bytes();
            self.deferred_writes.push_back(envelope);
        }
    }

    /// The log may have room again: goes on with what was deferred, a slice now and the rest in
    /// later turns.
    pub fn resume(&mut self, now: Timestamp) {
        if self.failed() {
            return;
        }
        self.rejection = None;
        self.resumes = true;
        self.ends_retry = None;
        self.go_on(now);
    }

    /// Tokens are dead: what came by them and still waits for room is refused.
    pub fn revoke(&mut self, is_dead: impl Fn(&Charged) -> bool) {
        let unfinished = std::mem::take(&mut self.unfinished);
        for envelope in unfinished {
            if envelope.request.charged().as_ref().is_some_and(&is_dead) {
                let reply = envelope.request.refused(ApiError::TokenUnknown);
                self.hold(self.last_point(), envelope.origin, reply);
            } else {
                self.unfinished.push_back(envelope);
            }
        }
        let waiting = std::mem::take(&mut self.deferred_writes);
        for envelope in waiting {
            if envelope.request.charged().as_ref().is_some_and(&is_dead) {
                let bytes = envelope.request.event_bytes();
                self.deferred_bytes = self.deferred_bytes.saturating_sub(bytes);
                let reply = envelope.request.refused(ApiError::TokenUnknown);
                self.hold(self.last_point(), envelope.origin, reply);
            } else {
                self.deferred_writes.push_back(envelope);
            }
        }
    }

    /// The log will have no room for a while, or never again: refuses what is deferred, and every
    /// write that does not fit, until [`Shard::resume`].
    pub fn refuse(&mut self, error: &ApiError) {
        if self.failed() {
            return;
        }
        self.rejection = Some(error.clone());
        self.deferred_bytes = 0;
        while let Some(envelope) = self.deferred_writes.pop_front() {
            if matches!(envelope.request, ShardRequest::Unbind) {
                self.end_connection(envelope.origin.connection());
                continue;
            }
            let reply = envelope.request.refused(error.clone());
            self.hold(self.last_point(), envelope.origin, reply);
        }
    }

    /// Writing or a flush failed. What was appended since the last good flush will never be
    /// durable: nobody may be told that it succeeded, and nobody may see it. In `async` that holds
    /// for what could not be written.
    pub fn fail(&mut self) {
        self.deferred_writes.append(&mut self.unfinished);
        self.refuse(&ApiError::StorageFault);
        self.pending_changes.clear();
        self.engine.take_changes();
        let durable = self.visible();
        for (point, (_, reply)) in self.pending_replies.iter_mut() {
            if !point.is_reached(durable) {
                *point = CommitPoint::NONE;
                if let Reply::Subscribed(place) = reply {
                    // It is in force: nothing behind this place will ever be told.
                    *place = durable;
                } else {
                    *reply = Reply::Refused(ApiError::StorageFault);
                }
            }
        }
    }

    /// True if a failed write or flush has closed the log for good.
    pub fn failed(&self) -> bool {
        matches!(self.rejection, Some(ApiError::StorageFault))
    }

    /// True if writes that need more room are refused.
    pub fn is_refusing(&self) -> bool {
        self.rejection.is_some()
    }

    /// True if writes that need more room are refused with this error.
    pub fn refuses_with(&self, error: &ApiError) -> bool {
        self.rejection.as_ref() == Some(error)
    }

    /// Why a write that got [`AppendRejection`] fails; `None` if it is only delayed.
    pub fn rejection(&self, rejection: AppendRejection) -> Option<ApiError> {
        match rejection {
            AppendRejection::NotReady => self.rejection.clone(),
            AppendRejection::Closed => Some(ApiError::StorageFault),
            AppendRejection::TooLarge => Some(ApiError::RecordTooLarge),
            AppendRejection::StateDamaged => Some(ApiError::StateDamaged),
            AppendRejection::RateLimited { seconds } => Some(ApiError::RateLimited { seconds }),
        }
    }

    /// The same of a write that was not stored, and what must be durable before it may be told.
    pub(super) fn refusal(&self, refused: PublishError) -> Option<(ApiError, CommitPoint)> {
        match refused {
            PublishError::Refused { error, point } => Some((error, point)),
            PublishError::Append(rejection) => self
                .rejection(rejection)
                .map(|error| (error, CommitPoint::NONE)),
        }
    }

    /// Hands out the replies that may be seen by now, as many as one go may take.
    pub fn release(&mut self, mut deliver: impl FnMut(Origin, Reply)) {
        let visible = self.visible();
        for _ in 0..RELEASED_REPLIES_MAX {
            let Some((origin, reply)) = self.pending_replies.pop_due(visible) else {
                return;
            };
            deliver(origin, reply);
        }
    }

    /// True if [`Shard::release`] would hand out a reply.
    pub fn has_releasable(&self) -> bool {
        self.pending_replies.is_due(self.visible())
    }

    /// A flush is being issued: the changes so far are covered by it.
    pub fn flush_begins(&mut self) {
        if self.durability == Durability::Sync
            && let Some(changes) = self.engine.take_changes()
        {
            let point = self.last_point();
            self.pending_changes.push(point, changes);
        }
    }

    /// The oldest changes that may be pushed now. None before the replies that may be seen are
    /// handed out: a change comes behind the replies of what was asked before it.
    pub fn take_changes(&mut self, now: Timestamp) -> Option<CollectedChanges> {
        if self.has_releasable() {
            return None;
        }
        match self.durability {
            Durability::Sync => self.pending_changes.pop_due(self.visible()),
            Durability::Async => self.engine.take_changes(),
        }
        .or_else(|| self.engine.take_system_changes(now))
    }

    /// Subscribes core 0 to everything.
    #[cfg(test)]
    pub(super) fn engine_subscribe_for_test(&mut self) {
        let interest = crate::subscribe::Interest::plain(crate::subscribe::Filter::All);
        self.engine
            .subscribe(0, &interest)
            .expect("it has no filter");
    }

    /// The durability this shard promises.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Commit points never fall from one pending reply to the next: a reply waits at most for what
    /// came before it.
    pub(super) fn hold(&mut self, point: CommitPoint, origin: Origin, reply: Reply) {
        self.count_stored(origin, &reply);
        if self.failed() && !point.is_reached(self.visible()) {
            let reply = match reply {
                Reply::Refused(_) => reply,
                // As in [`Shard::fail`].
                Reply::Subscribed(_) => Reply::Subscribed(self.visible()),
                Reply::Published(_)
                | Reply::GroupRefused(..)
                | Reply::Entity(_)
                | Reply::LargeEntity { .. }
                | Reply::Deleted(_)
                | Reply::DeletedMany(..)
                | Reply::Ids(_)
                | Reply::Chunk(_)
                | Reply::Past(_)
                | Reply::SnapshotPage(..)
                | Reply::Entities(..)
                | Reply::Namespaces(..)
                | Reply::Controlled
                | Reply::Connectors(_) => Reply::Refused(ApiError::StorageFault),
            };
            self.pending_replies
                .push(CommitPoint::NONE, (origin, reply));
        } else {
            self.pending_replies.push(point, (origin, reply));
        }
    }

    fn work(&mut self, Envelope { origin, request }: Envelope, now: Timestamp) -> Worked {
        let (point, reply) = match request {
            ShardRequest::Publish {
                pack,
                done,
                charged,
            } => {
                return self.publish_pack(origin, (pack, done, charged), now);
            }
            ShardRequest::PublishGroup { pack, charged } => {
                let Some(done) = self.publish_group(&pack, charged.as_ref(), now) else {
                    let request = ShardRequest::PublishGroup { pack, charged };
                    return Worked::Waits(Envelope { origin, request });
                };
                done
            }
            ShardRequest::DeleteMany { ids, done, charged } => {
                return self.delete_many(origin, (ids, done, charged), now);
            }
            ShardRequest::Delete { id, terms, charged } => {
                match self.delete((&id, &terms), charged.as_ref(), now) {
                    Ok((point, deleted)) => (point, Reply::Deleted(Ok(deleted))),
                    Err(refused) => {
                        let Some((error, point)) = self.refusal(refused) else {
                            let request = ShardRequest::Delete { id, terms, charged };
                            return Worked::Waits(Envelope { origin, request });
                        };
                        (point, Reply::Deleted(Err(error)))
                    }
                }
            }
            ShardRequest::Read {
                id,
                fields,
                bytes_max,
                readable,
            } => self.read(id, (fields, bytes_max), readable.as_deref()),
            request @ ShardRequest::Collect { .. } => {
                return self.collect(Envelope { origin, request });
            }
            ShardRequest::List(part) => self.list(&part),
            ShardRequest::Namespaces(names) => {
                let counts = names.iter().map(|name| self.engine.namespace_counts(name));
                let last = self.log.appended();
                (self.last_point(), Reply::Namespaces(counts.collect(), last))
            }
            ShardRequest::Past => self.past(),
            ShardRequest::SnapshotPage { query, after } => {
                self.snapshot_page(&query, after.as_deref())
            }
            ShardRequest::Entities { ids, filter } => self.entities_whole(ids, filter.as_deref()),
            // The place is told when it is durable: a client may come back with it.
            ShardRequest::Subscribe(interest) => {
                match self.engine.subscribe(origin.core, &interest) {
                    Ok(()) => (self.last_point(), Reply::Subscribed(self.log.appended())),
                    Err(error) => (CommitPoint::NONE, Reply::Refused(error)),
                }
            }
            ShardRequest::Unsubscribe(interest) => {
                self.engine.unsubscribe(origin.core, &interest);
                return Worked::Done;
            }
            ShardRequest::Unbind => {
                self.end_connection(origin.connection());
                return Worked::Done;
            }
        };
        self.hold(point, origin, reply);
        Worked::Done
    }

    /// Lets the cache misses of looking up these events' entities overlap, if there are enough of
    /// them to gain by it.
    fn prefetch(&mut self, events: &[PackedEvent<'_>]) {
        if events.len() < PREFETCH_EVENTS_MIN {
            return;
        }
        let mut ids = [&[][..]; PREFETCH_GROUP_IDS_MAX];
        for (id, packed) in ids.iter_mut().zip(events) {
            let found = StoredChange::entity_id_of(RECORD_KIND_EVENT, packed.event);
            *id = found.unwrap_or_default();
        }
        self.engine.prefetch(&ids[..events.len()]);
    }

    /// Stores the events of a pack that are not `done`, in order, and notes there what became of
    /// each, until the slice is over: at least one.
    fn store_all(
        &mut self,
        pack: &EventPack,
        done: &mut PartOutcome,
        (charged, now): (Option<Charged>, Timestamp),
    ) -> Result<(), AppendRejection> {
        let begun = done.len();
        let mut events = pack.iter().skip(begun);
        let mut group = [PackedEvent::default(); PREFETCH_GROUP_IDS_MAX];
        loop {
            let mut count = 0;
            for (place, packed) in group.iter_mut().zip(&mut events) {
                *place = packed;
                count += 1;
            }
            self.prefetch(&group[..count]);
            for packed in &group[..count] {
                if self.spent() >= self.slice_end && done.len() > begun {
                    return Ok(());
                }
                match self.store(now, *packed, charged.as_ref()) {
                    Ok(published) => done.push(published),
                    Err(PublishError::Refused { error, .. }) => done.push_refused(error),
                    // A later one may cost less.
                    Err(PublishError::Append(AppendRejection::RateLimited { seconds })) => {
                        done.push_refused(ApiError::RateLimited { seconds });
                    }
                    Err(PublishError::Append(rejection)) => return Err(rejection),
                }
            }
            if count < group.len() {
                return Ok(());
            }
        }
    }

    fn publish_pack(
        &mut self,
        origin: Origin,
        (pack, mut done, charged): (EventPack, PartOutcome, Option<Charged>),
        now: Timestamp,
    ) -> Worked {
        done.reserve(pack.len() - done.len());
        let refused = self.store_all(&pack, &mut done, (charged, now)).err();
        done.error = refused.and_then(|rejection| self.rejection(rejection));
        if done.error.is_none() && done.len() < pack.len() {
            let request = ShardRequest::Publish {
                pack,
                done,
                charged,
            };
            return Worked::pause(refused.is_some(), Envelope { origin, request });
        }
        self.hold(self.last_point(), origin, Reply::Published(done));
        Worked::Done
    }

    fn delete(
        &mut self,
        (id, terms): (&str, &[u8]),
        charged: Option<&Charged>,
        now: Timestamp,
    ) -> Result<(CommitPoint, Option<(uuid::Uuid, Sequence)>), PublishError> {
        let checked = self.check_rate(charged, 1);
        if checked.is_err() && self.engine.has(id)? {
            checked?;
        }
        self.spent += EVENT_UNITS + id.len() as u64;
        let event_id = self.ids.next(now.as_millis());
        let deleted = (id, event_id, terms);
        match self.engine.delete(&mut self.log, now, deleted)? {
            Some(sequence) => {
                if let Some(charged) = charged {
                    self.limiter.take(charged.as_str(), 1);
                }
                Ok((CommitPoint::at(sequence), Some((event_id, sequence))))
            }
            None => Ok((self.engine.absence_point(), None)),
        }
    }

    fn delete_many(
        &mut self,
        origin: Origin,
        (ids, mut done, charged): (Arc<[Box<str>]>, Vec<bool>, Option<Charged>),
        now: Timestamp,
    ) -> Worked {
        let (mut error, begun) = (None, done.len());
        while let Some(id) = ids.get(done.len()) {
            if self.spent() >= self.slice_end && done.len() > begun {
                let request = ShardRequest::DeleteMany { ids, done, charged };
                return Worked::Unfinished(Envelope { origin, request });
            }
            match self.delete((id, &[]), charged.as_ref(), now) {
                Ok((_, deleted)) => done.push(deleted.is_some()),
                Err(refused) => {
                    error = self.refusal(refused).map(|(error, _)| error);
                    if error.is_none() {
                        let request = ShardRequest::DeleteMany { ids, done, charged };
                        return Worked::Waits(Envelope { origin, request });
                    }
                    break;
                }
            }
        }
        self.hold(self.last_point(), origin, Reply::DeletedMany(done, error));
        Worked::Done
    }
}

/// The answer if a layer of the state can't be read. It is not withheld.
pub(super) const DAMAGED: (CommitPoint, Reply) =
    (CommitPoint::NONE, Reply::Refused(ApiError::StateDamaged));
