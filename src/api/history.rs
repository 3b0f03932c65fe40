//! The parameters of `GET /api/events`, and the JSON of its events (API contract §9).
//!
//! `before` takes any cursor that covers what is asked for, and the cursors that rows had before
//! there were others: 14 characters of base64url over ten bytes: 1, a sequence, big-endian, and a
//! check byte.

use super::error::ApiError;
use super::event_encode::event_members;
use super::query::{each_parameter, once, other, parse_time};
use crate::limits;
use crate::model::{Cursor, CursorScope, CursorTooNarrow, EventView, InvalidCursor, Timestamp};
use crate::wire::http1::{percent_encode, write_decimal};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flux_storage::Sequence;

/// The parameters of `GET /api/events`. At least one of `entity` and `namespace` is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsQuery {
    /// Events of this entity.
    pub entity: Option<Box<str>>,
    /// Events of entities of this namespace.
    pub namespace: Option<Box<str>>,
    /// Accepted at this time or later.
    pub since: Option<Timestamp>,
    /// Accepted at this time or earlier.
    pub until: Option<Timestamp>,
    /// Events before this one.
    pub before: Option<Sequence>,
    /// Events of a page, 1 to [`limits::EVENTS_PAGE_MAX`].
    pub limit: usize,
}

impl EventsQuery {
    /// Parses the raw query of a target.
    ///
    /// # Errors
    /// [`ApiError::InvalidQuery`] for a bad or repeated parameter and if neither `entity` nor
    /// `namespace` is there; [`ApiError::PercentEncoding`].
    pub fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let [
            mut entity,
            mut namespace,
            mut since,
            mut until,
            mut before,
            mut limit,
        ] = [const { None::<Box<str>> }; 6];
        each_parameter(query, |name, value| match name {
            "entity" => once("entity", &mut entity, value),
            "namespace" => once("namespace", &mut namespace, value),
            "since" => once("since", &mut since, value),
            "until" => once("until", &mut until, value),
            "before" => once("before", &mut before, value),
            "limit" => once("limit", &mut limit, value),
            _ => other(name),
        })?;
        for text in [&mut entity, &mut namespace, &mut before] {
            text.take_if(|text| text.is_empty());
        }
        if entity.is_none() && namespace.is_none() {
            return Err(ApiError::InvalidQuery {
                name: "entity",
                rule: "`entity` or `namespace` is needed",
            });
        }
        let mut query = Self {
            entity,
            namespace,
            since: parse_time("since", since.as_deref())?,
            until: parse_time("until", until.as_deref())?,
            before: None,
            limit: limit.map_or(Ok(limits::EVENTS_PAGE_DEFAULT), |text| parse_limit(&text))?,
        };
        query.before = before.map(|text| query.parse_before(&text)).transpose()?;
        Ok(query)
    }

    /// What its events belong to.
    fn scope(&self) -> CursorScope<'_> {
        match (&self.entity, &self.namespace) {
            (Some(entity), _) => CursorScope::of(entity),
            (None, namespace) => CursorScope::Namespace(namespace.as_deref().unwrap_or_default()),
        }
    }

    fn parse_before(&self, text: &str) -> Result<Sequence, ApiError> {
        if let Some(sequence) = parse_earlier_cursor(text) {
            return Ok(sequence);
        }
        let name = "before";
        let cursor = Cursor::parse(text).map_err(|InvalidCursor| ApiError::InvalidCursor { name });
        let place = cursor?.last_of(self.scope());
        place.map_err(|CursorTooNarrow| ApiError::CursorTooNarrow { name })
    }

    /// `Link` to the next page (RFC 8288): the same query, before the event with this sequence.
    pub fn next_link(&self, before: Sequence) -> String {
        let mut link = String::from("</api/events?");
        let time = |time: Option<Timestamp>| time.map(|time| time.rfc3339().to_string());
        let (since, until) = (time(self.since), time(self.until));
        let before = Cursor::of(self.scope(), before).encode();
        let limit = self.limit.to_string();
        let parameters = [
            ("entity", self.entity.as_deref()),
            ("namespace", self.namespace.as_deref()),
            ("since", since.as_deref()),
            ("until", until.as_deref()),
            ("limit", Some(limit.as_str())),
            ("before", Some(before.as_str())),
        ];
        for (name, value) in parameters {
            if let Some(value) = value {
                if !link.ends_with('?') {
                    link.push('&');
                }
                link.push_str(name);
                link.push('=');
                percent_encode(value, &mut link);
            }
        }
        link.push_str(">; rel=\"next\"");
        link
    }
}

/// Reads a cursor of the earlier kind; `None` if it is none.
fn parse_earlier_cursor(text: &str) -> Option<Sequence> {
    let bytes: [u8; 10] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    let (sum, body) = bytes.split_last()?;
    let (1, sequence) = body.split_first().map(|(kind, rest)| (*kind, rest))? else {
        return None;
    };
    let expected = body
        .iter()
        .fold(0x5a_u8, |sum, byte| sum.rotate_left(3).wrapping_add(*byte));
    let sequence = Sequence::new(u64::from_be_bytes(sequence.try_into().ok()?));
    (*sum == expected).then_some(sequence)
}

fn parse_limit(text: &str) -> Result<usize, ApiError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<usize>() {
        Ok(limit) if digits && (1..=limits::EVENTS_PAGE_MAX).contains(&limit) => Ok(limit),
        _ => Err(ApiError::InvalidQuery {
            name: "limit",
            rule: "a whole number from 1 to 500",
        }),
    }
}

/// One event of a page: as it was sent, with what the server knows of it. It has a `timestamp` only
/// if it was sent with one; when it came stands in `acceptedAt`.
pub fn stored_event(
    out: &mut Vec<u8>,
    sequence: Sequence,
    accepted: Timestamp,
    event: &EventView<'_>,
) {
    out.push(b'{');
    event_members(out, event);
    stored_members(out, event.entity_id, (sequence, accepted));
    out.push(b'}');
}

/// What the server adds to an event: the members that follow its own.
pub fn stored_members(
    out: &mut Vec<u8>,
    entity_id: &str,
    (sequence, accepted): (Sequence, Timestamp),
) {
    out.extend_from_slice(b",\"sequence\":");
    write_decimal(out, sequence.get());
    out.extend_from_slice(b",\"acceptedAt\":\"");
    out.extend_from_slice(accepted.rfc3339().as_bytes());
    out.extend_from_slice(b"\",\"cursor\":\"");
    let scope = CursorScope::of(entity_id);
    out.extend_from_slice(&Cursor::text_of(scope, sequence));
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventDraft, EventId};

    fn cursor(scope: CursorScope<'_>, sequence: u64) -> String {
        Cursor::of(scope, Sequence::new(sequence)).encode()
    }

    #[test]
    fn before_takes_every_cursor_that_covers_what_is_asked_for() {
        let namespace = CursorScope::Namespace("n");
        let before = |query: &str, text: &str| {
            let query = format!("{query}&before={text}");
            let parsed = EventsQuery::parse(Some(&query));
            parsed.map(|query| query.before.map(Sequence::get))
        };
        let of_namespace = cursor(namespace, 7);
        for query in ["namespace=n", "entity=n/a", "entity=n/b&namespace=n"] {
            assert_eq!(before(query, &of_namespace), Ok(Some(7)), "{query}");
            let places = [Sequence::new(9)];
            let everything = Cursor::of_everything(&places).encode();
            assert_eq!(before(query, &everything), Ok(Some(9)), "{query}");
            assert_eq!(
                before(query, "AQAAAAAAAABHGg"),
                Ok(Some(71)),
                "an earlier one"
            );
        }
        let narrow = Err(ApiError::CursorTooNarrow { name: "before" });
        for query in ["namespace=m", "entity=m/a", "entity=n"] {
            assert_eq!(before(query, &of_namespace), narrow, "{query}");
        }
        let room = cursor(CursorScope::Id("room"), 3);
        assert_eq!(before("entity=room", &room), Ok(Some(3)));
        assert_eq!(before("entity=hall", &room), narrow);
        let invalid = Err(ApiError::InvalidCursor { name: "before" });
        for text in [
            "1",
            "garbage",
            "AQAAAAAAAABHGh",
            "AgAAAAAAAABHGg",
            &room[1..],
        ] {
            assert_eq!(before("entity=room", text), invalid, "{text}");
        }
    }

    #[test]
    fn parameters_are_decoded_and_empty_ones_are_absent() {
        let before = cursor(CursorScope::of("a/b+c"), 77);
        let query = format!(
            "entity=a%2Fb+c&namespace=&since=2026-01-01T02:00:00+02:00&until=1767225600001&before={before}&x=1"
        );
        let expected = EventsQuery {
            entity: Some("a/b+c".into()),
            namespace: None,
            since: Some(Timestamp::from_micros(1_767_225_600_000_000)),
            until: Some(Timestamp::from_micros(1_767_225_600_001_000)),
            before: Some(Sequence::new(77)),
            limit: 100,
        };
        assert_eq!(EventsQuery::parse(Some(&query)), Ok(expected));
        let query = EventsQuery::parse(Some(
            "namespace=n&limit=500&entity=&since=&until=&before=&limit2=0",
        ))
        .unwrap();
        assert_eq!((query.limit, query.entity), (500, None));
        assert_eq!((query.since, query.until, query.before), (None, None, None));
    }

    #[test]
    fn an_offset_is_understood_however_its_plus_arrives() {
        for plus in ["+", "%2B", "%2b", "%20", " "] {
            let query = format!("entity=e&since=2026-01-01T02:00:00{plus}02:00");
            let since = EventsQuery::parse(Some(&query)).unwrap().since;
            assert_eq!(
                since,
                Some(Timestamp::from_micros(1_767_225_600_000_000)),
                "{query}"
            );
        }
    }

    #[test]
    fn bad_and_repeated_parameters_are_refused() {
        let check = |query: &str, name: &str| match EventsQuery::parse(Some(query)) {
            Err(ApiError::InvalidQuery { name: found, .. }) => assert_eq!(found, name, "{query}"),
            other => panic!("{query}: {other:?}"),
        };
        check("", "entity");
        check("limit=1", "entity");
        check("entity=&namespace=", "entity");
        for limit in [
            "0",
            "501",
            "",
            "x",
            "-1",
            "+1",
            "1.0",
            "99999999999999999999",
        ] {
            check(&format!("entity=e&limit={limit}"), "limit");
        }
        for time in ["x", "-1", "2026-01-01", "2026-01-01T00:00:00"] {
            check(&format!("entity=e&since={time}"), "since");
            check(&format!("entity=e&until={time}"), "until");
        }
        check("entity=a&entity=b", "entity");
        check("entity=a&entity=", "entity");
        check("namespace=a&namespace=a", "namespace");
        check("entity=a&since=1&since=1", "since");
        check("entity=a&until=1&until=1", "until");
        check("entity=a&limit=1&limit=1", "limit");
        check("entity=a&before=&before=", "before");
        assert_eq!(
            EventsQuery::parse(Some("entity=%f")),
            Err(ApiError::PercentEncoding { part: "query" })
        );
    }

    #[test]
    fn the_link_names_the_same_query_before_a_cursor() {
        let query = EventsQuery::parse(Some(
            "namespace=n&entity=n/a&limit=7&since=1&until=2026-01-01T00:00:00Z",
        ))
        .unwrap();
        let link = query.next_link(Sequence::new(5));
        let target = link
            .strip_prefix("</api/events?")
            .and_then(|rest| rest.strip_suffix(">; rel=\"next\""))
            .expect(&link);
        let next = EventsQuery::parse(Some(target)).unwrap();
        let expected = EventsQuery {
            before: Some(Sequence::new(5)),
            ..query
        };
        assert_eq!(next, expected);
    }

    #[test]
    fn a_stored_event_says_when_and_as_what_it_was_accepted() {
        let draft = EventDraft {
            entity_id: "n/a",
            event_id: EventId::Text("e"),
            stream: "s",
            source: "x",
            timestamp_ms: Some(7),
            key: None,
            schema: None,
            traceparent: None,
            extra: "",
            tombstone: false,
            properties: &[],
        };
        let check = |timestamp_ms, shown| {
            let mut bytes = Vec::new();
            let draft = EventDraft {
                timestamp_ms,
                ..draft
            };
            draft.encode(&mut bytes);
            let mut out = Vec::new();
            let event = EventView::decode(&bytes).unwrap();
            stored_event(
                &mut out,
                Sequence::new(9),
                Timestamp::from_micros(5001),
                &event,
            );
            let cursor = cursor(CursorScope::Namespace("n"), 9);
            assert_eq!(
                String::from_utf8(out).unwrap(),
                format!(
                    r#"{{"eventId":"e","stream":"s","source":"x",{shown}"payload":{{"entity_id":"n/a","properties":{{}}}},"sequence":9,"acceptedAt":"1970-01-01T00:00:00.005001Z","cursor":"{cursor}"}}"#
                )
            );
        };
        check(Some(7), r#""timestamp":7,"#);
        check(None, "");
    }
}
