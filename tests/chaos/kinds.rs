//! What the clients ask for, and what each of them holds at the end.

use super::held::{Entities, Entity};
use super::support::http::percent_encoded;
use fastrand::Rng;
use serde_json::{Map, Value, json};

/// Namespaces in which most is published.
pub(crate) const NAMESPACES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];
/// Ids without a namespace.
pub(crate) const SINGLES: [&str; 2] = ["single-1", "single-2"];
/// Values of the property `status`.
pub(crate) const STATUSES: [&str; 3] = ["open", "busy", "done"];

const PATTERNS: [&str; 9] = [
    "*",
    "alpha/*",
    "beta/*",
    "gamma/*",
    "delta/*",
    "alpha/00*",
    "beta/003",
    "single-1",
    "single*",
];
pub(crate) const FILTERS: [&str; 3] = [
    r#"in(status,"open","busy")"#,
    "lt(n,500)",
    "not(exists(text))",
];
const SELECTION: [&str; 2] = ["n", "status"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Property,
    Entity,
    Event,
}

/// By which protocol a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front {
    WebSocket,
    /// Server-sent events.
    Stream,
    /// Long polling.
    Changes,
}

/// What one client asks for.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) front: Front,
    pub(crate) mode: Mode,
    pub(crate) pattern: &'static str,
    pub(crate) filter: Option<usize>,
    pub(crate) has_selection: bool,
    pub(crate) max_hz: Option<u32>,
    /// After a break it goes on from a cursor; else it begins with a snapshot.
    pub(crate) resumes: bool,
}

/// So many, of all modes, patterns and protocols.
pub(crate) fn all(count: usize, random: &mut Rng) -> Vec<Kind> {
    let modes = [Mode::Property, Mode::Entity, Mode::Event];
    let kind = |number: usize| {
        let front = match random.u32(..4) {
            0 => Front::Stream,
            1 => Front::Changes,
            _ => Front::WebSocket,
        };
        let mode = match (front, modes[number % 3]) {
            (Front::Changes, Mode::Property) => Mode::Entity,
            (_, mode) => mode,
        };
        let is_event = mode == Mode::Event;
        let option = random.u32(..6);
        Kind {
            front,
            mode,
            pattern: PATTERNS[number / 3 % PATTERNS.len()],
            filter: (!is_event && (option == 0 || option == 1))
                .then(|| random.usize(..FILTERS.len())),
            has_selection: option == 1 || option == 2,
            max_hz: (!is_event && option == 3 && front != Front::Changes)
                .then(|| random.u32(5..40)),
            resumes: is_event || front == Front::Changes || random.u32(..4) > 0,
        }
    };
    (0..count).map(kind).collect()
}

impl Kind {
    /// The members that it subscribes with, besides where it begins.
    pub(crate) fn options(&self) -> Map<String, Value> {
        let mode = match self.mode {
            Mode::Property => "property",
            Mode::Entity => "entity",
            Mode::Event => "event",
        };
        let mut options = Map::new();
        options.insert("mode".into(), json!(mode));
        if let Some(filter) = self.filter {
            options.insert("filter".into(), json!(FILTERS[filter]));
        }
        if self.has_selection {
            options.insert("properties".into(), json!(SELECTION));
        }
        if let Some(max_hz) = self.max_hz {
            options.insert("max_hz".into(), json!(max_hz));
        }
        options
    }

    /// The same as a query.
    pub(crate) fn query(&self) -> String {
        let mut query = format!("entity_id={}", percent_encoded(self.pattern));
        for (name, value) in self.options() {
            let value = match &value {
                Value::Array(names) => {
                    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
                    names.join(",")
                }
                Value::String(text) => percent_encoded(text),
                other => other.to_string(),
            };
            query.extend(["&", name.as_str(), "=", value.as_str()]);
        }
        query
    }

    /// True if an entity falls to it.
    pub(crate) fn concerns(&self, id: &str) -> bool {
        match self.pattern.strip_suffix('*') {
            Some(prefix) => id.starts_with(prefix),
            None => id == self.pattern,
        }
    }

    /// True if it is told of every change, and so of every version.
    pub(crate) fn knows_versions(&self) -> bool {
        self.mode == Mode::Entity && !self.has_selection
    }

    /// What it holds of entities, as they can be compared: in some modes nothing tells of an entity
    /// without properties.
    pub(crate) fn comparable(&self, entities: &Entities) -> Entities {
        let shows_empty = self.mode == Mode::Entity && !self.has_selection;
        let entities = entities.iter().map(|(id, entity)| {
            let mut properties = entity.properties.clone();
            if self.has_selection {
                properties.retain(|name, _| SELECTION.contains(&name.as_str()));
            }
            let version = entity.version.filter(|_| self.knows_versions());
            let entity = Entity {
                properties,
                version,
            };
            (id.clone(), entity)
        });
        entities
            .filter(|(id, entity)| {
                self.concerns(id)
                    && !id.starts_with("flux-core/")
                    && (shows_empty || !entity.properties.is_empty())
            })
            .collect()
    }

    /// True if it is told of an event of the history.
    pub(crate) fn selects(&self, row: &Value) -> bool {
        let payload = &row["payload"];
        let properties = payload["properties"].as_object().expect("properties");
        let is_selected = !self.has_selection
            || properties.get("__deleted__") == Some(&json!(true))
            || SELECTION.iter().any(|name| properties.contains_key(*name));
        is_selected && self.concerns(payload["entity_id"].as_str().expect("an id"))
    }
}
