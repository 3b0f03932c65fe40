//! What one client wants and holds, over all of its connections.

use super::model::{Entity, Model, covers, place_of};
use crate::model::Cursor;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Property,
    Entity,
    Event,
}

/// What it asks for.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) mode: Mode,
    /// One, or several that overlap in mode `event`.
    pub(super) patterns: Vec<String>,
    pub(super) properties: Option<Vec<&'static str>>,
    pub(super) is_filtered: bool,
    pub(super) max_hz: Option<u32>,
    /// It begins with a snapshot, else with what is live.
    pub(super) snapshot: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Mind {
    pub(super) wish: Wish,
    /// By pattern, the places that it may resume at, the newest last.
    seen: Vec<Vec<String>>,
    /// By pattern, where its events begin.
    begins: Vec<Option<Cursor>>,
    state: BTreeMap<String, Entity>,
    /// Events that it has, by namespace and sequence.
    events: BTreeSet<(String, u64)>,
    /// The last event of each namespace on this connection.
    last: BTreeMap<String, u64>,
    /// The events of this connection.
    come: BTreeSet<(String, u64)>,
    /// Messages before the acknowledgement of a live subscription.
    early: Vec<Value>,
    /// By pattern.
    is_acknowledged: Vec<bool>,
    /// By pattern: what follows is live.
    is_live: Vec<bool>,
    /// Its connection is of no use to it any more.
    is_lost: bool,
}

impl Mind {
    pub(super) fn new(wish: Wish) -> Self {
        let count = wish.patterns.len();
        Self {
            wish,
            seen: vec![Vec::new(); count],
            begins: vec![None; count],
            state: BTreeMap::new(),
            events: BTreeSet::new(),
            last: BTreeMap::new(),
            come: BTreeSet::new(),
            early: Vec::new(),
            is_acknowledged: vec![false; count],
            is_live: vec![false; count],
            is_lost: false,
        }
    }

    /// It connects: the messages with which it subscribes.
    pub(super) fn connect(&mut self, random: &mut fastrand::Rng) -> Vec<Value> {
        self.last.clear();
        self.come.clear();
        self.early.clear();
        self.is_acknowledged.fill(false);
        self.is_live.fill(false);
        self.is_lost = false;
        let wish = &self.wish;
        let mut messages = Vec::new();
        for (number, pattern) in wish.patterns.iter().enumerate() {
            let mode = match wish.mode {
                Mode::Property => "property",
                Mode::Entity => "entity",
                Mode::Event => "event",
            };
            let mut message =
                json!({"type": "subscribe", "id": number, "entity_id": pattern, "mode": mode});
            if let Some(names) = &wish.properties {
                message["properties"] = json!(names);
            }
            if wish.is_filtered {
                message["filter"] = json!("eq(s,\"on\")");
            }
            if let Some(max_hz) = wish.max_hz {
                message["max_hz"] = json!(max_hz);
            }
            let seen = &mut self.seen[number];
            if let Some(newest) = seen.len().checked_sub(1) {
                let any = random.usize(..seen.len());
                let place = if random.bool() { newest } else { any };
                message["since"] = json!(seen[place]);
                // Until it has caught up what it holds may be older than what it held.
                seen.truncate(place + 1);
            } else if wish.snapshot {
                message["snapshot"] = json!(true);
                self.state.clear();
            }
            messages.push(message);
        }
        messages
    }

    /// True once all that it missed has come.
    pub(super) fn is_live(&self) -> bool {
        self.is_live.iter().all(|is_live| *is_live)
    }

    /// True if its connection is of no use to it any more.
    pub(super) const fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// A message has arrived.
    pub(super) fn take(&mut self, model: &Model, message: &Value) {
        let number = message["id"]
            .as_u64()
            .map(|id| usize::try_from(id).unwrap());
        let cursor = message["cursor"].as_str();
        match message["type"].as_str().unwrap() {
            "ack" => self.acknowledged(model, (number.unwrap(), cursor.unwrap())),
            "snapshot_end" | "caught_up" => {
                self.see(number.unwrap(), cursor.unwrap());
                self.is_live[number.unwrap()] = true;
            }
            "cursor" => {
                for number in 0..self.seen.len() {
                    let is_under_way = self.is_acknowledged[number] && !self.is_live[number];
                    assert!(!is_under_way, "a cursor comes while {number} catches up");
                    if self.is_live[number] {
                        self.see(number, cursor.unwrap());
                    }
                }
            }
            "resync" => {
                assert_ne!(self.wish.mode, Mode::Event);
                // Whoever has forgotten its state has no place to go on at either.
                self.state.clear();
                self.seen[0].clear();
                self.wish.snapshot = true;
            }
            "error" if message["code"] == "history_removed" => self.begin_anew(),
            "error" => {
                let code = message["code"].as_str().unwrap();
                assert!(["not_ready", "overloaded"].contains(&code), "{message}");
                self.is_lost = true;
            }
            "snapshot" => {
                for entity in message["entities"].as_array().unwrap() {
                    let id = entity["id"].as_str().unwrap().to_owned();
                    let properties = properties_of(&entity["properties"]);
                    let version = entity["version"].as_u64().unwrap();
                    self.state.insert(id, (version, properties));
                }
            }
            "event" => self.event(model, message),
            _ if self.is_early() => self.early.push(message.clone()),
            _ => self.change(message),
        }
    }

    fn is_early(&self) -> bool {
        !self.wish.snapshot && self.seen[0].is_empty()
    }

    fn see(&mut self, number: usize, cursor: &str) {
        self.seen[number].push(cursor.to_owned());
        if self.seen[number].len() > 8 {
            self.seen[number].remove(0);
        }
    }

    fn acknowledged(&mut self, model: &Model, (number, text): (usize, &str)) {
        let cursor = Cursor::parse(text).unwrap();
        self.is_acknowledged[number] = true;
        if self.wish.snapshot && self.wish.mode != Mode::Event || !self.seen[number].is_empty() {
            // Its place is where it resumed, until it has what it missed.
            return;
        }
        if self.wish.mode == Mode::Event {
            // What came before, on a connection that ended too early, is not asked for again.
            self.begins[number] = Some(cursor);
            if self.wish.snapshot {
                return;
            }
        } else {
            self.state = self.shown(model.state(&self.wish.patterns[0], Some(&cursor)));
            for message in std::mem::take(&mut self.early) {
                let entity = message["entity_id"].as_str().unwrap();
                if message["sequence"].as_u64().unwrap() > place_of(&cursor, entity) {
                    self.change(&message);
                }
            }
        }
        self.see(number, text);
        self.is_live[number] = true;
    }

    /// It has to begin as if it had never been here.
    fn begin_anew(&mut self) {
        *self = Self::new(self.wish.clone());
        self.is_lost = true;
    }

    fn event(&mut self, model: &Model, message: &Value) {
        let entity = match message["payload"]["entity_id"].as_str() {
            Some(entity) => entity,
            None => message["entity_id"].as_str().unwrap(),
        };
        let sequence = message["sequence"].as_u64().unwrap();
        let namespace = crate::model::placement_key(entity).to_owned();
        let fact = model.fact(entity, sequence).unwrap();
        assert!(self.selects(fact.is_tombstone, &fact.names), "{message}");
        let is_new = self.come.insert((namespace.clone(), sequence));
        assert!(
            is_new,
            "{entity} of {sequence} comes twice: {:?}",
            self.wish
        );
        let last = self.last.entry(namespace.clone()).or_default();
        // One subscription may be told of what is live before another has begun.
        let is_next = *last < sequence || self.wish.patterns.len() > 1;
        assert!(
            is_next,
            "{entity} of {sequence} comes after {last}: {:?}",
            self.wish
        );
        *last = sequence;
        self.events.insert((namespace, sequence));
    }

    fn selects(&self, is_tombstone: bool, names: &[String]) -> bool {
        let selected = self.wish.properties.as_ref();
        let is_selected =
            |name: &String| selected.is_none_or(|selected| selected.contains(&name.as_str()));
        is_tombstone || selected.is_none() || names.iter().any(is_selected)
    }

    fn change(&mut self, message: &Value) {
        let id = message["entity_id"].as_str().unwrap().to_owned();
        if id.starts_with("flux-core/") {
            return;
        }
        let covered = self.wish.patterns.iter().any(|it| covers(it, &id));
        assert!(covered, "{message} for {:?}", self.wish);
        if message["matches"] == false || message["type"] == "entity_deleted" {
            self.state.remove(&id);
            return;
        }
        let (version, properties) = self.state.entry(id).or_default();
        match message["type"].as_str().unwrap() {
            "entity" => {
                if message["whole"] == true {
                    properties.clear();
                }
                *version = message["version"].as_u64().unwrap();
                properties.extend(properties_of(&message["properties"]));
                for name in message["removed"].as_array().unwrap() {
                    properties.remove(name.as_str().unwrap());
                }
            }
            "state_update" => {
                let name = message["property"].as_str().unwrap();
                if message["removed"] == true {
                    properties.remove(name);
                } else {
                    properties.insert(name.to_owned(), message["value"].to_string());
                }
            }
            _ => panic!("{message}"),
        }
    }

    /// What it is shown of a state.
    fn shown(&self, state: BTreeMap<String, Entity>) -> BTreeMap<String, Entity> {
        let on = |(_, (_, properties)): &(String, Entity)| {
            !self.wish.is_filtered || properties.get("s").is_some_and(|it| it == "\"on\"")
        };
        let cut = |(id, (version, mut properties)): (String, Entity)| {
            if let Some(names) = &self.wish.properties {
                properties.retain(|name, _| names.contains(&name.as_str()));
            }
            (id, (version, properties))
        };
        state.into_iter().filter(on).map(cut).collect()
    }

    /// All is quiet: it holds what the model says.
    pub(super) fn check(&self, model: &mut Model) {
        model.checks += 1;
        if self.wish.mode == Mode::Event {
            self.check_events(model);
            return;
        }
        let expected = self.shown(model.state(&self.wish.patterns[0], None));
        // The version moves also where nothing is shown, and no empty entity shows by property.
        let knows_versions = self.wish.mode == Mode::Entity && self.wish.properties.is_none();
        let comparable = |state: &BTreeMap<String, Entity>| -> BTreeMap<String, Entity> {
            let entities = state.iter().filter(|(id, (_, properties))| {
                !id.starts_with("flux-core/") && (knows_versions || !properties.is_empty())
            });
            let version = |version: u64| if knows_versions { version } else { 0 };
            let entities = entities.map(|(id, entity)| {
                let properties = entity.1.iter();
                let short = properties.map(|(name, value)| (name.clone(), shortened(value)));
                (id.clone(), (version(entity.0), short.collect()))
            });
            entities.collect()
        };
        let (held, expected) = (comparable(&self.state), comparable(&expected));
        for id in held.keys().chain(expected.keys()) {
            assert_eq!(held.get(id), expected.get(id), "{id} {:?}", self.wish);
        }
    }

    fn check_events(&self, model: &Model) {
        let mut expected = BTreeSet::new();
        for (pattern, begins) in self.wish.patterns.iter().zip(&self.begins) {
            let Some(begins) = begins else {
                panic!("{pattern} is live without a beginning: {self:?}");
            };
            for fact in model.facts(pattern) {
                let is_after = fact.sequence > place_of(begins, &fact.entity);
                if is_after && self.selects(fact.is_tombstone, &fact.names) {
                    let namespace = crate::model::placement_key(&fact.entity).to_owned();
                    expected.insert((namespace, fact.sequence));
                }
            }
        }
        let missing: Vec<_> = expected.difference(&self.events).take(5).collect();
        assert!(
            missing.is_empty(),
            "{missing:?} never came: {:?}",
            self.wish
        );
    }
}

fn shortened(value: &str) -> String {
    value.chars().take(40).collect()
}

fn properties_of(json: &Value) -> BTreeMap<String, String> {
    let properties = json.as_object().unwrap().iter();
    properties
        .map(|(name, value)| (name.clone(), value.to_string()))
        .collect()
}
