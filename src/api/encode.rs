//! What goes out as JSON: entities, small answers, WebSocket messages. Everything is appended to a
//! buffer that its caller reuses.

use super::error::{ApiError, CurrentEntity};
use super::json::write_string;
use super::query::Fields;
use crate::model::{
    CursorKey, EntityHead, EntityTag, EventId, NarrowCursor, OperationResults, Property, Published,
    Timestamp, uuid_text, write_decimal,
};

/// `{"error": …, "code": …}`.
pub fn error(out: &mut Vec<u8>, message: &str, code: &str) {
    out.extend_from_slice(b"{\"error\":");
    write_string(out, message);
    out.extend_from_slice(b",\"code\":\"");
    out.extend_from_slice(code.as_bytes());
    out.extend_from_slice(b"\"}");
}

/// A rejection: its message and code, and what else it says.
pub fn rejection(out: &mut Vec<u8>, error: &ApiError) {
    self::error(out, &error.to_string(), error.code());
    rejection_details(out, error, usize::MAX);
}

/// Adds to the object that ends `out` what a rejection says besides its message and code. An entity
/// of more bytes than `max` is left out.
pub fn rejection_details(out: &mut Vec<u8>, error: &ApiError, max: usize) {
    let entity = match error {
        ApiError::PreconditionFailed { entity } => entity,
        ApiError::AtomicItem { index, error } => {
            out.pop();
            out.extend_from_slice(b",\"index\":");
            write_decimal(out, *index as u64);
            out.push(b'}');
            return rejection_details(out, error, max);
        }
        _ => return,
    };
    out.pop();
    let omitted = match entity {
        CurrentEntity::Absent => {
            out.extend_from_slice(b",\"entity\":null");
            None
        }
        CurrentEntity::Json(json) if json.len() <= max => {
            out.extend_from_slice(b",\"entity\":");
            out.extend_from_slice(json.as_bytes());
            None
        }
        CurrentEntity::Json(json) => Some(json.len()),
        CurrentEntity::Omitted(bytes) => Some(*bytes),
    };
    if let Some(bytes) = omitted {
        out.extend_from_slice(b",\"entity_omitted\":true,\"bytes\":");
        write_decimal(out, bytes as u64);
    }
    out.push(b'}');
}

/// The answer to a publish: `{"eventId": …, "stream": …}`.
pub fn published(out: &mut Vec<u8>, event_id: EventId<'_>, stream: &str) {
    out.extend_from_slice(b"{\"eventId\":");
    write_event_id(out, event_id);
    out.extend_from_slice(b",\"stream\":\"");
    // A stream holds nothing that JSON escapes.
    out.extend_from_slice(stream.as_bytes());
    out.extend_from_slice(b"\"}");
}

/// Adds to an answer, the last thing in `out`, where its event is in the log and what it made of
/// its entity: `"version"` if there is one after it, `"sequence"`, `"cursor"`, and `"bound"` if it
/// asks for that.
pub fn stored(out: &mut Vec<u8>, published: &Published, key: CursorKey) {
    let Published { stored, .. } = published;
    let closed = out.pop();
    debug_assert_eq!(closed, Some(b'}'), "an answer is an object");
    if stored.version > 0 {
        out.extend_from_slice(b",\"version\":");
        write_decimal(out, stored.version);
    }
    out.extend_from_slice(b",\"sequence\":");
    write_decimal(out, stored.sequence.get());
    out.extend_from_slice(b",\"cursor\":\"");
    out.extend_from_slice(&key.text(stored.sequence));
    out.push(b'"');
    match &published.properties {
        None => {}
        Some(OperationResults::Json(json)) => {
            out.extend_from_slice(b",\"properties\":");
            out.extend_from_slice(json.as_bytes());
        }
        Some(OperationResults::Omitted(bytes)) => {
            out.extend_from_slice(b",\"properties_omitted\":true,\"bytes\":");
            write_decimal(out, *bytes as u64);
        }
    }
    match published.bound {
        None => {}
        Some(true) => out.extend_from_slice(b",\"bound\":true"),
        Some(false) => out.extend_from_slice(b",\"bound\":false"),
    }
    if published.duplicate {
        out.extend_from_slice(b",\"duplicate\":true");
    }
    out.push(b'}');
}

/// What the operations of an event led to: an object of its properties.
pub fn results<'p>(properties: impl Iterator<Item = Property<'p>>) -> OperationResults {
    let mut out = Vec::from(b"{");
    for property in properties {
        if out.len() > 1 {
            out.push(b',');
        }
        write_string(&mut out, property.name);
        // It may be of megabytes, which the last byte would have copied once more.
        out.reserve(property.value.len().saturating_add(r":}".len()));
        out.push(b':');
        out.extend_from_slice(property.value.as_bytes());
    }
    out.push(b'}');
    OperationResults::Json(String::from_utf8(out).unwrap_or_default().into_boxed_str())
}

/// The answer to a delete: `{"entity_id": …, "eventId": …}`.
pub fn deleted(out: &mut Vec<u8>, entity_id: &str, event_id: EventId<'_>) {
    out.extend_from_slice(b"{\"entity_id\":");
    write_string(out, entity_id);
    out.extend_from_slice(b",\"eventId\":");
    write_event_id(out, event_id);
    out.push(b'}');
}

pub(super) fn write_event_id(out: &mut Vec<u8>, event_id: EventId<'_>) {
    match event_id {
        EventId::Text(text) => write_string(out, text),
        EventId::Uuid(uuid) => {
            out.push(b'"');
            out.extend_from_slice(&uuid_text(uuid));
            out.push(b'"');
        }
    }
}

/// An entity, with all properties (name and JSON text) or those in `fields`.
pub fn entity<'p>(
    out: &mut Vec<u8>,
    head: EntityHead<'_>,
    properties: impl Iterator<Item = (&'p str, &'p str)>,
    fields: Option<&Fields>,
) {
    out.extend_from_slice(b"{\"id\":");
    write_string(out, head.id);
    out.extend_from_slice(b",\"properties\":{");
    let mut first = true;
    for (name, value) in properties {
        let kept = fields
            .is_none_or(|fields| fields.binary_search_by(|field| (**field).cmp(name)).is_ok());
        if !kept {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        write_string(out, name);
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(b"},\"lastUpdated\":\"");
    out.extend_from_slice(head.last_updated.rfc3339().as_bytes());
    out.extend_from_slice(b"\",\"version\":");
    write_decimal(out, head.version);
    if let Some(expires) = head.lifetime.expires {
        out.extend_from_slice(b",\"expiresAt\":\"");
        out.extend_from_slice(expires.rfc3339().as_bytes());
        out.push(b'"');
    }
    out.push(b'}');
}

/// `state_update` of a property that was removed.
pub fn state_removed(out: &mut Vec<u8>, (entity_id, property): (&str, &str), time: Timestamp) {
    out.extend_from_slice(b"{\"type\":\"state_update\",\"entity_id\":");
    write_string(out, entity_id);
    out.extend_from_slice(b",\"property\":");
    write_string(out, property);
    out.extend_from_slice(b",\"removed\":true,\"timestamp\":\"");
    out.extend_from_slice(time.rfc3339().as_bytes());
    out.extend_from_slice(b"\"}");
}

/// `state_update`: one property of one event.
pub fn state_update(out: &mut Vec<u8>, update: StateUpdate<'_>) {
    out.extend_from_slice(b"{\"type\":\"state_update\",\"entity_id\":");
    write_string(out, update.entity_id);
    out.extend_from_slice(b",\"property\":");
    write_string(out, update.property);
    out.extend_from_slice(b",\"value\":");
    out.extend_from_slice(update.value.as_bytes());
    out.extend_from_slice(b",\"timestamp\":\"");
    out.extend_from_slice(update.time.rfc3339().as_bytes());
    out.extend_from_slice(b"\"}");
}

/// What a `state_update` says.
#[derive(Debug, Clone, Copy)]
pub struct StateUpdate<'a> {
    /// The entity.
    pub entity_id: &'a str,
    /// The property's name, decoded.
    pub property: &'a str,
    /// Its value as JSON text.
    pub value: &'a str,
    /// The entity's `lastUpdated`.
    pub time: Timestamp,
}

/// An entity that is too large for a message: all but its properties, and the bytes of its JSON.
pub fn entity_omitted(out: &mut Vec<u8>, head: EntityHead<'_>, bytes: usize) {
    out.extend_from_slice(b"{\"id\":");
    write_string(out, head.id);
    out.extend_from_slice(b",\"version\":");
    write_decimal(out, head.version);
    out.extend_from_slice(b",\"lastUpdated\":\"");
    out.extend_from_slice(head.last_updated.rfc3339().as_bytes());
    out.extend_from_slice(b"\",\"value_omitted\":true,\"bytes\":");
    write_decimal(out, bytes as u64);
    out.push(b'}');
}

/// `entity_deleted`.
pub fn entity_deleted(out: &mut Vec<u8>, entity_id: &str, time: Timestamp) {
    out.extend_from_slice(b"{\"type\":\"entity_deleted\",\"entity_id\":");
    write_string(out, entity_id);
    out.extend_from_slice(b",\"timestamp\":\"");
    out.extend_from_slice(time.rfc3339().as_bytes());
    out.extend_from_slice(b"\"}");
}

/// What a `metrics_update` says, summed over all cores.
#[derive(Debug, Clone, Copy, Default)]
pub struct Metrics {
    /// Entities that exist.
    pub entities: u64,
    /// Events in the log.
    pub events: u64,
    /// Events accepted per second over the last interval, times ten.
    pub events_per_10_seconds: u64,
    /// Open WebSocket connections.
    pub websockets: u64,
    /// Connections that published within the last ten seconds.
    pub publishers: u64,
}

/// `metrics_update`.
pub fn metrics_update(out: &mut Vec<u8>, metrics: &Metrics, time: Timestamp) {
    out.extend_from_slice(b"{\"type\":\"metrics_update\",\"timestamp\":\"");
    out.extend_from_slice(time.rfc3339().as_bytes());
    out.extend_from_slice(b"\",\"entities\":{\"total\":");
    write_decimal(out, metrics.entities);
    out.extend_from_slice(b"},\"events\":{\"total\":");
    write_decimal(out, metrics.events);
    out.extend_from_slice(b",\"rate_per_second\":");
    write_decimal(out, metrics.events_per_10_seconds / 10);
    out.push(b'.');
    write_decimal(out, metrics.events_per_10_seconds % 10);
    out.extend_from_slice(b"},\"websocket\":{\"connections\":");
    write_decimal(out, metrics.websockets);
    out.extend_from_slice(b"},\"publishers\":{\"active\":");
    write_decimal(out, metrics.publishers);
    out.extend_from_slice(b"}}");
}

/// The answer of `GET /health`.
#[derive(Debug, Clone, Copy)]
pub struct Health {
    /// Seconds since the process started.
    pub uptime_seconds: u64,
    /// Entities that exist.
    pub entities: u64,
    /// Shards of this process.
    pub shards: u64,
    /// How the server is asked: `http` or `https`.
    pub scheme: &'static str,
}

/// The answer of `GET /health?detail`: [`health`] with the bytes of memory that clients may take,
/// that they take, and what for.
pub fn health_detail(out: &mut Vec<u8>, shown: &Health, (limit, parts): (u64, &[(&str, u64)])) {
    health(out, shown);
    out.truncate(out.len().saturating_sub(1));
    out.extend_from_slice(b",\"memory\":{\"limit\":");
    write_decimal(out, limit);
    out.extend_from_slice(b",\"used\":");
    write_decimal(out, parts.iter().map(|(_, bytes)| bytes).sum());
    for (name, bytes) in parts {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        write_decimal(out, *bytes);
    }
    out.extend_from_slice(b"}}");
}

/// `{"status":"ok", …}`.
pub fn health(out: &mut Vec<u8>, health: &Health) {
    out.extend_from_slice(b"{\"status\":\"ok\",\"version\":\"");
    out.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
    out.extend_from_slice(b"\",\"uptime_seconds\":");
    write_decimal(out, health.uptime_seconds);
    out.extend_from_slice(b",\"entities\":");
    write_decimal(out, health.entities);
    out.extend_from_slice(b",\"shards\":");
    write_decimal(out, health.shards);
    out.extend_from_slice(b",\"scheme\":\"");
    out.extend_from_slice(health.scheme.as_bytes());
    out.extend_from_slice(b"\"}");
}

/// `{"type": <kind>}` with the client's `id` (JSON text) if it sent one: acknowledgements and
/// pongs.
pub fn answer(out: &mut Vec<u8>, kind: &str, id: Option<&str>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.push(b'"');
    write_id(out, id);
    out.push(b'}');
}

/// The answer to a WebSocket request: the body of the REST answer, with `type` and the client's
/// `id` (JSON text) before its members.
pub fn result(out: &mut Vec<u8>, id: &str, body: &[u8]) {
    out.extend_from_slice(b"{\"type\":\"result\",\"id\":");
    out.extend_from_slice(id.as_bytes());
    match body.strip_prefix(b"{") {
        None | Some(b"}") => out.push(b'}'),
        Some(members) => {
            out.push(b',');
            out.extend_from_slice(members);
        }
    }
}

/// The answer to a WebSocket request for an entity.
pub fn entity_result(
    out: &mut Vec<u8>,
    id: &str,
    (entity, tag, cursor): (&[u8], EntityTag, &NarrowCursor),
) {
    out.extend_from_slice(b"{\"type\":\"result\",\"id\":");
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(b",\"entity\":");
    out.extend_from_slice(entity);
    out.extend_from_slice(b",\"etag\":\"\\\"");
    tag.write_opaque(out);
    out.extend_from_slice(b"\\\"\",\"cursor\":\"");
    out.extend_from_slice(cursor);
    out.extend_from_slice(b"\"}");
}

/// A WebSocket error message.
pub fn error_message(out: &mut Vec<u8>, id: Option<&str>, message: &str, code: &str) {
    out.extend_from_slice(b"{\"type\":\"error\"");
    write_id(out, id);
    out.extend_from_slice(b",\"error\":");
    write_string(out, message);
    out.extend_from_slice(b",\"code\":\"");
    out.extend_from_slice(code.as_bytes());
    out.extend_from_slice(b"\"}");
}

pub(super) fn write_id(out: &mut Vec<u8>, id: Option<&str>) {
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        out.extend_from_slice(id.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cursor, CursorScope, Stored};
    use flux_storage::Sequence;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn messages_have_the_shapes_of_the_contract() {
        let time = Timestamp::from_micros(0);
        assert_eq!(
            text(|out| error(out, "a \"b\"", "c")),
            r#"{"error":"a \"b\"","code":"c"}"#
        );
        assert_eq!(
            text(|out| published(out, EventId::Text("e\n"), "s.t")),
            r#"{"eventId":"e\n","stream":"s.t"}"#
        );
        let cursor = Cursor::of(CursorScope::of("n/a"), Sequence::new(9)).encode();
        let cursor = format!(r#""cursor":"{cursor}""#);
        let answered = |version| {
            text(|out| {
                published(out, EventId::Text("e"), "s");
                let sequence = Sequence::new(9);
                let key = CursorKey::of("n/a");
                stored(out, &Stored { sequence, version }.into(), key);
            })
        };
        assert_eq!(
            answered(3),
            format!(r#"{{"eventId":"e","stream":"s","version":3,"sequence":9,{cursor}}}"#)
        );
        assert_eq!(
            answered(0),
            format!(r#"{{"eventId":"e","stream":"s","sequence":9,{cursor}}}"#)
        );
        let update = StateUpdate {
            entity_id: "e",
            property: "p",
            value: "[1]",
            time,
        };
        assert_eq!(
            text(|out| state_update(out, update)),
            r#"{"type":"state_update","entity_id":"e","property":"p","value":[1],"timestamp":"1970-01-01T00:00:00.000000Z"}"#
        );
        let metrics = Metrics {
            events_per_10_seconds: 125,
            ..Metrics::default()
        };
        assert!(
            text(|out| metrics_update(out, &metrics, time)).contains(r#""rate_per_second":12.5}"#)
        );
        assert_eq!(
            text(|out| answer(out, "ack", Some("7"))),
            r#"{"type":"ack","id":7}"#
        );
        assert_eq!(text(|out| answer(out, "pong", None)), r#"{"type":"pong"}"#);
    }
}
