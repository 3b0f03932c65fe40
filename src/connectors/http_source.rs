//! An HTTP source that its user defined: one request, whose JSON holds one item or a list of them.

use super::exchange::{Finding, PollError, Request, Response, Source, Step, refused};
use crate::api::connectors::definition::HttpDefinition;
use crate::limits::POLL_ENTITIES_MAX;
use http::HeaderValue;
use http::header::ETAG;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// See the module.
#[derive(Debug)]
pub(super) struct HttpSource {
    definition: HttpDefinition,
    /// Of the last answer whose findings are all published.
    etag: Option<HeaderValue>,
    /// Of the answer at hand.
    new_etag: Option<HeaderValue>,
}

impl HttpSource {
    /// One that was not polled yet.
    pub(super) fn new(definition: HttpDefinition) -> Self {
        Self {
            definition,
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
        }
    }

    fn read(&self, body: &[u8]) -> Result<Vec<Finding>, PollError> {
        let document: Value = serde_json::from_slice(body)
            .map_err(|error| PollError::new(format!("the answer is not valid JSON: {error}")))?;
        let Some(pointer) = &self.definition.items else {
            return Ok(vec![self.finding(&document).map_err(PollError::new)?]);
        };
        let at = pointer.as_str();
        let items = pointer.of(&document).ok_or_else(|| {
            PollError::new(format!(
                "the answer has nothing at `{at}`, where `items` says the list is"
            ))
        })?;
        let items = items.as_array().ok_or_else(|| {
            PollError::new(format!(
                "the answer has no array at `{at}`, where `items` says the list is"
            ))
        })?;
        if items.len() > POLL_ENTITIES_MAX {
            return Err(PollError::new(format!(
                "the answer has {} items; at most {POLL_ENTITIES_MAX} are taken",
                items.len()
            )));
        }
        let mut findings: Vec<Finding> = Vec::with_capacity(items.len());
        let mut places: HashMap<String, usize> = HashMap::new();
        for (index, item) in items.iter().enumerate() {
            let finding = self
                .finding(item)
                .map_err(|error| PollError::new(format!("item {index}: {error}")))?;
            // Of several items about one entity the last one says what it is: in an event each they would differ from
            // each other at every poll.
            let earlier = places.get(&finding.entity_id).copied();
            if let Some(earlier) = earlier.and_then(|at| findings.get_mut(at)) {
                *earlier = finding;
            } else {
                places.insert(finding.entity_id.clone(), findings.len());
                findings.push(finding);
            }
        }
        Ok(findings)
    }

    fn finding(&self, item: &Value) -> Result<Finding, String> {
        let entity_id = self.definition.entity_id.fill(item)?;
        let properties = match &self.definition.properties {
            None => item
                .as_object()
                .cloned()
                .ok_or("it is no JSON object, and no `properties` say what to take of it")?,
            Some(wanted) => {
                let found = wanted.iter().filter_map(|(name, pointer)| {
                    Some((name.to_string(), pointer.of(item)?.clone()))
                });
                let found: Map<String, Value> = found.collect();
                if found.is_empty() {
                    return Err(
                        "it has none of the `properties`; has the answer another shape?".to_owned(),
                    );
                }
                found
            }
        };
        Ok(Finding {
            entity_id,
            properties,
        })
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
                let findings = self.read(&response.body)?;
                self.new_etag = response.headers.get(ETAG).cloned();
                Ok(Step::Done(findings))
            }
            304 if self.etag.is_some() => {
                self.new_etag = self.etag.clone();
                Ok(Step::Done(Vec::new()))
            }
            _ => Err(refused(&response, now_seconds)),
        }
    }

    fn commit(&mut self) {
        self.etag = self.new_etag.take();
    }
}

#[cfg(test)]
mod tests {
    use super::super::exchange::tests::response;
    use super::*;
    use crate::api::connectors::definition::parse_definition;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "each row makes its own")]
    fn source(more: Value) -> HttpSource {
        let mut definition = json!({
            "name": "weather", "url": "http://localhost:1/x", "poll_interval_seconds": 5, "entity_id": "weather/{city}",
        });
        let more = more.as_object().unwrap().clone();
        definition.as_object_mut().unwrap().extend(more);
        let (definition, _) = parse_definition(definition.to_string().as_bytes(), "").unwrap();
        HttpSource::new(definition)
    }

    fn poll(source: &mut HttpSource, body: &str) -> Result<Vec<(String, Value)>, String> {
        assert!(matches!(source.step(None, 0), Ok(Step::Ask(_))));
        match source.step(Some(response(200, &[], body)), 0) {
            Ok(Step::Done(findings)) => Ok(findings
                .into_iter()
                .map(|it| (it.entity_id, Value::Object(it.properties)))
                .collect()),
            Ok(Step::Ask(_)) => panic!("one answer is all"),
            Err(error) => Err(error.message),
        }
    }

    #[test]
    fn an_answer_is_one_item_with_all_its_members() {
        let found = poll(
            &mut source(json!({})),
            r#"{"city":"Bern","t":22.50,"tags":["a"]}"#,
        );
        let found = found.unwrap();
        assert_eq!(found[0].0, "weather/Bern");
        let properties = r#"{"city":"Bern","t":22.50,"tags":["a"]}"#;
        assert_eq!(
            found[0].1.to_string(),
            properties,
            "numbers digit for digit"
        );
    }

    #[test]
    fn a_list_gives_an_entity_for_each_item_and_the_last_of_one_name_counts() {
        let more = json!({"items": "/data/list", "properties": {"temp": "/main/t", "wind": "/w"}});
        let body = r#"{"data":{"list":[
            {"city":"Bern","main":{"t":1},"w":2},{"city":"Chur","main":{"t":3}},{"city":"Bern","main":{"t":4}}]}}"#;
        let found = poll(&mut source(more), body).unwrap();
        assert_eq!(
            found,
            [
                ("weather/Bern".to_owned(), json!({"temp": 4})),
                ("weather/Chur".to_owned(), json!({"temp": 3})),
            ]
        );
        let top = json!({"items": ""});
        assert_eq!(
            poll(&mut source(top), r#"[{"city":"a"}]"#).unwrap().len(),
            1
        );
        assert_eq!(
            poll(&mut source(json!({"items": ""})), "[]").unwrap().len(),
            0
        );
    }

    #[test]
    fn another_shape_is_told_by_what_is_missing() {
        let check = |more: Value, body: &str, part: &str| {
            let error = poll(&mut source(more), body).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        check(json!({}), "{", "not valid JSON");
        check(json!({}), "", "not valid JSON");
        check(json!({}), "[]", "`{city}`");
        check(json!({}), r#"{"town":"Bern"}"#, "`{city}`");
        check(json!({"entity_id": "fixed"}), "[1]", "no JSON object");
        check(
            json!({"items": "/list"}),
            r#"{"rows":[]}"#,
            "nothing at `/list`",
        );
        check(
            json!({"items": "/list"}),
            r#"{"list":{}}"#,
            "no array at `/list`",
        );
        check(
            json!({"items": ""}),
            r#"[{"city":"a"},{"town":"b"}]"#,
            "item 1: `{city}`",
        );
        check(
            json!({"properties": {"t": "/t"}}),
            r#"{"city":"a"}"#,
            "none of the `properties`",
        );
        let many = json!(vec![json!({"city": "a"}); POLL_ENTITIES_MAX + 1]).to_string();
        check(json!({"items": ""}), &many, "10001 items");
    }

    #[test]
    fn an_etag_is_sent_once_its_findings_are_published() {
        let mut source = source(json!({}));
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
            assert!(found.is_empty());
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
