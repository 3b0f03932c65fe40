//! An entity as a poll found it: compared with what was published before, and written as an event.
//!
//! Properties are kept as the text that the source sent, since numbers are published digit for
//! digit. Contents are compared by value, so that a source that changes the order of its members
//! publishes nothing.

use crate::api::json::write_string;
use serde_json::{Map, Value};
use std::hash::{BuildHasher, Hash as _, Hasher as _};

/// An entity as a poll found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its id, whole.
    pub entity_id: String,
    /// Its properties: a JSON object without white space.
    pub properties: String,
}

impl Finding {
    /// A hash of the properties. It does not depend on the order of their members.
    pub fn content_hash(&self, hasher: &impl BuildHasher) -> u64 {
        let mut state = hasher.build_hasher();
        match values(&self.properties) {
            Some(values) => values.hash(&mut state),
            None => self.properties.hash(&mut state),
        }
        state.finish()
    }

    /// True if all properties stand in `entity`, the JSON of an entity, with the same values.
    pub fn is_in(&self, entity: &[u8]) -> bool {
        let entity: Value = serde_json::from_slice(entity).unwrap_or_default();
        let known = entity.get("properties").and_then(Value::as_object);
        let (Some(known), Some(found)) = (known, values(&self.properties)) else {
            return false;
        };
        found
            .iter()
            .all(|(name, value)| known.get(name) == Some(value))
    }

    /// The JSON of an event that sets the properties.
    pub fn event(&self, stream: &str, source: &str) -> String {
        let mut out = Vec::with_capacity(self.properties.len().saturating_add(256));
        out.extend_from_slice(b"{\"stream\":");
        write_string(&mut out, stream);
        out.extend_from_slice(b",\"source\":");
        write_string(&mut out, source);
        out.extend_from_slice(b",\"payload\":{\"entity_id\":");
        write_string(&mut out, &self.entity_id);
        out.extend_from_slice(b",\"properties\":");
        out.extend_from_slice(self.properties.as_bytes());
        out.extend_from_slice(b"}}");
        String::from_utf8(out).expect("it is made of texts")
    }
}

fn values(properties: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(properties).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::RandomState;

    fn finding(properties: &str) -> Finding {
        Finding {
            entity_id: "a\"b".to_owned(),
            properties: properties.to_owned(),
        }
    }

    #[test]
    fn contents_are_compared_by_value() {
        let hasher = RandomState::new();
        let hash = |text: &str| finding(text).content_hash(&hasher);
        let first = hash(r#"{"a":{"x":1,"y":"\u0061"},"b":2.50}"#);
        assert_eq!(first, hash(r#"{"b":2.50,"a":{"y":"a","x":1}}"#));
        assert_ne!(
            first,
            hash(r#"{"b":2.5,"a":{"y":"a","x":1}}"#),
            "digits count"
        );
        let entity = br#"{"id":"x","properties":{"b":2.50,"c":1,"a":{"y":"a","x":1}}}"#;
        assert!(finding(r#"{"a":{"x":1,"y":"\u0061"},"b":2.50}"#).is_in(entity));
        assert!(!finding(r#"{"b":2.51}"#).is_in(entity));
        assert!(!finding(r#"{"d":null}"#).is_in(entity));
    }

    #[test]
    fn an_event_holds_the_properties_as_they_are() {
        assert_eq!(
            finding(r#"{"a":1e2}"#).event("s", "connector/x"),
            r#"{"stream":"s","source":"connector/x","payload":{"entity_id":"a\"b","properties":{"a":1e2}}}"#
        );
    }
}
