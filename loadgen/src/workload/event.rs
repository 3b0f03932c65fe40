//! The text of an event, made once: only the entity's id and the first property's value change.

use crate::entities::Entities;
use crate::options::EntityOptions;
use fastrand::Rng;

const BEFORE_ID: &[u8] = br#"{"stream":"load","source":"loadgen","payload":{"entity_id":""#;
const BEFORE_VALUE: &[u8] = br#"","properties":{"p0":"#;

/// Writes events of one connection. Every event has the same length, given that every first value
/// has.
#[derive(Debug)]
pub(crate) struct EventText {
    entities: Entities,
    /// The other properties, and the end of the event.
    after_value: Vec<u8>,
}

impl EventText {
    /// The other values are random letters, the same in every event: the server keeps and copies
    /// them, and looks at their bytes, but not at what they say.
    pub(crate) fn new(entities: Entities, options: &EntityOptions, random: &mut Rng) -> Self {
        let mut after_value = Vec::new();
        for property in 1..options.properties {
            after_value.extend_from_slice(format!(r#","p{property}":""#).as_bytes());
            for _ in 0..options.value_bytes {
                after_value.push(b"abcdefghijklmnop"[crate::numbers::index(random.u64(..16))]);
            }
            after_value.push(b'"');
        }
        after_value.extend_from_slice(b"}}}");
        Self {
            entities,
            after_value,
        }
    }

    /// Appends the event that sets entity `number`; `write_value` appends the JSON text of the
    /// first property.
    pub(crate) fn write(
        &self,
        number: u64,
        out: &mut Vec<u8>,
        write_value: impl FnOnce(&mut Vec<u8>),
    ) {
        out.extend_from_slice(BEFORE_ID);
        self.entities.write_id(number, out);
        out.extend_from_slice(BEFORE_VALUE);
        write_value(out);
        out.extend_from_slice(&self.after_value);
    }

    /// Bytes of an event whose first value has `value_len`.
    pub(crate) fn len(&self, value_len: usize) -> usize {
        let mut event = Vec::new();
        self.write(0, &mut event, |out| out.resize(out.len() + value_len, b'0'));
        event.len()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn test_options() -> EntityOptions {
        EntityOptions {
            entities: 10,
            namespaces: 2,
            namespace: "load".to_owned(),
            properties: 3,
            value_bytes: 4,
            skew: crate::options::Skew::Uniform,
        }
    }

    #[test]
    fn an_event_is_json_of_the_promised_length() {
        let options = test_options();
        let entities = Entities::new(&options).unwrap();
        let text = EventText::new(entities, &options, &mut crate::random::stream(1, 0));
        let mut event = Vec::new();
        text.write(7, &mut event, |out| out.extend_from_slice(b"123"));
        assert_eq!(event.len(), text.len(3));
        let event: serde_json::Value = serde_json::from_slice(&event).unwrap();
        assert_eq!(event["stream"], "load");
        assert_eq!(event["payload"]["entity_id"], "load-0001/e-00000007");
        assert_eq!(event["payload"]["properties"]["p0"], 123);
        assert_eq!(
            event["payload"]["properties"]["p2"].as_str().unwrap().len(),
            4
        );
    }
}
