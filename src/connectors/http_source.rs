//! An HTTP source that its user defined: one request, whose JSON holds one item or a list of them.

use super::exchange::{
    Content, Found, PollError, Reading, Request, Response, Source, Step, refused,
};
use crate::api::connectors::answer::read_answer;
use crate::api::connectors::definition::HttpDefinition;
use http::HeaderValue;
use http::header::ETAG;
use std::sync::Arc;

/// An HTTP source and the `ETag`s of its answers.
#[derive(Debug)]
pub(super) struct HttpSource {
    definition: Arc<HttpDefinition>,
    /// The `ETag` of the last answer whose findings are all published.
    etag: Option<HeaderValue>,
    /// The `ETag` of the present poll's answer.
    new_etag: Option<HeaderValue>,
}

impl HttpSource {
    /// A source that was not polled yet.
    pub(super) fn new(definition: HttpDefinition) -> Self {
        Self {
            definition: Arc::new(definition),
            etag: None,
            new_etag: None,
        }
    }

    fn request(&self) -> Request {
        Request {
            url: self.definition.url.clone(),
            accept: "application/json",
            headers: self.definition.headers.clone(),
            etag: self.etag.clone(),
            reading: Reading::Findings(Arc::clone(&self.definition)),
        }
    }
}

impl Source for HttpSource {
    fn step(&mut self, answer: Option<Response>, now_seconds: u64) -> Result<Step, PollError> {
        let Some(response) = answer else {
            self.new_etag = None;
            return Ok(Step::Ask(Box::new(self.request())));
        };
        match response.status {
            200..=299 => {
                let answer = match response.content {
                    Content::Findings(answer) => answer,
                    Content::Text(text) => read_answer(&self.definition, &text),
                };
                let answer = answer.map_err(|error| PollError::new(error.to_string()))?;
                self.new_etag = response.headers.get(ETAG).cloned();
                Ok(Step::Done(Found {
                    rejected: answer.rejected.message(),
                    findings: answer.findings,
                }))
            }
            304 if self.etag.is_some() => {
                self.new_etag = self.etag.clone();
                Ok(Step::Done(Found::default()))
            }
            _ => Err(refused(&response, now_seconds)),
        }
    }

    fn commit(&mut self) {
        self.etag = self.new_etag.take();
    }

    fn held_bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::super::exchange::tests::response;
    use super::*;
    use crate::api::connectors::definition::parse_definition;
    use crate::api::connectors::pointer::Pointer;

    fn source() -> HttpSource {
        let definition = br#"{"name":"weather","url":"http://localhost:1/x","poll_interval_seconds":5,"entity_id":"weather/{city}"}"#;
        let (definition, _) = parse_definition(definition, "").unwrap();
        HttpSource::new(definition)
    }

    #[test]
    fn an_answer_gives_findings_and_says_what_it_left_out() {
        let mut source = source();
        Arc::make_mut(&mut source.definition).items = Pointer::parse("");
        let body = r#"[{"city":"a"},{"town":"b"}]"#;
        let Ok(Step::Done(found)) = source.step(Some(response(200, &[], body)), 0) else {
            panic!("one answer is all");
        };
        assert_eq!(found.findings.len(), 1);
        assert!(found.rejected.unwrap().contains("item 1: `{city}`"));
        let error = source.step(Some(response(200, &[], "{")), 0).unwrap_err();
        assert!(error.message.contains("not valid JSON"), "{error:?}");
    }

    #[test]
    fn an_etag_is_sent_once_its_findings_are_published() {
        let mut source = source();
        let etag = |source: &mut HttpSource| match source.step(None, 0) {
            Ok(Step::Ask(request)) => request.etag.map(|it| it.to_str().unwrap().to_owned()),
            other => panic!("{other:?}"),
        };
        let answer =
            |status, etag: &str| Some(response(status, &[("etag", etag)], r#"{"city":"a"}"#));
        assert_eq!(etag(&mut source), None);
        source.step(answer(200, "\"1\""), 0).unwrap();
        assert_eq!(etag(&mut source), None, "publishing failed");
        source.step(answer(200, "\"1\""), 0).unwrap();
        source.commit();
        for _ in 0..2 {
            assert_eq!(etag(&mut source).as_deref(), Some("\"1\""));
            let Ok(Step::Done(found)) = source.step(answer(304, "\"1\""), 0) else {
                panic!("304 is no error");
            };
            assert!(found.findings.is_empty());
            source.commit();
        }
        assert!(etag(&mut source).is_some());
        source
            .step(Some(response(200, &[], r#"{"city":"a"}"#)), 0)
            .unwrap();
        source.commit();
        assert_eq!(etag(&mut source), None, "the source gives none any more");
        let error = source.step(answer(304, "\"1\""), 0).unwrap_err();
        assert!(
            error.message.contains("304"),
            "nobody asked for it: {error:?}"
        );
    }
}
