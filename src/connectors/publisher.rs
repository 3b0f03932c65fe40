//! Publishes what a poll found: events about what differs from the last time, as batches through
//! the service.
//!
//! The publisher remembers a hash of what it published last of each entity. It asks the state about
//! an entity that it does not remember, as it does about all of them after a restart.

use super::calls::Calls;
use super::exchange::PollError;
use crate::api::ApiError;
use crate::api::connectors::finding::Finding;
use crate::auth::Access;
use crate::limits::{POLL_ENTITIES_MAX, POLL_EVENTS_MAX};
use serde_json::Value;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;

/// Events that go to the shards at a time, so that no other producer waits for a thousand of them.
const CHUNK_EVENTS: usize = 100;
/// Bytes of their JSON at which fewer go.
const CHUNK_BYTES: usize = 256 * 1024;
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
    calls: Rc<Calls>,
    access: Access,
    stream: Box<str>,
    source: Box<str>,
    /// Hash of an entity's id → hash of the properties that were published last.
    last: HashMap<u64, u64>,
    hasher: RandomState,
}

impl Publisher {
    /// `access`: what the connector's owner may write. `name`: the connector's.
    pub(super) fn new(calls: Rc<Calls>, access: Access, stream: &str, name: &str) -> Self {
        Self {
            calls,
            access,
            stream: stream.into(),
            source: format!("connector/{name}").into(),
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
        let entity = self.calls.read(self.access, &finding.entity_id).await?;
        Ok(entity.is_some_and(|json| finding.is_in(&json)))
    }

    /// True if the next chunk may follow.
    async fn publish_chunk(&mut self, chunk: &[News], done: &mut Published) -> bool {
        let events: Vec<&str> = chunk.iter().map(|item| item.event.as_str()).collect();
        let body = format!("{{\"events\":[{}]}}", events.join(","));
        match self.calls.publish(self.access, body.as_bytes()).await {
            Ok(answer) => self.note(chunk, &answer, done),
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

/// A rejection of our own: it says itself when to try again.
fn of_server(error: &ApiError) -> PollError {
    PollError {
        message: format!("publishing failed: {error}"),
        retry_after: error
            .retry_after_seconds()
            .map(|seconds| std::time::Duration::from_secs(seconds.into())),
    }
}
