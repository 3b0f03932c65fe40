//! The messages of streams (API contract §13). Each is JSON without the framing of a protocol, and
//! is appended to a buffer that its caller reuses.
//!
//! What would make a message longer than [`STREAM_MESSAGE_BYTES_MAX`] is announced in its place: a
//! client's library closes the connection at a longer one.

use super::encode::{StateUpdate, error_message, state_update, write_id};
use super::error::ApiError;
use super::event_encode::{event_members, head_members, payload};
use super::history::stored_members;
use super::json::write_string;
use crate::limits::STREAM_MESSAGE_BYTES_MAX;
use crate::model::{EventView, ExpiryChange, Timestamp};
use crate::wire::http1::write_decimal;
use flux_storage::Sequence;
use std::cmp::Reverse;

/// What a message about an entity says besides its properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityMessage<'m> {
    /// Whose.
    pub entity_id: &'m str,
    /// The entity's version after it.
    pub version: u64,
    /// Of its last event.
    pub sequence: Sequence,
    /// The entity's `lastUpdated`.
    pub time: Timestamp,
    /// It holds all of the entity.
    pub is_whole: bool,
    /// The entity matches the subscription's filter, if there is one.
    pub matches: bool,
    /// When it expires: of a whole one, else as far as that has changed.
    pub expires: ExpiryChange,
}

/// A property in such a message: its name, and its value as JSON text, or `None` if it was removed.
pub type Part<'m> = (&'m str, Option<&'m str>);

/// Mode `entity`: what an event changed, or all of an entity.
pub fn entity<'m>(
    out: &mut Vec<u8>,
    message: &EntityMessage<'_>,
    parts: &(impl Iterator<Item = Part<'m>> + Clone),
) {
    let start = out.len();
    write_entity(out, message, parts, usize::MAX);
    let written = out.len().saturating_sub(start);
    if written > STREAM_MESSAGE_BYTES_MAX {
        out.truncate(start);
        let longest = longest_value(parts.clone(), written);
        write_entity(out, message, parts, longest);
    }
}

/// The length of the longest values that are shown in a message of `written` bytes, so that it
/// fits.
fn longest_value<'m>(parts: impl Iterator<Item = Part<'m>>, written: usize) -> usize {
    let mut lens: Vec<usize> = parts.filter_map(|(_, value)| value).map(str::len).collect();
    lens.sort_unstable_by_key(|len| Reverse(*len));
    let (mut left, mut shown) = (written, usize::MAX);
    for len in lens {
        if left <= STREAM_MESSAGE_BYTES_MAX {
            break;
        }
        // The member `omitted`, and the number of bytes.
        left = left.saturating_sub(len).saturating_add(OMITTED_BYTES);
        shown = len.saturating_sub(1);
    }
    shown
}

/// More than what stands in place of a value that is left out.
const OMITTED_BYTES: usize = 32;

fn write_entity<'m>(
    out: &mut Vec<u8>,
    message: &EntityMessage<'_>,
    parts: &(impl Iterator<Item = Part<'m>> + Clone),
    longest: usize,
) {
    out.extend_from_slice(b"{\"type\":\"entity\",\"entity_id\":");
    write_string(out, message.entity_id);
    let values = || {
        let values = parts.clone();
        values.filter_map(|(name, value)| value.map(|value| (name, value)))
    };
    let shown = values().filter(|(_, value)| value.len() <= longest);
    out.extend_from_slice(b",\"properties\":{");
    write_members(out, shown, |out, value| {
        out.extend_from_slice(value.as_bytes());
    });
    out.extend_from_slice(b"},\"removed\":[");
    let mut is_first = true;
    for (name, _) in parts.clone().filter(|(_, value)| value.is_none()) {
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        write_string(out, name);
    }
    out.push(b']');
    let mut omitted = values()
        .filter(|(_, value)| value.len() > longest)
        .peekable();
    if omitted.peek().is_some() {
        out.extend_from_slice(b",\"omitted\":{");
        write_members(out, omitted, |out, value| {
            write_decimal(out, value.len() as u64);
        });
        out.push(b'}');
    }
    out.extend_from_slice(b",\"version\":");
    write_decimal(out, message.version);
    out.extend_from_slice(b",\"sequence\":");
    write_decimal(out, message.sequence.get());
    write_time(out, message.time);
    match message.expires {
        ExpiryChange::At(expires) if message.matches => {
            out.extend_from_slice(b",\"expiresAt\":\"");
            out.extend_from_slice(expires.rfc3339().as_bytes());
            out.push(b'"');
        }
        ExpiryChange::Never if !message.is_whole => {
            out.extend_from_slice(b",\"expiresAt\":null");
        }
        ExpiryChange::At(_) | ExpiryChange::Never | ExpiryChange::None => {}
    }
    if message.is_whole {
        out.extend_from_slice(b",\"whole\":true");
    }
    if !message.matches {
        out.extend_from_slice(b",\"matches\":false");
    }
    out.push(b'}');
}

fn write_members<'m>(
    out: &mut Vec<u8>,
    members: impl Iterator<Item = (&'m str, &'m str)>,
    write_value: impl Fn(&mut Vec<u8>, &str),
) {
    let mut is_first = true;
    for (name, value) in members {
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        write_string(out, name);
        out.push(b':');
        write_value(out, value);
    }
}

fn write_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(b",\"timestamp\":\"");
    out.extend_from_slice(time.rfc3339().as_bytes());
    out.push(b'"');
}

/// Mode `entity`: the entity is gone.
pub fn entity_deleted(out: &mut Vec<u8>, entity_id: &str, sequence: Sequence, time: Timestamp) {
    out.extend_from_slice(b"{\"type\":\"entity_deleted\",\"entity_id\":");
    write_string(out, entity_id);
    out.extend_from_slice(b",\"sequence\":");
    write_decimal(out, sequence.get());
    write_time(out, time);
    out.push(b'}');
}

/// Mode `event`: an event as `GET /api/events` shows it.
pub fn event(
    out: &mut Vec<u8>,
    (sequence, accepted): (Sequence, Timestamp),
    event: &EventView<'_>,
) {
    const TYPE: &[u8] = b"{\"type\":\"event\",";
    let start = out.len();
    out.extend_from_slice(TYPE);
    event_members(out, event);
    stored_members(out, event.entity_id, (sequence, accepted));
    out.push(b'}');
    if out.len().saturating_sub(start) <= STREAM_MESSAGE_BYTES_MAX {
        return;
    }
    out.truncate(start);
    payload(out, event);
    let bytes = out.len().saturating_sub(start);
    out.truncate(start);
    out.extend_from_slice(TYPE);
    head_members(out, event);
    out.extend_from_slice(b",\"entity_id\":");
    write_string(out, event.entity_id);
    out.extend_from_slice(b",\"payload_omitted\":true,\"bytes\":");
    write_decimal(out, bytes as u64);
    stored_members(out, event.entity_id, (sequence, accepted));
    out.push(b'}');
}

/// Mode `property`: a property of an entity that no longer matches the filter; without one, that it
/// does not.
pub fn unmatched(
    out: &mut Vec<u8>,
    (entity_id, property): (&str, Option<(&str, Option<&str>)>),
    time: Timestamp,
) {
    out.extend_from_slice(b"{\"type\":\"state_update\",\"entity_id\":");
    write_string(out, entity_id);
    if let Some((name, value)) = property {
        out.extend_from_slice(b",\"property\":");
        write_string(out, name);
        write_value(out, value);
    }
    out.extend_from_slice(b",\"matches\":false");
    write_time(out, time);
    out.push(b'}');
}

fn write_value(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        None => out.extend_from_slice(b",\"removed\":true"),
        Some(value) if value.len() > STREAM_MESSAGE_BYTES_MAX / 2 => {
            out.extend_from_slice(b",\"value_omitted\":true,\"bytes\":");
            write_decimal(out, value.len() as u64);
        }
        Some(value) => {
            out.extend_from_slice(b",\"value\":");
            out.extend_from_slice(value.as_bytes());
        }
    }
}

/// Mode `property`: [`state_update`], or that its value is too large for a message.
pub fn property(out: &mut Vec<u8>, update: StateUpdate<'_>) {
    let start = out.len();
    state_update(out, update);
    if out.len().saturating_sub(start) <= STREAM_MESSAGE_BYTES_MAX {
        return;
    }
    out.truncate(start);
    out.extend_from_slice(b"{\"type\":\"state_update\",\"entity_id\":");
    write_string(out, update.entity_id);
    out.extend_from_slice(b",\"property\":");
    write_string(out, update.property);
    out.extend_from_slice(b",\"value_omitted\":true,\"bytes\":");
    write_decimal(out, update.value.len() as u64);
    write_time(out, update.time);
    out.push(b'}');
}

/// A place from which a client can resume.
pub fn cursor(out: &mut Vec<u8>, cursor: &str) {
    out.extend_from_slice(b"{\"type\":\"cursor\",\"cursor\":\"");
    // A cursor holds nothing that JSON escapes.
    out.extend_from_slice(cursor.as_bytes());
    out.extend_from_slice(b"\"}");
}

/// The acknowledgement of a subscription, with the place from which on every change is pushed.
pub fn ack(out: &mut Vec<u8>, id: Option<&str>, cursor: &str) {
    out.extend_from_slice(b"{\"type\":\"ack\"");
    write_id(out, id);
    out.extend_from_slice(b",\"cursor\":\"");
    out.extend_from_slice(cursor.as_bytes());
    out.extend_from_slice(b"\"}");
}

/// A subscription to a pattern has ended, because its client may see nothing of it any more.
pub fn access_ended(out: &mut Vec<u8>, id: Option<&str>, pattern: Option<&str>) {
    let error = ApiError::AccessEnded;
    error_message(out, id, &error.to_string(), error.code());
    if let Some(pattern) = pattern {
        out.pop();
        out.extend_from_slice(b",\"entity_id\":");
        write_string(out, pattern);
        out.push(b'}');
    }
}

/// A page of a snapshot: `entities` is a JSON array.
pub fn snapshot(out: &mut Vec<u8>, id: Option<&str>, entities: &[u8], more: bool) {
    out.extend_from_slice(b"{\"type\":\"snapshot\"");
    write_id(out, id);
    out.extend_from_slice(b",\"entities\":");
    out.extend_from_slice(entities);
    out.extend_from_slice(if more {
        &b",\"more\":true}"[..]
    } else {
        b",\"more\":false}"
    });
}

/// What follows is live: `snapshot_end` or `caught_up`.
pub fn end(out: &mut Vec<u8>, kind: &str, id: Option<&str>, cursor: &str) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.push(b'"');
    write_id(out, id);
    out.extend_from_slice(b",\"cursor\":\"");
    out.extend_from_slice(cursor.as_bytes());
    out.extend_from_slice(b"\"}");
}

/// The answer to a poll: `messages` have commas between them.
pub fn changes(out: &mut Vec<u8>, messages: &[u8], cursor: &str, more: bool) {
    out.extend_from_slice(b"{\"changes\":[");
    out.extend_from_slice(messages);
    out.extend_from_slice(b"],\"cursor\":\"");
    out.extend_from_slice(cursor.as_bytes());
    out.extend_from_slice(if more {
        &b"\",\"more\":true}"[..]
    } else {
        b"\",\"more\":false}"
    });
}

/// A snapshot follows, since what was asked for can't be had.
pub fn resync(out: &mut Vec<u8>, id: Option<&str>, reason: &str) {
    out.extend_from_slice(b"{\"type\":\"resync\"");
    write_id(out, id);
    out.extend_from_slice(b",\"reason\":\"");
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cursor, CursorScope, EventDraft, EventId, Property};
    use serde_json::{Value, json};

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Value {
        let mut out = b"before".to_vec();
        write(&mut out);
        assert!(out.len() <= STREAM_MESSAGE_BYTES_MAX + 6);
        serde_json::from_slice(&out[6..]).unwrap()
    }

    const MESSAGE: EntityMessage<'_> = EntityMessage {
        entity_id: "n/\"a",
        version: 7,
        sequence: Sequence::new(90),
        time: Timestamp::from_micros(0),
        is_whole: false,
        matches: true,
        expires: ExpiryChange::None,
    };

    const TIME: &str = "1970-01-01T00:00:00.000000Z";

    #[test]
    fn a_message_says_what_changed_and_what_it_is() {
        let parts = [("a", Some("1.5")), ("b\n", None), ("c", Some("null"))];
        let shown =
            |message: EntityMessage<'_>| written(|out| entity(out, &message, &parts.into_iter()));
        let mut expected = json!({
            "type": "entity", "entity_id": "n/\"a", "properties": {"a": 1.5, "c": null},
            "removed": ["b\n"], "version": 7, "sequence": 90, "timestamp": TIME,
        });
        assert_eq!(shown(MESSAGE), expected);
        expected["whole"] = json!(true);
        expected["matches"] = json!(false);
        assert_eq!(
            shown(EntityMessage {
                is_whole: true,
                matches: false,
                ..MESSAGE
            }),
            expected
        );
        let says = |is_whole, expires| {
            let message = EntityMessage {
                is_whole,
                expires,
                ..MESSAGE
            };
            let shown = shown(message);
            shown.get("expiresAt").cloned()
        };
        let at = ExpiryChange::At(MESSAGE.time);
        assert_eq!(says(true, at), Some(json!(TIME)));
        assert_eq!(says(false, at), Some(json!(TIME)));
        assert_eq!(says(false, ExpiryChange::Never), Some(json!(null)));
        assert_eq!(says(true, ExpiryChange::Never), None);
        let deleted = written(|out| entity_deleted(out, "x", Sequence::new(3), MESSAGE.time));
        let expected =
            json!({"type": "entity_deleted", "entity_id": "x", "sequence": 3, "timestamp": TIME});
        assert_eq!(deleted, expected);
        let ack = written(|out| ack(out, Some("7"), "AB"));
        assert_eq!(ack, json!({"type": "ack", "id": 7, "cursor": "AB"}));
        let cursor = written(|out| cursor(out, "AB"));
        assert_eq!(cursor, json!({"type": "cursor", "cursor": "AB"}));
    }

    #[test]
    fn the_longest_values_are_left_out_until_the_message_fits() {
        let values: Vec<String> = [600, 10, 500, 400]
            .iter()
            .map(|kilobytes| format!("\"{}\"", "x".repeat(kilobytes * 1024)))
            .collect();
        let parts = || {
            let names = ["a", "b", "c", "d"].into_iter();
            names
                .zip(&values)
                .map(|(name, value)| (name, Some(value.as_str())))
        };
        let shown = written(|out| entity(out, &MESSAGE, &parts()));
        assert_eq!(shown["omitted"], json!({"a": 600 * 1024 + 2}));
        let names: Vec<&String> = shown["properties"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["b", "c", "d"]);
        // At the bound nothing is left out, one byte beyond it something is.
        let fixed = {
            let mut out = Vec::new();
            entity(&mut out, &MESSAGE, &[("a", Some(""))].into_iter());
            out.len()
        };
        for (len, fits) in [
            (STREAM_MESSAGE_BYTES_MAX, true),
            (STREAM_MESSAGE_BYTES_MAX + 1, false),
        ] {
            let value = format!("\"{}\"", "x".repeat(len - fixed - 2));
            let shown = written(|out| entity(out, &MESSAGE, &[("a", Some(&*value))].into_iter()));
            assert_eq!(shown.get("omitted").is_none(), fits, "{len}");
        }
    }

    #[test]
    fn an_event_is_a_row_of_the_history_and_a_large_payload_is_announced() {
        let row = |value: &str| {
            let properties = [Property { name: "p", value }];
            let draft = EventDraft {
                entity_id: "n/a",
                event_id: EventId::Text("e"),
                stream: "s",
                source: "x",
                timestamp_ms: None,
                key: None,
                schema: None,
                traceparent: None,
                extra: "",
                tombstone: false,
                properties: &properties,
            };
            let mut bytes = Vec::new();
            draft.encode(&mut bytes);
            let view = EventView::decode(&bytes).unwrap();
            written(|out| event(out, (Sequence::new(9), MESSAGE.time), &view))
        };
        let cursor = Cursor::of(CursorScope::of("n/a"), Sequence::new(9)).encode();
        let mut expected = json!({
            "type": "event", "eventId": "e", "stream": "s", "source": "x",
            "payload": {"entity_id": "n/a", "properties": {"p": 1}},
            "sequence": 9, "acceptedAt": TIME, "cursor": cursor,
        });
        assert_eq!(row("1"), expected);
        let large = format!("\"{}\"", "x".repeat(STREAM_MESSAGE_BYTES_MAX));
        let bytes = expected["payload"].to_string().len() - 1 + large.len();
        expected.as_object_mut().unwrap().remove("payload");
        expected["payload_omitted"] = json!(true);
        expected["bytes"] = json!(bytes);
        expected["entity_id"] = json!("n/a");
        assert_eq!(row(&large), expected);
    }

    #[test]
    fn a_property_that_is_too_large_is_announced() {
        let value = format!("\"{}\"", "x".repeat(STREAM_MESSAGE_BYTES_MAX));
        let update = |value| StateUpdate {
            entity_id: "e",
            property: "p",
            value,
            time: MESSAGE.time,
        };
        let mut expected = json!({
            "type": "state_update", "entity_id": "e", "property": "p", "value_omitted": true,
            "bytes": value.len(), "timestamp": TIME,
        });
        assert_eq!(written(|out| property(out, update(&value))), expected);
        let shown = written(|out| {
            unmatched(out, ("e", Some(("p", Some(&*value)))), MESSAGE.time);
        });
        expected["matches"] = json!(false);
        assert_eq!(shown, expected);
    }
}
