//! Bodies and answers of `/api/namespaces` (API contract §6).

use super::body;
use super::error::ApiError;
use super::json::{Kind, write_string};
use super::query::{each_parameter, once, other, parse_limit};
use crate::model::{Timestamp, Visibility};
use crate::wire::http1::{percent_encode, write_decimal};

/// The name in the body of a registration; `None` where the server is to choose one. No body at all
/// is fine.
///
/// # Errors
/// [`ApiError::Json`], [`ApiError::Shape`] or [`ApiError::InvalidField`].
pub fn parse_registration(body: &[u8]) -> Result<Option<Box<str>>, ApiError> {
    if body.is_empty() {
        return Ok(None);
    }
    let mut scanner = body::object(body, "the body must be a JSON object, or absent")?;
    let mut name = Ok(None);
    let mut scratch = String::new();
    while let Some(key) = scanner.next_key()? {
        scratch.clear();
        if key.decode(&mut scratch) != "name" {
            scanner.raw_value()?;
            continue;
        }
        name = match scanner.kind()? {
            Kind::String => {
                scratch.clear();
                Ok(Some(scanner.string()?.decode(&mut scratch).into()))
            }
            Kind::Null => {
                scanner.raw_value()?;
                Ok(None)
            }
            _ => {
                scanner.raw_value()?;
                Err(ApiError::InvalidField {
                    field: "name",
                    rule: "a string",
                })
            }
        };
    }
    scanner.finish()?;
    name
}

/// Who may read a namespace from now on, in the body of a call that says so.
///
/// # Errors
/// [`ApiError::Json`], [`ApiError::Shape`], [`ApiError::MissingField`] or
/// [`ApiError::InvalidField`].
pub fn parse_visibility(body: &[u8]) -> Result<Visibility, ApiError> {
    let mut scanner = body::object(body, "the body must be a JSON object with `read`")?;
    let mut read = Err(ApiError::MissingField { field: "read" });
    let mut scratch = String::new();
    while let Some(key) = scanner.next_key()? {
        scratch.clear();
        if key.decode(&mut scratch) != "read" {
            scanner.raw_value()?;
            continue;
        }
        scratch.clear();
        let named = if scanner.kind()? == Kind::String {
            Visibility::of_name(scanner.string()?.decode(&mut scratch))
        } else {
            scanner.raw_value()?;
            None
        };
        read = named.ok_or(ApiError::InvalidField {
            field: "read",
            rule: "`public` or `private`",
        });
    }
    scanner.finish()?;
    read
}

/// The parameters of `GET /api/namespaces`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespacesQuery {
    /// Names after this one only.
    pub after: Option<Box<str>>,
    /// The most to list; `None`: all.
    pub limit: Option<usize>,
}

impl NamespacesQuery {
    /// Parses the raw query of a target.
    ///
    /// # Errors
    /// [`ApiError::InvalidQuery`] for a bad or repeated parameter, [`ApiError::PercentEncoding`].
    pub fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let mut parsed = Self::default();
        let mut limit = None;
        each_parameter(query, |name, value| match name {
            "after" => once("after", &mut parsed.after, value),
            "limit" => once("limit", &mut limit, value),
            _ => other(name),
        })?;
        parsed.limit = limit.map(|text| parse_limit(&text)).transpose()?;
        Ok(parsed)
    }

    /// `Link` to the next page (RFC 8288).
    pub fn next_link(&self, last: &str) -> String {
        let mut link = String::from("</api/namespaces?");
        if let Some(limit) = self.limit {
            link.push_str("limit=");
            link.push_str(&limit.to_string());
            link.push('&');
        }
        link.push_str("after=");
        percent_encode(last, &mut link);
        link.push_str(">; rel=\"next\"");
        link
    }
}

/// The `purge` parameter of `DELETE /api/namespaces/:name`; false if it is absent.
///
/// # Errors
/// As [`NamespacesQuery::parse`].
pub fn parse_purge(query: Option<&str>) -> Result<bool, ApiError> {
    let mut purge: Option<Box<str>> = None;
    each_parameter(query, |name, value| match name {
        "purge" => once("purge", &mut purge, value),
        _ => other(name),
    })?;
    match purge.as_deref() {
        None | Some("" | "false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(_) => Err(ApiError::InvalidQuery {
            name: "purge",
            rule: "`true` or `false`",
        }),
    }
}

/// `{"namespaceId", "name", "token"}`: the one answer that holds a token.
pub fn with_token(out: &mut Vec<u8>, id: &str, name: &str, token: &str) {
    out.extend_from_slice(b"{\"namespaceId\":");
    write_string(out, id);
    out.extend_from_slice(b",\"name\":");
    write_string(out, name);
    out.extend_from_slice(b",\"token\":");
    write_string(out, token);
    out.push(b'}');
}

/// A namespace as it is shown.
#[derive(Debug, Clone, Copy)]
pub struct ShownNamespace<'n> {
    /// `ns_…`
    pub id: &'n str,
    /// Its name.
    pub name: &'n str,
    /// When it was registered.
    pub created: Timestamp,
    /// Entities that it holds.
    pub entities: u64,
    /// Who may read it.
    pub visibility: Visibility,
}

/// `{"namespaceId", "name", "createdAt", "entityCount", "read"}`.
pub fn namespace(out: &mut Vec<u8>, shown: ShownNamespace<'_>) {
    out.extend_from_slice(b"{\"namespaceId\":");
    write_string(out, shown.id);
    out.extend_from_slice(b",\"name\":");
    write_string(out, shown.name);
    out.extend_from_slice(b",\"createdAt\":\"");
    out.extend_from_slice(shown.created.rfc3339().as_bytes());
    out.extend_from_slice(b"\",\"entityCount\":");
    write_decimal(out, shown.entities);
    out.extend_from_slice(b",\"read\":");
    write_string(out, shown.visibility.name());
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_has_a_name_or_leaves_it_to_the_server() {
        let check = |body: &str, expected: Option<&str>| {
            let parsed = parse_registration(body.as_bytes()).unwrap();
            assert_eq!(parsed.as_deref(), expected, "{body}");
        };
        check("", None);
        check("{}", None);
        check(r#"{"name":null,"x":1}"#, None);
        check(r#"{"name":"dawn-coral"}"#, Some("dawn-coral"));
        check(r#"{"name":"a","name":"b\u0062"}"#, Some("bb"));
        check(r#"{"name":""}"#, Some(""));
        for body in [
            "[]",
            "null",
            "{",
            " ",
            r#"{"name":1}"#,
            r#"{"name":"a"}x"#,
            "\u{feff}{}",
        ] {
            let error = parse_registration(body.as_bytes()).unwrap_err();
            assert_eq!(error.status(), 400, "{body}");
        }
    }

    #[test]
    fn pages_and_purges_are_parsed() {
        let query = NamespacesQuery::parse(Some("limit=2&after=abc&x=y")).unwrap();
        assert_eq!(
            (query.limit, query.after.as_deref()),
            (Some(2), Some("abc"))
        );
        assert_eq!(
            query.next_link("def"),
            "</api/namespaces?limit=2&after=def>; rel=\"next\""
        );
        for bad in ["limit=0", "limit=10001", "limit=x", "limit=1&limit=2"] {
            assert!(NamespacesQuery::parse(Some(bad)).is_err(), "{bad}");
        }
        assert_eq!(parse_purge(None), Ok(false));
        assert_eq!(parse_purge(Some("purge=true")), Ok(true));
        assert!(parse_purge(Some("purge=yes")).is_err());
    }
}
