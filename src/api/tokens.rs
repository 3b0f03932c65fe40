//! Bodies and answers of `/api/namespaces/:name/tokens` (API contract §16).

use super::body;
use super::error::ApiError;
use super::json::{Kind, Scanner, write_string};
use crate::limits::{ENTITY_ID_BYTES_MAX, TOKEN_LABEL_BYTES_MAX, TOKEN_SECONDS_MAX};
use crate::model::{Scope, Scopes, Timestamp};
use crate::wire::http1::write_decimal;

/// A token that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// What its maker calls it.
    pub label: Option<Box<str>>,
    /// What it is to let its holder do; never none.
    pub scopes: Scopes,
    /// Only with ids that begin so.
    pub prefix: Option<Box<str>>,
    /// It is to live so long; `None`: for ever.
    pub expires_in_seconds: Option<i64>,
}

const LABEL: ApiError = ApiError::InvalidField {
    field: "label",
    rule: "a string of at most 255 bytes without control characters",
};
const SCOPES: ApiError = ApiError::InvalidField {
    field: "scopes",
    rule: "a non-empty array of `read`, `write`, `delete` and `manage`",
};
const PREFIX: ApiError = ApiError::InvalidField {
    field: "prefix",
    rule: "a string that begins with the namespace and a slash; at most 512 bytes without control \
           characters",
};
const SECONDS: ApiError = ApiError::InvalidField {
    field: "expires_in_seconds",
    rule: "an integer from 1 to 315360000",
};

/// The outer error is for text that is not JSON; what does not fit counts for less than that.
type Field<T> = Result<T, ApiError>;

/// Parses the body of a call that makes a token of this namespace.
///
/// # Errors
/// [`ApiError::Json`], [`ApiError::Shape`], [`ApiError::MissingField`] or
/// [`ApiError::InvalidField`].
pub fn parse(body: &[u8], name: &str) -> Result<TokenRequest, ApiError> {
    let mut scanner = body::object(body, "the body must be a JSON object with `scopes`")?;
    let mut label = Ok(None);
    let mut scopes = Err(ApiError::MissingField { field: "scopes" });
    let mut prefix = Ok(None);
    let mut seconds = Ok(None);
    let mut scratch = String::new();
    while let Some(key) = scanner.next_key()? {
        scratch.clear();
        match key.decode(&mut scratch) {
            "label" => label = text(&mut scanner, &LABEL)?,
            "scopes" => scopes = take_scopes(&mut scanner)?,
            "prefix" => prefix = text(&mut scanner, &PREFIX)?,
            "expires_in_seconds" => seconds = take_seconds(&mut scanner)?,
            _ => {
                scanner.raw_value()?;
            }
        }
    }
    scanner.finish()?;
    let fits =
        |text: &str, bytes_max| text.len() <= bytes_max && !text.chars().any(char::is_control);
    let label = label?;
    if !label.iter().all(|label| fits(label, TOKEN_LABEL_BYTES_MAX)) {
        return Err(LABEL);
    }
    let scopes = scopes?;
    let prefix = prefix?;
    let is_within = |prefix: &str| {
        let rest = prefix.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('/')) && fits(prefix, ENTITY_ID_BYTES_MAX)
    };
    if !prefix.iter().all(|prefix| is_within(prefix)) {
        return Err(PREFIX);
    }
    Ok(TokenRequest {
        label,
        scopes,
        prefix,
        expires_in_seconds: seconds?,
    })
}

/// A string, or nothing for null.
fn text(
    scanner: &mut Scanner<'_>,
    invalid: &ApiError,
) -> Result<Field<Option<Box<str>>>, ApiError> {
    Ok(match scanner.kind()? {
        Kind::String => {
            let mut scratch = String::new();
            Ok(Some(scanner.string()?.decode(&mut scratch).into()))
        }
        Kind::Null => {
            scanner.raw_value()?;
            Ok(None)
        }
        _ => {
            scanner.raw_value()?;
            Err(invalid.clone())
        }
    })
}

fn take_scopes(scanner: &mut Scanner<'_>) -> Result<Field<Scopes>, ApiError> {
    if scanner.kind()? != Kind::Array {
        scanner.raw_value()?;
        return Ok(Err(SCOPES));
    }
    let mut scopes = Some(Scopes::NONE);
    let mut scratch = String::new();
    scanner.begin_array()?;
    while scanner.next_element()? {
        let scope = if scanner.kind()? == Kind::String {
            scratch.clear();
            Scope::of_name(scanner.string()?.decode(&mut scratch))
        } else {
            scanner.raw_value()?;
            None
        };
        scopes = scopes.zip(scope).map(|(scopes, scope)| scopes.with(scope));
    }
    Ok(scopes.filter(|scopes| !scopes.is_empty()).ok_or(SCOPES))
}

fn take_seconds(scanner: &mut Scanner<'_>) -> Result<Field<Option<i64>>, ApiError> {
    let value = scanner.raw_value()?;
    if value.kind == Kind::Null {
        return Ok(Ok(None));
    }
    // Digits alone: `1.0` and `1e3` are no integers here either.
    let seconds = value.text.parse::<i64>().ok();
    let seconds = seconds.filter(|seconds| (1..=TOKEN_SECONDS_MAX).contains(seconds));
    Ok(seconds.map(Some).ok_or(SECONDS))
}

/// A token as it is shown.
#[derive(Debug, Clone, Copy)]
pub struct ShownToken<'t> {
    /// `tok_…`
    pub id: &'t str,
    /// What its maker calls it.
    pub label: Option<&'t str>,
    /// What it lets its holder do.
    pub scopes: Scopes,
    /// Only with ids that begin so.
    pub prefix: Option<&'t str>,
    /// When it was made.
    pub created: Timestamp,
    /// Only before this time.
    pub expires: Option<Timestamp>,
}

impl ShownToken<'_> {
    /// All members but the id, each behind a comma.
    fn write_rest(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"label\":");
        write_text(out, self.label);
        out.extend_from_slice(b",\"scopes\":[");
        for (index, scope) in self.scopes.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_string(out, scope.name());
        }
        out.extend_from_slice(b"],\"prefix\":");
        write_text(out, self.prefix);
        out.extend_from_slice(b",\"createdAt\":");
        write_time(out, Some(self.created));
        out.extend_from_slice(b",\"expiresAt\":");
        write_time(out, self.expires);
    }
}

fn write_text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => write_string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

fn write_time(out: &mut Vec<u8>, time: Option<Timestamp>) {
    match time {
        Some(time) => {
            out.push(b'"');
            out.extend_from_slice(time.rfc3339().as_bytes());
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}

/// A token that was made, with its secret: the one answer that holds it.
pub fn made(out: &mut Vec<u8>, shown: ShownToken<'_>, secret: &str) {
    out.extend_from_slice(b"{\"id\":");
    write_string(out, shown.id);
    out.extend_from_slice(b",\"token\":");
    write_string(out, secret);
    shown.write_rest(out);
    out.push(b'}');
}

/// A ticket, and how long it is good.
pub fn ticket(out: &mut Vec<u8>, text: &str, seconds: i64) {
    out.extend_from_slice(b"{\"ticket\":");
    write_string(out, text);
    out.extend_from_slice(b",\"expires_in_seconds\":");
    write_decimal(out, seconds.unsigned_abs());
    out.push(b'}');
}

/// `{"tokens":[…]}`, each with the time of its last use.
pub fn list<'t>(
    out: &mut Vec<u8>,
    tokens: impl Iterator<Item = (ShownToken<'t>, Option<Timestamp>)>,
) {
    out.extend_from_slice(b"{\"tokens\":[");
    for (index, (shown, last_used)) in tokens.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"id\":");
        write_string(out, shown.id);
        shown.write_rest(out);
        out.extend_from_slice(b",\"lastUsedAt\":");
        write_time(out, last_used);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Result<TokenRequest, ApiError> {
        parse(body.as_bytes(), "house")
    }

    #[test]
    fn a_request_says_what_the_token_is_for() {
        let full = r#"{"label":"a","scopes":["write","read","write"],"prefix":"house/a",
            "expires_in_seconds":60,"x":1}"#;
        let expected = TokenRequest {
            label: Some("a".into()),
            scopes: [Scope::Read, Scope::Write].into_iter().collect(),
            prefix: Some("house/a".into()),
            expires_in_seconds: Some(60),
        };
        assert_eq!(parsed(full), Ok(expected));
        let least = r#"{"label":null,"scopes":["manage"],"prefix":null,"expires_in_seconds":null}"#;
        let expected = TokenRequest {
            label: None,
            scopes: [Scope::Manage].into_iter().collect(),
            prefix: None,
            expires_in_seconds: None,
        };
        assert_eq!(parsed(least), Ok(expected));
    }

    #[test]
    fn every_bound_is_held() {
        let long = |len: usize| format!("house/{}", "x".repeat(len - "house/".len()));
        let check = |member: String, fits: bool| {
            let body = format!(r#"{{"scopes":["read"],{member}}}"#);
            assert_eq!(parsed(&body).is_ok(), fits, "{body}");
        };
        for (len, fits) in [(255, true), (256, false)] {
            check(format!(r#""label":"{}""#, "x".repeat(len)), fits);
        }
        for (len, fits) in [(512, true), (513, false)] {
            check(format!(r#""prefix":"{}""#, long(len)), fits);
        }
        for (prefix, fits) in [
            ("house/", true),
            ("house", false),
            ("houses/", false),
            ("", false),
        ] {
            check(format!(r#""prefix":"{prefix}""#), fits);
        }
        check(r#""prefix":"house/\u0000""#.to_owned(), false);
        check(r#""label":"\n""#.to_owned(), false);
        check(r#""label":7"#.to_owned(), false);
        for (seconds, fits) in [
            ("0", false),
            ("1", true),
            ("315360000", true),
            ("315360001", false),
            ("-1", false),
            ("1.0", false),
            ("1e3", false),
            ("\"1\"", false),
        ] {
            check(format!(r#""expires_in_seconds":{seconds}"#), fits);
        }
        for scopes in [
            "[]",
            "null",
            "\"read\"",
            r#"["read","rite"]"#,
            r#"["read",1]"#,
        ] {
            let body = format!(r#"{{"scopes":{scopes}}}"#);
            assert_eq!(parsed(&body), Err(SCOPES), "{body}");
        }
        let missing = ApiError::MissingField { field: "scopes" };
        assert_eq!(parsed("{}"), Err(missing));
    }

    #[test]
    fn what_is_not_json_counts_for_more_than_what_does_not_fit() {
        for body in [r#"{"scopes":[],"label":x}"#, r#"{"label":7}x"#, ""] {
            assert!(matches!(parsed(body), Err(ApiError::Json(_))), "{body}");
        }
        assert!(matches!(parsed("[]"), Err(ApiError::Shape { .. })));
    }

    #[test]
    fn the_secret_is_in_one_answer_alone() {
        let shown = ShownToken {
            id: "tok_1",
            label: None,
            scopes: Scopes::ALL,
            prefix: Some("house/"),
            created: Timestamp::from_micros(0),
            expires: None,
        };
        let mut out = Vec::new();
        made(&mut out, shown, "flux_x");
        let rest = r#""label":null,"scopes":["read","write","delete","manage"],"prefix":"house/","createdAt":"1970-01-01T00:00:00.000000Z","expiresAt":null"#;
        let expected = format!(r#"{{"id":"tok_1","token":"flux_x",{rest}}}"#);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        list(&mut out, [(shown, None)].into_iter());
        let expected = format!(r#"{{"tokens":[{{"id":"tok_1",{rest},"lastUsedAt":null}}]}}"#);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
