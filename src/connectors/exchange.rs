//! The types that pass between a source and its poll. A source does no I/O and reads no clock: it
//! is asked for the next step with the answer to the last one, so it runs in a test as it is.

use crate::api::connectors::answer::{Answer, AnswerError};
use crate::api::connectors::definition::HttpDefinition;
use crate::api::connectors::finding::Finding;
use http::HeaderMap;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// A request that a source wants made. The credential, the redirects and all bounds are the
/// business of who makes it.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// The address.
    pub(super) url: Url,
    /// `Accept`.
    pub(super) accept: &'static str,
    /// Further headers. They do not go to another host than `url`'s.
    pub(super) headers: HeaderMap,
    /// `If-None-Match`.
    pub(super) etag: Option<http::HeaderValue>,
    /// How a success is read. Of another answer there is the beginning, as text.
    pub(super) reading: Reading,
}

/// How an answer is read.
#[derive(Debug, Clone)]
pub(super) enum Reading {
    /// Whole.
    Text,
    /// While it arrives, by the definition of its source.
    Findings(Arc<HttpDefinition>),
}

/// What came back.
#[derive(Debug)]
pub(super) struct Response {
    /// HTTP status.
    pub(super) status: u16,
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// What was read of it.
    pub(super) content: Content,
}

/// What was read of an answer.
#[derive(Debug)]
pub(super) enum Content {
    /// Its text.
    Text(Vec<u8>),
    /// What its items say.
    Findings(Result<Answer, AnswerError>),
}

impl Response {
    /// The text; empty if it was not read as such.
    pub(super) fn text(&self) -> &[u8] {
        match &self.content {
            Content::Text(text) => text,
            Content::Findings(_) => &[],
        }
    }
}

/// What a poll found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Entities that may be published.
    pub(super) findings: Vec<Finding>,
    /// Why something else was left out. It fails nothing but itself.
    pub(super) rejected: Option<String>,
}

/// What a source wants next.
#[derive(Debug)]
pub(super) enum Step {
    /// An answer to this.
    Ask(Box<Request>),
    /// Nothing: this is all that there is.
    Done(Found),
}

/// Why a poll failed. The message is shown, so it never holds a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PollError {
    /// For `last_error`.
    pub(super) message: String,
    /// How long the source wants to be left alone.
    pub(super) retry_after: Option<Duration>,
}

impl PollError {
    /// Without a wish of the source's.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            retry_after: None,
        }
    }
}

/// What can be polled. It remembers what it needs for conditional requests.
pub(super) trait Source: Send {
    /// The next step. `answer`: to the request of the step before, `None` for the first of a poll,
    /// whatever became of an earlier one. `now_seconds`: Unix time.
    ///
    /// # Errors
    /// [`PollError`], which ends the poll.
    fn step(&mut self, answer: Option<Response>, now_seconds: u64) -> Result<Step, PollError>;

    /// The findings of the last poll are published, all of them: what is unchanged may be left out
    /// from now on.
    fn commit(&mut self);

    /// Bytes of memory that it holds of the present poll's earlier answers, about.
    fn held_bytes(&self) -> usize;
}

/// What an answer's headers say of when to come back: `Retry-After`, in seconds or as a date (RFC
/// 9110 §10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now_seconds: u64) -> Option<Duration> {
    let text = headers
        .get(http::header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since_epoch.saturating_sub(Duration::from_secs(now_seconds)))
}

/// A poll that ends because of its answer's status.
pub(super) fn refused(response: &Response, now_seconds: u64) -> PollError {
    let reason = http::StatusCode::from_u16(response.status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or_default();
    let message = format!("the source answered {} {reason}", response.status);
    PollError {
        message: message.trim_end().to_owned(),
        retry_after: retry_after(&response.headers, now_seconds),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An answer as a source sees it.
    pub(in super::super) fn response(
        status: u16,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Response {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Response {
            status,
            headers: map,
            content: Content::Text(body.as_bytes().to_vec()),
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |value: &str| {
            let response = response(503, &[("retry-after", value)], "");
            retry_after(&response.headers, 784_111_770).map(|it| it.as_secs())
        };
        assert_eq!(of("120"), Some(120));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(7));
        assert_eq!(of("Tue, 06 Nov 1984 08:49:37 GMT"), Some(0), "it is past");
        assert_eq!(of("soon"), None);
        assert_eq!(of("-1"), None);
        let refused = refused(&response(503, &[("retry-after", "9")], ""), 0);
        assert_eq!(
            refused.message,
            "the source answered 503 Service Unavailable"
        );
        assert_eq!(refused.retry_after, Some(Duration::from_secs(9)));
    }
}
