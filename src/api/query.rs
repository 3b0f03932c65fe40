//! Query parameters of the state reads and of the WebSocket route (API contract §4, §8).

use super::error::ApiError;
use crate::limits;
use crate::wire::http1::query_pairs;

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
}

impl ListQuery {
    /// Parses the raw query of a target.
    ///
    /// # Errors
    /// [`ApiError::InvalidQuery`] for a bad or repeated parameter, [`ApiError::PercentEncoding`].
    pub fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let mut limit: Option<Box<str>> = None;
        let mut fields: Option<Box<str>> = None;
        let mut parsed = Self::default();
        each_parameter(query, |name, value| match name {
            "namespace" => once("namespace", &mut parsed.namespace, value),
            "prefix" => once("prefix", &mut parsed.prefix, value),
            "after" => once("after", &mut parsed.after, value),
            "limit" => once("limit", &mut limit, value),
            "fields" => once("fields", &mut fields, value),
            _ => Ok(()),
        })?;
        for text in [&mut parsed.namespace, &mut parsed.prefix, &mut parsed.after] {
            text.take_if(|text| text.is_empty());
        }
        parsed.limit = limit.map(|text| parse_limit(&text)).transpose()?;
        parsed.fields = fields.and_then(|text| parse_fields(&text));
        Ok(parsed)
    }
}

/// The `fields` parameter of `GET /api/state/entities/:id`.
///
/// # Errors
/// As [`ListQuery::parse`].
pub fn parse_read(query: Option<&str>) -> Result<Option<Fields>, ApiError> {
    let mut fields: Option<Box<str>> = None;
    each_parameter(query, |name, value| match name {
        "fields" => once("fields", &mut fields, value),
        _ => Ok(()),
    })?;
    Ok(fields.and_then(|text| parse_fields(&text)))
}

/// The `metrics` parameter of `GET /api/ws`; true where it is absent.
///
/// # Errors
/// As [`ListQuery::parse`].
pub fn parse_websocket(query: Option<&str>) -> Result<bool, ApiError> {
    let mut metrics: Option<Box<str>> = None;
    each_parameter(query, |name, value| match name {
        "metrics" => once("metrics", &mut metrics, value),
        _ => Ok(()),
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

/// Checks that every parameter can be decoded, for routes that take none.
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

fn each_parameter(
    query: Option<&str>,
    mut take: impl FnMut(&str, &str) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    for pair in query_pairs(query.unwrap_or("")) {
        let (name, value) = pair.or(Err(ApiError::PercentEncoding { part: "query" }))?;
        take(&name, &value)?;
    }
    Ok(())
}

fn once(name: &'static str, slot: &mut Option<Box<str>>, value: &str) -> Result<(), ApiError> {
    match slot.replace(value.into()) {
        None => Ok(()),
        Some(_) => Err(ApiError::InvalidQuery {
            name,
            rule: "given more than once",
        }),
    }
}

fn parse_limit(text: &str) -> Result<usize, ApiError> {
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
    fn parameters_are_decoded_and_empty_ones_are_absent() {
        let parsed = ListQuery::parse(Some(
            "namespace=&prefix=a%2Fb+c&limit=10000&fields=b,a,b&x=1",
        ))
        .unwrap();
        let expected = ListQuery {
            prefix: Some("a/b+c".into()),
            limit: Some(10_000),
            fields: Some(Box::new(["a".into(), "b".into()])),
            ..ListQuery::default()
        };
        assert_eq!(parsed, expected);
        assert_eq!(ListQuery::parse(None).unwrap(), ListQuery::default());
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
        assert!(parse_read(Some("fields=a&fields=b")).is_err());
        assert!(!parse_websocket(Some("metrics=false")).unwrap());
        assert!(parse_websocket(None).unwrap());
    }
}
