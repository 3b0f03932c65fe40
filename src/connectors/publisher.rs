//! What a poll found → events about what differs from the last time → the shards, as any producer's
//! batch.
//!
//! What was published last is remembered as a hash for each entity. Of an entity that is not
//! remembered, after a restart most of all, the state says whether there is anything new.

use super::exchange::PollError;
use crate::api::ApiError;
use crate::api::batch::{BatchContext, BatchPlan, PartOutcome};
use crate::api::connectors::finding::Finding;
use crate::api::event::{EventDecoder, EventIds};
use crate::auth::{Access, Denied};
use crate::clock;
use crate::limits::{POLL_ENTITIES_MAX, POLL_EVENTS_MAX};
use crate::model::{Timestamp, place};
use crate::shard::{Envelope, MailboxSender, Message, Origin, Reply, RequestId, ShardRequest};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use tokio::sync::{Notify, oneshot};

/// Events that go to the shards at a time, so that no other producer waits for a thousand of them.
const CHUNK_EVENTS: usize = 100;
/// Bytes of their JSON at which fewer go.
const CHUNK_BYTES: usize = 256 * 1024;
/// Characters of an entity's id that an error shows.
const ID_CHARACTERS_MAX: usize = 64;

/// The way to the shards, for all polls together.
#[derive(Debug)]
pub(super) struct Shards {
    sender: RefCell<MailboxSender>,
    waiting: RefCell<HashMap<u32, oneshot::Sender<Reply>>>,
    next_slot: RefCell<u32>,
    /// Told where a poll has left a message that had no room.
    crowded: Notify,
    /// This thread's place among the members of the mailboxes.
    /// They are the members before it, so this is also their number.
    core: u16,
}

impl Shards {
    /// `core`: this thread's place among the members of the mailboxes, behind those of the shards.
    pub(super) fn new(sender: MailboxSender, core: u16) -> Self {
        Self {
            sender: RefCell::new(sender),
            waiting: RefCell::default(),
            next_slot: RefCell::new(0),
            crowded: Notify::new(),
            core,
        }
    }

    /// This thread's place among the members of the mailboxes.
    pub(super) fn core(&self) -> u16 {
        self.core
    }

    /// Sends what is owed to a core.
    pub(super) fn send(&self, core: u16, message: Message) {
        self.sender.borrow_mut().send(core, message);
    }

    /// Sends what was kept. True where some of it has no room yet.
    pub(super) fn deliver_kept(&self) -> bool {
        self.sender.borrow_mut().deliver()
    }

    /// Waits until a poll has left a message that had no room, for somebody to
    /// [`Shards::deliver_kept`].
    pub(super) async fn crowded(&self) {
        self.crowded.notified().await;
    }

    /// A shard's reply has come.
    pub(super) fn deliver(&self, request_id: RequestId, reply: Reply) {
        if let Some(waiting) = self.waiting.borrow_mut().remove(&request_id.serial) {
            match waiting.send(reply) {
                // The poll that asked was ended meanwhile.
                Ok(()) | Err(_) => {}
            }
        }
    }

    async fn ask(&self, shard: u16, request: ShardRequest) -> Reply {
        let Some(reply) = self.post(shard, request) else {
            return Reply::Refused(ApiError::Overloaded);
        };
        reply
            .await
            .unwrap_or(Reply::Refused(ApiError::ShuttingDown))
    }

    fn post(&self, shard: u16, request: ShardRequest) -> Option<oneshot::Receiver<Reply>> {
        let mut sender = self.sender.borrow_mut();
        if !sender.has_room(shard) {
            return None;
        }
        let slot = {
            let mut next = self.next_slot.borrow_mut();
            *next = next.wrapping_add(1);
            *next
        };
        let (reply, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(slot, reply);
        let origin = Origin {
            core: self.core,
            request_id: RequestId {
                connection: 0,
                generation: 0,
                serial: slot,
            },
        };
        sender.send(shard, Message::Request(Envelope { origin, request }));
        if sender.deliver() {
            self.crowded.notify_one();
        }
        Some(receiver)
    }
}

/// What became of a poll's findings.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Events that the shards have acknowledged.
    pub(super) events: u64,
    /// Events that were refused for what they are.
    refused: u64,
    /// The first of them, and why.
    first_refused: Option<String>,
    /// Why the rest was not published.
    pub(super) error: Option<PollError>,
    /// Something is left for the next poll.
    pub(super) more: bool,
}

impl Published {
    /// The refused events, for `last_error`; `None` if there are none.
    pub(super) fn rejected(&self) -> Option<String> {
        let first = self.first_refused.as_ref()?;
        let count = self.refused;
        let events = if count == 1 {
            "event was"
        } else {
            "events were"
        };
        Some(format!("{count} {events} refused: {first}"))
    }
}

/// Publishes for one connector.
#[derive(Debug)]
pub(super) struct Publisher {
    shards: Rc<Shards>,
    access: Access,
    stream: Box<str>,
    source: Box<str>,
    decoder: EventDecoder,
    ids: EventIds,
    /// Hash of an entity's id → hash of the properties that were published last.
    last: HashMap<u64, u64>,
    hasher: RandomState,
}

impl Publisher {
    /// `access`: what the connector's owner may write. `name`: the connector's.
    pub(super) fn new(shards: Rc<Shards>, access: Access, stream: &str, name: &str) -> Self {
        Self {
            shards,
            access,
            stream: stream.into(),
            source: format!("connector/{name}").into(),
            decoder: EventDecoder::default(),
            ids: EventIds::new(fastrand::u64(..)),
            last: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// Publishes what is new.
    pub(super) async fn publish(&mut self, findings: Vec<Finding>) -> Published {
        let mut done = Published::default();
        if self.last.len() > POLL_ENTITIES_MAX.saturating_mul(2) {
            // Of what is forgotten the state is asked again.
            self.last.clear();
        }
        let mut news = Vec::new();
        for finding in findings {
            match self.news(finding).await {
                Ok(Some(item)) => news.push(item),
                Ok(None) => {}
                Err(error) => {
                    done.error = Some(of_server(&error));
                    return done;
                }
            }
        }
        done.more = news.len() > POLL_EVENTS_MAX;
        news.truncate(POLL_EVENTS_MAX);
        let mut rest = news.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0_usize;
            let fits = |item: &&News| {
                let is_first = bytes == 0;
                bytes = bytes.saturating_add(item.event.len());
                is_first || bytes <= CHUNK_BYTES
            };
            let count = rest.iter().take(CHUNK_EVENTS).take_while(fits).count();
            let (chunk, behind) = rest.split_at(count.max(1));
            let goes_on = self.publish_chunk(chunk, &mut done).await;
            if !goes_on {
                break;
            }
            rest = behind;
        }
        done
    }

    /// `None` where nothing is new.
    async fn news(&mut self, finding: Finding) -> Result<Option<News>, ApiError> {
        let id_hash = self.hasher.hash_one(&finding.entity_id);
        let content_hash = finding.content_hash(&self.hasher);
        match self.last.get(&id_hash) {
            Some(known) if *known == content_hash => return Ok(None),
            Some(_) => {}
            None => {
                if self.is_in_state(&finding).await? {
                    self.last.insert(id_hash, content_hash);
                    return Ok(None);
                }
            }
        }
        Ok(Some(News {
            id_hash,
            content_hash,
            event: finding.event(&self.stream, &self.source),
            entity_id: finding.entity_id,
        }))
    }

    /// Whether the state says all of this already.
    async fn is_in_state(&self, finding: &Finding) -> Result<bool, ApiError> {
        let request = ShardRequest::Read {
            id: finding.entity_id.as_str().into(),
            fields: None,
        };
        let shard = place(&finding.entity_id, self.shards.core);
        match self.shards.ask(shard, request).await {
            Reply::Entity(Some((json, _))) => Ok(finding.is_in(&json)),
            Reply::Refused(error) => Err(error),
            _ => Ok(false),
        }
    }

    /// True where the next chunk may follow.
    async fn publish_chunk(&mut self, chunk: &[News], done: &mut Published) -> bool {
        let events: Vec<&str> = chunk.iter().map(|item| item.event.as_str()).collect();
        let body = format!("{{\"events\":[{}]}}", events.join(","));
        let access = self.access;
        let count = self.shards.core;
        let now: Timestamp = clock::now();
        let mut context = BatchContext {
            now_ms: now.as_millis(),
            decoder: &mut self.decoder,
            ids: &mut self.ids,
            shards: usize::from(count),
            place: |id: &str| {
                access.may_publish(id).map_err(|denied| match denied {
                    Denied::NoNamespace => ApiError::NamespaceRequired,
                    Denied::NotOwner => ApiError::NotOwner,
                })?;
                Ok(place(id, count))
            },
        };
        let mut plan = match BatchPlan::decode(body.as_bytes(), &mut context) {
            Ok(plan) => plan,
            Err(error) => {
                done.error = Some(of_server(&error));
                return false;
            }
        };
        let packs = std::mem::take(&mut plan.packs);
        let mut outcomes = vec![PartOutcome::default(); packs.len()];
        for ((shard, pack), outcome) in (0..count).zip(packs).zip(&mut outcomes) {
            if pack.is_empty() {
                continue;
            }
            let request = ShardRequest::Publish {
                pack,
                done: 0,
                charged: access.charged(),
            };
            match self.shards.ask(shard, request).await {
                Reply::Published(part) => *outcome = part,
                Reply::Refused(error) => outcome.error = Some(error),
                _ => outcome.error = Some(ApiError::Overloaded),
            }
        }
        let mut answer = Vec::new();
        plan.answer(&outcomes, &mut answer);
        self.note(chunk, &answer, done);
        match outcomes.iter().find_map(|outcome| outcome.error.as_ref()) {
            Some(error) => {
                done.error = Some(of_server(error));
                false
            }
            None => true,
        }
    }

    /// Takes the verdict on each event.
    fn note(&mut self, chunk: &[News], answer: &[u8], done: &mut Published) {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let results = answer.get("results").and_then(Value::as_array);
        for (item, result) in chunk.iter().zip(results.into_iter().flatten()) {
            match result.get("error") {
                None => {
                    self.last.insert(item.id_hash, item.content_hash);
                    done.events = done.events.saturating_add(1);
                }
                Some(error) => {
                    done.refused = done.refused.saturating_add(1);
                    done.first_refused.get_or_insert_with(|| {
                        let error = error.as_str().unwrap_or_default();
                        let id: String = item.entity_id.chars().take(ID_CHARACTERS_MAX).collect();
                        format!("`{id}`: {error}")
                    });
                }
            }
        }
    }
}

/// An event that is to be published.
#[derive(Debug)]
struct News {
    id_hash: u64,
    content_hash: u64,
    event: String,
    entity_id: String,
}

/// A refusal of our own: it says itself when to try again.
fn of_server(error: &ApiError) -> PollError {
    PollError {
        message: format!("publishing failed: {error}"),
        retry_after: error
            .retry_after_seconds()
            .map(|seconds| std::time::Duration::from_secs(seconds.into())),
    }
}
