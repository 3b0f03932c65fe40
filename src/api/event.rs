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
use super::event_terms::{TermSpans, conflict};
use super::json::{Compactor, JsonError, JsonStr, Kind, OpenNames, RawValue, Scanner};
use crate::limits;
use crate::model::{EventDraft, EventId, Property, TraceParent, is_reserved};
use std::ops::Range;

/// The path of the properties within an event.
const PROPERTIES: &str = "payload.properties";

const TRACEPARENT: &str = "traceparent";

/// A text of the event: where it lies.
#[derive(Debug, Clone)]
pub(super) enum Text<'a> {
    Body(&'a str),
    Scratch(Range<usize>),
}

impl Text<'_> {
    pub(super) fn resolve<'t>(&'t self, scratch: &'t str) -> &'t str {
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
pub(super) struct Fields<'a> {
    event_id: Option<Text<'a>>,
    stream: Option<Text<'a>>,
    source: Option<Text<'a>>,
    timestamp_ms: Option<i64>,
    key: Option<Text<'a>>,
    schema: Option<Text<'a>>,
    traceparent: Option<TraceParent>,
    payload: bool,
    entity_id: Option<Text<'a>>,
    properties: bool,
    /// An operation or a `ttl` was there: the properties may be absent.
    pub(super) operations: bool,
    /// Bytes that they take in the body. Their stored form is not longer.
    properties_len: usize,
    tombstone: bool,
    /// The rules that were broken, each with the member that broke it.
    pub(super) errors: Vec<(&'static str, ApiError)>,
}

/// What came of one event.
#[derive(Debug)]
pub enum Decoded<'a> {
    /// It passed every check.
    Event(
        EventDraft<'a>,
        /// What it asks of its owner besides (`model/term.rs`).
        &'a [u8],
    ),
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
    /// The terms of the event at hand.
    terms: Vec<u8>,
    /// Events come as they were stored once: the bounds on an entity do not hold for them.
    is_stored: bool,
}

impl EventDecoder {
    /// A decoder of events that were stored once, by this program or an older one.
    pub fn of_stored() -> Self {
        Self {
            is_stored: true,
            ..Self::default()
        }
    }

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
        let mut reader = self.reader();
        reader.event(scanner)?;
        let EventReader {
            spans,
            mut fields,
            terms,
            ..
        } = reader;
        self.terms.clear();
        terms.encode(&self.scratch, &mut self.terms);
        let mut properties = recycle(std::mem::take(&mut self.properties));
        properties.extend(spans.iter().map(|(name, value)| Property {
            name: name.resolve(&self.scratch),
            value: value.resolve(&self.scratch),
        }));
        sort_and_keep_last(&mut properties);
        if !self.is_stored
            && !self.terms.is_empty()
            && let Some(name) = conflict(&self.terms, &properties)
        {
            let error = ApiError::OperationConflict(name);
            fields.errors.push(("payload", error));
        }
        if !self.is_stored && fields.properties_len > limits::ENTITY_BYTES_MAX {
            check_size(&properties, &mut fields.errors);
        }
        if fields.tombstone {
            // A repeated `__deleted__` may have been set to something else by its last occurrence.
            fields.tombstone = properties.iter().any(|property| is_tombstone(property));
        }
        let result = match draft(&fields, &self.scratch, &self.extra, &properties) {
            Ok(mut draft) => {
                if draft.event_id == EventId::Text("") {
                    draft.event_id = EventId::Uuid(ids.next(now_ms));
                }
                then(Decoded::Event(draft, &self.terms))
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

    /// Reads the conditions that are the JSON of an `expect`, as terms (`model/term.rs`).
    ///
    /// # Errors
    /// The rule that they break.
    pub fn conditions(&mut self, expect: &str) -> Result<&[u8], ApiError> {
        let mut reader = self.reader();
        reader.expect(&mut Scanner::new(expect.as_bytes())?)?;
        let EventReader { fields, terms, .. } = reader;
        if let Some((_, error)) = fields.errors.into_iter().next() {
            return Err(error);
        }
        self.terms.clear();
        terms.encode(&self.scratch, &mut self.terms);
        Ok(&self.terms)
    }

    fn reader<'a>(&mut self) -> EventReader<'_, 'a> {
        self.scratch.clear();
        self.extra.clear();
        EventReader {
            scratch: &mut self.scratch,
            extra: &mut self.extra,
            extra_names: &mut self.extra_names,
            compactor: &mut self.compactor,
            spans: recycle(std::mem::take(&mut self.spans)),
            fields: Fields::default(),
            terms: TermSpans::default(),
            is_stored: self.is_stored,
            properties_max: if self.is_stored {
                usize::MAX
            } else {
                limits::ENTITY_PROPERTIES_MAX
            },
        }
    }
}

/// Refuses a member where it is not honoured, unless it asks for nothing. `rule` says where it is.
///
/// # Errors
/// [`ApiError::InvalidField`].
pub(super) fn check_misplaced(
    field: &'static str,
    kind: Kind,
    rule: &'static str,
) -> Result<(), ApiError> {
    let is_switch = matches!(field, "bind" | "atomic");
    if kind == Kind::Null || (kind == Kind::False && is_switch) {
        return Ok(());
    }
    Err(ApiError::InvalidField { field, rule })
}

/// Walks over the members of an object that are left.
fn skip_rest(scanner: &mut Scanner<'_>) -> Result<(), JsonError> {
    while scanner.next_key()?.is_some() {
        scanner.raw_value()?;
    }
    Ok(())
}

/// Tokens of its namespace's rate that an event costs beyond one, by the length of its JSON (API
/// contract §7).
pub fn extra_tokens(json_len: usize) -> u32 {
    let tokens = json_len.checked_div(limits::RATE_TOKEN_BYTES);
    tokens
        .and_then(|tokens| u32::try_from(tokens).ok())
        .unwrap_or(u32::MAX)
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

/// An event that is too large for an entity by itself breaks a rule.
fn check_size(properties: &[Property<'_>], errors: &mut Vec<(&'static str, ApiError)>) {
    let size = |property: &Property<'_>| property.name.len().saturating_add(property.value.len());
    let bytes = properties.iter().map(size).fold(0, usize::saturating_add);
    if bytes > limits::ENTITY_BYTES_MAX || properties.len() > limits::ENTITY_PROPERTIES_MAX {
        errors.push((PROPERTIES, ApiError::EntityTooLarge));
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
    // No error is made, and dropped, for a text that is there.
    let required = |text: &'t Option<Text<'_>>, field| match text {
        Some(text) => Ok(text.resolve(scratch)),
        None => Err(ApiError::MissingField { field }),
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
    if !fields.properties && !fields.operations {
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
        traceparent: fields.traceparent,
        extra,
        tombstone: fields.tombstone,
        properties,
    })
}

/// Reads one event, member by member.
pub(super) struct EventReader<'d, 'a> {
    pub(super) scratch: &'d mut String,
    /// The payload's other members, in their stored form.
    extra: &'d mut String,
    /// The names of those.
    extra_names: &'d mut OpenNames,
    compactor: &'d mut Compactor,
    spans: Vec<(Text<'a>, Text<'a>)>,
    pub(super) fields: Fields<'a>,
    /// What the event asks of its owner besides being stored.
    pub(super) terms: TermSpans<'a>,
    /// No more properties are gathered than twice as many.
    properties_max: usize,
    /// The event was stored once: an operation in it is what was asked for then.
    pub(super) is_stored: bool,
}

impl<'a> EventReader<'_, 'a> {
    fn event(&mut self, scanner: &mut Scanner<'a>) -> Result<(), JsonError> {
        if !scanner.object_or_other()? {
            scanner.raw_value()?;
            let rule = "an event must be a JSON object";
            self.fields.errors.push(("", ApiError::Shape { rule }));
            return Ok(());
        }
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
            EventMember::Traceparent => self.fields.traceparent = self.traceparent(scanner)?,
            EventMember::Payload => self.payload(scanner)?,
            EventMember::Expect => self.expect(scanner)?,
            EventMember::Misplaced(name, rule) => {
                self.begin_member(name);
                let kind = scanner.raw_value()?.kind;
                self.misplaced(name, kind, rule);
            }
        }
        Ok(())
    }

    /// Notes a member that is not honoured where it is. An event that is stored already stays as it
    /// is.
    fn misplaced(&mut self, field: &'static str, kind: Kind, rule: &'static str) {
        if !self.is_stored
            && let Err(error) = check_misplaced(field, kind, rule)
        {
            self.fields.errors.push((field, error));
        }
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
        self.terms.forget_payload();
        self.fields.operations = false;
        self.fields.payload = true;
        self.begin_member("payload");
        if !scanner.object_or_other()? {
            scanner.raw_value()?;
            self.invalid("payload", "an object");
            return Ok(());
        }
        loop {
            let known = scanner.known_key(PayloadMember::by_word);
            match self.member(known, scanner, PayloadMember::of)? {
                Member::Known(PayloadMember::EntityId) => {
                    self.fields.entity_id = self.required_string(scanner, "payload.entity_id")?;
                }
                Member::Known(PayloadMember::Properties) => self.properties(scanner)?,
                Member::Known(PayloadMember::Operation(kind, path)) => {
                    self.begin_member(path);
                    let value = scanner.raw_value()?;
                    let name = path.strip_prefix("payload.").unwrap_or(path);
                    self.keep_extra_named(name, &value);
                    self.operation((kind, path), &value);
                }
                Member::Known(PayloadMember::Ttl) => {
                    self.begin_member("payload.ttl");
                    let value = scanner.raw_value()?;
                    self.keep_extra_named("ttl", &value);
                    self.ttl(&value);
                }
                Member::Known(PayloadMember::Expect) => {
                    self.begin_member("payload.expect");
                    let value = scanner.raw_value()?;
                    self.keep_extra_named("expect", &value);
                    self.misplaced("payload.expect", value.kind, "only beside `payload`");
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
        self.begin_member(PROPERTIES);
        if !scanner.object_or_other()? {
            scanner.raw_value()?;
            self.invalid(PROPERTIES, "an object");
            return Ok(());
        }
        let start = scanner.offset();
        while let Some(key) = scanner.next_key()? {
            let name = self.text(key);
            let value = scanner.raw_value()?;
            if value.text == "true" && name.resolve(self.scratch) == "__deleted__" {
                self.fields.tombstone = true;
            }
            let value = self.value(&value);
            self.spans.push((name, value));
            if self.spans.len() > self.properties_max.saturating_mul(2) {
                self.keep_last_of_each();
                if self.spans.len() > self.properties_max {
                    self.fields
                        .errors
                        .push((PROPERTIES, ApiError::EntityTooLarge));
                    return skip_rest(scanner);
                }
            }
        }
        self.fields.properties_len = scanner.offset().saturating_sub(start);
        if self.spans.len() > self.properties_max {
            // They are counted when it is known which of them are repeated.
            self.fields.properties_len = usize::MAX;
        }
        Ok(())
    }

    /// Of properties that were gathered under the same name, keeps the last.
    fn keep_last_of_each(&mut self) {
        let scratch = self.scratch.as_str();
        self.spans
            .sort_by(|(a, _), (b, _)| a.resolve(scratch).cmp(b.resolve(scratch)));
        self.spans.dedup_by(|later, kept| {
            let is_same = later.0.resolve(scratch) == kept.0.resolve(scratch);
            if is_same {
                std::mem::swap(&mut kept.1, &mut later.1);
            }
            is_same
        });
    }

    /// The span of a string, its escapes undone.
    pub(super) fn text(&mut self, string: JsonStr<'a>) -> Text<'a> {
        if let Some(plain) = string.plain() {
            return Text::Body(plain);
        }
        let start = self.scratch.len();
        string.decode_onto(self.scratch);
        Text::Scratch(start..self.scratch.len())
    }

    /// The span of a value's stored form.
    pub(super) fn value(&mut self, value: &RawValue<'a>) -> Text<'a> {
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

    /// Keeps a member of the payload that is known under this name.
    fn keep_extra_named(&mut self, name: &'static str, value: &RawValue<'a>) {
        self.keep_extra(JsonStr::plain_of(name), value);
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

    fn traceparent(&mut self, scanner: &mut Scanner<'a>) -> Result<Option<TraceParent>, JsonError> {
        let text = self.optional_string(scanner, TRACEPARENT)?;
        let text = text.as_ref().map(|text| text.resolve(self.scratch));
        let parsed = text.map(|text| TraceParent::parse(text.as_bytes()));
        if parsed == Some(None) && !self.is_stored {
            self.invalid(TRACEPARENT, TraceParent::RULE);
        }
        Ok(parsed.flatten())
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

    pub(super) fn invalid(&mut self, field: &'static str, rule: &'static str) {
        self.fields
            .errors
            .push((field, ApiError::InvalidField { field, rule }));
    }

    /// A member comes again: what was wrong with it, or inside it, no longer counts.
    #[inline]
    pub(super) fn begin_member(&mut self, field: &str) {
        if !self.fields.errors.is_empty() {
            self.forget_errors(field);
        }
    }

    #[cold]
    fn forget_errors(&mut self, field: &str) {
        let errors = &mut self.fields.errors;
        errors.retain(|(broken, _)| !broken.starts_with(field));
    }
}
