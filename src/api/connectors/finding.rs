//! An entity as a poll found it: compared with what was published before, and written as an event.
//!
//! Properties are kept as the text that the source sent, since numbers are published digit for
//! digit. Contents are compared by value, so that a source that changes the order of its members
//! publishes nothing. Hashes of the values are compared, so no tree of them is made.

use crate::api::json::{JsonError, JsonStr, Kind, Scanner, write_string};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash as _, Hasher, RandomState};

/// An entity as a poll found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its id, whole.
    pub entity_id: String,
    /// Its properties: a JSON object without white space.
    pub properties: String,
}

impl Finding {
    /// Bytes of memory that it takes, about.
    pub fn held_bytes(&self) -> usize {
        let texts = self.entity_id.len().saturating_add(self.properties.len());
        // Itself, its place among others, and what an allocation takes besides.
        texts.saturating_add(size_of::<Self>().saturating_mul(2))
    }

    /// A hash of the properties. It does not depend on the order of their members.
    pub fn content_hash(&self, hasher: &impl BuildHasher) -> u64 {
        let mut state = hasher.build_hasher();
        if hash_text(&self.properties, &mut state, hasher).is_err() {
            self.properties.hash(&mut state);
        }
        state.finish()
    }

    /// True if all properties stand in `entity`, the JSON of an entity, with the same values.
    pub fn is_in(&self, entity: &[u8]) -> bool {
        let hasher = RandomState::new();
        let (found, known) = (
            members(self.properties.as_bytes(), None, &hasher),
            members(entity, Some("properties"), &hasher),
        );
        let (Ok(found), Ok(known)) = (found, known) else {
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

/// The members of the object that `text` is, or of its member `within`: hash of the name → hash of
/// the value. Empty if there is no such object.
fn members(
    text: &[u8],
    within: Option<&str>,
    hasher: &RandomState,
) -> Result<HashMap<u64, u64>, JsonError> {
    let mut scanner = Scanner::new(text)?;
    let mut found = HashMap::new();
    scanner.begin_object()?;
    while let Some(key) = scanner.next_key()? {
        match within {
            Some(name) if key.to_cow() == name && scanner.kind()? == Kind::Object => {
                scanner.begin_object()?;
                while let Some(key) = scanner.next_key()? {
                    add_member(key, &mut scanner, &mut found, hasher)?;
                }
            }
            Some(_) => {
                scanner.raw_value()?;
            }
            None => add_member(key, &mut scanner, &mut found, hasher)?,
        }
    }
    Ok(found)
}

fn add_member(
    key: JsonStr<'_>,
    scanner: &mut Scanner<'_>,
    found: &mut HashMap<u64, u64>,
    hasher: &RandomState,
) -> Result<(), JsonError> {
    let mut state = hasher.build_hasher();
    hash_value(scanner, &mut state, hasher)?;
    found.insert(hasher.hash_one(key.to_cow()), state.finish());
    Ok(())
}

fn hash_text(
    text: &str,
    state: &mut impl Hasher,
    hasher: &impl BuildHasher,
) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(text.as_bytes())?;
    hash_value(&mut scanner, state, hasher)
}

/// Hashes a value: the same for members in another order and for texts that are escaped otherwise,
/// another for other digits. Recursion ends with the text's nesting, which the scanner bounds.
fn hash_value(
    scanner: &mut Scanner<'_>,
    state: &mut impl Hasher,
    hasher: &impl BuildHasher,
) -> Result<(), JsonError> {
    match scanner.kind()? {
        Kind::Object => {
            scanner.begin_object()?;
            let (mut sum, mut count) = (0_u64, 0_u64);
            while let Some(key) = scanner.next_key()? {
                let mut member = hasher.build_hasher();
                key.to_cow().hash(&mut member);
                hash_value(scanner, &mut member, hasher)?;
                sum = sum.wrapping_add(member.finish());
                count = count.saturating_add(1);
            }
            state.write_u8(b'{');
            state.write_u64(count);
            state.write_u64(sum);
        }
        Kind::Array => {
            state.write_u8(b'[');
            scanner.begin_array()?;
            while scanner.next_element()? {
                hash_value(scanner, state, hasher)?;
            }
            state.write_u8(b']');
        }
        Kind::String => {
            state.write_u8(b'"');
            scanner.string()?.to_cow().hash(state);
        }
        Kind::Number | Kind::True | Kind::False | Kind::Null => {
            // Its end shows: no such text goes on with a comma.
            state.write(scanner.raw_value()?.text.as_bytes());
            state.write_u8(b',');
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for (a, b) in [
            (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#),
            (r#"{"a":[[1],2]}"#, r#"{"a":[[1,2]]}"#),
            (r#"{"a":[1,2]}"#, r#"{"a":[12]}"#),
            (r#"{"a":{"b":1},"c":2}"#, r#"{"a":{"b":2},"c":1}"#),
            (r#"{"a":"1"}"#, r#"{"a":1}"#),
            (r#"{"a":null}"#, "{}"),
            (r#"{"a":[]}"#, r#"{"a":{}}"#),
            (r#"{"a":{"b":1}}"#, r#"{"a":{"b":1,"c":1}}"#),
        ] {
            assert_ne!(hash(a), hash(b), "{a} {b}");
        }
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
