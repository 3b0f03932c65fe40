//! The members of an event and of its payload, recognised by their names.
//!
//! The first eight bytes of an expected name, its opening quote among them, tell which it is: one
//! comparison of a word where comparing texts would take several calls. `by_word` does that for
//! names without escapes, but for `key`, which is shorter than a word; `of` knows all of them.
//! Without words a batch of 1,000 events costs a tenth more.

use super::json::JsonStr;
use crate::model::TermKind;

/// A member of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventMember {
    EventId,
    Stream,
    Source,
    Timestamp,
    Key,
    Schema,
    /// The trace that it is a part of.
    Traceparent,
    Payload,
    /// A condition.
    Expect,
    /// What has a meaning elsewhere and none here, and where that is.
    Misplaced(&'static str, &'static str),
}

/// A member of an event's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PayloadMember {
    EntityId,
    Properties,
    /// An operation, and its path within the event.
    Operation(TermKind, &'static str),
    /// When the entity expires.
    Ttl,
    /// A condition, which belongs beside the payload.
    Expect,
}

/// What comes next in an object.
pub(super) enum Member<'a, M> {
    /// A member that it is known to have.
    Known(M),
    /// Another, with this key.
    Other(JsonStr<'a>),
    /// Its end.
    None,
}

impl EventMember {
    /// The member of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "eventId" => Self::EventId,
            "stream" => Self::Stream,
            "source" => Self::Source,
            "timestamp" => Self::Timestamp,
            "key" => Self::Key,
            "schema" => Self::Schema,
            "traceparent" => Self::Traceparent,
            "payload" => Self::Payload,
            "expect" => Self::Expect,
            "bind" => Self::Misplaced("bind", BESIDE_EVENT),
            "linger" => Self::Misplaced("linger", BESIDE_EVENT),
            "increment" => Self::Misplaced("increment", IN_PAYLOAD),
            "append" => Self::Misplaced("append", IN_PAYLOAD),
            "min" => Self::Misplaced("min", IN_PAYLOAD),
            "max" => Self::Misplaced("max", IN_PAYLOAD),
            "unset" => Self::Misplaced("unset", IN_PAYLOAD),
            "ttl" => Self::Misplaced("ttl", IN_PAYLOAD),
            "atomic" => Self::Misplaced("atomic", "only beside the `events` of a batch"),
            _ => return None,
        })
    }

    /// The member that `text` begins with, as a name in quotes, and the bytes of that. May miss
    /// one.
    #[inline]
    pub(super) fn by_word(text: &[u8]) -> Option<(Self, usize)> {
        const EVENT_ID: u64 = word(*b"\"eventId");
        const STREAM: u64 = word(*b"\"stream\"");
        const SOURCE: u64 = word(*b"\"source\"");
        const TIMESTAMP: u64 = word(*b"\"timesta");
        const SCHEMA: u64 = word(*b"\"schema\"");
        const TRACEPARENT: u64 = word(*b"\"tracepa");
        const PAYLOAD: u64 = word(*b"\"payload");
        let (first, rest) = text.split_first_chunk::<WORD_BYTES>()?;
        match word(*first) {
            STREAM => Some((Self::Stream, WORD_BYTES)),
            SOURCE => Some((Self::Source, WORD_BYTES)),
            PAYLOAD => ends(Self::Payload, rest, b"\""),
            EVENT_ID => ends(Self::EventId, rest, b"\""),
            TIMESTAMP => ends(Self::Timestamp, rest, b"mp\""),
            SCHEMA => Some((Self::Schema, WORD_BYTES)),
            TRACEPARENT => ends(Self::Traceparent, rest, b"rent\""),
            _ => None,
        }
    }
}

impl PayloadMember {
    /// The member of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "entity_id" => Self::EntityId,
            "properties" => Self::Properties,
            "increment" => Self::Operation(TermKind::Increment, "payload.increment"),
            "min" => Self::Operation(TermKind::Min, "payload.min"),
            "max" => Self::Operation(TermKind::Max, "payload.max"),
            "append" => Self::Operation(TermKind::Append, "payload.append"),
            "unset" => Self::Operation(TermKind::Unset, "payload.unset"),
            "ttl" => Self::Ttl,
            "expect" => Self::Expect,
            _ => return None,
        })
    }

    /// As [`EventMember::by_word`].
    #[inline]
    pub(super) fn by_word(text: &[u8]) -> Option<(Self, usize)> {
        const ENTITY_ID: u64 = word(*b"\"entity_");
        const PROPERTIES: u64 = word(*b"\"propert");
        let (first, rest) = text.split_first_chunk::<WORD_BYTES>()?;
        match word(*first) {
            ENTITY_ID => ends(Self::EntityId, rest, b"id\""),
            PROPERTIES => ends(Self::Properties, rest, b"ies\""),
            _ => None,
        }
    }
}

/// Where `bind` and `linger` are honoured.
pub(super) const BESIDE_EVENT: &str = "only over the WebSocket, beside `event` in a `publish`";
const IN_PAYLOAD: &str = "only in `payload`";

const WORD_BYTES: usize = 8;

const fn word(bytes: [u8; WORD_BYTES]) -> u64 {
    u64::from_le_bytes(bytes)
}

#[inline]
fn ends<M, const N: usize>(member: M, rest: &[u8], end: &[u8; N]) -> Option<(M, usize)> {
    rest.starts_with(end)
        .then_some((member, WORD_BYTES.wrapping_add(N)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::json::Scanner;

    #[test]
    fn words_and_names_tell_the_same() {
        let names = [
            "eventId",
            "stream",
            "source",
            "timestamp",
            "schema",
            "payload",
            "key",
            "entity_id",
            "properties",
        ];
        for name in names {
            let text = format!("\"{name}\":1,     ");
            let expected = name.len() + 2;
            if let Some(member) = EventMember::of(name)
                && member != EventMember::Key
            {
                let seen = EventMember::by_word(text.as_bytes());
                assert_eq!(seen, Some((member, expected)), "{name}");
            }
            if let Some(member) = PayloadMember::of(name) {
                let seen = PayloadMember::by_word(text.as_bytes());
                assert_eq!(seen, Some((member, expected)), "{name}");
            }
            // A longer name, a shorter one, another, and one that is cut off are no member.
            for other in [
                format!("\"{name}s\":1,    "),
                format!("\"{}\":1,      ", name.split_at(name.len() - 1).0),
                format!("\"{}_\":1,     ", name.split_at(name.len() - 1).0),
                format!("\"{name}"),
            ] {
                assert_eq!(EventMember::by_word(other.as_bytes()), None, "{other}");
                assert_eq!(PayloadMember::by_word(other.as_bytes()), None, "{other}");
            }
        }
    }

    /// Walks an object by scanning, and asks before each key what its word tells: the same, or
    /// nothing.
    fn check(text: &str) -> usize {
        let (mut told, mut name) = (0_usize, String::new());
        let Ok(mut scanner) = Scanner::new(text.as_bytes()) else {
            return 0;
        };
        if scanner.begin_object().is_err() {
            return 0;
        }
        loop {
            let mut by_word = scanner.clone();
            let known = by_word.known_key(EventMember::by_word);
            let before = scanner.offset();
            let next = scanner.next_key();
            if known.is_some() {
                told = told.wrapping_add(1);
                let key = next.unwrap().expect("a key was seen");
                assert_eq!(known, EventMember::of(key.decode(&mut name)), "{text}");
                assert_eq!(by_word.offset(), scanner.offset(), "{text}");
                // What follows is read in the same way.
                assert_eq!(by_word.raw_value(), scanner.clone().raw_value(), "{text}");
            } else {
                assert_eq!(by_word.offset(), before, "{text}");
            }
            if !matches!(next, Ok(Some(_))) || scanner.raw_value().is_err() {
                return told;
            }
        }
    }

    #[test]
    fn scanning_finds_what_words_tell_in_whole_and_damaged_texts() {
        let plain = r#"{"eventId":"e","stream":"s","source" :"a", "timestamp":5,  "schema":null,"payload":{"stream":1},"key":"k"}"#;
        let mut told = check(plain);
        assert_eq!(told, 4);
        for at in 0..=plain.len() {
            told += check(&plain[..at]);
            for piece in [",", " ", "\"", ":", "}", "\\", "\"stream\":", "\n"] {
                let (before, after) = plain.split_at(at);
                told += check(&format!("{before}{piece}{after}"));
                let after = after.get(1..).unwrap_or_default();
                told += check(&format!("{before}{piece}{after}"));
            }
        }
        assert!(told > 1_000, "{told}");
    }
}
