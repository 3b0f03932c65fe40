//! The parameters of `GET /api/stream` and `GET /api/changes` (API contract §13).

use super::error::ApiError;
use super::query::{TICKET, each_parameter, once, other};
use super::stream_options::{StreamMembers, StreamMode, StreamOptions, StreamStart};
use crate::limits;
use crate::model::Cursor;
use crate::wire::http1::Field;

/// What a stream is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamQuery {
    /// The patterns that its entities are named by; none: everything.
    pub entity_ids: Vec<Box<str>>,
    /// How it is told of them.
    pub options: StreamOptions,
}

impl StreamQuery {
    /// Parses the raw query of a target. `last_event_id`: the field, which is where a client goes
    /// on whose connection was lost, whatever its query says.
    ///
    /// # Errors
    /// What is wrong with a parameter or with the field.
    pub fn parse(query: Option<&str>, last_event_id: Field<'_>) -> Result<Self, ApiError> {
        let mut parameters = Parameters::read(query, |name, _| match name {
            // What it stands for is looked up with the token.
            TICKET => Ok(()),
            name => other(name),
        })?;
        let resumed = parse_last_event_id(last_event_id)?;
        if resumed.is_some() {
            parameters.since = None;
            parameters.snapshot = None;
        }
        let mut options = parameters.options()?;
        if let Some(cursor) = resumed {
            options.start = StreamStart::Since(cursor);
        }
        let entity_ids = parameters.entity_ids;
        Ok(Self {
            entity_ids,
            options,
        })
    }
}

/// What a poll asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangesQuery {
    /// The patterns that its entities are named by; none: everything.
    pub entity_ids: Vec<Box<str>>,
    /// Its mode, place, properties and filter.
    pub options: StreamOptions,
    /// Milliseconds that it waits for the first change.
    pub wait_ms: u64,
    /// Changes of its answer, 1 to [`limits::CHANGES_MAX`].
    pub limit: usize,
    /// Bytes of changes at which its answer is full.
    pub bytes_max: usize,
}

impl ChangesQuery {
    /// Parses the raw query of a target.
    ///
    /// # Errors
    /// What is wrong with a parameter.
    pub fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let (mut wait, mut limit): (Option<Box<str>>, Option<Box<str>>) = (None, None);
        let parameters = Parameters::read(query, |name, value| match name {
            "wait" => once("wait", &mut wait, value),
            "limit" => once("limit", &mut limit, value),
            name => other(name),
        })?;
        let options = parameters.options()?;
        if options.mode == StreamMode::Property {
            return Err(invalid("mode", "`entity` or `event`"));
        }
        // What asks for something is not passed over.
        if options.start == StreamStart::Snapshot {
            return Err(invalid("snapshot", "not in a poll"));
        }
        if options.interval_micros.is_some() {
            return Err(invalid("max_hz", "not in a poll"));
        }
        Ok(Self {
            entity_ids: parameters.entity_ids,
            options,
            wait_ms: parse_wait(wait.as_deref().unwrap_or_default())?,
            limit: parse_limit(limit.as_deref().unwrap_or_default())?,
            bytes_max: limits::CHANGES_BYTES_MAX,
        })
    }
}

/// The milliseconds of a `wait`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be from 0 to 60,000"
)]
fn parse_wait(text: &str) -> Result<u64, ApiError> {
    if text.is_empty() {
        return Ok(0);
    }
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = text.parse::<f64>().ok();
    let seconds = seconds.filter(|it| is_plain && *it <= limits::CHANGES_WAIT_SECONDS_MAX);
    let seconds = seconds.ok_or(invalid("wait", "a number of seconds from 0 to 60"))?;
    Ok((seconds * 1000.0).round() as u64)
}

fn parse_limit(text: &str) -> Result<usize, ApiError> {
    if text.is_empty() {
        return Ok(limits::CHANGES_DEFAULT);
    }
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = text.parse().ok();
    let limit = limit.filter(|limit| is_plain && (1..=limits::CHANGES_MAX).contains(limit));
    limit.ok_or(invalid("limit", "a whole number from 1 to 1000"))
}

fn parse_last_event_id(field: Field<'_>) -> Result<Option<Cursor>, ApiError> {
    const NAME: &str = "Last-Event-ID";
    match field {
        Field::Absent | Field::One([]) => Ok(None),
        Field::Repeated => Err(ApiError::InvalidHeader {
            field: NAME,
            rule: "given more than once",
        }),
        Field::One(value) => {
            let cursor = str::from_utf8(value).ok();
            let cursor = cursor.and_then(|text| Cursor::parse(text).ok());
            let invalid = ApiError::InvalidCursor { name: NAME };
            cursor.ok_or(invalid).map(Some)
        }
    }
}

/// The parameters that both calls have, each decoded.
#[derive(Debug, Default)]
struct Parameters {
    entity_ids: Vec<Box<str>>,
    mode: Option<Box<str>>,
    snapshot: Option<Box<str>>,
    since: Option<Box<str>>,
    properties: Option<Box<str>>,
    filter: Option<Box<str>>,
    max_hz: Option<Box<str>>,
}

impl Parameters {
    /// `rest` takes the parameters that one of the calls has alone.
    fn read(
        query: Option<&str>,
        mut rest: impl FnMut(&str, &str) -> Result<(), ApiError>,
    ) -> Result<Self, ApiError> {
        let mut read = Self::default();
        each_parameter(query, |name, value| match name {
            "entity_id" => read.add_id(value),
            "mode" => once("mode", &mut read.mode, value),
            "snapshot" => once("snapshot", &mut read.snapshot, value),
            "since" => once("since", &mut read.since, value),
            "properties" => once("properties", &mut read.properties, value),
            "filter" => once("filter", &mut read.filter, value),
            "max_hz" => once("max_hz", &mut read.max_hz, value),
            name => rest(name, value),
        })?;
        for text in [
            &mut read.mode,
            &mut read.snapshot,
            &mut read.since,
            &mut read.properties,
            &mut read.filter,
            &mut read.max_hz,
        ] {
            text.take_if(|text| text.is_empty());
        }
        Ok(read)
    }

    fn add_id(&mut self, value: &str) -> Result<(), ApiError> {
        if self.entity_ids.len() >= limits::STREAM_ENTITY_IDS_MAX {
            let rule = "given more than 64 times";
            return Err(invalid("entity_id", rule));
        }
        self.entity_ids.push(value.into());
        Ok(())
    }

    fn options(&self) -> Result<StreamOptions, ApiError> {
        let names = self.properties.as_deref();
        let members = StreamMembers {
            mode: self.mode.as_deref(),
            snapshot: match self.snapshot.as_deref() {
                None => None,
                Some("true" | "1") => Some(true),
                Some("false" | "0") => Some(false),
                Some(_) => return Err(invalid("snapshot", "`true` or `false`")),
            },
            since: self.since.as_deref(),
            properties: names.map(|names| names.split(',').map(Box::from).collect()),
            filter: self.filter.as_deref(),
            max_hz: self.max_hz.as_deref(),
        };
        let options = members.read(StreamMode::Entity);
        let mut options = options.map_err(|error| match error {
            ApiError::InvalidField { field, rule } => invalid(field, rule),
            error => error,
        })?;
        // Its acknowledgement has a cursor, whatever it asks for.
        options.is_extended = true;
        Ok(options)
    }
}

const fn invalid(name: &'static str, rule: &'static str) -> ApiError {
    ApiError::InvalidQuery { name, rule }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CursorScope;
    use flux_storage::Sequence;

    fn parse(query: &str) -> Result<StreamQuery, ApiError> {
        StreamQuery::parse(Some(query), Field::Absent)
    }

    fn cursor(last: u64) -> Cursor {
        Cursor::of(CursorScope::Namespace("n"), Sequence::new(last))
    }

    #[test]
    fn without_parameters_a_stream_is_of_everything_by_entity() {
        let query = StreamQuery::parse(None, Field::Absent).unwrap();
        assert!(query.entity_ids.is_empty());
        let options = query.options;
        assert_eq!(options.mode, StreamMode::Entity);
        assert_eq!(options.start, StreamStart::Live);
        assert!(options.is_extended && options.properties.is_none());
        let empty = parse("mode=&snapshot=&since=&properties=&filter=&max_hz=&x=y").unwrap();
        assert_eq!(empty.options, options);
    }

    #[test]
    fn parameters_are_decoded() {
        let query = "entity_id=n%2F*&mode=property&entity_id=m&properties=b,a&max_hz=2.5\
            &filter=eq(a,%22x+%22)&snapshot=true";
        let found = parse(query).unwrap();
        assert_eq!(found.entity_ids, ["n/*", "m"].map(Box::from));
        let options = found.options;
        assert_eq!(options.mode, StreamMode::Property);
        assert_eq!(options.properties, Some(["a", "b"].map(Box::from).into()));
        assert_eq!(options.interval_micros, Some(400_000));
        assert_eq!(options.filter.unwrap().text(), "eq(a,\"x+\")");
        assert_eq!(options.start, StreamStart::Snapshot);
        let since = parse(&format!("snapshot=0&since={}", cursor(7).encode()));
        assert_eq!(since.unwrap().options.start, StreamStart::Since(cursor(7)));
    }

    #[test]
    fn a_place_in_the_head_beats_those_in_the_query() {
        let query = format!("snapshot=true&since={}", cursor(1).encode());
        let text = cursor(9).encode();
        let parse = |value| StreamQuery::parse(Some(&query), Field::One(value));
        let found = parse(text.as_bytes()).unwrap();
        assert_eq!(found.options.start, StreamStart::Since(cursor(9)));
        assert_eq!(parse(b"x").unwrap_err().code(), "invalid_cursor");
        assert_eq!(parse(b"\xff").unwrap_err().code(), "invalid_cursor");
        assert_eq!(parse(b"").unwrap_err().code(), "invalid_query");
        let repeated = StreamQuery::parse(None, Field::Repeated);
        assert_eq!(repeated.unwrap_err().code(), "invalid_header");
    }

    #[test]
    fn a_poll_has_a_wait_and_a_limit_and_no_snapshot() {
        let parse = |query: &str| ChangesQuery::parse(Some(query));
        let found = parse("").unwrap();
        assert_eq!((found.wait_ms, found.limit), (0, 100));
        assert_eq!(found.options.mode, StreamMode::Entity);
        for (query, wait_ms, limit) in [
            ("wait=60&limit=1000", 60_000, 1000),
            ("wait=0.25&limit=1", 250, 1),
            ("wait=&limit=&snapshot=false", 0, 100),
        ] {
            let found = parse(query).unwrap();
            assert_eq!((found.wait_ms, found.limit), (wait_ms, limit), "{query}");
        }
        for query in [
            "wait=61",
            "wait=60.001",
            "wait=-1",
            "wait=1e1",
            "wait=NaN",
            "wait=.",
            "wait=1&wait=1",
            "limit=0",
            "limit=1001",
            "limit=%2B1",
            "limit=1.0",
            "mode=property",
            "snapshot=true",
            "max_hz=1",
        ] {
            assert_eq!(parse(query).unwrap_err().code(), "invalid_query", "{query}");
        }
    }

    #[test]
    fn each_parameter_is_refused_by_its_rule_and_its_name() {
        for (query, code) in [
            ("mode=entities", "invalid_query"),
            ("mode=entity&mode=entity", "invalid_query"),
            ("snapshot=yes", "invalid_query"),
            ("since=x", "invalid_cursor"),
            ("filter=eq(a", "invalid_filter"),
            ("filter=exists(a)&mode=event", "invalid_query"),
            ("max_hz=0", "invalid_query"),
            ("max_hz=1&mode=event", "invalid_query"),
            ("entity_id=%zz", "invalid_encoding"),
            ("wait=1", "invalid_query"),
            ("namespace=a", "invalid_query"),
        ] {
            assert_eq!(parse(query).unwrap_err().code(), code, "{query}");
        }
        let both = format!("snapshot=true&since={}", cursor(1).encode());
        assert_eq!(parse(&both).unwrap_err().code(), "invalid_query");
        let names = |count: usize| vec!["a"; count].join(",");
        assert!(parse(&format!("properties={}", names(64))).is_ok());
        assert!(parse(&format!("properties={}", names(65))).is_err());
        let ids = |count: usize| vec!["entity_id=a"; count].join("&");
        assert_eq!(parse(&ids(64)).unwrap().entity_ids.len(), 64);
        assert_eq!(parse(&ids(65)).unwrap_err().code(), "invalid_query");
    }
}
