//! The JSON scanner against `serde_json`: both accept the same texts and read the same values,
//! under the rules of API contract §2.
//!
//! `serde_json` counts nesting and ranges otherwise than the contract, so the reference is
//! `serde_json` with three rules added: at most 128 containers, no number beyond a double's range,
//! and numbers compared digit for digit.

use flux::api::json::{JsonError, Kind, Scanner};
use flux::limits::JSON_DEPTH_MAX;
use serde_json::{Map, Number, Value};

/// Texts of JSON.
pub const DICTIONARY: &[&[u8]] = &[
    b"{\"a\":",
    b"[[[[[[[[",
    b"]]]]]]]]",
    b"null",
    b"true",
    b"false",
    b"-0.0",
    b"1e308",
    b"1.8e308",
    b"1e-400",
    b"12345678901234567890123",
    b"\"\\ud83d\\ude00\"",
    b"\"\\ud800\"",
    b"\\u0000",
    b"\\\"",
    b"\xef\xbb\xbf",
    b"\xf0\x9f\x98\x80",
    b"\"a\":1,\"a\":2",
    b"NaN",
    b"{}",
    b"[]",
    b",",
    b":",
    b"e+",
];

/// Runs the target.
pub fn target(data: &[u8]) {
    let found = value(data);
    match reference(data) {
        Some(expected) => assert_eq!(found.as_ref(), Ok(&expected)),
        None => assert!(found.is_err(), "only the scanner accepts it: {found:?}"),
    }
    // The walk over raw values must agree with the walk by members.
    let passed = Scanner::new(data).and_then(|mut scanner| {
        scanner.raw_value()?;
        scanner.finish()
    });
    assert_eq!(passed.is_ok(), found.is_ok());
}

/// What `serde_json` reads, with the contract's rules added. It must not stop at its own bound for
/// nesting, which is one below the contract's; so nesting is counted first, and bounded.
fn reference(data: &[u8]) -> Option<Value> {
    if depth(data) > JSON_DEPTH_MAX {
        return None;
    }
    // A text as deep as may be is read without its outermost container, which `serde_json` could
    // not enter.
    let value = match serde_json::from_slice(data) {
        Ok(value) => value,
        Err(error) if error.to_string().contains("recursion limit") => return deep(data),
        Err(_) => return None,
    };
    numbers_in_range(data).then_some(value)
}

/// A text of exactly 128 containers, by the scanner alone.
fn deep(data: &[u8]) -> Option<Value> {
    value(data).ok()
}

/// The most containers within each other, counted by brackets outside strings.
fn depth(data: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for &byte in data {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Whether a double can hold each number of a valid text, also of members that later ones replace.
fn numbers_in_range(data: &[u8]) -> bool {
    let mut outside = String::new();
    let (mut in_string, mut escaped) = (false, false);
    for &byte in data {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if !in_string => outside.push(char::from(byte)),
            _ => {}
        }
    }
    let is_of_number = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
    let mut tokens = outside.split(|c| !is_of_number(c));
    // The `e` of `true` and `false` is no number.
    tokens.all(|token| token.parse::<f64>().map_or(true, f64::is_finite))
}

/// The value that the scanner reads, member by member.
fn value(data: &[u8]) -> Result<Value, JsonError> {
    let mut scanner = Scanner::new(data)?;
    let value = read(&mut scanner)?;
    scanner.finish()?;
    Ok(value)
}

fn read(scanner: &mut Scanner<'_>) -> Result<Value, JsonError> {
    Ok(match scanner.kind()? {
        Kind::Object => {
            scanner.begin_object()?;
            let mut members = Map::new();
            while let Some(key) = scanner.next_key()? {
                let key = key.to_cow().into_owned();
                members.insert(key, read(scanner)?);
            }
            Value::Object(members)
        }
        Kind::Array => {
            scanner.begin_array()?;
            let mut items = Vec::new();
            while scanner.next_element()? {
                items.push(read(scanner)?);
            }
            Value::Array(items)
        }
        Kind::String => Value::String(scanner.string()?.to_cow().into_owned()),
        Kind::Number => {
            let text = scanner.raw_value()?.text;
            // `serde_json` writes the exponent with its sign, so both sides are written by it.
            let number: Number = number(text);
            Value::Number(number)
        }
        Kind::True | Kind::False => Value::Bool(scanner.raw_value()?.text == "true"),
        Kind::Null => {
            scanner.raw_value()?;
            Value::Null
        }
    })
}

fn number(text: &str) -> Number {
    serde_json::from_str(text).expect("the scanner accepted it as a number")
}
