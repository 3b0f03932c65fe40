//! What a client holds, message by message, as `docs/STREAMS.md` tells clients to do it; and what
//! no message may say.

use super::kinds::{Kind, Mode};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};

/// Cursors that a client remembers: it resumes at any of them.
const CURSORS_KEPT: usize = 4;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entity {
    pub(crate) properties: Map<String, Value>,
    /// As far as the client is told.
    pub(crate) version: Option<u64>,
}

pub(crate) type Entities = BTreeMap<String, Entity>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) entities: Entities,
    /// The entities of a snapshot, until it ends.
    pages: Option<Entities>,
    cursors: VecDeque<String>,
    /// Of server-sent events: the last `id:`.
    pub(crate) last_id: Option<String>,
    /// Nothing is to be caught up.
    pub(crate) is_current: bool,
    /// Mode `event`: by namespace, the sequence and the id of each event since the last look.
    pub(crate) events: BTreeMap<String, Vec<(u64, String)>>,
    /// The last of them.
    handled: BTreeMap<String, u64>,
    /// On this connection, the last sequence of each namespace (mode `event`) or entity.
    told: BTreeMap<String, u64>,
    asked_since: bool,
    /// The last event that each connection showed: entity and sequence.
    pub(crate) seen: Vec<(String, u64)>,
    last_seen: Option<(String, u64)>,
    pub(crate) connections: u64,
    pub(crate) messages: u64,
    pub(crate) repeats: u64,
    pub(crate) resyncs: u64,
    /// What was said and may not be.
    pub(crate) wrong: Option<String>,
}

/// With what a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Live,
    Snapshot,
    Since,
}

impl Start {
    /// That of a client, if it has a cursor or has none.
    pub(crate) fn of(kind: &Kind, cursor: Option<&String>) -> Self {
        match (cursor, kind.mode) {
            (Some(_), _) => Self::Since,
            (None, Mode::Event) => Self::Live,
            (None, _) => Self::Snapshot,
        }
    }
}

/// The subscription is not there.
#[derive(Debug)]
pub(crate) struct Refused;

pub(crate) fn namespace_of(id: &str) -> &str {
    id.split('/').next().unwrap_or(id)
}

impl Held {
    /// A cursor that it may resume at; `pick` chooses, the newest is 0.
    pub(crate) fn cursor(&self, pick: usize) -> Option<String> {
        let cursor = self.cursors.get(pick).or_else(|| self.cursors.front());
        cursor.cloned()
    }

    /// Goes back to a cursor as [`Held::cursor`] chooses it. Until it has caught up what it holds
    /// may be older than what it held, so the newer ones are no places for it any more.
    pub(crate) fn go_back(&mut self, pick: usize) -> Option<String> {
        let cursor = self.cursor(pick)?;
        while self.cursors.front().is_some_and(|newest| *newest != cursor) {
            self.cursors.pop_front();
        }
        Some(cursor)
    }

    /// A new connection.
    pub(crate) fn begin(&mut self, start: Start) {
        self.end();
        self.connections += 1;
        self.told.clear();
        self.asked_since = start == Start::Since;
        self.pages = (start == Start::Snapshot).then(Entities::new);
    }

    /// An answer that holds all changes up to its cursor. It may repeat what an answer before it
    /// held, if that was lost.
    pub(crate) fn take_changes(&mut self, kind: &Kind, answer: &Value) -> Result<(), Refused> {
        self.told.clear();
        for message in answer["changes"].as_array().into_iter().flatten() {
            self.take(kind, message)?;
        }
        self.keep_cursor(answer);
        self.is_current = answer["more"] == json!(false);
        Ok(())
    }

    /// The connection is gone.
    pub(crate) fn end(&mut self) {
        self.is_current = false;
        self.seen.extend(self.last_seen.take());
    }

    /// Takes a message.
    pub(crate) fn take(&mut self, kind: &Kind, message: &Value) -> Result<(), Refused> {
        self.messages += 1;
        match message["type"].as_str().unwrap_or_default() {
            "ack" if kind.mode == Mode::Event && !self.asked_since => self.keep_cursor(message),
            "ack" => {}
            "snapshot" => self.take_page(kind, message),
            "snapshot_end" => {
                match self.pages.take() {
                    Some(pages) => self.entities = pages,
                    None => self.complain("no snapshot was begun", message),
                }
                self.keep_cursor(message);
            }
            "caught_up" | "cursor" => {
                if self.pages.is_some() {
                    self.complain("a cursor within a snapshot", message);
                }
                self.keep_cursor(message);
            }
            "resync" => {
                self.resyncs += 1;
                self.pages = Some(Entities::new());
            }
            "entity" | "entity_deleted" | "state_update" => self.change(kind, message),
            "event" => self.take_event(message),
            "error" if message["code"] == "overloaded" => return Err(Refused),
            _ => {
                self.complain("unexpected", message);
                return Err(Refused);
            }
        }
        Ok(())
    }

    /// Takes a server-sent event as an `EventSource` does: an `id:` counts also without data, and
    /// an empty one takes back the one before.
    pub(crate) fn take_dispatched(
        &mut self,
        kind: &Kind,
        id: Option<String>,
        data: Option<&str>,
    ) -> Result<(), Refused> {
        if let Some(id) = id {
            self.last_id = Some(id).filter(|id| !id.is_empty());
        }
        let Some(data) = data else { return Ok(()) };
        let message = serde_json::from_str(data);
        self.take(kind, &message.unwrap_or_else(|_| panic!("no JSON: {data}")))
    }

    pub(crate) fn complain(&mut self, what: &str, message: &Value) {
        let wrong = || format!("{what}: {message}");
        self.wrong.get_or_insert_with(wrong);
    }

    fn keep_cursor(&mut self, message: &Value) {
        self.is_current = true;
        match message["cursor"].as_str() {
            None => self.complain("no cursor", message),
            Some(cursor) => {
                self.cursors.push_front(cursor.to_owned());
                self.cursors.truncate(CURSORS_KEPT);
            }
        }
    }

    fn take_page(&mut self, kind: &Kind, message: &Value) {
        let Some(pages) = &mut self.pages else {
            return self.complain("a page that was not asked for", message);
        };
        for entity in message["entities"].as_array().into_iter().flatten() {
            let id = entity["id"].as_str().unwrap_or_default().to_owned();
            let properties = entity["properties"].as_object();
            let held = Entity {
                properties: properties.cloned().unwrap_or_default(),
                version: entity["version"].as_u64().filter(|_| kind.knows_versions()),
            };
            pages.insert(id, held);
        }
    }

    fn change(&mut self, kind: &Kind, message: &Value) {
        let id = message["entity_id"].as_str().unwrap_or_default().to_owned();
        let is_gone = message["type"] == "entity_deleted" || message["matches"] == json!(false);
        if let Some(sequence) = message["sequence"].as_u64() {
            self.note(&id, sequence, message);
            if !is_gone {
                self.last_seen = Some((id.clone(), sequence));
            }
        }
        let entities = self.pages.as_mut().unwrap_or(&mut self.entities);
        if is_gone {
            entities.remove(&id);
            return;
        }
        let entity = entities.entry(id).or_insert_with(|| Entity {
            properties: Map::new(),
            version: None,
        });
        if message["whole"] == json!(true) {
            entity.properties.clear();
        }
        if let Some(property) = message["property"].as_str() {
            if message["removed"] == json!(true) {
                entity.properties.remove(property);
            } else {
                entity
                    .properties
                    .insert(property.to_owned(), message["value"].clone());
            }
            return;
        }
        for name in message["removed"].as_array().into_iter().flatten() {
            entity.properties.remove(name.as_str().unwrap_or_default());
        }
        let properties = message["properties"].as_object();
        entity
            .properties
            .extend(properties.cloned().into_iter().flatten());
        entity.version = message["version"]
            .as_u64()
            .filter(|_| kind.knows_versions());
    }

    /// Live, an entity's sequence rises with each message of a connection.
    fn note(&mut self, id: &str, sequence: u64, message: &Value) {
        let before = self.told.insert(id.to_owned(), sequence);
        let is_live = self.is_current && message["whole"] != json!(true);
        if is_live && before.is_some_and(|before| before >= sequence) {
            self.complain("told twice, or back in time", message);
        }
    }

    fn take_event(&mut self, message: &Value) {
        let payload = &message["payload"];
        let id = payload["entity_id"].as_str().unwrap_or_default();
        let namespace = namespace_of(id).to_owned();
        let sequence = message["sequence"].as_u64().unwrap_or_default();
        let event_id = message["eventId"].as_str().unwrap_or_default().to_owned();
        let tag = payload["properties"]["tag"].as_str();
        if tag.is_some_and(|tag| tag != event_id) {
            self.complain("an event with the properties of another", message);
        }
        let before = self.told.insert(namespace.clone(), sequence);
        if before.is_some_and(|before| before >= sequence) {
            self.complain("an event twice on a connection, or back in time", message);
        }
        self.last_seen = Some((id.to_owned(), sequence));
        let handled = self.handled.entry(namespace.clone()).or_default();
        if sequence <= *handled {
            self.repeats += 1;
            return;
        }
        *handled = sequence;
        self.events
            .entry(namespace)
            .or_default()
            .push((sequence, event_id));
    }
}
