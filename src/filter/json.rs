//! Stored JSON text as it is read: kinds, members, elements, strings, and equality by value.
//!
//! Text that is stored was checked when it came, so nothing here reports an error: of text that is
//! no JSON it reads something, and never panics. Nothing allocates, but for the comparison of two
//! large objects whose members come in different orders.

use std::cmp::Ordering;

use crate::limits::FILTER_BYTES_MAX;
use crate::model::Decimal;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

impl Kind {
    /// Judged by the first byte.
    pub(super) fn of(value: &str) -> Self {
        match value.as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't' | b'f') => Self::Bool,
            Some(b'-' | b'0'..=b'9') => Self::Number,
            _ => Self::Null,
        }
    }
}

/// The text of a string between its quotes.
pub(super) fn string_content(value: &str) -> &str {
    let inner = value.strip_prefix('"').unwrap_or(value);
    inner.strip_suffix('"').unwrap_or(inner)
}

/// The UTF-8 bytes of a string, escapes undone, from the text between its quotes.
#[derive(Debug, Clone)]
pub(super) struct Unescaped<'a> {
    rest: &'a [u8],
    /// What is left of the character of the last escape.
    character: [u8; 4],
    at: usize,
    end: usize,
}

impl<'a> Unescaped<'a> {
    pub(super) const fn new(raw: &'a str) -> Self {
        Self {
            rest: raw.as_bytes(),
            character: [0; 4],
            at: 0,
            end: 0,
        }
    }

    /// Four hexadecimal digits, which are taken.
    fn hex4(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        self.rest = rest;
        u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
    }

    /// The character of an escape whose backslash is taken.
    fn escape(&mut self) -> Option<char> {
        let (letter, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(match letter {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4()?;
                if let Some(character) = char::from_u32(high) {
                    return Some(character);
                }
                self.rest = self.rest.strip_prefix(b"\\u")?;
                let low = self.hex4()?;
                char::from_u32(0x1_0000 + ((high & 0x3ff) << 10 | low & 0x3ff))?
            }
            other => char::from(*other),
        })
    }
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.at < self.end {
            self.at += 1;
            return self.character.get(self.at - 1).copied();
        }
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        if *byte != b'\\' {
            return Some(*byte);
        }
        let character = self.escape()?;
        (self.at, self.end) = (1, character.encode_utf8(&mut self.character).len());
        self.character.first().copied()
    }
}

/// Compares a string, by the text between its quotes, with a text, by code point. UTF-8 has that
/// order.
pub(super) fn compare_string(raw: &str, text: &str) -> Ordering {
    if memchr::memchr(b'\\', raw.as_bytes()).is_none() {
        return raw.cmp(text);
    }
    Unescaped::new(raw).cmp(text.bytes())
}

fn equal_strings(a: &str, b: &str) -> bool {
    a == b || Unescaped::new(a).eq(Unescaped::new(b))
}

/// The end of the string whose opening quote is at `start`.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = text
        .get(at..)
        .and_then(|it| memchr::memchr2(b'"', b'\\', it))
    {
        at += found;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

/// The end of the value that starts at `start`.
fn value_end(text: &[u8], start: usize) -> usize {
    let mut at = start;
    let mut depth = 0_usize;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = string_end(text, at),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ if depth > 0 => at += 1,
            _ => {
                let rest = &text[at..];
                let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t'..=b'\r');
                return at + rest.iter().position(is_end).unwrap_or(rest.len());
            }
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// A walk over the values of a container, whose opening bracket is passed.
#[derive(Debug, Clone)]
struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    const fn new(container: &'a str) -> Self {
        Self {
            text: container,
            at: 1,
        }
    }

    /// The next value of the text, or a key; what lies between values is passed over.
    fn next(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        let between = |byte: &&u8| matches!(byte, b',' | b':' | b' ' | b'\t'..=b'\r');
        let rest = bytes.get(self.at..)?;
        let start = self.at + rest.iter().take_while(between).count();
        if matches!(bytes.get(start), None | Some(b'}' | b']')) {
            return None;
        }
        self.at = value_end(bytes, start).max(start + 1);
        self.text.get(start..self.at)
    }
}

/// The members of an object: the text between the key's quotes, and the value.
pub(super) fn members(object: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut walk = Walk::new(object);
    std::iter::from_fn(move || {
        let key = walk.next()?;
        Some((string_content(key), walk.next()?))
    })
}

/// The elements of an array.
fn elements(array: &str) -> impl Iterator<Item = &str> {
    let mut walk = Walk::new(array);
    std::iter::from_fn(move || walk.next())
}

/// How many elements an array has; `None` if the value is no array. It was checked when it came, so
/// it is not checked again: which takes as long again as all else of an `append`.
pub fn array_len(value: &str) -> Option<usize> {
    (Kind::of(value) == Kind::Array).then(|| elements(value).count())
}

/// True if two values, each the JSON text of one as it is stored, are the same value: numbers by
/// their exact value (`1.0` is `1`), strings by their characters however they are escaped, objects
/// whatever the order of their members.
pub fn equal_by_value(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let kind = Kind::of(a);
    if kind != Kind::of(b) {
        return false;
    }
    match kind {
        Kind::Null => true,
        // Of one text each.
        Kind::Bool => false,
        Kind::String => equal_strings(string_content(a), string_content(b)),
        Kind::Number => match (Decimal::parse(a), Decimal::parse(b)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        },
        Kind::Array => {
            let (mut a, mut b) = (elements(a), elements(b));
            loop {
                match (a.next(), b.next()) {
                    (None, None) => return true,
                    (Some(a), Some(b)) if equal_by_value(a, b) => {}
                    _ => return false,
                }
            }
        }
        Kind::Object => equal_objects(a, b),
    }
}

fn equal_objects(a: &str, b: &str) -> bool {
    if members(a).count() != members(b).count() {
        return false;
    }
    let (larger, smaller) = if a.len() < b.len() { (b, a) } else { (a, b) };
    if smaller.len() <= FILTER_BYTES_MAX {
        // Names are not repeated, so as many members that are found are all.
        return members(larger).all(|(name, value)| {
            let mut others = members(smaller);
            others
                .find(|(other, _)| equal_strings(name, other))
                .is_some_and(|(_, other)| equal_by_value(value, other))
        });
    }
    // To look each name up in a large object would take the square of its size.
    let sorted = |object| {
        let mut members: Vec<(&str, &str)> = members(object).collect();
        members.sort_by(|(a, _), (b, _)| Unescaped::new(a).cmp(Unescaped::new(b)));
        members
    };
    let (a, b) = (sorted(a), sorted(b));
    let mut pairs = a.iter().zip(&b);
    pairs.all(|(a, b)| equal_strings(a.0, b.0) && equal_by_value(a.1, b.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_equal_by_what_they_mean() {
        let large = |names: &mut dyn Iterator<Item = u32>| {
            let members: Vec<String> = names.map(|it| format!("\"name-{it}\":{it}")).collect();
            format!("{{{}}}", members.join(","))
        };
        let (up, down) = (large(&mut (0..999)), large(&mut (0..999).rev()));
        for (a, b, expected) in [
            ("1.0", "1", true),
            ("-0", "0.0e7", true),
            ("1e2", "100", true),
            ("1", "1.0000000000000000000000000000001", false),
            ("1", "\"1\"", false),
            ("true", "true", true),
            ("true", "false", false),
            ("null", "null", true),
            ("null", "false", false),
            (r#""A""#, r#""\u0041""#, true),
            (
                r#""\ud83d\ude00é\n\/""#,
                "\"\u{1f600}\u{e9}\\u000a/\"",
                true,
            ),
            (r#""a""#, r#""b""#, false),
            (r#""a""#, r#""a\u0000""#, false),
            ("0.001", "1E-3", true),
            ("12345678901234567890123", "12345678901234567890124", false),
            ("0e5", "0", true),
            ("-1", "1", false),
            ("", "1", false),
            ("[1]", "[1,1]", false),
            (r#"{"a":1}"#, r#"{"b":1}"#, false),
            ("[1,2]", "[1.0,2e0]", true),
            ("[1,2]", "[2,1]", false),
            ("[1,2]", "[1,2,3]", false),
            ("[]", "{}", false),
            (
                r#"{"a":1,"b":[{"c":"]}"}]}"#,
                r#"{ "\u0062": [{"c":"]}"}], "a":1.0 }"#,
                true,
            ),
            (r#"{"a":1,"b":2}"#, r#"{"a":1,"c":2}"#, false),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, false),
            (&up, &down, true),
            (&up, &down.replace(":77,", ":78,"), false),
        ] {
            assert_eq!(equal_by_value(a, b), expected, "{a} and {b}");
            assert_eq!(equal_by_value(b, a), expected, "{b} and {a}");
        }
    }

    #[test]
    fn the_elements_of_an_array_are_counted() {
        for (value, expected) in [
            ("[]", Some(0)),
            ("[ ]", Some(0)),
            ("[1]", Some(1)),
            (r#"[[1,2],{"a":[3,4]},"]\",\"",null]"#, Some(4)),
            ("{}", None),
            ("\"[1]\"", None),
        ] {
            assert_eq!(array_len(value), expected, "{value}");
        }
    }

    #[test]
    fn text_that_is_no_json_is_read_without_a_panic() {
        for text in [
            "", "{", "[", "\"", "\"\\", "{\"a", "{\"a\":", "[1,", "}", "\"\\u12", "{é",
        ] {
            for other in ["{\"a\":1}", "[1,2]", "\"x\\n\"", "{", "[é"] {
                equal_by_value(text, other);
                equal_by_value(other, text);
            }
        }
    }
}
