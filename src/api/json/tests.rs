//! The scanner as a whole: tables of what is accepted and refused, and comparison with
//! `serde_json`.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, as it should"
)]

use std::fmt::Write as _;

use fastrand::Rng;
use serde_json::Value;

use crate::limits::JSON_DEPTH_MAX;

use super::*;

/// One of `choices`.
fn pick<T: Copy>(random: &mut Rng, choices: &[T]) -> T {
    choices[random.usize(..choices.len())]
}

/// Checks `body` as one document that nobody reads.
fn pass(body: &[u8]) -> Result<RawValue<'_>, JsonError> {
    let mut scanner = Scanner::new(body)?;
    let value = scanner.raw_value()?;
    scanner.finish()?;
    Ok(value)
}

/// Reads all of `body` into a tree, member by member, as a decoder would.
fn read(body: &[u8]) -> Result<Value, JsonError> {
    let mut scanner = Scanner::new(body)?;
    let value = read_value(&mut scanner)?;
    scanner.finish()?;
    Ok(value)
}

fn read_value(scanner: &mut Scanner<'_>) -> Result<Value, JsonError> {
    match scanner.kind()? {
        Kind::Object => {
            scanner.begin_object()?;
            let mut members = serde_json::Map::new();
            while let Some(key) = scanner.next_key()? {
                members.insert(key.to_cow().into_owned(), read_value(scanner)?);
            }
            Ok(Value::Object(members))
        }
        Kind::Array => {
            scanner.begin_array()?;
            let mut elements = Vec::new();
            while scanner.next_element()? {
                elements.push(read_value(scanner)?);
            }
            Ok(Value::Array(elements))
        }
        Kind::String => {
            let mut scratch = String::new();
            Ok(Value::from(scanner.string()?.decode(&mut scratch)))
        }
        Kind::Number | Kind::True | Kind::False | Kind::Null => {
            let text = scanner.raw_value()?.text;
            Ok(serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}")))
        }
    }
}

#[test]
fn documents_of_the_grammar_are_accepted() {
    for (body, kind, has_space) in [
        ("0", Kind::Number, false),
        (" null\n", Kind::Null, false),
        ("\ttrue\r\n", Kind::True, false),
        ("false", Kind::False, false),
        ("\"a b\"", Kind::String, false),
        ("[]", Kind::Array, false),
        ("[ ]", Kind::Array, true),
        ("{}", Kind::Object, false),
        ("{\"a b\":[\"c d\",{}]} ", Kind::Object, false),
        ("{\"a\" :1}", Kind::Object, true),
        ("{\"a\": 1}", Kind::Object, true),
        ("[[],[[]],{\"a\":{\"b\":[]}}\n]", Kind::Array, true),
    ] {
        let value = pass(body.as_bytes()).unwrap();
        assert_eq!(value.text, body.trim());
        assert_eq!((value.kind, value.has_space), (kind, has_space), "{body}");
    }
}

#[test]
fn faults_are_named_with_their_offset() {
    let check = |body: &str, expected| assert_eq!(pass(body.as_bytes()), Err(expected), "{body}");
    let no_value = |body: &str, offset| {
        let found = Word::at(body, offset);
        check(body, JsonError::Value { offset, found });
    };
    check("", JsonError::End { offset: 0 });
    check("  ", JsonError::End { offset: 2 });
    check("[1, 2", JsonError::End { offset: 5 });
    no_value("[1,]", 3);
    no_value("[,1]", 1);
    check("[1 2]", JsonError::ArrayEnd { offset: 3 });
    check("[1}", JsonError::ArrayEnd { offset: 2 });
    check("[1:2]", JsonError::ArrayEnd { offset: 2 });
    check("{\"a\":1,}", JsonError::Key { offset: 7 });
    check("{,}", JsonError::Key { offset: 1 });
    check("{a:1}", JsonError::Key { offset: 1 });
    check("{'a':1}", JsonError::Key { offset: 1 });
    check("{1:1}", JsonError::Key { offset: 1 });
    check("{\"a\" 1}", JsonError::Colon { offset: 5 });
    check("{\"a\"}", JsonError::Colon { offset: 4 });
    no_value("{\"a\":}", 5);
    check("{\"a\":1 \"b\":2}", JsonError::ObjectEnd { offset: 7 });
    check("{\"a\":1]", JsonError::ObjectEnd { offset: 6 });
    no_value("NaN", 0);
    check("nul", JsonError::End { offset: 3 });
    no_value("nulL", 3);
    no_value("+1", 0);
    no_value(".5", 0);
    no_value("Infinity", 0);
    no_value("// c\n1", 0);
    check("1 /* c */", JsonError::Trailing { offset: 2 });
    check("1\u{b}", JsonError::Trailing { offset: 1 });
    check("1\u{a0}", JsonError::Trailing { offset: 1 });
    check("truex", JsonError::Trailing { offset: 4 });
    check("{}{}", JsonError::Trailing { offset: 2 });
    check("1\0", JsonError::Trailing { offset: 1 });
    no_value("]", 0);
    check("\u{feff}1", JsonError::ByteOrderMark { offset: 0 });
    let (offset, found) = (5, Word::at("1e999", 0));
    check("{\"a\":1e999}", JsonError::NumberRange { offset, found });
    check("{\"a\\ud800\":1}", JsonError::Surrogate { offset: 3 });
    check("[[\"\\udfff\"]]", JsonError::Surrogate { offset: 3 });
    check("[\"a\tb\"]", JsonError::Control { offset: 3 });
    assert_eq!(pass(b"[\"a\xff\"]"), Err(JsonError::Utf8 { offset: 3 }));
    assert_eq!(
        pass(b"\"\xed\xa0\x80\""),
        Err(JsonError::Utf8 { offset: 1 })
    );
}

#[test]
fn messages_say_what_and_where() {
    let message = |body: &str| pass(body.as_bytes()).unwrap_err().to_string();
    assert_eq!(message("{\"a\":1]"), "expected ',' or '}' at byte 6");
    assert_eq!(message("[1"), "the document ends early at byte 2");
    assert_eq!(
        message("[-Infinity]"),
        "invalid number `-Infinity` at byte 2"
    );
    assert_eq!(
        message("{\"a\":NaN}"),
        "expected a value at byte 5, found `NaN`"
    );
    assert_eq!(
        message("[1e999]"),
        "the number `1e999` at byte 1 is beyond the range of a double"
    );
    let deep = "[".repeat(JSON_DEPTH_MAX + 1);
    assert_eq!(
        message(&deep),
        "nested deeper than 128 containers at byte 128"
    );
    let mut scanner = Scanner::new(b" [1]").unwrap();
    assert_eq!(
        scanner.string().unwrap_err().to_string(),
        "expected a string at byte 1, found an array"
    );
}

#[test]
fn nesting_is_bounded_exactly_wherever_it_is_met() {
    let arrays = |depth| "[".repeat(depth) + &"]".repeat(depth);
    let objects = |depth| "{\"a\":".repeat(depth - 1) + "{}" + &"}".repeat(depth - 1);
    for body in [arrays(JSON_DEPTH_MAX), objects(JSON_DEPTH_MAX)] {
        pass(body.as_bytes()).unwrap();
        read(body.as_bytes()).unwrap();
    }
    for body in [arrays(JSON_DEPTH_MAX + 1), objects(JSON_DEPTH_MAX + 1)] {
        for error in [pass(body.as_bytes()).err(), read(body.as_bytes()).err()] {
            assert!(matches!(error, Some(JsonError::Depth { .. })), "{error:?}");
        }
    }
    // What is passed over counts from where it lies, not from itself.
    let body = format!("{{\"a\":{},\"b\":{}}}", arrays(127), arrays(128));
    let mut scanner = Scanner::new(body.as_bytes()).unwrap();
    scanner.begin_object().unwrap();
    scanner.next_key().unwrap();
    scanner.raw_value().unwrap();
    scanner.next_key().unwrap();
    assert!(matches!(scanner.raw_value(), Err(JsonError::Depth { .. })));
}

#[test]
fn a_wrong_kind_consumes_nothing() {
    let mut scanner = Scanner::new(b"[ 12 , \"x\"]").unwrap();
    assert_eq!(scanner.kind().unwrap(), Kind::Array);
    assert!(matches!(
        scanner.begin_object(),
        Err(JsonError::Kind {
            expected: Kind::Object,
            found: Kind::Array,
            offset: 0
        })
    ));
    scanner.begin_array().unwrap();
    assert!(scanner.next_element().unwrap());
    assert!(matches!(
        scanner.string(),
        Err(JsonError::Kind { offset: 2, .. })
    ));
    assert_eq!(scanner.raw_value().unwrap().text, "12");
    assert!(scanner.next_element().unwrap());
    assert_eq!(scanner.string().unwrap().plain(), Some("x"));
    assert!(!scanner.next_element().unwrap());
    assert_eq!(scanner.offset(), 11);
    scanner.finish().unwrap();
}

#[test]
fn an_open_container_is_not_finished() {
    let mut scanner = Scanner::new(b"[").unwrap();
    scanner.begin_array().unwrap();
    assert_eq!(scanner.finish(), Err(JsonError::End { offset: 1 }));
}

#[test]
fn repeated_keys_are_all_seen_in_order() {
    let mut scanner = Scanner::new(br#"{"a":1,"\u0061":2}"#).unwrap();
    scanner.begin_object().unwrap();
    let mut seen = Vec::new();
    while let Some(key) = scanner.next_key().unwrap() {
        seen.push((key.to_cow(), scanner.raw_value().unwrap().text));
    }
    assert_eq!(seen, [("a".into(), "1"), ("a".into(), "2")]);
}

const EVENT: &str = r#" {"stream":"sensors.indoor", "source":"agent-\u00e9\ud83d\ude00",
 "timestamp":1700000000000,"x":[true,false,null,-0.5e+3,{"":[[],{}]}],
 "payload":{"entity_id":"house/room","properties":{"t":22.50,"s":"a\\b\"c","o":{ "k" : "vé" }}}}"#;

#[test]
fn every_truncation_is_refused() {
    read(EVENT.as_bytes()).unwrap();
    for len in 0..EVENT.len() {
        let cut = &EVENT.as_bytes()[..len];
        assert!(pass(cut).is_err(), "cut to {len}");
        assert!(read(cut).is_err(), "cut to {len}");
    }
}

/// Appends a random value in random spelling: escapes, spaces, repeated keys, odd numbers.
fn generate(random: &mut Rng, depth: usize, out: &mut String) {
    let space = |random: &mut Rng| pick(random, &["", "", "", " ", "\n\t", "\r"]);
    match random.usize(..if depth == 0 { 5 } else { 8 }) {
        0 => out.push_str(pick(random, &["true", "false", "null"])),
        1 => write!(
            out,
            "{}",
            random.u64(..).cast_signed() >> random.usize(..64)
        )
        .unwrap(),
        2 => write!(out, "{}", f64::from_bits(random.u64(..) >> 2)).unwrap(),
        3 => out.push_str(pick(
            random,
            &[
                "0",
                "-0",
                "22.50",
                "1e2",
                "1E-2",
                "0.1e+1",
                "12345678901234567890123",
                "1e-999",
                "1e300",
                "-1e307",
            ],
        )),
        4 => generate_string(random, out),
        kind @ (5 | 6) => {
            out.push('{');
            for index in 0..random.usize(..5) {
                out.push_str(if index > 0 { "," } else { "" });
                out.push_str(space(random));
                generate_string(random, out);
                write!(out, "{}:{}", space(random), space(random)).unwrap();
                generate(random, depth - 1, out);
                out.push_str(space(random));
            }
            out.push_str(if kind == 5 { "" } else { space(random) });
            out.push('}');
        }
        _ => {
            out.push('[');
            for index in 0..random.usize(..5) {
                out.push_str(if index > 0 { "," } else { "" });
                out.push_str(space(random));
                generate(random, depth - 1, out);
                out.push_str(space(random));
            }
            out.push(']');
        }
    }
}

fn generate_string(random: &mut Rng, out: &mut String) {
    const PIECES: &[&str] = &[
        "a",
        "b",
        "key",
        "some longer text without escapes",
        "é",
        "\u{1f600}",
        "\\n",
        "\\\"",
        "\\\\",
        "\\/",
        "\\u0041",
        "\\u00e9",
        "\\uD83D\\uDE00",
        "\\b\\f\\r\\t",
        " ",
        "\u{7f}",
        "\u{2028}",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "0",
    ];
    out.push('"');
    for _ in 0..random.usize(..5) {
        out.push_str(pick(random, PIECES));
    }
    out.push('"');
}

#[test]
fn generated_documents_read_as_serde_json_reads_them() {
    for seed in 0..20_000 {
        let mut body = String::new();
        generate(&mut Rng::with_seed(seed), 5, &mut body);
        let expected: Value = serde_json::from_str(&body)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}: {body}"));
        assert_eq!(
            read(body.as_bytes()).as_ref(),
            Ok(&expected),
            "seed {seed}: {body}"
        );
        let raw = pass(body.as_bytes()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let mut small = String::new();
        Compactor::default().write(&raw, &mut small);
        let again = pass(small.as_bytes()).unwrap();
        assert!(!again.has_space, "seed {seed}: {small}");
        assert!(
            !raw.is_compact() || small == raw.text,
            "seed {seed}: {body}"
        );
        assert!(!raw.has_space || small != raw.text, "seed {seed}: {body}");
        assert_eq!(
            read(small.as_bytes()).as_ref(),
            Ok(&expected),
            "seed {seed}"
        );
    }
}

/// What `compact` must give, member by member: each object's members with the names that no later
/// one has.
fn model(scanner: &mut Scanner<'_>) -> String {
    match scanner.kind().unwrap() {
        Kind::Object => {
            scanner.begin_object().unwrap();
            let mut members: Vec<(String, String)> = Vec::new();
            while let Some(key) = scanner.next_key().unwrap() {
                let text = format!("\"{}\":{}", key.raw(), model(scanner));
                members.retain(|(name, _)| *name != key.to_cow());
                members.push((key.to_cow().into_owned(), text));
            }
            let members: Vec<_> = members.into_iter().map(|(_, text)| text).collect();
            format!("{{{}}}", members.join(","))
        }
        Kind::Array => {
            scanner.begin_array().unwrap();
            let mut elements = Vec::new();
            while scanner.next_element().unwrap() {
                elements.push(model(scanner));
            }
            format!("[{}]", elements.join(","))
        }
        _ => scanner.raw_value().unwrap().text.to_owned(),
    }
}

/// A value of objects whose few names come again and again, some in another spelling.
fn generate_repeating(random: &mut Rng, depth: usize, out: &mut String) {
    const NAMES: &[&str] = &[
        "a",
        "\\u0061",
        "b",
        "",
        "é",
        "\\u00e9",
        "a long name, of more than eight bytes",
    ];
    if depth == 0 || random.u8(..4) == 0 {
        return generate(random, 0, out);
    }
    let array = random.u8(..4) == 0;
    out.push(if array { '[' } else { '{' });
    let members = if random.u8(..50) == 0 {
        40
    } else {
        random.usize(..5)
    };
    for index in 0..members {
        out.push_str(if index > 0 { ", " } else { "" });
        if !array && random.u8(..8) == 0 {
            write!(out, "\"{}\":", random.u8(..)).unwrap();
        } else if !array {
            write!(out, "\"{}\": ", pick(random, NAMES)).unwrap();
        }
        generate_repeating(random, depth - 1, out);
    }
    out.push(if array { ']' } else { '}' });
}

#[test]
fn of_repeated_names_the_last_wins_as_in_serde_json() {
    let mut repeated = 0;
    for seed in 0..10_000 {
        let mut body = String::new();
        generate_repeating(&mut Rng::with_seed(seed), 4, &mut body);
        let expected = model(&mut Scanner::new(body.as_bytes()).unwrap());
        let compact = compact(body.as_bytes()).unwrap();
        assert_eq!(compact, expected, "seed {seed}: {body}");
        let [sent, stored] =
            [&body, &compact].map(|text| serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(sent, stored, "seed {seed}: {body}");
        // What is called certain is so.
        let raw = pass(body.as_bytes()).unwrap();
        let mut minified = String::new();
        let without = RawValue {
            may_repeat: false,
            ..raw
        };
        Compactor::default().write(&without, &mut minified);
        assert!(raw.may_repeat || minified == compact, "seed {seed}: {body}");
        repeated += usize::from(minified != compact);
    }
    assert!((1_000..9_900).contains(&repeated), "{repeated}");
}

#[test]
fn raw_members_put_together_again_parse_equal() {
    for seed in 0..5_000 {
        let mut random = Rng::with_seed(seed);
        let mut body = String::from("{\"first\":1");
        for _ in 0..random.usize(..6) {
            body.push_str(" , ");
            generate_string(&mut random, &mut body);
            body.push(':');
            generate(&mut random, 3, &mut body);
        }
        body.push('}');
        let mut scanner = Scanner::new(body.as_bytes()).unwrap();
        scanner.begin_object().unwrap();
        let mut rebuilt = b"{".to_vec();
        while let Some(key) = scanner.next_key().unwrap() {
            if rebuilt.len() > 1 {
                rebuilt.push(b',');
            }
            write_string(&mut rebuilt, &key.to_cow());
            rebuilt.push(b':');
            let mut value = String::new();
            Compactor::default().write(&scanner.raw_value().unwrap(), &mut value);
            rebuilt.extend_from_slice(value.as_bytes());
        }
        scanner.finish().unwrap();
        rebuilt.push(b'}');
        assert_eq!(
            serde_json::from_slice::<Value>(&rebuilt).unwrap(),
            serde_json::from_str::<Value>(&body).unwrap(),
            "seed {seed}: {body}"
        );
    }
}

/// True if every number is one that a double can come near to.
fn is_in_range(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64().is_some_and(f64::is_finite),
        Value::Array(items) => items.iter().all(is_in_range),
        Value::Object(members) => members.values().all(is_in_range),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// Documents near valid ones: the verdicts must agree.
///
/// Where the rules differ by intent, the generator stays away: nesting is shallow, and no number
/// comes near the edge of a double's range except by way of an exponent that mutation lengthened,
/// for which both compare with the same infinity. `serde_json` reads into `Value`, so it too looks
/// into every string. It keeps numbers as they are written, so whether they are in range is asked
/// of what it read.
#[test]
fn mutated_documents_are_judged_as_serde_json_judges_them() {
    const BYTES: &[u8] = b"\"\\{}[]:,0123456789-+.eE \t\n\r/ubtfn\x00\x1f\x7f\x80\xc3\xa9\xff";
    let mut refused = 0;
    for seed in 0..60_000 {
        let mut random = Rng::with_seed(seed);
        let mut text = String::new();
        generate(&mut random, 3, &mut text);
        let mut body = text.into_bytes();
        for _ in 0..=random.usize(..3) {
            let at = random.usize(..=body.len());
            match random.usize(..4) {
                0 => body.insert(at, pick(&mut random, BYTES)),
                1 if at < body.len() => body[at] = pick(&mut random, BYTES),
                2 if at < body.len() => drop(body.remove(at)),
                _ if at < body.len() => body.insert(at, body[at]),
                _ => {}
            }
        }
        let expected = serde_json::from_slice::<Value>(&body).ok();
        let expected = expected.filter(is_in_range);
        let verdict = pass(&body);
        if expected.is_some() && matches!(verdict, Err(JsonError::NumberRange { .. })) {
            // The number stood in a member that a later one replaced, which `serde_json` doesn't
            // keep it.
            continue;
        }
        let shown = String::from_utf8_lossy(&body);
        assert_eq!(verdict.is_ok(), expected.is_some(), "seed {seed}: {shown}");
        assert_eq!(read(&body).ok(), expected, "seed {seed}: {shown}");
        refused += usize::from(expected.is_none());
    }
    assert!((10_000..50_000).contains(&refused), "{refused} refused");
}

#[test]
fn calls_out_of_order_give_errors_or_values_and_end() {
    for seed in 0..20_000 {
        let mut random = Rng::with_seed(seed);
        let mut body = String::new();
        generate(&mut random, 3, &mut body);
        let mut scanner = Scanner::new(body.as_bytes()).unwrap();
        for _ in 0..20 {
            let failed = match random.usize(..6) {
                0 => scanner.begin_object().is_err(),
                1 => scanner.begin_array().is_err(),
                2 => scanner.next_key().is_err(),
                3 => scanner.next_element().is_err(),
                4 => scanner.string().is_err(),
                _ => scanner.raw_value().is_err(),
            };
            assert!(
                scanner.offset() <= body.len(),
                "seed {seed}, failed {failed}: {body}"
            );
        }
    }
}
