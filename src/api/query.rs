//! Query parameters of the state reads and of the WebSocket route (API contract §4, §8).

use super::error::ApiError;
use super::time;
use crate::filter::Filter;
use crate::limits;
use crate::model::Timestamp;
use crate::wire::http1::{percent_encode, query_pairs};

/// Which properties an answer keeps: names, ascending.
pub type Fields = Box<[Box<str>]>;

/// The parameters of `GET /api/state/entities`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Exact namespace.
    pub namespace: Option<Box<str>>,
    /// Prefix of the id.
    pub prefix: Option<Box<str>>,
    /// Ids after this one only.
    pub after: Option<Box<str>>,
    /// Entities of a page, 1 to [`limits::PAGE_ENTITIES_MAX`]; `None` streams all of them.
    pub limit: Option<usize>,
    /// The properties to keep.
    pub fields: Option<Fields>,
    /// The state as it was at this time; `None` for the present.
    pub at: Option<Timestamp>,
    /// Entities that match only.
    pub filter: Option<Box<Filter>>,
}

impl ListQuery {
    /// Parses the raw query of a target.
    ///
    /// # Errors
    /// [`ApiError::InvalidQuery`] for a bad or repeated parameter, [`ApiError::PercentEncoding`],
    /// and [`ApiError::InvalidFilter`].
    pub fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let mut limit: Option<Box<str>> = None;
        let mut fields: Option<Box<str>> = None;
        let mut at: Option<Box<str>> = None;
        let mut filter: Option<Box<str>> = None;
        let mut parsed = Self::default();
        each_parameter(query, |name, value| match name {
            "namespace" => once("namespace", &mut parsed.namespace, value),
            "prefix" => once("prefix", &mut parsed.prefix, value),
            "after" => once("after", &mut parsed.after, value),
            "limit" => once("limit", &mut limit, value),
            "fields" => once("fields", &mut fields, value),
            "at" => once("at", &mut at, value),
            "filter" => once("filter", &mut filter, value),
            _ => other(name),
        })?;
        let filter = filter.filter(|text| !text.is_empty());
        let filter = filter.map(|text| Filter::parse(&text)).transpose()?;
        parsed.filter = filter.map(Box::new);
        for text in [&mut parsed.namespace, &mut parsed.prefix, &mut parsed.after] {
            text.take_if(|text| text.is_empty());
        }
        parsed.limit = limit.map(|text| parse_limit(&text)).transpose()?;
        parsed.fields = fields.and_then(|text| parse_fields(&text));
        parsed.at = parse_time("at", at.as_deref())?;
        Ok(parsed)
    }

    /// The id after which the page of such a link begins.
    pub fn after_of(link: &str) -> Option<String> {
        let (_, query) = link.split_once('?')?;
        let (query, _) = query.split_once('>')?;
        let mut pairs = query_pairs(query).filter_map(Result::ok);
        pairs
            .find(|(name, _)| name == "after")
            .map(|it| it.1.into_owned())
    }

    /// `Link` to the next page (RFC 8288): the same query, after the last id of this one.
    pub fn next_link(&self, last_id: &str) -> String {
        let mut link = String::from("</api/state/entities?");
        let fields = self.fields.as_ref().map(|fields| match &**fields {
            // An empty value would be no filter at all.
            [only] if only.is_empty() => ",".to_owned(),
            names => names.join(","),
        });
        let limit = self.limit.map(|limit| limit.to_string());
        let at = self.at.map(|at| at.rfc3339().to_string());
        let parameters = [
            ("namespace", self.namespace.as_deref()),
            ("prefix", self.prefix.as_deref()),
            ("fields", fields.as_deref()),
            ("limit", limit.as_deref()),
            ("at", at.as_deref()),
            ("filter", self.filter.as_ref().map(|filter| filter.text())),
        ];
        for (name, value) in parameters {
            if let Some(value) = value {
                link.push_str(name);
                link.push('=');
                percent_encode(value, &mut link);
                link.push('&');
            }
        }
        link.push_str("after=");
        percent_encode(last_id, &mut link);
        link.push_str(">; rel=\"next\"");
        link
    }
}

/// The parameters of `GET /api/state/entities/:id` and `GET /api/state/entity?id=`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadQuery {
    /// The properties to keep.
    pub fields: Option<Fields>,
    /// The state as it was at this time; `None` for the present.
    pub at: Option<Timestamp>,
}

impl ReadQuery {
    /// Parses the raw query of a target. `id` is read by [`parse_id`].
    ///
    /// # Errors
    /// As [`ListQuery::parse`].
    pub fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let mut fields: Option<Box<str>> = None;
        let mut at: Option<Box<str>> = None;
        each_parameter(query, |name, value| match name {
            "fields" => once("fields", &mut fields, value),
            "at" => once("at", &mut at, value),
            _ => other(name),
        })?;
        Ok(Self {
            fields: fields.and_then(|text| parse_fields(&text)),
            at: parse_time("at", at.as_deref())?,
        })
    }
}

/// The `metrics` parameter of `GET /api/ws`; true if it is absent.
///
/// # Errors
/// As [`ListQuery::parse`].
pub fn parse_websocket(query: Option<&str>) -> Result<bool, ApiError> {
    let mut metrics: Option<Box<str>> = None;
    each_parameter(query, |name, value| match name {
        "metrics" => once("metrics", &mut metrics, value),
        // What it stands for is looked up with the token.
        TICKET => Ok(()),
        _ => other(name),
    })?;
    match metrics.as_deref() {
        None | Some("" | "true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(_) => Err(ApiError::InvalidQuery {
            name: "metrics",
            rule: "`true` or `false`",
        }),
    }
}

/// The parameter that stands for a token.
pub const TICKET: &str = "ticket";

/// The ticket in a query.
///
/// # Errors
/// [`ApiError::InvalidQuery`] if it is repeated, and [`ApiError::PercentEncoding`].
pub fn parse_ticket(query: Option<&str>) -> Result<Option<Box<str>>, ApiError> {
    let mut ticket: Option<Box<str>> = None;
    each_parameter(query, |name, value| match name {
        TICKET => once(TICKET, &mut ticket, value),
        _ => Ok(()),
    })?;
    Ok(ticket)
}

/// Checks that every parameter can be decoded.
///
/// # Errors
/// [`ApiError::PercentEncoding`].
pub fn check(query: Option<&str>) -> Result<(), ApiError> {
    if query.is_none() {
        Ok(())
    } else {
        each_parameter(query, |_, _| Ok(()))
    }
}

/// Checks the query of a call that takes no parameter.
///
/// # Errors
/// [`ApiError::InvalidQuery`] for a parameter of another call, [`ApiError::PercentEncoding`].
pub fn check_none(query: Option<&str>) -> Result<(), ApiError> {
    if query.is_none() {
        Ok(())
    } else {
        each_parameter(query, |name, _| other(name))
    }
}

/// The `id` of `/api/state/entity`.
///
/// # Errors
/// [`ApiError::InvalidQuery`] if it is absent, empty or repeated, and
/// [`ApiError::PercentEncoding`].
pub fn parse_id(query: Option<&str>) -> Result<Box<str>, ApiError> {
    let mut id: Option<Box<str>> = None;
    each_parameter(query, |name, value| match name {
        "id" => once("id", &mut id, value),
        _ => Ok(()),
    })?;
    id.filter(|id| !id.is_empty())
        .ok_or(ApiError::InvalidQuery {
            name: "id",
            rule: "the id of an entity is needed",
        })
}

/// Whether the query of `GET /health` asks for details.
///
/// # Errors
/// [`ApiError::InvalidQuery`] for a value that is not `true` or `false`, and if it is repeated.
pub fn parse_health(query: Option<&str>) -> Result<bool, ApiError> {
    let mut detail: Option<Box<str>> = None;
    each_parameter(query, |name, value| match name {
        "detail" => once("detail", &mut detail, value),
        _ => other(name),
    })?;
    match detail.as_deref() {
        Some("" | "true" | "1") => Ok(true),
        None | Some("false" | "0") => Ok(false),
        Some(_) => Err(ApiError::InvalidQuery {
            name: "detail",
            rule: "`true` or `false`",
        }),
    }
}

/// Parameters that say what a call is about, of any call.
const PARAMETERS: [&str; 20] = [
    "after",
    "at",
    "before",
    "entity",
    "entity_id",
    "expect",
    "fields",
    "filter",
    "limit",
    "max_hz",
    "mode",
    "namespace",
    "prefix",
    "properties",
    "purge",
    "since",
    "snapshot",
    TICKET,
    "until",
    "wait",
];

/// Refuses a parameter that the call does not take but another one does: a `filter` that is passed
/// over would show, or delete, what it was to spare. A name that no call takes is passed over.
///
/// # Errors
/// [`ApiError::InvalidQuery`].
pub(super) fn other(name: &str) -> Result<(), ApiError> {
    match PARAMETERS.iter().find(|known| **known == name) {
        None => Ok(()),
        Some(name) => Err(ApiError::InvalidQuery {
            name,
            rule: "this call does not take it",
        }),
    }
}

pub(super) fn each_parameter(
    query: Option<&str>,
    mut take: impl FnMut(&str, &str) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    for pair in query_pairs(query.unwrap_or("")) {
        let (name, value) = pair.or(Err(ApiError::PercentEncoding { part: "query" }))?;
        take(&name, &value)?;
    }
    Ok(())
}

pub(super) fn once(
    name: &'static str,
    slot: &mut Option<Box<str>>,
    value: &str,
) -> Result<(), ApiError> {
    match slot.replace(value.into()) {
        None => Ok(()),
        Some(_) => Err(ApiError::InvalidQuery {
            name,
            rule: "given more than once",
        }),
    }
}

/// The time of parameter `name`; an empty one is as if absent.
pub(super) fn parse_time(
    name: &'static str,
    text: Option<&str>,
) -> Result<Option<Timestamp>, ApiError> {
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| time::parse_asked(text).map_err(|rule| ApiError::InvalidQuery { name, rule }))
        .transpose()
}

pub(super) fn parse_limit(text: &str) -> Result<usize, ApiError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<usize>() {
        Ok(limit) if digits && (1..=limits::PAGE_ENTITIES_MAX).contains(&limit) => Ok(limit),
        _ => Err(ApiError::InvalidQuery {
            name: "limit",
            rule: "a whole number from 1 to 10000",
        }),
    }
}

fn parse_fields(text: &str) -> Option<Fields> {
    if text.is_empty() {
        return None;
    }
    let mut names: Vec<Box<str>> = text.split(',').map(Box::from).collect();
    names.sort_unstable();
    names.dedup();
    Some(names.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_the_empty_name_as_the_only_field() {
        let query = ListQuery::parse(Some("fields=,")).unwrap();
        let link = query.next_link("a");
        let (_, next) = link.split_once('?').unwrap();
        let (next, _) = next.split_once('>').unwrap();
        let again = ListQuery::parse(Some(next)).unwrap();
        assert_eq!(again.fields, query.fields, "{link}");
    }

    #[test]
    fn parameters_are_decoded_and_empty_ones_are_absent() {
        let parsed = ListQuery::parse(Some(
            "namespace=&prefix=a%2Fb+c&limit=10000&fields=b,a,b&at=1&x=1",
        ))
        .unwrap();
        let expected = ListQuery {
            prefix: Some("a/b+c".into()),
            limit: Some(10_000),
            fields: Some(Box::new(["a".into(), "b".into()])),
            at: Some(Timestamp::from_micros(1000)),
            ..ListQuery::default()
        };
        assert_eq!(parsed, expected);
        assert_eq!(ListQuery::parse(None).unwrap(), ListQuery::default());
    }

    #[test]
    fn the_link_names_the_same_query_after_an_id() {
        let query = ListQuery::parse(Some(
            "namespace=n&prefix=n/a+&limit=7&fields=a,b&at=2026-01-01T00:00:00.5%2B01:00",
        ))
        .unwrap();
        let link = query.next_link("n/a+ü");
        let target = link
            .strip_prefix("</api/state/entities?")
            .and_then(|rest| rest.strip_suffix(">; rel=\"next\""))
            .expect(&link);
        let expected = ListQuery {
            after: Some("n/a+ü".into()),
            ..query
        };
        assert_eq!(ListQuery::parse(Some(target)), Ok(expected));
    }

    #[test]
    fn a_filter_is_read_kept_in_the_link_and_refused_with_its_place() {
        let text = r#"and(eq(a,"x y&+é"),gt(n,1.50))"#;
        let mut encoded = String::from("limit=3&filter=");
        percent_encode(text, &mut encoded);
        let query = ListQuery::parse(Some(&encoded)).unwrap();
        assert_eq!(query.filter.as_ref().map(|it| it.text()), Some(text));
        let link = query.next_link("a");
        let (_, next) = link.split_once('?').unwrap();
        let (next, _) = next.split_once('>').unwrap();
        let again = ListQuery::parse(Some(next)).unwrap();
        assert_eq!(again.filter, query.filter, "{link}");
        let error = ListQuery::parse(Some("filter=eq(a,x)")).unwrap_err();
        assert_eq!((error.status(), error.code()), (400, "invalid_filter"));
        assert!(error.to_string().contains("at byte 5"), "{error}");
        assert_eq!(ListQuery::parse(Some("filter=")).unwrap().filter, None);
        assert!(ListQuery::parse(Some("filter=exists(a)&filter=exists(a)")).is_err());
        assert!(ReadQuery::parse(Some("filter=x")).is_err());
        assert!(ReadQuery::parse(Some("_=x")).is_ok());
    }

    #[test]
    fn bad_and_repeated_parameters_are_refused() {
        for query in [
            "limit=0",
            "limit=10001",
            "limit=",
            "limit=1.0",
            "limit=%2B1",
            "prefix=a&prefix=a",
            "at=yesterday",
            "at=-1",
            "at=1&at=1",
        ] {
            let error = ListQuery::parse(Some(query)).unwrap_err();
            assert!(
                matches!(error, ApiError::InvalidQuery { .. }),
                "{query}: {error}"
            );
        }
        assert_eq!(
            ListQuery::parse(Some("x=%f")).unwrap_err(),
            ApiError::PercentEncoding { part: "query" }
        );
        assert!(ReadQuery::parse(Some("fields=a&fields=b")).is_err());
        assert!(ReadQuery::parse(Some("at=x")).is_err());
        assert!(!parse_websocket(Some("metrics=false")).unwrap());
        assert!(parse_websocket(None).unwrap());
    }
}
