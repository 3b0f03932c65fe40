//! A stored event → the JSON that a producer could send again (API contract §2).
//!
//! Property values and the payload's other members are stored as the text they arrived in, so they
//! go out digit for digit. Property names come out ascending, since they are stored so. A deletion
//! that the server made itself holds no properties; it comes out with `"__deleted__":true`, which
//! is what it means.

use super::encode::write_event_id;
use super::json::write_string;
use crate::model::EventView;
use crate::wire::http1::write_decimal;

const TOMBSTONE: &str = "__deleted__";

/// One event: `{"eventId", "stream", "source", "timestamp"?, "key"?, "schema"?, "traceparent"?,
/// "payload"}`.
pub fn event(out: &mut Vec<u8>, event: &EventView<'_>) {
    out.push(b'{');
    event_members(out, event);
    out.push(b'}');
}

/// The members of [`event`] without the braces, for an object that says more than these.
pub fn event_members(out: &mut Vec<u8>, event: &EventView<'_>) {
    head_members(out, event);
    out.extend_from_slice(b",\"payload\":");
    payload(out, event);
}

/// The members of [`event`] but its payload, without the braces.
pub fn head_members(out: &mut Vec<u8>, event: &EventView<'_>) {
    out.extend_from_slice(b"\"eventId\":");
    write_event_id(out, event.event_id);
    for (name, text) in [
        ("stream", Some(event.stream)),
        ("source", Some(event.source)),
    ] {
        optional_string(out, name, text);
    }
    if let Some(timestamp_ms) = event.timestamp_ms {
        out.extend_from_slice(b",\"timestamp\":");
        if timestamp_ms < 0 {
            out.push(b'-');
        }
        write_decimal(out, timestamp_ms.unsigned_abs());
    }
    optional_string(out, "key", event.key);
    optional_string(out, "schema", event.schema);
    if let Some(traceparent) = &event.traceparent {
        out.extend_from_slice(b",\"traceparent\":\"");
        traceparent.write(out);
        out.push(b'"');
    }
}

/// `{"entity_id", "properties", …}`, with what else the producer put into it.
pub fn payload(out: &mut Vec<u8>, event: &EventView<'_>) {
    out.extend_from_slice(b"{\"entity_id\":");
    write_string(out, event.entity_id);
    out.extend_from_slice(b",\"properties\":{");
    let mut separator: &[u8] = b"";
    let says_so = || {
        event
            .properties()
            .any(|property| property.name == TOMBSTONE)
    };
    if event.tombstone && !says_so() {
        out.extend_from_slice(b"\"__deleted__\":true");
        separator = b",";
    }
    for property in event.properties() {
        out.extend_from_slice(separator);
        separator = b",";
        write_string(out, property.name);
        out.push(b':');
        out.extend_from_slice(property.value.as_bytes());
    }
    out.push(b'}');
    if !event.extra.is_empty() {
        out.push(b',');
        out.extend_from_slice(event.extra.as_bytes());
    }
    out.push(b'}');
}

fn optional_string(out: &mut Vec<u8>, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        write_string(out, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::event::{Decoded, EventDecoder, EventIds};
    use crate::api::json::Scanner;
    use crate::model::{EventDraft, EventId};

    fn encoded(draft: &EventDraft<'_>) -> String {
        let mut stored = Vec::new();
        draft.encode(&mut stored);
        let mut out = Vec::new();
        event(&mut out, &EventView::decode(&stored).unwrap());
        String::from_utf8(out).unwrap()
    }

    /// What comes out of an event that was sent as `body`.
    fn sent(body: &str) -> String {
        let mut scanner = Scanner::new(body.as_bytes()).unwrap();
        let mut decoder = EventDecoder::default();
        let draft = |decoded: Decoded<'_>| match decoded {
            Decoded::Event(draft, _) => encoded(&draft),
            Decoded::Refused { error, .. } => panic!("{body}: {error}"),
        };
        decoder
            .decode(&mut scanner, &mut EventIds::new(1), 0, draft)
            .unwrap()
    }

    #[test]
    fn an_event_comes_out_as_it_was_sent() {
        let check = |body: &str| assert_eq!(sent(body), body);
        check(
            r#"{"eventId":"e1","stream":"s.t","source":"a","payload":{"entity_id":"n/1","properties":{}}}"#,
        );
        check(
            r#"{"eventId":"e\"1\n","stream":"s","source":"ä \\","timestamp":1700000000000,"key":"","schema":"v1","payload":{"entity_id":"n/ü","properties":{"a":22.50,"b":1e2,"c":12345678901234567890123,"d\"":[{"x":null}],"e":"ü\u00fc"},"extra":{"q":1.0},"more":"\/"}}"#,
        );
        check(
            r#"{"eventId":"e","stream":"s","source":"a","timestamp":9223372036854775807,"payload":{"entity_id":"x","properties":{"__deleted__":true,"a":1}}}"#,
        );
        check(
            r#"{"eventId":"e","stream":"s","source":"a","payload":{"entity_id":"x","properties":{"__deleted__":"true"}}}"#,
        );
    }

    #[test]
    fn a_deletion_by_the_server_says_that_it_is_one() {
        let draft = EventDraft {
            entity_id: "n/1",
            event_id: EventId::Uuid(uuid::Uuid::from_u128(
                0x0123_4567_89ab_7def_8123_4567_89ab_cdef,
            )),
            stream: "flux.delete",
            source: "flux",
            timestamp_ms: None,
            key: None,
            schema: None,
            traceparent: None,
            extra: "",
            tombstone: true,
            properties: &[],
        };
        assert_eq!(
            encoded(&draft),
            r#"{"eventId":"01234567-89ab-7def-8123-456789abcdef","stream":"flux.delete","source":"flux","payload":{"entity_id":"n/1","properties":{"__deleted__":true}}}"#
        );
    }

    #[test]
    fn members_stand_in_an_object_with_others() {
        let draft = EventDraft {
            entity_id: "x",
            event_id: EventId::Text("e"),
            stream: "s",
            source: "a",
            timestamp_ms: None,
            key: None,
            schema: None,
            traceparent: None,
            extra: "",
            tombstone: false,
            properties: &[],
        };
        let mut stored = Vec::new();
        draft.encode(&mut stored);
        let mut out = b"{\"sequence\":1,".to_vec();
        event_members(&mut out, &EventView::decode(&stored).unwrap());
        out.push(b'}');
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (&value["sequence"], &value["eventId"]),
            (&1.into(), &"e".into())
        );
    }
}
