//! A source's answer → findings. Each item is judged by itself: what is wrong with one costs no
//! other.

use super::definition::HttpDefinition;
use super::finding::Finding;
use super::selection::Taken;
use super::span::{self, Elements};
use super::template::GapError;
use crate::api::json::{JsonError, Scanner, compact, write_string};
use crate::limits::{JSON_DEPTH_MAX, POLL_ENTITIES_MAX};
use std::borrow::Cow;
use std::collections::HashMap;

/// Containers around a property's value in a batch of events: the body, the list, the event, its
/// payload and its properties.
const EVENT_DEPTH: usize = 5;

/// What an answer holds.
#[derive(Debug, Default)]
pub struct Answer {
    /// What its good items say, one for each entity.
    pub findings: Vec<Finding>,
    /// Items that were left out, and why the first of them.
    pub rejected: Rejected,
}

/// Items that a poll leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejected {
    /// Their number.
    pub count: usize,
    /// The place of the first among the items, and what is wrong with it.
    pub first: Option<(usize, ItemError)>,
    /// What is wrong with the answer itself, around its items.
    pub frame: Option<JsonError>,
}

/// Why nothing can be taken of an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It is no JSON.
    #[error("the answer is not valid JSON: {0}")]
    NotJson(JsonError),
    /// The list is not there.
    #[error("the answer has nothing at `{0}`, where `items` says the list is")]
    NoItems(Box<str>),
    /// Something else is there.
    #[error("the answer has no array at `{0}`, where `items` says the list is")]
    NoArray(Box<str>),
    /// The list is too long.
    #[error("the answer has {0} items; at most {POLL_ENTITIES_MAX} are taken")]
    TooMany(usize),
    /// It is one item, which says nothing.
    #[error(transparent)]
    Item(ItemError),
}

/// Why nothing can be taken of an item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// It is no JSON.
    #[error("it is not valid JSON: {0}")]
    NotJson(JsonError),
    /// It has no entity id.
    #[error(transparent)]
    Gap(#[from] GapError),
    /// It has no members.
    #[error("it is no JSON object, and no `properties` say what to take of it")]
    NoObject,
    /// It lacks all that is wanted of it.
    #[error("it has none of the `properties`; has the answer another shape?")]
    NoProperties,
    /// As part of an event it would be nested too deeply.
    #[error("a property is nested deeper than {} containers", JSON_DEPTH_MAX - EVENT_DEPTH)]
    Depth,
}

/// Reads an answer by the definition of its source.
///
/// # Errors
/// [`AnswerError`].
pub fn read_answer(definition: &HttpDefinition, body: &[u8]) -> Result<Answer, AnswerError> {
    let Some(pointer) = &definition.items else {
        return match read_item(definition, body) {
            Ok(finding) => Ok(Answer {
                findings: vec![finding],
                rejected: Rejected::default(),
            }),
            Err(ItemError::NotJson(error)) => Err(AnswerError::NotJson(error)),
            Err(error) => Err(AnswerError::Item(error)),
        };
    };
    let frame = check(body).err();
    let broken = |error: AnswerError| match frame {
        Some(frame) => AnswerError::NotJson(frame),
        None => error,
    };
    let at = pointer.as_str();
    let items = span::find(body, pointer);
    let items = items.ok_or_else(|| broken(AnswerError::NoItems(at.into())))?;
    let items = span::elements(items, POLL_ENTITIES_MAX);
    let Elements { kept, count } = items.ok_or_else(|| broken(AnswerError::NoArray(at.into())))?;
    if count > POLL_ENTITIES_MAX {
        return Err(AnswerError::TooMany(count));
    }
    let mut answer = Answer::default();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (index, item) in kept.into_iter().enumerate() {
        match read_item(definition, item) {
            Ok(finding) => answer.add(finding, &mut places),
            Err(error) => answer.rejected.add(index, error),
        }
    }
    if answer.rejected.count == 0 {
        answer.rejected.frame = frame;
    }
    Ok(answer)
}

impl Answer {
    /// Of several items about one entity the last counts: in an event each, they would differ from
    /// each other at every poll.
    fn add(&mut self, finding: Finding, places: &mut HashMap<String, usize>) {
        let earlier = places.get(&finding.entity_id).copied();
        if let Some(earlier) = earlier.and_then(|at| self.findings.get_mut(at)) {
            *earlier = finding;
        } else {
            places.insert(finding.entity_id.clone(), self.findings.len());
            self.findings.push(finding);
        }
    }
}

impl Rejected {
    fn add(&mut self, index: usize, error: ItemError) {
        self.count = self.count.saturating_add(1);
        self.first.get_or_insert((index, error));
    }

    /// For `last_error`; `None` if nothing was left out.
    pub fn message(&self) -> Option<String> {
        match (&self.first, &self.frame) {
            (Some((index, error)), _) => {
                let count = self.count;
                let items = if count == 1 { "item was" } else { "items were" };
                Some(format!("{count} {items} left out: item {index}: {error}"))
            }
            (None, Some(error)) => Some(format!(
                "the answer is not valid JSON, but its items are: {error}"
            )),
            (None, None) => None,
        }
    }
}

fn check(text: &[u8]) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(text)?;
    scanner.raw_value()?;
    scanner.finish()
}

fn read_item(definition: &HttpDefinition, item: &[u8]) -> Result<Finding, ItemError> {
    let taken = definition
        .selection
        .take(item)
        .map_err(ItemError::NotJson)?;
    let gaps = definition.entity_id.pointers().count();
    let (gaps, wanted) = taken.split_at_checked(gaps).unwrap_or((&taken, &[]));
    let entity_id = definition.entity_id.fill(gaps.iter().copied())?;
    let properties = match &definition.properties {
        None => all_members(item)?,
        Some(names) => {
            let names = names.iter().map(|(name, _)| &**name);
            chosen(names.zip(wanted.iter().copied()))?
        }
    };
    if span::nesting(&properties) > JSON_DEPTH_MAX.saturating_sub(EVENT_DEPTH).saturating_add(1) {
        return Err(ItemError::Depth);
    }
    Ok(Finding {
        entity_id,
        properties,
    })
}

/// An object of what was found of the wanted properties.
fn chosen<'a>(wanted: impl Iterator<Item = (&'a str, Taken<'a>)>) -> Result<String, ItemError> {
    let mut object = ObjectWriter::default();
    for (name, value) in wanted {
        if let Some((_, value)) = value {
            object.add(name, value);
        }
    }
    object.finish().ok_or(ItemError::NoProperties)
}

/// All members of an item; of repeated ones the last.
fn all_members(item: &[u8]) -> Result<String, ItemError> {
    let mut scanner = Scanner::new(item).map_err(ItemError::NotJson)?;
    if scanner.begin_object().is_err() {
        return Err(ItemError::NoObject);
    }
    let mut members: Vec<(Cow<'_, str>, &str)> = Vec::new();
    while let Some(key) = scanner.next_key().map_err(ItemError::NotJson)? {
        let value = scanner.raw_value().map_err(ItemError::NotJson)?;
        members.push((key.to_cow(), value.text));
    }
    // The sort is stable, so of equal names the last is the last sent.
    members.sort_by(|a, b| a.0.cmp(&b.0));
    let mut object = ObjectWriter::default();
    let mut rest = members.iter().peekable();
    while let Some((name, value)) = rest.next() {
        if rest.peek().is_none_or(|(next, _)| next != name) {
            object.add(name, value);
        }
    }
    Ok(object.finish().unwrap_or_else(|| "{}".to_owned()))
}

/// Writes an object of values in their stored form.
#[derive(Debug, Default)]
struct ObjectWriter {
    out: String,
    name: Vec<u8>,
}

impl ObjectWriter {
    /// `value` is the text of a value that the scanner has accepted.
    fn add(&mut self, name: &str, value: &str) {
        self.out.push(if self.out.is_empty() { '{' } else { ',' });
        self.name.clear();
        write_string(&mut self.name, name);
        self.out.push_str(&String::from_utf8_lossy(&self.name));
        self.out.push(':');
        let value = compact(value.as_bytes()).unwrap_or_else(|_| value.to_owned());
        self.out.push_str(&value);
    }

    /// `None` if nothing was added.
    fn finish(mut self) -> Option<String> {
        self.out.push('}');
        (self.out.len() > 1).then_some(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::definition::parse_definition;
    use super::*;
    use serde_json::{Value, json};

    #[expect(clippy::needless_pass_by_value, reason = "each row makes its own")]
    fn source(more: Value) -> HttpDefinition {
        let mut definition = json!({
            "name": "weather", "url": "http://localhost:1/x", "poll_interval_seconds": 5, "entity_id": "weather/{city}",
        });
        let more = more.as_object().unwrap().clone();
        definition.as_object_mut().unwrap().extend(more);
        let parsed = parse_definition(definition.to_string().as_bytes(), "");
        parsed.unwrap().0
    }

    fn read(more: Value, body: &str) -> (Vec<(String, String)>, Option<String>) {
        let answer = read_answer(&source(more), body.as_bytes()).unwrap();
        let findings = answer.findings.into_iter();
        let findings = findings.map(|it| (it.entity_id, it.properties)).collect();
        (findings, answer.rejected.message())
    }

    fn pair(id: &str, properties: &str) -> (String, String) {
        (id.to_owned(), properties.to_owned())
    }

    #[test]
    fn an_answer_is_one_item_with_all_its_members() {
        let body = r#" {"city" : "Bern", "t":1e2, "u":-0.0, "tags":["a", 22.50]} "#;
        let (found, rejected) = read(json!({}), body);
        let properties = r#"{"city":"Bern","t":1e2,"tags":["a",22.50],"u":-0.0}"#;
        assert_eq!(found, [pair("weather/Bern", properties)], "digit for digit");
        assert_eq!(rejected, None);
        let (found, _) = read(json!({}), r#"{"city":"a","city":"b","x":1,"x":2}"#);
        assert_eq!(
            found,
            [pair("weather/b", r#"{"city":"b","x":2}"#)],
            "the last counts"
        );
        let (found, _) = read(json!({}), r#"{"city":"a","x":[{"y":1,"z":2,"y":1e2}]}"#);
        let properties = r#"{"city":"a","x":[{"z":2,"y":1e2}]}"#;
        assert_eq!(found, [pair("weather/a", properties)], "at every depth");
    }

    #[test]
    fn a_list_gives_an_entity_for_each_item_and_the_last_of_one_name_counts() {
        let more = json!({"items": "/data/list", "properties": {"temp": "/main/t", "wind": "/w"}});
        let body = r#"{"data":{"list":[
            {"city":"Bern","main":{"t":1},"w":2},{"city":"Chur","main":{"t":3}},{"city":"Bern","main":{"t":4}}]}}"#;
        let (found, rejected) = read(more, body);
        let expected = [
            pair("weather/Bern", r#"{"temp":4}"#),
            pair("weather/Chur", r#"{"temp":3}"#),
        ];
        assert_eq!((found.as_slice(), rejected), (&expected[..], None));
        assert_eq!(read(json!({"items": ""}), r#"[{"city":"a"}]"#).0.len(), 1);
        assert_eq!(read(json!({"items": ""}), "[]"), (Vec::new(), None));
    }

    #[test]
    fn a_bad_item_is_left_out_alone_whatever_is_bad() {
        let deep = format!(
            r#"{{"city":"deep","x":{}1{}}}"#,
            "[".repeat(124),
            "]".repeat(124)
        );
        let bad = [
            "7",
            "null",
            "{}",
            "",
            "oops",
            r#"{"city":null}"#,
            r#"{"city":""}"#,
            r#"{"city":["a"]}"#,
            r#"{"city":"a","t":NaN}"#,
            r#"{"city":"a","t":-Infinity}"#,
            r#"{"city":"a","t":1e999}"#,
            r#"{"city":"a","t":01}"#,
            r#"{"city":"\ud800"}"#,
            r#"{"city":"a" "b":1}"#,
            r#"{"city":"a",}"#,
            "{\"city\":\"a\nb\"}",
            &deep,
        ];
        for item in bad {
            for body in [
                format!(r#"[{{"city":"b","t":1}},{item},{{"city":"c","t":2}}]"#),
                format!(r#"[{item},{{"city":"b","t":1}},{item},{{"city":"c","t":2}}]"#),
            ] {
                let (found, rejected) = read(json!({"items": ""}), &body);
                let expected = [
                    pair("weather/b", r#"{"city":"b","t":1}"#),
                    pair("weather/c", r#"{"city":"c","t":2}"#),
                ];
                assert_eq!(found, expected, "{body}");
                let rejected = rejected.unwrap();
                let counted = if body.starts_with("[{\"city\":\"b\"") {
                    "1 item was left out: item 1: "
                } else {
                    "2 items were left out: item 0: "
                };
                assert!(rejected.starts_with(counted), "{rejected}: {body}");
            }
        }
        let deep = deep.replacen("[[", "[", 1).replacen("]]", "]", 1);
        assert_eq!(read(json!({"items": ""}), &format!("[{deep}]")).1, None);
    }

    #[test]
    fn an_answer_that_is_broken_around_its_items_says_so_and_gives_them() {
        let body = r#"{"next":NaN,"list":[{"city":"a"}]}"#;
        let (found, rejected) = read(json!({"items": "/list"}), body);
        assert_eq!(found.len(), 1);
        let rejected = rejected.unwrap();
        assert!(rejected.contains("is not valid JSON"), "{rejected}");
    }

    #[test]
    fn another_shape_is_told_by_what_is_missing() {
        let check = |more: Value, body: &str, part: &str| {
            let error = read_answer(&source(more), body.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        };
        check(json!({}), "{", "not valid JSON");
        check(json!({}), "", "not valid JSON");
        check(json!({"items": "/list"}), "{", "not valid JSON");
        check(
            json!({"items": "/list"}),
            r#"{"list":[{"city":"a"},"#,
            "not valid JSON",
        );
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
            json!({"properties": {"t": "/t"}}),
            r#"{"city":"a"}"#,
            "none of the `properties`",
        );
        let many = json!(vec![json!({"city": "a"}); POLL_ENTITIES_MAX + 1]).to_string();
        check(json!({"items": ""}), &many, "10001 items");
    }
}
