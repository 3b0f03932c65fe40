//! Lines of an export: an event or an entity each, as `flux export` writes and `flux import` reads
//! them.
//!
//! ```text
//! {"eventId":…,"stream":…,"source":…,"payload":{…},"sequence":7,"acceptedAt":"…"}
//! {"eventId":…, …,"sequence":8,"group":{"index":0,"count":2},"acceptedAt":"…"}
//! {"entity":{"id":…,"properties":{…},"lastUpdated":"…","version":3},"acceptedAt":"…"}
//! ```
//!
//! The entity of an event with a `ttl` expires that long after `acceptedAt`; an entity that is
//! written as such, at its `expiresAt`.
//!
//! An event is held to the same rules as one that is published; `sequence` is for people, and a
//! line without `acceptedAt` is accepted when it is read. Events of an atomic batch say their place
//! in it. Events that bind their entity to a connection say how long it lingers after that: the
//! connection is not there after an import, so the entity ends after the next start. An entity
//! stands for events that are gone; its `acceptedAt` is the time at which it was so.

use super::encode;
use super::event::{Decoded, EventDecoder, EventIds, check_entity_id, sort_and_keep_last};
use super::event_encode::event_members;
use super::json::{Compactor, JsonError, JsonStr, Kind, Scanner};
use super::{ApiError, time};
use crate::limits::{ATOMIC_EVENTS_MAX, BINDING_LINGER_MS_MAX};
use crate::model::{
    DecidedDraft, EntityDraft, EntityHead, EventDraft, EventId, EventView, Lifetime,
    LifetimeChange, Property, RECORD_KIND_ENTITY, RECORD_KIND_EVENT, TermKind, Terms, Timestamp,
    VERSION_MAX, is_reserved,
};
use crate::wire::http1::write_decimal;
use flux_storage::{GroupPlace, Sequence};

/// Why a line is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is no JSON by the contract's rules.
    #[error("not valid JSON: {0}")]
    Json(#[from] JsonError),
    /// It is JSON, but no event and no entity.
    #[error("{0}")]
    Rule(#[from] ApiError),
}

/// What a line was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The kind of the log record that holds it.
    pub kind: u8,
    /// When it was accepted, if the line says so.
    pub accepted: Option<Timestamp>,
    /// Its place in its atomic batch, if it is an event of one.
    pub group: Option<GroupPlace>,
}

/// Writes the line of an event, without the end of the line. `sequence` and `group`: its place in
/// its log, and in its atomic batch.
pub fn event_line(
    out: &mut Vec<u8>,
    (sequence, group): (Sequence, Option<GroupPlace>),
    accepted: Timestamp,
    event: &EventView<'_>,
) {
    out.push(b'{');
    event_members(out, event);
    out.extend_from_slice(b",\"sequence\":");
    write_decimal(out, sequence.get());
    if let Some(group) = group {
        out.extend_from_slice(b",\"group\":{\"index\":");
        write_decimal(out, group.index.into());
        out.extend_from_slice(b",\"count\":");
        write_decimal(out, group.count.into());
        out.push(b'}');
    }
    write_binding(out, event.decided.lifetime.linger_ms);
    write_accepted(out, accepted);
}

/// Writes the line of an entity, without the end of the line. `properties`: names and JSON texts.
pub fn entity_line<'p>(
    out: &mut Vec<u8>,
    accepted: Timestamp,
    head: EntityHead<'_>,
    properties: impl Iterator<Item = (&'p str, &'p str)>,
) {
    out.extend_from_slice(b"{\"entity\":");
    encode::entity(out, head, properties, None);
    write_binding(out, head.lifetime.linger_ms);
    write_accepted(out, accepted);
}

fn write_binding(out: &mut Vec<u8>, linger_ms: Option<u32>) {
    if let Some(linger_ms) = linger_ms {
        out.extend_from_slice(b",\"linger_ms\":");
        write_decimal(out, linger_ms.into());
    }
}

fn write_accepted(out: &mut Vec<u8>, accepted: Timestamp) {
    out.extend_from_slice(b",\"acceptedAt\":\"");
    out.extend_from_slice(accepted.rfc3339().as_bytes());
    out.extend_from_slice(b"\"}");
}

/// Decodes lines; keeps its buffers from one to the next.
#[derive(Debug)]
pub struct LineDecoder {
    events: EventDecoder,
    ids: EventIds,
}

impl LineDecoder {
    /// A decoder; `seed`: for the ids of events that come without one.
    pub fn new(seed: u64) -> Self {
        Self {
            events: EventDecoder::of_stored(),
            ids: EventIds::new(seed),
        }
    }

    /// Reads a line and writes the payload of its log record to `out`. `now_ms`: Unix milliseconds.
    ///
    /// # Errors
    /// [`LineError`]; what is in `out` then is to be forgotten.
    pub fn decode(
        &mut self,
        line: &[u8],
        now_ms: i64,
        out: &mut Vec<u8>,
    ) -> Result<Line, LineError> {
        let outline = Outline::read(line)?;
        let accepted = outline.accepted;
        if let Some(text) = outline.entity {
            if outline.group.is_some() {
                return Err(invalid("group", "a member of events alone").into());
            }
            let last_updated = entity(text, outline.linger_ms, out)?;
            return Ok(Line {
                kind: RECORD_KIND_ENTITY,
                accepted: accepted.or(Some(last_updated)),
                group: None,
            });
        }
        let mut scanner = Scanner::new(line)?;
        let store = |decoded: Decoded<'_>| match decoded {
            Decoded::Event(draft, terms) => {
                let accepted =
                    accepted.unwrap_or_else(|| Timestamp::from_micros(now_ms.saturating_mul(1000)));
                let lifetime = LifetimeChange {
                    linger_ms: outline.linger_ms,
                    ..LifetimeChange::asked(Terms::new(terms), accepted)
                };
                encode_stored((&with_uuid(&draft), terms), lifetime, out);
                Ok(())
            }
            Decoded::Refused { error, .. } => Err(error),
        };
        self.events
            .decode(&mut scanner, &mut self.ids, now_ms, store)??;
        Ok(Line {
            kind: RECORD_KIND_EVENT,
            accepted,
            group: outline.group,
        })
    }
}

/// Appends the stored form of an event that was stored once. What its operations came to then is
/// among its properties.
fn encode_stored(
    (draft, terms): (&EventDraft<'_>, &[u8]),
    lifetime: LifetimeChange,
    out: &mut Vec<u8>,
) {
    let operations: Vec<_> = Terms::new(terms)
        .filter(|term| term.kind.is_operation())
        .collect();
    let mut event = Vec::new();
    if operations.is_empty() {
        draft.encode(&mut event);
        let decided = DecidedDraft {
            lifetime,
            ..DecidedDraft::default()
        };
        decided.encode(&event, out);
        return;
    }
    let named = operations.iter().filter(|it| it.kind != TermKind::Unset);
    let mut named: Vec<&str> = named.map(|operation| operation.name).collect();
    named.sort_unstable();
    let is_result = |property: &Property<'_>| named.binary_search(&property.name).is_ok();
    let numbered = (0_u32..).zip(draft.properties);
    let results = numbered.filter(|(_, property)| is_result(property));
    let results: Vec<u32> = results.map(|(number, _)| number).collect();
    let removed = operations.iter().filter(|it| it.kind == TermKind::Unset);
    let removed: Vec<&str> = removed.map(|operation| operation.name).collect();
    draft.encode(&mut event);
    let decided = DecidedDraft {
        version: None,
        operations: Some((&results, &removed)),
        lifetime,
    };
    decided.encode(&event, out);
}

/// The draft, its id kept as a UUID if it is one: half the bytes, and written out
/// the same.
fn with_uuid<'a>(draft: &EventDraft<'a>) -> EventDraft<'a> {
    let EventId::Text(text) = draft.event_id else {
        return *draft;
    };
    let uuid = uuid::Uuid::try_parse(text).ok();
    let same = uuid.filter(|uuid| {
        let mut written = [0; uuid::fmt::Hyphenated::LENGTH];
        uuid.hyphenated().encode_lower(&mut written) == text
    });
    EventDraft {
        event_id: same.map_or(draft.event_id, EventId::Uuid),
        ..*draft
    }
}

/// What a line says besides its event.
#[derive(Debug, Default)]
struct Outline<'a> {
    accepted: Option<Timestamp>,
    /// The JSON text of the entity.
    entity: Option<&'a str>,
    group: Option<GroupPlace>,
    /// The entity is bound to a connection, and lingers so long after it.
    linger_ms: Option<u32>,
}

impl<'a> Outline<'a> {
    fn read(line: &'a [u8]) -> Result<Self, LineError> {
        let mut scanner = Scanner::new(line)?;
        if scanner.kind()? != Kind::Object {
            let rule = "a line must be a JSON object";
            return Err(ApiError::Shape { rule }.into());
        }
        scanner.begin_object()?;
        let mut outline = Self::default();
        while let Some(key) = scanner.next_key()? {
            match &*key.to_cow() {
                "acceptedAt" => outline.accepted = Some(timestamp(&mut scanner, "acceptedAt")?),
                "entity" => outline.entity = Some(scanner.raw_value()?.text),
                "group" => outline.group = Some(group_place(&mut scanner)?),
                "linger_ms" => outline.linger_ms = Some(linger_ms(&mut scanner)?),
                _ => {
                    scanner.raw_value()?;
                }
            }
        }
        scanner.finish()?;
        Ok(outline)
    }
}

/// Decodes `{"index":0,"count":2}`.
fn group_place(scanner: &mut Scanner<'_>) -> Result<GroupPlace, LineError> {
    let wrong = || {
        invalid(
            "group",
            "an index and a count of at least 2 and at most 1000",
        )
    };
    if scanner.kind()? != Kind::Object {
        return Err(wrong().into());
    }
    scanner.begin_object()?;
    let (mut index, mut count) = (None, None);
    while let Some(key) = scanner.next_key()? {
        let number = scanner.raw_value()?.text.parse::<u16>().ok();
        match &*key.to_cow() {
            "index" => index = number,
            "count" => count = number,
            _ => {}
        }
    }
    let place = index
        .zip(count)
        .map(|(index, count)| GroupPlace { index, count });
    let is_sound = |place: &GroupPlace| {
        (2..=ATOMIC_EVENTS_MAX).contains(&usize::from(place.count)) && place.index < place.count
    };
    place.filter(is_sound).ok_or_else(|| wrong().into())
}

/// Decodes milliseconds for which a bound entity lingers.
fn linger_ms(scanner: &mut Scanner<'_>) -> Result<u32, LineError> {
    let number = scanner.raw_value()?.text.parse().ok();
    let number = number.filter(|number| *number <= BINDING_LINGER_MS_MAX);
    number.ok_or_else(|| invalid("linger_ms", "an integer from 0 to 300000").into())
}

/// Decodes an entity and writes its payload; returns when it was last updated.
fn entity(text: &str, linger_ms: Option<u32>, out: &mut Vec<u8>) -> Result<Timestamp, LineError> {
    let mut scanner = Scanner::new(text.as_bytes())?;
    if scanner.kind()? != Kind::Object {
        return Err(invalid("entity", "an object").into());
    }
    scanner.begin_object()?;
    let (mut id, mut version, mut last_updated, mut properties) = (None, None, None, None);
    let mut lifetime = Lifetime {
        linger_ms,
        ..Lifetime::default()
    };
    while let Some(key) = scanner.next_key()? {
        match &*key.to_cow() {
            "id" => id = Some(string(&mut scanner, "entity.id")?.to_cow()),
            "version" => version = Some(read_version(&mut scanner)?),
            "lastUpdated" => {
                last_updated = Some(timestamp(&mut scanner, "entity.lastUpdated")?);
            }
            "expiresAt" => {
                lifetime.expires = Some(timestamp(&mut scanner, "entity.expiresAt")?);
            }
            "properties" => properties = Some(read_properties(&mut scanner)?),
            _ => {
                scanner.raw_value()?;
            }
        }
    }
    let missing = |field| ApiError::MissingField { field };
    let id = id.ok_or_else(|| missing("entity.id"))?;
    let version = version.ok_or_else(|| missing("entity.version"))?;
    let last_updated = last_updated.ok_or_else(|| missing("entity.lastUpdated"))?;
    let properties = properties.ok_or_else(|| missing("entity.properties"))?;
    if check_entity_id(&id).is_err() {
        return Err(invalid("entity.id", "1 to 512 bytes without control characters").into());
    }
    if is_reserved(&id) {
        return Err(ApiError::Reserved.into());
    }
    let mut properties: Vec<Property<'_>> = properties
        .iter()
        .map(|(name, value)| Property { name, value })
        .collect();
    sort_and_keep_last(&mut properties);
    let draft = EntityDraft {
        id: &id,
        version,
        last_updated,
        lifetime,
        properties: &properties,
    };
    draft.encode(out);
    Ok(last_updated)
}

fn read_version(scanner: &mut Scanner<'_>) -> Result<u64, LineError> {
    let value = scanner.raw_value()?;
    let digits = value.text.bytes().all(|byte| byte.is_ascii_digit());
    let version = value.text.parse().ok();
    version
        .filter(|version| digits && (1..=VERSION_MAX).contains(version))
        .ok_or_else(|| invalid("entity.version", "a positive integer").into())
}

/// Names decoded, values without white space; in the order of the text.
fn read_properties(scanner: &mut Scanner<'_>) -> Result<Vec<(String, String)>, LineError> {
    if scanner.kind()? != Kind::Object {
        return Err(invalid("entity.properties", "an object").into());
    }
    scanner.begin_object()?;
    let (mut properties, mut compactor) = (Vec::new(), Compactor::default());
    while let Some(key) = scanner.next_key()? {
        let name = key.to_cow().into_owned();
        let mut value = String::new();
        compactor.write(&scanner.raw_value()?, &mut value);
        properties.push((name, value));
    }
    Ok(properties)
}

fn timestamp(scanner: &mut Scanner<'_>, field: &'static str) -> Result<Timestamp, LineError> {
    let text = string(scanner, field)?.to_cow();
    time::parse(&text).ok_or_else(|| invalid(field, time::TIME_RULE).into())
}

fn string<'a>(scanner: &mut Scanner<'a>, field: &'static str) -> Result<JsonStr<'a>, LineError> {
    if scanner.kind()? != Kind::String {
        return Err(invalid(field, "a string").into());
    }
    Ok(scanner.string()?)
}

fn invalid(field: &'static str, rule: &'static str) -> ApiError {
    ApiError::InvalidField { field, rule }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EntityView, ExpiryChange, StoredChange};

    fn decoded(line: &str) -> Result<(Line, Vec<u8>), LineError> {
        let mut payload = Vec::new();
        let line = LineDecoder::new(1).decode(line.as_bytes(), 1000, &mut payload)?;
        Ok((line, payload))
    }

    fn encoded(line: Line, payload: &[u8]) -> String {
        let mut out = Vec::new();
        let accepted = line.accepted.unwrap();
        match StoredChange::decode(line.kind, payload).unwrap().unwrap() {
            StoredChange::Event(event) => {
                let place = (Sequence::new(7), line.group);
                event_line(&mut out, place, accepted, &event);
            }
            StoredChange::Entity(entity) => {
                let head = EntityHead {
                    id: entity.id,
                    version: entity.version,
                    last_updated: entity.last_updated,
                    lifetime: entity.lifetime,
                };
                let properties = entity.properties();
                let properties = properties.map(|property| (property.name, property.value));
                entity_line(&mut out, accepted, head, properties);
            }
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_comes_back_as_it_was() {
        for line in [
            r#"{"eventId":"e","stream":"s","source":"a","payload":{"entity_id":"x","properties":{}},"sequence":7,"acceptedAt":"2026-01-31T23:59:59.000001Z"}"#,
            r#"{"eventId":"01234567-89ab-7def-8123-456789abcdef","stream":"s.t","source":"ä","timestamp":5,"key":"","schema":"v","payload":{"entity_id":"n/ü","properties":{"__deleted__":true,"a":22.50,"b\"":[1e2]},"extra":{"q":1.0}},"sequence":7,"acceptedAt":"1969-12-31T23:59:59.999999Z"}"#,
            r#"{"eventId":"01234567-89AB-7DEF-8123-456789ABCDEF","stream":"s","source":"a","payload":{"entity_id":"x","properties":{}},"sequence":7,"acceptedAt":"2026-01-31T23:59:59.000001Z"}"#,
            r#"{"eventId":"e","stream":"s","source":"a","payload":{"entity_id":"x","properties":{}},"sequence":7,"linger_ms":300000,"acceptedAt":"2026-01-31T23:59:59.000001Z"}"#,
            r#"{"entity":{"id":"n/1","properties":{},"lastUpdated":"2026-01-31T23:59:59.000001Z","version":2},"linger_ms":0,"acceptedAt":"2026-02-01T00:00:00.000000Z"}"#,
            r#"{"eventId":"e","stream":"s","source":"a","payload":{"entity_id":"x","properties":{}},"sequence":7,"group":{"index":999,"count":1000},"acceptedAt":"2026-01-31T23:59:59.000001Z"}"#,
            r#"{"entity":{"id":"n/\"1","properties":{"a":22.50,"b":[1,{"x":null}]},"lastUpdated":"2026-01-31T23:59:59.000001Z","version":4611686018427387903},"acceptedAt":"2026-02-01T00:00:00.000000Z"}"#,
            r#"{"entity":{"id":"n/1","properties":{},"lastUpdated":"2026-01-31T23:59:59.000001Z","version":2,"expiresAt":"2026-01-31T23:59:59.000002Z"},"acceptedAt":"2026-02-01T00:00:00.000000Z"}"#,
            r#"{"eventId":"e","stream":"s","source":"a","payload":{"entity_id":"x","properties":{"n":2},"ttl":0.5,"increment":{"n":1}},"sequence":7,"acceptedAt":"2026-01-31T23:59:59.000001Z"}"#,
        ] {
            let (decoded, payload) = decoded(line).unwrap();
            assert_eq!(encoded(decoded, &payload), line);
        }
    }

    #[test]
    fn an_event_with_a_ttl_expires_that_long_after_it_was_accepted() {
        let check = |ttl: &str, expires: ExpiryChange| {
            let line = format!(
                r#"{{"stream":"s","source":"a","payload":{{"entity_id":"x","ttl":{ttl}}},"acceptedAt":"1970-01-01T00:00:01Z"}}"#
            );
            let (_, payload) = decoded(&line).unwrap();
            let lifetime = EventView::decode(&payload).unwrap().decided.lifetime;
            assert_eq!(lifetime.expires, expires, "{ttl}");
        };
        check("2.5", ExpiryChange::At(Timestamp::from_micros(3_500_000)));
        check("null", ExpiryChange::Never);
        // Of before there was an expiry.
        check("\"soon\"", ExpiryChange::None);
    }

    #[test]
    fn an_id_that_is_a_uuid_is_kept_in_sixteen_bytes() {
        let len = |id: &str| {
            let line = format!(
                r#"{{"eventId":"{id}","stream":"s","source":"a","payload":{{"entity_id":"x","properties":{{}}}}}}"#
            );
            decoded(&line).unwrap().1.len()
        };
        let uuid = "01234567-89ab-7def-8123-456789abcdef";
        assert_eq!(len(uuid) + 21, len(&uuid.to_uppercase()));
    }

    #[test]
    fn what_a_person_writes_is_understood() {
        let (line, payload) = decoded(
            r#" { "entity" : {"properties":{"b" : [1, 2],"a":{"c":1,"c":2},"b":3},"version":2,"id":"x","lastUpdated":"1970-01-01T00:00:01Z","more":1} } "#,
        )
        .unwrap();
        assert_eq!(line.accepted, Some(Timestamp::from_micros(1_000_000)));
        let entity = EntityView::decode(&payload).unwrap();
        let properties: Vec<_> = entity.properties().map(|it| (it.name, it.value)).collect();
        assert_eq!(properties, [("a", r#"{"c":2}"#), ("b", "3")]);
        let (line, payload) =
            decoded(r#"{"stream":"s","source":"a","payload":{"entity_id":"x","properties":{}}}"#)
                .unwrap();
        assert_eq!((line.kind, line.accepted), (RECORD_KIND_EVENT, None));
        let event = EventView::decode(&payload).unwrap();
        assert!(matches!(event.event_id, EventId::Uuid(_)));
    }

    #[test]
    fn what_is_no_line_is_refused_with_a_reason() {
        let check = |line: &str, reason: &str| {
            let error = decoded(line).unwrap_err().to_string();
            assert!(error.contains(reason), "{line}: {error}");
        };
        check("", "not valid JSON");
        check("{", "not valid JSON");
        check("{} {}", "not valid JSON");
        check("[1]", "a line must be a JSON object");
        check("{}", "missing field");
        check(r#"{"acceptedAt":5}"#, "`acceptedAt`");
        check(r#"{"acceptedAt":"yesterday"}"#, "`acceptedAt`");
        check(
            r#"{"stream":"S","source":"a","payload":{"entity_id":"x","properties":{}}}"#,
            "`stream`",
        );
        check(r#"{"entity":1}"#, "`entity`: an object");
        check(r#"{"entity":{},"group":{"index":0,"count":2}}"#, "`group`");
        check(r#"{"linger_ms":300001}"#, "`linger_ms`");
        check(r#"{"linger_ms":-1}"#, "`linger_ms`");
        check(r#"{"linger_ms":1.5}"#, "`linger_ms`");
        for group in [
            "1",
            "{}",
            r#"{"index":0}"#,
            r#"{"index":0,"count":1}"#,
            r#"{"index":2,"count":2}"#,
            r#"{"index":-1,"count":2}"#,
            r#"{"index":0.0,"count":2}"#,
            r#"{"index":0,"count":1001}"#,
        ] {
            check(&format!(r#"{{"group":{group}}}"#), "`group`");
        }
        let entity = |id: &str, version: &str, properties: &str| {
            format!(
                r#"{{"entity":{{"id":{id},"version":{version},"lastUpdated":"2026-01-31T23:59:59Z","properties":{properties}}}}}"#
            )
        };
        decoded(&entity("\"x\"", "1", "{}")).unwrap();
        check(&entity("\"\"", "1", "{}"), "`entity.id`");
        check(&entity("\"flux-core/x\"", "1", "{}"), "reserved");
        for version in ["0", "1.0", "-1", "\"1\"", "4611686018427387904"] {
            check(&entity("\"x\"", version, "{}"), "`entity.version`");
        }
        check(&entity("\"x\"", "1", "[]"), "`entity.properties`");
        check(r#"{"entity":{}}"#, "missing field `entity.id`");
    }
}
