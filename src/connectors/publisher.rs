//! Publishes what a poll found: events about what differs from the last time, as batches through
//! the service.
//!
//! The publisher remembers a hash of what it published last of each entity. It asks the state about
//! an entity that it does not remember, as it does about all of them after a restart.

use super::calls::CallSender;
use super::exchange::PollError;
use super::memory::Held;
use crate::api::ApiError;
use crate::api::connectors::finding::Finding;
use crate::limits::{POLL_ENTITIES_MAX, POLL_EVENTS_MAX, POLL_SLICE_BYTES};
use serde_json::Value;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

/// Events that go to the shards at a time, so that no other producer waits for a thousand of them.
const CHUNK_EVENTS: usize = 100;
/// Bytes of their JSON at which no more are added: the supervisor decodes them, and control calls
/// are not to wait for that.
const CHUNK_BYTES: usize = 64 * 1024;
/// The code of events that are over the owner's rate.
const RATE_LIMITED: &str = "rate_limited";
const RATE_USED_UP: &str = "publishing failed: the namespace's rate limit is used up";
/// Characters of an entity's id that an error shows.
const ID_CHARACTERS_MAX: usize = 64;

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
    calls: CallSender,
    stream: Box<str>,
    source: Box<str>,
    /// Hash of an entity's id → hash of the properties that were published last.
    last: HashMap<u64, u64>,
    hasher: RandomState,
}

impl Publisher {
    /// `calls`: what the connector's owner may write. `name`: the connector's.
    pub(super) fn new(calls: CallSender, stream: &str, name: &str) -> Self {
        Self {
            calls,
            stream: stream.into(),
            source: format!("connector/{name}").into(),
            last: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// The entities that it remembers.
    pub(super) fn remembered(&self) -> usize {
        self.last.len()
    }

    /// Remembers nothing any more: of each entity the state is asked again.
    pub(super) fn forget(&mut self) {
        self.last = HashMap::new();
    }

    /// Publishes what is new. `held`: what the findings take of the poll's memory.
    pub(super) async fn publish(&mut self, findings: Vec<Finding>, held: &mut Held) -> Published {
        let mut done = Published::default();
        if self.last.len() > POLL_ENTITIES_MAX.saturating_mul(2) {
            // Of what is forgotten the state is asked again.
            self.forget();
        }
        let sizes = findings.iter().map(Finding::held_bytes);
        let mut bytes_left = sizes.fold(0_usize, usize::saturating_add);
        let mut chunk = Chunk::default();
        let (mut count, mut since_pause) = (0_usize, 0_usize);
        for finding in findings {
            held.shrink(bytes_left.saturating_add(chunk.bytes));
            bytes_left = bytes_left.saturating_sub(finding.held_bytes());
            since_pause = since_pause.saturating_add(finding.held_bytes());
            if since_pause >= POLL_SLICE_BYTES {
                since_pause = 0;
                tokio::task::yield_now().await;
            }
            let news = match self.news(finding).await {
                Ok(Some(news)) => news,
                Ok(None) => continue,
                Err(error) => {
                    done.error = Some(of_server(&error));
                    break;
                }
            };
            if count == POLL_EVENTS_MAX {
                done.more = true;
                break;
            }
            count = count.saturating_add(1);
            chunk.add(news);
            if chunk.is_full() && !self.publish_chunk(&mut chunk, &mut done).await {
                break;
            }
        }
        if done.error.is_none() && !chunk.news.is_empty() {
            self.publish_chunk(&mut chunk, &mut done).await;
        }
        done
    }

    /// `None` if nothing is new.
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
        let entity = self.calls.read(&finding.entity_id).await?;
        Ok(entity.is_some_and(|json| finding.is_in(&json)))
    }

    /// True if the next chunk may follow.
    async fn publish_chunk(&mut self, chunk: &mut Chunk, done: &mut Published) -> bool {
        let chunk = std::mem::take(chunk);
        let events: Vec<&str> = chunk.news.iter().map(|item| item.event.as_str()).collect();
        let body = format!("{{\"events\":[{}]}}", events.join(","));
        match self.calls.publish(body.into_bytes()).await {
            Ok(answer) => self.note(&chunk.news, &answer, done),
            Err(error) => done.error = Some(of_server(&error)),
        }
        done.error.is_none()
    }

    /// Takes the verdict on each event.
    fn note(&mut self, chunk: &[News], answer: &[u8], done: &mut Published) {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let results = answer.get("results").and_then(Value::as_array);
        for (item, result) in chunk.iter().zip(results.into_iter().flatten()) {
            if result.get("code") == Some(&RATE_LIMITED.into()) {
                done.error = Some(PollError::new(RATE_USED_UP));
                continue;
            }
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

/// Events that go to the shards together.
#[derive(Debug, Default)]
struct Chunk {
    news: Vec<News>,
    bytes: usize,
}

impl Chunk {
    fn add(&mut self, news: News) {
        self.bytes = self.bytes.saturating_add(news.event.len());
        self.news.push(news);
    }

    fn is_full(&self) -> bool {
        self.news.len() >= CHUNK_EVENTS || self.bytes >= CHUNK_BYTES
    }
}

/// A rejection of our own: it says itself when to try again.
fn of_server(error: &ApiError) -> PollError {
    PollError {
        message: format!("publishing failed: {error}"),
        retry_after: error
            .retry_after_seconds()
            .map(|seconds| std::time::Duration::from_secs(seconds.into())),
    }
}
