//! Connectors as their users see them: what defines a source, what it takes of an answer, and the
//! bodies, parameters and answers of `/api/connectors` (API contract §12).
//!
//! | file | job |
//! | --- | --- |
//! | `definition` | the JSON of an HTTP source, checked |
//! | `template`, `pointer` | entity ids with gaps; JSON Pointers |
//! | `selection` | what several pointers point to, in one pass over a text |
//! | `splitter` | an answer that arrives → its items, unchecked |
//! | `answer` | a source's answer → findings, each item by itself |
//! | `reference` | in tests: the same by spans over the whole answer |
//! | `span` | where values begin and end, unchecked |
//! | `finding` | an entity as a poll found it, compared with its state and written as an event |

pub mod answer;
pub mod definition;
pub mod finding;
pub mod pointer;
#[cfg(test)]
mod reference;
mod selection;
pub mod span;
mod splitter;
pub mod template;

use super::body;
use super::error::ApiError;
use super::json::{Kind, write_string};
use super::query::{each_parameter, once, other};
use crate::limits::CREDENTIAL_BYTES_MAX;
use crate::model::Timestamp;
use crate::wire::http1::write_decimal;
use zeroize::Zeroizing;

/// The status of a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectorStatus {
    /// A credential is missing.
    NotConfigured,
    /// It is enabled and was not polled yet.
    Configured,
    /// The last poll worked.
    Running,
    /// The last poll failed.
    Error,
}

impl ConnectorStatus {
    fn text(self) -> &'static str {
        match self {
            Self::NotConfigured => "not_configured",
            Self::Configured => "configured",
            Self::Running => "running",
            Self::Error => "error",
        }
    }
}

/// A connector as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownConnector {
    /// The namespace that it belongs to; empty without tokens.
    pub owner: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// `github` or `http`.
    pub kind: &'static str,
    /// It has all that it needs to be polled.
    pub enabled: bool,
    /// Its status.
    pub status: ConnectorStatus,
    /// Seconds from one poll to the next.
    pub interval_seconds: u32,
    /// When the last poll ended.
    pub last_poll: Option<Timestamp>,
    /// Why it failed, if it did.
    pub last_error: Option<Box<str>>,
    /// Events published since the server was started.
    pub events_published: u64,
}

impl ShownConnector {
    fn write_summary(&self, out: &mut Vec<u8>, with_owner: bool) {
        out.extend_from_slice(b"{\"name\":");
        write_string(out, &self.name);
        if with_owner {
            out.extend_from_slice(b",\"namespace\":");
            write_string(out, &self.owner);
        }
        out.extend_from_slice(b",\"type\":");
        write_string(out, self.kind);
        out.extend_from_slice(b",\"enabled\":");
        out.extend_from_slice(if self.enabled { b"true" } else { b"false" });
        out.extend_from_slice(b",\"status\":");
        write_string(out, self.status.text());
    }

    /// Appends the detail. `with_owner`: with its namespace, for an operator, who sees connectors
    /// of several.
    pub fn write_detail(&self, out: &mut Vec<u8>, with_owner: bool) {
        self.write_summary(out, with_owner);
        out.extend_from_slice(b",\"poll_interval_seconds\":");
        write_decimal(out, u64::from(self.interval_seconds));
        out.extend_from_slice(b",\"last_poll\":");
        match self.last_poll {
            Some(time) => write_string(out, &time.rfc3339().to_string()),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"last_error\":");
        match &self.last_error {
            Some(error) => write_string(out, error),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"events_published\":");
        write_decimal(out, self.events_published);
        out.push(b'}');
    }
}

/// `{"connectors":[…]}`.
pub fn write_list(out: &mut Vec<u8>, connectors: &[ShownConnector], with_owner: bool) {
    out.extend_from_slice(b"{\"connectors\":[");
    for (index, connector) in connectors.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        connector.write_summary(out, with_owner);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
}

/// The token in a body `{"token"}`: visible ASCII, since it is to stand in a header (RFC 9110
/// §5.5).
///
/// # Errors
/// [`ApiError::Json`], [`ApiError::Shape`], [`ApiError::MissingField`] or
/// [`ApiError::InvalidField`], none of which shows it.
pub fn parse_token(body: &[u8]) -> Result<Zeroizing<String>, ApiError> {
    const FIELD: &str = "token";
    let invalid = Err(ApiError::InvalidField {
        field: FIELD,
        rule: "1 to 4096 visible ASCII characters, with spaces only between them",
    });
    let mut scanner = body::object(body, "the body must be a JSON object with `token`")?;
    let mut token = None;
    // Enough for the longest, so that it does not move and leave a copy behind.
    let mut scratch = Zeroizing::new(String::with_capacity(body.len()));
    while let Some(key) = scanner.next_key()? {
        scratch.clear();
        if key.decode(&mut scratch) != FIELD {
            scanner.raw_value()?;
        } else if scanner.kind()? == Kind::String {
            scratch.clear();
            let text = scanner.string()?;
            token = Some(Ok(Zeroizing::new(text.decode(&mut scratch).to_owned())));
        } else {
            scanner.raw_value()?;
            token = Some(Err(()));
        }
    }
    scanner.finish()?;
    match token {
        None => Err(ApiError::MissingField { field: FIELD }),
        Some(Err(())) => invalid,
        Some(Ok(token)) => {
            let is_visible = token
                .bytes()
                .all(|byte| byte == b' ' || byte.is_ascii_graphic());
            let is_trimmed = token.trim_matches(' ') == token.as_str();
            if is_visible && is_trimmed && !token.is_empty() && token.len() <= CREDENTIAL_BYTES_MAX
            {
                Ok(token)
            } else {
                invalid
            }
        }
    }
}

/// The `namespace` parameter, by which the operator says whose connectors are meant.
///
/// # Errors
/// [`ApiError::InvalidQuery`] if it is repeated, [`ApiError::PercentEncoding`].
pub fn parse_namespace(query: Option<&str>) -> Result<Option<Box<str>>, ApiError> {
    let mut namespace = None;
    each_parameter(query, |name, value| match name {
        "namespace" => once("namespace", &mut namespace, value),
        _ => other(name),
    })?;
    Ok(namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_visible_ascii_and_no_refusal_shows_it() {
        let parse = |body: &str| parse_token(body.as_bytes());
        assert_eq!(**parse(r#"{"token":"abc"}"#).as_ref().unwrap(), *"abc");
        assert_eq!(
            **parse(r#"{"token":"Basic a="}"#).as_ref().unwrap(),
            *"Basic a="
        );
        assert_eq!(**parse(r#"{"token":"\u0061"}"#).as_ref().unwrap(), *"a");
        let refused = [
            "",
            "[]",
            "{}",
            r#"{"token":""}"#,
            r#"{"token":null}"#,
            r#"{"token":7}"#,
            r#"{"token":" s3cret"}"#,
            r#"{"token":"s3cret\n"}"#,
            r#"{"token":"s3cretä"}"#,
            r#"{"token":"s3cret""#,
        ];
        for body in refused {
            let error = parse(body).unwrap_err();
            assert_eq!(error.status(), 400, "{body}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        let long = format!("{{\"token\":\"{}\"}}", "x".repeat(4097));
        assert_eq!(parse(&long).unwrap_err().status(), 400);
    }

    #[test]
    fn a_connector_is_shown_as_the_contract_says() {
        let mut connector = ShownConnector {
            owner: "house".into(),
            name: "weather".into(),
            kind: "http",
            enabled: true,
            status: ConnectorStatus::Configured,
            interval_seconds: 60,
            last_poll: None,
            last_error: None,
            events_published: 0,
        };
        let mut out = Vec::new();
        connector.write_detail(&mut out, false);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"name":"weather","type":"http","enabled":true,"status":"configured","poll_interval_seconds":60,"last_poll":null,"last_error":null,"events_published":0}"#
        );
        connector.status = ConnectorStatus::Error;
        connector.last_error = Some("the \"source\" answered 500".into());
        connector.last_poll = Some(Timestamp::from_micros(1_700_000_000_000_000));
        let mut out = Vec::new();
        connector.write_detail(&mut out, true);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(r#""namespace":"house""#), "{text}");
        assert!(
            text.contains(r#""last_poll":"2023-11-14T22:13:20"#),
            "{text}"
        );
        assert!(
            text.contains(r#""last_error":"the \"source\" answered 500""#),
            "{text}"
        );
        let mut out = Vec::new();
        write_list(&mut out, &[connector.clone(), connector], false);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with(
            r#"{"connectors":[{"name":"weather","type":"http","enabled":true,"status":"error"},{"#
        ));
    }
}
