//! The stored form of an event: what the payload of a log record of kind `EVENT` holds.
//!
//! Layout (lengths are LEB128, `varint.rs`; the whole is drawn in `storage/FORMAT.md`):
//!
//! ```text
//! flags u8 | [len | decided] | [more flags u8 | trace 25] | [timestamp i64 LE] | entity_id
//!          | event_id | stream | source | [key] | [schema] | [extra]
//!          | property count | (name | value) ...
//! ```
//!
//! `decided` is what the owner of the entity adds to the form in which the event came. Without it
//! and its flag the bytes are as the producer's request gave them:
//!
//! ```text
//! flags u8 | [version LEB128] | [count | property number ...] | [count | name ...]
//!          | [expires i64 LE] | [linger ms LEB128]
//! ```
//!
//! Every text is its length followed by UTF-8 bytes, except an event id that the server made, which
//! is the 16 bytes of its UUID. Property names are stored decoded, ascending by their bytes and
//! unique; values are the JSON text they arrived in. `extra` holds the other members of the payload
//! as JSON text without the outer braces, for history; state never looks at it.
//!
//! Decoding is total: any bytes give a view or an error. The order of names is checked here so that
//! `state` may merge without looking again.

use super::{TraceParent, varint};

/// The kind of a log record that holds an event.
pub const RECORD_KIND_EVENT: u8 = 1;

const FLAG_TOMBSTONE: u8 = 1;
const FLAG_TIMESTAMP: u8 = 1 << 1;
const FLAG_UUID: u8 = 1 << 2;
const FLAG_KEY: u8 = 1 << 3;
const FLAG_SCHEMA: u8 = 1 << 4;
const FLAG_EXTRA: u8 = 1 << 5;
pub(super) const FLAG_DECIDED: u8 = 1 << 6;
/// A second byte of flags follows what was decided.
const FLAG_MORE: u8 = 1 << 7;

/// Of the second byte: the trace that the event is a part of follows.
const MORE_TRACE: u8 = 1;

pub use super::decided::{Decided, DecidedDraft, Names};

/// An event's id: made by the server, or as the producer sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventId<'a> {
    /// Made by the server: a version 7 UUID.
    Uuid(uuid::Uuid),
    /// As sent: 1 to 128 bytes.
    Text(&'a str),
}

/// One property of an event: a decoded name and the JSON text of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Property<'a> {
    /// The name, JSON escapes undone.
    pub name: &'a str,
    /// The value's JSON text: valid, without a space outside strings.
    pub value: &'a str,
}

/// An event that passed every check, ready to be stored. Borrows from the request.
#[derive(Debug, Clone, Copy)]
pub struct EventDraft<'a> {
    /// 1 to 512 bytes, no control characters.
    pub entity_id: &'a str,
    /// See [`EventId`].
    pub event_id: EventId<'a>,
    /// ASCII `a-z 0-9 .`, at most 256 bytes.
    pub stream: &'a str,
    /// 1 to 256 bytes.
    pub source: &'a str,
    /// The producer's time in Unix milliseconds, if it sent one.
    pub timestamp_ms: Option<i64>,
    /// Metadata, at most 1 KiB.
    pub key: Option<&'a str>,
    /// Metadata, at most 1 KiB.
    pub schema: Option<&'a str>,
    /// The trace that it is a part of. No part of its content: a retry has another.
    pub traceparent: Option<TraceParent>,
    /// The other members of the payload as JSON text without the outer braces; empty if there
    /// are none.
    pub extra: &'a str,
    /// The entity is deleted, whatever the properties say.
    pub tombstone: bool,
    /// Ascending by name, each name once.
    pub properties: &'a [Property<'a>],
}

impl EventDraft<'_> {
    /// As [`EventDraft::encode`], as a part of this trace if it names none itself.
    pub fn encode_in(&self, traceparent: Option<TraceParent>, out: &mut Vec<u8>) {
        if traceparent.is_none() || self.traceparent.is_some() {
            return self.encode(out);
        }
        let draft = EventDraft {
            traceparent,
            ..*self
        };
        draft.encode(out);
    }

    /// Appends the stored form to `out`. Cost: one copy of the texts.
    ///
    /// # Panics
    /// If a text is 4 GiB or longer, which the body limits exclude.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let optional = [
            (FLAG_TOMBSTONE, self.tombstone),
            (FLAG_TIMESTAMP, self.timestamp_ms.is_some()),
            (FLAG_UUID, matches!(self.event_id, EventId::Uuid(_))),
            (FLAG_KEY, self.key.is_some()),
            (FLAG_SCHEMA, self.schema.is_some()),
            (FLAG_EXTRA, !self.extra.is_empty()),
            (FLAG_MORE, self.traceparent.is_some()),
        ];
        out.push(
            optional
                .iter()
                .filter(|(_, set)| *set)
                .fold(0, |flags, (flag, _)| flags | flag),
        );
        if let Some(traceparent) = &self.traceparent {
            out.push(MORE_TRACE);
            out.extend_from_slice(traceparent.as_bytes());
        }
        if let Some(timestamp_ms) = self.timestamp_ms {
            out.extend_from_slice(&timestamp_ms.to_le_bytes());
        }
        put_text(out, self.entity_id);
        match self.event_id {
            EventId::Uuid(uuid) => out.extend_from_slice(uuid.as_bytes()),
            EventId::Text(text) => put_text(out, text),
        }
        put_text(out, self.stream);
        put_text(out, self.source);
        for text in [self.key, self.schema].into_iter().flatten() {
            put_text(out, text);
        }
        if !self.extra.is_empty() {
            put_text(out, self.extra);
        }
        varint::write(out, len_u32(self.properties.len()));
        for property in self.properties {
            put_text(out, property.name);
            put_text(out, property.value);
        }
    }
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    varint::write(out, len_u32(text.len()));
    out.extend_from_slice(text.as_bytes());
}

fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("bodies are limited far below 4 GiB")
}

/// What tells one event that a producer sent from another: its id and its content.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// The entity that it concerns.
    pub entity_id: &'a [u8],
    /// The id that the producer gave it.
    pub event_id: &'a [u8],
    /// What the entity's owner decided.
    pub decided: Decided<'a>,
    /// The flags of the form in which it came.
    flags: u8,
    /// The rest of that form.
    rest: &'a [u8],
}

impl<'a> Sent<'a> {
    /// What tells the event with these bytes, in either form; `None` if the server made its id, or
    /// if it is none. Looks at its beginning only. Cost: constant.
    #[inline]
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let flags = *bytes.first()?;
        if flags & FLAG_UUID != 0 {
            return None;
        }
        Self::of_text_id(flags, bytes)
    }

    fn of_text_id(flags: u8, bytes: &'a [u8]) -> Option<Self> {
        let start = Start::decode(bytes).ok()?;
        let mut rest = start.rest;
        Some(Self {
            entity_id: start.entity_id,
            event_id: take_bytes(&mut rest).ok()?,
            decided: start.decided,
            flags: flags & !(FLAG_DECIDED | FLAG_MORE),
            rest: start.as_it_came,
        })
    }

    /// The bytes of the form in which it came, in two parts, unless it has results of operations.
    /// Two events with the same bytes have the same content.
    pub const fn content(&self) -> (u8, &'a [u8]) {
        (self.flags, self.rest)
    }
}

/// Why stored bytes are no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventDecodeError {
    /// The bytes end inside a field, or go on after the last.
    #[error("the stored event ends early or has bytes left over")]
    Length,
    /// A flag that this version does not know.
    #[error("the stored event has unknown flags {flags:#04x}")]
    Flags {
        /// The flag byte.
        flags: u8,
    },
    /// A trace that none has.
    #[error("the stored event's trace is none")]
    Trace,
    /// A text that is not UTF-8.
    #[error("the stored event holds text that is not UTF-8")]
    Utf8,
    /// A version that no entity can have.
    #[error("the stored entity has version {version}")]
    Version {
        /// The version.
        version: u64,
    },
    /// Property names out of order or repeated.
    #[error("the stored event's properties are not in order")]
    Order,
}

/// A stored event, decoded in place.
#[derive(Debug, Clone)]
pub struct EventView<'a> {
    /// As in [`EventDraft`].
    pub entity_id: &'a str,
    /// As in [`EventDraft`].
    pub event_id: EventId<'a>,
    /// As in [`EventDraft`].
    pub stream: &'a str,
    /// As in [`EventDraft`].
    pub source: &'a str,
    /// As in [`EventDraft`].
    pub timestamp_ms: Option<i64>,
    /// As in [`EventDraft`].
    pub key: Option<&'a str>,
    /// As in [`EventDraft`].
    pub schema: Option<&'a str>,
    /// As in [`EventDraft`].
    pub traceparent: Option<TraceParent>,
    /// As in [`EventDraft`].
    pub extra: &'a str,
    /// As in [`EventDraft`].
    pub tombstone: bool,
    /// What the owner of the entity decided.
    pub decided: Decided<'a>,
    properties: Properties<'a>,
}

impl<'a> EventView<'a> {
    /// Decodes `bytes`, checking all of it. Cost: linear, no allocation.
    ///
    /// # Errors
    /// [`EventDecodeError`] where the bytes are not exactly one stored event.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, EventDecodeError> {
        let event = Self::decode_encoded(bytes)?;
        event.properties.check()?;
        Ok(event)
    }

    /// The same of bytes that [`EventDraft::encode`] wrote just now: its properties are taken to be
    /// whole and in order, and are not looked at one by one.
    ///
    /// # Errors
    /// [`EventDecodeError`] where the bytes before the properties are not a stored event's.
    pub fn decode_encoded(bytes: &'a [u8]) -> Result<Self, EventDecodeError> {
        let Start {
            flags,
            timestamp_ms,
            entity_id,
            decided,
            traceparent,
            as_it_came: _,
            mut rest,
        } = Start::decode(bytes)?;
        let entity_id = text(entity_id)?;
        let event_id = if flags & FLAG_UUID == 0 {
            EventId::Text(take_text(&mut rest)?)
        } else {
            EventId::Uuid(uuid::Uuid::from_bytes(take(&mut rest)?))
        };
        let mut texts = Texts::of(rest);
        let stream = texts.take()?;
        let source = texts.take()?;
        let mut optional = |flag| {
            if flags & flag == 0 {
                Ok(None)
            } else {
                texts.take().map(Some)
            }
        };
        let key = optional(FLAG_KEY)?;
        let schema = optional(FLAG_SCHEMA)?;
        let extra = optional(FLAG_EXTRA)?.unwrap_or("");
        Ok(Self {
            entity_id,
            event_id,
            stream,
            source,
            timestamp_ms,
            key,
            schema,
            traceparent,
            extra,
            tombstone: flags & FLAG_TOMBSTONE != 0,
            decided,
            properties: Properties::read(texts)?,
        })
    }

    /// The bytes of the entity id of an event. Nothing else is looked at, and they are not checked
    /// to be UTF-8. `None` if there is no event. Cost: constant.
    #[inline]
    pub fn entity_id_of(bytes: &'a [u8]) -> Option<&'a [u8]> {
        Start::decode(bytes).ok().map(|start| start.entity_id)
    }

    /// The properties, ascending by name.
    pub fn properties(&self) -> Properties<'a> {
        self.properties.clone()
    }

    /// The properties that operations led to, ascending by name.
    pub fn results(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        let mut results = self.decided.results().peekable();
        let numbered = (0_u32..).zip(self.properties());
        numbered.filter_map(move |(number, property)| {
            results.next_if_eq(&number)?;
            Some(property)
        })
    }

    /// Appends to `out` the form in which the event came: without what its owner decided.
    pub fn encode_as_it_came(&self, out: &mut Vec<u8>) {
        let mut results = self.decided.results().peekable();
        let numbered = (0_u32..).zip(self.properties());
        let sent = numbered.filter(|(number, _)| results.next_if_eq(number).is_none());
        let properties: Vec<Property<'_>> = sent.map(|(_, property)| property).collect();
        let draft = EventDraft {
            entity_id: self.entity_id,
            event_id: self.event_id,
            stream: self.stream,
            source: self.source,
            timestamp_ms: self.timestamp_ms,
            key: self.key,
            schema: self.schema,
            traceparent: self.traceparent,
            extra: self.extra,
            tombstone: self.tombstone,
            properties: &properties,
        };
        draft.encode(out);
    }
}

/// What a stored event begins with.
struct Start<'a> {
    flags: u8,
    decided: Decided<'a>,
    traceparent: Option<TraceParent>,
    timestamp_ms: Option<i64>,
    /// Not checked to be text.
    entity_id: &'a [u8],
    /// What follows the flags in the form in which the event came.
    as_it_came: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Start<'a> {
    #[inline]
    fn decode(bytes: &'a [u8]) -> Result<Self, EventDecodeError> {
        let (&flags, mut rest) = bytes.split_first().ok_or(EventDecodeError::Length)?;
        let longer = FLAG_DECIDED | FLAG_TIMESTAMP | FLAG_MORE;
        if flags & longer != 0 {
            return Self::decode_longer(bytes);
        }
        let as_it_came = rest;
        Ok(Self {
            flags,
            decided: Decided::default(),
            traceparent: None,
            timestamp_ms: None,
            entity_id: take_bytes(&mut rest)?,
            as_it_came,
            rest,
        })
    }

    /// That of an event in which more lies before the entity's id than the flags.
    #[inline(never)]
    fn decode_longer(bytes: &'a [u8]) -> Result<Self, EventDecodeError> {
        let (&flags, mut rest) = bytes.split_first().ok_or(EventDecodeError::Length)?;
        let decided = if flags & FLAG_DECIDED == 0 {
            Decided::default()
        } else {
            Decided::decode(take_bytes(&mut rest)?)?
        };
        let traceparent = if flags & FLAG_MORE == 0 {
            None
        } else {
            take_more(&mut rest)?
        };
        let as_it_came = rest;
        let timestamp_ms = if flags & FLAG_TIMESTAMP == 0 {
            None
        } else {
            Some(i64::from_le_bytes(take(&mut rest)?))
        };
        let entity_id = take_bytes(&mut rest)?;
        Ok(Self {
            flags,
            decided,
            traceparent,
            timestamp_ms,
            entity_id,
            as_it_came,
            rest,
        })
    }
}

/// What the second byte of flags announces.
fn take_more(rest: &mut &[u8]) -> Result<Option<TraceParent>, EventDecodeError> {
    let [flags] = take(rest)?;
    if flags != MORE_TRACE {
        return Err(EventDecodeError::Flags { flags });
    }
    let traceparent = TraceParent::from_bytes(take(rest)?);
    traceparent.map(Some).ok_or(EventDecodeError::Trace)
}

/// The properties of a stored event, ascending by name. A clone goes on from where the original is.
#[derive(Debug, Clone)]
pub struct Properties<'a> {
    remaining: u32,
    rest: Texts<'a>,
}

/// Texts, each behind its length.
#[derive(Debug, Clone, Copy)]
enum Texts<'a> {
    /// Lengths below 128 are ASCII, so all of it is text: checked in one go, which takes a fraction
    /// of as many small ones.
    Checked(&'a str),
    /// There is a longer one, or what is no text.
    Unchecked(&'a [u8]),
}

impl<'a> Texts<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        str::from_utf8(bytes).map_or(Self::Unchecked(bytes), Self::Checked)
    }

    const fn bytes(self) -> &'a [u8] {
        match self {
            Self::Checked(rest) => rest.as_bytes(),
            Self::Unchecked(rest) => rest,
        }
    }

    /// A number in the place of a text.
    fn take_count(&mut self) -> Result<u32, EventDecodeError> {
        let mut bytes = self.bytes();
        let before = bytes.len();
        let count = varint::read(&mut bytes).ok_or(EventDecodeError::Length)?;
        match self {
            Self::Checked(rest) => {
                let behind = rest.get(before - bytes.len()..);
                *rest = behind.ok_or(EventDecodeError::Utf8)?;
            }
            Self::Unchecked(rest) => *rest = bytes,
        }
        Ok(count)
    }

    #[inline]
    fn take(&mut self) -> Result<&'a str, EventDecodeError> {
        match self {
            Self::Checked(rest) => {
                let mut bytes = rest.as_bytes();
                let len = varint::read(&mut bytes).ok_or(EventDecodeError::Length)? as usize;
                if len > bytes.len() {
                    return Err(EventDecodeError::Length);
                }
                let behind = rest.get(rest.len() - bytes.len()..);
                let split = behind.and_then(|behind| behind.split_at_checked(len));
                let (text, after) = split.ok_or(EventDecodeError::Utf8)?;
                *rest = after;
                Ok(text)
            }
            Self::Unchecked(rest) => take_text(rest),
        }
    }
}

impl<'a> Properties<'a> {
    /// Bytes that those which are left take in their stored form.
    pub fn byte_len(&self) -> usize {
        self.rest.bytes().len()
    }

    /// The properties that begin here; neither their order nor their lengths are checked.
    fn read(mut rest: Texts<'a>) -> Result<Self, EventDecodeError> {
        let remaining = rest.take_count()?;
        if let Texts::Unchecked(bytes) = rest {
            // What was no text may have lain before them.
            rest = Texts::of(bytes);
        }
        Ok(Self { remaining, rest })
    }

    /// The properties whose stored form is `bytes`, checked.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, EventDecodeError> {
        let properties = Self::read(Texts::Unchecked(bytes))?;
        properties.check()?;
        Ok(properties)
    }

    /// Walks through all of them once, so that iterating can't fail.
    fn check(&self) -> Result<(), EventDecodeError> {
        let mut rest = self.rest;
        let mut previous = None;
        for _ in 0..self.remaining {
            let name = rest.take()?;
            rest.take()?;
            if previous.is_some_and(|previous: &str| previous >= name) {
                return Err(EventDecodeError::Order);
            }
            previous = Some(name);
        }
        if rest.bytes().is_empty() {
            Ok(())
        } else {
            Err(EventDecodeError::Length)
        }
    }
}

impl<'a> Iterator for Properties<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        let name = self.rest.take().ok()?;
        let value = self.rest.take().ok()?;
        Some(Property { name, value })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let remaining = self.remaining as usize;
        (remaining, Some(remaining))
    }
}

impl ExactSizeIterator for Properties<'_> {}

pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], EventDecodeError> {
    let (head, tail) = rest
        .split_first_chunk::<N>()
        .ok_or(EventDecodeError::Length)?;
    *rest = tail;
    Ok(*head)
}

pub(super) fn take_text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, EventDecodeError> {
    take_bytes(rest).and_then(text)
}

/// The bytes of a text.
#[inline]
pub(super) fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], EventDecodeError> {
    let len = varint::read(rest).ok_or(EventDecodeError::Length)? as usize;
    let (bytes, tail) = rest.split_at_checked(len).ok_or(EventDecodeError::Length)?;
    *rest = tail;
    Ok(bytes)
}

fn text(bytes: &[u8]) -> Result<&str, EventDecodeError> {
    str::from_utf8(bytes).or(Err(EventDecodeError::Utf8))
}
