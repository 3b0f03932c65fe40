//! What [`AnswerReader`] is to do, by spans over the whole answer: the reference of its tests.
#![expect(clippy::arithmetic_side_effects, reason = "a test may fail")]

use super::answer::{Answer, AnswerError, AnswerReader, ItemError, Rejected, read_item};
use super::definition::{HttpDefinition, parse_definition};
use super::finding::Finding;
use super::pointer::Pointer;
use super::span::{self, Elements, Pieces, string_end};
use crate::api::json::{JsonError, Scanner};
use crate::limits::POLL_ENTITIES_MAX;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is published of an answer, and what is wrong with it.
type Judged = Result<(Vec<Finding>, Option<usize>, Option<JsonError>), AnswerError>;

/// Reads a whole answer.
fn read_whole(definition: &HttpDefinition, body: &[u8]) -> Judged {
    match body {
        [0x1f, 0x8b, ..] => return Err(AnswerError::Gzip),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Err(AnswerError::Utf16),
        _ => {}
    }
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let pointer = definition.items.as_ref().unwrap();
    let frame = check(body).err();
    let broken = |error: AnswerError| frame.map_or(error, AnswerError::NotJson);
    let at = pointer.as_str();
    let items = find(body, pointer);
    let items = items.ok_or_else(|| broken(AnswerError::NoItems(at.into())))?;
    let items = span::elements(items, POLL_ENTITIES_MAX);
    let Elements { kept, count } = items.ok_or_else(|| broken(AnswerError::NoArray(at.into())))?;
    if count > POLL_ENTITIES_MAX {
        return Err(AnswerError::TooMany(count));
    }
    let (mut findings, mut places) = (Vec::<Finding>::new(), BTreeMap::new());
    let mut rejected = None;
    for (index, item) in kept.into_iter().enumerate() {
        match read_item(definition, item) {
            Ok(finding) => {
                let next = findings.len();
                let at = *places.entry(finding.entity_id.clone()).or_insert(next);
                findings.resize_with(next.max(at + 1), || finding.clone());
                findings[at] = finding;
            }
            Err(_) => rejected = rejected.or(Some(index)),
        }
    }
    let frame = frame.filter(|_| rejected.is_none());
    Ok((findings, rejected, frame))
}

fn check(text: &[u8]) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(text)?;
    scanner.raw_value()?;
    scanner.finish()
}

/// What `pointer` points to in `text`; of repeated members the last. `None` if there is nothing.
fn find<'a>(text: &'a [u8], pointer: &Pointer) -> Option<&'a [u8]> {
    let mut value = text.trim_ascii();
    for step in pointer.steps() {
        value = match value.first()? {
            b'{' => member(value, &step)?,
            b'[' => element(value, &step)?,
            _ => return None,
        };
    }
    Some(value)
}

fn member<'a>(object: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut found = None;
    let mut pieces = Pieces::of(object, b'{', b'}')?;
    while let Some(piece) = pieces.next()? {
        let Some((key, value)) = split_member(piece) else {
            continue;
        };
        let key = Scanner::new(key).and_then(|mut scanner| scanner.string());
        if key.is_ok_and(|key| key.to_cow() == name) {
            found = Some(value);
        }
    }
    found
}

fn element<'a>(array: &'a [u8], index: &str) -> Option<&'a [u8]> {
    let mut pieces = Pieces::of(array, b'[', b']')?;
    let mut at = 0_usize;
    while let Some(piece) = pieces.next()? {
        if at.to_string() == index {
            return Some(piece);
        }
        at = at.saturating_add(1);
    }
    None
}

fn split_member(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, rest) = piece.split_at_checked(string_end(piece, 0)?)?;
    let value = rest.trim_ascii_start().strip_prefix(b":")?;
    Some((key, value.trim_ascii()))
}

/// Reads an answer that arrives in parts.
fn read_parts<'p>(
    definition: &Arc<HttpDefinition>,
    parts: impl IntoIterator<Item = &'p [u8]>,
) -> Result<Answer, AnswerError> {
    let mut reader = AnswerReader::new(Arc::clone(definition));
    for part in parts {
        reader.feed(part)?;
    }
    reader.finish()
}

fn judged(answer: Result<Answer, AnswerError>) -> Judged {
    let Answer { findings, rejected } = answer?;
    let Rejected { first, frame, .. } = rejected;
    Ok((findings, first.map(|(index, _)| index), frame))
}

fn list_at(pointer: &str) -> Arc<HttpDefinition> {
    let mut definition = serde_json::json!({"name": "abc", "url": "http://a/", "poll_interval_seconds": 5, "entity_id": "x/{a}"});
    definition["items"] = pointer.into();
    let parsed = parse_definition(definition.to_string().as_bytes(), "");
    Arc::new(parsed.unwrap().0)
}

/// Both ways agree. What is wrong with an answer may be told of another place: the reader does not
/// keep what stood in a list.
fn compare(definition: &Arc<HttpDefinition>, body: &[u8], answer: Result<Answer, AnswerError>) {
    let (expected, found) = (read_whole(definition, body), judged(answer));
    let text = String::from_utf8_lossy(body);
    match (expected, found) {
        (Ok((expected, first, frame)), Ok((found, found_first, found_frame))) => {
            assert_eq!((&expected, first), (&found, found_first), "{text}");
            assert_eq!(
                frame.is_some(),
                found_frame.is_some(),
                "{text}: {frame:?} {found_frame:?}"
            );
        }
        (Err(AnswerError::NotJson(_)), Err(AnswerError::NotJson(_))) => {}
        (expected, found) => assert_eq!(expected, found, "{text}"),
    }
}

const ANSWERS: &[(&str, &str)] = &[
    ("", r#"[{"a":"b"},{"a":"c"}]"#),
    (
        "",
        r#" [ {"a" : "\\\"]" , "x":[1,{"y":[]}]} , NaN, {"a":"c"},, {"a":"b"} ] "#,
    ),
    ("", "[1,]"),
    ("", "[,]"),
    ("", "[ ]"),
    ("", "[[1]"),
    ("", "[1}"),
    ("", r#"[{"a":1}] x"#),
    ("", r#"{"a":1}"#),
    ("", "7"),
    ("", ""),
    ("", "\u{feff}[]"),
    (
        "/list",
        r#"{"list":[{"a":1}],"list":[{"a":2},oops],"list":[{"a":3}]}"#,
    ),
    ("/list", r#"{"list":[{"a":1}],"list":7}"#),
    ("/list", r#"{"list":[{"a":1}],"l\u0069st":[{"a":2}]}"#),
    ("/list", r#"{"next":NaN,"list":[{"a":1}]}"#),
    ("/list", r#"{"list":[{"a":1}] x,"b":1}"#),
    ("/list", r#"{"list" [{"a":1}],"b":1}"#),
    ("/list", r#"{"list":[{"a":1}],"b":{"list":[]}"#),
    ("/list", r#"{"list":}"#),
    ("/list", r#"[{"list":[]}]"#),
    ("/a/list", r#"{"a":{"list":[{"a":1}]},"a":{"b":1}}"#),
    (
        "/a/list",
        r#"{"a":{"list":[{"a":1}]},"a":{"list":[{"a":2}]}}"#,
    ),
    ("/a/list", r#"{"a":{"list":[{"a":1}]}x,"b":1}"#),
    ("/a/list", r#"{"a":{"list":[{"a":1}]],"b":1}"#),
    ("/1", r#"[[{"a":1}],[{"a":2}],[{"a":3}]]"#),
    ("/1", r#"[[{"a":1}],[{"a":2}],"#),
    ("/1", r#"[[{"a":1}],[{"a":2}]"#),
    ("/1", r#"[[{"a":1}],[{"a":2}]}"#),
    ("/1", r#"[[{"a":1}],[{"a":2}]] x"#),
    ("/1", r#"[[{"a":1}],[{"a":2}],3] x"#),
    ("/01", r#"[[{"a":1}],[{"a":2}]]"#),
    ("/x/0", r#"{"x":[[{"a":1}],2] y,"z":1}"#),
    ("/x/0", r#"{"x":[[{"a":1}]] y,"z":1}"#),
    ("/~1~0/", r#"{"/~":{"":[{"a":1}]}}"#),
];

#[test]
fn an_answer_means_the_same_however_it_was_split() {
    for (pointer, text) in ANSWERS {
        let definition = list_at(pointer);
        let body = text.as_bytes();
        compare(&definition, body, read_parts(&definition, [body]));
        compare(&definition, body, read_parts(&definition, body.chunks(1)));
        for split in 0..=body.len() {
            let (first, second) = body.split_at(split);
            compare(&definition, body, read_parts(&definition, [first, second]));
        }
    }
}

/// Answers that are put together of parts which mean something here, most of them broken.
#[test]
fn generated_answers_mean_what_the_reference_says() {
    const PARTS: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        "[",
        "]",
        ",",
        ",",
        ":",
        "\"",
        "\\",
        " ",
        "1",
        "NaN",
        "\"a\":",
        "\"a\":\"b\"",
        "\"list\":",
        "\"list\":[",
        "\"x\":{",
        "{\"a\":1}",
        "{\"a\":2},",
        "{\"a\":\"\\ud800\"}",
        "\u{c}",
        "\t",
        "x",
    ];
    let mut random = fastrand::Rng::with_seed(21);
    let definitions = ["", "/list", "/x/list", "/list/0", "/1"].map(list_at);
    let mut items = 0;
    for _ in 0..40_000 {
        let definition = &definitions[random.usize(..definitions.len())];
        let body: String = if random.u8(..4) == 0 {
            let mut part = || PARTS[random.usize(..PARTS.len())];
            (0..24).map(|_| part()).collect()
        } else {
            let text = valid(&mut random, 0);
            mutated(&mut random, &text)
        };
        let body = body.as_bytes();
        let split = random.usize(..=body.len());
        let (first, second) = body.split_at(split);
        let answer = read_parts(definition, [first, second]);
        items += answer.as_ref().map_or(0, |answer| answer.findings.len());
        compare(definition, body, answer);
    }
    assert!(items > 1_000, "only {items} items were found");
}

/// A valid document in which there may be lists.
fn valid(random: &mut fastrand::Rng, depth: usize) -> String {
    let inner = |random: &mut fastrand::Rng| valid(random, depth + 1);
    match random.u8(..if depth > 4 { 2 } else { 10 }) {
        0 => "1".to_owned(),
        1 => "\"]},\"".to_owned(),
        2 | 3 => {
            let members: Vec<String> = (0..random.usize(..4))
                .map(|_| {
                    let name = ["list", "x", "a", "l\\u0069st"][random.usize(..4)];
                    format!("\"{name}\": {}", inner(random))
                })
                .collect();
            format!("{{{}}}", members.join(","))
        }
        4 | 5 => {
            let elements: Vec<String> = (0..random.usize(..4)).map(|_| inner(random)).collect();
            format!("[{}]", elements.join(" , "))
        }
        _ => format!("[{{\"a\":{}}}]", random.u8(..)),
    }
}

/// A document with at most one byte too many or too few.
fn mutated(random: &mut fastrand::Rng, text: &str) -> String {
    let at = random.usize(..=text.len());
    let (before, after) = text.split_at(at);
    match random.u8(..3) {
        0 => text.to_owned(),
        1 => format!("{before}{}", after.get(1..).unwrap_or_default()),
        _ => format!(
            "{before}{}{after}",
            ["]", "}", ",", "\"", "x"][random.usize(..5)]
        ),
    }
}

#[test]
fn an_item_that_is_too_deep_only_where_it_stands_is_told() {
    let definition = list_at("/list");
    let item = |depth: usize| {
        format!(
            r#"{{"a":1,"x":{}1{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    for (depth, is_told) in [(121, false), (123, false)] {
        let body = format!(r#"{{"list":[{}]}}"#, item(depth));
        let answer = read_parts(&definition, [body.as_bytes()]);
        assert_eq!(
            answer.as_ref().unwrap().rejected.frame.is_some(),
            is_told,
            "{depth}"
        );
        compare(&definition, body.as_bytes(), answer);
    }
    let outer = list_at("/x/x/x/x/list");
    let body = format!(
        r#"{{"x":{{"x":{{"x":{{"x":{{"list":[{}]}}}}}}}}}}"#,
        item(123)
    );
    let answer = read_parts(&outer, [body.as_bytes()]);
    let frame = answer.as_ref().unwrap().rejected.frame;
    assert!(matches!(frame, Some(JsonError::Depth { .. })), "{frame:?}");
    compare(&outer, body.as_bytes(), answer);
}

#[test]
fn the_frame_is_judged_where_it_stood_in_the_answer() {
    let definition = list_at("/list");
    let body = r#"{"list":[{"a":1},{"a":2}],"next":NaN}"#;
    let answer = read_parts(&definition, [body.as_bytes()]).unwrap();
    let offset = answer.rejected.frame.map(JsonError::offset);
    assert_eq!(offset, body.find("NaN"));
}

#[test]
fn only_what_was_found_and_the_frame_is_kept() {
    let definition = list_at("/list");
    let mut reader = AnswerReader::new(Arc::clone(&definition));
    reader.feed(b"{\"list\":[").unwrap();
    let item = format!(r#"{{"a":1,"x":"{}"}},"#, "y".repeat(10_000));
    for _ in 0..9_000 {
        reader.feed(item.as_bytes()).unwrap();
        assert!(reader.held_bytes() < 100_000, "{}", reader.held_bytes());
    }
}

#[test]
fn what_is_taken_of_an_answer_is_bounded() {
    let mut definition = serde_json::json!({"name": "abc", "url": "http://a/", "poll_interval_seconds": 5, "entity_id": "x/{a}", "items": ""});
    let names = (0..256).map(|number| (format!("p{number}"), "/x".into()));
    definition["properties"] = serde_json::Value::Object(names.collect());
    let parsed = parse_definition(definition.to_string().as_bytes(), "");
    let definition = Arc::new(parsed.unwrap().0);
    let item = |a: usize, len: usize| format!(r#"{{"a":{a},"x":"{}"}}"#, "y".repeat(len));
    let one = format!("[{}]", item(1, 20_000));
    let answer = read_parts(&definition, [one.as_bytes()]).unwrap();
    let first = answer.rejected.first;
    assert_eq!(first, Some((0, ItemError::Bytes)), "of one item");
    let all: Vec<String> = (0..10).map(|a| item(a, 10_000)).collect();
    let answer = read_parts(&definition, [format!("[{}]", all.join(",")).as_bytes()]);
    assert_eq!(answer.unwrap_err(), AnswerError::TooLarge, "of all");
    assert!(AnswerReader::new(definition).multiplies());
    assert!(!AnswerReader::new(list_at("")).multiplies());
    let members: Vec<String> = (0..10_001)
        .map(|number| format!("\"a{number}\":1"))
        .collect();
    let item = |count: usize| format!("[{{\"a\":1,{}}}]", members[..count].join(","));
    let judge = |count: usize| read_parts(&list_at(""), [item(count).as_bytes()]).unwrap();
    assert_eq!(judge(9_999).findings.len(), 1);
    let first = judge(10_000).rejected.first;
    assert_eq!(first, Some((0, ItemError::Properties)));
}

#[test]
fn a_pointer_leads_past_what_is_bad() {
    let text = r#"{"a":NaN,"list":[0],"b":{"l\u0069st":[1,{"x":2}]},"list":[3]}"#;
    let at = |pointer: &str| {
        let pointer = Pointer::parse(pointer).unwrap();
        find(text.as_bytes(), &pointer).map(|it| str::from_utf8(it).unwrap())
    };
    assert_eq!(at(""), Some(text));
    assert_eq!(at("/list"), Some("[3]"), "the last of repeated members");
    assert_eq!(at("/b/list/1/x"), Some("2"));
    for pointer in [
        "/c",
        "/b/list/2",
        "/b/list/01",
        "/b/list/-",
        "/list/0/x",
        "/a/x",
    ] {
        assert_eq!(at(pointer), None, "{pointer}");
    }
}
