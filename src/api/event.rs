//! One event's JSON → an [`EventDraft`] (API contract §2).
//!
//! Two steps, because a draft borrows its texts: while the scanner walks, every text is noted as a
//! span of the body or, if escapes or white space had to go, of a scratch string; when the walk
//! is over the scratch is frozen and the spans become texts. A field that breaks its rule does not
//! stop the walk: in a batch the rest of the body still has to be JSON, and the other items still
//! have to be found.

use super::error::ApiError;
pub use super::event_ids::EventIds;
use super::event_member::{EventMember, Member, PayloadMember};
use super::event_rules::check_len;
pub use super::event_rules::{check_entity_id, check_stream};
use super::json::{Compactor, JsonError, JsonStr, Kind, OpenNames, RawValue, Scanner};
use crate::limits;
use crate::model::{EventDraft, EventId, Property, is_reserved};
use std::ops::Range;

/// A text of the event: where it lies.
#[derive(Debug, Clone)]
enum Text<'a> {
    Body(&'a str),
    Scratch(Range<usize>),
}

impl Text<'_> {
    fn resolve<'t>(&'t self, scratch: &'t str) -> &'t str {
        match self {
            Self::Body(text) => text,
            Self::Scratch(range) => scratch.get(range.clone()).unwrap_or(""),
        }
    }
}

/// The members of an event as the walk finds them; of repeated ones the last stays.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says whether a member was there"
)]
struct Fields<'a> {
    event_id: Option<Text<'a>>,
    stream: Option<Text<'a>>,
    source: Option<Text<'a>>,
    timestamp_ms: Option<i64>,
    key: Option<Text<'a>>,
    schema: Option<Text<'a>>,
    payload: bool,
    entity_id: Option<Text<'a>>,
    properties: bool,
    tombstone: bool,
    /// The rules that were broken, each with the member that broke it.
    errors: Vec<(&'static str, ApiError)>,
}

/// What came of one event.
#[derive(Debug)]
pub enum Decoded<'a> {
    /// It passed every check.
    Event(EventDraft<'a>),
    /// It broke a rule; its id and stream if they are known, for the answer.
    Refused {
        /// The rule.
        error: ApiError,
        /// `eventId`, as sent.
        event_id: Option<&'a str>,
        /// `stream`, as sent.
        stream: Option<&'a str>,
    },
}

/// Decodes events; keeps its buffers from one to the next.
#[derive(Debug, Default)]
pub struct EventDecoder {
    scratch: String,
    extra: String,
    extra_names: OpenNames,
    compactor: Compactor,
    spans: Vec<(Text<'static>, Text<'static>)>,
    properties: Vec<Property<'static>>,
}

impl EventDecoder {
    /// Reads one event off `scanner` and hands it to `then`.
    ///
    /// # Errors
    /// [`JsonError`] where the text is not JSON; every other fault is a [`Decoded::Refused`].
    pub fn decode<R>(
        &mut self,
        scanner: &mut Scanner<'_>,
        ids: &mut EventIds,
        now_ms: i64,
        then: impl FnOnce(Decoded<'_>) -> R,
    ) -> Result<R, JsonError> {
        self.scratch.clear();
        self.extra.clear();
        let mut reader = EventReader {
            scratch: &mut self.scratch,
            extra: &mut self.extra,
            extra_names: &mut self.extra_names,
            compactor: &mut self.compactor,
            spans: recycle(std::mem::take(&mut self.spans)),
            fields: Fields::default(),
        };
        reader.event(scanner)?;
        let EventReader {
            spans, mut fields, ..
        } = reader;
        let mut properties = recycle(std::mem::take(&mut self.properties));
        properties.extend(spans.iter().map(|(name, value)| Property {
            name: name.resolve(&self.scratch),
            value: value.resolve(&self.scratch),
        }));
        sort_and_keep_last(&mut properties);
        if fields.tombstone {
            // A repeated `__deleted__` may have been set to something else by its last occurrence.
            fields.tombstone = properties.iter().any(|property| is_tombstone(property));
        }
        let result = match draft(&fields, &self.scratch, &self.extra, &properties) {
            Ok(mut draft) => {
                if draft.event_id == EventId::Text("") {
                    draft.event_id = EventId::Uuid(ids.next(now_ms));
                }
                then(Decoded::Event(draft))
            }
            Err(error) => then(Decoded::Refused {
                error,
                event_id: fields
                    .event_id
                    .as_ref()
                    .map(|text| text.resolve(&self.scratch)),
                stream: fields
                    .stream
                    .as_ref()
                    .map(|text| text.resolve(&self.scratch)),
            }),
        };
        self.properties = recycle(properties);
        self.spans = recycle_spans(spans);
        Ok(result)
    }
}

/// The same allocation for values of another lifetime: the standard library collects in place.
fn recycle<A, B>(mut values: Vec<A>) -> Vec<B> {
    values.clear();
    values.into_iter().map_while(|_| None).collect()
}

fn recycle_spans(spans: Vec<(Text<'_>, Text<'_>)>) -> Vec<(Text<'static>, Text<'static>)> {
    recycle(spans)
}

fn is_tombstone(property: &Property<'_>) -> bool {
    property.name == "__deleted__" && property.value == "true"
}

/// Ascending by name; of equal names the last in the body wins (stable sort keeps their order).
pub(super) fn sort_and_keep_last(properties: &mut Vec<Property<'_>>) {
    let sorted = properties.is_sorted_by(|a, b| a.name < b.name);
    if !sorted {
        properties.sort_by(|a, b| a.name.cmp(b.name));
        properties.dedup_by(|later, kept| {
            let same = later.name == kept.name;
            if same {
                kept.value = later.value;
            }
            same
        });
    }
}

/// Checks what can only be checked at the end, and resolves the texts.
fn draft<'t>(
    fields: &'t Fields<'_>,
    scratch: &'t str,
    extra: &'t str,
    properties: &'t [Property<'t>],
) -> Result<EventDraft<'t>, ApiError> {
    if let Some((_, error)) = fields.errors.first() {
        return Err(error.clone());
    }
    let required = |text: &'t Option<Text<'_>>, field| {
        text.as_ref()
            .map(|text| text.resolve(scratch))
            .ok_or(ApiError::MissingField { field })
    };
    let optional = |text: &'t Option<Text<'_>>| {
        text.as_ref()
            .map(|text: &'t Text<'_>| text.resolve(scratch))
    };
    let stream = required(&fields.stream, "stream")?;
    let source = required(&fields.source, "source")?;
    if !fields.payload {
        return Err(ApiError::MissingField { field: "payload" });
    }
    let entity_id = required(&fields.entity_id, "payload.entity_id")?;
    if !fields.properties {
        return Err(ApiError::MissingField {
            field: "payload.properties",
        });
    }
    let event_id = optional(&fields.event_id).unwrap_or("");
    check_len(
        "eventId",
        event_id,
        limits::EVENT_ID_BYTES_MAX,
        "at most 128 bytes",
    )?;
    check_stream(stream)?;
    check_len("source", source, limits::SOURCE_BYTES_MAX, "1 to 256 bytes")?;
    if source.is_empty() {
        return Err(ApiError::InvalidField {
            field: "source",
            rule: "1 to 256 bytes",
        });
    }
    check_entity_id(entity_id)?;
    let (key, schema) = (optional(&fields.key), optional(&fields.schema));
    check_len(
        "key",
        key.unwrap_or(""),
        limits::METADATA_BYTES_MAX,
        "at most 1024 bytes",
    )?;
    check_len(
        "schema",
        schema.unwrap_or(""),
        limits::METADATA_BYTES_MAX,
        "at most 1024 bytes",
    )?;
    if is_reserved(entity_id) {
        return Err(ApiError::Reserved);
    }
    Ok(EventDraft {
        entity_id,
        event_id: EventId::Text(event_id),
        stream,
        source,
        timestamp_ms: fields.timestamp_ms,
        key,
        schema,
        extra,
        tombstone: fields.tombstone,
        properties,
    })
}

/// Reads one event, member by member.
struct EventReader<'d, 'a> {
    scratch: &'d mut String,
    /// The payload's other members, in their stored form.
    extra: &'d mut String,
    /// The names of those.
    extra_names: &'d mut OpenNames,
    compactor: &'d mut Compactor,
    spans: Vec<(Text<'a>, Text<'a>)>,
    fields: Fields<'a>,
}

impl<'a> EventReader<'_, 'a> {
    fn event(&mut self, scanner: &mut Scanner<'a>) -> Result<(), JsonError> {
        if scanner.kind()? != Kind::Object {
            scanner.raw_value()?;
            let rule = "an event must be a JSON object";
            self.fields.errors.push(("", ApiError::Shape { rule }));
            return Ok(());
        }
        scanner.begin_object()?;
        loop {
            let known = scanner.known_key(EventMember::by_word);
            match self.member(known, scanner, EventMember::of)? {
                Member::Known(member) => self.event_member(member, scanner)?,
                Member::Other(_) => {
                    scanner.raw_value()?;
                }
                Member::None => return Ok(()),
            }
        }
    }

    #[inline]
    fn event_member(
        &mut self,
        member: EventMember,
        scanner: &mut Scanner<'a>,
    ) -> Result<(), JsonError> {
        match member {
            EventMember::EventId => {
                self.fields.event_id = self.optional_string(scanner, "eventId")?;
            }
            EventMember::Stream => self.fields.stream = self.required_string(scanner, "stream")?,
            EventMember::Source => self.fields.source = self.required_string(scanner, "source")?,
            EventMember::Timestamp => self.fields.timestamp_ms = self.timestamp(scanner)?,
            EventMember::Key => self.fields.key = self.optional_string(scanner, "key")?,
            EventMember::Schema => self.fields.schema = self.optional_string(scanner, "schema")?,
            EventMember::Payload => self.payload(scanner)?,
            EventMember::Expect => {
                self.begin_member("expect");
                if scanner.raw_value()?.kind != Kind::Null {
                    self.not_supported("expect");
                }
            }
        }
        Ok(())
    }

    /// The next member of an object: `known` if its word told, else by the name of the next key.
    #[inline]
    fn member<M>(
        &mut self,
        known: Option<M>,
        scanner: &mut Scanner<'a>,
        of: impl FnOnce(&str) -> Option<M>,
    ) -> Result<Member<'a, M>, JsonError> {
        if let Some(member) = known {
            return Ok(Member::Known(member));
        }
        let Some(key) = scanner.next_key()? else {
            return Ok(Member::None);
        };
        let name = self.text(key);
        Ok(of(name.resolve(self.scratch)).map_or(Member::Other(key), Member::Known))
    }

    fn payload(&mut self, scanner: &mut Scanner<'a>) -> Result<(), JsonError> {
        // Of a repeated `payload` the last wins whole, so what an earlier one left is forgotten.
        self.spans.clear();
        self.extra.clear();
        self.extra_names.clear();
        self.fields.entity_id = None;
        self.fields.properties = false;
        self.fields.tombstone = false;
        self.fields.payload = true;
        self.begin_member("payload");
        if scanner.kind()? != Kind::Object {
            scanner.raw_value()?;
            self.invalid("payload", "an object");
            return Ok(());
        }
        scanner.begin_object()?;
        loop {
            let known = scanner.known_key(PayloadMember::by_word);
            match self.member(known, scanner, PayloadMember::of)? {
                Member::Known(PayloadMember::EntityId) => {
                    self.fields.entity_id = self.required_string(scanner, "payload.entity_id")?;
                }
                Member::Known(PayloadMember::Properties) => self.properties(scanner)?,
                Member::Known(PayloadMember::NotSupported(path)) => {
                    self.begin_member(path);
                    scanner.raw_value()?;
                    self.not_supported(path);
                }
                Member::Other(key) => {
                    let value = scanner.raw_value()?;
                    self.keep_extra(key, &value);
                }
                Member::None => {
                    if self.extra_names.may_repeat() {
                        self.drop_repeated_extra();
                    }
                    return Ok(());
                }
            }
        }
    }

    fn properties(&mut self, scanner: &mut Scanner<'a>) -> Result<(), JsonError> {
        self.spans.clear();
        self.fields.tombstone = false;
        self.fields.properties = true;
        self.begin_member("payload.properties");
        if scanner.kind()? != Kind::Object {
            scanner.raw_value()?;
            self.invalid("payload.properties", "an object");
            return Ok(());
        }
        scanner.begin_object()?;
        while let Some(key) = scanner.next_key()? {
            let name = self.text(key);
            let value = scanner.raw_value()?;
            if value.text == "true" && name.resolve(self.scratch) == "__deleted__" {
                self.fields.tombstone = true;
            }
            let value = self.value(&value);
            self.spans.push((name, value));
        }
        Ok(())
    }

    /// The span of a string, its escapes undone.
    fn text(&mut self, string: JsonStr<'a>) -> Text<'a> {
        if let Some(plain) = string.plain() {
            return Text::Body(plain);
        }
        let start = self.scratch.len();
        string.decode_onto(self.scratch);
        Text::Scratch(start..self.scratch.len())
    }

    /// The span of a value's stored form.
    fn value(&mut self, value: &RawValue<'a>) -> Text<'a> {
        if value.is_compact() {
            return Text::Body(value.text);
        }
        let start = self.scratch.len();
        self.compactor.write(value, self.scratch);
        Text::Scratch(start..self.scratch.len())
    }

    fn keep_extra(&mut self, key: JsonStr<'a>, value: &RawValue<'a>) {
        if !self.extra.is_empty() {
            self.extra.push(',');
        }
        self.extra.push('"');
        self.extra.push_str(key.raw());
        self.extra.push_str("\":");
        self.compactor.write(value, self.extra);
        self.extra_names.add(0, key);
    }

    /// Of the payload's other members that have the same name, keeps the last.
    fn drop_repeated_extra(&mut self) {
        let object = ["{", self.extra, "}"].concat();
        let members = RawValue {
            text: &object,
            kind: Kind::Object,
            has_space: false,
            may_repeat: true,
        };
        let mut out = String::with_capacity(object.len());
        self.compactor.write(&members, &mut out);
        self.extra.clear();
        let inside = out.strip_prefix('{').and_then(|out| out.strip_suffix('}'));
        self.extra.push_str(inside.unwrap_or_default());
    }

    fn required_string(
        &mut self,
        scanner: &mut Scanner<'a>,
        field: &'static str,
    ) -> Result<Option<Text<'a>>, JsonError> {
        self.begin_member(field);
        if let Some(string) = scanner.string_or_other()? {
            return Ok(Some(self.text(string)));
        }
        scanner.raw_value()?;
        self.invalid(field, "a string");
        Ok(None)
    }

    fn optional_string(
        &mut self,
        scanner: &mut Scanner<'a>,
        field: &'static str,
    ) -> Result<Option<Text<'a>>, JsonError> {
        self.begin_member(field);
        if scanner.kind()? == Kind::Null {
            scanner.raw_value()?;
            return Ok(None);
        }
        self.required_string(scanner, field)
    }

    fn timestamp(&mut self, scanner: &mut Scanner<'a>) -> Result<Option<i64>, JsonError> {
        self.begin_member("timestamp");
        let value = scanner.raw_value()?;
        if value.kind == Kind::Null {
            return Ok(None);
        }
        // Only digits: `1.0` and `1e3` are no integers by the contract, and Rust would take a `+`.
        let digits =
            value.kind == Kind::Number && value.text.bytes().all(|byte| byte.is_ascii_digit());
        match value.text.parse::<i64>() {
            Ok(millis) if digits && millis > 0 => Ok(Some(millis)),
            _ => {
                self.invalid("timestamp", "a positive integer of Unix milliseconds");
                Ok(None)
            }
        }
    }

    fn invalid(&mut self, field: &'static str, rule: &'static str) {
        self.fields
            .errors
            .push((field, ApiError::InvalidField { field, rule }));
    }

    fn not_supported(&mut self, feature: &'static str) {
        self.fields
            .errors
            .push((feature, ApiError::NotSupported { feature }));
    }

    /// A member comes again: what was wrong with it, or inside it, no longer counts.
    fn begin_member(&mut self, field: &str) {
        if !self.fields.errors.is_empty() {
            self.fields
                .errors
                .retain(|(broken, _)| !broken.starts_with(field));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode<R>(json: &str, then: impl FnOnce(Decoded<'_>) -> R) -> Result<R, JsonError> {
        let mut scanner = Scanner::new(json.as_bytes())?;
        let mut decoder = EventDecoder::default();
        let result =
            decoder.decode(&mut scanner, &mut EventIds::new(1), 1_700_000_000_000, then)?;
        scanner.finish()?;
        Ok(result)
    }

    fn event(members: &str, payload: &str) -> String {
        format!(r#"{{"stream":"s","source":"a"{members},"payload":{payload}}}"#)
    }

    fn refused(json: &str) -> ApiError {
        decode(json, |decoded| match decoded {
            Decoded::Refused { error, .. } => error,
            Decoded::Event(draft) => panic!("{json} gave {draft:?}"),
        })
        .unwrap()
    }

    #[test]
    fn every_field_arrives_with_its_escapes_undone() {
        let json = r#" {"eventId":"e\u0031","stream":"a.b1","source":"s\"","timestamp":5,"key":"k","schema":null,
            "payload":{"unit" : [1, 2],"entity_id":"h\/r","properties":{"b":22.50,"a\n":{"x" : " y "}}},"z":1}"#;
        decode(json, |decoded| {
            let Decoded::Event(draft) = decoded else {
                panic!("{decoded:?}")
            };
            assert_eq!(draft.event_id, EventId::Text("e1"));
            assert_eq!((draft.stream, draft.source), ("a.b1", "s\""));
            assert_eq!(
                (draft.timestamp_ms, draft.key, draft.schema),
                (Some(5), Some("k"), None)
            );
            assert_eq!((draft.entity_id, draft.extra), ("h/r", r#""unit":[1,2]"#));
            let names = [("a\n", r#"{"x":" y "}"#), ("b", "22.50")];
            assert_eq!(
                draft
                    .properties
                    .iter()
                    .map(|p| (p.name, p.value))
                    .collect::<Vec<_>>(),
                names
            );
        })
        .unwrap();
    }

    #[test]
    fn members_are_told_however_their_names_are_written() {
        let plain = r#"{"eventId":"e","stream":"s","source":"a","timestamp":5,"key":"k","schema":"c","payload":{"entity_id":"x","properties":{"a":1},"stream":7}}"#;
        let spelled = plain
            .replace("\"stream\"", "\"str\\u0065am\"")
            .replace("\"payload\"", "\"p\\u0061yload\"")
            .replace("\"entity_id\"", "\"entity\\u005fid\"")
            .replace("\"properties\"", "\"\\u0070roperties\"");
        for json in [
            plain.to_owned(),
            plain.replace(',', ", ").replace("\":", "\": "),
            plain.replace(',', "  ,\n\t").replace("\":", "\" :\r\n"),
            spelled,
        ] {
            decode(&json, |decoded| {
                let Decoded::Event(draft) = decoded else {
                    panic!("{json} gave {decoded:?}")
                };
                assert_eq!(draft.event_id, EventId::Text("e"), "{json}");
                assert_eq!((draft.stream, draft.source), ("s", "a"), "{json}");
                assert_eq!(draft.timestamp_ms, Some(5), "{json}");
                assert_eq!((draft.key, draft.schema), (Some("k"), Some("c")), "{json}");
                assert_eq!((draft.entity_id, draft.properties.len()), ("x", 1));
                assert!(draft.extra.ends_with(":7"), "{json}: {}", draft.extra);
            })
            .unwrap();
        }
    }

    #[test]
    fn of_repeated_members_the_last_wins() {
        let json = event(
            r#","stream":"t""#,
            r#"{"entity_id":"x","entity_id":"y","properties":{"a":1,"b":2,"a":3,"__deleted__":true,"__deleted__":false}}"#,
        );
        decode(&json, |decoded| {
            let Decoded::Event(draft) = decoded else {
                panic!("{decoded:?}")
            };
            assert_eq!(
                (draft.stream, draft.entity_id, draft.tombstone),
                ("t", "y", false)
            );
            let values: Vec<_> = draft.properties.iter().map(|p| p.value).collect();
            assert_eq!(values, ["false", "3", "2"]);
        })
        .unwrap();
    }

    #[test]
    fn of_repeated_names_inside_values_the_last_wins() {
        let json = event(
            "",
            r#"{"unit":{"a":1,"a":2},"entity_id":"x","\u0075nit":[{"b":1,"\u0062":1e2}],"more":0,
                "properties":{"cfg":{"role":"admin","role" : "guest"},"n":[{"d":{"x":1,"x":2.50}}]}}"#,
        );
        decode(&json, |decoded| {
            let Decoded::Event(draft) = decoded else {
                panic!("{decoded:?}")
            };
            assert_eq!(draft.extra, r#""\u0075nit":[{"\u0062":1e2}],"more":0"#);
            let values: Vec<_> = draft.properties.iter().map(|p| p.value).collect();
            assert_eq!(values, [r#"{"role":"guest"}"#, r#"[{"d":{"x":2.50}}]"#]);
        })
        .unwrap();
    }

    #[test]
    fn an_absent_id_becomes_a_version_7_uuid() {
        for id in ["", r#","eventId":null"#, r#","eventId":"""#] {
            decode(
                &event(id, r#"{"entity_id":"x","properties":{}}"#),
                |decoded| {
                    let Decoded::Event(EventDraft {
                        event_id: EventId::Uuid(uuid),
                        ..
                    }) = decoded
                    else {
                        panic!("{decoded:?}")
                    };
                    assert_eq!(uuid.get_version_num(), 7);
                },
            )
            .unwrap();
        }
    }

    fn invalid(json: &str, expected: &str) {
        match refused(json) {
            ApiError::InvalidField { field, .. } | ApiError::MissingField { field } => {
                assert_eq!(field, expected, "{json}");
            }
            other => panic!("{json} gave {other:?}"),
        }
    }

    #[test]
    fn each_broken_rule_names_its_field() {
        let payload = r#"{"entity_id":"x","properties":{}}"#;
        for timestamp in [
            "0",
            "-1",
            "1.0",
            "1e3",
            "9223372036854775808",
            "\"1\"",
            "true",
        ] {
            invalid(
                &event(&format!(r#","timestamp":{timestamp}"#), payload),
                "timestamp",
            );
        }
        for stream in [
            "",
            ".a",
            "a.",
            "a..b",
            "A",
            "a b",
            "a/b",
            "ä",
            &"a".repeat(257),
        ] {
            invalid(
                &event(&format!(r#","stream":"{stream}""#), payload),
                "stream",
            );
        }
        invalid(&event(r#","source":"""#, payload), "source");
        invalid(
            &event(&format!(r#","source":"{}""#, "a".repeat(257)), payload),
            "source",
        );
        invalid(
            &event(&format!(r#","eventId":"{}""#, "a".repeat(129)), payload),
            "eventId",
        );
        invalid(
            &event(&format!(r#","key":"{}""#, "a".repeat(1025)), payload),
            "key",
        );
        invalid(&event(r#","schema":1"#, payload), "schema");
    }

    #[test]
    fn each_broken_rule_of_the_payload_names_its_field() {
        invalid(&event("", "[]"), "payload");
        invalid(&event("", r#"{"properties":{}}"#), "payload.entity_id");
        invalid(
            &event("", r#"{"entity_id":"","properties":{}}"#),
            "payload.entity_id",
        );
        invalid(
            &event("", r#"{"entity_id":"a\u0085","properties":{}}"#),
            "payload.entity_id",
        );
        invalid(
            &event("", r#"{"entity_id":"a\u007f","properties":{}}"#),
            "payload.entity_id",
        );
        invalid(
            &event("", r#"{"entity_id":1,"properties":{}}"#),
            "payload.entity_id",
        );
        invalid(&event("", r#"{"entity_id":"x"}"#), "payload.properties");
        invalid(
            &event("", r#"{"entity_id":"x","properties":null}"#),
            "payload.properties",
        );
        invalid(r#"{"stream":"s","source":"a"}"#, "payload");
        invalid(r#"{"source":"a","payload":{}}"#, "stream");
        assert!(matches!(refused("[]"), ApiError::Shape { .. }));
        assert_eq!(
            refused(&event("", r#"{"entity_id":"flux-core/x","properties":{}}"#)),
            ApiError::Reserved
        );
    }

    #[test]
    fn what_is_not_built_yet_is_refused_and_not_ignored() {
        let check = |members: &str, payload: &str, feature| {
            let json = event(members, payload);
            assert_eq!(refused(&json), ApiError::NotSupported { feature }, "{json}");
        };
        let payload = r#"{"entity_id":"x","properties":{}}"#;
        check(r#","expect":{"version":1}"#, payload, "expect");
        check(r#","expect":false"#, payload, "expect");
        check(r#","\u0065xpect":{}"#, payload, "expect");
        for (member, feature) in [
            (r#""increment":{"n":1}"#, "payload.increment"),
            (r#""min":{}"#, "payload.min"),
            (r#""max":{}"#, "payload.max"),
            (r#""append":{}"#, "payload.append"),
            (r#""unset":[]"#, "payload.unset"),
            (r#""ttl":null"#, "payload.ttl"),
            (r#""t\u0074l":5"#, "payload.ttl"),
        ] {
            check("", &format!(r#"{{"entity_id":"x",{member}}}"#), feature);
            check(
                "",
                &format!(r#"{{{member},{member},"entity_id":"x","properties":{{}}}}"#),
                feature,
            );
        }
        // What asks for nothing, what belongs elsewhere, and what a later repetition took back.
        for json in [
            event(r#","expect":null,"ttl":1,"increment":{}"#, payload),
            event(r#","expect":{},"expect":null"#, payload),
            event("", r#"{"entity_id":"x","properties":{"ttl":1,"expect":2}}"#),
            event(
                "",
                r#"{"ttl":1},"payload":{"entity_id":"x","properties":{}}"#,
            ),
            event("", r#"{"entity_id":"x","properties":{},"expect":1}"#),
        ] {
            decode(&json, |decoded| {
                assert!(matches!(decoded, Decoded::Event(_)), "{json}: {decoded:?}");
            })
            .unwrap();
        }
    }

    #[test]
    fn limits_hold_at_n() {
        let id = "i".repeat(512);
        let json = event(
            &format!(
                r#","stream":"{}","source":"{}","eventId":"{}","key":"{}""#,
                "s".repeat(256),
                "o".repeat(256),
                "e".repeat(128),
                "k".repeat(1024)
            ),
            &format!(r#"{{"entity_id":"{id}","properties":{{}}}}"#),
        );
        decode(&json, |decoded| {
            assert!(matches!(decoded, Decoded::Event(_)), "{decoded:?}");
        })
        .unwrap();
    }
}
