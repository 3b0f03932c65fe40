//! A source's answer → findings, while it arrives. Each item is judged by itself: what is wrong
//! with one costs no other.
//!
//! An item becomes a finding as soon as it is whole, so neither the answer nor a tree of it is
//! kept.

use super::definition::HttpDefinition;
use super::finding::Finding;
use super::pointer::Pointer;
use super::selection::Taken;
use super::span;
use super::splitter::{Found, ItemSink, Splitter};
use super::template::GapError;
use crate::api::json::{JsonError, Scanner, compact, write_string};
use crate::limits::{
    FINDING_BYTES_MAX, FINDING_PROPERTIES_MAX, JSON_DEPTH_MAX, POLL_ENTITIES_MAX,
    POLL_HELD_BYTES_MAX,
};
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

/// Containers around a property's value in a batch of events: the body, the list, the event, its
/// payload and its properties.
const EVENT_DEPTH: usize = 5;

/// What an answer holds.
#[derive(Debug, Default, PartialEq, Eq)]
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
    /// What is wrong with the first item that is no JSON.
    not_json: Option<JsonError>,
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
    /// It is compressed.
    #[error(
        "the answer is compressed with gzip, which was not asked for; give the source an address or \
         a header that turns that off"
    )]
    Gzip,
    /// It is no UTF-8.
    #[error("the answer is UTF-16 by its byte order mark; only UTF-8 is read")]
    Utf16,
    /// The list is too long.
    #[error("the answer has {0} items; at most {POLL_ENTITIES_MAX} are taken")]
    TooMany(usize),
    /// What it says takes too much memory.
    #[error("what it takes of the answer is larger than {POLL_HELD_BYTES_MAX} bytes")]
    TooLarge,
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
    /// It has too many members.
    #[error("it has more than {FINDING_PROPERTIES_MAX} members")]
    Properties,
    /// Its properties are too long.
    #[error("its properties are larger than {FINDING_BYTES_MAX} bytes")]
    Bytes,
}

/// Reads an answer by the definition of its source.
///
/// # Errors
/// [`AnswerError`].
pub fn read_answer(definition: &Arc<HttpDefinition>, body: &[u8]) -> Result<Answer, AnswerError> {
    let mut reader = AnswerReader::new(Arc::clone(definition));
    reader.feed(body)?;
    reader.finish()
}

/// Reads an answer while it arrives. It keeps what the items said, and of the answer itself what
/// lies around them.
#[derive(Debug)]
pub struct AnswerReader {
    definition: Arc<HttpDefinition>,
    /// The first bytes, until they are enough to tell a byte order mark.
    start: Option<Vec<u8>>,
    content: Content,
    items: Items,
}

/// The byte order mark of UTF-8, which some sources begin with. It is skipped (RFC 8259 §8.1).
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";
/// What gzip begins with (RFC 1952 §2.3.1).
const GZIP_MARK: &[u8] = b"\x1f\x8b";

#[derive(Debug)]
enum Content {
    /// The answer is the one item.
    One(Vec<u8>),
    List(Box<Splitter>),
}

/// What the items said so far.
#[derive(Debug, Default)]
struct Items {
    answer: Answer,
    /// Hash of an entity's id → its place among the findings.
    places: HashMap<u64, usize>,
    hasher: RandomState,
    /// Of the findings.
    bytes: usize,
    /// An item that is no JSON stood in a list that does not count any more.
    spoiled: Option<JsonError>,
}

impl AnswerReader {
    /// For an answer of this source.
    pub fn new(definition: Arc<HttpDefinition>) -> Self {
        let content = match &definition.items {
            None => Content::One(Vec::new()),
            Some(pointer) => Content::List(Box::new(Splitter::new(pointer, POLL_ENTITIES_MAX))),
        };
        Self {
            definition,
            start: Some(Vec::new()),
            content,
            items: Items::default(),
        }
    }

    /// True if the findings can take many times the bytes of the answer: a value is taken more
    /// than once.
    pub fn multiplies(&self) -> bool {
        self.definition.takes_twice
    }

    /// Bytes of memory that this holds, about.
    pub fn held_bytes(&self) -> usize {
        let content = match &self.content {
            Content::One(body) => body.len(),
            Content::List(splitter) => splitter.held_bytes(),
        };
        content.saturating_add(self.items.bytes)
    }

    /// The answer has so many bytes: if it is kept whole, room is made for all of them.
    pub fn make_room(&mut self, len: usize) {
        if let Content::One(body) = &mut self.content {
            body.reserve_exact(len.saturating_sub(body.len()));
        }
    }

    /// Takes the next bytes of the answer, however it was split.
    ///
    /// # Errors
    /// [`AnswerError::TooLarge`] if it holds too much, [`AnswerError::Gzip`],
    /// [`AnswerError::Utf16`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), AnswerError> {
        let Some(start) = &mut self.start else {
            return self.take(bytes);
        };
        let missing = UTF8_MARK.len().saturating_sub(start.len());
        let (first, rest) = bytes.split_at(missing.min(bytes.len()));
        start.extend_from_slice(first);
        if start.len() < UTF8_MARK.len() {
            return Ok(());
        }
        self.begin()?;
        self.take(rest)
    }

    /// Takes the first bytes without a mark.
    fn begin(&mut self) -> Result<(), AnswerError> {
        let start = self.start.take().unwrap_or_default();
        if start.starts_with(GZIP_MARK) {
            return Err(AnswerError::Gzip);
        }
        if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
            return Err(AnswerError::Utf16);
        }
        self.take(start.strip_prefix(UTF8_MARK).unwrap_or(&start))
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), AnswerError> {
        match &mut self.content {
            Content::One(body) => body.extend_from_slice(bytes),
            Content::List(splitter) => {
                let mut sink = ListSink {
                    definition: &self.definition,
                    items: &mut self.items,
                };
                splitter.feed(bytes, &mut sink);
            }
        }
        if self.held_bytes() > POLL_HELD_BYTES_MAX {
            return Err(AnswerError::TooLarge);
        }
        Ok(())
    }

    /// What the answer said, now that it is whole.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn finish(mut self) -> Result<Answer, AnswerError> {
        self.begin()?;
        match self.content {
            Content::One(body) => match read_item(&self.definition, &body) {
                Ok(finding) => Ok(Answer {
                    findings: vec![finding],
                    rejected: Rejected::default(),
                }),
                Err(ItemError::NotJson(error)) => Err(AnswerError::NotJson(error)),
                Err(error) => Err(AnswerError::Item(error)),
            },
            Content::List(splitter) => {
                let pointer = self.definition.items.as_ref();
                let at = pointer.map_or("", Pointer::as_str);
                self.items.finish(*splitter, at)
            }
        }
    }
}

/// Reads the items of the list as they come.
struct ListSink<'r> {
    definition: &'r HttpDefinition,
    items: &'r mut Items,
}

impl ItemSink for ListSink<'_> {
    fn item(&mut self, index: usize, text: &[u8]) {
        let items = &mut *self.items;
        if items.bytes > POLL_HELD_BYTES_MAX {
            // The next look at it ends the poll.
            return;
        }
        match read_item(self.definition, text) {
            Ok(finding) => items.add(finding),
            Err(error) => items.answer.rejected.add(index, error),
        }
    }

    fn restart(&mut self) {
        let items = &mut *self.items;
        let not_json = items.answer.rejected.not_json.take();
        items.spoiled = items.spoiled.or(not_json);
        items.answer = Answer::default();
        items.places.clear();
        items.bytes = 0;
    }
}

impl Items {
    /// Of several items about one entity the last counts: in an event each, they would differ from
    /// each other at every poll.
    fn add(&mut self, finding: Finding) {
        let hash = self.hasher.hash_one(&finding.entity_id);
        self.bytes = self.bytes.saturating_add(finding.held_bytes());
        let earlier = self.places.get(&hash).copied();
        if let Some(earlier) = earlier.and_then(|at| self.answer.findings.get_mut(at)) {
            self.bytes = self.bytes.saturating_sub(earlier.held_bytes());
            *earlier = finding;
        } else {
            self.places.insert(hash, self.answer.findings.len());
            self.answer.findings.push(finding);
        }
    }

    fn finish(self, splitter: Splitter, pointer: &str) -> Result<Answer, AnswerError> {
        let (found, frame) = splitter.finish();
        let at_fault = check(&frame.text).err();
        let at_fault = at_fault.map(|error| {
            let offset = frame.offset_in_answer(error.offset());
            error.moved_to(offset)
        });
        let too_deep = frame.too_deep.map(|offset| JsonError::Depth { offset });
        let at_fault = at_fault.or(self.spoiled).or(too_deep);
        let broken = |error: AnswerError| at_fault.map_or(error, AnswerError::NotJson);
        match found {
            Found::Nothing => Err(broken(AnswerError::NoItems(pointer.into()))),
            Found::Other => Err(broken(AnswerError::NoArray(pointer.into()))),
            Found::List(count) if count > POLL_ENTITIES_MAX => Err(AnswerError::TooMany(count)),
            Found::List(_) => {
                let mut answer = self.answer;
                if answer.rejected.count == 0 {
                    answer.rejected.frame = at_fault;
                }
                Ok(answer)
            }
        }
    }
}

impl Rejected {
    fn add(&mut self, index: usize, error: ItemError) {
        self.count = self.count.saturating_add(1);
        if let ItemError::NotJson(error) = &error {
            self.not_json.get_or_insert(*error);
        }
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

pub(super) fn read_item(definition: &HttpDefinition, item: &[u8]) -> Result<Finding, ItemError> {
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
            let bytes = wanted.iter().flatten().map(|(_, text)| text.len());
            check_bytes(bytes)?;
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

fn check_bytes(lens: impl Iterator<Item = usize>) -> Result<(), ItemError> {
    let bytes = lens.fold(0, usize::saturating_add);
    if bytes > FINDING_BYTES_MAX {
        return Err(ItemError::Bytes);
    }
    Ok(())
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
        if members.len() == FINDING_PROPERTIES_MAX {
            return Err(ItemError::Properties);
        }
        members.push((key.to_cow(), value.text));
    }
    check_bytes(
        members
            .iter()
            .map(|(name, text)| name.len().saturating_add(text.len())),
    )?;
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
        self.out.shrink_to_fit();
        (self.out.len() > 1).then_some(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::definition::parse_definition;
    use super::*;
    use serde_json::{Value, json};

    #[expect(clippy::needless_pass_by_value, reason = "each row makes its own")]
    fn source(more: Value) -> Arc<HttpDefinition> {
        let mut definition = json!({
            "name": "weather", "url": "http://localhost:1/x", "poll_interval_seconds": 5, "entity_id": "weather/{city}",
        });
        let more = more.as_object().unwrap().clone();
        definition.as_object_mut().unwrap().extend(more);
        let parsed = parse_definition(definition.to_string().as_bytes(), "");
        Arc::new(parsed.unwrap().0)
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
    fn a_byte_order_mark_is_skipped_and_what_is_no_utf8_is_named() {
        let list = json!({"items": ""});
        for (more, text) in [
            (json!({}), r#"{"city":"Bern"}"#),
            (list, r#"[{"city":"Bern"}]"#),
        ] {
            let marked = [UTF8_MARK, text.as_bytes()].concat();
            for split in 0..6 {
                let mut reader = AnswerReader::new(source(more.clone()));
                let (first, rest) = marked.split_at(split);
                reader.feed(first).unwrap();
                reader.feed(rest).unwrap();
                assert_eq!(reader.finish().unwrap().findings.len(), 1, "{split}");
            }
            let refused = |bytes: &[u8]| read_answer(&source(more.clone()), bytes).unwrap_err();
            assert_eq!(refused(b"\x1f\x8b\x08\0"), AnswerError::Gzip);
            assert_eq!(refused(b"\x1f\x8b"), AnswerError::Gzip);
            assert_eq!(refused(b"\xff\xfe{\0}\0"), AnswerError::Utf16);
            assert!(matches!(refused(b"\xef\xbb"), AnswerError::NotJson(_)));
        }
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
